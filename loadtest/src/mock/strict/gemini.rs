//! Google's Gemini API, and Vertex AI's form of it.
//!
//! Fields are those of the types of its SDK (PyPI `google-genai` 3.6.1, 2026-11) and of ai.google.dev/api; words of the rules are
//! on the pages that each of them names. Names in snake case are taken too, as Google's JSON reader does.

mod shapes;
mod turns;

use std::collections::HashSet;

use serde_json::Value;

use super::models::{GeminiModel, GeminiSeries, PenaltyRule};
use super::schema;
use super::shape::{ShapeCheck, Unknown};
use super::{ApiRule, Complaint, FieldPath, Violation, broken, items};

const WALK: ShapeCheck = ShapeCheck {
    unknown: Unknown::Refused,
    null_is_absent: true,
};

const fn rule(name: &'static str, source: &'static str) -> ApiRule {
    ApiRule { name, source }
}

const GENERATE: &str = "https://ai.google.dev/api/generate-content";
const THINKING_PAGE: &str = "https://ai.google.dev/gemini-api/docs/thinking";
const CALLING: &str = "https://ai.google.dev/gemini-api/docs/function-calling";
const SCHEMAS: &str = "https://ai.google.dev/gemini-api/docs/structured-output";
const COUNTING: &str = "https://ai.google.dev/api/tokens";
const EMBEDDINGS: &str = "https://ai.google.dev/api/embeddings";

const THINKING_BUDGET: ApiRule = rule("thinking-budget", THINKING_PAGE);
const THINKING_LEVEL: ApiRule = rule("thinking-level", THINKING_PAGE);
const THINKING: ApiRule = rule("thinking", THINKING_PAGE);
const SAMPLING: ApiRule = rule(
    "sampling",
    "https://ai.google.dev/gemini-api/docs/generate-content/latest-model",
);
const NAMES: ApiRule = rule("tool-names", CALLING);
const NAME: ApiRule = rule(
    "tool-name",
    "https://ai.google.dev/api/caching#FunctionDeclaration",
);
const CONFIG: ApiRule = rule("tool-choice", CALLING);
const TOOL_KINDS: ApiRule = rule("tools-of-two-kinds", CALLING);
const TOOL_SCHEMA: ApiRule = rule("tool-schema", "https://ai.google.dev/api/caching#Schema");
const ONE_SCHEMA: ApiRule = rule("one-schema", GENERATE);
const ANSWER_SCHEMA: ApiRule = rule("answer-schema", SCHEMAS);
const TOOLS_AND_SCHEMA: ApiRule = rule("tools-beside-answer-schema", SCHEMAS);
const PENALTIES: ApiRule = rule(
    "penalties",
    "https://github.com/google-gemini/cookbook/issues/1290",
);
const CANDIDATES: ApiRule = rule(
    "candidates",
    "https://github.com/googleapis/js-genai/issues/1609",
);
const CANDIDATES_STREAMED: ApiRule = rule(
    "candidates-of-a-stream",
    "https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference",
);
const LOGPROBS: ApiRule = rule("logprobs", GENERATE);
const COUNT_FORM: ApiRule = rule("count-tokens-form", COUNTING);
const EMBED_MODEL: ApiRule = rule("embedding-model", EMBEDDINGS);

/// What `models/{model}:streamGenerateContent` refuses.
pub(super) fn check_stream(vendor: &str, model: &str, body: &Value) -> Result<(), Violation> {
    let body = camel(body);
    let count = &body["generationConfig"]["candidateCount"];
    if count.as_i64().is_some_and(|count| count > 1) {
        let path = FieldPath::of("generationConfig").key("candidateCount");
        let problem = "Multiple candidates are only supported by generateContent";
        return broken(CANDIDATES_STREAMED, path, problem);
    }
    generate(vendor, model, &body, &FieldPath::default())
}

/// What `models/{model}:generateContent` refuses.
pub(super) fn check(vendor: &str, model: &str, body: &Value) -> Result<(), Violation> {
    generate(vendor, model, &camel(body), &FieldPath::default())
}

fn generate(vendor: &str, model: &str, body: &Value, path: &FieldPath) -> Result<(), Violation> {
    let known = GeminiModel::of(model);
    WALK.object(&shapes::REQUEST, body, path)?;
    let config = &body["generationConfig"];
    let at = path.key("generationConfig");
    thinking(known, &config["thinkingConfig"], &at.key("thinkingConfig"))?;
    sampling(known, config, &at)?;
    penalties(vendor, known, config, &at)?;
    candidates(vendor, known, &config["candidateCount"], &at)?;
    format(known, body, config, &at)?;
    tools(known, body, path)?;
    turns::check(vendor, known, body, path)
}

