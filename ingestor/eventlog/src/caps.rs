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

/// How often what was appended is sealed, and how many events a seal covers at most.
pub(crate) const SEAL_EVERY: Duration = Duration::from_secs(1);
pub(crate) const SEAL_EVENTS_MAX: usize = 50_000;

/// Copies of frames that wait to be sealed, per stream: how many do not wait for the second's end, and
/// how many are kept.
pub(crate) const UNSEALED_BYTES_MANY: usize = 4 << 20;
pub(crate) const UNSEALED_BYTES_MAX: usize = 64 << 20;

/// How often a full journal with policy `drop` records how much it dropped so far.
pub(crate) const DROPS_REPORT: Duration = Duration::from_secs(1);

/// Free space at which a disk that was full counts as usable again.
pub(crate) const DISK_PROBE_BYTES: usize = 1 << 20;

/// Unfinished directories of new streams are removed when they are this old.
pub(crate) const ABANDONED: Duration = Duration::from_secs(3600);

// Kafka

/// Room for the largest payload with its key, header and framing.
pub(crate) const MESSAGE_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + (64 << 10);

/// How long a topic keeps events unless a setting says otherwise.
pub const TOPIC_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often the cursor is written.
pub(crate) const SHIP_COMMIT_INTERVAL: Duration = Duration::from_millis(200);

/// Pause before the producer is replaced or the topic asked for again.
pub(crate) const KAFKA_RETRY: Duration = Duration::from_secs(1);

/// The longest time that stopping a shipper may take.
pub(crate) const STOP_PATIENCE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long a rebalance waits for the ingestor to commit what it has been given.
pub(crate) const REVOKE_PATIENCE: Duration = Duration::from_secs(5);

/// How often an idle source shows the group that it lives.
pub(crate) const GROUP_POLL_IDLE: Duration = Duration::from_millis(200);

/// How long a batch is filled at most.
pub(crate) const BATCH_WAIT_MAX: Duration = Duration::from_secs(60);

/// How long one poll blocks, and so how long a commit may have to wait for it.
pub(crate) const GROUP_POLL: Duration = Duration::from_millis(20);

/// How long the broker may take to say what has been committed.
pub(crate) const OFFSETS_PATIENCE: Duration = Duration::from_secs(5);

pub(crate) const ADMIN_TIMEOUT: Duration = Duration::from_secs(3);

/// How often the same trouble is reported.
pub(crate) const KAFKA_ERROR_REPEAT: Duration = Duration::from_secs(30);

// Record logs and routing tables

/// Size from which a file is compacted, if that makes it smaller by half.
pub(crate) const COMPACT_FROM_BYTES: usize = 4 << 20;

/// How long brokers may take to acknowledge a record.
pub(crate) const RECORD_APPEND_MAX: Duration = Duration::from_secs(15);

pub(crate) const RECORD_POLL: Duration = Duration::from_millis(50);

/// Bounds of a producer that sends a handful of records and ends.
pub(crate) const RECORD_QUEUE_RECORDS: usize = 1_000;

pub(crate) const RECORD_QUEUE_BYTES: usize = 32 << 20;

/// How often the last record of a topic that must stay the same is read again, how long it may take to
/// come, and how long one call may take.
pub(crate) const WATCH_EVERY: Duration = Duration::from_secs(1);
pub(crate) const WATCH_ANSWER_MAX: Duration = Duration::from_secs(5);
pub(crate) const WATCH_CALL_MAX: Duration = Duration::from_secs(1);

/// How long a writer waits for a topic to be read to its end.
pub(crate) const TABLES_CATCH_UP_MAX: Duration = Duration::from_secs(15);

/// How long a stream is left alone whose files can't be read.
pub(crate) const READ_ERROR_PAUSE: Duration = Duration::from_secs(10);

// Parts of a process

/// The first pause before a part that ended is started again; it doubles.
pub(crate) const PART_PAUSE_MIN: Duration = Duration::from_millis(100);

pub(crate) const PART_PAUSE_MAX: Duration = Duration::from_secs(10);

/// How long a part that was started again must run to count as well.
pub(crate) const PART_SETTLED_AFTER: Duration = Duration::from_secs(3);

/// How long Kafka may take to go back to the beginning of a partition.
pub(crate) const REREAD_MAX: Duration = Duration::from_secs(10);
