//! Which changes running gateways have taken over, for whoever makes one from outside.
//!
//! A gateway keeps a file beside the control log with the ids of the changes that it took over last. It is
//! locked for as long as the gateway runs, however that ends: a file without a lock is one of the past.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use weir_eventlog::LockedFile;
use weir_schemas::RequestId;

use super::record::Change;

/// Ids that a gateway keeps. A thousand changes are not made between two looks.
const KEPT: u64 = 1024;
const ID_BYTES: usize = 16;
/// How often whoever made a change looks.
const LOOK: Duration = Duration::from_millis(2);

/// Where the gateways of a data directory keep their files.
#[derive(Clone, Debug)]
pub(super) struct FollowersDir(PathBuf);

/// The file of one gateway.
#[derive(Debug)]
pub(super) struct AppliedChanges {
    path: PathBuf,
    file: LockedFile,
    next: u64,
}

impl FollowersDir {
    pub(super) fn in_dir(data_dir: &Path) -> Self {
        Self(data_dir.join("control").join("followers"))
    }

    /// Begins a file. It gets its name when it is locked, so that it never looks like one of the past.
    pub(super) fn begin(&self) -> io::Result<AppliedChanges> {
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700).create(&self.0)?;
        let number: u64 = rand::random();
        let making = self.0.join(format!("{number:016x}.new"));
        let path = self.0.join(format!("{number:016x}"));
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&making)?;
        let file = LockedFile::try_new(file).map_err(io::Error::from)?;
        fs::rename(&making, &path)?;
        Ok(AppliedChanges {
            path,
            file,
            next: 0,
        })
    }

    /// Waits until all running gateways have taken over a change. Returns how many have not.
    pub(super) fn wait(&self, change: RequestId, wait_max: Duration) -> io::Result<usize> {
        let deadline = crate::clock::now() + wait_max;
        loop {
            let behind = self.behind(change)?;
            if behind == 0 || crate::clock::now() >= deadline {
                return Ok(behind);
            }
            std::thread::park_timeout(LOOK);
        }
    }

    fn behind(&self, change: RequestId) -> io::Result<usize> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            entries => entries?,
        };
        let mut behind = 0;
        for entry in entries {
            let path = entry?.path();
            let is_file = path.extension().is_none();
            behind += usize::from(is_file && is_behind(&path, change)?);
        }
        Ok(behind)
    }
}

/// Whether a gateway that runs lacks the change. The file of one that does not is removed.
fn is_behind(path: &Path, change: RequestId) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    match LockedFile::try_new(file) {
        Ok(_of_the_past) => match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(false),
        },
        Err(TryLockError::WouldBlock) => {
            let ids = fs::read(path).or_else(|error| match error.kind() {
                ErrorKind::NotFound => Ok(change.as_bytes().to_vec()),
                _ => Err(error),
            })?;
            let (ids, _) = ids.as_chunks::<ID_BYTES>();
            Ok(!ids.contains(change.as_bytes()))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl AppliedChanges {
    /// These changes are in force.
    pub(super) fn note(&mut self, changes: &[RequestId]) {
        for id in changes {
            let at = self.next % KEPT * ID_BYTES as u64;
            if let Err(error) = self.file.write_all_at(id.as_bytes(), at) {
                tracing::warn!(%error, "failed to note a change that is in force");
            }
            self.next += 1;
        }
    }
}

impl Drop for AppliedChanges {
    fn drop(&mut self) {
        // If it stays, it is one of the past.
        let _ = fs::remove_file(&self.path);
    }
}

/// The ids of changes.
pub(super) fn ids(changes: &[Change]) -> Vec<RequestId> {
    let ids = changes
        .iter()
        .filter_map(|change| change.change_id.as_deref());
    ids.filter_map(|id| id.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> RequestId {
        RequestId::from_bytes([number; ID_BYTES])
    }

    #[test]
    fn a_change_is_in_force_when_every_running_gateway_has_noted_it() {
        let dir = tempfile::tempdir().unwrap();
        let followers = FollowersDir::in_dir(dir.path());
        let behind = |number| followers.wait(id(number), Duration::ZERO).unwrap();
        assert_eq!(behind(1), 0, "nobody runs");
        let mut first = followers.begin().unwrap();
        let mut second = followers.begin().unwrap();
        assert_eq!(behind(1), 2);
        first.note(&[id(9), id(1)]);
        assert_eq!(behind(1), 1);
        second.note(&[id(1)]);
        assert_eq!((behind(1), behind(2)), (0, 2));
        drop(first);
        assert_eq!(behind(2), 1);
    }

    #[test]
    fn a_gateway_that_was_killed_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let followers = FollowersDir::in_dir(dir.path());
        let killed = followers.begin().unwrap();
        let path = killed.path.clone();
        drop(killed);
        fs::write(&path, [7; 40]).unwrap();
        assert_eq!(followers.wait(id(1), Duration::ZERO).unwrap(), 0);
        assert!(!path.exists());
    }

    #[test]
    fn the_latest_changes_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let followers = FollowersDir::in_dir(dir.path());
        let mut gateway = followers.begin().unwrap();
        for _ in 0..3 * KEPT {
            gateway.note(&[id(1)]);
        }
        gateway.note(&[id(2)]);
        assert_eq!(followers.wait(id(2), Duration::ZERO).unwrap(), 0);
        assert_eq!(fs::metadata(&gateway.path).unwrap().len(), KEPT * 16);
    }
}
