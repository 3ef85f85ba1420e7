//! Deleting the copies of rows that were stored more than once: see
//! `schemas/clickhouse/0012_doubles.sql`.
//!
//! Only whole copies go, so a row that somebody forged or changed stays for a verification to find.

use clickhouse::Row;
use serde::Deserialize;
use tracing::warn;
use weir_schemas::clickhouse::DATABASE;

use crate::client::{Store, StoreError};

/// The tables of events that there were when rows could be stored more than once.
const TABLES: [&str; 8] = [
    "attempts",
    "control_changes",
    "streams",
    "deployment_states",
    "routing_tables",
    "corrections",
    "payloads",
    "requests",
];

/// A day of a table with rows that are stored more than once.
#[derive(Debug, Row, Deserialize)]
struct DoubledPartition {
    partition: String,
    copies: u64,
}

/// Deletes the copies of rows that carry a time more than a day before their stream's birth: those that
/// were not found again.
pub(crate) async fn delete(store: &Store) -> Result<(), StoreError> {
    for table in TABLES {
        for doubled in doubled(store, table).await? {
            let DoubledPartition { partition, copies } = doubled;
            let sql = format!(
                "OPTIMIZE TABLE {DATABASE}.{table} PARTITION ID '{partition}' FINAL DEDUPLICATE \
                 SETTINGS optimize_throw_if_noop = 1"
            );
            let context = format!("delete the copies of rows of {table}");
            store.execute(&context, &sql).await?;
            warn!(table, day = %partition, copies, "deleted the copies of rows that were stored more than once");
        }
    }
    Ok(())
}

async fn doubled(store: &Store, table: &str) -> Result<Vec<DoubledPartition>, StoreError> {
    let early = TABLES.map(|table| {
        format!(
            "SELECT DISTINCT stream FROM {table} \
             WHERE ts < UUIDv7ToDateTime(stream, 'UTC') - INTERVAL 1 DAY"
        )
    });
    let early = early.join(" UNION ALL ");
    let sql = format!(
        "SELECT partition, toUInt64(sum(rows - 1)) AS copies FROM (\
           SELECT _partition_id AS partition, stream, seq, count() AS rows FROM {table} \
           WHERE stream IN ({early}) GROUP BY partition, stream, seq HAVING rows > 1\
         ) GROUP BY partition ORDER BY partition"
    );
    store.fetch(store.query(&sql)).await
}
