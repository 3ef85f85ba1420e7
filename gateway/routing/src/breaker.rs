//! Taking a failing deployment out of service, and letting it come back.
//!
//! ```text
//!            failures, stall, 429 with Retry-After
//!   closed ────────────────────────────────────────► open (until t)
//!     ▲  share grows from a tenth to all                │ t passed
//!     │                                                 ▼
//!     └────────────── a probe answers ◄────────────  half open ── a probe fails ──► open (longer)
//! ```
//!
//! Probes are live requests: half open means that one request at a time may be sent here, with a
//! fallback behind it. There is no timer: states change when requests read them or finish.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::failure::Failure;
use crate::packed::US_PER_MS;
use crate::random::mix;
use crate::spec::BreakerSpec;

/// Why a deployment was ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EjectCause {
    /// Several failures in a row.
    Consecutive,
    /// Too large a share of recent attempts failed.
    FailureRatio,
    /// Requests wait and nothing comes back.
    Stalled,
    /// The provider sent `Retry-After`.
    RetryAfter,
    /// The provider does not accept the key, or its account is empty.
    Key,
    /// A probe failed.
    ProbeFailed,
}

impl EjectCause {
    const ALL: [Self; 6] = [
        Self::Consecutive,
        Self::FailureRatio,
        Self::Stalled,
        Self::RetryAfter,
        Self::Key,
        Self::ProbeFailed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive_failures",
            Self::FailureRatio => "failure_ratio",
            Self::Stalled => "stalled",
            Self::RetryAfter => "retry_after",
            Self::Key => "key",
            Self::ProbeFailed => "probe_failed",
        }
    }

    /// Whether the provider itself refuses requests for now.
    pub(crate) fn was_told(self) -> bool {
        matches!(self, Self::RetryAfter | Self::Key)
    }
}

/// A change of state that is recorded as an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    Ejected { cause: EjectCause, until_us: u64 },
    Recovered,
}

/// State of a breaker at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BreakerState {
    /// In service. `ramp` is 1, or less while its share grows back after an ejection.
    Closed { ramp: f32 },
    /// Out of service.
    Open { until_us: u64, cause: EjectCause },
    /// Its time out is over; a probe may be sent.
    HalfOpen { probe_due: bool },
}

impl BreakerState {
    /// The name used in metrics, events and `weir routes`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed { ramp } if ramp < 1.0 => "slow_start",
            Self::Closed { .. } => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen { .. } => "half_open",
        }
    }

    /// The worse of two states: a deployment's and its key's.
    pub(crate) fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Closed { ramp: a }, Self::Closed { ramp: b }) => Self::Closed { ramp: a.min(b) },
            (Self::Open { until_us: a, .. }, Self::Open { until_us: b, .. }) => {
                if a >= b {
                    self
                } else {
                    other
                }
            }
            (Self::Open { .. }, _) | (Self::HalfOpen { .. }, Self::Closed { .. }) => self,
            (Self::HalfOpen { probe_due: a }, Self::HalfOpen { probe_due: b }) => {
                Self::HalfOpen { probe_due: a && b }
            }
            _ => other,
        }
    }
}

/// A circuit breaker. One per deployment, and one per provider key.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    /// Lowest bit: open. The rest: open until, or closed since (0 = never ejected).
    state: AtomicU64,
    cause: AtomicU8,
    /// Failures in a row, and when the first of them was seen.
    streak: AtomicU32,
    streak_since_us: AtomicU64,
    /// Attempts that began since then.
    streak_starts: AtomicU32,
    /// Ejections since the last full recovery; each doubles the time out.
    ejections: AtomicU32,
    ejections_total: AtomicU64,
    probe_at_us: AtomicU64,
}

const OPEN: u64 = 1;
/// A recovered deployment starts at this share of its weight.
const RAMP_START: f32 = 0.1;
/// Attempts below which a failure ratio means nothing.
const RATIO_ATTEMPTS_MIN: f32 = 20.0;

impl Breaker {
    pub(crate) fn state(&self, spec: &BreakerSpec, now_us: u64) -> BreakerState {
        let word = self.state.load(Relaxed);
        let time_us = word >> 1;
        if word & OPEN == 0 {
            return BreakerState::Closed {
                ramp: ramp(spec, time_us, now_us),
            };
        }
        if now_us < time_us {
            return BreakerState::Open {
                until_us: time_us,
                cause: self.cause(),
            };
        }
        // A probe that hangs must not keep out a deployment that has recovered meanwhile.
        let next_us = self.probe_at_us.load(Relaxed) + u64::from(spec.open_ms) * US_PER_MS;
        BreakerState::HalfOpen {
            probe_due: now_us >= next_us,
        }
    }

