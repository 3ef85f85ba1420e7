//! A chat request for a vendor that speaks chat: the client's bytes, edited where the vendor differs.

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::native_model::ModelRules;
use super::read_request::is_default;
use super::write_request::{tool_id, write_reasoning};
use crate::caps;
use crate::entries::{EntrySpan, entries_of};
use crate::generations::{Generation, ReasoningControl, ReasoningReturn};
use crate::inspect::RequestFacts;
use crate::json::{self, Object, Path, each, each_object, text_of, value_of};
use crate::neutral::{Effort, Feature, LossReport, Reasoning, RequestWriter};
use crate::splice::{Edit, remove};
use crate::vendors::{ChatQuirks, Formats, Prefill, StreamUsage, ToolIds};

/// The edits that a vendor needs, those of model and usage excluded.
pub(crate) fn edits(
    body: &str,
    facts: &RequestFacts,
    quirks: &ChatQuirks,
    generation: &Generation,
    report: &mut LossReport,
) -> json::Result<Vec<Edit>> {
    let mut rules = ModelRules::new(generation, quirks, facts);
    let has_extras = holds_extras(body);
    let has_long_ids = quirks.tool_ids == ToolIds::Short && holds_long_id(body);
    let wants_reasoning = generation.reasoning.back == ReasoningReturn::Text && holds_calls(body);
    if !quirks.needs_edits()
        && !has_extras
        && !has_long_ids
        && !wants_reasoning
        && !rules.needs_edits(facts)
    {
        return Ok(Vec::new());
    }
    let entries = entries_of(body, body);
    for entry in &entries {
        rules.hear(entry.key, &body[entry.value.clone()]);
    }
    let mut editor = Editor {
        body,
        quirks,
        rules,
        has_extras,
        has_long_ids,
        wants_reasoning: wants_reasoning && rules.reasons,
        edits: Vec::new(),
        insert: RequestWriter::reporting(0, report),
    };
    let mut removed = Vec::with_capacity(entries.len());
    for entry in &entries {
        // Of two fields that would end up with one name, the newer counts.
        let is_replaced = quirks
            .renamed
            .iter()
            .any(|(from, to)| *to == entry.key && entries.iter().any(|other| other.key == *from));
        let is_old = entry.key == "max_tokens" && !generation.old_token_limit;
        let is_replaced = is_replaced
            || is_old
                && entries
                    .iter()
                    .any(|other| other.key == "max_completion_tokens");
        removed.push(is_replaced || editor.edit_entry(entry)?);
    }
    if facts.reasoning_effort.is_none() {
        editor.settle_effort(None);
    }
    editor.remove(&entries, &removed);
    Ok(editor.finish())
}

/// Whether messages may hold reasoning.
fn holds_extras(body: &str) -> bool {
    static REASONING: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"reasoning"));
    REASONING.find(body.as_bytes()).is_some()
}

/// Whether messages may hold calls of tools.
fn holds_calls(body: &str) -> bool {
    static CALLS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"tool_calls\""));
    CALLS.find(body.as_bytes()).is_some()
}

/// Whether a body has what only OpenAI's own chat takes: tools of free text, their calls, or
/// `tool_choice: allowed_tools`.
pub(crate) fn holds_openai_tools(body: &str) -> json::Result<bool> {
    static CUSTOM: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"custom\""));
    static ALLOWED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"allowed_tools\""));
    let bytes = body.as_bytes();
    if CUSTOM.find(bytes).is_none() && ALLOWED.find(bytes).is_none() {
        return Ok(false);
    }
    let is_one =
        |mut thing: Object<'_, '_>| thing.is_kind("custom") || thing.is_kind("allowed_tools");
    let mut found = false;
    for entry in entries_of(body, body) {
        let raw = &body[entry.value];
        let path = Path::ROOT.key(entry.key);
        match entry.key {
            "tool_choice" if raw.starts_with('{') => found |= is_one(Object::read(raw, path)?),
            "tools" if raw.starts_with('[') => each(raw, &path, |raw, path| {
                found |= raw.starts_with('{') && is_one(Object::read(raw, *path)?);
                Ok(())
            })?,
            "messages" if raw.starts_with('[') => each(raw, &path, |raw, path| {
                if !raw.starts_with('{') {
                    return Ok(());
                }
                Object::read(raw, *path)?.each_object("tool_calls", |call| {
                    found |= is_one(call);
                    Ok(())
                })
            })?,
            _ => {}
        }
    }
    Ok(found)
}

