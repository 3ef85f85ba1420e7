//! One row of the book, and how it is written.

use std::fmt;

use jiff::civil::{Date, Time};

use super::{Amount, BadAmount};

/// Declares the units: each with its column in the book, which is also its setting in `[[price]]`,
/// and with what it is called in words.
macro_rules! units {
    ($($(#[$doc:meta])* $unit:ident $column:literal $words:literal;)*) => {
        /// What a price is per: a million tokens, unless its column says otherwise.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Unit {
            $($(#[$doc])* $unit,)*
        }

        impl Unit {
            pub const ALL: [Self; [$($column),*].len()] = [$(Self::$unit),*];

            /// Its column in the book, and its setting in `[[price]]`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$unit => $column,)*
                }
            }

            /// What is counted.
            #[must_use]
            pub const fn in_words(self) -> &'static str {
                match self {
                    $(Self::$unit => $words,)*
                }
            }
        }
    };
}

units! {
    Input "input" "input tokens";
    CachedInput "cached_input" "cached input tokens";
    /// Also the price of a cache write whose lifetime the provider does not name.
    CacheWrite5m "cache_write_5m" "cache writes";
    CacheWrite1h "cache_write_1h" "1-hour cache writes";
    AudioInput "audio_input" "audio input tokens";
    Output "output" "output tokens";
    Reasoning "reasoning" "reasoning tokens";
    AudioOutput "audio_output" "audio output tokens";
    /// One request.
    Request "request" "requests";
    CacheWrite30m "cache_write_30m" "30-minute cache writes";
    CacheWrite12h "cache_write_12h" "12-hour cache writes";
    CachedAudioInput "cached_audio_input" "cached audio input tokens";
    ImageInput "image_input" "image input tokens";
    CachedImageInput "cached_image_input" "cached image input tokens";
    VideoInput "video_input" "video input tokens";
    ImageOutput "image_output" "image output tokens";
    VideoOutput "video_output" "video output tokens";
    Citation "citation" "citation tokens";
    /// A thousand searches.
    WebSearch "web_search_per_1000" "web searches";
    /// A thousand searches.
    FileSearch "file_search_per_1000" "file searches";
    /// A thousand executions.
    CodeExecution "code_execution_per_1000" "code executions";
    /// An hour of audio.
    AudioInputHour "audio_input_per_hour" "audio by its duration";
}

impl Unit {
    /// What a price is per, in words.
    #[must_use]
    pub const fn per(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::WebSearch | Self::FileSearch | Self::CodeExecution => "1000 calls",
            Self::AudioInputHour => "hour",
            _ => "million tokens",
        }
    }
}

/// Names of models: exact, or with `*` at either end; `#` stands for a digit. A `!` before it makes
/// the names ones that are not meant. Case does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_ascii_lowercase())
    }

    fn is_denial(&self) -> bool {
        self.0.starts_with('!')
    }

    #[must_use]
    fn matches(&self, model: &str) -> bool {
        let model = model.to_ascii_lowercase();
        let pattern = self.0.trim_start_matches('!');
        let to_end = pattern.strip_prefix('*').unwrap_or(pattern);
        let literal = to_end.strip_suffix('*').unwrap_or(to_end);
        let (any_start, any_end) = (to_end != pattern, literal != to_end);
        let Some(last) = model.len().checked_sub(literal.len()) else {
            return false;
        };
        let is_at = |at: usize| {
            let mut pairs = model.bytes().skip(at).zip(literal.bytes());
            pairs.all(|(byte, own)| byte == own || (own == b'#' && byte.is_ascii_digit()))
        };
        (0..=last)
            .filter(|at| (any_start || *at == 0) && (any_end || *at == last))
            .any(is_at)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Hours of the day (UTC) that a price is for; the end is not among them, and may be on the next day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    pub from: Time,
    pub until: Time,
}

impl Hours {
    #[must_use]
    pub fn contain(self, time: Time) -> bool {
        if self.from <= self.until {
            self.from <= time && time < self.until
        } else {
            self.from <= time || time < self.until
        }
    }
}

/// Prices of a model under conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Provider, by its name in the book, or by its name in the configuration for a price of one's own.
    pub provider: String,
    pub model: String,
    /// Names of the model.
    pub names: Vec<Pattern>,
    /// First day (UTC); since ever if absent.
    pub effective_from: Option<Date>,
    /// First day on which it is over.
    pub effective_until: Option<Date>,
    /// Day from which on the row was known.
    pub known_from: Date,
    pub hours: Option<Hours>,
    /// The row is for calls with more input tokens than this.
    pub over_input_tokens: u64,
    /// Service tier that the row is for: empty = the standard one.
    pub service_tier: String,
    /// Currency, by its three letters (ISO 4217).
    pub currency: String,
    /// By [`Unit::ALL`].
    pub prices: [Option<Amount>; Unit::ALL.len()],
    /// What else the model is billed by, which Weir does not meter: its calls have no price.
    pub unmetered: String,
    /// What tokens cost in a place where the model ran, as a multiple.
    pub geo_factors: Vec<(String, Amount)>,
    pub source: String,
}

