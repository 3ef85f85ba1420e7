//! Events as rows of the tables.
//!
//! The structs mirror the tables of `schemas/clickhouse`, column for column; the functions are the
//! whole of what happens between an event and its row. Text points into the event's bytes.

use clickhouse::Row;
use ring::digest::{Context, SHA256};
use serde::Serialize;
use uuid::Uuid;
use weir_schemas::event::{
    AttemptFinished, ControlChanged, Correction, DeploymentStateChanged, EventsDropped,
    PayloadCaptured, RequestFinished, RoutingTableAdopted, StreamClosed, StreamOpened,
};
use weir_schemas::{PicoUsd, Salt};

use crate::audit::to_hex;

/// One row of `weir.requests`.
#[derive(Clone, Debug, Row, Serialize)]
pub(crate) struct RequestRow<'a> {
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) stream: Uuid,
    pub(crate) seq: u64,
    pub(crate) ts: i64,
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) request_id: Uuid,
    pub(crate) client_request_id: &'a str,
    pub(crate) trace_id: &'a str,
    pub(crate) organisation: &'a str,
    pub(crate) team: &'a str,
    pub(crate) project: &'a str,
    pub(crate) user: &'a str,
    pub(crate) key_id: &'a str,
    pub(crate) environment: &'a str,
    pub(crate) tier: &'a str,
    pub(crate) customer: &'a str,
    pub(crate) feature: &'a str,
    pub(crate) tags: Vec<(&'a str, &'a str)>,
    pub(crate) client_ip: &'a str,
    pub(crate) user_agent: &'a str,
    pub(crate) dialect: &'a str,
    pub(crate) alias: &'a str,
    pub(crate) streamed: bool,
    pub(crate) request_bytes: u64,
    pub(crate) max_output_tokens: Option<u64>,
    pub(crate) status: u16,
    pub(crate) stage: &'a str,
    pub(crate) error_kind: &'a str,
    pub(crate) error_message: &'a str,
    pub(crate) provider: &'a str,
    pub(crate) deployment: &'a str,
    pub(crate) model: &'a str,
    pub(crate) response_model: &'a str,
    pub(crate) region: &'a str,
    pub(crate) attempts: u16,
    pub(crate) finish_reason: &'a str,
    pub(crate) response_bytes: u64,
    pub(crate) input_tokens: Option<u64>,
    pub(crate) cached_input_tokens: Option<u64>,
    pub(crate) cache_write_5m_tokens: Option<u64>,
    pub(crate) cache_write_1h_tokens: Option<u64>,
    pub(crate) audio_input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) reasoning_tokens: Option<u64>,
    pub(crate) audio_output_tokens: Option<u64>,
    pub(crate) usage_source: &'a str,
    pub(crate) cost_usd: Option<i128>,
    pub(crate) waste_usd: Option<i128>,
    pub(crate) price_version: &'a str,
    pub(crate) queue_us: u64,
    pub(crate) overhead_us: u64,
    pub(crate) ttft_us: Option<u64>,
    pub(crate) total_us: u64,
    pub(crate) strategy: &'a str,
    pub(crate) table_version: Option<u64>,
    pub(crate) route_seed: Option<u64>,
    pub(crate) candidates: Vec<(&'a str, Option<f32>, f32)>,
    pub(crate) cache_verdict: &'a str,
    pub(crate) guard_verdict: &'a str,
    pub(crate) limit_verdict: &'a str,
    pub(crate) service_tier: &'a str,
    pub(crate) last_resort: &'a str,
}

