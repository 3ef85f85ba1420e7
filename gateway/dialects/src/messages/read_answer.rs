//! A provider's messages answer, plain or streamed, into events.

use crate::facts::FinishReason;
use crate::json::{self, Object, Path, Text};
use crate::neutral::{AnswerEvent, EventSink, ReasoningSignature, SignatureOrigin, ToolUse};
use crate::{tier, usage};

/// Reads a complete body.
pub(crate) fn read_plain(body: &str, sink: &mut EventSink<'_>) -> json::Result<()> {
    let mut message = Object::read(body, Path::ROOT)?;
    if let Some(error) = message.take("error") {
        sink(AnswerEvent::failed(error));
        return Ok(());
    }
    start(&mut message, sink);
    let mut calls = 0;
    message.each_object("content", |block| {
        read_block(block, &mut calls, sink);
        Ok(())
    })?;
    if let Some(raw) = message.take("usage") {
        read_usage(raw, &mut usage::AnthropicCounts::default(), sink);
    }
    finish(&mut message, sink);
    sink(AnswerEvent::End);
    Ok(())
}

fn start(message: &mut Object<'_, '_>, sink: &mut EventSink<'_>) {
    let (id, model) = (message.lenient_text("id"), message.lenient_text("model"));
    sink(AnswerEvent::Start { id, model });
}

fn finish(delta: &mut Object<'_, '_>, sink: &mut EventSink<'_>) {
    if let Some(reason) = delta.lenient_text("stop_reason") {
        let reason = stop_reason(reason.as_escaped().as_bytes());
        let stop_sequence = delta.lenient_text("stop_sequence");
        sink(AnswerEvent::Finish {
            reason,
            stop_sequence,
        });
    }
}

/// Anthropic's stop reasons.
pub(crate) const fn stop_reason(word: &[u8]) -> FinishReason {
    match word {
        b"end_turn" | b"stop_sequence" => FinishReason::Stop,
        b"max_tokens" | b"model_context_window_exceeded" => FinishReason::Length,
        b"tool_use" => FinishReason::ToolCalls,
        b"refusal" => FinishReason::Refusal,
        b"pause_turn" => FinishReason::Pause,
        _ => FinishReason::Other,
    }
}

/// Reads a whole block of a plain answer.
fn read_block(mut block: Object<'_, '_>, calls: &mut usize, sink: &mut EventSink<'_>) {
    let kind = block.lenient_text("type").unwrap_or_default();
    match kind.as_escaped() {
        "text" => emit_some(&mut block, "text", AnswerEvent::Text, sink),
        "thinking" => {
            emit_some(&mut block, "thinking", AnswerEvent::Reasoning, sink);
            emit_some(&mut block, "signature", signed, sink);
        }
        "redacted_thinking" => emit_some(&mut block, "data", encrypted, sink),
        "tool_use" => {
            let index = *calls;
            *calls += 1;
            begin_call(&mut block, index, sink);
            let part = Text::plain(block.take("input").unwrap_or("{}"));
            sink(AnswerEvent::Arguments { index, part });
        }
        _ => {}
    }
}

fn begin_call(block: &mut Object<'_, '_>, index: usize, sink: &mut EventSink<'_>) {
    let (id, name) = (block.lenient_text("id"), block.lenient_text("name"));
    let call = ToolUse::new(index, id, name.unwrap_or_default());
    sink(AnswerEvent::ToolUse(call));
}

