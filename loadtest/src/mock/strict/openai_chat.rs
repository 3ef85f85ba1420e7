//! OpenAI's chat completions, and what compatible vendors take of them.
//!
//! Fields are those of OpenAI's OpenAPI document (github.com/openai/openai-openapi, 2026-08-21) and SDK (PyPI `openai` 3.57.0);
//! the rules that span values, of the pages that each names.

mod shapes;

use std::collections::HashSet;

use serde_json::Value;

use super::models::OpenAi;
use super::schema::{self, SchemaRules};
use super::shape::{ShapeCheck, Unknown};
use super::vendors::{StrictVendor, VendorCall};
use super::{ApiRule, Complaint, FieldPath, Violation, broken, items};

pub(super) const fn rule(name: &'static str, source: &'static str) -> ApiRule {
    ApiRule { name, source }
}

pub(super) const CHAT: &str = "https://platform.openai.com/docs/api-reference/chat/create";
const CALLING: &str = "https://platform.openai.com/docs/guides/function-calling";
const REASONING: &str = "https://platform.openai.com/docs/guides/reasoning";
const SCHEMAS: &str = "https://platform.openai.com/docs/guides/structured-outputs";

const MODEL_API: ApiRule = rule(
    "model-of-another-api",
    "https://platform.openai.com/docs/models",
);
const TOKENS: ApiRule = rule("max-tokens", CHAT);
pub(super) const SAMPLING: ApiRule = rule("sampling", REASONING);
pub(super) const EFFORT: ApiRule = rule("effort", REASONING);
const TOOLS_REASONING: ApiRule = rule(
    "tools-while-reasoning",
    "https://developers.openai.com/api/docs/guides/latest-model",
);
const STREAM_OPTIONS: ApiRule = rule("stream-options", CHAT);
const TOP_LOGPROBS: ApiRule = rule("top-logprobs", CHAT);
const JSON_WORD: ApiRule = rule("json-mode-says-json", SCHEMAS);
const ONLY_WITH_TOOLS: ApiRule = rule("only-with-tools", CHAT);
const TOOL_CHOICE: ApiRule = rule("tool-choice", CALLING);
const TOOL_SCHEMA: ApiRule = rule("tool-schema", CALLING);
const CALLS_ANSWERED: ApiRule = rule("tool-result-follows-its-call", CALLING);
const RESULTS_CALLED: ApiRule = rule("tool-result-has-a-call", CALLING);
const ASSISTANT: ApiRule = rule("assistant-says-something", CHAT);
const IMAGE: ApiRule = rule(
    "image-url",
    "https://platform.openai.com/docs/guides/images-vision",
);
const FILE: ApiRule = rule("file", "https://platform.openai.com/docs/guides/pdf-files");
pub(super) const STRICT_SCHEMA: SchemaRules = SchemaRules {
    rule: rule("strict-schema", SCHEMAS),
    refused: &[
        "allOf",
        "oneOf",
        "not",
        "dependentRequired",
        "dependentSchemas",
        "if",
        "then",
        "else",
        "patternProperties",
    ],
    closed: true,
    all_required: true,
};

/// What a vendor's chat completions refuse.
pub(super) fn check(
    vendor: &'static StrictVendor,
    model: &str,
    body: &Value,
) -> Result<(), Violation> {
    let root = FieldPath::default();
    if vendor.is_openai {
        let walk = ShapeCheck {
            unknown: Unknown::Refused,
            null_is_absent: false,
        };
        walk.object(&shapes::REQUEST, body, &root)?;
        if let Some(known) = OpenAi::of(model) {
            of_model(known, body)?;
        }
    } else {
        let walk = ShapeCheck {
            unknown: Unknown::Ignored,
            null_is_absent: true,
        };
        walk.object(&shapes::COMPATIBLE, body, &root)?;
        walk.object(vendor.own, body, &root)?;
        let call = VendorCall {
            vendor,
            model,
            body,
        };
        call.check()?;
        pairs(body)?;
        return Ok(());
    }
    together(body)?;
    tools(body)?;
    pairs(body)?;
    messages(body)?;
    answer_format(body)
}

fn said<'b>(body: &'b Value, name: &str) -> Option<&'b Value> {
    body.get(name).filter(|value| !value.is_null())
}

