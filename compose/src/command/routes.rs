//! `weir routes`: the routing table, explanations of decisions, and overrides.

mod explain;
mod show;

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use weir_controller::{TableCommandError, TableMode};
use weir_eventlog::{TableLog, TableLogError};
use weir_ingestor::feedback::{measure, versions_to_compare};
use weir_schemas::event::Event;
use weir_schemas::table::TableCommand;

use crate::cli::{Cli, RoutesCommand};
use crate::command::event_stream::{EventStream, actor};
use crate::command::sql::reach;
use crate::config::Config;
use crate::context::{runtime, settings, unix_ms};
use crate::output;
use crate::routing_tables::table_log;

pub(crate) fn run(cli: &Cli, command: &RoutesCommand) -> anyhow::Result<()> {
    match command {
        RoutesCommand::Show(output) => show::run(cli, output.json),
        RoutesCommand::Explain { request_id, json } => explain::run(cli, request_id, *json),
        RoutesCommand::Freeze => decide(cli, TableCommand::Freeze),
        RoutesCommand::Pin { version } => decide(cli, TableCommand::Pin { version: *version }),
        RoutesCommand::Rollback => decide(cli, TableCommand::RollBack),
        RoutesCommand::Resume => decide(cli, TableCommand::Resume),
        RoutesCommand::DryRun(output) => dry_run(cli, output.json),
    }
}

/// The routing tables, as they are now.
fn tables(config: &Config, cli: &Cli) -> anyhow::Result<TableLog> {
    let mut tables = table_log(config, &cli.data_dir);
    tables.catch_up().context("read the routing tables")?;
    Ok(tables)
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum RoutesError {
    #[error(transparent)]
    Log(#[from] TableLogError),
    #[error("{0}; `weir routes show` lists the tables")]
    Command(#[from] TableCommandError),
    #[error("{0:#}")]
    Record(anyhow::Error),
}

fn decide(cli: &Cli, command: TableCommand) -> anyhow::Result<()> {
    let config = settings(cli)?;
    let mut tables = table_log(&config, &cli.data_dir);
    tables.command(command, &actor(), unix_ms(), |event| {
        record(cli, &config, event).map_err(RoutesError::Record)
    })?;
    let controller = tables.controller();
    let version = controller.in_force().map_or(0, |table| table.version);
    let mode = mode_in_words(controller.mode());
    writeln!(
        output::stdout(),
        "routing table {version} is in force: {mode}"
    )?;
    Ok(())
}

fn record(cli: &Cli, config: &Config, event: Event<'_>) -> anyhow::Result<()> {
    let events = EventStream::open(cli, config)?;
    events.append(event)?;
    events.close()
}

/// With what ends it.
fn mode_in_words(mode: TableMode) -> String {
    match mode {
        TableMode::Measuring => mode.to_string(),
        TableMode::Frozen | TableMode::Pinned { .. } => {
            format!("{mode} (undo with `weir routes resume`)")
        }
    }
}

/// Prints the table that measurements alone would produce. Publishes nothing.
fn dry_run(cli: &Cli, json: bool) -> anyhow::Result<()> {
    let config = settings(cli)?;
    let tables = tables(&config, cli)?;
    let store = reach(&cli.data_dir, &config)?;
    let now_us = unix_ms() * 1000;
    let window = Duration::from_secs(u64::from(config.routing.window_s));
    let versions = versions_to_compare(&tables);
    let measured = runtime()?
        .block_on(measure(&store, now_us, window, &versions))
        .context("measure the last minutes")?;
    let next = tables
        .controller()
        .dry_run(&measured, tables.policy(), now_us);
    if json {
        return output::print(&next);
    }
    let mut out = output::stdout();
    writeln!(out, "the next routing table, from current measurements:")?;
    show::write_aliases(&mut out, &next, tables.controller().in_force())
}
