//! The mock's other wire formats: Anthropic's, Gemini's and OpenAI's Responses.

use serde_json::{Value, json};
use weir_loadtest::mock::{FaultKind, FaultRule, MockHandle, MockOptions, MockProvider};

use crate::http::{Got, post};

const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";
const GENERATE: &str = "/v1beta/models/gemini-2.5-flash:generateContent";
const STREAM: &str = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";
const ANTHROPIC: &[(&str, &str)] = &[("anthropic-version", "2023-06-01")];

fn thoughtful() -> MockHandle {
    MockProvider::start(MockOptions {
        reasoning_share: 0.5,
        ..MockOptions::default()
    })
    .unwrap()
}

fn failing(kind: FaultKind) -> MockHandle {
    MockProvider::start(MockOptions {
        faults: vec![FaultRule::always(kind)],
        ..MockOptions::default()
    })
    .unwrap()
}

fn ask(mock: &MockHandle, path: &str, headers: &[(&str, &str)], body: &Value) -> Got {
    let got = post(mock.addr(), path, headers, &body.to_string());
    assert_eq!(got.status, 200, "{}", got.text());
    got
}

/// The data of each event, and that its name is the one in the data where there are names.
fn events(got: &Got) -> Vec<Value> {
    let mut events = Vec::new();
    for event in got.text().replace("\r\n", "\n").split_terminator("\n\n") {
        let mut name = None;
        for line in event.lines() {
            if let Some(named) = line.strip_prefix("event: ") {
                name = Some(named.to_owned());
            }
            if let Some(data) = line.strip_prefix("data: ") {
                let data: Value = serde_json::from_str(data).unwrap();
                assert_eq!(name.as_deref(), data["type"].as_str(), "{event}");
                events.push(data);
            }
        }
    }
    events
}

fn names(events: &[Value]) -> Vec<&str> {
    let mut names: Vec<_> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    names.dedup();
    names
}

fn tool(schema_field: &str) -> Value {
    let schema = json!({"type": "object", "required": ["city"],
        "properties": {"city": {"type": "string"}}});
    json!({"name": "weather", "description": "tells it", schema_field: schema})
}

const CALL: &str = r#"[[call weather {"city":"São Paulo and a long name"}]]"#;

/// A body with some fields added or replaced.
fn with(mut body: Value, extra: Value) -> Value {
    if let (Value::Object(body), Value::Object(mut extra)) = (&mut body, extra) {
        body.append(&mut extra);
    }
    body
}

fn messages(extra: Value) -> Value {
    let body = json!({"model": "claude-sonnet-4-5", "max_tokens": 4, "tools": [tool("input_schema")],
        "thinking": {"type": "enabled", "budget_tokens": 1024}, "messages": [{"role": "user", "content": CALL}]});
    with(body, extra)
}

#[test]
fn messages_come_as_anthropic_sends_them() {
    let mock = thoughtful();
    let whole = ask(&mock, MESSAGES, ANTHROPIC, &messages(json!({}))).json();
    assert_eq!(whole["stop_reason"], "tool_use");
    let kinds: Vec<_> = whole["content"].as_array().unwrap().iter().collect();
    assert_eq!(kinds.len(), 3, "{whole}");
    assert_eq!(kinds[0]["type"], "thinking");
    assert!(kinds[0]["signature"].as_str().unwrap().len() > 20);
    assert_eq!(kinds[1]["type"], "text");
    assert_eq!(kinds[2]["input"]["city"], "São Paulo and a long name");
    assert_eq!(whole["usage"]["output_tokens"], 4);

    let streamed = ask(
        &mock,
        MESSAGES,
        ANTHROPIC,
        &messages(json!({"stream": true})),
    );
    let events = events(&streamed);
    assert_eq!(
        names(&events),
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "content_block_start",
            "ping",
            "content_block_delta",
            "content_block_stop",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    let arguments: String = events
        .iter()
        .filter_map(|event| event["delta"]["partial_json"].as_str())
        .collect();
    assert_eq!(arguments, r#"{"city":"São Paulo and a long name"}"#);
    assert_eq!(events[0]["message"]["usage"]["output_tokens"], 1);
    assert_eq!(events[events.len() - 2]["usage"]["output_tokens"], 4);
}

#[test]
fn a_result_ends_the_calling() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let turns = json!([{"role": "user", "content": CALL},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "weather", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "sun"}]}]);
    let body = messages(json!({"messages": turns, "tool_choice": {"type": "any"}}));
    let whole = ask(&mock, MESSAGES, ANTHROPIC, &body).json();
    assert_eq!(whole["stop_reason"], "end_turn");
    let count = json!({"model": "m", "messages": [{"role": "user", "content": "abcdefgh"}]});
    let counted = ask(&mock, "/v1/messages/count_tokens", ANTHROPIC, &count).json();
    assert_eq!(counted, json!({"input_tokens": 2}));
}

