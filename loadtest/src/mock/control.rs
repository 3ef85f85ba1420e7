//! The mock's own endpoints under `/__mock/`, which count as nothing.
//!
//! - `GET /__mock/ledger`: what was seen and served.
//! - `GET`, `POST /__mock/faults`: the rules in force; a new array of rules.
//! - `POST /__mock/latency`: `{"ttft": "200ms", "inter_token": "10ms..30ms"}`.
//! - `POST /__mock/reset`: clears the ledger.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::MockState;
use super::play::MockBody;
use super::server::collect;
use crate::dist::Delay;

/// Answers a request to one of them.
pub(super) async fn control(request: Request<Incoming>, shared: &MockState) -> Response<MockBody> {
    let (parts, body) = request.into_parts();
    let body = match collect(body).await {
        Ok(body) => body,
        Err(_) => return told(StatusCode::BAD_REQUEST, "the body did not arrive whole"),
    };
    match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/__mock/ledger") => shown(&shared.books.ledger()),
        (&Method::GET, "/__mock/faults") => shown(&shared.behaviour.load().faults.rules()),
        (&Method::POST, "/__mock/reset") => {
            shared.books.reset();
            shown(&shared.books.ledger())
        }
        (&Method::POST, "/__mock/faults") => changed(&body, |rules| {
            shared.set_faults(rules).map_err(|error| error.to_string())
        }),
        (&Method::POST, "/__mock/latency") => changed(&body, |latency: LatencyChange| {
            shared.set_latency(latency.ttft, latency.inter_token);
            Ok(())
        }),
        _ => told(
            StatusCode::NOT_FOUND,
            "known are GET /__mock/ledger, GET and POST /__mock/faults, POST /__mock/latency, POST /__mock/reset",
        ),
    }
}

/// The body of `POST /__mock/latency`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct LatencyChange {
    ttft: Delay,
    #[serde(default = "no_delay")]
    inter_token: Delay,
}

fn no_delay() -> Delay {
    Delay::ZERO
}

fn shown(value: &impl serde::Serialize) -> Response<MockBody> {
    match serde_json::to_vec(value) {
        Ok(body) => json(StatusCode::OK, body),
        Err(error) => told(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn changed<T: serde::de::DeserializeOwned>(
    body: &[u8],
    change: impl FnOnce(T) -> Result<(), String>,
) -> Response<MockBody> {
    let changed = serde_json::from_slice(body)
        .map_err(|error| error.to_string())
        .and_then(change);
    match changed {
        Ok(()) => json(StatusCode::OK, r#"{"ok":true}"#),
        Err(problem) => told(StatusCode::BAD_REQUEST, &problem),
    }
}

fn told(status: StatusCode, message: &str) -> Response<MockBody> {
    let body = serde_json::json!({ "error": { "message": message, "type": "mock_control" } });
    json(status, body.to_string())
}

pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<MockBody> {
    let mut response = Response::new(MockBody::Whole {
        bytes: body.into(),
        done: None,
    });
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
