//! Reads fields of JSON that is known to be valid, and names the field that has the wrong value.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

use super::{JsonCursor, Text, non_negative_integer, unescape};
use crate::caps;

/// Where a value stands: `messages[2].content[0].text`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Path<'p> {
    Root,
    Key(&'p Self, &'p str),
    Index(&'p Self, usize),
}

impl<'p> Path<'p> {
    pub(crate) const ROOT: Path<'static> = Path::Root;

    pub(crate) const fn key(&'p self, key: &'p str) -> Self {
        Self::Key(self, key)
    }

    pub(crate) const fn index(&'p self, index: usize) -> Self {
        Self::Index(self, index)
    }

    /// The path with `[]` for every index: the same for all elements.
    pub(crate) fn general(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = self.write(&mut text, true);
        text
    }

    fn write(&self, f: &mut impl fmt::Write, general: bool) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, key) => f.write_str(key),
            Self::Key(parent, key) => {
                parent.write(f, general)?;
                write!(f, ".{key}")
            }
            Self::Index(parent, _) if general => {
                parent.write(f, general)?;
                f.write_str("[]")
            }
            Self::Index(parent, index) => {
                parent.write(f, general)?;
                write!(f, "[{index}]")
            }
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, false)
    }
}

/// A field with a value that it must not have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{field}` {reason}")]
pub struct InvalidField {
    pub(crate) field: String,
    reason: String,
}

impl InvalidField {
    pub(crate) fn new(path: impl ToString, reason: impl Into<String>) -> Self {
        Self {
            field: path.to_string(),
            reason: reason.into(),
        }
    }

    fn expected(expected: &str, path: &Path<'_>, found: &str) -> Self {
        Self::new(path, format!("must be {expected}, got {}", shown(found)))
    }
}

pub(crate) type Result<T> = std::result::Result<T, InvalidField>;

/// A value for a message: itself if it is a word or a number, otherwise its type.
pub(crate) fn shown(raw: &str) -> &str {
    match raw.as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        _ if raw.len() > caps::SHOWN_NUMBER_BYTES_MAX => "a number",
        _ => raw,
    }
}

/// The entries of an object, from which fields are taken.
#[derive(Debug)]
pub(crate) struct Object<'a, 'p> {
    path: Path<'p>,
    entries: Vec<ObjectEntry<'a>>,
}

#[derive(Debug)]
struct ObjectEntry<'a> {
    key: Cow<'a, str>,
    value: &'a str,
    taken: bool,
}

impl<'a, 'p> Object<'a, 'p> {
    pub(crate) fn read(raw: &'a str, path: Path<'p>) -> Result<Self> {
        if !raw.starts_with('{') {
            return Err(InvalidField::expected("an object", &path, raw));
        }
        let entries = entries_at(raw, &mut JsonCursor::new(raw.as_bytes()));
        match entries {
            Some(entries) => Ok(Self { path, entries }),
            None => Err(InvalidField::new(path, "is not valid JSON")),
        }
    }

