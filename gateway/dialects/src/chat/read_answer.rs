//! A provider's chat answer, plain or streamed, into events.
//!
//! Vendors differ in where they put reasoning, usage and errors. All documented places are read, and
//! unknown fields are skipped.

use crate::facts::FinishReason;
use crate::json::{self, Object, Path, Text, text_of};
use crate::neutral::{AnswerEvent, EventSink, ReasoningSignature, SignatureOrigin, ToolUse, emit};
use crate::{tier, usage};

/// Reads a complete body.
pub(crate) fn read_plain(body: &str, sink: &mut EventSink<'_>) -> json::Result<()> {
    ChatReader::default().read_object(body, "message", sink)?;
    sink(AnswerEvent::End);
    Ok(())
}

/// Reads a stream, chunk by chunk.
#[derive(Debug, Default)]
pub(crate) struct ChatReader {
    started: bool,
    /// The tool calls, in the order in which they began.
    calls: Vec<CallKey>,
    usage: usage::MergedUsage,
}

/// How a provider identifies a call: by index, or without one, by id. Some number all calls 0, so
/// that only a new id with a name beside it begins a new one.
#[derive(Debug)]
struct CallKey {
    number: Option<u64>,
    id: Option<String>,
}

impl ChatReader {
    /// Reads the data of one event, which is known to be valid JSON or `[DONE]`.
    pub(crate) fn read(&mut self, data: &str, sink: &mut EventSink<'_>) -> json::Result<()> {
        if data == "[DONE]" {
            sink(AnswerEvent::End);
            return Ok(());
        }
        self.read_object(data, "delta", sink)
    }

    /// Reads a chunk, whose choices hold a `delta`, or a body, whose choices hold a `message`.
    fn read_object(
        &mut self,
        data: &str,
        content: &str,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        let mut chunk = Object::read(data, Path::ROOT)?;
        if let Some(error) = chunk.take("error") {
            sink(AnswerEvent::failed(error));
            return Ok(());
        }
        if !self.started {
            let (id, model) = (chunk.lenient_text("id"), chunk.lenient_text("model"));
            // Azure's first chunk is about the prompt and has empty names.
            let is_named = id.as_ref().is_some_and(|id| !id.is_empty());
            if is_named || chunk.take("choices").is_some_and(|choices| choices != "[]") {
                self.started = true;
                sink(AnswerEvent::Start { id, model });
            }
        }
        chunk.each_object("choices", |choice| self.read_choice(choice, content, sink))?;
        self.read_usage(&mut chunk, sink);
        let tier = chunk.lenient_text("service_tier");
        emit(sink, tier.map(AnswerEvent::ServiceTier));
        self.read_usage(&mut chunk.object_or_empty("x_groq")?, sink);
        Ok(())
    }

    fn read_choice(
        &mut self,
        mut choice: Object<'_, '_>,
        content: &str,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        // The request asked for one answer.
        if choice.take("index").is_some_and(|index| index != "0") {
            return Ok(());
        }
        self.read_message(choice.object_or_empty(content)?, sink)?;
        // Moonshot puts usage here.
        self.read_usage(&mut choice, sink);
        if let Some(reason) = choice.lenient_text("finish_reason") {
            sink(match finish_reason(reason.as_escaped().as_bytes()) {
                FinishReason::Error => AnswerEvent::failed(choice.take("error").unwrap_or("{}")),
                reason => AnswerEvent::finish(reason),
            });
        }
        Ok(())
    }

    fn read_usage(&mut self, object: &mut Object<'_, '_>, sink: &mut EventSink<'_>) {
        let Some(raw) = object.take("usage") else {
            return;
        };
        if let Some(said) = usage::openai(raw.as_bytes()) {
            sink(AnswerEvent::Usage(&self.usage.add(&said)));
        }
        let tier = tier::in_usage(raw.as_bytes()).and_then(|word| str::from_utf8(word).ok());
        emit(
            sink,
            tier.map(|word| AnswerEvent::ServiceTier(Text::escaped(word))),
        );
    }

