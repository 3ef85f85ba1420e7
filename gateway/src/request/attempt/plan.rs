//! The order in which a request's attempts are made.
//!
//! When no target has room for a request, an interactive one waits for a while, as long as the
//! operator lets it; then it is refused, with the time at which to come back.

use std::time::Duration;

use rand::RngCore as _;
use weir_dialects::ClientApi;
use weir_governance::clock;
use weir_limits::Class;
use weir_routing::{Plan, RoutingFacts, ScoredTarget, TargetSet, TargetStatus};

use super::context::{AttemptContext, unix_us};
use crate::record::trail::{Route, RouteCandidate};
use crate::request::exchange::Exchange;
use crate::request::refusal::Refusal;

/// Plans the attempts at the alias's targets, once there is room at one of them.
pub(super) async fn plan_attempts(
    exchange: &mut Exchange,
    context: &AttemptContext<'_>,
) -> Result<Plan, Refusal> {
    let worker = exchange.worker.clone();
    let (config, telemetry) = (&worker.shared.config, &worker.shared.telemetry);
    let class = context.request.provider_use.class;
    let patience_ms = match class {
        Class::Interactive => config.provider_limit_wait_ms,
        Class::Batch => 0,
    };
    let begun = clock::now();
    let patience = Duration::from_millis(patience_ms);
    loop {
        let now_us = unix_us();
        let plan = route(exchange, context, context.throttled(now_us), now_us);
        if plan.last_resort != Some(TargetStatus::Throttled) {
            return Ok(plan);
        }
        let wait = context.wait(now_us);
        let waited = clock::now().saturating_duration_since(begun);
        if waited + wait > patience {
            telemetry.count_over_limit(class, "refused");
            return Err(Refusal::provider_limit(&context.alias.name, class, wait));
        }
        telemetry.count_over_limit(class, "waited");
        let before = clock::now();
        tokio::time::sleep(wait).await;
        let waited = clock::now().saturating_duration_since(before);
        exchange.record.queued(clock::micros(waited));
    }
}

/// Plans the attempts, and records how the targets were weighed.
fn route(
    exchange: &mut Exchange,
    context: &AttemptContext<'_>,
    throttled: TargetSet,
    now_us: u64,
) -> Plan {
    let client = context.request.request.facts;
    let tokens = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let facts = RoutingFacts {
        input_tokens: tokens(context.prompt_tokens()),
        output_tokens_max: match context.request.request.api {
            ClientApi::Embeddings | ClientApi::CountTokens => Some(0),
            _ => client.max_output_tokens.map(tokens),
        },
        in_one_piece: !client.stream,
        sticky: context.request.affinity.sticky,
        prefix: context.request.affinity.prefix,
        denied: context.request.denied,
        throttled,
        ..Default::default()
    };
    // Events hold the seed as a signed integer.
    let seed = rand::rng().next_u64() >> 1;
    let mut plan = context.view.plan(context.alias, &facts, now_us, seed);
    context.note_stalled(&exchange.worker, &mut plan);
    let candidate = |candidate: &ScoredTarget| RouteCandidate {
        deployment: context.directory.deployment(candidate.deployment).clone(),
        score: candidate
            .score
            .is_finite()
            .then(|| f64::from(candidate.score)),
        propensity: f64::from(candidate.propensity),
    };
    exchange.record.routed(Route {
        strategy: context.alias.strategy.as_str(),
        table_version: (plan.table_version > 0).then_some(plan.table_version),
        seed,
        last_resort: plan.last_resort.map(TargetStatus::code),
        candidates: plan.candidates().iter().map(candidate).collect(),
    });
    plan
}
