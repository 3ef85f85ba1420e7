//! The answer's way to the client: piece by piece as it comes, metered on the way, its events
//! written before its last byte is handed over.
//!
//! Nothing is read from the provider before the client has taken what was read before, so a slow
//! client holds one piece and no more.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use http_body::{Body, Frame, SizeHint};
use weir_dialects::{ApiError, ApiErrorKind, ClientApi};
use weir_eventlog::{AppendError, NotDurable};
use weir_routing::Failure;

use crate::record::attempt::AttemptEnd;
use crate::record::deployment_events::TrackedAttempt;
use crate::request::answer_reader::{AnswerReader, AnswerStep};
use crate::request::attempt::{
    CommittedResponse, DROPPED, FailedAttempt, is_event_stream, is_media_type,
};
use crate::request::drain::{self, Drain};
use crate::request::exchange::Exchange;
use crate::request::refusal::{REQUEST_ID, Refusal, STOPPED, request_id_value};

const OVER_BUDGET: &str =
    "the answer is longer than the limit that was set for it, and a budget has no room for more";
/// Longer tokens are rare: runs of blanks.
const TOKEN_BYTES_LONG: u64 = 16;
/// Which deployment answered.
const DEPLOYMENT: HeaderName = HeaderName::from_static("x-weir-deployment");

/// Body of every response.
pub(crate) enum ResponseBody {
    Whole(Option<Bytes>),
    Streaming(StreamingBody),
}

/// An answer that is relayed to its client.
pub(crate) struct StreamingBody(Option<Box<Relay>>);

impl Drop for StreamingBody {
    /// Before the answer is complete, this means that the client has disconnected.
    fn drop(&mut self) {
        if let Some(relay) = self.0.take_if(|relay| !relay.exchange.is_finished()) {
            let worker = relay.exchange.worker.clone();
            drain::read_on(&worker, relay.drain());
        }
    }
}

impl Drain for ResponseBody {
    async fn drain(self) {
        if let Self::Streaming(mut body) = self
            && let Some(relay) = body.0.take()
        {
            relay.drain().await;
        }
    }
}

impl From<Bytes> for ResponseBody {
    fn from(body: Bytes) -> Self {
        Self::Whole((!body.is_empty()).then_some(body))
    }
}

/// Why a response ends early, cut off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CutOff {
    #[error("write the events: {0}")]
    Append(#[from] AppendError),
    #[error("write the events: {0}")]
    Durable(#[from] NotDurable),
    #[error("the provider's answer broke off")]
    Provider,
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        match self.get_mut() {
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Streaming(StreamingBody(None)) => Poll::Ready(None),
            Self::Streaming(StreamingBody(Some(relay))) => relay
                .poll(cx)
                .map(|polled| polled.map(|r| r.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_none(),
            Self::Streaming(StreamingBody(relay)) => relay
                .as_ref()
                .is_none_or(|relay| relay.state == RelayState::Over),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => {
                SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64))
            }
            Self::Streaming(_) => SizeHint::default(),
        }
    }
}

/// Answers with a refusal, once its events are written.
pub(crate) async fn refuse(
    mut exchange: Exchange,
    api: ClientApi,
    refusal: Refusal,
) -> Response<ResponseBody> {
    let record = &mut exchange.record;
    record.refused(
        refusal.status(api.family()),
        refusal.failure(),
        refusal.rule(),
    );
    let request_id = exchange.context.id;
    let is_only_counted = refusal.is_only_counted();
    let response = refusal.response(api.family(), request_id);
    if is_only_counted {
        exchange.end_without_events();
        return response.map(ResponseBody::from);
    }
    if let Some(payload) = &mut exchange.payload {
        payload.answer_begins(false);
        payload.answered(response.body());
    }
    let recorded = match exchange.finish() {
        Ok(appended) => appended.durable().await.map_err(Refusal::not_recorded),
        Err(error) => Err(Refusal::not_recorded(error)),
    };
    let response = match recorded {
        Ok(()) => response,
        Err(refusal) => refusal.response(api.family(), request_id),
    };
    response.map(ResponseBody::from)
}

