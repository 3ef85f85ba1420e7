//! Decimal amounts of money as integers.

use std::fmt;
use std::str::FromStr;

/// An amount in 10⁻¹² of a currency's unit, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(pub u64);

/// Text that is no amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an amount: digits, and at most twelve of them behind a point")]
pub struct BadAmount(pub String);

const DECIMALS: usize = 12;
const ONE: u64 = 1_000_000_000_000;

impl Amount {
    pub const ONE: Self = Self(ONE);
}

impl FromStr for Amount {
    type Err = BadAmount;

    fn from_str(text: &str) -> Result<Self, BadAmount> {
        parse(text).map(Self).ok_or_else(|| BadAmount(text.into()))
    }
}

fn parse(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let well_formed = !whole.is_empty()
        && are_digits(whole)
        && are_digits(decimals)
        && decimals.len() <= DECIMALS
        && text.ends_with(|last: char| last.is_ascii_digit());
    if !well_formed {
        return None;
    }
    let decimals: u64 = format!("{decimals:0<DECIMALS$}").parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    whole.checked_mul(ONE)?.checked_add(decimals)
}

impl fmt::Display for Amount {
    /// Without zeros at the end, so that an amount reads back as it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, decimals) = (self.0 / ONE, self.0 % ONE);
        if decimals == 0 {
            return write!(f, "{whole}");
        }
        let decimals = format!("{decimals:0DECIMALS$}");
        write!(f, "{whole}.{}", decimals.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Amount;

    #[test]
    fn amounts_are_read_exactly() {
        let read = |text: &str| text.parse::<Amount>().map(|amount| amount.0);
        assert_eq!(read("0.0375"), Ok(37_500_000_000));
        assert_eq!(read("600"), Ok(600_000_000_000_000));
        assert_eq!(read("0.000000000001"), Ok(1));
        for bad in [
            "",
            ".5",
            "5.",
            "-1",
            "1e3",
            "1,5",
            "0.0000000000001",
            "18446745",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn an_amount_reads_back_as_it_was_written(amount: u64) {
            prop_assert_eq!(Amount(amount).to_string().parse(), Ok(Amount(amount)));
        }
    }
}
