//! What a prompt would count: a sample of the request's body, and the texts in it.
//!
//! A body is kept whole where it is small, without copying it; of a larger one only a few pieces
//! are, spread over it. Prompts with images or other files are counted by size, for their data
//! would be taken for text.

use bytes::{Bytes, BytesMut};
use weir_dialects::RequestFacts;

use super::{BYTES_PER_TOKEN_MEAN, count, scale, unescaped};
use crate::caps::PROMPT_SAMPLE_BYTES_MAX;

/// Pieces of a body that is larger.
const PIECES: usize = 4;

/// What frames a message beside its text, and begins the answer
/// (cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken).
const MESSAGE_TOKENS: u64 = 4;
const ANSWER_TOKENS: u64 = 3;

/// Keys of the APIs themselves. Other keys are names that the caller gave, of a tool's arguments
/// for example, and part of the prompt.
const FRAME: [&str; 24] = [
    "arguments",
    "cache_control",
    "call_id",
    "content",
    "description",
    "function",
    "id",
    "input",
    "input_schema",
    "instructions",
    "max_tokens",
    "messages",
    "model",
    "name",
    "parameters",
    "role",
    "stream",
    "system",
    "text",
    "tool_call_id",
    "tool_calls",
    "tool_use_id",
    "tools",
    "type",
];
/// Keys whose values no model sees as they stand.
const UNSEEN: [&str; 8] = [
    "call_id",
    "id",
    "model",
    "role",
    "tool_call_id",
    "tool_use_id",
    "type",
    "user",
];

#[derive(Clone, Debug)]
pub(crate) struct Prompt {
    /// Bytes of JSON that make it up, the data of files left out.
    bytes: u64,
    /// The body, or pieces of it of the same length; empty if it is counted by size.
    sample: Bytes,
    is_whole: bool,
}

impl Prompt {
    pub(crate) fn of(body: &Bytes, facts: &RequestFacts) -> Self {
        let is_whole = body.len() <= PROMPT_SAMPLE_BYTES_MAX;
        let sample = match (facts.inline_files, is_whole) {
            (0, true) => body.clone(),
            (0, false) => pieces_of(body),
            _ => Bytes::new(),
        };
        Self {
            bytes: facts.prompt_bytes,
            sample,
            is_whole,
        }
    }

    pub(crate) fn tokens(&self) -> u64 {
        let by_size = self.bytes.div_ceil(BYTES_PER_TOKEN_MEAN);
        let (mut text, mut messages) = (String::new(), 0);
        let piece_bytes = if self.is_whole {
            self.sample.len()
        } else {
            PROMPT_SAMPLE_BYTES_MAX / PIECES
        };
        for piece in self.sample.chunks(piece_bytes.max(1)) {
            messages += read(piece, &mut text);
        }
        if text.is_empty() {
            return by_size;
        }
        let counted = count(&text) + messages * MESSAGE_TOKENS;
        let scaled = if self.is_whole {
            counted
        } else {
            scale(counted, self.sample.len(), self.bytes)
        };
        scaled + ANSWER_TOKENS
    }
}

fn pieces_of(body: &Bytes) -> Bytes {
    let piece_bytes = PROMPT_SAMPLE_BYTES_MAX / PIECES;
    let apart = (body.len() - piece_bytes) / (PIECES - 1);
    let mut sample = BytesMut::with_capacity(PROMPT_SAMPLE_BYTES_MAX);
    for piece in 0..PIECES {
        let from = piece * apart;
        sample.extend_from_slice(&body[from..from + piece_bytes]);
    }
    sample.freeze()
}

/// Adds the texts in a piece of JSON to what was read before; returns how many messages begin in it.
fn read(piece: &[u8], text: &mut String) -> u64 {
    let mut messages = 0;
    let mut key: &[u8] = b"";
    let mut at = 0;
    if begins_in_a_string(piece) {
        let end = string_end(piece, 0);
        add(&piece[..end], text);
        at = end + 1;
    }
    while let Some(open) = piece.get(at..).and_then(|rest| memchr::memchr(b'"', rest)) {
        let from = at + open + 1;
        let end = string_end(piece, from);
        let inner = &piece[from..end];
        at = end + 1;
        if next_of(piece, at) == Some(b':') {
            key = inner;
            messages += u64::from(key == b"role");
            if !is_among(&FRAME, key) {
                add(inner, text);
            }
        } else if !is_among(&UNSEEN, key) {
            add(inner, text);
        }
    }
    messages
}

