//! Answers that pass unchanged: read for facts, never rebuilt.
//!
//! Each event is walked once, and only the values that are facts are built. Only the usage chunk is
//! removed, if the gateway alone asked for it.

mod chat;
mod messages;
mod responses;

use bytes::Bytes;

use crate::api::{AnswerFormat, ClientApi, Family};
use crate::error::{ApiError, error_event};
use crate::facts::{FinishReason, ResponseFacts, StreamError};
use crate::json::{Extracted, Extractor, JsonCursor, JsonPattern, is_error, unescape};
use crate::response_context::ResponseContext;
use crate::sse::{SseItem, SseReader, Verdict};
use crate::upstream_error::{ErrorRow, UpstreamErrorFacts};
use crate::usage::AnthropicCounts;
use crate::{caps, tier, usage};

const DONE_EVENT: &[u8] = b"data: [DONE]\n\n";
const STOP_EVENT: &[u8] = b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

/// A stream of events.
#[derive(Debug)]
pub(crate) struct PassthroughStream {
    frames: SseReader,
    events: StreamFacts,
    strips_usage: bool,
    context: ErrorContext,
    /// An error was reported that is not the client's business: nothing is passed on from there.
    is_hidden: bool,
}

/// What must be known to judge an error that the provider reports.
#[derive(Debug)]
struct ErrorContext {
    provider: &'static str,
    rows: &'static [ErrorRow],
}

#[derive(Debug)]
enum StreamFacts {
    Chat(Box<chat::ChatFacts>),
    Messages(Box<AnthropicCounts>),
    Responses(Box<responses::ResponsesFacts>),
}

impl PassthroughStream {
    pub(crate) fn new(context: &ResponseContext) -> Self {
        let events = match context.api.answer_format() {
            AnswerFormat::Chat => StreamFacts::Chat(Box::default()),
            AnswerFormat::Messages => StreamFacts::Messages(Box::default()),
            AnswerFormat::Responses => {
                let identity = context.identity.clone();
                StreamFacts::Responses(Box::new(responses::ResponsesFacts::new(identity)))
            }
        };
        Self {
            frames: SseReader::default(),
            events,
            strips_usage: context.strips_usage,
            context: ErrorContext {
                provider: context.provider,
                rows: context.errors,
            },
            is_hidden: false,
        }
    }

    pub(crate) fn push(&mut self, input: &Bytes, facts: &mut ResponseFacts) -> Bytes {
        let was_hidden = self.is_hidden;
        let (context, is_hidden) = (&self.context, &mut self.is_hidden);
        let kept = self.frames.push(input, |item| {
            let judge = |facts: &mut _| self.events.judge(&item, self.strips_usage, facts);
            context.judge(&item, judge, is_hidden, facts)
        });
        self.with_error(was_hidden, kept, facts)
    }

    pub(crate) fn finish(&mut self, facts: &mut ResponseFacts) -> Result<Bytes, StreamError> {
        let was_hidden = self.is_hidden;
        let (context, is_hidden) = (&self.context, &mut self.is_hidden);
        let rest = self.frames.finish(|item: SseItem<'_>| {
            let judge = |facts: &mut _| self.events.judge(&item, self.strips_usage, facts);
            context.judge(&item, judge, is_hidden, facts)
        });
        let rest = self.with_error(was_hidden, rest, facts);
        if facts.terminal_seen || facts.provider_error.is_some() {
            return Ok(rest);
        }
        // Some servers leave out the last event, for which clients wait.
        let last = match self.events {
            StreamFacts::Chat(_) => DONE_EVENT,
            StreamFacts::Messages(_) => STOP_EVENT,
            StreamFacts::Responses(_) => return Err(StreamError::Truncated),
        };
        if facts.finish_reason.is_none() {
            return Err(StreamError::Truncated);
        }
        facts.terminal_seen = true;
        Ok(with_last(&rest, last))
    }
}

impl PassthroughStream {
    /// Puts the gateway's words in the place of an error that was hidden.
    fn with_error(&self, was_hidden: bool, kept: Bytes, facts: &ResponseFacts) -> Bytes {
        let reported = facts.provider_error.as_ref();
        let Some(reported) = reported.filter(|_| self.is_hidden && !was_hidden) else {
            return kept;
        };
        let error = reported.to_api_error(self.context.provider);
        [kept, self.fail(&error, facts)].concat().into()
    }

