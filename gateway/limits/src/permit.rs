//! All that one request holds, as one value.

use std::sync::Arc;

use crate::budget::{
    BudgetAmount, BudgetBalance, BudgetCounter, BudgetExhausted, BudgetSpec, BudgetTurn,
    BudgetUnit, Crossing, Reserved,
};
use crate::class::Class;
use crate::rate::{Bucket, RateExceeded, RateReading, RateSpec};
use crate::slots::{ConcurrencyExceeded, Slots};

/// What a request turned out to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// Of the answer that the client got: limits count these.
    pub tokens: u64,
    /// Of all attempts, failed ones too, like what follows: budgets count these.
    pub billed_tokens: u64,
    /// What they cost, as far as that is known.
    pub pico_usd: BudgetAmount,
    /// The cost of one of them is unknown: then no less is charged than what was reserved.
    pub is_partly_unknown: bool,
    /// When the request arrived: it counts in that window of a budget.
    pub at_ms: u64,
}

impl Actual {
    /// The charge to a budget in this unit.
    #[must_use]
    pub fn charge(&self, unit: BudgetUnit, reserved: BudgetAmount) -> BudgetAmount {
        match unit {
            BudgetUnit::Tokens => BudgetAmount::from(self.billed_tokens),
            BudgetUnit::PicoUsd if self.is_partly_unknown => self.pico_usd.max(reserved),
            BudgetUnit::PicoUsd => self.pico_usd,
        }
    }
}

/// The counters of one limit, laid out in this order: a request touches all of them at once.
#[derive(Debug, Default)]
#[repr(C)]
pub struct LimitCounter {
    pub requests: Bucket,
    pub slots: Slots,
    pub tokens: Bucket,
}

/// What one request has taken. `B` identifies a budget and holds its specification.
///
/// Dropped, it gives back what it took: all of it before [`Permit::admit`], afterwards all but the
/// request itself, which was served.
#[derive(Debug)]
pub struct Permit<B: AsRef<BudgetSpec>> {
    limits: Vec<HeldLimit>,
    budgets: Vec<HeldBudget<B>>,
    admitted: bool,
}

/// What a request holds of one budget.
#[derive(Debug)]
struct HeldBudget<B> {
    counter: Arc<BudgetCounter>,
    budget: B,
    reserved: Reserved,
    /// What one attempt may cost.
    per_attempt: BudgetAmount,
}

/// What a request holds of one limit.
#[derive(Debug)]
pub struct HeldLimit {
    counter: Arc<LimitCounter>,
    request: bool,
    tokens: Option<u64>,
    slot: bool,
}

impl HeldLimit {
    pub fn take_request(
        &mut self,
        spec: &RateSpec,
        class: Class,
        now_us: u64,
    ) -> Result<RateReading, RateExceeded> {
        let reading = self.counter.requests.take(spec, class, 1, now_us)?;
        self.request = true;
        Ok(reading)
    }

    pub fn take_tokens(
        &mut self,
        spec: &RateSpec,
        class: Class,
        estimate: u64,
        now_us: u64,
    ) -> Result<RateReading, RateExceeded> {
        let reading = self.counter.tokens.take(spec, class, estimate, now_us)?;
        self.tokens = Some(estimate);
        Ok(reading)
    }

    pub fn take_slot(&mut self, max: u64, class: Class) -> Result<(), ConcurrencyExceeded> {
        self.counter.slots.take(max, class)?;
        self.slot = true;
        Ok(())
    }

    /// Replaces what was taken by what was used.
    fn end(&self, used_tokens: u64) {
        if let Some(estimate) = self.tokens {
            self.counter.tokens.correct(estimate, used_tokens);
        }
        if self.slot {
            self.counter.slots.give_back();
        }
    }
}

/// What came of a reservation.
#[derive(Clone, Copy, Debug)]
pub struct SettledBudget {
    /// The threshold that was reached, if one was.
    pub crossing: Option<Crossing>,
    pub reserved: BudgetAmount,
    pub charged: BudgetAmount,
}

