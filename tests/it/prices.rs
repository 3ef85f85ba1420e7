//! Stored calls are priced anew with another book: both figures stay, and the proof still holds.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use weir_loadtest::mock::{MockOptions, MockProvider};
use weir_loadtest::replay::{ReplayCaller, ReplayOptions, replay};
use weir_loadtest::trace::{Trace, TraceName};
use weir_tests::weir::{Installation, program, python, repository};

/// Every meter of every model of the package that the book is made from, at every date, size and tier
/// that its prices depend on: `tests/prices/compare.py` prices the calls with both.
#[test]
fn the_built_in_book_charges_what_genai_prices_charges() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("weir.toml");
    fs::write(&config, "").unwrap();
    let compared = Command::new(python())
        .arg("-B")
        .arg(repository().join("tests/prices/compare.py"))
        .args([program(), config])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&compared.stderr);
    assert!(compared.status.success(), "{said}");
    let summary: Value = serde_json::from_slice(&compared.stdout).unwrap();
    assert_eq!(summary["faults"], 0, "{summary}");
    assert!(summary["models"].as_u64() > Some(2_000), "{summary}");
}

const CALLS: u64 = 20;
/// Ten cents and a dollar per million, whatever the book says.
const OWN_PRICE: &str = r#"
[[price]]
provider = "mock"
model = "gpt-4o-mini"
input = "0.10"
output = "1"
"#;

#[test]
fn stored_calls_are_priced_anew_and_both_figures_stay() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let weir = Installation::new(&format!(
        "[[provider]]\nname = \"mock\"\ndialect = \"openai\"\nbase_url = \"{}\"\n\n\
         [[alias]]\nname = \"m\"\ntargets = [{{ provider = \"mock\", model = \"gpt-4o-mini\" }}]\n",
        mock.base_url()
    ))
    .unwrap();
    let key = weir.create_key("growth").unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    call(&weir, key);
    weir.wait_for_number("SELECT count() FROM weir.requests", CALLS)
        .unwrap();
    let input = weir.number("SELECT sum(input_tokens) FROM weir.requests");
    let output = weir.number("SELECT sum(output_tokens) FROM weir.requests");
    let first = weir.number("SELECT toUInt64(sum(cost_usd) * 1000000000000) FROM weir.requests");

    let config = fs::read_to_string(weir.config()).unwrap() + OWN_PRICE;
    fs::write(weir.config(), config).unwrap();
    let foreseen = rerate(&weir, &["--dry-run"]);
    assert_eq!(foreseen["corrected"], CALLS);
    assert_eq!(
        weir.number("SELECT count() FROM weir.corrections").unwrap(),
        0
    );
    let corrected = rerate(&weir, &["--reason", "the contract's prices"]);
    assert_eq!(corrected["tries"], CALLS);
    assert_eq!(corrected["corrected"], CALLS);
    assert_eq!(corrected["after_usd"], foreseen["after_usd"]);
    weir.wait_for_number("SELECT count() FROM weir.corrections", CALLS)
        .unwrap();

    let sum = |column: &str| {
        weir.number(&format!(
            "SELECT toUInt64(sum({column}) * 1000000000000) FROM weir.rerated_requests"
        ))
        .unwrap()
    };
    assert_eq!(sum("cost_before_usd"), first.unwrap());
    assert_eq!(
        sum("cost_usd"),
        input.unwrap() * 100_000 + output.unwrap() * 1_000_000
    );
    assert_eq!(sum("waste_usd"), 0);
    let reasons = weir
        .sql("SELECT DISTINCT reason FROM weir.corrections")
        .unwrap();
    assert_eq!(reasons[0]["reason"], "the contract's prices");

    assert_eq!(rerate(&weir, &[])["corrected"], 0, "nothing is left to do");
    weir.run(&["audit", "verify"]).unwrap();
    up.stop().unwrap();
}

fn call(weir: &Installation, key: String) {
    weir.wait_until_known(&key).unwrap();
    let trace = Trace::named(TraceName::AzureConv, usize::try_from(CALLS).unwrap(), 1).unwrap();
    let ledger = replay(&ReplayOptions {
        url: weir.base_url(),
        callers: vec![ReplayCaller {
            team: "growth".into(),
            key,
        }],
        model: "m".into(),
        trace: Arc::new(trace),
        speed: 100.0,
        ..ReplayOptions::default()
    })
    .unwrap();
    assert_eq!(ledger.served().count() as u64, CALLS);
}

fn rerate(weir: &Installation, options: &[&str]) -> Value {
    let args = [
        &["prices", "rerate", "--since", "2020-01-01", "--json"],
        options,
    ]
    .concat();
    let output = weir.run(&args).unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}
