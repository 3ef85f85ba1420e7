//! `api/tail`: live requests, as server-sent events.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use tokio::sync::OwnedSemaphorePermit;

use super::query::QueryCall;
use crate::Console;
use crate::caps::TAIL_NEWEST;
use crate::error::ConsoleError;
use crate::respond::{self, Pipe, pipe};
use crate::selection::Dimensions;
use crate::session::SignedIn;
use crate::tail::{LiveTail, TailNews};

pub(crate) async fn follow(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    RawQuery(query): RawQuery,
) -> Result<Response, ConsoleError> {
    let call = QueryCall::read(query.as_deref(), console.kept_days)?;
    call.refuse_rest()?;
    let scope = call
        .filters
        .scope(&signed_in.holder, Dimensions::Requests)?;
    let place = console.tail_pages.clone().try_acquire_owned();
    let place = place
        .map_err(|_| ConsoleError::too_many("too many pages follow live requests; close one"))?;
    let tail = LiveTail::new(console.asker.store(), &scope, TAIL_NEWEST);
    let (pipe, body) = pipe();
    tokio::task::spawn(relay(console, signed_in, tail, pipe, place));
    let kind = "text/event-stream";
    Ok(respond::of_type(StatusCode::OK, kind, Body::new(body)))
}

/// Passes news on until the browser leaves or the session ends.
async fn relay(
    console: Arc<Console>,
    signed_in: SignedIn,
    mut tail: LiveTail,
    pipe: Pipe,
    _place: OwnedSemaphorePermit,
) {
    loop {
        let news = tail.next().await;
        if !console
            .sessions
            .is_still(&console.gateway, &signed_in)
            .await
        {
            return;
        }
        if !pipe.send(events(&news).into()).await {
            return;
        }
    }
}

fn events(news: &TailNews) -> String {
    let mut events = String::new();
    for request in &news.requests {
        let data = serde_json::to_string(request).unwrap_or_default();
        _ = write!(events, "event: request\ndata: {data}\n\n");
    }
    let state = serde_json::to_string(&news.state).unwrap_or_default();
    _ = write!(events, "event: state\ndata: {state}\n\n");
    events
}
