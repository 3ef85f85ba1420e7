//! Tables as they are at one moment, for a backup.

use clickhouse::Row;
use serde::Deserialize;

use crate::client::{Store, StoreError};

/// What a backup of the embedded engine has, and what not.
#[derive(Debug, Default)]
pub struct FrozenTables {
    pub frozen: u64,
    /// Tables of other engines than MergeTree: they cannot be frozen.
    pub left_out: Vec<String>,
}

#[derive(Debug, Row, Deserialize)]
struct TableOfEngine {
    table: String,
    is_merge_tree: bool,
}

impl Store {
    /// Freezes the parts of all tables: the engine links them into `shadow/<name>` of its data
    /// directory, where they stay as they are until that directory is removed.
    ///
    /// Checkpoints first, then their leaves, then all others: so whatever is sealed is there.
    pub async fn freeze(&self, name: &str) -> Result<FrozenTables, StoreError> {
        let sql = "SELECT concat('`', database, '`.`', name, '`') AS table, \
                   endsWith(engine, 'MergeTree') AS is_merge_tree FROM system.tables \
                   WHERE database NOT IN ('system', 'information_schema', 'INFORMATION_SCHEMA') \
                   AND NOT is_temporary AND engine NOT LIKE '%View' \
                   ORDER BY name != 'checkpoints', name != 'checkpoint_leaves', database, name";
        let tables: Vec<TableOfEngine> = self.fetch(self.client().query(sql)).await?;
        let mut found = FrozenTables::default();
        for TableOfEngine {
            table,
            is_merge_tree,
        } in tables
        {
            if !is_merge_tree {
                found.left_out.push(table);
                continue;
            }
            let sql = format!("ALTER TABLE {table} FREEZE WITH NAME '{name}'");
            self.execute(&format!("freeze {table}"), &sql).await?;
            found.frozen += 1;
        }
        Ok(found)
    }
}
