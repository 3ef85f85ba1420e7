//! What must hold whatever the bytes.
//!
//! Each function takes a few bytes that choose a client, a provider and a place to cut, and the
//! rest as what a client, or a provider, sends. It panics where something does not hold.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::de::IgnoredAny;
use weir_dialects::{
    ApiError, ApiErrorKind, ClientApi, ClientRequest, ResponseFacts, ResponseMachine, StreamError,
    Target, Unsupported, UpstreamRequest, Vendor, inspect, prepare, relay_error, vendors,
};

/// The first bytes, which choose, and the rest.
fn choices<const N: usize>(data: &[u8]) -> Option<([usize; N], &[u8])> {
    let (head, rest) = data.split_first_chunk::<N>()?;
    Some((head.map(usize::from), rest))
}

fn pick<T>(items: &[T], choice: usize) -> &T {
    &items[choice % items.len()]
}

fn request(
    api: ClientApi,
    body: &Bytes,
    vendor: &'static Vendor,
    unsupported: Unsupported,
) -> Option<UpstreamRequest> {
    let facts = inspect(api, body).ok()?;
    let request = ClientRequest {
        api,
        headers: &HeaderMap::new(),
        query: None,
        body,
        facts: &facts,
        output_limit: None,
        request_id: "r1",
        now_s: 0,
    };
    let target = Target {
        unsupported,
        ..Target::new(vendor, "the-model")
    };
    prepare(&request, &target).ok()
}

/// A request that is accepted becomes a request that is JSON, for its model, whatever it holds.
pub fn requests(data: &[u8]) {
    let Some(([api, vendor, policy], body)) = choices(data) else {
        return;
    };
    let api = *pick(&ClientApi::ALL, api);
    let vendor = pick(vendors::all(), vendor);
    let policy = *pick(&[Unsupported::Refuse, Unsupported::Drop], policy);
    let body = Bytes::copy_from_slice(body);
    let Some(upstream) = request(api, &body, vendor, policy) else {
        return;
    };
    let sent = upstream.body.to_bytes();
    assert_eq!(upstream.body.len(), sent.len());
    let parsed = serde_json::from_slice::<IgnoredAny>(&sent);
    assert!(
        parsed.is_ok(),
        "{parsed:?} in {:?}",
        String::from_utf8_lossy(&sent)
    );
    if upstream.context.is_passthrough() {
        let again = inspect(api, &sent).map(|facts| facts.model);
        assert_eq!(again.ok().as_deref(), Some("the-model"));
    }
}

/// The least that a client can ask for.
fn least(api: ClientApi, stream: bool) -> Bytes {
    let text = match api {
        ClientApi::Responses => format!(
            r#"{{"model":"m","input":[],"stream":{stream},"tools":[{{"type":"custom","name":"f"}}]}}"#
        ),
        ClientApi::Embeddings => r#"{"model":"m","input":["a"]}"#.to_owned(),
        _ => format!(r#"{{"model":"m","messages":[],"max_tokens":9,"stream":{stream}}}"#),
    };
    text.into()
}

#[derive(Debug, PartialEq)]
struct AnswerOutcome {
    text: Vec<u8>,
    is_translated: bool,
    is_stream: bool,
    end: Result<(), StreamError>,
    facts: ResponseFacts,
}

fn run(mut machine: ResponseMachine, pieces: &[&[u8]]) -> AnswerOutcome {
    let mut text = Vec::new();
    let mut end = Ok(());
    for piece in pieces {
        match machine.push(Bytes::copy_from_slice(piece)) {
            Ok(output) => text.extend_from_slice(&output),
            Err(error) => {
                end = Err(error);
                break;
            }
        }
    }
    if end.is_ok() {
        end = machine.finish().map(|rest| text.extend_from_slice(&rest));
    }
    if end.is_err() {
        let error = ApiError::new(ApiErrorKind::ProviderError, "it broke");
        text.extend_from_slice(&machine.fail(&error));
    }
    assert_eq!(machine.facts().output_bytes, text.len() as u64);
    AnswerOutcome {
        text,
        is_translated: machine.translates(),
        is_stream: machine.writes_stream(),
        end,
        facts: machine.into_facts(),
    }
}

/// However an answer is cut, the same comes out; what is translated is well formed.
pub fn answers(data: &[u8]) {
    let Some(([api, vendor, form, cut], answer)) = choices(data) else {
        return;
    };
    let api = *pick(&ClientApi::ALL, api);
    let vendor = pick(vendors::all(), vendor);
    let (is_stream, wants_stream) = (form & 1 != 0, form & 2 != 0);
    let Some(upstream) = request(api, &least(api, wants_stream), vendor, Unsupported::Drop) else {
        return;
    };
    let machine = || ResponseMachine::new(&upstream.context, is_stream);
    let whole = run(machine(), &[answer]);
    let (a, b) = answer.split_at(cut * answer.len() / 256);
    assert_eq!(run(machine(), &[a, b]), whole, "cut at {}", a.len());
    let bytes: Vec<&[u8]> = answer.chunks(1).collect();
    assert_eq!(run(machine(), &bytes), whole, "byte by byte");
    if !whole.is_translated {
        return;
    }
    if whole.is_stream {
        return check_frames(&whole.text);
    }
    let is_json = serde_json::from_slice::<IgnoredAny>(&whole.text).is_ok();
    let text = String::from_utf8_lossy(&whole.text);
    assert!(whole.end.is_err() || is_json, "{text}");
}

/// Every frame is an event with one line of JSON, or a comment.
fn check_frames(text: &[u8]) {
    let utf8 = std::str::from_utf8(text);
    assert!(utf8.is_ok(), "frames are text: {utf8:?}");
    for line in utf8.unwrap_or_default().split('\n') {
        if let Some(data) = line.strip_prefix("data: ") {
            let parsed = serde_json::from_str::<IgnoredAny>(data);
            assert!(data == "[DONE]" || parsed.is_ok(), "{parsed:?} in {data}");
        } else {
            let is_known = line.is_empty() || line.starts_with("event: ") || line.starts_with(": ");
            assert!(is_known, "{line}");
        }
    }
}

/// Whatever a provider says is wrong, the client gets an error that it can read.
pub fn errors(data: &[u8]) {
    let Some(([api, vendor, _, _], rest)) = choices(data) else {
        return;
    };
    let api = *pick(&ClientApi::ALL, api);
    let vendor = pick(vendors::all(), vendor);
    let status = 400 + u16::from_be_bytes([data[2], data[3]]) % 200;
    let (after, body) = rest.split_at(rest.len().min(8));
    let mut headers = HeaderMap::new();
    if let Ok(after) = HeaderValue::from_bytes(after) {
        headers.insert(HeaderName::from_static("retry-after"), after);
    }
    let body = Bytes::copy_from_slice(body);
    let now = SystemTime::UNIX_EPOCH;
    let facts = vendor.classify_error(status, &headers, &body, now);
    let Some(upstream) = request(api, &least(api, false), vendor, Unsupported::Drop) else {
        return;
    };
    let response = relay_error(&upstream.context, "p", status, &facts, &body, "r1");
    assert!((400..600).contains(&response.status));
    assert!(serde_json::from_slice::<IgnoredAny>(&response.body).is_ok());
}