/// What `models/{model}:countTokens` refuses.
pub(super) fn check_count(vendor: &str, model: &str, body: &Value) -> Result<(), Violation> {
    let body = camel(body);
    let root = FieldPath::default();
    if vendor == "vertex" {
        return generate(vendor, model, &body, &root);
    }
    WALK.object(&shapes::COUNT, &body, &root)?;
    let whole = &body["generateContentRequest"];
    if whole.is_null() {
        return turns::check(vendor, GeminiModel::of(model), &body, &root);
    }
    if body.get("contents").is_some() {
        let problem = "contents and generateContentRequest are mutually exclusive";
        return broken(COUNT_FORM, root.key("contents"), problem);
    }
    let path = root.key("generateContentRequest");
    if whole["model"].as_str().is_none() {
        return Err(Violation::new(
            COUNT_FORM,
            path.key("model"),
            Complaint::Missing,
        ));
    }
    generate(vendor, model, whole, &path)
}

/// What `models/{model}:batchEmbedContents` refuses.
pub(super) fn check_embed(model: &str, body: &Value) -> Result<(), Violation> {
    let body = camel(body);
    WALK.object(&shapes::EMBED, &body, &FieldPath::default())?;
    for (index, request) in items(&body["requests"]) {
        let named = request["model"].as_str().unwrap_or_default();
        if named.strip_prefix("models/") != Some(model) {
            let path = FieldPath::of("requests").at(index).key("model");
            let problem = format!("must be models/{model}, as in the URL");
            return broken(EMBED_MODEL, path, problem);
        }
    }
    Ok(())
}

/// Names in camel case, but for those that a caller chose.
fn camel(value: &Value) -> Value {
    const CHOSEN: [&str; 7] = [
        "args",
        "response",
        "parametersJsonSchema",
        "responseJsonSchema",
        "labels",
        "default",
        "example",
    ];
    match value {
        Value::Array(items) => items.iter().map(camel).collect(),
        Value::Object(map) => {
            let fields = map.iter().map(|(key, value)| {
                let key = camel_key(key);
                let value = match value {
                    value if CHOSEN.contains(&key.as_str()) => value.clone(),
                    Value::Object(named) if key == "properties" => named
                        .iter()
                        .map(|(name, schema)| (name.clone(), camel(schema)))
                        .collect(),
                    value => camel(value),
                };
                (key, value)
            });
            Value::Object(fields.collect())
        }
        value => value.clone(),
    }
}

fn camel_key(key: &str) -> String {
    let mut camel = String::with_capacity(key.len());
    let mut after_line = false;
    for c in key.chars() {
        match c {
            '_' if !camel.is_empty() => after_line = true,
            c if after_line => {
                camel.push(c.to_ascii_uppercase());
                after_line = false;
            }
            c => camel.push(c),
        }
    }
    camel
}

fn thinking(known: Option<GeminiModel>, config: &Value, path: &FieldPath) -> Result<(), Violation> {
    let level = config["thinkingLevel"].as_str();
    let budget = config["thinkingBudget"].as_i64();
    if level.is_some() && budget.is_some() {
        let problem = "You can only set one of thinking budget and thinking level.";
        return broken(THINKING, path.clone(), problem);
    }
    if budget == Some(0) && config["includeThoughts"] == true {
        let problem = "is only enabled when thinking is enabled.";
        return broken(THINKING, path.key("includeThoughts"), problem);
    }
    let Some(known) = known else {
        return Ok(());
    };
    if let Some(budget) = budget {
        self::budget(known, budget, &path.key("thinkingBudget"))?;
    }
    match level {
        Some(level) => self::level(known, level, &path.key("thinkingLevel")),
        None => Ok(()),
    }
}

fn budget(known: GeminiModel, budget: i64, path: &FieldPath) -> Result<(), Violation> {
    let Some((min, max, off)) = known.budget else {
        return match known.levels {
            [] => broken(
                THINKING,
                path.clone(),
                "Thinking is not supported for this model.",
            ),
            _ => Ok(()),
        };
    };
    let fits = budget == -1 || (off && budget == 0) || (min..=max).contains(&budget);
    if fits {
        return Ok(());
    }
    let problem = match budget {
        0 => "Budget 0 is invalid. This model only works in thinking mode.".to_owned(),
        budget => format!(
            "The thinking budget {budget} is invalid. Please choose a value between {min} and {max}."
        ),
    };
    broken(THINKING_BUDGET, path.clone(), problem)
}

