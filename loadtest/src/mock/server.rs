//! Accepts connections and answers requests.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::fault::{FaultKind, FaultRule, Midway};
use super::ledger::{Call, Tokens};
use super::limits::Headroom;
use super::link::{Link, LinkFaults};
use super::play::{Breaking, MockBody, Part, Stream, StreamParts};
use super::wire::{self, Answer, AnswerHead, Asked, Trouble, Wire};
use super::{Behaviour, MockError, Shared};
use crate::dist::{Delay, rounded};
use crate::{chance, clock};

/// Above OpenAI's own bound; a mock must take whatever a gateway lets through.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Tokens of an answer that neither the request nor the options size.
const OUTPUT_TOKENS_DEFAULT: u32 = 16;

/// The threads of one mock.
#[derive(Debug)]
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

impl Workers {
    /// Closes everything and waits.
    pub(super) fn stop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            // A worker that panicked has already said so on stderr.
            let _ = thread.join();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(super) fn listen(addr: SocketAddr) -> Result<std::net::TcpListener, MockError> {
    let listen = || {
        let listener = std::net::TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|source| MockError::Listen { addr, source })
}

pub(super) fn spawn(
    listener: std::net::TcpListener,
    shared: &Arc<Shared>,
) -> Result<Workers, MockError> {
    let failed = |source| MockError::Thread { source };
    let (stop, stopped) = watch::channel(false);
    let mut workers = Workers {
        threads: Vec::new(),
        stop,
    };
    for index in 0..shared.options.workers {
        let listener = listener.try_clone().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let (shared, stopped) = (Arc::clone(shared), stopped.clone());
        let thread = std::thread::Builder::new()
            .name(format!("mock-{}-{index}", shared.options.name))
            .spawn(move || runtime.block_on(accept(listener, shared, stopped)))
            .map_err(failed)?;
        workers.threads.push(thread);
    }
    Ok(workers)
}

/// Serves connections until told to stop; what is open then is closed.
async fn accept(
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(stream, Arc::clone(&shared)));
                }
                // Out of descriptors, most likely: give connections time to close rather than spin.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
        }
    }
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>) {
    // Without it, Nagle and delayed ACK add 40 ms to every answer that takes two writes.
    let _ = stream.set_nodelay(true);
    let faults = Arc::new(LinkFaults::default());
    let service = hyper::service::service_fn({
        let faults = Arc::clone(&faults);
        move |request| {
            let (shared, faults) = (Arc::clone(&shared), Arc::clone(&faults));
            async move { Ok::<_, Infallible>(serve(request, shared, faults).await) }
        }
    });
    // Errors of a connection are the caller's leaving or an injected fault; both are in the ledger.
    let _ = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(Link::new(stream, faults), service)
        .await;
}

/// One request's way.
async fn serve(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    link: Arc<LinkFaults>,
) -> Response<MockBody> {
    let path = request.uri().path();
    if path.starts_with("/__mock/") {
        return control(request, &shared).await;
    }
    if link.first() {
        shared.books.connected();
    }
    if let Some(wanted) = model_listing(request.method(), path) {
        return list_models(&shared, wanted);
    }
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let (wire, found) = match wire::find(&parts.method, parts.uri.path()) {
        Ok(wire) => (wire, Ok(())),
        Err(trouble) => (wire::DEFAULT, Err(trouble)),
    };
    let (key, authorised) = authenticate(wire, &parts.headers, &shared);
    let read = match found.and(authorised) {
        Ok(()) => read(wire, &parts.headers, body, &shared).await,
        Err(trouble) => Err(trouble),
    };
    let server = Serving {
        shared: &shared,
        wire,
        link,
        key,
        began,
    };
    match read {
        Ok(asked) => server.answer(asked).await,
        Err(trouble) => {
            let call = shared.books.open(Arc::clone(&server.key), "-", false, None);
            server.refuse(call, &trouble, 0)
        }
    }
}

