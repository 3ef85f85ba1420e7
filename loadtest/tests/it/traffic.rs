//! Replay and demo traffic against mocks that keep their own ledger.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_loadtest::StopSwitch;
use weir_loadtest::demo::{self, DemoOptions, Member};
use weir_loadtest::mock::{
    FaultKind, FaultRule, MockHandle, MockOptions, MockProvider, TokenCounts,
};
use weir_loadtest::replay::{
    ClientCall, ClientLedger, ReplayCaller, ReplayOptions, ReplayOutcome, replay, replay_until,
};
use weir_loadtest::trace::{Trace, TraceName};

const TEAMS: [&str; 3] = ["growth", "search", "support"];

fn callers() -> Vec<ReplayCaller> {
    TEAMS
        .map(|team| ReplayCaller {
            team: team.to_owned(),
            key: format!("key-{team}"),
        })
        .to_vec()
}

fn mock_with(faults: Vec<FaultRule>) -> MockHandle {
    let keys = TEAMS.map(|team| format!("key-{team}")).to_vec();
    MockProvider::start(MockOptions {
        keys,
        faults,
        ..MockOptions::default()
    })
    .unwrap()
}

fn replay_options(mock: &MockHandle, calls: usize) -> ReplayOptions {
    ReplayOptions {
        url: mock.base_url(),
        callers: callers(),
        // Recorded where the trace is found, drawn from its fit elsewhere: the test holds for both.
        trace: Arc::new(Trace::named(TraceName::AzureConv, calls, 1).unwrap()),
        speed: 100.0,
        ..ReplayOptions::default()
    }
}

#[test]
fn the_clients_ledger_agrees_with_the_mocks_per_key() {
    let mock = mock_with(vec![FaultRule::every(FaultKind::ServerError, 10)]);
    let options = replay_options(&mock, 300);
    let ledger = replay(&options).unwrap();
    assert_eq!(ledger.calls.len(), 300);
    let numbers: Vec<u64> = ledger.calls.iter().map(|call| call.number).collect();
    assert_eq!(numbers, (0..300).collect::<Vec<_>>());
    let ours = mock.ledger();
    assert_eq!(ours.total.calls, 300);
    for team in TEAMS {
        let tally = &ours.by_key[&format!("key-{team}")];
        let calls: Vec<&ClientCall> = ledger.of_team(team).collect();
        assert_eq!(tally.calls, calls.len() as u64);
        assert_eq!(
            tally.reported,
            ClientLedger::tokens(calls.iter().copied()),
            "{team}"
        );
        let failed = calls.iter().filter(|call| call.status == Some(500)).count() as u64;
        assert_eq!(
            tally.by_status.get(&500).copied().unwrap_or(0),
            failed,
            "{team}"
        );
    }
    assert_eq!(ledger.served().count(), 270);
    for (call, recorded) in ledger.calls.iter().zip(&options.trace.calls) {
        assert_eq!(
            (call.outcome, call.error.is_some()),
            (ReplayOutcome::Whole, call.status == Some(500))
        );
        assert!(call.request_id.as_ref().unwrap().starts_with("req_"));
        if call.status == Some(200) {
            let usage = call.usage.unwrap();
            assert_eq!(usage.input, u64::from(recorded.input_tokens));
            assert_eq!(usage.output, u64::from(recorded.output_tokens));
            assert_eq!(call.deltas, if call.streamed { usage.output } else { 0 });
        }
    }
    let streams = ledger.calls.iter().filter(|call| call.streamed).count();
    assert!(
        (100..200).contains(&streams),
        "{streams} of 300 at one half"
    );
}

