//! A provider's messages answer, plain or streamed, into events.

use crate::chat::lenient_text;
use crate::json::{Invalid, Object, Path, Text};
use crate::neutral::{Event, Origin, Proof};
use crate::response::FinishReason;
use crate::upstream_error::UpstreamErrorFacts;
use crate::{tier, usage};

/// Reads a complete body.
pub(crate) fn read_plain(body: &str, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Invalid> {
    let mut message = Object::read(body, Path::ROOT)?;
    if let Some(error) = message.take("error") {
        sink(Event::Failed(UpstreamErrorFacts::in_stream(
            error.as_bytes(),
        )));
        return Ok(());
    }
    start(&mut message, sink);
    let mut calls = 0;
    message.each("content", |raw, path| {
        read_block(Object::read(raw, *path)?, &mut calls, sink);
        Ok::<_, Invalid>(())
    })?;
    if let Some(raw) = message.take("usage") {
        read_usage(raw, &mut usage::AnthropicCounts::default(), sink);
    }
    finish(&mut message, sink);
    sink(Event::End);
    Ok(())
}

fn start(message: &mut Object<'_, '_>, sink: &mut dyn FnMut(Event<'_>)) {
    let (id, model) = (lenient_text(message, "id"), lenient_text(message, "model"));
    sink(Event::Start { id, model });
}

fn finish(delta: &mut Object<'_, '_>, sink: &mut dyn FnMut(Event<'_>)) {
    if let Some(reason) = lenient_text(delta, "stop_reason") {
        let reason = stop_reason(reason.as_escaped().as_bytes());
        let stop_sequence = lenient_text(delta, "stop_sequence");
        sink(Event::Finish {
            reason,
            stop_sequence,
        });
    }
}

/// Anthropic's words for why the model stopped.
pub(crate) fn stop_reason(word: &[u8]) -> FinishReason {
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
fn read_block(mut block: Object<'_, '_>, calls: &mut usize, sink: &mut dyn FnMut(Event<'_>)) {
    let kind = lenient_text(&mut block, "type").unwrap_or_default();
    match kind.as_escaped() {
        "text" => emit_some(&mut block, "text", Event::Text, sink),
        "thinking" => {
            emit_some(&mut block, "thinking", Event::Reasoning, sink);
            emit_some(&mut block, "signature", signed, sink);
        }
        "redacted_thinking" => emit_some(&mut block, "data", encrypted, sink),
        "tool_use" => {
            let index = *calls;
            *calls += 1;
            let id = lenient_text(&mut block, "id");
            let name = lenient_text(&mut block, "name").unwrap_or_default();
            sink(Event::ToolCall {
                index,
                id,
                name,
                proof: None,
            });
            let part = Text::plain(block.take("input").unwrap_or("{}"));
            sink(Event::Arguments { index, part });
        }
        _ => {}
    }
}

fn signed(value: Text<'_>) -> Event<'_> {
    Event::Proof(Proof::signature(Origin::Anthropic, value))
}

fn encrypted(value: Text<'_>) -> Event<'_> {
    Event::Proof(Proof::encrypted(Origin::Anthropic, value))
}

/// Emits a field's text as an event, unless it is absent or empty.
fn emit_some<'a>(
    object: &mut Object<'a, '_>,
    key: &str,
    event: impl FnOnce(Text<'a>) -> Event<'a>,
    sink: &mut dyn FnMut(Event<'_>),
) {
    if let Some(text) = lenient_text(object, key).filter(|text| !text.is_empty()) {
        sink(event(text));
    }
}

fn read_usage(raw: &str, counts: &mut usage::AnthropicCounts, sink: &mut dyn FnMut(Event<'_>)) {
    counts.read(raw.as_bytes());
    if let Some(usage) = counts.usage() {
        sink(Event::Usage(usage));
    }
    if let Some(word) = tier::anthropic(raw.as_bytes()).and_then(|word| str::from_utf8(word).ok()) {
        sink(Event::ServiceTier(Text::escaped(word)));
    }
}

/// Reads a stream, event by event.
#[derive(Debug, Default)]
pub(crate) struct StreamReader {
    /// The tool calls, in the order in which they began.
    calls: Vec<Call>,
    /// Counts so far: a later event adds to an earlier one's.
    counts: usage::AnthropicCounts,
}

#[derive(Debug)]
struct Call {
    /// The provider's index of its block.
    block: u64,
    has_arguments: bool,
}

impl StreamReader {
    /// Reads the data of one event, which is known to be valid JSON.
    pub(crate) fn read(
        &mut self,
        data: &str,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Invalid> {
        let mut event = Object::read(data, Path::ROOT)?;
        let kind = lenient_text(&mut event, "type").unwrap_or_default();
        match kind.as_escaped() {
            "message_start" => {
                event.object("message", |mut message| {
                    start(&mut message, sink);
                    if let Some(raw) = message.take("usage") {
                        read_usage(raw, &mut self.counts, sink);
                    }
                    Ok::<_, Invalid>(())
                })?;
            }
            "content_block_start" => {
                let index = event.count("index")?.unwrap_or(0);
                event.object("content_block", |block| {
                    self.start_block(index, block, sink);
                    Ok::<_, Invalid>(())
                })?;
            }
            "content_block_delta" => {
                let index = event.count("index")?.unwrap_or(0);
                event.object("delta", |delta| {
                    self.read_delta(index, delta, sink);
                    Ok::<_, Invalid>(())
                })?;
            }
            "content_block_stop" => {
                let index = event.count("index")?.unwrap_or(0);
                self.end_block(index, sink);
            }
            "message_delta" => {
                if let Some(raw) = event.take("usage") {
                    read_usage(raw, &mut self.counts, sink);
                }
                event.object("delta", |mut delta| {
                    finish(&mut delta, sink);
                    Ok::<_, Invalid>(())
                })?;
            }
            "message_stop" => sink(Event::End),
            "ping" => sink(Event::Alive),
            "error" => {
                let error = event.take("error").unwrap_or("{}");
                sink(Event::Failed(UpstreamErrorFacts::in_stream(
                    error.as_bytes(),
                )));
            }
            _ => {}
        }
        Ok(())
    }

    fn start_block(
        &mut self,
        block_index: u64,
        mut block: Object<'_, '_>,
        sink: &mut dyn FnMut(Event<'_>),
    ) {
        let kind = lenient_text(&mut block, "type").unwrap_or_default();
        match kind.as_escaped() {
            // What is there at the start is empty, but need not be.
            "text" => emit_some(&mut block, "text", Event::Text, sink),
            "thinking" => emit_some(&mut block, "thinking", Event::Reasoning, sink),
            "redacted_thinking" => emit_some(&mut block, "data", encrypted, sink),
            "tool_use" => {
                let index = self.calls.len();
                let id = lenient_text(&mut block, "id");
                let name = lenient_text(&mut block, "name").unwrap_or_default();
                sink(Event::ToolCall {
                    index,
                    id,
                    name,
                    proof: None,
                });
                // Arguments come later, but some servers send them at once.
                let input = block.take("input").filter(|raw| !is_empty_object(raw));
                if let Some(raw) = input {
                    sink(Event::Arguments {
                        index,
                        part: Text::plain(raw),
                    });
                }
                self.calls.push(Call {
                    block: block_index,
                    has_arguments: input.is_some(),
                });
            }
            _ => {}
        }
    }

    /// A call without arguments is a call with none.
    fn end_block(&mut self, block: u64, sink: &mut dyn FnMut(Event<'_>)) {
        let found = self
            .calls
            .iter_mut()
            .enumerate()
            .find(|(_, call)| call.block == block);
        if let Some((index, call)) = found
            && !std::mem::replace(&mut call.has_arguments, true)
        {
            sink(Event::Arguments {
                index,
                part: Text::escaped("{}"),
            });
        }
    }

    fn read_delta(
        &mut self,
        block: u64,
        mut delta: Object<'_, '_>,
        sink: &mut dyn FnMut(Event<'_>),
    ) {
        let kind = lenient_text(&mut delta, "type").unwrap_or_default();
        match kind.as_escaped() {
            "text_delta" => emit_some(&mut delta, "text", Event::Text, sink),
            "thinking_delta" => emit_some(&mut delta, "thinking", Event::Reasoning, sink),
            "signature_delta" => emit_some(&mut delta, "signature", signed, sink),
            "input_json_delta" => {
                // Blocks of other kinds have arguments too: of tools that run at Anthropic.
                let part = lenient_text(&mut delta, "partial_json").unwrap_or_default();
                let found = self
                    .calls
                    .iter_mut()
                    .enumerate()
                    .find(|(_, call)| call.block == block);
                if let (Some((index, call)), false) = (found, part.is_empty()) {
                    call.has_arguments = true;
                    sink(Event::Arguments { index, part });
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
