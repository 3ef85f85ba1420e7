//! What the tables say about the last minutes, per alias, deployment and size of prompt.
//!
//! Latencies are stated as [`size`] does, for a request of reference size: a streamed answer by its
//! first token, one that came in one piece by its end and length. An attempt that lost against a hedge
//! counts with the time after which it was given up: it would have taken at least that long.

use std::time::Duration;

use clickhouse::Row;
use serde::Deserialize;
use weir_controller::{AliasOutcome, Cell, Measurements};
use weir_schemas::EventId;
use weir_schemas::table::{InputPosition, size};
use weir_store::{Store, StoreError};

use crate::caps::TABLE_INPUTS_MAX;
use crate::tables::StreamSeq;

/// Attempts that say nothing about their deployment.
const NO_VERDICT: &str = "'client_gone', 'shutdown', 'internal', 'hedge_lost'";
/// Failures that are the request's own fault, and would be the same anywhere.
const CLIENTS_FAULT: &str =
    "'invalid_request', 'context_window', 'content_filter', 'client_gone', 'shutdown'";

/// Measures the time from `window` ago until now. `versions` are the tables to compare.
pub async fn measure(
    store: &Store,
    now_us: u64,
    window: Duration,
    versions: &[u64],
) -> Result<Measurements, StoreError> {
    let window_us = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
    let from_us = now_us.saturating_sub(window_us);
    let period = |sql: &str| {
        store
            .query(sql)
            .param("from", signed(from_us))
            .param("to", signed(now_us))
    };
    // The positions first: what they name is in what is counted afterwards.
    let inputs = period(&inputs_sql());
    let inputs = store.fetch::<StreamSeq>(inputs).await?.into_iter();
    let inputs = inputs.map(EventId::from);
    let cells = store.fetch::<CellRow>(period(&cells_sql())).await?;
    let outcomes = if versions.is_empty() {
        Vec::new()
    } else {
        let query = period(&outcomes_sql(versions));
        store.fetch::<OutcomeRow>(query).await?
    };
    Ok(Measurements {
        from_us,
        to_us: now_us,
        inputs: inputs
            .map(|EventId { stream, seq }| InputPosition { stream, seq })
            .collect(),
        cells: cells.into_iter().map(Cell::from).collect(),
        outcomes: outcomes.into_iter().map(AliasOutcome::from).collect(),
    })
}

