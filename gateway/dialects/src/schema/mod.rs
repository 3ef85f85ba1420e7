//! JSON schemas in the form that each target takes.
//!
//! A schema stays the client's own JSON; only what a target refuses is written anew. Keys are
//! compared as they stand: nobody escapes a keyword.

mod arguments;
mod claude;
mod openai;

pub(crate) use arguments::{EMPTY_SCHEMA, arguments_schema, without_top_level_choice};
pub(crate) use claude::{ClaudeSchema, claude_schema};
pub(crate) use openai::is_strict_for_openai;

use crate::json::{JsonCursor, part_of};

/// The entries of an object; none for anything else.
fn entries(raw: &str) -> Vec<(&str, &str)> {
    let mut entries = Vec::new();
    let _ = JsonCursor::new(raw.as_bytes()).object_or_skip(|key, cursor| {
        let key = part_of(raw, key)?;
        entries.push((key, part_of(raw, cursor.value()?)?));
        Some(())
    });
    entries
}

/// The elements of an array; none for anything else.
fn elements(raw: &str) -> Vec<&str> {
    let mut elements = Vec::new();
    if raw.starts_with('[') {
        let _ = JsonCursor::new(raw.as_bytes()).array(|cursor| {
            elements.push(part_of(raw, cursor.value()?)?);
            Some(())
        });
    }
    elements
}

/// The value of an entry; of two with one key, the last counts. Null counts as absent.
fn value<'a>(entries: &[(&'a str, &'a str)], key: &str) -> Option<&'a str> {
    let found = entries.iter().rfind(|(found, _)| *found == key)?.1;
    (found != "null").then_some(found)
}

/// Whether a schema's `type` is this, or a list with it.
fn has_type(entries: &[(&str, &str)], wanted: &str) -> bool {
    let is_it = |raw: &str| raw.trim_matches('"') == wanted;
    match value(entries, "type") {
        Some(raw) if raw.starts_with('[') => elements(raw).into_iter().any(is_it),
        Some(raw) => is_it(raw),
        None => false,
    }
}

/// Whether a schema is one of objects.
fn is_of_objects(entries: &[(&str, &str)]) -> bool {
    has_type(entries, "object")
        || (value(entries, "type").is_none() && value(entries, "properties").is_some())
}
