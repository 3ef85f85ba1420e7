//! Events as rows of the tables.
//!
//! The rows mirror the tables of `schemas/clickhouse`, column for column; the expression beside a
//! column is all that happens between an event and its row. Text points into the event's bytes.

use std::collections::BTreeMap;

use clickhouse::Row;
use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256};
use serde::Serialize;
use uuid::Uuid;
use weir_schemas::event::{
    AttemptFinished, Candidate, ControlChanged, Correction, DeploymentStateChanged, EventsDropped,
    OtherModel, PayloadCaptured, RefusalsCounted, RequestFinished, RoutingTableAdopted,
    StreamClosed, StreamOpened, StreamSealed,
};
use weir_schemas::{Count, EventId, PicoUsd, Usage};

/// An event that becomes a row.
pub(crate) trait IntoRow {
    type Row: EventRow;

    fn row(&self, id: EventId) -> Self::Row;
}

/// A row of a table of events.
pub(crate) trait EventRow {
    /// How many of the columns a leaf of a checkpoint hashes: (version of leaves, columns from the
    /// first), oldest version first. A row that was sealed must always give the same hash, so a new
    /// column comes last, with a pair for the next version.
    const SEALED: &'static [(u8, usize)];

    fn id(&self) -> EventId;

    /// Microseconds since 1970.
    fn ts(&self) -> i64;
}

/// The type of the rows of these events.
macro_rules! row_of {
    ($lifetime:lifetime $event:ident $($others:ident)*) => {
        <weir_schemas::event::$event<$lifetime> as $crate::rows::IntoRow>::Row
    };
}

pub(crate) use row_of;

