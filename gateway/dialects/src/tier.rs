//! The service tier that an answer was served in, in each provider's place and words.
//!
//! The provider's word is kept, unless its price list uses another: Vertex AI's `ON_DEMAND_FLEX` is
//! sold as `flex`.

use crate::caps;
use crate::facts::ResponseFacts;
use crate::json::{JsonCursor, unescape};

/// Reads a `service_tier`. Anything but text is skipped.
pub(crate) fn read(cursor: &mut JsonCursor<'_>, facts: &mut ResponseFacts) -> Option<()> {
    if let Some(word) = cursor.string_or_skip()? {
        add_to_facts(word, facts);
    }
    Some(())
}

/// Takes over a tier's name, still escaped. A later one counts: a stream may begin with the tier
/// that was asked for.
pub(crate) fn add_to_facts(word: &[u8], facts: &mut ResponseFacts) {
    replace(&mut facts.service_tier, word);
}

/// Takes over the place where the model ran, still escaped.
pub(crate) fn add_geo_to_facts(word: &[u8], facts: &mut ResponseFacts) {
    replace(&mut facts.inference_geo, word);
}

fn replace(known: &mut Option<String>, word: &[u8]) {
    let said = known.as_deref().unwrap_or_default();
    if !word.is_empty() && said.as_bytes() != word {
        *known = unescape(word, caps::TIER_BYTES_MAX).or_else(|| known.take());
    }
}

/// What Anthropic's `usage` says. Fast mode is a speed there and not a tier, but it has prices of
/// its own.
pub(crate) fn anthropic(usage: &[u8]) -> Option<&[u8]> {
    let (mut tier, mut speed) = (None, None);
    JsonCursor::new(usage).object(|key, cursor| {
        match key {
            b"service_tier" => tier = cursor.string_or_skip()?,
            b"speed" => speed = cursor.string_or_skip()?,
            _ => cursor.skip()?,
        }
        Some(())
    })?;
    speed.filter(|speed| *speed == b"fast").or(tier)
}

/// Where Anthropic's `usage` says that the model ran.
pub(crate) fn inference_geo(usage: &[u8]) -> Option<&[u8]> {
    string_in(usage, b"inference_geo")
}

/// What the `usage` of a chat answer says: Mistral names its tier there.
pub(crate) fn in_usage(usage: &[u8]) -> Option<&[u8]> {
    string_in(usage, b"service_tier")
}

fn string_in<'a>(object: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut found = None;
    JsonCursor::new(object).object(|key, cursor| {
        if key == wanted {
            found = cursor.string_or_skip()?;
            return Some(());
        }
        cursor.skip()
    })?;
    found
}

/// What Gemini's `usageMetadata` says: `trafficType` at Vertex AI. Google's other API names its tier
/// in a header.
#[derive(Default)]
pub(crate) struct GeminiTier<'a> {
    tier: Option<&'a [u8]>,
    traffic: Option<&'a [u8]>,
}

impl<'a> GeminiTier<'a> {
    /// Reads an entry. Returns whether it was one of its own.
    pub(crate) fn read(&mut self, key: &[u8], cursor: &mut JsonCursor<'a>) -> Option<bool> {
        match key {
            b"serviceTier" => self.tier = cursor.string_or_skip()?,
            b"trafficType" => self.traffic = cursor.string_or_skip()?,
            _ => return Some(false),
        }
        Some(true)
    }

    pub(crate) fn word(self) -> Option<&'a [u8]> {
        self.tier
            .or_else(|| sold_as(self.traffic?).map(str::as_bytes))
    }
}

fn sold_as(traffic: &[u8]) -> Option<&'static str> {
    match traffic {
        b"ON_DEMAND" => Some("standard"),
        b"ON_DEMAND_FLEX" => Some("flex"),
        b"ON_DEMAND_PRIORITY" => Some("priority"),
        b"PROVISIONED_THROUGHPUT" => Some("provisioned_throughput"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_provider_says_it_in_its_own_place() {
        let said = |tier: Option<&[u8]>| tier.map(|tier| String::from_utf8(tier.to_vec()).unwrap());
        let gemini = |raw| crate::usage::gemini(raw).1;
        let fast = br#"{"input_tokens":1,"service_tier":"standard","speed":"fast"}"#;
        assert_eq!(said(anthropic(fast)).as_deref(), Some("fast"));
        let slow = br#"{"service_tier":"batch","speed":"standard"}"#;
        assert_eq!(said(anthropic(slow)).as_deref(), Some("batch"));
        assert_eq!(said(anthropic(br#"{"service_tier":null}"#)), None);
        let flex = br#"{"promptTokenCount":1,"trafficType":"ON_DEMAND_FLEX"}"#;
        assert_eq!(said(gemini(flex)).as_deref(), Some("flex"));
        assert_eq!(
            said(gemini(br#"{"trafficType":"TRAFFIC_TYPE_UNSPECIFIED"}"#)),
            None
        );
        assert_eq!(said(gemini(b"{}")), None);
    }

    #[test]
    fn the_last_word_counts_and_nonsense_does_not() {
        let mut facts = ResponseFacts::default();
        let mut said = |raw: &[u8]| {
            read(&mut JsonCursor::new(raw), &mut facts);
            facts.service_tier.clone()
        };
        assert_eq!(said(b"null"), None);
        assert_eq!(said(br#""auto""#).as_deref(), Some("auto"));
        assert_eq!(said(br#""flex""#).as_deref(), Some("flex"));
        assert_eq!(said(b"7").as_deref(), Some("flex"));
        assert_eq!(said(br#""""#).as_deref(), Some("flex"));
        let long = format!("\"{}\"", "x".repeat(65));
        assert_eq!(said(long.as_bytes()).as_deref(), Some("flex"));
    }
}
