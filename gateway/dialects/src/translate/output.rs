//! The client's side of a translation: gathers facts, applies the rules that concern every pair of
//! dialects, and writes.

use serde::de::IgnoredAny;

use crate::answer::Answer;
use crate::api::{AnswerFormat, ClientApi};
use crate::error::{ApiError, error_event};
use crate::facts::{FinishReason, ResponseFacts, StreamError};
use crate::json::{Object, Path, Text, Writer};
use crate::neutral::{AnswerEvent, ToolUse};
use crate::response_context::{AnswerIdentity, ResponseContext};
use crate::upstream_error::ErrorRow;
use crate::{caps, chat, messages, responses, tier};

#[derive(Debug)]
pub(super) struct TranslatedOutput {
    api: ClientApi,
    provider: &'static str,
    errors: &'static [ErrorRow],
    writer: ClientWriter,
    free_text_tools: Vec<String>,
    /// The call of a free-text tool, until it is whole.
    held: Option<ToolUse<'static>>,
    started: bool,
    had_calls: bool,
    had_refusal: bool,
    finished: bool,
    ended: bool,
}

/// The form and dialect in which the client is answered.
#[derive(Debug)]
enum ClientWriter {
    Plain(AnswerIdentity, Answer),
    Chat(chat::ChatWriter),
    Messages(messages::MessagesWriter),
    Responses(Box<responses::ResponsesWriter>),
}

impl TranslatedOutput {
    pub(super) fn new(context: &ResponseContext) -> Self {
        let identity = context.identity.clone();
        let writer = match (context.wants_stream, context.api.answer_format()) {
            (false, _) => ClientWriter::Plain(identity, Answer::default()),
            (true, AnswerFormat::Chat) => {
                ClientWriter::Chat(chat::ChatWriter::new(identity, context.wants_usage))
            }
            (true, AnswerFormat::Messages) => {
                ClientWriter::Messages(messages::MessagesWriter::new(identity))
            }
            (true, AnswerFormat::Responses) => {
                ClientWriter::Responses(Box::new(responses::ResponsesWriter::new(identity)))
            }
        };
        Self {
            api: context.api,
            provider: context.provider,
            errors: context.errors,
            writer,
            free_text_tools: context.free_text_tools.clone(),
            held: None,
            started: false,
            had_calls: false,
            had_refusal: false,
            finished: false,
            ended: false,
        }
    }

    pub(super) const fn is_stream(&self) -> bool {
        !matches!(self.writer, ClientWriter::Plain(..))
    }

    /// Whether the provider said why it stopped.
    pub(super) const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the answer is over: complete or failed.
    pub(super) const fn is_ended(&self) -> bool {
        self.ended
    }

    /// The whole answer, unless it is a stream.
    pub(super) fn plain_answer(&self) -> Option<String> {
        let ClientWriter::Plain(identity, answer) = &self.writer else {
            return None;
        };
        Some(match self.api.answer_format() {
            AnswerFormat::Chat => chat::write_plain(answer, identity),
            AnswerFormat::Messages => messages::write_plain(answer, identity),
            AnswerFormat::Responses => responses::write_plain(answer, identity),
        })
    }

    /// Bounds what is kept for the end of the answer.
    pub(super) fn check_size(&self) -> Result<(), StreamError> {
        let held = match &self.writer {
            ClientWriter::Plain(_, answer) => answer.text_bytes(),
            ClientWriter::Responses(writer) => writer.held_bytes(),
            ClientWriter::Chat(_) | ClientWriter::Messages(_) => 0,
        };
        if held > caps::TRANSLATED_BODY_BYTES_MAX {
            return Err(StreamError::TOO_LARGE);
        }
        Ok(())
    }

    /// Takes the next event of the provider.
    pub(super) fn pass(
        &mut self,
        mut event: AnswerEvent<'_>,
        facts: &mut ResponseFacts,
        w: &mut Writer,
    ) {
        if self.ended || !self.start(&event, w) {
            return;
        }
        if let AnswerEvent::Failed(error) = event {
            event = AnswerEvent::Failed(error.meant_by(self.errors));
        }
        add_to_facts(&event, facts);
        self.had_refusal |= matches!(event, AnswerEvent::Refusal(_));
        if self.hold(&event, w) {
            return;
        }
        match &mut event {
            // Only chat has a place for the signature in the call.
            AnswerEvent::ToolUse(call) if self.api.answer_format() != AnswerFormat::Chat => {
                if let Some(signature) = call.signature.take() {
                    self.emit(&AnswerEvent::Signature(signature), w);
                }
            }
            AnswerEvent::Finish { reason, .. } => {
                self.finished = true;
                // Some providers report a plain stop when they stop to call tools.
                *reason = match *reason {
                    FinishReason::Stop if self.had_calls => FinishReason::ToolCalls,
                    FinishReason::Stop if self.had_refusal => FinishReason::Refusal,
                    reason => reason,
                };
                facts.finish_reason = Some(*reason);
            }
            AnswerEvent::Failed(_) | AnswerEvent::End => self.ended = true,
            _ => {}
        }
        self.emit(&event, w);
    }

