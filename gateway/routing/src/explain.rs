//! Why a request went where it went, in words.
//!
//! Built from a plan, or later from its event: the same words either way.

use std::fmt;

use crate::alias::Alias;
use crate::breaker::BreakerState;
use crate::plan::Plan;
use crate::status::TargetStatus;
use crate::view::{AliasView, RoutingView};

/// A decision as its events record it. Its `Display` is the explanation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Explanation<'a> {
    pub alias: &'a str,
    /// `chain`, `weighted`, `latency`, `cost` or `objective`.
    pub strategy: &'a str,
    /// None without a table.
    pub table_version: Option<u64>,
    pub seed: u64,
    /// Why no target was available, when the least bad ones had to serve.
    pub last_resort: Option<TargetStatus>,
    pub considered: Vec<ExplainedTarget<'a>>,
    /// Targets that were not considered, and why. Only from a plan.
    pub left_out: Vec<(&'a str, String)>,
    /// Only of a request that is over.
    pub attempts: Vec<ExplainedAttempt<'a>>,
}

/// A target that could have served.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExplainedTarget<'a> {
    pub deployment: &'a str,
    pub score: Option<f64>,
    pub propensity: f64,
}

/// One attempt that was made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExplainedAttempt<'a> {
    pub deployment: &'a str,
    /// `first`, `retry`, `fallback`, `hedge` or `shadow`.
    pub kind: &'a str,
    /// The failure that led to this attempt.
    pub cause: Option<&'a str>,
    /// What went wrong here. None: it answered.
    pub error: Option<&'a str>,
    pub delay_ms: u64,
}

impl Plan {
    /// Why this plan is as it is.
    pub fn explain<'a>(
        &self,
        view: RoutingView<'a>,
        alias: &'a Alias,
        now_us: u64,
    ) -> Explanation<'a> {
        let at = view.at(alias, now_us);
        let name = |target: usize| &*at.deployment(target).name;
        let considered = |target: usize| {
            self.candidates()
                .iter()
                .any(|candidate| usize::from(candidate.target) == target)
        };
        Explanation {
            alias: &alias.name,
            strategy: alias.strategy.as_str(),
            table_version: (self.table_version > 0).then_some(self.table_version),
            seed: self.seed,
            last_resort: self.last_resort,
            considered: self
                .candidates()
                .iter()
                .map(|candidate| ExplainedTarget {
                    deployment: name(usize::from(candidate.target)),
                    score: Some(f64::from(candidate.score)).filter(|score| score.is_finite()),
                    propensity: f64::from(candidate.propensity),
                })
                .collect(),
            left_out: (0..alias.targets.len())
                .filter(|target| !considered(*target))
                .map(|target| (name(target), self.reason(at, target)))
                .collect(),
            attempts: Vec::new(),
        }
    }

    fn reason(&self, at: AliasView<'_>, target: usize) -> String {
        let status = self.status(target);
        let breaker = &at.view.routes.breaker;
        match (
            status,
            at.deployment(target).breaker_state(breaker, at.now_us),
        ) {
            (
                TargetStatus::Ejected | TargetStatus::ToldToWait,
                BreakerState::Open { until_us, cause },
            ) => {
                let left_ms = until_us.saturating_sub(at.now_us) / 1_000;
                format!(
                    "{} ({}), for {left_ms} ms more",
                    status.as_str(),
                    cause.as_str()
                )
            }
            _ => status.as_str().to_owned(),
        }
    }
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "alias \"{}\", strategy {}: {}",
            self.alias,
            self.strategy,
            self.rule()
        )?;
        match self.table_version {
            Some(version) => writeln!(f, "; routing table {version}")?,
            None => writeln!(f, "; no routing table")?,
        }
        self.write_considered(f)?;
        for (deployment, reason) in &self.left_out {
            writeln!(f, "  left out: {deployment}: {reason}")?;
        }
        self.write_attempts(f)?;
        self.write_verdict(f)
    }
}

