//! The order, pairs and contents of messages and their blocks.

use std::collections::HashSet;

use serde_json::Value;

use super::{MESSAGES, NEWEST_VERSION, PREFILL, THINKING, TOOLS, is_thinking, rule};
use crate::mock::strict::models::Claude;
use crate::mock::strict::{ApiRule, FieldPath, Violation, broken, is_blank, items};

const CACHING: &str = "https://platform.claude.com/docs/en/build-with-claude/prompt-caching";
const ROLES: ApiRule = rule("first-message-is-the-users", MESSAGES);
const NO_MESSAGES: ApiRule = rule("some-message", MESSAGES);
const EMPTY: ApiRule = rule("empty-content", MESSAGES);
const BLANK: ApiRule = rule("blank-text", MESSAGES);
const TRAILING: ApiRule = rule(
    "prefill-ends-in-whitespace",
    "https://platform.claude.com/docs/en/build-with-claude/prompt-engineering/prefill-claudes-response",
);
const RESULT_MISSING: ApiRule = rule("tool-result-follows-its-call", TOOLS);
const CALL_MISSING: ApiRule = rule("tool-result-has-a-call", TOOLS);
const RESULTS_FIRST: ApiRule = rule("tool-results-stand-first", TOOLS);
const CALL_IDS: ApiRule = rule("tool-call-ids-are-unique", TOOLS);
const PLACE: ApiRule = rule("block-of-its-role", MESSAGES);
const SIGNATURE: ApiRule = rule("thinking-signature", THINKING);
const THOUGHT_FIRST: ApiRule = rule("thinking-before-calls", THINKING);
const MARKS: ApiRule = rule("cache-marks", CACHING);
const MARKS_MAX: usize = 4;
const IMAGE_URL: ApiRule = rule(
    "image-url",
    "https://platform.claude.com/docs/en/build-with-claude/vision",
);
const BASE64: ApiRule = rule("base64", MESSAGES);

/// Blank text in the system prompt.
pub(super) fn system(system: &Value) -> Result<(), Violation> {
    let path = FieldPath::of("system");
    items(system).try_for_each(|(index, block)| text(block, &path.at(index)))
}

