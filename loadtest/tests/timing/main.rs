//! The load generator against mocks whose behaviour is known. What it measures depends on how fast things
//! happen: cargo runs test binaries one after the other, and the tests here run one after the other too.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use weir_loadtest::StopSwitch;
use weir_loadtest::bench::{
    Arrival, BenchCandidate, BenchError, BenchOptions, BenchReport, Series, Stop, Workload,
    compare, run, run_until,
};
use weir_loadtest::mock::{FaultKind, FaultRule, MockHandle, MockOptions, MockProvider};
use weir_loadtest::trace::{Trace, TraceName};

/// The machine, held by one test at a time.
static MACHINE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    MACHINE.lock()
}

fn mock() -> MockHandle {
    MockProvider::start(MockOptions::default()).unwrap()
}

fn options(mock: &MockHandle) -> BenchOptions {
    BenchOptions {
        url: mock.base_url(),
        warm_up: Duration::ZERO,
        connections: 16,
        progress: false,
        ..BenchOptions::default()
    }
}

fn requests(count: u64) -> Stop {
    Stop {
        after: None,
        requests: Some(count),
    }
}

fn streams(tokens: &str) -> Workload {
    Workload {
        model: "m".to_owned(),
        input_tokens: "8".parse().unwrap(),
        output_tokens: tokens.parse().unwrap(),
        streamed: true,
    }
}

/// What every report of a finished run keeps to.
fn check_sums(report: &BenchReport) {
    assert_eq!(report.requests, report.answered + report.failed);
    assert_eq!(
        report.failed,
        report.counts.errors.values().sum::<u64>(),
        "{:?}",
        report.counts.errors
    );
    assert_eq!(report.latency(Series::Total).count, report.requests);
}

#[test]
fn a_constant_rate_is_kept_and_every_request_arrives() {
    let _machine = alone();
    let mock = mock();
    let report = run(&BenchOptions {
        arrival: Arrival::Constant { per_second: 500.0 },
        stop: Stop {
            after: Some(Duration::from_secs(2)),
            requests: None,
        },
        warm_up: Duration::from_millis(200),
        ..options(&mock)
    })
    .unwrap();
    check_sums(&report);
    assert_eq!(
        (report.answered, report.failed, report.counts.unsent),
        (1000, 0, 0)
    );
    assert_eq!(
        mock.ledger().total.completed,
        1100,
        "the warm-up is sent, not recorded"
    );
    assert!(
        (report.achieved_per_s / 500.0 - 1.0).abs() < 0.05,
        "{}",
        report.achieved_per_s
    );
    assert!(
        report.latency(Series::Lateness).p50_us < 1_000.0,
        "{report}"
    );
}

#[test]
fn a_stall_is_charged_to_every_request_that_should_have_gone_out() {
    let _machine = alone();
    let mock = MockProvider::start(MockOptions {
        // Call 200 holds its head back for half a second, once.
        faults: vec![FaultRule {
            times: Some(1),
            for_ms: Some(500),
            ..FaultRule::every(FaultKind::SlowHeaders, 200)
        }],
        ..MockOptions::default()
    })
    .unwrap();
    let report = run(&BenchOptions {
        arrival: Arrival::Constant { per_second: 200.0 },
        stop: requests(400),
        connections: 1,
        ..options(&mock)
    })
    .unwrap();
    check_sums(&report);
    assert_eq!(report.answered, 400);
    // A hundred of 400 should have gone out during the stall and waited between 500 ms and none: at the 90th percentile 300 ms.
    let corrected = report.latency(Series::Total);
    assert!(
        corrected.p90_us >= 250_000.0 && corrected.p99_us >= 400_000.0,
        "{report}"
    );
    assert!(report.counts.late >= 95, "{report}");
    // One in 400 was slow by the naive count: its 99th percentile never saw the stall.
    let naive = report.latency(Series::FromSend);
    assert!(
        naive.max_us >= 500_000.0 && naive.p99_us * 2.0 < corrected.p90_us,
        "{report}"
    );
}

#[test]
fn what_could_not_be_sent_is_said() {
    let _machine = alone();
    let mock = MockProvider::start(MockOptions {
        ttft: "100ms".parse().unwrap(),
        ..MockOptions::default()
    })
    .unwrap();
    let report = run(&BenchOptions {
        arrival: Arrival::Constant { per_second: 100.0 },
        stop: Stop {
            after: Some(Duration::from_secs(1)),
            requests: None,
        },
        connections: 2,
        ..options(&mock)
    })
    .unwrap();
    check_sums(&report);
    assert_eq!(report.requests + report.counts.unsent, 100);
    assert!((60..=95).contains(&report.counts.unsent), "{report}");
    assert!(report.to_string().contains("UNSENT"), "{report}");
}

