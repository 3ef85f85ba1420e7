//! The embedded store's users, as those who run Weir meet them: `weir store user`, `weir sql`, files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use weir_loadtest::mock::{MockOptions, MockProvider};
use weir_tests::gateway::{chat, config};
use weir_tests::http::Request;
use weir_tests::kafka::Kafka;
use weir_tests::weir::{Installation, SdkAge, python, repository};

fn started() -> (Installation, weir_tests::weir::Process) {
    let weir = Installation::new("").unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_for_store().unwrap();
    (weir, up)
}

fn stdout(weir: &Installation, args: &[&str]) -> String {
    String::from_utf8(weir.run(args).unwrap().stdout).unwrap()
}

fn refusal(weir: &Installation, args: &[&str]) -> String {
    let output = weir.command(args).output().unwrap();
    assert!(!output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The status of a statement over HTTP.
fn status(weir: &Installation, user: &str, password: &str, sql: &str) -> u16 {
    let question = Request::post("/", sql)
        .header("x-clickhouse-user", user)
        .header("x-clickhouse-key", password);
    question.send(weir.store).unwrap().status
}

#[test]
fn the_first_start_makes_passwords_that_only_the_owner_reads() {
    let (weir, up) = started();
    let dir = weir.data_dir().join("store-users");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for user in ["reader", "operator", "weir"] {
        assert_eq!(mode(&dir.join(user)), 0o600, "{user}");
    }
    let said = stdout(&weir, &["store", "user", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["url"], format!("http://{}", weir.store));
    assert_eq!(
        (&said["user"], &said["password"]),
        (&"reader".into(), &Value::Null)
    );
    let password = fs::read_to_string(said["password_file"].as_str().unwrap()).unwrap();
    let password = password.trim();
    assert!(!stdout(&weir, &["store", "user"]).contains(password));
    assert!(stdout(&weir, &["store", "user", "--show-password"]).contains(password));
    assert!(!up.log().contains(password));
    assert_eq!(status(&weir, "reader", password, "SELECT 1"), 200);
    assert_eq!(status(&weir, "weir", password, "SELECT 1"), 403);
    assert_eq!(status(&weir, "default", "", "SELECT 1"), 403);
    up.stop().unwrap();
}

#[test]
fn sql_reads_unless_it_is_told_to_write() {
    let (weir, up) = started();
    weir.wait_for_number("SELECT count() FROM weir.requests", 0)
        .unwrap();
    assert_eq!(stdout(&weir, &["sql", "SELECT 1"]), "1\n");
    let create = "CREATE TABLE weir.notes (a UInt8) ENGINE = MergeTree ORDER BY a";
    let said = refusal(&weir, &["sql", create]);
    assert!(said.contains("--write"), "{said}");
    weir.run(&["sql", "--write", create]).unwrap();
    assert_eq!(
        stdout(&weir, &["sql", "SELECT count() FROM weir.notes"]),
        "0\n"
    );
    up.stop().unwrap();
}

/// What a script with one of ClickHouse's clients prints.
fn told(program: PathBuf, script: PathBuf, args: &[&str]) -> Value {
    let found = Command::new(program)
        .arg(script)
        .args(args)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(found.status.success(), "{found:?}");
    serde_json::from_slice(&found.stdout).unwrap()
}

/// All of Weir's tables, long answers, what the clients send by themselves; and that what a reader may not
/// do is the client's own error.
#[test]
fn clickhouses_official_clients_read_and_are_told_what_they_may_not() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let weir = Installation::new(&config(&mock)).unwrap();
    let key = weir.create_key("growth").unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    assert_eq!(chat(weir.gateway, &key).status, 200);
    weir.wait_for_number("SELECT count() FROM weir.requests", 1)
        .unwrap();
    let password = |user: &str| {
        let file = weir.data_dir().join("store-users").join(user);
        fs::read_to_string(file).unwrap().trim().to_owned()
    };
    let (reader, operator) = (password("reader"), password("operator"));
    let (host, port) = (weir.store.ip().to_string(), weir.store.port().to_string());
    let (node, modules) = SdkAge::Newest.node();
    let by_python = told(
        python(),
        repository().join("tests/clients/store_python.py"),
        &[&host, &port, &reader, &operator],
    );
    let url = format!("http://{}", weir.store);
    let by_node = told(node, modules.join("store.mjs"), &[&url, &reader, &operator]);
    let tables = "SELECT count() FROM system.tables WHERE database = 'weir'";
    let tables = weir.number(tables).unwrap();
    let raised = json!({
        "password": 516, "insert": 164, "drop": 164, "temporary": 164, "beyond": 452, "memory": 241, "late": 395,
    });
    for (client, seen) in [("Python", &by_python), ("JavaScript", &by_node)] {
        assert_eq!(seen["tables"], tables, "{client}: {seen}");
        assert_eq!(seen["row"][1], "200", "{client}: {seen}");
        assert_eq!(seen["rows"], 300_000, "{client}: {seen}");
        for rows in seen["packed"].as_array().unwrap() {
            assert_eq!(*rows, 300_000, "{client}: {seen}");
        }
        assert_eq!(seen["settings"], 5, "{client}: {seen}");
        let asked = (&seen["session"], &seen["operator"]);
        assert_eq!(asked, (&json!(1), &json!(1)), "{client}: {seen}");
        assert_eq!(seen["raised"], raised, "{client}");
    }
    let rows = weir.number("SELECT count() FROM weir.requests").unwrap();
    assert_eq!(rows, 1, "nothing was written, nor dropped");
    up.stop().unwrap();
}

/// An installation from before has no passwords; one whose password is changed takes the new one.
#[test]
fn passwords_are_made_at_the_next_start_and_kept() {
    let (weir, up) = started();
    let file = weir.data_dir().join("store-users/reader");
    let first = fs::read_to_string(&file).unwrap();
    up.stop().unwrap();
    let again = weir.start(&["up"]).unwrap();
    weir.wait_for_store().unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), first);
    again.stop().unwrap();
    fs::remove_dir_all(weir.data_dir().join("store-users")).unwrap();
    let said = refusal(&weir, &["store", "user"]);
    assert!(said.contains("weir up"), "{said}");
    let up = weir.start(&["up"]).unwrap();
    weir.wait_for_store().unwrap();
    let second = fs::read_to_string(&file).unwrap();
    assert_ne!(second, first);
    assert_eq!(status(&weir, "reader", first.trim(), "SELECT 1"), 403);
    assert_eq!(status(&weir, "reader", second.trim(), "SELECT 1"), 200);
    up.stop().unwrap();
}