/// `Some(None)` for the list, `Some(Some(id))` for one model.
fn model_listing<'p>(method: &Method, path: &'p str) -> Option<Option<&'p str>> {
    let rest = path
        .strip_prefix("/v1/models")
        .filter(|_| method == Method::GET)?;
    match rest.strip_prefix('/') {
        None if rest.is_empty() => Some(None),
        None => None,
        Some("") => Some(None),
        Some(id) => Some(Some(id)),
    }
}

fn list_models(shared: &Shared, wanted: Option<&str>) -> Response<MockBody> {
    shared.books.listed_models();
    match wire::models(&shared.options.models, &shared.options.name, wanted) {
        Ok(body) => json(StatusCode::OK, body),
        Err(trouble) => {
            let (status, body) = wire::DEFAULT.trouble(&trouble);
            json(
                StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND),
                body,
            )
        }
    }
}

/// The key's label for the ledger, and whether it may call.
fn authenticate(
    wire: &dyn Wire,
    headers: &HeaderMap,
    shared: &Shared,
) -> (Arc<str>, Result<(), Trouble>) {
    let known = &shared.options.keys;
    match wire.key(headers) {
        Some(key) if known.iter().any(|known| known == key) => (key.into(), Ok(())),
        Some(key) if known.is_empty() => (masked(key).into(), Ok(())),
        Some(key) => {
            let shown = masked(key);
            (shown.as_str().into(), Err(Trouble::WrongKey { shown }))
        }
        None if known.is_empty() => ("-".into(), Ok(())),
        None => ("-".into(), Err(Trouble::NoKey)),
    }
}

/// A key that was not configured here may be someone's real one: it is never kept whole.
fn masked(key: &str) -> String {
    let end: String = key
        .chars()
        .rev()
        .take(4)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    if key.chars().count() > 12 {
        format!("****{end}")
    } else {
        "****".to_owned()
    }
}

async fn read(
    wire: &dyn Wire,
    headers: &HeaderMap,
    body: Incoming,
    shared: &Shared,
) -> Result<Asked, Trouble> {
    let body = collect(body).await?;
    let mut asked = wire.read(&body)?;
    asked.overrides.merge_headers(headers);
    let models = &shared.options.models;
    if !models.is_empty() && !models.contains(&asked.model) {
        return Err(Trouble::NoSuchModel { model: asked.model });
    }
    Ok(asked)
}

/// The whole body. Most arrive in one piece, which is then not copied.
async fn collect(mut body: Incoming) -> Result<Bytes, Trouble> {
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    loop {
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await;
        let data = match frame {
            None => break,
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => {
                return Err(Trouble::NotJson {
                    problem: error.to_string(),
                });
            }
        };
        if first.is_empty() {
            first = data;
            continue;
        }
        if more.is_empty() {
            more.extend_from_slice(&first);
        }
        more.extend_from_slice(&data);
        if more.len() > BODY_BYTES_MAX {
            return Err(Trouble::TooLarge {
                bytes_max: BODY_BYTES_MAX,
            });
        }
    }
    Ok(if more.is_empty() {
        first
    } else {
        more.freeze()
    })
}

/// What serving one call needs.
struct Serving<'s> {
    shared: &'s Shared,
    wire: &'static dyn Wire,
    link: Arc<LinkFaults>,
    key: Arc<str>,
    began: Instant,
}

