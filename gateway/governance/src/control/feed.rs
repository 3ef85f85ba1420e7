//! Where a gateway reads what changed: the file of its machine, or the topic of its cluster.
//!
//! What the topic brings is copied into the file, so that keys are known after a restart though
//! Kafka is away. Reading the topic again is harmless: the latest record of an id counts.

use std::time::Duration;

use weir_eventlog::{RecordLog, RecordReader};

use super::key::HashKey;
use super::log::{self, ControlLog, LogError};
use super::record::{Change, Record, SettingRecord};

/// Id of the setting that says which secret keys are hashed with.
pub(super) const HASH_KEY: &str = "hash_key";
/// How long one look at the topic waits.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) enum Feed {
    File(log::Reader),
    Topic(Box<TopicFeed>),
}

impl Feed {
    /// What is new, and why that may not be all.
    pub(super) fn news(&mut self) -> (Vec<Change>, Result<(), LogError>) {
        match self {
            Self::File(reader) => {
                let mut changes = Vec::new();
                let read = reader.read(|change| changes.push(change));
                (changes, read)
            }
            Self::Topic(feed) => match feed.look() {
                Ok(changes) => (changes, Ok(())),
                Err(error) => (Vec::new(), Err(error)),
            },
        }
    }
}

#[derive(Debug)]
pub(super) struct TopicFeed {
    reader: RecordReader,
    copy: ControlLog,
    /// What was read so far, until the topic was read whole and the copy can be made anew.
    first: Option<Vec<Change>>,
}

impl TopicFeed {
    pub(super) fn new(topic: &RecordLog, copy: &ControlLog) -> Self {
        Self {
            reader: topic.reader(),
            copy: copy.clone(),
            first: Some(Vec::new()),
        }
    }

    /// Everything in the topic; `None` if it takes longer.
    pub(super) fn read_whole(
        &mut self,
        wait_max: Duration,
    ) -> Result<Option<Vec<Change>>, LogError> {
        let deadline = crate::clock::now() + wait_max;
        let mut changes = Vec::new();
        while self.first.is_some() {
            changes.extend(self.look()?);
            if crate::clock::now() > deadline {
                return Ok(None);
            }
        }
        Ok(Some(changes))
    }

    /// Whether the file holds what the topic says.
    pub(super) const fn has_copied(&self) -> bool {
        self.first.is_none()
    }

    fn look(&mut self) -> Result<Vec<Change>, LogError> {
        let news = self.reader.read(LOOK)?;
        let changes: Vec<Change> = news.records.iter().filter_map(|json| parse(json)).collect();
        let copied = match &mut self.first {
            Some(first) => {
                first.extend(changes.iter().cloned());
                match news.is_whole {
                    true => {
                        let first = self.first.take().unwrap_or_default();
                        self.copy.replace(&first).map(|_| ())
                    }
                    false => Ok(()),
                }
            }
            None => changes
                .iter()
                .try_for_each(|change| self.copy.append(change)),
        };
        if let Err(error) = copied {
            tracing::error!(%error, "failed to copy the control topic; a restart without Kafka would miss it");
        }
        Ok(changes)
    }
}

/// A record that this version cannot read is not one for it to act on.
fn parse(json: &str) -> Option<Change> {
    serde_json::from_str(json)
        .inspect_err(|error| tracing::error!(%error, "failed to read a record of the control topic; it is skipped"))
        .ok()
}

/// Writes a change to the topic, with the secret that its keys are hashed with.
pub(super) fn append(
    topic: &RecordLog,
    change: &Change,
    hash_key: &HashKey,
) -> Result<(), LogError> {
    let secret = Change::set(Record::Setting(SettingRecord {
        id: HASH_KEY.into(),
        value: hash_key.fingerprint(),
    }));
    let lock = topic.lock()?;
    topic.append(&lock, &[keyed(&secret)?, keyed(change)?])?;
    Ok(())
}

fn keyed(change: &Change) -> Result<(String, String), LogError> {
    // Keys of records hold no space.
    let key = format!("{}/{}", change.kind, change.id.replace(' ', "%20"));
    Ok((key, serde_json::to_string(change)?))
}
