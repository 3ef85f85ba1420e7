//! What a call costs under one row.

use std::iter::once;

use super::{Amount, Row, Unit};
use crate::{PicoUsd, Usage};

/// Why a call has no price. It is never free instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpriced {
    #[error("what the call consumed was not reported")]
    NoUsage,
    #[error("the price book does not have the model")]
    NotInBook,
    #[error("no row of the price book applies")]
    NoRow,
    #[error("the row has no price for {0} tokens")]
    NoPrice(&'static str),
    #[error("there is no exchange rate for {0} on that day or before")]
    NoRate(String),
    #[error("the amount is too large")]
    TooLarge,
}

impl Row {
    /// Multiplies usage by the row's prices and converts it to dollars: `per_usd` is how much of the
    /// row's currency one dollar was. Rounds once, to the nearest picodollar, halves to even.
    ///
    /// Counts that the row has no price of their own for cost what they are a part of: cached, cache
    /// write and audio tokens are input (a 1-hour cache write first takes the 5-minute price),
    /// reasoning and audio tokens are output.
    pub fn charge(&self, usage: &Usage, per_usd: Amount) -> Result<PicoUsd, Unpriced> {
        if usage.input_tokens.is_none() && usage.output_tokens.is_none() {
            return Err(Unpriced::NoUsage);
        }
        // In 10⁻¹⁸ of the currency: prices are 10⁻¹² per million tokens.
        let mut total: u128 = 0;
        for (tokens, unit) in parts(usage).filter(|(tokens, _)| *tokens > 0) {
            let price = self
                .price_or_whole(unit)
                .ok_or(Unpriced::NoPrice(unit.as_str()))?;
            total = u128::from(tokens)
                .checked_mul(u128::from(price.0))
                .and_then(|cost| total.checked_add(cost))
                .ok_or(Unpriced::TooLarge)?;
        }
        if let Some(fee) = self.price(Unit::Request) {
            total = total
                .checked_add(u128::from(fee.0) * 1_000_000)
                .ok_or(Unpriced::TooLarge)?;
        }
        let picos = if per_usd == Amount::ONE {
            divide(total, 1_000_000)
        } else {
            let scaled = total.checked_mul(1_000_000).ok_or(Unpriced::TooLarge)?;
            divide(scaled, u128::from(per_usd.0.max(1)))
        };
        i64::try_from(picos)
            .map(PicoUsd)
            .map_err(|_| Unpriced::TooLarge)
    }

    /// The price of a unit, or of the whole that it is a part of.
    fn price_or_whole(&self, unit: Unit) -> Option<Amount> {
        let whole = match unit {
            Unit::CacheWrite1h => Some(Unit::CacheWrite5m),
            Unit::CachedInput | Unit::CacheWrite5m | Unit::AudioInput => Some(Unit::Input),
            Unit::Reasoning | Unit::AudioOutput => Some(Unit::Output),
            Unit::Input | Unit::Output | Unit::Request => None,
        };
        self.price(unit)
            .or_else(|| whole.and_then(|whole| self.price_or_whole(whole)))
    }
}

/// Splits usage into what is priced apart. What a provider reports of a part in excess of the whole
/// is priced as the part, and the rest of the whole is then nothing.
fn parts(usage: &Usage) -> impl Iterator<Item = (u64, Unit)> {
    let count = |tokens: Option<u64>| tokens.unwrap_or(0);
    let input_parts = [
        (count(usage.cached_input_tokens), Unit::CachedInput),
        (count(usage.cache_write_5m_tokens), Unit::CacheWrite5m),
        (count(usage.cache_write_1h_tokens), Unit::CacheWrite1h),
        (count(usage.audio_input_tokens), Unit::AudioInput),
    ];
    let output_parts = [
        (count(usage.reasoning_tokens), Unit::Reasoning),
        (count(usage.audio_output_tokens), Unit::AudioOutput),
    ];
    let rest = |whole: Option<u64>, parts: &[(u64, Unit)]| {
        let parts = parts.iter().map(|(tokens, _)| *tokens);
        parts.fold(count(whole), u64::saturating_sub)
    };
    let input = (rest(usage.input_tokens, &input_parts), Unit::Input);
    let output = (rest(usage.output_tokens, &output_parts), Unit::Output);
    let inputs = once(input).chain(input_parts);
    inputs.chain(once(output)).chain(output_parts)
}

/// Divides, to the nearest, halves to even.
fn divide(amount: u128, by: u128) -> u128 {
    let (quotient, twice_rest) = (amount / by, amount % by * 2);
    let up = twice_rest > by || (twice_rest == by && quotient % 2 == 1);
    quotient + u128::from(up)
}