    /// Makes sure that an answer starts once, before anything else of it. Returns whether to go on
    /// with the event.
    fn start(&mut self, event: &AnswerEvent<'_>, w: &mut Writer) -> bool {
        match event {
            AnswerEvent::Start { .. } => !std::mem::replace(&mut self.started, true),
            AnswerEvent::Usage(_)
            | AnswerEvent::OtherModels(_)
            | AnswerEvent::ServiceTier(_)
            | AnswerEvent::InferenceGeo(_)
            | AnswerEvent::Alive
            | AnswerEvent::Failed(_) => true,
            _ => {
                if !std::mem::replace(&mut self.started, true) {
                    let (id, model) = (None, None);
                    self.emit(&AnswerEvent::Start { id, model }, w);
                }
                true
            }
        }
    }

    /// Holds the call of a free-text tool until it is whole. Returns whether the event is held.
    fn hold(&mut self, event: &AnswerEvent<'_>, w: &mut Writer) -> bool {
        match (event, &mut self.held) {
            (AnswerEvent::Arguments { index, part }, Some(call)) if *index == call.index => {
                call.arguments.push(part);
                return true;
            }
            (
                AnswerEvent::Usage(_)
                | AnswerEvent::OtherModels(_)
                | AnswerEvent::ServiceTier(_)
                | AnswerEvent::InferenceGeo(_)
                | AnswerEvent::Alive,
                _,
            ) => return false,
            _ => self.release(w),
        }
        let AnswerEvent::ToolUse(call) = event else {
            return false;
        };
        self.had_calls = true;
        let name = call.name.as_escaped();
        let is_free_text = self.free_text_tools.iter().any(|tool| tool == name);
        self.held = is_free_text.then(|| call.to_owned());
        is_free_text
    }

    fn release(&mut self, w: &mut Writer) {
        if let Some(mut call) = self.held.take() {
            call.arguments = free_text_input(call.arguments);
            call.is_free_text = true;
            call.signature = None;
            self.emit(&AnswerEvent::ToolUse(call), w);
        }
    }

    fn emit(&mut self, event: &AnswerEvent<'_>, w: &mut Writer) {
        if let AnswerEvent::Failed(error) = event {
            return self.fail(&error.to_api_error(self.provider), w);
        }
        match &mut self.writer {
            ClientWriter::Plain(_, answer) => answer.add(event),
            ClientWriter::Chat(writer) => writer.write(event, w),
            ClientWriter::Messages(writer) => writer.write(event, w),
            ClientWriter::Responses(writer) => writer.write(event, w),
        }
    }

    /// Writes an error into the stream.
    pub(super) fn fail(&mut self, error: &ApiError<'_>, w: &mut Writer) {
        match &mut self.writer {
            ClientWriter::Plain(..) => {}
            ClientWriter::Chat(_) | ClientWriter::Messages(_) => {
                w.verbatim(&error_event(self.api, error));
            }
            ClientWriter::Responses(writer) => writer.fail(error, w),
        }
    }
}

/// The text inside `{"input": "…"}`, or all of it if it is something else.
fn free_text_input(arguments: Text<'static>) -> Text<'static> {
    let found = arguments.unescape().and_then(|json| {
        serde_json::from_str::<IgnoredAny>(&json).ok()?;
        let mut object = Object::read(json.trim_ascii(), Path::ROOT).ok()?;
        object.text("input").ok()?.map(Text::into_owned)
    });
    found.unwrap_or(arguments)
}

fn add_to_facts(event: &AnswerEvent<'_>, facts: &mut ResponseFacts) {
    if !matches!(event, AnswerEvent::Signature(_)) {
        for text in event.texts() {
            facts.add_text(text.as_escaped().as_bytes());
        }
    }
    match event {
        AnswerEvent::Start { id, model } => {
            facts.upstream_id = id.as_ref().and_then(name);
            facts.upstream_model = model.as_ref().and_then(name);
        }
        AnswerEvent::Text(_)
        | AnswerEvent::Refusal(_)
        | AnswerEvent::Reasoning(_)
        | AnswerEvent::Signature(_)
        | AnswerEvent::ToolUse(_)
        | AnswerEvent::Arguments { .. } => facts.first_token_seen = true,
        AnswerEvent::Usage(usage) => {
            facts.usage = Some(**usage);
            facts.count_search_of_model();
        }
        AnswerEvent::OtherModels(others) => facts.other_models = others.to_vec(),
        AnswerEvent::ServiceTier(word) => tier::add_to_facts(word.as_escaped().as_bytes(), facts),
        AnswerEvent::InferenceGeo(word) => {
            tier::add_geo_to_facts(word.as_escaped().as_bytes(), facts);
        }
        AnswerEvent::Failed(error) => facts.provider_error = Some(error.clone()),
        AnswerEvent::End => facts.terminal_seen = true,
        AnswerEvent::Finish { .. } | AnswerEvent::Alive => {}
    }
}

fn name(text: &Text<'_>) -> Option<String> {
    let name = text.unescape()?;
    let fits = !name.is_empty() && name.len() <= caps::RESPONSE_NAME_BYTES_MAX;
    fits.then(|| name.into_owned())
}
