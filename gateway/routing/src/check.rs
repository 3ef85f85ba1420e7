//! Refuses what an operator wrote and routing cannot run.

use std::collections::HashSet;
use std::fmt::Display;
use std::ops::RangeInclusive;

use thiserror::Error;

use crate::spec::{
    AliasSpec, BreakerSpec, DeploymentSpec, HedgeSpec, ObjectiveSpec, RetrySpec, RoutesSpec,
    ShadowSpec, StrategySpec, TargetSpec,
};
use crate::target_set::TARGETS_MAX;

const WEIGHT_MAX: f32 = 1e6;
const EXPLORATION_MAX: f32 = 0.5;

/// Why a configuration's routes cannot run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{problem}", alias.as_ref().map(|a| format!("alias \"{a}\": ")).unwrap_or_default())]
pub struct SpecError {
    pub alias: Option<String>,
    pub problem: String,
}

/// Reports the first problem of each alias, and every problem of the rest.
pub(crate) fn check(spec: &RoutesSpec) -> Result<(), Vec<SpecError>> {
    let mut errors = Vec::new();
    let mut report = |alias: Option<&AliasSpec>, result: Result<(), String>| {
        if let Err(problem) = result {
            let alias = alias.map(|alias| alias.name.clone());
            errors.push(SpecError { alias, problem });
        }
    };
    let (count, most) = (spec.deployments.len(), usize::from(u16::MAX));
    report(
        None,
        require(count <= most, || {
            format!("{count} deployments are too many; {most} are the most")
        }),
    );
    let mut names = HashSet::with_capacity(count);
    for DeploymentSpec { name, .. } in &spec.deployments {
        report(
            None,
            require(names.insert(name), || {
                format!("deployment \"{name}\" exists twice")
            }),
        );
    }
    for result in check_breaker(&spec.breaker) {
        report(None, result);
    }
    let mut names = HashSet::with_capacity(spec.aliases.len());
    for alias in &spec.aliases {
        report(Some(alias), check_alias(alias, count));
        report(
            Some(alias),
            require(names.insert(&alias.name), || {
                "it is defined twice: rename one of the two".into()
            }),
        );
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

fn check_breaker(spec: &BreakerSpec) -> [Result<(), String>; 4] {
    [
        require(spec.consecutive_failures > 0, || {
            "breaker.consecutive_failures is 0, which would eject every deployment".into()
        }),
        ratio("breaker.failure_ratio", spec.failure_ratio),
        require(spec.open_ms > 0 && spec.open_ms <= spec.open_ms_max, || {
            format!(
                "breaker.open_ms is {}; it must be at least 1 and at most open_ms_max ({})",
                spec.open_ms, spec.open_ms_max
            )
        }),
        require(
            spec.stall_waiting_min > 0 && spec.stall_factor >= 1.0,
            || "breaker.stall_waiting_min and breaker.stall_factor must be at least 1".into(),
        ),
    ]
}

fn check_alias(spec: &AliasSpec, deployments: usize) -> Result<(), String> {
    check_targets(&spec.targets, deployments)?;
    check_retry(&spec.retry)?;
    if let Some(exploration) = spec.exploration {
        within("exploration", exploration, 0.0..=EXPLORATION_MAX)?;
    }
    if let StrategySpec::Objective(objective) = &spec.strategy {
        check_objective(objective)?;
    }
    if let Some(HedgeSpec {
        budget_ratio,
        after_factor,
        ..
    }) = spec.hedge
    {
        ratio("hedge.budget_ratio", budget_ratio)?;
        within("hedge.after_factor", after_factor, 0.0..=100.0)?;
    }
    if let Some(ShadowSpec { deployment, share }) = spec.shadow {
        require(deployment.index() < deployments, || {
            "its shadow names a deployment that does not exist".into()
        })?;
        within("shadow.share", share, 0.0..=1.0)?;
    }
    Ok(())
}

fn check_targets(targets: &[TargetSpec], deployments: usize) -> Result<(), String> {
    require(!targets.is_empty(), || {
        "it has no targets: name at least one provider and model".into()
    })?;
    require(targets.len() <= TARGETS_MAX, || {
        format!(
            "it has {} targets, counting each key of a provider; {TARGETS_MAX} are the most: \
             split it into two aliases",
            targets.len()
        )
    })?;
    let mut listed = HashSet::with_capacity(targets.len());
    for (number, target) in (1..).zip(targets) {
        require(target.deployment < deployments, || {
            format!("target {number} names a deployment that does not exist")
        })?;
        within(
            format_args!("the weight of target {number}"),
            target.weight,
            0.0..=WEIGHT_MAX,
        )?;
        require(listed.insert(target.deployment), || {
            format!(
                "target {number} is listed twice: give it one entry with the sum of the weights"
            )
        })?;
    }
    require(targets.iter().any(|target| target.weight > 0.0), || {
        "all its weights are 0, so it would never be served: raise one".into()
    })
}

fn check_retry(retry: &RetrySpec) -> Result<(), String> {
    require(retry.tries_max > 0 && retry.tries_per_target > 0, || {
        "retry.tries_max and retry.tries_per_target include the first attempt: they must be at \
         least 1"
            .into()
    })?;
    within("retry.budget_ratio", retry.budget_ratio, 0.0..=10.0)?;
    within("retry.budget_per_s", retry.budget_per_s, 0.0..=1_000.0)
}

fn check_objective(objective: &ObjectiveSpec) -> Result<(), String> {
    match *objective {
        ObjectiveSpec::Limits {
            ttft_p95_ms,
            error_ratio,
        } => {
            require(ttft_p95_ms > 0, || {
                "objective.ttft_p95_ms is 0: no provider answers that fast".into()
            })?;
            ratio("objective.error_ratio", error_ratio)
        }
        ObjectiveSpec::Weights {
            cost,
            latency,
            errors,
        } => {
            let mut weights = [cost, latency, errors].into_iter();
            let are_valid = weights.all(|weight| (0.0..=100.0).contains(&weight));
            require(are_valid && cost + latency + errors > 0.0, || {
                "the objective's weights must lie between 0 and 100, and one of them above 0".into()
            })
        }
    }
}

fn require(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}

fn within(name: impl Display, value: f32, range: RangeInclusive<f32>) -> Result<(), String> {
    require(range.contains(&value), || {
        let (least, most) = (range.start(), range.end());
        format!("{name} is {value}; it must be between {least} and {most}")
    })
}

fn ratio(name: &str, value: f32) -> Result<(), String> {
    require(value > 0.0 && value <= 1.0, || {
        format!("{name} is {value}; it must be above 0 and at most 1")
    })
}
