//! What is kept of prompts and answers: HTTP in, SQL out; that no secret is; and that its texts may go
//! without the proof.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use serde_json::{Value, json};
use weir_schemas::StreamId;
use weir_store::{Retention, Store};
use weir_tests::gateway::completion;
use weir_tests::http::{Answer, Received, Request, event_stream_head, json_answer, serve};
use weir_tests::weir::{Installation, repository};

use crate::store::{Running, alone};

/// A secret that the client sends, and one that the model says.
const SENT: &str = "sk-proj-abcdefghijklmnopqrstuvwxyz012345";
const SAID: &str = "AKIAIOSFODNN7EXAMPLE";
/// What the pattern `employee` finds.
const EMPLOYEE: &str = "E-123456";

/// A provider that answers by the model it is asked for.
fn provider(request: &Received, client: &mut TcpStream) -> anyhow::Result<()> {
    let body: Value = serde_json::from_str(&request.body)?;
    let sse = |delta: Value| {
        let choice = json!({"index": 0, "delta": delta});
        format!(
            "data: {}\n\n",
            json!({"id": "c1", "model": "m", "choices": [choice]})
        )
    };
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 3});
    let (half, rest) = SAID.split_at(9);
    let answer = match body["model"].as_str().unwrap_or_default() {
        "stream" => {
            let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage});
            [
                event_stream_head(),
                sse(json!({"role": "assistant", "content": "it is "})),
                sse(json!({"content": half})),
                sse(json!({"content": rest})),
                sse(json!({"content": format!(", {EMPLOYEE}.")})),
                format!("data: {end}\n\ndata: [DONE]\n\n"),
            ]
            .concat()
        }
        "embed" => {
            let data =
                json!([{"object": "embedding", "index": 0, "embedding": [0.25, 1, 2, 3, 4, 5]}]);
            let answer = json!({"object": "list", "data": data, "model": "embed", "usage": {"prompt_tokens": 2, "total_tokens": 2}});
            json_answer(200, &answer.to_string())
        }
        "refuse" => {
            let error = json!({"error": {"message": format!("bad key {SAID}"), "type": "invalid_request_error", "code": "bad"}});
            json_answer(400, &error.to_string())
        }
        "endless" => {
            let begin = event_stream_head() + &sse(json!({"content": "half of "}));
            client.write_all((begin + &sse(json!({"content": half}))).as_bytes())?;
            // Until the gateway gives the call up.
            let _ = client.read(&mut [0])?;
            return Ok(());
        }
        _ => {
            let call = json!({"id": "t", "type": "function", "function": {"name": "look_up", "arguments": json!({"q": format!("a\n{SAID}")}).to_string()}});
            let message = json!({"role": "assistant", "content": format!("my key is {SAID}"), "tool_calls": [call]});
            let answer = json!({"id": "c1", "object": "chat.completion", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}], "usage": usage});
            json_answer(200, &answer.to_string())
        }
    };
    Ok(client.write_all(answer.as_bytes())?)
}

fn config() -> String {
    let mut config = format!(
        "[payloads]\nbytes_max = 4096\npatterns = [{{ name = \"employee\", regex = \"E-[0-9]{{6}}\" }}]\n\n\
         [[provider]]\nname = \"p\"\ndialect = \"openai-compatible\"\nbase_url = \"http://{}/v1\"\n",
        serve(provider).unwrap()
    );
    for model in ["plain", "stream", "embed", "refuse", "endless"] {
        config.push_str(&format!(
            "[[alias]]\nname = \"{model}\"\ntargets = [{{ provider = \"p\", model = \"{model}\" }}]\n"
        ));
    }
    config
}

struct Scene {
    weir: Installation,
    key: String,
}

impl Scene {
    fn send(&self, path: &str, body: &str) -> Answer {
        self.send_as(&self.key, path, body)
    }

