//! Replays recorded traffic into a gateway and keeps the client's own ledger: for every call, what came back.
//!
//! Calls go out at their recorded times (sped up) with their recorded sizes, over several keys in turn. The ledger is what SQL is compared
//! with afterwards: an answer that is in here as whole was acknowledged, so its event must exist.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use parking_lot::Mutex;
use serde::Serialize;

use crate::TargetError;
use crate::bench::arrival::{Arrival, Planned, Schedule};
use crate::body::Chat;
use crate::chance;
use crate::client::{ExchangeError, HttpTarget};
use crate::drive::{self, Drive, FinishedExchange, Work};
use crate::mock::TokenCounts;
use crate::stop::StopSwitch;
use crate::trace::Trace;
use crate::transcript::ChatTranscript;

/// Whose key it is.
#[derive(Clone, Debug)]
pub struct ReplayCaller {
    pub team: String,
    pub key: String,
}

/// What is replayed, and into what.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    /// Base URL, as an SDK takes it.
    pub url: String,
    /// Call N is made by caller N modulo their number.
    pub callers: Vec<ReplayCaller>,
    pub model: String,
    pub trace: Arc<Trace>,
    /// How much faster than recorded.
    pub speed: f64,
    /// Share of the calls that are streams, 0 to 1.
    pub streamed_share: f64,
    /// Most calls in flight; what is due beyond that goes out late.
    pub connections: usize,
    pub timeout: Duration,
    pub seed: u64,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8080/v1".to_owned(),
            callers: Vec::new(),
            model: "gpt-4o-mini".to_owned(),
            trace: Arc::new(Trace {
                source: "nothing".to_owned(),
                calls: Vec::new(),
            }),
            speed: 1.0,
            streamed_share: 0.5,
            connections: 64,
            timeout: Duration::from_secs(60),
            seed: 1,
        }
    }
}

/// Why nothing was replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("replay target: {0}")]
    HttpTarget(#[from] TargetError),
    #[error("replay options: {problem}")]
    Options { problem: &'static str },
    #[error("replay failed: {source}")]
    Runtime { source: std::io::Error },
}

/// One call as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientCall {
    /// Its place in the trace, from 0.
    pub number: u64,
    pub team: String,
    pub streamed: bool,
    /// What was asked for.
    pub input_tokens: u32,
    pub output_tokens: u32,
    /// `x-request-id` of the answer.
    pub request_id: Option<String>,
    /// `None`: no head came.
    pub status: Option<u16>,
    pub outcome: ReplayOutcome,
    /// What the answer's usage block said, if it came.
    pub usage: Option<TokenCounts>,
    /// Text chunks that came, of a stream.
    pub deltas: u64,
    /// The error's message, if there was one.
    pub error: Option<String>,
    pub total_us: u64,
}

/// How a call ended for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayOutcome {
    /// All of it came: a plain body to its length, a stream to `[DONE]`. Its status may still be an error's.
    Whole,
    /// A stream that ended with an error event, or without `[DONE]`.
    Broken,
    /// The connection ended within the answer.
    Cut,
    /// The connection ended, or was refused, before an answer began.
    Unanswered,
    TimedOut,
}

/// All calls, in the order of the trace.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClientLedger {
    /// Where the trace came from.
    pub source: String,
    pub calls: Vec<ClientCall>,
}

impl ClientLedger {
    /// Calls of one team.
    pub fn of_team(&self, team: &str) -> impl Iterator<Item = &ClientCall> {
        self.calls.iter().filter(move |call| call.team == team)
    }

    /// Answers that were whole and said 200.
    pub fn served(&self) -> impl Iterator<Item = &ClientCall> {
        self.calls
            .iter()
            .filter(|call| call.outcome == ReplayOutcome::Whole && call.status == Some(200))
    }

    /// The sum of what the served answers' usage blocks said.
    #[must_use]
    pub fn tokens<'c>(calls: impl IntoIterator<Item = &'c ClientCall>) -> TokenCounts {
        let mut sum = TokenCounts::default();
        for usage in calls.into_iter().filter_map(|call| call.usage) {
            sum.add(usage);
        }
        sum
    }
}

/// Replays to the end of the trace. Blocks; call it from a thread that may.
pub fn replay(options: &ReplayOptions) -> Result<ClientLedger, ReplayError> {
    replay_until(options, &StopSwitch::default(), |_| {})
}

