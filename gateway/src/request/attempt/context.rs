//! What all attempts of one request have in common.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_dialects::ClientRequest;
use weir_governance::clock::Moment;
use weir_limits::{ProviderPermit, ProviderUse};
use weir_routing::{Alias, Plan, RoutingView, TargetSet};

use crate::record::deployment_events::note_state;
use crate::record::estimate::BYTES_PER_TOKEN_MEAN;
use crate::request::affinity::Affinity;
use crate::request::drain::ClientPresence;
use crate::request::worker::Worker;
use crate::setup::directory::{Deployment, Directory};

/// A request with everything that decides where it goes.
pub(crate) struct RoutedRequest<'a> {
    pub(crate) request: ClientRequest<'a>,
    pub(crate) arrived: Moment,
    pub(crate) affinity: Affinity,
    /// Targets that the caller's budgets do not let it use.
    pub(crate) denied: TargetSet,
    /// Whether the client is still there, if its answer is read on without it.
    pub(crate) client: Option<Arc<ClientPresence>>,
    /// What it takes of its providers' limits.
    pub(crate) provider_use: ProviderUse,
}

impl RoutedRequest<'_> {
    /// When the whole request must be over, if this deployment answers it.
    pub(super) fn deadline(&self, deployment: &Deployment) -> Instant {
        self.arrived.instant + Duration::from_millis(deployment.provider.timeouts.total_ms)
    }

    /// A client that has left wants no further attempt.
    pub(super) fn has_client_left(&self) -> bool {
        self.client.as_ref().is_some_and(|client| client.has_left())
    }
}

/// Where a call goes, and what it takes of the limits there.
#[derive(Clone, Copy)]
pub(super) struct Callee<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) permit: &'a ProviderPermit,
}

/// A request, the alias that it asks for, and the routing state of that alias.
pub(super) struct AttemptContext<'a> {
    pub(super) directory: &'a Directory,
    pub(super) view: RoutingView<'a>,
    pub(super) alias: &'a Alias,
    pub(super) request: &'a RoutedRequest<'a>,
}

impl AttemptContext<'_> {
    /// Estimate of the prompt's size.
    pub(super) fn prompt_tokens(&self) -> u64 {
        self.request.request.facts.prompt_bytes / BYTES_PER_TOKEN_MEAN
    }

    /// Records which deployments a plan has found stalled, and ejected.
    pub(super) fn note_stalled(&self, worker: &Worker, plan: &mut Plan) {
        for target in plan.take_stalled().iter() {
            let id = self.alias.targets[target].deployment;
            let health = self.directory.routes().health(id, unix_us());
            note_state(&worker.stream, self.directory.deployment(id), health.state);
        }
    }
}

pub(super) fn unix_us() -> u64 {
    Moment::now().unix_us
}
