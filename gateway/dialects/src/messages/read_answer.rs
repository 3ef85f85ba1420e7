//! A provider's messages answer, plain or streamed, into events.

use crate::facts::FinishReason;
use crate::json::{self, Object, Path, Text};
use crate::neutral::{
    AnswerEvent, Citation, CitedText, EventSink, ReasoningSignature, SignatureOrigin, ToolUse, emit,
};
use crate::{caps, tier, usage};

/// Reads a complete body.
pub(crate) fn read_plain(body: &str, sink: &mut EventSink<'_>) -> json::Result<()> {
    let mut reader = MessagesReader::default();
    let mut message = Object::read(body, Path::ROOT)?;
    if let Some(error) = message.error() {
        sink(AnswerEvent::failed(error));
        return Ok(());
    }
    message.require("content")?;
    reader.read_message(&mut message, sink)?;
    finish(&mut message, sink);
    sink(AnswerEvent::End);
    Ok(())
}

fn start(message: &mut Object<'_, '_>, sink: &mut EventSink<'_>) {
    let (id, model) = (message.lenient_text("id"), message.lenient_text("model"));
    sink(AnswerEvent::Start { id, model });
}

fn finish(delta: &mut Object<'_, '_>, sink: &mut EventSink<'_>) {
    let details = delta.object_or_empty("stop_details");
    let explained = details
        .ok()
        .and_then(|mut why| why.some_text("explanation"));
    emit(sink, explained.map(AnswerEvent::Explanation));
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
    /// Sources of the block of text that is open, and its characters so far.
    citations: Vec<Citation<'static>>,
    cited_chars: u64,
    started: bool,
    /// The tool calls, in the order in which they began.
    calls: Vec<CallBlock>,
    held_bytes: usize,
    /// Counts so far. A later event adds to an earlier one's.
    counts: Box<usage::AnthropicCounts>,
}

#[derive(Debug)]
struct CallBlock {
    /// The provider's index of its block.
    block: u64,
    /// Arguments that stand at the start of the block, in case that no others come.
    initial: Text<'static>,
    has_arguments: bool,
    is_over: bool,
}

impl MessagesReader {
    /// Bytes that are held until it is known whether they count.
    pub(crate) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Reads the data of one event, which is known to be valid JSON. `name` is what the stream calls
    /// it.
    pub(crate) fn read(
        &mut self,
        name: &str,
        data: &str,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        let mut event = Object::read(data, Path::ROOT)?;
        let kind = event.lenient_text("type");
        match kind.as_ref().map_or(name, Text::as_escaped) {
            "message_start" => {
                event.object("message", |mut message| {
                    if self.started {
                        // One that is spliced into a stream says nothing of the answer.
                        self.read_usage(&mut message, sink);
                        return Ok(());
                    }
                    self.read_message(&mut message, sink)
                })?;
            }
            "content_block_start" => {
                let index = event.count("index")?.unwrap_or(0);
                self.start_block(index, event.object_or_empty("content_block")?, sink)?;
            }
            "content_block_delta" => {
                let index = event.count("index")?.unwrap_or(0);
                self.read_delta(index, event.object_or_empty("delta")?, sink);
            }
            "content_block_stop" => {
                let block = event.count("index")?.unwrap_or(0);
                if let Some((index, _)) = self.call_mut(block) {
                    self.end_call(index, sink);
                }
                self.end_text(sink);
            }
            "message_delta" => {
                let mut delta = event.object_or_empty("delta")?;
                self.read_container(&mut delta);
                self.read_usage(&mut event, sink);
                finish(&mut event.object_or_empty("delta")?, sink);
            }
            "message_stop" => {
                self.read_usage(&mut event, sink);
                self.end(sink);
                sink(AnswerEvent::End);
            }
            "ping" => sink(AnswerEvent::Alive),
            kind => match event.error() {
                Some(error) => sink(AnswerEvent::failed(error)),
                None if kind == "error" => sink(AnswerEvent::failed_event(data.as_bytes())),
                None => {}
            },
        }
        Ok(())
    }

    /// Nothing more comes.
    pub(crate) fn end(&mut self, sink: &mut EventSink<'_>) {
        for index in 0..self.calls.len() {
            self.end_call(index, sink);
        }
    }

    /// Reads a message: a whole one, or the beginning of one, which may have blocks too.
    fn read_message(
        &mut self,
        message: &mut Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        self.started = true;
        start(message, sink);
        let mut number = 0;
        message.each_object("content", |mut block| {
            let is_thinking = block.is_kind("thinking");
            if let Some(index) = self.begin_block(number, &mut block, sink)? {
                self.end_call(index, sink);
            } else if is_thinking {
                emit(sink, block.some_text("signature").map(signed));
            }
            number += 1;
            Ok(())
        })?;
        self.read_container(message);
        self.read_usage(message, sink);
        Ok(())
    }

