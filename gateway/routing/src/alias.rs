//! An alias as it runs: checked, indexed, with its retry rules as numbers.

use std::sync::Arc;

use crate::TARGETS_MAX;
use crate::budget::RetryBudget;
use crate::clock::US_PER_MS;
use crate::failure::FailureSet;
use crate::random::hash;
use crate::routes::{DeploymentId, SpecError};
use crate::spec::{
    AliasSpec, DeploymentSpec, HedgeSpec, ObjectiveSpec, RetrySpec, ShadowSpec, StrategySpec,
    TargetSpec,
};
use crate::window::Window;

/// A stable name and the targets behind it.
#[derive(Debug)]
pub struct Alias {
    name: Box<str>,
    /// Position among the routes' aliases.
    pub(crate) index: usize,
    pub(crate) strategy: Strategy,
    pub(crate) targets: Vec<Target>,
    pub(crate) retry: RetryRules,
    pub(crate) budget: Arc<RetryBudget>,
    pub(crate) hedge: Option<Hedge>,
    pub(crate) shadow: Option<Shadow>,
    /// By target, where a latency limit is to be kept.
    pub(crate) windows: Option<Arc<[Window]>>,
    /// Share of requests spread evenly over the targets, by the strategies that learn.
    pub(crate) exploration: f32,
}

/// [`HedgeSpec`] as it is used.
#[derive(Debug, Clone)]
pub(crate) struct Hedge {
    pub(crate) after_us_min: f32,
    pub(crate) after_factor: f32,
    pub(crate) budget: Arc<RetryBudget>,
}

/// [`ShadowSpec`] as it is used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shadow {
    pub(crate) deployment: DeploymentId,
    pub(crate) share: f32,
}

/// One deployment of an alias.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    pub deployment: DeploymentId,
    pub weight: f32,
    pub rank: u8,
    /// Of the deployment's name, so that sticky keys stay where they are when targets come and go.
    pub(crate) name_hash: u64,
}

/// How an alias picks among the available targets of its lowest rank.
#[derive(Debug, Clone, PartialEq)]
pub enum Strategy {
    Chain,
    Weighted { sticky: bool },
    Latency { prefix_affinity: bool },
    Cost,
    Objective(ObjectiveSpec),
}

impl Strategy {
    /// The latency limit to be kept, if there is one.
    pub(crate) fn ttft_ms_max(&self) -> Option<u32> {
        match self {
            Self::Objective(ObjectiveSpec::Limits { ttft_p95_ms, .. }) => Some(*ttft_p95_ms),
            _ => None,
        }
    }

    /// Whether it goes by what was seen, and so must keep looking.
    pub(crate) fn learns(&self) -> bool {
        matches!(self, Self::Latency { .. } | Self::Cost | Self::Objective(_))
    }

    /// The name used in configuration and events.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Weighted { .. } => "weighted",
            Self::Latency { .. } => "latency",
            Self::Cost => "cost",
            Self::Objective(_) => "objective",
        }
    }
}

/// [`RetrySpec`] as it is used.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RetryRules {
    pub(crate) tries_max: u8,
    pub(crate) tries_per_target: u8,
    pub(crate) retry_on: FailureSet,
    pub(crate) fallback_on: FailureSet,
    pub(crate) backoff_us: u64,
    pub(crate) backoff_us_max: u64,
    pub(crate) retry_after_us_max: u64,
}

impl Alias {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Position among the configuration's aliases.
    pub fn index(&self) -> usize {
        self.index
    }

    pub fn strategy(&self) -> &Strategy {
        &self.strategy
    }

    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Extra tries that may still fail before extra tries stop.
    pub fn retry_tokens(&self) -> f32 {
        self.budget.tokens()
    }

    /// The deployment that gets copies of requests, and the share that it gets.
    pub fn shadow(&self) -> Option<(DeploymentId, f32)> {
        self.shadow.map(|shadow| (shadow.deployment, shadow.share))
    }

