//! What each attempt of a request costs, and what of that the client is charged.

use std::sync::Arc;

use weir_routing::FailureKind;
use weir_schemas::{PicoUsd, Usage};

use crate::record::attempt::{AttemptEnd, AttemptRecord};
use crate::record::trail::RequestRecord;

/// What an attempt costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AttemptCharge {
    /// `None` if it is unknown: an attempt without a price is never counted as free.
    pub(crate) cost: Option<PicoUsd>,
    /// Row of the price book that it is taken from; `None` if nothing was consumed.
    pub(crate) price_version: Option<Arc<str>>,
}

/// Tokens of a usage, as limits and budgets count them.
pub(super) fn tokens(usage: &Usage) -> u64 {
    let tokens = [usage.input_tokens, usage.output_tokens];
    tokens.into_iter().flatten().fold(0, u64::saturating_add)
}

impl AttemptRecord {
    fn priced(&self) -> AttemptCharge {
        if self.usage.is_empty() {
            return AttemptCharge {
                cost: self.was_not_billed().then_some(PicoUsd(0)),
                price_version: None,
            };
        }
        let tier = self.service_tier.as_deref().unwrap_or_default();
        match self
            .deployment
            .charge(&self.usage, tier, self.started.unix_us)
        {
            Some((cost, version)) => AttemptCharge {
                cost: Some(cost),
                price_version: Some(version),
            },
            None => AttemptCharge::default(),
        }
    }

    /// Whether it is known to cost nothing: the provider answered with an error, or got no call.
    fn was_not_billed(&self) -> bool {
        let was_not_called = matches!(
            self.failure,
            Some((
                AttemptEnd::Failed(
                    FailureKind::Connect
                        | FailureKind::ConnectTimeout
                        | FailureKind::InvalidRequest
                ),
                _
            ))
        );
        was_not_called || self.status().is_some_and(|status| status >= 400)
    }
}

impl RequestRecord {
    /// Prices every attempt, as the last thing before the events are written. `settle` is told the
    /// number of each and the tokens that it took.
    pub(super) fn price(&mut self, mut settle: impl FnMut(u32, u64)) {
        self.estimate();
        for attempt in self.attempts.iter_mut() {
            attempt.charge = attempt.priced();
            settle(attempt.number, tokens(&attempt.usage));
        }
    }

    /// What the client is charged: the attempt whose answer it got. Nothing if there was none.
    pub(super) fn cost(&self) -> Option<PicoUsd> {
        let delivered = self.attempts.delivered();
        delivered.map_or(Some(PicoUsd(0)), |attempt| attempt.charge.cost)
    }

    /// What the other attempts cost, as far as that is known.
    pub(super) fn waste(&self) -> PicoUsd {
        let others = self.attempts.iter().filter(|attempt| !attempt.delivered);
        let known = others.filter_map(|attempt| attempt.charge.cost);
        PicoUsd(known.fold(0, |sum, cost| sum.saturating_add(cost.0)))
    }
}
