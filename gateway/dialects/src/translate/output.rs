//! The client's side of a translation: gathers facts, applies the rules that concern every pair of
//! dialects, and writes.

use super::citations::Citations;
use super::turns::Turns;
use crate::answer::Answer;
use crate::api::{AnswerFormat, ClientApi};
use crate::error::{ApiError, error_event};
use crate::facts::{FinishReason, ResponseFacts, StreamError};
use crate::json::{Text, Writer};
use crate::neutral::{AnswerEvent, Citation};
use crate::response_context::{AnswerIdentity, ResponseContext};
use crate::upstream_error::ErrorRow;
use crate::{caps, chat, messages, responses, tier};

#[derive(Debug)]
pub(super) struct TranslatedOutput {
    client: Client,
    started: bool,
    /// What the provider is saying.
    choice: OpenChoice,
    /// The other choices that it began, where a client asked for several.
    others: Vec<OpenChoice>,
    ended: bool,
}

/// One of the answers that the client asked for.
#[derive(Debug, Default)]
struct OpenChoice {
    index: u64,
    turns: Turns,
    citations: Citations,
    had_calls: bool,
    had_refusal: bool,
    /// Why the provider stopped, as far as it said. It is passed on with the end.
    finish: Option<(FinishReason, Option<Text<'static>>)>,
    /// Why it ended the answer as a refusal.
    explanation: Option<Text<'static>>,
}

/// Whoever is answered.
#[derive(Debug)]
struct Client {
    api: ClientApi,
    provider: &'static str,
    errors: &'static [ErrorRow],
    writer: ClientWriter,
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
        Self {
            client: Client::new(context),
            started: false,
            choice: OpenChoice {
                turns: Turns::new(context),
                ..OpenChoice::default()
            },
            others: Vec::new(),
            ended: false,
        }
    }

    pub(super) const fn is_stream(&self) -> bool {
        !matches!(self.client.writer, ClientWriter::Plain(..))
    }

    /// Whether the provider said why it stopped.
    pub(super) fn is_finished(&self) -> bool {
        let mut choices = self.others.iter().chain([&self.choice]);
        choices.any(|choice| choice.finish.is_some())
    }

    /// Whether the answer is over: complete or failed.
    pub(super) const fn is_ended(&self) -> bool {
        self.ended
    }

    /// The whole answer, unless it is a stream.
    pub(super) fn plain_answer(&self) -> Option<String> {
        let ClientWriter::Plain(identity, answer) = &self.client.writer else {
            return None;
        };
        Some(match self.client.api.answer_format() {
            AnswerFormat::Chat => chat::write_plain(answer, identity),
            AnswerFormat::Messages => messages::write_plain(answer, identity),
            AnswerFormat::Responses => responses::write_plain(answer, identity),
        })
    }

    /// Bounds what is kept for the end of the answer, and what is held back, here and by the reader.
    pub(super) fn check_size(&self, held_bytes: usize) -> Result<(), StreamError> {
        let kept = match &self.client.writer {
            ClientWriter::Plain(_, answer) => answer.text_bytes(),
            ClientWriter::Responses(writer) => writer.held_bytes(),
            ClientWriter::Chat(_) | ClientWriter::Messages(_) => 0,
        };
        if kept > caps::TRANSLATED_BODY_BYTES_MAX {
            return Err(StreamError::TOO_LARGE);
        }
        for other in &self.others {
            other.turns.check(0)?;
        }
        self.choice.turns.check(held_bytes)
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
        if let AnswerEvent::Failed(error) = &mut event {
            *error = error.clone().meant_by(self.client.errors);
        }
        add_to_facts(&event, facts);
        match &event {
            AnswerEvent::Choice(index) => return self.turn_to(*index, w),
            AnswerEvent::Refusal(_) => self.choice.had_refusal = true,
            AnswerEvent::ToolUse(_) => self.choice.had_calls = true,
            AnswerEvent::Finish {
                reason,
                stop_sequence,
            } => {
                let stop_sequence = stop_sequence.clone().map(Text::into_owned);
                self.choice.finish = Some((*reason, stop_sequence));
                facts.finish_reason = Some(self.choice.reason(*reason));
                return;
            }
            AnswerEvent::Explanation(text) => {
                self.choice.explanation = Some(text.clone().into_owned());
                return;
            }
            AnswerEvent::Citation(citation) => {
                if let Some(citation) = self.choice.citations.place(citation) {
                    self.cite(citation, facts, w);
                }
                return;
            }
            AnswerEvent::Lost(what) => return facts.lose(what),
            AnswerEvent::Failed(_) => self.ended = true,
            AnswerEvent::End => return self.end(facts, w),
            _ => {}
        }
        self.choice.citations.follow(&event);
        let client = &mut self.client;
        self.choice
            .turns
            .pass(&event, &mut |event| client.emit(event, w));
    }

    /// Goes on with another of the choices.
    fn turn_to(&mut self, index: u64, w: &mut Writer) {
        let known = self.others.iter().position(|other| other.index == index);
        let other = match known {
            Some(at) => self.others.swap_remove(at),
            None => OpenChoice {
                index,
                turns: self.choice.turns.of_another_choice(),
                ..OpenChoice::default()
            },
        };
        let before = std::mem::replace(&mut self.choice, other);
        self.others.push(before);
        self.client.emit(&AnswerEvent::Choice(index), w);
    }

