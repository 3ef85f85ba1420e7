//! Where a gateway reads what changed: the file of its machine, or the topic of its cluster.
//!
//! What the topic brings is copied into the file, so that keys are known after a restart though
//! Kafka is away. Reading the topic again is harmless: the latest record of an id counts.
//!
//! The topic is only ever taken for the control log if it has what the copy has. One that was deleted, made
//! anew, cut off or swapped for another does not, and then the copy counts.

use std::collections::HashMap;
use std::time::Duration;

use weir_eventlog::{KafkaOptions, RecordLog, RecordLogError, RecordReader};

use super::key::HashKey;
use super::log::{self, ControlLog, LogError};
use super::record::{Change, Kind, Record, SettingRecord};

/// Id of the setting that says which secret keys are hashed with.
pub(super) const HASH_KEY: &str = "hash_key";
/// How long one look at the topic waits.
const LOOK: Duration = Duration::from_millis(100);
/// Records that are written to the topic at a time.
const WRITTEN_AT_ONCE: usize = 500;

#[derive(Debug)]
pub(super) enum Feed {
    File(log::Reader),
    Topic(Box<TopicFeed>),
}

impl Feed {
    /// Whether all of it was read once. A topic that is read again may turn out to be another.
    pub(super) const fn is_read(&self) -> bool {
        match self {
            Self::File(_) => true,
            Self::Topic(feed) => feed.first.is_none(),
        }
    }

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

/// The topic, with the copy of it on this machine.
#[derive(Clone, Debug)]
pub(super) struct ControlTopic {
    pub(super) options: KafkaOptions,
    pub(super) copy: ControlLog,
}

impl ControlTopic {
    /// Where nothing was known so far, the topic is made. One that was there and is gone is not.
    fn log(&self) -> Result<RecordLog, LogError> {
        let options = self.options.clone();
        Ok(match self.copy.has_begun()? {
            true => RecordLog::KnownTopic(options),
            false => RecordLog::Topic(options),
        })
    }

    fn explain(&self, error: RecordLogError) -> LogError {
        match error {
            RecordLogError::Gone { topic } => LogError::TopicGone { topic },
            error => LogError::Topic(error),
        }
    }

    /// Writes a change, with the secret that its keys are hashed with.
    pub(super) fn append(&self, change: &Change, hash_key: &HashKey) -> Result<(), LogError> {
        self.write(&self.log()?, &[change], hash_key)
    }

    fn write(
        &self,
        log: &RecordLog,
        changes: &[&Change],
        hash_key: &HashKey,
    ) -> Result<(), LogError> {
        let secret = Change::set(Record::Setting(SettingRecord {
            id: HASH_KEY.into(),
            value: hash_key.fingerprint(),
        }));
        let changes = [&secret].into_iter().chain(changes.iter().copied());
        let records: Vec<_> = changes.map(keyed).collect::<Result<_, _>>()?;
        for records in records.chunks(WRITTEN_AT_ONCE) {
            let lock = log.lock()?;
            let appended = log.append(&lock, records);
            appended.map_err(|error| self.explain(error))?;
        }
        Ok(())
    }

    /// Writes into the topic what the copy has and it lacks. Returns how many records that are.
    pub(super) fn repair(&self, hash_key: &HashKey, wait_max: Duration) -> Result<usize, LogError> {
        let known = self.copy.changes()?;
        let log = RecordLog::Topic(self.options.clone());
        let mut reader = log.reader();
        let deadline = crate::clock::now() + wait_max;
        let mut there = Vec::new();
        loop {
            let news = reader.read(LOOK)?;
            there.extend(news.records.iter().filter_map(|json| parse(json)));
            if news.is_whole {
                break;
            }
            if crate::clock::now() > deadline {
                return Err(LogError::Away);
            }
        }
        let lacking = lacking(&known, &there);
        if !lacking.is_empty() {
            self.write(&log, &lacking, hash_key)?;
        }
        Ok(lacking.len())
    }
}

#[derive(Debug)]
pub(super) struct TopicFeed {
    topic: ControlTopic,
    /// Made when it is first needed.
    reader: Option<RecordReader>,
    /// What was read so far, until the topic was read whole and the copy can be made anew.
    first: Option<Vec<Change>>,
}

impl TopicFeed {
    pub(super) const fn new(topic: ControlTopic) -> Self {
        Self {
            topic,
            reader: None,
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
            if crate::clock::now() > deadline && self.first.is_some() {
                return Ok(None);
            }
        }
        Ok(Some(changes))
    }