fn level(known: GeminiModel, level: &str, path: &FieldPath) -> Result<(), Violation> {
    let level = level.to_ascii_lowercase();
    if known.levels.iter().any(|known| *known == level) {
        return Ok(());
    }
    let problem = match known.levels {
        [] => "Thinking level is not supported for this model.".to_owned(),
        levels => format!(
            "Thinking level {level} is not supported for this model; it has {}.",
            levels.join(", ")
        ),
    };
    broken(THINKING_LEVEL, path.clone(), problem)
}

fn sampling(known: Option<GeminiModel>, config: &Value, path: &FieldPath) -> Result<(), Violation> {
    if known.is_some_and(|known| !known.sampling) {
        let said = ["temperature", "topP", "topK"]
            .into_iter()
            .find(|name| !config[name].is_null());
        if let Some(name) = said {
            return broken(SAMPLING, path.key(name), "is not supported by this model");
        }
    }
    if !config["logprobs"].is_null() && config["responseLogprobs"] != true {
        let problem = "requires responseLogprobs to be true";
        return broken(LOGPROBS, path.key("logprobs"), problem);
    }
    Ok(())
}

/// Penalties other than zero.
fn penalties(
    vendor: &str,
    known: Option<GeminiModel>,
    config: &Value,
    path: &FieldPath,
) -> Result<(), Violation> {
    let is_taken = known.is_none_or(|known| match known.penalties {
        PenaltyRule::Everywhere => true,
        PenaltyRule::AtVertex => vendor == "vertex",
        PenaltyRule::Nowhere => false,
    });
    let asked = ["frequencyPenalty", "presencePenalty"]
        .into_iter()
        .find(|name| config[name].as_f64().is_some_and(|penalty| penalty != 0.0));
    match asked {
        Some(name) if !is_taken => {
            let problem = "Penalty is not enabled for this model";
            broken(PENALTIES, path.key(name), problem)
        }
        _ => Ok(()),
    }
}

/// Several answers at once. Since Gemini 3 only Vertex gives them
/// (github.com/googleapis/python-genai/issues/1723), and models that draw do not.
fn candidates(
    vendor: &str,
    known: Option<GeminiModel>,
    count: &Value,
    path: &FieldPath,
) -> Result<(), Violation> {
    let gives_one = |known: GeminiModel| {
        known.draws || (vendor != "vertex" && known.level != GeminiSeries::Two)
    };
    if count.as_i64().is_some_and(|count| count > 1) && known.is_some_and(gives_one) {
        let problem = "Multiple candidates is not enabled for this model";
        return broken(CANDIDATES, path.key("candidateCount"), problem);
    }
    Ok(())
}

/// The schema of the answer.
fn format(
    known: Option<GeminiModel>,
    body: &Value,
    config: &Value,
    path: &FieldPath,
) -> Result<(), Violation> {
    let kind = config["responseMimeType"].as_str().unwrap_or("text/plain");
    let schema = !config["responseSchema"].is_null();
    let json_schema = !config["responseJsonSchema"].is_null();
    if schema && json_schema {
        let problem = "responseSchema must be omitted when responseJsonSchema is set";
        return broken(ONE_SCHEMA, path.key("responseSchema"), problem);
    }
    let fits = kind == "application/json" || (schema && kind == "text/x.enum");
    if (schema || json_schema) && !fits {
        let problem = "a compatible responseMimeType must also be set: application/json";
        return broken(ANSWER_SCHEMA, path.key("responseMimeType"), problem);
    }
    if schema {
        google_schema(&config["responseSchema"], &path.key("responseSchema"))?;
    }
    if json_schema {
        let path = path.key("responseJsonSchema");
        schema::valid(&config["responseJsonSchema"], &path, ANSWER_SCHEMA)?;
    }
    let functions = items(&body["tools"]).any(|(_, tool)| !tool["functionDeclarations"].is_null());
    if functions
        && kind == "application/json"
        && known.is_some_and(|known| known.level == GeminiSeries::Two)
    {
        let problem =
            "Function calling with a response mime type: 'application/json' is unsupported";
        return broken(TOOLS_AND_SCHEMA, path.key("responseMimeType"), problem);
    }
    Ok(())
}

