//! What this process has seen of one deployment: the fast half of routing's two timescales.
//!
//! All of it is atomics, shared by every thread and kept over configuration reloads. A request's
//! attempt holds an [`InFlight`](crate::InFlight) and reports its outcome there; dropping it without an
//! outcome (the client left, the hedge lost) only frees its place.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use weir_schemas::table::size;

use crate::breaker::{Breaker, BreakerState, EjectCause, Transition};
use crate::budget::RetryThrottle;
use crate::ewma::{Ewma, fade};
use crate::failure::Failure;
use crate::spec::BreakerSpec;

/// Everything seen of one deployment. One per deployment and process.
// Aligned so that two deployments never share a cache line (128: x86 fetches lines in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Health {
    in_flight: AtomicU32,
    /// Attempts in flight that have no first token yet.
    waiting: AtomicU32,
    /// Sum of the tokens that they wait for: prompts, and answers that come in one piece.
    waiting_tokens: AtomicU64,
    /// When the last sign of life came, or the last of the first few waiting attempts was sent.
    progress_us: AtomicU64,
    /// How many were waiting then: the evidence that a silence since rests on.
    witnesses: AtomicU32,
    /// Microseconds to the first token of a request of reference size; rises fast, falls slowly.
    ttft: Ewma,
    /// Its 95th percentile.
    ttft_p95: Ewma,
    /// Share of recent attempts that succeeded, per attempt.
    success: Ewma,
    breaker: Breaker,
    credit: RetryThrottle,
    /// Attempts and failures of about the last minute.
    recent_attempts: Ewma,
    recent_failures: Ewma,
    attempts: AtomicU64,
    failures: AtomicU64,
}

/// How long a latency is remembered.
const LATENCY_TAU_MS: f32 = 30_000.0;
/// Weight of an observation above the average.
const LATENCY_RISE: f32 = 0.3;
/// Weight of one below it.
const LATENCY_FALL: f32 = 0.1;
/// Attempts below which a 95th percentile is a guess.
const PERCENTILE_ATTEMPTS_MIN: u64 = 20;
/// Relative step of the quantile estimate.
const QUANTILE_STEP: f32 = 0.2;
/// Weight of one attempt in the success ratio.
const SUCCESS_STEP: f32 = 0.1;
/// How long a failure is remembered.
const SUCCESS_TAU_MS: f32 = 10_000.0;
/// Time over which errors are counted for an error ratio.
const RECENT_TAU_MS: f32 = 60_000.0;

/// Which request asks whether a deployment is stalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StallObserver {
    /// One not sent yet. If this process itself stood still, answers to others may have arrived
    /// unread.
    NewRequest,
    /// One that waits there, and knows that no answer has come.
    WaitingRequest,
}

/// A latency, and how far it is still trusted: 1 when fresh.
#[derive(Clone, Copy, Default)]
pub(crate) struct LatencyEstimate {
    pub(crate) us: f32,
    pub(crate) belief: f32,
}

impl Health {
    pub(crate) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Time to first token of a request of reference size.
    pub(crate) fn ttft(&self, now_us: u64) -> LatencyEstimate {
        seen(&self.ttft, now_us)
    }

    pub(crate) fn ttft_p95(&self, now_us: u64) -> LatencyEstimate {
        seen(&self.ttft_p95, now_us)
    }

    pub(crate) fn success_ratio(&self, now_us: u64) -> f32 {
        self.success.read(now_us).map_or(1.0, |r| {
            1.0 - (1.0 - r.value) * fade(r.age_ms, SUCCESS_TAU_MS)
        })
    }

    /// Attempts and failures of about the last minute.
    pub(crate) fn recent(&self, now_us: u64) -> (f32, f32) {
        let count = |ewma: &Ewma| {
            ewma.read(now_us)
                .map_or(0.0, |r| r.value * fade(r.age_ms, RECENT_TAU_MS))
        };
        (count(&self.recent_attempts), count(&self.recent_failures))
    }

    pub(crate) fn admits_extra(&self) -> bool {
        self.credit.admits_extra()
    }

