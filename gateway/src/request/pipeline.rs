//! A request's way through the gateway.
//!
//! [`forward`] is the whole of it: authenticate → receive → inspect → resolve → admit → attempt, which
//! routes too; [`relay`](crate::request::relay) carries the answer back, meters it and writes the
//! events. Each stage takes what the one before made. The record in the exchange collects facts for the
//! events; stages can only write to it.

use std::future::{Future as _, poll_fn};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, USER_AGENT};
use http::{Request, Response};
use hyper::body::Incoming;
use rand::RngCore as _;
use weir_dialects::{ClientApi, ClientRequest, RequestFacts};
use weir_governance::clock::{self, Moment};
use weir_governance::control::network::Network;
use weir_governance::control::policy::Subject;
use weir_governance::control::{Identity, KeyRefusal, LastUse};
use weir_limits::{Class, ProviderUse};
use weir_routing::{Alias, TargetSet};
use weir_schemas::RequestId;

use crate::record::attempt::AttemptEnd;
use crate::record::context::RequestContext;
use crate::record::estimate::{BYTES_PER_TOKEN_MEAN, Prompt};
use crate::record::labels::Labels;
use crate::record::trail::{ClientRecord, RequestRecord};
use crate::record::unauthenticated::KeyFault;
use crate::request::admission::Entrant;
use crate::request::affinity::Affinity;
use crate::request::attempt::{self, CommittedResponse, RoutedRequest};
use crate::request::drain::{self, ClientPresence, DetachOnDisconnect};
use crate::request::exchange::Exchange;
use crate::request::limit_headers::{CLAMPED, clamped_value, limit_headers};
use crate::request::refusal::Refusal;
use crate::request::relay::{self, ResponseBody};
use crate::request::request_body;
use crate::request::worker::Worker;
use crate::setup::config::GatewayConfig;
use crate::setup::directory::{Directory, nearest};

/// Answers one model call.
pub(crate) async fn answer(
    worker: Arc<Worker>,
    api: ClientApi,
    client: IpAddr,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let mut exchange = begin(worker.clone(), api, client, request.headers());
    if !drain::is_wanted(&worker.shared) {
        return call(exchange, api, client, request).await;
    }
    let presence = Arc::<ClientPresence>::default();
    exchange.client = Some(presence.clone());
    let call = call(exchange, api, client, request);
    DetachOnDisconnect::new(worker, presence, call).await
}

async fn call(
    mut exchange: Exchange,
    api: ClientApi,
    client: IpAddr,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let worker = exchange.worker.clone();
    let forwarded = {
        let mut forward = pin!(forward(&mut exchange, api, client, request));
        poll_fn(|cx| match worker.drain_end.is_reached() {
            true => Poll::Ready(Err(Refusal::stopped())),
            false => forward.as_mut().poll(cx),
        })
        .await
    };
    match forwarded {
        Ok(response) => relay::respond(exchange, response),
        // Dropped, the exchange writes its events.
        Err(_) if exchange.has_client_left() => Response::new(ResponseBody::Whole(None)),
        Err(refusal) => {
            if worker.drain_end.is_reached() {
                exchange.record.abandon(AttemptEnd::Shutdown);
            }
            relay::refuse(exchange, api, refusal).await
        }
    }
}

