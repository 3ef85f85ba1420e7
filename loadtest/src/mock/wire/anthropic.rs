//! `POST /v1/messages`, plain and as server-sent events, and `POST /v1/messages/count_tokens`.
//!
//! Written from the public API reference (docs.claude.com: Messages, Streaming, Errors, Rate limits, Extended thinking).

use std::borrow::Cow;
use std::io::Write as _;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::tools::{self, MockToolCall, MockToolChoice, Offered};
use super::{
    AnswerHead, Events, MockAnswer, MockRequest, Overrides, Prepared, RequestHead, Trouble, Wire,
};
use super::{put, quoted, required, thinks, thought, thought_id, value, words};
use crate::mock::text::{self, PromptBytes};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Anthropic {
    Messages,
    CountTokens,
}

#[derive(Deserialize)]
struct AnthropicRequest<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    messages: Option<PromptBytes>,
    system: Option<PromptBytes>,
    max_tokens: Option<u32>,
    stream: Option<bool>,
    thinking: Option<AnthropicThinking>,
    #[serde(default)]
    tools: Vec<IgnoredAny>,
    metadata: Option<Overrides>,
}

#[derive(Deserialize)]
struct AnthropicThinking {
    r#type: String,
}

impl Wire for Anthropic {
    /// `x-api-key: KEY`, or a bearer token.
    fn key<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        match headers.get("x-api-key") {
            Some(key) => key.to_str().ok(),
            None => super::openai::key(headers),
        }
    }

    fn read(&self, called: &RequestHead<'_>, body: &[u8]) -> Result<MockRequest, Trouble> {
        required(called.headers.get(VERSION), VERSION)?;
        let request: AnthropicRequest<'_> = serde_json::from_slice(body)?;
        let model = required(request.model, "model")?;
        let messages = required(request.messages, "messages")?;
        let system = request.system.unwrap_or_default();
        let asked = MockRequest {
            model: model.into_owned(),
            input_tokens: text::input_tokens_of_text(messages.0 + system.0),
            choices: 1,
            overrides: request.metadata.unwrap_or_default(),
            ..MockRequest::default()
        };
        if *self == Self::CountTokens {
            return Ok(asked);
        }
        Ok(MockRequest {
            streamed: request.stream.unwrap_or(false),
            include_usage: true,
            max_output_tokens: Some(required(request.max_tokens, "max_tokens")?),
            generates: true,
            shows_reasoning: request
                .thinking
                .is_some_and(|thinking| thinking.r#type != "disabled"),
            calls: tools::wanted(&request.tools, body, calls)?,
            ..asked
        })
    }

    fn headers(&self, head: &AnswerHead<'_>, headers: &mut HeaderMap) {
        const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
        const ORGANIZATION: HeaderName = HeaderName::from_static("anthropic-organization-id");
        const LIMIT_REQUESTS: HeaderName =
            HeaderName::from_static("anthropic-ratelimit-requests-limit");
        const LEFT_REQUESTS: HeaderName =
            HeaderName::from_static("anthropic-ratelimit-requests-remaining");
        const RESET_REQUESTS: HeaderName =
            HeaderName::from_static("anthropic-ratelimit-requests-reset");
        const LIMIT_TOKENS: HeaderName =
            HeaderName::from_static("anthropic-ratelimit-tokens-limit");
        const LEFT_TOKENS: HeaderName =
            HeaderName::from_static("anthropic-ratelimit-tokens-remaining");
        const RESET_TOKENS: HeaderName =
            HeaderName::from_static("anthropic-ratelimit-tokens-reset");
        let request_id = format!("req_{}", text::id(head.seed, head.number, 24));
        let room = &head.room;
        let reset = value(rfc3339(head.now_s + room.reset.as_secs()));
        headers.extend([
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (REQUEST_ID, value(request_id)),
            (ORGANIZATION, value(head.provider)),
            (LIMIT_REQUESTS, room.requests.into()),
            (LEFT_REQUESTS, room.requests_left.into()),
            (RESET_REQUESTS, reset.clone()),
            (LIMIT_TOKENS, room.tokens.into()),
            (LEFT_TOKENS, room.tokens_left.into()),
            (RESET_TOKENS, reset),
        ]);
        if let Some(seconds) = head.retry_after_s {
            headers.insert(RETRY_AFTER, seconds.into());
        }
    }

    fn whole(&self, answer: &MockAnswer, out: &mut Vec<u8>) {
        if *self == Self::CountTokens {
            let _ = write!(out, r#"{{"input_tokens":{}}}"#, answer.usage.input);
            return;
        }
        let mut blocks = Vec::new();
        if thinks(answer) {
            let (thought, signature) = (quoted(&thought(answer)), thought_id(answer));
            blocks.push(format!(
                r#"{{"type":"thinking","thinking":{thought},"signature":"{signature}"}}"#
            ));
        }
        blocks.push(format!(r#"{{"type":"text","text":"{}"}}"#, words(answer)));
        for (at, call) in answer.asked.calls.iter().enumerate() {
            blocks.push(tool_use(answer, at, call, &call.arguments));
        }
        let reason = stop_reason(answer);
        put(
            out,
            &[&message(
                answer,
                &blocks.join(","),
                reason,
                answer.usage.output,
            )],
        );
    }

    fn events(&self) -> Option<&'static dyn Events> {
        (*self == Self::Messages).then_some(&Self::Messages)
    }

    fn trouble(&self, trouble: &Trouble) -> (u16, String) {
        let (status, message) = error(trouble);
        let kind = match status {
            401 => "authentication_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            500 => "api_error",
            529 => "overloaded_error",
            _ => "invalid_request_error",
        };
        let message = quoted(&message);
        let body = format!(r#"{{"type":"error","error":{{"type":"{kind}","message":{message}}}}}"#);
        (status, body)
    }
}

impl Events for Anthropic {
    fn prepare(&self, answer: &MockAnswer) -> Prepared {
        let index = usize::from(thinks(answer));
        Prepared {
            before: format!(
                "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{{\"type\":\"text_delta\",\"text\":\""
            ),
            after: "\"}}\n\n",
        }
    }

    fn opening(&self, answer: &MockAnswer, _prepared: &Prepared, out: &mut Vec<u8>) {
        let begun = message(answer, "", "null", 1);
        event("message_start", &format!(r#""message":{begun}"#), out);
        let mut index = 0;
        if thinks(answer) {
            let (thought, signature) = (quoted(&thought(answer)), thought_id(answer));
            let empty = r#"{"type":"thinking","thinking":"","signature":""}"#;
            start_block(index, empty, out);
            let thinking = format!(r#"{{"type":"thinking_delta","thinking":{thought}}}"#);
            delta(index, &thinking, out);
            let signed = format!(r#"{{"type":"signature_delta","signature":"{signature}"}}"#);
            delta(index, &signed, out);
            stop_block(index, out);
            index += 1;
        }
        start_block(index, r#"{"type":"text","text":""}"#, out);
        put(out, &["event: ping\ndata: {\"type\": \"ping\"}\n\n"]);
    }

    fn token(&self, answer: &MockAnswer, prepared: &Prepared, index: u32, out: &mut Vec<u8>) {
        let word = text::word(answer.number, index);
        put(out, &[&prepared.before, word, prepared.after]);
    }

    fn closing(&self, answer: &MockAnswer, _prepared: &Prepared, out: &mut Vec<u8>) {
        let mut index = usize::from(thinks(answer));
        stop_block(index, out);
        for (at, call) in answer.asked.calls.iter().enumerate() {
            index += 1;
            start_block(index, &tool_use(answer, at, call, "{}"), out);
            for piece in tools::pieces(&call.arguments) {
                let piece = quoted(piece);
                let json = format!(r#"{{"type":"input_json_delta","partial_json":{piece}}}"#);
                delta(index, &json, out);
            }
            stop_block(index, out);
        }
        let (reason, usage) = (stop_reason(answer), usage(answer, answer.usage.output));
        let rest =
            format!(r#""delta":{{"stop_reason":{reason},"stop_sequence":null}},"usage":{usage}"#);
        event("message_delta", &rest, out);
        put(
            out,
            &["event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"],
        );
    }

    fn malformed(&self, prepared: &Prepared, out: &mut Vec<u8>) {
        put(out, &[&prepared.before, "cut\n\n"]);
    }

    fn error(&self, _answer: &MockAnswer, _tokens: u32, out: &mut Vec<u8>) {
        let error = r#""error":{"details":null,"type":"overloaded_error","message":"Overloaded"}"#;
        event("error", error, out);
    }
}

const VERSION: &str = "anthropic-version";

fn calls(body: &Value) -> Vec<MockToolCall> {
    let offered: Vec<_> = tools::items(&body["tools"])
        .filter_map(|tool| Offered::function(&tool["name"], &tool["input_schema"]))
        .collect();
    let choice = &body["tool_choice"];
    let choice = match choice["type"].as_str() {
        Some("any") => MockToolChoice::Any,
        Some("none") => MockToolChoice::Never,
        Some("tool") => MockToolChoice::Named(choice["name"].as_str().unwrap_or_default()),
        _ => MockToolChoice::Auto,
    };
    let content = &tools::last_said(&body["messages"])["content"];
    let is_result = tools::items(content).any(|block| block["type"] == "tool_result");
    let said = (!is_result).then(|| tools::text_of(content));
    tools::calls(&offered, &choice, said)
}

/// The object that a plain answer is, and that a stream begins with.
fn message(answer: &MockAnswer, content: &str, stop_reason: &str, output: u64) -> String {
    let model = quoted(&answer.asked.model);
    let id = text::id(answer.seed, answer.number, 24);
    let usage = usage(answer, output);
    format!(
        r#"{{"model":{model},"id":"msg_{id}","type":"message","role":"assistant","content":[{content}],"stop_reason":{stop_reason},"stop_sequence":null,"usage":{usage}}}"#
    )
}

fn tool_use(answer: &MockAnswer, at: usize, call: &MockToolCall, input: &str) -> String {
    let id = super::part_id(answer, at, 24);
    let name = quoted(&call.name);
    format!(r#"{{"type":"tool_use","id":"toolu_{id}","name":{name},"input":{input}}}"#)
}

/// `rest` is what follows the event's type.
fn event(name: &str, rest: &str, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        "event: {name}\ndata: {{\"type\":\"{name}\",{rest}}}\n\n"
    );
}

fn start_block(index: usize, block: &str, out: &mut Vec<u8>) {
    let rest = format!(r#""index":{index},"content_block":{block}"#);
    event("content_block_start", &rest, out);
}

fn delta(index: usize, delta: &str, out: &mut Vec<u8>) {
    let rest = format!(r#""index":{index},"delta":{delta}"#);
    event("content_block_delta", &rest, out);
}

fn stop_block(index: usize, out: &mut Vec<u8>) {
    event("content_block_stop", &format!(r#""index":{index}"#), out);
}

/// As JSON.
fn stop_reason(answer: &MockAnswer) -> &'static str {
    match (answer.asked.calls.is_empty(), answer.clipped) {
        (false, _) => r#""tool_use""#,
        (true, true) => r#""max_tokens""#,
        (true, false) => r#""end_turn""#,
    }
}

/// Anthropic counts what was read from its cache apart from the rest of the input.
fn usage(answer: &MockAnswer, output: u64) -> String {
    let cached = answer.usage.cached_input;
    let input = answer.usage.input - cached;
    format!(
        r#"{{"input_tokens":{input},"cache_creation_input_tokens":0,"cache_read_input_tokens":{cached},"output_tokens":{output},"service_tier":"standard"}}"#
    )
}

/// `2026-01-31T12:00:00Z`.
fn rfc3339(unix_s: u64) -> String {
    let seconds = i64::try_from(unix_s).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds)
        .unwrap_or_default()
        .to_string()
}

/// Status and words of an error answer.
fn error(trouble: &Trouble) -> (u16, Cow<'static, str>) {
    match trouble {
        Trouble::NoKey => (401, "x-api-key header is required".into()),
        Trouble::WrongKey { .. } => (401, "invalid x-api-key".into()),
        Trouble::NoSuchPath { .. } => (404, "Not Found".into()),
        Trouble::Method { .. } => (405, "Method Not Allowed".into()),
        Trouble::TooLarge { .. } => (413, "Request exceeds the maximum size".into()),
        Trouble::NotJson { problem } => {
            let message = format!("The request body is not valid JSON: {problem}");
            (400, message.into())
        }
        Trouble::Missing { parameter: VERSION } => {
            (400, format!("{VERSION}: header is required").into())
        }
        Trouble::Missing { parameter } => (400, format!("{parameter}: Field required").into()),
        Trouble::Invalid { parameter, problem } => (400, format!("{parameter}: {problem}").into()),
        Trouble::NoSuchModel { model } => (404, format!("model: {model}").into()),
        Trouble::ContextLength {
            tokens_max, input, ..
        } => {
            let message = format!("prompt is too long: {input} tokens > {tokens_max} maximum");
            (400, message.into())
        }
        Trouble::RateLimit { limit, what, .. } => {
            let message = format!(
                "This request would exceed your organization's rate limit of {limit} {what} per minute. For details, refer to: https://docs.claude.com/en/api/rate-limits."
            );
            (429, message.into())
        }
        Trouble::ServerError => (500, "Internal server error".into()),
        Trouble::Unavailable { .. } => (529, "Overloaded".into()),
    }
}
