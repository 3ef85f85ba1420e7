//! `POST /v1/responses`, plain and as server-sent events.
//!
//! Written from the public API reference (platform.openai.com/docs/api-reference: responses, responses-streaming). The mock keeps
//! nothing from one call to the next, so `previous_response_id` is refused as one that was not found.

use std::borrow::Cow;
use std::io::Write as _;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::tools::{self, MockToolCall, Offered};
use super::{Events, MockAnswer, MockRequest, Overrides, Prepared, RequestHead, Trouble, Wire};
use super::{invalid, openai, part_id, put, quoted, required, thinks, thought_id, words};
use crate::mock::text::{self, PromptBytes};

#[derive(Debug)]
pub(super) struct OpenAiResponses;

#[derive(Deserialize)]
struct ResponsesRequest<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    input: Option<PromptBytes>,
    instructions: Option<PromptBytes>,
    max_output_tokens: Option<u32>,
    stream: Option<bool>,
    reasoning: Option<ReasoningOptions>,
    tools: Option<Vec<IgnoredAny>>,
    previous_response_id: Option<String>,
    metadata: Option<Overrides>,
}

#[derive(Deserialize)]
struct ReasoningOptions {
    summary: Option<String>,
}

impl Wire for OpenAiResponses {
    fn read(&self, _called: &RequestHead<'_>, body: &[u8]) -> Result<MockRequest, Trouble> {
        let request: ResponsesRequest<'_> = serde_json::from_slice(body)?;
        let model = required(request.model, "model")?;
        let input = required(request.input, "input")?;
        if let Some(id) = request.previous_response_id {
            let problem = format!("Previous response with id '{id}' not found.");
            return Err(invalid("previous_response_id", problem));
        }
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
            calls: tools::wanted(&request.tools.unwrap_or_default(), body, calls)?,
            overrides: request.metadata.unwrap_or_default(),
            ..MockRequest::default()
        })
    }

    fn whole(&self, answer: &MockAnswer, out: &mut Vec<u8>) {
        put(out, &[&response(answer, Some(&output(answer)))]);
    }

    fn events(&self) -> Option<&'static dyn Events> {
        Some(&Self)
    }
}

fn calls(body: &Value) -> Vec<MockToolCall> {
    let offered: Vec<_> = tools::items(&body["tools"])
        .filter(|tool| tool["type"] == "function" || tool["type"] == "custom")
        .filter_map(|tool| {
            Some(Offered {
                free_text: tool["type"] == "custom",
                ..Offered::function(&tool["name"], &tool["parameters"])?
            })
        })
        .collect();
    let choice = openai::tool_choice(&body["tool_choice"], &body["tool_choice"]);
    let said = match &body["input"] {
        Value::String(text) => Some(text.clone()),
        input => {
            let item = tools::last_said(input);
            let kind = item["type"].as_str().unwrap_or_default();
            (!kind.ends_with("_output")).then(|| tools::text_of(&item["content"]))
        }
    };
    tools::calls(&offered, &choice, said)
}

