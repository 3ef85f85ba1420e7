//! A gateway in front of a mock provider, and the calls that most tests make.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::net::SocketAddr;
use std::process::Output;

use serde_json::Value;
use weir_loadtest::mock::{MockHandle, MockOptions, MockProvider};

use crate::http::{Answer, Request};
use crate::weir::{Installation, Process};

pub const MESSAGES: &str = r#"[{"role":"user","content":"Hello"}]"#;
pub const MAX_TOKENS: u64 = 8;

/// A chat completion with a body of the test's own.
pub fn completion(key: &str, body: impl Into<Vec<u8>>) -> Request {
    Request::post("/v1/chat/completions", body)
        .bearer(key)
        .header("content-type", "application/json")
}

/// A short chat with a model.
pub fn chat_request(key: &str, model: &str) -> Request {
    completion(key, short_body(model))
}

/// The same by Anthropic's API.
pub fn messages_request(key: &str, model: &str) -> Request {
    Request::post("/v1/messages", short_body(model))
        .header("x-api-key", key)
        .header("anthropic-version", "2023-06-01")
}

fn short_body(model: &str) -> String {
    format!(r#"{{"model":"{model}","messages":{MESSAGES},"max_tokens":{MAX_TOKENS}}}"#)
}

/// A short chat with the alias `fast-chat`.
pub fn chat(to: SocketAddr, key: &str) -> Answer {
    chat_request(key, "fast-chat").send(to).unwrap()
}

pub fn used_tokens(answer: &Answer) -> u64 {
    answer.json()["usage"]["total_tokens"].as_u64().unwrap()
}

/// The aliases `fast-chat` and `opus` at a mock provider.
pub fn config(mock: &MockHandle) -> String {
    format!(
        "[[provider]]\nname = \"mock\"\ndialect = \"openai\"\nbase_url = \"{}\"\n\n\
         [[alias]]\nname = \"fast-chat\"\ntargets = [{{ provider = \"mock\", model = \"small\" }}]\n\n\
         [[alias]]\nname = \"opus\"\ntargets = [{{ provider = \"mock\", model = \"large\" }}]\n",
        mock.base_url()
    )
}

/// A gateway with a provider that answers at once.
#[derive(Debug)]
pub struct MockedGateway {
    pub weir: Installation,
    pub process: Option<Process>,
    _mock: MockHandle,
}

impl MockedGateway {
    pub fn start() -> Self {
        Self::configured("")
    }

    /// `more` follows the provider and the aliases.
    pub fn configured(more: &str) -> Self {
        let mut gateway = Self::install(MockOptions::default());
        let config = fs::read_to_string(gateway.weir.config()).unwrap() + more;
        fs::write(gateway.weir.config(), config).unwrap();
        gateway.restart();
        gateway
    }

    pub fn with_provider(mock: MockOptions) -> Self {
        let mut gateway = Self::install(mock);
        gateway.restart();
        gateway
    }

    /// `settings` belong to `[gateway]`. May not be ready yet.
    pub fn with_settings(settings: &str) -> Self {
        let mut gateway = Self::install(MockOptions::default());
        gateway.weir.add_gateway_settings(settings).unwrap();
        gateway.process = Some(gateway.weir.start(&["gateway"]).unwrap());
        gateway
    }

    fn install(mock: MockOptions) -> Self {
        let mock = MockProvider::start(mock).unwrap();
        Self {
            weir: Installation::new(&config(&mock)).unwrap(),
            process: None,
            _mock: mock,
        }
    }

    /// Starts the gateway, which has not been started or has ended.
    pub fn restart(&mut self) {
        self.process = Some(self.weir.start(&["gateway"]).unwrap());
        self.weir.wait_until_ready().unwrap();
    }

    /// Stops it in order.
    pub fn stop(&mut self) {
        self.process.take().unwrap().stop().unwrap();
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.weir.run(args).unwrap()
    }

    /// The id and the secret of a new key, which the gateway may not know yet.
    pub fn key(&self, args: &[&str]) -> (String, String) {
        self.weir.create_key_with(args).unwrap()
    }

    /// A key that the gateway knows, as it then does the rules made before it.
    pub fn known_key(&self, args: &[&str]) -> (String, String) {
        let (id, key) = self.key(args);
        self.weir.wait_until_known(&key).unwrap();
        (id, key)
    }

    /// The most that a short chat can be billed, which it reserves of a hard budget: what the refusal says
    /// of one with next to nothing in it. `unit` is `--tokens` or `--usd`.
    pub fn reserved(&self, unit: &str) -> u64 {
        let team = format!("probe{unit}");
        self.run(&["budgets", "set", &team, "--team", &team, unit, "1"]);
        let (_, key) = self.known_key(&["--team", &team]);
        let message = self.chat(&key).message();
        let (_, amount) = message.split_once("may use ").unwrap();
        let digits = amount.split([' ', '.']).next().unwrap();
        digits.parse().unwrap()
    }

    pub fn chat(&self, key: &str) -> Answer {
        chat(self.weir.gateway, key)
    }

    /// Sends a request to the gateway.
    pub fn send(&self, request: &Request) -> Answer {
        request.send(self.weir.gateway).unwrap()
    }

    /// JSON that a command prints.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }
}
