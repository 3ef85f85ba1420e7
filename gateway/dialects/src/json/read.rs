//! Reads JSON values that are known to be valid, and says exactly which one is not as it should be.

use std::borrow::Cow;
use std::fmt;

use super::{Cursor, Text, whole_number};

/// Where a value stands: `messages[2].content[0].text`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path<'p> {
    parent: Option<&'p Self>,
    step: PathStep<'p>,
}

#[derive(Clone, Copy, Debug)]
enum PathStep<'p> {
    Root,
    Key(&'p str),
    Index(usize),
}

impl<'p> Path<'p> {
    pub(crate) const ROOT: Path<'static> = Path {
        parent: None,
        step: PathStep::Root,
    };

    pub(crate) const fn key(&'p self, key: &'p str) -> Self {
        Self {
            parent: Some(self),
            step: PathStep::Key(key),
        }
    }

    pub(crate) const fn index(&'p self, index: usize) -> Self {
        Self {
            parent: Some(self),
            step: PathStep::Index(index),
        }
    }

    /// The path with `[]` for every index: the same for all elements.
    pub(crate) fn general(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = self.write(&mut text, true);
        text
    }

    fn write(&self, f: &mut impl fmt::Write, general: bool) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.write(f, general)?;
        }
        match self.step {
            PathStep::Root => Ok(()),
            PathStep::Key(key) if self.parent.is_some_and(|parent| parent.is_root()) => {
                f.write_str(key)
            }
            PathStep::Key(key) => write!(f, ".{key}"),
            PathStep::Index(_) if general => f.write_str("[]"),
            PathStep::Index(index) => write!(f, "[{index}]"),
        }
    }

    const fn is_root(&self) -> bool {
        matches!(self.step, PathStep::Root)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, false)
    }
}

/// A value that is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invalid {
    pub(crate) field: String,
    pub(crate) reason: String,
}

impl Invalid {
    pub(crate) fn new(path: &Path<'_>, reason: impl Into<String>) -> Self {
        Self {
            field: path.to_string(),
            reason: reason.into(),
        }
    }

    pub(crate) fn wrong_type(path: &Path<'_>, expected: &str, found: &str) -> Self {
        Self::new(
            path,
            format!("must be {expected}, not {}", type_name(found)),
        )
    }
}

pub(crate) type Read<T> = Result<T, Invalid>;

/// The name of a value's type, for messages.
pub(crate) fn type_name(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The entries of an object, from which fields are taken.
#[derive(Debug)]
pub(crate) struct Object<'a, 'p> {
    path: Path<'p>,
    entries: Vec<Entry<'a>>,
}

#[derive(Debug)]
struct Entry<'a> {
    key: Cow<'a, str>,
    value: &'a str,
    taken: bool,
}

impl<'a, 'p> Object<'a, 'p> {
    pub(crate) fn read(raw: &'a str, path: Path<'p>) -> Read<Self> {
        if !raw.starts_with('{') {
            return Err(Invalid::wrong_type(&path, "an object", raw));
        }
        let mut entries = Vec::with_capacity(8);
        let mut cursor = Cursor::new(raw.as_bytes());
        let walked = cursor.object(|key, cursor| {
            let key = utf8(key)?;
            let key = match Text::escaped(key).unescape()? {
                Cow::Borrowed(_) => Cow::Borrowed(key),
                Cow::Owned(key) => Cow::Owned(key),
            };
            let value = utf8(cursor.value()?)?;
            entries.push(Entry {
                key,
                value,
                taken: value == "null",
            });
            Some(())
        });
        walked.ok_or_else(|| Invalid::new(&path, "is not valid JSON"))?;
        Ok(Self { path, entries })
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

    pub(crate) fn text(&mut self, key: &str) -> Read<Option<Text<'a>>> {
        self.take(key)
            .map(|raw| as_text(raw, &self.path.key(key)))
            .transpose()
    }

