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
use weir_eventlog::{Journal, PartState, Parts};
use weir_limits::Class;

use crate::record::context::RequestContext;
use crate::record::trail::RequestRecord;
use crate::record::unauthenticated::{KeyFault, KeyVerdict};
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

/// Names and values of the labels of what is not counted for each request.
type LabelPairs<V, const N: usize> = [(&'static str, V); N];

/// Declares a group of metrics: each one's field, type, first value, name and meaning.
macro_rules! metrics {
    (
        $(#[$doc:meta])*
        $group:ident($($given:ident: $given_type:ty)?) {
            $($vis:vis $field:ident: $type:ty = $new:expr, $name:literal $(in $unit:ident)?, $help:literal;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $group {
            $($vis $field: $type,)*
        }

        impl $group {
            fn register(registry: &mut Registry $(, $given: $given_type)?) -> Self {
                let group = Self {
                    $($field: $new,)*
                };
                $(metrics!(@register registry group.$field, $name, $help $(, $unit)?);)*
                group
            }

            /// Name, type and unit of each.
            #[cfg(test)]
            const DECLARED: &[(&str, &str, &str)] =
                &[$(($name, stringify!($type), concat!($(stringify!($unit))?)),)*];
        }
    };
    (@register $registry:ident $metric:expr, $name:literal, $help:literal) => {
        $registry.register($name, $help, $metric.clone())
    };
    (@register $registry:ident $metric:expr, $name:literal, $help:literal, $unit:ident) => {
        $registry.register_with_unit($name, $help, Unit::$unit, $metric.clone())
    };
}

type FloatGauge = Gauge<f64, AtomicU64>;

/// 1 ms to about 9 minutes.
fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 20))
}

/// 8 µs to about 0.26 s.
fn overheads() -> Histogram {
    Histogram::new(exponential_buckets(0.000_008, 2.0, 16))
}

metrics! {
    /// What is counted while requests are served.
    RequestMetrics(payload_held_bytes: Gauge) {
        requests: Family<RequestLabels, Counter> = Family::default(),
            "requests", "Requests answered";
        attempts: Family<AttemptLabels, Counter> = Family::default(),
            "attempts", "Attempts at deployments, shadows included";
        duration: Family<DialectLabels, Histogram> = Family::new_with_constructor(latencies),
            "request_duration" in Seconds,
            "Time from a request's arrival to the end of its response";
        time_to_first_token: Family<DialectLabels, Histogram> =
            Family::new_with_constructor(latencies),
            "time_to_first_token" in Seconds, "Time from a request's arrival to its first token";
        overhead: Histogram = overheads(),
            "overhead" in Seconds,
            "Time from a request's arrival to the first byte sent to a provider";
        pub(crate) in_flight: Gauge = Gauge::default(), "in_flight", "Requests in flight";
        over_limit: Family<LabelPairs<&'static str, 2>, Counter> = Family::default(),
            "over_provider_limit",
            "Requests that waited or were refused because every provider's rate limit was used up";
        pub(crate) shadows_left_out: Counter = Counter::default(),
            "shadows_left_out", "Shadows not sent because too many were in flight";
        pub(crate) budget_overspent: Counter = Counter::default(),
            "budget_overspent", "Times that a call was billed more than was reserved of a hard budget";
        pub(crate) drains_left_out: Counter = Counter::default(),
            "drains_left_out",
            "Answers not drained after their client left because too many were being drained";
        pub(crate) connections_refused: Counter = Counter::default(),
            "connections_refused", "Connections refused because all places were taken";
        unauthenticated: Family<LabelPairs<&'static str, 2>, Counter> = Family::default(),
            "unauthenticated_requests", "Requests without a valid key";
        payload_held_bytes: Gauge = payload_held_bytes,
            "payload_held_bytes", "Captured payloads of requests in flight";
        pub(crate) webhook_posts: Counter = Counter::default(),
            "webhook_posts", "Budget thresholds posted to the webhook";
        pub(crate) webhook_failures: Counter = Counter::default(),
            "webhook_failures", "Posts to the webhook that failed; each is retried";
    }
}

metrics! {
    /// What routing knows, read when the page is asked for.
    DeploymentMetrics() {
        state: Family<LabelPairs<String, 2>, Gauge> = Family::default(),
            "deployment_state",
            "1 for the state that a deployment is in: closed, slow_start, half_open, open";
        in_flight: Family<LabelPairs<String, 1>, Gauge> = Family::default(),
            "deployment_in_flight", "Attempts in flight at a deployment";
        ejections: Family<LabelPairs<String, 1>, Gauge> = Family::default(),
            "deployment_ejections", "Times a deployment was ejected since the start";
        success_ratio: Family<LabelPairs<String, 1>, FloatGauge> = Family::default(),
            "deployment_success_ratio", "Share of recent attempts that succeeded";
        limit: Family<LabelPairs<String, 2>, Gauge> = Family::default(),
            "provider_limit_size",
            "Rate limit of a deployment, as its provider announces it or as configured for its key";
        limit_left: Family<LabelPairs<String, 2>, Gauge> = Family::default(),
            "provider_limit_left", "What is left of that limit";
        refused_keys: Family<LabelPairs<String, 1>, Gauge> = Family::default(),
            "provider_key_refused", "1 if the provider refuses this key";
        table_version: Gauge = Gauge::default(),
            "routing_table_version", "Version of the routing table in force; 0 is none";
        table_belief: FloatGauge = FloatGauge::default(),
            "routing_table_belief",
            "How much the routing table counts: 1 when fresh, 0 when too old";
    }
}

metrics! {
    /// How the parts of the process fare, read when the page is asked for.
    PartMetrics() {
        up: Family<LabelPairs<String, 1>, Gauge> = Family::default(),
            "part_up", "1 if this part of the process does its work, 0 if it does not or is started again";
        restarts: Family<LabelPairs<String, 1>, Gauge> = Family::default(),
            "part_restarts", "Times that the part ended by itself and was started again";
    }
}

metrics! {
    /// The journal's own figures, read when the page is asked for.
    JournalMetrics() {
        disk_bytes: Gauge = Gauge::default(), "journal_disk_bytes", "Size of the journal on disk";
        appended_events: Gauge = Gauge::default(),
            "journal_appended_events", "Events written since the start";
        dropped_events: Gauge = Gauge::default(),
            "journal_dropped_events", "Events not written because the journal was full";
        torn_bytes: Gauge = Gauge::default(),
            "journal_torn_bytes", "Bytes of unfinished events cut off at recovery";
    }
}

/// The metrics of one gateway process.
#[derive(Debug)]
pub(crate) struct Telemetry {
    registry: Registry,
    pub(crate) metrics: RequestMetrics,
    deployments: DeploymentMetrics,
    parts: PartMetrics,
    journal: Journal,
    journal_metrics: JournalMetrics,
}

impl DeploymentMetrics {
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
            let name = ("deployment", deployment.name.clone());
            let state = ("state", health.state.as_str().to_owned());
            self.state.get_or_create(&[name.clone(), state]).set(1);
            let known = deployment.limits.read(now_us);
            for (unit, known) in ["requests", "tokens"].into_iter().zip(known) {
                let Some(known) = known else { continue };
                let labels = [name.clone(), ("unit", unit.to_owned())];
                let left = signed(known.left);
                self.limit.get_or_create(&labels).set(signed(known.limit));
                self.limit_left.get_or_create(&labels).set(left);
            }
            if let Some(key) = &deployment.key_name {
                let labels = [("provider_key", key.clone())];
                let refused = self.refused_keys.get_or_create(&labels);
                refused.set(refused.get().max(i64::from(health.refuses_key())));
            }
            let (labels, in_flight) = ([name], i64::from(health.in_flight));
            self.in_flight.get_or_create(&labels).set(in_flight);
            let ejections = signed(health.ejections);
            self.ejections.get_or_create(&labels).set(ejections);
            let success_ratio = f64::from(health.success_ratio);
            self.success_ratio.get_or_create(&labels).set(success_ratio);
        }
        let priors = routing.priors();
        self.table_version.set(signed(priors.version()));
        self.table_belief.set(f64::from(priors.belief(now_us)));
    }
}

