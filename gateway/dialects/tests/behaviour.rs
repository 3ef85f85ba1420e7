//! What the golden corpus does not show: settings, hostile input, and whole conversations.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect"
)]

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use weir_dialects::{
    ApiError, ApiErrorKind, ClientApi, ClientRequest, FinishReason, PrepareError, ResponseMachine,
    Target, Unsupported, UpstreamRequest, inspect, prepare, relay_error, vendors,
};

fn try_prepare(
    api: ClientApi,
    body: &str,
    vendor: &str,
    model: &str,
    unsupported: Unsupported,
) -> Result<UpstreamRequest, PrepareError> {
    let body = Bytes::from(body.to_owned());
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

fn prepared(api: ClientApi, body: &str, vendor: &str) -> UpstreamRequest {
    try_prepare(api, body, vendor, "up", Unsupported::Refuse).unwrap()
}

fn text_of(upstream: &UpstreamRequest) -> String {
    String::from_utf8(upstream.body.to_bytes().to_vec()).unwrap()
}

/// What the client gets for the provider's answer.
fn answered(upstream: &UpstreamRequest, answer: &str, is_stream: bool) -> String {
    let mut machine = ResponseMachine::new(&upstream.context, is_stream);
    let mut out = machine
        .push(Bytes::from(answer.to_owned()))
        .unwrap()
        .to_vec();
    out.extend_from_slice(&machine.finish().unwrap());
    String::from_utf8(out).unwrap()
}

fn check_native(vendor: &str, body: &str, expect: &str) {
    let upstream = prepared(ClientApi::ChatCompletions, body, vendor);
    assert_eq!(text_of(&upstream), expect, "{vendor}");
}

#[test]
fn a_vendors_differences_are_edited_into_the_clients_bytes() {
    check_native(
        "deepseek",
        r#"{ "model":"up", "max_tokens":1 ,"max_completion_tokens": 5,"x":[1.0] }"#,
        r#"{ "model":"up", "max_tokens":5,"x":[1.0] }"#,
    );
    check_native(
        "glm",
        r#"{"user":"u","model":"up","messages":[{"role":"developer","name":"n","content":"developer"}],"n":1}"#,
        r#"{"model":"up","messages":[{"role":"system","content":"developer"}]}"#,
    );
    check_native(
        "mistral",
        r#"{"model":"up","stream":true,"stream_options":{"include_usage":true},"seed":7,"tool_choice":"required","messages":[{"tool_calls":[{"id":"call_abcdef"}]},{"tool_call_id":"call_abcdef"},{"tool_call_id":"abcDEF123"}]}"#,
        r#"{"model":"up","stream":true,"random_seed":7,"tool_choice":"any","messages":[{"tool_calls":[{"id":"3Rwd71ou0"}]},{"tool_call_id":"3Rwd71ou0"},{"tool_call_id":"abcDEF123"}]}"#,
    );
    check_native(
        "qwen",
        r#"{"model":"up","stream":true,"reasoning_effort":"low","messages":[]}"#,
        r#"{"stream_options":{"include_usage":true},"enable_thinking":true,"thinking_budget":1024,"model":"up","stream":true,"messages":[]}"#,
    );
    check_native(
        "glm",
        r#"{"model":"up","temperature":1.7}"#,
        r#"{"model":"up","temperature":1}"#,
    );
}

/// What vendors do not know that refuse unknown fields: marks of what is to be cached, calls of the
/// older kind.
#[test]
fn cache_marks_and_older_calls_are_kept_from_vendors_that_refuse_them() {
    let mark = r#","cache_control":{"type":"ephemeral"},"prompt_cache_breakpoint":{"mode":"x"}"#;
    let body = |mark: &str, call: &str| {
        format!(
            r#"{{"model":"up","tools":[{{"type":"function","function":{{"name":"f"}}{mark}}}],"messages":[{{"role":"user","content":[{{"type":"text","text":"cache_control"{mark}}}]}},{{"role":"assistant","content":"a"{call}}},{{"role":"user","content":"q"}}]}}"#
        )
    };
    let marked = body(mark, r#","function_call":null"#);
    for vendor in ["groq", "mistral"] {
        check_native(vendor, &marked, &body("", ""));
        let dropped = prepared(ClientApi::ChatCompletions, &marked, vendor).dropped;
        let places = ["tools[]", "messages[].content[]"];
        let expect = places.map(|place| {
            ["cache_control", "prompt_cache_breakpoint"].map(|mark| format!("{place}.{mark}"))
        });
        assert_eq!(dropped, expect.concat(), "{vendor}");
    }
    check_native("deepseek", &marked, &marked);
    let call = r#","function_call":{"name":"f","arguments":"{}"}"#;
    let called = body("", call);
    check_native("groq", &called, &called);
    let api = ClientApi::ChatCompletions;
    let refusal = try_prepare(api, &called, "mistral", "up", Unsupported::Refuse).unwrap_err();
    assert_eq!(refusal.field(), Some("messages[].function_call"));
}

#[test]
fn reasoning_moves_with_a_conversation_from_vendor_to_vendor() {
    let body = r#"{"model":"up","messages":[{"role":"assistant","content":"a","reasoning_content":"r","reasoning_details":[{"data":"weir.anthropic.e.x"}]}]}"#;
    check_native(
        "openai",
        body,
        r#"{"model":"up","messages":[{"role":"assistant","content":"a"}]}"#,
    );
    check_native(
        "groq",
        body,
        r#"{"model":"up","messages":[{"role":"assistant","content":"a","reasoning":"r"}]}"#,
    );
    check_native(
        "deepseek",
        body,
        r#"{"model":"up","messages":[{"role":"assistant","content":"a","reasoning_content":"r"}]}"#,
    );
}

#[test]
fn a_refusal_names_the_field_as_the_client_wrote_it() {
    let refused = |api, body: &str, vendor: &str| {
        let refusal = try_prepare(api, body, vendor, "up", Unsupported::Refuse).unwrap_err();
        let error = ApiError::from(&refusal);
        (
            error.kind.status(),
            error.param.unwrap_or_default().into_owned(),
        )
    };
    let chat = r#"{"model":"m","messages":[],"tools":[{"type":"web_search"}]}"#;
    assert_eq!(
        refused(ClientApi::ChatCompletions, chat, "anthropic"),
        (400, "tools[0]".to_owned())
    );
    let messages = r#"{"model":"m","messages":[],"top_k":3}"#;
    assert_eq!(
        refused(ClientApi::Messages, messages, "openai"),
        (400, "top_k".to_owned())
    );
    let responses = r#"{"model":"m","input":[{"type":"item_reference","id":"x"}]}"#;
    let expect = (400, "input[0] (item_reference)".to_owned());
    assert_eq!(refused(ClientApi::Responses, responses, "gemini"), expect);
    let glm = r#"{"model":"m","messages":[],"seed":1}"#;
    assert_eq!(
        refused(ClientApi::ChatCompletions, glm, "glm"),
        (400, "seed".to_owned())
    );
}

#[test]
fn a_second_signature_is_listed() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"u"},{"role":"assistant","content":"x","reasoning_details":[{"text":"t","signature":"weir.gemini.s.a","summary":"s","data":"b"}]},{"role":"user","content":"v"}]}"#;
    let upstream = prepared(ClientApi::ChatCompletions, body, "anthropic");
    let place = "messages[].reasoning_details[]";
    assert_eq!(
        upstream.dropped,
        [format!("{place}.summary"), format!("{place}.data")]
    );
}

