//! The facts about one request, gathered along its way for its events.
//!
//! Stages write here and never read: the fields are visible to this room alone. What a stage needs it
//! is handed by the stage before, or finds in the [`RequestContext`].

use std::sync::{Arc, LazyLock};

use http::StatusCode;
use weir_dialects::{FinishReason, RequestFacts, ResponseFacts};
use weir_governance::clock::micros;
use weir_routing::FailureKind;
use weir_schemas::event::{AttemptFinished, Candidate, Event, RequestFinished};
use weir_schemas::{PicoUsd, UsageSource};

use crate::record::attempt::{AttemptEnd, AttemptRecord};
use crate::record::context::{RequestContext, shorten};
use crate::record::estimate::Prompt;
use crate::setup::directory::Deployment;

/// Status of a request whose client left before there was an answer, as nginx counts it.
const CLIENT_CLOSED_REQUEST: u16 = 499;
const CLIENT_GONE: &str = "the client left before the answer was complete";

/// A request's event, as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct RequestRecord {
    client: ClientRecord,
    request_bytes: u64,
    max_output_tokens: Option<u64>,
    /// What an estimate is based on; `None` if the call is not billed by tokens.
    prompt: Option<Prompt>,
    /// Limit or budget that refused the request, or came close.
    limit_verdict: Option<String>,
    route: Option<Route>,
    /// Time that it waited for its turn, in a budget and at a provider.
    queue_us: u64,
    pub(super) attempts: Attempts,
    pub(super) status: u16,
    pub(super) failure: Option<RequestFailure>,
    pub(super) ttft_us: Option<u64>,
    response_bytes: u64,
}

/// The client's address, and what its headers report.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientRecord {
    pub(crate) ip: String,
    pub(crate) request_id: Option<String>,
    pub(crate) trace_id: Option<String>,
    pub(crate) user_agent: Option<String>,
}

/// What ended a request early.
#[derive(Clone, Debug)]
pub(crate) struct RequestFailure {
    pub(crate) stage: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
}

/// How the deployment was chosen.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) strategy: &'static str,
    pub(crate) table_version: Option<u64>,
    pub(crate) seed: u64,
    /// Why every candidate was unavailable, if none was available.
    pub(crate) last_resort: Option<&'static str>,
    pub(crate) candidates: Vec<RouteCandidate>,
}

#[derive(Debug)]
pub(crate) struct RouteCandidate {
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) score: Option<f64>,
    pub(crate) propensity: f64,
}

/// The attempts of one request, in the order of their events.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    ended: Vec<AttemptRecord>,
    /// The latest one that the client may get its answer from.
    current: Option<Box<AttemptRecord>>,
    /// The one beside it, if its first token was late.
    hedge: Option<Box<AttemptRecord>>,
}

impl Attempts {
    pub(super) fn iter(&self) -> impl Iterator<Item = &AttemptRecord> {
        let under_way = self.current.iter().chain(&self.hedge);
        self.ended.iter().chain(under_way.map(|attempt| &**attempt))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut AttemptRecord> {
        let under_way = self.current.iter_mut().chain(&mut self.hedge);
        let ended = self.ended.iter_mut();
        ended.chain(under_way.map(|attempt| &mut **attempt))
    }

    /// The one whose answer the client was given.
    pub(super) fn delivered(&self) -> Option<&AttemptRecord> {
        self.iter().find(|attempt| attempt.delivered)
    }

    fn len(&self) -> u16 {
        u16::try_from(self.iter().count()).unwrap_or(u16::MAX)
    }
}

/// Where a hedge is recorded beside the attempt under way, should there be one.
#[derive(Debug)]
pub(crate) struct HedgeSlot<'a> {
    number: u16,
    slot: &'a mut Option<Box<AttemptRecord>>,
}

impl<'a> HedgeSlot<'a> {
    pub(crate) fn begin(self, attempt: AttemptRecord) -> &'a mut AttemptRecord {
        self.slot.insert(Box::new(attempt.numbered(self.number)))
    }
}

