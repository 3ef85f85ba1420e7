//! A request's body: collected whole, which routing and retries need, and unpacked if it is compressed.

use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use crate::caps::ZSTD_WINDOW_BYTES_MAX;
use crate::request::pieces::HeldPieces;
use crate::request::refusal::Refusal;
use crate::setup::config::GatewayConfig;

/// Collects a request's body, and unpacks it.
pub(crate) async fn receive(
    config: &GatewayConfig,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Bytes, Refusal> {
    let bytes_max = config.body_bytes_max;
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|bytes: usize| bytes > bytes_max) {
        return Err(Refusal::body_too_large(bytes_max));
    }
    let coding = ContentCoding::of(headers)?;
    let timeout = Duration::from_millis(config.body_timeout_ms);
    let collected = tokio::time::timeout(timeout, collect(body, bytes_max)).await;
    let body = collected.map_err(|_| Refusal::body_timeout(config.body_timeout_ms))??;
    match coding {
        None => Ok(body),
        // Few bytes may take long and become many: not on the thread that serves requests.
        Some(coding) => tokio::task::spawn_blocking(move || unpack(coding, &body, bytes_max))
            .await
            .unwrap_or_else(|error| Err(Refusal::coding_broken(&error))),
    }
}

pub(crate) async fn collect(mut body: Incoming, bytes_max: usize) -> Result<Bytes, Refusal> {
    let mut held = HeldPieces::default();
    while !body.is_end_stream()
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(|error| Refusal::body_broken(&error))?;
        if let Ok(piece) = frame.into_data() {
            if held.len() + piece.len() > bytes_max {
                return Err(Refusal::body_too_large(bytes_max));
            }
            held.add(piece);
        }
    }
    Ok(held.into_bytes())
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContentCoding {
    Gzip,
    Deflate,
    Zstd,
}

impl ContentCoding {
    /// `None` for a body that is not compressed.
    fn of(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let Some(first) = headers.get(CONTENT_ENCODING) else {
            return Ok(None);
        };
        let unknown = || Refusal::coding_unknown(headers.get_all(CONTENT_ENCODING));
        if headers.get_all(CONTENT_ENCODING).iter().count() > 1 {
            return Err(unknown());
        }
        match first.as_bytes().to_ascii_lowercase().trim_ascii() {
            b"" | b"identity" => Ok(None),
            b"gzip" | b"x-gzip" => Ok(Some(Self::Gzip)),
            b"deflate" => Ok(Some(Self::Deflate)),
            b"zstd" => Ok(Some(Self::Zstd)),
            _ => Err(unknown()),
        }
    }

    fn reader(self, packed: &[u8]) -> Box<dyn Read + '_> {
        // RFC 9110 means zlib's format. Some clients leave its frame out.
        let is_zlib = packed.first().is_some_and(|first| first & 0x0f == 8);
        match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(packed)),
            Self::Deflate if is_zlib => Box::new(ZlibDecoder::new(packed)),
            Self::Deflate => Box::new(DeflateDecoder::new(packed)),
            Self::Zstd => Box::new(ZstdFrames {
                rest: packed,
                frame: None,
                decoder: new_frame_decoder(),
            }),
        }
    }
}

/// Unpacks a body, up to the same limit as for one that was not compressed.
fn unpack(coding: ContentCoding, packed: &[u8], bytes_max: usize) -> Result<Bytes, Refusal> {
    let mut body = Vec::new();
    let mut reader = coding.reader(packed).take(bytes_max as u64 + 1);
    match reader.read_to_end(&mut body) {
        Ok(read) if read > bytes_max => Err(Refusal::body_too_large(bytes_max)),
        Ok(_) => Ok(body.into()),
        Err(error) => Err(Refusal::coding_broken(&error)),
    }
}

/// The frames of a body packed by zstd, one after the other.
struct ZstdFrames<'a> {
    /// What follows the frame.
    rest: &'a [u8],
    frame: Option<StreamingDecoder<&'a [u8], FrameDecoder>>,
    /// Between two frames.
    decoder: FrameDecoder,
}

fn new_frame_decoder() -> FrameDecoder {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW_BYTES_MAX);
    decoder
}

