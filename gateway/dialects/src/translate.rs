//! An answer in one dialect, turned into an answer in another.
//!
//! What the provider sends is read into events, and each event is written at once in the client's
//! words. Of a stream nothing is kept beyond the event that is being read, except where the
//! client's dialect wants the whole answer again at its end. A plain answer is collected, within
//! [`caps::TRANSLATED_BODY_BYTES_MAX`].

use bytes::Bytes;
use serde::de::IgnoredAny;

use crate::answer::{Answer, Identity};
use crate::api::{ClientApi, UpstreamApi};
use crate::error::{ApiError, error_event};
use crate::json::{Invalid, Object, Path, Text, Writer};
use crate::neutral::Event;
use crate::response::{Exchange, FinishReason, ResponseFacts, StreamError};
use crate::sse::{Found, SseReader, Verdict};
use crate::{caps, chat, gemini, messages, responses, tier};

#[derive(Debug)]
pub(crate) struct Translator {
    source: Source,
    reader: Reader,
    filter: Filter,
    sink: Sink,
    provider: &'static str,
    /// What was written before the answer turned out to be bad. It comes before the error.
    unsent: String,
}

/// The form in which the provider answers.
#[derive(Debug)]
enum Source {
    Stream(SseReader),
    Plain(Vec<u8>),
}

/// The dialect in which the provider answers.
#[derive(Debug)]
enum Reader {
    Chat(chat::StreamReader),
    Messages(messages::StreamReader),
    Responses(responses::StreamReader),
    Gemini(gemini::StreamReader),
}

/// The form and dialect in which the client is answered.
#[derive(Debug)]
enum Sink {
    Plain(ClientApi, Identity, Answer),
    Chat(chat::StreamWriter),
    Messages(messages::StreamWriter),
    Responses(Box<responses::StreamWriter>),
}

impl Translator {
    pub(crate) fn new(exchange: &Exchange, is_stream: bool) -> Self {
        let source = if is_stream {
            Source::Stream(SseReader::default())
        } else {
            Source::Plain(Vec::new())
        };
        Self {
            source,
            reader: Reader::new(exchange.upstream),
            filter: Filter::new(exchange),
            sink: Sink::new(exchange),
            provider: exchange.provider,
            unsent: String::new(),
        }
    }

    /// Whether the client gets a stream.
    pub(crate) const fn writes_stream(&self) -> bool {
        !matches!(self.sink, Sink::Plain(..))
    }

    pub(crate) fn push(
        &mut self,
        input: &Bytes,
        facts: &mut ResponseFacts,
    ) -> Result<Bytes, StreamError> {
        match &mut self.source {
            Source::Plain(body) => {
                if body.len() + input.len() > caps::TRANSLATED_BODY_BYTES_MAX {
                    return Err(too_large());
                }
                body.extend_from_slice(input);
                Ok(Bytes::new())
            }
            Source::Stream(_) => {
                let mut w = Writer::with_capacity(2 * input.len() + 256);
                let read = self.read_events(Some(input), facts, &mut w);
                self.written(w, read)
            }
        }
    }

    pub(crate) fn finish(&mut self, facts: &mut ResponseFacts) -> Result<Bytes, StreamError> {
        let mut w = Writer::default();
        let read = self.read_rest(facts, &mut w);
        let rest = self.written(w, read)?;
        match &self.sink {
            Sink::Plain(api, identity, answer) => match &facts.provider_error {
                Some(error) => Err(StreamError::Provider(error.clone())),
                None => Ok(write_plain(*api, answer, identity).into()),
            },
            _ => Ok(rest),
        }
    }

    fn written(&mut self, w: Writer, read: Result<(), StreamError>) -> Result<Bytes, StreamError> {
        match read {
            Ok(()) => Ok(w.into_string().into()),
            Err(error) => {
                self.unsent = w.into_string();
                Err(error)
            }
        }
    }

    /// Reads what is left at the end, and ends the answer.
    fn read_rest(&mut self, facts: &mut ResponseFacts, w: &mut Writer) -> Result<(), StreamError> {
        match &mut self.source {
            Source::Plain(body) => {
                let body = std::mem::take(body);
                self.read_body(&body, facts, w)?;
            }
            Source::Stream(_) => match self.read_events(None, facts, w) {
                // What is left at the end and makes no sense was cut off.
                Err(StreamError::Malformed { .. }) => return Err(StreamError::Truncated),
                read => read?,
            },
        }
        match (self.filter.ended, self.filter.finished) {
            (true, _) => Ok(()),
            (false, false) => Err(StreamError::Truncated),
            // Gemini has no last event, and some servers leave theirs out.
            (false, true) => self.emit(&Event::End, facts, w),
        }
    }

