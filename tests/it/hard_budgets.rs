//! Hard budgets hold: what a provider that keeps its own rules can bill for the calls that they let in is
//! never more than there is. And what happens with one that does not.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};
use weir_tests::gateway::completion;
use weir_tests::http::{Answer, Received, Request, event_stream_head, json_answer, serve};
use weir_tests::weir::{Installation, Process, python, repository, wait_for};

/// A budget of $0.02 for each team.
const BUDGET_PICO: u64 = 20_000_000_000;
const CALLERS: usize = 12;
const CALLS_EACH: usize = 6;
/// What an image costs at the highest detail that fits it.
const IMAGE_TOKENS: u64 = 1105;
/// What a provider writes that nobody stops.
const LONGEST_ANSWER: u64 = 16_000;
const KEPT_TOKENS: u64 = 100_000;
/// What a model thinks whose limit does not count that.
const REASONING_OUTSIDE: u64 = 10_000;

/// What a provider has billed, by the user that a call names.
type Billed = Arc<Mutex<HashMap<String, Usage>>>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    calls: u64,
    input: u64,
    output: u64,
}

/// All that its rules let a provider bill: a token for each byte of what it is sent, and the whole limit of
/// each answer.
fn most(body: &Value) -> Usage {
    let text: u64 = ["messages", "input", "response_format", "tools", "system"]
        .iter()
        .map(|name| match &body[*name] {
            Value::Null => 0,
            Value::String(text) => text.len() as u64,
            other => other.to_string().len() as u64,
        })
        .sum();
    let (images, data) = images(body);
    let kept = if body["previous_response_id"].is_string() {
        KEPT_TOKENS
    } else {
        0
    };
    let limits = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
    let limit = limits.iter().filter_map(|name| body[*name].as_u64()).max();
    let choices = body["n"].as_u64().unwrap_or(1);
    let outside = match body["model"].as_str() {
        Some("qwen-plus") => REASONING_OUTSIDE,
        _ => 0,
    };
    Usage {
        calls: 1,
        input: text - data + images * IMAGE_TOKENS + kept,
        output: limit.unwrap_or(LONGEST_ANSWER) * choices + outside,
    }
}

/// Images of a body, and the bytes of their addresses or data.
fn images(value: &Value) -> (u64, u64) {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| match (name.as_str(), value) {
                ("url" | "image_url", Value::String(text)) => (1, text.len() as u64),
                (_, value) => images(value),
            })
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)),
        Value::Array(items) => items
            .iter()
            .map(images)
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)),
        _ => (0, 0),
    }
}

fn exacting(billed: Billed) -> SocketAddr {
    serve(move |request: &Received, client: &mut TcpStream| {
        let body: Value = serde_json::from_str(&request.body)?;
        let mut usage = most(&body);
        let path = request.head.split(' ').nth(1).unwrap_or_default();
        if path.ends_with("embeddings") {
            usage.output = 0;
        }
        let user = body["user"]
            .as_str()
            .or_else(|| body["metadata"]["user_id"].as_str());
        {
            let mut billed = billed.lock();
            let sum = billed
                .entry(user.unwrap_or_default().to_owned())
                .or_default();
            sum.calls += 1;
            sum.input += usage.input;
            sum.output += usage.output;
        }
        Ok(client.write_all(answer(path, &body, usage).as_bytes())?)
    })
    .unwrap()
}

fn answer(path: &str, body: &Value, usage: Usage) -> String {
    let (input, output, model) = (usage.input, usage.output, &body["model"]);
    if path.ends_with("embeddings") {
        let used = json!({"prompt_tokens": input, "total_tokens": input});
        let data = json!([{"object": "embedding", "index": 0, "embedding": [0.5]}]);
        let answer = json!({"object": "list", "model": model, "data": data, "usage": used});
        return json_answer(200, &answer.to_string());
    }
    if path.ends_with("messages") {
        let written = json!({"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": input});
        let usage = json!({
            "input_tokens": 0, "cache_creation_input_tokens": input, "cache_creation": written,
            "cache_read_input_tokens": 0, "output_tokens": output,
        });
        let answer = json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": model,
            "content": [{"type": "text", "text": "ok"}], "stop_reason": "max_tokens",
            "stop_sequence": null, "usage": usage,
        });
        return json_answer(200, &answer.to_string());
    }
    if path.ends_with("responses") {
        let usage = json!({
            "input_tokens": input, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": output, "output_tokens_details": {"reasoning_tokens": output},
            "total_tokens": input + output,
        });
        let text = json!([{"type": "output_text", "text": "ok", "annotations": []}]);
        let message = json!([{"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": text}]);
        let answer = json!({
            "id": "resp_1", "object": "response", "created_at": 1, "status": "completed",
            "model": model, "output": message, "usage": usage,
        });
        return json_answer(200, &answer.to_string());
    }
    let tier = body["service_tier"].as_str().unwrap_or("default");
    let used = json!({
        "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
        "completion_tokens_details": if body["audio"].is_null() {
            json!({"reasoning_tokens": output})
        } else {
            json!({"audio_tokens": output})
        },
    });
    if body["stream"] == true {
        let token = json!({"id": "c", "model": model, "choices": [{"index": 0, "delta": {"content": "weir "}}]});
        let token = format!("data: {token}\n\n").repeat(usize::try_from(output.min(3000)).unwrap());
        let stop = json!({"id": "c", "model": model, "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]});
        let last =
            json!({"id": "c", "model": model, "choices": [], "service_tier": tier, "usage": used});
        return format!(
            "{}{token}data: {stop}\n\ndata: {last}\n\ndata: [DONE]\n\n",
            event_stream_head()
        );
    }
    let choices = body["n"].as_u64().unwrap_or(1);
    let choice = |index| json!({"index": index, "finish_reason": "length", "message": {"role": "assistant", "content": "ok"}});
    let answer = json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": model,
        "service_tier": tier, "choices": (0..choices).map(choice).collect::<Vec<_>>(), "usage": used,
    });
    json_answer(200, &answer.to_string())
}

