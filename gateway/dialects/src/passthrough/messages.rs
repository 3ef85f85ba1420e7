//! Facts of Anthropic messages that pass through.

use super::{name, read_error};
use crate::facts::ResponseFacts;
use crate::json::PatternStep::{AnyOf, Element, Key};
use crate::json::{JsonCursor, JsonPattern};
use crate::messages::stop_reason;
use crate::tier;
use crate::usage::AnthropicCounts;

/// Reads the data of one event. `counts` are those of the stream so far.
pub(super) fn read_event(data: &[u8], counts: &mut AnthropicCounts, facts: &mut ResponseFacts) {
    let _ = JsonCursor::new(data).object(|key, cursor| match key {
        b"type" => {
            if cursor.string_or_skip()? == Some(b"message_stop") {
                facts.terminal_seen = true;
            }
            Some(())
        }
        b"message" => read_message(cursor, counts, facts),
        b"delta" => read_delta(cursor, counts, facts),
        b"usage" => read_usage(cursor, counts, facts),
        b"error" => read_error(cursor, facts),
        _ => cursor.skip(),
    });
}

fn read_message(
    cursor: &mut JsonCursor<'_>,
    counts: &mut AnthropicCounts,
    facts: &mut ResponseFacts,
) -> Option<()> {
    cursor.object_or_skip(|key, cursor| {
        match key {
            b"id" if facts.upstream_id.is_none() => facts.upstream_id = name(cursor)?,
            b"model" if facts.upstream_model.is_none() => facts.upstream_model = name(cursor)?,
            b"usage" => read_usage(cursor, counts, facts)?,
            b"container" => read_container(cursor.value()?, counts, facts),
            _ => cursor.skip()?,
        }
        Some(())
    })
}

fn read_delta(
    cursor: &mut JsonCursor<'_>,
    counts: &mut AnthropicCounts,
    facts: &mut ResponseFacts,
) -> Option<()> {
    cursor.object_or_skip(|key, cursor| {
        match key {
            b"text" | b"thinking" | b"partial_json" => {
                facts.add_text(cursor.string_or_skip()?.unwrap_or_default());
            }
            b"stop_reason" => {
                let reason = cursor.string_or_skip()?.map(stop_reason);
                facts.finish_reason = reason.or(facts.finish_reason);
            }
            b"container" => read_container(cursor.value()?, counts, facts),
            _ => cursor.skip()?,
        }
        Some(())
    })
}

/// Reads a message's `container`, which may come before or after its usage.
pub(super) fn read_container(raw: &[u8], counts: &mut AnthropicCounts, facts: &mut ResponseFacts) {
    if counts.read_container(raw) && facts.usage.is_some() {
        facts.usage = counts.usage();
    }
}

fn read_usage(
    cursor: &mut JsonCursor<'_>,
    counts: &mut AnthropicCounts,
    facts: &mut ResponseFacts,
) -> Option<()> {
    let raw = cursor.value()?;
    counts.read(raw);
    add_to_facts(raw, counts, facts);
    Some(())
}

/// Takes over what the counts are now, and what else stands in the `usage` that was just read.
pub(super) fn add_to_facts(raw: &[u8], counts: &AnthropicCounts, facts: &mut ResponseFacts) {
    facts.usage = counts.usage();
    facts.other_models = counts.other_models().to_vec();
    if let Some(word) = tier::anthropic(raw) {
        tier::add_to_facts(word, facts);
    }
    if let Some(word) = tier::inference_geo(raw) {
        tier::add_geo_to_facts(word, facts);
    }
}

/// The values that are read of a plain body, in the order of the places in [`super`], and its texts.
pub(super) const PATTERNS: &[JsonPattern] = &[
    JsonPattern::Capture(&[Key("usage")]),
    JsonPattern::Capture(&[Key("model")]),
    JsonPattern::Capture(&[Key("id")]),
    JsonPattern::Capture(&[Key("stop_reason")]),
    JsonPattern::Capture(&[Key("error")]),
    JsonPattern::Capture(&[Key("service_tier")]),
    JsonPattern::Capture(&[Key("container")]),
    JsonPattern::Text(&[Key("content"), Element, AnyOf(&["text", "thinking"])]),
];
