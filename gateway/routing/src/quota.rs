//! What a provider said is left of its rate limit, until it resets.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The `x-ratelimit-remaining-*` and `-reset-*` headers of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    pub requests_left: Option<u64>,
    pub tokens_left: Option<u64>,
    /// When the counts start again.
    pub resets_us: u64,
}

/// The last [`Quota`] seen, less what was sent since.
#[derive(Debug)]
pub(crate) struct QuotaLeft {
    requests: AtomicU64,
    tokens: AtomicU64,
    resets_us: AtomicU64,
}

const UNKNOWN: u64 = u64::MAX;

impl QuotaLeft {
    pub(crate) fn unknown() -> Self {
        Self {
            requests: AtomicU64::new(UNKNOWN),
            tokens: AtomicU64::new(UNKNOWN),
            resets_us: AtomicU64::new(0),
        }
    }

    // Three words, not one: a reader between two stores decides one request on a mixture of two
    // answers, which is no worse than having asked a moment earlier.
    pub(crate) fn learn(&self, quota: Quota) {
        self.requests
            .store(quota.requests_left.unwrap_or(UNKNOWN), Relaxed);
        self.tokens
            .store(quota.tokens_left.unwrap_or(UNKNOWN), Relaxed);
        self.resets_us.store(quota.resets_us, Relaxed);
    }

    /// Whether a request of this size would be refused.
    pub(crate) fn is_short(&self, tokens: u64, now_us: u64) -> bool {
        now_us < self.resets_us.load(Relaxed)
            && (self.requests.load(Relaxed) == 0 || self.tokens.load(Relaxed) < tokens)
    }

    pub(crate) fn take(&self, tokens: u64, now_us: u64) {
        if now_us < self.resets_us.load(Relaxed) {
            lower(&self.requests, 1);
            lower(&self.tokens, tokens);
        }
    }
}

fn lower(left: &AtomicU64, by: u64) {
    let _ = left.fetch_update(Relaxed, Relaxed, |left| {
        (left != UNKNOWN).then(|| left.saturating_sub(by))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_up_quota_refuses_until_it_resets() {
        let left = QuotaLeft::unknown();
        assert!(!left.is_short(1_000_000, 5));
        left.learn(Quota {
            requests_left: Some(2),
            tokens_left: Some(1_000),
            resets_us: 100,
        });
        assert!(left.is_short(1_001, 5));
        left.take(600, 5);
        assert!(left.is_short(500, 5));
        left.take(100, 5);
        assert!(left.is_short(1, 5), "no request is left");
        assert!(!left.is_short(1_000_000, 100));
    }

    #[test]
    fn what_the_provider_did_not_say_is_not_counted() {
        let left = QuotaLeft::unknown();
        left.learn(Quota {
            requests_left: None,
            tokens_left: Some(10),
            resets_us: 100,
        });
        for _ in 0..10 {
            left.take(1, 5);
        }
        assert!(left.is_short(1, 5));
        assert!(!left.is_short(0, 5));
    }
}
