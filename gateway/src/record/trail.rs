//! The facts about one request, gathered along its way for its events.
//!
//! Stages write here and never read: what a stage needs it is handed by the stage before.

use std::sync::Arc;

use weir_dialects::{FinishReason, ResponseFacts};
use weir_limits::ProviderPermit;
use weir_schemas::event::{AttemptFinished, Caller, Candidate, Event, RequestFinished};
use weir_schemas::{RequestId, StreamId, Usage, UsageSource};

use crate::record::charge::Charge;
use crate::record::estimate::{self, Prompt};
use crate::record::labels::Labels;
use crate::setup::directory::Deployment;
use weir_governance::clock::{Moment, micros};
use weir_governance::control::Identity;
use weir_governance::control::policy::Subject;

/// Longest text of foreign origin that an event carries; the rest is cut.
const TEXT_BYTES_MAX: usize = 512;

/// What becomes of a request, and of an attempt, whose client left.
pub(crate) const CLIENT_GONE: &str = "client_gone";
/// What becomes of the attempt whose first token came second.
pub(crate) const LOST: &str = "hedge_lost";

/// The kind of a try that was not made: its place is reserved.
const SPARE: &str = "";

/// What is known about a request so far.
#[derive(Debug)]
pub(crate) struct Trail {
    pub(crate) request_id: RequestId,
    pub(crate) arrived: Moment,
    pub(crate) dialect: &'static str,
    /// Address of the client, as text; one per connection.
    pub(crate) client_ip: Arc<str>,
    pub(crate) client_request_id: Option<String>,
    pub(crate) trace_id: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) identity: Option<Identity>,
    /// User that the application named in the request; the key's own goes before.
    pub(crate) user: Option<String>,
    /// Customer, feature and tags that the application named.
    pub(crate) labels: Labels,
    pub(crate) alias: Option<String>,
    pub(crate) streamed: bool,
    pub(crate) request_bytes: u64,
    pub(crate) max_output_tokens: Option<u64>,
    /// What an estimate goes by; `None` if the call is not billed by tokens.
    pub(crate) prompt: Option<Prompt>,
    pub(crate) status: u16,
    pub(crate) failure: Option<Failure>,
    pub(crate) route: Option<Route>,
    pub(crate) attempts: Vec<AttemptTrail>,
    pub(crate) ttft_us: Option<u64>,
    pub(crate) response_bytes: u64,
    /// Limit or budget that refused the request, or came close.
    pub(crate) limit_verdict: Option<String>,
    /// Time that it waited for its turn at a provider.
    pub(crate) queue_us: u64,
}

/// What ended a request early.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
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
    /// What ailed the candidates, if none was available.
    pub(crate) last_resort: Option<&'static str>,
    pub(crate) candidates: Vec<RouteCandidate>,
}

#[derive(Debug)]
pub(crate) struct RouteCandidate {
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) score: Option<f64>,
    pub(crate) propensity: f64,
}

/// What is known about one try.
#[derive(Debug)]
pub(crate) struct AttemptTrail {
    /// Number within the request, from 1; 0 for a copy.
    number: u32,
    pub(crate) started: Moment,
    /// When the call was made.
    sent: Option<Moment>,
    pub(crate) kind: &'static str,
    pub(crate) cause: Option<&'static str>,
    pub(crate) delay_us: u64,
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) propensity: Option<f64>,
    /// Its turn at the provider's limits.
    pub(crate) taken: Option<ProviderPermit>,
    pub(crate) status: Option<u16>,
    pub(crate) failure: Option<(&'static str, String)>,
    pub(crate) retry_after_us: Option<u64>,
    pub(crate) delivered: bool,
    /// Whether it is over; one that is not when its request ends was cut short.
    pub(crate) ended: bool,
    pub(crate) connect_us: Option<u64>,
    pub(crate) headers_us: Option<u64>,
    pub(crate) ttft_us: Option<u64>,
    pub(crate) total_us: u64,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) upstream_request_id: Option<String>,
    pub(crate) response_model: Option<String>,
    pub(crate) finish_reason: Option<&'static str>,
    /// Service tier that the provider says it served.
    pub(crate) service_tier: Option<String>,
    pub(crate) usage: Usage,
    pub(crate) usage_source: UsageSource,
    /// Tokens of the answer as far as it was read, where the provider may not have said them all.
    pub(crate) answer_tokens: u64,
    pub(crate) charge: Charge,
}

