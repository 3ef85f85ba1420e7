//! Copies of requests to a deployment that is looked at before it is trusted.
//!
//! A copy runs in a task of its own after the request's first try was planned. Nobody waits for it:
//! its answer is measured and thrown away, its event is written when it ends, and when too many are
//! under way there is none.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use weir_routing::{InFlight, Plan};

use super::call::{Answering, Ready, prepare, send as call};
use super::failed::Failed;
use super::{Way, unix_us};
use crate::record::deployment_events::note_transition;
use crate::record::trail::{AttemptTrail, Trail};
use crate::request::exchange::Exchange;
use crate::request::worker::Worker;
use crate::setup::directory::Deployment;
use crate::upstream::CallError;
use weir_governance::clock;

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
        worker.shared.telemetry.shadows_left_out.inc();
        return;
    }
    let Some(taken) = way.take_for_copy(this.deployment) else {
        worker.shared.telemetry.shadows_left_out.inc();
        return;
    };
    let deployment = way.directory.deployment(this.deployment).clone();
    let mut attempt = AttemptTrail::begin(deployment.clone(), this.kind.as_str(), None, 0);
    attempt.propensity = Some(f64::from(this.propensity));
    attempt.taken = Some(taken);
    let deadline = way.asked.deadline(&deployment);
    let ready = prepare(way.asked, &deployment);
    let copy = Shadow {
        in_flight: Some(way.view.start(way.alias, plan, &this, unix_us())),
        trail: exchange.trail.of_copy(attempt),
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
    trail: Trail,
    in_flight: Option<InFlight>,
}

impl Shadow {
    async fn run(mut self, ready: Result<Ready, Failed>, deadline: Instant) {
        let ended = self.try_to_run(ready, deadline).await;
        let Some(in_flight) = self.in_flight.take() else {
            return;
        };
        let attempt = self.trail.attempts.last_mut();
        let transition = match ended {
            Ok(output_tokens) => {
                attempt.map(AttemptTrail::end);
                in_flight.succeed(output_tokens, unix_us())
            }
            Err(failed) => {
                if let Some(attempt) = attempt {
                    attempt.fail(failed.failure.kind.as_str(), failed.message.clone());
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
        let Some(attempt) = self.trail.attempts.last_mut() else {
            return Ok(0);
        };
        let answering = call(&self.worker, &self.deployment, ready, deadline, attempt).await?;
        attempt.ttft_us = Some(attempt.started.elapsed_us());
        if let Some(in_flight) = self.in_flight.as_mut().filter(|_| answering.is_stream) {
            let transition = in_flight.first_token(unix_us());
            note_transition(&self.worker.stream, &self.deployment, transition);
        }
        drain(answering, &self.deployment, deadline, attempt).await?;
        let tokens = attempt.usage.output_tokens.unwrap_or(0);
        Ok(u32::try_from(tokens).unwrap_or(u32::MAX))
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        for attempt in &mut self.trail.attempts {
            if !attempt.ended {
                attempt.fail("shutdown", "the gateway was stopped".into());
            }
        }
        self.worker.shared.telemetry.count_attempts(&self.trail);
        self.trail.price();
        for message in self.trail.messages_mut() {
            self.worker.shared.payloads.clean(message);
        }
        let mut events: Vec<_> = self.trail.attempt_events().collect();
        if let Err(error) = self.worker.stream.append(&mut events) {
            tracing::error!(%error, "write the event of a copy");
        }
    }
}

async fn drain(
    answering: Answering,
    deployment: &Deployment,
    deadline: Instant,
    attempt: &mut AttemptTrail,
) -> Result<(), Failed> {
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
                attempt.response_bytes += piece.len() as u64;
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
    attempt.meter(facts);
    match &facts.provider_error {
        Some(error) => Err(Failed::said(deployment, error.clone())),
        None => Ok(()),
    }
}
