//! Weir's tables: migrations, batches with tokens, what is stored after a kill, retention.

use std::collections::BTreeMap;
use std::time::Duration;

use clickhouse::Row;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use weir_schemas::StreamId;
use weir_schemas::clickhouse::{EVENT_TABLES, MIGRATIONS, retained_tables};
use weir_store::{ErrorClass, Store, StoreState, split_script};

use super::http::post;
use super::life::kill_hard;
use super::request_row::{RequestRow, requests};
use super::{Running, alone, ready, settled, store_at, supervise, with_shared};

fn stream(number: u8) -> StreamId {
    StreamId::new(1_700_000_000_000, [number; 10])
}

async fn now_us(store: &Store) -> i64 {
    let query = store.query("SELECT toUnixTimestamp64Micro(now64(6))");
    store.fetch::<i64>(query).await.unwrap()[0]
}

async fn count(store: &Store, table: &str, stream: StreamId) -> u64 {
    let sql = format!("SELECT count() FROM {table} WHERE stream = {{stream:UUID}}");
    store
        .fetch::<u64>(store.query(&sql).param("stream", stream.to_string()))
        .await
        .unwrap()[0]
}

#[test]
fn a_batch_with_the_same_token_is_stored_once() {
    with_shared(|running| async {
        let store = running.store();
        let (stream, now) = (stream(1), now_us(&store).await);
        let rows = requests(stream, 1..1001, now);
        for _ in 0..2 {
            store
                .insert::<RequestRow>("requests", &rows, "token-1")
                .await
                .unwrap();
        }
        assert_eq!(count(&store, "requests", stream).await, 1000);
        // It is the token that decides, not the rows.
        store
            .insert::<RequestRow>("requests", &rows, "token-2")
            .await
            .unwrap();
        assert_eq!(count(&store, "requests", stream).await, 2000);
    });
}

#[test]
fn an_insert_that_begins_after_its_deadline_stores_nothing() {
    with_shared(|running| async {
        let store = running.store();
        let (stream, now) = (stream(9), now_us(&store).await);
        let rows = requests(stream, 1..11, now);
        let insert = |token, deadline_us: i64| {
            let deadline_us = Some(deadline_us.unsigned_abs());
            store.insert_until::<RequestRow>("requests", &rows, token, deadline_us)
        };
        let refused = insert("late", now - 1).await.unwrap_err();
        assert_eq!(refused.class, ErrorClass::Transient);
        assert!(refused.message.contains("after its deadline"), "{refused}");
        assert_eq!(count(&store, "requests", stream).await, 0);
        insert("in-time", now + 3_600_000_000).await.unwrap();
        assert_eq!(count(&store, "requests", stream).await, 10);
        for table in EVENT_TABLES {
            let late = format!(
                "INSERT INTO {table} (stream, seq) SETTINGS log_comment = 'weir-insert by {now}' \
                 SELECT '{stream}', 99"
            );
            let mut answer = store.raw_query(&late, "Null").unwrap();
            let refused = answer.next().await.unwrap_err();
            assert!(refused.message.contains("after its deadline"), "{refused}");
        }
    });
}

#[test]
fn an_insert_under_way_can_be_seen() {
    with_shared(|running| async {
        let store = running.store();
        #[derive(Row, Serialize)]
        struct Slow {
            a: u8,
        }
        let create =
            "CREATE TABLE weir.slow (a UInt8, b UInt8 MATERIALIZED sleep(3)) ENGINE = Null";
        assert_eq!(post(running.address, "/", create).await.status, 200);
        let inserting = store.clone();
        let inserted = tokio::spawn(async move {
            inserting
                .insert::<Slow>("slow", &[Slow { a: 1 }], "slow")
                .await
        });
        let mut most = 0;
        while !inserted.is_finished() {
            most = most.max(store.inserts_running(Duration::ZERO).await.unwrap());
        }
        inserted.await.unwrap().unwrap();
        assert!(most >= 1, "the insert was never seen");
    });
}

#[test]
fn money_comes_back_to_the_last_digit() {
    with_shared(|running| async {
        let store = running.store();
        let (stream, now) = (stream(2), now_us(&store).await);
        let mut rows = requests(stream, 1..4, now);
        rows[0].cost_usd = Some(1);
        rows[1].cost_usd = Some(i128::from(i64::MAX));
        rows[2].cost_usd = None;
        store
            .insert::<RequestRow>("requests", &rows, "money")
            .await
            .unwrap();
        let sql = "SELECT assumeNotNull(toString(sum(cost_usd))) FROM requests WHERE stream = {stream:UUID}";
        let sum = store
            .fetch::<String>(store.query(sql).param("stream", stream.to_string()))
            .await;
        assert_eq!(sum.unwrap(), ["9223372.036854775808"]);
    });
}

