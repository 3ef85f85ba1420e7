//! Every fault as a caller sees it, and as the ledger tells it.

use std::time::{Duration, Instant};

use weir_loadtest::mock::{
    FaultKind, FaultRule, MockHandle, MockOptions, MockProvider, TokenCounts,
};

use crate::http::{Client, End, Got, get, post};
use crate::mock_wire::{CHAT, chat, mock};

fn faulty(kind: &str, streamed: bool) -> (MockHandle, Got) {
    let mock = mock();
    let body = chat(if streamed {
        r#","max_tokens":10,"stream":true,"stream_options":{"include_usage":true}"#
    } else {
        r#","max_tokens":10"#
    });
    let mut client = Client::patient(mock.addr(), Duration::from_secs(1));
    let got = client
        .call("POST", CHAT, &[("x-mock-fault", kind)], &body)
        .unwrap();
    drop(client);
    (mock, got)
}

/// Waits for the ledger to say what is expected: a caller's leaving is noticed a moment later.
fn eventually(mock: &MockHandle, what: &str, holds: impl Fn(&weir_loadtest::MockLedger) -> bool) {
    let patience = Instant::now() + Duration::from_secs(10);
    while !holds(&mock.ledger()) {
        assert!(
            Instant::now() < patience,
            "{what}: {:#?}",
            mock.ledger().total
        );
        std::thread::yield_now();
    }
}

const ALL: TokenCounts = TokenCounts {
    input: 3,
    cached_input: 0,
    output: 10,
    reasoning: 0,
};
const NONE: TokenCounts = TokenCounts {
    input: 0,
    cached_input: 0,
    output: 0,
    reasoning: 0,
};

#[test]
fn statuses_come_in_openais_envelope_and_use_up_nothing() {
    for (kind, status, code) in [
        ("rate_limit", 429, Some("rate_limit_exceeded")),
        ("server_error", 500, None),
        ("unavailable", 503, None),
        ("context_length", 400, Some("context_length_exceeded")),
    ] {
        for streamed in [false, true] {
            let (mock, got) = faulty(kind, streamed);
            assert_eq!((got.status, got.end), (status, End::Whole), "{kind}");
            assert_eq!(got.json()["error"]["code"].as_str(), code, "{kind}");
            let total = mock.ledger().total;
            assert_eq!(
                (total.completed, total.by_status[&status]),
                (1, 1),
                "{kind}"
            );
            assert_eq!((total.served, total.reported), (NONE, NONE), "{kind}");
            assert_eq!(total.faults.len(), 1, "{kind}");
        }
    }
}

