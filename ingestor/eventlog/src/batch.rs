//! What a source gives: batches of events, each stream's in order.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use weir_schemas::{EventId, StreamId};

use crate::progress::Progress;

/// One event, still encoded.
#[derive(Clone, Debug)]
pub struct LogRecord {
    pub stream: StreamId,
    pub seq: u64,
    pub payload: Bytes,
    pub position: Position,
}

impl LogRecord {
    #[must_use]
    pub fn id(&self) -> EventId {
        EventId {
            stream: self.stream,
            seq: self.seq,
        }
    }
}

/// Where a record was read. It is written down with a record that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    Journal {
        stream: StreamId,
        segment: u64,
        offset: u64,
    },
    Kafka {
        topic: Arc<str>,
        partition: i32,
        offset: i64,
    },
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal {
                stream,
                segment,
                offset,
            } => write!(f, "journal {stream}/{segment:020}.seg@{offset}"),
            Self::Kafka {
                topic,
                partition,
                offset,
            } => write!(f, "kafka {topic}/{partition}@{offset}"),
        }
    }
}

/// Events that were in the log and can't be had any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Unknown where Kafka has deleted messages before they were read.
    pub stream: Option<StreamId>,
    /// Number of the first event that is missing, and how many are. With `events` 0 only bytes are
    /// bad, and no event is missing for it.
    pub first_seq: u64,
    pub events: u64,
    /// Bytes that hold no readable event.
    pub bytes: u64,
    pub position: Position,
    pub cause: LossCause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossCause {
    /// The bytes on disk don't match their checksum.
    Damaged,
    /// The numbers before the next event are nowhere to be found.
    Missing,
    /// Kafka deleted the messages before they were read.
    Expired,
}

impl LossCause {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Missing => "missing",
            Self::Expired => "expired",
        }
    }
}

/// A message on the topic that is no record of this log.
#[derive(Clone, Debug)]
pub struct Rejected {
    pub position: Position,
    pub payload: Bytes,
    pub reason: &'static str,
}

/// How much a batch may hold, and how long it may take to fill.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    pub records_max: usize,
    /// Bytes of payload. Exceeded by at most one append.
    pub bytes_max: usize,
    /// After this time the batch is given as it is, even empty.
    pub wait_max: Duration,
}

/// What has been read, and up to where. Give it back to [`crate::Source::commit`] when it is stored.
#[derive(Clone, Debug, Default)]
pub struct SourceBatch {
    pub records: Vec<LogRecord>,
    pub lost: Vec<Lost>,
    pub rejected: Vec<Rejected>,
    /// Rises when the source may begin to give records again that it gave before, or streams that
    /// another ingestor had until now: forget what you know about streams.
    pub epoch: u64,
    pub(crate) bytes: usize,
    pub(crate) progress: Progress,
}

impl SourceBatch {
    /// Whether there is nothing in it, not even news of a loss.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.lost.is_empty() && self.rejected.is_empty()
    }

    /// Bytes of payload.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_full(&self, limits: &BatchLimits) -> bool {
        self.records.len() >= limits.records_max || self.bytes >= limits.bytes_max
    }

    pub(crate) fn push(&mut self, record: LogRecord) {
        self.bytes += record.payload.len();
        self.records.push(record);
    }
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The batch will not be given again.
    Done,
    /// Kafka has given the partitions to another ingestor, which will be given the batch as well.
    /// Nothing is wrong: what is stored is found there by its (stream, seq).
    Refused,
}
