//! The command line as a person meets it: what it says, where, and what works as it is pasted.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use serde_json::Value;
use weir_loadtest::mock::{MockOptions, MockProvider};
use weir_tests::gateway::{chat_request, completion};
use weir_tests::http::Answer;
use weir_tests::weir::{Installation, Process, repository, wait_for};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command that fails, and gives its exit code and what it said on stderr.
fn fails(weir: &Installation, args: &[&str]) -> (Option<i32>, String) {
    let output = weir.command(args).output().unwrap();
    assert!(
        !output.status.success(),
        "weir {args:?}: {}",
        text(&output.stdout)
    );
    (output.status.code(), text(&output.stderr))
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn chat(gateway: SocketAddr, key: &str, model: &str) -> Answer {
    chat_request(key, model).send(gateway).unwrap()
}

fn alias(name: &str, base_url: &str) -> String {
    format!(
        "[[provider]]\nname = \"mock\"\ndialect = \"openai\"\nbase_url = \"{base_url}\"\n\n\
         [[alias]]\nname = \"{name}\"\ntargets = [{{ provider = \"mock\", model = \"small\" }}]\n"
    )
}

#[test]
fn a_configuration_is_checked_whole_with_file_line_and_suggestion() {
    let weir = Installation::new("").unwrap();
    let config = "[gateway]\nlisen = \"127.0.0.1:1\"\n\n[[alias]]\nname = \"a\"\n\
                  targets = [{ provider = \"opnai\", model = \"m\" }]\n\n\
                  [[provider]]\nname = \"openai\"\ndialect = \"openai\"\n\
                  base_url = \"https://api.openai.com/v1\"\nkeys = [\"${env:WEIR_TEST_NOT_SET}\"]\n";
    fs::write(weir.config(), config).unwrap();
    let file = weir.config().display().to_string();
    for command in [&["config", "check"][..], &["up"], &["gateway"]] {
        let (code, said) = fails(&weir, command);
        assert_eq!(code, Some(1), "{command:?}");
        for expected in [
            format!("{file}:2:1: unknown field `lisen`"),
            "did you mean `listen`?".to_owned(),
            format!("{file}:6:25: alias[0].targets[0].provider: there is no provider \"opnai\""),
            "did you mean \"openai\"?".to_owned(),
            format!("{file}:12:9: the environment variable WEIR_TEST_NOT_SET is not set"),
        ] {
            assert!(
                said.contains(&expected),
                "{command:?} does not say {expected}: {said}"
            );
        }
    }
    let checked = weir
        .command(&["config", "check", "--json"])
        .output()
        .unwrap();
    assert_eq!(json(&checked)["problems"].as_array().unwrap().len(), 3);
}

#[test]
fn the_example_and_the_schema_are_printed_and_agree() {
    let weir = Installation::new("").unwrap();
    let example = weir.run(&["config", "example"]).unwrap().stdout;
    fs::write(weir.config(), &example).unwrap();
    let checked = weir
        .command(&["config", "check"])
        .env("OPENAI_API_KEY", "sk-test")
        .output()
        .unwrap();
    assert_eq!(text(&checked.stdout), "valid: 2 providers, 2 aliases\n");
    let schema = json(&weir.run(&["config", "schema"]).unwrap());
    let sections = schema["properties"].as_object().unwrap();
    for section in [
        "gateway", "control", "eventlog", "store", "provider", "alias",
    ] {
        assert!(sections.contains_key(section), "{section}");
        assert!(
            text(&example).contains(&format!("[{section}]")),
            "{section}"
        );
    }
}

#[test]
fn a_wrong_call_exits_with_2() {
    let weir = Installation::new("").unwrap();
    for args in [&["keys", "create"][..], &["upp"], &["sql"], &["bench"]] {
        assert_eq!(fails(&weir, args).0, Some(2), "{args:?}");
    }
}

#[test]
fn a_provider_key_where_its_name_belongs_is_refused_and_not_repeated() {
    let weir = Installation::new("").unwrap();
    let args = ["teams", "set", "growth", "--provider-key", "sk-canary"];
    let (code, said) = fails(&weir, &args);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("expected PROVIDER=NAME") && !said.contains("sk-canary"),
        "{said}"
    );
}

