//! `POST /v1/messages`, plain and as server-sent events, and `POST /v1/messages/count_tokens`.
//!
//! Written from the public API reference (docs.claude.com: Messages, Streaming, Errors, Rate limits, Extended thinking).

use std::borrow::Cow;
use std::io::Write as _;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde::Deserialize;
use serde_json::Value;

use super::tools::{self, Last, MockToolCall, MockToolChoice, Offered};
use super::{
    AnswerHead, Events, MockAnswer, MockRequest, Overrides, Prepared, RequestHead, Trouble, Wire,
};
use super::{not_json, quoted, thought, words};
use crate::mock::ledger::TokenCounts;
use crate::mock::text::{self, PromptBytes};

#[derive(Debug)]
pub(super) struct AnthropicMessages;

#[derive(Debug)]
pub(super) struct AnthropicCountTokens;

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
    tools: Vec<serde::de::IgnoredAny>,
    #[serde(default)]
    metadata: Option<Overrides>,
}

#[derive(Deserialize)]
struct AnthropicThinking {
    r#type: String,
}

/// What both endpoints read.
fn read<'a>(
    called: &RequestHead<'_>,
    body: &'a [u8],
) -> Result<(AnthropicRequest<'a>, MockRequest), Trouble> {
    if !called.headers.contains_key("anthropic-version") {
        return Err(Trouble::Missing {
            parameter: "anthropic-version",
        });
    }
    let mut request: AnthropicRequest<'_> = serde_json::from_slice(body).map_err(not_json)?;
    let model = request
        .model
        .take()
        .ok_or(Trouble::Missing { parameter: "model" })?;
    let messages = request.messages.ok_or(Trouble::Missing {
        parameter: "messages",
    })?;
    let system = request.system.unwrap_or_default();
    let asked = MockRequest {
        model: model.into_owned(),
        input_tokens: text::input_tokens_of_text(messages.0 + system.0),
        choices: 1,
        overrides: request.metadata.take().unwrap_or_default(),
        ..MockRequest::default()
    };
    Ok((request, asked))
}

