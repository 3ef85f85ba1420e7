//! What each try of a request costs, and what of that the client is charged.

use std::sync::Arc;

use weir_routing::FailureKind;
use weir_schemas::PicoUsd;

use crate::record::trail::{AttemptTrail, Trail};
use weir_governance::clock::Moment;

/// What a try costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Charge {
    /// `None` if nobody knows: nothing is ever free for want of a price.
    pub(crate) cost: Option<PicoUsd>,
    /// Row of the price book that says so; `None` if nothing was consumed.
    pub(crate) price_version: Option<Arc<str>>,
}

/// Failures at which the provider got no call, so that it bills nothing.
const NOT_CALLED: [FailureKind; 3] = [
    FailureKind::Connect,
    FailureKind::ConnectTimeout,
    FailureKind::InvalidRequest,
];

impl AttemptTrail {
    fn priced(&self) -> Charge {
        if self.usage.is_empty() {
            return Charge {
                cost: self.was_not_billed().then_some(PicoUsd(0)),
                price_version: None,
            };
        }
        let tier = self.service_tier.as_deref().unwrap_or_default();
        match self
            .deployment
            .charge(&self.usage, tier, self.started.unix_us)
        {
            Some((cost, version)) => Charge {
                cost: Some(cost),
                price_version: Some(version),
            },
            None => Charge::default(),
        }
    }

    fn settle_turn(&self, now_us: u64) {
        if let Some(taken) = &self.taken {
            let tokens = [self.usage.input_tokens, self.usage.output_tokens];
            let used = tokens.into_iter().flatten().fold(0, u64::saturating_add);
            self.deployment.pool.settle(taken, used, now_us);
        }
    }

    /// Whether it is known to cost nothing: the provider answered with an error, or got no call.
    fn was_not_billed(&self) -> bool {
        let failed_as = self.failure.as_ref().map(|(kind, _)| *kind);
        self.status.is_some_and(|status| status >= 400)
            || NOT_CALLED
                .iter()
                .any(|kind| failed_as == Some(kind.as_str()))
    }
}

impl Trail {
    /// Prices every try, and tells its key's limits what it took, as the last thing before the events
    /// are written.
    pub(crate) fn price(&mut self) {
        self.estimate();
        let now_us = Moment::now().unix_us;
        for attempt in &mut self.attempts {
            attempt.charge = attempt.priced();
            attempt.settle_turn(now_us);
        }
    }

    /// What the client is charged: the try whose answer it got. Nothing if there was none.
    pub(crate) fn cost(&self) -> Option<PicoUsd> {
        let delivered = self.attempts.iter().rev().find(|attempt| attempt.delivered);
        delivered.map_or(Some(PicoUsd(0)), |attempt| attempt.charge.cost)
    }

    /// What the other tries cost, as far as that is known.
    pub(crate) fn waste(&self) -> PicoUsd {
        let others = self.attempts.iter().filter(|attempt| !attempt.delivered);
        let known = others.filter_map(|attempt| attempt.charge.cost);
        PicoUsd(known.fold(0, |sum, cost| sum.saturating_add(cost.0)))
    }
}
