//! A moving average in one atomic word, weighted by time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::packed;

/// The value (`f32`) and when it was last updated. Empty until the first observation.
#[derive(Debug)]
pub(crate) struct Ewma(AtomicU64);

/// No observation yields this pattern: it is a NaN.
const EMPTY: u64 = u64::MAX;

/// A reading: the value as of its last observation, and how old that is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct EwmaSample {
    pub(crate) value: f32,
    pub(crate) age_ms: u32,
}

impl Default for Ewma {
    fn default() -> Self {
        Self(AtomicU64::new(EMPTY))
    }
}

impl Ewma {
    /// Changes the value and leaves its time.
    pub(crate) fn adjust(&self, adjust: impl Fn(f32) -> f32) {
        let _ = self.0.fetch_update(Relaxed, Relaxed, |word| {
            let (bits, stamp) = packed::split(word);
            (word != EMPTY).then(|| packed::join(adjust(f32::from_bits(bits)).to_bits(), stamp))
        });
    }

    pub(crate) fn clear(&self) {
        self.0.store(EMPTY, Relaxed);
    }

    pub(crate) fn read(&self, now_us: u64) -> Option<EwmaSample> {
        let word = self.0.load(Relaxed);
        (word != EMPTY).then(|| unpack(word, now_us))
    }

    /// Replaces the value by what `update` makes of the last reading.
    pub(crate) fn update(&self, now_us: u64, update: impl Fn(Option<EwmaSample>) -> f32) {
        let _ = self.0.fetch_update(Relaxed, Relaxed, |word| {
            let before = (word != EMPTY).then(|| unpack(word, now_us));
            Some(packed::join(
                update(before).to_bits(),
                packed::stamp(now_us),
            ))
        });
    }
}

fn unpack(word: u64, now_us: u64) -> EwmaSample {
    let (bits, then) = packed::split(word);
    let age_ms = packed::elapsed_ms(then, packed::stamp(now_us));
    EwmaSample {
        value: f32::from_bits(bits),
        age_ms,
    }
}

/// What is left of a weight after `age_ms`: 1 when fresh, about a third after `tau_ms`.
///
/// A rational stand-in for exp(-x), which would take a quarter of a decision's time over sixteen
/// candidates. It falls more slowly at the far end, where only "small" matters. Inlined, one of its two
/// divisions is done by the compiler: a decision takes dozens of them.
#[inline]
pub(crate) fn fade(age_ms: u32, tau_ms: f32) -> f32 {
    let x = age_ms as f32 * (1.0 / tau_ms);
    1.0 / (1.0 + x + 0.5 * x * x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_until_observed() {
        let ewma = Ewma::default();
        assert_eq!(ewma.read(1), None);
        ewma.update(5_000, |before| before.map_or(3.0, |b| b.value + 1.0));
        ewma.update(7_000, |before| before.map_or(3.0, |b| b.value + 1.0));
        assert_eq!(
            ewma.read(9_000),
            Some(EwmaSample {
                value: 4.0,
                age_ms: 2
            })
        );
    }

    #[test]
    fn a_weight_fades_like_an_exponential() {
        for (age, exact) in [(0, 1.0_f32), (500, 0.606), (1_000, 0.368), (3_000, 0.0498)] {
            assert!((fade(age, 1_000.0) - exact).abs() < 0.07, "at {age}");
        }
    }
}
