//! Bodies that a provider compressed, although it was asked not to.
//!
//! They are unpacked a little at a time, as the reader asks for more, so that a small body cannot become
//! a large one in memory. Encodings that are not unpacked fail the attempt: a body is never
//! passed on without the header that explains it.

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};
use weir_dialects::StreamError;

use crate::caps::{UNPACKED_AT_ONCE_BYTES, UNPACKED_FROM_BYTES};

/// The byte with which gzip begins (RFC 1952).
const GZIP_FIRST: u8 = 0x1f;

/// Unpacks a body.
pub(crate) struct ContentDecoder {
    unpacker: Unpacker,
    /// What was read and is not unpacked yet.
    packed: Bytes,
}

enum Unpacker {
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    /// `deflate`, of which there are two kinds: the first byte tells.
    Deflate,
    Zlib(Box<ZlibDecoder<Vec<u8>>>),
    Raw(Box<DeflateDecoder<Vec<u8>>>),
}

/// A body in an encoding that is not unpacked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is compressed ({encoding}), which nobody asked for")]
pub(crate) struct UnknownEncoding {
    encoding: String,
}

impl From<UnknownEncoding> for StreamError {
    fn from(unknown: UnknownEncoding) -> Self {
        Self::Malformed {
            reason: unknown.to_string(),
        }
    }
}

impl ContentDecoder {
    /// The decoder for an answer with these headers, if it needs one. Takes the headers out that are
    /// about what the provider sends, and not about what is in it.
    pub(crate) fn of(headers: &mut HeaderMap) -> Result<Option<Self>, UnknownEncoding> {
        let Some(encoding) = headers.remove(CONTENT_ENCODING) else {
            return Ok(None);
        };
        let word = encoding.to_str().unwrap_or("?").trim().to_ascii_lowercase();
        let unpacker = match word.as_str() {
            "" | "identity" => return Ok(None),
            "gzip" | "x-gzip" => Unpacker::gzip(),
            "deflate" => Unpacker::Deflate,
            _ => return Err(UnknownEncoding { encoding: word }),
        };
        headers.remove(CONTENT_LENGTH);
        Ok(Some(Self::new(unpacker)))
    }

    /// The decoder for a body that is gzip without a header that says so, as its first bytes tell: neither
    /// JSON nor a stream of events begins like that.
    pub(crate) fn of_bytes(beginning: &[u8]) -> Option<Self> {
        let is_gzip = beginning.first() == Some(&GZIP_FIRST);
        is_gzip.then(|| Self::new(Unpacker::gzip()))
    }

    const fn new(unpacker: Unpacker) -> Self {
        Self {
            unpacker,
            packed: Bytes::new(),
        }
    }

    /// Takes the next piece of the body. The last must be unpacked by now.
    pub(crate) fn push(&mut self, piece: Bytes) {
        self.packed = piece;
    }

    pub(crate) fn has_more(&self) -> bool {
        !self.packed.is_empty()
    }

    /// Unpacks some of what was read. `None` if there is nothing left of it.
    pub(crate) fn next(&mut self) -> Option<Result<Bytes, StreamError>> {
        if self.packed.is_empty() {
            return None;
        }
        let mut unpacked = Vec::new();
        while !self.packed.is_empty() && unpacked.len() < UNPACKED_AT_ONCE_BYTES {
            let part = self
                .packed
                .split_to(self.packed.len().min(UNPACKED_FROM_BYTES));
            match self.unpacker.unpack(&part) {
                Ok(more) => unpacked.extend_from_slice(&more),
                Err(error) => {
                    let reason = format!("its compression is broken: {error}");
                    return Some(Err(StreamError::Malformed { reason }));
                }
            }
        }
        Some(Ok(unpacked.into()))
    }

    /// Whether nothing is missing at the end, as far as the encoding tells.
    pub(crate) fn is_whole(&mut self) -> bool {
        match &mut self.unpacker {
            Unpacker::Gzip(decoder) => decoder.try_finish().is_ok(),
            Unpacker::Deflate => false,
            Unpacker::Zlib(decoder) => decoder.try_finish().is_ok(),
            Unpacker::Raw(decoder) => decoder.try_finish().is_ok(),
        }
    }
}

