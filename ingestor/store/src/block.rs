//! ClickHouse's block framing, in which clients send bodies with `decompress=1` and read them with
//! `compress=1`: a checksum, a header, and a compressed block, again and again.
//!
//! The checksum is CityHash128 as it was in version 1.0.2, over header and data; the header is one
//! byte for the method and two little-endian lengths.

use bytes::{Buf, Bytes, BytesMut};
use lz4_flex::block;

use crate::caps::BLOCK_BYTES_MAX;
use crate::error::{ServerError, code};

const CHECKSUM_LEN: usize = 16;
const HEADER_LEN: usize = 9;
const METHOD_NONE: u8 = 0x02;
const METHOD_LZ4: u8 = 0x82;
const METHOD_ZSTD: u8 = 0x90;

/// Takes blocks apart as they come in.
#[derive(Debug, Default)]
pub(crate) struct BlockDecoder {
    pending: BytesMut,
}

impl BlockDecoder {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next block's content; None until all of it is here.
    pub(crate) fn next_block(&mut self) -> Result<Option<Bytes>, ServerError> {
        let Some(header) = BlockHeader::read(&self.pending)? else {
            return Ok(None);
        };
        let end = CHECKSUM_LEN + header.compressed_len;
        if self.pending.len() < end {
            return Ok(None);
        }
        let frame = self.pending.split_to(end);
        if checksum(&frame[CHECKSUM_LEN..]) != frame[..CHECKSUM_LEN] {
            return Err(ServerError::new(
                code::CHECKSUM_DOESNT_MATCH,
                "Checksum of a compressed block doesn't match: the body was damaged on its way",
            ));
        }
        let data = frame.freeze().slice(CHECKSUM_LEN + HEADER_LEN..);
        header.decompress(data).map(Some)
    }

    /// Says whether the body ended between two blocks.
    pub(crate) fn finish(&self) -> Result<(), ServerError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        Err(corrupted("The body ends within a compressed block"))
    }
}

struct BlockHeader {
    method: u8,
    /// Length of header and data.
    compressed_len: usize,
    content_len: usize,
}

impl BlockHeader {
    fn read(frame: &[u8]) -> Result<Option<Self>, ServerError> {
        let Some(mut bytes) = frame.get(CHECKSUM_LEN..CHECKSUM_LEN + HEADER_LEN) else {
            return Ok(None);
        };
        let method = bytes.get_u8();
        let compressed_len = bytes.get_u32_le() as usize;
        let content_len = bytes.get_u32_le() as usize;
        if !(HEADER_LEN..=BLOCK_BYTES_MAX).contains(&compressed_len)
            || content_len > BLOCK_BYTES_MAX
        {
            return Err(corrupted("A compressed block has an impossible length"));
        }
        Ok(Some(Self {
            method,
            compressed_len,
            content_len,
        }))
    }

    fn decompress(&self, data: Bytes) -> Result<Bytes, ServerError> {
        match self.method {
            METHOD_NONE => Ok(data),
            METHOD_LZ4 => match block::decompress(&data, self.content_len) {
                Ok(content) if content.len() == self.content_len => Ok(content.into()),
                Ok(_) => Err(corrupted("A compressed block is shorter than it says")),
                Err(error) => Err(ServerError::new(
                    code::CANNOT_DECOMPRESS,
                    &format!("Cannot decompress a block: {error}"),
                )),
            },
            METHOD_ZSTD => Err(unknown_method("ZSTD")),
            other => Err(unknown_method(&format!("{other:#04x}"))),
        }
    }
}

/// Makes one block.
pub(crate) fn encode(content: &[u8]) -> Bytes {
    let mut frames = BytesMut::new();
    for piece in content.chunks(1 << 20) {
        let start = frames.len();
        frames.resize(start + CHECKSUM_LEN + HEADER_LEN, 0);
        frames.extend_from_slice(&block::compress(piece));
        let frame = &mut frames[start..];
        // Both lengths are below 2 MiB.
        #[expect(clippy::cast_possible_truncation, reason = "a piece is at most 1 MiB")]
        let (compressed_len, content_len) =
            ((frame.len() - CHECKSUM_LEN) as u32, piece.len() as u32);
        frame[CHECKSUM_LEN] = METHOD_LZ4;
        frame[CHECKSUM_LEN + 1..][..4].copy_from_slice(&compressed_len.to_le_bytes());
        frame[CHECKSUM_LEN + 5..][..4].copy_from_slice(&content_len.to_le_bytes());
        let checksum = checksum(&frame[CHECKSUM_LEN..]);
        frame[..CHECKSUM_LEN].copy_from_slice(&checksum);
    }
    frames.freeze()
}

fn checksum(frame: &[u8]) -> [u8; CHECKSUM_LEN] {
    // ClickHouse writes the halves in the other order.
    cityhash_rs::cityhash_102_128(frame)
        .rotate_right(64)
        .to_le_bytes()
}

fn corrupted(message: &str) -> ServerError {
    ServerError::new(code::CORRUPTED_DATA, message)
}

fn unknown_method(method: &str) -> ServerError {
    ServerError::new(
        code::UNKNOWN_COMPRESSION_METHOD,
        &format!("Blocks compressed with {method} are not understood here: use LZ4"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8], step: usize) -> Result<Vec<u8>, ServerError> {
        let mut decoder = BlockDecoder::default();
        let mut content = Vec::new();
        for piece in bytes.chunks(step) {
            decoder.push(piece);
            while let Some(block) = decoder.next_block()? {
                content.extend_from_slice(&block);
            }
        }
        decoder.finish()?;
        Ok(content)
    }

    #[test]
    fn it_writes_what_clickhouse_writes() {
        // The example of the crate `clickhouse`, made by a server.
        let content = [
            1_u8, 0, 2, 255, 255, 255, 255, 0, 1, 1, 1, 115, 6, 83, 116, 114, 105, 110, 103, 3, 97,
            98, 99,
        ];
        let frame = [
            245_u8, 5, 222, 235, 225, 158, 59, 108, 225, 31, 65, 215, 66, 66, 36, 92, 130, 34, 0,
            0, 0, 23, 0, 0, 0, 240, 8, 1, 0, 2, 255, 255, 255, 255, 0, 1, 1, 1, 115, 6, 83, 116,
            114, 105, 110, 103, 3, 97, 98, 99,
        ];
        assert_eq!(encode(&content), frame.as_slice());
        assert_eq!(decode(&frame, 7).unwrap(), content);
    }

    #[test]
    fn a_damaged_block_is_refused() {
        let mut frame = encode(b"some rows, some rows").to_vec();
        frame[30] ^= 1;
        assert_eq!(
            decode(&frame, 1000).unwrap_err().code,
            code::CHECKSUM_DOESNT_MATCH.number
        );
    }

    #[test]
    fn a_body_cut_within_a_block_is_refused() {
        let frame = encode(b"some rows");
        let error = decode(&frame[..frame.len() - 1], 1000).unwrap_err();
        assert_eq!(error.code, code::CORRUPTED_DATA.number);
    }

    #[test]
    fn a_length_out_of_bounds_asks_for_no_memory() {
        let mut frame = encode(b"x").to_vec();
        frame[CHECKSUM_LEN + 5..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(
            decode(&frame, 1000).unwrap_err().code,
            code::CORRUPTED_DATA.number
        );
    }

    proptest::proptest! {
        #[test]
        fn content_survives_any_split(content: Vec<u8>, step in 1_usize..64) {
            proptest::prop_assert_eq!(decode(&encode(&content), step).unwrap(), content);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes, 5);
        }
    }
}
