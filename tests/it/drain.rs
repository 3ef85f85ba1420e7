//! Answers that are read on without their client have limits: in number, in time, and when the
//! gateway stops. What is given up is estimated, and every request has its row. Answers whose clients listen
//! are given to their ends when the gateway stops, whatever else is broken.

use std::fs;
use std::io::Read as _;
use std::net::{Shutdown, TcpStream};
use std::thread;

use serde_json::Value;
use weir_loadtest::mock::{MockHandle, MockOptions, MockProvider};
use weir_tests::gateway::completion;
use weir_tests::http::get;
use weir_tests::kafka::Kafka;
use weir_tests::weir::{Installation, Process};

use crate::broken_log::closed_pipe;

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

/// Asks for a stream, and reads it up to its first token. Returns what is to come and what came.
fn begin(weir: &Installation, key: &str) -> (TcpStream, String) {
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
    (client, answer)
}

/// Asks for a stream, reads it up to its first token, and leaves.
fn begin_and_leave(weir: &Installation, key: &str) {
    let (client, _) = begin(weir, key);
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

/// Streams that take five seconds each.
const STREAMS: usize = 10;

fn steady_provider() -> MockHandle {
    MockProvider::start(MockOptions {
        inter_token: "50ms".parse().unwrap(),
        ..MockOptions::default()
    })
    .unwrap()
}

/// Begins streams, breaks something, and stops the process: each stream comes to its end.
fn stop_broken(weir: &Installation, process: Process, key: &str, damage: impl FnOnce(&Process)) {
    let streams: Vec<_> = (0..STREAMS).map(|_| begin(weir, key)).collect();
    damage(&process);
    let readers = streams.into_iter().map(|(mut client, mut answer)| {
        thread::spawn(move || {
            client.read_to_string(&mut answer).unwrap();
            answer
        })
    });
    let readers: Vec<_> = readers.collect();
    process.stop().unwrap();
    for reader in readers {
        let answer = reader.join().unwrap();
        assert!(answer.contains("data: [DONE]"), "{answer}");
        assert!(!answer.contains("\"error\""), "{answer}");
    }
}

fn all_are_stored(weir: &Installation) {
    let stored = "SELECT count() FROM weir.requests WHERE status = 200 AND error_kind = ''";
    weir.wait_for_number(stored, STREAMS as u64).unwrap();
}

#[test]
fn streams_are_drained_while_the_engine_is_dead_and_the_log_and_configuration_are_broken() {
    let provider = steady_provider();
    let weir = Installation::new(&config(&provider, "")).unwrap();
    let key = weir.create_key("drain").unwrap();
    let up = weir.start_logging_to(&["up"], closed_pipe()).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    let good = fs::read_to_string(weir.config()).unwrap();
    stop_broken(&weir, up, &key, |up| {
        // With this, the engine does not start again.
        fs::write(weir.config(), "this is no configuration").unwrap();
        up.kill_child().unwrap();
    });
    fs::write(weir.config(), good).unwrap();
    let up = weir.start(&["up"]).unwrap();
    all_are_stored(&weir);
    up.stop().unwrap();
}

#[test]
fn streams_are_drained_while_kafka_is_away() {
    let mut kafka = Kafka::start().unwrap();
    let provider = steady_provider();
    let eventlog = format!(
        "[eventlog]\nkind = \"kafka\"\nbrokers = \"{}\"\npartitions = 1\n\n",
        kafka.brokers()
    );
    let weir = Installation::new(&(eventlog + &config(&provider, ""))).unwrap();
    let gateway = weir.start_logging_to(&["gateway"], closed_pipe()).unwrap();
    weir.wait_until_ready().unwrap();
    let key = weir.create_key("drain").unwrap();
    stop_broken(&weir, gateway, &key, |_| kafka.kill());
    kafka.start_again().unwrap();
    let gateway = weir.start(&["gateway"]).unwrap();
    let ingestor = weir.start(&["ingestor"]).unwrap();
    all_are_stored(&weir);
    ingestor.stop().unwrap();
    gateway.stop().unwrap();
}
