//! Checks of settings that their types do not make.

use weir_controller::TablePolicy;
use weir_gateway::ConfigProblem;
use weir_gateway::Payloads;
use weir_gateway::config::{AliasConfig, StrategyConfig, TimeoutConfig};
use weir_store::RETENTION_DAYS_MAX;

use crate::cli::public_key;

use super::{
    Config, ConsoleSettings, EventlogConfig, EventlogKind, RoutingConfig, StoreKind, StoreSettings,
};

/// All problems of parsed settings, apart from providers and targets, which
/// [`weir_gateway::Directory::build`] checks.
pub(super) fn check(config: &Config) -> Vec<ConfigProblem> {
    let mut problems = Problems::default();
    let gateway = &config.gateway;
    problems.at_least_1("gateway.body_bytes_max", gateway.body_bytes_max);
    problems.at_least_1("gateway.connections_max", gateway.connections_max);
    problems.at_least_1("gateway.header_timeout_ms", gateway.header_timeout_ms);
    problems.at_least_1(
        "gateway.keep_alive_timeout_ms",
        gateway.keep_alive_timeout_ms,
    );
    problems.at_least_1("gateway.on_disconnect.max_ms", gateway.on_disconnect.max_ms);
    problems.at_least_1("gateway.body_timeout_ms", gateway.body_timeout_ms);
    problems.at_least_1("gateway.send_timeout_ms", gateway.send_timeout_ms);
    problems.at_least_1("gateway.webhook.timeout_ms", gateway.webhook.timeout_ms);
    if let Err(problem) = weir_gateway::webhook_egress(&gateway.webhook) {
        problems.found.push(problem);
    }
    check_eventlog(&config.eventlog, &mut problems);
    check_store(&config.store, &mut problems);
    check_console(&config.console, &mut problems);
    problems.at_least_1("audit.anchor_every_s", config.audit.anchor_every_s);
    for (index, key) in config.audit.gateway_keys.iter().enumerate() {
        if let Err(fault) = public_key(key) {
            problems.add(format!("audit.gateway_keys[{index}]"), fault);
        }
    }
    for (index, anchor) in config.audit.anchors().enumerate() {
        if let Err(error) = anchor {
            problems.add(format!("audit.anchor[{index}].url"), error.to_string());
        }
    }
    check_routing(&config.routing, &mut problems);
    if let Err(found) = Payloads::build(&config.payloads) {
        problems.found.extend(found);
    }
    for (index, alias) in config.aliases.iter().enumerate() {
        let before = &config.aliases[..index];
        check_alias(&format!("alias[{index}]"), alias, before, &mut problems);
    }
    for (index, provider) in config.providers.iter().enumerate() {
        check_timeouts(
            &format!("provider[{index}].timeouts"),
            provider.timeouts,
            &mut problems,
        );
    }
    problems.found
}

#[derive(Default)]
struct Problems {
    found: Vec<ConfigProblem>,
}

impl Problems {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.found.push(ConfigProblem {
            path: path.into(),
            message: message.into(),
        });
    }

    fn at_least_1<T: PartialEq + From<u8>>(&mut self, path: impl Into<String>, value: T) {
        if value == T::from(0) {
            self.add(path, "must be at least 1");
        }
    }
}

fn check_eventlog(eventlog: &EventlogConfig, problems: &mut Problems) {
    if eventlog.kind == EventlogKind::Kafka && eventlog.brokers.is_none() {
        problems.add(
            "eventlog.brokers",
            "is required with kind = \"kafka\", such as \"host:9092\"",
        );
    }
    if eventlog.group.is_empty() {
        problems.add(
            "eventlog.group",
            "must not be empty: ingestors share work by consumer group",
        );
    }
    problems.at_least_1("eventlog.partitions", eventlog.partitions);
    if let Some(replication) = eventlog.replication {
        problems.at_least_1("eventlog.replication", replication);
    }
}

