//! A provider's responses answer, plain or streamed, into events.

use crate::facts::FinishReason;
use crate::json::{self, Object, Path, Text};
use crate::neutral::{AnswerEvent, EventSink, ReasoningSignature, SignatureOrigin, ToolUse};
use crate::usage;

/// The separator of a summary's parts, escaped.
const PARAGRAPH: Text<'static> = Text::escaped("\\n\\n");

/// Reads a complete body.
pub(crate) fn read_plain(body: &str, sink: &mut EventSink<'_>) -> json::Result<()> {
    let mut response = Object::read(body, Path::ROOT)?;
    start(&mut response, sink);
    let mut calls = 0;
    response.each_object("output", |item| read_item(item, &mut calls, sink))?;
    finish(&mut response, sink);
    Ok(())
}

fn start(response: &mut Object<'_, '_>, sink: &mut EventSink<'_>) {
    let (id, model) = (response.lenient_text("id"), response.lenient_text("model"));
    sink(AnswerEvent::Start { id, model });
    // If the stream is cut, this is the only place that names it.
    if let Some(tier) = response.lenient_text("service_tier") {
        sink(AnswerEvent::ServiceTier(tier));
    }
}

/// Reads the finished response, its items excluded.
fn finish(response: &mut Object<'_, '_>, sink: &mut EventSink<'_>) {
    if let Some(error) = response.take("error") {
        sink(AnswerEvent::failed(error));
        return;
    }
    let usage = response.take("usage");
    if let Some(usage) = usage.and_then(|raw| usage::openai(raw.as_bytes())) {
        sink(AnswerEvent::Usage(usage));
    }
    if let Some(tier) = response.lenient_text("service_tier") {
        sink(AnswerEvent::ServiceTier(tier));
    }
    let details = response.object("incomplete_details", |mut details| {
        Ok(details.lenient_text("reason"))
    });
    let why = details.ok().flatten().flatten();
    let reason = match why.as_ref().map(Text::as_escaped) {
        None => FinishReason::Stop,
        Some("max_output_tokens") => FinishReason::Length,
        Some("content_filter") => FinishReason::ContentFilter,
        Some(_) => FinishReason::Other,
    };
    sink(AnswerEvent::finish(reason));
    sink(AnswerEvent::End);
}

/// Reads a whole item.
fn read_item(
    mut item: Object<'_, '_>,
    calls: &mut usize,
    sink: &mut EventSink<'_>,
) -> json::Result<()> {
    let kind = item.lenient_text("type").unwrap_or_default();
    match kind.as_escaped() {
        "message" => {
            item.each_object("content", |mut part| {
                if let Some(text) = part.lenient_text("text") {
                    sink(AnswerEvent::Text(text));
                }
                if let Some(text) = part.lenient_text("refusal") {
                    sink(AnswerEvent::Refusal(text));
                }
                Ok(())
            })?;
        }
        "reasoning" => {
            let mut is_first = true;
            for key in ["summary", "content"] {
                item.each_object(key, |mut part| {
                    if let Some(text) = part.lenient_text("text") {
                        if !std::mem::replace(&mut is_first, false) {
                            sink(AnswerEvent::Reasoning(PARAGRAPH));
                        }
                        sink(AnswerEvent::Reasoning(text));
                    }
                    Ok(())
                })?;
            }
            read_signature(&mut item, sink);
        }
        "function_call" => {
            let index = *calls;
            *calls += 1;
            call(&mut item, index, sink);
            let part = item.lenient_text("arguments").unwrap_or_default();
            sink(AnswerEvent::Arguments { index, part });
        }
        _ => {}
    }
    Ok(())
}

fn call(item: &mut Object<'_, '_>, index: usize, sink: &mut EventSink<'_>) {
    let (id, name) = (item.lenient_text("call_id"), item.lenient_text("name"));
    let call = ToolUse::new(index, id, name.unwrap_or_default());
    sink(AnswerEvent::ToolUse(call));
}

