//! The limits that a provider really grants, learned from what it says, and shared fairly; and beside
//! them what the operator lets a key take.
//!
//! A provider's answers say how much is left of its limits and when they are whole again. Most fill
//! up steadily; some begin anew at one moment; what an answer says shows which it is. What was sent
//! since the call that was answered is not counted in it yet, so it is taken off.
//!
//! While there is plenty, everybody gets what they ask for. Of the rest, a part is kept from batch
//! work for whoever waits for an answer; and who has had more than their equal part leaves what the
//! others, by what they asked for lately, will want of theirs.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::Class;

/// Groups whose use is told apart; further ones share a place.
const GROUPS_MAX: usize = 256;
const SECOND_US: u64 = 1_000_000;
const MINUTE_US: u64 = 60 * SECOND_US;
const DAY_US: u64 = 24 * 60 * MINUTE_US;
/// The whole of a limit. Shares of it are compared in millionths.
const WHOLE: u64 = 1_000_000;
/// What of a limit that fills up steadily is kept for others is there again soon, so it need not be
/// more than this.
const KEPT_MAX: u64 = WHOLE / 5;
/// How often what was seen is believed before the contrary is.
const VOTES_MAX: i8 = 4;

/// What a provider said about one of its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnnouncedLimit {
    pub limit: Option<u64>,
    pub remaining: Option<u64>,
    /// Time until it is whole again.
    pub reset_us: Option<u64>,
}

/// What a request will take of a provider's limits.
#[derive(Clone, Copy, Debug)]
pub struct ProviderUse {
    /// Whose it is, for fairness: a team.
    pub group: u64,
    pub class: Class,
    pub tokens: u64,
}

/// A request that was let at the provider: how much had been taken, itself included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProviderPermit {
    requests: u64,
    tokens: u64,
    /// What of it was taken of the operator's limit on tokens: no more than there was.
    granted_tokens: u64,
}

/// What the operator lets a key take in a minute.
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

/// What is known of one limit, for whoever looks.
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
    /// All that was ever taken.
    taken: ProviderPermit,
    /// Of the request whose answer was heard last.
    heard: ProviderPermit,
    /// Until when the provider wants to hear nothing.
    paused_until_us: u64,
    window: DemandWindow,
}

/// One limit, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
struct LearnedLimit {
    limit: u64,
    left: u64,
    /// When that was left.
    at_us: u64,
    /// Time in which the whole limit comes back.
    period_us: u64,
    /// When it is whole again.
    whole_at_us: u64,
    /// The same, as it was said first.
    first_whole_at_us: u64,
    /// When it was heard of last.
    heard_us: u64,
    /// Above 0 for a limit that fills up steadily, below for one that begins anew at one moment.
    votes: i8,
}

impl LearnedLimit {
    /// A limit that nobody has to be asked about. It fills up steadily, in a minute.
    fn granted(limit: Option<u64>) -> Self {
        let limit = limit.unwrap_or(0);
        Self {
            limit,
            left: limit,
            period_us: MINUTE_US,
            // As if it were heard of all the time.
            heard_us: u64::MAX / 2,
            votes: VOTES_MAX,
            ..Self::default()
        }
    }

    /// `since` is what was taken after the request that was answered.
    fn learn(&mut self, said: &AnnouncedLimit, since: u64, now_us: u64) {
        let Some(remaining) = said.remaining else {
            return;
        };
        let limit = said
            .limit
            .unwrap_or_else(|| self.limit.max(remaining))
            .max(1);
        let missing = limit.saturating_sub(remaining);
        let steady = Steady::nearest(limit, missing, said.reset_us);
        let whole_at_us = now_us.saturating_add(said.reset_us.unwrap_or(steady.reset_us));
        if self.limit == 0 || self.first_whole_at_us <= now_us {
            let first = if steady.off_us <= steady.leeway_us {
                1
            } else {
                -1
            };
            self.votes = if self.limit == 0 { first } else { self.votes };
            self.first_whole_at_us = whole_at_us;
        } else {
            self.vote(&steady, whole_at_us);
        }
        self.period_us = if self.is_steady() {
            steady.period_us
        } else {
            let reset_us = whole_at_us - now_us;
            self.period_us.max(reset_us).max(SECOND_US)
        };
        self.limit = limit;
        self.left = remaining.saturating_sub(since);
        self.at_us = now_us;
        self.whole_at_us = whole_at_us;
        self.heard_us = now_us;
    }

