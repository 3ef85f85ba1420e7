//! Which deployment gets a request, and what happens when it fails.
//!
//! The way through: the operator's [`RoutesSpec`] is checked and built into [`Routes`]. For each request,
//! [`RoutingView::plan`] weighs the alias's targets into a [`Plan`]. [`Plan::next`] decides what to try,
//! and after a failure whether to retry, fall back or give up. [`RoutingView::start`] opens an
//! [`InFlight`] for an attempt; the outcome that the caller reports there becomes part of the
//! deployment's [`Health`], which the next plan reads.
//!
//! Two timescales: health is what this process saw in the last seconds, and it decides; [`Priors`]
//! are what the event log says about the last minutes, and they weigh.
//!
//! Everything here is pure: time comes in as microseconds since the Unix epoch, randomness as the
//! request's seed. A decision allocates nothing, takes no lock, and is the same for the same seed and
//! state.

mod alias;
mod approx;
mod attempt;
mod breaker;
mod budget;
mod check;
mod choose;
mod concurrency;
mod deployment;
mod ewma;
mod explain;
mod facts;
mod failure;
mod health;
mod in_flight;
mod measure;
mod packed;
mod plan;
mod priors;
mod random;
mod routes;
mod spec;
mod status;
mod target_set;
mod view;

pub use alias::{Alias, AliasTarget};
pub use attempt::{Attempt, AttemptKind, GiveUp, Next};
pub use breaker::{BreakerState, EjectCause, Transition};
pub use check::SpecError;
pub use deployment::RoutedDeployment;
pub use explain::{ExplainedAttempt, ExplainedTarget, Explanation};
pub use facts::RoutingFacts;
pub use failure::{Failure, FailureKind};
pub use health::{Health, HealthSnapshot};
pub use in_flight::InFlight;
pub use plan::{Plan, ScoredTarget};
pub use priors::Priors;
pub use routes::Routes;
pub use spec::{
    AliasSpec, BreakerSpec, DeploymentId, DeploymentSpec, HedgeSpec, ObjectiveSpec, PriceSpec,
    RetrySpec, RoutesSpec, ShadowSpec, StrategySpec, TargetSpec,
};
pub use status::TargetStatus;
pub use target_set::{TARGETS_MAX, TargetSet};
pub use view::RoutingView;