/// Takes a request to a provider, and its answer to the point from which it is relayed.
async fn forward(
    exchange: &mut Exchange,
    api: ClientApi,
    client: IpAddr,
    request: Request<Incoming>,
) -> Result<CommittedResponse, Refusal> {
    let worker = exchange.worker.clone();
    let shared = &worker.shared;
    let (head, body) = request.into_parts();

    let arrived = exchange.context.arrived;
    let identity = authenticate(&worker, client, &head.headers, arrived, true)?;
    exchange.context.identity = Some(identity.clone());
    // Where a key is used is worth knowing even if it is refused there.
    identity.note_use(LastUse {
        at_ms: exchange.context.arrived.unix_ms(),
        address: client,
    });
    may_call(&shared.config, &identity, client)?;

    shared.journal.admit().map_err(Refusal::journal_full)?;

    let body = request_body::receive(&shared.config, &head.headers, body).await?;
    exchange.record.received(body.len());
    let request_id = exchange.context.id;
    exchange.payload = shared.payloads.begin(&identity, request_id, api, &body);

    let facts = weir_dialects::inspect(api, &body).map_err(|bad| Refusal::bad_request(&bad))?;
    note_facts(exchange, api, &body, &facts);

    let directory = shared.routing.directory();
    let alias = resolve(&directory, &identity, &facts.model)?;
    let own_keys = &identity.policy().provider_keys;
    let with_own_keys = directory
        .with_keys_of(alias, own_keys)
        .map_err(|missing| Refusal::provider_key_missing(&identity, missing))?;
    let alias = with_own_keys.as_ref().unwrap_or(alias);

    let class = class(&identity, &head.headers);
    let (denied, output_limit) =
        admit(exchange, (&directory, alias), api, &identity, class, &facts).await?;

    let request_id = exchange.context.id.to_string();
    let request = ClientRequest {
        api,
        headers: &head.headers,
        query: head.uri.query(),
        body: &body,
        facts: &facts,
        output_limit,
        request_id: &request_id,
        now_s: exchange.context.arrived.unix_ms() / 1000,
    };
    let request = RoutedRequest {
        affinity: Affinity::of(directory.habits(alias), &request, &identity),
        request,
        arrived: exchange.context.arrived,
        denied,
        client: exchange.client.clone(),
        provider_use: provider_use(&identity, class, &facts),
    };
    attempt::attempt(exchange, &directory, alias, &request).await
}

fn begin(worker: Arc<Worker>, api: ClientApi, client: IpAddr, headers: &HeaderMap) -> Exchange {
    let arrived = Moment::now();
    let labels = Labels::from_headers(headers);
    let context = RequestContext::new(new_request_id(arrived), arrived, api.as_str(), labels);
    let record = RequestRecord::new(ClientRecord {
        ip: client.to_string(),
        request_id: text(headers, "x-request-id"),
        trace_id: headers
            .get("traceparent")
            .and_then(|value| trace_id(value.to_str().ok()?)),
        user_agent: text(headers, USER_AGENT.as_str()),
    });
    Exchange::begin(worker, context, record)
}

pub(crate) fn new_request_id(now: Moment) -> RequestId {
    let mut random = [0; 10];
    rand::rng().fill_bytes(&mut random);
    RequestId::new(now.unix_ms(), random)
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}

/// The trace id of a W3C `traceparent`: `version-traceid-parentid-flags`.
fn trace_id(traceparent: &str) -> Option<String> {
    let id = traceparent.split('-').nth(1)?;
    let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| id.to_ascii_lowercase())
}

/// Whose key it is. A call without a valid one has a row of its own if it `may_have_row` and is among
/// the first of its minute.
pub(crate) fn authenticate(
    worker: &Worker,
    client: IpAddr,
    headers: &HeaderMap,
    now: Moment,
    may_have_row: bool,
) -> Result<Identity, Refusal> {
    let control = &worker.shared.control;
    let mut refused: Option<KeyRefusal> = None;
    for presented in presented_keys(headers) {
        match control.authenticate(presented, now.unix_ms()) {
            Ok(identity) => return Ok(identity),
            // Of several, the one that is Weir's says why it is refused.
            Err(refusal) if refused.is_none_or(|before| before == KeyRefusal::Malformed) => {
                refused = Some(refusal);
            }
            Err(_) => {}
        }
    }
    let fault = refused.map_or(KeyFault::Missing, KeyFault::Key);
    let verdict = worker.judge_unauthenticated(client, fault, now, may_have_row);
    Err(Refusal::unauthenticated(refused, verdict))
}

/// Whether the key may be used from there, and at this gateway.
pub(crate) fn may_call(
    config: &GatewayConfig,
    identity: &Identity,
    client: IpAddr,
) -> Result<(), Refusal> {
    let holds = |networks: &[Network]| {
        networks.is_empty() || networks.iter().any(|network| network.contains(client))
    };
    let contact = identity.policy().contact.as_deref();
    if !holds(identity.networks()) {
        let list = format!("key {}", identity.key_id());
        return Err(Refusal::address_not_allowed(client, &list, None, contact));
    }
    for access in &identity.policy().access {
        if !holds(&access.networks) {
            let list = format!("the access rule \"{}\"", access.id);
            let contact = access.contact.as_deref().or(contact);
            let rule = Some(access.id.as_str());
            return Err(Refusal::address_not_allowed(client, &list, rule, contact));
        }
    }
    match (&config.environment, identity.environment()) {
        (Some(ours), Some(of_key)) if ours != of_key => {
            Err(Refusal::wrong_environment(identity, ours))
        }
        _ => Ok(()),
    }
}

