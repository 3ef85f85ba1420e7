//! What goes wrong between a client and a provider: the client is told in its own dialect, and an
//! event says so.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::Value;
use weir_loadtest::mock::{FaultKind, FaultRule, MockHandle, MockOptions, MockProvider};
use weir_tests::weir::{Installation, Process};

/// A gateway with one flawless provider, one for each fault, and one that is not there.
struct Scene {
    weir: Installation,
    _up: Process,
    key: String,
    _mocks: Vec<MockHandle>,
}

const FAULTS: [FaultKind; 4] = [
    FaultKind::ServerError,
    FaultKind::Timeout,
    FaultKind::Cut,
    FaultKind::Stall,
];

impl Scene {
    fn start() -> Self {
        let mut config = String::new();
        let mut mocks = Vec::new();
        let mut add = |name: &str, base_url: &str| {
            config.push_str(&format!(
                "[[provider]]\nname = \"{name}\"\ndialect = \"openai\"\nbase_url = \"{base_url}\"\n\
                 timeouts = {{ connect_ms = 500, first_byte_ms = 300, idle_ms = 300 }}\n\n\
                 [[alias]]\nname = \"{name}\"\ntargets = [{{ provider = \"{name}\", model = \"m\" }}]\n\
                 retry = {{ tries_max = 2, backoff_ms = 1 }}\n\n"
            ));
        };
        let faults = FAULTS
            .iter()
            .map(|fault| (fault.name(), vec![FaultRule::always(*fault)]));
        for (name, faults) in faults.chain([("fine", Vec::new())]) {
            let mock = MockProvider::start(MockOptions {
                faults,
                inter_token: "20ms".parse().unwrap(),
                ..MockOptions::default()
            });
            let mock = mock.unwrap();
            add(name, &mock.base_url());
            mocks.push(mock);
        }
        // Port 1 of this machine: nobody is there.
        add("nobody", "http://127.0.0.1:1/v1");
        let weir = Installation::new(&config).unwrap();
        let key = weir.create_key("trouble").unwrap();
        let up = weir.start(&["up"]).unwrap();
        weir.wait_until_ready().unwrap();
        weir.wait_for_store().unwrap();
        Self {
            weir,
            _up: up,
            key,
            _mocks: mocks,
        }
    }

    fn send(&self, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.weir.gateway).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            self.key,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // A body that is too large is refused before it is read.
        let _ = stream.write_all(body.as_bytes());
        stream
    }

    /// Status and everything behind the head.
    fn ask(&self, body: &str) -> (u16, String) {
        let mut answer = Vec::new();
        let mut stream = self.send(body);
        // A cut answer is read up to where it was cut.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head
            .split(' ')
            .nth(1)
            .unwrap_or_default()
            .parse()
            .unwrap_or(0);
        (status, body.to_owned())
    }

    fn chat(&self, model: &str, stream: bool) -> (u16, String) {
        self.ask(&request(model, stream))
    }

    /// The one row that matches, when it is there.
    fn row(&self, condition: &str) -> Value {
        let count = format!("SELECT count() FROM weir.requests WHERE {condition}");
        self.weir.wait_for_number(&count, 1).unwrap();
        let rows = format!("SELECT * FROM weir.requests WHERE {condition}");
        self.weir.sql(&rows).unwrap().remove(0)
    }
}

fn request(model: &str, stream: bool) -> String {
    format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}],"max_tokens":50,"stream":{stream}}}"#
    )
}

fn error(body: &str) -> Value {
    serde_json::from_str::<Value>(body).unwrap_or_else(|e| panic!("{e}: {body}"))["error"].clone()
}

#[test]
fn trouble_is_told_to_the_client_and_to_the_log() {
    let scene = Scene::start();
    bad_requests_are_refused_with_a_reason(&scene);
    providers_that_fail_are_502_and_504(&scene);
    broken_streams_end_with_an_error_event(&scene);
    a_client_that_leaves_has_its_event(&scene);
}

fn bad_requests_are_refused_with_a_reason(scene: &Scene) {
    let (status, body) = scene.ask(r#"{"model": "fine", "messages": [}"#);
    assert_eq!(status, 400, "{body}");
    let message = error(&body)["message"].to_string();
    assert!(
        message.contains("line 1") && message.contains("byte"),
        "no position: {message}"
    );
    assert_eq!(
        scene.row("error_kind = 'invalid_request'")["stage"],
        "inspect"
    );

    let (status, body) = scene.ask(&" ".repeat(33 << 20));
    assert_eq!(status, 413, "{body}");
    assert_eq!(scene.row("status = 413")["stage"], "receive");
}

fn providers_that_fail_are_502_and_504(scene: &Scene) {
    let (status, body) = scene.chat("nobody", false);
    assert_eq!(status, 502, "{body}");
    assert!(
        error(&body)["message"]
            .as_str()
            .unwrap()
            .contains("127.0.0.1:1"),
        "{body}"
    );
    let row = scene.row("alias = 'nobody'");
    assert_eq!(row["attempts"], 2, "the retry is counted");
    assert_eq!(row["error_kind"], "connect");

    let (status, _) = scene.chat("server_error", false);
    assert_eq!(status, 502);
    assert_eq!(
        scene.row("alias = 'server_error'")["error_kind"],
        "server_error"
    );

    let (status, body) = scene.chat("timeout", false);
    assert_eq!(status, 504, "{body}");
    assert_eq!(
        scene.row("alias = 'timeout'")["error_kind"],
        "first_token_timeout"
    );
}

fn broken_streams_end_with_an_error_event(scene: &Scene) {
    for (model, kind) in [("cut", "cut"), ("stall", "stalled")] {
        let (status, body) = scene.chat(model, true);
        assert_eq!(status, 200, "the answer had begun");
        assert!(
            body.contains(r#"data: {"error":"#),
            "{model}: no error event in {body}"
        );
        assert!(
            !body.contains("[DONE]"),
            "{model}: a broken stream looks whole"
        );
        let row = scene.row(&format!("alias = '{model}'"));
        assert_eq!(
            (&row["error_kind"], &row["stage"]),
            (&kind.into(), &"relay".into())
        );
    }
}

fn a_client_that_leaves_has_its_event(scene: &Scene) {
    let mut stream = scene.send(&request("fine", true));
    let mut some = [0; 256];
    assert!(stream.read(&mut some).unwrap() > 0, "the answer begins");
    stream.shutdown(Shutdown::Both).unwrap();
    drop(stream);
    let row = scene.row("error_kind = 'client_gone'");
    assert_eq!(row["alias"], "fine");
    assert_eq!(row["status"], 200);
    assert_eq!(row["usage_source"], "estimated");
    assert_ne!(
        row["response_bytes"].to_string().trim_matches('"'),
        "0",
        "delivered bytes count"
    );
}
