//! The events, as their writers fill them and their readers see them.
//!
//! Each record is declared by a file in `avro/`; the structs here mirror those files field for
//! field, except for the position in the log that every record begins with: that is the envelope's.
//! Text is borrowed on both sides: the writer lends what it has, the reader points into the bytes
//! that it decodes, and neither allocates.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::count::Count;
use crate::ids::{EventId, RequestId, Salt, StreamId};
use crate::money::PicoUsd;
use crate::usage::Usage;

/// Calls a macro with every event there is, by the table that holds its rows: the events' types, and
/// the files in `avro/` that ever described them, oldest version first.
///
/// This is the only list of events. [`Event`], the codec, the list of tables and the ingestor's rows
/// are made from it. Batches are stored table by table in this order: who sees a request in the
/// tables sees its attempts there, too, and who sees a seal sees what it seals.
#[macro_export]
macro_rules! for_each_event {
    ($callback:ident) => {
        $callback! {
            attempts {
                AttemptFinished(Box<AttemptFinished<'a>>) ["attempt_finished.v1.avsc", "attempt_finished.v2.avsc"];
            }
            control_changes {
                ControlChanged(ControlChanged<'a>) ["control_changed.v1.avsc"];
            }
            streams {
                StreamOpened(StreamOpened<'a>) ["stream_opened.v1.avsc", "stream_opened.v2.avsc"];
                StreamClosed(StreamClosed<'a>) ["stream_closed.v1.avsc"];
                EventsDropped(EventsDropped<'a>) ["events_dropped.v1.avsc"];
            }
            deployment_states {
                DeploymentStateChanged(DeploymentStateChanged<'a>)
                    ["deployment_state_changed.v1.avsc"];
            }
            routing_tables {
                RoutingTableAdopted(RoutingTableAdopted<'a>) ["routing_table_adopted.v1.avsc"];
            }
            corrections {
                Correction(Correction<'a>) ["correction.v1.avsc", "correction.v2.avsc"];
            }
            refusals {
                RefusalsCounted(RefusalsCounted<'a>) ["refusals_counted.v1.avsc"];
            }
            payloads {
                PayloadCaptured(Box<PayloadCaptured<'a>>) ["payload_captured.v1.avsc"];
            }
            requests {
                RequestFinished(Box<RequestFinished<'a>>) ["request_finished.v1.avsc", "request_finished.v2.avsc"];
            }
            seals {
                StreamSealed(StreamSealed<'a>) ["stream_sealed.v1.avsc", "stream_sealed.v2.avsc"];
            }
        }
    };
}

macro_rules! declare_event {
    ($($table:ident { $($name:ident($body:ty) $files:tt;)* })*) => {
        /// One event, before the journal has given it its place.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Event<'a> {
            $($($name($body),)*)*
        }
    };
}

for_each_event!(declare_event);

/// An event as it stands in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope<'a> {
    pub id: EventId,
    pub event: Event<'a>,
}

/// Who called, and for what: the dimensions of attribution.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Caller<'a> {
    /// Organisation that the key belongs to.
    pub organisation: Option<&'a str>,
    /// Team that pays.
    pub team: Option<&'a str>,
    /// Project or service of the team.
    pub project: Option<&'a str>,
    /// User of the key, or the one the application named.
    pub user: Option<&'a str>,
    /// Virtual key that was used. The key itself is nowhere.
    pub key_id: Option<&'a str>,
    /// Environment of the key: prod, staging, dev …
    pub environment: Option<&'a str>,
    /// Tier of the key: free, paid, enterprise, internal.
    pub tier: Option<&'a str>,
    /// End customer on whose behalf the application called.
    pub customer: Option<&'a str>,
    /// Feature of the application that called.
    pub feature: Option<&'a str>,
    /// Free tags of the request.
    #[serde(borrow)]
    pub tags: Tags<'a>,
}

/// One request of a client, however it ended; refused ones too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestFinished<'a> {
    /// When the request arrived.
    pub ts_us: Count,
    /// Id of the request; equals the x-request-id header of the response.
    pub request_id: RequestId,
    /// The x-request-id that the client sent, if any.
    pub client_request_id: Option<&'a str>,
    /// Trace id from the W3C traceparent header, if any.
    pub trace_id: Option<&'a str>,
    /// Who called, and for what.
    #[serde(borrow)]
    pub caller: Caller<'a>,
    /// Address that the request came from.
    pub client_ip: Option<&'a str>,
    /// User-Agent header, shortened.
    pub user_agent: Option<&'a str>,
    /// API that the client spoke: openai.chat, openai.embeddings …
    pub dialect: &'a str,
    /// Model or alias that the client asked for.
    pub alias: Option<&'a str>,
    /// Whether the client asked for a stream.
    pub streamed: bool,
    /// Size of the request body.
    pub request_bytes: Count,
    /// Limit on output tokens that the client set.
    pub max_output_tokens: Option<Count>,
    /// HTTP status sent to the client; 499 if it left before there was one.
    pub status: u16,
    /// Stage of the pipeline that ended the request early.
    pub stage: Option<&'a str>,
    /// What went wrong, as a closed set of words.
    pub error_kind: Option<&'a str>,
    /// What went wrong, in words, shortened.
    pub error_message: Option<&'a str>,
    /// Provider whose answer was delivered.
    pub provider: Option<&'a str>,
    /// Deployment of the model at the provider: provider/model.
    pub deployment: Option<&'a str>,
    /// Model that the provider was asked for.
    pub model: Option<&'a str>,
    /// Model that the provider says it used.
    pub response_model: Option<&'a str>,
    /// Region of the deployment.
    pub region: Option<&'a str>,
    /// Attempts made: first, retries, fallbacks and hedges.
    pub attempts: u16,
    /// Why the model stopped.
    pub finish_reason: Option<&'a str>,
    /// Bytes of response body handed to the client.
    pub response_bytes: Count,
    /// What was consumed.
    pub usage: Usage,
    /// Where the token counts come from: reported, drained, estimated, none.
    pub usage_source: &'a str,
    /// What the request is charged, in 1e-12 USD; null if unpriced.
    pub cost_pico_usd: Option<PicoUsd>,
    /// What the attempts cost whose answer was not delivered, in 1e-12 USD.
    pub waste_pico_usd: Option<PicoUsd>,
    /// Version of the price book and row that priced it.
    pub price_version: Option<&'a str>,
    /// Time spent waiting for admission.
    pub queue_us: Count,
    /// Time spent in the gateway itself until the first byte to the provider.
    pub overhead_us: Count,
    /// Time from arrival to the first token handed to the client.
    pub ttft_us: Option<Count>,
    /// Time from arrival to the end of the response.
    pub total_us: Count,
    /// Routing strategy that decided.
    pub strategy: Option<&'a str>,
    /// Routing table that decided.
    pub table_version: Option<Count>,
    /// Seed of the random draw that decided.
    pub route_seed: Option<Count>,
    /// Deployments that routing considered.
    #[serde(borrow)]
    pub candidates: Vec<Candidate<'a>>,
    /// What the response cache decided.
    pub cache_verdict: Option<&'a str>,
    /// What the guardrails decided.
    pub guard_verdict: Option<&'a str>,
    /// Limit or budget that refused the request, or came close.
    pub limit_verdict: Option<&'a str>,
    /// Service tier that the provider says it served the answer with; null if it named none.
    pub service_tier: Option<&'a str>,
    /// Why the target that was tried first was only a last resort: ejected, over_limit, too_small …; null if it was none.
    pub last_resort: Option<&'a str>,
    /// Where the provider says the model ran, if that has a price of its own; null if it named no place.
    pub inference_geo: Option<&'a str>,
    /// What was consumed at other models within the same call.
    #[serde(borrow, default)]
    pub other_models: Vec<OtherModel<'a>>,
    /// Why there is no cost; null if there is one.
    pub unpriced_reason: Option<&'a str>,
}

/// One attempt at one deployment: first, retry, fallback, hedge or shadow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptFinished<'a> {
    /// When the attempt began.
    pub ts_us: Count,
    /// Request that the attempt belongs to.
    pub request_id: RequestId,
    /// Number of the attempt within its request, from 1.
    pub attempt: u16,
    /// first, retry, fallback, hedge or shadow.
    pub kind: &'a str,
    /// Error kind of the attempt before, which led to this one.
    pub cause: Option<&'a str>,
    /// Pause before the attempt.
    pub delay_us: Count,
    /// Who called, and for what.
    #[serde(borrow)]
    pub caller: Caller<'a>,
    /// API that the client spoke.
    pub dialect: &'a str,
    /// Model or alias that the client asked for.
    pub alias: Option<&'a str>,
    /// Whether the client asked for a stream.
    pub streamed: bool,
    /// Provider that was tried.
    pub provider: &'a str,
    /// Deployment that was tried: provider/model.
    pub deployment: &'a str,
    /// Model that the provider was asked for.
    pub model: &'a str,
    /// Model that the provider says it used.
    pub response_model: Option<&'a str>,
    /// Region of the deployment.
    pub region: Option<&'a str>,
    /// Which of the provider's keys was used: its name, never the key.
    pub provider_key: Option<&'a str>,
    /// HTTP status of the provider; null if there was none.
    pub status: Option<u16>,
    /// What went wrong, as a closed set of words.
    pub error_kind: Option<&'a str>,
    /// What went wrong, in words, shortened.
    pub error_message: Option<&'a str>,
    /// Pause that the provider asked for.
    pub retry_after_us: Option<Count>,
    /// Whether this attempt's answer went to the client.
    pub delivered: bool,
    /// Request id that the provider gave.
    pub upstream_request_id: Option<&'a str>,
    /// Why the model stopped.
    pub finish_reason: Option<&'a str>,
    /// Whether an idle connection was reused.
    pub connection_reused: bool,
    /// Size of the body sent to the provider.
    pub request_bytes: Count,
    /// Bytes of body received from the provider.
    pub response_bytes: Count,
    /// What was consumed.
    pub usage: Usage,
    /// Where the token counts come from: reported, drained, estimated, none.
    pub usage_source: &'a str,
    /// What the attempt cost, in 1e-12 USD; null if unpriced.
    pub cost_pico_usd: Option<PicoUsd>,
    /// Version of the price book and row that priced it.
    pub price_version: Option<&'a str>,
    /// Time to connect; null if a connection was reused.
    pub connect_us: Option<Count>,
    /// Time from the start of the attempt to the response headers.
    pub headers_us: Option<Count>,
    /// Time from the start of the attempt to the first token.
    pub ttft_us: Option<Count>,
    /// Time from the start of the attempt to its end.
    pub total_us: Count,
    /// Routing strategy that decided.
    pub strategy: Option<&'a str>,
    /// Routing table that decided.
    pub table_version: Option<Count>,
    /// Probability with which this deployment was chosen for this attempt.
    pub propensity: Option<f64>,
    /// Service tier that the provider says it served; null if it named none.
    pub service_tier: Option<&'a str>,
    /// Where the provider says the model ran, if that has a price of its own; null if it named no place.
    pub inference_geo: Option<&'a str>,
    /// What was consumed at other models within the same call.
    #[serde(borrow, default)]
    pub other_models: Vec<OtherModel<'a>>,
    /// Why there is no cost; null if there is one.
    pub unpriced_reason: Option<&'a str>,
}

/// A change of keys, teams, budgets, limits or tables, and who made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControlChanged<'a> {
    /// When the change was made.
    pub ts_us: Count,
    /// Id of the change.
    pub change_id: RequestId,
    /// Who made the change.
    pub actor: &'a str,
    /// What was done: create, revoke, rotate, update, delete.
    pub action: &'a str,
    /// What was changed: key, team, budget, limit, table.
    pub object_kind: &'a str,
    /// Id of what was changed.
    pub object_id: &'a str,
    /// State before, as JSON without secrets; null if it did not exist.
    pub before: Option<&'a str>,
    /// State after, as JSON without secrets; null if it is gone.
    pub after: Option<&'a str>,
}

/// A gateway took a deployment out of service, or back in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeploymentStateChanged<'a> {
    /// When the state changed.
    pub ts_us: Count,
    /// Deployment of the model at the provider: provider/model.
    pub deployment: &'a str,
    /// Provider of the deployment.
    pub provider: &'a str,
    /// Model of the deployment.
    pub model: &'a str,
    /// Which of the provider's keys it uses: its name, never the key.
    pub provider_key: Option<&'a str>,
    /// ejected or recovered.
    pub state: &'a str,
    /// Why it was ejected: consecutive_failures, failure_ratio, stalled, retry_after, key, probe_failed.
    pub cause: Option<&'a str>,
    /// When it may be probed, if it was ejected.
    pub until_us: Option<Count>,
}

/// A gateway put a routing table in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoutingTableAdopted<'a> {
    /// When the table was adopted.
    pub ts_us: Count,
    /// Number of the table.
    pub version: Count,
    /// When the table was made.
    pub made_at_us: Count,
    /// Begin of the period that was measured.
    pub from_us: Count,
    /// End of the period that was measured.
    pub to_us: Count,
    /// How the table came about: measured, frozen, pinned, rolled_back, reverted.
    pub origin: &'a str,
    /// The whole table, as JSON.
    pub routing_table: &'a str,
}

/// A stored attempt was priced again. The events before it stay as they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Correction<'a> {
    /// When the correction was made.
    pub ts_us: Count,
    /// Request that the attempt belongs to.
    pub request_id: RequestId,
    /// Number of the attempt within its request.
    pub attempt: u16,
    /// When the attempt began.
    pub attempt_ts_us: Count,
    /// Whether the client got the answer of the attempt: its cost is the request's, otherwise it is waste.
    pub delivered: bool,
    /// What the attempt cost until then, in 10⁻¹² USD; null if it was unpriced.
    pub cost_before_pico_usd: Option<PicoUsd>,
    /// What it costs now, in 10⁻¹² USD; null if it is unpriced.
    pub cost_pico_usd: Option<PicoUsd>,
    /// Row of the price book that priced it until then.
    pub price_version_before: Option<&'a str>,
    /// Row of the price book that prices it now.
    pub price_version: Option<&'a str>,
    /// Who made the correction.
    pub actor: &'a str,
    /// Why, in words.
    pub reason: &'a str,
    /// Why it has no cost now; null if it has one.
    pub unpriced_reason: Option<&'a str>,
}

/// What a client sent and got, redacted, as far as the rule for its key keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PayloadCaptured<'a> {
    /// When the request arrived.
    pub ts_us: Count,
    /// Request whose payload it is.
    pub request_id: RequestId,
    /// Who called, and for what.
    #[serde(borrow)]
    pub caller: Caller<'a>,
    /// API that the client spoke: openai.chat, openai.embeddings …
    pub dialect: &'a str,
    /// Model or alias that the client asked for.
    pub alias: Option<&'a str>,
    /// Whether the client asked for a stream.
    pub streamed: bool,
    /// HTTP status sent to the client; 499 if it left before there was one.
    pub status: u16,
    /// What is kept by the rule that held: metadata, sampled or full.
    pub capture: &'a str,
    /// Share of the requests that are kept by the rule that held.
    pub share: f64,
    /// Size of the request body.
    pub request_bytes: Count,
    /// Bytes of response body handed to the client.
    pub answer_bytes: Count,
    /// Request body, redacted, as JSON; with metadata its structure without text; null if it is left out.
    pub request: Option<&'a str>,
    /// Answer, put together and redacted, as JSON; with metadata its structure without text; null if it is left out.
    pub answer: Option<&'a str>,
    /// Why the request body is left out: unreadable, too_large, busy.
    pub request_omitted: Option<&'a str>,
    /// Why the answer is left out: unreadable, too_large, busy, none.
    pub answer_omitted: Option<&'a str>,
    /// Whether texts of the request were shortened to fit.
    pub request_truncated: bool,
    /// Whether texts of the answer were shortened to fit, or the answer was cut.
    pub answer_truncated: bool,
    /// Secrets and matches of patterns that were taken out.
    pub redactions: Count,
    /// What found them.
    #[serde(borrow)]
    pub detectors: Vec<&'a str>,
    /// Random, so that what was kept cannot be guessed from its hash once it is erased.
    pub salt: Salt,
}

/// Calls without a valid key that have no rows of their own, from one address within about a minute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusalsCounted<'a> {
    /// When the first of them arrived.
    pub ts_us: Count,
    /// When the last of them arrived.
    pub last_us: Count,
    /// Address that they came from; of IPv6 the network of 64 bits; other: those beyond the addresses that are counted apart.
    pub address: &'a str,
    /// What was wrong with the key: missing, malformed, unknown, revoked, rotated, expired, admin_token.
    pub reason: &'a str,
    /// How many there were.
    pub refused: Count,
    /// How many of them were answered 429, because there were too many from the address.
    pub limited: Count,
}

/// First event of every stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamOpened<'a> {
    /// When the stream was opened.
    pub ts_us: Count,
    /// Name of the process's installation: host name, or the configured one.
    pub instance: &'a str,
    /// Program that writes: gateway, cli.
    pub process: &'a str,
    /// Number of the stream within its process.
    pub shard: u16,
    /// Version of the program.
    pub version: &'a str,
    /// Public key that the stream's seals are signed with (Ed25519, hex); null if they are not signed.
    pub seal_key: Option<&'a str>,
}

