//! What goes wrong between a client and a provider: the client is told in its own dialect, and an
//! event says so.

use std::io::Read as _;
use std::net::Shutdown;

use serde_json::Value;
use weir_loadtest::mock::{FaultKind, FaultRule, MockHandle, MockOptions, MockProvider};
use weir_tests::gateway::completion;
use weir_tests::http::Answer;
use weir_tests::weir::{Installation, Process};

/// A gateway with one flawless provider, one for each fault, and one that is not there.
struct Scene {
    weir: Installation,
    _up: Process,
    key: String,
    _mocks: Vec<MockHandle>,
}

const FAULTS: [(&str, FaultKind); 4] = [
    ("server_error", FaultKind::ServerError),
    ("timeout", FaultKind::Timeout),
    ("cut", FaultKind::Cut),
    ("stall", FaultKind::Stall),
];

impl Scene {
    fn start() -> Self {
        let mut config = String::new();
        let mut mocks = Vec::new();
        let mut add = |name: &str, base_url: &str| {
            // Short where they are what ends the wait, and far away elsewhere: the machine may be busy.
            let ms = |short: &str| if name == short { 300 } else { 60_000 };
            let (first_byte_ms, idle_ms) = (ms("timeout"), ms("stall"));
            config.push_str(&format!(
                "[[provider]]\nname = \"{name}\"\ndialect = \"openai\"\nbase_url = \"{base_url}\"\n\
                 timeouts = {{ first_byte_ms = {first_byte_ms}, idle_ms = {idle_ms} }}\n\n\
                 [[alias]]\nname = \"{name}\"\ntargets = [{{ provider = \"{name}\", model = \"m\" }}]\n\
                 retry = {{ tries_max = 2, backoff_ms = 1 }}\n\n"
            ));
        };
        let faults = FAULTS.map(|(name, fault)| (name, vec![FaultRule::always(fault)]));
        for (name, faults) in faults.into_iter().chain([("fine", Vec::new())]) {
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

    fn ask(&self, body: &str) -> Answer {
        completion(&self.key, body).send(self.weir.gateway).unwrap()
    }

    fn chat(&self, model: &str, stream: bool) -> Answer {
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

#[test]
fn trouble_is_told_to_the_client_and_to_the_log() {
    let scene = Scene::start();
    bad_requests_are_refused_with_a_reason(&scene);
    providers_that_fail_are_502_and_504(&scene);
    broken_streams_end_with_an_error_event(&scene);
    a_client_that_leaves_has_its_event(&scene);
}

fn bad_requests_are_refused_with_a_reason(scene: &Scene) {
    let answer = scene.ask(r#"{"model": "fine", "messages": [}"#);
    assert_eq!(answer.status, 400, "{answer:?}");
    let message = answer.message();
    assert!(
        message.contains("line 1") && message.contains("byte"),
        "no position: {message}"
    );
    assert_eq!(
        scene.row("error_kind = 'invalid_request'")["stage"],
        "inspect"
    );

    let answer = scene.ask(&" ".repeat(33 << 20));
    assert_eq!(answer.status, 413, "{answer:?}");
    assert_eq!(scene.row("status = 413")["stage"], "receive");
}

fn providers_that_fail_are_502_and_504(scene: &Scene) {
    let answer = scene.chat("nobody", false);
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.message().contains("127.0.0.1:1"), "{answer:?}");
    let row = scene.row("alias = 'nobody'");
    assert_eq!(row["attempts"], 2, "the retry is counted");
    assert_eq!(row["error_kind"], "connect");

    let answer = scene.chat("server_error", false);
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(
        scene.row("alias = 'server_error'")["error_kind"],
        "server_error"
    );

    let answer = scene.chat("timeout", false);
    assert_eq!(answer.status, 504, "{answer:?}");
    assert_eq!(
        scene.row("alias = 'timeout'")["error_kind"],
        "first_token_timeout"
    );
}

fn broken_streams_end_with_an_error_event(scene: &Scene) {
    for (model, kind) in [("cut", "cut"), ("stall", "stalled")] {
        let answer = scene.chat(model, true);
        assert_eq!(answer.status, 200, "the answer had begun");
        let body = answer.text();
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
    let call = completion(&scene.key, request("fine", true));
    let mut stream = call.open(scene.weir.gateway).unwrap();
    assert!(stream.read(&mut [0; 256]).unwrap() > 0, "the answer begins");
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