#[test]
fn failures_are_told_apart_and_agree_with_the_mock() {
    let _machine = alone();
    let mock = MockProvider::start(MockOptions {
        faults: vec![
            FaultRule::every(FaultKind::ServerError, 5),
            FaultRule::every(FaultKind::Cut, 7),
            FaultRule::every(FaultKind::StreamError, 11),
            FaultRule::every(FaultKind::RateLimit, 13),
        ],
        ..MockOptions::default()
    })
    .unwrap();
    let report = run(&BenchOptions {
        arrival: Arrival::Closed,
        stop: requests(200),
        workload: streams("6"),
        ..options(&mock)
    })
    .unwrap();
    check_sums(&report);
    let faults = mock.ledger().total.faults;
    let errors: Vec<(&str, u64)> = report
        .counts
        .errors
        .iter()
        .map(|(name, count)| (&**name, *count))
        .collect();
    assert_eq!(
        errors,
        [
            ("cut short", faults[&FaultKind::Cut]),
            ("error event", faults[&FaultKind::StreamError]),
            ("status 429", faults[&FaultKind::RateLimit]),
            ("status 500", faults[&FaultKind::ServerError]),
        ]
    );
    assert_eq!(report.counts.statuses[&500], 40);
}

#[test]
fn a_timeout_and_a_closed_port_are_errors_with_a_name() {
    let _machine = alone();
    let mock = MockProvider::start(MockOptions {
        faults: vec![FaultRule::every(FaultKind::Timeout, 2)],
        ..MockOptions::default()
    })
    .unwrap();
    let base = BenchOptions {
        arrival: Arrival::Closed,
        stop: requests(10),
        connections: 2,
        timeout: Duration::from_millis(1_500),
        ..options(&mock)
    };
    let report = run(&base).unwrap();
    check_sums(&report);
    assert_eq!((report.answered, report.counts.errors["timeout"]), (5, 5));
    mock.shutdown();
    let report = run(&BenchOptions {
        stop: requests(3),
        ..base
    })
    .unwrap();
    assert_eq!((report.answered, report.counts.errors["connect"]), (0, 3));
}

#[test]
fn streams_have_first_tokens_and_gaps() {
    let _machine = alone();
    let mock = MockProvider::start(MockOptions {
        ttft: "30ms".parse().unwrap(),
        inter_token: "5ms".parse().unwrap(),
        ..MockOptions::default()
    })
    .unwrap();
    let report = run(&BenchOptions {
        arrival: Arrival::Constant { per_second: 40.0 },
        stop: requests(20),
        workload: streams("11"),
        ..options(&mock)
    })
    .unwrap();
    check_sums(&report);
    assert_eq!(report.answered, 20);
    // A role, eleven tokens, a finish, the usage and the end.
    assert_eq!(report.counts.events, 20 * 15);
    let first = report.latency(Series::FirstToken);
    assert!((30_000.0..60_000.0).contains(&first.p50_us), "{report}");
    let total = report.latency(Series::Total);
    assert!((80_000.0..150_000.0).contains(&total.p50_us), "{report}");
    let gap = report.latency(Series::BetweenChunks);
    assert!((2_500.0..12_000.0).contains(&gap.p90_us), "{report}");
}

#[test]
fn a_trace_is_replayed_with_its_sizes_and_times() {
    let _machine = alone();
    let mock = mock();
    let trace = Arc::new(Trace::generated(TraceName::AzureConv, 120, 3));
    let input: u64 = trace
        .calls
        .iter()
        .map(|call| u64::from(call.input_tokens))
        .sum();
    let output: u64 = trace
        .calls
        .iter()
        .map(|call| u64::from(call.output_tokens))
        .sum();
    let speed = 20.0;
    let span = trace.calls.last().unwrap().at.div_f64(speed);
    let began = Instant::now();
    let report = run(&BenchOptions {
        arrival: Arrival::Trace { trace, speed },
        stop: Stop::default(),
        threads: 2,
        ..options(&mock)
    })
    .unwrap();
    check_sums(&report);
    assert!(began.elapsed() >= span, "no sooner than recorded");
    let total = mock.ledger().total;
    assert_eq!((report.answered, total.completed), (120, 120));
    assert_eq!(
        (total.reported.input, total.reported.output),
        (input, output)
    );
    assert!(
        report.arrival.contains("generated with seed 3"),
        "{}",
        report.arrival
    );
}

