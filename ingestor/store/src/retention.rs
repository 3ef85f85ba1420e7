//! How long what is stored stays.
//!
//! A retention that is shortened deletes rows, and nothing brings them back. So the tables keep theirs
//! until somebody accepts the deletion ([`Store::accept_deletion`]); everything else goes on. A retention
//! that deletes nothing is set at once.

use std::fmt;

use clickhouse::Row;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use weir_schemas::clickhouse::{DATABASE, PAYLOAD_TEXTS, PAYLOADS, retained_tables};

use crate::client::{Store, StoreError};

/// The longest retention but for ever. The engine computes with dates up to 2106: beyond, a row's day
/// of deletion would lie in the past.
pub const RETENTION_DAYS_MAX: u32 = 18_250;

/// Days that what is stored stays. 0 is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Days after which rows are deleted.
    pub rows_days: u32,
    /// Days after which the texts of payloads are emptied; with their rows, if those go before.
    pub payloads_days: u32,
}

impl From<u32> for Retention {
    /// The same for everything.
    fn from(days: u32) -> Self {
        Self {
            rows_days: days,
            payloads_days: days,
        }
    }
}

/// What a shorter retention deletes of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deletion {
    pub table: String,
    /// Whether it empties the rows' texts. The rows stay.
    pub is_of_texts: bool,
    pub rows: u64,
    /// Days of the first and of the last of them, as `2026-11-30`.
    pub from: String,
    pub to: String,
    /// The retention that is in force, and the one that is wanted. 0 is for ever.
    pub days_now: u32,
    pub days_wanted: u32,
}

impl fmt::Display for Deletion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            rows,
            from,
            to,
            ..
        } = self;
        let what = if self.is_of_texts {
            "the texts of "
        } else {
            ""
        };
        write!(f, "{what}{rows} rows of {table}, {from} to {to}")
    }
}

impl Store {
    /// Sets the retention, whatever that deletes. Returns what it deletes.
    pub async fn accept_deletion(
        &self,
        retention: impl Into<Retention>,
    ) -> Result<Vec<Deletion>, StoreError> {
        Ok(set(self, retention.into(), true).await?.deletions)
    }

    /// What a retention would delete that is kept now.
    pub async fn deletions(
        &self,
        retention: impl Into<Retention>,
    ) -> Result<Vec<Deletion>, StoreError> {
        let mut found = Vec::new();
        for change in changes(self, retention.into()).await? {
            found.extend(change.deletion(self).await?);
        }
        Ok(found)
    }
}

/// What setting the retention did.
#[derive(Debug, Default)]
pub(crate) struct RetentionSet {
    /// Tables whose retention was changed.
    pub(crate) tables: Vec<String>,
    /// What the retention deletes, or would delete if that were accepted.
    pub(crate) deletions: Vec<Deletion>,
}

/// Sets the retention of all tables; one that deletes something only if that is accepted.
pub(crate) async fn set(
    store: &Store,
    retention: Retention,
    is_accepted: bool,
) -> Result<RetentionSet, StoreError> {
    let mut set = RetentionSet::default();
    for change in changes(store, retention).await? {
        let deletion = change.deletion(store).await?;
        let is_held = deletion.is_some() && !is_accepted;
        if let Some(Deletion { rows, from, to, .. }) = &deletion {
            let (table, texts) = (change.table, change.is_of_texts);
            let (days_now, days_wanted) = (change.days_now, change.days_wanted);
            if is_held {
                warn!(
                    table,
                    texts,
                    rows,
                    from,
                    to,
                    days_now,
                    days_wanted,
                    "a shorter retention would delete rows and is not in force; `weir retention --accept-deletion` accepts that"
                );
            } else {
                warn!(
                    table,
                    texts,
                    rows,
                    from,
                    to,
                    days_now,
                    days_wanted,
                    "a shorter retention deletes rows"
                );
            }
        }
        set.deletions.extend(deletion);
        if !is_held {
            change.apply(store).await?;
            if !set.tables.iter().any(|table| table == change.table) {
                set.tables.push(change.table.to_owned());
            }
        }
    }
    Ok(set)
}

