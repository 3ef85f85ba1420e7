//! What the control log of this machine begins with: so many bytes, with this checksum.
//!
//! It is kept in a file of its own, `control.mark` in the data directory, and is what tells a log that was
//! never there from one that was deleted, and a log that grew from one that was cut or is another.
//! Whoever writes the log writes the mark behind it, so after a crash it is at most behind.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write as _};
use std::path::{Path, PathBuf};

use weir_eventlog::{Fsync, replace_file};

/// The beginning of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LogPrefix {
    pub(super) bytes: u64,
    crc: u32,
}

impl LogPrefix {
    pub(super) fn of(log: &[u8]) -> Self {
        Self::default().and(log)
    }

    /// The same with what follows it.
    pub(super) fn and(self, more: &[u8]) -> Self {
        Self {
            bytes: self.bytes + more.len() as u64,
            crc: crc32c::crc32c_append(self.crc, more),
        }
    }

    /// Reads past this beginning. `false` if the log does not begin so.
    pub(super) fn pass(self, log: &mut File) -> io::Result<bool> {
        let mut found = Self::default();
        let mut log = log.take(self.bytes);
        let mut buffer = [0; 64 * 1024];
        loop {
            match log.read(&mut buffer)? {
                0 => return Ok(found == self),
                count => found = found.and(&buffer[..count]),
            }
        }
    }

    pub(super) fn begins(self, log: &[u8]) -> bool {
        let bytes = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        log.get(..bytes).is_some_and(|log| Self::of(log) == self)
    }
}

/// Where the mark of a data directory is.
pub(super) fn mark_in(data_dir: &Path) -> PathBuf {
    data_dir.join("control.mark")
}

/// The mark, if there is one. One that a power failure left unreadable is none.
pub(super) fn read(path: &Path) -> io::Result<Option<LogPrefix>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let parse = |(bytes, crc): (&str, &str)| {
        let crc = u32::from_str_radix(crc, 16).ok()?;
        let bytes = bytes.parse().ok()?;
        Some(LogPrefix { bytes, crc })
    };
    Ok(text.trim_end().split_once(' ').and_then(parse))
}

pub(super) fn write(path: &Path, prefix: LogPrefix) -> io::Result<()> {
    replace_file(path, Fsync::Nothing, |file| {
        writeln!(file, "{} {:08x}", prefix.bytes, prefix.crc)
    })?;
    Ok(())
}
