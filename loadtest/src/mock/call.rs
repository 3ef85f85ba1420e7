//! One call: what goes wrong, how large the answer is, when it begins.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use rand::rngs::SmallRng;

use super::fault::{FaultError, FaultKind, FaultRule, Midway};
use super::ledger::{LedgerCall, TokenCounts};
use super::limits::Headroom;
use super::link::LinkFaults;
use super::play::{AcceptedCall, Breaking, MockBody, PlainBody, StreamBody};
use super::size::{OUTPUT_TOKENS_DEFAULT, size};
use super::wire::{AnswerHead, MockAnswer, MockRequest, Trouble, Wire};
use super::{MockBehaviour, MockState};
use crate::dist::Delay;
use crate::{chance, clock};

/// How long `slow_headers` holds back when the rule does not say.
const SLOW_HEADERS_MS: u64 = 2_000;

/// What serving one call needs.
pub(super) struct Serving<'s> {
    pub(super) shared: &'s MockState,
    pub(super) wire: &'static dyn Wire,
    pub(super) link: Arc<LinkFaults>,
    pub(super) key: Arc<str>,
    pub(super) began: Instant,
}

/// The error that the real API would answer.
pub(super) struct StrictRefusal {
    pub(super) model: String,
    pub(super) status: u16,
    pub(super) body: String,
}

impl Serving<'_> {
    /// Decides what happens to a call that was understood, and begins its answer.
    pub(super) async fn answer(self, mut asked: MockRequest) -> Response<MockBody> {
        let behaviour = self.shared.behaviour.load_full();
        let fault = match decide_fault(&mut asked, &behaviour) {
            Ok(fault) => fault,
            Err(problem) => {
                let parameter = "x-mock-fault";
                return self.turn_away(&asked.model, &Trouble::Invalid { parameter, problem });
            }
        };
        let fault = fault.as_deref();
        let kind = fault.map(|rule| rule.kind);
        let number = self.shared.books.next_number();
        let call = self.open(&asked.model, asked.streamed, kind);
        if kind == Some(FaultKind::Timeout) {
            wait_or_for_ever(fault.and_then(|rule| rule.for_ms)).await;
        }
        if let Some(trouble) = refusal(fault, &asked, self.shared) {
            let room = self.shared.limits.peek(self.began);
            return self.refuse(call, &trouble, number, room);
        }
        let mut rng = chance::rng(self.shared.options.seed, number);
        let answer = size(asked, number, self.shared, &mut rng);
        let tokens = answer.usage.input + answer.usage.output;
        let room = self.shared.limits.take(tokens, self.began);
        if let Some(trouble) = over(&answer, &room, self.shared) {
            return self.refuse(call, &trouble, number, room);
        }
        if kind == Some(FaultKind::SlowHeaders) {
            let ms = fault
                .and_then(|rule| rule.for_ms)
                .unwrap_or(SLOW_HEADERS_MS);
            self.link.slow_head(ms);
        }
        pause(behaviour.ttft, &mut rng).await;
        let accepted = AcceptedCall {
            call,
            midway: Midway::of(fault, answer.visible),
            answer,
            link: Arc::clone(&self.link),
        };
        self.begin(accepted, room, behaviour.inter_token, rng).await
    }

    async fn begin(
        self,
        mut accepted: AcceptedCall,
        room: Headroom,
        inter_token: Delay,
        mut rng: SmallRng,
    ) -> Response<MockBody> {
        const EVENT_STREAM: HeaderValue =
            HeaderValue::from_static("text/event-stream; charset=utf-8");
        let answer = &accepted.answer;
        let events = self.wire.events().filter(|_| answer.asked.streamed);
        if events.is_none() {
            // A plain answer comes when its last token is there.
            pause_tokens(inter_token, answer.visible, &mut rng).await;
        }
        let mut response = self.head(StatusCode::OK, answer.number, room, None);
        accepted.call.began(200);
        let Some(events) = events else {
            return response.map(|()| whole(self.wire, accepted));
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, EVENT_STREAM);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let events_per_chunk = self.shared.options.events_per_chunk;
        let stream = StreamBody::new(events, accepted, events_per_chunk, inter_token, rng);
        response.map(|()| MockBody::Stream(Box::new(stream)))
    }

    /// Refuses a call that has no number: it was not understood.
    pub(super) fn turn_away(self, model: &str, trouble: &Trouble) -> Response<MockBody> {
        let call = self.open(model, false, None);
        let room = self.shared.limits.peek(self.began);
        self.refuse(call, trouble, 0, room)
    }

    /// Refuses a call that the real API would refuse.
    pub(super) fn refuse_strictly(self, refusal: StrictRefusal) -> Response<MockBody> {
        let StrictRefusal {
            model,
            status,
            body,
        } = refusal;
        let mut call = self.open(&model, false, None);
        let room = self.shared.limits.peek(self.began);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        call.began(status.as_u16());
        let done = Some((call, TokenCounts::default()));
        self.head(status, 0, room, None).map(|()| MockBody::Whole {
            bytes: body.into(),
            done,
        })
    }

    fn refuse(
        self,
        mut call: LedgerCall,
        trouble: &Trouble,
        number: u64,
        room: Headroom,
    ) -> Response<MockBody> {
        let (status, body) = self.wire.trouble(trouble);
        let retry_after_s = match trouble {
            Trouble::RateLimit { retry_after_s, .. } => Some(*retry_after_s),
            Trouble::Unavailable { retry_after_s } => *retry_after_s,
            _ => None,
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        call.began(status.as_u16());
        let done = Some((call, TokenCounts::default()));
        self.head(status, number, room, retry_after_s)
            .map(|()| MockBody::Whole {
                bytes: body.into(),
                done,
            })
    }

    fn open(&self, model: &str, streamed: bool, fault: Option<FaultKind>) -> LedgerCall {
        self.shared
            .books
            .open(Arc::clone(&self.key), model, streamed, fault)
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
            now_s: clock::unix_s(),
            room,
            retry_after_s,
        };
        self.wire.headers(&head, response.headers_mut());
        response
    }
}

