//! Response headers that say what is left of limits and budgets.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use weir_dialects::Family;
use weir_governance::admission::{Counted, RateLimitStatus, RateStatus};
use weir_governance::control::policy::{Budget, Policy, Subject};
use weir_governance::thresholds::shown_amount;
use weir_limits::BudgetAmount;

use crate::upstream::rate_limit_headers::{
    ANTHROPIC_REQUESTS, ANTHROPIC_TOKENS, OPENAI_REQUESTS, OPENAI_TOKENS,
};

const BUDGET: HeaderName = HeaderName::from_static("x-weir-budget");
const BUDGET_REMAINING: HeaderName = HeaderName::from_static("x-weir-budget-remaining");
const BUDGET_RESET: HeaderName = HeaderName::from_static("x-weir-budget-reset");
/// The limit on the answer that the gateway has set, where the client set none.
pub(crate) const CLAMPED: HeaderName = HeaderName::from_static("x-weir-clamped");
/// A budget's and two rates'.
const HEADERS_MAX: usize = 9;

/// The headers for a client. `policy` is the one that the request was admitted by.
#[must_use]
pub fn limit_headers(
    status: &RateLimitStatus,
    policy: &Policy,
    subject: &Subject<'_>,
    family: Family,
    now_us: u64,
) -> HeaderMap {
    if status.budget.is_none() && status.requests.is_none() && status.tokens.is_none() {
        return HeaderMap::new();
    }
    let mut headers = HeaderMap::with_capacity(HEADERS_MAX);
    if let Some(status) = &status.budget
        && let Some(budget) = policy.budgets.get(status.index)
    {
        let (remaining, resets_ms) = (status.remaining, status.resets_ms);
        budget_headers(&mut headers, &budget.rule, subject, remaining, resets_ms);
    }
    let rates = [
        (Counted::Requests, &status.requests),
        (Counted::Tokens, &status.tokens),
    ];
    for (counted, status) in rates {
        if let Some(status) = status {
            rate_headers(&mut headers, family, counted, status, now_us);
        }
    }
    headers
}

/// What the gateway has limited, so that a budget holds: `output_tokens=812`.
pub(crate) fn clamped_value(limit: u64) -> HeaderValue {
    let value = format!("output_tokens={limit}");
    HeaderValue::from_maybe_shared(Bytes::from(value)).unwrap_or_else(|_| limit.into())
}

/// The headers of one budget.
pub(crate) fn budget_headers(
    headers: &mut HeaderMap,
    budget: &Budget,
    subject: &Subject<'_>,
    remaining: BudgetAmount,
    resets_ms: Option<u64>,
) {
    let mut set = |name: &HeaderName, value: String| {
        // A name that a header cannot hold is left out.
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
            headers.insert(name, value);
        }
    };
    set(&BUDGET, budget.name(subject));
    set(
        &BUDGET_REMAINING,
        shown_amount(budget.terms.spec.unit, remaining),
    );
    if let Some(ms) = resets_ms {
        set(&BUDGET_RESET, weir_limits::rfc3339(ms));
    }
}

/// The headers of both families of SDKs: <https://platform.openai.com/docs/guides/rate-limits>,
/// <https://docs.anthropic.com/en/api/rate-limits>.
fn rate_headers(
    headers: &mut HeaderMap,
    family: Family,
    counted: Counted,
    status: &RateStatus,
    now_us: u64,
) {
    let [limited, remaining, resets] = match (family, counted) {
        (Family::OpenAi, Counted::Requests) => &OPENAI_REQUESTS,
        (Family::OpenAi, Counted::Tokens) => &OPENAI_TOKENS,
        (Family::Anthropic, Counted::Requests) => &ANTHROPIC_REQUESTS,
        (Family::Anthropic, Counted::Tokens) => &ANTHROPIC_TOKENS,
    };
    let reset = match family {
        Family::OpenAi => {
            let wait = Duration::from_micros(status.reading.reset_us.saturating_sub(now_us));
            shown_wait(wait, "")
        }
        Family::Anthropic => weir_limits::rfc3339(status.reading.reset_us / 1000),
    };
    headers.insert(limited, status.limit.into());
    headers.insert(remaining, status.reading.remaining.into());
    if let Ok(reset) = HeaderValue::from_maybe_shared(Bytes::from(reset)) {
        headers.insert(resets, reset);
    }
}

/// Milliseconds, or seconds with tenths: rounded up, so that waiting that long is enough.
pub(crate) fn shown_seconds(duration: Duration) -> String {
    shown_wait(duration, " ")
}

fn shown_wait(duration: Duration, between: &str) -> String {
    let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let ms = us.div_ceil(1000);
    if ms < 1000 {
        return format!("{ms}{between}ms");
    }
    let tenths = ms.div_ceil(100);
    format!("{}.{}{between}s", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_shown_rounded_up() {
        let shown = |us| shown_seconds(Duration::from_micros(us));
        assert_eq!(shown(1), "1 ms");
        assert_eq!(shown(999_001), "1.0 s");
        assert_eq!(shown(61_000_001), "61.1 s");
    }
}
