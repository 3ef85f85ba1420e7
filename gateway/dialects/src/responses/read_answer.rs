//! A provider's responses answer, plain or streamed, into events.

use crate::chat::lenient_text;
use crate::json::{Invalid, Object, Path, Text};
use crate::neutral::{Event, Origin, Proof};
use crate::response::FinishReason;
use crate::upstream_error::UpstreamErrorFacts;
use crate::usage;

/// What stands between the parts of a summary, escaped.
const PARAGRAPH: Text<'static> = Text::escaped("\\n\\n");

/// Reads a complete body.
pub(crate) fn read_plain(body: &str, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Invalid> {
    let mut response = Object::read(body, Path::ROOT)?;
    start(&mut response, sink);
    let mut calls = 0;
    response.each("output", |raw, path| {
        read_item(Object::read(raw, *path)?, &mut calls, sink)
    })?;
    finish(&mut response, sink);
    Ok(())
}

fn start(response: &mut Object<'_, '_>, sink: &mut dyn FnMut(Event<'_>)) {
    let (id, model) = (
        lenient_text(response, "id"),
        lenient_text(response, "model"),
    );
    sink(Event::Start { id, model });
    // A stream that is cut has said it here.
    if let Some(tier) = lenient_text(response, "service_tier") {
        sink(Event::ServiceTier(tier));
    }
}

/// What the finished response says of itself.
fn finish(response: &mut Object<'_, '_>, sink: &mut dyn FnMut(Event<'_>)) {
    if let Some(error) = response.take("error") {
        sink(Event::Failed(UpstreamErrorFacts::in_stream(
            error.as_bytes(),
        )));
        return;
    }
    if let Some(usage) = response
        .take("usage")
        .and_then(|raw| usage::openai(raw.as_bytes()))
    {
        sink(Event::Usage(usage));
    }
    if let Some(tier) = lenient_text(response, "service_tier") {
        sink(Event::ServiceTier(tier));
    }
    let why = response
        .object("incomplete_details", |mut details| {
            Ok::<_, Invalid>(lenient_text(&mut details, "reason"))
        })
        .ok()
        .flatten()
        .flatten();
    let reason = match why.as_ref().map(Text::as_escaped) {
        None => FinishReason::Stop,
        Some("max_output_tokens") => FinishReason::Length,
        Some("content_filter") => FinishReason::ContentFilter,
        Some(_) => FinishReason::Other,
    };
    sink(Event::Finish {
        reason,
        stop_sequence: None,
    });
    sink(Event::End);
}

/// Reads a whole item.
fn read_item(
    mut item: Object<'_, '_>,
    calls: &mut usize,
    sink: &mut dyn FnMut(Event<'_>),
) -> Result<(), Invalid> {
    let kind = lenient_text(&mut item, "type").unwrap_or_default();
    match kind.as_escaped() {
        "message" => {
            item.each("content", |raw, path| {
                let mut part = Object::read(raw, *path)?;
                if let Some(text) = lenient_text(&mut part, "text") {
                    sink(Event::Text(text));
                }
                if let Some(text) = lenient_text(&mut part, "refusal") {
                    sink(Event::Refusal(text));
                }
                Ok::<_, Invalid>(())
            })?;
        }
        "reasoning" => {
            let mut is_first = true;
            for key in ["summary", "content"] {
                item.each(key, |raw, path| {
                    if let Some(text) = lenient_text(&mut Object::read(raw, *path)?, "text") {
                        if !std::mem::replace(&mut is_first, false) {
                            sink(Event::Reasoning(PARAGRAPH));
                        }
                        sink(Event::Reasoning(text));
                    }
                    Ok::<_, Invalid>(())
                })?;
            }
            proof(&mut item, sink);
        }
        "function_call" => {
            let index = *calls;
            *calls += 1;
            call(&mut item, index, sink);
            let part = lenient_text(&mut item, "arguments").unwrap_or_default();
            sink(Event::Arguments { index, part });
        }
        _ => {}
    }
    Ok(())
}

fn call(item: &mut Object<'_, '_>, index: usize, sink: &mut dyn FnMut(Event<'_>)) {
    let id = lenient_text(item, "call_id");
    let name = lenient_text(item, "name").unwrap_or_default();
    sink(Event::ToolCall {
        index,
        id,
        name,
        proof: None,
    });
}

/// The item's id and its encrypted content, with a colon between them.
fn proof(item: &mut Object<'_, '_>, sink: &mut dyn FnMut(Event<'_>)) {
    let Some(encrypted) = lenient_text(item, "encrypted_content") else {
        return;
    };
    let mut value = lenient_text(item, "id").unwrap_or_default();
    value.push(&Text::escaped(":"));
    value.push(&encrypted);
    sink(Event::Proof(Proof::encrypted(
        Origin::OpenAiResponses,
        value,
    )));
}

/// Reads a stream, event by event.
#[derive(Debug, Default)]
pub(crate) struct StreamReader {
    started: bool,
    /// The output index of each call, in the order in which they began.
    calls: Vec<u64>,
    /// Output index and part of the reasoning that was last added to.
    reasoning: Option<(u64, u64)>,
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
            "response.created" | "response.in_progress" if !self.started => {
                self.started = true;
                event.object("response", |mut response| {
                    start(&mut response, sink);
                    Ok::<_, Invalid>(())
                })?;
            }
            "response.output_item.added" => {
                let output = event.count("output_index")?.unwrap_or(0);
                event.object("item", |item| self.add_item(output, item, sink))?;
            }
            "response.output_text.delta" => delta(&mut event, Event::Text, sink),
            "response.refusal.delta" => delta(&mut event, Event::Refusal, sink),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.separate_reasoning(&mut event, sink)?;
                delta(&mut event, Event::Reasoning, sink);
            }
            "response.function_call_arguments.delta" => {
                let output = event.count("output_index")?.unwrap_or(0);
                if let Some(index) = self.calls.iter().position(|known| *known == output) {
                    delta(&mut event, |part| Event::Arguments { index, part }, sink);
                }
            }
            "response.output_item.done" => {
                event.object("item", |mut item| {
                    if lenient_text(&mut item, "type").is_some_and(|kind| kind.is("reasoning")) {
                        proof(&mut item, sink);
                    }
                    Ok::<_, Invalid>(())
                })?;
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                event.object("response", |mut response| {
                    finish(&mut response, sink);
                    Ok::<_, Invalid>(())
                })?;
            }
            "error" => {
                let error = event.take("error").unwrap_or(data);
                sink(Event::Failed(UpstreamErrorFacts::in_stream(
                    error.as_bytes(),
                )));
            }
            _ => {}
        }
        Ok(())
    }

    fn add_item(
        &mut self,
        output: u64,
        mut item: Object<'_, '_>,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Invalid> {
        if lenient_text(&mut item, "type").is_some_and(|kind| kind.is("function_call")) {
            self.calls.push(output);
            call(&mut item, self.calls.len() - 1, sink);
        }
        Ok(())
    }

    /// Parts of a summary are paragraphs.
    fn separate_reasoning(
        &mut self,
        event: &mut Object<'_, '_>,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Invalid> {
        let output = event.count("output_index")?.unwrap_or(0);
        let summary = event.count("summary_index")?;
        let part = match summary {
            Some(part) => part,
            None => event.count("content_index")?.unwrap_or(0),
        };
        let before = self.reasoning.replace((output, part));
        if before.is_some_and(|before| before.0 == output && before.1 != part) {
            sink(Event::Reasoning(PARAGRAPH));
        }
        Ok(())
    }
}

fn delta<'a>(
    event: &mut Object<'a, '_>,
    make: impl FnOnce(Text<'a>) -> Event<'a>,
    sink: &mut dyn FnMut(Event<'_>),
) {
    if let Some(text) = lenient_text(event, "delta").filter(|text| !text.is_empty()) {
        sink(make(text));
    }
}
