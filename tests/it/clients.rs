//! Real clients, from PyPI and npm, against every provider dialect.
//!
//! Each script of `tests/clients` puts its client through the same: a plain answer, a stream, two
//! tools called at once and their results brought back, a forced tool, a 429, a stream that breaks.
//! What it must have seen depends on the client's own words alone, never on the provider behind.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use weir_loadtest::mock::{FaultKind, FaultRule, MockHandle, MockOptions, MockProvider};
use weir_tests::weir::{Installation, Process, node, python, repository};

/// The providers' names and dialects; models are named like the providers.
const PROVIDERS: [(&str, &str); 4] = [
    ("openai", "openai"),
    ("responses", "openai-responses"),
    ("anthropic", "anthropic"),
    ("gemini", "gemini"),
];

fn mock() -> MockHandle {
    let rule = |kind, model: &str| FaultRule {
        model: Some(model.to_owned()),
        ..FaultRule::always(kind)
    };
    MockProvider::start(MockOptions {
        faults: vec![
            rule(FaultKind::RateLimit, "limited"),
            rule(FaultKind::StreamError, "broken"),
        ],
        ..MockOptions::default()
    })
    .unwrap()
}

fn config(mocks: &[MockHandle]) -> String {
    let mut config = String::new();
    for ((name, dialect), mock) in PROVIDERS.iter().zip(mocks) {
        let base_url = match *dialect {
            "gemini" => mock.gemini_base_url(),
            _ => mock.base_url(),
        };
        config.push_str(&format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"{dialect}\"\nbase_url = \"{base_url}\"\n\n"
        ));
        for (suffix, model) in [
            ("", "small"),
            ("-limited", "limited"),
            ("-broken", "broken"),
        ] {
            config.push_str(&format!(
                "[[alias]]\nname = \"{name}{suffix}\"\ntargets = [{{ provider = \"{name}\", model = \"{model}\" }}]\n\
                 retry = {{ tries_max = 1 }}\n\n"
            ));
        }
    }
    config
}

struct Gateway {
    weir: Installation,
    process: Process,
    key: String,
    mocks: Vec<MockHandle>,
}

fn gateway() -> Gateway {
    let mocks: Vec<_> = PROVIDERS.iter().map(|_| mock()).collect();
    let weir = Installation::new(&config(&mocks)).unwrap();
    let process = weir.start(&["up"]).unwrap();
    weir.wait_until_ready()
        .unwrap_or_else(|error| panic!("{error}\n{}", process.log()));
    let key = weir.create_key("clients").unwrap();
    weir.wait_until_known(&key).unwrap();
    Gateway {
        weir,
        process,
        key,
        mocks,
    }
}

/// What a client's script saw.
fn run(gateway: &Gateway, program: &Path, script: &str) -> Value {
    let output = Command::new(program)
        .arg(script)
        .arg(gateway.weir.base_url())
        .arg(&gateway.key)
        .args(PROVIDERS.map(|(name, _)| name))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{}: {error}; run tests/run.sh, which installs it",
                program.display()
            )
        });
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A client's words: for an answer that ended by itself, and for one that calls tools; the error of
/// a 429.
struct Words {
    surface: &'static str,
    stop: &'static str,
    tools: &'static str,
    limited: &'static str,
}

const fn words(
    surface: &'static str,
    stop: &'static str,
    tools: &'static str,
    limited: &'static str,
) -> Words {
    Words {
        surface,
        stop,
        tools,
        limited,
    }
}

fn check(gateway: &Gateway, program: &Path, script: &str, surfaces: &[Words]) {
    let seen = run(gateway, program, script);
    assert_eq!(
        seen.as_object().unwrap().len(),
        surfaces.len() * PROVIDERS.len()
    );
    for words in surfaces {
        for (provider, _) in PROVIDERS {
            let name = format!("{} {provider}", words.surface);
            let answer = json!({"words": 12, "finish": words.stop, "input": 3, "output": 12});
            let calls = json!([["weather", {"city": "Paris"}], ["weather", {"city": "São Paulo"}]]);
            let expected = json!({
                "plain": answer,
                "stream": answer,
                "tools": {"calls": calls, "finish": words.tools, "after": words.stop},
                "tools_streamed": calls,
                "forced": ["weather"],
                "limited": {"type": words.limited, "status": 429},
                "broken": true,
            });
            assert_eq!(seen[&name], expected, "{script}: {name}");
        }
    }
}

#[test]
fn real_clients_reach_every_provider() {
    let gateway = gateway();
    let scripts = repository().join("tests/clients");
    let python_script = |name: &str| scripts.join(name).display().to_string();
    // Modules are looked for beside the script, so the scripts lie beside the modules.
    let node_script = |name: &str| node().1.join(name).display().to_string();
    let (python, node) = (python(), node().0);
    let limited = "RateLimitError";
    let chat = words("chat", "stop", "tool_calls", limited);
    let responses = words("responses", "completed", "completed", limited);
    let messages = words("messages", "end_turn", "tool_use", limited);
    let langchain = [
        words("chat", "stop", "tool_calls", "OpenAIRateLimitError"),
        words(
            "messages",
            "end_turn",
            "tool_use",
            "AnthropicRateLimitError",
        ),
    ];
    let vercel = ["chat", "responses", "messages"]
        .map(|surface| words(surface, "stop", "tool-calls", "APICallError"));

    check(
        &gateway,
        &python,
        &python_script("openai_python.py"),
        &[
            words("chat", "stop", "tool_calls", limited),
            words("responses", "completed", "completed", limited),
        ],
    );
    check(
        &gateway,
        &python,
        &python_script("anthropic_python.py"),
        &[words("messages", "end_turn", "tool_use", limited)],
    );
    check(
        &gateway,
        &python,
        &python_script("langchain_python.py"),
        &langchain,
    );
    check(
        &gateway,
        &node,
        &node_script("openai.mjs"),
        &[chat, responses],
    );
    check(&gateway, &node, &node_script("anthropic.mjs"), &[messages]);
    check(&gateway, &node, &node_script("vercel_ai.mjs"), &vercel);
    check_usage(&gateway);
    gateway.process.stop().unwrap();
}

/// Every provider's own count, whatever the dialect in which a client asked.
fn check_usage(gateway: &Gateway) {
    gateway.weir.wait_for_store().unwrap();
    for ((name, _), mock) in PROVIDERS.iter().zip(&gateway.mocks) {
        let counted = mock.ledger().by_model["small"].clone();
        let of = |what: &str| {
            format!("SELECT toUInt64({what}) FROM weir.requests WHERE alias = '{name}'")
        };
        gateway
            .weir
            .wait_for_number(&of("count()"), counted.calls)
            .unwrap();
        for (column, count) in [
            ("input_tokens", counted.reported.input),
            ("output_tokens", counted.reported.output),
        ] {
            let sum = gateway.weir.number(&of(&format!("sum({column})"))).unwrap();
            assert_eq!(sum, count, "{column} at {name}");
        }
    }
}
