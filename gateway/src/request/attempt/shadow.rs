//! Copies of requests to a deployment that is measured before it is trusted.
//!
//! A shadow runs in a task of its own once the request's first attempt is planned. No client waits for
//! it: its answer is measured and discarded, its event is written when it ends, and when too many are
//! under way there is none.

use std::sync::Arc;

use weir_governance::clock::Moment;
use weir_limits::ProviderPermit;
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
use crate::request::worker::Worker;
use crate::setup::directory::Deployment;

/// Sends a shadow if the plan has one for this request.
pub(super) fn send(exchange: &Exchange, context: &AttemptContext<'_>, plan: &mut Plan) {
    let Some(attempt) = plan.shadow() else { return };
    let worker = &exchange.worker;
    let has_room = worker.shadows.len() < SHADOWS_MAX;
    let permit = has_room.then(|| context.take_for_shadow(attempt.deployment));
    let Some(permit) = permit.flatten() else {
        worker.shared.telemetry.metrics.shadows_left_out.inc();
        return;
    };
    let deployment = context.directory.deployment(attempt.deployment).clone();
    let record = AttemptRecord::new(deployment.clone(), &attempt, Moment::now(), None);
    let prepared = prepare(context.request, &deployment);
    let in_flight = context.view.start(context.alias, plan, &attempt, unix_us());
    let shadow = Shadow {
        context: exchange.context.clone(),
        record: exchange.record.of_shadow(record),
        permit,
        worker: worker.clone(),
        tracked: TrackedAttempt::new(deployment, in_flight),
    };
    worker.shadows.spawn(shadow.run(prepared));
}

/// A shadow under way. However it ends, it has its event.
struct Shadow {
    worker: Arc<Worker>,
    tracked: TrackedAttempt,
    context: RequestContext,
    record: RequestRecord,
    permit: ProviderPermit,
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
        self.record
            .close(|_, tokens| limits.settle(permit, tokens, now_us));
        for message in self.record.messages_mut() {
            self.worker.shared.payloads.clean(message);
        }
        let events = self.record.attempt_events(&self.context);
        if let Err(error) = self.worker.stream.append(&events) {
            tracing::error!(%error, "failed to write the event of a shadow");
        }
    }
}
