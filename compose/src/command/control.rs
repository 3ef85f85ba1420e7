//! `weir control`: the control log itself.

use std::io::Write as _;

use crate::cli::{Cli, ControlCommand};
use crate::context::{control, settings};
use crate::output::stdout;

pub(crate) fn run(cli: &Cli, command: ControlCommand) -> anyhow::Result<()> {
    match command {
        ControlCommand::Repair => {
            let config = settings(cli)?;
            let records = control(&config, &cli.data_dir)?.repair()?;
            let topic = &config.control.topic;
            let done = match records {
                0 => format!("the topic {topic} lacks nothing of the copy here"),
                records => format!("wrote {records} records into the topic {topic}"),
            };
            writeln!(stdout(), "{done}")?;
            Ok(())
        }
    }
}