/// Parameters that a model does not take.
fn of_model(known: OpenAi, body: &Value) -> Result<(), Violation> {
    if !known.chat {
        let problem =
            "This model is only supported in v1/responses and not in v1/chat/completions.";
        return broken(MODEL_API, FieldPath::of("model"), problem);
    }
    let effort = said(body, "reasoning_effort").and_then(Value::as_str);
    self::effort(known, effort, &FieldPath::of("reasoning_effort"))?;
    let effort = effort.unwrap_or(known.effort);
    let reasons = !known.efforts.is_empty();
    if reasons && said(body, "max_tokens").is_some() {
        let problem = "is not supported with this model. Use 'max_completion_tokens' instead.";
        return broken(TOKENS, FieldPath::of("max_tokens"), problem);
    }
    for name in ["max_completion_tokens", "max_tokens"] {
        if body[name]
            .as_i64()
            .is_some_and(|wanted| wanted > known.max_tokens)
        {
            let problem = format!(
                "is too large. This model supports at most {}",
                known.max_tokens
            );
            return broken(TOKENS, FieldPath::of(name), problem);
        }
    }
    sampling(known, effort, body, &FieldPath::default())?;
    if !known.stop && said(body, "stop").is_some() {
        let problem = "is not supported with this model.";
        return broken(SAMPLING, FieldPath::of("stop"), problem);
    }
    if !known.parallel_calls && said(body, "parallel_tool_calls").is_some() {
        let problem = "is not supported with this model.";
        return broken(SAMPLING, FieldPath::of("parallel_tool_calls"), problem);
    }
    let has_tools = items(&body["tools"]).next().is_some();
    if has_tools && !known.chat_tools_reasoning && effort != "none" {
        let problem = "Function tools with reasoning are not supported for this model in /v1/chat/completions. Please use /v1/responses instead, or set it to 'none'.";
        return broken(TOOLS_REASONING, FieldPath::of("reasoning_effort"), problem);
    }
    if !known.verbosity && said(body, "verbosity").is_some_and(|value| value != "medium") {
        let problem = "is not supported with this model. Supported values are: 'medium'.";
        return broken(EFFORT, FieldPath::of("verbosity"), problem);
    }
    Ok(())
}

pub(super) fn effort(
    known: OpenAi,
    effort: Option<&str>,
    path: &FieldPath,
) -> Result<(), Violation> {
    let Some(effort) = effort.filter(|effort| !known.efforts.contains(effort)) else {
        return Ok(());
    };
    let problem = match known.efforts {
        [] => "Unsupported parameter: not supported with this model.".to_owned(),
        efforts => format!(
            "Unsupported value: '{effort}' is not supported with this model. Supported values are: {}.",
            efforts.join(", ")
        ),
    };
    broken(EFFORT, path.clone(), problem)
}

/// SamplingRule parameters while a model reasons.
pub(super) fn sampling(
    known: OpenAi,
    effort: &str,
    body: &Value,
    path: &FieldPath,
) -> Result<(), Violation> {
    let samples = known.efforts.is_empty() || (known.samples_at_none && effort == "none");
    if samples {
        return Ok(());
    }
    for (name, default) in [
        ("temperature", 1.0),
        ("top_p", 1.0),
        ("presence_penalty", 0.0),
        ("frequency_penalty", 0.0),
    ] {
        let value = said(body, name).and_then(Value::as_f64);
        if value.is_some_and(|value| (value - default).abs() > f64::EPSILON) {
            let problem = format!(
                "Unsupported value: not supported with this model. Only the default ({default}) value is supported."
            );
            return broken(SAMPLING, path.key(name), problem);
        }
    }
    for name in ["logprobs", "top_logprobs", "logit_bias"] {
        let set = said(body, name).is_some_and(|value| *value != Value::Bool(false));
        if set {
            let problem = "Unsupported parameter: not supported with this model.";
            return broken(SAMPLING, path.key(name), problem);
        }
    }
    Ok(())
}

