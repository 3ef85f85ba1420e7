//! Facts of OpenAI responses that pass through.

use super::{name, read_error};
use crate::facts::{FinishReason, ResponseFacts};
use crate::json::PatternStep::{Element, Key};
use crate::json::{JsonCursor, JsonPattern};
use crate::{tier, usage};

/// Reads the data of one event.
pub(super) fn read_event(data: &[u8], facts: &mut ResponseFacts) {
    let mut is_error = false;
    let _ = JsonCursor::new(data).object(|key, cursor| {
        match key {
            b"type" => match cursor.string_or_skip()? {
                Some(b"response.completed" | b"response.incomplete" | b"response.failed") => {
                    facts.terminal_seen = true;
                }
                Some(b"error") => is_error = true,
                _ => {}
            },
            // Text, refusals, reasoning and arguments all come in a `delta`.
            b"delta" => {
                facts.add_text(cursor.string_or_skip()?.unwrap_or_default());
            }
            b"response" => read_response(cursor, facts)?,
            b"error" => read_error(cursor, facts)?,
            _ => cursor.skip()?,
        }
        Some(())
    });
    if is_error && facts.provider_error.is_none() {
        // The event is the error itself.
        let _ = read_error(&mut JsonCursor::new(data), facts);
    }
}

fn read_response(cursor: &mut JsonCursor<'_>, facts: &mut ResponseFacts) -> Option<()> {
    cursor.object_or_skip(|key, cursor| {
        match key {
            b"id" if facts.upstream_id.is_none() => facts.upstream_id = name(cursor)?,
            b"model" => {
                let model = name(cursor)?;
                facts.upstream_model = model.or_else(|| facts.upstream_model.take());
            }
            b"status" => {
                if let Some(word) = cursor.string_or_skip()?
                    && !matches!(word, b"in_progress" | b"queued")
                {
                    facts.finish_reason = Some(status(word));
                }
            }
            b"usage" => {
                let found = usage::openai(cursor.value()?);
                facts.usage = found.or(facts.usage);
            }
            b"error" => read_error(cursor, facts)?,
            b"service_tier" => tier::read(cursor, facts)?,
            _ => cursor.skip()?,
        }
        Some(())
    })
}

/// The finish reason of a response's status.
pub(super) fn status(word: &[u8]) -> FinishReason {
    match word {
        b"completed" => FinishReason::Stop,
        b"incomplete" => FinishReason::Length,
        b"failed" | b"cancelled" => FinishReason::Error,
        _ => FinishReason::Other,
    }
}

/// The values that are read of a plain body, in the order of the places in [`super`], and its texts.
pub(super) const PATTERNS: &[JsonPattern] = &[
    JsonPattern::Capture(&[Key("usage")]),
    JsonPattern::Capture(&[Key("model")]),
    JsonPattern::Capture(&[Key("id")]),
    JsonPattern::Capture(&[Key("status")]),
    JsonPattern::Capture(&[Key("error")]),
    JsonPattern::Capture(&[Key("service_tier")]),
    JsonPattern::Text(&[Key("output"), Element, Key("content"), Element, Key("text")]),
    JsonPattern::Text(&[Key("output"), Element, Key("arguments")]),
];
