//! The contracts between Weir's processes: what an event says, how it is written, what the tables
//! that it ends in look like.
//!
//! The way through: a gateway fills an [`event::Event`], [`codec`] turns it into bytes, the event
//! log carries the bytes, the ingestor reads them back with [`codec`] and fills the tables of
//! [`clickhouse`].
//!
//! Everything here is pure: no clock, no randomness, no runtime, no I/O. Time and random bytes
//! come in as arguments.

pub mod clickhouse;
pub mod codec;
mod count;
pub mod event;
pub mod ids;
pub mod money;
pub mod prices;
pub mod table;
pub mod usage;

pub use codec::DecodeError;
pub use count::Count;
pub use event::{Envelope, Event};
pub use ids::{EventId, RequestId, Salt, StreamId};
pub use money::PicoUsd;
pub use usage::{OtherModelUsage, Usage, UsageSource};
