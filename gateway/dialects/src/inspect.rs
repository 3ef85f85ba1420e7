//! The fields of a request that the gateway acts on.
//!
//! One pass over the top level of the body skips nested values without building them. Each value is
//! found with its place in the body, so that [`prepare()`](crate::prepare()) can change exactly those bytes.

use std::fmt;
use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::api::ClientApi;
use crate::billable::Billable;
use crate::caps;
use crate::error::{ApiError, ApiErrorKind};
use crate::json::{self, shown};
use crate::neutral::Effort;

/// What the gateway needs to know of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestFacts {
    /// Model or alias that the client asks for.
    pub model: String,
    /// Whether it asks for a stream.
    pub stream: bool,
    /// End user that it names: `safety_identifier`, `user` or `metadata.user_id`.
    pub user: Option<String>,
    /// Text entries of `metadata`, at most [`caps::METADATA_ENTRIES_MAX`].
    pub metadata: Vec<(String, String)>,
    /// Limit on output tokens that it sets.
    pub max_output_tokens: Option<u64>,
    /// Number of answers that it asks for (`n`).
    pub choices: Option<u64>,
    /// Bytes of the prompt's JSON: messages, instructions and tools, without the data of images and
    /// other files. About four of them are a token of English.
    pub prompt_bytes: u64,
    /// Images and other files whose data is in the prompt.
    pub inline_files: u32,
    /// Whether it offers tools.
    pub(crate) has_tools: bool,
    /// Whether it has chat's `verbosity`.
    pub(crate) has_verbosity: bool,
    /// Whether it has chat's `stop`.
    pub(crate) has_stop: bool,
    /// Whether it has a field of messages or responses that some models do not take.
    pub(crate) has_wishes: bool,
    /// Chat's `reasoning_effort`, if it is a word that is known.
    pub(crate) reasoning_effort: Option<Effort>,
    /// What bounds its bill.
    pub(crate) billable: Billable,
    pub(crate) spans: Spans,
}

impl RequestFacts {
    /// Whether the client itself asked for the usage chunk of a stream.
    #[must_use]
    pub fn asks_stream_usage(&self) -> bool {
        self.spans
            .stream_options
            .as_ref()
            .is_some_and(|options| options.include_usage == Some(true))
    }
}

/// Where the values that are acted on are in the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spans {
    pub(crate) model: Range<usize>,
    /// The limits on the answer's tokens that are not null.
    pub(crate) token_limits: Vec<Range<usize>>,
    pub(crate) stream_options: Option<StreamOptions>,
}

/// `stream_options`, which may be null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamOptions {
    pub(crate) value: Range<usize>,
    /// `include_usage`, if it is there and not null, and its place.
    pub(crate) include_usage: Option<bool>,
    pub(crate) include_usage_value: Option<Range<usize>>,
    pub(crate) is_object: bool,
    pub(crate) is_empty: bool,
}

/// Why a request body cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadRequest {
    #[error("the body is empty; send a JSON object")]
    Empty,
    #[error("the body is not valid UTF-8 (byte {offset})")]
    NotUtf8 { offset: usize },
    #[error("the body is not valid JSON: {reason} at line {line}, column {column} (byte {offset})")]
    Malformed {
        reason: String,
        line: usize,
        column: usize,
        offset: usize,
    },
    #[error("the body must be a JSON object, got {found}")]
    NotAnObject { found: String },
    #[error("`{field}` is missing")]
    Missing { field: &'static str },
    #[error("`{field}` appears twice in the body, the second time at byte {offset}")]
    Duplicate { field: &'static str, offset: usize },
    #[error("`{field}` must be {expected}, got {found} (byte {offset})")]
    WrongType {
        field: String,
        expected: &'static str,
        found: String,
        offset: usize,
    },
    #[error("`{field}` is {bytes} bytes long; the limit is {bytes_max}")]
    TooLong {
        field: &'static str,
        bytes: usize,
        bytes_max: usize,
    },
}

impl BadRequest {
    /// The field at fault, if it is one field.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Missing { field }
            | Self::Duplicate { field, .. }
            | Self::TooLong { field, .. } => Some(field),
            Self::WrongType { field, .. } => Some(field),
            Self::Empty
            | Self::NotUtf8 { .. }
            | Self::Malformed { .. }
            | Self::NotAnObject { .. } => None,
        }
    }

    /// Whether the body is not JSON at all.
    #[must_use]
    pub const fn is_syntax(&self) -> bool {
        matches!(
            self,
            Self::Empty | Self::NotUtf8 { .. } | Self::Malformed { .. }
        )
    }
}