    fn send_as(&self, key: &str, path: &str, body: &str) -> Answer {
        Request::post(path, body)
            .bearer(key)
            .header("content-type", "application/json")
            .header("anthropic-version", "2023-06-01")
            .send(self.weir.gateway)
            .unwrap()
    }

    fn chat(&self, model: &str, content: &str) -> Answer {
        self.send("/v1/chat/completions", &chat(model, content))
    }

    /// A key of a team. What was changed before it was made holds when it is known.
    fn key_of(&self, team: &str) -> String {
        let key = self.weir.create_key(team).unwrap();
        self.weir.wait_until_known(&key).unwrap();
        key
    }

    fn rule(&self, team: &str, args: &[&str]) {
        let args = [&["payloads", "set", team, "--team", team], args].concat();
        self.weir.run(&args).unwrap();
    }

    /// The row of a request's payload.
    fn row(&self, answer: &Answer) -> Row {
        self.row_where(&of_request(answer))
    }

    fn row_where(&self, condition: &str) -> Row {
        let stored = format!(
            "FROM (SELECT * FROM weir.payloads WHERE {condition}) AS p \
             JOIN weir.requests AS r ON r.request_id = p.request_id"
        );
        let count = format!("SELECT count() {stored}");
        self.weir.wait_for_number(&count, 1).unwrap();
        let row = format!(
            "SELECT p.*, r.request_bytes = p.request_bytes AS same_request, \
             r.response_bytes = p.answer_bytes AS same_answer, r.status = p.status AS same_status \
             {stored}"
        );
        Row(self.weir.sql(&row).unwrap().remove(0))
    }
}

fn of_request(answer: &Answer) -> String {
    format!("request_id = '{}'", answer.header("x-request-id").unwrap())
}

fn chat(model: &str, content: &str) -> String {
    let messages = json!([{"role": "user", "content": content}]);
    let stream = model == "stream" || model == "endless";
    json!({"model": model, "messages": messages, "max_tokens": 20, "stream": stream}).to_string()
}

struct Row(Value);

impl Row {
    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap()
    }

    fn json(&self, name: &str) -> Value {
        let text = self.text(name);
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {}", self.0))
    }

    fn is(&self, name: &str) -> bool {
        self.0[name] == true || self.0[name] == 1
    }

    #[track_caller]
    fn check(&self, name: &str, path: &str, expected: &str) {
        let json = self.json(name);
        assert_eq!(json.pointer(path), Some(&json!(expected)), "{json}");
    }
}

#[test]
fn prompts_and_answers_are_kept_as_the_rules_say_and_without_secrets() {
    let weir = Installation::new(&config()).unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    let mut scene = Scene {
        weir,
        key: String::new(),
    };
    let silent = scene.key_of("silent");
    scene.rule("full", &["--capture", "full"]);
    scene.rule("shape", &["--capture", "metadata"]);
    scene.rule("drawn", &["--capture", "sampled", "--share", "0.5"]);
    scene.key = scene.key_of("full");
    check_plain(&scene);
    check_streams(&scene);
    check_embeddings(&scene);
    check_errors(&scene);
    check_a_client_that_leaves(&scene);
    check_truncation(&scene);
    check_metadata(&scene);
    check_sampled(&scene);
    check_off_and_changed_live(&scene, &silent);
    check_no_secret_is_anywhere(&scene.weir);
    check_erasure(&scene.weir);

    up.stop().unwrap();
    let again = scene.weir.start(&["up"]).unwrap();
    scene.weir.wait_until_ready().unwrap();
    scene.weir.wait_for_store().unwrap();
    let row = scene.row(&scene.chat("plain", "after a restart"));
    row.check("request", "/messages/0/content", "after a restart");
    again.stop().unwrap();
}

