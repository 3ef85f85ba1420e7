//! Answers whose bytes the client gets as they are: read for facts, never rebuilt.
//!
//! A chunk is walked once, with nothing built from it but the few values that are facts.

use bytes::{Bytes, BytesMut};

use crate::json::{Cursor, Extractor, Pattern, Step, Want, unescape};
use crate::response::{Exchange, FinishReason, ResponseFacts, StreamError};
use crate::sse::{Found, SseReader, Verdict};
use crate::upstream_error::UpstreamErrorFacts;
use crate::{caps, usage};

const DONE_EVENT: &[u8] = b"data: [DONE]\n\n";

/// A stream of events.
#[derive(Debug)]
pub(crate) struct StreamReader {
    events: SseReader,
    strips_usage: bool,
}

impl StreamReader {
    pub(crate) fn new(exchange: &Exchange) -> Self {
        Self {
            events: SseReader::default(),
            strips_usage: exchange.strips_usage,
        }
    }

    pub(crate) fn push(&mut self, input: &Bytes, facts: &mut ResponseFacts) -> Bytes {
        let strips_usage = self.strips_usage;
        self.events
            .push(input, |found| judge(found, strips_usage, facts))
    }

    pub(crate) fn finish(&mut self, facts: &mut ResponseFacts) -> Result<Bytes, StreamError> {
        let strips_usage = self.strips_usage;
        let rest = self
            .events
            .finish(|found| judge(found, strips_usage, facts));
        if facts.terminal_seen || facts.provider_error.is_some() {
            return Ok(rest);
        }
        if facts.finish_reason.is_none() {
            return Err(StreamError::Truncated);
        }
        // Some servers leave out the last line, for which clients wait.
        facts.terminal_seen = true;
        Ok(with_done(&rest))
    }
}

/// Adds the last line to what may be an event without its end.
fn with_done(rest: &Bytes) -> Bytes {
    if rest.is_empty() {
        return Bytes::from_static(DONE_EVENT);
    }
    let mut out = BytesMut::from(rest.as_ref());
    out.extend_from_slice(b"\n\n");
    out.extend_from_slice(DONE_EVENT);
    out.freeze()
}

fn judge(found: Found<'_>, strips_usage: bool, facts: &mut ResponseFacts) -> Verdict {
    let Found::Event(event) = found else {
        return Verdict::Keep;
    };
    if event.data == b"[DONE]" {
        facts.terminal_seen = true;
        return Verdict::Keep;
    }
    let chunk = read_chat_chunk(event.data, facts);
    if strips_usage && chunk.is_usage_only {
        Verdict::Drop
    } else {
        Verdict::Keep
    }
}

/// What matters of a chunk beyond the facts.
#[derive(Default)]
struct ChatChunk {
    /// It has no choices, but usage.
    is_usage_only: bool,
}

fn read_chat_chunk(data: &[u8], facts: &mut ResponseFacts) -> ChatChunk {
    let (mut has_usage, mut has_no_choices) = (false, false);
    let text_before = facts.text_bytes;
    Cursor::new(data).object(|key, cursor| {
        match key {
            b"choices" => has_no_choices = read_choices(cursor, facts)? == 0,
            b"usage" => has_usage = read_usage(cursor, facts)?,
            b"model" if facts.upstream_model.is_none() => {
                facts.upstream_model = name(cursor)?;
            }
            b"id" if facts.upstream_id.is_none() => facts.upstream_id = name(cursor)?,
            b"x_groq" => read_groq(cursor, facts)?,
            b"error" => read_error(cursor, facts)?,
            _ => cursor.skip()?,
        }
        Some(())
    });
    if facts.text_bytes > text_before {
        facts.first_token_seen = true;
        facts.text_chunks += 1;
    }
    ChatChunk {
        is_usage_only: has_usage && has_no_choices,
    }
}

/// Returns how many choices there are.
fn read_choices(cursor: &mut Cursor<'_>, facts: &mut ResponseFacts) -> Option<usize> {
    if cursor.peek()? != b'[' {
        return cursor.skip().map(|()| 0);
    }
    let mut choices = 0;
    cursor.array(|cursor| {
        choices += 1;
        cursor.object(|key, cursor| match key {
            b"delta" => read_delta(cursor, facts),
            b"finish_reason" => {
                let reason = cursor.string_or_skip()?;
                facts.finish_reason = reason.map(finish_reason).or(facts.finish_reason);
                Some(())
            }
            // Moonshot puts usage here.
            b"usage" => read_usage(cursor, facts).map(|_| ()),
            _ => cursor.skip(),
        })
    })?;
    Some(choices)
}