#[test]
fn dropped_fields_are_listed() {
    let body = r#"{"model":"m","messages":[],"seed":1,"n":2,"store":true}"#;
    let api = ClientApi::ChatCompletions;
    let upstream = try_prepare(api, body, "anthropic", "up", Unsupported::Drop).unwrap();
    assert_eq!(upstream.dropped, ["store", "n", "seed"]);
}

#[test]
fn a_model_name_cannot_lead_out_of_its_place_in_a_url() {
    for model in [
        "../../x", "a/../b", "a?b", "a#b", "a%2fb", "", "a b", "a\u{e9}", "a//b", "/a",
    ] {
        let body = r#"{"model":"m","messages":[]}"#;
        let api = ClientApi::ChatCompletions;
        let refused = try_prepare(api, body, "gemini", model, Unsupported::Refuse);
        let expect = PrepareError::UnsafeModel {
            model: model.to_owned(),
        };
        assert_eq!(refused.err(), Some(expect), "{model}");
    }
    let upstream = try_prepare(
        ClientApi::ChatCompletions,
        r#"{"model":"m","messages":[],"stream":true}"#,
        "gemini",
        "tuned/models-1.5@x",
        Unsupported::Refuse,
    );
    assert_eq!(
        upstream.unwrap().path,
        "/models/tuned/models-1.5@x:streamGenerateContent?alt=sse"
    );
}

const FREE_TEXT: &str = r#"{"model":"m","stream":STREAM,"input":[],"tools":[{"type":"custom","name":"patch"},{"type":"function","name":"f","parameters":{}}]}"#;

