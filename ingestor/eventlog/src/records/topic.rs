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

use super::watch::TopicWatch;
use super::{NewRecords, REMOVED, RecordLogError};
use crate::caps::{RECORD_APPEND_MAX, RECORD_POLL, RECORD_QUEUE_BYTES, RECORD_QUEUE_RECORDS};
use crate::kafka::{KafkaOptions, RecordsKept, contain, ensure_record_topic, log as kafka_log};

pub(super) fn failed(action: &'static str, topic: &str, reason: impl ToString) -> RecordLogError {
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

fn connect(
    options: &KafkaOptions,
    kept: RecordsKept,
    make: bool,
) -> Result<RecordProducer, RecordLogError> {
    ensure(options, kept, make, "append to")?;
    options
        .producer(RECORD_QUEUE_RECORDS, RECORD_QUEUE_BYTES)
        .create_with_context(Delivered::default())
        .map_err(|error| failed("append to", &options.topic, error))
}

/// Makes the topic if it is not there, or says so.
fn ensure(
    options: &KafkaOptions,
    kept: RecordsKept,
    make: bool,
    action: &'static str,
) -> Result<(), RecordLogError> {
    let topic = &options.topic;
    match ensure_record_topic(options, kept, make) {
        Ok(true) => Ok(()),
        Ok(false) => Err(RecordLogError::Gone {
            topic: topic.clone(),
        }),
        Err(error) => Err(failed(action, topic, error)),
    }
}

pub(super) fn append(
    options: &KafkaOptions,
    kept: RecordsKept,
    make: bool,
    records: &[(String, String)],
) -> Result<(), RecordLogError> {
    let fail = |error| failed("append to", &options.topic, error);
    let producer = connect(options, kept, make)?;
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
        Ok(Self {
            producer: connect(options, RecordsKept::Latest, true)?,
            topic: options.topic.clone(),
        })
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
    /// Whether the topic is made if it is not there.
    make: bool,
    /// Made when it is first needed.
    consumer: Option<BaseConsumer>,
    is_whole: bool,
    watch: Option<TopicWatch>,
}

impl std::fmt::Debug for TopicReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicReader")
            .field("topic", &self.options.topic)
            .finish_non_exhaustive()
    }
}

impl TopicReader {
    pub(super) const fn new(options: KafkaOptions, kept: RecordsKept, make: bool) -> Self {
        Self {
            options,
            kept,
            make,
            consumer: None,
            is_whole: false,
            watch: None,
        }
    }

    pub(super) fn watch(&mut self) {
        self.watch = Some(TopicWatch::new(&self.options.topic));
    }

    /// Reads up to the end of the topic. When it was reached once, nothing is waited for.
    pub(super) fn read(&mut self, wait_max: Duration) -> Result<NewRecords, RecordLogError> {
        let consumer = match self.consumer.take() {
            Some(consumer) => consumer,
            None => self.open()?,
        };
        let consumer = self.consumer.insert(consumer);
        if let Some(watch) = self.watch.as_mut().filter(|_| self.is_whole) {
            watch.look(consumer)?;
        }
        let deadline = Instant::now() + wait_max;
        let mut records = Vec::new();
        loop {
            match consumer.poll(RECORD_POLL.min(wait_max)) {
                Some(Ok(message)) => {
                    if let Some(watch) = &mut self.watch
                        && !watch.is_news(consumer, &message, self.is_whole)?
                    {
                        continue;
                    }
                    if let Some(Ok(text)) = message.payload().map(std::str::from_utf8) {
                        records.push(text.to_owned());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.is_whole = true;
                    break;
                }
                Some(Err(error)) => {
                    if let Some(watch) = &self.watch {
                        watch.failed(&error)?;
                    }
                    tracing::debug!(%error, "failed to read a record topic");
                }
                None if self.is_whole => break,
                None => {}
            }
            if Instant::now() >= deadline && records.is_empty() {
                break;
            }
        }
        if let Some(watch) = &mut self.watch {
            watch.at_end();
        }
        Ok(NewRecords {
            records,
            is_whole: self.is_whole,
        })
    }

    fn open(&self) -> Result<BaseConsumer, RecordLogError> {
        ensure(&self.options, self.kept, self.make, "read")?;
        self.assigned()
            .map_err(|error| failed("read", &self.options.topic, error))
    }

    fn assigned(&self) -> KafkaResult<BaseConsumer> {
        let mut config = self.options.consumer("weir-records");
        config.set("enable.partition.eof", "true");
        if self.watch.is_some() {
            // Instead of beginning anew.
            config.set("auto.offset.reset", "error");
        }
        let consumer: BaseConsumer = config.create()?;
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_offset(&self.options.topic, 0, Offset::Beginning)?;
        consumer.assign(&partitions)?;
        Ok(consumer)
    }
}
