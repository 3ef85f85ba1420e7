//! Keeping what was read: while somebody holds the journal, to copy it, nothing is deleted there.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::files::{self, FileContext as _, FileError};
use crate::locked_file::LockedFile;

/// Holds the journal for as long as it lives.
#[derive(Debug)]
pub struct JournalHold {
    _lock: LockedFile,
}

impl JournalHold {
    /// A cursor that is read from now on has all segments behind it. Fails with
    /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if somebody else holds the journal.
    pub fn take(journal: &Path) -> Result<Self, FileError> {
        let path = journal.join(files::HOLD);
        let file = files::create().open(&path).context("open", &path)?;
        let lock = LockedFile::try_new(file).map_err(std::io::Error::from);
        let lock = lock.context("hold the journal by", &path)?;
        Ok(Self { _lock: lock })
    }
}

/// Whether somebody holds the journal.
pub(crate) fn is_held(journal: &Path) -> bool {
    let Ok(file) = File::open(journal.join(files::HOLD)) else {
        return false;
    };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}
