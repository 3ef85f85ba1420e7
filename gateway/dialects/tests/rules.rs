//! What a target refuses never reaches it: requests of every kind, held against the target's rule.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what it does not expect"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::HeaderMap;
use proptest::prelude::*;
use serde_json::{Value, json};
use weir_dialects::{
    ClientApi, ClientRequest, PrepareError, ResponseMachine, Target, Unsupported, UpstreamRequest,
    inspect, prepare, vendors,
};

fn try_prepare(
    api: ClientApi,
    body: &Value,
    (vendor, model): (&str, &str),
    unsupported: Unsupported,
) -> Result<UpstreamRequest, PrepareError> {
    let body = Bytes::from(body.to_string());
    let facts = inspect(api, &body).unwrap();
    let request = ClientRequest {
        api,
        headers: &HeaderMap::new(),
        query: None,
        body: &body,
        facts: &facts,
        output_limit: None,
        request_id: "01a2",
        now_s: 1_700_000_000,
    };
    let target = Target::new(vendors::find(vendor).unwrap(), model);
    prepare(
        &request,
        &Target {
            unsupported,
            ..target
        },
    )
}

fn body_of(upstream: &UpstreamRequest) -> Value {
    serde_json::from_slice(&upstream.body.to_bytes()).unwrap()
}

/// The request that a target gets under the policy `drop`, and what was dropped.
fn sent(api: ClientApi, body: &Value, target: (&str, &str)) -> (Value, Vec<String>) {
    let upstream = try_prepare(api, body, target, Unsupported::Drop).unwrap();
    (body_of(&upstream), upstream.dropped)
}

const CHAT: ClientApi = ClientApi::ChatCompletions;
const CLAUDE: (&str, &str) = ("anthropic", "claude-sonnet-4-5");

/// The field that refuses a request.
fn refused(api: ClientApi, body: &Value, target: (&str, &str)) -> String {
    let refusal = try_prepare(api, body, target, Unsupported::Refuse).unwrap_err();
    refusal.field().unwrap().to_owned()
}

// Blank text.

/// Anthropic's rule: every text has something in it, the first message is the user's, and the last
/// does not end in white space if it is the assistant's.
fn assert_no_blank_text(request: &Value) {
    let messages = request["messages"].as_array().unwrap();
    assert_eq!(messages[0]["role"], "user", "{request}");
    let mut texts: Vec<&str> = request["system"].as_str().into_iter().collect();
    for message in messages {
        add_texts(&message["content"], &mut texts);
    }
    assert!(
        texts.iter().all(|text| !text.trim().is_empty()),
        "{request}"
    );
    let last = messages.last().unwrap();
    let content = &last["content"];
    let ending = match content.as_array() {
        Some(blocks) => blocks.last().unwrap()["text"].as_str(),
        None => content.as_str(),
    };
    let ends_well = ending.is_none_or(|text| text.trim_end() == text);
    assert!(last["role"] == "user" || ends_well, "{request}");
}

fn add_texts<'v>(content: &'v Value, texts: &mut Vec<&'v str>) {
    if let Some(text) = content.as_str() {
        texts.push(text);
    }
    for block in content.as_array().into_iter().flatten() {
        texts.extend(block["text"].as_str());
        if block["type"] == "tool_result" {
            add_texts(&block["content"], texts);
        }
    }
}

fn message() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[ \t\n\r\u{b}\u{c}\u{85}\u{a0}\u{2028}\u{3000}]{0,3}",
        "[a-z \n]{1,4}"
    ];
    let content = prop_oneof![
        text.clone().prop_map(Value::from),
        prop::collection::vec(
            text.prop_map(|text| json!({"type": "text", "text": text})),
            1..3
        )
        .prop_map(Value::from),
    ];
    let role = prop_oneof!["user", "assistant", "call", "tool", "system"];
    (role, content).prop_map(|(role, content)| match role.as_str() {
        "call" => json!({"role": "assistant", "content": content, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}),
        "tool" => json!({"role": "tool", "tool_call_id": "c", "content": content}),
        role => json!({"role": role, "content": content}),
    })
}

proptest! {
    #[test]
    fn no_blank_text_reaches_claude(messages in prop::collection::vec(message(), 1..6)) {
        let mut messages = messages;
        messages.insert(0, json!({"role": "user", "content": "\n"}));
        let body = json!({"model": "m", "messages": messages});
        assert_no_blank_text(&sent(CHAT, &body, CLAUDE).0);
    }
}

#[test]
fn a_blank_message_beside_calls_is_left_out_without_a_word() {
    let body = json!({"model": "m", "messages": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "\n\n", "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "r"}]});
    let (request, dropped) = sent(CHAT, &body, CLAUDE);
    let blocks = request["messages"][1]["content"].as_array().unwrap();
    assert_eq!((blocks.len(), &blocks[0]["type"]), (1, &json!("tool_use")));
    assert_eq!(dropped, [""; 0]);
}

#[test]
fn a_blank_turn_of_the_user_keeps_its_place() {
    let body = json!({"model": "m", "messages": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": " \u{2003}\n"}]});
    let (request, dropped) = sent(CHAT, &body, CLAUDE);
    assert_eq!(
        request["messages"][2],
        json!({"role": "user", "content": "(empty message)"})
    );
    assert_eq!(dropped, ["messages[].content (blank)"]);
}

#[test]
fn a_prefill_loses_the_white_space_at_its_end_and_says_so() {
    let body = json!({"model": "m", "messages": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "Answer: \n"}]});
    let (request, dropped) = sent(CHAT, &body, CLAUDE);
    assert_eq!(request["messages"][1]["content"], "Answer:");
    assert_eq!(dropped, ["messages[].content (white space at the end)"]);
}

// Media.

fn with_file(media_type: &str, bytes: &[u8]) -> Value {
    let data = BASE64.encode(bytes);
    json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "x"},
        {"type": "file", "file": {"filename": "f", "file_data": format!("data:{media_type};base64,{data}")}}]}]})
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

