//! Bodies on their way in, whatever they are packed in.
//!
//! A body is plain, in ClickHouse's own blocks (`decompress=1`), or encoded as HTTP has it
//! (`Content-Encoding`: lz4, gzip, deflate). It is unpacked in small steps, so that a body which
//! unpacks to a thousand times its size does not take a thousand times its memory; and one that was
//! cut short is never taken for whole.

use std::fmt;
use std::io::Write;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

use crate::block::BlockDecoder;
use crate::caps::{INFLATE_BYTES, UNPACK_STEP_BYTES};
use crate::error::{ServerError, code};
use crate::lz4_frame::Lz4Decoder;

/// How a body is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Packing {
    #[default]
    Plain,
    /// ClickHouse's blocks.
    Blocks,
    Lz4,
    Gzip,
    Deflate,
}

impl Packing {
    /// What a `Content-Encoding` names.
    pub(crate) fn of_encoding(name: &str) -> Result<Self, ServerError> {
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Plain),
            "lz4" => Ok(Self::Lz4),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            _ => Err(ServerError::new(
                code::UNSUPPORTED_MEDIA_TYPE,
                &format!(
                    "Content-Encoding {name} is not understood by the embedded store, but lz4, \
                     gzip and deflate are, and LZ4 blocks with decompress=1"
                ),
            )),
        }
    }
}

/// Unpacks a body.
pub(crate) enum BodyDecoder {
    Plain,
    Blocks(BlockDecoder),
    Lz4(Lz4Decoder),
    Gzip(MultiGzDecoder<Vec<u8>>),
    Deflate(Inflater),
}

impl BodyDecoder {
    pub(crate) fn new(packing: Packing) -> Self {
        match packing {
            Packing::Plain => Self::Plain,
            Packing::Blocks => Self::Blocks(BlockDecoder::default()),
            Packing::Lz4 => Self::Lz4(Lz4Decoder::default()),
            Packing::Gzip => Self::Gzip(MultiGzDecoder::new(Vec::new())),
            Packing::Deflate => Self::Deflate(Inflater::default()),
        }
    }