    fn read_message(
        &mut self,
        mut message: Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        // DeepSeek, Qwen and others say `reasoning_content`; OpenRouter, Groq and newer vLLM say
        // `reasoning`.
        let reasoning = match message.lenient_text("reasoning_content") {
            None => message.lenient_text("reasoning"),
            text => text,
        };
        let reasoning = reasoning.filter(|text| !text.is_empty());
        emit(sink, reasoning.map(AnswerEvent::Reasoning));
        read_content(&mut message, sink)?;
        let refusal = message.lenient_text("refusal");
        emit(sink, refusal.map(AnswerEvent::Refusal));
        message.each_object("tool_calls", |call| self.read_call(call, sink))
    }

    /// Reads a call, or a piece of one.
    fn read_call(
        &mut self,
        mut call: Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        let id = call.lenient_text("id");
        let number = call.count("index").unwrap_or_default();
        let signature = call.object("extra_content", |mut extra| {
            extra.object("google", |mut google| google.text("thought_signature"))
        });
        let signature = signature.ok().flatten().flatten().flatten();
        let sign = |value| ReasoningSignature::plain(SignatureOrigin::Gemini, value);
        call.object("function", |mut function| {
            let name = function.lenient_text("name");
            let is_named = name.as_ref().is_some_and(|name| !name.is_empty());
            let known = self.known(number, id.as_ref(), is_named);
            let index = known.unwrap_or(self.calls.len());
            if known.is_none() {
                self.calls.push(CallKey {
                    number,
                    id: id.as_ref().map(|id| id.as_escaped().to_owned()),
                });
                sink(AnswerEvent::ToolUse(ToolUse {
                    signature: signature.map(sign),
                    ..ToolUse::new(index, id, name)
                }));
            }
            // Some servers send the object itself.
            let arguments = function.take("arguments");
            let part = arguments.map(|raw| text_of(raw).unwrap_or_else(|| Text::plain(raw)));
            let part = part.filter(|part| !part.is_empty());
            emit(
                sink,
                part.map(|part| AnswerEvent::Arguments { index, part }),
            );
            Ok(())
        })?;
        Ok(())
    }

    /// The call that a piece belongs to. Without an index, a new id begins a call, and a missing id
    /// continues the last one.
    fn known(&self, number: Option<u64>, id: Option<&Text<'_>>, is_named: bool) -> Option<usize> {
        let id = id.map(Text::as_escaped).filter(|id| !id.is_empty());
        let has_id = |call: &CallKey| call.id.as_deref() == id;
        match (number, id) {
            (Some(_), id) => {
                let same = |call: &CallKey| call.number == number;
                let last = self.calls.iter().rposition(same)?;
                let is_other = is_named && id.is_some() && !has_id(&self.calls[last]);
                (!is_other).then_some(last)
            }
            (None, Some(_)) => self.calls.iter().position(has_id),
            (None, None) => self.calls.len().checked_sub(1),
        }
    }
}

/// Content: a string, or parts as Mistral's reasoning models send them.
fn read_content(message: &mut Object<'_, '_>, sink: &mut EventSink<'_>) -> json::Result<()> {
    if !message.starts_with("content", '[') {
        emit(sink, message.some_text("content").map(AnswerEvent::Text));
        return Ok(());
    }
    message.each_object("content", |mut part| {
        emit(sink, part.lenient_text("text").map(AnswerEvent::Text));
        if !part.starts_with("thinking", '[') {
            return Ok(());
        }
        part.each_object("thinking", |mut thought| {
            emit(
                sink,
                thought.lenient_text("text").map(AnswerEvent::Reasoning),
            );
            Ok(())
        })
    })
}

/// The finish reasons of chat completions and its relatives.
pub(crate) const fn finish_reason(word: &[u8]) -> FinishReason {
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
