//! Counters of an ingestor, and what it waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// Counters of a running ingestor. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct IngestorHealth {
    counters: Arc<HealthCounters>,
}

#[derive(Debug, Default)]
struct HealthCounters {
    batches: AtomicU64,
    rows: AtomicU64,
    duplicates: AtomicU64,
    dead_letters: AtomicU64,
    retries: AtomicU64,
    trouble: Mutex<Option<String>>,
}

/// The counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngestorHealthSnapshot {
    pub batches: u64,
    pub rows: u64,
    /// Events that were stored already, and dropped.
    pub duplicates: u64,
    /// Records that could not become rows.
    pub dead_letters: u64,
    /// Times that the store or the log had to be asked again.
    pub retries: u64,
    /// What the ingestor is waiting for, if it is.
    pub trouble: Option<String>,
}

impl IngestorHealth {
    #[must_use]
    pub fn snapshot(&self) -> IngestorHealthSnapshot {
        let counters = &self.counters;
        IngestorHealthSnapshot {
            batches: counters.batches.load(Relaxed),
            rows: counters.rows.load(Relaxed),
            duplicates: counters.duplicates.load(Relaxed),
            dead_letters: counters.dead_letters.load(Relaxed),
            retries: counters.retries.load(Relaxed),
            trouble: counters.trouble.lock().clone(),
        }
    }

    pub(crate) fn stored(&self, rows: usize, duplicates: usize, dead_letters: usize) {
        self.counters.batches.fetch_add(1, Relaxed);
        self.counters.rows.fetch_add(rows as u64, Relaxed);
        self.counters
            .duplicates
            .fetch_add(duplicates as u64, Relaxed);
        self.counters
            .dead_letters
            .fetch_add(dead_letters as u64, Relaxed);
    }

    pub(crate) fn well(&self) {
        if let Some(trouble) = self.counters.trouble.lock().take() {
            tracing::info!(after = trouble, "the ingestor continues");
        }
    }

    /// Logged when it begins, not at every retry.
    pub(crate) fn in_trouble(&self, trouble: String) {
        self.counters.retries.fetch_add(1, Relaxed);
        let mut current = self.counters.trouble.lock();
        if current.is_none() {
            tracing::warn!(
                trouble,
                "the ingestor waits; the log keeps what it has not stored"
            );
        }
        *current = Some(trouble);
    }
}
