//! What a wire format has to say; one file per format.
//!
//! A [`Wire`] turns bytes into [`MockRequest`] and an [`MockAnswer`] into bytes. It does no I/O, draws nothing and counts nothing: when each
//! piece goes out, and what goes wrong, is decided in [`super::play`].

mod anthropic;
mod gemini;
mod openai;
mod openai_chat;
mod openai_embeddings;
mod openai_responses;
mod tools;

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};

pub(super) use openai::models;

use super::ledger::TokenCounts;
use super::limits::Headroom;
use super::text;

/// One endpoint of one provider API. What a format does not define is as OpenAI has it.
pub(super) trait Wire: Sync + std::fmt::Debug {
    /// The caller's key.
    fn key<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        openai::key(headers)
    }

    /// Reads a request.
    fn read(&self, called: &RequestHead<'_>, body: &[u8]) -> Result<MockRequest, Trouble>;

    /// Adds the headers that every answer has.
    fn headers(&self, head: &AnswerHead<'_>, headers: &mut HeaderMap) {
        openai::headers(head, headers);
    }

    /// The whole answer of a plain call.
    fn whole(&self, answer: &MockAnswer, out: &mut Vec<u8>);

    /// How it streams, if it does.
    fn events(&self) -> Option<&'static dyn Events> {
        None
    }

    /// Status and body of an error answer.
    fn trouble(&self, trouble: &Trouble) -> (u16, String) {
        openai::trouble(trouble)
    }
}

/// The events of a streaming endpoint.
pub(super) trait Events: Sync + std::fmt::Debug {
    /// What stands the same in every event of this answer, made once.
    fn prepare(&self, answer: &MockAnswer) -> Prepared;

    /// The events before the first token.
    fn opening(&self, answer: &MockAnswer, prepared: &Prepared, out: &mut Vec<u8>);

    /// The events of the `index`th token, one per choice.
    fn token(&self, answer: &MockAnswer, prepared: &Prepared, index: u32, out: &mut Vec<u8>);

    /// The events after the last token, the terminal marker included.
    fn closing(&self, answer: &MockAnswer, prepared: &Prepared, out: &mut Vec<u8>);

    /// An event that is not JSON.
    fn malformed(&self, prepared: &Prepared, out: &mut Vec<u8>);

    /// The event of an error within a stream, after so many tokens.
    fn error(&self, answer: &MockAnswer, tokens: u32, out: &mut Vec<u8>);
}

/// What a request says outside of its body.
#[derive(Debug)]
pub(super) struct RequestHead<'a> {
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
}

/// The endpoint behind a method and a path.
pub(super) fn find(method: &Method, path: &str) -> Result<&'static dyn Wire, Trouble> {
    let wire: &'static dyn Wire = match path {
        "/v1/chat/completions" => &openai_chat::OpenAiChat,
        "/v1/embeddings" => &openai_embeddings::OpenAiEmbeddings,
        "/v1/responses" => &openai_responses::OpenAiResponses,
        "/v1/messages" => &anthropic::Anthropic::Messages,
        "/v1/messages/count_tokens" => &anthropic::Anthropic::CountTokens,
        _ => gemini::find(path).ok_or_else(|| Trouble::NoSuchPath {
            method: method.clone(),
            path: path.to_owned(),
        })?,
    };
    if method == Method::POST {
        Ok(wire)
    } else {
        Err(Trouble::Method {
            method: method.clone(),
            path: path.to_owned(),
        })
    }
}

/// The format in which troubles are told where no endpoint was recognised.
pub(super) const DEFAULT: &dyn Wire = &openai_chat::OpenAiChat;

/// What a request asked for.
#[derive(Debug, Default)]
pub(super) struct MockRequest {
    pub(super) model: String,
    pub(super) streamed: bool,
    /// The stream ends with a usage block.
    pub(super) include_usage: bool,
    pub(super) input_tokens: u64,
    pub(super) max_output_tokens: Option<u32>,
    /// Whether the endpoint generates tokens at all.
    pub(super) generates: bool,
    /// Answers asked for at once.
    pub(super) choices: u32,
    pub(super) embedding: Option<Embedding>,
    /// The request wants to see what the model reasoned, as far as there is a field for it.
    pub(super) shows_reasoning: bool,
    /// What is called after the text.
    pub(super) calls: Vec<tools::MockToolCall>,
    pub(super) overrides: Overrides,
}

/// What an embeddings call asked for.
#[derive(Debug)]
pub(super) struct Embedding {
    /// One number per input, from which its vector is made.
    pub(super) inputs: Vec<u64>,
    pub(super) dimensions: u32,
    pub(super) base64: bool,
}

