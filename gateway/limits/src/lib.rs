//! Rates, concurrency and budgets: what a request takes before it is served, and gives back after.
//!
//! # The way through
//!
//! A request takes from every counter that applies to it, with one [`Permit`] for all of them:
//! [`Permit::under`] each limit, and [`Permit::reserve`] of each budget. The first refusal ends it, and
//! dropping the permit gives back what the other counters gave; where only reservations of others stand
//! in the way, [`BudgetCounter::wait`] says when to try again. [`Permit::admit`] makes it stand. When
//! the request is over, [`Permit::settle`] replaces the reservations by what was really used; a permit
//! that is dropped instead releases them.
//!
//! Counters that several gateways share learn of the others through [`Bucket::merge_peers`],
//! [`Slots::merge_peers`] and [`BudgetCounter::merge_peers`]; between two of these a gateway takes no
//! more than its share of what was left ([`share`]).
//!
//! # Constraints
//!
//! * No clock, no thread, no I/O: the time is an argument, in microseconds since 1970.
//! * Integers only. A rate is exact to the microsecond, an amount of money to its last digit.
//! * A counter's lock is held for a few instructions, and never two of them at once.
//! * At each moment, all that was ever reserved equals what was settled, released and is
//!   outstanding ([`Flow`]). A reservation that is never ended expires.
//! * A request that is refused by its second counter may, for the moment in between, have been seen
//!   by others at the first one.

mod budget;
mod caps;
mod class;
mod permit;
mod provider;
mod rate;
pub mod share;
mod slots;
mod waiting;
mod window;

pub use budget::{
    BudgetAmount, BudgetBalance, BudgetCounter, BudgetExhausted, BudgetSpec, BudgetTurn,
    BudgetUnit, BudgetUsage, Crossing, Flow, OVERSPENT_PERCENT, PeerBudgetUsage, Reserved, Spent,
};
pub use class::Class;
pub use permit::{Actual, HeldLimit, LimitCounter, Permit, SettledBudget};
pub use provider::{
    AnnouncedLimit, OperatorLimits, ProviderBusy, ProviderLimitStatus, ProviderLimits,
    ProviderPermit, ProviderUse,
};
pub use rate::{Bucket, BucketUsage, RateExceeded, RateReading, RateSpec};
pub use share::{SYNC_INTERVAL_US, Share};
pub use slots::{ConcurrencyExceeded, Slots};
pub use window::{BadWindow, Span, Window, WindowKind, Zone, rfc3339};
