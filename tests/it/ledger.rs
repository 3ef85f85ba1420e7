//! What each answer cost, from the provider's bytes to SQL: every kind of token, every tier, every
//! try, against sums that the test works out itself, to the picodollar.

use std::net::Shutdown;

use serde_json::Value;
use weir_tests::http::{Answer, Request, get};
use weir_tests::scripted::{Script, ScriptedProvider};
use weir_tests::weir::{Installation, Process, wait_for};

/// Prices in millionths of a dollar per million tokens, which is picodollars per token: primes, so
/// that no two mistakes make a right sum.
const INPUT: i64 = 3_000_017;
const CACHED: i64 = 300_007;
const WRITE_5M: i64 = 3_750_013;
const WRITE_1H: i64 = 6_000_011;
const AUDIO_IN: i64 = 40_000_003;
const OUTPUT: i64 = 15_000_017;
const REASONING: i64 = 12_000_017;
const AUDIO_OUT: i64 = 80_000_023;
/// Picodollars for one search, in any tier: ten dollars for a thousand.
const SEARCH: i64 = 10_000_000_000;
/// Flex costs half, priority double; there is no other tier.
const FLEX: i64 = 1;
const STANDARD: i64 = 2;
const PRIORITY: i64 = 4;

/// A call, its provider's answer, and what SQL must say of it.
struct Case {
    model: String,
    dialect: &'static str,
    path: &'static str,
    streamed: bool,
    script: Script,
    /// Picodollars by the prices above; `None` if it must be unpriced.
    cost: Option<i64>,
    tier: &'static str,
    source: &'static str,
}

/// Tokens of each kind, the parts not counted in the wholes.
#[derive(Default)]
struct Oracle {
    input: i64,
    cached: i64,
    write_5m: i64,
    write_1h: i64,
    audio_in: i64,
    output: i64,
    reasoning: i64,
    audio_out: i64,
    searches: i64,
}

impl Oracle {
    fn cost(&self, tier: i64) -> i64 {
        let at_standard = self.input * INPUT
            + self.cached * CACHED
            + self.write_5m * WRITE_5M
            + self.write_1h * WRITE_1H
            + self.audio_in * AUDIO_IN
            + self.output * OUTPUT
            + self.reasoning * REASONING
            + self.audio_out * AUDIO_OUT;
        let (cost, rest) = (at_standard * tier / STANDARD, at_standard * tier % STANDARD);
        // Half a picodollar goes to the even side.
        cost + rest * (cost % 2) + self.searches * SEARCH
    }
}

const CHAT: &str = "/v1/chat/completions";
const CHUNK: &str =
    r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"a weir"}}]}"#;
const STOP: &str =
    r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const DONE: &str = "[DONE]";
const CHAT_USAGE: &str = r#""usage":{"prompt_tokens":1000,"completion_tokens":200,"total_tokens":1200,"prompt_tokens_details":{"cached_tokens":300,"audio_tokens":50},"completion_tokens_details":{"reasoning_tokens":80,"audio_tokens":20}}"#;
const CHAT_TOKENS: Oracle = Oracle {
    input: 650,
    cached: 300,
    audio_in: 50,
    output: 100,
    reasoning: 80,
    audio_out: 20,
    write_5m: 0,
    write_1h: 0,
    searches: 0,
};

fn chat_body(tier: &str) -> String {
    format!(
        r#"{{"id":"c","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"a weir"}},"finish_reason":"stop"}}],{CHAT_USAGE},"service_tier":{tier}}}"#
    )
}

/// The last chunk of a stream, with what was used.
fn chat_usage_chunk(tier: &str) -> String {
    format!(r#"{{"id":"c","model":"m","service_tier":{tier},"choices":[],{CHAT_USAGE}}}"#)
}

const CLAUDE_TOKENS: Oracle = Oracle {
    input: 100,
    cached: 400,
    write_5m: 200,
    write_1h: 30,
    audio_in: 0,
    output: 55,
    reasoning: 70,
    audio_out: 0,
    searches: 2,
};
const CLAUDE_STREAM: [&str; 6] = [
    r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":100,"cache_read_input_tokens":400,"cache_creation_input_tokens":230,"cache_creation":{"ephemeral_5m_input_tokens":200,"ephemeral_1h_input_tokens":30},"output_tokens":1,"service_tier":"standard"}}}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a weir"}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":125,"output_tokens_details":{"thinking_tokens":70},"server_tool_use":{"web_search_requests":2,"web_fetch_requests":0}}}"#,
    r#"{"type":"message_stop"}"#,
];