/// The keys as the SDKs send them: OpenAI's, Anthropic's, Azure's and Google's. Some clients send a key of
/// a provider beside the gateway's (Claude Code that is logged in, programs with a default header).
fn presented_keys(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let bearers = headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let bare = ["x-api-key", "api-key", "x-goog-api-key"]
        .into_iter()
        .filter_map(|name| headers.get(name)?.to_str().ok().map(str::trim));
    bearers.chain(bare).filter(|key| !key.is_empty())
}

/// Takes what the request needs from the limits and budgets that hold for it; the exchange settles it.
/// Returns the targets that it must not go to, and the limit on its answer.
async fn admit(
    exchange: &mut Exchange,
    (directory, alias): (&Directory, &Alias),
    api: ClientApi,
    identity: &Identity,
    class: Class,
    facts: &RequestFacts,
) -> Result<(TargetSet, Option<u64>), Refusal> {
    exchange.context.labels.add_body(facts);
    let customer = exchange.context.labels.customer.as_deref();
    let subject = Subject {
        caller: identity.caller(facts.user.as_deref(), customer),
        model: &facts.model,
    };
    let worker = exchange.worker.clone();
    let entrant = Entrant {
        identity,
        subject: &subject,
        class,
        api,
        facts,
        directory,
        alias,
        config: &worker.shared.config,
    };
    let entered = entrant.enter().await?;
    let (policy, now_us) = (identity.policy(), Moment::now().unix_us);
    let (denied, output_tokens_max) = (entered.denied(), entered.output_tokens_max());
    let admitted = entered.admitted;
    exchange.limit_headers =
        limit_headers(&admitted.status, policy, &subject, api.family(), now_us);
    exchange.permit = Some(admitted.permit);
    exchange.output_tokens_max = output_tokens_max;
    if let Some(limit) = admitted.output_limit {
        exchange.limit_headers.insert(CLAMPED, clamped_value(limit));
    }
    exchange.record.admitted(admitted.verdict);
    exchange.record.queued(clock::micros(entered.waited));
    Ok((denied, admitted.output_limit))
}

/// What the request takes of a provider's limits, and of whose share.
fn provider_use(identity: &Identity, class: Class, facts: &RequestFacts) -> ProviderUse {
    ProviderUse {
        group: group(identity),
        class,
        tokens: facts.prompt_bytes / BYTES_PER_TOKEN_MEAN + facts.max_output_tokens.unwrap_or(0),
    }
}

/// A request takes of its team's share, or of its key's own. To hash two short names costs less than
/// to keep a number with every key.
fn group(identity: &Identity) -> u64 {
    let mut hasher = DefaultHasher::new();
    match identity.team() {
        Some(team) => (identity.organisation(), team).hash(&mut hasher),
        None => identity.key_id().hash(&mut hasher),
    }
    hasher.finish()
}

/// Batch requests are marked by a header, or by their key.
fn class(identity: &Identity, headers: &HeaderMap) -> Class {
    match headers.get("x-weir-priority") {
        Some(priority) if priority == "batch" => Class::Batch,
        _ => identity.class(),
    }
}

fn note_facts(exchange: &mut Exchange, api: ClientApi, body: &Bytes, facts: &RequestFacts) {
    let context = &mut exchange.context;
    context.model = Some(facts.model.clone());
    context.streamed = facts.stream;
    context.user.clone_from(&facts.user);
    // Counting tokens is free.
    let prompt = (api != ClientApi::CountTokens).then(|| Prompt::of(body, facts));
    exchange.record.inspected(facts, prompt);
}

/// Finds the alias that the client asks for, if its key may use it.
pub(crate) fn resolve<'a>(
    directory: &'a Directory,
    identity: &Identity,
    model: &str,
) -> Result<&'a Alias, Refusal> {
    let alias = directory.alias(model).ok_or_else(|| {
        let usable = directory
            .names()
            .filter(|name| identity.may_use(name).is_ok());
        Refusal::model_not_found(model, &nearest(model, usable))
    })?;
    identity
        .may_use(model)
        .map_err(|denied| Refusal::model_not_allowed(model, identity, denied))?;
    Ok(alias)
}