fn check_plain(scene: &Scene) {
    let said = format!("my key is {SENT}, I am {EMPLOYEE}, \"quoted\" é");
    let answer = scene.chat("plain", &said);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer.text().contains(SAID),
        "the client gets it all: {answer:?}"
    );
    let row = scene.row(&answer);
    let expected = "my key is [redacted:provider_key], I am [redacted:employee], \"quoted\" é";
    row.check("request", "/messages/0/content", expected);
    row.check(
        "answer",
        "/choices/0/message/content",
        "my key is [redacted:aws_key]",
    );
    let arguments = "/choices/0/message/tool_calls/0/function/arguments";
    row.check("answer", arguments, r#"{"q":"a\n[redacted:aws_key]"}"#);
    assert_eq!(
        row.0["detectors"],
        json!(["aws_key", "employee", "provider_key"])
    );
    assert_eq!(row.0["redactions"].to_string().trim_matches('"'), "4");
    assert!(row.is("same_request") && row.is("same_answer") && row.is("same_status"));
    assert!(!row.is("request_truncated") && !row.is("answer_truncated") && !row.is("streamed"));
    let words = [
        "team",
        "dialect",
        "alias",
        "capture",
        "request_omitted",
        "answer_omitted",
    ];
    let words = words.map(|name| row.text(name));
    assert_eq!(words, ["full", "openai.chat", "plain", "full", "", ""]);
    // The query that is shipped finds it.
    let query =
        fs::read_to_string(repository().join("dashboards/queries/payload_of_one_request.sql"));
    let id = answer.header("x-request-id").unwrap();
    let query = query
        .unwrap()
        .replace("00000000-0000-0000-0000-000000000000", id);
    let found = scene
        .weir
        .sql(&format!("SELECT request FROM ({query})"))
        .unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["request"].as_str(), Some(row.text("request")));
    // And so does the audit.
    let calls = scene
        .weir
        .run(&["audit", "calls", "--team", "full", "--json"])
        .unwrap();
    let calls = String::from_utf8(calls.stdout).unwrap();
    assert!(calls.contains(r#""payload":"full""#), "{calls}");
}

/// A secret in two deltas is found, whatever the client's dialect.
fn check_streams(scene: &Scene) {
    let expected = "it is [redacted:aws_key], [redacted:employee].";
    let row = scene.row(&scene.chat("stream", "hello"));
    row.check("answer", "/choices/0/message/content", expected);
    row.check("answer", "/choices/0/finish_reason", "stop");
    assert!(row.is("same_answer") && row.is("streamed") && !row.is("answer_truncated"));

    let body = json!({"model": "stream", "max_tokens": 20, "stream": true, "system": format!("be {SENT}"), "messages": [{"role": "user", "content": "hello"}]});
    let answer = scene.send("/v1/messages", &body.to_string());
    assert!(answer.text().contains("message_stop"), "{answer:?}");
    let row = scene.row(&answer);
    row.check("request", "/system", "be [redacted:provider_key]");
    row.check("answer", "/content/0/text", expected);
    row.check("answer", "/stop_reason", "end_turn");
    assert_eq!(row.text("dialect"), "anthropic.messages");

    let body = json!({"model": "stream", "stream": true, "input": "hello"});
    let answer = scene.send("/v1/responses", &body.to_string());
    assert!(answer.text().contains("response.completed"), "{answer:?}");
    let row = scene.row(&answer);
    row.check("answer", "/output/0/content/0/text", expected);
    row.check("answer", "/status", "completed");

    let body = json!({"model": "plain", "max_tokens": 20, "messages": [{"role": "user", "content": "hello"}]});
    let row = scene.row(&scene.send("/v1/messages", &body.to_string()));
    row.check("answer", "/content/1/input/q", "a\n[redacted:aws_key]");
}

fn check_embeddings(scene: &Scene) {
    let body = json!({"model": "embed", "input": ["a text", SENT]});
    let row = scene.row(&scene.send("/v1/embeddings", &body.to_string()));
    row.check("request", "/input/0", "a text");
    row.check("request", "/input/1", "[redacted:provider_key]");
    row.check("answer", "/data/0/embedding", "[6 numbers]");
    let body = json!({"model": "embed", "input": [[1, 2, 3, 4, 5, 6, 7]]});
    let row = scene.row(&scene.send("/v1/embeddings", &body.to_string()));
    row.check("request", "/input/0", "[7 numbers]");
}

fn check_errors(scene: &Scene) {
    let answer = scene.chat("refuse", "hello");
    assert_eq!(answer.status, 400, "{answer:?}");
    let row = scene.row(&answer);
    let said = row.json("answer")["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    // The client got it without the key, and so it is kept.
    assert!(said.ends_with("bad key [redacted]"), "{said}");
    row.check("request", "/messages/0/content", "hello");

    let answer = scene.send("/v1/chat/completions", &format!("{{\"model\": {SENT}"));
    assert_eq!(answer.status, 400);
    let row = scene.row(&answer);
    assert_eq!(
        (row.text("request_omitted"), row.text("request")),
        ("unreadable", "")
    );
    assert!(row.json("answer")["error"]["message"].is_string());

    let row = scene.row(&scene.chat("no-such-model", "hello"));
    row.check("answer", "/error/code", "model_not_found");
    assert_eq!(row.0["status"], 404);
}

/// What it got is kept, without the word that is half a secret.
fn check_a_client_that_leaves(scene: &Scene) {
    let call = completion(&scene.key, chat("endless", "hello"));
    let mut client = call.open(scene.weir.gateway).unwrap();
    let mut got = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&got).contains(&SAID[..9]) {
        let read = client.read(&mut piece).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&piece[..read]);
    }
    drop(client);
    let row = scene.row_where("alias = 'endless'");
    row.check("answer", "/choices/0/message/content", "half of ");
    assert!(row.is("answer_truncated"));
}

