//! The limits that a provider really grants, learned from its answers and shared fairly; and beside
//! them what the operator grants a key.
//!
//! An answer says how much is left of the provider's limits and when they are full again. Requests sent
//! since the answered one are not counted in it yet, so they are taken off.
//!
//! While there is plenty, every request is let through. Of the rest, a part is reserved for interactive
//! requests; and a group that has taken more than its equal part leaves what the others, by their recent
//! demand, will want of theirs.

mod demand;
mod learned;
mod units;

pub use learned::AnnouncedLimit;

use parking_lot::Mutex;

use crate::class::Class;
use demand::DemandWindow;
use learned::LearnedLimit;
use units::WHOLE;

/// Most of a token bucket that is reserved for other groups. It refills all the time, so a larger
/// reserve gains nothing.
const RESERVE_MAX: u64 = WHOLE / 5;

/// What a request is expected to take of a provider's limits.
#[derive(Clone, Copy, Debug)]
pub struct ProviderUse {
    /// The group that it counts for: a team.
    pub group: u64,
    pub class: Class,
    pub tokens: u64,
}

/// A request that was let through: how much had been taken then, itself included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProviderPermit {
    requests: u64,
    tokens: u64,
    /// Its part of the operator's limit on tokens: no more than was left.
    granted_tokens: u64,
}

/// What the operator grants a key per minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperatorLimits {
    pub requests: Option<u64>,
    pub tokens: Option<u64>,
}

/// A provider's limit has no room for a request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProviderBusy {
    pub wait_us: u64,
}

/// One limit as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProviderLimitStatus {
    pub limit: u64,
    pub left: u64,
}

/// What is known of the limits that one key has at its provider, for one model.
#[derive(Debug, Default)]
pub struct ProviderLimits {
    state: Mutex<ProviderState>,
}

#[derive(Debug, Default)]
struct ProviderState {
    requests: LearnedLimit,
    tokens: LearnedLimit,
    /// The operator's limits on requests and on tokens.
    granted: [LearnedLimit; 2],
    /// Total taken.
    taken: ProviderPermit,
    /// The latest request whose answer was learned from.
    learned: ProviderPermit,
    /// Until when the provider asked for no requests.
    paused_until_us: u64,
    window: DemandWindow,
}

impl ProviderLimits {
    /// Lets a request through, or says how long it must wait.
    pub fn take(&self, wanted: &ProviderUse, now_us: u64) -> Result<ProviderPermit, ProviderBusy> {
        let mut state = self.state.lock();
        state.enter(now_us);
        let share = state.share(wanted, now_us);
        state.window.ask(wanted.group, wanted.class, share);
        state.room(wanted, now_us)?;
        state.window.take(wanted.group, share);
        state.requests.left = state.requests.left.saturating_sub(1);
        state.tokens.left = state.tokens.left.saturating_sub(wanted.tokens);
        let [requests, tokens] = &mut state.granted;
        requests.left = requests.left.saturating_sub(1);
        let granted_tokens = wanted.tokens.min(tokens.left);
        tokens.left -= granted_tokens;
        state.taken.requests += 1;
        state.taken.tokens = state.taken.tokens.saturating_add(wanted.tokens);
        Ok(ProviderPermit {
            granted_tokens,
            ..state.taken
        })
    }

    /// Sets the operator's limits, beside the provider's. A limit that stays the same keeps its count.
    pub fn grant(&self, granted: &OperatorLimits) {
        let mut state = self.state.lock();
        for (known, limit) in state
            .granted
            .iter_mut()
            .zip([granted.requests, granted.tokens])
        {
            if known.limit != limit.unwrap_or(0) {
                *known = LearnedLimit::granted(limit);
            }
        }
    }

    /// Replaces the estimated tokens of a request by those it used. Providers count for themselves;
    /// this is for the operator's limit.
    pub fn settle(&self, taken: &ProviderPermit, used: u64, now_us: u64) {
        let mut state = self.state.lock();
        state.enter(now_us);
        let [_, tokens] = &mut state.granted;
        let left = tokens.left.saturating_add(taken.granted_tokens);
        tokens.left = left.saturating_sub(used).min(tokens.limit);
    }

    /// Whether a request would be let through, for choosing among several providers.
    pub fn room(&self, wanted: &ProviderUse, now_us: u64) -> Result<(), ProviderBusy> {
        let mut state = self.state.lock();
        state.enter(now_us);
        state.room(wanted, now_us)
    }

    /// Counts the demand of a request that no deployment has room for, and says how long it must wait.
    pub fn note_unmet(&self, wanted: &ProviderUse, now_us: u64) -> Option<ProviderBusy> {
        let mut state = self.state.lock();
        state.enter(now_us);
        let share = state.share(wanted, now_us);
        state.window.ask(wanted.group, wanted.class, share);
        state.room(wanted, now_us).err()
    }

