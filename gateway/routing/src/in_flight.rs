//! One attempt from the moment it is sent to its end, as its deployment's health sees it.

use std::sync::Arc;

use weir_schemas::table::size;

use crate::breaker::{Breaker, Transition};
use crate::budget::RetryBudget;
use crate::concurrency::ConcurrencyWindow;
use crate::failure::{Failure, FailureKind};
use crate::health::Health;
use crate::spec::BreakerSpec;

/// Where an attempt reports its outcome, and its size.
#[derive(Debug)]
pub(crate) struct InFlightContext {
    pub(crate) health: Arc<Health>,
    /// Breaker of the provider key, if the key has a name.
    pub(crate) key: Option<Arc<Breaker>>,
    pub(crate) breaker: BreakerSpec,
    /// Set for an extra attempt: the token is refunded when it answers.
    pub(crate) budget: Option<Arc<RetryBudget>>,
    /// The target's window and the latency limit to be kept, if there is one.
    pub(crate) window: Option<WindowRef>,
    pub(crate) input_tokens: u32,
    /// Work until the first byte of the answer, as input tokens: the prompt, and all of an answer
    /// that comes in one piece.
    pub(crate) awaited_tokens: u32,
    pub(crate) probe: bool,
}

#[derive(Debug)]
pub(crate) struct WindowRef {
    pub(crate) windows: Arc<[ConcurrencyWindow]>,
    pub(crate) target: usize,
    pub(crate) ttft_ms_max: u32,
}

/// One attempt in flight. Ends by [`succeed`](Self::succeed), [`fail`](Self::fail), or by being
/// dropped, which says nothing about the deployment.
#[derive(Debug)]
pub struct InFlight {
    entry: InFlightContext,
    started_us: u64,
    /// How many there were when this one was sent, itself included.
    of_in_flight: u32,
    waiting: bool,
}

impl InFlight {
    pub(crate) fn enter(entry: InFlightContext, now_us: u64) -> Self {
        let of_in_flight = entry
            .health
            .enter(&entry.breaker, entry.awaited_tokens, now_us);
        if entry.probe {
            entry.health.breaker().probe_started(now_us);
            if let Some(key) = &entry.key {
                key.probe_started(now_us);
            }
        }
        Self {
            entry,
            started_us: now_us,
            of_in_flight,
            waiting: true,
        }
    }

    /// The first token of the answer arrived: the deployment works, and this fast.
    pub fn first_token(&mut self, now_us: u64) -> Option<Transition> {
        if !self.waiting {
            return None;
        }
        self.answered(0, now_us)
    }

    /// The answer is complete. Of an answer that came in one piece the time to its first token is
    /// estimated from its length.
    pub fn succeed(mut self, output_tokens: u32, now_us: u64) -> Option<Transition> {
        let first_token = self.waiting.then(|| self.answered(output_tokens, now_us));
        self.entry.health.succeeded();
        first_token.flatten()
    }

    /// The attempt failed.
    pub fn fail(self, failure: &Failure, now_us: u64) -> Option<Transition> {
        if failure.kind == FailureKind::ClientGone {
            return None;
        }
        if !failure.kind.blames_deployment() {
            // It answered, if only to say no.
            return self.sign_of_life(now_us);
        }
        let health = &self.entry.health;
        if waited_in_vain(failure.kind) {
            self.waited_at_least(now_us);
        }
        if failure.blames_key()
            && let Some(key) = &self.entry.key
        {
            key.fail(
                &self.entry.breaker,
                failure,
                (0.0, 0.0),
                self.started_us,
                now_us,
            );
        }
        if self.entry.probe || health.breaker().is_news(self.started_us) {
            health.observe_failure(self.waiting, now_us);
        }
        health.failed(&self.entry.breaker, failure, self.started_us, now_us)
    }

    /// Another attempt's answer came first, and this one is cancelled. It was slow, which is worth
    /// knowing; a probe that is overtaken has failed.
    pub fn lose(self, now_us: u64) -> Option<Transition> {
        if self.entry.probe && self.waiting {
            return self.fail(&Failure::new(FailureKind::FirstTokenTimeout), now_us);
        }
        self.waited_at_least(now_us);
        None
    }

    /// No answer by now is an observation of "at least this long".
    fn waited_at_least(&self, now_us: u64) {
        let health = &self.entry.health;
        if self.waiting && health.breaker().is_news(self.started_us) {
            let least_us = self.at_reference_us(0, now_us);
            if health.ttft(now_us).us < least_us {
                health.observe_latency(least_us, now_us);
            }
        }
    }

    fn answered(&mut self, output_tokens: u32, now_us: u64) -> Option<Transition> {
        self.waiting = false;
        self.entry.health.answered(self.started_us, now_us);
        let at_reference_us = self.at_reference_us(output_tokens, now_us);
        self.entry.health.waited(self.entry.awaited_tokens);
        self.entry.health.observe_latency(at_reference_us, now_us);
        if let Some(WindowRef {
            windows,
            target,
            ttft_ms_max,
        }) = &self.entry.window
            && let Some(window) = windows.get(*target)
        {
            let ttft_us = at_reference_us * size::factor(self.entry.input_tokens, 0);
            let late = ttft_us > *ttft_ms_max as f32 * 1_000.0;
            window.observe(late, self.of_in_flight, *ttft_ms_max, now_us);
        }
        if let Some(budget) = self.entry.budget.take() {
            budget.refund();
        }
        self.sign_of_life(now_us)
    }

    fn sign_of_life(&self, now_us: u64) -> Option<Transition> {
        let InFlightContext {
            health, key, probe, ..
        } = &self.entry;
        health.progressed(now_us);
        if let Some(key) = key {
            key.succeed(*probe, self.started_us, now_us);
        }
        let transition = health.breaker().succeed(*probe, self.started_us, now_us);
        if transition.is_some() {
            health.forget_failures();
        }
        transition
    }

    fn at_reference_us(&self, output_tokens: u32, now_us: u64) -> f32 {
        let taken_us = now_us.saturating_sub(self.started_us) as f32;
        taken_us / size::factor(self.entry.input_tokens, output_tokens)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.entry.health.leave();
        if self.waiting {
            self.entry.health.waited(self.entry.awaited_tokens);
        }
    }
}

fn waited_in_vain(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::ConnectTimeout | FailureKind::FirstTokenTimeout | FailureKind::TotalTimeout
    )
}
