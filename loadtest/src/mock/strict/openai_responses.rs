//! OpenAI's Responses API.
//!
//! Fields are those of OpenAI's OpenAPI document (github.com/openai/openai-openapi, 2026-08-21) and SDK (PyPI `openai` 3.57.0);
//! the rules that span values, of the pages that each names.

mod shapes;

use std::collections::HashSet;

use serde_json::Value;

use super::models::OpenAi;
use super::openai_chat as chat;
use super::openai_chat::rule;
use super::schema;
use super::shape::{ShapeCheck, Unknown};
use super::vendors::StrictVendor;
use super::{ApiRule, Complaint, FieldPath, Violation, broken, items};

const RESPONSES: &str = "https://platform.openai.com/docs/api-reference/responses/create";
const STATE: &str = "https://platform.openai.com/docs/guides/conversation-state";
const CALLING: &str = "https://platform.openai.com/docs/guides/function-calling";
const REASONING: &str = "https://platform.openai.com/docs/guides/reasoning";

const INPUT: ApiRule = rule("some-input", RESPONSES);
const STATES: ApiRule = rule("one-state", STATE);
const STREAM_OPTIONS: ApiRule = rule("stream-options", RESPONSES);
const BACKGROUND: ApiRule = rule(
    "background-is-stored",
    "https://platform.openai.com/docs/guides/background",
);
const TOKENS: ApiRule = rule("max-tokens", RESPONSES);
const ENCRYPTED: ApiRule = rule("encrypted-reasoning", REASONING);
const FOLLOWED: ApiRule = rule("reasoning-is-followed", REASONING);
const KINDS: ApiRule = rule("content-of-its-role", RESPONSES);
const IDS: ApiRule = rule("item-ids", RESPONSES);
const SOURCE: ApiRule = rule("one-source", RESPONSES);
const TOOL_CHOICE: ApiRule = rule("tool-choice", CALLING);
const CALLS_ANSWERED: ApiRule = rule("tool-result-follows-its-call", CALLING);
const RESULTS_CALLED: ApiRule = rule("tool-result-has-a-call", CALLING);

/// What `POST /v1/responses` refuses.
pub(super) fn check(vendor: &StrictVendor, model: &str, body: &Value) -> Result<(), Violation> {
    let (unknown, null_is_absent) = match vendor.is_openai {
        true => (Unknown::Refused, false),
        false => (Unknown::Ignored, true),
    };
    let walk = ShapeCheck {
        unknown,
        null_is_absent,
    };
    walk.object(&shapes::REQUEST, body, &FieldPath::default())?;
    if vendor.is_openai
        && let Some(known) = OpenAi::of(model)
    {
        of_model(known, body)?;
    }
    together(body)?;
    tools(vendor, body)?;
    input(body)?;
    answer_format(body)
}

/// Parameters that a model does not take.
fn of_model(known: OpenAi, body: &Value) -> Result<(), Violation> {
    let effort = body["reasoning"]["effort"].as_str();
    let path = FieldPath::of("reasoning").key("effort");
    chat::effort(known, effort, &path)?;
    let root = FieldPath::default();
    chat::sampling(known, effort.unwrap_or(known.effort), body, &root)?;
    if body["max_output_tokens"]
        .as_i64()
        .is_some_and(|wanted| wanted > known.max_tokens)
    {
        let problem = format!(
            "is too large. This model supports at most {}",
            known.max_tokens
        );
        return broken(TOKENS, FieldPath::of("max_output_tokens"), problem);
    }
    let reasons = effort.unwrap_or(known.effort) != "none";
    let logprobs =
        items(&body["include"]).any(|(_, included)| included == "message.output_text.logprobs");
    if logprobs && reasons {
        let problem = "Log probabilities are not supported with this model.";
        return broken(chat::SAMPLING, FieldPath::of("include"), problem);
    }
    let encrypted =
        items(&body["include"]).any(|(_, included)| included == "reasoning.encrypted_content");
    if encrypted && known.efforts.is_empty() {
        let problem = "Encrypted content is not supported with this model.";
        return broken(ENCRYPTED, FieldPath::of("include"), problem);
    }
    if !known.verbosity
        && body["text"]["verbosity"]
            .as_str()
            .is_some_and(|v| v != "medium")
    {
        let problem = "is not supported with this model. Supported values are: 'medium'.";
        return broken(
            chat::EFFORT,
            FieldPath::of("text").key("verbosity"),
            problem,
        );
    }
    Ok(())
}

