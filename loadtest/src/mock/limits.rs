//! The provider's rate limits: what the `x-ratelimit-*` headers say, and 429 when they are enforced.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::MockOptions;

const WINDOW: Duration = Duration::from_secs(60);

/// Fixed windows of a minute over requests and tokens.
#[derive(Debug)]
pub(super) struct Limits {
    requests: u64,
    tokens: u64,
    /// `None`: the limits are only reported, so nothing is counted.
    window: Option<Mutex<Window>>,
}

#[derive(Debug)]
struct Window {
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
    pub(super) reset: Duration,
    /// Which limit this call ran into.
    pub(super) exceeded: Option<&'static str>,
}

impl Limits {
    pub(super) fn new(options: &MockOptions) -> Self {
        Self {
            requests: options.requests_per_minute,
            tokens: options.tokens_per_minute,
            window: options.enforce_limits.then(|| {
                Mutex::new(Window {
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
            exceeded: None,
        }
    }
}

impl Window {
    fn take(&mut self, tokens: u64, now: Instant, room: &mut Headroom) {
        self.turn(now);
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

    /// Begins a new window when the old one is over.
    fn turn(&mut self, now: Instant) {
        if now.duration_since(self.began) >= WINDOW {
            *self = Self {
                began: now,
                requests: 0,
                tokens: 0,
            };
        }
    }

    fn show(&mut self, now: Instant, room: &mut Headroom) {
        self.turn(now);
        room.requests_left = room.requests - self.requests;
        room.tokens_left = room.tokens - self.tokens;
        room.reset = WINDOW.saturating_sub(now.duration_since(self.began));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(requests: u64, tokens: u64, enforce: bool) -> Limits {
        Limits::new(&MockOptions {
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
    fn reported_limits_always_have_room() {
        let limits = limits(2, 100, false);
        let now = Instant::now();
        for _ in 0..10 {
            assert_eq!(limits.take(50, now).exceeded, None);
        }
    }
}
