//! The journal at its size limit, on a full disk, and with events that are too large.

use std::fs;

use super::*;
use crate::caps::PAYLOAD_BYTES_MAX;
use crate::{AppendError, InvalidOptions, JournalFull, WhenFull};

fn small(dir: &Path, when_full: WhenFull) -> Journal {
    Journal::open(JournalOptions {
        total_bytes_max: 16 << 10,
        when_full,
        ..options(dir)
    })
    .unwrap()
}

/// Appends until the journal says that it is full.
fn fill(writer: &crate::StreamWriter, journal: &Journal) -> usize {
    let text = "x".repeat(500);
    let stats = journal.stats();
    let mut appended = 0;
    while journal.stats().bytes_on_disk < stats.bytes_max {
        append(writer, &[&text]);
        appended += 1;
    }
    appended
}

/// Waits until something is so that another thread brings about. The time is a limit, not a pause
/// that orders anything.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_full_journal_that_sheds_refuses_new_requests_and_keeps_every_event() {
    let dir = scratch();
    let journal = small(dir.path(), WhenFull::Shed);
    let writer = journal.open_stream(0).unwrap();
    assert_eq!(journal.admit(), Ok(()));
    let appended = fill(&writer, &journal);
    let refused = journal.admit().unwrap_err();
    assert!(matches!(refused, JournalFull::Limit { bytes, bytes_max } if bytes >= bytes_max));
    assert!(refused.to_string().contains("raise the limit"), "{refused}");
    // What was let in before may still finish.
    append(&writer, &["under way"]);

    let mut reader = JournalReader::open(dir.path()).unwrap();
    let mut seen = Seen::new();
    read_all(&mut reader, &mut seen);
    until("room again", || journal.admit().is_ok());
    writer.close().unwrap();
    read_all(&mut reader, &mut seen);
    assert_eq!(texts(&only(&seen)).len(), appended + 1);
    assert_eq!(journal.stats().dropped_events, 0);
}

#[test]
fn a_full_journal_that_drops_serves_and_records_how_many_events_it_dropped() {
    let dir = scratch();
    let journal = small(dir.path(), WhenFull::Drop);
    let writer = journal.open_stream(0).unwrap();
    let kept = fill(&writer, &journal);
    assert_eq!(journal.admit(), Ok(()));
    for _ in 0..10 {
        let appended = writer.append(&[change("lost"), change("lost")]).unwrap();
        assert_eq!((appended.dropped, appended.seqs.count()), (2, 0));
    }

    let mut reader = JournalReader::open(dir.path()).unwrap();
    let mut seen = Seen::new();
    read_all(&mut reader, &mut seen);
    until("room again", || journal.stats().bytes_on_disk < 16 << 10);
    let locked = writer.lock();
    let first_seq = locked.first_seq();
    let appended = locked.append(&[change("after")]).unwrap();
    assert_eq!(appended.seqs, first_seq..first_seq + 1);
    writer.close().unwrap();
    read_all(&mut reader, &mut seen);

    let said = only(&seen);
    let dropped: u64 = said
        .iter()
        .map(|said| {
            if let Said::Dropped(events) = said {
                *events
            } else {
                0
            }
        })
        .sum();
    assert_eq!(dropped, 20);
    assert_eq!(journal.stats().dropped_events, 20);
    assert_eq!(texts(&said).len(), kept + 1);
    assert_eq!(texts(&said).last(), Some(&"after"));
}

#[test]
fn a_crash_while_events_are_dropped_leaves_word_of_it() {
    let dir = scratch();
    let journal = small(dir.path(), WhenFull::Drop);
    let writer = journal.open_stream(0).unwrap();
    fill(&writer, &journal);
    let appended = writer.append(&[change("lost")]).unwrap();
    assert_eq!(appended.dropped, 1);
    drop((writer, journal));
    let (seen, _) = read_dir(dir.path());
    assert!(only(&seen).contains(&Said::Dropped(1)));
}

#[test]
fn closing_a_full_journal_still_records_what_was_dropped() {
    let dir = scratch();
    let journal = small(dir.path(), WhenFull::Drop);
    let writer = journal.open_stream(0).unwrap();
    fill(&writer, &journal);
    for _ in 0..3 {
        assert_eq!(writer.append(&[change("lost")]).unwrap().dropped, 1);
    }
    writer.close().unwrap();
    let (seen, _) = read_dir(dir.path());
    let said = only(&seen);
    let dropped: u64 = said
        .iter()
        .map(|said| {
            if let Said::Dropped(events) = said {
                *events
            } else {
                0
            }
        })
        .sum();
    assert_eq!(dropped, 3);
    assert_eq!(said.last(), Some(&closed("shutdown", 0)));
}

