//! One request from its arrival to its event.
//!
//! Whoever holds the exchange is answering the request. However that ends, by the last byte, by a
//! client that leaves, or by a bug, the request gets its events exactly once: dropping an exchange
//! that nobody finished is how a client's leaving shows itself.

use std::sync::Arc;

use http::HeaderMap;
use weir_eventlog::{AppendError, Appended};
use weir_limits::Permit;

use crate::admit::{self, Account, Reached};
use crate::clock::Moment;
use crate::pipeline::Worker;
use crate::trail::{Failure, Trail};

/// Status of a request whose client left before there was an answer, as nginx counts it.
pub(crate) const CLIENT_CLOSED_REQUEST: u16 = 499;

pub(crate) struct Exchange {
    pub(crate) worker: Arc<Worker>,
    pub(crate) trail: Trail,
    /// What the request holds of limits and budgets.
    pub(crate) permit: Option<Permit<Account>>,
    /// What the client is told about its limits.
    pub(crate) told: HeaderMap,
    finished: bool,
}

impl Exchange {
    pub(crate) fn begin(worker: Arc<Worker>, trail: Trail) -> Self {
        worker.shared.telemetry.in_flight.inc();
        Self {
            worker,
            trail,
            permit: None,
            told: HeaderMap::new(),
            finished: false,
        }
    }

    /// Writes the events. Must happen before the last byte of the response is handed to the client,
    /// so that no answer is ever complete without them.
    pub(crate) fn finish(&mut self) -> Result<Appended, AppendError> {
        self.finished = true;
        self.trail.drop_spare();
        let telemetry = &self.worker.shared.telemetry;
        telemetry.in_flight.dec();
        telemetry.count(&self.trail);
        let reached = self.settle();
        let said: Vec<String> = reached.iter().map(Reached::json).collect();
        let mut events = self.trail.events();
        let now_ms = Moment::now().unix_ms();
        let pairs = reached.iter().zip(&said);
        events.extend(pairs.map(|(reached, said)| reached.event(said, now_ms)));
        self.worker.stream.append(&mut events)
    }

    /// Puts what the request used in the place of what it had reserved.
    fn settle(&mut self) -> Vec<Reached> {
        let mut reached = Vec::new();
        let Some(permit) = self.permit.take() else {
            return reached;
        };
        let trail = &self.trail;
        let Some(identity) = &trail.identity else {
            return reached;
        };
        let model = trail.alias.as_deref().unwrap_or_default();
        let customer = trail.labels.customer.as_deref();
        let subject = identity.subject(model, trail.user.as_deref(), customer);
        permit.settle(
            &admit::actual(trail),
            Moment::now().unix_us,
            |account, crossing| {
                reached.push(Reached::new(&account, &subject, &crossing));
            },
        );
        reached
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
                "client_gone",
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

impl Trail {
    /// Ends the trail where it stands.
    fn abandon(&mut self, kind: &'static str, message: &str) {
        if self.status == 0 {
            self.status = CLIENT_CLOSED_REQUEST;
        }
        self.drop_spare();
        for attempt in self.attempts.iter_mut().filter(|attempt| !attempt.ended) {
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