    /// Ends a stream that cannot go on.
    pub(crate) fn fail(&mut self, api: ClientApi, error: &ApiError<'_>) -> Bytes {
        let mut w = Writer::default();
        w.verbatim(&std::mem::take(&mut self.unsent));
        match &mut self.sink {
            Sink::Plain(..) => {}
            Sink::Responses(writer) => writer.fail(error, &mut w),
            Sink::Chat(_) | Sink::Messages(_) => w.verbatim(&as_text(&error_event(api, error))),
        }
        w.into_string().into()
    }

    /// Reads the events that the input completes; without input, what is left at the end.
    fn read_events(
        &mut self,
        input: Option<&Bytes>,
        facts: &mut ResponseFacts,
        w: &mut Writer,
    ) -> Result<(), StreamError> {
        let Self {
            source,
            reader,
            filter,
            sink,
            provider,
            ..
        } = self;
        let Source::Stream(events) = source else {
            return Ok(());
        };
        let mut failed = None;
        let judge = |found: Found<'_>| {
            if failed.is_none() {
                let mut emit = |event: &Event<'_>, facts: &mut ResponseFacts| {
                    sink.write(event, provider, facts, w);
                };
                failed = read_found(found, reader, filter, facts, &mut emit).err();
            }
            Verdict::Drop
        };
        match input {
            Some(input) => events.push(input, judge),
            None => events.finish(judge),
        };
        match failed {
            Some(error) => Err(error),
            None => self.check_size(),
        }
    }

    fn read_body(
        &mut self,
        body: &[u8],
        facts: &mut ResponseFacts,
        w: &mut Writer,
    ) -> Result<(), StreamError> {
        let Self {
            reader,
            filter,
            sink,
            provider,
            ..
        } = self;
        let body = valid_json(body)?;
        let mut emit = |event: Event<'_>| {
            filter.pass(event, facts, &mut |event, facts| {
                sink.write(event, provider, facts, w)
            });
        };
        let read = match reader {
            Reader::Chat(_) => chat::read_plain(body, &mut emit),
            Reader::Messages(_) => messages::read_plain(body, &mut emit),
            Reader::Responses(_) => responses::read_plain(body, &mut emit),
            Reader::Gemini(_) => gemini::read_plain(body, &mut emit),
        };
        read.map_err(malformed)
    }

    fn emit(
        &mut self,
        event: &Event<'_>,
        facts: &mut ResponseFacts,
        w: &mut Writer,
    ) -> Result<(), StreamError> {
        let Self {
            filter,
            sink,
            provider,
            ..
        } = self;
        filter.pass(event.clone(), facts, &mut |event, facts| {
            sink.write(event, provider, facts, w);
        });
        self.check_size()
    }

    /// Bounds what is kept for the end of the answer.
    fn check_size(&self) -> Result<(), StreamError> {
        let held = match &self.sink {
            Sink::Plain(_, _, answer) => answer.text_bytes(),
            Sink::Responses(writer) => writer.held_bytes(),
            Sink::Chat(_) | Sink::Messages(_) => 0,
        };
        if held > caps::TRANSLATED_BODY_BYTES_MAX {
            Err(too_large())
        } else {
            Ok(())
        }
    }
}

/// Hands on an event to whoever writes it.
type Emit<'e> = dyn FnMut(&Event<'_>, &mut ResponseFacts) + 'e;

fn read_found(
    found: Found<'_>,
    reader: &mut Reader,
    filter: &mut Filter,
    facts: &mut ResponseFacts,
    emit: &mut Emit<'_>,
) -> Result<(), StreamError> {
    let event = match found {
        Found::Event(event) => event,
        Found::Filler { is_comment: true } => {
            filter.pass(Event::Alive, facts, emit);
            return Ok(());
        }
        Found::Filler { is_comment: false } => return Ok(()),
        Found::Oversized => return Err(too_large()),
    };
    if event.data.is_empty() {
        return Ok(());
    }
    let data = if event.data == b"[DONE]" {
        "[DONE]"
    } else {
        valid_json(event.data)?
    };
    let text_before = facts.text_bytes;
    let mut sink = |event: Event<'_>| filter.pass(event, facts, emit);
    let read = match reader {
        Reader::Chat(reader) => reader.read(data, &mut sink),
        Reader::Messages(reader) => reader.read(data, &mut sink),
        Reader::Responses(reader) => reader.read(data, &mut sink),
        Reader::Gemini(reader) => reader.read(data, &mut sink),
    };
    if facts.text_bytes > text_before {
        facts.text_chunks += 1;
    }
    read.map_err(malformed)
}

/// What is taken apart without looking must be JSON, or it could break the frames it is put into.
pub(crate) fn valid_json(bytes: &[u8]) -> Result<&str, StreamError> {
    let text = std::str::from_utf8(bytes).map_err(|error| malformed_because(&error.to_string()))?;
    serde_json::from_str::<IgnoredAny>(text)
        .map_err(|error| malformed_because(&error.to_string()))?;
    Ok(text.trim_ascii())
}

