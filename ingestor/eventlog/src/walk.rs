//! Walks forwards through the frames of one segment, append by append.
//!
//! The walk itself never decides that bytes are lost: at the end of a live segment an unfinished or
//! a wrong append may simply not be there yet. It stops and returns what it saw; its caller
//! knows whether more can come, and calls [`Walk::skip_damage`] if not.

use std::fs::File;
use std::io;
use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::caps::RESYNC_WINDOW_BYTES;
use crate::files::read_at;
use crate::frame::{self, Frame, HEADER_BYTES, Parsed, Seed};

/// One event, as the walk found it.
#[derive(Debug)]
pub(crate) struct WalkedEvent {
    pub(crate) seq: u64,
    pub(crate) payload: Bytes,
    /// Where its frame begins in the segment.
    pub(crate) offset: u64,
    /// Whether it closes the stream.
    pub(crate) last: bool,
}

/// A place in a segment, and the way on from there.
#[derive(Debug)]
pub(crate) struct Walk {
    pub(crate) seed: Seed,
    /// Where the next append begins.
    pub(crate) offset: u64,
    /// The number that the next event should have.
    pub(crate) next_seq: u64,
}

/// How much a turn may bring. One append is always taken, and taken whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TurnLimit {
    pub(crate) bytes: usize,
    pub(crate) events: usize,
}

/// Why [`Walk::advance`] came to rest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It read what it was asked to read; there is more.
    Turn,
    /// The segment ends here, or in the middle of the append that begins here.
    End { leftover: u64 },
    /// The append that begins here holds a frame that is whole but wrong.
    Damaged,
}

