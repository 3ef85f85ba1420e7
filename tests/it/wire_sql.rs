//! What leaves the tables for people: equal tags are equal, cells of a file are no formulas, and a terminal is
//! sent no commands.

use std::process::Command;

use serde_json::Value;
use weir_loadtest::mock::{MockOptions, MockProvider};
use weir_tests::gateway::{MESSAGES, completion, config};
use weir_tests::weir::Installation;

/// What spreadsheets take for a formula, in places that a client fills.
const FORMULAS: [&str; 5] = [
    "=cmd|' /C calc'!A0",
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1)",
    "=\"a\",\"b\"",
];

/// Three ways to say the same tags.
const TAGS: [(&[(&str, &str)], &str); 3] = [
    (
        &[
            ("x-weir-tag-zone", "eu"),
            ("x-weir-tag-run", "7"),
            ("x-weir-tag-app", "a"),
        ],
        "{}",
    ),
    (&[("baggage", "run=7,zone=eu,app=a,zone=us")], "{}"),
    (
        &[("x-weir-tag-run", "7")],
        r#"{"zone":"eu","app":"a","run":"8"}"#,
    ),
];

struct Served {
    weir: Installation,
    key: String,
}

impl Served {
    fn call(&self, body: &str, headers: &[(&str, &str)]) {
        let mut request = completion(&self.key, body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.send(self.weir.gateway).unwrap();
    }

    fn lines(&self, args: &[&str]) -> Vec<String> {
        let output = self.weir.run(args).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

#[test]
fn what_leaves_the_tables_is_safe_to_open_and_to_compare() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let weir = Installation::new(&config(&mock)).unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    let key = weir.create_key("growth").unwrap();
    weir.wait_until_known(&key).unwrap();
    let served = Served { weir, key };

    for (headers, metadata) in TAGS {
        let body = format!(
            r#"{{"model":"fast-chat","messages":{MESSAGES},"max_tokens":2,"user":"tags","metadata":{metadata}}}"#
        );
        served.call(&body, headers);
    }
    for formula in FORMULAS {
        let user = Value::from(formula);
        let body = format!(
            r#"{{"model":"fast-chat","messages":{MESSAGES},"max_tokens":2,"user":{user}}}"#
        );
        served.call(&body, &[("x-weir-feature", formula)]);
    }
    // A model that does not exist is stored as it was asked for.
    let body = format!(r#"{{"model":"\u001b[2J\u009bX","messages":{MESSAGES},"user":"terminal"}}"#);
    served.call(&body, &[]);
    served.weir.wait_for_store().unwrap();
    let calls = (TAGS.len() + FORMULAS.len() + 1) as u64;
    let count = "SELECT count() FROM weir.requests";
    served.weir.wait_for_number(count, calls).unwrap();

    check_tags(&served);
    check_cells(&served);
    check_terminal(&served);
    check_width(&served);
    up.stop().unwrap();
}

fn check_tags(served: &Served) {
    for table in ["requests", "attempts"] {
        let groups = format!(
            "SELECT toString(tags) AS tags, count() AS calls FROM weir.{table} \
             WHERE user = 'tags' GROUP BY tags"
        );
        let groups = served.lines(&["sql", &groups, "--format", "TSVRaw"]);
        assert_eq!(groups, ["{'app':'a','run':'7','zone':'eu'}\t3"], "{table}");
    }
}

fn check_cells(served: &Served) {
    let csv = served
        .lines(&["audit", "calls", "--csv", "--team", "growth"])
        .join("\n");
    let tsv = served
        .lines(&["audit", "calls", "--team", "growth"])
        .join("\n");
    let sql = "SELECT user, -input_tokens AS less FROM weir.requests WHERE user != ''";
    let asked = served
        .lines(&["sql", sql, "--format", "CSVWithNames"])
        .join("\n");
    for formula in FORMULAS {
        let quoted = formula.replace('"', "\"\"");
        for text in [&csv, &asked] {
            assert!(
                text.contains(&format!("\"'{quoted}\"")),
                "{formula}: {text}"
            );
            assert!(
                !text.contains(&format!("\"{quoted}\"")),
                "{formula}: {text}"
            );
        }
        let escaped = formula.replace('\'', "\\'");
        assert!(tsv.contains(&format!("\t'{escaped}\t")), "{formula}: {tsv}");
        assert!(!tsv.contains(&format!("\t{escaped}\t")), "{formula}: {tsv}");
    }
    // Numbers stay numbers, and what programs read stays what it is.
    assert!(asked.contains(",-"), "{asked}");
    let exact = served
        .lines(&["sql", sql, "--format", "JSONEachRow"])
        .join("\n");
    assert!(exact.contains("\"user\":\"-2+3\""), "{exact}");
    let raw = served
        .lines(&["sql", &format!("{sql} FORMAT CSV")])
        .join("\n");
    assert!(raw.contains(&format!("\"{}\"", FORMULAS[0])), "{raw}");
}

fn check_terminal(served: &Served) {
    let sql = "SELECT alias FROM weir.requests WHERE user = 'terminal'";
    for args in [&["sql", sql][..], &["audit", "calls", "--user", "terminal"]] {
        let shown = on_terminal(served, args, 80).join("\n");
        assert!(shown.contains("␛[2J\u{fffd}X"), "{shown:?}");
        assert!(!shown.contains(['\u{1b}', '\u{9b}']), "{shown:?}");
    }
}

/// What is printed on a terminal of this width. `script` gives the program one.
fn on_terminal(served: &Served, args: &[&str], width: u16) -> Vec<String> {
    let command = served.weir.command(args);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| format!("'{}'", word.to_str().unwrap().replace('\'', "'\\''")));
    let line = quoted.collect::<Vec<_>>().join(" ");
    let shown = Command::new("script")
        .args(["-qec", &format!("stty cols {width}; {line}"), "/dev/null"])
        .current_dir(served.weir.dir())
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    shown
        .lines()
        .map(|line| line.trim_end_matches('\r').to_owned())
        .collect()
}

/// A table is as wide as the terminal at most, and says what it leaves out; files and pipes get everything.
fn check_width(served: &Served) {
    let calls = TAGS.len() + FORMULAS.len() + 1;
    for (width, has) in [(40, "ts"), (80, "alias"), (120, "cost_usd")] {
        let mut lines = on_terminal(served, &["audit", "calls"], width);
        let said = lines.pop().unwrap();
        assert_eq!(lines.len(), calls + 1, "{lines:?}");
        assert!(
            lines[0].split_whitespace().any(|name| name == has),
            "{width}: {lines:?}"
        );
        for line in &lines {
            assert!(
                line.chars().count() <= usize::from(width),
                "{width}: {line}"
            );
        }
        let all = format!("{calls} calls, ");
        assert!(
            said.starts_with(&all) && said.contains("--wide shows all"),
            "{said}"
        );
    }
    let wide = on_terminal(served, &["audit", "calls", "--wide", "--limit", "2"], 40);
    assert_eq!(wide[0].split_whitespace().count(), 22, "{wide:?}");
    let said = format!("the newest 2 of {calls} calls, ");
    assert!(
        wide[3].starts_with(&said) && wide[3].contains("--limit N shows more"),
        "{wide:?}"
    );
    let some = [
        "audit",
        "calls",
        "--columns",
        "user,status,alias",
        "--user",
        "tags",
    ];
    let chosen = on_terminal(served, &some, 20);
    assert!(chosen[0].starts_with("user  status  alias"), "{chosen:?}");
    assert_eq!(chosen[1], "tags     200  fast-chat");

    let header = served.lines(&["audit", "calls"]).swap_remove(0);
    assert_eq!(header.split('\t').count(), 22, "{header}");
    assert_eq!(
        served.lines(&some)[..2],
        ["user\tstatus\talias", "tags\t200\tfast-chat"]
    );
    let unknown = served
        .weir
        .command(&["audit", "calls", "--columns", "colour"])
        .output();
    let said = String::from_utf8(unknown.unwrap().stderr).unwrap();
    assert!(
        said.contains("colour") && said.contains("request_id"),
        "{said}"
    );
}