/// Gateway, engine, and a budget for each team.
struct Scene {
    weir: Installation,
    _up: Process,
}

impl Scene {
    fn start(settings: &str, config: &str) -> Self {
        let weir = Installation::new(config).unwrap();
        weir.add_gateway_settings(settings).unwrap();
        let up = weir.start(&["up"]).unwrap();
        weir.wait_until_ready().unwrap();
        weir.wait_for_store().unwrap();
        Self { weir, _up: up }
    }

    /// A key of a team of its own.
    fn key(&self, team: &str) -> String {
        let key = self.weir.create_key(team).unwrap();
        self.weir.wait_until_known(&key).unwrap();
        key
    }

    /// What a budget, of this subject if it is counted apart, has spent, as text; nothing is reserved.
    fn spent(&self, budget: &str, subject: &str) -> String {
        let mut spent = String::new();
        wait_for("nothing is reserved", || {
            let listed = self.weir.run(&["budgets", "list", "--json"])?.stdout;
            let listed: Value = serde_json::from_slice(&listed)?;
            let budgets = listed.as_array().into_iter().flatten();
            let standings = budgets
                .filter(|it| it["id"] == budget)
                .flat_map(|it| it["standings"].as_array().cloned().unwrap_or_default());
            let standing = standings.into_iter().find(|it| it["subject"] == subject);
            let standing = standing.unwrap_or_else(|| json!({"spent": "0", "reserved": "0.00"}));
            spent = standing["spent"].as_str().unwrap_or_default().to_owned();
            Ok(matches!(standing["reserved"].as_str(), Some("0.00" | "0")))
        })
        .unwrap();
        spent
    }

    /// The rows of a team: calls, tokens in and out and picodollars of its attempts.
    fn rows(&self, team: &str, requests: u64) -> [u64; 4] {
        let count = format!("SELECT count() FROM weir.requests WHERE team = '{team}'");
        self.weir.wait_for_number(&count, requests).unwrap();
        let of = |what: &str| {
            let question =
                format!("SELECT toUInt64({what}) FROM weir.attempts WHERE team = '{team}'");
            self.weir.number(&question).unwrap()
        };
        [
            of("count()"),
            of("ifNull(sum(input_tokens), 0)"),
            of("ifNull(sum(output_tokens), 0)"),
            of("ifNull(sum(cost_usd), 0) * 1000000000000"),
        ]
    }
}

fn post(path: &str, key: &str, body: &Value) -> Request {
    Request::post(path, body.to_string())
        .bearer(key)
        .header("content-type", "application/json")
}

/// Many calls at once. Returns how many were answered, and checks that the others were refused.
fn all_at_once(scene: &Scene, request: &Request) -> u64 {
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                for _ in 0..CALLS_EACH {
                    let answer = request.send(scene.weir.gateway).unwrap();
                    match answer.status {
                        200 => answered.fetch_add(1, Ordering::Relaxed),
                        402 | 403 => 0,
                        _ => panic!("{answer:?}"),
                    };
                }
            });
        }
    });
    answered.into_inner() as u64
}

