//! `POST /v1/responses`, plain and as server-sent events.
//!
//! Written from the public API reference (platform.openai.com/docs/api-reference: responses, responses-streaming). The mock keeps
//! nothing from one call to the next, so `previous_response_id` is refused as one that was not found.

use std::borrow::Cow;
use std::io::Write as _;

use serde::Deserialize;
use serde_json::Value;

use super::tools::{self, Last, MockToolCall, MockToolChoice, Offered};
use super::{Events, MockAnswer, MockRequest, Overrides, Prepared, RequestHead, Trouble, Wire};
use super::{not_json, openai, quoted, words};
use crate::mock::text::{self, PromptBytes};

#[derive(Debug)]
pub(super) struct OpenAiResponses;

#[derive(Deserialize)]
struct ResponsesRequest<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    input: Option<PromptBytes>,
    #[serde(default)]
    instructions: Option<PromptBytes>,
    #[serde(default)]
    max_output_tokens: Option<u32>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    reasoning: Option<ReasoningOptions>,
    #[serde(default)]
    tools: Option<Vec<serde::de::IgnoredAny>>,
    #[serde(default)]
    previous_response_id: Option<String>,
    #[serde(default)]
    metadata: Option<Overrides>,
}

#[derive(Deserialize)]
struct ReasoningOptions {
    summary: Option<String>,
}

impl Wire for OpenAiResponses {
    fn read(&self, _called: &RequestHead<'_>, body: &[u8]) -> Result<MockRequest, Trouble> {
        let request: ResponsesRequest<'_> = serde_json::from_slice(body).map_err(not_json)?;
        let model = request
            .model
            .ok_or(Trouble::Missing { parameter: "model" })?;
        let input = request
            .input
            .ok_or(Trouble::Missing { parameter: "input" })?;
        if let Some(id) = request.previous_response_id {
            return Err(Trouble::Invalid {
                parameter: "previous_response_id",
                problem: format!("Previous response with id '{id}' not found."),
            });
        }
        let calls = if request.tools.is_some_and(|tools| !tools.is_empty()) {
            calls(&serde_json::from_slice(body).map_err(not_json)?)
        } else {
            Vec::new()
        };
        let instructions = request.instructions.unwrap_or_default();
        Ok(MockRequest {
            model: model.into_owned(),
            streamed: request.stream.unwrap_or(false),
            include_usage: true,
            input_tokens: text::input_tokens_of_text(input.0 + instructions.0),
            max_output_tokens: request.max_output_tokens,
            generates: true,
            choices: 1,
            shows_reasoning: request
                .reasoning
                .is_some_and(|reasoning| reasoning.summary.is_some()),
            calls,
            overrides: request.metadata.unwrap_or_default(),
            ..MockRequest::default()
        })
    }

    fn whole(&self, answer: &MockAnswer, out: &mut Vec<u8>) {
        out.extend_from_slice(response(answer, Some(&output(answer))).as_bytes());
    }

    fn events(&self) -> Option<&'static dyn Events> {
        Some(&Self)
    }
}

fn calls(body: &Value) -> Vec<MockToolCall> {
    let tools = body["tools"].as_array().into_iter().flatten();
    let offered: Vec<_> = tools
        .filter_map(|tool| {
            let kind = tool["type"].as_str()?;
            matches!(kind, "function" | "custom").then_some(Offered {
                name: tool["name"].as_str()?,
                schema: &tool["parameters"],
                free_text: kind == "custom",
            })
        })
        .collect();
    let choice = match &body["tool_choice"] {
        Value::String(word) if word == "required" => MockToolChoice::Any,
        Value::String(word) if word == "none" => MockToolChoice::Never,
        Value::Object(named) => match named.get("name").and_then(Value::as_str) {
            Some(name) => MockToolChoice::Named(name),
            None => MockToolChoice::Auto,
        },
        _ => MockToolChoice::Auto,
    };
    let last = match &body["input"] {
        Value::String(text) => Last::User(text.clone()),
        input => {
            let item = tools::last_said(input);
            match item["type"].as_str() {
                Some(kind) if kind.ends_with("_output") => Last::ToolResult,
                _ => Last::User(tools::text_of(&item["content"])),
            }
        }
    };
    tools::calls(&offered, &choice, &last)
}

