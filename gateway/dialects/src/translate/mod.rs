//! An answer in one dialect, translated into another.
//!
//! The provider's bytes are read into events, and each event is written at once in the client's
//! dialect. Of a stream only the unfinished event is kept, unless the client's dialect repeats the
//! whole answer at its end. A plain answer is collected, within
//! [`TRANSLATED_BODY_BYTES_MAX`](crate::caps::TRANSLATED_BODY_BYTES_MAX).

mod citations;
mod output;
mod turns;

use bytes::Bytes;

use self::output::TranslatedOutput;
use crate::api::UpstreamApi;
use crate::convert::collect;
use crate::error::ApiError;
use crate::facts::{ResponseFacts, StreamError};
use crate::json::{self, Writer};
use crate::neutral::{AnswerEvent, EventSink};
use crate::response_context::ResponseContext;
use crate::sse::{SseItem, SseReader, Verdict};
use crate::{chat, gemini, messages, responses};

#[derive(Debug)]
pub(crate) struct Translator {
    source: AnswerSource,
    reader: DialectReader,
    output: TranslatedOutput,
    /// What was written before the answer turned out to be bad. It precedes the error.
    unsent: String,
}

/// The form in which the provider answers.
#[derive(Debug)]
enum AnswerSource {
    Stream(SseReader),
    Plain(Vec<u8>),
}

/// The dialect in which the provider answers.
#[derive(Debug)]
enum DialectReader {
    Chat(chat::ChatReader),
    Messages(messages::MessagesReader),
    Responses(responses::ResponsesReader),
    Gemini(gemini::GeminiReader),
}

impl Translator {
    pub(crate) fn new(context: &ResponseContext, is_stream: bool) -> Self {
        let source = if is_stream {
            AnswerSource::Stream(SseReader::default())
        } else {
            AnswerSource::Plain(Vec::new())
        };
        Self {
            source,
            reader: DialectReader::new(context),
            output: TranslatedOutput::new(context),
            unsent: String::new(),
        }
    }

    /// Whether the provider sends a stream.
    pub(crate) const fn reads_stream(&self) -> bool {
        matches!(self.source, AnswerSource::Stream(_))
    }

    /// Whether the client gets a stream.
    pub(crate) const fn writes_stream(&self) -> bool {
        self.output.is_stream()
    }

