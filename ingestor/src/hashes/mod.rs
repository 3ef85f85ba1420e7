//! Rows as hashes: made of events where they are written and before they are stored, and by the store,
//! where the rows are, so that only hashes travel.
//!
//! A row's hash is SHA-256 over its table's name, a zero, and ClickHouse's RowBinary of the columns
//! that [`EventRow::SEALED`] counts, which anyone can compute: `SELECT SHA256(concat('requests', char(0),
//! formatRow('RowBinary', stream, seq, …)))`. It is not over the event's bytes, because a row is what can
//! be read later; two events that make the same row say the same.

pub(crate) mod chain;
mod row_binary;

use std::borrow::Cow;

use clickhouse::Row;
use serde::{Deserialize, Serialize};
use weir_eventlog::{ChainHash, Chaining};
use weir_schemas::{Envelope, Event, EventId, StreamId, codec, for_each_event};
use weir_store::{Store, StoreError};

use self::chain::{Hash, fingerprint, hash, link, origin};
use crate::caps::ROW_BYTES_USUAL;
use crate::rows::{EventRow, IntoRow as _, SealedRange, row_of};

/// One stored event.
#[derive(Clone, Debug, Row, Deserialize)]
pub(crate) struct StoredRow {
    pub(crate) seq: u64,
    pub(crate) ts_us: i64,
    pub(crate) table: Cow<'static, str>,
    pub(crate) hash: Hash,
}

impl StoredRow {
    /// A row that is not stored yet.
    pub(crate) fn of<R: EventRow + Serialize>(table: &'static str, row: &R) -> Self {
        Self {
            seq: row.id().seq,
            ts_us: row.ts(),
            table: table.into(),
            hash: row_hash(table, row),
        }
    }
}

/// Rows of a batch as hashes, and the gateways' seals among them.
#[derive(Debug, Default)]
pub(crate) struct Hashed {
    pub(crate) rows: Vec<(StreamId, StoredRow)>,
    pub(crate) seals: Vec<(EventId, SealedRange)>,
}

/// A stream's chain after these rows.
pub(crate) fn chain_after(before: Hash, rows: &[StoredRow]) -> Hash {
    let next = |chain: Hash, row: &StoredRow| link(&chain, row.seq, &row.hash);
    rows.iter().fold(before, next)
}

/// A table of events, as far as its rows are hashed.
struct SealedTable {
    name: &'static str,
    columns: &'static [&'static str],
    /// See [`EventRow::SEALED`].
    sealed: &'static [(u8, usize)],
}

macro_rules! declare_sealed_tables {
    ($($table:ident { $($name:ident $body:tt $files:tt;)* })*) => {
        const TABLES: &[SealedTable] = &[$(SealedTable {
            name: stringify!($table),
            columns: <row_of!('static $($name)*) as Row>::COLUMN_NAMES,
            sealed: <row_of!('static $($name)*)>::SEALED,
        },)*];
    };
}

for_each_event!(declare_sealed_tables);

macro_rules! declare_hash_of_event {
    ($($table:ident { $($name:ident $body:tt $files:tt;)* })*) => {
        /// The hash of the row that an event becomes.
        fn hash_of_event(Envelope { id, event }: &Envelope<'_>) -> Hash {
            match event {
                $($(Event::$name(event) => row_hash(stringify!($table), &event.row(*id)),)*)*
            }
        }
    };
}

for_each_event!(declare_hash_of_event);

/// The hash of a row that is not stored yet.
fn row_hash<R: EventRow + Serialize>(table: &str, row: &R) -> Hash {
    let columns = R::SEALED.last().map_or(0, |(_, count)| *count);
    let mut bytes = Vec::with_capacity(ROW_BYTES_USUAL);
    match row_binary::write(row, columns, &mut bytes) {
        Ok(()) => hash(&[table.as_bytes(), &[0], &bytes]),
        // No row is like that: see `row_binary`.
        Err(_) => [0; 32],
    }
}

/// How the journal seals what a gateway writes.
pub const CHAINING: Chaining = Chaining {
    version: VERSION,
    origin,
    link: link_event,
};

fn link_event(chain: &mut ChainHash, seq: u64, payload: &[u8]) -> u64 {
    let decoded = codec::decode(payload);
    // What can't be decoded here becomes no row anywhere.
    let row = decoded.map_or_else(|_| hash(&[payload]), |it| hash_of_event(&it));
    *chain = link(chain, seq, &row);
    fingerprint(&row)
}

/// The version of leaves that new checkpoints use: the newest that any table has columns for. A leaf
/// says which version it was made with.
pub(crate) const VERSION: u8 = {
    let (mut newest, mut table) = (0, 0);
    while table < TABLES.len() {
        let sealed = TABLES[table].sealed;
        let since = sealed[sealed.len() - 1].0;
        newest = if since > newest { since } else { newest };
        table += 1;
    }
    newest
};

impl SealedTable {
    /// The columns that leaves of a version hash, in order. None of a table that is newer.
    fn columns(&self, version: u8) -> &'static [&'static str] {
        let sealed = self.sealed.iter().rfind(|(since, _)| *since <= version);
        &self.columns[..sealed.map_or(0, |(_, count)| *count)]
    }
}

/// The tables that leaves of a version cover, and their hashed columns.
fn hashed(version: u8) -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let tables = TABLES.iter();
    let tables = tables.map(move |table| (table.name, table.columns(version)));
    tables.filter(|(_, columns)| !columns.is_empty())
}