    fn read_container(&mut self, object: &mut Object<'_, '_>) {
        if let Some(raw) = object.take("container") {
            self.counts.read_container(raw.as_bytes());
        }
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
    ) -> json::Result<Option<usize>> {
        let kind = block.lenient_text("type").unwrap_or_default();
        match kind.as_escaped() {
            // Usually empty at the start of a stream, but not always.
            "text" => {
                let text = block.some_text("text");
                self.cited_chars = text.as_ref().map_or(0, Text::char_count);
                emit(sink, text.map(AnswerEvent::Text));
                let last = CitedText::Last(self.cited_chars);
                if block.starts_with("citations", '[') {
                    block.each_object("citations", |citation| {
                        sink(read_citation(citation, last));
                        Ok(())
                    })?;
                }
            }
            "thinking" => emit(
                sink,
                block.some_text("thinking").map(AnswerEvent::Reasoning),
            ),
            "redacted_thinking" => emit(sink, block.some_text("data").map(encrypted)),
            "tool_use" => return self.begin_call(number, block, sink).map(Some),
            kind => sink(AnswerEvent::Lost(lost_block(kind))),
        }
        Ok(None)
    }

    fn begin_call(
        &mut self,
        number: u64,
        block: &mut Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> json::Result<usize> {
        let index = self.calls.len();
        if index >= caps::CALLS_MAX {
            return Err(block.invalid("content", "has too many calls"));
        }
        let (id, name) = (block.lenient_text("id"), block.lenient_text("name"));
        sink(AnswerEvent::ToolUse(ToolUse::new(index, id, name)));
        // Arguments come later, but some servers send them at once, and others both.
        let input = block.take("input").filter(|raw| !is_empty_object(raw));
        let initial = Text::plain(input.unwrap_or_default()).into_owned();
        self.held_bytes += initial.len();
        self.calls.push(CallBlock {
            block: number,
            initial,
            has_arguments: false,
            is_over: false,
        });
        Ok(index)
    }

    fn start_block(
        &mut self,
        number: u64,
        mut block: Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        // A number that is used again is another block's.
        if let Some((index, _)) = self.call_mut(number) {
            self.end_call(index, sink);
        }
        self.begin_block(number, &mut block, sink).map(drop)
    }

    /// The text that a block's citations are for is whole.
    fn end_text(&mut self, sink: &mut EventSink<'_>) {
        let of = CitedText::Last(std::mem::take(&mut self.cited_chars));
        for citation in std::mem::take(&mut self.citations) {
            sink(AnswerEvent::Citation(Citation { of, ..citation }));
        }
    }

    /// The call of a block, and its index among the calls.
    fn call_mut(&mut self, block: u64) -> Option<(usize, &mut CallBlock)> {
        let mut calls = self.calls.iter_mut().enumerate();
        calls.rfind(|(_, call)| call.block == block && !call.is_over)
    }

    /// Ends a call. One that got no arguments has those of its start, or an empty object.
    fn end_call(&mut self, index: usize, sink: &mut EventSink<'_>) {
        let call = &mut self.calls[index];
        if std::mem::replace(&mut call.is_over, true) {
            return;
        }
        let initial = std::mem::take(&mut call.initial);
        self.held_bytes = self.held_bytes.saturating_sub(initial.len());
        if !call.has_arguments {
            let part = Some(initial).filter(|initial| !initial.is_empty());
            let part = part.unwrap_or(Text::escaped("{}"));
            sink(AnswerEvent::Arguments { index, part });
        }
        sink(AnswerEvent::CallEnd { index });
    }

    fn read_delta(&mut self, block: u64, mut delta: Object<'_, '_>, sink: &mut EventSink<'_>) {
        let kind = delta.lenient_text("type").unwrap_or_default();
        match kind.as_escaped() {
            "text_delta" => {
                let text = delta.some_text("text");
                self.cited_chars += text.as_ref().map_or(0, Text::char_count);
                emit(sink, text.map(AnswerEvent::Text));
            }
            "citations_delta" => {
                if let Ok(citation) = delta.object_or_empty("citation") {
                    match read_citation(citation, CitedText::All) {
                        // Its text may go on.
                        AnswerEvent::Citation(citation) => self.citations.push(citation.to_owned()),
                        lost => sink(lost),
                    }
                }
            }
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

/// The name of a block that other dialects have no place for.
fn lost_block(kind: &str) -> &'static str {
    let known = BLOCKS_OF_TOOLS.iter().find(|known| **known == kind);
    known.copied().unwrap_or("content")
}

/// What tools that run at Anthropic add to an answer.
const BLOCKS_OF_TOOLS: &[&str] = &[
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "mcp_tool_use",
    "mcp_tool_result",
    "container_upload",
    "compaction",
];

/// A source with an address. Documents of the request have none.
fn read_citation<'a>(mut citation: Object<'a, '_>, of: CitedText) -> AnswerEvent<'a> {
    let key = if citation.is_kind("search_result_location") {
        "source"
    } else {
        "url"
    };
    let url = citation.some_text(key);
    match url.filter(|url| url.as_escaped().contains("://")) {
        None => AnswerEvent::Lost("citations"),
        Some(url) => AnswerEvent::Citation(Citation {
            quote: citation.some_text("cited_text").unwrap_or_default(),
            of,
            ..Citation::of_all(url, citation.some_text("title"))
        }),
    }
}

fn is_empty_object(raw: &str) -> bool {
    raw.bytes()
        .all(|byte| matches!(byte, b'{' | b'}' | b' ' | b'\n' | b'\r' | b'\t'))
}
