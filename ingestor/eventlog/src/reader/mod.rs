//! The reading end of the journal.
//!
//! One reader follows all streams of a directory, those of other processes and those yet to come
//! included. It returns nothing that a power failure could undo: before a batch is given, its files
//! are synced, because otherwise a recovered stream could give a number that has already been stored
//! to another event.

mod cursor;
mod follower;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Instant;

use weir_schemas::StreamId;

use crate::batch::{BatchLimits, SourceBatch};
use crate::caps::{READ_ERROR_PAUSE, READ_FILES_OPEN_MAX, READ_POLL};
use crate::files::{self, FileContext as _, FileError, if_exists};
use crate::hold::is_held;
use crate::locked_file::LockedFile;
use crate::progress::Progress;
pub(crate) use cursor::JournalCursor;
use follower::{BatchIntake, Follower, TurnResult};
pub use source::JournalSource;

/// The journal can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    #[error(
        "another process already reads the journal {}: only one ingestor or Kafka shipper may, \
         since what it has read is deleted",
        dir.display()
    )]
    InUse { dir: PathBuf },
    #[error(transparent)]
    File(#[from] FileError),
    #[error("start the thread {name}: {source}")]
    Thread {
        name: &'static str,
        source: std::io::Error,
    },
}

/// What a reader has counted since it was opened, for metrics. `streams` is the state now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderStats {
    pub records: u64,
    pub bytes: u64,
    pub streams: u64,
    /// Places where bytes on disk were found damaged and reading went on behind them.
    pub resyncs: u64,
    pub damaged_bytes: u64,
    pub lost_events: u64,
    /// Events left out because their number had been given before.
    pub repeated_events: u64,
    /// Streams of dead writers that this reader closed, and the bytes it cut off them.
    pub streams_recovered: u64,
    pub torn_bytes: u64,
    pub file_errors: u64,
    pub commits: u64,
}

/// Reads all streams of a journal and frees what has been committed.
#[derive(Debug)]
pub struct JournalReader {
    dir: PathBuf,
    _lock: LockedFile,
    cursor: JournalCursor,
    followers: BTreeMap<StreamId, Follower>,
    /// Read to their end. They stay here until that is committed and their files are gone.
    finished: BTreeSet<StreamId>,
    /// Whose committed segments are still there.
    unfreed: BTreeSet<StreamId>,
    /// The stream that had the last turn.
    turn: Option<StreamId>,
    looked: Option<Instant>,
    new_entries: bool,
    stats: ReaderStats,
}

impl JournalReader {
    /// Takes up reading where the last reader committed. The directory is made if it is not there.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, ReaderError> {
        let dir = dir.into();
        files::create_dir(&dir)?;
        let lock = take_lock(&dir)?;
        remove_gone(&dir)?;
        let mut cursor = JournalCursor::load(&dir)?;
        cursor.keep_only(&files::list_streams(&dir)?);
        Ok(Self {
            dir,
            _lock: lock,
            cursor,
            followers: BTreeMap::new(),
            finished: BTreeSet::new(),
            unfreed: BTreeSet::new(),
            turn: None,
            looked: None,
            new_entries: false,
            stats: ReaderStats::default(),
        })
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    #[must_use]
    pub fn stats(&self) -> ReaderStats {
        ReaderStats {
            streams: self.followers.len() as u64,
            ..self.stats
        }
    }

    /// Forgets what was read but not committed; it will be given again.
    pub fn rewind(&mut self) {
        self.followers.clear();
        self.finished.clear();
        self.looked = None;
    }

    /// Forgets what was committed, too: what is still there will be given again.
    pub fn reread(&mut self) -> Result<(), ReaderError> {
        self.cursor = JournalCursor::default();
        self.cursor.store(&self.dir)?;
        self.rewind();
        Ok(())
    }

    /// Adds what there is now to `batch`, up to its limits, every stream in its turn.
    ///
    /// [`JournalReader::seal`] it before it is used.
    pub fn fill(
        &mut self,
        batch: &mut SourceBatch,
        limits: &BatchLimits,
        now: Instant,
    ) -> Result<(), ReaderError> {
        self.discover(now)?;
        let mut brought = true;
        while brought && !batch.is_full(limits) {
            brought = false;
            for stream in self.round() {
                if batch.is_full(limits) {
                    break;
                }
                self.turn = Some(stream);
                brought |= self.give_turn(stream, batch, limits, now);
            }
        }
        Ok(())
    }

    /// Makes sure that what the batch holds is on disk. A failure is reported; reading goes on.
    pub fn seal(&mut self, batch: &SourceBatch) {
        let streams = &batch.progress.streams;
        for stream in streams.keys() {
            if let Some(follower) = self.followers.get_mut(stream) {
                follower.sync();
            }
        }
        if !streams.is_empty()
            && std::mem::take(&mut self.new_entries)
            && let Err(error) = files::sync_dir(&self.dir)
        {
            tracing::error!(%error, "failed to sync the journal's directory: a power failure may undo streams that were read");
        }
    }

    /// Commits this batch and all before it: moves the cursor, then deletes the segments behind it.
    pub fn commit(&mut self, batch: &SourceBatch) -> Result<(), ReaderError> {
        self.commit_progress(&batch.progress)
    }

