//! Bringing the database to what the program needs.
//!
//! The way through [`run`]: read what was applied → refuse what does not fit (a migration that was
//! changed since, or one of a newer program) → apply what is missing, statement by statement → set
//! the retention.
//!
//! | killed | what is left | what the next run does |
//! | --- | --- | --- |
//! | between two statements | some of a migration's objects | all its statements again: each can be |
//! | before the record | all of its objects | the same, and the record |
//! | before the retention | tables that keep for ever, or as long as before | sets it |
//!
//! Two runs at once do the same twice, which is harmless for the same reason; the record carries a
//! deduplication token.

use clickhouse::Row;
use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use weir_schemas::clickhouse::{
    DATABASE, DOUBLES, MIGRATIONS, Migration, PAYLOAD_TEXTS, PAYLOADS, retained_tables,
};

use crate::client::{Store, StoreError};
use crate::doubles;
use crate::sql::split_script;

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Migrations that were applied.
    pub migrations: Vec<u32>,
    /// Tables whose retention was changed.
    pub retention: Vec<String>,
}

/// One row of `weir.migrations`.
#[derive(Clone, Debug, PartialEq, Eq, Row, Serialize, Deserialize)]
struct AppliedMigration {
    version: u32,
    name: String,
    checksum: String,
}

/// What is written: the time is the server's.
#[derive(Debug, Row, Serialize)]
struct NewMigration<'a> {
    version: u32,
    name: &'a str,
    checksum: &'a str,
    applied_by: &'a str,
}

/// How long what is stored stays. 0 is for ever.
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

impl Store {
    /// Creates or upgrades the tables and sets their retention; a number of days holds for
    /// everything. May be run at any time, by several processes at once.
    pub async fn migrate(&self, retention: impl Into<Retention>) -> Result<Applied, StoreError> {
        let applied = run(self, retention.into()).await?;
        self.client().clear_cached_metadata().await;
        Ok(applied)
    }
}

async fn run(store: &Store, retention: Retention) -> Result<Applied, StoreError> {
    let records = records(store).await?;
    let pending = pending(MIGRATIONS, &records)?;
    let mut applied = Applied::default();
    for migration in pending {
        apply(store, migration).await?;
        let Migration { version, name, .. } = *migration;
        info!(version, name, "applied a migration");
        applied.migrations.push(version);
    }
    for table in retained_tables() {
        if set_retention(store, table, retention.rows_days).await? {
            let days = retention.rows_days;
            info!(table, days, "changed the retention");
            applied.retention.push(table.to_owned());
        }
    }
    if empty_texts_after(store, retention.payloads_days).await? {
        let days = retention.payloads_days;
        info!(days, "changed the retention of the payloads' texts");
        if !applied.retention.iter().any(|table| table == PAYLOADS) {
            applied.retention.push(PAYLOADS.to_owned());
        }
    }
    Ok(applied)
}

/// What was applied; nothing if the database is not there yet.
async fn records(store: &Store) -> Result<Vec<AppliedMigration>, StoreError> {
    let exists = store
        .client()
        .query("SELECT count() FROM system.tables WHERE database = ? AND name = 'migrations'")
        .bind(DATABASE);
    if store.fetch::<u64>(exists).await? == [0] {
        return Ok(Vec::new());
    }
    let query = store.query("SELECT DISTINCT ?fields FROM migrations ORDER BY version");
    store.fetch(query).await
}

/// The migrations that are missing, if what is there fits.
fn pending<'m>(
    migrations: &'m [Migration],
    records: &[AppliedMigration],
) -> Result<Vec<&'m Migration>, StoreError> {
    for record in records {
        let mut known = migrations.iter();
        let fault = match known.find(|known| known.version == record.version) {
            None => "was applied by a newer weir: use that one, or another database",
            Some(migration) if checksum(migration) != record.checksum => {
                "is not the one that was applied: an applied migration must not change; undo the \
                 change and add a new migration"
            }
            Some(_) => continue,
        };
        return Err(StoreError::permanent(
            "compare the database's migrations with this program's",
            format!("migration {} ({}) {fault}", record.version, record.name),
        ));
    }
    let is_applied = |version: u32| records.iter().any(|record| record.version == version);
    let missing = |migration: &&Migration| !is_applied(migration.version);
    Ok(migrations.iter().filter(missing).collect())
}

fn checksum(migration: &Migration) -> String {
    HEXLOWER.encode(digest(&SHA256, migration.sql.as_bytes()).as_ref())
}

