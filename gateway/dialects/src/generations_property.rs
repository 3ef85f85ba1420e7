//! Whatever a client asks of whatever model: what is written keeps the model's rules, and what is
//! not as asked is listed, or refused by name.

use bytes::Bytes;
use http::HeaderMap;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::api::{ClientApi, UpstreamApi};
use crate::generations::{AskedReasoning, Generation, ReasoningControl, ReasoningOff};
use crate::neutral::Effort;
use crate::prepare::{UpstreamRequest, prepare};
use crate::refusal::{PrepareError, Unsupported};
use crate::request::ClientRequest;
use crate::target::Target;
use crate::{inspect, vendors};

#[derive(Clone, Debug)]
struct Wishes {
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<u64>,
    penalty: Option<f64>,
    stop: usize,
    max_tokens: Option<u64>,
    effort: Option<&'static str>,
    budget: Option<u64>,
    tools: bool,
    choice: Option<&'static str>,
}

fn wishes() -> impl Strategy<Value = Wishes> {
    let efforts = Effort::WORDS.map(|(_, word)| Some(word));
    let efforts = [&[None][..], &efforts].concat();
    (
        prop::sample::select(vec![None, Some(0.2), Some(1.0)]),
        prop::sample::select(vec![None, Some(0.5), Some(1.0)]),
        prop::sample::select(vec![None, Some(40)]),
        prop::sample::select(vec![None, Some(0.5)]),
        0..7_usize,
        prop::sample::select(vec![None, Some(300), Some(3000), Some(9_000_000)]),
        prop::sample::select(efforts),
        prop::sample::select(vec![None, Some(1), Some(2000), Some(31_999), Some(90_000)]),
        any::<bool>(),
        prop::sample::select(vec![
            None,
            Some("auto"),
            Some("none"),
            Some("required"),
            Some("named"),
        ]),
    )
        .prop_map(
            |(
                temperature,
                top_p,
                top_k,
                penalty,
                stop,
                max_tokens,
                effort,
                budget,
                tools,
                choice,
            )| Wishes {
                temperature,
                top_p,
                top_k,
                penalty,
                stop,
                max_tokens,
                effort,
                budget,
                tools,
                choice: choice.filter(|_| tools),
            },
        )
}

