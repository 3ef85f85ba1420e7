//! The gateway's outer side as HTTP sees it: methods, hosts, compressed bodies, and providers whose answers
//! are framed, packed or timed as they should not be.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use weir_loadtest::mock::{MockOptions, MockProvider};
use weir_tests::gateway::{MockedGateway, chat_request, completion, messages_request};
use weir_tests::http::{Answer, Request, serve};
use weir_tests::scripted::{Script, ScriptedProvider};
use weir_tests::weir::{Installation, PATIENCE, python, repository, wait_for};

/// Sends bytes as they are, and reads until the gateway closes.
fn raw(to: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    Answer::read(&mut stream).unwrap()
}

#[test]
fn head_is_answered_as_get_is_and_405_names_the_methods() {
    let gateway = MockedGateway::start();
    let (_, key) = gateway.known_key(&["--team", "edge"]);
    for path in ["/v1/models", "/v1/models/opus", "/metrics", "/livez"] {
        let get = gateway.send(&Request::get(path).bearer(&key));
        let head = gateway.send(&Request::new("HEAD", path).bearer(&key));
        assert_eq!((get.status, head.status), (200, 200), "{path}: {head:?}");
        assert!(head.body.is_empty(), "{path}: {head:?}");
        let kind = "content-type";
        assert_eq!(head.header(kind), get.header(kind), "{path}");
    }
    let stranger = gateway.send(&Request::new("HEAD", "/v1/models"));
    assert_eq!(stranger.status, 401, "{stranger:?}");
    for (method, path, allow) in [
        ("DELETE", "/v1/models", "GET, HEAD"),
        ("PUT", "/metrics", "GET, HEAD"),
        ("GET", "/v1/chat/completions", "POST"),
        ("PUT", "/admin/v1/keys", "GET, HEAD, POST"),
    ] {
        let refused = gateway.send(&Request::new(method, path));
        assert_eq!(refused.status, 405, "{method} {path}: {refused:?}");
        assert_eq!(refused.header("allow"), Some(allow), "{method} {path}");
        assert!(!refused.message().is_empty(), "{refused:?}");
    }
}

