//! One request's plan: who is considered, with what probability, and what to try next.

use weir_schemas::table::size;

use crate::TARGETS_MAX;
use crate::alias::{Alias, Strategy};
use crate::breaker::BreakerState;
use crate::choose::{Choice, Wanted, draw, rendezvous};
use crate::failure::{Failure, FailureKind};
use crate::random::Draws;
use crate::routes::{DeploymentId, View};

/// What routing knows about a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestFacts {
    /// Estimate of the prompt's size.
    pub input_tokens: u32,
    /// The most the answer may take, if the client said so.
    pub output_tokens_max: Option<u32>,
    /// Hash of the user or session, for sticky splits.
    pub sticky: Option<u64>,
    /// Hash of the prompt's beginning, for prefix affinity.
    pub prefix: Option<u64>,
    /// Targets that this caller may not use. They are never tried.
    pub denied: TargetSet,
    /// Targets whose limits are used up. They are tried only when nothing else is left.
    pub over_limit: TargetSet,
    /// No try begins after this time.
    pub deadline_us: Option<u64>,
}

/// A set of targets of one alias, by position.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TargetSet(u32);

impl TargetSet {
    pub const EMPTY: Self = Self(0);

    pub fn insert(&mut self, index: usize) {
        self.0 |= bit(index);
    }

    pub fn remove(&mut self, index: usize) {
        self.0 &= !bit(index);
    }

    pub fn contains(self, index: usize) -> bool {
        self.0 & bit(index) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn len(self) -> usize {
        self.iter().count()
    }

    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let index = rest.trailing_zeros() as usize;
            rest &= rest.wrapping_sub(1);
            (index < TARGETS_MAX).then_some(index)
        })
    }
}

impl TargetSet {
    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn or_if_empty(self, other: Self) -> Self {
        if self.is_empty() { other } else { self }
    }
}

impl FromIterator<usize> for TargetSet {
    fn from_iter<I: IntoIterator<Item = usize>>(indexes: I) -> Self {
        let mut set = Self::EMPTY;
        indexes.into_iter().for_each(|index| set.insert(index));
        set
    }
}

fn bit(index: usize) -> u32 {
    u32::try_from(index)
        .ok()
        .and_then(|i| 1_u32.checked_shl(i))
        .unwrap_or(0)
}

pub(crate) fn position(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}

/// Why a target is, or is not, among the candidates. In the order in which a last resort prefers
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    Available,
    /// Half open, and this request may be the one that probes it.
    Probe,
    /// Half open, and another request is probing it.
    Probing,
    /// Ejected by its breaker.
    Ejected,
    /// The provider said when to come back.
    ToldToWait,
    OverLimit,
    /// The prompt does not fit its context window, by the estimate.
    TooSmall,
    Denied,
}

impl Standing {
    const COUNT: usize = Self::Denied as usize + 1;
}

/// A target that may serve the request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Position in the alias.
    pub target: u8,
    pub deployment: DeploymentId,
    /// What the strategy compared; lower is better, infinite is out of the question, and NaN is
    /// "compares nothing" (weighted).
    pub score: f32,
    /// Probability of being the first one tried.
    pub propensity: f32,
}

/// Why a try is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TryKind {
    First,
    /// Again at the same deployment.
    Retry,
    /// At another deployment.
    Fallback,
    /// At another deployment, while the first one still waits.
    Hedge,
    /// A copy whose answer is discarded.
    Shadow,
}

impl TryKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Retry => "retry",
            Self::Fallback => "fallback",
            Self::Hedge => "hedge",
            Self::Shadow => "shadow",
        }
    }

    pub(crate) fn draws_on_budget(self) -> bool {
        matches!(self, Self::Retry | Self::Fallback)
    }
}

/// One try to make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Try {
    /// Position in the alias.
    pub target: u8,
    pub deployment: DeploymentId,
    pub kind: TryKind,
    /// Wait this long before sending.
    pub delay_us: u64,
    /// Probability of this choice, given what went before.
    pub propensity: f32,
    /// This try decides whether an ejected deployment comes back.
    pub probe: bool,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    Try(Try),
    /// Answer the client with the failure at hand.
    GiveUp(GiveUp),
}

