//! The log in a file. A line is a record: CRC-32C in hexadecimal, a space, the key, a space, the
//! record.
//!
//! Writers take turns by a lock on a file beside it. When the file has grown, the writer puts a
//! compacted one in its place, and readers notice by the file's identity and start over.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{REMOVED, RecordLogError};
use crate::caps::COMPACT_FROM_BYTES;
use crate::files::{self, FileContext as _, FileError, if_exists};
use crate::replace::{Fsync, replace_file};

pub(super) fn lock(path: &Path) -> Result<File, FileError> {
    if let Some(dir) = path.parent() {
        files::create_dir(dir)?;
    }
    let beside = path.with_extension("lock");
    let file = files::create().open(&beside).context("open", &beside)?;
    file.lock().context("lock", &beside)?;
    Ok(file)
}

pub(super) fn append(path: &Path, records: &[(String, String)]) -> Result<(), FileError> {
    let write = || {
        let content = if_exists(std::fs::read(path))?.unwrap_or_default();
        // A line that a crash left unfinished is cut off.
        let whole = content.iter().rposition(|byte| *byte == b'\n');
        let whole = whole.map_or(0, |at| at + 1);
        let new: String = records.iter().map(line).collect();
        if whole >= COMPACT_FROM_BYTES {
            let compacted = compacted(&content[..whole]);
            if compacted.len() <= whole / 2 {
                replace_file(path, Fsync::FileAndDirectory, |file| {
                    file.write_all(&compacted)?;
                    file.write_all(new.as_bytes())
                })?;
                return Ok(());
            }
        }
        let mut file = files::create().append(true).open(path)?;
        file.set_len(whole as u64)?;
        file.write_all(new.as_bytes())?;
        file.sync_all()
    };
    write().context("append to", path)
}

fn line((key, record): &(String, String)) -> String {
    let text = format!("{key} {record}");
    format!("{:08x} {text}\n", crc32c::crc32c(text.as_bytes()))
}

/// The latest line of each key, in their order. Lines that are no records are left out.
fn compacted(content: &[u8]) -> Vec<u8> {
    let lines: Vec<&[u8]> = content.split_inclusive(|byte| *byte == b'\n').collect();
    let mut latest = HashMap::new();
    for (number, line) in lines.iter().enumerate() {
        match parse(line.strip_suffix(b"\n").unwrap_or(line)) {
            Ok((key, REMOVED)) => drop(latest.remove(key)),
            Ok((key, _)) => drop(latest.insert(key, number)),
            Err(_) => {}
        }
    }
    let mut kept: Vec<usize> = latest.into_values().collect();
    kept.sort_unstable();
    kept.into_iter()
        .flat_map(|number| lines[number])
        .copied()
        .collect()
}

/// Does at once what an append does to a file that has grown.
#[cfg(test)]
pub(crate) fn compact(path: &Path) -> io::Result<()> {
    let compacted = compacted(&std::fs::read(path)?);
    replace_file(path, Fsync::File, |file| file.write_all(&compacted))?;
    Ok(())
}

fn parse(line: &[u8]) -> Result<(&str, &str), &'static str> {
    let line = std::str::from_utf8(line).map_err(|_| "the line is not UTF-8")?;
    let (crc, text) = line.split_once(' ').ok_or("the line has no checksum")?;
    let crc = u32::from_str_radix(crc, 16).map_err(|_| "the line has no checksum")?;
    if crc != crc32c::crc32c(text.as_bytes()) {
        return Err("the checksum does not match");
    }
    text.split_once(' ').ok_or("the line has no key")
}

#[derive(Debug)]
pub(super) struct FileReader {
    path: PathBuf,
    offset: u64,
    /// Of the file that `offset` is in.
    inode: u64,
}

impl FileReader {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            offset: 0,
            inode: 0,
        }
    }

    pub(super) fn read(&mut self) -> Result<Vec<String>, RecordLogError> {
        let appended = self.read_appended().context("read", &self.path)?;
        let mut records = Vec::new();
        for line in appended.split_inclusive(|byte| *byte == b'\n') {
            let Some(complete) = line.strip_suffix(b"\n") else {
                break;
            };
            let (_, record) = parse(complete).map_err(|reason| RecordLogError::Damaged {
                path: self.path.clone(),
                offset: self.offset,
                reason,
            })?;
            if record != REMOVED {
                records.push(record.to_owned());
            }
            self.offset += line.len() as u64;
        }
        Ok(records)
    }

    /// The bytes appended since the last call; all of them if the file was replaced.
    fn read_appended(&mut self) -> io::Result<Vec<u8>> {
        let Some(mut file) = if_exists(File::open(&self.path))? else {
            return Ok(Vec::new());
        };
        let meta = file.metadata()?;
        if meta.ino() != self.inode || meta.len() < self.offset {
            (self.inode, self.offset) = (meta.ino(), 0);
        }
        if meta.len() <= self.offset {
            return Ok(Vec::new());
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut appended = Vec::new();
        file.read_to_end(&mut appended)?;
        Ok(appended)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{RecordLog, RecordReader};
    use super::*;

    fn write(log: &RecordLog, key: &str, record: &str) {
        let lock = log.lock().unwrap();
        log.append(&lock, &[(key.to_owned(), record.to_owned())])
            .unwrap();
    }

    fn read(reader: &mut RecordReader) -> Vec<String> {
        reader.read(Duration::ZERO).unwrap().records
    }

    #[test]
    fn records_are_read_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let log = RecordLog::File(dir.path().join("control").join("routing.log"));
        let mut reader = log.reader();
        assert!(read(&mut reader).is_empty());
        write(&log, "a", "one");
        write(&log, "b", "two words");
        assert_eq!(read(&mut reader), ["one", "two words"]);
        write(&log, "a", "three");
        assert_eq!(read(&mut reader), ["three"]);
        assert!(read(&mut reader).is_empty());
    }

    #[test]
    fn an_unfinished_line_is_not_read_and_is_cut_off_by_the_next_append() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routing.log");
        let log = RecordLog::File(path.clone());
        write(&log, "a", "one");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [whole.as_slice(), &whole[..9]].concat()).unwrap();
        let mut reader = log.reader();
        assert_eq!(read(&mut reader), ["one"]);
        write(&log, "a", "two");
        assert_eq!(read(&mut reader), ["two"]);
    }

    #[test]
    fn a_grown_file_keeps_the_latest_of_each_key_and_readers_see_it_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routing.log");
        let log = RecordLog::File(path.clone());
        let mut reader = log.reader();
        let large = "x".repeat(COMPACT_FROM_BYTES / 4);
        for number in 0..6 {
            write(
                &log,
                &format!("k{}", number % 2),
                &format!("{number}{large}"),
            );
            let seen = read(&mut reader);
            assert!(seen.last().unwrap().starts_with(&number.to_string()));
        }
        assert!(std::fs::metadata(&path).unwrap().len() < 5 * large.len() as u64);
        let firsts: String = read(&mut log.reader())
            .iter()
            .map(|record| &record[..1])
            .collect();
        assert_eq!(firsts, "2345");
    }

    #[test]
    fn damage_is_named_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routing.log");
        let log = RecordLog::File(path.clone());
        write(&log, "a", "one");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[12] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let message = log.reader().read(Duration::ZERO).unwrap_err().to_string();
        assert!(
            message.contains("byte 0") && message.contains("checksum"),
            "{message}"
        );
    }
}
