//! Who may call, and how much: keys and rules, kept in a log of their own and held in memory.
//!
//! The way through: whoever changes something writes a [`record::Change`] to the control log, with
//! an event beside it ([`change`]); every gateway follows the log and holds what it says as a
//! [`Snapshot`]; a request reads the snapshot once. No request waits for the log, and a gateway
//! that cannot read it goes on with what it has.

pub mod change;
pub mod key;
pub mod log;
pub mod network;
pub mod policy;
pub mod record;
mod snapshot;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use weir_eventlog::StreamWriter;

use change::{Act, ChangeError};
use key::{HashKey, HashKeyError};
use log::{ControlLog, LogError, path_in};
use record::Change;
pub use snapshot::{Identity, Key, KeyRefusal, ModelDenied, Snapshot};

/// How soon a change is seen: revoking a key takes effect within this.
const POLL: Duration = Duration::from_millis(100);
/// How often and how long whoever changes something looks whether it is in force.
const SEEN_LOOK: Duration = Duration::from_millis(5);
const SEEN_LOOKS_MAX: u32 = 200;

/// Control could not be taken up.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error(transparent)]
    HashKey(#[from] HashKeyError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("start the thread that follows the control log: {0}")]
    Thread(#[source] io::Error),
}

/// Where control is kept.
#[derive(Clone, Debug)]
pub struct Control {
    pub log: ControlLog,
    pub hash_key: Arc<HashKey>,
}

impl Control {
    /// The control of a data directory. `secret` is what keys are hashed with, if it is not to be
    /// the one of the directory.
    pub fn open(data_dir: &Path, secret: Option<&str>) -> Result<Self, ControlError> {
        let hash_key = match secret {
            Some(secret) => HashKey::new(secret.as_bytes())?,
            None => HashKey::in_dir(data_dir)?,
        };
        Ok(Self {
            log: ControlLog::new(path_in(data_dir)),
            hash_key: Arc::new(hash_key),
        })
    }

    /// Everything as it stands now.
    pub fn snapshot(&self) -> Result<Snapshot, LogError> {
        self.log.snapshot()
    }

    /// Reads everything and goes on following it.
    pub fn follow(self) -> Result<ControlHandle, ControlError> {
        let mut reader = self.log.reader();
        let mut changes = Vec::new();
        reader.read(|change| changes.push(change))?;
        let mut current = Snapshot::default();
        current.apply(changes);
        let current = Arc::new(ArcSwap::from_pointee(current));
        let follower = Follower::start(reader, current.clone()).map_err(ControlError::Thread)?;
        Ok(ControlHandle {
            control: self,
            current,
            follower: Arc::new(follower),
        })
    }
}

/// Keys and rules as they are now. Cheap to clone; follows the log for as long as a clone lives.
#[derive(Clone, Debug)]
pub struct ControlHandle {
    control: Control,
    current: Arc<ArcSwap<Snapshot>>,
    follower: Arc<Follower>,
}

impl ControlHandle {
    #[must_use]
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The same, for those who hold it longer than a moment.
    #[must_use]
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Makes a change, and waits until it is in force here.
    pub fn change(
        &self,
        stream: &StreamWriter,
        act: &Act<'_>,
        change: Change,
    ) -> Result<(), ChangeError> {
        let before = self.load().record(change.kind, &change.id);
        self.control.change(stream, act, before.as_ref(), &change)?;
        for _ in 0..SEEN_LOOKS_MAX {
            self.follower.look();
            if self.load().record(change.kind, &change.id) == change.record {
                return Ok(());
            }
            std::thread::park_timeout(SEEN_LOOK);
        }
        // It is in the log: it will be in force when the log can be read again.
        Ok(())
    }

    /// Whom a presented key stands for.
    pub fn authenticate(&self, presented: &str, now_ms: u64) -> Result<Identity, KeyRefusal> {
        self.load()
            .authenticate(&self.control.hash_key, presented, now_ms)
    }
}

/// The thread that follows the log.
#[derive(Debug)]
struct Follower {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    fn start(mut reader: log::Reader, current: Arc<ArcSwap<Snapshot>>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let follow = move || {
            let mut failing = false;
            while !stopped.load(Ordering::Relaxed) {
                std::thread::park_timeout(POLL);
                let mut changes = Vec::new();
                let read = reader.read(|change| changes.push(change));
                if !changes.is_empty() {
                    let mut next = Snapshot::clone(&current.load());
                    next.apply(changes);
                    current.store(Arc::new(next));
                }
                // Said once, not ten times a second.
                if let (Err(error), false) = (&read, failing) {
                    tracing::error!(%error, "follow the control log; keys stay as they are");
                }
                failing = read.is_err();
            }
        };
        let thread = std::thread::Builder::new()
            .name("control-log".into())
            .spawn(follow)?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Follower {
    /// Reads now and not in a moment.
    fn look(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic of the follower was reported when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::record::{KeyRecord, Record};
    use super::*;

    #[test]
    fn afollower_sees_what_is_appended() {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(dir.path(), None).unwrap();
        let handle = control.clone().follow().unwrap();
        let key = key::generate().unwrap();
        assert!(handle.authenticate(&key, 0).is_err());
        let hash = control.hash_key.hash(&key).unwrap();
        let record = KeyRecord::new(key::KeyId(1), hash, 1);
        control
            .log
            .append(&Change::set(Record::Key(record)))
            .unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while handle.authenticate(&key, 0).is_err() {
            assert!(
                std::time::Instant::now() < deadline,
                "the follower did not see the key"
            );
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_data_directory_keeps_its_secret_and_no_other_knows_its_keys() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let fingerprint =
            |dir: &tempfile::TempDir| HashKey::in_dir(dir.path()).unwrap().fingerprint();
        assert_eq!(fingerprint(&dirs[0]), fingerprint(&dirs[0]));
        assert_ne!(fingerprint(&dirs[0]), fingerprint(&dirs[1]));
        assert!(matches!(
            Control::open(dirs[0].path(), Some("short")),
            Err(ControlError::HashKey(HashKeyError::Short { bytes: 5 }))
        ));
    }
}