#[test]
fn a_closed_loop_keeps_its_connections_and_uses_all_threads() {
    let _machine = alone();
    let mock = mock();
    let report = run(&BenchOptions {
        arrival: Arrival::Closed,
        stop: requests(2_000),
        connections: 8,
        threads: 2,
        ..options(&mock)
    })
    .unwrap();
    check_sums(&report);
    assert_eq!(report.answered, 2_000);
    assert_eq!(report.counts.connections_opened, 8);
    assert_eq!(mock.ledger().connections, 8);
    assert_eq!(report.offered_per_s, None);
}

#[test]
fn a_switch_ends_a_run_that_would_not_end() {
    let _machine = alone();
    let mock = MockProvider::start(MockOptions {
        faults: vec![FaultRule::always(FaultKind::Timeout)],
        ..MockOptions::default()
    })
    .unwrap();
    let stop = StopSwitch::default();
    let run = {
        let (options, stop) = (options(&mock), stop.clone());
        std::thread::spawn(move || {
            run_until(
                &BenchOptions {
                    arrival: Arrival::Closed,
                    ..options
                },
                &stop,
            )
        })
    };
    let patience = Instant::now() + Duration::from_secs(30);
    while mock.ledger().total.in_flight == 0 {
        assert!(Instant::now() < patience);
        std::thread::yield_now();
    }
    let pulled = Instant::now();
    stop.stop();
    let report = run.join().unwrap().unwrap();
    assert!(
        pulled.elapsed() < Duration::from_secs(30),
        "ended after {:?}",
        pulled.elapsed()
    );
    assert_eq!(report.answered, 0);
}

#[test]
fn a_report_is_readable_by_people_and_programs() {
    let _machine = alone();
    let mock = mock();
    let report = run(&BenchOptions {
        arrival: Arrival::Poisson { per_second: 400.0 },
        stop: requests(200),
        watch: vec![std::process::id()],
        ..options(&mock)
    })
    .unwrap();
    let text = report.to_string();
    for part in [
        "Poisson 400/s",
        "200 answered, 0 failed",
        "us CPU per request",
        "p99.9",
        "from send (uncorrected)",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["latency"]["total"]["count"], 200);
    assert_eq!(json["statuses"]["200"], 200);
    assert!(json["latency"]["total"]["p99_us"].as_f64().unwrap() > 0.0);
    assert!(json["process"]["resident_bytes_after"].as_u64().unwrap() > 1_000_000);
}

#[test]
fn targets_are_compared_in_turns() {
    let _machine = alone();
    let (fast, slow) = (
        mock(),
        MockProvider::start(MockOptions {
            ttft: "20ms".parse().unwrap(),
            ..MockOptions::default()
        })
        .unwrap(),
    );
    let candidate = |name: &str, mock: &MockHandle| BenchCandidate {
        name: name.to_owned(),
        url: mock.base_url(),
        key: None,
        watch: Vec::new(),
    };
    let base = BenchOptions {
        arrival: Arrival::Constant { per_second: 200.0 },
        stop: requests(40),
        ..options(&fast)
    };
    let candidates = [candidate("fast", &fast), candidate("slow", &slow)];
    let comparison = compare(&base, &candidates, 3, &StopSwitch::default()).unwrap();
    let [a, b] = comparison.targets.as_slice() else {
        panic!("two targets")
    };
    assert_eq!(
        (a.reports.len(), b.reports.len(), a.failed + b.failed),
        (3, 3, 0)
    );
    assert!(b.p50_us > a.p50_us + 15_000.0, "{comparison}");
    assert_eq!(fast.ledger().total.completed, 120);
    assert!(
        comparison
            .to_string()
            .contains("medians of 3 interleaved rounds")
    );
}

#[test]
fn impossible_options_are_refused_with_a_reason() {
    let _machine = alone();
    let check = |change: &dyn Fn(&mut BenchOptions), reason: &str| {
        let mut options = BenchOptions {
            progress: false,
            ..BenchOptions::default()
        };
        change(&mut options);
        let error = run(&options).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        error
    };
    check(&|o| o.threads = 0, "threads");
    check(&|o| o.connections = 0, "connections (0)");
    check(
        &|o| o.arrival = Arrival::Constant { per_second: 0.0 },
        "a rate of 0/s",
    );
    check(&|o| o.stop = Stop::default(), "when to stop");
    check(
        &|o| o.url = "https://127.0.0.1/v1".to_owned(),
        "only plain http://",
    );
    check(&|o| o.url = "127.0.0.1:8080".to_owned(), "http");
    let error = check(&|o| o.watch = vec![u32::MAX], "process 4294967295");
    assert!(matches!(error, BenchError::Watch { .. }));
}