    /// Ejects a deployment that has answered no request for longer than chance explains: a black hole shows
    /// itself long before its timeouts do. A false alarm ends with the next answer. `observer`
    /// is the request that asks.
    pub(crate) fn eject_if_stalled(
        &self,
        spec: &BreakerSpec,
        observer: StallObserver,
        now_us: u64,
    ) -> Option<Transition> {
        let waiting = self.waiting.load(Relaxed);
        if waiting == 0 {
            return None;
        }
        let silent_us = now_us.saturating_sub(self.progress_us.load(Relaxed)) as f32;
        let witnesses = self.witnesses.load(Relaxed).clamp(1, waiting);
        let few = spec.stall_waiting_min as f32 / witnesses as f32;
        let least_us = spec.stall_ms_min as f32 * 1_000.0 * few.clamp(1.0, 2.0);
        let late = self.ttft_p95(now_us);
        if silent_us <= least_us || late.belief == 0.0 {
            return None;
        }
        let mean_tokens = self.waiting_tokens.load(Relaxed) / u64::from(waiting);
        let mean_tokens = u32::try_from(mean_tokens).unwrap_or(u32::MAX);
        let may_be_few = observer == StallObserver::WaitingRequest
            && self.attempts.load(Relaxed) >= PERCENTILE_ATTEMPTS_MIN;
        if witnesses < spec.stall_waiting_min && !may_be_few {
            return None;
        }
        let patience_us = spec.stall_factor
            * late.us
            * size::factor(mean_tokens, 0)
            * patience(spec.stall_waiting_min, witnesses);
        (silent_us > patience_us)
            .then(|| self.breaker.stall(spec, now_us))
            .flatten()
    }

    pub(crate) fn snapshot(&self, state: BreakerState, now_us: u64) -> HealthSnapshot {
        let ms = |seen: LatencyEstimate| (seen.belief > 0.0).then_some(seen.us / 1_000.0);
        let ejections = self.breaker.ejections_total();
        HealthSnapshot {
            state,
            in_flight: self.in_flight(),
            waiting: self.waiting.load(Relaxed),
            ttft_ms: ms(self.ttft(now_us)),
            ttft_ms_p95: ms(self.ttft_p95(now_us)),
            success_ratio: self.success_ratio(now_us),
            attempts: self.attempts.load(Relaxed),
            failures: self.failures.load(Relaxed),
            ejections,
            last_cause: (ejections > 0).then(|| self.breaker.cause()),
            admits_extra: self.admits_extra(),
        }
    }

    /// An attempt was sent. Returns how many are in flight now.
    pub(crate) fn enter(&self, spec: &BreakerSpec, awaited_tokens: u32, now_us: u64) -> u32 {
        self.breaker.attempt_started();
        let in_flight = self.in_flight.fetch_add(1, Relaxed) + 1;
        self.waiting_tokens
            .fetch_add(u64::from(awaited_tokens), Relaxed);
        let waiting = self.waiting.fetch_add(1, Relaxed);
        if waiting < spec.stall_waiting_min {
            self.listen(waiting + 1, now_us);
        }
        in_flight
    }

