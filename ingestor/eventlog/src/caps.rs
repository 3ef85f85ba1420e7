//! Every limit of the log, in one place.

use std::time::Duration;

/// Largest payload of one event. A larger one is refused at append, so that a corrupt length is
/// recognised as one.
pub const PAYLOAD_BYTES_MAX: usize = 8 << 20;

/// Largest append: all frames of one call together.
pub const APPEND_BYTES_MAX: usize = 32 << 20;

/// Bounds for the size at which a segment is sealed.
pub const SEGMENT_BYTES_MIN: u64 = 4 << 10;
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Sealed segments of one stream that may wait for their fsync. When so many wait, the stream goes
/// on in the segment it has, which grows beyond its size: the request path never waits for a disk.
pub(crate) const SEALS_WAITING_MAX: usize = 4;

/// Write buffers above this are given back after an unusually large append.
pub(crate) const WRITE_BUFFER_BYTES_KEPT: usize = 256 << 10;

/// What a reader takes from one stream before it turns to the next.
pub(crate) const READ_TURN_BYTES: usize = 256 << 10;

/// What a reader searches at a time for the next good frame behind a damaged one.
pub(crate) const RESYNC_WINDOW_BYTES: usize = 1 << 20;

/// Segment files that a reader keeps open between two batches.
pub(crate) const READ_FILES_OPEN_MAX: usize = 256;

/// How often a reader with nothing to read looks again.
pub(crate) const READ_POLL: Duration = Duration::from_millis(20);

/// How often a reader at the end of a stream asks whether its writer is still alive.
pub(crate) const READ_LIVENESS: Duration = Duration::from_millis(500);

/// How long bytes at the end of a live segment may look wrong before the reader searches behind
/// them: a write in progress takes microseconds.
pub(crate) const READ_STUCK: Duration = Duration::from_millis(200);

/// How often the journal measures its directory, seals old segments and looks for room.
pub(crate) const UPKEEP: Duration = Duration::from_millis(250);

/// How often a full journal with policy `drop` writes down what it dropped so far.
pub(crate) const DROPS_REPORT: Duration = Duration::from_secs(1);

/// Free space at which a disk that was full counts as usable again.
pub(crate) const DISK_PROBE_BYTES: usize = 1 << 20;

/// Directories of streams that never came to be are removed when they are this old.
pub(crate) const ABANDONED: Duration = Duration::from_secs(3600);
