//! Keys, limits, budgets and access rules, from outside: the command line makes them, HTTP meets
//! them.

use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_loadtest::mock::MockOptions;
use weir_tests::gateway::{MockedGateway, chat_request, messages_request, used_tokens};
use weir_tests::http::Request;
use weir_tests::weir::wait_for;

#[test]
fn a_rate_is_refused_in_the_words_of_each_dialect_with_the_time_to_wait() {
    let running = MockedGateway::start();
    running.run(&[
        "limits", "set", "free-rpm", "--tier", "free", "--rpm", "2", "--per", "user",
    ]);
    let (_, key) = running.known_key(&["--team", "t", "--tier", "free", "--user", "ana"]);
    let first = running.chat(&key);
    assert_eq!(first.status, 200);
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("2"));
    assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("1"));
    assert_eq!(running.chat(&key).status, 200);

    let refused = running.chat(&key);
    assert_eq!(refused.status, 429);
    let message = refused.message();
    assert!(
        message.contains("limit \"free-rpm of ana\" allows 2 requests a minute; try again in"),
        "{message}"
    );
    assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));

    let anthropic = running.send(&messages_request(&key, "fast-chat"));
    assert_eq!(anthropic.status, 429);
    assert_eq!(anthropic.json()["error"]["type"], "rate_limit_error");
    assert_eq!(
        anthropic.header("anthropic-ratelimit-requests-limit"),
        Some("2")
    );
    assert!(
        anthropic
            .header("anthropic-ratelimit-requests-reset")
            .unwrap()
            .ends_with('Z')
    );

    let (_, other) = running.known_key(&["--team", "t", "--tier", "free", "--user", "ben"]);
    assert_eq!(
        running.chat(&other).status,
        200,
        "every user has the limit for themselves"
    );
}

#[test]
fn a_rate_of_zero_lets_nothing_through_and_says_to_come_in_a_minute() {
    let running = MockedGateway::start();
    running.run(&["limits", "set", "stopped", "--team", "t", "--rpm", "0"]);
    let (_, key) = running.known_key(&["--team", "t"]);
    let refused = running.chat(&key);
    assert_eq!(refused.status, 429);
    let message = refused.message();
    assert!(
        message.ends_with("limit \"stopped\" allows 0 requests a minute; try again in 60.0 s"),
        "{message}"
    );
    assert_eq!(refused.header("retry-after"), Some("60"));
}

#[test]
fn a_command_that_fails_leaves_no_stream_for_the_next_to_close() {
    let running = MockedGateway::start();
    let failing = ["budgets", "set", "b", "--usd", "1", "--window", "fortnight"];
    let failed = running.weir.command(&failing).output().unwrap();
    assert!(!failed.status.success());
    let next = running
        .weir
        .command(&["teams", "set", "t"])
        .output()
        .unwrap();
    assert!(next.status.success());
    assert_eq!(String::from_utf8_lossy(&next.stderr), "");
}

#[test]
fn requests_at_once_are_limited_and_the_place_is_free_again_when_a_client_leaves() {
    let slow = MockOptions {
        ttft: "30s".to_owned().try_into().unwrap(),
        ..MockOptions::default()
    };
    let running = MockedGateway::with_provider(slow);
    running.run(&["limits", "set", "one", "--team", "t", "--concurrency", "1"]);
    let (_, key) = running.known_key(&["--team", "t"]);
    let to = running.weir.gateway;
    let call = chat_request(&key, "fast-chat");
    let waiting = call.open(to).unwrap();
    // A call that is not refused waits for the provider.
    let probe = call.read_timeout(Duration::from_millis(300));
    let is_taken = || {
        let mut begin = [0; 12];
        let read = probe.open(to).unwrap().read_exact(&mut begin);
        read.is_ok() && begin.ends_with(b"429")
    };
    wait_for("the place is taken", || Ok(is_taken())).unwrap();
    drop(waiting);
    wait_for("the place is free again", || Ok(!is_taken())).unwrap();
}

#[test]
fn a_refused_model_says_which_rule_and_whom_to_ask() {
    let running = MockedGateway::start();
    running.run(&[
        "teams",
        "set",
        "growth",
        "--organisation",
        "acme",
        "--contact",
        "#llm-help",
    ]);
    running.run(&[
        "access",
        "set",
        "no-opus",
        "--organisation",
        "acme",
        "--models-denied",
        "opus",
    ]);
    let (_, key) = running.known_key(&["--team", "growth"]);
    let refused = running.send(&chat_request(&key, "opus"));
    assert_eq!(refused.status, 403);
    let message = refused.message();
    assert!(
        message.contains("access rule \"no-opus\"") && message.contains("ask #llm-help"),
        "{message}"
    );
    let listed = running.send(&Request::get("/v1/models").bearer(&key));
    let text = listed.text();
    assert!(
        text.contains("fast-chat") && !text.contains("opus"),
        "{text}"
    );
    assert_eq!(running.chat(&key).status, 200);
}

