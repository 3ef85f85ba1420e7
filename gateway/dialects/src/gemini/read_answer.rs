//! A provider's `generateContent` answer, plain or streamed, into events.
//!
//! Both have one form: a stream is a sequence of answers, each with what is new. It has no last
//! event.

use std::borrow::Cow;

use super::grounding;
use crate::facts::FinishReason;
use crate::json::{self, InvalidField, JsonCursor, Object, Path, Text, each};
use crate::neutral::{AnswerEvent, EventSink, ReasoningSignature, SignatureOrigin, ToolUse, emit};
use crate::upstream_error::{UpstreamErrorFacts, UpstreamErrorKind};
use crate::usage;
use weir_schemas::Usage;

/// Reads a complete body.
pub(crate) fn read_plain(
    body: &str,
    reader: &mut GeminiReader,
    sink: &mut EventSink<'_>,
) -> json::Result<()> {
    reader.read(body, sink)?;
    if !reader.has_answer {
        return Err(InvalidField::new("candidates", "is missing or empty"));
    }
    reader.end(sink);
    sink(AnswerEvent::End);
    Ok(())
}

/// Reads a stream, answer by answer, or a body.
#[derive(Debug, Default)]
pub(crate) struct GeminiReader {
    /// How many answers were asked for.
    choices: u64,
    /// Which of them is read.
    choice: u64,
    /// Whether one of them could be used.
    has_usable: bool,
    /// Why one of several could not be used.
    failure: Option<UpstreamErrorFacts>,
    started: bool,
    /// There was a candidate, or the reason why there is none.
    has_answer: bool,
    calls: usize,
    usage: usage::MergedUsage,
    model: String,
    text_bytes: usize,
    text_chars: usize,
}

impl GeminiReader {
    pub(crate) fn new(choices: u64) -> Self {
        Self {
            choices,
            ..Self::default()
        }
    }

    /// Nothing more comes. Of several answers, those that cannot be used were left out.
    pub(crate) fn end(&mut self, sink: &mut EventSink<'_>) {
        let failure = self.failure.take().filter(|_| !self.has_usable);
        emit(sink, failure.map(AnswerEvent::Failed));
    }

    /// Reads the data of one event, which is known to be valid JSON. Where streams are not asked for
    /// as server-sent events, they are lists.
    pub(crate) fn read(&mut self, data: &str, sink: &mut EventSink<'_>) -> json::Result<()> {
        if !data.starts_with('[') {
            return self.read_one(Object::read(data, Path::ROOT)?, sink);
        }
        each(data, &Path::ROOT, |raw, path| {
            self.read_one(Object::read(raw, *path)?, sink)
        })
    }

    fn read_one(
        &mut self,
        mut answer: Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        if let Some(error) = answer.error() {
            self.has_answer = true;
            sink(AnswerEvent::failed(error));
            return Ok(());
        }
        // Counts come first, because some dialects start an answer with them.
        if let Some(raw) = answer.take("usageMetadata") {
            self.read_usage(raw, sink);
        }
        let blocked_for = answer
            .object_or_empty("promptFeedback")?
            .lenient_text("blockReason");
        self.has_answer |= blocked_for.is_some();
        emit(
            sink,
            blocked_for.map(|reason| AnswerEvent::Failed(blocked(&reason))),
        );
        if !self.started {
            self.started = true;
            let id = answer.lenient_text("responseId");
            let model = answer.lenient_text("modelVersion");
            let name = model.as_ref().and_then(Text::unescape);
            self.model = name.map(Cow::into_owned).unwrap_or_default();
            sink(AnswerEvent::Start { id, model });
        }
        let mut taken = 0;
        answer.each_object("candidates", |mut candidate| {
            let choice = choice_of(&mut candidate, &mut taken);
            if choice < self.choices {
                self.read_candidate(choice, candidate, sink)?;
            }
            Ok(())
        })
    }

    fn read_candidate(
        &mut self,
        choice: u64,
        mut candidate: Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        self.has_answer = true;
        let word = candidate.lenient_text("finishReason");
        let reason = word.as_ref().map(|word| finish_reason(word.as_escaped()));
        let failure = (reason == Some(FinishReason::Error)).then(|| {
            let said = candidate.lenient_text("finishMessage");
            failed(&word.unwrap_or_default(), said.as_ref())
        });
        if self.choices > 1 && failure.is_some() {
            sink(AnswerEvent::Lost("choices[]"));
            self.failure = failure;
            return Ok(());
        }
        self.has_usable = true;
        if choice != self.choice {
            self.choice = choice;
            (self.text_bytes, self.text_chars) = (0, 0);
            sink(AnswerEvent::Choice(choice));
        }
        let grounding = self.read_grounding(&mut candidate, sink);
        let mut content = candidate.object_or_empty("content")?;
        content.each_object("parts", |part| self.read_part(part, sink))?;
        if let Some(grounding) = grounding {
            grounding::read(grounding, self.is_ascii(), sink)?;
        }
        let end = match failure {
            Some(failure) => Some(AnswerEvent::Failed(failure)),
            None => reason.map(AnswerEvent::finish),
        };
        emit(sink, end);
        Ok(())
    }

