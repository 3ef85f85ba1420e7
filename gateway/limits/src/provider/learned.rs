//! One limit of a provider, learned from what the provider announces.
//!
//! Most limits are token buckets: they refill all the time. Some are fixed windows: they are full again
//! at one moment. The announcements show which.

use super::units::{DAY_US, MINUTE_US, SECOND_US, WHOLE, scaled};

/// How many announcements of the contrary it takes to change the kind of a limit.
const VOTES_MAX: i8 = 4;

/// What a provider announced about one of its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnnouncedLimit {
    pub limit: Option<u64>,
    pub remaining: Option<u64>,
    /// Time until all of it is available again.
    pub reset_us: Option<u64>,
}

/// One limit of a provider, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LearnedLimit {
    pub(super) limit: u64,
    pub(super) left: u64,
    /// When so much was left.
    at_us: u64,
    /// Time in which the whole limit is refilled.
    pub(super) period_us: u64,
    /// When it is full again.
    pub(super) full_at_us: u64,
    /// The same, as it was first announced.
    first_full_at_us: u64,
    /// When it was last announced.
    learned_us: u64,
    /// Above 0 for a token bucket, below for a fixed window.
    votes: i8,
}

impl LearnedLimit {
    /// A limit of the operator's own: a token bucket that refills in a minute.
    pub(super) fn granted(limit: Option<u64>) -> Self {
        let limit = limit.unwrap_or(0);
        Self {
            limit,
            left: limit,
            period_us: MINUTE_US,
            // Never out of date.
            learned_us: u64::MAX / 2,
            votes: VOTES_MAX,
            ..Self::default()
        }
    }

    /// `since` is what was taken after the request whose answer announced this.
    pub(super) fn learn(&mut self, announced: &AnnouncedLimit, since: u64, now_us: u64) {
        let Some(remaining) = announced.remaining else {
            return;
        };
        let limit = announced
            .limit
            .unwrap_or_else(|| self.limit.max(remaining))
            .max(1);
        let missing = limit.saturating_sub(remaining);
        let fit = BucketFit::nearest(limit, missing, announced.reset_us);
        let full_at_us = now_us.saturating_add(announced.reset_us.unwrap_or(fit.reset_us));
        if self.limit == 0 || self.first_full_at_us <= now_us {
            let first = if fit.error_us <= fit.tolerance_us {
                1
            } else {
                -1
            };
            self.votes = if self.limit == 0 { first } else { self.votes };
            self.first_full_at_us = full_at_us;
        } else {
            self.vote(&fit, full_at_us);
        }
        self.period_us = if self.is_token_bucket() {
            fit.period_us
        } else {
            let reset_us = full_at_us - now_us;
            self.period_us.max(reset_us).max(SECOND_US)
        };
        self.limit = limit;
        self.left = remaining.saturating_sub(since);
        self.at_us = now_us;
        self.full_at_us = full_at_us;
        self.learned_us = now_us;
    }

    /// A token bucket is full the later the more is missing; a fixed window is full when it was first
    /// announced to be.
    fn vote(&mut self, fit: &BucketFit, full_at_us: u64) {
        let window_error_us = full_at_us.abs_diff(self.first_full_at_us);
        let vote = if window_error_us > SECOND_US.max(4 * fit.error_us) {
            1
        } else if fit.error_us > SECOND_US.max(4 * window_error_us) {
            -1
        } else {
            return;
        };
        self.votes = (self.votes + vote).clamp(-VOTES_MAX, VOTES_MAX);
        if vote > 0 {
            self.first_full_at_us = full_at_us;
        }
    }

    pub(super) fn is_token_bucket(&self) -> bool {
        self.votes > 0
    }

    /// An announcement from long ago says nothing any more.
    pub(super) fn is_known(&self, now_us: u64) -> bool {
        self.limit > 0 && now_us < self.learned_us + (2 * self.period_us).max(2 * MINUTE_US)
    }

    /// Brings it up to the present.
    pub(super) fn advance(&mut self, now_us: u64) {
        if self.is_token_bucket() {
            let passed_us = now_us.saturating_sub(self.at_us);
            let back = scaled(self.limit, passed_us, self.period_us);
            if back > 0 || self.left >= self.limit {
                self.left = self.limit.min(self.left.saturating_add(back));
                // What was less than one unit goes on counting.
                let counted_us = scaled(self.period_us, back, self.limit);
                self.at_us = now_us.min(self.at_us.saturating_add(counted_us));
                if self.left == self.limit {
                    self.at_us = now_us;
                }
            }
        } else if now_us >= self.full_at_us {
            self.left = self.limit;
            self.at_us = now_us;
            self.full_at_us = now_us.saturating_add(self.period_us);
        }
    }

    /// Units as a share of the whole limit.
    pub(super) fn share(&self, units: u64) -> u64 {
        scaled(WHOLE, units, self.limit)
    }

    /// Time until so large a share is left.
    pub(super) fn wait_us(&self, share: u64, now_us: u64) -> u64 {
        if !self.is_token_bucket() {
            return self.full_at_us.saturating_sub(now_us).max(1);
        }
        let missing = share.saturating_sub(self.share(self.left)).max(1);
        scaled(self.period_us, missing, WHOLE).max(1)
    }
}

/// What a token bucket of one period would announce, and how well that fits.
struct BucketFit {
    period_us: u64,
    /// Time in which what is missing is refilled.
    reset_us: u64,
    /// Distance of the announcement from that.
    error_us: u64,
    /// Tolerance for it: providers round times to a second, and what is left to whole units.
    tolerance_us: u64,
}

impl BucketFit {
    /// Limits are per minute or per day: the better fit.
    fn nearest(limit: u64, missing: u64, announced_us: Option<u64>) -> Self {
        let minute = Self::of(MINUTE_US, limit, missing, announced_us);
        let day = Self::of(DAY_US, limit, missing, announced_us);
        if minute.error_us <= day.error_us {
            minute
        } else {
            day
        }
    }

    fn of(period_us: u64, limit: u64, missing: u64, announced_us: Option<u64>) -> Self {
        let reset_us = scaled(period_us, missing, limit);
        Self {
            period_us,
            reset_us,
            error_us: announced_us.map_or(0, |announced_us| announced_us.abs_diff(reset_us)),
            tolerance_us: SECOND_US.max(reset_us / 8).max(MINUTE_US / limit),
        }
    }
}
