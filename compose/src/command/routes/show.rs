//! `weir routes show`: the table in force, its origin, and the deployments as the gateway sees them.

use std::collections::HashMap;
use std::io::Write;
use std::iter;

use serde::Serialize;
use serde_json::json;
use weir_eventlog::TableLog;
use weir_schemas::table::{RoutingTable, TargetEntry};

use super::{mode_in_words, tables};
use crate::cli::Cli;
use crate::command::metrics::{self, label};
use crate::context::{runtime, settings, unix_ms};
use crate::net::page;
use crate::output;

/// Earlier tables that are listed.
const EARLIER_SHOWN: u64 = 8;

pub(super) fn run(cli: &Cli, json: bool) -> anyhow::Result<()> {
    let config = settings(cli)?;
    let tables = tables(&config, cli)?;
    let url = format!("http://{}/metrics", config.gateway.listen);
    let page = runtime()?.block_on(page(&url, None)).ok();
    let states = page.as_deref().map(read_states).unwrap_or_default();
    let refused = page.as_deref().map(metrics::refused_keys);
    let refused = refused.unwrap_or_default();
    if json {
        return output::print(&json!({
            "mode": tables.controller().mode(),
            "table": tables.controller().in_force(),
            "deployments": states,
            "refused_keys": refused,
        }));
    }
    let mut out = output::stdout();
    write_table(&mut out, &tables)?;
    if page.is_none() {
        writeln!(out, "\nno gateway answers at {url} ([gateway] listen)")?;
        return Ok(());
    }
    write_states(&mut out, &url, &states, &refused)
}

fn write_table(out: &mut impl Write, tables: &TableLog) -> anyhow::Result<()> {
    let controller = tables.controller();
    let Some(table) = controller.in_force() else {
        writeln!(
            out,
            "no routing table is published yet: targets have their configured weights"
        )?;
        return Ok(());
    };
    let now_us = unix_ms() * 1000;
    let age_s = now_us.saturating_sub(table.made_at_us) / 1_000_000;
    writeln!(
        out,
        "routing table {}, made {age_s} s ago: {}",
        table.version, table.origin
    )?;
    writeln!(out, "  {}", mode_in_words(controller.mode()))?;
    let measured_s = table.to_us.saturating_sub(table.from_us) / 1_000_000;
    writeln!(
        out,
        "  measured over {measured_s} s, up to {} s ago, from {} streams of the log",
        now_us.saturating_sub(table.to_us) / 1_000_000,
        table.inputs.len()
    )?;
    if table.ages {
        writeln!(
            out,
            "  trusted fully for {} s, ignored after {} s",
            table.trusted_us / 1_000_000,
            table.forgotten_us / 1_000_000
        )?;
    }
    let before = controller.table(table.version.saturating_sub(1));
    write_aliases(out, table, before)?;
    let earlier: Vec<String> = (1..=EARLIER_SHOWN)
        .filter_map(|back| controller.table(table.version.checked_sub(back)?))
        .map(|table| format!("{} ({})", table.version, table.origin.as_str()))
        .collect();
    if !earlier.is_empty() {
        writeln!(out, "\nearlier tables: {}", earlier.join(", "))?;
    }
    Ok(())
}

/// Targets with their numbers, and with the weights that they had `before`.
pub(super) fn write_aliases(
    out: &mut impl Write,
    table: &RoutingTable,
    before: Option<&RoutingTable>,
) -> anyhow::Result<()> {
    for alias in &table.aliases {
        let before = before.and_then(|table| table.alias(&alias.alias));
        let rows = alias.targets.iter().map(|target| {
            let before = before.and_then(|alias| alias.target(&target.deployment));
            row(target, before)
        });
        let names = alias.targets.iter().map(|target| target.deployment.len());
        let width = names.max().unwrap_or(0).max(HEADER[0].len());
        writeln!(out, "\n{}", alias.alias)?;
        for [
            name,
            weight,
            before,
            p50,
            p95,
            errors,
            speed,
            price,
            tries,
            change,
        ] in iter::once(HEADER.map(str::to_owned)).chain(rows)
        {
            writeln!(
                out,
                "  {name:<width$}  {weight:>7}  {before:>7}  {p50:>8}  {p95:>8}  {errors:>7}  \
                 {speed:>8}  {price:>9}  {tries:>7}  {change}"
            )?;
        }
    }
    Ok(())
}