fn signed(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

const PERIOD: &str = "ts >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') \
                      AND ts < fromUnixTimestamp64Micro({to:Int64}, 'UTC')";

fn inputs_sql() -> String {
    format!(
        "SELECT stream, max(seq) AS seq FROM attempts WHERE {PERIOD} \
         GROUP BY stream ORDER BY stream LIMIT {TABLE_INPUTS_MAX}"
    )
}

/// Microseconds at reference size, of a row with tokens `input` and `output`.
fn at_reference(streamed_us: &str, whole_us: &str) -> String {
    let fixed = size::FIXED_TOKENS;
    let reference = fixed + size::REFERENCE_TOKENS;
    let per_output = size::INPUT_TOKENS_PER_OUTPUT_TOKEN;
    format!(
        "if(streamed, {streamed_us} * {reference} / ({fixed} + input), \
         {whole_us} * {reference} / ({fixed} + input + {per_output} * output))"
    )
}

fn cells_sql() -> String {
    let class = size::CLASS_ENDS.map(|end| format!("(input > {end})"));
    let class = class.join(" + ");
    let answered = at_reference("ifNull(ttft_us, total_us)", "total_us");
    let lost = at_reference("total_us", "total_us");
    format!(
        "SELECT CAST(alias, 'String') AS alias, CAST(deployment, 'String') AS deployment, \
           toUInt8({class}) AS size_class, \
           countIf(counts) AS attempts, \
           countIf(counts AND failed) AS failures, \
           countIf(isNotNull(reference_us)) AS timed, \
           quantileOrNull(0.5)(reference_us) AS p50, \
           quantileOrNull(0.95)(reference_us) AS p95, \
           sumIf(output, is_rated) AS rated_tokens, \
           toUInt64(sumIf(total_us - ifNull(ttft_us, 0), is_rated)) AS rated_us, \
           countIf(delivered AND isNotNull(cost_usd)) AS priced_attempts, \
           sumIf(input, delivered AND isNotNull(cost_usd)) AS input_tokens, \
           sumIf(output, delivered AND isNotNull(cost_usd)) AS output_tokens, \
           toInt64(sumIf(ifNull(cost_usd, 0), delivered) * 1000000000000) AS cost_picousd, \
           toInt64(sumIf(ifNull(cost_usd, 0), NOT delivered) * 1000000000000) AS waste_picousd \
         FROM (SELECT *, \
             ifNull(input_tokens, intDiv(request_bytes, 4)) AS input, \
             ifNull(output_tokens, 0) AS output, \
             error_kind NOT IN ({NO_VERDICT}) AS counts, \
             error_kind != '' AND error_kind NOT IN ({CLIENTS_FAULT}) AS failed, \
             streamed AND error_kind = '' AND isNotNull(ttft_us) AND output > 1 \
               AND total_us > ifNull(ttft_us, 0) AS is_rated, \
             multiIf(error_kind = '', {answered}, error_kind = 'hedge_lost', {lost}, NULL) \
               AS reference_us \
           FROM attempts WHERE {PERIOD} AND alias != '' AND kind != 'shadow') \
         GROUP BY alias, deployment, size_class HAVING attempts > 0 OR timed > 0 \
         ORDER BY alias, deployment, size_class"
    )
}

fn outcomes_sql(versions: &[u64]) -> String {
    let reference = at_reference("ifNull(ttft_us, total_us)", "total_us");
    let per_output = size::PRICED_PER_OUTPUT_TOKEN;
    let versions: Vec<String> = versions.iter().map(u64::to_string).collect();
    let versions = versions.join(", ");
    format!(
        "SELECT CAST(alias, 'String') AS alias, assumeNotNull(table_version) AS table_version, \
           count() AS requests, \
           countIf(error_kind != '' AND error_kind NOT IN ({CLIENTS_FAULT})) AS errors, \
           avgOrNullIf(reference_us, error_kind = '') AS ttft_us_mean, \
           toInt64(sum(ifNull(cost_usd, 0) + ifNull(waste_usd, 0)) * 1000000000000) AS picousd, \
           toFloat64(sumIf(input + {per_output} * output, isNotNull(cost_usd))) AS priced_tokens \
         FROM (SELECT *, \
             ifNull(input_tokens, intDiv(request_bytes, 4)) AS input, \
             ifNull(output_tokens, 0) AS output, {reference} AS reference_us \
           FROM requests WHERE {PERIOD} AND table_version IN ({versions})) \
         GROUP BY alias, table_version ORDER BY alias, table_version"
    )
}

#[derive(Debug, Row, Deserialize)]
struct CellRow {
    alias: String,
    deployment: String,
    size_class: u8,
    attempts: u64,
    failures: u64,
    timed: u64,
    p50: Option<f64>,
    p95: Option<f64>,
    rated_tokens: u64,
    rated_us: u64,
    priced_attempts: u64,
    input_tokens: u64,
    output_tokens: u64,
    cost_picousd: i64,
    waste_picousd: i64,
}

impl From<CellRow> for Cell {
    fn from(row: CellRow) -> Self {
        let cell = Self {
            alias: row.alias,
            deployment: row.deployment,
            size_class: row.size_class,
            attempts: row.attempts,
            failures: row.failures,
            timed: row.timed,
            ttft_us_p50: None,
            ttft_us_p95: None,
            output_tokens_per_s: (row.rated_us > 0)
                .then(|| row.rated_tokens as f64 * 1e6 / row.rated_us as f64),
            priced_attempts: row.priced_attempts,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            cost_picousd: row.cost_picousd,
            waste_picousd: row.waste_picousd,
        };
        // Each attempt was brought to reference size by its own prompt; a cell is stated at its own.
        let of_cell = f64::from(size::factor(cell.prompt_tokens(), 0));
        Self {
            ttft_us_p50: row.p50.map(|us| us * of_cell),
            ttft_us_p95: row.p95.map(|us| us * of_cell),
            ..cell
        }
    }
}

#[derive(Debug, Row, Deserialize)]
struct OutcomeRow {
    alias: String,
    table_version: u64,
    requests: u64,
    errors: u64,
    ttft_us_mean: Option<f64>,
    picousd: i64,
    priced_tokens: f64,
}

impl From<OutcomeRow> for AliasOutcome {
    fn from(row: OutcomeRow) -> Self {
        Self {
            alias: row.alias,
            table_version: row.table_version,
            requests: row.requests,
            errors: row.errors,
            ttft_us_mean: row.ttft_us_mean,
            picousd_per_token: (row.priced_tokens > 0.0)
                .then(|| row.picousd as f64 / row.priced_tokens),
        }
    }
}
