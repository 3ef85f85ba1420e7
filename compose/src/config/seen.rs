//! Which versions of files were read, so that it shows when there are others.
//!
//! A version is looked at before its file is read: what is written meanwhile counts as a change.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use weir_gateway::key_files;

/// A file, or a directory of files, as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    path: PathBuf,
    /// Its own, then those of the files in it.
    versions: Vec<Version>,
}

/// What tells one version from another, however it came about: inode, size, times. Nothing if there
/// is none.
type Version = Option<[i128; 6]>;

impl Seen {
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
