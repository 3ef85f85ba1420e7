//! The configuration, as it is written and as it is run.

pub(crate) mod alias_config;
pub(crate) mod bound;
pub mod config;
pub(crate) mod directory;
pub(crate) mod problem;
pub(crate) mod provider_keys;
pub(crate) mod routing_table;
