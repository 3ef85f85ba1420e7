//! What the ingestor reads from: the journal on this machine, or Kafka.
//!
//! Both give batches of [`LogRecord`]s, each stream's in order, and are told when a batch has been
//! stored. Until then its events are given again after a restart.
//!
//! [`LogRecord`]: crate::LogRecord

use crate::batch::{BatchLimits, Committed, SourceBatch};
use crate::kafka::{KafkaSource, SourceFault};
use crate::reader::{JournalSource, ReaderError};

/// The log could not be read, or the position not be kept.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Journal(#[from] ReaderError),
    #[error(transparent)]
    Kafka(#[from] SourceFault),
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
        let ended = SourceError::Ended;
        match self {
            Self::Journal(source) => Ok(source.thread.next(limits).await.ok_or(ended)??),
            Self::Kafka(source) => Ok(source.thread.next(limits).await.ok_or(ended)??),
        }
    }

    /// Gives again what the log still has, from its beginning. Refused while it goes to another.
    pub async fn reread(&mut self) -> Result<Committed, SourceError> {
        let ended = SourceError::Ended;
        match self {
            Self::Journal(source) => Ok(source.thread.reread().await.ok_or(ended)??),
            Self::Kafka(source) => Ok(source.thread.reread().await.ok_or(ended)??),
        }
    }

    /// Says that this batch and all before it have been stored.
    pub async fn commit(&mut self, batch: &SourceBatch) -> Result<Committed, SourceError> {
        let ended = SourceError::Ended;
        let progress = batch.progress.clone();
        match self {
            Self::Journal(source) => Ok(source.thread.commit(progress).await.ok_or(ended)??),
            Self::Kafka(source) => Ok(source.thread.commit(progress).await.ok_or(ended)??),
        }
    }
}
