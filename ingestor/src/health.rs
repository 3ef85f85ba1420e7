//! Counters of an ingestor, and what it waits for.

use std::sync::Arc;

use parking_lot::Mutex;
use weir_eventlog::PartHandle;

/// Counters of a running ingestor. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct IngestorHealth {
    now: Arc<Mutex<IngestorHealthSnapshot>>,
    /// The part of the process that it is, if it is one.
    part: Option<PartHandle>,
    /// The part that says whether rows are what their gateways sealed.
    seals: Option<PartHandle>,
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
    /// Rows that are not what their gateway sealed.
    pub altered: u64,
    /// Times that the store or the log had to be asked again.
    pub retries: u64,
    /// What the ingestor is waiting for, if it is.
    pub trouble: Option<String>,
}

impl IngestorHealth {
    /// That of a part of the process, and the part that fails once a row is not what its gateway sealed.
    #[must_use]
    pub fn of(part: PartHandle, seals: PartHandle) -> Self {
        Self {
            part: Some(part),
            seals: Some(seals),
            ..Self::default()
        }
    }

    #[must_use]
    pub fn snapshot(&self) -> IngestorHealthSnapshot {
        self.now.lock().clone()
    }

    pub(crate) fn stored(&self, rows: usize, duplicates: usize, dead_letters: usize) {
        let mut now = self.now.lock();
        now.batches += 1;
        now.rows += rows as u64;
        now.duplicates += duplicates as u64;
        now.dead_letters += dead_letters as u64;
    }

    /// Rows are not what their gateway sealed. That does not pass: the part has failed until the process
    /// is started again.
    pub(crate) fn altered(&self, rows: usize) {
        let mut now = self.now.lock();
        now.altered += rows as u64;
        if let (Some(seals), rows @ 1..) = (&self.seals, now.altered) {
            seals.failed(format!(
                "{rows} rows are not what their gateway sealed: run `weir audit verify`"
            ));
        }
    }

    pub(crate) fn well(&self) {
        if let Some(trouble) = self.now.lock().trouble.take() {
            tracing::info!(after = trouble, "the ingestor continues");
            if let Some(part) = &self.part {
                part.ok();
            }
        }
    }

    /// Logged when it begins, not at every retry.
    pub(crate) fn in_trouble(&self, trouble: String) {
        let mut now = self.now.lock();
        now.retries += 1;
        if now.trouble.is_none() {
            tracing::warn!(
                trouble,
                "the ingestor waits; the log keeps what it has not stored"
            );
        }
        if let Some(part) = &self.part {
            part.failed(&trouble);
        }
        now.trouble = Some(trouble);
    }
}
