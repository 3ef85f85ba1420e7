//! Requests that a model of today refuses in the client's words, and what becomes of them.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect"
)]

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};
use weir_dialects::{
    ClientApi, ClientRequest, PrepareError, Target, Unsupported, UpstreamRequest, inspect, prepare,
    vendors,
};

fn prepared(
    api: ClientApi,
    body: &Value,
    vendor: &str,
    model: &str,
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
        request_id: "r",
        now_s: 0,
    };
    let target = Target {
        unsupported,
        api_version: Some("2024-10-21"),
        ..Target::new(vendors::find(vendor).unwrap(), model)
    };
    prepare(&request, &target)
}

/// The request that a target gets, and what was left out or bent.
fn sent(api: ClientApi, body: &Value, vendor: &str, model: &str) -> (String, Value, Vec<String>) {
    let upstream = prepared(api, body, vendor, model, Unsupported::Drop).unwrap();
    let bytes = upstream.body.to_bytes();
    let path = upstream.path.into_owned();
    (
        path,
        serde_json::from_slice(&bytes).unwrap(),
        upstream.dropped,
    )
}

fn refused(api: ClientApi, body: &Value, vendor: &str, model: &str) -> String {
    let refusal = prepared(api, body, vendor, model, Unsupported::Refuse).unwrap_err();
    refusal.field().unwrap().to_owned()
}

fn agent(thinking: &Value) -> Value {
    json!({
        "model": "m", "max_tokens": 32_000, "messages": [{"role": "user", "content": "q"}],
        "tools": [{"name": "f", "input_schema": {"type": "object", "properties": {}}}],
        "thinking": thinking,
    })
}

fn chat(more: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "q"}]});
    let (Value::Object(body_fields), Value::Object(more)) = (&mut body, more) else {
        return body;
    };
    body_fields.extend(more);
    body
}

fn with_tools(mut more: Value) -> Value {
    let function = json!({"name": "f", "parameters": {"type": "object", "properties": {}}});
    more["tools"] = json!([{"type": "function", "function": function}]);
    chat(more)
}

#[test]
fn agents_reach_openais_newest_models_by_responses() {
    for vendor in ["openai", "azure"] {
        for model in [
            "gpt-5.4",
            "gpt-5.5",
            "gpt-5.6-sol",
            "gpt-6-sol",
            "gpt-6.1-sol",
            "gpt-7",
        ] {
            for thinking in [
                json!({"type": "adaptive"}),
                json!({"type": "disabled"}),
                Value::Null,
            ] {
                let (path, body, _) = sent(ClientApi::Messages, &agent(&thinking), vendor, model);
                assert_eq!(path, "/responses", "{vendor} {model}");
                assert_eq!(body["tools"][0]["name"], "f");
            }
            let asked = with_tools(json!({"reasoning_effort": "high"}));
            let (path, body, _) = sent(ClientApi::ChatCompletions, &asked, vendor, model);
            assert_eq!(
                (path.as_str(), &body["reasoning"]["effort"]),
                ("/responses", &json!("high"))
            );
            let plain = chat(json!({"reasoning_effort": "high"}));
            let (path, _, _) = sent(ClientApi::ChatCompletions, &plain, vendor, model);
            assert_eq!(path, "/chat/completions", "without tools chat serves it");
        }
        for model in ["gpt-4o", "gpt-5", "gpt-5.2", "prod-chat"] {
            let asked = agent(&json!({"type": "disabled"}));
            let (path, _, _) = sent(ClientApi::Messages, &asked, vendor, model);
            assert_eq!(path, "/chat/completions", "{model}");
        }
    }
}

#[test]
fn tools_without_reasoning_stay_with_chat() {
    let chat_client = ClientApi::ChatCompletions;
    for (model, effort, path) in [
        ("gpt-5.4", None, "/chat/completions"),
        ("gpt-5.4", Some("none"), "/chat/completions"),
        ("gpt-5.4", Some("low"), "/responses"),
        ("gpt-5.6-sol", None, "/responses"),
        ("gpt-5.6-sol", Some("none"), "/chat/completions"),
        // Cannot be without reasoning.
        ("gpt-6.1-sol", Some("none"), "/responses"),
        ("gpt-5-pro", None, "/responses"),
        ("gpt-5.3-codex", Some("none"), "/responses"),
    ] {
        let asked = with_tools(json!({"reasoning_effort": effort}));
        assert_eq!(
            sent(chat_client, &asked, "openai", model).0,
            path,
            "{model} {effort:?}"
        );
    }
}