#[test]
fn the_number_of_the_next_append_is_certain_while_the_stream_is_locked() {
    let dir = scratch();
    let journal = open(dir.path());
    let writer = journal.open_stream(0).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let locked = writer.lock();
                    let first_seq = locked.first_seq();
                    let appended = locked.append(&[change("a"), change("b")]).unwrap();
                    assert_eq!(appended.seqs, first_seq..first_seq + 2);
                }
            });
        }
    });
    assert_eq!(writer.lock().first_seq(), 2 + 4 * 50 * 2);
}

#[test]
fn an_event_too_large_for_a_frame_is_refused_and_uses_up_no_number() {
    let dir = scratch();
    let journal = open(dir.path());
    let writer = journal.open_stream(0).unwrap();
    let large = "x".repeat(PAYLOAD_BYTES_MAX);
    let refused = writer.append(&[change("small"), change(&large)]);
    assert!(
        matches!(refused, Err(AppendError::TooLarge { .. })),
        "{refused:?}"
    );
    assert_eq!(append(&writer, &["next"]), 2..3);
    assert_eq!(journal.stats().append_errors, 1);
    let fits = "x".repeat(PAYLOAD_BYTES_MAX - 200);
    append(&writer, &[&fits, "with it"]);
    writer.close().unwrap();
    let (seen, lost) = read_dir(dir.path());
    assert_eq!(texts(&only(&seen)), ["next", &fits, "with it"]);
    assert_eq!(lost, []);
}

#[test]
fn segments_are_sealed_by_size_and_freed_once_they_are_committed() {
    let dir = scratch();
    let journal = open(dir.path());
    let writer = journal.open_stream(0).unwrap();
    let text = "x".repeat(1000);
    for _ in 0..20 {
        append(&writer, &[&text]);
    }
    let before = segments(dir.path(), writer.id());
    assert!(before.len() >= 5, "{before:?}");
    assert_eq!(journal.stats().segments_sealed, before.len() as u64 - 1);
    let mut reader = JournalReader::open(dir.path()).unwrap();
    let mut batch = SourceBatch::default();
    reader.fill(&mut batch, &ALL, later()).unwrap();
    assert_eq!(segments(dir.path(), writer.id()), before);
    reader.commit(&batch).unwrap();
    assert_eq!(
        segments(dir.path(), writer.id()),
        before[before.len() - 1..]
    );
}

#[test]
fn a_quiet_streams_segment_is_sealed_when_it_grows_old() {
    let dir = scratch();
    let journal = Journal::open(JournalOptions {
        segment_age: Duration::from_millis(1),
        ..options(dir.path())
    })
    .unwrap();
    let writer = journal.open_stream(0).unwrap();
    append(&writer, &["a"]);
    until("sealed", || journal.stats().segments_sealed >= 1);
    assert_eq!(segments(dir.path(), writer.id()).len(), 2);
    append(&writer, &["b"]);
    writer.close().unwrap();
    let (seen, lost) = read_dir(dir.path());
    assert_eq!(texts(&only(&seen)), ["a", "b"]);
    assert_eq!(lost, []);
}

#[test]
fn options_that_cannot_work_are_refused_with_their_numbers() {
    let dir = scratch();
    let refused = |change: fn(&mut JournalOptions)| {
        let mut options = options(dir.path());
        change(&mut options);
        Journal::open(options).unwrap_err().to_string()
    };
    let tiny = refused(|options| options.segment_bytes = 100);
    assert!(tiny.starts_with("segment_bytes is 100"), "{tiny}");
    let none = refused(|options| options.total_bytes_max = 1);
    let expected = InvalidOptions::TotalBytes {
        bytes: 1,
        segment_bytes: 4096,
    };
    assert_eq!(none, expected.to_string());
}

#[test]
fn a_journal_that_cannot_be_made_says_where_and_why() {
    let dir = scratch();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Journal::open(options(&file.join("journal")))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("create directory") && error.contains("file/journal"),
        "{error}"
    );
}
