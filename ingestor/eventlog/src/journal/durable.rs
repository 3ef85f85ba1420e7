//! What an append hands back: where its events are, and when they are safe.

use std::ops::Range;

use tokio::sync::watch;
use weir_schemas::StreamId;

/// How far a stream is known to be on disk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Safe {
    /// The last event that is.
    pub(crate) seq: u64,
    /// An fsync failed, so nothing behind `seq` can be relied on.
    pub(crate) failed: bool,
}

/// Events that are in the log: a killed process does not take them back.
#[derive(Debug)]
#[must_use = "with durability group or fsync, wait for `durable` before you acknowledge"]
pub struct Appended {
    pub(crate) stream: StreamId,
    pub(crate) seqs: Range<u64>,
    pub(crate) dropped: usize,
    /// Absent where there is nothing to wait for.
    pub(crate) safe: Option<watch::Receiver<Safe>>,
}

/// The disk did not confirm the events. They are in the log unless the power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("events {first} to {last} of stream {stream} could not be made durable")]
pub struct NotDurable {
    pub stream: StreamId,
    pub first: u64,
    pub last: u64,
}

impl Appended {
    /// The numbers that the events got. Empty if there were none, or if they were dropped.
    #[must_use]
    pub fn seqs(&self) -> Range<u64> {
        self.seqs.clone()
    }

    /// How many events were dropped because the journal is full and its policy is drop.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Whether there is nothing to wait for.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.safe.is_none()
    }

    /// Returns when a power failure can't take the events any more. With durability `os` that is
    /// at once and promises nothing; otherwise when the shared fdatasync is done.
    pub async fn durable(self) -> Result<(), NotDurable> {
        let Some(mut safe) = self.safe else {
            return Ok(());
        };
        let last = self.seqs.end.saturating_sub(1);
        let not_durable = NotDurable {
            stream: self.stream,
            first: self.seqs.start,
            last,
        };
        match safe.wait_for(|safe| safe.failed || safe.seq >= last).await {
            Ok(safe) if safe.seq >= last => Ok(()),
            Ok(_) | Err(_) => Err(not_durable),
        }
    }
}
