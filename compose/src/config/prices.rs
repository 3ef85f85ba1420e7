//! `[prices]`, `[[price]]` and `[[exchange_rate]]`: what calls are charged by.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::civil::{Date, Time};
use schemars::JsonSchema;
use serde::Deserialize;
use weir_gateway::ConfigProblem;
use weir_schemas::prices::{
    Amount, BUILT_IN, BUILT_IN_RATES, Book, ExchangeRate, Hours, Pattern, Row, Unit,
};

/// `[prices]`: the book.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PricesConfig {
    /// File with the price book, made by `weir prices import`; the built-in one unless set.
    pub(crate) book: Option<PathBuf>,
}

/// `[[price]]`: a price of one's own, which goes before the book's.
///
/// Amounts are texts, because no float holds money: `input = "0.10"` per million tokens.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PriceConfig {
    /// Name of the `[[provider]]`.
    pub(crate) provider: String,
    /// Model at that provider; `*` at either end stands for anything.
    pub(crate) model: String,
    /// First day (UTC) of the price, as `2026-09-01`.
    #[serde(default)]
    pub(crate) effective_from: Option<String>,
    /// First day on which it is over.
    #[serde(default)]
    pub(crate) effective_until: Option<String>,
    /// Hours of the day (UTC) that it is for, as `["16:30", "00:30"]`.
    #[serde(default)]
    pub(crate) hours_utc: Option<[String; 2]>,
    /// It is for calls with more input tokens than this.
    #[serde(default)]
    pub(crate) over_input_tokens: u64,
    /// Service tier that it is for, as the provider names it; the standard one unless set.
    #[serde(default)]
    pub(crate) service_tier: String,
    /// ISO 4217.
    #[serde(default = "dollars")]
    pub(crate) currency: String,
    #[serde(default)]
    pub(crate) input: Option<String>,
    #[serde(default)]
    pub(crate) cached_input: Option<String>,
    #[serde(default)]
    pub(crate) cache_write_5m: Option<String>,
    #[serde(default)]
    pub(crate) cache_write_1h: Option<String>,
    #[serde(default)]
    pub(crate) audio_input: Option<String>,
    #[serde(default)]
    pub(crate) output: Option<String>,
    #[serde(default)]
    pub(crate) reasoning: Option<String>,
    #[serde(default)]
    pub(crate) audio_output: Option<String>,
    /// Per request; prices whose names do not say otherwise are per million tokens.
    #[serde(default)]
    pub(crate) request: Option<String>,
    #[serde(default)]
    pub(crate) cache_write_30m: Option<String>,
    #[serde(default)]
    pub(crate) cache_write_12h: Option<String>,
    #[serde(default)]
    pub(crate) cached_audio_input: Option<String>,
    #[serde(default)]
    pub(crate) image_input: Option<String>,
    #[serde(default)]
    pub(crate) cached_image_input: Option<String>,
    #[serde(default)]
    pub(crate) video_input: Option<String>,
    #[serde(default)]
    pub(crate) image_output: Option<String>,
    #[serde(default)]
    pub(crate) video_output: Option<String>,
    #[serde(default)]
    pub(crate) citation: Option<String>,
    /// Per 1000 web searches that run at the provider.
    #[serde(default)]
    pub(crate) web_search_per_1000: Option<String>,
    /// Per 1000 searches of files.
    #[serde(default)]
    pub(crate) file_search_per_1000: Option<String>,
    /// Per 1000 executions of code.
    #[serde(default)]
    pub(crate) code_execution_per_1000: Option<String>,
    /// Per hour of audio, where the provider bills by that.
    #[serde(default)]
    pub(crate) audio_input_per_hour: Option<String>,
    /// What tokens cost where the model ran in a place that the provider names (`inference_geo`), as a
    /// multiple: `{ us = "1.1" }`.
    #[serde(default)]
    pub(crate) geo_factors: BTreeMap<String, String>,
}

/// `[[exchange_rate]]`: what a dollar was worth, from a day on.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExchangeRateConfig {
    pub(crate) currency: String,
    /// As `2026-09-01`.
    pub(crate) day: String,
    /// Units of the currency that one US dollar bought, as text: `"7.0779"`.
    pub(crate) per_usd: String,
    /// Where the rate is from.
    #[serde(default)]
    pub(crate) source: String,
}

fn dollars() -> String {
    "USD".into()
}

/// The book with everything in it, or all that is wrong.
pub(super) fn book(
    prices: &PricesConfig,
    own: &[PriceConfig],
    rates: &[ExchangeRateConfig],
) -> Result<Book, Vec<ConfigProblem>> {
    let mut problems = Vec::new();
    let mut wrong = |path: String, message| problems.push(ConfigProblem { path, message });
    let mut book = read(prices).unwrap_or_else(|message| {
        wrong("prices.book".into(), message);
        Book::default()
    });
    for (index, price) in own.iter().enumerate() {
        match row(price) {
            Ok(row) => book.add_own([row]),
            Err((setting, message)) => wrong(format!("price[{index}].{setting}"), message),
        }
    }
    for (index, rate) in rates.iter().enumerate() {
        match exchange_rate(rate) {
            Ok(rate) => book.add_rates([rate]),
            Err((setting, message)) => wrong(format!("exchange_rate[{index}].{setting}"), message),
        }
    }
    if problems.is_empty() {
        Ok(book)
    } else {
        Err(problems)
    }
}

