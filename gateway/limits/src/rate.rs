//! A rate, as a bucket that leaks: the generic cell rate algorithm in its exact, integer form.
//!
//! The bucket holds what was taken and has not leaked out yet. It leaks one minute's worth a
//! minute; a request that finds no room for itself is refused. A bucket of one minute's worth lets
//! a minute's worth come at once, and refuses nothing to a caller that stays below the rate.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::class::Class;
use crate::share::{Round, SYNC_INTERVAL_US, Share};

const US_PER_MINUTE: u128 = 60_000_000;

/// A rate and how much of it may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateSpec {
    pub per_minute: u64,
    /// Units that may come at once: a minute's worth unless set.
    pub burst: Option<u64>,
}

impl RateSpec {
    #[must_use]
    pub const fn per_minute(per_minute: u64) -> Self {
        Self {
            per_minute,
            burst: None,
        }
    }

    #[must_use]
    pub fn burst(&self) -> u64 {
        self.burst.unwrap_or(self.per_minute)
    }

    /// Time until so much has leaked out. A rate of zero lets nothing out: in a minute, it may have
    /// been changed.
    fn wait_us(&self, over: u128) -> u64 {
        let wait_us = match self.per_minute {
            0 => US_PER_MINUTE,
            per_minute => over.div_ceil(u128::from(per_minute)),
        };
        u64::try_from(wait_us).unwrap_or(u64::MAX)
    }

    fn capacity(&self) -> u128 {
        u128::from(self.burst()) * US_PER_MINUTE
    }
}

/// What was taken at a rate. It holds no rate itself, so a changed rate applies at once.
#[derive(Debug, Default)]
pub struct Bucket {
    state: Mutex<BucketState>,
}

/// Small: a request that touches it for the first time waits for one cache line.
#[derive(Debug, Default)]
struct BucketState {
    /// Units taken and not yet leaked, times [`US_PER_MINUTE`].
    level: u128,
    at_us: u64,
    /// Total taken here and not given back.
    taken: u64,
    /// Total asked for here.
    asked: u64,
    shared: Option<Box<PeerPart>>,
}

/// State that exists only where there are other gateways.
#[derive(Debug)]
struct PeerPart {
    /// The part of the level that was taken here.
    own: u128,
    round: Round,
}

/// A rate that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateExceeded {
    /// When the same request would be let through.
    pub wait_us: u64,
    pub reading: RateReading,
}

/// A bucket as its caller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateReading {
    /// Units that may be taken at once.
    pub remaining: u64,
    /// When the bucket will be empty.
    pub reset_us: u64,
}

/// A bucket as other gateways see it, and as they tell it each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketUsage {
    pub taken: u64,
    pub asked: u64,
    /// Units in the bucket, and those of them that were taken here.
    pub level: u64,
    #[serde(default)]
    pub own: u64,
    /// Units that may be taken before the next synchronisation, where there are other gateways.
    /// They must leave them to this one.
    pub claimed: u64,
}

impl Bucket {
    /// Takes `units`. More than the bucket holds is let through when the bucket is empty, and is
    /// owed afterwards: otherwise it would never be.
    pub fn take(
        &self,
        spec: &RateSpec,
        class: Class,
        units: u64,
        now_us: u64,
    ) -> Result<RateReading, RateExceeded> {
        let mut state = self.state.lock();
        state.leak(spec, now_us);
        state.asked = state.asked.wrapping_add(units);
        let capacity = match class {
            Class::Interactive => spec.capacity(),
            Class::Batch => spec.capacity() * u128::from(class.percent()) / 100,
        };
        let cost = u128::from(units) * US_PER_MINUTE;
        let needed = cost.min(capacity.max(1));
        let over = (state.level + needed).saturating_sub(capacity);
        let wait_us = match &state.shared {
            _ if over > 0 => Some(spec.wait_us(over)),
            Some(shared) if !shared.round.allows(needed) => Some(SYNC_INTERVAL_US),
            _ => None,
        };
        if let Some(wait_us) = wait_us {
            let reading = state.reading(spec, now_us);
            return Err(RateExceeded { wait_us, reading });
        }
        if let Some(shared) = &mut state.shared {
            shared.round.take(cost);
            shared.own += cost;
        }
        state.level += cost;
        state.taken = state.taken.wrapping_add(units);
        Ok(state.reading(spec, now_us))
    }

