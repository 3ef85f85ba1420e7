//! `weir egress`: every host and port that a deployment connects to.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::Context as _;
use http::Uri;
use serde::Serialize;
use weir_gateway::Egress;

use crate::cli::Cli;
use crate::config::{Config, EventlogConfig, EventlogKind, StoreKind};
use crate::context::configuration;
use crate::output;

pub(crate) fn run(cli: &Cli, json: bool) -> anyhow::Result<()> {
    let called = called(&configuration(cli)?.config)?;
    if json {
        return output::print_pretty(&called);
    }
    let mut out = output::stdout();
    if called.is_empty() {
        writeln!(out, "no outgoing connections")?;
    }
    for EgressHost {
        host,
        port,
        needed_for,
    } in &called
    {
        writeln!(out, "{host}\t{port}\t{}", needed_for.join(", "))?;
    }
    Ok(())
}

/// A line of the list.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct EgressHost {
    host: String,
    port: u16,
    needed_for: Vec<String>,
}

/// Each host and port once. A proxy stands for the hosts behind it.
fn called(config: &Config) -> anyhow::Result<Vec<EgressHost>> {
    let mut by_place: BTreeMap<(String, u16), Vec<String>> = BTreeMap::new();
    let mut add = |(host, port): (String, u16), needed_for: String| {
        by_place.entry((host, port)).or_default().push(needed_for);
    };
    let mut add_egress = |egress: Egress, needed_for: &str, whose: &str| {
        let Egress { host, port, proxy } = egress;
        match proxy {
            None => add((host, port), needed_for.to_owned()),
            Some(proxy) => add(proxy, format!("proxy to {host}:{port} of {whose}")),
        }
    };
    for provider in &config.providers {
        let name = format!("provider {}", provider.name);
        add_egress(weir_gateway::egress(provider)?, &name, &name);
    }
    if let Some(egress) = weir_gateway::webhook_egress(&config.gateway.webhook)? {
        add_egress(egress, "webhook", "the webhook");
    }
    for broker in brokers(&config.eventlog) {
        add(broker_place(broker)?, "Kafka".to_owned());
    }
    if let (StoreKind::Clickhouse, Some(url)) = (config.store.kind, &config.store.url) {
        let place = url_place(url).context("store.url")?;
        add(place, "ClickHouse".to_owned());
    }
    for anchor in config.audit.anchors() {
        let anchor = anchor?;
        for host in anchor.hosts() {
            let place = if host.starts_with("http") {
                url_place(host)
            } else {
                broker_place(host)
            };
            let url = anchor.url();
            add(place.context("audit.anchor")?, format!("anchor {url}"));
        }
    }
    let called = by_place.into_iter();
    let called = called.map(|((host, port), needed_for)| EgressHost {
        host,
        port,
        needed_for,
    });
    Ok(called.collect())
}

/// The Kafka brokers, if there are any.
pub(super) fn brokers(config: &EventlogConfig) -> impl Iterator<Item = &str> {
    let kafka = config.kind == EventlogKind::Kafka;
    let brokers = config.brokers.iter().filter(move |_| kafka);
    brokers.flat_map(|all| all.split(',').map(str::trim))
}

/// librdkafka's `[protocol://]host[:port]`.
pub(super) fn broker_place(broker: &str) -> anyhow::Result<(String, u16)> {
    const KAFKA_PORT: u16 = 9092;
    let address = broker.rsplit_once("://").map_or(broker, |(_, rest)| rest);
    let (host, port) = place(address).with_context(|| format!("eventlog.brokers: {broker}"))?;
    Ok((host, port.unwrap_or(KAFKA_PORT)))
}

fn url_place(url: &str) -> anyhow::Result<(String, u16)> {
    let uri: Uri = url.parse()?;
    let authority = uri.authority().context("the host is missing")?;
    let (host, port) = place(authority.as_str())?;
    let default = match uri.scheme_str() {
        Some("https") => 443,
        _ => 80,
    };
    Ok((host, port.unwrap_or(default)))
}

fn place(authority: &str) -> anyhow::Result<(String, Option<u16>)> {
    let authority: http::uri::Authority = authority.parse()?;
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    Ok((host, authority.port_u16()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn every_place_is_listed_once_and_proxies_stand_for_what_is_behind_them() {
        let source = r#"
            [gateway.webhook]
            url = "https://hooks.slack.com/services/T/B/secret"
            [eventlog]
            kind = "kafka"
            brokers = "kafka-1:9093,SASL_SSL://kafka-2"
            [store]
            kind = "clickhouse"
            url = "https://ch.corp"
            [[provider]]
            name = "openai"
            dialect = "openai"
            base_url = "https://api.openai.com/v1"
            [[provider]]
            name = "openai-new"
            dialect = "openai-responses"
            base_url = "https://api.openai.com/v1"
            [[provider]]
            name = "claude"
            dialect = "anthropic"
            base_url = "https://api.anthropic.com/v1"
            proxy = "socks5://ana:secret@proxy.corp"
        "#;
        let config = parse("weir.toml", source, None).unwrap().config;
        let lines = called(&config).unwrap().into_iter();
        let lines: Vec<_> = lines
            .map(|called| {
                format!(
                    "{}:{} {}",
                    called.host,
                    called.port,
                    called.needed_for.join(", ")
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                "api.openai.com:443 provider openai, provider openai-new",
                "ch.corp:443 ClickHouse",
                "hooks.slack.com:443 webhook",
                "kafka-1:9093 Kafka",
                "kafka-2:9092 Kafka",
                "proxy.corp:1080 proxy to api.anthropic.com:443 of provider claude",
            ]
        );
    }
}