/// A parameter: its name in the client's API, and the value asked for.
type Asked = (&'static str, Value);

impl Wishes {
    fn stops(&self) -> Vec<String> {
        (0..self.stop).map(|n| format!("s{n}")).collect()
    }

    /// The request in a client's words.
    fn request(&self, api: ClientApi) -> Value {
        let mut body = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            body.extend(value.map(|value| (key.to_owned(), value)));
        };
        put("model", Some(json!("m")));
        put("temperature", self.temperature.map(Value::from));
        put("top_p", self.top_p.map(Value::from));
        let stops = (self.stop > 0).then(|| json!(self.stops()));
        let word = self.choice.filter(|choice| *choice != "named");
        let schema = json!({"type": "object", "properties": {}});
        match api {
            ClientApi::ChatCompletions => {
                put("messages", Some(json!([{"role": "user", "content": "q"}])));
                put("top_k", self.top_k.map(Value::from));
                put("frequency_penalty", self.penalty.map(Value::from));
                put("stop", stops);
                put("max_completion_tokens", self.max_tokens.map(Value::from));
                put("reasoning_effort", self.effort.map(Value::from));
                let function = json!({"name": "f", "parameters": schema});
                put(
                    "tools",
                    self.tools
                        .then(|| json!([{"type": "function", "function": function}])),
                );
                let named = json!({"type": "function", "function": {"name": "f"}});
                put(
                    "tool_choice",
                    self.choice.map(|_| word.map_or(named, Value::from)),
                );
            }
            ClientApi::Responses => {
                put("input", Some(json!("q")));
                put("max_output_tokens", self.max_tokens.map(Value::from));
                put(
                    "reasoning",
                    self.effort.map(|effort| json!({"effort": effort})),
                );
                let function = json!({"type": "function", "name": "f", "parameters": schema});
                put("tools", self.tools.then(|| json!([function])));
                let named = json!({"type": "function", "name": "f"});
                put(
                    "tool_choice",
                    self.choice.map(|_| word.map_or(named, Value::from)),
                );
            }
            _ => {
                put("messages", Some(json!([{"role": "user", "content": "q"}])));
                put("top_k", self.top_k.map(Value::from));
                put("stop_sequences", stops);
                put("max_tokens", Some(json!(self.max_tokens.unwrap_or(300))));
                put(
                    "thinking",
                    self.budget
                        .map(|tokens| json!({"type": "enabled", "budget_tokens": tokens})),
                );
                let effort = self.effort.filter(|_| self.budget.is_none());
                put(
                    "output_config",
                    effort.map(|effort| json!({"effort": effort})),
                );
                let tool = json!({"name": "f", "input_schema": schema});
                put("tools", self.tools.then(|| json!([tool])));
                put(
                    "tool_choice",
                    self.choice.map(|choice| match choice {
                        "required" => json!({"type": "any"}),
                        "named" => json!({"type": "tool", "name": "f"}),
                        word => json!({"type": word}),
                    }),
                );
            }
        }
        Value::Object(body)
    }

    /// What must arrive or be listed, by its name in the client's API.
    fn asked(&self, api: ClientApi) -> Vec<Asked> {
        let mut asked = Vec::new();
        let mut add = |name, value: Option<Value>| asked.extend(value.map(|value| (name, value)));
        add("temperature", self.temperature.map(Value::from));
        add("top_p", self.top_p.map(Value::from));
        let stops = (self.stop > 0).then(|| json!(self.stops()));
        let limit = |asked: Option<u64>| asked.map(Value::from);
        match api {
            ClientApi::ChatCompletions => {
                add("top_k", self.top_k.map(Value::from));
                add(
                    "frequency_penalty, presence_penalty",
                    self.penalty.map(Value::from),
                );
                add("stop", stops);
                add("max_completion_tokens", limit(self.max_tokens));
                add("reasoning_effort", self.effort.map(Value::from));
            }
            ClientApi::Responses => {
                add("max_output_tokens", limit(self.max_tokens));
                add("reasoning", self.effort.map(Value::from));
            }
            _ => {
                add("top_k", self.top_k.map(Value::from));
                add("stop_sequences", stops);
                add("max_tokens", limit(Some(self.max_tokens.unwrap_or(300))));
                let effort = self.effort.filter(|_| self.budget.is_none());
                add("thinking", effort.map(Value::from));
            }
        }
        add(
            "tool_choice",
            self.choice
                .filter(|choice| *choice != "auto")
                .map(Value::from),
        );
        asked
    }
}

/// What a target's request says of what a client calls `name`.
fn written<'v>(name: &str, upstream: UpstreamApi, body: &'v Value) -> Option<&'v Value> {
    let places: &[&str] = match (name, upstream) {
        ("frequency_penalty, presence_penalty", UpstreamApi::GenerateContent) => {
            &["/generationConfig/frequencyPenalty"]
        }
        ("frequency_penalty, presence_penalty", _) => &["/frequency_penalty"],
        ("top_p", UpstreamApi::GenerateContent) => &["/generationConfig/topP"],
        ("top_k", UpstreamApi::GenerateContent) => &["/generationConfig/topK"],
        ("temperature", UpstreamApi::GenerateContent) => &["/generationConfig/temperature"],
        ("temperature", _) => &["/temperature"],
        ("top_p", _) => &["/top_p"],
        ("top_k", _) => &["/top_k"],
        ("stop" | "stop_sequences", _) => &[
            "/stop",
            "/stop_sequences",
            "/generationConfig/stopSequences",
        ],
        ("reasoning_effort" | "reasoning" | "thinking", _) => &[
            "/reasoning_effort",
            "/reasoning/effort",
            "/output_config/effort",
            "/generationConfig/thinkingConfig/thinkingLevel",
        ],
        ("tool_choice", _) => &["/tool_choice", "/toolConfig/functionCallingConfig"],
        _ => &[
            "/max_tokens",
            "/max_completion_tokens",
            "/max_output_tokens",
            "/generationConfig/maxOutputTokens",
        ],
    };
    places.iter().find_map(|place| body.pointer(place))
}

