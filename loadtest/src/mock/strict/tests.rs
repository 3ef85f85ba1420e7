//! Each rule with a request that breaks only it, and its nearest neighbour that is taken.

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{StrictApi, StrictRequest, Violation, check};

fn verdict(vendor: &str, api: StrictApi, model: &str, body: &Value) -> Result<(), Violation> {
    let version = (
        HeaderName::from_static("anthropic-version"),
        HeaderValue::from_static("2023-06-01"),
    );
    check(&StrictRequest {
        vendor,
        api,
        model,
        headers: &HeaderMap::from_iter([version]),
        body: body.to_string().as_bytes(),
    })
}

/// A request with these fields changed; null takes one away.
fn with(base: &Value, changes: &Value) -> Value {
    let mut body = base.clone();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(body.as_object_mut().unwrap().remove(name)),
            value => body[name] = value.clone(),
        }
    }
    body
}

/// Checks rows of rule, model, what breaks it, and what does not.
fn table(vendor: &str, api: StrictApi, base: &Value, rows: &[(&str, &str, Value, Value)]) {
    for (rule, model, bad, good) in rows {
        let (bad, good) = (with(base, bad), with(base, good));
        let found = verdict(vendor, api, model, &bad);
        let found = found.expect_err(&format!("{vendor} {model} takes {bad}"));
        assert_eq!(found.rule(), *rule, "{vendor} {model}: {found}: {bad}");
        assert!(found.source().starts_with("https://"), "{found}");
        if let Err(found) = verdict(vendor, api, model, &good) {
            panic!("{vendor} {model} refuses the neighbour of {rule}: {found}: {good}");
        }
    }
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn assistant(content: Value) -> Value {
    json!({"role": "assistant", "content": content})
}

fn claude_tool(name: &str) -> Value {
    json!({"name": name, "input_schema": {"type": "object"}})
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn tool_use(id: &str) -> Value {
    json!({"type": "tool_use", "id": id, "name": "f", "input": {}})
}

fn tool_result(id: &str) -> Value {
    json!({"type": "tool_result", "tool_use_id": id, "content": "r"})
}

const OLD: &str = "claude-haiku-4-5";
const NEW: &str = "claude-opus-4-8";
const NEWEST: &str = "claude-opus-5-5";

fn claude() -> Value {
    json!({"model": "m", "max_tokens": 2000, "messages": [user("hi")]})
}

#[test]
fn anthropics_fields() {
    let image = |source: Value| json!({"messages": [{"role": "user", "content": [{"type": "image", "source": source}]}]});
    let document = |source: Value| json!({"messages": [{"role": "user", "content": [{"type": "document", "source": source}]}]});
    table(
        "anthropic",
        StrictApi::Messages,
        &claude(),
        &[
            ("unknown-field", OLD, json!({"seed": 1}), json!({})),
            (
                "unknown-field",
                OLD,
                json!({"messages": [{"role": "user", "content": "hi", "name": "a"}]}),
                json!({}),
            ),
            (
                "required-field",
                OLD,
                json!({"max_tokens": null}),
                json!({}),
            ),
            (
                "type",
                OLD,
                json!({"max_tokens": "9"}),
                json!({"max_tokens": 9}),
            ),
            (
                "type",
                OLD,
                json!({"stop_sequences": "x"}),
                json!({"stop_sequences": ["x"]}),
            ),
            (
                "range",
                OLD,
                json!({"temperature": 1.1}),
                json!({"temperature": 1.0}),
            ),
            (
                "value",
                OLD,
                json!({"messages": [{"role": "developer", "content": "hi"}]}),
                json!({}),
            ),
            (
                "value",
                OLD,
                image(json!({"type": "base64", "media_type": "image/bmp", "data": "aGk="})),
                image(json!({"type": "base64", "media_type": "image/png", "data": "aGk="})),
            ),
            (
                "value",
                OLD,
                document(json!({"type": "base64", "media_type": "text/plain", "data": "aGk="})),
                document(json!({"type": "text", "media_type": "text/plain", "data": "hi"})),
            ),
            (
                "base64",
                OLD,
                image(json!({"type": "base64", "media_type": "image/png", "data": "?"})),
                image(json!({"type": "base64", "media_type": "image/png", "data": "aGk="})),
            ),
            (
                "image-url",
                OLD,
                image(json!({"type": "url", "url": "data:image/png;base64,aGk="})),
                image(json!({"type": "url", "url": "https://a.example/b.png"})),
            ),
            (
                "stop-sequences",
                OLD,
                json!({"stop_sequences": ["\n"]}),
                json!({"stop_sequences": ["END"]}),
            ),
            (
                "range",
                OLD,
                json!({"thinking": {"type": "enabled", "budget_tokens": 1023}}),
                json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}),
            ),
            (
                "value",
                OLD,
                json!({"metadata": {"user_id": "x".repeat(257)}}),
                json!({"metadata": {"user_id": "x".repeat(256)}}),
            ),
        ],
    );
}

#[test]
fn anthropics_models() {
    let forced = json!({"tools": [claude_tool("f")], "tool_choice": {"type": "any"}});
    let free = json!({"tools": [claude_tool("f")], "tool_choice": {"type": "auto"}});
    let prefill = json!({"messages": [user("hi"), assistant(json!("Answer:"))]});
    table(
        "anthropic",
        StrictApi::Messages,
        &claude(),
        &[
            (
                "max-tokens",
                OLD,
                json!({"max_tokens": 64_001}),
                json!({"max_tokens": 64_000}),
            ),
            ("sampling", NEW, json!({"temperature": 1.0}), json!({})),
            (
                "sampling",
                NEWEST,
                json!({"temperature": 0.2}),
                json!({"temperature": 1.0}),
            ),
            (
                "sampling",
                OLD,
                json!({"temperature": 0.2, "top_p": 0.5}),
                json!({"temperature": 0.2, "top_k": 5}),
            ),
            (
                "sampling-while-thinking",
                OLD,
                json!({"thinking": {"type": "enabled", "budget_tokens": 1024}, "temperature": 0.2}),
                json!({"temperature": 0.2}),
            ),
            (
                "sampling-while-thinking",
                OLD,
                json!({"thinking": {"type": "enabled", "budget_tokens": 1024}, "top_k": 5}),
                json!({"top_k": 5}),
            ),
            (
                "sampling-while-thinking",
                OLD,
                json!({"thinking": {"type": "enabled", "budget_tokens": 1024}, "top_p": 0.9}),
                json!({"thinking": {"type": "enabled", "budget_tokens": 1024}, "top_p": 0.95}),
            ),
            (
                "thinking-type",
                NEW,
                json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}),
                json!({"thinking": {"type": "adaptive"}}),
            ),
            (
                "thinking-type",
                OLD,
                json!({"thinking": {"type": "adaptive"}}),
                json!({"thinking": {"type": "disabled"}}),
            ),
            (
                "thinking-type",
                NEWEST,
                json!({"thinking": {"type": "disabled"}}),
                json!({"thinking": {"type": "adaptive"}}),
            ),
            (
                "thinking-type",
                "claude-opus-5",
                json!({"thinking": {"type": "disabled"}, "output_config": {"effort": "xhigh"}}),
                json!({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}),
            ),
            (
                "thinking-type",
                "claude-sonnet-5-5",
                json!({"thinking": {"type": "disabled"}}),
                json!({"thinking": {"type": "between_tools"}}),
            ),
            (
                "thinking-budget",
                OLD,
                json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}),
                json!({"thinking": {"type": "enabled", "budget_tokens": 1999}}),
            ),
            (
                "effort",
                OLD,
                json!({"output_config": {"effort": "low"}}),
                json!({}),
            ),
            (
                "effort",
                "claude-opus-4-6",
                json!({"output_config": {"effort": "xhigh"}}),
                json!({"output_config": {"effort": "max"}}),
            ),
            ("prefill", NEW, prefill.clone(), json!({})),
            (
                "prefill",
                OLD,
                with(
                    &prefill,
                    &json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}),
                ),
                prefill.clone(),
            ),
            ("tool-choice-while-thinking", NEWEST, forced.clone(), free),
            (
                "tool-choice-while-thinking",
                NEW,
                with(&forced, &json!({"thinking": {"type": "adaptive"}})),
                forced.clone(),
            ),
        ],
    );
}

