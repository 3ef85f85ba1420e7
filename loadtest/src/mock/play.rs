//! Sends an answer: at once, token by token, or up to where a fault strikes.
//!
//! Events that are due together leave in one write: the body hands them over without a pause, and hyper flushes when there is
//! nothing more to take. Pauses are counted from the planned time of the token before, so that timer rounding does not add up.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use rand::rngs::SmallRng;
use tokio::time::{Instant, Sleep, sleep_until};

use super::fault::{FaultKind, Midway};
use super::ledger::{LedgerCall, TokenCounts};
use super::link::LinkFaults;
use super::wire::{Events, MockAnswer, Prepared};
use crate::dist::Delay;

/// The answer's body.
#[derive(Debug)]
pub(super) enum MockBody {
    /// All of it, in one frame. The call, if a ledger follows it, is settled as the frame is taken.
    Whole {
        bytes: Bytes,
        done: Option<(LedgerCall, TokenCounts)>,
    },
    /// A part of it, then the fault.
    Plain(Box<PlainBody>),
    Stream(Box<StreamBody>),
}

/// What a body hands over when it is polled.
type PolledFrame = Poll<Option<Result<Frame<Bytes>, CutOffError>>>;

/// A call whose answer is decided.
#[derive(Debug)]
pub(super) struct AcceptedCall {
    pub(super) call: LedgerCall,
    pub(super) answer: MockAnswer,
    pub(super) link: Arc<LinkFaults>,
    pub(super) midway: Option<Midway>,
}

/// The answer was broken off on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the answer is cut off by an injected fault")]
pub(super) struct CutOffError;

/// A plain answer that a fault interrupts.
#[derive(Debug)]
pub(super) struct PlainBody {
    pub(super) first: Bytes,
    pub(super) rest: Bytes,
    pub(super) midway: Midway,
    pub(super) reported: TokenCounts,
    pub(super) call: LedgerCall,
    pub(super) link: Arc<LinkFaults>,
    pub(super) breaking: Breaking,
}

/// The end of an interrupted answer, step by step.
#[derive(Debug)]
pub(super) enum Breaking {
    Not,
    /// What was sent before is being flushed: a reset may overtake it otherwise.
    Flushing,
    Waiting(Pin<Box<Sleep>>),
    WaitingForEver,
    Over,
}

impl Body for MockBody {
    type Data = Bytes;
    type Error = CutOffError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        match self.get_mut() {
            Self::Whole { bytes, done } => {
                if let Some((mut call, reported)) = done.take() {
                    call.complete(reported);
                }
                let all = std::mem::take(bytes);
                Poll::Ready((!all.is_empty()).then(|| Ok(Frame::data(all))))
            }
            Self::Plain(part) => part.poll(cx),
            Self::Stream(stream) => stream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole { bytes, done } => bytes.is_empty() && done.is_none(),
            Self::Plain(part) => matches!(part.breaking, Breaking::Over),
            Self::Stream(stream) => stream.next == StreamStep::Over && stream.ready.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Self::Plain(part) => SizeHint::with_exact((part.first.len() + part.rest.len()) as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

impl Breaking {
    /// Begins the fault. The connection has to write out first what it was given.
    fn begin(&mut self, cx: &Context<'_>) -> Poll<()> {
        *self = Self::Flushing;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready when a stall is over; pending for ever where it never is.
    fn poll_stall(&mut self, for_time: Option<Duration>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self {
                Self::Not | Self::Flushing => {
                    *self = match for_time {
                        Some(time) => Self::Waiting(Box::pin(tokio::time::sleep(time))),
                        None => Self::WaitingForEver,
                    };
                }
                Self::Waiting(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    *self = Self::Over;
                }
                Self::WaitingForEver => return Poll::Pending,
                Self::Over => return Poll::Ready(()),
            }
        }
    }
}

impl PlainBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        if matches!(self.breaking, Breaking::Not) {
            ready!(self.breaking.begin(cx));
        }
        if self.midway.kind == FaultKind::Cut {
            self.link.reset();
            self.call.end();
            return Poll::Ready(Some(Err(CutOffError)));
        }
        ready!(self.breaking.poll_stall(self.midway.for_time, cx));
        self.call.complete(self.reported);
        let rest = std::mem::take(&mut self.rest);
        Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))))
    }
}

