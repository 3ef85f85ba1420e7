//! A provider's chat answer, plain or streamed, into events.
//!
//! Vendors differ in where they put reasoning, usage and errors. All documented places are read, and
//! unknown fields are skipped.

use super::read_calls::ChatCalls;
use super::reasoning_details::DetailsReader;
use crate::facts::FinishReason;
use crate::json::{self, InvalidField, Object, Path, Text, text_of};
use crate::neutral::{AnswerEvent, Citation, CitedText, EventSink, emit};
use crate::{tier, usage};

/// Reads a complete body.
pub(crate) fn read_plain(body: &str, sink: &mut EventSink<'_>) -> json::Result<()> {
    let mut reader = ChatReader::default();
    reader.read_object(body, sink)?;
    if !reader.has_choices {
        return Err(InvalidField::new("choices", "is missing or empty"));
    }
    reader.end(sink)?;
    sink(AnswerEvent::End);
    Ok(())
}

/// Reads a stream, chunk by chunk.
#[derive(Debug, Default)]
pub(crate) struct ChatReader {
    /// Sources of the whole answer that were passed on.
    sources: usize,
    started: bool,
    /// There was a choice, or an error in the place of one.
    has_choices: bool,
    calls: ChatCalls,
    usage: usage::MergedUsage,
    details: DetailsReader,
    /// What there was of the answer. A whole message at the end of a stream only adds what is missing.
    had: MessageParts,
    /// The provider said that it stopped, and not why.
    has_blank_reason: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct MessageParts {
    text: bool,
    reasoning: bool,
    refusal: bool,
    annotations: bool,
    calls: bool,
}

impl ChatReader {
    /// Bytes that are held until it is known where they belong.
    pub(crate) const fn held_bytes(&self) -> usize {
        self.calls.held_bytes()
    }

    /// Reads the data of one event, which is known to be valid JSON or `[DONE]`.
    pub(crate) fn read(&mut self, data: &str, sink: &mut EventSink<'_>) -> json::Result<()> {
        if data == "[DONE]" {
            self.calls.end(sink)?;
            sink(AnswerEvent::End);
            return Ok(());
        }
        self.read_object(data, sink)
    }

    /// Nothing more comes.
    pub(crate) fn end(&mut self, sink: &mut EventSink<'_>) -> json::Result<()> {
        self.details.end_entry(sink);
        self.calls.end(sink)?;
        if self.has_blank_reason {
            sink(AnswerEvent::finish(FinishReason::Stop));
        }
        Ok(())
    }

    /// Reads a chunk, whose choices hold a `delta`, or a body, whose choices hold a `message`.
    fn read_object(&mut self, data: &str, sink: &mut EventSink<'_>) -> json::Result<()> {
        let mut chunk = Object::read(data, Path::ROOT)?;
        // Counts come first: an answer that failed was billed, too.
        self.read_usage(&mut chunk, sink);
        if let Some(error) = chunk.error().or_else(|| chunk.minimax_error()) {
            self.has_choices = true;
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
        if chunk.take("choices").is_none() && is_bare_error(&mut chunk) {
            self.has_choices = true;
            sink(AnswerEvent::failed_event(data.as_bytes()));
            return Ok(());
        }
        chunk.each_object("choices", |choice| self.read_choice(choice, sink))?;
        self.read_sources(&mut chunk, sink)?;
        let tier = chunk.lenient_text("service_tier");
        emit(sink, tier.map(AnswerEvent::ServiceTier));
        self.read_usage(&mut chunk.object_or_empty("x_groq")?, sink);
        Ok(())
    }

    /// Perplexity's sources of the whole answer, which it repeats in every chunk.
    fn read_sources(
        &mut self,
        chunk: &mut Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        let mut number = 0;
        let (known, sources) = (self.sources, &mut self.sources);
        let mut pass = |citation: Option<Citation<'_>>| {
            number += 1;
            if number > known {
                *sources = number;
                emit(sink, citation.map(AnswerEvent::Citation));
            }
        };
        if chunk.starts_with("search_results", '[') {
            let _ = chunk.take("citations");
            return chunk.each_object("search_results", |mut source| {
                let title = source.some_text("title");
                let url = source.some_text("url");
                pass(url.map(|url| Citation::of_all(url, title)));
                Ok(())
            });
        }
        if chunk.starts_with("citations", '[') {
            return chunk.each("citations", |raw, _| {
                pass(text_of(raw).map(|url| Citation::of_all(url, None)));
                Ok(())
            });
        }
        Ok(())
    }

