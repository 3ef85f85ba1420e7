//! `POST /v1/chat/completions`, plain and as server-sent events.

use std::borrow::Cow;
use std::io::Write as _;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::tools::{self, MockToolCall, Offered};
use super::{Events, MockAnswer, MockRequest, Overrides, Prepared, RequestHead, Trouble, Wire};
use super::{invalid, openai, put, quoted, required, words};
use crate::mock::text::{self, PromptBytes};

#[derive(Debug)]
pub(super) struct OpenAiChat;

#[derive(Deserialize)]
struct ChatRequest<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    messages: Option<PromptBytes>,
    stream: Option<bool>,
    stream_options: Option<ChatStreamOptions>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    n: Option<u32>,
    tools: Option<Vec<IgnoredAny>>,
    metadata: Option<Overrides>,
}

#[derive(Deserialize)]
struct ChatStreamOptions {
    include_usage: Option<bool>,
}

/// OpenAI's own bound on `n`.
const CHOICES_MAX: u32 = 128;

impl Wire for OpenAiChat {
    fn read(&self, _called: &RequestHead<'_>, body: &[u8]) -> Result<MockRequest, Trouble> {
        let request: ChatRequest<'_> = serde_json::from_slice(body)?;
        let model = required(request.model, "model")?;
        let prompt = required(request.messages, "messages")?;
        let choices = request.n.unwrap_or(1);
        if !(1..=CHOICES_MAX).contains(&choices) {
            let problem = format!("{choices} is not in 1..={CHOICES_MAX}");
            return Err(invalid("n", problem));
        }
        let usage_asked = request
            .stream_options
            .and_then(|options| options.include_usage);
        Ok(MockRequest {
            model: model.into_owned(),
            streamed: request.stream.unwrap_or(false),
            calls: tools::wanted(&request.tools.unwrap_or_default(), body, calls)?,
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
        let _ = write!(
            out,
            r#"{{"id":"chatcmpl-{}","object":"chat.completion","created":{},"model":{},"choices":["#,
            text::id(answer.seed, answer.number, 29),
            answer.created_s,
            quoted(&answer.asked.model),
        );
        let (text, calls, reason) = (words(answer), tool_calls(answer), finish_reason(answer));
        for choice in 0..answer.asked.choices {
            let comma = if choice > 0 { "," } else { "" };
            let _ = write!(
                out,
                concat!(
                    r#"{}{{"index":{},"message":{{"role":"assistant","content":"{}","refusal":null,"annotations":[]{}}},"#,
                    r#""logprobs":null,"finish_reason":"{}"}}"#
                ),
                comma, choice, text, calls, reason
            );
        }
        let _ = write!(
            out,
            r#"],"usage":{},"service_tier":"default","system_fingerprint":"{}"}}"#,
            usage(answer),
            answer.fingerprint
        );
    }

    fn events(&self) -> Option<&'static dyn Events> {
        Some(&Self)
    }
}

impl Events for OpenAiChat {
    fn prepare(&self, answer: &MockAnswer) -> Prepared {
        let before = format!(
            concat!(
                r#"data: {{"id":"chatcmpl-{}","object":"chat.completion.chunk","created":{},"model":{},"#,
                r#""service_tier":"default","system_fingerprint":"{}","choices":["#
            ),
            text::id(answer.seed, answer.number, 29),
            answer.created_s,
            quoted(&answer.asked.model),
            answer.fingerprint
        );
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
            event(prepared, choice, delta, "null", out);
        }
    }

    fn token(&self, answer: &MockAnswer, prepared: &Prepared, index: u32, out: &mut Vec<u8>) {
        let word = text::word(answer.number, index);
        for choice in 0..answer.asked.choices {
            begin_choice(prepared, choice, out);
            let rest = "\"},\"logprobs\":null,\"finish_reason\":null}";
            put(out, &["{\"content\":\"", word, rest, prepared.after]);
        }
    }

