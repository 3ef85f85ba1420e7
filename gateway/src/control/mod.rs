//! Who may call: virtual keys, kept in a log of their own and held in memory.
//!
//! The way through: `weir keys create` appends a [`KeyRecord`] to the [`log`]; every gateway
//! follows the log and holds what it says as a [`Keys`] snapshot; a request reads the snapshot
//! once. No request waits for the log, and a gateway that cannot read it goes on with what it has.

pub mod key;
pub mod log;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use serde::{Deserialize, Serialize};

use key::KeyHash;
use log::{ControlLog, LogError, Read};

/// How soon a change is seen: revoking a key takes effect within this.
const POLL: Duration = Duration::from_millis(100);

/// A virtual key, as the log holds it. The latest record of an id counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    pub id: String,
    /// SHA-256 of the key. The key itself is shown once and kept nowhere.
    pub hash: KeyHash,
    pub organisation: Option<String>,
    pub team: Option<String>,
    pub project: Option<String>,
    pub user: Option<String>,
    pub environment: Option<String>,
    pub tier: Option<String>,
    /// Aliases that it may use; all if empty.
    #[serde(default)]
    pub models: Vec<String>,
    pub created_ms: u64,
    pub expires_ms: Option<u64>,
    pub revoked_ms: Option<u64>,
}

/// The record in force of each key, in the order in which the keys were made.
#[must_use]
pub fn latest(records: Vec<KeyRecord>) -> Vec<KeyRecord> {
    let mut latest: Vec<KeyRecord> = Vec::new();
    let mut position = HashMap::new();
    for record in records {
        match position.get(&record.id) {
            Some(at) => latest[*at] = record,
            None => {
                position.insert(record.id.clone(), latest.len());
                latest.push(record);
            }
        }
    }
    latest
}

/// Whom a key stands for.
#[derive(Clone, Debug)]
pub struct Identity {
    pub key_id: String,
    pub organisation: Option<String>,
    pub team: Option<String>,
    pub project: Option<String>,
    pub user: Option<String>,
    pub environment: Option<String>,
    pub tier: Option<String>,
    models: Vec<String>,
    expires_ms: Option<u64>,
    revoked_ms: Option<u64>,
}

impl Identity {
    /// Whether the key may use an alias.
    #[must_use]
    pub fn may_use(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|allowed| allowed == model)
    }
}

impl From<KeyRecord> for Identity {
    fn from(record: KeyRecord) -> Self {
        Self {
            key_id: record.id,
            organisation: record.organisation,
            team: record.team,
            project: record.project,
            user: record.user,
            environment: record.environment,
            tier: record.tier,
            models: record.models,
            expires_ms: record.expires_ms,
            revoked_ms: record.revoked_ms,
        }
    }
}

/// Why a key opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    #[error("this is not a Weir key: a key begins with weir_ and is used whole")]
    Malformed,
    #[error("the API key is unknown")]
    Unknown,
    #[error("the API key was revoked")]
    Revoked,
    #[error("the API key has expired")]
    Expired,
}

/// All keys at one moment.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    by_hash: HashMap<KeyHash, Arc<Identity>>,
}

impl Keys {
    /// Finds whom a presented key stands for. Costs one hash and one look-up, however many there
    /// are; what is looked up is a hash, so its timing says nothing about the keys.
    pub fn authenticate(&self, presented: &str, now_ms: u64) -> Result<&Arc<Identity>, KeyRefusal> {
        let hash = key::hash(presented).ok_or(KeyRefusal::Malformed)?;
        let identity = self.by_hash.get(&hash).ok_or(KeyRefusal::Unknown)?;
        if identity.revoked_ms.is_some() {
            return Err(KeyRefusal::Revoked);
        }
        if identity
            .expires_ms
            .is_some_and(|expires_ms| expires_ms <= now_ms)
        {
            return Err(KeyRefusal::Expired);
        }
        Ok(identity)
    }

    fn apply(&mut self, record: KeyRecord) {
        self.by_hash.insert(record.hash, Arc::new(record.into()));
    }
}

