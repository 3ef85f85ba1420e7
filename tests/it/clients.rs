//! Real clients, from PyPI and npm, against every provider dialect: those that install quickly.
//!
//! The others, and coding agents, run by `tests/clients/run-all.sh`.

use weir_loadtest::mock::MockHandle;
use weir_tests::clients::{DIALECTS, Gateway, Provider, Script, mock};

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
    gateway.stop().unwrap();
}

/// Every provider's own count, whatever the dialect in which a client asked.
fn check_usage(gateway: &Gateway, mocks: &[MockHandle]) {
    gateway.weir.wait_for_store().unwrap();
    for ((name, _), mock) in DIALECTS.iter().zip(mocks) {
        let counted = mock.ledger().by_model["small"].clone();
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
