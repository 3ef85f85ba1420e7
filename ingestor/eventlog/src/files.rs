//! Names, headers and durable operations of the journal's files.
//!
//! ```text
//! journal/
//!   cursor                              what the reader has committed
//!   reader.lock                         held by the one reader
//!   .new-<stream>/                      a stream in the making; renamed when it is whole
//!   .gone-<stream>/                     a stream read to its end, being removed
//!   <stream>/
//!     lock                              held by the writer for its life
//!     closed                            hint: the last frame is known to close the stream
//!     00000000000000000001.seg          named by the first sequence number in it
//!     00000000000000048213.seg
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use weir_schemas::StreamId;

use crate::replace;

pub(crate) const STREAM_LOCK: &str = "lock";
pub(crate) const STREAM_CLOSED: &str = "closed";
pub(crate) const CURSOR: &str = "cursor";
pub(crate) const READER_LOCK: &str = "reader.lock";
const NEW: &str = ".new-";
const GONE: &str = ".gone-";
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
    journal.join(format!("{NEW}{stream}"))
}

pub(crate) fn gone_stream_dir(journal: &Path, stream: StreamId) -> PathBuf {
    journal.join(format!("{GONE}{stream}"))
}

pub(crate) fn segment_path(stream_dir: &Path, first_seq: u64) -> PathBuf {
    stream_dir.join(format!("{first_seq:020}{SEGMENT}"))
}

/// What a name in the journal's directory stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JournalEntry {
    Stream(StreamId),
    Unfinished,
    Gone,
    Other,
}

pub(crate) fn entry(name: &str) -> JournalEntry {
    if name.starts_with(NEW) {
        return JournalEntry::Unfinished;
    }
    if name.starts_with(GONE) {
        return JournalEntry::Gone;
    }
    name.parse()
        .map_or(JournalEntry::Other, JournalEntry::Stream)
}

/// The streams of a journal, oldest first.
pub(crate) fn list_streams(journal: &Path) -> Result<Vec<StreamId>, FileError> {
    let mut streams = Vec::new();
    for_each_name(journal, |name| {
        if let JournalEntry::Stream(stream) = entry(name) {
            streams.push(stream);
        }
    })?;
    streams.sort_unstable();
    Ok(streams)
}

/// First sequence numbers of a stream's segments, in order.
pub(crate) fn list_segments(stream_dir: &Path) -> Result<Vec<u64>, FileError> {
    let mut segments = Vec::new();
    for_each_name(stream_dir, |name| {
        let number = name
            .strip_suffix(SEGMENT)
            .and_then(|n| n.parse::<u64>().ok());
        segments.extend(number);
    })?;
    segments.sort_unstable();
    Ok(segments)
}

pub(crate) fn for_each_name(dir: &Path, mut visit: impl FnMut(&str)) -> Result<(), FileError> {
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

/// Why the beginning of a segment could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    Unfinished,
    Damaged,
    /// Written by a later program.
    Version(u32),
}

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

    /// Checks that the bytes begin the segment that its directory and name say it is.
    pub(crate) fn check(self, bytes: &[u8]) -> Result<(), HeaderFault> {
        let Some(bytes) = bytes.first_chunk::<{ Self::BYTES }>() else {
            return Err(HeaderFault::Unfinished);
        };
        if *bytes == self.encode() {
            return Ok(());
        }
        let mut version = [0; 4];
        version.copy_from_slice(&bytes[8..12]);
        let version = u32::from_le_bytes(version);
        let whole = bytes[..8] == MAGIC && bytes[12..16] == Self::checksum(bytes).to_le_bytes();
        if whole && version > VERSION {
            return Err(HeaderFault::Version(version));
        }
        Err(HeaderFault::Damaged)
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
        assert_eq!(header().check(&bytes), Ok(()));
        for cut in 0..bytes.len() {
            assert_eq!(header().check(&bytes[..cut]), Err(HeaderFault::Unfinished));
        }
        let renamed = SegmentHeader {
            first_seq: 18,
            ..header()
        };
        assert_eq!(renamed.check(&bytes), Err(HeaderFault::Damaged));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(header().check(&flipped), Err(HeaderFault::Damaged));
        }
    }

    #[test]
    fn a_later_format_is_told_apart_from_damage() {
        let mut bytes = header().encode();
        bytes[8..12].copy_from_slice(&2_u32.to_le_bytes());
        let checksum = SegmentHeader::checksum(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(header().check(&bytes), Err(HeaderFault::Version(2)));
    }

    #[test]
    fn names_in_the_directory_are_recognised() {
        let stream = StreamId::new(1_700_000_000_000, [3; 10]);
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let root = Path::new("journal");
        assert_eq!(
            entry(&name(stream_dir(root, stream))),
            JournalEntry::Stream(stream)
        );
        assert_eq!(
            entry(&name(unfinished_stream_dir(root, stream))),
            JournalEntry::Unfinished
        );
        assert_eq!(
            entry(&name(gone_stream_dir(root, stream))),
            JournalEntry::Gone
        );
        assert_eq!(entry("cursor"), JournalEntry::Other);
    }
}
