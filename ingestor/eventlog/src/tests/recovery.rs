//! What a crash leaves behind, and what becomes of it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::*;
use crate::batch::LossCause;

/// A stream with three appends, its writer dead. Returns the segment and where each append ends.
fn dead_stream(dir: &Path) -> (StreamId, std::path::PathBuf, Vec<u64>) {
    let journal = open(dir);
    let writer = journal.open_stream(3).unwrap();
    let path = segments(dir, writer.id()).remove(0);
    let mut ends = vec![fs::metadata(&path).unwrap().len()];
    for texts in [&["a"][..], &["b", "c"], &["d", "e"]] {
        append(&writer, texts);
        ends.push(fs::metadata(&path).unwrap().len());
    }
    (writer.id(), path, ends)
}

fn cut(path: &Path, length: u64) {
    OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(length)
        .unwrap();
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

#[test]
fn a_closed_stream_begins_and_ends_with_its_own_events() {
    let dir = scratch();
    let journal = open(dir.path());
    let writer = journal.open_stream(0).unwrap();
    assert_eq!(append(&writer, &["a", "b"]), 2..4);
    assert_eq!(append(&writer, &[]), 4..4);
    writer.close().unwrap();
    writer.close().unwrap();
    assert!(matches!(
        writer.append(&[change("late")]),
        Err(crate::AppendError::Closed(_))
    ));

    let (seen, lost) = read_dir(dir.path());
    let change = |text: &str| Said::Change(text.to_owned());
    assert_eq!(
        only(&seen),
        [
            Said::Opened,
            change("a"),
            change("b"),
            closed("shutdown", 0)
        ]
    );
    assert_eq!(lost, []);
}

#[test]
fn an_append_cut_at_any_byte_is_taken_back_whole_and_nothing_else() {
    let template = scratch();
    let (stream, _, ends) = dead_stream(template.path());
    let [.., before, whole] = ends[..] else {
        unreachable!()
    };
    for length in before..whole {
        let dir = scratch();
        copy_stream(template.path(), dir.path(), stream);
        cut(&segments(dir.path(), stream)[0], length);

        let journal = open(dir.path());
        assert_eq!(journal.stats().torn_bytes, length - before);
        let (seen, lost) = read_dir(dir.path());
        let said = only(&seen);
        assert_eq!(texts(&said), ["a", "b", "c"], "cut at {length}");
        assert_eq!(said.last(), Some(&closed("recovered", length - before)));
        assert_eq!(lost, []);
    }
}

fn copy_stream(from: &Path, to: &Path, stream: StreamId) {
    let (from, to) = (from.join(stream.to_string()), to.join(stream.to_string()));
    fs::create_dir(&to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn zeros_behind_the_last_append_are_cut_off_like_a_torn_one() {
    let dir = scratch();
    let (_, path, ends) = dead_stream(dir.path());
    cut(&path, ends[3] + 100);
    let (seen, lost) = read_dir(dir.path());
    assert_eq!(only(&seen).last(), Some(&closed("recovered", 100)));
    assert_eq!(lost, []);
}

#[test]
fn a_damaged_event_in_the_middle_costs_that_event_and_leaves_a_gap() {
    let dir = scratch();
    let (stream, path, ends) = dead_stream(dir.path());
    // In the payload of "b", the first of an append of two.
    flip(&path, ends[1] + 40);
    let (seen, lost) = read_dir(dir.path());
    let seqs: Vec<_> = seen[&stream].keys().copied().collect();
    assert_eq!(seqs, [1, 2, 4, 5, 6, 7]);
    assert_eq!(lost.len(), 1);
    assert_eq!((lost[0].first_seq, lost[0].events), (3, 1));
    assert_eq!(lost[0].cause, LossCause::Damaged);
    assert!(lost[0].bytes > 0);
}

#[test]
fn a_damaged_last_event_keeps_its_number() {
    let dir = scratch();
    let (stream, path, ends) = dead_stream(dir.path());
    flip(&path, ends[3] - 1);
    let (seen, lost) = read_dir(dir.path());
    let stream = &seen[&stream];
    assert_eq!(
        stream.keys().copied().collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 7]
    );
    assert_eq!(stream[&7], closed("recovered", 0));
    assert_eq!((lost[0].first_seq, lost[0].events), (6, 1));
}

#[test]
fn a_damaged_segment_header_costs_no_event() {
    let dir = scratch();
    let (_, path, _) = dead_stream(dir.path());
    flip(&path, 20);
    let (seen, lost) = read_dir(dir.path());
    assert_eq!(texts(&only(&seen)), ["a", "b", "c", "d", "e"]);
    assert_eq!((lost[0].events, lost[0].bytes), (0, 40));
}

#[test]
fn a_missing_segment_is_reported_with_the_numbers_it_held() {
    let dir = scratch();
    let journal = open(dir.path());
    let writer = journal.open_stream(0).unwrap();
    let text = "x".repeat(1000);
    for _ in 0..12 {
        append(&writer, &[&text]);
    }
    writer.close().unwrap();
    let paths = segments(dir.path(), writer.id());
    assert!(paths.len() >= 4, "{paths:?}");
    let first = |index: usize| -> u64 {
        let name = paths[index].file_stem().unwrap().to_str().unwrap();
        name.parse().unwrap()
    };
    fs::remove_file(&paths[1]).unwrap();

    let (seen, lost) = read_dir(dir.path());
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].cause, LossCause::Missing);
    assert_eq!(lost[0].first_seq, first(1));
    assert_eq!(lost[0].events, first(2) - first(1));
    assert_eq!(seen[&writer.id()].len() as u64, 14 - lost[0].events);
}