    /// Counts the searches that Google made for the answer.
    fn read_grounding<'a>(
        &mut self,
        candidate: &mut Object<'a, '_>,
        sink: &mut EventSink<'_>,
    ) -> Option<&'a str> {
        let grounding = candidate.take("groundingMetadata");
        let queries = grounding.map_or(0, |raw| count_queries(raw.as_bytes()).unwrap_or(0));
        if queries > 0 {
            let searches = usage::grounding_searches(&self.model, queries);
            let said = Usage {
                web_searches: Some(searches),
                ..Usage::default()
            };
            sink(AnswerEvent::Usage(&self.usage.add(&said)));
        }
        grounding
    }

    /// Whether Google's places in the text, which count bytes, count characters too.
    const fn is_ascii(&self) -> bool {
        self.text_bytes == self.text_chars
    }

    fn read_usage(&mut self, raw: &str, sink: &mut EventSink<'_>) {
        let (said, tier) = usage::gemini(raw.as_bytes());
        if let Some(said) = said {
            sink(AnswerEvent::Usage(&self.usage.add(&said)));
        }
        let tier = tier.and_then(|word| str::from_utf8(word).ok());
        emit(
            sink,
            tier.map(|word| AnswerEvent::ServiceTier(Text::escaped(word))),
        );
    }

    fn read_part(
        &mut self,
        mut part: Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> json::Result<()> {
        let is_thought = part.flag("thought").ok().flatten().unwrap_or(false);
        let signature = part
            .lenient_text("thoughtSignature")
            .map(|value| ReasoningSignature::plain(SignatureOrigin::Gemini, value));
        let called = part.object("functionCall", |mut call| {
            let index = self.calls;
            self.calls += 1;
            let (id, name) = (call.lenient_text("id"), call.lenient_text("name"));
            sink(AnswerEvent::ToolUse(ToolUse {
                signature: signature.clone(),
                ..ToolUse::new(index, id, name)
            }));
            let part = Text::plain(call.take("args").unwrap_or("{}"));
            sink(AnswerEvent::Arguments { index, part });
            sink(AnswerEvent::CallEnd { index });
            Ok(())
        })?;
        if called.is_some() {
            return Ok(());
        }
        let text = part.some_text("text");
        if is_thought {
            emit(sink, text.map(AnswerEvent::Reasoning));
            return Ok(());
        }
        if let Some(plain) = text.as_ref().and_then(Text::unescape) {
            self.text_bytes += plain.len();
            self.text_chars += plain.chars().count();
        }
        if text.is_none() {
            self.lose(&part, sink);
        }
        emit(sink, text.map(AnswerEvent::Text));
        Ok(())
    }

    /// Lists what a part holds that other dialects have no place for.
    fn lose(&self, part: &Object<'_, '_>, sink: &mut EventSink<'_>) {
        for key in part.remaining() {
            let known = PARTS_WITHOUT_TEXT.iter().find(|known| **known == key);
            sink(AnswerEvent::Lost(known.copied().unwrap_or("parts")));
        }
    }
}

/// Which answer a candidate is: the one that it names, or else the first that is not taken. `taken` has
/// a bit for each.
fn choice_of(candidate: &mut Object<'_, '_>, taken: &mut u64) -> u64 {
    let bit = |choice: u32| 1_u64.checked_shl(choice).unwrap_or(0);
    let named = candidate.take("index").and_then(|index| index.parse().ok());
    let choice = named
        .filter(|choice| bit(*choice) & !*taken != 0)
        .unwrap_or_else(|| taken.trailing_ones());
    *taken |= bit(choice);
    u64::from(choice)
}

/// Pictures and sound, and what Google's own tools add to an answer.
const PARTS_WITHOUT_TEXT: &[&str] = &[
    "inlineData",
    "fileData",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
];

fn count_queries(grounding: &[u8]) -> Option<u64> {
    let mut queries = 0;
    JsonCursor::new(grounding).object(|key, cursor| match key {
        b"webSearchQueries" if cursor.peek()? == b'[' => cursor.array(|cursor| {
            queries += 1;
            cursor.skip()
        }),
        _ => cursor.skip(),
    })?;
    Some(queries)
}

/// Gemini's finish reasons.
fn finish_reason(word: &str) -> FinishReason {
    match word {
        "STOP" => FinishReason::Stop,
        "MAX_TOKENS" => FinishReason::Length,
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "MODEL_ARMOR" => FinishReason::ContentFilter,
        "MALFORMED_FUNCTION_CALL"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "MISSING_THOUGHT_SIGNATURE"
        | "MALFORMED_RESPONSE" => FinishReason::Error,
        _ => FinishReason::Other,
    }
}

/// The prompt was blocked, as it would be at any Google endpoint.
fn blocked(reason: &Text<'_>) -> UpstreamErrorFacts {
    UpstreamErrorFacts {
        kind: UpstreamErrorKind::ContentFilter,
        retry_after: None,
        message: format!("the prompt was blocked: {}", reason.as_escaped()),
        code: Some(reason.as_escaped().to_owned()),
        param: None,
    }
}

/// The model's answer was unusable to Google itself.
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
