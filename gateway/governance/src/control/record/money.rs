//! Amounts of money, as budgets are written.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const PICO_PER_USD: u128 = 1_000_000_000_000;

/// Dollars, exactly. Written as text, `"12.50"`, or as a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Usd(
    /// 10⁻¹² dollars.
    pub u128,
);

impl FromStr for Usd {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let not = || format!("\"{text}\" is not an amount of dollars, such as \"12.50\"");
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty()
            || whole.len() > 15
            || part.len() > 12
            || !digits(whole)
            || !digits(part)
        {
            return Err(not());
        }
        let whole: u128 = whole.parse().map_err(|_| not())?;
        let part: u128 = format!("{part:0<12}").parse().map_err(|_| not())?;
        Ok(Self(whole * PICO_PER_USD + part))
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / PICO_PER_USD, self.0 % PICO_PER_USD);
        let part = format!("{part:012}");
        // Cents are always shown, the rest if there is any.
        let shown = part.trim_end_matches('0').len().max(2);
        write!(f, "{whole}.{}", &part[..shown])
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Usd;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("dollars as text, such as \"12.50\", or as a whole number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Usd, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, whole: u64) -> Result<Usd, E> {
                whole.to_string().parse().map_err(E::custom)
            }

            /// TOML's numbers.
            fn visit_i64<E: de::Error>(self, whole: i64) -> Result<Usd, E> {
                whole.to_string().parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_read_and_shown_exactly() {
        for (text, pico, shown) in [
            ("50", 50 * PICO_PER_USD, "50.00"),
            ("0.000000000001", 1, "0.000000000001"),
            ("12.5", 12_500_000_000_000, "12.50"),
        ] {
            let usd: Usd = text.parse().unwrap();
            assert_eq!((usd.0, usd.to_string()), (pico, shown.to_owned()));
        }
        for bad in [
            "",
            "-1",
            "1e3",
            "1.0000000000001",
            ".5",
            "1,5",
            "9999999999999999",
            "٣",
        ] {
            assert!(bad.parse::<Usd>().is_err(), "{bad}");
        }
        assert!(
            serde_json::from_str::<Usd>("0.1").is_err(),
            "a float is no amount"
        );
        assert_eq!(
            serde_json::from_str::<Usd>("7").unwrap().0,
            7 * PICO_PER_USD
        );
    }
}
