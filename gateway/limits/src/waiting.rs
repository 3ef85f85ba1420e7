//! Requests that wait for room in a budget: first come, first served.
//!
//! Nobody looks again and again: whoever gives something back calls the first of the line, which tries
//! once more, and leaves when it has what it wants or has waited for too long. That calls the next.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use crate::caps::WAITING_MAX;

/// Those who wait, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct WaitingLine {
    next: u64,
    waiting: VecDeque<WaitingRequest>,
}

#[derive(Debug)]
struct WaitingRequest {
    number: u64,
    /// Something came free since it last tried.
    is_called: bool,
    waker: Option<Waker>,
}

impl WaitingLine {
    /// Takes the last place. `None` if there are too many already. Who is first is called at once:
    /// something may have come free since it tried.
    pub(crate) fn join(&mut self) -> Option<u64> {
        if self.waiting.len() >= WAITING_MAX {
            return None;
        }
        let number = self.next;
        self.next += 1;
        self.waiting.push_back(WaitingRequest {
            number,
            is_called: self.waiting.is_empty(),
            waker: None,
        });
        Some(number)
    }

    /// Whether it is this one's turn, or nobody waits.
    pub(crate) fn is_turn_of(&self, number: Option<u64>) -> bool {
        let first = self.waiting.front();
        first.is_none_or(|first| Some(first.number) == number)
    }

    /// Calls the first of the line.
    pub(crate) fn call(&mut self) -> Option<Waker> {
        let first = self.waiting.front_mut()?;
        first.is_called = true;
        first.waker.take()
    }

    /// Ready when this one is called.
    pub(crate) fn poll(&mut self, number: u64, cx: &Context<'_>) -> Poll<()> {
        let Ok(place) = self.waiting.binary_search_by_key(&number, |it| it.number) else {
            return Poll::Ready(());
        };
        let waiting = &mut self.waiting[place];
        if std::mem::take(&mut waiting.is_called) {
            return Poll::Ready(());
        }
        waiting.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Leaves the line. If it was first, the next one is called.
    pub(crate) fn leave(&mut self, number: u64) -> Option<Waker> {
        let place = self.waiting.binary_search_by_key(&number, |it| it.number);
        let place = place.ok()?;
        let _left = self.waiting.remove(place);
        if place == 0 { self.call() } else { None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
