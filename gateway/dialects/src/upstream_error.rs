//! What a provider's error means, whatever words it uses.

use std::time::{Duration, SystemTime};

use http::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;

use crate::caps;
use crate::error::{ApiError, ApiErrorKind};

/// What a provider's error means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamErrorFacts {
    pub kind: UpstreamErrorKind,
    /// Pause that the provider asks for.
    pub retry_after: Option<Duration>,
    /// The provider's message, shortened.
    pub message: String,
    /// The provider's error code.
    pub code: Option<String>,
    /// The field of the request that the provider complains about.
    pub param: Option<String>,
}

/// The classes of errors that retries and fallbacks distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamErrorKind {
    /// Too many requests or tokens for now.
    RateLimited,
    /// The account has no money left: waiting does not help, another key may.
    QuotaExhausted,
    Overloaded,
    ServerError,
    Timeout,
    Auth,
    ModelNotFound,
    ContextWindow,
    ContentFilter,
    InvalidRequest,
}

impl UpstreamErrorKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::Overloaded => "overloaded",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::Auth => "auth",
            Self::ModelNotFound => "model_not_found",
            Self::ContextWindow => "context_window",
            Self::ContentFilter => "content_filter",
            Self::InvalidRequest => "invalid_request",
        }
    }

    /// The kind of the client's error. If a provider refuses the gateway's key, that is not an
    /// authentication error of the client.
    #[must_use]
    pub const fn api_error_kind(self) -> ApiErrorKind {
        match self {
            Self::RateLimited => ApiErrorKind::RateLimited,
            Self::Overloaded => ApiErrorKind::Overloaded,
            Self::Timeout => ApiErrorKind::ProviderTimeout,
            Self::QuotaExhausted | Self::ServerError | Self::Auth | Self::ModelNotFound => {
                ApiErrorKind::ProviderError
            }
            Self::ContextWindow => ApiErrorKind::ContextWindow,
            Self::ContentFilter => ApiErrorKind::ContentFilter,
            Self::InvalidRequest => ApiErrorKind::InvalidRequest,
        }
    }
}

/// Reads an answer with an error status. `now` resolves a `retry-after` that is a date.
#[must_use]
pub fn classify_upstream_error(
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    now: SystemTime,
) -> UpstreamErrorFacts {
    let mut error = ParsedError::read(body);
    error.retry_delay = retry_after(headers, now).or(error.retry_delay);
    let no_reason = || format!("the provider answered {status} without a reason");
    error.into_facts(Some(status), no_reason)
}

impl UpstreamErrorFacts {
    /// Reads the `error` value of an event inside a stream.
    pub(crate) fn in_stream(raw: &[u8]) -> Self {
        let error = serde_json::from_slice(raw).map(|error| ParsedError::from_error(&error));
        let error = error.unwrap_or_default();
        let status = error.code.as_deref().and_then(|code| code.parse().ok());
        error.into_facts(status, || "the provider broke off without a reason".into())
    }

    /// Redacts a secret in the provider's message. Some providers quote the key that they refuse.
    pub fn redact(&mut self, secret: &str) {
        if secret.len() >= 4 && self.message.contains(secret) {
            self.message = self.message.replace(secret, "[redacted]");
        }
    }

    /// The error for the client after the last attempt. What a provider says about the gateway's key
    /// or account stays in the gateway.
    #[must_use]
    pub fn to_api_error(&self, provider: &str) -> ApiError<'static> {
        let kind = self.kind.api_error_kind();
        match self.kind {
            UpstreamErrorKind::Auth => {
                return ApiError::new(kind, format!("{provider} refused the gateway's key"));
            }
            UpstreamErrorKind::QuotaExhausted => {
                let message = format!("the gateway's account at {provider} is out of credit");
                return ApiError::new(kind, message);
            }
            _ => {}
        }
        ApiError {
            param: self.param.clone().map(Into::into),
            retry_after: self.retry_after,
            ..ApiError::new(kind, format!("{provider}: {}", self.message))
        }
    }
}