#[test]
fn a_free_text_tool_is_called_with_free_text() {
    let chunk = |delta: &str| {
        format!("data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{delta}}}]}}\n\n")
    };
    let call = |rest: &str| chunk(&format!(r#"{{"tool_calls":[{{"index":0,{rest}}}]}}"#));
    let answer = [
        call(r#""id":"c1","function":{"name":"patch","arguments":""}"#),
        call(r#""function":{"arguments":"{\"input\": \"line"}"#),
        call(r#""function":{"arguments":" \\\"1\\\"\\n\"}"}"#),
        chunk(r#"{"tool_calls":[{"index":1,"id":"c2","function":{"name":"f","arguments":"{}"}}]}"#),
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n"
            .into(),
        "data: [DONE]\n\n".to_owned(),
    ]
    .concat();
    for stream in ["true", "false"] {
        let body = FREE_TEXT.replace("STREAM", stream);
        let upstream = prepared(ClientApi::Responses, &body, "deepseek");
        let text = answered(&upstream, &answer, true);
        let response: Value = match stream {
            "true" => {
                let last = text
                    .lines()
                    .rev()
                    .find_map(|line| line.strip_prefix("data: "));
                serde_json::from_str::<Value>(last.unwrap()).unwrap()["response"].clone()
            }
            _ => serde_json::from_str(&text).unwrap(),
        };
        let output = &response["output"];
        assert_eq!(output[0]["type"], "custom_tool_call");
        assert_eq!(output[0]["call_id"], "c1");
        assert_eq!(output[0]["input"], "line \"1\"\n");
        assert_eq!(output[1]["type"], "function_call");
        assert_eq!(output[1]["arguments"], "{}");
    }
}

#[test]
fn a_free_text_tool_is_a_function_at_responses_that_lack_it() {
    let history = r#"[{"type":"custom_tool_call","call_id":"c0","name":"patch","input":"a"},{"type":"custom_tool_call_output","call_id":"c0","output":"done"}]"#;
    let body = FREE_TEXT.replace("STREAM", "false").replace("[]", history);
    let upstream = prepared(ClientApi::Responses, &body, "xai");
    assert_eq!(upstream.path, "/responses");
    let sent: Value = serde_json::from_str(&text_of(&upstream)).unwrap();
    for tool in ["/tools/0", "/tools/1"] {
        assert_eq!(sent.pointer(tool).unwrap()["type"], "function", "{sent}");
    }
    assert_eq!(sent["input"][0]["type"], "function_call");
    assert_eq!(sent["input"][0]["arguments"], r#"{"input":"a"}"#);
    assert_eq!(sent["input"][1]["type"], "function_call_output");
    let answer = r#"{"id":"r1","object":"response","status":"completed","model":"grok","output":[{"type":"function_call","id":"i1","call_id":"c1","name":"patch","arguments":"{\"input\":\"b\"}","status":"completed"}],"usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2}}"#;
    let response: Value = serde_json::from_str(&answered(&upstream, answer, false)).unwrap();
    assert_eq!(
        response["output"][0]["type"], "custom_tool_call",
        "{response}"
    );
    assert_eq!(response["output"][0]["input"], "b");
    // OpenAI takes it, and without such a tool every byte passes.
    for (vendor, body) in [
        ("openai", body.as_str()),
        (
            "xai",
            r#"{"model":"up","input":"\"custom\"","tools":[{"type":"web_search"}]}"#,
        ),
    ] {
        let body = body.replace(r#""model":"m""#, r#""model":"up""#);
        let upstream = prepared(ClientApi::Responses, &body, vendor);
        assert_eq!(text_of(&upstream), body, "{vendor}");
    }
}

#[test]
fn a_signature_survives_the_way_through_every_client() {
    let thinking = r#"{"type":"message","id":"msg_1","model":"claude","content":[{"type":"thinking","thinking":"Hm \"so\"","signature":"SIG=="},{"type":"tool_use","id":"toolu_1","name":"f","input":{"a":1}}],"stop_reason":"tool_use","usage":{"input_tokens":1,"output_tokens":1}}"#;
    let expect: Value = serde_json::from_str(
        r#"[{"type":"thinking","thinking":"Hm \"so\"","signature":"SIG=="},{"type":"tool_use","id":"toolu_1","name":"f","input":{"a":1}}]"#,
    )
    .unwrap();

    let chat = prepared(
        ClientApi::ChatCompletions,
        r#"{"model":"m","messages":[]}"#,
        "anthropic",
    );
    let answer: Value = serde_json::from_str(&answered(&chat, thinking, false)).unwrap();
    let message = &answer["choices"][0]["message"];
    let next = format!(
        r#"{{"model":"m","messages":[{message},{{"role":"tool","tool_call_id":"toolu_1","content":"x"}}]}}"#
    );
    let next = prepared(ClientApi::ChatCompletions, &next, "anthropic");
    let sent: Value = serde_json::from_str(&text_of(&next)).unwrap();
    assert_eq!(sent["messages"][1]["content"], expect, "chat");

    let responses = prepared(
        ClientApi::Responses,
        r#"{"model":"m","input":[]}"#,
        "anthropic",
    );
    let answer: Value = serde_json::from_str(&answered(&responses, thinking, false)).unwrap();
    let next = format!(r#"{{"model":"m","input":{}}}"#, answer["output"]);
    let next = prepared(ClientApi::Responses, &next, "anthropic");
    let sent: Value = serde_json::from_str(&text_of(&next)).unwrap();
    assert_eq!(sent["messages"][1]["content"], expect, "responses");
}

#[test]
fn a_thought_signature_of_gemini_survives_the_way_through_every_client() {
    let answer = r#"{"candidates":[{"content":{"parts":[{"text":"Hm","thought":true},{"functionCall":{"name":"f","args":{"a":1}},"thoughtSignature":"SIG="}]},"finishReason":"STOP"}]}"#;
    let expect: Value = serde_json::from_str(
        r#"[{"functionCall":{"name":"f","args":{"a":1}},"thoughtSignature":"SIG="}]"#,
    )
    .unwrap();
    let again = |api: ClientApi, first: &str, next: &dyn Fn(&Value) -> String| {
        let upstream = prepared(api, first, "gemini");
        let given: Value = serde_json::from_str(&answered(&upstream, answer, false)).unwrap();
        let upstream = prepared(api, &next(&given), "gemini");
        let sent: Value = serde_json::from_str(&text_of(&upstream)).unwrap();
        assert_eq!(sent["contents"][1]["parts"], expect, "{api:?}");
    };
    let messages = r#"{"model":"m","messages":[]}"#;
    again(ClientApi::ChatCompletions, messages, &|given| {
        format!(
            r#"{{"model":"m","messages":[{}]}}"#,
            given["choices"][0]["message"]
        )
    });
    again(ClientApi::Messages, messages, &|given| {
        let content = &given["content"];
        format!(r#"{{"model":"m","messages":[{{"role":"assistant","content":{content}}}]}}"#)
    });
    again(
        ClientApi::Responses,
        r#"{"model":"m","input":[]}"#,
        &|given| format!(r#"{{"model":"m","input":{}}}"#, given["output"]),
    );
}

#[test]
fn encrypted_reasoning_of_openai_survives_the_way_through_a_messages_client() {
    let answer = r#"{"id":"resp_1","status":"completed","output":[{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"ENC"},{"type":"message","content":[{"type":"output_text","text":"Hi"}]}]}"#;
    let first = prepared(
        ClientApi::Messages,
        r#"{"model":"m","messages":[]}"#,
        "openai-responses",
    );
    let given: Value = serde_json::from_str(&answered(&first, answer, false)).unwrap();
    let next = format!(
        r#"{{"model":"m","messages":[{{"role":"assistant","content":{}}},{{"role":"user","content":"And?"}}]}}"#,
        given["content"]
    );
    let upstream = prepared(ClientApi::Messages, &next, "openai-responses");
    let sent: Value = serde_json::from_str(&text_of(&upstream)).unwrap();
    assert_eq!(sent["input"][0]["type"], "reasoning");
    assert_eq!(sent["input"][0]["id"], "rs_1");
    assert_eq!(sent["input"][0]["encrypted_content"], "ENC");
    // Anthropic, to which the conversation may move, is not shown it.
    let upstream = prepared(ClientApi::Messages, &next, "anthropic");
    let sent: Value = serde_json::from_str(&text_of(&upstream)).unwrap();
    let content = &sent["messages"][0]["content"];
    assert_eq!(content, &json!([{"type": "text", "text": "Hi"}]));
}

#[test]
fn errors_arrive_in_the_clients_words() {
    let upstream = prepared(
        ClientApi::Messages,
        r#"{"model":"m","messages":[]}"#,
        "openai",
    );
    let body = Bytes::from_static(
        br#"{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}"#,
    );
    let mut headers = HeaderMap::new();
    headers.insert("retry-after", HeaderValue::from_static("3"));
    let vendor = vendors::find("openai").unwrap();
    let facts = vendor.classify_error(429, &headers, &body, SystemTime::UNIX_EPOCH);
    let response = relay_error(&upstream.context, "openai", 429, &facts, &body, "01a2");
    assert_eq!(response.status, 429);
    assert_eq!(response.headers["retry-after"], "3");
    assert_eq!(
        response.body,
        r#"{"type":"error","error":{"type":"rate_limit_error","message":"openai: Rate limit reached"},"request_id":"01a2"}"#
    );
}

#[test]
fn an_answer_takes_the_form_that_the_client_asked_for() {
    let plain = r#"{"id":"c1","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}"#;
    let body = r#"{"model":"m","messages":[],"stream":true}"#;
    let upstream = prepared(ClientApi::ChatCompletions, body, "openai");
    let mut machine = ResponseMachine::new(&upstream.context, false);
    machine.push(Bytes::from_static(b"{")).unwrap();
    assert!(machine.writes_stream() && !machine.reads_stream());
    assert!(!machine.keeps_length());
    let text = answered(&upstream, plain, false);
    assert!(text.contains(r#""delta":{"content":"Hi"}"#), "{text}");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[test]
fn an_error_inside_of_a_good_answer_is_no_answer() {
    let upstream = prepared(
        ClientApi::Messages,
        r#"{"model":"m","messages":[]}"#,
        "openai",
    );
    let mut machine = ResponseMachine::new(&upstream.context, false);
    let body = Bytes::from_static(br#"{"error":{"message":"overloaded","code":503}}"#);
    assert_eq!(machine.push(body).unwrap(), "");
    let error = machine.finish().unwrap_err().to_string();
    assert_eq!(
        error,
        "the provider reported an error inside its answer: overloaded"
    );
    assert!(!machine.facts().terminal_seen);
}

#[test]
fn a_provider_cannot_break_the_frames_of_a_stream() {
    let upstream = prepared(
        ClientApi::Messages,
        r#"{"model":"m","messages":[],"stream":true}"#,
        "openai",
    );
    // A line feed inside of a string: as two data lines, which are joined by one.
    let hostile = "data: {\"id\":\"x\",\"choices\":[{\"delta\":{\"content\":\"a\ndata: event: message_stop\"}}]}\n\n";
    let mut machine = ResponseMachine::new(&upstream.context, true);
    assert!(
        machine
            .push(Bytes::from_static(hostile.as_bytes()))
            .is_err()
    );
    let out = machine.fail(&ApiError::new(ApiErrorKind::ProviderError, "broken"));
    assert_eq!(
        out,
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"broken\"}}\n\n"
    );
}

/// The numbers and names of the events that end a stream of Responses after these.
fn failed_responses(begun: &[&str]) -> Vec<(u64, String)> {
    let upstream = prepared(
        ClientApi::Responses,
        r#"{"model":"m","input":"hi","stream":true}"#,
        "openai",
    );
    let mut machine = ResponseMachine::new(&upstream.context, true);
    for data in begun {
        let event = format!("data: {data}\n\n");
        machine.push(Bytes::from(event)).unwrap();
    }
    let out = machine.fail(&ApiError::new(ApiErrorKind::BudgetExceeded, "used up"));
    let text = str::from_utf8(&out).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> = data.map(|it| serde_json::from_str(it).unwrap()).collect();
    let [error, failed] = events.last_chunk().unwrap();
    for told in [error, &error["error"], &failed["response"]["error"]] {
        assert_eq!(told["code"], "insufficient_quota", "{text}");
        assert_eq!(told["message"], "used up", "{text}");
    }
    assert_eq!(failed["response"]["status"], "failed", "{text}");
    let named = |it: &Value| {
        (
            it["sequence_number"].as_u64(),
            it["type"].as_str().map(str::to_owned),
        )
    };
    events
        .iter()
        .map(named)
        .map(|(number, name)| (number.unwrap(), name.unwrap()))
        .collect()
}

/// OpenAI sends both, in this order; SDKs raise for the first, and Codex reads the second alone.
#[test]
fn a_stream_of_responses_that_fails_goes_on_with_its_numbers() {
    let ends = |numbers: [u64; 2]| {
        [
            (numbers[0], "error".to_owned()),
            (numbers[1], "response.failed".to_owned()),
        ]
    };
    let created = r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1"}}"#;
    let seventh = r#"{"type":"response.output_text.delta","sequence_number":6,"delta":"a"}"#;
    let unnumbered = r#"{"type":"response.output_text.delta","delta":"a"}"#;
    assert_eq!(failed_responses(&[created, seventh]), ends([7, 8]));
    assert_eq!(failed_responses(&[created, unnumbered]), ends([2, 3]));
    let all = failed_responses(&[]);
    assert_eq!(all[0], (0, "response.created".to_owned()));
    assert_eq!(all[2..], ends([2, 3]));
}

#[test]
fn nothing_comes_after_the_end() {
    let upstream = prepared(
        ClientApi::Messages,
        r#"{"model":"m","messages":[],"stream":true}"#,
        "openai",
    );
    let mut machine = ResponseMachine::new(&upstream.context, true);
    let answer = "data: {\"id\":\"x\",\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    machine.push(Bytes::from_static(answer.as_bytes())).unwrap();
    assert!(machine.facts().terminal_seen);
    assert_eq!(machine.facts().finish_reason, Some(FinishReason::Stop));
    let late = Bytes::from_static(
        b"data: {\"choices\":[{\"delta\":{\"content\":\"late\"}}]}\n\ndata: [DONE]\n\n",
    );
    assert_eq!(machine.push(late).unwrap(), "");
    assert_eq!(machine.finish().unwrap(), "");
}

/// Found by fuzzing: such a stream reached the client without what begins one.
#[test]
fn an_answer_begins_once_whatever_the_provider_forgets_or_repeats() {
    let body =
        r#"{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"x"}]}"#;
    let upstream = prepared(ClientApi::Messages, body, "gemini");
    let mut machine = ResponseMachine::new(&upstream.context, true);
    let empty = machine.push(Bytes::from_static(
        b"data: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\n\n",
    ));
    let text = String::from_utf8(empty.unwrap().to_vec()).unwrap();
    assert_eq!(text.matches("event: message_start").count(), 1, "{text}");

    let upstream = prepared(ClientApi::Messages, body, "openai-responses");
    let created = "data: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\n";
    let text =
        "data: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"x\"}\n\n";
    for stream in [format!("{created}{created}{text}"), text.to_owned()] {
        let mut machine = ResponseMachine::new(&upstream.context, true);
        let out = machine.push(Bytes::from(stream)).unwrap();
        let out = String::from_utf8(out.to_vec()).unwrap();
        assert_eq!(out.matches("event: message_start").count(), 1, "{out}");
        assert!(out.starts_with("event: message_start"), "{out}");
    }
}

/// LiteLLM's SDK could not bring an answer back to a provider of another dialect.
#[test]
fn what_clients_note_about_an_answer_does_not_stand_in_the_way() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y",
        "provider_specific_fields":{"refusal":null},"annotations":[]},{"role":"user","content":"z"}]}"#;
    for vendor in ["openai-responses", "anthropic", "gemini"] {
        let text = text_of(&prepared(ClientApi::ChatCompletions, body, vendor));
        assert!(!text.contains("provider_specific_fields"), "{text}");
    }
}

/// How a client brings back what it was answered, and a tool's result after it.
fn bring_back(api: ClientApi, history: &mut Vec<Value>, answer: &Value) {
    match api {
        ClientApi::ChatCompletions => {
            let message = &answer["choices"][0]["message"];
            history.push(message.clone());
            let id = &message["tool_calls"][0]["id"];
            history.push(json!({"role": "tool", "tool_call_id": id, "content": "x"}));
        }
        ClientApi::Messages => {
            let content = answer["content"].as_array().unwrap();
            let call = content.iter().find(|block| block["type"] == "tool_use");
            let id = &call.unwrap()["id"];
            let result = json!({"type": "tool_result", "tool_use_id": id, "content": "x"});
            history.push(json!({"role": "assistant", "content": content}));
            history.push(json!({"role": "user", "content": [result]}));
        }
        _ => {
            let items = answer["output"].as_array().unwrap();
            let call = items.iter().find(|item| item["type"] == "function_call");
            let id = &call.unwrap()["call_id"];
            history.extend(items.iter().cloned());
            history.push(json!({"type": "function_call_output", "call_id": id, "output": "x"}));
        }
    }
}

/// What a provider answers in a turn: reasoning with its proofs, and a call.
fn reasoned(vendor: &str, turn: usize) -> String {
    let proof = format!("SIG{turn}");
    let answer = match vendor {
        "anthropic" => {
            json!({"type": "message", "id": "msg", "stop_reason": "tool_use", "content": [
            {"type": "thinking", "thinking": "Hm", "signature": proof},
            {"type": "redacted_thinking", "data": format!("RED{turn}")},
            {"type": "tool_use", "id": format!("toolu_{turn}"), "name": "f", "input": {}}]})
        }
        "gemini" => json!({"candidates": [{"finishReason": "STOP", "content": {"parts": [
            {"text": "Hm", "thought": true},
            {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": proof}]}}]}),
        _ => json!({"id": "resp_1", "status": "completed", "output": [
            {"type": "reasoning", "id": format!("rs_{turn}"), "summary": [], "encrypted_content": proof},
            {"type": "function_call", "call_id": format!("call_{turn}"), "name": "f", "arguments": "{}"}]}),
    };
    answer.to_string()
}

#[test]
fn proofs_of_reasoning_survive_three_turns_between_every_pair() {
    for (api, vendor) in [
        (ClientApi::ChatCompletions, "anthropic"),
        (ClientApi::ChatCompletions, "gemini"),
        (ClientApi::ChatCompletions, "openai-responses"),
        (ClientApi::Messages, "gemini"),
        (ClientApi::Messages, "openai-responses"),
        (ClientApi::Responses, "anthropic"),
        (ClientApi::Responses, "gemini"),
    ] {
        let key = match api {
            ClientApi::Responses => "input",
            _ => "messages",
        };
        let mut history = vec![json!({"role": "user", "content": "go"})];
        for turn in 0..3 {
            let body = json!({"model": "m", key: history}).to_string();
            let upstream = prepared(api, &body, vendor);
            let answer = answered(&upstream, &reasoned(vendor, turn), false);
            bring_back(api, &mut history, &serde_json::from_str(&answer).unwrap());
        }
        let body = json!({"model": "m", key: history}).to_string();
        let sent = text_of(&prepared(api, &body, vendor));
        let proofs = (0..3).flat_map(|turn| match vendor {
            "anthropic" => vec![format!("\"SIG{turn}\""), format!("\"RED{turn}\"")],
            _ => vec![format!("\"SIG{turn}\"")],
        });
        let places: Vec<_> = proofs.map(|proof| sent.find(&proof)).collect();
        let whole = format!("{api:?} at {vendor}: {places:?} in {sent}");
        assert!(places.iter().all(Option::is_some), "{whole}");
        assert!(places.is_sorted(), "{whole}");
        assert!(!sent.contains("weir."), "{whole}");
    }
}

/// A conversation that began at a vendor with long ids was refused by OpenAI.
#[test]
fn ids_of_calls_fit_wherever_the_conversation_goes() {
    let long = "functions.look_up_everything_there_is_to_know:0";
    let chat = json!({"model": "up", "messages": [
        {"role": "assistant", "tool_calls": [
            {"id": long, "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": long, "content": "x"}]});
    let messages = json!({"model": "up", "messages": [
        {"role": "assistant", "content": [{"type": "tool_use", "id": long, "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": long, "content": "x"}]}]});
    for (api, body) in [
        (ClientApi::ChatCompletions, &chat),
        (ClientApi::Messages, &messages),
    ] {
        let sent = text_of(&prepared(api, &body.to_string(), "openai"));
        let sent: Value = serde_json::from_str(&sent).unwrap();
        let id = &sent["messages"][0]["tool_calls"][0]["id"];
        assert!(id.as_str().unwrap().len() <= 40, "{sent}");
        assert_eq!(*id, sent["messages"][1]["tool_call_id"]);
    }
    // Other vendors get the client's id.
    check_native("vllm", &chat.to_string(), &chat.to_string());
}

/// Ids that were made from a request's were longer than OpenAI allows.
#[test]
fn an_id_that_the_gateway_makes_fits_everywhere() {
    let body = Bytes::from_static(br#"{"model":"m","messages":[]}"#);
    let request = ClientRequest {
        api: ClientApi::ChatCompletions,
        headers: &HeaderMap::new(),
        query: None,
        body: &body,
        facts: &inspect(ClientApi::ChatCompletions, &body).unwrap(),
        output_limit: None,
        request_id: "01890a5d-ac96-774b-bcce-b302099a8057",
        now_s: 0,
    };
    let target = Target::new(vendors::find("gemini").unwrap(), "up");
    let upstream = prepare(&request, &target).unwrap();
    let answer = answered(&upstream, &reasoned("gemini", 0), false);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let id = answer["choices"][0]["message"]["tool_calls"][0]["id"].as_str();
    assert_eq!(id, Some("call_01890a5dac96774bbcceb302099a8057_0"));
    assert!(id.unwrap().len() <= 40);
}

/// Claude refuses a block of nothing but white space, and clients return what they got.
#[test]
fn a_messages_client_gets_no_text_that_claude_refuses_to_get_back() {
    let body = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"q"}],"tools":[{"name":"f","input_schema":{"type":"object","properties":{}}}]}"#;
    let call = r#""tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]"#;
    let chunk = |delta: &str, reason: &str| {
        format!(
            "data: {{\"id\":\"c\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{{delta}}},\"finish_reason\":{reason}}}]}}\n\n"
        )
    };
    for (texts, expect) in [
        (vec!["\\n", "\\n"], None),
        (vec![" \\t"], None),
        (vec!["\\n", "\\nHi", " "], Some("\n\nHi ")),
        (vec!["Hi", "\\n\\n"], Some("Hi\n\n")),
    ] {
        let upstream = prepared(ClientApi::Messages, body, "openai-compatible");
        let plain = format!(
            r#"{{"id":"c","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}",{call}}},"finish_reason":"tool_calls"}}]}}"#,
            texts.concat()
        );
        let plain: Value = serde_json::from_str(&answered(&upstream, &plain, false)).unwrap();
        let blocks = plain["content"].as_array().unwrap();
        let text = blocks.iter().find(|block| block["type"] == "text");
        let text = text.map(|block| block["text"].as_str().unwrap());
        assert_eq!(text, expect, "{plain}");

        let streamed = body.replacen('{', "{\"stream\":true,", 1);
        let upstream = prepared(ClientApi::Messages, &streamed, "openai-compatible");
        let mut stream: String = texts
            .iter()
            .map(|text| chunk(&format!("\"content\":\"{text}\""), "null"))
            .collect();
        stream += &chunk(call, "null");
        stream += &chunk("", "\"tool_calls\"");
        let got = answered(&upstream, &(stream + "data: [DONE]\n\n"), true);
        let events = got.lines().filter_map(|line| line.strip_prefix("data: "));
        let deltas = events
            .map(|data| serde_json::from_str::<Value>(data).unwrap())
            .filter(|event| event["delta"]["type"] == "text_delta");
        let text: String = deltas
            .map(|event| event["delta"]["text"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(text, expect.unwrap_or_default(), "{got}");
        assert_eq!(got.contains(r#""type":"text""#), expect.is_some(), "{got}");
    }
}

/// Bodies with status 200 and no answer: another server's state, an aggregator's failure, MiniMax's
/// status. They are failures, which the next attempt may mend, and no empty answers.
#[test]
fn what_holds_no_answer_is_no_success() {
    let bodies = [
        "{}",
        r#"{"status":"ok"}"#,
        r#"{"id":"x"}"#,
        r#"{"success":false,"msg":"internal error","code":500}"#,
        r#"{"id":"x","choices":null,"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}"#,
        r#"{"choices":[],"content":null,"candidates":[],"output":null}"#,
    ];
    let clients = [
        (
            ClientApi::ChatCompletions,
            r#"{"model":"up","messages":[{"role":"user","content":"x"}]}"#,
        ),
        (
            ClientApi::Messages,
            r#"{"model":"up","max_tokens":99,"messages":[{"role":"user","content":"x"}]}"#,
        ),
        (ClientApi::Responses, r#"{"model":"up","input":"x"}"#),
    ];
    for vendor in [
        "openai-compatible",
        "openai-responses",
        "anthropic",
        "gemini",
    ] {
        for (api, request) in clients {
            for body in bodies {
                let upstream = prepared(api, request, vendor);
                let mut machine = ResponseMachine::new(&upstream.context, false);
                let _ = machine.push(Bytes::from(body.to_owned()));
                let has_failed = machine.finish().is_err();
                let facts = machine.into_facts();
                assert!(
                    has_failed || facts.provider_error.is_some(),
                    "{api:?} at {vendor}: {body}"
                );
            }
        }
    }
}

/// OpenRouter reports an error in the place of a plain answer's choice.
#[test]
fn an_error_in_a_choice_is_one_for_every_client() {
    let body = r#"{"id":"g","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"error","error":{"code":429,"message":"rate limit"}}],"usage":{"prompt_tokens":9,"completion_tokens":1}}"#;
    for (api, request) in [
        (
            ClientApi::ChatCompletions,
            r#"{"model":"up","messages":[{"role":"user","content":"x"}]}"#,
        ),
        (
            ClientApi::Messages,
            r#"{"model":"up","max_tokens":99,"messages":[{"role":"user","content":"x"}]}"#,
        ),
        (ClientApi::Responses, r#"{"model":"up","input":"x"}"#),
    ] {
        let upstream = prepared(api, request, "openrouter");
        let mut machine = ResponseMachine::new(&upstream.context, false);
        let _ = machine.push(Bytes::from(body.to_owned()));
        let _ = machine.finish();
        let facts = machine.into_facts();
        let kind = facts.provider_error.map(|error| error.kind.as_str());
        assert_eq!(kind, Some("rate_limited"), "{api:?}");
        assert_eq!(facts.usage.unwrap().input_tokens, Some(9), "{api:?}");
    }
}
