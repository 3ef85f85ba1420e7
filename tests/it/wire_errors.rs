//! What providers say is wrong, seen from outside: whether another target answers, whether the key stays,
//! what the client reads, and what SQL shows.

use std::process::Command;

use serde_json::Value;
use weir_tests::gateway::{chat_request, messages_request};
use weir_tests::http::{Answer, Request, get};
use weir_tests::scripted::{Script, ScriptedProvider};
use weir_tests::weir::{Installation, python, repository};

/// A provider's error, and what is to become of it.
struct Row {
    name: &'static str,
    dialect: &'static str,
    status: u16,
    body: &'static str,
    /// `error_kind` of the attempt.
    kind: &'static str,
    /// Whether the next target answers.
    goes_on: bool,
    /// Whether the key is left out from then on.
    key_out: bool,
    /// The client's status, if there is no other target: by chat, and by messages.
    told: (u16, u16),
}

const fn row(name: &'static str, dialect: &'static str, status: u16, body: &'static str) -> Row {
    Row {
        name,
        dialect,
        status,
        body,
        kind: "",
        goes_on: true,
        key_out: false,
        told: (502, 502),
    }
}

const INVALID: Row = Row {
    kind: "invalid_request",
    goes_on: false,
    told: (400, 400),
    ..row("", "openai", 400, "")
};

const ROWS: &[Row] = &[
    Row {
        kind: "quota_exhausted",
        key_out: true,
        ..row(
            "credit-balance",
            "anthropic",
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."}}"#,
        )
    },
    Row {
        kind: "quota_exhausted",
        key_out: true,
        ..row(
            "closed-account",
            "anthropic",
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"This organization has been disabled."}}"#,
        )
    },
    Row {
        kind: "content_filter",
        goes_on: false,
        told: (403, 400),
        ..row(
            "flagged-openrouter",
            "openrouter",
            403,
            r#"{"error":{"message":"Your input was flagged","code":403,"metadata":{"reasons":["violence"],"flagged_input":"t","provider_name":"Anthropic"}}}"#,
        )
    },
    Row {
        kind: "content_filter",
        goes_on: false,
        told: (400, 400),
        ..row(
            "flagged-xai",
            "xai",
            403,
            r#"{"code":"The caller does not have permission to execute the specified operation","error":"Content violates usage guidelines. Team: 481c7584-ab46-4974-b86b-a4978384e229, API key ID: 481c7584-ab46-4974-b86b-a4978384e229, Failed check: SAFETY_CHECK_TYPE_BIO"}"#,
        )
    },
    Row {
        kind: "content_filter",
        goes_on: false,
        told: (400, 400),
        ..row(
            "flagged-azure",
            "openai",
            400,
            r#"{"error":{"message":"filtered","code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
        )
    },
    Row {
        kind: "place",
        ..row(
            "region",
            "openai",
            403,
            r#"{"error":{"code":"unsupported_country_region_territory","message":"Country, region, or territory not supported"}}"#,
        )
    },
    Row {
        kind: "place",
        ..row(
            "address",
            "openai",
            401,
            r#"{"error":{"message":"IP not authorized","code":"ip_not_authorized"}}"#,
        )
    },
    Row {
        kind: "auth",
        key_out: true,
        ..row(
            "key-of-gemini",
            "gemini",
            400,
            r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#,
        )
    },
    Row {
        kind: "auth",
        key_out: true,
        ..row(
            "key",
            "openai",
            401,
            r#"{"error":{"message":"Incorrect API key provided: sk-canary****wxyz. You can find your API key at https://platform.openai.com/account/api-keys.","code":"invalid_api_key"}}"#,
        )
    },
    Row {
        kind: "auth",
        ..row(
            "no-permission",
            "anthropic",
            403,
            r#"{"type":"error","error":{"type":"permission_error","message":"Your API key does not have permission to use the specified resource."}}"#,
        )
    },
    Row {
        kind: "model_not_found",
        ..row(
            "no-model",
            "openai",
            403,
            r#"{"error":{"message":"Project `proj_abc123` does not have access to model `m`","code":"model_not_found"}}"#,
        )
    },
    Row {
        kind: "context_window",
        told: (400, 400),
        ..row(
            "too-long",
            "kimi",
            400,
            r#"{"error":{"message":"Invalid request: Your request exceeded model token limit: 262144 (requested: 269030)","type":"invalid_request_error"}}"#,
        )
    },
    Row {
        kind: "context_window",
        told: (400, 400),
        ..row(
            "too-long-glm",
            "glm",
            400,
            r#"{"error":{"code":"1261","message":"Prompt exceeds max length"}}"#,
        )
    },
    Row {
        kind: "request_too_large",
        told: (413, 413),
        ..row(
            "too-large",
            "openai",
            413,
            "<html>413 Request Entity Too Large</html>",
        )
    },
    Row {
        kind: "rate_limited",
        told: (429, 429),
        ..row(
            "rate",
            "openai",
            429,
            r#"{"error":{"message":"Rate limit reached for m in organization org-a1b2c3d4e5 on tokens per min. Visit https://platform.openai.com/account/rate-limits.","code":"rate_limit_exceeded"}}"#,
        )
    },
    Row {
        kind: "overloaded",
        told: (503, 529),
        ..row(
            "overloaded",
            "anthropic",
            529,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
        )
    },
    Row {
        name: "server-error-of-4xx",
        body: r#"{"error":{"message":"no such field `x`","type":"server_error"}}"#,
        ..INVALID
    },
    Row {
        name: "invalid-with-a-pause",
        body: r#"{"error":{"message":"no such field `x`","type":"invalid_request_error","details":[{"retryDelay":"1s"}]}}"#,
        ..INVALID
    },
];