/// What an expression like `keys create|list` stands for.
fn spelled_out(words: &[&str]) -> Vec<Vec<String>> {
    let mut calls = vec![Vec::new()];
    for word in words {
        calls = word
            .split('|')
            .flat_map(|choice| {
                let longer = |call: &Vec<String>| [&call[..], &[choice.to_owned()]].concat();
                calls.iter().map(longer).collect::<Vec<_>>()
            })
            .collect();
    }
    calls
}

#[test]
fn the_readme_lists_the_commands_that_there_are() {
    let weir = Installation::new("").unwrap();
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let (_, section) = readme.split_once("\n## Commands\n").unwrap();
    let section = section.split("\n## ").next().unwrap().replace("\\|", "|");
    let quoted = section.split('`').skip(1).step_by(2);
    let mut listed = BTreeSet::new();
    for command in quoted.filter_map(|text| text.strip_prefix("weir ")) {
        let is_word = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
        let words: Vec<&str> = command.split_whitespace().take_while(is_word).collect();
        for call in spelled_out(&words) {
            let mut args: Vec<&str> = call.iter().map(String::as_str).collect();
            args.push("--help");
            weir.run(&args).unwrap();
            listed.insert(call[0].clone());
        }
    }
    let help = text(&weir.run(&["--help"]).unwrap().stdout);
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let commands = commands.lines().take_while(|line| !line.is_empty());
    for command in commands.filter_map(|line| line.split_whitespace().next()) {
        let is_known = listed.contains(command) || ["help", "completions"].contains(&command);
        assert!(is_known, "README.md does not list `weir {command}`");
    }
}

#[test]
fn a_key_works_until_it_is_revoked_and_is_kept_nowhere() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let weir = Installation::new(&alias("fast-chat", &mock.base_url())).unwrap();
    let _gateway = weir.start(&["gateway"]).unwrap();
    weir.wait_until_ready().unwrap();

    let (code, said) = fails(
        &weir,
        &["keys", "create", "--team", "t", "--models", "fast-chatt"],
    );
    assert_eq!(code, Some(1));
    assert!(
        said.contains("fast-chatt") && said.contains("known: fast-chat"),
        "{said}"
    );

    let create = [
        "keys", "create", "--team", "growth", "--user", "ana", "--env", "prod", "--json",
    ];
    let created = json(&weir.run(&create).unwrap());
    let key = created["key"].as_str().unwrap();
    let id = created["id"].as_str().unwrap();
    wait_for("the gateway knows the key", || {
        Ok(chat(weir.gateway, key, "fast-chat").status == 200)
    })
    .unwrap();

    let listed = weir.run(&["keys", "list", "--json"]).unwrap();
    assert_eq!(json(&listed)[0]["team"], "growth");
    assert_eq!(json(&listed)[0]["user"], "ana");
    assert_eq!(json(&listed)[0]["environment"], "prod");
    assert_nowhere(&weir.data_dir(), key);

    weir.run(&["keys", "revoke", id]).unwrap();
    wait_for("the key is refused", || {
        Ok(chat(weir.gateway, key, "fast-chat").status == 401)
    })
    .unwrap();
    assert!(text(&weir.run(&["keys", "list"]).unwrap().stdout).contains("revoked"));
    let (_, said) = fails(&weir, &["keys", "revoke", "key_0"]);
    assert!(said.contains("there is no key key_0"), "{said}");
}

/// No file below a directory holds a text.
fn assert_nowhere(dir: &Path, text: &str) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_nowhere(&path, text);
        } else {
            let bytes = fs::read(&path).unwrap();
            let found = bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes());
            assert!(!found, "{} holds it", path.display());
        }
    }
}

