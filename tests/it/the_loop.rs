//! The whole loop: requests in by real clients, events through the log, questions in SQL.
//!
//! Run once with the journal read by the ingestor itself, and once with real Kafka in between.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Value;
use weir_loadtest::mock::{FaultKind, FaultRule, MockHandle, MockOptions, MockProvider};
use weir_loadtest::replay::{ClientLedger, ReplayCaller, ReplayOptions, replay};
use weir_loadtest::trace::{Trace, TraceName};
use weir_schemas::Usage;
use weir_schemas::prices::{Book, PricedCall};
use weir_tests::kafka::Kafka;
use weir_tests::weir::{Installation, python, repository};

const CALLS: u64 = 500;
const TEAMS: [&str; 3] = ["growth", "research", "support"];
/// How much faster than recorded the trace is replayed.
const SPEED: f64 = 20.0;

#[test]
fn the_loop_runs_over_the_local_journal() {
    check("");
}

#[test]
fn the_loop_runs_over_real_kafka() {
    let kafka = Kafka::start().unwrap();
    check(&format!(
        "[eventlog]\nkind = \"kafka\"\nbrokers = \"{}\"\n",
        kafka.brokers()
    ));
}

/// A provider that fails every tenth call, and one that does not.
fn mocks() -> (MockHandle, MockHandle) {
    let flaky = MockProvider::start(MockOptions {
        name: "flaky".into(),
        cached_share: 0.3,
        faults: vec![FaultRule::every(FaultKind::ServerError, 10)],
        ..MockOptions::default()
    });
    let steady = MockProvider::start(MockOptions {
        name: "steady".into(),
        cached_share: 0.5,
        reasoning_share: 0.25,
        ..MockOptions::default()
    });
    (flaky.unwrap(), steady.unwrap())
}

fn config(eventlog: &str, flaky: &MockHandle, steady: &MockHandle) -> String {
    // A machine that stands still for a moment looks like providers that do; were both left out, a failure
    // could not be hidden.
    format!(
        r#"{eventlog}
[routing.breaker]
stall_ms_min = 60_000

[[provider]]
name = "flaky"
dialect = "openai"
base_url = "{}"

[[provider]]
name = "steady"
dialect = "openai"
base_url = "{}"

[[alias]]
name = "fast-chat"
targets = [
  {{ provider = "flaky", model = "gpt-4o-mini" }},
  {{ provider = "steady", model = "gpt-4o-mini" }},
]
retry = {{ tries_per_target = 1, budget_ratio = 1.0 }}

[[alias]]
name = "embed"
targets = [{{ provider = "steady", model = "text-embedding-3-small" }}]
"#,
        flaky.base_url(),
        steady.base_url()
    )
}

fn check(eventlog: &str) {
    let (flaky, steady) = mocks();
    let weir = Installation::new(&config(eventlog, &flaky, &steady)).unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready()
        .unwrap_or_else(|error| panic!("{error}\n{}", up.log()));
    weir.wait_for_store()
        .unwrap_or_else(|error| panic!("{error}\n{}", up.log()));

    check_sdk(&weir);
    flaky.reset_ledger();
    steady.reset_ledger();
    let ledger = check_replay(&weir);
    check_sql(&weir, &ledger, &flaky, &steady);
    up.stop().unwrap();
}

/// A key that the gateway lets in.
fn new_key(weir: &Installation, team: &str) -> String {
    let key = weir.create_key(team).unwrap();
    weir.wait_until_known(&key).unwrap();
    key
}

/// The official SDK sees what it would see at the provider's, and SQL sees the SDK.
fn check_sdk(weir: &Installation) {
    let key = new_key(weir, "sdk");
    let script = repository().join("tests/clients/openai_sdk.py");
    let output = Command::new(python())
        .arg(script)
        .arg(weir.base_url())
        .arg(&key)
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{}: {error}; run tests/run.sh, which installs it",
                python().display()
            )
        });
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();

    assert_eq!(seen["plain"]["text"], true);
    assert_eq!(seen["plain"]["output_tokens"], 12);
    assert_eq!(seen["stream"]["text"], true);
    assert_eq!(
        seen["stream"]["usage"],
        serde_json::json!([]),
        "usage that nobody asked for"
    );
    assert_eq!(seen["stream_with_usage"]["usage"], serde_json::json!([12]));
    assert_eq!(seen["embeddings"]["vectors"], 2);
    assert_eq!(seen["models"], serde_json::json!(["embed", "fast-chat"]));
    assert_eq!(seen["unknown_model"]["type"], "NotFoundError");
    let message = seen["unknown_model"]["message"].as_str().unwrap();
    assert!(
        message.contains("`fast-chat`"),
        "no nearest name in: {message}"
    );
    assert_eq!(seen["unknown_key"]["type"], "AuthenticationError");

    // Listings are no calls: plain, two streams, embeddings, the unknown model.
    weir.wait_for_number("SELECT count() FROM weir.requests WHERE team = 'sdk'", 5)
        .unwrap();
    let request_id = seen["plain"]["request_id"].as_str().unwrap();
    let rows = weir
        .sql(&format!(
            "SELECT * FROM weir.requests WHERE request_id = '{request_id}'"
        ))
        .unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["alias"], "fast-chat");
    assert_eq!(rows[0]["provider"], "flaky");
    assert_eq!(rows[0]["status"], 200);
    assert_eq!(rows[0]["usage_source"], "reported");
    let usage = "SELECT sum(output_tokens) FROM weir.requests WHERE team = 'sdk' AND streamed";
    assert_eq!(
        weir.number(usage).unwrap(),
        24,
        "a stream's usage, whether the client saw it or not"
    );
    let unknown = "SELECT count() FROM weir.requests WHERE error_kind = 'model_not_found'";
    assert_eq!(weir.number(unknown).unwrap(), 1);
}

