//! The console in a real browser: scripts in `tests/browser` go the ways of its users through an
//! installation under traffic, by Playwright and Debian's Chromium.
//!
//! `WEIR_WAYS=name` goes only the ways whose name holds that; `WEIR_SCREENSHOTS=DIR` leaves a picture of
//! every page there, in both themes and at a phone's width.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};
use weir_loadtest::mock::{FaultKind, FaultRule, MockHandle, MockOptions, MockProvider};
use weir_tests::gateway::completion;
use weir_tests::many_calls::ManyCalls;
use weir_tests::port::ReservedPort;
use weir_tests::weir::{Installation, cache, program, python, repository};

use crate::store::{Running, alone};

const DAY_S: u64 = 86_400;
/// What hostile text would do if it ran: the scripts look whether it did.
const HOSTILE: &str =
    "<img src=x onerror=\"window.hostile='ran'\"><script>window.hostile='ran'</script>";
/// Calls of the teams `growth` and `research` each.
const CALLS: usize = 12;

/// An installation with a console, before two mock providers.
struct Scene {
    weir: Installation,
    console: ReservedPort,
    steady: MockHandle,
    broken: MockHandle,
}

impl Scene {
    fn new() -> Self {
        Self::with_store("")
    }

    /// `store` is lines of `[store]`.
    fn with_store(store: &str) -> Self {
        let mock = |name: &str, faults| {
            let name = name.to_owned();
            MockProvider::start(MockOptions {
                name,
                faults,
                ..MockOptions::default()
            })
            .unwrap()
        };
        let steady = mock("steady", Vec::new());
        let broken = mock("broken", vec![FaultRule::always(FaultKind::ServerError)]);
        let console = ReservedPort::new().unwrap();
        let weir = Installation::new(&format!("{store}{}", config(&steady, &broken))).unwrap();
        let text = std::fs::read_to_string(weir.config()).unwrap();
        let listen = format!("[console]\nlisten = \"{}\"", console.address);
        let text = text.replacen("[console]\nlisten = \"\"", &listen, 1);
        std::fs::write(weir.config(), text).unwrap();
        Self {
            weir,
            console,
            steady,
            broken,
        }
    }

    fn token(&self, id: &str, role: &[&str]) -> String {
        let args = [&["tokens", "create", id, "--json", "--role"], role].concat();
        let made: Value = serde_json::from_slice(&self.weir.run(&args).unwrap().stdout).unwrap();
        made["token"].as_str().unwrap().to_owned()
    }

    /// What the scripts are told.
    fn facts(&self, keys: &Value) -> Value {
        json!({
            "program": program(),
            "config": self.weir.config(),
            "data_dir": self.weir.data_dir(),
            "gateway": self.weir.gateway.to_string(),
            "console": self.console.address.to_string(),
            "chromium": "/usr/bin/chromium",
            "axe": cache().join("node/node_modules/axe-core/axe.min.js"),
            "keys": keys,
            "tokens": {
                "admin": self.token("admin", &["admin"]),
                "auditor": self.token("auditor", &["auditor"]),
                "finance": self.token("finance", &["finance"]),
                "owner": self.token("owner", &["team-owner", "--team", "growth"]),
            },
            "ledger": {
                "calls": self.steady.ledger().total.calls + self.broken.ledger().total.calls,
                "input_tokens": self.steady.ledger().total.reported.input,
                "output_tokens": self.steady.ledger().total.reported.output,
            },
        })
    }

    /// Calls with labels of all kinds; of each, so many as the scripts count on. Returns the teams' keys.
    fn traffic(&self) -> Value {
        let mut keys = serde_json::Map::new();
        for team in ["growth", "research", HOSTILE] {
            let args = ["--team", team, "--user", "ana", "--env", "prod"];
            let (_, key) = self.weir.create_key_with(&args).unwrap();
            keys.insert(team.to_owned(), key.into());
        }
        let key = |team: &str| keys[team].as_str().unwrap();
        self.weir.wait_until_known(key(HOSTILE)).unwrap();
        for number in 0..CALLS {
            self.call(
                key("growth"),
                "fast-chat",
                ["onboarding", "search"][number % 2],
            );
            self.call(
                key("research"),
                ["fast-chat", "clever-chat"][number % 2],
                "evals",
            );
        }
        self.call(key("growth"), "resilient", "onboarding");
        self.call(key(HOSTILE), "fast-chat", HOSTILE);
        assert_eq!(self.call(key("growth"), "no-such-model", "search"), 404);
        Value::Object(keys)
    }

    fn call(&self, key: &str, alias: &str, feature: &str) -> u16 {
        let prompt = if feature == HOSTILE { HOSTILE } else { "Hello" };
        let body = json!({"model": alias, "max_tokens": 8, "messages": [{"role": "user", "content": prompt}]});
        let request = completion(key, body.to_string())
            .header("x-weir-feature", feature)
            .header("x-weir-customer", feature)
            .header("x-weir-tag-run", feature)
            .header("user-agent", feature);
        request.send(self.weir.gateway).unwrap().status
    }