#[test]
fn broken_answers_are_told_apart() {
    let outcomes = |kind, streamed_share| {
        let mock = mock_with(vec![FaultRule::always(kind)]);
        let ledger = replay(&ReplayOptions {
            streamed_share,
            timeout: Duration::from_secs(1),
            ..replay_options(&mock, 4)
        })
        .unwrap();
        let outcome = ledger.calls[0].outcome;
        assert!(
            ledger.calls.iter().all(|call| call.outcome == outcome),
            "{kind:?}: {ledger:?}"
        );
        assert_eq!(ledger.served().count(), 0, "{kind:?}");
        (outcome, ledger.calls[0].clone())
    };
    let (outcome, cut) = outcomes(FaultKind::Cut, 1.0);
    assert_eq!(
        (outcome, cut.status, cut.usage),
        (ReplayOutcome::Cut, Some(200), None)
    );
    assert_eq!(cut.deltas, u64::from(cut.output_tokens / 2));
    assert_eq!(outcomes(FaultKind::Cut, 0.0).0, ReplayOutcome::Cut);
    let (outcome, broken) = outcomes(FaultKind::StreamError, 1.0);
    assert_eq!(outcome, ReplayOutcome::Broken);
    assert!(broken.error.unwrap().contains("had an error"));
    assert_eq!(outcomes(FaultKind::Timeout, 0.0).0, ReplayOutcome::TimedOut);
    assert_eq!(outcomes(FaultKind::Stall, 1.0).0, ReplayOutcome::TimedOut);
}

#[test]
fn a_replay_can_be_followed_and_stopped() {
    let mock = mock_with(Vec::new());
    let (stop, pull) = (StopSwitch::default(), StopSwitch::default());
    let heard = Arc::new(parking_lot::Mutex::new(0));
    let (count, switch) = (Arc::clone(&heard), stop.clone());
    // A minute of traffic at recorded speed, stopped by its third answer.
    let options = ReplayOptions {
        speed: 5.0,
        ..replay_options(&mock, 1_000)
    };
    let began = Instant::now();
    let ledger = replay_until(&options, &stop, move |_| {
        *count.lock() += 1;
        if *count.lock() == 3 {
            switch.stop();
        }
    })
    .unwrap();
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(
        (3..100).contains(&ledger.calls.len()),
        "{}",
        ledger.calls.len()
    );
    assert_eq!(*heard.lock(), ledger.calls.len());
    assert!(!pull.is_stopped(), "switches that are not clones are apart");
}

#[test]
fn a_demo_has_all_that_a_newcomer_should_see() {
    let mock = mock_with(Vec::new());
    let member = |team: &str, user: &str, weight| Member {
        team: team.to_owned(),
        key: format!("key-{team}"),
        user: user.to_owned(),
        feature: "onboarding".to_owned(),
        weight,
    };
    let handle = demo::start(DemoOptions {
        url: mock.base_url(),
        members: vec![member("growth", "ann", 3.0), member("search", "bob", 1.0)],
        chat_models: vec!["fast-chat".to_owned(), "code-reasoner".to_owned()],
        embedding_model: Some("embed".to_owned()),
        per_second: 400.0,
        fault_share: 0.2,
        ..DemoOptions::default()
    })
    .unwrap();
    let patience = Instant::now() + Duration::from_secs(30);
    while handle.tally().calls < 400 {
        assert!(Instant::now() < patience, "{:?}", handle.tally());
        std::thread::yield_now();
    }
    let tally = handle.tally();
    handle.stop();
    let share = |count: u64| count as f64 / tally.calls as f64;
    assert!(
        (0.65..0.85).contains(&share(tally.by_team["growth"])),
        "{tally:?}"
    );
    assert!((0.05..0.25).contains(&share(tally.embeddings)), "{tally:?}");
    assert!((0.3..0.6).contains(&share(tally.streams)), "{tally:?}");
    for status in [200, 429, 500, 503] {
        assert!(
            tally.by_status.contains_key(&status),
            "{status} is missing: {tally:?}"
        );
    }
    assert!(tally.broken > 0, "{tally:?}");
    assert!(tally.tokens.output > 0 && tally.tokens != TokenCounts::default());
    let calls: BTreeMap<String, u64> = mock
        .ledger()
        .by_model
        .iter()
        .map(|(model, tally)| (model.clone(), tally.calls))
        .collect();
    assert!(
        calls["fast-chat"] > 50 && calls["code-reasoner"] > 50 && calls["embed"] > 10,
        "{calls:?}"
    );
}

#[test]
fn a_demo_without_anyone_is_refused() {
    let error = demo::start(DemoOptions::default()).unwrap_err().to_string();
    assert_eq!(error, "demo options: at least one member is needed");
}
