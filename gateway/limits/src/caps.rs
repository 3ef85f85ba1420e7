//! Every limit of this crate.

/// Groups whose demand is told apart; further ones share a place.
pub(crate) const GROUPS_MAX: usize = 256;
/// Slots of a rolling window, of which the oldest counts whole: a budget may come free up to one slot
/// late, and never early.
pub(crate) const ROLLING_SLOTS: u64 = 60;
/// Longest rolling window.
pub(crate) const ROLLING_HOURS_MAX: u64 = 366 * 24;
/// A reservation that is never ended is released when the second of these stretches after its own
/// begins: after one to two hours.
pub(crate) const STRETCH_US: u64 = 60 * 60 * 1_000_000;
pub(crate) const STRETCHES: u64 = 2;
/// Requests that wait for room in one budget; further ones are refused at once.
pub(crate) const WAITING_MAX: usize = 256;
/// A rate of spending is taken over this time.
pub(crate) const RATE_MS: u64 = 60 * 60 * 1_000;
/// Shortest time that a rate is taken over, where there was no spending before.
pub(crate) const RATE_MS_MIN: u64 = 60 * 1_000;
