//! Errors of the gateway, in the client's dialect.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use crate::api::Family;
use crate::caps;
use crate::json::Writer;

/// The longest `retry-after` that a client's SDK is left to wait for. Anthropic's (2.14) sleeps for as
/// long as it is told, hours too, inside the call; OpenAI's waits for up to two minutes (3.57), older ones
/// ignore more than one and ask again after half a second.
const RETRY_AFTER_WAITED_FOR_MAX: Duration = Duration::from_secs(60);

/// An error for a client.
#[derive(Clone, Debug)]
pub struct ApiError<'a> {
    pub kind: ApiErrorKind,
    /// The provider's own status, in place of the kind's.
    pub status: Option<u16>,
    /// What went wrong, where, and what to do.
    pub message: Cow<'a, str>,
    /// The field of the request at fault.
    pub param: Option<Cow<'a, str>>,
    /// An error code in place of the kind's.
    pub code: Option<Cow<'a, str>>,
    pub request_id: Option<&'a str>,
    pub retry_after: Option<Duration>,
    /// Overrides the retry rules of OpenAI's and Anthropic's SDKs.
    pub should_retry: Option<bool>,
}

/// The kind of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiErrorKind {
    /// The body is not JSON, or not valid for the API.
    InvalidRequest,
    /// A field that the model's provider does not support.
    Unsupported,
    ContextWindow,
    ContentFilter,
    InvalidApiKey,
    PermissionDenied,
    ModelNotFound,
    UnknownPath,
    MethodNotAllowed,
    /// The client was too slow with its request.
    RequestTimeout,
    BodyTooLarge,
    RateLimited,
    /// A budget is exhausted. Retrying soon does not help.
    BudgetExceeded,
    Internal,
    /// The provider failed or is unreachable.
    ProviderError,
    ProviderTimeout,
    /// The gateway, or every provider of the model, is at capacity.
    Overloaded,
}

impl ApiErrorKind {
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().0
    }

    /// The error code, which is also OpenAI's `code`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.row().1
    }

    /// Status, code, OpenAI's type, Anthropic's type.
    const fn row(self) -> (u16, &'static str, &'static str, &'static str) {
        const INVALID: &str = "invalid_request_error";
        match self {
            Self::InvalidRequest => (400, "invalid_request", INVALID, INVALID),
            Self::Unsupported => (400, "unsupported_parameter", INVALID, INVALID),
            Self::ContextWindow => (400, "context_length_exceeded", INVALID, INVALID),
            Self::ContentFilter => (400, "content_filter", INVALID, INVALID),
            Self::InvalidApiKey => (401, "invalid_api_key", INVALID, "authentication_error"),
            Self::PermissionDenied => (403, "permission_denied", INVALID, "permission_error"),
            Self::ModelNotFound => (404, "model_not_found", INVALID, "not_found_error"),
            Self::UnknownPath => (404, "unknown_url", INVALID, "not_found_error"),
            Self::MethodNotAllowed => (405, "method_not_allowed", INVALID, INVALID),
            Self::RequestTimeout => (408, "request_timeout", INVALID, INVALID),
            Self::BodyTooLarge => (413, "body_too_large", INVALID, "request_too_large"),
            Self::RateLimited => (429, "rate_limit_exceeded", "requests", "rate_limit_error"),
            Self::BudgetExceeded => (
                429,
                "insufficient_quota",
                "insufficient_quota",
                "rate_limit_error",
            ),
            Self::Internal => (500, "internal_error", "server_error", "api_error"),
            Self::ProviderError => (502, "provider_error", "server_error", "api_error"),
            Self::ProviderTimeout => (504, "provider_timeout", "server_error", "timeout_error"),
            Self::Overloaded => (503, "overloaded", "server_error", "overloaded_error"),
        }
    }

    /// Whether the client can act on such an error of a provider.
    pub(crate) const fn concerns_client(self) -> bool {
        matches!(
            self,
            Self::InvalidRequest
                | Self::Unsupported
                | Self::ContextWindow
                | Self::ContentFilter
                | Self::BodyTooLarge
                | Self::RateLimited
        )
    }

    /// The default of [`ApiError::should_retry`]. Without it the SDKs follow their own rules: they
    /// retry 408, 409, 429 and 5xx.
    const fn should_retry(self) -> Option<bool> {
        match self {
            Self::BudgetExceeded => Some(false),
            Self::Overloaded | Self::RequestTimeout => Some(true),
            _ => None,
        }
    }
}

impl<'a> ApiError<'a> {
    #[must_use]
    pub fn new(kind: ApiErrorKind, message: impl Into<Cow<'a, str>>) -> Self {
        Self {
            kind,
            status: None,
            message: message.into(),
            param: None,
            code: None,
            request_id: None,
            retry_after: None,
            should_retry: None,
        }
    }

    /// For a model that does not exist here. `near` are names that the client may have meant.
    #[must_use]
    pub fn model_not_found(model: &str, near: &[&str]) -> Self {
        let hint = match near {
            [] => "GET /v1/models lists the available models".to_owned(),
            near => format!("did you mean `{}`?", near.join("`, `")),
        };
        let message = format!(
            "the model `{}` does not exist here; {hint}",
            shortened(model)
        );
        Self {
            param: Some("model".into()),
            ..Self::new(ApiErrorKind::ModelNotFound, message)
        }
    }

    #[must_use]
    pub fn with_request_id(self, request_id: &'a str) -> Self {
        Self {
            request_id: Some(request_id),
            ..self
        }
    }