#[test]
fn without_responses_reasoning_gives_way_to_tools_and_is_listed() {
    let asked = with_tools(json!({}));
    let (path, body, dropped) = sent(
        ClientApi::ChatCompletions,
        &asked,
        "azure-deployments",
        "gpt-5.6-sol",
    );
    assert!(path.contains("chat/completions"), "{path}");
    assert_eq!(body["reasoning_effort"], "none");
    assert_eq!(dropped, ["reasoning_effort"]);
    let high = with_tools(json!({"reasoning_effort": "high"}));
    let field = refused(
        ClientApi::ChatCompletions,
        &high,
        "azure-deployments",
        "gpt-5.6-sol",
    );
    assert_eq!(field, "reasoning_effort");
    let field = refused(
        ClientApi::ChatCompletions,
        &asked,
        "azure-deployments",
        "gpt-6.1-sol",
    );
    assert_eq!(field, "tools");
    let adaptive = agent(&json!({"type": "adaptive"}));
    let (path, _, _) = sent(
        ClientApi::Messages,
        &adaptive,
        "azure-deployments",
        "gpt-5.6-sol",
    );
    assert!(path.contains("chat/completions"), "{path}");
}

#[test]
fn newer_claude_takes_no_sampling_parameters() {
    let asked = chat(json!({"temperature": 0.2, "top_k": 5}));
    for model in [
        "claude-opus-4-7",
        "claude-opus-4-8",
        "claude-opus-5",
        "claude-sonnet-5",
        "claude-fable-5",
        "claude-opus-5-5",
        "claude-haiku-5-5",
        "claude-opus-6",
    ] {
        let (_, body, dropped) = sent(ClientApi::ChatCompletions, &asked, "anthropic", model);
        assert_eq!(
            (body.get("temperature"), body.get("top_k")),
            (None, None),
            "{model}"
        );
        assert_eq!(dropped, ["temperature", "top_k"], "{model}");
        let field = refused(ClientApi::ChatCompletions, &asked, "anthropic", model);
        assert_eq!(field, "temperature", "{model}");
        let responses = json!({"model": "m", "input": "q", "top_p": 0.5});
        assert_eq!(
            refused(ClientApi::Responses, &responses, "anthropic", model),
            "top_p"
        );
        // The default says nothing.
        let default = chat(json!({"temperature": 1}));
        let upstream = prepared(
            ClientApi::ChatCompletions,
            &default,
            "anthropic",
            model,
            Unsupported::Refuse,
        );
        assert_eq!(upstream.unwrap().dropped, ["temperature"], "{model}");
    }
    let (_, body, _) = sent(
        ClientApi::ChatCompletions,
        &asked,
        "anthropic",
        "claude-sonnet-4-6",
    );
    assert_eq!(
        (&body["temperature"], &body["top_k"]),
        (&json!(0.2), &json!(5))
    );
}