fn check_truncation(scene: &Scene) {
    let long = format!("{}{SENT}", "word ".repeat(20_000));
    let answer = scene.chat("plain", &long);
    assert_eq!(answer.status, 200);
    let row = scene.row(&answer);
    assert!(row.is("request_truncated") && !row.is("answer_truncated"));
    assert!(row.is("same_request") && row.text("request").len() <= 4096);
    let kept = row.json("request")["messages"][0]["content"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        kept.starts_with("word word ") && kept.ends_with("bytes left out]"),
        "{kept}"
    );
}

fn check_metadata(scene: &Scene) {
    let key = scene.key_of("shape");
    let body = json!({"model": "plain", "temperature": 0.5, "user": "ana", "messages": [{"role": "user", "content": "a private matter"}], "tools": [{"type": "function", "function": {"name": "look_up", "description": "finds private things", "parameters": {"type": "object"}}}]});
    let answer = scene.send_as(&key, "/v1/chat/completions", &body.to_string());
    let row = scene.row(&answer);
    assert_eq!(row.text("capture"), "metadata");
    assert_eq!(
        row.json("request"),
        json!({"model": "plain", "temperature": 0.5, "user": "[3 bytes]", "messages": [{"role": "user", "content": "[16 bytes]"}], "tools": [{"type": "function", "function": {"name": "look_up", "description": "[20 bytes]", "parameters": "[10 bytes]"}}]})
    );
    row.check("answer", "/choices/0/message/content", "[30 bytes]");
    row.check(
        "answer",
        "/choices/0/message/tool_calls/0/function/name",
        "look_up",
    );
    let texts = "SELECT count() FROM weir.payloads WHERE team = 'shape' AND position(concat(request, answer), 'private') > 0";
    assert_eq!(scene.weir.number(texts).unwrap(), 0);
}

/// Some are kept and some are not, each request as its id says.
fn check_sampled(scene: &Scene) {
    const CALLS: u64 = 40;
    let key = scene.key_of("drawn");
    for _ in 0..CALLS {
        let answer = scene.send_as(&key, "/v1/chat/completions", &chat("plain", "hello"));
        assert_eq!(answer.status, 200);
    }
    let count = "SELECT count() FROM weir.requests WHERE team = 'drawn'";
    scene.weir.wait_for_number(count, CALLS).unwrap();
    let kept = "SELECT count() FROM weir.payloads WHERE team = 'drawn' AND capture = 'sampled' AND share = 0.5";
    // The rows of one request may be inserted one table after the other: one more request that is
    // kept for certain comes behind all of them.
    scene.row(&scene.chat("plain", "behind"));
    let kept = scene.weir.number(kept).unwrap();
    // Fewer than 3 or more than 37 of 40 fair draws come once in a hundred million runs.
    assert!((3..=37).contains(&kept), "{kept}");
}