    /// Learns from the limits that came with the answer to a request, or with its refusal.
    pub fn learn(
        &self,
        taken: &ProviderPermit,
        requests: &AnnouncedLimit,
        tokens: &AnnouncedLimit,
        now_us: u64,
    ) {
        let mut state = self.state.lock();
        // An answer to an earlier request says what was true before.
        if taken.requests < state.learned.requests {
            return;
        }
        state.learned = *taken;
        let requests_since = state.taken.requests.saturating_sub(taken.requests);
        let tokens_since = state.taken.tokens.saturating_sub(taken.tokens);
        state.requests.learn(requests, requests_since, now_us);
        state.tokens.learn(tokens, tokens_since, now_us);
    }

    /// The provider asked for no requests for a while.
    pub fn pause(&self, pause_us: u64, now_us: u64) {
        let mut state = self.state.lock();
        let until_us = now_us.saturating_add(pause_us);
        state.paused_until_us = state.paused_until_us.max(until_us);
    }

    /// The limits on requests and on tokens, as far as they are known: the tighter of the provider's
    /// and the operator's.
    pub fn read(&self, now_us: u64) -> [Option<ProviderLimitStatus>; 2] {
        let mut state = self.state.lock();
        state.enter(now_us);
        let [requests, tokens] = state.granted;
        [[state.requests, requests], [state.tokens, tokens]].map(|limits| {
            let known = limits.iter().filter(|known| known.is_known(now_us));
            let tightest = known.min_by_key(|known| known.left);
            tightest.map(|known| ProviderLimitStatus {
                limit: known.limit,
                left: known.left,
            })
        })
    }
}

impl ProviderState {
    fn enter(&mut self, now_us: u64) {
        self.requests.advance(now_us);
        self.tokens.advance(now_us);
        for granted in &mut self.granted {
            granted.advance(now_us);
        }
        let limits = [&self.requests, &self.tokens];
        let fixed = limits
            .into_iter()
            .find(|known| known.is_known(now_us) && !known.is_token_bucket());
        self.window.enter(fixed, now_us);
    }

    fn limits(
        &self,
        wanted: &ProviderUse,
        now_us: u64,
    ) -> impl Iterator<Item = (LearnedLimit, u64)> {
        let [requests, tokens] = self.granted;
        [
            (self.requests, 1),
            (self.tokens, wanted.tokens),
            (requests, 1),
            (tokens, wanted.tokens),
        ]
        .into_iter()
        .filter(move |(known, _)| known.is_known(now_us))
    }

    /// The largest share of a limit that a request takes, at most the whole.
    fn share(&self, wanted: &ProviderUse, now_us: u64) -> u64 {
        let shares = self.limits(wanted, now_us);
        let shares = shares.map(|(known, units)| known.share(units));
        shares.max().unwrap_or(0).clamp(1, WHOLE)
    }

    fn room(&self, wanted: &ProviderUse, now_us: u64) -> Result<(), ProviderBusy> {
        if now_us < self.paused_until_us {
            let wait_us = self.paused_until_us - now_us;
            return Err(ProviderBusy { wait_us });
        }
        for (known, units) in self.limits(wanted, now_us) {
            let needed = known.share(units).clamp(1, WHOLE);
            let needed = needed.saturating_add(self.reserved(&known, wanted, now_us));
            // A reserve never keeps a lone request from a full limit.
            if known.left < known.limit && known.share(known.left) < needed {
                let wait_us = known.wait_us(needed.min(WHOLE), now_us);
                return Err(ProviderBusy { wait_us });
            }
        }
        Ok(())
    }

    /// The part of a limit that is reserved for other requests.
    fn reserved(&self, known: &LearnedLimit, wanted: &ProviderUse, now_us: u64) -> u64 {
        let is_token_bucket = known.is_token_bucket();
        let mut reserved = 0;
        if wanted.class == Class::Batch {
            reserved = WHOLE / 100 * (100 - Class::Batch.percent());
            if !is_token_bucket {
                reserved = reserved.max(self.window.rest(self.window.interactive, now_us));
            }
        }
        if known.share(known.left) < WHOLE / 2 {
            let others = self
                .window
                .for_others(wanted.group, is_token_bucket, now_us);
            reserved = reserved.max(if is_token_bucket {
                others.min(RESERVE_MAX)
            } else {
                others
            });
        }
        reserved
    }
}

#[cfg(test)]
mod tests {
    use super::units::{DAY_US, MINUTE_US, SECOND_US, scaled};
    use super::*;

    const S: u64 = SECOND_US;

