//! The thread that calls fsync, so that no one else has to.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::{Core, Durability, JournalOptions};

/// What the writers tell the sync thread.
#[derive(Debug, Default)]
pub(crate) struct SyncQueue {
    asked: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Asked {
    /// When the oldest unsynced append was made.
    since: Option<Instant>,
    bytes: u64,
    sealed: bool,
    stop: bool,
}

impl SyncQueue {
    /// Something was appended that someone may wait for.
    pub(crate) fn written(&self, options: &JournalOptions, bytes: u64) {
        let mut asked = self.asked.lock();
        asked.bytes += bytes;
        let first = asked.since.is_none();
        if first {
            asked.since = Some(Instant::now());
        }
        let enough =
            matches!(options.durability, Durability::Group { bytes, .. } if asked.bytes >= bytes);
        drop(asked);
        if first || enough {
            self.changed.notify_one();
        }
    }

    /// A segment was sealed.
    pub(crate) fn sealed(&self) {
        self.asked.lock().sealed = true;
        self.changed.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.asked.lock().stop = true;
        self.changed.notify_one();
    }

    /// Waits until a round of fsyncs is due. `false` when the journal is being closed.
    fn wait(&self, durability: Durability) -> bool {
        let mut asked = self.asked.lock();
        while !asked.stop {
            let due = match (durability, asked.since) {
                (Durability::Group { bytes, .. }, Some(_)) if asked.bytes >= bytes => None,
                (Durability::Group { delay, .. }, Some(since)) => Some(since + delay),
                (Durability::Fsync, Some(_)) => None,
                (_, None) | (Durability::Os, _) if asked.sealed => None,
                (_, None) | (Durability::Os, _) => {
                    self.changed.wait(&mut asked);
                    continue;
                }
            };
            match due {
                Some(due) if due > Instant::now() => {
                    self.changed.wait_until(&mut asked, due);
                }
                _ => {
                    *asked = Asked::default();
                    return true;
                }
            }
        }
        false
    }
}

/// One round covers all streams: whoever appended before it began shares it.
pub(super) fn run(core: &Core) {
    while core.sync_queue.wait(core.options.durability) {
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
