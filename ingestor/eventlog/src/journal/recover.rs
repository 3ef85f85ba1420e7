//! Ends the streams of writers that died.
//!
//! A process that gets the lock of a stream that is not closed knows that its writer is dead, and
//! closes the stream in its place. What stands at its end decides how:
//!
//! * An unfinished append was never acknowledged: it is cut off, and its numbers are free again.
//! * A frame that is whole but wrong, with nothing good behind it, was acknowledged once and went
//!   bad since. It stays, its number stays used, and so the loss stays visible as a gap.
//!
//! After a power failure under durability `os`, acknowledged events may be missing from the end
//! without a trace. Then the reason given is `rebooted` instead of `recovered`.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use weir_schemas::StreamId;
use weir_schemas::event::{Event, StreamClosed};

use super::Durability;
use super::append::AppendBuffer;
use crate::caps::READ_TURN_BYTES;
use crate::clock::unix_us;
use crate::files::{self, FileContext as _, FileError, HeaderState, SegmentHeader};
use crate::frame::{FrameFlags, Seed};
use crate::locked_file::LockedFile;
use crate::walk::{Rest, TurnLimit, Walk, WalkedEvent};

const TURN: TurnLimit = TurnLimit {
    bytes: READ_TURN_BYTES,
    events: usize::MAX,
};

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// Its writer lives, or another process is recovering it.
    Alive,
    /// It was closed already, or has no segment to close.
    Closed,
    Recovered {
        torn_bytes: u64,
    },
}

/// Makes the lock file of a new stream and takes it. It says under which boot and which durability
/// the stream is written.
pub(super) fn create_lock(path: &Path, durability: Durability) -> Result<LockedFile, FileError> {
    let locked = || -> io::Result<LockedFile> {
        let lock = LockedFile::try_new(files::create().truncate(true).open(path)?)?;
        let boot = boot_id();
        let (durability, pid) = (durability.name(), std::process::id());
        write!(&*lock, "boot {boot}\ndurability {durability}\npid {pid}\n")?;
        Ok(lock)
    };
    locked().context("lock stream by", path)
}

/// Leaves the hint that spares later openings of the journal a look at the stream's last segment.
pub(super) fn mark_closed(stream_dir: &Path) {
    let path = stream_dir.join(files::STREAM_CLOSED);
    if let Err(error) = files::create().open(&path) {
        tracing::warn!(path = %path.display(), %error, "failed to mark a closed stream");
    }
}

/// Notes a seal that was written, so that a journal which has lost its end shows the loss.
pub(super) fn note_sealed(stream_dir: &Path, seq: u64) {
    let path = stream_dir.join(files::STREAM_SEALED);
    let noted = files::create().open(&path);
    let noted = noted.and_then(|file| file.write_all_at(&seq.to_le_bytes(), 0));
    if let Err(error) = noted {
        tracing::warn!(path = %path.display(), %error, "failed to note a seal");
    }
}

/// The last seal that was written; 0 if none was.
fn last_sealed(stream_dir: &Path) -> u64 {
    let noted = fs::read(stream_dir.join(files::STREAM_SEALED)).unwrap_or_default();
    noted
        .first_chunk()
        .map_or(0, |seq| u64::from_le_bytes(*seq))
}

/// The number of the last event of a stream; `None` if the journal has nothing of it any more.
pub fn last_seq(journal: &Path, stream: StreamId) -> Result<Option<u64>, FileError> {
    let dir = files::stream_dir(journal, stream);
    let Some(first_seq) = files::list_segments(&dir)?.pop() else {
        return Ok(None);
    };
    let path = files::segment_path(&dir, first_seq);
    let file = File::open(&path).context("open", &path)?;
    let tail = read_tail(&file, SegmentHeader { stream, first_seq }).context("read", &path)?;
    Ok(tail.next_seq.checked_sub(1))
}

/// Closes the stream if its writer is dead and did not.
pub(crate) fn recover(journal: &Path, stream: StreamId) -> Result<Recovery, FileError> {
    let dir = files::stream_dir(journal, stream);
    if dir.join(files::STREAM_CLOSED).exists() {
        return Ok(Recovery::Closed);
    }
    recover_unmarked(&dir, stream)
}

