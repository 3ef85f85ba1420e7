//! The most that a call can cost of which only bounds are known.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{Amount, Prices, Row, Unit, Unpriced};
use crate::PicoUsd;

/// The most that a call can consume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallBound {
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// Calls of tools that run at the provider.
    pub web_searches: u64,
    pub file_searches: u64,
    pub code_executions: u64,
    pub kinds: Kinds,
}

/// What a call can consume beside plain text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// Audio, images or video in the prompt.
    pub media_input: bool,
    pub audio_output: bool,
    /// Writes to the cache.
    pub cache_writes: bool,
    /// Writes to the cache that live for an hour and longer.
    pub long_cache_writes: bool,
}

impl Kinds {
    /// Everything.
    pub const ALL: Self = Self {
        media_input: true,
        audio_output: true,
        cache_writes: true,
        long_cache_writes: true,
    };
}

/// The service tiers that a call may be billed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiers<'a> {
    /// Any: the provider's settings decide.
    Any,
    /// The standard one, and this one if it is not empty.
    StandardAnd(&'a str),
}

/// The dearest price of each thing, in 10⁻¹⁸ dollars a piece. No call is billed more than its bound
/// times these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ceiling {
    input: u128,
    output: u128,
    request: u128,
    /// Absent if such a call has no price.
    web_search: Option<u128>,
    file_search: Option<u128>,
    code_execution: Option<u128>,
}

/// 10⁻¹⁸ dollars in a picodollar.
const PICO: u128 = 1_000_000;

impl Prices {
    /// What holds for any call from a day on, whatever it asks for.
    pub fn ceiling(&self, from: Timestamp) -> Result<Ceiling, Unpriced> {
        let day = from.to_zoned(TimeZone::UTC).date();
        self.highest(day, |_| true, Kinds::ALL)
    }

    /// The most that a call at a time can cost.
    pub fn most(
        &self,
        bound: &CallBound,
        tiers: Tiers<'_>,
        at: Timestamp,
    ) -> Result<PicoUsd, Unpriced> {
        let day = at.to_zoned(TimeZone::UTC).date();
        // It may end on the day after.
        let latest = day.tomorrow().unwrap_or(day);
        let may_apply = |row: &Row| {
            let is_in_tier = match tiers {
                Tiers::Any => true,
                Tiers::StandardAnd(tier) => row.service_tier.is_empty() || row.service_tier == tier,
            };
            is_in_tier
                && row.effective_from.is_none_or(|from| from <= latest)
                && (row.over_input_tokens == 0 || bound.input_tokens > row.over_input_tokens)
        };
        self.highest(day, may_apply, bound.kinds)?.cost(bound)
    }

    fn highest(
        &self,
        from: Date,
        may_apply: impl Fn(&Row) -> bool,
        kinds: Kinds,
    ) -> Result<Ceiling, Unpriced> {
        let is_over = |row: &Row| row.effective_until.is_some_and(|until| until <= from);
        let mut rows = self.rows().map(|(row, _)| row);
        let mut highest: Option<Ceiling> = None;
        while let Some(row) = rows.find(|row| !is_over(row) && may_apply(row)) {
            let here = row.ceiling(kinds, self.least_per_usd(&row.currency, from)?)?;
            highest = Some(highest.map_or(here, |before| before.max(here)));
        }
        highest.ok_or(Unpriced::NoRow)
    }
}

impl Row {
    fn ceiling(&self, kinds: Kinds, per_usd: Amount) -> Result<Ceiling, Unpriced> {
        if !self.unmetered.is_empty() {
            return Err(Unpriced::Unmetered(self.unmetered.clone()));
        }
        let dearest = |units: &[(Unit, bool)]| {
            let asked = units.iter().filter(|(_, is_asked)| *is_asked);
            let prices = asked.filter_map(|(unit, _)| self.price(*unit));
            prices.max().unwrap_or_default()
        };
        let media = kinds.media_input;
        let input = dearest(&[
            (Unit::Input, true),
            (Unit::CachedInput, true),
            (Unit::CacheWrite5m, kinds.cache_writes),
            (Unit::CacheWrite30m, kinds.cache_writes),
            (Unit::CacheWrite1h, kinds.long_cache_writes),
            (Unit::CacheWrite12h, kinds.long_cache_writes),
            (Unit::AudioInput, media),
            (Unit::CachedAudioInput, media),
            (Unit::ImageInput, media),
            (Unit::CachedImageInput, media),
            (Unit::VideoInput, media),
        ]);
        let output = dearest(&[
            (Unit::Output, true),
            (Unit::Reasoning, true),
            (Unit::ImageOutput, true),
            (Unit::VideoOutput, true),
            (Unit::Citation, true),
            (Unit::AudioOutput, kinds.audio_output),
        ]);
        let factors = self.geo_factors.iter().map(|(_, factor)| *factor);
        let factor = factors.max().unwrap_or_default().max(Amount::ONE);
        let per_call = |unit| {
            let price = self.price(unit)?;
            Some(in_dollars(price, per_usd).saturating_mul(1_000))
        };
        let request = self.price(Unit::Request).unwrap_or_default();
        Ok(Ceiling {
            input: times(in_dollars(input, per_usd), factor),
            output: times(in_dollars(output, per_usd), factor),
            request: in_dollars(request, per_usd).saturating_mul(PICO),
            web_search: per_call(Unit::WebSearch),
            file_search: per_call(Unit::FileSearch),
            code_execution: per_call(Unit::CodeExecution),
        })
    }
}

impl Ceiling {
    /// The most that a call can cost.
    pub fn cost(&self, bound: &CallBound) -> Result<PicoUsd, Unpriced> {
        let mut total = self.request;
        for (count, price) in [
            (bound.input_tokens, self.input),
            (bound.output_tokens, self.output),
        ] {
            total = total.saturating_add(u128::from(count).saturating_mul(price));
        }
        for (calls, price, unit) in [
            (bound.web_searches, self.web_search, Unit::WebSearch),
            (bound.file_searches, self.file_search, Unit::FileSearch),
            (
                bound.code_executions,
                self.code_execution,
                Unit::CodeExecution,
            ),
        ] {
            if calls > 0 {
                let price = price.ok_or(Unpriced::NoPrice(unit))?;
                total = total.saturating_add(u128::from(calls).saturating_mul(price));
            }
        }
        let picos = i64::try_from(total.div_ceil(PICO));
        Ok(PicoUsd(picos.unwrap_or(i64::MAX)))
    }

    /// The dearer of each. What one of them has no price for, has none.
    fn max(self, other: Self) -> Self {
        let both = |a: Option<u128>, b: Option<u128>| Some(a?.max(b?));
        Self {
            input: self.input.max(other.input),
            output: self.output.max(other.output),
            request: self.request.max(other.request),
            web_search: both(self.web_search, other.web_search),
            file_search: both(self.file_search, other.file_search),
            code_execution: both(self.code_execution, other.code_execution),
        }
    }
}

/// An amount in a currency as one in dollars, rounded up.
fn in_dollars(price: Amount, per_usd: Amount) -> u128 {
    if per_usd == Amount::ONE {
        return u128::from(price.0);
    }
    (u128::from(price.0) * u128::from(Amount::ONE.0)).div_ceil(u128::from(per_usd.0.max(1)))
}

fn times(price: u128, factor: Amount) -> u128 {
    if factor == Amount::ONE {
        return price;
    }
    let one = u128::from(Amount::ONE.0);
    price.saturating_mul(u128::from(factor.0)).div_ceil(one)
}
