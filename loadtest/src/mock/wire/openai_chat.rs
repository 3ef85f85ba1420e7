//! `POST /v1/chat/completions`, plain and as server-sent events.

use std::borrow::Cow;
use std::io::Write as _;

use serde::Deserialize;
use serde_json::Value;

use super::tools::{self, Last, MockToolCall, MockToolChoice, Offered};
use super::{Events, MockAnswer, MockRequest, Overrides, Prepared, RequestHead, Trouble, Wire};
use super::{not_json, openai, quoted};
use crate::mock::ledger::TokenCounts;
use crate::mock::text::{self, PromptBytes};

#[derive(Debug)]
pub(super) struct OpenAiChat;

#[derive(Deserialize)]
struct ChatRequest<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    messages: Option<PromptBytes>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<ChatStreamOptions>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    n: Option<u32>,
    #[serde(default)]
    tools: Option<Vec<serde::de::IgnoredAny>>,
    #[serde(default)]
    metadata: Option<Overrides>,
}

#[derive(Default, Deserialize)]
struct ChatStreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

/// OpenAI's own bound on `n`.
const CHOICES_MAX: u32 = 128;

impl Wire for OpenAiChat {
    fn read(&self, _called: &RequestHead<'_>, body: &[u8]) -> Result<MockRequest, Trouble> {
        let request: ChatRequest<'_> = serde_json::from_slice(body).map_err(not_json)?;
        let model = request
            .model
            .ok_or(Trouble::Missing { parameter: "model" })?;
        let prompt = request.messages.ok_or(Trouble::Missing {
            parameter: "messages",
        })?;
        let choices = request.n.unwrap_or(1);
        if !(1..=CHOICES_MAX).contains(&choices) {
            return Err(Trouble::Invalid {
                parameter: "n",
                problem: format!("{choices} is not in 1..={CHOICES_MAX}"),
            });
        }
        let streamed = request.stream.unwrap_or(false);
        let usage_asked = request
            .stream_options
            .and_then(|options| options.include_usage);
        let calls = if request.tools.is_some_and(|tools| !tools.is_empty()) {
            calls(&serde_json::from_slice(body).map_err(not_json)?)
        } else {
            Vec::new()
        };
        Ok(MockRequest {
            model: model.into_owned(),
            streamed,
            calls,
            include_usage: usage_asked.unwrap_or(false),
            input_tokens: text::input_tokens_of_text(prompt.0),
            max_output_tokens: request.max_completion_tokens.or(request.max_tokens),
            generates: true,
            choices,
            overrides: request.metadata.unwrap_or_default(),
            ..MockRequest::default()
        })
    }

    fn whole(&self, answer: &MockAnswer, out: &mut Vec<u8>) {
        let mut id = String::with_capacity(29);
        text::push_id(&mut id, answer.seed, answer.number, 29);
        let _ = write!(
            out,
            "{{\"id\":\"chatcmpl-{id}\",\"object\":\"chat.completion\",\"created\":{},\"model\":{},\"choices\":[",
            answer.created_s,
            quoted(&answer.asked.model),
        );
        for choice in 0..answer.asked.choices {
            if choice > 0 {
                out.push(b',');
            }
            let _ = write!(
                out,
                "{{\"index\":{choice},\"message\":{{\"role\":\"assistant\",\"content\":\""
            );
            for index in 0..answer.visible {
                out.extend_from_slice(text::word(answer.number, index).as_bytes());
            }
            out.extend_from_slice(b"\",\"refusal\":null,\"annotations\":[]");
            if !answer.asked.calls.is_empty() {
                let calls = answer.asked.calls.iter().enumerate();
                let calls: Vec<_> = calls
                    .map(|(at, call)| tool_call(answer, at, call, &call.arguments))
                    .collect();
                let _ = write!(out, ",\"tool_calls\":[{{{}}}]", calls.join("},{"));
            }
            let _ = write!(
                out,
                "}},\"logprobs\":null,\"finish_reason\":\"{}\"}}",
                finish_reason(answer),
            );
        }
        out.extend_from_slice(b"],\"usage\":");
        usage(&answer.usage, out);
        let _ = write!(
            out,
            ",\"service_tier\":\"default\",\"system_fingerprint\":\"{}\"}}",
            answer.fingerprint
        );
    }

    fn events(&self) -> Option<&'static dyn Events> {
        Some(&Self)
    }
}

impl Events for OpenAiChat {
    fn prepare(&self, answer: &MockAnswer) -> Prepared {
        let mut before = String::with_capacity(256);
        before.push_str("data: {\"id\":\"chatcmpl-");
        text::push_id(&mut before, answer.seed, answer.number, 29);
        before.push_str("\",\"object\":\"chat.completion.chunk\",\"created\":");
        before.push_str(&answer.created_s.to_string());
        before.push_str(",\"model\":");
        before.push_str(&quoted(&answer.asked.model));
        before.push_str(",\"service_tier\":\"default\",\"system_fingerprint\":\"");
        before.push_str(&answer.fingerprint);
        before.push_str("\",\"choices\":[");
        let after = if answer.asked.include_usage {
            "],\"usage\":null}\n\n"
        } else {
            "]}\n\n"
        };
        Prepared { before, after }
    }

