//! The rows of a book, and the search for the ones that apply.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::row::{BadField, BookHead, BookLine, columns};
use super::{Amount, Row, Unit, Unpriced};
use crate::{OtherModelUsage, PicoUsd, Usage};

/// A book or a list of exchange rates that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {message}")]
pub struct BookError {
    /// Line, and column where one is at fault.
    pub place: String,
    pub message: String,
}

/// What one US dollar was worth in a currency, from a day on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeRate {
    pub currency: String,
    pub day: Date,
    pub per_usd: Amount,
    pub source: String,
}

/// Rows in their order. Of those that apply to a call, the last one counts.
#[derive(Clone, Debug, Default)]
pub struct Book {
    rows: Vec<Arc<Row>>,
    /// Prices of one's own, which go before all others. Their provider is one of the configuration.
    own: Vec<Arc<Row>>,
    rates: Arc<Vec<ExchangeRate>>,
}

/// Where the book looks for the prices of a dialect's providers, unless the configuration sets them.
#[must_use]
pub fn providers_of(dialect: &str) -> &'static [&'static str] {
    match dialect {
        "openai" | "openai-responses" => &["openai"],
        "anthropic" => &["anthropic"],
        "gemini" | "vertex" => &["google"],
        "azure" | "azure-deployments" => &["azure", "openai"],
        "deepseek" => &["deepseek"],
        "kimi" => &["moonshotai"],
        "glm" => &["zhipuai", "zai"],
        "doubao" => &["doubao"],
        "openrouter" => &["openrouter"],
        "mistral" => &["mistral"],
        "groq" => &["groq"],
        "xai" => &["x-ai"],
        "together" => &["together"],
        // Whoever is behind `openai-compatible`, `vllm` and `llamacpp` is not known, and no book has
        // the prices of `qwen`'s vendor: the configuration says where to look.
        _ => &[],
    }
}

/// The rows of one model at one provider.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    /// Each with what events call it.
    rows: Vec<(Arc<Row>, Arc<str>)>,
    rates: Arc<Vec<ExchangeRate>>,
    /// Whether they are looked for at OpenRouter.
    is_openrouter: bool,
    /// Whether they are one's own, not the book's.
    is_own: bool,
}

const OPENROUTER: &str = "openrouter";

/// What providers call the standard service tier in their answers: `default` OpenAI, `standard`
/// Anthropic and Google, `on_demand` Groq, and `auto` where a server repeats what was asked.
const STANDARD_TIERS: [&str; 4] = ["default", "standard", "on_demand", "auto"];
/// OpenRouter repeats the tier of the provider behind it, and charges its standard price.
const OPENROUTER_STANDARD_TIER: &str = "provisioned";

/// Places where the model may run for the standard price: what Anthropic answers where nothing was
/// asked, and where nothing can be.
const STANDARD_GEOS: [&str; 3] = ["", "global", "not_available"];

/// What is asked about a call to choose its row.
#[derive(Clone, Copy, Debug)]
pub struct PricedCall<'a> {
    pub at: Timestamp,
    pub input_tokens: u64,
    /// As the provider reported it. Empty is the standard one, as are the words that providers have for it; one that
    /// no row is for has no price.
    pub service_tier: &'a str,
    /// Where the provider says the model ran; empty if it named no place.
    pub inference_geo: &'a str,
}

impl Book {
    /// Reads a book (CSV with a head line) and its exchange rates.
    pub fn read(rows: &str, rates: &str) -> Result<Self, BookError> {
        Ok(Self {
            rows: read_rows(rows)?,
            own: Vec::new(),
            rates: Arc::new(read_rates(rates)?),
        })
    }

    /// The book that Weir brings along.
    pub fn built_in() -> Result<Self, BookError> {
        Self::read(super::BUILT_IN, super::BUILT_IN_RATES)
    }

    #[must_use]
    pub fn rows(&self) -> &[Arc<Row>] {
        &self.rows
    }

    /// Adds rows behind those that are there.
    pub fn add(&mut self, rows: impl IntoIterator<Item = Row>) {
        self.rows.extend(rows.into_iter().map(Arc::new));
    }

    /// Adds prices of one's own, which go before the book's.
    pub fn add_own(&mut self, rows: impl IntoIterator<Item = Row>) {
        self.own.extend(rows.into_iter().map(Arc::new));
    }

