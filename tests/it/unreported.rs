//! What is consumed counts, also where the client leaves or the provider does not say it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};

use serde_json::Value;
use weir_loadtest::mock::{MockOptions, MockProvider};
use weir_tests::gateway::completion;
use weir_tests::http::{Request, event_stream_head, serve};
use weir_tests::weir::Installation;

/// Streams of three tokens: one without a word about usage, one whose last word is broken.
const SILENT: &str = "";
const BROKEN: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tok\n\n";

/// A provider that answers every call with the same stream.
fn provider(last: &'static str) -> SocketAddr {
    let answer = move |_: &_, client: &mut std::net::TcpStream| {
        let token = "data: {\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"weir\"}}]}\n\n";
        let stream = [
            &event_stream_head(),
            token,
            token,
            token,
            last,
            "data: [DONE]\n\n",
        ];
        Ok(client.write_all(stream.concat().as_bytes())?)
    };
    serve(answer).unwrap()
}

fn call(key: &str, model: &str) -> Request {
    let body = format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":"how high is the water?"}}],"max_tokens":40,"stream":true}}"#
    );
    completion(key, body)
}

fn row(weir: &Installation, alias: &str) -> Value {
    let count = format!("SELECT count() FROM weir.requests WHERE alias = '{alias}'");
    weir.wait_for_number(&count, 1).unwrap();
    let row = format!(
        "SELECT status, error_kind, usage_source, toUInt32(input_tokens) AS input, \
         toUInt32(output_tokens) AS output, cost_usd > 0 AS is_charged \
         FROM weir.requests WHERE alias = '{alias}'"
    );
    weir.sql(&row).unwrap().remove(0)
}

#[test]
fn what_nobody_reports_is_counted() {
    let slow = MockProvider::start(MockOptions {
        inter_token: "20ms".parse().unwrap(),
        ..MockOptions::default()
    })
    .unwrap();
    let mut config = "[gateway.on_disconnect]\npolicy = \"drain\"\nmax_ms = 20_000\n\n".to_owned();
    let raw = |last| format!("http://{}/v1", provider(last));
    let providers = [
        ("left", slow.base_url()),
        ("silent", raw(SILENT)),
        ("broken", raw(BROKEN)),
    ];
    for (name, base_url) in providers {
        config.push_str(&format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"openai\"\nbase_url = \"{base_url}\"\n\n\
             [[alias]]\nname = \"{name}\"\n\
             targets = [{{ provider = \"{name}\", model = \"gpt-4o-mini\" }}]\n\n"
        ));
    }
    let weir = Installation::new(&config).unwrap();
    let key = weir.create_key("unreported").unwrap();
    let _up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();

    let mut client = call(&key, "left").open(weir.gateway).unwrap();
    assert!(client.read(&mut [0; 256]).unwrap() > 0, "the answer begins");
    client.shutdown(Shutdown::Both).unwrap();
    drop(client);
    for model in ["silent", "broken"] {
        let answer = call(&key, model).send(weir.gateway).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    let left = row(&weir, "left");
    assert_eq!(left["error_kind"], "client_gone");
    assert_eq!(left["usage_source"], "drained");
    assert_eq!(left["output"], 40, "read to its end: {left}");
    assert_eq!(left["is_charged"], 1);
    for alias in ["silent", "broken"] {
        let row = row(&weir, alias);
        assert_eq!(row["usage_source"], "estimated", "{alias}: {row}");
        // "weirweirweir", by OpenAI's tokenizer; the prompt is 6, a message's frame 4, the answer's 3.
        assert_eq!(row["output"], 6, "{alias}: {row}");
        assert_eq!(row["input"], 13, "{alias}: {row}");
        assert_eq!(row["is_charged"], 1, "{alias}: {row}");
    }
}
