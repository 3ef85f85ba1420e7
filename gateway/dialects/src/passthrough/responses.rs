//! Facts of OpenAI responses that pass through.

use super::{name, read_error};
use crate::facts::{FinishReason, ResponseFacts};
use crate::json::PatternStep::{Element, Key};
use crate::json::{JsonCursor, JsonPattern};
use crate::usage::{MergedUsage, ToolCalls};
use crate::{tier, usage};

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

/// Reads the data of one event.
pub(super) fn read_event(data: &[u8], usage: &mut ResponsesUsage, facts: &mut ResponseFacts) {
    let mut is_error = false;
    let (mut is_done, mut item) = (false, None);
    let _ = JsonCursor::new(data).object(|key, cursor| {
        match key {
            b"type" => match cursor.string_or_skip()? {
                Some(b"response.completed" | b"response.incomplete" | b"response.failed") => {
                    facts.terminal_seen = true;
                }
                Some(b"response.output_item.done") => is_done = true,
                Some(b"error") => is_error = true,
                _ => {}
            },
            // Text, refusals, reasoning and arguments all come in a `delta`.
            b"delta" => {
                facts.add_text(cursor.string_or_skip()?.unwrap_or_default());
            }
            b"item" => item = Some(cursor.value()?),
            b"response" => read_response(cursor, usage, facts)?,
            b"error" => read_error(cursor, facts)?,
            _ => cursor.skip()?,
        }
        Some(())
    });
    if let Some(item) = item.filter(|_| is_done) {
        usage.tools.add_item(item);
        usage.add_to_facts(None, facts);
    }
    if is_error && facts.provider_error.is_none() {
        // The event is the error itself.
        let _ = read_error(&mut JsonCursor::new(data), facts);
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