#[test]
fn text_files_become_documents_of_text() {
    for media_type in [
        "text/plain",
        "text/csv",
        "TEXT/CSV",
        "text/markdown",
        "application/json",
        "application/xml",
        "application/x-yaml",
        "application/ld+json",
        "image/svg+xml",
        "text/plain;charset=utf-8",
    ] {
        let (request, _) = sent(CHAT, &with_file(media_type, "é,\"1\"\n".as_bytes()), CLAUDE);
        let source = json!({"type": "text", "media_type": "text/plain", "data": "é,\"1\"\n"});
        let document = json!({"type": "document", "source": source, "title": "f"});
        assert_eq!(
            request["messages"][0]["content"][1], document,
            "{media_type}"
        );
    }
}

#[test]
fn what_is_no_document_is_refused_by_name() {
    for media_type in [
        "application/zip",
        "application/gzip",
        "application/octet-stream",
        "video/mp4",
        "audio/wav",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "image/tiff",
        "x",
    ] {
        let field = refused(CHAT, &with_file(media_type, b"PK\x03\x04"), CLAUDE);
        assert_eq!(field, format!("messages[].content[].file ({media_type})"));
    }
    let field = refused(CHAT, &with_file("text/plain", b"\xff\xfe"), CLAUDE);
    assert_eq!(field, "messages[].content[].file (text/plain, not UTF-8)");
}

#[test]
fn media_that_say_nothing_are_left_out_and_listed() {
    for target in [
        CLAUDE,
        ("gemini", "gemini-3.5-flash"),
        ("openai-responses", "gpt-5.1"),
    ] {
        for (media_type, field) in [
            ("text/plain", "file"),
            ("application/pdf", "file"),
            ("image/png", "file"),
            ("image/png", "image_url"),
        ] {
            let url = format!("data:{media_type};base64,");
            let body = match field {
                "file" => with_file(media_type, b""),
                _ => json!({"model": "m", "messages": [{"role": "user", "content": [
                    {"type": "text", "text": "x"},
                    {"type": "image_url", "image_url": {"url": url}}]}]}),
            };
            let upstream = try_prepare(CHAT, &body, target, Unsupported::Refuse).unwrap();
            let request = body_of(&upstream).to_string();
            assert!(!request.contains("\"data\":\"\""), "{request}");
            assert!(!request.contains("base64,\""), "{request}");
            let (_, dropped) = sent(CHAT, &body, target);
            assert_eq!(dropped, [format!("messages[].content[].{field} (empty)")]);
        }
    }
    let (_, dropped) = sent(CHAT, &with_file("text/plain", b" \n"), CLAUDE);
    assert_eq!(dropped, ["messages[].content[].file (blank)"]);
}

/// The images and documents of a request to Claude, which it refuses in any other form.
fn assert_media_of_claude(request: &Value) {
    for block in request["messages"][0]["content"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let source = &block["source"];
        let (kind, media_type) = (&source["type"], source["media_type"].as_str());
        match (block["type"].as_str().unwrap(), kind.as_str()) {
            ("text", _) => {}
            ("image", Some("base64")) => assert!(
                ["image/jpeg", "image/png", "image/gif", "image/webp"]
                    .contains(&media_type.unwrap()),
                "{block}"
            ),
            ("document", Some("base64")) => assert_eq!(media_type, Some("application/pdf")),
            ("document", Some("text")) => assert_eq!(media_type, Some("text/plain")),
            _ => panic!("{block}"),
        }
    }
}

proptest! {
    #[test]
    fn claude_gets_no_media_that_it_does_not_take(
        media_type in "(text|image|application|audio|video|[a-z]{0,3})/(plain|png|jpg|jpeg|pdf|zip|json|csv|svg\\+xml|webp|[a-z.+-]{0,6})",
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..8),
            Just(PNG.to_vec()),
            Just(b"%PDF-1.4".to_vec()),
            Just(b"plain".to_vec()),
        ],
        as_image in any::<bool>(),
    ) {
        let body = if as_image {
            let url = format!("data:{media_type};base64,{}", BASE64.encode(&bytes));
            json!({"model": "m", "messages": [{"role": "user", "content": [
                {"type": "text", "text": "x"},
                {"type": "image_url", "image_url": {"url": url}}]}]})
        } else {
            with_file(&media_type, &bytes)
        };
        assert_media_of_claude(&sent(CHAT, &body, CLAUDE).0);
        if let Ok(upstream) = try_prepare(CHAT, &body, CLAUDE, Unsupported::Refuse) {
            assert_media_of_claude(&body_of(&upstream));
        }
    }
}

#[test]
fn an_image_is_called_what_it_is() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": format!("data:image/jpeg;base64,{}", BASE64.encode(PNG))}}]}]});
    let (request, _) = sent(CHAT, &body, CLAUDE);
    assert_eq!(
        request["messages"][0]["content"][0]["source"]["media_type"],
        "image/png"
    );
}

#[test]
fn each_target_takes_images_of_its_own_kinds() {
    let body = |kind: &str| {
        json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": kind, "data": "AAAA"}}]}],
        "max_tokens": 99})
    };
    for (kind, vendor, takes) in [
        ("image/gif", "gemini", false),
        ("image/heic", "gemini", true),
        ("image/heic", "openai", false),
        ("image/bmp", "openai-responses", false),
        ("image/bmp", "vllm", true),
        ("image/webp", "openai", true),
        ("image/webp", "gemini", true),
    ] {
        let sent = try_prepare(
            ClientApi::Messages,
            &body(kind),
            (vendor, "m"),
            Unsupported::Refuse,
        );
        assert_eq!(sent.is_ok(), takes, "{kind} {vendor}");
    }
}

