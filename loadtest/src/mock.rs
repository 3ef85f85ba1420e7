//! A mock provider: OpenAI's wire formats (chat, Responses, embeddings), Anthropic's and Gemini's, all on one port, realistic in shape
//! and timing, and misbehaving on request.
//!
//! A call passes through: `server` accepts → [`strict`] refuses what the real API would refuse, if it is asked to → `wire`
//! recognises the endpoint and reads the body → `fault` decides what goes
//! wrong → `ledger` opens the call → `size` draws the length of the answer → `play` sends the answer, in one write or token by token → the ledger is settled
//! before the last byte leaves, so that a client that has the answer finds it in the ledger.
//!
//! Sizes, pauses and faults are drawn by call number from a seed ([`crate::chance`]): the same options give the same
//! behaviour. The mock generates no language: its text is made of a fixed list of words, one word a token.
//!
//! It knows callers only by key, keeps no prompt, and stops when its handle is shut down or dropped.

mod call;
mod control;
mod fault;
mod ledger;
mod limits;
mod link;
mod play;
mod server;
mod size;
pub mod strict;
mod text;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

pub use fault::{FaultError, FaultKind, FaultRule};
pub use ledger::{MockLedger, Tally, TokenCounts};
pub use text::{filler, input_tokens_of_text};

use crate::dist::{Delay, TokenCount};
use fault::FaultPlan;
use ledger::Books;
use limits::MockLimits;

/// What a mock provider is like. Every field has a default, so `{}` is a fast provider without faults.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MockOptions {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Its name in the ledger and in the `openai-organization` header.
    pub name: String,
    /// The models it has. Empty: any name is served.
    pub models: Vec<String>,
    /// Keys it accepts as `Authorization: Bearer …`. Empty: any key, or none.
    pub keys: Vec<String>,
    /// Threads that serve.
    pub workers: usize,
    /// Seed of sizes, pauses and faults.
    pub seed: u64,
    /// Time to first token.
    pub ttft: Delay,
    /// Time between one token and the next.
    pub inter_token: Delay,
    /// Length of an answer when the request does not set one; a request's `max_tokens` caps it. Unset: exactly `max_tokens`
    /// tokens, or 16 without it.
    pub output_tokens: Option<TokenCount>,
    /// Longest answer that `max_tokens` alone gets: some clients always ask for all that a model could write.
    pub output_tokens_max: u32,
    /// Share of the output that is hidden reasoning, 0 to 1.
    pub reasoning_share: f64,
    /// Share of the input that was read from the prompt cache, 0 to 1; in steps of 128 tokens from 1024 on, as OpenAI does.
    pub cached_share: f64,
    /// Largest prompt and answer together; above it the call is refused with `context_length_exceeded`.
    pub context_tokens: u32,
    /// Server-sent events per HTTP chunk when several are due at once.
    pub events_per_chunk: u32,
    /// What `x-ratelimit-limit-requests` says.
    pub requests_per_minute: u64,
    /// What `x-ratelimit-limit-tokens` says.
    pub tokens_per_minute: u64,
    /// Whether the two limits are enforced or only reported, always with room left.
    pub enforce_limits: bool,
    /// How enforced limits come back.
    pub limits_return: LimitsReturn,
    /// What goes wrong, first match wins.
    pub faults: Vec<FaultRule>,
    /// Whether requests that the real API would refuse are refused, in its words; the rule and its page stand in the message.
    pub strict: bool,
    /// Whose rules those are, of [`strict::vendor_names`]. Empty: of the company that defined the API that is called.
    pub vendor: String,
}

/// How a limit that was used comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitsReturn {
    /// As a whole, with every minute.
    AtOnce,
    /// Steadily, all of it within a minute, as OpenAI's and Anthropic's do.
    Steadily,
}

impl Default for MockOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            name: "mock".to_owned(),
            models: Vec::new(),
            keys: Vec::new(),
            workers: 1,
            seed: 1,
            ttft: Delay::ZERO,
            inter_token: Delay::ZERO,
            output_tokens: None,
            output_tokens_max: 8192,
            reasoning_share: 0.0,
            cached_share: 0.0,
            context_tokens: 1_047_576,
            events_per_chunk: 1,
            requests_per_minute: 10_000,
            tokens_per_minute: 30_000_000,
            enforce_limits: false,
            limits_return: LimitsReturn::AtOnce,
            faults: Vec::new(),
            strict: false,
            vendor: String::new(),
        }
    }
}