fn generate(extra: Value) -> Value {
    let body = json!({"contents": [{"role": "user", "parts": [{"text": CALL}]}],
        "tools": [{"functionDeclarations": [tool("parameters")]}],
        "generationConfig": {"maxOutputTokens": 4, "thinkingConfig": {"includeThoughts": true}}});
    with(body, extra)
}

#[test]
fn contents_come_as_gemini_sends_them() {
    let mock = thoughtful();
    let whole = ask(&mock, GENERATE, &[], &generate(json!({}))).json();
    let parts = whole["candidates"][0]["content"]["parts"].clone();
    assert_eq!(parts[0]["thought"], true);
    assert_eq!(parts[2]["functionCall"]["name"], "weather");
    assert!(parts[2]["thoughtSignature"].is_string());
    assert_eq!(whole["modelVersion"], "gemini-2.5-flash");
    let usage = &whole["usageMetadata"];
    assert_eq!(
        (&usage["candidatesTokenCount"], &usage["thoughtsTokenCount"]),
        (&json!(2), &json!(2))
    );

    let streamed = ask(&mock, STREAM, &[], &generate(json!({})));
    assert!(streamed.text().ends_with("}\r\n\r\n"));
    let events = events(&streamed);
    assert_eq!(events.len(), 4, "a thought, two tokens, the end");
    let last = &events[3];
    assert_eq!(last["candidates"][0]["finishReason"], "STOP");
    assert_eq!(
        last["usageMetadata"]["totalTokenCount"],
        usage["totalTokenCount"]
    );

    let forced = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}}});
    let whole = ask(&mock, GENERATE, &[], &generate(forced)).json();
    let called = &whole["candidates"][0]["content"]["parts"][2]["functionCall"];
    assert_eq!(called["args"], json!({"city": "weir"}));

    let embed = json!({"requests": [{"model": "models/e", "content": {"parts": [{"text": "a"}]}, "outputDimensionality": 3}]});
    let path = "/v1beta/models/gemini-embedding-001:batchEmbedContents";
    let embedded = ask(&mock, path, &[], &embed).json();
    assert_eq!(
        embedded["embeddings"][0]["values"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

fn response(extra: Value) -> Value {
    let mut function = tool("parameters");
    function["type"] = "function".into();
    let body = json!({"model": "gpt-5", "input": CALL, "max_output_tokens": 4,
        "tools": [{"type": "custom", "name": "patch"}, function], "reasoning": {"summary": "auto"}});
    with(body, extra)
}

#[test]
fn responses_come_as_openai_sends_them() {
    let mock = thoughtful();
    let whole = ask(&mock, RESPONSES, &[], &response(json!({}))).json();
    let kinds: Vec<_> = whole["output"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call"]);
    assert_eq!(
        whole["usage"]["output_tokens_details"]["reasoning_tokens"],
        2
    );

    for reasoning in [json!({"summary": "auto"}), json!({})] {
        let body = response(json!({"stream": true, "reasoning": reasoning}));
        let events = events(&ask(&mock, RESPONSES, &[], &body));
        for (at, event) in events.iter().enumerate() {
            assert_eq!(event["sequence_number"], at, "{event}");
        }
        assert_eq!(names(&events)[0], "response.created");
        let last = events.last().unwrap();
        assert_eq!(last["type"], "response.completed");
        let text: String = events
            .iter()
            .filter(|event| event["type"] == "response.output_text.delta")
            .filter_map(|event| event["delta"].as_str())
            .collect();
        assert_eq!(last["response"]["output"][1]["content"][0]["text"], text);
        assert_eq!(
            last["response"]["output"][2]["arguments"],
            r#"{"city":"São Paulo and a long name"}"#
        );
    }

    let text = json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": "[[call patch \"*** Begin\"]]"}]}]});
    let whole = ask(&mock, RESPONSES, &[], &response(text)).json();
    assert_eq!(whole["output"][2]["type"], "custom_tool_call");
    assert_eq!(whole["output"][2]["input"], "*** Begin");
}

