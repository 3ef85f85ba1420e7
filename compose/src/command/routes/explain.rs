//! `weir routes explain`: a routing decision, explained from its events.

use std::io::Write;

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Value, json};
use weir_routing::{ExplainedAttempt, ExplainedTarget, Explanation, TargetStatus};
use weir_schemas::table::RoutingTable;
use weir_store::Store;

use crate::cli::Cli;
use crate::command::sql::{quoted, reach};
use crate::context::{runtime, settings};
use crate::output;

pub(super) fn run(cli: &Cli, request_id: &str, json: bool) -> anyhow::Result<()> {
    let id: weir_schemas::RequestId = request_id.parse().map_err(|_| {
        anyhow!("\"{request_id}\" is not a request id; the response header x-request-id holds it")
    })?;
    let store = reach(&cli.data_dir, &settings(cli)?)?;
    let RecordedDecision {
        request,
        attempts,
        ejected,
        table,
    } = runtime()?.block_on(ask(&store, &id.to_string()))?;
    if json {
        return output::print(&json!({
            "request": request, "attempts": attempts, "ejected": ejected, "table": table,
        }));
    }
    let mut out = output::stdout();
    if text(&request, "strategy").is_empty() {
        writeln!(
            out,
            "the request was not routed: it ended at the stage {} ({})",
            text(&request, "stage"),
            text(&request, "error_kind")
        )?;
        return Ok(());
    }
    write!(out, "{}", explanation(&request, &attempts, &ejected))?;
    if let Some(table) = table {
        write_table(&mut out, &table, text(&request, "alias"))?;
    }
    Ok(())
}

/// A routing decision as the store has it.
struct RecordedDecision {
    request: Value,
    attempts: Vec<Value>,
    /// Deployments of the alias that were out of service when the request was routed.
    ejected: Vec<Value>,
    table: Option<RoutingTable>,
}

async fn ask(store: &Store, id: &str) -> anyhow::Result<RecordedDecision> {
    let mut requests = rows(
        store,
        &format!(
            "SELECT alias, toUnixTimestamp64Micro(ts) AS ts_us, strategy, table_version, toString(route_seed) AS route_seed, last_resort, candidates, \
             status, stage, error_kind, deployment FROM requests WHERE request_id = '{id}' LIMIT 1"
        ),
    )
    .await?;
    let Some(request) = requests.pop() else {
        bail!("there is no request {id} in the store; a new row may take a second to arrive");
    };
    let attempts = rows(
        store,
        &format!(
            "SELECT attempt, toUnixTimestamp64Micro(ts) AS ts_us, kind, cause, deployment, error_kind, delay_us, delivered, propensity \
             FROM attempts WHERE request_id = '{id}' ORDER BY attempt = 0, attempt"
        ),
    )
    .await?;
    let ejected = rows(store, &ejected_sql(&request, &attempts)?).await?;
    let mut tables = match number(&request, "table_version") {
        None => Vec::new(),
        Some(version) => rows(
            store,
            &format!("SELECT routing_table FROM routing_tables WHERE version = {version} ORDER BY ts DESC LIMIT 1"),
        )
        .await?,
    };
    let table = tables.pop();
    let table = table.and_then(|row| serde_json::from_str(text(&row, "routing_table")).ok());
    Ok(RecordedDecision {
        request,
        attempts,
        ejected,
        table,
    })
}

/// The deployments that were out of service when a request was routed: ejected within the hour before, and
/// not recovered since. It was routed after it arrived, right before its first attempt.
fn ejected_sql(request: &Value, attempts: &[Value]) -> anyhow::Result<String> {
    let first = attempts.iter().find(|row| text(row, "kind") == "first");
    let routed = number(first.unwrap_or(request), "ts_us");
    let at = routed.context("read the request's time")?;
    let alias = quoted(text(request, "alias"));
    let at = format!("fromUnixTimestamp64Micro(toInt64({at}), 'UTC')");
    Ok(format!(
        "SELECT deployment, argMax(cause, ts) AS cause FROM deployment_states \
         WHERE ts <= {at} AND ts > {at} - INTERVAL 1 HOUR AND deployment IN (\
           SELECT deployment FROM attempts WHERE alias = {alias} AND kind != 'shadow' \
           AND ts > {at} - INTERVAL 1 HOUR) \
         GROUP BY deployment HAVING argMax(state, ts) = 'ejected' ORDER BY deployment"
    ))
}

async fn rows(store: &Store, sql: &str) -> anyhow::Result<Vec<Value>> {
    let body = async { store.raw_query(sql, "JSONEachRow")?.collect().await };
    let body = body.await.context("ask the store")?;
    let rows = serde_json::Deserializer::from_slice(&body).into_iter();
    Ok(rows.collect::<Result<_, _>>()?)
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or("")
}

/// 64-bit numbers are text or numbers, depending on the server's settings.
fn number(row: &Value, name: &str) -> Option<u64> {
    let value = &row[name];
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn explanation<'a>(
    request: &'a Value,
    attempts: &'a [Value],
    ejected: &'a [Value],
) -> Explanation<'a> {
    let candidates = || request["candidates"].as_array().into_iter().flatten();
    let is_candidate = |deployment: &str| candidates().any(|candidate| candidate[0] == deployment);
    let left_out = |row: &'a Value| {
        let deployment = text(row, "deployment");
        let why = format!("ejected ({})", text(row, "cause"));
        (!is_candidate(deployment)).then_some((deployment, why))
    };
    let considered = |candidate: &'a Value| {
        Some(ExplainedTarget {
            deployment: candidate.get(0)?.as_str()?,
            score: candidate.get(1)?.as_f64(),
            propensity: candidate.get(2)?.as_f64()?,
        })
    };
    let some = |row: &'a Value, name: &str| Some(text(row, name)).filter(|it| !it.is_empty());
    let tried = |attempt: &'a Value| ExplainedAttempt {
        deployment: text(attempt, "deployment"),
        kind: text(attempt, "kind"),
        cause: some(attempt, "cause"),
        error: some(attempt, "error_kind"),
        delay_ms: number(attempt, "delay_us").unwrap_or(0) / 1000,
    };
    Explanation {
        alias: text(request, "alias"),
        strategy: text(request, "strategy"),
        table_version: number(request, "table_version"),
        seed: number(request, "route_seed").unwrap_or(0),
        last_resort: TargetStatus::of_code(text(request, "last_resort")),
        considered: candidates().filter_map(considered).collect(),
        left_out: ejected.iter().filter_map(left_out).collect(),
        attempts: attempts.iter().map(tried).collect(),
    }
}

/// The entry of the alias in the routing table that was in force.
fn write_table(out: &mut impl Write, table: &RoutingTable, alias: &str) -> anyhow::Result<()> {
    let only = RoutingTable {
        aliases: table.alias(alias).cloned().into_iter().collect(),
        ..table.clone()
    };
    if only.aliases.is_empty() {
        return Ok(());
    }
    let (version, origin) = (table.version, table.origin.as_str());
    writeln!(out, "\nrouting table {version} ({origin}):")?;
    super::show::write_aliases(out, &only, None)
}
