//! A try, and beside it a second one if the first token is late.
//!
//! Whoever has the first token wins; the other one is cancelled by dropping its connection, and is
//! an attempt like any other. A try that fails leaves the race to the other; only when both have
//! failed is there a failure.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;
use weir_limits::ProviderPermit;
use weir_routing::{Attempt, AttemptKind, InFlight, Plan};

use super::call::{Answering, ask};
use super::failed::Failed;
use super::{Begun, Way, note_stalled, unix_us};
use crate::record::deployment_events::note_transition;
use crate::record::trail::{AttemptTrail, LOST};
use crate::request::exchange::Exchange;
use crate::request::worker::Worker;
use crate::setup::directory::Deployment;

/// What led to a second try: no failure, but silence.
const LATE: &str = "late";

/// One try under way.
struct Flight {
    deployment: Arc<Deployment>,
    /// None once its deployment was told how it ended.
    in_flight: Option<InFlight>,
}

/// How a race of two ended.
enum End {
    First(Answering),
    Second(Answering),
    /// Both failed. What the second one says, which the plan asks about.
    Nobody(Failed),
}

/// Makes a try, and a hedge beside it when the plan says so.
pub(super) async fn race(
    exchange: &mut Exchange,
    way: &Way<'_>,
    plan: &mut Plan,
    this: &Attempt,
    cause: Option<&'static str>,
) -> Result<Begun, Failed> {
    let worker = exchange.worker.clone();
    let trail = &mut exchange.trail;
    let taken = way.take(this.deployment)?;
    let mut first = Flight::begin(way, plan, this);
    let attempt = first.attempt(this, cause, taken);
    let may_be_joined = this.kind == AttemptKind::First && way.alias.targets().len() > 1;
    if !may_be_joined || plan.hedge_after_us().is_none() {
        let noted = trail.begin_attempt(attempt);
        let asked = Box::pin(ask(&worker, way.asked, &first.deployment, noted)).await;
        return first.land(&worker, way, asked);
    }
    let (noted, spare) = trail.begin_attempt_with_spare(attempt);
    let started = noted.started.instant;
    let mut second = None;
    let end = {
        let deployment = first.deployment.clone();
        // On the heap: what waits for a provider should not take room in every connection's task.
        let mut leading = Box::pin(ask(&worker, way.asked, &deployment, noted));
        match alone(&worker, leading.as_mut(), way, plan, started).await {
            Alone::Ended(Ok(answering)) => End::First(answering),
            Alone::Ended(Err(failed)) => {
                first.tell(&worker, &failed);
                End::Nobody(failed)
            }
            Alone::Late(hedge, taken) => {
                let second = second.insert(Flight::begin(way, plan, &hedge));
                spare.take_off(second.attempt(&hedge, Some(LATE), taken));
                let deployment = second.deployment.clone();
                let mut beside = Box::pin(ask(&worker, way.asked, &deployment, spare));
                let leading = (leading.as_mut(), &mut first);
                together(&worker, leading, (beside.as_mut(), second)).await
            }
        }
    };
    match (end, second) {
        (End::First(answering), None) => {
            trail.drop_spare();
            Ok(first.win(way, answering))
        }
        (End::First(answering), Some(second)) => {
            trail.answer_with_first_of_two();
            trail.lose_attempt_before_last(LOST);
            second.lose(&worker);
            Ok(first.win(way, answering))
        }
        (End::Second(answering), Some(second)) => {
            trail.lose_attempt_before_last(LOST);
            first.lose(&worker);
            Ok(second.win(way, answering))
        }
        (End::Nobody(failed), second) => {
            if second.is_none() {
                trail.drop_spare();
            }
            Err(failed)
        }
        (End::Second(_), None) => Err(Failed::cut(
            "an attempt that was not made has answered".into(),
        )),
    }
}

/// How the time without a second try ended.
#[expect(
    clippy::large_enum_variant,
    reason = "it is handed on at once and kept nowhere"
)]
enum Alone {
    Ended(Result<Answering, Failed>),
    Late(Attempt, ProviderPermit),
}

/// Waits for the first try, and asks the plan for a second one whenever that may be due.
async fn alone(
    worker: &Worker,
    mut leading: Pin<&mut impl Future<Output = Result<Answering, Failed>>>,
    way: &Way<'_>,
    plan: &mut Plan,
    started: Instant,
) -> Alone {
    while let Some(after_us) = plan.hedge_after_us() {
        let late = started + Duration::from_micros(after_us);
        tokio::select! {
            biased;
            ended = leading.as_mut() => return Alone::Ended(ended),
            () = sleep_until(late.into()) => {}
        }
        if way.asked.has_client_left() {
            break;
        }
        let hedge = plan.hedge(way.view, way.alias, unix_us());
        note_stalled(worker, way, plan);
        let hedge = hedge.and_then(|hedge| Some((hedge, way.take(hedge.deployment).ok()?)));
        if let Some((hedge, taken)) = hedge {
            return Alone::Late(hedge, taken);
        }
    }
    Alone::Ended(leading.await)
}

/// Waits until one of two has the first token, or both have failed.
async fn together<A, B>(
    worker: &Worker,
    (mut leading, first): (Pin<&mut A>, &mut Flight),
    (mut beside, second): (Pin<&mut B>, &mut Flight),
) -> End
where
    A: Future<Output = Result<Answering, Failed>>,
    B: Future<Output = Result<Answering, Failed>>,
{
    let ended = tokio::select! {
        biased;
        ended = leading.as_mut() => ended.map(End::First).map_err(|failed| (true, failed)),
        ended = beside.as_mut() => ended.map(End::Second).map_err(|failed| (false, failed)),
    };
    // Deployments are told at once: others should not be sent where this one just failed.
    match ended {
        Ok(end) => end,
        Err((true, failed)) => {
            first.tell(worker, &failed);
            match beside.await {
                Ok(answering) => End::Second(answering),
                Err(failed) => {
                    second.tell(worker, &failed);
                    End::Nobody(failed)
                }
            }
        }
        Err((false, failed)) => {
            second.tell(worker, &failed);
            match leading.await {
                Ok(answering) => End::First(answering),
                Err(late) => {
                    first.tell(worker, &late);
                    End::Nobody(failed)
                }
            }
        }
    }
}

impl Flight {
    fn begin(way: &Way<'_>, plan: &Plan, this: &Attempt) -> Self {
        Self {
            deployment: way.directory.deployment(this.deployment).clone(),
            in_flight: Some(way.view.start(way.alias, plan, this, unix_us())),
        }
    }

    fn attempt(
        &self,
        this: &Attempt,
        cause: Option<&'static str>,
        taken: ProviderPermit,
    ) -> AttemptTrail {
        let deployment = self.deployment.clone();
        let mut attempt = AttemptTrail::begin(deployment, this.kind.as_str(), cause, this.delay_us);
        attempt.propensity = Some(f64::from(this.propensity));
        attempt.taken = Some(taken);
        attempt
    }

    fn land(
        mut self,
        worker: &Worker,
        way: &Way<'_>,
        asked: Result<Answering, Failed>,
    ) -> Result<Begun, Failed> {
        match asked {
            Ok(answering) => Ok(self.win(way, answering)),
            Err(failed) => {
                self.tell(worker, &failed);
                Err(failed)
            }
        }
    }

    /// Tells the deployment's health of a failure.
    fn tell(&mut self, worker: &Worker, failed: &Failed) {
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

    fn win(self, way: &Way<'_>, answering: Answering) -> Begun {
        let deadline = way.asked.deadline(&self.deployment);
        answering.into_begun(self.deployment, self.in_flight, deadline)
    }
}
