//! How an alias chooses, tries again and is tried beside, as the operator writes it, and what
//! routing makes of it.
//!
//! Settings that contradict each other are refused here with the setting's path; values out of
//! range are refused by [`weir_routing::Routes::build`].

use schemars::JsonSchema;
use serde::Deserialize;
use weir_routing::{HedgeSpec, ObjectiveSpec, RetrySpec, StrategySpec};

use crate::setup::problem::ConfigProblem;

/// `[[alias]]`: a stable name for a model, and where it leads.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AliasConfig {
    /// Name that clients ask for.
    pub name: String,
    #[serde(default)]
    pub strategy: StrategyConfig,
    /// Deployments, in order of preference.
    pub targets: Vec<TargetConfig>,
    /// What stays on one target, for the strategy `weighted`.
    #[serde(default)]
    pub sticky: StickyConfig,
    /// Prefer the target that has seen the same beginning of a prompt, for the strategy `latency`.
    #[serde(default)]
    pub prefix_affinity: bool,
    /// What "best" means, for the strategy `objective`.
    #[serde(default)]
    pub objective: Option<ObjectiveSpec>,
    /// Share of requests that go anywhere, so that every target stays measured; 0.01 unless set.
    /// For the strategies that learn: `latency`, `cost`, `objective`.
    #[serde(default)]
    pub exploration: Option<f32>,
    #[serde(default)]
    pub retry: RetrySpec,
    /// A second try beside one whose first token is late; none unless set.
    #[serde(default)]
    pub hedge: Option<HedgeSpec>,
    /// A copy of some requests to a deployment whose answers are measured and discarded.
    #[serde(default)]
    pub shadow: Option<ShadowConfig>,
}

/// How an alias chooses among its targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StrategyConfig {
    /// The first target that works, in the order written.
    #[default]
    Chain,
    /// A draw by weight; the others when it fails.
    Weighted,
    /// The faster one of two drawn by weight, as measured by this gateway.
    Latency,
    /// Mostly the cheapest one, unless it is much slower.
    Cost,
    /// The best trade-off, as `objective` says.
    Objective,
}

/// What stays on one target of a weighted split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StickyConfig {
    /// Nothing: each request is drawn anew.
    #[default]
    Nothing,
    /// A user, as the request or else the key names it.
    User,
    /// A session, as the header `x-session-id` names it; without one, the user.
    Session,
}

/// One deployment of an alias: a model at a provider.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    pub provider: String,
    /// Model name as the provider knows it.
    pub model: String,
    /// Share of the draw, for all strategies but `chain`.
    #[serde(default = "one")]
    pub weight: u32,
    /// Serves only while no other target can, for all strategies but `chain`.
    #[serde(default)]
    pub standby: bool,
    /// Input and output tokens that the model takes together. A request that cannot fit goes to a
    /// target with a larger one.
    #[serde(default)]
    pub context_window_tokens: Option<u32>,
}

const fn one() -> u32 {
    1
}

impl TargetConfig {
    /// A target with all else at its default.
    #[must_use]
    pub fn new(provider: &str, model: &str) -> Self {
        Self {
            provider: provider.to_owned(),
            model: model.to_owned(),
            weight: one(),
            standby: false,
            context_window_tokens: None,
        }
    }
}

/// `shadow` of an alias: who gets copies, and of how many requests.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShadowConfig {
    pub provider: String,
    /// Model name as the provider knows it.
    pub model: String,
    /// Share of the requests that are copied, 0 to 1.
    pub share: f32,
}

impl AliasConfig {
    /// An alias with all else at its default.
    #[must_use]
    pub fn new(name: &str, targets: Vec<TargetConfig>) -> Self {
        Self {
            name: name.to_owned(),
            strategy: StrategyConfig::default(),
            targets,
            sticky: StickyConfig::default(),
            prefix_affinity: false,
            objective: None,
            exploration: None,
            retry: RetrySpec::default(),
            hedge: None,
            shadow: None,
        }
    }

    /// The strategy with the settings that belong to it. `path` is the alias's place in the file.
    pub(crate) fn strategy(&self, path: &str, problems: &mut Vec<ConfigProblem>) -> StrategySpec {
        self.check_belongings(path, problems);
        match self.strategy {
            StrategyConfig::Chain => StrategySpec::Chain,
            StrategyConfig::Weighted => StrategySpec::Weighted {
                sticky: self.sticky != StickyConfig::Nothing,
            },
            StrategyConfig::Latency => StrategySpec::Latency {
                prefix_affinity: self.prefix_affinity,
            },
            StrategyConfig::Cost => StrategySpec::Cost,
            StrategyConfig::Objective => match &self.objective {
                Some(objective) => StrategySpec::Objective(objective.clone()),
                None => {
                    let message = "\"objective\" needs to be told what is best: add objective = \
                                   { limits = { ttft_p95_ms = 2_000, error_ratio = 0.01 } } or \
                                   objective = { weights = { cost = 1, latency = 1, errors = 1 } }";
                    problems.push(ConfigProblem::new("strategy", message).within(path));
                    StrategySpec::Chain
                }
            },
        }
    }

    /// A setting that its alias's strategy never looks at is a mistake, not a preference.
    fn check_belongings(&self, path: &str, problems: &mut Vec<ConfigProblem>) {
        use StrategyConfig::{Chain, Cost, Latency, Objective, Weighted};
        let is_sticky = self.sticky != StickyConfig::Nothing;
        let (objective, exploration) = (self.objective.is_some(), self.exploration.is_some());
        let learning: &[_] = &[Latency, Cost, Objective];
        let learning_words = "\"latency\", \"cost\" or \"objective\"";
        let belongings: [(&str, bool, &[StrategyConfig], &str); 4] = [
            ("sticky", is_sticky, &[Weighted], "\"weighted\""),
            (
                "prefix_affinity",
                self.prefix_affinity,
                &[Latency],
                "\"latency\"",
            ),
            ("objective", objective, &[Objective], "\"objective\""),
            ("exploration", exploration, learning, learning_words),
        ];
        for (setting, is_set, strategies, words) in belongings {
            if is_set && !strategies.contains(&self.strategy) {
                let message = format!("has no effect here: it belongs to the strategy {words}");
                problems.push(ConfigProblem::new(setting, message).within(path));
            }
        }
        for (number, target) in self.targets.iter().enumerate() {
            if self.strategy == Chain && target.standby {
                let message = "has no effect in a chain, where each target stands by for the ones \
                               before it";
                let setting = format!("targets[{number}].standby");
                problems.push(ConfigProblem::new(setting, message).within(path));
            }
        }
    }

    /// The rank of a target: lower ones serve while they can.
    pub(crate) fn rank(&self, number: usize, target: &TargetConfig) -> u8 {
        match self.strategy {
            StrategyConfig::Chain => u8::try_from(number).unwrap_or(u8::MAX),
            _ => u8::from(target.standby),
        }
    }
}
