//! What a request may come to use, and how a denial becomes a refusal.
//!
//! The decision itself is [`weir_governance::admission`].

use std::time::Duration;

use http::HeaderMap;
use weir_dialects::{ClientApi, Family, RequestFacts};
use weir_governance::admission::{self, Admitted, Counted, Denied};
use weir_governance::control::Identity;
use weir_governance::control::policy::{Budget, Subject};
use weir_governance::thresholds::shown_amount;
use weir_limits::{BudgetAmount, BudgetExhausted, BudgetUnit, Class, SYNC_INTERVAL_US};
use weir_schemas::Usage;

use crate::caps::NAMES_SHOWN_MAX;
use crate::request::limit_headers::{budget_headers, limit_headers, shown_seconds};
use crate::request::refusal::Refusal;
use crate::setup::directory::Cost;

/// Bytes per token of dense text. A reservation counts with few bytes per token, so that it is rather
/// too large than too small.
const BYTES_PER_TOKEN_MIN: u64 = 3;
/// When to retry for a slot: nothing announces when one comes free.
const SLOT_RETRY: Duration = Duration::from_secs(1);

/// What a request may come to use.
#[derive(Clone, Debug)]
pub(crate) struct RequestEstimate {
    input_tokens: u64,
    output_tokens: u64,
    pub(crate) cost: Cost,
}

impl RequestEstimate {
    /// The prompt by its size, the answer by the limit that the client set, or by
    /// `output_tokens_assumed` if it set none.
    pub(crate) fn of(api: ClientApi, facts: &RequestFacts, output_tokens_assumed: u64) -> Self {
        let answers = match api {
            ClientApi::Embeddings | ClientApi::CountTokens => 0,
            ClientApi::ChatCompletions | ClientApi::Responses | ClientApi::Messages => {
                facts.choices.unwrap_or(1).max(1)
            }
        };
        let output_tokens = facts.max_output_tokens.unwrap_or(output_tokens_assumed);
        Self {
            input_tokens: facts.prompt_bytes.div_ceil(BYTES_PER_TOKEN_MIN),
            output_tokens: output_tokens.saturating_mul(answers),
            cost: Cost::default(),
        }
    }

    /// Adds what it may cost, if a budget in money asks for that.
    pub(crate) fn priced(self, identity: &Identity, price: impl FnOnce(&Usage) -> Cost) -> Self {
        let budgets = &identity.policy().budgets;
        if budgets
            .iter()
            .all(|it| it.rule.terms.spec.unit != BudgetUnit::PicoUsd)
        {
            return self;
        }
        let cost = price(&Usage {
            input_tokens: Some(self.input_tokens),
            output_tokens: Some(self.output_tokens),
            ..Usage::default()
        });
        Self { cost, ..self }
    }

    const fn bound(&self) -> admission::Estimate {
        admission::Estimate {
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cost: self.cost.dearest,
        }
    }
}

/// Takes what the request needs from every limit and budget that holds for it.
pub(crate) fn admit(
    identity: &Identity,
    subject: &Subject<'_>,
    class: Class,
    estimate: &RequestEstimate,
    family: Family,
    now_us: u64,
) -> Result<Admitted, Refusal> {
    let policy = identity.policy();
    let bound = estimate.bound();
    let admitted = admission::admit(policy, subject, class, &bound, now_us);
    admitted.map_err(|denied| match denied {
        Denied::Concurrency {
            limit,
            max,
            running,
            status,
        } => {
            let message = format!(
                "limit \"{limit}\" allows {max} requests at once, and {running} are running"
            );
            let headers = limit_headers(&status, policy, subject, family, now_us);
            Refusal::rate_limited(limit, message, SLOT_RETRY).with_headers(headers)
        }
        Denied::Rate {
            limit,
            counted,
            per_minute,
            wait_us,
            status,
        } => {
            let headers = limit_headers(&status, policy, subject, family, now_us);
            let tokens = bound.tokens();
            let allowed = match counted {
                Counted::Requests => format!("{per_minute} requests a minute"),
                Counted::Tokens => {
                    format!("{per_minute} tokens a minute, and this request may use {tokens}")
                }
            };
            too_fast(limit, &allowed, wait_us).with_headers(headers)
        }
        Denied::Unpriced { budget } => {
            unpriced(budget, subject, &estimate.cost, policy.contact.as_deref())
        }
        Denied::BudgetExhausted {
            name,
            budget,
            exhausted: refused,
            requested,
        } => {
            let contact = policy.contact.as_deref();
            let mut headers = HeaderMap::with_capacity(4);
            let (remaining, resets_ms) = (refused.remaining, refused.resets_ms);
            budget_headers(&mut headers, &budget, subject, remaining, resets_ms);
            exhausted(name, &budget, &refused, requested, contact, now_us).with_headers(headers)
        }
    })
}

