//! What a provider's error means, whatever words it uses.
//!
//! [`table`] holds what vendors say; [`parse`] finds the words in a body; [`privacy`] keeps what concerns
//! the operator from the client.

mod parse;
mod privacy;
mod table;

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use http::header::{HeaderMap, RETRY_AFTER};

pub(crate) use self::privacy::is_clean;
pub(crate) use self::table::{ErrorRow, GLM};

use self::parse::ParsedError;
use self::table::TABLE;
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
    /// The account has no money left or is closed: waiting does not help, another key may.
    QuotaExhausted,
    Overloaded,
    ServerError,
    Timeout,
    /// The key is not valid, or no longer.
    Auth,
    /// The key is valid, but not for this: the model, the endpoint, or a reason that is not given.
    Permission,
    /// Calls from the gateway's country or address are not answered, whatever the key.
    Place,
    ModelNotFound,
    ContextWindow,
    /// The request has too many bytes. That says nothing about its tokens.
    RequestTooLarge,
    /// The prompt or the answer was found objectionable.
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
            Self::Permission => "permission",
            Self::Place => "place",
            Self::ModelNotFound => "model_not_found",
            Self::ContextWindow => "context_window",
            Self::RequestTooLarge => "request_too_large",
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
            Self::QuotaExhausted
            | Self::ServerError
            | Self::Auth
            | Self::Permission
            | Self::Place
            | Self::ModelNotFound => ApiErrorKind::ProviderError,
            Self::ContextWindow => ApiErrorKind::ContextWindow,
            Self::RequestTooLarge => ApiErrorKind::BodyTooLarge,
            Self::ContentFilter => ApiErrorKind::ContentFilter,
            Self::InvalidRequest => ApiErrorKind::InvalidRequest,
        }
    }

    /// Whether it concerns the operator alone: clients are told that there is such a problem, and
    /// nothing of it.
    const fn is_about_operator(self) -> bool {
        matches!(
            self,
            Self::QuotaExhausted | Self::Auth | Self::Permission | Self::Place
        )
    }

    /// Whether it concerns the request, whoever answers it.
    const fn is_about_request(self) -> bool {
        matches!(
            self,
            Self::ContextWindow
                | Self::RequestTooLarge
                | Self::ContentFilter
                | Self::InvalidRequest
                | Self::ModelNotFound
        )
    }
}

/// Reads an answer with an error status, by a vendor's rows. `now` resolves a `retry-after` that is a
/// date.
pub(crate) fn classify(
    rows: &[ErrorRow],
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    now: SystemTime,
) -> UpstreamErrorFacts {
    let mut error = ParsedError::read(body);
    error.retry_delay = retry_after(headers, now).or(error.retry_delay);
    let kind = kind_of(rows, Some(status), &error);
    let no_reason = || format!("the provider answered {status} without a reason");
    facts(kind, error, no_reason)
}

impl UpstreamErrorFacts {
    /// Reads the `error` value of an event inside a stream.
    pub(crate) fn in_stream(raw: &[u8]) -> Self {
        let error = serde_json::from_slice(raw).map(|error| ParsedError::from_error(&error));
        Self::of_stream(error.unwrap_or_default())
    }

    /// Reads the data of an event that is called an error: in an envelope or without, or plain text.
    pub(crate) fn in_event(data: &[u8]) -> Self {
        Self::of_stream(ParsedError::read(data))
    }

    fn of_stream(error: ParsedError) -> Self {
        let status = error.code.as_deref().and_then(|code| code.parse().ok());
        let status = status.filter(|status| (400..600).contains(status));
        let kind = kind_of(&[], status, &error);
        facts(kind, error, || {
            "the provider broke off without a reason".into()
        })
    }

    /// Reads its code once more, as this vendor means it.
    pub(crate) fn meant_by(mut self, rows: &[ErrorRow]) -> Self {
        let error = ParsedError {
            code: self.code.clone(),
            ..ParsedError::default()
        };
        let row = rows.iter().find(|row| row.fits(None, &error));
        self.kind = row.map_or(self.kind, |row| row.kind);
        self
    }

    /// Redacts a secret in the provider's message. Some providers quote the key that they refuse.
    pub fn redact(&mut self, secret: &str) {
        if secret.len() >= 4 && self.message.contains(secret) {
            self.message = self.message.replace(secret, "[redacted]");
        }
    }

    /// Whether a client may read it as the provider put it; `raw` is all of it.
    pub(crate) fn is_quotable(&self, raw: &[u8]) -> bool {
        !self.kind.is_about_operator()
            && self.kind != UpstreamErrorKind::ModelNotFound
            && is_clean(raw)
    }