// Bookkeeping of a client.

#[test]
fn the_prompt_of_claude_code_begins_alike_in_every_request_elsewhere() {
    let body = |note: &str, is_text: bool| {
        let system = match is_text {
            true => json!(format!("{note}\nYou are Claude Code.")),
            false => {
                json!([{"type": "text", "text": note}, {"type": "text", "text": "You are Claude Code."}])
            }
        };
        json!({"model": "m", "max_tokens": 99, "system": system,
            "messages": [{"role": "user", "content": "x-anthropic-billing-header: is what?"}]})
    };
    let notes = [
        "x-anthropic-billing-header: cc_version=2.1.1.a1; cc_entrypoint=cli; cch=00001;",
        "x-anthropic-billing-header: cc_version=2.1.2.b2; cc_entrypoint=sdk; cch=fffff;",
    ];
    for vendor in vendors::all()
        .iter()
        .filter(|vendor| vendor.name != "anthropic")
    {
        let target = (vendor.name, "m");
        for is_text in [false, true] {
            let [first, second] =
                notes.map(|note| sent(ClientApi::Messages, &body(note, is_text), target));
            assert_eq!(first, second, "{}", vendor.name);
            let (request, dropped) = (first.0.to_string(), first.1);
            assert_eq!(
                request.matches("x-anthropic-billing-header").count(),
                1,
                "{request}"
            );
            assert!(request.contains("You are Claude Code."), "{request}");
            assert_eq!(dropped, [""; 0], "{}", vendor.name);
        }
    }
    let (request, _) = sent(ClientApi::Messages, &body(notes[0], false), CLAUDE);
    assert_eq!(request["system"][0]["text"], notes[0]);
}

// Schemas of tools.

/// How each API holds the schemas of tools.
fn tool_schemas(request: &Value) -> Vec<Value> {
    let tools = match &request["tools"][0]["functionDeclarations"] {
        Value::Array(tools) => tools,
        _ => request["tools"].as_array().unwrap(),
    };
    let schema = |tool: &Value| {
        let places = [
            "/input_schema",
            "/function/parameters",
            "/parameters",
            "/parametersJsonSchema",
        ];
        let found = places.iter().find_map(|place| tool.pointer(place));
        found.unwrap().clone()
    };
    tools.iter().map(schema).collect()
}

/// The targets of every dialect but the client's.
fn targets(api: ClientApi) -> impl Iterator<Item = (&'static str, &'static str)> {
    vendors::all().iter().filter_map(move |vendor| {
        let is_native = vendor.upstream_api(api).unwrap().is_native_to(api);
        (!is_native).then_some((vendor.name, "m"))
    })
}

#[test]
fn every_tool_has_a_schema_with_type_and_properties() {
    let schemas = [
        json!({}),
        json!(null),
        json!(true),
        json!({"type": "object"}),
        json!({"type": "object", "properties": null}),
        json!({"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "string"}}}),
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": ["object", "null"]}),
    ];
    for schema in schemas {
        let chat = json!({"model": "m", "messages": [{"role": "user", "content": "x"}],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]});
        let messages = json!({"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "x"}],
            "tools": [{"name": "f", "input_schema": schema}]});
        let responses = json!({"model": "m", "input": "x",
            "tools": [{"type": "function", "name": "f", "parameters": schema}]});
        for (api, body) in [
            (CHAT, &chat),
            (ClientApi::Messages, &messages),
            (ClientApi::Responses, &responses),
        ] {
            for target in targets(api) {
                let (request, dropped) = sent(api, body, target);
                let written = &tool_schemas(&request)[0];
                assert_eq!(written["type"], "object", "{target:?} {schema}");
                assert!(written["properties"].is_object(), "{target:?} {schema}");
                assert_eq!(written.get("$defs"), schema.get("$defs"), "{target:?}");
                assert_eq!(dropped, [""; 0]);
            }
        }
    }
}

#[test]
fn a_schema_that_is_none_of_an_object_is_refused_by_name() {
    for schema in [
        json!("x"),
        json!([]),
        json!({"type": "string"}),
        json!(false),
    ] {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]});
        assert_eq!(refused(CHAT, &body, CLAUDE), "tools[0].function.parameters");
    }
}

fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string"})),
        Just(json!({"type": "integer", "minimum": 1})),
        Just(json!({"enum": ["a", 1, null]})),
        Just(json!({"type": "object"})),
        Just(json!({"$ref": "#/$defs/D"})),
        Just(json!({"type": "string", "format": "regex", "description": "d"})),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let properties = prop::collection::vec(inner.clone(), 0..3);
        prop_oneof![
            (properties, any::<bool>(), any::<bool>()).prop_map(|(schemas, typed, open)| {
                let named = schemas
                    .into_iter()
                    .enumerate()
                    .map(|(n, schema)| (format!("p{n}"), schema));
                let mut object = json!({"properties": named.collect::<serde_json::Map<_, _>>()});
                if typed {
                    object["type"] = json!("object");
                }
                if open {
                    object["additionalProperties"] = json!(true);
                }
                object
            }),
            inner
                .clone()
                .prop_map(|items| json!({"type": "array", "items": items, "maxItems": 3})),
            prop::collection::vec(inner.clone(), 1..3)
                .prop_map(|options| json!({"anyOf": options})),
            prop::collection::vec(inner, 1..3).prop_map(|options| json!({"oneOf": options})),
        ]
    })
}