/// Real sizes and arrival times, over three teams' keys.
fn check_replay(weir: &Installation) -> ClientLedger {
    let callers = TEAMS
        .iter()
        .map(|team| ReplayCaller {
            team: (*team).to_owned(),
            key: new_key(weir, team),
        })
        .collect();
    let trace = Trace::named(TraceName::AzureConv, usize::try_from(CALLS).unwrap(), 1).unwrap();
    println!("replaying {}", trace.source);
    let ledger = replay(&ReplayOptions {
        url: weir.base_url(),
        callers,
        model: "fast-chat".into(),
        trace: Arc::new(trace),
        speed: SPEED,
        ..ReplayOptions::default()
    })
    .unwrap();
    assert_eq!(ledger.calls.len() as u64, CALLS);
    let served = ledger.served().count() as u64;
    assert_eq!(
        served,
        CALLS,
        "a fallback hides every failure: {:?}",
        failures(&ledger)
    );
    ledger
}

fn failures(ledger: &ClientLedger) -> BTreeMap<String, usize> {
    let mut failures = BTreeMap::new();
    for call in ledger.calls.iter().filter(|call| call.status != Some(200)) {
        *failures
            .entry(format!("{:?} {:?}", call.status, call.error))
            .or_default() += 1;
    }
    failures
}

fn check_sql(weir: &Installation, ledger: &ClientLedger, flaky: &MockHandle, steady: &MockHandle) {
    let requests = "SELECT count() FROM weir.requests WHERE team != 'sdk'";
    weir.wait_for_number(requests, CALLS).unwrap();
    let (flaky, steady) = (flaky.ledger().total, steady.ledger().total);

    let attempts = "SELECT count() FROM weir.attempts WHERE team != 'sdk'";
    assert_eq!(weir.number(attempts).unwrap(), flaky.calls + steady.calls);
    let of = |condition: &str| {
        let statement = format!("{attempts} AND {condition}");
        weir.number(&statement).unwrap()
    };
    assert_eq!(of("provider = 'flaky'"), flaky.calls);
    assert_eq!(of("provider = 'steady'"), steady.calls);
    // Should the flaky one be left out for a while, the steady one is tried first. Whatever fails falls back.
    let failed = flaky.by_status[&500];
    // Every tenth of its calls since it was started, the SDK's with them.
    assert!((0..=1).contains(&(failed - flaky.calls / 10)), "{flaky:?}");
    assert_eq!(of("provider = 'flaky' AND status = 500"), failed);
    assert_eq!(of("kind = 'fallback'"), failed);
    assert_eq!(of("kind = 'first'"), CALLS);

    let sums = weir
        .sql(
            "SELECT team, toUInt64(count()) AS requests, toUInt64(sum(input_tokens)) AS input, \
             toUInt64(sum(output_tokens)) AS output FROM weir.requests WHERE team != 'sdk' \
             GROUP BY team ORDER BY team",
        )
        .unwrap();
    let number = |row: &Value, name: &str| {
        row[name]
            .as_u64()
            .or_else(|| row[name].as_str()?.parse().ok())
            .unwrap()
    };
    assert_eq!(sums.len(), TEAMS.len());
    for (row, team) in sums.iter().zip(TEAMS) {
        let told = ClientLedger::tokens(ledger.of_team(team));
        assert_eq!(row["team"], team);
        assert_eq!(number(row, "requests"), ledger.of_team(team).count() as u64);
        assert_eq!(number(row, "input"), told.input, "input tokens of {team}");
        assert_eq!(
            number(row, "output"),
            told.output,
            "output tokens of {team}"
        );
    }
    check_bill(weir, ledger);
    let input: u64 = sums.iter().map(|row| number(row, "input")).sum();
    let output: u64 = sums.iter().map(|row| number(row, "output")).sum();
    assert_eq!(input, flaky.reported.input + steady.reported.input);
    assert_eq!(output, flaky.reported.output + steady.reported.output);
}

/// What each team is charged, to the picodollar: the answers' own usage times the book's prices.
fn check_bill(weir: &Installation, ledger: &ClientLedger) {
    let book = Book::built_in().unwrap();
    let prices = book.find("", ["openai"], "gpt-4o-mini", Date::MAX).unwrap();
    for team in TEAMS {
        let charged = ledger
            .of_team(team)
            .filter_map(|call| call.usage)
            .map(|it| {
                let usage = Usage {
                    input_tokens: Some(it.input),
                    cached_input_tokens: Some(it.cached_input),
                    output_tokens: Some(it.output),
                    reasoning_tokens: Some(it.reasoning),
                    ..Usage::default()
                };
                let call = PricedCall {
                    at: Timestamp::now(),
                    input_tokens: it.input,
                    service_tier: "",
                    inference_geo: "",
                };
                prices.charge(call, &usage).unwrap().0.0
            });
        let told: i64 = charged.sum();
        let bill = format!(
            "SELECT toUInt64(sum(cost_usd) * 1000000000000) FROM weir.requests WHERE team = '{team}'"
        );
        assert!(told > 0);
        assert_eq!(weir.number(&bill).unwrap(), told.unsigned_abs(), "{team}");
    }
    let doubtful = "SELECT count() FROM weir.attempts WHERE team != 'sdk' \
                    AND (cost_usd IS NULL OR (cost_usd > 0) != (price_version != ''))";
    assert_eq!(weir.number(doubtful).unwrap(), 0);
    let waste = "SELECT count() FROM weir.requests WHERE waste_usd != 0 OR waste_usd IS NULL";
    assert_eq!(weir.number(waste).unwrap(), 0, "a 500 is not billed");
}
