//! Numbers beyond all bounds, of clients and of providers: none of them costs money without a row.

use serde_json::Value;
use weir_tests::http::{Answer, Request};
use weir_tests::scripted::{Script, ScriptedProvider};
use weir_tests::weir::Installation;

const CHAT: &str = r#"{"id":"c","model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"a weir"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#;
/// What no count is, and what no call can consume.
const NO_COUNTS: [&str; 8] = [
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e30",
    "7.5",
    "-5",
    r#""many""#,
    "null",
];

fn installation(provider: &ScriptedProvider, aliases: &[&str]) -> Installation {
    let mut config = String::new();
    for (name, dialect, path) in [
        ("openai", "openai", "/v1"),
        ("claude", "anthropic", "/v1"),
        ("gemini", "gemini", "/v1beta"),
    ] {
        let address = provider.address;
        config.push_str(&format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"{dialect}\"\n\
             base_url = \"http://{address}{path}\"\nkeys = [\"k\"]\n\n"
        ));
    }
    for alias in aliases {
        let provider = alias.split('-').next().unwrap_or(alias);
        config.push_str(&format!(
            "[[alias]]\nname = \"{alias}\"\n\
             targets = [{{ provider = \"{provider}\", model = \"{alias}\" }}]\n\n\
             [[price]]\nprovider = \"{provider}\"\nmodel = \"{alias}\"\n\
             input = \"1000\"\noutput = \"1000\"\n\n"
        ));
    }
    Installation::new(&config).unwrap()
}

fn call(weir: &Installation, key: &str, path: &str, body: String) -> Answer {
    let request = Request::post(path, body).bearer(key);
    let request = request.header("content-type", "application/json");
    let request = request.header("anthropic-version", "2023-06-01");
    request.send(weir.gateway).unwrap()
}

#[test]
fn what_a_client_sends_is_refused_with_its_bound_before_anything_is_sent() {
    let provider = ScriptedProvider::start(vec![Script::plain("", CHAT)]).unwrap();
    let weir = installation(&provider, &["openai-model"]);
    let key = weir.create_key("strange").unwrap();
    for unit in ["--usd", "--tokens"] {
        let id = format!("of{unit}");
        let args = ["budgets", "set", &id, "--team", "strange", unit, "5"];
        weir.run(&args).unwrap();
    }
    let _up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();

    let messages = r#""messages":[{"role":"user","content":"hi"}]"#;
    let cases = [
        ("/v1/chat/completions", "max_tokens", messages, "1000000000"),
        (
            "/v1/chat/completions",
            "max_completion_tokens",
            messages,
            "1000000000",
        ),
        ("/v1/chat/completions", "n", messages, "1000"),
        ("/v1/messages", "max_tokens", messages, "1000000000"),
        (
            "/v1/responses",
            "max_output_tokens",
            r#""input":"hi""#,
            "1000000000",
        ),
    ];
    let numbers = NO_COUNTS.iter().filter(|number| **number != "null");
    let mut refused = 0;
    for (path, field, prompt, bound) in cases {
        for number in numbers.clone().chain(&["1000000001"]) {
            for stream in [false, true] {
                let body = format!(
                    r#"{{"model":"openai-model","stream":{stream},{prompt},"{field}":{number}}}"#
                );
                let answer = call(&weir, &key, path, body);
                let said = answer.message();
                assert_eq!(answer.status, 400, "{path} {field} {number}: {answer:?}");
                assert!(
                    said.contains(field) && said.contains(bound),
                    "{number}: {said}"
                );
                refused += 1;
            }
        }
    }
    assert_eq!(provider.asked(""), [""; 0], "nothing was sent");
    let rows = "SELECT count() FROM weir.requests WHERE status = 400 AND stage = 'inspect'";
    weir.wait_for_number(rows, refused).unwrap();
}

/// What a client may ask for at most costs more than any amount can say. It has a price all the same.
#[test]
fn what_no_amount_can_say_is_too_much_for_a_budget_and_has_a_price() {
    let provider = ScriptedProvider::start(vec![Script::plain("", CHAT)]).unwrap();
    let weir = installation(&provider, &["openai-model"]);
    let key = weir.create_key("greedy").unwrap();
    let args = ["budgets", "set", "small", "--team", "greedy", "--usd", "5"];
    weir.run(&args).unwrap();
    let _gateway = weir.start(&["gateway"]).unwrap();
    weir.wait_until_ready().unwrap();
    let body = r#"{"model":"openai-model","n":1000,"max_tokens":1000000000,"messages":[{"role":"user","content":"hi"}]}"#;
    let answer = call(&weir, &key, "/v1/chat/completions", body.to_owned());
    let said = answer.message();
    assert!(said.contains("budget \"small\""), "{answer:?}");
    assert_eq!(provider.asked(""), [""; 0], "nothing was sent");
}

