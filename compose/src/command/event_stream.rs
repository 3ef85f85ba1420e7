//! The event stream in which commands record what they change.

use anyhow::Context as _;
use weir_eventlog::{Journal, StreamWriter};
use weir_schemas::event::Event;

use crate::cli::Cli;
use crate::config::Config;

/// An open event stream. Dropping it closes it, so that a command that failed does not look like a
/// process that died.
pub(crate) struct EventStream {
    /// Kept open for as long as its stream is.
    _journal: Journal,
    pub(crate) writer: StreamWriter,
    /// Who changes something, as events name them.
    pub(crate) actor: String,
    is_closed: bool,
}

impl EventStream {
    pub(crate) fn open(cli: &Cli, config: &Config) -> anyhow::Result<Self> {
        let options = config.eventlog.journal_options(&cli.data_dir, "cli")?;
        let journal = Journal::open(options).context("open the event journal")?;
        let writer = journal.open_stream(0).context("open an event stream")?;
        Ok(Self {
            _journal: journal,
            writer,
            actor: actor(),
            is_closed: false,
        })
    }

    /// Writes an event. Closing the stream makes it durable.
    pub(crate) fn append(&self, event: Event<'_>) -> anyhow::Result<()> {
        let appended = self.writer.append(&[event]);
        appended.map(drop).context("write an event")
    }

    pub(crate) fn close(mut self) -> anyhow::Result<()> {
        self.is_closed = true;
        self.writer.close().context("close the event stream")
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        if !self.is_closed
            && let Err(error) = self.writer.close()
        {
            tracing::warn!(%error, "failed to close the event stream");
        }
    }
}

/// The user of this process, or who called sudo.
pub(crate) fn actor() -> String {
    let named = ["SUDO_USER", "USER"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok());
    let user = named.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    format!("cli:{user}")
}