/// Begins to relay an answer.
pub(crate) fn respond(
    mut exchange: Exchange,
    committed: CommittedResponse,
) -> Response<ResponseBody> {
    let has_client_left = exchange.has_client_left();
    let answer = &committed.response;
    let status = answer.status;
    exchange.record.committed(status, has_client_left);
    let keeps_length = answer.reader.keeps_length();
    let writes_stream = answer.reader.writes_stream();
    let mut headers = passed_on(&answer.headers, keeps_length);
    set_content_type(&mut headers, writes_stream);
    // The limits of the client's key take precedence over those of the provider's key.
    headers.extend(std::mem::take(&mut exchange.limit_headers));
    if !keeps_length {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    headers.insert(REQUEST_ID, request_id_value(exchange.context.id));
    headers.insert(DEPLOYMENT, committed.attempt.deployment.header.clone());
    if let Some(payload) = &mut exchange.payload {
        if has_client_left {
            payload.client_left();
        }
        payload.answer_begins(writes_stream);
    }
    let relay = Box::new(Relay::new(exchange, committed));
    let mut response = Response::new(ResponseBody::Streaming(StreamingBody(Some(relay))));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
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

/// The content type of what the client gets, where the provider's is another: it was translated, or its
/// form is not what the provider says.
fn set_content_type(headers: &mut HeaderMap, is_stream: bool) {
    let (is_right, right) = if is_stream {
        let is_right = is_event_stream(headers);
        (is_right, "text/event-stream; charset=utf-8")
    } else {
        let is_json = |kind: &str| kind == "application/json" || kind.ends_with("+json");
        (is_media_type(headers, is_json), "application/json")
    };
    if !is_right {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(right));
    }
}

// State      Event                         Next       For the client              Events
// Begun      the client polls              Relaying   the beginning               -
// Relaying   a piece                       Relaying   its bytes                   -
// Relaying   a piece with the answer's end Recorded   its bytes, once durable     written
// Relaying   an error that it reports      Over       its bytes, once durable     written
// Relaying   more than was reserved        Over       error event                 written
// Relaying   the body's end                Over       the rest, once durable      written
// Relaying   a break, a timeout            Over       error event, or a cut body  written
// Begun, R.  the gateway's end             Over       error event, or a cut body  written
// Recorded   a piece                       Recorded   its bytes                   (written)
// Recorded   the body's end                Over       the rest                    (written)
// Recorded   a break, a timeout            Over       nothing                     (written)
// any        events cannot be written      Over       a cut body                  lost, and logged
//
// The beginning passes through the rows of a piece or of the body's end before the client gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RelayState {
    /// The first piece is ready, and the client has not asked for it yet.
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
    attempt: TrackedAttempt,
    reader: AnswerReader,
    /// Whether the provider streams it: only then is its first token earlier than its last.
    is_stream: bool,
    has_first_token: bool,
    /// What goes to the client next.
    ready: Option<Bytes>,
    /// Holds `ready` back until the events are as durable as configured.
    durable: Option<Durable>,
    /// What the client had got when it left, if it did.
    delivered_bytes: Option<u64>,
    state: RelayState,
}

impl Relay {
    fn new(exchange: Exchange, committed: CommittedResponse) -> Self {
        let answer = committed.response;
        let is_stream = answer.reader.reads_stream();
        let mut relay = Self {
            delivered_bytes: exchange.has_client_left().then_some(0),
            exchange,
            attempt: committed.attempt,
            reader: answer.reader,
            is_stream,
            has_first_token: false,
            ready: None,
            durable: None,
            state: RelayState::Begun,
        };
        relay.offer(answer.first);
        relay.note_first_token();
        relay
    }

    /// Reads the answer to its end for a client that has left.
    async fn drain(mut self: Box<Self>) {
        self.client_left();
        while let Some(Ok(_)) = poll_fn(|cx| self.poll(cx)).await {}
    }

    fn client_left(&mut self) {
        if let Some(payload) = &mut self.exchange.payload {
            payload.client_left();
        }
        let output_bytes = self.reader.facts().output_bytes;
        self.delivered_bytes.get_or_insert(output_bytes);
        self.exchange.record.client_left();
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CutOff>>> {
        loop {
            if let Some(durable) = &mut self.durable {
                let durable = ready!(durable.as_mut().poll(cx));
                self.durable = None;
                if let Err(error) = durable {
                    return self.cut_off(error.into());
                }
            }
            let may_be_last = self.reader.is_at_end() && self.state != RelayState::Over;
            if self.state != RelayState::Begun
                && !may_be_last
                && let Some(bytes) = self.ready.take()
            {
                return Poll::Ready(Some(Ok(bytes)));
            }
            if self.state == RelayState::Over {
                return Poll::Ready(None);
            }
            let is_unfinished = matches!(self.state, RelayState::Begun | RelayState::Relaying);
            if is_unfinished && self.exchange.worker.drain_end.is_reached() {
                if let Err(error) = self.shut_down() {
                    return self.cut_off(error);
                }
                continue;
            }
            if let Err(error) = ready!(self.step(cx)) {
                return self.cut_off(error);
            }
        }
    }

    /// Moves the answer on by one piece.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CutOff>> {
        if self.state == RelayState::Begun {
            self.state = RelayState::Relaying;
            return Poll::Ready(self.advance());
        }
        let step = ready!(self.reader.poll_next(cx));
        if let Some(attempt) = self.exchange.record.current() {
            attempt.received(self.reader.bytes_read());
        }
        match step {
            Ok(AnswerStep::Piece(bytes)) => {
                self.offer_redacted(bytes);
                self.note_first_token();
            }
            Ok(AnswerStep::End(bytes)) => self.offer_redacted(bytes),
            Err(error) => return Poll::Ready(self.break_off(&FailedAttempt::of_relayed(error))),
        }
        Poll::Ready(self.advance())
    }