    /// The events that end a stream which cannot go on.
    pub(crate) fn fail(&self, error: &ApiError<'_>, facts: &ResponseFacts) -> Bytes {
        match &self.events {
            StreamFacts::Chat(_) => error_event(Family::OpenAi, error).into(),
            StreamFacts::Messages(_) => error_event(Family::Anthropic, error).into(),
            StreamFacts::Responses(reader) => reader.fail(error, self.is_hidden, facts).into(),
        }
    }
}

impl ErrorContext {
    /// Judges an item, and the error that it may report.
    fn judge(
        &self,
        item: &SseItem<'_>,
        judge: impl FnOnce(&mut ResponseFacts) -> Verdict,
        is_hidden: &mut bool,
        facts: &mut ResponseFacts,
    ) -> Verdict {
        if *is_hidden {
            return Verdict::Drop;
        }
        let had_error = facts.provider_error.is_some();
        let verdict = judge(facts);
        if had_error || facts.provider_error.is_none() {
            return verdict;
        }
        read_as(self.rows, facts);
        let reported = facts.provider_error.as_ref();
        if let (SseItem::Event { data, .. }, Some(reported)) = (item, reported) {
            *is_hidden = verdict == Verdict::Drop || !reported.is_quotable(data);
        }
        if *is_hidden { Verdict::Drop } else { verdict }
    }
}

/// Reads the code of an error as its vendor means it.
fn read_as(rows: &[ErrorRow], facts: &mut ResponseFacts) {
    let reported = facts.provider_error.take();
    facts.provider_error = reported.map(|error| error.meant_by(rows));
}

/// Adds the last event to what may be an event without its end.
fn with_last(rest: &Bytes, last: &'static [u8]) -> Bytes {
    if rest.is_empty() {
        return Bytes::from_static(last);
    }
    [&rest[..], b"\n\n", last].concat().into()
}

impl StreamFacts {
    fn judge(
        &mut self,
        item: &SseItem<'_>,
        strips_usage: bool,
        facts: &mut ResponseFacts,
    ) -> Verdict {
        let SseItem::Event { name, data } = *item else {
            return Verdict::Keep;
        };
        let text_before = facts.text_bytes;
        let mut is_usage_chunk = false;
        match self {
            Self::Chat(reader) => is_usage_chunk = reader.read(data, facts),
            Self::Messages(counts) => {
                facts.terminal_seen |= name == b"message_stop";
                messages::read_event(data, counts, facts);
            }
            Self::Responses(reader) => reader.read(name, data, facts),
        }
        if facts.text_bytes > text_before {
            facts.first_token_seen = true;
            facts.text_chunks += 1;
        }
        if name == b"error" && facts.provider_error.is_none() && !facts.terminal_seen {
            // Clients of this dialect would not recognise it.
            facts.provider_error = Some(UpstreamErrorFacts::in_event(data));
            return Verdict::Drop;
        }
        if strips_usage && is_usage_chunk {
            Verdict::Drop
        } else {
            Verdict::Keep
        }
    }
}

fn read_error(cursor: &mut JsonCursor<'_>, facts: &mut ResponseFacts) -> Option<()> {
    let raw = cursor.value()?;
    if str::from_utf8(raw).is_ok_and(is_error) {
        facts.provider_error = Some(UpstreamErrorFacts::in_stream(raw));
    }
    Some(())
}

/// A string that is short enough for a name. Anything else is skipped.
fn name(cursor: &mut JsonCursor<'_>) -> Option<Option<String>> {
    let text = cursor.string_or_skip()?;
    let name = text.and_then(|text| unescape(text, caps::RESPONSE_NAME_BYTES_MAX));
    // Azure's first chunk has empty names.
    Some(name.filter(|name| !name.is_empty()))
}

// The values that are captured from plain bodies, by their place in each format's patterns.
const USAGE: usize = 0;
const MODEL: usize = 1;
const ID: usize = 2;
const FINISH_REASON: usize = 3;
const ERROR: usize = 4;
const SERVICE_TIER: usize = 5;
/// Only for chat.
const MINIMAX_STATUS: usize = 6;
const CHOICE_ERROR: usize = 7;
/// Only of messages.
const CONTAINER: usize = 6;