    fn observed(limit: u64, remaining: u64, reset_us: u64) -> AnnouncedLimit {
        AnnouncedLimit {
            limit: Some(limit),
            remaining: Some(remaining),
            reset_us: Some(reset_us),
        }
    }

    fn wanted(group: u64, class: Class) -> ProviderUse {
        ProviderUse {
            group,
            class,
            tokens: 0,
        }
    }

    const NOTHING: AnnouncedLimit = AnnouncedLimit {
        limit: None,
        remaining: None,
        reset_us: None,
    };

    #[test]
    fn nothing_is_reserved_of_a_limit_that_was_not_announced() {
        let limits = ProviderLimits::default();
        for _ in 0..1000 {
            limits.take(&wanted(1, Class::Batch), 0).unwrap();
        }
    }

    #[test]
    fn what_the_operator_grants_is_kept_to_whatever_the_provider_says() {
        let granted = OperatorLimits {
            requests: Some(6),
            tokens: Some(1_000),
        };
        let limits = ProviderLimits::default();
        limits.grant(&granted);
        let now = 1_780_000_000 * S;
        let one = ProviderUse {
            tokens: 100,
            ..wanted(1, Class::Interactive)
        };
        for _ in 0..6 {
            let taken = limits.take(&one, now).unwrap();
            limits.learn(&taken, &observed(500, 499, S), &NOTHING, now);
        }
        // A sixth of a minute brings one back, however often the settings are read again.
        limits.grant(&granted);
        let wait_us = limits.take(&one, now).unwrap_err().wait_us;
        assert!((9 * S..=10 * S).contains(&wait_us), "{wait_us}");
        let taken = limits.take(&one, now + 10 * S).unwrap();
        // 600 tokens were estimated, of which a sixth of a minute brought 166 back.
        let left = |limits: &ProviderLimits, now| limits.read(now)[1].unwrap().left;
        assert_eq!(left(&limits, now + 10 * S), 466);
        limits.settle(&taken, 40, now + 10 * S);
        assert_eq!(left(&limits, now + 10 * S), 526);
        limits.settle(&taken, 900, now + 10 * S);
        assert_eq!(left(&limits, now + 10 * S), 0);
        limits.grant(&OperatorLimits::default());
        limits.take(&one, now + 10 * S).unwrap();

        // One that is larger than the limit leaves nothing, though it used less than was estimated.
        limits.grant(&OperatorLimits {
            requests: None,
            tokens: Some(50),
        });
        let taken = limits.take(&one, now + 10 * S).unwrap();
        limits.settle(&taken, 60, now + 10 * S);
        assert_eq!(left(&limits, now + 10 * S), 0);
    }

    #[test]
    fn a_retry_after_is_kept_to() {
        let limits = ProviderLimits::default();
        limits.pause(5 * S, 0);
        let busy = limits
            .take(&wanted(1, Class::Interactive), 4 * S)
            .unwrap_err();
        assert_eq!(busy.wait_us, S);
        limits.take(&wanted(1, Class::Interactive), 5 * S).unwrap();
    }

    #[test]
    fn a_bucket_and_a_window_are_told_apart_by_their_announcements() {
        let learned = |announced: &AnnouncedLimit| {
            let mut known = LearnedLimit::default();
            known.learn(announced, 0, S);
            (known.is_token_bucket(), known.period_us)
        };
        // OpenAI: 60 a minute, one used, whole again in a second; 200 a day likewise in 432 s.
        assert_eq!(learned(&observed(60, 59, S)), (true, MINUTE_US));
        assert_eq!(learned(&observed(200, 199, 432 * S)), (true, DAY_US));
        assert_eq!(learned(&observed(60, 59, 59 * S)), (false, 59 * S));
    }

    #[test]
    fn what_was_sent_since_is_taken_off_and_an_old_answer_says_nothing() {
        let limits = ProviderLimits::default();
        let ask = wanted(1, Class::Interactive);
        let first = limits.take(&ask, 0).unwrap();
        let second = limits.take(&ask, 0).unwrap();
        let _third = limits.take(&ask, 0).unwrap();
        limits.learn(&second, &observed(10, 8, 59 * S), &NOTHING, 1);
        assert_eq!(
            limits.read(1)[0],
            Some(ProviderLimitStatus { limit: 10, left: 7 })
        );
        limits.learn(&first, &observed(10, 9, 59 * S), &NOTHING, 2);
        assert_eq!(
            limits.read(2)[0],
            Some(ProviderLimitStatus { limit: 10, left: 7 })
        );
    }

    #[test]
    fn a_request_that_is_larger_than_the_limit_is_let_through_when_it_is_whole() {
        let limits = ProviderLimits::default();
        let large = ProviderUse {
            tokens: 5_000,
            ..wanted(1, Class::Batch)
        };
        let taken = limits.take(&large, 0).unwrap();
        limits.learn(&taken, &NOTHING, &observed(1_000, 0, 60 * S), 0);
        let busy = limits.take(&large, 0).unwrap_err();
        assert!(busy.wait_us > 50 * S, "{busy:?}");
        limits.take(&large, 60 * S).unwrap();
    }

