//! The provider's answer on its way to the client.
//!
//! Bytes go in as they arrive and come out as the client expects them; facts are gathered beside.
//! Where both sides speak the same dialect, the bytes that come out are those that went in.

use bytes::Bytes;
use thiserror::Error;
use weir_schemas::Usage;

use crate::answer::Identity;
use crate::api::{ClientApi, UpstreamApi};
use crate::caps;
use crate::convert::{Conversion, Converter};
use crate::error::{ApiError, error_event};
use crate::passthrough::{PlainReader, StreamReader};
use crate::translate::Translator;
use crate::upstream_error::UpstreamErrorFacts;

/// What was agreed when the request was made, for reading its answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub(crate) api: ClientApi,
    pub(crate) upstream: UpstreamApi,
    pub(crate) provider: &'static str,
    /// Whether the usage chunk was asked for by the gateway alone, and the client must not see it.
    pub(crate) strips_usage: bool,
    /// Whether the client asked for a stream, and for its usage chunk.
    pub(crate) wants_stream: bool,
    pub(crate) wants_usage: bool,
    pub(crate) identity: Identity,
    /// The client's tools that take free text.
    pub(crate) free_text_tools: Vec<String>,
    pub(crate) conversion: Option<Conversion>,
}

impl Exchange {
    /// The bare exchange, of which nothing special was agreed.
    pub(crate) fn of(api: ClientApi, upstream: UpstreamApi) -> Self {
        Self {
            api,
            upstream,
            provider: "",
            strips_usage: false,
            wants_stream: false,
            wants_usage: false,
            identity: Identity::default(),
            free_text_tools: Vec::new(),
            conversion: None,
        }
    }

    /// Whether an answer of this form passes as it is. One that is a stream although the client
    /// asked for none, or the other way round, is put into the form that it asked for.
    fn passes(&self, is_stream: bool) -> bool {
        let has_forms = !matches!(
            self.upstream,
            UpstreamApi::Embeddings | UpstreamApi::CountTokens
        );
        self.is_passthrough() && !(has_forms && is_stream != self.wants_stream)
    }

    /// Whether client and provider speak the same dialect.
    #[must_use]
    pub const fn is_passthrough(&self) -> bool {
        self.upstream.is_native_to(self.api)
    }
}

/// What an answer turned out to be. Filled while it passes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResponseFacts {
    /// What the provider says was consumed.
    pub usage: Option<Usage>,
    /// Model that the provider says it used.
    pub upstream_model: Option<String>,
    /// Id that the provider gave the answer.
    pub upstream_id: Option<String>,
    pub finish_reason: Option<FinishReason>,
    /// Service tier that the provider says it served the answer in.
    pub service_tier: Option<String>,
    /// Whether a piece of the answer itself was there: text, reasoning, a tool call. The chunk that
    /// only announces the role does not count.
    pub first_token_seen: bool,
    /// Whether the answer's end is in what was returned so far. It is journaled before that is sent.
    pub terminal_seen: bool,
    /// Error that the provider reported inside its answer.
    pub provider_error: Option<UpstreamErrorFacts>,
    /// Bytes of text, reasoning and tool calls, for estimates where nothing was reported. Counted
    /// as JSON holds them, escapes included.
    pub text_bytes: u64,
    /// The beginning of that, at most [`caps::TEXT_SAMPLE_BYTES_MAX`](crate::caps) of it.
    pub text_sample: Vec<u8>,
    /// Chunks that carried any of that: most providers send about one token in each.
    pub text_chunks: u64,
    /// Bytes handed out for the client.
    pub output_bytes: u64,
}

impl ResponseFacts {
    /// Counts a piece of the answer's text, escaped as JSON holds it.
    pub(crate) fn add_text(&mut self, text: &[u8]) {
        self.text_bytes += text.len() as u64;
        let room = caps::TEXT_SAMPLE_BYTES_MAX.saturating_sub(self.text_sample.len());
        self.text_sample
            .extend_from_slice(&text[..text.len().min(room)]);
    }
}

/// Why the model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// It was done, or met a stop sequence.
    Stop,
    /// The limit on output tokens, or the context window.
    Length,
    ToolCalls,
    ContentFilter,
    /// The model declined.
    Refusal,
    /// The provider paused a long turn, to be continued by the client.
    Pause,
    /// The provider gave up.
    Error,
    /// A word that is not known here.
    Other,
}

impl FinishReason {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Refusal => "refusal",
            Self::Pause => "pause",
            Self::Error => "error",
            Self::Other => "other",
        }
    }
}

