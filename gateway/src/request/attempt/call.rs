//! One call at one provider, up to the point from which its answer can be relayed.
//!
//! A stream is held back until its first token is here, so that one that stalls or breaks before it
//! can be replaced. A plain answer is held back until it is whole, up to [`HELD_ANSWER_BYTES_MAX`]: half
//! of one is of no use.

use std::time::Instant;

use bytes::Bytes;
use http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
    USER_AGENT,
};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use weir_dialects::{ResponseMachine, StreamError, Target, UpstreamRequest};
use weir_schemas::UsageSource;

use super::context::{Callee, RoutedRequest};
use super::failed::{FailedAttempt, refused};
use super::provider_limits;
use crate::caps::{DROPPED_CHARS_MAX, HELD_ANSWER_BYTES_MAX};
use crate::record::attempt::{AttemptRecord, ResponseHead};
use crate::request::answer_reader::{AnswerClock, AnswerError, AnswerReader, AnswerStep};
use crate::request::pieces::HeldPieces;
use crate::request::worker::Worker;
use crate::setup::directory::{Deployment, Provider};
use crate::upstream::{ContentDecoder, UpstreamAnswer};

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

/// An answer that has begun and can be relayed.
pub(crate) struct PendingResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) reader: AnswerReader,
    /// What there is for the client already.
    pub(crate) first: Bytes,
}

/// A request as a provider takes it.
pub(super) struct PreparedCall {
    dropped: String,
    request: Request<Full<Bytes>>,
    request_bytes: u64,
    agreed: weir_dialects::ResponseContext,
    request_id: Box<str>,
    deadline: Instant,
}

/// Puts a request into the form that a deployment takes.
pub(super) fn prepare(
    request: &RoutedRequest<'_>,
    deployment: &Deployment,
) -> Result<PreparedCall, FailedAttempt> {
    let provider = &deployment.provider;
    let target = Target {
        vendor: provider.vendor,
        model: &deployment.model,
        generation: &deployment.generation,
        unsupported: provider.unsupported,
        api_version: provider.api_version.as_deref(),
    };
    let mut prepared = weir_dialects::prepare(&request.request, &target)
        .map_err(|refusal| FailedAttempt::unsupported(&refusal))?;
    let dropped = std::mem::take(&mut prepared.dropped).join(", ");
    let agreed = prepared.context.clone();
    let (http_request, request_bytes) = http_request(deployment, prepared)?;
    Ok(PreparedCall {
        dropped,
        request: http_request,
        request_bytes,
        agreed,
        request_id: request.request.request_id.into(),
        deadline: request.deadline(deployment),
    })
}

/// Sends a prepared call, records it, its failure too, and waits until its answer can be relayed.
pub(super) async fn send(
    worker: &Worker,
    callee: Callee<'_>,
    prepared: Result<PreparedCall, FailedAttempt>,
    record: &mut AttemptRecord,
) -> Result<PendingResponse, FailedAttempt> {
    let answered = match prepared {
        Ok(call) => answer(worker, callee, call, record).await,
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
    callee: Callee<'_>,
    prepared: PreparedCall,
    record: &mut AttemptRecord,
) -> Result<PendingResponse, FailedAttempt> {
    record.sent(prepared.request_bytes);
    let deployment = callee.deployment;
    let timeouts = deployment.provider.timeouts;
    let mut clock = AnswerClock::start(timeouts, prepared.deadline);
    let mut answer = ask(worker, deployment, prepared.request, &mut clock).await?;
    provider_limits::learn(callee, &answer.head.headers);
    deployment.redact_headers(&mut answer.head.headers);
    record.head_arrived(head_of(&answer));
    list_dropped(&mut answer.head.headers, &prepared.dropped);
    let decoder = ContentDecoder::of(&mut answer.head.headers);
    if !answer.head.status.is_success() {
        let decoder = decoder.ok().flatten();
        let failed = refused(
            deployment,
            &prepared.agreed,
            &prepared.request_id,
            answer,
            decoder,
        )
        .await;
        provider_limits::keep_away(deployment, &failed);
        return Err(failed);
    }
    let malformed = |error| FailedAttempt::of_answer(deployment, AnswerError::Piece(error));
    let decoder = decoder.map_err(|unknown| malformed(unknown.into()))?;
    check_framing(&answer.head.headers).map_err(malformed)?;
    let machine = ResponseMachine::new(&prepared.agreed, is_event_stream(&answer.head.headers));
    let mut reader = AnswerReader::new(answer.body, decoder, machine, clock);
    let beginning = Beginning {
        reader: &mut reader,
        record,
        is_committed: false,
    };
    let first = beginning.read(deployment).await?;
    Ok(PendingResponse {
        status: answer.head.status,
        headers: answer.head.headers,
        reader,
        first,
    })
}

/// Sends a request, on an idle connection or on a new one, and waits for the head of its answer.
async fn ask(
    worker: &Worker,
    deployment: &Deployment,
    mut request: Request<Full<Bytes>>,
    clock: &mut AnswerClock,
) -> Result<UpstreamAnswer, FailedAttempt> {
    let Provider {
        endpoint, timeouts, ..
    } = &*deployment.provider;
    loop {
        let connection = worker.pool.connection(endpoint, timeouts.connect_ms);
        let connection = clock.limit(connection).await??;
        clock.sent();
        match clock.limit(connection.send(request)).await? {
            Ok(answer) => return Ok(answer),
            Err(failed) => request = failed.unsent.ok_or(failed.error)?,
        }
    }
}

/// An answer with a length and chunks has two ends, of which somebody on the way may have meant the other
/// (RFC 9112, section 6.3).
fn check_framing(headers: &HeaderMap) -> Result<(), StreamError> {
    if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        return Err(StreamError::Malformed {
            reason: "it has both Content-Length and Transfer-Encoding".into(),
        });
    }
    Ok(())
}

