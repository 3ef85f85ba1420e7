//! Which tools the mock calls.
//!
//! A caller decides it: the last user message may say `[[call NAME {"argument": 1}]]`, once or several times, and each tool of that
//! name that is offered is called with those arguments, in that order; a text stands for the one argument that the tool requires, or for
//! the whole input of a free-text tool, so that both may be asked for in the same words. A tool choice that forces a call has the named tool, or the first one
//! offered, called with arguments made from its schema. Otherwise, and once the results are there, the mock answers with text.
//! The text comes before the calls, and the calls add nothing to the count of output tokens.

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::Trouble;

/// A call in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mock) struct MockToolCall {
    pub(super) name: String,
    /// Compact JSON; for a free-text tool its text.
    pub(super) arguments: String,
    pub(super) free_text: bool,
}

/// A tool that the request offers.
#[derive(Debug)]
pub(super) struct Offered<'a> {
    pub(super) name: &'a str,
    pub(super) schema: &'a Value,
    /// OpenAI's custom tools take text rather than JSON.
    pub(super) free_text: bool,
}

impl<'a> Offered<'a> {
    /// A tool that takes JSON; without a name it cannot be called.
    pub(super) fn function(name: &'a Value, schema: &'a Value) -> Option<Self> {
        Some(Self {
            name: name.as_str()?,
            schema,
            free_text: false,
        })
    }

    fn call(&self, arguments: String) -> MockToolCall {
        MockToolCall {
            name: self.name.to_owned(),
            arguments,
            free_text: self.free_text,
        }
    }
}

/// What the request says about calling.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MockToolChoice<'a> {
    Auto,
    Never,
    Any,
    Named(&'a str),
}

/// The calls that a request wants by the rules of its format. Its body is read whole only if it has tools.
pub(super) fn wanted(
    tools: &[IgnoredAny],
    body: &[u8],
    calls: impl FnOnce(&Value) -> Vec<MockToolCall>,
) -> Result<Vec<MockToolCall>, Trouble> {
    if tools.is_empty() {
        return Ok(Vec::new());
    }
    Ok(calls(&serde_json::from_slice(body)?))
}

/// The items of a list; of anything else, none.
pub(super) fn items(list: &Value) -> impl DoubleEndedIterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The calls of the answer. `said` is what the user said last; nothing, if a tool's result came after it.
pub(super) fn calls(
    offered: &[Offered<'_>],
    choice: &MockToolChoice<'_>,
    said: Option<String>,
) -> Vec<MockToolCall> {
    let Some(text) = said.filter(|_| *choice != MockToolChoice::Never) else {
        return Vec::new();
    };
    let asked = asked_for(&text, offered);
    if !asked.is_empty() {
        return asked;
    }
    let forced = match choice {
        MockToolChoice::Any => offered.first(),
        MockToolChoice::Named(name) => offered.iter().find(|tool| tool.name == *name),
        MockToolChoice::Auto | MockToolChoice::Never => None,
    };
    forced.map(made_up).into_iter().collect()
}

/// The calls that a text asks for.
fn asked_for(text: &str, offered: &[Offered<'_>]) -> Vec<MockToolCall> {
    text.split("[[call ")
        .skip(1)
        .filter_map(|rest| one_asked_for(rest, offered))
        .collect()
}

fn one_asked_for(rest: &str, offered: &[Offered<'_>]) -> Option<MockToolCall> {
    let (name, rest) = rest.split_once(' ')?;
    let tool = offered.iter().find(|tool| tool.name == name)?;
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
    let arguments = values.next()?.ok()?;
    let closed = rest.get(values.byte_offset()..)?.starts_with("]]");
    closed.then(|| match arguments {
        Value::String(text) if tool.free_text => tool.call(text),
        Value::String(_) => tool.call(in_its_place(arguments, tool.schema).to_string()),
        _ => tool.call(arguments.to_string()),
    })
}

/// A lone value as the argument that the schema requires, if it requires one.
fn in_its_place(value: Value, schema: &Value) -> Value {
    match schema["required"].as_array().map(Vec::as_slice) {
        Some([Value::String(name)]) => Value::Object(Map::from_iter([(name.clone(), value)])),
        _ => value,
    }
}

fn made_up(tool: &Offered<'_>) -> MockToolCall {
    tool.call(if tool.free_text {
        "weir".to_owned()
    } else {
        sample(tool.schema, 0).to_string()
    })
}

/// Deeper than any tool's arguments.
const DEPTH_MAX: usize = 8;

/// The plainest value that fits a JSON schema: what is required, and the first of each enumeration.
fn sample(schema: &Value, depth: usize) -> Value {
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    // Gemini writes types in capitals; a list of types may include null.
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.first().and_then(Value::as_str),
        kind => kind.as_str(),
    };
    match kind.unwrap_or("object").to_ascii_lowercase().as_str() {
        "string" => "weir".into(),
        "integer" | "number" => 1.into(),
        "boolean" => true.into(),
        "array" => Value::Array(Vec::new()),
        "object" => sample_object(schema, depth),
        _ => Value::Null,
    }
}

fn sample_object(schema: &Value, depth: usize) -> Value {
    let mut object = Map::new();
    for name in items(&schema["required"]).filter_map(Value::as_str) {
        if depth < DEPTH_MAX {
            object.insert(
                name.to_owned(),
                sample(&schema["properties"][name], depth + 1),
            );
        }
    }
    Value::Object(object)
}

/// The last thing that was said to the model: instructions may stand behind it, and are not it.
pub(super) fn last_said(messages: &Value) -> &Value {
    let is_instruction =
        |message: &Value| matches!(message["role"].as_str(), Some("system" | "developer"));
    items(messages)
        .rev()
        .find(|message| !is_instruction(message))
        .unwrap_or(&Value::Null)
}

/// All text of a message's content: a string, or parts with `text`.
pub(super) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        parts => items(parts)
            .filter_map(|part| part["text"].as_str())
            .collect(),
    }
}

