//! All that one request holds, as one value.

use std::sync::Arc;

use crate::Class;
use crate::budget::{Amount, BudgetSpec, Crossing, Exhausted, Purse, Reserved, Unit};
use crate::rate::{Bucket, RateSpec, TooFast};
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

/// What one request has taken. `B` names a budget and says its limit.
///
/// Dropped, it gives back what it took: all of it before [`Permit::admit`], afterwards all but the
/// request itself, which was served.
#[derive(Debug)]
pub struct Permit<B: AsRef<BudgetSpec>> {
    holds: Vec<Hold<B>>,
    admitted: bool,
}

#[derive(Debug)]
enum Hold<B> {
    Request(Arc<Bucket>),
    Tokens(Arc<Bucket>, u64),
    Slot(Arc<Slots>),
    Budget(Arc<Purse>, B, Reserved),
}

impl<B: AsRef<BudgetSpec>> Permit<B> {
    #[must_use]
    pub const fn new() -> Self {
        Self {
            holds: Vec::new(),
            admitted: false,
        }
    }

    pub fn take_request(
        &mut self,
        bucket: &Arc<Bucket>,
        spec: &RateSpec,
        class: Class,
        now_us: u64,
    ) -> Result<(), TooFast> {
        bucket.take(spec, class, 1, now_us)?;
        self.holds.push(Hold::Request(bucket.clone()));
        Ok(())
    }

    pub fn take_tokens(
        &mut self,
        bucket: &Arc<Bucket>,
        spec: &RateSpec,
        class: Class,
        estimate: u64,
        now_us: u64,
    ) -> Result<(), TooFast> {
        bucket.take(spec, class, estimate, now_us)?;
        self.holds.push(Hold::Tokens(bucket.clone(), estimate));
        Ok(())
    }

    pub fn take_slot(&mut self, slots: &Arc<Slots>, max: u64, class: Class) -> Result<(), TooMany> {
        slots.take(max, class)?;
        self.holds.push(Hold::Slot(slots.clone()));
        Ok(())
    }

    pub fn reserve(
        &mut self,
        purse: &Arc<Purse>,
        budget: B,
        estimate: Amount,
        now_us: u64,
    ) -> Result<(), Exhausted> {
        let reserved = purse.reserve(budget.as_ref(), estimate, now_us)?;
        self.holds
            .push(Hold::Budget(purse.clone(), budget, reserved));
        Ok(())
    }

    /// The budgets that it has reserved of, and how much.
    pub fn budgets(&self) -> impl Iterator<Item = (&B, Amount)> {
        self.holds.iter().filter_map(|hold| match hold {
            Hold::Budget(_, budget, reserved) => Some((budget, reserved.amount())),
            Hold::Request(_) | Hold::Tokens(..) | Hold::Slot(_) => None,
        })
    }

    /// The request is let through.
    pub const fn admit(&mut self) {
        self.admitted = true;
    }

    /// Puts what was used in the place of what was reserved, and names each budget that reached a
    /// threshold by it.
    pub fn settle(mut self, actual: &Actual, now_us: u64, mut crossed: impl FnMut(B, Crossing)) {
        for hold in self.holds.drain(..) {
            match hold {
                Hold::Request(_) => {}
                Hold::Tokens(bucket, estimate) => bucket.correct(estimate, actual.tokens),
                Hold::Slot(slots) => slots.give_back(),
                Hold::Budget(purse, budget, reserved) => {
                    let spec = budget.as_ref();
                    let amount = actual.charge(spec.unit, reserved.amount());
                    let crossing = purse.settle(spec, &reserved, amount, actual.at_ms, now_us);
                    if let Some(crossing) = crossing {
                        crossed(budget, crossing);
                    }
                }
            }
        }
    }

    fn release(&mut self) {
        for hold in self.holds.drain(..) {
            match hold {
                Hold::Request(bucket) if !self.admitted => bucket.correct(1, 0),
                Hold::Request(_) => {}
                Hold::Tokens(bucket, estimate) => bucket.correct(estimate, 0),
                Hold::Slot(slots) => slots.give_back(),
                Hold::Budget(purse, _, reserved) => purse.release(&reserved),
            }
        }
    }
}

impl<B: AsRef<BudgetSpec>> Default for Permit<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: AsRef<BudgetSpec>> Drop for Permit<B> {
    fn drop(&mut self) {
        self.release();
    }
}
