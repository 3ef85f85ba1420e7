//! Copies of requests to a deployment that is looked at before it is trusted.
//!
//! A copy runs in a task of its own after the request's first try was planned. Nobody waits for it:
//! its answer is measured and thrown away, its event is written when it ends, and when too many are
//! under way there is none.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use weir_governance::clock::{self, Moment};
use weir_limits::ProviderPermit;
use weir_routing::{InFlight, Plan};

use super::call::{Answering, Ready, prepare, send as call};
use super::failed::Failed;
use super::{Way, unix_us};
use crate::record::attempt::AttemptRecord;
use crate::record::context::RequestContext;
use crate::record::deployment_events::note_transition;
use crate::record::trail::RequestRecord;
use crate::request::exchange::Exchange;
use crate::request::worker::Worker;
use crate::setup::directory::Deployment;
use crate::upstream::CallError;

/// Copies under way at once, per worker. Further ones are left out, and counted.
const SHADOWS_MAX: usize = 64;

/// The copies that one worker has under way.
#[derive(Debug, Default)]
pub(crate) struct Shadows {
    tasks: Mutex<JoinSet<()>>,
}

impl Shadows {
    fn has_room(&self) -> bool {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.len() < SHADOWS_MAX
    }

    /// Cuts short what is under way. Each copy writes its event.
    pub(crate) async fn stop(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
    }
}

/// Sends a copy if the plan says that this request is to have one.
pub(super) fn send(exchange: &Exchange, way: &Way<'_>, plan: &mut Plan) {
    let Some(this) = plan.shadow() else { return };
    let worker = &exchange.worker;
    if !worker.shadows.has_room() {
        worker.shared.telemetry.metrics.shadows_left_out.inc();
        return;
    }
    let Some(taken) = way.take_for_copy(this.deployment) else {
        worker.shared.telemetry.metrics.shadows_left_out.inc();
        return;
    };
    let deployment = way.directory.deployment(this.deployment).clone();
    let attempt = AttemptRecord::new(deployment.clone(), &this, Moment::now(), None);
    let deadline = way.asked.deadline(&deployment);
    let ready = prepare(way.asked, &deployment);
    let copy = Shadow {
        in_flight: Some(way.view.start(way.alias, plan, &this, unix_us())),
        context: exchange.context.clone(),
        record: exchange.record.of_shadow(attempt),
        permit: taken,
        worker: worker.clone(),
        deployment,
    };
    worker
        .shadows
        .tasks
        .lock()
        .spawn(async move { copy.run(ready, deadline).await });
}

/// A copy under way. However it ends, it has its event.
struct Shadow {
    worker: Arc<Worker>,
    deployment: Arc<Deployment>,
    context: RequestContext,
    record: RequestRecord,
    permit: ProviderPermit,
    in_flight: Option<InFlight>,
}

impl Shadow {
    async fn run(mut self, ready: Result<Ready, Failed>, deadline: Instant) {
        let ended = self.try_to_run(ready, deadline).await;
        let Some(in_flight) = self.in_flight.take() else {
            return;
        };
        let record = self.record.current();
        let transition = match ended {
            Ok(output_tokens) => {
                record.map(AttemptRecord::succeeded);
                in_flight.succeed(output_tokens, unix_us())
            }
            Err(failed) => {
                if let Some(record) = record {
                    record.failed(failed.failure.kind, &failed.message);
                }
                in_flight.fail(&failed.failure, unix_us())
            }
        };
        note_transition(&self.worker.stream, &self.deployment, transition);
    }

    /// Reads the answer to its end. Returns how many tokens it had.
    async fn try_to_run(
        &mut self,
        ready: Result<Ready, Failed>,
        deadline: Instant,
    ) -> Result<u32, Failed> {
        let Some(record) = self.record.current() else {
            return Ok(0);
        };
        let called = (&*self.deployment, &self.permit);
        let answering = call(&self.worker, called, ready, deadline, record).await?;
        record.first_token_arrived();
        if let Some(in_flight) = self.in_flight.as_mut().filter(|_| answering.is_stream) {
            let transition = in_flight.first_token(unix_us());
            note_transition(&self.worker.stream, &self.deployment, transition);
        }
        drain(answering, &self.deployment, deadline, record).await
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        self.record.shadow_stopped();
        self.worker.shared.telemetry.count_attempts(&self.record);
        let (limits, permit, now_us) = (&self.deployment.limits, &self.permit, unix_us());
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

/// Reads the answer to its end. Returns how many tokens it had.
async fn drain(
    answering: Answering,
    deployment: &Deployment,
    deadline: Instant,
    record: &mut AttemptRecord,
) -> Result<u32, Failed> {
    let Answering {
        mut answer,
        mut machine,
        mut ended,
        ..
    } = answering;
    let timeouts = deployment.provider.timeouts;
    let idle = std::time::Duration::from_millis(timeouts.idle_ms);
    while !ended && !machine.facts().terminal_seen {
        let next = std::future::poll_fn(|cx| answer.body.poll_data(cx));
        let by = (clock::now() + idle).min(deadline);
        let piece = tokio::time::timeout_at(by.into(), next)
            .await
            .map_err(|_| CallError::IdleTimeout {
                timeout_ms: timeouts.idle_ms,
            })?
            .transpose()?;
        let read = match piece {
            Some(piece) => {
                record.bytes_arrived(piece.len());
                machine.push(piece)
            }
            None => {
                ended = true;
                machine.finish()
            }
        };
        read.map_err(|error| Failed::of_stream(deployment, error))?;
    }
    let facts = machine.facts();
    record.metered(facts);
    match &facts.provider_error {
        Some(error) => Err(Failed::said(deployment, error.clone())),
        None => {
            let usage = facts.usage.unwrap_or_default();
            Ok(u32::try_from(usage.output_tokens.unwrap_or(0)).unwrap_or(u32::MAX))
        }
    }
}
