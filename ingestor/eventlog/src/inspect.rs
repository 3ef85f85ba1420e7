//! Looking for what is wrong with a journal, without changing it.
//!
//! What was read and committed is not looked at: it is stored. An append that a writer has not finished is
//! no fault, whether it lives or not: it was never acknowledged.

use std::fs::File;
use std::path::{Path, PathBuf};

use weir_schemas::StreamId;

use crate::caps::{READ_STUCK, READ_TURN_BYTES};
use crate::files::{self, FileContext as _, FileError, HeaderState, SegmentHeader};
use crate::frame::Seed;
use crate::progress::StreamPosition;
use crate::reader::JournalCursor;
use crate::walk::{Rest, TurnLimit, Walk, WalkedEvent};

const TURN: TurnLimit = TurnLimit {
    bytes: READ_TURN_BYTES,
    events: usize::MAX,
};

/// Bytes that were acknowledged and are not as they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalFault {
    pub path: PathBuf,
    /// Where it begins in the file.
    pub offset: u64,
    pub what: String,
}

/// Everything that is wrong with a journal.
pub fn inspect_journal(journal: &Path) -> Result<Vec<JournalFault>, FileError> {
    let mut faults = Vec::new();
    for stream in files::list_streams(journal)? {
        let mut position = JournalCursor::load(journal)?.position(stream);
        loop {
            let mut found = Vec::new();
            if position.is_none_or(|position| !position.finished) {
                inspect_stream(journal, stream, position, &mut found)?;
            }
            // A reader may have gone on meanwhile, and deleted what was missed here.
            let now = JournalCursor::load(journal)?.position(stream);
            if found.is_empty() || now == position {
                faults.append(&mut found);
                break;
            }
            position = now;
        }
    }
    Ok(faults)
}

fn inspect_stream(
    journal: &Path,
    stream: StreamId,
    position: Option<StreamPosition>,
    faults: &mut Vec<JournalFault>,
) -> Result<(), FileError> {
    let dir = files::stream_dir(journal, stream);
    let read_segment = position.map_or(0, |position| position.segment);
    let mut segments = files::list_segments(&dir)?;
    segments.retain(|segment| *segment >= read_segment);
    let mut expected = position.map_or(1, |position| position.next_seq);
    let last = segments.last().copied();
    for first_seq in segments {
        let path = files::segment_path(&dir, first_seq);
        let read = position.filter(|position| position.segment == first_seq);
        if read.is_none() && first_seq > expected {
            faults.push(JournalFault {
                path: path.clone(),
                offset: 0,
                what: format!(
                    "events {expected} to {} before it are missing",
                    first_seq - 1
                ),
            });
        }
        // A reader may have deleted it meanwhile: then it is stored.
        let Some(file) = files::if_exists(File::open(&path)).context("open", &path)? else {
            continue;
        };
        let segment = CheckedSegment {
            header: SegmentHeader { stream, first_seq },
            path: &path,
            file: &file,
            is_last: Some(first_seq) == last,
        };
        let inspected = segment.inspect(read, faults);
        expected = inspected.context("read", &path)?;
    }
    Ok(())
}

struct CheckedSegment<'a> {
    header: SegmentHeader,
    path: &'a Path,
    file: &'a File,
    is_last: bool,
}

impl CheckedSegment<'_> {
    /// Returns the number that the event behind it has.
    fn inspect(
        &self,
        read: Option<StreamPosition>,
        faults: &mut Vec<JournalFault>,
    ) -> std::io::Result<u64> {
        let mut fault = |offset, what: String| {
            let path = self.path.to_owned();
            faults.push(JournalFault { path, offset, what });
        };
        if self.header.read(self.file)? == HeaderState::Damaged {
            fault(0, "its header is damaged".to_owned());
        }
        let length = self.file.metadata()?.len();
        let mut walk = Walk {
            seed: Seed::of(self.header.stream),
            offset: read.map_or(SegmentHeader::BYTES as u64, |read| read.offset),
            next_seq: read.map_or(self.header.first_seq, |read| read.next_seq),
        };
        if length < walk.offset {
            if read.is_some() {
                let what = format!("it ends here, and was read up to byte {}", walk.offset);
                fault(length, what);
            }
            return Ok(walk.next_seq);
        }
        let mut nobody = |_: WalkedEvent| {};
        let mut may_be_under_way = self.is_last;
        loop {
            let rest = walk.advance(self.file, TURN, &mut nobody)?;
            match rest {
                Rest::Turn => continue,
                Rest::End { leftover: 0 } => return Ok(walk.next_seq),
                Rest::End { .. } | Rest::Damaged => {}
            }
            if rest == Rest::Damaged && std::mem::take(&mut may_be_under_way) {
                std::thread::sleep(READ_STUCK);
                continue;
            }
            let expected = walk.next_seq;
            if let Some(damage) = walk.skip_damage(self.file, &mut nobody)? {
                let events = walk.next_seq.saturating_sub(expected);
                let bytes = damage.bytes;
                fault(
                    damage.offset,
                    format!("{bytes} bytes are damaged, up to {events} events"),
                );
                continue;
            }
            let is_unfinished = self.is_last && rest != Rest::Damaged;
            if !is_unfinished {
                let damage = walk.skip_rest(self.file, &mut nobody)?;
                fault(
                    damage.offset,
                    format!("{} bytes at its end are damaged", damage.bytes),
                );
            }
            return Ok(walk.next_seq);
        }
    }
}
