//! A key that is revoked is out of force everywhere within a second.

use std::time::{Duration, Instant};

use weir_loadtest::mock::{MockHandle, MockOptions, MockProvider};
use weir_tests::gateway::{chat, config};
use weir_tests::kafka::Kafka;
use weir_tests::weir::{Installation, Process, wait_for};

use crate::alone;

/// One slow moment of the machine is no slow revocation.
const REVOCATIONS: usize = 3;

fn gateway(mock: &MockHandle, eventlog: &str) -> (Installation, Process) {
    let weir = Installation::new(&(eventlog.to_owned() + &config(mock))).unwrap();
    let process = weir.start(&["gateway"]).unwrap();
    weir.wait_until_ready()
        .unwrap_or_else(|error| panic!("{error}\n{}", process.log()));
    (weir, process)
}

/// The middle one of how long it takes until no gateway lets a key in that the last one revoked.
fn revoking(weirs: &[&Installation]) -> Duration {
    let revocation = |_| {
        let (id, key) = weirs[0].create_key_with(&["--team", "growth"]).unwrap();
        weirs
            .iter()
            .for_each(|weir| weir.wait_until_known(&key).unwrap());
        weirs[weirs.len() - 1]
            .run(&["keys", "revoke", &id])
            .unwrap();
        let since = Instant::now();
        wait_for("the key is refused", || {
            let mut weirs = weirs.iter();
            Ok(weirs.all(|weir| chat(weir.gateway, &key).status == 401))
        })
        .unwrap();
        since.elapsed()
    };
    let mut took: Vec<Duration> = (0..REVOCATIONS).map(revocation).collect();
    took.sort_unstable();
    println!("a revoked key was refused after {took:?}");
    took[REVOCATIONS / 2]
}

#[test]
fn a_revoked_key_is_refused_within_a_second() {
    let _machine = alone();
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let (weir, _process) = gateway(&mock, "");
    assert!(revoking(&[&weir]) < Duration::from_secs(1));
}

#[test]
fn a_revoked_key_is_refused_by_all_gateways_of_a_cluster_within_a_second() {
    let _machine = alone();
    let kafka = Kafka::start().unwrap();
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let eventlog = format!(
        "[eventlog]\nkind = \"kafka\"\nbrokers = \"{}\"\npartitions = 1\n\n\
         [control]\nhash_secret = \"a secret of thirty-two bytes or more\"\n\n",
        kafka.brokers()
    );
    let [(one, _first), (two, _second)] = [(); 2].map(|()| gateway(&mock, &eventlog));
    assert!(revoking(&[&one, &two]) < Duration::from_secs(1));
}
