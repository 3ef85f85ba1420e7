//! `weir`: the binary. It reads the configuration, then starts services or runs a command.

mod backup;
mod cli;
mod command;
mod config;
mod context;
mod example;
mod journal_faults;
mod log;
mod net;
mod output;
mod parts;
mod reload;
mod routing_tables;
mod store_passwords;
mod table;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, LogFormat};
use crate::log::{LogFlush, LogQueue};
use crate::output::Reported;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit codes: 0 for success, 1 for failure, 2 for wrong usage (set by clap).
fn main() -> ExitCode {
    let cli = Cli::parse();
    let log = LogFlush(start_logging(cli.log_format));
    match command::run(&cli, &log.0) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<Reported>() => ExitCode::FAILURE,
        Err(error) => {
            log.0.say(&format!("weir: {}", with_causes(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Logs go to stderr: stdout is for the result of a command. A log that cannot be written, because its
/// reader is gone or hangs or its disk is full, is lost. It stops nothing: by default, `tracing` would say
/// so on stderr too, and panic there.
fn start_logging(format: LogFormat) -> LogQueue {
    let queue = LogQueue::start();
    let writer = queue.clone();
    let filter = EnvFilter::try_from_env("WEIR_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,librdkafka=error"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || writer.clone())
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.compact().init(),
        LogFormat::Json => builder.json().init(),
    }
    // The usual one writes to stderr, and would wait there for whoever reads it.
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or_default();
        tracing::error!(thread, "{panic}");
    }));
    queue
}

/// An error with its causes, without repeating those that its own text names.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