#[test]
fn a_port_in_use_names_the_setting() {
    let weir = Installation::new("").unwrap();
    let _other = TcpListener::bind(weir.gateway).unwrap();
    for command in ["up", "gateway"] {
        let (code, said) = fails(&weir, &[command]);
        assert_eq!(code, Some(1));
        let listen = weir.gateway.to_string();
        assert!(
            said.contains(&listen) && said.contains("[gateway] listen"),
            "{said}"
        );
    }
    let (_, report) = doctor(&weir);
    let gateway = finding(&report, "gateway");
    assert_eq!(gateway["verdict"], "FAIL", "{gateway}");
}

#[test]
fn without_its_engine_weir_serves_and_says_how_to_fix_it() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let library = "library = \"/not/there/libchdb.so\"\n";
    let rest = format!("{library}\n{}", alias("fast-chat", &mock.base_url()));
    let weir = Installation::new(&rest).unwrap();
    let key = weir.create_key("growth").unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    assert_eq!(chat(weir.gateway, &key, "fast-chat").status, 200);
    wait_for("it says how to mend it", || {
        let log = up.log();
        Ok(log.contains("/not/there/libchdb.so") && log.contains("compose/fetch-engine.sh"))
    })
    .unwrap();

    let (_, said) = fails(&weir, &["sql", "SELECT 1"]);
    assert!(
        said.contains("[store] listen") && said.contains("weir doctor"),
        "{said}"
    );
    let (healthy, report) = doctor(&weir);
    assert!(!healthy);
    let library = finding(&report, "engine library");
    assert_eq!(library["verdict"], "FAIL");
    assert!(
        library["mend"]
            .as_str()
            .unwrap()
            .contains("compose/fetch-engine.sh"),
        "{library}"
    );
    assert_eq!(finding(&report, "gateway")["verdict"], "OK");
    assert_eq!(finding(&report, "provider mock")["verdict"], "OK");
    up.stop().unwrap();
}

/// Whether all is well, and what was found.
fn doctor(weir: &Installation) -> (bool, Value) {
    let output = weir.command(&["doctor", "--json"]).output().unwrap();
    (output.status.success(), json(&output))
}

fn finding<'a>(report: &'a Value, check: &str) -> &'a Value {
    let findings = report.as_array().unwrap();
    findings
        .iter()
        .find(|finding| finding["check"] == check)
        .unwrap_or_else(|| panic!("{report}"))
}

#[test]
fn a_changed_file_takes_effect_and_a_bad_one_does_not() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let weir = Installation::new(&alias("fast-chat", &mock.base_url())).unwrap();
    let key = weir.create_key("growth").unwrap();
    let gateway = weir.start(&["gateway"]).unwrap();
    weir.wait_until_ready().unwrap();
    assert_eq!(chat(weir.gateway, &key, "fast-chat").status, 200);

    let first = fs::read_to_string(weir.config()).unwrap();
    let second = first.replace("fast-chat", "quick-chat");
    fs::write(weir.config(), &second).unwrap();
    wait_for("the new alias is served", || {
        Ok(chat(weir.gateway, &key, "quick-chat").status == 200)
    })
    .unwrap();
    let answer = chat(weir.gateway, &key, "fast-chat");
    assert_eq!(answer.status, 404, "{answer:?}");
    let message = answer.message();
    assert!(message.contains("quick-chat"), "{message}");

    fs::write(
        weir.config(),
        second.replace("provider = \"mock\"", "provider = \"mok\""),
    )
    .unwrap();
    wait_for("the mistake is reported", || {
        Ok(gateway.log().contains("did you mean \"mock\"?"))
    })
    .unwrap();
    assert_eq!(chat(weir.gateway, &key, "quick-chat").status, 200);
}