    pub(crate) fn required_text(&mut self, key: &str) -> Read<Text<'a>> {
        self.text(key)?.ok_or_else(|| self.missing(key))
    }

    pub(crate) fn required(&mut self, key: &str) -> Read<&'a str> {
        self.take(key).ok_or_else(|| self.missing(key))
    }

    pub(crate) fn count(&mut self, key: &str) -> Read<Option<u64>> {
        let expected = "a whole number, not negative";
        self.take(key)
            .map(|raw| {
                whole_number(raw.as_bytes())
                    .ok_or_else(|| Invalid::wrong_type(&self.path.key(key), expected, raw))
            })
            .transpose()
    }

    pub(crate) fn integer(&mut self, key: &str) -> Read<Option<i64>> {
        self.take(key)
            .map(|raw| {
                let number = raw.parse().ok();
                number
                    .ok_or_else(|| Invalid::wrong_type(&self.path.key(key), "a whole number", raw))
            })
            .transpose()
    }

    pub(crate) fn number(&mut self, key: &str) -> Read<Option<f64>> {
        self.take(key)
            .map(|raw| {
                let number = raw.parse().ok().filter(|number: &f64| number.is_finite());
                number.ok_or_else(|| Invalid::wrong_type(&self.path.key(key), "a number", raw))
            })
            .transpose()
    }

    pub(crate) fn flag(&mut self, key: &str) -> Read<Option<bool>> {
        match self.take(key) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(raw) => Err(Invalid::wrong_type(
                &self.path.key(key),
                "true or false",
                raw,
            )),
        }
    }

    /// An object inside this one.
    pub(crate) fn object<T, E: From<Invalid>>(
        &mut self,
        key: &str,
        read: impl FnOnce(Object<'a, '_>) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        let Some(raw) = self.take(key) else {
            return Ok(None);
        };
        read(Object::read(raw, self.path.key(key))?).map(Some)
    }

    /// An object inside this one, if its `type` is `kind`; any other is left where it is.
    pub(crate) fn object_if<T, E: From<Invalid>>(
        &mut self,
        key: &str,
        kind: &str,
        read: impl FnOnce(Object<'a, '_>) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.key == key) else {
            return Ok(None);
        };
        let mut object = Object::read(entry.value, self.path.key(key))?;
        if !object.text("type")?.is_some_and(|found| found.is(kind)) {
            return Ok(None);
        }
        entry.taken = true;
        read(object).map(Some)
    }

    /// Calls `read` with each element of an array and its path. Returns whether there was one.
    pub(crate) fn each<E: From<Invalid>>(
        &mut self,
        key: &str,
        read: impl FnMut(&'a str, &Path<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        let Some(raw) = self.take(key) else {
            return Ok(false);
        };
        each(raw, &self.path.key(key), read)?;
        Ok(true)
    }

    /// Keys that nobody took.
    pub(crate) fn rest(&self) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .filter(|entry| !entry.taken)
            .map(|entry| &*entry.key)
    }

    pub(crate) fn missing(&self, key: &str) -> Invalid {
        Invalid::new(&self.path.key(key), "is missing")
    }
}

/// Calls `read` with each element of an array and its path.
pub(crate) fn each<'a, E: From<Invalid>>(
    raw: &'a str,
    path: &Path<'_>,
    mut read: impl FnMut(&'a str, &Path<'_>) -> Result<(), E>,
) -> Result<(), E> {
    if !raw.starts_with('[') {
        return Err(Invalid::wrong_type(path, "an array", raw).into());
    }
    let (mut index, mut failed) = (0, None);
    let walked = Cursor::new(raw.as_bytes()).array(|cursor| {
        let value = utf8(cursor.value()?)?;
        failed = read(value, &path.index(index)).err();
        index += 1;
        failed.is_none().then_some(())
    });
    match (failed, walked) {
        (Some(failed), _) => Err(failed),
        (None, Some(())) => Ok(()),
        (None, None) => Err(Invalid::new(path, "is not valid JSON").into()),
    }
}

pub(crate) fn as_text<'a>(raw: &'a str, path: &Path<'_>) -> Read<Text<'a>> {
    let inner = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    inner
        .map(Text::escaped)
        .ok_or_else(|| Invalid::wrong_type(path, "a string", raw))
}

fn utf8(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_and_the_rest_is_told() {
        let raw = r#"{"a":"x","b":null,"c":1.5,"d":true,"e":{"f":[1,"two"]},"g\u0068":3,"a":"y"}"#;
        let mut object = Object::read(raw, Path::ROOT).unwrap();
        assert_eq!(object.text("a").unwrap(), Some(Text::plain("y")));
        assert_eq!(object.text("b").unwrap(), None);
        assert_eq!(object.number("c").unwrap(), Some(1.5));
        assert_eq!(object.flag("d").unwrap(), Some(true));
        assert_eq!(object.rest().collect::<Vec<_>>(), ["e", "gh"]);
        assert_eq!(object.count("gh").unwrap(), Some(3));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_path() {
        let raw = r#"{"e":{"f":[1,"two"]},"n":-1}"#;
        let mut object = Object::read(raw, Path::ROOT).unwrap();
        let wrong = object.object("e", |mut e| {
            e.each("f", |raw, path| as_text(raw, path).map(drop))
                .map(drop)
        });
        let invalid = wrong.unwrap_err();
        assert_eq!(
            (invalid.field.as_str(), invalid.reason.as_str()),
            ("e.f[0]", "must be a string, not a number")
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
