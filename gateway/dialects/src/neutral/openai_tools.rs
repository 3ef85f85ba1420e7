//! What OpenAI's two formats share: custom tools, arguments, and bounded ids.

use std::borrow::Cow;

use super::request::arguments_object;
use super::{Feature, Fields, FreeTextTool, RequestWriter, Tool, take_tool_mark};
use crate::caps;
use crate::json::{self, Object, Text};
use crate::schema::{EMPTY_SCHEMA, arguments_schema};

/// Writes the name of the end user for OpenAI's formats. Agents put more into it than fits (device, account
/// and session); such a name becomes a stable hash, as OpenAI recommends for all.
pub(crate) fn put_user(w: &mut RequestWriter<'_>, user: &Text<'_>) {
    if user.len() <= caps::OPENAI_USER_CHARS_MAX {
        return w.put("user", user);
    }
    w.report.approximated(Feature::User);
    w.put("user", &*format!("user_{:016x}", fnv_1a(user.as_escaped())));
}

/// The id of a call, or a shorter one that always stands for it.
pub(crate) fn short_id<'a>(id: &'a Text<'_>, chars_max: usize) -> Text<'a> {
    if id.len() <= chars_max {
        return id.borrowed();
    }
    Text::owned(format!("call_{:016x}", fnv_1a(id.as_escaped())))
}

/// FNV-1a, 64 bit: for ids that must not collide by chance.
pub(crate) fn fnv_1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Schema that stands for a free-text tool: one of OpenAI's custom tools.
const FREE_TEXT_SCHEMA: &str =
    r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}"#;

/// Reads OpenAI's custom tool: `{name, description, format}`. Others cannot enforce a grammar, so it
/// becomes part of the description.
pub(crate) fn free_text_tool<'a>(object: &mut Fields<'a, '_>) -> json::Result<Tool<'a>> {
    object.ignore(&["defer_loading"]);
    object.take("type");
    let name = object.required_text("name")?;
    let description = object.text("description")?;
    let grammar = object.object("format", |format| {
        if !format.required_text("type")?.is("grammar") {
            return Ok(None);
        }
        // Chat wraps the grammar in one more object than responses do.
        match format.object("grammar", read_grammar)? {
            None => read_grammar(format).map(Some),
            grammar => Ok(grammar),
        }
    })?;
    let grammar = grammar.flatten();
    Ok(Tool {
        name,
        description: described(description.as_ref(), grammar.as_ref()),
        schema: Cow::Borrowed(FREE_TEXT_SCHEMA),
        strict: None,
        free_text: Some(FreeTextTool {
            description,
            grammar,
        }),
        cache_control: take_tool_mark(object)?,
    })
}

fn read_grammar<'a>(grammar: &mut Fields<'a, '_>) -> json::Result<(Text<'a>, Text<'a>)> {
    let syntax = grammar.text("syntax")?.unwrap_or_default();
    Ok((syntax, grammar.required_text("definition")?))
}

/// A tool's description with its grammar.
fn described<'a>(
    description: Option<&Text<'a>>,
    grammar: Option<&(Text<'a>, Text<'a>)>,
) -> Option<Text<'a>> {
    let mut all = description.cloned().unwrap_or_default();
    if let Some((syntax, definition)) = grammar {
        all.push(&Text::plain("\n\nThe input must follow this grammar ("));
        all.push(syntax);
        all.push(&Text::plain("):\n"));
        all.push(definition);
    }
    (!all.is_empty()).then_some(all)
}

/// Reads the schema of a tool's arguments.
pub(crate) fn read_arguments_schema<'a>(
    tool: &mut Object<'a, '_>,
    key: &str,
) -> json::Result<Cow<'a, str>> {
    match tool.take(key) {
        None => Ok(Cow::Borrowed(EMPTY_SCHEMA)),
        Some(raw) => arguments_schema(raw).map_err(|reason| tool.invalid(key, reason)),
    }
}

/// The arguments that stand for a custom tool's free text.
pub(crate) fn free_text_arguments(input: &Text<'_>) -> Cow<'static, str> {
    Cow::Owned(format!(r#"{{"input":"{}"}}"#, input.as_escaped()))
}

/// Reads arguments, which are JSON inside a string. If the model wrote something else, that text is
/// quoted, because other dialects can only carry an object.
pub(crate) fn read_arguments(call: &mut Object<'_, '_>) -> json::Result<Cow<'static, str>> {
    let text = call.text("arguments")?.unwrap_or_default();
    let arguments = text.unescape();
    let arguments =
        arguments.ok_or_else(|| call.invalid("arguments", "holds an invalid escape"))?;
    Ok(Cow::Owned(arguments_object(&arguments, &text)))
}
