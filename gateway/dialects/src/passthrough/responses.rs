//! OpenAI responses on their way through.

use super::{name, read_error};
use crate::json::{Cursor, Pattern, Step, Want};
use crate::response::{FinishReason, ResponseFacts};
use crate::{tier, usage};

/// Reads the data of one event.
pub(super) fn read_event(data: &[u8], facts: &mut ResponseFacts) {
    let mut is_error = false;
    let _ = Cursor::new(data).object(|key, cursor| {
        match key {
            b"type" => match cursor.string_or_skip()? {
                Some(b"response.completed" | b"response.incomplete" | b"response.failed") => {
                    facts.terminal_seen = true;
                }
                Some(b"error") => is_error = true,
                _ => {}
            },
            // Text, refusal, reasoning or arguments: all of them are added in a `delta`.
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
        let _ = read_error(&mut Cursor::new(data), facts);
    }
}

fn read_response(cursor: &mut Cursor<'_>, facts: &mut ResponseFacts) -> Option<()> {
    if cursor.peek()? != b'{' {
        return cursor.skip();
    }
    cursor.object(|key, cursor| {
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

/// What a response's status says of why the model stopped.
pub(super) fn status(word: &[u8]) -> FinishReason {
    match word {
        b"completed" => FinishReason::Stop,
        b"incomplete" => FinishReason::Length,
        b"failed" | b"cancelled" => FinishReason::Error,
        _ => FinishReason::Other,
    }
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
        path: &[Step::Key("status")],
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
            Step::Key("output"),
            Step::Element,
            Step::Key("content"),
            Step::Element,
            Step::Key("text"),
        ],
        want: Want::Text,
    },
    Pattern {
        path: &[Step::Key("output"), Step::Element, Step::Key("arguments")],
        want: Want::Text,
    },
];
