//! How several gateways share one counter without asking each other for each request.
//!
//! Every gateway publishes, several times a second, how much it has taken and how much was asked of it.
//! The others add that to their own counters, so all counters agree but for what was taken since. So
//! that the difference does not exceed what there is, a gateway takes between two synchronisations at
//! most its share of what was left at the last one, or one request where the share is less than that
//! and there is room for it: a limit of two requests must not be cut into halves that are of no use. So
//! all of them together may let through one request more per further gateway, and owe it. Shares
//! follow demand: a gateway that gets all the traffic has nearly all of it, and a rate that stays below
//! the limit is refused nowhere.

/// How often gateways tell each other what they have taken.
pub const SYNC_INTERVAL_US: u64 = 100_000;
/// A whole, of which shares are parts.
pub const WHOLE_PPM: u64 = 1_000_000;
/// Part of the whole that is split evenly, so that demand that moves to a gateway finds something.
const EVEN_PPM: u64 = 200_000;

/// The share of one among `gateways`, by recent demand on it and on all.
#[must_use]
pub fn ppm(own: u64, all: u64, gateways: u32) -> u64 {
    let gateways = u64::from(gateways.max(1));
    if gateways == 1 {
        return WHOLE_PPM;
    }
    if all == 0 {
        return WHOLE_PPM / gateways;
    }
    let by_demand = u128::from(own.min(all)) * u128::from(WHOLE_PPM - EVEN_PPM) / u128::from(all);
    EVEN_PPM / gateways + u64::try_from(by_demand).unwrap_or(WHOLE_PPM - EVEN_PPM)
}

/// The share of each of several gateways in a new counter.
#[must_use]
pub fn even(gateways: u32) -> Share {
    Share {
        ppm: WHOLE_PPM / u64::from(gateways.max(1)),
        is_new: true,
    }
}

/// This gateway's part of what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub ppm: u64,
    /// Whether all others reported since the last share was taken. If not, that one goes on.
    pub is_new: bool,
}

impl Share {
    /// `room` is what is left of the whole, and `claimed` what others may take of it before they
    /// learn of this gateway's use: a share grows only as far as others have let go.
    pub(crate) fn round(self, before: Option<Round>, room: u128, claimed: u128) -> Option<Round> {
        let unclaimed = room.saturating_sub(claimed);
        let round = match before {
            Some(round) if !self.is_new => Some(round),
            _ => Round::begin(room, self.ppm),
        };
        round.map(|round| Round {
            left: round.left.min(unclaimed),
            ..round
        })
    }
}

/// What may still be taken before the next synchronisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) left: u128,
    pub(crate) ppm: u64,
    /// Nothing was taken of it yet: then the first request may take more than there is.
    is_whole: bool,
}

impl Round {
    /// `None` for a gateway that is alone and need not hold back.
    pub(crate) fn begin(room: u128, ppm: u64) -> Option<Self> {
        (ppm < WHOLE_PPM).then(|| Self {
            left: part(room, ppm),
            ppm,
            is_whole: true,
        })
    }

    /// Whether a request that there is room for may be let through now.
    pub(crate) const fn allows(&self, amount: u128) -> bool {
        self.is_whole || amount <= self.left
    }

    /// The most of `room` that would be let through now.
    pub(crate) fn allowed(&self, room: u128) -> u128 {
        if self.is_whole {
            room
        } else {
            room.min(self.left)
        }
    }

    pub(crate) const fn take(&mut self, amount: u128) {
        self.left = self.left.saturating_sub(amount);
        self.is_whole = false;
    }

    /// What comes free meanwhile is shared like the rest.
    pub(crate) fn refill(&mut self, amount: u128) {
        self.left = self.left.saturating_add(part(amount, self.ppm));
    }
}

fn part(amount: u128, ppm: u64) -> u128 {
    let whole = u128::from(WHOLE_PPM);
    (amount / whole * u128::from(ppm)) + (amount % whole * u128::from(ppm) / whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_demand_and_never_exceed_the_whole() {
        assert_eq!(ppm(5, 5, 1), WHOLE_PPM);
        assert_eq!(ppm(0, 0, 4), WHOLE_PPM / 4);
        assert_eq!(ppm(10, 10, 2), 900_000);
        assert_eq!(ppm(0, 10, 2), 100_000);
        for own in 0..=20 {
            let sum: u64 = [own, 20 - own].iter().map(|asked| ppm(*asked, 20, 2)).sum();
            assert!(sum <= WHOLE_PPM, "{sum}");
        }
    }
}
