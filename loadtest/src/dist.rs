//! Distributions as a person writes them: `25ms`, `10ms..50ms`, `lognormal:200ms,0.6`.
//!
//! One grammar serves the command line, the config file and the mock's control endpoint. Times are kept in milliseconds,
//! counts have no unit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::trace::TraceColumn;

/// What a value is drawn from. Never negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    Fixed(f64),
    Uniform {
        min: f64,
        max: f64,
    },
    /// Half of the draws lie below `median`; `sigma` is the standard deviation of the logarithm.
    Lognormal {
        median: f64,
        sigma: f64,
    },
    /// As in a column of a recorded trace.
    Recorded(TraceColumn),
}

impl Distribution {
    pub const ZERO: Self = Self::Fixed(0.0);

    #[must_use]
    pub fn sample(&self, rng: &mut impl Rng) -> f64 {
        match *self {
            Self::Fixed(value) => value,
            Self::Uniform { min, max } => min + (max - min) * rng.random::<f64>(),
            Self::Lognormal { median, sigma } => median * (sigma * normal(rng)).exp(),
            Self::Recorded(column) => column.fitted().sample(rng),
        }
    }

    #[must_use]
    pub fn is_zero(&self) -> bool {
        matches!(self, Self::Fixed(value) if *value == 0.0)
    }
}

/// A draw from the standard normal distribution (Box and Muller, 1958).
pub fn normal(rng: &mut impl Rng) -> f64 {
    // 1 - u lies in (0, 1]: the logarithm of zero is never taken.
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot read {text:?} as a {what}: {problem}; write a value ({example}), a range ({range}) or lognormal:MEDIAN,SIGMA"
)]
pub struct DistributionError {
    text: String,
    what: &'static str,
    problem: &'static str,
    example: &'static str,
    range: &'static str,
}

/// How the numbers in a distribution are spelled.
struct NumberUnit {
    what: &'static str,
    example: &'static str,
    range: &'static str,
    parse: fn(&str) -> Option<f64>,
    /// Whether it can be drawn from a recorded trace.
    recorded: bool,
}

const MILLISECONDS: NumberUnit = NumberUnit {
    what: "duration",
    example: "25ms",
    range: "10ms..50ms",
    parse: milliseconds,
    recorded: false,
};
const COUNT: NumberUnit = NumberUnit {
    what: "count",
    example: "120",
    range: "100..400",
    parse: |text| text.parse().ok(),
    recorded: true,
};

fn milliseconds(text: &str) -> Option<f64> {
    // "ms" before "s": the longer suffix would otherwise be read as seconds of "25m".
    for (suffix, factor) in [("us", 0.001), ("ms", 1.0), ("s", 1000.0)] {
        if let Some(number) = text.strip_suffix(suffix) {
            return number.trim().parse::<f64>().ok().map(|n| n * factor);
        }
    }
    // A bare zero needs no unit; any other bare number is ambiguous.
    (text.parse() == Ok(0.0)).then_some(0.0)
}

fn parse(text: &str, unit: &NumberUnit) -> Result<Distribution, DistributionError> {
    let fail = |problem| DistributionError {
        text: text.to_owned(),
        what: unit.what,
        problem,
        example: unit.example,
        range: unit.range,
    };
    let number = |part: &str| match (unit.parse)(part.trim()) {
        Some(n) if n.is_finite() && n >= 0.0 => Ok(n),
        Some(_) => Err(fail("it must be finite and not negative")),
        None => Err(fail("not a number with its unit")),
    };
    let text = text.trim();
    if let Some(rest) = text.strip_prefix("lognormal:") {
        let (median, sigma) = rest
            .split_once(',')
            .ok_or_else(|| fail("lognormal needs MEDIAN,SIGMA"))?;
        let sigma: f64 = sigma
            .trim()
            .parse()
            .map_err(|_| fail("SIGMA is not a number"))?;
        if !(0.0..=5.0).contains(&sigma) {
            return Err(fail("SIGMA must lie between 0 and 5"));
        }
        return Ok(Distribution::Lognormal {
            median: number(median)?,
            sigma,
        });
    }
    if let Some((min, max)) = text.split_once("..") {
        let (min, max) = (number(min)?, number(max)?);
        if min > max {
            return Err(fail("the range is upside down"));
        }
        return Ok(Distribution::Uniform { min, max });
    }
    match TraceColumn::parse(text).filter(|_| unit.recorded) {
        Some(column) => Ok(Distribution::Recorded(column)),
        None => number(text).map(Distribution::Fixed),
    }
}