fn claude_body(speed: &str) -> String {
    format!(
        r#"{{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{{"type":"text","text":"a weir"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":100,"cache_read_input_tokens":400,"cache_creation_input_tokens":230,"cache_creation":{{"ephemeral_5m_input_tokens":200,"ephemeral_1h_input_tokens":30}},"output_tokens":125,"output_tokens_details":{{"thinking_tokens":70}},"service_tier":"standard"{speed},"server_tool_use":{{"web_search_requests":2}}}}}}"#
    )
}

const RESPONSE_TOKENS: Oracle = Oracle {
    input: 300,
    cached: 200,
    write_5m: 0,
    write_1h: 0,
    audio_in: 0,
    output: 26,
    reasoning: 64,
    audio_out: 0,
    searches: 0,
};
const RESPONSE_USAGE: &str = r#"{"input_tokens":500,"input_tokens_details":{"cached_tokens":200},"output_tokens":90,"output_tokens_details":{"reasoning_tokens":64},"total_tokens":590}"#;
const RESPONSE_DELTA: &str = r#"{"type":"response.output_text.delta","sequence_number":1,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"a weir"}"#;

fn response(tier: &str, status: &str, usage: &str) -> String {
    format!(
        r#"{{"id":"resp_1","object":"response","status":"{status}","model":"m","service_tier":"{tier}","output":[{{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{{"type":"output_text","text":"a weir","annotations":[]}}]}}],"usage":{usage}}}"#
    )
}

