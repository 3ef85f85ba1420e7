//! A chat request for a vendor that speaks chat: the client's bytes, with the vendor's differences
//! edited in.

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::read_request::is_default;
use super::write_request::{tool_id, write_reasoning};
use crate::json::{self, Cursor, Object, Path, Writer, as_text, each};
use crate::neutral::{Effort, Feature, Reasoning, Report};
use crate::prepare::Refusal;
use crate::splice::{Edit, remove};
use crate::vendors::{
    CALL_ID_LENGTH_MAX, ChatQuirks, Formats, ReasoningControl, StreamUsage, ToolIds,
};

/// The edits that a vendor needs, those of model and usage excluded.
pub(crate) fn edits(
    body: &str,
    model: &str,
    quirks: &ChatQuirks,
    report: &mut Report,
) -> Result<Vec<Edit>, Refusal> {
    let has_extras = holds_extras(body);
    let has_long_ids = quirks.tool_ids == ToolIds::Short && holds_long_id(body);
    if !quirks.differ() && !has_extras && !has_long_ids {
        return Ok(Vec::new());
    }
    let entries = entries_of(body, body);
    let (edits, insert) = (Vec::new(), Writer::default());
    let mut editor = Editor {
        body,
        quirks,
        has_extras,
        has_long_ids,
        edits,
        insert,
    };
    let mut removed = vec![false; entries.len()];
    for (entry, removed) in entries.iter().zip(&mut removed) {
        // Of two fields that would end up with one name, the newer counts.
        let is_outdone = quirks
            .renamed
            .iter()
            .any(|(from, to)| *to == entry.key && entries.iter().any(|other| other.key == *from));
        *removed = is_outdone || editor.edit_entry(entry, model, report)?;
    }
    editor.edits.extend(remove(&entries, &removed));
    editor.insert_at_start();
    Ok(editor.edits)
}

/// A top-level entry: its key, and where all of it and its value are.
pub(crate) struct Entry<'a> {
    key: &'a str,
    all: Range<usize>,
    value: Range<usize>,
}

impl AsRef<Range<usize>> for Entry<'_> {
    fn as_ref(&self) -> &Range<usize> {
        &self.all
    }
}

/// The entries of an object that is `body` or a part of it.
fn entries_of<'a>(body: &str, object: &'a str) -> Vec<Entry<'a>> {
    let base = json::span_in(body, object).start;
    let mut entries = Vec::with_capacity(16);
    let _ = Cursor::new(object.as_bytes()).object(|key, cursor| {
        let key = std::str::from_utf8(key).ok()?;
        let start = base + json::span_in(object, key).start - 1;
        let value_start = base + cursor.position();
        let value = value_start..value_start + cursor.value()?.len();
        entries.push(Entry {
            key,
            all: start..value.end,
            value,
        });
        Some(())
    });
    entries
}

/// Whether messages may hold reasoning.
fn holds_extras(body: &str) -> bool {
    static REASONING: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"reasoning"));
    REASONING.find(body.as_bytes()).is_some()
}

/// Whether the result of a call has an id that is too long for OpenAI. Another vendor may have given
/// it before the conversation came here.
fn holds_long_id(body: &str) -> bool {
    static ID: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"tool_call_id\""));
    let bytes = body.as_bytes();
    ID.find_iter(bytes).any(|at| {
        let value = bytes[at + ID.needle().len()..].trim_ascii_start();
        let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii_start();
        let Some(text) = value.strip_prefix(b"\"") else {
            return false;
        };
        let longest = &text[..text.len().min(CALL_ID_LENGTH_MAX + 1)];
        memchr::memchr(b'"', longest).is_none()
    })
}

struct Editor<'a> {
    body: &'a str,
    quirks: &'a ChatQuirks,
    has_extras: bool,
    has_long_ids: bool,
    edits: Vec<Edit>,
    /// Entries that are put in at the start of the body.
    insert: Writer,
}

