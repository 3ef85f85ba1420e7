//! One event on disk: how it is framed, and how a reader tells a whole frame from an unfinished or
//! a damaged one.
//!
//! ```text
//! 0        4       12              16               20
//! ├────────┼───────┼───────────────┼────────────────┼───────────────┤
//! │ length │  seq  │ checksum of   │ checksum of    │  payload …    │   little-endian
//! │        │       │ length and seq│ all of it      │               │
//! └────────┴───────┴───────────────┴────────────────┴───────────────┘
//! ```
//!
//! The two highest bits of `length` are flags. [`FrameFlags::more`]: further frames of the same append
//! follow, and the append counts only as a whole. [`FrameFlags::last`]: the stream ends here.
//!
//! The header has a checksum of its own because only a header that can be trusted tells a frame
//! that is not there to its end, and was never acknowledged, from one that went bad. The checksums
//! are CRC32C and begin with the stream's id, so a frame that strays into another stream's file is
//! damaged there.
//!
//! Everything here is pure.

use std::ops::{Range, RangeInclusive};

use weir_schemas::StreamId;

use crate::caps::PAYLOAD_BYTES_MAX;

pub(crate) const HEADER_BYTES: usize = 20;

/// Where the header's fields end.
const SEQ_END: usize = 12;
const HEADER_CHECKSUM_END: usize = 16;

const MORE: u32 = 1 << 31;
const LAST: u32 = 1 << 30;
const LENGTH: u32 = LAST - 1;

/// What a frame says besides its event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FrameFlags {
    /// Further frames of the same append follow.
    pub(crate) more: bool,
    /// Nothing follows: the stream is closed.
    pub(crate) last: bool,
}

impl FrameFlags {
    pub(crate) const MORE: Self = Self {
        more: true,
        last: false,
    };
    pub(crate) const LAST: Self = Self {
        more: false,
        last: true,
    };
}

/// The stream's share of every checksum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn of(stream: StreamId) -> Self {
        Self(crc32c::crc32c(stream.as_bytes()))
    }

    /// The checksums of a header and of the payload that belongs to it.
    fn header_checksum(self, length_and_seq: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, length_and_seq)
    }
}

fn payload_checksum(header_checksum: u32, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(header_checksum, payload)
}

/// The payload does not fit into a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge {
    pub(crate) bytes: usize,
}

/// Makes room for a header at the end of `out`. The payload goes behind it, then [`finish`].
pub(crate) fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    start
}

/// Fills in the header of the frame that began at `start` and reaches to the end of `out`.
pub(crate) fn finish(
    out: &mut [u8],
    start: usize,
    seed: Seed,
    seq: u64,
    flags: FrameFlags,
) -> Result<(), TooLarge> {
    let bytes = out.len() - start - HEADER_BYTES;
    let length = u32::try_from(bytes).unwrap_or(u32::MAX);
    if bytes > PAYLOAD_BYTES_MAX {
        return Err(TooLarge { bytes });
    }
    let more = if flags.more { MORE } else { 0 };
    let last = if flags.last { LAST } else { 0 };
    let length = length | more | last;

    let frame = &mut out[start..];
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..SEQ_END].copy_from_slice(&seq.to_le_bytes());
    let header = seed.header_checksum(&frame[..SEQ_END]);
    let payload = payload_checksum(header, &frame[HEADER_BYTES..]);
    frame[SEQ_END..HEADER_CHECKSUM_END].copy_from_slice(&header.to_le_bytes());
    frame[HEADER_CHECKSUM_END..HEADER_BYTES].copy_from_slice(&payload.to_le_bytes());
    Ok(())
}

/// A whole, undamaged frame at the beginning of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) seq: u64,
    pub(crate) flags: FrameFlags,
    /// Where the payload lies, counted from the frame's first byte.
    pub(crate) payload: Range<usize>,
}

impl Frame {
    pub(crate) fn bytes(&self) -> usize {
        self.payload.end
    }
}

/// What some bytes begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    Frame(Frame),
    /// As far as one can see, a frame whose end is not there. It needs so many bytes in all.
    /// Zeros are room that was not written to, so they are the beginning of any frame.
    Unfinished {
        needed: usize,
    },
    Damaged,
}

/// A header whose checksum is right.
struct FrameHeader {
    payload_bytes: usize,
    flags: FrameFlags,
    seq: u64,
    checksum: u32,
    payload_checksum: u32,
}

fn parse_header(seed: Seed, bytes: &[u8; HEADER_BYTES]) -> Option<FrameHeader> {
    let [a, b, c, d, rest @ ..] = bytes;
    let length = u32::from_le_bytes([*a, *b, *c, *d]);
    let (seq, rest) = rest.split_first_chunk::<8>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let payload_checksum = rest.first_chunk::<4>()?;

    let checksum = u32::from_le_bytes(*checksum);
    let payload_bytes = (length & LENGTH) as usize;
    let right = seed.header_checksum(&bytes[..SEQ_END]) == checksum;
    (right && payload_bytes <= PAYLOAD_BYTES_MAX).then(|| FrameHeader {
        payload_bytes,
        flags: FrameFlags {
            more: length & MORE != 0,
            last: length & LAST != 0,
        },
        seq: u64::from_le_bytes(*seq),
        checksum,
        payload_checksum: u32::from_le_bytes(*payload_checksum),
    })
}

