//! How several gateways share one counter without asking each other for each request.
//!
//! Every gateway tells the others, several times a second, how much it has taken and how much was
//! asked of it. Whoever hears that adds it to its own counter, so all counters agree but for what
//! was taken since. To keep that rest from adding up to more than there is, a gateway takes between
//! two hearings at most its share of what was left at the last one. Shares follow demand, so a
//! gateway that gets all the traffic has nearly all of it, and a rate that stays below the limit is
//! refused nowhere.

/// A whole, of which shares are parts.
pub const WHOLE_PPM: u64 = 1_000_000;
/// Part of the whole that is split evenly, so that demand that moves finds something there.
const EVEN_PPM: u64 = 200_000;

/// The share of one among `gateways`, by what was asked of it and of all lately.
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

/// What of the rest is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub ppm: u64,
    /// Whether all others were heard since the last share was taken. If not, that one goes on.
    pub is_new: bool,
}

impl Share {
    pub(crate) fn round(self, before: Option<Round>, room: u128) -> Option<Round> {
        match before {
            Some(round) if !self.is_new => Some(Round {
                left: round.left.min(room),
                ..round
            }),
            _ => Round::begin(room, self.ppm),
        }
    }
}

/// What may still be taken before the others are heard again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) left: u128,
    pub(crate) ppm: u64,
}

impl Round {
    /// `None` for whoever is alone and need not hold back.
    pub(crate) fn begin(room: u128, ppm: u64) -> Option<Self> {
        (ppm < WHOLE_PPM).then(|| Self {
            left: part(room, ppm),
            ppm,
        })
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