/// The object that the answer is, and that events carry: without output while it is in progress.
fn response(answer: &MockAnswer, output: Option<&[String]>) -> String {
    let mut id = String::with_capacity(48);
    text::push_id(&mut id, answer.seed, answer.number, 48);
    let (status, details) = match output {
        None => ("in_progress", "null"),
        Some(_) if clipped(answer) => ("incomplete", r#"{"reason":"max_output_tokens"}"#),
        Some(_) => ("completed", "null"),
    };
    let usage = if output.is_some() {
        usage(answer)
    } else {
        "null".to_owned()
    };
    format!(
        concat!(
            r#"{{"id":"resp_{id}","object":"response","created_at":{created},"status":"{status}","background":false,"error":null,"#,
            r#""incomplete_details":{details},"instructions":null,"max_output_tokens":{max},"model":{model},"output":[{output}],"#,
            r#""parallel_tool_calls":true,"previous_response_id":null,"reasoning":{{"effort":null,"summary":null}},"#,
            r#""service_tier":"default","store":false,"temperature":1.0,"text":{{"format":{{"type":"text"}},"verbosity":"medium"}},"#,
            r#""tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":{usage},"user":null,"metadata":{{}}}}"#
        ),
        id = id,
        status = status,
        details = details,
        usage = usage,
        created = answer.created_s,
        max = answer
            .asked
            .max_output_tokens
            .map_or_else(|| "null".to_owned(), |max| max.to_string()),
        model = quoted(&answer.asked.model),
        output = output.unwrap_or_default().join(","),
    )
}

fn clipped(answer: &MockAnswer) -> bool {
    answer.clipped && answer.asked.calls.is_empty()
}

fn usage(answer: &MockAnswer) -> String {
    let tokens = &answer.usage;
    format!(
        r#"{{"input_tokens":{},"input_tokens_details":{{"cached_tokens":{}}},"output_tokens":{},"output_tokens_details":{{"reasoning_tokens":{}}},"total_tokens":{}}}"#,
        tokens.input,
        tokens.cached_input,
        tokens.output,
        tokens.reasoning,
        tokens.input + tokens.output
    )
}

/// All items of the output.
fn output(answer: &MockAnswer) -> Vec<String> {
    let mut items = Vec::new();
    if answer.usage.reasoning > 0 {
        items.push(reasoning(answer, true));
    }
    items.push(message(answer, "completed", &part(&words(answer))));
    for (at, call) in answer.asked.calls.iter().enumerate() {
        items.push(call_item(answer, at, call, "completed"));
    }
    items
}

/// Its summary is there if the request asked for one.
fn reasoning(answer: &MockAnswer, whole: bool) -> String {
    let id = super::call_id(answer, usize::from(u16::MAX), 40);
    let summary = if whole && answer.asked.shows_reasoning {
        summary_part(answer)
    } else {
        String::new()
    };
    let sealed = if whole {
        format!(
            r#","encrypted_content":"gAAAAA{}""#,
            super::call_id(answer, usize::from(u16::MAX) - 1, 40)
        )
    } else {
        String::new()
    };
    format!(r#"{{"id":"rs_{id}","type":"reasoning","summary":[{summary}]{sealed}}}"#)
}

fn summary_part(answer: &MockAnswer) -> String {
    let text = quoted(&super::thought(answer));
    format!(r#"{{"type":"summary_text","text":{text}}}"#)
}

fn message(answer: &MockAnswer, status: &str, content: &str) -> String {
    let id = message_id(answer);
    format!(
        r#"{{"id":"{id}","type":"message","status":"{status}","content":[{content}],"role":"assistant"}}"#
    )
}

fn message_id(answer: &MockAnswer) -> String {
    format!(
        "msg_{}",
        super::call_id(answer, usize::from(u16::MAX) - 2, 40)
    )
}

fn part(text: &str) -> String {
    format!(r#"{{"type":"output_text","annotations":[],"logprobs":[],"text":"{text}"}}"#)
}

fn call_item(answer: &MockAnswer, at: usize, call: &MockToolCall, status: &str) -> String {
    let id = super::call_id(answer, at, 24);
    let arguments = if status == "completed" {
        call.arguments.as_str()
    } else {
        ""
    };
    let (name, arguments) = (quoted(&call.name), quoted(arguments));
    if call.free_text {
        format!(
            r#"{{"id":"ctc_{id}","type":"custom_tool_call","status":"{status}","input":{arguments},"call_id":"call_{id}","name":{name}}}"#
        )
    } else {
        format!(
            r#"{{"id":"fc_{id}","type":"function_call","status":"{status}","arguments":{arguments},"call_id":"call_{id}","name":{name}}}"#
        )
    }
}

/// Writes events with their numbers.
struct Numbered<'o> {
    next: u64,
    out: &'o mut Vec<u8>,
}

impl Numbered<'_> {
    /// `rest` is what follows the sequence number.
    fn event(&mut self, name: &str, rest: &str) {
        let _ = write!(
            self.out,
            "event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":{},{rest}}}\n\n",
            self.next
        );
        self.next += 1;
    }
}

/// The number of the first token's event: what [`Events::opening`] writes comes before it.
fn first_token(answer: &MockAnswer) -> u64 {
    match (answer.usage.reasoning > 0, answer.asked.shows_reasoning) {
        (false, _) => 4,
        (true, false) => 6,
        (true, true) => 10,
    }
}

impl Events for OpenAiResponses {
    fn prepare(&self, answer: &MockAnswer) -> Prepared {
        let index = usize::from(answer.usage.reasoning > 0);
        Prepared {
            before: format!(
                r#","item_id":"{}","output_index":{index},"content_index":0,"#,
                message_id(answer)
            ),
            after: "\"}\n\n",
        }
    }