impl PartMetrics {
    fn read(&self, parts: &Parts) {
        for part in parts.statuses() {
            let labels = [("part", part.name.to_string())];
            let up = i64::from(part.state == PartState::Ok);
            self.up.get_or_create(&labels).set(up);
            self.restarts
                .get_or_create(&labels)
                .set(signed(part.restarts));
        }
    }
}

impl Telemetry {
    pub(crate) fn new(journal: Journal, payload_held_bytes: Gauge) -> Self {
        let mut registry = Registry::with_prefix("weir");
        Self {
            metrics: RequestMetrics::register(&mut registry, payload_held_bytes),
            deployments: DeploymentMetrics::register(&mut registry),
            parts: PartMetrics::register(&mut registry),
            journal,
            journal_metrics: JournalMetrics::register(&mut registry),
            registry,
        }
    }

    /// Counts a finished request and its attempts.
    pub(crate) fn count(&self, context: &RequestContext, record: &RequestRecord) {
        let (metrics, dialect) = (&self.metrics, context.dialect);
        let requests = RequestLabels {
            dialect,
            status: record.status,
            error_kind: record.failure.as_ref().map_or("", |failure| failure.kind),
        };
        metrics.requests.get_or_create(&requests).inc();
        let labels = DialectLabels { dialect };
        let total = seconds(context.arrived.elapsed_us());
        metrics.duration.get_or_create(&labels).observe(total);
        if let Some(ttft_us) = record.ttft_us {
            let to_first_token = metrics.time_to_first_token.get_or_create(&labels);
            to_first_token.observe(seconds(ttft_us));
        }
        if let Some(overhead_us) = record.overhead_us(context) {
            metrics.overhead.observe(seconds(overhead_us));
        }
        self.count_attempts(record);
    }