#[test]
fn an_address_is_the_one_that_trusted_proxies_say_and_a_refusal_names_it() {
    let running = MockedGateway::with_settings("trusted_proxies = [\"127.0.0.0/8\"]");
    running.weir.wait_until_ready().unwrap();
    running.run(&[
        "access",
        "set",
        "office",
        "--team",
        "growth",
        "--networks",
        "192.0.2.0/24",
        "--contact",
        "netops",
    ]);
    let (_, key) = running.key(&["--team", "growth"]);
    let from = |address: &str| {
        let call = chat_request(&key, "fast-chat").header("x-forwarded-for", address);
        running.send(&call)
    };
    wait_for("the key is known", || Ok(from("192.0.2.7").status == 200)).unwrap();
    let refused = from("192.0.2.7, 203.0.113.9");
    assert_eq!(refused.status, 403);
    let message = refused.message();
    for expected in ["203.0.113.9", "access rule \"office\"", "ask netops"] {
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(from("192.0.2.7, nonsense").status, 403);
    let models = |address: &str| {
        let call = Request::get("/v1/models").bearer(&key);
        running
            .send(&call.header("x-forwarded-for", address))
            .status
    };
    assert_eq!((models("192.0.2.7"), models("203.0.113.9")), (200, 403));
}

#[test]
fn whoever_is_no_trusted_proxy_cannot_say_where_a_request_comes_from() {
    let running = MockedGateway::start();
    // Made first: where the other key is known, this one is, too.
    let (_, elsewhere) = running.key(&["--team", "t", "--networks", "192.0.2.7"]);
    let (_, key) = running.known_key(&["--team", "t", "--networks", "127.0.0.1"]);
    for said in [
        "x-forwarded-for: 192.0.2.7\r\n",
        "x-forwarded-for: 192.0.2.7\r\nx-forwarded-for: 192.0.2.7\r\n",
        "x-real-ip: 192.0.2.7\r\nforwarded: for=192.0.2.7\r\n",
    ] {
        let call = |key: &str| running.send(&chat_request(key, "fast-chat").header_lines(said));
        assert_eq!(call(&key).status, 200, "{said}");
        let refused = call(&elsewhere);
        assert_eq!(refused.status, 403, "{said}");
        let message = refused.message();
        assert!(message.contains("127.0.0.1"), "{message}");
    }
}

fn wait_until_it_listens(running: &MockedGateway) {
    wait_for("the gateway listens", || {
        Ok(TcpStream::connect(running.weir.gateway).is_ok())
    })
    .unwrap();
}

/// A header of the PROXY protocol, version 2, for a connection from `source` to 127.0.0.1.
fn proxy_header(source: [u8; 4]) -> Vec<u8> {
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    let (tcp_over_ipv4, ports) = (b"\x21\x11\0\x0c", [1, 1, 2, 2]);
    [
        &signature[..],
        tcp_over_ipv4,
        &source,
        &[127, 0, 0, 1],
        &ports,
    ]
    .concat()
}

#[test]
fn a_proxy_protocol_header_from_nobody_trusted_opens_nothing() {
    let settings = "trusted_proxies = [\"192.0.2.0/24\"]\nproxy_protocol = true";
    let running = MockedGateway::with_settings(settings);
    let (_, key) = running.key(&["--team", "t"]);
    wait_until_it_listens(&running);
    let call = Request::get("/v1/models").bearer(&key);
    let mut answer = Vec::new();
    // It may be closed before all of the request is written.
    if let Ok(mut stream) = call
        .preface(&proxy_header([192, 0, 2, 7]))
        .open(running.weir.gateway)
    {
        let _ = stream.read_to_end(&mut answer);
    }
    assert_eq!(String::from_utf8_lossy(&answer), "");
}

#[test]
fn a_proxy_protocol_header_says_the_address() {
    let settings = "trusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = true";
    let running = MockedGateway::with_settings(settings);
    let (_, key) = running.key(&["--team", "t", "--networks", "192.0.2.7"]);
    let call = |source: [u8; 4]| {
        let call = chat_request(&key, "fast-chat").preface(&proxy_header(source));
        running.send(&call)
    };
    wait_until_it_listens(&running);
    wait_for(
        "the key is known",
        || Ok(call([192, 0, 2, 7]).status == 200),
    )
    .unwrap();
    let refused = call([192, 0, 2, 8]);
    assert_eq!(refused.status, 403);
    assert!(
        refused.message().contains("192.0.2.8"),
        "{}",
        refused.message()
    );
}

#[test]
fn a_rotated_key_works_beside_the_new_one_for_its_grace_and_revoking_ends_both() {
    let running = MockedGateway::start();
    let (id, old) = running.known_key(&["--team", "t"]);
    let rotated = running.run(&["keys", "rotate", &id, "--grace", "1h", "--json"]);
    let rotated: Value = serde_json::from_slice(&rotated.stdout).unwrap();
    let new = rotated["key"].as_str().unwrap();
    assert_eq!(rotated["id"], id.as_str());
    running.weir.wait_until_known(new).unwrap();
    assert_eq!(
        (running.chat(&old).status, running.chat(new).status),
        (200, 200)
    );

    running.run(&["keys", "revoke", &id]);
    wait_for("the new one is refused", || {
        Ok(running.chat(new).status == 401)
    })
    .unwrap();
    assert_eq!(running.chat(&old).status, 401);

    let (id, old) = running.known_key(&["--team", "t"]);
    running.run(&["keys", "rotate", &id, "--grace", "0"]);
    wait_for("the old one is refused at once", || {
        Ok(running.chat(&old).status == 401)
    })
    .unwrap();
}

#[test]
fn what_a_file_says_is_shown_before_it_is_applied() {
    let running = MockedGateway::start();
    let file = running.weir.data_dir().join("governance.toml");
    let write = |text: &str| fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    let apply = |more: &[&str]| {
        let output = running.run(&[&["apply", "--json", "-f", path], more].concat());
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["changes"].clone()
    };
    write(
        "[[team]]\nid = \"growth\"\n\n[[limit]]\nid = \"l\"\nscope = { team = \"growth\" }\nconcurrency = 0\n\n\
         [[budget]]\nid = \"b\"\nusd = \"12.50\"\nwindow = \"month\"\nzone = \"Europe/Berlin\"\nunpriced = \"allow\"\n",
    );
    assert_eq!(apply(&[]).as_array().unwrap().len(), 3);
    let (_, key) = running.known_key(&["--team", "growth"]);
    assert_eq!(running.chat(&key).status, 200, "shown is not applied");
    apply(&["--yes"]);
    wait_for("the limit holds", || Ok(running.chat(&key).status == 429)).unwrap();
    assert_eq!(apply(&["--yes"]), json!([]), "nothing is left to do");
    write("[[budget]]\nid = \"b\"\nusd = 20\nwindow = \"month\"\nunpriced = \"allow\"\n");
    let changes = apply(&["--yes", "--prune"]);
    let actions: Vec<&str> = changes
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["delete", "delete", "update"]);
    assert_eq!(changes[2]["before"]["usd"], "12.50");
    wait_for("the limit is gone", || Ok(running.chat(&key).status == 200)).unwrap();

    for (text, expected) in [
        (
            "[[budget]]\nid = \"b\"\nusd = 0.1\nwindow = \"day\"\n",
            "dollars as text",
        ),
        ("[[limit]]\nid = \"l\"\n", "limits nothing"),
        ("[[limit]]\nid = \"l\"\nrpm = 3\n", "unknown field"),
    ] {
        write(text);
        let output = running
            .weir
            .command(&["apply", "-f", path])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains(expected),
            "{said}"
        );
    }
}

