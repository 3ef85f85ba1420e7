//! Every limit of this crate, in one place.

use std::time::Duration;

use weir_eventlog::BatchLimits;

/// A batch ends at this many records or bytes, or after this time: a row is visible within a second,
/// and under load the engine gets the large batches that suit it.
pub(crate) const BATCH: BatchLimits = BatchLimits {
    records_max: 50_000,
    bytes_max: 32 << 20,
    wait_max: Duration::from_millis(300),
};

/// Pause before a retry of what the store or the log did not do.
pub(crate) const RETRY_MIN: Duration = Duration::from_millis(100);
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(5);

/// After a stop: time in which the ingestor begins further batches, and in which it ends, even if that
/// cuts an insert short.
pub(crate) const DRAIN_BEGIN_MAX: Duration = Duration::from_secs(7);
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(10);

/// The store refuses an insert that rests on an answer older than this, by its own clock, if other
/// ingestors read the same log: one of them may have had the batch meanwhile. Far less than the store
/// takes for as many inserts as it remembers tokens of (10 000), because tokens tell two inserts of the
/// same rows.
pub(crate) const KNOWLEDGE_MAX: Duration = Duration::from_secs(30);

/// Knowledge is refreshed at this age, so that an insert without delays comes in time.
pub(crate) const KNOWLEDGE_FRESH: Duration = Duration::from_secs(15);

/// Dead letters that are stored at once.
pub(crate) const LETTERS_AT_ONCE: usize = 500;

/// How often rows that the store did not keep are sent again without a pause.
pub(crate) const COLLISIONS_AT_ONCE: u32 = 5;

/// What is stored is looked for from so long before the earliest event of a batch: most later batches
/// need no question of their own then.
pub(crate) const LOOK_BACK: Duration = Duration::from_secs(24 * 60 * 60);

/// The time of what carries none, in microseconds since 1970: the year 2299, the last that the tables
/// have.
pub(crate) const NO_TIME_US: u64 = 10_382_515_200_000_000;

/// Streams in one query of what is stored.
pub(crate) const STREAMS_ASKED_MAX: usize = 100;

/// Events of a stream under one leaf of a checkpoint, and leaves of one checkpoint. What is beyond
/// them comes into the next one.
pub(crate) const PIECE_EVENTS_MAX: u64 = 10_000;
pub(crate) const CHECKPOINT_LEAVES_MAX: usize = 500;

/// How long a number must have been missing from a stream before a checkpoint passes it: rows
/// of a batch whose tables are not all written yet come within seconds.
pub(crate) const GAP_MAX: Duration = Duration::from_secs(600);

/// What is read at the end of the export to find its last line, which has some 500 bytes.
pub(crate) const EXPORT_TAIL_BYTES: u64 = 4096;

/// Checkpoints that are read at once to make a note for anchors.
pub(crate) const CHECKPOINTS_AT_ONCE: usize = 10_000;

/// One call of an object store, with its retries; a whole note; and what is read of a topic of notes
/// at once. Sealing waits while a note is written.
pub(crate) const ANCHOR_CALL_MAX: Duration = Duration::from_secs(10);
pub(crate) const ANCHOR_RETRIES_MAX: usize = 3;
pub(crate) const ANCHOR_WRITE_MAX: Duration = Duration::from_secs(20);
pub(crate) const ANCHOR_READ_MAX: Duration = Duration::from_secs(30);
/// A note has some 250 bytes, and some 200 more for each witness.
pub(crate) const NOTE_BYTES_MAX: u64 = 65_536;

/// Leaves, and events under them, that a verification reads at once.
pub(crate) const LEAVES_AT_ONCE: u64 = 1000;
pub(crate) const EVENTS_AT_ONCE: u64 = 50_000;

/// How often, and after which pause, a verification looks again for rows that may still arrive.
pub(crate) const SETTLE_ATTEMPTS: u32 = 20;
pub(crate) const SETTLE_PAUSE: Duration = Duration::from_millis(500);

/// Dead letters that a verification tells from other gaps.
pub(crate) const DEAD_LETTERS_KNOWN_MAX: usize = 100_000;

/// Time from the first gateway that signs its seals to the last that begins to.
pub(crate) const UPGRADE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A gateway seals what it wrote within a second; when it is short of processors, within this.
pub(crate) const SEALED_WITHIN_MAX: Duration = Duration::from_secs(60);

/// What a verification lists before it only counts.
pub(crate) const FINDINGS_MAX: usize = 100;

/// An event is written this long after the time it carries, at most: a request's time is its arrival.
pub(crate) const REQUEST_MAX: Duration = Duration::from_secs(3600);

/// Time that the last checkpoint gets when the ingestor ends.
pub(crate) const LAST_SEAL_MAX: Duration = Duration::from_secs(5);

/// How often a rollup is compared with its rows: rows may come in between the two queries.
pub(crate) const ROLLUP_COMPARISONS_MAX: usize = 3;

/// Streams whose position is noted in a routing table; more at once means that gateways restart all
/// the time.
pub(crate) const TABLE_INPUTS_MAX: u64 = 1_024;

/// How often an idle ingestor looks whether the tables are still there.
pub(crate) const TABLES_LOOK: Duration = Duration::from_secs(5);
/// Room for the bytes of a row that are hashed.
pub(crate) const ROW_BYTES_USUAL: usize = 1024;

/// Hashes of stored rows that wait for their checkpoint, over all streams. Those beyond are read from
/// the tables.
pub(crate) const HASHES_KEPT_MAX: usize = 1_000_000;