impl<'a> Editor<'a> {
    /// Returns whether the entry is to go.
    fn edit_entry(
        &mut self,
        entry: &Entry<'a>,
        model: &str,
        report: &mut Report,
    ) -> Result<bool, Refusal> {
        let quirks = self.quirks;
        let raw = &self.body[entry.value.clone()];
        if quirks.unwanted.contains(&entry.key) {
            report.hint(entry.key);
            return Ok(true);
        }
        if quirks.refused.contains(&entry.key) {
            if raw != "null" && !is_default(entry.key, raw) {
                report.unsupported(entry.key)?;
            }
            return Ok(true);
        }
        if let Some((_, to)) = quirks.renamed.iter().find(|(from, _)| *from == entry.key) {
            let key = entry.all.start..entry.all.start + entry.key.len() + 2;
            self.edits.push(Edit {
                at: key,
                with: json::quoted(to),
            });
        }
        match entry.key {
            "stream_options" => Ok(quirks.stream_usage == StreamUsage::Always),
            "temperature" => {
                self.edit_temperature(entry, raw, report);
                Ok(false)
            }
            "response_format" => self.lacks_format(raw, report),
            "tool_choice" => self.edit_tool_choice(entry, raw, report),
            "reasoning_effort" => self.edit_effort(raw, model, report),
            "messages" => {
                self.edit_messages(raw, report)?;
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    fn edit_temperature(&mut self, entry: &Entry<'_>, raw: &str, report: &mut Report) {
        let most = self.quirks.temperature_max;
        if raw.parse().is_ok_and(|temperature: f64| temperature > most) {
            report.bends(Feature::Temperature);
            self.edits.push(Edit {
                at: entry.value.clone(),
                with: most.to_string(),
            });
        }
    }

    fn lacks_format(&self, raw: &str, report: &mut Report) -> Result<bool, Refusal> {
        if self.quirks.formats == Formats::Schema || !raw.starts_with('{') {
            return Ok(false);
        }
        let kind = Object::read(raw, Path::ROOT.key("response_format"))?.text("type")?;
        if !kind.is_some_and(|kind| kind.is("json_schema")) {
            return Ok(false);
        }
        report.lacks(Feature::Format).map(|()| true)
    }

    fn edit_tool_choice(
        &mut self,
        entry: &Entry<'_>,
        raw: &str,
        report: &mut Report,
    ) -> Result<bool, Refusal> {
        match self.quirks.tool_required {
            "auto" if raw == r#""required""# => report.lacks(Feature::ToolChoice).map(|()| true),
            word if raw == r#""required""# && word != "required" => {
                self.edits.push(Edit {
                    at: entry.value.clone(),
                    with: json::quoted(word),
                });
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// Says in the vendor's way how much to reason. A value that is not known is the vendor's to
    /// judge.
    fn edit_effort(
        &mut self,
        raw: &str,
        model: &str,
        report: &mut Report,
    ) -> Result<bool, Refusal> {
        let control = self.quirks.reasoning_control(model);
        let effort = as_text(raw, &Path::ROOT).ok();
        let Some(effort) = effort.and_then(|word| Effort::named(word.as_escaped())) else {
            return Ok(false);
        };
        if matches!(control, ReasoningControl::Effort(allowed) if allowed.contains(&effort)) {
            return Ok(false);
        }
        let reasoning = Reasoning {
            effort: Some(effort),
            ..Reasoning::default()
        };
        write_reasoning(&mut self.insert, &reasoning, control, report)?;
        Ok(true)
    }

    /// Roles, names, ids and reasoning inside of messages.
    fn edit_messages(&mut self, raw: &'a str, report: &mut Report) -> Result<(), Refusal> {
        let holds = |word: &str| memchr::memmem::find(raw.as_bytes(), word.as_bytes()).is_some();
        let renames_role = !self.quirks.developer_role && holds("\"developer\"");
        let drops_names = !self.quirks.message_names && holds("\"name\"");
        let changes_ids = self.quirks.tool_ids == ToolIds::NineAlphanumeric || self.has_long_ids;
        if !renames_role && !drops_names && !changes_ids && !self.has_extras {
            return Ok(());
        }
        each(raw, &Path::ROOT.key("messages"), |raw, path| {
            let mut message = Object::read(raw, *path)?;
            let role = message.take("role");
            if let Some(role) = role.filter(|role| renames_role && *role == r#""developer""#) {
                self.replace(role, r#""system""#.to_owned());
            }
            if changes_ids {
                self.edit_id(message.take("tool_call_id"));
                message.each("tool_calls", |raw, path| {
                    self.edit_id(Object::read(raw, *path)?.take("id"));
                    Ok::<_, Refusal>(())
                })?;
            }
            if drops_names || self.has_extras {
                self.edit_extras(raw, drops_names, report);
            }
            Ok::<_, Refusal>(())
        })
    }

    /// Takes out of a message what the vendor does not know: a name, or the reasoning of the vendor
    /// that held the conversation before, which is brought back under this one's name for it.
    fn edit_extras(&mut self, message: &'a str, drops_name: bool, report: &mut Report) {
        let entries = entries_of(self.body, message);
        let back = self.quirks.reasoning_back;
        let has_own = entries.iter().any(|entry| Some(entry.key) == back);
        let mut gone = vec![false; entries.len()];
        for (entry, gone) in entries.iter().zip(&mut gone) {
            let raw = &self.body[entry.value.clone()];
            *gone = match entry.key {
                "name" if drops_name => {
                    report.hint("messages[].name");
                    true
                }
                key if Some(key) == back => false,
                "reasoning_content" | "reasoning" => match back {
                    Some(back) if !has_own && raw.starts_with('"') => {
                        let key = entry.all.start..entry.all.start + entry.key.len() + 2;
                        self.edits.push(Edit {
                            at: key,
                            with: json::quoted(back),
                        });
                        false
                    }
                    _ => !self.quirks.unknown_in_messages,
                },
                "reasoning_details" => !self.quirks.unknown_in_messages || raw.contains("\"weir."),
                _ => false,
            };
        }
        self.edits.extend(remove(&entries, &gone));
    }

    fn edit_id(&mut self, raw: Option<&str>) {
        let Some(raw) = raw else { return };
        let Ok(id) = as_text(raw, &Path::ROOT) else {
            return;
        };
        let fitting = tool_id(&id, self.quirks.tool_ids);
        if fitting != id {
            self.replace(raw, json::quoted(fitting.as_escaped()));
        }
    }

    fn replace(&mut self, part: &str, with: String) {
        self.edits.push(Edit {
            at: json::span_in(self.body, part),
            with,
        });
    }

    fn insert_at_start(&mut self) {
        let entries = std::mem::take(&mut self.insert).into_string();
        if entries.is_empty() {
            return;
        }
        if let Some(at) = self.body.find('{') {
            self.edits.push(Edit {
                at: at + 1..at + 1,
                with: entries + ",",
            });
        }
    }
}
