//! What `/metrics` shows.
//!
//! Every label takes its values from the configuration or from a closed set of words, so no client
//! can make series grow.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use weir_eventlog::Journal;
use weir_limits::Class;

use crate::record::attempt::AttemptRecord;
use crate::record::context::RequestContext;
use crate::record::trail::RequestRecord;
use crate::setup::routing_table::RoutingState;
use weir_governance::clock::Moment;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    dialect: &'static str,
    status: u16,
    error_kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    deployment: String,
    kind: &'static str,
    error_kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DialectLabels {
    dialect: &'static str,
}

/// The counters of one gateway process.
#[derive(Debug)]
pub(crate) struct Telemetry {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    duration: Family<DialectLabels, Histogram>,
    time_to_first_token: Family<DialectLabels, Histogram>,
    overhead: Histogram,
    pub(crate) in_flight: Gauge,
    pub(crate) shadows_left_out: Counter,
    pub(crate) drains_left_out: Counter,
    pub(crate) webhook_posts: Counter,
    pub(crate) webhook_failures: Counter,
    over_limit: Family<OverLimitLabels, Counter>,
    payload_held_bytes: Gauge,
    journal: Journal,
    journal_gauges: JournalGauges,
    deployments: DeploymentGauges,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeploymentLabels {
    deployment: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    deployment: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    deployment: String,
    unit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OverLimitLabels {
    class: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabels {
    provider_key: String,
}

/// What routing knows, read when the page is asked for.
#[derive(Debug, Default)]
struct DeploymentGauges {
    state: Family<StateLabels, Gauge>,
    in_flight: Family<DeploymentLabels, Gauge>,
    ejections: Family<DeploymentLabels, Gauge>,
    success_ratio: Family<DeploymentLabels, Gauge<f64, AtomicU64>>,
    refused_keys: Family<KeyLabels, Gauge>,
    limit: Family<LimitLabels, Gauge>,
    limit_left: Family<LimitLabels, Gauge>,
    table_version: Gauge,
    table_belief: Gauge<f64, AtomicU64>,
}

impl DeploymentGauges {
    fn register(&self, registry: &mut Registry) {
        let registry_of = registry.sub_registry_with_prefix("deployment");
        registry_of.register(
            "state",
            "1 for the state that a deployment is in: closed, slow_start, half_open, open",
            self.state.clone(),
        );
        registry_of.register(
            "in_flight",
            "Tries in flight at a deployment",
            self.in_flight.clone(),
        );
        registry_of.register(
            "ejections",
            "Times that a deployment was taken out of service",
            self.ejections.clone(),
        );
        registry_of.register(
            "success_ratio",
            "Share of recent attempts that succeeded",
            self.success_ratio.clone(),
        );
        let registry_of = registry.sub_registry_with_prefix("provider_limit");
        registry_of.register(
            "size",
            "Limit of a deployment, as its provider announces it or its key was granted it",
            self.limit.clone(),
        );
        registry_of.register("left", "What is left of it", self.limit_left.clone());
        registry.register(
            "provider_key_refused",
            "1 for a provider key that its provider refuses",
            self.refused_keys.clone(),
        );
        let registry_of = registry.sub_registry_with_prefix("routing_table");
        registry_of.register(
            "version",
            "Number of the routing table in force; 0 is none",
            self.table_version.clone(),
        );
        registry_of.register(
            "belief",
            "How much the routing table counts: 1 when fresh, 0 when too old",
            self.table_belief.clone(),
        );
    }

    fn read(&self, routing: &RoutingState) {
        let now_us = Moment::now().unix_us;
        // A deployment that is gone has no state.
        self.state.clear();
        self.in_flight.clear();
        self.ejections.clear();
        self.success_ratio.clear();
        self.refused_keys.clear();
        self.limit.clear();
        self.limit_left.clear();
        for (deployment, health) in routing.load_directory().healths(now_us) {
            let labels = DeploymentLabels {
                deployment: deployment.name.clone(),
            };
            let state = StateLabels {
                deployment: deployment.name.clone(),
                state: health.state.as_str(),
            };
            self.state.get_or_create(&state).set(1);
            let known = deployment.pool.read(now_us);
            for (unit, known) in ["requests", "tokens"].into_iter().zip(known) {
                let Some(known) = known else { continue };
                let labels = LimitLabels {
                    deployment: deployment.name.clone(),
                    unit,
                };
                let gauge = |value| i64::try_from(value).unwrap_or(i64::MAX);
                self.limit.get_or_create(&labels).set(gauge(known.limit));
                self.limit_left
                    .get_or_create(&labels)
                    .set(gauge(known.left));
            }
            if let Some(key) = &deployment.key_name {
                let labels = KeyLabels {
                    provider_key: key.clone(),
                };
                let refused = self.refused_keys.get_or_create(&labels);
                refused.set(refused.get().max(i64::from(health.refuses_key())));
            }
            self.in_flight
                .get_or_create(&labels)
                .set(i64::from(health.in_flight));
            let ejections = i64::try_from(health.ejections).unwrap_or(i64::MAX);
            self.ejections.get_or_create(&labels).set(ejections);
            self.success_ratio
                .get_or_create(&labels)
                .set(f64::from(health.success_ratio));
        }
        let priors = routing.priors();
        let version = i64::try_from(priors.version()).unwrap_or(i64::MAX);
        self.table_version.set(version);
        self.table_belief.set(f64::from(priors.belief(now_us)));
    }
}

#[derive(Debug, Default)]
struct JournalGauges {
    disk_bytes: Gauge,
    appended_events: Gauge,
    dropped_events: Gauge,
    torn_bytes: Gauge,
}

impl Telemetry {
    pub(crate) fn new(journal: Journal, payload_held_bytes: Gauge) -> Self {
        let mut registry = Registry::with_prefix("weir");
        // 1 ms to about 9 minutes.
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 20));
        // 8 µs to about 0.26 s.
        let overhead = Histogram::new(exponential_buckets(0.000_008, 2.0, 16));
        let telemetry = Self {
            requests: Family::default(),
            attempts: Family::default(),
            duration: Family::new_with_constructor(seconds),
            time_to_first_token: Family::new_with_constructor(seconds),
            overhead,
            in_flight: Gauge::default(),
            shadows_left_out: Counter::default(),
            drains_left_out: Counter::default(),
            webhook_posts: Counter::default(),
            webhook_failures: Counter::default(),
            over_limit: Family::default(),
            payload_held_bytes,
            journal,
            journal_gauges: JournalGauges::default(),
            deployments: DeploymentGauges::default(),
            registry: Registry::default(),
        };
        let (duration, ttft) = (
            telemetry.duration.clone(),
            telemetry.time_to_first_token.clone(),
        );
        registry.register("requests", "Requests answered", telemetry.requests.clone());
        registry.register(
            "attempts",
            "Tries at deployments",
            telemetry.attempts.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "Time from a request's arrival to the end of its response",
            Unit::Seconds,
            duration,
        );
        registry.register_with_unit(
            "time_to_first_token",
            "Time from a request's arrival to its first token",
            Unit::Seconds,
            ttft,
        );
        registry.register_with_unit(
            "overhead",
            "Time from a request's arrival to the first byte sent to a provider",
            Unit::Seconds,
            telemetry.overhead.clone(),
        );
        registry.register(
            "in_flight",
            "Requests in flight",
            telemetry.in_flight.clone(),
        );
        registry.register(
            "shadows_left_out",
            "Copies that were not sent because too many were under way",
            telemetry.shadows_left_out.clone(),
        );
        registry.register(
            "drains_left_out",
            "Answers that were not read to their end without their client because too many were",
            telemetry.drains_left_out.clone(),
        );
        registry.register(
            "webhook_posts",
            "Thresholds of budgets that the webhook was told of",
            telemetry.webhook_posts.clone(),
        );
        registry.register(
            "webhook_failures",
            "Posts to the webhook that failed; they are made again",
            telemetry.webhook_failures.clone(),
        );
        registry.register(
            "over_provider_limit",
            "Times that a request waited, or was refused, because every provider's limit was used up",
            telemetry.over_limit.clone(),
        );
        registry.register(
            "payload_held_bytes",
            "What is held of captured payloads of requests in flight",
            telemetry.payload_held_bytes.clone(),
        );
        telemetry.deployments.register(&mut registry);
        let gauges = &telemetry.journal_gauges;
        let journal = registry.sub_registry_with_prefix("journal");
        journal.register(
            "disk_bytes",
            "Size of the journal on disk",
            gauges.disk_bytes.clone(),
        );
        journal.register(
            "appended_events",
            "Events written since the start",
            gauges.appended_events.clone(),
        );
        journal.register(
            "dropped_events",
            "Events not written because the journal was full",
            gauges.dropped_events.clone(),
        );
        journal.register(
            "torn_bytes",
            "Bytes of unfinished events cut off at recovery",
            gauges.torn_bytes.clone(),
        );
        Self {
            registry,
            ..telemetry
        }
    }

    /// Counts a finished request and its attempts.
    pub(crate) fn count(&self, context: &RequestContext, record: &RequestRecord) {
        let dialect = DialectLabels {
            dialect: context.dialect,
        };
        let error_kind = record.failure.as_ref().map_or("", |failure| failure.kind);
        self.requests
            .get_or_create(&RequestLabels {
                dialect: context.dialect,
                status: record.status,
                error_kind,
            })
            .inc();
        self.duration
            .get_or_create(&dialect)
            .observe(seconds(context.arrived.elapsed_us()));
        if let Some(ttft_us) = record.ttft_us {
            self.time_to_first_token
                .get_or_create(&dialect)
                .observe(seconds(ttft_us));
        }
        if let Some(overhead_us) = record.overhead_us(context) {
            self.overhead.observe(seconds(overhead_us));
        }
        self.count_attempts(record);
    }

    /// Counts a request that found every provider's limit used up.
    pub(crate) fn count_over_limit(&self, class: Class, outcome: &'static str) {
        let class = match class {
            Class::Interactive => "interactive",
            Class::Batch => "batch",
        };
        let labels = OverLimitLabels { class, outcome };
        self.over_limit.get_or_create(&labels).inc();
    }

    /// Counts attempts, those of shadows too.
    pub(crate) fn count_attempts(&self, record: &RequestRecord) {
        record
            .attempts
            .iter()
            .for_each(|attempt| self.count_attempt(attempt));
    }

    fn count_attempt(&self, attempt: &AttemptRecord) {
        let labels = AttemptLabels {
            deployment: attempt.deployment.name.clone(),
            kind: attempt.kind,
            error_kind: attempt.failure.as_ref().map_or("", |(end, _)| end.as_str()),
        };
        self.attempts.get_or_create(&labels).inc();
    }

    /// The page in the OpenMetrics text format.
    pub(crate) fn page(&self, routing: &RoutingState) -> String {
        self.read_journal();
        self.deployments.read(routing);
        let mut page = String::with_capacity(16 * 1024);
        if let Err(error) = encode(&mut page, &self.registry) {
            tracing::error!(%error, "encode the metrics");
        }
        page
    }

    fn read_journal(&self) {
        let stats = self.journal.stats();
        let gauges = &self.journal_gauges;
        let set = |gauge: &Gauge, value: u64| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&gauges.disk_bytes, stats.bytes_on_disk);
        set(&gauges.appended_events, stats.appended_events);
        set(&gauges.dropped_events, stats.dropped_events);
        set(&gauges.torn_bytes, stats.torn_bytes);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a histogram's buckets are far coarser"
)]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}
