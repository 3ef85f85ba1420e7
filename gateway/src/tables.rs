//! The routing table in force: adopted whole, and resolved for the directory in force.
//!
//! Requests read one pointer. A table that was resolved for another directory counts as none, so
//! nothing needs to happen at one moment.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use weir_eventlog::StreamWriter;
use weir_routing::Priors;
use weir_schemas::StreamId;
use weir_schemas::event::{Event, RoutingTableAdopted};
use weir_schemas::table::RoutingTable;

use crate::clock::Moment;
use crate::directory::Directory;
use crate::pipeline::Shared;

/// Stands where the journal will write the stream.
const UNSTAMPED: StreamId = StreamId::from_bytes([0; 16]);

/// The table in force and what it means for the directory in force.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    priors: ArcSwap<Priors>,
    /// Held while table or directory change, so that neither misses the other.
    adopted: Mutex<Option<RoutingTable>>,
}

impl Tables {
    /// What requests go by.
    pub(crate) fn priors(&self) -> Arc<Priors> {
        self.priors.load_full()
    }
}

impl Shared {
    /// Puts other providers and aliases in force.
    pub(crate) fn put_in_force(&self, directory: Directory) {
        let adopted = self.tables.adopted.lock();
        if let Some(table) = &*adopted {
            let priors = Priors::adopt(table, directory.routes());
            self.tables.priors.store(Arc::new(priors));
        }
        let directory = Arc::new(directory);
        let before = self.directory.swap(directory.clone());
        directory.greet_new_keys(&before, Moment::now().unix_us);
    }

    fn adopt(&self, table: RoutingTable) {
        let mut adopted = self.tables.adopted.lock();
        let priors = Priors::adopt(&table, self.directory.load().routes());
        self.tables.priors.store(Arc::new(priors));
        *adopted = Some(table);
    }
}

/// Puts routing tables in force, and says so in the log.
#[derive(Debug)]
pub struct TableAdopter {
    shared: Arc<Shared>,
    stream: StreamWriter,
}

impl TableAdopter {
    pub(crate) fn new(shared: Arc<Shared>, stream: StreamWriter) -> Self {
        Self { shared, stream }
    }

    /// Requests that begin from now on go by this table.
    pub fn adopt(&self, table: RoutingTable) {
        tracing::info!(version = table.version, "adopted a routing table");
        let text = serde_json::to_string(&table).unwrap_or_default();
        let origin = table.origin.as_str();
        let event = RoutingTableAdopted {
            stream: UNSTAMPED,
            seq: 0,
            ts_us: Moment::now().unix_us,
            version: table.version,
            made_at_us: table.made_at_us,
            from_us: table.from_us,
            to_us: table.to_us,
            origin,
            routing_table: &text,
        };
        let written = self.stream.append(&mut [Event::RoutingTableAdopted(event)]);
        if let Err(error) = written {
            tracing::error!(%error, "write the event of a routing table");
        }
        self.shared.adopt(table);
    }

    /// Ends its event stream.
    pub fn close(self) {
        if let Err(error) = self.stream.close() {
            tracing::error!(%error, "close the event stream of the routing tables");
        }
    }
}
