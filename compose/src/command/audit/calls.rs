//! `weir audit calls`: who called what, when, from where, at what cost.
//!
//! A terminal gets the newest calls, with the columns that fit. What reads a pipe, CSV or JSON gets all.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;
use weir_store::{Cells, StoreUser};

use super::since_us;
use crate::cli::{CallsArgs, Cli};
use crate::command::sql::{self, quoted};
use crate::context::settings;
use crate::output;
use crate::table::{self, TableColumn, terminal_width};

/// Calls that a terminal gets unless it is said how many.
const SHOWN_DEFAULT: u64 = 100;
/// Calls that are held to be made a table of.
const SHOWN_MAX: u64 = 10_000;

/// What can be said of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallColumn {
    pub(crate) name: &'static str,
    expression: Option<&'static str>,
    /// Those that say most about a call are shown first.
    rank: usize,
}

const fn column(name: &'static str, rank: usize) -> CallColumn {
    CallColumn {
        name,
        expression: None,
        rank,
    }
}

pub(crate) const CALL_COLUMNS: [CallColumn; 22] = [
    column("ts", 1),
    column("request_id", 13),
    column("organisation", 20),
    column("team", 3),
    column("project", 17),
    column("user", 2),
    column("key_id", 16),
    column("environment", 18),
    column("feature", 14),
    column("client_ip", 11),
    column("alias", 4),
    column("provider", 12),
    column("model", 7),
    column("status", 5),
    column("error_kind", 8),
    column("attempts", 15),
    column("input_tokens", 10),
    column("output_tokens", 9),
    column("usage_source", 21),
    column("cost_usd", 6),
    CallColumn {
        expression: Some("total_us / 1000"),
        ..column("total_ms", 9)
    },
    column("payload", 19),
];

/// Lists calls.
pub(super) fn run(cli: &Cli, args: &CallsArgs) -> anyhow::Result<()> {
    let since_us = since_us(cli, args.since.as_deref())?;
    let format = match (args.json, args.csv, terminal_width()) {
        (false, false, Some(width)) => return tabulate(cli, args, since_us, width),
        (true, _, _) => "JSONEachRow",
        (false, true, _) => "CSVWithNames",
        (false, false, None) => "TSVWithNames",
    };
    let statement = statement(args, since_us, args.limit);
    let config = settings(cli)?;
    let cells = Cells::of(format);
    sql::print(cli, &config, StoreUser::Weir, cells, |store| {
        store.raw_query(&statement, format)
    })
}

fn statement(args: &CallsArgs, since_us: i64, limit: Option<u64>) -> String {
    let mut wanted = vec![format!("ts >= fromUnixTimestamp64Micro({since_us}, 'UTC')")];
    let filters = [
        ("user", &args.user),
        ("team", &args.team),
        ("key_id", &args.key),
    ];
    for (column, value) in filters {
        if let Some(value) = value {
            wanted.push(format!("{column} = {}", quoted(value)));
        }
    }
    // Payloads are selected by the same columns.
    let payloads = wanted.join(" AND ");
    if let Some(model) = &args.model {
        let model = quoted(model);
        wanted.push(format!("{model} IN (alias, model, response_model)"));
    }
    let columns = columns(args)
        .into_iter()
        .map(|column| match column.expression {
            Some(expression) => format!("{expression} AS {}", column.name),
            None => column.name.to_owned(),
        });
    let columns: Vec<String> = columns.collect();
    let limit = limit.map_or_else(String::new, |limit| format!(" LIMIT {limit}"));
    format!(
        "SELECT {} FROM weir.requests LEFT ANY JOIN \
         (SELECT request_id, capture AS payload FROM weir.payloads WHERE {payloads}) AS kept \
         USING request_id WHERE {} ORDER BY ts DESC, request_id{limit}",
        columns.join(", "),
        wanted.join(" AND ")
    )
}

