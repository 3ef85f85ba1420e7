//! All that one request holds, as one value.

use std::sync::Arc;

use crate::Class;
use crate::budget::{Amount, BudgetSpec, Crossing, Exhausted, Purse, Reserved, Standing, Unit};
use crate::rate::{Bucket, RateSpec, Reading, TooFast};
use crate::slots::{Slots, TooMany};

/// How often gateways hear of each other.
pub const HEARING_US: u64 = 100_000;

/// What a request turned out to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    pub tokens: u64,
    /// `None` if nobody knows what it cost: then it is charged what was reserved for it.
    pub pico_usd: Option<Amount>,
    /// When the request arrived: says to which window of a budget it belongs.
    pub at_ms: u64,
}

impl Actual {
    /// What a budget in a unit is charged.
    #[must_use]
    pub fn charge(&self, unit: Unit, reserved: Amount) -> Amount {
        match unit {
            Unit::Tokens => Amount::from(self.tokens),
            Unit::PicoUsd => self.pico_usd.unwrap_or(reserved),
        }
    }
}

/// What is counted under one limit, together and in this order: a request meets all of it at once.
#[derive(Debug, Default)]
#[repr(C)]
pub struct LimitCounter {
    pub requests: Bucket,
    pub slots: Slots,
    pub tokens: Bucket,
}

/// What one request has taken. `B` names a budget and says its limit.
///
/// Dropped, it gives back what it took: all of it before [`Permit::admit`], afterwards all but the
/// request itself, which was served.
#[derive(Debug)]
pub struct Permit<B: AsRef<BudgetSpec>> {
    limits: Vec<Held>,
    budgets: Vec<(Arc<Purse>, B, Reserved)>,
    admitted: bool,
}

/// What is held of one limit.
#[derive(Debug)]
pub struct Held {
    counter: Arc<LimitCounter>,
    request: bool,
    tokens: Option<u64>,
    slot: bool,
}

impl Held {
    pub fn take_request(
        &mut self,
        spec: &RateSpec,
        class: Class,
        now_us: u64,
    ) -> Result<Reading, TooFast> {
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
    ) -> Result<Reading, TooFast> {
        let reading = self.counter.tokens.take(spec, class, estimate, now_us)?;
        self.tokens = Some(estimate);
        Ok(reading)
    }

    pub fn take_slot(&mut self, max: u64, class: Class) -> Result<(), TooMany> {
        self.counter.slots.take(max, class)?;
        self.slot = true;
        Ok(())
    }

    /// Puts what was used in the place of what was taken.
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

    /// Nothing is taken of the limit yet.
    pub fn under(&mut self, counter: Arc<LimitCounter>) -> &mut Held {
        self.limits.push_mut(Held {
            counter,
            request: false,
            tokens: None,
            slot: false,
        })
    }

    pub fn reserve(
        &mut self,
        purse: Arc<Purse>,
        budget: B,
        estimate: Amount,
        now_us: u64,
    ) -> Result<Standing, Exhausted> {
        let (reserved, standing) = purse.reserve(budget.as_ref(), estimate, now_us)?;
        self.budgets.push((purse, budget, reserved));
        Ok(standing)
    }

    /// The budgets that it has reserved of, and how much.
    pub fn budgets(&self) -> impl Iterator<Item = (&B, Amount)> {
        let budgets = self.budgets.iter();
        budgets.map(|(_, budget, reserved)| (budget, reserved.amount()))
    }

    /// The request is let through.
    pub const fn admit(&mut self) {
        self.admitted = true;
    }

    /// Puts what was used in the place of what was reserved, and names each budget that reached a
    /// threshold by it.
    pub fn settle(mut self, actual: &Actual, now_us: u64, mut crossed: impl FnMut(B, Crossing)) {
        for taken in self.limits.drain(..) {
            taken.end(actual.tokens);
        }
        for (purse, budget, reserved) in self.budgets.drain(..) {
            let spec = budget.as_ref();
            let amount = actual.charge(spec.unit, reserved.amount());
            let crossing = purse.settle(spec, reserved, amount, actual.at_ms, now_us);
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
        for (purse, _, reserved) in self.budgets.drain(..) {
            purse.release(reserved);
        }
    }
}

impl<B: AsRef<BudgetSpec>> Drop for Permit<B> {
    fn drop(&mut self) {
        self.release();
    }
}