#[test]
fn a_stream_in_flight_finishes_when_weir_is_told_to_stop() {
    let slow = MockOptions {
        inter_token: "20ms".to_owned().try_into().unwrap(),
        ..MockOptions::default()
    };
    let mock = MockProvider::start(slow).unwrap();
    let weir = Installation::new(&alias("fast-chat", &mock.base_url())).unwrap();
    let key = weir.create_key("growth").unwrap();
    let gateway = weir.start(&["gateway"]).unwrap();
    weir.wait_until_ready().unwrap();

    let body = r#"{"model":"fast-chat","stream":true,"max_tokens":50,
        "messages":[{"role":"user","content":"Hello"}]}"#;
    let mut stream = completion(&key, body).open(weir.gateway).unwrap();
    let mut piece = [0; 4096];
    let mut answer = Vec::new();
    while !text(&answer).contains("data: ") {
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "{}", text(&answer));
        answer.extend_from_slice(&piece[..read]);
    }
    assert!(
        !text(&answer).contains("[DONE]"),
        "it was too quick to be stopped under way"
    );
    let stopping = std::thread::spawn(move || gateway.stop());
    stream.read_to_end(&mut answer).unwrap();
    assert!(text(&answer).contains("data: [DONE]"), "{}", text(&answer));
    stopping.join().unwrap().unwrap();
    assert!(
        TcpStream::connect(weir.gateway).is_err(),
        "somebody still listens"
    );
}

#[test]
fn the_demo_has_data_and_its_lines_work_as_pasted() {
    let weir = Installation::new("").unwrap();
    let begun = Instant::now();
    let demo = weir.start(&["up", "--demo"]).unwrap();
    weir.wait_until_ready().unwrap();
    let requests = "SELECT count() FROM weir.requests";
    wait_for("there is data", || {
        Ok(weir.number(requests).is_ok_and(|rows| rows > 0))
    })
    .unwrap();
    println!("the demo had data after {:?}", begun.elapsed());

    let call = pasted(&weir, &line(&demo, "curl "));
    assert!(call.contains("\"choices\""), "{call}");
    assert!(!demo.log().contains("does not know"), "{}", demo.log());
    let answer = pasted(&weir, &line(&demo, " sql "));
    let teams = ["growth", "support", "research"];
    assert!(teams.iter().any(|team| answer.contains(team)), "{answer}");

    assert_engine_speaks_for_itself(&weir);
    let (_, report) = doctor(&weir);
    for check in ["store", "tables", "clock", "virtual keys"] {
        let finding = finding(&report, check);
        assert_eq!(finding["verdict"], "OK", "{finding}");
    }

    let first = line(&demo, "curl ");
    demo.stop().unwrap();
    let left = weir.data_dir().join("journal");
    let streams = fs::read_dir(left)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(streams.count(), 0, "everything was stored before the end");

    let again = weir.start(&["up", "--demo"]).unwrap();
    weir.wait_until_ready().unwrap();
    assert!(
        pasted(&weir, &first).contains("\"choices\""),
        "the first key still works"
    );
    again.stop().unwrap();
}

/// The line of the welcome that holds a word.
fn line(demo: &Process, word: &str) -> String {
    let mut found = None;
    wait_for(word, || {
        found = demo
            .log()
            .lines()
            .find(|line| line.starts_with("  ") && line.contains(word))
            .map(str::to_owned);
        Ok(found.is_some())
    })
    .unwrap();
    found.unwrap()
}