    /// Requests that [`Self::traffic`] makes.
    const REQUESTS: u64 = CALLS as u64 * 2 + 3;
}

fn config(steady: &MockHandle, broken: &MockHandle) -> String {
    format!(
        r#"
[routing]
refresh_s = 1

[payloads]
capture = "full"

[[provider]]
name = "steady"
dialect = "openai"
base_url = "{}"

[[provider]]
name = "broken"
dialect = "openai"
base_url = "{}"

[[alias]]
name = "fast-chat"
targets = [{{ provider = "steady", model = "small" }}]

[[alias]]
name = "clever-chat"
strategy = "weighted"
targets = [{{ provider = "steady", model = "small" }}, {{ provider = "steady", model = "large" }}]

[[alias]]
name = "resilient"
targets = [{{ provider = "broken", model = "small" }}, {{ provider = "steady", model = "small" }}]

[[price]]
provider = "steady"
model = "small"
input = "1000"
output = "2000"

[[price]]
provider = "steady"
model = "large"
input = "3000"
output = "6000"
"#,
        steady.base_url(),
        broken.base_url()
    )
}

/// Runs a script to its end. What it wishes for on the way, `wish` does.
fn go(script: &str, facts: &Value, mut wish: impl FnMut(&str)) {
    let mut running = Command::new(python())
        .arg("-B")
        .arg(repository().join("tests/browser").join(script))
        .arg(facts.to_string())
        .env("WEIR_CACHE", cache())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = running.stdin.take().unwrap();
    let wishes = BufReader::new(running.stdout.take().unwrap());
    for line in wishes.lines() {
        wish(&line.unwrap());
        answers.write_all(b"done\n").unwrap();
    }
    assert!(
        running.wait().unwrap().success(),
        "{script} failed, see above"
    );
}

#[test]
fn the_console_shows_in_a_browser_what_its_users_came_for() {
    let scene = Scene::new();
    let up = scene.weir.start(&["up"]).unwrap();
    scene.weir.wait_until_ready().unwrap();
    scene.weir.wait_for_store().unwrap();
    let keys = scene.traffic();
    let stored = "SELECT count() FROM weir.requests";
    scene.weir.wait_for_number(stored, Scene::REQUESTS).unwrap();
    go("ways.py", &scene.facts(&keys), |wish| panic!("{wish}?"));
    up.stop().unwrap();
}

/// The processes of a cluster's parts, so that each can be away.
#[test]
fn the_console_says_in_a_browser_what_is_away_and_goes_on_when_it_is_back() {
    let scene = Scene::new();
    let start = |part: &str| scene.weir.start(&[part]).unwrap();
    let mut gateway = start("gateway");
    let mut ingestor = start("ingestor");
    scene.weir.wait_until_ready().unwrap();
    scene.weir.wait_for_store().unwrap();
    let _console = start("console");
    let (_, key) = scene.weir.create_key_with(&["--team", "growth"]).unwrap();
    scene.weir.wait_until_known(&key).unwrap();
    let facts = scene.facts(&json!({ "growth": key }));
    go("away.py", &facts, |wish| match wish {
        "kill the store" => ingestor.kill().unwrap(),
        "start the store" => {
            ingestor = start("ingestor");
            scene.weir.wait_for_store().unwrap();
        }
        "kill the gateway" => gateway.kill().unwrap(),
        "start the gateway" => {
            gateway = start("gateway");
            scene.weir.wait_until_ready().unwrap();
        }
        other => panic!("{other}?"),
    });
}

/// `WEIR_CONSOLE_ROWS=10000000 cargo test -p weir-tests --test it how_long_each_page_takes -- --nocapture`
/// prints how long each page takes until all its figures stand, with so many requests of 90 days.
#[test]
fn how_long_each_page_takes() {
    let Ok(rows) = std::env::var("WEIR_CONSOLE_ROWS") else {
        return;
    };
    let today = UNIX_EPOCH.elapsed().unwrap().as_secs() / DAY_S;
    let calls = ManyCalls {
        end_s: (today + 1) * DAY_S,
        days: 90,
        per_day: rows.parse::<u64>().unwrap() / 90,
    };
    alone(async move {
        let running = Running::start().await;
        running.store().migrate(3650).await.unwrap();
        calls.fill(&running.store()).await.unwrap();
        let scene = Scene::with_store(&format!("{}retention_days = 3650\n", running.settings()));
        let up = scene.weir.start(&["up"]).unwrap();
        scene.weir.wait_until_ready().unwrap();
        go("times.py", &scene.facts(&json!({})), |wish| {
            panic!("{wish}?")
        });
        up.stop().unwrap();
        running.stop().await;
    });
}