    /// A provider that counts for itself.
    struct Provider {
        limit: u64,
        left: u64,
        is_bucket: bool,
        at_us: u64,
        refused: u64,
    }

    impl Provider {
        fn new(limit: u64, is_bucket: bool) -> Self {
            Self {
                limit,
                left: limit,
                is_bucket,
                at_us: 0,
                refused: 0,
            }
        }

        fn call(&mut self, now_us: u64) -> AnnouncedLimit {
            let passed_us = now_us - self.at_us;
            let back = scaled(self.limit, passed_us, MINUTE_US);
            if self.is_bucket && back > 0 {
                self.left = self.limit.min(self.left + back);
                self.at_us += scaled(MINUTE_US, back, self.limit);
            } else if !self.is_bucket && passed_us >= MINUTE_US {
                self.left = self.limit;
                self.at_us = now_us - passed_us % MINUTE_US;
            }
            match self.left.checked_sub(1) {
                Some(left) => self.left = left,
                None => self.refused += 1,
            }
            let missing = self.limit - self.left;
            let reset_us = if self.is_bucket {
                scaled(MINUTE_US, missing, self.limit)
            } else {
                self.at_us + MINUTE_US - now_us
            };
            observed(self.limit, self.left, reset_us)
        }
    }

    /// Who asks how often. Returns what each was given and refused, and the provider's refusals.
    fn play(is_bucket: bool, limit: u64, askers: &[(ProviderUse, u64)]) -> (Vec<(u64, u64)>, u64) {
        const STEP_US: u64 = 10_000;
        let (limits, mut provider) = (ProviderLimits::default(), Provider::new(limit, is_bucket));
        let mut counts = vec![(0, 0); askers.len()];
        // Answers come 300 ms later.
        let mut under_way = std::collections::VecDeque::new();
        for step in 0..5 * MINUTE_US / STEP_US {
            let now_us = step * STEP_US;
            while let Some((at_us, taken, announced)) = under_way.front() {
                if *at_us > now_us {
                    break;
                }
                limits.learn(taken, announced, &NOTHING, now_us);
                under_way.pop_front();
            }
            for ((asker, every_us), count) in askers.iter().zip(&mut counts) {
                if now_us % every_us >= STEP_US {
                    continue;
                }
                match limits.take(asker, now_us) {
                    Ok(taken) => {
                        count.0 += 1;
                        let announced = provider.call(now_us);
                        under_way.push_back((now_us + 300_000, taken, announced));
                    }
                    Err(_) => count.1 += 1,
                }
            }
        }
        (counts, provider.refused)
    }

    #[test]
    fn a_batch_flood_starves_nobody_who_waits_and_the_provider_refuses_nearly_nothing() {
        for is_bucket in [true, false] {
            // 100 a second against 300 a minute, beside one a second that somebody waits for.
            let askers = [
                (wanted(1, Class::Batch), 10_000),
                (wanted(1, Class::Interactive), S),
            ];
            let (counts, refused) = play(is_bucket, 300, &askers);
            let [batch, interactive] = counts[..] else {
                panic!()
            };
            assert!(interactive.1 <= 6, "{is_bucket}: {counts:?}");
            // What is left is used: 1500 in five minutes, 300 of them interactive.
            assert!(batch.0 >= 850, "{is_bucket}: {counts:?}");
            assert!(refused <= 30, "{is_bucket}: {refused}");
        }
    }

    #[test]
    fn a_greedy_team_leaves_the_others_what_they_ask_for() {
        for is_bucket in [true, false] {
            let askers = [
                (wanted(1, Class::Interactive), 10_000),
                (wanted(2, Class::Interactive), S),
            ];
            let (counts, refused) = play(is_bucket, 300, &askers);
            let [greedy, modest] = counts[..] else {
                panic!()
            };
            assert!(modest.1 <= 15, "{is_bucket}: {counts:?}");
            assert!(greedy.0 >= 850, "{is_bucket}: {counts:?}");
            assert!(refused <= 60, "{is_bucket}: {refused}");
        }
    }

    #[test]
    fn two_greedy_teams_share_alike() {
        for is_bucket in [true, false] {
            let askers = [
                (wanted(1, Class::Interactive), 10_000),
                (wanted(2, Class::Interactive), 50_000),
            ];
            let (counts, _) = play(is_bucket, 300, &askers);
            let (one, other) = (counts[0].0, counts[1].0);
            assert!(other * 100 >= one * 60, "{is_bucket}: {counts:?}");
        }
    }
}