/// The keys as they are now. Cheap to clone; follows the log for as long as a clone lives.
#[derive(Clone, Debug)]
pub struct KeysHandle {
    keys: Arc<ArcSwap<Keys>>,
    _follower: Arc<Follower>,
}

impl KeysHandle {
    /// Reads the log and goes on following it. The file need not exist yet.
    pub fn follow(path: impl Into<PathBuf>) -> Result<Self, LogError> {
        let mut reader = ControlLog::new(path).reader();
        let mut current = Keys::default();
        apply_news(&mut reader, &mut current)?;
        let keys = Arc::new(ArcSwap::from_pointee(current));
        let follower = Follower::start(reader, keys.clone()).map_err(LogError::Thread)?;
        Ok(Self {
            keys,
            _follower: Arc::new(follower),
        })
    }

    #[must_use]
    pub fn load(&self) -> Guard<Arc<Keys>> {
        self.keys.load()
    }
}

/// The thread that follows the log.
#[derive(Debug)]
struct Follower {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    fn start(mut reader: log::Reader, keys: Arc<ArcSwap<Keys>>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let follow = move || {
            let mut failing = false;
            while !stopped.load(Ordering::Relaxed) {
                std::thread::park_timeout(POLL);
                let mut next = None;
                let read = reader.read(|record| {
                    next.get_or_insert_with(|| Keys::clone(&keys.load()))
                        .apply(record);
                });
                if let Some(next) = next {
                    keys.store(Arc::new(next));
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

fn apply_news(reader: &mut log::Reader, keys: &mut Keys) -> Result<Read, LogError> {
    reader.read(|record| keys.apply(record))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, key: &str) -> KeyRecord {
        KeyRecord {
            id: id.into(),
            hash: key::hash(key).unwrap(),
            organisation: None,
            team: Some("growth".into()),
            project: None,
            user: None,
            environment: None,
            tier: None,
            models: Vec::new(),
            created_ms: 1,
            expires_ms: None,
            revoked_ms: None,
        }
    }

    #[test]
    fn a_key_opens_until_it_expires_or_is_revoked() {
        let key = key::generate().unwrap();
        let mut keys = Keys::default();
        assert_eq!(keys.authenticate(&key, 0).unwrap_err(), KeyRefusal::Unknown);
        keys.apply(record("k1", &key));
        assert_eq!(keys.authenticate(&key, 0).unwrap().key_id, "k1");
        keys.apply(KeyRecord {
            expires_ms: Some(10),
            ..record("k1", &key)
        });
        assert!(keys.authenticate(&key, 9).is_ok());
        assert_eq!(
            keys.authenticate(&key, 10).unwrap_err(),
            KeyRefusal::Expired
        );
        keys.apply(KeyRecord {
            revoked_ms: Some(5),
            ..record("k1", &key)
        });
        assert_eq!(keys.authenticate(&key, 9).unwrap_err(), KeyRefusal::Revoked);
    }

    #[test]
    fn a_mistyped_key_is_malformed_and_not_unknown() {
        let mut key = key::generate().unwrap();
        let keys = Keys::default();
        let last = key.pop().unwrap();
        key.push(if last == 'A' { 'B' } else { 'A' });
        assert_eq!(
            keys.authenticate(&key, 0).unwrap_err(),
            KeyRefusal::Malformed
        );
        for foreign in ["", "weir_", "sk-proj-abc", "weir_é"] {
            assert_eq!(
                keys.authenticate(foreign, 0).unwrap_err(),
                KeyRefusal::Malformed
            );
        }
    }

    #[test]
    fn a_follower_sees_what_is_appended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.log");
        let handle = KeysHandle::follow(&path).unwrap();
        let key = key::generate().unwrap();
        assert!(handle.load().authenticate(&key, 0).is_err());
        ControlLog::new(&path).append(&record("k1", &key)).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while handle.load().authenticate(&key, 0).is_err() {
            assert!(
                std::time::Instant::now() < deadline,
                "the follower did not see the key"
            );
            std::thread::yield_now();
        }
    }
}
