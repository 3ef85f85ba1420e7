//! What the three durability levels promise.

use std::fs;

use super::*;
use crate::{Durability, NotDurable};

fn with(dir: &Path, durability: Durability) -> Journal {
    Journal::open(JournalOptions {
        durability,
        segment_bytes: 64 << 10,
        ..options(dir)
    })
    .unwrap()
}

#[tokio::test]
async fn os_promises_nothing_and_waits_for_nothing() {
    let dir = scratch();
    let journal = with(dir.path(), Durability::Os);
    let writer = journal.open_stream(0).unwrap();
    let before = journal.stats().sync_latency.count;
    let appended = writer.append(&[change("a")]).unwrap();
    assert_eq!(appended.durable().await, Ok(()));
    assert_eq!(journal.stats().sync_latency.count, before);
}

#[tokio::test]
async fn fsync_returns_only_after_a_sync_that_covers_the_append() {
    let dir = scratch();
    let journal = with(dir.path(), Durability::Fsync);
    let writer = journal.open_stream(0).unwrap();
    for index in 0..10 {
        let before = journal.stats().sync_latency.count;
        let appended = writer.append(&[change("a")]).unwrap();
        assert_eq!(appended.durable().await, Ok(()));
        assert!(
            journal.stats().sync_latency.count > before,
            "append {index}"
        );
    }
}

#[tokio::test]
async fn appends_of_a_group_share_their_sync() {
    let dir = scratch();
    let group = Durability::Group {
        delay: Duration::from_millis(200),
        bytes: 1 << 30,
    };
    let journal = with(dir.path(), group);
    let writers = [
        journal.open_stream(0).unwrap(),
        journal.open_stream(1).unwrap(),
    ];
    let before = journal.stats().sync_latency.count;
    let begun = Instant::now();
    let mut appended = Vec::new();
    for _ in 0..50 {
        for writer in &writers {
            appended.push(writer.append(&[change("a")]).unwrap());
        }
    }
    let appending = begun.elapsed();
    for appended in appended {
        assert_eq!(appended.durable().await, Ok(()));
    }
    // One round, or two if appending itself took longer than the delay.
    let rounds = if appending < Duration::from_millis(200) {
        1
    } else {
        2
    };
    let syncs = journal.stats().sync_latency.count - before;
    assert!(syncs <= rounds * 2, "{syncs} syncs for two streams");
}

#[tokio::test]
async fn a_group_syncs_early_once_it_has_its_bytes() {
    let dir = scratch();
    let group = Durability::Group {
        delay: Duration::from_secs(3600),
        bytes: 1000,
    };
    let journal = with(dir.path(), group);
    let writer = journal.open_stream(0).unwrap();
    let text = "x".repeat(2000);
    let appended = writer.append(&[change(&text)]).unwrap();
    assert_eq!(appended.durable().await, Ok(()));
}

#[tokio::test]
async fn a_sync_covers_segments_that_were_sealed_meanwhile() {
    let dir = scratch();
    let journal = with(dir.path(), Durability::Fsync);
    let writer = journal.open_stream(0).unwrap();
    let text = "x".repeat(30_000);
    let mut appended = Vec::new();
    for _ in 0..20 {
        appended.push(writer.append(&[change(&text)]).unwrap());
    }
    for appended in appended {
        assert_eq!(appended.durable().await, Ok(()));
    }
    assert!(journal.stats().segments_sealed >= 4);
}

#[tokio::test]
async fn a_stream_that_goes_away_leaves_no_one_waiting() {
    let dir = scratch();
    let never = Durability::Group {
        delay: Duration::from_secs(3600),
        bytes: u64::MAX,
    };
    let journal = with(dir.path(), never);
    let writer = journal.open_stream(0).unwrap();
    let stream = writer.id();
    let appended = writer.append(&[change("a"), change("b")]).unwrap();
    drop((writer, journal));
    let not_durable = NotDurable {
        stream,
        first: 2,
        last: 3,
    };
    assert_eq!(appended.durable().await, Err(not_durable));
}

#[tokio::test]
async fn closing_makes_durable_what_was_appended() {
    let dir = scratch();
    let never = Durability::Group {
        delay: Duration::from_secs(3600),
        bytes: u64::MAX,
    };
    let journal = with(dir.path(), never);
    let writer = journal.open_stream(0).unwrap();
    let appended = writer.append(&[change("a")]).unwrap();
    writer.close().unwrap();
    assert_eq!(appended.durable().await, Ok(()));
    let marker = dir.path().join(writer.id().to_string()).join("closed");
    assert!(fs::exists(marker).unwrap());
}