    fn closing(&self, answer: &MockAnswer, prepared: &Prepared, out: &mut Vec<u8>) {
        let reason = format!("\"{}\"", finish_reason(answer));
        for choice in 0..answer.asked.choices {
            for (at, call) in answer.asked.calls.iter().enumerate() {
                stream_call(answer, prepared, (choice, at), call, out);
            }
            event(prepared, choice, "{}", &reason, out);
        }
        if answer.asked.include_usage {
            put(
                out,
                &[&prepared.before, "],\"usage\":", &usage(answer), "}\n\n"],
            );
        }
        put(out, &["data: [DONE]\n\n"]);
    }

    fn malformed(&self, prepared: &Prepared, out: &mut Vec<u8>) {
        put(
            out,
            &[&prepared.before, "{\"index\":0,\"delta\":{\"cont\n\n"],
        );
    }

    fn error(&self, _answer: &MockAnswer, _tokens: u32, out: &mut Vec<u8>) {
        openai::error_event(out);
    }
}

fn calls(body: &Value) -> Vec<MockToolCall> {
    let offered: Vec<_> = tools::items(&body["tools"])
        .map(|tool| &tool["function"])
        .filter_map(|function| Offered::function(&function["name"], &function["parameters"]))
        .collect();
    let choice = &body["tool_choice"];
    let choice = openai::tool_choice(choice, &choice["function"]);
    let last = tools::last_said(&body["messages"]);
    let said = (last["role"] != "tool").then(|| tools::text_of(&last["content"]));
    tools::calls(&offered, &choice, said)
}

/// The fields of a call, without what encloses them.
fn tool_call(answer: &MockAnswer, at: usize, call: &MockToolCall, arguments: &str) -> String {
    let (id, name) = (super::part_id(answer, at, 24), quoted(&call.name));
    let arguments = quoted(arguments);
    format!(
        r#""id":"call_{id}","type":"function","function":{{"name":{name},"arguments":{arguments}}}"#
    )
}

/// A message's field of calls, if there are any.
fn tool_calls(answer: &MockAnswer) -> String {
    let calls = answer.asked.calls.iter().enumerate();
    let calls: Vec<_> = calls
        .map(|(at, call)| tool_call(answer, at, call, &call.arguments))
        .collect();
    if calls.is_empty() {
        return String::new();
    }
    format!(r#","tool_calls":[{{{}}}]"#, calls.join("},{"))
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
    event(prepared, choice, &delta, "null", out);
    for piece in tools::pieces(&call.arguments) {
        let piece = quoted(piece);
        let delta =
            format!(r#"{{"tool_calls":[{{"index":{at},"function":{{"arguments":{piece}}}}}]}}"#);
        event(prepared, choice, &delta, "null", out);
    }
}

fn finish_reason(answer: &MockAnswer) -> &'static str {
    match (answer.asked.calls.is_empty(), answer.clipped) {
        (false, _) => "tool_calls",
        (true, true) => "length",
        (true, false) => "stop",
    }
}

fn begin_choice(prepared: &Prepared, choice: u32, out: &mut Vec<u8>) {
    put(out, &[&prepared.before]);
    if choice == 0 {
        put(out, &["{\"index\":0,\"delta\":"]);
    } else {
        let _ = write!(out, "{{\"index\":{choice},\"delta\":");
    }
}

fn event(prepared: &Prepared, choice: u32, delta: &str, finish: &str, out: &mut Vec<u8>) {
    begin_choice(prepared, choice, out);
    let rest = ",\"logprobs\":null,\"finish_reason\":";
    put(out, &[delta, rest, finish, "}", prepared.after]);
}

fn usage(answer: &MockAnswer) -> String {
    let tokens = &answer.usage;
    format!(
        concat!(
            r#"{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},"#,
            r#""prompt_tokens_details":{{"cached_tokens":{},"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":{},"#,
            r#""audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#
        ),
        tokens.input,
        tokens.output,
        tokens.input + tokens.output,
        tokens.cached_input,
        tokens.reasoning,
    )
}
