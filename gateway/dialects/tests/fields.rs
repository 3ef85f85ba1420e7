//! The fate of every request field that the SDKs document, at every provider of another dialect.
//!
//! `golden/fields.json` is what `tests/clients/documented_fields.py` finds in the types of the SDKs: for
//! each field a request with it and one without. If both make the same request, the field was dropped,
//! and it must be refused or listed. [`MAY_BE_SILENT`] lists the exceptions with their reasons. `golden/fields.snap` is the table of it all; `WEIR_BLESS=1`
//! rewrites it.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect"
)]
#![expect(clippy::disallowed_methods, reason = "golden files are on disk")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;
use weir_dialects::{
    ClientApi, ClientRequest, PrepareError, Target, Unsupported, inspect, prepare, vendors,
};

/// Each API, and a target of each other dialect. Azure's older API is OpenAI's chat and nothing else.
const APIS: [(&str, ClientApi, [&str; 3]); 3] = [
    (
        "chat",
        ClientApi::ChatCompletions,
        ["openai-responses", "anthropic", "gemini"],
    ),
    (
        "messages",
        ClientApi::Messages,
        ["openai", "openai-responses", "gemini"],
    ),
    (
        "responses",
        ClientApi::Responses,
        ["azure-deployments", "anthropic", "gemini"],
    ),
];

/// Fields that may be dropped silently, by the end of their path, and why.
const MAY_BE_SILENT: [(&str, &str); 26] = [
    ("prompt_cache_breakpoint.mode", "it has one value"),
    (
        "function.arguments",
        "the value, no arguments, is the default",
    ),
    ("(function_call).arguments", "as above"),
    ("chat: response_format", "the value, text, is the default"),
    ("text.format", "as above"),
    ("(custom).custom.format", "as above"),
    ("(custom).format", "as above"),
    ("json_schema.name", "a label that is not read"),
    ("format(json_schema).name", "as above"),
    ("json_schema.strict", "schemas are always strict there"),
    ("format(json_schema).strict", "as above"),
    (
        "stream_options.include_obfuscation",
        "it hides sizes from the network, and is no part of the answer",
    ),
    (
        "stream_options.include_usage",
        "the gateway always asks for it, and passes it on if the client did",
    ),
    ("source(text).media_type", "it has one value"),
    ("input_schema(object)", "any schema is carried as it is"),
    (
        "(thinking).thinking",
        "reasoning without the target's own proof means nothing to it",
    ),
    ("(thinking).signature", "as above"),
    ("(reasoning).content", "as above"),
    ("(reasoning).content[](reasoning_text).text", "as above"),
    ("(reasoning).encrypted_content", "as above"),
    ("(reasoning).summary", "as above"),
    ("(reasoning).summary[](summary_text).text", "as above"),
    (
        ".id",
        "what an item was called, which only matters where it is stored",
    ),
    (".status", "how far an item was when it was answered"),
    (
        "reasoning.generate_summary",
        "reasoning that there is, is shown",
    ),
    ("reasoning.summary", "as above"),
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name)
}

fn documented() -> BTreeMap<String, BTreeMap<String, (Option<Value>, Value)>> {
    serde_json::from_slice(&std::fs::read(golden("fields.json")).unwrap()).unwrap()
}

/// The request that a target gets, and the fields that were dropped.
fn prepared(
    api: ClientApi,
    body: &Value,
    vendor: &str,
    unsupported: Unsupported,
) -> Result<(String, Vec<String>), PrepareError> {
    let body = Bytes::from(body.to_string());
    let facts = inspect(api, &body).unwrap();
    let request = ClientRequest {
        api,
        headers: &HeaderMap::new(),
        query: None,
        body: &body,
        facts: &facts,
        output_limit: None,
        request_id: "01a2",
        now_s: 1_700_000_000,
    };
    // Models that take most of what can be asked.
    let model = match vendor {
        "anthropic" => "claude-sonnet-4-6",
        "gemini" => "gemini-3-flash-preview",
        _ => "the-model",
    };
    let target = Target {
        unsupported,
        ..Target::new(vendors::find(vendor).unwrap(), model)
    };
    let upstream = prepare(&request, &target)?;
    let text = String::from_utf8(upstream.body.to_bytes().to_vec()).unwrap();
    Ok((text, upstream.dropped))
}

const SILENT: &str = "dropped silently";

/// The fate of a field at each target, or at all of them.
fn told(targets: &[&str], found: &[String]) -> String {
    if found.windows(2).all(|pair| pair[0] == pair[1]) {
        return found[0].clone();
    }
    let pairs = targets.iter().zip(found);
    let told: Vec<String> = pairs
        .map(|(target, found)| format!("{target}: {found}"))
        .collect();
    told.join("; ")
}

