//! Copies of requests to a deployment that is measured before it is trusted.
//!
//! A shadow runs in a task of its own once the request's first attempt is planned. No client waits for
//! it: its answer is measured and discarded, its event is written when it ends, and when too many are
//! under way there is none.

use std::sync::Arc;

use weir_governance::admission::ReservedBudget;
use weir_governance::clock::Moment;
use weir_limits::{BudgetUnit, Permit, ProviderPermit};
use weir_routing::Plan;
use weir_schemas::UsageSource;

use super::call::{PendingResponse, PreparedCall, prepare, send as call};
use super::context::{AttemptContext, Callee, unix_us};
use super::failed::FailedAttempt;
use crate::caps::SHADOWS_MAX;
use crate::record::attempt::AttemptRecord;
use crate::record::context::RequestContext;
use crate::record::deployment_events::TrackedAttempt;
use crate::record::trail::RequestRecord;
use crate::request::exchange::Exchange;
use crate::request::settlement::settle;
use crate::request::worker::Worker;
use crate::setup::directory::Deployment;

/// Sends a shadow if the plan has one for this request.
pub(super) fn send(exchange: &Exchange, context: &AttemptContext<'_>, plan: &mut Plan) {
    let Some(attempt) = plan.shadow() else { return };
    let worker = &exchange.worker;
    let has_room = worker.shadows.len() < SHADOWS_MAX;
    let deployment = context.directory.deployment(attempt.deployment).clone();
    let taken = has_room.then(|| {
        let budgets = reserve(exchange, context, &deployment)?;
        Some((budgets, context.take_for_shadow(attempt.deployment)?))
    });
    let Some((budgets, permit)) = taken.flatten() else {
        worker.shared.telemetry.metrics.shadows_left_out.inc();
        return;
    };
    let record = AttemptRecord::new(deployment.clone(), &attempt, Moment::now(), None);
    let prepared = prepare(context.request, &deployment);
    let in_flight = context.view.start(context.alias, plan, &attempt, unix_us());
    let shadow = Shadow {
        context: exchange.context.clone(),
        record: exchange.record.of_shadow(record),
        permit,
        budgets,
        worker: worker.clone(),
        tracked: TrackedAttempt::new(deployment, in_flight),
    };
    worker.shadows.spawn(shadow.run(prepared));
}

/// Reserves what the shadow may cost of the request's budgets. `None` where it must not be sent.
fn reserve(
    exchange: &Exchange,
    context: &AttemptContext<'_>,
    deployment: &Deployment,
) -> Option<Option<Permit<ReservedBudget>>> {
    let Some(permit) = &exchange.permit else {
        return Some(None);
    };
    let now_us = unix_us();
    let bound = deployment.bound(&context.request.request, now_us);
    let amount = |budget: &ReservedBudget| {
        let needs_bound = budget.wants_bounds();
        match (budget.unit(), bound) {
            (BudgetUnit::Tokens, Some((tokens, _))) => Some(tokens.into()),
            (BudgetUnit::PicoUsd, Some((_, Some(cost)))) => Some(cost.0.unsigned_abs().into()),
            (BudgetUnit::PicoUsd, _) if budget.wants_prices() => None,
            _ => (!needs_bound).then_some(0),
        }
    };
    let beside = permit.beside(amount, now_us);
    beside.map(Some)
}

/// A shadow under way. However it ends, it has its event.
struct Shadow {
    worker: Arc<Worker>,
    tracked: TrackedAttempt,
    context: RequestContext,
    record: RequestRecord,
    permit: ProviderPermit,
    /// What it holds of the request's budgets.
    budgets: Option<Permit<ReservedBudget>>,
}

impl Shadow {
    async fn run(mut self, prepared: Result<PreparedCall, FailedAttempt>) {
        let ended = self.attempt(prepared).await;
        let (record, stream) = (self.record.current(), &self.worker.stream);
        match ended {
            Ok(output_tokens) => {
                record.map(AttemptRecord::succeeded);
                self.tracked.succeed(stream, output_tokens);
            }
            Err(failed) => {
                if let Some(record) = record {
                    record.failed(failed.failure.kind, &failed.message);
                }
                self.tracked.fail(stream, &failed.failure);
            }
        }
    }

    /// Reads the answer to its end. Returns how many tokens it had.
    async fn attempt(
        &mut self,
        prepared: Result<PreparedCall, FailedAttempt>,
    ) -> Result<Option<u64>, FailedAttempt> {
        let Some(record) = self.record.current() else {
            return Ok(None);
        };
        let callee = Callee {
            deployment: &self.tracked.deployment,
            permit: &self.permit,
        };
        let response = call(&self.worker, callee, prepared, record).await?;
        record.first_token_arrived();
        if response.reader.reads_stream() {
            self.tracked.first_token(&self.worker.stream);
        }
        read_to_end(response, &self.tracked.deployment, record).await
    }
}

async fn read_to_end(
    response: PendingResponse,
    deployment: &Deployment,
    record: &mut AttemptRecord,
) -> Result<Option<u64>, FailedAttempt> {
    let mut reader = response.reader;
    while !reader.is_finished() && !reader.facts().terminal_seen {
        let step = reader.next().await;
        record.received(reader.bytes_read());
        step.map_err(|error| FailedAttempt::of_answer(deployment, error))?;
    }
    let facts = reader.facts();
    record.metered(facts, UsageSource::Reported);
    if let Some(error) = &facts.provider_error {
        return Err(FailedAttempt::reported(deployment, error.clone()));
    }
    Ok(facts.usage.and_then(|usage| usage.output_tokens))
}

impl Drop for Shadow {
    fn drop(&mut self) {
        self.record.shadow_stopped();
        self.worker.shared.telemetry.count_attempts(&self.record);
        let limits = &self.tracked.deployment.limits;
        let (permit, now_us) = (&self.permit, unix_us());
        let totals = self
            .record
            .close(None, |_, tokens| limits.settle(permit, tokens, now_us));
        for message in self.record.messages_mut() {
            self.worker.shared.payloads.clean(message);
        }
        let (budgets, worker) = (self.budgets.take(), self.worker.clone());
        let appended = settle(
            &worker,
            budgets,
            &self.context,
            &totals,
            |stream, notices| {
                let mut events = self.record.attempt_events(&self.context);
                let now_ms = Moment::now().unix_ms();
                events.extend(notices.iter().map(|notice| notice.event(now_ms)));
                stream.append(&events)
            },
        );
        if let Err(error) = appended {
            tracing::error!(%error, "failed to write the event of a shadow");
        }
    }
}
