//! Whether a request may be served now: limits and budgets, taken together as one permit.
//!
//! What a request will use is estimated before, and put right when its events are written: see
//! [`Exchange::finish`](crate::exchange::Exchange::finish). No limit is looked up anywhere: the
//! identity brings those that hold for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use weir_dialects::{ClientApi, Family, RequestFacts};
use weir_limits::{
    Actual, Amount, BudgetSpec, Class, Crossing, Exhausted, HEARING_US, LimitCounter, Permit,
    Purse, Reading, Standing, TooFast, Unit,
};
use weir_routing::TargetSet;
use weir_schemas::Usage;
use weir_schemas::event::Event;

use crate::control::Identity;
use crate::control::change::{Act, control_event};
use crate::control::policy::{Budget, Limit, Placed, Policy, Subject};
use crate::control::record::{Kind, Usd};
use crate::directory::Cost;
use crate::error::Refusal;
use crate::ledger::Charge;
use crate::trail::Trail;

/// Fewest bytes of a prompt that a token is made of, about: what is reserved must rather be too
/// much than too little.
const BYTES_PER_TOKEN: u64 = 3;
const BUDGET: HeaderName = HeaderName::from_static("x-weir-budget");
const BUDGET_REMAINING: HeaderName = HeaderName::from_static("x-weir-budget-remaining");
const BUDGET_RESET: HeaderName = HeaderName::from_static("x-weir-budget-reset");
/// Limit, what is left of it, and when it is whole again, as each family of SDKs reads it.
const OPENAI_REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const OPENAI_TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];
const ANTHROPIC_REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("anthropic-ratelimit-requests-limit"),
    HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
    HeaderName::from_static("anthropic-ratelimit-requests-reset"),
];
const ANTHROPIC_TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
    HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
];
/// A budget's and two rates'.
const HEADERS_MAX: usize = 9;
/// When to ask again where nothing says when a slot comes free.
const SLOT_RETRY: Duration = Duration::from_secs(1);

/// A budget that a request has reserved of.
#[derive(Clone, Debug)]
pub(crate) struct Account(Arc<Budget>);

impl AsRef<BudgetSpec> for Account {
    fn as_ref(&self) -> &BudgetSpec {
        &self.0.spec
    }
}

impl Account {
    /// What the budget is charged for what was used, if anything.
    pub(crate) fn charge(
        &self,
        subject: &Subject<'_>,
        actual: &Actual,
        reserved: Amount,
    ) -> Option<Charge> {
        let Self(budget) = self;
        let amount = actual.charge(budget.spec.unit, reserved);
        let amount = u64::try_from(amount).unwrap_or(u64::MAX);
        (amount > 0).then(|| Charge {
            budget: budget.id.to_string(),
            subject: budget.subject(subject),
            at_ms: actual.at_ms,
            amount,
        })
    }
}

/// What a request may come to use.
#[derive(Clone, Debug)]
pub(crate) struct Estimate {
    input_tokens: u64,
    output_tokens: u64,
    cost: Cost,
}

impl Estimate {
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
            input_tokens: facts.prompt_bytes.div_ceil(BYTES_PER_TOKEN),
            output_tokens: output_tokens.saturating_mul(answers),
            cost: Cost::default(),
        }
    }

    /// Adds what it may cost, if a budget in money asks for that.
    pub(crate) fn priced(self, identity: &Identity, price: impl FnOnce(&Usage) -> Cost) -> Self {
        let budgets = &identity.policy().budgets;
        if budgets.iter().all(|it| it.rule.spec.unit != Unit::PicoUsd) {
            return self;
        }
        let cost = price(&Usage {
            input_tokens: Some(self.input_tokens),
            output_tokens: Some(self.output_tokens),
            ..Usage::default()
        });
        Self { cost, ..self }
    }

    fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    fn in_unit(&self, unit: Unit) -> Amount {
        match unit {
            Unit::Tokens => Amount::from(self.tokens()),
            Unit::PicoUsd => self
                .cost
                .dearest
                .map_or(0, |cost| Amount::from(cost.0.unsigned_abs())),
        }
    }
}

/// A request that may be served, with what it holds meanwhile.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) permit: Permit<Account>,
    /// What the client is told about its limits.
    pub(crate) told: Told,
    /// A soft budget that is used up.
    pub(crate) verdict: Option<String>,
    /// Targets that it must not go to: a budget in money holds, and they have no price.
    pub(crate) denied: TargetSet,
}