fn said<'b>(body: &'b Value, name: &str) -> Option<&'b Value> {
    body.get(name).filter(|value| !value.is_null())
}

/// Fields that go only with others.
fn together(body: &Value) -> Result<(), Violation> {
    let state = ["previous_response_id", "conversation", "prompt"]
        .into_iter()
        .find(|name| said(body, name).is_some());
    if said(body, "input").is_none() && state.is_none() {
        let problem = Complaint::Missing;
        return Err(Violation::new(INPUT, FieldPath::of("input"), problem));
    }
    if said(body, "previous_response_id").is_some() && said(body, "conversation").is_some() {
        let problem = "Mutually exclusive parameters: 'previous_response_id' and 'conversation'.";
        return broken(STATES, FieldPath::of("conversation"), problem);
    }
    if said(body, "stream_options").is_some() && body["stream"] != true {
        let problem = "is only allowed when 'stream' is enabled.";
        return broken(STREAM_OPTIONS, FieldPath::of("stream_options"), problem);
    }
    if body["background"] == true && body["store"] == false {
        let problem = "background requires 'store' to be true.";
        return broken(BACKGROUND, FieldPath::of("background"), problem);
    }
    Ok(())
}

fn tools(vendor: &StrictVendor, body: &Value) -> Result<(), Violation> {
    let mut names = HashSet::new();
    for (index, tool) in items(&body["tools"]) {
        let path = FieldPath::of("tools").at(index);
        if !vendor.response_tools.is_empty()
            && let Some(kind) = tool["type"].as_str()
            && !vendor.response_tools.contains(&kind)
        {
            let expected = vendor.response_tools.join(", ");
            let problem = format!("unknown variant `{kind}`, expected one of {expected}");
            return broken(rule("tool-type", vendor.source), path.key("type"), problem);
        }
        names.extend(tool["name"].as_str());
        // Groups of tools hold more.
        names.extend(items(&tool["tools"]).filter_map(|(_, tool)| tool["name"].as_str()));
        let parameters = said(tool, "parameters");
        if tool["type"] == "function"
            && let Some(parameters) = parameters
        {
            let path = path.key("parameters");
            chat::tool_schema(parameters, &path)?;
            if tool["strict"] == true {
                schema::strict(parameters, &path, &chat::STRICT_SCHEMA)?;
            }
        }
    }
    let choice = &body["tool_choice"];
    let by_name = matches!(choice["type"].as_str(), Some("function" | "custom"));
    match choice["name"].as_str() {
        Some(name) if by_name && !names.contains(name) => {
            let problem = format!("Tool choice '{name}' not found in 'tools' parameter.");
            broken(TOOL_CHOICE, FieldPath::of("tool_choice"), problem)
        }
        _ => Ok(()),
    }
}

fn input(body: &Value) -> Result<(), Violation> {
    let path = FieldPath::of("input");
    for (index, item) in items(&body["input"]) {
        let path = path.at(index);
        match item["type"].as_str().unwrap_or("message") {
            "message" => message(item, &path)?,
            "function_call_output" | "custom_tool_call_output" => {
                parts(&item["output"], &path.key("output"))?;
            }
            "reasoning" => followed(&body["input"], index, &path)?,
            _ => {}
        }
        id(item, &path)?;
    }
    let goes_on = ["previous_response_id", "conversation"]
        .into_iter()
        .any(|name| said(body, name).is_some());
    match goes_on {
        true => Ok(()),
        false => pairs(&body["input"], &path),
    }
}

/// A message's parts are those of its role.
fn message(item: &Value, path: &FieldPath) -> Result<(), Violation> {
    let is_model = item["role"] == "assistant";
    let path = path.key("content");
    for (index, part) in items(&item["content"]) {
        let kind = part["type"].as_str().unwrap_or_default();
        let said = ["output_text", "refusal"].contains(&kind);
        if said != is_model {
            let supported = match is_model {
                true => "'output_text' and 'refusal'",
                false => "'input_text', 'input_image' and 'input_file'",
            };
            let problem = format!("Invalid value: '{kind}'. Supported values are: {supported}.");
            return broken(KINDS, path.at(index).key("type"), problem);
        }
    }
    parts(&item["content"], &path)
}

