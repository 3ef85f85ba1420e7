//! An attempt, and a second one beside it, the hedge, if its first token is late.
//!
//! The first token decides: the other attempt is cancelled by dropping its connection, and is recorded
//! like any other. An attempt that fails leaves the race to the other; only when both have failed is
//! there a failure.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::sleep_until;
use weir_governance::clock::Moment;
use weir_limits::ProviderPermit;
use weir_routing::{Attempt, AttemptKind, Plan};

use super::call::{PendingResponse, prepare, send};
use super::context::{AttemptContext, Callee, unix_us};
use super::failed::FailedAttempt;
use crate::record::attempt::AttemptRecord;
use crate::record::deployment_events::TrackedAttempt;
use crate::request::exchange::Exchange;
use crate::request::settlement;
use crate::request::worker::Worker;

/// What led to a hedge: no failure, but silence.
const LATE: &str = "late";

/// The answer that the client gets, and the attempt that it comes from.
pub(crate) struct CommittedResponse {
    pub(crate) response: PendingResponse,
    pub(crate) attempt: TrackedAttempt,
}

/// One attempt under way.
struct InFlightAttempt {
    tracked: TrackedAttempt,
    /// What it takes of its provider's limits.
    permit: ProviderPermit,
    started: Moment,
}

/// Makes an attempt, and a hedge beside it when the plan says so.
pub(super) async fn race(
    exchange: &mut Exchange,
    context: &AttemptContext<'_>,
    plan: &mut Plan,
    attempt: &Attempt,
    permit: ProviderPermit,
    cause: Option<&'static str>,
) -> Result<CommittedResponse, FailedAttempt> {
    let worker = exchange.worker.clone();
    let Exchange {
        provider_permits: permits,
        permit: budgets,
        context: who,
        record: request_record,
        ..
    } = exchange;
    let mut first = InFlightAttempt::begin(context, plan, attempt, permit);
    permits.hold(first.tracked.deployment.clone(), permit);
    let (record, hedge_slot) = request_record.begin_attempt(first.record(attempt, cause));
    // On the heap: what waits for a provider should not take room in every connection's task.
    let mut leading = Box::pin(first.ask(&worker, context, record));
    let hedge_wait = until_late(
        &worker,
        leading.as_mut(),
        context,
        plan,
        (attempt, first.started),
        || settlement::reserve_again(budgets.as_mut(), who).is_none(),
    );
    let (hedge, permit) = match hedge_wait.await {
        HedgeWait::Ended(Ok(answer)) => return Ok(first.win(answer)),
        HedgeWait::Ended(Err(failed)) => {
            first.fail(&worker, &failed);
            return Err(failed);
        }
        HedgeWait::Due(hedge, permit) => (hedge, permit),
    };
    let mut second = InFlightAttempt::begin(context, plan, &hedge, permit);
    permits.hold(second.tracked.deployment.clone(), permit);
    let record = hedge_slot.begin(second.record(&hedge, Some(LATE)));
    let mut beside = Box::pin(second.ask(&worker, context, record));
    let leader = (leading.as_mut(), &mut first);
    let (is_hedge, ended) = first_token(&worker, leader, (beside.as_mut(), &mut second)).await;
    drop((leading, beside));
    match ended {
        Ok(answer) => {
            request_record.won(is_hedge);
            let (winner, mut loser) = match is_hedge {
                true => (second, first),
                false => (first, second),
            };
            loser.tracked.lose(&worker.stream);
            Ok(winner.win(answer))
        }
        Err(failed) => Err(failed),
    }
}

/// How the wait for the first token ended.
#[expect(
    clippy::large_enum_variant,
    reason = "it is handed on at once and kept nowhere"
)]
enum HedgeWait {
    Ended(Result<PendingResponse, FailedAttempt>),
    /// A hedge is due, and has its permit.
    Due(Attempt, ProviderPermit),
}