    /// The same alias with other deployments in the place of some. Where several targets become one,
    /// the first has the weight of all.
    #[must_use]
    pub fn with_deployments(&self, instead: impl Fn(DeploymentId) -> Option<DeploymentId>) -> Self {
        let mut targets: Vec<Target> = Vec::with_capacity(self.targets.len());
        for target in &self.targets {
            let Some(deployment) = instead(target.deployment) else {
                targets.push(*target);
                continue;
            };
            let mut weight = target.weight;
            let is_same =
                |known: &&mut Target| known.deployment == deployment && known.rank == target.rank;
            if let Some(first) = targets.iter_mut().find(is_same) {
                first.weight += std::mem::take(&mut weight);
            }
            targets.push(Target {
                deployment,
                weight,
                ..*target
            });
        }
        let shadow = self.shadow.map(|shadow| Shadow {
            deployment: instead(shadow.deployment).unwrap_or(shadow.deployment),
            ..shadow
        });
        Self {
            name: self.name.clone(),
            index: self.index,
            strategy: self.strategy.clone(),
            targets,
            retry: self.retry.clone(),
            budget: Arc::clone(&self.budget),
            hedge: self.hedge.clone(),
            shadow,
            windows: self.windows.clone(),
            exploration: self.exploration,
        }
    }

    pub(crate) fn build(
        spec: &AliasSpec,
        index: usize,
        deployments: &[DeploymentSpec],
        carried: Option<&Self>,
    ) -> Result<Self, SpecError> {
        let here = |problem: String| SpecError {
            alias: Some(spec.name.clone()),
            problem,
        };
        check_targets(&spec.targets, deployments.len()).map_err(here)?;
        check_retry(&spec.retry).map_err(here)?;
        let exploration = spec.exploration.unwrap_or(EXPLORATION);
        if !(0.0..=EXPLORATION_MAX).contains(&exploration) {
            return Err(here(format!(
                "exploration is {exploration}; it must be between 0 and {EXPLORATION_MAX}"
            )));
        }
        let budget = RetryBudget::new(
            milli(spec.retry.budget_ratio),
            milli(spec.retry.budget_per_s),
        );
        if let Some(carried) = carried {
            budget.carry(&carried.budget);
        }
        Ok(Self {
            name: spec.name.as_str().into(),
            index,
            strategy: strategy(&spec.strategy).map_err(here)?,
            targets: spec
                .targets
                .iter()
                .map(|t| target(t, deployments))
                .collect(),
            retry: RetryRules::from(&spec.retry),
            budget: Arc::new(budget),
            hedge: spec.hedge.as_ref().map(hedge).transpose().map_err(here)?,
            shadow: spec
                .shadow
                .as_ref()
                .map(|shadow| check_shadow(shadow, deployments.len()))
                .transpose()
                .map_err(here)?,
            windows: windows(spec, carried),
            exploration,
        })
    }
}

const EXPLORATION: f32 = 0.01;
const EXPLORATION_MAX: f32 = 0.5;

impl From<&RetrySpec> for RetryRules {
    fn from(spec: &RetrySpec) -> Self {
        Self {
            tries_max: spec.tries_max,
            tries_per_target: spec.tries_per_target,
            retry_on: FailureSet::of(&spec.retry_on),
            fallback_on: FailureSet::of(&spec.fallback_on),
            backoff_us: u64::from(spec.backoff_ms) * US_PER_MS,
            backoff_us_max: u64::from(spec.backoff_ms_max) * US_PER_MS,
            retry_after_us_max: u64::from(spec.retry_after_ms_max) * US_PER_MS,
        }
    }
}

fn target(spec: &TargetSpec, deployments: &[DeploymentSpec]) -> Target {
    Target {
        deployment: DeploymentId::new(spec.deployment),
        weight: spec.weight,
        rank: spec.rank,
        name_hash: deployments
            .get(spec.deployment)
            .map_or(0, |d| hash(&d.name)),
    }
}

/// Windows are kept over a reload that leaves the alias's targets as they were.
fn windows(spec: &AliasSpec, carried: Option<&Alias>) -> Option<Arc<[Window]>> {
    let StrategySpec::Objective(ObjectiveSpec::Limits { .. }) = spec.strategy else {
        return None;
    };
    let before = carried.and_then(|alias| alias.windows.clone());
    let kept = before.filter(|windows| windows.len() == spec.targets.len());
    Some(kept.unwrap_or_else(|| spec.targets.iter().map(|_| Window::open()).collect()))
}

fn hedge(spec: &HedgeSpec) -> Result<Hedge, String> {
    if !(spec.budget_ratio > 0.0 && spec.budget_ratio <= 1.0) {
        return Err(format!(
            "hedge.budget_ratio is {}; it must be above 0 and at most 1",
            spec.budget_ratio
        ));
    }
    if !(0.0..=100.0).contains(&spec.after_factor) {
        return Err(format!(
            "hedge.after_factor is {}; it must be between 0 and 100",
            spec.after_factor
        ));
    }
    Ok(Hedge {
        after_us_min: spec.after_ms_min as f32 * 1_000.0,
        after_factor: spec.after_factor,
        budget: Arc::new(RetryBudget::new(milli(spec.budget_ratio), 0)),
    })
}