    /// Ends the answer.
    fn end(&mut self, facts: &mut ResponseFacts, w: &mut Writer) {
        self.ended = true;
        // Those that were left out of several choices were not answered.
        self.others.retain(OpenChoice::is_answered);
        self.end_choice(facts, w);
        while let Some(other) = self.others.pop() {
            self.choice = other;
            self.client.emit(&AnswerEvent::Choice(self.choice.index), w);
            self.end_choice(facts, w);
        }
        self.client.emit(&AnswerEvent::End, w);
    }

    /// Ends a choice. A provider that does not say why it stopped, stopped for what it did.
    fn end_choice(&mut self, facts: &mut ResponseFacts, w: &mut Writer) {
        let choice = &mut self.choice;
        let (reason, stop_sequence) = choice.finish.take().unwrap_or((FinishReason::Stop, None));
        // A model that declines has answered. A provider that stops it has filtered the answer.
        let was_stopped = reason == FinishReason::Refusal;
        let mut reason = choice.reason(reason);
        facts.finish_reason = Some(reason);
        if was_stopped {
            reason = FinishReason::ContentFilter;
        }
        let client = &mut self.client;
        choice.turns.end(&mut |event| client.emit(event, w));
        for citation in choice.citations.rest() {
            self.cite(citation, facts, w);
        }
        if let Some(text) = self.choice.explanation.take() {
            self.client.explain(text, w);
        }
        if self.others.is_empty() {
            for what in &facts.lost {
                self.client.emit(&AnswerEvent::Lost(what), w);
            }
        }
        let finish = AnswerEvent::Finish {
            reason,
            stop_sequence,
        };
        self.client.emit(&finish, w);
    }

    /// Passes a citation on to where its text is, which a stream may have left.
    fn cite(&mut self, citation: Citation<'static>, facts: &mut ResponseFacts, w: &mut Writer) {
        let format = self.client.api.answer_format();
        let is_open = !self.is_stream() || format == AnswerFormat::Chat;
        if !self.choice.citations.has_text() || !(is_open || self.choice.citations.is_in_text()) {
            return facts.lose("citations");
        }
        let citation = match format {
            AnswerFormat::Responses => self.choice.citations.in_item(citation),
            AnswerFormat::Chat | AnswerFormat::Messages => citation,
        };
        self.client.emit(&AnswerEvent::Citation(citation), w);
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
                    self.client.emit(&AnswerEvent::Start { id, model }, w);
                }
                true
            }
        }
    }

    /// Writes an error into the stream.
    pub(super) fn fail(&mut self, error: &ApiError<'_>, w: &mut Writer) {
        self.client.fail(error, w);
    }
}

impl OpenChoice {
    const fn is_answered(&self) -> bool {
        self.finish.is_some() || self.had_calls || self.had_refusal || self.citations.has_text()
    }

    /// Some providers report a plain stop when they stop to call tools.
    const fn reason(&self, said: FinishReason) -> FinishReason {
        match said {
            FinishReason::Stop if self.had_calls => FinishReason::ToolCalls,
            FinishReason::Stop if self.had_refusal => FinishReason::Refusal,
            reason => reason,
        }
    }
}

impl Client {
    /// Says why the answer was ended. Only Anthropic's dialect has a place for it beside the answer.
    fn explain(&mut self, text: Text<'static>, w: &mut Writer) {
        let event = match self.api.answer_format() {
            AnswerFormat::Messages => AnswerEvent::Explanation(text),
            AnswerFormat::Chat | AnswerFormat::Responses => AnswerEvent::Refusal(text),
        };
        self.emit(&event, w);
    }

    fn new(context: &ResponseContext) -> Self {
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
        }
    }

    fn emit(&mut self, event: &AnswerEvent<'_>, w: &mut Writer) {
        match event {
            AnswerEvent::Failed(error) => self.fail(&error.to_api_error(self.provider), w),
            AnswerEvent::ToolUse(call) => {
                // Only chat has a place for the signature in the call.
                if let Some(signature) = &call.signature
                    && self.api.answer_format() != AnswerFormat::Chat
                {
                    self.write(&AnswerEvent::Signature(signature.to_owned()), w);
                }
                self.write(event, w);
            }
            _ => self.write(event, w),
        }
    }

    fn write(&mut self, event: &AnswerEvent<'_>, w: &mut Writer) {
        match &mut self.writer {
            ClientWriter::Plain(_, answer) => answer.add(event),
            ClientWriter::Chat(writer) => writer.write(event, w),
            ClientWriter::Messages(writer) => writer.write(event, w),
            ClientWriter::Responses(writer) => writer.write(event, w),
        }
    }

    fn fail(&mut self, error: &ApiError<'_>, w: &mut Writer) {
        match &mut self.writer {
            ClientWriter::Plain(..) => {}
            ClientWriter::Chat(_) | ClientWriter::Messages(_) => {
                w.verbatim(&error_event(self.api.family(), error));
            }
            ClientWriter::Responses(writer) => writer.fail(error, w),
        }
    }
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
        | AnswerEvent::Explanation(_)
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
        AnswerEvent::Citation(_) | AnswerEvent::Lost(_) => {}
        AnswerEvent::Choice(_)
        | AnswerEvent::CallEnd { .. }
        | AnswerEvent::Finish { .. }
        | AnswerEvent::Alive => {}
    }
}

fn name(text: &Text<'_>) -> Option<String> {
    let name = text.unescape()?;
    let fits = !name.is_empty() && name.len() <= caps::RESPONSE_NAME_BYTES_MAX;
    fits.then(|| name.into_owned())
}
