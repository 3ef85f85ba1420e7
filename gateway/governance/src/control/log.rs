//! The control log of one machine: a file that is only ever appended to.
//!
//! Each change is a line: its CRC-32C in hexadecimal, a space, JSON. An append happens under a lock
//! on the file and is on disk when it returns. A line that a crash left unfinished is cut off by
//! the next append; readers wait before it.
//!
//! A log that was there and is gone, or that begins otherwise than before, is never taken for the log:
//! see [`mark`](super::mark).

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use weir_eventlog::{Fsync, RecordLogError, replace_file};

use super::Snapshot;
use super::mark::{self, LogPrefix, mark_in};
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
         or cut it off there, remove {mark}, and make what stood behind it anew"
    )]
    Damaged {
        path: PathBuf,
        offset: u64,
        reason: String,
        mark: PathBuf,
    },
    #[error(
        "the control log {path} is gone: a running gateway writes it anew within a second; without \
         one, restore it from a copy, or remove {mark} to begin without keys and rules"
    )]
    Gone { path: PathBuf, mark: PathBuf },
    #[error("write the secret that keys are hashed with anew: {0}")]
    Secret(#[source] io::Error),
    #[error(
        "the control log {path} was cut off or is another one: it does not begin with the {bytes} bytes \
         that were read before; restore it from a copy, or delete it while a gateway runs, which \
         writes it anew from memory, or remove {mark} to begin with what it says"
    )]
    Other {
        path: PathBuf,
        bytes: u64,
        mark: PathBuf,
    },
    #[error(transparent)]
    Topic(#[from] RecordLogError),
    #[error(
        "the control topic {topic} was deleted: `weir control repair` makes it anew from the copy in this \
         data directory"
    )]
    TopicGone { topic: String },
    #[error(
        "the control topic {topic} was emptied or cut off, or is another one: it lacks {records} records \
         that the copy in this data directory has, such as {example}. Bring the right topic back, or write \
         into it what it lacks with `weir control repair`"
    )]
    TopicLacks {
        topic: String,
        records: usize,
        example: String,
    },
    #[error("there is no control topic: the control log of this data directory is a file")]
    NoTopic,
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
    /// Of what it begins with.
    mark: PathBuf,
}

impl ControlLog {
    /// The control log of a data directory.
    #[must_use]
    pub fn in_dir(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join("control").join("control.log"),
            mark: mark_in(data_dir),
        }
    }

    /// Appends a change. When this returns, every gateway that follows the log will see it.
    pub fn append(&self, change: &Change) -> Result<(), LogError> {
        let line = line(change)?;
        while !self.append_line(line.as_bytes())? {}
        Ok(())
    }

    /// Puts these changes in the place of all that is there. Returns what the log is now.
    pub(super) fn replace(&self, changes: &[Change]) -> Result<LogPrefix, LogError> {
        let lines: Result<Vec<String>, LogError> = changes.iter().map(line).collect();
        let lines = lines?.concat();
        let prefix = LogPrefix::of(lines.as_bytes());
        let write = || -> io::Result<()> {
            self.make_dir()?;
            // First, so that nobody begins a new log meanwhile.
            mark::write(&self.mark, prefix)?;
            replace_file(&self.path, Fsync::File, |file| {
                file.write_all(lines.as_bytes())
            })?;
            Ok(())
        };
        write().map_err(failed("replace", &self.path))?;
        Ok(prefix)
    }

    /// `false` if the file was replaced meanwhile.
    fn append_line(&self, line: &[u8]) -> Result<bool, LogError> {
        let fail = |error| failed("append to", &self.path)(error);
        self.make_dir().map_err(fail)?;
        let was_there = mark::read(&self.mark).map_err(fail)?.is_some();
        let opened = OpenOptions::new()
            .read(true)
            .append(true)
            .create(!was_there)
            .mode(0o600)
            .open(&self.path);
        let mut file = match opened {
            Err(error) if error.kind() == ErrorKind::NotFound && was_there => {
                return Err(self.gone());
            }
            opened => opened.map_err(fail)?,
        };
        file.lock().map_err(fail)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(fail)?;
        content.truncate(end_of_last_line(&content));
        let known = mark::read(&self.mark).map_err(fail)?.unwrap_or_default();
        if !self.is_still(&file).map_err(fail)? {
            return Ok(false);
        }
        if !known.begins(&content) {
            return Err(self.other(known));
        }
        let mut write = || -> io::Result<()> {
            file.set_len(content.len() as u64)?;
            file.write_all(line)?;
            file.sync_all()?;
            if let Some(dir) = self.path.parent() {
                File::open(dir)?.sync_all()?;
            }
            mark::write(&self.mark, LogPrefix::of(&content).and(line))
        };
        write().map_err(failed("append to", &self.path))?;
        Ok(true)
    }

    /// Whether this is the file that the path names.
    fn is_still(&self, file: &File) -> io::Result<bool> {
        let ours = file.metadata()?;
        match fs::metadata(&self.path) {
            Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn make_dir(&self) -> io::Result<()> {
        // It says who uses what: for this user's eyes only.
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        self.path.parent().map_or(Ok(()), |dir| private.create(dir))
    }

    fn gone(&self) -> LogError {
        LogError::Gone {
            path: self.path.clone(),
            mark: self.mark.clone(),
        }
    }

    fn other(&self, known: LogPrefix) -> LogError {
        LogError::Other {
            path: self.path.clone(),
            bytes: known.bytes,
            mark: self.mark.clone(),
        }
    }

    fn damaged(&self, offset: u64, reason: String) -> LogError {
        LogError::Damaged {
            path: self.path.clone(),
            offset,
            reason,
            mark: self.mark.clone(),
        }
    }

    /// Why a log does not begin as it did: a line in it is damaged, or it is another.
    fn why_not(&self, known: LogPrefix) -> LogError {
        let content = fs::read(&self.path).unwrap_or_default();
        let mut offset = 0;
        for line in content[..end_of_last_line(&content)].split_inclusive(|byte| *byte == b'\n') {
            if let Err(reason) = parse(line.trim_ascii_end()) {
                return self.damaged(offset, reason);
            }
            offset += line.len() as u64;
        }
        self.other(known)
    }

    /// Whether it was there and is not.
    pub(super) fn is_gone(&self) -> Result<bool, LogError> {
        let mark = mark::read(&self.mark).map_err(failed("read", &self.mark))?;
        Ok(mark.is_some() && !self.path.exists())
    }

    /// Whether anything was ever in it.
    pub(super) fn has_begun(&self) -> Result<bool, LogError> {
        let mark = mark::read(&self.mark).map_err(failed("read", &self.mark))?;
        Ok(mark.is_some_and(|mark| mark.bytes > 0))
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
            log: self.clone(),
            done: LogPrefix::default(),
            version: None,
        }
    }
}

