//! Secrets go where they are used and nowhere else: recognisable ones are put everywhere, everything
//! is made to happen to them, and then they are looked for in all that comes out.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use weir_tests::gateway::completion;
use weir_tests::http::{Received, Request, answer_head, get, serve};
use weir_tests::weir::{Installation, wait_for};

/// Part of every secret that is not made by the program itself.
const CANARY: &str = "canary7f3a9e";
const MODES: [&str; 8] = [
    "fine",
    "stream",
    "unauthorized",
    "bad-request",
    "limited",
    "broken",
    "not-json",
    "late-error",
];

/// A provider that repeats the key it is called with wherever it can, as some do.
fn echo(request: &Received, stream: &mut TcpStream) -> anyhow::Result<()> {
    let key = request.header("authorization");
    let key = key
        .or_else(|| request.header("x-api-key"))
        .unwrap_or_default();
    let mode = MODES
        .iter()
        .find(|mode| request.body.contains(&format!("\"{mode}\"")));
    let told = format!("you called with {key}; it was {key}");
    let error = json!({ "error": { "message": told, "type": key, "param": key, "code": key } });
    let chunk = |content: &str, finish: &str| {
        format!(
            "data: {{\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
             \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{content}\"}},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    let whole = json!({
        "id": "1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "hi" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 },
    });
    let (status, kind, body) = match mode.copied().unwrap_or("fine") {
        "stream" => {
            let end = chunk("hi", "\"stop\"") + "data: [DONE]\n\n";
            (200, "text/event-stream", end)
        }
        "late-error" => {
            let end = chunk("hi", "null") + &format!("data: {error}\n\n");
            (200, "text/event-stream", end)
        }
        "unauthorized" => (401, "application/json", error.to_string()),
        "bad-request" => (400, "application/json", error.to_string()),
        "limited" => (429, "application/json", error.to_string()),
        "broken" => (500, "text/plain", told),
        "not-json" => (200, "application/json", format!("{{ {told}")),
        _ => (200, "application/json", whole.to_string()),
    };
    Ok(write!(stream, "{}{body}", answer_head(status, kind))?)
}

fn config(provider: SocketAddr) -> String {
    let mut text = format!(
        "[control]\nhash_secret = \"hash-secret-of-32-bytes-{CANARY}\"\n\n\
         [[provider]]\nname = \"openai\"\ndialect = \"openai\"\nbase_url = \"http://{provider}/v1\"\n\
         keys = [\"${{file:key}}\", {{ file = \"second\", weight = 2 }}]\n\
         team_keys = [{{ name = \"growth\", file = \"of-growth\" }}]\n\n\
         [[provider]]\nname = \"anthropic\"\ndialect = \"anthropic\"\nbase_url = \"http://{provider}\"\n\
         keys = [\"sk-ant-{CANARY}\"]\n\n"
    );
    for mode in MODES {
        for provider in ["openai", "anthropic"] {
            text.push_str(&format!(
                "[[alias]]\nname = \"{provider}-{mode}\"\n\
                 targets = [{{ provider = \"{provider}\", model = \"{mode}\" }}]\n\
                 retry = {{ backoff_ms = 1 }}\n\n"
            ));
        }
    }
    text
}

/// All that comes out, with where it came from.
struct Found {
    secrets: Vec<String>,
    looked_at: usize,
}

impl Found {
    fn look(&mut self, place: &str, text: &[u8]) {
        self.looked_at += 1;
        for secret in &self.secrets {
            let found = text
                .windows(secret.len())
                .position(|window| window == secret.as_bytes());
            if let Some(at) = found {
                let from = at.saturating_sub(200);
                let around = String::from_utf8_lossy(&text[from..(at + 200).min(text.len())]);
                panic!("{place} shows a secret: {around}");
            }
        }
    }

    fn look_into(&mut self, dir: &Path) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                self.look_into(&path);
            } else if let Ok(text) = fs::read(&path) {
                self.look(&path.display().to_string(), &text);
            }
        }
    }
}