/// Fields that go only with others.
fn together(body: &Value) -> Result<(), Violation> {
    if said(body, "stream_options").is_some() && body["stream"] != true {
        let problem = "is only allowed when 'stream' is enabled.";
        return broken(STREAM_OPTIONS, FieldPath::of("stream_options"), problem);
    }
    if said(body, "max_tokens").is_some() && said(body, "max_completion_tokens").is_some() {
        let problem =
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.";
        return broken(TOKENS, FieldPath::of("max_tokens"), problem);
    }
    if said(body, "top_logprobs").is_some() && body["logprobs"] != true {
        let problem = "may only be set if 'logprobs' is true.";
        return broken(TOP_LOGPROBS, FieldPath::of("top_logprobs"), problem);
    }
    let has_tools = items(&body["tools"]).next().is_some();
    for name in ["tool_choice", "parallel_tool_calls"] {
        let harmless = name == "tool_choice" && body[name] == "none";
        if said(body, name).is_some() && !has_tools && !harmless {
            let problem = "is only allowed when 'tools' are specified.";
            return broken(ONLY_WITH_TOOLS, FieldPath::of(name), problem);
        }
    }
    Ok(())
}

fn tools(body: &Value) -> Result<(), Violation> {
    let path = FieldPath::of("tools");
    let mut names = HashSet::new();
    for (index, tool) in items(&body["tools"]) {
        let path = path.at(index).key("function");
        let function = &tool["function"];
        names.extend(
            function["name"]
                .as_str()
                .or_else(|| tool["custom"]["name"].as_str()),
        );
        if let Some(parameters) = said(function, "parameters") {
            let path = path.key("parameters");
            tool_schema(parameters, &path)?;
            if function["strict"] == true {
                schema::strict(parameters, &path, &STRICT_SCHEMA)?;
            }
        }
    }
    let choice = &body["tool_choice"];
    let named = choice["function"]["name"]
        .as_str()
        .or_else(|| choice["custom"]["name"].as_str());
    match named {
        Some(name) if !names.contains(name) => {
            let problem = format!("Tool choice '{name}' not found in 'tools' parameter.");
            broken(TOOL_CHOICE, FieldPath::of("tool_choice"), problem)
        }
        _ => Ok(()),
    }
}

/// What the parameters of a function must be.
pub(super) fn tool_schema(schema: &Value, path: &FieldPath) -> Result<(), Violation> {
    if schema["type"] != "object" {
        let problem = "schema must be a JSON Schema of 'type: \"object\"'";
        return broken(TOOL_SCHEMA, path.key("type"), problem);
    }
    if !schema["properties"].is_object() {
        let problem = "object schema missing properties";
        return broken(TOOL_SCHEMA, path.key("properties"), problem);
    }
    for keyword in ["oneOf", "anyOf", "allOf", "enum", "not"] {
        if schema.get(keyword).is_some() {
            let problem = "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level.";
            return broken(TOOL_SCHEMA, path.key(keyword), problem);
        }
    }
    schema::valid(schema, path, TOOL_SCHEMA)?;
    schema::each(schema, path, &mut |object, path| {
        let is_array = object.get("type").is_some_and(|kind| kind == "array");
        let has_items = object.contains_key("items") || object.contains_key("prefixItems");
        if is_array && !has_items {
            return broken(TOOL_SCHEMA, path.clone(), "array schema missing items");
        }
        Ok(())
    })
}

/// What each message holds.
fn messages(body: &Value) -> Result<(), Violation> {
    for (index, message) in items(&body["messages"]) {
        let path = FieldPath::of("messages").at(index);
        if message["role"] == "assistant" {
            assistant(message, &path)?;
        }
        parts(message, &path)?;
    }
    Ok(())
}

/// Each call is answered before the conversation goes on, and nothing else is.
fn pairs(body: &Value) -> Result<(), Violation> {
    let path = FieldPath::of("messages");
    let mut open: Vec<&str> = Vec::new();
    for (index, message) in items(&body["messages"]) {
        let path = path.at(index);
        let role = message["role"].as_str().unwrap_or_default();
        if role == "tool" {
            let id = message["tool_call_id"].as_str().unwrap_or_default();
            let Some(position) = open.iter().position(|open| *open == id) else {
                let problem = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.";
                return broken(RESULTS_CALLED, path.key("role"), problem);
            };
            open.swap_remove(position);
            continue;
        }
        unanswered(&open, &path)?;
        open.clear();
        let calls = items(&message["tool_calls"]);
        open.extend(calls.filter_map(|(_, call)| call["id"].as_str()));
    }
    unanswered(&open, &path)
}

fn unanswered(open: &[&str], path: &FieldPath) -> Result<(), Violation> {
    if open.is_empty() {
        return Ok(());
    }
    let problem = format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The following tool_call_ids did not have response messages: {}",
        open.join(", ")
    );
    broken(CALLS_ANSWERED, path.key("role"), problem)
}

