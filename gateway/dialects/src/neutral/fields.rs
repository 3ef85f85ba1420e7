//! The fields of a client's request, of which none is lost without a word.

use std::ops::{Deref, DerefMut};

use super::{LossReport, Part};
use crate::json::{self, Object, Path, Text, as_text, each_object};

/// An object of a client's request. The fields that are not read are reported.
#[derive(Debug)]
pub(crate) struct Fields<'a, 'p> {
    object: Object<'a, 'p>,
    pub(crate) raw: &'a str,
    pub(crate) report: &'p mut LossReport,
    rest: UnreadFields,
}

/// Fields that OpenAI's chat and responses have under one name. They change cost, speed or
/// bookkeeping, so other targets do without them.
const OPENAI_FIELDS: [&str; 4] = [
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
];

/// What the fields are that are not read.
#[derive(Clone, Copy, Debug)]
enum UnreadFields {
    /// Unsupported, except for these, which do not change the answer.
    UnsupportedBut(&'static [&'static str]),
    /// Bookkeeping.
    Ignored,
    /// Passed on or reported already.
    Done,
}

impl<'a, 'p> Fields<'a, 'p> {
    /// Reads a request whose body is known to be a JSON object.
    pub(crate) fn read_body<T>(
        body: &'a str,
        report: &'p mut LossReport,
        read: impl FnOnce(&mut Self) -> json::Result<T>,
    ) -> json::Result<T> {
        Self::read(body.trim_ascii(), Path::ROOT, report, read)
    }

    fn read<T>(
        raw: &'a str,
        path: Path<'p>,
        report: &'p mut LossReport,
        read: impl FnOnce(&mut Self) -> json::Result<T>,
    ) -> json::Result<T> {
        Self::read_object(Object::read(raw, path)?, raw, report, read)
    }

    fn read_object<T>(
        object: Object<'a, 'p>,
        raw: &'a str,
        report: &'p mut LossReport,
        read: impl FnOnce(&mut Self) -> json::Result<T>,
    ) -> json::Result<T> {
        let mut fields = Self {
            object,
            raw,
            report,
            rest: UnreadFields::UnsupportedBut(&[]),
        };
        let read = read(&mut fields)?;
        fields.report_rest();
        Ok(read)
    }

    /// Reports what is left of the object, before it turns out whether what was read is right.
    pub(crate) fn report_rest(&mut self) {
        for key in self.object.remaining() {
            let path = self.object.path().key(key);
            match self.rest {
                UnreadFields::Done => {}
                UnreadFields::UnsupportedBut(ignorable) if !ignorable.contains(&key) => {
                    self.report.unsupported_field(path.to_string());
                }
                UnreadFields::UnsupportedBut(_) | UnreadFields::Ignored => {
                    self.report.ignored(path.general())
                }
            }
        }
        self.rest = UnreadFields::Done;
    }

    /// A field with a value that asks for nothing is left out, and listed.
    pub(crate) fn take_harmless(&mut self, key: &str, is_harmless: impl Fn(&str) -> bool) {
        let is_there = self.object.remaining().any(|there| there == key);
        self.object.take_if(key, is_harmless);
        if is_there && !self.object.remaining().any(|there| there == key) {
            self.report.ignored(self.object.path().key(key).general());
        }
    }