    fn read_choice(
        &mut self,
        mut choice: Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        self.has_choices = true;
        // The request asked for one answer.
        if choice.take("index").is_some_and(|index| index != "0") {
            return Ok(());
        }
        choice.object("delta", |delta| {
            self.read_message(delta, MessageParts::default(), sink)
        })?;
        // Some servers stream the whole answer as one chunk, or once more at the end.
        let had = self.had;
        choice.object("message", |message| self.read_message(message, had, sink))?;
        // Moonshot puts usage here.
        self.read_usage(&mut choice, sink);
        let reason = choice.lenient_text("finish_reason");
        match reason.as_ref().map(Text::as_escaped) {
            None => {}
            // Snowflake's Cortex says nothing else.
            Some("") => self.has_blank_reason = true,
            Some(reason) => match finish_reason(reason.as_bytes()) {
                FinishReason::Error => {
                    sink(AnswerEvent::failed(choice.take("error").unwrap_or("{}")));
                }
                reason => {
                    self.details.end_entry(sink);
                    self.calls.end(sink)?;
                    self.has_blank_reason = false;
                    sink(AnswerEvent::finish(reason));
                }
            },
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

    /// Reads a piece of a message, or a whole one, but for what there was of it already.
    fn read_message(
        &mut self,
        mut message: Object<'_, '_>,
        had: MessageParts,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        // DeepSeek, Qwen and others say `reasoning_content`; OpenRouter, Groq and newer vLLM say
        // `reasoning`.
        let reasoning = match message.some_text("reasoning_content") {
            None => message.some_text("reasoning"),
            text => text,
        };
        if !had.reasoning {
            // OpenRouter says the text twice: once more in the entries.
            let had_text = self.details.read(&mut message, sink)?;
            let text = reasoning.filter(|_| !had_text);
            self.had.reasoning |= had_text || text.is_some();
            emit(sink, text.map(AnswerEvent::Reasoning));
        }
        let details = &mut self.details;
        // Whatever else comes ends an entry.
        let sink: &mut EventSink<'_> = &mut |event| {
            details.end_entry(sink);
            sink(event);
        };
        if !had.text {
            self.had.text |= read_content(&mut message, sink)?;
        }
        if !had.annotations {
            self.had.annotations |= read_annotations(&mut message, sink)?;
        }
        for what in ["images", "audio", "executed_tools"] {
            if message.take(what).is_some_and(json::is_error) {
                sink(AnswerEvent::Lost(what));
            }
        }
        if let Some(text) = message.some_text("refusal").filter(|_| !had.refusal) {
            self.had.refusal = true;
            sink(AnswerEvent::Refusal(text));
        }
        if !had.calls {
            self.calls.read(&mut message, sink)?;
            self.had.calls = !self.calls.is_empty();
        }
        Ok(())
    }
}

/// Errors without an envelope: vLLM's and Mistral's have `"object":"error"`, FastAPI's a `detail`.
fn is_bare_error(chunk: &mut Object<'_, '_>) -> bool {
    let is_error = |text: Option<Text<'_>>| text.is_some_and(|text| text.is("error"));
    is_error(chunk.lenient_text("object"))
        || is_error(chunk.lenient_text("type"))
        || chunk.take("detail").is_some()
}

/// Annotations, as OpenAI and OpenRouter have them.
/// Returns whether there were any.
fn read_annotations(message: &mut Object<'_, '_>, sink: &mut EventSink<'_>) -> json::Result<bool> {
    if !message.starts_with("annotations", '[') {
        return Ok(false);
    }
    let mut had_some = false;
    message.each_object("annotations", |mut annotation| {
        had_some = true;
        let is_url = annotation.is_kind("url_citation");
        let citation = annotation
            .object("url_citation", |mut citation| {
                Ok(Citation::read_openai(&mut citation, CitedText::Span))
            })
            .ok()
            .flatten()
            .flatten();
        sink(match citation.filter(|_| is_url) {
            Some(citation) => AnswerEvent::Citation(citation),
            None => AnswerEvent::Lost("annotations"),
        });
        Ok(())
    })?;
    Ok(had_some)
}

/// Content: a string, or parts as Mistral's reasoning models send them. Returns whether there was text.
fn read_content(message: &mut Object<'_, '_>, sink: &mut EventSink<'_>) -> json::Result<bool> {
    if !message.starts_with("content", '[') {
        let text = message.some_text("content");
        let had_text = text.is_some();
        emit(sink, text.map(AnswerEvent::Text));
        return Ok(had_text);
    }
    let mut had_text = false;
    message.each_object("content", |mut part| {
        let text = part.some_text("text");
        had_text |= text.is_some();
        let is_other = text.is_none() && !(part.is_kind("text") || part.is_kind("thinking"));
        emit(sink, text.map(AnswerEvent::Text));
        if !part.starts_with("thinking", '[') {
            emit(sink, is_other.then_some(AnswerEvent::Lost("content")));
            return Ok(());
        }
        part.each_object("thinking", |mut thought| {
            emit(sink, thought.some_text("text").map(AnswerEvent::Reasoning));
            Ok(())
        })
    })?;
    Ok(had_text)
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