/// The object that the answer is, and that events carry: without output while it is in progress.
fn response(answer: &MockAnswer, output: Option<&[String]>) -> String {
    let (status, details) = match output {
        None => ("in_progress", "null"),
        Some(_) if answer.clipped => ("incomplete", r#"{"reason":"max_output_tokens"}"#),
        Some(_) => ("completed", "null"),
    };
    let null = || "null".to_owned();
    format!(
        concat!(
            r#"{{"id":"resp_{id}","object":"response","created_at":{created},"status":"{status}","background":false,"error":null,"#,
            r#""incomplete_details":{details},"instructions":null,"max_output_tokens":{max},"model":{model},"output":[{output}],"#,
            r#""parallel_tool_calls":true,"previous_response_id":null,"reasoning":{{"effort":null,"summary":null}},"#,
            r#""service_tier":"default","store":false,"temperature":1.0,"text":{{"format":{{"type":"text"}},"verbosity":"medium"}},"#,
            r#""tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":{usage},"user":null,"metadata":{{}}}}"#
        ),
        id = text::id(answer.seed, answer.number, 48),
        status = status,
        details = details,
        usage = output.map_or_else(null, |_| usage(answer)),
        created = answer.created_s,
        max = answer
            .asked
            .max_output_tokens
            .map_or_else(null, |max| max.to_string()),
        model = quoted(&answer.asked.model),
        output = output.unwrap_or_default().join(","),
    )
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
    let id = thought_id(answer);
    if !whole {
        return format!(r#"{{"id":"rs_{id}","type":"reasoning","summary":[]}}"#);
    }
    let summary = if thinks(answer) {
        summary_part(answer)
    } else {
        String::new()
    };
    let sealed = part_id(answer, usize::from(u16::MAX) - 1, 40);
    format!(
        r#"{{"id":"rs_{id}","type":"reasoning","summary":[{summary}],"encrypted_content":"gAAAAA{sealed}"}}"#
    )
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
    let id = part_id(answer, usize::from(u16::MAX) - 2, 40);
    format!("msg_{id}")
}

fn part(text: &str) -> String {
    format!(r#"{{"type":"output_text","annotations":[],"logprobs":[],"text":"{text}"}}"#)
}

/// The prefix of a call's id, its type, and the field of its arguments.
fn call_kind(call: &MockToolCall) -> (&'static str, &'static str, &'static str) {
    if call.free_text {
        ("ctc", "custom_tool_call", "input")
    } else {
        ("fc", "function_call", "arguments")
    }
}

fn call_item(answer: &MockAnswer, at: usize, call: &MockToolCall, status: &str) -> String {
    let (prefix, kind, field) = call_kind(call);
    let (id, name) = (part_id(answer, at, 24), quoted(&call.name));
    let arguments = match status {
        "completed" => quoted(&call.arguments),
        _ => quoted(""),
    };
    format!(
        r#"{{"id":"{prefix}_{id}","type":"{kind}","status":"{status}","{field}":{arguments},"call_id":"call_{id}","name":{name}}}"#
    )
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

    fn item(&mut self, change: &str, index: usize, item: &str) {
        let name = format!("response.output_item.{change}");
        self.event(&name, &format!(r#""output_index":{index},"item":{item}"#));
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
            events.item("added", 0, &reasoning(answer, false));
            if answer.asked.shows_reasoning {
                open_summary(answer, &mut events);
            }
            events.item("done", 0, &reasoning(answer, true));
            index = 1;
        }
        events.item("added", index, &message(answer, "in_progress", ""));
        let added = format!("{}\"part\":{}", &prepared.before[1..], part(""));
        events.event("response.content_part.added", &added);
    }

    fn token(&self, answer: &MockAnswer, prepared: &Prepared, index: u32, out: &mut Vec<u8>) {
        let _ = write!(
            out,
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"sequence_number\":{}",
            first_token(answer) + u64::from(index)
        );
        let word = text::word(answer.number, index);
        let field = "\"logprobs\":[],\"delta\":\"";
        put(out, &[&prepared.before, field, word, prepared.after]);
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
        events.item("done", index, &message(answer, "completed", &part(&text)));
        for (at, call) in answer.asked.calls.iter().enumerate() {
            index += 1;
            stream_call(answer, at, call, index, &mut events);
        }
        let whole = format!(r#""response":{}"#, response(answer, Some(&output(answer))));
        let end = if answer.clipped {
            "response.incomplete"
        } else {
            "response.completed"
        };
        events.event(end, &whole);
    }

    fn malformed(&self, prepared: &Prepared, out: &mut Vec<u8>) {
        let begun =
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\"";
        put(out, &[begun, &prepared.before, "\n\n"]);
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
    let id = thought_id(answer);
    let place = format!(r#""item_id":"rs_{id}","output_index":0,"summary_index":0"#);
    let text = quoted(&super::thought(answer));
    let part = summary_part(answer);
    let empty = r#"{"type":"summary_text","text":""}"#;
    for (name, rest) in [
        ("part.added", format!(r#""part":{empty}"#)),
        ("text.delta", format!(r#""delta":{text}"#)),
        ("text.done", format!(r#""text":{text}"#)),
        ("part.done", format!(r#""part":{part}"#)),
    ] {
        let name = format!("response.reasoning_summary_{name}");
        events.event(&name, &format!("{place},{rest}"));
    }
}

fn stream_call(
    answer: &MockAnswer,
    at: usize,
    call: &MockToolCall,
    index: usize,
    events: &mut Numbered<'_>,
) {
    let id = part_id(answer, at, 24);
    let (prefix, kind, field) = call_kind(call);
    let of = format!("response.{kind}_{field}");
    let place = format!(r#""item_id":"{prefix}_{id}","output_index":{index}"#);
    let item = |status| call_item(answer, at, call, status);
    events.item("added", index, &item("in_progress"));
    for piece in tools::pieces(&call.arguments) {
        let delta = format!(r#"{place},"delta":{}"#, quoted(piece));
        events.event(&format!("{of}.delta"), &delta);
    }
    let done = format!(r#"{place},"{field}":{}"#, quoted(&call.arguments));
    events.event(&format!("{of}.done"), &done);
    events.item("done", index, &item("completed"));
}
