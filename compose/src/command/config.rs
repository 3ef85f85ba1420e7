//! `weir config`.

use std::io::Write as _;
use std::process::ExitCode;

use crate::cli::{Cli, ConfigCommand};
use crate::command::configuration;
use crate::config::{Config, Invalid};
use crate::example::EXAMPLE;

pub(crate) fn run(cli: &Cli, command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    match command {
        ConfigCommand::Check => return check(cli),
        ConfigCommand::Example => out.write_all(EXAMPLE.as_bytes())?,
        ConfigCommand::Schema => {
            let schema = schemars::schema_for!(Config);
            writeln!(out, "{}", serde_json::to_string_pretty(&schema)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn check(cli: &Cli) -> anyhow::Result<ExitCode> {
    match configuration(cli) {
        Ok(loaded) => {
            writeln!(
                std::io::stdout(),
                "valid: {} providers, {} aliases",
                loaded.config.providers.len(),
                loaded.config.aliases.len()
            )?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => match error.downcast_ref::<Invalid>() {
            Some(invalid) => {
                eprintln!("{invalid}");
                Ok(ExitCode::FAILURE)
            }
            None => Err(error),
        },
    }
}
