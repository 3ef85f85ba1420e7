//! The one place where the gateway and its governance read the time.

#![expect(clippy::disallowed_methods, reason = "the clock that all else asks")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A moment on both clocks: the wall clock says when, the steady clock how long.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub unix_us: u64,
    pub instant: Instant,
}

impl Moment {
    pub fn now() -> Self {
        Self {
            unix_us: unix_us(),
            instant: Instant::now(),
        }
    }

    pub fn unix_ms(self) -> u64 {
        self.unix_us / 1000
    }

    /// Microseconds that have passed since this moment.
    pub fn elapsed_us(self) -> u64 {
        micros(self.instant.elapsed())
    }
}

/// The steady clock.
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock, for comparing with dates that others send.
pub fn system_time() -> SystemTime {
    SystemTime::now()
}

pub fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds since 1970; a wall clock set before that reads as 1970.
fn unix_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, micros)
}
