//! Google's Gemini API: `models/{model}:generateContent`, `:streamGenerateContent?alt=sse`, `:countTokens`, `:batchEmbedContents`.
//!
//! Written from the public API reference (ai.google.dev/api: generate-content, tokens, embeddings; the error model of Google APIs).
//! The model is part of the path, and lines end with CR LF in its streams.

use std::io::Write as _;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::openai_embeddings::{hash, vectors};
use super::tools::{self, MockToolCall, MockToolChoice, Offered};
use super::{
    AnswerHead, Embedding, Events, MockAnswer, MockRequest, Prepared, RequestHead, Trouble, Wire,
};
use super::{invalid, put, quoted, required, thinks, thought_id, value, words};
use crate::mock::text::{self, PromptBytes};

/// What stands behind the model's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gemini {
    Generate,
    Stream,
    CountTokens,
    Embed,
}

/// The endpoint behind a path.
pub(super) fn find(path: &str) -> Option<&'static Gemini> {
    match path.strip_prefix(MODELS)?.rsplit_once(':')?.1 {
        "generateContent" => Some(&Gemini::Generate),
        "streamGenerateContent" => Some(&Gemini::Stream),
        "countTokens" => Some(&Gemini::CountTokens),
        "batchEmbedContents" => Some(&Gemini::Embed),
        _ => None,
    }
}

const MODELS: &str = "/v1beta/models/";