/// Whether a choice of tools is the one asked for.
fn is_choice(asked: &str, found: &Value) -> bool {
    let found = found.to_string();
    match asked {
        "none" => found.to_lowercase().contains("none"),
        "required" => found.contains("required") || found.contains("any") || found.contains("ANY"),
        _ => found.contains("\"f\""),
    }
}

/// Whether a request switches reasoning off.
fn is_off(body: &Value) -> bool {
    let kind = body.pointer("/thinking/type").and_then(Value::as_str);
    matches!(kind, Some("disabled" | "between_tools"))
        || body.pointer("/generationConfig/thinkingConfig/thinkingBudget") == Some(&json!(0))
        || body.get("enable_thinking") == Some(&json!(false))
        || body.pointer("/chat_template_kwargs/enable_thinking") == Some(&json!(false))
        || body.pointer("/reasoning/enabled") == Some(&json!(false))
        || written("reasoning", UpstreamApi::Responses, body) == Some(&json!("none"))
}

fn is_on(body: &Value) -> bool {
    let kind = body.pointer("/thinking/type").and_then(Value::as_str);
    !is_off(body)
        && (matches!(kind, Some("enabled" | "adaptive"))
            || body.pointer("/generationConfig/thinkingConfig").is_some()
            || written("reasoning", UpstreamApi::Responses, body).is_some())
}

fn prepared(
    wishes: &Wishes,
    api: ClientApi,
    target: &Target<'_>,
) -> Result<UpstreamRequest, PrepareError> {
    let body = Bytes::from(wishes.request(api).to_string());
    let facts = inspect(api, &body).unwrap();
    let request = ClientRequest {
        api,
        headers: &HeaderMap::new(),
        query: None,
        body: &body,
        facts: &facts,
        output_limit: None,
        request_id: "r",
        now_s: 0,
    };
    prepare(&request, target)
}

fn check_row(wishes: &Wishes, api: ClientApi, target: &Target<'_>) {
    let shown = || {
        format!(
            "{api:?} to {} {} {wishes:?}",
            target.vendor.name, target.model
        )
    };
    let upstream = match prepared(wishes, api, target) {
        Ok(upstream) => upstream,
        Err(PrepareError::Unsupported { field, .. }) => {
            assert_eq!(target.unsupported, Unsupported::Refuse, "{}", shown());
            let asked = wishes.asked(api);
            let field = field.split(" (").next().unwrap_or_default();
            let is_asked = asked.iter().any(|(name, _)| name.contains(field));
            assert!(
                is_asked || field == "tools" || field == "thinking",
                "{field}: {}",
                shown()
            );
            return;
        }
        Err(other) => panic!("{other}: {}", shown()),
    };
    let text = upstream.body.to_bytes();
    let body: Value = serde_json::from_slice(&text).unwrap();
    let api_of = upstream.context.upstream;
    let row = target.generation;
    let is_listed = |name: &str| {
        let mut dropped = upstream.dropped.iter();
        dropped.any(|dropped| {
            // Some say in brackets what of the field was too much.
            let field = dropped.split(" (").next().unwrap_or(dropped);
            field == name || name.split(", ").any(|part| part == field)
        })
    };
    if api_of.is_native_to(api) && api != ClientApi::ChatCompletions {
        // The vendor's own API, whose client knows its models.
        return;
    }
    for (name, value) in wishes.asked(api) {
        let found = written(name, api_of, &body);
        let same = match (&value, found) {
            (Value::String(word), Some(found)) if name == "tool_choice" => is_choice(word, found),
            (Value::String(word), None) if word == "none" => {
                is_off(&body) || !row.reasons(&AskedReasoning::default())
            }
            // A budget or a switch stands for the effort.
            (Value::String(_), None) => {
                let is_amount = row.reasoning.budget.is_some()
                    || matches!(
                        row.reasoning.control,
                        ReasoningControl::EnableThinking | ReasoningControl::OpenRouter
                    );
                is_amount && name != "tool_choice"
            }
            (value, Some(found)) => value
                .as_f64()
                .map_or(*value == *found, |value| found.as_f64() == Some(value)),
            (_, None) => false,
        };
        let tools_gone = name == "tool_choice" && is_listed("tools");
        assert!(
            same || tools_gone || is_listed(name),
            "{name} is lost: {} {body} {:?}",
            shown(),
            upstream.dropped
        );
    }
    check_limits(row, api_of, &body, &shown);
}

