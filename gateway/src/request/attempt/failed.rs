//! An attempt that failed: what it means for routing, and what the client is told.

use bytes::{Bytes, BytesMut};
use std::time::Duration;
use weir_dialects::{
    ApiError, ApiErrorKind, ErrorResponse, StreamError, UpstreamErrorFacts, UpstreamErrorKind,
};
use weir_routing::{Failure, FailureKind};

use crate::caps::{ERROR_BODY_BYTES_MAX, ERROR_BODY_MAX};
use crate::record::charge::never_called;
use crate::request::answer_reader::AnswerError;
use crate::request::refusal::Refusal;
use crate::setup::directory::Deployment;
use crate::upstream::{CallError, ContentDecoder, UpstreamAnswer};
use weir_governance::clock;

/// An attempt that failed.
#[derive(Debug)]
pub(crate) struct FailedAttempt {
    pub(crate) failure: Failure,
    pub(crate) message: String,
    /// What the client is told, if this was the last attempt.
    client_error: ClientError,
}

/// What the client is told of a failed attempt.
#[derive(Debug)]
enum ClientError {
    /// That the provider did not answer.
    NoAnswer,
    /// What the provider reported, inside a stream that had begun well.
    Reported(Box<ApiError<'static>>),
    /// The provider's own answer.
    Answer(Box<ErrorResponse>),
}

/// Reads the body of a provider's error response, up to a limit.
pub(super) async fn refused(
    deployment: &Deployment,
    agreed: &weir_dialects::ResponseContext,
    request_id: &str,
    answer: UpstreamAnswer,
    decoder: Option<ContentDecoder>,
) -> FailedAttempt {
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
    // What has arrived by then is enough: the status alone carries most of it.
    let _ = tokio::time::timeout(ERROR_BODY_MAX, reading).await;
    let status = answer.head.status.as_u16();
    let provider = &deployment.provider;
    let read = match decoder.or_else(|| ContentDecoder::of_bytes(&read)) {
        Some(decoder) => unpacked(decoder, read.freeze()),
        None => read.freeze(),
    };
    let read = deployment.redact_bytes(read);
    let facts =
        provider
            .vendor
            .classify_error(status, &answer.head.headers, &read, clock::system_time());
    let error =
        weir_dialects::relay_error(agreed, &provider.name, status, &facts, &read, request_id);
    FailedAttempt::from_upstream(facts, ClientError::Answer(Box::new(error)))
}

/// What there is of a compressed error, up to the same limit.
fn unpacked(mut decoder: ContentDecoder, packed: Bytes) -> Bytes {
    decoder.push(packed);
    let mut body = BytesMut::new();
    while let Some(Ok(piece)) = decoder.next() {
        let room = ERROR_BODY_BYTES_MAX.saturating_sub(body.len());
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() >= room {
            break;
        }
    }
    body.freeze()
}

impl FailedAttempt {
    fn new(kind: FailureKind, message: String) -> Self {
        Self {
            failure: Failure::new(kind),
            message,
            client_error: ClientError::NoAnswer,
        }
    }

    /// For an attempt that was not made: others were quicker to take what is left of the limit.
    pub(super) fn throttled(deployment: &Deployment, wait_us: u64) -> Self {
        let provider = &deployment.provider.name;
        let message = format!("the limit that {provider} announces is used up");
        let wait = Duration::from_micros(wait_us);
        let error = ApiError::new(ApiErrorKind::RateLimited, message.clone());
        let mut failed = Self::new(FailureKind::RateLimited, message);
        failed.failure.retry_after_us = Some(wait_us);
        failed.client_error = ClientError::Reported(Box::new(error.with_retry_after(wait)));
        failed
    }

    /// For an answer that cannot be read on, and of which the client has nothing.
    pub(super) fn of_answer(deployment: &Deployment, error: AnswerError) -> Self {
        match error {
            AnswerError::Call(error) => error.into(),
            AnswerError::Piece(error) | AnswerError::End(error) => match error {
                StreamError::Provider(facts) => Self::reported(deployment, facts),
                StreamError::Truncated => Self::new(FailureKind::Cut, error.to_string()),
                _ => Self::new(FailureKind::Malformed, error.to_string()),
            },
        }
    }