    /// Adds exchange rates. Of two for one day the one added later counts.
    pub fn add_rates(&mut self, rates: impl IntoIterator<Item = ExchangeRate>) {
        Arc::make_mut(&mut self.rates).extend(rates);
    }

    /// The rows of a model as known on a day: one's own for the provider of that `name`, or those of
    /// the first of the book's `providers` that knows the model.
    #[must_use]
    pub fn find<'a>(
        &self,
        name: &str,
        providers: impl IntoIterator<Item = &'a str>,
        model: &str,
        known_on: Date,
    ) -> Option<Prices> {
        let mut is_openrouter = false;
        let of_book = |provider| {
            is_openrouter |= provider == OPENROUTER;
            find_in(&self.rows, provider, model, known_on)
        };
        let mut providers = providers.into_iter();
        let own = find_in(&self.own, name, model, known_on);
        let is_own = own.is_some();
        let rows = own.or_else(|| providers.by_ref().find_map(of_book))?;
        // One's own prices may be for OpenRouter too.
        is_openrouter |= providers.any(|provider| provider == OPENROUTER);
        let named = |row: &Arc<Row>| (row.clone(), row.version().into());
        Some(Prices {
            rows: rows.into_iter().map(named).collect(),
            rates: self.rates.clone(),
            is_openrouter,
            is_own,
        })
    }

    /// The providers that have rows for a model: one's own first, then the book's.
    #[must_use]
    pub fn providers_with(&self, model: &str) -> Vec<&str> {
        let mut providers = Vec::new();
        for row in self.own.iter().chain(&self.rows) {
            if !providers.contains(&row.provider.as_str()) && row.is_for(model) {
                providers.push(row.provider.as_str());
            }
        }
        providers
    }

    /// Writes the rows as a book.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let lines = std::iter::once(columns().map(String::from).collect())
            .chain(self.rows.iter().map(|row| row.fields()));
        for line in lines {
            // Writing to memory does not fail.
            if writer.write_record(&line).is_err() {
                break;
            }
        }
        String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
    }
}

impl Prices {
    /// The rows, in their order, with what events call them.
    pub fn rows(&self) -> impl DoubleEndedIterator<Item = (&Row, &Arc<str>)> {
        self.rows.iter().map(|(row, version)| (&**row, version))
    }

    /// Whether a name is one of the model's.
    fn is_for(&self, model: &str) -> bool {
        self.rows.iter().any(|(row, _)| row.is_for(model))
    }

    /// Whether no row has a price but zero.
    fn is_free(&self) -> bool {
        let mut prices = self.rows.iter().flat_map(|(row, _)| row.prices);
        prices.all(|price| price.is_none_or(|price| price == Amount(0)))
    }

    /// The row that applies to a call.
    #[must_use]
    pub fn row(&self, call: PricedCall<'_>) -> Option<(&Row, &Arc<str>)> {
        let now = call.at.to_zoned(TimeZone::UTC);
        let (day, time) = (now.date(), now.time());
        let tier = match call.service_tier {
            tier if STANDARD_TIERS.contains(&tier) => "",
            OPENROUTER_STANDARD_TIER if self.is_openrouter => "",
            tier => tier,
        };
        let applies = |row: &Row| {
            row.effective_from.is_none_or(|from| from <= day)
                && row.effective_until.is_none_or(|until| day < until)
                && row.hours.is_none_or(|hours| hours.contain(time))
                && (row.over_input_tokens == 0 || call.input_tokens > row.over_input_tokens)
                && row.service_tier == tier
        };
        self.rows().rev().find(|(row, _)| applies(row))
    }

    /// What a call costs, and the version of the row that prices it.
    pub fn charge(
        &self,
        call: PricedCall<'_>,
        usage: &Usage,
    ) -> Result<(PicoUsd, Arc<str>), Unpriced> {
        let (row, version) = self.row(call).ok_or_else(|| self.no_row(call))?;
        self.check_parts(row, usage)?;
        let per_usd = self.per_usd(&row.currency, call.at)?;
        let geo = match call.inference_geo {
            geo if STANDARD_GEOS.contains(&geo) => "",
            geo => geo,
        };
        Ok((row.charge(usage, geo, per_usd)?, version.clone()))
    }

    fn no_row(&self, call: PricedCall<'_>) -> Unpriced {
        let standard = PricedCall {
            service_tier: "",
            ..call
        };
        match self.row(standard) {
            Some(_) => Unpriced::NoTier(call.service_tier.to_owned()),
            None => Unpriced::NoRow,
        }
    }

