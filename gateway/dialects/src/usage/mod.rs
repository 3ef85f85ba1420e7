//! Token counts in each provider's form, read into [`Usage`].
//!
//! One rule for all of them: what is said of one count in several places, names or chunks is merged
//! with [`Usage::merge`], so that the larger real count stands and a placeholder of zero never
//! replaces one. What was read is settled with [`fit_parts`], so that no consumer meets parts that
//! exceed their whole.

mod anthropic;
mod fit;
mod gemini;
mod openai;
mod tools;
#[cfg(test)]
mod vendors;

pub(crate) use self::anthropic::AnthropicCounts;
pub(crate) use self::gemini::{gemini, grounding_searches};
pub(crate) use self::openai::openai;
pub(crate) use self::tools::{ToolCalls, image_model, image_model_name};

use weir_schemas::Usage;

use self::fit::fit_parts;

use crate::caps;
use crate::json::{JsonCursor, non_negative_integer};

/// What the chunks of a stream say together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MergedUsage(Usage);

impl MergedUsage {
    /// Takes over what another chunk says. Returns what is known then.
    pub(crate) fn add(&mut self, said: &Usage) -> Usage {
        self.0.merge(said);
        let mut usage = self.0;
        fit_parts(&mut usage);
        usage
    }
}

/// Reads a count, unless a larger one is known. Anything else is as good as absent.
fn count(cursor: &mut JsonCursor<'_>, known: &mut Option<u64>) -> Option<()> {
    *known = (*known).max(number(cursor.value()?));
    Some(())
}

/// Reads a count that comes on top of what is known.
fn add_count(cursor: &mut JsonCursor<'_>, known: &mut Option<u64>) -> Option<()> {
    *known = sum([*known, number(cursor.value()?)]);
    Some(())
}

/// A count, which some servers write as a fraction of zero (`100.0`), with an exponent (`1e3`) or as text
/// (`"100"`). What no call can consume is none: servers write -1, also unsigned, where they do not count.
fn number(raw: &[u8]) -> Option<u64> {
    let text = raw.strip_prefix(b"\"");
    let raw = text.and_then(|raw| raw.strip_suffix(b"\"")).unwrap_or(raw);
    let exact = non_negative_integer(raw);
    let count = exact.or_else(|| {
        let number: f64 = std::str::from_utf8(raw).ok()?.parse().ok()?;
        let is_whole = number.fract() == 0.0 && number < 1e18;
        is_whole.then(|| format!("{number:.0}").parse().ok())?
    });
    count.filter(|count| *count <= caps::COUNT_MAX)
}

/// The sum of what is known.
fn sum<const N: usize>(counts: [Option<u64>; N]) -> Option<u64> {
    let known = counts.into_iter().flatten();
    known.fold(None, |sum, count| {
        Some(sum.unwrap_or(0_u64).saturating_add(count))
    })
}

/// Writes to the cache: how many, and of which lifetime. What has no lifetime counts as one of five
/// minutes, the default of everybody who bills writes.
#[derive(Clone, Copy, Debug, Default)]
struct CacheWrites {
    all: Option<u64>,
    of_5m: Option<u64>,
    of_30m: Option<u64>,
    of_1h: Option<u64>,
    of_12h: Option<u64>,
}

impl CacheWrites {
    /// Reads the counts by lifetime, in anybody's names.
    fn read_lifetimes(&mut self, cursor: &mut JsonCursor<'_>) -> Option<()> {
        cursor.object_or_skip(|key, cursor| match key {
            b"ephemeral_5m_input_tokens" => count(cursor, &mut self.of_5m),
            b"ephemeral_1h_input_tokens" => count(cursor, &mut self.of_1h),
            b"ttl_30m_tokens" => count(cursor, &mut self.of_30m),
            b"ttl_12h_tokens" => count(cursor, &mut self.of_12h),
            _ => cursor.skip(),
        })
    }

    fn add_to(self, usage: &mut Usage) {
        let named = sum([self.of_5m, self.of_30m, self.of_1h, self.of_12h]);
        let unnamed = match (self.all, named) {
            (Some(all), Some(named)) => Some(all.saturating_sub(named)).filter(|rest| *rest > 0),
            (all, _) => all,
        };
        usage.cache_write_5m_tokens = sum([self.of_5m, unnamed]);
        usage.cache_write_30m_tokens = self.of_30m;
        usage.cache_write_1h_tokens = self.of_1h;
        usage.cache_write_12h_tokens = self.of_12h;
    }
}

/// Tokens written to the cache, of any lifetime.
pub(crate) fn cache_writes(usage: &Usage) -> Option<u64> {
    sum([
        usage.cache_write_5m_tokens,
        usage.cache_write_30m_tokens,
        usage.cache_write_1h_tokens,
        usage.cache_write_12h_tokens,
    ])
}