/// Last event of every stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamClosed<'a> {
    /// When the stream was closed.
    pub ts_us: Count,
    /// shutdown: closed by its writer. recovered: the writer died, and a later process closed it.
    pub reason: &'a str,
    /// Bytes of an unfinished event that were cut off at recovery.
    pub torn_bytes: Count,
}

/// Events that were not written because the journal was full and its policy is drop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventsDropped<'a> {
    /// When there was room again.
    pub ts_us: Count,
    /// When the first of them was dropped.
    pub since_us: Count,
    /// How many events were dropped.
    pub events: Count,
    /// Why: journal_full.
    pub reason: &'a str,
}

/// What the writer of a stream wrote since the seal before, as hashes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamSealed<'a> {
    /// When the seal was made.
    pub ts_us: Count,
    /// Which columns of the rows are hashed.
    pub version: u16,
    /// First event under the seal.
    pub first_seq: Count,
    /// Last event under the seal.
    pub last_seq: Count,
    /// The stream's hash chain after that event, in hex.
    pub chain: &'a str,
    /// First eight bytes of each event's hash, by seq.
    #[serde(with = "serde_bytes")]
    pub fingerprints: &'a [u8],
    /// Signature by the stream's key (Ed25519, hex); null if the stream has none.
    pub signature: Option<&'a str>,
}

