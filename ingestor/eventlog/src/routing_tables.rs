//! How routing tables travel from the ingestor and the operators to the gateways.
//!
//! Each [`TableRecord`] is a record of a [`RecordLog`]. Each process applies them to a
//! [`TableController`] of its own, so all agree on which table is in force and why.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use weir_controller::{TABLES_KEPT, TableCommandError, TableController, TablePolicy};
use weir_schemas::RequestId;
use weir_schemas::event::{ControlChanged, Event};
use weir_schemas::table::{RoutingTable, TableCommand, TableRecord};

use crate::caps::TABLES_CATCH_UP_MAX;
use crate::records::{REMOVED, RecordLog, RecordLogError, RecordReader};

/// Keys of tables that are remembered, to be removed one day. The log holds hardly more.
const KEYS_MAX: usize = 4 * TABLES_KEPT;

/// The tables as one process knows them.
#[derive(Debug)]
pub struct TableLog {
    log: RecordLog,
    reader: RecordReader,
    controller: TableController,
    policy: TablePolicy,
    /// How this process calls itself in the tables that it publishes.
    publisher: String,
    /// Version and key of the tables that the log holds.
    keys: BTreeSet<(u64, String)>,
}

/// The tables could not be read, or a change not be written.
#[derive(Debug, thiserror::Error)]
pub enum TableLogError {
    #[error(transparent)]
    Log(#[from] RecordLogError),
    #[error("the log of the routing tables did not answer within {} s", TABLES_CATCH_UP_MAX.as_secs())]
    Behind,
    #[error("another process changed the routing tables at the same time; try again")]
    Overtaken,
    #[error("encode a routing table: {0}")]
    Encode(#[from] serde_json::Error),
}

impl TableLog {
    #[must_use]
    pub fn new(log: RecordLog, policy: TablePolicy) -> Self {
        Self {
            reader: log.reader(),
            log,
            controller: TableController::default(),
            policy,
            publisher: format!("{:016x}", rand::random::<u64>()),
            keys: BTreeSet::new(),
        }
    }

    #[must_use]
    pub fn controller(&self) -> &TableController {
        &self.controller
    }

    #[must_use]
    pub fn policy(&self) -> &TablePolicy {
        &self.policy
    }

    /// Takes in what is new, waiting for it at most this long. Says whether it has all there is.
    pub fn follow(&mut self, wait_max: Duration) -> Result<bool, TableLogError> {
        let news = self.reader.read(wait_max)?;
        for text in news.records {
            match serde_json::from_str::<TableRecord>(&text) {
                Ok(record) => {
                    self.remember(&record);
                    self.controller.replay(record, &self.policy);
                }
                // Of a newer version, say. What is in force stays.
                Err(error) => tracing::warn!(%error, "skipped a record of the routing tables"),
            }
        }
        Ok(news.is_whole)
    }

    /// Reads everything that is there.
    pub fn catch_up(&mut self) -> Result<(), TableLogError> {
        if self.follow(TABLES_CATCH_UP_MAX)? {
            Ok(())
        } else {
            Err(TableLogError::Behind)
        }
    }

    /// Decides on records by what is there, and writes them. No other process does in between: on one
    /// machine by a lock, with a topic by looking afterwards whose record came first.
    pub fn change<E: From<TableLogError>>(
        &mut self,
        decide: impl FnOnce(&TableController, &TablePolicy) -> Result<Vec<TableRecord>, E>,
    ) -> Result<(), E> {
        let lock = self.log.lock().map_err(TableLogError::from)?;
        self.catch_up()?;
        let records = decide(&self.controller, &self.policy)?;
        if records.is_empty() {
            return Ok(());
        }
        self.write(&lock, records)?;
        Ok(())
    }

    /// Does what an operator asks: checks it, has it recorded as an event, then makes it. Gateways
    /// have it within a second.
    pub fn command<E: From<TableLogError> + From<TableCommandError>>(
        &mut self,
        command: TableCommand,
        actor: &str,
        now_ms: u64,
        record: impl FnOnce(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let now_us = now_ms.saturating_mul(1000);
        self.catch_up()?;
        self.controller.command(command, now_us)?;
        let before = self
            .controller
            .in_force()
            .map(|table| json!({ "version": table.version, "origin": table.origin }).to_string());
        let after = json!({ "command": command }).to_string();
        record(Event::ControlChanged(ControlChanged {
            ts_us: now_us.into(),
            change_id: RequestId::new(now_ms, rand::random()),
            actor,
            action: "update",
            object_kind: "table",
            object_id: "routing",
            before: before.as_deref(),
            after: Some(&after),
        }))?;
        self.change(|controller, _| Ok(controller.command(command, now_us)?.into()))
    }

    fn remember(&mut self, record: &TableRecord) {
        if let TableRecord::Published(table) = record {
            self.keys.insert((table.version, record.key()));
            if self.keys.len() > KEYS_MAX {
                self.keys.pop_first();
            }
        }
    }

    fn write(
        &mut self,
        lock: &crate::records::AppendLock,
        mut records: Vec<TableRecord>,
    ) -> Result<(), TableLogError> {
        let mut newest = 0;
        for record in &mut records {
            if let TableRecord::Published(table) = record {
                table.publisher.clone_from(&self.publisher);
                newest = table.version;
            }
        }
        let mut lines = records
            .iter()
            .map(|record| Ok((record.key(), serde_json::to_string(record)?)))
            .collect::<Result<Vec<_>, serde_json::Error>>()?;
        let kept_from = newest.saturating_sub(TABLES_KEPT as u64) + 1;
        let kept = self.keys.split_off(&(kept_from, String::new()));
        let forgotten = std::mem::replace(&mut self.keys, kept);
        lines.extend(forgotten.into_iter().map(|(_, key)| (key, REMOVED.into())));
        self.log.append(lock, &lines)?;
        for record in &records {
            if let TableRecord::Published(table) = record
                && !self.holds(table)?
            {
                return Err(TableLogError::Overtaken);
            }
        }
        Ok(())
    }

    /// Waits until a table of this number has come back, and says whether it is this one.
    fn holds(&mut self, table: &RoutingTable) -> Result<bool, TableLogError> {
        let deadline = Instant::now() + TABLES_CATCH_UP_MAX;
        loop {
            self.catch_up()?;
            let newest = self.controller.in_force().map_or(0, |table| table.version);
            if newest >= table.version {
                return Ok(self.controller.table(table.version) == Some(table));
            }
            if Instant::now() >= deadline {
                return Err(TableLogError::Behind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_controller::{TableCommandError, TableMode};
    use weir_schemas::table::TableCommand;

    use super::*;

    fn table(version: u64) -> TableRecord {
        TableRecord::Published(RoutingTable {
            version,
            ..RoutingTable::none()
        })
    }

    fn version(tables: &TableLog) -> u64 {
        tables
            .controller()
            .in_force()
            .map_or(0, |table| table.version)
    }

    #[derive(Debug)]
    enum Refused {
        Log(#[expect(dead_code, reason = "shown when a test fails")] TableLogError),
        Command(TableCommandError),
    }

    impl From<TableLogError> for Refused {
        fn from(error: TableLogError) -> Self {
            Self::Log(error)
        }
    }

    #[test]
    fn whoever_follows_holds_what_was_published() {
        let dir = tempfile::tempdir().unwrap();
        let log = RecordLog::File(dir.path().join("routing.log"));
        let mut writer = TableLog::new(log.clone(), TablePolicy::default());
        let mut follower = TableLog::new(log, TablePolicy::default());
        assert!(follower.follow(Duration::ZERO).unwrap());
        assert_eq!(version(&follower), 0);
        for number in 1..=70 {
            writer
                .change::<TableLogError>(|controller, _| {
                    assert_eq!(controller.in_force().map_or(0, |t| t.version), number - 1);
                    Ok(vec![table(number)])
                })
                .unwrap();
            assert_eq!(version(&writer), number);
        }
        follower.catch_up().unwrap();
        assert_eq!(version(&follower), 70);
    }

    #[test]
    fn an_operator_and_the_ingestor_take_turns() {
        let dir = tempfile::tempdir().unwrap();
        let log = RecordLog::File(dir.path().join("routing.log"));
        let mut ingestor = TableLog::new(log.clone(), TablePolicy::default());
        let mut operator = TableLog::new(log, TablePolicy::default());
        let freeze = |controller: &TableController, _: &TablePolicy| {
            let records = controller.command(TableCommand::Freeze, 9);
            records.map(Vec::from).map_err(Refused::Command)
        };
        let refused = operator.change(freeze).unwrap_err();
        assert!(
            matches!(refused, Refused::Command(TableCommandError::NoTable)),
            "{refused:?}"
        );
        ingestor
            .change::<TableLogError>(|_, _| Ok(vec![table(1)]))
            .unwrap();
        operator.change(freeze).unwrap();
        ingestor
            .change::<TableLogError>(|controller, _| {
                assert_eq!(controller.mode(), TableMode::Frozen);
                assert_eq!(controller.in_force().unwrap().version, 2);
                Ok(Vec::new())
            })
            .unwrap();
    }

    /// What a publisher appends that does not know yet what others have published.
    fn append_late(log: &RecordLog, version: u64, publisher: &str) {
        let record = TableRecord::Published(RoutingTable {
            version,
            publisher: publisher.into(),
            ..RoutingTable::none()
        });
        let lock = log.lock().unwrap();
        let line = (record.key(), serde_json::to_string(&record).unwrap());
        log.append(&lock, &[line]).unwrap();
    }

    #[test]
    fn of_two_tables_with_one_number_the_first_counts_for_early_and_late_readers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routing.log");
        let log = RecordLog::File(path.clone());
        let mut early = TableLog::new(log.clone(), TablePolicy::default());
        let mut publisher = TableLog::new(log.clone(), TablePolicy::default());
        let publish = |tables: &mut TableLog, number| {
            tables.change::<TableLogError>(|_, _| Ok(vec![table(number)]))
        };
        publish(&mut publisher, 1).unwrap();
        publish(&mut publisher, 2).unwrap();
        append_late(&log, 2, "zombie");
        // What a compaction leaves: the latest record of each key.
        crate::records::compact(&path).unwrap();
        let mut late = TableLog::new(log, TablePolicy::default());
        for reader in [&mut early, &mut late] {
            reader.catch_up().unwrap();
            let in_force = reader.controller().in_force().unwrap();
            assert_eq!(in_force.publisher, publisher.publisher, "{in_force:?}");
        }
        publish(&mut late, 3).unwrap();
        early.catch_up().unwrap();
        assert_eq!(version(&early), 3);
    }

    #[test]
    fn tables_that_no_controller_holds_are_removed_from_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routing.log");
        let log = RecordLog::File(path.clone());
        let mut tables = TableLog::new(log.clone(), TablePolicy::default());
        for number in 1..=200 {
            tables
                .change::<TableLogError>(|_, _| Ok(vec![table(number)]))
                .unwrap();
            if number == 100 {
                append_late(&log, 3, "zombie");
            }
        }
        crate::records::compact(&path).unwrap();
        let kept = log.reader().read(Duration::ZERO).unwrap().records;
        assert_eq!(kept.len(), TABLES_KEPT);
    }

    #[test]
    fn a_version_that_is_taken_is_not_taken_again() {
        let mut controller = TableController::default();
        let policy = TablePolicy::default();
        controller.replay(table(1), &policy);
        let late = TableRecord::Published(RoutingTable {
            version: 1,
            made_at_us: 7,
            ..RoutingTable::none()
        });
        controller.replay(late, &policy);
        assert_eq!(controller.in_force().unwrap().made_at_us, 0);
    }
}
