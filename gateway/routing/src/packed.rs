//! Packing a value and its time into one atomic word.
//!
//! Time comes in as microseconds since the Unix epoch. Where it shares a word with a value, 32 bits
//! of milliseconds are kept: they wrap after 49 days, and differences are taken modulo that.

pub(crate) const US_PER_MS: u64 = 1_000;

pub(crate) fn join(value: u32, stamp: u32) -> u64 {
    u64::from(value) << 32 | u64::from(stamp)
}

pub(crate) fn split(word: u64) -> (u32, u32) {
    (low(word >> 32), low(word))
}

pub(crate) fn stamp(now_us: u64) -> u32 {
    low(now_us / US_PER_MS)
}

/// Milliseconds between two stamps. Threads read the clock before they meet at the word, so `now`
/// may lie a little before `then`; that counts as no time.
pub(crate) fn elapsed_ms(then: u32, now: u32) -> u32 {
    let elapsed = now.wrapping_sub(then);
    if elapsed > u32::MAX - WRAP_MARGIN_MS {
        0
    } else {
        elapsed
    }
}

const WRAP_MARGIN_MS: u32 = 60_000;

#[expect(
    clippy::cast_possible_truncation,
    reason = "keeping the lower half is the purpose"
)]
fn low(word: u64) -> u32 {
    word as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_its_halves_apart() {
        assert_eq!(split(join(7, u32::MAX)), (7, u32::MAX));
    }

    #[test]
    fn elapsed_time_survives_wrapping_and_a_late_reader() {
        assert_eq!(elapsed_ms(u32::MAX - 4, 5), 10);
        assert_eq!(elapsed_ms(1_000, 990), 0);
    }
}