#[test]
fn a_request_names_one_host() {
    let gateway = MockedGateway::start();
    let get = |version: &str, hosts: &str| {
        let head = format!("GET /livez HTTP/{version}\r\n{hosts}connection: close\r\n\r\n");
        raw(gateway.weir.gateway, head.as_bytes())
    };
    for (version, hosts) in [
        ("1.1", "host: weir.example\r\n"),
        ("1.1", "host: [::1]:8080\r\n"),
        ("1.1", "host:\r\n"),
        ("1.0", ""),
    ] {
        assert_eq!(get(version, hosts).status, 200, "{hosts:?}");
    }
    for (version, hosts) in [
        ("1.1", ""),
        ("1.1", "host: a\r\nhost: a\r\n"),
        ("1.0", "host: a\r\nhost: b\r\n"),
        ("1.1", "host: a, b\r\n"),
        ("1.1", "host: user@a\r\n"),
        ("1.1", "host: a/b\r\n"),
    ] {
        let refused = get(version, hosts);
        assert_eq!(refused.status, 400, "{hosts:?}: {refused:?}");
        assert!(refused.message().contains("Host"), "{refused:?}");
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zstd(body: &[u8]) -> Vec<u8> {
    compress_to_vec(body, CompressionLevel::Fastest)
}

#[test]
fn compressed_requests_are_unpacked_up_to_the_limit_of_a_body() {
    let gateway = MockedGateway::with_settings("body_bytes_max = 1_000_000");
    gateway.weir.wait_until_ready().unwrap();
    let (_, key) = gateway.known_key(&["--team", "edge"]);
    let body = r#"{"model":"opus","max_tokens":3,"messages":[{"role":"user","content":"Hi"}]}"#;
    let padded = |length: usize| format!("{body}{}", " ".repeat(length - body.len()));
    let send = |coding: &str, body: Vec<u8>| {
        gateway.send(&completion(&key, body).header("content-encoding", coding))
    };
    let plain = send("identity", body.into()).json()["usage"].take();
    type Pack = fn(&[u8]) -> Vec<u8>;
    let packs: [(&str, Pack); 3] = [("gzip", gzip), ("deflate", deflate), ("zstd", zstd)];
    for (coding, pack) in packs {
        let answer = send(coding, pack(body.as_bytes()));
        assert_eq!(answer.status, 200, "{coding}: {answer:?}");
        assert_eq!(answer.json()["usage"], plain, "{coding}");
        let largest = send(coding, pack(padded(1_000_000).as_bytes()));
        assert_eq!(largest.status, 200, "{coding}: {largest:?}");
        let too_large = send(coding, pack(padded(1_000_001).as_bytes()));
        assert_eq!(too_large.status, 413, "{coding}: {too_large:?}");
        assert!(too_large.message().contains("body_bytes_max"));
        let whole = pack(body.as_bytes());
        let cut = send(coding, whole[..whole.len() - 5].to_vec());
        assert_eq!(cut.status, 400, "{coding}: {cut:?}");
        assert!(cut.message().contains("unpacked"), "{cut:?}");
    }
    for coding in ["br", "gzip, zstd", "snappy"] {
        let unknown = send(coding, body.into());
        assert_eq!(unknown.status, 415, "{coding}: {unknown:?}");
        let known = Some("gzip, deflate, zstd");
        assert_eq!(unknown.header("accept-encoding"), known, "{coding}");
        assert!(unknown.message().contains(coding), "{unknown:?}");
    }
    let messages = messages_request(&key, "opus").header("content-encoding", "br");
    let unknown = gateway.send(&messages);
    assert_eq!(unknown.status, 415, "{unknown:?}");
    assert_eq!(unknown.json()["type"], "error", "{unknown:?}");
}

/// One provider with one alias, both called alike.
fn provider(name: &str, address: SocketAddr, more: &str) -> String {
    format!(
        "[[provider]]\nname = \"{name}\"\ndialect = \"openai-compatible\"\n\
         base_url = \"http://{address}/v1\"\n{more}\n\
         [[alias]]\nname = \"{name}\"\ntargets = [{{ provider = \"{name}\", model = \"{name}\" }}]\n\n"
    )
}

const WHOLE: &str = r#"{"id":"c1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"the weir is high"},"finish_reason":"stop"}],"usage":{"prompt_tokens":17,"completion_tokens":5,"total_tokens":22}}"#;

/// What a provider answers to a plain call, and the client's status.
fn odd_answers() -> Vec<(&'static str, &'static str, Vec<u8>, u16)> {
    const JSON: &str = "content-type: application/json\r\n";
    const SSE: &str = "content-type: text/event-stream\r\n";
    let chunked = format!("{:x}\r\n{WHOLE}\r\n0\r\n\r\n", WHOLE.len());
    // As brotli frames what it does not make smaller.
    let brotli = [&[0x0b, 0x79, 0x80], WHOLE.as_bytes(), &[0x03]].concat();
    let chunk =
        "data: {\"id\":\"c1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    vec![
        (
            "gzip",
            "content-encoding: gzip\r\n",
            gzip(WHOLE.as_bytes()),
            200,
        ),
        ("gzip-unsaid", JSON, gzip(WHOLE.as_bytes()), 200),
        (
            "deflate",
            "content-encoding: deflate\r\n",
            deflate(WHOLE.as_bytes()),
            200,
        ),
        (
            "zstd",
            "content-encoding: zstd\r\n",
            zstd(WHOLE.as_bytes()),
            502,
        ),
        ("zstd-unsaid", JSON, zstd(WHOLE.as_bytes()), 502),
        ("br", "content-encoding: br\r\n", brotli.clone(), 502),
        ("br-unsaid", JSON, brotli, 502),
        (
            "two-lengths",
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            chunked.clone().into(),
            502,
        ),
        (
            "chunked",
            "transfer-encoding: chunked\r\n",
            chunked.into(),
            200,
        ),
        (
            "events-broken",
            SSE,
            "data: {\"id\":\"c1\",\n\n".into(),
            502,
        ),
        (
            "events-no-json",
            SSE,
            "data: no\n\ndata: more\n\n".into(),
            502,
        ),
        ("events-cut", SSE, chunk.into(), 502),
        ("events-torn", SSE, chunk.as_bytes()[..40].to_vec(), 502),
        ("events-none", SSE, "".into(), 502),
        ("events-as-json", JSON, "data: {\n\n".into(), 502),
    ]
}

#[test]
fn odd_answers_of_providers_are_read_whole_or_are_a_502() {
    let answers = odd_answers();
    let scripts = odd_answers();
    let address = serve(move |request, client| {
        let is_it = |(name, ..): &&(&str, &str, Vec<u8>, u16)| {
            request.body.contains(&format!("\"{name}\""))
        };
        let (_, headers, body, _) = scripts.iter().find(is_it).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\n{headers}connection: close\r\n\r\n");
        client.write_all(head.as_bytes())?;
        Ok(client.write_all(body)?)
    });
    let address = address.unwrap();
    let configs = answers.iter().map(|(name, ..)| provider(name, address, ""));
    let weir = Installation::new(&configs.collect::<String>()).unwrap();
    let key = weir.create_key("edge").unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    for (name, _, _, status) in &answers {
        for request in [chat_request(&key, name), messages_request(&key, name)] {
            let answer = request.send(weir.gateway).unwrap();
            assert_eq!(answer.status, *status, "{name}: {answer:?}");
            assert!(answer.is_complete, "{name}: {answer:?}");
            assert!(answer.header("content-encoding").is_none(), "{name}");
            match status {
                200 => assert!(answer.text().contains("the weir is high"), "{answer:?}"),
                _ => assert!(!answer.message().is_empty(), "{name}: {answer:?}"),
            }
        }
    }
    let count = 2 * answers.len() as u64;
    weir.wait_for_number("SELECT count() FROM weir.requests", count)
        .unwrap();
    let whole = answers.iter().filter(|(.., status)| *status == 200).count();
    let billed = "SELECT count() FROM weir.requests WHERE status = 200 AND input_tokens = 17 \
                  AND output_tokens = 5 AND usage_source = 'reported'";
    assert_eq!(weir.number(billed).unwrap(), 2 * whole as u64);
    up.stop().unwrap();
}

#[test]
fn the_first_byte_has_its_own_time_and_not_that_of_connecting_too() {
    let silent = ScriptedProvider::start(vec![
        // It answers when the test is over.
        Script::plain("silent", WHOLE).after("never"),
    ]);
    let timeouts = "timeouts = { connect_ms = 600_000, first_byte_ms = 300 }";
    let config = provider("silent", silent.unwrap().address, timeouts);
    let weir = Installation::new(&config).unwrap();
    let key = weir.create_key("edge").unwrap();
    let _gateway = weir.start(&["gateway"]).unwrap();
    weir.wait_until_ready().unwrap();
    let answer = chat_request(&key, "silent").send(weir.gateway).unwrap();
    assert_eq!(answer.status, 504, "{answer:?}");
    assert!(answer.message().contains("300 ms"), "{answer:?}");
}

#[test]
fn a_provider_key_in_the_head_of_an_answer_reaches_nobody() {
    const SECRET: &str = "sk-canary-0123456789abcdef";
    let named = WHOLE.replace("\"m\"", &format!("\"m-{SECRET}\""));
    let echo = |script: Script| {
        script
            .header("x-request-id", &format!("req-{SECRET}"))
            .header("openai-organization", SECRET)
            .header("anthropic-organization-id", &format!("{SECRET}{SECRET}"))
            .header("x-ratelimit-echo", &format!("Bearer {SECRET}"))
    };
    let provider_of_keys = ScriptedProvider::start(vec![
        echo(Script::plain("echo", &named)),
        echo(Script::failure("fails", 500)),
    ]);
    let address = provider_of_keys.unwrap().address;
    let keys = format!("keys = [\"{SECRET}\"]");
    let config = provider("echo", address, &keys) + &provider("fails", address, &keys);
    let weir = Installation::new(&config).unwrap();
    let key = weir.create_key("edge").unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    for (model, status) in [("echo", 200), ("fails", 502)] {
        let answer = chat_request(&key, model).send(weir.gateway).unwrap();
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(!answer.head.contains(SECRET), "{answer:?}");
        if status == 200 {
            let organisation = answer.header("openai-organization");
            assert_eq!(organisation, Some("[redacted]"), "{answer:?}");
            let echoed = answer.header("x-ratelimit-echo");
            assert_eq!(echoed, Some("Bearer [redacted]"), "{answer:?}");
        }
    }
    weir.wait_for_number("SELECT count() FROM weir.requests", 2)
        .unwrap();
    for table in ["requests", "attempts"] {
        let rows = weir.sql(&format!("SELECT * FROM weir.{table}")).unwrap();
        assert!(!rows.is_empty(), "{table}");
        let text = format!("{rows:?}");
        assert!(!text.contains(SECRET), "{table}: {text}");
        if table == "attempts" {
            assert!(text.contains("req-[redacted]"), "{text}");
            assert!(text.contains("m-[redacted]"), "{text}");
        }
    }
    up.stop().unwrap();
    for segment in std::fs::read_dir(weir.data_dir().join("journal")).unwrap() {
        let path = segment.unwrap().path();
        let mut bytes = Vec::new();
        if path.is_file() {
            std::fs::File::open(&path)
                .unwrap()
                .read_to_end(&mut bytes)
                .unwrap();
        }
        assert!(
            !String::from_utf8_lossy(&bytes).contains(SECRET),
            "{path:?}"
        );
    }
}

/// A connection that stays open.
fn open(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Asks for something small on a connection that stays open, and reads all of the answer.
fn ask(stream: &mut TcpStream) {
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")
        .unwrap();
    let (mut answer, mut piece) = (String::new(), [0; 256]);
    while !answer.ends_with("\r\n\r\nok\n") {
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "closed behind {answer:?}");
        answer.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
}

fn is_closed(stream: &mut TcpStream) -> bool {
    stream.read(&mut [0]).unwrap() == 0
}

#[test]
fn at_the_limit_whoever_is_idle_makes_room_and_else_newcomers_get_a_503() {
    let silent = ScriptedProvider::start(vec![Script::plain("silent", WHOLE).after("never")]);
    let silent = silent.unwrap();
    let weir = Installation::new(&provider("silent", silent.address, "")).unwrap();
    weir.add_gateway_settings("connections_max = 2").unwrap();
    let key = weir.create_key("edge").unwrap();
    let _gateway = weir.start(&["gateway"]).unwrap();
    weir.wait_until_ready().unwrap();
    let (mut first, mut second) = (open(weir.gateway), open(weir.gateway));
    ask(&mut first);
    ask(&mut second);
    ask(&mut open(weir.gateway));
    assert!(is_closed(&mut first), "the oldest has made room");
    ask(&mut second);
    drop(second);

    // Two calls that are not answered.
    let call = chat_request(&key, "silent");
    let calls = [
        call.open(weir.gateway).unwrap(),
        call.open(weir.gateway).unwrap(),
    ];
    wait_for("both calls are at the provider", || {
        Ok(silent.asked("silent").len() == 2)
    })
    .unwrap();
    for request in [
        Request::get("/livez"),
        call,
        messages_request(&key, "silent"),
    ] {
        let refused = request.send(weir.gateway).unwrap();
        assert_eq!(refused.status, 503, "{refused:?}");
        assert_eq!(refused.header("retry-after"), Some("1"), "{refused:?}");
        assert!(refused.message().contains("connections_max"), "{refused:?}");
        assert!(!refused.request_id().is_empty(), "{refused:?}");
    }
    let refused = messages_request(&key, "silent").send(weir.gateway).unwrap();
    assert_eq!(refused.json()["type"], "error", "{refused:?}");
    // Meanwhile the control log is followed.
    let later = weir.create_key("later").unwrap();
    drop(calls);
    weir.wait_until_known(&later).unwrap();
}

/// The gateway in a shell that limits its file descriptors.
fn start_limited(weir: &Installation, limit: &str) -> KilledChild {
    let command = weir.command(&["gateway"]);
    let log = fs::File::create(weir.dir().join("limited.log")).unwrap();
    let mut shell = Command::new("sh");
    let exec = format!("ulimit {limit} && exec \"$@\"");
    shell
        .args(["-c", &exec, "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(weir.dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    KilledChild(shell.spawn().unwrap())
}

struct KilledChild(Child);

impl Drop for KilledChild {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn connections_are_fitted_to_file_descriptors_and_never_take_those_of_the_control_log() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let config = weir_tests::gateway::config(&mock);
    let weir = Installation::new(&config).unwrap();
    let key = weir.create_key("edge").unwrap();
    let gateway = start_limited(&weir, "-n 400");
    weir.wait_until_ready().unwrap();
    let log = || fs::read_to_string(weir.dir().join("limited.log")).unwrap();
    assert!(log().contains("connections_max=100"), "{}", log());
    // More than there are descriptors, and none has a key.
    let idle: Vec<TcpStream> = (0..450).map(|_| open(weir.gateway)).collect();
    let answer = chat_request(&key, "opus").send(weir.gateway).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let later = weir.create_key("later").unwrap();
    weir.wait_until_known(&later).unwrap();
    assert!(!log().contains("Too many open files"), "{}", log());
    drop(idle);
    drop(gateway);

    // A soft limit is raised.
    let _gateway = start_limited(&weir, "-S -n 256");
    weir.wait_until_ready().unwrap();
    let hard = Command::new("sh")
        .args(["-c", "ulimit -Hn"])
        .output()
        .unwrap();
    let hard = String::from_utf8_lossy(&hard.stdout).trim().to_owned();
    let hard = if hard == "unlimited" {
        u64::MAX.to_string()
    } else {
        hard
    };
    assert!(log().contains(&format!("descriptors={hard}")), "{}", log());
}

#[test]
fn an_idle_connection_has_a_time_of_its_own() {
    let settings = "header_timeout_ms = 200\nkeep_alive_timeout_ms = 600_000";
    let patient = MockedGateway::with_settings(settings);
    patient.weir.wait_until_ready().unwrap();
    let mut idle = open(patient.weir.gateway);
    ask(&mut idle);
    // Another one gets no further with its head, which takes longer than a head may.
    let slow = raw(
        patient.weir.gateway,
        b"POST /v1/messages HTTP/1.1\r\nhost: a\r\n",
    );
    assert_eq!(slow.status, 408, "{slow:?}");
    assert_eq!(slow.json()["type"], "error", "{slow:?}");
    assert!(slow.message().contains("200 ms"), "{slow:?}");
    ask(&mut idle);
    // So does one that was idle.
    idle.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
    assert_eq!(Answer::read(&mut idle).unwrap().status, 408);
    // One that sends nothing at all is closed without a word.
    assert!(is_closed(&mut open(patient.weir.gateway)));

    let settings = "header_timeout_ms = 600_000\nkeep_alive_timeout_ms = 200";
    let brief = MockedGateway::with_settings(settings);
    brief.weir.wait_until_ready().unwrap();
    let mut idle = open(brief.weir.gateway);
    ask(&mut idle);
    assert!(is_closed(&mut idle));
}

#[test]
fn requests_that_are_no_http_get_an_error_in_the_clients_dialect() {
    let gateway = MockedGateway::start();
    let to = gateway.weir.gateway;
    let long = "a".repeat(200_000);
    let headers = |count: usize| "x-a: b\r\n".repeat(count);
    let post = |path: &str, headers: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: a\r\n{headers}connection: close\r\n\r\n")
    };
    for (head, status, code) in [
        (post(&format!("/v1/{long}"), ""), 414, "uri_too_long"),
        (
            post("/v1/chat/completions", &format!("x: {long}\r\n")),
            431,
            "headers_too_large",
        ),
        (
            post("/v1/chat/completions", &headers(300)),
            431,
            "headers_too_large",
        ),
        (
            post("/v1/chat/completions", "a b: c\r\n"),
            400,
            "invalid_request",
        ),
        ("GET\r\n\r\n".to_owned(), 400, "invalid_request"),
        (
            "GET /livez HTTP/3.0\r\n\r\n".to_owned(),
            400,
            "invalid_request",
        ),
        // It gets as far as the key.
        (
            post("/v1/chat/completions", &headers(200)),
            401,
            "invalid_api_key",
        ),
    ] {
        let refused = raw(to, head.as_bytes());
        assert_eq!(refused.status, status, "{refused:?}");
        assert_eq!(refused.json()["error"]["code"], code, "{refused:?}");
        assert!(!refused.message().is_empty(), "{refused:?}");
        assert_eq!(refused.header("content-type"), Some("application/json"));
        assert!(refused.is_complete && !refused.request_id().is_empty());
    }
    for (headers, status) in [
        (format!("x: {long}\r\n"), 431),
        (headers(300), 431),
        ("a b: c\r\n".to_owned(), 400),
    ] {
        let refused = raw(to, post("/v1/messages", &headers).as_bytes());
        assert_eq!(refused.status, status, "{refused:?}");
        assert_eq!(refused.json()["type"], "error", "{refused:?}");
        assert!(!refused.message().is_empty(), "{refused:?}");
    }
    // One that was answered before is told, too.
    let mut kept = open(to);
    ask(&mut kept);
    kept.write_all(b"nonsense\r\n\r\n").unwrap();
    let refused = Answer::read(&mut kept).unwrap();
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(!refused.message().is_empty(), "{refused:?}");
}

#[test]
fn what_a_shutdown_cuts_ends_with_an_error_that_sdks_raise() {
    let slow = MockProvider::start(MockOptions {
        inter_token: "600s".parse().unwrap(),
        ..MockOptions::default()
    })
    .unwrap();
    let config = [
        ("m", "openai", "gpt-4o-mini"),
        ("translated", "anthropic", "claude-haiku-4-5"),
    ]
    .map(|(name, dialect, model)| {
        format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"{dialect}\"\nbase_url = \"{}\"\n\n\
             [[alias]]\nname = \"{name}\"\n\
             targets = [{{ provider = \"{name}\", model = \"{model}\" }}]\n\n",
            slow.base_url()
        )
    });
    let weir = Installation::new(&config.concat()).unwrap();
    weir.add_gateway_settings("drain_timeout_ms = 100").unwrap();
    let key = weir.create_key("edge").unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    let mut sdks = Command::new(python())
        .arg("-B")
        .arg(repository().join("tests/clients/cut_streams.py"))
        .args([&weir.base_url(), &key, "m", "translated"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(sdks.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "begun");
    // And calls of which nothing has come yet.
    let mut plain = [
        chat_request(&key, "m").open(weir.gateway).unwrap(),
        messages_request(&key, "m").open(weir.gateway).unwrap(),
    ];
    wait_for("all calls are at the provider", || {
        let page = weir_tests::http::get(weir.gateway, "/metrics")?;
        Ok(page.contains("weir_in_flight 6"))
    })
    .unwrap();
    up.stop().unwrap();
    let raised = "chat=raised messages=raised responses=raised translated=raised";
    assert_eq!(said.next().unwrap().unwrap(), raised);
    sdks.wait().unwrap();
    for (client, status) in plain.iter_mut().zip([503, 529]) {
        let answer = Answer::read(client).unwrap();
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.message().contains("stopped"), "{answer:?}");
    }
    let up = weir.start(&["up"]).unwrap();
    weir.wait_for_store().unwrap();
    weir.wait_for_number("SELECT count() FROM weir.requests", 6)
        .unwrap();
    let cut = "SELECT count() FROM weir.requests WHERE error_kind = 'shutdown'";
    assert_eq!(weir.number(cut).unwrap(), 6);
    let streams = "SELECT count() FROM weir.requests WHERE status = 200 AND output_tokens > 0 \
                   AND cost_usd > 0 AND usage_source != 'none'";
    assert_eq!(weir.number(streams).unwrap(), 4);
    up.stop().unwrap();
}
