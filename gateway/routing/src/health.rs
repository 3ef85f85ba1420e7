//! What this process has seen of one deployment: the fast half of routing's two timescales.
//!
//! All of it is atomics, shared by every thread and kept over configuration reloads. A request's
//! try holds an [`InFlight`]; what becomes of the try is told to it, and dropping it without a word
//! (the client left, the hedge lost) only gives the place back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use weir_schemas::table::size;

use crate::breaker::{Breaker, BreakerState, EjectCause, Transition};
use crate::budget::{Credit, RetryBudget};
use crate::ewma::{Ewma, fade};
use crate::failure::{Failure, FailureKind};
use crate::spec::BreakerSpec;
use crate::window::Window;

/// Everything seen of one deployment. One per deployment and process.
// Aligned so that two deployments never share a cache line (128: x86 fetches lines in pairs).
#[derive(Debug)]
#[repr(align(128))]
pub struct Health {
    in_flight: AtomicU32,
    /// Tries in flight that have no first token yet.
    waiting: AtomicU32,
    /// What they wait for, together: see [`Entry::awaited_tokens`].
    waiting_tokens: AtomicU64,
    /// When the last sign of life came, or when the last of the first few was sent that wait.
    progress_us: AtomicU64,
    /// How many were waiting then: what silence since means rests on them.
    witnesses: AtomicU32,
    /// Microseconds to the first token of a request of reference size; rises fast, falls slowly.
    ttft: Ewma,
    /// Its 95th percentile.
    ttft_p95: Ewma,
    /// Share of recent tries that succeeded, per try.
    success: Ewma,
    breaker: Breaker,
    credit: Credit,
    /// Tries and failures of about the last minute.
    recent_tries: Ewma,
    recent_failures: Ewma,
    tries: AtomicU64,
    failures: AtomicU64,
}

/// How long a latency is remembered.
const LATENCY_TAU_MS: f32 = 30_000.0;
/// How fast a higher latency is believed, per observation.
const LATENCY_RISE: f32 = 0.3;
/// How fast a lower one is.
const LATENCY_FALL: f32 = 0.1;
/// Tries without which a 95th percentile is a guess.
const PERCENTILE_TRIES_MIN: u64 = 20;
/// Relative step of the quantile estimate.
const QUANTILE_STEP: f32 = 0.2;
/// Weight of one try in the success ratio.
const SUCCESS_STEP: f32 = 0.1;
/// How long a failure is remembered.
const SUCCESS_TAU_MS: f32 = 10_000.0;
/// Over which time errors are counted for a ratio that is to be compared with a limit.
const RECENT_TAU_MS: f32 = 60_000.0;

/// Who looks whether a deployment is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// A request that has yet to be sent. If this process itself stood still, answers to others may
    /// be here and not read yet.
    OfANewcomer,
    /// A request that waits there, and knows that no answer has come.
    OfOneThatWaits,
}

/// A latency and how much it is still believed, 1 when fresh.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seen {
    pub(crate) us: f32,
    pub(crate) belief: f32,
}

impl Seen {
    pub(crate) const NOTHING: Self = Self {
        us: 0.0,
        belief: 0.0,
    };
}

impl Health {
    pub(crate) fn new() -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            waiting_tokens: AtomicU64::new(0),
            progress_us: AtomicU64::new(0),
            witnesses: AtomicU32::new(0),
            ttft: Ewma::empty(),
            ttft_p95: Ewma::empty(),
            success: Ewma::empty(),
            breaker: Breaker::closed(),
            credit: Credit::full(),
            recent_tries: Ewma::empty(),
            recent_failures: Ewma::empty(),
            tries: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    pub(crate) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Time to first token of a request of reference size.
    pub(crate) fn ttft(&self, now_us: u64) -> Seen {
        seen(&self.ttft, now_us)
    }

    pub(crate) fn ttft_p95(&self, now_us: u64) -> Seen {
        seen(&self.ttft_p95, now_us)
    }

    pub(crate) fn success_ratio(&self, now_us: u64) -> f32 {
        self.success.read(now_us).map_or(1.0, |r| {
            1.0 - (1.0 - r.value) * fade(r.age_ms, SUCCESS_TAU_MS)
        })
    }