    /// Replaces what was taken by what was used.
    pub fn correct(&self, taken: u64, used: u64) {
        let mut state = self.state.lock();
        if used >= taken {
            let more = u128::from(used - taken) * US_PER_MINUTE;
            state.level += more;
            state.taken = state.taken.wrapping_add(used - taken);
            if let Some(shared) = &mut state.shared {
                shared.own += more;
            }
        } else {
            let back = u128::from(taken - used) * US_PER_MINUTE;
            state.level = state.level.saturating_sub(back);
            state.taken = state.taken.wrapping_sub(taken - used);
            if let Some(shared) = &mut state.shared {
                shared.own = shared.own.saturating_sub(back);
                shared.round.left = shared.round.left.saturating_add(back);
            }
        }
    }

    /// Takes over what others have taken since the last time, what they claim of the rest, and this
    /// gateway's share of what is left then.
    pub fn merge_peers(
        &self,
        spec: &RateSpec,
        others: i64,
        claimed: u64,
        share: Share,
        now_us: u64,
    ) {
        let mut state = self.state.lock();
        state.leak(spec, now_us);
        let own = state.own();
        let moved = u128::from(others.unsigned_abs()) * US_PER_MINUTE;
        state.level = if others < 0 {
            state.level.saturating_sub(moved)
        } else {
            state.level.saturating_add(moved)
        };
        let own = own.min(state.level);
        let claimed = u128::from(claimed) * US_PER_MINUTE;
        let room = spec.capacity().saturating_sub(state.level);
        let before = state.shared.as_ref().map(|shared| shared.round);
        let round = share.round(before, room, claimed);
        state.shared = round.map(|round| Box::new(PeerPart { own, round }));
    }

    #[must_use]
    pub fn read(&self, spec: &RateSpec, now_us: u64) -> RateReading {
        let mut state = self.state.lock();
        state.leak(spec, now_us);
        state.reading(spec, now_us)
    }

    #[must_use]
    pub fn state(&self, spec: &RateSpec, now_us: u64) -> BucketUsage {
        let mut state = self.state.lock();
        state.leak(spec, now_us);
        let left = state.shared.as_ref().map(|shared| shared.round.left);
        BucketUsage {
            taken: state.taken,
            asked: state.asked,
            level: whole(state.level),
            own: whole(state.own()),
            claimed: left.map_or(0, |left| divided_up(left, US_PER_MINUTE)),
        }
    }

    /// Whether it is empty: it could as well be new.
    #[must_use]
    pub fn is_idle(&self, spec: &RateSpec, now_us: u64) -> bool {
        let mut state = self.state.lock();
        state.leak(spec, now_us);
        state.level == 0
    }
}

impl BucketState {
    fn leak(&mut self, spec: &RateSpec, now_us: u64) {
        // A clock that was set back lets nothing out until it is where it was.
        let passed = u128::from(now_us.saturating_sub(self.at_us));
        self.at_us = self.at_us.max(now_us);
        let out = (passed * u128::from(spec.per_minute)).min(self.level);
        if let Some(PeerPart { own, round }) = self.shared.as_deref_mut() {
            *own -= part_of(out, *own, self.level);
            round.refill(out);
            round.left = round.left.min(spec.capacity());
        }
        self.level -= out;
    }

    /// A gateway that is alone took all of it.
    fn own(&self) -> u128 {
        self.shared.as_ref().map_or(self.level, |shared| shared.own)
    }