#[test]
fn refusals_come_in_each_formats_words() {
    let statuses = |kind| {
        let mock = failing(kind);
        let told = |path, headers, body: Value| {
            let got = post(mock.addr(), path, headers, &body.to_string());
            (got.status, got.json(), got.headers)
        };
        [
            told(MESSAGES, ANTHROPIC, messages(json!({}))),
            told(GENERATE, &[], generate(json!({}))),
            told(RESPONSES, &[], response(json!({}))),
        ]
    };
    let [anthropic, gemini, openai] = statuses(FaultKind::RateLimit);
    assert_eq!(anthropic.0, 429);
    assert_eq!(anthropic.1["error"]["type"], "rate_limit_error");
    assert_eq!(anthropic.2["retry-after"], "1");
    assert!(anthropic.2["anthropic-ratelimit-requests-reset"].ends_with('Z'));
    assert_eq!(gemini.1["error"]["status"], "RESOURCE_EXHAUSTED");
    assert_eq!(gemini.1["error"]["details"][0]["retryDelay"], "1s");
    assert!(!gemini.2.contains_key("retry-after"));
    assert_eq!(openai.1["error"]["code"], "rate_limit_exceeded");

    let unavailable = statuses(FaultKind::Unavailable);
    assert_eq!(unavailable.each_ref().map(|told| told.0), [529, 503, 503]);
    let broken = statuses(FaultKind::ServerError);
    assert_eq!(broken.each_ref().map(|told| told.0), [500, 500, 500]);
    let [too_long, _, _] = statuses(FaultKind::ContextLength);
    let message = too_long.1["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("prompt is too long: "), "{message}");

    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let body = messages(json!({})).to_string();
    let no_version = post(mock.addr(), MESSAGES, &[], &body);
    assert_eq!(no_version.status, 400);
}

#[test]
fn streams_fail_midway_in_each_formats_words() {
    let mock = failing(FaultKind::StreamError);
    let plain = json!({"stream": true, "tools": []});
    let last = |got: &Got| {
        events(got)
            .pop()
            .unwrap_or_else(|| panic!("no events in {}", got.text()))
    };
    let anthropic = ask(&mock, MESSAGES, ANTHROPIC, &messages(plain.clone()));
    assert_eq!(last(&anthropic)["error"]["type"], "overloaded_error");
    let gemini = ask(&mock, STREAM, &[], &generate(json!({})));
    assert_eq!(last(&gemini)["error"]["code"], 503);
    let openai = ask(&mock, RESPONSES, &[], &response(plain));
    let events = events(&openai);
    let failed = events.last().unwrap();
    assert_eq!(failed["response"]["status"], "failed");
    assert_eq!(failed["response"]["error"]["code"], "server_error");
    assert_eq!(failed["sequence_number"], events.len() - 1);
}