/// Events of a stream, from the first to the last of `seqs`, in that order; an event that is stored
/// twice comes twice. Rows that carry a time before `since_us` are not looked at.
pub(crate) async fn stored_rows(
    store: &Store,
    version: u8,
    stream: StreamId,
    (first, last): (u64, u64),
    since_us: i64,
) -> Result<Vec<StoredRow>, StoreError> {
    let per_table = hashed(version).map(|(table, columns)| {
        let columns = columns.iter().map(|column| format!("`{column}`"));
        let columns = columns.collect::<Vec<_>>().join(", ");
        format!(
            "SELECT seq, toUnixTimestamp64Micro(ts) AS ts_us, '{table}' AS table, \
             CAST(SHA256(concat('{table}', char(0), formatRow('RowBinary', {columns}))) \
             AS FixedString(32)) AS hash \
             FROM {table} WHERE stream = '{stream}' AND seq BETWEEN {first} AND {last} \
             AND ts >= fromUnixTimestamp64Micro({since_us}, 'UTC')"
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
    use data_encoding::HEXLOWER;
    use weir_schemas::clickhouse::{PAYLOAD_TEXTS, PAYLOADS};

    use super::*;

    fn digest(version: u8) -> String {
        let names =
            hashed(version).map(|(table, columns)| format!("{table}:{}", columns.join(",")));
        let mut names: Vec<_> = names.collect();
        names.sort();
        let names = names.join(";");
        let digest = ring::digest::digest(&ring::digest::SHA256, names.as_bytes());
        HEXLOWER.encode(&digest.as_ref()[..8])
    }

    /// Hashes made by one version of the program must be made again by the next.
    #[test]
    fn the_columns_of_a_version_stay_as_they_were() {
        assert_eq!(digest(1), "cb47eb124673fcb0");
        assert_eq!(digest(2), "6cb751f6f35ef082");
        assert_eq!(digest(3), "05eb7c31bd901c00");
    }

    /// If this fails, a column was added: give its row a pair of the next version. A payload's texts
    /// may be erased, so they stand last and are not hashed themselves; their hash is.
    #[test]
    fn the_newest_version_hashes_every_column_of_every_table() {
        for table in TABLES {
            let hashed = table.columns(VERSION);
            let rest = &table.columns[hashed.len()..];
            if table.name == PAYLOADS {
                assert_eq!(hashed.last(), Some(&"content_hash"));
                assert_eq!(rest, PAYLOAD_TEXTS);
            } else {
                assert!(rest.is_empty(), "{}: {rest:?}", table.name);
            }
        }
    }
}