    /// These fields do not change the answer.
    pub(crate) const fn ignore(&mut self, keys: &'static [&'static str]) {
        self.rest = UnreadFields::UnsupportedBut(keys);
    }

    /// No field that is not read changes the answer.
    pub(crate) const fn ignore_rest(&mut self) {
        self.rest = UnreadFields::Ignored;
    }

    /// Reports the object as a whole, by its path with something behind it.
    pub(crate) fn unsupported(&mut self, suffix: &str) {
        let field = format!("{}{suffix}", self.object.path());
        self.report.unsupported_field(field);
        self.rest = UnreadFields::Done;
    }

    /// The object goes to the target as it is, or else is ignored as a whole.
    pub(crate) fn pass_whole(&mut self, accepted: bool) {
        if !accepted {
            self.report.ignored(self.object.path().general());
        }
        self.rest = UnreadFields::Done;
    }

    /// Reports the object as a whole, by its path and type.
    pub(crate) fn unsupported_type(&mut self, kind: &str) {
        self.unsupported(&format!(" ({kind})"));
    }

    /// An object inside this one.
    pub(crate) fn object<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Fields<'a, '_>) -> json::Result<T>,
    ) -> json::Result<Option<T>> {
        let Some(raw) = self.object.take(key) else {
            return Ok(None);
        };
        Fields::read(raw, self.object.path().key(key), self.report, read).map(Some)
    }

    pub(crate) fn required_object<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Fields<'a, '_>) -> json::Result<T>,
    ) -> json::Result<T> {
        self.object(key, read)?.ok_or_else(|| self.missing(key))
    }

    /// Calls `read` with each element of an array, if there is one, and its path.
    pub(crate) fn each(
        &mut self,
        key: &str,
        mut read: impl FnMut(&'a str, &Path<'_>, &mut LossReport) -> json::Result<()>,
    ) -> json::Result<()> {
        let Self { object, report, .. } = self;
        object.each(key, |raw, path| read(raw, path, report))
    }

    /// Calls `read` with each element of an array of objects, if there is one.
    pub(crate) fn each_object(
        &mut self,
        key: &str,
        mut read: impl FnMut(&mut Fields<'a, '_>) -> json::Result<()>,
    ) -> json::Result<()> {
        let Some(raw) = self.object.take(key) else {
            return Ok(());
        };
        each_object(raw, &self.object.path().key(key), |object, raw| {
            Fields::read_object(object, raw, self.report, &mut read)
        })
    }

    /// What is read of an array of objects.
    pub(crate) fn list<T: IntoIterator>(
        &mut self,
        key: &str,
        mut read: impl FnMut(&mut Fields<'a, '_>) -> json::Result<T>,
    ) -> json::Result<Vec<T::Item>> {
        let mut list = Vec::new();
        self.each_object(key, |element| {
            list.extend(read(element)?);
            Ok(())
        })?;
        Ok(list)
    }

    pub(crate) fn required_list<T: IntoIterator>(
        &mut self,
        key: &str,
        read: impl FnMut(&mut Fields<'a, '_>) -> json::Result<T>,
    ) -> json::Result<Vec<T::Item>> {
        self.require(key)?;
        self.list(key, read)
    }

    /// Content: a string, or a list of parts.
    pub(crate) fn content(
        &mut self,
        key: &str,
        mut read: impl FnMut(&mut Fields<'a, '_>, &mut Vec<Part<'a>>) -> json::Result<()>,
    ) -> json::Result<Vec<Part<'a>>> {
        let Some(raw) = self.object.take(key) else {
            return Ok(Vec::new());
        };
        let path = self.object.path().key(key);
        if !raw.starts_with('[') {
            return Ok(vec![Part::Text(as_text(raw, &path)?)]);
        }
        let mut parts = Vec::new();
        each_object(raw, &path, |object, raw| {
            Fields::read_object(object, raw, self.report, |part| read(part, &mut parts))
        })?;
        Ok(parts)
    }

    /// The fields that OpenAI's chat and responses share. If the target has none of them, they are
    /// listed as ignored.
    pub(crate) fn openai_fields(&mut self) -> Vec<(&'static str, &'a str)> {
        let mut shared = Vec::new();
        for key in OPENAI_FIELDS {
            match self.take(key) {
                Some(raw) if self.report.shares_openai_fields => shared.push((key, raw)),
                Some(_) => self.report.ignored(key),
                None => {}
            }
        }
        shared
    }

    /// `verbosity`, which the two have in different places, with the same condition.
    pub(crate) fn verbosity(&mut self) -> json::Result<Option<Text<'a>>> {
        let verbosity = self.text("verbosity")?;
        if verbosity.is_some() && !self.report.shares_openai_fields {
            let field = self.object.path().key("verbosity").general();
            self.report.ignored(field);
            return Ok(None);
        }
        Ok(verbosity)
    }
}

impl<'a, 'p> Deref for Fields<'a, 'p> {
    type Target = Object<'a, 'p>;

    fn deref(&self) -> &Object<'a, 'p> {
        &self.object
    }
}

impl<'a, 'p> DerefMut for Fields<'a, 'p> {
    fn deref_mut(&mut self) -> &mut Object<'a, 'p> {
        &mut self.object
    }
}

/// `[]`, however it is spaced.
pub(crate) fn is_empty_list(raw: &str) -> bool {
    let inner = raw.strip_prefix('[').and_then(|raw| raw.strip_suffix(']'));
    inner.is_some_and(|inner| inner.trim_ascii().is_empty())
}
