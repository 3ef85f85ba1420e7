//! Answers whose bytes the client gets as they are: read for facts, never rebuilt.
//!
//! An event is walked once, with nothing built from it but the few values that are facts. One
//! thing is taken out: a usage chunk that only the gateway asked for.

mod chat;
mod messages;
mod responses;

use bytes::{Bytes, BytesMut};

use crate::api::UpstreamApi;
use crate::json::{Cursor, Extractor, Part, Pattern, unescape};
use crate::response::{Exchange, FinishReason, ResponseFacts, StreamError};
use crate::sse::{Found, SseEvent, SseReader, Verdict};
use crate::upstream_error::UpstreamErrorFacts;
use crate::usage::AnthropicCounts;
use crate::{caps, tier, usage};

pub(crate) use chat::finish_reason;

const DONE_EVENT: &[u8] = b"data: [DONE]\n\n";

/// Which of the three shapes an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Chat,
    Messages,
    Responses,
}

impl Shape {
    const fn of(upstream: UpstreamApi) -> Self {
        match upstream {
            UpstreamApi::Messages | UpstreamApi::CountTokens => Self::Messages,
            UpstreamApi::Responses => Self::Responses,
            _ => Self::Chat,
        }
    }
}

/// A stream of events.
#[derive(Debug)]
pub(crate) struct StreamReader {
    frames: SseReader,
    events: EventReader,
    strips_usage: bool,
}

#[derive(Debug)]
enum EventReader {
    Chat(chat::EventReader),
    Messages(messages::EventReader),
    Responses,
}

impl StreamReader {
    pub(crate) fn new(exchange: &Exchange) -> Self {
        let events = match Shape::of(exchange.upstream) {
            Shape::Chat => EventReader::Chat(chat::EventReader::default()),
            Shape::Messages => EventReader::Messages(messages::EventReader::default()),
            Shape::Responses => EventReader::Responses,
        };
        Self {
            frames: SseReader::default(),
            events,
            strips_usage: exchange.strips_usage,
        }
    }

    pub(crate) fn push(&mut self, input: &Bytes, facts: &mut ResponseFacts) -> Bytes {
        let Self {
            frames,
            events,
            strips_usage,
        } = self;
        frames.push(input, |found| events.judge(found, *strips_usage, facts))
    }

    pub(crate) fn finish(&mut self, facts: &mut ResponseFacts) -> Result<Bytes, StreamError> {
        let Self {
            frames,
            events,
            strips_usage,
        } = self;
        let rest = frames.finish(|found| events.judge(found, *strips_usage, facts));
        if facts.terminal_seen || facts.provider_error.is_some() {
            return Ok(rest);
        }
        if facts.finish_reason.is_none() || !matches!(self.events, EventReader::Chat(_)) {
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

impl EventReader {
    fn judge(
        &mut self,
        found: Found<'_>,
        strips_usage: bool,
        facts: &mut ResponseFacts,
    ) -> Verdict {
        let Found::Event(SseEvent { data, .. }) = found else {
            return Verdict::Keep;
        };
        let text_before = facts.text_bytes;
        let mut is_usage_chunk = false;
        match self {
            Self::Chat(reader) => is_usage_chunk = reader.read(data, facts),
            Self::Messages(reader) => reader.read(data, facts),
            Self::Responses => responses::read_event(data, facts),
        }
        if facts.text_bytes > text_before {
            facts.first_token_seen = true;
            facts.text_chunks += 1;
        }
        if strips_usage && is_usage_chunk {
            Verdict::Drop
        } else {
            Verdict::Keep
        }
    }
}

fn read_error(cursor: &mut Cursor<'_>, facts: &mut ResponseFacts) -> Option<()> {
    let raw = cursor.value()?;
    if raw != b"null" {
        facts.provider_error = Some(UpstreamErrorFacts::in_stream(raw));
    }
    Some(())
}

/// A string that is short enough to be a name. Anything else is passed over.
fn name(cursor: &mut Cursor<'_>) -> Option<Option<String>> {
    let text = cursor.string_or_skip()?;
    let name = text.and_then(|text| unescape(text, caps::RESPONSE_NAME_BYTES_MAX));
    // Azure's first chunk has empty names.
    Some(name.filter(|name| !name.is_empty()))
}

/// The values that are captured from plain bodies. The first patterns of each shape are these, in
/// this order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Usage,
    Model,
    Id,
    FinishReason,
    Error,
    ServiceTier,
}

impl Wanted {
    const ALL: [Self; 6] = [
        Self::Usage,
        Self::Model,
        Self::Id,
        Self::FinishReason,
        Self::Error,
        Self::ServiceTier,
    ];
}

/// A JSON body.
#[derive(Debug)]
pub(crate) struct PlainReader {
    extractor: Extractor,
    shape: Shape,
}

impl PlainReader {
    pub(crate) fn new(exchange: &Exchange) -> Self {
        let shape = Shape::of(exchange.upstream);
        let patterns: &'static [Pattern] = match shape {
            Shape::Chat => chat::PATTERNS,
            Shape::Messages => messages::PATTERNS,
            Shape::Responses => responses::PATTERNS,
        };
        Self {
            extractor: Extractor::new(patterns),
            shape,
        }
    }

    pub(crate) fn push(&mut self, input: &Bytes, facts: &mut ResponseFacts) {
        let shape = self.shape;
        self.extractor.push(input, &mut |part| match part {
            Part::Value(pattern, value) => {
                if let Some(wanted) = Wanted::ALL.get(pattern) {
                    note(*wanted, shape, value, facts);
                }
            }
            Part::Text(text) => facts.add_text(text),
        });
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

fn note(wanted: Wanted, shape: Shape, value: &[u8], facts: &mut ResponseFacts) {
    let mut cursor = Cursor::new(value);
    match wanted {
        Wanted::Usage => {
            let usage = match shape {
                Shape::Chat | Shape::Responses => usage::openai(value),
                Shape::Messages => {
                    let mut counts = AnthropicCounts::default();
                    counts.read(value);
                    if let Some(word) = tier::anthropic(value) {
                        tier::note(word, facts);
                    }
                    counts.usage()
                }
            };
            facts.usage = usage.or(facts.usage);
        }
        Wanted::Model => facts.upstream_model = name(&mut cursor).flatten(),
        Wanted::Id => facts.upstream_id = name(&mut cursor).flatten(),
        Wanted::FinishReason => {
            let reason = cursor.string().map(|word| reason_of(shape, word));
            facts.finish_reason = facts.finish_reason.or(reason);
        }
        Wanted::Error => {
            let _ = read_error(&mut cursor, facts);
        }
        Wanted::ServiceTier => {
            let _ = tier::read(&mut cursor, facts);
        }
    }
}

fn reason_of(shape: Shape, word: &[u8]) -> FinishReason {
    match shape {
        Shape::Chat => finish_reason(word),
        Shape::Messages => crate::messages::stop_reason(word),
        Shape::Responses => responses::status(word),
    }
}
