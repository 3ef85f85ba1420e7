//! The form of an answer, which its first bytes tell better than its header.
//!
//! Some servers stream as `text/plain`, or without a content type; some answer a request for a stream
//! with JSON, or the other way round, and call it what was asked for.

use bytes::{Bytes, BytesMut};

use crate::caps;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The beginning of an answer, until it tells the form.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    /// What the header says.
    is_stream: bool,
    held: BytesMut,
}

/// An answer whose form is known.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) is_stream: bool,
    /// What there is of the answer, without a byte order mark.
    pub(crate) bytes: Bytes,
    pub(crate) had_bom: bool,
}

impl Opening {
    pub(crate) fn new(is_stream: bool) -> Self {
        Self {
            is_stream,
            held: BytesMut::new(),
        }
    }

    /// What the header says of the form.
    pub(crate) const fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// Takes the next piece. `None` as long as only blanks have come.
    pub(crate) fn read(&mut self, input: Bytes) -> Option<Opened> {
        if self.held.is_empty()
            && let Some(is_stream) = form(&input, self.is_stream)
        {
            return Some(Opened::new(is_stream, input));
        }
        self.held.extend_from_slice(&input);
        match form(&self.held, self.is_stream) {
            Some(is_stream) => Some(Opened::new(is_stream, self.held.split().freeze())),
            None if self.held.len() > caps::OPENING_BYTES_MAX => Some(self.end()),
            None => None,
        }
    }

    /// Nothing more comes.
    pub(crate) fn end(&mut self) -> Opened {
        Opened::new(self.is_stream, self.held.split().freeze())
    }
}

impl Opened {
    fn new(is_stream: bool, bytes: Bytes) -> Self {
        let had_bom = bytes.starts_with(BOM);
        let bytes = if had_bom {
            bytes.slice(BOM.len()..)
        } else {
            bytes
        };
        Self {
            is_stream,
            bytes,
            had_bom,
        }
    }
}

/// Whether an answer that begins like this is a stream. `None` if its first blanks do not tell.
fn form(bytes: &[u8], said: bool) -> Option<bool> {
    let is_half_bom = bytes.len() < BOM.len() && BOM.starts_with(bytes);
    let text = bytes.strip_prefix(BOM).unwrap_or(bytes).trim_ascii_start();
    match text.first() {
        Some(_) if is_half_bom => None,
        // An answer is an object, or a list of them.
        Some(b'{' | b'[') => Some(false),
        // A comment, or one of the fields: data, event, id, retry.
        Some(b':' | b'd' | b'e' | b'i' | b'r') => Some(true),
        Some(_) => Some(said),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(said: bool, text: &str) -> Option<(bool, String)> {
        let mut by_whole = Opening::new(said);
        let whole = by_whole.read(Bytes::copy_from_slice(text.as_bytes()));
        let whole = whole.unwrap_or_else(|| by_whole.end());
        let mut by_bytes = Opening::new(said);
        let mut rest = text.bytes();
        let opened = loop {
            match rest.next() {
                None => break by_bytes.end(),
                Some(byte) => {
                    if let Some(opened) = by_bytes.read(Bytes::copy_from_slice(&[byte])) {
                        break opened;
                    }
                }
            }
        };
        let bytes = [&opened.bytes[..], &rest.collect::<Vec<u8>>()].concat();
        assert_eq!(opened.is_stream, whole.is_stream, "{text:?}");
        assert_eq!(bytes, whole.bytes, "{text:?}");
        let text = String::from_utf8(bytes).ok()?;
        Some((opened.is_stream, text))
    }

    #[test]
    fn the_first_bytes_tell_the_form_whatever_the_header_says() {
        for (text, is_stream) in [
            ("{\"id\":1}", false),
            ("\n\n \r\n{\"id\":1}", false),
            ("[{}]", false),
            ("data: {}\n\n", true),
            ("data:{}\n\n", true),
            (": keep-alive\n\ndata: {}\n\n", true),
            ("\r\n\r\nevent: x\r\n", true),
            ("id: 1\n", true),
            ("retry: 3\n", true),
        ] {
            for said in [false, true] {
                let expect = Some((is_stream, text.to_owned()));
                assert_eq!(opened(said, text), expect);
                assert_eq!(opened(said, &format!("\u{feff}{text}")), expect);
            }
        }
    }

    #[test]
    fn what_tells_nothing_is_what_the_header_says() {
        for text in ["", "\n\n", "<html>", "\u{e9}", "\u{ffff}x"] {
            for said in [false, true] {
                assert_eq!(opened(said, text), Some((said, text.to_owned())));
            }
        }
        let blanks = "\n".repeat(2 * caps::OPENING_BYTES_MAX);
        assert_eq!(opened(true, &blanks), Some((true, blanks.clone())));
    }
}