    pub(crate) fn commit_progress(&mut self, progress: &Progress) -> Result<(), ReaderError> {
        let moved = self.cursor.advance(&progress.streams);
        if moved.is_empty() {
            return Ok(());
        }
        self.cursor.store(&self.dir)?;
        self.stats.commits += 1;
        self.unfreed.extend(moved);
        if is_held(&self.dir) {
            return Ok(());
        }
        for stream in std::mem::take(&mut self.unfreed) {
            if let Err(error) = self.free(stream) {
                self.stats.file_errors += 1;
                tracing::warn!(%stream, %error, "failed to delete read segments, will retry");
            }
        }
        Ok(())
    }

    /// The order of turns: it goes on after the stream that had the last one.
    fn round(&self) -> Vec<StreamId> {
        let mut ids: Vec<_> = self.followers.keys().copied().collect();
        if let Some(last) = self.turn {
            let next = ids.partition_point(|id| *id <= last);
            ids.rotate_left(next);
        }
        ids
    }

    /// Lets one stream add to the batch. `true` if it did and may have more.
    fn give_turn(
        &mut self,
        stream: StreamId,
        batch: &mut SourceBatch,
        limits: &BatchLimits,
        now: Instant,
    ) -> bool {
        let many_open = self.followers.len() > READ_FILES_OPEN_MAX;
        let Some(follower) = self.followers.get_mut(&stream) else {
            return false;
        };
        let mut intake = BatchIntake {
            batch,
            limits,
            stats: &mut self.stats,
        };
        let turn = follower.read_turn(&mut intake, now);
        follower.note_progress(batch);
        if many_open {
            follower.close_file();
        }
        match turn {
            Ok(TurnResult::Brought) => true,
            Ok(TurnResult::Waits) => false,
            Ok(TurnResult::Finished) => {
                follower.sync();
                self.followers.remove(&stream);
                self.finished.insert(stream);
                true
            }
            Err(error) => {
                self.stats.file_errors += 1;
                follower.rests_until = Some(now + READ_ERROR_PAUSE);
                tracing::error!(%stream, %error, "failed to read a stream, will retry");
                false
            }
        }
    }

    /// Looks for streams that have appeared.
    fn discover(&mut self, now: Instant) -> Result<(), ReaderError> {
        let recently = |looked| now.saturating_duration_since(looked) < READ_POLL / 2;
        if self.looked.is_some_and(recently) {
            return Ok(());
        }
        self.looked = Some(now);
        for stream in files::list_streams(&self.dir)? {
            if self.followers.contains_key(&stream) || self.finished.contains(&stream) {
                continue;
            }
            match self.cursor.position(stream) {
                // Read to its end by a reader that died before it could remove the files.
                Some(position) if position.finished => {
                    self.finished.insert(stream);
                    if is_held(&self.dir) {
                        self.unfreed.insert(stream);
                    } else {
                        self.remove(stream)?;
                    }
                }
                position => {
                    let dir = files::stream_dir(&self.dir, stream);
                    let follower = Follower::new(stream, dir, position, now);
                    self.followers.insert(stream, follower);
                    self.new_entries = true;
                }
            }
        }
        Ok(())
    }

    /// Deletes what the cursor has left behind.
    fn free(&mut self, stream: StreamId) -> Result<(), FileError> {
        let Some(position) = self.cursor.position(stream) else {
            return Ok(());
        };
        if position.finished {
            return self.remove(stream);
        }
        let Some(follower) = self.followers.get_mut(&stream) else {
            return Ok(());
        };
        if follower.freed_below >= position.segment {
            return Ok(());
        }
        let dir = files::stream_dir(&self.dir, stream);
        for segment in files::list_segments(&dir)? {
            if segment < position.segment {
                let path = files::segment_path(&dir, segment);
                if_exists(fs::remove_file(&path)).context("free segment", &path)?;
            }
        }
        follower.freed_below = position.segment;
        Ok(())
    }

    /// Removes a stream whose end has been committed. The directory goes in one step, so that no
    /// one ever meets half of it.
    fn remove(&mut self, stream: StreamId) -> Result<(), FileError> {
        let dir = files::stream_dir(&self.dir, stream);
        let gone = files::gone_stream_dir(&self.dir, stream);
        if_exists(fs::rename(&dir, &gone)).context("remove stream", &dir)?;
        if_exists(fs::remove_dir_all(&gone)).context("remove stream", &gone)?;
        self.finished.remove(&stream);
        self.cursor.forget(stream);
        Ok(())
    }
}

fn take_lock(dir: &Path) -> Result<LockedFile, ReaderError> {
    let path = dir.join(files::READER_LOCK);
    let lock = files::create().open(&path).context("open", &path)?;
    match LockedFile::try_new(lock) {
        Ok(lock) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(ReaderError::InUse {
            dir: dir.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(error).context("lock", &path)?,
    }
}

/// Finishes removals that a crash interrupted.
fn remove_gone(journal: &Path) -> Result<(), FileError> {
    for path in files::list_prefixed(journal, files::GONE)? {
        if_exists(fs::remove_dir_all(&path)).context("remove stream", &path)?;
    }
    Ok(())
}
