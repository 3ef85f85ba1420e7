//! Logarithm and exponential, good to a thousandth.
//!
//! Scores need no more, and a decision takes dozens of them: these run in vector registers, which
//! the exact ones do not. Both split a float into exponent and mantissa and replace the mantissa's
//! part by a polynomial that is exact at both ends of its range, so they are continuous. The
//! coefficients are a least-squares fit; the tests measure the error.

use std::f32::consts::{LN_2, LOG2_E};

const MANTISSA: u32 = 0x007f_ffff;
const ONE: u32 = 0x3f80_0000;

/// Natural logarithm of a positive, normal number. Infinity gives about 88.7, as the largest
/// finite number does.
pub(crate) fn ln(x: f32) -> f32 {
    let bits = x.to_bits();
    let exponent = (bits >> 23) as f32 - 127.0;
    let m = f32::from_bits(bits & MANTISSA | ONE) - 1.0;
    let log2_m = m * (1.0 + (1.0 - m) * (0.438_073 + m * (0.080_307 * m - 0.236_693)));
    (exponent + log2_m) * LN_2
}

/// e to the power of a number that is not positive; 0 below about -87.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=127 before the cast"
)]
pub(crate) fn exp(x: f32) -> f32 {
    let power = (x * LOG2_E).clamp(-127.0, 0.0) + 127.0;
    let whole = power as u32;
    let f = power - whole as f32;
    let mantissa = 1.0 + f * (1.0 + (f - 1.0) * (0.304_072 + 0.079_125 * f));
    f32::from_bits(whole << 23) * mantissa
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_good_to_a_thousandth() {
        for step in 0..40_000 {
            let x = (step as f32 / 500.0 - 40.0).exp();
            assert!((ln(x) - x.ln()).abs() < 2e-4, "ln({x})");
        }
        assert!(ln(1.0).abs() < 1e-6);
        assert!(ln(f32::INFINITY) > 80.0);
    }

    #[test]
    fn exponentials_are_good_to_a_thousandth_and_end_at_zero() {
        for step in 0..40_000 {
            let x = step as f32 / -500.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 3e-4, "exp({x})");
        }
        assert!((exp(0.0) - 1.0).abs() < 1e-6);
        assert!(exp(-1e30) <= f32::MIN_POSITIVE);
        assert!(exp(f32::NEG_INFINITY) <= f32::MIN_POSITIVE);
    }
}
