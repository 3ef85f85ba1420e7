//! The one place that asks the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970, as providers stamp their answers.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