/// Images and files.
fn parts(content: &Value, path: &FieldPath) -> Result<(), Violation> {
    for (index, part) in items(content) {
        let path = path.at(index);
        let sources: &[&str] = match part["type"].as_str() {
            Some("input_image") => &["image_url", "file_id"],
            Some("input_file") => &["file_data", "file_id", "file_url"],
            _ => continue,
        };
        let given = sources.iter().filter(|name| said(part, name).is_some());
        if given.count() != 1 {
            let problem = format!("needs one of {}", sources.join(", "));
            return broken(SOURCE, path, problem);
        }
        if let Some(url) = part["image_url"].as_str() {
            chat::image(url, &path.key("image_url"))?;
        }
        if let Some(data) = part["file_data"].as_str() {
            chat::file_data(data, said(part, "filename").is_some(), &path)?;
        }
    }
    Ok(())
}

/// Ids say what they are of.
fn id(item: &Value, path: &FieldPath) -> Result<(), Violation> {
    const PREFIXES: [(&str, &str); 4] = [
        ("message", "msg"),
        ("reasoning", "rs"),
        ("function_call", "fc"),
        ("custom_tool_call", "ctc"),
    ];
    let kind = item["type"].as_str().unwrap_or("message");
    let prefix = PREFIXES.iter().find(|(name, _)| *name == kind);
    let (Some((_, prefix)), Some(id)) = (prefix, item["id"].as_str()) else {
        return Ok(());
    };
    if !id.starts_with(prefix) {
        let problem = format!("'{id}'. Expected an ID that begins with '{prefix}'.");
        return broken(IDS, path.key("id"), problem);
    }
    if id.len() > 64 {
        let problem = "string too long. Expected a string with maximum length 64";
        return broken(IDS, path.key("id"), problem);
    }
    Ok(())
}

/// Reasoning stands before what it led to.
fn followed(input: &Value, index: usize, path: &FieldPath) -> Result<(), Violation> {
    let next = &input[index + 1];
    let fits = match next["type"].as_str().unwrap_or("message") {
        "message" => next["role"] == "assistant",
        kind => !kind.ends_with("_output") && kind != "item_reference",
    };
    if fits {
        return Ok(());
    }
    let problem = "Item of type 'reasoning' was provided without its required following item.";
    broken(FOLLOWED, path.clone(), problem)
}

/// Each call has its output, and each output its call.
fn pairs(input: &Value, path: &FieldPath) -> Result<(), Violation> {
    let mut open: Vec<(&str, usize)> = Vec::new();
    for (index, item) in items(input) {
        let id = item["call_id"].as_str().unwrap_or_default();
        match item["type"].as_str().unwrap_or_default() {
            "function_call" | "custom_tool_call" => open.push((id, index)),
            "function_call_output" | "custom_tool_call_output" => {
                let Some(position) = open.iter().position(|(open, _)| *open == id) else {
                    let problem =
                        format!("No tool call found for function call output with call_id {id}.");
                    return broken(RESULTS_CALLED, path.at(index), problem);
                };
                open.swap_remove(position);
            }
            _ => {}
        }
    }
    match open.first() {
        Some((id, index)) => {
            let problem = format!("No tool output found for function call {id}.");
            broken(CALLS_ANSWERED, path.at(*index), problem)
        }
        None => Ok(()),
    }
}

fn answer_format(body: &Value) -> Result<(), Violation> {
    let format = &body["text"]["format"];
    match format["type"].as_str() {
        Some("json_object") => chat::json_word(&body["input"], &FieldPath::of("input")),
        Some("json_schema") => {
            let path = FieldPath::of("text").key("format").key("schema");
            match format["strict"] == true {
                true => chat::strict_answer(&format["schema"], &path),
                false => schema::valid(&format["schema"], &path, chat::STRICT_SCHEMA.rule),
            }
        }
        _ => Ok(()),
    }
}
