//! The one integration binary: whole processes, the real engine, real Kafka.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says what it was given"
)]

mod admin;
mod anchors;
mod architecture;
mod audit;
mod backup;
mod broken_log;
mod browser;
mod budgets;
mod canary;
mod cli;
mod clients;
mod cluster;
mod console;
mod control_topic;
mod documents;
mod drain;
mod edge;
mod egress;
mod failed_streams;
mod full_disk;
mod governance;
mod grafana;
mod hard_budgets;
mod ingest;
mod journal;
mod kafka_log;
mod kill;
mod labels;
mod last_resort;
mod ledger;
mod live_tail;
mod measured;
mod numbers;
mod own_writes;
mod parts;
mod payloads;
mod prices;
mod prometheus_rules;
mod provider_keys;
mod questions;
mod retention;
mod shares;
mod signed_seals;
mod slow_clients;
mod store;
mod store_users;
mod strangers;
mod the_loop;
mod trouble;
mod unreported;
mod wire_answers;
mod wire_bill;
mod wire_choices;
mod wire_errors;
mod wire_models;
mod wire_rules;
mod wire_sql;
mod wire_streams;
mod wire_usage;