    pub(crate) fn push(
        &mut self,
        input: &Bytes,
        facts: &mut ResponseFacts,
    ) -> Result<Bytes, StreamError> {
        match &mut self.source {
            AnswerSource::Plain(body) => {
                collect(body, input)?;
                Ok(Bytes::new())
            }
            AnswerSource::Stream(_) => {
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
        match (self.output.plain_answer(), &facts.provider_error) {
            (None, _) => Ok(rest),
            (Some(_), Some(error)) => Err(StreamError::Provider(error.clone())),
            (Some(answer), None) => Ok(answer.into()),
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
            AnswerSource::Plain(body) => {
                let body = std::mem::take(body);
                self.read_body(&body, facts, w)?;
            }
            AnswerSource::Stream(_) => match self.read_events(None, facts, w) {
                // An unreadable rest was cut off.
                Err(StreamError::Malformed { .. }) => return Err(StreamError::Truncated),
                read => read?,
            },
        }
        if self.output.is_ended() {
            return Ok(());
        }
        let sink = &mut |event: AnswerEvent<'_>| self.output.pass(event, facts, w);
        let read = self.reader.end(sink);
        read.map_err(StreamError::malformed)?;
        if !self.output.is_finished() && !self.output.is_ended() {
            return Err(StreamError::Truncated);
        }
        // Gemini has no last event, and some servers leave theirs out.
        self.output.pass(AnswerEvent::End, facts, w);
        self.output.check_size(0)
    }

    /// Ends a stream that cannot go on.
    pub(crate) fn fail(&mut self, error: &ApiError<'_>) -> String {
        let mut w = Writer::default();
        w.verbatim(&std::mem::take(&mut self.unsent));
        self.output.fail(error, &mut w);
        w.into_string()
    }

    /// Reads the events that the input completes; without input, what is left at the end.
    fn read_events(
        &mut self,
        input: Option<&Bytes>,
        facts: &mut ResponseFacts,
        w: &mut Writer,
    ) -> Result<(), StreamError> {
        let AnswerSource::Stream(events) = &mut self.source else {
            return Ok(());
        };
        let (reader, output) = (&mut self.reader, &mut self.output);
        let mut failed = None;
        let judge = |item: SseItem<'_>| {
            if failed.is_none() {
                failed = read_item(item, reader, output, facts, w).err();
            }
            Verdict::Drop
        };
        match input {
            Some(input) => events.push(input, judge),
            None => events.finish(judge),
        };
        match failed {
            Some(error) => Err(error),
            None => self.output.check_size(self.reader.held_bytes()),
        }
    }

    fn read_body(
        &mut self,
        body: &[u8],
        facts: &mut ResponseFacts,
        w: &mut Writer,
    ) -> Result<(), StreamError> {
        let body = json::valid(body).map_err(StreamError::malformed)?;
        let mut sink = |event: AnswerEvent<'_>| self.output.pass(event, facts, w);
        let read = match &mut self.reader {
            DialectReader::Chat(_) => chat::read_plain(body, &mut sink),
            DialectReader::Messages(_) => messages::read_plain(body, &mut sink),
            DialectReader::Responses(_) => responses::read_plain(body, &mut sink),
            DialectReader::Gemini(reader) => gemini::read_plain(body, reader, &mut sink),
        };
        read.map_err(StreamError::malformed)
    }
}

fn read_item(
    item: SseItem<'_>,
    reader: &mut DialectReader,
    output: &mut TranslatedOutput,
    facts: &mut ResponseFacts,
    w: &mut Writer,
) -> Result<(), StreamError> {
    // Whatever follows the end is of no concern.
    if output.is_ended() {
        return Ok(());
    }
    let (name, data) = match item {
        SseItem::Event { data: [], .. } | SseItem::Filler { is_comment: false } => return Ok(()),
        SseItem::Event { name, data } => (name, data),
        SseItem::Filler { is_comment: true } => {
            output.pass(AnswerEvent::Alive, facts, w);
            return Ok(());
        }
        SseItem::Oversized => return Err(StreamError::TOO_LARGE),
    };
    if name == b"error" {
        output.pass(AnswerEvent::failed_event(data), facts, w);
        return Ok(());
    }
    let data = match data.trim_ascii() {
        b"[DONE]" => "[DONE]",
        // It says nothing. AgentRouter sends it between reasoning and text.
        b"null" => return Ok(()),
        data => json::valid(data).map_err(StreamError::malformed)?,
    };
    let before = facts.text_bytes + reader.held_bytes() as u64;
    let name = str::from_utf8(name).unwrap_or_default();
    let read = reader.read(name, data, &mut |event| output.pass(event, facts, w));
    if facts.text_bytes + reader.held_bytes() as u64 > before {
        facts.text_chunks += 1;
    }
    read.map_err(StreamError::malformed)
}

impl DialectReader {
    fn new(context: &ResponseContext) -> Self {
        match context.upstream {
            UpstreamApi::ChatCompletions | UpstreamApi::Embeddings => {
                Self::Chat(Default::default())
            }
            UpstreamApi::Messages | UpstreamApi::CountTokens => Self::Messages(Default::default()),
            UpstreamApi::Responses => Self::Responses(Default::default()),
            UpstreamApi::GenerateContent
            | UpstreamApi::GeminiCountTokens
            | UpstreamApi::BatchEmbedContents => {
                Self::Gemini(gemini::GeminiReader::new(context.choices))
            }
        }
    }

    /// Reads the data of one event, which is valid JSON or `[DONE]`. `name` is what the stream calls it.
    ///
    /// Only chat ends with `[DONE]`. Some servers send it in every dialect, where it says nothing.
    fn read(&mut self, name: &str, data: &str, sink: &mut EventSink<'_>) -> json::Result<()> {
        match self {
            Self::Chat(reader) => reader.read(data, sink),
            _ if data == "[DONE]" => Ok(()),
            Self::Messages(reader) => reader.read(name, data, sink),
            Self::Responses(reader) => reader.read(name, data, sink),
            Self::Gemini(reader) => reader.read(data, sink),
        }
    }

    /// Nothing more comes.
    fn end(&mut self, sink: &mut EventSink<'_>) -> json::Result<()> {
        match self {
            Self::Chat(reader) => reader.end(sink)?,
            Self::Messages(reader) => reader.end(sink),
            Self::Gemini(reader) => reader.end(sink),
            Self::Responses(_) => {}
        }
        Ok(())
    }

    /// Bytes that the reader holds until it is known where they belong.
    const fn held_bytes(&self) -> usize {
        match self {
            Self::Chat(reader) => reader.held_bytes(),
            Self::Messages(reader) => reader.held_bytes(),
            Self::Responses(reader) => reader.held_bytes(),
            Self::Gemini(_) => 0,
        }
    }
}
