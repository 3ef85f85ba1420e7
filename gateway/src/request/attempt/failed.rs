//! A try that brought nothing: what it means for routing, and how the client is told.

use bytes::BytesMut;
use std::time::Duration;
use weir_dialects::{
    ApiError, ApiErrorKind, ErrorResponse, StreamError, UpstreamErrorFacts, UpstreamErrorKind,
};
use weir_routing::{Failure, FailureKind};

use crate::setup::directory::Deployment;
use crate::upstream::{Answer, CallError};
use weir_governance::clock;

/// Bytes of a provider's error answer that are read.
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;
/// Time that a provider gets to finish an error answer.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// A try that brought nothing.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) message: String,
    /// How the client is told, if this was the last try.
    pub(crate) told: Told,
}

/// How a client is told of a failed try.
#[derive(Debug)]
pub(crate) enum Told {
    /// That the provider did not answer.
    NoAnswer,
    /// What the provider said, inside a stream that had begun well.
    Said(Box<ApiError<'static>>),
    /// The provider's own answer.
    Answer(Box<ErrorResponse>),
}

/// Reads what a provider says about its refusal, as far as it is worth reading.
pub(super) async fn refused(
    deployment: &Deployment,
    agreed: &weir_dialects::ResponseContext,
    request_id: &str,
    answer: Answer,
) -> Failed {
    let mut body = answer.body;
    let mut read = BytesMut::new();
    let reading = async {
        while let Some(Ok(piece)) = std::future::poll_fn(|cx| body.poll_data(cx)).await {
            let room = ERROR_BODY_BYTES_MAX.saturating_sub(read.len());
            read.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.len() >= room {
                break;
            }
        }
    };
    // Whatever has arrived by then will do: the status alone says most of it.
    let _ = tokio::time::timeout(ERROR_BODY_TIMEOUT, reading).await;
    let status = answer.head.status.as_u16();
    let provider = &deployment.provider;
    let read = deployment.redact_bytes(read.freeze());
    let said = weir_dialects::classify_upstream_error(
        status,
        &answer.head.headers,
        &read,
        clock::system_time(),
    );
    let told = weir_dialects::relay_error(agreed, &provider.name, status, &said, &read, request_id);
    Failed::from_upstream(said, Told::Answer(Box::new(told)))
}

impl Failed {
    fn new(kind: FailureKind, message: String) -> Self {
        Self {
            failure: Failure::new(kind),
            message,
            told: Told::NoAnswer,
        }
    }

    pub(crate) fn malformed(message: String) -> Self {
        Self::new(FailureKind::Malformed, message)
    }

    pub(crate) fn cut(message: String) -> Self {
        Self::new(FailureKind::Cut, message)
    }

    /// For a try that was not made: others were quicker to take what is left of the limit.
    pub(super) fn throttled(deployment: &Deployment, wait_us: u64) -> Self {
        let provider = &deployment.provider.name;
        let message = format!("the limit that {provider} announces is used up");
        let wait = Duration::from_micros(wait_us);
        let error = ApiError::new(ApiErrorKind::RateLimited, message.clone());
        let mut failed = Self::new(FailureKind::RateLimited, message);
        failed.failure.retry_after_us = Some(wait_us);
        failed.told = Told::Said(Box::new(error.with_retry_after(wait)));
        failed
    }

    /// For an answer that could not be read on.
    pub(super) fn of_stream(deployment: &Deployment, error: StreamError) -> Self {
        match error {
            StreamError::Provider(said) => Self::said(deployment, said),
            StreamError::Truncated => Self::cut(error.to_string()),
            _ => Self::malformed(error.to_string()),
        }
    }

    pub(super) fn no_url(error: &http::uri::InvalidUri) -> Self {
        Self::new(
            FailureKind::InvalidRequest,
            format!("make the request's URL: {error}"),
        )
    }

    pub(super) fn refused(refusal: &weir_dialects::PrepareError) -> Self {
        Self {
            told: Told::Said(Box::new(refusal.into())),
            ..Self::new(FailureKind::InvalidRequest, refusal.to_string())
        }
    }

    /// For an error that a provider reported where an answer had begun.
    pub(crate) fn said(deployment: &Deployment, mut said: UpstreamErrorFacts) -> Self {
        deployment.redact(&mut said);
        let told = Told::Said(Box::new(said.to_api_error(&deployment.provider.name)));
        Self::from_upstream(said, told)
    }

    fn from_upstream(said: UpstreamErrorFacts, told: Told) -> Self {
        let kind = match said.kind {
            UpstreamErrorKind::RateLimited => FailureKind::RateLimited,
            UpstreamErrorKind::QuotaExhausted => FailureKind::QuotaExhausted,
            UpstreamErrorKind::Overloaded => FailureKind::Overloaded,
            UpstreamErrorKind::ServerError | UpstreamErrorKind::Timeout => FailureKind::ServerError,
            UpstreamErrorKind::Auth => FailureKind::Auth,
            UpstreamErrorKind::ModelNotFound => FailureKind::ModelNotFound,
            UpstreamErrorKind::ContextWindow => FailureKind::ContextWindow,
            UpstreamErrorKind::ContentFilter => FailureKind::ContentFilter,
            UpstreamErrorKind::InvalidRequest => FailureKind::InvalidRequest,
        };
        let retry_after_us = said.retry_after.map(clock::micros);
        let failure = Failure {
            retry_after_us,
            ..Failure::new(kind)
        };
        Self {
            failure,
            message: said.message,
            told,
        }
    }
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Self {
        let kind = match error {
            CallError::Resolve { .. }
            | CallError::NotPublic { .. }
            | CallError::Proxy { .. }
            | CallError::Connect { .. }
            | CallError::Tls { .. } => FailureKind::Connect,
            CallError::ConnectTimeout { .. } => FailureKind::ConnectTimeout,
            CallError::FirstByteTimeout { .. } => FailureKind::FirstTokenTimeout,
            CallError::IdleTimeout { .. } => FailureKind::Stalled,
            CallError::TotalTimeout { .. } => FailureKind::TotalTimeout,
            CallError::Broken(_) | CallError::Closed => FailureKind::Cut,
        };
        Self::new(kind, error.to_string())
    }
}
