//! Resolves JSON's escapes in a text, and finds runs of data in one.

/// The text with JSON's escapes resolved, and where each of its bytes begins in the text that was
/// given, and where the last one ends. Anything else stays as it is. `None` if nothing changes.
pub(crate) fn unescaped(text: &str) -> Option<(String, Vec<usize>)> {
    let mut at = backslash(text, 0)?;
    let mut out = String::with_capacity(text.len());
    let mut origins = Vec::with_capacity(text.len() + 1);
    let mut from = 0;
    let mut is_changed = false;
    loop {
        out.push_str(&text[from..at]);
        origins.extend(from..at);
        if at == text.len() {
            break;
        }
        let (resolved, length) = escape(&text.as_bytes()[at..]);
        match resolved {
            Some(character) => {
                out.push(character);
                origins.extend(std::iter::repeat_n(at, character.len_utf8()));
                is_changed = true;
            }
            None => {
                out.push_str(&text[at..at + length]);
                origins.extend(at..at + length);
            }
        }
        from = at + length;
        at = backslash(text, from).unwrap_or(text.len());
    }
    origins.push(text.len());
    is_changed.then_some((out, origins))
}

/// The next backslash from a place on.
fn backslash(text: &str, from: usize) -> Option<usize> {
    text[from..].find('\\').map(|at| from + at)
}

/// What the escape stands for with which `bytes` begin, and how long it is.
fn escape(bytes: &[u8]) -> (Option<char>, usize) {
    let short = |character| (Some(character), 2);
    match bytes.get(1) {
        Some(b'n') => short('\n'),
        Some(b'r') => short('\r'),
        Some(b't') => short('\t'),
        Some(b'b') => short('\u{8}'),
        Some(b'f') => short('\u{c}'),
        Some(plain @ (b'"' | b'\\' | b'/')) => short(char::from(*plain)),
        Some(b'u') => match unit(bytes) {
            Some(high @ 0xD800..=0xDBFF) => surrogates(high, &bytes[6..]),
            Some(unit) => (char::from_u32(unit), 6),
            None => (None, 1),
        },
        _ => (None, 1),
    }
}

fn surrogates(high: u32, behind: &[u8]) -> (Option<char>, usize) {
    match unit(behind) {
        Some(low @ 0xDC00..=0xDFFF) => {
            let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            (char::from_u32(code), 12)
        }
        _ => (None, 6),
    }
}

/// `\uXXXX`.
fn unit(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_hex)?;
    u32::from_str_radix(digits, 16).ok()
}

/// Shortest run of base64 that is taken for data. Keys and tokens are shorter and have detectors.
const DATA_BYTES_MIN: usize = 512;

/// Where a text holds data: long runs of what base64 is made of.
pub(crate) fn data_runs(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut runs = Vec::new();
    if text.len() < DATA_BYTES_MIN {
        return runs;
    }
    let mut start = 0;
    let of_data = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
    for (at, byte) in text.bytes().chain([b' ']).enumerate() {
        if !of_data(byte) {
            if at - start >= DATA_BYTES_MIN {
                runs.push(start..at);
            }
            start = at + 1;
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_resolved_and_what_is_none_stays() {
        for (escaped, plain) in [
            (r"a\nb\u0041\/\\", "a\nbA/\\"),
            (r"\ud83d\ude00 \ud83d \u12 \x \", "😀 \\ud83d \\u12 \\x \\"),
            (r#"{\"k\":\"v\"}"#, r#"{"k":"v"}"#),
        ] {
            let (text, origins) = unescaped(escaped).unwrap();
            assert_eq!(text, plain);
            assert_eq!(origins.len(), plain.len() + 1);
            assert!(origins.is_sorted() && origins.last() == Some(&escaped.len()));
        }
    }

    #[test]
    fn a_text_without_escapes_has_no_other_view() {
        for text in ["none", "", r"a\xb \", "é"] {
            assert_eq!(unescaped(text), None, "{text}");
        }
    }

    #[test]
    fn long_runs_of_base64_are_data_and_words_are_not() {
        let data = "QUJD".repeat(128);
        let text = format!("see data:image/png;base64,{data} and words");
        let runs = data_runs(&text);
        assert_eq!(runs.len(), 1);
        assert_eq!(text[runs[0].clone()].len(), data.len());
        assert!(data_runs(&"words and words ".repeat(100)).is_empty());
        assert_eq!(data_runs(&data), vec![0..data.len()]);
    }
}
