//! Which table is in force, and who decides: measurements, an operator, or a table's own record.
//!
//! A controller is a fold over [`TableRecord`]s: the ingestor writes each one to the log before it
//! acts on it, so a restarted or a second ingestor that reads them holds the same state.

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use weir_schemas::table::{AliasTable, Origin, RoutingTable, TableCommand, TableRecord};

use crate::next_table::{TablePolicy, next_table};
use crate::{AliasOutcome, Measurements};

/// Who decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableMode {
    #[default]
    Measuring,
    Frozen,
    Pinned {
        version: u64,
    },
}

impl fmt::Display for TableMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Measuring => f.write_str("measurements decide"),
            Self::Frozen => f.write_str("frozen by an operator"),
            Self::Pinned { version } => write!(f, "pinned to {version} by an operator"),
        }
    }
}

/// Why a command cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TableCommandError {
    #[error("no routing table was published yet: there is nothing to keep or go back to")]
    NoTable,
    #[error("routing table {version} is not kept any more; the oldest kept one is {oldest}")]
    NotKept { version: u64, oldest: u64 },
    #[error("routing tables are not frozen or pinned")]
    NotHeld,
}

/// The tables of the recent past and who decides about the next.
#[derive(Clone, Debug, Default)]
pub struct TableController {
    mode: TableMode,
    /// Oldest first; the last one is in force.
    tables: VecDeque<RoutingTable>,
    /// Aliases that went back by themselves, and the version until which they stay.
    held: Vec<(String, u64)>,
}

/// Tables that can be pinned or rolled back to.
pub const TABLES_KEPT: usize = 64;

impl TableController {
    /// Repeats a step that the log holds. Of two tables with one number the first counts, so steps
    /// may be met again.
    pub fn replay(&mut self, record: TableRecord, policy: &TablePolicy) {
        match record {
            TableRecord::Published(table) => {
                let newest = self.in_force().map_or(0, |table| table.version);
                if table.version > newest {
                    self.adopt(table, policy);
                }
            }
            TableRecord::Commanded(TableCommand::Freeze) => self.mode = TableMode::Frozen,
            TableRecord::Commanded(TableCommand::Pin { version }) => {
                self.mode = TableMode::Pinned { version };
            }
            TableRecord::Commanded(TableCommand::Resume) => self.mode = TableMode::Measuring,
            // Never written: `command` records where it led instead.
            TableRecord::Commanded(TableCommand::RollBack) => {}
        }
    }

    #[must_use]
    pub fn mode(&self) -> TableMode {
        self.mode
    }

    #[must_use]
    pub fn in_force(&self) -> Option<&RoutingTable> {
        self.tables.back()
    }

    /// All tables that can be pinned, oldest first.
    pub fn tables(&self) -> impl DoubleEndedIterator<Item = &RoutingTable> {
        self.tables.iter()
    }

    #[must_use]
    pub fn table(&self, version: u64) -> Option<&RoutingTable> {
        self.tables.iter().find(|table| table.version == version)
    }

    /// The table that measurements alone would make now. Changes nothing.
    #[must_use]
    pub fn dry_run(
        &self,
        measured: &Measurements,
        policy: &TablePolicy,
        now_us: u64,
    ) -> RoutingTable {
        let none = RoutingTable::none();
        next_table(self.in_force().unwrap_or(&none), measured, policy, now_us)
    }

    /// The table that follows from a measurement; None if an operator holds the one in force, or if
    /// nothing was measured. The caller writes it to the log, and replays that record here.
    #[must_use]
    pub fn refresh(
        &self,
        measured: &Measurements,
        policy: &TablePolicy,
        now_us: u64,
    ) -> Option<RoutingTable> {
        let has_traffic = measured.cells.iter().any(|cell| cell.attempts > 0);
        if self.mode != TableMode::Measuring || !has_traffic {
            return None;
        }
        let mut next = self.dry_run(measured, policy, now_us);
        self.keep_held_weights(&mut next);
        self.revert_what_got_worse(&mut next, measured, policy);
        Some(next)
    }