    /// Tries and failures of about the last minute.
    pub(crate) fn recent(&self, now_us: u64) -> (f32, f32) {
        let count = |ewma: &Ewma| {
            ewma.read(now_us)
                .map_or(0.0, |r| r.value * fade(r.age_ms, RECENT_TAU_MS))
        };
        (count(&self.recent_tries), count(&self.recent_failures))
    }

    pub(crate) fn admits_extra(&self) -> bool {
        self.credit.admits_extra()
    }

    /// Ejects a deployment that answers nobody for longer than chance explains: a black hole shows
    /// itself long before its timeouts do. A false alarm ends with the next answer. `look` says who
    /// asks.
    pub(crate) fn eject_if_stalled(
        &self,
        spec: &BreakerSpec,
        look: Look,
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
        let may_be_few =
            look == Look::OfOneThatWaits && self.tries.load(Relaxed) >= PERCENTILE_TRIES_MIN;
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
        let ms = |seen: Seen| (seen.belief > 0.0).then_some(seen.us / 1_000.0);
        let ejections = self.breaker.ejections_total();
        HealthSnapshot {
            state,
            in_flight: self.in_flight(),
            waiting: self.waiting.load(Relaxed),
            ttft_ms: ms(self.ttft(now_us)),
            ttft_ms_p95: ms(self.ttft_p95(now_us)),
            success_ratio: self.success_ratio(now_us),
            tries: self.tries.load(Relaxed),
            failures: self.failures.load(Relaxed),
            ejections,
            last_cause: (ejections > 0).then(|| self.breaker.cause()),
            admits_extra: self.admits_extra(),
        }
    }

    /// Returns how many are in flight now.
    fn enter(&self, entry: &Entry, now_us: u64) -> u32 {
        self.breaker.try_started();
        let in_flight = self.in_flight.fetch_add(1, Relaxed) + 1;
        self.waiting_tokens
            .fetch_add(u64::from(entry.awaited_tokens), Relaxed);
        let waiting = self.waiting.fetch_add(1, Relaxed);
        if waiting < entry.breaker.stall_waiting_min {
            self.listen(waiting + 1, now_us);
        }
        in_flight
    }

    /// From now on, silence counts, and so many wait in it.
    fn listen(&self, witnesses: u32, now_us: u64) {
        self.progress_us.store(now_us, Relaxed);
        self.witnesses.store(witnesses, Relaxed);
    }

    fn waited(&self, entry: &Entry) {
        self.waiting.fetch_sub(1, Relaxed);
        self.waiting_tokens
            .fetch_sub(u64::from(entry.awaited_tokens), Relaxed);
    }