/// The fields of an error body, in any of the envelopes.
#[derive(Clone, Debug, Default)]
struct ParsedError {
    message: Option<String>,
    kind: Option<String>,
    code: Option<String>,
    param: Option<String>,
    retry_delay: Option<Duration>,
}

impl ParsedError {
    fn read(body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            // Gemini's stream endpoints wrap errors in an array.
            Ok(Value::Array(mut items)) if !items.is_empty() => {
                Self::from_body(&items.swap_remove(0))
            }
            Ok(value) => Self::from_body(&value),
            Err(_) => Self {
                message: plain_text(body),
                ..Self::default()
            },
        }
    }

    fn from_body(body: &Value) -> Self {
        match body.get("error") {
            Some(error @ Value::Object(_)) => Self::from_error(error),
            // Ollama: {"error": "…"}
            Some(Value::String(message)) => Self {
                message: Some(message.clone()),
                ..Self::from_error(body)
            },
            _ => Self::from_error(body),
        }
    }

    fn from_error(error: &Value) -> Self {
        let text = |name: &str| match error.get(name) {
            Some(Value::String(text)) => Some(shortened(text)),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        // FastAPI servers answer {"detail": …}, vLLM and Mistral {"object": "error", "message": …}.
        let detail = || Some(shortened(&error.get("detail")?.to_string()));
        let message = text("message").or_else(|| text("detail")).or_else(detail);
        Self {
            message: message.or_else(|| error.as_str().map(shortened)),
            kind: text("type").or_else(|| text("status")),
            code: text("code"),
            param: text("param"),
            retry_delay: retry_delay(error),
        }
    }

    fn into_facts(
        self,
        status: Option<u16>,
        no_reason: impl FnOnce() -> String,
    ) -> UpstreamErrorFacts {
        let kind = kind_of(status, &self);
        let message = self.message.filter(|message| !message.is_empty());
        UpstreamErrorFacts {
            kind,
            retry_after: self.retry_delay,
            message: message.unwrap_or_else(no_reason),
            code: self.code,
            param: self.param,
        }
    }
}

/// Gemini: `details[].retryDelay`, such as `"34.5s"`.
fn retry_delay(error: &Value) -> Option<Duration> {
    let details = error.get("details")?.as_array()?;
    let delay = details
        .iter()
        .find_map(|detail| detail.get("retryDelay")?.as_str())?;
    seconds(delay.strip_suffix('s')?)
}

fn plain_text(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&body[..body.len().min(caps::ERROR_MESSAGE_BYTES_MAX)]);
    let text = text.trim();
    // The first lines of a proxy's HTML page are of no use.
    (!text.is_empty() && !text.starts_with('<')).then(|| shortened(text))
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(caps::ERROR_MESSAGE_BYTES_MAX)].to_owned()
}

fn kind_of(status: Option<u16>, error: &ParsedError) -> UpstreamErrorKind {
    by_word(error).unwrap_or_else(|| by_status(status, error))
}

/// Codes that mean the same under any status; see the error pages of the vendors.
fn by_word(error: &ParsedError) -> Option<UpstreamErrorKind> {
    let words = [error.code.as_deref(), error.kind.as_deref()];
    words.into_iter().flatten().find_map(|word| {
        Some(match word {
            "context_length_exceeded"
            | "string_above_max_length"
            | "context_window_exceeded"
            | "exceed_context_size_error" => UpstreamErrorKind::ContextWindow,
            "content_filter"
            | "content_policy_violation"
            | "ResponsibleAIPolicyViolation"
            | "data_inspection_failed"
            | "DataInspectionFailed"
            | "sensitive_words_detected"
            | "1301" => UpstreamErrorKind::ContentFilter,
            "insufficient_quota"
            | "billing_hard_limit_reached"
            | "billing_error"
            | "exceeded_current_quota_error"
            | "Arrearage"
            | "1113"
            | "insufficient_balance" => UpstreamErrorKind::QuotaExhausted,
            "model_not_found" | "DeploymentNotFound" => UpstreamErrorKind::ModelNotFound,
            "overloaded_error" | "engine_overloaded_error" | "UNAVAILABLE" => {
                UpstreamErrorKind::Overloaded
            }
            "rate_limit_exceeded"
            | "rate_limit_error"
            | "RESOURCE_EXHAUSTED"
            | "rate_limit_reached_error" => UpstreamErrorKind::RateLimited,
            "authentication_error"
            | "invalid_api_key"
            | "UNAUTHENTICATED"
            | "permission_error"
            | "PERMISSION_DENIED" => UpstreamErrorKind::Auth,
            "timeout_error" | "DEADLINE_EXCEEDED" => UpstreamErrorKind::Timeout,
            "server_error" | "api_error" | "INTERNAL" => UpstreamErrorKind::ServerError,
            _ => return None,
        })
    })
}

