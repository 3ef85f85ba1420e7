//! Damage to a journal is named by `weir doctor`, with file and byte.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use weir_eventlog::{Journal, JournalOptions};
use weir_tests::gateway::MockedGateway;
use weir_tests::weir::Installation;

use crate::ingest::events::write;

/// A closed stream in many segments that nobody has read.
fn journal(weir: &Installation) -> Vec<PathBuf> {
    let dir = weir.data_dir().join("journal");
    let journal = Journal::open(JournalOptions {
        segment_bytes: 16 << 10,
        total_bytes_max: 1 << 30,
        ..JournalOptions::new(&dir)
    })
    .unwrap();
    let writer = journal.open_stream(0).unwrap();
    let stream = dir.join(writer.id().to_string());
    write(&writer, 0, 300);
    writer.close().unwrap();
    drop(journal);
    segments(&stream)
}

fn segments(stream: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(stream).unwrap();
    let mut segments: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "seg"))
        .collect();
    segments.sort();
    segments
}

fn doctor(weir: &Installation) -> (String, String) {
    let output = weir.command(&["doctor", "--json"]).output().unwrap();
    let reports: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut reports = reports.as_array().unwrap().iter();
    let report = reports.find(|report| report["check"] == "journal").unwrap();
    let text = |name: &str| report[name].as_str().unwrap().to_owned();
    (text("verdict"), text("detail"))
}

#[test]
fn damage_to_a_journal_is_named_with_file_and_byte() {
    // What is done to the segments, and which file and what is named.
    type Deed = fn(&[PathBuf]) -> (PathBuf, &'static str);
    let deeds: [Deed; 4] = [
        |segments| {
            let mut bytes = fs::read(&segments[1]).unwrap();
            bytes[4000] ^= 1;
            fs::write(&segments[1], bytes).unwrap();
            (segments[1].clone(), "bytes are damaged")
        },
        |segments| {
            // Torn in the middle of the stream.
            let file = OpenOptions::new().write(true).open(&segments[2]).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
            (segments[2].clone(), "bytes at its end are damaged")
        },
        |segments| {
            fs::remove_file(&segments[3]).unwrap();
            (segments[4].clone(), "before it are missing")
        },
        |segments| {
            let file = OpenOptions::new().write(true).open(&segments[0]).unwrap();
            file.write_all_at(&[0xFF], 3).unwrap();
            (segments[0].clone(), "byte 0: its header is damaged")
        },
    ];
    for deed in deeds {
        let weir = Installation::new("").unwrap();
        let segments = journal(&weir);
        // Four may wait for the disk; further events then go into the fifth.
        assert!(segments.len() >= 5);
        let (verdict, detail) = doctor(&weir);
        assert_eq!(verdict, "OK", "{detail}");
        let (path, what) = deed(&segments);
        let (verdict, detail) = doctor(&weir);
        assert_eq!(verdict, "FAIL", "{detail}");
        let named = format!("{}, byte ", path.display());
        let line = detail.lines().find(|line| line.contains(&named));
        assert!(
            line.is_some_and(|line| line.contains(what)),
            "{what}: {detail}"
        );
    }
}

/// The end of the last segment is gone, as if it had never been written; but the budgets know.
#[test]
fn a_journal_that_ends_before_what_was_charged_is_named() {
    let mut gateway = MockedGateway::start();
    gateway.run(&[
        "budgets", "set", "all", "--tokens", "1000000", "--window", "total",
    ]);
    let (_, key) = gateway.known_key(&["--team", "growth"]);
    for _ in 0..10 {
        assert_eq!(gateway.chat(&key).status, 200);
    }
    let (verdict, detail) = doctor(&gateway.weir);
    assert_eq!(verdict, "OK", "{detail}");
    gateway.process.as_mut().unwrap().kill().unwrap();
    for stream in fs::read_dir(gateway.weir.data_dir().join("journal")).unwrap() {
        for segment in segments_of(&stream.unwrap().path()) {
            let file = OpenOptions::new().write(true).open(segment).unwrap();
            // Nothing but the beginning of the stream.
            file.set_len(file.metadata().unwrap().len().min(200))
                .unwrap();
        }
    }
    let (verdict, detail) = doctor(&gateway.weir);
    assert_eq!(verdict, "FAIL", "{detail}");
    assert!(detail.contains("requests that were charged"), "{detail}");
    gateway.restart();
    let log = gateway.process.as_ref().unwrap().log();
    assert!(
        log.contains("the journal's stream ends before them"),
        "{log}"
    );
}

fn segments_of(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() {
        segments(path)
    } else {
        Vec::new()
    }
}