    /// What fills up steadily is whole the later the more is missing; what begins anew does so when
    /// it was said to.
    fn vote(&mut self, steady: &Steady, whole_at_us: u64) {
        let anew_off_us = whole_at_us.abs_diff(self.first_whole_at_us);
        let vote = if anew_off_us > SECOND_US.max(4 * steady.off_us) {
            1
        } else if steady.off_us > SECOND_US.max(4 * anew_off_us) {
            -1
        } else {
            return;
        };
        self.votes = (self.votes + vote).clamp(-VOTES_MAX, VOTES_MAX);
        if vote > 0 {
            self.first_whole_at_us = whole_at_us;
        }
    }

    fn is_steady(&self) -> bool {
        self.votes > 0
    }

    /// What was last heard long ago says nothing any more.
    fn is_known(&self, now_us: u64) -> bool {
        self.limit > 0 && now_us < self.heard_us + (2 * self.period_us).max(2 * MINUTE_US)
    }

    /// Brings it up to the present.
    fn advance(&mut self, now_us: u64) {
        if self.is_steady() {
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
        } else if now_us >= self.whole_at_us {
            self.left = self.limit;
            self.at_us = now_us;
            self.whole_at_us = now_us.saturating_add(self.period_us);
        }
    }

    /// Units as a share of the whole limit.
    fn share(&self, units: u64) -> u64 {
        scaled(WHOLE, units, self.limit)
    }

    /// Time until so large a share is left.
    fn wait_us(&self, share: u64, now_us: u64) -> u64 {
        if !self.is_steady() {
            return self.whole_at_us.saturating_sub(now_us).max(1);
        }
        let missing = share.saturating_sub(self.share(self.left)).max(1);
        scaled(self.period_us, missing, WHOLE).max(1)
    }
}

/// What would be said of a limit that comes back steadily.
struct Steady {
    /// Time in which the whole of it comes back.
    period_us: u64,
    /// Time in which what is missing does.
    reset_us: u64,
    /// How far from that is what was said.
    off_us: u64,
    /// How far it may be: providers round to a second, and what is left to whole units.
    leeway_us: u64,
}

impl Steady {
    /// Limits are for a minute or for a day; whichever fits better.
    fn nearest(limit: u64, missing: u64, said_us: Option<u64>) -> Self {
        let minute = Self::of(MINUTE_US, limit, missing, said_us);
        let day = Self::of(DAY_US, limit, missing, said_us);
        if minute.off_us <= day.off_us {
            minute
        } else {
            day
        }
    }

    fn of(period_us: u64, limit: u64, missing: u64, said_us: Option<u64>) -> Self {
        let reset_us = scaled(period_us, missing, limit);
        Self {
            period_us,
            reset_us,
            off_us: said_us.map_or(0, |said_us| said_us.abs_diff(reset_us)),
            leeway_us: SECOND_US.max(reset_us / 8).max(MINUTE_US / limit),
        }
    }
}

/// `amount` times `part / whole`.
fn scaled(amount: u64, part: u64, whole: u64) -> u64 {
    let product = u128::from(amount) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(product).unwrap_or(u64::MAX)
}

/// What was asked for and had lately, in shares of the whole limit.
#[derive(Debug, Default)]
struct DemandWindow {
    began_us: u64,
    ends_us: u64,
    by_group: HashMap<u64, GroupDemand>,
    /// Of those who wait for an answer.
    interactive: Demand,
}

#[derive(Clone, Copy, Debug, Default)]
struct Demand {
    now: u64,
    before: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct GroupDemand {
    asked: Demand,
    had: Demand,
}

impl Demand {
    fn turn(&mut self) {
        *self = Self {
            now: 0,
            before: self.now,
        };
    }

