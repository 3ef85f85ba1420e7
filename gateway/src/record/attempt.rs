//! The facts about one attempt, for its event.

use std::sync::Arc;

use weir_dialects::{FinishReason, ResponseFacts};
use weir_governance::clock::Moment;
use weir_routing::{Attempt, FailureKind};
use weir_schemas::event::OtherModel;
use weir_schemas::prices::Unpriced;
use weir_schemas::{OtherModelUsage, PicoUsd, Usage, UsageSource};

use crate::record::estimate;
use crate::setup::directory::Deployment;

/// Why an attempt ended without an answer for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptEnd {
    Failed(FailureKind),
    /// The other attempt of a hedged request had its first token earlier.
    HedgeLost,
    ClientGone,
    /// The answer became longer than what was reserved for it.
    OverBudget,
    /// The gateway was stopped.
    Shutdown,
    /// The gateway panicked.
    Internal,
}

impl AttemptEnd {
    /// As events and metrics carry it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Failed(kind) => kind.as_str(),
            Self::HedgeLost => "hedge_lost",
            Self::ClientGone => "client_gone",
            Self::OverBudget => "budget_exhausted",
            Self::Shutdown => "shutdown",
            Self::Internal => "internal",
        }
    }
}

/// The head of a provider's response.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    /// `None` if the connection was reused.
    pub(crate) connect_us: Option<u64>,
    pub(crate) upstream_request_id: Option<String>,
    pub(crate) service_tier: Option<String>,
}

/// What an attempt costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AttemptCharge {
    /// `None` if it is unknown: an attempt without a price is never counted as free.
    pub(crate) cost: Option<PicoUsd>,
    /// Row of the price book that it is taken from; `None` if nothing was consumed.
    pub(crate) price_version: Option<Arc<str>>,
    /// Why the cost is unknown.
    pub(crate) unpriced_reason: Option<String>,
}

impl From<Result<(PicoUsd, Arc<str>), Unpriced>> for AttemptCharge {
    fn from(charged: Result<(PicoUsd, Arc<str>), Unpriced>) -> Self {
        match charged {
            Ok((cost, price_version)) => Self {
                cost: Some(cost),
                price_version: Some(price_version),
                unpriced_reason: None,
            },
            Err(reason) => Self {
                unpriced_reason: Some(reason.to_string()),
                ..Self::default()
            },
        }
    }
}

/// One attempt's event as far as it is known. Stages write it; only this module's siblings read it.
#[derive(Debug)]
pub(crate) struct AttemptRecord {
    /// Number within the request, from 1; 0 for a shadow.
    pub(super) number: u16,
    pub(super) started: Moment,
    pub(super) sent: Option<Moment>,
    pub(super) kind: &'static str,
    pub(super) cause: Option<&'static str>,
    pub(super) delay_us: u64,
    pub(super) deployment: Arc<Deployment>,
    pub(super) propensity: f64,
    pub(super) head: Option<ResponseHead>,
    pub(super) headers_us: Option<u64>,
    pub(super) ttft_us: Option<u64>,
    pub(super) total_us: u64,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
    pub(super) response_model: Option<String>,
    pub(super) finish_reason: Option<FinishReason>,
    /// Service tier that the provider reports.
    pub(super) service_tier: Option<String>,
    /// Where the provider says the model ran.
    pub(super) inference_geo: Option<String>,
    /// Usage at other models, beside `usage`.
    pub(super) other_models: Vec<OtherModelUsage>,
    pub(super) retry_after_us: Option<u64>,
    /// Whether the client was given this attempt's answer.
    pub(super) delivered: bool,
    ended: bool,
    pub(super) failure: Option<(AttemptEnd, String)>,
    pub(super) usage: Usage,
    pub(super) usage_source: UsageSource,
    /// Estimated tokens of the answer as far as it was read, where the provider may not have reported
    /// them all.
    pub(super) answer_tokens: u64,
    pub(super) charge: AttemptCharge,
}

