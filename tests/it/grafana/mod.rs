//! The boards for Grafana: what stands in their files, and what their SQL answers.

mod known;
mod macros;
mod other_rows;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_tests::http::{Answer, Request};
use weir_tests::many_calls::{HOSTILE_USER, ManyCalls};
use weir_tests::weir::repository;

use self::known::{Known, known};
use self::macros::{Chosen, Range, in_the_browser, in_the_plugin};
use self::other_rows::fill_other_tables;
use crate::store::{Running, alone, as_user};

/// 2026-11-05, so that the range has days of two months.
const END_S: u64 = 1_793_836_800;
/// Request that the board of one request shows: the fourth one, which was answered by a fallback.
const REQUEST: &str = "018bcfe5-6800-7000-8000-000000000003";

fn read(path: &str) -> Value {
    let path = repository().join("dashboards/grafana").join(path);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Every board, with the name of its file.
fn boards() -> Vec<(String, Value)> {
    let folder = repository().join("dashboards/grafana/dashboards");
    let paths = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let names = paths.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
        .into_iter()
        .map(|name| {
            let board = read(&format!("dashboards/{name}.json"));
            (name, board)
        })
        .collect()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

/// One statement that Grafana sends.
struct Statement {
    /// File and title.
    name: String,
    sql: String,
    /// Points that the panel wants over the range, and its shortest interval.
    points: u64,
    shortest_s: u64,
    /// How far back an alert rule looks.
    alert_s: Option<u64>,
}

impl Statement {
    fn new(name: String, sql: &str) -> Self {
        Self {
            name,
            sql: sql.to_owned(),
            points: 300,
            shortest_s: 60,
            alert_s: None,
        }
    }

    fn range(&self, calls: ManyCalls) -> Range {
        let from_s = self
            .alert_s
            .map_or_else(|| calls.begin_s(), |back| calls.end_s - back);
        let wanted = (calls.end_s - from_s) / self.points;
        Range {
            from_ms: from_s.cast_signed() * 1000,
            to_ms: calls.end_s.cast_signed() * 1000 - 1,
            interval_s: rounded(wanted).max(self.shortest_s).cast_signed(),
        }
    }

    fn expanded(&self, calls: ManyCalls, chosen: &Chosen, ad_hoc: &[(&str, &str, &str)]) -> String {
        let sent = if self.alert_s.is_some() {
            self.sql.clone()
        } else {
            in_the_browser(&self.sql, chosen, ad_hoc)
        };
        let sql = in_the_plugin(&sent, self.range(calls)).unwrap();
        assert!(
            !sql.contains("$_") && !sql.contains("${"),
            "{}: {sql}",
            self.name
        );
        sql
    }
}

/// An interval as Grafana rounds it: below the first limit the second number.
fn rounded(wanted_s: u64) -> u64 {
    let steps = [
        (90, 60),
        (210, 120),
        (450, 300),
        (750, 600),
        (1050, 900),
        (1500, 1200),
        (2700, 1800),
        (5400, 3600),
        (9000, 7200),
        (16_200, 10_800),
        (32_400, 21_600),
        (86_400, 43_200),
    ];
    let step = steps.iter().find(|(limit, _)| wanted_s < *limit);
    step.map_or(86_400, |(_, step)| *step)
}

/// All statements of panels, variables, annotations and alert rules.
fn statements() -> Vec<Statement> {
    let mut found = Vec::new();
    for (file, board) in boards() {
        for panel in list(&board, "/panels") {
            for target in list(panel, "/targets")
                .iter()
                .filter(|target| target["rawSql"].is_string())
            {
                let statement = Statement::new(
                    format!("{file}: {}", text(panel, "/title")),
                    text(target, "/rawSql"),
                );
                let shortest_s = if panel["interval"] == "1h" { 3600 } else { 60 };
                let points = panel["maxDataPoints"].as_u64().unwrap_or(300);
                found.push(Statement {
                    points,
                    shortest_s,
                    ..statement
                });
            }
        }
        for variable in list(&board, "/templating/list")
            .iter()
            .filter(|it| it["type"] == "query")
        {
            found.push(Statement::new(
                format!("variable: {}", text(variable, "/name")),
                text(variable, "/query/rawSql"),
            ));
        }
        for annotation in list(&board, "/annotations/list") {
            found.push(Statement::new(
                format!("annotation: {}", text(annotation, "/name")),
                text(annotation, "/target/rawSql"),
            ));
        }
    }
    for rule in list(&read("provisioning/alerting/weir.json"), "/groups/0/rules") {
        let statement = Statement::new(
            format!("alert: {}", text(rule, "/title")),
            text(rule, "/data/0/model/rawSql"),
        );
        let alert_s = rule
            .pointer("/data/0/relativeTimeRange/from")
            .and_then(Value::as_u64);
        found.push(Statement {
            alert_s,
            ..statement
        });
    }
    // Variables and annotations are on several boards.
    let mut seen = BTreeSet::new();
    found.retain(|statement| seen.insert((statement.name.clone(), statement.sql.clone())));
    found
}

/// The first row of what a reader is answered.
fn ask(address: SocketAddr, sql: &str) -> Vec<Value> {
    let answer = answered(address, sql);
    assert_eq!(answer.status, 200, "{}\n{sql}", answer.text());
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    list(&document, "/data/0").to_vec()
}

fn answered(address: SocketAddr, sql: &str) -> Answer {
    let path =
        "/?default_format=JSONCompact&database=weir&output_format_json_quote_64bit_integers=0";
    as_user(Request::post(path, sql), "reader")
        .send(address)
        .unwrap()
}

/// How many rows, and a figure of them.
fn figure(address: SocketAddr, sql: &str, figure: &str) -> (u64, f64) {
    let row = ask(
        address,
        &format!("SELECT count(), ifNull(toFloat64({figure}), -1) FROM (\n{sql}\n)"),
    );
    (row[0].as_u64().unwrap(), row[1].as_f64().unwrap())
}

async fn filled(calls: ManyCalls) -> Running {
    let running = Running::start().await;
    let store = running.store();
    store.migrate(3650).await.unwrap();
    calls.fill(&store).await.unwrap();
    fill_other_tables(&store, END_S).await;
    running
}

fn chosen(values: &[(&'static str, &[&str])]) -> Chosen {
    let values = values.iter().map(|(name, values)| {
        (
            *name,
            values.iter().map(|&value| value.to_owned()).collect(),
        )
    });
    values
        .chain([("request", vec![REQUEST.to_owned()])])
        .collect()
}

#[test]
fn every_panel_answers_what_the_rows_say() {
    alone(async {
        let calls = ManyCalls {
            end_s: END_S,
            days: 8,
            per_day: 1600,
        };
        let running = filled(calls).await;
        let mut known = known(calls);
        for statement in statements() {
            let name = &statement.name;
            let Known {
                figure: expression,
                is,
                within,
            } = known
                .remove(name.as_str())
                .unwrap_or_else(|| panic!("nothing is known of {name}"));
            let sql = statement.expanded(calls, &chosen(&[]), &[]);
            let (rows, found) = figure(running.address, &sql, expression);
            assert!(rows > 0, "{name} is empty:\n{sql}");
            assert!(
                (found - is).abs() <= is.abs().max(1e-9) * within,
                "{name}: {expression} is {found}, not {is}:\n{sql}"
            );
        }
        assert!(
            known.is_empty(),
            "there are no such panels: {:?}",
            known.keys()
        );
        filters_hold(running.address, calls);
        running.stop().await;
    });
}

/// Several values, one that would end a string, none at all, and ad hoc filters: every panel takes them.
fn filters_hold(address: SocketAddr, calls: ManyCalls) {
    let statements = statements();
    let money = statements
        .iter()
        .find(|it| it.name == "spend: Money")
        .unwrap();
    let requests = |chosen: &Chosen, ad_hoc: &[(&str, &str, &str)]| {
        figure(
            address,
            &money.expanded(calls, chosen, ad_hoc),
            "sum(requests)",
        )
        .1
    };
    let count = |is_it: &dyn Fn(u64, u64) -> bool| {
        calls
            .calls()
            .filter(|call| is_it(call.n, call.team()))
            .count() as f64
    };
    let teams = chosen(&[("team", &["team-1", "team-2"]), ("environment", &["prod"])]);
    assert_eq!(
        requests(&teams, &[]),
        count(&|n, team| (team == 1 || team == 2) && n % 10 < 8)
    );
    let hostile = chosen(&[("user", &[HOSTILE_USER, "user-7919"])]);
    assert_eq!(requests(&hostile, &[]), count(&|n, _| n == 0));
    let without = chosen(&[("model", &["(none)"])]);
    assert_eq!(
        requests(&without, &[]),
        count(&|n, _| n % 20 == 0 || n % 40 == 1)
    );
    let feature = [("requests.feature", "=", "feature-7")];
    assert_eq!(requests(&chosen(&[]), &feature), count(&|n, _| n % 30 == 7));
    let everything = chosen(&[
        ("organisation", &["acme", "globex"]),
        ("team", &["team-1"]),
        ("project", &["(none)"]),
        ("environment", &["dev", "prod"]),
        ("model", &["a'b\\"]),
        ("provider", &["provider-1"]),
        ("alias", &["alias-1"]),
        ("user", &[HOSTILE_USER]),
    ]);
    for statement in &statements {
        for (chosen, ad_hoc) in [(&everything, &feature[..]), (&hostile, &[][..])] {
            let sql = statement.expanded(calls, chosen, ad_hoc);
            let answer = answered(address, &sql);
            assert_eq!(
                answer.status,
                200,
                "{}: {}\n{sql}",
                statement.name,
                answer.text()
            );
        }
    }
}

/// `WEIR_DASHBOARD_ROWS=10000000 cargo test -p weir-tests --test it how_long_each_panel_takes -- --nocapture`
/// prints how long each takes over 90 days, the best of three; it takes 1.5 GB below `TMPDIR` for that.
#[test]
fn how_long_each_panel_takes() {
    let Ok(rows) = std::env::var("WEIR_DASHBOARD_ROWS") else {
        return;
    };
    let calls = ManyCalls {
        end_s: END_S,
        days: 90,
        per_day: rows.parse::<u64>().unwrap() / 90,
    };
    alone(async move {
        let began = Instant::now();
        let running = filled(calls).await;
        println!(
            "{} requests stored in {:?}",
            calls.days * calls.per_day,
            began.elapsed()
        );
        let mut times: Vec<(Duration, String)> = Vec::new();
        for statement in statements() {
            let sql = statement.expanded(calls, &chosen(&[]), &[]);
            let best = (0..3).map(|_| {
                let began = Instant::now();
                ask(running.address, &sql);
                began.elapsed()
            });
            times.push((best.min().unwrap(), statement.name));
        }
        times.sort();
        for (time, name) in times.iter().rev() {
            println!("{:>6} ms  {name}", time.as_millis());
        }
        running.stop().await;
    });
}

#[test]
fn the_boards_are_what_their_source_makes() {
    let script = repository().join("dashboards/grafana/build.py");
    let checked = Command::new("python3")
        .arg("-B")
        .arg(script)
        .arg("--check")
        .output()
        .unwrap();
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(
        checked.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&checked.stderr)
    );
}

/// What Grafana's file provisioning takes, and what its linter asks of boards of any data source.
#[test]
fn the_boards_are_classic_ones_that_say_what_they_show() {
    let mut uids = BTreeSet::new();
    for (file, board) in boards() {
        assert!(uids.insert(text(&board, "/uid").to_owned()), "{file}");
        for key in ["elements", "layout", "spec", "apiVersion"] {
            assert!(
                board.get(key).is_none(),
                "{file} is no classic board: {key}"
            );
        }
        assert_eq!(
            (&board["editable"], &board["timezone"]),
            (&Value::Bool(false), &Value::from("utc")),
            "{file}"
        );
        let mut ids = BTreeSet::new();
        for panel in list(&board, "/panels") {
            let title = text(panel, "/title");
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{file}: {title}");
            if panel["type"] == "row" {
                continue;
            }
            assert!(!text(panel, "/description").is_empty(), "{file}: {title}");
            assert!(
                text(panel, "/datasource/uid").starts_with("${"),
                "{file}: {title}"
            );
            assert_eq!(list(panel, "/targets").len(), 1, "{file}: {title}");
        }
    }
}

/// Links go to boards that there are, and set variables that those have.
#[test]
fn links_lead_to_boards_and_variables_that_there_are() {
    let boards = boards();
    let variables = |uid: &str| -> BTreeSet<String> {
        let (_, board) = boards
            .iter()
            .find(|(_, board)| text(board, "/uid") == uid)
            .unwrap_or_else(|| panic!("no board {uid}"));
        list(board, "/templating/list")
            .iter()
            .map(|variable| text(variable, "/name").to_owned())
            .collect()
    };
    let mut followed = 0;
    for (file, board) in &boards {
        let json = board.to_string();
        for link in json.split("\"url\":\"/d/").skip(1) {
            let url = link.split('"').next().unwrap();
            let (uid, query) = url.split_once('?').unwrap();
            let there = variables(uid);
            for part in query.split('&') {
                let set = part
                    .strip_prefix("var-")
                    .and_then(|set| set.split('=').next());
                assert!(set.is_none_or(|name| there.contains(name)), "{file}: {url}");
            }
            followed += 1;
        }
        assert!(variables(text(board, "/uid")).contains("console"), "{file}");
    }
    assert!(followed > 50);
    for rule in list(&read("provisioning/alerting/weir.json"), "/groups/0/rules") {
        let shown = |name: &str| text(rule, &format!("/annotations/{name}"));
        let (_, board) = boards
            .iter()
            .find(|(_, board)| text(board, "/uid") == shown("__dashboardUid__"))
            .unwrap();
        assert!(
            list(board, "/panels")
                .iter()
                .any(|panel| panel["id"].as_u64() == shown("__panelId__").parse().ok())
        );
    }
}

/// Panels of Prometheus name metrics that a gateway has.
#[test]
fn metrics_of_panels_are_in_the_documents() {
    let documented = fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    let mut found = 0;
    for (file, board) in boards() {
        for panel in list(&board, "/panels") {
            for target in list(panel, "/targets")
                .iter()
                .filter(|target| target["expr"].is_string())
            {
                let expression = text(target, "/expr");
                let metric = expression
                    .split(|sign: char| !sign.is_alphanumeric() && sign != '_')
                    .find(|word| word.starts_with("weir_"));
                assert!(
                    documented.contains(&format!("`{}`", metric.unwrap())),
                    "{file}: {expression}"
                );
                found += 1;
            }
        }
    }
    assert!(found > 0);
}
