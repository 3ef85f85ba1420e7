//! The decision whether a request may be served now: limits and budgets, taken together as one permit.
//!
//! Limits and soft budgets reserve what a request is likely to use, hard budgets the most that it can be
//! billed: by a rough bound, while they are far from their end, and by the closest one near it. Where that
//! does not fit and the client has set no limit on the answer, the gateway sets one. The permit is settled
//! with the actual use when its events are written. No rule is looked up here: the policy holds those that apply to the key.
//! How a denial is worded, and which headers carry it, is the gateway's.

use std::sync::Arc;

use weir_limits::{
    Actual, BudgetAmount, BudgetBalance, BudgetCounter, BudgetExhausted, BudgetSpec, BudgetTurn,
    BudgetUnit, Class, Permit, RateExceeded, RateReading, RateSpec,
};
use weir_schemas::PicoUsd;

use crate::caps::CLAMPS_MAX;
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
    /// As people read it.
    #[must_use]
    pub fn name(&self, subject: &Subject<'_>) -> String {
        self.0.name(subject)
    }

    #[must_use]
    pub fn unit(&self) -> BudgetUnit {
        self.0.terms.spec.unit
    }

    #[must_use]
    pub fn is_hard(&self) -> bool {
        self.0.terms.spec.hard
    }

    /// Whether what its calls can be billed must be bounded.
    #[must_use]
    pub fn wants_bounds(&self) -> bool {
        self.0.terms.wants_bounds
    }

    /// Whether calls without a price are kept from it.
    #[must_use]
    pub fn wants_prices(&self) -> bool {
        self.0.terms.wants_prices
    }

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Tokens in and out.
    pub tokens: u64,
    /// What it may cost; `None` if no target has a price.
    pub cost: Option<PicoUsd>,
}

impl Estimate {
    fn in_unit(&self, unit: BudgetUnit) -> BudgetAmount {
        match unit {
            BudgetUnit::Tokens => BudgetAmount::from(self.tokens),
            BudgetUnit::PicoUsd => self
                .cost
                .map_or(0, |cost| BudgetAmount::from(cost.0.unsigned_abs())),
        }
    }
}

/// What a request asks for. What costs time is worked out only where a budget wants to know it.
#[expect(missing_debug_implementations, reason = "it holds functions")]
pub struct Ask<'a> {
    /// What it is likely to use, in tokens.
    pub tokens: u64,
    /// What that costs.
    pub likely_cost: &'a dyn Fn() -> Option<PicoUsd>,
    /// The most that it can be billed, roughly; `None` if nothing bounds it.
    pub coarse: &'a dyn Fn() -> Option<Estimate>,
    /// The same as closely as possible, with a limit on the answer's tokens that the gateway sets.
    pub tight: &'a dyn Fn(Option<u64>) -> Option<Estimate>,
    /// The limits that the gateway may set; `None` where the client has set one, or there is no answer.
    pub output_limits: Option<OutputLimits>,
}

/// Limits on the tokens of an answer.
#[derive(Clone, Copy, Debug)]
pub struct OutputLimits {
    /// The least that is taken at all.
    pub least: u64,
    /// With less than this a request rather waits for others to settle.
    pub useful: u64,
    pub most: u64,
}

/// How often a request has asked already.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionTry<'a> {
    /// Its place among those who wait for a budget, if it has waited.
    pub turn: Option<&'a BudgetTurn>,
    /// It will not wait any longer: a short answer is better than none.
    pub is_last: bool,
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
    /// A hard budget applies, so the request must not go to a target where nothing bounds it.
    pub needs_bound: bool,
    /// The limit on the answer's tokens that the gateway sets, so that a budget holds.
    pub output_limit: Option<u64>,
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
    Unpriced {
        budget: String,
    },
    /// The budget is hard, and at no target anything bounds what the request can be billed.
    Unbounded {
        budget: String,
    },
    BudgetExhausted(Box<ExhaustedBudget>),
}

/// A budget that has no room for a request.
#[derive(Debug)]
pub struct ExhaustedBudget {
    pub name: String,
    pub budget: Arc<Budget>,
    pub counter: Arc<BudgetCounter>,
    pub exhausted: BudgetExhausted,
    /// The most that the request can be billed, in the budget's unit, with the least answer.
    pub requested: BudgetAmount,
}