    /// The error for the client after the last attempt. What a provider says about the gateway's key,
    /// account or place stays in the gateway.
    #[must_use]
    pub fn to_api_error(&self, provider: &str) -> ApiError<'static> {
        let mut error = ApiError {
            retry_after: self.retry_after,
            ..ApiError::new(self.kind.api_error_kind(), self.words_for_client(provider))
        };
        if self.kind.is_about_request() {
            let param = self.param.as_deref().and_then(privacy::quotable);
            error.param = param.map(|param| param.into_owned().into());
        }
        if self.kind == UpstreamErrorKind::InvalidRequest {
            error.code = self
                .code
                .clone()
                .filter(|code| is_word(code))
                .map(Into::into);
        }
        // The gateway has tried what there is, and the same call would meet the same.
        let is_lasting =
            self.kind.is_about_operator() || self.kind == UpstreamErrorKind::ModelNotFound;
        error.should_retry = is_lasting.then_some(false);
        error
    }

    fn words_for_client(&self, provider: &str) -> String {
        let quoted = privacy::quotable(&self.message);
        let own = match self.kind {
            kind if kind.is_about_operator() => {
                "does not serve the gateway's requests at present; the gateway's operator sees the reason"
            }
            UpstreamErrorKind::ModelNotFound => {
                "does not have the model that the gateway is configured to ask for"
            }
            _ => match quoted {
                Some(quoted) => return format!("{provider}: {quoted}"),
                None => self.own_words(),
            },
        };
        format!("{provider} {own}")
    }

    /// What is said where the provider's words concern the operator.
    const fn own_words(&self) -> &'static str {
        match self.kind {
            UpstreamErrorKind::RateLimited => "limits the rate of the gateway's requests",
            UpstreamErrorKind::Overloaded => "is overloaded",
            UpstreamErrorKind::Timeout => "took too long",
            UpstreamErrorKind::ContextWindow => "finds the request too long for the model",
            UpstreamErrorKind::RequestTooLarge => "finds the request too large",
            UpstreamErrorKind::ContentFilter => "refuses the content of the request",
            UpstreamErrorKind::InvalidRequest => {
                "refuses the request; the gateway's operator sees the reason"
            }
            _ => "failed; the gateway's operator sees the reason",
        }
    }
}

/// Whether a code is a word that a client may know, and no number or text.
fn is_word(code: &str) -> bool {
    code.len() <= 64
        && code.starts_with(|c: char| c.is_ascii_alphabetic())
        && code
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        && matches!(privacy::quotable(code), Some(Cow::Borrowed(_)))
}

fn facts(
    kind: UpstreamErrorKind,
    error: ParsedError,
    no_reason: impl FnOnce() -> String,
) -> UpstreamErrorFacts {
    let message = error.message.filter(|message| !message.is_empty());
    UpstreamErrorFacts {
        kind,
        retry_after: error.retry_delay,
        message: message.unwrap_or_else(no_reason),
        code: error.code,
        param: error.param,
    }
}

/// The kind of an error: by the vendor's own rows, by the table, by its status.
fn kind_of(vendor: &[ErrorRow], status: Option<u16>, error: &ParsedError) -> UpstreamErrorKind {
    let mut rows = vendor.iter().chain(TABLE);
    let row = rows.find(|row| row.fits(status, error));
    row.map_or_else(|| by_status(status, error), |row| row.kind)
}

/// A client error stays one, even where the body speaks of the server.
fn by_status(status: Option<u16>, error: &ParsedError) -> UpstreamErrorKind {
    use UpstreamErrorKind::*;
    match status {
        Some(401 | 407) => Auth,
        Some(402) => QuotaExhausted,
        // Without a known word it may be about the prompt, so that no key is blamed.
        Some(403) => Permission,
        Some(404 | 405 | 410) => ModelNotFound,
        Some(408 | 504 | 522 | 524) => Timeout,
        // A proxy counts bytes; a provider that counts tokens says so.
        Some(413) => RequestTooLarge,
        Some(425 | 429) => RateLimited,
        Some(498 | 503 | 529) => Overloaded,
        Some(499) => ServerError,
        Some(400..500) => InvalidRequest,
        None if error.codes().any(|code| INVALID.contains(&code)) => InvalidRequest,
        _ => ServerError,
    }
}

/// Codes of errors inside a stream, which have no status.
const INVALID: &[&str] = &[
    "invalid_request_error",
    "invalid_request",
    "invalid_value",
    "INVALID_ARGUMENT",
    "BadRequestError",
    "unsupported_parameter",
    "unsupported_value",
    "unsupported_file",
    "invalid_image",
    "invalid_base64_image",
    "image_parse_error",
];

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
mod tests;