/// A call of the table: its name, its path, its body, and whether some of its calls must get through.
fn table() -> Vec<(&'static str, &'static str, Value, bool)> {
    const CHAT: &str = "/v1/chat/completions";
    let chat = |content: &str| json!({"model": "mini", "messages": [{"role": "user", "content": content}]});
    let with = |mut body: Value, more: Value| {
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let one = |content: &str| with(chat(content), json!({"max_tokens": 1}));
    let image = |url: String| {
        let images: Vec<Value> = (0..20)
            .map(|_| json!({"type": "image_url", "image_url": {"url": url}}))
            .collect();
        json!({"model": "mini", "max_tokens": 1, "messages": [{"role": "user", "content": images}]})
    };
    let fields: serde_json::Map<String, Value> = (0..300)
        .map(|number| (format!("a_field_{number}"), json!({"type": "string"})))
        .collect();
    let schema = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": {
        "type": "object", "properties": fields, "additionalProperties": false,
    }}});
    let tools: Vec<Value> = (0..3)
        .map(|number| {
            json!({"type": "function", "function": {"name": format!("tool_{number}"),
                "description": "looks something up", "parameters": schema["json_schema"]["schema"]}})
        })
        .collect();
    let priority = |model: &str| {
        let more = json!({"model": model, "service_tier": "priority", "max_tokens": 900});
        with(chat("hi"), more)
    };
    let responses = |more: Value| with(json!({"model": "mini", "input": "how high?"}), more);
    let cached = json!([{"type": "text", "text": "w".repeat(2000), "cache_control": {"type": "ephemeral", "ttl": "1h"}}]);
    vec![
        (
            "both-limits",
            CHAT,
            with(
                chat("hi"),
                json!({"max_completion_tokens": 1, "max_tokens": 16000}),
            ),
            true,
        ),
        // Its reasoning is within the limit, or fills the window at most.
        ("one-token", CHAT, one("hi"), true),
        (
            "reasoning-outside",
            CHAT,
            with(one("hi"), json!({"model": "thinker"})),
            true,
        ),
        (
            "kept-state",
            "/v1/responses",
            responses(json!({"previous_response_id": "resp_0", "max_output_tokens": 16})),
            false,
        ),
        (
            "images-by-url",
            CHAT,
            image("https://example.com/a.png".into()),
            false,
        ),
        (
            "images-inline",
            CHAT,
            image(format!("data:image/png;base64,{}", "A".repeat(400))),
            false,
        ),
        (
            "schema",
            CHAT,
            with(one("hi"), json!({"response_format": schema})),
            true,
        ),
        ("no-limit", CHAT, chat("hi"), true),
        (
            "no-limit-stream",
            CHAT,
            with(chat("hi"), json!({"stream": true})),
            true,
        ),
        (
            "no-limit-responses",
            "/v1/responses",
            responses(json!({})),
            true,
        ),
        (
            "five-choices",
            CHAT,
            with(chat("hi"), json!({"n": 5})),
            true,
        ),
        (
            "long-stream",
            CHAT,
            with(chat("hi"), json!({"stream": true, "max_tokens": 3000})),
            true,
        ),
        ("digits", CHAT, one(&"1 2 3 4 5 ".repeat(400)), true),
        (
            "rare-characters",
            CHAT,
            one(&"\u{9f98}\u{9750}".repeat(700)),
            true,
        ),
        ("numbers", CHAT, one(&"0.123,-4.5;".repeat(400)), true),
        ("punctuation", CHAT, one(&"?!..;:-)(".repeat(500)), true),
        ("base64", CHAT, one(&"iVBORw0KGgo/+9j4".repeat(300)), true),
        ("hex", CHAT, one(&"9f86d081884c7d65".repeat(300)), true),
        (
            "emoji",
            CHAT,
            one(&"\u{1f9d1}\u{200d}\u{1f680}".repeat(400)),
            true,
        ),
        (
            "english",
            CHAT,
            one(&"the quick brown fox ".repeat(250)),
            true,
        ),
        ("chinese", CHAT, one(&"\u{9884}\u{7b97}".repeat(800)), true),
        (
            "tools",
            CHAT,
            with(one("hi"), json!({"tools": tools})),
            true,
        ),
        (
            "embeddings",
            "/v1/embeddings",
            json!({"model": "vectors", "input": "314159 ".repeat(6000)}),
            true,
        ),
        (
            "embeddings-inputs",
            "/v1/embeddings",
            json!({"model": "vectors", "input": vec!["hello weir"; 2000]}),
            true,
        ),
        (
            "token-ids",
            "/v1/embeddings",
            json!({"model": "vectors", "input": vec![vec![15339; 2000]; 4]}),
            true,
        ),
        (
            "audio-out",
            CHAT,
            with(
                chat("hi"),
                json!({"model": "voice", "max_tokens": 60, "modalities": ["text", "audio"],
                    "audio": {"voice": "alloy", "format": "wav"}}),
            ),
            true,
        ),
        ("priority", CHAT, priority("full"), true),
        ("priority-gpt-5", CHAT, priority("five"), true),
        (
            "cache-write",
            "/v1/messages",
            json!({"model": "claude", "max_tokens": 100, "system": cached, "messages": [{"role": "user", "content": "hi"}]}),
            true,
        ),
    ]
}

