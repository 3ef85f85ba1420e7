//! Where the log's head is written so that the writer cannot take it back: a directory of the
//! operator's, an object store with object lock, another Kafka.
//!
//! A note ([`super::note`]) is an object, a file or a record of its own, and never written twice.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::path::Path as ObjectPath;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt as _, PutMode, RetryConfig};
use weir_eventlog::{KafkaOptions, RecordLog};

use crate::caps::{
    ANCHOR_CALL_MAX, ANCHOR_READ_MAX, ANCHOR_RETRIES_MAX, ANCHOR_WRITE_MAX, NOTE_BYTES_MAX,
};

const SUFFIX: &str = ".note";

/// What an anchor's place cannot do.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    #[error("{url}: {problem}")]
    Url { url: String, problem: String },
    #[error("{doing} {url}: {reason}")]
    Place {
        doing: &'static str,
        url: String,
        reason: String,
    },
}

/// A place that takes notes.
#[derive(Clone, Debug)]
pub struct Anchor {
    url: String,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Directory(PathBuf),
    Bucket {
        store: Arc<dyn ObjectStore>,
        prefix: ObjectPath,
        endpoint: String,
    },
    Topic(KafkaOptions),
}

/// A note as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundNote {
    /// As the place calls it.
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Anchor {
    /// `file:///DIR`, `s3://BUCKET/PREFIX` or `kafka://HOST:PORT,…/TOPIC`.
    ///
    /// The properties are `object_store`'s for S3, beside the environment's `AWS_…`, and librdkafka's
    /// for Kafka. Nothing is reached yet.
    pub fn open(url: &str, properties: &BTreeMap<String, String>) -> Result<Self, AnchorError> {
        let wrong = |problem: String| AnchorError::Url {
            url: url.to_owned(),
            problem,
        };
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let place = match scheme {
            "file" => directory(rest, properties),
            "s3" => bucket(rest, properties),
            "kafka" => topic(rest, properties),
            _ => Err("expected file://, s3:// or kafka://".to_owned()),
        };
        let place = place.map_err(wrong)?;
        Ok(Self {
            url: url.to_owned(),
            place,
        })
    }

    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Hosts that it is reached at: brokers as librdkafka takes them, or an object store's URL.
    #[must_use]
    pub fn hosts(&self) -> Vec<&str> {
        match &self.place {
            Place::Directory(_) => Vec::new(),
            Place::Bucket { endpoint, .. } => vec![endpoint],
            Place::Topic(kafka) => kafka.brokers.split(',').map(str::trim).collect(),
        }
    }

    /// How many checkpoints the newest note has, if there is one. No signature is checked.
    pub async fn newest(&self) -> Result<Option<u64>, AnchorError> {
        let notes = self.read(i64::MAX).await?;
        let sizes = notes.iter().filter_map(|note| note.text.lines().nth(1));
        Ok(sizes.filter_map(|size| size.parse().ok()).max())
    }

    pub(crate) fn too_slow(&self) -> AnchorError {
        self.failed("write to")(format!("not done within {} s", ANCHOR_WRITE_MAX.as_secs()))
    }

    fn failed(&self, doing: &'static str) -> impl Fn(String) -> AnchorError {
        let url = self.url.clone();
        move |reason| AnchorError::Place {
            doing,
            url: url.clone(),
            reason,
        }
    }

    /// Writes a note. One that is there already stays as it is.
    pub(crate) async fn put(&self, name: &str, note: String) -> Result<(), AnchorError> {
        let name = format!("{name}{SUFFIX}");
        let written = match &self.place {
            Place::Directory(dir) => {
                let path = dir.join(name);
                blocking(move || create(&path, &note).map_err(|error| error.to_string())).await
            }
            Place::Bucket { store, prefix, .. } => {
                let path = prefix.clone().join(name.as_str());
                match store
                    .put_opts(&path, note.into(), PutMode::Create.into())
                    .await
                {
                    Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
                    Err(error) => Err(error.to_string()),
                }
            }
            Place::Topic(kafka) => {
                let log = RecordLog::KeptTopic(kafka.clone());
                blocking(move || append(&log, name, note)).await
            }
        };
        written.map_err(self.failed("write to"))
    }

    /// The notes that were written since then, and the last one before; a topic gives all of them.
    pub(crate) async fn read(&self, since_us: i64) -> Result<Vec<FoundNote>, AnchorError> {
        let read = match &self.place {
            Place::Directory(dir) => {
                let dir = dir.clone();
                blocking(move || read_dir(&dir, since_us).map_err(|error| error.to_string())).await
            }
            Place::Bucket { store, prefix, .. } => read_bucket(store.as_ref(), prefix, since_us)
                .await
                .map_err(|error| error.to_string()),
            Place::Topic(kafka) => {
                let log = RecordLog::KeptTopic(kafka.clone());
                blocking(move || read_topic(&log)).await
            }
        };
        read.map_err(self.failed("read"))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(error.to_string()))
}

fn directory(rest: &str, properties: &BTreeMap<String, String>) -> Result<Place, String> {
    if !Path::new(rest).is_absolute() {
        return Err("the path must be absolute: file:///DIR".to_owned());
    }
    match properties.keys().next() {
        Some(key) => Err(format!("a directory has no property {key}")),
        None => Ok(Place::Directory(rest.into())),
    }
}