/// Claude's rule for schemas that it enforces.
fn assert_schema_for_claude(schema: &Value) {
    const KNOWN: [&str; 15] = [
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "enum",
        "const",
        "anyOf",
        "allOf",
        "$ref",
        "$defs",
        "definitions",
        "title",
        "description",
        "default",
    ];
    let Some(object) = schema.as_object() else {
        return;
    };
    for (key, value) in object {
        let is_format = matches!(key.as_str(), "format" | "pattern" | "minItems");
        assert!(KNOWN.contains(&key.as_str()) || is_format, "{key}: {value}");
        match key.as_str() {
            "properties" | "$defs" | "definitions" => {
                value
                    .as_object()
                    .unwrap()
                    .values()
                    .for_each(assert_schema_for_claude);
            }
            "anyOf" | "allOf" => value
                .as_array()
                .unwrap()
                .iter()
                .for_each(assert_schema_for_claude),
            "items" => assert_schema_for_claude(value),
            _ => {}
        }
    }
    if object.get("type") == Some(&json!("object")) || object.contains_key("properties") {
        assert_eq!(
            object.get("additionalProperties"),
            Some(&json!(false)),
            "{schema}"
        );
    }
}

proptest! {
    #[test]
    fn claude_gets_only_schemas_that_it_can_enforce(schema in any_schema()) {
        let mut schema = schema;
        schema["$defs"] = json!({"D": {"type": "object", "properties": {"x": {"type": "string"}}}});
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
            "tools": [{"type": "function", "function": {"name": "f", "strict": true,
                "parameters": {"type": "object", "properties": {"p": schema.clone()}}}}]});
        for policy in [Unsupported::Refuse, Unsupported::Drop] {
            let Ok(upstream) = try_prepare(CHAT, &body, CLAUDE, policy) else { continue };
            let request = body_of(&upstream);
            if let Some(written) = request.pointer("/output_config/format/schema") {
                assert_schema_for_claude(written);
            } else {
                prop_assert!(upstream.dropped.iter().any(|field| field.starts_with("response_format")));
            }
            let tool = &request["tools"][0];
            if tool["strict"] == true {
                assert_schema_for_claude(&tool["input_schema"]);
            } else {
                prop_assert!(upstream.dropped.contains(&"tools[].function.strict".to_owned()));
            }
        }
    }
}

#[test]
fn older_claude_models_have_no_strict_tools_and_say_so() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "f", "strict": true,
            "parameters": {"type": "object", "properties": {}, "additionalProperties": false}}}]});
    for (model, is_strict) in [
        ("claude-sonnet-4-5-20250929", true),
        ("claude-opus-4-8", true),
        ("claude-3-5-haiku-20241022", false),
        ("claude-sonnet-4-20250514", false),
    ] {
        let (request, dropped) = sent(CHAT, &body, ("anthropic", model));
        assert_eq!(request["tools"][0]["strict"] == true, is_strict, "{model}");
        assert_eq!(dropped.is_empty(), is_strict, "{model}");
    }
}

#[test]
fn openai_is_sent_no_strictness_that_it_refuses() {
    let schema = json!({"type": "object", "additionalProperties": false, "required": [],
        "properties": {"a": {"type": "string"}}});
    let mut strict = schema.clone();
    strict["required"] = json!(["a"]);
    for (schema, is_kept) in [(schema, false), (strict, true)] {
        let body = json!({"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "x"}],
            "output_config": {"format": {"type": "json_schema", "schema": schema}},
            "tools": [{"name": "f", "strict": true, "input_schema": schema}]});
        let (request, dropped) = sent(ClientApi::Messages, &body, ("openai", "gpt-4.1"));
        assert_eq!(request["response_format"]["json_schema"]["strict"], is_kept);
        assert_eq!(request["tools"][0]["function"]["strict"] == true, is_kept);
        let listed = ["tools[].strict", "output_config.format (strict)"];
        assert_eq!(dropped, if is_kept { vec![] } else { listed.to_vec() });
    }
}

// Names of tools.

