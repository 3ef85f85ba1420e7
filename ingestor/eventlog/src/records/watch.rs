//! Whether a topic is still the one that was read.
//!
//! Kafka says nothing of it: a topic of the same name may have been deleted and made again, or cut off at
//! either end, and a client then reads on somewhere, or nothing for ever. So the last record that was read
//! is read again from time to time, and before whatever follows it: it must be there, and be the same.

use std::time::Instant;

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;

use super::RecordLogError;
use crate::caps::{WATCH_ANSWER_MAX, WATCH_CALL_MAX, WATCH_EVERY};

const DELETED: &str = "it was deleted";

#[derive(Debug)]
pub(super) struct TopicWatch {
    topic: String,
    last: Option<LastRecord>,
    /// The first offset that there was.
    low: Option<i64>,
    looked: Instant,
    /// Since when the last record was to come again, or a first one to come.
    awaited: Option<Instant>,
    /// The last record came again, so what follows it follows what was read.
    is_confirmed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LastRecord {
    offset: i64,
    crc: u32,
}

impl TopicWatch {
    pub(super) fn new(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            last: None,
            low: None,
            looked: Instant::now(),
            awaited: None,
            is_confirmed: false,
        }
    }

    /// From time to time, asks for the last record again.
    pub(super) fn look(&mut self, consumer: &BaseConsumer) -> Result<(), RecordLogError> {
        if self.looked.elapsed() < WATCH_EVERY {
            return Ok(());
        }
        self.looked = Instant::now();
        let (low, high) = match consumer.fetch_watermarks(&self.topic, 0, WATCH_CALL_MAX) {
            Ok(offsets) => offsets,
            Err(error) => {
                // While Kafka is away, nothing can come.
                self.awaited = None;
                return self.failed(&error);
            }
        };
        if self.low.replace(low).is_some_and(|before| before < low) {
            return self.changed("its first records were deleted");
        }
        if self.last.is_some_and(|last| high <= last.offset) {
            return self.changed("it ends before what was read of it");
        }
        let is_late = |since: Instant| since.elapsed() > WATCH_ANSWER_MAX;
        match (self.awaited, self.last) {
            (Some(since), _) if is_late(since) => {
                return self.changed("what it holds does not come");
            }
            (Some(_), _) => {}
            (None, Some(last)) => self.ask_again(consumer, last),
            (None, None) => self.awaited = (high > low).then(Instant::now),
        }
        Ok(())
    }

    fn ask_again(&mut self, consumer: &BaseConsumer, last: LastRecord) {
        // An error shows as a record that does not come.
        let _ = consumer.seek(&self.topic, 0, Offset::Offset(last.offset), WATCH_CALL_MAX);
        self.awaited = Some(Instant::now());
    }

    /// Whether a record is to be handed over. One behind the last one is when that came again before it.
    pub(super) fn is_news(
        &mut self,
        consumer: &BaseConsumer,
        record: &impl Message,
        is_whole: bool,
    ) -> Result<bool, RecordLogError> {
        let found = LastRecord {
            offset: record.offset(),
            crc: crc32c::crc32c(record.payload().unwrap_or_default()),
        };
        let last = match self.last {
            Some(last) if is_whole && !self.is_confirmed => last,
            _ => {
                self.last = Some(found);
                self.awaited = None;
                return Ok(true);
            }
        };
        if self.awaited.take().is_some() {
            self.is_confirmed = last == found;
            if !self.is_confirmed {
                self.changed("the last record that was read is another now, or gone")?;
            }
        } else if found.offset <= last.offset {
            self.changed("it begins anew")?;
        } else {
            self.ask_again(consumer, last);
        }
        Ok(false)
    }

    /// All that there was has been read.
    pub(super) const fn at_end(&mut self) {
        self.is_confirmed = false;
    }

    /// Takes an error of the client. Those that pass are none.
    pub(super) fn failed(&self, error: &KafkaError) -> Result<(), RecordLogError> {
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopicId,
            ) => self.changed(DELETED),
            Some(
                RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::LogTruncation,
            ) => self.changed("it does not reach to where it was read"),
            _ => Ok(()),
        }
    }

    fn changed(&self, reason: &'static str) -> Result<(), RecordLogError> {
        Err(RecordLogError::Changed {
            topic: self.topic.clone(),
            reason,
        })
    }
}