/// A streamed answer.
#[derive(Debug)]
pub(super) struct StreamBody {
    events: &'static dyn Events,
    answer: MockAnswer,
    prepared: Prepared,
    call: LedgerCall,
    link: Arc<LinkFaults>,
    midway: Option<Midway>,
    breaking: Breaking,
    events_per_chunk: u32,
    inter_token: Delay,
    rng: SmallRng,
    /// When the next token is planned.
    due: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
    next: StreamStep,
    ready: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamStep {
    Opening,
    Token(u32),
    Closing,
    Over,
}

impl StreamBody {
    pub(super) fn new(
        events: &'static dyn Events,
        accepted: AcceptedCall,
        events_per_chunk: u32,
        inter_token: Delay,
        rng: SmallRng,
    ) -> Self {
        Self {
            events,
            prepared: events.prepare(&accepted.answer),
            answer: accepted.answer,
            call: accepted.call,
            link: accepted.link,
            midway: accepted.midway,
            breaking: Breaking::Not,
            events_per_chunk,
            inter_token,
            rng,
            due: Instant::now(),
            sleep: None,
            next: StreamStep::Opening,
            ready: Vec::new(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        let mut events = 0;
        loop {
            if self.fault_is_due() {
                if !self.ready.is_empty() {
                    return self.hand_over();
                }
                if let Err(cut) = ready!(self.poll_fault(cx)) {
                    return Poll::Ready(Some(Err(cut)));
                }
            }
            // A step may have no events: handing over nothing would end the stream.
            let full = events >= self.events_per_chunk && !self.ready.is_empty();
            if self.next == StreamStep::Over || full {
                return self.hand_over();
            }
            if self.poll_due(cx).is_pending() {
                if self.ready.is_empty() {
                    return Poll::Pending;
                }
                return self.hand_over();
            }
            self.advance();
            events += 1;
        }
    }

    fn hand_over(&mut self) -> PolledFrame {
        let chunk = Bytes::from(std::mem::take(&mut self.ready));
        Poll::Ready((!chunk.is_empty()).then(|| Ok(Frame::data(chunk))))
    }

    /// Waits until the next step is due. Only tokens after the first are spaced.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let spaced = matches!(self.next, StreamStep::Token(1..));
        if !spaced || self.inter_token.0.is_zero() {
            return Poll::Ready(());
        }
        if self.due > Instant::now() {
            let due = self.due;
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if sleep.deadline() != due {
                sleep.as_mut().reset(due);
            }
            ready!(sleep.as_mut().poll(cx));
        }
        Poll::Ready(())
    }

    /// Writes the events of the next step.
    fn advance(&mut self) {
        // Sized for one chunk: most streams send an event at a time.
        self.ready.reserve(self.prepared.before.len() + 256);
        let (answer, prepared, out) = (&self.answer, &self.prepared, &mut self.ready);
        match self.next {
            StreamStep::Opening => {
                self.events.opening(answer, prepared, out);
                self.count(0);
                self.next = self.after(0);
            }
            StreamStep::Token(index) => {
                self.events.token(answer, prepared, index, out);
                self.count(index + 1);
                self.next = self.after(index + 1);
                if !self.inter_token.0.is_zero() {
                    self.due += self.inter_token.sample(&mut self.rng);
                }
            }
            StreamStep::Closing => {
                self.events.closing(answer, prepared, out);
                self.call.served(self.answer.usage);
                let reported = if self.answer.asked.include_usage {
                    self.answer.usage
                } else {
                    TokenCounts::default()
                };
                self.call.complete(reported);
                self.next = StreamStep::Over;
            }
            StreamStep::Over => {}
        }
    }

    fn after(&self, tokens: u32) -> StreamStep {
        if tokens < self.answer.visible {
            StreamStep::Token(tokens)
        } else {
            StreamStep::Closing
        }
    }

    /// Enters into the ledger what was used up once so many tokens are out: the prompt, all hidden reasoning, and these.
    fn count(&mut self, tokens: u32) {
        let usage = self.answer.usage;
        let text = u64::from(tokens) * u64::from(self.answer.asked.choices);
        self.call.served(TokenCounts {
            output: usage.reasoning + text,
            ..usage
        });
    }

    fn fault_is_due(&self) -> bool {
        self.midway.is_some_and(|midway| match self.next {
            StreamStep::Token(index) => index >= midway.after_tokens,
            step => step == StreamStep::Closing,
        })
    }

    /// Plays the fault; ready when the stream goes on after it.
    fn poll_fault(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CutOffError>> {
        let Some(midway) = self.midway else {
            return Poll::Ready(Ok(()));
        };
        match midway.kind {
            FaultKind::Cut => {
                if matches!(self.breaking, Breaking::Not) {
                    ready!(self.breaking.begin(cx));
                }
                self.link.reset();
                self.call.end();
                self.next = StreamStep::Over;
                return Poll::Ready(Err(CutOffError));
            }
            FaultKind::Stall => ready!(self.breaking.poll_stall(midway.for_time, cx)),
            FaultKind::StreamError => {
                let tokens = match self.next {
                    StreamStep::Token(index) => index,
                    _ => self.answer.visible,
                };
                self.events.error(&self.answer, tokens, &mut self.ready);
                self.call.end();
                self.next = StreamStep::Over;
            }
            _ => self.events.malformed(&self.prepared, &mut self.ready),
        }
        self.midway = None;
        Poll::Ready(Ok(()))
    }
}
