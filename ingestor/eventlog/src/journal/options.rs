//! How a journal is to behave.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::seal::{Chaining, SealSigner};
use crate::caps::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::parts::Parts;

/// What happens to events when the journal has reached its size limit or its disk is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// New requests are refused, see [`crate::Journal::admit`]. Nothing is lost; requests in flight
    /// may still append, so the limit is exceeded by their events.
    #[default]
    Shed,
    /// Requests are served and their events are lost. How many is recorded in the stream, as
    /// `EventsDropped`.
    Drop,
}

/// What a power failure may take. A killed process never takes anything that was appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Whatever the operating system had not yet written: usually the last seconds. Nothing waits
    /// for the disk.
    #[default]
    Os,
    /// Nothing whose [`crate::Appended::durable`] has returned. Appends share one fdatasync: it
    /// comes `delay` after the first of them, or when `bytes` have been appended.
    Group { delay: Duration, bytes: u64 },
    /// As `Group`, but the fdatasync begins at once; what is appended meanwhile shares the next.
    Fsync,
}

impl Durability {
    pub(crate) const fn waits(self) -> bool {
        !matches!(self, Self::Os)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Os => "os",
            Self::Group { .. } => "group",
            Self::Fsync => "fsync",
        }
    }
}

/// How a journal is to behave. [`JournalOptions::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Directory of the journal; made if it is not there.
    pub dir: PathBuf,
    /// Name of this installation, for `StreamOpened`.
    pub instance: String,
    /// Program that writes, for `StreamOpened`: gateway, cli.
    pub process: String,
    /// Size at which a segment is sealed and the next one begun. Default 32 MiB.
    pub segment_bytes: u64,
    /// Age at which a segment with events in it is sealed. Default 10 minutes.
    pub segment_age: Duration,
    /// Size of the whole directory at which `when_full` decides. Default 8 GiB.
    pub total_bytes_max: u64,
    /// Default [`WhenFull::Shed`].
    pub when_full: WhenFull,
    /// Default [`Durability::Os`].
    pub durability: Durability,
    /// The parts of the process, to which the journal adds its threads.
    pub parts: Parts,
    /// How streams are sealed. Without it, the default, they are not.
    pub chaining: Option<Chaining>,
    /// What seals are signed with. Without it, the default, they are not.
    pub signer: Option<Arc<dyn SealSigner>>,
}

impl JournalOptions {
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            instance: String::new(),
            process: "gateway".to_owned(),
            segment_bytes: 32 << 20,
            segment_age: Duration::from_secs(600),
            total_bytes_max: 8 << 30,
            when_full: WhenFull::default(),
            durability: Durability::default(),
            parts: Parts::default(),
            chaining: None,
            signer: None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), InvalidOptions> {
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return Err(InvalidOptions::SegmentBytes {
                bytes: self.segment_bytes,
            });
        }
        if self.total_bytes_max < self.segment_bytes {
            return Err(InvalidOptions::TotalBytes {
                bytes: self.total_bytes_max,
                segment_bytes: self.segment_bytes,
            });
        }
        Ok(())
    }
}

/// The options contradict each other or a limit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOptions {
    #[error(
        "segment_bytes is {bytes}: a segment has between {SEGMENT_BYTES_MIN} and {SEGMENT_BYTES_MAX} bytes"
    )]
    SegmentBytes { bytes: u64 },
    #[error(
        "total_bytes_max is {bytes}: it must hold at least one segment of {segment_bytes} bytes"
    )]
    TotalBytes { bytes: u64, segment_bytes: u64 },
}