    fn reading(&self, spec: &RateSpec, now_us: u64) -> RateReading {
        let empty_in = divided_up(self.level, u128::from(spec.per_minute.max(1)));
        RateReading {
            remaining: whole(spec.capacity().saturating_sub(self.level)),
            reset_us: now_us.saturating_add(empty_in),
        }
    }
}

/// Whole units in a level.
fn whole(level: u128) -> u64 {
    const MINUTE: u64 = 60_000_000;
    // It nearly always fits into 64 bits, whose division takes a tenth of the time.
    u64::try_from(level).map_or_else(
        |_| u64::try_from(level / US_PER_MINUTE).unwrap_or(u64::MAX),
        |level| level / MINUTE,
    )
}

fn divided_up(amount: u128, by: u128) -> u64 {
    match (u64::try_from(amount), u64::try_from(by)) {
        (Ok(amount), Ok(by)) => amount.div_ceil(by),
        _ => u64::try_from(amount.div_ceil(by)).unwrap_or(u64::MAX),
    }
}

/// The part of `amount` that corresponds to `part` of `whole`.
fn part_of(amount: u128, part: u128, whole: u128) -> u128 {
    if whole == 0 {
        return 0;
    }
    match amount.checked_mul(part) {
        Some(product) => product / whole,
        None => amount / whole.div_ceil(part.max(1)),
    }
    .min(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn take(bucket: &Bucket, spec: &RateSpec, units: u64, now_us: u64) -> Result<(), u64> {
        let taken = bucket.take(spec, Class::Interactive, units, now_us);
        let read = bucket.read(spec, now_us);
        match taken {
            Ok(reading) => assert_eq!(reading, read),
            Err(refused) => assert_eq!(refused.reading, read),
        }
        taken.map(|_| ()).map_err(|refused| refused.wait_us)
    }

    #[test]
    fn a_minutes_worth_may_come_at_once_and_the_next_waits_exactly() {
        let (bucket, spec) = (Bucket::default(), RateSpec::per_minute(60));
        for _ in 0..60 {
            take(&bucket, &spec, 1, SECOND).unwrap();
        }
        assert_eq!(take(&bucket, &spec, 1, SECOND), Err(SECOND));
        assert_eq!(take(&bucket, &spec, 1, 2 * SECOND - 1), Err(1));
        take(&bucket, &spec, 1, 2 * SECOND).unwrap();
    }

    #[test]
    fn more_than_the_burst_is_let_through_once_and_owed() {
        let (bucket, spec) = (Bucket::default(), RateSpec::per_minute(60));
        take(&bucket, &spec, 120, 0).unwrap();
        assert_eq!(take(&bucket, &spec, 1, 0), Err(61 * SECOND));
    }

    #[test]
    fn what_was_not_used_is_given_back() {
        let (bucket, spec) = (Bucket::default(), RateSpec::per_minute(100));
        take(&bucket, &spec, 100, 0).unwrap();
        assert!(take(&bucket, &spec, 1, 0).is_err());
        bucket.correct(100, 40);
        assert_eq!(bucket.read(&spec, 0).remaining, 60);
        bucket.correct(0, 90);
        assert_eq!(bucket.read(&spec, 0).remaining, 0);
    }

    #[test]
    fn the_last_part_is_kept_from_batch_work() {
        let (bucket, spec) = (Bucket::default(), RateSpec::per_minute(10));
        for _ in 0..8 {
            bucket.take(&spec, Class::Batch, 1, 0).unwrap();
        }
        assert!(bucket.take(&spec, Class::Batch, 1, 0).is_err());
        bucket.take(&spec, Class::Interactive, 1, 0).unwrap();
    }

    #[test]
    fn a_rate_of_zero_lets_nothing_through() {
        let (bucket, spec) = (Bucket::default(), RateSpec::per_minute(0));
        assert_eq!(take(&bucket, &spec, 1, 0), Err(60 * SECOND));
    }
}