    /// Counts a request that found every provider's limit used up.
    pub(crate) fn count_over_limit(&self, class: Class, outcome: &'static str) {
        let class = match class {
            Class::Interactive => "interactive",
            Class::Batch => "batch",
        };
        let labels = [("class", class), ("outcome", outcome)];
        self.metrics.over_limit.get_or_create(&labels).inc();
    }

    /// Counts a request without a valid key.
    pub(crate) fn count_unauthenticated(&self, fault: KeyFault, verdict: KeyVerdict) {
        let answer = match verdict {
            KeyVerdict::Row | KeyVerdict::Counted => "refused",
            KeyVerdict::Limited { .. } => "limited",
        };
        let labels = [("reason", fault.as_str()), ("answer", answer)];
        self.metrics.unauthenticated.get_or_create(&labels).inc();
    }

    /// Counts attempts, those of shadows too.
    pub(crate) fn count_attempts(&self, record: &RequestRecord) {
        for attempt in record.attempts.iter() {
            let failure = attempt.failure.as_ref();
            let labels = AttemptLabels {
                deployment: attempt.deployment.name.clone(),
                kind: attempt.kind,
                error_kind: failure.map_or("", |(end, _)| end.as_str()),
            };
            self.metrics.attempts.get_or_create(&labels).inc();
        }
    }

    /// The page in the OpenMetrics text format.
    pub(crate) fn page(&self, routing: &RoutingState, parts: &Parts) -> String {
        self.read_journal();
        self.parts.read(parts);
        self.deployments.read(routing);
        let mut page = String::with_capacity(16 * 1024);
        if let Err(error) = encode(&mut page, &self.registry) {
            tracing::error!(%error, "failed to encode the metrics");
        }
        page
    }

    fn read_journal(&self) {
        let stats = self.journal.stats();
        let gauges = &self.journal_metrics;
        gauges.disk_bytes.set(signed(stats.bytes_on_disk));
        gauges.appended_events.set(signed(stats.appended_events));
        gauges.dropped_events.set(signed(stats.dropped_events));
        gauges.torn_bytes.set(signed(stats.torn_bytes));
    }
}

/// A count as gauges take it.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a histogram's buckets are far coarser"
)]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PAGE: &str = include_str!("../../../docs/metrics.md");

    /// Name, type and unit of a declared metric, as a scraper sees them.
    fn shown((name, declared, unit): (&str, &str, &str)) -> (String, &'static str) {
        let unit = if unit.is_empty() { "" } else { "_seconds" };
        let (kind, suffix) = if declared.contains("Counter") {
            ("counter", "_total")
        } else if declared.contains("Histogram") {
            ("histogram", "")
        } else {
            ("gauge", "")
        };
        (format!("weir_{name}{unit}{suffix}"), kind)
    }

    #[test]
    fn the_metrics_page_lists_every_metric_with_its_type_and_no_other() {
        let groups = [
            RequestMetrics::DECLARED,
            DeploymentMetrics::DECLARED,
            PartMetrics::DECLARED,
            JournalMetrics::DECLARED,
        ];
        let declared: BTreeSet<_> = groups.concat().into_iter().map(shown).collect();
        let rows = PAGE
            .lines()
            .filter_map(|line| line.strip_prefix("| `weir_"));
        let documented: BTreeSet<_> = rows
            .map(|row| {
                let (name, rest) = row.split_once("` | ").unwrap();
                let kind = rest.split(" | ").next().unwrap();
                (format!("weir_{name}"), kind)
            })
            .collect();
        assert_eq!(declared, documented);
    }
}