impl From<&BadRequest> for ApiError<'static> {
    fn from(bad: &BadRequest) -> Self {
        let code = if bad.is_syntax() {
            "invalid_json"
        } else {
            "invalid_request"
        };
        Self {
            param: bad.field().map(|field| field.to_owned().into()),
            code: Some(code.into()),
            ..Self::new(ApiErrorKind::InvalidRequest, bad.to_string())
        }
    }
}

/// Reads the fields of a request that the gateway acts on.
///
/// # Errors
///
/// When the body is not a JSON object, when a field that is acted on has the wrong type or appears
/// twice, or when `model` is missing. Other fields are the provider's to judge.
pub fn inspect(api: ClientApi, body: &[u8]) -> Result<RequestFacts, BadRequest> {
    let text = std::str::from_utf8(body).map_err(|error| BadRequest::NotUtf8 {
        offset: error.valid_up_to(),
    })?;
    let first = text.trim_ascii_start();
    if !first.starts_with('{') {
        return Err(not_an_object(text, first));
    }
    let found = read_top_level(text)?;
    let reader = FieldReader { body: text };
    reader.facts(api, &found)
}

fn not_an_object(text: &str, first: &str) -> BadRequest {
    if first.is_empty() {
        return BadRequest::Empty;
    }
    match serde_json::from_str::<&RawValue>(text) {
        Ok(value) => BadRequest::NotAnObject {
            found: shown(value.get()).to_owned(),
        },
        Err(error) => malformed(text, &error),
    }
}

fn malformed(text: &str, error: &serde_json::Error) -> BadRequest {
    let (line, column) = (error.line(), error.column());
    let full = error.to_string();
    let reason = full.split(" at line ").next().unwrap_or(&full).to_owned();
    BadRequest::Malformed {
        reason,
        line,
        column,
        offset: json::offset_of(text, line, column),
    }
}

/// A key at the top level, by what is done with its value.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(field_identifier, rename_all = "snake_case")]
enum TopLevelKey {
    Model,
    Stream,
    StreamOptions,
    User,
    SafetyIdentifier,
    Metadata,
    MaxTokens,
    MaxCompletionTokens,
    MaxOutputTokens,
    N,
    #[serde(alias = "input", alias = "system", alias = "instructions")]
    Messages,
    /// A prompt that the provider keeps.
    Prompt,
    #[serde(alias = "conversation", alias = "container", alias = "cached_content")]
    PreviousResponseId,
    #[serde(
        alias = "mcp_servers",
        alias = "plugins",
        alias = "search_parameters",
        alias = "enable_search",
        alias = "extra_body"
    )]
    WebSearchOptions,
    #[serde(alias = "fallbacks", alias = "fallback")]
    Models,
    ServiceTier,
    Speed,
    MaxToolCalls,
    #[serde(alias = "audio")]
    Modalities,
    Prediction,
    ContextManagement,
    ResponseFormat,
    PromptCacheRetention,
    Tools,
    ReasoningEffort,
    Verbosity,
    Stop,
    #[serde(
        alias = "thinking",
        alias = "output_config",
        alias = "reasoning",
        alias = "temperature",
        alias = "top_p",
        alias = "top_k",
        alias = "tool_choice",
        alias = "text",
        alias = "include",
        alias = "top_logprobs"
    )]
    Wish,
    #[serde(other)]
    Other,
}

/// The raw value of a field, if it is there.
type RawField<'a> = Option<&'a str>;

/// The fields that are read. One that is null has a value here.
#[derive(Default)]
struct TopLevel<'a> {
    model: RawField<'a>,
    stream: RawField<'a>,
    stream_options: RawField<'a>,
    user: RawField<'a>,
    safety_identifier: RawField<'a>,
    metadata: RawField<'a>,
    max_tokens: RawField<'a>,
    max_completion_tokens: RawField<'a>,
    max_output_tokens: RawField<'a>,
    n: RawField<'a>,
    reasoning_effort: RawField<'a>,
    prompt_bytes: usize,
    has_tools: bool,
    has_verbosity: bool,
    has_stop: bool,
    has_wishes: bool,
    service_tier: RawField<'a>,
    speed: RawField<'a>,
    max_tool_calls: RawField<'a>,
    billable: Billable,
    duplicate: Option<(&'static str, &'a str)>,
}