impl Explanation<'_> {
    fn rule(&self) -> &'static str {
        match self.strategy {
            "chain" => "the first step in service; keys of one step share its load",
            "weighted" => "by the configured weights",
            "latency" => "of two drawn by weight, the one with the shorter expected wait",
            "cost" => "mostly the cheapest",
            "objective" => "the best trade-off of what was asked for",
            _ => "unknown",
        }
    }

    fn write_considered(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.considered.is_empty() {
            return writeln!(f, "  no target could serve it");
        }
        if let Some(status) = self.last_resort {
            writeln!(
                f,
                "  last resort, as no target was available: {}",
                status.as_str()
            )?;
        }
        let width = self
            .considered
            .iter()
            .map(|c| c.deployment.len())
            .max()
            .unwrap_or(0);
        for target in &self.considered {
            write!(f, "  {:width$}  ", target.deployment)?;
            if target.propensity <= 0.0 {
                writeln!(f, "only if the others fail")?;
                continue;
            }
            write!(f, "chosen with {:.2}%", target.propensity * 100.0)?;
            match target.score {
                Some(score) => writeln!(f, ", score {score:.4} (lower is better)")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }

    fn write_attempts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, attempt) in (1..).zip(&self.attempts) {
            let (kind, deployment) = (attempt.kind, attempt.deployment);
            write!(f, "  attempt {number}: {kind} at {deployment}")?;
            if let Some(cause) = attempt.cause {
                write!(f, ", because of {cause}")?;
            }
            if attempt.delay_ms > 0 {
                write!(f, ", after {} ms", attempt.delay_ms)?;
            }
            writeln!(f, ": {}", attempt.error.unwrap_or("answered"))?;
        }
        Ok(())
    }

    /// One sentence on the first choice.
    fn write_verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.attempts.iter().find(|attempt| attempt.kind == "first") else {
            return Ok(());
        };
        let likely = self
            .considered
            .iter()
            .max_by(|a, b| a.propensity.total_cmp(&b.propensity));
        let chosen = self
            .considered
            .iter()
            .find(|c| c.deployment == first.deployment);
        match (likely, chosen) {
            (Some(likely), Some(chosen)) if likely.deployment == chosen.deployment => {
                writeln!(f, "{} was the most likely choice.", chosen.deployment)
            }
            (Some(likely), Some(chosen)) => writeln!(
                f,
                "{} was more likely ({:.2}%), but the draw (seed {}) fell on {} ({:.2}%).",
                likely.deployment,
                likely.propensity * 100.0,
                self.seed,
                chosen.deployment,
                chosen.propensity * 100.0
            ),
            _ => writeln!(
                f,
                "{} was a last resort: nothing was available.",
                first.deployment
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_reads_as_words() {
        let explanation = Explanation {
            alias: "fast-chat",
            strategy: "latency",
            table_version: Some(12),
            seed: 99,
            last_resort: None,
            considered: vec![
                ExplainedTarget {
                    deployment: "qwen/turbo",
                    score: Some(312.5),
                    propensity: 0.625,
                },
                ExplainedTarget {
                    deployment: "openai/mini",
                    score: Some(540.0),
                    propensity: 0.375,
                },
                ExplainedTarget {
                    deployment: "spare/x",
                    score: None,
                    propensity: 0.0,
                },
            ],
            left_out: vec![("azure/mini", "ejected (stalled), for 900 ms more".into())],
            attempts: vec![
                ExplainedAttempt {
                    deployment: "openai/mini",
                    kind: "first",
                    cause: None,
                    error: Some("rate_limited"),
                    delay_ms: 0,
                },
                ExplainedAttempt {
                    deployment: "qwen/turbo",
                    kind: "fallback",
                    cause: Some("rate_limited"),
                    error: None,
                    delay_ms: 0,
                },
            ],
        };
        let expected = "\
alias \"fast-chat\", strategy latency: of two drawn by weight, the one with the shorter expected wait; routing table 12
  qwen/turbo   chosen with 62.50%, score 312.5000 (lower is better)
  openai/mini  chosen with 37.50%, score 540.0000 (lower is better)
  spare/x      only if the others fail
  left out: azure/mini: ejected (stalled), for 900 ms more
  attempt 1: first at openai/mini: rate_limited
  attempt 2: fallback at qwen/turbo, because of rate_limited: answered
qwen/turbo was more likely (62.50%), but the draw (seed 99) fell on openai/mini (37.50%).
";
        assert_eq!(explanation.to_string(), expected);
    }
}