impl AttemptTrail {
    pub(crate) fn begin(
        deployment: Arc<Deployment>,
        kind: &'static str,
        cause: Option<&'static str>,
        delay_us: u64,
    ) -> Self {
        Self {
            cause,
            delay_us,
            ..Self::begin_at(Moment::now(), deployment, kind)
        }
    }

    fn begin_at(started: Moment, deployment: Arc<Deployment>, kind: &'static str) -> Self {
        Self {
            number: 0,
            started,
            sent: None,
            kind,
            cause: None,
            delay_us: 0,
            deployment,
            propensity: None,
            taken: None,
            status: None,
            failure: None,
            retry_after_us: None,
            delivered: false,
            ended: false,
            connect_us: None,
            headers_us: None,
            ttft_us: None,
            total_us: 0,
            request_bytes: 0,
            response_bytes: 0,
            upstream_request_id: None,
            response_model: None,
            finish_reason: None,
            service_tier: None,
            usage: Usage::default(),
            usage_source: UsageSource::None,
            answer_tokens: 0,
            charge: Charge::default(),
        }
    }

    /// Keeps the number that was reserved for it.
    pub(crate) fn take_off(&mut self, attempt: Self) {
        let number = self.number;
        *self = Self { number, ..attempt };
    }

    pub(crate) fn sent(&mut self, request_bytes: u64) {
        self.sent = Some(Moment::now());
        self.request_bytes = request_bytes;
    }

    /// Takes over what the answer said about itself.
    pub(crate) fn meter(&mut self, facts: &ResponseFacts) {
        self.response_model.clone_from(&facts.upstream_model);
        self.finish_reason = facts.finish_reason.map(FinishReason::as_str);
        if facts.service_tier.is_some() {
            self.service_tier.clone_from(&facts.service_tier);
        }
        if facts.usage.is_none() || !facts.terminal_seen {
            self.answer_tokens = estimate::answer_tokens(facts);
        }
        if let Some(usage) = facts.usage {
            self.usage = usage;
            self.usage_source = UsageSource::Reported;
        }
    }

    pub(crate) fn was_sent(&self) -> bool {
        self.sent.is_some()
    }

    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.total_us = self.started.elapsed_us();
    }

    pub(crate) fn fail(&mut self, kind: &'static str, message: String) {
        self.end();
        self.failure = Some((kind, message));
    }
}

impl Trail {
    pub(crate) fn begin(request_id: RequestId, arrived: Moment, client_ip: Arc<str>) -> Self {
        Self {
            request_id,
            arrived,
            dialect: "",
            client_ip,
            client_request_id: None,
            trace_id: None,
            user_agent: None,
            identity: None,
            user: None,
            labels: Labels::default(),
            alias: None,
            streamed: false,
            request_bytes: 0,
            max_output_tokens: None,
            prompt: None,
            status: 0,
            failure: None,
            route: None,
            attempts: Vec::new(),
            ttft_us: None,
            response_bytes: 0,
            limit_verdict: None,
            queue_us: 0,
        }
    }

    /// A try begins. The last one in the list is the one that may answer.
    pub(crate) fn begin_attempt(&mut self, attempt: AttemptTrail) -> &mut AttemptTrail {
        self.drop_spare();
        let number = u32::try_from(self.attempts.len() + 1).unwrap_or(u32::MAX);
        self.attempts.push(AttemptTrail { number, ..attempt });
        let last = self.attempts.len() - 1;
        &mut self.attempts[last]
    }

    /// A try begins that another may join. That one's place is reserved, so that both can be noted
    /// at a time.
    pub(crate) fn begin_attempt_with_spare(
        &mut self,
        attempt: AttemptTrail,
    ) -> (&mut AttemptTrail, &mut AttemptTrail) {
        let started = attempt.started;
        let spare = AttemptTrail::begin_at(started, attempt.deployment.clone(), SPARE);
        let begun = self.begin_attempt(attempt).number;
        self.attempts.push(AttemptTrail {
            number: begun + 1,
            ..spare
        });
        let (before, spare) = self.attempts.split_at_mut(begun as usize);
        (&mut before[begun as usize - 1], &mut spare[0])
    }

    /// Gives a reserved place back that was not needed.
    pub(crate) fn drop_spare(&mut self) {
        self.attempts.retain(|attempt| attempt.kind != SPARE);
    }

    /// Of the two last tries, the first one has answered.
    pub(crate) fn answer_with_first_of_two(&mut self) {
        if let Some(before_last) = self.attempts.len().checked_sub(2) {
            self.attempts.swap(before_last, before_last + 1);
        }
    }