    /// Unpacks the next bytes and hands on what comes out, until `take` wants no more. Says whether
    /// it still does.
    pub(crate) fn unpack(
        &mut self,
        packed: &Bytes,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<bool, ServerError> {
        if let Self::Plain = self {
            return Ok(take(packed));
        }
        for step in packed.chunks(UNPACK_STEP_BYTES) {
            if !self.unpack_step(step, take)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn unpack_step(
        &mut self,
        step: &[u8],
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<bool, ServerError> {
        match self {
            Self::Plain => Ok(take(step)),
            Self::Blocks(decoder) => {
                decoder.push(step);
                while let Some(block) = decoder.next_block()? {
                    if !take(&block) {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Lz4(decoder) => {
                decoder.push(step);
                while let Some(block) = decoder.next_block().map_err(|why| damaged(&why))? {
                    if !take(&block) {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Gzip(decoder) => {
                let written = decoder.write_all(step).and_then(|()| decoder.flush());
                written.map_err(|error| damaged(&error))?;
                let output = decoder.get_mut();
                let goes_on = output.is_empty() || take(output);
                output.clear();
                Ok(goes_on)
            }
            Self::Deflate(inflater) => inflater.unpack(step, take),
        }
    }

    /// Ends the body; hands on what was held back, and says if something is missing.
    pub(crate) fn finish(
        &mut self,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), ServerError> {
        match self {
            Self::Plain => Ok(()),
            Self::Blocks(decoder) => decoder.finish(),
            Self::Lz4(decoder) => decoder.finish().map_err(|why| damaged(&why)),
            Self::Gzip(decoder) => {
                decoder.try_finish().map_err(|error| damaged(&error))?;
                take(decoder.get_ref());
                decoder.get_mut().clear();
                Ok(())
            }
            Self::Deflate(inflater) => inflater.finish(),
        }
    }
}

/// Unpacks deflate with zlib's header. (`flate2::write::ZlibDecoder` takes a stream that was cut
/// short for whole.)
pub(crate) struct Inflater {
    state: Decompress,
    ended: bool,
}

impl Default for Inflater {
    fn default() -> Self {
        Self {
            state: Decompress::new(true),
            ended: false,
        }
    }
}

impl Inflater {
    fn unpack(
        &mut self,
        mut step: &[u8],
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<bool, ServerError> {
        let mut output = vec![0; INFLATE_BYTES];
        while !step.is_empty() {
            if self.ended {
                return Err(damaged(&"there is more behind its end"));
            }
            let (read, written) = (self.state.total_in(), self.state.total_out());
            let status = self
                .state
                .decompress(step, &mut output, FlushDecompress::None);
            self.ended = status.map_err(|error| damaged(&error))? == Status::StreamEnd;
            let count = |now: u64, before: u64| usize::try_from(now - before).unwrap_or_default();
            step = &step[count(self.state.total_in(), read)..];
            let unpacked = &output[..count(self.state.total_out(), written)];
            if !unpacked.is_empty() && !take(unpacked) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn finish(&self) -> Result<(), ServerError> {
        let ended = self.ended.then_some(());
        ended.ok_or_else(|| damaged(&"it ends too early"))
    }
}

fn damaged(why: &dyn fmt::Display) -> ServerError {
    ServerError::new(
        code::CANNOT_DECOMPRESS,
        &format!("Cannot decode the body: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

    fn unpacked(packing: Packing, packed: &[u8], step: usize) -> Result<Vec<u8>, ServerError> {
        let mut decoder = BodyDecoder::new(packing);
        let mut all = Vec::new();
        let mut take = |data: &[u8]| {
            all.extend_from_slice(data);
            true
        };
        for piece in packed.chunks(step) {
            assert!(decoder.unpack(&Bytes::copy_from_slice(piece), &mut take)?);
        }
        decoder.finish(&mut take)?;
        Ok(all)
    }

    fn packed_by<W: Write>(
        mut encoder: W,
        content: &[u8],
        finish: impl Fn(W) -> Vec<u8>,
    ) -> Vec<u8> {
        encoder.write_all(content).unwrap();
        finish(encoder)
    }

    /// The content in every packing there is, LZ4 with all that its frames can have.
    fn packed(content: &[u8]) -> Vec<(Packing, Vec<u8>)> {
        let mut all = vec![
            (Packing::Blocks, block::encode(content).to_vec()),
            (
                Packing::Gzip,
                packed_by(
                    GzEncoder::new(Vec::new(), Default::default()),
                    content,
                    |encoder| encoder.finish().unwrap(),
                ),
            ),
            (
                Packing::Deflate,
                packed_by(
                    ZlibEncoder::new(Vec::new(), Default::default()),
                    content,
                    |encoder| encoder.finish().unwrap(),
                ),
            ),
        ];
        for mode in [BlockMode::Independent, BlockMode::Linked] {
            for checksums in [false, true] {
                let frame = FrameInfo::new()
                    .block_mode(mode)
                    .block_size(BlockSize::Max64KB)
                    .block_checksums(checksums)
                    .content_checksum(checksums);
                let encoder = FrameEncoder::with_frame_info(frame, Vec::new());
                let bytes = packed_by(encoder, content, |encoder| encoder.finish().unwrap());
                all.push((Packing::Lz4, bytes));
            }
        }
        all
    }

    fn content() -> Vec<u8> {
        (0..100_000_u32)
            .flat_map(|n| (n % 777).to_string().into_bytes())
            .collect()
    }

    #[test]
    fn a_body_comes_out_as_it_was() {
        let content = content();
        assert!(unpacked(Packing::Plain, &content, 999).unwrap() == content);
        for (packing, packed) in packed(&content) {
            for step in [7, 1000, packed.len()] {
                let unpacked = unpacked(packing, &packed, step).unwrap();
                assert!(unpacked == content, "{packing:?} in steps of {step}");
            }
        }
    }

    #[test]
    fn a_body_that_is_cut_short_is_never_taken_for_whole() {
        for (packing, packed) in packed(&content()) {
            for cut in (1..packed.len())
                .step_by(297)
                .chain(packed.len() - 9..packed.len())
            {
                let unpacked = unpacked(packing, &packed[..cut], 1000);
                assert!(
                    unpacked.is_err(),
                    "{packing:?} cut at {cut} of {}",
                    packed.len()
                );
            }
        }
    }

    #[test]
    fn frames_may_follow_one_another() {
        for (packing, packed) in packed(b"1\t2\n") {
            if packing != Packing::Deflate {
                let twice = unpacked(packing, &[&packed[..], &packed].concat(), 3).unwrap();
                assert_eq!(twice, b"1\t2\n1\t2\n", "{packing:?}");
            }
        }
    }

    #[test]
    fn a_body_that_unpacks_to_very_much_is_handed_on_in_pieces() {
        let zeros = vec![0; 64 << 20];
        for (packing, packed) in packed(&zeros) {
            let mut largest = 0;
            let mut decoder = BodyDecoder::new(packing);
            let mut take = |data: &[u8]| {
                largest = largest.max(data.len());
                true
            };
            decoder.unpack(&packed.into(), &mut take).unwrap();
            assert!(
                largest <= 20 << 20,
                "{packing:?} handed on {largest} bytes at once"
            );
        }
    }

    #[test]
    fn what_nobody_speaks_is_refused() {
        assert_eq!(
            Packing::of_encoding("br").unwrap_err().code,
            code::UNSUPPORTED_MEDIA_TYPE.number
        );
        assert_eq!(Packing::of_encoding(" GZIP "), Ok(Packing::Gzip));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, valid_head: bool) {
            let head: &[u8] = if valid_head { &[4, 34, 77, 24, 0x40, 0x40, 0xc0] } else { &[] };
            let bytes = [head, &bytes].concat();
            for packing in [Packing::Blocks, Packing::Lz4, Packing::Gzip, Packing::Deflate] {
                let _ = unpacked(packing, &bytes, 5);
            }
        }
    }
}