/// One row of `weir.attempts`.
#[derive(Clone, Debug, Row, Serialize)]
pub(crate) struct AttemptRow<'a> {
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) stream: Uuid,
    pub(crate) seq: u64,
    pub(crate) ts: i64,
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) request_id: Uuid,
    pub(crate) attempt: u16,
    pub(crate) kind: &'a str,
    pub(crate) cause: &'a str,
    pub(crate) delay_us: u64,
    pub(crate) organisation: &'a str,
    pub(crate) team: &'a str,
    pub(crate) project: &'a str,
    pub(crate) user: &'a str,
    pub(crate) key_id: &'a str,
    pub(crate) environment: &'a str,
    pub(crate) tier: &'a str,
    pub(crate) customer: &'a str,
    pub(crate) feature: &'a str,
    pub(crate) tags: Vec<(&'a str, &'a str)>,
    pub(crate) dialect: &'a str,
    pub(crate) alias: &'a str,
    pub(crate) streamed: bool,
    pub(crate) provider: &'a str,
    pub(crate) deployment: &'a str,
    pub(crate) model: &'a str,
    pub(crate) response_model: &'a str,
    pub(crate) region: &'a str,
    pub(crate) provider_key: &'a str,
    pub(crate) status: Option<u16>,
    pub(crate) error_kind: &'a str,
    pub(crate) error_message: &'a str,
    pub(crate) retry_after_us: Option<u64>,
    pub(crate) delivered: bool,
    pub(crate) upstream_request_id: &'a str,
    pub(crate) finish_reason: &'a str,
    pub(crate) connection_reused: bool,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) input_tokens: Option<u64>,
    pub(crate) cached_input_tokens: Option<u64>,
    pub(crate) cache_write_5m_tokens: Option<u64>,
    pub(crate) cache_write_1h_tokens: Option<u64>,
    pub(crate) audio_input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) reasoning_tokens: Option<u64>,
    pub(crate) audio_output_tokens: Option<u64>,
    pub(crate) usage_source: &'a str,
    pub(crate) cost_usd: Option<i128>,
    pub(crate) price_version: &'a str,
    pub(crate) connect_us: Option<u64>,
    pub(crate) headers_us: Option<u64>,
    pub(crate) ttft_us: Option<u64>,
    pub(crate) total_us: u64,
    pub(crate) strategy: &'a str,
    pub(crate) table_version: Option<u64>,
    pub(crate) propensity: Option<f32>,
    pub(crate) service_tier: &'a str,
}

/// One row of `weir.control_changes`.
#[derive(Clone, Debug, Row, Serialize)]
pub(crate) struct ControlRow<'a> {
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) stream: Uuid,
    pub(crate) seq: u64,
    pub(crate) ts: i64,
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) change_id: Uuid,
    pub(crate) actor: &'a str,
    pub(crate) action: &'a str,
    pub(crate) object_kind: &'a str,
    pub(crate) object_id: &'a str,
    pub(crate) before: &'a str,
    pub(crate) after: &'a str,
}

/// One row of `weir.streams`.
#[derive(Clone, Debug, Row, Serialize)]
pub(crate) struct StreamRow<'a> {
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) stream: Uuid,
    pub(crate) seq: u64,
    pub(crate) ts: i64,
    pub(crate) event: &'a str,
    pub(crate) instance: &'a str,
    pub(crate) process: &'a str,
    pub(crate) shard: Option<u32>,
    pub(crate) version: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) torn_bytes: Option<u64>,
    pub(crate) events: Option<u64>,
    pub(crate) since: Option<i64>,
}

/// One row of `weir.dead_letters`.
#[derive(Clone, Debug, Row, Serialize)]
pub(crate) struct DeadLetterRow<'a> {
    pub(crate) ts: i64,
    pub(crate) source: &'a str,
    pub(crate) location: &'a str,
    pub(crate) position: u64,
    pub(crate) kind: &'a str,
    #[serde(with = "clickhouse::serde::uuid::option")]
    pub(crate) stream: Option<Uuid>,
    pub(crate) seq: Option<u64>,
    pub(crate) reason: &'a str,
    #[serde(with = "serde_bytes")]
    pub(crate) payload: &'a [u8],
}

/// Absent text is '' in the tables.
fn text(text: Option<&str>) -> &str {
    text.unwrap_or_default()
}

/// `Decimal(38, 12)` holds picodollars as they are.
fn usd(amount: Option<PicoUsd>) -> Option<i128> {
    amount.map(|PicoUsd(pico)| i128::from(pico))
}

/// Microseconds as the tables hold them.
fn timestamp(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

fn small(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "scores and probabilities need no more"
)]
fn single(number: f64) -> f32 {
    number as f32
}

/// One row of `weir.deployment_states`.
#[derive(Clone, Debug, Row, Serialize)]
pub(crate) struct StateRow<'a> {
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) stream: Uuid,
    pub(crate) seq: u64,
    pub(crate) ts: i64,
    pub(crate) deployment: &'a str,
    pub(crate) provider: &'a str,
    pub(crate) model: &'a str,
    pub(crate) provider_key: &'a str,
    pub(crate) state: &'a str,
    pub(crate) cause: &'a str,
    pub(crate) until: Option<i64>,
}

