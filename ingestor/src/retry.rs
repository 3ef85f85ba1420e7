//! How the ingestor retries, and when it stops.
//!
//! A store or a log that is away is no error: the ingestor retries, ever more slowly, for as long as
//! it takes, and reads nothing meanwhile. Only a stop ends that; the log keeps what was not stored.

use std::fmt::Display;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::caps::{DRAIN_BEGIN_MAX, DRAIN_MAX, RETRY_MAX, RETRY_MIN};
use crate::health::IngestorHealth;

/// The ingestor was stopped before it was done.
#[derive(Debug)]
pub(crate) struct Stopped;

#[derive(Debug)]
pub(crate) struct RetryPolicy {
    stopped: watch::Receiver<bool>,
    /// Set at the stop.
    stop_by: Option<Instant>,
    health: IngestorHealth,
}

impl RetryPolicy {
    pub(crate) fn new(stopped: watch::Receiver<bool>, health: IngestorHealth) -> Self {
        Self {
            stopped,
            stop_by: None,
            health,
        }
    }

    /// The result of an attempt; None, after a pause, if there must be another.
    pub(crate) async fn outcome<T, E: Display>(
        &mut self,
        backoff: &mut Backoff,
        attempt: Result<T, E>,
    ) -> Result<Option<T>, Stopped> {
        match attempt {
            Ok(done) => {
                self.health.well();
                Ok(Some(done))
            }
            Err(error) => {
                let trouble = error.to_string();
                self.pause(backoff, trouble).await.map(|()| None)
            }
        }
    }

    /// Waits before the next attempt; gives up at a stop.
    pub(crate) async fn pause(
        &mut self,
        backoff: &mut Backoff,
        trouble: String,
    ) -> Result<(), Stopped> {
        self.health.in_trouble(trouble);
        if self.is_stopping() {
            return Err(Stopped);
        }
        tokio::select! {
            () = sleep(backoff.next()) => Ok(()),
            // A dropped sender also means stop.
            _ = self.stopped.wait_for(|stopped| *stopped) => Err(Stopped),
        }
    }

    pub(crate) fn is_stopping(&mut self) -> bool {
        let stopped = *self.stopped.borrow() || self.stopped.has_changed().is_err();
        if stopped && self.stop_by.is_none() {
            self.stop_by = Some(Instant::now() + DRAIN_BEGIN_MAX);
        }
        stopped
    }

    /// Whether the time that a stop leaves for further batches is used up.
    pub(crate) fn is_over(&mut self) -> bool {
        self.is_stopping() && self.stop_by.is_some_and(|by| Instant::now() >= by)
    }
}

/// Ends when the time that a stop leaves is used up.
pub(crate) async fn drain_timeout(mut stopped: watch::Receiver<bool>) {
    // A dropped sender also means stop.
    let _ = stopped.wait_for(|stopped| *stopped).await;
    sleep(DRAIN_MAX).await;
}

/// Backoff that double.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(RETRY_MIN)
    }
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(RETRY_MAX);
        pause
    }
}