/// Why an answer cannot be passed on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StreamError {
    #[error("the provider's answer ended before it was complete")]
    Truncated,
    #[error("the provider's answer is not what its dialect says: {reason}")]
    Malformed { reason: String },
    #[error("the provider's answer is larger than the {bytes_max} bytes that can be translated")]
    TooLarge { bytes_max: usize },
    #[error("the provider reported an error inside its answer: {}", .0.message)]
    Provider(UpstreamErrorFacts),
}

/// Reads one answer. Fed with every piece of the body, then finished.
#[derive(Debug)]
pub struct ResponseMachine {
    api: ClientApi,
    reader: Reader,
    facts: ResponseFacts,
}

#[derive(Debug)]
enum Reader {
    Stream(StreamReader),
    Plain(PlainReader),
    Translator(Box<Translator>),
    Converter(Converter),
}

impl ResponseMachine {
    /// For an answer with a good status. `is_stream` is what its content type says
    /// (`text/event-stream`), not what was asked for.
    #[must_use]
    pub fn new(exchange: &Exchange, is_stream: bool) -> Self {
        let reader = match (exchange.conversion, exchange.passes(is_stream), is_stream) {
            (Some(conversion), _, _) => {
                Reader::Converter(Converter::new(conversion, exchange.identity.clone()))
            }
            (None, false, _) => Reader::Translator(Box::new(Translator::new(exchange, is_stream))),
            (None, true, true) => Reader::Stream(StreamReader::new(exchange)),
            (None, true, false) => Reader::Plain(PlainReader::new(exchange)),
        };
        Self {
            api: exchange.api,
            reader,
            facts: ResponseFacts::default(),
        }
    }

    /// Whether the bytes that come out are as many as those that go in, so that the provider's
    /// `content-length` holds for the client too.
    #[must_use]
    pub const fn keeps_length(&self) -> bool {
        matches!(self.reader, Reader::Plain(_))
    }

