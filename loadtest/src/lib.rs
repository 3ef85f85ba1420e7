//! weir-loadtest: what Weir is measured with.
//!
//! [`mock`] answers like a provider and can misbehave on purpose; its ledger says what it saw, so that a
//! test can compare the bill with the truth. [`bench`](mod@bench) sends requests at times fixed beforehand and reports latency without
//! coordinated omission; [`replay`] keeps the client's ledger of every answer; [`demo`] is a trickle to look at. [`trace`] reads recorded traffic, or draws it from what was fitted to it. [`dist`] and [`chance`] make
//! both sides reproducible: the same seed gives the same sizes, pauses and faults, whatever the order in which calls arrive.
//!
//! [`lab`] is apart from the rest: it plays the routing crate itself against simulated providers, in simulated time.
//!
//! Nothing else here ever touches a gateway's internals or a database; everything goes through HTTP.

pub mod bench;
mod body;
pub mod chance;
mod client;
mod clock;
pub mod demo;
pub mod dist;
mod drive;
pub mod lab;
pub mod mock;
mod pacer;
pub mod replay;
mod sse;
mod stop;
pub mod trace;
mod transcript;

pub use client::{ExchangeError, GetError, TargetError, get};
pub use dist::{Distribution, DistributionError};
pub use mock::{
    FaultKind, FaultRule, MockError, MockHandle, MockLedger, MockOptions, MockProvider,
};
pub use stop::StopSwitch;
