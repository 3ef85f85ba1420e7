//! The segment that a stream is writing to.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::files::{self, FileContext as _, FileError, SegmentHeader};
use crate::replace::{Fsync, replace_file};

#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) file: Arc<File>,
    pub(crate) path: PathBuf,
    /// Where the next append goes: behind the last good one.
    pub(crate) bytes: u64,
    pub(crate) events: u64,
    pub(crate) begun: Instant,
}

impl Segment {
    /// Begins a segment. It gets its name only once its header is there: the mere existence of a
    /// segment tells readers that the one before it is sealed.
    pub(crate) fn begin(
        stream_dir: &Path,
        header: SegmentHeader,
        now: Instant,
    ) -> Result<Self, FileError> {
        let path = files::segment_path(stream_dir, header.first_seq);
        let file = replace_file(&path, Fsync::Nothing, |file| {
            file.write_all(&header.encode())
        })
        .context("begin segment", &path)?;
        Ok(Self {
            file: Arc::new(file),
            path,
            bytes: SegmentHeader::BYTES as u64,
            events: 0,
            begun: now,
        })
    }

    /// Writes an append with one system call. If that fails or falls short and the rest can't be
    /// written either, the segment is cut back to its last good append.
    pub(crate) fn write(&mut self, append: &[u8]) -> Result<(), FileError> {
        match write_all_at(&self.file, append, self.bytes) {
            Ok(()) => {
                self.bytes += append.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Should cutting fail too, the bytes stay where the next append overwrites them;
                // readers take no append that is not whole.
                if let Err(error) = self.file.set_len(self.bytes) {
                    let path = self.path.display();
                    tracing::warn!(%path, %error, "failed to cut off an unfinished append");
                }
                Err(error).context("append to", &self.path)
            }
        }
    }
}

fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
