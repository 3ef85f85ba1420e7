//! One request's plan: who is considered, with what probability, and what to try next.

mod after;
mod beside;
mod tries;

pub use tries::{GiveUp, Next, Try, TryKind};

use weir_schemas::table::size;

use crate::TARGETS_MAX;
use crate::alias::{Alias, Strategy};
use crate::choose::{Choice, Wanted, draw, rendezvous};
use crate::random::Draws;
use crate::routes::{DeploymentId, View};
use crate::targets::{Standing, TargetSet, lowest_rank, of_rank, position, standing};

/// What routing knows about a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestFacts {
    /// Estimate of the prompt's size.
    pub input_tokens: u32,
    /// The most the answer may take, if the client said so.
    pub output_tokens_max: Option<u32>,
    /// The client wants the answer in one piece: nothing is seen of it before all of it is there.
    pub in_one_piece: bool,
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
/// How long an answer may become if the client does not bound it. Few are longer.
const ANSWER_TOKENS_LONG: u32 = 2_000;

impl Plan {
    /// Every target that may serve, with its score and the probability of being tried first.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates[..usize::from(self.len)]
    }

    /// Targets whose limits are used up by now, for the tries that follow.
    pub fn set_over_limit(&mut self, targets: TargetSet) {
        self.facts.over_limit = targets;
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

    /// The same, each told once.
    pub fn take_stalled(&mut self) -> TargetSet {
        std::mem::take(&mut self.stalled)
    }

    /// Tries handed out so far.
    pub fn tries(&self) -> u8 {
        self.tries
    }

    pub(crate) fn input_tokens(&self) -> u32 {
        self.facts.input_tokens
    }

    /// What must be read and written until something is seen of the answer, as input tokens.
    pub(crate) fn awaited_tokens(&self) -> u32 {
        let RequestFacts {
            input_tokens,
            output_tokens_max,
            in_one_piece,
            ..
        } = self.facts;
        if !in_one_piece {
            return input_tokens;
        }
        // Many clients allow far more than is ever written.
        let output = output_tokens_max.map_or(ANSWER_TOKENS_LONG, |m| m.min(ANSWER_TOKENS_LONG));
        input_tokens.saturating_add(output * size::INPUT_TOKENS_PER_OUTPUT_TOKEN)
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
        let (candidates, serving, probes) = plan.sort_out(view, alias);
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
    fn sort_out(&mut self, view: View<'_>, alias: &Alias) -> (TargetSet, TargetSet, TargetSet) {
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
        let mut pool = by_standing[least_bad as usize];
        if least_bad == Standing::TooSmall {
            pool = longest_windows(view, alias, pool);
        }
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
}

/// The estimate says that the prompt fits nowhere. It may be wrong, and it is least likely to be
/// where the window is longest.
fn longest_windows(view: View<'_>, alias: &Alias, set: TargetSet) -> TargetSet {
    let window = |i: usize| {
        view.routes
            .deployment(alias.targets[i].deployment)
            .context_window_tokens
    };
    let longest = set.iter().map(window).max().flatten();
    set.iter().filter(|i| window(*i) == longest).collect()
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
