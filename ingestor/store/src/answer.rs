//! Answers: their headers, and bodies that come from a running statement.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use rand::Rng;
use tokio::sync::mpsc;

use crate::connections::OpenRequest;
use crate::encode::ErrorPacking;
use crate::engine::QueryProgress;
use crate::error::ServerError;
use crate::killer::CancelOnDrop;
use crate::run::QueryOutput;

pub(crate) fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    // A value that cannot stand in a header is left out rather than answered with an error.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

pub(crate) fn summary_json(progress: &QueryProgress) -> String {
    let fields = [
        ("read_rows", progress.read_rows),
        ("read_bytes", progress.read_bytes),
        ("written_rows", progress.written_rows),
        ("written_bytes", progress.written_bytes),
        ("result_rows", progress.result_rows),
    ];
    // All values are strings: so does ClickHouse.
    let fields = fields.map(|(name, value)| format!("\"{name}\":\"{value}\""));
    format!("{{{}}}", fields.join(","))
}

/// What tells an error within a body from data.
pub(crate) fn exception_tag() -> String {
    let mut random = rand::rng();
    (0..16)
        .map(|_| char::from(random.random_range(b'a'..=b'z')))
        .collect()
}

/// An error after output, as ClickHouse writes it since 25.11.
pub(crate) fn exception_block(tag: &str, message: &str) -> Bytes {
    let message = format!("{message}\n");
    let len = message.len();
    format!("\r\n__exception__\r\n{tag}\r\n{message}{len} {tag}\r\n__exception__\r\n").into()
}

pub(crate) fn thread_died() -> ServerError {
    ServerError::internal("the thread that ran the statement died")
}

/// The body of an answer: all of it, or what a statement still gives.
pub(crate) type QueryBody = Either<Full<Bytes>, Box<StreamedOutput>>;

/// A body, and the request that is open as long as it is sent.
pub(crate) struct OpenBody {
    pub(crate) body: QueryBody,
    pub(crate) _open: Option<OpenRequest>,
}

impl Body for OpenBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The output of a statement that still runs.
pub(crate) struct StreamedOutput {
    pub(crate) first: Option<Bytes>,
    pub(crate) output: mpsc::Receiver<QueryOutput>,
    pub(crate) tag: String,
    pub(crate) packing: ErrorPacking,
    pub(crate) cut: Option<Cut>,
    /// Dropped with the answer.
    pub(crate) _stop: CancelOnDrop,
}

/// How a body ends that an error cut short: the error is written, then the connection is broken
/// off, so that also a client that reads no further than lengths sees that something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The error has been handed over, and gets one more turn to be written.
    Written,
    Broken,
}

#[derive(Debug, thiserror::Error)]
#[error("the statement failed after it had begun to answer")]
pub(crate) struct BrokenOff;

impl Body for StreamedOutput {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let data = |bytes| Poll::Ready(Some(Ok(Frame::data(bytes))));
        if let Some(first) = self.first.take() {
            return data(first);
        }
        match self.cut {
            None => {}
            Some(Cut::Written) => {
                self.cut = Some(Cut::Broken);
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Cut::Broken) => return Poll::Ready(Some(Err(BrokenOff))),
        }
        let error = match ready!(self.output.poll_recv(context)) {
            Some(QueryOutput::Chunk(chunk)) => return data(chunk),
            Some(QueryOutput::End(Ok(()))) => return Poll::Ready(None),
            Some(QueryOutput::End(Err(error))) => error,
            Some(QueryOutput::Whole { .. } | QueryOutput::Head { .. }) | None => thread_died(),
        };
        self.cut = Some(Cut::Written);
        data(
            self.packing
                .pack(exception_block(&self.tag, &error.message)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_within_a_body_can_be_read_backwards() {
        let block = exception_block("abcdefghijklmnop", "Code: 1. DB::Exception: x");
        let text = String::from_utf8(block.to_vec()).unwrap();
        let rest = text
            .strip_suffix(" abcdefghijklmnop\r\n__exception__\r\n")
            .unwrap();
        let (before, len) = rest.rsplit_once('\n').unwrap();
        let message = &before[before.len() + 1 - len.parse::<usize>().unwrap()..];
        assert_eq!(message, "Code: 1. DB::Exception: x");
    }
}