    /// What is asked for in a whole window, as far as one can tell.
    fn in_window(self) -> u64 {
        self.before.max(self.now)
    }
}

impl DemandWindow {
    /// `anew` is a limit that begins anew at one moment: the window ends with it.
    fn enter(&mut self, anew: Option<&LearnedLimit>, now_us: u64) {
        if now_us < self.ends_us {
            return;
        }
        // After a pause nothing of it is of interest.
        if now_us >= self.ends_us.saturating_add(MINUTE_US) {
            *self = Self::default();
        }
        self.interactive.turn();
        self.by_group.retain(|_, part| {
            part.asked.turn();
            part.had.turn();
            part.asked.before > 0
        });
        self.began_us = now_us;
        self.ends_us = anew.map_or(now_us + MINUTE_US, |known| {
            // What is said of it is a little late: it may have begun anew just now.
            let has_begun = known.whole_at_us < now_us + known.period_us / 2;
            known.whole_at_us + if has_begun { known.period_us } else { 0 }
        });
    }

    fn place(&self, group: u64) -> u64 {
        if self.by_group.len() < GROUPS_MAX || self.by_group.contains_key(&group) {
            group
        } else {
            0
        }
    }

    fn ask(&mut self, group: u64, class: Class, share: u64) {
        let group = self.place(group);
        let part = self.by_group.entry(group).or_default();
        part.asked.now = part.asked.now.saturating_add(share);
        if class == Class::Interactive {
            self.interactive.now = self.interactive.now.saturating_add(share);
        }
    }

    fn had(&mut self, group: u64, share: u64) {
        let group = self.place(group);
        let part = self.by_group.entry(group).or_default();
        part.had.now = part.had.now.saturating_add(share);
    }

    fn left_us(&self, now_us: u64) -> u64 {
        self.ends_us.saturating_sub(now_us)
    }

    fn len_us(&self) -> u64 {
        self.ends_us.saturating_sub(self.began_us)
    }

    /// What will be asked for until the window ends, and a quarter more.
    fn rest(&self, asked: Demand, now_us: u64) -> u64 {
        let passed_us = now_us.saturating_sub(self.began_us);
        let passed_us = passed_us.max(self.len_us() / 20);
        let left_us = self.left_us(now_us);
        let as_before = scaled(asked.before, left_us, self.len_us());
        let as_now = scaled(asked.now, left_us, passed_us);
        as_before.max(as_now) / 4 * 5
    }