    fn opening(&self, answer: &MockAnswer, prepared: &Prepared, out: &mut Vec<u8>) {
        for choice in 0..answer.asked.choices {
            let delta = r#"{"role":"assistant","content":"","refusal":null}"#;
            event(prepared, choice, delta.as_bytes(), "null", out);
        }
    }

    fn token(&self, answer: &MockAnswer, prepared: &Prepared, index: u32, out: &mut Vec<u8>) {
        let word = text::word(answer.number, index);
        for choice in 0..answer.asked.choices {
            out.extend_from_slice(prepared.before.as_bytes());
            begin_choice(choice, out);
            out.extend_from_slice(b"{\"content\":\"");
            out.extend_from_slice(word.as_bytes());
            out.extend_from_slice(b"\"},\"logprobs\":null,\"finish_reason\":null}");
            out.extend_from_slice(prepared.after.as_bytes());
        }
    }

    fn closing(&self, answer: &MockAnswer, prepared: &Prepared, out: &mut Vec<u8>) {
        let reason = format!("\"{}\"", finish_reason(answer));
        for choice in 0..answer.asked.choices {
            for (at, call) in answer.asked.calls.iter().enumerate() {
                stream_call(answer, prepared, (choice, at), call, out);
            }
            event(prepared, choice, b"{}", &reason, out);
        }
        if answer.asked.include_usage {
            out.extend_from_slice(prepared.before.as_bytes());
            out.extend_from_slice(b"],\"usage\":");
            usage(&answer.usage, out);
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn malformed(&self, prepared: &Prepared, out: &mut Vec<u8>) {
        out.extend_from_slice(prepared.before.as_bytes());
        out.extend_from_slice(b"{\"index\":0,\"delta\":{\"cont\n\n");
    }

    fn error(&self, _answer: &MockAnswer, _tokens: u32, out: &mut Vec<u8>) {
        openai::error_event(out);
    }
}

fn calls(body: &Value) -> Vec<MockToolCall> {
    let offered: Vec<_> = body["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tool| {
            Some(Offered {
                name: tool["function"]["name"].as_str()?,
                schema: &tool["function"]["parameters"],
                free_text: false,
            })
        })
        .collect();
    let choice = match &body["tool_choice"] {
        Value::String(word) if word == "required" => MockToolChoice::Any,
        Value::String(word) if word == "none" => MockToolChoice::Never,
        choice => match choice["function"]["name"].as_str() {
            Some(name) => MockToolChoice::Named(name),
            None => MockToolChoice::Auto,
        },
    };
    let last = tools::last_said(&body["messages"]);
    let last = if last["role"] == "tool" {
        Last::ToolResult
    } else {
        Last::User(tools::text_of(&last["content"]))
    };
    tools::calls(&offered, &choice, &last)
}

/// The fields of a call, without what encloses them.
fn tool_call(answer: &MockAnswer, at: usize, call: &MockToolCall, arguments: &str) -> String {
    format!(
        r#""id":"call_{}","type":"function","function":{{"name":{},"arguments":{}}}"#,
        super::call_id(answer, at, 24),
        quoted(&call.name),
        quoted(arguments)
    )
}

/// The call's name in one event, its arguments in those that follow.
fn stream_call(
    answer: &MockAnswer,
    prepared: &Prepared,
    (choice, at): (u32, usize),
    call: &MockToolCall,
    out: &mut Vec<u8>,
) {
    let begun = tool_call(answer, at, call, "");
    let delta = format!(r#"{{"tool_calls":[{{"index":{at},{begun}}}]}}"#);
    event(prepared, choice, delta.as_bytes(), "null", out);
    for piece in tools::pieces(&call.arguments) {
        let piece = quoted(piece);
        let delta =
            format!(r#"{{"tool_calls":[{{"index":{at},"function":{{"arguments":{piece}}}}}]}}"#);
        event(prepared, choice, delta.as_bytes(), "null", out);
    }
}

fn finish_reason(answer: &MockAnswer) -> &'static str {
    match (answer.asked.calls.is_empty(), answer.clipped) {
        (false, _) => "tool_calls",
        (true, true) => "length",
        (true, false) => "stop",
    }
}

fn begin_choice(choice: u32, out: &mut Vec<u8>) {
    if choice == 0 {
        out.extend_from_slice(b"{\"index\":0,\"delta\":");
    } else {
        let _ = write!(out, "{{\"index\":{choice},\"delta\":");
    }
}

fn event(prepared: &Prepared, choice: u32, delta: &[u8], finish: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(prepared.before.as_bytes());
    begin_choice(choice, out);
    out.extend_from_slice(delta);
    let _ = write!(out, ",\"logprobs\":null,\"finish_reason\":{finish}}}");
    out.extend_from_slice(prepared.after.as_bytes());
}

fn usage(tokens: &TokenCounts, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        "{{\"prompt_tokens\":{},\"completion_tokens\":{},\"total_tokens\":{},\"prompt_tokens_details\":{{\"cached_tokens\":{},\"audio_tokens\":0}},\"completion_tokens_details\":{{\"reasoning_tokens\":{},\"audio_tokens\":0,\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}}}",
        tokens.input,
        tokens.output,
        tokens.input + tokens.output,
        tokens.cached_input,
        tokens.reasoning,
    );
}