const HEADER: [&str; 10] = [
    "deployment",
    "weight",
    "before",
    "ttft p50",
    "p95",
    "errors",
    "tokens/s",
    "$/Mtok",
    "tries",
    "change",
];

/// The cells of a target.
fn row(target: &TargetEntry, before: Option<&TargetEntry>) -> [String; 10] {
    let number = |value: Option<f64>, digits: usize, unit: &str| {
        value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}{unit}"))
    };
    let ms = |us: Option<f64>| number(us.map(|us| us / 1e3), 0, " ms");
    let percent = target.error_ratio.map(|ratio| ratio * 100.0);
    // Picodollars per token are micro-dollars per million tokens.
    let price = target.picousd_per_token.map(|it| it / 1e6);
    [
        target.deployment.clone(),
        number(Some(target.weight), 3, ""),
        number(before.map(|before| before.weight), 3, ""),
        ms(target.ttft_us),
        ms(target.ttft_p95_us),
        number(percent, 2, "%"),
        number(target.output_tokens_per_s, 1, ""),
        number(price, 3, ""),
        target.tries.to_string(),
        target.change.to_string(),
    ]
}

/// A deployment as the gateway sees it.
#[derive(Debug, Serialize)]
struct DeploymentStatus<'a> {
    deployment: &'a str,
    state: &'a str,
    /// The known rate limits of its provider.
    limits: Vec<ProviderLimit<'a>>,
}

#[derive(Debug, Serialize)]
struct ProviderLimit<'a> {
    unit: &'a str,
    size: u64,
    left: u64,
}

fn write_states(
    out: &mut impl Write,
    url: &str,
    states: &[DeploymentStatus<'_>],
    refused: &[String],
) -> anyhow::Result<()> {
    writeln!(
        out,
        "\ndeployments as the gateway on this machine sees them ({url})"
    )?;
    let names = states.iter().map(|it| it.deployment.len());
    let width = names.max().unwrap_or(0);
    for it in states {
        let limits = it.limits.iter();
        let limits = limits.map(|it| format!("{} of {} {} left", it.left, it.size, it.unit));
        let limits = limits.collect::<Vec<_>>().join(", ");
        let line = format!("  {:<width$}  {:<10}  {limits}", it.deployment, it.state);
        writeln!(out, "{}", line.trim_end())?;
    }
    for key in refused {
        writeln!(out, "  the provider refuses the key {key}: replace it")?;
    }
    Ok(())
}

/// Reads the deployments from the metrics.
fn read_states(page: &str) -> Vec<DeploymentStatus<'_>> {
    let left: HashMap<_, _> = metrics::series(page, "weir_provider_limit_left").collect();
    let limits_of = |deployment: &str| {
        let sizes = metrics::series(page, "weir_provider_limit_size");
        let its = sizes.filter(|(labels, _)| label(labels, "deployment") == Some(deployment));
        let limits = its.filter_map(|(labels, size)| {
            Some(ProviderLimit {
                unit: label(labels, "unit")?,
                size: size.parse().ok()?,
                left: left.get(labels)?.parse().ok()?,
            })
        });
        limits.collect()
    };
    let states = metrics::series(page, "weir_deployment_state").filter_map(|(labels, _)| {
        let deployment = label(labels, "deployment")?;
        Some(DeploymentStatus {
            deployment,
            state: label(labels, "state")?,
            limits: limits_of(deployment),
        })
    });
    let mut states: Vec<_> = states.collect();
    states.sort_by_key(|it| it.deployment);
    states
}
