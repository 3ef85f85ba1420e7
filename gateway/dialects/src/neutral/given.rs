//! How much of a text a stream has given already.

use crate::json::Text;

/// What the deltas of a text have given so far: how much, and a hash that tells whether a later whole
/// begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    bytes: usize,
    hash: u64,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            bytes: 0,
            hash: 0xcbf2_9ce4_8422_2325,
        }
    }
}

impl Given {
    pub(crate) const fn is_nothing(&self) -> bool {
        self.bytes == 0
    }

    pub(crate) fn add(&mut self, part: &Text<'_>) {
        self.bytes += part.len();
        self.hash = hashed(self.hash, part.as_escaped());
    }

    /// Whether exactly this text was given.
    pub(crate) fn is_all_of(&self, whole: &Text<'_>) -> bool {
        let whole = whole.as_escaped();
        whole.len() == self.bytes && hashed(Self::default().hash, whole) == self.hash
    }

    /// What of the whole text was not given. A whole that is not what was given is said in other
    /// words, or escaped in another way: there is nothing to add to it.
    pub(crate) fn rest_of<'t>(&self, whole: &'t Text<'_>) -> Text<'t> {
        let whole = whole.as_escaped();
        let rest = match whole.split_at_checked(self.bytes) {
            Some((head, rest)) if hashed(Self::default().hash, head) == self.hash => rest,
            _ => "",
        };
        Text::escaped(rest)
    }
}

/// FNV-1a, which can be continued.
fn hashed(hash: u64, text: &str) -> u64 {
    text.bytes().fold(hash, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(given: &[&str], whole: &str) -> String {
        let mut so_far = Given::default();
        for part in given {
            so_far.add(&Text::escaped(part));
        }
        let whole = Text::escaped(whole);
        so_far.rest_of(&whole).as_escaped().to_owned()
    }

    #[test]
    fn what_no_delta_gave_is_the_rest() {
        assert_eq!(rest(&[], "Hello"), "Hello");
        assert_eq!(rest(&["He", "l"], "Hello"), "lo");
        assert_eq!(rest(&["Hel", "lo"], "Hello"), "");
        assert_eq!(rest(&["Hello, you"], "Hello"), "");
        assert_eq!(rest(&["Bye"], "Hello"), "");
        assert_eq!(rest(&["\u{e9}"], "\\u00e9"), "");
        assert_eq!(rest(&["x"], "\u{e9}"), "");
    }
}