#[test]
fn anthropics_conversations() {
    let turns = |messages: Value| json!({ "messages": messages });
    let called = |result: Value| {
        turns(
            json!([user("hi"), assistant(json!([tool_use("a")])), {"role": "user", "content": result}]),
        )
    };
    let marked = |count: usize| {
        let mut block = text("hi");
        block["cache_control"] = json!({"type": "ephemeral"});
        turns(json!([{"role": "user", "content": vec![block; count]}]))
    };
    let lives = |first: &str, second: &str| {
        let block = |ttl: &str| json!({"type": "text", "text": "hi", "cache_control": {"type": "ephemeral", "ttl": ttl}});
        turns(json!([{"role": "user", "content": [block(first), block(second)]}]))
    };
    let thinking = json!({"type": "enabled", "budget_tokens": 1024});
    let thought = json!({"type": "thinking", "thinking": "t", "signature": "c2ln"});
    table(
        "anthropic",
        StrictApi::Messages,
        &claude(),
        &[
            ("some-message", OLD, turns(json!([])), json!({})),
            (
                "first-message-is-the-users",
                OLD,
                turns(json!([assistant(json!("a")), user("hi")])),
                turns(json!([user("a"), assistant(json!("a")), user("hi")])),
            ),
            ("empty-content", OLD, turns(json!([user("")])), json!({})),
            (
                "empty-content",
                OLD,
                turns(json!([user("a"), assistant(json!([])), user("b")])),
                turns(json!([user("a"), assistant(json!([]))])),
            ),
            ("blank-text", OLD, turns(json!([user(" \n")])), json!({})),
            (
                "blank-text",
                OLD,
                turns(
                    json!([user("a"), assistant(json!([text("\n\n"), tool_use("a")])), {"role": "user", "content": [tool_result("a")]}]),
                ),
                called(json!([tool_result("a")])),
            ),
            (
                "blank-text",
                OLD,
                json!({"system": [text(" ")]}),
                json!({"system": [text("x")]}),
            ),
            (
                "prefill-ends-in-whitespace",
                OLD,
                turns(json!([user("hi"), assistant(json!("Answer: "))])),
                turns(json!([user("hi"), assistant(json!("Answer:"))])),
            ),
            (
                "tool-result-follows-its-call",
                OLD,
                called(json!([text("no")])),
                called(json!([tool_result("a"), text("yes")])),
            ),
            (
                "tool-result-has-a-call",
                OLD,
                called(json!([tool_result("a"), tool_result("b")])),
                called(json!([tool_result("a")])),
            ),
            (
                "tool-results-stand-first",
                OLD,
                called(json!([text("so"), tool_result("a")])),
                called(json!([tool_result("a"), text("so")])),
            ),
            (
                "tool-call-ids-are-unique",
                OLD,
                turns(
                    json!([user("hi"), assistant(json!([tool_use("a"), tool_use("a")])), {"role": "user", "content": [tool_result("a")]}]),
                ),
                called(json!([tool_result("a")])),
            ),
            (
                "block-of-its-role",
                OLD,
                turns(json!([{"role": "user", "content": [tool_use("a")]}])),
                json!({}),
            ),
            (
                "thinking-signature",
                OLD,
                turns(json!([
                    user("a"),
                    assistant(
                        json!([{"type": "thinking", "thinking": "t", "signature": ""}, text("b")])
                    ),
                    user("c")
                ])),
                turns(json!([
                    user("a"),
                    assistant(json!([thought, text("b")])),
                    user("c")
                ])),
            ),
            (
                "thinking-before-calls",
                OLD,
                with(
                    &called(json!([tool_result("a")])),
                    &json!({"thinking": thinking}),
                ),
                with(
                    &turns(
                        json!([user("hi"), assistant(json!([thought, tool_use("a")])), {"role": "user", "content": [tool_result("a")]}]),
                    ),
                    &json!({"thinking": thinking}),
                ),
            ),
            ("cache-marks", OLD, marked(5), marked(4)),
            ("cache-marks", OLD, lives("5m", "1h"), lives("1h", "5m")),
        ],
    );
}