/// A path without kinds and numbers, as it is listed: `tools[](custom).name` is `tools[].name`.
fn general(path: &str) -> String {
    let (mut general, mut inside) = (String::new(), false);
    for c in path.chars() {
        inside |= c == '(';
        if !inside && !c.is_ascii_digit() {
            general.push(c);
        }
        inside &= c != ')';
    }
    general
}

/// The fate of a field.
fn outcome(
    api: ClientApi,
    vendor: &str,
    path: &str,
    (without, with): (Option<&Value>, &Value),
) -> String {
    let (body, listed) = match prepared(api, with, vendor, Unsupported::Refuse) {
        Ok(prepared) => prepared,
        Err(refusal) => return format!("refused ({})", refusal.field().unwrap_or("-")),
    };
    let before = without.map(|without| prepared(api, without, vendor, Unsupported::Refuse));
    let (body_before, listed_before) = match before {
        Some(Ok(before)) => before,
        // It must be there.
        Some(Err(_)) => return "carried".to_owned(),
        None => Default::default(),
    };
    let new = listed.iter().find(|field| !listed_before.contains(field));
    // What holds the field may be listed as a whole.
    let holder = listed
        .iter()
        .find(|field| general(path).starts_with(*field));
    match (body != body_before && without.is_some(), new, holder) {
        (true, None, _) => "carried".to_owned(),
        (true, Some(field), _) => format!("carried, listed ({field})"),
        (false, Some(field), _) | (false, None, Some(field)) => format!("listed ({field})"),
        (false, None, None) => SILENT.to_owned(),
    }
}

#[test]
fn every_documented_field_is_carried_refused_or_listed() {
    let (mut table, mut silent) = (String::new(), Vec::new());
    for (name, api, targets) in APIS {
        for (path, (without, with)) in &documented()[name] {
            let named = format!("{name}: {path}");
            let may_be_silent = MAY_BE_SILENT.iter().any(|(end, _)| named.ends_with(end));
            let found = targets.map(|target| outcome(api, target, path, (without.as_ref(), with)));
            for (target, found) in targets.iter().zip(&found) {
                if found == SILENT && !may_be_silent {
                    silent.push(format!("{named} at {target}"));
                }
            }
            writeln!(table, "{named}: {}", told(&targets, &found)).unwrap();
        }
    }
    assert!(
        silent.is_empty(),
        "dropped silently:\n{}",
        silent.join("\n")
    );
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(golden("fields.snap"), &table).unwrap();
    }
    let snapshot = std::fs::read_to_string(golden("fields.snap")).unwrap();
    assert_eq!(table, snapshot, "WEIR_BLESS=1 rewrites fields.snap");
}

/// A key that no SDK documents.
const UNKNOWN: &str = "weir_unknown";

/// Puts an unknown field into each object in turn. `visit` gets the changed whole and the place.
fn with_unknown(whole: &Value, visit: &mut dyn FnMut(&Value, &str)) {
    fn objects(value: &Value, pointer: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.push(pointer.to_owned());
                for (key, value) in fields {
                    objects(value, &format!("{pointer}/{key}"), found);
                }
            }
            Value::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    objects(value, &format!("{pointer}/{index}"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    objects(whole, "", &mut found);
    for pointer in found {
        let mut changed = whole.clone();
        if let Some(Value::Object(fields)) = changed.pointer_mut(&pointer) {
            fields.insert(UNKNOWN.to_owned(), Value::from(1));
            visit(&changed, &pointer);
        }
    }
}

/// The parent of the unknown field, as it is listed.
fn holder(pointer: &str) -> String {
    let path = pointer.trim_start_matches('/').replace('/', ".");
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = path
        .split('.')
        .map(|part| if number(part) { "[]" } else { part });
    parts.collect::<Vec<_>>().join(".").replace(".[]", "[]")
}

#[test]
fn an_undocumented_field_is_never_dropped_silently() {
    let mut silent = std::collections::BTreeSet::new();
    let mut tried = 0;
    for (name, api, targets) in APIS {
        for (path, (_, request)) in &documented()[name] {
            with_unknown(request, &mut |changed, pointer| {
                for target in targets {
                    tried += 1;
                    let Ok((body, listed)) = prepared(api, changed, target, Unsupported::Refuse)
                    else {
                        continue;
                    };
                    let place = format!("{}.{UNKNOWN}", holder(pointer));
                    let place = place.trim_start_matches('.');
                    let is_listed = listed.iter().any(|field| place.starts_with(field.as_str()));
                    if !is_listed && !body.contains(UNKNOWN) {
                        silent.insert(format!("{name}: {place} at {target} (in {path})"));
                    }
                }
            });
        }
    }
    assert!(tried > 5_000, "only {tried} were tried");
    assert!(
        silent.is_empty(),
        "{} dropped silently:\n{}",
        silent.len(),
        silent.into_iter().take(40).collect::<Vec<_>>().join("\n")
    );
}
