//! All that one request holds, as one value.

use std::sync::Arc;

use crate::budget::{
    BudgetAmount, BudgetBalance, BudgetCounter, BudgetExhausted, BudgetSpec, BudgetUnit, Crossing,
    Reserved,
};
use crate::class::Class;
use crate::rate::{Bucket, RateExceeded, RateReading, RateSpec};
use crate::slots::{ConcurrencyExceeded, Slots};

/// What a request turned out to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    pub tokens: u64,
    /// `None` if the cost is unknown: then it is charged what was reserved for it.
    pub pico_usd: Option<BudgetAmount>,
    /// When the request arrived: it counts in that window of a budget.
    pub at_ms: u64,
}

impl Actual {
    /// The charge to a budget in this unit.
    #[must_use]
    pub fn charge(&self, unit: BudgetUnit, reserved: BudgetAmount) -> BudgetAmount {
        match unit {
            BudgetUnit::Tokens => BudgetAmount::from(self.tokens),
            BudgetUnit::PicoUsd => self.pico_usd.unwrap_or(reserved),
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
    budgets: Vec<(Arc<BudgetCounter>, B, Reserved)>,
    admitted: bool,
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

    pub fn reserve(
        &mut self,
        counter: Arc<BudgetCounter>,
        budget: B,
        estimate: BudgetAmount,
        now_us: u64,
    ) -> Result<BudgetBalance, BudgetExhausted> {
        let (reserved, standing) = counter.reserve(budget.as_ref(), estimate, now_us)?;
        self.budgets.push((counter, budget, reserved));
        Ok(standing)
    }

    /// Its budgets, with the amount reserved of each.
    pub fn budgets(&self) -> impl Iterator<Item = (&B, BudgetAmount)> {
        let budgets = self.budgets.iter();
        budgets.map(|(_, budget, reserved)| (budget, reserved.amount))
    }

    /// The request is let through.
    pub const fn admit(&mut self) {
        self.admitted = true;
    }

    /// Replaces reservations by what was used, and reports each budget that reached a threshold by it.
    pub fn settle(mut self, actual: &Actual, now_us: u64, mut crossed: impl FnMut(B, Crossing)) {
        for taken in self.limits.drain(..) {
            taken.end(actual.tokens);
        }
        for (counter, budget, reserved) in self.budgets.drain(..) {
            let spec = budget.as_ref();
            let amount = actual.charge(spec.unit, reserved.amount);
            let crossing = counter.settle(spec, reserved, amount, actual.at_ms, now_us);
            if let Some(crossing) = crossing {
                crossed(budget, crossing);
            }
        }
    }

    fn release(&mut self) {
        for taken in self.limits.drain(..) {
            if taken.request && !self.admitted {
                taken.counter.requests.correct(1, 0);
            }
            taken.end(0);
        }
        for (counter, _, reserved) in self.budgets.drain(..) {
            counter.release(reserved);
        }
    }
}

impl<B: AsRef<BudgetSpec>> Drop for Permit<B> {
    fn drop(&mut self) {
        self.release();
    }
}