impl Read for ZstdFrames<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(frame) = &mut self.frame else {
                if self.rest.is_empty() {
                    return Ok(0);
                }
                let decoder = std::mem::take(&mut self.decoder);
                let opened = StreamingDecoder::new_with_decoder(self.rest, decoder);
                self.frame = Some(opened.map_err(io::Error::other)?);
                continue;
            };
            let read = frame.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            let said = frame.decoder.get_checksum_from_data();
            if said.is_some() && said != frame.decoder.get_calculated_checksum() {
                return Err(io::Error::other("its checksum is wrong"));
            }
            if let Some(ended) = self.frame.take() {
                (self.rest, self.decoder) = ended.into_parts();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use weir_dialects::Family;

    use super::*;

    const CODINGS: [ContentCoding; 3] = [
        ContentCoding::Gzip,
        ContentCoding::Deflate,
        ContentCoding::Zstd,
    ];

    fn packed(coding: ContentCoding, body: &[u8]) -> Vec<u8> {
        let best = Compression::best();
        match coding {
            ContentCoding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), best);
                encoder.write_all(body).unwrap();
                encoder.finish().unwrap()
            }
            ContentCoding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), best);
                encoder.write_all(body).unwrap();
                encoder.finish().unwrap()
            }
            ContentCoding::Zstd => compress_to_vec(body, CompressionLevel::Fastest),
        }
    }

    /// The body, or the status of the refusal.
    fn unpacked(coding: ContentCoding, packed: &[u8], bytes_max: usize) -> Result<Bytes, u16> {
        let unpacked = unpack(coding, packed, bytes_max);
        unpacked.map_err(|refusal| refusal.status(Family::OpenAi).as_u16())
    }

    #[test]
    fn a_body_of_several_members_or_without_a_frame_is_unpacked() {
        for coding in [ContentCoding::Gzip, ContentCoding::Zstd] {
            let twice = [packed(coding, b"{\"a\":"), packed(coding, b"1}")].concat();
            assert_eq!(unpacked(coding, &twice, 100).unwrap(), b"{\"a\":1}"[..]);
        }
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::best());
        raw.write_all(b"{\"a\":1}").unwrap();
        let raw = raw.finish().unwrap();
        let body = unpacked(ContentCoding::Deflate, &raw, 100).unwrap();
        assert_eq!(body, b"{\"a\":1}"[..]);
    }

    #[test]
    fn a_small_body_that_becomes_a_large_one_is_too_large() {
        let zeros = vec![0; 8 << 20];
        for coding in CODINGS {
            let packed = packed(coding, &zeros);
            assert!(packed.len() < zeros.len() / 500, "{coding:?}");
            assert_eq!(unpacked(coding, &packed, zeros.len() - 1), Err(413));
            let whole = unpacked(coding, &packed, zeros.len()).unwrap();
            assert_eq!(whole.len(), zeros.len());
        }
    }

    #[test]
    fn codings_are_known_by_their_names() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, value.parse().unwrap());
            }
            let coding = ContentCoding::of(&headers);
            coding.map_err(|refusal| refusal.status(Family::OpenAi).as_u16())
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["identity"]), Ok(None));
        assert_eq!(of(&["GZIP"]), Ok(Some(ContentCoding::Gzip)));
        assert_eq!(of(&["zstd"]), Ok(Some(ContentCoding::Zstd)));
        for unknown in [&["br"][..], &["gzip, gzip"], &["gzip", "gzip"]] {
            assert_eq!(of(unknown), Err(415), "{unknown:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out_up_to_the_limit(
            body in proptest::collection::vec(0_u8..4, 0..10_000),
            bytes_max in 0_usize..10_000,
        ) {
            for coding in CODINGS {
                let expect = if body.len() > bytes_max { Err(413) } else { Ok(Bytes::from(body.clone())) };
                prop_assert_eq!(unpacked(coding, &packed(coding, &body), bytes_max), expect);
            }
        }

        #[test]
        fn changed_or_cut_bodies_are_refused_or_stay_within_the_limit(
            body in proptest::collection::vec(any::<u8>(), 0..2_000),
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<proptest::sample::Index>(),
        ) {
            for coding in CODINGS {
                let mut packed = packed(coding, &body);
                for (at, byte) in &changes {
                    let at = at.index(packed.len());
                    packed[at] = *byte;
                }
                packed.truncate(cut.index(packed.len()) + 1);
                match unpacked(coding, &packed, 4_000) {
                    Ok(unpacked) => prop_assert!(unpacked.len() <= 4_000),
                    Err(status) => prop_assert!(matches!(status, 400 | 413)),
                }
            }
        }
    }
}