#[test]
fn names_that_a_target_does_not_take_come_back_in_the_answer() {
    let long = format!("mcp__{}", "x".repeat(76));
    let body = |stream: bool| {
        json!({"model": "m", "max_tokens": 99, "stream": stream,
        "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": long, "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "r"}]}],
        "tool_choice": {"type": "tool", "name": long},
        "tools": [{"name": long, "input_schema": {"type": "object", "properties": {}}}]})
    };
    for stream in [false, true] {
        let upstream = try_prepare(
            ClientApi::Messages,
            &body(stream),
            ("openai", "gpt-4.1"),
            Unsupported::Refuse,
        )
        .unwrap();
        let request = body_of(&upstream);
        let name = request["tools"][0]["function"]["name"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(name.len() <= 64 && name.starts_with("mcp__xxx"), "{name}");
        assert!(!request.to_string().contains(&long));
        assert_eq!(request.to_string().matches(&name).count(), 3, "{request}");
        let call = json!([{"index": 0, "id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}}]);
        let (key, end) = if stream {
            ("delta", "data: [DONE]\n\n")
        } else {
            ("message", "")
        };
        let answer = json!({"id": "a", "model": "m", "choices": [
            {"index": 0, key: {"role": "assistant", "tool_calls": call}, "finish_reason": "tool_calls"}]});
        let answer = if stream {
            format!("data: {answer}\n\n{end}")
        } else {
            answer.to_string()
        };
        let mut machine = ResponseMachine::new(&upstream.context, stream);
        let mut out = machine.push(answer.into()).unwrap().to_vec();
        out.extend_from_slice(&machine.finish().unwrap());
        let out = String::from_utf8(out).unwrap();
        assert!(
            out.contains(&format!("\"name\":\"{long}\"")) && !out.contains(&name),
            "{out}"
        );
    }
}

proptest! {
    #[test]
    fn every_target_gets_names_that_it_takes(names in prop::collection::hash_set(
        prop_oneof!["[a-zA-Z0-9_./:é -]{1,130}", "[a-z]{63,66}"], 1..4)) {
        let tools: Vec<Value> = names.iter().map(|name| json!({"name": name, "input_schema": {}})).collect();
        let body = json!({"model": "m", "max_tokens": 99, "tools": tools,
            "messages": [{"role": "user", "content": "x"}]});
        for target in ["openai", "openai-responses", "kimi", "gemini", "mistral"] {
            let (request, _) = sent(ClientApi::Messages, &body, (target, "m"));
            let tools = match &request["tools"][0]["functionDeclarations"] {
                Value::Array(tools) => tools.clone(),
                _ => request["tools"].as_array().unwrap().clone(),
            };
            let mut seen = std::collections::HashSet::new();
            for tool in tools {
                let name = tool.pointer("/function/name").unwrap_or_else(|| &tool["name"]).as_str().unwrap().to_owned();
                let has_dots = target == "gemini";
                let fits = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c) || has_dots && c == '.';
                prop_assert!(name.chars().all(fits) && (1..=128).contains(&name.len()), "{name}");
                prop_assert!(has_dots || name.len() <= 64, "{name}");
                let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
                prop_assert!(begins || !["kimi", "gemini"].contains(&target), "{name}");
                prop_assert!(seen.insert(name));
            }
        }
    }
}

// Numbers of things.

#[test]
fn stop_sequences_stay_within_what_a_target_takes() {
    let body = json!({"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "x"}],
        "stop_sequences": ["a", "b", "c", "d", "e", "f"]});
    for (target, most) in [("openai", 4), ("gemini", 5)] {
        let named = format!("stop_sequences (more than {most})");
        assert_eq!(
            refused(ClientApi::Messages, &body, (target, "gpt-4.1")),
            named
        );
        let (request, dropped) = sent(ClientApi::Messages, &body, (target, "gpt-4.1"));
        let stops = request
            .get("stop")
            .or_else(|| request.pointer("/generationConfig/stopSequences"));
        assert_eq!(stops.unwrap().as_array().unwrap().len(), most);
        assert_eq!(dropped, [named]);
    }
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "stop": ["\n\n", " ", "END"]});
    assert_eq!(refused(CHAT, &body, CLAUDE), "stop (blank)");
    assert_eq!(
        sent(CHAT, &body, CLAUDE).0["stop_sequences"],
        json!(["END"])
    );
}

#[test]
fn more_tools_than_openai_takes_are_refused_by_number() {
    let tools: Vec<Value> = (0..129)
        .map(|n| json!({"name": format!("t{n}"), "input_schema": {}}))
        .collect();
    let body = json!({"model": "m", "max_tokens": 99, "tools": tools, "messages": [{"role": "user", "content": "x"}]});
    for target in ["openai", "openai-responses", "azure"] {
        assert_eq!(
            refused(ClientApi::Messages, &body, (target, "m")),
            "tools (more than 128)"
        );
        assert_eq!(
            sent(ClientApi::Messages, &body, (target, "m")).0["tools"]
                .as_array()
                .unwrap()
                .len(),
            128
        );
    }
}

#[test]
fn json_mode_is_refused_at_claude_with_what_to_use_instead() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}],
        "response_format": {"type": "json_object"}});
    let refusal = try_prepare(CHAT, &body, CLAUDE, Unsupported::Refuse).unwrap_err();
    assert_eq!(refusal.field(), Some("response_format (json_object)"));
    assert!(refusal.to_string().contains("json_schema"), "{refusal}");
}

// Reasoning.

fn answered(upstream: &UpstreamRequest, answer: String, is_stream: bool) -> String {
    let mut machine = ResponseMachine::new(&upstream.context, is_stream);
    let mut out = machine.push(answer.into()).unwrap().to_vec();
    out.extend_from_slice(&machine.finish().unwrap());
    String::from_utf8(out).unwrap()
}

/// The content blocks of a streamed answer to a Messages client.
fn blocks_of(stream: &str) -> Vec<Value> {
    let mut blocks: Vec<Value> = Vec::new();
    let events = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    for event in events.map(|data| serde_json::from_str::<Value>(data).unwrap()) {
        if event["type"] == "content_block_start" {
            blocks.push(event["content_block"].clone());
        }
        for (delta, key) in [
            ("thinking", "thinking"),
            ("signature", "signature"),
            ("text", "text"),
        ] {
            if let Some(part) = event["delta"][delta].as_str() {
                let block = &mut blocks[event["index"].as_u64().unwrap().try_into().unwrap_or(0)];
                block[key] = format!("{}{part}", block[key].as_str().unwrap()).into();
            }
        }
    }
    blocks
}

/// What OpenRouter answers: text in pieces, a summary, and what Gemini signs.
fn details() -> Vec<Value> {
    vec![
        json!({"type": "reasoning.text", "text": "Let me \"think\".", "signature": "sig/+=", "id": "r1", "format": "anthropic-claude-v1", "index": 0}),
        json!({"type": "reasoning.summary", "summary": "In short.", "id": null, "format": "openai-responses-v1", "index": 1}),
        json!({"type": "reasoning.encrypted", "data": "CiQB+/x=", "id": "tool_1", "format": "google-gemini-v1", "index": 2}),
    ]
}

