//! Two gateways with directories of their own on one Kafka: keys and rules hold on both.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_loadtest::mock::{MockHandle, MockOptions, MockProvider};
use weir_tests::kafka::Kafka;
use weir_tests::weir::{Installation, Process, wait_for};

use crate::governance::{chat, config};

const SECRET: &str = "a secret of thirty-two bytes or more";

fn installation(kafka: &Kafka, mock: &MockHandle, secret: &str) -> Installation {
    Installation::new(&format!(
        "[eventlog]\nkind = \"kafka\"\nbrokers = \"{}\"\npartitions = 1\n\n[control]\nhash_secret = \"{secret}\"\n\n{}",
        kafka.brokers(),
        config(mock)
    ))
    .unwrap()
}

fn start(weir: &Installation) -> Process {
    let gateway = weir.start(&["gateway"]).unwrap();
    weir.wait_until_ready()
        .unwrap_or_else(|error| panic!("{error}\n{}", gateway.log()));
    gateway
}

fn created(weir: &Installation, args: &[&str]) -> (String, String) {
    let output = weir
        .run(&[&["keys", "create", "--json"], args].concat())
        .unwrap();
    let created: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |name: &str| created[name].as_str().unwrap().to_owned();
    (text("id"), text("key"))
}

/// Waits until both gateways answer with a status, and says how long that took.
fn both_answer(gateways: [&Installation; 2], key: &str, status: u16) -> Duration {
    let since = Instant::now();
    wait_for(&format!("both answer {status}"), || {
        Ok(gateways
            .iter()
            .all(|weir| chat(weir.gateway, key).status == status))
    })
    .unwrap();
    since.elapsed()
}

#[test]
fn keys_hold_on_all_gateways_of_a_cluster_and_while_kafka_is_away() {
    let mut kafka = Kafka::start().unwrap();
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let (one, two) = (
        installation(&kafka, &mock, SECRET),
        installation(&kafka, &mock, SECRET),
    );
    let (first, second) = (start(&one), start(&two));

    one.run(&["teams", "set", "growth", "--contact", "#llm help"])
        .unwrap();
    let (id, key) = created(&one, &["--team", "growth"]);
    both_answer([&one, &two], &key, 200);
    let (_, kept) = created(&two, &["--team", "growth"]);
    both_answer([&one, &two], &kept, 200);

    two.run(&["keys", "revoke", &id]).unwrap();
    let took = both_answer([&one, &two], &key, 401);
    assert!(took < Duration::from_secs(1), "revoking took {took:?}");

    // Another secret would know no key, so the gateway says so and does not start.
    let stranger = installation(&kafka, &mock, "another secret of thirty-two bytes");
    let output = stranger.command(&["gateway"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("[control] hash_secret"),
        "{said}"
    );

    kafka.kill();
    assert_eq!(
        chat(one.gateway, &kept).status,
        200,
        "keys work from memory"
    );
    let refused = one
        .command(&["keys", "create", "--team", "t"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("weir.control"),
        "{said}"
    );
    drop(second);
    let second = start(&two);
    assert_eq!(chat(two.gateway, &kept).status, 200, "and over a restart");
    assert_eq!(
        chat(two.gateway, &key).status,
        401,
        "a revoked key stays revoked"
    );

    kafka.start_again().unwrap();
    let (_, late) = created(&one, &["--team", "growth"]);
    both_answer([&one, &two], &late, 200);
    assert!(
        !fs::read_to_string(one.data_dir().join("control/control.log"))
            .unwrap()
            .contains(&late)
    );
    drop((first, second));
}

/// Calls both gateways from two threads each for a while; how many were answered, and refused.
fn hammer(gateways: [&Installation; 2], key: &str, time: Duration) -> (u64, u64) {
    let (answered, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let end = Instant::now() + time;
    std::thread::scope(|scope| {
        for weir in gateways.iter().chain(&gateways) {
            scope.spawn(|| {
                while Instant::now() < end {
                    let counter = match chat(weir.gateway, key).status {
                        200 => &answered,
                        429 => &refused,
                        other => panic!("status {other}"),
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    (answered.into_inner(), refused.into_inner())
}

#[test]
fn limits_and_budgets_hold_over_all_gateways_of_a_cluster() {
    let kafka = Kafka::start().unwrap();
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let (one, two) = (
        installation(&kafka, &mock, SECRET),
        installation(&kafka, &mock, SECRET),
    );
    let (first, second) = (start(&one), start(&two));
    one.run(&[
        "limits", "set", "shared", "--team", "limited", "--rpm", "300",
    ])
    .unwrap();
    let (_, probe) = created(&one, &["--team", "probe"]);
    both_answer([&one, &two], &probe, 200);
    let used = chat(one.gateway, &probe).json()["usage"]["total_tokens"]
        .as_u64()
        .unwrap();
    let limit = (40 * used).to_string();
    one.run(&[
        "budgets", "set", "forty", "--team", "spender", "--tokens", &limit, "--window", "total",
    ])
    .unwrap();
    let (_, limited) = created(&one, &["--team", "limited"]);
    let (_, spender) = created(&one, &["--team", "spender"]);
    let known = |key: &str| {
        [&one, &two]
            .iter()
            .for_each(|weir| weir.wait_until_known(key).unwrap())
    };
    known(&limited);
    known(&spender);

    let since = Instant::now();
    let (answered, refused) = hammer([&one, &two], &limited, Duration::from_secs(6));
    // A minute's worth at once, and five a second afterwards.
    let one_would = 300.0 + 5.0 * since.elapsed().as_secs_f64();
    let answered_f = f64::from(u32::try_from(answered).unwrap());
    println!("{answered} answered, {refused} refused, one gateway would answer {one_would}");
    assert!(refused > 0);
    assert!(
        (answered_f / one_would - 1.0).abs() <= 0.05,
        "{answered} of {one_would}"
    );

    let (answered, refused) = hammer([&one, &two], &spender, Duration::from_secs(3));
    println!("{answered} paid of 40, {refused} refused");
    assert!(
        refused > 0 && (37..=42).contains(&answered),
        "{answered} were paid"
    );
    // A gateway that starts anew knows what all have spent.
    drop(first);
    let first = start(&one);
    let (again, _) = hammer([&one, &two], &spender, Duration::from_secs(1));
    assert!(answered + again <= 42, "{again} more were paid");
    drop((first, second));
}
