//! Concurrency: how many requests may run at once.

use parking_lot::Mutex;

use crate::class::Class;
use crate::share::{Round, Share};

/// The running requests under a concurrency limit.
#[derive(Debug, Default)]
pub struct Slots {
    state: Mutex<SlotsState>,
}

#[derive(Debug, Default)]
struct SlotsState {
    taken: u64,
    elsewhere: u64,
    asked: u64,
    /// Only where there are other gateways.
    round: Option<Box<Round>>,
}

/// All slots are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencyExceeded {
    pub running: u64,
}

impl Slots {
    pub fn take(&self, max: u64, class: Class) -> Result<(), ConcurrencyExceeded> {
        let mut state = self.state.lock();
        state.asked = state.asked.wrapping_add(1);
        let running = state.taken + state.elsewhere;
        // Batch work keeps at least one slot, however few there are.
        let max = match class {
            Class::Interactive => max,
            Class::Batch => (max * class.percent() / 100).max(max.min(1)),
        };
        let not_ours = state.round.as_ref().is_some_and(|round| !round.allows(1));
        if running >= max || not_ours {
            return Err(ConcurrencyExceeded { running });
        }
        if let Some(round) = &mut state.round {
            round.take(1);
        }
        state.taken += 1;
        Ok(())
    }

    pub fn give_back(&self) {
        let mut state = self.state.lock();
        state.taken = state.taken.saturating_sub(1);
        if let Some(round) = &mut state.round {
            round.left += 1;
        }
    }

    /// Takes over how many run elsewhere, and this gateway's share of the rest.
    pub fn merge_peers(&self, max: u64, elsewhere: u64, share: Share) {
        let mut state = self.state.lock();
        state.elsewhere = elsewhere;
        let room = max.saturating_sub(state.taken + elsewhere);
        let before = state.round.as_deref().copied();
        state.round = share.round(before, u128::from(room), 0).map(Box::new);
    }

    /// Requests that run here, and the total that asked to.
    #[must_use]
    pub fn read(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.taken, state.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_given_back_can_be_taken_again() {
        let slots = Slots::default();
        slots.take(2, Class::Interactive).unwrap();
        slots.take(2, Class::Interactive).unwrap();
        assert_eq!(
            slots.take(2, Class::Interactive),
            Err(ConcurrencyExceeded { running: 2 })
        );
        slots.give_back();
        slots.take(2, Class::Interactive).unwrap();
    }

    #[test]
    fn what_runs_elsewhere_counts() {
        let slots = Slots::default();
        let share = Share {
            ppm: 500_000,
            is_new: true,
        };
        slots.merge_peers(10, 8, share);
        slots.take(10, Class::Interactive).unwrap();
        assert!(slots.take(10, Class::Interactive).is_err());
    }
}