    fn opening(&self, answer: &MockAnswer, prepared: &Prepared, out: &mut Vec<u8>) {
        let mut events = Numbered { next: 0, out };
        let started = format!(r#""response":{}"#, response(answer, None));
        events.event("response.created", &started);
        events.event("response.in_progress", &started);
        let mut index = 0;
        if answer.usage.reasoning > 0 {
            let item = |whole| format!(r#""output_index":0,"item":{}"#, reasoning(answer, whole));
            events.event("response.output_item.added", &item(false));
            if answer.asked.shows_reasoning {
                open_summary(answer, &mut events);
            }
            events.event("response.output_item.done", &item(true));
            index = 1;
        }
        let item = message(answer, "in_progress", "");
        let added = format!(r#""output_index":{index},"item":{item}"#);
        events.event("response.output_item.added", &added);
        let added = format!("{}\"part\":{}", &prepared.before[1..], part(""));
        events.event("response.content_part.added", &added);
    }

    fn token(&self, answer: &MockAnswer, prepared: &Prepared, index: u32, out: &mut Vec<u8>) {
        let _ = write!(
            out,
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"sequence_number\":{}",
            first_token(answer) + u64::from(index)
        );
        out.extend_from_slice(prepared.before.as_bytes());
        out.extend_from_slice(b"\"logprobs\":[],\"delta\":\"");
        out.extend_from_slice(text::word(answer.number, index).as_bytes());
        out.extend_from_slice(prepared.after.as_bytes());
    }

    fn closing(&self, answer: &MockAnswer, prepared: &Prepared, out: &mut Vec<u8>) {
        let mut events = Numbered {
            next: first_token(answer) + u64::from(answer.visible),
            out,
        };
        let (place, text) = (&prepared.before[1..], words(answer));
        let done = format!(r#"{place}"logprobs":[],"text":"{text}""#);
        events.event("response.output_text.done", &done);
        let done = format!(r#"{place}"part":{}"#, part(&text));
        events.event("response.content_part.done", &done);
        let mut index = usize::from(answer.usage.reasoning > 0);
        let item = message(answer, "completed", &part(&text));
        let done = format!(r#""output_index":{index},"item":{item}"#);
        events.event("response.output_item.done", &done);
        for (at, call) in answer.asked.calls.iter().enumerate() {
            index += 1;
            stream_call(answer, at, call, index, &mut events);
        }
        let whole = format!(r#""response":{}"#, response(answer, Some(&output(answer))));
        let end = if clipped(answer) {
            "response.incomplete"
        } else {
            "response.completed"
        };
        events.event(end, &whole);
    }

    fn malformed(&self, prepared: &Prepared, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\"",
        );
        out.extend_from_slice(prepared.before.as_bytes());
        out.extend_from_slice(b"\n\n");
    }

    fn error(&self, answer: &MockAnswer, tokens: u32, out: &mut Vec<u8>) {
        let mut events = Numbered {
            next: first_token(answer) + u64::from(tokens),
            out,
        };
        let message = quoted(openai::SERVER_ERROR);
        let failed = response(answer, None)
            .replace(r#""status":"in_progress""#, r#""status":"failed""#)
            .replace(
                r#""error":null"#,
                &format!(r#""error":{{"code":"server_error","message":{message}}}"#),
            );
        events.event("response.failed", &format!(r#""response":{failed}"#));
    }
}

fn open_summary(answer: &MockAnswer, events: &mut Numbered<'_>) {
    let id = super::call_id(answer, usize::from(u16::MAX), 40);
    let place = format!(r#""item_id":"rs_{id}","output_index":0,"summary_index":0"#);
    let text = quoted(&super::thought(answer));
    let part = summary_part(answer);
    for (name, rest) in [
        (
            "response.reasoning_summary_part.added",
            r#""part":{"type":"summary_text","text":""}"#.to_owned(),
        ),
        (
            "response.reasoning_summary_text.delta",
            format!(r#""delta":{text}"#),
        ),
        (
            "response.reasoning_summary_text.done",
            format!(r#""text":{text}"#),
        ),
        (
            "response.reasoning_summary_part.done",
            format!(r#""part":{part}"#),
        ),
    ] {
        events.event(name, &format!("{place},{rest}"));
    }
}

fn stream_call(
    answer: &MockAnswer,
    at: usize,
    call: &MockToolCall,
    index: usize,
    events: &mut Numbered<'_>,
) {
    let id = super::call_id(answer, at, 24);
    let (prefix, of, field) = if call.free_text {
        ("ctc", "response.custom_tool_call_input", "input")
    } else {
        ("fc", "response.function_call_arguments", "arguments")
    };
    let place = format!(r#""item_id":"{prefix}_{id}","output_index":{index}"#);
    let item = |status| {
        format!(
            r#""output_index":{index},"item":{}"#,
            call_item(answer, at, call, status)
        )
    };
    events.event("response.output_item.added", &item("in_progress"));
    for piece in tools::pieces(&call.arguments) {
        let delta = format!(r#"{place},"delta":{}"#, quoted(piece));
        events.event(&format!("{of}.delta"), &delta);
    }
    let done = format!(r#"{place},"{field}":{}"#, quoted(&call.arguments));
    events.event(&format!("{of}.done"), &done);
    events.event("response.output_item.done", &item("completed"));
}
