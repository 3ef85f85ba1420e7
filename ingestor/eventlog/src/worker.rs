//! A source lives on a thread of its own, because reading, syncing and Kafka's client all block.
//! The ingestor asks it for a batch or tells it of a commit; there is at most one of each under
//! way, so nothing queues up between the two.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{mpsc, oneshot};

use crate::source::{BatchLimits, Committed, Progress, SourceBatch, SourceError};

/// What the thread is asked for.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    asked: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Asked {
    batch: Option<BatchLimits>,
    commit: Option<Commit>,
    stop: bool,
}

#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) progress: Progress,
    pub(crate) reply: oneshot::Sender<Result<Committed, SourceError>>,
}

/// What the thread should do next.
#[derive(Debug)]
pub(crate) enum Order {
    Batch(BatchLimits),
    Commit(Commit),
    Stop,
}

impl Inbox {
    /// The next order, or `None` when `wait` is over without one.
    pub(crate) fn next(&self, wait: Duration) -> Option<Order> {
        self.take(wait, true)
    }

    /// The same while a batch is being filled: there can't be an order for another one.
    pub(crate) fn next_urgent(&self, wait: Duration) -> Option<Order> {
        self.take(wait, false)
    }

    fn take(&self, wait: Duration, batches: bool) -> Option<Order> {
        let deadline = Instant::now() + wait;
        let mut asked = self.asked.lock();
        loop {
            if asked.stop {
                return Some(Order::Stop);
            }
            if let Some(commit) = asked.commit.take() {
                return Some(Order::Commit(commit));
            }
            if let Some(limits) = asked.batch.take_if(|_| batches) {
                return Some(Order::Batch(limits));
            }
            if self.changed.wait_until(&mut asked, deadline).timed_out() {
                return None;
            }
        }
    }

    fn ask(&self, change: impl FnOnce(&mut Asked)) {
        change(&mut self.asked.lock());
        self.changed.notify_one();
    }
}

/// Where the thread puts the batches.
pub(crate) type Outbox = mpsc::Sender<Result<SourceBatch, SourceError>>;

/// The ingestor's end. Dropping it stops the thread.
#[derive(Debug)]
pub(crate) struct Worker {
    inbox: Arc<Inbox>,
    batches: mpsc::Receiver<Result<SourceBatch, SourceError>>,
    asked: bool,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Worker {
    pub(crate) fn start(
        name: &'static str,
        run: impl FnOnce(Arc<Inbox>, Outbox) + Send + 'static,
    ) -> std::io::Result<Self> {
        let inbox = Arc::<Inbox>::default();
        let (outbox, batches) = mpsc::channel(1);
        let thread = {
            let inbox = Arc::clone(&inbox);
            let builder = std::thread::Builder::new().name(name.to_owned());
            builder.spawn(move || run(inbox, outbox))?
        };
        Ok(Self {
            inbox,
            batches,
            asked: false,
            thread: Some(thread),
        })
    }

    /// The next batch. If this is dropped, the batch that was under way is the next one's answer.
    pub(crate) async fn next(&mut self, limits: BatchLimits) -> Result<SourceBatch, SourceError> {
        if !self.asked {
            self.asked = true;
            self.inbox.ask(|asked| asked.batch = Some(limits));
        }
        let batch = self.batches.recv().await.ok_or(SourceError::Ended)?;
        self.asked = false;
        batch
    }

    pub(crate) async fn commit(&mut self, progress: Progress) -> Result<Committed, SourceError> {
        let (reply, replied) = oneshot::channel();
        self.inbox.ask(|asked| {
            let mut commit = Commit { progress, reply };
            // A commit whose caller went away before it was taken up is part of this one.
            if let Some(earlier) = asked.commit.take() {
                commit.progress.add_earlier(earlier.progress);
            }
            asked.commit = Some(commit);
        });
        replied.await.map_err(|_| SourceError::Ended)?
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.inbox.ask(|asked| asked.stop = true);
        self.batches.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that reads the log had panicked");
        }
    }
}
