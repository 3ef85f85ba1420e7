//! Waiting for a moment, exact to microseconds.
//!
//! tokio's timer counts in milliseconds, which at 1000 requests/s would send them in bursts. On Linux the moment comes from a timerfd.

use std::io;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use rustix::fd::OwnedFd;
#[cfg(target_os = "linux")]
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
#[cfg(target_os = "linux")]
use tokio::io::{Interest, unix::AsyncFd};

/// Waits for one moment at a time.
#[derive(Debug)]
pub(crate) struct Pacer {
    #[cfg(target_os = "linux")]
    timer: AsyncFd<OwnedFd>,
}

#[cfg(target_os = "linux")]
impl Pacer {
    #[expect(
        deprecated,
        reason = "its successor is unsafe, because a type might change its descriptor; `OwnedFd` never does"
    )]
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self {
            timer: AsyncFd::with_interest(timer, Interest::READABLE)?,
        })
    }

    /// Returns at `moment`, never before; at once when it has passed.
    pub(crate) async fn until(&self, moment: Instant) -> io::Result<()> {
        loop {
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let once = Itimerspec {
                it_interval: timespec(Duration::ZERO),
                it_value: timespec(left),
            };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
            let mut fired = self.timer.readable().await?;
            let mut expirations = [0u8; 8];
            // Reading is what arms the descriptor again; `WouldBlock` means that it fired for a moment long past.
            let _ = rustix::io::read(&self.timer, &mut expirations);
            fired.clear_ready();
        }
    }
}

#[cfg(target_os = "linux")]
fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

#[cfg(not(target_os = "linux"))]
impl Pacer {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Returns within a millisecond after `moment`.
    pub(crate) async fn until(&self, moment: Instant) -> io::Result<()> {
        tokio::time::sleep_until(moment.into()).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_never_early_and_more_exact_than_a_millisecond() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut late: Vec<Duration> = runtime.block_on(async {
            let pacer = Pacer::new().unwrap();
            let mut late = Vec::new();
            for _ in 0..200 {
                let moment = Instant::now() + Duration::from_micros(700);
                pacer.until(moment).await.unwrap();
                late.push(
                    Instant::now()
                        .checked_duration_since(moment)
                        .expect("never early"),
                );
            }
            late
        });
        late.sort();
        // A millisecond timer would be late by a third of a millisecond at best. The best tenth counts, because
        // others share the machine.
        assert!(
            late[20] < Duration::from_micros(250),
            "the best tenth {:?}",
            late[20]
        );
    }
}