async fn apply(store: &Store, migration: &Migration) -> Result<(), StoreError> {
    let statements = split_script(migration.sql);
    for (number, statement) in (1..).zip(&statements) {
        let context = format!(
            "apply migration {} ({}), statement {number} of {}",
            migration.version,
            migration.name,
            statements.len()
        );
        store.execute(&context, statement).await?;
    }
    if migration.version == DOUBLES
        && let Err(error) = doubles::delete(store).await
    {
        warn!(%error, "rows that are stored more than once stay; will retry at the next start");
        return Ok(());
    }
    let record = NewMigration {
        version: migration.version,
        name: migration.name,
        checksum: &checksum(migration),
        applied_by: env!("CARGO_PKG_VERSION"),
    };
    let token = format!("migration-{}", migration.version);
    store
        .insert::<NewMigration<'_>>("migrations", &[record], &token)
        .await
}

/// What the server says of a table of Weir's; empty if it has none of that name.
async fn fact(store: &Store, column: &str, table: &str) -> Result<String, StoreError> {
    let sql = format!("SELECT {column} FROM system.tables WHERE database = ? AND name = ?");
    let query = store.query(&sql).bind(DATABASE).bind(table);
    Ok(store.fetch(query).await?.pop().unwrap_or_default())
}

/// Makes rows go after some days; 0 is never. Says whether that is a change.
async fn set_retention(store: &Store, table: &str, days: u32) -> Result<bool, StoreError> {
    let engine = fact(store, "engine_full", table).await?;
    let current = engine.split_once(" TTL ").map(|(_, ttl)| ttl);
    let wanted = format!("toDateTime(ts) + toIntervalDay({days})");
    let statement = match (days, current) {
        (0, None) => return Ok(false),
        (0, Some(_)) => format!("ALTER TABLE {DATABASE}.{table} REMOVE TTL"),
        (_, Some(ttl)) if ttl.split(" SETTINGS ").next() == Some(&wanted) => return Ok(false),
        _ => format!("ALTER TABLE {DATABASE}.{table} MODIFY TTL {wanted}"),
    };
    let context = format!("set the retention of {table}");
    store.execute(&context, &statement).await?;
    Ok(true)
}

/// Empties the texts of payloads after some days; 0 is never. Says whether that is a change.
///
/// Whole days, so that a day's part is rewritten once and not with every hour that passes.
async fn empty_texts_after(store: &Store, days: u32) -> Result<bool, StoreError> {
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
    if changes.is_empty() {
        return Ok(false);
    }
    let statement = format!("ALTER TABLE {DATABASE}.{PAYLOADS} {}", changes.join(", "));
    let context = format!("set the retention of the texts of {PAYLOADS}");
    store.execute(&context, &statement).await?;
    Ok(true)
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
    }

    const FIRST: Migration = Migration {
        version: 1,
        name: "first",
        sql: "SELECT 1;",
    };
    const SECOND: Migration = Migration {
        version: 2,
        name: "second",
        sql: "SELECT 2;",
    };

    fn record(migration: &Migration) -> AppliedMigration {
        AppliedMigration {
            version: migration.version,
            name: migration.name.to_owned(),
            checksum: checksum(migration),
        }
    }

    #[test]
    fn what_is_missing_is_applied_in_order() {
        let all = [FIRST, SECOND];
        assert_eq!(pending(&all, &[]).unwrap(), [&FIRST, &SECOND]);
        assert_eq!(pending(&all, &[record(&FIRST)]).unwrap(), [&SECOND]);
        assert!(
            pending(&all, &[record(&FIRST), record(&SECOND)])
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_migration_that_changed_is_refused() {
        let changed = Migration {
            sql: "SELECT 3;",
            ..FIRST
        };
        let error = pending(&[changed], &[record(&FIRST)]).unwrap_err();
        assert!(
            error.message.contains("migration 1 (first) is not the one"),
            "{error}"
        );
    }

    #[test]
    fn a_newer_programs_database_is_refused() {
        let error = pending(&[FIRST], &[record(&FIRST), record(&SECOND)]).unwrap_err();
        assert!(error.message.contains("newer weir"), "{error}");
    }

    #[test]
    fn every_statement_of_every_migration_can_be_run_again() {
        for migration in MIGRATIONS {
            for statement in split_script(migration.sql) {
                let again = ["IF NOT EXISTS", "IF EXISTS", "OR REPLACE", "MODIFY SETTING"];
                assert!(
                    again.iter().any(|again| statement.contains(again)),
                    "migration {}: {statement}",
                    migration.version
                );
            }
        }
    }
}