#[test]
fn secrets_are_nowhere_but_where_they_are_used() {
    let weir = Installation::new(&config(serve(echo).unwrap())).unwrap();
    let token = format!("admin-token-{CANARY}");
    weir.add_gateway_settings(&format!("admin_token = \"{token}\""))
        .unwrap();
    let dir = weir.dir();
    for (file, key) in [("key", "one"), ("second", "two"), ("of-growth", "team")] {
        fs::write(dir.join(file), format!("sk-{key}-{CANARY}")).unwrap();
    }
    weir.run(&["teams", "set", "growth", "--provider-key", "openai=growth"])
        .unwrap();
    let keys = [
        weir.create_key("growth").unwrap(),
        weir.create_key("core").unwrap(),
    ];
    let mut command = weir.command(&["up"]);
    command.env("WEIR_LOG", "debug,librdkafka=debug");
    let log = dir.join("up.log");
    let file = fs::File::create(&log).unwrap();
    let mut up = Killed(
        command
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap(),
    );
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    weir.wait_until_known(&keys[1]).unwrap();
    let mut found = Found {
        secrets: vec![CANARY.to_owned(), keys[0].clone(), keys[1].clone()],
        looked_at: 0,
    };

    let mut asked = 0;
    let ask = |found: &mut Found, call: Request| {
        let answer = call.send(weir.gateway).unwrap();
        let place = format!("the answer to {call:?}");
        found.look(&place, format!("{answer:?}").as_bytes());
        answer.status
    };
    for key in &keys {
        for mode in MODES {
            for provider in ["openai", "anthropic"] {
                let stream = matches!(mode, "stream" | "late-error");
                let body = format!(
                    r#"{{"model":"{provider}-{mode}","max_tokens":9,"stream":{stream},"messages":[{{"role":"user","content":"Hello"}}]}}"#
                );
                ask(&mut found, completion(key, &*body));
                let messages = Request::post("/v1/messages", body).header("x-api-key", key);
                ask(
                    &mut found,
                    messages.header("anthropic-version", "2023-06-01"),
                );
                asked += 2;
            }
        }
    }
    // Keys and tokens that are none.
    for wrong in [
        format!("weir_{CANARY}"),
        format!("sk-{CANARY}"),
        token.clone(),
    ] {
        assert_eq!(ask(&mut found, completion(&wrong, "{}")), 401);
        asked += 1;
    }
    for path in [
        "keys",
        "teams",
        "limits",
        "budgets",
        "access",
        "openapi.json",
    ] {
        let call = Request::get(&format!("/admin/v1/{path}"));
        assert_eq!(ask(&mut found, call.clone().bearer(&token)), 200, "{path}");
        ask(&mut found, call.bearer(&format!("{token}x")));
    }
    let brought = format!(r#"{{"id":"core","provider_keys":{{"openai":"sk-{CANARY}"}}}}"#);
    let call = Request::new("PUT", "/admin/v1/teams/core").body(brought);
    let status = ask(&mut found, call.bearer(&token));
    assert!((400..500).contains(&status), "{status}");
    found.look(
        "the metrics",
        get(weir.gateway, "/metrics").unwrap().as_bytes(),
    );

    // A file of a key that holds none: it is reported, and the old key goes on.
    fs::write(dir.join("second"), format!("{CANARY}\n{CANARY}")).unwrap();
    wait_for("the file is reported", || {
        Ok(fs::read_to_string(&log)?.contains("key \"openai#2\": it holds characters"))
    })
    .unwrap();
    let commands: [&[&str]; 12] = [
        &["config", "check"],
        &["config", "schema"],
        &["doctor"],
        &["doctor", "--json"],
        &["egress"],
        &["keys", "list", "--json"],
        &["teams", "list", "--json"],
        &["tokens", "list", "--json"],
        &["routes", "show"],
        &["routes", "show", "--json"],
        &["audit", "calls", "--team", "growth"],
        &[
            "teams",
            "set",
            "x",
            "--provider-key",
            "openai=sk-canary7f3a9e",
        ],
    ];
    for command in commands {
        let said = weir.command(command).output().unwrap();
        found.look(&format!("weir {command:?}"), &said.stdout);
        found.look(&format!("weir {command:?}"), &said.stderr);
    }

    let count = "SELECT count() FROM weir.requests";
    weir.wait_for_number(count, asked).unwrap();
    for table in [
        "requests",
        "attempts",
        "control_changes",
        "deployment_states",
        "dead_letters",
    ] {
        let question = format!("SELECT * FROM weir.{table}");
        let rows = weir
            .run(&["sql", &question, "--format", "JSONEachRow"])
            .unwrap();
        found.look(table, &rows.stdout);
    }
    let told =
        "SELECT count() FROM weir.attempts WHERE error_message LIKE '%you called with%[redacted]%'";
    assert!(
        weir.number(told).unwrap() > 0,
        "the provider's words are kept"
    );
    assert_eq!(
        weir.number("SELECT count() FROM weir.attempts WHERE provider_key = 'openai#growth'")
            .unwrap(),
        weir.number(
            "SELECT count() FROM weir.attempts WHERE team = 'growth' AND provider = 'openai'"
        )
        .unwrap(),
    );
    up.0.kill().unwrap();
    up.0.wait().unwrap();
    found.look("the log", &fs::read(&log).unwrap());
    found.look_into(&weir.data_dir());
    assert!(found.looked_at > 100, "{}", found.looked_at);
}

/// A command that may leave a core of any size in a directory.
fn dumping(command: &Command, dir: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -c unlimited; exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(dir)
        .stderr(Stdio::null());
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    shell
}

#[test]
fn a_gateway_that_is_aborted_leaves_no_core_with_its_secrets() {
    let weir = Installation::new(&config(serve(echo).unwrap())).unwrap();
    let dir = weir.dir();
    for (file, key) in [("key", "one"), ("second", "two"), ("of-growth", "team")] {
        fs::write(dir.join(file), format!("sk-{key}-{CANARY}")).unwrap();
    }
    let mut gateway = Killed(dumping(&weir.command(&["gateway"]), dir).spawn().unwrap());
    weir.wait_until_ready().unwrap();
    let abort = ["-ABRT", &gateway.0.id().to_string()];
    assert!(Command::new("kill").args(abort).status().unwrap().success());
    let ended = gateway.0.wait().unwrap();
    assert_eq!(ended.signal(), Some(6), "{ended:?}");
    assert!(!ended.core_dumped(), "{ended:?}");

    // What does not mind being dumped shows whether there are cores here at all.
    let mut other = Command::new("sh");
    other.args(["-c", "kill -ABRT $$"]);
    let other = dumping(&other, dir).status().unwrap();
    if !other.core_dumped() {
        println!("this machine writes no cores, so nothing is shown: {other:?}");
    }
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