    fn observe_latency(&self, at_reference_us: f32, now_us: u64) {
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
    fn answered(&self, started_us: u64, now_us: u64) {
        self.credit.succeed();
        count(&self.recent_tries, now_us);
        if self.breaker.answer_is_news(started_us) {
            self.observe_success(true, now_us);
        }
    }

    fn failed(
        &self,
        spec: &BreakerSpec,
        failure: &Failure,
        this: &InFlight,
        now_us: u64,
    ) -> Option<Transition> {
        self.tries.fetch_add(1, Relaxed);
        self.failures.fetch_add(1, Relaxed);
        if this.entry.probe || self.breaker.is_news(this.started_us) {
            self.credit.fail();
            self.observe_success(false, now_us);
            count(&self.recent_failures, now_us);
            if this.waiting {
                count(&self.recent_tries, now_us);
            }
        }
        let (tries, failures) = self.recent(now_us);
        let evidence = (1.0 - failures / tries.max(1.0), tries);
        self.breaker
            .fail(spec, failure, evidence, this.started_us, now_us)
    }

    /// What was seen before a recovery is no guide to what comes after it.
    fn forget_failures(&self) {
        self.success.clear();
        self.recent_tries.clear();
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

fn seen(ewma: &Ewma, now_us: u64) -> Seen {
    ewma.read(now_us).map_or(Seen::NOTHING, |r| Seen {
        us: r.value,
        belief: fade(r.age_ms, LATENCY_TAU_MS),
    })
}

/// What [`Health`] says at one moment, for metrics and `weir routes`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HealthSnapshot {
    pub state: BreakerState,
    pub in_flight: u32,
    pub waiting: u32,
    /// Of a request of 1000 input tokens.
    pub ttft_ms: Option<f32>,
    pub ttft_ms_p95: Option<f32>,
    pub success_ratio: f32,
    pub tries: u64,
    pub failures: u64,
    pub ejections: u64,
    pub last_cause: Option<EjectCause>,
    /// Whether retries, fallbacks and hedges may come here.
    pub admits_extra: bool,
}

impl HealthSnapshot {
    /// Whether it is out because its provider refuses the key.
    pub fn refuses_key(&self) -> bool {
        let is_out = matches!(
            self.state,
            BreakerState::Open { .. } | BreakerState::HalfOpen { .. }
        );
        is_out && self.last_cause == Some(EjectCause::Key)
    }
}

/// What a try needs to know to report.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) health: Arc<Health>,
    /// Of the provider key, if it has a name.
    pub(crate) key: Option<Arc<Breaker>>,
    pub(crate) breaker: BreakerSpec,
    /// Set for an extra try: it gets its token back when it answers.
    pub(crate) budget: Option<Arc<RetryBudget>>,
    /// The target's window and the latency limit to be kept, if there is one.
    pub(crate) window: Option<WindowRef>,
    pub(crate) input_tokens: u32,
    /// What must be read and written until there is something to be seen, as input tokens: the
    /// prompt, and of an answer that comes in one piece all of it.
    pub(crate) awaited_tokens: u32,
    pub(crate) probe: bool,
}

#[derive(Debug)]
pub(crate) struct WindowRef {
    pub(crate) windows: Arc<[Window]>,
    pub(crate) target: usize,
    pub(crate) ttft_ms_max: u32,
}

/// One try under way. Ends by [`succeed`](Self::succeed), [`fail`](Self::fail), or by being
/// dropped, which says nothing about the deployment.
#[derive(Debug)]
pub struct InFlight {
    entry: Entry,
    started_us: u64,
    /// How many there were when this one was sent, itself included.
    of_in_flight: u32,
    waiting: bool,
}

impl InFlight {
    pub(crate) fn enter(entry: Entry, now_us: u64) -> Self {
        let of_in_flight = entry.health.enter(&entry, now_us);
        if entry.probe {
            entry.health.breaker.probe_started(now_us);
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
        let transition = if self.waiting {
            self.answered(output_tokens, now_us)
        } else {
            None
        };
        self.entry.health.tries.fetch_add(1, Relaxed);
        transition
    }

    /// The try failed.
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
        if failure.kind.blames_key()
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
        health.failed(&self.entry.breaker, failure, &self, now_us)
    }

    /// Another try's answer came first, and this one is cancelled. It was slow, which is worth
    /// knowing; a probe that is overtaken has failed.
    pub fn lose(self, now_us: u64) -> Option<Transition> {
        if self.entry.probe && self.waiting {
            return self.fail(&FailureKind::FirstTokenTimeout.into(), now_us);
        }
        self.waited_at_least(now_us);
        None
    }

    /// No answer by now is an observation of "at least this long".
    fn waited_at_least(&self, now_us: u64) {
        let health = &self.entry.health;
        if self.waiting && health.breaker.is_news(self.started_us) {
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
        self.entry.health.waited(&self.entry);
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
        let Entry {
            health, key, probe, ..
        } = &self.entry;
        health.listen(health.waiting.load(Relaxed), now_us);
        if let Some(key) = key {
            key.succeed(*probe, self.started_us, now_us);
        }
        let transition = health.breaker.succeed(*probe, self.started_us, now_us);
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
        self.entry.health.in_flight.fetch_sub(1, Relaxed);
        if self.waiting {
            self.entry.health.waited(&self.entry);
        }
    }
}

fn waited_in_vain(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::ConnectTimeout | FailureKind::FirstTokenTimeout | FailureKind::TotalTimeout
    )
}
