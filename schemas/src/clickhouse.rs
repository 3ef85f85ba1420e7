//! The tables that events end in: the SQL that makes them, in numbered migrations.
//!
//! A migration that has been released is never edited: what comes next is a new file. Every
//! statement in one can be run again, so that a runner which was killed half way starts over.

use crate::for_each_event;

/// One step in the life of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Migrations are applied in the order of their versions.
    pub version: u32,
    pub name: &'static str,
    /// Statements, each ended by `;`.
    pub sql: &'static str,
}

macro_rules! migrations {
    ($([$zeros:literal] $($version:literal $name:literal;)*)*) => {
        /// All migrations, oldest first.
        pub const MIGRATIONS: &[Migration] = &[$($(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../clickhouse/", $zeros, $version, "_", $name, ".sql")),
        },)*)*];
    };
}

// In brackets: the zeros before a version in the names of its files.
migrations! {
    ["000"]
    1 "events";
    2 "audit";
    3 "prices";
    5 "routing";
    6 "tier_and_last_resort";
    7 "payloads";
    8 "deadlines";
    9 "meters";
    ["00"]
    10 "views";
    11 "meters_by_day";
    12 "doubles";
    13 "seals";
    14 "refusals";
    15 "signed_seals";
}

/// The migration with which the copies of rows go that were stored more than once.
pub const DOUBLES: u32 = 12;

/// The database that everything is in.
pub const DATABASE: &str = "weir";

macro_rules! declare_event_tables {
    ($($table:ident $events:tt)*) => {
        /// Tables whose rows are events and carry (stream, seq).
        pub const EVENT_TABLES: [&str; [$(stringify!($table)),*].len()] =
            [$(stringify!($table)),*];
    };
}

for_each_event!(declare_event_tables);

/// Tables of events that keep their rows: they are small, and what a later proof of completeness
/// rests on.
const KEPT_TABLES: [&str; 2] = ["control_changes", "streams"];

/// Tables whose rows are dropped when they are older than the retention, by their column `ts`.
pub fn retained_tables() -> impl Iterator<Item = &'static str> {
    let events = EVENT_TABLES.into_iter();
    events
        .filter(|table| !KEPT_TABLES.contains(table))
        .chain(["dead_letters", "checkpoint_leaves"])
}

/// Table whose rows lose their texts before they go, and the columns that are emptied together.
pub const PAYLOADS: &str = "payloads";
pub const PAYLOAD_TEXTS: [&str; 3] = ["salt", "request", "answer"];

#[cfg(test)]
mod tests {
    use super::{EVENT_TABLES, MIGRATIONS};
    use crate::for_each_event;
    use std::collections::BTreeMap;

    /// The columns of a table as the migrations declare and add them: name and the rest of the line.
    fn columns(table: &str) -> BTreeMap<String, String> {
        let opening = format!("CREATE TABLE IF NOT EXISTS weir.{table}\n(\n");
        let sql: String = MIGRATIONS.iter().map(|migration| migration.sql).collect();
        let body = sql.split_once(&opening).expect("the table is created").1;
        let body = body
            .split_once("\n)\nENGINE")
            .expect("the table has an engine")
            .0;
        let declared = body
            .lines()
            .map_while(|line| line.strip_prefix("    ")?.split_once(' '));
        let opening = format!("ALTER TABLE weir.{table}\n");
        let added = sql.split(&opening).skip(1).flat_map(|changes| {
            changes.lines().map_while(|line| {
                line.strip_prefix("    ADD COLUMN IF NOT EXISTS ")?
                    .split_once(' ')
            })
        });
        declared
            .chain(added)
            .map(|(name, rest)| (name.to_owned(), rest.trim().to_owned()))
            .collect()
    }

    /// The names of a record's fields; a field that is itself a record stands for its fields.
    fn leaf_fields(record: &serde_json::Value) -> Vec<String> {
        let fields = record["fields"].as_array().unwrap();
        fields
            .iter()
            .flat_map(|field| match field["type"]["type"].as_str() {
                Some("record") => leaf_fields(&field["type"]),
                _ => vec![field["name"].as_str().unwrap().to_owned()],
            })
            .collect()
    }

    /// What a table calls a field: it has times and amounts of money in types of their own.
    fn column(field: &str) -> String {
        match field {
            "ts_us" | "last_us" | "since_us" | "until_us" | "made_at_us" | "attempt_ts_us" => {
                field.trim_end_matches("_us").to_owned()
            }
            "from_us" => "measured_from".to_owned(),
            "to_us" => "measured_to".to_owned(),
            _ => field.replace("pico_usd", "usd"),
        }
    }

    macro_rules! schemas_by_table {
        ($($table:ident { $($name:ident($body:ty) [$($file:literal),+];)* })*) => {
            [$($($((
                stringify!($table),
                include_str!(concat!("../avro/", $file)),
            ),)+)*)*]
        };
    }

    #[test]
    fn every_field_of_an_event_has_a_column() {
        for (table, avro) in for_each_event!(schemas_by_table) {
            let columns = columns(table);
            let fields = leaf_fields(&serde_json::from_str(avro).unwrap());
            assert!(fields.len() > 4, "{table}: no fields were read");
            for column in fields.iter().map(|field| column(field)) {
                assert!(
                    columns.contains_key(&column),
                    "{table} has no column {column}"
                );
            }
        }
    }

    #[test]
    fn every_column_says_what_it_holds() {
        let others = [
            "migrations",
            "dead_letters",
            "checkpoints",
            "checkpoint_leaves",
        ];
        for table in others.into_iter().chain(EVENT_TABLES) {
            let columns = columns(table);
            assert!(columns.len() > 4, "the columns of {table} were not read");
            for (name, rest) in columns {
                assert!(rest.contains(" COMMENT '"), "{table}.{name} has no comment");
            }
        }
    }

    /// A table of events without it takes an insert however late it comes: see 0008_deadlines.sql.
    #[test]
    fn every_table_of_events_knows_deadlines() {
        let sql: String = MIGRATIONS.iter().map(|migration| migration.sql).collect();
        for table in EVENT_TABLES {
            let constraint =
                format!("ALTER TABLE weir.{table} ADD CONSTRAINT IF NOT EXISTS sent_in_time CHECK");
            assert!(sql.contains(&constraint), "{table} has no {constraint}");
        }
    }

    #[test]
    fn versions_rise() {
        let versions: Vec<u32> = MIGRATIONS.iter().map(|it| it.version).collect();
        assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    }
}
