//! Stored rows as hashes. The store computes them where the rows are, so only hashes travel.
//!
//! A row's hash is SHA-256 over its table's name, a zero, and ClickHouse's RowBinary of the columns
//! listed in [`columns`], which anybody can make again: `SELECT SHA256(concat('requests', char(0),
//! formatRow('RowBinary', stream, seq, …)))`.

use clickhouse::Row;
use serde::Deserialize;
use weir_schemas::StreamId;
use weir_schemas::clickhouse::{PAYLOAD_TEXTS, PAYLOADS};
use weir_store::{Store, StoreError};

use super::chain::Hash;
use crate::rows::{
    AttemptRow, ControlRow, CorrectionRow, PayloadRow, RequestRow, StateRow, StreamRow, TableRow,
};
use crate::tables::born_us;

/// One stored event.
#[derive(Clone, Debug, Row, Deserialize)]
pub(crate) struct StoredRow {
    pub(crate) seq: u64,
    pub(crate) ts_us: i64,
    pub(crate) table: String,
    pub(crate) hash: Hash,
}

/// The version that new checkpoints use.
pub(crate) const VERSION: u8 = 3;

/// How many columns of each table are hashed, by version from 1 on. A leaf says which version it was
/// made with. Columns that a migration adds stand at the end of a row's struct, and are hashed from
/// the next version on: a row that was sealed before must give the hash that it gave then.
const COLUMNS: [&[(&str, usize)]; VERSION as usize] = [
    &[
        ("requests", 58),
        ("attempts", 55),
        ("control_changes", 10),
        ("streams", 12),
    ],
    &[
        ("requests", 58),
        ("attempts", 55),
        ("control_changes", 10),
        ("streams", 12),
        ("deployment_states", 10),
        ("routing_tables", 9),
        ("corrections", 13),
    ],
    &[
        ("requests", 60),
        ("attempts", 56),
        ("control_changes", 10),
        ("streams", 12),
        ("deployment_states", 10),
        ("routing_tables", 9),
        ("corrections", 13),
        ("payloads", 29),
    ],
];

/// The columns that are hashed, in order.
fn columns(table: &str, count: usize) -> &'static [&'static str] {
    let all = match table {
        "requests" => RequestRow::COLUMN_NAMES,
        "attempts" => AttemptRow::COLUMN_NAMES,
        "control_changes" => ControlRow::COLUMN_NAMES,
        "deployment_states" => StateRow::COLUMN_NAMES,
        "routing_tables" => TableRow::COLUMN_NAMES,
        "corrections" => CorrectionRow::COLUMN_NAMES,
        PAYLOADS => {
            // The texts may be erased. What they were is in the hash before them.
            let all = PayloadRow::COLUMN_NAMES;
            &all[..all.len() - PAYLOAD_TEXTS.len()]
        }
        _ => StreamRow::COLUMN_NAMES,
    };
    &all[..count.min(all.len())]
}

/// A version that this program does not know was written by a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownVersion;

pub(crate) fn check_version(version: u8) -> Result<(), UnknownVersion> {
    (1..=VERSION)
        .contains(&version)
        .then_some(())
        .ok_or(UnknownVersion)
}

/// Events of a stream in the order of their seqs; an event that is stored twice comes twice. Rows
/// that carry a time before their stream's birth are not looked at.
pub(crate) async fn stored_rows(
    store: &Store,
    version: u8,
    stream: StreamId,
    first: u64,
    last: u64,
) -> Result<Vec<StoredRow>, StoreError> {
    let since = born_us(stream);
    let version = usize::from(version.clamp(1, VERSION)) - 1;
    let per_table = COLUMNS[version].iter().map(|(table, count)| {
        let columns = columns(table, *count)
            .iter()
            .map(|column| format!("`{column}`"));
        let columns = columns.collect::<Vec<_>>().join(", ");
        format!(
            "SELECT seq, toUnixTimestamp64Micro(ts) AS ts_us, '{table}' AS table, \
             CAST(SHA256(concat('{table}', char(0), formatRow('RowBinary', {columns}))) \
             AS FixedString(32)) AS hash \
             FROM {table} WHERE stream = '{stream}' AND seq BETWEEN {first} AND {last} \
             AND ts >= fromUnixTimestamp64Micro({since}, 'UTC')"
        )
    });
    let sql = format!(
        "SELECT seq, ts_us, table, hash FROM ({}) ORDER BY seq, table, hash",
        per_table.collect::<Vec<_>>().join(" UNION ALL ")
    );
    store.fetch(store.query(&sql)).await
}

#[cfg(test)]
mod tests {
    use super::super::chain::to_hex;
    use super::*;
    use weir_schemas::clickhouse::EVENT_TABLES;

    fn digest(version: usize) -> String {
        let names = COLUMNS[version - 1].iter();
        let names = names.map(|(table, count)| columns(table, *count).join(","));
        let names = names.collect::<Vec<_>>().join(";");
        let digest = ring::digest::digest(&ring::digest::SHA256, names.as_bytes());
        to_hex(&digest.as_ref()[..8])
    }

    /// Hashes made by one version of the program must be made again by the next.
    #[test]
    fn the_columns_of_a_version_stay_as_they_were() {
        assert_eq!(digest(1), "05da504d474db417");
        assert_eq!(digest(2), "98f0fc8435ebdab1");
    }

    /// What a payload's hash covers stands behind what the row's hash covers.
    #[test]
    fn texts_that_may_be_erased_are_not_sealed_themselves() {
        let all = PayloadRow::COLUMN_NAMES;
        assert_eq!(all[all.len() - PAYLOAD_TEXTS.len()..], PAYLOAD_TEXTS);
        assert_eq!(columns(PAYLOADS, usize::MAX).last(), Some(&"content_hash"));
    }

    /// If this fails, a column or a table was added: add a version to [`COLUMNS`] that has it.
    #[test]
    fn the_newest_version_hashes_every_column_of_every_table() {
        let newest = COLUMNS[usize::from(VERSION) - 1];
        let tables: Vec<&str> = newest.iter().map(|(table, _)| *table).collect();
        assert_eq!(tables, EVENT_TABLES);
        for (table, count) in newest {
            assert_eq!(columns(table, usize::MAX).len(), *count, "{table}");
        }
    }
}