/// A retention that is not as it should be.
struct RetentionChange {
    table: &'static str,
    is_of_texts: bool,
    days_now: u32,
    days_wanted: u32,
    statement: String,
}

impl RetentionChange {
    /// What it deletes that is kept now.
    async fn deletion(&self, store: &Store) -> Result<Option<Deletion>, StoreError> {
        let is_shorter = self.days_now == 0 || self.days_wanted < self.days_now;
        if self.days_wanted == 0 || !is_shorter {
            return Ok(None);
        }
        let Self {
            table, days_wanted, ..
        } = *self;
        // Texts go by whole days.
        let (due, kept) = if self.is_of_texts {
            let has_text = PAYLOAD_TEXTS.map(|column| format!("notEmpty({column})"));
            (
                format!(
                    "toDateTime(toDate(ts)) + toIntervalDay({})",
                    days_wanted + 1
                ),
                has_text.join(" OR "),
            )
        } else {
            (
                format!("toDateTime(ts) + toIntervalDay({days_wanted})"),
                "true".to_owned(),
            )
        };
        let sql = format!(
            "SELECT count() AS rows, toString(toDate(min(ts))) AS from, \
             toString(toDate(max(ts))) AS to FROM {table} WHERE {due} <= now() AND ({kept})"
        );
        let found: Vec<DueRows> = store.fetch(store.query(&sql)).await?;
        let due = found.into_iter().find(|due| due.rows > 0);
        Ok(due.map(|due| Deletion {
            table: table.to_owned(),
            is_of_texts: self.is_of_texts,
            rows: due.rows,
            from: due.from,
            to: due.to,
            days_now: self.days_now,
            days_wanted,
        }))
    }

    async fn apply(&self, store: &Store) -> Result<(), StoreError> {
        let (table, texts, days) = (self.table, self.is_of_texts, self.days_wanted);
        let context = format!("set the retention of {table}");
        store.execute(&context, &self.statement).await?;
        info!(table, texts, days, "changed the retention");
        Ok(())
    }
}

#[derive(Debug, Row, Deserialize)]
struct DueRows {
    rows: u64,
    from: String,
    to: String,
}

async fn changes(store: &Store, retention: Retention) -> Result<Vec<RetentionChange>, StoreError> {
    let mut changes = Vec::new();
    for table in retained_tables() {
        changes.extend(rows_change(store, table, retention.rows_days).await?);
    }
    changes.extend(texts_change(store, retention.payloads_days).await?);
    Ok(changes)
}

/// What the server says of a table of Weir's; empty if it has none of that name.
async fn fact(store: &Store, column: &str, table: &str) -> Result<String, StoreError> {
    let sql = format!("SELECT {column} FROM system.tables WHERE database = ? AND name = ?");
    let query = store.client().query(&sql).bind(DATABASE).bind(table);
    Ok(store.fetch(query).await?.pop().unwrap_or_default())
}

/// Rows go after some days; 0 is never.
async fn rows_change(
    store: &Store,
    table: &'static str,
    days: u32,
) -> Result<Option<RetentionChange>, StoreError> {
    let engine = fact(store, "engine_full", table).await?;
    let current = engine.split_once(" TTL ").map(|(_, ttl)| ttl);
    let current = current.and_then(|ttl| ttl.split(" SETTINGS ").next());
    let wanted = format!("toDateTime(ts) + toIntervalDay({days})");
    let statement = match (days, current) {
        (0, None) => return Ok(None),
        (0, Some(_)) => format!("ALTER TABLE {DATABASE}.{table} REMOVE TTL"),
        (_, Some(ttl)) if ttl == wanted => return Ok(None),
        _ => format!("ALTER TABLE {DATABASE}.{table} MODIFY TTL {wanted}"),
    };
    Ok(Some(RetentionChange {
        table,
        is_of_texts: false,
        days_now: current.map_or(0, ttl_days),
        days_wanted: days,
        statement,
    }))
}