/// What is written keeps the row's limits.
fn check_limits(row: &Generation, api: UpstreamApi, body: &Value, shown: &dyn Fn() -> String) {
    let reasons = !is_off(body) && (is_on(body) || row.reasoning.unasked);
    for (name, when) in [
        ("temperature", row.sampling.temperature),
        ("top_p", row.sampling.top_p),
        ("top_k", row.sampling.top_k),
        (
            "frequency_penalty, presence_penalty",
            row.sampling.penalties,
        ),
    ] {
        let found = written(name, api, body);
        assert!(
            found.is_none() || when.holds(reasons),
            "{name} is refused: {} {body}",
            shown()
        );
    }
    let stops = written("stop", api, body)
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    assert!(stops <= row.stop_max, "stop: {} {body}", shown());
    if let (Some(found), Some(most)) = (written("max_tokens", api, body), row.output_tokens_max) {
        assert!(
            found.as_u64() <= Some(most),
            "max_tokens: {} {body}",
            shown()
        );
    }
    let budget = body
        .pointer("/thinking/budget_tokens")
        .or_else(|| body.pointer("/generationConfig/thinkingConfig/thinkingBudget"));
    if let (Some(found), Some(range)) = (budget.and_then(Value::as_u64), row.reasoning.budget) {
        let fits = (range.min..=range.max).contains(&found);
        let is_off = found == 0 && row.reasoning.off == ReasoningOff::Switch;
        assert!(fits || is_off, "budget: {} {body}", shown());
    }
    let effort = written("reasoning", api, body).and_then(Value::as_str);
    if let Some(effort) = effort.filter(|_| !row.reasoning.efforts.is_empty()) {
        let known = row
            .reasoning
            .efforts
            .iter()
            .any(|known| known.as_str() == effort);
        assert!(known, "effort {effort}: {} {body}", shown());
    }
    let forced = written("tool_choice", api, body);
    let is_forced =
        forced.is_some_and(|found| is_choice("required", found) || is_choice("named", found));
    assert!(
        !is_forced || row.forced_tools.holds(reasons),
        "tool_choice: {} {body}",
        shown()
    );
    let has_tools = body.get("tools").is_some();
    let by_chat = api == UpstreamApi::ChatCompletions;
    assert!(
        !by_chat || !has_tools || row.chat_tools.holds(reasons),
        "tools: {} {body}",
        shown()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_that_differs_is_unlisted_and_limits_are_kept(wishes in wishes()) {
        for vendor in vendors::all() {
            for row in vendor.generations {
                for api in [ClientApi::ChatCompletions, ClientApi::Responses, ClientApi::Messages] {
                    for unsupported in [Unsupported::Drop, Unsupported::Refuse] {
                        let model = if row.name().is_empty() { "unknown" } else { row.name() };
                        let target = Target {
                            unsupported,
                            api_version: Some("2024-10-21"),
                            generation: row,
                            ..Target::new(vendor, model)
                        };
                        check_row(&wishes, api, &target);
                    }
                }
            }
        }
    }
}
