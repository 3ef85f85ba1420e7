//! What the ingestor reads from: the journal on this machine, or Kafka.
//!
//! Both give batches of [`Record`]s, each stream's in order, and take back the word that a batch
//! has been dealt with. Until then its events are given again after a restart.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use weir_schemas::StreamId;

use crate::kafka::{self, KafkaSource};
use crate::reader::{JournalSource, Mark, Marks, ReaderError};

/// One event, still encoded.
#[derive(Clone, Debug)]
pub struct Record {
    pub stream: StreamId,
    pub seq: u64,
    pub payload: Bytes,
    pub position: Position,
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

/// What has been read, and up to where. Give it back to [`Source::commit`] when it is stored.
#[derive(Clone, Debug, Default)]
pub struct SourceBatch {
    pub records: Vec<Record>,
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

    pub(crate) fn push(&mut self, record: Record) {
        self.bytes += record.payload.len();
        self.records.push(record);
    }
}

/// How far a batch reaches, in its source's own terms.
#[derive(Clone, Debug, Default)]
pub(crate) enum Progress {
    #[default]
    None,
    Journal(Marks),
    Kafka(kafka::Offsets),
}

impl Progress {
    /// Takes in what an earlier batch reached.
    pub(crate) fn add_earlier(&mut self, earlier: Self) {
        match (self, earlier) {
            (Self::Journal(marks), Self::Journal(earlier)) => {
                for (stream, mark) in earlier {
                    marks.entry(stream).or_insert(mark);
                }
            }
            (Self::Kafka(offsets), Self::Kafka(earlier)) => offsets.add_earlier(earlier),
            (this @ Self::None, earlier) => *this = earlier,
            (Self::Journal(_) | Self::Kafka(_), _) => {}
        }
    }

    pub(crate) fn note(&mut self, stream: StreamId, mark: Mark) {
        if let Self::None = self {
            *self = Self::Journal(Marks::new());
        }
        if let Self::Journal(marks) = self {
            marks.insert(stream, mark);
        }
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

/// The log could not be read, or the position not be kept.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Journal(#[from] ReaderError),
    #[error(transparent)]
    Kafka(#[from] kafka::SourceFault),
    #[error("the thread that reads the log has ended")]
    Ended,
}

/// The log, as the ingestor reads it.
#[derive(Debug)]
pub enum Source {
    Journal(JournalSource),
    Kafka(KafkaSource),
}

impl Source {
    /// The next batch. It may be dropped and called again: nothing that was read is lost by it.
    pub async fn next(&mut self, limits: BatchLimits) -> Result<SourceBatch, SourceError> {
        match self {
            Self::Journal(source) => source.next(limits).await,
            Self::Kafka(source) => source.next(limits).await,
        }
    }

    /// Says that this batch and all before it have been stored.
    pub async fn commit(&mut self, batch: &SourceBatch) -> Result<Committed, SourceError> {
        match self {
            Self::Journal(source) => source.commit(batch).await,
            Self::Kafka(source) => source.commit(batch).await,
        }
    }
}
