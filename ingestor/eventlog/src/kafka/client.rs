//! What librdkafka has to say goes into our log, at our levels.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

/// How often the same trouble is reported.
const REPEAT: Duration = Duration::from_secs(30);

/// Reports errors of the client, each kind only so often: without brokers it has several a second.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    last: Mutex<Option<(String, Instant)>>,
}

impl Reporter {
    pub(crate) fn error(&self, error: &KafkaError, reason: &str) {
        let kind = error.to_string();
        let now = Instant::now();
        let mut last = self.last.lock();
        let repeated = last
            .as_ref()
            .is_some_and(|(same, at)| *same == kind && now.duration_since(*at) < REPEAT);
        if !repeated {
            tracing::warn!(%error, reason, "kafka is in trouble");
            *last = Some((kind, now));
        }
    }
}

/// librdkafka logs at `error` what it gets over by itself, so nothing of it is one of ours.
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
