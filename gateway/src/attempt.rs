//! Tries, one after the other, until one brings an answer or there is nothing left to try.
//!
//! A try has begun to answer when the first piece of its body is here. Up to then it can be
//! replaced without the client noticing; from then on it is the answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::Full;
use rand::RngCore as _;
use weir_dialects::{
    ApiError, ClientRequest, ErrorResponse, ResponseMachine, Target, UpstreamErrorFacts,
    UpstreamErrorKind, UpstreamRequest,
};
use weir_routing::{Alias, Failure, FailureKind, InFlight, Next, Plan, Transition, Try, View};

use crate::clock::{self, Moment};
use crate::directory::{Deployment, Directory};
use crate::error::Refusal;
use crate::exchange::Exchange;
use crate::trail::{AttemptTrail, Route, RouteCandidate};
use crate::upstream::{Answer, AnswerBody, Call, CallError};

/// Bytes of a provider's error answer that are read.
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;
/// Time that a provider gets to finish an error answer.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// How providers call the id that they give a request.
const UPSTREAM_REQUEST_ID: [&str; 4] = [
    "x-request-id",
    "request-id",
    "apim-request-id",
    "x-goog-request-id",
];
const OUR_USER_AGENT: &str = concat!("weir/", env!("CARGO_PKG_VERSION"));
/// Bytes of JSON that make a token, roughly; good enough to tell a prompt that cannot fit.
const BYTES_PER_TOKEN: u64 = 4;

/// A request that was understood.
pub(crate) struct Asked<'a> {
    pub(crate) request: ClientRequest<'a>,
    pub(crate) arrived: Moment,
    /// Hash of whom the request is for, for sticky splits.
    pub(crate) sticky: Option<u64>,
}

impl Asked<'_> {
    /// When the whole request must be over, if this deployment answers it.
    fn deadline(&self, deployment: &Deployment) -> Instant {
        self.arrived.instant + Duration::from_millis(deployment.provider.timeouts.total_ms)
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
    pub(crate) body: AnswerBody,
    pub(crate) in_flight: InFlight,
    pub(crate) deployment: Arc<Deployment>,
    /// When the whole request must be over.
    pub(crate) deadline: Instant,
}

/// A try that brought nothing.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) message: String,
    /// How the client is told, if this was the last try.
    pub(crate) told: Told,
}

