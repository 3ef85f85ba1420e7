//! What the real APIs would refuse of the translated requests of the golden corpus.
//!
//! Each request of `golden/<api>/requests` is prepared for every vendor and for several generations of its models, and shown to
//! [`weir_loadtest::mock::strict`], which is written from the providers' documentation and knows nothing of this crate. What it
//! refuses is a fault here, unless the client's own words were refused too, by the API that they are written for.
//!
//! `golden/refused.txt` lists the refusals that are known and not mended yet. A line that no longer refuses fails the test.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect"
)]
#![expect(clippy::disallowed_methods, reason = "golden files are on disk")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use weir_dialects::{
    ClientApi, ClientRequest, Target, Unsupported, UpstreamRequest, Vendor, inspect, prepare,
    vendors,
};
use weir_loadtest::mock::strict::{StrictApi, StrictRequest, Violation, check};

/// Models of different generations, by vendor.
const MODELS: [(&str, &[&str]); 18] = [
    ("openai", OPENAI),
    ("openai-responses", OPENAI),
    ("azure", OPENAI),
    ("azure-deployments", &["gpt-4.1"]),
    (
        "anthropic",
        &[
            "claude-haiku-4-5",
            "claude-opus-4-1",
            "claude-opus-4-6",
            "claude-opus-4-8",
            "claude-opus-5",
            "claude-sonnet-5-5",
            "claude-opus-5-5",
            "claude-haiku-5-5",
        ],
    ),
    ("gemini", GEMINI),
    ("vertex", GEMINI),
    ("deepseek", &["deepseek-v4-pro"]),
    ("qwen", &["qwen3-max"]),
    ("kimi", &["kimi-k2.5", "kimi-k3"]),
    ("glm", &["glm-5", "glm-5.3"]),
    ("doubao", &["doubao-seed-2-0-pro"]),
    ("mistral", &["mistral-large-latest"]),
    ("groq", &["openai/gpt-oss-120b", "qwen/qwen3-32b"]),
    ("xai", &["grok-4.5"]),
    ("together", &["openai/gpt-oss-120b"]),
    ("openrouter", &["anthropic/claude-opus-5"]),
    ("vllm", &["Qwen/Qwen3-8B"]),
];
const OPENAI: &[&str] = &["gpt-4.1", "gpt-5", "gpt-5.1", "gpt-5.4", "gpt-5.6-sol"];
const GEMINI: &[&str] = &[
    "gemini-2.5-flash",
    "gemini-2.5-pro",
    "gemini-3.5-flash",
    "gemini-3.1-pro-preview",
];

const FOLDERS: [(ClientApi, &str); 5] = [
    (ClientApi::ChatCompletions, "chat"),
    (ClientApi::Messages, "messages"),
    (ClientApi::CountTokens, "count_tokens"),
    (ClientApi::Responses, "responses"),
    (ClientApi::Embeddings, "embeddings"),
];

#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    query: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    request: Box<serde_json::value::RawValue>,
}

impl Case {
    fn headers(&self) -> HeaderMap {
        let pairs = self.headers.iter().map(|(name, value)| {
            (
                HeaderName::try_from(name).unwrap(),
                HeaderValue::try_from(value).unwrap(),
            )
        });
        pairs.collect()
    }

    /// What the provider gets, unless the request is refused here.
    fn prepared(
        &self,
        api: ClientApi,
        vendor: &'static Vendor,
        model: &str,
        unsupported: Unsupported,
    ) -> Option<UpstreamRequest> {
        let body = Bytes::from(self.request.get().to_owned());
        let facts = inspect(api, &body).ok()?;
        let headers = self.headers();
        let request = ClientRequest {
            api,
            headers: &headers,
            query: self.query.as_deref(),
            body: &body,
            facts: &facts,
            output_limit: None,
            request_id: "01a2",
            now_s: 1_700_000_000,
        };
        let target = Target {
            unsupported,
            api_version: Some("2024-10-21"),
            ..Target::new(vendor, model)
        };
        prepare(&request, &target).ok()
    }