fn assistant(message: &Value, path: &FieldPath) -> Result<(), Violation> {
    let says = ["content", "tool_calls", "function_call", "refusal", "audio"]
        .iter()
        .any(|name| said(message, name).is_some());
    if says {
        return Ok(());
    }
    let path = path.key("content");
    let (expected, found) = ("a string", "null");
    let problem = Complaint::Type { expected, found };
    Err(Violation::new(ASSISTANT, path, problem))
}

/// Images and files.
fn parts(message: &Value, path: &FieldPath) -> Result<(), Violation> {
    let path = path.key("content");
    for (index, part) in items(&message["content"]) {
        let path = path.at(index);
        if let Some(url) = part["image_url"]["url"].as_str() {
            image(url, &path.key("image_url").key("url"))?;
        }
        let file = &part["file"];
        if file.is_object() {
            let sources = [&file["file_id"], &file["file_data"]];
            let given = sources.iter().filter(|source| !source.is_null()).count();
            if given != 1 {
                let problem = "needs one of 'file_id' and 'file_data'";
                return broken(FILE, path.key("file"), problem);
            }
            if let Some(data) = file["file_data"].as_str() {
                file_data(data, said(file, "filename").is_some(), &path.key("file"))?;
            }
        }
    }
    Ok(())
}

/// An image of the web, or within the URL.
pub(super) fn image(url: &str, path: &FieldPath) -> Result<(), Violation> {
    const TYPES: [&str; 5] = [
        "image/png",
        "image/jpeg",
        "image/jpg",
        "image/webp",
        "image/gif",
    ];
    let Some(data) = url.strip_prefix("data:") else {
        let is_url = url.starts_with("https://") || url.starts_with("http://");
        return match is_url {
            true => Ok(()),
            false => broken(
                IMAGE,
                path.clone(),
                "Expected a valid URL, but got a value with an invalid format.",
            ),
        };
    };
    let kind = data.split(';').next().unwrap_or_default();
    if !TYPES.contains(&kind) {
        let problem = format!("Unsupported MIME type: {kind}");
        return broken(IMAGE, path.clone(), problem);
    }
    match data.split_once(";base64,") {
        Some((_, data)) if !data.is_empty() => Ok(()),
        _ => broken(
            IMAGE,
            path.clone(),
            "Expected a base64-encoded data URL with an image MIME type",
        ),
    }
}

/// The contents of a file, as a URL with a media type.
pub(super) fn file_data(data: &str, has_name: bool, path: &FieldPath) -> Result<(), Violation> {
    if !data.starts_with("data:") || !data.contains(";base64,") {
        let problem = "Expected a base64-encoded data URL with a MIME type";
        return broken(FILE, path.key("file_data"), problem);
    }
    if !has_name {
        let path = path.key("filename");
        return Err(Violation::new(FILE, path, Complaint::Missing));
    }
    Ok(())
}

fn answer_format(body: &Value) -> Result<(), Violation> {
    let format = &body["response_format"];
    match format["type"].as_str() {
        Some("json_object") => json_word(&body["messages"], &FieldPath::of("messages")),
        Some("json_schema") => {
            let schema = &format["json_schema"];
            let path = FieldPath::of("response_format")
                .key("json_schema")
                .key("schema");
            match schema["strict"] == true {
                true => strict_answer(&schema["schema"], &path),
                false => schema::valid(&schema["schema"], &path, STRICT_SCHEMA.rule),
            }
        }
        _ => Ok(()),
    }
}

/// The schema of an answer, to be followed to the letter.
pub(super) fn strict_answer(schema: &Value, path: &FieldPath) -> Result<(), Violation> {
    if schema["type"] != "object" {
        let problem = "schema must be a JSON Schema of 'type: \"object\"'";
        return broken(STRICT_SCHEMA.rule, path.key("type"), problem);
    }
    schema::valid(schema, path, STRICT_SCHEMA.rule)?;
    schema::strict(schema, path, &STRICT_SCHEMA)
}

/// JSON mode wants the word in the prompt.
pub(super) fn json_word(prompt: &Value, path: &FieldPath) -> Result<(), Violation> {
    if prompt.to_string().to_lowercase().contains("json") {
        return Ok(());
    }
    let problem = "must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.";
    broken(JSON_WORD, path.clone(), problem)
}