fn check_shadow(spec: &ShadowSpec, deployments: usize) -> Result<Shadow, String> {
    if spec.deployment >= deployments {
        return Err("its shadow names a deployment that does not exist".into());
    }
    if !(0.0..=1.0).contains(&spec.share) {
        return Err(format!(
            "shadow.share is {}; it must be between 0 and 1",
            spec.share
        ));
    }
    Ok(Shadow {
        deployment: DeploymentId::new(spec.deployment),
        share: spec.share,
    })
}

fn strategy(spec: &StrategySpec) -> Result<Strategy, String> {
    Ok(match spec {
        StrategySpec::Chain => Strategy::Chain,
        StrategySpec::Weighted { sticky } => Strategy::Weighted { sticky: *sticky },
        StrategySpec::Latency { prefix_affinity } => Strategy::Latency {
            prefix_affinity: *prefix_affinity,
        },
        StrategySpec::Cost => Strategy::Cost,
        StrategySpec::Objective(objective) => {
            check_objective(objective)?;
            Strategy::Objective(objective.clone())
        }
    })
}

fn check_targets(targets: &[TargetSpec], deployments: usize) -> Result<(), String> {
    if targets.is_empty() {
        return Err("it has no targets: name at least one provider and model".into());
    }
    if targets.len() > TARGETS_MAX {
        return Err(format!(
            "it has {} targets, counting each key of a provider; {TARGETS_MAX} are the most: \
             split it into two aliases",
            targets.len()
        ));
    }
    for (position, target) in targets.iter().enumerate() {
        if target.deployment >= deployments {
            return Err(format!(
                "target {} names a deployment that does not exist",
                position + 1
            ));
        }
        if !(target.weight >= 0.0 && target.weight <= WEIGHT_MAX) {
            return Err(format!(
                "the weight of target {} is {}; it must be between 0 and {WEIGHT_MAX}",
                position + 1,
                target.weight
            ));
        }
        if targets[..position]
            .iter()
            .any(|earlier| earlier.deployment == target.deployment)
        {
            return Err(format!(
                "target {} is listed twice: give it one entry with the sum of the weights",
                position + 1
            ));
        }
    }
    if targets.iter().all(|target| target.weight == 0.0) {
        return Err("all its weights are 0, so it would never be served: raise one".into());
    }
    Ok(())
}

const WEIGHT_MAX: f32 = 1e6;

fn check_retry(retry: &RetrySpec) -> Result<(), String> {
    if retry.tries_max == 0 || retry.tries_per_target == 0 {
        return Err(
            "retry.tries_max and retry.tries_per_target count the first try: \
                    they must be at least 1"
                .into(),
        );
    }
    if !(0.0..=10.0).contains(&retry.budget_ratio) {
        return Err(format!(
            "retry.budget_ratio is {}; it must be between 0 and 10",
            retry.budget_ratio
        ));
    }
    if !(0.0..=1_000.0).contains(&retry.budget_per_s) {
        return Err(format!(
            "retry.budget_per_s is {}; it must be between 0 and 1000",
            retry.budget_per_s
        ));
    }
    Ok(())
}

fn check_objective(objective: &ObjectiveSpec) -> Result<(), String> {
    match *objective {
        ObjectiveSpec::Limits {
            ttft_p95_ms,
            error_ratio,
        } => {
            if ttft_p95_ms == 0 {
                return Err("objective.ttft_p95_ms is 0: no provider answers that fast".into());
            }
            if !(error_ratio > 0.0 && error_ratio <= 1.0) {
                return Err(format!(
                    "objective.error_ratio is {error_ratio}; it must be above 0 and at most 1"
                ));
            }
        }
        ObjectiveSpec::Weights {
            cost,
            latency,
            errors,
        } => {
            let each_valid = [cost, latency, errors]
                .iter()
                .all(|w| (0.0..=100.0).contains(w));
            if !each_valid || cost + latency + errors <= 0.0 {
                return Err(
                    "the objective's weights must lie between 0 and 100, and one of them \
                            above 0"
                        .into(),
                );
            }
        }
    }
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "callers check that the value lies between 0 and 1000"
)]
fn milli(value: f32) -> u32 {
    (value * 1_000.0).round() as u32
}