/// Whether the result of a call has an id that is too long for OpenAI, given by the vendor that held
/// the conversation before.
fn holds_long_id(body: &str) -> bool {
    static ID: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"tool_call_id\""));
    let bytes = body.as_bytes();
    ID.find_iter(bytes).any(|at| {
        let value = bytes[at + ID.needle().len()..].trim_ascii_start();
        let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii_start();
        let Some(text) = value.strip_prefix(b"\"") else {
            return false;
        };
        let longest = &text[..text.len().min(caps::CHAT_CALL_ID_CHARS_MAX + 1)];
        memchr::memchr(b'"', longest).is_none()
    })
}

/// What answers have beside their text and calls, and clients return, and how it is listed.
const ANSWER_FIELDS: [(&str, &str); 4] = [
    ("\"refusal\"", "messages[].refusal"),
    ("\"annotations\"", "messages[].annotations"),
    ("\"audio\"", "messages[].audio"),
    (
        "\"provider_specific_fields\"",
        "messages[].provider_specific_fields",
    ),
];

/// Marks of what is to be cached, in content and at tools, and how they are listed.
const CACHE_MARKS: [&str; 2] = ["cache_control", "prompt_cache_breakpoint"];

fn holds_cache_marks(raw: &str) -> bool {
    let holds = |mark: &&str| memchr::memmem::find(raw.as_bytes(), mark.as_bytes()).is_some();
    CACHE_MARKS.iter().any(holds)
}

fn answer_field(key: &str) -> Option<&'static str> {
    let is_it = |(_, listed): &&(&str, &str)| listed.strip_prefix("messages[].") == Some(key);
    ANSWER_FIELDS.iter().find(is_it).map(|(_, listed)| *listed)
}

/// Whether not every vendor takes this field of a message.
fn is_extra(key: &str) -> bool {
    matches!(
        key,
        "name" | "function_call" | "reasoning_content" | "reasoning" | "reasoning_details"
    ) || answer_field(key).is_some()
}

struct Editor<'a, 'r> {
    body: &'a str,
    quirks: &'a ChatQuirks,
    rules: ModelRules<'a>,
    has_extras: bool,
    has_long_ids: bool,
    /// Whether each call needs the reasoning that led to it.
    wants_reasoning: bool,
    edits: Vec<Edit>,
    /// Entries for the start of the body.
    insert: RequestWriter<'r>,
}