/// What version 2026-10-21 no longer takes.
pub(super) fn of_newest_version(body: &Value) -> Result<(), Violation> {
    for (at, message) in items(&body["messages"]) {
        let path = FieldPath::of("messages").at(at).key("content");
        for (index, block) in items(&message["content"]) {
            let path = path.at(index);
            match message["role"].as_str() {
                Some("assistant") if block["type"] == "document" => {
                    let problem = "`document` blocks are not permitted within assistant turns";
                    return broken(NEWEST_VERSION, path, problem);
                }
                Some("user") => {
                    cited(block, &path)?;
                    // Results of searches hold texts of their own.
                    if block["type"] == "search_result" {
                        let path = path.key("content");
                        items(&block["content"])
                            .try_for_each(|(index, block)| cited(block, &path.at(index)))?;
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn cited(block: &Value, path: &FieldPath) -> Result<(), Violation> {
    let is_cited = block["type"] == "text" && items(&block["citations"]).next().is_some();
    match is_cited {
        true => broken(
            NEWEST_VERSION,
            path.key("citations"),
            "citations are not permitted within user turns",
        ),
        false => Ok(()),
    }
}

/// What the conversation as a whole must be.
pub(super) fn messages(known: Option<Claude>, body: &Value) -> Result<(), Violation> {
    let path = FieldPath::of("messages");
    let Some(messages) = body["messages"].as_array().filter(|all| !all.is_empty()) else {
        return broken(NO_MESSAGES, path, "at least one message is required");
    };
    if messages[0]["role"] == "assistant" {
        let problem = "first message must use the \"user\" role";
        return broken(ROLES, path.at(0), problem);
    }
    for (index, message) in messages.iter().enumerate() {
        let last = index + 1 == messages.len();
        contents(message, last, &path.at(index))?;
    }
    calls(messages, &path)?;
    if is_thinking(body) {
        thoughts(body, messages, &path)?;
    }
    match messages.last() {
        Some(last) if last["role"] == "assistant" => {
            prefill(known, body, last, &path.at(messages.len() - 1))
        }
        _ => Ok(()),
    }
}

fn contents(message: &Value, last: bool, path: &FieldPath) -> Result<(), Violation> {
    let content = &message["content"];
    let (role, path) = (
        message["role"].as_str().unwrap_or_default(),
        path.key("content"),
    );
    let may_be_empty = last && role == "assistant";
    let is_empty = match content {
        Value::String(text) => text.is_empty(),
        Value::Array(blocks) => blocks.is_empty(),
        _ => false,
    };
    if is_empty && !may_be_empty {
        let problem = "all messages must have non-empty content except for the optional final assistant message";
        return broken(EMPTY, path, problem);
    }
    if content
        .as_str()
        .is_some_and(|text| !text.is_empty() && is_blank(text))
    {
        return broken(
            BLANK,
            path,
            "text content blocks must contain non-whitespace text",
        );
    }
    let mut texts_began = false;
    for (index, block) in items(content) {
        let path = path.at(index);
        one(role, block, &path)?;
        let is_result = block["type"] == "tool_result";
        if is_result && texts_began {
            let problem = "`tool_result` blocks must come before other content";
            return broken(RESULTS_FIRST, path, problem);
        }
        texts_began |= !is_result;
    }
    Ok(())
}

fn one(role: &str, block: &Value, path: &FieldPath) -> Result<(), Violation> {
    text(block, path)?;
    let kind = block["type"].as_str().unwrap_or_default();
    let of_user = kind == "tool_result";
    let of_model = ["thinking", "redacted_thinking", "tool_use"].contains(&kind);
    if (of_user && role == "assistant") || (of_model && role == "user") {
        let problem = format!("`{kind}` blocks are not permitted within {role} turns");
        return broken(PLACE, path.clone(), problem);
    }
    if kind == "thinking" && block["signature"].as_str().is_some_and(is_blank) {
        let problem = "Invalid `signature` in `thinking` block";
        return broken(SIGNATURE, path.key("signature"), problem);
    }
    if kind == "tool_result" {
        let path = path.key("content");
        return items(&block["content"]).try_for_each(|(index, block)| {
            let path = path.at(index);
            text(block, &path)?;
            source(block, &path)
        });
    }
    source(block, path)
}

/// Whether a text block says anything.
fn text(block: &Value, path: &FieldPath) -> Result<(), Violation> {
    if block["type"] != "text" {
        return Ok(());
    }
    match block["text"].as_str() {
        Some("") => broken(
            BLANK,
            path.key("text"),
            "text content blocks must be non-empty",
        ),
        Some(text) if is_blank(text) => broken(
            BLANK,
            path.key("text"),
            "text content blocks must contain non-whitespace text",
        ),
        _ => Ok(()),
    }
}

/// Where an image or a document comes from.
fn source(block: &Value, path: &FieldPath) -> Result<(), Violation> {
    let source = &block["source"];
    let path = path.key("source");
    match source["type"].as_str() {
        Some("url") => {
            let url = source["url"].as_str().unwrap_or_default();
            let fits = url.starts_with("https://") || url.starts_with("http://");
            if !fits {
                return broken(IMAGE_URL, path.key("url"), "must be an HTTP(S) URL");
            }
        }
        Some("base64") => {
            let data = source["data"].as_str().unwrap_or_default();
            let fits = !data.is_empty()
                && data
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
            if !fits {
                return broken(BASE64, path.key("data"), "is no base64");
            }
        }
        _ => {}
    }
    Ok(())
}

/// Each call is answered in the next message, and nothing else is.
fn calls(messages: &[Value], path: &FieldPath) -> Result<(), Violation> {
    let mut seen = HashSet::new();
    let mut open: Vec<&str> = Vec::new();
    let mut open_at = 0;
    let turns = messages
        .iter()
        .enumerate()
        .filter(|(_, message)| message["role"] != "system");
    for (index, message) in turns {
        let path = path.at(index);
        if message["role"] == "assistant" {
            unanswered(&open, path.clone(), open_at)?;
            open.clear();
            for (at, block) in items(&message["content"]).filter(|(_, b)| b["type"] == "tool_use") {
                let id = block["id"].as_str().unwrap_or_default();
                if !seen.insert(id) {
                    let path = path.key("content").at(at).key("id");
                    return broken(CALL_IDS, path, "`tool_use` ids must be unique");
                }
                open.push(id);
                open_at = index;
            }
            continue;
        }
        for (at, block) in items(&message["content"]).filter(|(_, b)| b["type"] == "tool_result") {
            let id = block["tool_use_id"].as_str().unwrap_or_default();
            match open.iter().position(|open| *open == id) {
                Some(position) => drop(open.swap_remove(position)),
                None => {
                    let problem = format!(
                        "unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
                    );
                    return broken(CALL_MISSING, path.key("content").at(at), problem);
                }
            }
        }
        let next_is_the_users = messages
            .get(index + 1)
            .is_some_and(|next| next["role"] != "assistant");
        // Turns of one role are put together.
        if !next_is_the_users {
            unanswered(&open, path, open_at)?;
            open.clear();
        }
    }
    unanswered(&open, path.at(open_at), open_at)
}

fn unanswered(open: &[&str], path: FieldPath, _call: usize) -> Result<(), Violation> {
    match open {
        [] => Ok(()),
        ids => {
            let problem = format!(
                "`tool_use` ids were found without `tool_result` blocks immediately after: {}",
                ids.join(", ")
            );
            broken(RESULT_MISSING, path, problem)
        }
    }
}

/// With a budget, the turn that is going on begins with a thought.
fn thoughts(body: &Value, messages: &[Value], path: &FieldPath) -> Result<(), Violation> {
    if body["thinking"]["type"] != "enabled" {
        return Ok(());
    }
    let is_result = |message: &Value| {
        items(&message["content"]).any(|(_, block)| block["type"] == "tool_result")
    };
    // The turn began after the last message of the user that is no result.
    let began = messages
        .iter()
        .rposition(|message| message["role"] == "user" && !is_result(message));
    let going_on = messages
        .iter()
        .enumerate()
        .skip(began.map_or(0, |at| at + 1));
    let Some((index, first)) = going_on
        .into_iter()
        .find(|(_, message)| message["role"] == "assistant")
    else {
        return Ok(());
    };
    let kind = first["content"][0]["type"].as_str().unwrap_or("text");
    let calls = items(&first["content"]).any(|(_, block)| block["type"] == "tool_use");
    if calls && !["thinking", "redacted_thinking"].contains(&kind) {
        let problem = format!(
            "Expected `thinking` or `redacted_thinking`, but found `{kind}`. When `thinking` is enabled, a final `assistant` message must start with a thinking block"
        );
        return broken(THOUGHT_FIRST, path.at(index).key("content").at(0), problem);
    }
    Ok(())
}

/// What a last message of the assistant's may be.
fn prefill(
    known: Option<Claude>,
    body: &Value,
    last: &Value,
    path: &FieldPath,
) -> Result<(), Violation> {
    let waits = items(&last["content"])
        .last()
        .map(|(_, block)| &block["type"]);
    // A turn that the server paused goes on.
    if waits.is_some_and(|kind| kind.as_str().is_some_and(|kind| kind.contains("tool"))) {
        return Ok(());
    }
    if known.is_some_and(|known| !known.prefill) {
        let problem = "This model does not support assistant message prefill. The conversation must end with a user message.";
        return broken(PREFILL, path.clone(), problem);
    }
    if is_thinking(body) {
        let problem = "prefill is not supported while thinking is enabled";
        return broken(PREFILL, path.clone(), problem);
    }
    let text = match &last["content"] {
        Value::String(text) => Some(text.as_str()),
        content => items(content)
            .last()
            .and_then(|(_, block)| block["text"].as_str()),
    };
    match text {
        Some(text) if text.ends_with(char::is_whitespace) => {
            let problem = "final assistant content cannot end with trailing whitespace";
            broken(TRAILING, path.key("content"), problem)
        }
        _ => Ok(()),
    }
}

/// At most four marks, none on thoughts, the longer-lived first.
pub(super) fn cache_marks(body: &Value) -> Result<(), Violation> {
    let mut marks = Vec::new();
    for (index, tool) in items(&body["tools"]) {
        mark(tool, &FieldPath::of("tools").at(index), &mut marks);
    }
    for (index, block) in items(&body["system"]) {
        mark(block, &FieldPath::of("system").at(index), &mut marks);
    }
    for (index, message) in items(&body["messages"]) {
        let path = FieldPath::of("messages").at(index).key("content");
        for (index, block) in items(&message["content"]) {
            let path = path.at(index);
            mark(block, &path, &mut marks);
            let path = path.key("content");
            for (index, block) in items(&block["content"]) {
                mark(block, &path.at(index), &mut marks);
            }
        }
    }
    mark(body, &FieldPath::default(), &mut marks);
    if let Some((path, _)) = marks.get(MARKS_MAX) {
        let problem = format!(
            "A maximum of {MARKS_MAX} blocks with cache_control may be provided. Found {}.",
            marks.len()
        );
        return broken(MARKS, path.clone(), problem);
    }
    let short = marks.iter().position(|(_, ttl)| *ttl != "1h");
    let late = short.and_then(|short| marks[short..].iter().find(|(_, ttl)| *ttl == "1h"));
    match late {
        Some((path, _)) => {
            let problem =
                "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block";
            broken(MARKS, path.clone(), problem)
        }
        None => Ok(()),
    }
}

fn mark<'v>(block: &'v Value, path: &FieldPath, marks: &mut Vec<(FieldPath, &'v str)>) {
    let mark = &block["cache_control"];
    if mark.is_object() {
        let ttl = mark["ttl"].as_str().unwrap_or("5m");
        marks.push((path.key("cache_control"), ttl));
    }
}
