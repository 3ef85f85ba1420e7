//! Routing tables in the admin API: what is in force and why, and operators' commands.

use std::time::Duration;

use http::StatusCode;
use parking_lot::MutexGuard;
use serde_json::{Value, json};
use weir_controller::{TableCommandError, TableController};
use weir_eventlog::{AppendError, TableLog, TableLogError};
use weir_governance::control::record::AdminRole;
use weir_schemas::table::{AliasTable, RoutingTable, TableCommand, TargetEntry};

use super::{Desk, Problem};

/// How long a call waits for others that read or command the tables.
const TURN_WAIT_MAX: Duration = Duration::from_secs(5);

impl From<TableLogError> for Problem {
    fn from(error: TableLogError) -> Self {
        let (status, code) = match error {
            TableLogError::Overtaken => (StatusCode::CONFLICT, "overtaken"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "routing_tables_away"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<TableCommandError> for Problem {
    fn from(error: TableCommandError) -> Self {
        let (status, code) = match error {
            TableCommandError::NotKept { .. } => (StatusCode::NOT_FOUND, "not_found"),
            TableCommandError::NoTable | TableCommandError::NotHeld => {
                (StatusCode::CONFLICT, "not_possible")
            }
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        let message = format!("nothing was changed: record the change: {error}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_changed", message)
    }
}

impl Desk {
    pub(super) fn routing(&self) -> Result<Value, Problem> {
        if self.caller.role == AdminRole::TeamOwner {
            return Err(Problem::forbidden(&self.caller, "read the routing tables"));
        }
        let mut tables = self.tables()?;
        tables.catch_up()?;
        Ok(self.routing_of(tables.controller()))
    }

    /// Does what an operator asks, and answers with what is then in force.
    pub(super) fn command_tables(
        &self,
        action: &str,
        command: TableCommand,
    ) -> Result<Value, Problem> {
        if self.caller.role != AdminRole::Admin {
            let what = format!("{action} the routing tables");
            return Err(Problem::forbidden(&self.caller, &what));
        }
        let mut tables = self.tables()?;
        tables.command(command, &self.caller.actor(), self.now_ms, |event| {
            // Dropped here: what is written is in the log.
            let _ = self.worker.stream.append(&[event])?;
            Ok::<_, Problem>(())
        })?;
        Ok(self.routing_of(tables.controller()))
    }

    fn tables(&self) -> Result<MutexGuard<'_, TableLog>, Problem> {
        let tables = self.worker.shared.tables.try_lock_for(TURN_WAIT_MAX);
        tables.ok_or_else(|| {
            let message = "others are reading or changing the routing tables; try again";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
        })
    }

    fn routing_of(&self, controller: &TableController) -> Value {
        let in_force = controller.in_force();
        let before = in_force.and_then(|table| controller.table(table.version.saturating_sub(1)));
        json!({
            "mode": controller.mode(),
            "mode_in_words": controller.mode().to_string(),
            "adopted_version": self.worker.shared.routing.priors().version(),
            "table": in_force.map(|table| shown(table, before)),
            "history": controller.tables().rev().map(summary).collect::<Vec<_>>(),
        })
    }
}

/// A table without its parts.
fn summary(table: &RoutingTable) -> Value {
    json!({
        "version": table.version,
        "origin": table.origin.as_str(),
        "origin_in_words": table.origin.to_string(),
        "made_ms": table.made_at_us / 1000,
    })
}

fn shown(table: &RoutingTable, before: Option<&RoutingTable>) -> Value {
    let aliases = table.aliases.iter().map(|alias| {
        let before = before.and_then(|table| table.alias(&alias.alias));
        let targets = alias
            .targets
            .iter()
            .map(|target| shown_target(target, before));
        json!({
            "alias": alias.alias,
            "output_tokens_mean": alias.output_tokens_mean,
            "targets": targets.collect::<Vec<_>>(),
        })
    });
    let mut value = summary(table);
    value["measured_from_ms"] = (table.from_us / 1000).into();
    value["measured_to_ms"] = (table.to_us / 1000).into();
    value["streams"] = table.inputs.len().into();
    value["ages"] = table.ages.into();
    value["trusted_s"] = (table.trusted_us / 1_000_000).into();
    value["forgotten_s"] = (table.forgotten_us / 1_000_000).into();
    value["aliases"] = aliases.collect();
    value
}

/// A weight, the one before it, and what it rests on.
fn shown_target(target: &TargetEntry, before: Option<&AliasTable>) -> Value {
    let before = before.and_then(|alias| alias.target(&target.deployment));
    let mut value = json!(target);
    value["weight_before"] = before.map(|target| target.weight).into();
    value["change_in_words"] = target.change.to_string().into();
    value
}