#[test]
fn a_429_says_when_to_come_back() {
    let (_mock, got) = faulty("429", false);
    assert_eq!(got.headers["retry-after"], "1");
    let (_mock, got) = faulty(r#"{"kind":"rate_limit","retry_after_s":17}"#, false);
    assert_eq!(got.headers["retry-after"], "17");
    assert!(got.text().contains("try again in 17s"));
}

#[test]
fn a_timeout_never_answers() {
    let mock = mock();
    let mut client = Client::patient(mock.addr(), Duration::from_millis(200));
    let end = client
        .call("POST", CHAT, &[("x-mock-fault", "timeout")], &chat(""))
        .unwrap_err();
    assert_eq!(end, End::Silence);
    let total = mock.ledger().total;
    assert_eq!((total.in_flight, total.faults[&FaultKind::Timeout]), (1, 1));
    drop(client);
    eventually(&mock, "the caller's leaving is noticed", |ledger| {
        ledger.total.disconnects == 1 && ledger.total.unanswered == 1 && ledger.total.in_flight == 0
    });
}

#[test]
fn slow_headers_begin_and_then_wait() {
    let mock = mock();
    let mut client = Client::connect(mock.addr());
    let began = Instant::now();
    let fault = r#"{"kind":"slow_headers","for_ms":3000}"#;
    client.send("POST", CHAT, &[("x-mock-fault", fault)], &chat(""));
    assert_eq!(
        client.peek(),
        b"HTTP/1.1 200",
        "the status comes at once, and alone"
    );
    let got = client.receive(began).unwrap();
    assert!(
        began.elapsed() >= Duration::from_millis(3000),
        "the rest comes late"
    );
    assert_eq!((got.status, got.end), (200, End::Whole));
    let next = client.call("POST", CHAT, &[], &chat("")).unwrap();
    assert_eq!(
        (next.status, next.end),
        (200, End::Whole),
        "the connection is good for more"
    );
}

#[test]
fn a_cut_stream_is_reset_after_what_was_sent() {
    let (mock, got) = faulty("cut", true);
    assert_eq!((got.status, got.end), (200, End::Reset));
    // The role and half of ten tokens.
    assert_eq!(got.events().len(), 6, "{}", got.text());
    let total = mock.ledger().total;
    assert_eq!(total.served, TokenCounts { output: 5, ..ALL });
    assert_eq!(
        (total.reported, total.completed, total.disconnects),
        (NONE, 0, 0)
    );
}

#[test]
fn a_cut_is_placed_where_the_rule_says() {
    let (mock, got) = faulty(r#"{"kind":"cut","after_tokens":0}"#, true);
    assert_eq!((got.events().len(), got.end), (1, End::Reset));
    assert_eq!(mock.ledger().total.served.output, 0);
    let (_mock, got) = faulty(r#"{"kind":"cut","after_tokens":999}"#, true);
    assert_eq!(
        (got.events().len(), got.end),
        (11, End::Reset),
        "never past the end"
    );
}

#[test]
fn a_cut_plain_answer_is_half_of_it() {
    let (mock, got) = faulty("cut", false);
    assert_eq!((got.status, got.end), (200, End::Reset));
    let length: usize = got.headers["content-length"].parse().unwrap();
    assert_eq!(got.body.len(), length / 2);
    let total = mock.ledger().total;
    assert_eq!(
        (total.served, total.reported, total.completed),
        (ALL, NONE, 0)
    );
}

#[test]
fn a_malformed_chunk_stands_in_a_stream_that_goes_on() {
    let (mock, got) = faulty("malformed_chunk", true);
    assert_eq!(got.end, End::Whole);
    let broken: Vec<&str> = got
        .events()
        .into_iter()
        .filter(|event| *event != "[DONE]")
        .filter(|event| serde_json::from_str::<serde_json::Value>(event).is_err())
        .collect();
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert_eq!(got.events().len(), 1 + 10 + 1 + 1 + 1 + 1);
    assert_eq!(mock.ledger().total.reported, ALL);
}

#[test]
fn a_malformed_plain_answer_is_half_a_document() {
    let (mock, got) = faulty("malformed_chunk", false);
    assert_eq!((got.status, got.end), (200, End::Whole));
    assert!(serde_json::from_slice::<serde_json::Value>(&got.body).is_err());
    let total = mock.ledger().total;
    assert_eq!(
        (total.served, total.reported, total.completed),
        (ALL, NONE, 1)
    );
}

#[test]
fn an_error_event_ends_a_stream_without_done() {
    let (mock, got) = faulty("stream_error", true);
    assert_eq!((got.status, got.end), (200, End::Whole));
    let last: serde_json::Value = serde_json::from_str(got.events().last().unwrap()).unwrap();
    assert_eq!(last["error"]["type"], "server_error");
    assert!(!got.text().contains("[DONE]"));
    let total = mock.ledger().total;
    assert_eq!(
        (total.served.output, total.reported, total.completed),
        (5, NONE, 0)
    );
    let (_mock, plain) = faulty("stream_error", false);
    assert_eq!(plain.status, 500);
}

#[test]
fn a_stall_keeps_the_connection_open_and_silent() {
    for streamed in [true, false] {
        let (mock, got) = faulty("stall", streamed);
        assert_eq!(
            (got.status, got.end),
            (200, End::Silence),
            "streamed: {streamed}"
        );
        assert!(!got.body.is_empty());
        eventually(&mock, "the caller's leaving is noticed", |ledger| {
            ledger.total.disconnects == 1 && ledger.total.in_flight == 0
        });
        assert_eq!(mock.ledger().total.reported, NONE);
    }
}

#[test]
fn a_stall_with_an_end_goes_on() {
    for streamed in [true, false] {
        let (mock, got) = faulty(r#"{"kind":"stall","for_ms":150}"#, streamed);
        assert_eq!(
            (got.status, got.end),
            (200, End::Whole),
            "streamed: {streamed}"
        );
        assert!(got.arrivals.last().unwrap().0 >= Duration::from_millis(150));
        assert_eq!(mock.ledger().total.reported, ALL);
    }
}

#[test]
fn every_tenth_call_fails_and_none_protects() {
    let mock = MockProvider::start(MockOptions {
        faults: vec![FaultRule::every(FaultKind::ServerError, 10)],
        ..MockOptions::default()
    })
    .unwrap();
    let mut client = Client::connect(mock.addr());
    let statuses: Vec<u16> = (0..30)
        .map(|_| client.call("POST", CHAT, &[], &chat("")).unwrap().status)
        .collect();
    let failed: Vec<usize> = (1..)
        .zip(&statuses)
        .filter(|(_, s)| **s == 500)
        .map(|(n, _)| n)
        .collect();
    assert_eq!(failed, [10, 20, 30]);
    mock.set_faults(vec![FaultRule::always(FaultKind::Unavailable)])
        .unwrap();
    assert_eq!(
        client.call("POST", CHAT, &[], &chat("")).unwrap().status,
        503
    );
    let protected = client
        .call("POST", CHAT, &[("x-mock-fault", "none")], &chat(""))
        .unwrap();
    assert_eq!(protected.status, 200);
    let in_body = client
        .call(
            "POST",
            CHAT,
            &[],
            &chat(r#","metadata":{"mock_fault":"429"}"#),
        )
        .unwrap();
    assert_eq!(
        in_body.status, 429,
        "an override in the body passes through any gateway"
    );
}

#[test]
fn faults_and_latency_change_while_it_runs() {
    let mock = mock();
    let addr = mock.addr();
    assert_eq!(post(addr, CHAT, &[], &chat("")).status, 200);
    let rules = r#"[{"kind":"unavailable","every":2,"model":"gpt-4o"}]"#;
    assert_eq!(post(addr, "/__mock/faults", &[], rules).status, 200);
    assert_eq!(
        get(addr, "/__mock/faults").text(),
        r#"[{"kind":"unavailable","every":2,"model":"gpt-4o"}]"#
    );
    let statuses: Vec<u16> = (0..4)
        .map(|_| post(addr, CHAT, &[], &chat("")).status)
        .collect();
    assert_eq!(statuses, [200, 503, 200, 503]);
    let bad = post(addr, "/__mock/faults", &[], r#"[{"kind":"cut","every":0}]"#);
    assert_eq!(bad.status, 400);
    assert!(bad.text().contains("rule 1"), "{}", bad.text());
    assert_eq!(post(addr, "/__mock/faults", &[], "[]").status, 200);
    assert_eq!(
        post(addr, "/__mock/latency", &[], r#"{"ttft":"120ms"}"#).status,
        200
    );
    let began = Instant::now();
    assert_eq!(post(addr, CHAT, &[], &chat("")).status, 200);
    assert!(began.elapsed() >= Duration::from_millis(120));
}

#[test]
fn enforced_limits_answer_429_when_the_minute_is_used_up() {
    let mock = MockProvider::start(MockOptions {
        requests_per_minute: 2,
        enforce_limits: true,
        ..MockOptions::default()
    })
    .unwrap();
    let got: Vec<Got> = (0..3)
        .map(|_| post(mock.addr(), CHAT, &[], &chat("")))
        .collect();
    let left: Vec<&str> = got
        .iter()
        .map(|got| got.headers["x-ratelimit-remaining-requests"].as_str())
        .collect();
    assert_eq!(left, ["1", "0", "0"]);
    assert_eq!(got[2].status, 429);
    let seconds: u64 = got[2].headers["retry-after"].parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
}

#[test]
fn pauses_are_kept_between_tokens_and_before_the_first() {
    let mock = MockProvider::start(MockOptions {
        ttft: "100ms".parse().unwrap(),
        inter_token: "20ms".parse().unwrap(),
        ..MockOptions::default()
    })
    .unwrap();
    let got = post(
        mock.addr(),
        CHAT,
        &[],
        &chat(r#","max_tokens":6,"stream":true"#),
    );
    let first = got.arrivals.first().unwrap().0;
    let last = got.arrivals.last().unwrap().0;
    assert!(
        first >= Duration::from_millis(100),
        "first token after {first:?}"
    );
    assert!(
        last >= Duration::from_millis(200),
        "last of six after {last:?}"
    );
    let began = Instant::now();
    post(mock.addr(), CHAT, &[], &chat(r#","max_tokens":6"#));
    assert!(
        began.elapsed() >= Duration::from_millis(200),
        "a plain answer takes as long"
    );
}

#[test]
fn shutdown_closes_listener_and_connections() {
    let mock = mock();
    let addr = mock.addr();
    let mut client = Client::connect(addr);
    assert_eq!(
        client.call("POST", CHAT, &[], &chat("")).unwrap().status,
        200
    );
    mock.shutdown();
    assert!(std::net::TcpStream::connect(addr).is_err());
    let end = client.receive(Instant::now()).unwrap_err();
    assert!(matches!(end, End::Closed | End::Reset), "{end:?}");
}
