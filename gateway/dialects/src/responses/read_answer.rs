//! A provider's responses answer, plain or streamed, into events.

use crate::facts::FinishReason;
use crate::json::{self, Object, Path, Text};
use crate::neutral::{AnswerEvent, EventSink, ReasoningSignature, SignatureOrigin, ToolUse, emit};
use crate::usage;

/// The separator of a summary's parts, escaped.
const PARAGRAPH: Text<'static> = Text::escaped("\\n\\n");

/// Reads a complete body.
pub(crate) fn read_plain(body: &str, sink: &mut EventSink<'_>) -> json::Result<()> {
    let mut reader = ResponsesReader::default();
    let mut response = Object::read(body, Path::ROOT)?;
    start(&mut response, sink);
    response.each_object("output", |item| reader.read_item(item, sink))?;
    reader.finish(response, sink);
    Ok(())
}

fn start(response: &mut Object<'_, '_>, sink: &mut EventSink<'_>) {
    let (id, model) = (response.lenient_text("id"), response.lenient_text("model"));
    sink(AnswerEvent::Start { id, model });
    // If the stream is cut, this is the only place that names it.
    let tier = response.lenient_text("service_tier");
    emit(sink, tier.map(AnswerEvent::ServiceTier));
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

/// Reads a stream, event by event.
#[derive(Debug, Default)]
pub(crate) struct ResponsesReader {
    started: bool,
    /// The output index of each call, in the order in which they began.
    calls: Vec<u64>,
    /// Output index and part of the reasoning that was last added to.
    reasoning: Option<(u64, u64)>,
    usage: usage::MergedUsage,
    tools: usage::ToolCalls,
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
                let mut item = event.object_or_empty("item")?;
                if item.is_kind("function_call") {
                    self.begin_call(output, &mut item, sink);
                }
            }
            "response.output_text.delta" => {
                emit(sink, event.some_text("delta").map(AnswerEvent::Text));
            }
            "response.refusal.delta" => {
                emit(sink, event.some_text("delta").map(AnswerEvent::Refusal));
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.separate_reasoning(&mut event, sink)?;
                emit(sink, event.some_text("delta").map(AnswerEvent::Reasoning));
            }
            "response.function_call_arguments.delta" => {
                let output = event.count("output_index")?.unwrap_or(0);
                if let Some(index) = self.calls.iter().position(|known| *known == output)
                    && let Some(part) = event.some_text("delta")
                {
                    sink(AnswerEvent::Arguments { index, part });
                }
            }
            "response.output_item.done" => {
                let mut item = event.object_or_empty("item")?;
                if item.is_kind("reasoning") {
                    read_signature(&mut item, sink);
                }
                self.count_tool(&mut item);
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                event.object("response", |response| {
                    self.finish(response, sink);
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

    /// Reads the finished response, its items excluded.
    fn finish(&mut self, mut response: Object<'_, '_>, sink: &mut EventSink<'_>) {
        self.read_usage(&mut response, sink);
        if let Some(error) = response.take("error") {
            sink(AnswerEvent::failed(error));
            return;
        }
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

    /// Reads a whole item.
    fn read_item(
        &mut self,
        mut item: Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        let kind = item.lenient_text("type").unwrap_or_default();
        match kind.as_escaped() {
            "web_search_call" | "file_search_call" | "code_interpreter_call" => {
                self.tools.add_kind(kind.as_escaped().as_bytes());
                self.count_tool(&mut item);
            }
            "message" => item.each_object("content", |mut part| {
                emit(sink, part.lenient_text("text").map(AnswerEvent::Text));
                emit(sink, part.lenient_text("refusal").map(AnswerEvent::Refusal));
                Ok(())
            })?,
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
                let index = self.begin_call(0, &mut item, sink);
                let part = item.lenient_text("arguments").unwrap_or_default();
                sink(AnswerEvent::Arguments { index, part });
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the call's index among the calls.
    fn begin_call(
        &mut self,
        output: u64,
        item: &mut Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> usize {
        let index = self.calls.len();
        self.calls.push(output);
        let (id, name) = (item.lenient_text("call_id"), item.lenient_text("name"));
        sink(AnswerEvent::ToolUse(ToolUse::new(index, id, name)));
        index
    }

    /// Parts of a summary are paragraphs.
    fn separate_reasoning(
        &mut self,
        event: &mut Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        let output = event.count("output_index")?.unwrap_or(0);
        let part = match event.count("summary_index")? {
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
