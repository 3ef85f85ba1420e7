//! What the types of the settings cannot say.

use weir_gateway::ConfigProblem;
use weir_gateway::config::StrategyConfig;

use super::{Config, EventlogKind, StoreKind};

/// Everything that is wrong with settings that could be read.
pub(super) fn check(config: &Config) -> Vec<ConfigProblem> {
    let mut problems = Vec::new();
    let mut problem = |path: &str, message: &str| {
        problems.push(ConfigProblem {
            path: path.into(),
            message: message.into(),
        });
    };
    if config.eventlog.kind == EventlogKind::Kafka && config.eventlog.brokers.is_none() {
        problem(
            "eventlog.brokers",
            "is needed with kind = \"kafka\", as \"host:9092\"",
        );
    }
    if config.eventlog.partitions == 0 {
        problem("eventlog.partitions", "must be at least 1");
    }
    if config.store.kind == StoreKind::Clickhouse && config.store.url.is_none() {
        problem(
            "store.url",
            "is needed with kind = \"clickhouse\", as \"http://host:8123\"",
        );
    }
    if config.store.retention_days == 0 {
        problem("store.retention_days", "must be at least 1");
    }
    if config.gateway.body_bytes_max == 0 {
        problem("gateway.body_bytes_max", "must be at least 1");
    }
    if config.gateway.connections_max == 0 {
        problem("gateway.connections_max", "must be at least 1");
    }
    for (index, alias) in config.aliases.iter().enumerate() {
        let targets = &alias.targets;
        if targets.is_empty() {
            let path = format!("alias[{index}].targets");
            problem(
                &path,
                "is empty; it needs at least one { provider = …, model = … }",
            );
        } else if alias.strategy != StrategyConfig::Chain && targets.iter().all(|t| t.weight == 0) {
            let path = format!("alias[{index}].targets");
            problem(
                &path,
                "have no weight at all; give at least one of them a weight above 0",
            );
        }
        if config.aliases[..index]
            .iter()
            .any(|before| before.name == alias.name)
        {
            let message = format!("there are two aliases named \"{}\"", alias.name);
            problem(&format!("alias[{index}].name"), &message);
        }
    }
    for (index, provider) in config.providers.iter().enumerate() {
        let timeouts = provider.timeouts;
        for (name, value) in [
            ("connect_ms", timeouts.connect_ms),
            ("first_byte_ms", timeouts.first_byte_ms),
            ("idle_ms", timeouts.idle_ms),
            ("total_ms", timeouts.total_ms),
        ] {
            if value == 0 {
                problem(
                    &format!("provider[{index}].timeouts.{name}"),
                    "must be at least 1",
                );
            }
        }
    }
    problems
}
