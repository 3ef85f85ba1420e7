//! What is recorded of requests: facts for their events, usage, cost, payloads, metrics.

pub(crate) mod attempt;
pub(crate) mod charge;
pub(crate) mod context;
pub(crate) mod deployment_events;
pub(crate) mod estimate;
pub(crate) mod labels;
pub(crate) mod payload;
pub(crate) mod telemetry;
pub(crate) mod trail;
pub(crate) mod unauthenticated;
