//! Walks over complete JSON text without building values.
//!
//! It trusts that brackets pair up, and looks only at what it is asked for. For text that is not
//! JSON it returns `None` or nonsense, but never panics, recurses or loops.

/// A place in JSON text. Methods return `None` if they find something other than what was asked for.
pub(crate) struct JsonCursor<'a> {
    bytes: &'a [u8],
    at: usize,
    has_escapes: bool,
}

impl<'a> JsonCursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self::at(bytes, 0)
    }

    /// Where the next value starts.
    pub(crate) fn position(&mut self) -> usize {
        self.skip_blanks();
        self.at
    }

    /// Where the value that was just passed ends.
    pub(crate) const fn passed(&self) -> usize {
        self.at
    }

    /// Whether the string that was just passed has escapes.
    pub(crate) const fn has_escapes(&self) -> bool {
        self.has_escapes
    }

    /// The first byte of the next value, which tells its type.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.bytes.get(self.at)? {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    /// A cursor at a place that is known to be before a value.
    pub(crate) const fn at(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            has_escapes: false,
        }
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
        visit(self)?;
        self.further_elements(visit)
    }

    /// The same for the elements of an array that come after a value that was just passed.
    pub(crate) fn further_elements(
        &mut self,
        mut visit: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        loop {
            match self.next()? {
                b',' => visit(self)?,
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
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => self.skip_string_rest()?,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(());
                    }
                }
                _ => {}
            }
        }
    }

    /// Moves past the end of a string whose first quote is behind. Most strings are a few bytes long
    /// and without escapes: comparing eight bytes at a time finds their ends soonest.
    fn skip_string_rest(&mut self) -> Option<()> {
        const SHORT_WORDS: usize = 4;
        let mut rest = self.bytes.get(self.at..)?;
        for _ in 0..SHORT_WORDS {
            let Some((word, after)) = rest.split_first_chunk() else {
                break;
            };
            let word = u64::from_le_bytes(*word);
            if zero_bytes(word ^ repeated(b'\\')) != 0 {
                break;
            }
            let quotes = zero_bytes(word ^ repeated(b'"'));
            if quotes != 0 {
                let end = self.bytes.len() - rest.len();
                self.at = end + quotes.trailing_zeros() as usize / 8 + 1;
                self.has_escapes = false;
                return Some(());
            }
            rest = after;
        }
        self.at = self.bytes.len() - rest.len();
        self.skip_long_string_rest()
    }

    // Inlined, it would cost the short ones more than it takes.
    #[inline(never)]
    fn skip_long_string_rest(&mut self) -> Option<()> {
        let mut rest = self.bytes.get(self.at..)?;
        self.has_escapes = false;
        loop {
            let found = memchr::memchr2(b'"', b'\\', rest)?;
            let (end, after) = rest.get(found..)?.split_first()?;
            if *end == b'"' {
                self.at = self.bytes.len() - after.len();
                return Some(());
            }
            self.has_escapes = true;
            rest = after.get(1..)?;
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
            for escape in (0..length).step_by(3) {
                let mut string = vec![0xe9; length];
                string[escape] = b'\\';
                let text = [b"\"", &string[..], b"\"!\"!!!!!!!"].concat();
                // The escape at the end takes the quote with it.
                let end = length + if escape + 1 == length { 4 } else { 2 };
                let found = JsonCursor::new(&text).value().map(<[u8]>::len);
                assert_eq!(found, Some(end));
                string[escape] = b'!';
                let text = [b"\"", &string[..], b"\"\\"].concat();
                let found = JsonCursor::new(&text).value().map(<[u8]>::len);
                assert_eq!(found, Some(length + 2));
                assert_eq!(JsonCursor::new(&text[..=length]).value(), None);
            }
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