impl<'a> TopLevel<'a> {
    fn add(&mut self, key: TopLevelKey, value: &'a str) {
        let (name, field) = match key {
            TopLevelKey::Model => ("model", &mut self.model),
            TopLevelKey::Stream => ("stream", &mut self.stream),
            TopLevelKey::StreamOptions => ("stream_options", &mut self.stream_options),
            TopLevelKey::User => ("user", &mut self.user),
            TopLevelKey::SafetyIdentifier => ("safety_identifier", &mut self.safety_identifier),
            TopLevelKey::Metadata => ("metadata", &mut self.metadata),
            TopLevelKey::MaxTokens => ("max_tokens", &mut self.max_tokens),
            TopLevelKey::MaxCompletionTokens => {
                ("max_completion_tokens", &mut self.max_completion_tokens)
            }
            TopLevelKey::MaxOutputTokens => ("max_output_tokens", &mut self.max_output_tokens),
            TopLevelKey::N => ("n", &mut self.n),
            TopLevelKey::ReasoningEffort => ("reasoning_effort", &mut self.reasoning_effort),
            TopLevelKey::ServiceTier => ("service_tier", &mut self.service_tier),
            TopLevelKey::Speed => ("speed", &mut self.speed),
            TopLevelKey::MaxToolCalls => ("max_tool_calls", &mut self.max_tool_calls),
            key => return self.note(key, value),
        };
        if field.replace(value).is_some() {
            self.duplicate.get_or_insert((name, value));
        }
    }

    /// Notes what is only counted, or only looked for.
    fn note(&mut self, key: TopLevelKey, value: &str) {
        let (billable, is_said) = (&mut self.billable, value != "null");
        match key {
            TopLevelKey::Messages => {
                self.prompt_bytes += value.len();
                billable.read_prompt(value);
            }
            TopLevelKey::Tools => {
                self.prompt_bytes += value.len();
                self.has_tools |= value.contains('{');
                billable.has_preamble |= self.has_tools;
                billable.read_tools(value);
            }
            TopLevelKey::Prompt => {
                self.prompt_bytes += value.len();
                billable
                    .outside_unless(!value.starts_with('{'), "a prompt that the provider keeps");
            }
            TopLevelKey::PreviousResponseId => {
                billable.outside_unless(!is_said, "what the provider keeps of earlier calls");
            }
            TopLevelKey::WebSearchOptions if is_said && value != "false" => {
                let what = "calls of tools that the provider runs";
                billable.unbounded.get_or_insert(what);
            }
            TopLevelKey::Models if is_said => {
                let what = "other models that may answer";
                billable.unbounded.get_or_insert(what);
            }
            TopLevelKey::ContextManagement if value.contains("compact") => {
                let what = "compaction, which is billed beside the answer";
                billable.unbounded.get_or_insert(what);
            }
            TopLevelKey::Modalities => billable.audio_output |= is_said,
            TopLevelKey::Prediction => billable.has_prediction |= is_said,
            TopLevelKey::ResponseFormat => billable.has_preamble |= is_said,
            TopLevelKey::PromptCacheRetention => billable.long_cache_writes |= is_said,
            TopLevelKey::Stop => self.has_stop = true,
            TopLevelKey::Verbosity => self.has_verbosity = true,
            _ => {}
        }
    }
}

fn read_top_level(text: &str) -> Result<TopLevel<'_>, BadRequest> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let found = deserializer
        .deserialize_map(TopLevelVisitor)
        .and_then(|found| deserializer.end().map(|()| found))
        .map_err(|error| malformed(text, &error))?;
    match found.duplicate {
        None => Ok(found),
        Some((field, value)) => Err(BadRequest::Duplicate {
            field,
            offset: json::span_in(text, value).start,
        }),
    }
}

struct TopLevelVisitor;

impl<'de> Visitor<'de> for TopLevelVisitor {
    type Value = TopLevel<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = TopLevel::default();
        while let Some(key) = map.next_key()? {
            match key {
                TopLevelKey::Other => drop(map.next_value::<IgnoredAny>()?),
                TopLevelKey::Wish => {
                    found.has_wishes = true;
                    map.next_value::<IgnoredAny>()?;
                }
                key => found.add(key, map.next_value::<&RawValue>()?.get()),
            }
        }
        Ok(found)
    }
}

