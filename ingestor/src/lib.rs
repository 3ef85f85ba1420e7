//! The ingestor: from the event log to the tables, each event exactly once.
//!
//! The way through is [`pipeline`], forwards: source → decode → drop what is stored already →
//! insert → commit. The log is read at least once; what makes it exactly once is in the data: every
//! row carries (stream, seq), and after a start, a rebalance or an insert of unknown outcome the
//! tables themselves are asked which of those they have ([`stored`]).
//!
//! What it never does: see the gateway's code, or hold more than one batch.

mod batch;
mod caps;
mod health;
mod pipeline;
mod rows;
mod stored;

pub use health::{Health, HealthSnapshot};
pub use pipeline::{IngestorError, IngestorOptions, run};
