//! One request's plan: the targets considered, their probabilities, and what to try next.

mod after;
mod beside;

use std::sync::Arc;

use weir_schemas::table::size;

use crate::alias::Alias;
use crate::attempt::{Attempt, AttemptKind};
use crate::breaker::BreakerState;
use crate::choose::{TargetScores, draw, rendezvous};
use crate::facts::RoutingFacts;
use crate::in_flight::{InFlight, InFlightContext, WindowRef};
use crate::random::SeededRng;
use crate::spec::DeploymentId;
use crate::status::{TargetStatus, status};
use crate::target_set::{TARGETS_MAX, TargetSet, position};
use crate::view::{AliasView, Choice, RoutingView};

/// A target that may serve the request.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ScoredTarget {
    /// Position in the alias.
    pub target: u8,
    pub deployment: DeploymentId,
    /// What the strategy compared. Lower is better, infinite excludes, and NaN means that it does
    /// not compare (weighted).
    pub score: f32,
    /// Probability of being the first one attempted.
    pub propensity: f32,
}

/// One request's way through its alias's targets, held by the request to its end.
#[derive(Debug, Clone)]
pub struct Plan {
    facts: RoutingFacts,
    /// Version of the routing table that it went by; 0 without one.
    pub table_version: u64,
    pub seed: u64,
    rng: SeededRng,
    candidates: [ScoredTarget; TARGETS_MAX],
    len: u8,
    statuses: [TargetStatus; TARGETS_MAX],
    /// Why the targets considered are not available, when none is and the least bad ones must serve.
    pub last_resort: Option<TargetStatus>,
    /// Targets that it found stalled and ejected.
    pub stalled: TargetSet,
    /// When to ask for a [`hedge`](Self::hedge), counted from the first attempt's start, if there is
    /// no first token by then. `None`: do not ask again.
    pub hedge_after_us: Option<u64>,
    shadow: Option<Attempt>,
    /// Chosen by the plan and not handed out yet.
    first: Option<Attempt>,
    last: Option<Attempt>,
    attempted: TargetSet,
    attempts: u8,
    attempts_here: u8,
}

/// Share of requests that probe a half-open target: most stay on targets that work, and a recovered
/// one is found within a few requests.
const PROBE_SHARE: f32 = 0.25;
/// How long an answer may become if the client does not bound it. Few are longer.
const ANSWER_TOKENS_LONG: u32 = 2_000;

impl RoutingView<'_> {
    /// Opens an attempt that [`Plan::next`], [`Plan::hedge`] or [`Plan::shadow`] gave, at the moment
    /// its request is sent.
    pub fn start(self, alias: &Alias, plan: &Plan, attempt: &Attempt, now_us: u64) -> InFlight {
        let deployment = self.routes.deployment(attempt.deployment);
        let state = deployment.breaker_state(&self.routes.breaker, now_us);
        let entry = InFlightContext {
            health: Arc::clone(&deployment.health),
            key: deployment.key.as_ref().map(|key| Arc::clone(&key.breaker)),
            breaker: self.routes.breaker,
            budget: attempt.kind.is_extra().then(|| Arc::clone(&alias.budget)),
            window: window(alias, attempt),
            input_tokens: plan.facts.input_tokens,
            awaited_tokens: plan.awaited_tokens(),
            // A last resort is a probe too: its answer tells as much.
            probe: attempt.probe || !matches!(state, BreakerState::Closed { .. }),
        };
        InFlight::enter(entry, now_us)
    }

    /// Weighs the alias's targets for one request.
    pub fn plan(self, alias: &Alias, facts: &RoutingFacts, now_us: u64, seed: u64) -> Plan {
        Plan::make(self.at(alias, now_us), facts, seed)
    }
}

fn window(alias: &Alias, attempt: &Attempt) -> Option<WindowRef> {
    Some(WindowRef {
        windows: Arc::clone(alias.windows.as_ref()?),
        target: usize::from(attempt.target),
        ttft_ms_max: alias.strategy.ttft_ms_max()?,
    })
}

