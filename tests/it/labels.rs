//! Whom and what a call is for, as applications say it in each API, arrives in the tables.

use std::fs;

use serde_json::{Value, json};
use weir_loadtest::mock::{MockOptions, MockProvider};
use weir_tests::gateway::config;
use weir_tests::http::{Answer, Request};
use weir_tests::weir::Installation;

/// One call and what the tables must say of it, as `[user, customer, feature, tags]`.
struct Case {
    path: &'static str,
    headers: String,
    body: Value,
    expected: Value,
}

fn cases() -> Vec<Case> {
    let case = |path, headers: &str, body: Value, expected| Case {
        path,
        headers: headers.to_owned(),
        body,
        expected,
    };
    let long = "x".repeat(5_000);
    let many: Vec<String> = (10..90).map(|n| format!("k{n}=v")).collect();
    let first: serde_json::Map<String, Value> =
        (10..26).map(|n| (format!("k{n}"), "v".into())).collect();
    vec![
        case(
            "/v1/chat/completions",
            "",
            json!({ "user": "ana" }),
            json!(["ana", "ana", "", {}]),
        ),
        case(
            "/v1/chat/completions",
            "",
            json!({ "safety_identifier": "hash-1", "user": "old", "metadata": { "feature": "search", "run": "7" } }),
            json!(["hash-1", "hash-1", "search", { "run": "7" }]),
        ),
        case(
            "/v1/responses",
            "x-weir-customer: acme\r\n",
            json!({ "safety_identifier": "hash-2", "metadata": { "customer": "not this", "zone": "eu" } }),
            json!(["hash-2", "acme", "", { "zone": "eu" }]),
        ),
        case(
            "/v1/messages",
            "",
            json!({ "metadata": { "user_id": "u-9" } }),
            json!(["u-9", "u-9", "", {}]),
        ),
        case(
            "/v1/chat/completions",
            "x-weir-customer: acme\r\nx-weir-feature: onboarding\r\nx-weir-tag-run: nightly\r\nbaggage: weir.customer=no,region=eu%20west;p=1\r\n",
            json!({ "metadata": { "run": "not this" } }),
            json!(["", "acme", "onboarding", { "run": "nightly", "region": "eu west" }]),
        ),
        case(
            "/v1/chat/completions",
            &format!("x-weir-feature: {long}\r\nbaggage: {}\r\n", many.join(",")),
            json!({ "metadata": { "more": "than fits" } }),
            json!(["", "", "x".repeat(256), first]),
        ),
    ]
}

fn call(weir: &Installation, key: &str, number: usize, case: &Case) -> Answer {
    let mut body = json!({ "model": "fast-chat", "max_tokens": 5 });
    let input = if case.path == "/v1/responses" {
        body.as_object_mut().unwrap().remove("max_tokens");
        "input"
    } else {
        "messages"
    };
    body[input] = json!([{ "role": "user", "content": "Hello" }]);
    let fields = case.body.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    Request::post(case.path, body.to_string())
        .bearer(key)
        .header("x-request-id", &format!("case-{number}"))
        .header_lines(&case.headers)
        .send(weir.gateway)
        .unwrap()
}

#[test]
fn what_applications_say_of_a_call_is_in_both_tables_and_bounded() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let weir = Installation::new(&config(&mock)).unwrap();
    let text = fs::read_to_string(weir.config()).unwrap();
    // A field that the provider has not is left out, so that each API reaches the same one.
    let text = text.replacen(
        "dialect = \"openai\"\n",
        "dialect = \"openai\"\nunsupported = \"drop\"\n",
        1,
    );
    fs::write(weir.config(), text).unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready()
        .unwrap_or_else(|error| panic!("{error}\n{}", up.log()));
    let key = weir.create_key("growth").unwrap();
    weir.wait_until_known(&key).unwrap();
    let cases = cases();
    for (number, case) in cases.iter().enumerate() {
        let answer = call(&weir, &key, number, case);
        assert_eq!(answer.status, 200, "case {number}: {answer:?}");
    }

    weir.wait_for_store()
        .unwrap_or_else(|error| panic!("{error}\n{}", up.log()));
    let count = cases.len() as u64;
    weir.wait_for_number("SELECT count() FROM weir.requests", count)
        .unwrap();
    let rows = |table: &str| {
        let statement = format!(
            "SELECT r.client_request_id AS id, t.user AS user, t.customer AS customer, \
             t.feature AS feature, t.tags AS tags FROM weir.{table} AS t \
             INNER JOIN weir.requests AS r ON r.request_id = t.request_id ORDER BY id"
        );
        weir.sql(&statement).unwrap()
    };
    for table in ["requests", "attempts"] {
        let rows = rows(table);
        assert_eq!(rows.len(), cases.len());
        for (case, row) in cases.iter().zip(&rows) {
            let said = json!([row["user"], row["customer"], row["feature"], row["tags"]]);
            assert_eq!(said, case.expected, "{table}: {row}");
        }
    }
    up.stop().unwrap();
}
