//! Who may call, and how much: virtual keys, rules, budgets, and what gateways tell each other of them.
//!
//! [`control`] follows a log of keys and rules into a snapshot; [`admission::admit`] takes what a
//! request needs of the limits and budgets of its policy, as one permit; [`ledger`] keeps what was
//! spent over restarts and kills; [`peers`] shares limits and budgets between gateways;
//! [`thresholds`] tells which thresholds of budgets are reached and not yet notified.
//!
//! Nothing here knows HTTP, wire formats or routing, and nothing on a request's path waits for I/O but
//! the ledger's line.

pub mod admission;
pub mod caps;
pub mod clock;
pub mod control;
pub mod ledger;
pub mod peers;
pub mod thresholds;
