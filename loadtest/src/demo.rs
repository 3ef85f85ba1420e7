//! A trickle of traffic, so that a newcomer sees data at once: several teams, plain calls, streams, embeddings, a mistake now and then.
//!
//! The rate swings like a day's, compressed into minutes; sizes are those of the conversation trace. Everything is drawn from a
//! seed. Faults are asked for in the body (`metadata.mock_fault`), which mock providers obey and others ignore.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::SmallRng;
use serde::Serialize;

use crate::TargetError;
use crate::bench::arrival::{Arrival, Planned, Schedule};
use crate::body::{self, Chat};
use crate::chance;
use crate::client::{ExchangeError, HttpTarget};
use crate::drive::{self, Drive, FinishedExchange, Work};
use crate::mock::TokenCounts;
use crate::stop::StopSwitch;
use crate::trace::{TraceName, fitted};
use crate::transcript::ChatTranscript;

/// Someone who calls.
#[derive(Clone, Debug)]
pub struct Member {
    pub team: String,
    pub key: String,
    /// Sent as OpenAI's `user`.
    pub user: String,
    /// Sent as `metadata.feature`.
    pub feature: String,
    /// How often he calls, against the others.
    pub weight: f64,
}

/// What the demo's traffic is like.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Base URL, as an SDK takes it.
    pub url: String,
    pub members: Vec<Member>,
    /// Models or aliases for chat, drawn evenly.
    pub chat_models: Vec<String>,
    /// Model or alias for embeddings; without it there are none.
    pub embedding_model: Option<String>,
    /// Mean rate.
    pub per_second: f64,
    /// How long a "day" is.
    pub day: Duration,
    /// Longest answer asked for, in tokens: a demo should not wait for novels.
    pub output_tokens_max: u32,
    pub streamed_share: f64,
    pub embedding_share: f64,
    /// Share of calls whose provider is asked to fail.
    pub fault_share: f64,
    /// Share of calls that name a model that does not exist.
    pub mistake_share: f64,
    pub seed: u64,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8080/v1".to_owned(),
            members: Vec::new(),
            chat_models: Vec::new(),
            embedding_model: None,
            per_second: 3.0,
            day: Duration::from_secs(600),
            output_tokens_max: 200,
            streamed_share: 0.5,
            embedding_share: 0.15,
            fault_share: 0.03,
            mistake_share: 0.01,
            seed: 1,
        }
    }
}

impl DemoOptions {
    fn check(&self) -> Result<(), DemoError> {
        let shares = [
            self.streamed_share,
            self.embedding_share,
            self.fault_share,
            self.mistake_share,
        ];
        let mut weights = self.members.iter().map(|member| member.weight);
        let problem = if self.members.is_empty() {
            "at least one member is needed"
        } else if self.chat_models.is_empty() {
            "at least one chat model is needed"
        } else if weights.any(|weight| !(0.0..1e9).contains(&weight)) {
            "a member's weight must not be negative"
        } else if shares.iter().any(|share| !(0.0..=1.0).contains(share)) {
            "a share must lie between 0 and 1"
        } else if self.per_second.is_nan() || self.per_second <= 0.0 || self.day.is_zero() {
            "the rate and the day must be above 0"
        } else {
            return Ok(());
        };
        Err(DemoError::Options { problem })
    }
}

/// Why the demo cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("demo target: {0}")]
    HttpTarget(#[from] TargetError),
    #[error("demo options: {problem}")]
    Options { problem: &'static str },
    #[error("demo cannot start: {source}")]
    Start { source: std::io::Error },
}

/// What the demo did so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DemoTally {
    pub calls: u64,
    pub by_team: BTreeMap<String, u64>,
    /// By status; 0 is no answer.
    pub by_status: BTreeMap<u16, u64>,
    pub streams: u64,
    pub embeddings: u64,
    /// Answers that broke off.
    pub broken: u64,
    pub tokens: TokenCounts,
}

/// A running demo. Dropping it stops it.
#[derive(Debug)]
pub struct DemoHandle {
    stop: StopSwitch,
    demo: Arc<DemoTraffic>,
    thread: Option<JoinHandle<()>>,
}

/// Most calls in flight; a gateway that is slow gets fewer, not more.
const CONNECTIONS: usize = 16;
const TIMEOUT: Duration = Duration::from_secs(60);

/// Starts the traffic on a thread of its own.
pub fn start(options: DemoOptions) -> Result<DemoHandle, DemoError> {
    let failed = |source| DemoError::Start { source };
    let demo = Arc::new(DemoTraffic::new(options)?);
    let stop = StopSwitch::default();
    let how = Drive {
        target: demo.target.clone(),
        connections: CONNECTIONS,
        timeout: TIMEOUT,
        start: Instant::now(),
        stop: stop.clone(),
    };
    let runtime = drive::runtime().map_err(failed)?;
    let work = Arc::clone(&demo);
    let thread = std::thread::Builder::new()
        .name("demo-traffic".to_owned())
        .spawn(move || {
            // It fails only if a timer cannot be made; then there is no traffic, and the tally shows it.
            let _ = runtime.block_on(drive::drive(work.schedule(), work, &how));
        })
        .map_err(failed)?;
    Ok(DemoHandle {
        stop,
        demo,
        thread: Some(thread),
    })
}

