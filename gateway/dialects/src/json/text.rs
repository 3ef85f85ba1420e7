//! Text as JSON holds it: still escaped.
//!
//! Every dialect escapes text the same way, so text moves from one body into another unchanged.

use std::borrow::Cow;

/// The inside of a JSON string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl<'a> Text<'a> {
    pub(crate) const EMPTY: Text<'static> = Text(Cow::Borrowed(""));

    /// From the inside of a string that is known to be valid.
    pub(crate) const fn escaped(inner: &'a str) -> Self {
        Self(Cow::Borrowed(inner))
    }

    /// From plain text, escaped where necessary.
    pub(crate) fn plain(text: &'a str) -> Self {
        if needs_escapes(text) {
            let quoted = super::quoted(text);
            return Self(Cow::Owned(quoted[1..quoted.len() - 1].to_owned()));
        }
        Self(Cow::Borrowed(text))
    }

    pub(crate) fn owned(text: String) -> Text<'static> {
        Text::plain(&text).into_owned()
    }

    pub(crate) fn as_escaped(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Characters of the plain text.
    pub(crate) fn char_count(&self) -> u64 {
        let bytes = self.0.as_bytes();
        let (mut at, mut count) = (0, 0);
        while let Some(byte) = bytes.get(at) {
            let is_new = !matches!(byte, 0x80..0xc0);
            at += match (byte, bytes.get(at + 1)) {
                (b'\\', Some(b'u')) => {
                    // The second half of a pair is no character of its own.
                    let digits = bytes.get(at + 2..at + 4).unwrap_or_default();
                    let is_low = matches!(digits, [b'd' | b'D', b'c'..=b'f' | b'C'..=b'F']);
                    count -= u64::from(is_low && count > 0);
                    6
                }
                (b'\\', _) => 2,
                _ => 1,
            };
            count += u64::from(is_new);
        }
        count
    }

    /// The plain text. `None` if an escape is half of a surrogate pair.
    pub(crate) fn unescape(&self) -> Option<Cow<'_, str>> {
        if memchr::memchr(b'\\', self.0.as_bytes()).is_none() {
            return Some(Cow::Borrowed(&self.0));
        }
        super::unescape(self.0.as_bytes(), usize::MAX).map(Cow::Owned)
    }

    pub(crate) fn push(&mut self, other: &Text<'_>) {
        self.0.to_mut().push_str(&other.0);
    }

    /// Whether it is this plain text, which must need no escapes.
    pub(crate) fn is(&self, plain: &str) -> bool {
        self.0 == plain
    }

    pub(crate) fn into_owned(self) -> Text<'static> {
        Text(Cow::Owned(self.0.into_owned()))
    }

    pub(crate) fn borrowed(&self) -> Text<'_> {
        Text(Cow::Borrowed(&self.0))
    }

    /// Whether it holds nothing but white space, escaped or not.
    pub(crate) fn is_blank(&self) -> bool {
        match self.0.chars().find(|c| !c.is_whitespace()) {
            None => true,
            Some('\\') => self
                .unescape()
                .is_some_and(|text| text.chars().all(is_white)),
            Some(_) => false,
        }
    }

    /// The text without the white space at its end.
    pub(crate) fn trimmed_end(&self) -> Text<'_> {
        let Some(text) = self.unescape() else {
            return self.borrowed();
        };
        let trimmed = text.trim_end_matches(is_white);
        if trimmed.len() == text.len() {
            return self.borrowed();
        }
        Text::plain(trimmed).into_owned()
    }

    /// The text after a prefix that needs no escapes.
    pub(crate) fn strip_prefix(&self, prefix: &str) -> Option<Text<'_>> {
        self.0
            .strip_prefix(prefix)
            .map(|rest| Text(Cow::Borrowed(rest)))
    }
}

/// Whether plain text cannot stand in a JSON string as it is.
pub(super) fn needs_escapes(text: &str) -> bool {
    text.bytes()
        .any(|byte| byte < b' ' || byte == b'"' || byte == b'\\')
}

/// White space as Python's `str.strip` has it, with which providers check: Unicode's, and the four
/// separators of ASCII.
fn is_white(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_counted_as_they_are_read() {
        for plain in ["", "abc", "Züri 21 °C", "a\"b\\c\n", "日本 🦀!", "\u{1}"] {
            let count = plain.chars().count() as u64;
            assert_eq!(Text::plain(plain).char_count(), count, "{plain}");
        }
        for (escaped, count) in [(r"\u00fc\u00DC", 2), (r"\ud83e\udd80!", 2), (r"\", 1)] {
            assert_eq!(Text::escaped(escaped).char_count(), count, "{escaped}");
        }
    }

    #[test]
    fn text_is_escaped_only_if_it_must_be() {
        assert_eq!(Text::plain("é plain").as_escaped(), "é plain");
        assert_eq!(
            Text::plain("a\"b\\c\n\u{1}").as_escaped(),
            r#"a\"b\\c\n\u0001"#
        );
    }

    proptest::proptest! {
        #[test]
        fn escaping_is_undone(text in ".*") {
            let escaped = Text::plain(&text);
            proptest::prop_assert_eq!(escaped.unescape(), Some(text.as_str().into()));
        }

        #[test]
        fn white_space_is_known_in_every_spelling(
            text in "[a-z\\\\ ]{0,3}[ \t\n\r\x0b\x0c\x1c-\x1f\u{85}\u{a0}\u{2003}\u{3000}]{0,4}",
            is_ascii in proptest::bool::ANY,
        ) {
            let as_escape = |c: char| match is_ascii && c != '\\' {
                true => format!("\\u{:04x}", u32::from(c)),
                false => Text::plain(&c.to_string()).as_escaped().to_owned(),
            };
            let escaped: String = text.chars().map(as_escape).collect();
            let (escaped, trimmed) = (Text::escaped(&escaped), text.trim_end_matches(is_white));
            proptest::prop_assert_eq!(escaped.is_blank(), trimmed.is_empty());
            let end = escaped.trimmed_end();
            proptest::prop_assert_eq!(end.unescape(), Some(trimmed.into()));
        }
    }
}