/// Whether it is made of the characters of which names of buckets and topics are, and no others.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.bytes().all(fits)
}

/// A bucket with a retention of its own takes only objects that come with a checksum.
fn bucket(rest: &str, properties: &BTreeMap<String, String>) -> Result<Place, String> {
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if !is_name(name) || rest.contains(['?', '#']) {
        return Err("expected s3://BUCKET/PREFIX; all else is said by properties".to_owned());
    }
    // The client needs TLS from whichever library the process uses; another part may be first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(name)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_client_options(ClientOptions::new().with_timeout(ANCHOR_CALL_MAX))
        .with_retry(RetryConfig {
            max_retries: ANCHOR_RETRIES_MAX,
            retry_timeout: ANCHOR_CALL_MAX,
            ..RetryConfig::default()
        });
    for (key, value) in properties {
        let key: AmazonS3ConfigKey = key
            .parse()
            .map_err(|_| format!("object_store knows no property {key} of S3"))?;
        builder = builder.with_config(key, value);
    }
    let value = |key| builder.get_config_value(&key);
    let endpoint = value(AmazonS3ConfigKey::Endpoint).unwrap_or_else(|| {
        let region = value(AmazonS3ConfigKey::Region);
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        format!("https://s3.{region}.amazonaws.com")
    });
    let prefix = ObjectPath::parse(prefix).map_err(|error| error.to_string())?;
    let store = builder.build().map_err(|error| error.to_string())?;
    Ok(Place::Bucket {
        store: Arc::new(store),
        prefix,
        endpoint,
    })
}

fn topic(rest: &str, properties: &BTreeMap<String, String>) -> Result<Place, String> {
    let is_broker = |broker: &str| {
        let (host, port) = broker.trim().rsplit_once(':').unwrap_or_default();
        !host.is_empty() && port.parse().is_ok_and(|port: u16| port > 0)
    };
    let (brokers, topic) = rest
        .split_once('/')
        .filter(|(brokers, topic)| brokers.split(',').all(is_broker) && is_name(topic))
        .ok_or("expected kafka://HOST:PORT,…/TOPIC")?;
    let options = KafkaOptions {
        topic: topic.to_owned(),
        properties: properties.clone(),
        ..KafkaOptions::new(brokers)
    };
    options.check().map_err(|error| error.to_string())?;
    Ok(Place::Topic(options))
}

fn create(path: &Path, note: &str) -> io::Result<()> {
    let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    };
    file.write_all(note.as_bytes())?;
    file.sync_all()
}

fn append(log: &RecordLog, name: String, note: String) -> Result<(), String> {
    let lock = log.lock().map_err(|error| error.to_string())?;
    log.append(&lock, &[(name, note)])
        .map_err(|error| error.to_string())
}

/// Those written since then, and the newest of the others. Each comes with when it was written.
fn wanted<T>(mut notes: Vec<(i64, T)>, since_us: i64) -> Vec<T> {
    notes.sort_by_key(|(written_us, _)| *written_us);
    let older = notes.partition_point(|(written_us, _)| *written_us < since_us);
    let notes = notes.into_iter().skip(older.saturating_sub(1));
    notes.map(|(_, note)| note).collect()
}

fn read_dir(dir: &Path, since_us: i64) -> io::Result<Vec<FoundNote>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let metadata = entry.metadata()?;
        // A kill while a file was made leaves it empty.
        let is_note = name.ends_with(SUFFIX) && (1..=NOTE_BYTES_MAX).contains(&metadata.len());
        if is_note {
            let since = metadata.modified()?.duration_since(UNIX_EPOCH);
            let written_us = since.unwrap_or_default().as_micros();
            files.push((i64::try_from(written_us).unwrap_or(i64::MAX), (name, path)));
        }
    }
    let read = |(name, path): (String, PathBuf)| {
        let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
        Ok(FoundNote { name, text })
    };
    wanted(files, since_us).into_iter().map(read).collect()
}

async fn read_bucket(
    store: &dyn ObjectStore,
    prefix: &ObjectPath,
    since_us: i64,
) -> object_store::Result<Vec<FoundNote>> {
    let listed = store.list_with_delimiter(Some(prefix)).await?.objects;
    let notes = listed.into_iter().filter(|it| {
        it.location.as_ref().ends_with(SUFFIX) && (1..=NOTE_BYTES_MAX).contains(&it.size)
    });
    let notes = notes.map(|it| (it.last_modified.timestamp_micros(), it.location));
    let mut found = Vec::new();
    for location in wanted(notes.collect(), since_us) {
        let bytes = store.get(&location).await?.bytes().await?;
        found.push(FoundNote {
            name: location.to_string(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        });
    }
    Ok(found)
}

fn read_topic(log: &RecordLog) -> Result<Vec<FoundNote>, String> {
    let read = log.reader().read(ANCHOR_READ_MAX);
    let read = read.map_err(|error| error.to_string())?;
    if !read.is_whole {
        let seconds = ANCHOR_READ_MAX.as_secs();
        return Err(format!("it was not read to its end within {seconds} s"));
    }
    let found = |(offset, text)| FoundNote {
        name: format!("record {offset}"),
        text,
    };
    Ok((0..).zip(read.records).map(found).collect::<Vec<_>>())
}