    /// A part whose price a row leaves out costs what it is a part of, unless the model's other rows
    /// say that the part is dearer.
    fn check_parts(&self, row: &Row, usage: &Usage) -> Result<(), Unpriced> {
        let is_dearer = |unit: Unit, whole: Unit| {
            let whole = row.price(whole);
            self.rows().any(|(other, _)| {
                other.currency == row.currency && other.price(unit) > whole.max(Some(Amount(0)))
            })
        };
        for (unit, whole, count) in MODALITIES {
            let count = count(usage).unwrap_or(0);
            if count > 0 && row.price(unit).is_none() && is_dearer(unit, whole) {
                return Err(Unpriced::NoPrice(unit));
            }
        }
        Ok(())
    }

    /// What one dollar was in a currency on the day of a call: the latest rate up to it.
    pub fn per_usd(&self, currency: &str, at: Timestamp) -> Result<Amount, Unpriced> {
        if currency == "USD" {
            return Ok(Amount::ONE);
        }
        let day = at.to_zoned(TimeZone::UTC).date();
        self.rates
            .iter()
            .filter(|rate| rate.currency == currency && rate.day <= day)
            // Of equals the last one.
            .max_by_key(|rate| rate.day)
            .map(|rate| rate.per_usd)
            .ok_or_else(|| Unpriced::NoRate(currency.to_owned()))
    }

    /// The least that one dollar is in a currency on any day from one on.
    pub(super) fn least_per_usd(&self, currency: &str, from: Date) -> Result<Amount, Unpriced> {
        if currency == "USD" {
            return Ok(Amount::ONE);
        }
        let of_it = || self.rates.iter().filter(|rate| rate.currency == currency);
        let before = of_it().filter(|rate| rate.day <= from);
        // Of equals the last one.
        let before = before.max_by_key(|rate| rate.day);
        let later = of_it().filter(|rate| rate.day > from);
        let least = before.into_iter().chain(later).map(|rate| rate.per_usd);
        least
            .min()
            .ok_or_else(|| Unpriced::NoRate(currency.to_owned()))
    }
}

/// The prices of the model that a call is billed by: `own` are those of the model that was `asked` for,
/// and `answered` is the one that the provider says it used.
///
/// A name of one's own, such as that of a deployment at Azure, is in no book, and the provider says which
/// model is behind it. OpenRouter may let another model answer, and bills that one, where the one that was
/// asked is free, too (<https://openrouter.ai/docs/guides/routing/model-fallbacks>, November 2026).
pub fn billed_prices<'p>(
    own: Option<&'p Prices>,
    asked: &str,
    answered: Option<&str>,
    find: impl Fn(&str) -> Option<Prices>,
) -> Option<Cow<'p, Prices>> {
    let kept = own.map(Cow::Borrowed);
    let (Some(own), Some(answered)) = (own, answered) else {
        return kept.or_else(|| find(answered?).map(Cow::Owned));
    };
    if !own.is_openrouter || answered == asked || own.is_for(answered) {
        return kept;
    }
    let theirs = find(answered);
    if own.is_own {
        return theirs
            .filter(|theirs| theirs.is_own)
            .map(Cow::Owned)
            .or(kept);
    }
    if own.is_free() {
        return theirs.map(Cow::Owned);
    }
    // `:extended` and its kind are prices of the same model, which may answer without its suffix.
    let plain = |name: &str| name.split(':').next().unwrap_or_default().to_owned();
    let is_same = plain(asked) == plain(answered)
        || find(&plain(asked)).is_some_and(|prices| prices.is_for(&plain(answered)));
    match theirs {
        Some(theirs) if !is_same => Some(Cow::Owned(theirs)),
        _ => kept,
    }
}