/// Takes what the request needs from every limit and budget that holds for it.
pub(crate) fn admit(
    identity: &Identity,
    subject: &Subject<'_>,
    class: Class,
    estimate: &Estimate,
    family: Family,
    now_us: u64,
) -> Result<Admitted, Refusal> {
    let policy = identity.policy();
    policy.fetch();
    let mut taking = Taking {
        permit: Permit::new(policy.limits.len(), policy.budgets.len()),
        subject,
        class,
        estimate,
        now_us,
        told: Told::default(),
        verdict: None,
        denied: TargetSet::default(),
    };
    for limit in &policy.limits {
        taking.take(limit).map_err(|refused| {
            let told = taking.told.headers(policy, subject, family, now_us);
            refused.with_headers(told)
        })?;
    }
    let contact = policy.contact.as_deref();
    for (place, budget) in policy.budgets.iter().enumerate() {
        taking.reserve(place, budget, contact)?;
    }
    taking.permit.admit();
    Ok(Admitted {
        told: taking.told,
        permit: taking.permit,
        verdict: taking.verdict,
        denied: taking.denied,
    })
}

struct Taking<'a> {
    permit: Permit<Account>,
    subject: &'a Subject<'a>,
    class: Class,
    estimate: &'a Estimate,
    now_us: u64,
    told: Told,
    verdict: Option<String>,
    denied: TargetSet,
}

impl Taking<'_> {
    fn take(&mut self, limit: &Placed<Limit, LimitCounter>) -> Result<(), Refusal> {
        let Some(counter) = limit.counter(self.subject) else {
            return Ok(());
        };
        let (limit, now_us) = (&*limit.rule, self.now_us);
        let held = self.permit.under(counter);
        if let Some(max) = limit.concurrency {
            let taken = held.take_slot(max, self.class);
            taken
                .map_err(|too_many| too_many_at_once(limit, self.subject, max, too_many.running))?;
        }
        if let Some(spec) = &limit.requests {
            let taken = held.take_request(spec, self.class, now_us);
            self.told
                .note(Counted::Requests, spec.burst(), reading(&taken));
            if let Err(refused) = taken {
                let allowed = format!("{} requests a minute", spec.per_minute);
                return Err(too_fast(limit, self.subject, &allowed, refused.wait_us));
            }
        }
        if let Some(spec) = &limit.tokens {
            let tokens = self.estimate.tokens();
            let taken = held.take_tokens(spec, self.class, tokens, now_us);
            self.told
                .note(Counted::Tokens, spec.burst(), reading(&taken));
            if let Err(refused) = taken {
                let allowed = format!(
                    "{} tokens a minute, and this request may take {tokens}",
                    spec.per_minute
                );
                return Err(too_fast(limit, self.subject, &allowed, refused.wait_us));
            }
        }
        Ok(())
    }

    /// `place` is the budget's among those of the policy.
    fn reserve(
        &mut self,
        place: usize,
        budget: &Placed<Budget, Purse>,
        contact: Option<&str>,
    ) -> Result<(), Refusal> {
        let Some(purse) = budget.counter(self.subject) else {
            return Ok(());
        };
        let budget = &budget.rule;
        if budget.wants_prices {
            self.denied = self.estimate.cost.unpriced;
            if self.estimate.cost.dearest.is_none() {
                return Err(unpriced(budget, self.subject, &self.estimate.cost, contact));
            }
        }
        let amount = self.estimate.in_unit(budget.spec.unit);
        let account = Account(budget.clone());
        match self.permit.reserve(purse, account, amount, self.now_us) {
            Ok(standing) => {
                let told = BudgetTold::new(place, budget, &standing);
                if told.remaining == 0 {
                    self.verdict = Some(format!("soft:{}", budget.name(self.subject)));
                }
                self.told.note_budget(told);
                Ok(())
            }
            Err(refused) => Err(exhausted(
                budget,
                &refused,
                self.subject,
                amount,
                contact,
                self.now_us,
            )),
        }
    }
}

/// How a rate stands, whether it was granted or not.
const fn reading(taken: &Result<Reading, TooFast>) -> Reading {
    match taken {
        Ok(reading) => *reading,
        Err(refused) => refused.reading,
    }
}

fn too_many_at_once(limit: &Limit, subject: &Subject<'_>, max: u64, running: u64) -> Refusal {
    let name = limit.name(subject);
    let message =
        format!("limit \"{name}\" allows {max} requests at once, and {running} are running");
    Refusal::rate_limited(name, message, SLOT_RETRY)
}

fn too_fast(limit: &Limit, subject: &Subject<'_>, allowed: &str, wait_us: u64) -> Refusal {
    let name = limit.name(subject);
    let wait = Duration::from_micros(wait_us);
    let message = format!(
        "limit \"{name}\" allows {allowed}; try again in {}",
        shown_seconds(wait)
    );
    Refusal::rate_limited(name, message, wait.max(Duration::from_micros(HEARING_US)))
}

