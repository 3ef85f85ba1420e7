//! What providers say of usage, in every form that was met, and what becomes of it: the counts in SQL,
//! the cost, and what the client is told.

use serde_json::Value;
use weir_tests::http::Request;
use weir_tests::scripted::{Script, ScriptedProvider};
use weir_tests::weir::Installation;

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";

/// Dollars for a million tokens: input, cached, written for five minutes, for an hour, output.
type Prices = [&'static str; 5];
const SONNET: Prices = ["3", "0.3", "3.75", "6", "15"];
const OPUS: Prices = ["5", "0.5", "6.25", "10", "25"];

/// 48 words.
const WORDS: &str = "the water is high and the weir is low and the river runs on and the water is high and the weir is low and the river runs on and the water is high and the weir is low and the river runs on and on";

/// What a client asks, what it is answered with, and what must be known of it then.
struct Case {
    dialect: &'static str,
    path: &'static str,
    streamed: bool,
    script: Script,
    /// `None` for those of the price book.
    prices: Option<Prices>,
    /// Further lines of the price.
    more_prices: &'static str,
    /// Model at the provider; the case's own name if it is empty.
    model: &'static str,
    /// Input, cached input and output. `None` for a count that is estimated.
    counts: [Option<u64>; 3],
    /// Dollars.
    cost: Option<&'static str>,
    /// What the client is told, among other things.
    told: &'static str,
}

impl Case {
    fn new(dialect: &'static str, path: &'static str, script: Script) -> Self {
        Self {
            dialect,
            path,
            streamed: script.headers.contains("event-stream"),
            script,
            prices: Some(SONNET),
            more_prices: "",
            model: "",
            counts: [None; 3],
            cost: None,
            told: "",
        }
    }

    /// The provider's own dialect, for the client too.
    fn native(dialect: &'static str, script: Script) -> Self {
        let path = match dialect {
            "anthropic" => MESSAGES,
            "openai-responses" => RESPONSES,
            _ => CHAT,
        };
        Self::new(dialect, path, script)
    }

    fn counts(self, input: u64, cached: u64, output: u64) -> Self {
        Self {
            counts: [Some(input), Some(cached), Some(output)],
            ..self
        }
    }

    fn estimated(self, input: Option<u64>, output: Option<u64>) -> Self {
        Self {
            counts: [input, Some(0), output],
            ..self
        }
    }

    fn cost(self, dollars: &'static str) -> Self {
        Self {
            cost: Some(dollars),
            ..self
        }
    }

    fn by(self, prices: Prices) -> Self {
        Self {
            prices: Some(prices),
            ..self
        }
    }

    fn and(self, more_prices: &'static str) -> Self {
        Self {
            more_prices,
            ..self
        }
    }

    /// By the price book. The script must be for the model then.
    fn by_the_book(self, model: &'static str) -> Self {
        Self {
            prices: None,
            model,
            ..self
        }
    }

    fn told(self, told: &'static str) -> Self {
        Self { told, ..self }
    }

    fn name(&self) -> &str {
        &self.script.model
    }

    /// The price in the configuration.
    fn price(&self) -> String {
        let Some([input, cached, write_5m, write_1h, output]) = self.prices else {
            return String::new();
        };
        let (name, more) = (self.name(), self.more_prices);
        format!(
            "[[price]]\nprovider = \"{name}\"\nmodel = \"{name}\"\ninput = \"{input}\"\n\
             cached_input = \"{cached}\"\ncache_write_5m = \"{write_5m}\"\n\
             cache_write_1h = \"{write_1h}\"\noutput = \"{output}\"\n{more}\n\n"
        )
    }
}

fn chat(model: &str, usage: &str) -> Script {
    let body = format!(
        r#"{{"id":"c","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{WORDS}"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
    );
    Script::plain(model, &body)
}

/// A chat stream with these usages: each in a chunk of its own.
fn chat_stream(model: &str, usages: &[&str]) -> Script {
    let text = format!(
        r#"{{"id":"c","model":"m","choices":[{{"index":0,"delta":{{"content":"{WORDS}"}}}}]}}"#
    );
    let stop =
        r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let chunk = |usage: &&str| format!(r#"{{"id":"c","model":"m","choices":[],"usage":{usage}}}"#);
    let mut events = vec![text, stop.to_owned()];
    events.extend(usages.iter().map(chunk));
    events.push("[DONE]".to_owned());
    Script::stream(
        model,
        &events.iter().map(String::as_str).collect::<Vec<_>>(),
    )
}

fn claude(model: &str, usage: &str) -> Script {
    let body = format!(
        r#"{{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{{"type":"text","text":"{WORDS}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{usage}}}"#
    );
    Script::plain(model, &body)
}

fn claude_stream(model: &str, start: &str, end: &str) -> Script {
    let start = format!(
        r#"{{"type":"message_start","message":{{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{start}}}}}"#
    );
    let text = format!(
        r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{WORDS}"}}}}"#
    );
    let end = format!(
        r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn","stop_sequence":null}},"usage":{end}}}"#
    );
    let events = [
        start.as_str(),
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        &text,
        r#"{"type":"content_block_stop","index":0}"#,
        &end,
        r#"{"type":"message_stop"}"#,
    ];
    Script::stream(model, &events)
}

fn response(model: &str, usage: &str) -> Script {
    let body = format!(
        r#"{{"id":"resp_1","object":"response","status":"completed","model":"m","output":[{{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{{"type":"output_text","text":"{WORDS}","annotations":[]}}]}}],"usage":{usage}}}"#
    );
    Script::plain(model, &body)
}

fn gemini(model: &str, usage: &str) -> Script {
    let body = format!(
        r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{WORDS}"}}],"role":"model"}},"finishReason":"STOP","index":0}}],"usageMetadata":{usage},"modelVersion":"m","responseId":"r"}}"#
    );
    Script::plain(model, &body)
}

/// Two names of one count, of which one has placeholders.
fn two_names() -> Vec<Case> {
    let filled = r#""prompt_tokens":1200,"completion_tokens":300,"total_tokens":1500,"prompt_tokens_details":{"cached_tokens":1000}"#;
    let empty = r#""input_tokens":0,"output_tokens":0,"input_tokens_details":{"cached_tokens":0}"#;
    let other = r#""input_tokens":1200,"output_tokens":300,"input_tokens_details":{"cached_tokens":1000},"prompt_tokens":0,"completion_tokens":0"#;
    let turned = r#""prompt_tokens":0,"completion_tokens":0,"input_tokens":1200,"output_tokens":300,"input_tokens_details":{"cached_tokens":1000}"#;
    let usages = [
        ("names-1", format!("{{{filled},{empty}}}")),
        ("names-2", format!("{{{empty},{filled}}}")),
        ("names-3", format!("{{{other}}}")),
        ("names-4", format!("{{{turned}}}")),
    ];
    let mut cases = Vec::new();
    for (name, usage) in &usages {
        cases.push(Case::native("openai", chat(name, usage)));
        let streamed = chat_stream(&format!("{name}-stream"), &[usage]);
        cases.push(Case::native("openai", streamed));
        let translated = chat(&format!("{name}-messages"), usage);
        let case = Case::new("openai", MESSAGES, translated);
        cases.push(case.told(r#""input_tokens":200"#));
    }
    let priced = cases.into_iter();
    let priced = priced.map(|case| case.counts(1200, 1000, 300).by(OPUS).cost("0.009"));
    priced.collect()
}

/// Servers that do not count.
fn zeros() -> Vec<Case> {
    let all = r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#;
    let counted = r#"{"prompt_tokens":100,"completion_tokens":60,"total_tokens":160}"#;
    let no_prompt = r#"{"prompt_tokens":0,"completion_tokens":60,"total_tokens":60}"#;
    let no_output = r#"{"prompt_tokens":100,"completion_tokens":0,"total_tokens":100}"#;
    let claude_zeros = r#"{"input_tokens":0,"output_tokens":0}"#;
    let kept = |case: Case| case.counts(100, 0, 60).cost("0.0012");
    vec![
        Case::native("openai", chat("zeros-plain", all)).estimated(None, None),
        Case::native("openai", chat_stream("zeros-stream", &[all])).estimated(None, None),
        Case::new("openai", MESSAGES, chat("zeros-messages", all)).estimated(None, None),
        Case::native("openai", chat("zeros-prompt", no_prompt)).estimated(None, Some(60)),
        Case::native("openai", chat("zeros-output", no_output)).estimated(Some(100), None),
        Case::native("anthropic", claude("zeros-claude", claude_zeros)).estimated(None, None),
        Case::native(
            "anthropic",
            claude_stream("zeros-claude-stream", claude_zeros, claude_zeros),
        )
        .estimated(None, None),
        Case::native(
            "openai-responses",
            response(
                "zeros-responses",
                r#"{"input_tokens":0,"output_tokens":0,"total_tokens":0}"#,
            ),
        )
        .estimated(None, None),
        Case::new(
            "gemini",
            CHAT,
            gemini(
                "zeros-gemini",
                r#"{"promptTokenCount":0,"candidatesTokenCount":0,"totalTokenCount":0}"#,
            ),
        )
        .estimated(None, None),
        kept(Case::native(
            "openai",
            chat_stream("zeros-later", &[counted, all]),
        )),
        kept(Case::native(
            "openai",
            chat_stream("zeros-before", &[all, counted]),
        )),
        kept(Case::new(
            "openai",
            MESSAGES,
            chat_stream("zeros-later-messages", &[counted, all]),
        ))
        .told(r#""input_tokens":100,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":60"#),
        kept(Case::native(
            "openai",
            chat_stream("zeros-half", &[counted, no_output]),
        )),
    ]
}

/// Counts that stand only in the iterations of Anthropic's usage.
fn compaction() -> Vec<Case> {
    const USAGE: &str = r#"{"input_tokens":23000,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1000,"iterations":[{"type":"compaction","input_tokens":90000,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":3500},{"type":"message","input_tokens":23000,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1000}]}"#;
    let start = r#"{"input_tokens":23000,"output_tokens":1}"#;
    let cases = [
        Case::native("anthropic", claude("compaction", USAGE)),
        Case::native(
            "anthropic",
            claude_stream("compaction-stream", start, USAGE),
        ),
        Case::new("anthropic", CHAT, claude("compaction-chat", USAGE)),
        Case::new(
            "anthropic",
            CHAT,
            claude_stream("compaction-chat-stream", start, USAGE),
        ),
    ];
    let priced = cases.into_iter();
    let priced = priced.map(|case| case.counts(113_000, 0, 4500).cost("0.4065"));
    priced.collect()
}

/// Other vendors' names of what was written to the cache.
fn cache_writes() -> Vec<Case> {
    let qwen = r#"{"prompt_tokens":4150,"completion_tokens":50,"total_tokens":4200,"prompt_tokens_details":{"cached_tokens":400,"cache_creation_input_tokens":3600,"cache_creation":{"ephemeral_5m_input_tokens":3600},"cache_type":"ephemeral"}}"#;
    let litellm = r#"{"prompt_tokens":3000,"completion_tokens":100,"total_tokens":3100,"cache_creation_input_tokens":2400,"cache_read_input_tokens":400,"prompt_tokens_details":{"cached_tokens":400,"cache_creation_tokens":2400}}"#;
    vec![
        Case::native("openai", chat("writes-qwen", qwen))
            .by(OPUS)
            .counts(4150, 400, 50)
            .cost("0.0247"),
        Case::native("openai", chat_stream("writes-litellm", &[litellm]))
            .by(OPUS)
            .counts(3000, 400, 100)
            .cost("0.0187"),
        Case::new("openai", MESSAGES, chat("writes-messages", litellm))
            .by(OPUS)
            .counts(3000, 400, 100)
            .cost("0.0187")
            .told(r#""cache_creation_input_tokens":2400"#),
    ]
}

/// A placeholder at the end of a messages stream.
fn zero_input_at_the_end() -> Vec<Case> {
    let start = r#"{"input_tokens":4522,"cache_creation_input_tokens":0,"cache_read_input_tokens":1000,"output_tokens":1}"#;
    let ends = [
        r#"{"input_tokens":0,"output_tokens":16}"#,
        r#"{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":16}"#,
    ];
    let mut cases = Vec::new();
    for (index, end) in ends.into_iter().enumerate() {
        let script = |client: &str| claude_stream(&format!("end-{index}-{client}"), start, end);
        cases.push(Case::native("anthropic", script("messages")));
        let chat = Case::new("anthropic", CHAT, script("chat"));
        cases.push(chat.told(r#""prompt_tokens":5522"#));
        let responses = Case::new("anthropic", RESPONSES, script("responses"));
        cases.push(responses.told(r#""input_tokens":5522"#));
    }
    let priced = cases.into_iter();
    let priced = priced.map(|case| case.counts(5522, 1000, 16).cost("0.014106"));
    priced.collect()
}

/// Thinking that only the total has.
fn totals() -> Vec<Case> {
    let google = r#"{"prompt_tokens":35,"completion_tokens":12,"total_tokens":109}"#;
    let own = r#"{"promptTokenCount":35,"candidatesTokenCount":12,"totalTokenCount":109}"#;
    let xai = r#"{"prompt_tokens":35,"completion_tokens":12,"total_tokens":109,"completion_tokens_details":{"reasoning_tokens":62}}"#;
    let cases = [
        Case::native("openai", chat("total-plain", google)),
        Case::native("openai", chat_stream("total-stream", &[google])),
        Case::native("openai", chat("total-xai", xai)),
        Case::new("openai", MESSAGES, chat("total-messages", google)).told(r#""output_tokens":74"#),
        Case::new("gemini", CHAT, gemini("total-gemini", own)).told(r#""completion_tokens":74"#),
    ];
    let priced = cases.into_iter();
    let priced = priced.map(|case| case.counts(35, 0, 74).cost("0.001215"));
    priced.collect()
}

/// Parts that overlap are billed once.
fn overlaps() -> Vec<Case> {
    let audio = r#"{"prompt_tokens":1000,"completion_tokens":10,"total_tokens":1010,"prompt_tokens_details":{"cached_tokens":900,"audio_tokens":500}}"#;
    let images = r#"{"promptTokenCount":1000,"cachedContentTokenCount":900,"candidatesTokenCount":10,"totalTokenCount":1010,"promptTokensDetails":[{"modality":"IMAGE","tokenCount":500},{"modality":"TEXT","tokenCount":500}],"cacheTokensDetails":[{"modality":"IMAGE","tokenCount":400},{"modality":"TEXT","tokenCount":500}]}"#;
    let thoughts = r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,"completion_tokens_details":{"reasoning_tokens":80}}"#;
    let too_much = r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,"prompt_tokens_details":{"cached_tokens":5000,"audio_tokens":70,"image_tokens":70}}"#;
    vec![
        Case::native("openai", chat("overlap-audio", audio))
            .and("audio_input = \"40\"\ncached_audio_input = \"2\"")
            .counts(1000, 900, 10)
            .cost("0.0051"),
        Case::new("gemini", CHAT, gemini("overlap-images", images))
            .and("image_input = \"40\"\ncached_image_input = \"2\"")
            .counts(1000, 900, 10)
            .cost("0.0051"),
        Case::native("openai", chat("overlap-thoughts", thoughts))
            .and("reasoning = \"15\"")
            .counts(100, 0, 50)
            .cost("0.00105"),
        // All of it was cached: 70 of audio, 30 of images.
        Case::native("openai", chat("overlap-all", too_much))
            .and("audio_input = \"40\"\ncached_audio_input = \"2\"\nimage_input = \"50\"\ncached_image_input = \"1\"")
            .counts(100, 100, 50)
            .cost("0.00092"),
    ]
}

/// What is billed beside the tokens of the model that answers.
fn beside() -> Vec<Case> {
    const GEO: &str = r#"{"input_tokens":80000,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":5000,"inference_geo":"us"}"#;
    const ADVISOR: &str = r#"{"input_tokens":412,"cache_read_input_tokens":0,"output_tokens":531,"iterations":[{"type":"message","input_tokens":412,"cache_read_input_tokens":0,"output_tokens":89},{"type":"advisor_message","model":"claude-opus-4-7","input_tokens":823,"cache_read_input_tokens":0,"output_tokens":1612},{"type":"message","input_tokens":1348,"cache_read_input_tokens":412,"output_tokens":442}]}"#;
    const PERPLEXITY: &str = r#"{"prompt_tokens":33,"completion_tokens":7163,"total_tokens":7196,"citation_tokens":20016,"num_search_queries":18,"reasoning_tokens":73997}"#;
    let tools = r#"{"id":"resp_1","object":"response","status":"completed","model":"m","output":[{"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"search","query":"weir"}},{"type":"web_search_call","id":"ws_2","status":"completed","action":{"type":"open_page","url":"https://example.com"}},{"type":"file_search_call","id":"fs_1","status":"completed","queries":["a"],"results":null},{"type":"code_interpreter_call","id":"ci_1","status":"completed","container_id":"cntr_1","code":"1","outputs":null},{"type":"code_interpreter_call","id":"ci_2","status":"completed","container_id":"cntr_1","code":"2","outputs":null},{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"a weir","annotations":[]}]}],"usage":{"input_tokens":100,"output_tokens":10,"total_tokens":110}}"#;
    let fees = "web_search_per_1000 = \"10\"\nfile_search_per_1000 = \"2.5\"\ncode_execution_per_1000 = \"30\"";
    let of_tools = |case: Case| case.and(fees).counts(100, 0, 10).cost("0.04295");
    vec![
        Case::native("anthropic", claude("claude-sonnet-4-6", GEO))
            .by_the_book("claude-sonnet-4-6")
            .counts(80_000, 0, 5000)
            .cost("0.3465"),
        Case::new(
            "anthropic",
            CHAT,
            claude_stream("claude-sonnet-4-6-geo", GEO, GEO),
        )
        .by_the_book("claude-sonnet-4-6-geo")
        .counts(80_000, 0, 5000)
        .cost("0.3465"),
        Case::native("anthropic", claude("claude-sonnet-4-6-advised", ADVISOR))
            .by_the_book("claude-sonnet-4-6-advised")
            .counts(2172, 412, 531)
            .cost("0.0577836"),
        Case::native("openai", chat("perplexity", PERPLEXITY))
            .by(["2", "2", "2", "2", "8"])
            .and("reasoning = \"3\"\ncitation = \"2\"\nweb_search_per_1000 = \"5\"")
            .counts(33, 0, 101_176)
            .cost("0.409393"),
        of_tools(Case::native(
            "openai-responses",
            Script::plain("tools", tools),
        )),
        of_tools(Case::new(
            "openai-responses",
            CHAT,
            Script::plain("tools-chat", tools),
        )),
    ]
}

fn config(base_url: &str, cases: &[Case]) -> String {
    let of_case = |case: &Case| {
        let (name, dialect, price) = (case.name(), case.dialect, case.price());
        let model = if case.model.is_empty() {
            name
        } else {
            case.model
        };
        format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"{dialect}\"\nbase_url = \"{base_url}\"\n\n\
             [[alias]]\nname = \"{name}\"\ntargets = [{{ provider = \"{name}\", model = \"{model}\" }}]\n\n\
             {price}"
        )
    };
    cases.iter().map(of_case).collect()
}

fn request(case: &Case, key: &str) -> Request {
    let (name, streamed) = (case.name(), case.streamed);
    let prompt = r#"[{"role":"user","content":"how high is the water?"}]"#;
    let rest = match case.path {
        RESPONSES => format!(r#""input":{prompt}"#),
        CHAT if streamed => {
            format!(r#""messages":{prompt},"stream_options":{{"include_usage":true}}"#)
        }
        _ => format!(r#""messages":{prompt},"max_tokens":400"#),
    };
    let body = format!(r#"{{"model":"{name}","stream":{streamed},{rest}}}"#);
    Request::post(case.path, body)
        .bearer(key)
        .header("content-type", "application/json")
}

fn pico(dollars: &str) -> String {
    let (whole, fraction) = dollars.split_once('.').unwrap_or((dollars, ""));
    let pico = format!("{whole}{fraction:0<12}");
    pico.trim_start_matches('0').to_owned()
}

fn check(case: &Case, row: &Value) {
    let name = case.name();
    let is_estimated = case.counts.contains(&None);
    let source = if is_estimated {
        "estimated"
    } else {
        "reported"
    };
    assert_eq!(row["usage_source"], source, "{name}: {row}");
    let columns = ["input_tokens", "cached_input_tokens", "output_tokens"];
    for (column, count) in columns.into_iter().zip(case.counts) {
        let found = row[column]
            .as_str()
            .map_or(0, |count| count.parse().unwrap());
        match count {
            Some(count) => assert_eq!(found, count, "{name}, {column}: {row}"),
            None => assert!(found > 10, "{name}, {column}: {row}"),
        }
    }
    match case.cost {
        Some(cost) => assert_eq!(row["pico"], *pico(cost), "{name}: {row}"),
        None => assert_ne!(row["pico"], "0", "{name}: {row}"),
    }
}

#[test]
fn usage_is_read_in_every_form_that_providers_give_it() {
    let cases = [
        two_names(),
        zeros(),
        compaction(),
        cache_writes(),
        zero_input_at_the_end(),
        totals(),
        overlaps(),
        beside(),
    ];
    let cases: Vec<Case> = cases.into_iter().flatten().collect();
    let scripts = cases.iter().map(|case| case.script.clone()).collect();
    let provider = ScriptedProvider::start(scripts).unwrap();
    let base_url = format!("http://{}/v1", provider.address);
    let weir = Installation::new(&config(&base_url, &cases)).unwrap();
    let key = weir.create_key("usage").unwrap();
    let _up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    for case in &cases {
        let answer = request(case, &key).send(weir.gateway).unwrap();
        assert_eq!(answer.status, 200, "{}: {answer:?}", case.name());
        let text = answer.text();
        assert!(text.contains(case.told), "{}: {text}", case.name());
    }
    let count = cases.len() as u64;
    weir.wait_for_number("SELECT count() FROM weir.requests", count)
        .unwrap();
    let rows = "SELECT alias, usage_source, toString(input_tokens) AS input_tokens, \
        toString(cached_input_tokens) AS cached_input_tokens, \
        toString(output_tokens) AS output_tokens, \
        toString(toInt64(cost_usd * 1000000000000)) AS pico FROM weir.requests";
    let rows = weir.sql(rows).unwrap();
    for case in &cases {
        let row = rows.iter().find(|row| row["alias"] == case.name());
        check(case, row.unwrap());
    }
}