/// Bytes that hold no good frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl Walk {
    /// Reads about as much as `limit` says, in whole appends, and shows each event to `visit`.
    pub(crate) fn advance(
        &mut self,
        file: &File,
        limit: TurnLimit,
        visit: &mut dyn FnMut(WalkedEvent),
    ) -> io::Result<Rest> {
        let mut want = limit.bytes.max(1) as u64;
        loop {
            let left = file.metadata()?.len().saturating_sub(self.offset);
            if left == 0 {
                return Ok(Rest::End { leftover: 0 });
            }
            let chunk = read_chunk(file, self.offset, left.min(want))?;
            match self.take_appends(&chunk, limit.events, visit) {
                AppendEnd::Whole => return Ok(Rest::Turn),
                AppendEnd::Damaged => return Ok(Rest::Damaged),
                AppendEnd::Unfinished { needed } if needed > left => {
                    return Ok(Rest::End { leftover: left });
                }
                // One append larger than the chunk: read it whole, however long it turns out to be.
                AppendEnd::Unfinished { needed } => want = needed.max(want.saturating_mul(2)),
            }
        }
    }

    /// Shows the events of all whole appends at the beginning of `chunk`. Says how the first ends.
    fn take_appends(
        &mut self,
        chunk: &Bytes,
        events_max: usize,
        visit: &mut dyn FnMut(WalkedEvent),
    ) -> AppendEnd {
        let mut frames = Vec::new();
        let (mut taken, mut events) = (0, 0);
        loop {
            let (bytes, end) = read_append(self.seed, &chunk[taken..], &mut frames);
            match end {
                AppendEnd::Whole => self.show(chunk, taken, &frames, visit),
                _ if taken > 0 => break,
                _ => return end,
            }
            taken += bytes;
            events += frames.len();
            if taken == chunk.len() || events >= events_max {
                break;
            }
        }
        self.offset += taken as u64;
        AppendEnd::Whole
    }

    fn show(
        &mut self,
        chunk: &Bytes,
        base: usize,
        frames: &[(usize, Frame)],
        visit: &mut dyn FnMut(WalkedEvent),
    ) {
        for (at, frame) in frames {
            let start = base + at;
            visit(WalkedEvent {
                seq: frame.seq,
                payload: chunk.slice(start + frame.payload.start..start + frame.payload.end),
                offset: self.offset + start as u64,
                last: frame.flags.last,
            });
            self.next_seq = frame.seq.saturating_add(1);
        }
    }

    /// Searches behind the bad frame at which the walk came to rest for the next good one, and goes
    /// on there. The good frames of the append before the bad one are shown: they are intact.
    ///
    /// `None` if there is no good frame behind; then nothing has changed.
    pub(crate) fn skip_damage(
        &mut self,
        file: &File,
        visit: &mut dyn FnMut(WalkedEvent),
    ) -> io::Result<Option<Damage>> {
        let broken = self.broken_append(file)?;
        let end = file.metadata()?.len();
        let bad = self.offset + broken.intact_bytes;
        let next_seq = broken
            .frames
            .last()
            .map_or(self.next_seq, |(_, frame)| frame.seq.saturating_add(1));
        let Some((found, found_seq)) = self.next_good_frame(file, bad + 1, end, next_seq)? else {
            return Ok(None);
        };
        self.show(&broken.chunk, 0, &broken.frames, visit);
        self.offset = found;
        self.next_seq = found_seq;
        Ok(Some(Damage {
            offset: bad,
            bytes: found - bad,
        }))
    }

    /// Gives up the rest of the segment, of which it is known that nothing good follows. The good
    /// frames of the append before the bad one are shown.
    pub(crate) fn skip_rest(
        &mut self,
        file: &File,
        visit: &mut dyn FnMut(WalkedEvent),
    ) -> io::Result<Damage> {
        let broken = self.broken_append(file)?;
        let end = file.metadata()?.len().max(self.offset);
        self.show(&broken.chunk, 0, &broken.frames, visit);
        let bad = self.offset + broken.intact_bytes;
        self.offset = end;
        Ok(Damage {
            offset: bad,
            bytes: end.saturating_sub(bad),
        })
    }

    /// Reads the append at which the walk came to rest up to its bad frame.
    fn broken_append(&self, file: &File) -> io::Result<BrokenAppend> {
        let left = file.metadata()?.len().saturating_sub(self.offset);
        let mut want = RESYNC_WINDOW_BYTES as u64;
        loop {
            let chunk = read_chunk(file, self.offset, left.min(want))?;
            let mut frames = Vec::new();
            let (intact_bytes, end) = read_append(self.seed, &chunk, &mut frames);
            if let AppendEnd::Unfinished { needed } = end
                && needed <= left
                && left > want
            {
                want = needed.max(want.saturating_mul(2));
                continue;
            }
            return Ok(BrokenAppend {
                chunk,
                frames,
                intact_bytes: intact_bytes as u64,
            });
        }
    }

    /// Where the first good frame at or behind `from` begins, and its number.
    fn next_good_frame(
        &self,
        file: &File,
        mut from: u64,
        end: u64,
        next_seq: u64,
    ) -> io::Result<Option<(u64, u64)>> {
        let damage_begin = from;
        while from + HEADER_BYTES as u64 <= end {
            let window = read_chunk(file, from, (end - from).min(RESYNC_WINDOW_BYTES as u64))?;
            if window.len() < HEADER_BYTES {
                break;
            }
            let reach = (from - damage_begin + window.len() as u64) / HEADER_BYTES as u64;
            let seqs = next_seq..=next_seq.saturating_add(reach);
            if let Some(found) = self.good_frame_in(file, &window, from, &seqs)? {
                return Ok(Some(found));
            }
            from += (window.len() - (HEADER_BYTES - 1)) as u64;
        }
        Ok(None)
    }

    fn good_frame_in(
        &self,
        file: &File,
        window: &Bytes,
        base: u64,
        seqs: &RangeInclusive<u64>,
    ) -> io::Result<Option<(u64, u64)>> {
        let mut from = 0;
        while let Some((at, bytes)) = frame::find_header(self.seed, window, from, seqs) {
            let offset = base + at as u64;
            let candidate = match window.get(at..at + bytes) {
                Some(_) => window.slice(at..at + bytes),
                None => read_chunk(file, offset, bytes as u64)?,
            };
            if let Parsed::Frame(frame) = frame::parse(self.seed, &candidate) {
                return Ok(Some((offset, frame.seq)));
            }
            from = at + 1;
        }
        Ok(None)
    }
}

/// An append that is not good to its end.
struct BrokenAppend {
    chunk: Bytes,
    frames: Vec<(usize, Frame)>,
    intact_bytes: u64,
}

/// How an append ends.
enum AppendEnd {
    Whole,
    /// The append needs so many bytes, if not more.
    Unfinished {
        needed: u64,
    },
    Damaged,
}

/// Reads the append that `bytes` begin with: puts its good frames into `frames`, and returns how many
/// bytes they have and what comes behind them.
fn read_append(seed: Seed, bytes: &[u8], frames: &mut Vec<(usize, Frame)>) -> (usize, AppendEnd) {
    frames.clear();
    let mut at = 0;
    loop {
        match frame::parse(seed, &bytes[at..]) {
            Parsed::Frame(frame) => {
                let begin = at;
                let more = frame.flags.more;
                at += frame.bytes();
                frames.push((begin, frame));
                if !more {
                    return (at, AppendEnd::Whole);
                }
            }
            Parsed::Unfinished { needed } => {
                let needed = at.saturating_add(needed) as u64;
                return (at, AppendEnd::Unfinished { needed });
            }
            Parsed::Damaged => return (at, AppendEnd::Damaged),
        }
    }
}

/// Reads up to `bytes` at `offset`; fewer if the file ends before.
fn read_chunk(file: &File, offset: u64, bytes: u64) -> io::Result<Bytes> {
    let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
    let mut chunk = vec![0; bytes];
    let filled = read_at(file, &mut chunk, offset)?;
    chunk.truncate(filled);
    Ok(chunk.into())
}