/// For a budget in money that nobody could keep: what the call costs is not known anywhere.
fn unpriced(budget: &Budget, subject: &Subject<'_>, cost: &Cost, contact: Option<&str>) -> Refusal {
    const SHOWN_MAX: usize = 3;
    let names = cost.unpriced_at.iter().take(SHOWN_MAX);
    let names: Vec<&str> = names.map(|deployment| deployment.name.as_str()).collect();
    let ask = contact.map_or_else(String::new, |contact| format!("ask {contact} to "));
    let name = budget.name(subject);
    let message = format!(
        "budget \"{name}\" counts money, and \"{}\" has no price at {}: {ask}give it one with \
         [[price]] in the gateway's configuration, or set unpriced = \"allow\" for the budget",
        subject.model,
        names.join(", "),
    );
    Refusal::unpriced(name, message)
}

fn exhausted(
    budget: &Budget,
    refused: &Exhausted,
    subject: &Subject<'_>,
    amount: Amount,
    contact: Option<&str>,
    now_us: u64,
) -> Refusal {
    let name = budget.name(subject);
    let until = refused.resets_ms.map_or_else(
        || "it does not begin anew".to_owned(),
        |ms| format!("it begins anew at {}", weir_limits::rfc3339(ms)),
    );
    let ask = contact.map_or_else(String::new, |contact| format!("; ask {contact}"));
    let shown = |amount| shown_amount(budget.spec.unit, amount);
    let message = format!(
        "budget \"{name}\" of {} has {} left, and this request may take {}; {until}{ask}",
        shown(budget.spec.limit),
        shown(refused.remaining),
        shown(amount),
    );
    let wait = refused
        .resets_ms
        .map(|ms| Duration::from_millis(ms.saturating_sub(now_us / 1000)));
    let mut told = HeaderMap::with_capacity(4);
    budget_headers(
        &mut told,
        budget,
        subject,
        refused.remaining,
        refused.resets_ms,
    );
    Refusal::budget_exhausted(name, message, wait).with_headers(told)
}

/// What was used, by what the events say: the same figures that SQL sums up.
pub(crate) fn actual(trail: &Trail) -> Actual {
    let delivered = trail
        .attempts
        .iter()
        .rev()
        .find(|attempt| attempt.delivered);
    let usage = delivered.map(|attempt| attempt.usage).unwrap_or_default();
    let tokens = usage.input_tokens.unwrap_or(0) + usage.output_tokens.unwrap_or(0);
    Actual {
        tokens,
        pico_usd: trail.cost().map(|cost| Amount::from(cost.0.unsigned_abs())),
        at_ms: trail.arrived.unix_ms(),
    }
}

/// A threshold of a budget that a request reached.
#[derive(Debug)]
pub(crate) struct Reached {
    pub(crate) budget: String,
    /// Whose budget it is, where it is counted apart.
    pub(crate) name: String,
    pub(crate) percent: u8,
    pub(crate) spent: String,
    pub(crate) limit: String,
    pub(crate) resets: Option<String>,
    pub(crate) hard: bool,
}

impl Reached {
    pub(crate) fn new(account: &Account, subject: &Subject<'_>, crossing: &Crossing) -> Self {
        let Account(budget) = account;
        Self::of(budget, budget.name(subject), crossing)
    }

    pub(crate) fn of(budget: &Budget, name: String, crossing: &Crossing) -> Self {
        let shown = |amount| shown_amount(budget.spec.unit, amount);
        Self {
            budget: budget.id.to_string(),
            name,
            percent: crossing.percent,
            spent: shown(crossing.spent),
            limit: shown(crossing.limit),
            resets: crossing.resets_ms.map(weir_limits::rfc3339),
            hard: budget.spec.hard,
        }
    }
}

impl Reached {
    pub(crate) fn json(&self) -> String {
        self.facts().to_string()
    }

    pub(crate) fn facts(&self) -> serde_json::Value {
        serde_json::json!({
            "budget": self.name,
            "percent": self.percent,
            "spent": self.spent,
            "limit": self.limit,
            "resets": self.resets,
            "hard": self.hard,
        })
    }

