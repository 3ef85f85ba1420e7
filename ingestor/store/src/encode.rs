//! Packing errors as the client asked.
//!
//! A server packs the text of an error like a result, so clients unpack it without a look: in blocks
//! with `compress=1`, and with an encoding of HTTP's if `enable_http_compression=1` and
//! `Accept-Encoding` name one. Only what fails before the client is let in goes out as it is.
//!
//! Results go out in blocks, too, but not in HTTP's encodings: a client may leave them out, and the
//! store is on the client's machine.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use crate::block;

/// How errors are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorPacking {
    pub(crate) in_blocks: bool,
    pub(crate) encoding: Option<HttpEncoding>,
}

impl ErrorPacking {
    pub(crate) fn pack(self, text: Bytes) -> Bytes {
        let text = if self.in_blocks {
            block::encode(&text)
        } else {
            text
        };
        match self.encoding {
            None => text,
            Some(encoding) => encoding.encode(&text),
        }
    }
}

/// An encoding of HTTP's that is written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpEncoding {
    Gzip,
    Deflate,
}

impl HttpEncoding {
    /// The first of ours that an `Accept-Encoding` accepts. Asked for others only, we encode nothing.
    pub(crate) fn accepted(header: &str) -> Option<Self> {
        let accepts = |name: &str| {
            header.split(',').any(|entry| {
                let (token, weight) = entry.split_once(';').unwrap_or((entry, ""));
                let is_refused = weight
                    .split_once("q=")
                    .is_some_and(|(_, weight)| weight.trim().parse() == Ok(0.0_f32));
                token.trim().eq_ignore_ascii_case(name) && !is_refused
            })
        };
        [Self::Gzip, Self::Deflate]
            .into_iter()
            .find(|encoding| accepts(encoding.name()))
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    fn encode(self, text: &[u8]) -> Bytes {
        let packed = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(text).and_then(|()| encoder.finish())
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(text).and_then(|()| encoder.finish())
            }
        };
        // A vector takes all that is written to it.
        packed.unwrap_or_default().into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::{GzDecoder, ZlibDecoder};

    use super::*;

    #[test]
    fn an_encoding_is_taken_from_what_is_accepted() {
        use HttpEncoding::{Deflate, Gzip};
        for (header, encoding) in [
            ("", None),
            ("identity", None),
            ("br, zstd, lz4", None),
            ("gzip", Some(Gzip)),
            ("deflate, gzip", Some(Gzip)),
            ("deflate;q=0.5,br", Some(Deflate)),
            ("GZIP ; q=0.1", Some(Gzip)),
            ("gzip;q=0, deflate", Some(Deflate)),
            ("gzip;q=0.000", None),
            ("x-gzip-like", None),
        ] {
            assert_eq!(HttpEncoding::accepted(header), encoding, "{header}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let text = b"Code: 60. DB::Exception: x";
        let mut plain = Vec::new();
        let gzip = HttpEncoding::Gzip.encode(text);
        GzDecoder::new(&gzip[..]).read_to_end(&mut plain).unwrap();
        let deflate = HttpEncoding::Deflate.encode(text);
        ZlibDecoder::new(&deflate[..])
            .read_to_end(&mut plain)
            .unwrap();
        assert_eq!(plain, [text.as_slice(), text].concat());
    }
}
