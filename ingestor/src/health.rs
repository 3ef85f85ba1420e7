//! What an ingestor has done, for whoever asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// Counters of a running ingestor. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    batches: AtomicU64,
    rows: AtomicU64,
    duplicates: AtomicU64,
    dead_letters: AtomicU64,
    retries: AtomicU64,
    trouble: Mutex<Option<String>>,
}

/// The counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthSnapshot {
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

impl Health {
    #[must_use]
    pub fn snapshot(&self) -> HealthSnapshot {
        let shared = &self.shared;
        HealthSnapshot {
            batches: shared.batches.load(Relaxed),
            rows: shared.rows.load(Relaxed),
            duplicates: shared.duplicates.load(Relaxed),
            dead_letters: shared.dead_letters.load(Relaxed),
            retries: shared.retries.load(Relaxed),
            trouble: shared.trouble.lock().clone(),
        }
    }

    pub(crate) fn stored(&self, rows: usize, duplicates: usize, dead_letters: usize) {
        self.shared.batches.fetch_add(1, Relaxed);
        self.shared.rows.fetch_add(rows as u64, Relaxed);
        self.shared.duplicates.fetch_add(duplicates as u64, Relaxed);
        self.shared
            .dead_letters
            .fetch_add(dead_letters as u64, Relaxed);
    }

    pub(crate) fn well(&self) {
        if let Some(trouble) = self.shared.trouble.lock().take() {
            tracing::info!(after = trouble, "the ingestor goes on");
        }
    }

    /// Logged when it begins, not at every retry.
    pub(crate) fn in_trouble(&self, trouble: String) {
        self.shared.retries.fetch_add(1, Relaxed);
        let mut current = self.shared.trouble.lock();
        if current.is_none() {
            tracing::warn!(
                trouble,
                "the ingestor waits; the log keeps what it has not stored"
            );
        }
        *current = Some(trouble);
    }
}
