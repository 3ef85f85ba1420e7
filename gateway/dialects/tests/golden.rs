//! The golden corpus: what clients send and what providers answer, from the providers' public
//! documentation, each with what becomes of it.
//!
//! `golden/<api>/requests/<case>.json` holds a client's request; the `.snap` beside it what each
//! target gets. `golden/<api>/answers/<case>.{json,sse}` holds a provider's answer; the `.snap`
//! beside it what each kind of client gets. `WEIR_BLESS=1` rewrites the snapshots.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it does not expect"
)]
#![expect(clippy::disallowed_methods, reason = "golden files are on disk")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use weir_dialects::{
    ApiError, ClientApi, ClientRequest, PrepareError, ResponseFacts, ResponseMachine, StreamError,
    Target, Unsupported, UpstreamRequest, inspect, prepare, vendors,
};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The files of a folder with one of these endings, sorted.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(golden().join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let fits = |path: &PathBuf| {
        path.extension()
            .is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted))
    };
    let mut paths: Vec<PathBuf> = paths.filter(fits).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no cases in {folder}");
    paths
}

/// Compares with the snapshot beside the case, or writes it.
fn check_snapshot(case: &Path, found: &str) {
    let path = case.with_extension("snap");
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(&path, found).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if found != expected {
        let line = found
            .lines()
            .zip(expected.lines())
            .position(|(a, b)| a != b);
        let line = line.unwrap_or_else(|| found.lines().count().min(expected.lines().count()));
        panic!(
            "{} differs at line {}:\n  expected: {}\n  found:    {}\nWEIR_BLESS=1 rewrites it",
            path.display(),
            line + 1,
            expected.lines().nth(line).unwrap_or("(end)"),
            found.lines().nth(line).unwrap_or("(end)"),
        );
    }
}

#[derive(Deserialize)]
struct RequestCase {
    #[serde(default)]
    unsupported: Option<String>,
    /// `all` for every vendor; otherwise one of each dialect.
    #[serde(default)]
    targets: Option<String>,
    #[serde(default)]
    models: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    query: Option<String>,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    request: Box<serde_json::value::RawValue>,
}

const ONE_OF_EACH: [&str; 4] = ["openai", "openai-responses", "anthropic", "gemini"];

fn headers(case: &RequestCase) -> HeaderMap {
    let pairs = case.headers.iter().map(|(name, value)| {
        (
            HeaderName::try_from(name).unwrap(),
            HeaderValue::try_from(value).unwrap(),
        )
    });
    pairs.collect()
}

/// The model that a case is for unless it names one: one that takes most of what can be asked.
fn model_of(vendor: &str) -> &'static str {
    match vendor {
        "anthropic" => "claude-sonnet-4-6",
        "gemini" | "vertex" => "gemini-3-flash-preview",
        "glm" => "glm-5",
        "kimi" => "kimi-k2.6",
        _ => "the-model",
    }
}

fn prepared(
    api: ClientApi,
    case: &RequestCase,
    vendor: &'static weir_dialects::Vendor,
) -> Result<UpstreamRequest, PrepareError> {
    let body = Bytes::from(case.request.get().to_owned());
    let facts = inspect(api, &body).unwrap();
    let headers = headers(case);
    let request = ClientRequest {
        api,
        headers: &headers,
        query: case.query.as_deref(),
        body: &body,
        facts: &facts,
        output_limit: None,
        request_id: "01a2",
        now_s: 1_700_000_000,
    };
    let model = case
        .models
        .get(vendor.name)
        .map_or_else(|| model_of(vendor.name), String::as_str);
    let unsupported = match case.unsupported.as_deref() {
        Some("drop") => Unsupported::Drop,
        _ => Unsupported::Refuse,
    };
    prepare(
        &request,
        &Target {
            unsupported,
            api_version: Some("2024-10-21"),
            ..Target::new(vendor, model)
        },
    )
}

/// Headers that every request has.
const USUAL: [&str; 3] = ["content-type", "accept", "accept-encoding"];

fn describe(vendor: &str, outcome: Result<UpstreamRequest, PrepareError>) -> String {
    let mut text = String::new();
    match outcome {
        Err(refusal) => {
            let error = ApiError::from(&refusal);
            let (status, field) = (error.kind.status(), error.param.as_deref().unwrap_or("-"));
            writeln!(
                text,
                "=== {vendor}: refused, {status}, {field}\n{}",
                error.message
            )
            .unwrap();
        }
        Ok(upstream) => {
            writeln!(text, "=== {vendor}: POST {}", upstream.path).unwrap();
            for (name, value) in &upstream.headers {
                if !USUAL.contains(&name.as_str()) {
                    writeln!(text, "{name}: {}", value.to_str().unwrap()).unwrap();
                }
            }
            if !upstream.dropped.is_empty() {
                writeln!(text, "dropped: {}", upstream.dropped.join(", ")).unwrap();
            }
            let body = upstream.body.to_bytes();
            let body = std::str::from_utf8(&body).unwrap();
            serde_json::from_str::<serde::de::IgnoredAny>(body).expect("the body is JSON");
            writeln!(text, "{}", indented(body)).unwrap();
        }
    }
    text
}

