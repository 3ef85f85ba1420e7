//! What providers say beside text and calls, through the gateway: refusals, sources, proofs of reasoning, and
//! that a prompt is too long.

use serde_json::{Value, json};
use weir_tests::http::{Answer, Request};
use weir_tests::scripted::{Script, ScriptedProvider};
use weir_tests::weir::Installation;

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";

/// What a provider answers. The alias is called like the model.
struct Case {
    dialect: &'static str,
    script: Script,
    /// For each client what stands in its answer.
    told: Vec<(&'static str, &'static [&'static str])>,
}

impl Case {
    fn streamed(&self) -> bool {
        self.script.headers.contains("event-stream")
    }
}

fn case(
    dialect: &'static str,
    script: Script,
    told: &[(&'static str, &'static [&'static str])],
) -> Case {
    Case {
        dialect,
        script,
        told: told.to_vec(),
    }
}

fn stream(model: &str, events: &[Value]) -> Script {
    let events: Vec<String> = events.iter().map(ToString::to_string).collect();
    let mut events: Vec<&str> = events.iter().map(String::as_str).collect();
    events.push("[DONE]");
    Script::stream(model, &events)
}

fn chat_message(message: Value, reason: Value) -> Value {
    json!({
        "id": "c", "object": "chat.completion", "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6},
    })
}

fn chunk(delta: Value, reason: Value) -> Value {
    json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
}

/// Answers that Claude's filter stopped, with half of a text and without any.
fn refusals() -> Vec<Case> {
    let details =
        json!({"type": "refusal", "category": "cyber", "explanation": "It is an attack."});
    let message = |content: Value| {
        json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content,
            "stop_reason": "refusal", "stop_sequence": null, "stop_details": details,
            "usage": {"input_tokens": 9, "output_tokens": 3},
        })
    };
    let half = json!([{"type": "text", "text": "First, you"}]);
    let begun = json!({"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 9, "output_tokens": 1}}});
    let end = json!({"type": "message_delta", "usage": {"output_tokens": 3},
        "delta": {"stop_reason": "refusal", "stop_sequence": null, "stop_details": details}});
    let events = [
        begun,
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "First, you"}}),
        json!({"type": "content_block_stop", "index": 0}),
        end,
        json!({"type": "message_stop"}),
    ];
    let events = events.map(|event| event.to_string());
    let streamed = Script::stream("refused-stream", &events.each_ref().map(String::as_str));
    let plain = |name: &str, content| Script::plain(name, &message(content).to_string());
    let told: [(&str, &[&str]); 3] = [
        (CHAT, &["\"content_filter\"", "It is an attack."]),
        (
            RESPONSES,
            &["\"incomplete\"", "\"content_filter\"", "It is an attack."],
        ),
        (MESSAGES, &["\"stop_reason\":\"refusal\""]),
    ];
    let loose: [(&str, &[&str]); 2] = [told[0], told[1]];
    vec![
        case("anthropic", plain("refused", json!([])), &loose),
        case("anthropic", plain("refused-half", half), &loose),
        case("anthropic", streamed, &told),
    ]
}

/// Sources of OpenRouter's web search and Perplexity's.
fn citations() -> Vec<Case> {
    const URL: &str = "\"url\":\"https://example.com/a\"";
    let source = json!({"type": "url_citation", "url_citation": {
        "url": "https://example.com/a", "title": "A", "content": "x", "start_index": 4, "end_index": 8}});
    let plain = chat_message(
        json!({"role": "assistant", "content": "the weir is high", "annotations": [source]}),
        json!("stop"),
    );
    let streamed = [
        chunk(
            json!({"role": "assistant", "content": "the weir is high"}),
            Value::Null,
        ),
        chunk(json!({"content": "", "annotations": [source]}), Value::Null),
        chunk(json!({}), json!("stop")),
    ];
    let mut listed = chat_message(
        json!({"role": "assistant", "content": "the weir[1] is high"}),
        json!("stop"),
    );
    listed["citations"] = json!(["https://example.com/a"]);
    let told: [(&str, &[&str]); 2] = [
        (MESSAGES, &["\"web_search_result_location\"", URL]),
        (RESPONSES, &["\"url_citation\"", URL]),
    ];
    vec![
        case(
            "openrouter",
            Script::plain("cited", &plain.to_string()),
            &told,
        ),
        case("openrouter", stream("cited-stream", &streamed), &told),
        case(
            "openai-compatible",
            Script::plain("cited-list", &listed.to_string()),
            &told,
        ),
    ]
}

/// Reasons to stop, codes of errors and fields that SDKs require.
fn small_things() -> Vec<Case> {
    let call =
        json!([{"id": "a", "type": "function", "function": {"name": "read", "arguments": "{}"}}]);
    let calls = |reason| {
        chat_message(
            json!({"role": "assistant", "content": null, "tool_calls": call}),
            reason,
        )
    };
    let mut blank = calls(json!("tool_calls"));
    blank["choices"][0]["message"]["content"] = json!("\n\n");
    let stopped: [(&str, &[&str]); 1] = [(MESSAGES, &["\"stop_reason\":\"tool_use\""])];
    let text = [
        chunk(json!({"role": "assistant", "content": "Hi"}), Value::Null),
        chunk(json!({}), json!("stop")),
        json!({"id": "c", "model": "m", "choices": [],
            "usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}}),
    ];
    let code = r#"{"error":{"message":"This type of file is not supported.","type":"invalid_request_error","param":"input","code":"unsupported_file"}}"#;
    let failed = Script {
        status: 400,
        ..Script::plain("coded", code)
    };
    vec![
        case(
            "openai-compatible",
            Script::plain("blank-reason", &calls(json!("")).to_string()),
            &stopped,
        ),
        case(
            "openai-compatible",
            Script::plain("no-reason", &calls(Value::Null).to_string()),
            &stopped,
        ),
        case(
            "openai-compatible",
            Script::plain("blank-text", &blank.to_string()),
            &stopped,
        ),
        case(
            "openai-compatible",
            stream("required-fields", &text),
            &[(
                RESPONSES,
                &[
                    "\"delta\":\"Hi\",\"logprobs\":[]",
                    "\"cache_write_tokens\":0",
                ],
            )],
        ),
        case(
            "openai-responses",
            failed,
            &[(CHAT, &["\"code\":\"unsupported_file\""])],
        ),
    ]
}

/// `[DONE]` behind a long stream of responses, of which the client has much before the end.
fn long_streams() -> Vec<Case> {
    let text = "the weir is high ".repeat(1000);
    let delta = json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0,
        "item_id": "msg_1", "delta": text});
    let created = json!({"type": "response.created", "response": {"id": "resp_1", "model": "m",
        "status": "in_progress", "output": []}});
    let completed = json!({"type": "response.completed", "response": {"id": "resp_1", "model": "m",
        "status": "completed", "output": [], "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}}});
    let events: Vec<Value> = std::iter::once(created)
        .chain(std::iter::repeat_n(delta, 20))
        .chain([completed])
        .collect();
    vec![case(
        "openai-responses",
        stream("long", &events),
        &[
            (CHAT, &["\"finish_reason\":\"stop\""]),
            (MESSAGES, &["\"type\":\"message_stop\""]),
            (RESPONSES, &["\"type\":\"response.completed\""]),
        ],
    )]
}

/// How providers say that a prompt is too long: dialect, status and body.
const TOO_LONG: [(&str, u16, &str); 16] = [
    (
        "kimi",
        400,
        r#"{"error":{"message":"Invalid request: Your request exceeded model token limit: 262144 (requested: 269030)","type":"invalid_request_error"}}"#,
    ),
    (
        "glm",
        400,
        r#"{"error":{"code":"1261","message":"Prompt exceeds max length"}}"#,
    ),
    (
        "xai",
        400,
        r#"{"code":"Client specified an invalid argument","error":"This model's maximum prompt length is 131072 but the request contains 150000 tokens."}"#,
    ),
    (
        "together",
        422,
        r#"{"error":{"message":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193. Given: 9000 `inputs` tokens and 512 `max_new_tokens`","type":"invalid_request_error"}}"#,
    ),
    (
        "doubao",
        400,
        r#"{"error":{"code":"InvalidParameter","message":"Total tokens of image and text exceed max message tokens.","type":"BadRequest"}}"#,
    ),
    (
        "openai-compatible",
        400,
        r#"{"error":{"message":"prompt token count of 140000 exceeds the limit of 128000","code":"model_max_prompt_tokens_exceeded"}}"#,
    ),
    (
        "openai-compatible",
        400,
        r#"{"message":"Input is too long for requested model."}"#,
    ),
    (
        "openai-compatible",
        400,
        r#"{"object":"error","message":"The input (40000 tokens) is longer than the model's context length (32768 tokens).","type":"BadRequestError","code":400}"#,
    ),
    (
        "mistral",
        400,
        r#"{"object":"error","message":"Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length","type":"invalid_request_prompt","code":"3051"}"#,
    ),
    (
        "groq",
        400,
        r#"{"error":{"message":"Please reduce the length of the messages or completion.","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
    ),
    (
        "openrouter",
        400,
        r#"{"error":{"message":"This endpoint's maximum context length is 131072 tokens. However, you requested about 140000 tokens","code":400}}"#,
    ),
    (
        "openai-compatible",
        400,
        r#"{"error":{"message":"invalid params, context window exceeds limit (2013)","type":"bad_request_error"}}"#,
    ),
    (
        "openai-compatible",
        400,
        r#"{"errors":[{"message":"AiError: Ai: The estimated number of input and maximum output tokens (30000) exceeded this model context window limit (24000).","code":8007}],"success":false}"#,
    ),
    (
        "openai-compatible",
        400,
        r#"{"error":"The number of tokens to keep from the initial prompt is greater than the context length"}"#,
    ),
    (
        "qwen",
        400,
        r#"{"error":{"message":"Range of input length should be [1, 129024]","type":"invalid_request_error","code":"invalid_parameter_error"}}"#,
    ),
    (
        "llamacpp",
        400,
        r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error"}}"#,
    ),
];

fn too_long(index: usize) -> String {
    format!("too-long-{index}")
}

/// OpenRouter's proofs of reasoning, and an answer with them.
fn proofs() -> Value {
    json!([
        {"type": "reasoning.text", "text": "I look.", "signature": "proof-1", "format": "google-gemini-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "cHJvb2Y=", "id": "a", "format": "google-gemini-v1", "index": 1},
    ])
}

fn proven() -> [Script; 2] {
    let proofs = proofs();
    let call = json!([{"index": 0, "id": "a", "type": "function", "function": {"name": "read", "arguments": "{}"}}]);
    let plain = chat_message(
        json!({"role": "assistant", "content": "", "reasoning": "I look.", "reasoning_details": proofs, "tool_calls": call}),
        json!("tool_calls"),
    );
    let piece = |text: &str| json!({"type": "reasoning.text", "text": text, "format": "google-gemini-v1", "index": 0});
    let mut last = piece("look.");
    last["signature"] = json!("proof-1");
    let events = [
        chunk(
            json!({"role": "assistant", "reasoning": "I ", "reasoning_details": [piece("I ")]}),
            Value::Null,
        ),
        chunk(
            json!({"reasoning": "look.", "reasoning_details": [last]}),
            Value::Null,
        ),
        chunk(json!({"reasoning_details": [proofs[1]]}), Value::Null),
        chunk(json!({"tool_calls": call}), Value::Null),
        chunk(json!({}), json!("tool_calls")),
    ];
    [
        Script::plain("proven", &plain.to_string()),
        stream("proven-stream", &events),
    ]
}

fn config(provider: &ScriptedProvider, cases: &[Case]) -> String {
    let base_url = format!("http://{}/v1", provider.address);
    let entry = |name: &str, dialect: &str, next: &str| {
        format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"{dialect}\"\nbase_url = \"{base_url}\"\n\n\
             [[alias]]\nname = \"{name}\"\ntargets = [{{ provider = \"{name}\", model = \"{name}\" }}{next}]\n\n"
        )
    };
    let mut config = entry("good", "openai-compatible", "");
    for name in ["proven", "proven-stream"] {
        config += &entry(name, "openrouter", "");
    }
    for case in cases {
        config += &entry(&case.script.model, case.dialect, "");
    }
    let next = ", { provider = \"good\", model = \"good\" }";
    for (index, (dialect, ..)) in TOO_LONG.iter().enumerate() {
        config += &entry(&too_long(index), dialect, next);
    }
    config
}

struct Client<'w> {
    weir: &'w Installation,
    key: &'w str,
}

impl Client<'_> {
    fn send(&self, path: &str, model: &str, streamed: bool, mut body: Value) -> Answer {
        let field = if path == RESPONSES {
            "input"
        } else {
            "messages"
        };
        if body[field].is_null() {
            body[field] = json!([{"role": "user", "content": "How high is the water?"}]);
        }
        if path == MESSAGES {
            body["max_tokens"] = json!(400);
        }
        body["model"] = json!(model);
        body["stream"] = json!(streamed);
        let request = Request::post(path, body.to_string()).bearer(self.key);
        request.send(self.weir.gateway).unwrap()
    }
}

#[test]
fn what_stands_beside_text_and_calls_reaches_every_client() {
    let cases: Vec<Case> = [refusals(), citations(), small_things(), long_streams()]
        .into_iter()
        .flatten()
        .collect();
    let good = chat_message(json!({"role": "assistant", "content": "Hi"}), json!("stop"));
    let mut scripts = vec![Script::plain("good", &good.to_string())];
    scripts.extend(cases.iter().map(|case| case.script.clone()));
    scripts.extend(proven());
    for (index, (_, status, body)) in TOO_LONG.iter().enumerate() {
        let status = *status;
        scripts.push(Script {
            status,
            ..Script::plain(&too_long(index), body)
        });
    }
    let provider = ScriptedProvider::start(scripts).unwrap();
    let weir = Installation::new(&config(&provider, &cases)).unwrap();
    let key = weir.create_key("answers").unwrap();
    let _up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    let client = Client {
        weir: &weir,
        key: &key,
    };
    for case in &cases {
        check(&client, case);
    }
    proofs_come_back(&client, &provider);
    a_prompt_that_is_too_long_goes_on(&client);
}

fn check(client: &Client<'_>, case: &Case) {
    let name = &case.script.model;
    for (path, holds) in &case.told {
        let answer = client.send(path, name, case.streamed(), json!({}));
        assert_eq!(answer.status, case.script.status, "{name}: {answer:?}");
        let text = answer.text();
        for part in *holds {
            assert!(text.contains(part), "{name} by {path}: {part} in {text}");
        }
        assert!(!text.contains("event: error"), "{name} by {path}: {text}");
        // Claude would refuse it when it comes back.
        let is_blank = *path == MESSAGES && text.contains(r#""text":"\n\n""#);
        assert!(!is_blank, "{name}: {text}");
    }
}

fn events(stream: &str) -> impl Iterator<Item = Value> {
    let lines = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    lines.filter_map(|data| serde_json::from_str(data).ok())
}

/// The blocks of a messages stream, as an SDK puts them together.
fn blocks(stream: &str) -> Vec<Value> {
    let mut blocks: Vec<Value> = Vec::new();
    for event in events(stream) {
        if event["type"] == "content_block_start" {
            blocks.push(event["content_block"].clone());
        }
        let (Some(block), Some(delta)) = (blocks.last_mut(), event["delta"].as_object()) else {
            continue;
        };
        for (field, piece) in delta {
            if let (Some(so_far), Some(piece)) = (block[field].as_str(), piece.as_str())
                && field != "type"
            {
                block[field] = json!(format!("{so_far}{piece}"));
            }
        }
    }
    blocks
}

/// What a client of messages or responses sends in the next turn.
fn next_turn(path: &str, answer: &Answer, streamed: bool) -> Value {
    let question = json!({"role": "user", "content": "How high is the water?"});
    let text = answer.text();
    if path == MESSAGES {
        let blocks = match streamed {
            true => json!(blocks(&text)),
            false => answer.json()["content"].take(),
        };
        let result = json!({"type": "tool_result", "tool_use_id": "a", "content": "high"});
        let messages = json!([question, {"role": "assistant", "content": blocks}, {"role": "user", "content": [result]}]);
        let tool = json!({"name": "read", "input_schema": {"type": "object", "properties": {}}});
        return json!({"messages": messages, "tools": [tool]});
    }
    let mut response = match streamed {
        true => events(&text).last().unwrap()["response"].take(),
        false => answer.json(),
    };
    let mut input = vec![question];
    input.append(response["output"].as_array_mut().unwrap());
    input.push(json!({"type": "function_call_output", "call_id": "a", "output": "high"}));
    let tool = json!({"type": "function", "name": "read", "parameters": {"type": "object", "properties": {}}});
    json!({"input": input, "tools": [tool]})
}

fn proofs_come_back(client: &Client<'_>, provider: &ScriptedProvider) {
    for (model, streamed) in [("proven", false), ("proven-stream", true)] {
        for path in [MESSAGES, RESPONSES] {
            let answer = client.send(path, model, streamed, json!({}));
            assert_eq!(answer.status, 200, "{answer:?}");
            let turn = next_turn(path, &answer, streamed);
            let second = client.send(path, model, streamed, turn);
            assert_eq!(second.status, 200, "{second:?}");
            let calls = provider.asked(model);
            let (_, body) = calls.last().unwrap().split_once("\r\n\r\n").unwrap();
            let body: Value = serde_json::from_str(body).unwrap();
            let message = &body["messages"][1];
            assert_eq!(
                message["reasoning_details"],
                proofs(),
                "{model} by {path}: {body}"
            );
            assert_eq!(message["tool_calls"][0]["id"], "a", "{model} by {path}");
        }
    }
}

fn a_prompt_that_is_too_long_goes_on(client: &Client<'_>) {
    for (index, (_, _, body)) in TOO_LONG.iter().enumerate() {
        let answer = client.send(CHAT, &too_long(index), false, json!({}));
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
    }
    let stored = "SELECT count() FROM weir.requests WHERE alias LIKE 'too-long-%'";
    let weir = client.weir;
    weir.wait_for_number(stored, TOO_LONG.len() as u64).unwrap();
    let others = "SELECT provider, error_kind FROM weir.attempts WHERE alias LIKE 'too-long-%' \
        AND provider != 'good' AND error_kind != 'context_window'";
    assert_eq!(weir.sql(others).unwrap(), Vec::<Value>::new());
}