fn write(dist: &Distribution, suffix: &str, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    match dist {
        Distribution::Fixed(value) => write!(formatter, "{value}{suffix}"),
        Distribution::Uniform { min, max } => {
            write!(formatter, "{min}{suffix}..{max}{suffix}")
        }
        Distribution::Lognormal { median, sigma } => {
            write!(formatter, "lognormal:{median}{suffix},{sigma}")
        }
        Distribution::Recorded(column) => write!(formatter, "{column}"),
    }
}

/// A pause. Written `0`, `25ms`, `1.5s`, `10ms..50ms` or `lognormal:200ms,0.6`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Delay(pub Distribution);

impl Delay {
    pub const ZERO: Self = Self(Distribution::ZERO);

    #[must_use]
    pub fn sample(&self, rng: &mut impl Rng) -> Duration {
        Duration::from_secs_f64((self.0.sample(rng) / 1000.0).min(86_400.0))
    }
}

/// A number of tokens. Written `64`, `10..200`, `lognormal:120,1.1` or, as in a recorded trace, `azure-conv.output`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenCount(pub Distribution);

impl TokenCount {
    /// At least 1: a model that answers at all answers with a token.
    #[must_use]
    pub fn sample(&self, rng: &mut impl Rng) -> u32 {
        rounded(self.0.sample(rng))
    }
}

/// A positive count from a real number; the cap keeps a wild tail from asking for gigabytes.
#[must_use]
pub fn rounded(value: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 1..=1_000_000 first; NaN becomes 0 and is raised to 1"
    )]
    let whole = value.round().clamp(1.0, 1_000_000.0) as u32;
    whole.max(1)
}

macro_rules! spelled {
    ($name:ident, $unit:expr, $suffix:expr) => {
        impl FromStr for $name {
            type Err = DistributionError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse(text, &$unit).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = DistributionError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write(&self.0, $suffix, formatter)
            }
        }
    };
}

spelled!(Delay, MILLISECONDS, "ms");
spelled!(TokenCount, COUNT, "");

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Distribution) {
        let delay: Delay = text.parse().unwrap();
        assert_eq!(delay.0, expected, "{text}");
        assert_eq!(
            delay.to_string().parse::<Delay>().unwrap(),
            delay,
            "{text} round trip"
        );
    }

    #[test]
    fn reads_every_form() {
        check("0", Distribution::ZERO);
        check("25ms", Distribution::Fixed(25.0));
        check("1.5s", Distribution::Fixed(1500.0));
        check("250us", Distribution::Fixed(0.25));
        check(
            "10ms..50ms",
            Distribution::Uniform {
                min: 10.0,
                max: 50.0,
            },
        );
        check(
            "lognormal:200ms,0.6",
            Distribution::Lognormal {
                median: 200.0,
                sigma: 0.6,
            },
        );
    }

    #[test]
    fn refuses_with_a_reason() {
        for (text, reason) in [
            ("25", "with its unit"),
            ("fast", "with its unit"),
            ("-3ms", "not negative"),
            ("50ms..10ms", "upside down"),
            ("lognormal:200ms", "MEDIAN,SIGMA"),
            ("lognormal:200ms,99", "between 0 and 5"),
        ] {
            let error = text.parse::<Delay>().unwrap_err().to_string();
            assert!(
                error.contains(reason) && error.contains("25ms"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_count_can_be_as_recorded_and_a_pause_cannot() {
        let count: TokenCount = "azure-conv.output".parse().unwrap();
        assert_eq!(count.to_string(), "azure-conv.output");
        let mut rng = crate::chance::rng(1, 1);
        let mut draws: Vec<u32> = (0..5_001).map(|_| count.sample(&mut rng)).collect();
        draws.sort_unstable();
        // The recorded median is 129, the longest answer 1000.
        assert!((115..=145).contains(&draws[2_500]), "{}", draws[2_500]);
        assert!(draws[5_000] <= 1_000 && draws[0] >= 7);
        assert!("azure-conv.output".parse::<Delay>().is_err());
        assert!("azure-conv.price".parse::<TokenCount>().is_err());
    }

    #[test]
    fn lognormal_has_its_median_and_spread() {
        let dist = Distribution::Lognormal {
            median: 200.0,
            sigma: 0.5,
        };
        let mut rng = crate::chance::rng(1, 1);
        let mut draws: Vec<f64> = (0..20_001).map(|_| dist.sample(&mut rng)).collect();
        draws.sort_by(f64::total_cmp);
        assert!(
            (draws[10_000] / 200.0 - 1.0).abs() < 0.02,
            "{}",
            draws[10_000]
        );
        // The 84.13th percentile lies one sigma above the median.
        assert!((draws[16_827] / (200.0 * 0.5f64.exp()) - 1.0).abs() < 0.03);
    }
}