fn check_off_and_changed_live(scene: &Scene, silent: &str) {
    let before = scene.send_as(silent, "/v1/chat/completions", &chat("plain", "before"));
    assert_eq!(before.status, 200);
    scene.rule("silent", &["--capture", "full"]);
    let known = scene.key_of("silent");
    let after = scene.send_as(silent, "/v1/chat/completions", &chat("plain", "after"));
    scene
        .row(&after)
        .check("request", "/messages/0/content", "after");
    scene.rule("silent", &["--capture", "off"]);
    let _ = scene.key_of("silent");
    let off = scene.send_as(&known, "/v1/chat/completions", &chat("plain", "off again"));
    assert_eq!(off.status, 200);
    scene.row(&scene.chat("plain", "behind"));
    let count = format!(
        "SELECT count() FROM weir.payloads WHERE {} OR {}",
        of_request(&before),
        of_request(&off)
    );
    assert_eq!(scene.weir.number(&count).unwrap(), 0);
    let changes = "SELECT count() FROM weir.control_changes WHERE object_kind = 'payload'";
    scene.weir.wait_for_number(changes, 5).unwrap();
}

/// Neither in the table nor in the log.
fn check_no_secret_is_anywhere(weir: &Installation) {
    for secret in [SENT, SAID, EMPLOYEE] {
        let count = format!(
            "SELECT count() FROM weir.payloads WHERE position(concat(request, answer), '{secret}') > 0"
        );
        assert_eq!(weir.number(&count).unwrap(), 0, "{secret}");
    }
    let mut bytes = 0;
    for segment in files(&weir.data_dir().join("journal")) {
        // What is stored is freed meanwhile.
        let Ok(content) = fs::read(&segment) else {
            continue;
        };
        bytes += content.len();
        let text = String::from_utf8_lossy(&content);
        for secret in [SENT, SAID, EMPLOYEE] {
            assert!(!text.contains(secret), "{secret} in {}", segment.display());
        }
    }
    assert!(bytes > 10_000, "the journal holds only {bytes} bytes");
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

fn verify(weir: &Installation) -> Value {
    let output = weir
        .command(&["audit", "verify", "--json"])
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// A text that is erased on demand leaves the proof that it was there; one that is changed does not.
fn check_erasure(weir: &Installation) {
    let alter = |change: &str| {
        let sql = format!("ALTER TABLE weir.payloads {change} SETTINGS mutations_sync = 1");
        weir.run(&["sql", "--write", &sql]).unwrap();
    };
    let report = verify(weir);
    assert_eq!(
        (&report["proven"], &report["payloads_erased"]),
        (&json!(true), &json!(0))
    );
    assert!(report["payloads"].as_u64().unwrap() > 15, "{report}");
    alter(
        "UPDATE request = '', answer = '', salt = toUUID('00000000-0000-0000-0000-000000000000') \
         WHERE alias = 'embed'",
    );
    let report = verify(weir);
    assert_eq!(
        (&report["proven"], &report["payloads_erased"]),
        (&json!(true), &json!(2))
    );
    alter("UPDATE answer = replace(answer, 'half', 'all') WHERE alias = 'endless'");
    let report = verify(weir);
    let finding = &report["findings"][0];
    assert_eq!(
        (&report["proven"], &finding["kind"]),
        (&json!(false), &json!("edited"))
    );
    assert_eq!(finding["table"], "payloads");
}

async fn run(store: &Store, sql: &str) {
    let mut answer = store.raw_query(sql, "Null").unwrap();
    while answer.next().await.unwrap().is_some() {}
}

/// Texts go by a retention of their own, rows by that of all rows; what is sealed stays proven.
#[test]
fn texts_of_payloads_go_before_their_rows_and_the_audit_stays_proven() {
    alone(async {
        let running = Running::start().await;
        let store = running.store();
        let keep = |rows_days, payloads_days| Retention {
            rows_days,
            payloads_days,
        };
        store.migrate(keep(365, 200)).await.unwrap();
        let weir = Installation::new("").unwrap();
        let config = format!("[store]\n{}retention_days = 365\n", running.settings());
        fs::write(weir.config(), config).unwrap();
        let now = "SELECT toUnixTimestamp64Milli(now64(3))";
        let now_ms = store.fetch::<i64>(store.query(now)).await.unwrap()[0];
        for (number, days) in [(1_u8, 100_i64), (2, 10)] {
            let born_ms = u64::try_from(now_ms - days * 86_400_000).unwrap();
            let stream = StreamId::new(born_ms, [number; 10]);
            let opened = format!(
                "INSERT INTO weir.streams (stream, seq, ts, event) \
                 SELECT '{stream}', 1, now64(6) - toIntervalDay({days}), 'opened'"
            );
            run(&store, &opened).await;
            let rows = format!(
                "INSERT INTO weir.payloads (stream, seq, ts, team, capture, salt, request, answer, content_hash) \
                 SELECT '{stream}', number + 2, now64(6) - toIntervalDay({days}) + toIntervalSecond(number), 't', \
                 'full', generateUUIDv4(number) AS salt, concat('r', toString(number)) AS request, 'a' AS answer, \
                 lower(hex(SHA256(concat(toString(salt), ':', toString(length(request)), ':', request, answer)))) FROM numbers(50)"
            );
            run(&store, &rows).await;
        }
        assert!(weir.run(&["audit", "checkpoint"]).is_ok());
        let counted = async || {
            run(&store, "OPTIMIZE TABLE weir.payloads FINAL").await;
            let counts = "SELECT count(), countIf(request != ''), countIf(notEmpty(salt)) FROM weir.payloads";
            let query = store.query(counts);
            store.fetch::<(u64, u64, u64)>(query).await.unwrap()[0]
        };
        let proven = |erased: u64| {
            let report = verify(&weir);
            assert_eq!(report["proven"], true, "{report}");
            assert_eq!(report["payloads_erased"], erased, "{report}");
            report["payloads"].as_u64().unwrap()
        };
        assert_eq!(counted().await, (100, 100, 100));
        assert_eq!(proven(0), 100);
        // Only the texts' retention is shortened.
        let held = store.migrate(keep(365, 30)).await.unwrap().held;
        assert_eq!(counted().await, (100, 100, 100), "nobody has accepted it");
        let deleted = store.accept_deletion(keep(365, 30)).await.unwrap();
        assert_eq!((&deleted, deleted.len()), (&held, 1));
        assert_eq!((deleted[0].is_of_texts, deleted[0].rows), (true, 50));
        assert!(
            store
                .migrate(keep(365, 30))
                .await
                .unwrap()
                .retention
                .is_empty()
        );
        assert_eq!(counted().await, (100, 50, 50));
        assert_eq!(proven(50), 100);
        // Rows that are gone altogether are beyond the period that can be proven.
        store.accept_deletion(keep(90, 30)).await.unwrap();
        assert_eq!(counted().await, (50, 50, 50));
        let text = fs::read_to_string(weir.config()).unwrap();
        let text = text.replace("retention_days = 365", "retention_days = 90");
        fs::write(weir.config(), text).unwrap();
        assert_eq!(proven(0), 50);
        store.migrate(0).await.unwrap();
        let created = "SELECT create_table_query FROM system.tables WHERE name = 'payloads'";
        let created = store.fetch::<String>(store.query(created)).await.unwrap();
        assert!(!created[0].contains("TTL"), "{created:?}");
        running.stop().await;
    });
}
