//! What it costs to tell whose key it is and to take from three limits and two budgets, with a
//! thousand, ten thousand and a hundred thousand keys, and a tenth as many budgets. And what it costs
//! then to make the response headers that say so.
//!
//! `cargo bench -p weir-gateway --bench admission`. Each request comes with another key, in no order.
//! Either the same thousand keys are used, however many there are: that shows what the others cost by
//! being there. Or thousands of them are, all over: then much of the time is spent on waiting for
//! memory that was not in the cache. For instructions instead of time:
//! `valgrind --tool=callgrind --toggle-collect='*Door*let_in*' target/release/deps/admission-… --bench --profile-time 1`.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot start has nothing to say"
)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use arc_swap::ArcSwap;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use weir_dialects::Family;
use weir_gateway::limit_headers;
use weir_governance::admission::{AdmissionTry, Admitted, Ask, Estimate, admit};
use weir_governance::control::key::{HashKey, KeyId};
use weir_governance::control::policy::Subject;
use weir_governance::control::record::{Change, KeyRecord, Kind, Record};
use weir_governance::control::{Identity, LastUse, Snapshot};
use weir_limits::Class;
use weir_schemas::PicoUsd;

/// Keys that requests come with, of all that there are.
const FEW: usize = 1_000;
const MANY: usize = 10_000;
const MODEL: &str = "fast-chat";
const PRICE: PicoUsd = PicoUsd(1_000_000_000);
/// More than any budget has: only the close bound fits.
const TOO_MUCH: PicoUsd = PicoUsd(i64::MAX);

/// Keys and rules, and the decision about a request by itself.
struct Door {
    hash_key: HashKey,
    snapshot: ArcSwap<Snapshot>,
}

impl Door {
    fn new(hash_key: HashKey, changes: Vec<Change>) -> Self {
        let mut snapshot = Snapshot::default();
        snapshot.apply(changes);
        Self {
            hash_key,
            snapshot: ArcSwap::from_pointee(snapshot),
        }
    }

    /// What a request goes through between its headers and its routing.
    fn let_in(&self, key: &str, coarse: PicoUsd, now_us: u64) -> (Identity, Admitted) {
        let snapshot = self.snapshot.load();
        let identity = snapshot.authenticate(&self.hash_key, key, now_us / 1000);
        let identity = identity.unwrap();
        identity.note_use(LastUse {
            at_ms: now_us / 1000,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        });
        let most = |cost| Estimate {
            tokens: 100,
            cost: Some(cost),
        };
        let ask = Ask {
            tokens: 100,
            likely_cost: &|| Some(PRICE),
            coarse: &|| Some(most(coarse)),
            tight: &|_| Some(most(PRICE)),
            output_limits: None,
        };
        let tried = AdmissionTry {
            turn: None,
            is_last: true,
        };
        let subject = subject(&identity);
        let policy = identity.policy();
        let admitted = admit(policy, &subject, Class::Interactive, &ask, tried, now_us).unwrap();
        (identity, admitted)
    }
}

fn subject(identity: &Identity) -> Subject<'_> {
    Subject {
        caller: identity.caller(None, None),
        model: MODEL,
    }
}

fn rule(kind: Kind, json: &str) -> Change {
    Change::set(Record::parse(kind, json).unwrap())
}

/// Keys in teams of twenty, of which the first thousand are whole teams. Each team has two budgets of
/// its own; three limits hold for all, of which two are counted apart.
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
        let (key, hash) = hash_key.new_key().unwrap();
        let record = KeyRecord {
            team: Some(format!("team-{}", number / 20)),
            user: Some(format!("user-{number}")),
            ..KeyRecord::new(KeyId(number as u128), hash, 1)
        };
        changes.push(Change::set(Record::Key(record)));
        callers.push(key);
    }
    (Door::new(HashKey::new(&secret).unwrap(), changes), callers)
}

/// So many keys, one of every few, in no order: neighbours in memory do not follow each other.
fn some(callers: &[String], count: usize, one_of: usize) -> Vec<&str> {
    let some = callers.iter().step_by(one_of).take(count);
    let mut some: Vec<&str> = some.map(String::as_str).collect();
    some.sort_unstable();
    some
}

fn admission(criterion: &mut Criterion) {
    for keys in [1_000, 10_000, 100_000] {
        let (door, callers) = door(keys);
        let used = [
            ("1000 used", some(&callers, FEW, 1)),
            ("10000 used", some(&callers, MANY, (keys / MANY).max(1))),
        ];
        for (name, callers) in used {
            if name != "10000 used" || keys >= MANY {
                let name = BenchmarkId::new(name, format!("{keys} keys"));
                let_in(criterion, &door, &callers, PRICE, name);
            }
        }
        if keys == 100_000 {
            let name = BenchmarkId::new("near a budget's end", format!("{keys} keys"));
            let_in(criterion, &door, &some(&callers, FEW, 1), TOO_MUCH, name);
        }
        if keys == 1_000 {
            headers(criterion, &door, &callers[0]);
        }
    }
}

fn let_in(
    criterion: &mut Criterion,
    door: &Door,
    callers: &[&str],
    coarse: PicoUsd,
    name: BenchmarkId,
) {
    let mut callers = callers.iter().cycle();
    let mut now_us = 1_780_000_000_000_000;
    let mut group = criterion.benchmark_group("authenticate and admit");
    group.bench_function(name, |bencher| {
        bencher.iter_batched(
            || *callers.next().unwrap(),
            |key| {
                now_us += 100;
                black_box(door.let_in(key, coarse, now_us))
            },
            // What was let in is dropped outside of the time.
            BatchSize::NumIterations(100),
        );
    });
    group.finish();
}

fn headers(criterion: &mut Criterion, door: &Door, key: &str) {
    let now_us = 1_780_000_000_000_000;
    let (identity, admitted) = door.let_in(key, PRICE, now_us);
    criterion.bench_function("headers that say so", |bencher| {
        bencher.iter(|| {
            let subject = subject(&identity);
            let (status, policy) = (&admitted.status, identity.policy());
            black_box(limit_headers(
                status,
                policy,
                &subject,
                Family::OpenAi,
                now_us,
            ))
        });
    });
}

criterion_group!(benches, admission);
criterion_main!(benches);