/// JSON with a line for each value, in the order in which they stand.
fn indented(json: &str) -> String {
    let (mut out, mut depth, mut in_string, mut escaped) = (String::new(), 0, false, false);
    for c in json.chars() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        in_string = c == '"';
        match c {
            ' ' | '\n' | '\t' | '\r' => {}
            '{' | '[' => {
                depth += 1;
                out.push(c);
                new_line(&mut out, depth);
            }
            '}' | ']' => {
                depth -= 1;
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c => out.push(c),
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.push_str(&"  ".repeat(depth));
}

fn check_requests(api: ClientApi, folder: &str) {
    for path in files(&format!("{folder}/requests"), &["json"]) {
        let case: RequestCase = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let all = case.targets.as_deref() == Some("all");
        let mut found = String::new();
        for vendor in vendors::all() {
            if all || ONE_OF_EACH.contains(&vendor.name) {
                found.push_str(&describe(vendor.name, prepared(api, &case, vendor)));
            }
        }
        check_snapshot(&path, &found);
    }
}

#[test]
fn chat_requests() {
    check_requests(ClientApi::ChatCompletions, "chat");
}

#[test]
fn messages_requests() {
    check_requests(ClientApi::Messages, "messages");
}

#[test]
fn count_tokens_requests() {
    check_requests(ClientApi::CountTokens, "count_tokens");
}

#[test]
fn responses_requests() {
    check_requests(ClientApi::Responses, "responses");
}

#[test]
fn embeddings_requests() {
    check_requests(ClientApi::Embeddings, "embeddings");
}

/// A kind of client: the API that it speaks, and whether it asks for a stream.
struct Client {
    name: &'static str,
    api: ClientApi,
    stream: bool,
}

const CLIENTS: [Client; 6] = [
    Client {
        name: "chat, stream",
        api: ClientApi::ChatCompletions,
        stream: true,
    },
    Client {
        name: "chat, plain",
        api: ClientApi::ChatCompletions,
        stream: false,
    },
    Client {
        name: "messages, stream",
        api: ClientApi::Messages,
        stream: true,
    },
    Client {
        name: "messages, plain",
        api: ClientApi::Messages,
        stream: false,
    },
    Client {
        name: "responses, stream",
        api: ClientApi::Responses,
        stream: true,
    },
    Client {
        name: "responses, plain",
        api: ClientApi::Responses,
        stream: false,
    },
];

impl Client {
    /// The least that it can ask for.
    fn request(&self) -> String {
        let stream = self.stream;
        match self.api {
            ClientApi::ChatCompletions if stream => {
                r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#
                    .to_owned()
            }
            ClientApi::Responses => format!(r#"{{"model":"m","input":[],"stream":{stream}}}"#),
            ClientApi::Embeddings => {
                r#"{"model":"m","input":["a","b"],"encoding_format":"base64"}"#.to_owned()
            }
            _ => format!(r#"{{"model":"m","max_tokens":9,"messages":[],"stream":{stream}}}"#),
        }
    }

    /// A machine for an answer of this vendor's.
    fn machine(&self, vendor: &str, is_stream: bool) -> ResponseMachine {
        let case = RequestCase {
            unsupported: None,
            targets: None,
            models: Default::default(),
            query: None,
            headers: Default::default(),
            request: serde_json::value::RawValue::from_string(self.request()).unwrap(),
        };
        let upstream = prepared(self.api, &case, vendors::find(vendor).unwrap()).unwrap();
        ResponseMachine::new(&upstream.context, is_stream)
    }
}

/// What came out, how it ended, and what was learned.
#[derive(Debug, PartialEq)]
struct Outcome {
    text: String,
    end: Result<(), StreamError>,
    facts: ResponseFacts,
}

fn run<'a>(mut machine: ResponseMachine, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut out = Vec::new();
    let mut end = Ok(());
    for piece in pieces {
        match machine.push(Bytes::copy_from_slice(piece)) {
            Ok(output) => out.extend_from_slice(&output),
            Err(error) => {
                end = Err(error);
                break;
            }
        }
    }
    if end.is_ok() {
        end = machine.finish().map(|rest| out.extend_from_slice(&rest));
    }
    if end.is_err() {
        let error = ApiError::new(weir_dialects::ApiErrorKind::ProviderError, "it broke");
        out.extend_from_slice(&machine.fail(&error));
    }
    Outcome {
        text: String::from_utf8(out).unwrap(),
        end,
        facts: machine.into_facts(),
    }
}

fn describe_outcome(client: &Client, outcome: &Outcome) -> String {
    let Outcome { text, end, facts } = outcome;
    let mut out = format!("=== {}\n", client.name);
    if let Err(error) = end {
        writeln!(out, "error: {error}").unwrap();
    }
    let finish = facts
        .finish_reason
        .map_or("-", weir_dialects::FinishReason::as_str);
    writeln!(
        out,
        "facts: {} {} {finish} first_token={} terminal={} text={}B/{}",
        facts.upstream_id.as_deref().unwrap_or("-"),
        facts.upstream_model.as_deref().unwrap_or("-"),
        facts.first_token_seen,
        facts.terminal_seen,
        facts.text_bytes,
        facts.text_chunks,
    )
    .unwrap();
    if let Some(place) = &facts.inference_geo {
        writeln!(out, "inference_geo: {place}").unwrap();
    }
    for other in &facts.other_models {
        let counts: Vec<_> = other.usage.counts().collect();
        writeln!(out, "{}  {counts:?}", other.model).unwrap();
    }
    if let Some(tier) = &facts.service_tier {
        writeln!(out, "service tier: {tier}").unwrap();
    }
    if let Some(error) = &facts.provider_error {
        writeln!(
            out,
            "provider error: {}, {}",
            error.kind.as_str(),
            error.message
        )
        .unwrap();
    }
    if let Some(usage) = &facts.usage {
        let usage = format!("{usage:?}")
            .replace("Some(", "")
            .replace([')', '{', '}'], "");
        let known = usage.split(',').filter(|count| !count.contains(": None"));
        writeln!(
            out,
            "{}",
            known.map(str::trim).collect::<Vec<_>>().join(", ")
        )
        .unwrap();
    }
    if client.stream || serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        out.push_str(text);
    } else {
        writeln!(out, "{}", indented(text)).unwrap();
    }
    out
}

/// Every frame of a stream must be JSON, whatever the provider sent.
fn check_frames(path: &Path, text: &str) {
    for line in text.lines() {
        if let Some(data) = line.strip_prefix("data: ").filter(|data| *data != "[DONE]") {
            serde_json::from_str::<serde::de::IgnoredAny>(data)
                .unwrap_or_else(|error| panic!("{}: {error} in {data}", path.display()));
        }
    }
}

fn check_answers(folder: &str, vendor: &str) {
    for path in files(&format!("{folder}/answers"), &["sse", "json"]) {
        if ["embeddings", "count"]
            .iter()
            .any(|name| path.file_stem().unwrap() == *name)
        {
            continue;
        }
        let answer = std::fs::read(&path).unwrap();
        let is_stream = path.extension().unwrap() == "sse";
        let mut found = String::new();
        for client in &CLIENTS {
            let whole = run(client.machine(vendor, is_stream), [answer.as_slice()]);
            check_splits(&path, client, vendor, is_stream, &answer, &whole);
            // What passes as it is, is as good as what the provider sent.
            if client.stream && whole.text.as_bytes() != answer {
                check_frames(&path, &whole.text);
            }
            found.push_str(&describe_outcome(client, &whole));
        }
        check_snapshot(&path, &found);
    }
}

/// Whatever the pieces that an answer arrives in, the same must come out.
fn check_splits(
    path: &Path,
    client: &Client,
    vendor: &str,
    is_stream: bool,
    answer: &[u8],
    whole: &Outcome,
) {
    let bytes = run(client.machine(vendor, is_stream), answer.chunks(1));
    assert_eq!(
        &bytes,
        whole,
        "{} byte by byte for {}",
        path.display(),
        client.name
    );
    if !is_stream || !client.stream {
        return;
    }
    for split in 1..answer.len() {
        let (a, b) = answer.split_at(split);
        let parts = run(client.machine(vendor, is_stream), [a, b]);
        assert_eq!(
            &parts,
            whole,
            "{} split at {split} for {}",
            path.display(),
            client.name
        );
    }
}

#[test]
fn chat_answers() {
    check_answers("chat", "deepseek");
}

#[test]
fn messages_answers() {
    check_answers("messages", "anthropic");
}

#[test]
fn gemini_answers() {
    check_answers("gemini", "gemini");
}

#[test]
fn responses_answers() {
    check_answers("responses", "openai-responses");
}

#[test]
fn converted_answers() {
    for (name, api) in [
        ("embeddings", ClientApi::Embeddings),
        ("count", ClientApi::CountTokens),
    ] {
        let path = golden().join(format!("gemini/answers/{name}.json"));
        let answer = std::fs::read(&path).unwrap();
        let client = Client {
            name,
            api,
            stream: false,
        };
        let whole = run(client.machine("gemini", false), [answer.as_slice()]);
        check_splits(&path, &client, "gemini", false, &answer, &whole);
        check_snapshot(&path, &describe_outcome(&client, &whole));
    }
}
