//! OpenRouter's `reasoning_details`: entries of text, summaries and encrypted data, in which the
//! providers behind it want their reasoning back (openrouter.ai/docs/guides/best-practices/reasoning-tokens).
//!
//! Each entry is carried like a signature. Its value is the entry itself, without the text, which
//! stands where a client has reasoning.

use serde::de::IgnoredAny;

use crate::json::{self, Path};
use crate::json::{JsonCursor, Object, Text, Writer, each, text_of};
use crate::neutral::{
    AnswerEvent, EventSink, Part, ReasoningSignature, RequestWriter, SignatureOrigin,
};

/// The fields of an entry but for its text, with their raw values.
#[derive(Debug, Default)]
struct Entry {
    fields: Vec<(String, String)>,
    text: Text<'static>,
}

impl Entry {
    fn read(raw: &str) -> Self {
        let mut entry = Self::default();
        let _ = JsonCursor::new(raw.as_bytes()).object_or_skip(|key, cursor| {
            let (key, raw) = (
                str::from_utf8(key).ok()?,
                str::from_utf8(cursor.value()?).ok()?,
            );
            match (key, text_of(raw)) {
                ("text" | "summary", Some(text)) => entry.text = text.into_owned(),
                ("text" | "summary", None) => {}
                _ => entry.set(key, raw),
            }
            Some(())
        });
        entry
    }

    fn set(&mut self, key: &str, raw: &str) {
        match self.fields.iter_mut().find(|(known, _)| known == key) {
            // A piece without a value does not take it away.
            Some(_) if raw == "null" => {}
            Some((_, known)) => raw.clone_into(known),
            None => self.fields.push((key.to_owned(), raw.to_owned())),
        }
    }

    fn get(&self, key: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(known, _)| known == key);
        field
            .map(|(_, raw)| raw.as_str())
            .filter(|raw| *raw != "null")
    }

    fn is_encrypted(&self) -> bool {
        self.get("type") == Some(r#""reasoning.encrypted""#)
    }

    /// Whether a piece belongs to the same entry.
    fn continues(&self, other: &Self) -> bool {
        self.get("index") == other.get("index") && self.get("type") == other.get("type")
    }

    fn add(&mut self, other: Self) {
        self.text.push(&other.text);
        for (key, raw) in other.fields {
            self.set(&key, &raw);
        }
    }

    fn write_fields<R>(&self, w: &mut Writer<R>) {
        for (key, raw) in &self.fields {
            w.put_raw(key, raw);
        }
    }

    /// The entry as a signature.
    fn signature(&self) -> ReasoningSignature<'static> {
        let json = Writer::document(128, |w| self.write_fields(w));
        let value = Text::owned(json);
        if self.is_encrypted() {
            ReasoningSignature::encrypted(SignatureOrigin::OpenRouter, value)
        } else {
            ReasoningSignature::plain(SignatureOrigin::OpenRouter, value)
        }
    }
}

/// Reads the entries of an answer, which come whole or in pieces.
#[derive(Debug, Default)]
pub(super) struct DetailsReader {
    /// The entry that may go on.
    open: Option<Entry>,
}

impl DetailsReader {
    /// Reads the entries of a message, or of a piece of one. Returns whether there was text.
    pub(super) fn read(
        &mut self,
        message: &mut Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> json::Result<bool> {
        if !message.starts_with("reasoning_details", '[') {
            return Ok(false);
        }
        let raw = message.take("reasoning_details").unwrap_or("[]");
        let mut had_text = false;
        each(raw, &Path::ROOT.key("reasoning_details"), |raw, _| {
            had_text |= self.read_entry(Entry::read(raw), sink);
            Ok(())
        })?;
        Ok(had_text)
    }

    fn read_entry(&mut self, entry: Entry, sink: &mut EventSink<'_>) -> bool {
        if self
            .open
            .as_ref()
            .is_some_and(|open| !open.continues(&entry))
        {
            self.end_entry(sink);
        }
        let has_text = !entry.text.is_empty();
        if has_text {
            sink(AnswerEvent::Reasoning(entry.text.borrowed()));
        }
        match &mut self.open {
            Some(open) => open.add(Entry {
                text: Text::EMPTY,
                ..entry
            }),
            None => self.open = Some(entry),
        }
        has_text
    }

    /// Passes on the entry that was open, which is whole now.
    pub(super) fn end_entry(&mut self, sink: &mut EventSink<'_>) {
        if let Some(entry) = self.open.take() {
            sink(AnswerEvent::Signature(entry.signature()));
        }
    }
}

/// Writes the entries that an assistant's message carries. Returns whether there were any.
pub(super) fn write_details(w: &mut RequestWriter<'_>, parts: &[Part<'_>]) -> bool {
    let mut entries: Vec<Entry> = Vec::new();
    for part in parts {
        let Part::Reasoning {
            text,
            signature: Some(signature),
        } = part
        else {
            continue;
        };
        if signature.origin != SignatureOrigin::OpenRouter {
            continue;
        }
        let Some(json) = signature.value.unescape() else {
            continue;
        };
        if !json.starts_with('{') || serde_json::from_str::<IgnoredAny>(&json).is_err() {
            continue;
        }
        let mut entry = Entry::read(&json);
        entry.text = text.clone().into_owned();
        match entries.last_mut() {
            // A signature that came late.
            Some(last) if last.continues(&entry) && !entry.is_encrypted() => last.add(entry),
            _ => entries.push(entry),
        }
    }
    if entries.is_empty() {
        return false;
    }
    w.put_each("reasoning_details", &entries, |w, entry| {
        w.object(|w| {
            entry.write_fields(w);
            match entry.get("type") {
                _ if entry.is_encrypted() => {}
                Some(r#""reasoning.summary""#) => w.put("summary", &entry.text),
                _ => w.put("text", &entry.text),
            }
        });
    });
    true
}
