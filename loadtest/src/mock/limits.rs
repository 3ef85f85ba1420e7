//! The provider's rate limits: what the `x-ratelimit-*` headers say, and 429 when they are enforced.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{LimitsReturn, MockOptions};

const WINDOW: Duration = Duration::from_secs(60);

/// Limits of a minute on requests and tokens.
#[derive(Debug)]
pub(super) struct MockLimits {
    requests: u64,
    tokens: u64,
    /// `None`: the limits are only reported, so nothing is counted.
    window: Option<Mutex<MinuteWindow>>,
}

#[derive(Debug)]
struct MinuteWindow {
    returns: LimitsReturn,
    /// With limits that come back steadily: up to when that is accounted for.
    began: Instant,
    requests: u64,
    tokens: u64,
}

/// What the headers of one answer say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headroom {
    pub(super) requests: u64,
    pub(super) requests_left: u64,
    pub(super) tokens: u64,
    pub(super) tokens_left: u64,
    /// Time until the limits are whole again.
    pub(super) reset: Duration,
    /// Time until a call that was refused would fit.
    pub(super) retry: Duration,
    /// Which limit this call ran into.
    pub(super) exceeded: Option<&'static str>,
}

impl MockLimits {
    pub(super) fn new(options: &MockOptions) -> Self {
        Self {
            requests: options.requests_per_minute,
            tokens: options.tokens_per_minute,
            window: options.enforce_limits.then(|| {
                Mutex::new(MinuteWindow {
                    returns: options.limits_return,
                    began: Instant::now(),
                    requests: 0,
                    tokens: 0,
                })
            }),
        }
    }

    /// The headroom as it is, for answers that use up nothing.
    pub(super) fn peek(&self, now: Instant) -> Headroom {
        let mut room = self.unused();
        if let Some(window) = &self.window {
            window.lock().show(now, &mut room);
        }
        room
    }

    /// Counts a call that will take `tokens`, unless it does not fit.
    pub(super) fn take(&self, tokens: u64, now: Instant) -> Headroom {
        let mut room = self.unused();
        match &self.window {
            Some(window) => window.lock().take(tokens, now, &mut room),
            None => {
                room.requests_left = room.requests.saturating_sub(1);
                room.tokens_left = room.tokens.saturating_sub(tokens);
            }
        }
        room
    }

    fn unused(&self) -> Headroom {
        Headroom {
            requests: self.requests,
            requests_left: self.requests,
            tokens: self.tokens,
            tokens_left: self.tokens,
            reset: Duration::from_millis(6),
            retry: Duration::ZERO,
            exceeded: None,
        }
    }
}

impl MinuteWindow {
    fn take(&mut self, tokens: u64, now: Instant, room: &mut Headroom) {
        self.turn(now, room);
        if self.requests >= room.requests {
            room.exceeded = Some("requests");
        } else if self.tokens.saturating_add(tokens) > room.tokens {
            room.exceeded = Some("tokens");
        } else {
            self.requests += 1;
            self.tokens += tokens;
        }
        self.show(now, room);
    }

    /// Gives back what has come back by now.
    fn turn(&mut self, now: Instant, room: &Headroom) {
        let passed = now.duration_since(self.began);
        if passed >= WINDOW {
            (self.began, self.requests, self.tokens) = (now, 0, 0);
        } else if self.returns == LimitsReturn::Steadily {
            // In whole requests, so that no part of one is lost.
            let back = part(room.requests, passed);
            let accounted = spread(back, room.requests);
            if back > 0 {
                self.requests = self.requests.saturating_sub(back);
                let back = part(room.tokens, accounted);
                self.tokens = self.tokens.saturating_sub(back);
                self.began += accounted;
            }
        }
    }

    fn show(&mut self, now: Instant, room: &mut Headroom) {
        self.turn(now, room);
        room.requests_left = room.requests - self.requests;
        room.tokens_left = room.tokens - self.tokens;
        let left = WINDOW.saturating_sub(now.duration_since(self.began));
        (room.reset, room.retry) = match self.returns {
            LimitsReturn::AtOnce => (left, left),
            LimitsReturn::Steadily => (
                spread(self.requests, room.requests),
                spread(1, room.requests),
            ),
        };
    }
}

/// What of `whole` comes back in a part of the time.
fn part(whole: u64, passed: Duration) -> u64 {
    let back = u128::from(whole) * passed.as_nanos() / WINDOW.as_nanos();
    u64::try_from(back).unwrap_or(whole)
}

/// The time in which `amount` of `whole` comes back.
fn spread(amount: u64, whole: u64) -> Duration {
    let nanos = WINDOW.as_nanos() * u128::from(amount) / u128::from(whole.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(requests: u64, tokens: u64, enforce: bool) -> MockLimits {
        MockLimits::new(&MockOptions {
            requests_per_minute: requests,
            tokens_per_minute: tokens,
            enforce_limits: enforce,
            ..MockOptions::default()
        })
    }

    #[test]
    fn enforced_limits_refuse_and_reset() {
        let limits = limits(2, 100, true);
        let now = Instant::now();
        assert_eq!(limits.take(60, now).exceeded, None);
        let refused = limits.take(60, now);
        assert_eq!(
            (refused.exceeded, refused.tokens_left),
            (Some("tokens"), 40)
        );
        assert_eq!(limits.take(40, now).exceeded, None);
        assert_eq!(limits.take(0, now).exceeded, Some("requests"));
        let later = now + WINDOW + Duration::from_secs(1);
        assert_eq!(limits.take(60, later).exceeded, None);
    }

    #[test]
    fn limits_that_come_back_steadily_do_so_bit_by_bit() {
        let limits = MockLimits::new(&MockOptions {
            requests_per_minute: 60,
            enforce_limits: true,
            limits_return: LimitsReturn::Steadily,
            ..MockOptions::default()
        });
        let now = Instant::now();
        for _ in 0..60 {
            assert_eq!(limits.take(1, now).exceeded, None);
        }
        let refused = limits.take(1, now);
        assert_eq!(refused.exceeded, Some("requests"));
        assert_eq!((refused.reset, refused.retry), (WINDOW, WINDOW / 60));
        let later = now + Duration::from_millis(2_500);
        assert_eq!(limits.take(1, later).requests_left, 1);
        assert_eq!(limits.take(1, later).exceeded, None);
        assert_eq!(limits.take(1, later).exceeded, Some("requests"));
    }

    #[test]
    fn reported_limits_always_have_room() {
        let limits = limits(2, 100, false);
        let now = Instant::now();
        for _ in 0..10 {
            assert_eq!(limits.take(50, now).exceeded, None);
        }
    }
}