impl Wire for AnthropicMessages {
    fn key<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        key(headers)
    }

    fn read(&self, called: &RequestHead<'_>, body: &[u8]) -> Result<MockRequest, Trouble> {
        let (request, asked) = read(called, body)?;
        let max_tokens = request.max_tokens.ok_or(Trouble::Missing {
            parameter: "max_tokens",
        })?;
        let calls = if request.tools.is_empty() {
            Vec::new()
        } else {
            calls(&serde_json::from_slice(body).map_err(not_json)?)
        };
        Ok(MockRequest {
            streamed: request.stream.unwrap_or(false),
            include_usage: true,
            max_output_tokens: Some(max_tokens),
            generates: true,
            shows_reasoning: request
                .thinking
                .is_some_and(|thinking| thinking.r#type != "disabled"),
            calls,
            ..asked
        })
    }

    fn headers(&self, head: &AnswerHead<'_>, headers: &mut HeaderMap) {
        self::headers(head, headers);
    }

    fn whole(&self, answer: &MockAnswer, out: &mut Vec<u8>) {
        begin_message(answer, out);
        let mut blocks = Vec::new();
        if thinks(answer) {
            let thought = quoted(&thought(answer));
            let signature = signature(answer);
            blocks.push(format!(
                r#"{{"type":"thinking","thinking":{thought},"signature":"{signature}"}}"#
            ));
        }
        let text = words(answer);
        blocks.push(format!(r#"{{"type":"text","text":"{text}"}}"#));
        for (at, call) in answer.asked.calls.iter().enumerate() {
            blocks.push(tool_use(answer, at, call, &call.arguments));
        }
        let _ = write!(
            out,
            r#""content":[{}],"stop_reason":"{}","stop_sequence":null,"usage":"#,
            blocks.join(","),
            stop_reason(answer)
        );
        usage(&answer.usage, answer.usage.output, out);
        out.push(b'}');
    }

    fn events(&self) -> Option<&'static dyn Events> {
        Some(&Self)
    }

    fn trouble(&self, trouble: &Trouble) -> (u16, Vec<u8>) {
        self::trouble(trouble)
    }
}

impl Events for AnthropicMessages {
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
        out.extend_from_slice(
            b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":",
        );
        begin_message(answer, out);
        out.extend_from_slice(br#""content":[],"stop_reason":null,"stop_sequence":null,"usage":"#);
        usage(&answer.usage, 1, out);
        out.extend_from_slice(b"}}\n\n");
        let mut index = 0;
        if thinks(answer) {
            let empty = r#"{"type":"thinking","thinking":"","signature":""}"#;
            start_block(index, empty, out);
            let thought = quoted(&thought(answer));
            delta(
                index,
                &format!(r#"{{"type":"thinking_delta","thinking":{thought}}}"#),
                out,
            );
            let signature = signature(answer);
            delta(
                index,
                &format!(r#"{{"type":"signature_delta","signature":"{signature}"}}"#),
                out,
            );
            stop_block(index, out);
            index += 1;
        }
        start_block(index, r#"{"type":"text","text":""}"#, out);
        out.extend_from_slice(b"event: ping\ndata: {\"type\": \"ping\"}\n\n");
    }

    fn token(&self, answer: &MockAnswer, prepared: &Prepared, index: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(prepared.before.as_bytes());
        out.extend_from_slice(text::word(answer.number, index).as_bytes());
        out.extend_from_slice(prepared.after.as_bytes());
    }

    fn closing(&self, answer: &MockAnswer, _prepared: &Prepared, out: &mut Vec<u8>) {
        let mut index = usize::from(thinks(answer));
        stop_block(index, out);
        for (at, call) in answer.asked.calls.iter().enumerate() {
            index += 1;
            start_block(index, &tool_use(answer, at, call, "{}"), out);
            for piece in tools::pieces(&call.arguments) {
                let piece = quoted(piece);
                delta(
                    index,
                    &format!(r#"{{"type":"input_json_delta","partial_json":{piece}}}"#),
                    out,
                );
            }
            stop_block(index, out);
        }
        let _ = write!(
            out,
            "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{}\",\"stop_sequence\":null}},\"usage\":",
            stop_reason(answer)
        );
        usage(&answer.usage, answer.usage.output, out);
        out.extend_from_slice(b"}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    }

    fn malformed(&self, prepared: &Prepared, out: &mut Vec<u8>) {
        out.extend_from_slice(prepared.before.as_bytes());
        out.extend_from_slice(b"cut\n\n");
    }

    fn error(&self, _answer: &MockAnswer, _tokens: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: error\ndata: {\"type\":\"error\",\"error\":{\"details\":null,\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n");
    }
}

impl Wire for AnthropicCountTokens {
    fn key<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        key(headers)
    }

    fn read(&self, called: &RequestHead<'_>, body: &[u8]) -> Result<MockRequest, Trouble> {
        Ok(read(called, body)?.1)
    }

    fn headers(&self, head: &AnswerHead<'_>, headers: &mut HeaderMap) {
        self::headers(head, headers);
    }

    fn whole(&self, answer: &MockAnswer, out: &mut Vec<u8>) {
        let _ = write!(out, r#"{{"input_tokens":{}}}"#, answer.usage.input);
    }

    fn trouble(&self, trouble: &Trouble) -> (u16, Vec<u8>) {
        self::trouble(trouble)
    }
}

/// `x-api-key: KEY`, or a bearer token.
fn key(headers: &HeaderMap) -> Option<&str> {
    match headers.get("x-api-key") {
        Some(key) => key.to_str().ok(),
        None => super::openai::key(headers),
    }
}

fn calls(body: &Value) -> Vec<MockToolCall> {
    let offered: Vec<_> = body["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tool| {
            Some(Offered {
                name: tool["name"].as_str()?,
                schema: &tool["input_schema"],
                free_text: false,
            })
        })
        .collect();
    let choice = match body["tool_choice"]["type"].as_str() {
        Some("any") => MockToolChoice::Any,
        Some("none") => MockToolChoice::Never,
        Some("tool") => {
            MockToolChoice::Named(body["tool_choice"]["name"].as_str().unwrap_or_default())
        }
        _ => MockToolChoice::Auto,
    };
    let content = &tools::last_said(&body["messages"])["content"];
    let is_result = |block: &Value| block["type"] == "tool_result";
    let last = match content.as_array() {
        Some(blocks) if blocks.iter().any(is_result) => Last::ToolResult,
        _ => Last::User(tools::text_of(content)),
    };
    tools::calls(&offered, &choice, &last)
}

fn begin_message(answer: &MockAnswer, out: &mut Vec<u8>) {
    let mut id = String::with_capacity(24);
    text::push_id(&mut id, answer.seed, answer.number, 24);
    let _ = write!(
        out,
        r#"{{"model":{},"id":"msg_{id}","type":"message","role":"assistant","#,
        quoted(&answer.asked.model)
    );
}

fn tool_use(answer: &MockAnswer, at: usize, call: &MockToolCall, input: &str) -> String {
    let id = super::call_id(answer, at, 24);
    let name = quoted(&call.name);
    format!(r#"{{"type":"tool_use","id":"toolu_{id}","name":{name},"input":{input}}}"#)
}

fn start_block(index: usize, block: &str, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        "event: content_block_start\ndata: {{\"type\":\"content_block_start\",\"index\":{index},\"content_block\":{block}}}\n\n"
    );
}

fn delta(index: usize, delta: &str, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{delta}}}\n\n"
    );
}

fn stop_block(index: usize, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        "event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{index}}}\n\n"
    );
}

/// Whether the answer begins with a thinking block.
fn thinks(answer: &MockAnswer) -> bool {
    answer.asked.shows_reasoning && answer.usage.reasoning > 0
}

/// Base64, as signatures are.
fn signature(answer: &MockAnswer) -> String {
    super::call_id(answer, usize::from(u16::MAX), 40)
}

fn stop_reason(answer: &MockAnswer) -> &'static str {
    match (answer.asked.calls.is_empty(), answer.clipped) {
        (false, _) => "tool_use",
        (true, true) => "max_tokens",
        (true, false) => "end_turn",
    }
}

/// Anthropic counts what was read from its cache apart from the rest of the input.
fn usage(tokens: &TokenCounts, output: u64, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        r#"{{"input_tokens":{},"cache_creation_input_tokens":0,"cache_read_input_tokens":{},"output_tokens":{output},"service_tier":"standard"}}"#,
        tokens.input - tokens.cached_input,
        tokens.cached_input,
    );
}