    /// Does what an operator asks. The returned records are to be written to the log in their
    /// order, and replayed here.
    pub fn command(
        &self,
        command: TableCommand,
        now_us: u64,
    ) -> Result<[TableRecord; 2], TableCommandError> {
        let in_force = self.in_force().ok_or(TableCommandError::NoTable)?;
        let (command, content, origin) = match command {
            TableCommand::Freeze => {
                let of = in_force.version;
                (command, in_force, Origin::Frozen { of })
            }
            TableCommand::Pin { version } => {
                let origin = Origin::Pinned { of: version };
                (command, self.kept(version)?, origin)
            }
            TableCommand::RollBack => {
                let to = self.before(in_force)?;
                let version = to.version;
                let origin = Origin::RolledBack { to: version };
                (TableCommand::Pin { version }, to, origin)
            }
            TableCommand::Resume if self.mode == TableMode::Measuring => {
                return Err(TableCommandError::NotHeld);
            }
            TableCommand::Resume => (command, in_force, Origin::Measured),
        };
        let table = RoutingTable {
            version: in_force.version + 1,
            made_at_us: now_us,
            ages: origin == Origin::Measured,
            origin,
            ..content.clone()
        };
        Ok([
            TableRecord::Commanded(command),
            TableRecord::Published(table),
        ])
    }

    fn adopt(&mut self, table: RoutingTable, policy: &TablePolicy) {
        self.held.retain(|(_, until)| *until > table.version);
        if let Origin::Reverted { aliases, .. } = &table.origin {
            let until = table.version + u64::from(policy.revert_hold_refreshes);
            self.held
                .extend(aliases.iter().map(|alias| (alias.clone(), until)));
        }
        self.tables.push_back(table);
        while self.tables.len() > TABLES_KEPT {
            self.tables.pop_front();
        }
    }

    fn kept(&self, version: u64) -> Result<&RoutingTable, TableCommandError> {
        let oldest = self.tables.front().map_or(0, |table| table.version);
        self.table(version)
            .ok_or(TableCommandError::NotKept { version, oldest })
    }

    /// The table whose content was in force before `table`'s.
    fn before(&self, table: &RoutingTable) -> Result<&RoutingTable, TableCommandError> {
        let content = match table.origin {
            Origin::Frozen { of } | Origin::Pinned { of } | Origin::RolledBack { to: of } => of,
            Origin::Measured | Origin::Reverted { .. } => table.version,
        };
        self.kept(content.saturating_sub(1))
    }

    fn keep_held_weights(&self, next: &mut RoutingTable) {
        let Some(in_force) = self.in_force() else {
            return;
        };
        let held = |alias: &AliasTable| self.held.iter().any(|(name, _)| *name == alias.alias);
        for alias in next.aliases.iter_mut().filter(|alias| held(alias)) {
            copy_weights(in_force, alias);
        }
    }

    /// Compares the table in force with the one before it by how requests fared, and takes back the
    /// weights of the aliases that fared worse.
    fn revert_what_got_worse(
        &self,
        next: &mut RoutingTable,
        measured: &Measurements,
        policy: &TablePolicy,
    ) {
        let Some(in_force) = self.in_force() else {
            return;
        };
        let Some(before) = self.table(in_force.version.saturating_sub(1)) else {
            return;
        };
        if in_force.origin != Origin::Measured {
            return;
        }
        let outcome = |alias: &str, version: u64| {
            measured
                .outcomes
                .iter()
                .find(|o| o.alias == alias && o.table_version == version)
                .filter(|o| o.requests >= policy.revert_requests_min)
        };
        let mut reverted = Vec::new();
        for alias in &mut next.aliases {
            let now = outcome(&alias.alias, in_force.version);
            let then = outcome(&alias.alias, before.version);
            if now
                .zip(then)
                .is_some_and(|(now, then)| is_worse(now, then, policy))
            {
                copy_weights(before, alias);
                reverted.push(alias.alias.clone());
            }
        }
        if !reverted.is_empty() {
            next.origin = Origin::Reverted {
                of: in_force.version,
                to: before.version,
                aliases: reverted,
            };
        }
    }
}

