//! Randomness that can be replayed: a request's seed gives every draw of its plan.

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): eight bytes of state, no warm-up, and any seed
/// is a good seed. A plan makes a handful of draws, so its period is never a concern.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeededRng(u64);

impl SeededRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number in [0, 1).
    pub(crate) fn unit(&mut self) -> f32 {
        unit(self.next_u64())
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of SplitMix64: a bijection that spreads every bit of its input.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The upper 24 bits as a number in [0, 1): all that an `f32` can hold evenly.
pub(crate) fn unit(bits: u64) -> f32 {
    let upper = u32::try_from(bits >> 40).unwrap_or(0);
    upper as f32 / 16_777_216.0
}

/// The same for the same text, in every process and version.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(mix(text.len() as u64), |sum, byte| {
        mix(sum ^ u64::from(byte))
    })
}
