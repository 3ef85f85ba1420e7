//! One file per command.

pub(crate) mod audit;
mod backup;
mod bench;
mod budgets;
mod config;
mod control;
mod control_editor;
mod demo;
mod doctor;
mod egress;
mod event_stream;
mod keys;
mod metrics;
mod mock_provider;
mod prices;
mod retention;
mod routes;
mod rules;
mod serve;
mod sql;
mod store;
mod tail;
mod up;

use std::io::Write as _;

use clap::CommandFactory as _;
use weir_governance::control::record::Kind;

use crate::cli::{Cli, Command};
use crate::log::LogQueue;

/// `log` becomes a part of the processes that go on running.
pub(crate) fn run(cli: &Cli, log: &LogQueue) -> anyhow::Result<()> {
    match &cli.command {
        Command::Up { demo, reload } => up::run(cli, log, *demo, reload.allow_empty),
        Command::Gateway(reload) => serve::gateway(cli, log, reload.allow_empty),
        Command::Ingestor => serve::ingestor(cli),
        Command::Console => serve::console(cli),
        Command::Store(args) => store::run(cli, args),
        Command::Keys(command) => keys::run(cli, command),
        Command::Teams(command) => rules::run(cli, Kind::Team, command),
        Command::Limits(command) => rules::run(cli, Kind::Limit, command),
        Command::Budgets(command) => rules::run(cli, Kind::Budget, command),
        Command::Access(command) => rules::run(cli, Kind::Access, command),
        Command::Payloads(command) => rules::run(cli, Kind::Payload, command),
        Command::Tokens(command) => rules::tokens(cli, command),
        Command::Control(command) => control::run(cli, *command),
        Command::Apply(args) => rules::apply(cli, args),
        Command::Prices(command) => prices::run(cli, command),
        Command::Sql(args) => sql::run(cli, args),
        Command::Routes(command) => routes::run(cli, command),
        Command::Tail(args) => tail::run(cli, args),
        Command::Audit(command) => audit::run(cli, command),
        Command::Rollups(command) => audit::rollups(cli, command),
        Command::Retention(args) => retention::run(cli, args),
        Command::Backup(args) => backup::run(cli, args),
        Command::Restore { dir } => backup::restore(cli, dir),
        Command::Config(command) => config::run(cli, command),
        Command::Egress(output) => egress::run(cli, output.json),
        Command::Doctor(output) => doctor::run(cli, output.json),
        Command::MockProvider(args) => mock_provider::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Completions { shell } => {
            // Into memory first: the generator takes a failed write for a bug.
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "weir", &mut script);
            crate::output::stdout().write_all(&script)?;
            Ok(())
        }
    }
}
