//! `weir config`.

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::{Cli, ConfigCommand};
use crate::config::{Config, InvalidConfig};
use crate::context::configuration;
use crate::example::EXAMPLE;

pub(crate) fn run(cli: &Cli, command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    let mut out = crate::output::stdout();
    match command {
        ConfigCommand::Check(output) => return check(cli, output.json),
        ConfigCommand::Example => out.write_all(EXAMPLE.as_bytes())?,
        ConfigCommand::Schema => {
            let schema = schemars::schema_for!(Config);
            writeln!(out, "{}", serde_json::to_string_pretty(&schema)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn check(cli: &Cli, json: bool) -> anyhow::Result<ExitCode> {
    let checked = match configuration(cli) {
        Ok(loaded) => Ok(loaded.config),
        Err(error) => Err(error.downcast::<InvalidConfig>()?),
    };
    let mut out = crate::output::stdout();
    match &checked {
        Ok(config) if !json => writeln!(
            out,
            "valid: {} providers, {} aliases",
            config.providers.len(),
            config.aliases.len()
        )?,
        Err(invalid) if !json => eprintln!("{invalid}"),
        _ => {
            let problems = checked
                .as_ref()
                .err()
                .map_or(&[][..], |invalid| &invalid.problems);
            writeln!(
                out,
                "{}",
                json!({ "valid": checked.is_ok(), "problems": problems })
            )?;
        }
    }
    Ok(if checked.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