fn by_status(status: Option<u16>, error: &ParsedError) -> UpstreamErrorKind {
    match status {
        Some(401 | 403 | 407) => UpstreamErrorKind::Auth,
        Some(402) => UpstreamErrorKind::QuotaExhausted,
        Some(404) => UpstreamErrorKind::ModelNotFound,
        Some(408 | 504) => UpstreamErrorKind::Timeout,
        Some(413) => UpstreamErrorKind::ContextWindow,
        Some(429) => UpstreamErrorKind::RateLimited,
        Some(503 | 529) => UpstreamErrorKind::Overloaded,
        Some(400..500) if speaks_of_context(error) => UpstreamErrorKind::ContextWindow,
        Some(400..500) => UpstreamErrorKind::InvalidRequest,
        _ => UpstreamErrorKind::ServerError,
    }
}

/// Whether the message names the context limit, for providers without a code for it.
fn speaks_of_context(error: &ParsedError) -> bool {
    let Some(message) = &error.message else {
        return false;
    };
    let message = message.to_ascii_lowercase();
    [
        "context length",
        "context window",
        "context_length",
        "prompt is too long",
        "input token count",
        "maximum number of tokens allowed",
        "range of input length",
        "too many tokens",
        "exceeds the available context size",
    ]
    .iter()
    .any(|phrase| message.contains(phrase))
}

fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(delay) = text("retry-after-ms").and_then(seconds) {
        return Some(delay / 1000);
    }
    let value = text(RETRY_AFTER.as_str())?;
    seconds(value).or_else(|| {
        let date = httpdate::parse_http_date(value).ok()?;
        Some(date.duration_since(now).unwrap_or_default())
    })
}