fn config(openai: SocketAddr) -> String {
    let provider = |name: &str, dialect: &str| {
        format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"{dialect}\"\nbase_url = \"http://{openai}/v1\"\n\n"
        )
    };
    let alias = |name: &str, provider: &str, model: &str| {
        format!(
            "[[alias]]\nname = \"{name}\"\ntargets = [{{ provider = \"{provider}\", model = \"{model}\" }}]\n\n"
        )
    };
    [
        provider("openai", "openai"),
        provider("anthropic", "anthropic"),
        provider("qwen", "qwen"),
        "[[model]]\nname = \"qwen-plus\"\nprovider = \"qwen\"\ncontext_window_tokens = 16000\n\n"
            .to_owned(),
        "[[price]]\nprovider = \"qwen\"\nmodel = \"qwen-plus\"\ninput = \"0\"\noutput = \"1\"\n\n"
            .to_owned(),
        alias("thinker", "qwen", "qwen-plus"),
        alias("voice", "openai", "gpt-audio"),
        alias("five", "openai", "gpt-5"),
        alias("mini", "openai", "gpt-4o-mini"),
        alias("full", "openai", "gpt-4o"),
        alias("vectors", "openai", "text-embedding-3-small"),
        alias("claude", "anthropic", "claude-haiku-4-5"),
    ]
    .concat()
}

#[test]
fn no_call_of_any_kind_makes_a_provider_that_keeps_its_rules_bill_more_than_the_budget() {
    let billed = Billed::default();
    let scene = Scene::start("budget_wait_ms = 200", &config(exacting(billed.clone())));
    let set = [
        "budgets", "set", "each", "--per", "team", "--usd", "0.02", "--window", "total",
    ];
    scene.weir.run(&set).unwrap();
    for (name, path, mut body, gets_through) in table() {
        match path {
            "/v1/messages" => body["metadata"] = json!({"user_id": name}),
            _ => body["user"] = name.into(),
        }
        let answered = all_at_once(&scene, &post(path, &scene.key(name), &body));
        assert!(answered > 0 || !gets_through, "{name}: none got through");
        let of_provider = billed.lock().get(name).copied().unwrap_or_default();
        let [calls, input, output, pico] = scene.rows(name, (CALLERS * CALLS_EACH) as u64);
        assert_eq!(calls, of_provider.calls, "{name}");
        assert_eq!(
            [input, output],
            [of_provider.input, of_provider.output],
            "{name}"
        );
        assert!(
            pico <= BUDGET_PICO,
            "{name}: {pico} of {BUDGET_PICO} picodollars"
        );
        let spent = scene.spent("each", name);
        let same = format!(
            "SELECT ifNull(sum(cost_usd), 0) = toDecimal128('{spent}', 12) FROM weir.attempts WHERE team = '{name}'"
        );
        assert_eq!(scene.weir.number(&same).unwrap(), 1, "{name}: {spent}");
    }
}

/// Each call costs $0.18, which is its limit of 18 tokens at a cent each.
fn cents(base_url: SocketAddr, more: &str) -> String {
    format!(
        "[[provider]]\nname = \"cents\"\ndialect = \"openai\"\nbase_url = \"http://{base_url}/v1\"\n\n\
         [[alias]]\nname = \"cents\"\n{more}targets = [{{ provider = \"cents\", model = \"cent\" }}]\n\n\
         [[price]]\nprovider = \"cents\"\nmodel = \"cent\"\ninput = \"0\"\noutput = \"10000\"\n\n"
    )
}

fn eighteen(key: &str, more: &str) -> Request {
    completion(
        key,
        format!(
            r#"{{"model":"cents","messages":[{{"role":"user","content":"hi"}}],"max_tokens":18{more}}}"#
        ),
    )
}

fn budget_of(scene: &Scene, id: &str, usd: &str) {
    let set = [
        "budgets", "set", id, "--team", id, "--usd", usd, "--window", "total",
    ];
    scene.weir.run(&set).unwrap();
}

#[test]
fn of_a_loop_of_a_hundred_calls_of_eighteen_cents_a_dollar_pays_five_and_never_a_sixth() {
    let scene = Scene::start("", &cents(exacting(Billed::default()), ""));
    for team in ["loop", "burst"] {
        budget_of(&scene, team, "1.00");
    }
    let (looped, burst) = (scene.key("loop"), scene.key("burst"));
    let request = eighteen(&looped, "");
    let statuses: Vec<u16> = (0..100)
        .map(|_| request.send(scene.weir.gateway).unwrap().status)
        .collect();
    assert!(
        statuses[..5].iter().all(|status| *status == 200),
        "{statuses:?}"
    );
    assert!(
        statuses[5..].iter().all(|status| *status == 402),
        "{statuses:?}"
    );
    assert_eq!(all_at_once(&scene, &eighteen(&burst, "")), 5);
    for team in ["loop", "burst"] {
        assert_eq!(scene.spent(team, ""), "0.90");
    }
}

