//! The directory and the routing table in force: adopted whole, and resolved for each other.
//!
//! Requests read one pointer of each. A table that was resolved for another directory counts as none, so
//! the two need not change at one moment.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use weir_eventlog::StreamWriter;
use weir_governance::clock::Moment;
use weir_routing::Priors;
use weir_schemas::event::{Event, RoutingTableAdopted};
use weir_schemas::table::RoutingTable;

use crate::setup::directory::Directory;

/// The directory in force, the routing table in force, and what the table means for the directory.
#[derive(Debug)]
pub(crate) struct RoutingState {
    directory: ArcSwap<Directory>,
    priors: ArcSwap<Priors>,
    /// Held while table or directory change, so that neither misses the other.
    adopted: Mutex<Option<RoutingTable>>,
}

impl RoutingState {
    pub(crate) fn new(directory: Directory) -> Self {
        Self {
            directory: ArcSwap::from_pointee(directory),
            priors: ArcSwap::default(),
            adopted: Mutex::default(),
        }
    }

    /// The directory, for a request.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        self.directory.load_full()
    }

    /// The same, for a moment.
    pub(crate) fn load_directory(&self) -> Guard<Arc<Directory>> {
        self.directory.load()
    }

    /// What the table says.
    pub(crate) fn priors(&self) -> Arc<Priors> {
        self.priors.load_full()
    }

    /// Puts other providers and aliases in force.
    pub(crate) fn put_in_force(&self, directory: Directory) {
        let adopted = self.adopted.lock();
        if let Some(table) = &*adopted {
            let priors = Priors::adopt(table, directory.routes());
            self.priors.store(Arc::new(priors));
        }
        let directory = Arc::new(directory);
        let before = self.directory.swap(directory.clone());
        directory.greet_new_keys(&before, Moment::now().unix_us);
        directory.warn_of_unknown_models(Some(&before));
    }

    fn adopt(&self, table: RoutingTable) {
        let mut adopted = self.adopted.lock();
        let priors = Priors::adopt(&table, self.directory.load().routes());
        self.priors.store(Arc::new(priors));
        *adopted = Some(table);
    }
}

/// Puts routing tables in force, and says so in the log.
#[derive(Debug)]
pub struct TableAdopter {
    routing: Arc<RoutingState>,
    stream: StreamWriter,
}

impl TableAdopter {
    pub(crate) fn new(routing: Arc<RoutingState>, stream: StreamWriter) -> Self {
        Self { routing, stream }
    }

    /// Requests that begin from now on go by this table.
    pub fn adopt(&self, table: RoutingTable) {
        tracing::info!(version = table.version, "adopted a routing table");
        let text = serde_json::to_string(&table).unwrap_or_default();
        let origin = table.origin.as_str();
        let event = RoutingTableAdopted {
            ts_us: Moment::now().unix_us.into(),
            version: table.version.into(),
            made_at_us: table.made_at_us.into(),
            from_us: table.from_us.into(),
            to_us: table.to_us.into(),
            origin,
            routing_table: &text,
        };
        let written = self.stream.append(&[Event::RoutingTableAdopted(event)]);
        if let Err(error) = written {
            tracing::error!(%error, "failed to write the event of a routing table");
        }
        self.routing.adopt(table);
    }

    /// Ends its event stream.
    pub fn close(self) {
        if let Err(error) = self.stream.close() {
            tracing::error!(%error, "failed to close the event stream of the routing tables");
        }
    }
}