pub(crate) fn malformed(invalid: Invalid) -> StreamError {
    malformed_because(&format!("`{}` {}", invalid.field, invalid.reason))
}

fn malformed_because(reason: &str) -> StreamError {
    StreamError::Malformed {
        reason: reason.to_owned(),
    }
}

const fn too_large() -> StreamError {
    StreamError::TooLarge {
        bytes_max: caps::TRANSLATED_BODY_BYTES_MAX,
    }
}

fn write_plain(api: ClientApi, answer: &Answer, identity: &Identity) -> String {
    match api.shape() {
        Shape::Chat => chat::write_plain(answer, identity),
        Shape::Messages => messages::write_plain(answer, identity),
        Shape::Responses => responses::write_plain(answer, identity),
    }
}

/// Which of the three shapes an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Chat,
    Messages,
    Responses,
}

impl ClientApi {
    const fn shape(self) -> Shape {
        match self {
            Self::ChatCompletions | Self::Embeddings => Shape::Chat,
            Self::Messages | Self::CountTokens => Shape::Messages,
            Self::Responses => Shape::Responses,
        }
    }
}

impl Reader {
    fn new(upstream: UpstreamApi) -> Self {
        match upstream {
            UpstreamApi::ChatCompletions | UpstreamApi::Embeddings => {
                Self::Chat(Default::default())
            }
            UpstreamApi::Messages | UpstreamApi::CountTokens => Self::Messages(Default::default()),
            UpstreamApi::Responses => Self::Responses(Default::default()),
            UpstreamApi::GenerateContent
            | UpstreamApi::GeminiCountTokens
            | UpstreamApi::BatchEmbedContents => Self::Gemini(Default::default()),
        }
    }
}

impl Sink {
    fn new(exchange: &Exchange) -> Self {
        let identity = exchange.identity.clone();
        match (exchange.wants_stream, exchange.api.shape()) {
            (false, _) => Self::Plain(exchange.api, identity, Answer::default()),
            (true, Shape::Chat) => {
                Self::Chat(chat::StreamWriter::new(identity, exchange.wants_usage))
            }
            (true, Shape::Messages) => Self::Messages(messages::StreamWriter::new(identity)),
            (true, Shape::Responses) => {
                Self::Responses(Box::new(responses::StreamWriter::new(identity)))
            }
        }
    }

    fn write(&mut self, event: &Event<'_>, provider: &str, facts: &ResponseFacts, w: &mut Writer) {
        if let (Event::Failed(_), Some(error)) = (event, &facts.provider_error) {
            let error = error.to_api_error(provider);
            match self {
                Self::Plain(..) => {}
                Self::Chat(_) => {
                    w.verbatim(&as_text(&error_event(ClientApi::ChatCompletions, &error)))
                }
                Self::Messages(_) => {
                    w.verbatim(&as_text(&error_event(ClientApi::Messages, &error)))
                }
                Self::Responses(writer) => writer.fail(&error, w),
            }
            return;
        }
        match self {
            Self::Plain(_, _, answer) => answer.note(event),
            Self::Chat(writer) => writer.write(event, w),
            Self::Messages(writer) => writer.write(event, w),
            Self::Responses(writer) => writer.write(event, w),
        }
    }
}

fn as_text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Stands between reader and writer: keeps the facts, and settles what concerns every pair.
#[derive(Debug)]
struct Filter {
    /// Whether a call's proof is a thing of its own: only chat has a place for it in the call.
    splits_proofs: bool,
    free_text_tools: Vec<String>,
    /// The call of such a tool, until it is whole.
    pending: Option<Pending>,
    started: bool,
    had_calls: bool,
    had_refusal: bool,
    finished: bool,
    ended: bool,
}

#[derive(Debug)]
struct Pending {
    index: usize,
    id: Option<Text<'static>>,
    name: Text<'static>,
    arguments: Text<'static>,
}

impl Filter {
    fn new(exchange: &Exchange) -> Self {
        Self {
            splits_proofs: exchange.api.shape() != Shape::Chat,
            free_text_tools: exchange.free_text_tools.clone(),
            pending: None,
            started: false,
            had_calls: false,
            had_refusal: false,
            finished: false,
            ended: false,
        }
    }