/// What a request came to when it ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestTotals {
    /// Whether the client got a whole answer.
    pub(crate) is_complete: bool,
    /// Tokens of the answer that the client got.
    pub(crate) tokens: u64,
    /// Tokens of all attempts.
    pub(crate) billed_tokens: u64,
    /// What all attempts cost, as far as that is known.
    pub(crate) billed: PicoUsd,
    /// The cost of one of them is not known.
    pub(crate) is_partly_unknown: bool,
}

impl RequestRecord {
    pub(crate) fn new(client: ClientRecord) -> Self {
        Self {
            client,
            ..Self::default()
        }
    }

    pub(crate) fn received(&mut self, bytes: usize) {
        self.request_bytes = bytes as u64;
    }

    pub(crate) fn inspected(&mut self, facts: &RequestFacts, prompt: Option<Prompt>) {
        self.max_output_tokens = facts.max_output_tokens;
        self.prompt = prompt;
    }

    pub(crate) fn admitted(&mut self, limit_verdict: Option<String>) {
        self.limit_verdict = limit_verdict;
    }

    pub(crate) fn routed(&mut self, route: Route) {
        self.route = Some(route);
    }

    /// It has waited so long for its turn, in a budget or at a provider's limits.
    pub(crate) fn queued(&mut self, queue_us: u64) {
        self.queue_us = self.queue_us.saturating_add(queue_us);
    }

    pub(crate) fn refused(
        &mut self,
        status: StatusCode,
        failure: RequestFailure,
        rule: Option<&str>,
    ) {
        self.status = status.as_u16();
        self.failure = Some(failure);
        if let Some(rule) = rule {
            self.limit_verdict = Some(rule.to_owned());
        }
    }

    /// An attempt begins. The one before it has failed.
    pub(crate) fn begin_attempt(
        &mut self,
        attempt: AttemptRecord,
    ) -> (&mut AttemptRecord, HedgeSlot<'_>) {
        let Attempts {
            ended,
            current,
            hedge,
        } = &mut self.attempts;
        let failed = current.take().into_iter().chain(hedge.take());
        ended.extend(failed.map(|attempt| *attempt));
        let number = u16::try_from(ended.len() + 1).unwrap_or(u16::MAX);
        let current = current.insert(Box::new(attempt.numbered(number)));
        let hedge = HedgeSlot {
            number: number.saturating_add(1),
            slot: hedge,
        };
        (current, hedge)
    }

    /// One of two attempts has its first token; the other is cancelled.
    pub(crate) fn won(&mut self, is_hedge: bool) {
        let Attempts {
            ended,
            current,
            hedge,
        } = &mut self.attempts;
        if is_hedge {
            std::mem::swap(current, hedge);
        }
        if let Some(mut loser) = hedge.take() {
            let message = "another attempt had the first token earlier";
            loser.cut_short(AttemptEnd::HedgeLost, message);
            ended.push(*loser);
        }
    }

    /// The answer of the current attempt goes to the client.
    pub(crate) fn committed(&mut self, status: StatusCode, has_client_left: bool) {
        self.status = match has_client_left {
            true => CLIENT_CLOSED_REQUEST,
            false => status.as_u16(),
        };
        if let Some(attempt) = self.current() {
            attempt.delivered = true;
        }
    }

    /// The attempt whose answer is relayed.
    pub(crate) fn current(&mut self) -> Option<&mut AttemptRecord> {
        self.attempts.current.as_deref_mut()
    }

    /// The client has the first token.
    pub(crate) fn first_token_arrived(&mut self, context: &RequestContext) {
        self.ttft_us = Some(context.arrived.elapsed_us());
    }

    /// Takes over what the answer reports about itself. `delivered_bytes` is what the client had got
    /// when it left, if it did.
    pub(crate) fn metered(&mut self, facts: &ResponseFacts, delivered_bytes: Option<u64>) {
        self.response_bytes = delivered_bytes.unwrap_or(facts.output_bytes);
        let source = match delivered_bytes {
            Some(_) => UsageSource::Drained,
            None => UsageSource::Reported,
        };
        if let Some(attempt) = self.current() {
            attempt.metered(facts, source);
        }
    }

