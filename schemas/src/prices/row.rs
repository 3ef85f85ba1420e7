//! One row of the book, and how it is written.

use std::fmt;

use jiff::civil::{Date, Time};

use super::{Amount, BadAmount};

/// What a price is per.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Input,
    CachedInput,
    CacheWrite5m,
    CacheWrite1h,
    AudioInput,
    Output,
    Reasoning,
    AudioOutput,
    /// One request; all others are per million tokens.
    Request,
}

impl Unit {
    pub const ALL: [Self; 9] = [
        Self::Input,
        Self::CachedInput,
        Self::CacheWrite5m,
        Self::CacheWrite1h,
        Self::AudioInput,
        Self::Output,
        Self::Reasoning,
        Self::AudioOutput,
        Self::Request,
    ];

    /// Its column in the book, and its setting in `[[price]]`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        COLUMNS[FIRST_PRICE + self as usize]
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
    pub source: String,
}

/// The columns of a book, in their order.
pub(super) const COLUMNS: [&str; 21] = [
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
    "input",
    "cached_input",
    "cache_write_5m",
    "cache_write_1h",
    "audio_input",
    "output",
    "reasoning",
    "audio_output",
    "request",
    "source",
];
const FIRST_PRICE: usize = 11;

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
        let checksum = crc32c::crc32c(self.fields().join("\u{1f}").as_bytes());
        version + &format!(";{checksum:08x}")
    }

    /// The row's fields by [`COLUMNS`].
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
        fields.push(self.source.clone());
        fields
    }

    /// Reads a row by [`COLUMNS`]; the error names the column.
    pub(super) fn from_fields(fields: &csv::StringRecord) -> Result<Self, BadField> {
        let field = |column: usize| fields.get(column).unwrap_or_default().trim();
        let needed = |column: usize| match field(column) {
            "" => Err(BadField::new(column, "is empty")),
            text => Ok(text.to_owned()),
        };
        let mut prices = [None; Unit::ALL.len()];
        for (column, price) in (FIRST_PRICE..).zip(&mut prices) {
            let bad = |error: BadAmount| BadField::new(column, error);
            if !field(column).is_empty() {
                *price = Some(field(column).parse().map_err(bad)?);
            }
        }
        Ok(Self {
            provider: needed(0)?,
            model: needed(1)?,
            names: needed(2)?.split('|').map(Pattern::new).collect(),
            effective_from: parsed(3, field(3))?,
            effective_until: parsed(4, field(4))?,
            known_from: parsed(5, &needed(5)?)?.ok_or_else(|| BadField::new(5, "is empty"))?,
            hours: match (parsed(6, field(6))?, parsed(7, field(7))?) {
                (Some(from), Some(until)) => Some(Hours { from, until }),
                (None, None) => None,
                _ => return Err(BadField::new(7, "hours need both a beginning and an end")),
            },
            over_input_tokens: parsed(8, field(8))?.unwrap_or(0),
            service_tier: field(9).to_owned(),
            currency: needed(10)?,
            prices,
            source: needed(20)?,
        })
    }
}

/// A field that may be absent.
fn text(value: Option<impl fmt::Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn parsed<T: std::str::FromStr<Err: fmt::Display>>(
    column: usize,
    text: &str,
) -> Result<Option<T>, BadField> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|error| BadField::new(column, format!("\"{text}\": {error}")))
}

/// A field that cannot be read.
#[derive(Debug)]
pub(super) struct BadField {
    pub(super) column: &'static str,
    pub(super) message: String,
}

impl BadField {
    fn new(column: usize, message: impl fmt::Display) -> Self {
        Self {
            column: COLUMNS[column],
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
