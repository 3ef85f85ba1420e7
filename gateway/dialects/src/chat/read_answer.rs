//! A provider's chat answer, plain or streamed, into events.
//!
//! Vendors differ in where they put reasoning, usage and errors; all places that are documented
//! somewhere are looked at, and what is not understood is passed over.

use crate::json::{Invalid, Object, Path, Text, each};
use crate::neutral::{Event, Origin, Proof};
use crate::passthrough::finish_reason;
use crate::response::FinishReason;
use crate::upstream_error::UpstreamErrorFacts;
use crate::usage;

/// Reads a complete body.
pub(crate) fn read_plain(body: &str, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Invalid> {
    StreamReader::default().read_object(body, "message", sink)?;
    sink(Event::End);
    Ok(())
}

/// Reads a stream, chunk by chunk.
#[derive(Debug, Default)]
pub(crate) struct StreamReader {
    started: bool,
    /// The tool calls, in the order in which they began.
    calls: Vec<CallKey>,
}

/// How a provider tells one call from another: by index, or where there is none, by id. Some
/// number all calls 0, so that only a new id, with a name beside it, shows that a new one begins.
#[derive(Debug)]
struct CallKey {
    number: Option<u64>,
    id: Option<String>,
}

impl StreamReader {
    /// Reads the data of one event, which is known to be valid JSON or `[DONE]`.
    pub(crate) fn read(
        &mut self,
        data: &str,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Invalid> {
        if data == "[DONE]" {
            sink(Event::End);
            return Ok(());
        }
        self.read_object(data, "delta", sink)
    }

    /// Reads a chunk, whose choices hold a `delta`, or a body, whose choices hold a `message`.
    fn read_object(
        &mut self,
        data: &str,
        content: &str,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Invalid> {
        let mut chunk = Object::read(data, Path::ROOT)?;
        if let Some(error) = chunk.take("error") {
            sink(Event::Failed(UpstreamErrorFacts::in_stream(
                error.as_bytes(),
            )));
            return Ok(());
        }
        if !self.started {
            let (id, model) = (
                lenient_text(&mut chunk, "id"),
                lenient_text(&mut chunk, "model"),
            );
            // Azure sends a chunk about the prompt first, in which nothing has a name.
            let is_named = id.as_ref().is_some_and(|id| !id.is_empty());
            if is_named || chunk.take("choices").is_some_and(|choices| choices != "[]") {
                self.started = true;
                sink(Event::Start { id, model });
            }
        }
        chunk.each("choices", |raw, path| {
            self.read_choice(Object::read(raw, *path)?, content, sink)
        })?;
        if let Some(raw) = chunk.take("usage") {
            usage_event(raw, sink);
        }
        if let Some(tier) = lenient_text(&mut chunk, "service_tier") {
            sink(Event::ServiceTier(tier));
        }
        chunk
            .object("x_groq", |mut groq| {
                if let Some(raw) = groq.take("usage") {
                    usage_event(raw, sink);
                }
                Ok(())
            })
            .map(|_: Option<()>| ())
    }

    fn read_choice(
        &mut self,
        mut choice: Object<'_, '_>,
        content: &str,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Invalid> {
        // Only one answer was asked for.
        if choice.take("index").is_some_and(|index| index != "0") {
            return Ok(());
        }
        choice.object(content, |message| self.read_message(message, sink))?;
        if let Some(raw) = choice.take("usage") {
            usage_event(raw, sink);
        }
        if let Some(reason) = lenient_text(&mut choice, "finish_reason") {
            let reason = finish_reason(reason.as_escaped().as_bytes());
            match reason {
                FinishReason::Error => {
                    let error = choice.take("error").unwrap_or("{}");
                    sink(Event::Failed(UpstreamErrorFacts::in_stream(
                        error.as_bytes(),
                    )));
                }
                reason => sink(Event::Finish {
                    reason,
                    stop_sequence: None,
                }),
            }
        }
        Ok(())
    }

    fn read_message(
        &mut self,
        mut message: Object<'_, '_>,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Invalid> {
        read_reasoning(&mut message, sink)?;
        if let Some(raw) = message.take("content") {
            read_content(raw, &message.path().key("content"), sink)?;
        }
        if let Some(refusal) = lenient_text(&mut message, "refusal") {
            sink(Event::Refusal(refusal));
        }
        message.each("tool_calls", |raw, path| {
            self.read_call(Object::read(raw, *path)?, sink)
        })?;
        Ok(())
    }

    /// Reads a call, or a piece of one.
    fn read_call(
        &mut self,
        mut call: Object<'_, '_>,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Invalid> {
        let id = lenient_text(&mut call, "id");
        let number = call.count("index").unwrap_or_default();
        let proof = call.object("extra_content", |mut extra| {
            extra.object("google", |mut google| google.text("thought_signature"))
        });
        let proof = proof.ok().flatten().flatten().flatten();
        let proof = proof.map(|value| Proof::signature(Origin::Gemini, value));
        call.object("function", |mut function| {
            let name = lenient_text(&mut function, "name");
            let is_named = name.as_ref().is_some_and(|name| !name.is_empty());
            let index = match self.known(number, id.as_ref(), is_named) {
                Some(index) => index,
                None => {
                    let id_text = id.as_ref().map(|id| id.as_escaped().to_owned());
                    self.calls.push(CallKey {
                        number,
                        id: id_text,
                    });
                    let index = self.calls.len() - 1;
                    let name = name.unwrap_or_default();
                    sink(Event::ToolCall {
                        index,
                        id,
                        name,
                        proof,
                    });
                    index
                }
            };
            match function.take("arguments") {
                Some(raw) if raw.starts_with('"') => {
                    let part = Text::escaped(&raw[1..raw.len() - 1]);
                    if !part.is_empty() {
                        sink(Event::Arguments { index, part });
                    }
                }
                // Some servers send the object itself.
                Some(raw) => sink(Event::Arguments {
                    index,
                    part: Text::plain(raw),
                }),
                None => {}
            }
            Ok::<_, Invalid>(())
        })?;
        Ok(())
    }

    /// Which call this is a piece of. Without an index, a new id begins a call, and no id goes on
    /// with the last.
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

/// Reasoning: DeepSeek, Qwen and others say `reasoning_content`; OpenRouter, Groq and newer vLLM
/// say `reasoning`; OpenRouter adds `reasoning_details` with signatures.
fn read_reasoning(
    message: &mut Object<'_, '_>,
    sink: &mut dyn FnMut(Event<'_>),
) -> Result<(), Invalid> {
    let content = lenient_text(message, "reasoning_content");
    let reasoning = lenient_text(message, "reasoning");
    if let Some(text) = content.or(reasoning)
        && !text.is_empty()
    {
        sink(Event::Reasoning(text));
    }
    Ok(())
}

/// Content: text, or parts as Mistral's reasoning models send them.
fn read_content(
    raw: &str,
    path: &Path<'_>,
    sink: &mut dyn FnMut(Event<'_>),
) -> Result<(), Invalid> {
    if let Some(text) = raw.strip_prefix('"') {
        let text = Text::escaped(&text[..text.len() - 1]);
        if !text.is_empty() {
            sink(Event::Text(text));
        }
        return Ok(());
    }
    if !raw.starts_with('[') {
        return Ok(());
    }
    each(raw, path, |raw, path| {
        let mut part = Object::read(raw, *path)?;
        if let Some(text) = lenient_text(&mut part, "text") {
            sink(Event::Text(text));
        }
        if let Some(raw) = part.take("thinking").filter(|raw| raw.starts_with('[')) {
            each(raw, &path.key("thinking"), |raw, path| {
                if let Some(text) = lenient_text(&mut Object::read(raw, *path)?, "text") {
                    sink(Event::Reasoning(text));
                }
                Ok::<_, Invalid>(())
            })?;
        }
        Ok(())
    })
}

fn usage_event(raw: &str, sink: &mut dyn FnMut(Event<'_>)) {
    if let Some(usage) = usage::openai(raw.as_bytes()) {
        sink(Event::Usage(usage));
    }
}

/// A field's text; `None` for anything that is no text.
pub(crate) fn lenient_text<'a>(object: &mut Object<'a, '_>, key: &str) -> Option<Text<'a>> {
    let raw = object.take(key)?.strip_prefix('"')?;
    Some(Text::escaped(&raw[..raw.len() - 1]))
}