/// The columns of a book before its prices.
const CONDITIONS: [&str; 11] = [
    "provider",
    "model",
    "names",
    "effective_from",
    "effective_until",
    "known_from",
    "utc_from",
    "utc_until",
    "over_input_tokens",
    "service_tier",
    "currency",
];
/// And behind them.
const REMARKS: [&str; 3] = ["unmetered", "geo_factors", "source"];
/// Prices that a book of the first version has. They come first in a row's checksum, which is the same
/// as then if there are no others.
const FIRST_UNITS: usize = 9;

/// The columns of a book, in the order in which they are written.
pub(super) fn columns() -> impl Iterator<Item = &'static str> {
    let units = Unit::ALL.iter().map(|unit| unit.as_str());
    CONDITIONS.into_iter().chain(units).chain(REMARKS)
}

/// Where a file has its columns. One that it lacks is empty in each row, so that a book that was
/// written before the column came is read.
#[derive(Debug)]
pub(super) struct BookHead<'h> {
    head: &'h csv::StringRecord,
}

impl<'h> BookHead<'h> {
    pub(super) fn of(head: &'h csv::StringRecord) -> Result<Self, String> {
        if let Some(name) = head.iter().find(|name| !columns().any(|own| own == *name)) {
            let columns: Vec<&str> = columns().collect();
            return Err(format!(
                "there is no column \"{name}\"; the columns are {}",
                columns.join(",")
            ));
        }
        let needed = [
            "provider",
            "model",
            "names",
            "known_from",
            "currency",
            "source",
        ];
        match needed
            .iter()
            .find(|name| !head.iter().any(|has| has == **name))
        {
            Some(name) => Err(format!("the column \"{name}\" is missing")),
            None => Ok(Self { head }),
        }
    }
}

/// The fields of a line by their columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct BookLine<'l> {
    head: &'l BookHead<'l>,
    line: &'l csv::StringRecord,
}

impl<'l> BookLine<'l> {
    pub(super) const fn new(head: &'l BookHead<'l>, line: &'l csv::StringRecord) -> Self {
        Self { head, line }
    }

    fn get(&self, column: &'static str) -> &'l str {
        let at = self.head.head.iter().position(|name| name == column);
        let field = at.and_then(|at| self.line.get(at));
        field.unwrap_or_default().trim()
    }

    fn needed(&self, column: &'static str) -> Result<String, BadField> {
        match self.get(column) {
            "" => Err(BadField::new(column, "is empty")),
            text => Ok(text.to_owned()),
        }
    }

    fn parsed<T: std::str::FromStr<Err: fmt::Display>>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, BadField> {
        let text = self.get(column);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|error| BadField::new(column, format!("\"{text}\": {error}")))
    }

    fn amount(&self, column: &'static str) -> Result<Option<Amount>, BadField> {
        let text = self.get(column);
        let bad = |error: BadAmount| BadField::new(column, error);
        Some(text)
            .filter(|text| !text.is_empty())
            .map(|text| text.parse().map_err(bad))
            .transpose()
    }

    fn hours(&self) -> Result<Option<Hours>, BadField> {
        match (self.parsed("utc_from")?, self.parsed("utc_until")?) {
            (Some(from), Some(until)) => Ok(Some(Hours { from, until })),
            (None, None) => Ok(None),
            _ => Err(BadField::new(
                "utc_until",
                "hours need both a beginning and an end",
            )),
        }
    }
}

impl Row {
    #[must_use]
    pub fn price(&self, unit: Unit) -> Option<Amount> {
        self.prices[unit as usize]
    }

    /// Whether a model has one of the row's names.
    #[must_use]
    pub fn is_for(&self, model: &str) -> bool {
        let (denied, meant): (Vec<&Pattern>, _) =
            self.names.iter().partition(|name| name.is_denial());
        meant.iter().any(|name| name.matches(model))
            && !denied.iter().any(|name| name.matches(model))
    }

    /// What the row calls itself in events: where, what, from when, known since when, under which
    /// conditions, and a checksum of all of it.
    #[must_use]
    pub fn version(&self) -> String {
        let from = self
            .effective_from
            .map_or_else(|| "always".into(), |day| day.to_string());
        let mut version = format!(
            "{}/{}@{from};known={}",
            self.provider, self.model, self.known_from
        );
        if self.over_input_tokens > 0 {
            version += &format!(";over={}", self.over_input_tokens);
        }
        if let Some(hours) = self.hours {
            version += &format!(";utc={}-{}", hours.from, hours.until);
        }
        if !self.service_tier.is_empty() {
            version += &format!(";tier={}", self.service_tier);
        }
        let checksum = crc32c::crc32c(self.essence().as_bytes());
        version + &format!(";{checksum:08x}")
    }