/// An effort's word. Another one is the provider's to judge.
fn effort(raw: &str) -> Option<Effort> {
    let word = raw.strip_prefix('"')?.strip_suffix('"')?;
    let known = Effort::WORDS.iter().find(|(_, known)| *known == word);
    known.map(|(effort, _)| *effort)
}

/// The largest number that a field may hold.
#[derive(Clone, Copy)]
struct Bound {
    max: u64,
    expected: &'static str,
}

impl Bound {
    const OUTPUT_TOKENS: Self = Self {
        max: caps::COUNT_MAX,
        expected: "an integer from 0 to 1000000000",
    };
    const CHOICES: Self = Self {
        max: caps::CHOICES_MAX,
        expected: "an integer from 0 to 1000",
    };
}

struct FieldReader<'a> {
    body: &'a str,
}

impl<'a> FieldReader<'a> {
    fn facts(&self, api: ClientApi, found: &TopLevel<'a>) -> Result<RequestFacts, BadRequest> {
        let (inline_files, inline_bytes) = inline_files(self.body);
        let mut facts = RequestFacts {
            stream: self.flag("stream", found.stream)?.unwrap_or(false),
            max_output_tokens: self.max_output_tokens(api, found)?,
            choices: self.count("n", found.n, Bound::CHOICES)?,
            prompt_bytes: found.prompt_bytes.saturating_sub(inline_bytes) as u64,
            inline_files,
            has_tools: found.has_tools,
            has_verbosity: found.has_verbosity,
            has_stop: found.has_stop,
            has_wishes: found.has_wishes,
            reasoning_effort: found.reasoning_effort.and_then(effort),
            billable: self.billable(found),
            ..RequestFacts::default()
        };
        facts.model = self.model(found, &mut facts.spans)?;
        let limits = [
            found.max_tokens.filter(|_| api != ClientApi::Responses),
            found
                .max_completion_tokens
                .filter(|_| api == ClientApi::ChatCompletions),
            found
                .max_output_tokens
                .filter(|_| api == ClientApi::Responses),
        ];
        let limits = limits.into_iter().filter_map(present);
        let limits = limits.map(|raw| json::span_in(self.body, raw));
        facts.spans.token_limits = limits.collect();
        facts.spans.stream_options = self.stream_options(found)?;
        self.read_metadata(api, found, &mut facts)?;
        self.read_user(found, &mut facts)?;
        Ok(facts)
    }