/// What doctor says of the tables.
fn tables(weir: &Installation) -> Value {
    let output = weir.command(&["doctor", "--json"]).output().unwrap();
    let report: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let mut found = report
        .into_iter()
        .filter(|found| found["check"] == "tables");
    found.next().unwrap()
}

/// A rightful admin drops everything under a running ingestor.
fn drop_everything(eventlog: &str) {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let weir = Installation::new(&format!("{eventlog}\n{}", config(&mock))).unwrap();
    let key = weir.create_key("growth").unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    let requests = "SELECT count() FROM weir.requests";
    for _ in 0..3 {
        assert_eq!(chat(weir.gateway, &key).status, 200);
    }
    weir.wait_for_number(requests, 3).unwrap();
    weir.run(&["audit", "checkpoint"]).unwrap();
    assert_eq!(tables(&weir)["verdict"], "OK");
    // Idle, and with a request on its way.
    for (kept, more) in [(3, 0), (3, 1)] {
        weir.run(&["sql", "--write", "DROP DATABASE weir SYNC"])
            .unwrap();
        for _ in 0..more {
            assert_eq!(chat(weir.gateway, &key).status, 200);
        }
        weir.wait_for_number(requests, kept + more).unwrap();
        weir.wait_for_number("SELECT count() FROM weir.attempts", kept + more)
            .unwrap();
    }
    assert!(
        up.log().contains("tables are gone from the store"),
        "{}",
        up.log()
    );
    let found = tables(&weir);
    assert_eq!(found["verdict"], "WARN", "{found}");
    assert!(
        found["detail"].as_str().unwrap().contains("made again"),
        "{found}"
    );
    up.stop().unwrap();
}

#[test]
fn a_dropped_database_is_made_again_and_filled_from_the_journal() {
    drop_everything("");
}

#[test]
fn a_dropped_database_is_made_again_and_filled_from_kafka() {
    let kafka = Kafka::start().unwrap();
    let brokers = kafka.brokers();
    drop_everything(&format!(
        "[eventlog]\nkind = \"kafka\"\nbrokers = \"{brokers}\"\n"
    ));
}
