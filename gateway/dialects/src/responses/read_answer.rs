//! A provider's responses answer, plain or streamed, into events.
//!
//! A stream says most things several times: in deltas, in the `done` event of a part, in that of its
//! item, and in the response at the end. Servers leave out some of these, so each is read, and only
//! adds what those before it have not given ([`super::items`]).

use super::items::{Items, PartRole};
use crate::facts::FinishReason;
use crate::json::{self, Object, Path, Text};
use crate::neutral::{AnswerEvent, EventSink, emit};
use crate::usage;

/// Reads a complete body.
pub(crate) fn read_plain(body: &str, sink: &mut EventSink<'_>) -> json::Result<()> {
    let mut reader = ResponsesReader::default();
    let mut response = Object::read(body, Path::ROOT)?;
    start(&mut response, sink);
    if response.peeks_error() {
        return reader.finish(response, "", sink);
    }
    response.require("output")?;
    reader.finish(response, "", sink)
}

fn start(response: &mut Object<'_, '_>, sink: &mut EventSink<'_>) {
    let (id, model) = (response.lenient_text("id"), response.lenient_text("model"));
    sink(AnswerEvent::Start { id, model });
    // If the stream is cut, this is the only place that names it.
    let tier = response.lenient_text("service_tier");
    emit(sink, tier.map(AnswerEvent::ServiceTier));
}

/// Reads a stream, event by event.
#[derive(Debug, Default)]
pub(crate) struct ResponsesReader {
    started: bool,
    items: Items,
    usage: usage::MergedUsage,
    tools: usage::ToolCalls,
}

impl ResponsesReader {
    /// Bytes that are held until it is known where they belong.
    pub(crate) const fn held_bytes(&self) -> usize {
        self.items.held_bytes()
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
        let kind = kind.as_ref().map_or(name, Text::as_escaped);
        let Some(step) = kind.strip_prefix("response.") else {
            return self.read_other(kind, &mut event, data, sink);
        };
        match step {
            "created" | "in_progress" => {
                if !std::mem::replace(&mut self.started, true) {
                    event.object("response", |mut response| {
                        start(&mut response, sink);
                        Ok(())
                    })?;
                }
                Ok(())
            }
            "completed" | "incomplete" | "failed" | "done" => {
                let response = event.object_or_empty("response")?;
                self.finish(response, step, sink)
            }
            _ => self.read_step(step, &mut event, sink),
        }
    }

    /// Reads an event about an item.
    fn read_step(
        &mut self,
        step: &str,
        event: &mut Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        let items = &mut self.items;
        match step {
            "output_text.delta" => items.delta(event, PartRole::Text, sink),
            "output_text.done" => items.part(event, PartRole::Text, sink),
            "output_text.annotation.added" => items.annotation(event, sink),
            "refusal.delta" => items.delta(event, PartRole::Refusal, sink),
            "refusal.done" => items.part(event, PartRole::Refusal, sink),
            "reasoning_summary_text.delta" => items.delta(event, PartRole::Summary, sink),
            "reasoning_summary_text.done" => items.part(event, PartRole::Summary, sink),
            "reasoning_text.delta" => items.delta(event, PartRole::Reasoning, sink),
            "reasoning_text.done" => items.part(event, PartRole::Reasoning, sink),
            "content_part.done" | "reasoning_summary_part.done" => items.part_done(event, sink),
            "function_call_arguments.delta" | "custom_tool_call_input.delta" => {
                items.call_delta(event, sink)
            }
            "function_call_arguments.done" | "custom_tool_call_input.done" => {
                items.call_done(event, sink)
            }
            "output_item.added" => items.added(event, sink),
            "output_item.done" => {
                self.count_tool(&mut event.object_or_empty("item")?);
                self.items.done(event, sink)
            }
            _ => Ok(()),
        }
    }

    /// Reads an event that is none of a response's: an error, or nothing that is known.
    fn read_other(
        &self,
        kind: &str,
        event: &mut Object<'_, '_>,
        data: &str,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        match event.error() {
            Some(error) => sink(AnswerEvent::failed(error)),
            None if kind == "error" => sink(AnswerEvent::failed_event(data.as_bytes())),
            None => {}
        }
        Ok(())
    }

    /// Reads the finished response: what it has beside what the stream gave, and how it ended.
    fn finish(
        &mut self,
        mut response: Object<'_, '_>,
        step: &str,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        self.read_usage(&mut response, sink);
        if let Some(error) = response.error() {
            sink(AnswerEvent::failed(error));
            return Ok(());
        }
        if step == "failed" {
            sink(AnswerEvent::failed("{}"));
            return Ok(());
        }
        self.items.end(&mut response, sink)?;
        let tier = response.lenient_text("service_tier");
        emit(sink, tier.map(AnswerEvent::ServiceTier));
        let details = response.object_or_empty("incomplete_details");
        let why = details
            .ok()
            .and_then(|mut details| details.lenient_text("reason"));
        sink(AnswerEvent::finish(
            match why.as_ref().map(Text::as_escaped) {
                None => FinishReason::Stop,
                Some("max_output_tokens") => FinishReason::Length,
                Some("content_filter") => FinishReason::ContentFilter,
                Some(_) => FinishReason::Other,
            },
        ));
        sink(AnswerEvent::End);
        Ok(())
    }

    /// Reads the counts of tokens and of calls of OpenAI's own tools.
    fn read_usage(&mut self, response: &mut Object<'_, '_>, sink: &mut EventSink<'_>) {
        if let Some(output) = response.take("output") {
            self.tools
                .merge(usage::ToolCalls::of_output(output.as_bytes()));
        }
        if let Some(raw) = response.take("tool_usage") {
            self.tools.read_tool_usage(raw.as_bytes());
            let tools = response.take("tools").map(str::as_bytes);
            let model = tools.and_then(usage::image_model_name);
            if let Some(images) = usage::image_model(raw.as_bytes(), model) {
                sink(AnswerEvent::OtherModels(&[images]));
            }
        }
        let said = response
            .take("usage")
            .and_then(|raw| usage::openai(raw.as_bytes()));
        for said in [said, self.tools.usage()].into_iter().flatten() {
            sink(AnswerEvent::Usage(&self.usage.add(&said)));
        }
    }

    /// Counts an item, if it is a call of one of OpenAI's own tools.
    fn count_tool(&mut self, item: &mut Object<'_, '_>) {
        let kind = item.lenient_text("type").unwrap_or_default();
        self.tools.add_kind(kind.as_escaped().as_bytes());
        let action = item.object("action", |mut action| Ok(action.lenient_text("type")));
        if let Ok(Some(Some(kind))) = action {
            self.tools.add_action(kind.as_escaped().as_bytes());
        }
        let container = item.lenient_text("container_id");
        let id = container.as_ref().map(|id| id.as_escaped().as_bytes());
        self.tools.add_container(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two messages in one answer are two paragraphs.
    #[test]
    fn messages_are_paragraphs() {
        let body = r#"{"output":[{"type":"message","content":[{"text":"a"},{"text":"b"}]},
            {"type":"message","content":[{"text":"c"}]}]}"#;
        let mut text = String::new();
        read_plain(body, &mut |event| {
            if let AnswerEvent::Text(part) = event {
                text.push_str(part.as_escaped());
            }
        })
        .unwrap();
        assert_eq!(text, r"ab\n\nc");
    }
}