#[test]
fn anthropics_tools_and_schemas() {
    let tool = |schema: Value| json!({"tools": [{"name": "f", "input_schema": schema}]});
    let strict =
        |schema: Value| json!({"tools": [{"name": "f", "strict": true, "input_schema": schema}]});
    let answer = |schema: Value| json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}});
    let object = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let closed = json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false});
    let property =
        |name: &str| tool(json!({"type": "object", "properties": {name: {"type": "string"}}}));
    table(
        "anthropic",
        StrictApi::Messages,
        &claude(),
        &[
            (
                "required-field",
                OLD,
                tool(json!({})),
                tool(json!({"type": "object"})),
            ),
            (
                "value",
                OLD,
                json!({"tools": [claude_tool(&"f".repeat(129))]}),
                json!({"tools": [claude_tool(&"f".repeat(128))]}),
            ),
            (
                "value",
                OLD,
                json!({"tools": [claude_tool("a.b")]}),
                json!({"tools": [claude_tool("a_b")]}),
            ),
            (
                "tool-names",
                OLD,
                json!({"tools": [claude_tool("f"), claude_tool("f")]}),
                json!({"tools": [claude_tool("f"), claude_tool("g")]}),
            ),
            (
                "tool-type",
                OLD,
                json!({"tools": [{"type": "function", "name": "f"}]}),
                json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
            ),
            (
                "tool-schema",
                OLD,
                tool(json!({"type": "object", "anyOf": [{}]})),
                tool(json!({"type": "object"})),
            ),
            (
                "tool-schema",
                OLD,
                tool(
                    json!({"type": "object", "properties": {"a": {"type": "array", "items": [{}]}}}),
                ),
                tool(
                    json!({"type": "object", "properties": {"a": {"type": "array", "items": {}}}}),
                ),
            ),
            ("tool-schema", OLD, property("a b"), property("a-b")),
            (
                "tool-choice",
                OLD,
                json!({"tool_choice": {"type": "auto"}}),
                json!({"tools": [claude_tool("f")], "tool_choice": {"type": "auto"}}),
            ),
            (
                "tool-choice",
                OLD,
                json!({"tools": [claude_tool("f")], "tool_choice": {"type": "tool", "name": "g"}}),
                json!({"tools": [claude_tool("f")], "tool_choice": {"type": "tool", "name": "f"}}),
            ),
            (
                "answer-schema",
                OLD,
                answer(object.clone()),
                answer(closed.clone()),
            ),
            ("answer-schema", OLD, strict(object), strict(closed.clone())),
            (
                "answer-schema",
                "claude-opus-4-1",
                answer(closed.clone()),
                json!({}),
            ),
            (
                "answer-schema",
                OLD,
                answer(
                    json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "additionalProperties": false}),
                ),
                answer(closed),
            ),
        ],
    );
}

#[test]
fn anthropics_newest_version_takes_less() {
    let asked = |version: &'static str, changes: Value| {
        let header = HeaderName::from_static("anthropic-version");
        check(&StrictRequest {
            vendor: "",
            api: StrictApi::Messages,
            model: OLD,
            headers: &HeaderMap::from_iter([(header, HeaderValue::from_static(version))]),
            body: with(&claude(), &changes).to_string().as_bytes(),
        })
        .map_err(|violation| violation.rule())
    };
    let source = json!({"type": "text", "media_type": "text/plain", "data": "d"});
    let citation = json!({
        "type": "char_location", "cited_text": "c", "document_index": 0, "document_title": null,
        "start_char_index": 0, "end_char_index": 1,
    });
    let cited = json!({"type": "text", "text": "t", "citations": [citation]});
    for taken_away in [
        json!({"temperature": 1.0}),
        json!({"top_p": 1.0}),
        json!({"top_k": 1}),
        json!({"messages": [user("hi"), {"role": "assistant", "content": [{"type": "document", "source": source}]}, user("hi")]}),
        json!({"messages": [{"role": "user", "content": [cited]}]}),
        json!({"messages": [{"role": "user", "content": [
            {"type": "search_result", "source": "s", "title": "t", "content": [cited]},
        ]}]}),
    ] {
        assert_eq!(asked("2023-06-01", taken_away.clone()), Ok(()));
        let refused = Err("removed-in-2026-10-21");
        assert_eq!(
            asked("2026-10-21", taken_away.clone()),
            refused,
            "{taken_away}"
        );
    }
    assert_eq!(asked("2026-10-21", json!({})), Ok(()));
    assert_eq!(asked("2026-10-22", json!({})), Err("anthropic-version"));
}

#[test]
fn anthropics_version_and_counting() {
    let body = json!({"model": OLD, "messages": [user("hi")]}).to_string();
    let asked = |headers: &HeaderMap| {
        check(&StrictRequest {
            vendor: "",
            api: StrictApi::CountTokens,
            model: OLD,
            headers,
            body: body.as_bytes(),
        })
    };
    let found = asked(&HeaderMap::new()).unwrap_err();
    assert_eq!(found.rule(), "anthropic-version");
    let base = json!({"model": "m", "messages": [user("hi")]});
    table(
        "anthropic",
        StrictApi::CountTokens,
        &base,
        &[
            ("unknown-field", OLD, json!({"max_tokens": 9}), json!({})),
            (
                "blank-text",
                OLD,
                json!({"messages": [user(" ")]}),
                json!({}),
            ),
        ],
    );
}

fn chat() -> Value {
    json!({"model": "m", "messages": [user("hi")]})
}

fn function(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}})
}

fn schema(parameters: Value) -> Value {
    json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}]})
}

fn call(id: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}})
}

fn called(id: &str) -> Value {
    json!({"role": "assistant", "content": null, "tool_calls": [call(id)]})
}

fn result(id: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": "r"})
}

#[test]
fn openais_chat_fields() {
    let long = "x".repeat(41);
    let part = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
    let image = |url: &str| part(json!({"type": "image_url", "image_url": {"url": url}}));
    table(
        "openai",
        StrictApi::Chat,
        &chat(),
        &[
            ("unknown-field", "gpt-4.1", json!({"top_k": 5}), json!({})),
            (
                "unknown-field",
                "gpt-4.1",
                json!({"messages": [{"role": "assistant", "content": "a", "reasoning_content": "b"}]}),
                json!({"messages": [assistant(json!("a"))]}),
            ),
            ("value", "gpt-4.1", json!({"messages": []}), json!({})),
            (
                "value",
                "gpt-4.1",
                json!({"tools": []}),
                json!({"tools": [function("f")]}),
            ),
            (
                "value",
                "gpt-4.1",
                json!({"stop": ["a", "b", "c", "d", "e"]}),
                json!({"stop": ["a", "b", "c", "d"]}),
            ),
            (
                "value",
                "gpt-4.1",
                json!({"tools": [function(&"f".repeat(65))]}),
                json!({"tools": [function(&"f".repeat(64))]}),
            ),
            (
                "value",
                "gpt-4.1",
                json!({"tools": [function("a.b")]}),
                json!({"tools": [function("a-b")]}),
            ),
            (
                "value",
                "gpt-4.1",
                json!({"messages": [user("hi"), called(&long), result(&long)]}),
                json!({"messages": [user("hi"), called(&long[1..]), result(&long[1..])]}),
            ),
            (
                "range",
                "gpt-4.1",
                json!({"temperature": 2.1}),
                json!({"temperature": 2}),
            ),
            ("range", "gpt-4.1", json!({"n": 129}), json!({"n": 128})),
            ("type", "gpt-4.1", json!({"stop": 5}), json!({"stop": null})),
            (
                "image-url",
                "gpt-4.1",
                image("data:image/bmp;base64,aGk="),
                image("data:image/png;base64,aGk="),
            ),
            (
                "image-url",
                "gpt-4.1",
                image("file:///a.png"),
                image("https://a.example/a.png"),
            ),
            (
                "file",
                "gpt-4.1",
                part(json!({"type": "file", "file": {"filename": "a.pdf", "file_data": "aGk="}})),
                part(
                    json!({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}}),
                ),
            ),
            (
                "stream-options",
                "gpt-4.1",
                json!({"stream_options": {"include_usage": true}}),
                json!({"stream": true, "stream_options": {"include_usage": true}}),
            ),
            (
                "top-logprobs",
                "gpt-4.1",
                json!({"top_logprobs": 2}),
                json!({"logprobs": true, "top_logprobs": 2}),
            ),
            (
                "only-with-tools",
                "gpt-4.1",
                json!({"parallel_tool_calls": true}),
                json!({"tools": [function("f")], "parallel_tool_calls": true}),
            ),
            (
                "only-with-tools",
                "gpt-4.1",
                json!({"tool_choice": "auto"}),
                json!({"tool_choice": "none"}),
            ),
            (
                "tool-choice",
                "gpt-4.1",
                json!({"tools": [function("f")], "tool_choice": {"type": "function", "function": {"name": "g"}}}),
                json!({"tools": [function("f")], "tool_choice": {"type": "function", "function": {"name": "f"}}}),
            ),
            (
                "max-tokens",
                "gpt-4.1",
                json!({"max_tokens": 5, "max_completion_tokens": 5}),
                json!({"max_tokens": 5}),
            ),
        ],
    );
}

