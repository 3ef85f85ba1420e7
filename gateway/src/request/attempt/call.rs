//! One call at one provider, up to the point from which its answer can be relayed.
//!
//! A stream is held back until its first token is here, so that one that stalls or breaks before it
//! can be replaced. A plain answer is held back until it is whole, up to [`HELD_BYTES_MAX`]: nobody
//! can use half of one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Request, Uri};
use http_body_util::Full;
use weir_dialects::{ResponseMachine, StreamError, Target, UpstreamRequest};
use weir_limits::ProviderPermit;
use weir_routing::InFlight;

use super::failed::{Failed, refused};
use super::{Asked, Begun, provider_limits};
use crate::record::attempt::{AttemptRecord, ResponseHead};
use crate::request::worker::Worker;
use crate::setup::directory::Deployment;
use crate::upstream::{Answer, Call, CallError};
use weir_governance::clock;

/// How providers call the id that they give a request.
const UPSTREAM_REQUEST_ID: [&str; 4] = [
    "x-request-id",
    "request-id",
    "apim-request-id",
    "x-goog-request-id",
];
/// Where the Gemini API names the service tier of an answer, whose body is silent about it
/// (ai.google.dev/gemini-api/docs/priority-inference).
const GEMINI_SERVICE_TIER: &str = "x-gemini-service-tier";
const OUR_USER_AGENT: &str = concat!("weir/", env!("CARGO_PKG_VERSION"));
/// Lists the fields of the request that were not passed on.
pub(crate) const DROPPED: HeaderName = HeaderName::from_static("x-weir-dropped");
/// Clients refuse headers that are longer than some kilobytes.
const DROPPED_CHARS_MAX: usize = 2_000;
/// Bytes of an answer that are held back at most before it is relayed as it comes.
const HELD_BYTES_MAX: usize = 256 * 1024;

/// An answer that can be relayed.
pub(super) struct Answering {
    pub(super) answer: Answer,
    pub(super) machine: ResponseMachine,
    pub(super) first: Bytes,
    pub(super) ended: bool,
    pub(super) is_stream: bool,
}

impl Answering {
    pub(super) fn into_begun(
        self,
        deployment: Arc<Deployment>,
        in_flight: Option<InFlight>,
        deadline: Instant,
    ) -> Begun {
        Begun {
            status: self.answer.head.status,
            headers: self.answer.head.headers,
            machine: self.machine,
            first: self.first,
            ended: self.ended,
            is_stream: self.is_stream,
            body: self.answer.body,
            in_flight,
            deployment,
            deadline,
        }
    }
}

/// Makes one call. What happens on the way is noted, a failure too.
pub(super) async fn ask(
    worker: &Worker,
    asked: &Asked<'_>,
    deployment: &Deployment,
    permit: &ProviderPermit,
    record: &mut AttemptRecord,
) -> Result<Answering, Failed> {
    let ready = prepare(asked, deployment);
    let deadline = asked.deadline(deployment);
    send(worker, (deployment, permit), ready, deadline, record).await
}

/// A request as a provider takes it.
pub(super) struct Ready {
    dropped: String,
    request: Request<Full<Bytes>>,
    request_bytes: u64,
    agreed: weir_dialects::ResponseContext,
    request_id: Box<str>,
}

/// Puts a request into the form that a deployment takes.
pub(super) fn prepare(asked: &Asked<'_>, deployment: &Deployment) -> Result<Ready, Failed> {
    let provider = &deployment.provider;
    let target = Target {
        unsupported: provider.unsupported,
        api_version: provider.api_version.as_deref(),
        ..Target::new(provider.vendor, &deployment.model)
    };
    let prepared = weir_dialects::prepare(&asked.request, &target)
        .map_err(|refusal| Failed::refused(&refusal))?;
    let agreed = prepared.context.clone();
    let dropped = prepared.dropped.join(", ");
    let (request, request_bytes) = http_request(deployment, prepared)?;
    Ok(Ready {
        dropped,
        request,
        request_bytes,
        agreed,
        request_id: asked.request.request_id.into(),
    })
}