fn openrouter_answer(is_stream: bool) -> String {
    let call = json!({"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let [text, summary, encrypted] = <[Value; 3]>::try_from(details()).unwrap();
    if !is_stream {
        return json!({"id": "a", "model": "m", "choices": [{"index": 0, "finish_reason": "tool_calls", "message":
            {"role": "assistant", "content": "", "reasoning": "Let me \"think\".In short.",
             "reasoning_details": [text, summary, encrypted], "tool_calls": [call]}}]}).to_string();
    }
    let mut head = text.clone();
    head["text"] = json!("Let me ");
    head["signature"] = json!(null);
    let mut tail = text;
    tail["text"] = json!("\"think\".");
    let deltas = [
        json!({"role": "assistant", "content": "", "reasoning": "Let me ", "reasoning_details": [head]}),
        json!({"content": "", "reasoning": "\"think\".", "reasoning_details": [tail]}),
        json!({"content": "", "reasoning": "In short.", "reasoning_details": [summary]}),
        json!({"content": "", "reasoning_details": [encrypted], "tool_calls": [call]}),
    ];
    let chunk = |delta: &Value, end: Value| {
        let chunk = json!({"id": "a", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": end}]});
        format!("data: {chunk}\n\n")
    };
    let mut stream: String = deltas
        .iter()
        .map(|delta| chunk(delta, json!(null)))
        .collect();
    stream += &chunk(&json!({}), json!("tool_calls"));
    stream + "data: [DONE]\n\n"
}

#[test]
fn reasoning_details_come_back_to_openrouter_over_messages() {
    let tools = json!([{"name": "f", "input_schema": {}}]);
    for is_stream in [false, true] {
        let first = json!({"model": "m", "max_tokens": 99, "stream": is_stream, "tools": tools,
            "messages": [{"role": "user", "content": "x"}]});
        let upstream = try_prepare(
            ClientApi::Messages,
            &first,
            ("openrouter", "google/gemini-3-pro"),
            Unsupported::Refuse,
        )
        .unwrap();
        let answer = answered(&upstream, openrouter_answer(is_stream), is_stream);
        let content = match is_stream {
            true => Value::from(blocks_of(&answer)),
            false => serde_json::from_str::<Value>(&answer).unwrap()["content"].clone(),
        };
        let second = json!({"model": "m", "max_tokens": 99, "tools": tools, "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": content},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "r"}]}]});
        let (request, _) = sent(
            ClientApi::Messages,
            &second,
            ("openrouter", "google/gemini-3-pro"),
        );
        let message = &request["messages"][1];
        assert_eq!(
            message["reasoning_details"],
            Value::from(details()),
            "{content}"
        );
        assert_eq!(message.get("reasoning"), None);
        // No other vendor sees them.
        let (request, _) = sent(ClientApi::Messages, &second, ("groq", "m"));
        assert!(!request.to_string().contains("sig/+="), "{request}");
    }
}

#[test]
fn reasoning_details_come_back_to_openrouter_over_responses() {
    let tools = json!([{"type": "function", "name": "f", "parameters": {}}]);
    for is_stream in [false, true] {
        let first = json!({"model": "m", "stream": is_stream, "tools": tools, "input": "x"});
        let upstream = try_prepare(
            ClientApi::Responses,
            &first,
            ("openrouter", "m"),
            Unsupported::Refuse,
        )
        .unwrap();
        let answer = answered(&upstream, openrouter_answer(is_stream), is_stream);
        let response = match is_stream {
            true => {
                let last = answer
                    .lines()
                    .rev()
                    .find_map(|line| line.strip_prefix("data: "))
                    .unwrap();
                serde_json::from_str::<Value>(last).unwrap()["response"].clone()
            }
            false => serde_json::from_str(&answer).unwrap(),
        };
        let mut input = vec![json!({"role": "user", "content": "x"})];
        input.extend(response["output"].as_array().unwrap().iter().cloned());
        input.push(json!({"type": "function_call_output", "call_id": "c1", "output": "r"}));
        let second = json!({"model": "m", "tools": tools, "input": input});
        let (request, _) = sent(ClientApi::Responses, &second, ("openrouter", "m"));
        assert_eq!(
            request["messages"][1]["reasoning_details"],
            Value::from(details()),
            "{response}"
        );
    }
}

#[test]
fn claude_gets_a_first_message_of_the_user_and_four_cache_marks() {
    let mark = json!({"type": "ephemeral"});
    let text = |n: u32| json!({"type": "text", "text": format!("t{n}"), "cache_control": mark});
    let body = json!({"model": "m", "messages": [
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": (0..6).map(text).collect::<Vec<_>>()}]});
    let (request, dropped) = sent(CHAT, &body, CLAUDE);
    assert_eq!(request["messages"][0]["role"], "user");
    assert_eq!(request["messages"][1]["content"], "Hello!");
    assert_eq!(request.to_string().matches("cache_control").count(), 4);
    assert_eq!(
        dropped,
        [
            "cache_control (more than 4)",
            "messages[0].role (assistant)"
        ]
    );
}

// What only OpenAI's own chat takes.

/// Vendors that speak chat and know neither tools of free text nor `allowed_tools`.
fn compatible() -> impl Iterator<Item = (&'static str, &'static str)> {
    let is_own = |name: &str| name.starts_with("openai") && name != "openai-compatible";
    let speaks_chat = move |vendor: &&weir_dialects::Vendor| {
        let others = ["anthropic", "gemini", "vertex"];
        !is_own(vendor.name) && !vendor.name.starts_with("azure") && !others.contains(&vendor.name)
    };
    let all = vendors::all().iter().filter(speaks_chat);
    all.map(|vendor| (vendor.name, "some-model"))
}

#[test]
fn free_text_tools_work_at_every_vendor_that_speaks_chat() {
    let body = json!({"model": "m", "messages": [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "c12345678", "type": "custom", "custom": {"name": "run", "input": "1\n"}}]},
        {"role": "tool", "tool_call_id": "c12345678", "content": "1"}],
        "tools": [{"type": "custom", "custom": {"name": "run"}}]});
    let answer = json!({"id": "x", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant",
            "content": null, "tool_calls": [{"id": "c2", "type": "function",
                "function": {"name": "run", "arguments": "{\"input\":\"ls -l\"}"}}]}}]});
    for target in compatible() {
        let upstream = try_prepare(CHAT, &body, target, Unsupported::Refuse).unwrap();
        let request = body_of(&upstream);
        assert_eq!(request["tools"][0]["type"], "function", "{target:?}");
        let call = &request["messages"][1]["tool_calls"][0]["function"];
        assert_eq!(call["arguments"], r#"{"input":"1\n"}"#, "{target:?}");
        let told = answered(&upstream, answer.to_string(), false);
        let told: Value = serde_json::from_str(&told).unwrap();
        let call = &told["choices"][0]["message"]["tool_calls"][0];
        assert_eq!(call["custom"]["input"], "ls -l", "{target:?}: {told}");
    }
}