#[test]
fn openais_chat_conversations_and_schemas() {
    let answer = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": true, "schema": schema}}});
    let object = |required: Value| json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": required, "additionalProperties": false});
    table(
        "openai",
        StrictApi::Chat,
        &chat(),
        &[
            (
                "tool-result-follows-its-call",
                "gpt-4.1",
                json!({"messages": [user("hi"), called("a")]}),
                json!({"messages": [user("hi"), called("a"), result("a")]}),
            ),
            (
                "tool-result-follows-its-call",
                "gpt-4.1",
                json!({"messages": [called("a"), user("hi"), result("a")]}),
                json!({"messages": [called("a"), result("a"), user("hi")]}),
            ),
            (
                "tool-result-has-a-call",
                "gpt-4.1",
                json!({"messages": [user("hi"), result("a")]}),
                json!({"messages": [called("a"), result("a")]}),
            ),
            (
                "assistant-says-something",
                "gpt-4.1",
                json!({"messages": [{"role": "assistant", "content": null}]}),
                json!({"messages": [assistant(json!(""))]}),
            ),
            (
                "tool-schema",
                "gpt-4.1",
                schema(json!({})),
                schema(json!({"type": "object", "properties": {}})),
            ),
            (
                "tool-schema",
                "gpt-4.1",
                schema(json!({"type": "object"})),
                json!({"tools": [{"type": "function", "function": {"name": "f"}}]}),
            ),
            (
                "tool-schema",
                "gpt-4.1",
                schema(json!({"type": "object", "properties": {"a": {"type": "array"}}})),
                schema(
                    json!({"type": "object", "properties": {"a": {"type": "array", "items": {}}}}),
                ),
            ),
            (
                "tool-schema",
                "gpt-4.1",
                schema(json!({"type": "object", "properties": {}, "anyOf": [{}]})),
                schema(json!({"type": "object", "properties": {"a": {"anyOf": [{}]}}})),
            ),
            (
                "strict-schema",
                "gpt-4.1",
                answer(object(json!([]))),
                answer(object(json!(["a"]))),
            ),
            (
                "strict-schema",
                "gpt-4.1",
                answer(json!({"type": "object", "properties": {}})),
                answer(json!({"type": "object", "properties": {}, "additionalProperties": false})),
            ),
            (
                "json-mode-says-json",
                "gpt-4.1",
                json!({"response_format": {"type": "json_object"}}),
                json!({"response_format": {"type": "json_object"}, "messages": [user("as JSON")]}),
            ),
        ],
    );
}

#[test]
fn openais_chat_models() {
    let tools = json!({"tools": [function("f")]});
    assert_eq!(
        verdict("openai", StrictApi::Chat, "gpt-5.2-pro", &chat())
            .unwrap_err()
            .rule(),
        "model-of-another-api"
    );
    table(
        "openai",
        StrictApi::Chat,
        &chat(),
        &[
            (
                "max-tokens",
                "gpt-5",
                json!({"max_tokens": 5}),
                json!({"max_completion_tokens": 5}),
            ),
            (
                "max-tokens",
                "gpt-5",
                json!({"max_completion_tokens": 128_001}),
                json!({"max_completion_tokens": 128_000}),
            ),
            (
                "sampling",
                "gpt-5",
                json!({"temperature": 0.2}),
                json!({"temperature": 1}),
            ),
            (
                "sampling",
                "gpt-5.4",
                json!({"reasoning_effort": "low", "top_p": 0.5}),
                json!({"reasoning_effort": "none", "top_p": 0.5}),
            ),
            (
                "sampling",
                "gpt-5.6-sol",
                json!({"temperature": 0.2}),
                json!({"reasoning_effort": "none", "temperature": 0.2}),
            ),
            (
                "sampling",
                "gpt-5",
                json!({"logprobs": true}),
                json!({"logprobs": false}),
            ),
            ("sampling", "o3", json!({"stop": "x"}), json!({})),
            (
                "sampling",
                "o3",
                with(&tools, &json!({"parallel_tool_calls": true})),
                tools.clone(),
            ),
            (
                "effort",
                "gpt-4.1",
                json!({"reasoning_effort": "low"}),
                json!({}),
            ),
            (
                "effort",
                "gpt-5",
                json!({"reasoning_effort": "none"}),
                json!({"reasoning_effort": "minimal"}),
            ),
            (
                "effort",
                "gpt-5.1",
                json!({"reasoning_effort": "minimal"}),
                json!({"reasoning_effort": "none"}),
            ),
            (
                "effort",
                "gpt-5.5",
                json!({"reasoning_effort": "max"}),
                json!({"reasoning_effort": "xhigh"}),
            ),
            (
                "effort",
                "gpt-4.1",
                json!({"verbosity": "low"}),
                json!({"verbosity": "medium"}),
            ),
            (
                "tools-while-reasoning",
                "gpt-5.4",
                with(&tools, &json!({"reasoning_effort": "low"})),
                tools.clone(),
            ),
            (
                "tools-while-reasoning",
                "gpt-5.6-sol",
                tools.clone(),
                with(&tools, &json!({"reasoning_effort": "none"})),
            ),
        ],
    );
}

