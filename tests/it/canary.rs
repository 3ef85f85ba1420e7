//! Secrets go where they are used and nowhere else: recognisable ones are put everywhere, everything
//! is made to happen to them, and then they are looked for in all that comes out.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use weir_tests::weir::{Installation, get, wait_for};

use crate::governance::exchange;

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
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut key, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                value.clone_into(&mut key)
            }
            Some((name, value)) if name.eq_ignore_ascii_case("x-api-key") => {
                value.clone_into(&mut key)
            }
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().ok()?;
            }
            Some(_) => {}
            None if line.trim_end().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let mode = MODES
        .iter()
        .find(|mode| body.contains(&format!("\"{mode}\"")));
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
            ("200 OK", "text/event-stream", end)
        }
        "late-error" => {
            let end = chunk("hi", "null") + &format!("data: {error}\n\n");
            ("200 OK", "text/event-stream", end)
        }
        "unauthorized" => ("401 Unauthorized", "application/json", error.to_string()),
        "bad-request" => ("400 Bad Request", "application/json", error.to_string()),
        "limited" => (
            "429 Too Many Requests",
            "application/json",
            error.to_string(),
        ),
        "broken" => ("500 Internal Server Error", "text/plain", told),
        "not-json" => ("200 OK", "application/json", format!("{{ {told}")),
        _ => ("200 OK", "application/json", whole.to_string()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .ok()
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
    let weir = Installation::new(&config(echo())).unwrap();
    let text = fs::read_to_string(weir.config()).unwrap();
    let token = format!("admin-token-{CANARY}");
    let text = text.replacen(
        "[gateway]\n",
        &format!("[gateway]\nadmin_token = \"{token}\"\n"),
        1,
    );
    fs::write(weir.config(), text).unwrap();
    let dir = weir.config().parent().unwrap().to_owned();
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
    let ask = |found: &mut Found, path: &str, headers: &str, body: &str| {
        let answer = exchange(weir.gateway, b"", path, headers, body);
        found.look(
            &format!("the answer to {path} {body}"),
            format!("{answer:?}").as_bytes(),
        );
        answer.status
    };
    for key in &keys {
        for mode in MODES {
            for provider in ["openai", "anthropic"] {
                let stream = matches!(mode, "stream" | "late-error");
                let body = format!(
                    r#"{{"model":"{provider}-{mode}","max_tokens":9,"stream":{stream},"messages":[{{"role":"user","content":"Hello"}}]}}"#
                );
                let bearer = format!("authorization: Bearer {key}\r\n");
                ask(&mut found, "POST /v1/chat/completions", &bearer, &body);
                let own = format!("x-api-key: {key}\r\nanthropic-version: 2023-06-01\r\n");
                ask(&mut found, "POST /v1/messages", &own, &body);
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
        let bearer = format!("authorization: Bearer {wrong}\r\n");
        assert_eq!(
            ask(&mut found, "POST /v1/chat/completions", &bearer, "{}"),
            401
        );
        asked += 1;
    }
    let bearer = format!("authorization: Bearer {token}\r\n");
    for path in [
        "keys",
        "teams",
        "limits",
        "budgets",
        "access",
        "openapi.json",
    ] {
        let path = format!("GET /admin/v1/{path}");
        assert_eq!(ask(&mut found, &path, &bearer, ""), 200, "{path}");
        let wrong = format!("authorization: Bearer {token}x\r\n");
        ask(&mut found, &path, &wrong, "");
    }
    let brought = format!(r#"{{"id":"core","provider_keys":{{"openai":"sk-{CANARY}"}}}}"#);
    let status = ask(&mut found, "PUT /admin/v1/teams/core", &bearer, &brought);
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
    let weir = Installation::new(&config(echo())).unwrap();
    let dir = weir.config().parent().unwrap().to_owned();
    for (file, key) in [("key", "one"), ("second", "two"), ("of-growth", "team")] {
        fs::write(dir.join(file), format!("sk-{key}-{CANARY}")).unwrap();
    }
    let mut gateway = Killed(dumping(&weir.command(&["gateway"]), &dir).spawn().unwrap());
    weir.wait_until_ready().unwrap();
    let abort = ["-ABRT", &gateway.0.id().to_string()];
    assert!(Command::new("kill").args(abort).status().unwrap().success());
    let ended = gateway.0.wait().unwrap();
    assert_eq!(ended.signal(), Some(6), "{ended:?}");
    assert!(!ended.core_dumped(), "{ended:?}");

    // What does not mind being dumped shows whether there are cores here at all.
    let mut other = Command::new("sh");
    other.args(["-c", "kill -ABRT $$"]);
    let other = dumping(&other, &dir).status().unwrap();
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
