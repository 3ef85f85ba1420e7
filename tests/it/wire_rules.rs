//! What providers refuse does not reach them, seen from outside: requests that people met in the wild, at
//! mock providers that validate like the real ones.

use serde_json::{Value, json};
use weir_loadtest::mock::{MockHandle, MockOptions, MockProvider};
use weir_tests::http::{Answer, Request};
use weir_tests::scripted::{Script, ScriptedProvider};
use weir_tests::weir::Installation;

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";

/// A model at a strict mock. The alias is called like the provider.
struct Target {
    name: &'static str,
    vendor: &'static str,
    model: &'static str,
    /// What becomes of fields that the model lacks.
    unsupported: &'static str,
}

const fn target(name: &'static str, vendor: &'static str, model: &'static str) -> Target {
    Target {
        name,
        vendor,
        model,
        unsupported: "refuse",
    }
}

const TARGETS: [Target; 16] = [
    target("openai", "openai", "gpt-4.1"),
    target("newer-openai", "openai", "gpt-5.6-sol"),
    target("responses", "openai-responses", "gpt-5.1"),
    target("claude", "anthropic", "claude-sonnet-4-5"),
    target("newer-claude", "anthropic", "claude-opus-4-7"),
    Target {
        unsupported: "drop",
        ..target("lenient-claude", "anthropic", "claude-opus-5-5")
    },
    target("flash", "gemini", "gemini-2.5-flash"),
    target("pro", "gemini", "gemini-2.5-pro"),
    target("older-pro", "gemini", "gemini-3-pro-preview"),
    target("gemini", "gemini", "gemini-3.1-pro-preview"),
    target("deepseek", "deepseek", "deepseek-v4-pro"),
    target("kimi", "kimi", "kimi-k2.5"),
    target("glm", "glm", "glm-5"),
    target("mistral", "mistral", "mistral-large-latest"),
    target("groq", "groq", "openai/gpt-oss-120b"),
    target("xai", "xai", "grok-4.5"),
];

/// Providers whose calls are read: dialect, and what they answer.
const SEEN: [(&str, &str); 5] = [
    (
        "openai",
        r#"{"id":"c","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}"#,
    ),
    (
        "openai-responses",
        r#"{"id":"r","object":"response","status":"completed","model":"m","output":[]}"#,
    ),
    (
        "gemini",
        r#"{"candidates":[{"content":{"parts":[{"text":"Hi"}],"role":"model"},"finishReason":"STOP"}],"modelVersion":"m"}"#,
    ),
    (
        "vllm",
        r#"{"id":"c","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}"#,
    ),
    (
        "anthropic",
        r#"{"id":"m","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn","usage":{"input_tokens":9,"output_tokens":3}}"#,
    ),
];

/// One strict mock for each vendor.
struct StrictMocks(Vec<(&'static str, MockHandle)>);

impl StrictMocks {
    fn start() -> Self {
        let mut mocks: Vec<(&str, MockHandle)> = Vec::new();
        for Target { vendor, .. } in TARGETS {
            if mocks.iter().all(|(known, _)| *known != vendor) {
                let options = MockOptions {
                    strict: true,
                    vendor: vendor.to_owned(),
                    ..MockOptions::default()
                };
                mocks.push((vendor, MockProvider::start(options).unwrap()));
            }
        }
        Self(mocks)
    }

    fn base_url(&self, vendor: &str) -> String {
        let (_, mock) = self.0.iter().find(|(known, _)| *known == vendor).unwrap();
        match vendor {
            "gemini" => mock.gemini_base_url(),
            _ => mock.base_url(),
        }
    }
}

fn settings(mocks: &StrictMocks, seen: &ScriptedProvider) -> String {
    let entry = |name: &str, dialect: &str, base_url: &str, model: &str, more: &str| {
        format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"{dialect}\"\nbase_url = \"{base_url}\"\n{more}\n\n\
             [[alias]]\nname = \"{name}\"\ntargets = [{{ provider = \"{name}\", model = \"{model}\" }}]\n\n"
        )
    };
    let strict = TARGETS.iter().map(|target| {
        let base_url = mocks.base_url(target.vendor);
        let more = format!("unsupported = \"{}\"", target.unsupported);
        entry(target.name, target.vendor, &base_url, target.model, &more)
    });
    let seen_at = format!("http://{}/v1", seen.address);
    let seen = SEEN.iter().map(|(dialect, _)| {
        let name = format!("seen-{dialect}");
        entry(&name, dialect, &seen_at, &name, "")
    });
    strict.chain(seen).collect()
}

/// A client of the gateway.
struct Client<'w> {
    weir: &'w Installation,
    key: &'w str,
}

