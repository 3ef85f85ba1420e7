//! What a provider's headers say is left of its rate limit.
//!
//! OpenAI and those who copy it send counts and durations (`x-ratelimit-reset-tokens: 6m0s`),
//! Anthropic sends counts and times (`anthropic-ratelimit-requests-reset: 2026-01-01T00:00:00Z`).

use http::HeaderMap;
use weir_routing::Quota;

const US_PER_S: u64 = 1_000_000;

/// None if the headers say nothing, or not until when.
pub(crate) fn read(headers: &HeaderMap, now_us: u64) -> Option<Quota> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let count = |name: &str| text(name)?.trim().parse().ok();
    let openai = || {
        let after = |name: &str| Some(now_us + duration_us(text(name)?)?);
        quota(
            count("x-ratelimit-remaining-requests"),
            count("x-ratelimit-remaining-tokens"),
            [
                after("x-ratelimit-reset-requests"),
                after("x-ratelimit-reset-tokens"),
            ],
        )
    };
    let anthropic = || {
        let at = |name: &str| time_us(text(name)?);
        quota(
            count("anthropic-ratelimit-requests-remaining"),
            count("anthropic-ratelimit-input-tokens-remaining"),
            [
                at("anthropic-ratelimit-requests-reset"),
                at("anthropic-ratelimit-input-tokens-reset"),
            ],
        )
    };
    openai().or_else(anthropic)
}

/// The counts hold until the first of them starts again.
fn quota(
    requests_left: Option<u64>,
    tokens_left: Option<u64>,
    resets_us: [Option<u64>; 2],
) -> Option<Quota> {
    requests_left.or(tokens_left)?;
    Some(Quota {
        requests_left,
        tokens_left,
        resets_us: resets_us.into_iter().flatten().min()?,
    })
}

/// `20ms`, `1s`, `6m0s`, `1h2m3.5s`.
fn duration_us(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut us = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let value: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit = &after[..after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len())];
        us += value
            * match unit {
                "ms" => 1e3,
                "s" => 1e6,
                "m" => 60e6,
                "h" => 3_600e6,
                "d" => 86_400e6,
                _ => return None,
            };
        rest = &after[unit.len()..];
    }
    whole(us)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to lie between 0 and a year"
)]
fn whole(us: f64) -> Option<u64> {
    (0.0..=365.0 * 86_400e6).contains(&us).then_some(us as u64)
}

/// A time as RFC 3339 writes it in UTC.
fn time_us(text: &str) -> Option<u64> {
    let (date, time) = text.trim().strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<u64>);
    let mut next = || date.next()?.ok();
    let (year, month, day) = (next()?, next()?, next()?);
    let mut time = time
        .split('.')
        .next()?
        .splitn(3, ':')
        .map(str::parse::<u64>);
    let mut next = || time.next()?.ok();
    let (hour, minute, second) = (next()?, next()?, next()?);
    let valid = (1970..10_000).contains(&year) && (1..=12).contains(&month) && hour < 24;
    if !valid || !(1..=31).contains(&day) || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(seconds * US_PER_S)
}

/// Days since 1970. Counted in years that begin in March, so that the leap day is the last one.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (
                http::HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        pairs.iter().map(header).collect()
    }

    #[test]
    fn durations_read_as_openai_writes_them() {
        let cases = [
            ("20ms", 20_000),
            ("1s", 1_000_000),
            ("6m0s", 360_000_000),
            ("1h2m3.5s", 3_723_500_000),
        ];
        for (text, us) in cases {
            assert_eq!(duration_us(text), Some(us), "{text}");
        }
        for text in ["", "soon", "5", "-1s", "1e300h", "1s2"] {
            assert!(duration_us(text).is_none_or(|us| us == 0), "{text}");
        }
    }

    #[test]
    fn times_read_as_anthropic_writes_them() {
        assert_eq!(time_us("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(time_us("2026-02-28T23:59:59Z"), Some(1_772_323_199_000_000));
        assert_eq!(time_us("2024-02-29T12:00:00Z"), Some(1_709_208_000_000_000));
        for text in [
            "",
            "2026-13-01T00:00:00Z",
            "2026-01-01",
            "2026-01-01T25:00:00Z",
        ] {
            assert_eq!(time_us(text), None, "{text}");
        }
    }

    #[test]
    fn counts_hold_until_the_first_of_them_starts_again() {
        let said = headers(&[
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "2s"),
            ("x-ratelimit-remaining-tokens", "900"),
            ("x-ratelimit-reset-tokens", "1s"),
        ]);
        let quota = read(&said, 5).unwrap();
        assert_eq!(
            (quota.requests_left, quota.tokens_left),
            (Some(0), Some(900))
        );
        assert_eq!(quota.resets_us, 1_000_005);
        let said = headers(&[
            ("anthropic-ratelimit-requests-remaining", "3"),
            ("anthropic-ratelimit-requests-reset", "1970-01-01T00:00:09Z"),
        ]);
        assert_eq!(read(&said, 5).unwrap().resets_us, 9_000_000);
        assert_eq!(read(&headers(&[]), 5), None);
    }
}