    pub(crate) fn ejections_total(&self) -> u64 {
        self.ejections_total.load(Relaxed)
    }

    pub(crate) fn cause(&self) -> EjectCause {
        let index = usize::from(self.cause.load(Relaxed));
        EjectCause::ALL
            .get(index)
            .copied()
            .unwrap_or(EjectCause::Consecutive)
    }

    pub(crate) fn attempt_started(&self) {
        if self.streak.load(Relaxed) > 0 {
            self.streak_starts.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn probe_started(&self, now_us: u64) {
        self.probe_at_us.store(now_us, Relaxed);
    }

    /// Makes an ejected provider key half open: the key was replaced, so the next request probes.
    /// Attempts that began earlier count no more.
    pub(crate) fn half_open(&self, now_us: u64) {
        let word = self.state.load(Relaxed);
        if word & OPEN != 0 && self.cause() == EjectCause::Key {
            self.probe_at_us.store(0, Relaxed);
            self.swap(word, now_us << 1 | OPEN);
        }
    }

    /// An answer came back. It closes the breaker if it answers a probe; an answer to a request
    /// that was sent before an ejection says nothing new, except that nothing is stalled.
    pub(crate) fn succeed(&self, probe: bool, started_us: u64, now_us: u64) -> Option<Transition> {
        if self.answer_is_news(started_us) {
            self.streak.store(0, Relaxed);
        }
        let word = self.state.load(Relaxed);
        if word & OPEN == 0 {
            return None;
        }
        if !probe && now_us < word >> 1 {
            let refuted = self.cause() == EjectCause::Stalled;
            // A false alarm costs nothing: the share comes back whole.
            return (refuted && self.swap(word, 0)).then_some(Transition::Recovered);
        }
        self.swap(word, now_us << 1)
            .then_some(Transition::Recovered)
    }

    /// Whether an answer contradicts the last failures. One to a request that was sent before the
    /// first of them does not: what serves old requests may refuse new ones.
    pub(crate) fn answer_is_news(&self, started_us: u64) -> bool {
        self.streak.load(Relaxed) == 0 || started_us >= self.streak_since_us.load(Relaxed)
    }

    /// Whether a failure says something about the present. An attempt that began before the last
    /// change of state belongs to what led to that change.
    pub(crate) fn is_news(&self, started_us: u64) -> bool {
        started_us >= self.state.load(Relaxed) >> 1
    }

    /// An attempt failed through the deployment's fault. `success` is its recent success ratio and
    /// `attempts` the number of attempts that it rests on.
    pub(crate) fn fail(
        &self,
        spec: &BreakerSpec,
        failure: &Failure,
        (success, attempts): (f32, f32),
        started_us: u64,
        now_us: u64,
    ) -> Option<Transition> {
        let word = self.state.load(Relaxed);
        let told_us = told_to_wait_us(spec, failure);
        if !self.is_news(started_us) {
            // It refused a key that is ejected already, or was replaced.
            let told_us = told_us.filter(|_| !failure.blames_key());
            return self.prolong(word, told_us, now_us);
        }
        let streak = self.streak.fetch_add(1, Relaxed).saturating_add(1);
        if streak == 1 {
            self.streak_since_us.store(now_us, Relaxed);
            self.streak_starts.store(1, Relaxed);
        }
        let cause = match told_us {
            _ if failure.blames_key() => EjectCause::Key,
            Some(_) => EjectCause::RetryAfter,
            _ if word & OPEN != 0 => EjectCause::ProbeFailed,
            _ if self.is_no_chance(spec, streak, (success, attempts)) => EjectCause::Consecutive,
            _ if attempts >= RATIO_ATTEMPTS_MIN && 1.0 - success > spec.failure_ratio => {
                EjectCause::FailureRatio
            }
            _ => return None,
        };
        self.open(spec, word, cause, told_us, now_us)
    }

    /// Whether so many failures in a row are more than bad luck: a provider with this failure ratio
    /// hardly ever has as many, and they are most of the requests sent meanwhile. Failures come back
    /// sooner than answers, so at a high rate many of them come in a row.
    fn is_no_chance(
        &self,
        spec: &BreakerSpec,
        streak: u32,
        (success, attempts): (f32, f32),
    ) -> bool {
        const HARDLY_EVER_LN: f32 = 12.0;
        const MOST: f32 = 0.6;
        if streak < spec.consecutive_failures {
            return false;
        }
        let streak = streak as f32;
        let before = (attempts * (1.0 - success) - streak).max(0.0) / (attempts - streak).max(1.0);
        let usual_ln = before.clamp(0.001, 0.9).ln().abs();
        let starts = self.streak_starts.load(Relaxed) as f32;
        streak * usual_ln >= HARDLY_EVER_LN && streak >= MOST * starts
    }

    /// Ejects a stalled deployment.
    pub(crate) fn stall(&self, spec: &BreakerSpec, now_us: u64) -> Option<Transition> {
        let word = self.state.load(Relaxed);
        if word & OPEN != 0 {
            return None;
        }
        self.open(spec, word, EjectCause::Stalled, None, now_us)
    }

    fn prolong(&self, word: u64, told_us: Option<u64>, now_us: u64) -> Option<Transition> {
        let until_us = now_us + told_us?;
        if word & OPEN == 0 || until_us <= word >> 1 || !self.swap(word, until_us << 1 | OPEN) {
            return None;
        }
        self.cause.store(EjectCause::RetryAfter as u8, Relaxed);
        Some(Transition::Ejected {
            cause: EjectCause::RetryAfter,
            until_us,
        })
    }

    fn open(
        &self,
        spec: &BreakerSpec,
        word: u64,
        cause: EjectCause,
        told_us: Option<u64>,
        now_us: u64,
    ) -> Option<Transition> {
        let recovered = word & OPEN == 0 && ramp(spec, word >> 1, now_us) >= 1.0;
        let before = if recovered {
            0
        } else {
            self.ejections.load(Relaxed)
        };
        let until_us = now_us
            + match told_us {
                // A provider that refuses the probe as well was wrong about when to come back.
                Some(told_us) if word & OPEN != 0 => told_us.max(time_out_us(spec, before, now_us)),
                Some(told_us) => told_us,
                None => time_out_us(spec, before, now_us),
            };
        if !self.swap(word, until_us << 1 | OPEN) {
            // Another thread changed the state in the same moment; its verdict is as fresh.
            return None;
        }
        self.cause.store(cause as u8, Relaxed);
        self.ejections.store(before.saturating_add(1), Relaxed);
        self.ejections_total.fetch_add(1, Relaxed);
        self.probe_at_us.store(0, Relaxed);
        Some(Transition::Ejected { cause, until_us })
    }

    fn swap(&self, from: u64, to: u64) -> bool {
        self.state
            .compare_exchange(from, to, Relaxed, Relaxed)
            .is_ok()
    }
}

fn ramp(spec: &BreakerSpec, closed_since_us: u64, now_us: u64) -> f32 {
    if closed_since_us == 0 || spec.slow_start_ms == 0 {
        return 1.0;
    }
    let whole_us = u64::from(spec.slow_start_ms) * US_PER_MS;
    let passed_us = now_us.saturating_sub(closed_since_us);
    if passed_us >= whole_us {
        return 1.0;
    }
    RAMP_START + (1.0 - RAMP_START) * (passed_us as f32 / whole_us as f32)
}

fn told_to_wait_us(spec: &BreakerSpec, failure: &Failure) -> Option<u64> {
    let most_us = u64::from(spec.retry_after_ms_max) * US_PER_MS;
    // A refused key stays refused until an operator acts: probe it once in a while.
    if failure.blames_key() {
        return Some(most_us);
    }
    let told_us = failure.retry_after_us.filter(|us| *us > 0);
    told_us.map(|us| us.min(most_us))
}

/// Doubles with each ejection, give or take a tenth so that replicas do not probe in step.
fn time_out_us(spec: &BreakerSpec, ejections_before: u32, now_us: u64) -> u64 {
    let doubled = u64::from(spec.open_ms) << ejections_before.min(20);
    let whole_us = doubled.min(u64::from(spec.open_ms_max)) * US_PER_MS;
    let tenth_us = whole_us / 10;
    whole_us - tenth_us + mix(now_us) % (2 * tenth_us + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;

    const S: u64 = 1_000_000;

    fn fail(breaker: &Breaker, kind: FailureKind, now_us: u64) -> Option<Transition> {
        let failure = Failure::new(kind);
        breaker.fail(
            &BreakerSpec::default(),
            &failure,
            (0.9, 100.0),
            now_us,
            now_us,
        )
    }

    fn state(breaker: &Breaker, now_us: u64) -> BreakerState {
        breaker.state(&BreakerSpec::default(), now_us)
    }

    fn ejected(breaker: &Breaker, now_us: u64) -> u64 {
        for _ in 0..4 {
            assert_eq!(fail(breaker, FailureKind::ServerError, now_us), None);
        }
        match fail(breaker, FailureKind::ServerError, now_us) {
            Some(Transition::Ejected {
                cause: EjectCause::Consecutive,
                until_us,
            }) => until_us,
            other => panic!("not ejected: {other:?}"),
        }
    }

    #[test]
    fn a_key_that_was_replaced_is_tried_at_once_and_old_refusals_say_nothing() {
        let breaker = Breaker::default();
        assert!(fail(&breaker, FailureKind::Auth, 10 * S).is_some());
        assert!(matches!(state(&breaker, 20 * S), BreakerState::Open { .. }));
        breaker.half_open(20 * S);
        let probe = BreakerState::HalfOpen { probe_due: true };
        assert_eq!(state(&breaker, 20 * S), probe);
        let (spec, refused) = (BreakerSpec::default(), Failure::new(FailureKind::Auth));
        assert_eq!(
            breaker.fail(&spec, &refused, (0.0, 0.0), 19 * S, 21 * S),
            None
        );
        assert_eq!(state(&breaker, 21 * S), probe);
        let recovered = breaker.succeed(true, 21 * S, 22 * S);
        assert_eq!(recovered, Some(Transition::Recovered));
    }

    #[test]
    fn five_failures_in_a_row_eject_for_about_a_second() {
        let breaker = Breaker::default();
        let until_us = ejected(&breaker, 10 * S);
        assert!((10_900_000..=11_100_000).contains(&until_us));
        assert!(matches!(
            state(&breaker, until_us - 1),
            BreakerState::Open { .. }
        ));
        assert_eq!(
            state(&breaker, until_us),
            BreakerState::HalfOpen { probe_due: true }
        );
    }

    #[test]
    fn who_refuses_every_probe_is_probed_less_often_than_he_asks_for() {
        let breaker = Breaker::default();
        let refusal = Failure {
            retry_after_us: Some(S),
            ..Failure::new(FailureKind::RateLimited)
        };
        let spec = BreakerSpec::default();
        let mut now_us = 10 * S;
        for least_us in [S, 1_700_000, 3_500_000, 4_400_000] {
            let ejected = breaker.fail(&spec, &refusal, (0.9, 100.0), now_us, now_us);
            let Some(Transition::Ejected { until_us, .. }) = ejected else {
                panic!("not ejected: {ejected:?}");
            };
            assert!(until_us - now_us >= least_us, "{}", until_us - now_us);
            now_us = until_us;
        }
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        let breaker = Breaker::default();
        for _ in 0..4 {
            fail(&breaker, FailureKind::ServerError, S);
        }
        assert_eq!(breaker.succeed(false, S, S), None);
        ejected(&breaker, S);
    }

    #[test]
    fn answers_to_requests_from_before_the_failures_do_not_hide_them() {
        let breaker = Breaker::default();
        for n in 0..5 {
            assert_eq!(breaker.succeed(false, 9 * S, 10 * S + n), None);
            fail(&breaker, FailureKind::Overloaded, 10 * S + n);
        }
        assert!(matches!(
            state(&breaker, 10 * S + 5),
            BreakerState::Open { .. }
        ));
    }

    #[test]
    fn failures_among_many_pending_requests_are_not_a_row_of_failures() {
        let breaker = Breaker::default();
        fail(&breaker, FailureKind::Overloaded, 10 * S);
        (0..40).for_each(|_| breaker.attempt_started());
        for n in 0..12 {
            assert_eq!(fail(&breaker, FailureKind::Overloaded, 10 * S + n), None);
        }
    }

    #[test]
    fn a_provider_that_often_fails_needs_more_failures_in_a_row() {
        let in_a_row = |success: f32| {
            let breaker = Breaker::default();
            (1..100).find(|_| {
                let failure = Failure::new(FailureKind::ServerError);
                let evidence = (success, 100.0);
                breaker
                    .fail(&BreakerSpec::default(), &failure, evidence, S, S)
                    .is_some()
            })
        };
        assert_eq!(in_a_row(0.99), Some(5));
        assert!(in_a_row(0.65).is_some_and(|failures| failures >= 9));
    }

    #[test]
    fn one_probe_at_a_time_and_each_failed_one_doubles_the_time_out() {
        let breaker = Breaker::default();
        let mut now_us = ejected(&breaker, 10 * S);
        for expected_s in [2, 4, 5, 5] {
            breaker.probe_started(now_us);
            assert_eq!(
                state(&breaker, now_us),
                BreakerState::HalfOpen { probe_due: false }
            );
            let Some(Transition::Ejected { cause, until_us }) =
                fail(&breaker, FailureKind::Connect, now_us)
            else {
                panic!("a failed probe must open again");
            };
            assert_eq!(cause, EjectCause::ProbeFailed);
            let out_us = until_us - now_us;
            assert!(
                out_us.abs_diff(expected_s * S) <= expected_s * S / 10,
                "{out_us}"
            );
            now_us = until_us;
        }
    }

    #[test]
    fn an_answered_probe_closes_and_the_share_grows_back() {
        let breaker = Breaker::default();
        let now_us = ejected(&breaker, 10 * S);
        breaker.probe_started(now_us);
        assert_eq!(
            breaker.succeed(true, now_us, now_us),
            Some(Transition::Recovered)
        );
        assert_eq!(
            state(&breaker, now_us),
            BreakerState::Closed { ramp: RAMP_START }
        );
        let half = state(&breaker, now_us + 5 * S);
        assert!(matches!(half, BreakerState::Closed { ramp } if (ramp - 0.55).abs() < 1e-4));
        assert_eq!(
            state(&breaker, now_us + 10 * S),
            BreakerState::Closed { ramp: 1.0 }
        );
    }

    #[test]
    fn a_hanging_probe_gives_way_to_the_next_after_the_first_time_out() {
        let breaker = Breaker::default();
        let now_us = ejected(&breaker, 10 * S);
        breaker.probe_started(now_us);
        assert_eq!(
            state(&breaker, now_us + S - 1),
            BreakerState::HalfOpen { probe_due: false }
        );
        assert_eq!(
            state(&breaker, now_us + S),
            BreakerState::HalfOpen { probe_due: true }
        );
    }

    #[test]
    fn retry_after_ejects_at_once_for_as_long_as_it_says_within_reason() {
        let told = |seconds: u64| {
            let failure = Failure {
                retry_after_us: Some(seconds * S),
                ..Failure::new(FailureKind::RateLimited)
            };
            Breaker::default().fail(
                &BreakerSpec::default(),
                &failure,
                (1.0, 0.0),
                10 * S,
                10 * S,
            )
        };
        let until = |until_us| {
            Some(Transition::Ejected {
                cause: EjectCause::RetryAfter,
                until_us,
            })
        };
        assert_eq!(told(7), until(17 * S));
        assert_eq!(told(86_400), until(70 * S));
        assert_eq!(told(0), None);
    }

    #[test]
    fn failures_of_requests_sent_before_an_ejection_do_not_prolong_or_repeat_it() {
        let breaker = Breaker::default();
        let now_us = ejected(&breaker, 10 * S);
        let late = |at_us| {
            let failure = Failure::new(FailureKind::FirstTokenTimeout);
            breaker.fail(
                &BreakerSpec::default(),
                &failure,
                (0.1, 100.0),
                9 * S,
                at_us,
            )
        };
        assert_eq!(late(now_us), None);
        breaker.probe_started(now_us);
        assert_eq!(
            breaker.succeed(true, now_us, now_us),
            Some(Transition::Recovered)
        );
        for _ in 0..20 {
            assert_eq!(late(now_us + S), None);
        }
        assert!(matches!(
            state(&breaker, now_us + S),
            BreakerState::Closed { .. }
        ));
    }

    #[test]
    fn an_answer_to_a_last_resort_closes_before_the_time() {
        let breaker = Breaker::default();
        ejected(&breaker, 10 * S);
        assert_eq!(
            breaker.succeed(true, 10 * S, 10 * S + 1),
            Some(Transition::Recovered)
        );
    }

    #[test]
    fn late_answers_do_not_close_an_open_breaker_unless_they_refute_a_stall() {
        let breaker = Breaker::default();
        ejected(&breaker, 10 * S);
        assert_eq!(breaker.succeed(false, 9 * S, 10 * S + 1), None);

        let stalled = Breaker::default();
        assert!(stalled.stall(&BreakerSpec::default(), 10 * S).is_some());
        assert_eq!(
            stalled.succeed(false, 9 * S, 10 * S + 1),
            Some(Transition::Recovered)
        );
    }
}