/// Counts the text in a delta, whatever it is text of.
fn read_delta(cursor: &mut Cursor<'_>, facts: &mut ResponseFacts) -> Option<()> {
    if cursor.peek()? != b'{' {
        return cursor.skip();
    }
    cursor.object(|key, cursor| {
        match key {
            b"content" | b"reasoning_content" | b"reasoning" | b"refusal" => {
                // Content may come in parts, and counts as it stands then.
                let text = match cursor.peek()? {
                    b'"' => cursor.string()?,
                    b'[' | b'{' => cursor.value()?,
                    _ => return cursor.skip(),
                };
                facts.text_bytes += text.len() as u64;
            }
            b"tool_calls" | b"function_call" | b"audio" => match cursor.peek()? {
                b'[' | b'{' => facts.text_bytes += cursor.value()?.len() as u64,
                _ => cursor.skip()?,
            },
            _ => cursor.skip()?,
        }
        Some(())
    })
}

/// Groq reports usage in a field of its own.
fn read_groq(cursor: &mut Cursor<'_>, facts: &mut ResponseFacts) -> Option<()> {
    if cursor.peek()? != b'{' {
        return cursor.skip();
    }
    cursor.object(|key, cursor| match key {
        b"usage" => read_usage(cursor, facts).map(|_| ()),
        _ => cursor.skip(),
    })
}

/// Returns whether there was usage.
fn read_usage(cursor: &mut Cursor<'_>, facts: &mut ResponseFacts) -> Option<bool> {
    let found = usage::openai(cursor.value()?);
    facts.usage = found.or(facts.usage);
    Some(found.is_some())
}

fn read_error(cursor: &mut Cursor<'_>, facts: &mut ResponseFacts) -> Option<()> {
    let raw = cursor.value()?;
    if raw != b"null" {
        facts.provider_error = Some(UpstreamErrorFacts::in_stream(raw));
    }
    Some(())
}

fn name(cursor: &mut Cursor<'_>) -> Option<Option<String>> {
    let text = cursor.string_or_skip()?;
    Some(text.and_then(|text| unescape(text, caps::RESPONSE_NAME_BYTES_MAX)))
}

/// The words of chat completions, those of its relatives included.
pub(crate) fn finish_reason(word: &[u8]) -> FinishReason {
    match word {
        b"stop" | b"eos" | b"end_turn" => FinishReason::Stop,
        b"length" | b"max_tokens" | b"model_length" => FinishReason::Length,
        b"tool_calls" | b"function_call" | b"tool_use" => FinishReason::ToolCalls,
        // GLM says `sensitive`.
        b"content_filter" | b"sensitive" => FinishReason::ContentFilter,
        b"refusal" => FinishReason::Refusal,
        b"error" | b"network_error" | b"insufficient_system_resource" => FinishReason::Error,
        _ => FinishReason::Other,
    }
}

const USAGE: usize = 0;
const MODEL: usize = 1;
const ID: usize = 2;
const FINISH_REASON: usize = 3;

const PATTERNS: &[Pattern] = &[
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
        path: &[
            Step::Key("choices"),
            Step::Element,
            Step::Key("finish_reason"),
        ],
        want: Want::Capture,
    },
    Pattern {
        path: &[
            Step::Key("choices"),
            Step::Element,
            Step::Key("message"),
            Step::AnyOf(&["content", "reasoning_content", "reasoning", "refusal"]),
        ],
        want: Want::TextBytes,
    },
    Pattern {
        path: &[
            Step::Key("choices"),
            Step::Element,
            Step::Key("message"),
            Step::Key("tool_calls"),
            Step::Element,
            Step::Key("function"),
            Step::Key("arguments"),
        ],
        want: Want::TextBytes,
    },
];

/// A JSON body.
#[derive(Debug)]
pub(crate) struct PlainReader {
    extractor: Extractor,
}

impl PlainReader {
    pub(crate) fn new(_exchange: &Exchange) -> Self {
        Self {
            extractor: Extractor::new(PATTERNS),
        }
    }

    pub(crate) fn push(&mut self, input: &Bytes, facts: &mut ResponseFacts) {
        self.extractor
            .push(input, &mut |pattern, value| note(pattern, value, facts));
        facts.text_bytes = self.extractor.text_bytes();
        facts.terminal_seen = self.extractor.is_complete();
        facts.first_token_seen = facts.text_bytes > 0 || facts.terminal_seen;
    }

    pub(crate) fn finish(&mut self, facts: &mut ResponseFacts) -> Result<(), StreamError> {
        if facts.terminal_seen {
            Ok(())
        } else {
            Err(StreamError::Truncated)
        }
    }
}

fn note(pattern: usize, value: &[u8], facts: &mut ResponseFacts) {
    let mut cursor = Cursor::new(value);
    match pattern {
        USAGE => facts.usage = usage::openai(value).or(facts.usage),
        MODEL => facts.upstream_model = name(&mut cursor).flatten(),
        ID => facts.upstream_id = name(&mut cursor).flatten(),
        FINISH_REASON => {
            let reason = cursor.string().map(finish_reason);
            facts.finish_reason = facts.finish_reason.or(reason);
        }
        _ => {}
    }
}