fn read(prices: &PricesConfig) -> Result<Book, String> {
    let Some(path) = &prices.book else {
        let built_in = Book::read(BUILT_IN, BUILT_IN_RATES);
        return built_in.map_err(|error| format!("the built-in book: {error}"));
    };
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    Book::read(&text, BUILT_IN_RATES).map_err(|error| format!("{shown}: {error}"))
}

/// The error names the setting.
type Wrong = (&'static str, String);

impl PriceConfig {
    const fn price(&self, unit: Unit) -> &Option<String> {
        match unit {
            Unit::Input => &self.input,
            Unit::CachedInput => &self.cached_input,
            Unit::CacheWrite5m => &self.cache_write_5m,
            Unit::CacheWrite30m => &self.cache_write_30m,
            Unit::CacheWrite1h => &self.cache_write_1h,
            Unit::CacheWrite12h => &self.cache_write_12h,
            Unit::AudioInput => &self.audio_input,
            Unit::CachedAudioInput => &self.cached_audio_input,
            Unit::ImageInput => &self.image_input,
            Unit::CachedImageInput => &self.cached_image_input,
            Unit::VideoInput => &self.video_input,
            Unit::Output => &self.output,
            Unit::Reasoning => &self.reasoning,
            Unit::AudioOutput => &self.audio_output,
            Unit::ImageOutput => &self.image_output,
            Unit::VideoOutput => &self.video_output,
            Unit::Citation => &self.citation,
            Unit::Request => &self.request,
            Unit::WebSearch => &self.web_search_per_1000,
            Unit::FileSearch => &self.file_search_per_1000,
            Unit::CodeExecution => &self.code_execution_per_1000,
            Unit::AudioInputHour => &self.audio_input_per_hour,
        }
    }
}

fn row(price: &PriceConfig) -> Result<Row, Wrong> {
    let mut prices = [None; Unit::ALL.len()];
    for (slot, unit) in prices.iter_mut().zip(Unit::ALL) {
        let text = price.price(unit).as_deref();
        *slot = text.map(|text| amount(unit.as_str(), text)).transpose()?;
    }
    if prices.iter().all(Option::is_none) {
        return Err((
            "model",
            "has no price: give input, output or request".into(),
        ));
    }
    let factor = |(geo, by): (&String, &String)| Ok((geo.clone(), amount("geo_factors", by)?));
    Ok(Row {
        provider: price.provider.clone(),
        model: price.model.clone(),
        names: vec![Pattern::new(&price.model)],
        effective_from: day("effective_from", price.effective_from.as_deref())?,
        effective_until: day("effective_until", price.effective_until.as_deref())?,
        known_from: Date::ZERO,
        hours: price.hours_utc.as_ref().map(hours).transpose()?,
        over_input_tokens: price.over_input_tokens,
        service_tier: price.service_tier.clone(),
        currency: price.currency.clone(),
        prices,
        unmetered: String::new(),
        geo_factors: price
            .geo_factors
            .iter()
            .map(factor)
            .collect::<Result<_, _>>()?,
        source: "the configuration".into(),
    })
}

fn amount(setting: &'static str, text: &str) -> Result<Amount, Wrong> {
    text.parse()
        .map_err(|error: weir_schemas::prices::BadAmount| (setting, error.to_string()))
}

fn day(setting: &'static str, text: Option<&str>) -> Result<Option<Date>, Wrong> {
    let parse = |text: &str| {
        text.parse()
            .map_err(|_| (setting, format!("\"{text}\" is not a day, as 2026-09-01")))
    };
    text.map(parse).transpose()
}

fn hours([from, until]: &[String; 2]) -> Result<Hours, Wrong> {
    let time = |text: &String| {
        text.parse::<Time>()
            .map_err(|_| ("hours_utc", format!("\"{text}\" is not a time, as 16:30")))
    };
    Ok(Hours {
        from: time(from)?,
        until: time(until)?,
    })
}

fn exchange_rate(rate: &ExchangeRateConfig) -> Result<ExchangeRate, Wrong> {
    let per_usd = amount("per_usd", &rate.per_usd)?;
    if per_usd == Amount(0) {
        return Err(("per_usd", "a rate of zero".into()));
    }
    Ok(ExchangeRate {
        currency: rate.currency.clone(),
        day: day("day", Some(&rate.day))?.unwrap_or_default(),
        per_usd,
        source: rate.source.clone(),
    })
}
