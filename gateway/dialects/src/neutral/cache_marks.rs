//! Marks of what is to be cached: Anthropic's `cache_control` and its relatives.

use super::{LossReport, Part};
use crate::json::{self, Object, Writer};

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
pub(crate) fn take_message_mark<'a>(
    object: &mut Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Option<&'a str>> {
    let accepted = report.cache_marks != CacheMarks::Nowhere;
    take_mark(object, accepted, report)
}

/// Takes the mark of a tool, or of the whole request.
pub(crate) fn take_tool_mark<'a>(
    object: &mut Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Option<&'a str>> {
    let accepted = report.cache_marks == CacheMarks::Everywhere;
    take_mark(object, accepted, report)
}

/// Takes `cache_control`, as Anthropic and its followers call it, or OpenAI's
/// `prompt_cache_breakpoint`.
fn take_mark<'a>(
    object: &mut Object<'a, '_>,
    accepted: bool,
    report: &mut LossReport,
) -> json::Result<Option<&'a str>> {
    let mut found = None;
    for key in ["cache_control", "prompt_cache_breakpoint"] {
        let Some(raw) = object.take(key) else {
            continue;
        };
        let path = object.path().key(key);
        let mut mark = Object::read(raw, path)?;
        if !accepted {
            report.ignored(path.general());
        } else if key == "cache_control" {
            found = Some(raw);
        } else {
            found = Some(cache_control_of(&mut mark, report));
        }
    }
    Ok(found)
}

/// OpenAI's lifetimes are half an hour and more, or not given; Anthropic's are five minutes or an
/// hour.
fn cache_control_of(breakpoint: &mut Object<'_, '_>, report: &mut LossReport) -> &'static str {
    breakpoint.take("mode");
    let lives_long = breakpoint.take("ttl").is_some();
    report.remaining(breakpoint, &[]);
    if lives_long {
        r#"{"type":"ephemeral","ttl":"1h"}"#
    } else {
        r#"{"type":"ephemeral"}"#
    }
}

pub(crate) fn put_cache_control(w: &mut Writer, mark: Option<&str>) {
    if let Some(mark) = mark {
        w.put_raw("cache_control", mark);
    }
}