impl Plan {
    /// Every target that may serve, with its score and the probability of being attempted first.
    pub fn candidates(&self) -> &[ScoredTarget] {
        &self.candidates[..usize::from(self.len)]
    }

    /// Targets whose limits are used up by now, for the attempts that follow.
    pub fn set_throttled(&mut self, targets: TargetSet) {
        self.facts.throttled = targets;
    }

    /// Status of a target when the plan was made.
    pub fn status(&self, target: usize) -> TargetStatus {
        self.statuses
            .get(target)
            .copied()
            .unwrap_or(TargetStatus::Denied)
    }

    /// The [`stalled`](Self#structfield.stalled) targets, each reported once.
    pub fn take_stalled(&mut self) -> TargetSet {
        std::mem::take(&mut self.stalled)
    }

    /// Work until the first byte of the answer, as input tokens.
    fn awaited_tokens(&self) -> u32 {
        let RoutingFacts {
            input_tokens,
            output_tokens_max,
            in_one_piece,
            ..
        } = self.facts;
        if !in_one_piece {
            return input_tokens;
        }
        // Many clients allow far longer answers than models write.
        let output = output_tokens_max.map_or(ANSWER_TOKENS_LONG, |m| m.min(ANSWER_TOKENS_LONG));
        input_tokens.saturating_add(output * size::INPUT_TOKENS_PER_OUTPUT_TOKEN)
    }

    fn make(at: AliasView<'_>, facts: &RoutingFacts, seed: u64) -> Self {
        let (alias, priors) = (at.alias, at.priors());
        let mut plan = Self::empty(priors.version, facts, seed);
        let mut ramp = [1.0; TARGETS_MAX];
        for (index, ramp) in ramp.iter_mut().enumerate().take(alias.targets.len()) {
            let (status, stalled) = status(
                at.deployment(index),
                &at.view.routes.breaker,
                facts,
                index,
                at.now_us,
                ramp,
            );
            plan.statuses[index] = status;
            if stalled {
                plan.stalled.insert(index);
            }
        }
        let (candidates, serving, probes) = plan.sort_out(at);
        let mut scores = TargetScores::default();
        let choice = Choice { at, facts, priors };
        choice.weigh(serving, &ramp, &mut scores);
        plan.first = plan.pick_first(alias, serving, probes, &mut scores);
        for index in candidates.iter() {
            plan.push(alias, index, &scores);
        }
        plan.prepare_hedge(at);
        plan.pick_shadow(at);
        plan
    }

    fn empty(table_version: u64, facts: &RoutingFacts, seed: u64) -> Self {
        Self {
            facts: *facts,
            table_version,
            seed,
            rng: SeededRng::new(seed),
            candidates: [ScoredTarget::default(); TARGETS_MAX],
            len: 0,
            statuses: [TargetStatus::Denied; TARGETS_MAX],
            last_resort: None,
            stalled: TargetSet::EMPTY,
            hedge_after_us: None,
            shadow: None,
            first: None,
            last: None,
            attempted: TargetSet::EMPTY,
            attempts: 0,
            attempts_here: 0,
        }
    }

    fn push(&mut self, alias: &Alias, index: usize, scores: &TargetScores) {
        self.candidates[usize::from(self.len)] = ScoredTarget {
            target: position(index),
            deployment: alias.targets[index].deployment,
            score: scores.score[index],
            propensity: scores.propensity[index],
        };
        self.len += 1;
    }

