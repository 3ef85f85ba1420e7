//! What calls cost by the built-in price book, from the provider's bytes to SQL: every kind of meter,
//! and the reason where there is no price. Then the same calls priced again with another book.

use std::fs;

use serde_json::{Value, json};
use weir_schemas::Usage;
use weir_tests::http::{Answer, Request};
use weir_tests::scripted::{Script, ScriptedProvider};
use weir_tests::weir::Installation;

/// One call of one model: what its provider answers, and what it costs.
struct BilledCall {
    name: &'static str,
    dialect: &'static str,
    /// Behind the host.
    base_path: &'static str,
    model: &'static str,
    answer: String,
    /// Dollars, or why there are none.
    bill: Result<&'static str, &'static str>,
}

fn chat(model: &str, rest: &str) -> String {
    format!(
        r#"{{"id":"c","model":"{model}","choices":[{{"index":0,"message":{{"role":"assistant","content":"a weir"}},"finish_reason":"stop"}}],{rest}}}"#
    )
}

fn claude(usage: &str) -> String {
    format!(
        r#"{{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{{"type":"text","text":"a weir"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{usage}}}"#
    )
}

fn gemini(usage: &str) -> String {
    format!(
        r#"{{"candidates":[{{"content":{{"parts":[{{"text":"a weir"}}],"role":"model"}},"finishReason":"STOP","index":0}}],"usageMetadata":{usage},"modelVersion":"m","responseId":"r"}}"#
    )
}

fn at_claude(
    name: &'static str,
    model: &'static str,
    usage: &str,
    bill: Result<&'static str, &'static str>,
) -> BilledCall {
    BilledCall {
        name,
        dialect: "anthropic",
        base_path: "/v1",
        model,
        answer: claude(usage),
        bill,
    }
}

fn at_openrouter(
    name: &'static str,
    model: &'static str,
    rest: &str,
    bill: Result<&'static str, &'static str>,
) -> BilledCall {
    BilledCall {
        name,
        dialect: "openrouter",
        base_path: "/v1",
        model,
        answer: chat(model, rest),
        bill,
    }
}

fn at_google(
    name: &'static str,
    model: &'static str,
    usage: &str,
    bill: Result<&'static str, &'static str>,
) -> BilledCall {
    BilledCall {
        name,
        dialect: "vertex",
        base_path: "/v1/projects/p/locations/global/publishers/google",
        model,
        answer: gemini(usage),
        bill,
    }
}

