//! Readers beside live writers.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use weir_schemas::{EventId, StreamId};

use super::*;
use crate::StreamWriter;
use crate::reader::JournalSource;
use crate::{Committed, Source};

const LIVE: BatchLimits = BatchLimits {
    records_max: 1000,
    bytes_max: 64 << 10,
    wait_max: Duration::from_millis(20),
};

/// Writes numbered events until told to stop; returns how many.
fn write_until(writer: &StreamWriter, stop: &AtomicBool) -> usize {
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) || written < 2000 {
        let texts: Vec<_> = (0..1 + written % 3)
            .map(|i| (written + i).to_string())
            .collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        append(writer, &texts);
        written += texts.len();
    }
    written
}

#[tokio::test]
async fn a_reader_that_follows_several_writers_sees_every_event_once_and_in_order() {
    let dir = scratch();
    let journal = open(dir.path());
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|shard| journal.open_stream(shard).unwrap())
        .collect();
    let threads: Vec<_> = writers
        .iter()
        .map(|writer| {
            let (writer, stop) = (writer.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let written = write_until(&writer, &stop);
                writer.close().unwrap();
                written
            })
        })
        .collect();

    let mut source = Source::Journal(JournalSource::open(dir.path()).unwrap());
    let mut seen = Seen::new();
    let mut closed = 0;
    while closed < writers.len() {
        let batch = source.next(LIVE).await.unwrap();
        assert_eq!(batch.lost, []);
        assert!(batch.records.len() <= LIVE.records_max + 2);
        for record in &batch.records {
            let stream = seen.entry(record.stream).or_default();
            let expected = stream.last_key_value().map_or(1, |(seq, _)| seq + 1);
            assert_eq!(record.seq, expected, "each number once, in order");
            let said = said(&record.payload);
            closed += usize::from(said == super::closed("shutdown", 0));
            stream.insert(record.seq, said);
        }
        assert_eq!(source.commit(&batch).await.unwrap(), Committed::Done);
        if seen.values().map(BTreeMap::len).sum::<usize>() > 5000 {
            stop.store(true, Ordering::Relaxed);
        }
    }
    for (writer, thread) in writers.iter().zip(threads) {
        let written = thread.join().unwrap();
        let said: Vec<_> = seen[&writer.id()].values().cloned().collect();
        let expected: Vec<_> = (0..written).map(|number| number.to_string()).collect();
        assert_eq!(texts(&said), expected);
    }
}

#[tokio::test]
async fn an_idle_reader_notices_an_event_within_fifty_milliseconds() {
    let dir = scratch();
    let journal = open(dir.path());
    let writer = journal.open_stream(0).unwrap();
    let mut source = Source::Journal(JournalSource::open(dir.path()).unwrap());
    let one = BatchLimits {
        records_max: 1,
        bytes_max: usize::MAX,
        wait_max: Duration::from_secs(60),
    };
    let opened = source.next(one).await.unwrap();
    assert_eq!(opened.records.len(), 1);

    let mut latency = Duration::MAX;
    for _ in 0..11 {
        // The reader waits already when the event comes.
        let early = tokio::time::timeout(Duration::from_millis(30), source.next(one)).await;
        assert!(early.is_err(), "there is nothing to read yet");
        append(&writer, &["a"]);
        let appended = Instant::now();
        let batch = source.next(one).await.unwrap();
        assert_eq!(batch.records.len(), 1);
        latency = latency.min(appended.elapsed());
    }
    // The best of them, because others share the machine. The reader looks in the same rhythm each time.
    assert!(latency <= Duration::from_millis(50), "{latency:?}");
}

#[tokio::test]
async fn a_batch_that_was_asked_for_and_abandoned_is_the_next_one_given() {
    let dir = scratch();
    let journal = open(dir.path());
    let writer = journal.open_stream(0).unwrap();
    append(&writer, &["a"]);
    let mut source = Source::Journal(JournalSource::open(dir.path()).unwrap());
    let three = BatchLimits {
        records_max: 3,
        wait_max: Duration::from_secs(3600),
        ..LIVE
    };
    for _ in 0..20 {
        let abandoned = tokio::time::timeout(Duration::from_millis(1), source.next(three)).await;
        assert!(abandoned.is_err(), "there are only two records yet");
    }
    append(&writer, &["b"]);
    let batch = source.next(three).await.unwrap();
    assert_eq!(batch.records.len(), 3);
}