#[test]
fn numbers_that_the_gateway_does_not_act_on_do_no_harm() {
    let provider = ScriptedProvider::start(vec![Script::plain("", CHAT)]).unwrap();
    let weir = installation(&provider, &["openai-model", "claude-model", "gemini-model"]);
    let key = weir.create_key("strange").unwrap();
    let _up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    let mut calls = 0;
    for model in ["openai-model", "claude-model", "gemini-model"] {
        for path in ["/v1/chat/completions", "/v1/messages", "/v1/responses"] {
            for number in NO_COUNTS {
                let body = format!(
                    r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}],"input":"hi",
                    "max_tokens":9,"top_k":{number},"seed":{number},"top_logprobs":{number},
                    "temperature":{number},"thinking":{{"type":"enabled","budget_tokens":{number}}}}}"#
                );
                let answer = call(&weir, &key, path, body);
                // Claude and Gemini cannot say what the provider answers.
                let is_known = matches!(answer.status, 200 | 400 | 502);
                assert!(is_known, "{path} {model} {number}: {answer:?}");
                calls += 1;
            }
        }
    }
    weir.wait_for_number("SELECT count() FROM weir.requests", calls)
        .unwrap();
}

/// Which of the two counts is none.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Input,
    Output,
    Both,
}

/// What a provider answers, as a whole and as a stream.
fn answers(dialect: &str, input: &str, output: &str) -> (String, Vec<String>) {
    match dialect {
        "claude" => {
            let usage = format!(r#"{{"input_tokens":{input},"output_tokens":{output}}}"#);
            let head = r#""id":"msg_1","type":"message","role":"assistant","model":"m""#;
            let whole = format!(
                r#"{{{head},"content":[{{"type":"text","text":"a weir"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{usage}}}"#
            );
            let events = vec![
                format!(r#"{{"type":"message_start","message":{{{head},"content":[],"stop_reason":null,"stop_sequence":null,"usage":{usage}}}}}"#),
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#.to_owned(),
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a weir"}}"#.to_owned(),
                r#"{"type":"content_block_stop","index":0}"#.to_owned(),
                format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn","stop_sequence":null}},"usage":{usage}}}"#),
                r#"{"type":"message_stop"}"#.to_owned(),
            ];
            (whole, events)
        }
        "gemini" => {
            let whole = format!(
                r#"{{"candidates":[{{"content":{{"parts":[{{"text":"a weir"}}],"role":"model"}},"finishReason":"STOP","index":0}}],"usageMetadata":{{"promptTokenCount":{input},"candidatesTokenCount":{output}}},"modelVersion":"m","responseId":"r"}}"#
            );
            (whole.clone(), vec![whole])
        }
        _ => {
            let usage = format!(r#"{{"prompt_tokens":{input},"completion_tokens":{output}}}"#);
            let whole = format!(
                r#"{{"id":"c","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"a weir"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
            );
            let events = vec![
                r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"a weir"},"finish_reason":null}]}"#.to_owned(),
                r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#.to_owned(),
                format!(r#"{{"id":"c","model":"m","choices":[],"usage":{usage}}}"#),
                "[DONE]".to_owned(),
            ];
            (whole, events)
        }
    }
}

#[test]
fn usage_that_is_no_count_is_estimated_and_says_so() {
    let mut scripts = Vec::new();
    let mut models = Vec::new();
    for dialect in ["openai", "claude", "gemini"] {
        for (number, no_count) in NO_COUNTS.into_iter().enumerate() {
            for side in [Side::Input, Side::Output, Side::Both] {
                let input = if side == Side::Output { "12" } else { no_count };
                let output = if side == Side::Input { "5" } else { no_count };
                let (whole, events) = answers(dialect, input, output);
                let events: Vec<&str> = events.iter().map(String::as_str).collect();
                let name = format!("{dialect}-{number}-{side:?}").to_lowercase();
                let (plain, stream) = (format!("{name}-plain"), format!("{name}-stream"));
                scripts.push(Script::plain(&plain, &whole));
                scripts.push(Script::stream(&stream, &events));
                models.extend([plain, stream]);
            }
        }
    }
    let provider = ScriptedProvider::start(scripts).unwrap();
    let aliases: Vec<&str> = models.iter().map(String::as_str).collect();
    let weir = installation(&provider, &aliases);
    let key = weir.create_key("strange").unwrap();
    let _up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    for model in &models {
        let stream = model.ends_with("stream");
        let body = format!(
            r#"{{"model":"{model}","stream":{stream},"messages":[{{"role":"user","content":"What is a weir, and how high is the water?"}}],"max_tokens":40}}"#
        );
        let answer = call(&weir, &key, "/v1/chat/completions", body);
        assert_eq!(answer.status, 200, "{model}: {answer:?}");
    }
    let calls = models.len() as u64;
    weir.wait_for_number("SELECT count() FROM weir.requests", calls)
        .unwrap();
    let wrong = "SELECT alias, usage_source, input_tokens, output_tokens, cost_usd, unpriced_reason \
        FROM weir.requests WHERE NOT (usage_source = 'estimated' AND input_tokens BETWEEN 12 AND 30 \
        AND output_tokens BETWEEN 2 AND 5 AND cost_usd > 0.01)";
    assert_eq!(weir.sql(wrong).unwrap(), [Value::Null; 0]);
}
