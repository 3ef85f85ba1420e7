//! A provider's `generateContent` answer, plain or streamed, into events.
//!
//! Both are the same: a stream is a row of answers, each with what is new. There is no last event;
//! the stream just ends.

use crate::chat::lenient_text;
use crate::json::{Invalid, Object, Path, Text};
use crate::neutral::{Event, Origin, Proof};
use crate::response::FinishReason;
use crate::upstream_error::{UpstreamErrorFacts, UpstreamErrorKind};
use crate::{tier, usage};

/// Reads a complete body.
pub(crate) fn read_plain(body: &str, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Invalid> {
    // The stream endpoint without `alt=sse` answers with an array.
    StreamReader::default().read(body, sink)?;
    sink(Event::End);
    Ok(())
}

#[derive(Debug, Default)]
pub(crate) struct StreamReader {
    started: bool,
    calls: usize,
}

impl StreamReader {
    /// Reads the data of one event, which is known to be valid JSON.
    pub(crate) fn read(
        &mut self,
        data: &str,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Invalid> {
        let mut answer = Object::read(data, Path::ROOT)?;
        if let Some(error) = answer.take("error") {
            sink(Event::Failed(UpstreamErrorFacts::in_stream(
                error.as_bytes(),
            )));
            return Ok(());
        }
        // The counts come first, so that they are there where an answer starts with them.
        if let Some(raw) = answer.take("usageMetadata") {
            read_usage(raw, sink);
        }
        answer.object("promptFeedback", |mut feedback| {
            if let Some(reason) = lenient_text(&mut feedback, "blockReason") {
                sink(Event::Failed(blocked(&reason)));
            }
            Ok::<_, Invalid>(())
        })?;
        if !self.started {
            self.started = true;
            let id = lenient_text(&mut answer, "responseId");
            sink(Event::Start {
                id,
                model: lenient_text(&mut answer, "modelVersion"),
            });
        }
        answer.each("candidates", |raw, path| {
            let candidate = Object::read(raw, *path)?;
            self.read_candidate(candidate, sink)
        })?;
        Ok(())
    }

    fn read_candidate(
        &mut self,
        mut candidate: Object<'_, '_>,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Invalid> {
        // Only one answer was asked for.
        if candidate.take("index").is_some_and(|index| index != "0") {
            return Ok(());
        }
        candidate.object("content", |mut content| {
            content.each("parts", |raw, path| {
                self.read_part(Object::read(raw, *path)?, sink)
            })
        })?;
        let Some(word) = lenient_text(&mut candidate, "finishReason") else {
            return Ok(());
        };
        match finish_reason(word.as_escaped()) {
            FinishReason::Error => {
                let said = lenient_text(&mut candidate, "finishMessage");
                sink(Event::Failed(failed(&word, said.as_ref())));
            }
            reason => sink(Event::Finish {
                reason,
                stop_sequence: None,
            }),
        }
        Ok(())
    }

    fn read_part(
        &mut self,
        mut part: Object<'_, '_>,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Invalid> {
        let is_thought = part.flag("thought").ok().flatten().unwrap_or(false);
        let proof = lenient_text(&mut part, "thoughtSignature")
            .map(|value| Proof::signature(Origin::Gemini, value));
        let called = part.object("functionCall", |mut call| {
            let index = self.calls;
            self.calls += 1;
            let id = lenient_text(&mut call, "id");
            let name = lenient_text(&mut call, "name").unwrap_or_default();
            sink(Event::ToolCall {
                index,
                id,
                name,
                proof: proof.clone(),
            });
            let part = Text::plain(call.take("args").unwrap_or("{}"));
            sink(Event::Arguments { index, part });
            Ok::<_, Invalid>(())
        })?;
        if called.is_some() {
            return Ok(());
        }
        if let Some(text) = lenient_text(&mut part, "text").filter(|text| !text.is_empty()) {
            sink(if is_thought {
                Event::Reasoning(text)
            } else {
                Event::Text(text)
            });
        }
        Ok(())
    }
}

fn read_usage(raw: &str, sink: &mut dyn FnMut(Event<'_>)) {
    if let Some(usage) = usage::gemini(raw.as_bytes()) {
        sink(Event::Usage(usage));
    }
    if let Some(word) = tier::gemini(raw.as_bytes()).and_then(|word| str::from_utf8(word).ok()) {
        sink(Event::ServiceTier(Text::escaped(word)));
    }
}

/// Gemini's words for why the model stopped.
fn finish_reason(word: &str) -> FinishReason {
    match word {
        "STOP" => FinishReason::Stop,
        "MAX_TOKENS" => FinishReason::Length,
        "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII"
        | "IMAGE_SAFETY" => FinishReason::ContentFilter,
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "MALFORMED_RESPONSE" => {
            FinishReason::Error
        }
        _ => FinishReason::Other,
    }
}

/// The prompt was blocked: there is no answer, and will be none elsewhere at Google.
fn blocked(reason: &Text<'_>) -> UpstreamErrorFacts {
    UpstreamErrorFacts {
        kind: UpstreamErrorKind::ContentFilter,
        retry_after: None,
        message: format!("the prompt was blocked: {}", reason.as_escaped()),
        code: Some(reason.as_escaped().to_owned()),
        param: None,
    }
}

/// The model produced something that Google itself could not use.
fn failed(word: &Text<'_>, said: Option<&Text<'_>>) -> UpstreamErrorFacts {
    let said = said.and_then(Text::unescape).unwrap_or_default();
    let message = format!(
        "the model's answer could not be used: {} {said}",
        word.as_escaped()
    );
    UpstreamErrorFacts {
        kind: UpstreamErrorKind::ServerError,
        retry_after: None,
        message: message.trim_end().to_owned(),
        code: Some(word.as_escaped().to_owned()),
        param: None,
    }
}