    /// What the others will want of their equal parts, if this group has had more than its own.
    fn for_others(&self, group: u64, steady: bool, now_us: u64) -> u64 {
        let group = self.place(group);
        let part = WHOLE / (self.by_group.len() as u64).max(1);
        let before_counts = scaled(WHOLE, self.left_us(now_us), self.len_us());
        // Of a limit that begins anew, what was had before is forgiven.
        let had = |of: &GroupDemand| {
            let before = scaled(of.had.before, before_counts, WHOLE);
            of.had.now + if steady { before } else { 0 }
        };
        let own = self.by_group.get(&group).map_or(0, had);
        if own <= part {
            return 0;
        }
        let wanted = |of: &GroupDemand| {
            let unmet = part.saturating_sub(had(of));
            unmet.min(if steady {
                (2 * of.asked.in_window()).saturating_sub(had(of))
            } else {
                self.rest(of.asked, now_us)
            })
        };
        let others = self.by_group.iter().filter(|(other, _)| **other != group);
        others.map(|(_, of)| wanted(of)).sum()
    }
}

impl ProviderLimits {
    /// Lets a request at the provider, or says how long it must wait.
    pub fn take(&self, wanted: &ProviderUse, now_us: u64) -> Result<ProviderPermit, ProviderBusy> {
        let mut state = self.state.lock();
        state.enter(now_us);
        let share = state.share(wanted, now_us);
        state.window.ask(wanted.group, wanted.class, share);
        state.room(wanted, now_us)?;
        state.window.had(wanted.group, share);
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

    /// Limits the pool, beside what its provider says. What was taken of the same limit before goes
    /// on counting.
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

    /// Puts the tokens that a request used in the place of those that were estimated. Providers
    /// count for themselves; this is for the operator's limit.
    pub fn settle(&self, taken: &ProviderPermit, used: u64, now_us: u64) {
        let mut state = self.state.lock();
        state.enter(now_us);
        let [_, tokens] = &mut state.granted;
        let left = tokens.left.saturating_add(taken.granted_tokens);
        tokens.left = left.saturating_sub(used).min(tokens.limit);
    }

    /// Whether a request would be let at the provider, for choosing among several.
    pub fn room(&self, wanted: &ProviderUse, now_us: u64) -> Result<(), ProviderBusy> {
        let mut state = self.state.lock();
        state.enter(now_us);
        state.room(wanted, now_us)
    }

    /// For a request that no deployment has room for: the pool hears that it was asked, and says how
    /// long it must wait.
    pub fn note_unmet(&self, wanted: &ProviderUse, now_us: u64) -> Option<ProviderBusy> {
        let mut state = self.state.lock();
        state.enter(now_us);
        let share = state.share(wanted, now_us);
        state.window.ask(wanted.group, wanted.class, share);
        state.room(wanted, now_us).err()
    }

    /// Learns what the provider said with its answer to a request, or with its refusal.
    pub fn learn(
        &self,
        taken: &ProviderPermit,
        requests: &AnnouncedLimit,
        tokens: &AnnouncedLimit,
        now_us: u64,
    ) {
        let mut state = self.state.lock();
        // An answer to an earlier request says what was true before.
        if taken.requests < state.heard.requests {
            return;
        }
        state.heard = *taken;
        let requests_since = state.taken.requests.saturating_sub(taken.requests);
        let tokens_since = state.taken.tokens.saturating_sub(taken.tokens);
        state.requests.learn(requests, requests_since, now_us);
        state.tokens.learn(tokens, tokens_since, now_us);
    }

    /// The provider wants to hear nothing for a while.
    pub fn pause(&self, pause_us: u64, now_us: u64) {
        let mut state = self.state.lock();
        let until_us = now_us.saturating_add(pause_us);
        state.paused_until_us = state.paused_until_us.max(until_us);
    }

    /// The limits on requests and on tokens, as far as they are known: of the provider's and the
    /// operator's the one that has less left.
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
        let anew = limits
            .into_iter()
            .find(|known| known.is_known(now_us) && !known.is_steady());
        self.window.enter(anew, now_us);
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

    /// The largest share of a limit that a request takes. One that is larger than the whole is as
    /// large as the whole.
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
            let needed = needed.saturating_add(self.kept(&known, wanted, now_us));
            // What is kept for others never keeps a lone request from a limit that is whole.
            if known.left < known.limit && known.share(known.left) < needed {
                let wait_us = known.wait_us(needed.min(WHOLE), now_us);
                return Err(ProviderBusy { wait_us });
            }
        }
        Ok(())
    }

    /// What of a limit is not for this request.
    fn kept(&self, known: &LearnedLimit, wanted: &ProviderUse, now_us: u64) -> u64 {
        let steady = known.is_steady();
        let mut kept = 0;
        if wanted.class == Class::Batch {
            kept = WHOLE / 100 * (100 - Class::Batch.percent());
            if !steady {
                kept = kept.max(self.window.rest(self.window.interactive, now_us));
            }
        }
        if known.share(known.left) < WHOLE / 2 {
            let others = self.window.for_others(wanted.group, steady, now_us);
            kept = kept.max(if steady { others.min(KEPT_MAX) } else { others });
        }
        kept
    }
}

#[cfg(test)]
mod tests {
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
    fn a_provider_that_said_nothing_is_not_held_back_from() {
        let pool = ProviderLimits::default();
        for _ in 0..1000 {
            pool.take(&wanted(1, Class::Batch), 0).unwrap();
        }
    }