/// One row of `weir.routing_tables`.
#[derive(Clone, Debug, Row, Serialize)]
pub(crate) struct TableRow<'a> {
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) stream: Uuid,
    pub(crate) seq: u64,
    pub(crate) ts: i64,
    pub(crate) version: u64,
    pub(crate) made_at: i64,
    pub(crate) measured_from: i64,
    pub(crate) measured_to: i64,
    pub(crate) origin: &'a str,
    pub(crate) routing_table: &'a str,
}

/// One row of `weir.corrections`.
#[derive(Clone, Debug, Row, Serialize)]
pub(crate) struct CorrectionRow<'a> {
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) stream: Uuid,
    pub(crate) seq: u64,
    pub(crate) ts: i64,
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) request_id: Uuid,
    pub(crate) attempt: u16,
    pub(crate) attempt_ts: i64,
    pub(crate) delivered: bool,
    pub(crate) cost_before_usd: Option<i128>,
    pub(crate) cost_usd: Option<i128>,
    pub(crate) price_version_before: &'a str,
    pub(crate) price_version: &'a str,
    pub(crate) actor: &'a str,
    pub(crate) reason: &'a str,
}

/// One row of `weir.payloads`. The texts stand at the end: they may be erased, and are sealed by their
/// hash.
#[derive(Clone, Debug, Row, Serialize)]
pub(crate) struct PayloadRow<'a> {
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) stream: Uuid,
    pub(crate) seq: u64,
    pub(crate) ts: i64,
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) request_id: Uuid,
    pub(crate) organisation: &'a str,
    pub(crate) team: &'a str,
    pub(crate) project: &'a str,
    pub(crate) user: &'a str,
    pub(crate) key_id: &'a str,
    pub(crate) environment: &'a str,
    pub(crate) tier: &'a str,
    pub(crate) customer: &'a str,
    pub(crate) feature: &'a str,
    pub(crate) tags: Vec<(&'a str, &'a str)>,
    pub(crate) dialect: &'a str,
    pub(crate) alias: &'a str,
    pub(crate) streamed: bool,
    pub(crate) status: u16,
    pub(crate) capture: &'a str,
    pub(crate) share: f32,
    pub(crate) request_bytes: u64,
    pub(crate) answer_bytes: u64,
    pub(crate) request_omitted: &'a str,
    pub(crate) answer_omitted: &'a str,
    pub(crate) request_truncated: bool,
    pub(crate) answer_truncated: bool,
    pub(crate) redactions: u64,
    pub(crate) detectors: Vec<&'a str>,
    pub(crate) content_hash: String,
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) salt: Uuid,
    pub(crate) request: &'a str,
    pub(crate) answer: &'a str,
}

impl<'a> PayloadRow<'a> {
    pub(crate) fn new(event: &PayloadCaptured<'a>) -> Self {
        let (request, answer) = (text(event.request), text(event.answer));
        Self {
            stream: event.stream.as_uuid(),
            seq: event.seq,
            ts: timestamp(event.ts_us),
            request_id: event.request_id.as_uuid(),
            organisation: text(event.caller.organisation),
            team: text(event.caller.team),
            project: text(event.caller.project),
            user: text(event.caller.user),
            key_id: text(event.caller.key_id),
            environment: text(event.caller.environment),
            tier: text(event.caller.tier),
            customer: text(event.caller.customer),
            feature: text(event.caller.feature),
            tags: event.caller.tags.0.clone(),
            dialect: event.dialect,
            alias: text(event.alias),
            streamed: event.streamed,
            status: small(event.status),
            capture: event.capture,
            share: single(event.share),
            request_bytes: event.request_bytes,
            answer_bytes: event.answer_bytes,
            request_omitted: text(event.request_omitted),
            answer_omitted: text(event.answer_omitted),
            request_truncated: event.request_truncated,
            answer_truncated: event.answer_truncated,
            redactions: event.redactions,
            detectors: event.detectors.clone(),
            content_hash: content_hash(event.salt, request, answer),
            salt: event.salt.as_uuid(),
            request,
            answer,
        }
    }
}

/// As the column's comment says; the salt keeps a text that is erased from being guessed by its hash.
fn content_hash(salt: Salt, request: &str, answer: &str) -> String {
    let mut context = Context::new(&SHA256);
    context.update(format!("{salt}:{}:", request.len()).as_bytes());
    context.update(request.as_bytes());
    context.update(answer.as_bytes());
    to_hex(context.finish().as_ref())
}

