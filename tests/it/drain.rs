//! Answers that are read on without their client have limits: in number, in time, and when the
//! gateway stops. What is given up is estimated, and every request has its row.

use std::io::Read as _;
use std::net::Shutdown;

use serde_json::Value;
use weir_loadtest::mock::{MockHandle, MockOptions, MockProvider};
use weir_tests::gateway::completion;
use weir_tests::http::get;
use weir_tests::weir::Installation;

/// An answer takes a quarter of an hour, which is longer than anything here waits for.
const TOKENS: u64 = 100;

fn slow_provider() -> MockHandle {
    MockProvider::start(MockOptions {
        inter_token: "10s".parse().unwrap(),
        ..MockOptions::default()
    })
    .unwrap()
}

fn config(provider: &MockHandle, limits: &str) -> String {
    format!(
        "[gateway.on_disconnect]\npolicy = \"drain\"\n{limits}\n\n\
         [[provider]]\nname = \"slow\"\ndialect = \"openai\"\nbase_url = \"{}\"\n\n\
         [[alias]]\nname = \"m\"\ntargets = [{{ provider = \"slow\", model = \"gpt-4o-mini\" }}]\n",
        provider.base_url()
    )
}

/// Asks for a stream, reads it up to its first token, and leaves.
fn begin_and_leave(weir: &Installation, key: &str) {
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"max_tokens":{TOKENS},"stream":true}}"#
    );
    let mut client = completion(key, body).open(weir.gateway).unwrap();
    let (mut answer, mut piece) = (String::new(), [0; 256]);
    // The role comes first.
    while answer.matches("\"delta\"").count() < 2 {
        let read = client.read(&mut piece).unwrap();
        assert!(read > 0, "{answer}");
        answer.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
    client.shutdown(Shutdown::Both).unwrap();
}

fn rows(weir: &Installation, count: u64) -> Vec<Value> {
    weir.wait_for_number("SELECT count() FROM weir.requests", count)
        .unwrap();
    let rows = "SELECT error_kind, usage_source, toUInt32(output_tokens) AS output, \
                cost_usd > 0 AS is_charged FROM weir.requests";
    weir.sql(rows).unwrap()
}

fn assert_given_up(row: &Value) {
    assert_eq!(row["error_kind"], "client_gone", "{row}");
    assert_eq!(row["usage_source"], "estimated", "{row}");
    assert_eq!(row["is_charged"], 1, "{row}");
    let output = row["output"].as_u64().unwrap();
    assert!((1..TOKENS).contains(&output), "{row}");
}

#[test]
fn an_answer_is_read_on_for_no_longer_than_its_time() {
    let provider = slow_provider();
    let weir = Installation::new(&config(&provider, "max_ms = 300")).unwrap();
    let key = weir.create_key("drain").unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    begin_and_leave(&weir, &key);
    assert_given_up(&rows(&weir, 1)[0]);
    up.stop().unwrap();
}

#[test]
fn only_so_many_answers_are_read_on_and_none_when_the_gateway_stops() {
    let provider = slow_provider();
    let limits = "max_ms = 600_000\nmax_concurrent = 1";
    let weir = Installation::new(&config(&provider, limits)).unwrap();
    let key = weir.create_key("drain").unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    begin_and_leave(&weir, &key);
    begin_and_leave(&weir, &key);
    // One of the two has the only place; the other one is given up at once.
    assert_given_up(&rows(&weir, 1)[0]);
    let metrics = get(weir.gateway, "/metrics").unwrap();
    assert!(
        metrics.contains("weir_drains_left_out_total 1"),
        "{metrics}"
    );

    up.stop().unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    for row in rows(&weir, 2) {
        assert_given_up(&row);
    }
    up.stop().unwrap();
}
