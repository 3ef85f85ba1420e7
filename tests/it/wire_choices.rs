//! Several answers to one chat request, from Google's bytes to the client and the bill.

use serde_json::{Value, json};
use weir_tests::http::Request;
use weir_tests::scripted::{Script, ScriptedProvider};
use weir_tests::weir::Installation;

const THREE: &str = r#"{"candidates":[{"content":{"parts":[{"text":"low"}],"role":"model"},"finishReason":"STOP","index":0},{"content":{"parts":[{"functionCall":{"name":"look","args":{"at":"weir"}}}],"role":"model"},"finishReason":"STOP","index":1},{"finishReason":"SAFETY","index":2}],"usageMetadata":{"promptTokenCount":1000,"candidatesTokenCount":300,"totalTokenCount":1300},"modelVersion":"m","responseId":"r"}"#;

fn config(base_url: &str) -> String {
    let alias = |name: &str, model: &str, unsupported: &str| {
        format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"gemini\"\nbase_url = \"{base_url}\"\n\
             unsupported = \"{unsupported}\"\n\n[[alias]]\nname = \"{name}\"\n\
             targets = [{{ provider = \"{name}\", model = \"{model}\" }}]\n\n"
        )
    };
    alias("several", "gemini-2.5-flash", "refuse") + &alias("one", "gemini-3.5-flash", "drop")
}

#[test]
fn several_answers_of_google_are_several_choices_in_one_bill() {
    let provider = ScriptedProvider::start(vec![Script::plain("", THREE)]).unwrap();
    let weir = Installation::new(&config(&format!("http://{}/v1beta", provider.address))).unwrap();
    let key = weir.create_key("choices").unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    let send = |alias: &str, stream: bool| {
        let body = json!({"model": alias, "n": 3, "stream": stream,
            "messages": [{"role": "user", "content": "How high is the water?"}]});
        let request = Request::post("/v1/chat/completions", body.to_string())
            .bearer(&key)
            .header("content-type", "application/json");
        request.send(weir.gateway).unwrap()
    };

    let answer = send("several", false);
    assert_eq!(answer.status, 200, "{answer:?}");
    let body: Value = serde_json::from_str(&answer.text()).unwrap();
    let choices = body["choices"].as_array().unwrap().iter();
    let ends = choices.map(|choice| (&choice["index"], &choice["finish_reason"]));
    let expect = ["stop", "tool_calls", "content_filter"].map(Value::from);
    let indexes = [0, 1, 2].map(Value::from);
    assert_eq!(
        Vec::from_iter(ends),
        Vec::from_iter(indexes.iter().zip(&expect))
    );
    assert_eq!(body["choices"][0]["message"]["content"], "low");
    let call = &body["choices"][1]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["arguments"], r#"{"at":"weir"}"#);
    assert_eq!(body["usage"]["completion_tokens"], 300);

    let refusal = send("several", true);
    assert_eq!(refusal.status, 400, "{refusal:?}");
    assert!(refusal.text().contains("`n (in a stream)`"), "{refusal:?}");

    let answer = send("one", false);
    assert!(answer.head.contains("x-weir-dropped: n\r\n"), "{answer:?}");
    let body: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(body["choices"].as_array().unwrap().len(), 1, "{body}");

    weir.wait_for_number("SELECT count() FROM weir.requests", 3)
        .unwrap();
    let rows = weir
        .sql(
            "SELECT output_tokens AS tokens, toDecimalString(cost_usd, 6) AS cost, finish_reason AS reason \
             FROM weir.requests WHERE provider = 'several' AND status = 200",
        )
        .unwrap();
    let row = &rows[0];
    assert_eq!(row["tokens"].to_string().trim_matches('"'), "300", "{row}");
    // 1000 tokens of input at $0.30 a million, 300 of output at $2.50.
    assert_eq!(row["cost"], "0.001050", "{row}");
    assert_eq!(row["reason"], "stop", "{row}");
    up.stop().unwrap();
}
