//! Which API and which fields a provider gets for a model of today, through the whole program.

use serde_json::{Value, json};
use weir_tests::http::{Answer, Request};
use weir_tests::scripted::{Script, ScriptedProvider};
use weir_tests::weir::Installation;

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

const CHAT_ANSWER: &str = r#"{"id":"c","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"by chat"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3}}"#;
const RESPONSES_ANSWER: &str = r#"{"id":"r","object":"response","status":"completed","model":"m","output":[{"type":"message","id":"x","role":"assistant","status":"completed","content":[{"type":"output_text","text":"by responses","annotations":[]}]}],"usage":{"input_tokens":9,"output_tokens":3,"total_tokens":12}}"#;
const MESSAGES_ANSWER: &str = r#"{"id":"m","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"by messages"}],"stop_reason":"end_turn","usage":{"input_tokens":9,"output_tokens":3}}"#;

/// A target: alias, dialect, model, what it does with what the model lacks, and its answer.
const TARGETS: [(&str, &str, &str, &str, &str); 8] = [
    ("new", "openai", "gpt-5.6-sol", "refuse", RESPONSES_ANSWER),
    (
        "always",
        "openai",
        "gpt-6.1-sol",
        "refuse",
        RESPONSES_ANSWER,
    ),
    ("azure", "azure", "prod-chat-1", "refuse", RESPONSES_ANSWER),
    ("foreign", "azure", "other-name", "refuse", CHAT_ANSWER),
    ("future", "openai", "gpt-99-sol", "refuse", RESPONSES_ANSWER),
    (
        "strict",
        "anthropic",
        "claude-opus-4-8",
        "refuse",
        MESSAGES_ANSWER,
    ),
    (
        "lenient",
        "anthropic",
        "claude-opus-5-5",
        "drop",
        MESSAGES_ANSWER,
    ),
    (
        "thinks",
        "deepseek",
        "deepseek-v4-pro",
        "refuse",
        CHAT_ANSWER,
    ),
];

const OWN: &str = "[[model]]\nname = \"prod-chat-*\"\nlike = \"gpt-5.6-sol\"\n\n";

fn config(base_url: &str) -> String {
    let of_target = |(alias, dialect, model, unsupported, _): &(&str, &str, &str, &str, &str)| {
        format!(
            "[[provider]]\nname = \"{alias}\"\ndialect = \"{dialect}\"\n\
             base_url = \"{base_url}\"\nunsupported = \"{unsupported}\"\n\n\
             [[alias]]\nname = \"{alias}\"\n\
             targets = [{{ provider = \"{alias}\", model = \"{model}\" }}]\n\n"
        )
    };
    OWN.to_owned() + &TARGETS.iter().map(of_target).collect::<String>()
}

fn post(path: &str, key: &str, body: &Value) -> Request {
    Request::post(path, body.to_string())
        .bearer(key)
        .header("content-type", "application/json")
}

fn agent(alias: &str) -> Value {
    json!({
        "model": alias, "max_tokens": 400, "thinking": {"type": "adaptive"},
        "messages": [{"role": "user", "content": "how high is the water?"}],
        "tools": [{"name": "f", "input_schema": {"type": "object", "properties": {}}}],
    })
}

fn chat(alias: &str, more: Value) -> Value {
    let mut body = json!({
        "model": alias, "messages": [{"role": "user", "content": "how high is the water?"}],
    });
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    body
}

fn answered(answer: &Answer, told: &str) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.text().contains(told), "{}", answer.text());
}

/// Path and body of the only call that a model got.
fn asked(provider: &ScriptedProvider, model: &str) -> (String, Value) {
    let calls = provider.asked(model);
    let [call] = calls.as_slice() else {
        panic!("{model}: {calls:?}")
    };
    let (head, body) = call.split_once("\r\n\r\n").unwrap();
    let path = head.split(' ').nth(1).unwrap();
    (path.to_owned(), serde_json::from_str(body).unwrap())
}

