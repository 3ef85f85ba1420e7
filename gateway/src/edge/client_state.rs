//! What a client's connection is doing, and which connection has been doing nothing for longest.
//!
//! The connection's task, its socket and its requests share one [`ClientState`]. It is written once when a
//! request's head begins, once when it is whole and once when the answer is over.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use weir_dialects::Family;
use weir_governance::clock;

use crate::caps::{NEWCOMERS_MAX, WARNED_AGAIN};
use crate::request::relay::{CutOff, ResponseBody};

/// What a client's connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientPhase {
    /// Nothing, before its first request or between two.
    Idle,
    /// It sends the head of a request.
    Head,
    /// A request is under way.
    Busy,
}

const IDLE: u64 = 0;
const HEAD: u64 = 1;
const BUSY: u64 = 2;
const PHASE_BITS: u32 = 2;

#[derive(Debug)]
pub(super) struct ClientState {
    opened: Instant,
    /// The phase, and above it the microseconds after `opened` at which it began.
    phase: AtomicU64,
    /// Whether a request was answered before.
    has_asked: AtomicBool,
    /// Of the head that is being read: whether its first line is here, and whether it is a call of
    /// Anthropic's API.
    has_line: AtomicBool,
    is_messages: AtomicBool,
    /// The status with which the HTTP library refused what it could not read; 0 if it did not.
    refused: AtomicU16,
    /// Tells the connection to make room for another.
    leave: Notify,
    is_told_to_leave: AtomicBool,
}

impl ClientState {
    pub(super) fn new() -> Self {
        Self {
            opened: clock::now(),
            phase: AtomicU64::new(IDLE),
            has_asked: AtomicBool::new(false),
            has_line: AtomicBool::new(false),
            is_messages: AtomicBool::new(false),
            refused: AtomicU16::new(0),
            leave: Notify::new(),
            is_told_to_leave: AtomicBool::new(false),
        }
    }

    /// The phase, and when it began.
    pub(super) fn phase(&self) -> (ClientPhase, Instant) {
        let word = self.phase.load(Ordering::Relaxed);
        let phase = match word & ((1 << PHASE_BITS) - 1) {
            IDLE => ClientPhase::Idle,
            HEAD => ClientPhase::Head,
            _ => ClientPhase::Busy,
        };
        let since = Duration::from_micros(word >> PHASE_BITS);
        (phase, self.opened + since)
    }

    fn enter(&self, phase: u64) {
        let since_us = clock::micros(self.opened.elapsed());
        let word = since_us << PHASE_BITS | phase;
        self.phase.store(word, Ordering::Relaxed);
    }

    pub(super) fn is_busy(&self) -> bool {
        self.phase().0 == ClientPhase::Busy
    }

    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    /// Bytes have come. Outside of a request they are of the next one's head.
    pub(super) fn received(&self, bytes: &[u8]) {
        match self.phase().0 {
            ClientPhase::Busy => return,
            ClientPhase::Head if self.has_line.load(Ordering::Relaxed) => return,
            ClientPhase::Head => {}
            ClientPhase::Idle => {
                let is_messages = bytes.starts_with(b"POST /v1/messages");
                self.is_messages.store(is_messages, Ordering::Relaxed);
                self.enter(HEAD);
            }
        }
        let has_line = memchr::memchr(b'\n', bytes).is_some();
        self.has_line.store(has_line, Ordering::Relaxed);
    }

    /// Whether the first line of the head is here.
    pub(super) fn has_line(&self) -> bool {
        self.has_line.load(Ordering::Relaxed)
    }

    /// The family of a client whose request cannot be read.
    pub(super) fn family(&self) -> Family {
        match self.is_messages.load(Ordering::Relaxed) {
            true => Family::Anthropic,
            false => Family::OpenAi,
        }
    }

