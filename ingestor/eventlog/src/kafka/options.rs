//! How Kafka is reached, and what of its client's settings is ours.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use crate::caps::{MESSAGE_BYTES_MAX, TOPIC_RETENTION};

/// Settings of librdkafka that decide whether events get lost or doubled. They can't be changed.
const OURS: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.max.bytes",
    "message.send.max.retries",
    "message.timeout.ms",
    "partitioner",
    "request.required.acks",
    "retries",
    "transactional.id",
];

/// How Kafka is reached.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    /// Default `weir.events`.
    pub topic: String,
    /// Partitions of the topic if it has to be made. More can't be added later without mixing up
    /// the order of streams that are being written.
    pub partitions: i32,
    /// Replicas of the topic if it has to be made; `None` leaves it to the brokers' default.
    pub replication: Option<i32>,
    /// How long the topic keeps events if it has to be made, however many they are; `None` is for good.
    /// An ingestor that is away for longer loses events.
    pub retention: Option<Duration>,
    /// Further settings of librdkafka, for example `security.protocol` and `sasl.*`.
    pub properties: BTreeMap<String, String>,
}

/// The options can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKafkaOptions {
    #[error("no brokers are given: name at least one as host:port")]
    NoBrokers,
    #[error("the topic's name is empty")]
    NoTopic,
    #[error("{partitions} partitions: a topic has at least one")]
    Partitions { partitions: i32 },
    #[error("{replicas} replicas: a topic has at least one")]
    Replication { replicas: i32 },
    #[error("the property {property} can't be set: that no event is lost or doubled depends on it")]
    Reserved { property: String },
    #[error("librdkafka does not accept the properties: {0}")]
    Refused(KafkaError),
}

impl KafkaOptions {
    #[must_use]
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic: "weir.events".to_owned(),
            partitions: 12,
            replication: None,
            retention: Some(TOPIC_RETENTION),
            properties: BTreeMap::new(),
        }
    }

    /// What is wrong with them, as far as it shows without a broker.
    pub fn check(&self) -> Result<(), InvalidKafkaOptions> {
        if self.brokers.trim().is_empty() {
            return Err(InvalidKafkaOptions::NoBrokers);
        }
        if self.topic.is_empty() {
            return Err(InvalidKafkaOptions::NoTopic);
        }
        if self.partitions < 1 {
            let partitions = self.partitions;
            return Err(InvalidKafkaOptions::Partitions { partitions });
        }
        if let Some(replicas) = self.replication.filter(|replicas| *replicas < 1) {
            return Err(InvalidKafkaOptions::Replication { replicas });
        }
        let mut properties = self.properties.keys();
        match properties.find(|property| OURS.contains(&property.as_str())) {
            Some(property) => Err(InvalidKafkaOptions::Reserved {
                property: property.clone(),
            }),
            None => {
                let accepted = self.consumer("weir").create_native_config();
                accepted.map_err(InvalidKafkaOptions::Refused).map(|_| ())
            }
        }
    }

    /// What an administrative call needs.
    pub(crate) fn admin(&self) -> ClientConfig {
        self.client(&[], &[])
    }

    pub(crate) fn producer(
        &self,
        queue_records_max: usize,
        queue_bytes_max: usize,
    ) -> ClientConfig {
        // The bound on bytes counts keys and headers too.
        let queue_bytes_max = queue_bytes_max + queue_records_max * 256;
        let queue_messages = (queue_records_max + 1).to_string();
        let queue_kbytes = (queue_bytes_max / 1024 + 1).to_string();
        let defaults = [
            ("linger.ms", "10"),
            ("compression.type", "zstd"),
            ("queue.buffering.max.messages", &queue_messages),
            ("queue.buffering.max.kbytes", &queue_kbytes),
            ("topic.metadata.propagation.max.ms", "10000"),
        ];
        let ours = [
            ("enable.idempotence", "true"),
            ("enable.gapless.guarantee", "true"),
            ("acks", "all"),
            // No limit: whatever is not acknowledged stays in the journal anyway, and giving one
            // message up while later ones arrive would leave a gap in its stream.
            ("message.timeout.ms", "0"),
            ("partitioner", "murmur2"),
        ];
        self.client(&defaults, &ours)
    }

    pub(crate) fn consumer(&self, group: &str) -> ClientConfig {
        let defaults = [
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("session.timeout.ms", "10000"),
            ("queued.max.messages.kbytes", "32768"),
            ("fetch.queue.backoff.ms", "20"),
            ("fetch.wait.max.ms", "100"),
        ];
        let ours = [
            ("group.id", group),
            ("auto.offset.reset", "earliest"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "false"),
        ];
        self.client(&defaults, &ours)
    }

    /// Settings that the properties may replace, then the properties, then what is ours.
    fn client(&self, defaults: &[(&str, &str)], ours: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        // By default the crate asks the global logger of a library that we don't use.
        config.set_log_level(RDKafkaLogLevel::Info);
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "weir")
            .set("allow.auto.create.topics", "false")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true")
            .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string());
        for (property, value) in defaults {
            config.set(*property, *value);
        }
        for (property, value) in &self.properties {
            config.set(property, value);
        }
        for (property, value) in ours {
            config.set(*property, *value);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_that_guards_events_is_refused_by_name() {
        let mut options = KafkaOptions::new("127.0.0.1:9092");
        assert_eq!(options.check(), Ok(()));
        options
            .properties
            .insert("sasl.username".into(), "weir".into());
        assert_eq!(options.check(), Ok(()));
        options.properties.insert("acks".into(), "0".into());
        let error = options.check().unwrap_err().to_string();
        assert!(error.contains("acks"), "{error}");
    }

    #[test]
    fn librdkafka_accepts_what_we_set() {
        use rdkafka::consumer::BaseConsumer;
        use rdkafka::producer::BaseProducer;

        let options = KafkaOptions::new("127.0.0.1:1");
        let producer: Result<BaseProducer, _> = options.producer(1000, 1 << 20).create();
        let consumer: Result<BaseConsumer, _> = options.consumer("weir-ingestor").create();
        assert!(producer.is_ok() && consumer.is_ok());
    }
}