/// The same, without believing the hint that the stream is closed.
pub(crate) fn recover_unmarked(dir: &Path, stream: StreamId) -> Result<Recovery, FileError> {
    let lock_path = dir.join(files::STREAM_LOCK);
    let lock = files::create()
        .read(true)
        .open(&lock_path)
        .context("open", &lock_path)?;
    let lock = match LockedFile::try_new(lock) {
        Ok(lock) => lock,
        Err(TryLockError::WouldBlock) => return Ok(Recovery::Alive),
        Err(TryLockError::Error(error)) => return Err(error).context("lock", &lock_path),
    };
    let Some(first_seq) = files::list_segments(dir)?.pop() else {
        return Ok(Recovery::Closed);
    };
    let path = files::segment_path(dir, first_seq);
    let header = SegmentHeader { stream, first_seq };
    let closed = close(
        &path,
        header,
        died_with_the_machine(&lock),
        last_sealed(dir),
    );
    match closed.context("recover", &path)? {
        None => {
            mark_closed(dir);
            Ok(Recovery::Closed)
        }
        Some(torn_bytes) => {
            files::sync_dir(dir)?;
            mark_closed(dir);
            tracing::info!(%stream, torn_bytes, "closed the stream of a dead writer");
            Ok(Recovery::Recovered { torn_bytes })
        }
    }
}

/// Whether the machine went down while the stream was open and nothing had been promised.
fn died_with_the_machine(mut lock: &File) -> bool {
    let mut text = String::new();
    if lock.read_to_string(&mut text).is_err() {
        return false;
    }
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_default().trim()
    };
    value("durability") == Durability::Os.name() && value("boot") != boot_id()
}

/// A new one each time the machine starts; empty where the system has none.
fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// What stands at the end of a stream's last segment.
#[derive(Debug)]
struct Tail {
    closed: bool,
    /// Where the next frame belongs.
    end: u64,
    next_seq: u64,
    torn_bytes: u64,
}

/// Returns how many bytes of an unfinished append were cut off; `None` if it was closed already.
///
/// Events that were sealed and are not there were acknowledged: their numbers stay used.
fn close(
    path: &Path,
    header: SegmentHeader,
    rebooted: bool,
    last_sealed: u64,
) -> io::Result<Option<u64>> {
    let file = files::create().read(true).open(path)?;
    let tail = match header.read(&file)? {
        HeaderState::Whole | HeaderState::Damaged => read_tail(&file, header)?,
        // The writer died before the header was whole; then there is no event either.
        HeaderState::Unfinished { bytes } => {
            file.write_all_at(&header.encode(), 0)?;
            Tail {
                closed: false,
                end: SegmentHeader::BYTES as u64,
                next_seq: header.first_seq,
                torn_bytes: bytes as u64,
            }
        }
    };
    if tail.closed {
        return Ok(None);
    }
    let closed = Event::StreamClosed(StreamClosed {
        ts_us: unix_us().into(),
        reason: if rebooted { "rebooted" } else { "recovered" },
        torn_bytes: tail.torn_bytes.into(),
    });
    if last_sealed >= tail.next_seq {
        let (stream, first) = (header.stream, tail.next_seq);
        tracing::error!(%stream, first, last = last_sealed, "events are missing at the end of a stream");
    }
    let mut buffer = AppendBuffer::new(header.stream);
    let seq = tail.next_seq.max(last_sealed.saturating_add(1));
    let written = buffer.put(&closed, seq, FrameFlags::LAST);
    written.map_err(io::Error::other)?;
    file.set_len(tail.end)?;
    file.write_all_at(&buffer.bytes, tail.end)?;
    file.sync_data()?;
    Ok(Some(tail.torn_bytes))
}

fn read_tail(file: &File, header: SegmentHeader) -> io::Result<Tail> {
    let mut walk = Walk {
        seed: Seed::of(header.stream),
        offset: SegmentHeader::BYTES as u64,
        next_seq: header.first_seq,
    };
    let mut closed = false;
    let mut visit = |found: WalkedEvent| closed |= found.last;
    let mut torn_bytes = 0;
    loop {
        let rest = walk.advance(file, TURN, &mut visit)?;
        match rest {
            Rest::Turn => continue,
            Rest::End { leftover: 0 } => break,
            Rest::End { .. } | Rest::Damaged => {}
        }
        if walk.skip_damage(file, &mut visit)?.is_some() {
            continue;
        }
        match rest {
            Rest::End { leftover } => torn_bytes = leftover,
            _ => {
                walk.skip_rest(file, &mut visit)?;
                walk.next_seq += 1;
            }
        }
        break;
    }
    Ok(Tail {
        closed,
        end: walk.offset,
        next_seq: walk.next_seq,
        torn_bytes,
    })
}
