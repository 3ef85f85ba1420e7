//! How an attempt can fail, and what each way of failing means for the next attempt and for health.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What went wrong with one attempt. A closed set, because policies, metrics and tests name them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// DNS, refused, reset or TLS: no provider accepted the request.
    Connect,
    /// No connection within the connect timeout.
    ConnectTimeout,
    /// Connected, but no first byte or token within its timeout.
    FirstTokenTimeout,
    /// The response began, then paused for longer than the idle timeout.
    Stalled,
    /// The whole call took longer than the total timeout.
    TotalTimeout,
    /// The provider closed the connection before its response was complete.
    Cut,
    /// The provider's bytes are not what its dialect says.
    Malformed,
    /// 429.
    RateLimited,
    /// 503, 529 and other forms of "not now".
    Overloaded,
    /// 500, 502, 504 and every other 5xx.
    ServerError,
    /// This key is not accepted, or not for this model; another one may be.
    Auth,
    /// The account behind the key has no quota or money left (429 `insufficient_quota`, 402), or is closed.
    QuotaExhausted,
    /// The provider does not answer calls from the gateway's country or address, whatever the key.
    /// Falls back where `auth` does.
    Place,
    /// 404: the provider does not know the model under this name.
    ModelNotFound,
    /// The prompt does not fit the model's context window.
    ContextWindow,
    /// The request has more bytes than the provider takes. Falls back where `context_window` does.
    RequestTooLarge,
    /// The provider refused the content.
    ContentFilter,
    /// Any other 4xx: the request itself is wrong and is wrong everywhere.
    InvalidRequest,
    /// The client left.
    ClientGone,
}

impl FailureKind {
    /// The name used in configuration, metrics and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::FirstTokenTimeout => "first_token_timeout",
            Self::Stalled => "stalled",
            Self::TotalTimeout => "total_timeout",
            Self::Cut => "cut",
            Self::Malformed => "malformed",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::ServerError => "server_error",
            Self::Auth => "auth",
            Self::QuotaExhausted => "quota_exhausted",
            Self::Place => "place",
            Self::ModelNotFound => "model_not_found",
            Self::ContextWindow => "context_window",
            Self::RequestTooLarge => "request_too_large",
            Self::ContentFilter => "content_filter",
            Self::InvalidRequest => "invalid_request",
            Self::ClientGone => "client_gone",
        }
    }

    /// Whether the deployment is to blame. A wrong request, refused content or a client that left
    /// says nothing about the deployment that happened to hold it.
    pub fn blames_deployment(self) -> bool {
        !matches!(
            self,
            Self::ContextWindow
                | Self::RequestTooLarge
                | Self::ContentFilter
                | Self::InvalidRequest
                | Self::ClientGone
        )
    }

    /// Whether the same call may succeed a little later.
    pub(crate) fn may_pass(self) -> bool {
        let is_lasting = matches!(
            self,
            Self::Auth | Self::QuotaExhausted | Self::Place | Self::ModelNotFound
        );
        self.blames_deployment() && !is_lasting
    }

    /// The kind that is set in its place where lists of kinds are older than it.
    pub(crate) fn broader(self) -> Self {
        match self {
            Self::Place => Self::Auth,
            Self::RequestTooLarge => Self::ContextWindow,
            kind => kind,
        }
    }
}

/// One failed attempt, as the caller saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    /// `Retry-After` (or the provider's own header for it), counted from when the answer arrived.
    pub retry_after_us: Option<u64>,
    /// Bytes of its answer were already sent to the client: no other answer may replace it.
    pub relayed: bool,
    /// The key is not to blame, although the kind is one of keys: it is not valid for this, and may be
    /// for other models.
    pub spares_key: bool,
}

impl Failure {
    pub fn new(kind: FailureKind) -> Self {
        Self {
            kind,
            retry_after_us: None,
            relayed: false,
            spares_key: false,
        }
    }

    /// Whether the provider key is to blame, wherever it is used.
    pub(crate) fn blames_key(&self) -> bool {
        let is_of_keys = matches!(self.kind, FailureKind::Auth | FailureKind::QuotaExhausted);
        is_of_keys && !self.spares_key
    }

    /// How long a rate-limited provider asks to be left alone.
    pub fn rate_limited_for_us(&self) -> Option<u64> {
        self.retry_after_us
            .filter(|_| self.kind == FailureKind::RateLimited)
    }
}
