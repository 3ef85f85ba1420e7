//! What the pages call, below `api/`.

mod query;
mod tail;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::response::Response;
use axum::routing::{any, get};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use crate::Console;
use crate::caps::BODY_BYTES_MAX;
use crate::error::ConsoleError;
use crate::gateway::{GatewayAnswer, TokenRole};
use crate::respond;
use crate::session::SignedIn;

/// The other end of the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) IpAddr);

pub(crate) fn routes() -> Router<Arc<Console>> {
    let session = get(session).post(sign_in).delete(sign_out);
    Router::new()
        .route("/api/session", session)
        .route("/api/queries/{name}", get(query::named))
        .route("/api/explore", get(query::explore))
        .route("/api/values/{dimension}", get(query::values))
        .route("/api/tail", get(tail::follow))
        .route("/api/filters", get(query::filters))
        .route("/api/admin/{*path}", any(admin))
        .route("/api/gateway/readyz", get(gateway_page))
        .route("/api/gateway/metrics", get(gateway_page))
        .fallback(file)
}

/// Whoever calls must be signed in, and show the session's word to change something.
impl FromRequestParts<Arc<Console>> for SignedIn {
    type Rejection = ConsoleError;

    async fn from_request_parts(
        parts: &mut Parts,
        console: &Arc<Console>,
    ) -> Result<Self, ConsoleError> {
        let (sessions, gateway) = (&console.sessions, &console.gateway);
        sessions
            .of_call(gateway, &parts.method, &parts.headers)
            .await
    }
}

async fn file(
    State(console): State<Arc<Console>>,
    request: Request,
) -> Result<Response, ConsoleError> {
    let path = request.uri().path();
    if path.starts_with("/api/") {
        return Err(ConsoleError::not_found(format!(
            "there is nothing at {path}"
        )));
    }
    console.pages.answer(path, request.headers())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    token: String,
}

async fn session(signed_in: SignedIn) -> Response {
    respond::json(StatusCode::OK, signed_in.public().to_string())
}

async fn sign_in(
    State(console): State<Arc<Console>>,
    request: Request,
) -> Result<Response, ConsoleError> {
    let (head, body) = request.into_parts();
    // Another site's page cannot send this without asking first, and is refused then.
    let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !kind.is_some_and(|kind| kind.starts_with(b"application/json")) {
        return Err(ConsoleError::invalid("send the token as application/json"));
    }
    let body = collect(body).await?;
    let given: SignIn = serde_json::from_slice(&body)
        .map_err(|_| ConsoleError::invalid("the body must be {\"token\": \"…\"}"))?;
    let peer = head.extensions.get::<PeerAddress>();
    let peer = peer.ok_or_else(|| ConsoleError::internal("the caller's address is unknown"))?;
    let (sessions, gateway) = (&console.sessions, &console.gateway);
    let signed_in = sessions
        .sign_in(gateway, given.token.trim(), peer.0)
        .await?;
    let mut response = respond::json(StatusCode::OK, signed_in.public().to_string());
    let cookie = sessions.set_cookie(Some(&signed_in), is_https(&head.headers));
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

async fn sign_out(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    headers: HeaderMap,
) -> Response {
    console.sessions.end(&signed_in);
    let mut response = respond::json(StatusCode::OK, "{}");
    let cookie = console.sessions.set_cookie(None, is_https(&headers));
    response.headers_mut().insert(SET_COOKIE, cookie);
    response
}

/// Whether a proxy in front says that it is spoken to over TLS.
fn is_https(headers: &HeaderMap) -> bool {
    let proto = headers.get("x-forwarded-proto");
    proto.is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// Passes a call on to the gateway's admin API, which decides by the token what its holder may do.
async fn admin(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    Path(path): Path<String>,
    request: Request,
) -> Result<Response, ConsoleError> {
    let is_step = |segment: &str| {
        matches!(
            &*percent_decode_str(segment).decode_utf8_lossy(),
            "." | ".."
        )
    };
    if path.split('/').any(is_step) {
        return Err(ConsoleError::invalid("the path has steps in it"));
    }
    let (head, body) = request.into_parts();
    // As it came: what is encoded in it is the admin API's to decode.
    let within = head
        .uri
        .path()
        .strip_prefix("/api/admin")
        .unwrap_or_default();
    let query = head.uri.query().map(|query| format!("?{query}"));
    let path = format!("/admin/v1{within}{}", query.unwrap_or_default());
    let body = collect(body).await?;
    pass_on(&console, &signed_in, head.method, &path, body).await
}

/// `/readyz` and `/metrics` of the gateway.
async fn gateway_page(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    request: Request,
) -> Result<Response, ConsoleError> {
    if signed_in.holder.role == TokenRole::TeamOwner {
        let message = "the gateway's state is not for team owners";
        return Err(ConsoleError::denied(message));
    }
    let path = request.uri().path();
    let path = path.strip_prefix("/api/gateway").unwrap_or_default();
    pass_on(&console, &signed_in, Method::GET, path, Bytes::new()).await
}

async fn pass_on(
    console: &Console,
    signed_in: &SignedIn,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Response, ConsoleError> {
    let token = Some(&*signed_in.token);
    let GatewayAnswer { status, kind, body } =
        console.gateway.call(method, path, token, body).await?;
    if status == StatusCode::UNAUTHORIZED {
        console.sessions.end(signed_in);
        return Err(ConsoleError::not_signed_in(
            "the token was revoked or has expired",
        ));
    }
    let mut response = respond::json(status, body);
    response
        .headers_mut()
        .extend(kind.map(|kind| (CONTENT_TYPE, kind)));
    Ok(response)
}

async fn collect(body: Body) -> Result<Bytes, ConsoleError> {
    let collected = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let collected =
        collected.map_err(|_| ConsoleError::invalid("the body is too large, or broke off"))?;
    Ok(collected.to_bytes())
}