/// Replays to the end of the trace, or until `stop` is pulled; calls in flight then are not in the ledger, although the gateway may have them.
/// Calls `heard` after each call.
pub fn replay_until(
    options: &ReplayOptions,
    stop: &StopSwitch,
    heard: impl Fn(&ClientCall) + Send + Sync + 'static,
) -> Result<ClientLedger, ReplayError> {
    options.check()?;
    let failed = |source| ReplayError::Runtime { source };
    let target = HttpTarget::new(&options.url, None, &[])?;
    let callers = options
        .callers
        .iter()
        .map(|caller| Ok((caller.team.clone(), target.with_key(&caller.key)?)))
        .collect::<Result<_, TargetError>>()?;
    let replay = Arc::new(Replay {
        options: options.clone(),
        callers,
        calls: Mutex::new(Vec::with_capacity(options.trace.calls.len())),
        heard: Box::new(heard),
    });
    let arrival = Arrival::Trace {
        trace: Arc::clone(&options.trace),
        speed: options.speed,
    };
    let schedule = Schedule::whole(arrival, options.seed);
    let how = Drive {
        target,
        connections: options.connections,
        timeout: options.timeout,
        start: Instant::now(),
        stop: stop.clone(),
    };
    let runtime = drive::runtime().map_err(failed)?;
    runtime
        .block_on(drive::drive(schedule, Arc::clone(&replay), &how))
        .map_err(failed)?;
    let mut calls = std::mem::take(&mut *replay.calls.lock());
    calls.sort_by_key(|call| call.number);
    Ok(ClientLedger {
        source: options.trace.source.clone(),
        calls,
    })
}

impl ReplayOptions {
    fn check(&self) -> Result<(), ReplayError> {
        let problem = if self.callers.is_empty() {
            "at least one caller is needed"
        } else if self.connections == 0 {
            "at least one connection is needed"
        } else if !(self.speed.is_finite() && self.speed > 0.0) {
            "the speed must be above 0"
        } else if !(0.0..=1.0).contains(&self.streamed_share) {
            "the share of streams must lie between 0 and 1"
        } else {
            return Ok(());
        };
        Err(ReplayError::Options { problem })
    }
}

struct Replay {
    options: ReplayOptions,
    callers: Vec<(String, HttpTarget)>,
    calls: Mutex<Vec<ClientCall>>,
    heard: Box<dyn Fn(&ClientCall) + Send + Sync>,
}

impl Replay {
    fn caller(&self, number: u64) -> &(String, HttpTarget) {
        let count = self.callers.len();
        // Below `count`, which fits, and never empty: checked at the start.
        &self.callers[usize::try_from(number % count as u64).unwrap_or(0)]
    }

    fn streamed(&self, number: u64) -> bool {
        chance::unit(self.options.seed, number) < self.options.streamed_share
    }
}

impl Work for Replay {
    type Heard = ChatTranscript;

    fn request(&self, planned: &Planned) -> Request<Full<Bytes>> {
        let (input_tokens, output_tokens) = sizes(planned);
        let chat = Chat {
            model: &self.options.model,
            input_tokens,
            output_tokens,
            streamed: self.streamed(planned.number),
            user: None,
            metadata: &[],
        };
        let (_, target) = self.caller(planned.number);
        target.post("/chat/completions", chat.json().into())
    }

    fn ended(&self, exchange: FinishedExchange<'_, ChatTranscript>) {
        let number = exchange.planned.number;
        let transcript = exchange.heard;
        transcript.finish(exchange.result.is_ok());
        let took = exchange.ended.saturating_duration_since(exchange.sent);
        let (input_tokens, output_tokens) = sizes(exchange.planned);
        let call = ClientCall {
            number,
            team: self.caller(number).0.clone(),
            streamed: self.streamed(number),
            input_tokens,
            output_tokens,
            request_id: transcript.request_id.take(),
            status: transcript.status,
            outcome: outcome(exchange.result, transcript),
            usage: transcript.usage,
            deltas: transcript.deltas,
            error: transcript.error.take(),
            total_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        };
        (self.heard)(&call);
        self.calls.lock().push(call);
    }
}

/// Tokens in and out.
fn sizes(planned: &Planned) -> (u32, u32) {
    let call = planned.call.as_ref();
    call.map_or((1, 1), |call| (call.input_tokens, call.output_tokens))
}

fn outcome(result: Result<(), ExchangeError>, transcript: &ChatTranscript) -> ReplayOutcome {
    match result {
        Ok(()) if transcript.streamed && (!transcript.done || transcript.error.is_some()) => {
            ReplayOutcome::Broken
        }
        Ok(()) => ReplayOutcome::Whole,
        Err(ExchangeError::CutShort) => ReplayOutcome::Cut,
        Err(ExchangeError::Connect | ExchangeError::Unanswered) => ReplayOutcome::Unanswered,
        Err(ExchangeError::Timeout) => ReplayOutcome::TimedOut,
    }
}