/// An event of a stream that carries the response so far.
fn response_event(number: u32, kind: &str, response: &str) -> String {
    format!(r#"{{"type":"response.{kind}","sequence_number":{number},"response":{response}}}"#)
}

const GEMINI_TOKENS: Oracle = Oracle {
    input: 85,
    cached: 40,
    write_5m: 0,
    write_1h: 0,
    audio_in: 10,
    output: 20,
    reasoning: 300,
    audio_out: 0,
    searches: 0,
};

fn gemini_body(traffic: &str) -> String {
    format!(
        r#"{{"candidates":[{{"content":{{"parts":[{{"text":"a weir"}}],"role":"model"}},"finishReason":"STOP","index":0}}],"usageMetadata":{{"promptTokenCount":120,"cachedContentTokenCount":40,"candidatesTokenCount":20,"thoughtsTokenCount":300,"toolUsePromptTokenCount":15,"totalTokenCount":455,"promptTokensDetails":[{{"modality":"TEXT","tokenCount":110}},{{"modality":"AUDIO","tokenCount":10}}]{traffic}}},"modelVersion":"m","responseId":"r"}}"#
    )
}

/// A dialect's calls, all to one path.
struct Cases {
    dialect: &'static str,
    path: &'static str,
    tokens: Oracle,
}

impl Cases {
    /// `cost_of` is the factor of the tier; `None` if the tier has no price.
    fn whole(&self, script: Script, cost_of: Option<i64>, tier: &'static str) -> Case {
        Case {
            model: script.model.clone(),
            dialect: self.dialect,
            path: self.path,
            streamed: false,
            script,
            cost: cost_of.map(|factor| self.tokens.cost(factor)),
            tier,
            source: "reported",
        }
    }

    fn streamed(&self, script: Script, cost_of: Option<i64>, tier: &'static str) -> Case {
        Case {
            streamed: true,
            ..self.whole(script, cost_of, tier)
        }
    }
}

fn cases() -> Vec<Case> {
    let of = |dialect, path, tokens| Cases {
        dialect,
        path,
        tokens,
    };
    let chat = of("openai", CHAT, CHAT_TOKENS);
    let claude = of("anthropic", "/v1/messages", CLAUDE_TOKENS);
    let responses = of("openai-responses", "/v1/responses", RESPONSE_TOKENS);
    let gemini = of("gemini", CHAT, GEMINI_TOKENS);
    let whole = |model: &str, body: &str| Script::plain(model, body);
    let flex = chat_usage_chunk("\"flex\"");
    let begun = response_event(0, "created", &response("auto", "in_progress", "null"));
    let done = response("priority", "completed", RESPONSE_USAGE);
    let done = response_event(2, "completed", &done);
    let on_demand = gemini_body(r#","trafficType":"ON_DEMAND_FLEX""#);
    vec![
        chat.whole(
            whole("chat-plain", &chat_body("\"default\"")),
            Some(STANDARD),
            "default",
        ),
        chat.whole(
            whole("chat-silent-on-tier", &chat_body("null")),
            Some(STANDARD),
            "",
        ),
        chat.whole(
            whole("chat-priority", &chat_body("\"priority\"")),
            Some(PRIORITY),
            "priority",
        ),
        chat.whole(whole("chat-scale", &chat_body("\"scale\"")), None, "scale"),
        chat.streamed(
            Script::stream("chat-stream", &[CHUNK, STOP, &flex, DONE]),
            Some(FLEX),
            "flex",
        ),
        claude.whole(
            whole("claude-plain", &claude_body("")),
            Some(STANDARD),
            "standard",
        ),
        // Fast mode has no row here.
        claude.whole(
            whole("claude-fast", &claude_body(r#","speed":"fast""#)),
            None,
            "fast",
        ),
        claude.streamed(
            Script::stream("claude-stream", &CLAUDE_STREAM),
            Some(STANDARD),
            "standard",
        ),
        responses.whole(
            whole(
                "responses-plain",
                &response("flex", "completed", RESPONSE_USAGE),
            ),
            Some(FLEX),
            "flex",
        ),
        responses.streamed(
            Script::stream("responses-stream", &[&begun, RESPONSE_DELTA, &done]),
            Some(PRIORITY),
            "priority",
        ),
        // The Gemini API names the tier in a header, Vertex AI in the counts.
        gemini.whole(
            whole("gemini-header", &gemini_body("")).header("x-gemini-service-tier", "priority"),
            Some(PRIORITY),
            "priority",
        ),
        gemini.whole(whole("gemini-traffic", &on_demand), Some(FLEX), "flex"),
    ]
}

/// Everything that was called, with what answered it.
struct Scene {
    weir: Installation,
    _up: Process,
    key: String,
    provider: ScriptedProvider,
}

fn price_rows(provider: &str, model: &str) -> String {
    let decimal = |micros: i64| format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    [("", STANDARD), ("flex", FLEX), ("priority", PRIORITY)]
        .iter()
        .map(|(tier, factor)| {
            // Half of an odd number of picodollars has seven decimals.
            let price = |pico: i64| match pico * factor % STANDARD {
                0 => decimal(pico * factor / STANDARD),
                _ => decimal(pico * factor / STANDARD) + "5",
            };
            let units = [
                ("input", INPUT),
                ("cached_input", CACHED),
                ("cache_write_5m", WRITE_5M),
                ("cache_write_1h", WRITE_1H),
                ("audio_input", AUDIO_IN),
                ("output", OUTPUT),
                ("reasoning", REASONING),
                ("audio_output", AUDIO_OUT),
            ];
            let units: String = units
                .iter()
                .map(|(unit, pico)| format!("{unit} = \"{}\"\n", price(*pico)))
                .chain(["web_search_per_1000 = \"10\"\n".to_owned()])
                .collect();
            format!(
                "[[price]]\nprovider = \"{provider}\"\nmodel = \"{model}\"\nservice_tier = \"{tier}\"\n{units}\n"
            )
        })
        .collect()
}

impl Scene {
    fn start(scripts: Vec<Script>, config: impl Fn(&str) -> String) -> Self {
        let provider = ScriptedProvider::start(scripts).unwrap();
        let weir = Installation::new(&config(&format!("http://{}/v1", provider.address))).unwrap();
        weir.run(&[
            "budgets", "set", "all", "--soft", "--usd", "1000000", "--window", "total",
        ])
        .unwrap();
        let key = weir.create_key("ledger").unwrap();
        let up = weir.start(&["up"]).unwrap();
        weir.wait_until_ready().unwrap();
        weir.wait_for_store().unwrap();
        Self {
            weir,
            _up: up,
            key,
            provider,
        }
    }

    fn call(&self, path: &str, model: &str, streamed: bool, more: &str) -> Answer {
        let request = self.request(path, model, streamed, more);
        request.send(self.weir.gateway).unwrap()
    }

    fn request(&self, path: &str, model: &str, streamed: bool, more: &str) -> Request {
        let body = format!(
            r#"{{"model":"{model}","messages":[{{"role":"user","content":"how high is the water?"}}],"input":"how high is the water?","max_tokens":400,"stream":{streamed}{more}}}"#
        );
        Request::post(path, body_for(path, &body))
            .bearer(&self.key)
            .header("content-type", "application/json")
    }

    /// The tries add up to what the requests say, charge and waste together, and to what the budget
    /// says, with shadows.
    fn check_sums(&self) {
        let sums = "SELECT (SELECT sum(cost_usd) FROM weir.attempts WHERE kind != 'shadow') \
                    = (SELECT sum(cost_usd) + sum(waste_usd) FROM weir.requests)";
        assert_eq!(self.weir.number(sums).unwrap(), 1);
        let standing = || {
            let listed = self.weir.run(&["budgets", "list", "--json"])?.stdout;
            let listed: Value = serde_json::from_slice(&listed)?;
            anyhow::Ok(listed[0]["standings"][0].clone())
        };
        wait_for("nothing is reserved", || {
            Ok(standing()?["reserved"] == "0.00")
        })
        .unwrap();
        let spent = standing().unwrap()["spent"].as_str().unwrap().to_owned();
        let sum = format!("SELECT sum(cost_usd) = toDecimal128('{spent}', 12) FROM weir.attempts");
        wait_for("rows = budget", || Ok(self.weir.number(&sum)? == 1)).unwrap();
    }

    fn row(&self, alias: &str) -> Value {
        self.rows(alias, 1).remove(0)
    }

    /// All requests of an alias, by their source of usage.
    fn rows(&self, alias: &str, count: u64) -> Vec<Value> {
        let requests = format!("FROM weir.requests WHERE alias = '{alias}'");
        self.weir
            .wait_for_number(&format!("SELECT count() {requests}"), count)
            .unwrap();
        let row = format!(
            "SELECT *, toString(toInt64(cost_usd * 1000000000000)) AS pico, \
             toString(toInt64(waste_usd * 1000000000000)) AS waste_pico {requests} \
             ORDER BY usage_source"
        );
        self.weir.sql(&row).unwrap()
    }
}

/// The fields that an API has no place for are left out of a body.
fn body_for(path: &str, body: &str) -> String {
    let mut body: serde_json::Map<String, Value> = serde_json::from_str(body).unwrap();
    if path == "/v1/responses" {
        body.remove("messages");
        body.remove("max_tokens");
    } else {
        body.remove("input");
    }
    Value::Object(body).to_string()
}

#[test]
fn every_kind_of_token_and_every_tier_costs_what_the_rows_say() {
    let cases = cases();
    let scripts = cases.iter().map(|case| case.script.clone()).collect();
    let scene = Scene::start(scripts, |base_url| {
        let of_case = |case: &Case| {
            let Case { model, dialect, .. } = case;
            format!(
                "[[provider]]\nname = \"{model}\"\ndialect = \"{dialect}\"\nbase_url = \"{base_url}\"\n\n\
                 [[alias]]\nname = \"{model}\"\ntargets = [{{ provider = \"{model}\", model = \"{model}\" }}]\n\n{}",
                price_rows(model, model)
            )
        };
        cases.iter().map(of_case).collect()
    });
    for case in &cases {
        let answer = scene.call(case.path, &case.model, case.streamed, "");
        assert_eq!(answer.status, 200, "{}: {answer:?}", case.model);
    }
    for case in &cases {
        let row = scene.row(&case.model);
        let cost = case.cost.map(|pico| pico.to_string());
        assert_eq!(
            row["pico"].as_str(),
            cost.as_deref(),
            "{}: {row}",
            case.model
        );
        assert_eq!(row["service_tier"], case.tier, "{}: {row}", case.model);
        assert_eq!(row["usage_source"], case.source, "{}: {row}", case.model);
        assert_eq!(row["waste_pico"], "0", "{}: {row}", case.model);
    }
    let tries = scene
        .weir
        .sql(
            "SELECT count() AS same FROM weir.attempts AS a JOIN weir.requests AS r USING request_id \
             WHERE a.service_tier = r.service_tier AND a.cost_usd IS NOT DISTINCT FROM r.cost_usd",
        )
        .unwrap();
    assert_eq!(tries[0]["same"].as_u64().unwrap(), cases.len() as u64);

    stream_usage_is_asked_for_and_kept_from_who_did_not(&scene);
    stored_tiers_are_rated_again(&scene, &cases);
}

/// The provider is asked for the usage chunk in every case; the client sees it if it asked itself.
fn stream_usage_is_asked_for_and_kept_from_who_did_not(scene: &Scene) {
    let asked = scene.provider.asked("chat-stream");
    assert!(asked[0].contains("\"include_usage\":true"), "{}", asked[0]);
    let path = "/v1/chat/completions";
    let silent = scene.call(path, "chat-stream", true, "").text();
    assert!(!silent.contains("prompt_tokens"), "{silent}");
    assert!(silent.contains("[DONE]"), "{silent}");
    let curious = r#","stream_options":{"include_usage":true}"#;
    let told = scene.call(path, "chat-stream", true, curious).text();
    assert!(told.contains("prompt_tokens"), "{told}");
}

/// The same prices make the same sums from what is stored, tiers included.
fn stored_tiers_are_rated_again(scene: &Scene, cases: &[Case]) {
    let count = "SELECT count() FROM weir.requests";
    scene
        .weir
        .wait_for_number(count, cases.len() as u64 + 2)
        .unwrap();
    let args = ["prices", "rerate", "--since", "2020-01-01", "--json"];
    let said: Value = serde_json::from_slice(&scene.weir.run(&args).unwrap().stdout).unwrap();
    assert_eq!(said["corrected"], 0, "{said}");
    assert_eq!(said["unpriced"], 2, "{said}");
    assert_eq!(said["before_usd"], said["after_usd"], "{said}");
    let args = [
        "prices",
        "show",
        "chat-plain",
        "--provider",
        "chat-plain",
        "--tier",
        "flex",
    ];
    let shown = scene.weir.run(&args).unwrap().stdout;
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.contains("-> always, service tier flex"), "{shown}");
}

/// Of the call that every test here makes: "how high is the water?" is 6 tokens by OpenAI's
/// tokenizer, a message's frame 4, the beginning of the answer 3.
const PROMPT_TOKENS: i64 = 13;
/// "weirweirweir", by the same.
const ANSWER_TOKENS: i64 = 6;
const TOKEN: &str = r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"weir"}}]}"#;
const ROLE: &str =
    r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#;