impl<'a> CorrectionRow<'a> {
    pub(crate) fn new(event: &Correction<'a>) -> Self {
        Self {
            stream: event.stream.as_uuid(),
            seq: event.seq,
            ts: timestamp(event.ts_us),
            request_id: event.request_id.as_uuid(),
            attempt: u16::try_from(event.attempt).unwrap_or(u16::MAX),
            attempt_ts: timestamp(event.attempt_ts_us),
            delivered: event.delivered,
            cost_before_usd: usd(event.cost_before_pico_usd),
            cost_usd: usd(event.cost_pico_usd),
            price_version_before: text(event.price_version_before),
            price_version: text(event.price_version),
            actor: event.actor,
            reason: event.reason,
        }
    }
}

impl<'a> StateRow<'a> {
    pub(crate) fn new(event: &DeploymentStateChanged<'a>) -> Self {
        Self {
            stream: event.stream.as_uuid(),
            seq: event.seq,
            ts: timestamp(event.ts_us),
            deployment: event.deployment,
            provider: event.provider,
            model: event.model,
            provider_key: text(event.provider_key),
            state: event.state,
            cause: text(event.cause),
            until: event.until_us.map(timestamp),
        }
    }
}

impl<'a> TableRow<'a> {
    pub(crate) fn new(event: &RoutingTableAdopted<'a>) -> Self {
        Self {
            stream: event.stream.as_uuid(),
            seq: event.seq,
            ts: timestamp(event.ts_us),
            version: event.version,
            made_at: timestamp(event.made_at_us),
            measured_from: timestamp(event.from_us),
            measured_to: timestamp(event.to_us),
            origin: event.origin,
            routing_table: event.routing_table,
        }
    }
}

impl<'a> RequestRow<'a> {
    pub(crate) fn new(event: &RequestFinished<'a>) -> Self {
        Self {
            stream: event.stream.as_uuid(),
            seq: event.seq,
            ts: timestamp(event.ts_us),
            request_id: event.request_id.as_uuid(),
            client_request_id: text(event.client_request_id),
            trace_id: text(event.trace_id),
            organisation: text(event.caller.organisation),
            team: text(event.caller.team),
            project: text(event.caller.project),
            user: text(event.caller.user),
            key_id: text(event.caller.key_id),
            environment: text(event.caller.environment),
            tier: text(event.caller.tier),
            customer: text(event.caller.customer),
            feature: text(event.caller.feature),
            tags: event.caller.tags.0.clone(),
            client_ip: text(event.client_ip),
            user_agent: text(event.user_agent),
            dialect: event.dialect,
            alias: text(event.alias),
            streamed: event.streamed,
            request_bytes: event.request_bytes,
            max_output_tokens: event.max_output_tokens,
            status: small(event.status),
            stage: text(event.stage),
            error_kind: text(event.error_kind),
            error_message: text(event.error_message),
            provider: text(event.provider),
            deployment: text(event.deployment),
            model: text(event.model),
            response_model: text(event.response_model),
            region: text(event.region),
            attempts: small(event.attempts),
            finish_reason: text(event.finish_reason),
            response_bytes: event.response_bytes,
            input_tokens: event.usage.input_tokens,
            cached_input_tokens: event.usage.cached_input_tokens,
            cache_write_5m_tokens: event.usage.cache_write_5m_tokens,
            cache_write_1h_tokens: event.usage.cache_write_1h_tokens,
            audio_input_tokens: event.usage.audio_input_tokens,
            output_tokens: event.usage.output_tokens,
            reasoning_tokens: event.usage.reasoning_tokens,
            audio_output_tokens: event.usage.audio_output_tokens,
            usage_source: event.usage_source,
            cost_usd: usd(event.cost_pico_usd),
            waste_usd: usd(event.waste_pico_usd),
            price_version: text(event.price_version),
            queue_us: event.queue_us,
            overhead_us: event.overhead_us,
            ttft_us: event.ttft_us,
            total_us: event.total_us,
            strategy: text(event.strategy),
            table_version: event.table_version,
            route_seed: event.route_seed,
            candidates: event
                .candidates
                .iter()
                .map(|c| (c.target, c.score.map(single), single(c.propensity)))
                .collect(),
            cache_verdict: text(event.cache_verdict),
            guard_verdict: text(event.guard_verdict),
            limit_verdict: text(event.limit_verdict),
            service_tier: text(event.service_tier),
            last_resort: text(event.last_resort),
        }
    }
}

