//! An attempt, and a second one beside it, the hedge, if its first token is late.
//!
//! The first token decides: the other attempt is cancelled by dropping its connection, and is recorded
//! like any other. An attempt that fails leaves the race to the other; only when both have failed is
//! there a failure.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep_until;
use weir_governance::clock::Moment;
use weir_limits::ProviderPermit;
use weir_routing::{Attempt, AttemptKind, InFlight, Plan};

use super::call::{Answering, ask};
use super::failed::Failed;
use super::{Begun, Way, note_stalled, unix_us};
use crate::record::attempt::AttemptRecord;
use crate::record::deployment_events::note_transition;
use crate::request::exchange::Exchange;
use crate::request::worker::Worker;
use crate::setup::directory::Deployment;

/// What led to a hedge: no failure, but silence.
const LATE: &str = "late";

/// One attempt under way.
struct InFlightAttempt {
    deployment: Arc<Deployment>,
    /// What it takes of its provider's limits.
    permit: ProviderPermit,
    started: Moment,
    /// None once its deployment was told how it ended.
    in_flight: Option<InFlight>,
}

/// Makes an attempt, and a hedge beside it when the plan says so.
pub(super) async fn race(
    exchange: &mut Exchange,
    way: &Way<'_>,
    plan: &mut Plan,
    this: &Attempt,
    permit: ProviderPermit,
    cause: Option<&'static str>,
) -> Result<Begun, Failed> {
    let worker = exchange.worker.clone();
    let permits = &mut exchange.provider_permits;
    let mut first = InFlightAttempt::begin(way, plan, this, permit);
    permits.hold(first.deployment.clone(), permit);
    let (record, hedge_slot) = exchange.record.begin_attempt(first.record(this, cause));
    // On the heap: what waits for a provider should not take room in every connection's task.
    let mut leading = Box::pin(first.ask(&worker, way, record));
    let hedge_wait = until_late(&worker, leading.as_mut(), way, plan, (this, first.started));
    let (hedge, permit) = match hedge_wait.await {
        HedgeWait::Ended(Ok(answer)) => return Ok(first.win(way, answer)),
        HedgeWait::Ended(Err(failed)) => {
            first.fail(&worker, &failed);
            return Err(failed);
        }
        HedgeWait::Due(hedge, permit) => (hedge, permit),
    };
    let mut second = InFlightAttempt::begin(way, plan, &hedge, permit);
    permits.hold(second.deployment.clone(), permit);
    let record = hedge_slot.begin(second.record(&hedge, Some(LATE)));
    let mut beside = Box::pin(second.ask(&worker, way, record));
    let (is_hedge, ended) = tokio::select! {
        biased;
        ended = leading.as_mut() => (false, ended),
        ended = beside.as_mut() => (true, ended),
    };
    // Deployments are told at once: others should not be sent where this one just failed.
    let (is_hedge, ended) = match ended {
        Err(failed) if is_hedge => {
            second.fail(&worker, &failed);
            match leading.as_mut().await {
                Ok(answer) => (false, Ok(answer)),
                Err(late) => {
                    first.fail(&worker, &late);
                    // The plan asks about the latest attempt.
                    (true, Err(failed))
                }
            }
        }
        Err(failed) => {
            first.fail(&worker, &failed);
            (true, beside.as_mut().await)
        }
        Ok(answer) => (is_hedge, Ok(answer)),
    };
    drop((leading, beside));
    match ended {
        Ok(answer) if is_hedge => {
            exchange.record.won_by_hedge();
            first.lose(&worker);
            Ok(second.win(way, answer))
        }
        Ok(answer) => {
            exchange.record.won_by_current();
            second.lose(&worker);
            Ok(first.win(way, answer))
        }
        Err(failed) => {
            second.fail(&worker, &failed);
            Err(failed)
        }
    }
}

/// How the wait for the first token ended.
#[expect(
    clippy::large_enum_variant,
    reason = "it is handed on at once and kept nowhere"
)]
enum HedgeWait {
    Ended(Result<Answering, Failed>),
    /// A hedge is due, and has its permit.
    Due(Attempt, ProviderPermit),
}

/// Waits for an attempt, and asks the plan for a hedge whenever that may be due.
async fn until_late(
    worker: &Worker,
    mut leading: Pin<&mut impl Future<Output = Result<Answering, Failed>>>,
    way: &Way<'_>,
    plan: &mut Plan,
    (this, started): (&Attempt, Moment),
) -> HedgeWait {
    let can_be_hedged = this.kind == AttemptKind::First && way.alias.targets().len() > 1;
    while can_be_hedged && let Some(after_us) = plan.hedge_after_us() {
        let late = started.instant + Duration::from_micros(after_us);
        tokio::select! {
            biased;
            ended = leading.as_mut() => return HedgeWait::Ended(ended),
            () = sleep_until(late.into()) => {}
        }
        if way.asked.has_client_left() {
            break;
        }
        let hedge = plan.hedge(way.view, way.alias, unix_us());
        note_stalled(worker, way, plan);
        let hedge = hedge.and_then(|hedge| Some((hedge, way.take(hedge.deployment).ok()?)));
        if let Some((hedge, permit)) = hedge {
            return HedgeWait::Due(hedge, permit);
        }
    }
    HedgeWait::Ended(leading.await)
}

impl InFlightAttempt {
    fn begin(way: &Way<'_>, plan: &Plan, this: &Attempt, permit: ProviderPermit) -> Self {
        Self {
            deployment: way.directory.deployment(this.deployment).clone(),
            permit,
            started: Moment::now(),
            in_flight: Some(way.view.start(way.alias, plan, this, unix_us())),
        }
    }

    fn record(&self, this: &Attempt, cause: Option<&'static str>) -> AttemptRecord {
        AttemptRecord::new(self.deployment.clone(), this, self.started, cause)
    }

    /// The call itself.
    fn ask<'a>(
        &self,
        worker: &'a Worker,
        way: &'a Way<'_>,
        record: &'a mut AttemptRecord,
    ) -> impl Future<Output = Result<Answering, Failed>> + use<'a> {
        let (deployment, permit) = (self.deployment.clone(), self.permit);
        async move { ask(worker, way.asked, &deployment, &permit, record).await }
    }

    /// Tells the deployment's health of a failure, once.
    fn fail(&mut self, worker: &Worker, failed: &Failed) {
        if let Some(in_flight) = self.in_flight.take() {
            let transition = in_flight.fail(&failed.failure, unix_us());
            note_transition(&worker.stream, &self.deployment, transition);
        }
    }

    /// The other one was faster.
    fn lose(mut self, worker: &Worker) {
        if let Some(in_flight) = self.in_flight.take() {
            let transition = in_flight.lose(unix_us());
            note_transition(&worker.stream, &self.deployment, transition);
        }
    }

    fn win(self, way: &Way<'_>, answer: Answering) -> Begun {
        let deadline = way.asked.deadline(&self.deployment);
        answer.into_begun(self.deployment, self.in_flight, deadline)
    }
}