#[test]
fn gemini_thinks_within_what_its_model_takes() {
    let place = |body: &Value| body["generationConfig"]["thinkingConfig"].clone();
    let budget = |tokens: u64| agent(&json!({"type": "enabled", "budget_tokens": tokens}));
    let off = agent(&json!({"type": "disabled"}));
    let effort = |word: &str| {
        let mut asked = agent(&json!({"type": "adaptive"}));
        asked["output_config"] = json!({"effort": word});
        asked
    };
    for (model, asked, key, value, is_bent) in [
        (
            "gemini-2.5-flash",
            budget(31_999),
            "thinkingBudget",
            json!(24_576),
            true,
        ),
        (
            "gemini-2.5-flash",
            effort("xhigh"),
            "thinkingBudget",
            json!(24_576),
            true,
        ),
        (
            "gemini-2.5-flash",
            off.clone(),
            "thinkingBudget",
            json!(0),
            false,
        ),
        (
            "gemini-2.5-flash-lite",
            budget(100),
            "thinkingBudget",
            json!(512),
            true,
        ),
        (
            "gemini-2.5-pro",
            off.clone(),
            "thinkingBudget",
            json!(128),
            true,
        ),
        (
            "gemini-2.5-pro",
            budget(31_999),
            "thinkingBudget",
            json!(31_999),
            false,
        ),
        (
            "gemini-3.1-pro-preview",
            off.clone(),
            "thinkingLevel",
            json!("low"),
            true,
        ),
        (
            "gemini-3-pro-preview",
            effort("medium"),
            "thinkingLevel",
            json!("high"),
            true,
        ),
        (
            "gemini-3-flash-preview",
            off.clone(),
            "thinkingLevel",
            json!("minimal"),
            true,
        ),
        ("gemini-3.8-flash", off, "thinkingLevel", json!("low"), true),
        (
            "gemini-4-argon",
            effort("max"),
            "thinkingLevel",
            json!("high"),
            true,
        ),
        (
            "gemini-3.5-flash",
            effort("medium"),
            "thinkingLevel",
            json!("medium"),
            false,
        ),
    ] {
        let (_, body, dropped) = sent(ClientApi::Messages, &asked, "gemini", model);
        assert_eq!(place(&body)[key], value, "{model} {asked}");
        assert_eq!(
            dropped.contains(&"thinking".to_owned()),
            is_bent,
            "{model} {asked}"
        );
    }
}

#[test]
fn what_asks_for_nothing_is_left_out_and_listed() {
    let mut asked = agent(&json!({"type": "adaptive"}));
    asked["mcp_servers"] = json!([]);
    for vendor in ["openai", "gemini"] {
        let api = ClientApi::Messages;
        let upstream = prepared(api, &asked, vendor, "the-model", Unsupported::Refuse).unwrap();
        assert!(
            upstream.dropped.contains(&"mcp_servers".to_owned()),
            "{:?}",
            upstream.dropped
        );
    }
    asked["mcp_servers"] = json!([{"type": "url"}]);
    assert_eq!(
        refused(ClientApi::Messages, &asked, "openai", "gpt-5"),
        "mcp_servers"
    );
    for context in ["auto", "all_turns", "current_turn"] {
        let asked = json!({
            "model": "m", "input": "q", "reasoning": {"context": context, "mode": "standard"},
        });
        for vendor in ["anthropic", "gemini", "deepseek"] {
            let api = ClientApi::Responses;
            let upstream = prepared(api, &asked, vendor, "the-model", Unsupported::Refuse).unwrap();
            for field in ["reasoning.context", "reasoning.mode"] {
                assert!(
                    upstream.dropped.contains(&field.to_owned()),
                    "{:?}",
                    upstream.dropped
                );
            }
        }
    }
}

/// A conversation that another model began: a call without the reasoning that led to it.
fn conversation(effort: Option<&str>) -> Value {
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let mut asked = with_tools(json!({"reasoning_effort": effort}));
    asked["messages"] = json!([
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "r"},
    ]);
    asked
}

#[test]
fn a_call_has_its_reasoning_where_a_thinking_model_wants_it() {
    let from_messages = json!({
        "model": "m", "max_tokens": 100, "thinking": {"type": "adaptive"},
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "r"}]},
        ],
    });
    for (vendor, model) in [
        ("deepseek", "deepseek-v4-pro"),
        ("deepseek", "deepseek-reasoner"),
        ("kimi", "kimi-k2.6"),
        ("kimi", "kimi-k3"),
        ("kimi", "kimi-k2-thinking"),
    ] {
        for (api, asked) in [
            (ClientApi::ChatCompletions, conversation(None)),
            (ClientApi::ChatCompletions, conversation(Some("high"))),
            (ClientApi::Messages, from_messages.clone()),
        ] {
            let (_, body, _) = sent(api, &asked, vendor, model);
            let of_call = &body["messages"][1]["reasoning_content"];
            assert_eq!(*of_call, json!(""), "{vendor} {model} {api:?}: {body}");
        }
    }
    let asked = conversation(Some("none"));
    let (_, body, _) = sent(
        ClientApi::ChatCompletions,
        &asked,
        "deepseek",
        "deepseek-v4-pro",
    );
    assert_eq!(
        body["messages"][1].get("reasoning_content"),
        None,
        "thinking is off"
    );
    let mut asked = conversation(None);
    asked["messages"][1]["reasoning_content"] = json!("because");
    let (_, body, _) = sent(ClientApi::ChatCompletions, &asked, "kimi", "kimi-k2.6");
    assert_eq!(body["messages"][1]["reasoning_content"], "because");
    let (_, body, _) = sent(
        ClientApi::ChatCompletions,
        &conversation(None),
        "kimi",
        "moonshot-v1-32k",
    );
    assert_eq!(
        body["messages"][1].get("reasoning_content"),
        None,
        "does not think"
    );
}

