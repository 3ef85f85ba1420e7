//! A small log of records by key, with few writers and many readers.
//!
//! On one machine it is a file, in a cluster a compacted topic of one partition. Either way the
//! latest record of each key is kept, records are read in the order in which they were written, and
//! a reader may meet records again, so applying one twice must do no harm. A topic can keep every
//! record instead.
//!
//! It is for what changes a few times a minute. It is not for events: those go through the journal.

mod file;
mod topic;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use file::FileReader;
#[cfg(test)]
pub(crate) use file::compact;
pub use topic::RecordSender;
use topic::TopicReader;

use crate::files::FileError;
use crate::kafka::{KafkaOptions, RecordsKept};

/// The record that removes its key from the log. Readers never see it.
pub(crate) const REMOVED: &str = "";

/// Where the records are.
#[derive(Clone, Debug)]
pub enum RecordLog {
    /// A file that every process of the machine can reach.
    File(PathBuf),
    /// A compacted topic, named by the options.
    Topic(KafkaOptions),
    /// The same, which was there before: it is not made.
    KnownTopic(KafkaOptions),
    /// A topic in which every record stays for good: for what nobody may take back.
    KeptTopic(KafkaOptions),
}

/// The log could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordLogError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "{path} is damaged at byte {offset}: {reason}; restore it from a copy, or remove it: its \
         content is created again"
    )]
    Damaged {
        path: PathBuf,
        offset: u64,
        reason: &'static str,
    },
    #[error("the topic {topic} is gone")]
    Gone { topic: String },
    /// What was read of it is not what it holds now, so it is to be read from its beginning.
    #[error("the topic {topic} is not what it was: {reason}")]
    Changed { topic: String, reason: &'static str },
    #[error("{action} the topic {topic}: {reason}")]
    Topic {
        action: &'static str,
        topic: String,
        reason: String,
    },
}

/// What a reader has not seen before.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NewRecords {
    pub records: Vec<String>,
    /// Whether that is all there was. Only a topic that did not answer in time is not read whole.
    pub is_whole: bool,
}

/// Keeps others from appending. A topic has none: its writers find out afterwards.
#[derive(Debug)]
#[must_use]
pub struct AppendLock {
    _file: Option<std::fs::File>,
}

impl RecordLog {
    /// Waits until no other process is appending.
    pub fn lock(&self) -> Result<AppendLock, RecordLogError> {
        Ok(AppendLock {
            _file: match self {
                Self::File(path) => Some(file::lock(path)?),
                Self::Topic(_) | Self::KnownTopic(_) | Self::KeptTopic(_) => None,
            },
        })
    }

    /// Appends records, each with its key, which holds no space and no line's end; an empty record
    /// removes its key. When this returns
    /// they are on disk, or acknowledged by the brokers.
    pub fn append(
        &self,
        _lock: &AppendLock,
        records: &[(String, String)],
    ) -> Result<(), RecordLogError> {
        match self {
            Self::File(path) => Ok(file::append(path, records)?),
            Self::Topic(options) => topic::append(options, RecordsKept::Latest, true, records),
            Self::KnownTopic(options) => {
                topic::append(options, RecordsKept::Latest, false, records)
            }
            Self::KeptTopic(options) => topic::append(options, RecordsKept::All, true, records),
        }
    }

    /// A reader that begins at the beginning. Nothing is opened yet.
    #[must_use]
    pub fn reader(&self) -> RecordReader {
        let topic = |options: &KafkaOptions, kept, make| {
            ReaderKind::Topic(Box::new(TopicReader::new(options.clone(), kept, make)))
        };
        RecordReader(match self {
            Self::File(path) => ReaderKind::File(FileReader::new(path.clone())),
            Self::Topic(options) => topic(options, RecordsKept::Latest, true),
            Self::KnownTopic(options) => topic(options, RecordsKept::Latest, false),
            Self::KeptTopic(options) => topic(options, RecordsKept::All, true),
        })
    }
}

/// Reads on from where it stopped.
#[derive(Debug)]
pub struct RecordReader(ReaderKind);

#[derive(Debug)]
enum ReaderKind {
    File(FileReader),
    Topic(Box<TopicReader>),
}

impl RecordReader {
    /// The same that notices when a topic was deleted, cut off, or is another one, and then says
    /// [`RecordLogError::Changed`].
    #[must_use]
    pub fn watching(mut self) -> Self {
        if let ReaderKind::Topic(reader) = &mut self.0 {
            reader.watch();
        }
        self
    }

    /// What is new. Waits for a topic, but only this long.
    pub fn read(&mut self, wait_max: Duration) -> Result<NewRecords, RecordLogError> {
        match &mut self.0 {
            ReaderKind::File(reader) => Ok(NewRecords {
                records: reader.read()?,
                is_whole: true,
            }),
            ReaderKind::Topic(reader) => reader.read(wait_max),
        }
    }
}