impl<B: AsRef<BudgetSpec>> Permit<B> {
    /// A permit with room for so many limits and budgets.
    #[must_use]
    pub fn new(limits: usize, budgets: usize) -> Self {
        Self {
            limits: Vec::with_capacity(limits),
            budgets: Vec::with_capacity(budgets),
            admitted: false,
        }
    }

    /// Adds a limit, of which nothing is taken yet.
    pub fn under(&mut self, counter: Arc<LimitCounter>) -> &mut HeldLimit {
        self.limits.push_mut(HeldLimit {
            counter,
            request: false,
            tokens: None,
            slot: false,
        })
    }

    /// Reserves what one attempt may cost. `turn` is the request's place among those who wait, if it
    /// has waited.
    pub fn reserve(
        &mut self,
        counter: Arc<BudgetCounter>,
        budget: B,
        amount: BudgetAmount,
        turn: Option<&BudgetTurn>,
        now_us: u64,
    ) -> Result<BudgetBalance, BudgetExhausted> {
        let (reserved, standing) = counter.reserve(budget.as_ref(), amount, turn, now_us)?;
        self.budgets.push(HeldBudget {
            counter,
            budget,
            reserved,
            per_attempt: amount,
        });
        Ok(standing)
    }

    /// Reserves for one more attempt, of every budget or of none. Returns the budget that has no room.
    pub fn reserve_again(&mut self, now_us: u64) -> Result<(), &B> {
        let full = self.budgets.iter_mut().position(|held| {
            let (spec, amount) = (held.budget.as_ref(), held.per_attempt);
            let extended = held
                .counter
                .extend(spec, &mut held.reserved, amount, now_us);
            extended.is_err()
        });
        let Some(full) = full else { return Ok(()) };
        for held in &mut self.budgets[..full] {
            held.counter.shrink(&mut held.reserved, held.per_attempt);
        }
        Err(&self.budgets[full].budget)
    }

    /// A permit of its own for an attempt beside the request: of its budgets, not of its limits.
    /// `amount` is what that attempt may cost; `None` where it must not be made.
    pub fn beside(&self, amount: impl Fn(&B) -> Option<BudgetAmount>, now_us: u64) -> Option<Self>
    where
        B: Clone,
    {
        let mut beside = Self::new(0, self.budgets.len());
        for held in &self.budgets {
            let amount = amount(&held.budget)?;
            let (counter, budget) = (held.counter.clone(), held.budget.clone());
            beside.reserve(counter, budget, amount, None, now_us).ok()?;
        }
        beside.admit();
        Some(beside)
    }

    /// Its budgets, with the amount reserved of each.
    pub fn budgets(&self) -> impl Iterator<Item = (&B, BudgetAmount)> {
        let budgets = self.budgets.iter();
        budgets.map(|held| (&held.budget, held.reserved.amount))
    }

    /// The request is let through.
    pub const fn admit(&mut self) {
        self.admitted = true;
    }

    /// Replaces reservations by what was used, and tells of each budget what came of it.
    pub fn settle(
        mut self,
        actual: &Actual,
        now_us: u64,
        mut settled: impl FnMut(&B, SettledBudget),
    ) {
        for taken in self.limits.drain(..) {
            taken.end(actual.tokens);
        }
        for held in self.budgets.drain(..) {
            let (counter, spec) = (held.counter, held.budget.as_ref());
            let reserved = held.reserved.amount;
            let charged = actual.charge(spec.unit, reserved);
            let crossing = counter.settle(spec, held.reserved, charged, actual.at_ms, now_us);
            let came_of_it = SettledBudget {
                crossing,
                reserved,
                charged,
            };
            settled(&held.budget, came_of_it);
        }
    }

    fn release(&mut self) {
        for taken in self.limits.drain(..) {
            if taken.request && !self.admitted {
                taken.counter.requests.correct(1, 0);
            }
            taken.end(0);
        }
        for held in self.budgets.drain(..) {
            held.counter.release(held.reserved);
        }
    }
}

impl<B: AsRef<BudgetSpec>> Drop for Permit<B> {
    fn drop(&mut self) {
        self.release();
    }
}
