//! Anthropic's Messages API, and its counting of tokens.
//!
//! Fields are those of the types of its SDK (PyPI `anthropic` 2.14.0, 2026-11) and of
//! platform.claude.com/docs/en/api/messages; words of the rules are on the pages that each of them names.

mod blocks;
mod shapes;

use std::collections::HashSet;

use http::HeaderMap;
use serde_json::Value;

use super::models::{Claude, SamplingRule};
use super::schema::{self, SchemaRules};
use super::shape::{ShapeCheck, Unknown};
use super::{ApiRule, Complaint, FieldPath, Violation, broken, is_blank, items};

const WALK: ShapeCheck = ShapeCheck {
    unknown: Unknown::Refused,
    null_is_absent: false,
};

const fn rule(name: &'static str, source: &'static str) -> ApiRule {
    ApiRule { name, source }
}

const MESSAGES: &str = "https://platform.claude.com/docs/en/api/messages";
const MIGRATION: &str = "https://platform.claude.com/docs/en/about-claude/models/migration-guide";
const THINKING: &str = "https://platform.claude.com/docs/en/build-with-claude/extended-thinking";
const TOOLS: &str =
    "https://platform.claude.com/docs/en/agents-and-tools/tool-use/implement-tool-use";
const SCHEMAS: &str = "https://platform.claude.com/docs/en/build-with-claude/structured-outputs";

const VERSION: ApiRule = rule(
    "anthropic-version",
    "https://platform.claude.com/docs/en/api/versioning",
);
const NEWEST_VERSION: ApiRule = rule(
    "removed-in-2026-10-21",
    "https://platform.claude.com/docs/en/api/migration-2026-10-21",
);
const MAX_TOKENS: ApiRule = rule(
    "max-tokens",
    "https://platform.claude.com/docs/en/about-claude/models/overview",
);
const SAMPLING: ApiRule = rule("sampling", MIGRATION);
const SAMPLING_THINKING: ApiRule = rule("sampling-while-thinking", THINKING);
const THINKING_TYPE: ApiRule = rule("thinking-type", MIGRATION);
const THINKING_BUDGET: ApiRule = rule("thinking-budget", THINKING);
const EFFORT: ApiRule = rule(
    "effort",
    "https://platform.claude.com/docs/en/build-with-claude/effort",
);
const PREFILL: ApiRule = rule(
    "prefill",
    "https://platform.claude.com/docs/en/api/errors#prefill-not-supported",
);
const TOOL_CHOICE: ApiRule = rule("tool-choice", TOOLS);
const TOOL_CHOICE_THINKING: ApiRule = rule("tool-choice-while-thinking", THINKING);
const TOOL_NAMES: ApiRule = rule("tool-names", TOOLS);
const TOOL_TYPE: ApiRule = rule("tool-type", MESSAGES);
const TOOL_SCHEMA: ApiRule = rule("tool-schema", TOOLS);
const STOP: ApiRule = rule("stop-sequences", MESSAGES);
const ANSWER_SCHEMA: SchemaRules = SchemaRules {
    rule: rule("answer-schema", SCHEMAS),
    refused: &[
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "maxItems",
        "uniqueItems",
        "oneOf",
        "not",
        "if",
        "patternProperties",
        "prefixItems",
    ],
    closed: true,
    all_required: false,
};

/// What `POST /v1/messages` refuses.
pub(super) fn check(model: &str, headers: &HeaderMap, body: &Value) -> Result<(), Violation> {
    let known = Claude::of(model);
    let shape = match beta(headers) {
        true => &shapes::BETA_REQUEST,
        false => &shapes::REQUEST,
    };
    let version = version(headers)?;
    WALK.object(shape, body, &FieldPath::default())?;
    of_version(version, body)?;
    max_tokens(known, body)?;
    sampling(known, body)?;
    stop_sequences(body)?;
    common(known, body)
}

/// What `POST /v1/messages/count_tokens` refuses.
pub(super) fn check_count(model: &str, headers: &HeaderMap, body: &Value) -> Result<(), Violation> {
    let shape = match beta(headers) {
        true => &shapes::BETA_COUNT_TOKENS,
        false => &shapes::COUNT_TOKENS,
    };
    let version = version(headers)?;
    WALK.object(shape, body, &FieldPath::default())?;
    of_version(version, body)?;
    common(Claude::of(model), body)
}

fn common(known: Option<Claude>, body: &Value) -> Result<(), Violation> {
    thinking(known, body)?;
    effort(known, body)?;
    tools(known, body)?;
    answer_schema(known, body)?;
    blocks::system(&body["system"])?;
    blocks::messages(known, body)?;
    blocks::cache_marks(body)
}

/// Whether a request asks for betas, whose fields are only then known.
fn beta(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-beta")
}

const VERSIONS: [&str; 3] = ["2023-01-01", "2023-06-01", NEWEST];
const NEWEST: &str = "2026-10-21";

