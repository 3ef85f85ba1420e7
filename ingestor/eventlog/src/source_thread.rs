//! The thread that a source reads on, because reading, syncing and Kafka's client all block.
//!
//! The ingestor asks it for a batch or tells it of a commit. At most one of each is on its way, so
//! nothing queues up between the two.

use std::fmt::Display;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select_biased};
use tokio::sync::{mpsc, oneshot};

use crate::batch::{BatchLimits, Committed, SourceBatch};
use crate::parts::PartHandle;
use crate::progress::Progress;
use crate::thread::StoppableThread;

/// What the ingestor asks for.
#[derive(Debug)]
pub(crate) enum SourceCommand<E> {
    Batch(BatchLimits),
    Commit(Commit<E>),
}

#[derive(Debug)]
pub(crate) struct Commit<E> {
    pub(crate) progress: Progress,
    /// Go back to the beginning of what the log still has.
    pub(crate) rereads: bool,
    reply: oneshot::Sender<Result<Committed, E>>,
}

impl<E> Commit<E> {
    /// Answers it and gives it up. The caller may be gone; the commit stands all the same.
    pub(crate) fn reply(self, committed: Result<Committed, E>) {
        let _ = self.reply.send(committed);
    }
}

/// The thread's end. Disconnected when the source is dropped.
#[derive(Debug)]
pub(crate) struct SourceCommands<E> {
    batches: Receiver<BatchLimits>,
    commits: Receiver<Commit<E>>,
}

impl<E> SourceCommands<E> {
    /// The next command; a commit goes first.
    pub(crate) fn next(&self, wait: Duration) -> Result<SourceCommand<E>, RecvTimeoutError> {
        let ended = |_| RecvTimeoutError::Disconnected;
        select_biased! {
            recv(self.commits) -> commit => commit.map(SourceCommand::Commit).map_err(ended),
            recv(self.batches) -> limits => limits.map(SourceCommand::Batch).map_err(ended),
            default(wait) => Err(RecvTimeoutError::Timeout),
        }
    }

    /// The next commit, while a batch is being filled.
    pub(crate) fn next_commit(&self, wait: Duration) -> Result<Commit<E>, RecvTimeoutError> {
        self.commits.recv_timeout(wait)
    }
}

/// Where the thread puts the batches.
pub(crate) type BatchSender<E> = mpsc::Sender<Result<SourceBatch, E>>;

/// The ingestor's end. Dropping it ends the thread: the fields are dropped in this order.
#[derive(Debug)]
pub(crate) struct SourceThread<E> {
    wanted: Sender<BatchLimits>,
    commits: Sender<Commit<E>>,
    batches: mpsc::Receiver<Result<SourceBatch, E>>,
    /// A batch has been asked for and not been received.
    batch_pending: bool,
    /// The reply to a commit whose caller may have gone away.
    commit_pending: Option<oneshot::Receiver<Result<Committed, E>>>,
    part: PartHandle,
    _thread: StoppableThread,
}

impl<E: Display + Send + 'static> SourceThread<E> {
    pub(crate) fn start(
        name: &str,
        part: PartHandle,
        run: impl FnOnce(SourceCommands<E>, BatchSender<E>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (wanted, batches_wanted) = bounded(1);
        let (commits, commits_made) = bounded(1);
        let (batches_read, batches) = mpsc::channel(1);
        let commands = SourceCommands {
            batches: batches_wanted,
            commits: commits_made,
        };
        let told = part.clone();
        // The thread learns from its channels that it is to stop. Whoever reads starts another one.
        let thread = StoppableThread::start(name, move |_| {
            told.run_once(|| run(commands, batches_read));
        })?;
        Ok(Self {
            wanted,
            commits,
            batches,
            batch_pending: false,
            commit_pending: None,
            part,
            _thread: thread,
        })
    }

    /// The next batch; `None` if the thread has ended. If this is dropped, the next call gets the
    /// batch that it had asked for.
    pub(crate) async fn next(&mut self, limits: BatchLimits) -> Option<Result<SourceBatch, E>> {
        if !self.batch_pending {
            self.wanted.try_send(limits).ok()?;
            self.batch_pending = true;
        }
        let batch = self.batches.recv().await?;
        self.batch_pending = false;
        match &batch {
            Ok(_) => self.part.ok(),
            Err(error) => _ = self.part.failed(error),
        }
        Some(batch)
    }

    /// Commits; `None` if the thread has ended. If this is dropped, the commit is made all the same,
    /// before the next one.
    pub(crate) async fn commit(&mut self, progress: Progress) -> Option<Result<Committed, E>> {
        self.command(progress, false).await
    }

    /// Makes the next batch begin where the log does; `None` if the thread has ended. No batch may be on
    /// its way.
    pub(crate) async fn reread(&mut self) -> Option<Result<Committed, E>> {
        self.command(Progress::default(), true).await
    }

    async fn command(&mut self, progress: Progress, rereads: bool) -> Option<Result<Committed, E>> {
        if let Some(earlier) = &mut self.commit_pending {
            let _ = earlier.await;
        }
        let (reply, replied) = oneshot::channel();
        let commit = Commit {
            progress,
            rereads,
            reply,
        };
        self.commits.try_send(commit).ok()?;
        let committed = self.commit_pending.insert(replied).await;
        self.commit_pending = None;
        committed.ok()
    }
}