/// Why there is no further try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GiveUp {
    /// No target may be used by this caller.
    AllDenied,
    /// The failure would be the same anywhere, or the policy says not to go on after it.
    NotRetryable(FailureKind),
    /// The client has part of the answer.
    AnswerBegun,
    TriesExhausted,
    /// Every other target is tried, ejected or unsuitable.
    NobodyLeft,
    /// Too many extra tries have failed lately.
    RetryBudgetEmpty,
    /// The only target left asks for a longer wait than the policy allows.
    RetryAfterTooLong {
        us: u64,
    },
    Deadline,
}

impl GiveUp {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllDenied => "all_denied",
            Self::NotRetryable(_) => "not_retryable",
            Self::AnswerBegun => "answer_begun",
            Self::TriesExhausted => "tries_exhausted",
            Self::NobodyLeft => "nobody_left",
            Self::RetryBudgetEmpty => "retry_budget_empty",
            Self::RetryAfterTooLong { .. } => "retry_after_too_long",
            Self::Deadline => "deadline",
        }
    }
}

/// One request's way through its alias's targets. Held by the request from routing to its end.
#[derive(Debug, Clone)]
pub struct Plan {
    facts: RequestFacts,
    table_version: u64,
    seed: u64,
    draws: Draws,
    candidates: [Candidate; TARGETS_MAX],
    len: u8,
    standings: [Standing; TARGETS_MAX],
    last_resort: Option<Standing>,
    stalled: TargetSet,
    hedge_after_us: Option<u64>,
    shadow: Option<Try>,
    /// Chosen by the plan and not handed out yet.
    first: Option<Try>,
    last: Option<Try>,
    tried: TargetSet,
    tries: u8,
    tries_here: u8,
}

/// Of requests that could, this share probes a half-open target: most stay on targets that work,
/// and a recovered one is found within a few requests.
const PROBE_SHARE: f32 = 0.25;

/// Without a hedging policy, a late first token only leads to the question whether its deployment
/// is still in service. "Late" is bounded: what is known of an ejected one's latency is old.
const RESCUE_US_MIN: f32 = 300_000.0;
const RESCUE_US_MAX: f32 = 3_000_000.0;