/// Arguments in the pieces in which a stream brings them.
pub(super) fn pieces(arguments: &str) -> impl Iterator<Item = &str> {
    const PIECE_BYTES: usize = 12;
    let mut rest = arguments;
    std::iter::from_fn(move || {
        let mut end = rest.len().min(PIECE_BYTES);
        while !rest.is_char_boundary(end) {
            end += 1;
        }
        let (piece, left) = rest.split_at(end);
        rest = left;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(choice: &MockToolChoice<'_>, text: &str, expect: &[(&str, &str)]) {
        let schema = json!({"type": "object", "required": ["city", "days"], "properties": {
            "city": {"type": "string"}, "days": {"type": ["integer", "null"]}, "unit": {"enum": ["C"]}}});
        let tool = |name, free_text| Offered {
            name,
            schema: &schema,
            free_text,
        };
        let one = json!({"type": "object", "required": ["input"]});
        let edit = Offered {
            name: "edit",
            schema: &one,
            free_text: false,
        };
        let offered = [tool("weather", false), tool("patch", true), edit];
        let found = calls(&offered, choice, Some(text.to_owned()));
        let found: Vec<_> = found
            .iter()
            .map(|call| (call.name.as_str(), call.arguments.as_str()))
            .collect();
        assert_eq!(found, expect, "{choice:?} {text}");
        assert_eq!(calls(&offered, choice, None), []);
    }

    #[test]
    fn a_marked_call_is_made_as_written() {
        let two = r#"Do [[call weather {"city": "]]"}]] and [[call patch "a\nb"]] now"#;
        let both = [("weather", r#"{"city":"]]"}"#), ("patch", "a\nb")];
        check(&MockToolChoice::Auto, two, &both);
        check(&MockToolChoice::Never, two, &[]);
        check(
            &MockToolChoice::Auto,
            r#"[[call edit "a\nb"]]"#,
            &[("edit", r#"{"input":"a\nb"}"#)],
        );
        check(
            &MockToolChoice::Auto,
            "[[call nobody {}]] [[call weather {]]",
            &[],
        );
    }

    #[test]
    fn a_forced_call_fits_the_schema() {
        let made_up = [("weather", r#"{"city":"weir","days":1}"#)];
        check(&MockToolChoice::Any, "hello", &made_up);
        check(&MockToolChoice::Named("weather"), "hello", &made_up);
        check(
            &MockToolChoice::Named("patch"),
            "hello",
            &[("patch", "weir")],
        );
        check(&MockToolChoice::Named("nobody"), "hello", &[]);
        check(&MockToolChoice::Auto, "hello", &[]);
    }

    #[test]
    fn instructions_behind_the_last_message_are_not_the_last_thing_said() {
        let messages = json!([{"role": "user", "content": "a"}, {"role": "assistant"},
            {"role": "user", "content": "b"}, {"role": "developer"}, {"role": "system"}]);
        assert_eq!(last_said(&messages)["content"], "b");
        assert_eq!(
            last_said(&json!([{"type": "function_call_output"}]))["type"],
            "function_call_output"
        );
        assert_eq!(*last_said(&json!("text")), Value::Null);
    }

    #[test]
    fn pieces_make_up_the_whole() {
        for text in ["", "short", "{\"city\":\"ÄÖÜ€ÄÖÜ€ÄÖÜ€\",\"n\":1}"] {
            assert_eq!(pieces(text).collect::<String>(), text);
        }
    }
}