#[tokio::test]
async fn a_segment_left_in_a_batch_without_records_is_freed_with_the_next() {
    let dir = scratch();
    let journal = Journal::open(JournalOptions {
        segment_age: Duration::from_millis(1),
        ..options(dir.path())
    })
    .unwrap();
    let writer = journal.open_stream(0).unwrap();
    let other = journal.open_stream(1).unwrap();
    let mut source = Source::Journal(JournalSource::open(dir.path()).unwrap());
    let mut moved_on = false;
    while !moved_on {
        // Both streams' first segments are sealed by age; then nothing more is written to them.
        let batch = source.next(LIVE).await.unwrap();
        source.commit(&batch).await.unwrap();
        moved_on = journal.stats().segments_sealed >= 2 && batch.is_empty();
    }
    append(&other, &["a"]);
    let batch = source.next(LIVE).await.unwrap();
    assert_eq!(batch.records.len(), 1);
    source.commit(&batch).await.unwrap();
    let left = segments(dir.path(), writer.id());
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn a_commit_is_not_held_up_by_a_batch_that_is_being_filled() {
    let dir = scratch();
    let journal = open(dir.path());
    let writer = journal.open_stream(0).unwrap();
    append(&writer, &["a"]);
    let mut source = Source::Journal(JournalSource::open(dir.path()).unwrap());
    let batch = source.next(LIVE).await.unwrap();

    let patient = BatchLimits {
        wait_max: Duration::from_secs(3600),
        ..LIVE
    };
    let abandoned = tokio::time::timeout(Duration::from_millis(1), source.next(patient)).await;
    assert!(abandoned.is_err());
    let committed = tokio::time::timeout(Duration::from_secs(20), source.commit(&batch)).await;
    assert_eq!(committed.unwrap().unwrap(), Committed::Done);
}

#[test]
fn half_an_append_at_the_end_of_a_live_stream_is_waited_for() {
    use std::io::Write as _;

    let dir = scratch();
    let journal = open(dir.path());
    let writer = journal.open_stream(0).unwrap();
    let path = segments(dir.path(), writer.id()).remove(0);
    let whole = {
        append(&writer, &["a", "b"]);
        std::fs::read(&path).unwrap()
    };
    let mut reader = JournalReader::open(dir.path()).unwrap();
    let mut seen = Seen::new();
    // As if the writer were being watched in slow motion, byte by byte.
    let opened = whole.len() - frame_bytes(&["a", "b"]);
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for length in opened..whole.len() {
        file.set_len(length as u64).unwrap();
        assert_eq!(read_all(&mut reader, &mut seen), [], "{length} bytes");
        assert_eq!(only(&seen), [Said::Opened], "{length} bytes");
    }
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(0)).unwrap();
    file.write_all(&whole).unwrap();
    assert_eq!(read_all(&mut reader, &mut seen), []);
    assert_eq!(texts(&only(&seen)), ["a", "b"]);
}

fn frame_bytes(texts: &[&str]) -> usize {
    let mut bytes = Vec::new();
    for text in texts {
        bytes.resize(bytes.len() + crate::frame::HEADER_BYTES, 0);
        let id = EventId {
            stream: StreamId::from_bytes([1; 16]),
            seq: 2,
        };
        weir_schemas::codec::Encoder::default().encode(id, &change(text), &mut bytes);
    }
    bytes.len()
}

#[test]
fn damage_in_a_live_stream_is_passed_over_once_good_events_follow() {
    use std::os::unix::fs::FileExt as _;

    let dir = scratch();
    let journal = open(dir.path());
    let writer = journal.open_stream(0).unwrap();
    append(&writer, &["a"]);
    let path = segments(dir.path(), writer.id()).remove(0);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let end = file.metadata().unwrap().len();
    // A length that promises far more bytes than there are.
    append(&writer, &["b"]);
    file.write_all_at(&[0xFF, 0xFF, 0x07, 0x00], end).unwrap();

    let mut reader = JournalReader::open(dir.path()).unwrap();
    let mut seen = Seen::new();
    assert_eq!(read_all(&mut reader, &mut seen), []);
    assert_eq!(texts(&only(&seen)), ["a"]);
    append(&writer, &["c"]);
    let lost = read_all(&mut reader, &mut seen);
    assert_eq!((lost[0].first_seq, lost[0].events), (3, 1));
    let seqs: Vec<_> = seen[&writer.id()].keys().copied().collect();
    assert_eq!(seqs, [1, 2, 4]);
}

#[test]
fn no_stream_waits_until_another_is_drained() {
    let dir = scratch();
    let journal = Journal::open(JournalOptions {
        segment_bytes: 1 << 20,
        ..options(dir.path())
    })
    .unwrap();
    let busy = journal.open_stream(0).unwrap();
    let text = "x".repeat(1000);
    for _ in 0..5000 {
        append(&busy, &[&text]);
    }
    let quiet: Vec<_> = (1..4)
        .map(|shard| journal.open_stream(shard).unwrap())
        .collect();

    let mut reader = JournalReader::open(dir.path()).unwrap();
    let limits = BatchLimits {
        records_max: 1000,
        bytes_max: usize::MAX,
        wait_max: Duration::ZERO,
    };
    let mut met = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let mut batch = SourceBatch::default();
        reader.fill(&mut batch, &limits, later()).unwrap();
        assert!(batch.records.len() <= 1000);
        met.extend(batch.records.iter().map(|record| record.stream));
    }
    assert!(
        quiet.iter().all(|writer| met.contains(&writer.id())),
        "{met:?}"
    );
}