#[test]
fn hostile_keys_and_headers_are_refused_and_nothing_else() {
    let mut running = MockedGateway::start();
    let (_, key) = running.known_key(&["--team", "t"]);
    let long = "a".repeat(8000);
    for bad in [
        "",
        "weir_",
        &long,
        "weir_admin_x",
        "\u{ff}",
        "Bearer",
        &format!("{key}x"),
        &key[..key.len() - 1],
    ] {
        let answer = running.chat(bad);
        assert_eq!(answer.status, 401, "{bad:?}");
        assert!(!answer.text().contains(&key));
    }
    let hostile = [
        "x-weir-customer: ".to_owned() + &"c".repeat(4000),
        "baggage: ".to_owned() + &"k=v,".repeat(1000),
        "x-weir-priority: \u{1}urgent".to_owned(),
        "x-forwarded-for: ".to_owned() + &"1.1.1.1,".repeat(500),
    ];
    for header in &hostile {
        let call = chat_request(&key, "fast-chat").header_lines(&format!("{header}\r\n"));
        let status = running.send(&call).status;
        assert!([200, 400].contains(&status), "{status} for {header}");
    }
    assert_eq!(running.chat(&key).status, 200);
    running.stop();
}

/// Kills the gateway in the middle of things, again and again: what the budget says is spent is
/// what the provider was asked and the log says, no more and no less.
#[test]
fn a_budget_is_exact_over_kills_and_restarts() {
    let mut running = MockedGateway::start();
    running.run(&[
        "budgets",
        "set",
        "all",
        "--team",
        "t",
        "--tokens",
        "1000000000",
        "--window",
        "total",
    ]);
    let (_, key) = running.known_key(&["--team", "t"]);
    let (used, reserved) = (
        used_tokens(&running.chat(&key)),
        running.reserved("--tokens"),
    );
    let remaining = |running: &MockedGateway| -> u64 {
        let answer = running.chat(&key);
        let header = answer.header("x-weir-budget-remaining").unwrap();
        // The probe itself is reserved when the header is written, and settled afterwards.
        let left: u64 = header.strip_suffix(" tokens").unwrap().parse().unwrap();
        left + reserved
    };
    let mut answered = 1_u64;
    for round in 0..3 {
        let (gateway, stop) = (running.weir.gateway, AtomicBool::new(false));
        let complete = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        // The gateway may die meanwhile.
                        let answer = chat_request(&key, "fast-chat").send(gateway);
                        if answer.is_ok_and(|it| it.status == 200 && it.is_complete) {
                            complete.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            wait_for("some were answered", || {
                Ok(complete.load(Ordering::Relaxed) >= 50)
            })
            .unwrap();
            // Dropping a process kills it with SIGKILL.
            drop(running.process.take());
            stop.store(true, Ordering::Relaxed);
        });
        running.restart();
        running.weir.wait_until_known(&key).unwrap();
        answered += complete.load(Ordering::Relaxed) as u64;
        let spent = 1_000_000_000 - remaining(&running);
        assert_eq!(spent % used, 0);
        // Requests may have been charged whose answer the kill cut off on its way to the client: at
        // most one for each of the four clients.
        let charged = spent / used;
        assert!(
            (answered..=answered + 4).contains(&charged),
            "round {round}: {charged} for {answered}"
        );
        // The probe is in the log, and was not settled yet when it was told.
        assert_eq!(charged + 1, events_of(&running, "t"), "round {round}");
        answered = charged + 1;
    }
}