fn check_store(store: &StoreSettings, problems: &mut Problems) {
    match (store.kind, &store.url) {
        (StoreKind::Clickhouse, None) => problems.add(
            "store.url",
            "is needed with kind = \"clickhouse\", as \"http://host:8123\"",
        ),
        (StoreKind::Clickhouse, Some(url)) if !is_http(url) => {
            problems.add(
                "store.url",
                format!("\"{url}\" must begin with http:// or https://"),
            );
        }
        _ => {}
    }
    for (path, days) in [
        ("store.retention_days", store.retention_days),
        ("store.payload_retention_days", store.payload_retention_days),
    ] {
        if days > RETENTION_DAYS_MAX {
            problems.add(
                path,
                format!(
                    "must be at most {RETENTION_DAYS_MAX} (50 years), got {days}; 0 keeps for good"
                ),
            );
        }
    }
}

fn check_console(console: &ConsoleSettings, problems: &mut Problems) {
    problems.at_least_1("console.session_hours", console.session_hours);
    let gateway = console.gateway.as_deref();
    if gateway.is_some_and(|url| !is_http(url) || !url.starts_with("http://")) {
        problems.add(
            "console.gateway",
            "must be the address of a gateway, such as \"http://127.0.0.1:8080\"",
        );
    }
    let is_of_path = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let path = &console.path;
    if !path.is_empty() && (!path.starts_with('/') || !path.bytes().all(is_of_path)) {
        problems.add("console.path", "must begin with a slash, such as \"/weir\"");
    }
}

fn check_routing(routing: &RoutingConfig, problems: &mut Problems) {
    problems.at_least_1("routing.refresh_s", routing.refresh_s);
    if routing.window_s < routing.refresh_s {
        problems.add(
            "routing.window_s",
            format!(
                "must be at least refresh_s ({1}), got {0}; a shorter window would miss traffic",
                routing.window_s, routing.refresh_s
            ),
        );
    }
    if routing.topic.is_empty() {
        problems.add(
            "routing.topic",
            "must not be empty: gateways read the tables from it",
        );
    }
    check_table(&routing.table, problems);
}

fn check_table(table: &TablePolicy, problems: &mut Problems) {
    if table.trusted_s >= table.forgotten_s {
        problems.add(
            "routing.table.trusted_s",
            format!(
                "must be below forgotten_s ({1}), got {0}",
                table.trusted_s, table.forgotten_s
            ),
        );
    }
    let mut within = |name: &str, value: f64, least: f64, most: f64| {
        if !(least..=most).contains(&value) {
            problems.add(
                format!("routing.table.{name}"),
                format!("must be between {least} and {most}, got {value}"),
            );
        }
    };
    within("unmeasured_step", table.unmeasured_step, 0.0, 1.0);
    within("weight_step_max", table.weight_step_max, 1.0, 10.0);
    within("weight_range", table.weight_range, 1.0, 100.0);
    within("weight_hysteresis", table.weight_hysteresis, 0.0, 1.0);
    within("value_step_max", table.value_step_max, 1.0, 100.0);
    within("revert_margin", table.revert_margin, 0.0, 10.0);
    problems.at_least_1("routing.table.tries_min", table.tries_min);
    problems.at_least_1(
        "routing.table.revert_requests_min",
        table.revert_requests_min,
    );
}

fn is_http(url: &str) -> bool {
    url.parse::<http::Uri>()
        .is_ok_and(|uri| uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")))
}

fn check_alias(path: &str, alias: &AliasConfig, before: &[AliasConfig], problems: &mut Problems) {
    if alias.targets.is_empty() {
        problems.add(
            format!("{path}.targets"),
            "must have at least one { provider = …, model = … }",
        );
    } else if alias.strategy != StrategyConfig::Chain
        && alias.targets.iter().all(|target| target.weight == 0)
    {
        problems.add(
            format!("{path}.targets"),
            "must have at least one weight above 0",
        );
    }
    if before.iter().any(|other| other.name == alias.name) {
        problems.add(
            format!("{path}.name"),
            format!(
                "there are two aliases named \"{}\"; rename one of them",
                alias.name
            ),
        );
    }
}

fn check_timeouts(path: &str, timeouts: TimeoutConfig, problems: &mut Problems) {
    problems.at_least_1(format!("{path}.connect_ms"), timeouts.connect_ms);
    problems.at_least_1(format!("{path}.first_byte_ms"), timeouts.first_byte_ms);
    problems.at_least_1(format!("{path}.idle_ms"), timeouts.idle_ms);
    problems.at_least_1(format!("{path}.total_ms"), timeouts.total_ms);
}
