//! Everything that can end a request before a provider answers it, and how the client is told.
//!
//! This is the one place where causes become responses.

use std::fmt::Display;

use http::{Response, StatusCode};
use weir_dialects::{ApiError, ApiErrorKind, BadRequest, ErrorResponse, Family, error_body};
use weir_eventlog::{AppendError, JournalFull, NotDurable};
use weir_routing::{FailureKind, GiveUp};
use weir_schemas::RequestId;

use crate::attempt::{Failed, Told};
use crate::control::{Identity, KeyRefusal};
use crate::relay::{REQUEST_ID, Reply, request_id_value};
use crate::trail::Failure;

/// A request that is answered with an error.
#[derive(Debug)]
pub(crate) struct Refusal {
    stage: &'static str,
    /// The word that events and metrics carry, if not the one of the client's error.
    kind: Option<&'static str>,
    error: Box<ApiError<'static>>,
    /// The provider's own answer, which says it better.
    answer: Option<Box<ErrorResponse>>,
}

impl Refusal {
    fn new(stage: &'static str, kind: ApiErrorKind, message: impl Into<String>) -> Self {
        Self::from_error(stage, ApiError::new(kind, message.into()))
    }

    fn from_error(stage: &'static str, error: ApiError<'static>) -> Self {
        Self {
            stage,
            kind: None,
            error: Box::new(error),
            answer: None,
        }
    }

    pub(crate) fn key_missing() -> Self {
        Self::new(
            "authenticate",
            ApiErrorKind::InvalidApiKey,
            "no API key was sent; send it as \"Authorization: Bearer weir_…\" or \"x-api-key: weir_…\"",
        )
    }

    pub(crate) fn key(refusal: KeyRefusal) -> Self {
        Self::new(
            "authenticate",
            ApiErrorKind::InvalidApiKey,
            refusal.to_string(),
        )
    }

    pub(crate) fn journal_full(full: JournalFull) -> Self {
        Self {
            kind: Some("journal_full"),
            ..Self::new(
                "admit",
                ApiErrorKind::Overloaded,
                format!("requests are not accepted while they cannot be recorded: {full}"),
            )
        }
    }

    pub(crate) fn body_too_large(bytes_max: usize) -> Self {
        Self::new(
            "receive",
            ApiErrorKind::BodyTooLarge,
            format!("the request body is larger than {bytes_max} bytes ([gateway] body_bytes_max)"),
        )
    }

    pub(crate) fn body_timeout(timeout_ms: u64) -> Self {
        Self::new(
            "receive",
            ApiErrorKind::RequestTimeout,
            format!("the request body did not arrive within {timeout_ms} ms"),
        )
    }

    pub(crate) fn body_broken(error: &hyper::Error) -> Self {
        Self::new(
            "receive",
            ApiErrorKind::InvalidRequest,
            format!("the request body broke off: {error}"),
        )
    }

    pub(crate) fn bad_request(bad: &BadRequest) -> Self {
        Self::from_error("inspect", bad.into())
    }

    pub(crate) fn model_not_found(model: &str, near: &[&str]) -> Self {
        Self::from_error("resolve", ApiError::model_not_found(model, near))
    }

    pub(crate) fn model_not_allowed(model: &str, identity: &Identity) -> Self {
        Self::new(
            "resolve",
            ApiErrorKind::PermissionDenied,
            format!(
                "key {} may not use the model \"{model}\"; ask whoever issued it",
                identity.key_id
            ),
        )
    }

    /// For when nothing is left to try. `last` is how the last try failed.
    pub(crate) fn gave_up(alias: &str, reason: GiveUp, last: Option<Failed>) -> Self {
        let Some(last) = last else {
            let reason = reason.as_str();
            return Self {
                kind: Some(reason),
                ..Self::new(
                    "route",
                    ApiErrorKind::Overloaded,
                    format!("no deployment of \"{alias}\" can take the request: {reason}"),
                )
            };
        };
        let kind = Some(last.failure.kind.as_str());
        let error = Box::new(last.api_error());
        let answer = match last.told {
            Told::Answer(answer) => Some(answer),
            Told::NoAnswer | Told::Said(_) => None,
        };
        Self {
            stage: "attempt",
            kind,
            error,
            answer,
        }
    }

    /// For when the request was refused and even that could not be recorded.
    pub(crate) fn not_recorded(error: &impl Display) -> Self {
        Self::new(
            "emit",
            ApiErrorKind::Overloaded,
            format!("the request could not be recorded: {error}"),
        )
    }

    /// For a path that does not exist, or not with that method.
    pub(crate) fn nothing_there(method: &http::Method, path: &str, path_exists: bool) -> Self {
        let (kind, message) = if path_exists {
            (
                ApiErrorKind::MethodNotAllowed,
                format!("{path} does not take {method}"),
            )
        } else {
            (
                ApiErrorKind::UnknownPath,
                format!("there is nothing at {path}"),
            )
        };
        Self::new("receive", kind, message)
    }

    pub(crate) fn status(&self) -> StatusCode {
        let status = self
            .answer
            .as_ref()
            .map_or_else(|| self.error.status(), |answer| answer.status);
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// What the event says.
    pub(crate) fn failure(&self) -> Failure {
        Failure {
            stage: self.stage,
            kind: self.kind.unwrap_or_else(|| self.error.kind.code()),
            message: self.error.message.clone().into_owned(),
        }
    }

    pub(crate) fn response(self, family: Family, request_id: RequestId) -> Response<Reply> {
        let status = self.status();
        let (headers, body) = match self.answer {
            Some(answer) => (answer.headers, answer.body),
            None => error_body(family, &self.error.with_request_id(&request_id.to_string())),
        };
        let mut response = Response::new(Reply::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
            .headers_mut()
            .insert(REQUEST_ID, request_id_value(request_id));
        response
    }
}

impl Failed {
    /// What a client is told when this was the last try.
    pub(crate) fn api_error(&self) -> ApiError<'static> {
        if let Told::Said(error) = &self.told {
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
}

impl From<NotDurable> for Refusal {
    fn from(error: NotDurable) -> Self {
        Self::not_recorded(&error)
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        Self::not_recorded(&error)
    }
}