/// What a shell says to a line.
fn pasted(weir: &Installation, line: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", line.trim()])
        .current_dir(weir.data_dir().parent().unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn assert_engine_speaks_for_itself(weir: &Installation) {
    let (code, said) = fails(weir, &["sql", "SELECT no_such_column FROM weir.requests"]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("no_such_column") && !said.contains("DB::Exception"),
        "{said}"
    );
    let (_, said) = fails(weir, &["sql", "SELECT 1 FROM weir.no_such_table"]);
    assert!(
        said.contains("no_such_table") && said.contains("attempts"),
        "{said}"
    );
    // An error that comes when rows are on their way already is one all the same.
    let late = "SELECT throwIf(number = 3000000) FROM system.numbers LIMIT 4000000";
    let (_, said) = fails(weir, &["sql", late]);
    assert!(said.contains("throwIf"), "{said}");

    let mut child = weir
        .command(&["sql", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"SELECT 'a?b' AS x;\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), "{\"x\":\"a?b\"}\n");
    let csv = weir
        .run(&["sql", "SELECT 1, 'x'", "--format", "CSV"])
        .unwrap();
    assert_eq!(text(&csv.stdout), "1,\"x\"\n");
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_command_quietly() {
    let weir = Installation::new("").unwrap();
    let commands: [&[&str]; 6] = [
        &["prices", "show", "gpt-4o"],
        &["prices", "show", "gpt-4o", "--json"],
        &["config", "example"],
        &["config", "schema"],
        &["completions", "bash"],
        &["doctor"],
    ];
    for args in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = weir.command(args).stdout(writer).output().unwrap();
        assert_eq!(text(&output.stderr), "", "weir {args:?}");
        assert!(output.status.success(), "weir {args:?}");
    }
}

#[test]
fn a_row_without_a_price_is_said_to_be_unpriced() {
    let weir = Installation::new("").unwrap();
    let shown = |tokens: &str| {
        let model = "doubao-seed-2-0-pro";
        let args = ["prices", "show", model, "--input-tokens", tokens];
        text(&weir.run(&args).unwrap().stdout)
    };
    let marked = |shown: &str| {
        let mut lines = shown.lines().skip_while(|line| !line.starts_with("->"));
        lines.nth(1).unwrap().trim().to_owned()
    };
    assert_eq!(
        marked(&shown("100")),
        "CNY per million tokens: input 3.2, output 16"
    );
    assert_eq!(
        marked(&shown("40000")),
        "no price is known: calls are unpriced"
    );
}

/// As the gateway would: by the vendor of a configured provider, by the model that answered, and with
/// the number of the call that cannot be read.
#[test]
fn prices_of_a_configured_provider_are_shown_and_estimated() {
    let config = "[[provider]]\nname = \"ours\"\ndialect = \"openrouter\"\n\
        base_url = \"http://127.0.0.1:9/v1\"\n";
    let weir = Installation::new(config).unwrap();
    let haiku = "anthropic/claude-haiku-4.5";
    let shown = weir
        .run(&["prices", "show", haiku, "--provider", "ours"])
        .unwrap();
    let shown = text(&shown.stdout);
    assert!(
        shown.starts_with(&format!("{haiku} at ours, ")) && shown.contains("input 1,"),
        "{shown}"
    );
    let call = |more: &str| {
        format!(
            r#"{{"provider":"ours","model":"qwen/q:free","usage":{{"input_tokens":1000}}{more}}}"#
        )
    };
    let calls = [
        call(""),
        call(&format!(r#","response_model":"{haiku}""#)),
        call(r#","response_model":"qwen/newest""#),
    ];
    let file = weir.dir().join("calls.json");
    fs::write(&file, calls.join("\n")).unwrap();
    let estimate = ["prices", "estimate", file.to_str().unwrap()];
    let priced = text(&weir.run(&estimate).unwrap().stdout);
    let costs = priced.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["cost_usd"].clone(), line["unpriced_reason"].clone())
    });
    let unknown = "the price book does not have the model";
    assert_eq!(
        costs.collect::<Vec<_>>(),
        [
            ("0.000000000000".into(), "".into()),
            ("0.001000000000".into(), "".into()),
            (Value::Null, unknown.into()),
        ]
    );
    fs::write(&file, calls.join("\n") + r#"{"provider":"ours"}"#).unwrap();
    let failed = weir.command(&estimate).output().unwrap();
    let said = text(&failed.stderr);
    assert!(said.contains("read call 4"), "{said}");
}