/// A provider's answer that does not say what it cost, or not all of it.
struct Broken {
    name: &'static str,
    dialect: &'static str,
    path: &'static str,
    streamed: bool,
    script: Script,
    /// What each try of it costs.
    cost: i64,
    /// Whether its answer reaches the client, or another target's does.
    is_delivered: bool,
}

fn broken() -> Vec<Broken> {
    let estimate = PROMPT_TOKENS * INPUT + ANSWER_TOKENS * OUTPUT;
    let stream = |name, events: &[&str], cost, is_delivered| Broken {
        name,
        dialect: "openai",
        path: CHAT,
        streamed: true,
        script: Script::stream(name, events),
        cost,
        is_delivered,
    };
    let half = r#"{"id":"c","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"weirweirweir"#;
    let claude_start = r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"usage":{"input_tokens":100,"cache_read_input_tokens":400,"output_tokens":1}}}"#;
    let claude_token =
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"weir"}}"#;
    vec![
        stream(
            "missing",
            &[TOKEN, TOKEN, TOKEN, STOP, DONE],
            estimate,
            true,
        ),
        stream(
            "malformed",
            &[
                TOKEN,
                TOKEN,
                TOKEN,
                STOP,
                r#"{"choices":[],"usage":{"prompt_tok"#,
                DONE,
            ],
            estimate,
            true,
        ),
        stream("cut", &[TOKEN, TOKEN, TOKEN], estimate, true),
        Broken {
            dialect: "anthropic",
            path: "/v1/messages",
            cost: 100 * INPUT + 400 * CACHED + ANSWER_TOKENS * OUTPUT,
            ..stream(
                "cut-claude",
                &[claude_start, claude_token, claude_token, claude_token],
                0,
                true,
            )
        },
        // What breaks before its first token is tried elsewhere, and was read all the same.
        stream("cut-early", &[ROLE], PROMPT_TOKENS * INPUT, false),
        Broken {
            streamed: false,
            script: Script::plain("cut-plain", half).header("content-length", "1000"),
            ..stream("cut-plain", &[], estimate, false)
        },
        // What is billed and then broken: the usage is there, the rest of the body is not.
        Broken {
            streamed: false,
            script: Script::plain("billed", &chat_body("null")).header("content-length", "9000"),
            ..stream("billed", &[], CHAT_TOKENS.cost(STANDARD), false)
        },
        // Its time is up before a word came: it has the prompt.
        Broken {
            streamed: false,
            script: Script::plain("late", half).after("never"),
            ..stream("late", &[], PROMPT_TOKENS * INPUT, false)
        },
        Broken {
            streamed: false,
            script: Script::failure("refused", 500),
            ..stream("refused", &[], 0, false)
        },
    ]
}