#[test]
fn a_segment_of_a_later_format_is_left_alone() {
    let dir = scratch();
    let (stream, path, _) = dead_stream(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..40]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&path, &bytes).unwrap();

    let _journal = open(dir.path());
    let (seen, lost) = read_dir(dir.path());
    assert!(seen.is_empty() && lost.is_empty());
    assert_eq!(segments(dir.path(), stream), std::slice::from_ref(&path));
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_machine_that_went_down_under_durability_os_is_told_from_a_process_that_did() {
    let dir = scratch();
    let (stream, _, _) = dead_stream(dir.path());
    let lock = dir.path().join(stream.to_string()).join("lock");
    let text = fs::read_to_string(&lock).unwrap();
    assert!(text.contains("durability os"), "{text}");
    fs::write(&lock, "boot another\ndurability os\npid 1\n").unwrap();
    let (seen, _) = read_dir(dir.path());
    assert_eq!(only(&seen).last(), Some(&closed("rebooted", 0)));
}

#[test]
fn a_live_stream_is_neither_recovered_nor_finished() {
    let dir = scratch();
    let journal = open(dir.path());
    let writer = journal.open_stream(0).unwrap();
    append(&writer, &["a"]);
    let other = open(dir.path());
    assert_eq!(other.stats().streams_recovered, 0);

    let mut reader = JournalReader::open(dir.path()).unwrap();
    let mut seen = Seen::new();
    read_all(&mut reader, &mut seen);
    append(&writer, &["b"]);
    drop((writer, journal));
    read_all(&mut reader, &mut seen);
    assert_eq!(texts(&only(&seen)), ["a", "b"]);
    assert_eq!(only(&seen).last(), Some(&closed("recovered", 0)));
    assert_eq!(reader.stats().streams_recovered, 1);
    assert_eq!(files_left(dir.path()), ["cursor", "reader.lock"]);
}

fn files_left(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_second_reader_is_told_who_is_in_its_way() {
    let dir = scratch();
    let _reader = JournalReader::open(dir.path()).unwrap();
    let refused = JournalReader::open(dir.path()).unwrap_err().to_string();
    assert!(
        refused.contains("another process already reads"),
        "{refused}"
    );
}

#[test]
fn what_was_not_committed_is_given_again_and_what_was_is_not() {
    let dir = scratch();
    let journal = open(dir.path());
    let writer = journal.open_stream(0).unwrap();
    append(&writer, &["a"]);

    let mut reader = JournalReader::open(dir.path()).unwrap();
    let mut first = SourceBatch::default();
    reader.fill(&mut first, &ALL, later()).unwrap();
    reader.commit(&first).unwrap();
    append(&writer, &["b"]);
    let mut second = SourceBatch::default();
    reader.fill(&mut second, &ALL, later()).unwrap();
    assert_eq!((first.records.len(), second.records.len()), (2, 1));

    reader.rewind();
    let mut again = SourceBatch::default();
    reader.fill(&mut again, &ALL, later()).unwrap();
    assert_eq!(again.records[0].position, second.records[0].position);
    drop(reader);

    let mut reader = JournalReader::open(dir.path()).unwrap();
    let mut restarted = SourceBatch::default();
    reader.fill(&mut restarted, &ALL, later()).unwrap();
    let seqs: Vec<_> = restarted.records.iter().map(|record| record.seq).collect();
    assert_eq!(seqs, [3]);
}
