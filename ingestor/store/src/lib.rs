//! ClickHouse for Weir: the embedded engine behind ClickHouse's own HTTP protocol, and the client
//! that speaks it.
//!
//! Every user of the tables (the ingestor, the console, Grafana, `curl`) speaks HTTP, to a
//! ClickHouse server or to the engine that Weir brings along, and need not know which.
//!
//! The way through, in the process that serves the engine: [`child`] finds and loads the library
//! ([`library`], [`engine`]), writes the engine's configuration ([`config`]) and serves it
//! ([`serve`]). In the process that wants it served: [`Supervisor`] starts that child and keeps it
//! running. In its users: [`Store`].
//!
//! What this crate never does: load the engine into the process that serves requests to models (a
//! crash of the engine is the child's alone), or need the library to compile.

mod access;
mod answer;
mod block;
mod caps;
pub mod child;
mod client;
mod config;
mod connections;
mod decode;
mod doubles;
mod encode;
mod engine;
mod error;
mod format;
mod freeze;
mod hello;
mod intake;
mod killer;
pub mod library;
mod lz4_frame;
mod migrate;
mod request;
mod retention;
mod run;
mod sandbox;
mod serve;
mod spreadsheet;
mod sql;
mod supervisor;
mod users;

pub use child::{ServeError, ServeOptions};
pub use client::{ErrorClass, Query, RawAnswer, Store, StoreConfig, StoreError, message_of};
pub use engine::PACKAGE_VERSION;
pub use freeze::FrozenTables;
pub use migrate::Applied;
pub use retention::{Deletion, RETENTION_DAYS_MAX, Retention};
pub use spreadsheet::{Cells, Neutraliser};
pub use sql::split_script;
pub use supervisor::{StoreState, Supervisor};
pub use users::{StorePasswords, StoreUser};