#[test]
fn a_row_that_does_not_fit_is_told_from_a_store_that_is_away() {
    with_shared(|running| async {
        let store = running.store();
        #[derive(Row, Serialize)]
        struct Letter<'a> {
            reason: &'a str,
        }
        let letter = Letter { reason: "x" };
        let error = store
            .insert::<Letter<'_>>("no_such_table", &[letter], "t")
            .await
            .unwrap_err();
        assert_eq!(
            (error.class, error.code),
            (ErrorClass::Permanent, Some(60)),
            "{error}"
        );
        let mut answer = store.raw_query("SELECT toUInt8('x')", "TSV").unwrap();
        let error = answer.next().await.unwrap_err();
        assert_eq!(
            (error.class, error.code),
            (ErrorClass::Poison, Some(6)),
            "{error}"
        );
    });
}

#[test]
fn any_statement_can_be_sent_and_its_answer_read_as_it_comes() {
    with_shared(|running| async {
        let store = running.store();
        let sql = "SELECT number, '?' FROM system.numbers LIMIT 200000";
        let mut answer = store.raw_query(sql, "TSV").unwrap();
        let mut lines = 0;
        while let Some(bytes) = answer.next().await.unwrap() {
            lines += bytes.iter().filter(|byte| **byte == b'\n').count();
        }
        assert_eq!(lines, 200_000);
        let mut answer = store
            .raw_query("SELECT database() FORMAT JSONEachRow", "TSV")
            .unwrap();
        let bytes = answer.next().await.unwrap().unwrap();
        assert_eq!(bytes, "{\"database()\":\"weir\"}\n".as_bytes());
    });
}

#[test]
fn migrations_may_be_run_by_several_and_again() {
    alone(async {
        let running = Running::start().await;
        let (one, two) = (running.store(), running.store());
        let (one_did, two_did) = tokio::join!(one.migrate(30), two.migrate(30));
        assert!(!one_did.unwrap().migrations.is_empty() || !two_did.unwrap().migrations.is_empty());
        assert_eq!(
            one.migrate(30).await.unwrap(),
            weir_store::Applied::default()
        );
        let sql = "SELECT count() FROM migrations";
        let records = one.fetch::<u64>(one.query(sql)).await.unwrap();
        assert_eq!(records, [u64::try_from(MIGRATIONS.len()).unwrap()]);
        running.stop().await;
    });
}

#[test]
fn a_migration_that_was_cut_short_is_finished() {
    alone(async {
        let running = Running::start().await;
        let store = running.store();
        let statements: Vec<&str> = MIGRATIONS
            .iter()
            .flat_map(|migration| split_script(migration.sql))
            .collect();
        store.migrate(30).await.unwrap();
        let whole = schema(&running).await;
        for done in 0..statements.len() {
            assert_eq!(
                post(running.address, "/", "DROP DATABASE weir SYNC")
                    .await
                    .status,
                200
            );
            for statement in &statements[..done] {
                assert_eq!(
                    post(running.address, "/", *statement).await.status,
                    200,
                    "{statement}"
                );
            }
            store.migrate(30).await.unwrap();
            assert_eq!(schema(&running).await, whole, "after {done} statements");
        }
        running.stop().await;
    });
}

async fn schema(running: &Running) -> String {
    let sql =
        "SELECT name, create_table_query FROM system.tables WHERE database = 'weir' ORDER BY name";
    post(running.address, "/", sql).await.text()
}

#[test]
fn a_changed_migration_is_refused() {
    alone(async {
        let running = Running::start().await;
        let store = running.store();
        store.migrate(30).await.unwrap();
        let forge = "ALTER TABLE weir.migrations UPDATE checksum = 'x' WHERE version = 1 SETTINGS mutations_sync = 1";
        assert_eq!(post(running.address, "/", forge).await.status, 200);
        let error = store.migrate(30).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Permanent);
        assert!(error.message.contains("must not change"), "{error}");
        running.stop().await;
    });
}

#[test]
fn every_column_says_what_it_holds() {
    // In a store of its own: other tests make tables in the shared one.
    alone(async {
        let running = Running::start().await;
        running.store().migrate(90).await.unwrap();
        let sql = "SELECT count(), groupArrayIf(table || '.' || name, comment = '') \
                   FROM system.columns WHERE database = 'weir'";
        let answer = post(running.address, "/", sql).await.text();
        let (columns, silent) = answer.trim().split_once('\t').unwrap();
        assert!(columns.parse::<u32>().unwrap() > 100, "{answer}");
        assert_eq!(silent, "[]");
        running.stop().await;
    });
}