    #[test]
    fn what_the_operator_grants_is_kept_to_whatever_the_provider_says() {
        let granted = OperatorLimits {
            requests: Some(6),
            tokens: Some(1_000),
        };
        let pool = ProviderLimits::default();
        pool.grant(&granted);
        let now = 1_780_000_000 * S;
        let one = ProviderUse {
            tokens: 100,
            ..wanted(1, Class::Interactive)
        };
        for _ in 0..6 {
            let taken = pool.take(&one, now).unwrap();
            pool.learn(&taken, &observed(500, 499, S), &NOTHING, now);
        }
        // A sixth of a minute brings one back, however often the settings are read anew.
        pool.grant(&granted);
        let wait_us = pool.take(&one, now).unwrap_err().wait_us;
        assert!((9 * S..=10 * S).contains(&wait_us), "{wait_us}");
        let taken = pool.take(&one, now + 10 * S).unwrap();
        // 600 tokens were estimated, of which a sixth of a minute brought 166 back.
        let left = |pool: &ProviderLimits, now| pool.read(now)[1].unwrap().left;
        assert_eq!(left(&pool, now + 10 * S), 466);
        pool.settle(&taken, 40, now + 10 * S);
        assert_eq!(left(&pool, now + 10 * S), 526);
        pool.settle(&taken, 900, now + 10 * S);
        assert_eq!(left(&pool, now + 10 * S), 0);
        pool.grant(&OperatorLimits::default());
        pool.take(&one, now + 10 * S).unwrap();

        // One that is larger than the limit leaves nothing, though it used less than was estimated.
        pool.grant(&OperatorLimits {
            requests: None,
            tokens: Some(50),
        });
        let taken = pool.take(&one, now + 10 * S).unwrap();
        pool.settle(&taken, 60, now + 10 * S);
        assert_eq!(left(&pool, now + 10 * S), 0);
    }

    #[test]
    fn a_retry_after_is_kept_to() {
        let pool = ProviderLimits::default();
        pool.pause(5 * S, 0);
        let busy = pool
            .take(&wanted(1, Class::Interactive), 4 * S)
            .unwrap_err();
        assert_eq!(busy.wait_us, S);
        pool.take(&wanted(1, Class::Interactive), 5 * S).unwrap();
    }

    #[test]
    fn a_bucket_and_a_window_are_told_apart_by_what_is_said_of_them() {
        let learned = |said: &AnnouncedLimit| {
            let mut known = LearnedLimit::default();
            known.learn(said, 0, S);
            (known.is_steady(), known.period_us)
        };
        // OpenAI: 60 a minute, one used, whole again in a second; 200 a day likewise in 432 s.
        assert_eq!(learned(&observed(60, 59, S)), (true, MINUTE_US));
        assert_eq!(learned(&observed(200, 199, 432 * S)), (true, DAY_US));
        assert_eq!(learned(&observed(60, 59, 59 * S)), (false, 59 * S));
    }

    #[test]
    fn what_was_sent_since_is_taken_off_and_an_old_answer_says_nothing() {
        let pool = ProviderLimits::default();
        let ask = wanted(1, Class::Interactive);
        let first = pool.take(&ask, 0).unwrap();
        let second = pool.take(&ask, 0).unwrap();
        let _third = pool.take(&ask, 0).unwrap();
        pool.learn(&second, &observed(10, 8, 59 * S), &NOTHING, 1);
        assert_eq!(
            pool.read(1)[0],
            Some(ProviderLimitStatus { limit: 10, left: 7 })
        );
        pool.learn(&first, &observed(10, 9, 59 * S), &NOTHING, 2);
        assert_eq!(
            pool.read(2)[0],
            Some(ProviderLimitStatus { limit: 10, left: 7 })
        );
    }

    #[test]
    fn a_request_that_is_larger_than_the_limit_is_let_through_when_it_is_whole() {
        let pool = ProviderLimits::default();
        let large = ProviderUse {
            tokens: 5_000,
            ..wanted(1, Class::Batch)
        };
        let taken = pool.take(&large, 0).unwrap();
        pool.learn(&taken, &NOTHING, &observed(1_000, 0, 60 * S), 0);
        let busy = pool.take(&large, 0).unwrap_err();
        assert!(busy.wait_us > 50 * S, "{busy:?}");
        pool.take(&large, 60 * S).unwrap();
    }

    /// A provider that counts for itself.
    struct Provider {
        limit: u64,
        left: u64,
        steady: bool,
        at_us: u64,
        refused: u64,
    }