/// How a client is told of a failed try.
#[derive(Debug)]
pub(crate) enum Told {
    /// That the provider did not answer.
    NoAnswer,
    /// What the provider said, inside a stream that had begun well.
    Said(Box<ApiError<'static>>),
    /// The provider's own answer.
    Answer(Box<ErrorResponse>),
}

/// Tries until there is an answer.
pub(crate) async fn attempt(
    exchange: &mut Exchange,
    directory: &Directory,
    alias: &Alias,
    asked: &Asked<'_>,
) -> Result<Begun, Refusal> {
    let priors = exchange.worker.shared.priors.load_full();
    let view = directory.routes().view(&priors);
    let mut plan = route(exchange, directory, view, alias, asked);
    let mut last: Option<Failed> = None;
    loop {
        let failure = last.as_ref().map(|failed| &failed.failure);
        let this = match plan.next(view, alias, failure, unix_us()) {
            Next::Try(this) => this,
            Next::GiveUp(reason) => return Err(Refusal::gave_up(alias.name(), reason, last)),
        };
        if this.delay_us > 0 {
            tokio::time::sleep(Duration::from_micros(this.delay_us)).await;
        }
        let deployment = directory.deployment(this.deployment).clone();
        let cause = last.as_ref().map(|failed| failed.failure.kind.as_str());
        exchange
            .trail
            .attempts
            .push(begin(&deployment, &this, cause));
        let in_flight = view.start(alias, &plan, &this, unix_us());
        match try_once(exchange, asked, &deployment).await {
            Ok(answering) => {
                let deadline = asked.deadline(&deployment);
                return Ok(answering.into_begun(deployment, in_flight, deadline));
            }
            Err(failed) => {
                note_transition(&deployment, in_flight.fail(&failed.failure, unix_us()));
                if let Some(trail) = exchange.trail.attempts.last_mut() {
                    trail.retry_after_us = failed.failure.retry_after_us;
                    trail.fail(failed.failure.kind.as_str(), failed.message.clone());
                }
                last = Some(failed);
            }
        }
    }
}

fn unix_us() -> u64 {
    Moment::now().unix_us
}

/// A deployment that was ejected, or came back, is news for whoever is on call.
pub(crate) fn note_transition(deployment: &Deployment, transition: Option<Transition>) {
    if let Some(transition) = transition {
        tracing::warn!(
            deployment = deployment.name,
            ?transition,
            "a deployment's breaker moved"
        );
    }
}

/// Plans the way through the alias's targets, and notes how they were weighed.
fn route(
    exchange: &mut Exchange,
    directory: &Directory,
    view: View<'_>,
    alias: &Alias,
    asked: &Asked<'_>,
) -> Plan {
    let client = asked.request.facts;
    let tokens = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let facts = weir_routing::RequestFacts {
        input_tokens: tokens(client.prompt_bytes / BYTES_PER_TOKEN),
        output_tokens_max: client.max_output_tokens.map(tokens),
        sticky: asked.sticky,
        ..Default::default()
    };
    // Events hold the seed as a signed integer.
    let seed = rand::rng().next_u64() >> 1;
    let plan = view.plan(alias, &facts, asked.arrived.unix_us, seed);
    let candidate = |candidate: &weir_routing::Candidate| RouteCandidate {
        deployment: directory.deployment(candidate.deployment).clone(),
        score: candidate
            .score
            .is_finite()
            .then(|| f64::from(candidate.score)),
        propensity: f64::from(candidate.propensity),
    };
    exchange.trail.route = Some(Route {
        strategy: alias.strategy().as_str(),
        table_version: (plan.table_version() > 0).then(|| plan.table_version()),
        seed,
        candidates: plan.candidates().iter().map(candidate).collect(),
    });
    plan
}

fn begin(deployment: &Arc<Deployment>, this: &Try, cause: Option<&'static str>) -> AttemptTrail {
    let mut trail =
        AttemptTrail::begin(deployment.clone(), this.kind.as_str(), cause, this.delay_us);
    trail.propensity = Some(f64::from(this.propensity));
    trail
}

/// An answer whose first piece is here.
struct Answering {
    answer: Answer,
    machine: ResponseMachine,
    first: Bytes,
    ended: bool,
}

impl Answering {
    fn into_begun(
        self,
        deployment: Arc<Deployment>,
        in_flight: InFlight,
        deadline: Instant,
    ) -> Begun {
        Begun {
            status: self.answer.head.status,
            headers: self.answer.head.headers,
            machine: self.machine,
            first: self.first,
            ended: self.ended,
            body: self.answer.body,
            in_flight,
            deployment,
            deadline,
        }
    }
}

/// One try, within the time that it and the whole request have.
async fn try_once(
    exchange: &mut Exchange,
    asked: &Asked<'_>,
    deployment: &Deployment,
) -> Result<Answering, Failed> {
    let target = Target::new(deployment.provider.vendor, &deployment.model);
    let prepared = weir_dialects::prepare(&asked.request, &target)
        .map_err(|refusal| Failed::refused(&refusal))?;
    let agreed = prepared.exchange.clone();
    let request = http_request(exchange, deployment, prepared)?;
    let timeouts = deployment.provider.timeouts;
    let deadline = asked.deadline(deployment);
    let first_byte_by = clock::now()
        + Duration::from_millis(timeouts.connect_ms)
        + Duration::from_millis(timeouts.first_byte_ms);
    let answering = first_piece(
        exchange,
        deployment,
        request,
        &agreed,
        asked.request.request_id,
    );
    match tokio::time::timeout_at(first_byte_by.min(deadline).into(), answering).await {
        Ok(answered) => answered,
        Err(_) if deadline <= first_byte_by => Err(CallError::TotalTimeout {
            timeout_ms: timeouts.total_ms,
        }
        .into()),
        Err(_) => Err(CallError::FirstByteTimeout {
            timeout_ms: timeouts.first_byte_ms,
        }
        .into()),
    }
}

/// Sends the request and waits for the first piece of an answer that can be relayed.
async fn first_piece(
    exchange: &mut Exchange,
    deployment: &Deployment,
    request: Request<Full<Bytes>>,
    agreed: &weir_dialects::Exchange,
    request_id: &str,
) -> Result<Answering, Failed> {
    let endpoint = &deployment.provider.endpoint;
    let connect_timeout_ms = deployment.provider.timeouts.connect_ms;
    let call = Call {
        endpoint,
        request,
        connect_timeout_ms,
    };
    let mut answer = exchange.worker.pool.call(call).await?;
    note_head(exchange, &answer);
    if !answer.head.status.is_success() {
        return Err(refused(deployment, agreed, request_id, answer).await);
    }
    let mut machine = ResponseMachine::new(agreed, is_event_stream(&answer.head.headers));
    loop {
        let piece = std::future::poll_fn(|cx| answer.body.poll_data(cx))
            .await
            .transpose()?;
        let ended = piece.is_none();
        let relayed = match piece {
            Some(piece) => {
                note_received(exchange, piece.len());
                machine.push(piece)
            }
            None => machine.finish(),
        };
        let first = relayed.map_err(|error| Failed::cut(error.to_string()))?;
        if let Some(error) = &machine.facts().provider_error {
            return Err(Failed::said(deployment, error.clone()));
        }
        if ended || !first.is_empty() {
            return Ok(Answering {
                answer,
                machine,
                first,
                ended,
            });
        }
    }
}

/// Puts the provider's address and key to what the dialect made.
fn http_request(
    exchange: &mut Exchange,
    deployment: &Deployment,
    prepared: UpstreamRequest,
) -> Result<Request<Full<Bytes>>, Failed> {
    let provider = &deployment.provider;
    let body = prepared.body.to_bytes();
    let mut request = Request::new(Full::new(body.clone()));
    *request.method_mut() = prepared.method;
    *request.uri_mut() = format!("{}{}", provider.base_path, prepared.path)
        .parse()
        .map_err(|error| Failed::no_url(&error))?;
    *request.headers_mut() = prepared.headers;
    request
        .headers_mut()
        .insert(HOST, provider.authority.clone());
    request
        .headers_mut()
        .insert(USER_AGENT, HeaderValue::from_static(OUR_USER_AGENT));
    if let Some((name, value)) = &deployment.auth {
        request.headers_mut().insert(name.clone(), value.clone());
    }
    let arrived = exchange.trail.arrived;
    exchange
        .trail
        .overhead_us
        .get_or_insert_with(|| arrived.elapsed_us());
    if let Some(trail) = exchange.trail.attempts.last_mut() {
        trail.request_bytes = body.len() as u64;
    }
    Ok(request)
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.trim_start().starts_with("text/event-stream"))
}

