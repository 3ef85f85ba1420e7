//! The ingestor: from the event log to the tables, each event exactly once.
//!
//! The way through is [`pipeline`], forwards: source → drop what is stored already → decode →
//! insert → verify → commit. The log is read at least once; what makes it exactly once is in the
//! data: every row carries (stream, seq), and after a start, a rebalance or an insert of unknown
//! outcome the tables themselves are asked which of those they have ([`stored`]).
//!
//! Beside it, [`audit`] seals what is stored and verifies it, and [`rollups`] looks after the sums.
//!
//! What it never does: see the gateway's code, hold more than one batch, or let a record go without
//! a row or a dead letter.

pub mod audit;
mod batch;
mod caps;
mod clock;
mod dead_letter;
mod decode;
pub mod feedback;
mod hashes;
mod health;
mod log;
mod pipeline;
mod retry;
pub mod rollups;
mod rows;
#[cfg(test)]
mod simulation;
mod stored;
mod tables;

pub use audit::AuditOptions;
pub use hashes::CHAINING;
pub use health::{IngestorHealth, IngestorHealthSnapshot};
pub use pipeline::{IngestorError, IngestorOptions, run};
