//! What a request may come to use, how long it waits for that, and how a denial becomes a refusal.
//!
//! The decision itself is [`weir_governance::admission`].

use std::cell::Cell;
use std::time::Duration;

use http::HeaderMap;
use weir_dialects::{ClientApi, RequestFacts};
use weir_governance::admission::{
    self, AdmissionTry, Admitted, Ask, Counted, Denied, Estimate, ExhaustedBudget, OutputLimits,
};
use weir_governance::clock::{self, Moment};
use weir_governance::control::Identity;
use weir_governance::control::policy::Subject;
use weir_governance::thresholds::shown_amount;
use weir_limits::{BudgetTurn, Class, SYNC_INTERVAL_US};
use weir_routing::{Alias, TargetSet};
use weir_schemas::Usage;

use crate::caps::NAMES_SHOWN_MAX;
use crate::request::limit_headers::{budget_headers, limit_headers, shown_seconds};
use crate::request::refusal::Refusal;
use crate::setup::bound::RequestBound;
use crate::setup::config::GatewayConfig;
use crate::setup::directory::{Cost, Directory};

/// Bytes per token of dense text. A reservation counts with few bytes per token, so that it is rather
/// too large than too small.
const BYTES_PER_TOKEN_MIN: u64 = 3;
/// When to retry for a slot: nothing announces when one comes free.
const SLOT_RETRY: Duration = Duration::from_secs(1);

/// What a request is likely to use, for limits and for budgets that refuse nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestEstimate {
    input_tokens: u64,
    output_tokens: u64,
}

impl RequestEstimate {
    /// The prompt by its size, the answer by the limit that the client set, or by
    /// `output_tokens_assumed` if it set none.
    fn of(api: ClientApi, facts: &RequestFacts, output_tokens_assumed: u64) -> Self {
        let answers = match has_answer(api) {
            true => facts.choices.unwrap_or(1).max(1),
            false => 0,
        };
        let output_tokens = facts.max_output_tokens.unwrap_or(output_tokens_assumed);
        Self {
            input_tokens: facts.prompt_bytes.div_ceil(BYTES_PER_TOKEN_MIN),
            output_tokens: output_tokens.saturating_mul(answers),
        }
    }

    const fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    fn usage(&self) -> Usage {
        Usage {
            input_tokens: Some(self.input_tokens),
            output_tokens: Some(self.output_tokens),
            ..Usage::default()
        }
    }
}

const fn has_answer(api: ClientApi) -> bool {
    match api {
        ClientApi::Embeddings | ClientApi::CountTokens => false,
        ClientApi::ChatCompletions | ClientApi::Responses | ClientApi::Messages => true,
    }
}

/// A request at the door.
pub(crate) struct Entrant<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) subject: &'a Subject<'a>,
    pub(crate) class: Class,
    pub(crate) api: ClientApi,
    pub(crate) facts: &'a RequestFacts,
    pub(crate) directory: &'a Directory,
    pub(crate) alias: &'a Alias,
    pub(crate) config: &'a GatewayConfig,
}

/// A request that was let in.
pub(crate) struct Entered {
    pub(crate) admitted: Admitted,
    /// The most that it can be billed, if a hard budget applies.
    pub(crate) bound: Option<RequestBound>,
    /// How long it waited for a budget.
    pub(crate) waited: Duration,
}

impl Entered {
    /// Targets that its budgets do not let it use.
    pub(crate) fn denied(&self) -> TargetSet {
        let Some(bound) = &self.bound else {
            return TargetSet::default();
        };
        let admitted = &self.admitted;
        let unpriced = bound.cost.unpriced.iter().filter(|_| admitted.needs_price);
        let unbounded = bound.unbounded.iter().filter(|_| admitted.needs_bound);
        unpriced.chain(unbounded).collect()
    }

    /// Most tokens of an answer for which its budgets have room.
    pub(crate) fn output_tokens_max(&self) -> Option<u64> {
        let bound = self.bound.as_ref().filter(|_| self.admitted.needs_bound);
        bound.map(|bound| bound.output_tokens)
    }
}

