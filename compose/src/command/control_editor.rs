//! Changes of keys and rules from the command line.

use anyhow::bail;
use weir_governance::control::change::Act;
use weir_governance::control::record::{Change, Kind, Record};
use weir_governance::control::{Control, Snapshot};

use crate::cli::Cli;
use crate::command::event_stream::EventStream;
use crate::config::Config;
use crate::context::{control, unix_ms};

/// The control log and an event stream, open for changes.
pub(crate) struct ControlEditor {
    pub(crate) control: Control,
    pub(crate) snapshot: Snapshot,
    events: EventStream,
}

impl ControlEditor {
    pub(crate) fn open(cli: &Cli, config: &Config) -> anyhow::Result<Self> {
        let control = control(config, &cli.data_dir)?;
        Ok(Self {
            snapshot: control.snapshot()?,
            control,
            events: EventStream::open(cli, config)?,
        })
    }

    /// Makes a change, and applies it to the snapshot.
    pub(crate) fn change(&mut self, action: &'static str, change: Change) -> anyhow::Result<()> {
        let before = self.snapshot.record(change.kind, &change.id);
        let act = Act {
            actor: &self.events.actor,
            action,
            now_ms: unix_ms(),
        };
        self.control
            .change(&self.events.writer, &act, before.as_ref(), &change)?;
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

    /// Ends the event stream. Changes are in force already.
    pub(crate) fn close(self) -> anyhow::Result<()> {
        self.events.close()
    }
}