/// Declares a row of an event, and how it comes about: `column: type = value`, in the order in which
/// columns are hashed. `caller`, `usage` and `meters` between the braces stand for
/// columns that several rows have: who called, the first counts of usage, and all that came later.
macro_rules! row {
    ($(#[$doc:meta])* $row:ident($event:ident: $from:ident) sealed $sealed:tt $($columns:tt)*) => {
        row!(@lay_out [$(#[$doc])* $row $event $from $sealed] $event [] $($columns)*);
    };
    (@lay_out $head:tt $event:ident [$($done:tt)*] { $($columns:tt)* } $($rest:tt)*) => {
        row!(@lay_out $head $event [$($done)* $($columns)*] $($rest)*);
    };
    (@lay_out $head:tt $event:ident [$($done:tt)*] caller $($rest:tt)*) => {
        row!(@lay_out $head $event [$($done)*
            organisation: &'a str = text($event.caller.organisation);
            team: &'a str = text($event.caller.team);
            project: &'a str = text($event.caller.project);
            user: &'a str = text($event.caller.user);
            key_id: &'a str = text($event.caller.key_id);
            environment: &'a str = text($event.caller.environment);
            tier: &'a str = text($event.caller.tier);
            customer: &'a str = text($event.caller.customer);
            feature: &'a str = text($event.caller.feature);
            tags: Vec<(&'a str, &'a str)> = $event.caller.tags.0.clone();
        ] $($rest)*);
    };
    (@lay_out $head:tt $event:ident [$($done:tt)*] usage $($rest:tt)*) => {
        row!(@lay_out $head $event [$($done)*
            input_tokens: Option<u64> = $event.usage.input_tokens;
            cached_input_tokens: Option<u64> = $event.usage.cached_input_tokens;
            cache_write_5m_tokens: Option<u64> = $event.usage.cache_write_5m_tokens;
            cache_write_1h_tokens: Option<u64> = $event.usage.cache_write_1h_tokens;
            audio_input_tokens: Option<u64> = $event.usage.audio_input_tokens;
            output_tokens: Option<u64> = $event.usage.output_tokens;
            reasoning_tokens: Option<u64> = $event.usage.reasoning_tokens;
            audio_output_tokens: Option<u64> = $event.usage.audio_output_tokens;
        ] $($rest)*);
    };
    (@lay_out $head:tt $event:ident [$($done:tt)*] meters $($rest:tt)*) => {
        row!(@lay_out $head $event [$($done)*
            cache_write_30m_tokens: Option<u64> = $event.usage.cache_write_30m_tokens;
            cache_write_12h_tokens: Option<u64> = $event.usage.cache_write_12h_tokens;
            cached_audio_input_tokens: Option<u64> = $event.usage.cached_audio_input_tokens;
            image_input_tokens: Option<u64> = $event.usage.image_input_tokens;
            cached_image_input_tokens: Option<u64> = $event.usage.cached_image_input_tokens;
            video_input_tokens: Option<u64> = $event.usage.video_input_tokens;
            image_output_tokens: Option<u64> = $event.usage.image_output_tokens;
            video_output_tokens: Option<u64> = $event.usage.video_output_tokens;
            citation_tokens: Option<u64> = $event.usage.citation_tokens;
            web_searches: Option<u64> = $event.usage.web_searches;
            file_searches: Option<u64> = $event.usage.file_searches;
            code_executions: Option<u64> = $event.usage.code_executions;
            audio_input_ms: Option<u64> = $event.usage.audio_input_ms;
            inference_geo: &'a str = text($event.inference_geo);
            other_models: Vec<(&'a str, Vec<(&'static str, u64)>)> = other_models(&$event.other_models);
            unpriced_reason: &'a str = text($event.unpriced_reason);
        ] $($rest)*);
    };
    (@lay_out [$(#[$doc:meta])* $row:ident $event:ident $from:ident $sealed:tt] $_event:ident
        [$($(#[$attribute:meta])* $column:ident: $type:ty = $value:expr;)*]
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Row, Serialize)]
        pub(crate) struct $row<'a> {
            #[serde(with = "clickhouse::serde::uuid")]
            stream: Uuid,
            seq: u64,
            ts: i64,
            $($(#[$attribute])* $column: $type,)*
        }

        event_row!($row $sealed);

        impl<'a> IntoRow for $from<'a> {
            type Row = $row<'a>;

            fn row(&self, id: EventId) -> $row<'a> {
                let $event = self;
                $row {
                    stream: id.stream.as_uuid(),
                    seq: id.seq,
                    ts: timestamp(self.ts_us),
                    $($column: $value,)*
                }
            }
        }
    };
}

macro_rules! event_row {
    ($row:ident $sealed:tt) => {
        impl EventRow for $row<'_> {
            const SEALED: &'static [(u8, usize)] = &$sealed;

            fn id(&self) -> EventId {
                EventId {
                    stream: self.stream.into(),
                    seq: self.seq,
                }
            }

            fn ts(&self) -> i64 {
                self.ts
            }
        }
    };
}

row! {
    /// One row of `weir.requests`.
    RequestRow(event: RequestFinished) sealed [(1, 58), (3, 60), (4, 76)]
    {
        #[serde(with = "clickhouse::serde::uuid")]
        request_id: Uuid = event.request_id.as_uuid();
        client_request_id: &'a str = text(event.client_request_id);
        trace_id: &'a str = text(event.trace_id);
    } caller {
        client_ip: &'a str = text(event.client_ip);
        user_agent: &'a str = text(event.user_agent);
        dialect: &'a str = event.dialect;
        alias: &'a str = text(event.alias);
        streamed: bool = event.streamed;
        request_bytes: Count = event.request_bytes;
        max_output_tokens: Option<Count> = event.max_output_tokens;
        status: u16 = event.status;
        stage: &'a str = text(event.stage);
        error_kind: &'a str = text(event.error_kind);
        error_message: &'a str = text(event.error_message);
        provider: &'a str = text(event.provider);
        deployment: &'a str = text(event.deployment);
        model: &'a str = text(event.model);
        response_model: &'a str = text(event.response_model);
        region: &'a str = text(event.region);
        attempts: u16 = event.attempts;
        finish_reason: &'a str = text(event.finish_reason);
        response_bytes: Count = event.response_bytes;
    } usage {
        usage_source: &'a str = event.usage_source;
        cost_usd: Option<i128> = usd(event.cost_pico_usd);
        waste_usd: Option<i128> = usd(event.waste_pico_usd);
        price_version: &'a str = text(event.price_version);
        queue_us: Count = event.queue_us;
        overhead_us: Count = event.overhead_us;
        ttft_us: Option<Count> = event.ttft_us;
        total_us: Count = event.total_us;
        strategy: &'a str = text(event.strategy);
        table_version: Option<Count> = event.table_version;
        route_seed: Option<Count> = event.route_seed;
        candidates: Vec<(&'a str, Option<f32>, f32)> = candidates(&event.candidates);
        cache_verdict: &'a str = text(event.cache_verdict);
        guard_verdict: &'a str = text(event.guard_verdict);
        limit_verdict: &'a str = text(event.limit_verdict);
        service_tier: &'a str = text(event.service_tier);
        last_resort: &'a str = text(event.last_resort);
    } meters
}

row! {
    /// One row of `weir.attempts`.
    AttemptRow(event: AttemptFinished) sealed [(1, 55), (3, 56), (4, 72)]
    {
        #[serde(with = "clickhouse::serde::uuid")]
        request_id: Uuid = event.request_id.as_uuid();
        attempt: u16 = event.attempt;
        kind: &'a str = event.kind;
        cause: &'a str = text(event.cause);
        delay_us: Count = event.delay_us;
    } caller {
        dialect: &'a str = event.dialect;
        alias: &'a str = text(event.alias);
        streamed: bool = event.streamed;
        provider: &'a str = event.provider;
        deployment: &'a str = event.deployment;
        model: &'a str = event.model;
        response_model: &'a str = text(event.response_model);
        region: &'a str = text(event.region);
        provider_key: &'a str = text(event.provider_key);
        status: Option<u16> = event.status;
        error_kind: &'a str = text(event.error_kind);
        error_message: &'a str = text(event.error_message);
        retry_after_us: Option<Count> = event.retry_after_us;
        delivered: bool = event.delivered;
        upstream_request_id: &'a str = text(event.upstream_request_id);
        finish_reason: &'a str = text(event.finish_reason);
        connection_reused: bool = event.connection_reused;
        request_bytes: Count = event.request_bytes;
        response_bytes: Count = event.response_bytes;
    } usage {
        usage_source: &'a str = event.usage_source;
        cost_usd: Option<i128> = usd(event.cost_pico_usd);
        price_version: &'a str = text(event.price_version);
        connect_us: Option<Count> = event.connect_us;
        headers_us: Option<Count> = event.headers_us;
        ttft_us: Option<Count> = event.ttft_us;
        total_us: Count = event.total_us;
        strategy: &'a str = text(event.strategy);
        table_version: Option<Count> = event.table_version;
        propensity: Option<f32> = event.propensity.map(single);
        service_tier: &'a str = text(event.service_tier);
    } meters
}

row! {
    /// One row of `weir.control_changes`.
    ControlChangeRow(event: ControlChanged) sealed [(1, 10)]
    {
        #[serde(with = "clickhouse::serde::uuid")]
        change_id: Uuid = event.change_id.as_uuid();
        actor: &'a str = event.actor;
        action: &'a str = event.action;
        object_kind: &'a str = event.object_kind;
        object_id: &'a str = event.object_id;
        before: &'a str = text(event.before);
        after: &'a str = text(event.after);
    }
}

/// One row of `weir.streams`.
#[derive(Clone, Debug, Default, Row, Serialize)]
pub(crate) struct StreamRow<'a> {
    #[serde(with = "clickhouse::serde::uuid")]
    stream: Uuid,
    seq: u64,
    ts: i64,
    pub(crate) event: &'a str,
    instance: &'a str,
    process: &'a str,
    shard: Option<u32>,
    version: &'a str,
    reason: &'a str,
    torn_bytes: Option<Count>,
    events: Option<Count>,
    since: Option<i64>,
    seal_key: &'a str,
}

event_row!(StreamRow[(1, 12), (6, 13)]);

impl<'a> StreamRow<'a> {
    fn new(event: &'a str, id: EventId, ts_us: Count) -> Self {
        Self {
            stream: id.stream.as_uuid(),
            seq: id.seq,
            ts: timestamp(ts_us),
            event,
            ..Self::default()
        }
    }
}

impl<'a> IntoRow for StreamOpened<'a> {
    type Row = StreamRow<'a>;

    fn row(&self, id: EventId) -> StreamRow<'a> {
        StreamRow {
            instance: self.instance,
            process: self.process,
            shard: Some(self.shard.into()),
            version: self.version,
            seal_key: text(self.seal_key),
            ..StreamRow::new("opened", id, self.ts_us)
        }
    }
}

impl<'a> IntoRow for StreamClosed<'a> {
    type Row = StreamRow<'a>;

    fn row(&self, id: EventId) -> StreamRow<'a> {
        StreamRow {
            reason: self.reason,
            torn_bytes: Some(self.torn_bytes),
            ..StreamRow::new("closed", id, self.ts_us)
        }
    }
}

impl<'a> IntoRow for EventsDropped<'a> {
    type Row = StreamRow<'a>;

    fn row(&self, id: EventId) -> StreamRow<'a> {
        StreamRow {
            reason: self.reason,
            events: Some(self.events),
            since: Some(timestamp(self.since_us)),
            ..StreamRow::new("dropped", id, self.ts_us)
        }
    }
}

row! {
    /// One row of `weir.deployment_states`.
    DeploymentStateRow(event: DeploymentStateChanged) sealed [(2, 10)]
    {
        deployment: &'a str = event.deployment;
        provider: &'a str = event.provider;
        model: &'a str = event.model;
        provider_key: &'a str = text(event.provider_key);
        state: &'a str = event.state;
        cause: &'a str = text(event.cause);
        until: Option<i64> = event.until_us.map(timestamp);
    }
}

row! {
    /// One row of `weir.routing_tables`.
    RoutingTableRow(event: RoutingTableAdopted) sealed [(2, 9)]
    {
        version: Count = event.version;
        made_at: i64 = timestamp(event.made_at_us);
        measured_from: i64 = timestamp(event.from_us);
        measured_to: i64 = timestamp(event.to_us);
        origin: &'a str = event.origin;
        routing_table: &'a str = event.routing_table;
    }
}

row! {
    /// One row of `weir.corrections`.
    CorrectionRow(event: Correction) sealed [(2, 13), (4, 14)]
    {
        #[serde(with = "clickhouse::serde::uuid")]
        request_id: Uuid = event.request_id.as_uuid();
        attempt: u16 = event.attempt;
        attempt_ts: i64 = timestamp(event.attempt_ts_us);
        delivered: bool = event.delivered;
        cost_before_usd: Option<i128> = usd(event.cost_before_pico_usd);
        cost_usd: Option<i128> = usd(event.cost_pico_usd);
        price_version_before: &'a str = text(event.price_version_before);
        price_version: &'a str = text(event.price_version);
        actor: &'a str = event.actor;
        reason: &'a str = event.reason;
        unpriced_reason: &'a str = text(event.unpriced_reason);
    }
}

row! {
    /// One row of `weir.refusals`.
    RefusalRow(event: RefusalsCounted) sealed [(5, 8)]
    {
        last: i64 = timestamp(event.last_us);
        address: &'a str = event.address;
        reason: &'a str = event.reason;
        refused: Count = event.refused;
        limited: Count = event.limited;
    }
}

row! {
    /// One row of `weir.payloads`. The texts stand at the end: they may be erased, and are sealed by their
    /// hash.
    PayloadRow(event: PayloadCaptured) sealed [(3, 29)]
    {
        #[serde(with = "clickhouse::serde::uuid")]
        request_id: Uuid = event.request_id.as_uuid();
    } caller {
        dialect: &'a str = event.dialect;
        alias: &'a str = text(event.alias);
        streamed: bool = event.streamed;
        status: u16 = event.status;
        capture: &'a str = event.capture;
        share: f32 = single(event.share);
        request_bytes: Count = event.request_bytes;
        answer_bytes: Count = event.answer_bytes;
        request_omitted: &'a str = text(event.request_omitted);
        answer_omitted: &'a str = text(event.answer_omitted);
        request_truncated: bool = event.request_truncated;
        answer_truncated: bool = event.answer_truncated;
        redactions: Count = event.redactions;
        detectors: Vec<&'a str> = event.detectors.clone();
        content_hash: String = content_hash(event);
        #[serde(with = "clickhouse::serde::uuid")]
        salt: Uuid = event.salt.as_uuid();
        request: &'a str = text(event.request);
        answer: &'a str = text(event.answer);
    }
}

row! {
    /// One row of `weir.seals`.
    SealRow(event: StreamSealed) sealed [(5, 8), (6, 9)]
    {
        version: u8 = u8::try_from(event.version).unwrap_or(u8::MAX);
        first_seq: u64 = event.first_seq.get();
        last_seq: u64 = event.last_seq.get();
        chain: &'a str = event.chain;
        fingerprints: Vec<u64> = fingerprints(event.fingerprints);
        signature: &'a str = text(event.signature);
    }
}

/// What a seal says of the rows from `first_seq` on.
#[derive(Debug)]
pub(crate) struct SealedRange {
    pub(crate) version: u8,
    pub(crate) first_seq: u64,
    pub(crate) fingerprints: Vec<u64>,
}

impl SealRow<'_> {
    pub(crate) fn sealed(&self) -> SealedRange {
        SealedRange {
            version: self.version,
            first_seq: self.first_seq,
            fingerprints: self.fingerprints.clone(),
        }
    }
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

fn fingerprints(bytes: &[u8]) -> Vec<u64> {
    let (numbers, _) = bytes.as_chunks::<8>();
    numbers.iter().map(|it| u64::from_le_bytes(*it)).collect()
}

/// Microseconds as the tables hold them.
fn timestamp(us: Count) -> i64 {
    i64::try_from(us.get()).unwrap_or(i64::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "scores and probabilities need no more"
)]
fn single(number: f64) -> f32 {
    number as f32
}

fn candidates<'a>(candidates: &[Candidate<'a>]) -> Vec<(&'a str, Option<f32>, f32)> {
    let row = |it: &Candidate<'a>| (it.target, it.score.map(single), single(it.propensity));
    candidates.iter().map(row).collect()
}

/// By name, so that one call always gives one value. A model that comes twice is summed.
fn other_models<'a>(models: &[OtherModel<'a>]) -> Vec<(&'a str, Vec<(&'static str, u64)>)> {
    let mut sums: BTreeMap<&'a str, Usage> = BTreeMap::new();
    for other in models {
        sums.entry(other.model).or_default().add(&other.usage);
    }
    let sums = sums.into_iter();
    sums.map(|(model, usage)| (model, usage.counts().collect()))
        .collect()
}

/// As the column's comment says; the salt keeps a text that is erased from being guessed by its hash.
fn content_hash(event: &PayloadCaptured<'_>) -> String {
    let (request, answer) = (text(event.request), text(event.answer));
    let mut context = Context::new(&SHA256);
    context.update(format!("{}:{}:", event.salt, request.len()).as_bytes());
    context.update(request.as_bytes());
    context.update(answer.as_bytes());
    HEXLOWER.encode(context.finish().as_ref())
}