impl MockOptions {
    fn check(&self) -> Result<(), MockError> {
        let bad_share = |name, share| format!("{name} is {share}, it must lie in 0..1");
        let problem = if self.workers == 0 {
            "workers must be at least 1".to_owned()
        } else if self.output_tokens_max == 0 {
            "output_tokens_max must be at least 1".to_owned()
        } else if self.events_per_chunk == 0 {
            "events_per_chunk must be at least 1".to_owned()
        } else if !(0.0..=1.0).contains(&self.reasoning_share) {
            bad_share("reasoning_share", self.reasoning_share)
        } else if !(0.0..=1.0).contains(&self.cached_share) {
            bad_share("cached_share", self.cached_share)
        } else if self.name.is_empty() || !self.name.bytes().all(|b| b.is_ascii_graphic()) {
            let name = &self.name;
            format!("name {name:?} must be printable ASCII without spaces")
        } else if !self.vendor.is_empty() && !strict::vendor_names().any(|name| name == self.vendor)
        {
            let names: Vec<_> = strict::vendor_names().collect();
            format!("vendor {:?} is none of {}", self.vendor, names.join(", "))
        } else {
            return Ok(());
        };
        Err(MockError::Options { problem })
    }
}

/// Why a mock could not start or take a change.
#[derive(Debug, thiserror::Error)]
pub enum MockError {
    #[error(
        "mock provider cannot listen on {addr}: {source}; choose another address or port (0 takes a free one)"
    )]
    Listen {
        addr: SocketAddr,
        source: std::io::Error,
    },
    #[error("mock provider options: {problem}")]
    Options { problem: String },
    #[error("mock provider faults: {0}")]
    Fault(#[from] FaultError),
    #[error("mock provider cannot start a thread: {source}")]
    Thread { source: std::io::Error },
}

/// What can be changed while the mock runs; read once per call.
#[derive(Debug)]
struct MockBehaviour {
    ttft: Delay,
    inter_token: Delay,
    faults: FaultPlan,
}

/// What all connections of one mock share.
#[derive(Debug)]
struct MockState {
    options: MockOptions,
    behaviour: ArcSwap<MockBehaviour>,
    books: Arc<Books>,
    limits: MockLimits,
    fingerprint: String,
}

impl MockState {
    fn set_faults(&self, rules: Vec<FaultRule>) -> Result<(), FaultError> {
        let faults = FaultPlan::new(rules, self.options.seed)?;
        self.behaviour.rcu(|old| MockBehaviour {
            faults: faults.clone(),
            ..**old
        });
        Ok(())
    }

    fn set_latency(&self, ttft: Delay, inter_token: Delay) {
        self.behaviour.rcu(|old| MockBehaviour {
            ttft,
            inter_token,
            faults: old.faults.clone(),
        });
    }
}

/// Starts mock providers.
#[derive(Debug)]
pub struct MockProvider;

impl MockProvider {
    /// Listens and serves on threads of its own until the handle is shut down or dropped.
    pub fn start(options: MockOptions) -> Result<MockHandle, MockError> {
        options.check()?;
        let (listener, addr) = server::listen(options.listen)?;
        let shared = Arc::new(MockState {
            behaviour: ArcSwap::from_pointee(MockBehaviour {
                ttft: options.ttft,
                inter_token: options.inter_token,
                faults: FaultPlan::new(options.faults.clone(), options.seed)?,
            }),
            books: Arc::new(Books::new(&options.name)),
            limits: MockLimits::new(&options),
            fingerprint: text::fingerprint(options.seed),
            options,
        });
        let workers = server::spawn(listener, &shared)?;
        Ok(MockHandle {
            addr,
            shared,
            workers,
        })
    }
}

/// A running mock provider. Dropping it stops it.
#[derive(Debug)]
pub struct MockHandle {
    addr: SocketAddr,
    shared: Arc<MockState>,
    workers: server::Workers,
}

impl MockHandle {
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What an OpenAI SDK takes as `base_url`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    /// The base URL of its Gemini API.
    #[must_use]
    pub fn gemini_base_url(&self) -> String {
        format!("http://{}/v1beta", self.addr)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.options.name
    }

    /// What the mock saw and served so far.
    #[must_use]
    pub fn ledger(&self) -> MockLedger {
        self.shared.books.ledger()
    }

    /// Forgets what was counted so far; calls in flight are counted when they end.
    pub fn reset_ledger(&self) {
        self.shared.books.reset();
    }

    /// Replaces all fault rules; their counters start again.
    pub fn set_faults(&self, rules: Vec<FaultRule>) -> Result<(), MockError> {
        Ok(self.shared.set_faults(rules)?)
    }

    /// Changes the latencies for calls that begin from now on.
    pub fn set_latency(&self, ttft: Delay, inter_token: Delay) {
        self.shared.set_latency(ttft, inter_token);
    }

    /// Closes the listener and all connections, and waits for the threads.
    pub fn shutdown(self) {
        drop(self.workers);
    }
}