    pub(crate) fn client_left(&mut self) {
        self.fail("relay", AttemptEnd::ClientGone.as_str(), CLIENT_GONE);
    }

    /// The current attempt was stopped, for its answer became longer than what was reserved for it.
    pub(crate) fn stopped(&mut self, message: &str) {
        let end = AttemptEnd::OverBudget;
        if let Some(attempt) = self.current() {
            attempt.cut_short(end, message);
        }
        self.fail("relay", end.as_str(), message);
    }

    /// The answer of the current attempt broke off.
    pub(crate) fn broke_off(&mut self, kind: FailureKind, message: &str) {
        if let Some(attempt) = self.current() {
            attempt.failed(kind, message);
        }
        self.fail("relay", kind.as_str(), message);
    }

    /// What ended the request first stays.
    fn fail(&mut self, stage: &'static str, kind: &'static str, message: &str) {
        self.failure.get_or_insert_with(|| RequestFailure {
            stage,
            kind,
            message: message.to_owned(),
        });
    }

    /// Ends an unfinished request where it stands.
    pub(crate) fn abandon(&mut self, end: AttemptEnd) {
        let message = match end {
            AttemptEnd::Internal => "the gateway failed on this request",
            AttemptEnd::Shutdown => "the gateway was stopped before the answer was complete",
            _ => CLIENT_GONE,
        };
        if self.status == 0 {
            self.status = CLIENT_CLOSED_REQUEST;
        }
        let mut attempts = self.attempts.iter_mut();
        // What a client leaves was done for it: leaving early must not be free. Of two attempts one
        // would have been its answer.
        let mut owed = end == AttemptEnd::ClientGone;
        for attempt in attempts.by_ref().filter(|attempt| attempt.is_under_way()) {
            attempt.delivered |= std::mem::take(&mut owed);
            attempt.cut_short(end, message);
        }
        drop(attempts);
        let stage = match self.attempts.len() {
            0 => "receive",
            _ => "relay",
        };
        self.fail(stage, end.as_str(), message);
    }

    /// The record of a shadow, which has an event of its own.
    pub(crate) fn of_shadow(&self, attempt: AttemptRecord) -> Self {
        Self {
            prompt: self.prompt.clone(),
            route: self.route.as_ref().map(|route| Route {
                candidates: Vec::new(),
                ..*route
            }),
            attempts: Attempts {
                current: Some(Box::new(attempt)),
                ..Attempts::default()
            },
            ..Self::default()
        }
    }

    /// Ends a shadow that is under way.
    pub(crate) fn shadow_stopped(&mut self) {
        if let Some(attempt) = self.current() {
            attempt.cut_short(AttemptEnd::Shutdown, "the gateway was stopped");
        }
    }

    /// Ends the record: estimates what was not reported, and prices it. `settle` is told the number of
    /// each attempt and the tokens that it took. `output_max` is the most that an answer can have been billed for.
    pub(crate) fn close(
        &mut self,
        output_max: Option<u64>,
        mut settle: impl FnMut(u16, u64),
    ) -> RequestTotals {
        let prompt = self.prompt.as_ref();
        let prompt = prompt.map(|prompt| LazyLock::new(|| prompt.tokens()));
        for attempt in self.attempts.iter_mut() {
            if let Some(prompt_tokens) = &prompt {
                attempt.estimate(|| **prompt_tokens, output_max);
            }
            attempt.price();
            settle(attempt.number, attempt.tokens());
        }
        let delivered = self.attempts.delivered();
        let costs = || self.attempts.iter().map(|attempt| attempt.charge.cost);
        RequestTotals {
            is_complete: self.failure.is_none(),
            tokens: delivered.map_or(0, AttemptRecord::tokens),
            billed_tokens: self
                .attempts
                .iter()
                .map(AttemptRecord::tokens)
                .fold(0, u64::saturating_add),
            billed: sum(costs().flatten()),
            is_partly_unknown: costs().any(|cost| cost.is_none()),
        }
    }

    /// What the client is charged: the attempt whose answer it got. Nothing if there was none.
    fn cost(&self) -> Option<PicoUsd> {
        let delivered = self.attempts.delivered();
        delivered.map_or(Some(PicoUsd(0)), |attempt| attempt.charge.cost)
    }