    #[must_use]
    pub fn with_retry_after(self, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..self
        }
    }

    #[must_use]
    pub fn status(&self, family: Family) -> u16 {
        let of_kind = match (family, self.kind) {
            // platform.claude.com/docs/en/api/errors: its SDKs and Claude Code know this one.
            (Family::Anthropic, ApiErrorKind::Overloaded) => 529,
            (_, kind) => kind.status(),
        };
        self.status.unwrap_or(of_kind)
    }

    /// Whether the SDKs are told to retry, or not to.
    fn should_retry(&self) -> Option<bool> {
        if self
            .retry_after
            .is_some_and(|after| after > RETRY_AFTER_WAITED_FOR_MAX)
        {
            return Some(false);
        }
        self.should_retry.or_else(|| self.kind.should_retry())
    }

    /// The error code.
    pub(crate) fn code(&self) -> &str {
        self.code.as_deref().unwrap_or_else(|| self.kind.code())
    }
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(caps::SHOWN_MODEL_CHARS_MAX) {
        None => name.to_owned(),
        Some((end, _)) => format!("{}…", &name[..end]),
    }
}

/// The body and headers of an error. The status is [`ApiError::status`].
#[must_use]
pub fn error_body(family: Family, error: &ApiError<'_>) -> (HeaderMap, Bytes) {
    let body = match family {
        Family::OpenAi => openai_body(error),
        Family::Anthropic => anthropic_body(error),
    };
    (error_headers(family, error), body.into())
}

/// An answer to a client that is an error.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorResponse {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// An error as an event of a stream that has begun. Responses have two of their own.
pub(crate) fn error_event(family: Family, error: &ApiError<'_>) -> String {
    match family {
        Family::OpenAi => format!("data: {}\n\n", openai_body(error)),
        Family::Anthropic => format!("event: error\ndata: {}\n\n", anthropic_body(error)),
    }
}

fn openai_body(error: &ApiError<'_>) -> String {
    Writer::document(256, |w| put_openai_error(w, error))
}

/// Writes the object that OpenAI's SDKs make an exception of.
pub(crate) fn put_openai_error(w: &mut Writer, error: &ApiError<'_>) {
    let (_, _, kind, _) = error.kind.row();
    w.put_object("error", |w| {
        w.put("message", &*error.message);
        w.put("type", kind);
        w.put("param", error.param.as_deref());
        w.put("code", error.code());
    });
}

fn anthropic_body(error: &ApiError<'_>) -> String {
    let kind = match (error.kind, error.status) {
        // platform.claude.com/docs/en/api/errors: the type of that status.
        (ApiErrorKind::BudgetExceeded, Some(402)) => "billing_error",
        (kind, _) => kind.row().3,
    };
    Writer::document(256, |w| {
        w.put("type", "error");
        w.put_object("error", |w| {
            w.put("type", kind);
            w.put("message", &*error.message);
        });
        w.put_some("request_id", error.request_id);
    })
}

fn error_headers(family: Family, error: &ApiError<'_>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(after) = error.retry_after {
        // Whole seconds, rounded up; milliseconds for the SDKs that read them.
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        headers.insert(
            HeaderName::from_static("retry-after-ms"),
            HeaderValue::from(millis),
        );
    }
    if let Some(retry) = error.should_retry() {
        let value = HeaderValue::from_static(if retry { "true" } else { "false" });
        headers.insert(HeaderName::from_static("x-should-retry"), value);
    }
    if let (Family::Anthropic, Some(id)) = (family, error.request_id)
        && let Ok(id) = HeaderValue::try_from(id)
    {
        headers.insert(HeaderName::from_static("request-id"), id);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openai_envelope_and_headers() {
        let error = ApiError::model_not_found("gpt-5o", &["gpt-4o", "gpt-5"]);
        let (headers, body) = error_body(Family::OpenAi, &error);
        assert_eq!(error.status(Family::OpenAi), 404);
        assert_eq!(
            body,
            r#"{"error":{"message":"the model `gpt-5o` does not exist here; did you mean `gpt-4o`, `gpt-5`?","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#
        );
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        assert!(!headers.contains_key("x-should-retry"));
    }

    #[test]
    fn anthropic_envelope_and_headers() {
        let error = ApiError::new(ApiErrorKind::Overloaded, "no room")
            .with_request_id("r1")
            .with_retry_after(Duration::from_millis(1500));
        let (headers, body) = error_body(Family::Anthropic, &error);
        assert_eq!(
            body,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"no room"},"request_id":"r1"}"#
        );
        let text = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(error.status(Family::Anthropic), 529);
        assert_eq!(error.status(Family::OpenAi), 503);
        assert_eq!(text("retry-after"), "2");
        assert_eq!(text("retry-after-ms"), "1500");
        assert_eq!(text("x-should-retry"), "true");
        assert_eq!(text("request-id"), "r1");
    }

    #[test]
    fn a_used_up_budget_tells_clients_not_to_retry() {
        let error = ApiError::new(ApiErrorKind::BudgetExceeded, "budget `x` is used up");
        let (headers, _) = error_body(Family::OpenAi, &error);
        assert_eq!(
            (
                error.status(Family::OpenAi),
                headers["x-should-retry"].as_bytes()
            ),
            (429, b"false".as_slice())
        );
    }

    #[test]
    fn a_hostile_model_name_is_shortened() {
        let error = ApiError::model_not_found(&"\u{e9}".repeat(10_000), &[]);
        assert!(error.message.len() < 300);
    }
}