/// What a single call sets for itself, in its body's `metadata` or in `x-mock-*` headers. Numbers are strings, because OpenAI's
/// metadata holds nothing else.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Overrides {
    pub(super) mock_fault: Option<String>,
    pub(super) mock_input_tokens: Option<String>,
    pub(super) mock_cached_tokens: Option<String>,
    pub(super) mock_output_tokens: Option<String>,
    pub(super) mock_reasoning_tokens: Option<String>,
}

impl Overrides {
    /// Headers win over the body.
    pub(super) fn merge_headers(&mut self, headers: &HeaderMap) {
        for (field, name) in [
            (&mut self.mock_fault, "x-mock-fault"),
            (&mut self.mock_input_tokens, "x-mock-input-tokens"),
            (&mut self.mock_cached_tokens, "x-mock-cached-tokens"),
            (&mut self.mock_output_tokens, "x-mock-output-tokens"),
            (&mut self.mock_reasoning_tokens, "x-mock-reasoning-tokens"),
        ] {
            if let Some(value) = headers.get(name) {
                *field = Some(String::from_utf8_lossy(value.as_bytes()).into_owned());
            }
        }
    }
}

/// What will be answered.
#[derive(Debug)]
pub(super) struct MockAnswer {
    pub(super) asked: MockRequest,
    /// The number of this call; ids and text are made from it.
    pub(super) number: u64,
    pub(super) seed: u64,
    pub(super) created_s: u64,
    pub(super) fingerprint: String,
    pub(super) usage: TokenCounts,
    /// Tokens that are text.
    pub(super) visible: u32,
    /// The model would have gone on with its text, had it been allowed to.
    pub(super) clipped: bool,
}

/// Pieces that stand the same in every event of one answer.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) before: String,
    pub(super) after: &'static str,
}

/// What the headers of an answer are made from.
#[derive(Debug)]
pub(super) struct AnswerHead<'a> {
    pub(super) provider: &'a str,
    pub(super) seed: u64,
    pub(super) number: u64,
    pub(super) processing: Duration,
    pub(super) now_s: u64,
    pub(super) room: Headroom,
    pub(super) retry_after_s: Option<u32>,
}

/// Why a call is answered with an error. Each format has its own status, words and envelope for it.
#[derive(Debug)]
pub(super) enum Trouble {
    NoKey,
    WrongKey {
        shown: String,
    },
    NoSuchPath {
        method: Method,
        path: String,
    },
    Method {
        method: Method,
        path: String,
    },
    TooLarge {
        bytes_max: usize,
    },
    NotJson {
        problem: String,
    },
    Missing {
        parameter: &'static str,
    },
    Invalid {
        parameter: &'static str,
        problem: String,
    },
    NoSuchModel {
        model: String,
    },
    ContextLength {
        tokens_max: u32,
        input: u64,
        output: u64,
    },
    RateLimit {
        model: String,
        limit: u64,
        what: &'static str,
        retry_after_s: u32,
    },
    ServerError,
    Unavailable {
        retry_after_s: Option<u32>,
    },
}

impl From<serde_json::Error> for Trouble {
    fn from(source: serde_json::Error) -> Self {
        let problem = source.to_string();
        Self::NotJson { problem }
    }
}

fn invalid(parameter: &'static str, problem: impl Into<String>) -> Trouble {
    let problem = problem.into();
    Trouble::Invalid { parameter, problem }
}

fn required<T>(value: Option<T>, parameter: &'static str) -> Result<T, Trouble> {
    value.ok_or(Trouble::Missing { parameter })
}

/// A header's value made of ids, numbers and the provider's name, all of them printable.
fn value(text: impl TryInto<HeaderValue>) -> HeaderValue {
    text.try_into().unwrap_or(HeaderValue::from_static(""))
}

fn put(out: &mut Vec<u8>, pieces: &[&str]) {
    for piece in pieces {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// A string as JSON writes it.
fn quoted(text: &str) -> String {
    // A string always serialises.
    serde_json::to_string(text).unwrap_or_default()
}

/// The whole text of an answer; none of its words needs escaping.
fn words(answer: &MockAnswer) -> String {
    (0..answer.visible)
        .map(|index| text::word(answer.number, index))
        .collect()
}

/// What an answer shows of its reasoning.
fn thought(answer: &MockAnswer) -> String {
    format!("I count {} tokens of thought.", answer.usage.reasoning)
}

/// Whether an answer shows what the model reasoned, where a format has a field for it.
fn thinks(answer: &MockAnswer) -> bool {
    answer.asked.shows_reasoning && answer.usage.reasoning > 0
}

/// An id that belongs to the `at`th part of an answer.
fn part_id(answer: &MockAnswer, at: usize, length: usize) -> String {
    let part = u64::try_from(at).unwrap_or(0) + 1;
    text::id(answer.seed ^ (part << 32), answer.number, length)
}

/// The id or, in base64 as signatures are, the signature of an answer's reasoning.
fn thought_id(answer: &MockAnswer) -> String {
    part_id(answer, usize::from(u16::MAX), 40)
}