/// Sends what is ready, and waits until its answer can be relayed.
pub(super) async fn send(
    worker: &Worker,
    (deployment, permit): (&Deployment, &ProviderPermit),
    ready: Result<Ready, Failed>,
    deadline: Instant,
    record: &mut AttemptRecord,
) -> Result<Answering, Failed> {
    let answered = match ready {
        Ok(ready) => answer(worker, (deployment, permit), ready, deadline, record).await,
        Err(failed) => Err(failed),
    };
    if let Err(failed) = &answered {
        record.retry_after(failed.failure.retry_after_us);
        record.failed(failed.failure.kind, &failed.message);
    }
    answered
}

async fn answer(
    worker: &Worker,
    (deployment, permit): (&Deployment, &ProviderPermit),
    ready: Ready,
    deadline: Instant,
    record: &mut AttemptRecord,
) -> Result<Answering, Failed> {
    record.sent(ready.request_bytes);
    let timeouts = deployment.provider.timeouts;
    let clock = Clock {
        deadline,
        total_ms: timeouts.total_ms,
        first_byte_by: clock::now()
            + Duration::from_millis(timeouts.connect_ms)
            + Duration::from_millis(timeouts.first_byte_ms),
        first_byte_ms: timeouts.first_byte_ms,
    };
    let call = Call {
        endpoint: &deployment.provider.endpoint,
        request: ready.request,
        connect_timeout_ms: timeouts.connect_ms,
    };
    let mut answer = clock.first_byte(worker.pool.call(call)).await??;
    record.head_arrived(head_of(&answer));
    provider_limits::learn(deployment, permit, &answer.head.headers);
    say_dropped(&mut answer.head.headers, &ready.dropped);
    if !answer.head.status.is_success() {
        let failed = refused(deployment, &ready.agreed, &ready.request_id, answer).await;
        provider_limits::keep_away(deployment, &failed);
        return Err(failed);
    }
    hold(deployment, answer, &ready.agreed, &clock, record).await
}

/// Tells the client what was left out of its request. Only the gateway says this.
fn say_dropped(headers: &mut HeaderMap, dropped: &str) {
    headers.remove(DROPPED);
    if dropped.is_empty() {
        return;
    }
    // The names are the client's own: whatever no header may hold is replaced.
    let printable = |c: char| {
        if c.is_ascii_graphic() || c == ' ' {
            c
        } else {
            '?'
        }
    };
    let listed: String = dropped
        .chars()
        .take(DROPPED_CHARS_MAX)
        .map(printable)
        .collect();
    if let Ok(listed) = HeaderValue::try_from(listed) {
        headers.insert(DROPPED, listed);
    }
}

/// Reads on until the answer can be relayed.
async fn hold(
    deployment: &Deployment,
    mut answer: Answer,
    agreed: &weir_dialects::ResponseContext,
    clock: &Clock,
    record: &mut AttemptRecord,
) -> Result<Answering, Failed> {
    let is_stream = is_event_stream(&answer.head.headers);
    let mut machine = ResponseMachine::new(agreed, is_stream);
    let mut held = Held::default();
    let ended = Reading {
        machine: &mut machine,
        held: &mut held,
        record,
        has_bytes: false,
        is_begun: false,
    }
    .until_begun(deployment, &mut answer, is_stream, clock)
    .await?;
    Ok(Answering {
        answer,
        machine,
        first: held.into_bytes(),
        ended,
        is_stream,
    })
}

/// An answer that cannot be relayed yet. If it never can, because it breaks or because nobody waits
/// for it any more, what it has said so far is metered: that was consumed all the same.
struct Reading<'a> {
    machine: &'a mut ResponseMachine,
    held: &'a mut Held,
    record: &'a mut AttemptRecord,
    has_bytes: bool,
    is_begun: bool,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if !self.is_begun {
            self.record.metered(self.machine.facts());
        }
    }
}

