//! Creates the topic if it is missing.

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::KafkaOptions;
use crate::caps::{ADMIN_TIMEOUT, MESSAGE_BYTES_MAX};

/// Asks whether the topic is there, and makes it if not. Blocks for some seconds if no broker
/// answers.
pub(crate) fn ensure_topic(options: &KafkaOptions) -> Result<(), KafkaError> {
    ensure(options, &[("cleanup.policy", "delete")])
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
    let waits = AdminOptions::new()
        .request_timeout(Some(ADMIN_TIMEOUT))
        .operation_timeout(Some(ADMIN_TIMEOUT));

    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| KafkaError::AdminOpCreation(error.to_string()))?;
    let results = runtime.block_on(admin.create_topics([&topic], &waits))?;
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
