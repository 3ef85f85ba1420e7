//! Tries, one after the other, until one brings an answer or there is nothing left to try.
//!
//! A stream has begun to answer when its first token is here, any other answer when it is here as a
//! whole (or is too long to wait for). Up to then a try can be replaced without the client noticing;
//! from then on it is the answer.
//!
//! The way through: [`attempt`] asks the plan what to do; [`race`](race::race) makes the try, and a
//! second one beside it if the first token is late; [`call`](call::ask) is one call at one provider.
//! Before each, the request takes its [turn](provider_limits) at the provider's limits.
//! [`shadow`] sends copies that nobody waits for.

mod call;
mod failed;
mod provider_limits;
mod race;
mod shadow;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderMap;
use rand::RngCore as _;
use weir_dialects::{ClientApi, ClientRequest, ResponseMachine};
use weir_limits::ProviderUse;
use weir_routing::{Alias, GiveUp, InFlight, Next, Plan, RoutingView, TargetSet};

pub(crate) use call::DROPPED;
pub(crate) use failed::{Failed, Told};
pub(crate) use provider_limits::ProviderPermits;
pub(crate) use shadow::Shadows;

use crate::record::deployment_events::note_state;
use crate::record::estimate::BYTES_PER_TOKEN_MEAN;
use crate::record::trail::{Route, RouteCandidate};
use crate::request::affinity::Affinity;
use crate::request::drain::Waiting;
use crate::request::exchange::Exchange;
use crate::request::refusal::Refusal;
use crate::request::worker::Worker;
use crate::setup::directory::{Deployment, Directory};
use crate::upstream::AnswerBody;
use race::race;
use weir_governance::clock::Moment;

/// A request that was understood.
pub(crate) struct Asked<'a> {
    pub(crate) request: ClientRequest<'a>,
    pub(crate) arrived: Moment,
    pub(crate) affinity: Affinity,
    /// Targets that the caller's budgets do not let it use.
    pub(crate) denied: TargetSet,
    /// Who waits, where an answer is read without whoever does.
    pub(crate) client: Option<Arc<Waiting>>,
    /// What it takes of its providers' limits.
    pub(crate) turn: ProviderUse,
}

impl Asked<'_> {
    /// When the whole request must be over, if this deployment answers it.
    fn deadline(&self, deployment: &Deployment) -> Instant {
        self.arrived.instant + Duration::from_millis(deployment.provider.timeouts.total_ms)
    }

    /// A client that has left wants no further try.
    fn has_client_left(&self) -> bool {
        self.client.as_ref().is_some_and(|client| client.has_left())
    }
}

/// An answer that has begun: everything needed to relay the rest of it.
pub(crate) struct Begun {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) machine: ResponseMachine,
    /// What there is for the client already.
    pub(crate) first: Bytes,
    /// Whether that is all, and the machine is finished.
    pub(crate) ended: bool,
    /// Whether the provider streams it.
    pub(crate) is_stream: bool,
    pub(crate) body: AnswerBody,
    /// None once its deployment was told how it ended.
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) deployment: Arc<Deployment>,
    /// When the whole request must be over.
    pub(crate) deadline: Instant,
}

/// What all tries of one request have in common.
struct Way<'a> {
    directory: &'a Directory,
    view: RoutingView<'a>,
    alias: &'a Alias,
    asked: &'a Asked<'a>,
}

impl Way<'_> {
    /// Estimate of the prompt's size.
    fn prompt_tokens(&self) -> u64 {
        self.asked.request.facts.prompt_bytes / BYTES_PER_TOKEN_MEAN
    }
}

/// Tries until there is an answer.
pub(crate) async fn attempt(
    exchange: &mut Exchange,
    directory: &Directory,
    alias: &Alias,
    asked: &Asked<'_>,
) -> Result<Begun, Refusal> {
    let priors = exchange.worker.shared.routing.priors();
    let way = Way {
        directory,
        view: directory.routes().view(&priors),
        alias,
        asked,
    };
    let mut plan = provider_limits::plan(exchange, &way).await?;
    shadow::send(exchange, &way, &mut plan);
    let mut last: Option<Failed> = None;
    loop {
        let failure = last.as_ref().map(|failed| &failed.failure);
        if failure.is_some() {
            plan.set_throttled(way.throttled(unix_us()));
        }
        let next = plan.next(way.view, alias, failure, unix_us());
        note_stalled(&exchange.worker, &way, &mut plan);
        let this = match next {
            Next::Attempt(this) => this,
            Next::GiveUp(reason) => return Err(Refusal::gave_up(alias.name(), reason, last)),
        };
        if this.delay_us > 0 {
            tokio::time::sleep(Duration::from_micros(this.delay_us)).await;
        }
        if asked.has_client_left() {
            return Err(Refusal::gave_up(alias.name(), GiveUp::NoTargetLeft, last));
        }
        if let Some(client) = &asked.client {
            client.note_call();
        }
        let cause = last.as_ref().map(|failed| failed.failure.kind.as_str());
        let permit = match way.take(this.deployment) {
            Ok(permit) => permit,
            // Others were quicker to take what was left of a limit, and nothing was sent yet.
            Err(_) if last.is_none() => {
                plan = provider_limits::plan(exchange, &way).await?;
                continue;
            }
            Err(failed) => {
                last = Some(failed);
                continue;
            }
        };
        match race(exchange, &way, &mut plan, &this, permit, cause).await {
            Ok(begun) => return Ok(begun),
            Err(failed) => last = Some(failed),
        }
    }
}

fn unix_us() -> u64 {
    Moment::now().unix_us
}

/// Plans the way through the alias's targets, and notes how they were weighed.
fn route(exchange: &mut Exchange, way: &Way<'_>, throttled: TargetSet, now_us: u64) -> Plan {
    let client = way.asked.request.facts;
    let tokens = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let facts = weir_routing::RoutingFacts {
        input_tokens: tokens(way.prompt_tokens()),
        output_tokens_max: match way.asked.request.api {
            ClientApi::Embeddings | ClientApi::CountTokens => Some(0),
            _ => client.max_output_tokens.map(tokens),
        },
        in_one_piece: !client.stream,
        sticky: way.asked.affinity.sticky,
        prefix: way.asked.affinity.prefix,
        denied: way.asked.denied,
        throttled,
        ..Default::default()
    };
    // Events hold the seed as a signed integer.
    let seed = rand::rng().next_u64() >> 1;
    let mut plan = way.view.plan(way.alias, &facts, now_us, seed);
    note_stalled(&exchange.worker, way, &mut plan);
    let candidate = |candidate: &weir_routing::ScoredTarget| RouteCandidate {
        deployment: way.directory.deployment(candidate.deployment).clone(),
        score: candidate
            .score
            .is_finite()
            .then(|| f64::from(candidate.score)),
        propensity: f64::from(candidate.propensity),
    };
    exchange.record.routed(Route {
        strategy: way.alias.strategy().as_str(),
        table_version: (plan.table_version() > 0).then(|| plan.table_version()),
        seed,
        last_resort: plan.last_resort().map(weir_routing::TargetStatus::code),
        candidates: plan.candidates().iter().map(candidate).collect(),
    });
    plan
}

/// Says which deployments a plan has found stalled, and ejected.
fn note_stalled(worker: &Worker, way: &Way<'_>, plan: &mut Plan) {
    for target in plan.take_stalled().iter() {
        let id = way.alias.targets()[target].deployment;
        let health = way.directory.routes().health(id, unix_us());
        note_state(&worker.stream, way.directory.deployment(id), health.state);
    }
}
