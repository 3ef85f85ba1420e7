//! Changes of keys and rules from the command line.

use anyhow::{Context as _, bail};
use weir_governance::control::change::Act;
use weir_governance::control::record::{Change, Kind, Record};
use weir_governance::control::{Control, Snapshot};
use weir_schemas::RequestId;

use crate::cli::Cli;
use crate::command::event_stream::EventStream;
use crate::config::Config;
use crate::context::{control, unix_ms};

/// The control log and an event stream, open for changes.
pub(crate) struct ControlEditor {
    pub(crate) control: Control,
    pub(crate) snapshot: Snapshot,
    events: EventStream,
    /// The latest change.
    changed: Option<RequestId>,
}

/// Whether what was changed is in force.
#[must_use]
pub(crate) struct ChangesInForce {
    /// Running gateways of the data directory at which it is not.
    gateways_behind: usize,
}

impl ChangesInForce {
    /// For the end of a command, when its result is told: the change is made all the same.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        match self.gateways_behind {
            0 => Ok(()),
            count => bail!(
                "the change is recorded, but {count} running gateway(s) of this data directory did not \
                 take it over within 5 s; it is in force when they can read the control log (`weir \
                 doctor` says what keeps them)"
            ),
        }
    }
}

impl ControlEditor {
    pub(crate) fn open(cli: &Cli, config: &Config) -> anyhow::Result<Self> {
        let control = control(config, &cli.data_dir)?;
        Ok(Self {
            snapshot: control.snapshot()?,
            control,
            events: EventStream::open(cli, config)?,
            changed: None,
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
        let events = &self.events.writer;
        let made = self
            .control
            .change(events, &act, before.as_ref(), &change)?;
        self.changed = Some(made);
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

    /// Ends the event stream, and waits until the changes are in force at the running gateways of the
    /// data directory.
    pub(crate) fn close(self) -> anyhow::Result<ChangesInForce> {
        self.events.close()?;
        let behind = self
            .changed
            .map(|change| self.control.await_in_force(change));
        let behind = behind.transpose().context("look at the running gateways")?;
        Ok(ChangesInForce {
            gateways_behind: behind.unwrap_or(0),
        })
    }
}