#[test]
fn a_forced_tool_is_refused_by_name_or_becomes_auto_and_is_listed() {
    let asked = with_tools(json!({"tool_choice": "required"}));
    for (vendor, model) in [
        ("qwen", "qwen3-max"),
        ("kimi", "kimi-k2.6"),
        ("kimi", "kimi-k3"),
        ("glm", "glm-5.3"),
        ("anthropic", "claude-opus-5-5"),
        ("anthropic", "claude-sonnet-5-5"),
    ] {
        let api = ClientApi::ChatCompletions;
        assert_eq!(
            refused(api, &asked, vendor, model),
            "tool_choice",
            "{vendor}"
        );
        let (_, body, dropped) = sent(api, &asked, vendor, model);
        let choice = body["tool_choice"].to_string();
        assert!(
            choice.contains("auto") || choice == "null",
            "{vendor} {model}: {choice}"
        );
        assert_eq!(dropped, ["tool_choice"], "{vendor} {model}");
    }
}

#[test]
fn adaptive_thinking_without_an_effort_is_high() {
    let asked = agent(&json!({"type": "adaptive"}));
    for (vendor, model, place, value) in [
        ("openai", "gpt-5.1", "/reasoning_effort", json!("high")),
        ("openai", "gpt-5.6-sol", "/reasoning/effort", json!("high")),
        (
            "gemini",
            "gemini-3.5-flash",
            "/generationConfig/thinkingConfig/thinkingLevel",
            json!("high"),
        ),
        (
            "gemini",
            "gemini-2.5-flash",
            "/generationConfig/thinkingConfig/thinkingBudget",
            json!(24_576),
        ),
        (
            "deepseek",
            "deepseek-v4-pro",
            "/reasoning_effort",
            json!("high"),
        ),
    ] {
        let (_, body, _) = sent(ClientApi::Messages, &asked, vendor, model);
        assert_eq!(
            body.pointer(place),
            Some(&value),
            "{vendor} {model}: {body}"
        );
    }
}

#[test]
fn claude_thinks_as_its_generation_does() {
    let effort = |word: &str| chat(json!({"reasoning_effort": word}));
    for (model, word, kind, written, is_bent) in [
        ("claude-opus-4-5", "high", "enabled", None, false),
        ("claude-opus-4-6", "xhigh", "adaptive", Some("max"), true),
        ("claude-opus-4-8", "xhigh", "adaptive", Some("xhigh"), false),
        ("claude-opus-5", "none", "disabled", None, false),
        ("claude-sonnet-5-5", "none", "between_tools", None, false),
        ("claude-opus-5-5", "none", "adaptive", Some("low"), true),
        ("claude-fable-5", "minimal", "adaptive", Some("low"), true),
    ] {
        let (_, body, dropped) = sent(
            ClientApi::ChatCompletions,
            &effort(word),
            "anthropic",
            model,
        );
        assert_eq!(body["thinking"]["type"], kind, "{model} {word}");
        let found = body
            .pointer("/output_config/effort")
            .and_then(Value::as_str);
        assert_eq!(found, written, "{model} {word}");
        assert_eq!(!dropped.is_empty(), is_bent, "{model} {word}: {dropped:?}");
    }
}