    /// For an answer that breaks off while the client reads it.
    pub(crate) fn of_relayed(error: AnswerError) -> Self {
        match error {
            AnswerError::Call(error) => error.into(),
            AnswerError::Piece(error) => Self::new(FailureKind::Malformed, error.to_string()),
            AnswerError::End(error) => Self::new(FailureKind::Cut, error.to_string()),
        }
    }

    /// Whether the provider may bill it all the same: it had the call, and did not answer with an error.
    pub(super) const fn may_be_billed(&self) -> bool {
        !never_called(self.failure.kind) && !matches!(self.client_error, ClientError::Answer(_))
    }

    /// The error for the client, where its own dialect has to carry it.
    pub(crate) fn api_error(&self) -> ApiError<'static> {
        if let ClientError::Reported(error) = &self.client_error {
            return ApiError::clone(error);
        }
        let kind = match self.failure.kind {
            FailureKind::ConnectTimeout
            | FailureKind::FirstTokenTimeout
            | FailureKind::Stalled
            | FailureKind::TotalTimeout => ApiErrorKind::ProviderTimeout,
            _ => ApiErrorKind::ProviderError,
        };
        ApiError::new(
            kind,
            format!("the provider did not answer: {}", self.message),
        )
    }

    pub(super) fn no_url(error: &http::uri::InvalidUri) -> Self {
        Self::new(
            FailureKind::InvalidRequest,
            format!("make the request's URL: {error}"),
        )
    }

    pub(super) fn unsupported(refusal: &weir_dialects::PrepareError) -> Self {
        Self {
            client_error: ClientError::Reported(Box::new(refusal.into())),
            ..Self::new(FailureKind::InvalidRequest, refusal.to_string())
        }
    }

    /// For an error that the provider reports inside its answer.
    pub(crate) fn reported(deployment: &Deployment, mut facts: UpstreamErrorFacts) -> Self {
        deployment.redact(&mut facts);
        let error = facts.to_api_error(&deployment.provider.name);
        Self::from_upstream(facts, ClientError::Reported(Box::new(error)))
    }

    fn from_upstream(facts: UpstreamErrorFacts, client_error: ClientError) -> Self {
        let kind = match facts.kind {
            UpstreamErrorKind::RateLimited => FailureKind::RateLimited,
            UpstreamErrorKind::QuotaExhausted => FailureKind::QuotaExhausted,
            UpstreamErrorKind::Overloaded => FailureKind::Overloaded,
            UpstreamErrorKind::ServerError | UpstreamErrorKind::Timeout => FailureKind::ServerError,
            UpstreamErrorKind::Auth | UpstreamErrorKind::Permission => FailureKind::Auth,
            UpstreamErrorKind::Place => FailureKind::Place,
            UpstreamErrorKind::RequestTooLarge => FailureKind::RequestTooLarge,
            UpstreamErrorKind::ModelNotFound => FailureKind::ModelNotFound,
            UpstreamErrorKind::ContextWindow => FailureKind::ContextWindow,
            UpstreamErrorKind::ContentFilter => FailureKind::ContentFilter,
            UpstreamErrorKind::InvalidRequest => FailureKind::InvalidRequest,
        };
        let retry_after_us = facts.retry_after.map(clock::micros);
        let failure = Failure {
            retry_after_us,
            spares_key: facts.kind == UpstreamErrorKind::Permission,
            ..Failure::new(kind)
        };
        Self {
            failure,
            message: facts.message,
            client_error,
        }
    }
}

impl From<FailedAttempt> for Refusal {
    fn from(failed: FailedAttempt) -> Self {
        let error = failed.api_error();
        let answer = match failed.client_error {
            ClientError::Answer(answer) => Some(answer),
            ClientError::NoAnswer | ClientError::Reported(_) => None,
        };
        Self::attempt_failed(failed.failure.kind, error, answer)
    }
}

impl From<CallError> for FailedAttempt {
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
