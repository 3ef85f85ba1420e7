//! The one integration binary: whole processes, the real engine, real Kafka.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod architecture;
mod cli;
mod kafka_log;
mod kill;
mod store;
mod the_loop;
mod trouble;
