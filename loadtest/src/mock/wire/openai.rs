//! What OpenAI's endpoints share: the error envelope, the headers and the list of models.
//!
//! Written from the public API reference (platform.openai.com/docs/api-reference: chat, embeddings, models, streaming, error
//! codes, rate limits in headers).

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde::Serialize;
use serde_json::Value;

use super::tools::MockToolChoice;
use super::{AnswerHead, Trouble, quoted, value};
use crate::mock::text;

/// `Authorization: Bearer KEY`.
pub(super) fn key(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

pub(super) fn headers(head: &AnswerHead<'_>, headers: &mut HeaderMap) {
    const ORGANIZATION: HeaderName = HeaderName::from_static("openai-organization");
    const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");
    const VERSION: HeaderName = HeaderName::from_static("openai-version");
    const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    const LIMIT_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-limit-requests");
    const LIMIT_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-limit-tokens");
    const LEFT_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-requests");
    const LEFT_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-tokens");
    const RESET_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-reset-requests");
    const RESET_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-reset-tokens");
    let processing_ms = u64::try_from(head.processing.as_millis()).unwrap_or(u64::MAX);
    let request_id = format!("req_{}", text::hex(head.seed, head.number));
    let (room, reset) = (&head.room, reset(head.room.reset));
    headers.extend([
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (ORGANIZATION, value(head.provider)),
        (PROCESSING_MS, processing_ms.into()),
        (VERSION, HeaderValue::from_static("2020-10-01")),
        (REQUEST_ID, value(request_id)),
        (LIMIT_REQUESTS, room.requests.into()),
        (LIMIT_TOKENS, room.tokens.into()),
        (LEFT_REQUESTS, room.requests_left.into()),
        (LEFT_TOKENS, room.tokens_left.into()),
        (RESET_REQUESTS, reset.clone()),
        (RESET_TOKENS, reset),
    ]);
    if let Some(seconds) = head.retry_after_s {
        headers.insert(RETRY_AFTER, seconds.into());
    }
}

/// OpenAI writes times as Go does: "6ms", "60s".
fn reset(left: Duration) -> HeaderValue {
    match left.as_millis() {
        // What limits say that are only reported.
        6 => HeaderValue::from_static("6ms"),
        ms @ 0..1000 => value(format!("{ms}ms")),
        _ => value(format!("{}s", left.as_secs())),
    }
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    message: String,
    r#type: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

pub(super) const SERVER_ERROR: &str =
    "The server had an error while processing your request. Sorry about that!";

/// Status and envelope of an error answer.
pub(super) fn trouble(trouble: &Trouble) -> (u16, String) {
    let (status, code) = match trouble {
        Trouble::NoKey => (401, None),
        Trouble::WrongKey { .. } => (401, Some("invalid_api_key")),
        Trouble::NoSuchPath { .. } => (404, None),
        Trouble::Method { .. } => (405, Some("method_not_supported")),
        Trouble::TooLarge { .. } => (413, None),
        Trouble::NotJson { .. } => (400, None),
        Trouble::Missing { .. } => (400, Some("missing_required_parameter")),
        Trouble::Invalid { .. } => (400, Some("invalid_value")),
        Trouble::NoSuchModel { .. } => (404, Some("model_not_found")),
        Trouble::ContextLength { .. } => (400, Some("context_length_exceeded")),
        Trouble::RateLimit { .. } => (429, Some("rate_limit_exceeded")),
        Trouble::ServerError => (500, None),
        Trouble::Unavailable { .. } => (503, None),
    };
    let (r#type, param) = match trouble {
        Trouble::Missing { parameter } | Trouble::Invalid { parameter, .. } => {
            ("invalid_request_error", Some(*parameter))
        }
        Trouble::ContextLength { .. } => ("invalid_request_error", Some("messages")),
        Trouble::RateLimit { what, .. } => (*what, None),
        Trouble::ServerError | Trouble::Unavailable { .. } => ("server_error", None),
        _ => ("invalid_request_error", None),
    };
    let error = OpenAiError {
        message: message(trouble),
        r#type,
        param,
        code,
    };
    // Strings serialise: the error cannot happen, and an empty body would show if it did.
    let body = serde_json::to_string_pretty(&BTreeMap::from([("error", error)]));
    (status, body.unwrap_or_default())
}

fn message(trouble: &Trouble) -> String {
    match trouble {
        Trouble::NoKey => "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).".to_owned(),
        Trouble::WrongKey { shown } => format!("Incorrect API key provided: {shown}. You can find your API key at https://platform.openai.com/account/api-keys."),
        Trouble::NoSuchPath { method, path } => format!("Invalid URL ({method} {path})"),
        Trouble::Method { method, path } => format!("Not allowed to {method} on {path}."),
        Trouble::TooLarge { bytes_max } => format!("Maximum request body size of {bytes_max} bytes exceeded."),
        Trouble::NotJson { problem } => format!("We could not parse the JSON body of your request. (HINT: {problem})"),
        Trouble::Missing { parameter } => format!("Missing required parameter: '{parameter}'."),
        Trouble::Invalid { parameter, problem } => format!("Invalid value for '{parameter}': {problem}"),
        Trouble::NoSuchModel { model } => format!("The model `{model}` does not exist or you do not have access to it."),
        Trouble::ContextLength { tokens_max, input, output } => format!("This model's maximum context length is {tokens_max} tokens. However, you requested {} tokens ({input} in the messages, {output} in the completion). Please reduce the length of the messages or completion.", input + output),
        Trouble::RateLimit { model, limit, what, retry_after_s } => format!("Rate limit reached for {model} on {what} per min: Limit {limit}. Please try again in {retry_after_s}s. Visit https://platform.openai.com/account/rate-limits to learn more."),
        Trouble::ServerError => SERVER_ERROR.to_owned(),
        Trouble::Unavailable { .. } => "The engine is currently overloaded, please try again later".to_owned(),
    }
}

/// The event of an error within a stream.
pub(super) fn error_event(out: &mut Vec<u8>) {
    let _ = write!(
        out,
        "data: {{\"error\":{{\"message\":\"{SERVER_ERROR}\",\"type\":\"server_error\",\"param\":null,\"code\":null}}}}\n\n"
    );
}

/// What `tool_choice` says; `named` is where it names a tool.
pub(super) fn tool_choice<'a>(choice: &Value, named: &'a Value) -> MockToolChoice<'a> {
    match (choice.as_str(), named["name"].as_str()) {
        (Some("required"), _) => MockToolChoice::Any,
        (Some("none"), _) => MockToolChoice::Never,
        (_, Some(name)) => MockToolChoice::Named(name),
        _ => MockToolChoice::Auto,
    }
}

/// `GET /v1/models`, or one of them with `GET /v1/models/{id}`.
pub(in crate::mock) fn models(
    names: &[String],
    provider: &str,
    wanted: Option<&str>,
) -> Result<String, Trouble> {
    // `created`, the day the mock's models were "trained", is fixed: answers can be compared byte for byte.
    let model = |id: &str| {
        let (id, provider) = (quoted(id), quoted(provider));
        format!(r#"{{"id":{id},"object":"model","created":1715367049,"owned_by":{provider}}}"#)
    };
    match wanted {
        None => {
            let all: Vec<_> = names.iter().map(|name| model(name)).collect();
            Ok(format!(r#"{{"object":"list","data":[{}]}}"#, all.join(",")))
        }
        Some(id) if names.is_empty() || names.iter().any(|name| name == id) => Ok(model(id)),
        Some(id) => Err(Trouble::NoSuchModel {
            model: id.to_owned(),
        }),
    }
}
