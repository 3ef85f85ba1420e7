//! The wall clock, for the timestamps of the log's own events and the age of files. What is in the
//! log is never decided by it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since the epoch; 0 on a clock that is set before it.
pub(crate) fn unix_us() -> u64 {
    let since_epoch = now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
}

/// Whether something of that time is older than `age`; not, if the clock was set back since.
pub(crate) fn is_older(time: SystemTime, age: Duration) -> bool {
    now().duration_since(time).is_ok_and(|since| since > age)
}

#[expect(clippy::disallowed_methods, reason = "this is the crate's clock")]
fn now() -> SystemTime {
    SystemTime::now()
}
