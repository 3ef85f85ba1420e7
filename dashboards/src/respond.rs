//! Answers: JSON, text, and bodies that arrive piece by piece.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use http_body::Frame;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::caps::{PIECES_WAITING_MAX, STALL_MAX};

pub(crate) fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    of_type(status, "application/json", body)
}

pub(crate) fn text(body: impl Into<Body>) -> Response {
    of_type(StatusCode::OK, "text/plain; charset=utf-8", body)
}

/// What is answered to one person is nobody's to keep.
pub(crate) fn of_type(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A body that somebody else writes.
#[derive(Debug)]
pub(crate) struct PipedBody(mpsc::Receiver<io::Result<Bytes>>);

/// The end of a pipe that is written to.
#[derive(Debug)]
pub(crate) struct Pipe(mpsc::Sender<io::Result<Bytes>>);

pub(crate) fn pipe() -> (Pipe, PipedBody) {
    let (pipe, body) = mpsc::channel(PIECES_WAITING_MAX);
    (Pipe(pipe), PipedBody(body))
}

impl Pipe {
    /// `false` once nobody reads any more.
    pub(crate) async fn send(&self, piece: Bytes) -> bool {
        let sent = timeout(STALL_MAX, self.0.send(Ok(piece))).await;
        sent.is_ok_and(|sent| sent.is_ok())
    }

    /// Breaks the body off, so that nobody takes it for whole.
    pub(crate) async fn break_off(&self, reason: impl ToString) {
        let error = io::Error::other(reason.to_string());
        _ = timeout(STALL_MAX, self.0.send(Err(error))).await;
    }
}

impl http_body::Body for PipedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = self.0.poll_recv(context);
        piece.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
