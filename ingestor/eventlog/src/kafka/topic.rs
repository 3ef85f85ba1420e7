//! Creates the topic if it is missing.

use std::fmt;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use tokio::runtime::Runtime;

use super::KafkaOptions;
use crate::caps::{ADMIN_TIMEOUT, MESSAGE_BYTES_MAX};

/// Asks whether the topic is there, and makes it if not. Blocks for some seconds if no broker
/// answers.
pub(crate) fn ensure_topic(options: &KafkaOptions) -> Result<(), KafkaError> {
    let admin = AdminClient::from_config(&options.admin())?;
    if exists(&admin, &options.topic)? {
        warn_of_short_retention(&admin, options);
        return Ok(());
    }
    let retention = options.retention.map(|it| it.as_millis().to_string());
    let settings = [
        ("cleanup.policy", "delete"),
        ("retention.ms", retention.as_deref().unwrap_or("-1")),
        ("retention.bytes", "-1"),
    ];
    create(&admin, options, &settings)
}

/// Somebody else may have made the topic.
fn warn_of_short_retention(admin: &AdminClient<DefaultClientContext>, options: &KafkaOptions) {
    let topic = &options.topic;
    match TopicRetention::ask(admin, topic) {
        Ok(kept) if kept.is_less_than(options.retention) => tracing::warn!(
            %topic, "the topic keeps events for {kept}, which is less than the wanted {}: an ingestor that is away for longer loses events",
            TopicRetention { time: options.retention, bytes: None }
        ),
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, %topic, "failed to ask for the topic's retention"),
    }
}

/// How long a topic keeps events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicRetention {
    /// `None` is for good.
    pub time: Option<Duration>,
    /// How many bytes a partition keeps at most.
    pub bytes: Option<u64>,
}

impl TopicRetention {
    pub(super) fn ask(
        admin: &AdminClient<DefaultClientContext>,
        topic: &str,
    ) -> Result<Self, KafkaError> {
        let runtime = runtime()?;
        let topic = [ResourceSpecifier::Topic(topic)];
        let described = runtime.block_on(admin.describe_configs(&topic, &waits()))?;
        let mut retention = Self {
            time: None,
            bytes: None,
        };
        for resource in described {
            let resource = resource.map_err(KafkaError::AdminOp)?;
            // librdkafka gives a topic that does not exist as one without settings.
            if resource.entries.is_empty() {
                let unknown = RDKafkaErrorCode::UnknownTopicOrPartition;
                return Err(KafkaError::AdminOp(unknown));
            }
            // -1 is no bound.
            let number = |name| resource.get(name)?.value.as_ref()?.parse::<u64>().ok();
            retention.time = number("retention.ms").map(Duration::from_millis);
            retention.bytes = number("retention.bytes");
        }
        Ok(retention)
    }

    /// Whether events may go before that time; `None` is never.
    #[must_use]
    pub fn is_less_than(&self, wanted: Option<Duration>) -> bool {
        let is_shorter = match (self.time, wanted) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(kept), Some(wanted)) => kept < wanted,
        };
        is_shorter || self.bytes.is_some()
    }
}

impl fmt::Display for TopicRetention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.time {
            None => f.write_str("ever")?,
            Some(time) => write!(f, "{:.1} h", time.as_secs_f64() / 3600.0)?,
        }
        match self.bytes {
            None => Ok(()),
            Some(bytes) => write!(f, " or {bytes} bytes of a partition"),
        }
    }
}

fn waits() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ADMIN_TIMEOUT))
        .operation_timeout(Some(ADMIN_TIMEOUT))
}

fn runtime() -> Result<Runtime, KafkaError> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| KafkaError::AdminOpCreation(error.to_string()))
}

/// What a topic of one partition keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordsKept {
    /// The latest record of each key.
    Latest,
    /// Every record, for good.
    All,
}

/// The same for a topic of one partition.
pub(crate) fn ensure_record_topic(
    options: &KafkaOptions,
    kept: RecordsKept,
) -> Result<(), KafkaError> {
    let options = KafkaOptions {
        partitions: 1,
        ..options.clone()
    };
    let settings: &[_] = match kept {
        RecordsKept::Latest => &[("cleanup.policy", "compact")],
        RecordsKept::All => &[
            ("cleanup.policy", "delete"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
        ],
    };
    ensure(&options, settings)
}

fn ensure(options: &KafkaOptions, settings: &[(&str, &str)]) -> Result<(), KafkaError> {
    let admin = AdminClient::from_config(&options.admin())?;
    if exists(&admin, &options.topic)? {
        return Ok(());
    }
    create(&admin, options, settings)
}

fn exists(admin: &AdminClient<DefaultClientContext>, topic: &str) -> Result<bool, KafkaError> {
    let metadata = admin.inner().fetch_metadata(Some(topic), ADMIN_TIMEOUT)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    Ok(found.is_some_and(|found| found.error().is_none() && !found.partitions().is_empty()))
}

fn create(
    admin: &AdminClient<DefaultClientContext>,
    options: &KafkaOptions,
    settings: &[(&str, &str)],
) -> Result<(), KafkaError> {
    let message_bytes_max = MESSAGE_BYTES_MAX.to_string();
    let replication = TopicReplication::Fixed(options.replication.unwrap_or(-1));
    let topic = NewTopic::new(&options.topic, options.partitions, replication)
        .set("max.message.bytes", &message_bytes_max);
    let topic = settings
        .iter()
        .fold(topic, |topic, (name, value)| topic.set(name, value));
    let results = runtime()?.block_on(admin.create_topics([&topic], &waits()))?;
    for result in results {
        match result {
            // Another process was faster.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(KafkaError::AdminOp(code)),
        }
    }
    tracing::info!(topic = %options.topic, partitions = options.partitions, "created the topic");
    Ok(())
}
