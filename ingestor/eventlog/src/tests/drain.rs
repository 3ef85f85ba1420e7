//! Bounds that hold while a backlog is drained.

use super::*;

#[test]
fn batches_keep_their_bounds_over_a_backlog_of_many_segments() {
    let dir = scratch();
    let journal = Journal::open(JournalOptions {
        segment_bytes: 256 << 10,
        ..options(dir.path())
    })
    .unwrap();
    let writers: Vec<_> = (0..3)
        .map(|shard| journal.open_stream(shard).unwrap())
        .collect();
    let text = "x".repeat(700);
    for _ in 0..2000 {
        for writer in &writers {
            append(writer, &[&text, &text]);
        }
    }
    for writer in &writers {
        writer.close().unwrap();
    }
    let limits = BatchLimits {
        records_max: 500,
        bytes_max: 100 << 10,
        wait_max: Duration::ZERO,
    };
    let mut reader = JournalReader::open(dir.path()).unwrap();
    let mut seen = Seen::new();
    loop {
        let mut batch = SourceBatch::default();
        reader.fill(&mut batch, &limits, later()).unwrap();
        if batch.is_empty() {
            break;
        }
        assert!(batch.records.len() <= limits.records_max + 1);
        assert!(batch.bytes() <= limits.bytes_max + 2 * 1000);
        reader.seal(&batch);
        note(&batch, &mut seen);
        reader.commit(&batch).unwrap();
    }
    assert_eq!(seen.len(), 3);
    for stream in seen.values() {
        assert_eq!(stream.len(), 4002);
        assert_eq!(stream.keys().copied().last(), Some(4002));
    }
    assert_eq!(crate::files::list_streams(dir.path()).unwrap(), []);
}

#[test]
fn more_streams_than_files_may_be_open_are_all_read_to_their_end() {
    let dir = scratch();
    let journal = open(dir.path());
    let streams = crate::caps::READ_FILES_OPEN_MAX + 20;
    let writers: Vec<_> = (0..streams)
        .map(|shard| journal.open_stream(u16::try_from(shard).unwrap()).unwrap())
        .collect();
    let mut reader = JournalReader::open(dir.path()).unwrap();
    let mut seen = Seen::new();
    read_all(&mut reader, &mut seen);
    for writer in &writers {
        append(writer, &["a"]);
        writer.close().unwrap();
    }
    assert_eq!(read_all(&mut reader, &mut seen), []);
    assert_eq!(seen.len(), streams);
    assert!(seen.values().all(|stream| stream.len() == 3));
    assert_eq!(crate::files::list_streams(dir.path()).unwrap(), []);
}
