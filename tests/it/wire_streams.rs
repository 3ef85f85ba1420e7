//! Streams in orders and forms that were met at providers, through the gateway: what the client gets, with
//! which content type, and what is captured of it. `weir-dialects` tries many more of the same kinds.

use std::io::Write as _;

use serde_json::Value;
use weir_tests::http::{Answer, Request, serve};
use weir_tests::weir::Installation;

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";
const SSE: &str = "text/event-stream";
const JSON: &str = "application/json";

/// What a provider answers, what a client asks for, and what it must get.
struct Case {
    name: &'static str,
    dialect: &'static str,
    /// Header lines.
    head: &'static str,
    body: Vec<u8>,
    path: &'static str,
    streamed: bool,
    status: u16,
    /// Stands in the answer, once.
    holds: &'static str,
    /// Stands in the captured answer.
    captured: &'static str,
}

const STREAMS: &str = "content-type: text/event-stream\r\n";
const PLAIN: &str = "content-type: application/json\r\n";

impl Case {
    fn new(
        name: &'static str,
        dialect: &'static str,
        head: &'static str,
        body: impl Into<Vec<u8>>,
    ) -> Self {
        Self {
            name,
            dialect,
            head,
            body: body.into(),
            path: CHAT,
            streamed: true,
            status: 200,
            holds: "",
            captured: "",
        }
    }

    fn at(self, path: &'static str) -> Self {
        Self { path, ..self }
    }

    fn plain(self) -> Self {
        Self {
            streamed: false,
            ..self
        }
    }

    fn gives(self, holds: &'static str, captured: &'static str) -> Self {
        Self {
            holds,
            captured,
            ..self
        }
    }

    fn refused(self, status: u16, holds: &'static str) -> Self {
        Self {
            status,
            holds,
            ..self
        }
    }
}

fn stream(events: &[&str]) -> String {
    events
        .iter()
        .map(|data| format!("data: {data}\n\n"))
        .collect()
}

const TEXT: &str = "the weir is high";
const CHUNK: &str = r#"{"id":"c1","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"the weir is high"}}]}"#;
const STOP: &str =
    r#"{"id":"c1","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const WHOLE: &str = r#"{"id":"c1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"the weir is high"},"finish_reason":"stop"}]}"#;
const CREATED: &str = r#"{"type":"response.created","response":{"id":"resp_1","model":"m","status":"in_progress","output":[]}}"#;

