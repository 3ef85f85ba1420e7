//! Walks over complete JSON text without building values.
//!
//! It trusts that brackets pair up, and looks only at what it is asked for. For text that is not
//! JSON it returns `None` or nonsense, but never panics, recurses or loops.

/// A place in JSON text. Methods return `None` if they find something other than what was asked for.
pub(crate) struct JsonCursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> JsonCursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where the next value starts.
    pub(crate) fn position(&mut self) -> usize {
        self.skip_blanks();
        self.at
    }

    /// The first byte of the next value, which tells its type.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        self.skip_blanks();
        self.bytes.get(self.at).copied()
    }

    /// A cursor at a place that is known to be before a value.
    pub(crate) const fn at(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Calls `visit` with each key (between its quotes, still escaped) and the cursor before its
    /// value, which `visit` must move past.
    pub(crate) fn object(
        &mut self,
        mut visit: impl FnMut(&'a [u8], &mut Self) -> Option<()>,
    ) -> Option<()> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        self.entry(&mut visit)?;
        self.further_entries(visit)
    }

    /// The same for the entries of an object that come after a value that was just passed.
    pub(crate) fn further_entries(
        &mut self,
        mut visit: impl FnMut(&'a [u8], &mut Self) -> Option<()>,
    ) -> Option<()> {
        loop {
            match self.next()? {
                b',' => self.entry(&mut visit)?,
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    /// The same for an object; any other value is skipped.
    pub(crate) fn object_or_skip(
        &mut self,
        visit: impl FnMut(&'a [u8], &mut Self) -> Option<()>,
    ) -> Option<()> {
        if self.peek()? == b'{' {
            self.object(visit)
        } else {
            self.skip()
        }
    }

    fn entry(&mut self, visit: &mut impl FnMut(&'a [u8], &mut Self) -> Option<()>) -> Option<()> {
        let key = self.string()?;
        self.expect(b':')?;
        visit(key, self)
    }

    /// Calls `visit` before each element, which it must move past.
    pub(crate) fn array(&mut self, mut visit: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.expect(b'[')?;
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            visit(self)?;
            match self.next()? {
                b',' => {}
                b']' => return Some(()),
                _ => return None,
            }
        }
    }

    /// The bytes between the quotes of a string, still escaped.
    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let start = self.at;
        self.skip_string_rest()?;
        Some(&self.bytes[start..self.at - 1])
    }

    /// The bytes between the quotes of a string; anything else is skipped.
    pub(crate) fn string_or_skip(&mut self) -> Option<Option<&'a [u8]>> {
        if self.peek()? == b'"' {
            self.string().map(Some)
        } else {
            self.skip().map(|()| None)
        }
    }

    /// The bytes of a value.
    pub(crate) fn value(&mut self) -> Option<&'a [u8]> {
        let start = self.position();
        self.skip()?;
        Some(&self.bytes[start..self.at])
    }

    /// Moves past a value.
    pub(crate) fn skip(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => {
                self.at += 1;
                self.skip_string_rest()
            }
            b'{' | b'[' => self.skip_nested(),
            b'}' | b']' | b',' | b':' => None,
            _ => {
                self.skip_word();
                Some(())
            }
        }
    }

    fn skip_nested(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match *self.bytes.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    self.skip_string_rest()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return Some(());
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Moves past the end of a string whose first quote is behind.
    fn skip_string_rest(&mut self) -> Option<()> {
        loop {
            let rest = self.bytes.get(self.at..)?;
            let found = quote_or_backslash(rest)?;
            if rest[found] == b'"' {
                self.at += found + 1;
                return Some(());
            }
            self.at += found + 2;
        }
    }

    fn skip_word(&mut self) {
        while let Some(byte) = self.bytes.get(self.at) {
            if matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t') {
                return;
            }
            self.at += 1;
        }
    }

    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }
}

/// Most strings in a chunk are a few bytes long. Comparing eight bytes at a time finds their ends
/// sooner than `memchr`, which serves the long ones.
fn quote_or_backslash(rest: &[u8]) -> Option<usize> {
    const SHORT: usize = 32;
    let mut at = 0;
    while at < SHORT
        && let Some(word) = rest[at..].first_chunk()
    {
        let word = u64::from_le_bytes(*word);
        let found = zero_bytes(word ^ repeated(b'"')) | zero_bytes(word ^ repeated(b'\\'));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    memchr::memchr2(b'"', b'\\', &rest[at..]).map(|found| found + at)
}

const fn repeated(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The highest bit of each zero byte. What is set above the first of them may be wrong.
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(repeated(0x01)) & !word & repeated(0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_walked_in_order() {
        let text = br#" { "a" : 1 , "b\"c":{"x":["]",{}]}, "d":[1,"two"], "e":"" } "#;
        let mut seen = Vec::new();
        let walked = JsonCursor::new(text).object(|key, cursor| {
            seen.push((key.to_vec(), cursor.value()?.to_vec()));
            Some(())
        });
        assert_eq!(walked, Some(()));
        let expect: [(&[u8], &[u8]); 4] = [
            (b"a", b"1"),
            (br#"b\"c"#, br#"{"x":["]",{}]}"#),
            (b"d", br#"[1,"two"]"#),
            (b"e", br#""""#),
        ];
        assert_eq!(
            seen,
            expect.map(|(key, value)| (key.to_vec(), value.to_vec()))
        );
    }

    #[test]
    fn the_end_of_a_string_is_found_wherever_it_is() {
        for length in 0..80 {
            for end in [b'"', b'\\'] {
                let mut bytes = vec![0xe9; length];
                bytes.push(end);
                bytes.extend_from_slice(b"!!\"!!!!!!!!");
                assert_eq!(quote_or_backslash(&bytes), Some(length));
            }
            assert_eq!(quote_or_backslash(&vec![b'!'; length]), None);
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert_eq!(
            JsonCursor::new(deep.as_bytes()).value().map(<[u8]>::len),
            Some(2_000_000)
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in "[\\[\\]{}\",:\\\\a1 ]{0,64}") {
            let mut cursor = JsonCursor::new(bytes.as_bytes());
            let _ = cursor.object(|_, cursor| cursor.skip());
            let mut cursor = JsonCursor::new(bytes.as_bytes());
            let _ = cursor.array(JsonCursor::skip);
            proptest::prop_assert!(cursor.at <= bytes.len() + 1);
        }
    }
}