impl Plan {
    /// Every target that may serve, with its score and the probability of being tried first.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates[..usize::from(self.len)]
    }

    /// Where a target stood when the plan was made.
    pub fn standing(&self, target: usize) -> Standing {
        self.standings
            .get(target)
            .copied()
            .unwrap_or(Standing::Denied)
    }

    /// Set when no target was available and the least bad ones were taken: what ails them.
    pub fn last_resort(&self) -> Option<Standing> {
        self.last_resort
    }

    pub fn table_version(&self) -> u64 {
        self.table_version
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Targets that this plan found stalled, and ejected.
    pub fn stalled(&self) -> TargetSet {
        self.stalled
    }

    /// Tries handed out so far.
    pub fn tries(&self) -> u8 {
        self.tries
    }

    pub(crate) fn input_tokens(&self) -> u32 {
        self.facts.input_tokens
    }

    pub(crate) fn make(
        view: View<'_>,
        alias: &Alias,
        facts: &RequestFacts,
        now_us: u64,
        seed: u64,
    ) -> Self {
        let priors = view.priors.believed(view.routes, alias, now_us);
        let mut plan = Self::empty(priors.version, facts, seed);
        let mut ramp = [1.0; TARGETS_MAX];
        for (index, ramp) in ramp.iter_mut().enumerate().take(alias.targets.len()) {
            let (standing, stalled) = standing(view, alias, facts, index, now_us, ramp);
            plan.standings[index] = standing;
            if stalled {
                plan.stalled.insert(index);
            }
        }
        let (candidates, serving, probes) = plan.sort_out(alias);
        let mut wanted = Wanted::nobody();
        let choice = Choice {
            view,
            alias,
            facts,
            priors,
            now_us,
        };
        choice.weigh(serving, &ramp, &mut wanted);
        let sticky = sticky_key(alias, facts);
        plan.first = plan.pick_first(alias, serving, probes, &mut wanted, sticky);
        for index in candidates.iter() {
            plan.push(alias, index, &wanted);
        }
        plan.prepare_hedge(view, alias, now_us);
        plan.pick_shadow(view, alias, now_us);
        plan
    }

    fn empty(table_version: u64, facts: &RequestFacts, seed: u64) -> Self {
        let nobody = Candidate {
            target: 0,
            deployment: DeploymentId::new(0),
            score: 0.0,
            propensity: 0.0,
        };
        Self {
            facts: *facts,
            table_version,
            seed,
            draws: Draws::new(seed),
            candidates: [nobody; TARGETS_MAX],
            len: 0,
            standings: [Standing::Denied; TARGETS_MAX],
            last_resort: None,
            stalled: TargetSet::EMPTY,
            hedge_after_us: None,
            shadow: None,
            first: None,
            last: None,
            tried: TargetSet::EMPTY,
            tries: 0,
            tries_here: 0,
        }
    }

    fn push(&mut self, alias: &Alias, index: usize, wanted: &Wanted) {
        self.candidates[usize::from(self.len)] = Candidate {
            target: position(index),
            deployment: alias.targets[index].deployment,
            score: wanted.score[index],
            propensity: wanted.propensity[index],
        };
        self.len += 1;
    }

    /// Candidates, those among them that serve (the lowest available rank), and those that may be
    /// probed (no higher than that rank).
    fn sort_out(&mut self, alias: &Alias) -> (TargetSet, TargetSet, TargetSet) {
        let mut by_standing = [TargetSet::EMPTY; Standing::COUNT];
        let mut weighted = TargetSet::EMPTY;
        for (index, target) in alias.targets.iter().enumerate() {
            by_standing[self.standings[index] as usize].insert(index);
            if target.weight > 0.0 {
                weighted.insert(index);
            }
        }
        let [available, probing, ..] = by_standing;
        let pool = available.and(weighted).or_if_empty(available);
        if let Some(rank) = lowest_rank(alias, pool) {
            let not_above = |i: &usize| alias.targets[*i].rank <= rank;
            let probes: TargetSet = probing.and(weighted).iter().filter(not_above).collect();
            return (available.or(probes), of_rank(alias, pool, rank), probes);
        }
        let least_bad = self.standings[..alias.targets.len()].iter().min().copied();
        let Some(least_bad) = least_bad.filter(|standing| *standing != Standing::Denied) else {
            return (TargetSet::EMPTY, TargetSet::EMPTY, TargetSet::EMPTY);
        };
        self.last_resort = (least_bad != Standing::Probe).then_some(least_bad);
        let pool = by_standing[least_bad as usize];
        let serving = lowest_rank(alias, pool).map_or(pool, |rank| of_rank(alias, pool, rank));
        (
            pool,
            serving,
            if least_bad == Standing::Probe {
                serving
            } else {
                TargetSet::EMPTY
            },
        )
    }

    fn pick_first(
        &mut self,
        alias: &Alias,
        serving: TargetSet,
        probes: TargetSet,
        wanted: &mut Wanted,
        sticky: Option<u64>,
    ) -> Option<Try> {
        let mut choice = match sticky {
            Some(key) => rendezvous(alias, serving, &wanted.propensity, key),
            None => draw(serving, &wanted.propensity, self.draws.unit()),
        }?;
        let probing: TargetSet = probes.iter().filter(|i| !serving.contains(*i)).collect();
        if !probing.is_empty() {
            let share = probe_share(alias, serving, probing);
            let each = share / probing.len() as f32;
            serving
                .iter()
                .for_each(|i| wanted.propensity[i] *= 1.0 - share);
            probing.iter().for_each(|i| wanted.propensity[i] = each);
            if self.draws.unit() < share {
                choice = draw(probing, &wanted.propensity, self.draws.unit())?;
            }
        }
        Some(Try {
            target: position(choice),
            deployment: alias.targets[choice].deployment,
            kind: TryKind::First,
            delay_us: 0,
            propensity: wanted.propensity[choice],
            probe: probes.contains(choice),
        })
    }

    fn prepare_hedge(&mut self, view: View<'_>, alias: &Alias, now_us: u64) {
        let Some(first) = self.first else { return };
        let p95 = view
            .routes
            .deployment(first.deployment)
            .health
            .ttft_p95(now_us);
        let late_us = p95.us * size::factor(self.facts.input_tokens, 0);
        self.hedge_after_us = Some(match &alias.hedge {
            Some(hedge) if p95.belief > 0.0 => {
                whole((late_us * hedge.after_factor).max(hedge.after_us_min))
            }
            _ => whole(late_us.clamp(RESCUE_US_MIN, RESCUE_US_MAX)),
        });
    }

    /// When to ask for a [`hedge`](Self::hedge), counted from the first try's start, if there is no
    /// first token by then. None: not any more.
    pub fn hedge_after_us(&self) -> Option<u64> {
        self.hedge_after_us
    }

    /// A second try beside the one that is still waiting for its first token; at most one per
    /// request. After a None, [`hedge_after_us`](Self::hedge_after_us) says when to ask again.
    ///
    /// There are three reasons for one. The alias hedges late answers, within its own budget. Or
    /// the first try is a probe: probes are few, and no client should wait out a black hole's
    /// timeout for the others' sake. Or the deployment was ejected after the try was sent, as a
    /// stalled one is: then the second try is the fallback that would follow the timeout, and draws
    /// on the same budget.
    ///
    /// When one of the two has its first token, cancel the other one and tell it so
    /// ([`InFlight::lose`](crate::InFlight::lose)); only when both have failed, ask for the
    /// [`next`](Self::next).
    pub fn hedge(&mut self, view: View<'_>, alias: &Alias, now_us: u64) -> Option<Try> {
        let asked_us = self.hedge_after_us.take()?;
        let first = self.last.filter(|last| last.kind == TryKind::First)?;
        // Seldom enough to cost nothing, often enough to beat any timeout.
        self.hedge_after_us = Some(asked_us + (asked_us / 2).max(whole(RESCUE_US_MIN)));
        let kind = self.hedge_kind(view, alias, first, now_us)?;
        let others = self.others(view, alias, None, first, now_us);
        let rank = lowest_rank(alias, others)?;
        let this = self.another(view, alias, of_rank(alias, others, rank), kind, now_us)?;
        let paid = match (kind, &alias.hedge) {
            (TryKind::Fallback, _) => alias.budget.try_take(now_us),
            (_, Some(hedge)) if !first.probe => hedge.budget.try_take(now_us),
            _ => true,
        };
        if !paid || self.tries >= alias.retry.tries_max {
            return None;
        }
        self.hedge_after_us = None;
        self.begin(this);
        Some(this)
    }

    /// Why the first try should not be waited for alone, if it should not.
    fn hedge_kind(
        &self,
        view: View<'_>,
        alias: &Alias,
        first: Try,
        now_us: u64,
    ) -> Option<TryKind> {
        if first.probe || alias.hedge.is_some() {
            return Some(TryKind::Hedge);
        }
        let deployment = view.routes.deployment(first.deployment);
        let spec = &view.routes.breaker;
        let _ = deployment.health.eject_if_stalled(spec, now_us);
        let in_service = matches!(
            deployment.breaker_state(spec, now_us),
            BreakerState::Closed { .. }
        );
        (!in_service).then_some(TryKind::Fallback)
    }

    fn pick_shadow(&mut self, view: View<'_>, alias: &Alias, now_us: u64) {
        let Some(shadow) = alias.shadow else { return };
        // A stream of its own, so that adding a shadow changes no other draw of a replayed request.
        let drawn = Draws::new(!self.seed).unit();
        let deployment = view.routes.deployment(shadow.deployment);
        let closed = matches!(
            deployment.breaker_state(&view.routes.breaker, now_us),
            BreakerState::Closed { .. }
        );
        if drawn < shadow.share && closed {
            self.shadow = Some(Try {
                target: u8::MAX,
                deployment: shadow.deployment,
                kind: TryKind::Shadow,
                delay_us: 0,
                propensity: shadow.share,
                probe: false,
            });
        }
    }

    /// The copy to send beside the first try, if this request is one of the share. Its answer is
    /// measured and discarded. Its target is in no alias position: `target` is `u8::MAX`.
    pub fn shadow(&mut self) -> Option<Try> {
        self.shadow.take()
    }

    /// Says what to try: at first with `failure` absent, then with the failure of the last try.
    pub fn next(
        &mut self,
        view: View<'_>,
        alias: &Alias,
        failure: Option<&Failure>,
        now_us: u64,
    ) -> Next {
        let decided = match failure {
            None => self.first.take().ok_or(GiveUp::AllDenied),
            Some(failure) => self.after(view, alias, failure, now_us),
        };
        let decided = decided.and_then(|this| self.admit(view, alias, this, now_us));
        match decided {
            Ok(this) => {
                self.begin(this);
                Next::Try(this)
            }
            Err(reason) => Next::GiveUp(reason),
        }
    }

    fn begin(&mut self, this: Try) {
        let again = self.last.is_some_and(|last| last.target == this.target);
        self.tries_here = if again {
            self.tries_here.saturating_add(1)
        } else {
            1
        };
        self.tries = self.tries.saturating_add(1);
        self.tried.insert(usize::from(this.target));
        self.last = Some(this);
    }

    fn after(
        &mut self,
        view: View<'_>,
        alias: &Alias,
        failure: &Failure,
        now_us: u64,
    ) -> Result<Try, GiveUp> {
        let rules = &alias.retry;
        let last = self.last.ok_or(GiveUp::AllDenied)?;
        if failure.relayed {
            return Err(GiveUp::AnswerBegun);
        }
        let may_retry = rules.retry_on.contains(failure.kind) || failure.retry_after_us.is_some();
        let may_fall_back = rules.fallback_on.contains(failure.kind);
        if !may_retry && !may_fall_back {
            return Err(GiveUp::NotRetryable(failure.kind));
        }
        if self.tries >= rules.tries_max {
            return Err(GiveUp::TriesExhausted);
        }
        let others = if may_fall_back {
            self.others(view, alias, Some(failure), last, now_us)
        } else {
            TargetSet::EMPTY
        };
        let rank = alias.targets[usize::from(last.target)].rank;
        let peers = of_rank(alias, others, rank);
        if !peers.is_empty() {
            return self.fall_back(view, alias, peers, now_us);
        }
        let again = if may_retry && self.tries_here < rules.tries_per_target {
            self.retry(alias, failure, last)
        } else {
            Err(GiveUp::NobodyLeft)
        };
        match lowest_rank(alias, others) {
            Some(rank) if again.is_err() || failure.retry_after_us.is_some() => {
                self.fall_back(view, alias, of_rank(alias, others, rank), now_us)
            }
            _ => again,
        }
    }

    fn retry(&mut self, alias: &Alias, failure: &Failure, last: Try) -> Result<Try, GiveUp> {
        let rules = &alias.retry;
        let delay_us = match failure.retry_after_us {
            Some(us) if us > rules.retry_after_us_max => {
                return Err(GiveUp::RetryAfterTooLong { us });
            }
            Some(us) => us,
            None => self.backoff_us(alias),
        };
        Ok(Try {
            kind: TryKind::Retry,
            delay_us,
            propensity: 1.0,
            probe: false,
            ..last
        })
    }

    /// Full jitter: anywhere between nothing and the doubled backoff, so that the requests that
    /// failed together don't come back together.
    fn backoff_us(&mut self, alias: &Alias) -> u64 {
        let doublings = u32::from(self.tries_here.saturating_sub(1)).min(20);
        let most_us = (alias.retry.backoff_us << doublings).min(alias.retry.backoff_us_max);
        self.draws.next_u64() % (most_us + 1)
    }

    /// Targets that may take over: not tried, in service, trusted with extra tries, and with a
    /// longer context window if that is what was missing.
    fn others(
        &self,
        view: View<'_>,
        alias: &Alias,
        failure: Option<&Failure>,
        last: Try,
        now_us: u64,
    ) -> TargetSet {
        let overflowed = failure.is_some_and(|f| f.kind == FailureKind::ContextWindow);
        let window = view
            .routes
            .deployment(last.deployment)
            .context_window_tokens;
        (0..alias.targets.len())
            .filter(|i| !self.tried.contains(*i) && alias.targets[*i].weight > 0.0)
            .filter(|i| {
                let other = view.routes.deployment(alias.targets[*i].deployment);
                let longer = other
                    .context_window_tokens
                    .is_none_or(|theirs| window.is_some_and(|w| theirs > w));
                (!overflowed || longer) && other.health.admits_extra()
            })
            .filter(|i| {
                let (standing, _) = standing(view, alias, &self.facts, *i, now_us, &mut 1.0);
                standing == Standing::Available
            })
            .collect()
    }

    fn another(
        &mut self,
        view: View<'_>,
        alias: &Alias,
        set: TargetSet,
        kind: TryKind,
        now_us: u64,
    ) -> Option<Try> {
        let mut wanted = Wanted::nobody();
        let facts = self.facts;
        let priors = view.priors.believed(view.routes, alias, now_us);
        let choice = Choice {
            view,
            alias,
            facts: &facts,
            priors,
            now_us,
        };
        choice.weigh(set, &[1.0; TARGETS_MAX], &mut wanted);
        let chosen = match sticky_key(alias, &facts) {
            Some(key) => rendezvous(alias, set, &wanted.propensity, key),
            None => draw(set, &wanted.propensity, self.draws.unit()),
        }?;
        Some(Try {
            target: position(chosen),
            deployment: alias.targets[chosen].deployment,
            kind,
            delay_us: 0,
            propensity: wanted.propensity[chosen],
            probe: false,
        })
    }

    fn fall_back(
        &mut self,
        view: View<'_>,
        alias: &Alias,
        set: TargetSet,
        now_us: u64,
    ) -> Result<Try, GiveUp> {
        self.another(view, alias, set, TryKind::Fallback, now_us)
            .ok_or(GiveUp::NobodyLeft)
    }

    /// The last gates: the deadline for every try, the budgets for extra ones.
    fn admit(&self, view: View<'_>, alias: &Alias, this: Try, now_us: u64) -> Result<Try, GiveUp> {
        if self
            .facts
            .deadline_us
            .is_some_and(|deadline| now_us + this.delay_us >= deadline)
        {
            return Err(GiveUp::Deadline);
        }
        if !this.kind.draws_on_budget() {
            alias.budget.deposit();
            if let Some(hedge) = &alias.hedge {
                hedge.budget.deposit();
            }
            return Ok(this);
        }
        let health = &view.routes.deployment(this.deployment).health;
        if !health.admits_extra() || !alias.budget.try_take(now_us) {
            return Err(GiveUp::RetryBudgetEmpty);
        }
        Ok(this)
    }
}