/// Those that are asked for, or all.
fn columns(args: &CallsArgs) -> Vec<CallColumn> {
    if args.columns.is_empty() {
        return CALL_COLUMNS.to_vec();
    }
    let named = |name: &String| CALL_COLUMNS.into_iter().find(|column| column.name == name);
    args.columns.iter().filter_map(named).collect()
}

/// ClickHouse's answer as one document.
#[derive(Debug, Deserialize)]
struct CallsAnswer {
    meta: Vec<ColumnMeta>,
    data: Vec<Vec<Value>>,
    rows_before_limit_at_least: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct ColumnMeta {
    name: String,
    r#type: String,
}

fn tabulate(cli: &Cli, args: &CallsArgs, since_us: i64, width: usize) -> anyhow::Result<()> {
    let limit = args.limit.unwrap_or(SHOWN_DEFAULT).min(SHOWN_MAX);
    let mut statement = statement(args, since_us, Some(limit));
    statement.push_str(" SETTINGS exact_rows_before_limit = 1");
    let began = Instant::now();
    let answer = sql::collect(cli, &settings(cli)?, StoreUser::Weir, |store| {
        store.raw_query(&statement, "JSONCompact")
    })?;
    let took = began.elapsed();
    let answer: CallsAnswer = serde_json::from_slice(&answer).context("read the store's answer")?;
    let shown = answer.data.len() as u64;
    let all = answer
        .rows_before_limit_at_least
        .unwrap_or(shown)
        .max(shown);
    let columns = table_columns(args, answer);
    let (columns, left_out) = match args.wide || !args.columns.is_empty() {
        true => (columns, 0),
        false => table::fitting(columns, width),
    };
    if shown > 0 {
        table::write(&mut output::stdout(), &columns)?;
    }
    output::note(summary(shown, all, took, left_out));
    Ok(())
}

fn table_columns(args: &CallsArgs, answer: CallsAnswer) -> Vec<TableColumn> {
    let CallsAnswer { meta, data, .. } = answer;
    let ranks = columns(args).into_iter().map(|column| column.rank);
    let mut columns: Vec<TableColumn> = meta
        .into_iter()
        .zip(ranks)
        .map(|(meta, rank)| TableColumn {
            is_number: ["Int", "Float", "Decimal"]
                .iter()
                .any(|it| meta.r#type.contains(it)),
            name: meta.name,
            rank,
            cells: Vec::with_capacity(data.len()),
        })
        .collect();
    for row in data {
        for (column, value) in columns.iter_mut().zip(row) {
            let text = match value {
                Value::Null => String::new(),
                Value::String(text) => text,
                other => other.to_string(),
            };
            column.cells.push(table::cell(&text));
        }
    }
    columns
}

/// How many calls these are, and how to see what is not shown.
fn summary(shown: u64, all: u64, took: Duration, columns_left_out: usize) -> String {
    let calls = match (shown, all) {
        (1, 1) => "1 call".to_owned(),
        (shown, all) if shown == all => format!("{all} calls"),
        (shown, all) => format!("the newest {shown} of {all} calls"),
    };
    let mut said = format!("{calls}, {:.2} s", took.as_secs_f64());
    if shown < all {
        said.push_str("; --limit N shows more, --csv or --json prints all");
    }
    if columns_left_out > 0 && shown > 0 {
        let columns = if columns_left_out == 1 {
            "column does"
        } else {
            "columns do"
        };
        said.push_str(&format!(
            "; {columns_left_out} {columns} not fit: --wide shows all, --columns NAME,… those"
        ));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_is_missing() {
        let took = Duration::from_millis(123);
        assert_eq!(summary(0, 0, took, 3), "0 calls, 0.12 s");
        assert_eq!(summary(1, 1, took, 0), "1 call, 0.12 s");
        assert_eq!(
            summary(100, 1234, took, 12),
            "the newest 100 of 1234 calls, 0.12 s; --limit N shows more, --csv or --json prints all; \
             12 columns do not fit: --wide shows all, --columns NAME,… those"
        );
    }

    #[test]
    fn each_column_is_there_once() {
        let mut names = CALL_COLUMNS.map(|column| column.name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
