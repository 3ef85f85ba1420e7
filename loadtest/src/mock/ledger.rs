//! What the mock saw and served, counted per key, per model and in total.
//!
//! Each call is opened once and settled once: by the answer's last byte, by a fault, or by [`LedgerCall`]'s drop when the caller left.
//! Settling comes *before* the last bytes are handed to the connection, so a client that has its answer finds it counted.
//! At rest (`in_flight` = 0): `calls` = Σ `by_status` + `unanswered`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::fault::FaultKind;

/// A snapshot of the counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MockLedger {
    pub name: String,
    /// Connections that carried at least one request of the provider's API.
    pub connections: u64,
    /// Answers to `GET /v1/models`, which are not calls.
    pub model_lists: u64,
    /// Calls that a strict mock refused, by rule.
    #[serde(default)]
    pub refused: BTreeMap<String, u64>,
    pub total: Tally,
    /// By key, as configured; unknown keys are masked, `-` is no key.
    pub by_key: BTreeMap<String, Tally>,
    /// By requested model; `-` where the request was refused before one was read.
    pub by_model: BTreeMap<String, Tally>,
}

/// Counts of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub calls: u64,
    /// Calls that asked for a stream.
    pub streams: u64,
    pub in_flight: u64,
    /// Answers that were handed over whole, error answers among them.
    pub completed: u64,
    /// Answers begun, by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Calls that ended without even a status line.
    pub unanswered: u64,
    /// Callers that left before their answer was whole.
    pub disconnects: u64,
    /// Faults decided on, by kind.
    pub faults: BTreeMap<FaultKind, u64>,
    /// What was used up: the whole answer of a plain call, the tokens sent so far of a stream that broke off.
    pub served: TokenCounts,
    /// What the usage blocks said that were handed over whole: what a gateway can know.
    pub reported: TokenCounts,
}

/// Token counts. `input` includes `cached_input`, `output` includes `reasoning`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    pub input: u64,
    pub cached_input: u64,
    pub output: u64,
    pub reasoning: u64,
}

impl TokenCounts {
    /// Adds another count to this one.
    pub fn add(&mut self, other: Self) {
        self.input += other.input;
        self.cached_input += other.cached_input;
        self.output += other.output;
        self.reasoning += other.reasoning;
    }
}

/// Distinct keys and models that are counted apart: a caller must not be able to grow the ledger without end.
const LABELS_MAX: usize = 1_000;
/// Where the rest is counted.
const OTHERS: &str = "(others)";

/// How a call ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settlement {
    pub(super) status: Option<u16>,
    pub(super) completed: bool,
    pub(super) disconnected: bool,
    pub(super) served: TokenCounts,
    pub(super) reported: TokenCounts,
}

impl Tally {
    /// What a reset leaves: the calls still open, so that `calls` covers them when they settle.
    fn only_in_flight(&self) -> Self {
        Self {
            calls: self.in_flight,
            in_flight: self.in_flight,
            ..Self::default()
        }
    }

    fn open(&mut self, streamed: bool, fault: Option<FaultKind>) {
        self.calls += 1;
        self.in_flight += 1;
        self.streams += u64::from(streamed);
        if let Some(kind) = fault {
            *self.faults.entry(kind).or_default() += 1;
        }
    }

    fn settle(&mut self, end: &Settlement) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.completed += u64::from(end.completed);
        self.disconnects += u64::from(end.disconnected);
        match end.status {
            Some(status) => *self.by_status.entry(status).or_default() += 1,
            None => self.unanswered += 1,
        }
        self.served.add(end.served);
        self.reported.add(end.reported);
    }
}

/// The ledger while it is written.
#[derive(Debug)]
pub(super) struct Books {
    ledger: Mutex<MockLedger>,
    /// Numbers the calls that were understood; never reset, so that ids stay unique.
    numbers: AtomicU64,
}

