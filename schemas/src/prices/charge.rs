//! What a call costs under one row.

use super::parts::{PricedPart, input_parts, output_parts};
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
    #[error("the price book has no prices of service tier \"{0}\"")]
    NoTier(String),
    #[error("the price book has no price for {}", .0.in_words())]
    NoPrice(Unit),
    #[error("the price book has no price for a model that ran in \"{0}\"")]
    NoGeo(String),
    #[error("audio is billed by its duration, which was not reported")]
    NoDuration,
    #[error("the model is billed by {0}, which are not metered")]
    Unmetered(String),
    #[error("there is no exchange rate for {0} on that day or before")]
    NoRate(String),
    #[error("the amount is too large")]
    TooLarge,
    #[error("the call also used \"{model}\": {reason}")]
    OtherModel { model: String, reason: Box<Self> },
}

/// Amounts are summed in 10⁻¹⁸ of the currency times this: prices are 10⁻¹² per million tokens, and
/// one millisecond is 10/36 of a millionth of an hour.
const FINENESS: u128 = 18;

impl Row {
    /// Multiplies usage by the row's prices and converts it to dollars: `per_usd` is how much of the
    /// row's currency one dollar was. Rounds once, to the nearest picodollar, halves to even.
    ///
    /// `inference_geo` is where the model ran, if not for the standard price. It multiplies the price
    /// of tokens and of nothing else.
    pub fn charge(
        &self,
        usage: &Usage,
        inference_geo: &str,
        per_usd: Amount,
    ) -> Result<PicoUsd, Unpriced> {
        if usage.is_empty() {
            return Err(Unpriced::NoUsage);
        }
        if !self.unmetered.is_empty() {
            return Err(Unpriced::Unmetered(self.unmetered.clone()));
        }
        let (times, over) = self.geo_factor(inference_geo)?;
        let tokens = self.tokens(usage)?;
        let fees = self.fees(usage)?;
        let total = tokens
            .checked_mul(times)
            .zip(fees.checked_mul(over))
            .and_then(|(tokens, fees)| tokens.checked_add(fees)?.checked_mul(1_000_000))
            .ok_or(Unpriced::TooLarge)?;
        let by = u128::from(per_usd.0.max(1)) * FINENESS * over;
        i64::try_from(divide(total, by))
            .map(PicoUsd)
            .map_err(|_| Unpriced::TooLarge)
    }

    /// What tokens cost in a place, as a fraction in its lowest terms.
    fn geo_factor(&self, geo: &str) -> Result<(u128, u128), Unpriced> {
        if geo.is_empty() {
            return Ok((1, 1));
        }
        let known = self.geo_factors.iter().find(|(name, _)| name == geo);
        let (_, factor) = known.ok_or_else(|| Unpriced::NoGeo(geo.to_owned()))?;
        let (factor, one) = (u128::from(factor.0), u128::from(Amount::ONE.0));
        let common = common_divisor(factor, one);
        Ok((factor / common, one / common))
    }

    fn tokens(&self, usage: &Usage) -> Result<u128, Unpriced> {
        self.check_audio(usage)?;
        let mut total: u128 = 0;
        let wholes = [
            (usage.input_tokens, Unit::Input, input_parts(usage).to_vec()),
            (
                usage.output_tokens,
                Unit::Output,
                output_parts(usage).to_vec(),
            ),
        ];
        for (whole, unit, parts) in wholes {
            for (tokens, price) in self.priced(whole, unit, parts)? {
                total = u128::from(tokens)
                    .checked_mul(u128::from(price.0) * FINENESS)
                    .and_then(|cost| total.checked_add(cost))
                    .ok_or(Unpriced::TooLarge)?;
            }
        }
        Ok(total)
    }

    /// The parts and the rest of a whole, each with its price. What parts exceed the whole by is cut
    /// from the cheapest: no more tokens are billed than there were. A whole of zero beside parts is
    /// taken as not reported.
    fn priced(
        &self,
        whole: Option<u64>,
        unit: Unit,
        parts: Vec<PricedPart>,
    ) -> Result<Vec<(u64, Amount)>, Unpriced> {
        let mut priced = Vec::with_capacity(parts.len() + 1);
        for PricedPart { tokens, unit } in parts.into_iter().filter(|part| part.tokens > 0) {
            priced.push((tokens, self.price_of(unit)?));
        }
        let sum = priced.iter().map(|(tokens, _)| *tokens);
        let sum = sum.fold(0, u64::saturating_add);
        let whole = whole.filter(|whole| *whole > 0).unwrap_or(sum);
        if let Some(rest) = whole.checked_sub(sum).filter(|rest| *rest > 0) {
            priced.push((rest, self.price_of(unit)?));
        }
        let mut excess = sum.saturating_sub(whole);
        priced.sort_by_key(|(_, price)| price.0);
        for (tokens, _) in &mut priced {
            let cut = excess.min(*tokens);
            *tokens -= cut;
            excess -= cut;
        }
        Ok(priced)
    }