impl<'a> Editor<'a, '_> {
    /// Returns whether to remove the entry.
    fn edit_entry(&mut self, entry: &EntrySpan<'a>) -> json::Result<bool> {
        let quirks = self.quirks;
        let raw = &self.body[entry.value.clone()];
        if quirks.unwanted.contains(&entry.key) {
            self.insert.report.ignored(entry.key);
            return Ok(true);
        }
        if quirks.refused.contains(&entry.key) {
            if raw != "null" && !is_default(entry.key, raw) {
                self.insert.report.unsupported_field(entry.key);
            }
            return Ok(true);
        }
        let renamed = quirks.renamed.iter().find(|(from, _)| *from == entry.key);
        let fate = self.rules.fate(entry.key, raw, self.insert.report)?;
        if fate.is_removed {
            return Ok(true);
        }
        if let Some(key) = fate.key.or_else(|| renamed.map(|(_, to)| *to)) {
            self.replace(entry.quoted_key(), json::quoted(key));
        }
        if let Some(value) = fate.value {
            self.replace(entry.value.clone(), value);
            return Ok(false);
        }
        match entry.key {
            "stream_options" => return Ok(quirks.stream_usage == StreamUsage::Always),
            "response_format" => return self.lacks_format(raw),
            "tool_choice" => return Ok(self.edit_tool_choice(entry, raw)),
            "reasoning_effort" => return Ok(self.edit_effort(raw)),
            "temperature" => self.edit_temperature(entry, raw),
            "messages" => self.edit_messages(raw)?,
            "tools" if self.is_closed() && holds_cache_marks(raw) => {
                self.drop_cache_marks(raw, "tools[]")?;
            }
            _ => {}
        }
        Ok(false)
    }

    /// Whether the vendor refuses fields that it does not know.
    const fn is_closed(&self) -> bool {
        !self.quirks.is_openai && !self.quirks.unknown_in_messages
    }

    /// Takes the cache marks out of a list of objects: they do not change the answer.
    fn drop_cache_marks(&mut self, list: &'a str, place: &str) -> json::Result<()> {
        each(list, &Path::ROOT, |raw, _| {
            if !raw.starts_with('{') {
                return Ok(());
            }
            let entries = entries_of(self.body, raw);
            let removed: Vec<bool> = entries
                .iter()
                .map(|entry| CACHE_MARKS.contains(&entry.key))
                .collect();
            for (entry, _) in entries
                .iter()
                .zip(&removed)
                .filter(|(_, removed)| **removed)
            {
                self.insert.report.ignored(format!("{place}.{}", entry.key));
            }
            self.remove(&entries, &removed);
            Ok(())
        })
    }

    fn edit_temperature(&mut self, entry: &EntrySpan<'_>, raw: &str) {
        let most = self.quirks.temperature_max;
        if raw.parse().is_ok_and(|temperature: f64| temperature > most) {
            self.insert.report.approximated(Feature::Temperature);
            self.replace(entry.value.clone(), most.to_string());
        }
    }

    fn lacks_format(&mut self, raw: &str) -> json::Result<bool> {
        let has_schemas = self.quirks.formats == Formats::Schema && self.rules.generation.schemas;
        if has_schemas || !raw.starts_with('{') {
            return Ok(false);
        }
        let kind = Object::read(raw, Path::ROOT.key("response_format"))?.text("type")?;
        let is_schema = kind.is_some_and(|kind| kind.is("json_schema"));
        if is_schema {
            self.insert.report.unsupported(Feature::Format);
        }
        Ok(is_schema)
    }

    fn edit_tool_choice(&mut self, entry: &EntrySpan<'_>, raw: &str) -> bool {
        let word = self.quirks.tool_required;
        if raw != r#""required""# || word == "required" {
            return false;
        }
        if word == "auto" {
            self.insert.report.unsupported(Feature::ToolChoice);
        }
        self.replace(entry.value.clone(), json::quoted(word));
        false
    }

    /// Translates the amount of reasoning into the vendor's terms. An unknown value is the vendor's
    /// to judge.
    fn edit_effort(&mut self, raw: &str) -> bool {
        let rules = &self.rules.generation.reasoning;
        let Some(effort) = text_of(raw).and_then(|word| value_of(&Effort::WORDS, &word)) else {
            return false;
        };
        if self.settle_effort(Some(effort)) {
            return true;
        }
        let is_taken = rules.efforts.contains(effort) && effort <= self.quirks.effort_max;
        if rules.control == ReasoningControl::Effort && is_taken {
            return false;
        }
        let reasoning = Reasoning {
            effort: Some(effort),
            ..Reasoning::default()
        };
        write_reasoning(&mut self.insert, &reasoning, self.quirks, rules);
        true
    }

    /// Switches reasoning off where the chat API takes no tools beside it and there is no other API.
    /// Returns whether it did.
    fn settle_effort(&mut self, asked: Option<Effort>) -> bool {
        let Some(effort) = self.rules.effort(self.insert.report) else {
            return false;
        };
        if asked.is_some() {
            self.insert.report.unsupported(Feature::Reasoning);
        } else {
            self.insert.report.approximated(Feature::Reasoning);
        }
        self.insert.put("reasoning_effort", effort.as_str());
        true
    }

    /// Edits roles, names, ids and reasoning inside messages.
    fn edit_messages(&mut self, raw: &'a str) -> json::Result<()> {
        let holds = |word: &str| memchr::memmem::find(raw.as_bytes(), word.as_bytes()).is_some();
        let renames_role = !self.quirks.developer_role;
        let drops_names = !self.quirks.message_names;
        let changes_ids = self.quirks.tool_ids == ToolIds::NineAlphanumeric || self.has_long_ids;
        let adds_reasoning = self.wants_reasoning;
        let drops_fields = self.is_closed();
        let drops_marks = drops_fields && holds_cache_marks(raw);
        let marks_prefill = matches!(self.quirks.prefill, Prefill::Required(_));
        // A search is for those for whom nothing else is certain.
        let is_needed = changes_ids
            || adds_reasoning
            || marks_prefill
            || drops_marks
            || self.has_extras
            || renames_role && holds("\"developer\"")
            || drops_names && holds("\"name\"")
            || drops_fields && holds("\"function_call\"")
            || drops_fields && ANSWER_FIELDS.iter().any(|(name, _)| holds(name));
        if !is_needed {
            return Ok(());
        }
        let mut last = None;
        each_object(raw, &Path::ROOT.key("messages"), |mut message, raw| {
            let role = message.take("role");
            if let Some(role) = role.filter(|role| renames_role && *role == r#""developer""#) {
                self.replace(json::span_in(self.body, role), r#""system""#);
            }
            if changes_ids {
                self.edit_id(message.take("tool_call_id"));
                message.each_object("tool_calls", |mut call| {
                    self.edit_id(call.take("id"));
                    Ok(())
                })?;
            }
            if message.keys().any(is_extra) {
                self.edit_extras(raw, drops_names, drops_fields);
            }
            if adds_reasoning {
                self.add_reasoning(raw);
            }
            let content = message.take("content").filter(|raw| raw.starts_with('['));
            if let Some(content) = content.filter(|_| drops_marks) {
                self.drop_cache_marks(content, "messages[].content[]")?;
            }
            last = Some(raw);
            Ok(())
        })?;
        if let (Prefill::Required(key), Some(last)) = (self.quirks.prefill, last) {
            self.mark_prefill(last, key);
        }
        Ok(())
    }

    /// Marks an assistant's message at the end as one to continue, without which the vendor refuses
    /// it.
    fn mark_prefill(&mut self, message: &'a str, key: &'static str) {
        let entries = entries_of(self.body, message);
        let has = |key: &str| entries.iter().any(|entry| entry.key == key);
        let is_assistants = entries.iter().any(|entry| {
            entry.key == "role" && self.body[entry.value.clone()] == *r#""assistant""#
        });
        if is_assistants && !has("tool_calls") && !has(key) {
            self.insert.report.approximated(Feature::Prefill);
            let at = json::span_in(self.body, message).start + 1;
            let entry = format!("{}:true,", json::quoted(key));
            self.edits.push(Edit::insert(at, entry));
        }
    }

    /// Removes what the vendor does not know from a message: a name, or the reasoning of the vendor
    /// that held the conversation before, unless it can be renamed to this vendor's field.
    fn edit_extras(&mut self, message: &'a str, drops_name: bool, drops_fields: bool) {
        let entries = entries_of(self.body, message);
        let own = self.quirks.reasoning_back;
        let has_own = entries.iter().any(|entry| Some(entry.key) == own);
        let mut removed = Vec::with_capacity(entries.len());
        for entry in &entries {
            let raw = &self.body[entry.value.clone()];
            removed.push(match entry.key {
                "name" if drops_name => {
                    self.insert.report.ignored("messages[].name");
                    true
                }
                key if Some(key) == own => false,
                key if drops_fields && answer_field(key).is_some() => {
                    if let Some(listed) = answer_field(key).filter(|_| raw != "null") {
                        self.insert.report.ignored(listed);
                    }
                    true
                }
                // Older clients return it as null.
                "function_call" if drops_fields && raw == "null" => true,
                "function_call" if drops_fields && self.quirks.refuses("function_call") => {
                    self.insert
                        .report
                        .unsupported_field("messages[].function_call");
                    true
                }
                "reasoning_content" | "reasoning" => match own {
                    Some(own) if !has_own && raw.starts_with('"') => {
                        self.replace(entry.quoted_key(), json::quoted(own));
                        false
                    }
                    _ => !self.quirks.unknown_in_messages,
                },
                "reasoning_details" => !self.quirks.unknown_in_messages || raw.contains("\"weir."),
                _ => false,
            });
        }
        self.remove(&entries, &removed);
    }

    /// Gives a message with calls the empty reasoning that the vendor wants, if it has none.
    fn add_reasoning(&mut self, message: &'a str) {
        let entries = entries_of(self.body, message);
        let has = |keys: &[&str]| entries.iter().any(|entry| keys.contains(&entry.key));
        let Some(own) = self.quirks.reasoning_back else {
            return;
        };
        if has(&["tool_calls"]) && !has(&[own, "reasoning_content", "reasoning"]) {
            let at = json::span_in(self.body, message).start + 1;
            let entry = format!(r#"{}:"","#, json::quoted(own));
            self.edits.push(Edit::insert(at, entry));
        }
    }

    fn edit_id(&mut self, raw: Option<&str>) {
        if let Some((raw, id)) = raw.and_then(|raw| Some((raw, text_of(raw)?))) {
            let fitting = tool_id(&id, self.quirks.tool_ids);
            if fitting != id {
                let at = json::span_in(self.body, raw);
                self.replace(at, json::quoted(fitting.as_escaped()));
            }
        }
    }

    fn replace(&mut self, at: Range<usize>, with: impl Into<String>) {
        self.edits.push(Edit::new(at, with));
    }

    fn remove(&mut self, entries: &[EntrySpan<'_>], removed: &[bool]) {
        let spans: Vec<_> = entries.iter().map(|entry| entry.all.clone()).collect();
        self.edits.extend(remove(&spans, removed));
    }

    fn finish(mut self) -> Vec<Edit> {
        let entries = self.insert.into_string();
        if let Some(at) = self.body.find('{').filter(|_| !entries.is_empty()) {
            self.edits.push(Edit::insert(at + 1, entries + ","));
        }
        self.edits
    }
}
