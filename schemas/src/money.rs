//! Money as integers. No float ever holds an amount.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount in 10⁻¹² US dollars.
///
/// Fine enough that a price of $0.0375 per million tokens is 37 500 per token, exactly; wide enough
/// for $9.2 million in one request.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PicoUsd(pub i64);

impl fmt::Display for PicoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ONE_USD: u64 = 1_000_000_000_000;
        let (sign, amount) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        write!(f, "{sign}{}.{:012}", amount / ONE_USD, amount % ONE_USD)
    }
}

#[cfg(test)]
mod tests {
    use super::PicoUsd;

    #[test]
    fn amounts_print_as_dollars_with_twelve_decimals() {
        assert_eq!(PicoUsd(37_500).to_string(), "0.000000037500");
        assert_eq!(PicoUsd(-1_500_000_000_000).to_string(), "-1.500000000000");
        assert_eq!(PicoUsd(i64::MIN).to_string(), "-9223372.036854775808");
    }
}
