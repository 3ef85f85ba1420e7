//! The decision whether a request may be served now: limits and budgets, taken together as one permit.
//!
//! What a request will use is estimated before it is served; the permit is settled with the actual use
//! when its events are written. No rule is looked up here: the policy holds those that apply to the key.
//! How a denial is worded, and which headers carry it, is the gateway's.

use std::sync::Arc;

use weir_limits::{
    Actual, BudgetAmount, BudgetBalance, BudgetExhausted, BudgetSpec, BudgetUnit, Class, Permit,
    RateExceeded, RateReading, RateSpec,
};
use weir_schemas::PicoUsd;

use crate::control::policy::{BoundRule, Budget, BudgetTerms, LimitTerms, Policy, Subject};
use crate::ledger::Charge;

/// A budget that a request has reserved from.
#[derive(Clone, Debug)]
pub struct ReservedBudget(pub(crate) Arc<Budget>);

impl AsRef<BudgetSpec> for ReservedBudget {
    fn as_ref(&self) -> &BudgetSpec {
        &self.0.terms.spec
    }
}

impl ReservedBudget {
    /// What the budget is charged for what was used, if anything.
    #[must_use]
    pub fn charge(
        &self,
        subject: &Subject<'_>,
        actual: &Actual,
        reserved: BudgetAmount,
    ) -> Option<Charge> {
        let Self(budget) = self;
        let amount = actual.charge(budget.terms.spec.unit, reserved);
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
#[derive(Clone, Copy, Debug, Default)]
pub struct Estimate {
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// The most that it may cost; `None` if no target has a price.
    pub cost: Option<PicoUsd>,
}

impl Estimate {
    #[must_use]
    pub const fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    fn in_unit(&self, unit: BudgetUnit) -> BudgetAmount {
        match unit {
            BudgetUnit::Tokens => BudgetAmount::from(self.tokens()),
            BudgetUnit::PicoUsd => self
                .cost
                .map_or(0, |cost| BudgetAmount::from(cost.0.unsigned_abs())),
        }
    }
}

/// A request that may be served, with what it holds meanwhile.
#[derive(Debug)]
pub struct Admitted {
    pub permit: Permit<ReservedBudget>,
    pub status: RateLimitStatus,
    /// A soft budget that is used up.
    pub verdict: Option<String>,
    /// A budget in money applies, so the request must not go to a target without a price.
    pub needs_price: bool,
}

/// Why a request may not be served. Names of rules are as clients read them.
#[derive(Debug)]
pub enum Denied {
    Concurrency {
        limit: String,
        max: u64,
        running: u64,
        status: Box<RateLimitStatus>,
    },
    Rate {
        limit: String,
        counted: Counted,
        per_minute: u64,
        /// When there will be room for the request.
        wait_us: u64,
        status: Box<RateLimitStatus>,
    },
    /// The budget counts money, and no target has a price.
    Unpriced { budget: String },
    BudgetExhausted {
        name: String,
        budget: Arc<Budget>,
        exhausted: BudgetExhausted,
        /// What the request may come to use, in the budget's unit.
        requested: BudgetAmount,
    },
}

/// Takes what the request needs from every limit and budget of its policy, or nothing.
pub fn admit(
    policy: &Policy,
    subject: &Subject<'_>,
    class: Class,
    estimate: &Estimate,
    now_us: u64,
) -> Result<Admitted, Denied> {
    policy.fetch();
    let mut admission = Admission {
        subject,
        class,
        estimate,
        now_us,
        admitted: Admitted {
            permit: Permit::new(policy.limits.len(), policy.budgets.len()),
            status: RateLimitStatus::default(),
            verdict: None,
            needs_price: false,
        },
    };
    for limit in &policy.limits {
        admission.take(limit)?;
    }
    for (index, budget) in policy.budgets.iter().enumerate() {
        admission.reserve(index, budget)?;
    }
    admission.admitted.permit.admit();
    Ok(admission.admitted)
}

/// A request on its way through the rules.
struct Admission<'a> {
    subject: &'a Subject<'a>,
    class: Class,
    estimate: &'a Estimate,
    now_us: u64,
    /// What it holds so far.
    admitted: Admitted,
}

impl Admission<'_> {
    fn take(&mut self, limit: &BoundRule<LimitTerms>) -> Result<(), Denied> {
        let Some(counter) = limit.counter(self.subject) else {
            return Ok(());
        };
        let (limit, now_us) = (&*limit.rule, self.now_us);
        let Admitted { permit, status, .. } = &mut self.admitted;
        let held = permit.under(counter);
        if let Some(max) = limit.terms.concurrency
            && let Err(too_many) = held.take_slot(max, self.class)
        {
            return Err(Denied::Concurrency {
                limit: limit.name(self.subject),
                max,
                running: too_many.running,
                status: Box::new(std::mem::take(status)),
            });
        }
        let mut note = |counted, spec: &RateSpec, taken: Result<RateReading, RateExceeded>| {
            let reading = taken.unwrap_or_else(|refused| refused.reading);
            status.note(counted, spec.burst(), reading);
            taken.map(drop).map_err(|refused| Denied::Rate {
                limit: limit.name(self.subject),
                counted,
                per_minute: spec.per_minute,
                wait_us: refused.wait_us,
                status: Box::new(std::mem::take(status)),
            })
        };
        if let Some(spec) = &limit.terms.requests {
            let taken = held.take_request(spec, self.class, now_us);
            note(Counted::Requests, spec, taken)?;
        }
        if let Some(spec) = &limit.terms.tokens {
            let taken = held.take_tokens(spec, self.class, self.estimate.tokens(), now_us);
            note(Counted::Tokens, spec, taken)?;
        }
        Ok(())
    }