fn tools(known: Option<GeminiModel>, body: &Value, path: &FieldPath) -> Result<(), Violation> {
    let mut names = HashSet::new();
    let mut others = false;
    for (index, tool) in items(&body["tools"]) {
        let path = path.key("tools").at(index);
        let kinds = tool.as_object().into_iter().flatten();
        others |= kinds
            .into_iter()
            .any(|(kind, _)| kind != "functionDeclarations");
        for (index, function) in items(&tool["functionDeclarations"]) {
            let path = path.key("functionDeclarations").at(index);
            let name = function["name"].as_str().unwrap_or_default();
            self::name(name, &path.key("name"))?;
            if !names.insert(name) {
                let problem = format!("Duplicate function declaration found: {name}");
                return broken(NAMES, path.key("name"), problem);
            }
            parameters(function, &path)?;
        }
    }
    if others && !names.is_empty() && known.is_some_and(|known| known.level == GeminiSeries::Two) {
        let problem = "Tool use with function calling is unsupported by this model.";
        return broken(TOOL_KINDS, path.key("tools"), problem);
    }
    tool_config(&body["toolConfig"], &names, &path.key("toolConfig"))
}

/// Whether a function may be called so.
fn name(name: &str, path: &FieldPath) -> Result<(), Violation> {
    let first = name.chars().next();
    let fits = first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && name.len() <= 128
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b));
    if fits {
        return Ok(());
    }
    let problem = "Invalid function name. Must start with a letter or an underscore. Must be alphanumeric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 128.";
    broken(NAME, path.clone(), problem)
}

fn parameters(function: &Value, path: &FieldPath) -> Result<(), Violation> {
    let (plain, json) = (&function["parameters"], &function["parametersJsonSchema"]);
    if !plain.is_null() && !json.is_null() {
        let problem = "parameters and parametersJsonSchema are mutually exclusive";
        return broken(ONE_SCHEMA, path.key("parameters"), problem);
    }
    if !plain.is_null() {
        return google_schema(plain, &path.key("parameters"));
    }
    if json.is_null() {
        return Ok(());
    }
    let path = path.key("parametersJsonSchema");
    if json["type"] != "object" {
        let problem = "The schema must describe an object";
        return broken(TOOL_SCHEMA, path.key("type"), problem);
    }
    schema::valid(json, &path, TOOL_SCHEMA)
}

fn tool_config(config: &Value, names: &HashSet<&str>, path: &FieldPath) -> Result<(), Violation> {
    let calling = &config["functionCallingConfig"];
    let path = path.key("functionCallingConfig");
    if !calling.is_object() {
        return Ok(());
    }
    if names.is_empty() {
        let problem = "Function calling config is set without function_declarations.";
        return broken(CONFIG, path, problem);
    }
    let mode = calling["mode"].as_str().unwrap_or("AUTO");
    for (index, name) in items(&calling["allowedFunctionNames"]) {
        let path = path.key("allowedFunctionNames").at(index);
        if !["ANY", "VALIDATED"].contains(&mode) {
            let problem = "may only be set when the mode is ANY or VALIDATED";
            return broken(CONFIG, path, problem);
        }
        if !name.as_str().is_some_and(|name| names.contains(name)) {
            return broken(CONFIG, path, "is none of the function declarations");
        }
    }
    Ok(())
}

/// Google's own form of schemas, a part of OpenAPI's.
fn google_schema(schema: &Value, path: &FieldPath) -> Result<(), Violation> {
    schema::each(schema, path, &mut |object, path| {
        let kind = object
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let kind = kind.to_ascii_uppercase();
        let texts = object.get("enum").is_some_and(Value::is_array);
        if texts && kind != "STRING" {
            let problem = "only allowed for STRING type";
            return broken(TOOL_SCHEMA, path.key("enum"), problem);
        }
        if kind == "ARRAY" && !object.contains_key("items") {
            return broken(TOOL_SCHEMA, path.key("items"), "missing field.");
        }
        let format = object.get("format").and_then(Value::as_str);
        if kind == "STRING" && format.is_some_and(|format| !["enum", "date-time"].contains(&format))
        {
            let problem = "only 'enum' and 'date-time' are supported for STRING type";
            return broken(TOOL_SCHEMA, path.key("format"), problem);
        }
        let properties = object.get("properties").and_then(Value::as_object);
        if kind == "OBJECT" && properties.is_some_and(serde_json::Map::is_empty) {
            let problem = "should be non-empty for OBJECT type";
            return broken(TOOL_SCHEMA, path.key("properties"), problem);
        }
        let required = object.get("required").and_then(Value::as_array);
        let defined = |name: &Value| {
            let name = name.as_str().unwrap_or_default();
            properties.is_some_and(|all| all.contains_key(name))
        };
        match required
            .into_iter()
            .flatten()
            .position(|name| !defined(name))
        {
            Some(index) => broken(
                TOOL_SCHEMA,
                path.key("required").at(index),
                "property is not defined",
            ),
            None => Ok(()),
        }
    })
}