#[test]
fn what_breaks_is_estimated_and_the_client_pays_only_for_what_it_got() {
    let cases = broken();
    let sound = Script::plain("sound", &chat_body("null"));
    let mut scripts: Vec<Script> = cases.iter().map(|case| case.script.clone()).collect();
    scripts.push(sound);
    let scene = Scene::start(scripts, |base_url| {
        let provider = |name: &str, dialect: &str| {
            format!(
                "[[provider]]\nname = \"{name}\"\ndialect = \"{dialect}\"\nbase_url = \"{base_url}\"\n\
                 timeouts = {{ connect_ms = 1000, first_byte_ms = {} }}\n\n{}",
                if name == "late" { 100 } else { 30_000 },
                price_rows(name, name)
            )
        };
        let alias = |case: &Broken| {
            let name = case.name;
            format!(
                "[[alias]]\nname = \"{name}\"\nretry = {{ tries_max = 4, backoff_ms = 1 }}\n\
                 shadow = {{ provider = \"sound\", model = \"sound\", share = 1.0 }}\n\
                 targets = [{{ provider = \"{name}\", model = \"{name}\" }}, {{ provider = \"sound\", model = \"sound\" }}]\n\n"
            )
        };
        let broken = cases
            .iter()
            .map(|case| provider(case.name, case.dialect) + &alias(case));
        broken.chain([provider("sound", "openai")]).collect()
    });
    for case in &cases {
        scene.call(case.path, case.name, case.streamed, "");
    }
    let sound = CHAT_TOKENS.cost(STANDARD);
    for case in &cases {
        let row = scene.row(case.name);
        let tries = scene
            .weir
            .number(&format!(
                "SELECT count() FROM weir.attempts WHERE provider = '{}'",
                case.name
            ))
            .unwrap();
        let of_tries = case.cost * i64::try_from(tries).unwrap();
        assert!(tries > 0, "{}: {row}", case.name);
        let (cost, waste) = match case.is_delivered {
            true => (case.cost, of_tries - case.cost),
            false => (sound, of_tries),
        };
        assert_eq!(row["pico"], cost.to_string(), "{}: {row}", case.name);
        assert_eq!(row["waste_pico"], waste.to_string(), "{}: {row}", case.name);
        let source = if case.is_delivered {
            "estimated"
        } else {
            "reported"
        };
        assert_eq!(row["usage_source"], source, "{}: {row}", case.name);
    }
    scene.check_sums();
}