    /// `index` is the budget's among those of the policy.
    fn reserve(&mut self, index: usize, budget: &BoundRule<BudgetTerms>) -> Result<(), Denied> {
        let Some(counter) = budget.counter(self.subject) else {
            return Ok(());
        };
        let budget = &budget.rule;
        if budget.terms.wants_prices {
            self.admitted.needs_price = true;
            if self.estimate.cost.is_none() {
                let budget = budget.name(self.subject);
                return Err(Denied::Unpriced { budget });
            }
        }
        let requested = self.estimate.in_unit(budget.terms.spec.unit);
        let reserved = ReservedBudget(budget.clone());
        let permit = &mut self.admitted.permit;
        let reserved = permit.reserve(counter, reserved, requested, self.now_us);
        let standing = reserved.map_err(|exhausted| Denied::BudgetExhausted {
            name: budget.name(self.subject),
            budget: budget.clone(),
            exhausted,
            requested,
        })?;
        let status = BudgetStatus::new(index, budget, &standing);
        if status.remaining == 0 {
            self.admitted.verdict = Some(format!("soft:{}", budget.name(self.subject)));
        }
        self.admitted.status.note_budget(status);
        Ok(())
    }
}

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Requests,
    Tokens,
}

/// What is left for the client: of each kind of limit the one with the least left.
#[derive(Debug, Default)]
pub struct RateLimitStatus {
    pub requests: Option<RateStatus>,
    pub tokens: Option<RateStatus>,
    pub budget: Option<BudgetStatus>,
}

#[derive(Clone, Copy, Debug)]
pub struct RateStatus {
    pub limit: u64,
    pub reading: RateReading,
}

#[derive(Clone, Copy, Debug)]
pub struct BudgetStatus {
    /// Among the budgets of the policy.
    pub index: usize,
    limit: BudgetAmount,
    pub remaining: BudgetAmount,
    pub resets_ms: Option<u64>,
}

impl BudgetStatus {
    const fn new(index: usize, budget: &Budget, standing: &BudgetBalance) -> Self {
        Self {
            index,
            limit: budget.terms.spec.limit,
            remaining: budget.terms.spec.limit.saturating_sub(standing.committed()),
            resets_ms: standing.resets_ms,
        }
    }

    /// Whether a smaller part of it is left than of another one: money and tokens compare by that.
    const fn is_tighter(&self, than: &Self) -> bool {
        self.remaining.saturating_mul(than.limit) < than.remaining.saturating_mul(self.limit)
    }
}

impl RateLimitStatus {
    fn note(&mut self, counted: Counted, limit: u64, reading: RateReading) {
        let status = match counted {
            Counted::Requests => &mut self.requests,
            Counted::Tokens => &mut self.tokens,
        };
        let is_tighter = |before: &RateStatus| reading.remaining < before.reading.remaining;
        if status.as_ref().is_none_or(is_tighter) {
            *status = Some(RateStatus { limit, reading });
        }
    }

    fn note_budget(&mut self, budget: BudgetStatus) {
        if self.budget.is_none_or(|before| budget.is_tighter(&before)) {
            self.budget = Some(budget);
        }
    }
}
