//! Who may call, and how much: keys and rules, kept in a log of their own and held in memory.
//!
//! The way through: whoever changes something writes a [`record::Change`] to the control log, with
//! an event beside it ([`change`]); every gateway follows the log and holds what it says as a
//! [`Snapshot`]; a request reads the snapshot once. No request waits for the log, and a gateway
//! that cannot read it goes on with what it has.

mod applied;
pub mod change;
mod feed;
pub mod key;
mod last_used;
pub mod log;
mod mark;
pub mod network;
pub mod policy;
pub mod record;
mod rule_set;
mod snapshot;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use weir_eventlog::{
    KafkaOptions, PartHandle, PartState, Parts, StopSignal, StoppableThread, StreamWriter,
};
use weir_schemas::RequestId;

use crate::caps::{CONTROL_FIRST_READ_MAX, CONTROL_WHOLE_READ_MAX, IN_FORCE_MAX};
use applied::{AppliedChanges, FollowersDir};
use change::{Act, ChangeError};
use feed::{ControlTopic, Feed, TopicFeed};
use key::{HashKey, HashKeyError, KeyId};
pub use last_used::LastUse;
use last_used::LastUsedFile;
use log::{ControlLog, LogError};
use mark::LogPrefix;
use record::{Change, Kind, Record};
pub use snapshot::{Identity, Key, KeyRefusal, ModelDenied, Snapshot};

/// How soon a change is seen: whoever makes one waits for it. A look is one system call.
const POLL: Duration = Duration::from_millis(20);
/// Pause after the topic could not be read.
const RETRY: Duration = Duration::from_secs(1);
/// How often whoever changes something looks whether it is in force.
const SEEN_LOOK: Duration = Duration::from_millis(5);