impl AttemptRecord {
    pub(crate) fn new(
        deployment: Arc<Deployment>,
        attempt: &Attempt,
        started: Moment,
        cause: Option<&'static str>,
    ) -> Self {
        Self {
            number: 0,
            started,
            sent: None,
            kind: attempt.kind.as_str(),
            cause,
            delay_us: attempt.delay_us,
            deployment,
            propensity: f64::from(attempt.propensity),
            head: None,
            headers_us: None,
            ttft_us: None,
            total_us: 0,
            request_bytes: 0,
            response_bytes: 0,
            response_model: None,
            finish_reason: None,
            service_tier: None,
            inference_geo: None,
            other_models: Vec::new(),
            retry_after_us: None,
            delivered: false,
            ended: false,
            failure: None,
            usage: Usage::default(),
            usage_source: UsageSource::None,
            answer_tokens: 0,
            charge: AttemptCharge::default(),
        }
    }

    pub(super) fn numbered(self, number: u16) -> Self {
        Self { number, ..self }
    }

    pub(crate) fn sent(&mut self, request_bytes: u64) {
        self.sent = Some(Moment::now());
        self.request_bytes = request_bytes;
    }

    pub(crate) fn head_arrived(&mut self, head: ResponseHead) {
        self.headers_us = Some(self.started.elapsed_us());
        self.service_tier.clone_from(&head.service_tier);
        self.head = Some(head);
    }

    pub(crate) fn received(&mut self, bytes: u64) {
        self.response_bytes = bytes;
    }

    pub(crate) fn first_token_arrived(&mut self) {
        self.ttft_us = Some(self.started.elapsed_us());
    }

    /// Takes over what the answer reports about itself; `source` is where its usage comes from.
    pub(crate) fn metered(&mut self, facts: &ResponseFacts, source: UsageSource) {
        self.response_model.clone_from(&facts.upstream_model);
        self.finish_reason = facts.finish_reason;
        if facts.service_tier.is_some() {
            self.service_tier.clone_from(&facts.service_tier);
        }
        self.inference_geo.clone_from(&facts.inference_geo);
        self.other_models.clone_from(&facts.other_models);
        self.redact_names();
        let output = facts.usage.and_then(|usage| usage.output_tokens);
        if output.unwrap_or(0) == 0 || !facts.terminal_seen {
            self.answer_tokens = estimate::answer_tokens(facts);
        }
        if let Some(usage) = facts.usage {
            self.usage = usage;
            self.usage_source = source;
        }
    }

    /// Some providers repeat the key that they were called with.
    fn redact_names(&mut self) {
        let names = [
            &mut self.response_model,
            &mut self.service_tier,
            &mut self.inference_geo,
        ];
        let others = self.other_models.iter_mut().map(|other| &mut other.model);
        for name in names.into_iter().flatten().chain(others) {
            self.deployment.redact_text(name);
        }
    }

    pub(crate) fn succeeded(&mut self) {
        self.ended = true;
        self.total_us = self.started.elapsed_us();
    }

    pub(crate) fn failed(&mut self, kind: FailureKind, message: &str) {
        self.end(AttemptEnd::Failed(kind), message);
    }

    /// Takes over the provider's retry hint, if there is one.
    pub(crate) fn retry_after(&mut self, retry_after_us: Option<u64>) {
        self.retry_after_us = retry_after_us;
    }

    /// Ends the attempt, unless it has ended already.
    pub(super) fn cut_short(&mut self, end: AttemptEnd, message: &str) {
        if !self.ended {
            self.end(end, message);
        }
    }

    fn end(&mut self, end: AttemptEnd, message: &str) {
        self.succeeded();
        self.failure = Some((end, message.to_owned()));
    }

    pub(super) fn is_under_way(&self) -> bool {
        !self.ended
    }

    /// What the events say of usage at other models.
    pub(super) fn other_models(&self) -> Vec<OtherModel<'_>> {
        let others = self.other_models.iter();
        let event = others.map(|other| OtherModel {
            model: &other.model,
            usage: other.usage,
        });
        event.collect()
    }

    pub(super) fn unpriced_reason(&self) -> Option<&str> {
        self.charge.unpriced_reason.as_deref()
    }

    pub(super) fn status(&self) -> Option<u16> {
        self.head.as_ref().map(|head| head.status)
    }
}
