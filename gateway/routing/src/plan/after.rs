//! The next attempt: the first one, and after each failure another or none.

use crate::alias::Alias;
use crate::attempt::{Attempt, AttemptKind, GiveUp, Next};
use crate::choose::TargetScores;
use crate::failure::{Failure, FailureKind};
use crate::packed::US_PER_MS;
use crate::plan::{Plan, attempt};
use crate::status::{TargetStatus, status};
use crate::target_set::{TARGETS_MAX, TargetSet};
use crate::view::{AliasView, Choice, RoutingView};

impl Plan {
    /// Decides what to do: first without a `failure`, then with the failure of the last attempt.
    pub fn next(
        &mut self,
        view: RoutingView<'_>,
        alias: &Alias,
        failure: Option<&Failure>,
        now_us: u64,
    ) -> Next {
        let at = view.at(alias, now_us);
        let decided = match failure {
            None => self.first.take().ok_or(GiveUp::AllDenied),
            Some(failure) => self.after(at, failure),
        };
        match decided.and_then(|attempt| self.admit(at, attempt)) {
            Ok(attempt) => {
                self.begin(attempt);
                Next::Attempt(attempt)
            }
            Err(reason) => Next::GiveUp(reason),
        }
    }

    pub(super) fn begin(&mut self, attempt: Attempt) {
        let again = self.last.is_some_and(|last| last.target == attempt.target);
        self.attempts_here = if again {
            self.attempts_here.saturating_add(1)
        } else {
            1
        };
        self.attempts = self.attempts.saturating_add(1);
        self.attempted.insert(usize::from(attempt.target));
        self.last = Some(attempt);
    }

    fn after(&mut self, at: AliasView<'_>, failure: &Failure) -> Result<Attempt, GiveUp> {
        let alias = at.alias;
        let rules = &alias.retry;
        let last = self.last.ok_or(GiveUp::AllDenied)?;
        if failure.relayed {
            return Err(GiveUp::AnswerBegun);
        }
        let is_in = |kinds: &[FailureKind]| {
            kinds.contains(&failure.kind) || kinds.contains(&failure.kind.broader())
        };
        // A pause that is asked for is no reason to repeat what stays wrong.
        let may_retry =
            is_in(&rules.retry_on) || failure.retry_after_us.is_some() && failure.kind.may_pass();
        let may_fall_back = is_in(&rules.fallback_on);
        if !may_retry && !may_fall_back {
            return Err(GiveUp::NotRetryable(failure.kind));
        }
        if self.attempts >= rules.tries_max {
            return Err(GiveUp::AttemptsExhausted);
        }
        let others = if may_fall_back {
            self.others(at, Some(failure), last)
        } else {
            TargetSet::EMPTY
        };
        let rank = alias.targets[usize::from(last.target)].rank;
        let peers = alias.of_rank(others, rank);
        if !peers.is_empty() {
            return self.fall_back(at, peers);
        }
        let again = if may_retry && self.attempts_here < rules.tries_per_target {
            self.retry(alias, failure, last)
        } else {
            Err(GiveUp::NoTargetLeft)
        };
        match alias.lowest_rank(others) {
            Some(rank) if again.is_err() || failure.retry_after_us.is_some() => {
                self.fall_back(at, alias.of_rank(others, rank))
            }
            _ => again,
        }
    }

    fn retry(
        &mut self,
        alias: &Alias,
        failure: &Failure,
        last: Attempt,
    ) -> Result<Attempt, GiveUp> {
        let rules = &alias.retry;
        let delay_us = match failure.retry_after_us {
            Some(us) if us > u64::from(rules.retry_after_ms_max) * US_PER_MS => {
                return Err(GiveUp::RetryAfterTooLong { us });
            }
            Some(us) => us,
            None => self.backoff_us(alias),
        };
        Ok(Attempt {
            kind: AttemptKind::Retry,
            delay_us,
            propensity: 1.0,
            probe: false,
            ..last
        })
    }

    /// Full jitter: anywhere between nothing and the doubled backoff, so that the requests that
    /// failed together don't come back together.
    fn backoff_us(&mut self, alias: &Alias) -> u64 {
        let doublings = u32::from(self.attempts_here.saturating_sub(1)).min(20);
        let doubled_ms = u64::from(alias.retry.backoff_ms) << doublings;
        let most_us = doubled_ms.min(alias.retry.backoff_ms_max.into()) * US_PER_MS;
        self.rng.next_u64() % (most_us + 1)
    }

    /// Targets that may take over: not attempted, in service, trusted with extra attempts, and with a
    /// longer context window if that is what was missing.
    pub(super) fn others(
        &mut self,
        at: AliasView<'_>,
        failure: Option<&Failure>,
        last: Attempt,
    ) -> TargetSet {
        let overflowed = failure.is_some_and(|f| f.kind == FailureKind::ContextWindow);
        let last = at.view.routes.deployment(last.deployment);
        let window = last.context_window_tokens;
        let mut others = TargetSet::EMPTY;
        for (index, target) in at.alias.targets.iter().enumerate() {
            if self.attempted.contains(index) || target.weight <= 0.0 {
                continue;
            }
            let other = at.deployment(index);
            let longer = other
                .context_window_tokens
                .is_none_or(|theirs| window.is_some_and(|w| theirs > w));
            if overflowed && !longer || !other.health.admits_extra() {
                continue;
            }
            let (status, stalled) = status(
                other,
                &at.view.routes.breaker,
                &self.facts,
                index,
                at.now_us,
                &mut 1.0,
            );
            if stalled {
                self.stalled.insert(index);
            }
            if status == TargetStatus::Available {
                others.insert(index);
            }
        }
        others
    }

    pub(super) fn another(
        &mut self,
        at: AliasView<'_>,
        set: TargetSet,
        kind: AttemptKind,
    ) -> Option<Attempt> {
        let mut scores = TargetScores::default();
        let choice = Choice {
            at,
            facts: &self.facts,
            priors: at.priors(),
        };
        choice.weigh(set, &[1.0; TARGETS_MAX], &mut scores);
        let chosen = self.pick(at.alias, set, &scores)?;
        Some(attempt(at.alias, chosen, kind, &scores))
    }

    fn fall_back(&mut self, at: AliasView<'_>, set: TargetSet) -> Result<Attempt, GiveUp> {
        self.another(at, set, AttemptKind::Fallback)
            .ok_or(GiveUp::NoTargetLeft)
    }

    /// The last checks: the deadline for every attempt, the budgets for extra ones.
    fn admit(&self, at: AliasView<'_>, attempt: Attempt) -> Result<Attempt, GiveUp> {
        let alias = at.alias;
        let begins_us = at.now_us + attempt.delay_us;
        if self
            .facts
            .deadline_us
            .is_some_and(|at_us| begins_us >= at_us)
        {
            return Err(GiveUp::Deadline);
        }
        if !attempt.kind.is_extra() {
            alias.budget.deposit();
            if let Some(hedge) = &alias.hedge {
                hedge.budget.deposit();
            }
            return Ok(attempt);
        }
        let health = &at.view.routes.deployment(attempt.deployment).health;
        if !health.admits_extra() || !alias.budget.try_take(at.now_us) {
            return Err(GiveUp::RetryBudgetEmpty);
        }
        Ok(attempt)
    }
}
