//! Attempts, one after the other, until one brings an answer or nothing is left to try.
//!
//! A stream has begun to answer when its first token is here, any other answer when it is here as a
//! whole (or is too long to wait for). Up to then an attempt can be replaced without the client
//! noticing; from then on it is the answer.
//!
//! [`attempt`] asks the [plan] for the next attempt; [`race`](race::race) makes it, and a hedge beside it
//! if the first token is late; [`call`](call::send) is one call at one provider. Before each, the request
//! takes a permit of the [provider's limits](provider_limits). Before a further one it reserves from its
//! budgets again, if the one before may be billed. [`shadow`] sends copies whose answers are
//! discarded.

mod call;
mod context;
mod failed;
mod plan;
mod provider_limits;
mod race;
mod shadow;

use std::time::Duration;

use weir_routing::{Alias, GiveUp, Next};

pub(crate) use call::{DROPPED, is_event_stream, is_media_type};
pub(crate) use context::RoutedRequest;
pub(crate) use failed::FailedAttempt;
pub(crate) use race::CommittedResponse;

use crate::request::exchange::Exchange;
use crate::request::refusal::Refusal;
use crate::setup::directory::Directory;
use context::{AttemptContext, unix_us};
use plan::plan_attempts;
use race::race;

/// Makes attempts until there is an answer.
pub(crate) async fn attempt(
    exchange: &mut Exchange,
    directory: &Directory,
    alias: &Alias,
    request: &RoutedRequest<'_>,
) -> Result<CommittedResponse, Refusal> {
    let priors = exchange.worker.shared.routing.priors();
    let context = AttemptContext {
        directory,
        view: directory.routes().view(&priors),
        alias,
        request,
    };
    let mut plan = plan_attempts(exchange, &context).await?;
    shadow::send(exchange, &context, &mut plan);
    let mut last: Option<FailedAttempt> = None;
    // What was reserved for the latest attempt is still needed for it.
    let mut is_spent = false;
    loop {
        let failure = last.as_ref().map(|failed| &failed.failure);
        if failure.is_some() {
            plan.set_throttled(context.throttled(unix_us()));
        }
        let next = plan.next(context.view, alias, failure, unix_us());
        context.note_stalled(&exchange.worker, &mut plan);
        let attempt = match next {
            Next::Attempt(attempt) => attempt,
            Next::GiveUp(reason) => return Err(gave_up(alias, reason, last)),
        };
        if attempt.delay_us > 0 {
            tokio::time::sleep(Duration::from_micros(attempt.delay_us)).await;
        }
        if request.has_client_left() {
            return Err(gave_up(alias, GiveUp::NoTargetLeft, last));
        }
        if is_spent && !exchange.reserve_again() {
            return Err(gave_up(alias, GiveUp::NoTargetLeft, last));
        }
        is_spent = false;
        if let Some(client) = &request.client {
            client.note_call();
        }
        let cause = last.as_ref().map(|failed| failed.failure.kind.as_str());
        let permit = match context.take(attempt.deployment) {
            Ok(permit) => permit,
            // Others were quicker to take what was left of a limit, and nothing was sent yet.
            Err(_) if last.is_none() => {
                plan = plan_attempts(exchange, &context).await?;
                continue;
            }
            Err(failed) => {
                last = Some(failed);
                continue;
            }
        };
        match race(exchange, &context, &mut plan, &attempt, permit, cause).await {
            Ok(response) => return Ok(response),
            Err(failed) => {
                is_spent = failed.may_be_billed();
                last = Some(failed);
            }
        }
    }
}

/// The last attempt's failure, if any was made.
fn gave_up(alias: &Alias, reason: GiveUp, last: Option<FailedAttempt>) -> Refusal {
    match last {
        Some(failed) => failed.into(),
        None => Refusal::no_deployment(&alias.name, reason),
    }
}