impl Client<'_> {
    fn send(&self, path: &str, alias: &str, mut body: Value) -> Answer {
        body["model"] = alias.into();
        if path == MESSAGES && body["max_tokens"].is_null() {
            body["max_tokens"] = 99.into();
        }
        let request = Request::post(path, body.to_string()).bearer(self.key);
        request.send(self.weir.gateway).unwrap()
    }

    /// The answer, and what was left out for it.
    fn answer(&self, path: &str, alias: &str, body: Value) -> (Value, String) {
        let answer = self.send(path, alias, body.clone());
        assert_eq!(
            answer.status,
            200,
            "{alias} by {path}: {body}\n{}",
            answer.text()
        );
        let dropped = answer.header("x-weir-dropped").unwrap_or_default();
        (answer.json(), dropped.to_owned())
    }

    fn listed(&self, path: &str, alias: &str, body: Value) -> String {
        self.answer(path, alias, body).1
    }

    /// The gateway refuses a field by its name.
    fn refused(&self, path: &str, alias: &str, body: Value, field: &str) {
        let answer = self.send(path, alias, body.clone());
        let text = answer.text();
        assert_eq!(answer.status, 400, "{alias} by {path}: {body}\n{text}");
        let named = format!("`{field}");
        assert!(answer.message().starts_with(&named), "{alias}: {text}");
    }
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn said(content: &str) -> Value {
    json!({"role": "assistant", "content": content})
}

/// A call and its result.
fn called(content: &str) -> [Value; 2] {
    [
        json!({"role": "assistant", "content": content, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "read", "arguments": "{}"}}]}),
        json!({"role": "tool", "tool_call_id": "call_1", "content": "text"}),
    ]
}

/// A tool in the words of the API behind a path.
fn tool(path: &str, name: &str, schema: &Value) -> Value {
    match path {
        CHAT => {
            json!({"type": "function", "function": {"name": name, "parameters": schema}})
        }
        RESPONSES => json!({"type": "function", "name": name, "parameters": schema}),
        _ => json!({"name": name, "input_schema": schema}),
    }
}

/// A question in the words of the API behind a path, with more fields.
fn question(path: &str, more: Value) -> Value {
    let field = if path == RESPONSES {
        "input"
    } else {
        "messages"
    };
    let mut body = json!({field: [user("How high is the water?")]});
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    body
}

fn no_parameters() -> Value {
    json!({"type": "object", "properties": {}})
}