/// Answered requests of a team in the journal, which nobody else reads in this test.
fn events_of(running: &MockedGateway, team: &str) -> u64 {
    let journal = running.weir.data_dir().join("journal");
    let mut source = weir_eventlog::JournalReader::open(journal).unwrap();
    let mut count = 0;
    let limits = weir_eventlog::BatchLimits {
        records_max: 10_000,
        bytes_max: 64 << 20,
        wait_max: Duration::ZERO,
    };
    loop {
        let mut batch = weir_eventlog::SourceBatch::default();
        source.fill(&mut batch, &limits, Instant::now()).unwrap();
        if batch.records.is_empty() {
            return count;
        }
        for record in &batch.records {
            let decoded = weir_schemas::codec::decode(&record.payload).unwrap();
            if let weir_schemas::event::Event::RequestFinished(event) = decoded.event {
                count += u64::from(event.caller.team == Some(team) && event.status == 200);
            }
        }
    }
}

/// The address and the moment of a key's last use, as the command line shows it.
fn last_use(running: &MockedGateway, id: &str) -> (Value, Value) {
    let shown = running.run(&["keys", "show", id, "--json"]).stdout;
    let shown: Value = serde_json::from_slice(&shown).unwrap();
    let listed = running.run(&["keys", "list", "--json"]).stdout;
    let listed: Value = serde_json::from_slice(&listed).unwrap();
    let found = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["id"] == id);
    assert_eq!(found.unwrap(), &shown);
    (
        shown["last_used_from"].clone(),
        shown["last_used_ms"].clone(),
    )
}

#[test]
fn when_and_from_where_a_key_was_last_used_is_known_after_a_restart() {
    let mut running = MockedGateway::start();
    let (id, key) = running.known_key(&["--team", "t"]);
    let (unused, _) = running.key(&["--team", "t"]);
    assert_eq!(running.chat(&key).status, 200);
    running.stop();
    let (from, at) = last_use(&running, &id);
    assert_eq!(from, "127.0.0.1");
    assert!(at.as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(last_use(&running, &unused), (Value::Null, Value::Null));
    // The gateway writes all of it anew when it stops: it must know it from before.
    running.restart();
    running.stop();
    assert_eq!(last_use(&running, &id), (from, at));
    let text = running.run(&["keys", "list"]).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("127.0.0.1") && text.contains("never"),
        "{text}"
    );
}
