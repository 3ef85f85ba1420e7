//! Passes librdkafka's log lines on to ours, at our levels.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use crate::caps::KAFKA_ERROR_REPEAT;

/// Reports errors of the client, each kind only so often: without brokers it has several a second.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    reported: Mutex<HashMap<i32, Instant>>,
}

impl Reporter {
    pub(crate) fn error(&self, error: &KafkaError, reason: &str) {
        let now = Instant::now();
        let kind = error.rdkafka_error_code().map_or(0, |code| code as i32);
        let mut reported = self.reported.lock();
        let recently = |at: &Instant| now.duration_since(*at) < KAFKA_ERROR_REPEAT;
        if !reported.get(&kind).is_some_and(recently) {
            tracing::warn!(%error, reason, "kafka client error");
            reported.insert(kind, now);
        }
    }
}

/// Runs what librdkafka calls back: a panic must not pass through it, which would end the process.
pub(crate) fn contain(callback: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(callback)).is_err() {
        tracing::error!("a callback of librdkafka panicked; the client goes on");
    }
}

/// librdkafka logs at `error` what it recovers from by itself, so none of it is an error of ours.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::warn!(facility, message, "librdkafka");
        }
        RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning
        | RDKafkaLogLevel::Notice
        | RDKafkaLogLevel::Info
        | RDKafkaLogLevel::Debug => tracing::debug!(facility, message, "librdkafka"),
    }
}