/// What a whole call costs: by its own model's prices, and what it used at other models by theirs,
/// which `find` looks up. All of it has a price or none has.
pub fn charge_whole(
    own: Option<&Prices>,
    call: PricedCall<'_>,
    usage: &Usage,
    others: &[OtherModelUsage],
    find: impl Fn(&str) -> Option<Prices>,
) -> Result<(PicoUsd, Arc<str>), Unpriced> {
    // Where another model gave the answer, the one that was asked may have used nothing.
    let is_idle = !others.is_empty() && usage.counts().all(|(_, count)| count == 0);
    let (mut total, mut versions) = (0_i64, Vec::new());
    if !is_idle {
        let (PicoUsd(cost), version) = own.ok_or(Unpriced::NotInBook)?.charge(call, usage)?;
        if others.is_empty() {
            return Ok((PicoUsd(cost), version));
        }
        total = cost;
        versions.push(version.to_string());
    }
    for other in others {
        let there = PricedCall {
            input_tokens: other.usage.input_tokens.unwrap_or(0),
            ..call
        };
        let prices = find(&other.model).ok_or(Unpriced::NotInBook);
        let charged = prices.and_then(|prices| prices.charge(there, &other.usage));
        let (PicoUsd(cost), version) = charged.map_err(|reason| Unpriced::OtherModel {
            model: other.model.clone(),
            reason: Box::new(reason),
        })?;
        total = total.checked_add(cost).ok_or(Unpriced::TooLarge)?;
        if !versions.iter().any(|known| **known == *version) {
            versions.push(version.to_string());
        }
    }
    Ok((PicoUsd(total), versions.join(" + ").into()))
}

type CountOf = fn(&Usage) -> Option<u64>;

/// Parts that may be dearer than the whole, each with its whole.
const MODALITIES: [(Unit, Unit, CountOf); 6] = [
    (Unit::AudioInput, Unit::Input, |it| it.audio_input_tokens),
    (Unit::ImageInput, Unit::Input, |it| it.image_input_tokens),
    (Unit::VideoInput, Unit::Input, |it| it.video_input_tokens),
    (Unit::AudioOutput, Unit::Output, |it| it.audio_output_tokens),
    (Unit::ImageOutput, Unit::Output, |it| it.image_output_tokens),
    (Unit::VideoOutput, Unit::Output, |it| it.video_output_tokens),
];

/// The latest generation of the first model at a provider that has a name.
fn find_in<'a>(
    rows: &'a [Arc<Row>],
    provider: &str,
    model: &str,
    known_on: Date,
) -> Option<Vec<&'a Arc<Row>>> {
    let known = || {
        rows.iter()
            .filter(move |row| row.provider == provider && row.known_from <= known_on)
    };
    // Models further behind have wider patterns.
    let entry = &known().find(|row| row.is_for(model))?.model;
    let of_entry = || known().filter(move |row| row.model == *entry);
    let generation = of_entry().map(|row| row.known_from).max()?;
    Some(
        of_entry()
            .filter(|row| row.known_from == generation)
            .collect(),
    )
}

fn read_rows(text: &str) -> Result<Vec<Arc<Row>>, BookError> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader
        .headers()
        .map_err(|error| unreadable(&error))?
        .clone();
    let head = BookHead::of(&head).map_err(|message| BookError {
        place: "line 1".into(),
        message,
    })?;
    let read = |record: Result<csv::StringRecord, csv::Error>| {
        let record = record.map_err(|error| unreadable(&error))?;
        let bad = |field: BadField| BookError {
            place: format!("line {}, column {}", line(&record), field.column),
            message: field.message,
        };
        Row::from_fields(BookLine::new(&head, &record))
            .map(Arc::new)
            .map_err(bad)
    };
    reader.records().map(read).collect()
}

fn read_rates(text: &str) -> Result<Vec<ExchangeRate>, BookError> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let read = |record: Result<csv::StringRecord, csv::Error>| {
        let record = record.map_err(|error| unreadable(&error))?;
        let bad = |message: &dyn fmt::Display| BookError {
            place: format!("exchange rates, line {}", line(&record)),
            message: message.to_string(),
        };
        let field = |column: usize| record.get(column).unwrap_or_default().trim();
        let per_usd: Amount = field(2).parse().map_err(|error| bad(&error))?;
        if per_usd == Amount(0) {
            return Err(bad(&"a rate of zero"));
        }
        Ok(ExchangeRate {
            currency: field(0).to_owned(),
            day: field(1).parse().map_err(|error| bad(&error))?,
            per_usd,
            source: field(3).to_owned(),
        })
    };
    reader.records().map(read).collect()
}

fn line(record: &csv::StringRecord) -> u64 {
    record.position().map_or(0, csv::Position::line)
}

fn unreadable(error: &csv::Error) -> BookError {
    let line = error.position().map_or(0, csv::Position::line);
    BookError {
        place: format!("line {line}"),
        message: error.to_string(),
    }
}
