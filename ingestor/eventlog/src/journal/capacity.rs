//! How much space the journal has left, and whether requests are admitted.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::WhenFull;

/// The journal takes no further requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalFull {
    #[error(
        "the event journal holds {bytes} bytes and its limit is {bytes_max}: \
         check that the ingestor runs, or raise the limit"
    )]
    Limit { bytes: u64, bytes_max: u64 },
    #[error("the disk of the event journal is full: free some space on it")]
    Disk,
}

/// The bytes of the whole directory, other processes' streams included. Writers add what they
/// append; the upkeep thread sets it right again from the directory, because readers free segments
/// and other processes write.
#[derive(Debug)]
pub(crate) struct Capacity {
    bytes: AtomicU64,
    bytes_max: u64,
    when_full: WhenFull,
    disk_full: AtomicBool,
}

impl Capacity {
    pub(crate) fn new(bytes_max: u64, when_full: WhenFull) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            bytes_max,
            when_full,
            disk_full: AtomicBool::new(false),
        }
    }

    pub(crate) fn admit(&self) -> Result<(), JournalFull> {
        match self.when_full {
            WhenFull::Shed => self.full().map_or(Ok(()), Err),
            WhenFull::Drop => Ok(()),
        }
    }

    /// Whether an append is to be dropped.
    pub(crate) fn drops(&self) -> bool {
        self.when_full == WhenFull::Drop && self.full().is_some()
    }

    pub(crate) fn full(&self) -> Option<JournalFull> {
        if self.disk_is_full() {
            return Some(JournalFull::Disk);
        }
        let (bytes, bytes_max) = (self.bytes(), self.bytes_max);
        (bytes >= bytes_max).then_some(JournalFull::Limit { bytes, bytes_max })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Relaxed);
    }

    pub(crate) fn disk_is_full(&self) -> bool {
        self.disk_full.load(Relaxed)
    }

    pub(crate) fn set_disk_full(&self, full: bool) {
        self.disk_full.store(full, Relaxed);
    }
}

/// Whether an error says that the disk, or the user's share of it, is used up.
pub(crate) fn is_disk_full(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}