    fn billable(&self, found: &TopLevel<'a>) -> Billable {
        let holds = |finder: &Finder<'_>| finder.find(self.body.as_bytes()).is_some();
        // Written otherwise, a key could be overlooked.
        let is_disguised = holds(&ESCAPED);
        let speed = present(found.speed).filter(|raw| *raw != r#""standard""#);
        let tier = speed
            .or_else(|| present(found.service_tier))
            .filter(|raw| *raw != r#""auto""#);
        let long_lived = found.billable.long_cache_writes || is_disguised || holds(&LIFETIME);
        Billable {
            body_bytes: self.body.len() as u64,
            tool_calls_max: present(found.max_tool_calls)
                .and_then(|raw| json::non_negative_integer(raw.as_bytes())),
            cache_writes: is_disguised || holds(&CACHE_CONTROL),
            long_cache_writes: long_lived,
            has_old_limit: present(found.max_completion_tokens).is_none(),
            has_preamble: found.billable.has_preamble || found.has_wishes,
            tier: tier.map(|raw| raw.trim_matches('"').into()),
            ..found.billable.clone()
        }
    }

    fn model(&self, found: &TopLevel<'a>, spans: &mut Spans) -> Result<String, BadRequest> {
        let raw = present(found.model).ok_or(BadRequest::Missing { field: "model" })?;
        let model = self.text("model", raw)?;
        if model.is_empty() {
            return Err(BadRequest::Missing { field: "model" });
        }
        if model.len() > caps::MODEL_BYTES_MAX {
            let bytes_max = caps::MODEL_BYTES_MAX;
            return Err(BadRequest::TooLong {
                field: "model",
                bytes: model.len(),
                bytes_max,
            });
        }
        spans.model = json::span_in(self.body, raw);
        Ok(model)
    }

    fn max_output_tokens(
        &self,
        api: ClientApi,
        found: &TopLevel<'a>,
    ) -> Result<Option<u64>, BadRequest> {
        let tokens = Bound::OUTPUT_TOKENS;
        match api {
            ClientApi::ChatCompletions => Ok(self
                .count("max_completion_tokens", found.max_completion_tokens, tokens)?
                .or(self.count("max_tokens", found.max_tokens, tokens)?)),
            ClientApi::Messages => self.count("max_tokens", found.max_tokens, tokens),
            ClientApi::Responses => {
                self.count("max_output_tokens", found.max_output_tokens, tokens)
            }
            ClientApi::Embeddings | ClientApi::CountTokens => Ok(None),
        }
    }

    fn stream_options(&self, found: &TopLevel<'a>) -> Result<Option<StreamOptions>, BadRequest> {
        let Some(raw) = found.stream_options else {
            return Ok(None);
        };
        let value = json::span_in(self.body, raw);
        let mut options = StreamOptions {
            value,
            include_usage: None,
            include_usage_value: None,
            is_object: raw.starts_with('{'),
            is_empty: true,
        };
        if raw == "null" {
            return Ok(Some(options));
        }
        if !options.is_object {
            return Err(self.wrong_type("stream_options", "an object", raw));
        }
        let mut cursor = json::JsonCursor::new(raw.as_bytes());
        let base = options.value.start;
        cursor.object(|key, cursor| {
            options.is_empty = false;
            let start = base + cursor.position();
            cursor.skip()?;
            if key == b"include_usage" {
                options.include_usage_value = Some(start..base + cursor.position());
            }
            Some(())
        });
        let at = options.include_usage_value.clone();
        let flag = at.map(|at| &self.body[at]);
        options.include_usage = self.flag("stream_options.include_usage", flag)?;
        Ok(Some(options))
    }

    fn read_metadata(
        &self,
        api: ClientApi,
        found: &TopLevel<'a>,
        facts: &mut RequestFacts,
    ) -> Result<(), BadRequest> {
        let Some(raw) = present(found.metadata) else {
            return Ok(());
        };
        if !raw.starts_with('{') {
            return Err(self.wrong_type("metadata", "an object", raw));
        }
        json::JsonCursor::new(raw.as_bytes()).object(|key, cursor| {
            let value = cursor.value()?;
            if facts.metadata.len() < caps::METADATA_ENTRIES_MAX {
                facts.metadata.extend(metadata_entry(key, value));
            }
            Some(())
        });
        if api.family() == crate::api::Family::Anthropic {
            let named = facts.metadata.iter().find(|(key, _)| key == "user_id");
            facts.user = named.map(|(_, value)| value.clone());
        }
        Ok(())
    }

    fn read_user(&self, found: &TopLevel<'a>, facts: &mut RequestFacts) -> Result<(), BadRequest> {
        for (field, raw) in [
            ("user", found.user),
            ("safety_identifier", found.safety_identifier),
        ] {
            let user = present(raw).map(|raw| self.text(field, raw)).transpose()?;
            let fits = |user: &String| !user.is_empty() && user.len() <= caps::USER_BYTES_MAX;
            facts.user = user.filter(fits).or_else(|| facts.user.take());
        }
        Ok(())
    }

    fn text(&self, field: &'static str, raw: &'a str) -> Result<String, BadRequest> {
        if !raw.starts_with('"') {
            return Err(self.wrong_type(field, "a string", raw));
        }
        // The syntax is checked already, but half of a surrogate pair is not.
        serde_json::from_str(raw).map_err(|error| {
            let offset = json::span_in(self.body, raw).start + error.column();
            let (line, column) = json::position_of(self.body, offset);
            let reason = format!("`{field}` holds an invalid escape");
            BadRequest::Malformed {
                reason,
                line,
                column,
                offset,
            }
        })
    }

    fn flag(&self, field: &str, raw: RawField<'a>) -> Result<Option<bool>, BadRequest> {
        self.parsed(field, raw, "true or false", |raw| raw.parse().ok())
    }

    fn count(
        &self,
        field: &str,
        raw: RawField<'a>,
        bound: Bound,
    ) -> Result<Option<u64>, BadRequest> {
        let fits = |number: &u64| *number <= bound.max;
        let parse = |raw: &str| json::non_negative_integer(raw.as_bytes()).filter(fits);
        self.parsed(field, raw, bound.expected, parse)
    }

    fn parsed<T>(
        &self,
        field: &str,
        raw: RawField<'a>,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, BadRequest> {
        let Some(raw) = present(raw) else {
            return Ok(None);
        };
        let wrong = || self.wrong_type(field, expected, raw);
        parse(raw).ok_or_else(wrong).map(Some)
    }

    fn wrong_type(&self, field: &str, expected: &'static str, raw: &str) -> BadRequest {
        BadRequest::WrongType {
            field: field.to_owned(),
            expected,
            found: shown(raw).to_owned(),
            offset: json::span_in(self.body, raw).start,
        }
    }
}

/// A value that is not null.
fn present(raw: RawField<'_>) -> RawField<'_> {
    raw.filter(|raw| *raw != "null")
}

fn metadata_entry(key: &[u8], value: &[u8]) -> Option<(String, String)> {
    if !value.starts_with(b"\"") || value.len() > caps::METADATA_VALUE_BYTES_MAX + 2 {
        return None;
    }
    let key = json::unescape(key, caps::METADATA_VALUE_BYTES_MAX)?;
    Some((key, serde_json::from_slice(value).ok()?))
}

static DATA_URL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(";base64,"));
static ESCAPED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\\u00"));
static CACHE_CONTROL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("cache_control"));
static LIFETIME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"ttl\""));
static DATA_FIELD: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"data\":"));

