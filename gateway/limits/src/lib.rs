//! Rates, concurrency and budgets: what a request takes before it is served, and gives back after.
//!
//! # The way through
//!
//! A request takes from every counter that applies to it, one [`Permit`] for all of them:
//! [`Permit::under`] each limit, and [`Permit::reserve`] of each budget. The first that refuses ends it, and dropping the permit gives back what the
//! others gave. [`Permit::admit`] makes it stand. When the request is over, [`Permit::settle`]
//! puts what it really used in the place of what was reserved; a permit that is dropped instead
//! releases its reservations.
//!
//! Counters that several gateways share hear of the others through
//! [`Bucket::merge_peers`], [`Slots::merge_peers`] and [`BudgetCounter::merge_peers`]; between two hearings a gateway takes no
//! more than its share of what was left ([`share`]).
//!
//! # Constraints
//!
//! * No clock, no thread, no I/O: the time is an argument, in microseconds since 1970.
//! * Integers only. A rate is exact to the microsecond, an amount of money to its last digit.
//! * A counter's lock is held for a few instructions, and never two of them at once.
//! * At each moment, all that was ever reserved equals what was settled, released and is
//!   outstanding ([`Flow`]). A reservation that nobody ends expires.
//! * A request that is refused by its second counter may, for the moment in between, have been seen
//!   by others at the first one.

mod budget;
mod permit;
mod pool;
mod rate;
pub mod share;
mod slots;
mod window;

pub use budget::{
    BudgetAmount, BudgetBalance, BudgetCounter, BudgetExhausted, BudgetSpec, BudgetUnit,
    BudgetUsage, Crossing, Flow, PeerBudgetUsage, Reserved, Spent,
};
pub use permit::{Actual, HeldLimit, LimitCounter, Permit, SYNC_INTERVAL_US};
pub use pool::{
    AnnouncedLimit, OperatorLimits, ProviderBusy, ProviderLimitStatus, ProviderLimits,
    ProviderPermit, ProviderUse,
};
pub use rate::{Bucket, BucketUsage, RateExceeded, RateReading, RateSpec};
pub use share::Share;
pub use slots::{ConcurrencyExceeded, Slots};
pub use window::{BadWindow, Span, Window, WindowKind, Zone, rfc3339};

/// Who goes first when there is not enough for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Class {
    /// Somebody waits for the answer.
    #[default]
    Interactive,
    /// Nobody does: the last part of every rate is kept from it.
    Batch,
}

impl Class {
    /// Part of a capacity that this class may fill, in percent. What is kept from batch work is
    /// there at once for whoever waits.
    #[must_use]
    pub const fn percent(self) -> u64 {
        match self {
            Self::Interactive => 100,
            Self::Batch => 80,
        }
    }
}