/// Two tries of one call, of which one wins. The provider's side decides which, not the clock.
struct Raced {
    name: &'static str,
    /// What the first try, then the hedge, costs, in the end or as far as it got.
    costs: [i64; 2],
    is_won_by_hedge: bool,
    first: Script,
    hedge: Script,
}

fn raced() -> Vec<Raced> {
    let usage = r#"{"input_tokens":100,"cache_read_input_tokens":400,"output_tokens":1}"#;
    let start = format!(
        r#"{{"type":"message_start","message":{{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"usage":{usage}}}}}"#
    );
    let token =
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"weir"}}"#;
    let end = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":125}}"#;
    let stop = r#"{"type":"message_stop"}"#;
    let whole = |model: &str| Script::stream(model, &[&start, token, end, stop]);
    let of_whole = 100 * INPUT + 400 * CACHED + 125 * OUTPUT;
    // It has said what it read, and then nothing.
    let begun = |model: &str| Script::stream(model, &[&start]).unfinished();
    let of_begun = 100 * INPUT + 400 * CACHED + OUTPUT;
    // Not even that.
    let silent = |model: &str| whole(model).after("a model that nobody asks for");
    let of_silent = PROMPT_TOKENS * INPUT;
    let raced = |name, costs, is_won_by_hedge, first, hedge| Raced {
        name,
        costs,
        is_won_by_hedge,
        first,
        hedge,
    };
    vec![
        raced(
            "loses-silent",
            [of_silent, of_whole],
            true,
            silent("loses-silent-first"),
            whole("loses-silent-hedge"),
        ),
        raced(
            "loses-begun",
            [of_begun, of_whole],
            true,
            begun("loses-begun-first"),
            whole("loses-begun-hedge").after_answer("loses-begun-first"),
        ),
        raced(
            "wins-late",
            [of_whole, of_silent],
            false,
            whole("wins-late-first").after("wins-late-hedge"),
            silent("wins-late-hedge"),
        ),
    ]
}

