//! Tests of weir-loadtest through its HTTP door, with a blocking client that shares no code with what it tests.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod http;
mod mock_dialects;
mod mock_faults;
mod mock_ledger;
mod mock_strict;
mod mock_wire;
mod traffic;
