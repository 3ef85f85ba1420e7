//! `weir budgets list`: the spent, reserved and remaining amount of each budget, and when it ends if it
//! is spent as in the last hour.
//!
//! The rules are in the control log; the amounts come from the gateway on this machine. Without a
//! gateway, only the rules are shown.

use std::io::Write as _;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;
use weir_governance::control::record::{BudgetRecord, Kind, Record};
use weir_governance::thresholds::shown_amount;

use crate::cli::Cli;
use crate::context::{control, runtime, settings};
use crate::net::page;
use crate::output::{self, print};

/// A budget as the admin API shows it.
#[derive(Debug, Deserialize)]
struct Listed {
    id: String,
    #[serde(default)]
    standings: Vec<BudgetAmounts>,
}

#[derive(Debug, Deserialize)]
struct BudgetAmounts {
    /// The value that it is counted for; empty if the budget is not split.
    subject: String,
    spent: String,
    reserved: String,
    remaining: String,
    /// When it ends at the rate of the last hour, if it does before it resets.
    ends: Option<String>,
    resets: Option<String>,
}

pub(super) fn list(cli: &Cli, json: bool) -> anyhow::Result<()> {
    let config = settings(cli)?;
    let control = control(&config, &cli.data_dir)?;
    let url = format!("http://{}/admin/v1/budgets", config.gateway.listen);
    let token = control.hash_key.reader_token();
    let asked = runtime()?.block_on(page(&url, Some(&token)));
    let asked = asked.and_then(|page| {
        let mut page: Value = serde_json::from_str(&page).context("parse the gateway's answer")?;
        Ok(page["data"].take())
    });
    let answered = asked.inspect_err(|error| {
        output::note(format_args!(
            "amounts are unknown: a running gateway has them, and {url} ([gateway] listen) \
             failed: {error:#}"
        ));
    });
    let snapshot = control.snapshot()?;
    let records = snapshot.records(Kind::Budget).map(|record| &**record);
    if json {
        return print(&answered.unwrap_or_else(|_| {
            let shown = records.map(|record| {
                let mut shown = record.public();
                shown["standings"] = Value::Null;
                shown
            });
            Value::Array(shown.collect())
        }));
    }
    let listed = match answered {
        Ok(data) => serde_json::from_value(data).context("parse the gateway's answer")?,
        Err(_) => Vec::new(),
    };
    table(records, &listed)
}

fn table<'a>(records: impl Iterator<Item = &'a Record>, listed: &[Listed]) -> anyhow::Result<()> {
    let mut rows = vec![HEADER.map(str::to_owned)];
    for record in records {
        let Record::Budget(budget) = record else {
            continue;
        };
        let known = listed.iter().find(|listed| listed.id == budget.id);
        let standings = known.map_or(&[][..], |listed| &listed.standings);
        if standings.is_empty() {
            rows.push(row(budget, None));
        }
        rows.extend(standings.iter().map(|standing| row(budget, Some(standing))));
    }
    if rows.len() == 1 {
        output::note("there is no budget: `weir budgets set` makes one");
    }
    let widths: [usize; 10] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    });
    let mut out = crate::output::stdout();
    for row in &rows {
        let cells = row.iter().zip(widths);
        let cells = cells.map(|(cell, width)| format!("{cell:<width$}"));
        let cells: Vec<String> = cells.collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

const HEADER: [&str; 10] = [
    "budget",
    "of",
    "limit",
    "window",
    "spent",
    "reserved",
    "left",
    "ends",
    "resets",
    "applies to",
];

fn row(budget: &BudgetRecord, standing: Option<&BudgetAmounts>) -> [String; 10] {
    let unknown = || "-".to_owned();
    let known =
        |of: fn(&BudgetAmounts) -> &String| standing.map_or_else(unknown, |it| of(it).clone());
    let limit = budget.spec();
    let limit = limit.map_or_else(|_| unknown(), |spec| shown_amount(spec.unit, spec.limit));
    let limit = if budget.soft { limit + ", soft" } else { limit };
    let subject = standing.map_or_else(|| each(budget), |it| it.subject.clone());
    let subject = if subject.is_empty() {
        unknown()
    } else {
        subject
    };
    let ends = standing.and_then(|it| it.ends.clone());
    let resets = standing.map_or_else(unknown, |it| {
        it.resets.clone().unwrap_or_else(|| "never".to_owned())
    });
    [
        budget.id.clone(),
        subject,
        limit,
        budget.zone.as_ref().map_or_else(
            || budget.window.clone(),
            |zone| format!("{} in {zone}", budget.window),
        ),
        known(|it| &it.spent),
        known(|it| &it.reserved),
        known(|it| &it.remaining),
        ends.unwrap_or_else(unknown),
        resets,
        scope(budget),
    ]
}

/// What a budget is counted for that none of them has used yet.
fn each(budget: &BudgetRecord) -> String {
    let per = budget
        .per
        .iter()
        .filter_map(clap::ValueEnum::to_possible_value);
    let per: Vec<String> = per.map(|it| it.get_name().to_owned()).collect();
    match per.is_empty() {
        true => String::new(),
        false => format!("each {}", per.join(", ")),
    }
}

/// The scope, in the words of the options of `weir budgets set`.
fn scope(budget: &BudgetRecord) -> String {
    let scope = serde_json::to_value(&budget.scope).unwrap_or_default();
    let fields = scope.as_object().into_iter().flatten();
    let said = fields.filter_map(|(name, value)| Some(format!("{name}={}", value.as_str()?)));
    let said = said.collect::<Vec<_>>().join(" ");
    match said.is_empty() {
        true => "everything".to_owned(),
        false => said,
    }
}
