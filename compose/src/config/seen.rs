//! Versions of files, to notice when they change.
//!
//! The version is taken before the file is read, so a write in between counts as a change.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use weir_gateway::key_files;

/// The version of a file, or of a directory and its files, at the time it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileVersions {
    path: PathBuf,
    /// Its own, then those of the files in it.
    versions: Vec<Version>,
}

/// Device, inode, mode, size and times of a file, or `None` if it does not exist.
type Version = Option<[i128; 6]>;

impl FileVersions {
    pub(crate) fn of(path: &Path) -> Self {
        // A directory does not change with the files that its links lead to.
        let files = key_files(path).unwrap_or_default();
        let files = files.iter().map(|file| version(file));
        Self {
            path: path.to_owned(),
            versions: [version(path)].into_iter().chain(files).collect(),
        }
    }

    /// The same as it is now.
    pub(crate) fn now(&self) -> Self {
        Self::of(&self.path)
    }
}

fn version(path: &Path) -> Version {
    let numbers = |it: Metadata| {
        let nanos = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        [
            i128::from(it.dev()),
            i128::from(it.ino()),
            i128::from(it.mode()),
            i128::from(it.size()),
            nanos(it.mtime(), it.mtime_nsec()),
            nanos(it.ctime(), it.ctime_nsec()),
        ]
    };
    std::fs::metadata(path).ok().map(numbers)
}
