//! What faces clients and operators: the listener, dispatch by path, the admin API, upkeep.

pub(crate) mod admin;
mod client_state;
mod client_stream;
mod connection;
pub(crate) mod dispatch;
pub(crate) mod endpoints;
mod proxy_protocol;
pub(crate) mod server;
mod upkeep;
pub(crate) mod webhook;