/// Reads the frame that `bytes` begin with.
pub(crate) fn parse(seed: Seed, bytes: &[u8]) -> Parsed {
    let Some(first) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Parsed::Unfinished {
            needed: HEADER_BYTES,
        };
    };
    if *first == [0; HEADER_BYTES] {
        return Parsed::Unfinished { needed: usize::MAX };
    }
    let Some(header) = parse_header(seed, first) else {
        return Parsed::Damaged;
    };
    let needed = HEADER_BYTES + header.payload_bytes;
    let Some(payload) = bytes.get(HEADER_BYTES..needed) else {
        return Parsed::Unfinished { needed };
    };
    if payload_checksum(header.checksum, payload) != header.payload_checksum {
        return Parsed::Damaged;
    }
    Parsed::Frame(Frame {
        seq: header.seq,
        flags: header.flags,
        payload: HEADER_BYTES..needed,
    })
}

/// Where in `bytes` a header stands of a frame with one of `seqs`, and how many bytes that frame
/// has.
///
/// The sequence number makes the search cheap: behind damage of n bytes, at most n/20 numbers can
/// be missing, so hardly a checksum is ever calculated in vain.
pub(crate) fn find_header(
    seed: Seed,
    bytes: &[u8],
    from: usize,
    seqs: &RangeInclusive<u64>,
) -> Option<(usize, usize)> {
    (from..bytes.len().saturating_sub(HEADER_BYTES - 1)).find_map(|at| {
        let bytes = bytes[at..].first_chunk::<HEADER_BYTES>()?;
        let seq = u64::from_le_bytes(*bytes[4..].first_chunk()?);
        if !seqs.contains(&seq) {
            return None;
        }
        let header = parse_header(seed, bytes)?;
        Some((at, HEADER_BYTES + header.payload_bytes))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seed() -> Seed {
        Seed::of(StreamId::from_bytes([7; 16]))
    }

    fn frame(seq: u64, flags: FrameFlags, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let start = begin(&mut out);
        out.extend_from_slice(payload);
        finish(&mut out, start, seed(), seq, flags).unwrap();
        out
    }

    proptest! {
        #[test]
        fn a_frame_reads_back_and_every_cut_of_it_is_unfinished(
            seq: u64, more: bool, last: bool, payload: Vec<u8>,
        ) {
            let flags = FrameFlags { more, last };
            let bytes = frame(seq, flags, &payload);
            let Parsed::Frame(read) = parse(seed(), &bytes) else {
                panic!("not a frame");
            };
            prop_assert_eq!((read.seq, read.flags), (seq, flags));
            prop_assert_eq!(&bytes[read.payload.clone()], payload.as_slice());
            prop_assert_eq!(read.bytes(), bytes.len());
            for cut in 0..bytes.len() {
                let unfinished = matches!(parse(seed(), &bytes[..cut]), Parsed::Unfinished { .. });
                prop_assert!(unfinished, "cut at {}", cut);
            }
        }

        #[test]
        fn a_flipped_bit_is_damage_and_never_looks_like_an_unfinished_frame(
            payload in proptest::collection::vec(any::<u8>(), 0..64), seq: u64, bit: prop::sample::Index,
        ) {
            let mut bytes = frame(seq, FrameFlags::default(), &payload);
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(parse(seed(), &bytes), Parsed::Damaged);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _ = parse(seed(), &bytes);
            let _ = find_header(seed(), &bytes, 0, &(0..=u64::MAX));
        }
    }

    #[test]
    fn a_frame_of_another_stream_is_damaged() {
        let bytes = frame(1, FrameFlags::default(), b"event");
        let other = Seed::of(StreamId::from_bytes([8; 16]));
        assert_eq!(parse(other, &bytes), Parsed::Damaged);
    }

    #[test]
    fn a_payload_beyond_the_limit_is_refused() {
        let mut out = Vec::new();
        let start = begin(&mut out);
        out.resize(HEADER_BYTES + PAYLOAD_BYTES_MAX + 1, 0);
        let refused = finish(&mut out, start, seed(), 1, FrameFlags::default());
        let bytes = PAYLOAD_BYTES_MAX + 1;
        assert_eq!(refused, Err(TooLarge { bytes }));
    }

    #[test]
    fn the_search_finds_a_frame_behind_garbage_and_ignores_implausible_numbers() {
        let mut bytes = vec![0xEE; 37];
        bytes.extend(frame(900, FrameFlags::default(), b"stray"));
        let wanted = bytes.len();
        bytes.extend(frame(12, FrameFlags::default(), b"event"));
        let found = find_header(seed(), &bytes, 0, &(10..=20)).unwrap();
        assert_eq!(found, (wanted, HEADER_BYTES + 5));
        assert!(matches!(parse(seed(), &bytes[found.0..]), Parsed::Frame(_)));
    }
}