impl Serving<'_> {
    /// Decides what happens to a call that was understood, and begins it.
    async fn answer(self, mut asked: Asked) -> Response<MockBody> {
        let behaviour = self.shared.behaviour.load_full();
        let fault = match decide_fault(&mut asked, &behaviour) {
            Ok(fault) => fault,
            Err(problem) => {
                let call = self.shared.books.open(
                    Arc::clone(&self.key),
                    &asked.model,
                    asked.streamed,
                    None,
                );
                let trouble = Trouble::Invalid {
                    parameter: "x-mock-fault",
                    problem,
                };
                return self.refuse(call, &trouble, 0);
            }
        };
        let fault = fault.as_deref();
        let kind = fault.map(|rule| rule.kind);
        let number = self.shared.books.next_number();
        let call =
            self.shared
                .books
                .open(Arc::clone(&self.key), &asked.model, asked.streamed, kind);
        if kind == Some(FaultKind::Timeout) {
            wait_or_for_ever(fault.and_then(|rule| rule.for_ms)).await;
        }
        if let Some(trouble) = refusal(fault, &asked, self.shared) {
            return self.refuse(call, &trouble, number);
        }
        let mut rng = chance::rng(self.shared.options.seed, number);
        let answer = size(asked, number, self.shared, &mut rng);
        let room = self
            .shared
            .limits
            .take(answer.usage.input + answer.usage.output, self.began);
        if let Some(trouble) = over(&answer, &room, self.shared) {
            return self.refuse_with(call, &trouble, number, room);
        }
        if kind == Some(FaultKind::SlowHeaders) {
            let ms = fault.and_then(|rule| rule.for_ms).unwrap_or(2_000);
            self.link.slow_head(Duration::from_millis(ms));
        }
        pause(behaviour.ttft, &mut rng).await;
        let midway = Midway::of(fault, answer.visible);
        match self.wire.events() {
            Some(events) if answer.asked.streamed => {
                let mut response = self.head(StatusCode::OK, number, room, None);
                let headers = response.headers_mut();
                headers.insert(
                    CONTENT_TYPE,
                    HeaderValue::from_static("text/event-stream; charset=utf-8"),
                );
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                let mut call = call;
                call.began(200);
                response.map(|()| {
                    MockBody::Stream(Box::new(Stream::new(StreamParts {
                        events,
                        answer,
                        call,
                        link: self.link,
                        midway,
                        events_per_chunk: self.shared.options.events_per_chunk,
                        inter_token: behaviour.inter_token,
                        rng,
                    })))
                })
            }
            _ => {
                // A plain answer comes when its last token is there.
                pause_tokens(behaviour.inter_token, answer.visible, &mut rng).await;
                self.whole(call, &answer, midway, room)
            }
        }
    }

    /// A plain answer, whole or up to where a fault strikes.
    fn whole(
        self,
        mut call: Call,
        answer: &Answer,
        midway: Option<Midway>,
        room: Headroom,
    ) -> Response<MockBody> {
        let mut body = Vec::with_capacity(1024);
        self.wire.whole(answer, &mut body);
        let body = Bytes::from(body);
        let response = self.head(StatusCode::OK, answer.number, room, None);
        call.began(200);
        call.served(answer.usage);
        let half = body.len() / 2;
        response.map(|()| match midway {
            None => MockBody::Whole {
                bytes: body,
                done: Some((call, answer.usage)),
            },
            // Half a document, sent as if it were whole.
            Some(midway) if midway.kind == FaultKind::MalformedChunk => MockBody::Whole {
                bytes: body.slice(..half),
                done: Some((call, Tokens::default())),
            },
            Some(midway) => MockBody::Part(Box::new(Part {
                first: body.slice(..half),
                rest: body.slice(half..),
                midway,
                reported: answer.usage,
                call,
                link: self.link,
                breaking: Breaking::Not,
            })),
        })
    }

    fn refuse(self, call: Call, trouble: &Trouble, number: u64) -> Response<MockBody> {
        let room = self.shared.limits.peek(self.began);
        self.refuse_with(call, trouble, number, room)
    }

    fn refuse_with(
        self,
        mut call: Call,
        trouble: &Trouble,
        number: u64,
        room: Headroom,
    ) -> Response<MockBody> {
        let (status, body) = self.wire.trouble(trouble);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after_s = match trouble {
            Trouble::RateLimit { retry_after_s, .. } => Some(*retry_after_s),
            _ => None,
        };
        call.began(status.as_u16());
        self.head(status, number, room, retry_after_s)
            .map(|()| MockBody::Whole {
                bytes: body.into(),
                done: Some((call, Tokens::default())),
            })
    }

    fn head(
        &self,
        status: StatusCode,
        number: u64,
        room: Headroom,
        retry_after_s: Option<u32>,
    ) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = status;
        let head = AnswerHead {
            provider: &self.shared.options.name,
            seed: self.shared.options.seed,
            number,
            processing: self.began.elapsed(),
            room,
            retry_after_s,
        };
        self.wire.headers(&head, response.headers_mut());
        response
    }
}

