//! Just enough JSON for bytes that pass through: a cursor over complete text, an extractor for text
//! that arrives in pieces, fields with paths, and a writer.
//!
//! All of it trusts that the text is JSON, which [`valid()`] or serde_json checks first.

mod cursor;
mod extract;
mod read;
mod text;
mod valid;
mod write;

use std::ops::Range;

pub(crate) use cursor::JsonCursor;
pub(crate) use extract::{Extracted, Extractor, JsonPattern, PatternStep};
pub use read::InvalidField;
pub(crate) use read::{
    Object, Path, Result, as_text, each, each_object, is_error, is_minimax_error, part_of, shown,
    text_of, value_of, word_of,
};
pub(crate) use text::Text;
pub(crate) use valid::valid;
pub(crate) use write::{ToJson, Writer};

/// The range that `part` takes up in `whole`, of which it must be a part.
pub(crate) fn span_in(whole: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
    start..start + part.len()
}

/// The offset of a line and a column as serde_json counts them: both from 1, columns in bytes.
pub(crate) fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let line_start = match line {
        0 | 1 => 0,
        line => memchr::memchr_iter(b'\n', text.as_bytes())
            .nth(line - 2)
            .map_or(0, |at| at + 1),
    };
    (line_start + column.saturating_sub(1)).min(text.len())
}

/// The line and column of an offset, both from 1.
pub(crate) fn position_of(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
    (
        memchr::memchr_iter(b'\n', before).count() + 1,
        before.len() - line_start + 1,
    )
}

/// A number without sign, fraction and exponent. Some clients send `12.0`, which counts too.
pub(crate) fn non_negative_integer(raw: &[u8]) -> Option<u64> {
    // Nearly all of them are a few digits.
    if (1..=9).contains(&raw.len()) && raw.iter().all(u8::is_ascii_digit) {
        let digits = raw.iter().map(|digit| u64::from(digit - b'0'));
        return Some(digits.fold(0, |number, digit| 10 * number + digit));
    }
    let text = std::str::from_utf8(raw).ok()?;
    let digits = match text.split_once('.') {
        Some((digits, fraction)) if fraction.bytes().all(|byte| byte == b'0') => digits,
        _ => text,
    };
    digits.parse().ok().filter(|_| !digits.starts_with('+'))
}

/// The text between the quotes of a JSON string, if it is valid and not longer than `bytes_max`.
pub(crate) fn unescape(inner: &[u8], bytes_max: usize) -> Option<String> {
    if memchr::memchr(b'\\', inner).is_none() {
        let text = std::str::from_utf8(inner).ok()?;
        return (text.len() <= bytes_max).then(|| text.to_owned());
    }
    let mut quoted = Vec::with_capacity(inner.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(inner);
    quoted.push(b'"');
    let text: String = serde_json::from_slice(&quoted).ok()?;
    (text.len() <= bytes_max).then_some(text)
}

/// A JSON string with its quotes.
pub(crate) fn quoted(text: &str) -> String {
    if text::needs_escapes(text) {
        return serde_json::Value::from(text).to_string();
    }
    ["\"", text, "\""].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_positions_are_inverse() {
        let text = "{\n \"a\": 1,\n\n \"b\"}";
        for offset in 0..=text.len() {
            let (line, column) = position_of(text, offset);
            assert_eq!(offset_of(text, line, column), offset);
        }
    }

    #[test]
    fn integers_are_told_from_other_numbers() {
        assert_eq!(non_negative_integer(b"12"), Some(12));
        assert_eq!(non_negative_integer(b"12.00"), Some(12));
        for other in [
            "-1",
            "1.5",
            "1e3",
            "+1",
            "99999999999999999999",
            "\"1\"",
            "null",
            "",
        ] {
            assert_eq!(non_negative_integer(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn strings_are_unescaped_within_their_bound() {
        assert_eq!(unescape(b"plain", 5).as_deref(), Some("plain"));
        assert_eq!(unescape(b"plain", 4), None);
        assert_eq!(unescape(br"a\u00e9\n", 8).as_deref(), Some("a\u{e9}\n"));
        assert_eq!(unescape(br"\ud800", 8), None);
    }
}
