//! What a provider's headers say of its rate limits.
//!
//! OpenAI, Azure and those who copy them send counts and durations (`x-ratelimit-reset-tokens:
//! 6m0s`), Anthropic sends counts and times (`anthropic-ratelimit-requests-reset:
//! 2026-01-01T00:00:00Z`).

use http::{HeaderMap, HeaderName};
use jiff::{Span, SpanRelativeTo, Timestamp};
use weir_limits::AnnouncedLimit;

use crate::caps::LIMIT_RESET_US_MAX;

/// Limit, what is left of it, and when it is whole again, as each family of APIs names them.
pub(crate) static OPENAI_REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
pub(crate) static OPENAI_TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];
pub(crate) static ANTHROPIC_REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("anthropic-ratelimit-requests-limit"),
    HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
    HeaderName::from_static("anthropic-ratelimit-requests-reset"),
];
pub(crate) static ANTHROPIC_TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
    HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
];
static ANTHROPIC_INPUT_TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("anthropic-ratelimit-input-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-input-tokens-remaining"),
    HeaderName::from_static("anthropic-ratelimit-input-tokens-reset"),
];

/// The limits on requests and on tokens. None if the headers say nothing of what is left.
pub(crate) fn read(headers: &HeaderMap, now_us: u64) -> Option<[AnnouncedLimit; 2]> {
    let openai = |names: &[HeaderName; 3]| announced(headers, names, duration_us);
    let until = |time: &str| Some(time_us(time)?.saturating_sub(now_us));
    let anthropic = |names: &[HeaderName; 3]| announced(headers, names, until);
    let says = |said: &[AnnouncedLimit; 2]| said.iter().any(|one| one.remaining.is_some());
    let openai = [openai(&OPENAI_REQUESTS), openai(&OPENAI_TOKENS)];
    if says(&openai) {
        return Some(openai);
    }
    // The headers on tokens speak of whichever limit on tokens is the tightest.
    let tokens = [
        anthropic(&ANTHROPIC_TOKENS),
        anthropic(&ANTHROPIC_INPUT_TOKENS),
    ];
    let tokens = tokens.into_iter().find(|said| said.remaining.is_some());
    let anthropic = [anthropic(&ANTHROPIC_REQUESTS), tokens.unwrap_or_default()];
    says(&anthropic).then_some(anthropic)
}

fn announced(
    headers: &HeaderMap,
    [limit, remaining, reset]: &[HeaderName; 3],
    reset_us: impl Fn(&str) -> Option<u64>,
) -> AnnouncedLimit {
    let text = |name| headers.get(name)?.to_str().ok();
    let count = |name| text(name)?.trim().parse().ok();
    AnnouncedLimit {
        limit: count(limit),
        remaining: count(remaining),
        reset_us: text(reset).and_then(reset_us),
    }
}

/// `20ms`, `1s`, `6m0s`, `1h2m3.5s`; a mere number is in seconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to lie between 0 and a year"
)]
fn duration_us(text: &str) -> Option<u64> {
    let text = text.trim();
    let us = 1e6
        * match text.parse() {
            Ok(seconds) => seconds,
            Err(_) => {
                let span: Span = text.parse().ok()?;
                let duration = span.to_duration(SpanRelativeTo::days_are_24_hours());
                duration.ok()?.as_secs_f64()
            }
        };
    (0.0..=LIMIT_RESET_US_MAX)
        .contains(&us)
        .then_some(us.round() as u64)
}

/// A time as RFC 3339 writes it.
fn time_us(text: &str) -> Option<u64> {
    let time: Timestamp = text.trim().parse().ok()?;
    u64::try_from(time.as_microsecond()).ok()
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
            ("59.5", 59_500_000),
        ];
        for (text, us) in cases {
            assert_eq!(duration_us(text), Some(us), "{text}");
        }
        for text in ["", "soon", "-5", "-1s", "1e300h", "1s2", "NaN", "inf"] {
            assert_eq!(duration_us(text), None, "{text}");
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
    fn limits_read_as_each_provider_writes_them() {
        let said = headers(&[
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "2s"),
            ("x-ratelimit-remaining-tokens", "900"),
        ]);
        let requests = AnnouncedLimit {
            limit: Some(60),
            remaining: Some(0),
            reset_us: Some(2_000_000),
        };
        let tokens = AnnouncedLimit {
            remaining: Some(900),
            ..AnnouncedLimit::default()
        };
        assert_eq!(read(&said, 5), Some([requests, tokens]));
        let said = headers(&[
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "3"),
            ("anthropic-ratelimit-requests-reset", "1970-01-01T00:00:09Z"),
            ("anthropic-ratelimit-input-tokens-remaining", "7"),
        ]);
        let [requests, tokens] = read(&said, 1_000_000).unwrap();
        assert_eq!(requests.reset_us, Some(8_000_000));
        assert_eq!((requests.limit, tokens.remaining), (Some(50), Some(7)));
        assert_eq!(read(&headers(&[]), 5), None);
    }
}
