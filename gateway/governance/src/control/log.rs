//! The control log of one machine: a file that is only ever appended to.
//!
//! Each change is a line: its CRC-32C in hexadecimal, a space, JSON. An append happens under a lock
//! on the file and is on disk when it returns. A line that a crash left unfinished is cut off by
//! the next append; readers wait before it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use weir_eventlog::{Fsync, RecordLogError, replace_file};

use super::Snapshot;
use super::record::Change;

/// The control log could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{action} the control log {path}: {source}")]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "the control log {path} is damaged at byte {offset}: {reason}; restore it from a copy, \
         or cut it off there and make what stood behind it anew"
    )]
    Damaged {
        path: PathBuf,
        offset: u64,
        reason: String,
    },
    #[error(transparent)]
    Topic(#[from] RecordLogError),
    #[error(
        "Kafka does not answer, so what is in the control topic is not known; nothing was changed"
    )]
    Away,
    #[error("write a control change: {0}")]
    Encode(#[from] serde_json::Error),
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    move |source| LogError::File {
        action,
        path: path.to_owned(),
        source,
    }
}

/// The file, opened anew for each append.
#[derive(Clone, Debug)]
pub struct ControlLog {
    path: PathBuf,
}

impl ControlLog {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Appends a change. When this returns, every gateway that follows the log will see it.
    pub fn append(&self, change: &Change) -> Result<(), LogError> {
        self.append_line(&line(change)?)
            .map_err(failed("append to", &self.path))
    }

    /// Puts these changes in the place of all that is there.
    pub(super) fn replace(&self, changes: &[Change]) -> Result<(), LogError> {
        let lines: Result<Vec<String>, LogError> = changes.iter().map(line).collect();
        let lines = lines?.concat();
        let write = || -> io::Result<()> {
            self.make_dir()?;
            replace_file(&self.path, Fsync::File, |file| {
                file.write_all(lines.as_bytes())
            })?;
            Ok(())
        };
        write().map_err(failed("replace", &self.path))
    }

    fn append_line(&self, line: &str) -> io::Result<()> {
        self.make_dir()?;
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)?;
        file.lock()?;
        let end = end_of_last_line(&mut file)?;
        file.set_len(end)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        if let Some(dir) = self.path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }

    fn make_dir(&self) -> io::Result<()> {
        // It says who uses what: for this user's eyes only.
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        self.path.parent().map_or(Ok(()), |dir| private.create(dir))
    }

    /// All changes, oldest first.
    pub fn changes(&self) -> Result<Vec<Change>, LogError> {
        let mut changes = Vec::new();
        self.reader().read(|change| changes.push(change))?;
        Ok(changes)
    }

    /// Everything as it stands now.
    pub fn snapshot(&self) -> Result<Snapshot, LogError> {
        let mut snapshot = Snapshot::default();
        snapshot.apply(self.changes()?);
        Ok(snapshot)
    }

    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader {
            path: self.path.clone(),
            offset: 0,
        }
    }
}

/// Reads on from where it stopped.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    offset: u64,
}

impl Reader {
    /// Hands over every change that is new.
    pub fn read(&mut self, mut take: impl FnMut(Change)) -> Result<(), LogError> {
        let news = self.news().map_err(failed("read", &self.path))?;
        for line in news.split_inclusive(|byte| *byte == b'\n') {
            let Some(complete) = line.strip_suffix(b"\n") else {
                break;
            };
            let record = parse(complete).map_err(|reason| LogError::Damaged {
                path: self.path.clone(),
                offset: self.offset,
                reason,
            })?;
            take(record);
            self.offset += line.len() as u64;
        }
        Ok(())
    }

    fn news(&self) -> io::Result<Vec<u8>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() <= self.offset {
            return Ok(Vec::new());
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut news = Vec::new();
        file.read_to_end(&mut news)?;
        Ok(news)
    }
}

fn line(change: &Change) -> Result<String, LogError> {
    let json = serde_json::to_string(change)?;
    Ok(format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes())))
}

fn parse(line: &[u8]) -> Result<Change, String> {
    let line = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    let (crc, json) = line.split_once(' ').ok_or("the line has no checksum")?;
    let crc = u32::from_str_radix(crc, 16).map_err(|_| "the line has no checksum")?;
    if crc != crc32c::crc32c(json.as_bytes()) {
        return Err("the checksum does not match".into());
    }
    serde_json::from_str(json).map_err(|error| error.to_string())
}

/// Where the last complete line ends.
fn end_of_last_line(file: &mut File) -> io::Result<u64> {
    let mut content = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut content)?;
    Ok(content
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at as u64 + 1))
}

/// Where the control log of a data directory is.
#[must_use]
pub fn path_in(data_dir: &Path) -> PathBuf {
    data_dir.join("control").join("control.log")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::record::Kind;

    fn change(id: &str) -> Change {
        Change::gone(Kind::Limit, id.into())
    }

    #[test]
    fn changes_read_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let log = ControlLog::new(path_in(dir.path()));
        assert!(log.changes().unwrap().is_empty());
        let written = [change("a"), change("b"), change("a")];
        written
            .iter()
            .for_each(|change| log.append(change).unwrap());
        assert_eq!(log.changes().unwrap(), written);
    }

    #[test]
    fn an_unfinished_line_is_not_read_and_is_cut_off_by_the_next_append() {
        let dir = tempfile::tempdir().unwrap();
        let log = ControlLog::new(dir.path().join("control.log"));
        let (first, second) = (change("a"), change("b"));
        log.append(&first).unwrap();
        let whole = std::fs::read(&log.path).unwrap();
        for cut in 1..whole.len() {
            std::fs::write(&log.path, [whole.as_slice(), &whole[..cut]].concat()).unwrap();
            assert_eq!(log.changes().unwrap().len(), 1, "cut at {cut}");
        }
        log.append(&second).unwrap();
        assert_eq!(log.changes().unwrap(), [first, second]);
    }

    #[test]
    fn damage_is_named_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let log = ControlLog::new(dir.path().join("control.log"));
        log.append(&change("a")).unwrap();
        let mut bytes = std::fs::read(&log.path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&log.path, bytes).unwrap();
        let message = log.changes().unwrap_err().to_string();
        assert!(
            message.contains("byte 0") && message.contains("checksum"),
            "{message}"
        );
    }
}