fn version(headers: &HeaderMap) -> Result<&'static str, Violation> {
    let path = || FieldPath::of("anthropic-version");
    let Some(version) = headers.get("anthropic-version") else {
        return Err(Violation::new(VERSION, path(), Complaint::Missing));
    };
    let known = VERSIONS.into_iter().find(|known| version == known);
    known.ok_or_else(|| {
        let problem = format!("is no version; {NEWEST} is the newest");
        Violation::new(VERSION, path(), Complaint::Value(problem))
    })
}

/// What a version took away.
fn of_version(version: &str, body: &Value) -> Result<(), Violation> {
    if version != NEWEST {
        return Ok(());
    }
    let gone = ["temperature", "top_p", "top_k"]
        .into_iter()
        .find(|name| body.get(name).is_some());
    if let Some(name) = gone {
        let problem = "was removed in this API version";
        return broken(NEWEST_VERSION, FieldPath::of(name), problem);
    }
    blocks::of_newest_version(body)
}

fn max_tokens(known: Option<Claude>, body: &Value) -> Result<(), Violation> {
    let wanted = body["max_tokens"].as_i64().unwrap_or(0);
    let path = || FieldPath::of("max_tokens");
    if let Some(max) = known
        .map(|known| known.max_tokens)
        .filter(|max| wanted > *max)
    {
        let problem = format!("{wanted} > {max}, which is the maximum of this model");
        return broken(MAX_TOKENS, path(), problem);
    }
    Ok(())
}

fn sampling(known: Option<Claude>, body: &Value) -> Result<(), Violation> {
    let default = |name| match name {
        "temperature" | "top_p" => body[name].as_f64() == Some(1.0),
        _ => false,
    };
    let said = |name: &&str| body.get(*name).is_some();
    let mut names = ["temperature", "top_p", "top_k"].into_iter().filter(said);
    let refused = match known.map(|known| known.sampling) {
        Some(SamplingRule::None) => names.next(),
        Some(SamplingRule::Defaults) => names.find(|name| !default(name)),
        _ => None,
    };
    if let Some(name) = refused {
        let problem = format!("`{name}` is deprecated for this model");
        return broken(SAMPLING, FieldPath::of(name), problem);
    }
    let both = body.get("temperature").is_some() && body.get("top_p").is_some();
    if both && known.is_some_and(|known| known.sampling == SamplingRule::OneOfTwo) {
        let problem = "`temperature` and `top_p` cannot both be specified for this model";
        return broken(SAMPLING, FieldPath::of("top_p"), problem);
    }
    sampling_while_thinking(body)
}

fn sampling_while_thinking(body: &Value) -> Result<(), Violation> {
    if !is_thinking(body) {
        return Ok(());
    }
    let temperature = body["temperature"].as_f64().unwrap_or(1.0);
    if (temperature - 1.0).abs() > f64::EPSILON {
        let problem = "may only be set to 1 when thinking is enabled";
        return broken(SAMPLING_THINKING, FieldPath::of("temperature"), problem);
    }
    if body.get("top_k").is_some() {
        let problem = "must be unset when thinking is enabled";
        return broken(SAMPLING_THINKING, FieldPath::of("top_k"), problem);
    }
    if body["top_p"].as_f64().is_some_and(|top_p| top_p < 0.95) {
        let problem = "must be at least 0.95 or unset when thinking is enabled";
        return broken(SAMPLING_THINKING, FieldPath::of("top_p"), problem);
    }
    Ok(())
}

/// Whether a request turns thinking on.
fn is_thinking(body: &Value) -> bool {
    matches!(
        body["thinking"]["type"].as_str(),
        Some("enabled" | "adaptive")
    )
}

fn stop_sequences(body: &Value) -> Result<(), Violation> {
    let path = FieldPath::of("stop_sequences");
    let blank =
        items(&body["stop_sequences"]).find(|(_, stop)| stop.as_str().is_some_and(is_blank));
    match blank {
        Some((index, _)) => broken(
            STOP,
            path.at(index),
            "each stop sequence must contain non-whitespace",
        ),
        None => Ok(()),
    }
}

fn thinking(known: Option<Claude>, body: &Value) -> Result<(), Violation> {
    let path = FieldPath::of("thinking").key("type");
    let Some(kind) = body["thinking"]["type"].as_str() else {
        return Ok(());
    };
    if let Some(known) = known {
        if !known.thinking.contains(&kind) {
            let problem = format!("\"thinking.type.{kind}\" is not supported for this model");
            return broken(THINKING_TYPE, path, problem);
        }
        let effort = body["output_config"]["effort"].as_str();
        if kind == "disabled" && known.off_up_to_high && matches!(effort, Some("xhigh" | "max")) {
            let problem = "thinking can be disabled at effort high or below";
            return broken(THINKING_TYPE, path, problem);
        }
    }
    let budget = body["thinking"]["budget_tokens"].as_i64();
    let max_tokens = body["max_tokens"].as_i64();
    // Counting has no `max_tokens`.
    if let (Some(budget), Some(max)) = (budget, max_tokens)
        && budget >= max
    {
        let problem = "`max_tokens` must be greater than `thinking.budget_tokens`";
        return broken(THINKING_BUDGET, FieldPath::of("max_tokens"), problem);
    }
    Ok(())
}

