//! An append: how it is put together, what it returns, and when its events are safe.

use std::ops::Range;

use tokio::sync::watch;
use weir_schemas::codec::Encoder;
use weir_schemas::event::Event;
use weir_schemas::{EventId, StreamId};

use crate::caps::{APPEND_BYTES_MAX, PAYLOAD_BYTES_MAX, WRITE_BUFFER_BYTES_KEPT};
use crate::files::FileError;
use crate::frame::{self, FrameFlags, Seed, TooLarge};

/// An append being put together. Its buffers are kept from one to the next.
#[derive(Debug)]
pub(crate) struct AppendBuffer {
    stream: StreamId,
    seed: Seed,
    encoder: Encoder,
    pub(crate) bytes: Vec<u8>,
    pub(crate) events: u64,
}

/// Events were not appended. Their sequence numbers are not used up, and the segment is as it was.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error("stream {0} is closed")]
    Closed(StreamId),
    #[error("stream {0} takes no more events: its disk failed to confirm earlier ones")]
    Failed(StreamId),
    #[error("an event of {bytes} bytes is larger than the limit of {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error(transparent)]
    File(#[from] FileError),
}

/// How far a stream is known to be on disk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DurableUpTo {
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
    /// The numbers that the events got. Empty if there were none, or if they were dropped.
    pub seqs: Range<u64>,
    /// How many events were dropped because the journal is full and its policy is drop.
    pub dropped: usize,
    /// Absent where there is nothing to wait for.
    pub(crate) durable: Option<watch::Receiver<DurableUpTo>>,
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
    /// Whether there is nothing to wait for.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.durable.is_none()
    }

    /// Returns when a power failure can't take the events any more. With durability `os` that is
    /// at once and promises nothing; otherwise when the shared fdatasync is done.
    pub async fn durable(self) -> Result<(), NotDurable> {
        let Some(mut durable) = self.durable else {
            return Ok(());
        };
        let last = self.seqs.end.saturating_sub(1);
        let not_durable = NotDurable {
            stream: self.stream,
            first: self.seqs.start,
            last,
        };
        match durable
            .wait_for(|upto| upto.failed || upto.seq >= last)
            .await
        {
            Ok(upto) if upto.seq >= last => Ok(()),
            Ok(_) | Err(_) => Err(not_durable),
        }
    }
}

impl AppendBuffer {
    pub(crate) fn new(stream: StreamId) -> Self {
        Self {
            stream,
            seed: Seed::of(stream),
            encoder: Encoder::default(),
            bytes: Vec::new(),
            events: 0,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.events = 0;
    }

    /// Adds an event; `next_seq` is the number of the buffer's first one.
    pub(crate) fn put(
        &mut self,
        event: &Event<'_>,
        next_seq: u64,
        flags: FrameFlags,
    ) -> Result<(), AppendError> {
        let seq = next_seq + self.events;
        let start = frame::begin(&mut self.bytes);
        let id = EventId {
            stream: self.stream,
            seq,
        };
        self.encoder.encode(id, event, &mut self.bytes);
        let too_large = |bytes, bytes_max| AppendError::TooLarge { bytes, bytes_max };
        frame::finish(&mut self.bytes, start, self.seed, seq, flags)
            .map_err(|TooLarge { bytes }| too_large(bytes, PAYLOAD_BYTES_MAX))?;
        if self.bytes.len() > APPEND_BYTES_MAX {
            return Err(too_large(self.bytes.len(), APPEND_BYTES_MAX));
        }
        self.events += 1;
        Ok(())
    }

    pub(crate) fn shrink(&mut self) {
        if self.bytes.capacity() > WRITE_BUFFER_BYTES_KEPT {
            self.bytes = Vec::with_capacity(WRITE_BUFFER_BYTES_KEPT);
        }
    }
}