impl<'a> AttemptRow<'a> {
    pub(crate) fn new(event: &AttemptFinished<'a>) -> Self {
        Self {
            stream: event.stream.as_uuid(),
            seq: event.seq,
            ts: timestamp(event.ts_us),
            request_id: event.request_id.as_uuid(),
            attempt: small(event.attempt),
            kind: event.kind,
            cause: text(event.cause),
            delay_us: event.delay_us,
            organisation: text(event.caller.organisation),
            team: text(event.caller.team),
            project: text(event.caller.project),
            user: text(event.caller.user),
            key_id: text(event.caller.key_id),
            environment: text(event.caller.environment),
            tier: text(event.caller.tier),
            customer: text(event.caller.customer),
            feature: text(event.caller.feature),
            tags: event.caller.tags.0.clone(),
            dialect: event.dialect,
            alias: text(event.alias),
            streamed: event.streamed,
            provider: event.provider,
            deployment: event.deployment,
            model: event.model,
            response_model: text(event.response_model),
            region: text(event.region),
            provider_key: text(event.provider_key),
            status: event.status.map(small),
            error_kind: text(event.error_kind),
            error_message: text(event.error_message),
            retry_after_us: event.retry_after_us,
            delivered: event.delivered,
            upstream_request_id: text(event.upstream_request_id),
            finish_reason: text(event.finish_reason),
            connection_reused: event.connection_reused,
            request_bytes: event.request_bytes,
            response_bytes: event.response_bytes,
            input_tokens: event.usage.input_tokens,
            cached_input_tokens: event.usage.cached_input_tokens,
            cache_write_5m_tokens: event.usage.cache_write_5m_tokens,
            cache_write_1h_tokens: event.usage.cache_write_1h_tokens,
            audio_input_tokens: event.usage.audio_input_tokens,
            output_tokens: event.usage.output_tokens,
            reasoning_tokens: event.usage.reasoning_tokens,
            audio_output_tokens: event.usage.audio_output_tokens,
            usage_source: event.usage_source,
            cost_usd: usd(event.cost_pico_usd),
            price_version: text(event.price_version),
            connect_us: event.connect_us,
            headers_us: event.headers_us,
            ttft_us: event.ttft_us,
            total_us: event.total_us,
            strategy: text(event.strategy),
            table_version: event.table_version,
            propensity: event.propensity.map(single),
            service_tier: text(event.service_tier),
        }
    }
}

impl<'a> ControlRow<'a> {
    pub(crate) fn new(event: &ControlChanged<'a>) -> Self {
        Self {
            stream: event.stream.as_uuid(),
            seq: event.seq,
            ts: timestamp(event.ts_us),
            change_id: event.change_id.as_uuid(),
            actor: event.actor,
            action: event.action,
            object_kind: event.object_kind,
            object_id: event.object_id,
            before: text(event.before),
            after: text(event.after),
        }
    }
}

impl<'a> StreamRow<'a> {
    pub(crate) fn opened(event: &StreamOpened<'a>) -> Self {
        Self {
            instance: event.instance,
            process: event.process,
            shard: Some(event.shard),
            version: event.version,
            ..Self::of("opened", event.stream.as_uuid(), event.seq, event.ts_us)
        }
    }

    pub(crate) fn closed(event: &StreamClosed<'a>) -> Self {
        Self {
            reason: event.reason,
            torn_bytes: Some(event.torn_bytes),
            ..Self::of("closed", event.stream.as_uuid(), event.seq, event.ts_us)
        }
    }

    pub(crate) fn dropped(event: &EventsDropped<'a>) -> Self {
        Self {
            reason: event.reason,
            events: Some(event.events),
            since: Some(timestamp(event.since_us)),
            ..Self::of("dropped", event.stream.as_uuid(), event.seq, event.ts_us)
        }
    }

    fn of(event: &'a str, stream: Uuid, seq: u64, ts_us: u64) -> Self {
        Self {
            stream,
            seq,
            ts: timestamp(ts_us),
            event,
            instance: "",
            process: "",
            shard: None,
            version: "",
            reason: "",
            torn_bytes: None,
            events: None,
            since: None,
        }
    }
}
