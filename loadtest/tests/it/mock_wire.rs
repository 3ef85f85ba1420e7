//! The mock's answers, byte for byte where it matters.

use weir_loadtest::mock::{MockHandle, MockOptions, MockProvider, filler};

use crate::http::{End, Got, get, post};

pub(crate) const CHAT: &str = "/v1/chat/completions";

pub(crate) fn mock() -> MockHandle {
    MockProvider::start(MockOptions::default()).unwrap()
}

pub(crate) fn chat(extra: &str) -> String {
    format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"Say hello"}}]{extra}}}"#)
}

/// Replaces the one thing that follows the clock.
fn without_created(text: &str) -> String {
    let Some(at) = text.find("\"created\":") else {
        return text.to_owned();
    };
    let digits = at + "\"created\":".len();
    let end = digits + text[digits..].find(|c: char| !c.is_ascii_digit()).unwrap();
    let created: u64 = text[digits..end].parse().unwrap();
    assert!(
        created > 1_700_000_000,
        "created is {created}, not a time in seconds"
    );
    format!("{}0{}", &text[..digits], without_created(&text[end..]))
}

#[test]
fn a_plain_answer_is_openais() {
    let mock = mock();
    let got = post(mock.addr(), CHAT, &[], &chat(r#","max_tokens":4"#));
    assert_eq!((got.status, got.end), (200, End::Whole));
    assert_eq!(
        without_created(got.text()),
        concat!(
            r#"{"id":"chatcmpl-ID","object":"chat.completion","created":0,"model":"gpt-4o","#,
            r#""choices":[{"index":0,"message":{"role":"assistant","content":"TEXT","refusal":null,"annotations":[]},"#,
            r#""logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,"#,
            r#""prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"#,
            r#""audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default","#,
            r#""system_fingerprint":"FP"}"#
        )
        .replace("ID", &id_of(&got))
        .replace("TEXT", &content_of(&got))
        .replace("FP", got.json()["system_fingerprint"].as_str().unwrap())
    );
    assert_eq!(id_of(&got).len(), 29);
    assert_eq!(
        content_of(&got)
            .split(' ')
            .filter(|word| !word.is_empty())
            .count(),
        4
    );
}

fn id_of(got: &Got) -> String {
    got.json()["id"]
        .as_str()
        .unwrap()
        .strip_prefix("chatcmpl-")
        .unwrap()
        .to_owned()
}

fn content_of(got: &Got) -> String {
    got.json()["choices"][0]["message"]["content"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_stream_has_role_then_deltas_then_finish_then_usage_then_done() {
    let mock = mock();
    let body = chat(r#","max_tokens":2,"stream":true,"stream_options":{"include_usage":true}"#);
    let got = post(mock.addr(), CHAT, &[], &body);
    assert_eq!(
        got.headers["content-type"],
        "text/event-stream; charset=utf-8"
    );
    assert_eq!(got.end, End::Whole);
    let events = got.events();
    let first: serde_json::Value = serde_json::from_str(events[0]).unwrap();
    let head = format!(
        r#"{{"id":{},"object":"chat.completion.chunk","created":0,"model":"gpt-4o","service_tier":"default","system_fingerprint":{},"choices":["#,
        first["id"], first["system_fingerprint"]
    );
    let word = |event: &str| {
        let event: serde_json::Value = serde_json::from_str(event).unwrap();
        event["choices"][0]["delta"]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let expected = [
        format!(
            r#"{head}{{"index":0,"delta":{{"role":"assistant","content":"","refusal":null}},"logprobs":null,"finish_reason":null}}],"usage":null}}"#
        ),
        format!(
            r#"{head}{{"index":0,"delta":{{"content":"{}"}},"logprobs":null,"finish_reason":null}}],"usage":null}}"#,
            word(events[1])
        ),
        format!(
            r#"{head}{{"index":0,"delta":{{"content":"{}"}},"logprobs":null,"finish_reason":null}}],"usage":null}}"#,
            word(events[2])
        ),
        format!(
            r#"{head}{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":"stop"}}],"usage":null}}"#
        ),
        format!(
            r#"{head}],"usage":{{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}}}"#
        ),
        "[DONE]".to_owned(),
    ];
    let events: Vec<String> = events.into_iter().map(without_created).collect();
    assert_eq!(events, expected);
}

#[test]
fn a_stream_without_the_option_has_no_usage_at_all() {
    let mock = mock();
    let got = post(
        mock.addr(),
        CHAT,
        &[],
        &chat(r#","max_tokens":2,"stream":true"#),
    );
    assert!(!got.text().contains("usage"), "{}", got.text());
    assert_eq!(got.events().len(), 5);
    assert_eq!(got.events().last(), Some(&"[DONE]"));
}

#[test]
fn several_choices_are_several_answers() {
    let mock = mock();
    let plain = post(mock.addr(), CHAT, &[], &chat(r#","max_tokens":5,"n":3"#)).json();
    assert_eq!(plain["choices"].as_array().unwrap().len(), 3);
    assert_eq!(plain["usage"]["completion_tokens"], 15);
    let got = post(
        mock.addr(),
        CHAT,
        &[],
        &chat(r#","max_tokens":5,"n":3,"stream":true"#),
    );
    for index in 0..3 {
        let mark = format!("{{\"index\":{index},");
        // A role, five tokens and a finish for each choice.
        assert_eq!(
            got.events()
                .iter()
                .filter(|event| event.contains(&mark))
                .count(),
            7
        );
    }
}

#[test]
fn sizes_follow_the_prompt_the_request_and_the_overrides() {
    let mock = mock();
    let usage = |headers: &[(&str, &str)], body: &str| {
        let usage = post(mock.addr(), CHAT, headers, body).json()["usage"].clone();
        let at = |path: &str| usage.pointer(path).unwrap().as_u64().unwrap();
        [
            at("/prompt_tokens"),
            at("/prompt_tokens_details/cached_tokens"),
            at("/completion_tokens"),
            at("/completion_tokens_details/reasoning_tokens"),
        ]
    };
    let sized = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}],"max_completion_tokens":44}}"#,
        filler(374)
    );
    assert_eq!(usage(&[], &sized), [374, 0, 44, 0]);
    let in_body = r#","metadata":{"mock_input_tokens":"2000","mock_cached_tokens":"1536","mock_output_tokens":"90","mock_reasoning_tokens":"70","team":"x"}"#;
    assert_eq!(usage(&[], &chat(in_body)), [2000, 1536, 90, 70]);
    let headers = [("x-mock-input-tokens", "9"), ("x-mock-output-tokens", "8")];
    assert_eq!(
        usage(&headers, &chat(in_body)),
        [9, 9, 8, 8],
        "headers win over the body"
    );
}

#[test]
fn shares_of_cached_input_and_reasoning_follow_openais_steps() {
    let mock = MockProvider::start(MockOptions {
        cached_share: 0.9,
        reasoning_share: 0.25,
        ..MockOptions::default()
    })
    .unwrap();
    let got = post(
        mock.addr(),
        CHAT,
        &[("x-mock-input-tokens", "1500")],
        &chat(r#","max_tokens":100"#),
    );
    let usage = &got.json()["usage"];
    // 0.9 × 1500 = 1350, which holds ten whole blocks of 128.
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 1280);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 25);
    assert_eq!(
        content_of(&got).split_whitespace().count(),
        75,
        "reasoning is not text"
    );
}

#[test]
fn a_drawn_length_is_capped_and_says_so() {
    let mock = MockProvider::start(MockOptions {
        output_tokens: Some("50".parse().unwrap()),
        ..MockOptions::default()
    })
    .unwrap();
    let finish = |body: &str| {
        let json = post(mock.addr(), CHAT, &[], body).json();
        (
            json["usage"]["completion_tokens"].as_u64().unwrap(),
            json["choices"][0]["finish_reason"]
                .as_str()
                .unwrap()
                .to_owned(),
        )
    };
    assert_eq!(finish(&chat("")), (50, "stop".to_owned()));
    assert_eq!(
        finish(&chat(r#","max_tokens":50"#)),
        (50, "stop".to_owned())
    );
    assert_eq!(
        finish(&chat(r#","max_tokens":10"#)),
        (10, "length".to_owned())
    );
}

#[test]
fn embeddings_come_as_numbers_and_as_base64_of_the_same_numbers() {
    use base64::Engine as _;
    let mock = mock();
    let ask = |format: &str| {
        let body = format!(
            r#"{{"model":"text-embedding-3-small","input":["one","two","one"],"dimensions":8,"encoding_format":"{format}"}}"#
        );
        post(mock.addr(), "/v1/embeddings", &[], &body).json()
    };
    let (numbers, base64) = (ask("float"), ask("base64"));
    assert_eq!(numbers["object"], "list");
    assert_eq!(
        numbers["usage"],
        serde_json::json!({"prompt_tokens": 3, "total_tokens": 3})
    );
    for index in 0..3 {
        let item = &numbers["data"][index];
        assert_eq!(
            (item["object"].as_str(), item["index"].as_u64()),
            (Some("embedding"), Some(index as u64))
        );
        let floats: Vec<f32> = item["embedding"]
            .as_array()
            .unwrap()
            .iter()
            .map(|x| x.as_f64().unwrap() as f32)
            .collect();
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(base64["data"][index]["embedding"].as_str().unwrap())
            .unwrap();
        let decoded: Vec<f32> = bytes
            .chunks(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        assert_eq!(floats, decoded);
        let length: f32 = floats.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5, "length² is {length}");
    }
    assert_eq!(
        numbers["data"][0]["embedding"],
        numbers["data"][2]["embedding"]
    );
    assert_ne!(
        numbers["data"][0]["embedding"],
        numbers["data"][1]["embedding"]
    );
}

#[test]
fn embeddings_have_1536_dimensions_unless_asked() {
    let mock = mock();
    for input in [r#""text""#, "[15339,1917]", "[[15339],[1917]]"] {
        let body = format!(r#"{{"model":"e","input":{input}}}"#);
        let json = post(mock.addr(), "/v1/embeddings", &[], &body).json();
        assert_eq!(
            json["data"][0]["embedding"].as_array().unwrap().len(),
            1536,
            "{input}"
        );
    }
}

#[test]
fn models_are_listed_and_shown() {
    let mock = MockProvider::start(MockOptions {
        models: vec!["gpt-4o".to_owned(), "gpt-4o-mini".to_owned()],
        name: "acme".to_owned(),
        ..MockOptions::default()
    })
    .unwrap();
    let list = get(mock.addr(), "/v1/models").json();
    assert_eq!(list["object"], "list");
    assert_eq!(
        list["data"][1],
        serde_json::json!({"id":"gpt-4o-mini","object":"model","created":1_715_367_049,"owned_by":"acme"})
    );
    assert_eq!(get(mock.addr(), "/v1/models/gpt-4o").json()["id"], "gpt-4o");
    assert_eq!(get(mock.addr(), "/v1/models/other").status, 404);
    let unknown = post(mock.addr(), CHAT, &[], r#"{"model":"gpt-5","messages":[]}"#);
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.json()["error"]["code"], "model_not_found");
    assert_eq!(mock.ledger().model_lists, 3);
}

#[test]
fn every_answer_has_openais_headers() {
    let mock = mock();
    let ids: Vec<String> = (0..2)
        .map(|_| {
            let got = post(mock.addr(), CHAT, &[], &chat(""));
            assert_eq!(got.headers["content-type"], "application/json");
            assert_eq!(got.headers["openai-organization"], "mock");
            assert_eq!(got.headers["openai-version"], "2020-10-01");
            assert_eq!(got.headers["x-ratelimit-limit-requests"], "10000");
            assert_eq!(got.headers["x-ratelimit-remaining-requests"], "9999");
            assert_eq!(got.headers["x-ratelimit-reset-tokens"], "6ms");
            assert!(got.headers["openai-processing-ms"].parse::<u64>().is_ok());
            got.headers["x-request-id"].clone()
        })
        .collect();
    assert!(
        ids[0].starts_with("req_") && ids[0].len() == 36,
        "{}",
        ids[0]
    );
    assert_ne!(ids[0], ids[1]);
}

/// Status, code and a part of the message of an error in OpenAI's envelope.
fn check_error(got: &Got, status: u16, code: Option<&str>, message: &str) {
    assert_eq!(got.status, status, "{}", got.text());
    let error = &got.json()["error"];
    assert_eq!(error["code"].as_str(), code, "{error}");
    assert!(
        error["message"].as_str().unwrap().contains(message),
        "{error}"
    );
    assert!(
        error["type"].is_string() && error.as_object().unwrap().contains_key("param"),
        "{error}"
    );
}

#[test]
fn errors_come_in_openais_envelope() {
    let mock = MockProvider::start(MockOptions {
        keys: vec!["sk-right".to_owned()],
        context_tokens: 100,
        ..MockOptions::default()
    })
    .unwrap();
    let addr = mock.addr();
    let key = [("authorization", "Bearer sk-right")];
    check_error(
        &post(addr, CHAT, &[], &chat("")),
        401,
        None,
        "You didn't provide an API key",
    );
    let wrong = post(
        addr,
        CHAT,
        &[("authorization", "Bearer sk-someone-else-1234")],
        &chat(""),
    );
    check_error(&wrong, 401, Some("invalid_api_key"), "****1234");
    assert!(
        !wrong.text().contains("someone"),
        "a stranger's key is never shown whole"
    );
    check_error(
        &post(addr, "/v1/nothing", &key, ""),
        404,
        None,
        "Invalid URL (POST /v1/nothing)",
    );
    check_error(&get(addr, CHAT), 405, Some("method_not_supported"), "GET");
    check_error(
        &post(addr, CHAT, &key, r#"{"model":"#),
        400,
        None,
        "line 1 column 9",
    );
    let no_messages = post(addr, CHAT, &key, r#"{"model":"m"}"#);
    check_error(
        &no_messages,
        400,
        Some("missing_required_parameter"),
        "'messages'",
    );
    check_error(
        &post(addr, CHAT, &key, &chat(r#","n":0"#)),
        400,
        Some("invalid_value"),
        "'n'",
    );
    let long = post(addr, CHAT, &key, &chat(r#","max_tokens":98"#));
    check_error(
        &long,
        400,
        Some("context_length_exceeded"),
        "maximum context length is 100",
    );
    check_error(
        &post(
            addr,
            CHAT,
            &[key[0], ("x-mock-fault", "explode")],
            &chat(""),
        ),
        400,
        Some("invalid_value"),
        "known are rate_limit",
    );
    check_error(
        &post(addr, "/v1/embeddings", &key, r#"{"model":"e","input":[]}"#),
        400,
        Some("invalid_value"),
        "empty",
    );
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = |seed| {
        let mock = MockProvider::start(MockOptions {
            seed,
            output_tokens: Some("lognormal:40,0.8".parse().unwrap()),
            ..MockOptions::default()
        })
        .unwrap();
        (0..5)
            .map(|_| without_created(post(mock.addr(), CHAT, &[], &chat("")).text()))
            .collect::<Vec<_>>()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn bad_options_and_a_port_in_use_are_explained() {
    let first = mock();
    let taken = MockOptions {
        listen: first.addr(),
        ..MockOptions::default()
    };
    let error = MockProvider::start(taken).unwrap_err().to_string();
    assert!(
        error.contains(&first.addr().to_string()) && error.contains("another address or port"),
        "{error}"
    );
    let none = MockOptions {
        workers: 0,
        ..MockOptions::default()
    };
    assert!(
        MockProvider::start(none)
            .unwrap_err()
            .to_string()
            .contains("workers")
    );
    let unknown = serde_json::from_str::<MockOptions>(r#"{"ttft":"25"}"#)
        .unwrap_err()
        .to_string();
    assert!(unknown.contains("25ms"), "{unknown}");
}