#[test]
fn a_limit_above_the_models_own_is_lowered_and_listed() {
    let asked = chat(json!({"max_completion_tokens": 500_000}));
    for (vendor, model, place, most) in [
        ("anthropic", "claude-opus-5", "/max_tokens", 128_000),
        ("anthropic", "claude-haiku-4-5", "/max_tokens", 64_000),
        (
            "gemini",
            "gemini-2.5-flash",
            "/generationConfig/maxOutputTokens",
            65_536,
        ),
        ("openai", "gpt-4o", "/max_completion_tokens", 16_384),
    ] {
        let (_, body, dropped) = sent(ClientApi::ChatCompletions, &asked, vendor, model);
        assert_eq!(body.pointer(place), Some(&json!(most)), "{model}");
        assert_eq!(dropped, ["max_completion_tokens"], "{model}");
    }
    // Reasoning models know only the newer name.
    let (_, body, dropped) = sent(
        ClientApi::ChatCompletions,
        &chat(json!({"max_tokens": 9})),
        "openai",
        "gpt-5",
    );
    assert_eq!(
        (body.get("max_tokens"), &body["max_completion_tokens"]),
        (None, &json!(9))
    );
    assert_eq!(dropped, Vec::<String>::new());
}

#[test]
fn a_limit_below_the_least_of_openais_responses_is_raised_and_listed() {
    let ways = [
        (ClientApi::ChatCompletions, "openai-responses"),
        (ClientApi::ChatCompletions, "openai"),
        (ClientApi::Messages, "openai"),
        (ClientApi::Messages, "azure"),
    ];
    for (api, vendor) in ways {
        for (asked, written, is_bent) in [(1, 16, true), (15, 16, true), (16, 16, false)] {
            let (ask, field) = match api {
                ClientApi::Messages => {
                    let mut ask = agent(&json!({"type": "adaptive"}));
                    ask["max_tokens"] = json!(asked);
                    (ask, "max_tokens")
                }
                _ => (
                    with_tools(json!({"max_tokens": asked})),
                    "max_completion_tokens",
                ),
            };
            for policy in [Unsupported::Refuse, Unsupported::Drop] {
                let upstream = prepared(api, &ask, vendor, "gpt-6.1-sol", policy).unwrap();
                let bytes = upstream.body.to_bytes();
                let body: Value = serde_json::from_slice(&bytes).unwrap();
                assert_eq!(upstream.path, "/responses", "{api:?} {vendor}");
                assert_eq!(body["max_output_tokens"], written, "{api:?} {vendor}");
                let is_listed = upstream.dropped.iter().any(|name| name == field);
                assert_eq!(is_listed, is_bent, "{:?}", upstream.dropped);
            }
        }
    }
    // Chat takes any, and so does another vendor's responses API.
    for (vendor, model, place) in [
        ("openai", "gpt-6.1-sol", "/max_completion_tokens"),
        ("xai", "grok-4.5", "/max_completion_tokens"),
    ] {
        let ask = chat(json!({"max_completion_tokens": 1}));
        let (_, body, _) = sent(ClientApi::ChatCompletions, &ask, vendor, model);
        assert_eq!(body.pointer(place), Some(&json!(1)), "{vendor}");
    }
}

fn claude(more: Value) -> Value {
    let mut body = json!({
        "model": "m", "max_tokens": 32_000, "messages": [{"role": "user", "content": "q"}],
        "tools": [{"name": "f", "input_schema": {"type": "object", "properties": {}}}],
    });
    if let (Value::Object(fields), Value::Object(more)) = (&mut body, more) {
        fields.extend(more);
    }
    body
}