    /// Whether the client's own words are refused by the API that they are written for.
    fn is_refused_as_it_is(
        &self,
        api: ClientApi,
        model: &str,
        rule: &str,
        is_mended: bool,
    ) -> bool {
        let api = match api {
            ClientApi::ChatCompletions => StrictApi::Chat,
            ClientApi::Messages => StrictApi::Messages,
            ClientApi::CountTokens => StrictApi::CountTokens,
            ClientApi::Responses => StrictApi::Responses,
            ClientApi::Embeddings => StrictApi::Embeddings,
        };
        let headers = [("anthropic-version", "2023-06-01")]
            .into_iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .chain(
                self.headers()
                    .into_iter()
                    .filter_map(|(name, value)| Some((name?, value))),
            )
            .collect();
        // Without a model, what depends on it cannot hide the rest. And where a body passes unchanged
        // otherwise, what depends on the model is to be mended.
        let asked = [model, ""].into_iter().skip(usize::from(is_mended));
        asked.into_iter().any(|model| {
            let verdict = check(&StrictRequest {
                vendor: "",
                api,
                model,
                headers: &headers,
                body: self.request.get().as_bytes(),
            });
            verdict.is_err_and(|violation| violation.rule() == rule)
        })
    }
}

fn verdict(vendor: &str, model: &str, upstream: UpstreamRequest) -> Result<(), Violation> {
    let api = StrictApi::of_path(&upstream.path).unwrap();
    check(&StrictRequest {
        vendor,
        api,
        model,
        headers: &upstream.headers,
        body: &upstream.body.to_bytes(),
    })
}

fn cases(folder: &str) -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(folder)
        .join("requests");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    paths.sort();
    let read = |path: PathBuf| {
        let case = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), case)
    };
    paths.into_iter().map(read).collect()
}

fn models(vendor: &str) -> &'static [&'static str] {
    let row = MODELS.iter().find(|(name, _)| *name == vendor);
    row.map_or(&["some-model"], |(_, models)| models)
}

/// A refusal: case, vendor, rule.
type Refusal = (String, String, String);

/// The refusals of `golden/refused.txt`: `case vendor rule`, and a comment. The vendor `*` is all that refuse.
fn known() -> BTreeSet<Refusal> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/refused.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| line.split('#').next().unwrap());
    let words = lines.map(|line| line.split_whitespace().map(str::to_owned).collect());
    words
        .filter_map(|words: Vec<String>| match <[String; 3]>::try_from(words) {
            Ok([case, vendor, rule]) => Some((case, vendor, rule)),
            Err(words) => {
                assert!(words.is_empty(), "golden/refused.txt: {words:?}");
                None
            }
        })
        .collect()
}

/// All that is refused of a case, and why.
fn refused(api: ClientApi, name: &str, case: &Case) -> BTreeMap<Refusal, String> {
    let mut refused = BTreeMap::new();
    for vendor in vendors::all() {
        for model in models(vendor.name) {
            for unsupported in [Unsupported::Refuse, Unsupported::Drop] {
                let Some(upstream) = case.prepared(api, vendor, model, unsupported) else {
                    continue;
                };
                let is_mended = matches!(
                    (api, upstream.path.split('?').next()),
                    (ClientApi::Messages, Some("/messages" | "/v1/messages"))
                        | (ClientApi::Responses, Some("/responses"))
                );
                let Err(violation) = verdict(vendor.name, model, upstream) else {
                    continue;
                };
                let rule = violation.rule();
                if !case.is_refused_as_it_is(api, model, rule, is_mended) {
                    let refusal = (name.to_owned(), vendor.name.to_owned(), rule.to_owned());
                    refused.insert(refusal, format!("{model}: {violation}"));
                }
            }
        }
    }
    refused
}

#[test]
fn real_apis_take_what_the_corpus_becomes() {
    let mut found = BTreeMap::new();
    for (api, folder) in FOLDERS {
        for (name, case) in cases(folder) {
            found.extend(refused(api, &format!("{folder}/{name}"), &case));
        }
    }
    let known = known();
    let is = |line: &Refusal, refusal: &Refusal| {
        let vendor = line.1 == "*" || line.1 == refusal.1;
        vendor && line.0 == refusal.0 && line.2 == refusal.2
    };
    let new: Vec<_> = found
        .iter()
        .filter(|(refusal, _)| !known.iter().any(|line| is(line, refusal)))
        .map(|((case, vendor, rule), why)| format!("{case} {vendor} {rule} # {why}"))
        .collect();
    let mended: Vec<_> = known
        .iter()
        .filter(|line| !found.keys().any(|refusal| is(line, refusal)))
        .map(|(case, vendor, rule)| format!("{case} {vendor} {rule}"))
        .collect();
    assert!(
        new.is_empty() && mended.is_empty(),
        "refused by the real API, and not in golden/refused.txt:\n{}\n\nin golden/refused.txt, but no longer refused:\n{}",
        new.join("\n"),
        mended.join("\n")
    );
}
