//! LZ4 frames, taken apart as they arrive.
//!
//! `lz4_flex` reads frames too, but takes one that was cut between two blocks for whole, and rows
//! that are missing must not go unnoticed. The format is that of `lz4_Frame_format.md` in lz4/lz4;
//! dictionaries, skippable frames and the legacy format are not read, checksums are passed over: the
//! connection has its own.

use bytes::{Buf, BytesMut};
use lz4_flex::block::decompress_into_with_dict;

const MAGIC: u32 = 0x184D_2204;
/// How far back a block may refer, into the blocks before it.
const WINDOW_BYTES: usize = 64 << 10;

/// A frame, or several in a row.
#[derive(Debug, Default)]
pub(crate) struct Lz4Decoder {
    pending: BytesMut,
    frame: Option<Lz4Frame>,
}

#[derive(Debug)]
struct Lz4Frame {
    block_bytes_max: usize,
    block_checksums: bool,
    content_checksum: bool,
    /// The end of what came before, if blocks may refer to it.
    window: Option<Vec<u8>>,
}

impl Lz4Decoder {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The content of the next block; None until all of it is here.
    pub(crate) fn next_block(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            let Some(frame) = &mut self.frame else {
                match Lz4Frame::read(&mut self.pending)? {
                    None => return Ok(None),
                    started => self.frame = started,
                }
                continue;
            };
            match frame.read_block(&mut self.pending)? {
                BlockRead::Nothing => return Ok(None),
                BlockRead::Block(content) => return Ok(Some(content)),
                BlockRead::End => self.frame = None,
            }
        }
    }

    /// Says whether the last frame has ended.
    pub(crate) fn finish(&self) -> Result<(), String> {
        if self.frame.is_none() && self.pending.is_empty() {
            return Ok(());
        }
        Err("it ends within an LZ4 frame".to_owned())
    }
}

enum BlockRead {
    /// More bytes are needed.
    Nothing,
    Block(Vec<u8>),
    End,
}

impl Lz4Frame {
    /// Reads a frame's header; None until it is here.
    fn read(pending: &mut BytesMut) -> Result<Option<Self>, String> {
        let Some(mut head) = pending.get(..6) else {
            return Ok(None);
        };
        if head.get_u32_le() != MAGIC {
            return Err("it is not an LZ4 frame".to_owned());
        }
        let (flags, sizes) = (head.get_u8(), head.get_u8());
        if flags >> 6 != 1 || flags & 0b11 != 0 {
            return Err("it is an LZ4 frame of another version, or with a dictionary".to_owned());
        }
        let block_bytes_max = match sizes >> 4 & 0b111 {
            size @ 4..=7 => 1 << (8 + 2 * size),
            size => return Err(format!("an LZ4 frame has the unknown block size {size}")),
        };
        let has_content_size = flags & 0b1000 != 0;
        let header_bytes = 4 + 2 + if has_content_size { 8 } else { 0 } + 1;
        if pending.len() < header_bytes {
            return Ok(None);
        }
        pending.advance(header_bytes);
        let independent = flags & 0b10_0000 != 0;
        Ok(Some(Self {
            block_bytes_max,
            block_checksums: flags & 0b1_0000 != 0,
            content_checksum: flags & 0b100 != 0,
            window: (!independent).then(Vec::new),
        }))
    }

    fn read_block(&mut self, pending: &mut BytesMut) -> Result<BlockRead, String> {
        let Some(mut head) = pending.get(..4) else {
            return Ok(BlockRead::Nothing);
        };
        let head = head.get_u32_le();
        if head == 0 {
            let end_bytes = 4 + if self.content_checksum { 4 } else { 0 };
            if pending.len() < end_bytes {
                return Ok(BlockRead::Nothing);
            }
            pending.advance(end_bytes);
            return Ok(BlockRead::End);
        }
        let (stored, length) = (head >> 31 == 1, (head & 0x7fff_ffff) as usize);
        if length > self.block_bytes_max {
            return Err("an LZ4 block is longer than its frame allows".to_owned());
        }
        let block_bytes = 4 + length + if self.block_checksums { 4 } else { 0 };
        if pending.len() < block_bytes {
            return Ok(BlockRead::Nothing);
        }
        let block = pending.split_to(block_bytes);
        let content = self.decompress(&block[4..4 + length], stored)?;
        self.remember(&content);
        Ok(BlockRead::Block(content))
    }

    fn decompress(&self, block: &[u8], stored: bool) -> Result<Vec<u8>, String> {
        if stored {
            return Ok(block.to_vec());
        }
        let mut content = vec![0; self.block_bytes_max];
        let window = self.window.as_deref().unwrap_or_default();
        let length = decompress_into_with_dict(block, &mut content, window)
            .map_err(|error| error.to_string())?;
        content.truncate(length);
        Ok(content)
    }

    fn remember(&mut self, content: &[u8]) {
        if let Some(window) = &mut self.window {
            window.extend_from_slice(content);
            let surplus = window.len().saturating_sub(WINDOW_BYTES);
            window.drain(..surplus);
        }
    }
}