    /// Of the two last tries, the first one was not needed any more, unless it has failed already.
    pub(crate) fn lose_attempt_before_last(&mut self, kind: &'static str) {
        let attempt = self.attempts.iter_mut().rev().nth(1);
        if let Some(attempt) = attempt.filter(|attempt| !attempt.ended) {
            attempt.fail(kind, "another attempt had the first token earlier".into());
        }
    }

    /// The same caller and request, for a copy that has an event of its own.
    pub(crate) fn of_copy(&self, attempt: AttemptTrail) -> Self {
        Self {
            dialect: self.dialect,
            identity: self.identity.clone(),
            user: self.user.clone(),
            labels: self.labels.clone(),
            alias: self.alias.clone(),
            streamed: self.streamed,
            prompt: self.prompt.clone(),
            route: self.route.as_ref().map(|route| Route {
                candidates: Vec::new(),
                ..*route
            }),
            attempts: vec![attempt],
            ..Self::begin(self.request_id, self.arrived, self.client_ip.clone())
        }
    }

    /// Time from arrival until the first call was made, without waiting for a turn.
    pub(crate) fn overhead_us(&self) -> Option<u64> {
        let sent = self.attempts.iter().filter_map(|attempt| attempt.sent);
        let first = sent.map(|sent| sent.instant).min()?;
        let passed_us = micros(first.saturating_duration_since(self.arrived.instant));
        Some(passed_us.saturating_sub(self.queue_us))
    }