    /// What the other attempts cost, as far as that is known.
    fn waste(&self) -> PicoUsd {
        let others = self.attempts.iter().filter(|attempt| !attempt.delivered);
        sum(others.filter_map(|attempt| attempt.charge.cost))
    }

    /// The messages of failures, partly in the providers' words.
    pub(crate) fn messages_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let attempts = self.attempts.iter_mut();
        let of_attempts = attempts.filter_map(|it| it.failure.as_mut().map(|(_, text)| text));
        let of_request = self.failure.as_mut().map(|failure| &mut failure.message);
        of_attempts.chain(of_request)
    }

    /// Time from arrival until the first call was made, without waiting for a turn.
    pub(super) fn overhead_us(&self, context: &RequestContext) -> Option<u64> {
        let sent = self.attempts.iter().filter_map(|attempt| attempt.sent);
        let first = sent.map(|sent| sent.instant).min()?;
        let passed_us = micros(first.saturating_duration_since(context.arrived.instant));
        Some(passed_us.saturating_sub(self.queue_us))
    }

    /// The events of the finished request: one per attempt, its payload, then the request itself, which
    /// is so in no earlier batch than what belongs to it. The journal gives them their places.
    pub(crate) fn events<'a>(
        &'a self,
        context: &'a RequestContext,
        payload: Option<Event<'a>>,
    ) -> Vec<Event<'a>> {
        let mut events = self.attempt_events(context);
        events.extend(payload);
        events.push(Event::RequestFinished(Box::new(
            self.request_event(context),
        )));
        events
    }

    /// The events of the attempts alone.
    pub(crate) fn attempt_events<'a>(&'a self, context: &'a RequestContext) -> Vec<Event<'a>> {
        let mut events = Vec::with_capacity(usize::from(self.attempts.len()) + 2);
        let event =
            |attempt| Event::AttemptFinished(Box::new(self.attempt_event(context, attempt)));
        events.extend(self.attempts.iter().map(event));
        events
    }

    fn request_event<'a>(&'a self, context: &'a RequestContext) -> RequestFinished<'a> {
        let delivered = self.attempts.delivered();
        let deployment = delivered.map(|attempt| &*attempt.deployment);
        let finish_reason = delivered.and_then(|attempt| attempt.finish_reason);
        let usage_source = delivered.map_or(UsageSource::None, |attempt| attempt.usage_source);
        let (failure, route) = (self.failure.as_ref(), self.route.as_ref());
        let total_us = context.arrived.elapsed_us();
        let table_version = route.and_then(|route| route.table_version);
        let tried_route = route.filter(|_| self.attempts.len() > 0);
        RequestFinished {
            ts_us: context.arrived.unix_us.into(),
            request_id: context.id,
            client_request_id: self.client.request_id.as_deref().map(shorten),
            trace_id: self.client.trace_id.as_deref(),
            caller: context.caller(),
            client_ip: Some(&self.client.ip),
            user_agent: self.client.user_agent.as_deref().map(shorten),
            dialect: context.dialect,
            alias: context.alias(),
            streamed: context.streamed,
            request_bytes: self.request_bytes.into(),
            max_output_tokens: self.max_output_tokens.map(Into::into),
            status: self.status,
            stage: failure.map(|failure| failure.stage),
            error_kind: failure.map(|failure| failure.kind),
            error_message: failure.map(|failure| shorten(&failure.message)),
            provider: deployment.map(|deployment| deployment.provider.name.as_str()),
            deployment: deployment.map(|deployment| deployment.name.as_str()),
            model: deployment.map(|deployment| deployment.model.as_str()),
            response_model: delivered.and_then(|attempt| attempt.response_model.as_deref()),
            region: deployment.and_then(|deployment| deployment.provider.region.as_deref()),
            attempts: self.attempts.len(),
            finish_reason: finish_reason.map(FinishReason::as_str),
            response_bytes: self.response_bytes.into(),
            usage: delivered.map(|attempt| attempt.usage).unwrap_or_default(),
            usage_source: usage_source.as_str(),
            cost_pico_usd: self.cost(),
            waste_pico_usd: Some(self.waste()),
            price_version: delivered.and_then(|attempt| attempt.charge.price_version.as_deref()),
            queue_us: self.queue_us.into(),
            overhead_us: self.overhead_us(context).unwrap_or(total_us).into(),
            ttft_us: self.ttft_us.map(Into::into),
            total_us: total_us.into(),
            strategy: route.map(|route| route.strategy),
            table_version: table_version.map(Into::into),
            route_seed: route.map(|route| route.seed.into()),
            candidates: route.map(Route::candidates).unwrap_or_default(),
            cache_verdict: None,
            guard_verdict: None,
            limit_verdict: self.limit_verdict.as_deref().map(shorten),
            service_tier: delivered.and_then(|attempt| attempt.service_tier.as_deref()),
            last_resort: tried_route.and_then(|route| route.last_resort),
            inference_geo: delivered.and_then(|attempt| attempt.inference_geo.as_deref()),
            other_models: delivered
                .map(AttemptRecord::other_models)
                .unwrap_or_default(),
            unpriced_reason: delivered.and_then(AttemptRecord::unpriced_reason),
        }
    }

    fn attempt_event<'a>(
        &'a self,
        context: &'a RequestContext,
        attempt: &'a AttemptRecord,
    ) -> AttemptFinished<'a> {
        let deployment = &*attempt.deployment;
        let (head, failure) = (attempt.head.as_ref(), attempt.failure.as_ref());
        let connect_us = head.and_then(|head| head.connect_us);
        let table_version = self.route.as_ref().and_then(|route| route.table_version);
        AttemptFinished {
            ts_us: attempt.started.unix_us.into(),
            request_id: context.id,
            attempt: attempt.number,
            kind: attempt.kind,
            cause: attempt.cause,
            delay_us: attempt.delay_us.into(),
            caller: context.caller(),
            dialect: context.dialect,
            alias: context.alias(),
            streamed: context.streamed,
            provider: &deployment.provider.name,
            deployment: &deployment.name,
            model: &deployment.model,
            response_model: attempt.response_model.as_deref().map(shorten),
            region: deployment.provider.region.as_deref(),
            provider_key: deployment.key_name.as_deref(),
            status: attempt.status(),
            error_kind: failure.map(|(end, _)| end.as_str()),
            error_message: failure.map(|(_, message)| shorten(message)),
            retry_after_us: attempt.retry_after_us.map(Into::into),
            delivered: attempt.delivered,
            upstream_request_id: head
                .and_then(|head| head.upstream_request_id.as_deref().map(shorten)),
            finish_reason: attempt.finish_reason.map(FinishReason::as_str),
            connection_reused: head.is_some_and(|head| head.connect_us.is_none()),
            request_bytes: attempt.request_bytes.into(),
            response_bytes: attempt.response_bytes.into(),
            usage: attempt.usage,
            usage_source: attempt.usage_source.as_str(),
            cost_pico_usd: attempt.charge.cost,
            price_version: attempt.charge.price_version.as_deref(),
            connect_us: connect_us.map(Into::into),
            headers_us: attempt.headers_us.map(Into::into),
            ttft_us: attempt.ttft_us.map(Into::into),
            total_us: attempt.total_us.into(),
            strategy: self.route.as_ref().map(|route| route.strategy),
            table_version: table_version.map(Into::into),
            propensity: Some(attempt.propensity),
            service_tier: attempt.service_tier.as_deref(),
            inference_geo: attempt.inference_geo.as_deref(),
            other_models: attempt.other_models(),
            unpriced_reason: attempt.unpriced_reason(),
        }
    }
}

fn sum(costs: impl Iterator<Item = PicoUsd>) -> PicoUsd {
    PicoUsd(costs.fold(0, |sum, cost| sum.saturating_add(cost.0)))
}

impl Route {
    fn candidates<'a>(&'a self) -> Vec<Candidate<'a>> {
        let event = |candidate: &'a RouteCandidate| Candidate {
            target: &candidate.deployment.name,
            score: candidate.score,
            propensity: candidate.propensity,
        };
        self.candidates.iter().map(event).collect()
    }
}
