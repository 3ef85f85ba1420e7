//! Marks of what is to be cached: Anthropic's `cache_control` and its relatives.

use super::{Fields, Part};
use crate::json;

/// Where a target takes cache marks. Elsewhere caching is automatic, and a mark does not change the
/// answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheMarks {
    Nowhere,
    /// In the content of messages.
    InMessages,
    /// In the content of messages, at tools and at the request.
    Everywhere,
}

/// Parts, each with the cache mark that follows it.
pub(crate) fn with_marks<'p, 'a: 'p>(
    parts: impl IntoIterator<Item = &'p Part<'a>>,
) -> Vec<(&'p Part<'a>, Option<&'p str>)> {
    let mut marked: Vec<(&Part<'a>, Option<&str>)> = Vec::new();
    for part in parts {
        match (part, marked.last_mut()) {
            (Part::CacheMark(mark), Some((_, last))) => *last = Some(mark),
            (Part::CacheMark(_), None) => {}
            (part, _) => marked.push((part, None)),
        }
    }
    marked
}

/// Takes the mark of a content part.
pub(crate) fn take_message_mark<'a>(part: &mut Fields<'a, '_>) -> json::Result<Option<&'a str>> {
    let accepted = part.report.cache_marks != CacheMarks::Nowhere;
    take_mark(part, accepted)
}

/// Takes the mark of a tool, or of the whole request.
pub(crate) fn take_tool_mark<'a>(tool: &mut Fields<'a, '_>) -> json::Result<Option<&'a str>> {
    let accepted = tool.report.cache_marks == CacheMarks::Everywhere;
    take_mark(tool, accepted)
}

/// Takes `cache_control`, as Anthropic and its followers call it, or OpenAI's
/// `prompt_cache_breakpoint`.
fn take_mark<'a>(fields: &mut Fields<'a, '_>, accepted: bool) -> json::Result<Option<&'a str>> {
    let control = fields.object("cache_control", |mark| {
        mark.pass_whole(accepted);
        Ok(accepted.then_some(mark.raw))
    })?;
    let breakpoint = fields.object("prompt_cache_breakpoint", |mark| {
        if !accepted {
            mark.pass_whole(false);
            return Ok(None);
        }
        // OpenAI's lifetimes are half an hour and more, or not given; Anthropic's are five minutes
        // or an hour.
        mark.take("mode");
        Ok(Some(match mark.take("ttl") {
            Some(_) => r#"{"type":"ephemeral","ttl":"1h"}"#,
            None => r#"{"type":"ephemeral"}"#,
        }))
    })?;
    Ok(breakpoint.or(control).flatten())
}