    /// The event of it, which stands behind those of the request that did it.
    pub(crate) fn event<'a>(&'a self, json: &'a str, now_ms: u64) -> Event<'a> {
        let act = Act {
            actor: "gateway",
            action: "threshold",
            now_ms,
        };
        control_event(&act, Kind::Budget.as_str(), &self.budget, None, Some(json))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    Requests,
    Tokens,
}

/// What the client is told: of each kind of limit the one with the least left.
#[derive(Debug, Default)]
pub(crate) struct Told {
    requests: Option<(u64, Reading)>,
    tokens: Option<(u64, Reading)>,
    budget: Option<BudgetTold>,
}

#[derive(Clone, Copy, Debug)]
struct BudgetTold {
    /// Among the budgets of the policy.
    place: usize,
    limit: Amount,
    remaining: Amount,
    resets_ms: Option<u64>,
}

impl BudgetTold {
    const fn new(place: usize, budget: &Budget, standing: &Standing) -> Self {
        Self {
            place,
            limit: budget.spec.limit,
            remaining: budget.spec.limit.saturating_sub(standing.committed()),
            resets_ms: standing.resets_ms,
        }
    }

    /// Whether a smaller part of it is left than of another one: money and tokens compare by that.
    const fn is_tighter(&self, than: &Self) -> bool {
        self.remaining.saturating_mul(than.limit) < than.remaining.saturating_mul(self.limit)
    }
}

impl Told {
    fn note(&mut self, counted: Counted, limit: u64, reading: Reading) {
        let told = match counted {
            Counted::Requests => &mut self.requests,
            Counted::Tokens => &mut self.tokens,
        };
        let is_tighter = |(_, before): &(u64, Reading)| reading.remaining < before.remaining;
        if told.as_ref().is_none_or(is_tighter) {
            *told = Some((limit, reading));
        }
    }

    fn note_budget(&mut self, budget: BudgetTold) {
        if self.budget.is_none_or(|before| budget.is_tighter(&before)) {
            self.budget = Some(budget);
        }
    }

    /// The headers that say it. `policy` is the one that the request was admitted by.
    pub(crate) fn headers(
        &self,
        policy: &Policy,
        subject: &Subject<'_>,
        family: Family,
        now_us: u64,
    ) -> HeaderMap {
        if self.budget.is_none() && self.requests.is_none() && self.tokens.is_none() {
            return HeaderMap::new();
        }
        let mut headers = HeaderMap::with_capacity(HEADERS_MAX);
        if let Some(told) = &self.budget
            && let Some(budget) = policy.budgets.get(told.place)
        {
            let budget = &budget.rule;
            let (remaining, resets_ms) = (told.remaining, told.resets_ms);
            budget_headers(&mut headers, budget, subject, remaining, resets_ms);
        }
        let rates = [
            (Counted::Requests, &self.requests),
            (Counted::Tokens, &self.tokens),
        ];
        for (counted, told) in rates {
            if let Some((limit, reading)) = told {
                rate_headers(&mut headers, family, counted, *limit, reading, now_us);
            }
        }
        headers
    }
}

fn budget_headers(
    headers: &mut HeaderMap,
    budget: &Budget,
    subject: &Subject<'_>,
    remaining: Amount,
    resets_ms: Option<u64>,
) {
    let mut set = |name: &HeaderName, value: String| {
        // A name that a header cannot hold is left out.
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
            headers.insert(name, value);
        }
    };
    set(&BUDGET, budget.name(subject));
    set(&BUDGET_REMAINING, shown_amount(budget.spec.unit, remaining));
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
    limit: u64,
    reading: &Reading,
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
            let wait = Duration::from_micros(reading.reset_us.saturating_sub(now_us));
            shown_wait(wait, "")
        }
        Family::Anthropic => weir_limits::rfc3339(reading.reset_us / 1000),
    };
    headers.insert(limited, limit.into());
    headers.insert(remaining, reading.remaining.into());
    if let Ok(reset) = HeaderValue::from_maybe_shared(Bytes::from(reset)) {
        headers.insert(resets, reset);
    }
}

/// Milliseconds, or seconds with tenths: rounded up, so that waiting that long is enough.
fn shown_seconds(duration: Duration) -> String {
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

pub(crate) fn shown_amount(unit: Unit, amount: Amount) -> String {
    match unit {
        Unit::PicoUsd => format!("{} USD", Usd(amount)),
        Unit::Tokens => format!("{amount} tokens"),
    }
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

    #[test]
    fn estimates_take_the_worst_that_the_client_allows() {
        let tokens = |api, body: &str| {
            let facts = weir_dialects::inspect(api, body.as_bytes()).unwrap();
            let prompt = facts.prompt_bytes.div_ceil(BYTES_PER_TOKEN);
            Estimate::of(api, &facts, 100).tokens() - prompt
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
        let greedy = r#"{"model":"m","messages":[],"max_tokens":18446744073709551615,"n":99}"#;
        let facts = weir_dialects::inspect(chat, greedy.as_bytes()).unwrap();
        assert_eq!(Estimate::of(chat, &facts, 100).tokens(), u64::MAX);
    }
}