impl Unpacker {
    fn gzip() -> Self {
        Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new())))
    }

    fn unpack(&mut self, part: &[u8]) -> std::io::Result<Vec<u8>> {
        if let (Self::Deflate, Some(first)) = (&*self, part.first()) {
            // RFC 9110 means zlib's format. Some servers leave its frame out.
            *self = match first & 0x0f {
                8 => Self::Zlib(Box::new(ZlibDecoder::new(Vec::new()))),
                _ => Self::Raw(Box::new(DeflateDecoder::new(Vec::new()))),
            };
        }
        match self {
            Self::Gzip(decoder) => {
                decoder.write_all(part)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Zlib(decoder) => {
                decoder.write_all(part)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Raw(decoder) => {
                decoder.write_all(part)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Deflate => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http::HeaderValue;

    use super::*;

    fn headers(encoding: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("9"));
        headers
    }

    fn packed(kind: &str, text: &[u8]) -> Vec<u8> {
        let best = Compression::best();
        match kind {
            "gzip" => {
                let mut encoder = GzEncoder::new(Vec::new(), best);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            "zlib" => {
                let mut encoder = ZlibEncoder::new(Vec::new(), best);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            _ => {
                let mut encoder = DeflateEncoder::new(Vec::new(), best);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    /// What comes out, and the most at once.
    fn unpacked(encoding: &'static str, pieces: &[&[u8]]) -> Result<(Vec<u8>, usize), StreamError> {
        let mut decoder = ContentDecoder::of(&mut headers(encoding)).unwrap().unwrap();
        let (mut out, mut most) = (Vec::new(), 0);
        for piece in pieces {
            decoder.push(Bytes::copy_from_slice(piece));
            while let Some(part) = decoder.next() {
                let part = part?;
                most = most.max(part.len());
                out.extend_from_slice(&part);
            }
        }
        match decoder.is_whole() {
            true => Ok((out, most)),
            false => Err(StreamError::Truncated),
        }
    }

    #[test]
    fn what_was_compressed_comes_out_at_every_split() {
        let text = "The river is let through and measured exactly. ".repeat(5);
        for (encoding, kind) in [
            ("gzip", "gzip"),
            ("X-GZIP", "gzip"),
            ("deflate", "zlib"),
            ("deflate", "raw"),
        ] {
            let body = packed(kind, text.as_bytes());
            for split in 0..=body.len() {
                let (a, b) = body.split_at(split);
                let (out, _) = unpacked(encoding, &[a, b]).unwrap();
                assert_eq!(out, text.as_bytes(), "{kind} split at {split}");
            }
        }
    }

    #[test]
    fn each_piece_of_a_stream_comes_out_at_once() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let mut decoder = ContentDecoder::of(&mut headers("gzip")).unwrap().unwrap();
        for event in ["data: one\n\n", "data: two\n\n"] {
            encoder.write_all(event.as_bytes()).unwrap();
            encoder.flush().unwrap();
            decoder.push(std::mem::take(encoder.get_mut()).into());
            assert_eq!(decoder.next(), Some(Ok(Bytes::from(event))));
            assert_eq!(decoder.next(), None);
        }
    }

    #[test]
    fn a_small_body_does_not_become_a_large_piece() {
        let zeros = vec![0; 30_000_000];
        let body = packed("gzip", &zeros);
        let (out, most) = unpacked("gzip", &[&body]).unwrap();
        assert_eq!(out.len(), zeros.len());
        assert!(most <= UNPACKED_AT_ONCE_BYTES + 1100 * UNPACKED_FROM_BYTES);
    }

    #[test]
    fn a_broken_or_cut_body_is_told() {
        let body = packed("gzip", b"{\"id\":1}");
        let cut = unpacked("gzip", &[&body[..body.len() - 3]]);
        assert_eq!(cut.unwrap_err(), StreamError::Truncated);
        let broken = unpacked("gzip", &[b"{\"id\":\"not packed\"}"]).unwrap_err();
        assert!(matches!(broken, StreamError::Malformed { .. }), "{broken}");
    }

    #[test]
    fn gzip_is_known_by_its_first_byte() {
        let body = packed("gzip", b"{\"id\":1}");
        let mut decoder = ContentDecoder::of_bytes(&body[..1]).unwrap();
        decoder.push(body.into());
        assert_eq!(decoder.next(), Some(Ok(Bytes::from("{\"id\":1}"))));
        assert!(decoder.is_whole());
        for plain in ["", "{}", " \n[", "data: {}", "\u{feff}{}", "<html>"] {
            assert!(
                ContentDecoder::of_bytes(plain.as_bytes()).is_none(),
                "{plain}"
            );
        }
    }

    #[test]
    fn headers_say_what_the_client_gets() {
        let mut plain = headers("identity");
        assert!(ContentDecoder::of(&mut plain).unwrap().is_none());
        assert!(plain.contains_key(CONTENT_LENGTH));
        let mut gzip = headers("gzip");
        assert!(ContentDecoder::of(&mut gzip).unwrap().is_some());
        assert!(gzip.is_empty());
        for other in ["br", "zstd", "gzip, br"] {
            let unknown = ContentDecoder::of(&mut headers(other)).err();
            assert_eq!(
                unknown.map(|it| it.encoding).as_deref(),
                Some(other),
                "{other}"
            );
        }
    }
}
