//! How large an answer is: by the call's own wish first, then by the options.

use rand::rngs::SmallRng;

use super::ledger::TokenCounts;
use super::wire::{MockAnswer, MockRequest};
use super::{MockOptions, MockState};
use crate::clock;

/// Tokens of an answer that neither the request nor the options size.
pub(super) const OUTPUT_TOKENS_DEFAULT: u32 = 16;

/// Sizes the answer.
pub(super) fn size(
    mut asked: MockRequest,
    number: u64,
    shared: &MockState,
    rng: &mut SmallRng,
) -> MockAnswer {
    let options = &shared.options;
    let wish = std::mem::take(&mut asked.overrides);
    let number_in = |text: Option<String>| text.and_then(|text| text.trim().parse::<u64>().ok());
    let input = number_in(wish.mock_input_tokens).unwrap_or(asked.input_tokens);
    let cached_input = number_in(wish.mock_cached_tokens)
        .unwrap_or_else(|| cached(input, options.cached_share))
        .min(input);
    let (output, clipped) = match (asked.generates, number_in(wish.mock_output_tokens)) {
        (false, _) => (0, false),
        (true, Some(tokens)) => (
            u32::try_from(tokens.clamp(1, 1_000_000)).unwrap_or(1),
            false,
        ),
        (true, None) => drawn(asked.max_output_tokens, options, rng),
    };
    let reasoning = number_in(wish.mock_reasoning_tokens).map_or_else(
        || share(u64::from(output), options.reasoning_share),
        |n| n.min(u64::from(output)),
    );
    let choices = u64::from(asked.choices.max(1));
    let visible = u64::from(output) - reasoning;
    MockAnswer {
        number,
        seed: options.seed,
        created_s: clock::unix_s(),
        fingerprint: shared.fingerprint.clone(),
        usage: TokenCounts {
            input,
            cached_input,
            output: reasoning + visible * choices,
            reasoning,
        },
        visible: u32::try_from(visible).unwrap_or(u32::MAX),
        clipped: clipped && asked.calls.is_empty(),
        asked,
    }
}

/// The length of an answer, and whether `max_tokens` cut it short.
fn drawn(max: Option<u32>, options: &MockOptions, rng: &mut SmallRng) -> (u32, bool) {
    match (options.output_tokens, max) {
        (None, max) => (
            max.unwrap_or(OUTPUT_TOKENS_DEFAULT)
                .clamp(1, options.output_tokens_max),
            false,
        ),
        (Some(sizes), None) => (sizes.sample(rng), false),
        (Some(sizes), Some(max)) => {
            let wished = sizes.sample(rng);
            (wished.min(max.max(1)), wished > max)
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "token counts are far below 2^53 and the share lies in 0..=1"
)]
fn share(tokens: u64, share: f64) -> u64 {
    (tokens as f64 * share).floor() as u64
}

/// OpenAI reports cached input from 1024 tokens on, in steps of 128.
fn cached(input: u64, of_it: f64) -> u64 {
    let cached = share(input, of_it) / 128 * 128;
    if cached >= 1024 { cached } else { 0 }
}
