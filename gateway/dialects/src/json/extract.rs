//! Picks values out of a JSON body that arrives in pieces, without keeping the body.
//!
//! Paths name the wanted values. Everything else is skipped by its strings and brackets alone; a
//! wanted value is kept until its end, within [`caps::CAPTURE_BYTES_MAX`]. Memory does not depend on the size or depth of the body.

use crate::caps;

/// One step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatternStep {
    Key(&'static str),
    AnyOf(&'static [&'static str]),
    /// Any element of an array.
    Element,
}

/// A path, and what to do with the value at its end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum JsonPattern {
    /// Hand over the value's bytes.
    Capture(&'static [PatternStep]),
    /// Hand over the value piece by piece if it is a string.
    Text(&'static [PatternStep]),
}

impl JsonPattern {
    const fn path(self) -> &'static [PatternStep] {
        match self {
            Self::Capture(path) | Self::Text(path) => path,
        }
    }
}

/// A found value or piece.
#[derive(Debug)]
pub(crate) enum Extracted<'a> {
    /// The value of the pattern with this number.
    Value(usize, &'a [u8]),
    /// A piece of text, still escaped.
    Text(&'a [u8]),
}

/// A set of patterns, one bit each.
type Mask = u32;

#[derive(Debug)]
pub(crate) struct Extractor {
    patterns: &'static [JsonPattern],
    /// The open containers on a pattern's path.
    levels: Vec<Level>,
    mode: LexState,
    key: Vec<u8>,
    key_too_long: bool,
    /// The wanted value that is being read, and its bytes so far.
    capture: Option<PendingValue>,
    captured: Vec<u8>,
    counts_text: bool,
    complete: bool,
}

#[derive(Debug)]
struct Level {
    /// Patterns whose path leads through this container.
    alive: Mask,
    is_object: bool,
    /// In an object: whether the key of the current entry was read.
    key_done: bool,
}

#[derive(Debug)]
struct PendingValue {
    pattern: usize,
    overflowed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LexState {
    /// Between tokens of a container on a pattern's path, or before the body.
    Structure,
    Key {
        escaped: bool,
    },
    Text {
        escaped: bool,
    },
    /// A number, true, false or null.
    Word,
    /// In a container that is skipped or captured whole.
    Nested {
        depth: u64,
        in_string: bool,
        escaped: bool,
    },
}

impl Extractor {
    pub(crate) fn new(patterns: &'static [JsonPattern]) -> Self {
        Self {
            patterns,
            levels: Vec::with_capacity(4),
            mode: LexState::Structure,
            key: Vec::with_capacity(caps::MATCHED_KEY_BYTES_MAX),
            key_too_long: false,
            capture: None,
            captured: Vec::with_capacity(256),
            counts_text: false,
            complete: false,
        }
    }

    /// Whether the body's outermost value has been closed.
    pub(crate) const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Reads the next piece. Calls `found` with each wanted value that ends in it, and with each part
    /// of a wanted text. A value that is too large is dropped.
    pub(crate) fn push(&mut self, input: &[u8], found: &mut impl FnMut(Extracted<'_>)) {
        let mut at = 0;
        while at < input.len() && !self.complete {
            at += match self.mode {
                LexState::Structure => self.structure(input[at]),
                LexState::Key { escaped } => self.in_key(&input[at..], escaped),
                LexState::Text { escaped } => self.in_text(&input[at..], escaped, found),
                LexState::Word => self.in_word(&input[at..], found),
                LexState::Nested {
                    depth,
                    in_string,
                    escaped,
                } => self.in_nested(&input[at..], depth, in_string, escaped, found),
            };
        }
    }

    /// Handles one byte between tokens. Returns how many bytes that took.
    fn structure(&mut self, byte: u8) -> usize {
        match byte {
            b'"' if self.awaits_key() => {
                self.key.clear();
                self.key_too_long = false;
                self.mode = LexState::Key { escaped: false };
            }
            b'"' => {
                self.start_value(byte);
                self.mode = LexState::Text { escaped: false };
            }
            b'{' | b'[' => self.open(byte),
            b'}' | b']' => self.close(),
            b',' => {
                if let Some(level) = self.levels.last_mut() {
                    level.key_done = false;
                }
            }
            b' ' | b'\n' | b'\r' | b'\t' | b':' => {}
            _ => {
                self.start_value(byte);
                self.mode = LexState::Word;
            }
        }
        1
    }

    fn awaits_key(&self) -> bool {
        self.levels
            .last()
            .is_some_and(|level| level.is_object && !level.key_done)
    }

    fn open(&mut self, byte: u8) {
        let matching = self.start_value(byte);
        if self.capture.is_some() || (matching == 0 && !self.levels.is_empty()) {
            self.mode = LexState::Nested {
                depth: 1,
                in_string: false,
                escaped: false,
            };
            return;
        }
        let alive = if self.levels.is_empty() {
            self.all()
        } else {
            matching
        };
        self.levels.push(Level {
            alive,
            is_object: byte == b'{',
            key_done: false,
        });
    }

    fn close(&mut self) {
        self.levels.pop();
        self.complete = self.levels.is_empty();
    }

    fn all(&self) -> Mask {
        (1 << self.patterns.len()) - 1
    }

    /// Starts a value that some patterns may want. Returns the patterns that lead further into it.
    fn start_value(&mut self, first: u8) -> Mask {
        let depth = self.levels.len();
        let Some(level) = self.levels.last() else {
            return 0;
        };
        let (mut through, mut capture) = (0, None);
        self.counts_text = false;
        for (number, pattern) in self.patterns.iter().enumerate() {
            let path = pattern.path();
            if level.alive & (1 << number) == 0 || !self.is_step(&path[depth - 1]) {
                continue;
            }
            match pattern {
                _ if path.len() > depth => through |= 1 << number,
                JsonPattern::Text(_) => self.counts_text = first == b'"',
                JsonPattern::Capture(_) => capture = Some(number),
            }
        }
        self.captured.clear();
        self.captured.push(first);
        self.capture = capture.map(|pattern| PendingValue {
            pattern,
            overflowed: false,
        });
        through
    }

    fn is_step(&self, step: &PatternStep) -> bool {
        let in_object = self.levels.last().is_some_and(|level| level.is_object);
        let is_key = |key: &str| !self.key_too_long && self.key == key.as_bytes();
        match step {
            PatternStep::Key(key) => in_object && is_key(key),
            PatternStep::AnyOf(keys) => in_object && keys.iter().any(|key| is_key(key)),
            PatternStep::Element => !in_object && !self.levels.is_empty(),
        }
    }

    fn in_key(&mut self, input: &[u8], escaped: bool) -> usize {
        let (taken, end) = string_part(input, escaped);
        let text = &input[..taken - usize::from(end == StringEnd::Closed)];
        if self.key.len() + text.len() > caps::MATCHED_KEY_BYTES_MAX {
            self.key_too_long = true;
        } else {
            self.key.extend_from_slice(text);
        }
        match end {
            StringEnd::Closed => {
                if let Some(level) = self.levels.last_mut() {
                    level.key_done = true;
                }
                self.mode = LexState::Structure;
            }
            StringEnd::Open { escaped } => self.mode = LexState::Key { escaped },
        }
        taken
    }

    fn in_text(
        &mut self,
        input: &[u8],
        escaped: bool,
        found: &mut impl FnMut(Extracted<'_>),
    ) -> usize {
        let (taken, end) = string_part(input, escaped);
        self.keep(&input[..taken]);
        if self.counts_text {
            found(Extracted::Text(
                &input[..taken - usize::from(end == StringEnd::Closed)],
            ));
        }
        match end {
            StringEnd::Closed => self.end_value(found),
            StringEnd::Open { escaped } => self.mode = LexState::Text { escaped },
        }
        taken
    }

    /// Takes the rest of a word.
    fn in_word(&mut self, input: &[u8], found: &mut impl FnMut(Extracted<'_>)) -> usize {
        let end = input
            .iter()
            .position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'));
        let taken = end.unwrap_or(input.len());
        self.keep(&input[..taken]);
        if end.is_some() {
            self.end_value(found);
        }
        taken
    }

    fn in_nested(
        &mut self,
        input: &[u8],
        mut depth: u64,
        mut in_string: bool,
        mut escaped: bool,
        found: &mut impl FnMut(Extracted<'_>),
    ) -> usize {
        let mut at = 0;
        while at < input.len() {
            if in_string {
                let (taken, end) = string_part(&input[at..], escaped);
                at += taken;
                (in_string, escaped) = match end {
                    StringEnd::Closed => (false, false),
                    StringEnd::Open { escaped } => (true, escaped),
                };
                continue;
            }
            let Some(next) = next_structural(&input[at..]) else {
                at = input.len();
                break;
            };
            at += next + 1;
            match input[at - 1] {
                b'"' => in_string = true,
                b'{' | b'[' => depth += 1,
                _ => depth -= 1,
            }
            if depth == 0 {
                break;
            }
        }
        self.keep(&input[..at]);
        if depth == 0 {
            self.end_value(found);
        } else {
            self.mode = LexState::Nested {
                depth,
                in_string,
                escaped,
            };
        }
        at
    }

    fn keep(&mut self, part: &[u8]) {
        if let Some(capture) = &mut self.capture {
            if self.captured.len() + part.len() > caps::CAPTURE_BYTES_MAX {
                capture.overflowed = true;
            } else {
                self.captured.extend_from_slice(part);
            }
        }
    }

    fn end_value(&mut self, found: &mut impl FnMut(Extracted<'_>)) {
        self.mode = LexState::Structure;
        if let Some(capture) = self.capture.take()
            && !capture.overflowed
        {
            found(Extracted::Value(capture.pattern, &self.captured));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StringEnd {
    Closed,
    Open { escaped: bool },
}

/// How much of the input belongs to the string that it starts in, the closing quote included.
fn string_part(input: &[u8], escaped: bool) -> (usize, StringEnd) {
    let mut at = usize::from(escaped);
    while at < input.len() {
        match memchr::memchr2(b'"', b'\\', &input[at..]) {
            None => break,
            Some(found) if input[at + found] == b'"' => return (at + found + 1, StringEnd::Closed),
            Some(found) => at += found + 2,
        }
    }
    (
        input.len(),
        StringEnd::Open {
            escaped: at > input.len(),
        },
    )
}

/// Where the next quote, brace or bracket is.
fn next_structural(input: &[u8]) -> Option<usize> {
    // Brackets differ from braces in one bit.
    let is_structural = |byte: &u8| (*byte == b'"') | (byte | 0x20 == b'{') | (byte | 0x20 == b'}');
    // Without an early exit the compiler compares all bytes of a block at once.
    let (blocks, _) = input.as_chunks::<32>();
    let is_clear = |block: &&[u8; 32]| {
        !block
            .iter()
            .fold(false, |any, byte| any | is_structural(byte))
    };
    let skipped = 32 * blocks.iter().take_while(is_clear).count();
    let found = input[skipped..].iter().position(is_structural)?;
    Some(skipped + found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use PatternStep::{Element, Key};

    const PATTERNS: &[JsonPattern] = &[
        JsonPattern::Capture(&[Key("usage")]),
        JsonPattern::Capture(&[Key("model")]),
        JsonPattern::Capture(&[Key("choices"), Element, Key("finish_reason")]),
        JsonPattern::Text(&[Key("choices"), Element, Key("message"), Key("content")]),
    ];

    type Found = Vec<(usize, String)>;

    fn extract<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Found, u64, bool) {
        let mut extractor = Extractor::new(PATTERNS);
        let (mut found, mut text_bytes) = (Vec::new(), 0);
        for piece in pieces {
            extractor.push(piece, &mut |part| match part {
                Extracted::Value(pattern, value) => {
                    found.push((pattern, String::from_utf8_lossy(value).into_owned()));
                }
                Extracted::Text(text) => text_bytes += text.len() as u64,
            });
        }
        (found, text_bytes, extractor.is_complete())
    }

    const BODY: &str = r#"{"id":"x","model" : "m\"1","deep":{"model":"no","usage":{"a":[1,"]}"]}},
        "choices":[{"message":{"content":"four\\","model":"no"},"finish_reason":"stop"},
                   {"finish_reason":null,"message":{"content":null}}],
        "usage":{"n":1,"d":{"c":[2]}},"n":-1.5e3}"#;

    fn expected() -> (Found, u64, bool) {
        let found = [
            (1, r#""m\"1""#),
            (2, r#""stop""#),
            (2, "null"),
            (0, r#"{"n":1,"d":{"c":[2]}}"#),
        ];
        (
            found
                .map(|(pattern, value)| (pattern, value.to_owned()))
                .to_vec(),
            6,
            true,
        )
    }

    #[test]
    fn wanted_values_are_found_in_one_piece() {
        assert_eq!(extract([BODY.as_bytes()]), expected());
    }

    #[test]
    fn wanted_values_are_found_at_every_split() {
        for split in 0..BODY.len() {
            let (a, b) = BODY.as_bytes().split_at(split);
            assert_eq!(extract([a, b]), expected(), "split at {split}");
        }
        assert_eq!(extract(BODY.as_bytes().chunks(1)), expected());
    }

    #[test]
    fn a_value_that_is_too_large_is_not_kept() {
        let body = format!(
            r#"{{"model":"{}","usage":{{}}}}"#,
            "x".repeat(caps::CAPTURE_BYTES_MAX)
        );
        let (found, _, complete) = extract([body.as_bytes()]);
        assert_eq!(found, [(0, "{}".to_owned())]);
        assert!(complete);
    }

    #[test]
    fn an_unfinished_body_is_not_complete() {
        assert!(!extract([&BODY.as_bytes()[..BODY.len() - 1]]).2);
        assert!(!extract([b"".as_slice()]).2);
    }

    #[test]
    fn structural_bytes_are_found_wherever_they_are() {
        for length in 0..100 {
            let mut bytes = vec![b'2'; length];
            assert_eq!(next_structural(&bytes), None);
            for end in *b"\"{}[]" {
                bytes.truncate(length);
                bytes.extend([end, b'{']);
                assert_eq!(next_structural(&bytes), Some(length));
            }
        }
        let others = (0..=255_u8).filter(|byte| !b"\"{}[]".contains(byte));
        assert_eq!(next_structural(&others.collect::<Vec<_>>()), None);
    }

    #[test]
    fn depth_costs_no_memory() {
        let body = format!(r#"{{"a":{}"#, "[".repeat(1_000_000));
        let mut extractor = Extractor::new(PATTERNS);
        extractor.push(body.as_bytes(), &mut |_| {});
        assert_eq!(extractor.levels.len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived_and_splits_do_not_matter(
            text in "[\\[\\]{}\",:\\\\a1 ]{0,48}",
            split in 0_usize..48,
        ) {
            let body = format!("{{\"usage\":{text}");
            let (a, b) = body.as_bytes().split_at(split.min(body.len()));
            proptest::prop_assert_eq!(extract([body.as_bytes()]), extract([a, b]));
        }
    }
}
