//! The most that a request can be billed.

use std::sync::Arc;

use jiff::Timestamp;
use weir_dialects::{ClientApi, ClientRequest, RequestFacts, Unbounded};
use weir_routing::{Alias, TargetSet};
use weir_schemas::PicoUsd;
use weir_schemas::prices::{CallBound, Tiers, Unpriced};

use crate::setup::directory::{Cost, Deployment, Directory};

/// The most that one try of a request can be billed, over the targets of its alias.
///
/// Every try can be billed, those that fail, time out or lose a race too: what holds this for a whole
/// request reserves it again before each further try.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestBound {
    /// Tokens in and out. Saturates.
    pub(crate) tokens: u64,
    /// Tokens out, of all choices.
    pub(crate) output_tokens: u64,
    /// The dearest, and the targets without a price.
    pub(crate) cost: Cost,
    /// Positions of the targets at which nothing bounds the request.
    pub(crate) unbounded: TargetSet,
    /// Which they are, each with what is unbounded.
    pub(crate) unbounded_at: Vec<(Arc<Deployment>, Unbounded)>,
}

impl Directory {
    /// An upper bound by prices that were made with the directory: those of the dearest service tier,
    /// hour and size. Used while budgets are far from their end.
    pub(crate) fn coarse_bound(
        &self,
        alias: &Alias,
        api: ClientApi,
        facts: &RequestFacts,
    ) -> RequestBound {
        self.bound(alias, api, facts, None, |deployment, call| {
            deployment
                .ceiling
                .as_ref()
                .map_err(Clone::clone)?
                .cost(call)
        })
    }

    /// The closest upper bound. `output_limit` is what the gateway would send.
    pub(crate) fn tight_bound(
        &self,
        alias: &Alias,
        api: ClientApi,
        facts: &RequestFacts,
        output_limit: Option<u64>,
        now_us: u64,
    ) -> RequestBound {
        self.bound(alias, api, facts, output_limit, |deployment, call| {
            deployment.most(call, now_us)
        })
    }

    /// The least limit on an answer's tokens that every target takes, and the greatest that one of them
    /// does.
    pub(crate) fn output_limits(&self, alias: &Alias, api: ClientApi) -> (u64, u64) {
        let mut limits = (1, 1);
        for target in &alias.targets {
            let deployment = self.deployment(target.deployment);
            let vendor = deployment.provider.vendor;
            let (least, most) = deployment.generation.output_limits(vendor, api);
            limits = (limits.0.max(least), limits.1.max(most));
        }
        limits
    }

    fn bound(
        &self,
        alias: &Alias,
        api: ClientApi,
        facts: &RequestFacts,
        output_limit: Option<u64>,
        price: impl Fn(&Deployment, &CallBound) -> Result<PicoUsd, Unpriced>,
    ) -> RequestBound {
        let mut bound = RequestBound::default();
        for (number, target) in alias.targets.iter().enumerate() {
            let deployment = self.deployment(target.deployment);
            let vendor = deployment.provider.vendor;
            let call = match deployment
                .generation
                .bound(vendor, api, facts, output_limit)
            {
                Ok(call) => call,
                Err(unbounded) => {
                    bound.unbounded.insert(number);
                    bound.unbounded_at.push((deployment.clone(), unbounded));
                    continue;
                }
            };
            let tokens = call.input_tokens.saturating_add(call.output_tokens);
            bound.tokens = bound.tokens.max(tokens);
            bound.output_tokens = bound.output_tokens.max(call.output_tokens);
            match price(deployment, &call) {
                Ok(here) => bound.cost.dearest = bound.cost.dearest.max(Some(here)),
                Err(reason) => {
                    bound.cost.unpriced.insert(number);
                    bound.cost.unpriced_at.push((deployment.clone(), reason));
                }
            }
        }
        bound
    }
}

impl Deployment {
    /// The most that a request can be billed here, in tokens and in money; `None` if nothing bounds it.
    pub(crate) fn bound(
        &self,
        request: &ClientRequest<'_>,
        now_us: u64,
    ) -> Option<(u64, Option<PicoUsd>)> {
        let ClientRequest {
            api,
            facts,
            output_limit,
            ..
        } = *request;
        let vendor = self.provider.vendor;
        let call = self
            .generation
            .bound(vendor, api, facts, output_limit)
            .ok()?;
        let tokens = call.input_tokens.saturating_add(call.output_tokens);
        Some((tokens, self.most(&call, now_us).ok()))
    }

    fn most(&self, call: &CallBound, now_us: u64) -> Result<PicoUsd, Unpriced> {
        let now_us = i64::try_from(now_us).unwrap_or(i64::MAX);
        let at = Timestamp::from_microsecond(now_us).unwrap_or(Timestamp::MAX);
        let prices = self.prices.as_ref().ok_or(Unpriced::NotInBook)?;
        prices.most(call, Tiers::Any, at)
    }
}