    pub(crate) fn leave(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// An attempt waits for its first token no longer.
    pub(crate) fn waited(&self, awaited_tokens: u32) {
        self.waiting.fetch_sub(1, Relaxed);
        self.waiting_tokens
            .fetch_sub(u64::from(awaited_tokens), Relaxed);
    }

    /// The deployment gave a sign of life.
    pub(crate) fn progressed(&self, now_us: u64) {
        self.listen(self.waiting.load(Relaxed), now_us);
    }

    /// Starts to count silence, with so many attempts waiting.
    fn listen(&self, witnesses: u32, now_us: u64) {
        self.progress_us.store(now_us, Relaxed);
        self.witnesses.store(witnesses, Relaxed);
    }

    pub(crate) fn observe_latency(&self, at_reference_us: f32, now_us: u64) {
        self.ttft.update(now_us, |before| match before {
            None => at_reference_us,
            Some(b) => {
                let step = if at_reference_us > b.value {
                    LATENCY_RISE
                } else {
                    LATENCY_FALL
                };
                // An old value weighs less against a new observation than a fresh one does.
                let kept = (1.0 - step) * fade(b.age_ms, LATENCY_TAU_MS);
                at_reference_us + (b.value - at_reference_us) * kept
            }
        });
        // Ups and downs of a quantile balance when one observation in twenty lies above it (Ma,
        // Muthukrishnan and Sandler, "Frugal Streaming", 2013).
        self.ttft_p95.update(now_us, |before| match before {
            None => 1.5 * at_reference_us,
            Some(b) if at_reference_us > b.value => b.value * (1.0 + 0.95 * QUANTILE_STEP),
            Some(b) => b.value * (1.0 - 0.05 * QUANTILE_STEP),
        });
    }

    fn observe_success(&self, succeeded: bool, now_us: u64) {
        let outcome = if succeeded { 1.0 } else { 0.0 };
        self.success.update(now_us, |before| {
            let value = before.map_or(1.0, |b| {
                1.0 - (1.0 - b.value) * fade(b.age_ms, SUCCESS_TAU_MS)
            });
            value + SUCCESS_STEP * (outcome - value)
        });
    }

    /// A first token came.
    pub(crate) fn answered(&self, started_us: u64, now_us: u64) {
        self.credit.succeed();
        count(&self.recent_attempts, now_us);
        if self.breaker.answer_is_news(started_us) {
            self.observe_success(true, now_us);
        }
    }

    /// An attempt ended with a complete answer.
    pub(crate) fn succeeded(&self) {
        self.attempts.fetch_add(1, Relaxed);
    }

    /// An attempt failed, and says something about the present.
    pub(crate) fn observe_failure(&self, waiting: bool, now_us: u64) {
        self.credit.fail();
        self.observe_success(false, now_us);
        count(&self.recent_failures, now_us);
        if waiting {
            count(&self.recent_attempts, now_us);
        }
    }

    /// An attempt ended with a failure that is the deployment's fault.
    pub(crate) fn failed(
        &self,
        spec: &BreakerSpec,
        failure: &Failure,
        started_us: u64,
        now_us: u64,
    ) -> Option<Transition> {
        self.attempts.fetch_add(1, Relaxed);
        self.failures.fetch_add(1, Relaxed);
        let (attempts, failures) = self.recent(now_us);
        let evidence = (1.0 - failures / attempts.max(1.0), attempts);
        self.breaker
            .fail(spec, failure, evidence, started_us, now_us)
    }

    /// What was seen before a recovery is no guide to what comes after it.
    pub(crate) fn forget_failures(&self) {
        self.success.clear();
        self.recent_attempts.clear();
        self.recent_failures.clear();
    }
}

/// How many times the 95th percentile `witnesses` must wait in silence, to be as improbable as
/// `enough` that wait once as long: one in twenty is late, and how late follows the square of the
/// chance (a Pareto tail of index 2, heavier than that of recorded conversations). Requests that a
/// pause of the provider holds up together are no independent witnesses, so many of them do not
/// shorten it much.
fn patience(enough: u32, witnesses: u32) -> f32 {
    const LATE: f32 = 20.0;
    const TAIL_INDEX: f32 = 2.0;
    const LEAST: f32 = 0.5;
    let missing = enough as f32 / witnesses as f32 - 1.0;
    LATE.powf(missing / TAIL_INDEX).max(LEAST)
}

/// One more of about the last minute.
fn count(ewma: &Ewma, now_us: u64) {
    ewma.update(now_us, |before| {
        before.map_or(0.0, |b| b.value * fade(b.age_ms, RECENT_TAU_MS)) + 1.0
    });
}

fn seen(ewma: &Ewma, now_us: u64) -> LatencyEstimate {
    let seen = ewma.read(now_us).map(|r| LatencyEstimate {
        us: r.value,
        belief: fade(r.age_ms, LATENCY_TAU_MS),
    });
    seen.unwrap_or_default()
}

/// [`Health`] at one moment, for metrics and `weir routes`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HealthSnapshot {
    pub state: BreakerState,
    pub in_flight: u32,
    pub waiting: u32,
    /// Of a request of 1000 input tokens.
    pub ttft_ms: Option<f32>,
    pub ttft_ms_p95: Option<f32>,
    pub success_ratio: f32,
    pub attempts: u64,
    pub failures: u64,
    pub ejections: u64,
    pub last_cause: Option<EjectCause>,
    /// Whether retries, fallbacks and hedges may come here.
    pub admits_extra: bool,
}

impl HealthSnapshot {
    /// Whether it is out of service because its provider refuses the key.
    pub fn refuses_key(&self) -> bool {
        let is_out = matches!(
            self.state,
            BreakerState::Open { .. } | BreakerState::HalfOpen { .. }
        );
        is_out && self.last_cause == Some(EjectCause::Key)
    }
}