#[test]
fn no_provider_is_sent_what_it_refuses() {
    let mocks = StrictMocks::start();
    let scripts = SEEN.iter();
    let scripts = scripts.map(|(name, answer)| Script::plain(&format!("seen-{name}"), answer));
    let seen = ScriptedProvider::start(scripts.collect()).unwrap();
    let weir = Installation::new(&settings(&mocks, &seen)).unwrap();
    let key = weir.create_key("rules").unwrap();
    let gateway = weir.start(&["gateway"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_until_known(&key).unwrap();
    let client = Client {
        weir: &weir,
        key: &key,
    };
    blank_text_is_left_out(&client);
    tools_without_parameters_have_a_schema(&client);
    long_names_of_tools_come_back(&client);
    text_files_are_text(&client);
    schemas_of_answers_are_closed(&client);
    sampling_is_what_the_model_takes(&client);
    calls_have_their_reasoning(&client);
    agents_reach_models_that_reason(&client);
    thinking_is_within_the_models_range(&client);
    what_asks_for_nothing_is_left_out(&client);
    billing_notes_stay_at_anthropic(&client, &seen);
    for (vendor, mock) in &mocks.0 {
        let ledger = mock.ledger();
        assert!(
            ledger.refused.is_empty(),
            "{vendor} refused {:?}",
            ledger.refused
        );
        assert!(ledger.total.calls > 0, "{vendor} was asked nothing");
    }
    gateway.stop().unwrap();
}

fn blank_text_is_left_out(client: &Client<'_>) {
    let [call, result] = called("\n\n");
    let tools = [tool(CHAT, "read", &no_parameters())];
    for (messages, listed) in [
        (json!([user("Go."), call, result]), ""),
        (
            json!([user("Go."), said(" \n"), user("Well?")]),
            "messages[].content (blank)",
        ),
        (
            json!([user("Go."), said("Answer: \n")]),
            "messages[].content (white space at the end)",
        ),
    ] {
        let body = json!({"messages": messages, "tools": tools});
        assert_eq!(client.listed(CHAT, "claude", body), listed);
    }
    let blank = json!({"type": "output_text", "text": " \n"});
    let input = json!([user("Go."), {"role": "assistant", "content": [blank]}, user("Well?")]);
    let listed = client.listed(RESPONSES, "claude", json!({"input": input}));
    assert_eq!(listed, "input[].content (blank)");
    let prefill = json!({"messages": [user("Go."), said("Answer: \n")]});
    client.refused(CHAT, "newer-claude", prefill.clone(), "messages[]");
    let listed = client.listed(CHAT, "lenient-claude", prefill);
    assert_eq!(listed, "messages[] (an answer to continue)");
}

fn tools_without_parameters_have_a_schema(client: &Client<'_>) {
    let schemas = [
        json!({}),
        json!({"type": "object"}),
        json!({"type": "object", "properties": null}),
    ];
    // Each is of another API than the client, which must know its own vendor's rules.
    for (path, aliases) in [
        (CHAT, &["claude", "newer-claude", "responses", "gemini"][..]),
        (RESPONSES, &["claude", "gemini", "deepseek", "mistral"]),
        (
            MESSAGES,
            &[
                "openai",
                "newer-openai",
                "responses",
                "gemini",
                "deepseek",
                "kimi",
                "glm",
                "mistral",
                "groq",
                "xai",
            ],
        ),
    ] {
        for (alias, schema) in aliases
            .iter()
            .flat_map(|alias| schemas.iter().map(move |schema| (alias, schema)))
        {
            let tools = json!({"tools": [tool(path, "read", schema)]});
            client.answer(path, alias, question(path, tools));
        }
    }
}

fn long_names_of_tools_come_back(client: &Client<'_>) {
    for length in [65, 81, 128] {
        let name = "mcp__server__".to_owned() + &"x".repeat(length - 13);
        let tools = [tool(MESSAGES, &name, &no_parameters())];
        let more = json!({"tools": tools, "tool_choice": {"type": "tool", "name": name}});
        for alias in ["openai", "responses", "newer-openai", "gemini", "groq"] {
            let (told, _) = client.answer(MESSAGES, alias, question(MESSAGES, more.clone()));
            let blocks = told["content"].as_array().unwrap();
            let call = blocks.iter().find(|block| block["type"] == "tool_use");
            assert_eq!(call.unwrap()["name"], name, "{alias}: {told}");
            let mut streamed = question(MESSAGES, more.clone());
            streamed["stream"] = true.into();
            let text = client.send(MESSAGES, alias, streamed).text();
            let whole = format!("\"name\":\"{name}\"");
            assert!(text.contains(&whole), "{alias}: {text}");
        }
    }
}

fn text_files_are_text(client: &Client<'_>) {
    let with_file = |media_type: &str, base64: &str| {
        let data = format!("data:{media_type};base64,{base64}");
        json!({"messages": [{"role": "user", "content": [
            {"type": "text", "text": "What is it?"},
            {"type": "file", "file": {"filename": "f", "file_data": data}}]}]})
    };
    for media_type in ["text/plain", "text/csv", "text/markdown"] {
        let file = with_file(media_type, "YSxiCjEsMgo=");
        assert_eq!(client.listed(CHAT, "claude", file), "", "{media_type}");
    }
    let field = "messages[].content[].file (application/zip)";
    let archive = with_file("application/zip", "UEsDBGFhYWE=");
    client.refused(CHAT, "claude", archive.clone(), field);
    assert_eq!(client.listed(CHAT, "lenient-claude", archive), field);
}

fn schemas_of_answers_are_closed(client: &Client<'_>) {
    let city =
        json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let nested = json!({
        "type": "object", "required": ["all"],
        "properties": {
            "all": {"type": "array", "items": city},
            "one": {"anyOf": [city, {"type": "null"}]},
            "other": {"$ref": "#/$defs/city"},
        },
        "$defs": {"city": city},
    });
    for alias in ["claude", "newer-claude", "lenient-claude"] {
        for schema in [&city, &nested] {
            let format = json!({"name": "n", "schema": schema});
            let format = json!({"type": "json_schema", "json_schema": format});
            let body = question(CHAT, json!({"response_format": format}));
            assert_eq!(client.listed(CHAT, alias, body), "");
            let format = json!({"type": "json_schema", "name": "n", "schema": schema});
            let body = question(RESPONSES, json!({"text": {"format": format}}));
            assert_eq!(client.listed(RESPONSES, alias, body), "");
        }
    }
    let map = json!({"type": "object", "additionalProperties": true});
    let open = json!({"type": "object", "properties": {"map": map}, "required": ["map"]});
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": open}});
    let body = question(CHAT, json!({"response_format": format}));
    client.refused(CHAT, "claude", body, "response_format.json_schema.schema");
}

fn sampling_is_what_the_model_takes(client: &Client<'_>) {
    for (path, more, fields) in [
        (
            CHAT,
            json!({"temperature": 0.2, "top_k": 5}),
            "temperature, top_k",
        ),
        (CHAT, json!({"top_p": 0.5}), "top_p"),
        (
            RESPONSES,
            json!({"temperature": 0.2, "top_p": 0.9}),
            "temperature, top_p",
        ),
        (
            MESSAGES,
            json!({"temperature": 0.2, "top_k": 5}),
            "temperature, top_k",
        ),
    ] {
        let first = fields.split(',').next().unwrap();
        client.refused(path, "newer-claude", question(path, more.clone()), first);
        let listed = client.listed(path, "lenient-claude", question(path, more));
        assert_eq!(listed, fields, "{path}");
    }
    let default = question(CHAT, json!({"temperature": 1}));
    let listed = client.listed(CHAT, "newer-claude", default);
    assert_eq!(listed, "temperature");
}

fn calls_have_their_reasoning(client: &Client<'_>) {
    let [call, result] = called("");
    let tools = [tool(CHAT, "read", &no_parameters())];
    let conversation = json!({"messages": [user("Go."), call, result], "tools": tools});
    for alias in ["deepseek", "kimi"] {
        for thinking in [Value::Null, json!({"type": "enabled"})] {
            let mut body = conversation.clone();
            if !thinking.is_null() {
                body["thinking"] = thinking;
            }
            assert_eq!(client.listed(CHAT, alias, body), "", "{alias}");
        }
        let call = json!({"type": "tool_use", "id": "toolu_1", "name": "read", "input": {}});
        let result = json!({"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"});
        let body = json!({
            "max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 2000},
            "tools": [tool(MESSAGES, "read", &no_parameters())],
            "messages": [user("Go."), {"role": "assistant", "content": [call]},
                {"role": "user", "content": [result]}],
        });
        client.answer(MESSAGES, alias, body);
    }
}

fn agents_reach_models_that_reason(client: &Client<'_>) {
    for thinking in [
        Value::Null,
        json!({"type": "adaptive"}),
        json!({"type": "disabled"}),
        json!({"type": "enabled", "budget_tokens": 31_999}),
    ] {
        let mut body = question(
            MESSAGES,
            json!({"max_tokens": 32_000, "tools": [tool(MESSAGES, "read", &no_parameters())]}),
        );
        if !thinking.is_null() {
            body["thinking"] = thinking;
        }
        let listed = client.listed(MESSAGES, "newer-openai", body);
        assert_eq!(listed, "");
    }
    for effort in ["none", "low", "xhigh"] {
        let tools = [tool(CHAT, "read", &no_parameters())];
        let more = json!({"tools": tools, "reasoning_effort": effort});
        let listed = client.listed(CHAT, "newer-openai", question(CHAT, more));
        assert_eq!(listed, "", "{effort}");
    }
}

fn thinking_is_within_the_models_range(client: &Client<'_>) {
    const BENT: [&str; 2] = ["thinking", "reasoning_effort"];
    for (alias, budgets, efforts) in [
        ("flash", [31_999, 0], ["xhigh", "none"]),
        ("pro", [60_000, 0], ["max", "none"]),
        ("older-pro", [31_999, 0], ["medium", "minimal"]),
        ("gemini", [31_999, 0], ["xhigh", "none"]),
    ] {
        let budgets = budgets.map(|budget| match budget {
            0 => json!({"type": "disabled"}),
            budget => json!({"type": "enabled", "budget_tokens": budget}),
        });
        for thinking in budgets {
            let more = json!({"max_tokens": 64_000, "thinking": thinking});
            let listed = client.listed(MESSAGES, alias, question(MESSAGES, more));
            let is_taken = listed.is_empty() || listed == BENT[0];
            assert!(is_taken, "{alias} {thinking}: {listed}");
        }
        for effort in efforts {
            let more = json!({"reasoning_effort": effort});
            let listed = client.listed(CHAT, alias, question(CHAT, more));
            let is_taken = listed.is_empty() || listed == BENT[1];
            assert!(is_taken, "{alias} {effort}: {listed}");
        }
    }
    let more =
        json!({"max_tokens": 64_000, "thinking": {"type": "enabled", "budget_tokens": 31_999}});
    let listed = client.listed(MESSAGES, "flash", question(MESSAGES, more));
    assert_eq!(listed, BENT[0], "it is bent, and said to be");
}

fn what_asks_for_nothing_is_left_out(client: &Client<'_>) {
    for context in ["auto", "all_turns"] {
        for alias in ["claude", "gemini", "deepseek", "openai"] {
            let more = json!({"reasoning": {"context": context}});
            let listed = client.listed(RESPONSES, alias, question(RESPONSES, more));
            assert_eq!(listed, "reasoning.context", "{alias}");
        }
    }
    for alias in ["openai", "responses", "gemini", "deepseek"] {
        let more = json!({"mcp_servers": []});
        let listed = client.listed(MESSAGES, alias, question(MESSAGES, more));
        assert_eq!(listed, "mcp_servers", "{alias}");
    }
}

/// Two requests of Claude Code, which differ in nothing but the note.
fn billing_notes_stay_at_anthropic(client: &Client<'_>, seen: &ScriptedProvider) {
    const MARK: &str = "x-anthropic-billing-header";
    let notes = ["a1b2c", "00fff"]
        .map(|cch| format!("{MARK}: cc_version=2.1.31.ab; cc_entrypoint=cli; cch={cch};"));
    for note in &notes {
        let system = json!([{"type": "text", "text": note}, {"type": "text", "text": "Be brief."}]);
        for (dialect, _) in SEEN {
            let body = question(MESSAGES, json!({"system": system}));
            let listed = client.listed(MESSAGES, &format!("seen-{dialect}"), body);
            assert_eq!(listed, "", "{dialect}");
        }
        for Target { name, .. } in TARGETS {
            let body = question(MESSAGES, json!({"system": system}));
            client.answer(MESSAGES, name, body);
        }
    }
    for (dialect, _) in SEEN {
        let asked = seen.asked(&format!("seen-{dialect}"));
        let bodies: Vec<&str> = asked
            .iter()
            .map(|call| call.split_once("\r\n\r\n").unwrap().1)
            .collect();
        let [first, second] = bodies.as_slice() else {
            panic!("{dialect}: {asked:?}")
        };
        assert!(first.contains("Be brief."), "{dialect}: {first}");
        if dialect == "anthropic" {
            assert!(first.contains(&notes[0]) && second.contains(&notes[1]));
        } else {
            assert!(!first.contains(MARK), "{dialect}: {first}");
            assert_eq!(first, second, "{dialect} can keep its cache");
        }
    }
}
