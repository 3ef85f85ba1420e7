//! Creates the topic if it is missing.

use std::collections::HashMap;
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
        Ok(Self::of(&settings(admin, topic)?))
    }

    fn of(settings: &HashMap<String, String>) -> Self {
        // -1 is no bound.
        let number = |name| settings.get(name)?.parse::<u64>().ok();
        Self {
            time: number("retention.ms").map(Duration::from_millis),
            bytes: number("retention.bytes"),
        }
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

/// The settings of a topic, by name.
fn settings(
    admin: &AdminClient<DefaultClientContext>,
    topic: &str,
) -> Result<HashMap<String, String>, KafkaError> {
    let topic = [ResourceSpecifier::Topic(topic)];
    let described = runtime()?.block_on(admin.describe_configs(&topic, &waits()))?;
    let mut settings = HashMap::new();
    for resource in described {
        let resource = resource.map_err(KafkaError::AdminOp)?;
        let entries = resource.entries.into_iter();
        settings.extend(entries.filter_map(|entry| Some((entry.name, entry.value?))));
    }
    // librdkafka gives a topic that does not exist as one without settings.
    match settings.is_empty() {
        true => Err(KafkaError::AdminOp(
            RDKafkaErrorCode::UnknownTopicOrPartition,
        )),
        false => Ok(settings),
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

impl RecordsKept {
    /// Which of the records that are to be kept a topic with these settings loses.
    fn lost_with(self, settings: &HashMap<String, String>) -> Option<String> {
        let policy = settings.get("cleanup.policy").map_or("", String::as_str);
        let has = |word| policy.split(',').any(|it| it.trim() == word);
        let retention = TopicRetention::of(settings);
        if has("delete") && retention.is_less_than(None) {
            return Some(format!(
                "it keeps records for {retention} (cleanup.policy={policy})"
            ));
        }
        let compacts = self == Self::All && has("compact");
        compacts.then(|| "it keeps only the latest record of a key (cleanup.policy)".to_owned())
    }
}

/// The same for a topic of one partition. `false` if it is not there, and not to be made.
pub(crate) fn ensure_record_topic(
    options: &KafkaOptions,
    kept: RecordsKept,
    make: bool,
) -> Result<bool, KafkaError> {
    let options = KafkaOptions {
        partitions: 1,
        ..options.clone()
    };
    let policy = match kept {
        RecordsKept::Latest => "compact",
        RecordsKept::All => "delete",
    };
    // Should somebody let it delete, too, it still keeps everything.
    let settings = [
        ("cleanup.policy", policy),
        ("retention.ms", "-1"),
        ("retention.bytes", "-1"),
    ];
    let admin = AdminClient::from_config(&options.admin())?;
    if exists(&admin, &options.topic)? {
        warn_of_lost_records(&admin, &options.topic, kept);
    } else if make {
        create(&admin, &options, &settings)?;
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// Somebody else may have made the topic.
fn warn_of_lost_records(admin: &AdminClient<DefaultClientContext>, topic: &str, kept: RecordsKept) {
    match settings(admin, topic) {
        Ok(settings) => {
            if let Some(lost) = kept.lost_with(&settings) {
                tracing::error!(%topic, "records get lost from the topic: {lost}");
            }
        }
        Err(error) => tracing::debug!(%error, %topic, "failed to ask for the topic's settings"),
    }
}

/// What a topic loses of the latest records of its keys; `None` if it keeps them for good. Blocks for some
/// seconds if no broker answers.
pub fn records_lost(options: &KafkaOptions) -> Result<Option<String>, KafkaError> {
    let admin = AdminClient::from_config(&options.admin())?;
    Ok(RecordsKept::Latest.lost_with(&settings(&admin, &options.topic)?))
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
