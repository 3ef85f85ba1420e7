//! An alias as it runs: checked and indexed.

use std::sync::Arc;

use crate::budget::RetryBudget;
use crate::concurrency::ConcurrencyWindow;
use crate::facts::RoutingFacts;
use crate::random::hash;
use crate::spec::{
    AliasSpec, DeploymentId, DeploymentSpec, HedgeSpec, ObjectiveSpec, RetrySpec, ShadowSpec,
    StrategySpec, TargetSpec,
};
use crate::target_set::TargetSet;

/// A stable name and the targets behind it.
#[derive(Debug, Clone)]
pub struct Alias {
    pub name: Box<str>,
    /// Position among the routes' aliases.
    pub index: usize,
    pub strategy: StrategySpec,
    pub targets: Vec<AliasTarget>,
    pub(crate) retry: Arc<RetrySpec>,
    pub(crate) budget: Arc<RetryBudget>,
    pub(crate) hedge: Option<HedgeRules>,
    pub(crate) shadow: Option<ShadowSpec>,
    /// By target; only under a latency limit.
    pub(crate) windows: Option<Arc<[ConcurrencyWindow]>>,
    /// Share of requests spread evenly over the targets, by the adaptive strategies.
    pub(crate) exploration: f32,
}

/// When to hedge, and what may be spent on it.
#[derive(Debug, Clone)]
pub(crate) struct HedgeRules {
    pub(crate) spec: HedgeSpec,
    pub(crate) budget: Arc<RetryBudget>,
}

/// One deployment of an alias.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AliasTarget {
    pub deployment: DeploymentId,
    pub weight: f32,
    pub rank: u8,
    /// Hash of the deployment's name: sticky keys stay in place when other targets come and go.
    pub(crate) name_hash: u64,
}

impl Alias {
    /// The alias with some deployments replaced. Where several targets become one, the first takes the
    /// weight of all.
    #[must_use]
    pub fn with_deployments(&self, instead: impl Fn(DeploymentId) -> Option<DeploymentId>) -> Self {
        let mut targets: Vec<AliasTarget> = Vec::with_capacity(self.targets.len());
        for target in &self.targets {
            let Some(deployment) = instead(target.deployment) else {
                targets.push(*target);
                continue;
            };
            let mut weight = target.weight;
            let is_same = |known: &&mut AliasTarget| {
                known.deployment == deployment && known.rank == target.rank
            };
            if let Some(first) = targets.iter_mut().find(is_same) {
                first.weight += std::mem::take(&mut weight);
            }
            targets.push(AliasTarget {
                deployment,
                weight,
                ..*target
            });
        }
        let shadow = self.shadow.map(|shadow| ShadowSpec {
            deployment: instead(shadow.deployment).unwrap_or(shadow.deployment),
            ..shadow
        });
        Self {
            targets,
            shadow,
            ..self.clone()
        }
    }

    /// Builds an alias that passed the check. `carried` is the same alias before a reload.
    pub(crate) fn build(
        spec: &AliasSpec,
        index: usize,
        deployments: &[DeploymentSpec],
        carried: Option<&Self>,
    ) -> Self {
        let budget = RetryBudget::new(
            milli(spec.retry.budget_ratio),
            milli(spec.retry.budget_per_s),
        );
        if let Some(carried) = carried {
            budget.carry(&carried.budget);
        }
        let target = |spec: &TargetSpec| AliasTarget {
            deployment: DeploymentId::new(spec.deployment),
            weight: spec.weight,
            rank: spec.rank,
            name_hash: hash(&deployments[spec.deployment].name),
        };
        Self {
            name: spec.name.as_str().into(),
            index,
            strategy: spec.strategy.clone(),
            targets: spec.targets.iter().map(target).collect(),
            retry: Arc::new(spec.retry.clone()),
            budget: Arc::new(budget),
            hedge: spec.hedge.clone().map(HedgeRules::new),
            shadow: spec.shadow,
            windows: windows(spec, carried),
            exploration: spec.exploration.unwrap_or(EXPLORATION),
        }
    }

    pub(crate) fn lowest_rank(&self, set: TargetSet) -> Option<u8> {
        set.iter().map(|i| self.targets[i].rank).min()
    }

    pub(crate) fn of_rank(&self, set: TargetSet, rank: u8) -> TargetSet {
        set.iter()
            .filter(|i| self.targets[*i].rank == rank)
            .collect()
    }

    /// Hash that keeps a request at its target, under a sticky strategy.
    pub(crate) fn sticky_key(&self, facts: &RoutingFacts) -> Option<u64> {
        match self.strategy {
            StrategySpec::Weighted { sticky: true } => facts.sticky,
            _ => None,
        }
    }
}

/// Share of requests that explore, unless the operator sets another.
const EXPLORATION: f32 = 0.01;

impl HedgeRules {
    fn new(spec: HedgeSpec) -> Self {
        let budget = Arc::new(RetryBudget::new(milli(spec.budget_ratio), 0));
        Self { spec, budget }
    }
}

/// Windows are kept over a reload that leaves the alias's targets as they were.
fn windows(spec: &AliasSpec, carried: Option<&Alias>) -> Option<Arc<[ConcurrencyWindow]>> {
    let StrategySpec::Objective(ObjectiveSpec::Limits { .. }) = spec.strategy else {
        return None;
    };
    let before = carried.and_then(|alias| alias.windows.clone());
    let kept = before.filter(|windows| windows.len() == spec.targets.len());
    let open = || spec.targets.iter().map(|_| ConcurrencyWindow::default());
    Some(kept.unwrap_or_else(|| open().collect()))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "callers check that the value lies between 0 and 1000"
)]
fn milli(value: f32) -> u32 {
    (value * 1_000.0).round() as u32
}