#[test]
fn openais_responses() {
    let base = json!({"model": "m", "input": "hi"});
    let input = |items: Value| json!({ "input": items });
    let call = json!({"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"});
    let output = json!({"type": "function_call_output", "call_id": "a", "output": "r"});
    let thought = json!({"type": "reasoning", "id": "rs_1", "summary": []});
    let said = |kind: &str| json!({"role": "assistant", "content": [{"type": kind, "text": "a"}]});
    let tool =
        |schema: Value| json!({"tools": [{"type": "function", "name": "f", "parameters": schema}]});
    table(
        "openai",
        StrictApi::Responses,
        &base,
        &[
            ("unknown-field", "gpt-4.1", json!({"stop": "x"}), json!({})),
            (
                "type",
                "gpt-5.5",
                json!({"client_metadata": {"a": 1}}),
                json!({"client_metadata": {"a": "b"}}),
            ),
            (
                "some-input",
                "gpt-4.1",
                json!({"input": null}),
                json!({"input": null, "previous_response_id": "resp_1"}),
            ),
            ("value", "gpt-4.1", input(json!([])), json!({})),
            (
                "range",
                "gpt-4.1",
                json!({"max_output_tokens": 15}),
                json!({"max_output_tokens": 16}),
            ),
            (
                "value",
                "gpt-4.1",
                json!({"include": ["x"]}),
                json!({"include": []}),
            ),
            (
                "one-state",
                "gpt-4.1",
                json!({"previous_response_id": "a", "conversation": "b"}),
                json!({"conversation": "b"}),
            ),
            (
                "stream-options",
                "gpt-4.1",
                json!({"stream_options": {}}),
                json!({"stream": true, "stream_options": {}}),
            ),
            (
                "background-is-stored",
                "gpt-4.1",
                json!({"background": true, "store": false}),
                json!({"background": true}),
            ),
            (
                "max-tokens",
                "gpt-5",
                json!({"max_output_tokens": 128_001}),
                json!({"max_output_tokens": 128_000}),
            ),
            ("sampling", "gpt-5", json!({"temperature": 0}), json!({})),
            (
                "effort",
                "gpt-5",
                json!({"reasoning": {"effort": "xhigh"}}),
                json!({"reasoning": {"effort": "high"}}),
            ),
            (
                "encrypted-reasoning",
                "gpt-4.1",
                json!({"include": ["reasoning.encrypted_content"]}),
                json!({}),
            ),
            (
                "effort",
                "gpt-4.1",
                json!({"text": {"verbosity": "low"}}),
                json!({}),
            ),
            (
                "content-of-its-role",
                "gpt-4.1",
                input(json!([said("input_text")])),
                input(json!([said("output_text")])),
            ),
            (
                "one-source",
                "gpt-4.1",
                input(json!([{"role": "user", "content": [{"type": "input_image"}]}])),
                input(
                    json!([{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]),
                ),
            ),
            (
                "item-ids",
                "gpt-5",
                input(json!([with(&thought, &json!({"id": "x"})), call, output])),
                input(json!([thought, call, output])),
            ),
            (
                "reasoning-is-followed",
                "gpt-5",
                input(json!([thought, user("hi")])),
                input(json!([thought, said("output_text"), user("hi")])),
            ),
            (
                "tool-result-follows-its-call",
                "gpt-4.1",
                input(json!([call])),
                input(json!([call, output])),
            ),
            (
                "tool-result-has-a-call",
                "gpt-4.1",
                input(json!([output])),
                with(
                    &input(json!([output])),
                    &json!({"previous_response_id": "r"}),
                ),
            ),
            (
                "tool-schema",
                "gpt-4.1",
                tool(json!({"type": "object"})),
                tool(json!({"type": "object", "properties": {}})),
            ),
            (
                "tool-choice",
                "gpt-4.1",
                json!({"tool_choice": {"type": "function", "name": "f"}}),
                json!({"tool_choice": "auto"}),
            ),
            (
                "json-mode-says-json",
                "gpt-4.1",
                json!({"text": {"format": {"type": "json_object"}}}),
                json!({"input": "json", "text": {"format": {"type": "json_object"}}}),
            ),
        ],
    );
}

fn turn(role: &str, parts: Value) -> Value {
    json!({"role": role, "parts": parts})
}

#[test]
fn geminis_fields_and_models() {
    let base = json!({"contents": [turn("user", json!([{"text": "hi"}]))]});
    let config = |config: Value| json!({ "generationConfig": config });
    let thinking = |thinking: Value| config(json!({ "thinkingConfig": thinking }));
    let (flash, pro, three) = (
        "gemini-2.5-flash",
        "gemini-2.5-pro",
        "gemini-3.1-pro-preview",
    );
    table(
        "gemini",
        StrictApi::GenerateContent,
        &base,
        &[
            (
                "unknown-field",
                flash,
                json!({"messages": []}),
                json!({"generation_config": {"top_k": 5}}),
            ),
            (
                "value",
                flash,
                config(json!({"stopSequences": ["1", "2", "3", "4", "5", "6"]})),
                config(json!({"stopSequences": ["1", "2", "3", "4", "5"]})),
            ),
            (
                "range",
                flash,
                config(json!({"candidateCount": 9})),
                config(json!({"candidateCount": 8})),
            ),
            (
                "penalties",
                three,
                config(json!({"frequencyPenalty": 0.5})),
                config(json!({"frequencyPenalty": 0})),
            ),
            (
                "penalties",
                flash,
                config(json!({"presencePenalty": -0.5})),
                json!({}),
            ),
            (
                "candidates",
                three,
                config(json!({"candidateCount": 2})),
                config(json!({"candidateCount": 1})),
            ),
            (
                "candidates",
                "gemini-2.5-flash-image",
                config(json!({"candidateCount": 2})),
                json!({}),
            ),
            (
                "thinking-budget",
                flash,
                thinking(json!({"thinkingBudget": 24_577})),
                thinking(json!({"thinkingBudget": 24_576})),
            ),
            (
                "thinking-budget",
                pro,
                thinking(json!({"thinkingBudget": 127})),
                thinking(json!({"thinkingBudget": 128})),
            ),
            (
                "thinking-budget",
                pro,
                thinking(json!({"thinkingBudget": 0})),
                thinking(json!({"thinkingBudget": -1})),
            ),
            (
                "thinking-level",
                three,
                thinking(json!({"thinkingLevel": "minimal"})),
                thinking(json!({"thinkingLevel": "LOW"})),
            ),
            (
                "thinking-level",
                "gemini-3-pro-preview",
                thinking(json!({"thinkingLevel": "medium"})),
                thinking(json!({"thinkingLevel": "high"})),
            ),
            (
                "thinking-level",
                flash,
                thinking(json!({"thinkingLevel": "low"})),
                json!({}),
            ),
            (
                "thinking",
                "gemini-2.0-flash",
                thinking(json!({"thinkingBudget": 100})),
                json!({}),
            ),
            (
                "thinking",
                three,
                thinking(json!({"thinkingBudget": 100, "thinkingLevel": "low"})),
                thinking(json!({"thinkingLevel": "low"})),
            ),
            (
                "thinking",
                flash,
                thinking(json!({"thinkingBudget": 0, "includeThoughts": true})),
                thinking(json!({"thinkingBudget": 0})),
            ),
            (
                "sampling",
                "gemini-4-hydrogen",
                config(json!({"temperature": 1})),
                json!({}),
            ),
            (
                "logprobs",
                flash,
                config(json!({"logprobs": 2})),
                config(json!({"logprobs": 2, "responseLogprobs": true})),
            ),
            (
                "answer-schema",
                flash,
                config(json!({"responseJsonSchema": {"type": "object"}})),
                config(
                    json!({"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}}),
                ),
            ),
            (
                "one-schema",
                flash,
                config(
                    json!({"responseMimeType": "application/json", "responseSchema": {"type": "STRING"}, "responseJsonSchema": {}}),
                ),
                config(
                    json!({"responseMimeType": "application/json", "responseSchema": {"type": "STRING"}}),
                ),
            ),
        ],
    );
}

#[test]
fn vertex_takes_candidates_and_penalties_that_the_gemini_api_refuses() {
    let base = json!({"contents": [turn("user", json!([{"text": "hi"}]))]});
    let count = |count: u64| json!({"generationConfig": {"candidateCount": count}});
    let two = |model| ("candidates-of-a-stream", model, count(2), count(1));
    for vendor in ["gemini", "vertex"] {
        let rows = [two("gemini-2.5-flash"), two("gemini-3.1-pro-preview")];
        table(vendor, StrictApi::StreamGenerateContent, &base, &rows);
    }
    let penalty = json!({"generationConfig": {"frequencyPenalty": 0.5}});
    let penalty = with(&base, &penalty);
    for (vendor, model) in [
        ("vertex", "gemini-2.5-flash"),
        ("gemini", "gemini-2.0-flash"),
    ] {
        verdict(vendor, StrictApi::GenerateContent, model, &penalty).unwrap();
    }
    let model = "gemini-3.1-pro-preview";
    let two = with(&base, &count(2));
    verdict("vertex", StrictApi::GenerateContent, model, &two).unwrap();
    let drawing = "gemini-3-pro-image";
    let found = verdict("vertex", StrictApi::GenerateContent, drawing, &two).unwrap_err();
    assert_eq!(found.rule(), "candidates");
}

#[test]
fn geminis_tools_and_turns() {
    let base = json!({"contents": [turn("user", json!([{"text": "hi"}]))]});
    let declared = |functions: Value| json!({"tools": [{"functionDeclarations": functions}]});
    let contents = |contents: Value| json!({ "contents": contents });
    let hi = turn("user", json!([{"text": "hi"}]));
    let call = json!({"functionCall": {"name": "f", "args": {}}});
    let signed = json!({"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "c2ln"});
    let result = turn(
        "user",
        json!([{"functionResponse": {"name": "f", "response": {}}}]),
    );
    let (old, new) = ("gemini-2.5-flash", "gemini-3.5-flash");
    let json_mode = json!({"generationConfig": {"responseMimeType": "application/json"}});
    let f = declared(json!([{"name": "f"}]));
    table(
        "gemini",
        StrictApi::GenerateContent,
        &base,
        &[
            ("some-contents", old, contents(json!([])), json!({})),
            (
                "some-parts",
                old,
                contents(json!([turn("user", json!([]))])),
                json!({}),
            ),
            (
                "one-kind-of-data",
                old,
                contents(json!([turn("user", json!([{"thought": true}]))])),
                json!({}),
            ),
            (
                "role",
                old,
                contents(json!([turn("assistant", json!([{"text": "hi"}]))])),
                json!({}),
            ),
            (
                "media-type",
                old,
                contents(json!([turn(
                    "user",
                    json!([{"inlineData": {"mimeType": "application/zip", "data": "aGk="}}])
                )])),
                contents(json!([turn(
                    "user",
                    json!([{"inlineData": {"mimeType": "application/pdf", "data": "aGk="}}])
                )])),
            ),
            (
                "tool-name",
                old,
                declared(json!([{"name": "1f"}])),
                declared(json!([{"name": "a.b:c-d_1"}])),
            ),
            (
                "tool-name",
                old,
                declared(json!([{"name": "f".repeat(129)}])),
                declared(json!([{"name": "f".repeat(128)}])),
            ),
            (
                "tool-names",
                old,
                declared(json!([{"name": "f"}, {"name": "f"}])),
                declared(json!([{"name": "f"}, {"name": "g"}])),
            ),
            (
                "unknown-field",
                old,
                declared(json!([{"name": "f", "parameters": {"type": "OBJECT", "$schema": "x"}}])),
                declared(
                    json!([{"name": "f", "parametersJsonSchema": {"type": "object", "$schema": "x"}}]),
                ),
            ),
            (
                "tool-schema",
                old,
                declared(
                    json!([{"name": "f", "parameters": {"type": "OBJECT", "properties": {}}}]),
                ),
                declared(json!([{"name": "f", "parameters": {"type": "OBJECT"}}])),
            ),
            (
                "tool-schema",
                old,
                declared(
                    json!([{"name": "f", "parameters": {"type": "OBJECT", "properties": {"a": {"type": "ARRAY"}}}}]),
                ),
                declared(
                    json!([{"name": "f", "parameters": {"type": "OBJECT", "properties": {"a": {"type": "ARRAY", "items": {}}}}}]),
                ),
            ),
            (
                "tool-choice",
                old,
                json!({"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}),
                with(
                    &f,
                    &json!({"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}),
                ),
            ),
            (
                "tool-choice",
                old,
                with(
                    &f,
                    &json!({"toolConfig": {"functionCallingConfig": {"mode": "AUTO", "allowedFunctionNames": ["f"]}}}),
                ),
                with(
                    &f,
                    &json!({"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}}}),
                ),
            ),
            (
                "tools-of-two-kinds",
                old,
                json!({"tools": [{"functionDeclarations": [{"name": "f"}]}, {"googleSearch": {}}]}),
                json!({"tools": [{"googleSearch": {}}]}),
            ),
            (
                "tools-beside-answer-schema",
                old,
                with(&f, &json_mode),
                json_mode.clone(),
            ),
            (
                "call-follows-the-user",
                old,
                contents(json!([turn("model", json!([call])), result])),
                contents(json!([hi, turn("model", json!([call])), result])),
            ),
            (
                "tool-result-follows-its-call",
                old,
                contents(json!([hi, turn("model", json!([call])), hi])),
                contents(json!([hi, turn("model", json!([call])), result, hi])),
            ),
            (
                "thought-signature",
                new,
                contents(json!([hi, turn("model", json!([call])), result])),
                contents(json!([
                    hi,
                    turn("model", json!([signed, call])),
                    turn(
                        "user",
                        json!([{"functionResponse": {"name": "f", "response": {}}}, {"functionResponse": {"name": "f", "response": {}}}])
                    )
                ])),
            ),
        ],
    );
    // What was called in turns that are over needs none.
    let over = contents(json!([
        hi,
        turn("model", json!([call])),
        result,
        turn("model", json!([{"text": "a"}])),
        hi
    ]));
    verdict("gemini", StrictApi::GenerateContent, new, &over).unwrap();
}

#[test]
fn geminis_counting_and_embeddings() {
    let contents = json!([turn("user", json!([{"text": "hi"}]))]);
    let whole = json!({"model": "models/gemini-2.5-pro", "contents": contents});
    let base = json!({ "contents": contents });
    let m = "gemini-2.5-pro";
    table(
        "gemini",
        StrictApi::GeminiCountTokens,
        &base,
        &[
            (
                "unknown-field",
                m,
                json!({"systemInstruction": {"parts": [{"text": "a"}]}}),
                json!({}),
            ),
            (
                "count-tokens-form",
                m,
                json!({"generateContentRequest": whole}),
                json!({"contents": null, "generateContentRequest": whole}),
            ),
            (
                "count-tokens-form",
                m,
                json!({"contents": null, "generateContentRequest": base}),
                json!({}),
            ),
        ],
    );
    let one = |model: &str| json!({"requests": [{"model": model, "content": {"parts": [{"text": "a"}]}}]});
    table(
        "gemini",
        StrictApi::BatchEmbedContents,
        &one("models/e"),
        &[
            ("embedding-model", "e", one("models/f"), json!({})),
            ("value", "e", json!({"requests": []}), json!({})),
        ],
    );
    let embeddings = json!({"model": "m", "input": ["a"]});
    table(
        "openai",
        StrictApi::Embeddings,
        &embeddings,
        &[
            ("value", "m", json!({"input": []}), json!({"input": "a"})),
            ("value", "m", json!({"input": ""}), json!({"input": [1, 2]})),
            (
                "value",
                "m",
                json!({"encoding_format": "hex"}),
                json!({"encoding_format": "base64"}),
            ),
        ],
    );
}

#[test]
fn compatible_vendors() {
    let tools = json!({"tools": [function("f")]});
    let history = |reasoning: Value| {
        let mut called = called("a");
        if !reasoning.is_null() {
            called["reasoning_content"] = reasoning;
        }
        json!({"messages": [user("hi"), called, result("a")]})
    };
    let developer = json!({"messages": [{"role": "developer", "content": "a"}, user("hi")]});
    let forced = with(&tools, &json!({"tool_choice": "required"}));
    let vendor = |name: &str, rows: &[(&str, &str, Value, Value)]| {
        table(name, StrictApi::Chat, &chat(), rows)
    };
    vendor(
        "deepseek",
        &[
            (
                "value",
                "deepseek-v4-pro",
                json!({"response_format": {"type": "json_schema"}}),
                json!({"response_format": {"type": "json_object"}}),
            ),
            ("role", "deepseek-v4-pro", developer.clone(), json!({})),
            (
                "reasoning-comes-back",
                "deepseek-v4-pro",
                history(json!(null)),
                history(json!("")),
            ),
            (
                "reasoning-comes-back",
                "deepseek-v4-pro",
                history(json!(null)),
                with(
                    &history(json!(null)),
                    &json!({"thinking": {"type": "disabled"}}),
                ),
            ),
            (
                "tool-type",
                "deepseek-v4-pro",
                json!({"tools": [{"type": "custom"}]}),
                tools.clone(),
            ),
        ],
    );
    vendor(
        "kimi",
        &[
            (
                "reasoning-comes-back",
                "kimi-k2.5",
                history(json!(null)),
                history(json!("because")),
            ),
            ("value", "kimi-k2.5", forced.clone(), tools.clone()),
            (
                "tool-choice-while-thinking",
                "kimi-k2.5",
                with(
                    &tools,
                    &json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}),
                ),
                tools.clone(),
            ),
            (
                "sampling",
                "kimi-k2.5",
                json!({"temperature": 0.6}),
                json!({"temperature": 1}),
            ),
            (
                "sampling",
                "kimi-k2.5",
                json!({"temperature": 1, "thinking": {"type": "disabled"}}),
                json!({"temperature": 0.6, "thinking": {"type": "disabled"}}),
            ),
            ("role", "kimi-k3", developer.clone(), json!({})),
        ],
    );
    vendor(
        "qwen",
        &[
            ("value", "qwen3-max", forced.clone(), tools.clone()),
            (
                "tool-choice-while-thinking",
                "qwen3-max",
                with(
                    &tools,
                    &json!({"enable_thinking": true, "tool_choice": {"type": "function", "function": {"name": "f"}}}),
                ),
                with(
                    &tools,
                    &json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}),
                ),
            ),
            (
                "json-mode-says-json",
                "qwen3-max",
                json!({"response_format": {"type": "json_object"}}),
                json!({"response_format": {"type": "json_object"}, "messages": [user("json")]}),
            ),
        ],
    );
    vendor(
        "glm",
        &[
            (
                "value",
                "glm-5",
                forced,
                with(&tools, &json!({"tool_choice": "auto"})),
            ),
            (
                "range",
                "glm-5",
                json!({"temperature": 1.5}),
                json!({"temperature": 1}),
            ),
            (
                "value",
                "glm-5",
                json!({"response_format": {"type": "json_schema"}}),
                json!({"response_format": {"type": "json_object"}}),
            ),
        ],
    );
    vendor(
        "doubao",
        &[(
            "value",
            "doubao-seed-2-0-pro",
            json!({"thinking": {"type": "on"}}),
            json!({"thinking": {"type": "auto"}}),
        )],
    );
    vendor(
        "mistral",
        &[
            (
                "unknown-field",
                "m",
                json!({"seed": 1}),
                json!({"random_seed": 1}),
            ),
            (
                "unknown-field",
                "m",
                json!({"messages": [{"role": "user", "content": "hi", "name": "a"}]}),
                json!({}),
            ),
            (
                "range",
                "m",
                json!({"temperature": 1.6}),
                json!({"temperature": 1.5}),
            ),
            ("role", "m", developer, json!({})),
            (
                "tool-call-ids",
                "m",
                json!({"messages": [user("hi"), called("call_1"), result("call_1")]}),
                json!({"messages": [user("hi"), called("abcdefghi"), result("abcdefghi")]}),
            ),
            (
                "last-message",
                "m",
                json!({"messages": [user("hi"), assistant(json!("a"))]}),
                json!({"messages": [user("hi"), {"role": "assistant", "content": "a", "prefix": true}]}),
            ),
            (
                "value",
                "m",
                json!({"reasoning_effort": "low"}),
                json!({"reasoning_effort": "high"}),
            ),
        ],
    );
    vendor(
        "groq",
        &[
            (
                "unknown-field",
                "openai/gpt-oss-120b",
                json!({"top_k": 5}),
                json!({}),
            ),
            (
                "unknown-field",
                "openai/gpt-oss-120b",
                json!({"logprobs": true}),
                json!({}),
            ),
            (
                "range",
                "openai/gpt-oss-120b",
                json!({"n": 2}),
                json!({"n": 1}),
            ),
            (
                "effort",
                "openai/gpt-oss-120b",
                json!({"reasoning_effort": "none"}),
                json!({"reasoning_effort": "low"}),
            ),
            (
                "effort",
                "qwen/qwen3-32b",
                json!({"reasoning_effort": "low"}),
                json!({"reasoning_effort": "default"}),
            ),
        ],
    );
    vendor(
        "xai",
        &[
            ("sampling", "grok-4.5", json!({"stop": "x"}), json!({})),
            (
                "unknown-field",
                "grok-4.5",
                json!({"logit_bias": {}}),
                json!({}),
            ),
        ],
    );
    vendor(
        "openrouter",
        &[(
            "one-reasoning-control",
            "x/y",
            json!({"reasoning": {"effort": "low", "max_tokens": 9}}),
            json!({"reasoning": {"effort": "low"}}),
        )],
    );
}

/// What the pages of the providers show as examples.
#[test]
fn documented_examples_are_taken() {
    let examples = [
        (
            StrictApi::Messages,
            "claude-opus-5-5",
            json!({"model": "claude-opus-5-5", "max_tokens": 16000, "messages": [user("Explain this to me")], "output_config": {"effort": "medium"}}),
        ),
        (
            StrictApi::Messages,
            "claude-sonnet-4-5",
            json!({"model": "claude-sonnet-4-5", "max_tokens": 1024, "system": [{"type": "text", "text": "You are an AI", "cache_control": {"type": "ephemeral"}}], "messages": [user("hi"), assistant(json!([text("Let me look."), tool_use("toolu_01")])), {"role": "user", "content": [tool_result("toolu_01")]}], "tools": [claude_tool("f"), {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}]}),
        ),
        (
            StrictApi::Chat,
            "gpt-5.4",
            json!({"model": "gpt-5.4", "messages": [{"role": "developer", "content": "You are a helpful assistant."}, user("Hello!")], "stream": true}),
        ),
        (
            StrictApi::Chat,
            "gpt-4.1",
            json!({"model": "gpt-4.1", "messages": [user("What is the weather like in Boston today?")], "tools": [function("get_current_weather")], "tool_choice": "auto"}),
        ),
        (
            StrictApi::Responses,
            "gpt-5.6-sol",
            json!({"model": "gpt-5.6-sol", "input": [{"role": "user", "content": "hi"}], "reasoning": {"effort": "low", "summary": "auto"}, "store": false, "include": ["reasoning.encrypted_content"]}),
        ),
        (
            StrictApi::GenerateContent,
            "gemini-4-argon",
            json!({"contents": [{"parts": [{"text": "How does AI work?"}]}], "generationConfig": {"maxOutputTokens": 65536, "thinkingConfig": {"thinkingLevel": "medium"}}}),
        ),
        (
            StrictApi::GenerateContent,
            "gemini-2.5-flash",
            json!({"system_instruction": {"parts": [{"text": "You are a cat."}]}, "contents": [{"role": "user", "parts": [{"text": "hi"}]}], "tools": [{"function_declarations": [{"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}}]}]}),
        ),
    ];
    for (api, model, body) in examples {
        verdict("", api, model, &body).unwrap_or_else(|found| panic!("{found}: {body}"));
    }
}

const APIS: [StrictApi; 8] = [
    StrictApi::Chat,
    StrictApi::Responses,
    StrictApi::Embeddings,
    StrictApi::Messages,
    StrictApi::CountTokens,
    StrictApi::GenerateContent,
    StrictApi::GeminiCountTokens,
    StrictApi::BatchEmbedContents,
];

/// JSON made of the words that the rules look for.
fn any_json() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "messages",
        "role",
        "content",
        "type",
        "text",
        "tools",
        "function",
        "name",
        "parameters",
        "properties",
        "required",
        "items",
        "anyOf",
        "contents",
        "parts",
        "input",
        "tool_calls",
        "id",
        "thinking",
        "tool_choice",
        "schema",
        "strict",
        "input_schema",
        "cache_control",
        "model",
        "generationConfig",
        "functionCall",
        "requests",
        "source",
        "call_id",
        "reasoning",
    ]);
    let words = prop::sample::select(vec![
        "user",
        "assistant",
        "tool",
        "text",
        "tool_use",
        "tool_result",
        "object",
        "array",
        "é",
        "",
        "function",
        "json_schema",
        "enabled",
        "reasoning",
        "data:",
        "models/x",
        "image",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..6)
                .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_panics_and_every_refusal_has_an_answer(body in any_json(), model in "[a-z0-9.é-]{0,12}") {
        let models = [model.as_str(), "claude-opus-5-5", "gpt-5.6-sol", "gemini-3.5-flash"];
        for api in APIS {
            for model in models {
                for vendor in ["", "mistral", "kimi", "groq", "vertex"] {
                    if let Err(found) = verdict(vendor, api, model, &body) {
                        let (status, answer) = found.answer(vendor, api);
                        prop_assert!((400..500).contains(&status));
                        let answer: Value = serde_json::from_str(&answer).unwrap();
                        prop_assert!(answer.to_string().contains(found.rule()), "{}", answer);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_json_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        for api in APIS {
            let headers = HeaderMap::new();
            let found = check(&StrictRequest { vendor: "", api, model: "m", headers: &headers, body: &bytes });
            prop_assert!(found.is_err());
        }
    }
}
