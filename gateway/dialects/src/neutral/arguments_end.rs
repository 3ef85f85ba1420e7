//! Where the arguments of a call end, although no provider of chat says so.

use crate::json::Text;

/// Follows the pieces of a call's arguments, and tells when they are a whole object or array.
///
/// Only brackets and strings are looked at. A bare word or number has no end of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct ArgumentsEnd {
    depth: usize,
    in_string: bool,
    /// The last character was a backslash of the arguments' own JSON.
    is_escaped: bool,
    has_value: bool,
}

impl ArgumentsEnd {
    /// Reads the next piece, which is escaped as a string of JSON.
    pub(crate) fn read(&mut self, piece: &Text<'_>) {
        let mut bytes = piece.as_escaped().bytes();
        while let Some(byte) = bytes.next() {
            let byte = match byte {
                b'\\' => match bytes.next() {
                    Some(b'u') => code_unit(&mut bytes),
                    Some(byte @ (b'"' | b'\\' | b'/')) => byte,
                    _ => b' ',
                },
                byte => byte,
            };
            self.step(byte);
        }
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.has_value |= self.depth == 0;
            }
            _ => {}
        }
    }

    /// Whether the arguments are whole.
    pub(crate) const fn is_reached(&self) -> bool {
        self.has_value && self.depth == 0 && !self.in_string
    }
}

/// The character of `\uXXXX`, if it is one of ASCII; otherwise one that means nothing here.
fn code_unit(bytes: &mut std::str::Bytes<'_>) -> u8 {
    let mut code = 0_u32;
    for _ in 0..4 {
        let digit = bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        code = code * 16 + digit.unwrap_or(0);
    }
    u8::try_from(code).ok().filter(u8::is_ascii).unwrap_or(b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(text: &Text<'_>) -> ArgumentsEnd {
        let mut end = ArgumentsEnd::default();
        end.read(text);
        end
    }

    fn is_whole(json: &str) -> bool {
        after(&Text::plain(json)).is_reached()
    }

    #[test]
    fn an_object_ends_with_its_last_bracket() {
        for whole in [
            "{}",
            " {\"a\": [1, {\"b\": \"}\"}]}\n",
            r#"{"a":"\"}\\"}"#,
            r#"{"a":"é\u007d\\\""}"#,
            "[]",
        ] {
            assert!(is_whole(whole), "{whole}");
            for (at, _) in whole.trim_end().char_indices() {
                assert!(!is_whole(&whole[..at]), "{}", &whole[..at]);
            }
        }
        for part in ["", " ", "12", "null", "\"a\""] {
            assert!(!is_whole(part), "{part}");
        }
    }

    #[test]
    fn escapes_of_the_outer_string_are_seen_through() {
        let whole = Text::escaped(r"{\u0022a\u0022:\u0022}\\\u0022\u0022\u007d");
        assert!(after(&whole).is_reached());
        let open = Text::escaped(r"{\u0022a\u0022:\u0022}\\\u0022\u007d");
        assert!(!after(&open).is_reached());
    }

    proptest::proptest! {
        #[test]
        fn pieces_are_as_good_as_the_whole(values: Vec<String>, cut: usize) {
            let json = serde_json::json!({ "v": values }).to_string();
            let mut at = cut % json.len();
            while !json.is_char_boundary(at) { at -= 1; }
            let mut end = after(&Text::plain(&json[..at]));
            proptest::prop_assert!(!end.is_reached());
            end.read(&Text::plain(&json[at..]));
            proptest::prop_assert!(end.is_reached());
        }
    }
}
