//! Randomness that does not depend on order.
//!
//! Every decision is drawn from a generator seeded by (seed, what is decided, which number it has), so that call 17 gets the
//! same size, pause and fault in every run, even when calls 16 and 17 arrive the other way round.

use rand::SeedableRng;
use rand::rngs::SmallRng;

/// A well-mixed 64-bit number for (seed, number): the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
#[must_use]
pub fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed ^ number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number in [0, 1) for (seed, number).
#[must_use]
pub fn unit(seed: u64, number: u64) -> f64 {
    // 53 bits are what an f64 holds exactly.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a 53-bit integer is exact in f64"
    )]
    let top = (mix(seed, number) >> 11) as f64;
    top / 9_007_199_254_740_992.0
}

/// A generator for the `number`th decision under `seed`.
#[must_use]
pub fn rng(seed: u64, number: u64) -> SmallRng {
    SmallRng::seed_from_u64(mix(seed, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_is_uniform_and_reproducible() {
        let mut buckets = [0u32; 10];
        for n in 0..100_000 {
            let drawn = unit(7, n);
            assert_eq!(drawn.to_bits(), unit(7, n).to_bits());
            let bucket = (1..10)
                .filter(|tenth| drawn >= f64::from(*tenth) / 10.0)
                .count();
            buckets[bucket] += 1;
        }
        for count in buckets {
            assert!((9_500..10_500).contains(&count), "{buckets:?}");
        }
    }

    #[test]
    fn seeds_give_different_numbers() {
        assert_ne!(mix(1, 5), mix(2, 5));
        assert_ne!(mix(1, 5), mix(1, 6));
    }
}
