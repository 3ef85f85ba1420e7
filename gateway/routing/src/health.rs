//! What this process has seen of one deployment: the fast half of routing's two timescales.
//!
//! All of it is atomics, shared by every thread and kept over configuration reloads. A request's
//! try holds an [`InFlight`]; what becomes of the try is told to it, and dropping it without a word
//! (the client left, the hedge lost) only gives the place back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::breaker::{Breaker, BreakerState, EjectCause, Transition};
use crate::budget::{Credit, RetryBudget};
use crate::ewma::{Ewma, fade};
use crate::failure::{Failure, FailureKind};
use crate::spec::BreakerSpec;

/// Everything seen of one deployment. One per deployment and process.
// Aligned so that two deployments never share a cache line (128: x86 fetches lines in pairs).
#[derive(Debug)]
#[repr(align(128))]
pub struct Health {
    in_flight: AtomicU32,
    /// Tries in flight that have no first token yet.
    waiting: AtomicU32,
    /// When the last sign of life came, or when waiting began.
    progress_us: AtomicU64,
    /// Microseconds to the first token of a request of reference size; rises at once, falls slowly.
    ttft: Ewma,
    /// Share of recent tries that succeeded, per try.
    success: Ewma,
    tries: AtomicU64,
    failures: AtomicU64,
    credit: Credit,
    breaker: Breaker,
}

/// What a try costs in time besides its input: connection, queue, and everything else that does
/// not depend on the prompt, expressed as a number of input tokens.
const FIXED_TOKENS: f32 = 2_000.0;
/// Generating one token takes as long as reading this many.
const INPUT_TOKENS_PER_OUTPUT_TOKEN: f32 = 100.0;
/// Latencies are compared as if every request had this many input tokens.
const REFERENCE_TOKENS: f32 = 1_000.0;
/// How long a latency is remembered.
pub(crate) const LATENCY_TAU_MS: f32 = 30_000.0;
/// How fast a higher latency is believed: half at once.
const LATENCY_RISE: f32 = 0.5;
/// How fast a lower one is, per observation.
const LATENCY_FALL: f32 = 0.1;
/// Weight of one try in the success ratio.
const SUCCESS_STEP: f32 = 0.15;
/// How long a failure is remembered.
const SUCCESS_TAU_MS: f32 = 10_000.0;

impl Health {
    pub(crate) fn new() -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            progress_us: AtomicU64::new(0),
            ttft: Ewma::empty(),
            success: Ewma::empty(),
            tries: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            credit: Credit::full(),
            breaker: Breaker::closed(),
        }
    }

    pub(crate) fn breaker_state(&self, spec: &BreakerSpec, now_us: u64) -> BreakerState {
        self.breaker.state(spec, now_us)
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Time to first token of a request of reference size, and how much of it is still believed.
    pub(crate) fn ttft_us(&self, now_us: u64) -> Option<(f32, f32)> {
        self.ttft
            .read(now_us)
            .map(|r| (r.value, fade(r.age_ms, LATENCY_TAU_MS)))
    }

    pub(crate) fn success_ratio(&self, now_us: u64) -> f32 {
        self.success.read(now_us).map_or(1.0, |r| {
            1.0 - (1.0 - r.value) * fade(r.age_ms, SUCCESS_TAU_MS)
        })
    }

    pub(crate) fn admits_extra(&self) -> bool {
        self.credit.admits_extra()
    }

    /// Ejects a deployment that lets several requests wait and answers none of them: a black hole
    /// shows itself long before its timeouts do.
    pub(crate) fn eject_if_stalled(&self, spec: &BreakerSpec, now_us: u64) -> Option<Transition> {
        if self.waiting.load(Relaxed) < spec.stall_waiting_min {
            return None;
        }
        let silent_us = now_us.saturating_sub(self.progress_us.load(Relaxed));
        let (expected_us, _) = self.ttft_us(now_us)?;
        let patience_us = (spec.stall_ms_min as f32 * 1_000.0).max(spec.stall_factor * expected_us);
        (silent_us as f32 > patience_us)
            .then(|| self.breaker.stall(spec, now_us))
            .flatten()
    }

    pub(crate) fn snapshot(&self, spec: &BreakerSpec, now_us: u64) -> HealthSnapshot {
        HealthSnapshot {
            state: self.breaker.state(spec, now_us),
            in_flight: self.in_flight(),
            waiting: self.waiting.load(Relaxed),
            ttft_ms: self.ttft_us(now_us).map(|(us, _)| us / 1_000.0),
            success_ratio: self.success_ratio(now_us),
            tries: self.tries.load(Relaxed),
            failures: self.failures.load(Relaxed),
            ejections: self.breaker.ejections_total(),
            last_cause: (self.breaker.ejections_total() > 0).then(|| self.breaker.cause()),
            admits_extra: self.admits_extra(),
        }
    }

    fn enter(&self, now_us: u64) {
        self.in_flight.fetch_add(1, Relaxed);
        if self.waiting.fetch_add(1, Relaxed) == 0 {
            self.progress_us.store(now_us, Relaxed);
        }
    }

    fn leave(&self, waiting: bool) {
        self.in_flight.fetch_sub(1, Relaxed);
        if waiting {
            self.waiting.fetch_sub(1, Relaxed);
        }
    }

    fn observe_latency(&self, normalised_us: f32, now_us: u64) {
        self.ttft.update(now_us, |before| match before {
            None => normalised_us,
            Some(b) => {
                let step = if normalised_us > b.value {
                    LATENCY_RISE
                } else {
                    LATENCY_FALL
                };
                // An old value weighs less against a new observation than a fresh one does.
                let kept = (1.0 - step) * fade(b.age_ms, LATENCY_TAU_MS);
                normalised_us + (b.value - normalised_us) * kept
            }
        });
    }

    fn observe_outcome(&self, succeeded: bool, now_us: u64) -> f32 {
        let outcome = if succeeded { 1.0 } else { 0.0 };
        self.success.update(now_us, |before| {
            let value = before.map_or(1.0, |b| {
                1.0 - (1.0 - b.value) * fade(b.age_ms, SUCCESS_TAU_MS)
            });
            value + SUCCESS_STEP * (outcome - value)
        });
        self.success_ratio(now_us)
    }

    fn sign_of_life(&self, now_us: u64) -> Option<Transition> {
        self.progress_us.store(now_us, Relaxed);
        self.breaker.succeed(now_us)
    }

    fn succeed(&self, now_us: u64) {
        self.tries.fetch_add(1, Relaxed);
        self.observe_outcome(true, now_us);
        self.credit.succeed();
    }

    fn fail(&self, spec: &BreakerSpec, failure: &Failure, now_us: u64) -> Option<Transition> {
        let tries = self.tries.fetch_add(1, Relaxed) + 1;
        self.failures.fetch_add(1, Relaxed);
        let success = self.observe_outcome(false, now_us);
        self.credit.fail();
        let tries = u32::try_from(tries).unwrap_or(u32::MAX);
        self.breaker.fail(spec, failure, success, tries, now_us)
    }
}