#[test]
fn allowed_tools_are_the_only_ones_where_no_vendor_chooses_them() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "Go."}],
        "tools": [tool("a"), tool("b")], "tool_choice": {"type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [tool("b")]}}});
    for target in compatible() {
        let (request, dropped) = sent(CHAT, &body, target);
        assert_eq!(request["tools"].as_array().unwrap().len(), 1, "{target:?}");
        assert_eq!(request["tools"][0]["function"]["name"], "b", "{target:?}");
        assert_eq!(request["tool_choice"], "auto", "{target:?}");
        assert_eq!(dropped, ["tool_choice (allowed_tools)"], "{target:?}");
    }
}

#[test]
fn the_word_custom_alone_changes_nothing() {
    let body = json!({"model": "m", "vendors_own": "custom", "messages": [
        {"role": "user", "content": "\"custom\""}], "tools": [{"type": "function",
        "function": {"name": "f", "parameters": {"enum": ["custom", "allowed_tools"]}}}]});
    let (request, dropped) = sent(CHAT, &body, ("openai-compatible", "m"));
    assert_eq!((request, dropped), (body, vec![]));
}

// What must stand at the end, at the beginning, or alone.

#[test]
fn an_answer_to_continue_is_refused_where_no_model_continues_it() {
    let newer = ("anthropic", "claude-opus-5");
    let hello = json!({"role": "assistant", "content": "Hello"});
    let user = json!({"role": "user", "content": "Hi"});
    for messages in [
        vec![hello.clone()],
        vec![hello.clone(), hello.clone()],
        vec![user.clone(), hello.clone()],
        vec![user, hello.clone(), hello],
    ] {
        let body = json!({"model": "m", "messages": messages});
        let field = "messages[] (an answer to continue)";
        assert_eq!(refused(CHAT, &body, newer), field);
        let (request, dropped) = sent(CHAT, &body, newer);
        assert_eq!(request["messages"].as_array().unwrap().len(), 1);
        assert_eq!(request["messages"][0]["role"], "user");
        assert!(dropped.iter().any(|listed| listed == field), "{dropped:?}");
    }
}

#[test]
fn mistral_is_told_to_continue_what_stands_last() {
    for body in [
        json!({"model": "m", "messages": [{"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"}]}),
        json!({"model": "m", "messages": [{"role": "assistant", "content": "Hello"}]}),
    ] {
        let (request, dropped) = sent(CHAT, &body, ("mistral", "mistral-large-latest"));
        let last = request["messages"].as_array().unwrap().last().unwrap();
        assert_eq!(last["prefix"], true);
        assert_eq!(dropped, ["messages[] (an answer to continue)"]);
    }
}

#[test]
fn gemini_gets_a_turn_of_the_user_before_every_call() {
    let call = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    let result = json!({"role": "tool", "tool_call_id": "c", "content": "r"});
    let said = json!({"role": "assistant", "content": "a"});
    for before in [
        vec![],
        vec![json!({"role": "system", "content": "s"})],
        vec![json!({"role": "user", "content": ""})],
        vec![said, json!({"role": "user", "content": ""})],
    ] {
        let messages: Vec<_> = before
            .into_iter()
            .chain([call.clone(), result.clone()])
            .collect();
        let body = json!({"model": "m", "messages": messages});
        let (request, _) = sent(CHAT, &body, ("gemini", "gemini-3.1-pro-preview"));
        let contents = request["contents"].as_array().unwrap();
        assert_eq!(contents[0]["role"], "user", "{request}");
        for pair in contents.windows(2) {
            assert_ne!(pair[0]["role"], pair[1]["role"], "{request}");
        }
    }
}

#[test]
fn gemini_2_5_takes_tools_or_json_and_newer_ones_both() {
    let schema = json!({"name": "n", "schema": {"type": "object", "properties": {}}});
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "Go."}],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "response_format": {"type": "json_schema", "json_schema": schema}});
    let older = ("gemini", "gemini-2.5-pro");
    assert_eq!(
        refused(CHAT, &body, older),
        "response_format (beside tools)"
    );
    let (request, dropped) = sent(CHAT, &body, older);
    assert!(request["generationConfig"]["responseMimeType"].is_null());
    assert_eq!(dropped, ["response_format (beside tools)"]);
    let (request, dropped) = sent(CHAT, &body, ("gemini", "gemini-3.1-pro-preview"));
    assert!(request["generationConfig"]["responseJsonSchema"].is_object());
    assert_eq!(dropped, Vec::<String>::new());
}

#[test]
fn tokens_to_embed_are_refused_under_both_policies() {
    for input in [json!([1, 2]), json!([[1], [2]]), json!(["a", [1]])] {
        let body = json!({"model": "m", "input": input});
        for unsupported in [Unsupported::Refuse, Unsupported::Drop] {
            let target = ("gemini", "gemini-embedding-001");
            let refusal = try_prepare(ClientApi::Embeddings, &body, target, unsupported);
            let refusal = refusal.unwrap_err();
            assert!(refusal.field().unwrap().starts_with("input["), "{refusal}");
        }
    }
}

