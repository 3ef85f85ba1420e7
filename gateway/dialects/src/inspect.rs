//! What a request says, as far as the gateway acts on it.
//!
//! One pass over the top level of the body: nested values are skipped, not built. What is found
//! comes with its place in the body, so that [`crate::prepare`] can change exactly those bytes.

use std::fmt;
use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::api::ClientApi;
use crate::caps;
use crate::json::{self, type_name};

/// What a request says.
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
    /// Answers that it asks for (`n`), if it says.
    pub choices: Option<u64>,
    /// Bytes of JSON that make up the prompt: messages, instructions and tools, without the data
    /// of images and other files. A rough measure: about four of them are a token of English.
    pub prompt_bytes: u64,
    /// Images and other files that stand in the prompt as data.
    pub inline_files: u32,
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

/// Where in the body the values stand that are acted on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spans {
    pub(crate) model: Range<usize>,
    pub(crate) stream_options: Option<StreamOptions>,
}

/// `stream_options`, which may be null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamOptions {
    pub(crate) value: Range<usize>,
    /// `include_usage` and its place, if it is there and not null.
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
    #[error("the body is not UTF-8: byte {offset} is the first that is wrong")]
    NotUtf8 { offset: usize },
    #[error("the body is not valid JSON: {reason} at line {line}, column {column} (byte {offset})")]
    Malformed {
        reason: String,
        line: usize,
        column: usize,
        offset: usize,
    },
    #[error("the body must be a JSON object, not {found}")]
    NotAnObject { found: &'static str },
    #[error("`{field}` is missing")]
    Missing { field: &'static str },
    #[error("`{field}` stands twice in the body, the second time at byte {offset}")]
    Duplicate { field: &'static str, offset: usize },
    #[error("`{field}` must be {expected}, not {found} (byte {offset})")]
    WrongType {
        field: String,
        expected: &'static str,
        found: &'static str,
        offset: usize,
    },
    #[error("`{field}` is {bytes} bytes long; at most {bytes_max} are allowed")]
    TooLong {
        field: &'static str,
        bytes: usize,
        bytes_max: usize,
    },
}

impl BadRequest {
    /// The field that is wrong, if it is one field.
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

    /// Whether the body is not even JSON.
    #[must_use]
    pub const fn is_syntax(&self) -> bool {
        matches!(
            self,
            Self::Empty | Self::NotUtf8 { .. } | Self::Malformed { .. }
        )
    }
}

/// Reads what a request says.
///
/// # Errors
///
/// When the body is not a JSON object, when a field that is acted on has the wrong type or stands
/// there twice, or when `model` is missing. Other fields are the provider's to judge.
pub fn inspect(api: ClientApi, body: &[u8]) -> Result<RequestFacts, BadRequest> {
    let text = std::str::from_utf8(body).map_err(|error| BadRequest::NotUtf8 {
        offset: error.valid_up_to(),
    })?;
    let first = text.trim_ascii_start();
    if !first.starts_with('{') {
        return Err(not_an_object(api, text, first));
    }
    let found = read_top_level(text)?;
    let reader = FieldReader { body: text };
    reader.facts(api, &found)
}

fn not_an_object(_api: ClientApi, text: &str, first: &str) -> BadRequest {
    if first.is_empty() {
        return BadRequest::Empty;
    }
    match serde_json::from_str::<&RawValue>(text) {
        Ok(value) => BadRequest::NotAnObject {
            found: type_name(value.get()),
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

/// The fields that are read, each with the names it goes by in the APIs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Model,
    Stream,
    StreamOptions,
    User,
    SafetyIdentifier,
    Metadata,
    MaxTokens,
    MaxCompletionTokens,
    MaxOutputTokens,
    Choices,
    Prompt,
    Other,
}

const FIELDS: usize = Field::Prompt as usize;

impl Field {
    fn named(name: &str) -> Self {
        match name {
            "model" => Self::Model,
            "stream" => Self::Stream,
            "stream_options" => Self::StreamOptions,
            "user" => Self::User,
            "safety_identifier" => Self::SafetyIdentifier,
            "metadata" => Self::Metadata,
            "max_tokens" => Self::MaxTokens,
            "max_completion_tokens" => Self::MaxCompletionTokens,
            "max_output_tokens" => Self::MaxOutputTokens,
            "n" => Self::Choices,
            "messages" | "input" | "prompt" | "system" | "instructions" | "tools" => Self::Prompt,
            _ => Self::Other,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Stream => "stream",
            Self::StreamOptions => "stream_options",
            Self::User => "user",
            Self::SafetyIdentifier => "safety_identifier",
            Self::Metadata => "metadata",
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxOutputTokens => "max_output_tokens",
            Self::Choices => "n",
            Self::Prompt | Self::Other => "",
        }
    }
}

/// The raw values of the fields, where they are there.
#[derive(Default)]
struct TopLevel<'a> {
    values: [Option<&'a str>; FIELDS],
    prompt_bytes: usize,
    duplicate: Option<(Field, &'a str)>,
}

impl<'a> TopLevel<'a> {
    fn get(&self, field: Field) -> Option<&'a str> {
        self.values[field as usize].filter(|value| *value != "null")
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
            field: field.name(),
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
        while let Some(field) = map.next_key_seed(FieldSeed)? {
            match field {
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
                Field::Prompt => {
                    let value: &RawValue = map.next_value()?;
                    found.prompt_bytes += value.get().len();
                }
                field => {
                    let value: &RawValue = map.next_value()?;
                    if found.values[field as usize].replace(value.get()).is_some() {
                        found.duplicate.get_or_insert_with(|| (field, value.get()));
                    }
                }
            }
        }
        Ok(found)
    }
}

struct FieldSeed;

impl<'de> DeserializeSeed<'de> for FieldSeed {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldSeed {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Field, E> {
        Ok(Field::named(name))
    }
}

struct FieldReader<'a> {
    body: &'a str,
}

impl<'a> FieldReader<'a> {
    fn facts(&self, api: ClientApi, found: &TopLevel<'a>) -> Result<RequestFacts, BadRequest> {
        let (inline_files, inline_bytes) = inline_files(self.body);
        let mut facts = RequestFacts {
            stream: self.flag(found, Field::Stream)?.unwrap_or(false),
            max_output_tokens: self.max_output_tokens(api, found)?,
            choices: self.count(found, Field::Choices)?,
            prompt_bytes: found.prompt_bytes.saturating_sub(inline_bytes) as u64,
            inline_files,
            ..RequestFacts::default()
        };
        facts.model = self.model(found, &mut facts.spans)?;
        facts.spans.stream_options = self.stream_options(found)?;
        self.read_metadata(api, found, &mut facts)?;
        self.read_user(found, &mut facts)?;
        Ok(facts)
    }

    fn model(&self, found: &TopLevel<'a>, spans: &mut Spans) -> Result<String, BadRequest> {
        let raw = found
            .get(Field::Model)
            .ok_or(BadRequest::Missing { field: "model" })?;
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
        match api {
            ClientApi::ChatCompletions => Ok(self
                .count(found, Field::MaxCompletionTokens)?
                .or(self.count(found, Field::MaxTokens)?)),
            ClientApi::Messages => self.count(found, Field::MaxTokens),
            ClientApi::Responses => self.count(found, Field::MaxOutputTokens),
            ClientApi::Embeddings | ClientApi::CountTokens => Ok(None),
        }
    }

    fn stream_options(&self, found: &TopLevel<'a>) -> Result<Option<StreamOptions>, BadRequest> {
        // Asked of the values directly, because a null has a place too, and is replaced there.
        let Some(raw) = found.values[Field::StreamOptions as usize] else {
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
        let mut cursor = json::Cursor::new(raw.as_bytes());
        cursor.object(|key, cursor| {
            options.is_empty = false;
            let start = cursor.position();
            cursor.skip()?;
            if key == b"include_usage" {
                options.include_usage_value = Some(start..cursor.position());
            }
            Some(())
        });
        if let Some(at) = options.include_usage_value.clone() {
            let raw_flag = &raw[at.clone()];
            options.include_usage = match raw_flag {
                "true" => Some(true),
                "false" => Some(false),
                "null" => None,
                _ => {
                    return Err(self.wrong_type(
                        "stream_options.include_usage",
                        "true or false",
                        raw_flag,
                    ));
                }
            };
            let base = options.value.start;
            options.include_usage_value = Some(base + at.start..base + at.end);
        }
        Ok(Some(options))
    }

    fn read_metadata(
        &self,
        api: ClientApi,
        found: &TopLevel<'a>,
        facts: &mut RequestFacts,
    ) -> Result<(), BadRequest> {
        let Some(raw) = found.get(Field::Metadata) else {
            return Ok(());
        };
        if !raw.starts_with('{') {
            return Err(self.wrong_type("metadata", "an object", raw));
        }
        json::Cursor::new(raw.as_bytes()).object(|key, cursor| {
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
        for field in [Field::User, Field::SafetyIdentifier] {
            if let Some(raw) = found.get(field) {
                let user = self.text(field.name(), raw)?;
                if !user.is_empty() && user.len() <= caps::USER_BYTES_MAX {
                    facts.user = Some(user);
                }
            }
        }
        Ok(())
    }

    fn text(&self, field: &'static str, raw: &'a str) -> Result<String, BadRequest> {
        if !raw.starts_with('"') {
            return Err(self.wrong_type(field, "a string", raw));
        }
        // The syntax was checked on the way; what can still be wrong is half a surrogate pair.
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

    fn flag(&self, found: &TopLevel<'a>, field: Field) -> Result<Option<bool>, BadRequest> {
        match found.get(field) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(raw) => Err(self.wrong_type(field.name(), "true or false", raw)),
        }
    }

    fn count(&self, found: &TopLevel<'a>, field: Field) -> Result<Option<u64>, BadRequest> {
        let Some(raw) = found.get(field) else {
            return Ok(None);
        };
        json::whole_number(raw.as_bytes())
            .map(Some)
            .ok_or_else(|| self.wrong_type(field.name(), "a whole number, not negative", raw))
    }

    fn wrong_type(&self, field: &str, expected: &'static str, raw: &str) -> BadRequest {
        BadRequest::WrongType {
            field: field.to_owned(),
            expected,
            found: type_name(raw),
            offset: json::span_in(self.body, raw).start,
        }
    }
}

fn metadata_entry(key: &[u8], value: &[u8]) -> Option<(String, String)> {
    if !value.starts_with(b"\"") || value.len() > caps::METADATA_VALUE_BYTES_MAX + 2 {
        return None;
    }
    let key = json::unescape(key, caps::METADATA_VALUE_BYTES_MAX)?;
    Some((key, serde_json::from_slice(value).ok()?))
}

static DATA_URL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(";base64,"));
static DATA_FIELD: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"data\":"));

/// Counts files that stand in the body as `data:…;base64,…` or in Anthropic's `"data":"…"`, and
/// the bytes they take.
fn inline_files(body: &str) -> (u32, usize) {
    const INLINE_BYTES_MIN: usize = 256;
    let (mut files, mut bytes) = (0, 0);
    if body.len() < INLINE_BYTES_MIN {
        return (0, 0);
    }
    for finder in [&*DATA_URL, &*DATA_FIELD] {
        let needle = finder.needle();
        for at in finder.find_iter(body.as_bytes()) {
            let rest = body.as_bytes()[at + needle.len()..].trim_ascii_start();
            let rest = rest.strip_prefix(b"\"").unwrap_or(rest);
            let length = memchr::memchr(b'"', rest).unwrap_or(rest.len());
            if length >= INLINE_BYTES_MIN && is_base64(&rest[..64]) {
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
        check_bad(" [1]", "the body must be a JSON object, not an array");
        check_bad("\"x\"", "the body must be a JSON object, not a string");
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
        check_bad(
            r#"{"model":7}"#,
            "`model` must be a string, not a number (byte 9)",
        );
        check_bad(
            r#"{"model":"a","x":1,"model":"b"}"#,
            "`model` stands twice in the body, the second time at byte 27",
        );
        check_bad(
            r#"{"model":"a","mod\u0065l":"b"}"#,
            "`model` stands twice in the body, the second time at byte 26",
        );
        check_bad(
            r#"{"model":"m","stream":"yes"}"#,
            "`stream` must be true or false, not a string (byte 22)",
        );
        check_bad(
            r#"{"model":"m","stream_options":{"include_usage":1}}"#,
            "`stream_options.include_usage` must be true or false, not a number (byte 47)",
        );
        check_bad(
            r#"{"model":"m","max_tokens":-5}"#,
            "`max_tokens` must be a whole number, not negative, not a number (byte 26)",
        );
        check_bad(
            r#"{"model":"\ud800"}"#,
            "the body is not valid JSON: `model` holds an invalid escape at line 1, column 18 (byte 17)",
        );
        let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(300));
        check_bad(&long, "`model` is 300 bytes long; at most 256 are allowed");
        let not_text = inspect(ClientApi::ChatCompletions, b"{\"model\":\"\xff\"}").unwrap_err();
        assert_eq!(not_text, BadRequest::NotUtf8 { offset: 10 });
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