fn note_head(exchange: &mut Exchange, answer: &Answer) {
    let Some(trail) = exchange.trail.attempts.last_mut() else {
        return;
    };
    trail.status = Some(answer.head.status.as_u16());
    trail.connect_us = answer.connect_us;
    trail.headers_us = Some(trail.started.elapsed_us());
    trail.upstream_request_id = UPSTREAM_REQUEST_ID
        .iter()
        .find_map(|name| answer.head.headers.get(*name)?.to_str().ok())
        .map(str::to_owned);
}

fn note_received(exchange: &mut Exchange, bytes: usize) {
    if let Some(trail) = exchange.trail.attempts.last_mut() {
        trail.response_bytes += bytes as u64;
    }
}

/// Reads what a provider says about its refusal, as far as it is worth reading.
async fn refused(
    deployment: &Deployment,
    agreed: &weir_dialects::Exchange,
    request_id: &str,
    answer: Answer,
) -> Failed {
    let mut body = answer.body;
    let mut read = BytesMut::new();
    let reading = async {
        while let Some(Ok(piece)) = std::future::poll_fn(|cx| body.poll_data(cx)).await {
            let room = ERROR_BODY_BYTES_MAX.saturating_sub(read.len());
            read.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.len() >= room {
                break;
            }
        }
    };
    // Whatever has arrived by then will do: the status alone says most of it.
    let _ = tokio::time::timeout(ERROR_BODY_TIMEOUT, reading).await;
    let status = answer.head.status.as_u16();
    let provider = &deployment.provider;
    let mut said = weir_dialects::classify_upstream_error(
        provider.vendor.dialect,
        status,
        &answer.head.headers,
        &read,
        clock::system_time(),
    );
    deployment.redact(&mut said);
    let read = read.freeze();
    let told = weir_dialects::relay_error(agreed, &provider.name, status, &said, &read, request_id);
    Failed::from_upstream(said, Told::Answer(Box::new(told)))
}

