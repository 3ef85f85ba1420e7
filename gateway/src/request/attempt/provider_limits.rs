//! What the providers' limits leave for a request, by class and by team.
//!
//! Providers count by key and model, and so does a deployment: its `ProviderLimits` are learned from its
//! answers. A deployment whose limits have no room for a request is not among its candidates.

use std::time::Duration;

use http::HeaderMap;
use weir_limits::{Class, ProviderPermit, ProviderUse};
use weir_routing::{DeploymentId, TargetSet};

use super::context::{AttemptContext, Callee, unix_us};
use super::failed::FailedAttempt;
use crate::caps::PROVIDER_PAUSE_US_MAX;
use crate::setup::directory::Deployment;
use crate::upstream::rate_limit_headers;

impl AttemptContext<'_> {
    /// Targets whose providers have no room for the request now.
    pub(super) fn throttled(&self, now_us: u64) -> TargetSet {
        let targets = self.alias.targets.iter().enumerate();
        let busy = targets.filter(|(_, target)| {
            let limits = &self.directory.deployment(target.deployment).limits;
            limits.room(&self.request.provider_use, now_us).is_err()
        });
        busy.map(|(index, _)| index).collect()
    }

    /// When the first of all targets has room. Each counts the request as unmet.
    pub(super) fn wait(&self, now_us: u64) -> Duration {
        let waits = self.alias.targets.iter().filter_map(|target| {
            let limits = &self.directory.deployment(target.deployment).limits;
            limits.note_unmet(&self.request.provider_use, now_us)
        });
        Duration::from_micros(waits.map(|busy| busy.wait_us).min().unwrap_or(1))
    }

    /// Takes what the request needs of a deployment's limits.
    pub(super) fn take(&self, id: DeploymentId) -> Result<ProviderPermit, FailedAttempt> {
        let deployment = self.directory.deployment(id);
        let taken = deployment
            .limits
            .take(&self.request.provider_use, unix_us());
        taken.map_err(|busy| FailedAttempt::throttled(deployment, busy.wait_us))
    }

    /// The same for a shadow, as a batch request.
    pub(super) fn take_for_shadow(&self, id: DeploymentId) -> Option<ProviderPermit> {
        let wanted = ProviderUse {
            class: Class::Batch,
            ..self.request.provider_use
        };
        let limits = &self.directory.deployment(id).limits;
        limits.take(&wanted, unix_us()).ok()
    }
}

/// Learns from the headers of an answer, or of a refusal.
pub(super) fn learn(callee: Callee<'_>, headers: &HeaderMap) {
    let now_us = unix_us();
    if let Some([requests, tokens]) = rate_limit_headers::read(headers, now_us) {
        let limits = &callee.deployment.limits;
        limits.learn(callee.permit, &requests, &tokens, now_us);
    }
}

/// Pauses a deployment for as long as its provider's refusal asks for.
pub(super) fn keep_away(deployment: &Deployment, failed: &FailedAttempt) {
    if let Some(rest_us) = failed.failure.rate_limited_for_us() {
        deployment
            .limits
            .pause(rest_us.min(PROVIDER_PAUSE_US_MAX), unix_us());
    }
}
