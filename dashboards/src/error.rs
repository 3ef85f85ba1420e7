//! Why the console does not answer a call, and how it says so.

use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use serde_json::json;
use weir_store::StoreError;

use crate::respond;

/// ClickHouse's numbers for: a time limit, not enough memory, too many queries, no such database or table.
const TOO_SLOW: [u32; 3] = [159, 160, 209];
const TOO_LARGE: [u32; 2] = [241, 243];
const TOO_MANY: [u32; 1] = [202];
const NO_TABLE: [u32; 2] = [60, 81];

/// Bytes of ClickHouse's message that are shown.
const MESSAGE_CHARS_MAX: usize = 400;

/// The code is for the page, the message for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ConsoleError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl ConsoleError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    pub(crate) fn not_signed_in(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not_signed_in", message)
    }

    pub(crate) fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_denied", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    pub(crate) fn too_many(message: &str) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", message)
    }

    pub(crate) fn too_slow() -> Self {
        let message =
            "the query took too long and was stopped: choose a shorter range or more filters";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "too_slow", message)
    }

    pub(crate) fn gateway_away(reason: impl std::fmt::Display) -> Self {
        let message = format!("the gateway does not answer: {reason}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "gateway_away", message)
    }

    fn store_away(reason: &str) -> Self {
        let message = format!("the store does not answer: {reason}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_away", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "internal_error", message)
    }
}

impl From<StoreError> for ConsoleError {
    fn from(error: StoreError) -> Self {
        let message = weir_store::message_of(&error.message);
        let message: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
        let Some(code) = error.code else {
            return Self::store_away(&message);
        };
        if TOO_SLOW.contains(&code) {
            return Self::too_slow();
        }
        if TOO_LARGE.contains(&code) {
            let message = "the query needs more memory than it may take: choose a shorter range or more filters";
            return Self::new(StatusCode::GATEWAY_TIMEOUT, "too_slow", message);
        }
        if TOO_MANY.contains(&code) {
            return Self::too_many("the store has too many queries to run; try again in a moment");
        }
        if NO_TABLE.contains(&code) {
            return Self::store_away(
                "it has no tables yet; the ingestor makes them when it starts",
            );
        }
        tracing::warn!(code, message, "the store refused a query of the console");
        Self::internal(format!("the store refused the query: {message}"))
    }
}

impl IntoResponse for ConsoleError {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "code": self.code, "message": self.message } });
        let mut response = respond::json(self.status, body.to_string());
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            let soon = HeaderValue::from_static("2");
            response.headers_mut().insert(RETRY_AFTER, soon);
        }
        response
    }
}