fn effort(known: Option<Claude>, body: &Value) -> Result<(), Violation> {
    let (Some(known), Some(effort)) = (known, body["output_config"]["effort"].as_str()) else {
        return Ok(());
    };
    if known.efforts.contains(&effort) {
        return Ok(());
    }
    let path = FieldPath::of("output_config").key("effort");
    let problem = match known.efforts {
        [] => "This model does not support the effort parameter.".to_owned(),
        efforts => format!(
            "This model does not support effort level '{effort}'. Supported levels: {}.",
            efforts.join(", ")
        ),
    };
    broken(EFFORT, path, problem)
}

fn tools(known: Option<Claude>, body: &Value) -> Result<(), Violation> {
    let path = FieldPath::of("tools");
    let mut names = HashSet::new();
    for (index, tool) in items(&body["tools"]) {
        let path = path.at(index);
        match tool["type"].as_str() {
            None | Some("custom") => WALK.object(&shapes::CUSTOM_TOOL, tool, &path)?,
            Some(kind) => {
                let defined = shapes::DEFINED_TOOLS
                    .iter()
                    .any(|start| kind.starts_with(start));
                if !defined {
                    let problem = format!(
                        "Input tag '{kind}' found using 'type' does not match any of the expected tags"
                    );
                    return broken(TOOL_TYPE, path.key("type"), problem);
                }
            }
        }
        if let Some(name) = tool["name"].as_str()
            && !names.insert(name)
        {
            return broken(TOOL_NAMES, path.key("name"), "Tool names must be unique.");
        }
        if tool.get("input_schema").is_some() {
            tool_schema(known, tool, &path.key("input_schema"))?;
        }
    }
    tool_choice(known, body, &names)
}

fn tool_schema(known: Option<Claude>, tool: &Value, path: &FieldPath) -> Result<(), Violation> {
    let schema = &tool["input_schema"];
    if let Some(keyword) = ["oneOf", "allOf", "anyOf"]
        .iter()
        .find(|keyword| schema.get(**keyword).is_some())
    {
        let problem = "does not support oneOf, allOf, or anyOf at the top level";
        return broken(TOOL_SCHEMA, path.key(keyword), problem);
    }
    schema::valid(schema, path, TOOL_SCHEMA)?;
    let names = schema["properties"].as_object().into_iter().flatten();
    for (name, _) in names {
        let fits = (1..=64).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if !fits {
            let problem = "Property keys should match pattern '^[a-zA-Z0-9_.-]{1,64}$'";
            return broken(TOOL_SCHEMA, path.key("properties").key(name), problem);
        }
    }
    if tool["strict"] == true {
        if known.is_some_and(|known| !known.schemas) {
            let problem = "this model does not support strict tools";
            return broken(ANSWER_SCHEMA.rule, path.clone(), problem);
        }
        schema::strict(schema, path, &ANSWER_SCHEMA)?;
    }
    Ok(())
}

fn tool_choice(
    known: Option<Claude>,
    body: &Value,
    names: &HashSet<&str>,
) -> Result<(), Violation> {
    let choice = &body["tool_choice"];
    let Some(kind) = choice["type"].as_str() else {
        return Ok(());
    };
    let path = FieldPath::of("tool_choice");
    if kind != "none" && names.is_empty() && items(&body["tools"]).next().is_none() {
        let problem = "tool_choice may only be specified while providing tools";
        return broken(TOOL_CHOICE, path, problem);
    }
    let forces = matches!(kind, "any" | "tool");
    if forces && is_thinking(body) {
        let problem = "Thinking may not be enabled when tool_choice forces tool use.";
        return broken(TOOL_CHOICE_THINKING, path, problem);
    }
    if forces && known.is_some_and(|known| !known.forced_tools) {
        let problem = "forced tool use is not supported by this model";
        return broken(TOOL_CHOICE_THINKING, path, problem);
    }
    match choice["name"].as_str() {
        Some(name) if !names.contains(name) => {
            let problem = format!("Tool '{name}' not found in provided tools");
            broken(TOOL_CHOICE, path.key("name"), problem)
        }
        _ => Ok(()),
    }
}

fn answer_schema(known: Option<Claude>, body: &Value) -> Result<(), Violation> {
    let format = &body["output_config"]["format"];
    if !format.is_object() {
        return Ok(());
    }
    let path = FieldPath::of("output_config").key("format");
    if known.is_some_and(|known| !known.schemas) {
        let problem = "this model does not support output format";
        return broken(ANSWER_SCHEMA.rule, path, problem);
    }
    let path = path.key("schema");
    schema::valid(&format["schema"], &path, ANSWER_SCHEMA.rule)?;
    schema::strict(&format["schema"], &path, &ANSWER_SCHEMA)
}