/// A plain answer, whole or up to where a fault strikes.
fn whole(wire: &dyn Wire, accepted: AcceptedCall) -> MockBody {
    let AcceptedCall {
        mut call,
        answer,
        link,
        midway,
    } = accepted;
    let mut body = Vec::with_capacity(1024);
    wire.whole(&answer, &mut body);
    let body = Bytes::from(body);
    call.served(answer.usage);
    let half = body.len() / 2;
    match midway {
        None => MockBody::Whole {
            bytes: body,
            done: Some((call, answer.usage)),
        },
        // Half a document, sent as if it were whole.
        Some(midway) if midway.kind == FaultKind::MalformedChunk => MockBody::Whole {
            bytes: body.slice(..half),
            done: Some((call, TokenCounts::default())),
        },
        Some(midway) => MockBody::Plain(Box::new(PlainBody {
            first: body.slice(..half),
            rest: body.slice(half..),
            midway,
            reported: answer.usage,
            call,
            link,
            breaking: Breaking::Not,
        })),
    }
}

fn decide_fault(
    asked: &mut MockRequest,
    behaviour: &MockBehaviour,
) -> Result<Option<Arc<FaultRule>>, String> {
    let Some(text) = asked.overrides.mock_fault.take() else {
        return Ok(behaviour.faults.decide(&asked.model, asked.streamed));
    };
    let rule: FaultRule = text
        .parse()
        .map_err(|error: FaultError| error.to_string())?;
    Ok((rule.kind != FaultKind::None).then(|| Arc::new(rule)))
}

/// The error answer that a fault, or the size of the call, asks for.
fn refusal(fault: Option<&FaultRule>, asked: &MockRequest, shared: &MockState) -> Option<Trouble> {
    let rule = fault?;
    match rule.kind {
        FaultKind::RateLimit => Some(Trouble::RateLimit {
            model: asked.model.clone(),
            limit: shared.options.requests_per_minute,
            what: "requests",
            retry_after_s: rule.retry_after_s.unwrap_or(1),
        }),
        FaultKind::ServerError => Some(Trouble::ServerError),
        FaultKind::Unavailable => Some(Trouble::Unavailable {
            retry_after_s: rule.retry_after_s,
        }),
        FaultKind::StreamError if !asked.streamed => Some(Trouble::ServerError),
        FaultKind::ContextLength => Some(Trouble::ContextLength {
            // As if the window ended just short of what was asked.
            tokens_max: u32::try_from(asked.input_tokens).unwrap_or(shared.options.context_tokens),
            input: asked.input_tokens,
            output: u64::from(asked.max_output_tokens.unwrap_or(OUTPUT_TOKENS_DEFAULT)),
        }),
        _ => None,
    }
}

/// The error answer for a call that the provider's own limits refuse.
fn over(answer: &MockAnswer, room: &Headroom, shared: &MockState) -> Option<Trouble> {
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
        retry_after_s: u32::try_from(room.retry.as_secs() + 1).unwrap_or(60),
    })
}

async fn pause(delay: Delay, rng: &mut SmallRng) {
    if !delay.0.is_zero() {
        tokio::time::sleep(delay.sample(rng)).await;
    }
}

async fn pause_tokens(delay: Delay, tokens: u32, rng: &mut SmallRng) {
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
