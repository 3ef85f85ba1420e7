//! The log tested through its own front doors, on real files.

mod drain;
mod durability;
mod follow;
mod limits;
mod model;
mod recovery;
mod seals;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use weir_schemas::codec::decode;
use weir_schemas::event::{ControlChanged, Event, StreamClosed};
use weir_schemas::{RequestId, StreamId};

use crate::batch::{BatchLimits, Lost, SourceBatch};
use crate::reader::JournalReader;
use crate::{Journal, JournalOptions};

/// A directory in memory where the machine has one, so that thousands of cases don't wait for fsync.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

fn options(dir: &Path) -> JournalOptions {
    JournalOptions {
        instance: "test-host".to_owned(),
        segment_bytes: 4096,
        total_bytes_max: 1 << 30,
        ..JournalOptions::new(dir)
    }
}

/// An event that carries a text.
fn change(text: &str) -> Event<'_> {
    Event::ControlChanged(ControlChanged {
        ts_us: 1.into(),
        change_id: RequestId::from_bytes([1; 16]),
        actor: "test",
        action: "create",
        object_kind: "key",
        object_id: text,
        before: None,
        after: None,
    })
}

fn append(writer: &crate::StreamWriter, texts: &[&str]) -> std::ops::Range<u64> {
    let events: Vec<_> = texts.iter().map(|text| change(text)).collect();
    writer.append(&events).unwrap().seqs
}

/// What was read of one event: the text that a change carried, or what the log itself said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Opened,
    Change(String),
    Dropped(u64),
    Sealed(u64, u64),
    Closed { reason: String, torn_bytes: u64 },
}

fn said(payload: &[u8]) -> Said {
    match decode(payload).unwrap().event {
        Event::StreamOpened(_) => Said::Opened,
        Event::ControlChanged(change) => Said::Change(change.object_id.to_owned()),
        Event::EventsDropped(dropped) => Said::Dropped(dropped.events.get()),
        Event::StreamSealed(seal) => Said::Sealed(seal.first_seq.get(), seal.last_seq.get()),
        Event::StreamClosed(StreamClosed {
            reason, torn_bytes, ..
        }) => Said::Closed {
            reason: reason.to_owned(),
            torn_bytes: torn_bytes.get(),
        },
        other => panic!("unexpected event {other:?}"),
    }
}

fn closed(reason: &str, torn_bytes: u64) -> Said {
    Said::Closed {
        reason: reason.to_owned(),
        torn_bytes,
    }
}

const ALL: BatchLimits = BatchLimits {
    records_max: usize::MAX,
    bytes_max: usize::MAX,
    wait_max: Duration::ZERO,
};

/// Everything that was read, by stream and number.
type Seen = BTreeMap<StreamId, BTreeMap<u64, Said>>;

/// Adds a batch to what was seen. Numbers must rise within a batch, and the record must be in the
/// place that it says it has.
fn note(batch: &SourceBatch, seen: &mut Seen) {
    let mut last = BTreeMap::new();
    for record in &batch.records {
        let before = last.insert(record.stream, record.seq);
        assert!(
            before.is_none_or(|before| before < record.seq),
            "out of order"
        );
        assert_eq!(decode(&record.payload).unwrap().id, record.id());
        let stream = seen.entry(record.stream).or_default();
        stream.insert(record.seq, said(&record.payload));
    }
}

/// A second later than when last asked. Time is an argument of the reader, so no one has to wait
/// until it asks again who is alive.
fn later() -> Instant {
    static SECONDS: AtomicU64 = AtomicU64::new(0);
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    *START + Duration::from_secs(SECONDS.fetch_add(1, Ordering::Relaxed))
}

/// Reads until nothing more comes although dead writers have been looked for.
fn read_all(reader: &mut JournalReader, seen: &mut Seen) -> Vec<Lost> {
    let mut lost = Vec::new();
    for _ in 0..4 {
        let mut batch = SourceBatch::default();
        reader.fill(&mut batch, &ALL, later()).unwrap();
        reader.seal(&batch);
        note(&batch, seen);
        lost.extend(batch.lost.iter().cloned());
        reader.commit(&batch).unwrap();
    }
    lost
}

fn read_dir(dir: &Path) -> (Seen, Vec<Lost>) {
    let mut seen = Seen::new();
    let mut reader = JournalReader::open(dir).unwrap();
    let lost = read_all(&mut reader, &mut seen);
    (seen, lost)
}

/// The one stream that was seen.
fn only(seen: &Seen) -> Vec<Said> {
    assert_eq!(seen.len(), 1, "{:?}", seen.keys());
    let stream = seen.values().next().unwrap();
    let numbers: Vec<_> = stream.keys().copied().collect();
    let whole: Vec<_> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, whole, "numbers without gaps");
    stream.values().cloned().collect()
}

fn texts(said: &[Said]) -> Vec<&str> {
    let texts = said.iter().filter_map(|said| match said {
        Said::Change(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

fn segments(dir: &Path, stream: StreamId) -> Vec<std::path::PathBuf> {
    let stream_dir = crate::files::stream_dir(dir, stream);
    let numbers = crate::files::list_segments(&stream_dir).unwrap();
    let paths = numbers
        .into_iter()
        .map(|n| crate::files::segment_path(&stream_dir, n));
    paths.collect()
}

fn open(dir: &Path) -> Journal {
    Journal::open(options(dir)).unwrap()
}
