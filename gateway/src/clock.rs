//! The one place where the gateway reads the time.

#![expect(clippy::disallowed_methods, reason = "the clock that all else asks")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A moment on both clocks: the wall clock says when, the steady clock how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) unix_us: u64,
    pub(crate) instant: Instant,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self {
            unix_us: unix_us(),
            instant: Instant::now(),
        }
    }

    pub(crate) fn unix_ms(self) -> u64 {
        self.unix_us / 1000
    }

    /// Microseconds that have passed since this moment.
    pub(crate) fn elapsed_us(self) -> u64 {
        micros(self.instant.elapsed())
    }
}

/// The steady clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The wall clock, for comparing with dates that others send.
pub(crate) fn system_time() -> SystemTime {
    SystemTime::now()
}

pub(crate) fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds since 1970; a wall clock set before that reads as 1970.
fn unix_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, micros)
}