    pub(crate) const fn path(&self) -> &Path<'p> {
        &self.path
    }

    /// A field's value. Null counts as absent; of two fields with one name, the last counts.
    pub(crate) fn take(&mut self, key: &str) -> Option<&'a str> {
        let mut found = None;
        for entry in self.entries.iter_mut().filter(|entry| entry.key == key) {
            found = (entry.value != "null").then_some(entry.value);
            entry.taken = true;
        }
        found
    }

    /// Takes a field if its value is such.
    pub(crate) fn take_if(&mut self, key: &str, is_such: impl Fn(&str) -> bool) {
        for entry in self.entries.iter_mut().filter(|entry| entry.key == key) {
            entry.taken |= is_such(entry.value);
        }
    }

    pub(crate) fn text(&mut self, key: &str) -> Result<Option<Text<'a>>> {
        self.parsed(key, "a string", text_of)
    }

    /// A field's text; `None` for anything else.
    pub(crate) fn lenient_text(&mut self, key: &str) -> Option<Text<'a>> {
        text_of(self.take(key)?)
    }

    /// The `error` of an answer. Some servers always have one, which says nothing.
    pub(crate) fn error(&mut self) -> Option<&'a str> {
        self.take("error").filter(|raw| is_error(raw))
    }

    /// Whether there is an `error`, which is not taken.
    pub(crate) fn peeks_error(&self) -> bool {
        self.peek("error").is_some_and(is_error)
    }

    /// The `base_resp` of an answer of MiniMax's, if it is an error. Its status is 200 all the same.
    pub(crate) fn minimax_error(&mut self) -> Option<&'a str> {
        self.take("base_resp").filter(|raw| is_minimax_error(raw))
    }

    /// Whether the object's `type` is this.
    pub(crate) fn is_kind(&mut self, kind: &str) -> bool {
        self.lenient_text("type")
            .is_some_and(|found| found.is(kind))
    }

    /// A field's text that is not empty; `None` for anything else.
    pub(crate) fn some_text(&mut self, key: &str) -> Option<Text<'a>> {
        self.lenient_text(key).filter(|text| !text.is_empty())
    }

    pub(crate) fn required_text(&mut self, key: &str) -> Result<Text<'a>> {
        self.text(key)?.ok_or_else(|| self.missing(key))
    }

    pub(crate) fn required(&mut self, key: &str) -> Result<&'a str> {
        self.take(key).ok_or_else(|| self.missing(key))
    }

    /// Makes sure that a field is there, without taking it.
    pub(crate) fn require(&self, key: &str) -> Result<()> {
        self.peek(key).map(drop).ok_or_else(|| self.missing(key))
    }

    /// Whether a field's value begins like this, which tells its type.
    pub(crate) fn starts_with(&self, key: &str, first: char) -> bool {
        self.peek(key).is_some_and(|raw| raw.starts_with(first))
    }

    /// A field's value, which is not taken.
    fn peek(&self, key: &str) -> Option<&'a str> {
        let last = self.entries.iter().rfind(|entry| entry.key == key)?;
        (last.value != "null").then_some(last.value)
    }

    /// The value that a word stands for.
    pub(crate) fn one_of<T: Copy>(&mut self, key: &str, words: &[(T, &str)]) -> Result<Option<T>> {
        let Some(word) = self.text(key)? else {
            return Ok(None);
        };
        value_of(words, &word).map(Some).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(_, word)| *word).collect();
            let (last, others) = words.split_last().unwrap_or((&"", &[]));
            self.invalid(key, format!("must be {} or {last}", others.join(", ")))
        })
    }

    pub(crate) fn required_one_of<T: Copy>(&mut self, key: &str, words: &[(T, &str)]) -> Result<T> {
        self.one_of(key, words)?.ok_or_else(|| self.missing(key))
    }

    pub(crate) fn count(&mut self, key: &str) -> Result<Option<u64>> {
        self.parsed(key, "a non-negative integer", |raw| {
            non_negative_integer(raw.as_bytes())
        })
    }

    pub(crate) fn integer(&mut self, key: &str) -> Result<Option<i64>> {
        self.parsed(key, "an integer", |raw| raw.parse().ok())
    }

    pub(crate) fn number(&mut self, key: &str) -> Result<Option<f64>> {
        self.parsed(key, "a number", |raw| {
            raw.parse().ok().filter(|number: &f64| number.is_finite())
        })
    }

    pub(crate) fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        self.parsed(key, "true or false", |raw| raw.parse().ok())
    }

    fn parsed<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(raw) = self.take(key) else {
            return Ok(None);
        };
        let parsed = parse(raw);
        let wrong = || InvalidField::expected(expected, &self.path.key(key), raw);
        parsed.ok_or_else(wrong).map(Some)
    }

    /// An object inside this one.
    pub(crate) fn object<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(Object<'a, '_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let Some(raw) = self.take(key) else {
            return Ok(None);
        };
        read(Object::read(raw, self.path.key(key))?).map(Some)
    }

    /// An object inside this one; an empty one if there is none.
    pub(crate) fn object_or_empty<'s>(&'s mut self, key: &'s str) -> Result<Object<'a, 's>> {
        let raw = self.take(key);
        let path = self.path.key(key);
        match raw {
            Some(raw) => Object::read(raw, path),
            None => Ok(Object {
                path,
                entries: Vec::new(),
            }),
        }
    }

    /// Calls `read` with each element of an array, if there is one, and its path.
    pub(crate) fn each(
        &mut self,
        key: &str,
        read: impl FnMut(&'a str, &Path<'_>) -> Result<()>,
    ) -> Result<()> {
        match self.take(key) {
            Some(raw) => each(raw, &self.path.key(key), read),
            None => Ok(()),
        }
    }

    /// Calls `read` with each element of an array of objects, if there is one.
    pub(crate) fn each_object(
        &mut self,
        key: &str,
        mut read: impl FnMut(Object<'a, '_>) -> Result<()>,
    ) -> Result<()> {
        match self.take(key) {
            Some(raw) => each_object(raw, &self.path.key(key), |object, _| read(object)),
            None => Ok(()),
        }
    }

    /// The texts of an array.
    pub(crate) fn texts(&mut self, key: &str) -> Result<Vec<Text<'a>>> {
        let mut texts = Vec::new();
        self.each(key, |raw, path| {
            texts.push(as_text(raw, path)?);
            Ok(())
        })?;
        Ok(texts)
    }

    /// All keys, whether they were taken or not.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| &*entry.key)
    }

    /// The keys that were not taken.
    pub(crate) fn remaining(&self) -> impl Iterator<Item = &str> {
        let remaining = self.entries.iter().filter(|entry| !entry.taken);
        remaining.map(|entry| &*entry.key)
    }

    pub(crate) fn missing(&self, key: &str) -> InvalidField {
        self.invalid(key, "is missing")
    }

    pub(crate) fn invalid(&self, key: &str, reason: impl Into<String>) -> InvalidField {
        InvalidField::new(self.path.key(key), reason)
    }
}