/// Counts the files in the body, as `data:…;base64,…` or as Anthropic's `"data":"…"`, and their
/// bytes.
fn inline_files(body: &str) -> (u32, usize) {
    let (mut files, mut bytes) = (0, 0);
    if body.len() < caps::INLINE_FILE_BYTES_MIN {
        return (0, 0);
    }
    for finder in [&*DATA_URL, &*DATA_FIELD] {
        let needle = finder.needle();
        for at in finder.find_iter(body.as_bytes()) {
            let rest = body.as_bytes()[at + needle.len()..].trim_ascii_start();
            let rest = rest.strip_prefix(b"\"").unwrap_or(rest);
            let length = memchr::memchr(b'"', rest).unwrap_or(rest.len());
            if length >= caps::INLINE_FILE_BYTES_MIN && is_base64(&rest[..64]) {
                files += 1;
                bytes += length;
            }
        }
    }
    (files, bytes)
}

fn is_base64(start: &[u8]) -> bool {
    start
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: &str) -> Result<RequestFacts, BadRequest> {
        inspect(ClientApi::ChatCompletions, body.as_bytes())
    }

    fn check_bad(body: &str, expect: &str) {
        assert_eq!(chat(body).unwrap_err().to_string(), expect);
    }

    #[test]
    fn what_is_acted_on_is_found_with_its_place() {
        let body = r#"{"messages":[{"role":"user","content":"model"}],
            "model" : "a\/b", "stream":true, "max_tokens":7, "max_completion_tokens":8, "n":2,
            "user":"u1","metadata":{"feature":"x","skip":1},
            "stream_options":{"other":1,"include_usage":false},"unknown":{"model":"no"}}"#;
        let facts = chat(body).unwrap();
        assert_eq!(facts.model, "a/b");
        assert_eq!(&body[facts.spans.model.clone()], r#""a\/b""#);
        assert!(facts.stream && !facts.asks_stream_usage());
        assert_eq!((facts.max_output_tokens, facts.choices), (Some(8), Some(2)));
        assert_eq!(facts.user.as_deref(), Some("u1"));
        assert_eq!(facts.metadata, [("feature".to_owned(), "x".to_owned())]);
        assert_eq!(
            facts.prompt_bytes,
            r#"[{"role":"user","content":"model"}]"#.len() as u64
        );
        let options = facts.spans.stream_options.unwrap();
        assert_eq!(&body[options.include_usage_value.unwrap()], "false");
    }

    #[test]
    fn null_is_absent() {
        let facts = chat(
            r#"{"model":"m","stream":null,"user":null,"metadata":null,"n":null,"max_tokens":null,
                "stream_options":null}"#,
        )
        .unwrap();
        assert!(!facts.stream && facts.user.is_none() && facts.max_output_tokens.is_none());
        assert!(!facts.asks_stream_usage());
    }

    #[test]
    fn each_api_has_its_own_limit_and_user() {
        let body =
            br#"{"model":"m","max_tokens":1,"max_output_tokens":3,"metadata":{"user_id":"u"}}"#;
        let facts = |api| inspect(api, body).unwrap();
        assert_eq!(facts(ClientApi::Messages).max_output_tokens, Some(1));
        assert_eq!(facts(ClientApi::Messages).user.as_deref(), Some("u"));
        assert_eq!(facts(ClientApi::Responses).max_output_tokens, Some(3));
        assert_eq!(facts(ClientApi::Responses).user, None);
    }

    #[test]
    fn files_in_the_prompt_do_not_count_as_text() {
        let file = "iVBORw0KGgo".repeat(1000);
        let body = format!(
            r#"{{"model":"m","messages":[{{"content":[{{"image_url":{{"url":"data:image/png;base64,{file}"}}}},
            {{"source":{{"type":"base64","data": "{file}"}}}}]}}]}}"#
        );
        let facts = chat(&body).unwrap();
        assert_eq!(facts.inline_files, 2);
        assert!(facts.prompt_bytes < 200, "{}", facts.prompt_bytes);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        check_bad("", "the body is empty; send a JSON object");
        check_bad(" [1]", "the body must be a JSON object, got an array");
        check_bad("\"x\"", "the body must be a JSON object, got a string");
        check_bad(
            "{\"model\":\"m\",\n \"n\": 1,}",
            "the body is not valid JSON: trailing comma at line 2, column 9 (byte 22)",
        );
        check_bad(
            r#"{"model":"m"} x"#,
            "the body is not valid JSON: trailing characters at line 1, column 15 (byte 14)",
        );
        check_bad(
            r#"{"model":"m""#,
            "the body is not valid JSON: EOF while parsing an object at line 1, column 12 (byte 11)",
        );
        check_bad(r#"{"messages":[]}"#, "`model` is missing");
        check_bad(r#"{"model":""}"#, "`model` is missing");
        check_bad(r#"{"model":7}"#, "`model` must be a string, got 7 (byte 9)");
        check_bad(
            r#"{"model":"a","x":1,"model":"b"}"#,
            "`model` appears twice in the body, the second time at byte 27",
        );
        check_bad(
            r#"{"model":"a","mod\u0065l":"b"}"#,
            "`model` appears twice in the body, the second time at byte 26",
        );
        check_bad(
            r#"{"model":"m","stream":"yes"}"#,
            "`stream` must be true or false, got a string (byte 22)",
        );
        check_bad(
            r#"{"model":"m","stream_options":{"include_usage":1}}"#,
            "`stream_options.include_usage` must be true or false, got 1 (byte 47)",
        );
        check_bad(
            r#"{"model":"m","max_tokens":-5}"#,
            "`max_tokens` must be an integer from 0 to 1000000000, got -5 (byte 26)",
        );
        check_bad(
            r#"{"model":"\ud800"}"#,
            "the body is not valid JSON: `model` holds an invalid escape at line 1, column 18 (byte 17)",
        );
        let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(300));
        check_bad(&long, "`model` is 300 bytes long; the limit is 256");
        let not_text = inspect(ClientApi::ChatCompletions, b"{\"model\":\"\xff\"}").unwrap_err();
        assert_eq!(not_text, BadRequest::NotUtf8 { offset: 10 });
    }

    #[test]
    fn a_bad_request_names_its_field() {
        let bad = BadRequest::Missing { field: "model" };
        let error = ApiError::from(&bad);
        assert_eq!(
            (error.status(crate::Family::OpenAi), error.param.as_deref()),
            (400, Some("model"))
        );
        let error = ApiError::from(&BadRequest::Empty);
        assert_eq!(error.code.as_deref(), Some("invalid_json"));
    }

    #[test]
    fn hostile_depth_and_numbers_are_survived() {
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        let body = format!(
            r#"{{"model":"m","x":{deep},"y":1e999999,"z":{}}}"#,
            "9".repeat(10_000)
        );
        assert_eq!(chat(&body).unwrap().model, "m");
        assert!(
            chat(&format!(
                r#"{{"model":"m","x":{}"#,
                "[{\"a\":".repeat(100_000)
            ))
            .is_err()
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in "[\\[\\]{}\",:\\\\a1 \n]{0,64}") {
            let _ = chat(&text);
            let _ = chat(&format!("{{\"model\":\"m\",\"stream_options\":{text}}}"));
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = inspect(ClientApi::Messages, &bytes);
        }
    }
}
