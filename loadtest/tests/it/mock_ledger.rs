//! The ledger against what many clients saw.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weir_loadtest::mock::{FaultKind, FaultRule, MockOptions, MockProvider, Tally};

use crate::http::{Client, End, get};
use crate::mock_wire::{CHAT, chat};

/// What one client thread saw.
#[derive(Default)]
struct Seen {
    calls: u64,
    by_status: BTreeMap<u16, u64>,
    whole: u64,
    reset: u64,
    input: u64,
    output: u64,
}

const CLIENTS: usize = 16;
const CALLS_EACH: usize = 125;

#[test]
fn the_ledger_is_exact_under_concurrency() {
    let mock = MockProvider::start(MockOptions {
        workers: 2,
        keys: vec!["key-a".to_owned(), "key-b".to_owned()],
        output_tokens: Some("1..40".parse().unwrap()),
        faults: vec![
            FaultRule::every(FaultKind::ServerError, 10),
            FaultRule::rate(FaultKind::RateLimit, 0.05),
            FaultRule {
                streamed: Some(true),
                ..FaultRule::rate(FaultKind::Cut, 0.1)
            },
        ],
        ..MockOptions::default()
    })
    .unwrap();
    let addr = mock.addr();
    let threads: Vec<_> = (0..CLIENTS)
        .map(|client| std::thread::spawn(move || (client % 2, run_client(addr, client))))
        .collect();
    let mut by_key = [Seen::default(), Seen::default()];
    for thread in threads {
        let (key, seen) = thread.join().unwrap();
        by_key[key].add(&seen);
    }
    // No waiting: whoever has an answer finds it counted.
    let ledger = mock.ledger();
    by_key[0].check(&ledger.by_key["key-a"]);
    by_key[1].check(&ledger.by_key["key-b"]);
    let mut all = Seen::default();
    by_key.iter().for_each(|seen| all.add(seen));
    all.check(&ledger.total);
    assert_eq!(all.calls, (CLIENTS * CALLS_EACH) as u64);
    assert_eq!(ledger.total.faults[&FaultKind::ServerError], all.calls / 10);
    assert_eq!(ledger.total.faults[&FaultKind::Cut], all.reset);
    let per_model: u64 = ledger.by_model.values().map(|tally| tally.calls).sum();
    assert_eq!((ledger.by_model.len(), per_model), (3, all.calls));
    let over_http: weir_loadtest::MockLedger =
        serde_json::from_slice(&get(addr, "/__mock/ledger").body).unwrap();
    assert_eq!(
        over_http, ledger,
        "the control endpoint says the same and counts as nothing"
    );
}

fn run_client(addr: std::net::SocketAddr, client: usize) -> Seen {
    let key = if client.is_multiple_of(2) {
        "Bearer key-a"
    } else {
        "Bearer key-b"
    };
    let mut seen = Seen::default();
    let mut connection = Client::connect(addr);
    for call in 0..CALLS_EACH {
        let streamed = call.is_multiple_of(2);
        let options = if streamed {
            r#","stream":true,"stream_options":{"include_usage":true}"#
        } else {
            ""
        };
        let body = chat(options).replace("gpt-4o", &format!("model-{}", call % 3));
        let got = connection
            .call("POST", CHAT, &[("authorization", key)], &body)
            .unwrap();
        seen.calls += 1;
        *seen.by_status.entry(got.status).or_default() += 1;
        if got.end != End::Whole {
            assert_eq!(got.end, End::Reset);
            seen.reset += 1;
            connection = Client::connect(addr);
            continue;
        }
        seen.whole += 1;
        if got.status == 200 {
            let last = got
                .events()
                .iter()
                .rev()
                .nth(1)
                .map(|event| serde_json::from_str(event).unwrap());
            let usage = last.unwrap_or_else(|| got.json())["usage"].clone();
            seen.input += usage["prompt_tokens"].as_u64().unwrap();
            seen.output += usage["completion_tokens"].as_u64().unwrap();
        }
    }
    seen
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.whole += other.whole;
        self.reset += other.reset;
        self.input += other.input;
        self.output += other.output;
        for (status, count) in &other.by_status {
            *self.by_status.entry(*status).or_default() += count;
        }
    }

    fn check(&self, tally: &Tally) {
        assert_eq!(tally.calls, self.calls);
        assert_eq!(tally.by_status, self.by_status);
        assert_eq!(tally.completed, self.whole);
        assert_eq!(
            (tally.in_flight, tally.unanswered, tally.disconnects),
            (0, 0, 0)
        );
        assert_eq!(
            (tally.reported.input, tally.reported.output),
            (self.input, self.output)
        );
        assert!(tally.served.output >= tally.reported.output);
    }
}

#[test]
fn a_caller_who_leaves_mid_stream_is_counted_with_what_he_was_sent() {
    let mock = MockProvider::start(MockOptions {
        inter_token: "5ms".parse().unwrap(),
        ..MockOptions::default()
    })
    .unwrap();
    let mut client = Client::connect(mock.addr());
    client.send(
        "POST",
        CHAT,
        &[],
        &chat(r#","max_tokens":100000,"stream":true"#),
    );
    assert!(client.peek().starts_with(b"HTTP/1.1 200"));
    drop(client);
    let patience = Instant::now() + Duration::from_secs(10);
    while mock.ledger().total.disconnects == 0 {
        assert!(
            Instant::now() < patience,
            "the leaving is noticed: {:?}",
            mock.ledger().total
        );
        std::thread::yield_now();
    }
    let total = mock.ledger().total;
    assert_eq!(
        (total.by_status[&200], total.completed, total.in_flight),
        (1, 0, 0)
    );
    assert!(
        (1..10_000).contains(&total.served.output),
        "{:?}",
        total.served
    );
    assert_eq!((total.served.input, total.reported.output), (3, 0));
}

#[test]
fn a_reset_ledger_keeps_what_is_in_flight() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let mut waiting = Client::connect(mock.addr());
    let mut other = Client::connect(mock.addr());
    waiting.send("POST", CHAT, &[("x-mock-fault", "timeout")], &chat(""));
    other.call("POST", CHAT, &[], &chat("")).unwrap();
    let patience = Instant::now() + Duration::from_secs(10);
    while mock.ledger().total.calls < 2 {
        assert!(Instant::now() < patience);
        std::thread::yield_now();
    }
    mock.reset_ledger();
    let ledger = mock.ledger();
    assert_eq!(
        (
            ledger.total.calls,
            ledger.total.in_flight,
            ledger.total.completed
        ),
        (1, 1, 0)
    );
    assert_eq!(ledger.by_model["gpt-4o"].in_flight, 1);
}