/// A provider that answers when it is told to, and counts who asks.
#[derive(Default)]
struct Gate {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock();
        state.0 += 1;
        self.changed.notify_all();
        while !state.1 {
            self.changed.wait(&mut state);
        }
    }

    fn wait_for_calls(&self, calls: usize) {
        let mut state = self.state.lock();
        while state.0 < calls {
            self.changed.wait(&mut state);
        }
    }

    fn open(&self) {
        self.state.lock().1 = true;
        self.changed.notify_all();
    }
}

#[test]
fn a_call_waits_for_others_to_settle_and_is_refused_only_if_that_does_not_help() {
    let gate = Arc::new(Gate::default());
    let server = gate.clone();
    let provider = serve(move |request: &Received, client: &mut TcpStream| {
        server.pass();
        let body: Value = serde_json::from_str(&request.body)?;
        let used = Usage {
            calls: 1,
            input: 1,
            output: 1,
        };
        Ok(client.write_all(answer("chat", &body, used).as_bytes())?)
    })
    .unwrap();
    let scene = Scene::start("budget_wait_ms = 60000", &cents(provider, ""));
    budget_of(&scene, "wait", "0.20");
    let key = scene.key("wait");
    let to = scene.weir.gateway;
    let mut first = eighteen(&key, "").open(to).unwrap();
    gate.wait_for_calls(1);
    // What can never fit does not wait.
    let too_much = eighteen(&key, r#","n":2"#).send(to).unwrap();
    assert_eq!(too_much.status, 402, "{too_much:?}");
    // A client that leaves while it waits takes nothing with it. It does not leave before it is heard.
    let leaves = eighteen(&key, "").open(to).unwrap();
    wait_for("two calls are under way", || {
        let metrics = weir_tests::http::get(to, "/metrics")?;
        Ok(metrics.lines().any(|line| line == "weir_in_flight 2"))
    })
    .unwrap();
    drop(leaves);
    let left = "SELECT count() FROM weir.requests WHERE status = 499";
    scene.weir.wait_for_number(left, 1).unwrap();
    let mut second = eighteen(&key, "").open(to).unwrap();
    gate.open();
    for stream in [&mut first, &mut second] {
        let answer = Answer::read(stream).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(scene.spent("wait", ""), "0.02");
}

#[test]
fn a_further_attempt_is_made_only_if_the_budget_can_pay_it_too() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    // It bills, and breaks off.
    let provider = serve(move |request: &Received, client: &mut TcpStream| {
        counted.fetch_add(1, Ordering::Relaxed);
        let body: Value = serde_json::from_str(&request.body)?;
        let whole = answer("chat", &body, most(&body));
        let broken = whole.replacen(
            "connection: close",
            "content-length: 90000\r\nconnection: close",
            1,
        );
        Ok(client.write_all(broken.as_bytes())?)
    })
    .unwrap();
    let retry = "retry = { tries_max = 8, backoff_ms = 1 }\n";
    let scene = Scene::start("", &cents(provider, retry));
    budget_of(&scene, "tries", "0.30");
    let answer = eighteen(&scene.key("tries"), "")
        .send(scene.weir.gateway)
        .unwrap();
    assert_eq!(
        answer.status, 502,
        "the provider's failure is told: {answer:?}"
    );
    assert_eq!(
        calls.load(Ordering::Relaxed),
        1,
        "a second could cost more than is left"
    );
    assert_eq!(scene.spent("tries", ""), "0.18");
    let [tries, _, output, _] = scene.rows("tries", 1);
    assert_eq!([tries, output], [1, 18]);
    let row = "SELECT limit_verdict, toString(cost_usd) AS cost, toString(waste_usd) AS waste FROM weir.requests";
    let row = scene.weir.sql(row).unwrap().remove(0);
    assert_eq!(
        row,
        json!({"limit_verdict": "tries", "cost": "0", "waste": "0.18"})
    );
}

#[test]
fn who_sets_no_limit_gets_the_answer_that_the_budget_affords_and_is_told() {
    let scene = Scene::start("", &config(exacting(Billed::default())));
    // 3 000 tokens out at $0.60 a million, and little in.
    budget_of(&scene, "clamped", "0.0018");
    let body = json!({"model": "mini", "messages": [{"role": "user", "content": "hi"}]});
    let request = post("/v1/chat/completions", &scene.key("clamped"), &body);
    let first = request.send(scene.weir.gateway).unwrap();
    assert_eq!(first.status, 200, "{first:?}");
    let told = first.header("x-weir-clamped").unwrap().to_owned();
    let limit: u64 = told
        .strip_prefix("output_tokens=")
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(first.json()["usage"]["completion_tokens"], limit);
    assert!((500..3000).contains(&limit), "{limit}");
    let row = "SELECT limit_verdict FROM weir.requests WHERE status = 200";
    scene.rows("clamped", 1);
    assert_eq!(
        scene.weir.sql(row).unwrap()[0]["limit_verdict"],
        "clamped:clamped"
    );
    let with_limit = with_max(&body, 16000);
    let refused = post("/v1/chat/completions", &scene.key("clamped"), &with_limit);
    let refused = refused.send(scene.weir.gateway).unwrap();
    assert_eq!(
        refused.status, 402,
        "a client's own limit is not changed: {refused:?}"
    );
}

fn with_max(body: &Value, max_tokens: u64) -> Value {
    let mut body = body.clone();
    body["max_tokens"] = max_tokens.into();
    body
}

#[test]
fn a_provider_that_breaks_its_limit_is_stopped_charged_and_reported() {
    let provider = serve(|request: &Received, client: &mut TcpStream| {
        let body: Value = serde_json::from_str(&request.body)?;
        let used = Usage {
            calls: 1,
            input: 1,
            output: 3000,
        };
        Ok(client.write_all(answer("chat", &body, used).as_bytes())?)
    })
    .unwrap();
    let scene = Scene::start("", &cents(provider, ""));
    for team in ["streams", "plain"] {
        budget_of(&scene, team, "1000.00");
    }
    let to = scene.weir.gateway;
    let stream = eighteen(&scene.key("streams"), r#","stream":true"#)
        .send(to)
        .unwrap();
    assert_eq!(stream.status, 200);
    let text = stream.text();
    assert!(
        text.contains("insufficient_quota") && !text.contains("[DONE]"),
        "{text}"
    );
    scene.rows("streams", 1);
    let row = "SELECT error_kind, usage_source, cost_usd > 0.3 AS is_charged FROM weir.attempts WHERE team = 'streams'";
    let row = scene.weir.sql(row).unwrap().remove(0);
    assert_eq!(row["error_kind"], "budget_exhausted", "{row}");
    assert_eq!(row["is_charged"], 1, "{row}");

    let plain = eighteen(&scene.key("plain"), "").send(to).unwrap();
    assert_eq!(plain.status, 200);
    assert_eq!(
        scene.spent("plain", ""),
        "30.00",
        "what was reported is charged"
    );
    let events = "SELECT count() FROM weir.control_changes WHERE action = 'overspent' AND object_id = 'plain'";
    scene.weir.wait_for_number(events, 1).unwrap();
    let metrics = weir_tests::http::get(to, "/metrics").unwrap();
    let is_counted = |line: &str| line == "weir_budget_overspent_total 2";
    assert!(metrics.lines().any(is_counted), "{metrics}");
}

/// Its text is counted with another tokenizer than the provider's, which may come to more.
#[test]
fn an_answer_without_usage_is_charged_what_its_limit_allows_unless_it_is_far_longer() {
    let provider = serve(|request: &Received, client: &mut TcpStream| {
        let body: Value = serde_json::from_str(&request.body)?;
        let used = Usage {
            calls: 1,
            input: 1,
            output: 18,
        };
        let silent = answer("chat", &body, used).replace("\"usage\"", "\"unused\"");
        let words = body["user"].as_str().and_then(|words| words.parse().ok());
        let silent = silent.replace(
            "\"ok\"",
            &format!("\"{}\"", "weir ".repeat(words.unwrap_or(18))),
        );
        Ok(client.write_all(silent.as_bytes())?)
    })
    .unwrap();
    let scene = Scene::start("", &cents(provider, ""));
    for (team, more, is_within) in [
        ("streams", r#","stream":true"#, true),
        ("plain", "", true),
        ("longer", r#","user":"200""#, false),
    ] {
        budget_of(&scene, team, "0.18");
        let answer = eighteen(&scene.key(team), more).send(scene.weir.gateway);
        assert_eq!(answer.unwrap().status, 200, "{team}");
        let [_, _, output, _] = scene.rows(team, 1);
        assert_eq!(output == 18, is_within, "{team}: {output}");
        assert_eq!(scene.spent(team, "") == "0.18", is_within, "{team}");
    }
}

/// An image at a model that this build knows nothing of.
#[test]
fn a_refusal_of_what_nothing_bounds_names_the_setting_that_would() {
    let billed = Billed::default();
    let vision = "[[alias]]\nname = \"vision\"\ntargets = [{ provider = \"cents\", model = \"own-vl\" }]\n\n\
                  [[price]]\nprovider = \"cents\"\nmodel = \"own-vl\"\ninput = \"1\"\noutput = \"1\"\n\n";
    let unknown = format!("{}{vision}", cents(exacting(billed.clone()), ""));
    let image = json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}});
    let body = json!({"model": "vision", "max_tokens": 16, "user": "v", "messages": [{"role": "user", "content": [image]}]});
    let answer = |config: &str| {
        let scene = Scene::start("", config);
        budget_of(&scene, "v", "1.00");
        let request = post("/v1/chat/completions", &scene.key("v"), &body);
        request.send(scene.weir.gateway).unwrap()
    };
    let refused = answer(&unknown);
    assert_eq!(refused.status, 403, "{refused:?}");
    let said = refused.text();
    assert!(
        said.contains("cents/own-vl") && said.contains("context_window_tokens in a [[model]]"),
        "{said}"
    );
    assert!(billed.lock().is_empty());
    let window = "[[model]]\nname = \"own-vl\"\ncontext_window_tokens = 32768\n\n";
    let told = answer(&format!("{unknown}{window}"));
    assert_eq!(told.status, 200, "{told:?}");
}

/// Whatever its limit says, it bills ten thousand tokens.
#[test]
fn a_provider_that_breaks_its_limit_is_paid_for_what_was_in_flight_and_never_again() {
    const AT_ONCE: usize = 5;
    let gate = Arc::new(Gate::default());
    let server = gate.clone();
    let provider = serve(move |request: &Received, client: &mut TcpStream| {
        server.pass();
        let body: Value = serde_json::from_str(&request.body)?;
        let used = Usage {
            calls: 1,
            input: 1,
            output: REASONING_OUTSIDE,
        };
        Ok(client.write_all(answer("chat", &body, used).as_bytes())?)
    })
    .unwrap();
    let scene = Scene::start("budget_wait_ms = 0", &cents(provider, ""));
    budget_of(&scene, "liar", "0.90");
    let one = eighteen(&scene.key("liar"), "");
    let to = scene.weir.gateway;
    let mut streams: Vec<TcpStream> = (0..AT_ONCE).map(|_| one.open(to).unwrap()).collect();
    gate.wait_for_calls(AT_ONCE);
    let refused = || {
        let answer = one.send(to).unwrap();
        assert_eq!(answer.status, 402, "{answer:?}");
    };
    refused();
    gate.open();
    for stream in &mut streams {
        let answer = Answer::read(stream).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    refused();
    let [calls, _, output, _] = scene.rows("liar", AT_ONCE as u64 + 2);
    let in_flight = AT_ONCE as u64;
    assert_eq!([calls, output], [in_flight, in_flight * REASONING_OUTSIDE]);
    assert_eq!(scene.spent("liar", ""), "500.00");
}

#[test]
fn a_default_budget_is_each_users_own_until_one_is_given_another_and_a_group_shares_one() {
    let scene = Scene::start(
        "budget_wait_ms = 0",
        &cents(exacting(Billed::default()), ""),
    );
    for set in [
        "budgets set default --per user --usd 0.20 --window total",
        "budgets set more --user ana --usd 0.40 --window total --overrides default",
        "budgets set group --team group --usd 0.72 --window total",
    ] {
        scene.weir.run(&set.split(' ').collect::<Vec<_>>()).unwrap();
    }
    let calls = |user: &str, count: usize| {
        let made = ["--team", "group", "--user", user];
        let (_, key) = scene.weir.create_key_with(&made).unwrap();
        scene.weir.wait_until_known(&key).unwrap();
        let request = eighteen(&key, "");
        let answers: Vec<Answer> = (0..count)
            .map(|_| request.send(scene.weir.gateway).unwrap())
            .collect();
        let passed = answers.iter().filter(|answer| answer.status == 200).count();
        let refused = answers.iter().find(|answer| answer.status == 402);
        (
            passed,
            refused
                .and_then(|it| it.header("x-weir-budget"))
                .map(str::to_owned),
        )
    };
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(calls("ben", 2), (1, named("default of ben")));
    assert_eq!(calls("ana", 3), (2, named("more")), "her own");
    assert_eq!(calls("cem", 1), (1, None));
    assert_eq!(calls("dan", 1), (0, named("group")), "it is used up");
}

/// What a provider does to a call.
const BEHAVIOURS: [&str; 8] = [
    "sound",
    "sound",
    "silent",
    "cut",
    "billed-and-cut",
    "500",
    "closed",
    "not-json",
];

/// Reads what the call names, does it, and notes what its rules say that it bills for it.
fn moody(ledger: Arc<Mutex<HashMap<String, u64>>>) -> SocketAddr {
    serve(move |request: &Received, client: &mut TcpStream| {
        let body: Value = serde_json::from_str(&request.body)?;
        let user = body["user"].as_str().unwrap_or_default().to_owned();
        let mut used = most(&body);
        used.output = used.output.min(18);
        let behaviour = user.split('.').next().unwrap_or_default();
        let whole = answer("chat", &body, used);
        let half = &whole[..whole.len() * 2 / 3];
        let (sent, bills) = match behaviour {
            "sound" => (whole.clone(), true),
            // Without usage the text is counted, which is less.
            "silent" => (whole.replace("\"usage\"", "\"unused\""), false),
            "cut" => (half.to_owned(), false),
            "billed-and-cut" if body["stream"] != true => (
                whole.replacen("connection", "content-length: 90000\r\nconnection", 1),
                true,
            ),
            "500" => (json_answer(500, r#"{"error":{"message":"no"}}"#), false),
            "closed" => (String::new(), false),
            "not-json" => (json_answer(200, "<html>"), false),
            _ => (whole.clone(), true),
        };
        if bills {
            *ledger.lock().entry(user).or_default() += used.output * 10_000_000_000;
        }
        Ok(client.write_all(sent.as_bytes())?)
    })
    .unwrap()
}

/// Calls of any kind to a provider of any mood, many at once: each has its row, no row is cheaper than
/// what the provider's rules say, budgets are the sums of rows, and nothing stays reserved. More with
/// `WEIR_CALLS=n`, others with `WEIR_SEED=n`.
#[test]
fn whatever_providers_do_rows_are_whole_and_budgets_are_their_sum() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().unwrap())
    };
    let (calls, seed) = (number("WEIR_CALLS", 160), number("WEIR_SEED", 7));
    let ledger = Arc::new(Mutex::new(HashMap::new()));
    let retry = "retry = { tries_max = 3, backoff_ms = 1 }\n";
    let scene = Scene::start("budget_wait_ms = 50", &cents(moody(ledger.clone()), retry));
    budget_of(&scene, "moods", &format!("{}.00", calls / 20));
    let key = scene.key("moods");
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let call = next.fetch_add(1, Ordering::Relaxed) as u64;
                    if call >= calls {
                        break;
                    }
                    let drawn = (call + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
                    let behaviour = BEHAVIOURS[usize::try_from(drawn % 8).unwrap()];
                    let streamed = drawn & 64 > 0;
                    let limit = [r#","max_tokens":18"#, "", r#","max_completion_tokens":3,"n":2"#];
                    let limit = limit[usize::try_from(drawn / 128 % 3).unwrap()];
                    let body = format!(
                        r#"{{"model":"cents","messages":[{{"role":"user","content":"hi"}}],"user":"{behaviour}.{call}","stream":{streamed}{limit}}}"#
                    );
                    let request = completion(&key, body).read_timeout(Duration::from_secs(60));
                    // A client may see it broken off.
                    let _ = request.send(scene.weir.gateway);
                }
            });
        }
    });
    let spent = scene.spent("moods", "");
    let [_, _, _, pico] = scene.rows("moods", calls);
    let budget = calls / 20 * 1_000_000_000_000;
    assert!(pico <= budget, "seed {seed}: {pico} of {budget}");
    let same = format!("SELECT sum(cost_usd) = toDecimal128('{spent}', 12) FROM weir.attempts");
    assert_eq!(scene.weir.number(&same).unwrap(), 1, "seed {seed}: {spent}");
    let unknown = "SELECT count() FROM weir.attempts WHERE cost_usd IS NULL";
    assert_eq!(scene.weir.number(unknown).unwrap(), 0, "seed {seed}");
    let rows = scene
        .weir
        .sql("SELECT user, toUInt64(sum(cost_usd) * 1000000000000) AS pico FROM weir.attempts GROUP BY user")
        .unwrap();
    let cost: HashMap<&str, u64> = rows
        .iter()
        .map(|row| {
            let pico = &row["pico"];
            let pico = pico.as_u64().or_else(|| pico.as_str()?.parse().ok());
            (row["user"].as_str().unwrap(), pico.unwrap())
        })
        .collect();
    for (user, billed) in &*ledger.lock() {
        let cost = cost.get(user.as_str()).copied().unwrap_or_default();
        assert!(cost >= *billed, "seed {seed}, {user}: {cost} < {billed}");
    }
}