/// What an Anthropic client asks, the Claude that gets it, the fields that it gets instead, and what
/// is listed. A field that is null must not be there.
fn claudes() -> Vec<(Value, &'static str, Value, &'static [&'static str])> {
    let history = |last: Value| json!([{"role": "user", "content": "q"}, last]);
    let prefill = json!({"role": "assistant", "content": "{"});
    let paused = json!({"role": "assistant", "content": [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}]});
    let call = json!([
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "r"}]},
    ]);
    vec![
        (
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}}),
            "claude-haiku-4-5",
            json!({"thinking": {"type": "enabled", "budget_tokens": 8192}, "output_config": null}),
            &["thinking"],
        ),
        (
            json!({"thinking": {"type": "adaptive"}, "messages": call}),
            "claude-haiku-4-5",
            json!({"thinking": null, "messages": call}),
            &["thinking"],
        ),
        (
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}),
            "claude-3-5-haiku-latest",
            json!({"thinking": null, "output_config": null, "max_tokens": 8192}),
            &["max_tokens", "thinking"],
        ),
        (
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}),
            "claude-opus-4-6",
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}),
            &["thinking"],
        ),
        // Budgets are deprecated at 4.6, and work.
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 4096}}),
            "claude-opus-4-6",
            json!({"thinking": {"type": "enabled", "budget_tokens": 4096}, "output_config": null}),
            &[],
        ),
        // But not when the limit that is lowered leaves them no room.
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 150_000}, "max_tokens": 200_000}),
            "claude-sonnet-4-6",
            json!({"thinking": {"type": "adaptive"}, "max_tokens": 128_000}),
            &["max_tokens", "thinking"],
        ),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 100_000}, "max_tokens": 128_000}),
            "claude-haiku-4-5",
            json!({"thinking": {"type": "enabled", "budget_tokens": 63_999}, "max_tokens": 64_000}),
            &["max_tokens", "thinking"],
        ),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 4096}, "top_k": 3}),
            "claude-opus-5-5",
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"},
                "top_k": null}),
            &["thinking", "top_k"],
        ),
        (
            json!({"thinking": {"type": "disabled"}}),
            "claude-opus-5-5",
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
            &["thinking"],
        ),
        (
            json!({"thinking": {"type": "disabled"}}),
            "claude-sonnet-5-5",
            json!({"thinking": {"type": "between_tools"}}),
            &["thinking"],
        ),
        (
            json!({"temperature": 0.2, "top_p": 1, "tool_choice":
                {"type": "any", "disable_parallel_tool_use": true}}),
            "claude-opus-5-5",
            json!({"temperature": null, "top_p": null, "tool_choice":
                {"type": "auto", "disable_parallel_tool_use": true}}),
            &["temperature", "tool_choice", "top_p"],
        ),
        (
            json!({"temperature": 0.2, "top_p": 0.5}),
            "claude-haiku-4-5",
            json!({"temperature": 0.2, "top_p": null}),
            &["top_p"],
        ),
        (
            json!({"messages": history(prefill.clone())}),
            "claude-opus-5-5",
            json!({"messages": [{"role": "user", "content": "q"}]}),
            &["messages[] (an answer to continue)"],
        ),
        (
            json!({"messages": history(prefill.clone())}),
            "claude-haiku-4-5",
            json!({"messages": history(prefill)}),
            &[],
        ),
        (
            json!({"messages": history(paused.clone())}),
            "claude-opus-5-5",
            json!({"messages": history(paused)}),
            &[],
        ),
        (
            json!({"tools": [{"name": "f", "input_schema": {"type": "object"}, "strict": true}],
                "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}),
            "claude-opus-4-1",
            json!({"tools": [{"name": "f", "input_schema": {"type": "object"}}],
                "output_config": null}),
            &["output_config.format", "tools[].strict"],
        ),
    ]
}

#[test]
fn a_body_for_another_claude_is_mended_and_listed() {
    for (asked, model, expect, listed) in claudes() {
        let body = claude(asked);
        let (_, got, mut dropped) = sent(ClientApi::Messages, &body, "anthropic", model);
        for (key, value) in expect.as_object().unwrap() {
            assert_eq!(&got[key], value, "{key} at {model} of {body}");
            assert!(!got[key].is_null() || got.get(key).is_none(), "{key}");
        }
        dropped.sort();
        assert_eq!(dropped, listed, "{model} of {body}");
    }
}

#[test]
fn who_names_the_model_itself_gets_every_byte() {
    for (mut asked, model, _, _) in claudes() {
        asked["model"] = json!(model);
        let body = claude(asked);
        let upstream = prepared(
            ClientApi::Messages,
            &body,
            "anthropic",
            model,
            Unsupported::Refuse,
        );
        let upstream = upstream.unwrap();
        assert_eq!(upstream.body.to_bytes(), body.to_string(), "{model}");
        assert!(upstream.dropped.is_empty());
    }
}