fn too_fast(limit: String, allowed: &str, wait_us: u64) -> Refusal {
    let wait = Duration::from_micros(wait_us);
    let message = format!(
        "limit \"{limit}\" allows {allowed}; try again in {}",
        shown_seconds(wait)
    );
    Refusal::rate_limited(
        limit,
        message,
        wait.max(Duration::from_micros(SYNC_INTERVAL_US)),
    )
}

/// For a budget in money that could not be kept: the call's cost is not known.
fn unpriced(budget: String, subject: &Subject<'_>, cost: &Cost, contact: Option<&str>) -> Refusal {
    let names = cost.unpriced_at.iter().take(NAMES_SHOWN_MAX);
    let names: Vec<String> = names
        .map(|(deployment, reason)| format!("{} ({reason})", deployment.name))
        .collect();
    let ask = contact.map_or_else(String::new, |contact| format!("ask {contact} to "));
    let message = format!(
        "budget \"{budget}\" counts money, and \"{}\" has no price at {}: {ask}add a [[price]] to \
         the gateway's configuration, or set unpriced = \"allow\" for the budget",
        subject.model,
        names.join(", "),
    );
    Refusal::unpriced(budget, message)
}

fn exhausted(
    name: String,
    budget: &Budget,
    refused: &BudgetExhausted,
    requested: BudgetAmount,
    contact: Option<&str>,
    now_us: u64,
) -> Refusal {
    let until = refused.resets_ms.map_or_else(
        || "it does not reset".to_owned(),
        |ms| format!("it resets at {}", weir_limits::rfc3339(ms)),
    );
    let ask = contact.map_or_else(String::new, |contact| format!("; ask {contact}"));
    let shown = |amount| shown_amount(budget.terms.spec.unit, amount);
    let message = format!(
        "budget \"{name}\" of {} has {} left, and this request may use {}; {until}{ask}",
        shown(budget.terms.spec.limit),
        shown(refused.remaining),
        shown(requested),
    );
    let wait = refused
        .resets_ms
        .map(|ms| Duration::from_millis(ms.saturating_sub(now_us / 1000)));
    Refusal::budget_exhausted(name, message, wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_take_the_worst_that_the_client_allows() {
        let tokens = |api, body: &str| {
            let facts = weir_dialects::inspect(api, body.as_bytes()).unwrap();
            let prompt = facts.prompt_bytes.div_ceil(BYTES_PER_TOKEN_MIN);
            RequestEstimate::of(api, &facts, 100).bound().tokens() - prompt
        };
        let chat = ClientApi::ChatCompletions;
        assert_eq!(
            tokens(chat, r#"{"model":"m","messages":[],"max_tokens":5,"n":3}"#),
            15
        );
        assert_eq!(tokens(chat, r#"{"model":"m","messages":[]}"#), 100);
        assert_eq!(
            tokens(ClientApi::Embeddings, r#"{"model":"m","input":"hello"}"#),
            0
        );
        let greedy = r#"{"model":"m","messages":[],"max_tokens":1000000000,"n":1000}"#;
        assert_eq!(tokens(chat, greedy), 1_000_000_000_000);
    }
}