/// Where a target stands, and whether this look found it stalled. `ramp` becomes the share of its
/// weight that it may have while it comes back.
fn standing(
    view: View<'_>,
    alias: &Alias,
    facts: &RequestFacts,
    index: usize,
    now_us: u64,
    ramp: &mut f32,
) -> (Standing, bool) {
    let deployment = view.routes.deployment(alias.targets[index].deployment);
    if facts.denied.contains(index) {
        return (Standing::Denied, false);
    }
    let needed = u64::from(facts.input_tokens) + u64::from(facts.output_tokens_max.unwrap_or(0));
    if deployment
        .context_window_tokens
        .is_some_and(|window| needed > u64::from(window))
    {
        return (Standing::TooSmall, false);
    }
    let short = deployment
        .health
        .quota_is_short(u64::from(facts.input_tokens), now_us);
    if short || facts.over_limit.contains(index) {
        return (Standing::OverLimit, false);
    }
    let spec = &view.routes.breaker;
    let stalled = deployment.health.eject_if_stalled(spec, now_us).is_some();
    let standing = match deployment.breaker_state(spec, now_us) {
        BreakerState::Closed { ramp: share } => {
            *ramp = share;
            Standing::Available
        }
        BreakerState::HalfOpen { probe_due: true } => Standing::Probe,
        BreakerState::HalfOpen { probe_due: false } => Standing::Probing,
        BreakerState::Open { cause, .. } if cause.was_told() => Standing::ToldToWait,
        BreakerState::Open { .. } => Standing::Ejected,
    };
    (standing, stalled)
}

/// Microseconds as a float, as an integer within a day.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what fits"
)]
fn whole(us: f32) -> u64 {
    us.clamp(0.0, 86_400e6) as u64
}

fn lowest_rank(alias: &Alias, set: TargetSet) -> Option<u8> {
    set.iter().map(|i| alias.targets[i].rank).min()
}

fn of_rank(alias: &Alias, set: TargetSet, rank: u8) -> TargetSet {
    set.iter()
        .filter(|i| alias.targets[*i].rank == rank)
        .collect()
}

/// A chain's earlier step is what the operator wants, so it is probed at once when it may be;
/// elsewhere a probe takes a share.
fn probe_share(alias: &Alias, serving: TargetSet, probing: TargetSet) -> f32 {
    let earlier = lowest_rank(alias, probing) < lowest_rank(alias, serving);
    if earlier { 1.0 } else { PROBE_SHARE }
}

fn sticky_key(alias: &Alias, facts: &RequestFacts) -> Option<u64> {
    match alias.strategy {
        Strategy::Weighted { sticky: true } => facts.sticky,
        _ => None,
    }
}
