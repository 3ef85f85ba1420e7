//! One request from its arrival to its event.
//!
//! Whoever holds the exchange is answering the request. However that ends, by the last byte, by a
//! client that leaves, or by a bug, the request gets its events exactly once: dropping an exchange
//! that nobody finished is how a client's leaving shows itself.

use std::sync::Arc;

use http::HeaderMap;
use weir_eventlog::{AppendError, Appended};
use weir_governance::admission::ReservedBudget;
use weir_governance::clock::Moment;
use weir_governance::ledger::Charge;
use weir_governance::thresholds::ThresholdCrossing;
use weir_limits::{Actual, BudgetAmount, Permit};

use crate::record::payload::{Closed, Taken};
use crate::record::trail::{CLIENT_GONE, Failure, Trail};
use crate::request::drain::Waiting;
use crate::request::worker::Worker;

/// Status of a request whose client left before there was an answer, as nginx counts it.
pub(crate) const CLIENT_CLOSED_REQUEST: u16 = 499;

pub(crate) struct Exchange {
    pub(crate) worker: Arc<Worker>,
    pub(crate) trail: Trail,
    /// What the request holds of limits and budgets.
    pub(crate) permit: Option<Permit<ReservedBudget>>,
    /// What is kept of what the client sends and gets, if anything is.
    pub(crate) payload: Option<Box<Taken>>,
    /// What the client is told about its limits.
    pub(crate) told: HeaderMap,
    /// The client, where its answer is read without it.
    pub(crate) waiting: Option<Arc<Waiting>>,
    finished: bool,
}

impl Exchange {
    pub(crate) fn begin(worker: Arc<Worker>, trail: Trail) -> Self {
        worker.shared.telemetry.in_flight.inc();
        Self {
            worker,
            trail,
            permit: None,
            payload: None,
            told: HeaderMap::new(),
            waiting: None,
            finished: false,
        }
    }

    /// Writes the events. Must happen before the last byte of the response is handed to the client,
    /// so that no answer is ever complete without them.
    pub(crate) fn finish(&mut self) -> Result<Appended, AppendError> {
        self.finished = true;
        self.trail.drop_spare();
        self.trail.price();
        for message in self.trail.messages_mut() {
            self.worker.shared.payloads.clean(message);
        }
        let is_complete = self.trail.failure.is_none();
        let payload = self.payload.take().map(|taken| taken.close(is_complete));
        let payload = payload.as_ref();
        let telemetry = &self.worker.shared.telemetry;
        telemetry.in_flight.dec();
        telemetry.count(&self.trail);
        let Some((permit, charges)) = self.charges() else {
            return self.append(payload, &[]);
        };
        if charges.is_empty() {
            let reached = self.settle(permit);
            return self.append(payload, &reached);
        }
        let worker = self.worker.clone();
        let (stream, seq) = (worker.stream.id(), worker.stream.next_seq());
        // A line in the ledger, then the events: a kill in between leaves a line that does not count.
        worker.shared.ledger.charge(stream, seq, charges, || {
            let reached = self.settle(permit);
            self.append(payload, &reached)
        })
    }

    fn append(
        &mut self,
        payload: Option<&Closed>,
        reached: &[ThresholdCrossing],
    ) -> Result<Appended, AppendError> {
        let said: Vec<String> = reached.iter().map(ThresholdCrossing::json).collect();
        let mut events = self.trail.events();
        events.extend(payload.map(|payload| payload.event(&self.trail)));
        let now_ms = Moment::now().unix_ms();
        let pairs = reached.iter().zip(&said);
        events.extend(pairs.map(|(reached, said)| reached.event(said, now_ms)));
        self.worker.stream.append(&mut events)
    }

    /// What the request holds, and what each of its budgets is charged.
    fn charges(&mut self) -> Option<(Permit<ReservedBudget>, Vec<Charge>)> {
        let permit = self.permit.take()?;
        let subject = self.trail.subject()?;
        let actual = actual(&self.trail);
        let charges = permit.budgets();
        let charges =
            charges.filter_map(|(account, reserved)| account.charge(&subject, &actual, reserved));
        let charges = charges.collect();
        Some((permit, charges))
    }

    /// Puts what the request used in the place of what it had reserved.
    fn settle(&self, permit: Permit<ReservedBudget>) -> Vec<ThresholdCrossing> {
        let mut reached = Vec::new();
        let trail = &self.trail;
        let Some(subject) = trail.subject() else {
            return reached;
        };
        permit.settle(&actual(trail), Moment::now().unix_us, |budget, crossing| {
            reached.push(ThresholdCrossing::new(&budget, &subject, &crossing));
        });
        reached
    }

    /// Whether nobody waits for the answer, which goes on all the same.
    pub(crate) fn has_client_left(&self) -> bool {
        self.waiting
            .as_ref()
            .is_some_and(|client| client.has_left())
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    fn abandon(&mut self) {
        let (kind, message) = if std::thread::panicking() {
            ("internal", "the gateway failed on this request")
        } else if *self.worker.shared.stopped.borrow() {
            (
                "shutdown",
                "the gateway was stopped before the answer was complete",
            )
        } else {
            (
                CLIENT_GONE,
                "the client left before the answer was complete",
            )
        };
        self.trail.abandon(kind, message);
        if let Err(error) = self.finish() {
            tracing::error!(%error, request_id = %self.trail.request_id, "write the events");
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.finished {
            self.abandon();
        }
    }
}

/// What was used, by what the events say: the same figures that SQL sums up.
fn actual(trail: &Trail) -> Actual {
    let delivered = trail
        .attempts
        .iter()
        .rev()
        .find(|attempt| attempt.delivered);
    let usage = delivered.map(|attempt| attempt.usage).unwrap_or_default();
    let tokens = usage.input_tokens.unwrap_or(0) + usage.output_tokens.unwrap_or(0);
    Actual {
        tokens,
        pico_usd: trail
            .cost()
            .map(|cost| BudgetAmount::from(cost.0.unsigned_abs())),
        at_ms: trail.arrived.unix_ms(),
    }
}

impl Trail {
    /// Ends the trail where it stands.
    fn abandon(&mut self, kind: &'static str, message: &str) {
        if self.status == 0 {
            self.status = CLIENT_CLOSED_REQUEST;
        }
        self.drop_spare();
        let mut under_way: Vec<_> = self.attempts.iter_mut().filter(|it| !it.ended).collect();
        // What a client leaves was done for it: leaving early must not be free. Of two tries one would
        // have been its answer.
        if let Some(attempt) = under_way.first_mut().filter(|_| kind == CLIENT_GONE) {
            attempt.delivered = true;
        }
        for attempt in under_way {
            attempt.fail(kind, message.to_owned());
        }
        self.failure.get_or_insert_with(|| Failure {
            stage: if self.attempts.is_empty() {
                "receive"
            } else {
                "relay"
            },
            kind,
            message: message.to_owned(),
        });
    }
}
