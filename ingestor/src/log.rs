//! The log, as the pipeline needs it.

use weir_eventlog::{BatchLimits, Committed, Source, SourceBatch, SourceError};

/// A source of batches. [`Source`] is the real one; the simulation has its own.
pub(crate) trait Log {
    /// Whether other ingestors read the log too, and so may have what this one was given.
    fn is_shared(&self) -> bool;

    async fn next(&mut self, limits: BatchLimits) -> Result<SourceBatch, SourceError>;

    async fn commit(&mut self, batch: &SourceBatch) -> Result<Committed, SourceError>;

    /// Gives again all that it still has.
    async fn reread(&mut self) -> Result<Committed, SourceError>;
}

impl Log for Source {
    fn is_shared(&self) -> bool {
        matches!(self, Self::Kafka(_))
    }

    async fn next(&mut self, limits: BatchLimits) -> Result<SourceBatch, SourceError> {
        Self::next(self, limits).await
    }

    async fn commit(&mut self, batch: &SourceBatch) -> Result<Committed, SourceError> {
        Self::commit(self, batch).await
    }

    async fn reread(&mut self) -> Result<Committed, SourceError> {
        Self::reread(self).await
    }
}