/// Two calls that begin one after the other, and then get their arguments in turn.
fn interleaved() -> Vec<Case> {
    let call = |rest: &str| {
        format!(
            r#"{{"id":"c1","model":"m","choices":[{{"index":0,"delta":{{"tool_calls":[{rest}]}}}}]}}"#
        )
    };
    let events = [
        call(r#"{"index":0,"id":"a","function":{"name":"read","arguments":""}}"#),
        call(r#"{"index":1,"id":"b","function":{"name":"write","arguments":""}}"#),
        call(r#"{"index":0,"function":{"arguments":"{\"path\":"}}"#),
        call(r#"{"index":1,"function":{"arguments":"{\"line\":"}}"#),
        call(r#"{"index":0,"function":{"arguments":"\"/x\"}"}}"#),
        call(r#"{"index":1,"function":{"arguments":"7}"}}"#),
        STOP.to_owned(),
        "[DONE]".to_owned(),
    ];
    let body = stream(&events.each_ref().map(String::as_str));
    let case = |name, path| Case::new(name, "openai-compatible", STREAMS, body.clone()).at(path);
    vec![
        case("interleaved-messages", MESSAGES)
            .gives(r#""stop_reason":"tool_use""#, r#""input":{"line":7}"#),
        case("interleaved-responses", RESPONSES).gives("response.completed\n", r#"{\"line\":7}"#),
        case("interleaved-plain", MESSAGES)
            .plain()
            .gives(r#""input":{"path":"/x"}"#, r#""input":{"line":7}"#),
    ]
}

/// Responses that say things only at the end, with `[DONE]` behind it or without.
fn said_at_the_end() -> Vec<Case> {
    let item = r#"{"id":"fc_1","type":"function_call","status":"completed","call_id":"a","name":"read","arguments":"{\"path\":\"/x\"}"}"#;
    let added = r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"fc_1","type":"function_call","call_id":"a","name":"read","arguments":""}}"#;
    let arguments = r#"{"type":"response.function_call_arguments.done","output_index":0,"item_id":"fc_1","arguments":"{\"path\":\"/x\"}"}"#;
    let done = format!(r#"{{"type":"response.output_item.done","output_index":0,"item":{item}}}"#);
    let text = r#"{"type":"response.output_text.done","output_index":0,"content_index":0,"item_id":"msg_1","text":"the weir is high"}"#;
    let message = r#"{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"the weir is high","annotations":[]}]}"#;
    let end = |output: &str| {
        format!(
            r#"{{"type":"response.completed","response":{{"id":"resp_1","model":"m","status":"completed","output":[{output}],"usage":{{"input_tokens":3,"output_tokens":2}}}}}}"#
        )
    };
    let call_end = end(item);
    let text_end = end(message);
    let bare_end = end("");
    let streams = [
        (
            ["args-chat", "args-messages", "args-native"],
            vec![CREATED, added, arguments, &bare_end],
        ),
        (
            ["item-chat", "item-messages", "item-native"],
            vec![CREATED, added, &done, &bare_end, "[DONE]"],
        ),
        (
            ["call-chat", "call-messages", "call-native"],
            vec![CREATED, &call_end],
        ),
        (
            ["text-chat", "text-messages", "text-native"],
            vec![CREATED, text, &bare_end, "[DONE]"],
        ),
        (
            ["end-chat", "end-messages", "end-native"],
            vec![CREATED, &text_end, "[DONE]"],
        ),
    ];
    let mut cases = Vec::new();
    for (names, events) in streams {
        let is_text = names[0].starts_with("text") || names[0].starts_with("end");
        for (name, path) in names.into_iter().zip([CHAT, MESSAGES, RESPONSES]) {
            let case = Case::new(name, "openai-responses", STREAMS, stream(&events)).at(path);
            cases.push(match (is_text, path) {
                (true, RESPONSES) => {
                    case.gives("resp_1\",\"model\":\"m\",\"status\":\"completed", TEXT)
                }
                (true, _) => case.gives(TEXT, TEXT),
                (false, MESSAGES) => case.gives(
                    r#""partial_json":"{\"path\":\"/x\"}"#,
                    r#""input":{"path":"/x"}"#,
                ),
                (false, CHAT) => {
                    case.gives(r#""arguments":"{\"path\":\"/x\"}"#, r#"{\"path\":\"/x\"}"#)
                }
                (false, _) => case.gives("response.completed", r#"{\"path\":\"/x\"}"#),
            });
        }
    }
    cases
}

/// Answers in another form than was asked for, or than their header says.
fn forms() -> Vec<Case> {
    let body = stream(&[CHUNK, STOP, "[DONE]"]);
    let case =
        |name, head, body: &str| Case::new(name, "openai-compatible", head, body).gives(TEXT, TEXT);
    vec![
        case("form-json", PLAIN, WHOLE),
        case("form-json-messages", PLAIN, WHOLE).at(MESSAGES),
        case("form-json-responses", PLAIN, WHOLE)
            .at(MESSAGES)
            .plain(),
        case("form-json-as-sse", STREAMS, WHOLE),
        case("form-sse", STREAMS, &body).plain(),
        case("form-sse-as-json", PLAIN, &body).plain(),
        case("form-sse-messages", STREAMS, &body)
            .plain()
            .at(MESSAGES),
        case("form-text", "content-type: text/plain\r\n", &body),
        case("form-text-json", "content-type: text/plain\r\n", WHOLE).plain(),
        case("form-none", "", &body),
        case("form-none-messages", "", &body).at(MESSAGES),
        case(
            "form-case",
            "content-type: Text/Event-Stream; Charset=\"UTF-8\"\r\n",
            &body,
        ),
        case("form-bom", STREAMS, &format!("\u{feff}{body}")),
        case("form-bom-messages", STREAMS, &format!("\u{feff}{body}")).at(MESSAGES),
        case("form-bom-json", PLAIN, &format!("\u{feff}{WHOLE}")).plain(),
        case("form-cr", STREAMS, &body.replace('\n', "\r")).at(MESSAGES),
        case("form-crlf", STREAMS, &body.replace('\n', "\r\n"))
            .at(RESPONSES)
            .gives("response.completed\n", TEXT),
        case(
            "form-error",
            PLAIN,
            r#"{"error":{"message":"too busy","type":"server_error","code":503}}"#,
        )
        .gives("", "")
        .refused(503, "too busy"),
    ]
}

/// Bodies that are compressed although nobody asked for that.
fn compressed() -> Vec<Case> {
    const GZIP: &str = "content-type: application/json\r\ncontent-encoding: gzip\r\n";
    const GZIP_STREAM: &str = "content-type: text/event-stream\r\ncontent-encoding: gzip\r\n";
    const DEFLATE: &str = "content-type: application/json\r\ncontent-encoding: deflate\r\n";
    const BROTLI: &str = "content-type: application/json\r\ncontent-encoding: br\r\n";
    let text = "The river is let through.";
    let case = |name, head, body: &[u8]| {
        Case::new(name, "openai-compatible", head, body).gives(text, text)
    };
    vec![
        case("gzip-native", GZIP, PACKED).plain(),
        case("gzip-messages", GZIP, PACKED).plain().at(MESSAGES),
        case("deflate-native", DEFLATE, DEFLATED).plain(),
        case("gzip-unsaid", PLAIN, PACKED).plain(),
        case("gzip-unsaid-messages", PLAIN, PACKED)
            .plain()
            .at(MESSAGES),
        case("gzip-unsaid-stream", STREAMS, PACKED_STREAM),
        case("gzip-stream", GZIP_STREAM, PACKED_STREAM),
        case("gzip-stream-messages", GZIP_STREAM, PACKED_STREAM).at(MESSAGES),
        case("brotli", BROTLI, PACKED)
            .plain()
            .gives("", "")
            .refused(502, "compressed (br)"),
        case("gzip-broken", GZIP, &PACKED[..60])
            .plain()
            .gives("", "")
            .refused(502, "ended before"),
    ]
}

/// Ends and errors in words that are not the dialect's.
fn ends() -> Vec<Case> {
    let call = r#"{"id":"c1","model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"read","arguments":"{}"}}]}}]}"#;
    let blank = r#"{"id":"c1","model":"m","choices":[{"index":0,"delta":{},"finish_reason":""}]}"#;
    let none = r#"{"id":"c1","model":"m","choices":[{"index":0,"delta":{},"finish_reason":null}]}"#;
    let late = [
        r#"{"id":"c1","model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":1}"}}]}}]}"#,
        r#"{"id":"c1","model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":"re"}}]}}]}"#,
        r#"{"id":"c1","model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"ad"}}]}}]}"#,
        STOP,
        "[DONE]",
    ];
    let error = "event: error\ndata: {\"message\":\"too busy\",\"code\":503}\n\n";
    let begun = stream(&[CHUNK]) + error;
    let case = |name, body: String| Case::new(name, "openai-compatible", STREAMS, body);
    vec![
        case("blank-reason", stream(&[call, blank]))
            .at(MESSAGES)
            .gives(r#""stop_reason":"tool_use""#, "read"),
        case("no-reason", stream(&[call, none, "[DONE]"]))
            .at(MESSAGES)
            .gives(r#""stop_reason":"tool_use""#, "read"),
        case("late-name", stream(&late))
            .at(MESSAGES)
            .gives(r#""name":"read""#, r#""input":{"a":1}"#),
        case("late-name-native", stream(&late)).gives("[DONE]", r#""name":"read""#),
        case("named-error", error.to_owned()).refused(503, "too busy"),
        case("named-error-messages", error.to_owned())
            .at(MESSAGES)
            .refused(529, "too busy"),
        case("named-error-later", begun.clone()).refused(503, "too busy"),
        case("named-error-later-messages", begun)
            .at(MESSAGES)
            .refused(529, "too busy"),
        case(
            "bare-error",
            stream(&[r#"{"object":"error","message":"too busy","code":503}"#]),
        )
        .at(MESSAGES)
        .refused(529, "too busy"),
    ]
}

fn config(address: &str, cases: &[Case]) -> String {
    let of_case = |case: &Case| {
        let (name, dialect) = (case.name, case.dialect);
        format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"{dialect}\"\nbase_url = \"http://{address}/v1\"\n\n\
             [[alias]]\nname = \"{name}\"\ntargets = [{{ provider = \"{name}\", model = \"{name}\" }}]\n\n"
        )
    };
    let head = "[payloads]\ncapture = \"full\"\n\n".to_owned();
    head + &cases.iter().map(of_case).collect::<String>()
}

fn request(case: &Case, key: &str) -> Request {
    let (name, streamed) = (case.name, case.streamed);
    let prompt = r#"[{"role":"user","content":"how high is the water?"}]"#;
    let rest = match case.path {
        RESPONSES => format!(r#""input":{prompt}"#),
        _ => format!(r#""messages":{prompt},"max_tokens":400"#),
    };
    let body = format!(r#"{{"model":"{name}","stream":{streamed},{rest}}}"#);
    Request::post(case.path, body)
        .bearer(key)
        .header("content-type", "application/json")
}

fn check(case: &Case, answer: &Answer) {
    let (name, text) = (case.name, answer.text());
    assert_eq!(answer.status, case.status, "{name}: {answer:?}");
    let is_stream = case.streamed && case.status == 200;
    let kind = answer.header("content-type").unwrap_or_default();
    let expect = if is_stream { SSE } else { JSON };
    assert!(
        kind.to_ascii_lowercase().starts_with(expect),
        "{name}: {answer:?}"
    );
    assert!(answer.header("content-encoding").is_none(), "{name}");
    assert!(text.contains(case.holds), "{name}: {text}");
    if !is_stream {
        assert!(answer.json().is_object(), "{name}: {text}");
    }
    if is_stream && case.path == MESSAGES {
        check_blocks(name, &text);
    }
}

/// Each delta stands between the start and the stop of its block, and no block in another.
fn check_blocks(name: &str, text: &str) {
    let mut open = None;
    let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    for event in events.map(|data| serde_json::from_str::<Value>(data).unwrap()) {
        let index = event["index"].as_u64();
        match event["type"].as_str().unwrap() {
            "content_block_start" => assert_eq!(open.replace(index), None, "{name}: {text}"),
            "content_block_delta" => assert_eq!(open, Some(index), "{name}: {text}"),
            "content_block_stop" => assert_eq!(open.take(), Some(index), "{name}: {text}"),
            _ => {}
        }
    }
}

#[test]
fn streams_are_read_in_every_order_and_form_that_providers_send() {
    let all = || {
        [
            interleaved(),
            said_at_the_end(),
            forms(),
            compressed(),
            ends(),
        ]
        .into_iter()
        .flatten()
    };
    let cases: Vec<Case> = all().collect();
    let scripts: Vec<Case> = all().collect();
    let provider = serve(move |request, client| {
        let is_it = |case: &&Case| request.body.contains(&format!("\"{}\"", case.name));
        let case = scripts.iter().find(is_it).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\n{}connection: close\r\n\r\n", case.head);
        client.write_all(head.as_bytes())?;
        Ok(client.write_all(&case.body)?)
    });
    let address = provider.unwrap().to_string();
    let weir = Installation::new(&config(&address, &cases)).unwrap();
    let key = weir.create_key("streams").unwrap();
    let _up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    for case in &cases {
        let answer = request(case, &key).send(weir.gateway).unwrap();
        check(case, &answer);
    }
    let count = cases.len() as u64;
    weir.wait_for_number("SELECT count() FROM weir.payloads", count)
        .unwrap();
    let rows = weir
        .sql("SELECT alias, answer, answer_omitted FROM weir.payloads")
        .unwrap();
    for case in &cases {
        let row = rows.iter().find(|row| row["alias"] == case.name).unwrap();
        let answer = row["answer"].as_str().unwrap_or_default();
        assert!(answer.contains(case.captured), "{}: {row}", case.name);
    }
}

/// A chat answer, packed by gzip.
const PACKED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x3d\x8e\xc1\x0a\xc2\x40\x0c\x44\x7f\xa5\xcc\xb9\x88\x22\x82\xec\x77\x78\x13\x91\x75\x1b\xdd\x68\xbb\x29\x9b\x54\x84\xd2\x7f\x37\x3d\xe8\x29\xc9\x4c\xf2\x32\x33\xb8\x43\x40\xda\xa1\x85\xdc\x9e\x94\x6c\x9d\x72\xb4\x4d\x92\x61\xec\xc9\x58\x8a\x5b\x83\x74\xd4\xbb\x33\x78\x9f\xb2\x70\x22\x45\x38\xcf\xe0\xd2\xd1\x07\x61\xeb\x1b\xa4\x1a\x1f\x84\x30\xa3\x4a\xef\x15\x51\x95\xd5\x62\xb1\xf5\x46\x8a\x51\x59\xd9\xa7\x4c\x4d\xe5\x37\xd5\x86\xb5\x71\x7e\x63\xb9\xca\xf4\xc8\x1b\x2c\x2d\xee\x5c\x58\xf3\xb5\x52\x54\x7f\x1b\xa0\x26\x23\x96\x4b\x8b\xe9\xc7\x1e\xab\xc7\xb2\xab\xc9\x8b\x8a\x47\xd8\xaf\xe8\x5f\xce\xbf\x7a\x68\x61\x62\xb1\xff\x0b\xc7\x65\xf9\x02\xe0\x58\xda\x03\xe9\x00\x00\x00";

/// A chat stream, packed by gzip.
const PACKED_STREAM: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x7d\x8e\x31\x0b\xc2\x30\x14\x84\xf7\xfc\x8a\x70\x73\x11\x5d\x33\xeb\xaa\x8b\x5b\x29\x12\x9a\xa7\x79\x90\x26\x92\xf7\x2a\x42\xe9\x7f\x37\x6e\x42\xc1\xed\x8e\xfb\xee\xb8\xe0\xd5\x3b\xbb\x80\x03\x1c\xc6\x03\x3a\x4c\x25\x50\x6a\x66\x6a\x7a\x8c\x85\x47\x12\xb8\xbe\x11\x39\xd0\x1b\x6e\xdf\xa1\xe5\xea\xe1\x16\xd4\x92\xa8\x91\x5e\x84\x45\x7d\xd6\x6f\xa3\x64\xa5\xa6\x1c\xae\x91\x6c\xe5\x17\x55\xcb\x62\x13\xa9\xd5\x58\xcb\xfc\x88\x3b\xac\x1d\xee\x9c\x59\xe2\xad\x92\x97\x92\xe1\xf2\x9c\xd2\x3a\xac\xc6\x84\xcd\x9d\xff\x17\xb6\x53\x10\x2d\x4f\xfc\x8c\xf5\xc7\xcb\xf9\x34\x18\xf3\x01\x67\xba\x71\x7a\xea\x00\x00\x00";

/// The answer, packed as zlib does.
const DEFLATED: &[u8] = b"\x78\xda\x3d\x8e\xc1\x0a\xc2\x40\x0c\x44\x7f\xa5\xcc\xb9\x88\x22\x82\xec\x77\x78\x13\x91\x75\x1b\xdd\x68\xbb\x29\x9b\x54\x84\xd2\x7f\x37\x3d\xe8\x29\xc9\x4c\xf2\x32\x33\xb8\x43\x40\xda\xa1\x85\xdc\x9e\x94\x6c\x9d\x72\xb4\x4d\x92\x61\xec\xc9\x58\x8a\x5b\x83\x74\xd4\xbb\x33\x78\x9f\xb2\x70\x22\x45\x38\xcf\xe0\xd2\xd1\x07\x61\xeb\x1b\xa4\x1a\x1f\x84\x30\xa3\x4a\xef\x15\x51\x95\xd5\x62\xb1\xf5\x46\x8a\x51\x59\xd9\xa7\x4c\x4d\xe5\x37\xd5\x86\xb5\x71\x7e\x63\xb9\xca\xf4\xc8\x1b\x2c\x2d\xee\x5c\x58\xf3\xb5\x52\x54\x7f\x1b\xa0\x26\x23\x96\x4b\x8b\xe9\xc7\x1e\xab\xc7\xb2\xab\xc9\x8b\x8a\x47\xd8\xaf\xe8\x5f\xce\xbf\x7a\x68\x61\x62\xb1\xff\x0b\xc7\x65\xf9\x02\x6b\x2b\x4f\xe8";
