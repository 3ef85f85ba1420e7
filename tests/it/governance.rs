//! Keys, limits, budgets and access rules, from outside: the command line makes them, HTTP meets
//! them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_loadtest::mock::{MockHandle, MockOptions, MockProvider};
use weir_tests::weir::{Installation, PATIENCE, Process, wait_for};

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Self {
            status: status.unwrap_or_else(|| panic!("no status in {text:?}")),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON in {self:?}"))
    }

    /// What an error says, in either family's form.
    pub(crate) fn message(&self) -> String {
        self.json()["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// Sends a request and reads the whole answer. `before` goes ahead of everything.
pub(crate) fn exchange(
    to: SocketAddr,
    before: &[u8],
    request: &str,
    headers: &str,
    body: &str,
) -> Answer {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(before).unwrap();
    write!(
        stream,
        "{request} HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    Answer::parse(&String::from_utf8_lossy(&text))
}

pub(crate) const MESSAGES: &str = r#"[{"role":"user","content":"Hello"}]"#;
pub(crate) const MAX_TOKENS: u64 = 8;

pub(crate) fn chat_with(to: SocketAddr, key: &str, headers: &str) -> Answer {
    let body =
        format!(r#"{{"model":"fast-chat","messages":{MESSAGES},"max_tokens":{MAX_TOKENS}}}"#);
    let headers =
        format!("authorization: Bearer {key}\r\ncontent-type: application/json\r\n{headers}");
    exchange(to, b"", "POST /v1/chat/completions", &headers, &body)
}

pub(crate) fn chat(to: SocketAddr, key: &str) -> Answer {
    chat_with(to, key, "")
}

pub(crate) fn config(mock: &MockHandle) -> String {
    format!(
        "[[provider]]\nname = \"mock\"\ndialect = \"openai\"\nbase_url = \"{}\"\n\n\
         [[alias]]\nname = \"fast-chat\"\ntargets = [{{ provider = \"mock\", model = \"small\" }}]\n\n\
         [[alias]]\nname = \"opus\"\ntargets = [{{ provider = \"mock\", model = \"large\" }}]\n",
        mock.base_url()
    )
}

/// A gateway with a provider that answers at once.
pub(crate) struct Running {
    pub(crate) weir: Installation,
    pub(crate) gateway: Option<Process>,
    _mock: MockHandle,
}

impl Running {
    fn start() -> Self {
        Self::with(MockOptions::default(), "")
    }

    /// `more` stands behind the provider and the aliases.
    pub(crate) fn configured(more: &str) -> Self {
        let mock = MockProvider::start(MockOptions::default()).unwrap();
        let weir = Installation::new(&[&config(&mock), more].concat()).unwrap();
        let mut running = Self {
            weir,
            gateway: None,
            _mock: mock,
        };
        running.go();
        running
    }

    /// Starts the gateway.
    pub(crate) fn go(&mut self) {
        self.gateway = Some(self.weir.start(&["gateway"]).unwrap());
        self.weir.wait_until_ready().unwrap();
    }

    /// Stops it in order.
    pub(crate) fn halt(&mut self) {
        self.gateway.take().unwrap().stop().unwrap();
    }

    fn with(mock: MockOptions, gateway: &str) -> Self {
        let mock = MockProvider::start(mock).unwrap();
        let weir = Installation::new(&config(&mock)).unwrap();
        let text = fs::read_to_string(weir.config()).unwrap();
        let text = text.replacen("[gateway]\n", &format!("[gateway]\n{gateway}"), 1);
        fs::write(weir.config(), text).unwrap();
        let process = weir.start(&["gateway"]).unwrap();
        let running = Self {
            weir,
            gateway: Some(process),
            _mock: mock,
        };
        if gateway.is_empty() {
            running.weir.wait_until_ready().unwrap();
        }
        running
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.weir.run(args).unwrap()
    }

    /// A key that the gateway knows; rules made before it are known then, too.
    pub(crate) fn key(&self, args: &[&str]) -> (String, String) {
        let output = self.run(&[&["keys", "create", "--json"], args].concat());
        let created: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |name: &str| created[name].as_str().unwrap().to_owned();
        (text("id"), text("key"))
    }

    pub(crate) fn known_key(&self, args: &[&str]) -> (String, String) {
        let (id, key) = self.key(args);
        self.weir.wait_until_known(&key).unwrap();
        (id, key)
    }

    pub(crate) fn chat(&self, key: &str) -> Answer {
        chat(self.weir.gateway, key)
    }
}

pub(crate) fn reserved_tokens() -> u64 {
    (MESSAGES.len() as u64).div_ceil(3) + MAX_TOKENS
}

pub(crate) fn used_tokens(answer: &Answer) -> u64 {
    answer.json()["usage"]["total_tokens"].as_u64().unwrap()
}

#[test]
fn a_rate_is_refused_in_the_words_of_each_dialect_with_the_time_to_wait() {
    let running = Running::start();
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

    let body = format!(r#"{{"model":"fast-chat","max_tokens":5,"messages":{MESSAGES}}}"#);
    let headers = format!("x-api-key: {key}\r\nanthropic-version: 2023-06-01\r\n");
    let anthropic = exchange(
        running.weir.gateway,
        b"",
        "POST /v1/messages",
        &headers,
        &body,
    );
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
    let running = Running::start();
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
    let running = Running::start();
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
    let running = Running::with(slow, "");
    running.run(&["limits", "set", "one", "--team", "t", "--concurrency", "1"]);
    let (_, key) = running.known_key(&["--team", "t"]);
    let body = format!(r#"{{"model":"fast-chat","messages":{MESSAGES}}}"#);
    let mut waiting = TcpStream::connect(running.weir.gateway).unwrap();
    write!(
        waiting,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let other_model = r#"{"model":"none","messages":[]}"#;
    let taken = |running: &Running| {
        // A model that does not exist is refused before, so the place stays as it is.
        let headers = format!("authorization: Bearer {key}\r\n");
        exchange(
            running.weir.gateway,
            b"",
            "POST /v1/chat/completions",
            &headers,
            other_model,
        );
        let mut probe = TcpStream::connect(running.weir.gateway).unwrap();
        probe
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        write!(probe, "POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut begin = [0; 12];
        probe.read_exact(&mut begin).is_ok() && begin.ends_with(b"429")
    };
    wait_for("the place is taken", || Ok(taken(&running))).unwrap();
    drop(waiting);
    wait_for("the place is free again", || Ok(!taken(&running))).unwrap();
}

#[test]
fn a_refused_model_says_which_rule_and_whom_to_ask() {
    let running = Running::start();
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
    let body = format!(r#"{{"model":"opus","messages":{MESSAGES}}}"#);
    let headers = format!("authorization: Bearer {key}\r\n");
    let refused = exchange(
        running.weir.gateway,
        b"",
        "POST /v1/chat/completions",
        &headers,
        &body,
    );
    assert_eq!(refused.status, 403);
    let message = refused.message();
    assert!(
        message.contains("access rule \"no-opus\"") && message.contains("ask #llm-help"),
        "{message}"
    );
    let listed = exchange(running.weir.gateway, b"", "GET /v1/models", &headers, "");
    assert!(
        listed.body.contains("fast-chat") && !listed.body.contains("opus"),
        "{}",
        listed.body
    );
    assert_eq!(running.chat(&key).status, 200);
}

#[test]
fn an_address_is_the_one_that_trusted_proxies_say_and_a_refusal_names_it() {
    let running = Running::with(
        MockOptions::default(),
        "trusted_proxies = [\"127.0.0.0/8\"]\n",
    );
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
        chat_with(
            running.weir.gateway,
            &key,
            &format!("x-forwarded-for: {address}\r\n"),
        )
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
        let headers = format!("authorization: Bearer {key}\r\nx-forwarded-for: {address}\r\n");
        exchange(running.weir.gateway, b"", "GET /v1/models", &headers, "").status
    };
    assert_eq!((models("192.0.2.7"), models("203.0.113.9")), (200, 403));
}

#[test]
fn whoever_is_no_trusted_proxy_cannot_say_where_a_request_comes_from() {
    let running = Running::start();
    // Made first: where the other key is known, this one is, too.
    let (_, elsewhere) = running.key(&["--team", "t", "--networks", "192.0.2.7"]);
    let (_, key) = running.known_key(&["--team", "t", "--networks", "127.0.0.1"]);
    for said in [
        "x-forwarded-for: 192.0.2.7\r\n",
        "x-forwarded-for: 192.0.2.7\r\nx-forwarded-for: 192.0.2.7\r\n",
        "x-real-ip: 192.0.2.7\r\nforwarded: for=192.0.2.7\r\n",
    ] {
        let to = running.weir.gateway;
        assert_eq!(chat_with(to, &key, said).status, 200, "{said}");
        let refused = chat_with(to, &elsewhere, said);
        assert_eq!(refused.status, 403, "{said}");
        let message = refused.message();
        assert!(message.contains("127.0.0.1"), "{message}");
    }
}

#[test]
fn a_proxy_protocol_header_from_nobody_trusted_opens_nothing() {
    let gateway = "trusted_proxies = [\"192.0.2.0/24\"]\nproxy_protocol = true\n";
    let running = Running::with(MockOptions::default(), gateway);
    let (_, key) = running.key(&["--team", "t"]);
    wait_for("the gateway listens", || {
        Ok(TcpStream::connect(running.weir.gateway).is_ok())
    })
    .unwrap();
    let mut stream = TcpStream::connect(running.weir.gateway).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    said.extend([192, 0, 2, 7, 127, 0, 0, 1, 1, 1, 2, 2]);
    let request =
        format!("GET /v1/models HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {key}\r\n\r\n");
    said.extend(request.as_bytes());
    // It may be closed before all of that is written.
    let _ = stream.write_all(&said);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(String::from_utf8_lossy(&answer), "");
}

#[test]
fn a_proxy_protocol_header_says_the_address() {
    let gateway = "trusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = true\n";
    let running = Running::with(MockOptions::default(), gateway);
    let (_, key) = running.key(&["--team", "t", "--networks", "192.0.2.7"]);
    let call = |source: [u8; 4]| {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        header.extend(source);
        header.extend([127, 0, 0, 1, 1, 1, 2, 2]);
        let headers = format!("authorization: Bearer {key}\r\n");
        let body = format!(r#"{{"model":"fast-chat","messages":{MESSAGES}}}"#);
        exchange(
            running.weir.gateway,
            &header,
            "POST /v1/chat/completions",
            &headers,
            &body,
        )
    };
    wait_for("the gateway listens", || {
        Ok(TcpStream::connect(running.weir.gateway).is_ok())
    })
    .unwrap();
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
fn a_rotated_key_works_beside_the_new_one_for_its_grace_and_revoking_ends_both_within_a_second() {
    let running = Running::start();
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
    let revoked = Instant::now();
    while running.chat(new).status != 401 {
        assert!(revoked.elapsed() < Duration::from_secs(1), "still in force");
    }
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
    let running = Running::start();
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
    let mut running = Running::start();
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
        assert!(!answer.body.contains(&key));
    }
    let hostile = [
        "x-weir-customer: ".to_owned() + &"c".repeat(4000),
        "baggage: ".to_owned() + &"k=v,".repeat(1000),
        "x-weir-priority: \u{1}urgent".to_owned(),
        "x-forwarded-for: ".to_owned() + &"1.1.1.1,".repeat(500),
    ];
    for header in &hostile {
        let status = chat_with(running.weir.gateway, &key, &format!("{header}\r\n")).status;
        assert!([200, 400].contains(&status), "{status} for {header}");
    }
    assert_eq!(running.chat(&key).status, 200);
    running.gateway.take().unwrap().stop().unwrap();
}

/// Kills the gateway in the middle of things, again and again: what the budget says is spent is
/// what the provider was asked and the log says, no more and no less.
#[test]
fn a_budget_is_exact_over_kills_and_restarts() {
    let mut running = Running::start();
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
    let used = used_tokens(&running.chat(&key));
    let remaining = |running: &Running| -> u64 {
        let answer = running.chat(&key);
        let header = answer.header("x-weir-budget-remaining").unwrap();
        // The probe itself is reserved when the header is written, and settled afterwards.
        let left: u64 = header.strip_suffix(" tokens").unwrap().parse().unwrap();
        left + reserved_tokens()
    };
    let mut answered = 1_u64;
    for round in 0..3 {
        let (gateway, stop) = (
            running.weir.gateway,
            std::sync::atomic::AtomicBool::new(false),
        );
        let complete = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        if try_chat(gateway, &key) {
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
            drop(running.gateway.take());
            stop.store(true, Ordering::Relaxed);
        });
        running.gateway = Some(running.weir.start(&["gateway"]).unwrap());
        running.weir.wait_until_ready().unwrap();
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
fn events_of(running: &Running, team: &str) -> u64 {
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

/// A call to a gateway that may die meanwhile; whether the answer was complete.
fn try_chat(to: SocketAddr, key: &str) -> bool {
    let body =
        format!(r#"{{"model":"fast-chat","messages":{MESSAGES},"max_tokens":{MAX_TOKENS}}}"#);
    let call = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\nconnection: close\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    call().is_ok_and(|text| text.contains(" 200 ") && text.ends_with('}'))
}

/// One call of the admin API.
fn admin(to: SocketAddr, token: &str, method: &str, path: &str, body: &Value) -> Answer {
    let headers = format!("authorization: Bearer {token}\r\n");
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    exchange(
        to,
        b"",
        &format!("{method} /admin/v1{path}"),
        &headers,
        &body,
    )
}

#[test]
fn the_admin_api_changes_what_roles_may_change_and_every_change_is_an_audit_row() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let weir = Installation::new(&config(&mock)).unwrap();
    let text = fs::read_to_string(weir.config()).unwrap();
    let root = "a-token-of-the-operator";
    fs::write(
        weir.config(),
        text.replacen(
            "[gateway]\n",
            &format!("[gateway]\nadmin_token = \"{root}\"\n"),
            1,
        ),
    )
    .unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready()
        .unwrap_or_else(|error| panic!("{error}\n{}", up.log()));
    let to = weir.gateway;
    let call =
        |token: &str, method: &str, path: &str, body: Value| admin(to, token, method, path, &body);

    assert_eq!(call("wrong", "GET", "/keys", Value::Null).status, 401);
    let document = call("", "GET", "/openapi.json", Value::Null).json();
    assert!(document["paths"]["/admin/v1/budgets/{id}"]["put"]["requestBody"].is_object());
    let token = |id: &str, role: &str, team: Value| {
        let made = call(
            root,
            "POST",
            "/tokens",
            json!({ "id": id, "role": role, "team": team }),
        );
        assert_eq!(made.status, 200, "{}", made.body);
        made.json()["token"].as_str().unwrap().to_owned()
    };
    let owner = token("olga", "team_owner", json!("growth"));
    let auditor = token("aud", "auditor", Value::Null);
    let finance = token("fin", "finance", Value::Null);

    let made = call(
        &owner,
        "POST",
        "/keys",
        json!({ "team": "growth", "user": "ana" }),
    )
    .json();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert_eq!(chat(to, key).status, 200, "in force when the call returns");
    assert_eq!(
        call(&owner, "POST", "/keys", json!({ "team": "other" })).status,
        403
    );
    assert_eq!(
        call(&auditor, "POST", "/keys", json!({ "team": "growth" })).status,
        403
    );
    let budget = json!({ "tokens": 1000, "window": "day", "scope": { "team": "growth" } });
    assert_eq!(
        call(&owner, "PUT", "/budgets/b", budget.clone()).status,
        403
    );
    assert_eq!(call(&finance, "PUT", "/budgets/b", budget).status, 200);
    assert_eq!(
        call(&finance, "PUT", "/limits/l", json!({ "concurrency": 1 })).status,
        403
    );
    assert_eq!(
        call(
            root,
            "PUT",
            "/limits/l",
            json!({ "concurrency": 0, "x": 1 })
        )
        .status,
        400
    );
    assert_eq!(
        call(
            root,
            "PUT",
            "/limits/l",
            json!({ "id": "m", "concurrency": 1 })
        )
        .status,
        400
    );

    assert_eq!(chat(to, key).status, 200);
    wait_for("the budget shows what is spent", || {
        let listed = call(&auditor, "GET", "/budgets", Value::Null).json();
        let standing = &listed["data"][0]["standings"][0];
        Ok(standing["spent"] != "0" && standing["reserved"] == "0")
    })
    .unwrap();
    let seen = call(&auditor, "GET", &format!("/keys/{id}"), Value::Null).json();
    assert!(seen["last_used_ms"].as_u64().unwrap() > 0 && seen.get("hash").is_none());

    let rotated = call(
        &owner,
        "POST",
        &format!("/keys/{id}/rotate"),
        json!({ "grace_ms": 0 }),
    )
    .json();
    let new = rotated["key"].as_str().unwrap();
    assert_eq!((chat(to, key).status, chat(to, new).status), (401, 200));
    assert_eq!(
        call(&owner, "DELETE", &format!("/keys/{id}"), Value::Null).status,
        200
    );
    assert_eq!(chat(to, new).status, 401);
    assert_eq!(
        call(root, "DELETE", "/tokens/olga", Value::Null).status,
        200
    );
    assert_eq!(call(&owner, "GET", "/keys", Value::Null).status, 401);

    // Every kind of rule is made, changed and deleted.
    let kinds = [
        (
            "team",
            "teams",
            json!({ "contact": "a" }),
            json!({ "contact": "b" }),
        ),
        (
            "limit",
            "limits",
            json!({ "concurrency": 1 }),
            json!({ "concurrency": 2 }),
        ),
        (
            "budget",
            "budgets",
            json!({ "usd": "1", "window": "day" }),
            json!({ "usd": "2", "window": "day" }),
        ),
        (
            "access",
            "access",
            json!({ "models_denied": ["a"] }),
            json!({ "models_denied": ["b"] }),
        ),
    ];
    for (_, path, first, second) in &kinds {
        let place = format!("/{path}/audited");
        assert_eq!(call(root, "PUT", &place, first.clone()).status, 200);
        assert_eq!(call(root, "PUT", &place, second.clone()).status, 200);
        assert_eq!(call(root, "DELETE", &place, Value::Null).status, 200);
    }

    weir.wait_for_store()
        .unwrap_or_else(|error| panic!("{error}\n{}", up.log()));
    let rows = "SELECT count() FROM weir.control_changes WHERE actor LIKE 'token:%'";
    weir.wait_for_number(rows, 8 + 3 * kinds.len() as u64)
        .unwrap();
    let audited = weir
        .sql("SELECT object_kind, action, before, after FROM weir.control_changes WHERE object_id = 'audited' ORDER BY ts, seq")
        .unwrap();
    for (rows, (kind, _, first, second)) in audited.chunks(3).zip(&kinds) {
        let says = |row: &Value, side: &str, wanted: &Value| {
            let record: Value = serde_json::from_str(row[side].as_str().unwrap()).unwrap();
            let wanted = wanted.as_object().unwrap();
            assert!(
                wanted
                    .iter()
                    .all(|(name, value)| name == "usd" || record[name] == *value)
            );
        };
        for (row, action) in rows.iter().zip(["create", "update", "delete"]) {
            assert_eq!(
                (&row["object_kind"], &row["action"]),
                (&json!(kind), &json!(action))
            );
        }
        says(&rows[0], "after", first);
        says(&rows[1], "before", first);
        says(&rows[1], "after", second);
        says(&rows[2], "before", second);
    }
    let actions = weir
        .sql("SELECT actor, action, object_kind FROM weir.control_changes WHERE actor LIKE 'token:%' ORDER BY ts, seq")
        .unwrap();
    let actions: Vec<String> = actions
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            format!(
                "{} {} {}",
                text("actor"),
                text("action"),
                text("object_kind")
            )
        })
        .collect();
    assert_eq!(
        actions
            .iter()
            .filter(|action| *action == "token:configured create token")
            .count(),
        3
    );
    for expected in [
        "token:olga create key",
        "token:fin create budget",
        "token:olga rotate key",
        "token:olga revoke key",
        "token:configured delete token",
    ] {
        assert!(
            actions.iter().any(|action| action == expected),
            "{expected} in {actions:?}"
        );
    }
    let secrets = "SELECT count() FROM weir.control_changes WHERE before LIKE '%hash%' OR after LIKE '%hash%' OR after LIKE '%weir_%'";
    assert_eq!(weir.number(secrets).unwrap(), 0);
    up.stop().unwrap();
}

/// The address and the moment of a key's last use, as the command line shows it.
fn last_use(running: &Running, id: &str) -> (Value, Value) {
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
    let mut running = Running::start();
    let (id, key) = running.known_key(&["--team", "t"]);
    let (unused, _) = running.key(&["--team", "t"]);
    assert_eq!(running.chat(&key).status, 200);
    running.halt();
    let (from, at) = last_use(&running, &id);
    assert_eq!(from, "127.0.0.1");
    assert!(at.as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(last_use(&running, &unused), (Value::Null, Value::Null));
    // The gateway writes all of it anew when it stops: it must know it from before.
    running.go();
    running.halt();
    assert_eq!(last_use(&running, &id), (from, at));
    let text = running.run(&["keys", "list"]).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("127.0.0.1") && text.contains("never"),
        "{text}"
    );
}
