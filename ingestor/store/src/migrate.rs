//! Bringing the database to what the program needs.
//!
//! The way through [`run`]: read what was applied → refuse what does not fit (a migration that was
//! changed since, or one of a newer program) → apply what is missing, statement by statement → set
//! the retention ([`retention`](crate::retention)).
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
use weir_schemas::clickhouse::{DATABASE, DOUBLES, EVENT_TABLES, MIGRATIONS, Migration};

use crate::client::{Store, StoreError};
use crate::doubles;
use crate::retention::{self, Deletion, Retention};
use crate::sql::split_script;

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Migrations that were applied.
    pub migrations: Vec<u32>,
    /// Tables whose retention was changed.
    pub retention: Vec<String>,
    /// What a shorter retention would delete; it is not in force.
    pub held: Vec<Deletion>,
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

impl Store {
    /// Creates or upgrades the tables and sets their retention, unless that would delete what is kept
    /// now; a number of days holds for everything. May be run at any time, by several processes at
    /// once.
    pub async fn migrate(&self, retention: impl Into<Retention>) -> Result<Applied, StoreError> {
        let applied = run(self, retention.into()).await?;
        self.client().clear_cached_metadata().await;
        Ok(applied)
    }

    /// Whether the tables of events are all there.
    pub async fn has_event_tables(&self) -> Result<bool, StoreError> {
        let query = self
            .client()
            .query("SELECT count() FROM system.tables WHERE database = ? AND name IN ?")
            .bind(DATABASE)
            .bind(EVENT_TABLES.as_slice());
        Ok(self.fetch::<u64>(query).await? == [EVENT_TABLES.len() as u64])
    }
}

async fn run(store: &Store, retention: Retention) -> Result<Applied, StoreError> {
    let records = records(store).await?;
    let mut pending = pending(MIGRATIONS, &records)?;
    if pending.is_empty() && !store.has_event_tables().await? {
        // Somebody dropped some. Every statement can be run again.
        pending = MIGRATIONS.iter().collect();
    }
    let mut applied = Applied::default();
    for migration in pending {
        apply(store, migration).await?;
        let Migration { version, name, .. } = *migration;
        info!(version, name, "applied a migration");
        applied.migrations.push(version);
    }
    let set = retention::set(store, retention, false).await?;
    applied.retention = set.tables;
    applied.held = set.deletions;
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

#[cfg(test)]
mod tests {
    use super::*;

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