impl ExhaustedBudget {
    /// Whether there would be room if nothing were reserved, and something is.
    #[must_use]
    pub const fn may_come_free(&self) -> bool {
        let BudgetExhausted {
            remaining,
            available,
            unspent,
            ..
        } = self.exhausted;
        unspent > 0 && self.requested <= unspent && (remaining < unspent || available < remaining)
    }
}

/// Takes what the request needs from every limit and budget of its policy, or nothing.
pub fn admit(
    policy: &Policy,
    subject: &Subject<'_>,
    class: Class,
    ask: &Ask<'_>,
    tried: AdmissionTry<'_>,
    now_us: u64,
) -> Result<Admitted, Denied> {
    policy.fetch();
    let mut admission = Admission {
        subject,
        class,
        ask,
        tried,
        now_us,
        coarse: None,
        likely: None,
        admitted: Admitted {
            permit: Permit::new(policy.limits.len(), policy.budgets.len()),
            status: RateLimitStatus::default(),
            verdict: None,
            needs_price: false,
            needs_bound: false,
            output_limit: None,
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
    ask: &'a Ask<'a>,
    tried: AdmissionTry<'a>,
    now_us: u64,
    /// Worked out once.
    coarse: Option<Option<Estimate>>,
    likely: Option<Estimate>,
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
            let taken = held.take_tokens(spec, self.class, self.ask.tokens, now_us);
            note(Counted::Tokens, spec, taken)?;
        }
        Ok(())
    }

    /// `index` is the budget's among those of the policy.
    fn reserve(&mut self, index: usize, bound: &BoundRule<BudgetTerms>) -> Result<(), Denied> {
        let Some(counter) = bound.counter(self.subject) else {
            return Ok(());
        };
        let budget = &bound.rule;
        self.admitted.needs_price |= budget.terms.wants_prices;
        self.admitted.needs_bound |= budget.terms.wants_bounds;
        let standing = match budget.terms.spec.hard {
            true => self.reserve_most(&counter, budget)?,
            false => {
                let likely = self.likely().in_unit(budget.terms.spec.unit);
                self.try_for(&counter, budget, likely)
                    .map_err(|full| self.exhausted(counter, budget, full))?
            }
        };
        let status = BudgetStatus::new(index, budget, &standing);
        if status.remaining == 0 && !budget.terms.spec.hard {
            let verdict = &mut self.admitted.verdict;
            verdict.get_or_insert_with(|| format!("soft:{}", budget.name(self.subject)));
        }
        self.admitted.status.note_budget(status);
        Ok(())
    }

    /// Reserves the most that the request can be billed.
    fn reserve_most(
        &mut self,
        counter: &Arc<BudgetCounter>,
        budget: &Arc<Budget>,
    ) -> Result<BudgetBalance, Denied> {
        let unit = budget.terms.spec.unit;
        let limit = self.admitted.output_limit;
        let coarse = if limit.is_none() { self.coarse() } else { None };
        if let Some(coarse) = coarse {
            self.check_price(budget, &coarse)?;
            if let Ok(standing) = self.try_for(counter, budget, coarse.in_unit(unit)) {
                return Ok(standing);
            }
        }
        let closest = (self.ask.tight)(limit);
        let full = match closest {
            Some(closest) => {
                self.check_price(budget, &closest)?;
                match self.try_for(counter, budget, closest.in_unit(unit)) {
                    Ok(standing) => return Ok(standing),
                    Err(full) => Some(full),
                }
            }
            None => None,
        };
        if let Some(limits) = self.ask.output_limits {
            return self.clamp(counter, budget, limits, full);
        }
        match full {
            Some(full) => Err(self.exhausted(counter.clone(), budget, full)),
            None => self.reserve_unbounded(counter, budget),
        }
    }

    /// For what nothing bounds: refused, or let through with what is likely.
    fn reserve_unbounded(
        &mut self,
        counter: &Arc<BudgetCounter>,
        budget: &Arc<Budget>,
    ) -> Result<BudgetBalance, Denied> {
        if budget.terms.wants_bounds {
            let budget = budget.name(self.subject);
            return Err(Denied::Unbounded { budget });
        }
        let likely = self.likely();
        self.check_price(budget, &likely)?;
        self.try_for(counter, budget, likely.in_unit(budget.terms.spec.unit))
            .map_err(|full| self.exhausted(counter.clone(), budget, full))
    }

    /// Reserves for the longest answer that there is room for, which is then the limit that is sent.
    fn clamp(
        &mut self,
        counter: &Arc<BudgetCounter>,
        budget: &Arc<Budget>,
        limits: OutputLimits,
        full: Option<BudgetExhausted>,
    ) -> Result<BudgetBalance, Denied> {
        let unit = budget.terms.spec.unit;
        let most = self.admitted.output_limit.unwrap_or(limits.most);
        let least = match self.tried.is_last {
            true => limits.least,
            false => limits.useful.clamp(limits.least, most.max(limits.least)),
        };
        let amount = |limit| Some((self.ask.tight)(Some(limit))?.in_unit(unit));
        let Some(of_most) = (self.ask.tight)(Some(most)) else {
            return self.reserve_unbounded(counter, budget);
        };
        self.check_price(budget, &of_most)?;
        let (of_least, of_most) = (amount(least).unwrap_or(u128::MAX), of_most.in_unit(unit));
        // At first nobody has said what is left. Others may be quicker to take what is said to be.
        let (mut full, mut most) = (full, (most, of_most));
        for _ in 0..CLAMPS_MAX {
            let room = full.map_or(most.1, |full| full.available);
            let Some(limit) = longest(room, (least, of_least), most) else {
                break;
            };
            let of_limit = amount(limit).unwrap_or(u128::MAX);
            if of_limit > room {
                // Targets differ in what they take at most, so amounts do not follow a line.
                let half = least + limit.saturating_sub(least) / 2;
                most = (half, amount(half).unwrap_or(u128::MAX));
                continue;
            }
            match self.try_for(counter, budget, of_limit) {
                Ok(standing) => {
                    self.admitted.output_limit = Some(limit);
                    let name = budget.name(self.subject);
                    self.admitted.verdict = Some(format!("clamped:{name}"));
                    return Ok(standing);
                }
                Err(now) => full = Some(now),
            }
        }
        let full = match full {
            Some(full) => full,
            None => counter.room(&budget.terms.spec, self.now_us),
        };
        Err(self.exhausted(counter.clone(), budget, full))
    }

    fn try_for(
        &mut self,
        counter: &Arc<BudgetCounter>,
        budget: &Arc<Budget>,
        amount: BudgetAmount,
    ) -> Result<BudgetBalance, BudgetExhausted> {
        let (reserved, turn) = (ReservedBudget(budget.clone()), self.tried.turn);
        let permit = &mut self.admitted.permit;
        permit.reserve(counter.clone(), reserved, amount, turn, self.now_us)
    }

    fn exhausted(
        &self,
        counter: Arc<BudgetCounter>,
        budget: &Arc<Budget>,
        exhausted: BudgetExhausted,
    ) -> Denied {
        let least = self.ask.output_limits.map(|limits| limits.least);
        let least = (self.ask.tight)(least.or(self.admitted.output_limit));
        Denied::BudgetExhausted(Box::new(ExhaustedBudget {
            name: budget.name(self.subject),
            budget: budget.clone(),
            counter,
            exhausted,
            requested: least.unwrap_or_default().in_unit(budget.terms.spec.unit),
        }))
    }

    fn check_price(&self, budget: &Budget, most: &Estimate) -> Result<(), Denied> {
        if budget.terms.wants_prices && most.cost.is_none() {
            let budget = budget.name(self.subject);
            return Err(Denied::Unpriced { budget });
        }
        Ok(())
    }

    fn coarse(&mut self) -> Option<Estimate> {
        *self.coarse.get_or_insert_with(self.ask.coarse)
    }

    fn likely(&mut self) -> Estimate {
        let ask = self.ask;
        *self.likely.get_or_insert_with(|| Estimate {
            tokens: ask.tokens,
            cost: (ask.likely_cost)(),
        })
    }
}

/// The greatest limit whose amount is within the room, on the line between two limits with their
/// amounts.
fn longest(
    room: BudgetAmount,
    (least, of_least): (u64, BudgetAmount),
    (most, of_most): (u64, BudgetAmount),
) -> Option<u64> {
    if room >= of_most {
        return Some(most);
    }
    let spare = room.checked_sub(of_least)?;
    let more = BudgetAmount::from(most.saturating_sub(least));
    let more = spare.saturating_mul(more) / (of_most - of_least).max(1);
    Some(
        least
            .saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
            .min(most),
    )
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
