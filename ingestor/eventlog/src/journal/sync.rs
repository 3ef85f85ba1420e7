//! The thread that calls fsync, so that no writer has to.

use std::sync::OnceLock;
use std::thread::Thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Core, Durability, JournalOptions};
use crate::thread::StopSignal;

/// How long the thread sleeps when there is nothing to sync. It is woken at once when there is.
const IDLE: Duration = Duration::from_secs(3600);

/// What the writers tell the sync thread.
#[derive(Debug, Default)]
pub(crate) struct SyncQueue {
    unsynced: Mutex<UnsyncedAppends>,
    thread: OnceLock<Thread>,
}

#[derive(Debug, Default)]
struct UnsyncedAppends {
    /// When the oldest of them was made.
    since: Option<Instant>,
    bytes: u64,
    /// A segment was sealed.
    sealed: bool,
}

impl SyncQueue {
    /// Something was appended whose writer may wait for the disk.
    pub(crate) fn written(&self, options: &JournalOptions, bytes: u64) {
        let mut unsynced = self.unsynced.lock();
        unsynced.bytes += bytes;
        let first = unsynced.since.is_none();
        if first {
            unsynced.since = Some(Instant::now());
        }
        let enough = matches!(options.durability, Durability::Group { bytes, .. } if unsynced.bytes >= bytes);
        drop(unsynced);
        if first || enough {
            self.wake();
        }
    }

    /// A segment was sealed.
    pub(crate) fn sealed(&self) {
        self.unsynced.lock().sealed = true;
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Waits until a round of fsyncs is due. `false` when the journal is being closed.
    fn wait(&self, durability: Durability, stop: &StopSignal) -> bool {
        while !stop.is_set() {
            let wait = {
                let mut unsynced = self.unsynced.lock();
                let wait = unsynced.due_in(durability, Instant::now());
                if wait.is_zero() {
                    *unsynced = UnsyncedAppends::default();
                    return true;
                }
                wait
            };
            stop.sleep(wait);
        }
        false
    }
}

impl UnsyncedAppends {
    fn due_in(&self, durability: Durability, now: Instant) -> Duration {
        match (durability, self.since) {
            (Durability::Group { delay, bytes }, Some(since)) if self.bytes < bytes => {
                (since + delay).saturating_duration_since(now)
            }
            (Durability::Group { .. } | Durability::Fsync, Some(_)) => Duration::ZERO,
            (_, None) | (Durability::Os, _) if self.sealed => Duration::ZERO,
            (_, None) | (Durability::Os, _) => IDLE,
        }
    }
}

/// One round covers all streams: an append made before it began shares it.
pub(super) fn run(core: &Core, stop: &StopSignal) {
    // Set before the first look at the queue, so that no writer is missed.
    let _ = core.sync_queue.thread.set(std::thread::current());
    // What an earlier round may have left, if this is a new beginning.
    round(core);
    while core.sync_queue.wait(core.options.durability, stop) {
        round(core);
    }
    round(core);
}

fn round(core: &Core) {
    for stream in core.open_streams() {
        if let Err(error) = stream.sync() {
            stream.sync_failed(&error);
        }
    }
}
