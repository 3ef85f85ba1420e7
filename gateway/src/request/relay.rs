//! The answer's way to the client: piece by piece as it comes, metered on the way, its events
//! written before its last byte is handed over.
//!
//! Nothing is read from the provider before the client has taken what was read before, so a slow
//! client holds one piece and no more.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;
use weir_dialects::{ClientApi, ResponseMachine};
use weir_eventlog::{AppendError, NotDurable};
use weir_routing::{Failure, InFlight};
use weir_schemas::RequestId;

use crate::record::deployment_events::note_transition;
use crate::request::attempt::{Begun, DROPPED, Failed};
use crate::request::drain;
use crate::request::exchange::Exchange;
use crate::request::refusal::Refusal;
use crate::request::worker::Worker;
use crate::setup::directory::Deployment;
use crate::upstream::{AnswerBody, CallError};
use weir_governance::clock::{self, Moment};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Which deployment answered.
const DEPLOYMENT: HeaderName = HeaderName::from_static("x-weir-deployment");

/// Body of every response.
pub(crate) enum Reply {
    Whole(Option<Bytes>),
    Relayed(Listened),
}

/// An answer that a client listens to.
pub(crate) struct Listened(Option<Box<Relay>>);

impl Reply {
    /// The answer, if it is being relayed, without whoever listened.
    pub(crate) fn into_relay(self) -> Option<Box<Relay>> {
        match self {
            Self::Whole(_) => None,
            Self::Relayed(mut listened) => listened.0.take(),
        }
    }
}

impl Drop for Listened {
    /// Before the answer is complete, this is how a client's leaving shows itself.
    fn drop(&mut self) {
        if let Some(relay) = self.0.take_if(|relay| !relay.exchange.is_finished()) {
            drain::client_left(relay);
        }
    }
}

impl From<Bytes> for Reply {
    fn from(body: Bytes) -> Self {
        Self::Whole((!body.is_empty()).then_some(body))
    }
}

/// The response ends here, cut off: its events could not be written, or a plain body broke.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CutOff {
    #[error("write the events: {0}")]
    Append(#[from] AppendError),
    #[error("write the events: {0}")]
    Durable(#[from] NotDurable),
    #[error("the provider's answer broke off")]
    Provider,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        match self.get_mut() {
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Relayed(Listened(None)) => Poll::Ready(None),
            Self::Relayed(Listened(Some(relay))) => relay
                .poll(cx)
                .map(|polled| polled.map(|r| r.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_none(),
            Self::Relayed(Listened(relay)) => relay
                .as_ref()
                .is_none_or(|relay| relay.state == State::Over),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => {
                SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64))
            }
            Self::Relayed(_) => SizeHint::default(),
        }
    }
}

/// Answers with what was refused, once its events are written.
pub(crate) async fn refuse(
    mut exchange: Exchange,
    api: ClientApi,
    refusal: Refusal,
) -> Response<Reply> {
    let record = &mut exchange.record;
    record.refused(refusal.status(), refusal.failure(), refusal.rule());
    let request_id = exchange.context.id;
    let response = refusal.response(api.family(), request_id);
    if let (Some(payload), Reply::Whole(Some(body))) = (&mut exchange.payload, response.body()) {
        payload.answer_begins(false);
        payload.answered(body);
    }
    let recorded = match exchange.finish() {
        Ok(appended) => appended.durable().await.map_err(Refusal::from),
        Err(error) => Err(error.into()),
    };
    match recorded {
        Ok(()) => response,
        Err(refusal) => refusal.response(api.family(), request_id),
    }
}