/// Texts of payloads are emptied after some days; 0 is never.
///
/// Whole days, so that a day's part is rewritten once and not with every hour that passes.
async fn texts_change(store: &Store, days: u32) -> Result<Option<RetentionChange>, StoreError> {
    let created = fact(store, "create_table_query", PAYLOADS).await?;
    let whole_days = days.saturating_add(1);
    let wanted = format!("toDateTime(toDate(ts)) + toIntervalDay({whole_days})");
    let change = |column: &str| match (days, text_ttl(&created, column)) {
        (0, None) => None,
        (0, Some(_)) => Some(format!("MODIFY COLUMN {column} REMOVE TTL")),
        (_, Some(ttl)) if ttl == wanted => None,
        _ => Some(format!("MODIFY COLUMN {column} TTL {wanted}")),
    };
    let changes: Vec<String> = PAYLOAD_TEXTS.into_iter().filter_map(change).collect();
    let days_now = PAYLOAD_TEXTS
        .into_iter()
        .map(|column| text_ttl(&created, column).map_or(0, |ttl| ttl_days(ttl).saturating_sub(1)));
    Ok((!changes.is_empty()).then(|| RetentionChange {
        table: PAYLOADS,
        is_of_texts: true,
        days_now: days_now.min().unwrap_or(0),
        days_wanted: days,
        statement: format!("ALTER TABLE {DATABASE}.{PAYLOADS} {}", changes.join(", ")),
    }))
}

/// The days of an expression that Weir wrote; of another one, 0.
fn ttl_days(ttl: &str) -> u32 {
    let days = ttl
        .split_once("toIntervalDay(")
        .and_then(|(_, rest)| rest.split(')').next());
    days.and_then(|days| days.parse().ok()).unwrap_or(0)
}

/// When a column is emptied, as its table's definition says.
fn text_ttl<'a>(created: &'a str, column: &str) -> Option<&'a str> {
    let (_, declared) = created.split_once(&format!("`{column}` "))?;
    let declared = declared.split(", `").next()?;
    let (_, ttl) = declared.split_once(" TTL ")?;
    // The last column is followed by the indexes, and by what closes the list.
    let end = ttl.find(", INDEX ").or_else(|| ttl.find(") ENGINE "));
    Some(&ttl[..end.unwrap_or(ttl.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_columns_retention_is_read_from_its_declaration() {
        let created = "CREATE TABLE weir.payloads (`seq` UInt64, `salt` UUID COMMENT 'x' CODEC(NONE), `request` String CODEC(ZSTD(3)) TTL toDateTime(toDate(ts)) + \
                       toIntervalDay(31), `answer` String TTL a + b(7), INDEX by_seq seq TYPE \
                       minmax GRANULARITY 1) ENGINE = MergeTree TTL toDateTime(ts) + \
                       toIntervalDay(90) SETTINGS index_granularity = 8192";
        assert_eq!(text_ttl(created, "salt"), None);
        let request = "toDateTime(toDate(ts)) + toIntervalDay(31)";
        assert_eq!(text_ttl(created, "request"), Some(request));
        assert_eq!(text_ttl(created, "answer"), Some("a + b(7)"));
        assert_eq!(text_ttl(created, "absent"), None);
        assert_eq!((ttl_days(request), ttl_days("a + b(7)")), (31, 0));
    }

    #[test]
    fn the_longest_retention_ends_before_the_engines_dates_do() {
        const SECONDS_OF_2056: u64 = 2_713_910_400;
        let end = SECONDS_OF_2056 + u64::from(RETENTION_DAYS_MAX + 1) * 86_400;
        assert!(end < u64::from(u32::MAX));
    }
}
