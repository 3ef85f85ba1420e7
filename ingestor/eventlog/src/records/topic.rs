//! The log in a compacted topic of one partition.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

use super::{NewRecords, REMOVED, RecordLogError};
use crate::caps::{RECORD_APPEND_MAX, RECORD_POLL, RECORD_QUEUE_BYTES, RECORD_QUEUE_RECORDS};
use crate::kafka::{KafkaOptions, RecordsKept, contain, ensure_record_topic, log as kafka_log};

fn failed(action: &'static str, topic: &str, reason: impl ToString) -> RecordLogError {
    RecordLogError::Topic {
        action,
        topic: topic.to_owned(),
        reason: reason.to_string(),
    }
}

/// What became of the records that one call sent.
#[derive(Debug, Default)]
struct Delivered(Mutex<(usize, Option<KafkaError>)>);

impl ClientContext for Delivered {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        contain(|| kafka_log(level, facility, message));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        contain(|| tracing::debug!(%error, reason, "kafka client error"));
    }
}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        contain(|| {
            let mut delivered = self.0.lock();
            match result {
                Ok(_) => delivered.0 += 1,
                Err((error, _)) => delivered.1 = Some(error.clone()),
            }
        });
    }
}

type RecordProducer = BaseProducer<Delivered>;

/// Makes the topic if it is not there.
fn connect(options: &KafkaOptions, kept: RecordsKept) -> KafkaResult<RecordProducer> {
    ensure_record_topic(options, kept)?;
    options
        .producer(RECORD_QUEUE_RECORDS, RECORD_QUEUE_BYTES)
        .create_with_context(Delivered::default())
}

pub(super) fn append(
    options: &KafkaOptions,
    kept: RecordsKept,
    records: &[(String, String)],
) -> Result<(), RecordLogError> {
    let fail = |error| failed("append to", &options.topic, error);
    let producer = connect(options, kept).map_err(fail)?;
    for (key, record) in records {
        let keyed = BaseRecord::to(&options.topic).partition(0).key(key);
        // Without a payload it is what compaction takes for a removal.
        let record = match record.as_str() {
            REMOVED => keyed,
            record => keyed.payload(record),
        };
        producer.send(record).map_err(|(error, _)| fail(error))?;
    }
    let deadline = Instant::now() + RECORD_APPEND_MAX;
    loop {
        producer.poll(RECORD_POLL);
        let (count, error) = producer.context().0.lock().clone();
        match error {
            Some(error) => return Err(fail(error)),
            None if count == records.len() => return Ok(()),
            None if Instant::now() >= deadline => break,
            None => {}
        }
    }
    // They may still be in flight; a reader of the topic finds out.
    producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    let seconds = RECORD_APPEND_MAX.as_secs();
    let reason = format!("no acknowledgement within {seconds} s");
    Err(failed("append to", &options.topic, reason))
}

/// Sends records without waiting for them: for what is sent again and again.
pub struct RecordSender {
    producer: RecordProducer,
    topic: String,
}

impl std::fmt::Debug for RecordSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordSender")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl RecordSender {
    /// Makes the topic if it is not there.
    pub fn open(options: &KafkaOptions) -> Result<Self, RecordLogError> {
        let topic = options.topic.clone();
        match connect(options, RecordsKept::Latest) {
            Ok(producer) => Ok(Self { producer, topic }),
            Err(error) => Err(failed("send to", &topic, error)),
        }
    }

    /// Puts a record on its way. `false` if there is no room: it may be sent again later.
    pub fn send(&self, key: &str, record: &str) -> bool {
        let record = BaseRecord::to(&self.topic)
            .partition(0)
            .key(key)
            .payload(record);
        let sent = self.producer.send(record).is_ok();
        self.producer.poll(Duration::ZERO);
        sent
    }

    /// Waits until what was sent is in the log, at most so long. Dropping a sender without that
    /// discards what is still in flight.
    pub fn flush(&self, wait_max: Duration) -> Result<(), RecordLogError> {
        let flushed = self.producer.flush(wait_max);
        flushed.map_err(|error| failed("send to", &self.topic, error))
    }
}

pub(super) struct TopicReader {
    options: KafkaOptions,
    kept: RecordsKept,
    /// Made when it is first needed.
    consumer: Option<BaseConsumer>,
    is_whole: bool,
}

impl std::fmt::Debug for TopicReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicReader")
            .field("topic", &self.options.topic)
            .finish_non_exhaustive()
    }
}

impl TopicReader {
    pub(super) fn new(options: KafkaOptions, kept: RecordsKept) -> Self {
        Self {
            options,
            kept,
            consumer: None,
            is_whole: false,
        }
    }

    /// Reads up to the end of the topic. When it was reached once, nothing is waited for.
    pub(super) fn read(&mut self, wait_max: Duration) -> Result<NewRecords, RecordLogError> {
        let consumer = match self.consumer.take() {
            Some(consumer) => consumer,
            None => {
                let fail = |error| failed("read", &self.options.topic, error);
                open(&self.options, self.kept).map_err(fail)?
            }
        };
        let consumer = self.consumer.insert(consumer);
        let deadline = Instant::now() + wait_max;
        let mut records = Vec::new();
        loop {
            match consumer.poll(RECORD_POLL.min(wait_max)) {
                Some(Ok(message)) => {
                    if let Some(Ok(text)) = message.payload().map(std::str::from_utf8) {
                        records.push(text.to_owned());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.is_whole = true;
                    break;
                }
                Some(Err(error)) => tracing::debug!(%error, "failed to read a record topic"),
                None if self.is_whole => break,
                None => {}
            }
            if Instant::now() >= deadline && records.is_empty() {
                break;
            }
        }
        Ok(NewRecords {
            records,
            is_whole: self.is_whole,
        })
    }
}

fn open(options: &KafkaOptions, kept: RecordsKept) -> KafkaResult<BaseConsumer> {
    ensure_record_topic(options, kept)?;
    let mut config = options.consumer("weir-records");
    config.set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create()?;
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(&options.topic, 0, Offset::Beginning)?;
    consumer.assign(&partitions)?;
    Ok(consumer)
}
