//! What the tests of the whole need: the real services that Weir works with, started and stopped
//! on demand.

pub mod clients;
pub mod gateway;
pub mod http;
pub mod kafka;
pub mod many_calls;
pub mod port;
pub mod receiver;
pub mod scripted;
pub mod weir;