fn decide_fault(
    asked: &mut Asked,
    behaviour: &Behaviour,
) -> Result<Option<Arc<FaultRule>>, String> {
    let Some(text) = asked.overrides.fault.take() else {
        return Ok(behaviour.faults.decide(&asked.model, asked.streamed));
    };
    let rule = FaultRule::from_override(&text).map_err(|error| error.to_string())?;
    Ok((rule.kind != FaultKind::None).then(|| Arc::new(rule)))
}

/// The error answer that a fault, or the size of the call, asks for.
fn refusal(fault: Option<&FaultRule>, asked: &Asked, shared: &Shared) -> Option<Trouble> {
    let rule = fault?;
    match rule.kind {
        FaultKind::RateLimit => Some(Trouble::RateLimit {
            model: asked.model.clone(),
            limit: shared.options.requests_per_minute,
            what: "requests",
            retry_after_s: rule.retry_after_s.unwrap_or(1),
        }),
        FaultKind::ServerError => Some(Trouble::ServerError),
        FaultKind::Unavailable => Some(Trouble::Unavailable),
        FaultKind::StreamError if !asked.streamed => Some(Trouble::ServerError),
        FaultKind::ContextLength => Some(Trouble::ContextLength {
            tokens_max: shared.options.context_tokens,
            input: asked.input_tokens,
            output: u64::from(asked.max_output_tokens.unwrap_or(OUTPUT_TOKENS_DEFAULT)),
        }),
        _ => None,
    }
}

/// The error answer for a call that the provider's own limits refuse.
fn over(answer: &Answer, room: &Headroom, shared: &Shared) -> Option<Trouble> {
    let (input, output) = (answer.usage.input, answer.usage.output);
    if input + output > u64::from(shared.options.context_tokens) {
        let tokens_max = shared.options.context_tokens;
        return Some(Trouble::ContextLength {
            tokens_max,
            input,
            output,
        });
    }
    let what = room.exceeded?;
    Some(Trouble::RateLimit {
        model: answer.asked.model.clone(),
        limit: if what == "requests" {
            room.requests
        } else {
            room.tokens
        },
        what,
        retry_after_s: u32::try_from(room.reset.as_secs() + 1).unwrap_or(60),
    })
}

/// Sizes the answer: from the call's own wishes first, then from the options.
fn size(mut asked: Asked, number: u64, shared: &Shared, rng: &mut rand::rngs::SmallRng) -> Answer {
    let options = &shared.options;
    let wish = std::mem::take(&mut asked.overrides);
    let number_in = |text: Option<String>| text.and_then(|text| text.trim().parse::<u64>().ok());
    let input = number_in(wish.input_tokens).unwrap_or(asked.input_tokens);
    let cached_input = number_in(wish.cached_tokens)
        .unwrap_or_else(|| cached(input, options.cached_share))
        .min(input);
    let (output, clipped) = match (asked.generates, number_in(wish.output_tokens)) {
        (false, _) => (0, false),
        (true, Some(tokens)) => (rounded_tokens(tokens), false),
        (true, None) => drawn(asked.max_output_tokens, options.output_tokens, rng),
    };
    let reasoning = number_in(wish.reasoning_tokens).map_or_else(
        || share(u64::from(output), options.reasoning_share),
        |n| n.min(u64::from(output)),
    );
    let choices = u64::from(asked.choices.max(1));
    let visible = u64::from(output) - reasoning;
    Answer {
        number,
        seed: options.seed,
        created_s: clock::unix_s(),
        fingerprint: shared.fingerprint.clone(),
        usage: Tokens {
            input,
            cached_input,
            output: reasoning + visible * choices,
            reasoning,
        },
        visible: u32::try_from(visible).unwrap_or(u32::MAX),
        clipped,
        asked,
    }
}