#[test]
fn a_body_for_another_claude_is_refused_by_name() {
    for (asked, model, field) in [
        (json!({"top_k": 3}), "claude-opus-5-5", "top_k"),
        (
            json!({"temperature": 0.2}),
            "claude-opus-5-5",
            "temperature",
        ),
        (
            json!({"tool_choice": {"type": "tool", "name": "f"}}),
            "claude-opus-5-5",
            "tool_choice",
        ),
        (
            json!({"thinking": {"type": "adaptive"}}),
            "claude-3-haiku",
            "thinking",
        ),
    ] {
        let body = claude(asked);
        assert_eq!(
            refused(ClientApi::Messages, &body, "anthropic", model),
            field
        );
    }
}

#[test]
fn a_body_for_another_model_of_openais_is_mended_and_listed() {
    let encrypted = "reasoning.encrypted_content";
    for (asked, model, expect, listed) in [
        (
            json!({"reasoning": {"effort": "xhigh", "summary": "auto"}, "include": [encrypted]}),
            "gpt-4.1",
            json!({"reasoning": null, "include": []}),
            &["reasoning"][..],
        ),
        (
            json!({"reasoning": {"effort": "xhigh", "summary": "auto"}, "include": [encrypted]}),
            "gpt-5",
            json!({"reasoning": {"effort": "high", "summary": "auto"}, "include": [encrypted]}),
            &["reasoning"],
        ),
        (
            json!({"reasoning": {"effort": "none"}, "temperature": 0.5}),
            "gpt-6.1-sol",
            json!({"reasoning": {"effort": "low"}, "temperature": null}),
            &["reasoning", "temperature"],
        ),
        (
            json!({"text": {"verbosity": "low"}, "temperature": 0.5, "tool_choice": "required"}),
            "gpt-4.1",
            json!({"text": null, "temperature": 0.5, "tool_choice": "required"}),
            &["text.verbosity"],
        ),
        (
            json!({"reasoning": {"context": "all_turns", "summary": "auto", "effort": null}}),
            "gpt-4.1",
            json!({"reasoning": null}),
            &["reasoning.context"],
        ),
        (
            json!({"top_logprobs": 3, "include": ["message.output_text.logprobs", encrypted],
                "reasoning": {"effort": "low"}}),
            "gpt-5.5",
            json!({"top_logprobs": null, "include": [encrypted]}),
            &["include (message.output_text.logprobs)", "top_logprobs"],
        ),
        (
            json!({"top_logprobs": 3, "include": ["message.output_text.logprobs"]}),
            "o3",
            json!({"top_logprobs": null, "include": []}),
            &["include (message.output_text.logprobs)", "top_logprobs"],
        ),
        (
            json!({"top_logprobs": 3, "include": ["message.output_text.logprobs", encrypted]}),
            "gpt-4.1",
            json!({"top_logprobs": 3, "include": ["message.output_text.logprobs"]}),
            &[],
        ),
        (
            json!({"top_logprobs": 3, "reasoning": {"effort": "none"}}),
            "gpt-5.2",
            json!({"top_logprobs": 3}),
            &[],
        ),
        (
            json!({"max_output_tokens": 900_000, "reasoning": {"effort": "low"}}),
            "gpt-5.5",
            json!({"max_output_tokens": 128_000, "reasoning": {"effort": "low"}}),
            &["max_output_tokens"],
        ),
    ] {
        let mut body = asked.clone();
        body["model"] = json!("m");
        body["input"] = json!("q");
        let (path, got, mut dropped) = sent(ClientApi::Responses, &body, "openai-responses", model);
        assert_eq!(path, "/responses");
        for (key, value) in expect.as_object().unwrap() {
            assert_eq!(&got[key], value, "{key} at {model} of {body}");
        }
        dropped.sort();
        assert_eq!(dropped, listed, "{model} of {body}");
        body["model"] = json!(model);
        let same = prepared(
            ClientApi::Responses,
            &body,
            "openai-responses",
            model,
            Unsupported::Refuse,
        );
        assert_eq!(same.unwrap().body.to_bytes(), body.to_string());
    }
}
