//! One request from its arrival to its event.
//!
//! Whoever holds the exchange is answering the request. However that ends, by the last byte, by a
//! client that leaves, or by a bug, the request gets its events exactly once: dropping an exchange
//! that nobody finished is how a client's leaving shows itself.

use std::sync::Arc;

use weir_eventlog::{AppendError, Appended};

use crate::pipeline::Worker;
use crate::trail::{Failure, Trail};

/// Status of a request whose client left before there was an answer, as nginx counts it.
pub(crate) const CLIENT_CLOSED_REQUEST: u16 = 499;

pub(crate) struct Exchange {
    pub(crate) worker: Arc<Worker>,
    pub(crate) trail: Trail,
    finished: bool,
}

impl Exchange {
    pub(crate) fn begin(worker: Arc<Worker>, trail: Trail) -> Self {
        worker.shared.telemetry.in_flight.inc();
        Self {
            worker,
            trail,
            finished: false,
        }
    }

    /// Writes the events. Must happen before the last byte of the response is handed to the client,
    /// so that no answer is ever complete without them.
    pub(crate) fn finish(&mut self) -> Result<Appended, AppendError> {
        self.finished = true;
        let telemetry = &self.worker.shared.telemetry;
        telemetry.in_flight.dec();
        telemetry.count(&self.trail);
        self.worker.stream.append(&mut self.trail.events())
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
        if let Some(attempt) = self.attempts.last_mut()
            && !attempt.ended
        {
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