    /// The content type of what comes out. `None` where it is the provider's.
    #[must_use]
    pub fn content_type(&self) -> Option<&'static str> {
        match &self.reader {
            Reader::Stream(_) | Reader::Plain(_) => None,
            Reader::Translator(translator) if translator.writes_stream() => {
                Some("text/event-stream; charset=utf-8")
            }
            Reader::Translator(_) | Reader::Converter(_) => Some("application/json"),
        }
    }

    /// Takes the next piece of the body and returns what goes to the client now, which may be
    /// nothing yet. Of a stream, that is always whole events.
    ///
    /// # Errors
    ///
    /// When the answer cannot be passed on. The client is then sent what [`Self::fail`] returns.
    pub fn push(&mut self, input: Bytes) -> Result<Bytes, StreamError> {
        let output = match &mut self.reader {
            Reader::Stream(reader) => reader.push(&input, &mut self.facts),
            Reader::Plain(reader) => {
                reader.push(&input, &mut self.facts);
                input
            }
            Reader::Translator(translator) => translator.push(&input, &mut self.facts)?,
            Reader::Converter(converter) => {
                converter.push(&input)?;
                Bytes::new()
            }
        };
        self.facts.output_bytes += output.len() as u64;
        Ok(output)
    }

    /// Ends the body and returns what goes to the client last.
    ///
    /// # Errors
    ///
    /// When the answer was not complete.
    pub fn finish(&mut self) -> Result<Bytes, StreamError> {
        let output = match &mut self.reader {
            Reader::Stream(reader) => reader.finish(&mut self.facts)?,
            Reader::Plain(reader) => {
                reader.finish(&mut self.facts)?;
                Bytes::new()
            }
            Reader::Translator(translator) => translator.finish(&mut self.facts)?,
            Reader::Converter(converter) => converter.finish(&mut self.facts)?,
        };
        self.facts.output_bytes += output.len() as u64;
        Ok(output)
    }

    /// Ends a stream that cannot go on: the error, as the client's dialect puts it into a stream.
    /// What was held back is dropped. Nothing for a plain body, which can only be cut off.
    pub fn fail(&mut self, error: &ApiError<'_>) -> Bytes {
        let output = match &mut self.reader {
            Reader::Stream(_) => error_event(self.api, error),
            Reader::Translator(translator) => translator.fail(self.api, error),
            Reader::Plain(_) | Reader::Converter(_) => Bytes::new(),
        };
        self.facts.output_bytes += output.len() as u64;
        output
    }

    #[must_use]
    pub const fn facts(&self) -> &ResponseFacts {
        &self.facts
    }

    #[must_use]
    pub fn into_facts(self) -> ResponseFacts {
        self.facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ApiErrorKind;
    use crate::upstream_error::UpstreamErrorKind;

    fn exchange(strips_usage: bool, wants_stream: bool) -> Exchange {
        let api = ClientApi::ChatCompletions;
        Exchange {
            strips_usage,
            wants_stream,
            ..Exchange::of(api, UpstreamApi::ChatCompletions)
        }
    }

    /// Feeds the pieces; returns what came out and the machine.
    fn run(
        strips_usage: bool,
        is_stream: bool,
        pieces: &[&[u8]],
    ) -> (Vec<u8>, Result<(), StreamError>, ResponseFacts) {
        let mut machine = ResponseMachine::new(&exchange(strips_usage, is_stream), is_stream);
        let mut out = Vec::new();
        for piece in pieces {
            let done_before = machine.facts().terminal_seen;
            let output = machine.push(Bytes::copy_from_slice(piece)).unwrap();
            out.extend_from_slice(&output);
            let done = memchr::memmem::find(&out, b"[DONE]").is_some();
            if is_stream && !done_before {
                assert_eq!(
                    machine.facts().terminal_seen,
                    done,
                    "terminal is told with its bytes"
                );
            }
        }
        let finished = machine.finish().map(|rest| out.extend_from_slice(&rest));
        assert_eq!(machine.facts().output_bytes, out.len() as u64);
        (out, finished, machine.into_facts())
    }

    const ROLE: &str = "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4o-2024\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null,\"obfuscation\":\"aa\"}\n\n";
    const TEXT: &str = "data: {\"id\":\"c1\",\"model\":\"gpt-4o-2024\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello \\\"usage\\\"\"},\"finish_reason\":null}],\"usage\":null}\n\n";
    const END: &str = "data: {\"id\":\"c1\",\"model\":\"gpt-4o-2024\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n";
    const USAGE: &str = "data: {\"id\":\"c1\",\"model\":\"gpt-4o-2024\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    fn stream() -> String {
        [": keep-alive\n\n", ROLE, TEXT, END, USAGE, DONE].concat()
    }

    fn expected_facts(output_bytes: usize) -> ResponseFacts {
        ResponseFacts {
            usage: Some(Usage {
                input_tokens: Some(9),
                cached_input_tokens: Some(4),
                output_tokens: Some(2),
                ..Usage::default()
            }),
            upstream_model: Some("gpt-4o-2024".to_owned()),
            upstream_id: Some("c1".to_owned()),
            finish_reason: Some(FinishReason::Stop),
            service_tier: None,
            first_token_seen: true,
            terminal_seen: true,
            provider_error: None,
            text_bytes: r#"Hello \"usage\""#.len() as u64,
            text_sample: br#"Hello \"usage\""#.to_vec(),
            text_chunks: 1,
            output_bytes: output_bytes as u64,
        }
    }

    #[test]
    fn a_stream_passes_unchanged_at_every_split() {
        let stream = stream();
        for split in 0..=stream.len() {
            let (a, b) = stream.as_bytes().split_at(split);
            let (out, finished, facts) = run(false, true, &[a, b]);
            assert_eq!(out, stream.as_bytes(), "split at {split}");
            assert_eq!(finished, Ok(()));
            assert_eq!(facts, expected_facts(stream.len()), "split at {split}");
        }
    }

    #[test]
    fn the_usage_chunk_is_taken_out_at_every_split() {
        let stream = stream();
        let without = stream.replace(USAGE, "");
        for split in 0..=stream.len() {
            let (a, b) = stream.as_bytes().split_at(split);
            let (out, _, facts) = run(true, true, &[a, b]);
            assert_eq!(out, without.as_bytes(), "split at {split}");
            assert_eq!(facts, expected_facts(without.len()), "split at {split}");
        }
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(run(true, true, &bytes).0, without.as_bytes());
    }

    #[test]
    fn a_chunk_that_announces_the_role_is_no_token() {
        let mut machine = ResponseMachine::new(&exchange(false, true), true);
        machine.push(Bytes::from_static(ROLE.as_bytes())).unwrap();
        assert!(!machine.facts().first_token_seen);
        machine.push(Bytes::from_static(TEXT.as_bytes())).unwrap();
        assert!(machine.facts().first_token_seen);
    }

    #[test]
    fn tool_calls_and_reasoning_are_tokens() {
        for delta in [
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}"#,
            r#"{"reasoning_content":"hm","content":null}"#,
            r#"{"reasoning":"hm"}"#,
            r#"{"content":[{"type":"text","text":"x"}]}"#,
        ] {
            let event = format!("data: {{\"choices\":[{{\"delta\":{delta}}}]}}\n\n");
            let (_, _, facts) = run(false, true, &[event.as_bytes()]);
            assert!(facts.first_token_seen, "{delta}");
        }
    }

    #[test]
    fn usage_is_found_where_vendors_put_it() {
        for event in [
            r#"{"choices":[],"x_groq":{"id":"r","usage":{"prompt_tokens":9}}}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":9}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":9}}"#,
        ] {
            let stream = format!("data: {event}\n\n");
            let (out, _, facts) = run(true, true, &[stream.as_bytes()]);
            assert_eq!(facts.usage.unwrap().input_tokens, Some(9), "{event}");
            assert!(out.starts_with(stream.as_bytes()) || event.contains("x_groq"));
        }
    }

    #[test]
    fn a_cut_stream_is_told_and_a_missing_last_line_is_added() {
        let (_, finished, facts) = run(false, true, &[ROLE.as_bytes(), TEXT.as_bytes()]);
        assert_eq!(finished, Err(StreamError::Truncated));
        assert!(!facts.terminal_seen);
        let (out, finished, facts) = run(false, true, &[TEXT.as_bytes(), END.as_bytes()]);
        assert_eq!(finished, Ok(()));
        assert_eq!(out, [TEXT, END, DONE].concat().as_bytes());
        assert!(facts.terminal_seen);
        let unfinished = END.trim_end();
        let (out, _, _) = run(false, true, &[unfinished.as_bytes()]);
        assert_eq!(out, [END, DONE].concat().as_bytes());
    }

    #[test]
    fn an_error_in_the_stream_is_passed_on_and_noted() {
        let event = "data: {\"error\":{\"message\":\"slow down\",\"type\":\"server_error\",\"code\":\"rate_limit_exceeded\"}}\n\n";
        let (out, finished, facts) = run(true, true, &[TEXT.as_bytes(), event.as_bytes()]);
        assert_eq!(out, [TEXT, event].concat().as_bytes());
        assert_eq!(finished, Ok(()));
        let error = facts.provider_error.unwrap();
        assert_eq!(
            (error.kind, error.message.as_str()),
            (UpstreamErrorKind::RateLimited, "slow down")
        );
    }

    #[test]
    fn a_failed_stream_ends_with_an_error_event() {
        let mut machine = ResponseMachine::new(&exchange(false, true), true);
        machine.push(Bytes::from_static(b"data: {\"half")).unwrap();
        let error = ApiError::new(ApiErrorKind::ProviderError, "openai: cut off");
        assert_eq!(
            machine.fail(&error),
            "data: {\"error\":{\"message\":\"openai: cut off\",\"type\":\"server_error\",\"param\":null,\"code\":\"provider_error\"}}\n\n"
        );
    }

    const PLAIN: &str = r#"{"id":"c1","object":"chat.completion","model":"gpt-4o-2024","choices":[{"index":0,
        "message":{"role":"assistant","content":"Hello \"usage\"","refusal":null,"annotations":[]},
        "finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,
        "prompt_tokens_details":{"cached_tokens":4}},"service_tier":"default"}"#;

    #[test]
    fn a_plain_body_passes_unchanged_at_every_split() {
        for split in 0..=PLAIN.len() {
            let (a, b) = PLAIN.as_bytes().split_at(split);
            let (out, finished, facts) = run(false, false, &[a, b]);
            assert_eq!(out, PLAIN.as_bytes());
            assert_eq!(finished, Ok(()));
            let expect = ResponseFacts {
                text_chunks: 0,
                service_tier: Some("default".to_owned()),
                ..expected_facts(PLAIN.len())
            };
            assert_eq!(facts, expect, "split at {split}");
        }
    }

    #[test]
    fn a_plain_body_is_not_copied_and_a_cut_one_is_told() {
        let mut machine = ResponseMachine::new(&exchange(false, false), false);
        let input = Bytes::from_static(PLAIN.as_bytes()).slice(..100);
        assert_eq!(
            machine.push(input.clone()).unwrap().as_ptr(),
            input.as_ptr()
        );
        assert!(!machine.facts().terminal_seen);
        assert_eq!(machine.finish(), Err(StreamError::Truncated));
    }

    #[test]
    fn embeddings_are_read_for_their_usage() {
        let body = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,-2e-3]}],
            "model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}"#;
        let (_, _, facts) = run(false, false, &[body.as_bytes()]);
        assert_eq!(
            facts.usage,
            Some(Usage {
                input_tokens: Some(8),
                ..Usage::default()
            })
        );
        assert_eq!(
            facts.upstream_model.as_deref(),
            Some("text-embedding-3-small")
        );
    }
}
