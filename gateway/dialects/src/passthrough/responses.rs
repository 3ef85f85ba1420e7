//! Facts of OpenAI responses that pass through.

use super::{name, read_error};
use crate::error::ApiError;
use crate::facts::{FinishReason, ResponseFacts};
use crate::json::PatternStep::{Element, Key};
use crate::json::{JsonCursor, JsonPattern, Writer, non_negative_integer};
use crate::response_context::AnswerIdentity;
use crate::responses::ResponsesWriter;
use crate::usage::{MergedUsage, ToolCalls};
use crate::{caps, tier, usage};

/// What an answer was billed for, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct ResponsesUsage {
    merged: MergedUsage,
    pub(super) tools: ToolCalls,
}

impl ResponsesUsage {
    /// Takes over what one `usage` says, and what is known beside it.
    pub(super) fn add_to_facts(&mut self, raw: Option<&[u8]>, facts: &mut ResponseFacts) {
        let said = raw.and_then(usage::openai);
        for said in [said, self.tools.usage()].into_iter().flatten() {
            facts.usage = Some(self.merged.add(&said));
        }
    }

    /// Reads a response's `tool_usage`; `model` is the image tool's.
    pub(super) fn read_tools(
        &mut self,
        raw: &[u8],
        model: Option<&[u8]>,
        facts: &mut ResponseFacts,
    ) {
        self.tools.read_tool_usage(raw);
        facts.other_models = usage::image_model(raw, model).into_iter().collect();
    }
}

/// Reads the events of one stream.
#[derive(Debug)]
pub(super) struct ResponsesFacts {
    identity: AnswerIdentity,
    /// The number of the next event.
    sequence: u64,
    usage: ResponsesUsage,
    /// How much of each part was counted. Streams say a text several times, and leave out some of them.
    counted: Vec<CountedPart>,
}

#[derive(Debug)]
struct CountedPart {
    item: u64,
    part: u64,
    bytes: usize,
}

/// What an event says of the answer's text.
#[derive(Default)]
struct Said<'a> {
    kind: &'a [u8],
    item: u64,
    part: u64,
    /// Text, refusals, reasoning and arguments all come in a `delta`.
    delta: &'a [u8],
    sequence: Option<u64>,
    /// The whole of it.
    whole: &'a [u8],
    /// The whole item.
    object: &'a [u8],
    /// The whole response.
    response: &'a [u8],
}

impl ResponsesFacts {
    pub(super) fn new(identity: AnswerIdentity) -> Self {
        Self {
            identity,
            sequence: 0,
            usage: ResponsesUsage::default(),
            counted: Vec::new(),
        }
    }

    /// The events that end a stream which cannot go on, perhaps in place of the event that was read last.
    pub(super) fn fail(
        &self,
        error: &ApiError<'_>,
        replaces_last: bool,
        facts: &ResponseFacts,
    ) -> String {
        let sequence = self.sequence.saturating_sub(u64::from(replaces_last));
        let mut w = Writer::default();
        ResponsesWriter::after(self.identity.clone(), facts, sequence).fail(error, &mut w);
        w.into_string()
    }

