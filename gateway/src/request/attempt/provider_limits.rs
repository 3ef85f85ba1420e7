//! A request's turn at its providers: what their limits leave for it, by class and by team.
//!
//! Providers count by key and model, and so does a deployment: its `ProviderLimits` are learned from its
//! answers. A deployment whose limits have no room for a request is not among its candidates. When none has, a request that somebody waits for may wait for its turn,
//! for as long as the operator lets it; then it is refused, with the time at which to come back.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use weir_limits::{Class, ProviderPermit, ProviderUse};
use weir_routing::{DeploymentId, Plan, TargetSet, TargetStatus};

use super::failed::Failed;
use super::{Way, route, unix_us};
use crate::request::exchange::Exchange;
use crate::request::refusal::Refusal;
use crate::setup::directory::Deployment;
use crate::upstream::rate_limit_headers;
use weir_governance::clock;

/// The longest Retry-After that is believed.
const REST_US_MAX: u64 = 60_000_000;

/// What the attempts of a request hold of their providers' limits, in the order of their numbers. It
/// is settled when the request ends: only then is it known what each has used.
#[derive(Debug, Default)]
pub(crate) struct ProviderPermits(Vec<(Arc<Deployment>, ProviderPermit)>);

impl ProviderPermits {
    pub(super) fn hold(&mut self, deployment: Arc<Deployment>, permit: ProviderPermit) {
        self.0.push((deployment, permit));
    }

    /// Takes the number of an attempt, and the tokens that it used.
    pub(crate) fn settling(&self) -> impl FnMut(u32, u64) {
        let now_us = unix_us();
        move |number, tokens| {
            let held = self.0.get(number.saturating_sub(1) as usize);
            if let Some((deployment, permit)) = held {
                deployment.limits.settle(permit, tokens, now_us);
            }
        }
    }
}

impl Way<'_> {
    /// Targets whose providers have no room for the request now.
    pub(super) fn throttled(&self, now_us: u64) -> TargetSet {
        let targets = self.alias.targets().iter().enumerate();
        let busy = targets.filter(|(_, target)| {
            let limits = &self.directory.deployment(target.deployment).limits;
            limits.room(&self.asked.turn, now_us).is_err()
        });
        busy.map(|(index, _)| index).collect()
    }

    /// When the first of all targets has room. They all hear that somebody asked.
    fn wait(&self, now_us: u64) -> Duration {
        let waits = self.alias.targets().iter().filter_map(|target| {
            let limits = &self.directory.deployment(target.deployment).limits;
            limits.note_unmet(&self.asked.turn, now_us)
        });
        Duration::from_micros(waits.map(|busy| busy.wait_us).min().unwrap_or(1))
    }

    /// Takes the request's turn at a deployment.
    pub(super) fn take(&self, id: DeploymentId) -> Result<ProviderPermit, Failed> {
        let deployment = self.directory.deployment(id);
        let taken = deployment.limits.take(&self.asked.turn, unix_us());
        taken.map_err(|busy| Failed::throttled(deployment, busy.wait_us))
    }

    /// The same for a copy, which nobody waits for.
    pub(super) fn take_for_copy(&self, id: DeploymentId) -> Option<ProviderPermit> {
        let turn = ProviderUse {
            class: Class::Batch,
            ..self.asked.turn
        };
        let limits = &self.directory.deployment(id).limits;
        limits.take(&turn, unix_us()).ok()
    }
}

/// Plans the way through the alias's targets, once there is room at one of them.
pub(super) async fn plan(exchange: &mut Exchange, way: &Way<'_>) -> Result<Plan, Refusal> {
    let worker = exchange.worker.clone();
    let (config, telemetry) = (&worker.shared.config, &worker.shared.telemetry);
    let class = way.asked.turn.class;
    let patience_ms = match class {
        Class::Interactive => config.provider_limit_wait_ms,
        Class::Batch => 0,
    };
    let begun = clock::now();
    let patience = Duration::from_millis(patience_ms);
    loop {
        let now_us = unix_us();
        let plan = route(exchange, way, way.throttled(now_us), now_us);
        if plan.last_resort() != Some(TargetStatus::Throttled) {
            return Ok(plan);
        }
        let wait = way.wait(now_us);
        let waited = clock::now().saturating_duration_since(begun);
        if waited + wait > patience {
            telemetry.count_over_limit(class, "refused");
            return Err(Refusal::provider_limit(way.alias.name(), class, wait));
        }
        telemetry.count_over_limit(class, "waited");
        tokio::time::sleep(wait).await;
        let waited = clock::now().saturating_duration_since(begun);
        exchange.record.queued(clock::micros(waited));
    }
}

/// Learns from the headers of an answer, or of a refusal.
pub(super) fn learn(deployment: &Deployment, permit: &ProviderPermit, headers: &HeaderMap) {
    let now_us = unix_us();
    if let Some([requests, tokens]) = rate_limit_headers::read(headers, now_us) {
        deployment.limits.learn(permit, &requests, &tokens, now_us);
    }
}

/// A provider that refuses says when to come back.
pub(super) fn keep_away(deployment: &Deployment, failed: &Failed) {
    if let Some(rest_us) = failed.failure.rate_limited_for_us() {
        deployment.limits.pause(rest_us.min(REST_US_MAX), unix_us());
    }
}