/// `countTokens` takes contents alone, or a whole request inside.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CountRequest {
    generate_content_request: Option<GeminiRequest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GeminiRequest {
    contents: Option<PromptBytes>,
    system_instruction: Option<PromptBytes>,
    #[serde(default)]
    generation_config: GenerationConfig,
    #[serde(default)]
    tools: Vec<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct GenerationConfig {
    max_output_tokens: Option<u32>,
    thinking_config: ThinkingConfig,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ThinkingConfig {
    include_thoughts: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EmbedRequest {
    content: Value,
    output_dimensionality: Option<u32>,
}

#[derive(Deserialize)]
struct EmbedRequests {
    requests: Vec<EmbedRequest>,
}

impl Wire for Gemini {
    fn key<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        headers.get("x-goog-api-key")?.to_str().ok()
    }

    fn read(&self, called: &RequestHead<'_>, body: &[u8]) -> Result<MockRequest, Trouble> {
        let model = called
            .path
            .strip_prefix(MODELS)
            .and_then(|rest| rest.rsplit_once(':'))
            .map_or("", |(model, _)| model);
        let asked = match self {
            Self::Generate | Self::Stream => self.read_generate(called, body)?,
            Self::CountTokens => {
                let wrapped: CountRequest = serde_json::from_slice(body)?;
                let request = match wrapped.generate_content_request {
                    Some(request) => request,
                    None => serde_json::from_slice(body)?,
                };
                MockRequest {
                    input_tokens: input_tokens(&request)?,
                    ..MockRequest::default()
                }
            }
            Self::Embed => read_embed(body)?,
        };
        Ok(MockRequest {
            model: model.to_owned(),
            choices: 1,
            ..asked
        })
    }

    fn headers(&self, head: &AnswerHead<'_>, headers: &mut HeaderMap) {
        const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
        let json = HeaderValue::from_static("application/json; charset=UTF-8");
        let timing = format!("gfet4t7; dur={}", head.processing.as_millis());
        headers.extend([(CONTENT_TYPE, json), (SERVER_TIMING, value(timing))]);
    }

    fn whole(&self, answer: &MockAnswer, out: &mut Vec<u8>) {
        match self {
            Self::Generate | Self::Stream => whole(answer, out),
            Self::CountTokens => {
                let tokens = answer.usage.input;
                let _ = write!(
                    out,
                    r#"{{"totalTokens":{tokens},"promptTokensDetails":[{{"modality":"TEXT","tokenCount":{tokens}}}]}}"#
                );
            }
            Self::Embed => {
                let all: Vec<_> = vectors(answer)
                    .map(|vector| format!(r#"{{"values":{vector}}}"#))
                    .collect();
                let _ = write!(out, r#"{{"embeddings":[{}]}}"#, all.join(","));
            }
        }
    }

    fn events(&self) -> Option<&'static dyn Events> {
        (*self == Self::Stream).then_some(&Self::Stream)
    }

    fn trouble(&self, trouble: &Trouble) -> (u16, String) {
        self::trouble(trouble)
    }
}

impl Gemini {
    fn read_generate(&self, called: &RequestHead<'_>, body: &[u8]) -> Result<MockRequest, Trouble> {
        let streamed = *self == Self::Stream;
        let is_sse = called
            .query
            .is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
        if streamed && !is_sse {
            return Err(invalid("alt", "this mock streams with alt=sse only"));
        }
        let request: GeminiRequest = serde_json::from_slice(body)?;
        Ok(MockRequest {
            streamed,
            include_usage: true,
            input_tokens: input_tokens(&request)?,
            max_output_tokens: request.generation_config.max_output_tokens,
            generates: true,
            shows_reasoning: request.generation_config.thinking_config.include_thoughts,
            calls: tools::wanted(&request.tools, body, calls)?,
            ..MockRequest::default()
        })
    }
}

fn input_tokens(request: &GeminiRequest) -> Result<u64, Trouble> {
    let contents = required(request.contents, "contents")?;
    let system = request.system_instruction.unwrap_or_default();
    Ok(text::input_tokens_of_text(contents.0 + system.0))
}

/// Dimensions of `gemini-embedding-001` when the request does not say.
const DIMENSIONS_DEFAULT: u32 = 3072;

fn read_embed(body: &[u8]) -> Result<MockRequest, Trouble> {
    let EmbedRequests { requests } = serde_json::from_slice(body)?;
    let first = required(requests.first(), "requests")?;
    let dimensions = first.output_dimensionality.unwrap_or(DIMENSIONS_DEFAULT);
    let texts: Vec<_> = requests
        .iter()
        .map(|request| tools::text_of(&request.content["parts"]))
        .collect();
    let bytes: usize = texts.iter().map(String::len).sum();
    Ok(MockRequest {
        input_tokens: text::input_tokens_of_text(bytes as u64),
        embedding: Some(Embedding {
            inputs: texts.iter().map(|text| hash(text)).collect(),
            dimensions: dimensions.clamp(1, DIMENSIONS_DEFAULT),
            base64: false,
        }),
        ..MockRequest::default()
    })
}

fn calls(body: &Value) -> Vec<MockToolCall> {
    let offered: Vec<_> = tools::items(&body["tools"])
        .flat_map(|tool| tools::items(&tool["functionDeclarations"]))
        .filter_map(|tool| match &tool["parametersJsonSchema"] {
            Value::Null => Offered::function(&tool["name"], &tool["parameters"]),
            schema => Offered::function(&tool["name"], schema),
        })
        .collect();
    let config = &body["toolConfig"]["functionCallingConfig"];
    let only = config["allowedFunctionNames"][0].as_str();
    let choice = match (config["mode"].as_str(), only) {
        (Some("NONE"), _) => MockToolChoice::Never,
        (Some("ANY"), Some(name)) => MockToolChoice::Named(name),
        (Some("ANY"), None) => MockToolChoice::Any,
        _ => MockToolChoice::Auto,
    };
    let parts = &tools::last_said(&body["contents"])["parts"];
    let is_result = tools::items(parts).any(|part| part.get("functionResponse").is_some());
    let said = (!is_result).then(|| tools::text_of(parts));
    tools::calls(&offered, &choice, said)
}

/// The calls as parts. The first one brings the signature of the thought that led to it.
fn call_parts(answer: &MockAnswer) -> String {
    let mut parts = String::new();
    for (at, call) in answer.asked.calls.iter().enumerate() {
        let (name, args) = (quoted(&call.name), &call.arguments);
        let signature = if at == 0 && answer.usage.reasoning > 0 {
            format!(r#","thoughtSignature":"{}""#, thought_id(answer))
        } else {
            String::new()
        };
        parts += &format!(r#",{{"functionCall":{{"name":{name},"args":{args}}}{signature}}}"#);
    }
    parts
}

fn thought_part(answer: &MockAnswer) -> String {
    let thought = quoted(&super::thought(answer));
    format!(r#"{{"text":{thought},"thought":true}}"#)
}

fn whole(answer: &MockAnswer, out: &mut Vec<u8>) {
    let thought = if thinks(answer) {
        thought_part(answer) + ","
    } else {
        String::new()
    };
    let _ = write!(
        out,
        concat!(
            r#"{{"candidates":[{{"content":{{"parts":[{}{{"text":"{}"}}{}],"role":"model"}},"finishReason":"{}","index":0}}],"#,
            r#"{},"modelVersion":{},"responseId":"{}"}}"#
        ),
        thought,
        words(answer),
        call_parts(answer),
        finish_reason(answer),
        usage(answer, answer.usage.output),
        quoted(&answer.asked.model),
        response_id(answer)
    );
}

impl Events for Gemini {
    fn prepare(&self, answer: &MockAnswer) -> Prepared {
        Prepared {
            before: format!(
                r#"],"role":"model"}},"index":0}}],"modelVersion":{},"responseId":"{}","#,
                quoted(&answer.asked.model),
                response_id(answer)
            ),
            after: "}\r\n\r\n",
        }
    }

    fn opening(&self, answer: &MockAnswer, prepared: &Prepared, out: &mut Vec<u8>) {
        if thinks(answer) {
            let part = thought_part(answer);
            chunk(answer, prepared, &part, answer.usage.reasoning, out);
        }
    }

    fn token(&self, answer: &MockAnswer, prepared: &Prepared, index: u32, out: &mut Vec<u8>) {
        let word = text::word(answer.number, index);
        let so_far = answer.usage.reasoning + u64::from(index) + 1;
        let part = format!(r#"{{"text":"{word}"}}"#);
        chunk(answer, prepared, &part, so_far, out);
    }

    fn closing(&self, answer: &MockAnswer, prepared: &Prepared, out: &mut Vec<u8>) {
        // The last part is an empty text, as theirs is.
        let last = format!(
            r#"data: {{"candidates":[{{"finishReason":"{}","content":{{"parts":[{{"text":""}}{}"#,
            finish_reason(answer),
            call_parts(answer)
        );
        let usage = usage(answer, answer.usage.output);
        put(out, &[&last, &prepared.before, &usage, prepared.after]);
    }

    fn malformed(&self, _prepared: &Prepared, out: &mut Vec<u8>) {
        put(out, &["data: {\"candidates\":[{\"content\":{\"pa\r\n\r\n"]);
    }

    fn error(&self, _answer: &MockAnswer, _tokens: u32, out: &mut Vec<u8>) {
        let (_, error) = trouble(&Trouble::Unavailable {
            retry_after_s: None,
        });
        put(out, &["data: ", &error, "\r\n\r\n"]);
    }
}

fn chunk(answer: &MockAnswer, prepared: &Prepared, part: &str, so_far: u64, out: &mut Vec<u8>) {
    let begun = r#"data: {"candidates":[{"content":{"parts":["#;
    let usage = usage(answer, so_far);
    put(
        out,
        &[begun, part, &prepared.before, &usage, prepared.after],
    );
}

fn finish_reason(answer: &MockAnswer) -> &'static str {
    if answer.clipped { "MAX_TOKENS" } else { "STOP" }
}

fn response_id(answer: &MockAnswer) -> String {
    super::part_id(answer, usize::from(u16::MAX) - 1, 22)
}

/// Gemini counts thoughts apart from the rest of the output, and what it read from its cache within the prompt.
fn usage(answer: &MockAnswer, output: u64) -> String {
    let tokens = &answer.usage;
    let (input, thoughts) = (tokens.input, tokens.reasoning);
    let (text, total) = (output - thoughts, input + output);
    let mut out = format!(
        r#""usageMetadata":{{"promptTokenCount":{input},"candidatesTokenCount":{text},"totalTokenCount":{total}"#
    );
    if tokens.cached_input > 0 {
        out += &format!(r#","cachedContentTokenCount":{}"#, tokens.cached_input);
    }
    out += &format!(r#","promptTokensDetails":[{{"modality":"TEXT","tokenCount":{input}}}]"#);
    if thoughts > 0 {
        out += &format!(r#","thoughtsTokenCount":{thoughts}"#);
    }
    out + "}"
}

/// Status and envelope of an error answer.
fn trouble(trouble: &Trouble) -> (u16, String) {
    let (code, status) = match trouble {
        Trouble::NoKey => (403, "PERMISSION_DENIED"),
        Trouble::NoSuchPath { .. } | Trouble::Method { .. } | Trouble::NoSuchModel { .. } => {
            (404, "NOT_FOUND")
        }
        Trouble::WrongKey { .. }
        | Trouble::TooLarge { .. }
        | Trouble::NotJson { .. }
        | Trouble::Missing { .. }
        | Trouble::Invalid { .. }
        | Trouble::ContextLength { .. } => (400, "INVALID_ARGUMENT"),
        Trouble::RateLimit { .. } => (429, "RESOURCE_EXHAUSTED"),
        Trouble::ServerError => (500, "INTERNAL"),
        Trouble::Unavailable { .. } => (503, "UNAVAILABLE"),
    };
    let details = match trouble {
        // No retry-after header: the time to wait is in the body.
        Trouble::RateLimit { retry_after_s, .. } => format!(
            r#","details":[{{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"{retry_after_s}s"}}]"#
        ),
        Trouble::WrongKey { .. } => r#","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com","metadata":{"service":"generativelanguage.googleapis.com"}}]"#.to_owned(),
        _ => String::new(),
    };
    let body = format!(
        r#"{{"error":{{"code":{code},"message":{},"status":"{status}"{details}}}}}"#,
        quoted(&message(trouble))
    );
    (code, body)
}

fn message(trouble: &Trouble) -> String {
    match trouble {
        Trouble::NoKey => "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other form of API consumer identity to call this API.".to_owned(),
        Trouble::WrongKey { .. } => "API key not valid. Please pass a valid API key.".to_owned(),
        Trouble::NoSuchPath { .. } | Trouble::Method { .. } => "Requested entity was not found.".to_owned(),
        Trouble::TooLarge { bytes_max } => format!("Request payload size exceeds the limit: {bytes_max} bytes."),
        Trouble::NotJson { problem } => format!("Invalid JSON payload received. {problem}"),
        Trouble::Missing { parameter } => format!("* GenerateContentRequest.{parameter}: {parameter} is not specified"),
        Trouble::Invalid { parameter, problem } => format!("Invalid value at '{parameter}': {problem}"),
        Trouble::NoSuchModel { model } => format!("models/{model} is not found for API version v1beta, or is not supported for generateContent. Call ListModels to see the list of available models and their supported methods."),
        Trouble::ContextLength { tokens_max, input, .. } => format!("The input token count ({input}) exceeds the maximum number of tokens allowed ({tokens_max})."),
        Trouble::RateLimit { limit, .. } => format!("You exceeded your current quota, please check your plan and billing details. * Quota exceeded for metric: generativelanguage.googleapis.com/generate_requests_per_model, limit: {limit}"),
        Trouble::ServerError => "An internal error has occurred. Please retry or report in https://developers.generativeai.google/guide/troubleshooting".to_owned(),
        Trouble::Unavailable { .. } => "The model is overloaded. Please try again later.".to_owned(),
    }
}