impl Entrant<'_> {
    /// Takes what the request needs from every limit and budget that holds for it. Where only what
    /// others have reserved is in the way, it waits for them, and holds nothing meanwhile.
    pub(crate) async fn enter(&self) -> Result<Entered, Refusal> {
        let (begun, patience) = (clock::now(), self.config.budget_wait_ms);
        let until = begun + Duration::from_millis(patience);
        let (mut turn, mut is_last) = (None::<BudgetTurn>, patience == 0);
        let (admitted, bound) = loop {
            let full = match self.ask(turn.as_ref(), is_last) {
                Ok(entered) => break entered,
                Err(Denied::BudgetExhausted(full)) if !is_last => full,
                Err(denied) => return Err(self.refusal(denied)),
            };
            if !full.may_come_free() {
                is_last = true;
                continue;
            }
            // Whoever waits already keeps its place.
            if turn.as_ref().is_none_or(|turn| !turn.is_at(&full.counter)) {
                turn = full.counter.wait();
            }
            is_last = match &mut turn {
                Some(turn) => tokio::time::timeout_at(until.into(), turn).await.is_err(),
                None => true,
            };
        };
        let waited = turn.map(|_| clock::now().saturating_duration_since(begun));
        Ok(Entered {
            bound,
            waited: waited.unwrap_or_default(),
            admitted,
        })
    }

    fn ask(
        &self,
        turn: Option<&BudgetTurn>,
        is_last: bool,
    ) -> Result<(Admitted, Option<RequestBound>), Denied> {
        let (estimate, coarse) = (self.estimate(), Cell::new(None));
        let ask = Ask {
            tokens: estimate.tokens(),
            likely_cost: &|| self.cost(&estimate.usage()).dearest,
            coarse: &|| {
                let bound = self
                    .directory
                    .coarse_bound(self.alias, self.api, self.facts);
                let most = self.most(&bound);
                coarse.set(Some(bound));
                most
            },
            tight: &|limit| self.most(&self.tight(limit)),
            output_limits: self.output_limits(),
        };
        let (policy, tried) = (self.identity.policy(), AdmissionTry { turn, is_last });
        let now_us = Moment::now().unix_us;
        let admitted = admission::admit(policy, self.subject, self.class, &ask, tried, now_us)?;
        let bound = match admitted.output_limit {
            None => coarse.take(),
            limit => Some(self.tight(limit)),
        };
        Ok((admitted, bound))
    }

    fn estimate(&self) -> RequestEstimate {
        RequestEstimate::of(self.api, self.facts, self.config.output_tokens_assumed)
    }

    fn cost(&self, usage: &Usage) -> Cost {
        self.directory
            .cost(self.alias, usage, Moment::now().unix_us)
    }

    fn tight(&self, limit: Option<u64>) -> RequestBound {
        let now_us = Moment::now().unix_us;
        self.directory
            .tight_bound(self.alias, self.api, self.facts, limit, now_us)
    }

    /// A target where nothing bounds the request is left out; without any other nothing does.
    fn most(&self, bound: &RequestBound) -> Option<Estimate> {
        (bound.unbounded.len() < self.alias.targets.len()).then_some(Estimate {
            tokens: bound.tokens,
            cost: bound.cost.dearest,
        })
    }

    /// The limits that the gateway may set where the client set none.
    fn output_limits(&self) -> Option<OutputLimits> {
        if self.facts.max_output_tokens.is_some() || !has_answer(self.api) {
            return None;
        }
        let (least, most) = self.directory.output_limits(self.alias, self.api);
        Some(OutputLimits {
            least,
            useful: self.config.output_tokens_assumed,
            most,
        })
    }

    fn refusal(&self, denied: Denied) -> Refusal {
        let (policy, subject, family) = (self.identity.policy(), self.subject, self.api.family());
        let (contact, now_us) = (policy.contact.as_deref(), Moment::now().unix_us);
        match denied {
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
                let tokens = self.estimate().tokens();
                let allowed = match counted {
                    Counted::Requests => format!("{per_minute} requests a minute"),
                    Counted::Tokens => {
                        format!("{per_minute} tokens a minute, and this request may use {tokens}")
                    }
                };
                too_fast(limit, &allowed, wait_us).with_headers(headers)
            }
            Denied::Unpriced { budget } => {
                let cost = self.cost(&self.estimate().usage());
                unpriced(budget, subject, &cost, contact)
            }
            Denied::Unbounded { budget } => unbounded(budget, &self.tight(None), contact),
            Denied::BudgetExhausted(full) => {
                let mut headers = HeaderMap::with_capacity(4);
                let (remaining, resets_ms) = (full.exhausted.remaining, full.exhausted.resets_ms);
                budget_headers(&mut headers, &full.budget, subject, remaining, resets_ms);
                let (message, wait) = exhausted(&full, contact, now_us);
                let status = self.config.budget_status;
                Refusal::budget_exhausted(full.name, message, wait, status).with_headers(headers)
            }
        }
    }
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

/// For a hard budget that could not be kept: nothing says how much the call can cost.
fn unbounded(budget: String, bound: &RequestBound, contact: Option<&str>) -> Refusal {
    let names = bound.unbounded_at.iter().take(NAMES_SHOWN_MAX);
    let names: Vec<String> = names
        .map(|(deployment, why)| format!("{} ({why})", deployment.name))
        .collect();
    let ask = contact.map_or_else(String::new, |contact| format!("ask {contact} to "));
    let mut settings = bound.unbounded_at.iter().filter_map(|(_, it)| it.setting());
    let setting = settings.next().map_or_else(String::new, |setting| {
        format!("set {setting} in a [[model]] of the gateway's configuration or ")
    });
    let message = format!(
        "budget \"{budget}\" is hard, and nothing bounds what this request can be billed at {}: send \
         it without that, or {ask}{setting}set unbounded = \"allow\" for the budget",
        names.join(", "),
    );
    Refusal::unbounded(budget, message)
}

/// What the client is told of a budget without room, and when it resets.
fn exhausted(
    full: &ExhaustedBudget,
    contact: Option<&str>,
    now_us: u64,
) -> (String, Option<Duration>) {
    let (spec, exhausted) = (&full.budget.terms.spec, &full.exhausted);
    let until = exhausted.resets_ms.map_or_else(
        || "it does not reset".to_owned(),
        |ms| format!("it resets at {}", weir_limits::rfc3339(ms)),
    );
    let ask = contact.map_or_else(String::new, |contact| format!("; ask {contact}"));
    let shown = |amount| shown_amount(spec.unit, amount);
    let message = format!(
        "budget \"{}\" of {} has {} left, and this request may use {}; {until}{ask}",
        full.name,
        shown(spec.limit),
        shown(exhausted.remaining),
        shown(full.requested),
    );
    let wait = exhausted
        .resets_ms
        .map(|ms| Duration::from_millis(ms.saturating_sub(now_us / 1000)));
    (message, wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_take_the_worst_that_the_client_allows() {
        let tokens = |api, body: &str| {
            let facts = weir_dialects::inspect(api, body.as_bytes()).unwrap();
            let prompt = facts.prompt_bytes.div_ceil(BYTES_PER_TOKEN_MIN);
            RequestEstimate::of(api, &facts, 100).tokens() - prompt
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