/// Whether the value of an `error` says anything.
pub(crate) fn is_error(raw: &str) -> bool {
    !matches!(raw, "null" | "\"\"" | "{}" | "[]" | "false" | "0")
}

/// The entries of the object at the cursor, which walks over `raw`.
fn entries_at<'a>(raw: &'a str, cursor: &mut JsonCursor<'a>) -> Option<Vec<ObjectEntry<'a>>> {
    let mut entries = Vec::with_capacity(8);
    cursor.object(|key, cursor| {
        let key = if cursor.has_escapes() {
            Cow::Owned(unescape(key, usize::MAX)?)
        } else {
            Cow::Borrowed(part_of(raw, key)?)
        };
        let value = part_of(raw, cursor.value()?)?;
        entries.push(ObjectEntry {
            key,
            value,
            taken: value == "null",
        });
        Some(())
    })?;
    Some(entries)
}

/// A part of text, as text. What a cursor finds begins and ends at ASCII, so that it need not be
/// checked anew.
pub(crate) fn part_of<'a>(text: &'a str, part: &[u8]) -> Option<&'a str> {
    let start = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    text.get(start..start + part.len())
}

/// Whether MiniMax's `base_resp` is an error: it has a code other than 0.
pub(crate) fn is_minimax_error(raw: &str) -> bool {
    let code = Object::read(raw, Path::ROOT).map(|mut status| status.count("status_code"));
    matches!(code, Ok(Ok(Some(code))) if code != 0)
}

/// Calls `read` with each element of an array and its path.
pub(crate) fn each<'a>(
    raw: &'a str,
    path: &Path<'_>,
    mut read: impl FnMut(&'a str, &Path<'_>) -> Result<()>,
) -> Result<()> {
    each_at(raw, path, |cursor, path| {
        let value = part_of(raw, cursor.value()?)?;
        Some(read(value, path))
    })
}