#[test]
fn of_a_hedged_call_the_winner_is_charged_and_the_loser_is_waste() {
    let cases = raced();
    let scripts = cases
        .iter()
        .flat_map(|case| [case.first.clone(), case.hedge.clone()])
        .collect();
    let scene = Scene::start(scripts, |base_url| {
        let of_case = |case: &Raced| {
            let names = ["first", "hedge"].map(|role| format!("{}-{role}", case.name));
            let provider = |name: &String| {
                format!(
                    "[[provider]]\nname = \"{name}\"\ndialect = \"anthropic\"\nbase_url = \"{base_url}\"\n\n{}",
                    price_rows(name, name)
                )
            };
            let target = |name: &String| format!("{{ provider = \"{name}\", model = \"{name}\" }}");
            format!(
                "{}{}[[alias]]\nname = \"{}\"\nhedge = {{ budget_ratio = 1.0, after_ms_min = 20 }}\ntargets = [{}, {}]\n\n",
                provider(&names[0]),
                provider(&names[1]),
                case.name,
                target(&names[0]),
                target(&names[1]),
            )
        };
        cases.iter().map(of_case).collect()
    });
    for case in &cases {
        let answer = scene.call("/v1/messages", case.name, true, "").text();
        assert!(answer.contains("message_stop"), "{}: {answer}", case.name);
    }
    for case in &cases {
        let row = scene.row(case.name);
        let tries = format!(
            "SELECT kind, delivered, error_kind, usage_source, toString(toInt64(cost_usd * 1000000000000)) AS pico \
             FROM weir.attempts WHERE alias = '{}' ORDER BY attempt",
            case.name
        );
        let tries = scene.weir.sql(&tries).unwrap();
        assert_eq!(tries.len(), 2, "{}: {tries:?}", case.name);
        let won = usize::from(case.is_won_by_hedge);
        for (number, (kind, told)) in ["first", "hedge"].iter().zip(&tries).enumerate() {
            let lost = if number == won { "" } else { "hedge_lost" };
            assert_eq!(told["kind"], *kind, "{}: {told}", case.name);
            assert_eq!(told["delivered"], number == won, "{}: {told}", case.name);
            assert_eq!(told["error_kind"], lost, "{}: {told}", case.name);
            let pico = case.costs[number].to_string();
            assert_eq!(told["pico"], pico, "{}: {told}", case.name);
        }
        let (cost, waste) = (case.costs[won], case.costs[1 - won]);
        assert_eq!(row["pico"], cost.to_string(), "{}: {row}", case.name);
        assert_eq!(row["waste_pico"], waste.to_string(), "{}: {row}", case.name);
        assert_eq!(row["attempts"], 2, "{}: {row}", case.name);
    }
    scene.check_sums();
}