    /// The events of the finished request: one per try, then the request itself. The journal gives
    /// them their places.
    pub(crate) fn events(&self) -> Vec<Event<'_>> {
        let mut events = Vec::with_capacity(self.attempts.len() + 1);
        events.extend(self.attempt_events());
        events.push(Event::RequestFinished(Box::new(self.request_event())));
        events
    }

    /// The events of the tries alone.
    pub(crate) fn attempt_events(&self) -> impl Iterator<Item = Event<'_>> {
        let event = |attempt| Event::AttemptFinished(Box::new(self.attempt_event(attempt)));
        self.attempts.iter().map(event)
    }

    /// What rules go by for this request; `None` before it is known whose it is.
    pub(crate) fn subject(&self) -> Option<Subject<'_>> {
        let model = self.alias.as_deref().unwrap_or_default();
        let customer = self.labels.customer.as_deref();
        let identity = self.identity.as_ref()?;
        Some(identity.subject(model, self.user.as_deref(), customer))
    }

    /// What is said of failures, partly in the providers' words.
    pub(crate) fn messages_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let tries = self.attempts.iter_mut();
        let of_tries = tries.filter_map(|attempt| attempt.failure.as_mut().map(|(_, said)| said));
        let of_request = self.failure.as_mut().map(|failure| &mut failure.message);
        of_tries.chain(of_request)
    }

    /// Model or alias that the client asked for, as events carry it.
    pub(crate) fn alias_shortened(&self) -> Option<&str> {
        self.alias.as_deref().map(shorten)
    }

    pub(crate) fn caller(&self) -> Caller<'_> {
        let Some(identity) = &self.identity else {
            return Caller {
                user: self.user.as_deref(),
                ..Caller::default()
            };
        };
        Caller {
            organisation: identity.organisation(),
            team: identity.team(),
            project: identity.project(),
            user: identity.user().or(self.user.as_deref()),
            key_id: Some(identity.key_id()),
            environment: identity.environment(),
            tier: identity.tier(),
            customer: self.labels.customer.as_deref(),
            feature: self.labels.feature.as_deref(),
            tags: self.labels.tags(),
        }
    }

    fn request_event(&self) -> RequestFinished<'_> {
        let delivered = self.attempts.iter().rev().find(|attempt| attempt.delivered);
        let deployment = delivered.map(|attempt| &*attempt.deployment);
        let failure = self.failure.as_ref();
        let total_us = self.arrived.elapsed_us();
        let tried_route = self.route.as_ref().filter(|_| !self.attempts.is_empty());
        RequestFinished {
            stream: UNSTAMPED,
            seq: 0,
            ts_us: self.arrived.unix_us,
            request_id: self.request_id,
            client_request_id: self.client_request_id.as_deref().map(shorten),
            trace_id: self.trace_id.as_deref(),
            caller: self.caller(),
            client_ip: Some(&self.client_ip),
            user_agent: self.user_agent.as_deref().map(shorten),
            dialect: self.dialect,
            alias: self.alias_shortened(),
            streamed: self.streamed,
            request_bytes: self.request_bytes,
            max_output_tokens: self.max_output_tokens,
            status: u32::from(self.status),
            stage: failure.map(|failure| failure.stage),
            error_kind: failure.map(|failure| failure.kind),
            error_message: failure.map(|failure| shorten(&failure.message)),
            provider: deployment.map(|deployment| deployment.provider.name.as_str()),
            deployment: deployment.map(|deployment| deployment.name.as_str()),
            model: deployment.map(|deployment| deployment.model.as_str()),
            response_model: delivered.and_then(|attempt| attempt.response_model.as_deref()),
            region: deployment.and_then(|deployment| deployment.provider.region.as_deref()),
            attempts: u32::try_from(self.attempts.len()).unwrap_or(u32::MAX),
            finish_reason: delivered.and_then(|attempt| attempt.finish_reason),
            response_bytes: self.response_bytes,
            usage: delivered.map(|attempt| attempt.usage).unwrap_or_default(),
            usage_source: delivered
                .map_or(UsageSource::None, |a| a.usage_source)
                .as_str(),
            cost_pico_usd: self.cost(),
            waste_pico_usd: Some(self.waste()),
            price_version: delivered.and_then(|attempt| attempt.charge.price_version.as_deref()),
            queue_us: self.queue_us,
            overhead_us: self.overhead_us().unwrap_or(total_us),
            ttft_us: self.ttft_us,
            total_us,
            strategy: self.route.as_ref().map(|route| route.strategy),
            table_version: self.route.as_ref().and_then(|route| route.table_version),
            route_seed: self.route.as_ref().map(|route| route.seed),
            candidates: self
                .route
                .as_ref()
                .map(Route::candidates)
                .unwrap_or_default(),
            cache_verdict: None,
            guard_verdict: None,
            limit_verdict: self.limit_verdict.as_deref().map(shorten),
            service_tier: delivered.and_then(|attempt| attempt.service_tier.as_deref()),
            last_resort: tried_route.and_then(|route| route.last_resort),
        }
    }

    fn attempt_event<'a>(&'a self, attempt: &'a AttemptTrail) -> AttemptFinished<'a> {
        let deployment = &*attempt.deployment;
        AttemptFinished {
            stream: UNSTAMPED,
            seq: 0,
            ts_us: attempt.started.unix_us,
            request_id: self.request_id,
            attempt: attempt.number,
            kind: attempt.kind,
            cause: attempt.cause,
            delay_us: attempt.delay_us,
            caller: self.caller(),
            dialect: self.dialect,
            alias: self.alias_shortened(),
            streamed: self.streamed,
            provider: &deployment.provider.name,
            deployment: &deployment.name,
            model: &deployment.model,
            response_model: attempt.response_model.as_deref().map(shorten),
            region: deployment.provider.region.as_deref(),
            provider_key: deployment.key_name.as_deref(),
            status: attempt.status.map(u32::from),
            error_kind: attempt.failure.as_ref().map(|(kind, _)| *kind),
            error_message: attempt
                .failure
                .as_ref()
                .map(|(_, message)| shorten(message)),
            retry_after_us: attempt.retry_after_us,
            delivered: attempt.delivered,
            upstream_request_id: attempt.upstream_request_id.as_deref().map(shorten),
            finish_reason: attempt.finish_reason,
            connection_reused: attempt.headers_us.is_some() && attempt.connect_us.is_none(),
            request_bytes: attempt.request_bytes,
            response_bytes: attempt.response_bytes,
            usage: attempt.usage,
            usage_source: attempt.usage_source.as_str(),
            cost_pico_usd: attempt.charge.cost,
            price_version: attempt.charge.price_version.as_deref(),
            connect_us: attempt.connect_us,
            headers_us: attempt.headers_us,
            ttft_us: attempt.ttft_us,
            total_us: attempt.total_us,
            strategy: self.route.as_ref().map(|route| route.strategy),
            table_version: self.route.as_ref().and_then(|route| route.table_version),
            propensity: attempt.propensity,
            service_tier: attempt.service_tier.as_deref(),
        }
    }
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

/// Stands where the journal will write the stream.
pub(crate) const UNSTAMPED: StreamId = StreamId::from_bytes([0; 16]);

/// Cuts a text at a character's border.
fn shorten(text: &str) -> &str {
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}