    pub(super) fn note_refused(&self, status: u16) {
        self.refused.store(status, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) -> Option<u16> {
        let status = self.refused.load(Ordering::Relaxed);
        (status != 0).then_some(status)
    }

    /// Returns when the connection is to make room for another.
    pub(super) async fn told_to_leave(&self) {
        self.leave.notified().await;
    }

    /// A request's head was read.
    pub(super) fn begin(self: &Arc<Self>) -> RequestUnderWay {
        self.has_asked.store(true, Ordering::Relaxed);
        self.has_line.store(false, Ordering::Relaxed);
        self.enter(BUSY);
        RequestUnderWay(self.clone())
    }
}

/// A request of a connection, until its answer is over.
pub(super) struct RequestUnderWay(Arc<ClientState>);

impl Drop for RequestUnderWay {
    fn drop(&mut self) {
        self.0.enter(IDLE);
    }
}

/// An answer's body, which ends a request of its connection.
pub(super) struct ClientBody {
    body: ResponseBody,
    _request: RequestUnderWay,
}

impl ClientBody {
    pub(super) const fn new(body: ResponseBody, request: RequestUnderWay) -> Self {
        Self {
            body,
            _request: request,
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The connections of all workers.
#[derive(Debug)]
pub(super) struct ClientConnections {
    open: Mutex<ListedClients>,
    /// Places for those that are beyond the limit, and are told so.
    pub(super) newcomers: Arc<Semaphore>,
    /// When the limit was last logged.
    warned: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct ListedClients {
    next: u64,
    states: HashMap<u64, Arc<ClientState>>,
}

/// A connection's place among the others, until it is closed.
pub(super) struct ListedClient {
    connections: Arc<ClientConnections>,
    number: u64,
}

impl ClientConnections {
    pub(super) fn new() -> Self {
        Self {
            open: Mutex::default(),
            newcomers: Arc::new(Semaphore::new(NEWCOMERS_MAX)),
            warned: Mutex::new(None),
        }
    }

    pub(super) fn add(self: &Arc<Self>, state: &Arc<ClientState>) -> ListedClient {
        let mut open = self.open.lock();
        let number = open.next;
        open.next += 1;
        open.states.insert(number, state.clone());
        ListedClient {
            connections: self.clone(),
            number,
        }
    }

    /// Tells the connection that has been idle for longest to make room. Says whether there is one.
    pub(super) fn close_oldest_idle(&self) -> bool {
        let open = self.open.lock();
        let idle = open.states.values().filter_map(|state| {
            let (phase, since) = state.phase();
            let is_free = !state.is_told_to_leave.load(Ordering::Relaxed);
            (phase == ClientPhase::Idle && is_free).then_some((since, state))
        });
        let Some((_, oldest)) = idle.min_by_key(|(since, _)| *since) else {
            return false;
        };
        oldest.is_told_to_leave.store(true, Ordering::Relaxed);
        oldest.leave.notify_one();
        true
    }

    /// Whether to say in the log that the limit is reached: once in a while.
    pub(super) fn may_warn(&self) -> bool {
        let mut warned = self.warned.lock();
        let is_due = warned.is_none_or(|last| last.elapsed() >= WARNED_AGAIN);
        if is_due {
            *warned = Some(clock::now());
        }
        is_due
    }
}

impl Drop for ListedClient {
    fn drop(&mut self) {
        self.connections.open.lock().states.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_between_the_end_of_an_answer_and_the_next_head() {
        let state = Arc::new(ClientState::new());
        let phase = || state.phase().0;
        assert_eq!((phase(), state.has_asked()), (ClientPhase::Idle, false));
        state.received(b"POST /v1/mess");
        assert_eq!((phase(), state.has_line()), (ClientPhase::Head, false));
        state.received(b"ages HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(state.has_line());
        let request = state.begin();
        assert_eq!(phase(), ClientPhase::Busy);
        state.received(b"a body\n");
        assert_eq!((phase(), state.has_line()), (ClientPhase::Busy, false));
        drop(request);
        assert_eq!((phase(), state.has_asked()), (ClientPhase::Idle, true));
    }

    #[test]
    fn whoever_is_idle_for_longest_makes_room_first() {
        let connections = Arc::new(ClientConnections::new());
        let states: [_; 3] = std::array::from_fn(|_| Arc::new(ClientState::new()));
        let [_first, second, _third] = states.each_ref().map(|state| connections.add(state));
        // The first is the oldest, and was used last; the second is at work.
        let told = || {
            states
                .each_ref()
                .map(|it| it.is_told_to_leave.load(Ordering::Relaxed))
        };
        drop(states[0].begin());
        let at_work = states[1].begin();
        assert!(connections.close_oldest_idle());
        assert_eq!(told(), [false, false, true]);
        assert!(connections.close_oldest_idle());
        assert_eq!(told(), [true, false, true]);
        assert!(!connections.close_oldest_idle());
        drop(at_work);
        drop(second);
        assert!(!connections.close_oldest_idle());
    }
}