/// What a file was like when it was read: device, inode, size and times.
type FileVersion = [i128; 5];

fn version(file: &Metadata) -> FileVersion {
    let nanos = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
    [
        file.dev().into(),
        file.ino().into(),
        file.size().into(),
        nanos(file.mtime(), file.mtime_nsec()),
        nanos(file.ctime(), file.ctime_nsec()),
    ]
}

/// Reads on from where it stopped, as long as it is the same log.
#[derive(Debug)]
pub struct Reader {
    log: ControlLog,
    /// What was handed over.
    done: LogPrefix,
    /// The file when all of it was.
    version: Option<FileVersion>,
}

impl Reader {
    /// Hands over every change that is new.
    pub fn read(&mut self, mut take: impl FnMut(Change)) -> Result<(), LogError> {
        let (news, version) = self.news()?;
        for line in news.split_inclusive(|byte| *byte == b'\n') {
            let Some(complete) = line.strip_suffix(b"\n") else {
                break;
            };
            let record =
                parse(complete).map_err(|reason| self.log.damaged(self.done.bytes, reason))?;
            take(record);
            self.done = self.done.and(line);
        }
        self.version = version;
        Ok(())
    }

    /// What stands behind what is done, and the version of the file that it is from.
    fn news(&self) -> Result<(Vec<u8>, Option<FileVersion>), LogError> {
        let fail = |error| failed("read", &self.log.path)(error);
        let is_first = self.version.is_none() && self.done.bytes == 0;
        let known = match is_first {
            true => mark::read(&self.log.mark)
                .map_err(fail)?
                .unwrap_or_default(),
            false => self.done,
        };
        let found = match fs::metadata(&self.log.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let was_there = known.bytes > 0 || self.version.is_some();
                return match was_there {
                    true => Err(self.log.gone()),
                    false => Ok((Vec::new(), None)),
                };
            }
            found => version(&found.map_err(fail)?),
        };
        if self.version == Some(found) {
            return Ok((Vec::new(), self.version));
        }
        let mut file = File::open(&self.log.path).map_err(fail)?;
        let found = version(&file.metadata().map_err(fail)?);
        if !known.pass(&mut file).map_err(fail)? {
            return Err(self.log.why_not(known));
        }
        let done = SeekFrom::Start(self.done.bytes);
        file.seek(done).map_err(fail)?;
        let mut news = Vec::new();
        file.read_to_end(&mut news).map_err(fail)?;
        Ok((news, Some(found)))
    }

    /// Goes on with a log that was written anew and says what was handed over.
    pub(super) fn go_on_with(&mut self, anew: LogPrefix) {
        self.done = anew;
        self.version = None;
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
fn end_of_last_line(content: &[u8]) -> usize {
    let last = content.iter().rposition(|byte| *byte == b'\n');
    last.map_or(0, |at| at + 1)
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
        let log = ControlLog::in_dir(dir.path());
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
        let log = ControlLog::in_dir(dir.path());
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
        let log = ControlLog::in_dir(dir.path());
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