impl Failed {
    fn new(kind: FailureKind, message: String) -> Self {
        Self {
            failure: Failure::new(kind),
            message,
            told: Told::NoAnswer,
        }
    }

    pub(crate) fn malformed(message: String) -> Self {
        Self::new(FailureKind::Malformed, message)
    }

    pub(crate) fn cut(message: String) -> Self {
        Self::new(FailureKind::Cut, message)
    }

    fn no_url(error: &http::uri::InvalidUri) -> Self {
        Self::new(
            FailureKind::InvalidRequest,
            format!("make the request's URL: {error}"),
        )
    }

    fn refused(refusal: &weir_dialects::Refusal) -> Self {
        Self {
            told: Told::Said(Box::new(refusal.into())),
            ..Self::new(FailureKind::InvalidRequest, refusal.to_string())
        }
    }

    /// For an error that a provider reported where an answer had begun.
    pub(crate) fn said(deployment: &Deployment, mut said: UpstreamErrorFacts) -> Self {
        deployment.redact(&mut said);
        let told = Told::Said(Box::new(said.to_api_error(&deployment.provider.name)));
        Self::from_upstream(said, told)
    }

    fn from_upstream(said: UpstreamErrorFacts, told: Told) -> Self {
        let kind = match said.kind {
            UpstreamErrorKind::RateLimited | UpstreamErrorKind::QuotaExhausted => {
                FailureKind::RateLimited
            }
            UpstreamErrorKind::Overloaded => FailureKind::Overloaded,
            UpstreamErrorKind::ServerError | UpstreamErrorKind::Timeout => FailureKind::ServerError,
            UpstreamErrorKind::Auth => FailureKind::Auth,
            UpstreamErrorKind::ModelNotFound => FailureKind::ModelNotFound,
            UpstreamErrorKind::ContextWindow => FailureKind::ContextWindow,
            UpstreamErrorKind::ContentFilter => FailureKind::ContentFilter,
            UpstreamErrorKind::InvalidRequest => FailureKind::InvalidRequest,
        };
        let retry_after_us = said.retry_after.map(clock::micros);
        let failure = Failure {
            retry_after_us,
            ..Failure::new(kind)
        };
        Self {
            failure,
            message: said.message,
            told,
        }
    }
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Self {
        let kind = match error {
            CallError::Resolve { .. } | CallError::Connect { .. } | CallError::Tls { .. } => {
                FailureKind::Connect
            }
            CallError::ConnectTimeout { .. } => FailureKind::ConnectTimeout,
            CallError::FirstByteTimeout { .. } => FailureKind::FirstTokenTimeout,
            CallError::IdleTimeout { .. } => FailureKind::Stalled,
            CallError::TotalTimeout { .. } => FailureKind::TotalTimeout,
            CallError::Broken(_) | CallError::Closed => FailureKind::Cut,
        };
        Self::new(kind, error.to_string())
    }
}
