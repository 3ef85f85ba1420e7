//! Which deployment gets a request, and what happens when it fails.
//!
//! The way through: the operator's [`RoutesSpec`] is checked into [`Routes`]; for each request
//! [`View::plan`] weighs the alias's targets into a [`Plan`]; [`Plan::next`] says what to try, and
//! after a failure whether to retry, fall back or give up; [`View::start`] opens an [`InFlight`]
//! for a try, and what the caller tells it becomes the deployment's [`Health`], which the next
//! plan looks at.
//!
//! Two timescales: health is what this process saw in the last seconds, and it decides; [`Priors`]
//! are what the event log says about the last minutes, and they weigh.
//!
//! Everything here is pure: time comes in as microseconds since the Unix epoch, randomness as the
//! request's seed. A decision allocates nothing, takes no lock, and with the same seed and the same
//! state is the same decision.

mod alias;
mod approx;
mod breaker;
mod budget;
mod choose;
mod clock;
mod ewma;
mod explain;
mod failure;
mod health;
mod measure;
mod plan;
mod priors;
mod random;
mod routes;
mod spec;
mod targets;
mod window;

pub use alias::{Alias, Strategy, Target};
pub use breaker::{BreakerState, EjectCause, Transition};
pub use explain::{Considered, Explanation, Tried};
pub use failure::{Failure, FailureKind};
pub use health::{Health, HealthSnapshot, InFlight};
pub use plan::{Candidate, GiveUp, Next, Plan, RequestFacts, Try, TryKind};
pub use priors::Priors;
pub use routes::{Deployment, DeploymentId, Routes, SpecError, View};
pub use spec::{
    AliasSpec, BreakerSpec, DeploymentSpec, HedgeSpec, ObjectiveSpec, PriceSpec, RetrySpec,
    RoutesSpec, ShadowSpec, StrategySpec, TargetSpec,
};
pub use targets::{Standing, TargetSet};

/// The most targets one alias may have, the keys of pooled providers counted singly. A decision is
/// kept on the stack, so it needs a bound.
pub const TARGETS_MAX: usize = 32;
