//! `weir routes show`: the table in force, its origin, and the deployments as the gateway sees them.

use std::io::Write;

use anyhow::Context as _;
use serde_json::json;
use weir_eventlog::TableLog;
use weir_schemas::table::{Origin, RoutingTable, TargetEntry, WeightChange};

use super::mode_in_words;
use crate::cli::Cli;
use crate::command::metrics;
use crate::context::{runtime, settings, unix_ms};
use crate::net::page;
use crate::routing_tables::table_log;

/// Earlier tables that are listed.
const EARLIER_SHOWN: u64 = 8;

pub(super) fn run(cli: &Cli, json: bool) -> anyhow::Result<()> {
    let config = settings(cli)?;
    let mut tables = table_log(&config, &cli.data_dir);
    tables.catch_up().context("read the routing tables")?;
    let url = format!("http://{}/metrics", config.gateway.listen);
    let page = runtime()?.block_on(page(&url, None)).ok();
    let states = page.as_deref().map(read_states);
    let refused = page.as_deref().map(metrics::refused_keys);
    let refused = refused.unwrap_or_default();
    let mut out = crate::output::stdout();
    if json {
        let states: Vec<_> = states.unwrap_or_default();
        let shown = json!({
            "mode": tables.controller().mode(),
            "table": tables.controller().in_force(),
            "deployments": states.iter().map(DeploymentStatus::json).collect::<Vec<_>>(),
            "refused_keys": refused,
        });
        writeln!(out, "{shown}")?;
        return Ok(());
    }
    write_table(&mut out, &tables)?;
    match states {
        Some(states) => write_states(&mut out, &url, &states, &refused)?,
        None => writeln!(out, "\nno gateway answers at {url} ([gateway] listen)")?,
    }
    Ok(())
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
        table.version,
        origin_in_words(&table.origin)
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

fn origin_in_words(origin: &Origin) -> String {
    match origin {
        Origin::Measured => "made from measurements".into(),
        Origin::Frozen { of } => format!("table {of}, frozen by an operator"),
        Origin::Pinned { of } => format!("table {of}, pinned by an operator"),
        Origin::RolledBack { to } => format!("rolled back to table {to} by an operator"),
        Origin::Reverted { of, to, aliases } => format!(
            "{} did worse under table {of} than under {to}, and was reverted",
            aliases.join(", ")
        ),
    }
}

/// Targets with their numbers, and with the weights that they had `before`.
pub(super) fn write_aliases(
    out: &mut impl Write,
    table: &RoutingTable,
    before: Option<&RoutingTable>,
) -> anyhow::Result<()> {
    for alias in &table.aliases {
        let names = alias.targets.iter().map(|target| target.deployment.len());
        let width = names.max().unwrap_or(0).max("deployment".len());
        writeln!(out, "\n{}", alias.alias)?;
        writeln!(
            out,
            "  {:<width$}  {:>7}  {:>7}  {:>8}  {:>8}  {:>7}  {:>8}  {:>9}  {:>7}  change",
            "deployment",
            "weight",
            "before",
            "ttft p50",
            "p95",
            "errors",
            "tokens/s",
            "$/Mtok",
            "tries"
        )?;
        for target in &alias.targets {
            let before = before
                .and_then(|table| table.alias(&alias.alias))
                .and_then(|alias| alias.target(&target.deployment));
            writeln!(
                out,
                "  {:<width$}  {:>7.3}  {:>7}  {:>8}  {:>8}  {:>7}  {:>8}  {:>9}  {:>7}  {}",
                target.deployment,
                target.weight,
                before.map_or_else(|| "-".into(), |before| format!("{:.3}", before.weight)),
                ms(target.ttft_us),
                ms(target.ttft_p95_us),
                percent(target),
                number(target.output_tokens_per_s, 1),
                // Picodollars per token are micro-dollars per million tokens.
                number(target.picousd_per_token.map(|it| it / 1e6), 3),
                target.tries,
                change_in_words(target.change),
            )?;
        }
    }
    Ok(())
}

fn ms(us: Option<f64>) -> String {
    us.map_or_else(|| "-".into(), |us| format!("{:.0} ms", us / 1e3))
}

fn percent(target: &TargetEntry) -> String {
    let ratio = target.error_ratio;
    ratio.map_or_else(|| "-".into(), |ratio| format!("{:.2}%", ratio * 100.0))
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}"))
}

fn change_in_words(change: WeightChange) -> &'static str {
    match change {
        WeightChange::Measured => "as measured",
        WeightChange::Capped => "capped: one refresh moves only so far",
        WeightChange::Held => "held: the difference is too small",
        WeightChange::Unmeasured => "too few attempts to measure",
    }
}

/// A deployment as the gateway sees it.
struct DeploymentStatus {
    deployment: String,
    state: String,
    /// The known rate limits of its provider.
    limits: Vec<ProviderLimit>,
}

struct ProviderLimit {
    unit: String,
    size: String,
    left: String,
}

impl DeploymentStatus {
    fn json(&self) -> serde_json::Value {
        let limits = self.limits.iter().map(|limit| {
            let number = |text: &str| text.parse::<u64>().ok();
            let (size, left) = (number(&limit.size), number(&limit.left));
            json!({ "unit": limit.unit, "size": size, "left": left })
        });
        json!({
            "deployment": self.deployment,
            "state": self.state,
            "limits": limits.collect::<Vec<_>>(),
        })
    }

    fn limits_in_words(&self) -> String {
        let limits = self.limits.iter();
        let words = limits.map(|it| format!("{} of {} {} left", it.left, it.size, it.unit));
        words.collect::<Vec<_>>().join(", ")
    }
}

fn write_states(
    out: &mut impl Write,
    url: &str,
    states: &[DeploymentStatus],
    refused: &[String],
) -> anyhow::Result<()> {
    writeln!(
        out,
        "\ndeployments as the gateway on this machine sees them ({url})"
    )?;
    let width = states
        .iter()
        .map(|it| it.deployment.len())
        .max()
        .unwrap_or(0);
    for it in states {
        let limits = it.limits_in_words();
        let line = format!("  {:<width$}  {:<10}  {limits}", it.deployment, it.state);
        writeln!(out, "{}", line.trim_end())?;
    }
    for key in refused {
        writeln!(out, "  the provider refuses the key {key}: replace it")?;
    }
    Ok(())
}

/// Reads the deployments from the metrics.
fn read_states(page: &str) -> Vec<DeploymentStatus> {
    let series = metrics::series(page, "weir_deployment_state");
    let sizes: Vec<_> = metrics::series(page, "weir_provider_limit_size").collect();
    let left: Vec<_> = metrics::series(page, "weir_provider_limit_left").collect();
    let limits_of = |deployment: &str| {
        let of_it = sizes.iter().filter_map(|(labels, size)| {
            let is_its = metrics::label(labels, "deployment") == Some(deployment);
            let (_, left) = left.iter().find(|(same, _)| is_its && same == labels)?;
            Some(ProviderLimit {
                unit: metrics::label(labels, "unit")?.to_owned(),
                size: (*size).to_owned(),
                left: (*left).to_owned(),
            })
        });
        of_it.collect()
    };
    let mut states: Vec<DeploymentStatus> = series
        .filter_map(|(labels, _)| {
            let deployment = metrics::label(labels, "deployment")?;
            Some(DeploymentStatus {
                deployment: deployment.to_owned(),
                state: metrics::label(labels, "state")?.to_owned(),
                limits: limits_of(deployment),
            })
        })
        .collect();
    states.sort_by(|a, b| a.deployment.cmp(&b.deployment));
    states
}
