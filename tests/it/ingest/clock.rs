//! Clocks that are wrong, set back, ahead or stopped. A test cannot set the machine's clock; what such a
//! clock leaves behind are events whose times have nothing to do with their stream's birth.

use weir_schemas::clickhouse::DOUBLES;
use weir_store::Store;

use super::events::{born_us, open_journal, write_at, write_since};
use super::{Ingesting, check, copy};
use crate::audit::{installation, run, verify};
use crate::store::{Running, alone};

const HOUR_US: u64 = 3_600_000_000;
const DAY_US: u64 = 24 * HOUR_US;

/// A request carries the time of its arrival, which a clock that was set back puts before the stream's
/// own birth.
#[test]
fn a_clock_that_is_wrong_or_set_loses_and_doubles_nothing() {
    alone(async {
        let running = Running::start().await;
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        let journal = open_journal(&first);
        let writer = journal.open_stream(0).unwrap();
        let born = born_us(writer.id());
        let mut cost = 0;
        // Right, forwards over midnight, back by hours, days and a year, right again; ahead by a year; stopped.
        let year = 400 * DAY_US;
        let begins = [
            born,
            born + 30 * HOUR_US,
            born - 23 * HOUR_US,
            born - 25 * HOUR_US,
            born - 3 * DAY_US,
            born - year,
            born,
            born + year,
        ];
        for (part, since) in (0..).zip(begins) {
            cost += write_since(&writer, 100 * part, 100, since);
        }
        cost += write_at(&writer, 800, 100, |_| born - 3 * DAY_US);
        writer.close().unwrap();
        drop(journal);
        copy(&first, &second);
        for journal in [&first, &second] {
            Ingesting::drain_journal(journal, running.store()).await;
            check(&running.store(), 900, 1, cost).await;
        }
        running.stop().await;
    });
}

/// Ingestors of before the migration stored such rows again and again, and the events behind them never.
#[test]
fn rows_that_an_earlier_ingestor_doubled_are_stored_once_after_the_next_start() {
    alone(async {
        let running = Running::start().await;
        let store = running.store();
        let dir = tempfile::tempdir().unwrap();
        let journal = open_journal(dir.path());
        let writer = journal.open_stream(0).unwrap();
        let since = born_us(writer.id()) - 3 * DAY_US;
        let mut cost = write_since(&writer, 0, 300, since);
        Ingesting::drain_journal(dir.path(), running.store()).await;
        for table in ["requests", "attempts", "requests", "attempts"] {
            let again = format!(
                "INSERT INTO {table} SELECT * FROM {table} SETTINGS insert_deduplicate = 0"
            );
            run(&store, &again).await;
        }
        assert_eq!(requests_by_day(&store).await, 1200);
        let weir = installation(&running);
        let (report, proven) = verify(&weir);
        assert!(!proven, "{report}");

        run(
            &store,
            &format!(
                "ALTER TABLE migrations DELETE WHERE version = {DOUBLES} SETTINGS mutations_sync = 1"
            ),
        )
        .await;
        cost += write_since(&writer, 300, 100, since);
        writer.close().unwrap();
        Ingesting::drain_journal(dir.path(), running.store()).await;
        check(&store, 400, 1, cost).await;
        assert_eq!(requests_by_day(&store).await, 400);
        let (report, proven) = verify(&weir);
        assert!(proven, "{report}");
        running.stop().await;
    });
}

/// By the rollup, which is stored with the rows.
async fn requests_by_day(store: &Store) -> u64 {
    let query = store.query("SELECT toUInt64(sum(requests)) FROM usage_by_day");
    store.fetch::<u64>(query).await.unwrap()[0]
}
