//! weir-loadtest: what Weir is measured with.
//!
//! [`mock`] answers like a provider and can misbehave on purpose; its ledger says what it saw, so that a
//! test can compare the bill with the truth. [`dist`] and [`chance`] make both sides reproducible: the same seed
//! gives the same sizes, pauses and faults, whatever the order in which calls arrive.
//!
//! Nothing here ever touches a real provider, a gateway's internals or a database.

pub mod chance;
mod clock;
pub mod dist;
pub mod mock;
pub mod trace;

pub use dist::{Distribution, DistributionError};
pub use mock::{FaultKind, FaultRule, Ledger, MockError, MockHandle, MockOptions, MockProvider};