/// Control could not be taken up.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error(transparent)]
    HashKey(#[from] HashKeyError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(
        "the keys in the control topic were hashed with another secret: set [control] hash_secret to \
         the same text on every machine"
    )]
    OtherSecret,
    #[error("keep a file of the changes that are in force: {0}")]
    Followers(#[source] io::Error),
    #[error("start the thread that follows the control log: {0}")]
    Thread(#[source] io::Error),
}

/// Where control is kept.
#[derive(Clone, Debug)]
pub struct Control {
    /// The log of this machine; where there is a topic, a copy of that.
    log: ControlLog,
    /// The topic that all gateways follow.
    topic: Option<ControlTopic>,
    last_used: LastUsedFile,
    followers: FollowersDir,
    pub hash_key: Arc<HashKey>,
}

impl Control {
    /// The control of a data directory, or of a topic with a copy there. `secret` is what keys are
    /// hashed with, if it is not to be the one of the directory.
    pub fn open(
        data_dir: &Path,
        secret: Option<&str>,
        topic: Option<KafkaOptions>,
    ) -> Result<Self, ControlError> {
        let hash_key = match secret {
            Some(secret) => HashKey::new(secret.as_bytes())?,
            None => HashKey::in_dir(data_dir)?,
        };
        let log = ControlLog::in_dir(data_dir);
        let topic = topic.map(|options| ControlTopic {
            options,
            copy: log.clone(),
        });
        Ok(Self {
            log,
            topic,
            last_used: LastUsedFile::in_dir(data_dir),
            followers: FollowersDir::in_dir(data_dir),
            hash_key: Arc::new(hash_key),
        })
    }

    /// Puts all that is known in the place of the log, with the secret that its keys need.
    fn write(&self, known: &Snapshot) -> Result<LogPrefix, LogError> {
        let anew = self.log.replace(&known.changes())?;
        self.hash_key.restore().map_err(LogError::Secret)?;
        Ok(anew)
    }

    /// Everything as it stands now.
    pub fn snapshot(&self) -> Result<Snapshot, LogError> {
        let Some(topic) = &self.topic else {
            return self.log.snapshot();
        };
        let mut feed = TopicFeed::new(topic.clone());
        let mut snapshot = Snapshot::default();
        snapshot.apply(
            feed.read_whole(CONTROL_WHOLE_READ_MAX)?
                .ok_or(LogError::Away)?,
        );
        Ok(snapshot)
    }

    /// When keys were last used at the gateway of this data directory, as far as it has written it down.
    pub fn last_used(&self) -> io::Result<HashMap<KeyId, LastUse>> {
        self.last_used.read()
    }

    /// Writes a change to the log. When this returns, every gateway will see it.
    pub fn append(&self, change: &Change) -> Result<(), LogError> {
        match &self.topic {
            None => self.log.append(change),
            Some(topic) => topic.append(change, &self.hash_key),
        }
    }

    /// Writes into the topic what the copy of this machine has and it lacks. Returns how many records
    /// that are.
    pub fn repair(&self) -> Result<usize, LogError> {
        let topic = self.topic.as_ref().ok_or(LogError::NoTopic)?;
        topic.repair(&self.hash_key, CONTROL_WHOLE_READ_MAX)
    }

    /// Waits until a change is in force at all running gateways of this data directory. Returns at how
    /// many it is not.
    pub fn await_in_force(&self, change: RequestId) -> io::Result<usize> {
        self.followers.wait(change, IN_FORCE_MAX)
    }

    /// Reads everything and goes on following it, as a part of the process.
    pub fn follow(self, parts: &Parts) -> Result<ControlHandle, ControlError> {
        let mut current = Snapshot::default();
        // First: who looks before this is there has changed what is read below.
        let mut applied = self.followers.begin().map_err(ControlError::Followers)?;
        let feed = match &self.topic {
            None => {
                let mut reader = self.log.reader();
                let mut changes = Vec::new();
                reader.read(|change| changes.push(change))?;
                let ids = applied::ids(&changes);
                current.apply(changes);
                applied.note(&ids);
                Feed::File(reader)
            }
            Some(topic) => {
                let mut feed = TopicFeed::new(topic.clone());
                let changes = self.first_read(&mut feed)?;
                let ids = applied::ids(&changes);
                current.apply(changes);
                applied.note(&ids);
                Feed::Topic(Box::new(feed))
            }
        };
        self.check_secret(&current)?;
        match self.last_used.read() {
            Ok(used) => used.into_iter().for_each(|(id, used)| {
                if let Some(key) = current.key(id) {
                    key.note_use(used);
                }
            }),
            Err(error) => tracing::warn!(%error, "failed to read when keys were last used"),
        }
        let current = Arc::new(ArcSwap::from_pointee(current));
        let part = parts.add("control-log");
        let mut follower = ControlFollower {
            control: self.clone(),
            feed,
            current: current.clone(),
            applied,
            part: part.clone(),
        };
        let follower = part
            .clone()
            .keep_running(move |stop| follower.run(stop))
            .map_err(ControlError::Thread)?;
        Ok(ControlHandle {
            control: self,
            current,
            follower: Arc::new(follower),
            part,
        })
    }

    /// What the topic says, or the copy of it while Kafka is away.
    fn first_read(&self, feed: &mut TopicFeed) -> Result<Vec<Change>, LogError> {
        match feed.read_whole(CONTROL_FIRST_READ_MAX) {
            Ok(Some(changes)) => return Ok(changes),
            Ok(None) => tracing::warn!("the control topic was not read whole; its copy is used"),
            Err(error) => tracing::warn!(%error, "the copy of the control topic is used"),
        }
        self.log.changes()
    }

    /// Refuses to run where no key would be known.
    fn check_secret(&self, snapshot: &Snapshot) -> Result<(), ControlError> {
        match snapshot.record(Kind::Setting, feed::HASH_KEY) {
            Some(Record::Setting(setting)) if setting.value != self.hash_key.fingerprint() => {
                Err(ControlError::OtherSecret)
            }
            _ => Ok(()),
        }
    }
}

/// Keys and rules as they are now. Cheap to clone; follows the log for as long as a clone lives.
#[derive(Clone, Debug)]
pub struct ControlHandle {
    control: Control,
    current: Arc<ArcSwap<Snapshot>>,
    follower: Arc<StoppableThread>,
    part: PartHandle,
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

    /// Writes down when keys were last used.
    pub fn keep_last_used(&self) {
        let current = self.load();
        let keys = current.keys().into_iter();
        let uses = keys.filter_map(|key| Some((key.id(), key.last_use()?)));
        if let Err(error) = self.control.last_used.write(uses) {
            tracing::warn!(%error, "failed to write down when keys were last used");
        }
    }

    /// Makes a change. When this returns, it is in force here.
    pub fn change(
        &self,
        stream: &StreamWriter,
        act: &Act<'_>,
        change: Change,
    ) -> Result<(), ChangeError> {
        self.check_followed()?;
        let before = self.load().record(change.kind, &change.id);
        self.control.change(stream, act, before.as_ref(), &change)?;
        let deadline = crate::clock::now() + IN_FORCE_MAX;
        while crate::clock::now() < deadline {
            self.follower.wake();
            if self.load().record(change.kind, &change.id) == change.record {
                return Ok(());
            }
            std::thread::park_timeout(SEEN_LOOK);
        }
        Err(ChangeError::NotInForce)
    }

    /// Refuses a change of which nobody here would hear: the topic is gone or another.
    fn check_followed(&self) -> Result<(), ChangeError> {
        let status = self.part.status();
        match (&self.control.topic, status.state) {
            (Some(_), PartState::Failed) => {
                Err(ChangeError::NotFollowed(status.reason.unwrap_or_default()))
            }
            _ => Ok(()),
        }
    }

    /// Whom a presented key stands for.
    pub fn authenticate(&self, presented: &str, now_ms: u64) -> Result<Identity, KeyRefusal> {
        self.load()
            .authenticate(&self.control.hash_key, presented, now_ms)
    }
}

/// Follows the log in a thread of its own. What it holds is the truth: a log that is gone is written
/// anew from it, and one that is another is not read.
struct ControlFollower {
    control: Control,
    feed: Feed,
    current: Arc<ArcSwap<Snapshot>>,
    applied: AppliedChanges,
    part: PartHandle,
}

impl ControlFollower {
    fn run(&mut self, stop: &StopSignal) -> Result<(), String> {
        let mut failing = false;
        // A topic is waited for where it is read.
        while stop.sleep(match (&self.feed, failing) {
            (Feed::File(_), _) => POLL,
            (Feed::Topic(_), false) => Duration::ZERO,
            (Feed::Topic(_), true) => RETRY,
        }) {
            failing = self.look().is_err();
        }
        Ok(())
    }

    /// Takes over what is new. An error is logged when it is news, not ten times a second.
    fn look(&mut self) -> Result<(), LogError> {
        // First: with it the topic is compared.
        let kept = self.keep_copy();
        let (changes, read) = self.feed.news();
        if !changes.is_empty() {
            let mut next = Snapshot::clone(&self.current.load());
            let ids = applied::ids(&changes);
            next.apply(changes);
            self.current.store(Arc::new(next));
            self.applied.note(&ids);
        }
        let done = read.or_else(|error| self.write_anew(error)).and(kept);
        match &done {
            Ok(()) if self.feed.is_read() => self.part.ok(),
            Ok(()) => {}
            Err(error) => {
                if self.part.failed(error) {
                    tracing::error!(%error, "failed to read the control log; keys and rules stay as they are");
                }
            }
        }
        done
    }

    /// Writes the file anew if it is gone.
    fn write_anew(&mut self, error: LogError) -> Result<(), LogError> {
        let (LogError::Gone { path, .. }, Feed::File(reader)) = (&error, &mut self.feed) else {
            return Err(error);
        };
        let anew = self.control.write(&self.current.load())?;
        reader.go_on_with(anew);
        tracing::error!(path = %path.display(), "the control log was deleted; it was written anew from memory");
        Ok(())
    }

    /// Writes the copy of a topic anew if it is gone.
    fn keep_copy(&self) -> Result<(), LogError> {
        match &self.feed {
            Feed::Topic(_) if self.control.log.is_gone()? => {
                self.control.write(&self.current.load())?;
                tracing::error!(
                    "the copy of the control topic was deleted; it was written anew from memory"
                );
                Ok(())
            }
            Feed::Topic(_) | Feed::File(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::record::KeyRecord;
    use super::*;

    #[test]
    fn a_follower_sees_what_is_appended() {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(dir.path(), None, None).unwrap();
        let handle = control.clone().follow(&Parts::default()).unwrap();
        let (key, hash) = control.hash_key.new_key().unwrap();
        assert!(handle.authenticate(&key, 0).is_err());
        let record = KeyRecord::new(key::KeyId(1), hash, 1);
        control.append(&Change::set(Record::Key(record))).unwrap();
        let deadline = crate::clock::now() + Duration::from_secs(10);
        while handle.authenticate(&key, 0).is_err() {
            assert!(
                crate::clock::now() < deadline,
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
            Control::open(dirs[0].path(), Some("short"), None),
            Err(ControlError::HashKey(HashKeyError::Short { bytes: 5 }))
        ));
    }
}