fn add(inner: &[u8], text: &mut String) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(&unescaped(inner));
}

fn is_among(names: &[&str], key: &[u8]) -> bool {
    names.iter().any(|name| name.as_bytes() == key)
}

/// Where the string ends that goes on at a place: at its quote, or with the piece.
fn string_end(piece: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &piece[at.min(piece.len())..]) {
        at += found;
        if piece[at] == b'"' {
            return at;
        }
        at += 2;
    }
    piece.len()
}

/// Whether a piece begins in the middle of a string: its first quote is one that ends one, or it has
/// none, as in a long text.
fn begins_in_a_string(piece: &[u8]) -> bool {
    if piece.first() == Some(&b'{') {
        return false;
    }
    let first = string_end(piece, 0);
    first == piece.len() || matches!(next_of(piece, first + 1), Some(b':' | b',' | b'}' | b']'))
}

/// The next byte that is no space.
fn next_of(piece: &[u8], at: usize) -> Option<u8> {
    let rest = piece.get(at..)?;
    rest.iter()
        .copied()
        .find(|byte| !byte.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use weir_dialects::ClientApi;

    use super::*;

    fn prompt(body: &str) -> Prompt {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let facts = weir_dialects::inspect(ClientApi::ChatCompletions, &body).unwrap();
        Prompt::of(&body, &facts)
    }

    fn texts(piece: &str) -> (String, u64) {
        let mut text = String::new();
        let messages = read(piece.as_bytes(), &mut text);
        (text, messages)
    }

    #[test]
    fn texts_and_given_names_count_and_the_api_does_not() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"h\u00f6w \"high\"?"}],
            "tools":[{"type":"function","function":{"name":"level","parameters":
            {"type":"object","properties":{"river":{"type":"string"}},"required":["river"]}}}]}"#;
        let (text, messages) = texts(body);
        assert_eq!(
            text,
            "h\u{f6}w \"high\"? level properties river required river"
        );
        assert_eq!(messages, 1);
    }

    #[test]
    fn a_piece_may_begin_and_end_anywhere() {
        assert_eq!(texts("one two three").0, "one two three");
        assert_eq!(
            texts(r#"f a text","role":"user","content":"and"#).0,
            "f a text and"
        );
        assert_eq!(texts(r#","content":"next","n"#).0, "next n");
        assert_eq!(texts(r#"cut \"#).0, "cut ");
        assert_eq!(texts("").0, "");
    }

    #[test]
    fn a_long_prompt_counts_what_a_short_one_does_times_its_length() {
        let line = "The gauge at the weir reads two metres and eleven centimetres.\\n";
        let body = |lines| {
            let text = line.repeat(lines);
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#)
        };
        let (short, long) = (prompt(&body(100)).tokens(), prompt(&body(10_000)).tokens());
        assert!((short * 100).abs_diff(long) <= long / 50, "{short}, {long}");
        assert_eq!(prompt(&body(10_000)).sample.len(), PROMPT_SAMPLE_BYTES_MAX);
    }

    #[test]
    fn files_are_counted_by_size() {
        let data = "iVBORw0KGgo".repeat(1000);
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"text","text":"what is this?"}},{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}]}}]}}"#
        );
        let prompt = prompt(&body);
        assert!(prompt.sample.is_empty());
        assert!(prompt.tokens() < 60, "{}", prompt.tokens());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(piece in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let mut text = String::new();
            read(&piece, &mut text);
            let mut text = String::new();
            let quotes: Vec<u8> = piece.iter().map(|byte| b"\"\\:,{a "[usize::from(byte % 7)]).collect();
            read(&quotes, &mut text);
        }
    }
}