#[test]
fn groq_and_mistral_get_no_field_that_they_refuse() {
    let body = json!({"model": "m", "prompt_cache_options": {"ttl": "30m"}, "modalities": ["text"],
        "prompt_cache_retention": "24h", "n": 1, "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "No.", "refusal": "r", "annotations": [], "audio": null},
            {"role": "user", "content": "Why?"}]});
    for target in [
        ("groq", "qwen/qwen3-32b"),
        ("mistral", "mistral-large-latest"),
    ] {
        let (request, dropped) = sent(CHAT, &body, target);
        assert_eq!(
            request["messages"][1],
            json!({"role": "assistant", "content": "No."})
        );
        for gone in [
            "prompt_cache_options",
            "modalities",
            "prompt_cache_retention",
        ] {
            assert!(request[gone].is_null(), "{gone} at {target:?}");
        }
        for listed in [
            "messages[].refusal",
            "messages[].annotations",
            "prompt_cache_options",
        ] {
            assert!(
                dropped.iter().any(|name| name == listed),
                "{listed}: {dropped:?}"
            );
        }
    }
    let two = json!({"model": "m", "n": 2, "messages": [{"role": "user", "content": "Hi"}]});
    assert_eq!(refused(CHAT, &two, ("groq", "qwen/qwen3-32b")), "n");
}

#[test]
fn free_text_tools_reach_the_responses_api_as_they_are() {
    let grammar = json!({"syntax": "lark", "definition": "start: /.+/"});
    let named = json!({"type": "custom", "custom": {"name": "run"}});
    let body = json!({"model": "m", "stream": true, "messages": [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "c1", "type": "custom", "custom": {"name": "run", "input": "1\n"}},
            {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": "2"}],
        "tool_choice": named,
        "tools": [{"type": "custom", "custom": {"name": "run", "description": "d",
            "format": {"type": "grammar", "grammar": grammar}}},
            {"type": "function", "function": {"name": "f"}}]});
    let target = ("openai-responses", "gpt-5.1");
    let upstream = try_prepare(CHAT, &body, target, Unsupported::Refuse).unwrap();
    let request = body_of(&upstream);
    assert_eq!(
        request["tools"][0],
        json!({"type": "custom", "name": "run", "description": "d", "format":
            {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}})
    );
    assert_eq!(
        request["tool_choice"],
        json!({"type": "custom", "name": "run"})
    );
    let kinds: Vec<_> = request["input"]
        .as_array()
        .unwrap()
        .iter()
        .skip(1)
        .map(|item| &item["type"])
        .collect();
    assert_eq!(
        kinds,
        [
            "custom_tool_call",
            "function_call",
            "custom_tool_call_output",
            "function_call_output"
        ]
    );
    assert_eq!(request["input"][1]["input"], "1\n");
    let call = json!({"type": "custom_tool_call", "id": "ctc_1", "call_id": "c3", "name": "run", "input": "ls -l"});
    let mut begun = call.clone();
    begun["input"] = "".into();
    let events = [
        json!({"type": "response.created", "response": {"id": "r", "model": "m", "output": []}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": begun}),
        json!({"type": "response.custom_tool_call_input.delta", "output_index": 0, "item_id": "ctc_1", "delta": "ls "}),
        json!({"type": "response.custom_tool_call_input.delta", "output_index": 0, "item_id": "ctc_1", "delta": "-l"}),
        json!({"type": "response.custom_tool_call_input.done", "output_index": 0, "item_id": "ctc_1", "input": "ls -l"}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": call}),
        json!({"type": "response.completed", "response": {"id": "r", "model": "m", "status": "completed",
            "output": [call], "usage": {"input_tokens": 1, "output_tokens": 1}}}),
    ];
    let stream: String = events
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect();
    let told = answered(&upstream, stream, true);
    let input: String = told
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|chunk| {
            let call = &chunk["choices"][0]["delta"]["tool_calls"][0]["custom"]["input"];
            call.as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!(input, "ls -l", "{told}");
    assert!(told.contains(r#""type":"custom""#), "{told}");
}

// Numbers at Google.

proptest! {
    #[test]
    fn a_seed_has_32_bits_at_google_and_is_always_the_same(seed: i64) {
        let body = json!({"model": "m", "seed": seed, "messages": [{"role": "user", "content": "Hi"}]});
        let (request, dropped) = sent(CHAT, &body, ("gemini", "gemini-2.5-flash"));
        let short = request["generationConfig"]["seed"].as_i64().unwrap();
        prop_assert!(i32::try_from(short).is_ok(), "{short}");
        prop_assert_eq!(&sent(CHAT, &body, ("gemini", "gemini-2.5-flash")).0, &request);
        let expect = if short == seed { vec![] } else { vec!["seed".to_owned()] };
        prop_assert_eq!(dropped, expect);
        prop_assert_eq!(short == seed, i32::try_from(seed).is_ok());
    }
}

#[test]
fn penalties_reach_only_the_models_of_google_that_take_them() {
    let body = json!({"model": "m", "frequency_penalty": 0.5, "presence_penalty": 0,
        "messages": [{"role": "user", "content": "Hi"}]});
    for (target, is_taken) in [
        (("gemini", "gemini-2.0-flash"), true),
        (("gemini", "gemini-2.5-flash"), false),
        (("gemini", "gemini-2.5-pro"), false),
        (("gemini", "gemini-3.8-flash"), false),
        (("gemini", "gemini-5-neon"), false),
        (("vertex", "gemini-2.5-flash"), true),
        (("vertex", "gemini-3.5-flash"), false),
    ] {
        let (request, dropped) = sent(CHAT, &body, target);
        let penalty = &request["generationConfig"]["frequencyPenalty"];
        assert_eq!(penalty.is_number(), is_taken, "{target:?}: {request}");
        assert_eq!(dropped.is_empty(), is_taken, "{target:?}: {dropped:?}");
    }
}