/// Calls `read` with each element of an array of objects, and its text.
pub(crate) fn each_object<'a>(
    raw: &'a str,
    path: &Path<'_>,
    mut read: impl FnMut(Object<'a, '_>, &'a str) -> Result<()>,
) -> Result<()> {
    each_at(raw, path, |cursor, path| {
        if cursor.peek()? != b'{' {
            let value = part_of(raw, cursor.value()?)?;
            return Some(Err(InvalidField::expected("an object", path, value)));
        }
        let (start, path) = (cursor.position(), *path);
        let entries = entries_at(raw, cursor)?;
        let text = raw.get(start..cursor.passed())?;
        Some(read(Object { path, entries }, text))
    })
}

/// Calls `read` with the cursor before each element of an array, which it must move past, and the
/// element's path.
fn each_at<'a>(
    raw: &'a str,
    path: &Path<'_>,
    mut read: impl FnMut(&mut JsonCursor<'a>, &Path<'_>) -> Option<Result<()>>,
) -> Result<()> {
    if !raw.starts_with('[') {
        return Err(InvalidField::expected("an array", path, raw));
    }
    let (mut index, mut failed) = (0, None);
    let walked = JsonCursor::new(raw.as_bytes()).array(|cursor| {
        failed = read(cursor, &path.index(index))?.err();
        index += 1;
        failed.is_none().then_some(())
    });
    match (failed, walked) {
        (Some(failed), _) => Err(failed),
        (None, Some(())) => Ok(()),
        (None, None) => Err(InvalidField::new(path, "is not valid JSON")),
    }
}

/// The value that a word stands for in a table.
pub(crate) fn value_of<T: Copy>(words: &[(T, &str)], word: &Text<'_>) -> Option<T> {
    let row = words.iter().find(|(_, known)| word.is(known));
    row.map(|(value, _)| *value)
}

/// The first word for a value in a table.
pub(crate) fn word_of<T: PartialEq>(words: &[(T, &'static str)], value: &T) -> &'static str {
    let row = words.iter().find(|(known, _)| known == value);
    row.map_or("", |(_, word)| *word)
}

pub(crate) fn as_text<'a>(raw: &'a str, path: &Path<'_>) -> Result<Text<'a>> {
    text_of(raw).ok_or_else(|| InvalidField::expected("a string", path, raw))
}

/// The text of a string.
pub(crate) fn text_of(raw: &str) -> Option<Text<'_>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    Some(Text::escaped(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_and_the_rest_is_listed() {
        let raw = r#"{"a":"x","b":null,"c":1.5,"d":true,"e":{"f":[1,"two"]},"g\u0068":3,"a":"y"}"#;
        let mut object = Object::read(raw, Path::ROOT).unwrap();
        assert_eq!(object.text("a").unwrap(), Some(Text::plain("y")));
        assert_eq!(object.text("b").unwrap(), None);
        assert_eq!(object.number("c").unwrap(), Some(1.5));
        assert_eq!(object.flag("d").unwrap(), Some(true));
        assert_eq!(object.remaining().collect::<Vec<_>>(), ["e", "gh"]);
        assert_eq!(object.count("gh").unwrap(), Some(3));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_path() {
        let raw = r#"{"e":{"f":[1,"two"]},"n":-1}"#;
        let mut object = Object::read(raw, Path::ROOT).unwrap();
        let wrong = object.object("e", |mut e| {
            each(e.required("f")?, &e.path().key("f"), |raw, path| {
                as_text(raw, path).map(drop)
            })
        });
        let invalid = wrong.unwrap_err();
        assert_eq!(
            (invalid.field.as_str(), invalid.reason.as_str()),
            ("e.f[0]", "must be a string, got 1")
        );
        assert_eq!(object.count("n").unwrap_err().field, "n");
        assert_eq!(object.required("x").unwrap_err().reason, "is missing");
    }

    #[test]
    fn a_general_path_is_the_same_for_all_elements() {
        let root = Path::ROOT;
        let messages = root.key("messages");
        let second = messages.index(2);
        let path = second.key("name");
        assert_eq!(path.to_string(), "messages[2].name");
        assert_eq!(path.general(), "messages[].name");
    }
}
