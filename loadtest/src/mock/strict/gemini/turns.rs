//! The order, pairs and contents of turns and their parts.

use serde_json::Value;

use super::{CALLING, GENERATE, name, rule};
use crate::mock::strict::models::{GeminiModel, GeminiSeries};
use crate::mock::strict::{ApiRule, Complaint, FieldPath, Violation, broken, items};

const CONTENTS: ApiRule = rule("some-contents", GENERATE);
const ROLE: ApiRule = rule("role", "https://ai.google.dev/api/caching#Content");
const PARTS: ApiRule = rule("some-parts", GENERATE);
const DATA: ApiRule = rule("one-kind-of-data", "https://ai.google.dev/api/caching#Part");
const MEDIA: ApiRule = rule(
    "media-type",
    "https://ai.google.dev/gemini-api/docs/file-input-methods",
);
const CALL_PLACE: ApiRule = rule("call-follows-the-user", CALLING);
const RESULTS: ApiRule = rule("tool-result-follows-its-call", CALLING);
const SIGNATURE: ApiRule = rule(
    "thought-signature",
    "https://ai.google.dev/gemini-api/docs/thought-signatures",
);

/// What the conversation as a whole must be.
pub(super) fn check(
    vendor: &str,
    known: Option<GeminiModel>,
    body: &Value,
    path: &FieldPath,
) -> Result<(), Violation> {
    let at = path.key("contents");
    let Some(contents) = body["contents"].as_array().filter(|all| !all.is_empty()) else {
        return broken(CONTENTS, at, "contents is not specified");
    };
    if let Some(system) = body
        .get("systemInstruction")
        .filter(|system| !system.is_null())
    {
        parts(vendor, system, &path.key("systemInstruction"))?;
    }
    for (index, content) in contents.iter().enumerate() {
        let path = at.at(index);
        let role = content["role"].as_str().unwrap_or("user");
        if !["user", "model", "function"].contains(&role) {
            let problem = "Please use a valid role: user, model.";
            return broken(ROLE, path.key("role"), problem);
        }
        parts(vendor, content, &path)?;
    }
    pairs(contents, &at)?;
    match known {
        Some(known) if known.signatures && known.level != GeminiSeries::Two => {
            signatures(contents, &at)
        }
        _ => Ok(()),
    }
}

const KINDS: [&str; 9] = [
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
];

fn parts(vendor: &str, content: &Value, path: &FieldPath) -> Result<(), Violation> {
    let path = path.key("parts");
    if items(&content["parts"]).next().is_none() {
        return broken(PARTS, path, "contents.parts must not be empty.");
    }
    for (index, part) in items(&content["parts"]) {
        let path = path.at(index);
        let kinds = KINDS.iter().filter(|kind| !part[**kind].is_null()).count();
        // A signature may stand alone.
        let alone = kinds == 0 && !part["thoughtSignature"].is_null();
        if kinds != 1 && !alone {
            let problem = "required oneof field 'data' must have one initialized field";
            return broken(DATA, path.key("data"), problem);
        }
        // cloud.google.com/vertex-ai: "Unable to submit request because it must have a text parameter."
        if vendor == "vertex" && part["text"] == "" {
            return Err(Violation::new(DATA, path.key("text"), Complaint::Missing));
        }
        for kind in ["functionCall", "functionResponse"] {
            if part[kind].is_object() {
                let name = part[kind]["name"].as_str().unwrap_or_default();
                self::name(name, &path.key(kind).key("name"))?;
            }
        }
        media(&part["inlineData"], &path.key("inlineData"))?;
    }
    Ok(())
}

/// The media that models read.
fn media(data: &Value, path: &FieldPath) -> Result<(), Violation> {
    const IMAGES: [&str; 5] = ["png", "jpeg", "webp", "heic", "heif"];
    const DOCUMENTS: [&str; 5] = ["pdf", "json", "rtf", "x-javascript", "x-python"];
    let Some(kind) = data["mimeType"].as_str() else {
        return Ok(());
    };
    let fits = match kind.split_once('/') {
        Some(("image", image)) => IMAGES.contains(&image),
        Some(("application", document)) => DOCUMENTS.contains(&document),
        Some(("text" | "audio" | "video", _)) => true,
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let problem = format!("Unsupported MIME type: {kind}");
    broken(MEDIA, path.key("mimeType"), problem)
}

fn count(content: &Value, kind: &str) -> usize {
    items(&content["parts"])
        .filter(|(_, part)| part[kind].is_object())
        .count()
}

/// Each call is answered in the next turn, and follows a turn of the user's.
fn pairs(contents: &[Value], path: &FieldPath) -> Result<(), Violation> {
    let mut open = 0;
    for (index, content) in contents.iter().enumerate() {
        let path = path.at(index);
        let (calls, results) = (
            count(content, "functionCall"),
            count(content, "functionResponse"),
        );
        if results != open {
            let problem = "Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn.";
            return broken(RESULTS, path, problem);
        }
        let before = index.checked_sub(1).map(|before| &contents[before]);
        let after_user = before.is_some_and(|before| before["role"] != "model");
        if calls > 0 && !after_user {
            let problem = "Please ensure that function call turn comes immediately after a user turn or after a function response turn.";
            return broken(CALL_PLACE, path, problem);
        }
        open = calls;
    }
    if open > 0 {
        let problem = "Please ensure that function response turn comes immediately after a function call turn.";
        return broken(RESULTS, path.clone(), problem);
    }
    Ok(())
}

/// In the turn that is going on, the first call of each step shows its signature.
fn signatures(contents: &[Value], path: &FieldPath) -> Result<(), Violation> {
    let began = contents
        .iter()
        .rposition(|content| content["role"] != "model" && count(content, "functionResponse") == 0);
    let steps = contents.iter().enumerate().skip(began.unwrap_or(0));
    for (index, content) in steps {
        let first = items(&content["parts"]).find(|(_, part)| part["functionCall"].is_object());
        let Some((at, part)) = first else {
            continue;
        };
        let signed = part["thoughtSignature"]
            .as_str()
            .is_some_and(|text| !text.is_empty());
        if !signed {
            let name = part["functionCall"]["name"].as_str().unwrap_or_default();
            let problem = format!("Function call `{name}` is missing a `thought_signature`");
            return broken(SIGNATURE, path.at(index).key("parts").at(at), problem);
        }
    }
    Ok(())
}
