//! Anthropic messages on their way through.

use super::{name, read_error};
use crate::json::{Cursor, Pattern, Step, Want};
use crate::messages::stop_reason;
use crate::response::ResponseFacts;
use crate::tier;
use crate::usage::AnthropicCounts;

/// Reads the events of one stream.
#[derive(Debug, Default)]
pub(super) struct EventReader {
    counts: AnthropicCounts,
}

impl EventReader {
    /// Reads the data of one event.
    pub(super) fn read(&mut self, data: &[u8], facts: &mut ResponseFacts) {
        read_event(data, &mut self.counts, facts);
    }
}

fn read_event(data: &[u8], counts: &mut AnthropicCounts, facts: &mut ResponseFacts) {
    let _ = Cursor::new(data).object(|key, cursor| match key {
        b"type" => {
            if cursor.string_or_skip()? == Some(b"message_stop") {
                facts.terminal_seen = true;
            }
            Some(())
        }
        b"message" => read_message(cursor, counts, facts),
        b"delta" => read_delta(cursor, facts),
        b"usage" => read_usage(cursor, counts, facts),
        b"error" => read_error(cursor, facts),
        _ => cursor.skip(),
    });
}

fn read_message(
    cursor: &mut Cursor<'_>,
    counts: &mut AnthropicCounts,
    facts: &mut ResponseFacts,
) -> Option<()> {
    if cursor.peek()? != b'{' {
        return cursor.skip();
    }
    cursor.object(|key, cursor| {
        match key {
            b"id" => facts.upstream_id = name(cursor)?,
            b"model" => facts.upstream_model = name(cursor)?,
            b"usage" => read_usage(cursor, counts, facts)?,
            _ => cursor.skip()?,
        }
        Some(())
    })
}

fn read_delta(cursor: &mut Cursor<'_>, facts: &mut ResponseFacts) -> Option<()> {
    if cursor.peek()? != b'{' {
        return cursor.skip();
    }
    cursor.object(|key, cursor| {
        match key {
            b"text" | b"thinking" | b"partial_json" => {
                facts.add_text(cursor.string_or_skip()?.unwrap_or_default());
            }
            b"stop_reason" => {
                let reason = cursor.string_or_skip()?.map(stop_reason);
                facts.finish_reason = reason.or(facts.finish_reason);
            }
            _ => cursor.skip()?,
        }
        Some(())
    })
}

fn read_usage(
    cursor: &mut Cursor<'_>,
    counts: &mut AnthropicCounts,
    facts: &mut ResponseFacts,
) -> Option<()> {
    let raw = cursor.value()?;
    counts.read(raw);
    facts.usage = counts.usage();
    if let Some(word) = tier::anthropic(raw) {
        tier::note(word, facts);
    }
    Some(())
}

/// What is wanted of a plain body, in the order of [`super::Wanted`].
pub(super) const PATTERNS: &[Pattern] = &[
    Pattern {
        path: &[Step::Key("usage")],
        want: Want::Capture,
    },
    Pattern {
        path: &[Step::Key("model")],
        want: Want::Capture,
    },
    Pattern {
        path: &[Step::Key("id")],
        want: Want::Capture,
    },
    Pattern {
        path: &[Step::Key("stop_reason")],
        want: Want::Capture,
    },
    Pattern {
        path: &[Step::Key("error")],
        want: Want::Capture,
    },
    Pattern {
        path: &[Step::Key("service_tier")],
        want: Want::Capture,
    },
    Pattern {
        path: &[
            Step::Key("content"),
            Step::Element,
            Step::AnyOf(&["text", "thinking"]),
        ],
        want: Want::Text,
    },
];
