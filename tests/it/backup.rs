//! A backup of an installation that is in use, restored elsewhere: it is proven, has every answer that was
//! whole when it began, and its budgets have spent what its rows say.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use serde_json::Value;
use weir_loadtest::mock::{MockHandle, MockOptions, MockProvider};
use weir_tests::gateway::{chat, config};
use weir_tests::weir::Installation;

/// Answers before the backup begins, and while it is made.
const ANSWERS_BEFORE: usize = 60;
const CLIENTS: usize = 4;

fn installation(mock: &MockHandle) -> Installation {
    Installation::new(&config(mock)).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(weir: &Installation, args: &[&str]) -> Value {
    serde_json::from_slice(&weir.run(args).unwrap().stdout).unwrap()
}

/// What `weir budgets list` says is spent, in tokens.
fn spent_tokens(weir: &Installation) -> u64 {
    let budgets = json(weir, &["budgets", "list", "--json"]);
    let spent = budgets[0]["standings"][0]["spent"].as_str().unwrap();
    spent.parse().unwrap()
}

#[test]
fn a_backup_that_is_made_under_load_is_proven_and_whole() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let weir = installation(&mock);
    let (_, key) = weir.create_key_with(&["--team", "growth"]).unwrap();
    weir.run(&[
        "budgets",
        "set",
        "all",
        "--tokens",
        "1000000000",
        "--window",
        "total",
    ])
    .unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    weir.wait_until_known(&key).unwrap();

    let done = AtomicBool::new(false);
    let backup = weir.dir().join("backup");
    let (answered, answers) = mpsc::sync_channel(100_000);
    let before: Vec<String> = thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let answered = answered.clone();
            let (weir, key, done) = (&weir, &key, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let answer = chat(weir.gateway, key);
                    let id = answer.header("x-request-id").unwrap().to_owned();
                    answered.send((answer.status, id)).unwrap();
                }
            });
        }
        let mut before: Vec<_> = answers.iter().take(ANSWERS_BEFORE).collect();
        before.extend(answers.try_iter());
        let made = weir.command(&["backup", backup.to_str().unwrap()]).output();
        assert!(answers.try_iter().count() > 0, "nobody asked meanwhile");
        done.store(true, Ordering::Relaxed);
        let made = made.unwrap();
        assert!(made.status.success(), "{made:?}");
        let ids = before.into_iter().map(|(status, id)| {
            assert_eq!(status, 200);
            id
        });
        ids.collect()
    });
    up.stop().unwrap();

    let copy = installation(&mock);
    copy.run(&["restore", backup.to_str().unwrap()]).unwrap();
    assert_private(&copy.data_dir());
    let up = copy.start(&["up"]).unwrap();
    copy.wait_until_ready().unwrap();
    copy.wait_for_store().unwrap();
    let quoted = before.iter().map(|id| format!("'{id}'"));
    let quoted = quoted.collect::<Vec<_>>().join(",");
    let those_before =
        format!("SELECT count() FROM weir.requests WHERE toString(request_id) IN ({quoted})");
    copy.wait_for_number(&those_before, before.len() as u64)
        .unwrap();
    let report = json(&copy, &["audit", "verify", "--json"]);
    assert_eq!(report["proven"], true, "{report}");
    assert_eq!(
        copy.number("SELECT count() - uniqExact(request_id) FROM weir.requests")
            .unwrap(),
        0
    );
    let tokens = "SELECT sum(input_tokens) + sum(output_tokens) FROM weir.requests";
    assert_eq!(copy.number(tokens).unwrap(), spent_tokens(&copy));
    assert_eq!(chat(copy.gateway, &key).status, 200, "the key works");
    up.stop().unwrap();
}

/// Whatever is a secret stays one.
fn assert_private(data_dir: &Path) {
    for name in [
        "control/hash.key",
        "audit/checkpoint.key",
        "audit/gateway.key",
    ] {
        let mode = fs::metadata(data_dir.join(name)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_backup_of_a_stopped_installation_is_restored_whole_or_not_at_all() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let weir = installation(&mock);
    let (_, key) = weir.create_key_with(&["--team", "growth"]).unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    weir.wait_until_known(&key).unwrap();
    for _ in 0..5 {
        assert_eq!(chat(weir.gateway, &key).status, 200);
    }
    weir.wait_for_number("SELECT count() FROM weir.requests WHERE status = 200", 5)
        .unwrap();
    up.stop().unwrap();
    let dir = weir.dir().join("backup");
    let backup = dir.to_str().unwrap();
    weir.run(&["backup", backup]).unwrap();
    let again = weir.command(&["backup", backup]).output().unwrap();
    assert!(said(&again).contains("is not empty"), "{again:?}");
    let own = weir.command(&["restore", backup]).output().unwrap();
    assert!(said(&own).contains("is not empty"), "{own:?}");

    let copy = installation(&mock);
    copy.run(&["restore", backup]).unwrap();
    let up = copy.start(&["up"]).unwrap();
    copy.wait_for_store().unwrap();
    copy.wait_for_number("SELECT count() FROM weir.requests WHERE status = 200", 5)
        .unwrap();
    let report = json(&copy, &["audit", "verify", "--json"]);
    assert_eq!(report["proven"], true, "{report}");
    up.stop().unwrap();

    let damaged = dir.join("data/control/hash.key");
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[0] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let third = installation(&mock);
    let refused = third.command(&["restore", backup]).output().unwrap();
    assert!(said(&refused).contains("is damaged"), "{refused:?}");
    assert!(!third.data_dir().exists());
    fs::remove_file(dir.join("backup.json")).unwrap();
    let refused = third.command(&["restore", backup]).output().unwrap();
    assert!(said(&refused).contains("is no backup"), "{refused:?}");
}

#[test]
fn what_is_on_other_machines_is_not_backed_up_unless_one_says_so() {
    let weir = Installation::new("").unwrap();
    fs::write(
        weir.config(),
        "[store]\nkind = \"clickhouse\"\nurl = \"http://127.0.0.1:1\"\n",
    )
    .unwrap();
    weir.create_key("growth").unwrap();
    let dir = weir.dir().join("backup");
    let backup = dir.to_str().unwrap();
    let refused = weir.command(&["backup", backup]).output().unwrap();
    assert!(said(&refused).contains("--local-only"), "{refused:?}");
    weir.run(&["backup", backup, "--local-only"]).unwrap();
    let copy = Installation::new("").unwrap();
    let restored = copy.run(&["restore", backup]).unwrap();
    assert!(said(&restored).contains("data directory alone"));
    assert!(
        json(&copy, &["keys", "list", "--json"])
            .as_array()
            .unwrap()
            .len()
            == 1
    );
}
