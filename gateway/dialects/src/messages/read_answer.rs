//! A provider's messages answer, plain or streamed, into events.

use crate::facts::FinishReason;
use crate::json::{self, Object, Path, Text};
use crate::neutral::{AnswerEvent, EventSink, ReasoningSignature, SignatureOrigin, ToolUse, emit};
use crate::{tier, usage};

/// Reads a complete body.
pub(crate) fn read_plain(body: &str, sink: &mut EventSink<'_>) -> json::Result<()> {
    let mut reader = MessagesReader::default();
    let mut message = Object::read(body, Path::ROOT)?;
    if let Some(error) = message.take("error") {
        sink(AnswerEvent::failed(error));
        return Ok(());
    }
    start(&mut message, sink);
    message.each_object("content", |mut block| {
        if let Some(index) = reader.begin_block(0, &mut block, sink) {
            let part = Text::plain(block.take("input").unwrap_or("{}"));
            sink(AnswerEvent::Arguments { index, part });
        } else if block.is_kind("thinking") {
            emit(sink, block.some_text("signature").map(signed));
        }
        Ok(())
    })?;
    reader.read_usage(&mut message, sink);
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
        sink(AnswerEvent::Finish {
            reason: stop_reason(reason.as_escaped().as_bytes()),
            stop_sequence: delta.lenient_text("stop_sequence"),
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

fn signed(value: Text<'_>) -> AnswerEvent<'_> {
    AnswerEvent::Signature(ReasoningSignature::plain(SignatureOrigin::Anthropic, value))
}

fn encrypted(value: Text<'_>) -> AnswerEvent<'_> {
    let signature = ReasoningSignature::encrypted(SignatureOrigin::Anthropic, value);
    AnswerEvent::Signature(signature)
}

/// Reads a stream, event by event.
#[derive(Debug, Default)]
pub(crate) struct MessagesReader {
    /// The tool calls, in the order in which they began.
    calls: Vec<CallBlock>,
    /// Counts so far. A later event adds to an earlier one's.
    counts: Box<usage::AnthropicCounts>,
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
                    self.read_usage(&mut message, sink);
                    Ok(())
                })?;
            }
            "content_block_start" => {
                let index = event.count("index")?.unwrap_or(0);
                self.start_block(index, event.object_or_empty("content_block")?, sink);
            }
            "content_block_delta" => {
                let index = event.count("index")?.unwrap_or(0);
                self.read_delta(index, event.object_or_empty("delta")?, sink);
            }
            "content_block_stop" => self.end_block(event.count("index")?.unwrap_or(0), sink),
            "message_delta" => {
                self.read_usage(&mut event, sink);
                finish(&mut event.object_or_empty("delta")?, sink);
            }
            "message_stop" => sink(AnswerEvent::End),
            "ping" => sink(AnswerEvent::Alive),
            "error" => sink(AnswerEvent::failed(event.take("error").unwrap_or("{}"))),
            _ => {}
        }
        Ok(())
    }

    fn read_usage(&mut self, object: &mut Object<'_, '_>, sink: &mut EventSink<'_>) {
        let Some(raw) = object.take("usage") else {
            return;
        };
        self.counts.read(raw.as_bytes());
        let usage = self.counts.usage();
        emit(sink, usage.as_ref().map(AnswerEvent::Usage));
        let others = self.counts.other_models();
        if !others.is_empty() {
            sink(AnswerEvent::OtherModels(others));
        }
        let word = |found: Option<&'_ [u8]>| -> Option<Text<'static>> {
            let word = str::from_utf8(found?).ok()?;
            Some(Text::escaped(word).into_owned())
        };
        let tier = word(tier::anthropic(raw.as_bytes()));
        emit(sink, tier.map(AnswerEvent::ServiceTier));
        let geo = word(tier::inference_geo(raw.as_bytes()));
        emit(sink, geo.map(AnswerEvent::InferenceGeo));
    }

    /// Reads a block, of which a stream sends only the beginning. Returns the index of a call.
    fn begin_block(
        &mut self,
        number: u64,
        block: &mut Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> Option<usize> {
        let kind = block.lenient_text("type").unwrap_or_default();
        match kind.as_escaped() {
            // Usually empty at the start of a stream, but not always.
            "text" => emit(sink, block.some_text("text").map(AnswerEvent::Text)),
            "thinking" => emit(
                sink,
                block.some_text("thinking").map(AnswerEvent::Reasoning),
            ),
            "redacted_thinking" => emit(sink, block.some_text("data").map(encrypted)),
            "tool_use" => {
                let index = self.calls.len();
                let (id, name) = (block.lenient_text("id"), block.lenient_text("name"));
                sink(AnswerEvent::ToolUse(ToolUse::new(index, id, name)));
                self.calls.push(CallBlock {
                    block: number,
                    has_arguments: false,
                });
                return Some(index);
            }
            _ => {}
        }
        None
    }

    fn start_block(&mut self, number: u64, mut block: Object<'_, '_>, sink: &mut EventSink<'_>) {
        // Arguments come later, but some servers send them at once.
        if let Some(index) = self.begin_block(number, &mut block, sink)
            && let Some(input) = block.take("input").filter(|raw| !is_empty_object(raw))
        {
            let part = Text::plain(input);
            sink(AnswerEvent::Arguments { index, part });
            self.calls[index].has_arguments = true;
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
            "text_delta" => emit(sink, delta.some_text("text").map(AnswerEvent::Text)),
            "thinking_delta" => emit(
                sink,
                delta.some_text("thinking").map(AnswerEvent::Reasoning),
            ),
            "signature_delta" => emit(sink, delta.some_text("signature").map(signed)),
            "input_json_delta" => {
                // Tools that run at Anthropic have arguments too, in blocks of other kinds.
                if let Some(part) = delta.some_text("partial_json")
                    && let Some((index, call)) = self.call_mut(block)
                {
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