/// The length of an answer, and whether `max_tokens` cut it short.
fn drawn(
    max: Option<u32>,
    sizes: Option<crate::dist::Count>,
    rng: &mut rand::rngs::SmallRng,
) -> (u32, bool) {
    match (sizes, max) {
        (None, max) => (
            max.unwrap_or(OUTPUT_TOKENS_DEFAULT).clamp(1, 1_000_000),
            false,
        ),
        (Some(sizes), None) => (sizes.sample(rng), false),
        (Some(sizes), Some(max)) => {
            let wished = sizes.sample(rng);
            (wished.min(max.max(1)), wished > max)
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "token counts are far below 2^53"
)]
fn rounded_tokens(tokens: u64) -> u32 {
    rounded(tokens as f64)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "token counts are far below 2^53 and the share lies in 0..=1"
)]
fn share(tokens: u64, share: f64) -> u64 {
    (tokens as f64 * share).floor() as u64
}

/// OpenAI reports cached input from 1024 tokens on, in steps of 128.
fn cached(input: u64, of_it: f64) -> u64 {
    let cached = share(input, of_it) / 128 * 128;
    if cached >= 1024 { cached } else { 0 }
}

async fn pause(delay: Delay, rng: &mut rand::rngs::SmallRng) {
    if !delay.0.is_zero() {
        tokio::time::sleep(delay.sample(rng)).await;
    }
}

async fn pause_tokens(delay: Delay, tokens: u32, rng: &mut rand::rngs::SmallRng) {
    if !delay.0.is_zero() {
        let all: Duration = (1..tokens).map(|_| delay.sample(rng)).sum();
        tokio::time::sleep(all).await;
    }
}

async fn wait_or_for_ever(ms: Option<u64>) {
    match ms {
        Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}

fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<MockBody> {
    let mut response = Response::new(MockBody::plain(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The mock's own endpoints, which count as nothing.
async fn control(request: Request<Incoming>, shared: &Shared) -> Response<MockBody> {
    let (parts, body) = request.into_parts();
    let body = match collect(body).await {
        Ok(body) => body,
        Err(_) => return told(StatusCode::BAD_REQUEST, "the body did not arrive whole"),
    };
    match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/__mock/ledger") => shown(&shared.books.ledger()),
        (&Method::GET, "/__mock/faults") => shown(&shared.behaviour.load().faults.rules()),
        (&Method::POST, "/__mock/reset") => {
            shared.books.reset();
            shown(&shared.books.ledger())
        }
        (&Method::POST, "/__mock/faults") => changed(&body, |rules| {
            shared.set_faults(rules).map_err(|error| error.to_string())
        }),
        (&Method::POST, "/__mock/latency") => changed(&body, |latency: Latency| {
            shared.set_latency(latency.ttft, latency.inter_token);
            Ok(())
        }),
        _ => told(
            StatusCode::NOT_FOUND,
            "known are GET /__mock/ledger, GET and POST /__mock/faults, POST /__mock/latency, POST /__mock/reset",
        ),
    }
}

/// The body of `POST /__mock/latency`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Latency {
    ttft: Delay,
    #[serde(default = "no_delay")]
    inter_token: Delay,
}

fn no_delay() -> Delay {
    Delay::ZERO
}

fn shown(value: &impl serde::Serialize) -> Response<MockBody> {
    match serde_json::to_vec(value) {
        Ok(body) => json(StatusCode::OK, body),
        Err(error) => told(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn changed<T: serde::de::DeserializeOwned>(
    body: &[u8],
    change: impl FnOnce(T) -> Result<(), String>,
) -> Response<MockBody> {
    let changed = serde_json::from_slice(body)
        .map_err(|error| error.to_string())
        .and_then(change);
    match changed {
        Ok(()) => json(StatusCode::OK, r#"{"ok":true}"#),
        Err(problem) => told(StatusCode::BAD_REQUEST, &problem),
    }
}

fn told(status: StatusCode, message: &str) -> Response<MockBody> {
    let body = serde_json::json!({ "error": { "message": message, "type": "mock_control" } });
    json(status, body.to_string())
}