impl DemoHandle {
    #[must_use]
    pub fn tally(&self) -> DemoTally {
        self.demo.tally.lock().clone()
    }

    /// Stops; calls in flight are dropped.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for DemoHandle {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            // A panic there has already said so on stderr.
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct DemoTraffic {
    options: DemoOptions,
    target: HttpTarget,
    /// One per member.
    targets: Vec<HttpTarget>,
    weights: f64,
    tally: Mutex<DemoTally>,
}

/// One call, drawn.
enum RequestKind<'d> {
    Chat {
        model: &'d str,
        streamed: bool,
        fault: Option<&'static str>,
    },
    Embeddings {
        model: &'d str,
    },
}

impl DemoTraffic {
    fn new(options: DemoOptions) -> Result<Self, DemoError> {
        options.check()?;
        let target = HttpTarget::new(&options.url, None, &[])?;
        let targets = options
            .members
            .iter()
            .map(|member| target.with_key(&member.key))
            .collect::<Result<_, _>>()?;
        let weights = options.members.iter().map(|member| member.weight).sum();
        Ok(Self {
            options,
            target,
            targets,
            weights,
            tally: Mutex::default(),
        })
    }

    fn schedule(&self) -> Schedule {
        let arrival = Arrival::Wave {
            per_second: self.options.per_second,
            swing: 0.6,
            period: self.options.day,
        };
        Schedule::whole(arrival, self.options.seed)
    }

    /// Whose call `number` is, and what; asked again when it has ended, so that nothing has to be carried along.
    fn draw(&self, number: u64) -> (usize, RequestKind<'_>, SmallRng) {
        let options = &self.options;
        let mut rng = chance::rng(options.seed, number);
        let member = self.pick_member(&mut rng);
        let kind = match &options.embedding_model {
            Some(model) if rng.random::<f64>() < options.embedding_share => {
                RequestKind::Embeddings { model }
            }
            _ => {
                let model = &options.chat_models[rng.random_range(0..options.chat_models.len())];
                let mistaken = rng.random::<f64>() < options.mistake_share;
                RequestKind::Chat {
                    model: if mistaken { "gpt-404" } else { model },
                    streamed: rng.random::<f64>() < options.streamed_share,
                    fault: (rng.random::<f64>() < options.fault_share).then(|| fault(&mut rng)),
                }
            }
        };
        (member, kind, rng)
    }

    fn pick_member(&self, rng: &mut SmallRng) -> usize {
        let mut left = rng.random::<f64>() * self.weights;
        let members = &self.options.members;
        members
            .iter()
            .position(|member| {
                left -= member.weight;
                left < 0.0
            })
            .unwrap_or(0)
    }
}

/// As `metadata.mock_fault` names it.
fn fault(rng: &mut SmallRng) -> &'static str {
    const KINDS: [&str; 4] = ["server_error", "rate_limit", "unavailable", "cut"];
    KINDS[rng.random_range(0..KINDS.len())]
}

impl Work for DemoTraffic {
    type Heard = ChatTranscript;

    fn request(&self, planned: &Planned) -> Request<Full<Bytes>> {
        let (index, kind, mut rng) = self.draw(planned.number);
        let shape = fitted::shape(TraceName::AzureConv);
        let input_tokens = crate::dist::rounded(shape.input_tokens.sample(&mut rng));
        let output_tokens = crate::dist::rounded(shape.output_tokens.sample(&mut rng));
        let member = &self.options.members[index];
        let (path, body) = match kind {
            RequestKind::Embeddings { model } => (
                "/embeddings",
                body::embeddings(model, input_tokens.min(512), Some(&member.user)),
            ),
            RequestKind::Chat {
                model,
                streamed,
                fault,
            } => {
                let mut metadata = vec![("feature", member.feature.as_str())];
                metadata.extend(fault.map(|kind| ("mock_fault", kind)));
                let chat = Chat {
                    model,
                    input_tokens,
                    output_tokens: output_tokens.min(self.options.output_tokens_max.max(1)),
                    streamed,
                    user: Some(&member.user),
                    metadata: &metadata,
                };
                ("/chat/completions", chat.json())
            }
        };
        self.targets[index].post(path, body.into())
    }

    fn ended(&self, exchange: FinishedExchange<'_, ChatTranscript>) {
        let (member, kind, _) = self.draw(exchange.planned.number);
        let transcript = exchange.heard;
        transcript.finish(exchange.result.is_ok());
        let mut tally = self.tally.lock();
        tally.calls += 1;
        let team = &self.options.members[member].team;
        *tally.by_team.entry(team.clone()).or_default() += 1;
        let status = transcript.status.unwrap_or(0);
        *tally.by_status.entry(status).or_default() += 1;
        match kind {
            RequestKind::Chat { streamed, .. } => tally.streams += u64::from(streamed),
            RequestKind::Embeddings { .. } => tally.embeddings += 1,
        }
        tally.broken += u64::from(exchange.result == Err(ExchangeError::CutShort));
        if let Some(usage) = transcript.usage {
            tally.tokens.add(usage);
        }
    }
}
