//! A provider's answer as it is read: its body, the machine that makes the client's bytes of it, and
//! the clock that ends it when it takes too long.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::Sleep;
use weir_dialects::{ApiError, ResponseFacts, ResponseMachine, StreamError};
use weir_governance::clock;

use crate::setup::config::TimeoutConfig;
use crate::upstream::{AnswerBody, CallError, ContentDecoder};

/// Reads one answer, piece by piece.
pub(crate) struct AnswerReader {
    body: AnswerBody,
    /// Unpacks the body, if the provider compressed it although nobody asked for that.
    decoder: Option<ContentDecoder>,
    machine: ResponseMachine,
    clock: AnswerClock,
    bytes_read: u64,
    is_finished: bool,
}

/// What was read, as bytes for the client.
pub(crate) enum AnswerStep {
    Piece(Bytes),
    /// The last step: the body is over.
    End(Bytes),
}

/// Why an answer cannot be read on.
pub(crate) enum AnswerError {
    Call(CallError),
    /// A piece makes no sense.
    Piece(StreamError),
    /// The body is over, and the answer is not complete.
    End(StreamError),
}

impl AnswerReader {
    pub(crate) fn new(
        body: AnswerBody,
        decoder: Option<ContentDecoder>,
        machine: ResponseMachine,
        clock: AnswerClock,
    ) -> Self {
        Self {
            body,
            decoder,
            machine,
            clock,
            bytes_read: 0,
            is_finished: false,
        }
    }

    pub(crate) async fn next(&mut self) -> Result<AnswerStep, AnswerError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<AnswerStep, AnswerError>> {
        if let Some(unpacked) = self.unpack() {
            return Poll::Ready(unpacked);
        }
        if self.is_at_end() {
            return Poll::Ready(self.finish());
        }
        let Poll::Ready(piece) = self.body.poll_data(cx) else {
            let timeout = ready!(self.clock.poll(cx));
            return Poll::Ready(Err(AnswerError::Call(timeout)));
        };
        Poll::Ready(match piece {
            Some(Ok(piece)) => self.push(piece),
            Some(Err(error)) => Err(AnswerError::Call(error)),
            None => self.finish(),
        })
    }

    fn push(&mut self, piece: Bytes) -> Result<AnswerStep, AnswerError> {
        self.clock.piece_arrived();
        if self.bytes_read == 0 && self.decoder.is_none() {
            self.decoder = ContentDecoder::of_bytes(&piece);
        }
        self.bytes_read += piece.len() as u64;
        let Some(decoder) = &mut self.decoder else {
            let pushed = self.machine.push(piece);
            return pushed.map(AnswerStep::Piece).map_err(AnswerError::Piece);
        };
        decoder.push(piece);
        let unpacked = self.unpack();
        unpacked.unwrap_or_else(|| Ok(AnswerStep::Piece(Bytes::new())))
    }

    /// Unpacks more of what was read, if there is more of it.
    fn unpack(&mut self) -> Option<Result<AnswerStep, AnswerError>> {
        let unpacked = self.decoder.as_mut()?.next()?;
        let pushed = unpacked.and_then(|piece| self.machine.push(piece));
        Some(pushed.map(AnswerStep::Piece).map_err(AnswerError::Piece))
    }

    fn finish(&mut self) -> Result<AnswerStep, AnswerError> {
        if self.is_finished {
            return Ok(AnswerStep::End(Bytes::new()));
        }
        self.is_finished = true;
        let is_whole = self.decoder.as_mut().is_none_or(ContentDecoder::is_whole);
        let finished = match is_whole {
            true => self.machine.finish(),
            false => Err(StreamError::Truncated),
        };
        finished.map(AnswerStep::End).map_err(AnswerError::End)
    }

    /// The answer has begun: from here on it must only not stop.
    pub(crate) fn begun(&mut self) {
        self.clock.begun();
    }

    /// Whether the next step is the last, and ready at once: what was read before it may be all that
    /// the client gets.
    pub(crate) fn is_at_end(&self) -> bool {
        let has_more = self.decoder.as_ref().is_some_and(ContentDecoder::has_more);
        !self.is_finished && self.body.is_end() && !has_more
    }

    /// Whether the last step was made.
    pub(crate) const fn is_finished(&self) -> bool {
        self.is_finished
    }