    /// Reads the data of one event. `name` is what the stream calls it, which its type repeats, but not
    /// everywhere.
    pub(super) fn read(&mut self, name: &[u8], data: &[u8], facts: &mut ResponseFacts) {
        let mut said = Said {
            kind: name,
            ..Said::default()
        };
        let _ = JsonCursor::new(data).object(|key, cursor| {
            match key {
                b"type" => said.kind = cursor.string_or_skip()?.unwrap_or(said.kind),
                b"output_index" => said.item = number(cursor)?,
                b"content_index" | b"summary_index" => said.part = number(cursor)?,
                b"sequence_number" => said.sequence = non_negative_integer(cursor.value()?),
                b"delta" => said.delta = cursor.string_or_skip()?.unwrap_or_default(),
                b"text" | b"refusal" | b"arguments" | b"input" => {
                    said.whole = cursor.string_or_skip()?.unwrap_or_default();
                }
                b"item" => said.object = cursor.value()?,
                b"response" => {
                    let raw = cursor.value()?;
                    read_response(&mut JsonCursor::new(raw), &mut self.usage, facts)?;
                    said.response = raw;
                }
                b"error" => read_error(cursor, facts)?,
                _ => cursor.skip()?,
            }
            Some(())
        });
        // Not every server numbers its events.
        self.sequence = said.sequence.unwrap_or(self.sequence).saturating_add(1);
        facts.terminal_seen |= is_last(said.kind);
        self.count(&said, facts);
        if facts.terminal_seen && self.counted.is_empty() {
            let _ = self.read_output(said.response, facts);
        }
        if said.kind == b"error" && facts.provider_error.is_none() {
            // The event is the error itself.
            let _ = read_error(&mut JsonCursor::new(data), facts);
        }
    }

    fn count(&mut self, said: &Said<'_>, facts: &mut ResponseFacts) {
        if !said.delta.is_empty() {
            facts.add_text(said.delta);
            *self.counted(said.item, said.part) += said.delta.len();
        }
        if !said.whole.is_empty() {
            self.fill(said.item, said.part, said.whole, facts);
        }
        if said.kind == b"response.output_item.done" {
            self.usage.tools.add_item(said.object);
            self.usage.add_to_facts(None, facts);
            let _ = self.read_item(said.item, &mut JsonCursor::new(said.object), facts);
        }
    }

    /// Counts the text of a finished response, where the stream gave none at all.
    fn read_output(&mut self, response: &[u8], facts: &mut ResponseFacts) -> Option<()> {
        JsonCursor::new(response).object(|key, cursor| {
            if key != b"output" || cursor.peek()? != b'[' {
                return cursor.skip();
            }
            let mut item = 0;
            cursor.array(|cursor| {
                item += 1;
                self.read_item(item - 1, cursor, facts)
            })
        })
    }

    /// How much of a part was counted.
    fn counted(&mut self, item: u64, part: u64) -> &mut usize {
        let is_it = |counted: &CountedPart| (counted.item, counted.part) == (item, part);
        let found = self.counted.iter().rposition(is_it);
        let at = found.unwrap_or_else(|| {
            self.counted.truncate(caps::CALLS_MAX);
            self.counted.push(CountedPart {
                item,
                part,
                bytes: 0,
            });
            self.counted.len() - 1
        });
        &mut self.counted[at].bytes
    }

    /// Counts what of a whole text was not counted.
    fn fill(&mut self, item: u64, part: u64, whole: &[u8], facts: &mut ResponseFacts) {
        let counted = self.counted(item, part);
        let rest = whole.get(*counted..).unwrap_or_default();
        *counted += rest.len();
        if !rest.is_empty() {
            facts.add_text(rest);
        }
    }

    /// Counts what of a whole item was not counted.
    fn read_item(
        &mut self,
        item: u64,
        cursor: &mut JsonCursor<'_>,
        facts: &mut ResponseFacts,
    ) -> Option<()> {
        cursor.object_or_skip(|key, cursor| match key {
            b"arguments" | b"input" => {
                let whole = cursor.string_or_skip()?.unwrap_or_default();
                self.fill(item, 0, whole, facts);
                Some(())
            }
            b"content" | b"summary" if cursor.peek()? == b'[' => {
                let mut part = 0;
                cursor.array(|cursor| {
                    cursor.object_or_skip(|key, cursor| match key {
                        b"text" | b"refusal" => {
                            let whole = cursor.string_or_skip()?.unwrap_or_default();
                            self.fill(item, part, whole, facts);
                            Some(())
                        }
                        _ => cursor.skip(),
                    })?;
                    part += 1;
                    Some(())
                })
            }
            _ => cursor.skip(),
        })
    }
}