    /// Writes the events as soon as the end of the answer is among what is ready.
    fn advance(&mut self) -> Result<(), CutOff> {
        if self.reader.is_at_end() {
            return Ok(());
        }
        let (facts, is_over) = (self.reader.facts(), self.reader.is_finished());
        if self.state == RelayState::Relaying {
            if let Some(reported) = facts.provider_error.clone() {
                self.state = RelayState::Over;
                let failed = FailedAttempt::reported(&self.attempt.deployment, reported);
                return self.fail(&failed);
            }
            if is_over || facts.terminal_seen {
                self.state = RelayState::Recorded;
                self.succeed()?;
            } else if self.passes_bound() {
                return self.stop();
            }
        }
        if is_over {
            self.state = RelayState::Over;
        }
        Ok(())
    }

    /// Whether a stream has passed what was reserved for it: its provider does not keep to its limit. No
    /// more is taken for certain than that a chunk is a token, and a token no longer than most.
    fn passes_bound(&self) -> bool {
        let Some(max) = self.exchange.output_tokens_max.filter(|_| self.is_stream) else {
            return false;
        };
        let facts = self.reader.facts();
        let reported = facts.usage.and_then(|usage| usage.output_tokens);
        let by_text = facts.text_chunks.max(facts.text_bytes / TOKEN_BYTES_LONG);
        let slack = max / 16 + 16;
        by_text > max.saturating_add(slack) || reported.is_some_and(|tokens| tokens > max)
    }

    /// Ends a stream that its budgets have no more room for, and the call with it.
    fn stop(&mut self) -> Result<(), CutOff> {
        self.state = RelayState::Over;
        let error = ApiError::new(ApiErrorKind::BudgetExceeded, OVER_BUDGET);
        let event = self.reader.fail(&error);
        self.offer(event);
        self.attempt.lose(&self.exchange.worker.stream);
        self.exchange.record.stopped(OVER_BUDGET);
        self.record()
    }

    /// The answer broke off. A stream ends with an error in its own dialect; a plain body can only be
    /// cut, so that the client sees that it is not complete.
    fn break_off(&mut self, failed: &FailedAttempt) -> Result<(), CutOff> {
        let was_relaying = self.state == RelayState::Relaying;
        self.state = RelayState::Over;
        if !was_relaying {
            return Ok(());
        }
        let error = self.reader.fail(&failed.api_error());
        let is_stream = !error.is_empty();
        self.offer(error);
        self.fail(failed)?;
        if is_stream {
            Ok(())
        } else {
            Err(CutOff::Provider)
        }
    }

    /// The time to finish is over: the answer ends as one that broke off.
    fn shut_down(&mut self) -> Result<(), CutOff> {
        self.state = RelayState::Over;
        let error = ApiError::new(ApiErrorKind::Overloaded, STOPPED);
        let error = self.reader.fail(&error);
        let is_stream = !error.is_empty();
        self.offer(error);
        self.exchange.record.abandon(AttemptEnd::Shutdown);
        self.record()?;
        if is_stream {
            Ok(())
        } else {
            Err(CutOff::Provider)
        }
    }

    fn cut_off(&mut self, error: CutOff) -> Poll<Option<Result<Bytes, CutOff>>> {
        self.state = RelayState::Over;
        self.ready = None;
        if !matches!(error, CutOff::Provider) {
            let request_id = self.exchange.context.id;
            tracing::error!(%error, %request_id, "failed to record an answer, which is cut off");
        }
        Poll::Ready(Some(Err(error)))
    }

    /// What a provider reports of an error may repeat the key that it was called with.
    fn offer_redacted(&mut self, output: Bytes) {
        let output = if self.reader.facts().provider_error.is_some() {
            self.attempt.deployment.redact_bytes(output)
        } else {
            output
        };
        self.offer(output);
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
        if self.has_first_token || !self.reader.facts().first_token_seen {
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
        if self.is_stream {
            self.attempt.first_token(&self.exchange.worker.stream);
        }
    }

    fn succeed(&mut self) -> Result<(), CutOff> {
        let usage = self.reader.facts().usage;
        let output_tokens = usage.and_then(|usage| usage.output_tokens);
        let stream = &self.exchange.worker.stream;
        self.attempt.succeed(stream, output_tokens);
        if let Some(attempt) = self.exchange.record.current() {
            attempt.succeeded();
        }
        self.record()
    }

    fn fail(&mut self, failed: &FailedAttempt) -> Result<(), CutOff> {
        let failure = Failure {
            relayed: true,
            ..failed.failure
        };
        let Exchange { worker, record, .. } = &mut self.exchange;
        self.attempt.fail(&worker.stream, &failure);
        record.broke_off(failure.kind, &failed.message);
        self.record()
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

    /// Takes over what the answer reports about itself.
    fn meter(&mut self) {
        let record = &mut self.exchange.record;
        record.metered(self.reader.facts(), self.delivered_bytes);
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
