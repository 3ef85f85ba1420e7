//! The rate that a provider really grants, learned from what it says, and shared fairly.
//!
//! A provider's answers say how much is left of its limits and when they begin anew. While there is
//! plenty, everybody gets what they ask for. The last part is kept from batch work; and when less
//! than half is left, nobody who has had more than their equal part goes before others.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::Class;

/// Groups whose use is told apart; further ones share a place.
const GROUPS_MAX: usize = 256;
/// A window that a provider gives no end for is taken to be a minute.
const WINDOW_US: u64 = 60_000_000;

/// What a provider said about one of its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub limit: Option<u64>,
    pub remaining: Option<u64>,
    /// Time until it begins anew.
    pub reset_us: Option<u64>,
}

/// What a request will take of a provider's limits.
#[derive(Clone, Copy, Debug)]
pub struct PoolUse {
    /// Whose it is, for fairness: a team.
    pub group: u64,
    pub class: Class,
    pub tokens: u64,
}

/// A provider's limit has no room for a request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolBusy {
    pub wait_us: u64,
}

/// What is known of one key's limits at its provider.
#[derive(Debug, Default)]
pub struct Pool {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    requests: Known,
    tokens: Known,
    /// Until when the provider wants to hear nothing.
    rests_until_us: u64,
    /// Requests of each group since the window began.
    by_group: HashMap<u64, u64>,
    window_ends_us: u64,
}

/// One limit, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    limit: u64,
    remaining: u64,
    resets_at_us: u64,
}

impl Known {
    fn learn(&mut self, observed: &Observed, now_us: u64) {
        let (Some(limit), Some(remaining)) = (observed.limit, observed.remaining) else {
            return;
        };
        *self = Self {
            limit,
            remaining,
            resets_at_us: now_us.saturating_add(observed.reset_us.unwrap_or(WINDOW_US)),
        };
    }

    fn is_known(&self, now_us: u64) -> bool {
        self.limit > 0 && now_us < self.resets_at_us
    }

    /// Whether `units` fit into what this class may use.
    fn has_room(&self, units: u64, class: Class, now_us: u64) -> bool {
        let kept = self.limit / 100 * (100 - class.percent());
        !self.is_known(now_us) || self.remaining >= units.min(self.limit).saturating_add(kept)
    }

    fn is_scarce(&self, now_us: u64) -> bool {
        self.is_known(now_us) && self.remaining < self.limit / 2
    }
}

impl Pool {
    /// Lets a request at the provider, or says how long it must wait.
    pub fn take(&self, wanted: &PoolUse, now_us: u64) -> Result<(), PoolBusy> {
        let mut state = self.state.lock();
        state.enter(now_us);
        let wait = |until_us: u64| PoolBusy {
            wait_us: until_us.saturating_sub(now_us).max(1),
        };
        if now_us < state.rests_until_us {
            return Err(wait(state.rests_until_us));
        }
        for (known, units) in [(state.requests, 1), (state.tokens, wanted.tokens)] {
            if !known.has_room(units, wanted.class, now_us) {
                return Err(wait(known.resets_at_us));
            }
        }
        if state.had_its_part(wanted.group, now_us) {
            return Err(wait(state.requests.resets_at_us));
        }
        state.requests.remaining = state.requests.remaining.saturating_sub(1);
        state.tokens.remaining = state.tokens.remaining.saturating_sub(wanted.tokens);
        let group = state.place(wanted.group);
        *state.by_group.entry(group).or_default() += 1;
        Ok(())
    }

    /// Learns what the provider said with an answer, or with a refusal.
    pub fn learn(
        &self,
        requests: &Observed,
        tokens: &Observed,
        retry_after_us: Option<u64>,
        now_us: u64,
    ) {
        let mut state = self.state.lock();
        state.requests.learn(requests, now_us);
        state.tokens.learn(tokens, now_us);
        if let Some(rest_us) = retry_after_us {
            state.rests_until_us = now_us.saturating_add(rest_us);
        }
    }
}

impl State {
    fn enter(&mut self, now_us: u64) {
        if now_us >= self.window_ends_us {
            self.by_group.clear();
            self.window_ends_us = if self.requests.is_known(now_us) {
                self.requests.resets_at_us
            } else {
                now_us + WINDOW_US
            };
        }
    }

    fn place(&self, group: u64) -> u64 {
        if self.by_group.len() < GROUPS_MAX || self.by_group.contains_key(&group) {
            group
        } else {
            0
        }
    }

    /// Whether a group has had its equal part of a limit that is getting short.
    fn had_its_part(&self, group: u64, now_us: u64) -> bool {
        if !self.requests.is_scarce(now_us) {
            return false;
        }
        let newcomer = u64::from(!self.by_group.contains_key(&group));
        let groups = (self.by_group.len() as u64 + newcomer).max(1);
        let had = self.by_group.get(&group).copied().unwrap_or(0);
        groups > 1 && had >= self.requests.limit / groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(limit: u64, remaining: u64) -> Observed {
        Observed {
            limit: Some(limit),
            remaining: Some(remaining),
            reset_us: Some(WINDOW_US),
        }
    }

    fn wanted(group: u64, class: Class) -> PoolUse {
        PoolUse {
            group,
            class,
            tokens: 0,
        }
    }

    #[test]
    fn a_provider_that_said_nothing_is_not_held_back_from() {
        let pool = Pool::default();
        for _ in 0..1000 {
            pool.take(&wanted(1, Class::Batch), 0).unwrap();
        }
    }

    #[test]
    fn the_last_part_is_kept_for_those_who_wait() {
        let pool = Pool::default();
        pool.learn(&observed(100, 20), &Observed::default(), None, 0);
        let busy = pool.take(&wanted(1, Class::Batch), 0).unwrap_err();
        assert_eq!(busy.wait_us, WINDOW_US);
        for _ in 0..20 {
            pool.take(&wanted(1, Class::Interactive), 0).unwrap();
        }
        assert!(pool.take(&wanted(1, Class::Interactive), 0).is_err());
        pool.take(&wanted(1, Class::Interactive), WINDOW_US)
            .unwrap();
    }

    #[test]
    fn a_retry_after_is_kept_to() {
        let pool = Pool::default();
        let nothing = Observed::default();
        pool.learn(&nothing, &nothing, Some(5_000_000), 0);
        assert!(
            pool.take(&wanted(1, Class::Interactive), 4_999_999)
                .is_err()
        );
        pool.take(&wanted(1, Class::Interactive), 5_000_000)
            .unwrap();
    }

    #[test]
    fn a_greedy_group_waits_when_it_gets_short_and_the_other_does_not() {
        let pool = Pool::default();
        pool.learn(&observed(100, 100), &Observed::default(), None, 0);
        pool.take(&wanted(2, Class::Interactive), 0).unwrap();
        let greedy = (0..100)
            .filter(|_| pool.take(&wanted(1, Class::Interactive), 0).is_ok())
            .count();
        assert!((50..=51).contains(&greedy), "{greedy}");
        let modest = (0..40)
            .filter(|_| pool.take(&wanted(2, Class::Interactive), 0).is_ok())
            .count();
        assert_eq!(modest, 40);
    }
}