fn read_response(
    cursor: &mut JsonCursor<'_>,
    usage: &mut ResponsesUsage,
    facts: &mut ResponseFacts,
) -> Option<()> {
    let (mut said, mut tool_usage, mut tools) = (None, None, None);
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
            b"usage" => said = Some(cursor.value()?),
            b"output" => usage.tools.merge(ToolCalls::of_output(cursor.value()?)),
            b"tool_usage" => tool_usage = Some(cursor.value()?),
            b"tools" => tools = Some(cursor.value()?),
            b"error" => read_error(cursor, facts)?,
            b"service_tier" => tier::read(cursor, facts)?,
            _ => cursor.skip()?,
        }
        Some(())
    })?;
    if let Some(raw) = tool_usage {
        usage.read_tools(raw, tools.and_then(usage::image_model_name), facts);
    }
    usage.add_to_facts(said, facts);
    Some(())
}

/// Whether nothing of the answer follows an event.
fn is_last(kind: &[u8]) -> bool {
    matches!(
        kind,
        b"response.completed" | b"response.incomplete" | b"response.failed" | b"response.done"
    )
}

/// A number; 0 for anything else.
fn number(cursor: &mut JsonCursor<'_>) -> Option<u64> {
    Some(non_negative_integer(cursor.value()?).unwrap_or(0))
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

/// What a plain body was billed for, collected while its values come.
#[derive(Debug, Default)]
pub(super) struct BodyTools {
    usage: ResponsesUsage,
    tool_usage: Option<Vec<u8>>,
    image_model: Option<Vec<u8>>,
}

impl BodyTools {
    /// Takes a value of the patterns that only responses have.
    pub(super) fn add(&mut self, pattern: usize, value: &[u8]) {
        let word = JsonCursor::new(value).string();
        let tools = &mut self.usage.tools;
        match (pattern, word) {
            (TOOL_KIND, Some(word)) => tools.add_kind(word),
            (TOOL_ACTION, Some(word)) => tools.add_action(word),
            (CONTAINER, word) => tools.add_container(word),
            (TOOL_USAGE, _) => self.tool_usage = Some(value.to_vec()),
            (TOOL_MODEL, Some(word)) => self.image_model = Some(word.to_vec()),
            _ => {}
        }
    }

    /// Adds them to what the usage said, at the end.
    pub(super) fn add_to_facts(&mut self, facts: &mut ResponseFacts) {
        if let Some(raw) = &self.tool_usage {
            self.usage
                .read_tools(raw, self.image_model.as_deref(), facts);
        }
        if let Some(calls) = self.usage.tools.usage() {
            facts.usage.get_or_insert_default().merge(&calls);
        }
    }
}

// The places of the patterns that only responses have.
const TOOL_KIND: usize = 6;
const TOOL_ACTION: usize = 7;
const CONTAINER: usize = 8;
const TOOL_USAGE: usize = 9;
const TOOL_MODEL: usize = 10;

/// The values that are read of a plain body, in the order of the places in [`super`], and its texts.
pub(super) const PATTERNS: &[JsonPattern] = &[
    JsonPattern::Capture(&[Key("usage")]),
    JsonPattern::Capture(&[Key("model")]),
    JsonPattern::Capture(&[Key("id")]),
    JsonPattern::Capture(&[Key("status")]),
    JsonPattern::Capture(&[Key("error")]),
    JsonPattern::Capture(&[Key("service_tier")]),
    JsonPattern::Capture(&[Key("output"), Element, Key("type")]),
    JsonPattern::Capture(&[Key("output"), Element, Key("action"), Key("type")]),
    JsonPattern::Capture(&[Key("output"), Element, Key("container_id")]),
    JsonPattern::Capture(&[Key("tool_usage")]),
    JsonPattern::Capture(&[Key("tools"), Element, Key("model")]),
    JsonPattern::Text(&[Key("output"), Element, Key("content"), Element, Key("text")]),
    JsonPattern::Text(&[Key("output"), Element, Key("arguments")]),
];