impl Books {
    pub(super) fn new(name: &str) -> Self {
        Self {
            ledger: Mutex::new(MockLedger {
                name: name.to_owned(),
                ..MockLedger::default()
            }),
            numbers: AtomicU64::new(0),
        }
    }

    pub(super) fn ledger(&self) -> MockLedger {
        self.ledger.lock().clone()
    }

    pub(super) fn reset(&self) {
        let mut ledger = self.ledger.lock();
        let name = std::mem::take(&mut ledger.name);
        let in_flight = |tallies: &BTreeMap<String, Tally>| {
            tallies
                .iter()
                .filter(|(_, tally)| tally.in_flight > 0)
                .map(|(label, tally)| (label.clone(), tally.only_in_flight()))
                .collect()
        };
        *ledger = MockLedger {
            name,
            total: ledger.total.only_in_flight(),
            by_key: in_flight(&ledger.by_key),
            by_model: in_flight(&ledger.by_model),
            ..MockLedger::default()
        };
    }

    pub(super) fn connected(&self) {
        self.ledger.lock().connections += 1;
    }

    pub(super) fn listed_models(&self) {
        self.ledger.lock().model_lists += 1;
    }

    pub(super) fn refused(&self, rule: &str) {
        let mut ledger = self.ledger.lock();
        *ledger.refused.entry(rule.to_owned()).or_default() += 1;
    }

    /// Opens a call. It is settled when the returned value is settled or dropped.
    pub(super) fn open(
        self: &Arc<Self>,
        key: Arc<str>,
        model: &str,
        streamed: bool,
        fault: Option<FaultKind>,
    ) -> LedgerCall {
        self.each(&key, model, |tally| tally.open(streamed, fault));
        LedgerCall {
            books: Arc::clone(self),
            key,
            model: model.into(),
            so_far: Settlement {
                disconnected: true,
                ..Settlement::default()
            },
            settled: false,
        }
    }

    /// The number of the next call that is answered, from 1.
    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn each(&self, key: &str, model: &str, change: impl Fn(&mut Tally)) {
        let mut ledger = self.ledger.lock();
        change(&mut ledger.total);
        change_one(&mut ledger.by_key, key, &change);
        change_one(&mut ledger.by_model, model, &change);
    }
}

/// Changes the tally of `label`; `BTreeMap::entry` would need an owned label on every call.
fn change_one(tallies: &mut BTreeMap<String, Tally>, label: &str, change: impl FnOnce(&mut Tally)) {
    let full = tallies.len() >= LABELS_MAX && !tallies.contains_key(label);
    let label = if full { OTHERS } else { label };
    match tallies.get_mut(label) {
        Some(tally) => change(tally),
        None => change(tallies.entry(label.to_owned()).or_default()),
    }
}

/// A call in the ledger, held by whatever is serving it. Dropped unsettled, it is settled as a caller who left.
#[derive(Debug)]
pub(super) struct LedgerCall {
    books: Arc<Books>,
    key: Arc<str>,
    model: Box<str>,
    so_far: Settlement,
    settled: bool,
}

impl LedgerCall {
    /// The head goes out with this status.
    pub(super) fn began(&mut self, status: u16) {
        self.so_far.status = Some(status);
    }

    /// So much was used up by now; holds for a caller who leaves.
    pub(super) fn served(&mut self, tokens: TokenCounts) {
        self.so_far.served = tokens;
    }

    /// The answer is whole; `reported` is what its usage block said.
    pub(super) fn complete(&mut self, reported: TokenCounts) {
        self.so_far.completed = true;
        self.so_far.reported = reported;
        self.end();
    }

    /// The mock ended the answer: it is whole, or a fault broke it off.
    pub(super) fn end(&mut self) {
        self.so_far.disconnected = false;
        self.settle();
    }

    fn settle(&mut self) {
        if !self.settled {
            self.settled = true;
            self.books
                .each(&self.key, &self.model, |tally| tally.settle(&self.so_far));
        }
    }
}

impl Drop for LedgerCall {
    fn drop(&mut self) {
        self.settle();
    }
}