/// Both SDKs repeat a 429 by themselves, unless they are told not to, and no 402.
#[test]
fn no_official_sdk_repeats_a_call_that_a_budget_refuses() {
    for status in [402, 429] {
        let settings = format!("budget_status = {status}");
        let scene = Scene::start(&settings, &cents(exacting(Billed::default()), ""));
        budget_of(&scene, "sdk", "0.01");
        let key = scene.key("sdk");
        let found = Command::new(python())
            .arg("-B")
            .arg(repository().join("tests/clients/retries.py"))
            .args([&scene.weir.base_url(), &key])
            .args(["cents@chat", "cents@messages"])
            .output()
            .unwrap();
        assert!(found.status.success(), "{found:?}");
        let printed: Value = serde_json::from_slice(&found.stdout).unwrap();
        for api in ["cents@chat", "cents@messages"] {
            assert_eq!(printed["seen"][api][1], status, "{printed}");
        }
        let metrics = weir_tests::http::get(scene.weir.gateway, "/metrics").unwrap();
        let of_status = format!("status=\"{status}\"");
        let refused: u64 = metrics
            .lines()
            .filter(|line| line.starts_with("weir_requests_total") && line.contains(&of_status))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum();
        assert_eq!(refused, 2, "one call of each client: {metrics}");
    }
}
