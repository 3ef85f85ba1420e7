//! A stream of Responses that Weir ends is an error for every official client: by the provider's fault, or
//! by a budget's end. One that a shutdown cuts is in `edge`.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::channel;

use parking_lot::Mutex;
use serde_json::Value;
use weir_tests::http::{Received, event_stream_head, json_answer, serve};
use weir_tests::weir::{Installation, SdkAge, repository};

/// Models, each of which ends its streams in a way of its own.
const CUT: &str = "gpt-4o-mini";
const LONG: &str = "gpt-4o";
const FAILED: &str = "gpt-4.1-mini";

/// How a stream of Responses begins, and the events that it would go on with.
const BEGUN: [&str; 3] = [
    r#""type":"response.created","response":{"id":"resp_1","object":"response","created_at":1,"status":"in_progress","model":"m","output":[],"parallel_tool_calls":true,"tool_choice":"auto","tools":[]}"#,
    r#""type":"response.output_item.added","output_index":0,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}"#,
    r#""type":"response.content_part.added","item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}"#,
];
const DELTA: &str = r#""type":"response.output_text.delta","item_id":"msg_1","output_index":0,"content_index":0,"delta":"weir ","logprobs":[]"#;
const CHUNK: &str = r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"weir "}}]}"#;
const ERROR: &str = r#"{"error":{"message":"out of order","type":"server_error"}}"#;
/// More than any limit allows.
const WORDS: usize = 3000;

/// Streams in both of OpenAI's dialects, each of which fails when `/fail` is asked for.
fn provider() -> SocketAddr {
    let (told, tells) = channel();
    let tells = Mutex::new(tells);
    serve(move |request: &Received, client: &mut TcpStream| {
        if request.head.starts_with("GET /fail") {
            told.send(())?;
            return Ok(client.write_all(json_answer(200, "{}").as_bytes())?);
        }
        let body: Value = serde_json::from_str(&request.body)?;
        let is_native = request.head.starts_with("POST /v1/responses");
        let [begun, more] = if is_native { responses() } else { chat() };
        client.write_all((event_stream_head() + &begun).as_bytes())?;
        tells.lock().recv()?;
        match body["model"].as_str() {
            Some(LONG) => client.write_all(more.as_bytes())?,
            Some(FAILED) => client.write_all(format!("data: {ERROR}\n\n").as_bytes())?,
            _ => {}
        }
        Ok(())
    })
    .unwrap()
}

/// The beginning of a stream, and what follows.
fn responses() -> [String; 2] {
    let events = BEGUN.into_iter().chain(std::iter::repeat_n(DELTA, WORDS));
    let numbered = |(number, event)| format!("data: {{\"sequence_number\":{number},{event}}}\n\n");
    let events: Vec<String> = events.enumerate().map(numbered).collect();
    let (begun, more) = events.split_at(BEGUN.len() + 1);
    [begun.concat(), more.concat()]
}

fn chat() -> [String; 2] {
    [1, WORDS].map(|words| format!("data: {CHUNK}\n\n").repeat(words))
}

/// The aliases, and what a client must be told of each.
const ALIASES: [(&str, &str, &str, &str, &str); 5] = [
    (
        "native-cut",
        "native",
        CUT,
        "provider_error",
        "ended before it was complete",
    ),
    (
        "native-long",
        "native",
        LONG,
        "insufficient_quota",
        "budget",
    ),
    (
        "translated-cut",
        "chat",
        CUT,
        "provider_error",
        "ended before it was complete",
    ),
    (
        "translated-long",
        "chat",
        LONG,
        "insufficient_quota",
        "budget",
    ),
    (
        "translated-failed",
        "chat",
        FAILED,
        "provider_error",
        "out of order",
    ),
];

fn config(provider: SocketAddr) -> String {
    let providers = [("native", "openai"), ("chat", "openai-compatible")].map(|(name, dialect)| {
        format!("[[provider]]\nname = \"{name}\"\ndialect = \"{dialect}\"\nbase_url = \"http://{provider}/v1\"\n\n")
    });
    let aliases = ALIASES.map(|(alias, provider, model, ..)| {
        format!(
            "[[alias]]\nname = \"{alias}\"\ntargets = [{{ provider = \"{provider}\", model = \"{model}\" }}]\n\
             retry = {{ tries_max = 1 }}\n\n"
        )
    });
    let price = "[[price]]\nprovider = \"chat\"\nmodel = \"*\"\ninput = \"1\"\noutput = \"1\"\n\n";
    providers.concat() + &aliases.concat() + price
}

/// What a script says that its clients raise.
fn seen(url: &str, key: &str, fail: &str, program: PathBuf, script: PathBuf) -> Value {
    let found = Command::new(program)
        .arg(script)
        .args([url, key, fail])
        .args(ALIASES.map(|(alias, ..)| alias))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(found.status.success(), "{found:?}");
    serde_json::from_slice(&found.stdout).unwrap()
}

#[test]
fn every_official_client_raises_for_a_stream_of_responses_that_fails() {
    let provider = provider();
    let weir = Installation::new(&config(provider)).unwrap();
    let key = weir.create_key("streams").unwrap();
    let budget = [
        "budgets", "set", "all", "--team", "streams", "--usd", "1000", "--window", "total",
    ];
    weir.run(&budget).unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    let mut clients = 0;
    for age in [SdkAge::Newest, SdkAge::Of2025] {
        let python = repository().join("tests/clients/failed_streams.py");
        let (node, modules) = age.node();
        for (program, script) in [
            (age.python(), python),
            (node, modules.join("failed_streams.mjs")),
        ] {
            let fail = format!("http://{provider}/fail");
            let seen = seen(&weir.base_url(), &key, &fail, program, script);
            for (way, raised) in seen.as_object().unwrap() {
                let alias = way.rsplit(' ').next().unwrap();
                let expected = ALIASES.iter().find(|it| it.0 == alias).unwrap();
                assert_eq!(raised[0], expected.3, "{age:?} {way}: {raised}");
                let message = raised[1].as_str().unwrap_or_default();
                assert!(message.contains(expected.4), "{age:?} {way}: {raised}");
                clients += 1;
            }
        }
    }
    assert_eq!(clients, ALIASES.len() * (3 + 3 + 2 + 2));
    up.stop().unwrap();
}
