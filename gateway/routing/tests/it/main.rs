//! The routing crate through its public interface: what is retried, with what probability targets
//! are chosen, how health moves, and that a decision allocates nothing.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "helpers of tests are tests"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "threads meet at one deployment's health"
)]

mod allocation;
mod health;
mod history;
mod propensity;
mod retry;
mod tables;