/// A JSON body.
#[derive(Debug)]
pub(crate) struct PassthroughBody {
    extractor: Extractor,
    format: AnswerFormat,
    /// Whether there must be an answer of a model in it.
    wants_answer: bool,
    errors: &'static [ErrorRow],
    /// Only for messages.
    counts: Option<Box<AnthropicCounts>>,
    /// Only for responses.
    tools: Option<Box<responses::BodyTools>>,
}

impl PassthroughBody {
    pub(crate) fn new(context: &ResponseContext) -> Self {
        let format = context.api.answer_format();
        let patterns: &'static [JsonPattern] = match format {
            AnswerFormat::Chat => chat::PATTERNS,
            AnswerFormat::Messages => messages::PATTERNS,
            AnswerFormat::Responses => responses::PATTERNS,
        };
        Self {
            extractor: Extractor::new(patterns),
            format,
            wants_answer: matches!(
                context.api,
                ClientApi::ChatCompletions | ClientApi::Messages | ClientApi::Responses
            ),
            errors: context.errors,
            counts: (format == AnswerFormat::Messages).then(Box::default),
            tools: (format == AnswerFormat::Responses).then(Box::default),
        }
    }

    pub(crate) fn push(&mut self, input: &Bytes, facts: &mut ResponseFacts) {
        let (format, counts, tools) = (self.format, &mut self.counts, &mut self.tools);
        self.extractor.push(input, &mut |part| match part {
            Extracted::Value(pattern, value) => match (pattern, &mut *counts, &mut *tools) {
                (USAGE, Some(counts), _) => {
                    counts.read(value);
                    messages::add_to_facts(value, counts, facts);
                }
                (CONTAINER, Some(counts), _) => messages::read_container(value, counts, facts),
                (_, _, Some(tools)) if pattern > SERVICE_TIER => tools.add(pattern, value),
                _ => note(pattern, format, value, facts),
            },
            Extracted::Text(text) => facts.add_text(text),
        });
        read_as(self.errors, facts);
        facts.terminal_seen = self.extractor.is_complete();
        facts.first_token_seen = facts.text_bytes > 0 || facts.terminal_seen;
    }

    pub(crate) fn finish(&mut self, facts: &mut ResponseFacts) -> Result<(), StreamError> {
        let is_whole = facts.terminal_seen.then_some(());
        if let Some(tools) = &mut self.tools {
            tools.add_to_facts(facts);
        }
        facts.count_search_of_model();
        // Some servers answer 200 with something else, such as their state.
        let is_named = self.format != AnswerFormat::Responses || facts.upstream_id.is_some();
        let is_answer = (facts.finish_reason.is_some() && is_named)
            || facts.text_bytes > 0
            || facts.usage.is_some()
            || facts.provider_error.is_some();
        if is_whole.is_some() && self.wants_answer && !is_answer {
            return Err(StreamError::malformed("it holds no answer"));
        }
        is_whole.ok_or(StreamError::Truncated)
    }
}

fn note(pattern: usize, format: AnswerFormat, value: &[u8], facts: &mut ResponseFacts) {
    let mut cursor = JsonCursor::new(value);
    match pattern {
        USAGE => {
            facts.usage = usage::openai(value).or(facts.usage);
            if let Some(word) = tier::in_usage(value) {
                tier::add_to_facts(word, facts);
            }
        }
        MODEL => facts.upstream_model = name(&mut cursor).flatten(),
        ID => facts.upstream_id = name(&mut cursor).flatten(),
        FINISH_REASON => {
            let reason = cursor.string().map(|word| reason_of(format, word));
            facts.finish_reason = facts.finish_reason.or(reason);
            if facts.finish_reason == Some(FinishReason::Error) && facts.provider_error.is_none() {
                facts.provider_error = Some(UpstreamErrorFacts::in_stream(b"{}"));
            }
        }
        ERROR | CHOICE_ERROR => {
            let _ = read_error(&mut cursor, facts);
        }
        MINIMAX_STATUS => {
            let _ = chat::read_minimax_error(&mut cursor, facts);
        }
        SERVICE_TIER => {
            let _ = tier::read(&mut cursor, facts);
        }
        _ => {}
    }
}

fn reason_of(format: AnswerFormat, word: &[u8]) -> FinishReason {
    match format {
        AnswerFormat::Chat => crate::chat::finish_reason(word),
        AnswerFormat::Messages => crate::messages::stop_reason(word),
        AnswerFormat::Responses => responses::status(word),
    }
}
