//! The journal as a source for the ingestor of the same machine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{JournalReader, ReaderError, ReaderStats};
use crate::caps::READ_POLL;
use crate::source::{BatchLimits, Committed, Progress, SourceBatch, SourceError};
use crate::worker::{Commit, Inbox, Order, Outbox, Worker};

/// Reads the journal on a thread of its own. Dropping it leaves everything uncommitted to the next.
#[derive(Debug)]
pub struct JournalSource {
    worker: Worker,
    stats: Arc<Mutex<ReaderStats>>,
}

impl JournalSource {
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, ReaderError> {
        let reader = JournalReader::open(dir)?;
        let stats = Arc::<Mutex<ReaderStats>>::default();
        let name = "journal-reader";
        let reading = Reading {
            reader,
            carried: Progress::None,
            stats: Arc::clone(&stats),
        };
        let worker = Worker::start(name, move |inbox, outbox| reading.run(&inbox, &outbox))
            .map_err(|source| ReaderError::Thread { name, source })?;
        Ok(Self { worker, stats })
    }

    #[must_use]
    pub fn stats(&self) -> ReaderStats {
        *self.stats.lock()
    }

    pub(crate) async fn next(&mut self, limits: BatchLimits) -> Result<SourceBatch, SourceError> {
        self.worker.next(limits).await
    }

    pub(crate) async fn commit(&mut self, batch: &SourceBatch) -> Result<Committed, SourceError> {
        self.worker.commit(batch.progress.clone()).await
    }
}

#[derive(Debug)]
struct Reading {
    reader: JournalReader,
    carried: Progress,
    stats: Arc<Mutex<ReaderStats>>,
}

/// How long an idle thread sleeps, and a batch is filled, at most. An order wakes it at once.
const IDLE: Duration = Duration::from_secs(3600);

impl Reading {
    fn run(mut self, inbox: &Inbox, outbox: &Outbox) {
        loop {
            match inbox.next(IDLE) {
                Some(Order::Stop) => return,
                Some(Order::Commit(commit)) => self.commit(commit),
                Some(Order::Batch(limits)) => {
                    let batch = self.batch(inbox, &limits).map_err(SourceError::from);
                    *self.stats.lock() = self.reader.stats();
                    if outbox.blocking_send(batch).is_err() {
                        return;
                    }
                }
                None => {}
            }
        }
    }

    /// Fills a batch until it is full or its time is over. Commits don't wait for that.
    fn batch(&mut self, inbox: &Inbox, limits: &BatchLimits) -> Result<SourceBatch, ReaderError> {
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
            match inbox.next_urgent(wait) {
                Some(Order::Commit(commit)) => self.commit(commit),
                Some(Order::Stop) => break,
                Some(Order::Batch(_)) | None => {}
            }
        }
        self.reader.seal(&batch);
        self.carry_progress(&mut batch);
        Ok(batch)
    }

    /// No one commits a batch that holds nothing. What was passed on the way to it, say the end of a
    /// segment, is committed with the next that does.
    fn carry_progress(&mut self, batch: &mut SourceBatch) {
        let earlier = std::mem::take(&mut self.carried);
        batch.progress.add_earlier(earlier);
        if batch.is_empty() {
            self.carried = std::mem::take(&mut batch.progress);
        }
    }

    fn commit(&mut self, commit: Commit) {
        let done = match &commit.progress {
            Progress::Journal(marks) => self.reader.commit_marks(marks),
            Progress::None | Progress::Kafka(_) => Ok(()),
        };
        *self.stats.lock() = self.reader.stats();
        // Who asked may have gone away; the commit stands all the same.
        let _ = commit
            .reply
            .send(done.map(|()| Committed::Done).map_err(SourceError::from));
    }
}
