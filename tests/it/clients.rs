//! Real clients, from PyPI and npm, against every provider dialect: those that install quickly. The
//! mock providers refuse what the real APIs refuse.
//!
//! The others, and coding agents, run by `tests/clients/run-all.sh`.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use weir_loadtest::mock::MockHandle;
use weir_tests::clients::{DIALECTS, Gateway, Provider, Script, mock, model};
use weir_tests::weir::{SdkAge, python, repository};

#[test]
fn real_clients_reach_every_provider() {
    let mocks: Vec<_> = DIALECTS.iter().map(|_| mock().unwrap()).collect();
    let providers: Vec<_> = DIALECTS
        .into_iter()
        .zip(&mocks)
        .map(|(dialect, mock)| Provider::mock(dialect, mock))
        .collect();
    let gateway = Gateway::start(&providers).unwrap();
    for script in Script::quick() {
        script
            .check(&gateway, &DIALECTS.map(|(name, _)| name))
            .unwrap();
    }
    check_usage(&gateway, &mocks);
    check_beside_answers(&gateway);
    for ((name, _), mock) in DIALECTS.iter().zip(&mocks) {
        let refused = mock.ledger().refused;
        assert_eq!(refused, [].into(), "the real API behind {name} refuses");
    }
    gateway.stop().unwrap();
}

/// Lists of models in both shapes, counts of tokens, embeddings, and what agents ask before they begin.
fn check_beside_answers(gateway: &Gateway) {
    let script = repository().join("tests/clients/beside_answers.py");
    let found = Command::new(python())
        .arg("-B")
        .arg(script)
        .args([&gateway.weir.base_url(), &gateway.key])
        .output()
        .unwrap();
    assert!(found.status.success(), "{found:?}");
    let seen: Value = serde_json::from_slice(&found.stdout).unwrap();
    let expected = json!({
        "alive": 200,
        "openai": {"listed": true, "one": "gemini", "unknown": 404},
        "anthropic": {"listed": true, "one": "gemini", "unknown": 404},
        "counted": {"anthropic": true, "gemini": true, "openai": 400, "responses": 400},
        "embedded": {"openai": [2, true], "gemini": [2, true], "anthropic": 400},
    });
    assert_eq!(seen, expected);
}

/// Every translated answer of the golden corpus is valid for the SDKs' own types, which the SDKs do not
/// check, and is put together by their helpers.
#[test]
fn the_sdks_of_both_years_read_every_translated_answer() {
    let script = repository().join("tests/clients/golden_answers.py");
    for age in [SdkAge::Newest, SdkAge::Of2025] {
        let found = Command::new(age.python())
            .arg("-B")
            .arg(&script)
            .arg(repository().join("gateway/dialects/golden"))
            .output()
            .unwrap();
        assert!(found.status.success(), "{found:?}");
        let seen: Value = serde_json::from_slice(&found.stdout).unwrap();
        let faults = seen["faults"].as_array().unwrap();
        let told: Vec<String> = faults.iter().map(Value::to_string).collect();
        assert!(told.is_empty(), "{age:?}:\n{}", told.join("\n"));
        assert!(seen["answers"].as_u64().unwrap() > 200, "{seen}");
    }
}

/// What becomes of each field is then in weir-dialects' test `fields`.
#[test]
fn the_table_of_fields_holds_all_that_the_sdks_document() {
    let script = repository().join("tests/clients/documented_fields.py");
    let found = Command::new(python())
        .arg("-B")
        .arg(script)
        .output()
        .unwrap();
    assert!(found.status.success(), "{found:?}");
    let table = repository().join("gateway/dialects/golden/fields.json");
    let known = fs::read_to_string(&table).unwrap();
    assert!(
        found.stdout == known.as_bytes(),
        "the SDKs document other fields than {}, which is what \
         tests/clients/documented_fields.py prints",
        table.display()
    );
}

/// Every provider's own count, whatever the dialect in which a client asked.
fn check_usage(gateway: &Gateway, mocks: &[MockHandle]) {
    gateway.weir.wait_for_store().unwrap();
    for ((name, dialect), mock) in DIALECTS.iter().zip(mocks) {
        let counted = mock.ledger().by_model[model(dialect)].clone();
        let of = |what: &str| {
            format!("SELECT toUInt64({what}) FROM weir.requests WHERE alias = '{name}'")
        };
        gateway
            .weir
            .wait_for_number(&of("count()"), counted.calls)
            .unwrap();
        for (column, count) in [
            ("input_tokens", counted.reported.input),
            ("output_tokens", counted.reported.output),
        ] {
            let sum = gateway.weir.number(&of(&format!("sum({column})"))).unwrap();
            assert_eq!(sum, count, "{column} at {name}");
        }
    }
}
