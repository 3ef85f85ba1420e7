//! What OpenAI's endpoints share: the error envelope, the headers and the list of models.
//!
//! Written from the public API reference (platform.openai.com/docs/api-reference: chat, embeddings, models, streaming, error
//! codes, rate limits in headers).

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde::Serialize;

use super::{AnswerHead, Trouble};
use crate::mock::text;

/// `Authorization: Bearer KEY`.
pub(super) fn key(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

pub(super) fn headers(head: &AnswerHead<'_>, headers: &mut HeaderMap) {
    const LIMIT_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-limit-requests");
    const LIMIT_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-limit-tokens");
    const LEFT_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-requests");
    const LEFT_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-tokens");
    const RESET_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-reset-requests");
    const RESET_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-reset-tokens");
    const ORGANIZATION: HeaderName = HeaderName::from_static("openai-organization");
    const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");
    const VERSION: HeaderName = HeaderName::from_static("openai-version");
    const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

    headers
        .entry(CONTENT_TYPE)
        .or_insert(HeaderValue::from_static("application/json"));
    if let Ok(name) = HeaderValue::from_str(head.provider) {
        headers.insert(ORGANIZATION, name);
    }
    let processing_ms = u64::try_from(head.processing.as_millis()).unwrap_or(u64::MAX);
    headers.insert(PROCESSING_MS, processing_ms.into());
    headers.insert(VERSION, HeaderValue::from_static("2020-10-01"));
    let mut id = String::with_capacity(36);
    id.push_str("req_");
    text::push_hex(&mut id, head.seed, head.number);
    if let Ok(id) = HeaderValue::try_from(id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(LIMIT_REQUESTS, head.room.requests.into());
    headers.insert(LIMIT_TOKENS, head.room.tokens.into());
    headers.insert(LEFT_REQUESTS, head.room.requests_left.into());
    headers.insert(LEFT_TOKENS, head.room.tokens_left.into());
    // OpenAI writes these as Go does: "6ms", "1m0s".
    let reset = reset(head.room.reset);
    headers.insert(RESET_REQUESTS, reset.clone());
    headers.insert(RESET_TOKENS, reset);
    if let Some(seconds) = head.retry_after_s {
        headers.insert(RETRY_AFTER, seconds.into());
    }
}

fn reset(left: std::time::Duration) -> HeaderValue {
    const FEW: HeaderValue = HeaderValue::from_static("6ms");
    let ms = left.as_millis();
    match ms {
        6 => FEW,
        0..1000 => HeaderValue::try_from(format!("{ms}ms")).unwrap_or(FEW),
        _ => HeaderValue::try_from(format!("{}s", left.as_secs())).unwrap_or(FEW),
    }
}

#[derive(Serialize)]
struct OpenAiErrorEnvelope<'a> {
    error: OpenAiError<'a>,
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
pub(super) fn trouble(trouble: &Trouble) -> (u16, Vec<u8>) {
    const INVALID: &str = "invalid_request_error";
    let (status, r#type, param, code) = match trouble {
        Trouble::NoKey => (401, INVALID, None, None),
        Trouble::WrongKey { .. } => (401, INVALID, None, Some("invalid_api_key")),
        Trouble::NoSuchPath { .. } => (404, INVALID, None, None),
        Trouble::Method { .. } => (405, INVALID, None, Some("method_not_supported")),
        Trouble::TooLarge { .. } => (413, INVALID, None, None),
        Trouble::NotJson { .. } => (400, INVALID, None, None),
        Trouble::Missing { parameter } => (
            400,
            INVALID,
            Some(*parameter),
            Some("missing_required_parameter"),
        ),
        Trouble::Invalid { parameter, .. } => {
            (400, INVALID, Some(*parameter), Some("invalid_value"))
        }
        Trouble::NoSuchModel { .. } => (404, INVALID, None, Some("model_not_found")),
        Trouble::ContextLength { .. } => (
            400,
            INVALID,
            Some("messages"),
            Some("context_length_exceeded"),
        ),
        Trouble::RateLimit { what, .. } => (429, *what, None, Some("rate_limit_exceeded")),
        Trouble::ServerError => (500, "server_error", None, None),
        Trouble::Unavailable { .. } => (503, "server_error", None, None),
    };
    let error = OpenAiError {
        message: message(trouble),
        r#type,
        param,
        code,
    };
    (status, envelope(error))
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

fn envelope(error: OpenAiError<'_>) -> Vec<u8> {
    // Strings serialise: the error cannot happen, and an empty body would show if it did.
    serde_json::to_vec_pretty(&OpenAiErrorEnvelope { error }).unwrap_or_default()
}

/// The event of an error within a stream.
pub(super) fn error_event(out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: {\"error\":{\"message\":\"");
    out.extend_from_slice(SERVER_ERROR.as_bytes());
    out.extend_from_slice(b"\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n");
}

#[derive(Serialize)]
struct ListedModel<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
}

#[derive(Serialize)]
struct ModelList<'a> {
    object: &'static str,
    data: Vec<ListedModel<'a>>,
}

/// `GET /v1/models`, or one of them with `GET /v1/models/{id}`.
pub(in crate::mock) fn models(
    names: &[String],
    provider: &str,
    wanted: Option<&str>,
) -> Result<Vec<u8>, Trouble> {
    // The day the mock's models were "trained": fixed, so that answers can be compared byte for byte.
    const CREATED_S: u64 = 1_715_367_049;
    let model = |id| ListedModel {
        id,
        object: "model",
        created: CREATED_S,
        owned_by: provider,
    };
    match wanted {
        None => {
            let data = names.iter().map(|name| model(name)).collect();
            Ok(serde_json::to_vec(&ModelList {
                object: "list",
                data,
            })
            .unwrap_or_default())
        }
        Some(id) if names.is_empty() || names.iter().any(|name| name == id) => {
            Ok(serde_json::to_vec(&model(id)).unwrap_or_default())
        }
        Some(id) => Err(Trouble::NoSuchModel {
            model: id.to_owned(),
        }),
    }
}