    fn pass(&mut self, event: Event<'_>, facts: &mut ResponseFacts, emit: &mut Emit<'_>) {
        if self.ended {
            return;
        }
        if !self.start(&event, facts, emit) {
            return;
        }
        note(&event, facts);
        self.had_refusal |= matches!(event, Event::Refusal(_));
        if self.hold(&event, facts, emit) {
            return;
        }
        match event {
            Event::ToolCall {
                index,
                id,
                name,
                proof: Some(proof),
            } if self.splits_proofs => {
                emit(&Event::Proof(proof), facts);
                emit(
                    &Event::ToolCall {
                        index,
                        id,
                        name,
                        proof: None,
                    },
                    facts,
                );
            }
            Event::Finish {
                reason,
                stop_sequence,
            } => {
                self.finished = true;
                // Some providers say that they stopped when they stopped to call tools.
                let reason = match reason {
                    FinishReason::Stop if self.had_calls => FinishReason::ToolCalls,
                    FinishReason::Stop if self.had_refusal => FinishReason::Refusal,
                    reason => reason,
                };
                facts.finish_reason = Some(reason);
                emit(
                    &Event::Finish {
                        reason,
                        stop_sequence,
                    },
                    facts,
                );
            }
            Event::Failed(_) | Event::End => {
                self.ended = true;
                emit(&event, facts);
            }
            event => emit(&event, facts),
        }
    }

    /// Sees to it that an answer starts once, before anything else of it. Returns whether the event
    /// is to go on.
    fn start(&mut self, event: &Event<'_>, facts: &mut ResponseFacts, emit: &mut Emit<'_>) -> bool {
        match event {
            Event::Start { .. } => !std::mem::replace(&mut self.started, true),
            Event::Usage(_) | Event::ServiceTier(_) | Event::Alive | Event::Failed(_) => true,
            _ => {
                if !std::mem::replace(&mut self.started, true) {
                    emit(
                        &Event::Start {
                            id: None,
                            model: None,
                        },
                        facts,
                    );
                }
                true
            }
        }
    }

    /// Keeps what belongs to the call of a free-text tool, and hands it on when it is whole.
    fn hold(&mut self, event: &Event<'_>, facts: &mut ResponseFacts, emit: &mut Emit<'_>) -> bool {
        match (event, &mut self.pending) {
            (Event::Arguments { index, part }, Some(pending)) if *index == pending.index => {
                pending.arguments.push(part);
                return true;
            }
            (Event::Usage(_) | Event::ServiceTier(_) | Event::Alive, _) => return false,
            _ => self.release(facts, emit),
        }
        let Event::ToolCall {
            index, id, name, ..
        } = event
        else {
            return false;
        };
        self.had_calls = true;
        if !self
            .free_text_tools
            .iter()
            .any(|tool| tool == name.as_escaped())
        {
            return false;
        }
        self.pending = Some(Pending {
            index: *index,
            id: id.clone().map(Text::into_owned),
            name: name.clone().into_owned(),
            arguments: Text::EMPTY,
        });
        true
    }

    fn release(&mut self, facts: &mut ResponseFacts, emit: &mut Emit<'_>) {
        if let Some(Pending {
            index,
            id,
            name,
            arguments,
        }) = self.pending.take()
        {
            let input = free_text_input(&arguments);
            emit(
                &Event::FreeTextCall {
                    index,
                    id,
                    name,
                    input,
                },
                facts,
            );
        }
    }
}

/// The text inside of `{"input": "…"}`, or all of it if it is something else.
fn free_text_input(arguments: &Text<'static>) -> Text<'static> {
    let found = arguments.unescape().and_then(|json| {
        serde_json::from_str::<IgnoredAny>(&json).ok()?;
        let mut object = Object::read(json.trim_ascii(), Path::ROOT).ok()?;
        object.text("input").ok()?.map(Text::into_owned)
    });
    found.unwrap_or_else(|| arguments.clone())
}

fn note(event: &Event<'_>, facts: &mut ResponseFacts) {
    if !matches!(event, Event::Proof(_)) {
        for text in event.texts() {
            facts.add_text(text.as_escaped().as_bytes());
        }
    }
    match event {
        Event::Start { id, model } => {
            facts.upstream_id = id.as_ref().and_then(name);
            facts.upstream_model = model.as_ref().and_then(name);
        }
        Event::Text(_)
        | Event::Refusal(_)
        | Event::Reasoning(_)
        | Event::Proof(_)
        | Event::ToolCall { .. }
        | Event::Arguments { .. }
        | Event::FreeTextCall { .. } => facts.first_token_seen = true,
        Event::Usage(usage) => facts.usage = Some(*usage),
        Event::ServiceTier(word) => tier::note(word.as_escaped().as_bytes(), facts),
        Event::Failed(error) => facts.provider_error = Some(error.clone()),
        Event::End => facts.terminal_seen = true,
        Event::Finish { .. } | Event::Alive => {}
    }
}

fn name(text: &Text<'_>) -> Option<String> {
    let name = text.unescape()?;
    let fits = !name.is_empty() && name.len() <= caps::RESPONSE_NAME_BYTES_MAX;
    fits.then(|| name.into_owned())
}
