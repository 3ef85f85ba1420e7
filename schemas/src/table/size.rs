//! Comparing requests of different sizes.
//!
//! A prompt of 100 000 tokens waits longer for its first token than one of 100, wherever it is
//! sent. A deployment that happens to get the long ones must not look slow for it, so latencies are
//! stated for a request of reference size, here and in gateways alike.

/// What a request costs in time besides its prompt (connection, queue, scheduling), expressed as
/// input tokens: about 0.3 s at the 5 000 to 10 000 prompt tokens per second of hosted models.
pub const FIXED_TOKENS: f32 = 2_000.0;
/// Generating one token takes about as long as reading this many: 10 to 20 ms against 0.1 to 0.2.
pub const INPUT_TOKENS_PER_OUTPUT_TOKEN: u32 = 100;
/// Latencies are compared as if every prompt had this many tokens.
pub const REFERENCE_TOKENS: f32 = 1_000.0;
/// Price of an output token in input tokens: the ratio of most price lists lies between 3 and 5.
pub const PRICED_PER_OUTPUT_TOKEN: f32 = 4.0;

/// How many times longer than at reference size it takes until `output_tokens` of the answer are
/// there. Time to first token is the case of 0.
#[must_use]
pub fn factor(input_tokens: u32, output_tokens: u32) -> f32 {
    let work = FIXED_TOKENS
        + input_tokens as f32
        + INPUT_TOKENS_PER_OUTPUT_TOKEN as f32 * output_tokens as f32;
    work / (FIXED_TOKENS + REFERENCE_TOKENS)
}

/// Input and output as one number that price is roughly proportional to.
#[must_use]
pub fn priced_tokens(input_tokens: u64, output_tokens: u64) -> f64 {
    input_tokens as f64 + f64::from(PRICED_PER_OUTPUT_TOKEN) * output_tokens as f64
}

/// Upper ends of the size classes; the last class has none.
pub const CLASS_ENDS: [u64; 5] = [500, 2_000, 8_000, 32_000, 128_000];

/// The size class of a prompt, 0 to [`CLASS_ENDS`]`.len()`.
#[must_use]
pub fn class(input_tokens: u64) -> u8 {
    CLASS_ENDS
        .iter()
        .fold(0, |class, end| class + u8::from(input_tokens > *end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_request_has_factor_one() {
        assert!((factor(1_000, 0) - 1.0).abs() < 1e-6);
        assert!(factor(100_000, 0) > 30.0);
        assert!(factor(1_000, 100) > 4.0);
    }

    #[test]
    fn classes_end_where_they_say() {
        let classes = [0, 500, 501, 2_000, 8_000, 8_001, 128_000, 128_001].map(class);
        assert_eq!(classes, [0, 0, 1, 1, 2, 3, 4, 5]);
    }
}