    /// Candidates, those among them that serve (the lowest available rank), and those that may be
    /// probed (no higher than that rank).
    fn sort_out(&mut self, at: AliasView<'_>) -> (TargetSet, TargetSet, TargetSet) {
        let alias = at.alias;
        let mut by_standing = [TargetSet::EMPTY; TargetStatus::COUNT];
        let mut weighted = TargetSet::EMPTY;
        for (index, target) in alias.targets.iter().enumerate() {
            by_standing[self.statuses[index] as usize].insert(index);
            if target.weight > 0.0 {
                weighted.insert(index);
            }
        }
        let [available, probing, ..] = by_standing;
        let pool = available.and(weighted).or_if_empty(available);
        if let Some(rank) = alias.lowest_rank(pool) {
            let not_above = |i: &usize| alias.targets[*i].rank <= rank;
            let probes: TargetSet = probing.and(weighted).iter().filter(not_above).collect();
            return (available.or(probes), alias.of_rank(pool, rank), probes);
        }
        let least_bad = self.statuses[..alias.targets.len()].iter().min().copied();
        let Some(least_bad) = least_bad.filter(|status| *status != TargetStatus::Denied) else {
            return (TargetSet::EMPTY, TargetSet::EMPTY, TargetSet::EMPTY);
        };
        self.last_resort = (least_bad != TargetStatus::Probe).then_some(least_bad);
        let mut pool = by_standing[least_bad as usize];
        if least_bad == TargetStatus::TooSmall {
            pool = longest_windows(at, pool);
        }
        let serving = alias
            .lowest_rank(pool)
            .map_or(pool, |rank| alias.of_rank(pool, rank));
        let may_probe = least_bad == TargetStatus::Probe;
        let probes = if may_probe { serving } else { TargetSet::EMPTY };
        (pool, serving, probes)
    }

    fn pick_first(
        &mut self,
        alias: &Alias,
        serving: TargetSet,
        probes: TargetSet,
        scores: &mut TargetScores,
    ) -> Option<Attempt> {
        let mut choice = self.pick(alias, serving, scores)?;
        let probing: TargetSet = probes.iter().filter(|i| !serving.contains(*i)).collect();
        if !probing.is_empty() {
            let share = probe_share(alias, serving, probing);
            let each = share / probing.len() as f32;
            serving
                .iter()
                .for_each(|i| scores.propensity[i] *= 1.0 - share);
            probing.iter().for_each(|i| scores.propensity[i] = each);
            if self.rng.unit() < share {
                choice = draw(probing, &scores.propensity, self.rng.unit())?;
            }
        }
        Some(Attempt {
            probe: probes.contains(choice),
            ..attempt(alias, choice, AttemptKind::First, scores)
        })
    }

    /// Picks one of `set`: at random, or the sticky one.
    fn pick(&mut self, alias: &Alias, set: TargetSet, scores: &TargetScores) -> Option<usize> {
        match alias.sticky_key(&self.facts) {
            Some(key) => rendezvous(alias, set, &scores.propensity, key),
            None => draw(set, &scores.propensity, self.rng.unit()),
        }
    }
}

/// An attempt at a target that was picked.
fn attempt(alias: &Alias, target: usize, kind: AttemptKind, scores: &TargetScores) -> Attempt {
    Attempt {
        target: position(target),
        deployment: alias.targets[target].deployment,
        kind,
        delay_us: 0,
        propensity: scores.propensity[target],
        probe: false,
    }
}

/// By the estimate, the prompt fits nowhere. The estimate may be too high, and the longest window is
/// the likeliest to fit.
fn longest_windows(at: AliasView<'_>, set: TargetSet) -> TargetSet {
    let window = |i: usize| at.deployment(i).context_window_tokens;
    let longest = set.iter().map(window).max().flatten();
    set.iter().filter(|i| window(*i) == longest).collect()
}

/// An earlier step of a chain is what the operator prefers, so it is probed at once when it may be;
/// elsewhere a probe takes a share.
fn probe_share(alias: &Alias, serving: TargetSet, probing: TargetSet) -> f32 {
    let earlier = alias.lowest_rank(probing) < alias.lowest_rank(serving);
    if earlier { 1.0 } else { PROBE_SHARE }
}