/// The item's id and its encrypted content, with a colon between them.
fn read_signature(item: &mut Object<'_, '_>, sink: &mut EventSink<'_>) {
    let Some(encrypted) = item.lenient_text("encrypted_content") else {
        return;
    };
    let mut value = item.lenient_text("id").unwrap_or_default();
    value.push(&Text::escaped(":"));
    value.push(&encrypted);
    let signature = ReasoningSignature::encrypted(SignatureOrigin::OpenAiResponses, value);
    sink(AnswerEvent::Signature(signature));
}

fn is_kind(item: &mut Object<'_, '_>, kind: &str) -> bool {
    item.lenient_text("type")
        .is_some_and(|found| found.is(kind))
}

/// Reads a stream, event by event.
#[derive(Debug, Default)]
pub(crate) struct ResponsesReader {
    started: bool,
    /// The output index of each call, in the order in which they began.
    calls: Vec<u64>,
    /// Output index and part of the reasoning that was last added to.
    reasoning: Option<(u64, u64)>,
}

impl ResponsesReader {
    /// Reads the data of one event, which is known to be valid JSON.
    pub(crate) fn read(&mut self, data: &str, sink: &mut EventSink<'_>) -> json::Result<()> {
        let mut event = Object::read(data, Path::ROOT)?;
        let kind = event.lenient_text("type").unwrap_or_default();
        match kind.as_escaped() {
            "response.created" | "response.in_progress" if !self.started => {
                self.started = true;
                event.object("response", |mut response| {
                    start(&mut response, sink);
                    Ok(())
                })?;
            }
            "response.output_item.added" => {
                let output = event.count("output_index")?.unwrap_or(0);
                event.object("item", |item| self.add_item(output, item, sink))?;
            }
            "response.output_text.delta" => delta(&mut event, AnswerEvent::Text, sink),
            "response.refusal.delta" => delta(&mut event, AnswerEvent::Refusal, sink),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.separate_reasoning(&mut event, sink)?;
                delta(&mut event, AnswerEvent::Reasoning, sink);
            }
            "response.function_call_arguments.delta" => {
                let output = event.count("output_index")?.unwrap_or(0);
                if let Some(index) = self.calls.iter().position(|known| *known == output) {
                    let make = |part| AnswerEvent::Arguments { index, part };
                    delta(&mut event, make, sink);
                }
            }
            "response.output_item.done" => {
                event.object("item", |mut item| {
                    if is_kind(&mut item, "reasoning") {
                        read_signature(&mut item, sink);
                    }
                    Ok(())
                })?;
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                event.object("response", |mut response| {
                    finish(&mut response, sink);
                    Ok(())
                })?;
            }
            "error" => {
                let error = event.take("error").unwrap_or(data);
                sink(AnswerEvent::failed(error));
            }
            _ => {}
        }
        Ok(())
    }

    fn add_item(
        &mut self,
        output: u64,
        mut item: Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        if is_kind(&mut item, "function_call") {
            self.calls.push(output);
            call(&mut item, self.calls.len() - 1, sink);
        }
        Ok(())
    }

    /// Parts of a summary are paragraphs.
    fn separate_reasoning(
        &mut self,
        event: &mut Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        let output = event.count("output_index")?.unwrap_or(0);
        let summary = event.count("summary_index")?;
        let part = match summary {
            Some(part) => part,
            None => event.count("content_index")?.unwrap_or(0),
        };
        let before = self.reasoning.replace((output, part));
        if before.is_some_and(|before| before.0 == output && before.1 != part) {
            sink(AnswerEvent::Reasoning(PARAGRAPH));
        }
        Ok(())
    }
}

fn delta<'a>(
    event: &mut Object<'a, '_>,
    make: impl FnOnce(Text<'a>) -> AnswerEvent<'a>,
    sink: &mut EventSink<'_>,
) {
    if let Some(text) = event.lenient_text("delta").filter(|text| !text.is_empty()) {
        sink(make(text));
    }
}