/// Claude's place of inference, other models and tools.
fn claude_calls() -> Vec<BilledCall> {
    let opus = "claude-opus-4-8";
    let tokens = r#"{"input_tokens":1000,"output_tokens":100}"#;
    let searched = r#"{"input_tokens":1000,"output_tokens":100,"server_tool_use":{"web_search_requests":1,"web_fetch_requests":0}}"#;
    let container =
        r#""container":{"id":"container_1","expires_at":"2026-11-30T12:00:00Z"},"usage""#;
    let geo = |geo: &str| {
        format!(r#"{{"input_tokens":50000,"output_tokens":2600,"inference_geo":"{geo}"}}"#)
    };
    vec![
        at_claude("geo_global", opus, &geo("global"), Ok("0.315")),
        at_claude("geo_us", opus, &geo("us"), Ok("0.3465")),
        at_claude(
            "geo_unknown",
            opus,
            &geo("eu"),
            Err("the price book has no price for a model that ran in \"eu\""),
        ),
        at_claude(
            "compaction",
            "claude-sonnet-4-6",
            r#"{"input_tokens":23000,"output_tokens":1000,"iterations":[{"type":"compaction","input_tokens":90000,"output_tokens":3500},{"type":"message","input_tokens":23000,"output_tokens":1000}]}"#,
            Ok("0.4065"),
        ),
        at_claude(
            "advisor",
            "claude-haiku-4-5",
            r#"{"input_tokens":10000,"output_tokens":1000,"iterations":[{"type":"message","input_tokens":10000,"output_tokens":1000},{"type":"advisor_message","model":"claude-opus-4-8","input_tokens":20000,"output_tokens":2000}]}"#,
            Ok("0.165"),
        ),
        at_claude(
            "unknown_advisor",
            "claude-haiku-4-5",
            r#"{"input_tokens":10000,"output_tokens":1000,"iterations":[{"type":"message","input_tokens":10000,"output_tokens":1000},{"type":"advisor_message","model":"opus-of-ours","input_tokens":20000,"output_tokens":2000}]}"#,
            Err("the call also used \"opus-of-ours\": the price book does not have the model"),
        ),
        at_claude(
            "web_search",
            opus,
            r#"{"input_tokens":1000,"output_tokens":100,"server_tool_use":{"web_search_requests":3,"web_fetch_requests":2}}"#,
            Ok("0.0375"),
        ),
        BilledCall {
            answer: claude(tokens).replace(r#""usage""#, container),
            ..at_claude(
                "code",
                opus,
                tokens,
                Err("the price book has no price for code executions"),
            )
        },
        BilledCall {
            answer: claude(searched).replace(r#""usage""#, container),
            ..at_claude("code_beside_search", opus, searched, Ok("0.0175"))
        },
    ]
}

/// Google's modalities, and Vertex AI's kinds of traffic, each by its name in `trafficType`.
fn google_calls() -> Vec<BilledCall> {
    vec![
        at_google(
            "image_out",
            "gemini-3-pro-image-preview",
            r#"{"promptTokenCount":100,"candidatesTokenCount":1320,"totalTokenCount":1420,"candidatesTokensDetails":[{"modality":"TEXT","tokenCount":200},{"modality":"IMAGE","tokenCount":1120}]}"#,
            Ok("0.137"),
        ),
        at_google(
            "cached_audio",
            "gemini-2.5-flash",
            r#"{"promptTokenCount":10000,"cachedContentTokenCount":8000,"candidatesTokenCount":100,"totalTokenCount":10100,"promptTokensDetails":[{"modality":"TEXT","tokenCount":1000},{"modality":"AUDIO","tokenCount":9000}],"cacheTokensDetails":[{"modality":"AUDIO","tokenCount":8000}]}"#,
            Ok("0.00235"),
        ),
        at_google(
            "vertex_on_demand",
            "gemini-2.5-flash",
            r#"{"promptTokenCount":1000,"candidatesTokenCount":100,"totalTokenCount":1100,"trafficType":"ON_DEMAND"}"#,
            Ok("0.00055"),
        ),
        at_google(
            "vertex_flex",
            "gemini-2.5-flash",
            r#"{"promptTokenCount":1000,"candidatesTokenCount":100,"totalTokenCount":1100,"trafficType":"ON_DEMAND_FLEX"}"#,
            Err("the price book has no prices of service tier \"flex\""),
        ),
        at_google(
            "vertex_priority",
            "gemini-2.5-flash",
            r#"{"promptTokenCount":1000,"candidatesTokenCount":100,"totalTokenCount":1100,"trafficType":"ON_DEMAND_PRIORITY"}"#,
            Err("the price book has no prices of service tier \"priority\""),
        ),
        at_google(
            "vertex_provisioned",
            "gemini-2.5-flash",
            r#"{"promptTokenCount":1000,"candidatesTokenCount":100,"totalTokenCount":1100,"trafficType":"PROVISIONED_THROUGHPUT"}"#,
            Err("the price book has no prices of service tier \"provisioned_throughput\""),
        ),
        at_google(
            "vertex_unspecified",
            "gemini-2.5-flash",
            r#"{"promptTokenCount":1000,"candidatesTokenCount":100,"totalTokenCount":1100,"trafficType":"TRAFFIC_TYPE_UNSPECIFIED"}"#,
            Ok("0.00055"),
        ),
    ]
}

/// OpenRouter's tier, what it gives away, and a tool without a fee; Azure's deployments.
fn other_calls() -> Vec<BilledCall> {
    let usage = r#""usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}"#;
    let haiku = "anthropic/claude-haiku-4.5";
    let searched = r#""usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100,"server_tool_use":{"web_search_requests":1}}"#;
    let provisioned = format!(r#""service_tier":"provisioned",{usage}"#);
    vec![
        at_openrouter("provisioned", haiku, &provisioned, Ok("0.0015")),
        at_openrouter("free", "qwen/whatever-comes:free", usage, Ok("0")),
        BilledCall {
            answer: chat("anthropic/claude-4.5-haiku-20251001", usage),
            ..at_openrouter(
                "free_fell_back",
                "qwen/whatever-comes:free",
                usage,
                Ok("0.0015"),
            )
        },
        BilledCall {
            answer: chat("qwen/newest-of-all", usage),
            ..at_openrouter(
                "free_fell_back_unknown",
                "qwen/whatever-comes:free",
                usage,
                Err("the price book does not have the model"),
            )
        },
        at_openrouter(
            "search_without_fee",
            haiku,
            searched,
            Err("the price book has no price for web searches"),
        ),
        BilledCall {
            name: "azure_own_name",
            dialect: "azure-deployments",
            base_path: "/openai",
            model: "our-small-one",
            answer: chat("gpt-4o-mini-2024-07-18", usage),
            bill: Ok("0.00021"),
        },
        BilledCall {
            name: "azure_deployments",
            dialect: "azure-deployments",
            base_path: "/openai",
            model: "gpt-4o-mini",
            answer: chat("gpt-4o-mini-2024-07-18", usage),
            bill: Ok("0.00021"),
        },
        BilledCall {
            name: "unknown",
            dialect: "openai",
            base_path: "/v1",
            model: "gpt-of-ours",
            answer: chat("gpt-of-ours", usage),
            bill: Err("the price book does not have the model"),
        },
    ]
}

fn config(calls: &[BilledCall], providers: &[ScriptedProvider]) -> String {
    let of_call = |(call, provider): (&BilledCall, &ScriptedProvider)| {
        let BilledCall {
            name,
            dialect,
            base_path,
            model,
            ..
        } = call;
        let version = match *dialect {
            "azure-deployments" => "api_version = \"2024-10-21\"\n",
            _ => "",
        };
        format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"{dialect}\"\n{version}\
             base_url = \"http://{}{base_path}\"\n\n\
             [[alias]]\nname = \"{name}\"\ntargets = [{{ provider = \"{name}\", model = \"{model}\" }}]\n\n",
            provider.address
        )
    };
    calls.iter().zip(providers).map(of_call).collect()
}

/// In the form of SQL's `Decimal(38, 12)`.
fn dollars(amount: &str) -> Value {
    let (whole, part) = amount.split_once('.').unwrap_or((amount, ""));
    json!(format!("{whole}.{part:0<12}"))
}

fn rows(weir: &Installation, table: &str) -> Vec<Value> {
    weir.sql(&format!(
        "SELECT provider, toDecimalString(cost_usd, 12) AS cost, unpriced_reason, price_version, \
         other_models, inference_geo, web_searches, image_output_tokens FROM weir.{table}"
    ))
    .unwrap()
}

fn row<'r>(rows: &'r [Value], name: &str) -> &'r Value {
    rows.iter().find(|row| row["provider"] == name).unwrap()
}

#[test]
fn every_kind_of_meter_is_in_the_bill_or_says_why_not() {
    let calls: Vec<BilledCall> = [claude_calls(), google_calls(), other_calls()]
        .into_iter()
        .flatten()
        .collect();
    let providers: Vec<ScriptedProvider> = calls
        .iter()
        .map(|call| ScriptedProvider::start(vec![Script::plain("", &call.answer)]).unwrap())
        .collect();
    let weir = Installation::new(&config(&calls, &providers)).unwrap();
    let key = weir.create_key("billed").unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    for call in &calls {
        let answer = ask(&weir, &key, call.name);
        assert_eq!(answer.status, 200, "{}: {answer:?}", call.name);
    }
    weir.wait_for_number("SELECT count() FROM weir.requests", calls.len() as u64)
        .unwrap();
    for table in ["requests", "attempts"] {
        let rows = rows(&weir, table);
        for call in &calls {
            check(call, row(&rows, call.name));
        }
    }
    check_meters(&weir);
    rerate(&weir, &calls);
    a_budget_in_money_knows_what_a_call_may_cost(&weir);
    up.stop().unwrap();
}

fn ask(weir: &Installation, key: &str, alias: &str) -> Answer {
    let body = format!(
        r#"{{"model":"{alias}","messages":[{{"role":"user","content":"What is a weir?"}}]}}"#
    );
    let request = Request::post("/v1/chat/completions", body)
        .bearer(key)
        .header("content-type", "application/json");
    request.send(weir.gateway).unwrap()
}

/// Before a call there is only the name of the model that is asked for.
fn a_budget_in_money_knows_what_a_call_may_cost(weir: &Installation) {
    let args = [
        "budgets", "set", "thrift", "--team", "thrifty", "--usd", "5",
    ];
    weir.run(&args).unwrap();
    let key = weir.create_key("thrifty").unwrap();
    weir.wait_until_known(&key).unwrap();
    for (alias, status) in [
        ("vertex_on_demand", 200),
        ("azure_deployments", 200),
        ("provisioned", 200),
        ("free", 200),
        ("azure_own_name", 403),
    ] {
        let answer = ask(weir, &key, alias);
        assert_eq!(answer.status, status, "{alias}: {answer:?}");
        if status == 403 {
            let message = answer.message();
            assert!(
                message.contains("[[price]]"),
                "it says what helps: {message}"
            );
        }
    }
}

/// The view by day has every count that requests have, and the same sums of them and of the cost.
fn check_meters(weir: &Installation) {
    let counts = Usage::NAMES
        .into_iter()
        .chain(["cost_usd", "waste_usd"])
        .map(|name| format!("toString(sum({name})) AS {name}"));
    let sums = counts.collect::<Vec<_>>().join(", ");
    let of = |table: &str| {
        weir.sql(&format!("SELECT {sums} FROM weir.{table}"))
            .unwrap()
    };
    let rows = of("requests");
    assert_eq!(of("meters_by_day"), rows);
    assert!(rows[0]["image_output_tokens"].is_string(), "{rows:?}");
    let reasons = "SELECT sum(requests) FROM weir.meters_by_day WHERE unpriced_reason != ''";
    let unpriced = "SELECT countIf(cost_usd IS NULL) FROM weir.requests";
    assert_eq!(
        weir.number(reasons).unwrap(),
        weir.number(unpriced).unwrap()
    );
}

fn check(call: &BilledCall, row: &Value) {
    let (cost, reason) = match call.bill {
        Ok(amount) => (dollars(amount), ""),
        Err(reason) => (Value::Null, reason),
    };
    assert_eq!(row["cost"], cost, "{}: {row}", call.name);
    assert_eq!(row["unpriced_reason"], reason, "{}: {row}", call.name);
    let is_priced = row["price_version"] != "";
    assert_eq!(is_priced, call.bill.is_ok(), "{}: {row}", call.name);
    match call.name {
        "geo_us" => assert_eq!(row["inference_geo"], "us"),
        "advisor" => {
            let advisor = &row["other_models"]["claude-opus-4-8"];
            assert_eq!(
                advisor["input_tokens"].to_string().trim_matches('"'),
                "20000",
                "{row}"
            );
        }
        "web_search" => assert_eq!(
            row["web_searches"].to_string().trim_matches('"'),
            "3",
            "{row}"
        ),
        "image_out" => {
            assert_eq!(
                row["image_output_tokens"].to_string().trim_matches('"'),
                "1120",
                "{row}"
            );
        }
        _ => {}
    }
}

/// With the same book nothing changes; prices of one's own change what they are for, and a price that
/// lacks what a call used takes its cost away and says why.
fn rerate(weir: &Installation, calls: &[BilledCall]) {
    let rerated = |options: &[&str]| -> Value {
        let args = [
            &["prices", "rerate", "--since", "2020-01-01", "--json"],
            options,
        ]
        .concat();
        serde_json::from_slice(&weir.run(&args).unwrap().stdout).unwrap()
    };
    let unchanged = rerated(&["--dry-run"]);
    assert_eq!(unchanged["tries"], calls.len(), "{unchanged}");
    assert_eq!(unchanged["corrected"], 0, "{unchanged}");
    let own = "[[price]]\nprovider = \"unknown\"\nmodel = \"*\"\ninput = \"1\"\noutput = \"2\"\n\n\
        [[price]]\nprovider = \"geo_unknown\"\nmodel = \"*\"\ninput = \"5\"\noutput = \"25\"\ngeo_factors = { eu = \"1.2\" }\n\n\
        [[price]]\nprovider = \"web_search\"\nmodel = \"*\"\ninput = \"5\"\noutput = \"25\"\n";
    let config = fs::read_to_string(weir.config()).unwrap() + own;
    fs::write(weir.config(), config).unwrap();
    assert_eq!(rerated(&[])["corrected"], 3);
    weir.wait_for_number("SELECT count() FROM weir.corrections", 3)
        .unwrap();
    let corrected = |name: &str| {
        let sql = format!(
            "SELECT toDecimalString(c.cost_usd, 12) AS cost, c.unpriced_reason AS reason FROM weir.corrections AS c \
             JOIN weir.attempts AS a ON a.request_id = c.request_id WHERE a.provider = '{name}'"
        );
        weir.sql(&sql).unwrap().remove(0)
    };
    assert_eq!(
        corrected("unknown"),
        json!({"cost": dollars("0.0012"), "reason": ""})
    );
    assert_eq!(
        corrected("geo_unknown"),
        json!({"cost": dollars("0.378"), "reason": ""})
    );
    let reason = "the price book has no price for web searches";
    assert_eq!(
        corrected("web_search"),
        json!({"cost": null, "reason": reason})
    );
}