/// Words that no client may read.
const OPERATORS_WORDS: &[&str] = &[
    "credit balance",
    "billing",
    "organization",
    "API key",
    "country",
    "IP not",
    "proj_",
    "org-",
    "sk-canary",
    "481c7584",
    "https://",
];

/// A good target, the rows of the table, and models for the SDKs.
fn scripts() -> Vec<Script> {
    let good = r#"{"id":"c","model":"good","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
    let mut scripts = vec![Script::plain("good", good)];
    scripts.extend(
        ROWS.iter()
            .map(|row| failing(row.name, row.status, row.body)),
    );
    let pause = r#"{"error":{"message":"slow","code":"rate_limit_exceeded"}}"#;
    scripts.push(failing("hours", 429, pause).header("retry-after", "7200"));
    let event = r#"{"error":{"message":"Your credit balance is too low (org-a1b2c3d4e5)","type":"server_error"}}"#;
    // So long that the answer has begun at the client when the error comes.
    let text = "Hi".repeat(8 * 1024);
    let chunk = format!(
        r#"{{"id":"c","model":"m","choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]}}"#
    );
    let mut events = vec![&*chunk; 64];
    events.extend([event, "[DONE]"]);
    scripts.push(Script::stream("breaks", &events));
    scripts
}

fn failing(model: &str, status: u16, body: &str) -> Script {
    Script {
        status,
        ..Script::plain(model, body)
    }
}

/// Each row has a provider of its own, with a key, an alias with that target alone and one with another
/// behind it.
fn config(provider: &ScriptedProvider) -> String {
    let base_url = format!("http://{}/v1", provider.address);
    let entry = |name: &str, dialect: &str| {
        format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"{dialect}\"\nbase_url = \"{base_url}\"\n\
             keys = [\"sk-canary-{name}\"]\nallow_private = true\n\n"
        )
    };
    let mut config = entry("good", "openai");
    let more = [("hours", "openai"), ("breaks", "openai")];
    let rows = ROWS.iter().map(|row| (row.name, row.dialect));
    for (name, dialect) in rows.chain(more) {
        let target = format!(
            "{{ provider = \"{name}\", model = \"{name}\", context_window_tokens = 1000 }}"
        );
        config += &entry(name, dialect);
        config += &format!(
            "[[alias]]\nname = \"{name}-alone\"\ntargets = [{target}]\n\n\
             [[alias]]\nname = \"{name}-chain\"\ntargets = [{target}, {{ provider = \"good\", model = \"good\" }}]\n\n"
        );
    }
    config
}

#[test]
fn each_error_has_the_consequences_of_its_kind() {
    let provider = ScriptedProvider::start(scripts()).unwrap();
    let weir = Installation::new(&config(&provider)).unwrap();
    let key = weir.create_key("errors").unwrap();
    let _up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_until_known(&key).unwrap();
    weir.wait_for_store().unwrap();

    for row in ROWS {
        check_row(&weir, &key, &provider, row);
    }
    a_stream_hides_what_concerns_the_operator(&weir, &key);
    either_header_may_hold_the_key(&weir, &key, &provider);
    sdks_do_not_repeat_what_stays_wrong(&weir, &key, &provider);
}