#[test]
fn a_model_is_reached_by_the_api_and_with_the_fields_that_it_takes() {
    let scripts = TARGETS
        .iter()
        .map(|target| Script::plain(target.2, target.4));
    let provider = ScriptedProvider::start(scripts.collect()).unwrap();
    let weir = Installation::new(&config(&format!("http://{}/v1", provider.address))).unwrap();
    let key = weir.create_key("models").unwrap();
    let gateway = weir.start(&["gateway"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_until_known(&key).unwrap();
    let send = |path: &str, body: &Value| post(path, &key, body).send(weir.gateway).unwrap();

    for (alias, model) in [
        ("new", "gpt-5.6-sol"),
        ("azure", "prod-chat-1"),
        ("future", "gpt-99-sol"),
    ] {
        answered(&send(MESSAGES, &agent(alias)), "by responses");
        let (path, body) = asked(&provider, model);
        assert_eq!(
            (path.as_str(), &body["reasoning"]["effort"]),
            ("/v1/responses", &json!("high"))
        );
    }
    let function = json!({"name": "f", "parameters": {"type": "object", "properties": {}}});
    let tools = json!({"tools": [{"type": "function", "function": function}]});
    answered(&send(CHAT, &chat("always", tools)), "by responses");
    assert_eq!(asked(&provider, "gpt-6.1-sol").0, "/v1/responses");
    answered(&send(MESSAGES, &agent("foreign")), "by chat");
    assert_eq!(asked(&provider, "other-name").0, CHAT);

    let sampled = |alias| chat(alias, json!({"temperature": 0.2, "top_p": 0.9}));
    let refusal = send(CHAT, &sampled("strict"));
    assert_eq!(refusal.status, 400, "{refusal:?}");
    assert!(refusal.text().contains("temperature"), "{}", refusal.text());
    let answer = send(CHAT, &sampled("lenient"));
    answered(&answer, "by messages");
    assert!(
        answer.head.contains("x-weir-dropped: temperature, top_p"),
        "{}",
        answer.head
    );
    let (_, body) = asked(&provider, "claude-opus-5-5");
    assert_eq!((body.get("temperature"), body.get("top_p")), (None, None));

    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let messages = json!({"messages": [
        {"role": "user", "content": "q"}, {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "r"},
    ]});
    answered(&send(CHAT, &chat("thinks", messages)), "by chat");
    let (_, body) = asked(&provider, "deepseek-v4-pro");
    assert_eq!(body["messages"][1]["reasoning_content"], "");

    let log = gateway.log();
    for (deployment, meaning) in [
        ("future/gpt-99-sol", "like \"gpt-6.1-sol\""),
        ("foreign/other-name", "passes on"),
    ] {
        let said: Vec<&str> = log
            .lines()
            .filter(|line| line.contains(deployment))
            .collect();
        assert!(
            matches!(said.as_slice(), [line] if line.replace('\\', "").contains(meaning)),
            "{log}"
        );
    }
    assert!(!log.contains("azure/prod-chat-1"), "{log}");
}

#[test]
fn unknown_models_are_said_and_wrong_sections_named() {
    let weir = Installation::new(&config("http://127.0.0.1:9/v1")).unwrap();
    let checked = weir
        .command(&["config", "check", "--json"])
        .output()
        .unwrap();
    let found: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let unknown = found["unknown_models"].as_object().unwrap();
    let names: Vec<&str> = unknown.keys().map(String::as_str).collect();
    assert_eq!(names, ["foreign/other-name", "future/gpt-99-sol"]);
    let doctor = weir.command(&["doctor"]).output().unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        said.contains("future/gpt-99-sol") && said.contains("[[model]]"),
        "{said}"
    );

    for (section, problem) in [
        (
            "name = \"*\"\nlike = \"gpt-99\"",
            "model[0].like: \"gpt-99\" is no model that this build knows",
        ),
        (
            "name = \"*\"\nlike = \"gpt-5\"\nprovider = \"newest\"",
            "model[0].provider: there is no provider \"newest\"",
        ),
        (
            "name = \"*\"\nlike = \"gpt-4o\"\nprovider = \"new\"\nefforts = [\"low\"]",
            "model[0].efforts: \"gpt-4o\" is not told an effort",
        ),
        (
            "name = \"*\"\nlike = \"gpt-5\"\nprovider = \"new\"\ntemprature = \"never\"",
            "did you mean `temperature`?",
        ),
    ] {
        let text =
            config("http://127.0.0.1:9/v1").replace(OWN, &format!("[[model]]\n{section}\n\n"));
        std::fs::write(weir.config(), text).unwrap();
        let checked = weir.command(&["config", "check"]).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(
            !checked.status.success() && said.contains(problem),
            "{section}: {said}"
        );
    }
}
