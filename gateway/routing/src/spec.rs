//! What an operator writes about routing, before it is checked. [`Routes::build`](crate::Routes::build)
//! turns it into what runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::failure::FailureKind;

/// Everything about routing in one configuration.
#[derive(Debug, Clone, Default)]
pub struct RoutesSpec {
    /// [`DeploymentId`] is the position in this list.
    pub deployments: Vec<DeploymentSpec>,
    pub aliases: Vec<AliasSpec>,
    pub breaker: BreakerSpec,
}

/// A deployment: a model of a provider, called with one key in one region.
#[derive(Debug, Clone, Default)]
pub struct DeploymentSpec {
    /// Unique, and stable over restarts and reloads: events, tables and metrics use it
    /// (`openai/gpt-4o-mini`, or `openai/gpt-4o-mini#2` for the provider's second key).
    pub name: String,
    pub provider: String,
    pub model: String,
    /// Names the provider key behind this deployment (never the key itself). Deployments with the
    /// same name here are taken out together when the provider refuses the key. Empty: none.
    pub key: String,
    /// Input and output together; unknown means "assume that it fits".
    pub context_window_tokens: Option<u32>,
    /// List price; needed by the strategies that look at cost until a table brings measured cost.
    pub price: Option<PriceSpec>,
}

/// List price in picodollars (10⁻¹² USD) per token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriceSpec {
    pub input_picousd: u64,
    pub output_picousd: u64,
}

/// One alias: the name that applications use for "whatever serves this best".
#[derive(Debug, Clone, Default)]
pub struct AliasSpec {
    pub name: String,
    pub strategy: StrategySpec,
    pub targets: Vec<TargetSpec>,
    pub retry: RetrySpec,
    pub hedge: Option<HedgeSpec>,
    pub shadow: Option<ShadowSpec>,
    /// Share of requests spread evenly over the targets, so that every target stays measured.
    /// Only for the adaptive strategies (latency, cost, objective); 1% unless set.
    pub exploration: Option<f32>,
}

/// Names a deployment: its position in [`RoutesSpec::deployments`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeploymentId(u16);

impl DeploymentId {
    pub fn new(index: usize) -> Self {
        Self(u16::try_from(index).unwrap_or(u16::MAX))
    }

    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One deployment in an alias.
#[derive(Debug, Clone)]
pub struct TargetSpec {
    /// Position in [`RoutesSpec::deployments`].
    pub deployment: usize,
    /// Share among targets of the same rank, relative to the other weights. 0 drains: the target is
    /// chosen only when no other of the alias is available.
    pub weight: f32,
    /// Lower ranks are used while any of theirs is available. In a chain each step has its own
    /// rank, and the keys of one step share it. Elsewhere rank 0 serves and higher ranks stand by.
    pub rank: u8,
}

/// How an alias picks among the available targets of its lowest rank.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StrategySpec {
    /// The first available step; keys of one step share its load.
    #[default]
    Chain,
    /// By weight: canaries and splits.
    Weighted {
        /// Keep one user or session on one target (the caller supplies the hash).
        #[serde(default)]
        sticky: bool,
    },
    /// Power of two choices over time to first token, load and failures.
    Latency {
        /// Prefer the target that has seen the same prompt prefix, unless it is much slower.
        #[serde(default)]
        prefix_affinity: bool,
    },
    /// Mostly the cheapest: four parts cost, one part latency. One at half the price may take
    /// fifteen times as long.
    Cost,
    /// The best trade-off by the operator's objective.
    Objective(ObjectiveSpec),
}

impl StrategySpec {
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

    /// The latency limit, if the objective has one.
    pub(crate) fn ttft_ms_max(&self) -> Option<u32> {
        match self {
            Self::Objective(ObjectiveSpec::Limits { ttft_p95_ms, .. }) => Some(*ttft_p95_ms),
            _ => None,
        }
    }

    /// Whether it decides by measurements, and so must keep measuring every target.
    pub(crate) fn is_adaptive(&self) -> bool {
        matches!(self, Self::Latency { .. } | Self::Cost | Self::Objective(_))
    }
}