    /// The price of a unit, or of what it is a part of.
    ///
    /// A longer lifetime of the cache is dearer than a shorter one, so it does not take its price.
    fn price_of(&self, unit: Unit) -> Result<Amount, Unpriced> {
        let has_writes = self.price(Unit::CacheWrite5m).is_some();
        let wholes: &[Unit] = match unit {
            Unit::CacheWrite12h => &[],
            Unit::CacheWrite1h if has_writes => &[],
            // OpenAI bills writes from GPT-5.6 on, at one price
            // (learn.microsoft.com/azure/foundry/openai/how-to/prompt-caching, November 2026).
            Unit::CacheWrite30m => &[Unit::CacheWrite5m, Unit::Input],
            Unit::CacheWrite5m | Unit::CacheWrite1h => &[Unit::Input],
            Unit::CachedInput | Unit::AudioInput | Unit::ImageInput | Unit::VideoInput => {
                &[Unit::Input]
            }
            Unit::CachedAudioInput => &[Unit::CachedInput, Unit::AudioInput, Unit::Input],
            Unit::CachedImageInput => &[Unit::CachedInput, Unit::ImageInput, Unit::Input],
            Unit::Reasoning
            | Unit::AudioOutput
            | Unit::ImageOutput
            | Unit::VideoOutput
            | Unit::Citation => &[Unit::Output],
            _ => &[],
        };
        let whole = || wholes.iter().find_map(|whole| self.price(*whole));
        self.price(unit)
            .or_else(whole)
            .ok_or(Unpriced::NoPrice(unit))
    }

    /// Audio may be billed by its tokens or by its length, and whichever it is must be known.
    fn check_audio(&self, usage: &Usage) -> Result<(), Unpriced> {
        let audio_tokens = usage.audio_input_tokens.unwrap_or(0);
        if self.price(Unit::AudioInputHour).is_none() {
            let is_unpriced = usage.audio_input_ms.unwrap_or(0) > 0 && audio_tokens == 0;
            return match is_unpriced {
                true => Err(Unpriced::NoPrice(Unit::AudioInputHour)),
                false => Ok(()),
            };
        }
        let is_by_tokens = self.price(Unit::AudioInput).is_some();
        let is_all_audio = self.price(Unit::Input).is_none();
        match usage.audio_input_ms {
            None if is_all_audio || (audio_tokens > 0 && !is_by_tokens) => {
                Err(Unpriced::NoDuration)
            }
            _ => Ok(()),
        }
    }

    /// What is not tokens.
    fn fees(&self, usage: &Usage) -> Result<u128, Unpriced> {
        let request = self.price(Unit::Request).unwrap_or_default();
        let mut total = u128::from(request.0) * 1_000_000 * FINENESS;
        let hours = self.price(Unit::AudioInputHour).unwrap_or_default();
        // An hour has 3 600 000 milliseconds.
        let audio = u128::from(usage.audio_input_ms.unwrap_or(0)) * u128::from(hours.0);
        total = audio
            .checked_mul(FINENESS * 10 / 36)
            .and_then(|audio| total.checked_add(audio))
            .ok_or(Unpriced::TooLarge)?;
        let calls = [
            (usage.web_searches, Unit::WebSearch),
            (usage.file_searches, Unit::FileSearch),
            (usage.code_executions, Unit::CodeExecution),
        ];
        for (calls, unit) in calls {
            let calls = calls.unwrap_or(0);
            if calls > 0 {
                let price = self.price_of(unit)?;
                total = u128::from(calls)
                    .checked_mul(u128::from(price.0) * 1_000 * FINENESS)
                    .and_then(|cost| total.checked_add(cost))
                    .ok_or(Unpriced::TooLarge)?;
            }
        }
        Ok(total)
    }
}

fn common_divisor(a: u128, b: u128) -> u128 {
    match b {
        0 => a.max(1),
        _ => common_divisor(b, a % b),
    }
}

/// Divides, to the nearest, halves to even.
fn divide(amount: u128, by: u128) -> u128 {
    let (quotient, rest) = (amount / by, amount % by);
    let up = rest > by - rest || (rest == by - rest && quotient % 2 == 1);
    quotient + u128::from(up)
}