fn signed(value: Text<'_>) -> AnswerEvent<'_> {
    AnswerEvent::Signature(ReasoningSignature::plain(SignatureOrigin::Anthropic, value))
}

fn encrypted(value: Text<'_>) -> AnswerEvent<'_> {
    let signature = ReasoningSignature::encrypted(SignatureOrigin::Anthropic, value);
    AnswerEvent::Signature(signature)
}

/// Emits a field's text as an event, unless it is absent or empty.
fn emit_some<'a>(
    object: &mut Object<'a, '_>,
    key: &str,
    event: impl FnOnce(Text<'a>) -> AnswerEvent<'a>,
    sink: &mut EventSink<'_>,
) {
    if let Some(text) = object.lenient_text(key).filter(|text| !text.is_empty()) {
        sink(event(text));
    }
}

fn read_usage(raw: &str, counts: &mut usage::AnthropicCounts, sink: &mut EventSink<'_>) {
    counts.read(raw.as_bytes());
    if let Some(usage) = counts.usage() {
        sink(AnswerEvent::Usage(usage));
    }
    if let Some(word) = tier::anthropic(raw.as_bytes()).and_then(|word| str::from_utf8(word).ok()) {
        sink(AnswerEvent::ServiceTier(Text::escaped(word)));
    }
}

/// Reads a stream, event by event.
#[derive(Debug, Default)]
pub(crate) struct MessagesReader {
    /// The tool calls, in the order in which they began.
    calls: Vec<CallBlock>,
    /// Counts so far. A later event adds to an earlier one's.
    counts: usage::AnthropicCounts,
}

#[derive(Debug)]
struct CallBlock {
    /// The provider's index of its block.
    block: u64,
    has_arguments: bool,
}

impl MessagesReader {
    /// Reads the data of one event, which is known to be valid JSON.
    pub(crate) fn read(&mut self, data: &str, sink: &mut EventSink<'_>) -> json::Result<()> {
        let mut event = Object::read(data, Path::ROOT)?;
        let kind = event.lenient_text("type").unwrap_or_default();
        match kind.as_escaped() {
            "message_start" => {
                event.object("message", |mut message| {
                    start(&mut message, sink);
                    if let Some(raw) = message.take("usage") {
                        read_usage(raw, &mut self.counts, sink);
                    }
                    Ok(())
                })?;
            }
            "content_block_start" => {
                let index = event.count("index")?.unwrap_or(0);
                event.object("content_block", |block| {
                    self.start_block(index, block, sink);
                    Ok(())
                })?;
            }
            "content_block_delta" => {
                let index = event.count("index")?.unwrap_or(0);
                event.object("delta", |delta| {
                    self.read_delta(index, delta, sink);
                    Ok(())
                })?;
            }
            "content_block_stop" => self.end_block(event.count("index")?.unwrap_or(0), sink),
            "message_delta" => {
                if let Some(raw) = event.take("usage") {
                    read_usage(raw, &mut self.counts, sink);
                }
                event.object("delta", |mut delta| {
                    finish(&mut delta, sink);
                    Ok(())
                })?;
            }
            "message_stop" => sink(AnswerEvent::End),
            "ping" => sink(AnswerEvent::Alive),
            "error" => sink(AnswerEvent::failed(event.take("error").unwrap_or("{}"))),
            _ => {}
        }
        Ok(())
    }

    fn start_block(&mut self, index: u64, mut block: Object<'_, '_>, sink: &mut EventSink<'_>) {
        let kind = block.lenient_text("type").unwrap_or_default();
        match kind.as_escaped() {
            // Usually empty at the start, but not always.
            "text" => emit_some(&mut block, "text", AnswerEvent::Text, sink),
            "thinking" => emit_some(&mut block, "thinking", AnswerEvent::Reasoning, sink),
            "redacted_thinking" => emit_some(&mut block, "data", encrypted, sink),
            "tool_use" => {
                let call = self.calls.len();
                begin_call(&mut block, call, sink);
                // Arguments come later, but some servers send them at once.
                let input = block.take("input").filter(|raw| !is_empty_object(raw));
                if let Some(part) = input.map(Text::plain) {
                    sink(AnswerEvent::Arguments { index: call, part });
                }
                self.calls.push(CallBlock {
                    block: index,
                    has_arguments: input.is_some(),
                });
            }
            _ => {}
        }
    }

    /// The call of a block, and its index among the calls.
    fn call_mut(&mut self, block: u64) -> Option<(usize, &mut CallBlock)> {
        let mut calls = self.calls.iter_mut().enumerate();
        calls.find(|(_, call)| call.block == block)
    }

    /// Ends a call that got no arguments with an empty object.
    fn end_block(&mut self, block: u64, sink: &mut EventSink<'_>) {
        if let Some((index, call)) = self.call_mut(block)
            && !std::mem::replace(&mut call.has_arguments, true)
        {
            let part = Text::escaped("{}");
            sink(AnswerEvent::Arguments { index, part });
        }
    }

    fn read_delta(&mut self, block: u64, mut delta: Object<'_, '_>, sink: &mut EventSink<'_>) {
        let kind = delta.lenient_text("type").unwrap_or_default();
        match kind.as_escaped() {
            "text_delta" => emit_some(&mut delta, "text", AnswerEvent::Text, sink),
            "thinking_delta" => emit_some(&mut delta, "thinking", AnswerEvent::Reasoning, sink),
            "signature_delta" => emit_some(&mut delta, "signature", signed, sink),
            "input_json_delta" => {
                // Tools that run at Anthropic have arguments too, in blocks of other kinds.
                let part = delta.lenient_text("partial_json").unwrap_or_default();
                if let (Some((index, call)), false) = (self.call_mut(block), part.is_empty()) {
                    call.has_arguments = true;
                    sink(AnswerEvent::Arguments { index, part });
                }
            }
            _ => {}
        }
    }
}

fn is_empty_object(raw: &str) -> bool {
    raw.bytes()
        .all(|byte| matches!(byte, b'{' | b'}' | b' ' | b'\n' | b'\r' | b'\t'))
}
