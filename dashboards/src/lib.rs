//! The console: pages that show what the store and the gateway know, and the server behind them.
//!
//! The way of a call: [`serve`] takes it from the connection, `api` finds out who calls (`session`) and
//! what for; the store answers what the caller may see (`queries`, `selection`, `ask`), the gateway's
//! admin API what concerns keys and rules (`gateway`). Pages are files that were built into the program
//! (`page`).
//!
//! What this crate never does: write to the store, hold more of an answer than a few megabytes, know a
//! secret longer than a session, or wait on a thread that serves requests to models.

mod api;
mod ask;
mod caps;
mod error;
mod explore;
mod gateway;
mod page;
mod queries;
mod respond;
mod selection;
mod serve;
mod session;
mod sql;
mod tail;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use weir_store::Store;

pub use page::is_built;
pub use selection::request_condition;
pub use serve::{ConsoleListener, ConsoleOptions, ConsoleStartError};
pub use tail::{LiveTail, StoreReach, TailNews, TailState};

use crate::ask::Asker;
use crate::caps::TAIL_PAGES_MAX;
use crate::gateway::GatewayClient;
use crate::page::Pages;
use crate::session::SessionBook;

/// What all calls share.
pub(crate) struct Console {
    pages: Pages,
    sessions: SessionBook,
    gateway: GatewayClient,
    asker: Asker,
    /// One for each page that follows live requests.
    tail_pages: Arc<Semaphore>,
    kept_days: u32,
}

impl Console {
    fn new(options: &ConsoleOptions, gateway: GatewayClient, store: Store, port: u16) -> Arc<Self> {
        let lasting = Duration::from_secs(u64::from(options.session_hours) * 3_600);
        Arc::new(Self {
            pages: Pages::load(),
            sessions: SessionBook::new(lasting, port),
            gateway,
            asker: Asker::new(store),
            tail_pages: Arc::new(Semaphore::new(TAIL_PAGES_MAX)),
            kept_days: match options.retention_days {
                0 => weir_store::RETENTION_DAYS_MAX,
                days => days,
            },
        })
    }
}
