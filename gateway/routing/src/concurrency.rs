//! How many calls at once a target takes before its first tokens come too late.
//!
//! "Minimise cost while the 95th percentile stays below two seconds" sends everything to the
//! cheapest target, until that is what makes it slow. Its latency shows so only when the damage is
//! done, and shows it for a while after the load has gone; steering by it swings. Calls in flight
//! are known at once. So the window bounds those, and only the window is steered by latency, slowly:
//! too many late answers shrink it to four fifths of what was in flight, good ones at the brim let
//! it grow one by one (Chiu and Jain, "Analysis of the Increase and Decrease Algorithms", 1989).

use crate::ewma::Ewma;

/// The window of one target of one alias.
#[derive(Debug, Default)]
pub(crate) struct ConcurrencyWindow {
    /// Calls in flight, and when it last shrank. Unset while nothing was ever late.
    limit: Ewma,
    /// Share of answers that came too late.
    late: Ewma,
}

/// What the 95th percentile allows.
const LATE_RATIO_MAX: f32 = 0.05;
/// Weight of one answer in the ratio.
const LATE_STEP: f32 = 0.02;
const SHRINK: f32 = 0.8;
/// One more call for every twenty good answers.
const GROW: f32 = 0.05;
/// A window this full is at its brim.
const BRIM: f32 = 0.8;
/// Windows above this are as good as none.
const LIMIT_MAX: f32 = 100_000.0;

impl ConcurrencyWindow {
    pub(crate) fn limit(&self, now_us: u64) -> Option<f32> {
        self.limit.read(now_us).map(|limit| limit.value)
    }

    /// An answer to a call that was one of `in_flight` when it was sent.
    pub(crate) fn observe(&self, late: bool, in_flight: u32, patience_ms: u32, now_us: u64) {
        let seen = if late { 1.0 } else { 0.0 };
        self.late.update(now_us, |before| {
            let before = before.map_or(LATE_RATIO_MAX / 2.0, |b| b.value);
            before + LATE_STEP * (seen - before)
        });
        let too_many = self
            .late
            .read(now_us)
            .is_some_and(|late| late.value > LATE_RATIO_MAX);
        let in_flight = in_flight as f32;
        match self.limit.read(now_us) {
            // Once per patience: the answers of one crowd are one observation.
            Some(limit) if late && too_many && limit.age_ms >= patience_ms => {
                self.limit
                    .update(now_us, |_| (SHRINK * in_flight.min(limit.value)).max(1.0));
            }
            None if late && too_many => {
                self.limit.update(now_us, |_| (SHRINK * in_flight).max(1.0));
            }
            Some(limit) if !too_many && in_flight >= BRIM * limit.value => {
                self.limit.adjust(|limit| (limit + GROW).min(LIMIT_MAX));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    #[test]
    fn late_answers_shrink_it_once_per_patience_and_good_ones_let_it_grow() {
        let window = ConcurrencyWindow::default();
        assert_eq!(window.limit(0), None);
        for _ in 0..10 {
            window.observe(true, 100, 1_000, 5_000 * MS);
        }
        assert_eq!(window.limit(5_000 * MS), Some(80.0));
        window.observe(true, 90, 1_000, 6_100 * MS);
        assert_eq!(window.limit(6_100 * MS), Some(64.0));
        for _ in 0..400 {
            window.observe(false, 64, 1_000, 7_000 * MS);
        }
        let grown = window.limit(7_000 * MS).unwrap();
        assert!((75.0..85.0).contains(&grown), "{grown}");
    }

    #[test]
    fn a_few_late_answers_are_what_the_percentile_allows() {
        let window = ConcurrencyWindow::default();
        for n in 0..10_000 {
            window.observe(n % 40 == 0, 100, 1_000, n * 50 * MS);
        }
        assert_eq!(window.limit(500_000 * MS), None);
    }

    #[test]
    fn an_idle_window_does_not_grow_and_never_closes() {
        let window = ConcurrencyWindow::default();
        for n in 0..1_000 {
            window.observe(true, 1, 1_000, n * 2_000 * MS);
        }
        assert_eq!(window.limit(2_000_000 * MS), Some(1.0));
        for _ in 0..1_000 {
            window.observe(false, 0, 1_000, 2_000_000 * MS);
        }
        assert_eq!(window.limit(2_000_000 * MS), Some(1.0));
    }
}
