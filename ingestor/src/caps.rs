//! Every limit of this crate, in one place.

use std::time::Duration;

use weir_eventlog::BatchLimits;

/// A batch is given when it has so many records or bytes, or after so long: a row can be seen
/// within a second, and under load the engine gets the large batches that it likes.
pub(crate) const BATCH: BatchLimits = BatchLimits {
    records_max: 50_000,
    bytes_max: 32 << 20,
    wait_max: Duration::from_millis(300),
};

/// Pause before trying again what the store or the log did not do.
pub(crate) const RETRY_MIN: Duration = Duration::from_millis(100);
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(5);

/// Time that the ingestor gets, when told to stop, to store what is in the log.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Rows may carry a time before their stream's birth by as much as the clock was set back.
pub(crate) const CLOCK_STEP_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Streams that the tables are asked about in one question.
pub(crate) const STREAMS_ASKED_MAX: usize = 100;
