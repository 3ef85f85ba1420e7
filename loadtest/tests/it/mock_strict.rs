//! The mock that refuses what the real API refuses, through its HTTP door.

use weir_loadtest::mock::{MockHandle, MockOptions, MockProvider};

use crate::http::post;

/// A mock that refuses what the vendor refuses.
fn strict(vendor: &str) -> MockHandle {
    MockProvider::start(MockOptions {
        strict: true,
        vendor: vendor.to_owned(),
        ..MockOptions::default()
    })
    .unwrap()
}

#[test]
fn a_strict_mock_refuses_in_the_real_apis_envelope_and_counts_by_rule() {
    let mock = strict("");
    let chat = r#"{"model":"gpt-4.1","messages":[{"role":"user","content":"hi"}]"#;
    let answer = post(
        mock.addr(),
        "/v1/chat/completions",
        &[],
        &format!("{chat}}}"),
    );
    assert_eq!(answer.status, 200);
    let answer = post(
        mock.addr(),
        "/v1/chat/completions",
        &[],
        &format!("{chat},\"top_k\":5}}"),
    );
    assert_eq!(answer.status, 400);
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "unknown_parameter");
    assert_eq!(error["param"], "top_k");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("unknown-field, https://platform.openai.com/"),
        "{message}"
    );
    let version = [("anthropic-version", "2023-06-01")];
    let body = r#"{"model":"claude-opus-4-8","max_tokens":9,"temperature":0.2,"messages":[{"role":"user","content":"hi"}]}"#;
    let answer = post(mock.addr(), "/v1/messages", &version, body);
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["type"], "error");
    let body = r#"{"contents":[]}"#;
    let answer = post(
        mock.addr(),
        "/v1beta/models/gemini-2.5-pro:generateContent",
        &[],
        body,
    );
    assert_eq!(answer.json()["error"]["status"], "INVALID_ARGUMENT");
    let ledger = mock.ledger();
    let refused = [("sampling", 1), ("some-contents", 1), ("unknown-field", 1)];
    assert_eq!(
        ledger.refused,
        refused.map(|(rule, count)| (rule.to_owned(), count)).into()
    );
    assert_eq!(ledger.total.by_status, [(200, 1), (400, 3)].into());
    assert_eq!(ledger.by_model["gemini-2.5-pro"].calls, 1);
}

#[test]
fn a_vendor_that_is_not_known_is_refused_with_the_names_that_are() {
    let options = MockOptions {
        vendor: "grok4".to_owned(),
        ..MockOptions::default()
    };
    let error = MockProvider::start(options).unwrap_err().to_string();
    assert!(error.contains("azure"), "{error}");
}
