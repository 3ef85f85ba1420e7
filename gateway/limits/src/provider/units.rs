//! Times, and shares of a limit.

pub(super) const SECOND_US: u64 = 1_000_000;
pub(super) const MINUTE_US: u64 = 60 * SECOND_US;
pub(super) const DAY_US: u64 = 24 * 60 * MINUTE_US;
/// The whole of a limit. Shares of it are compared in millionths.
pub(super) const WHOLE: u64 = 1_000_000;

/// `amount` times `part / whole`.
pub(super) fn scaled(amount: u64, part: u64, whole: u64) -> u64 {
    let product = u128::from(amount) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(product).unwrap_or(u64::MAX)
}