    /// What is new. Nothing is handed over before the topic was read whole, and found to have what is known.
    fn look(&mut self) -> Result<Vec<Change>, LogError> {
        let done = self.read();
        if done.is_err() {
            self.begin_anew();
        }
        match done {
            Err(LogError::Topic(error @ RecordLogError::Changed { .. })) => {
                tracing::warn!(%error, "the control topic is read again");
                Ok(Vec::new())
            }
            done => done,
        }
    }

    fn begin_anew(&mut self) {
        self.reader = None;
        self.first = Some(Vec::new());
    }

    fn read(&mut self) -> Result<Vec<Change>, LogError> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.topic.log()?.reader().watching(),
        };
        let read = self.reader.insert(reader).read(LOOK);
        let news = read.map_err(|error| self.topic.explain(error))?;
        let changes = news.records.iter().filter_map(|json| parse(json));
        let Some(mut first) = self.first.take() else {
            let changes: Vec<Change> = changes.collect();
            let mut copied = changes.iter().map(|change| self.topic.copy.append(change));
            note_copied(copied.try_for_each(|copied| copied));
            return Ok(changes);
        };
        first.extend(changes);
        if !news.is_whole {
            self.first = Some(first);
            return Ok(Vec::new());
        }
        self.compare(&first)?;
        note_copied(self.topic.copy.replace(&first).map(|_| ()));
        Ok(first)
    }

    /// Refuses a topic that lacks what the copy has.
    fn compare(&self, topic: &[Change]) -> Result<(), LogError> {
        let name = || self.topic.options.topic.clone();
        match self.topic.copy.changes() {
            Ok(known) => {
                let lacking = lacking(&known, topic);
                lacking.first().map_or(Ok(()), |change| {
                    Err(LogError::TopicLacks {
                        topic: name(),
                        records: lacking.len(),
                        example: format!("{} {}", change.kind, change.id),
                    })
                })
            }
            // Neither has anything, though there was something.
            Err(_) if topic.is_empty() => Err(LogError::TopicGone { topic: name() }),
            Err(error) => {
                tracing::warn!(%error, "the copy of the control topic is made anew");
                Ok(())
            }
        }
    }
}

fn note_copied(copied: Result<(), LogError>) {
    if let Err(error) = copied {
        tracing::error!(%error, "failed to copy the control topic; a restart without Kafka would miss it");
    }
}

/// The latest changes that a topic does not have, and no later ones in their place. Ids of changes sort by
/// time; the records of a topic that was compacted are the latest of their keys.
fn lacking<'a>(known: &'a [Change], topic: &[Change]) -> Vec<&'a Change> {
    let name = |change: &'a Change| (change.kind, change.id.as_str());
    let mut there: HashMap<(Kind, &str), Option<&str>> = HashMap::new();
    for change in topic {
        let latest = there.entry((change.kind, &change.id)).or_default();
        *latest = change.change_id.as_deref().max(*latest);
    }
    let mut latest: HashMap<_, _> = known.iter().map(|change| (name(change), change)).collect();
    latest.retain(|name, change| match (there.get(name), &change.change_id) {
        (None, _) => true,
        (Some(Some(there)), Some(known)) => *there < known.as_str(),
        (Some(_), _) => false,
    });
    let mut lacking: Vec<_> = latest.into_values().collect();
    lacking.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
    lacking
}

/// A record that this version cannot read is not one for it to act on.
fn parse(json: &str) -> Option<Change> {
    serde_json::from_str(json)
        .inspect_err(|error| tracing::error!(%error, "failed to read a record of the control topic; it is skipped"))
        .ok()
}

fn keyed(change: &Change) -> Result<(String, String), LogError> {
    // Keys of records hold no space.
    let key = format!("{}/{}", change.kind, change.id.replace(' ', "%20"));
    Ok((key, serde_json::to_string(change)?))
}