impl StreamSealed<'_> {
    /// What the signature is over: lines of text, and the fingerprints behind them.
    #[must_use]
    pub fn signed_message(&self, stream: StreamId) -> Vec<u8> {
        let Self {
            ts_us,
            version,
            first_seq,
            last_seq,
            chain,
            fingerprints,
            signature: _,
        } = self;
        let [ts_us, first_seq, last_seq] = [ts_us, first_seq, last_seq].map(|it| it.get());
        let lines = format!(
            "weir seal v1\n{stream}\n{ts_us}\n{version}\n{first_seq}\n{last_seq}\n{chain}\n"
        );
        [lines.as_bytes(), fingerprints].concat()
    }
}

/// One deployment that routing considered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate<'a> {
    /// Deployment: provider/model.
    pub target: &'a str,
    /// Score that the strategy gave it; lower is better.
    pub score: Option<f64>,
    /// Probability that it was tried first.
    pub propensity: f64,
}

/// What a call consumed at a model beside the one that answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OtherModel<'a> {
    /// Name of the model.
    pub model: &'a str,
    /// What was consumed there; the call's own counts do not include it.
    pub usage: Usage,
}

/// Free tags, in the order they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags<'a>(pub Vec<(&'a str, &'a str)>);

impl Serialize for Tags<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Tags<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TagsVisitor;

        impl<'de> Visitor<'de> for TagsVisitor {
            type Value = Tags<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tags")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut tags = Vec::with_capacity(map.size_hint().unwrap_or(0).min(64));
                while let Some(entry) = map.next_entry()? {
                    tags.push(entry);
                }
                Ok(Tags(tags))
            }
        }

        deserializer.deserialize_map(TagsVisitor)
    }
}
