//! The gateway: clients in, providers out, an event for everything.
//!
//! The way through: [`server`] accepts, [`pipeline::answer`] is a request's whole way, [`attempt`]
//! calls providers over [`upstream`] until one answers, [`relay`] carries the answer back, and
//! [`exchange`] writes the events before the last byte of it is handed over.
//!
//! Nothing here waits for Kafka, ClickHouse or any database, and nothing here opens a connection to
//! one: what must be known to decide is in memory.

mod admin;
mod admit;
mod affinity;
mod attempt;
mod charge;
mod clock;
pub mod config;
pub mod control;
mod directory;
mod door;
mod drain;
mod endpoints;
mod error;
mod estimate;
mod exchange;
mod labels;
mod ledger;
mod payload;
mod peers;
mod pipeline;
mod policy;
mod provider_keys;
mod proxy_protocol;
mod quota;
mod relay;
mod server;
mod states;
mod tables;
mod telemetry;
mod trail;
mod upkeep;
mod upstream;
mod webhook;

pub use directory::{ConfigProblem, Directory, Egress, egress};
pub use door::{Door, LetIn};
pub use payload::Payloads;
pub use provider_keys::{is_label, key_files};
pub use server::{GatewayHandle, GatewayOptions, Reloader, StartError, start};
pub use tables::TableAdopter;
pub use webhook::{WebhookError, webhook_egress};
