//! Where the entries of an object are in a body.

use std::ops::Range;

use crate::json::{self, JsonCursor, Object, Path, Text};
use crate::splice::{Edit, remove};

/// Where an entry of an object is.
pub(crate) struct EntrySpan<'a> {
    pub(crate) key: &'a str,
    pub(crate) all: Range<usize>,
    pub(crate) value: Range<usize>,
}

impl EntrySpan<'_> {
    /// The key with its quotes.
    pub(crate) const fn quoted_key(&self) -> Range<usize> {
        self.all.start..self.all.start + self.key.len() + 2
    }
}

/// The entries of an object that is `body` or a part of it.
pub(crate) fn entries_of<'a>(body: &str, object: &'a str) -> Vec<EntrySpan<'a>> {
    let base = json::span_in(body, object).start;
    let mut entries = Vec::with_capacity(16);
    let _ = JsonCursor::new(object.as_bytes()).object(|key, cursor| {
        let key = std::str::from_utf8(key).ok()?;
        let start = base + json::span_in(object, key).start - 1;
        let value_start = base + cursor.position();
        let value = value_start..value_start + cursor.value()?.len();
        entries.push(EntrySpan {
            key,
            all: start..value.end,
            value,
        });
        Some(())
    });
    entries
}

/// Edits to fields of a body that stays otherwise as it is.
pub(crate) struct Mender<'a> {
    pub(crate) body: &'a str,
    entries: Vec<EntrySpan<'a>>,
    removed: Vec<bool>,
    edits: Vec<Edit>,
}

impl<'a> Mender<'a> {
    pub(crate) fn new(body: &'a str) -> Self {
        let entries = entries_of(body, body);
        Self {
            body,
            removed: vec![false; entries.len()],
            entries,
            edits: Vec::new(),
        }
    }

    /// A field's value; null counts as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&'a str> {
        let entry = self.entries.iter().rfind(|entry| entry.key == key)?;
        Some(&self.body[entry.value.clone()]).filter(|raw| *raw != "null")
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.get(key)?.parse().ok()
    }

    pub(crate) fn remove(&mut self, key: &str) {
        for (entry, removed) in self.entries.iter().zip(&mut self.removed) {
            *removed |= entry.key == key;
        }
    }

    /// Puts another value in a value's place, which is a part of the body.
    pub(crate) fn replace(&mut self, raw: &str, with: impl Into<String>) {
        let at = json::span_in(self.body, raw);
        self.edits.push(Edit::new(at, with));
    }

    /// Gives a number the value that is taken, or removes it.
    pub(crate) fn settle<T: PartialEq + ToString>(
        &mut self,
        key: &str,
        asked: Option<T>,
        taken: Option<T>,
    ) {
        match (self.get(key), taken) {
            (Some(_), None) if asked.is_some() => self.remove(key),
            (Some(raw), Some(taken)) if asked.as_ref() != Some(&taken) => {
                self.replace(raw, taken.to_string());
            }
            _ => {}
        }
    }

    /// Removes entries of an object inside the body. Returns whether none are left.
    pub(crate) fn remove_entries(&mut self, object: &'a str, keys: &[&str]) -> bool {
        let entries = entries_of(self.body, object);
        let removed: Vec<bool> = entries.iter().map(|e| keys.contains(&e.key)).collect();
        let is_empty = removed.iter().all(|removed| *removed);
        if !is_empty {
            let spans: Vec<_> = entries.iter().map(|entry| entry.all.clone()).collect();
            self.edits.extend(remove(&spans, &removed));
        }
        is_empty
    }

    /// Gives a text inside an object another value.
    pub(crate) fn replace_inside(&mut self, object: &'a str, key: &str, with: &str) {
        for entry in entries_of(self.body, object) {
            if entry.key == key {
                self.edits.push(Edit::new(entry.value, json::quoted(with)));
            }
        }
    }

    /// Removes entries of a field that is an object, and the field if nothing is left of it.
    pub(crate) fn remove_inside(&mut self, key: &str, keys: &[&str]) {
        if keys.is_empty() {
            return;
        }
        if let Some(object) = self.get(key).filter(|raw| raw.starts_with('{'))
            && self.remove_entries(object, keys)
        {
            self.remove(key);
        }
    }

    /// Removes elements of a list, which are parts of the body.
    pub(crate) fn remove_elements(&mut self, elements: &[&str], removed: &[bool]) {
        let spans: Vec<_> = elements
            .iter()
            .map(|raw| json::span_in(self.body, raw))
            .collect();
        self.edits.extend(remove(&spans, removed));
    }

    /// All edits, with new entries at the body's start.
    pub(crate) fn finish(mut self, new: &str) -> Vec<Edit> {
        let spans: Vec<_> = self.entries.iter().map(|entry| entry.all.clone()).collect();
        self.edits.extend(remove(&spans, &self.removed));
        if let Some(at) = self.body.find('{').filter(|_| !new.is_empty()) {
            self.edits.push(Edit::insert(at + 1, format!("{new},")));
        }
        self.edits
    }
}

/// A field's text in a value that is an object.
pub(crate) fn text_in<'a>(object: Option<&'a str>, key: &str) -> Option<Text<'a>> {
    let object = object.filter(|raw| raw.starts_with('{'))?;
    Object::read(object, Path::ROOT).ok()?.lenient_text(key)
}