fn headers(head: &AnswerHead<'_>, headers: &mut HeaderMap) {
    const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
    const ORGANIZATION: HeaderName = HeaderName::from_static("anthropic-organization-id");
    const LIMITS: [[&str; 3]; 2] = [
        [
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ],
        [
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ],
    ];
    headers
        .entry(CONTENT_TYPE)
        .or_insert(HeaderValue::from_static("application/json"));
    let mut id = "req_".to_owned();
    text::push_id(&mut id, head.seed, head.number, 24);
    for (name, value) in [(REQUEST_ID, id.as_str()), (ORGANIZATION, head.provider)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    let room = &head.room;
    let counts = [
        (room.requests, room.requests_left),
        (room.tokens, room.tokens_left),
    ];
    let reset = rfc3339(head.now_s + room.reset.as_secs());
    for ([limit, left, until], count) in LIMITS.into_iter().zip(counts) {
        headers.insert(HeaderName::from_static(limit), count.0.into());
        headers.insert(HeaderName::from_static(left), count.1.into());
        if let Ok(reset) = HeaderValue::from_str(&reset) {
            headers.insert(HeaderName::from_static(until), reset);
        }
    }
    if let Some(seconds) = head.retry_after_s {
        headers.insert(RETRY_AFTER, seconds.into());
    }
}

/// `2026-01-31T12:00:00Z`.
fn rfc3339(unix_s: u64) -> String {
    let seconds = i64::try_from(unix_s).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds)
        .unwrap_or_default()
        .to_string()
}

/// Status and envelope of an error answer.
fn trouble(trouble: &Trouble) -> (u16, Vec<u8>) {
    const INVALID: &str = "invalid_request_error";
    let (status, kind, message) = match trouble {
        Trouble::NoKey => (
            401,
            "authentication_error",
            "x-api-key header is required".to_owned(),
        ),
        Trouble::WrongKey { .. } => (401, "authentication_error", "invalid x-api-key".to_owned()),
        Trouble::NoSuchPath { .. } => (404, "not_found_error", "Not Found".to_owned()),
        Trouble::Method { .. } => (405, INVALID, "Method Not Allowed".to_owned()),
        Trouble::TooLarge { .. } => (
            413,
            "request_too_large",
            "Request exceeds the maximum size".to_owned(),
        ),
        Trouble::NotJson { problem } => (
            400,
            INVALID,
            format!("The request body is not valid JSON: {problem}"),
        ),
        Trouble::Missing {
            parameter: "anthropic-version",
        } => (
            400,
            INVALID,
            "anthropic-version: header is required".to_owned(),
        ),
        Trouble::Missing { parameter } => (400, INVALID, format!("{parameter}: Field required")),
        Trouble::Invalid { parameter, problem } => {
            (400, INVALID, format!("{parameter}: {problem}"))
        }
        Trouble::NoSuchModel { model } => (404, "not_found_error", format!("model: {model}")),
        Trouble::ContextLength {
            tokens_max, input, ..
        } => (
            400,
            INVALID,
            format!("prompt is too long: {input} tokens > {tokens_max} maximum"),
        ),
        Trouble::RateLimit { limit, what, .. } => (
            429,
            "rate_limit_error",
            format!(
                "This request would exceed your organization's rate limit of {limit} {what} per minute. For details, refer to: https://docs.claude.com/en/api/rate-limits."
            ),
        ),
        Trouble::ServerError => (500, "api_error", "Internal server error".to_owned()),
        Trouble::Unavailable { .. } => (529, "overloaded_error", "Overloaded".to_owned()),
    };
    let body = format!(
        r#"{{"type":"error","error":{{"type":"{kind}","message":{}}}}}"#,
        quoted(&message)
    );
    (status, body.into_bytes())
}
