//! Keeps retries, fallbacks and hedges from becoming a retry storm.
//!
//! Two gates, and an extra attempt (retry, fallback or hedge) needs both:
//!
//! - [`RetryBudget`], one per alias, bounds the *wasted* extra attempts: each first attempt deposits a
//!   fraction of a token, each extra attempt takes a whole one and gives it back as soon as it proves
//!   useful. When everything fails the load on upstreams stays below `1 + ratio` times the
//!   clients' own; when a fallback is healthy it may serve every request.
//! - [`RetryThrottle`], one per deployment, closes a deployment to extra attempts (not to first ones) while
//!   almost half of its attempts fail. After gRPC's retry throttling (proposal A6).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::packed;

/// Tokens in thousandths (upper half) and the time of the last refill (lower half), as one word so
/// that a compare-and-swap keeps them together.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    state: AtomicU64,
    deposit_milli: u32,
    refill_milli_per_s: u32,
}

/// Tokens of a new alias, and the most that time alone refills.
const START_MILLI: u32 = 10_000;
/// Most that a busy alias saves up: all requests in flight to a deployment may fail at once.
const SAVED_MILLI_MAX: u32 = 100_000;
const TOKEN_MILLI: u32 = 1_000;

impl RetryBudget {
    pub(crate) fn new(deposit_milli: u32, refill_milli_per_s: u32) -> Self {
        let state = AtomicU64::new(packed::join(START_MILLI, 0));
        Self {
            state,
            deposit_milli,
            refill_milli_per_s,
        }
    }

    /// Takes over what the same alias had saved before a configuration change.
    pub(crate) fn carry(&self, from: &Self) {
        self.state.store(from.state.load(Relaxed), Relaxed);
    }

    pub(crate) fn deposit(&self) {
        self.add(self.deposit_milli);
    }

    /// Gives back what an extra attempt took, because it answered.
    pub(crate) fn refund(&self) {
        self.add(TOKEN_MILLI);
    }

    fn add(&self, milli: u32) {
        let _ = self.state.fetch_update(Relaxed, Relaxed, |state| {
            let (tokens, stamp) = packed::split(state);
            Some(packed::join(
                tokens.saturating_add(milli).min(SAVED_MILLI_MAX),
                stamp,
            ))
        });
    }

    pub(crate) fn try_take(&self, now_us: u64) -> bool {
        let now = packed::stamp(now_us);
        let taken = self.state.fetch_update(Relaxed, Relaxed, |state| {
            let (tokens, stamp) = packed::split(state);
            self.refilled(tokens, packed::elapsed_ms(stamp, now))
                .checked_sub(TOKEN_MILLI)
                .map(|left| packed::join(left, now))
        });
        taken.is_ok()
    }

    /// Time refills up to what a quiet alias starts with and never takes saved tokens away.
    fn refilled(&self, tokens: u32, elapsed_ms: u32) -> u32 {
        let gained = u64::from(elapsed_ms) * u64::from(self.refill_milli_per_s) / 1_000;
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        tokens.max(tokens.saturating_add(gained).min(START_MILLI))
    }
}

/// Trust of a deployment with extra attempts. At half or less it gets none.
#[derive(Debug)]
pub(crate) struct RetryThrottle(AtomicU32);

const CREDIT_FULL: u32 = 20_000;
const CREDIT_OPEN_ABOVE: u32 = CREDIT_FULL / 2;
const CREDIT_PER_SUCCESS: u32 = 800;
const CREDIT_PER_FAILURE: u32 = 1_000;

impl Default for RetryThrottle {
    fn default() -> Self {
        Self(AtomicU32::new(CREDIT_FULL))
    }
}

impl RetryThrottle {
    pub(crate) fn succeed(&self) {
        let _ = self.0.fetch_update(Relaxed, Relaxed, |credit| {
            Some(credit.saturating_add(CREDIT_PER_SUCCESS).min(CREDIT_FULL))
        });
    }

    pub(crate) fn fail(&self) {
        let _ = self.0.fetch_update(Relaxed, Relaxed, |credit| {
            Some(credit.saturating_sub(CREDIT_PER_FAILURE))
        });
    }

    pub(crate) fn admits_extra(&self) -> bool {
        self.0.load(Relaxed) > CREDIT_OPEN_ABOVE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wasted_extra_tries_stay_below_the_ratio() {
        let budget = RetryBudget::new(150, 0);
        let extra = (0..10_000).filter(|_| {
            budget.deposit();
            budget.try_take(1)
        });
        assert!((1_500..=1_510).contains(&extra.count()));
    }

    #[test]
    fn useful_extra_tries_are_unlimited() {
        let budget = RetryBudget::new(0, 0);
        for _ in 0..10_000 {
            assert!(budget.try_take(1));
            budget.refund();
        }
    }

    #[test]
    fn time_refills_a_quiet_alias_up_to_its_start() {
        let budget = RetryBudget::new(0, 500);
        while budget.try_take(0) {}
        assert!(!budget.try_take(1_900_000));
        assert!(budget.try_take(2_100_000));
        let day_us = 24 * 3_600 * 1_000_000;
        let taken = (0..100).filter(|_| budget.try_take(day_us)).count();
        assert_eq!(taken, 10);
    }

    #[test]
    fn credit_closes_on_failures_and_opens_on_successes() {
        let credit = RetryThrottle::default();
        for _ in 0..10 {
            assert!(credit.admits_extra());
            credit.fail();
        }
        assert!(!credit.admits_extra());
        credit.succeed();
        assert!(credit.admits_extra());
    }
}
