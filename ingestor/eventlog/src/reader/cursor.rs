//! How far the journal has been read and committed, kept in a small file.
//!
//! ```text
//! weir cursor 1
//! 01890c5e-…-…  00000000000000048213  1048616  50993  open
//! checksum 9ae0daaf
//! ```
//!
//! A line per stream: the segment and the offset in it where reading goes on, the number of the
//! next event, and whether the stream was read to its end. The file is replaced as a whole. Should
//! it be damaged all the same, reading begins at the first segment that is still there; what is
//! given twice by that is recognised by its (stream, seq).

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use weir_schemas::StreamId;

use crate::files::{self, FileContext as _, FileError, if_exists};
use crate::progress::{StreamPosition, StreamPositions};
use crate::replace::{Fsync, replace_file};

const TITLE: &str = "weir cursor 1";

#[derive(Debug, Default)]
pub(crate) struct JournalCursor {
    positions: StreamPositions,
}

impl JournalCursor {
    pub(crate) fn load(journal: &Path) -> Result<Self, FileError> {
        let path = journal.join(files::CURSOR);
        let Some(bytes) = if_exists(fs::read(&path)).context("read", &path)? else {
            return Ok(Self::default());
        };
        let positions = parse(&bytes).unwrap_or_else(|| {
            let path = path.display();
            tracing::error!(%path, "failed to read the cursor, it is damaged: the journal is read again from its beginning");
            StreamPositions::new()
        });
        Ok(Self { positions })
    }

    pub(crate) fn position(&self, stream: StreamId) -> Option<StreamPosition> {
        self.positions.get(&stream).copied()
    }

    /// Takes over the positions that are further on, and returns their streams.
    pub(crate) fn advance(&mut self, positions: &StreamPositions) -> Vec<StreamId> {
        let mut moved = Vec::new();
        for (stream, position) in positions {
            let place =
                |position: &StreamPosition| (position.segment, position.offset, position.finished);
            let known = self.positions.get(stream);
            if known.is_none_or(|known| place(known) < place(position)) {
                self.positions.insert(*stream, *position);
                moved.push(*stream);
            }
        }
        moved
    }

    pub(crate) fn forget(&mut self, stream: StreamId) {
        self.positions.remove(&stream);
    }

    /// Forgets streams that are not there any more. Both are sorted.
    pub(crate) fn keep_only(&mut self, streams: &[StreamId]) {
        self.positions
            .retain(|stream, _| streams.binary_search(stream).is_ok());
    }

    /// Replaces the file, so that after a crash either the old or the new one is there.
    pub(crate) fn store(&self, journal: &Path) -> Result<(), FileError> {
        let path = journal.join(files::CURSOR);
        replace_file(&path, Fsync::FileAndDirectory, |file| {
            file.write_all(self.to_text().as_bytes())
        })
        .context("store", &path)?;
        Ok(())
    }

    fn to_text(&self) -> String {
        let mut text = format!("{TITLE}\n");
        for (stream, at) in &self.positions {
            let state = if at.finished { "finished" } else { "open" };
            let (segment, offset, next_seq) = (at.segment, at.offset, at.next_seq);
            let _ = writeln!(text, "{stream} {segment:020} {offset} {next_seq} {state}");
        }
        let checksum = crc32c::crc32c(text.as_bytes());
        let _ = writeln!(text, "checksum {checksum:08x}");
        text
    }
}

fn parse(bytes: &[u8]) -> Option<StreamPositions> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (body, checksum) = text.strip_suffix('\n')?.rsplit_once("checksum ")?;
    let checksum = u32::from_str_radix(checksum, 16).ok()?;
    if crc32c::crc32c(body.as_bytes()) != checksum {
        return None;
    }
    let mut lines = body.lines();
    if lines.next()? != TITLE {
        return None;
    }
    lines.map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<(StreamId, StreamPosition)> {
    let mut words = line.split(' ');
    let stream = words.next()?.parse().ok()?;
    let position = StreamPosition {
        segment: words.next()?.parse().ok()?,
        offset: words.next()?.parse().ok()?,
        next_seq: words.next()?.parse().ok()?,
        finished: match words.next()? {
            "open" => false,
            "finished" => true,
            _ => return None,
        },
    };
    words.next().is_none().then_some((stream, position))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions() -> StreamPositions {
        let position = |offset, finished| StreamPosition {
            segment: 48_213,
            offset,
            next_seq: 50_993,
            finished,
        };
        StreamPositions::from([
            (StreamId::new(1, [1; 10]), position(1000, false)),
            (StreamId::new(2, [2; 10]), position(2000, true)),
        ])
    }

    #[test]
    fn a_cursor_reads_back_as_it_was_stored() {
        let dir = tempfile::tempdir().unwrap();
        let cursor = JournalCursor {
            positions: positions(),
        };
        cursor.store(dir.path()).unwrap();
        assert_eq!(
            JournalCursor::load(dir.path()).unwrap().positions,
            positions()
        );
    }

    #[test]
    fn a_damaged_cursor_is_refused_whatever_bit_is_wrong() {
        let text = JournalCursor {
            positions: positions(),
        }
        .to_text()
        .into_bytes();
        assert_eq!(parse(&text), Some(positions()));
        for cut in 0..text.len() {
            assert_eq!(parse(&text[..cut]), None, "cut at {cut}");
        }
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // The checksum may be spelled in capitals; that is the one harmless flip.
            assert!(
                parse(&flipped).is_none_or(|read| read == positions()),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn a_mark_never_moves_back() {
        let mut cursor = JournalCursor::default();
        assert_eq!(cursor.advance(&positions()).len(), 2);
        assert!(cursor.advance(&positions()).is_empty());
        let stream = StreamId::new(1, [1; 10]);
        let earlier = StreamPosition {
            offset: 10,
            ..positions()[&stream]
        };
        assert!(
            cursor
                .advance(&StreamPositions::from([(stream, earlier)]))
                .is_empty()
        );
        assert_eq!(cursor.position(stream), Some(positions()[&stream]));
    }
}