impl Reading<'_> {
    /// Returns whether that was all of it.
    async fn until_begun(
        mut self,
        deployment: &Deployment,
        answer: &mut Answer,
        is_stream: bool,
        clock: &Clock,
    ) -> Result<bool, Failed> {
        let idle_ms = deployment.provider.timeouts.idle_ms;
        loop {
            let next = std::future::poll_fn(|cx| answer.body.poll_data(cx));
            // A stream owes its first token; what else has begun must only not stop.
            let piece = if is_stream || !self.has_bytes {
                clock.first_byte(next).await?
            } else {
                clock.idle(idle_ms, next).await?
            }
            .transpose()?;
            let ended = piece.is_none() || answer.body.is_end();
            self.take(piece, ended)
                .map_err(|error| Failed::of_stream(deployment, error))?;
            let facts = self.machine.facts();
            if let Some(error) = &facts.provider_error {
                return Err(Failed::said(deployment, error.clone()));
            }
            let has_token = is_stream && (facts.first_token_seen || facts.terminal_seen);
            if ended || has_token || self.held.len() >= HELD_BYTES_MAX {
                self.is_begun = true;
                return Ok(ended);
            }
        }
    }

    fn take(&mut self, piece: Option<Bytes>, ended: bool) -> Result<(), StreamError> {
        if let Some(piece) = piece {
            self.has_bytes |= !piece.is_empty();
            self.record.bytes_arrived(piece.len());
            self.held.add(self.machine.push(piece)?);
        }
        if ended {
            self.held.add(self.machine.finish()?);
        }
        Ok(())
    }
}

/// What was read and not relayed yet. A single piece is kept as it is.
#[derive(Default)]
struct Held {
    first: Bytes,
    rest: BytesMut,
}

impl Held {
    fn add(&mut self, piece: Bytes) {
        if self.first.is_empty() {
            self.first = piece;
        } else {
            self.rest.extend_from_slice(&piece);
        }
    }

    fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() {
            return self.first;
        }
        [&self.first[..], &self.rest[..]].concat().into()
    }
}

/// How long the phases of one call may take.
struct Clock {
    deadline: Instant,
    total_ms: u64,
    first_byte_by: Instant,
    first_byte_ms: u64,
}

impl Clock {
    async fn first_byte<T>(&self, waiting: impl Future<Output = T>) -> Result<T, CallError> {
        let late = CallError::FirstByteTimeout {
            timeout_ms: self.first_byte_ms,
        };
        self.until(self.first_byte_by, late, waiting).await
    }

    async fn idle<T>(
        &self,
        idle_ms: u64,
        waiting: impl Future<Output = T>,
    ) -> Result<T, CallError> {
        let late = CallError::IdleTimeout {
            timeout_ms: idle_ms,
        };
        let by = clock::now() + Duration::from_millis(idle_ms);
        self.until(by, late, waiting).await
    }

    async fn until<T>(
        &self,
        by: Instant,
        late: CallError,
        waiting: impl Future<Output = T>,
    ) -> Result<T, CallError> {
        let timeout = tokio::time::timeout_at(by.min(self.deadline).into(), waiting);
        match timeout.await {
            Ok(done) => Ok(done),
            Err(_) if self.deadline <= by => Err(CallError::TotalTimeout {
                timeout_ms: self.total_ms,
            }),
            Err(_) => Err(late),
        }
    }
}

/// Puts the provider's address and key to what the dialect made. Returns the size of its body too.
fn http_request(
    deployment: &Deployment,
    prepared: UpstreamRequest,
) -> Result<(Request<Full<Bytes>>, u64), Failed> {
    let provider = &deployment.provider;
    let body = prepared.body.to_bytes();
    let request_bytes = body.len() as u64;
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = prepared.method;
    *request.uri_mut() = format!("{}{}", provider.base_path, prepared.path)
        .parse::<Uri>()
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
    Ok((request, request_bytes))
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.trim_start().starts_with("text/event-stream"))
}

fn head_of(answer: &Answer) -> ResponseHead {
    let headers = &answer.head.headers;
    let text = |name: &str| headers.get(name)?.to_str().ok();
    ResponseHead {
        status: answer.head.status.as_u16(),
        connect_us: answer.connect_us,
        upstream_request_id: UPSTREAM_REQUEST_ID
            .iter()
            .find_map(|name| text(name))
            .map(str::to_owned),
        service_tier: text(GEMINI_SERVICE_TIER).map(str::to_ascii_lowercase),
    }
}