#[test]
fn rows_go_when_the_retention_says_so_and_when_it_is_shortened() {
    alone(async {
        const DAY_US: i64 = 86_400_000_000;
        let running = Running::start().await;
        let store = running.store();
        store.migrate(365).await.unwrap();
        let now = now_us(&store).await;
        let (old, young) = (stream(1), stream(2));
        let batch = requests(old, 1..101, now - 100 * DAY_US);
        store
            .insert::<RequestRow>("requests", &batch, "old")
            .await
            .unwrap();
        let batch = requests(young, 1..101, now - 10 * DAY_US);
        store
            .insert::<RequestRow>("requests", &batch, "young")
            .await
            .unwrap();
        assert_eq!(count(&store, "requests", old).await, 100);
        let applied = store.migrate(90).await.unwrap();
        let unheld = retained_tables().filter(|table| *table != "requests");
        assert!(applied.retention.iter().eq(unheld), "{applied:?}");
        assert_eq!(applied.held.len(), 1);
        assert_eq!(applied.held[0].rows, 100);
        assert_eq!(store.accept_deletion(90).await.unwrap(), applied.held);
        let again = store.migrate(90).await.unwrap();
        assert!(again.retention.is_empty() && again.held.is_empty());
        // What the engine does in the background, in its own time.
        let merge = "OPTIMIZE TABLE weir.requests FINAL";
        assert_eq!(post(running.address, "/", merge).await.status, 200);
        assert_eq!(count(&store, "requests", old).await, 0);
        assert_eq!(count(&store, "requests", young).await, 100);
        store.migrate(0).await.unwrap();
        assert!(!schema(&running).await.contains("TTL"));
        running.stop().await;
    });
}

/// Batches are inserted while the store is killed again and again. What was acknowledged is there,
/// and whole; what was not is there whole, or not at all.
#[test]
fn no_acknowledged_batch_is_lost_when_the_store_is_killed() {
    const ROWS: u64 = 5000;
    let seed = seed();
    alone(async move {
        let mut random = StdRng::seed_from_u64(seed);
        let directory = tempfile::tempdir().unwrap();
        let supervisor = supervise(directory.path(), "127.0.0.1:0", &[]);
        let (address, _) = ready(&supervisor).await;
        store_at(address).migrate(90).await.unwrap();
        let stream = stream(7);
        let mut acknowledged: BTreeMap<u64, bool> = BTreeMap::new();
        for _ in 0..kills() {
            let (address, pid) = ready(&supervisor).await;
            let store = store_at(address);
            let now = now_us(&store).await;
            // Some batches go through; one of the next is hit, or the pause between two.
            let (mut spared, pause) = (
                random.random_range(0..4_u32),
                random.random_range(0..40_u64),
            );
            let (hit, wanted) = tokio::sync::oneshot::channel();
            let mut hit = Some(hit);
            let killer = tokio::spawn(async move {
                wanted.await.unwrap();
                tokio::time::sleep(Duration::from_millis(pause)).await;
                kill_hard(pid);
            });
            loop {
                if spared == 0 {
                    hit.take().map(|hit| hit.send(()));
                }
                let batch = u64::try_from(acknowledged.len()).unwrap();
                let rows = requests(stream, batch * ROWS..(batch + 1) * ROWS, now);
                let token = format!("batch-{batch}");
                let stored = store.insert::<RequestRow>("requests", &rows, &token).await;
                acknowledged.insert(batch, stored.is_ok());
                if let Err(error) = stored {
                    assert_eq!(error.class, ErrorClass::Transient, "{error}");
                    break;
                }
                spared = spared.saturating_sub(1);
            }
            killer.await.unwrap();
            settled(
                &supervisor,
                |state| matches!(state, StoreState::Ready { pid: new, .. } if *new != pid),
            )
            .await;
        }
        let (address, _) = ready(&supervisor).await;
        let store = store_at(address);
        let sql =
            format!("SELECT intDiv(seq, {ROWS}) AS batch, count() FROM requests GROUP BY batch");
        let stored: BTreeMap<u64, u64> = store
            .fetch::<(u64, u64)>(store.query(&sql))
            .await
            .unwrap()
            .into_iter()
            .collect();
        for (batch, acknowledged) in &acknowledged {
            match stored.get(batch) {
                Some(&ROWS) => {}
                None if !acknowledged => {}
                rows => {
                    panic!("seed {seed}: batch {batch}, acknowledged {acknowledged}, has {rows:?}")
                }
            }
        }
        assert!(
            acknowledged.values().any(|acknowledged| *acknowledged),
            "nothing was inserted"
        );
        supervisor.stop().await;
    });
}

/// The seed of this run; `WEIR_SEED` repeats one.
fn seed() -> u64 {
    let given = std::env::var("WEIR_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    given.unwrap_or_else(rand::random)
}

/// How often the store is killed; `WEIR_KILLS` asks for more.
fn kills() -> u32 {
    std::env::var("WEIR_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(6)
}