/// Begins to relay an answer.
pub(crate) fn respond(mut exchange: Exchange, begun: Begun) -> Response<Reply> {
    let has_client_left = exchange.has_client_left();
    if has_client_left {
        exchange.record.committed_without_client();
    } else {
        exchange.record.committed(begun.status);
    }
    let request_id = exchange.context.id;
    let mut headers = passed_on(&begun.headers, begun.machine.keeps_length());
    // What holds for the key says more than what holds for the provider's key.
    headers.extend(std::mem::take(&mut exchange.told));
    if !begun.machine.keeps_length() {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    headers.insert(REQUEST_ID, request_id_value(request_id));
    headers.insert(DEPLOYMENT, begun.deployment.header.clone());
    if let Some(payload) = &mut exchange.payload {
        if has_client_left {
            payload.client_left();
        }
        payload.answer_begins(is_event_stream(&headers));
    }
    let status = begun.status;
    let relay = Relay::new(exchange, begun);
    let mut response = Response::new(Reply::Relayed(Listened(Some(Box::new(relay)))));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

pub(crate) fn request_id_value(request_id: RequestId) -> HeaderValue {
    let mut text = [0; 36];
    let text = request_id.as_uuid().hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Headers of the provider that mean something to the client.
fn passed_on(upstream: &HeaderMap, keeps_length: bool) -> HeaderMap {
    const PREFIXES: [&str; 4] = ["x-ratelimit-", "openai-", "anthropic-", "retry-after"];
    let mut headers = HeaderMap::with_capacity(upstream.len());
    for (name, value) in upstream {
        let wanted = *name == CONTENT_TYPE
            || *name == DROPPED
            || (*name == CONTENT_LENGTH && keeps_length)
            || PREFIXES
                .iter()
                .any(|prefix| name.as_str().starts_with(prefix));
        if wanted {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The first piece is ready, and nobody has asked for it yet.
    Begun,
    /// The provider is still answering.
    Relaying,
    /// The answer is complete and its events are written; the rest is framing.
    Recorded,
    Over,
}

type Durable = Pin<Box<dyn Future<Output = Result<(), NotDurable>> + Send>>;

/// An answer under way.
pub(crate) struct Relay {
    exchange: Exchange,
    deployment: Arc<Deployment>,
    machine: ResponseMachine,
    body: AnswerBody,
    /// Whether the provider's body is over and the machine finished.
    ended: bool,
    /// Whether the provider streams it: only then is its first token earlier than its last.
    is_stream: bool,
    has_first_token: bool,
    in_flight: Option<InFlight>,
    /// What goes to the client next.
    ready: Option<Bytes>,
    /// Holds `ready` back until the events are as durable as configured.
    durable: Option<Durable>,
    /// What the client had got when it left, if it did.
    delivered_bytes: Option<u64>,
    state: State,
    timer: IdleTimer,
}

impl Relay {
    fn new(exchange: Exchange, begun: Begun) -> Self {
        let timeouts = begun.deployment.provider.timeouts;
        let mut relay = Self {
            delivered_bytes: exchange.has_client_left().then_some(0),
            exchange,
            deployment: begun.deployment,
            machine: begun.machine,
            body: begun.body,
            ended: begun.ended,
            is_stream: begun.is_stream,
            has_first_token: false,
            in_flight: begun.in_flight,
            ready: None,
            durable: None,
            state: State::Begun,
            timer: IdleTimer::new(timeouts.idle_ms, timeouts.total_ms, begun.deadline),
        };
        relay.offer(begun.first);
        relay.note_first_token();
        relay
    }

    pub(crate) fn worker(&self) -> &Arc<Worker> {
        &self.exchange.worker
    }

    /// From here on nobody listens.
    pub(crate) fn client_left(&mut self) {
        if let Some(payload) = &mut self.exchange.payload {
            payload.client_left();
        }
        let output_bytes = self.machine.facts().output_bytes;
        self.delivered_bytes.get_or_insert(output_bytes);
        self.exchange.record.client_left();
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CutOff>>> {
        loop {
            if let Some(durable) = &mut self.durable {
                let durable = ready!(durable.as_mut().poll(cx));
                self.durable = None;
                if let Err(error) = durable {
                    return self.cut_off(error.into());
                }
            }
            if self.state != State::Begun
                && let Some(bytes) = self.ready.take()
            {
                return Poll::Ready(Some(Ok(bytes)));
            }
            if let Err(error) = ready!(self.step(cx)) {
                return self.cut_off(error);
            }
            if self.state == State::Over && self.ready.is_none() {
                return Poll::Ready(None);
            }
        }
    }

    /// Moves the answer on by one piece.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CutOff>> {
        if self.state == State::Over {
            return Poll::Ready(Ok(()));
        }
        if self.state == State::Begun {
            self.state = State::Relaying;
            return Poll::Ready(self.advance());
        }
        Poll::Ready(match self.body.poll_data(cx) {
            Poll::Ready(Some(Ok(piece))) => self.take(piece),
            Poll::Ready(Some(Err(error))) => self.break_off(error.into()),
            Poll::Ready(None) => self.end(),
            Poll::Pending => {
                let timeout = ready!(self.timer.poll(cx));
                self.break_off(timeout.into())
            }
        })
    }

    /// What a provider says of an error may repeat the key that it was called with.
    fn offer_redacted(&mut self, output: Bytes) {
        let output = if self.machine.facts().provider_error.is_some() {
            self.deployment.redact_bytes(output)
        } else {
            output
        };
        self.offer(output);
    }

    fn take(&mut self, piece: Bytes) -> Result<(), CutOff> {
        self.timer.piece_arrived();
        if let Some(record) = self.exchange.record.current() {
            record.bytes_arrived(piece.len());
        }
        match self.machine.push(piece) {
            Ok(output) => self.offer_redacted(output),
            Err(error) => return self.break_off(Failed::malformed(error.to_string())),
        }
        self.note_first_token();
        self.advance()
    }

    /// Writes the events as soon as the end of the answer is among what is ready.
    fn advance(&mut self) -> Result<(), CutOff> {
        if self.body.is_end() {
            return self.end();
        }
        let facts = self.machine.facts();
        if self.state == State::Relaying && facts.provider_error.is_some() {
            return self.end_with_provider_error();
        }
        if self.state == State::Relaying && facts.terminal_seen {
            self.state = State::Recorded;
            return self.succeed();
        }
        Ok(())
    }

    /// The provider's body is over.
    fn end(&mut self) -> Result<(), CutOff> {
        if !self.ended {
            self.ended = true;
            match self.machine.finish() {
                Ok(rest) => self.offer_redacted(rest),
                Err(error) => return self.break_off(Failed::cut(error.to_string())),
            }
        }
        if self.state == State::Relaying {
            if self.machine.facts().provider_error.is_some() {
                return self.end_with_provider_error();
            }
            self.succeed()?;
        }
        self.state = State::Over;
        Ok(())
    }

    /// The provider reported an error inside its stream, which the client has in its own dialect.
    fn end_with_provider_error(&mut self) -> Result<(), CutOff> {
        self.state = State::Over;
        if let Some(said) = self.machine.facts().provider_error.clone() {
            self.fail(&Failed::said(&self.deployment, said));
        }
        self.record()
    }

    /// The answer broke off. A stream is told so in its own dialect; a plain body can only be cut,
    /// so that the client sees that it is not complete.
    fn break_off(&mut self, failed: Failed) -> Result<(), CutOff> {
        if self.state != State::Relaying {
            self.state = State::Over;
            return Ok(());
        }
        self.state = State::Over;
        let told = self.machine.fail(&failed.api_error());
        let is_told = !told.is_empty();
        self.offer(told);
        self.fail(&failed);
        self.record()?;
        if is_told {
            Ok(())
        } else {
            Err(CutOff::Provider)
        }
    }

    fn cut_off(&mut self, error: CutOff) -> Poll<Option<Result<Bytes, CutOff>>> {
        self.state = State::Over;
        self.ready = None;
        if !matches!(error, CutOff::Provider) {
            let request_id = self.exchange.context.id;
            tracing::error!(%error, %request_id, "failed to record an answer, which is cut off");
        }
        Poll::Ready(Some(Err(error)))
    }

    fn offer(&mut self, output: Bytes) {
        if let Some(payload) = &mut self.exchange.payload {
            payload.answered(&output);
        }
        self.ready = match self.ready.take() {
            Some(ready) if !output.is_empty() => Some([ready, output].concat().into()),
            None if !output.is_empty() => Some(output),
            ready => ready,
        };
    }

    fn note_first_token(&mut self) {
        if self.has_first_token || !self.machine.facts().first_token_seen {
            return;
        }
        self.has_first_token = true;
        let Exchange {
            record, context, ..
        } = &mut self.exchange;
        if let Some(attempt) = record.current() {
            attempt.first_token_arrived();
        }
        if self.delivered_bytes.is_none() {
            record.first_token_arrived(context);
        }
        if let Some(in_flight) = self.in_flight.as_mut().filter(|_| self.is_stream) {
            let transition = in_flight.first_token(Moment::now().unix_us);
            let worker = &self.exchange.worker;
            note_transition(&worker.stream, &self.deployment, transition);
        }
    }

    fn succeed(&mut self) -> Result<(), CutOff> {
        let usage = self.machine.facts().usage.unwrap_or_default();
        let output_tokens = u32::try_from(usage.output_tokens.unwrap_or(0)).unwrap_or(u32::MAX);
        if let Some(in_flight) = self.in_flight.take() {
            let now_us = Moment::now().unix_us;
            let transition = in_flight.succeed(output_tokens, now_us);
            let worker = &self.exchange.worker;
            note_transition(&worker.stream, &self.deployment, transition);
        }
        if let Some(record) = self.exchange.record.current() {
            record.succeeded();
        }
        self.record()
    }

    fn fail(&mut self, failed: &Failed) {
        let failure = Failure {
            relayed: true,
            ..failed.failure
        };
        if let Some(in_flight) = self.in_flight.take() {
            let now_us = Moment::now().unix_us;
            let transition = in_flight.fail(&failure, now_us);
            let worker = &self.exchange.worker;
            note_transition(&worker.stream, &self.deployment, transition);
        }
        self.exchange
            .record
            .broke_off(failure.kind, &failed.message);
    }

    /// Writes the events. What is ready for the client waits until that is done.
    fn record(&mut self) -> Result<(), CutOff> {
        self.meter();
        let appended = self.exchange.finish()?;
        if !appended.is_durable() {
            self.durable = Some(Box::pin(appended.durable()));
        }
        Ok(())
    }

    /// Takes over what the answer said about itself.
    fn meter(&mut self) {
        let facts = self.machine.facts();
        let record = &mut self.exchange.record;
        match self.delivered_bytes {
            Some(bytes) => record.metered_without_client(facts, bytes),
            None => record.metered(facts),
        }
    }
}

impl Drop for Relay {
    /// The call is given up. The exchange writes the events when it is dropped in turn.
    fn drop(&mut self) {
        if !self.exchange.is_finished() {
            self.meter();
        }
    }
}

/// Ends an answer that rests for too long, or takes too long altogether.
///
/// Moving a timer costs more than passing on a chunk, so it is moved only when it fires.
struct IdleTimer {
    sleep: Pin<Box<Sleep>>,
    /// Since when the provider is waited for; `None` while it is not.
    waiting_since: Option<Instant>,
    idle_ms: u64,
    total_ms: u64,
    deadline: Instant,
}

impl IdleTimer {
    fn new(idle_ms: u64, total_ms: u64, deadline: Instant) -> Self {
        let first_check = (clock::now() + Duration::from_millis(idle_ms)).min(deadline);
        let sleep = Box::pin(tokio::time::sleep_until(first_check.into()));
        Self {
            sleep,
            waiting_since: None,
            idle_ms,
            total_ms,
            deadline,
        }
    }

    fn piece_arrived(&mut self) {
        self.waiting_since = None;
    }

    /// Ready when the wait was too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CallError> {
        let waiting_since = *self.waiting_since.get_or_insert_with(clock::now);
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let now = clock::now();
            let idle_until = waiting_since + Duration::from_millis(self.idle_ms);
            if now >= self.deadline {
                return Poll::Ready(CallError::TotalTimeout {
                    timeout_ms: self.total_ms,
                });
            }
            if now >= idle_until {
                return Poll::Ready(CallError::IdleTimeout {
                    timeout_ms: self.idle_ms,
                });
            }
            self.sleep
                .as_mut()
                .reset(idle_until.min(self.deadline).into());
        }
    }
}