/// Waits for an attempt, and asks the plan for a hedge whenever that may be due. `can_be_paid` reserves
/// for it.
async fn until_late(
    worker: &Worker,
    mut leading: Pin<&mut impl Future<Output = Result<PendingResponse, FailedAttempt>>>,
    context: &AttemptContext<'_>,
    plan: &mut Plan,
    (attempt, started): (&Attempt, Moment),
    mut can_be_paid: impl FnMut() -> bool,
) -> HedgeWait {
    let can_be_hedged = attempt.kind == AttemptKind::First && context.alias.targets.len() > 1;
    while can_be_hedged && let Some(after_us) = plan.hedge_after_us {
        let late = started.instant + Duration::from_micros(after_us);
        tokio::select! {
            biased;
            ended = leading.as_mut() => return HedgeWait::Ended(ended),
            () = sleep_until(late.into()) => {}
        }
        if context.request.has_client_left() {
            break;
        }
        let hedge = plan.hedge(context.view, context.alias, unix_us());
        context.note_stalled(worker, plan);
        let hedge = hedge
            .filter(|_| can_be_paid())
            .and_then(|hedge| Some((hedge, context.take(hedge.deployment).ok()?)));
        if let Some((hedge, permit)) = hedge {
            return HedgeWait::Due(hedge, permit);
        }
    }
    HedgeWait::Ended(leading.await)
}

/// Waits until one of two attempts has the first token, or both have failed. Returns whether it is the
/// hedge that ended the race. Of two failures the plan asks about the latest attempt's.
async fn first_token<A, B>(
    worker: &Worker,
    (mut leading, first): (Pin<&mut A>, &mut InFlightAttempt),
    (mut beside, second): (Pin<&mut B>, &mut InFlightAttempt),
) -> (bool, Result<PendingResponse, FailedAttempt>)
where
    A: Future<Output = Result<PendingResponse, FailedAttempt>>,
    B: Future<Output = Result<PendingResponse, FailedAttempt>>,
{
    // Deployments are told at once: others should not be sent where this one just failed.
    tokio::select! {
        biased;
        ended = leading.as_mut() => match ended {
            Ok(answer) => (false, Ok(answer)),
            Err(failed) => {
                first.fail(worker, &failed);
                let ended = beside.await.inspect_err(|failed| second.fail(worker, failed));
                (true, ended)
            }
        },
        ended = beside.as_mut() => match ended {
            Ok(answer) => (true, Ok(answer)),
            Err(failed) => {
                second.fail(worker, &failed);
                let ended = leading.await.inspect_err(|failed| first.fail(worker, failed));
                (false, ended.map_err(|_| failed))
            }
        },
    }
}

impl InFlightAttempt {
    fn begin(
        context: &AttemptContext<'_>,
        plan: &Plan,
        attempt: &Attempt,
        permit: ProviderPermit,
    ) -> Self {
        let deployment = context.directory.deployment(attempt.deployment).clone();
        let started = Moment::now();
        let in_flight = context.view.start(context.alias, plan, attempt, unix_us());
        Self {
            tracked: TrackedAttempt::new(deployment, in_flight),
            permit,
            started,
        }
    }

    fn record(&self, attempt: &Attempt, cause: Option<&'static str>) -> AttemptRecord {
        AttemptRecord::new(
            self.tracked.deployment.clone(),
            attempt,
            self.started,
            cause,
        )
    }

    /// The call itself.
    fn ask<'a>(
        &self,
        worker: &'a Worker,
        context: &'a AttemptContext<'_>,
        record: &'a mut AttemptRecord,
    ) -> impl Future<Output = Result<PendingResponse, FailedAttempt>> + use<'a> {
        let (deployment, permit) = (self.tracked.deployment.clone(), self.permit);
        async move {
            let callee = Callee {
                deployment: &deployment,
                permit: &permit,
            };
            let prepared = prepare(context.request, &deployment);
            send(worker, callee, prepared, record).await
        }
    }

    /// Tells the deployment's health of a failure, once.
    fn fail(&mut self, worker: &Worker, failed: &FailedAttempt) {
        self.tracked.fail(&worker.stream, &failed.failure);
    }

    fn win(self, response: PendingResponse) -> CommittedResponse {
        CommittedResponse {
            response,
            attempt: self.tracked,
        }
    }
}
