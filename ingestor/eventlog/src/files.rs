//! Names, headers and durable operations of the journal's files. The crate's page draws them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use weir_schemas::StreamId;

use crate::replace;

pub(crate) const STREAM_LOCK: &str = "lock";
pub(crate) const STREAM_CLOSED: &str = "closed";
pub(crate) const STREAM_SEALED: &str = "sealed";
pub(crate) const CURSOR: &str = "cursor";
pub(crate) const READER_LOCK: &str = "reader.lock";
pub(crate) const HOLD: &str = "hold.lock";
pub(crate) const UNFINISHED: &str = ".new-";
pub(crate) const GONE: &str = ".gone-";
const SEGMENT: &str = ".seg";

/// A file operation failed: what was being done, on which file, and why.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}: {source}", path.display())]
pub struct FileError {
    pub action: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

/// Gives an I/O result its context.
pub(crate) trait FileContext<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T> FileContext<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|source| FileError {
            action,
            path: path.to_owned(),
            source,
        })
    }
}

/// `None` where the file is simply not there.
pub(crate) fn if_exists<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn stream_dir(journal: &Path, stream: StreamId) -> PathBuf {
    journal.join(stream.to_string())
}

pub(crate) fn unfinished_stream_dir(journal: &Path, stream: StreamId) -> PathBuf {
    journal.join(format!("{UNFINISHED}{stream}"))
}

pub(crate) fn gone_stream_dir(journal: &Path, stream: StreamId) -> PathBuf {
    journal.join(format!("{GONE}{stream}"))
}

pub(crate) fn segment_path(stream_dir: &Path, first_seq: u64) -> PathBuf {
    stream_dir.join(format!("{first_seq:020}{SEGMENT}"))
}

/// The streams of a journal, oldest first.
pub(crate) fn list_streams(journal: &Path) -> Result<Vec<StreamId>, FileError> {
    let mut streams = Vec::new();
    for_each_name(journal, |name| streams.extend(name.parse::<StreamId>()))?;
    streams.sort_unstable();
    Ok(streams)
}

/// The directories of a journal whose names begin with `prefix`.
pub(crate) fn list_prefixed(journal: &Path, prefix: &str) -> Result<Vec<PathBuf>, FileError> {
    let mut found = Vec::new();
    for_each_name(journal, |name| {
        if name.starts_with(prefix) {
            found.push(journal.join(name));
        }
    })?;
    Ok(found)
}

/// First sequence numbers of a stream's segments, in order. A stream that is not there has none.
pub(crate) fn list_segments(stream_dir: &Path) -> Result<Vec<u64>, FileError> {
    let mut segments = Vec::new();
    let listed = for_each_name(stream_dir, |name| {
        let number = name.strip_suffix(SEGMENT);
        segments.extend(number.and_then(|number| number.parse::<u64>().ok()));
    });
    if let Err(error) = listed
        && error.source.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    segments.sort_unstable();
    Ok(segments)
}

fn for_each_name(dir: &Path, mut visit: impl FnMut(&str)) -> Result<(), FileError> {
    for entry in fs::read_dir(dir).context("list", dir)? {
        let entry = entry.context("list", dir)?;
        if let Some(name) = entry.file_name().to_str() {
            visit(name);
        }
    }
    Ok(())
}

/// Makes a directory that only this user may read: events name users and keys.
pub(crate) fn create_dir(path: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .context("create directory", path)
}

/// Options under which all files of the journal are created.
pub(crate) fn create() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

/// Makes the entries of a directory survive a power failure.
pub(crate) fn sync_dir(path: &Path) -> Result<(), FileError> {
    replace::sync_dir(path).context("sync directory", path)
}

/// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The first bytes of a segment.
///
/// ```text
/// 0        8         12         16       32          40
/// ├────────┼─────────┼──────────┼────────┼───────────┤
/// │ magic  │ version │ checksum │ stream │ first seq │   little-endian
/// └────────┴─────────┴──────────┴────────┴───────────┘
/// ```
///
/// The checksum covers everything but itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) stream: StreamId,
    pub(crate) first_seq: u64,
}

const MAGIC: [u8; 8] = *b"weir.seg";
const VERSION: u32 = 1;

/// What the beginning of a segment is like.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderState {
    Whole,
    /// Only so many bytes of it are there.
    Unfinished {
        bytes: usize,
    },
    Damaged,
}

/// A later program wrote the segment.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has format version {0}, which is newer than this program")]
struct LaterVersion(u32);

impl SegmentHeader {
    pub(crate) const BYTES: usize = 40;

    pub(crate) fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(self.stream.as_bytes());
        bytes[32..].copy_from_slice(&self.first_seq.to_le_bytes());
        let checksum = Self::checksum(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads whether the file begins as the segment that its directory and name say it is.
    pub(crate) fn read(self, file: &File) -> io::Result<HeaderState> {
        let mut bytes = [0; Self::BYTES];
        let count = read_at(file, &mut bytes, 0)?;
        self.check(&bytes[..count]).map_err(io::Error::other)
    }

    fn check(self, bytes: &[u8]) -> Result<HeaderState, LaterVersion> {
        let Some(whole) = bytes.first_chunk::<{ Self::BYTES }>() else {
            let bytes = bytes.len();
            return Ok(HeaderState::Unfinished { bytes });
        };
        if *whole == self.encode() {
            return Ok(HeaderState::Whole);
        }
        let mut version = [0; 4];
        version.copy_from_slice(&whole[8..12]);
        let version = u32::from_le_bytes(version);
        let good = whole[..8] == MAGIC && whole[12..16] == Self::checksum(whole).to_le_bytes();
        if good && version > VERSION {
            return Err(LaterVersion(version));
        }
        Ok(HeaderState::Damaged)
    }

    fn checksum(bytes: &[u8; Self::BYTES]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            stream: StreamId::from_bytes([9; 16]),
            first_seq: 17,
        }
    }

    #[test]
    fn a_header_is_accepted_only_whole_and_for_its_own_segment() {
        let bytes = header().encode();
        assert_eq!(header().check(&bytes), Ok(HeaderState::Whole));
        for cut in 0..bytes.len() {
            let unfinished = HeaderState::Unfinished { bytes: cut };
            assert_eq!(header().check(&bytes[..cut]), Ok(unfinished));
        }
        let renamed = SegmentHeader {
            first_seq: 18,
            ..header()
        };
        assert_eq!(renamed.check(&bytes), Ok(HeaderState::Damaged));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(header().check(&flipped), Ok(HeaderState::Damaged));
        }
    }

    #[test]
    fn a_later_format_is_told_apart_from_damage() {
        let mut bytes = header().encode();
        bytes[8..12].copy_from_slice(&2_u32.to_le_bytes());
        let checksum = SegmentHeader::checksum(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(header().check(&bytes), Err(LaterVersion(2)));
    }

    #[test]
    fn names_in_the_directory_are_recognised() {
        let journal = tempfile::tempdir().unwrap();
        let journal = journal.path();
        let stream = StreamId::new(1_700_000_000_000, [3; 10]);
        let unfinished = unfinished_stream_dir(journal, stream);
        let gone = gone_stream_dir(journal, stream);
        for dir in [&stream_dir(journal, stream), &unfinished, &gone] {
            fs::create_dir(dir).unwrap();
        }
        fs::write(journal.join(CURSOR), "").unwrap();
        assert_eq!(list_streams(journal).unwrap(), [stream]);
        assert_eq!(list_prefixed(journal, UNFINISHED).unwrap(), [unfinished]);
        assert_eq!(list_prefixed(journal, GONE).unwrap(), [gone]);
    }
}
