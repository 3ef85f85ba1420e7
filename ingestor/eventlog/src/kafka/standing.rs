//! How far behind a topic's readers are, and how long it keeps what they have not read.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::config::FromClientConfig as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::KafkaOptions;
use super::topic::TopicRetention;
use crate::caps::ADMIN_TIMEOUT;
use crate::clock::unix_us;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicStanding {
    pub retention: TopicRetention,
    /// Age of the oldest event that the group has not committed; `None` if there is none.
    pub unread: Option<Duration>,
    /// Events that Kafka deleted before the group committed them.
    pub deleted: u64,
}

/// Asks how a topic stands with a consumer group. Blocks for some seconds if no broker answers.
pub fn topic_standing(options: &KafkaOptions, group: &str) -> Result<TopicStanding, KafkaError> {
    let topic = &options.topic;
    let admin = AdminClient::from_config(&options.admin())?;
    let retention = TopicRetention::ask(&admin, topic)?;
    let consumer: BaseConsumer = options.consumer(group).create()?;
    let metadata = consumer.fetch_metadata(Some(topic), ADMIN_TIMEOUT)?;
    let mut wanted = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|it| it.partitions()) {
        wanted.add_partition(topic, partition.id());
    }
    let committed = consumer.committed_offsets(wanted, ADMIN_TIMEOUT)?;
    let mut deleted = 0;
    let mut unread = TopicPartitionList::new();
    for partition in committed.elements() {
        let number = partition.partition();
        let (low, high) = consumer.fetch_watermarks(topic, number, ADMIN_TIMEOUT)?;
        let next = match partition.offset() {
            Offset::Offset(next) => next,
            // Nothing was committed yet: it is read from the beginning.
            _ => low,
        };
        deleted += u64::try_from(low - next).unwrap_or(0);
        if next.max(low) < high {
            unread.add_partition_offset(topic, number, Offset::Offset(next.max(low)))?;
        }
    }
    let oldest_ms = oldest_ms(&consumer, &unread)?;
    let now_ms = i64::try_from(unix_us() / 1000).unwrap_or(i64::MAX);
    let age = |then_ms| Duration::from_millis(u64::try_from(now_ms - then_ms).unwrap_or(0));
    Ok(TopicStanding {
        retention,
        unread: oldest_ms.map(age),
        deleted,
    })
}

/// The earliest time of the messages at these offsets, in milliseconds since 1970.
fn oldest_ms(
    consumer: &BaseConsumer,
    offsets: &TopicPartitionList,
) -> Result<Option<i64>, KafkaError> {
    let mut open: BTreeSet<i32> = offsets.elements().iter().map(|it| it.partition()).collect();
    consumer.assign(offsets)?;
    let begun = Instant::now();
    let mut oldest: Option<i64> = None;
    while !open.is_empty() && begun.elapsed() < ADMIN_TIMEOUT {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message?;
        if open.remove(&message.partition())
            && let Some(ms) = message.timestamp().to_millis()
        {
            oldest = Some(oldest.map_or(ms, |oldest| oldest.min(ms)));
        }
    }
    Ok(oldest)
}
