//! The gateway: clients in, providers out, an event for everything.
//!
//! Five rooms, top to bottom; none imports from one above it.
//!
//! - `edge`: the listener and its workers, where a request goes by its path, the admin API, what is done
//!   beside the requests.
//! - `request`: a request's whole way. [`request::pipeline`] is the order of it, `request::attempt` calls
//!   providers until one answers, `request::relay` carries the answer back, and `request::exchange`
//!   writes the events before the last byte of it is handed over.
//! - `record`: what is recorded of a request: facts, usage, cost, payloads, metrics.
//! - `setup`: the configuration as it is run: providers, aliases, keys, routing table.
//! - `upstream`: connections to providers.
//!
//! Keys, rules and budgets are the crate `weir-governance`. Nothing here waits for Kafka, ClickHouse or
//! any database, or opens a connection to one: what must be known to decide is in memory.

mod caps;
mod edge;
mod record;
mod request;
mod setup;
mod upstream;

pub use edge::server::{
    GatewayHandle, GatewayOptions, Reloader, StartError, connections_within, start,
};
pub use edge::webhook::{WebhookError, webhook_egress};
pub use record::payload::Payloads;
pub use request::limit_headers::limit_headers;
pub use setup::config;
pub use setup::directory::{Directory, Egress, egress, reach};
pub use setup::problem::ConfigProblem;
pub use setup::provider_keys::key_files;
pub use setup::routing_table::TableAdopter;
