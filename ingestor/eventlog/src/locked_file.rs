//! A file that is locked for as long as its holder lives.

use std::fs::{File, TryLockError};
use std::ops::Deref;

/// A locked file. A kill unlocks it; so does dropping it, even while a process that was just forked
/// shares its descriptor until its `exec`.
#[derive(Debug)]
pub struct LockedFile(File);

impl LockedFile {
    /// Fails with [`TryLockError::WouldBlock`] if the file is locked already.
    pub fn try_new(file: File) -> Result<Self, TryLockError> {
        file.try_lock()?;
        Ok(Self(file))
    }
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "failed to unlock a file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_lock_is_free_though_a_forked_process_shares_the_descriptor() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let locked = LockedFile::try_new(path.reopen().unwrap()).unwrap();
        let of_the_child = locked.try_clone().unwrap();
        let second = LockedFile::try_new(path.reopen().unwrap());
        assert!(matches!(second, Err(TryLockError::WouldBlock)));
        drop(locked);
        LockedFile::try_new(path.reopen().unwrap()).unwrap();
        drop(of_the_child);
    }
}
