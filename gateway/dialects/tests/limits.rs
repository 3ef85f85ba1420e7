//! The limit on an answer's tokens: one is sent, in the field that the provider obeys.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect"
)]

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};
use weir_dialects::{ClientApi, ClientRequest, Target, UpstreamRequest, inspect, prepare, vendors};

fn prepared(
    api: ClientApi,
    (vendor, model): (&str, &str),
    body: &str,
    output_limit: Option<u64>,
) -> UpstreamRequest {
    let body = Bytes::from(body.to_owned());
    let request = ClientRequest {
        api,
        headers: &HeaderMap::new(),
        query: None,
        body: &body,
        facts: &inspect(api, &body).unwrap(),
        output_limit,
        request_id: "r1",
        now_s: 0,
    };
    let target = Target::new(vendors::find(vendor).unwrap(), model);
    prepare(&request, &target).unwrap()
}

/// The limits that are sent, wherever the dialect has them.
fn sent(
    api: ClientApi,
    target: (&str, &str),
    body: &Value,
    output_limit: Option<u64>,
) -> Vec<(&'static str, u64)> {
    let prepared = prepared(api, target, &body.to_string(), output_limit);
    let body: Value = serde_json::from_slice(&prepared.body.to_bytes()).unwrap();
    let places = [
        ("max_tokens", "/max_tokens"),
        ("max_completion_tokens", "/max_completion_tokens"),
        ("max_output_tokens", "/max_output_tokens"),
        ("maxOutputTokens", "/generationConfig/maxOutputTokens"),
        ("budget_tokens", "/thinking/budget_tokens"),
    ];
    let found = places.into_iter();
    let found = found.filter_map(|(name, place)| Some((name, body.pointer(place)?.as_u64()?)));
    found.collect()
}

#[test]
fn the_smaller_limit_is_sent_in_the_field_that_the_provider_obeys() {
    let chat = ClientApi::ChatCompletions;
    let messages = json!([{"role": "user", "content": "hi"}]);
    let plain = json!({"model": "m", "messages": messages});
    let own = json!({"model": "m", "messages": messages, "max_tokens": 500});
    let newer = json!({"model": "m", "messages": messages, "max_completion_tokens": 500});
    for (vendor, model, field) in [
        ("openai", "gpt-4o", "max_completion_tokens"),
        ("openai", "gpt-5", "max_completion_tokens"),
        ("openai-responses", "gpt-5", "max_output_tokens"),
        ("anthropic", "claude-opus-4-5", "max_tokens"),
        ("gemini", "gemini-2.5-pro", "maxOutputTokens"),
        ("deepseek", "deepseek-chat", "max_tokens"),
        ("mistral", "mistral-large", "max_tokens"),
        ("groq", "llama-3.3-70b", "max_completion_tokens"),
        ("kimi", "kimi-k3", "max_completion_tokens"),
        ("doubao", "doubao-seed-1.6", "max_completion_tokens"),
        ("ollama", "llama3", "max_tokens"),
        ("vllm", "some-model", "max_tokens"),
        ("openai-compatible", "some-model", "max_tokens"),
    ] {
        let target = (vendor, model);
        for body in [&plain, &own, &newer] {
            assert_eq!(
                sent(chat, target, body, Some(77)),
                [(field, 77)],
                "{vendor} {body}"
            );
        }
        for body in [&own, &newer] {
            let unchanged = sent(chat, target, body, Some(9000));
            assert_eq!(
                unchanged
                    .iter()
                    .map(|(_, limit)| *limit)
                    .collect::<Vec<_>>(),
                [500]
            );
        }
    }
}

#[test]
fn of_two_limits_one_is_sent() {
    let chat = ClientApi::ChatCompletions;
    let both =
        json!({"max_tokens": 16_000, "model": "m", "messages": [], "max_completion_tokens": 1});
    for vendor in [
        "openai",
        "openai-compatible",
        "vllm",
        "kimi",
        "deepseek",
        "xai",
        "doubao",
    ] {
        let sent = sent(chat, (vendor, "some-model"), &both, None);
        assert_eq!(sent.len(), 1, "{vendor} {sent:?}");
        assert_eq!(sent[0].1, 1, "{vendor}");
    }
    // However it is written.
    let disguised =
        r#"{"model":"some-model","max_\u0074okens":16000,"messages":[],"max_completion_tokens":1}"#;
    let prepared = prepared(chat, ("openai-compatible", "some-model"), disguised, None);
    assert_eq!(
        prepared.body.to_bytes(),
        r#"{"max_tokens":1,"model":"some-model","messages":[]}"#
    );
}

#[test]
fn a_request_with_one_limit_that_is_not_lowered_passes_as_it_is() {
    for (api, vendor, body) in [
        (
            ClientApi::ChatCompletions,
            "openai-compatible",
            r#"{ "model":"up", "max_completion_tokens" : 10,"max_tokens":null, "messages":[] }"#,
        ),
        (
            ClientApi::Messages,
            "anthropic",
            r#"{ "model":"up", "max_tokens" : 10, "messages":[] }"#,
        ),
        (
            ClientApi::Responses,
            "openai",
            r#"{ "model":"up", "max_output_tokens" : 16, "input":"" }"#,
        ),
    ] {
        for output_limit in [None, Some(10_000)] {
            let prepared = prepared(api, (vendor, "up"), body, output_limit);
            assert_eq!(prepared.body.to_bytes(), body);
            assert!(prepared.dropped.is_empty());
        }
    }
}

#[test]
fn a_limit_is_one_that_the_provider_takes() {
    let responses = json!({"model": "gpt-5", "input": "hi"});
    let limit = sent(
        ClientApi::Responses,
        ("openai", "gpt-5"),
        &responses,
        Some(3),
    );
    assert_eq!(limit, [("max_output_tokens", 16)]);
    let chat = json!({"model": "m", "messages": []});
    let at = |vendor, model| {
        sent(
            ClientApi::ChatCompletions,
            (vendor, model),
            &chat,
            Some(u64::MAX),
        )
    };
    assert_eq!(at("openai", "gpt-4o"), [("max_completion_tokens", 16_384)]);
    // Of which nothing is known.
    assert_eq!(at("vllm", "some-model"), [("max_tokens", 4096)]);
}

#[test]
fn thinking_stays_below_the_limit() {
    let body = json!({"model": "claude-opus-4-5", "max_tokens": 9000, "messages": [],
        "thinking": {"type": "enabled", "budget_tokens": 8000}});
    let target = ("anthropic", "claude-opus-4-5");
    let limits = |limit| sent(ClientApi::Messages, target, &body, Some(limit));
    assert_eq!(
        limits(8500),
        [("max_tokens", 8500), ("budget_tokens", 8000)]
    );
    assert_eq!(
        limits(4000),
        [("max_tokens", 4000), ("budget_tokens", 3999)]
    );
    assert_eq!(limits(1024), [("max_tokens", 1024)]);
    let prepared = prepared(ClientApi::Messages, target, &body.to_string(), Some(1024));
    assert_eq!(prepared.dropped, ["thinking"]);
}