fn check_row(weir: &Installation, key: &str, provider: &ScriptedProvider, row: &Row) {
    let Row { name, .. } = row;
    let answer = chat_request(key, &format!("{name}-chain"))
        .send(weir.gateway)
        .unwrap();
    assert_eq!(answer.status == 200, row.goes_on, "{name}: {answer:?}");
    let page = get(weir.gateway, "/metrics").unwrap();
    let out = format!("weir_provider_key_refused{{provider_key=\"{name}#1\"}} 1");
    assert_eq!(page.lines().any(|line| line == out), row.key_out, "{name}");
    let tries = provider.asked(name).len();
    assert!(
        tries == 1 || row.kind == "overloaded",
        "{name}: asked {tries} times"
    );

    let requests = [
        (chat_request(key, &format!("{name}-alone")), row.told.0),
        (messages_request(key, &format!("{name}-alone")), row.told.1),
    ];
    for (request, status) in requests {
        let told = request.send(weir.gateway).unwrap();
        assert_eq!(told.status, status, "{name}: {told:?}");
        assert_no_word_of_the_operators(name, &told);
        let is_final = status == 502;
        let should_retry = told.header("x-should-retry");
        assert_eq!(should_retry == Some("false"), is_final, "{name}: {told:?}");
    }
    let id = answer.request_id();
    let tried = format!(
        "SELECT count() FROM weir.attempts WHERE request_id = '{id}' AND provider = '{name}'"
    );
    weir.wait_for_number(&tried, tries as u64).unwrap();
    let kinds = format!(
        "SELECT DISTINCT error_kind, error_message FROM weir.attempts WHERE request_id = '{id}' AND provider = '{name}'"
    );
    let found = weir.sql(&kinds).unwrap();
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    assert_eq!(found[0]["error_kind"], row.kind, "{name}");
    assert!(
        !found[0]["error_message"].as_str().unwrap().is_empty(),
        "{name}"
    );
}

fn assert_no_word_of_the_operators(name: &str, told: &Answer) {
    let shown = format!("{told:?} {}", told.text());
    for word in OPERATORS_WORDS {
        assert!(!shown.contains(word), "{name}: {word} in {shown}");
    }
}

fn a_stream_hides_what_concerns_the_operator(weir: &Installation, key: &str) {
    for (path, body) in [
        ("/v1/chat/completions", ""),
        ("/v1/messages", "\"max_tokens\":9,"),
        ("/v1/responses", "\"input\":\"Hello\","),
    ] {
        let messages = r#""messages":[{"role":"user","content":"Hello"}],"#;
        let messages = if path == "/v1/responses" {
            ""
        } else {
            messages
        };
        let body = format!("{{\"model\":\"breaks-alone\",{messages}{body}\"stream\":true}}");
        let request = Request::post(path, body).bearer(key);
        let answer = request
            .header("anthropic-version", "2023-06-01")
            .send(weir.gateway)
            .unwrap();
        let text = answer.text();
        assert!(
            text.contains("Hi") && text.contains("operator sees the reason"),
            "{text}"
        );
        assert_no_word_of_the_operators(path, &answer);
    }
}

fn either_header_may_hold_the_key(weir: &Installation, key: &str, provider: &ScriptedProvider) {
    let other = "sk-ant-canary-of-the-client";
    let bearer = |key: &str| ("authorization", format!("Bearer {key}"));
    let cases = [
        (vec![bearer(other), ("x-api-key", key.to_owned())], 200),
        (vec![bearer(key), ("x-api-key", other.to_owned())], 200),
        (vec![bearer(""), ("x-api-key", key.to_owned())], 200),
        (vec![("api-key", key.to_owned())], 200),
        (vec![("x-goog-api-key", key.to_owned())], 200),
        (vec![bearer(other), ("x-api-key", other.to_owned())], 401),
        (vec![], 401),
    ];
    for (headers, status) in cases {
        let body = r#"{"model":"region-chain","messages":[{"role":"user","content":"Hello"}]}"#;
        let mut request = Request::post("/v1/chat/completions", body);
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        let answer = request.send(weir.gateway).unwrap();
        assert_eq!(answer.status, status, "{headers:?}");
    }
    for asked in provider.asked("good") {
        assert!(!asked.contains(other) && !asked.contains(key), "{asked}");
    }
}

fn sdks_do_not_repeat_what_stays_wrong(
    weir: &Installation,
    key: &str,
    provider: &ScriptedProvider,
) {
    // Anthropic's SDK would sleep for the two hours, if it were not told to give up.
    let calls = [
        ("no-model", "chat"),
        ("no-model", "messages"),
        ("hours", "messages"),
        ("server-error-of-4xx", "chat"),
        ("server-error-of-4xx", "messages"),
    ];
    let asked = || calls.map(|(model, _)| provider.asked(model).len());
    let before = asked();
    let found = Command::new(python())
        .arg("-B")
        .arg(repository().join("tests/clients/retries.py"))
        .args([&weir.base_url(), key])
        .args(calls.map(|(model, api)| format!("{model}-alone@{api}")))
        .output()
        .unwrap();
    assert!(found.status.success(), "{found:?}");
    let printed: Value = serde_json::from_slice(&found.stdout).unwrap();
    let more: Vec<usize> = asked()
        .iter()
        .zip(before)
        .map(|(now, before)| now - before)
        .collect();
    assert_eq!(more, [2, 2, 1, 2, 2], "one call of each client; {printed}");
    let aliases = 2 * (ROWS.len() as u64 + 2);
    assert_eq!(printed["listed"], serde_json::json!([aliases, aliases]));
}
