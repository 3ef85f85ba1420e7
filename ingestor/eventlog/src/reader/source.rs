//! The journal as a source for the ingestor of the same machine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use parking_lot::Mutex;

use super::{JournalReader, ReaderError, ReaderStats};
use crate::batch::{BatchLimits, Committed, SourceBatch};
use crate::caps::READ_POLL;
use crate::parts::Parts;
use crate::progress::Progress;
use crate::source_thread::{BatchSender, Commit, SourceCommand, SourceCommands, SourceThread};

/// Reads the journal on a thread of its own. Dropping it leaves everything uncommitted to the next.
#[derive(Debug)]
pub struct JournalSource {
    pub(crate) thread: SourceThread<ReaderError>,
    stats: Arc<Mutex<ReaderStats>>,
}

impl JournalSource {
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, ReaderError> {
        Self::open_as_part(dir, &Parts::default())
    }

    /// The same, as the part `journal-reader` of a process.
    pub fn open_as_part(dir: impl Into<PathBuf>, parts: &Parts) -> Result<Self, ReaderError> {
        let reader = JournalReader::open(dir)?;
        let stats = Arc::<Mutex<ReaderStats>>::default();
        let name = "journal-reader";
        let read_loop = ReadLoop {
            reader,
            carried: Progress::default(),
            stats: Arc::clone(&stats),
        };
        let run = move |commands, batches| read_loop.run(&commands, &batches);
        let thread = SourceThread::start(name, parts.add(name), run)
            .map_err(|source| ReaderError::Thread { name, source })?;
        Ok(Self { thread, stats })
    }

    #[must_use]
    pub fn stats(&self) -> ReaderStats {
        *self.stats.lock()
    }
}

#[derive(Debug)]
struct ReadLoop {
    reader: JournalReader,
    carried: Progress,
    stats: Arc<Mutex<ReaderStats>>,
}

/// How long an idle thread sleeps, and a batch is filled, at most. A command wakes it at once.
const IDLE: Duration = Duration::from_secs(3600);

impl ReadLoop {
    fn run(mut self, commands: &SourceCommands<ReaderError>, batches: &BatchSender<ReaderError>) {
        loop {
            match commands.next(IDLE) {
                Ok(SourceCommand::Commit(commit)) => self.commit(commit),
                Ok(SourceCommand::Batch(limits)) => {
                    let batch = self.batch(commands, &limits);
                    *self.stats.lock() = self.reader.stats();
                    if batches.blocking_send(batch).is_err() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Fills a batch until it is full or its time is over. Commits don't wait for that.
    fn batch(
        &mut self,
        commands: &SourceCommands<ReaderError>,
        limits: &BatchLimits,
    ) -> Result<SourceBatch, ReaderError> {
        let mut batch = SourceBatch::default();
        let deadline = Instant::now() + limits.wait_max.min(IDLE);
        loop {
            let now = Instant::now();
            match self.reader.fill(&mut batch, limits, now) {
                Ok(()) => {}
                Err(error) if batch.is_empty() => return Err(error),
                // What was read is given first; the error will come again.
                Err(_) => break,
            }
            if batch.is_full(limits) || now >= deadline {
                break;
            }
            let wait = READ_POLL.min(deadline - now);
            match commands.next_commit(wait) {
                Ok(commit) => self.commit(commit),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.reader.seal(&batch);
        self.carry_progress(&mut batch);
        Ok(batch)
    }

    /// An empty batch is never committed. What was passed on the way to it, say the end of a segment,
    /// is committed with the next batch.
    fn carry_progress(&mut self, batch: &mut SourceBatch) {
        let earlier = std::mem::take(&mut self.carried);
        batch.progress.add_earlier(earlier);
        if batch.is_empty() {
            self.carried = std::mem::take(&mut batch.progress);
        }
    }

    fn commit(&mut self, commit: Commit<ReaderError>) {
        let committed = if commit.rereads {
            self.carried = Progress::default();
            self.reader.reread()
        } else {
            self.reader.commit_progress(&commit.progress)
        };
        *self.stats.lock() = self.reader.stats();
        commit.reply(committed.map(|()| Committed::Done));
    }
}