    impl Provider {
        fn new(limit: u64, steady: bool) -> Self {
            Self {
                limit,
                left: limit,
                steady,
                at_us: 0,
                refused: 0,
            }
        }

        fn call(&mut self, now_us: u64) -> AnnouncedLimit {
            let passed_us = now_us - self.at_us;
            let back = scaled(self.limit, passed_us, MINUTE_US);
            if self.steady && back > 0 {
                self.left = self.limit.min(self.left + back);
                self.at_us += scaled(MINUTE_US, back, self.limit);
            } else if !self.steady && passed_us >= MINUTE_US {
                self.left = self.limit;
                self.at_us = now_us - passed_us % MINUTE_US;
            }
            match self.left.checked_sub(1) {
                Some(left) => self.left = left,
                None => self.refused += 1,
            }
            let missing = self.limit - self.left;
            let reset_us = if self.steady {
                scaled(MINUTE_US, missing, self.limit)
            } else {
                self.at_us + MINUTE_US - now_us
            };
            observed(self.limit, self.left, reset_us)
        }
    }

    /// Who asks how often. Returns what each was given and refused, and the provider's refusals.
    fn play(steady: bool, limit: u64, askers: &[(ProviderUse, u64)]) -> (Vec<(u64, u64)>, u64) {
        const STEP_US: u64 = 10_000;
        let (pool, mut provider) = (ProviderLimits::default(), Provider::new(limit, steady));
        let mut counts = vec![(0, 0); askers.len()];
        // Answers come 300 ms later.
        let mut under_way = std::collections::VecDeque::new();
        for step in 0..5 * MINUTE_US / STEP_US {
            let now_us = step * STEP_US;
            while let Some((at_us, taken, said)) = under_way.front() {
                if *at_us > now_us {
                    break;
                }
                pool.learn(taken, said, &NOTHING, now_us);
                under_way.pop_front();
            }
            for ((asker, every_us), count) in askers.iter().zip(&mut counts) {
                if now_us % every_us >= STEP_US {
                    continue;
                }
                match pool.take(asker, now_us) {
                    Ok(taken) => {
                        count.0 += 1;
                        let said = provider.call(now_us);
                        under_way.push_back((now_us + 300_000, taken, said));
                    }
                    Err(_) => count.1 += 1,
                }
            }
        }
        (counts, provider.refused)
    }

    #[test]
    fn a_batch_flood_starves_nobody_who_waits_and_the_provider_refuses_nearly_nothing() {
        for steady in [true, false] {
            // 100 a second against 300 a minute, beside one a second that somebody waits for.
            let askers = [
                (wanted(1, Class::Batch), 10_000),
                (wanted(1, Class::Interactive), S),
            ];
            let (counts, refused) = play(steady, 300, &askers);
            let [batch, interactive] = counts[..] else {
                panic!()
            };
            assert!(interactive.1 <= 6, "{steady}: {counts:?}");
            // What is left is used: 1500 in five minutes, 300 of them interactive.
            assert!(batch.0 >= 850, "{steady}: {counts:?}");
            assert!(refused <= 30, "{steady}: {refused}");
        }
    }

    #[test]
    fn a_greedy_team_leaves_the_others_what_they_ask_for() {
        for steady in [true, false] {
            let askers = [
                (wanted(1, Class::Interactive), 10_000),
                (wanted(2, Class::Interactive), S),
            ];
            let (counts, refused) = play(steady, 300, &askers);
            let [greedy, modest] = counts[..] else {
                panic!()
            };
            assert!(modest.1 <= 15, "{steady}: {counts:?}");
            assert!(greedy.0 >= 850, "{steady}: {counts:?}");
            assert!(refused <= 60, "{steady}: {refused}");
        }
    }

    #[test]
    fn two_greedy_teams_share_alike() {
        for steady in [true, false] {
            let askers = [
                (wanted(1, Class::Interactive), 10_000),
                (wanted(2, Class::Interactive), 50_000),
            ];
            let (counts, _) = play(steady, 300, &askers);
            let (one, other) = (counts[0].0, counts[1].0);
            assert!(other * 100 >= one * 60, "{steady}: {counts:?}");
        }
    }
}