/// What [`Health`] says at one moment, for metrics and `weir routes`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HealthSnapshot {
    pub state: BreakerState,
    pub in_flight: u32,
    pub waiting: u32,
    /// Of a request of 1000 input tokens.
    pub ttft_ms: Option<f32>,
    pub success_ratio: f32,
    pub tries: u64,
    pub failures: u64,
    pub ejections: u64,
    pub last_cause: Option<EjectCause>,
    pub admits_extra: bool,
}

/// One try under way. Ends by [`succeed`](Self::succeed), [`fail`](Self::fail), or by being
/// dropped, which says nothing about the deployment.
#[derive(Debug)]
pub struct InFlight {
    health: Arc<Health>,
    breaker: BreakerSpec,
    /// Set for an extra try: it gets its token back when it answers.
    budget: Option<Arc<RetryBudget>>,
    started_us: u64,
    input_tokens: u32,
    waiting: bool,
    probe: bool,
}

impl InFlight {
    pub(crate) fn enter(
        health: Arc<Health>,
        breaker: BreakerSpec,
        budget: Option<Arc<RetryBudget>>,
        input_tokens: u32,
        probe: bool,
        now_us: u64,
    ) -> Self {
        health.enter(now_us);
        if probe {
            health.breaker.probe_started(now_us);
        }
        Self {
            health,
            breaker,
            budget,
            started_us: now_us,
            input_tokens,
            waiting: true,
            probe,
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
        let transition = if self.waiting {
            self.answered(output_tokens, now_us)
        } else {
            None
        };
        self.health.succeed(now_us);
        self.probe = false;
        transition
    }

    /// The try failed.
    pub fn fail(mut self, failure: &Failure, now_us: u64) -> Option<Transition> {
        if !failure.kind.blames_deployment() {
            // It answered, if only to say no.
            return if failure.kind == FailureKind::ClientGone {
                None
            } else {
                self.health.sign_of_life(now_us)
            };
        }
        self.probe = false;
        if waited_in_vain(failure.kind) && self.waiting {
            // No answer by now is an observation of "at least this long".
            self.health
                .observe_latency(self.normalised_us(0, now_us), now_us);
        }
        self.health.fail(&self.breaker, failure, now_us)
    }

    fn answered(&mut self, output_tokens: u32, now_us: u64) -> Option<Transition> {
        self.waiting = false;
        self.health.waiting.fetch_sub(1, Relaxed);
        self.health
            .observe_latency(self.normalised_us(output_tokens, now_us), now_us);
        if let Some(budget) = self.budget.take() {
            budget.refund();
        }
        self.probe = false;
        self.health.sign_of_life(now_us)
    }

    fn normalised_us(&self, output_tokens: u32, now_us: u64) -> f32 {
        let taken_us = now_us.saturating_sub(self.started_us) as f32;
        taken_us / size_factor(self.input_tokens, output_tokens)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.health.leave(self.waiting);
        if self.probe {
            self.health.breaker.probe_abandoned();
        }
    }
}

fn waited_in_vain(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::ConnectTimeout | FailureKind::FirstTokenTimeout | FailureKind::TotalTimeout
    )
}

/// How much longer than a request of reference size one of this size takes until `output_tokens`
/// of its answer are there.
pub(crate) fn size_factor(input_tokens: u32, output_tokens: u32) -> f32 {
    let work =
        FIXED_TOKENS + input_tokens as f32 + INPUT_TOKENS_PER_OUTPUT_TOKEN * output_tokens as f32;
    work / (FIXED_TOKENS + REFERENCE_TOKENS)
}