    pub(crate) const fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    pub(crate) const fn facts(&self) -> &ResponseFacts {
        self.machine.facts()
    }

    /// Whether the client gets as many bytes as the provider sends.
    pub(crate) const fn keeps_length(&self) -> bool {
        self.machine.keeps_length() && self.decoder.is_none()
    }

    /// Whether the provider streams, as its first bytes tell.
    pub(crate) fn reads_stream(&self) -> bool {
        self.machine.reads_stream()
    }

    /// Whether the client gets a stream.
    pub(crate) fn writes_stream(&self) -> bool {
        self.machine.writes_stream()
    }

    /// The error that ends a stream in the client's dialect; empty for a plain body.
    pub(crate) fn fail(&mut self, error: &ApiError<'_>) -> Bytes {
        self.machine.fail(error)
    }
}

/// Ends a call whose answer does not come, rests for too long, or takes too long altogether.
///
/// Moving a timer costs more than passing on a piece, so it is moved only when it fires.
pub(crate) struct AnswerClock {
    sleep: Pin<Box<Sleep>>,
    phase: Phase,
    timeouts: TimeoutConfig,
    /// When the whole request must be over.
    deadline: Instant,
}

enum Phase {
    /// The request has no connection yet; opening one has a timeout of its own.
    Connecting,
    /// The answer must have begun by then.
    FirstByte { by: Instant },
    /// It has begun. Since when the provider is waited for; `None` while it is not.
    Idle { waiting_since: Option<Instant> },
}

impl AnswerClock {
    /// Starts with the call.
    pub(crate) fn start(timeouts: TimeoutConfig, deadline: Instant) -> Self {
        let first_byte_by = clock::now() + Duration::from_millis(timeouts.first_byte_ms);
        let first_look = first_byte_by.min(deadline);
        Self {
            sleep: Box::pin(tokio::time::sleep_until(first_look.into())),
            phase: Phase::Connecting,
            timeouts,
            deadline,
        }
    }

    /// The request goes out on its connection.
    pub(crate) fn sent(&mut self) {
        let by = clock::now() + Duration::from_millis(self.timeouts.first_byte_ms);
        self.phase = Phase::FirstByte { by };
        if self.sleep.deadline() > by.into() {
            self.move_to(by);
        }
    }

    /// Waits for the call's connection, or for its head.
    pub(crate) async fn limit<T>(&mut self, step: impl Future<Output = T>) -> Result<T, CallError> {
        let mut step = pin!(step);
        poll_fn(|cx| match step.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll(cx).map(Err),
        })
        .await
    }

    fn begun(&mut self) {
        if !matches!(self.phase, Phase::Idle { .. }) {
            self.phase = Phase::Idle {
                waiting_since: None,
            };
            let idle_until = clock::now() + Duration::from_millis(self.timeouts.idle_ms);
            self.move_to(idle_until);
        }
    }

    fn piece_arrived(&mut self) {
        if let Phase::Idle { waiting_since } = &mut self.phase {
            *waiting_since = None;
        }
    }

    /// Ready when the wait was too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CallError> {
        let TimeoutConfig {
            first_byte_ms,
            idle_ms,
            total_ms,
            ..
        } = self.timeouts;
        let too_long = CallError::TotalTimeout {
            timeout_ms: total_ms,
        };
        let (late_at, late) = match &mut self.phase {
            Phase::Connecting => (self.deadline, too_long),
            Phase::FirstByte { by } => {
                let timeout_ms = first_byte_ms;
                (*by, CallError::FirstByteTimeout { timeout_ms })
            }
            Phase::Idle { waiting_since } => {
                let since = *waiting_since.get_or_insert_with(clock::now);
                let timeout_ms = idle_ms;
                let late_at = since + Duration::from_millis(timeout_ms);
                (late_at, CallError::IdleTimeout { timeout_ms })
            }
        };
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let now = clock::now();
            if now >= self.deadline {
                let timeout_ms = total_ms;
                return Poll::Ready(CallError::TotalTimeout { timeout_ms });
            }
            if now >= late_at {
                return Poll::Ready(late);
            }
            self.move_to(late_at);
        }
    }

    fn move_to(&mut self, instant: Instant) {
        let instant = instant.min(self.deadline);
        self.sleep.as_mut().reset(instant.into());
    }
}
