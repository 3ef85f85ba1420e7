//! Where changes of keys and rules are made from the command line.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use serde_json::Value;
use weir_eventlog::{Journal, StreamWriter};
use weir_governance::control::change::Act;
use weir_governance::control::record::{Change, Kind, Record};
use weir_governance::control::{Control, Snapshot};

use crate::cli::Cli;
use crate::config::Config;
use crate::parts::{control, unix_ms};

/// The control log and an event stream, open for changes.
pub(crate) struct Desk {
    pub(crate) control: Control,
    pub(crate) snapshot: Snapshot,
    /// Kept open for as long as its stream is.
    _journal: Journal,
    stream: StreamWriter,
    is_closed: bool,
    actor: String,
}

impl Desk {
    pub(crate) fn open(cli: &Cli, config: &Config) -> anyhow::Result<Self> {
        let control = control(config, &cli.data_dir)?;
        let snapshot = control.snapshot()?;
        let journal = Journal::open(config.eventlog.journal_options(&cli.data_dir, "cli"))
            .context("open the event journal")?;
        let stream = journal.open_stream(0).context("open an event stream")?;
        Ok(Self {
            control,
            snapshot,
            _journal: journal,
            stream,
            is_closed: false,
            actor: actor(),
        })
    }

    /// Makes a change, and sees it from then on.
    pub(crate) fn change(&mut self, action: &'static str, change: Change) -> anyhow::Result<()> {
        let before = self.snapshot.record(change.kind, &change.id);
        let act = Act {
            actor: &self.actor,
            action,
            now_ms: unix_ms(),
        };
        self.control
            .change(&self.stream, &act, before.as_ref(), &change)?;
        self.snapshot.apply([change]);
        Ok(())
    }

    /// Creates or updates.
    pub(crate) fn set(&mut self, record: Record) -> anyhow::Result<&'static str> {
        let action = match self.snapshot.record(record.kind(), &record.id()) {
            Some(_) => "update",
            None => "create",
        };
        self.change(action, Change::set(record))?;
        Ok(action)
    }

    pub(crate) fn delete(&mut self, kind: Kind, id: &str) -> anyhow::Result<()> {
        if self.snapshot.record(kind, id).is_none() {
            bail!("there is no {kind} \"{id}\"");
        }
        self.change("delete", Change::gone(kind, id.to_owned()))
    }

    /// Ends the event stream. What was changed is in force already.
    pub(crate) fn close(mut self) -> anyhow::Result<()> {
        self.is_closed = true;
        self.stream.close().context("close the event stream")
    }
}

impl Drop for Desk {
    /// A command that failed leaves no stream that looks as if somebody had died.
    fn drop(&mut self) {
        if !self.is_closed
            && let Err(error) = self.stream.close()
        {
            tracing::warn!(%error, "close the event stream");
        }
    }
}

/// Who is at the keyboard, as far as the system knows.
pub(crate) fn actor() -> String {
    let named = ["SUDO_USER", "USER"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok());
    let user = named.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    format!("cli:{user}")
}

pub(crate) fn print(value: &Value) -> anyhow::Result<()> {
    writeln!(crate::output::stdout(), "{value}")?;
    Ok(())
}