/// Tells the client what was left out of its request. Only the gateway sets this header.
fn list_dropped(headers: &mut HeaderMap, dropped: &str) {
    headers.remove(DROPPED);
    if dropped.is_empty() {
        return;
    }
    // The names are the client's own: whatever no header may hold is replaced.
    let printable = |c: char| Some(c).filter(|c| matches!(c, ' '..='~')).unwrap_or('?');
    let listed = dropped.chars().take(DROPPED_CHARS_MAX).map(printable);
    let listed: String = listed.collect();
    if let Ok(listed) = HeaderValue::try_from(listed) {
        headers.insert(DROPPED, listed);
    }
}

/// The beginning of an answer, which cannot be relayed yet. If it never can, because it breaks or its
/// client leaves, what was read is metered: it was consumed all the same.
struct Beginning<'a> {
    reader: &'a mut AnswerReader,
    record: &'a mut AttemptRecord,
    is_committed: bool,
}

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        if !self.is_committed {
            let facts = self.reader.facts();
            self.record.metered(facts, UsageSource::Reported);
        }
    }
}

impl Beginning<'_> {
    /// Reads on until the answer can be relayed. Returns what there is for the client by then.
    async fn read(mut self, deployment: &Deployment) -> Result<Bytes, FailedAttempt> {
        let mut held = HeldPieces::default();
        loop {
            let step = self.reader.next().await;
            self.record.received(self.reader.bytes_read());
            // A stream owes its first token; what else has begun must only not stop.
            let has_begun = match self.reader.reads_stream() {
                true => self.reader.facts().first_token_seen,
                false => self.reader.bytes_read() > 0,
            };
            if has_begun {
                self.reader.begun();
            }
            match step {
                Ok(AnswerStep::Piece(bytes) | AnswerStep::End(bytes)) => held.add(bytes),
                Err(error) => return Err(FailedAttempt::of_answer(deployment, error)),
            }
            if self.reader.is_at_end() {
                continue;
            }
            let facts = self.reader.facts();
            if let Some(error) = &facts.provider_error {
                return Err(FailedAttempt::reported(deployment, error.clone()));
            }
            let has_token = self.reader.writes_stream()
                && self.reader.reads_stream()
                && (facts.first_token_seen || facts.terminal_seen);
            if self.reader.is_finished() || has_token || held.len() >= HELD_ANSWER_BYTES_MAX {
                self.is_committed = true;
                self.reader.begun();
                return Ok(held.into_bytes());
            }
        }
    }
}

/// Puts the provider's address and key to what the dialect made. Returns the size of its body too.
fn http_request(
    deployment: &Deployment,
    prepared: UpstreamRequest,
) -> Result<(Request<Full<Bytes>>, u64), FailedAttempt> {
    let provider = &deployment.provider;
    let body = prepared.body.to_bytes();
    let request_bytes = body.len() as u64;
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = format!("{}{}", provider.base_path, prepared.path)
        .parse::<Uri>()
        .map_err(|error| FailedAttempt::no_url(&error))?;
    let mut headers = prepared.headers;
    headers.insert(HOST, provider.authority.clone());
    headers.insert(USER_AGENT, HeaderValue::from_static(OUR_USER_AGENT));
    if let Some((name, value)) = &deployment.auth {
        headers.insert(name.clone(), value.clone());
    }
    *request.headers_mut() = headers;
    Ok((request, request_bytes))
}

/// Whether the content type is that of streams, in any case and with any parameters.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    is_media_type(headers, |kind| kind == "text/event-stream")
}

/// Whether the content type is this, without its parameters.
pub(crate) fn is_media_type(headers: &HeaderMap, is_it: impl Fn(&str) -> bool) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = value.and_then(|value| value.split([';', ',']).next());
    kind.is_some_and(|kind| is_it(&kind.trim().to_ascii_lowercase()))
}

fn head_of(answer: &UpstreamAnswer) -> ResponseHead {
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