    /// The row as text: what a book of the first version has, and then what is there of the rest.
    fn essence(&self) -> String {
        let fields: Vec<(&str, String)> = columns().zip(self.fields()).collect();
        let first_units = &Unit::ALL[..FIRST_UNITS];
        let is_first = |name: &str| {
            let is_first_unit = first_units.iter().any(|unit| unit.as_str() == name);
            is_first_unit || CONDITIONS.contains(&name) || name == "source"
        };
        let first = fields.iter().filter(|(name, _)| is_first(name));
        let mut parts: Vec<String> = first.map(|(_, field)| field.clone()).collect();
        let rest = fields
            .iter()
            .filter(|(name, field)| !is_first(name) && !field.is_empty());
        parts.extend(rest.map(|(name, field)| format!("{name}={field}")));
        parts.join("\u{1f}")
    }

    /// The row's fields by [`columns`].
    pub(super) fn fields(&self) -> Vec<String> {
        let names: Vec<String> = self.names.iter().map(Pattern::to_string).collect();
        let mut fields = vec![
            self.provider.clone(),
            self.model.clone(),
            names.join("|"),
            text(self.effective_from),
            text(self.effective_until),
            self.known_from.to_string(),
            text(self.hours.map(|hours| hours.from)),
            text(self.hours.map(|hours| hours.until)),
            text(Some(self.over_input_tokens).filter(|tokens| *tokens > 0)),
            self.service_tier.clone(),
            self.currency.clone(),
        ];
        fields.extend(self.prices.map(text));
        let factors = self.geo_factors.iter();
        let factors: Vec<String> = factors.map(|(geo, by)| format!("{geo}={by}")).collect();
        fields.extend([
            self.unmetered.clone(),
            factors.join("|"),
            self.source.clone(),
        ]);
        fields
    }

    /// Reads a row; the error names the column.
    pub(super) fn from_fields(fields: BookLine<'_>) -> Result<Self, BadField> {
        let mut prices = [None; Unit::ALL.len()];
        for (unit, price) in Unit::ALL.iter().zip(&mut prices) {
            *price = fields.amount(unit.as_str())?;
        }
        let names = fields.needed("names")?;
        let factors = fields.get("geo_factors");
        fields.needed("known_from")?;
        Ok(Self {
            provider: fields.needed("provider")?,
            model: fields.needed("model")?,
            names: names.split('|').map(Pattern::new).collect(),
            effective_from: fields.parsed("effective_from")?,
            effective_until: fields.parsed("effective_until")?,
            known_from: fields.parsed("known_from")?.unwrap_or_default(),
            hours: fields.hours()?,
            over_input_tokens: fields.parsed("over_input_tokens")?.unwrap_or(0),
            service_tier: fields.get("service_tier").to_owned(),
            currency: fields.needed("currency")?,
            prices,
            unmetered: fields.get("unmetered").to_owned(),
            geo_factors: geo_factors(factors)
                .map_err(|error| BadField::new("geo_factors", error))?,
            source: fields.needed("source")?,
        })
    }
}

/// Reads `us=1.1|eu=1.2`.
fn geo_factors(text: &str) -> Result<Vec<(String, Amount)>, String> {
    let factors = text.split('|').filter(|factor| !factor.is_empty());
    let read = |factor: &str| {
        let (geo, by) = factor
            .split_once('=')
            .ok_or_else(|| format!("\"{factor}\" is not a place and its factor, as us=1.1"))?;
        let by: Amount = by.parse().map_err(|error: BadAmount| error.to_string())?;
        Ok((geo.to_owned(), by))
    };
    factors.map(read).collect()
}

/// A field that may be absent.
fn text(value: Option<impl fmt::Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A field that cannot be read.
#[derive(Debug)]
pub(super) struct BadField {
    pub(super) column: &'static str,
    pub(super) message: String,
}

impl BadField {
    fn new(column: &'static str, message: impl fmt::Display) -> Self {
        Self {
            column,
            message: message.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::time;

    use super::{Hours, Pattern};

    #[test]
    fn patterns_are_exact_or_open_at_their_ends() {
        let matches = |pattern: &str, model: &str| Pattern::new(pattern).matches(model);
        assert!(matches("gpt-4o", "GPT-4o"));
        assert!(!matches("gpt-4o", "gpt-4o-mini"));
        assert!(matches("gpt-4o*", "gpt-4o-mini"));
        assert!(matches("*gemini-1.5-pro*", "models/gemini-1.5-pro-002"));
        assert!(matches("*:free", "qwen/qwq-32b:free"));
        assert!(!matches("*:free", "free"));
        assert!(matches("gpt-5-####-##-##", "gpt-5-2026-03-05"));
        assert!(!matches("gpt-5-####-##-##", "gpt-5-2026-03-0x"));
        assert!(matches("*", ""));
    }

    #[test]
    fn hours_may_span_midnight() {
        let night = Hours {
            from: time(16, 30, 0, 0),
            until: time(0, 30, 0, 0),
        };
        assert!(night.contain(time(16, 30, 0, 0)));
        assert!(night.contain(time(0, 29, 59, 0)));
        assert!(!night.contain(time(0, 30, 0, 0)));
        assert!(!night.contain(time(12, 0, 0, 0)));
    }
}