/// A number of seconds, at most [`caps::RETRY_AFTER_MAX`].
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    let most = caps::RETRY_AFTER_MAX.as_secs_f64();
    (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(most)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use UpstreamErrorKind::{
        Auth, ContentFilter, ContextWindow, InvalidRequest, ModelNotFound, Overloaded,
        QuotaExhausted, RateLimited, ServerError, Timeout,
    };

    fn classify(status: u16, headers: &[(&'static str, &str)], body: &str) -> UpstreamErrorFacts {
        let headers = headers.iter().map(|(name, value)| {
            (
                http::HeaderName::from_static(name),
                http::HeaderValue::from_str(value).unwrap(),
            )
        });
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let headers = headers.collect();
        classify_upstream_error(status, &headers, body.as_bytes(), now)
    }

    #[test]
    fn providers_words_are_understood() {
        let cases = [
            (
                400,
                r#"{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
                ContextWindow,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 200345 tokens > 200000 maximum"}}"#,
                ContextWindow,
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"The input token count (9) exceeds the maximum number of tokens allowed (8).","status":"INVALID_ARGUMENT"}}"#,
                ContextWindow,
            ),
            (
                400,
                r#"{"object":"error","message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","param":null,"code":400}"#,
                ContextWindow,
            ),
            (
                400,
                r#"{"error":{"message":"no","code":"content_filter"}}"#,
                ContentFilter,
            ),
            (
                429,
                r#"{"error":{"message":"pay","type":"insufficient_quota","code":"insufficient_quota"}}"#,
                QuotaExhausted,
            ),
            (
                402,
                r#"{"error":{"message":"Insufficient Balance"}}"#,
                QuotaExhausted,
            ),
            (
                429,
                r#"{"error":{"message":"slow","type":"requests","code":"rate_limit_exceeded"}}"#,
                RateLimited,
            ),
            (
                529,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                Overloaded,
            ),
            (
                429,
                r#"{"error":{"message":"busy","type":"engine_overloaded_error"}}"#,
                Overloaded,
            ),
            (
                503,
                r#"[{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}]"#,
                Overloaded,
            ),
            (
                401,
                r#"{"error":{"message":"Incorrect API key","code":"invalid_api_key"}}"#,
                Auth,
            ),
            (
                404,
                r#"{"error":{"message":"no such model","code":"model_not_found"}}"#,
                ModelNotFound,
            ),
            (
                400,
                r#"{"error":{"message":"bad field","type":"invalid_request_error"}}"#,
                InvalidRequest,
            ),
            (
                422,
                r#"{"detail":[{"loc":["body","x"],"msg":"extra"}]}"#,
                InvalidRequest,
            ),
            (500, "<html>Internal Server Error</html>", ServerError),
            (504, "", Timeout),
        ];
        for (status, body, expect) in cases {
            assert_eq!(classify(status, &[], body).kind, expect, "{status} {body}");
        }
    }

    #[test]
    fn the_message_is_the_providers_own_where_it_has_one() {
        assert_eq!(
            classify(400, &[], r#"{"error":"model is required"}"#).message,
            "model is required"
        );
        assert_eq!(
            classify(502, &[], "upstream connect error").message,
            "upstream connect error"
        );
        assert_eq!(
            classify(502, &[], "<html>").message,
            "the provider answered 502 without a reason"
        );
        let long = format!(r#"{{"error":{{"message":"{}"}}}}"#, "\u{e9}".repeat(5000));
        assert!(classify(400, &[], &long).message.len() <= caps::ERROR_MESSAGE_BYTES_MAX);
    }

    #[test]
    fn the_pause_is_found_in_each_of_its_forms() {
        let after =
            |headers: &[(&'static str, &str)], body| classify(429, headers, body).retry_after;
        assert_eq!(
            after(&[("retry-after", "2")], ""),
            Some(Duration::from_secs(2))
        );
        assert_eq!(
            after(&[("retry-after", "0.5")], ""),
            Some(Duration::from_millis(500))
        );
        assert_eq!(
            after(&[("retry-after-ms", "250"), ("retry-after", "1")], ""),
            Some(Duration::from_millis(250))
        );
        assert_eq!(
            after(&[("retry-after", "Sun, 06 Nov 1994 08:49:39 GMT")], ""),
            Some(Duration::from_secs(2))
        );
        assert_eq!(
            after(&[("retry-after", "Tue, 06 Nov 1990 08:49:39 GMT")], ""),
            Some(Duration::ZERO)
        );
        let body = r#"{"error":{"code":429,"details":[{"@type":"x"},{"retryDelay":"34.5s"}]}}"#;
        assert_eq!(after(&[], body), Some(Duration::from_millis(34_500)));
        for nonsense in ["-1", "NaN", "inf", "soon", "1e400"] {
            let pause = after(&[("retry-after", nonsense)], "").unwrap_or_default();
            assert!(pause <= Duration::from_secs(100_000_000), "{nonsense}");
        }
    }

    #[test]
    fn a_refused_provider_key_is_not_the_clients_fault() {
        let error = classify(401, &[], r#"{"error":{"message":"bad key"}}"#).to_api_error("openai");
        assert_eq!(error.status(), 502);
        assert_eq!(error.message, "openai refused the gateway's key");
    }

    #[test]
    fn a_quoted_key_is_redacted() {
        let mut facts = classify(401, &[], r#"{"error":{"message":"key sk-1234 is wrong"}}"#);
        facts.redact("sk-1234");
        assert_eq!(facts.message, "key [redacted] is wrong");
    }
}