/// Weights are what a table decides; the measurements beside them are facts and stay.
fn copy_weights(from: &RoutingTable, to: &mut AliasTable) {
    let from = from.alias(&to.alias);
    for entry in &mut to.targets {
        entry.weight = from
            .and_then(|a| a.target(&entry.deployment))
            .map_or(1.0, |e| e.weight);
    }
}

/// Slower or dearer by more than the margin, or failing so much more often that chance (three
/// standard deviations) does not explain it.
fn is_worse(now: &AliasOutcome, then: &AliasOutcome, policy: &TablePolicy) -> bool {
    let grew = |now: Option<f64>, then: Option<f64>| {
        now.zip(then)
            .is_some_and(|(now, then)| now > then * (1.0 + policy.revert_margin))
    };
    let ratio = |o: &AliasOutcome| o.errors as f64 / o.requests.max(1) as f64;
    let (errors_now, errors_then) = (ratio(now), ratio(then));
    let variance = |p: f64, o: &AliasOutcome| p.max(0.001) * (1.0 - p) / o.requests.max(1) as f64;
    let noise = (variance(errors_now, now) + variance(errors_then, then)).sqrt();
    let fails_more = errors_now > errors_then * (1.0 + policy.revert_margin) + 3.0 * noise;
    fails_more
        || grew(now.ttft_us_mean, then.ttft_us_mean)
        || grew(now.picousd_per_token, then.picousd_per_token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cell;

    /// A controller with its log, as the ingestor drives it.
    #[derive(Default)]
    struct Scene {
        controller: TableController,
        log: Vec<TableRecord>,
    }

    impl Scene {
        fn write(&mut self, record: TableRecord) {
            self.controller
                .replay(record.clone(), &TablePolicy::default());
            self.log.push(record);
        }

        /// Says whether a table was published.
        fn refresh(&mut self, measured: &Measurements) -> bool {
            let policy = TablePolicy::default();
            let next = self.controller.refresh(measured, &policy, 7);
            let is_published = next.is_some();
            if let Some(table) = next {
                self.write(TableRecord::Published(table));
            }
            is_published
        }

        fn command(&mut self, command: TableCommand) -> Result<(), TableCommandError> {
            for record in self.controller.command(command, 8)? {
                self.write(record);
            }
            Ok(())
        }

        fn in_force(&self) -> &RoutingTable {
            self.controller.in_force().unwrap()
        }

        fn slow_weight(&self) -> f64 {
            self.in_force()
                .alias("chat")
                .unwrap()
                .target("slow")
                .unwrap()
                .weight
        }
    }

    fn traffic() -> Measurements {
        let cell = |deployment: &str, ttft_us| Cell {
            alias: "chat".into(),
            deployment: deployment.into(),
            attempts: 1_000,
            timed: 1_000,
            ttft_us_p50: Some(ttft_us),
            ttft_us_p95: Some(ttft_us),
            ..Cell::default()
        };
        Measurements {
            cells: vec![cell("fast", 1e5), cell("slow", 9e5)],
            ..Measurements::default()
        }
    }

    fn outcome(table_version: u64, errors: u64, ttft_ms: f64) -> AliasOutcome {
        AliasOutcome {
            alias: "chat".into(),
            table_version,
            requests: 1_000,
            errors,
            ttft_us_mean: Some(ttft_ms * 1e3),
            picousd_per_token: None,
        }
    }

    fn weights_differ(a: f64, b: f64) -> bool {
        (a - b).abs() > 1e-9
    }

    #[test]
    fn each_refresh_publishes_the_next_version_and_no_traffic_publishes_none() {
        let mut scene = Scene::default();
        assert!(!scene.refresh(&Measurements::default()));
        scene.refresh(&traffic());
        scene.refresh(&traffic());
        assert_eq!(scene.in_force().version, 2);
    }

    #[test]
    fn a_frozen_table_stays_and_does_not_age() {
        let mut scene = Scene::default();
        assert_eq!(
            scene.command(TableCommand::Freeze),
            Err(TableCommandError::NoTable)
        );
        scene.refresh(&traffic());
        scene.command(TableCommand::Freeze).unwrap();
        assert!(!scene.refresh(&traffic()));
        assert_eq!(scene.in_force().origin, Origin::Frozen { of: 1 });
        assert!(!scene.in_force().ages);
        scene.command(TableCommand::Resume).unwrap();
        assert!(scene.in_force().ages);
        assert!(scene.refresh(&traffic()));
        assert_eq!(
            scene.command(TableCommand::Resume),
            Err(TableCommandError::NotHeld)
        );
    }

    #[test]
    fn pinning_and_rolling_back_bring_an_earlier_table_under_a_new_version() {
        let mut scene = Scene::default();
        for _ in 0..4 {
            scene.refresh(&traffic());
        }
        let second = scene.controller.table(2).unwrap().aliases.clone();
        scene.command(TableCommand::Pin { version: 2 }).unwrap();
        assert_eq!(scene.in_force().version, 5);
        assert_eq!(scene.in_force().aliases, second);
        scene.command(TableCommand::RollBack).unwrap();
        assert_eq!(scene.in_force().origin, Origin::RolledBack { to: 1 });
        assert_eq!(scene.controller.mode(), TableMode::Pinned { version: 1 });
        let missing = scene.command(TableCommand::Pin { version: 99 });
        assert_eq!(
            missing,
            Err(TableCommandError::NotKept {
                version: 99,
                oldest: 1
            })
        );
    }

    #[test]
    fn a_table_that_makes_things_worse_goes_back_and_stays_back_for_a_while() {
        let mut scene = Scene::default();
        scene.refresh(&traffic());
        let before = scene.slow_weight();
        scene.refresh(&traffic());
        assert!(weights_differ(scene.slow_weight(), before));
        let mut worse = traffic();
        worse.outcomes = vec![outcome(1, 10, 300.0), outcome(2, 10, 450.0)];
        scene.refresh(&worse);
        let aliases = vec!["chat".to_owned()];
        assert_eq!(
            scene.in_force().origin,
            Origin::Reverted {
                of: 2,
                to: 1,
                aliases
            }
        );
        assert!(!weights_differ(scene.slow_weight(), before));
        for _ in 0..9 {
            scene.refresh(&traffic());
            assert!(!weights_differ(scene.slow_weight(), before));
        }
        scene.refresh(&traffic());
        scene.refresh(&traffic());
        assert!(weights_differ(scene.slow_weight(), before));
    }

    #[test]
    fn small_or_unproven_differences_do_not_revert() {
        let reverts = |now: AliasOutcome, then: AliasOutcome| {
            let mut scene = Scene::default();
            scene.refresh(&traffic());
            scene.refresh(&traffic());
            let measured = Measurements {
                outcomes: vec![now, then],
                ..traffic()
            };
            scene.refresh(&measured);
            matches!(scene.in_force().origin, Origin::Reverted { .. })
        };
        assert!(!reverts(outcome(2, 10, 360.0), outcome(1, 10, 300.0)));
        assert!(!reverts(outcome(2, 14, 300.0), outcome(1, 10, 300.0)));
        assert!(reverts(outcome(2, 60, 300.0), outcome(1, 10, 300.0)));
        let few = AliasOutcome {
            requests: 20,
            ..outcome(2, 10, 900.0)
        };
        assert!(!reverts(few, outcome(1, 10, 300.0)));
    }

    #[test]
    fn controllers_that_read_the_same_log_agree() {
        let mut scene = Scene::default();
        for _ in 0..3 {
            scene.refresh(&traffic());
        }
        scene.command(TableCommand::Freeze).unwrap();
        scene.command(TableCommand::RollBack).unwrap();
        let mut second = TableController::default();
        for record in &scene.log {
            let text = serde_json::to_string(record).unwrap();
            second.replay(
                serde_json::from_str(&text).unwrap(),
                &TablePolicy::default(),
            );
        }
        assert_eq!(second.in_force(), scene.controller.in_force());
        assert_eq!(second.mode(), scene.controller.mode());
    }
}