/// Two calls whose provider has not said a word yet when their clients leave. One is read on, and there
/// is no room for the other.
fn two_that_leave(scene: &Scene, alias: &str, left_out: u64) {
    let request = scene.request(CHAT, alias, false, "");
    let clients = [(); 2].map(|()| request.open(scene.weir.gateway).unwrap());
    wait_for("the provider is asked", || {
        Ok(scene.provider.asked(alias).len() == 2)
    })
    .unwrap();
    for client in clients {
        client.shutdown(Shutdown::Both).unwrap();
    }
    let seen = format!("weir_drains_left_out_total {left_out}\n");
    wait_for("both departures are noticed", || {
        Ok(get(scene.weir.gateway, "/metrics")?.contains(&seen))
    })
    .unwrap();
    // The given-up one has its events by then.
    let rows = scene.rows(alias, 1);
    assert_eq!(rows[0]["usage_source"], "estimated", "{}", rows[0]);
}

#[test]
fn a_client_that_leaves_before_its_answer_begins_pays_for_it() {
    let scripts = vec![
        Script::plain("whole", &chat_body("null")).after("release-whole"),
        Script::failure("failing", 500).after("release-failing"),
        Script::plain("other", &chat_body("null")),
        Script::plain("release-whole", &chat_body("null")),
        Script::plain("release-failing", &chat_body("null")),
    ];
    let names: Vec<String> = scripts.iter().map(|it| it.model.clone()).collect();
    let scene = Scene::start(scripts, |base_url| {
        let mut config =
            "[gateway.on_disconnect]\npolicy = \"drain\"\nmax_ms = 600_000\nmax_concurrent = 1\n\n"
                .to_owned();
        for name in &names {
            config.push_str(&format!(
                "[[provider]]\nname = \"{name}\"\ndialect = \"openai\"\nbase_url = \"{base_url}\"\n\n{}\
                 [[alias]]\nname = \"{name}\"\nretry = {{ tries_max = 4, backoff_ms = 1 }}\n\
                 targets = [{{ provider = \"{name}\", model = \"{name}\" }}, {{ provider = \"other\", model = \"other\" }}]\n\n",
                price_rows(name, name)
            ));
        }
        config.replace(
            "{ provider = \"other\", model = \"other\" }, { provider = \"other\", model = \"other\" }",
            "{ provider = \"other\", model = \"other\" }",
        )
    });
    let told = |row: &Value| {
        let names = ["status", "error_kind", "usage_source", "pico", "waste_pico"];
        let texts = names.map(|name| row[name].to_string().replace('"', ""));
        texts.join(" ")
    };
    let given_up = format!("499 client_gone estimated {} 0", PROMPT_TOKENS * INPUT);
    let drained = format!("499 client_gone drained {} 0", CHAT_TOKENS.cost(STANDARD));

    two_that_leave(&scene, "whole", 1);
    scene.call(CHAT, "release-whole", false, "");
    let rows = scene.rows("whole", 2);
    assert_eq!(told(&rows[0]), drained, "{}", rows[0]);
    assert_eq!(told(&rows[1]), given_up, "{}", rows[1]);
    assert_eq!(rows[0]["response_bytes"].to_string().trim_matches('"'), "0");
    assert_eq!(rows[0]["ttft_us"], Value::Null, "nobody got a token");

    // A try that fails with nobody waiting is the last one.
    two_that_leave(&scene, "failing", 2);
    scene.call(CHAT, "release-failing", false, "");
    let rows = scene.rows("failing", 2);
    assert_eq!(told(&rows[0]), given_up, "{}", rows[0]);
    assert_eq!(told(&rows[1]), "499 client_gone none 0 0", "{}", rows[1]);
    assert_eq!(scene.provider.asked("failing").len(), 2);
    assert!(scene.provider.asked("other").is_empty());
}
