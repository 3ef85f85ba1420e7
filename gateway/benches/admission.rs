//! What it costs to tell whose key it is, and to take from three limits and two budgets, with a
//! thousand, ten thousand and a hundred thousand keys, and a tenth as many budgets.
//!
//! `cargo bench -p weir-gateway --bench admission`. Each request comes with another key, in no order:
//! with many keys, much of the time is spent on waiting for memory that was not in the cache. For
//! instructions instead of time:
//! `valgrind --tool=callgrind --toggle-collect='*Door*let_in*' target/release/deps/admission-… --bench --profile-time 1`.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot start has nothing to say"
)]

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use weir_gateway::Door;
use weir_gateway::control::key::{self, HashKey, KeyId};
use weir_gateway::control::record::{Change, KeyRecord, Kind, Record};
use weir_schemas::PicoUsd;

/// Keys that requests come with, of all that there are.
const CALLERS: usize = 4096;
const PRICE: PicoUsd = PicoUsd(1_000_000_000);

fn rule(kind: Kind, json: &str) -> Change {
    Change::set(Record::parse(kind, json).unwrap())
}

/// Keys in teams of twenty. Each team has two budgets of its own; three limits hold for all, of which
/// two are counted apart.
fn door(keys: usize) -> (Door, Vec<String>) {
    let secret = [7; 32];
    let hash_key = HashKey::new(&secret).unwrap();
    let mut changes = vec![
        rule(
            Kind::Limit,
            r#"{"id":"all","requests_per_minute":1000000000}"#,
        ),
        rule(
            Kind::Limit,
            r#"{"id":"each","per":["key"],"requests_per_minute":1000000,"concurrency":1000}"#,
        ),
        rule(
            Kind::Limit,
            r#"{"id":"team","per":["team"],"tokens_per_minute":1000000000}"#,
        ),
    ];
    for team in 0..keys / 20 {
        for (window, usd) in [("day", 1_000_000), ("month", 10_000_000)] {
            changes.push(rule(
                Kind::Budget,
                &format!(
                    r#"{{"id":"{window}-{team}","scope":{{"team":"team-{team}"}},"usd":{usd},"window":"{window}"}}"#
                ),
            ));
        }
    }
    let mut callers = Vec::new();
    for number in 0..keys {
        let key = key::generate().unwrap();
        let record = KeyRecord {
            team: Some(format!("team-{}", number % (keys / 20))),
            user: Some(format!("user-{number}")),
            ..KeyRecord::new(KeyId(number as u128), hash_key.hash(&key).unwrap(), 1)
        };
        changes.push(Change::set(Record::Key(record)));
        if number % (keys / CALLERS.min(keys)).max(1) == 0 {
            callers.push(key);
        }
    }
    // In no order: neighbours in memory do not follow each other.
    callers.sort_unstable();
    (Door::new(HashKey::new(&secret).unwrap(), changes), callers)
}

fn admission(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("authenticate and admit");
    for keys in [1_000, 10_000, 100_000] {
        let (door, callers) = door(keys);
        let mut callers = callers.iter().cycle();
        let mut now_us = 1_780_000_000_000_000;
        let name = BenchmarkId::from_parameter(format!("{keys} keys"));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || callers.next().unwrap(),
                |key| {
                    now_us += 100;
                    black_box(door.let_in(key, "fast-chat", PRICE, now_us).unwrap())
                },
                // What was let in is dropped outside of the time.
                BatchSize::NumIterations(100),
            );
        });
    }
    group.finish();
}

criterion_group!(benches, admission);
criterion_main!(benches);
