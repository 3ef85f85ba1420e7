//! `weir config`.

use std::io::Write as _;

use anyhow::ensure;
use serde_json::json;

use crate::cli::{Cli, ConfigCommand};
use crate::config::{Config, InvalidConfig};
use crate::context::configuration;
use crate::example::EXAMPLE;
use crate::output::{self, Reported};

pub(crate) fn run(cli: &Cli, command: &ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check(args) => check(cli, args.json)?,
        ConfigCommand::Example => output::stdout().write_all(EXAMPLE.as_bytes())?,
        ConfigCommand::Schema => output::print_pretty(&schemars::schema_for!(Config))?,
    }
    Ok(())
}

fn check(cli: &Cli, json: bool) -> anyhow::Result<()> {
    let checked = match configuration(cli) {
        Ok(loaded) => Ok(loaded),
        Err(error) => Err(error.downcast::<InvalidConfig>()?),
    };
    let problems = checked.as_ref().err().map(|invalid| &invalid.problems);
    match &checked {
        _ if json => output::print(&json!({
            "valid": checked.is_ok(), "problems": problems.map_or(&[][..], Vec::as_slice),
            "unknown_models": checked.as_ref().ok().map(|loaded| loaded.directory.unknown_models()),
        }))?,
        Ok(loaded) => {
            writeln!(
                output::stdout(),
                "valid: {} providers, {} aliases",
                loaded.config.providers.len(),
                loaded.config.aliases.len()
            )?;
            for (deployment, meaning) in loaded.directory.unknown_models() {
                output::note(format_args!(
                    "warning: {deployment}: {meaning}; a [[model]] says what it is like"
                ));
            }
        }
        Err(invalid) => output::note(invalid),
    }
    ensure!(checked.is_ok(), Reported);
    Ok(())
}