/// What "best" means for [`StrategySpec::Objective`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ObjectiveSpec {
    /// Minimise cost among the targets that keep both limits.
    Limits { ttft_p95_ms: u32, error_ratio: f32 },
    /// Weigh relative cost against relative latency and errors.
    Weights {
        cost: f32,
        latency: f32,
        errors: f32,
    },
}

/// What happens after a failed attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetrySpec {
    /// Attempts of one request over all targets, the first included.
    pub tries_max: u8,
    /// Attempts of one request at one target, the first included. A pooled target of the same rank
    /// that was not attempted yet goes before a second attempt at the same one.
    pub tries_per_target: u8,
    /// Failures after which the same target may be attempted again.
    pub retry_on: Vec<FailureKind>,
    /// Failures after which another target may be attempted. Add `content_filter` to send refused
    /// content to the next target.
    pub fallback_on: Vec<FailureKind>,
    /// Backoff before the first retry at the same target; doubles with each, with full jitter.
    pub backoff_ms: u32,
    pub backoff_ms_max: u32,
    /// The longest `Retry-After` that a request waits for when nothing else can serve it.
    pub retry_after_ms_max: u32,
    /// Extra attempts per request that may fail before extra attempts stop: 0.15 keeps the load on a
    /// failing upstream below 1.15 times the clients' own.
    pub budget_ratio: f32,
    /// Extra attempts per second allowed however little traffic there is.
    pub budget_per_s: f32,
}

impl Default for RetrySpec {
    fn default() -> Self {
        use FailureKind::*;
        Self {
            tries_max: 4,
            tries_per_target: 2,
            retry_on: vec![Connect, Cut, Malformed, ServerError, Overloaded],
            fallback_on: vec![
                Connect,
                ConnectTimeout,
                FirstTokenTimeout,
                Stalled,
                Cut,
                Malformed,
                RateLimited,
                Overloaded,
                ServerError,
                Auth,
                QuotaExhausted,
                ModelNotFound,
                ContextWindow,
            ],
            backoff_ms: 100,
            backoff_ms_max: 2_000,
            retry_after_ms_max: 2_000,
            budget_ratio: 0.15,
            budget_per_s: 0.5,
        }
    }
}

/// A second attempt sent while the first one is still waiting for its first token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HedgeSpec {
    /// Hedges per request at most, over time.
    pub budget_ratio: f32,
    /// Never hedge earlier than this.
    pub after_ms_min: u32,
    /// Hedge when the first token is later than the target's 95th percentile times this.
    pub after_factor: f32,
}

impl Default for HedgeSpec {
    fn default() -> Self {
        Self {
            budget_ratio: 0.05,
            after_ms_min: 200,
            after_factor: 2.0,
        }
    }
}

/// A copy of a share of requests, sent to a candidate whose answer is measured and discarded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShadowSpec {
    pub deployment: DeploymentId,
    /// 0 to 1.
    pub share: f32,
}

/// When a deployment is taken out of service, and how it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerSpec {
    /// Failures in a row that eject; more are needed of a provider that often fails anyway.
    pub consecutive_failures: u32,
    /// Recent failure ratio that ejects, once there were enough attempts for a ratio.
    pub failure_ratio: f32,
    /// First time out; doubles with every ejection that follows without a recovery.
    pub open_ms: u32,
    pub open_ms_max: u32,
    /// The longest `Retry-After` that is honoured.
    pub retry_after_ms_max: u32,
    /// Time over which a recovered deployment's share grows back to its full size.
    pub slow_start_ms: u32,
    /// Requests that must be waiting, with nothing coming back for `stall_factor`, to make a stall.
    /// Fewer must wait longer: two about twice as long, a single one twenty times. Twice as many or
    /// more need wait only half as long.
    pub stall_waiting_min: u32,
    /// Silence that makes a stall: at least this long, twice this of a single request …
    pub stall_ms_min: u32,
    /// … and, with `stall_waiting_min` requests waiting, at least this many times the 95th
    /// percentile of the time to first token.
    pub stall_factor: f32,
}

impl Default for BreakerSpec {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            failure_ratio: 0.5,
            open_ms: 1_000,
            open_ms_max: 5_000,
            retry_after_ms_max: 60_000,
            slow_start_ms: 10_000,
            stall_waiting_min: 3,
            stall_ms_min: 250,
            stall_factor: 1.0,
        }
    }
}
