//! The rollups by minute, hour and day: projections of `weir.requests`, read through views.
//!
//! A projection is stored with the rows that it sums, in the same part. So it cannot lag them or miss
//! a batch, whatever is killed when. What is left to do here is to check that, and to rebuild them.

use clickhouse::Row;
use serde::Deserialize;
use weir_schemas::clickhouse::MIGRATIONS;
use weir_store::{Store, StoreError};

use crate::caps::ROLLUP_COMPARISONS_MAX;

/// A view over a projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollupView {
    pub name: &'static str,
    /// Its column of time.
    pub time: &'static str,
}

/// The views, finest first.
pub const VIEWS: [RollupView; 3] = [
    RollupView {
        name: "usage_by_minute",
        time: "minute",
    },
    RollupView {
        name: "usage_by_hour",
        time: "hour",
    },
    RollupView {
        name: "usage_by_day",
        time: "day",
    },
];

const PROJECTIONS: [&str; 3] = ["by_minute", "by_hour", "by_day"];

/// Whether a projection agrees with the rows that it sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollupCheck {
    pub rows: u64,
    pub is_equal: bool,
}

/// A sum over all rows of a view.
#[derive(Debug, Default, PartialEq, Eq, Row, Deserialize)]
struct Sum {
    rows: u64,
    hash: u64,
}

/// Compares a view's sums, from the day of a time on, with the same made from the rows. Quantiles are
/// approximations and left out.
pub async fn compare(
    store: &Store,
    view: RollupView,
    since_us: i64,
) -> Result<RollupCheck, StoreError> {
    let mut comparisons = 1;
    loop {
        let from_rows = sum(store, view, since_us, "optimize_use_projections = 0").await?;
        let from_projection = sum(store, view, since_us, "optimize_use_projections = 1").await?;
        let is_equal = from_rows == from_projection;
        if is_equal || comparisons == ROLLUP_COMPARISONS_MAX {
            let rows = from_rows.rows;
            return Ok(RollupCheck { rows, is_equal });
        }
        comparisons += 1;
    }
}

async fn sum(
    store: &Store,
    view: RollupView,
    since_us: i64,
    setting: &str,
) -> Result<Sum, StoreError> {
    let RollupView { name, time } = view;
    let sql = format!(
        "SELECT count() AS rows, groupBitXor(sipHash64(tuple(* EXCEPT \
         (total_us_quantiles, ttft_us_quantiles)))) AS hash FROM {name} \
         WHERE toDate({time}) >= toDate(fromUnixTimestamp64Micro({since_us}, 'UTC')) \
         SETTINGS {setting}"
    );
    let sums: Vec<Sum> = store.fetch(store.query(&sql)).await?;
    Ok(sums.into_iter().next().unwrap_or_default())
}

/// Views that put rows together and have no projection.
pub const PLAIN_VIEWS: [&str; 2] = ["rerated_requests", "meters_by_day"];

/// Whether a view says the same as the statement that the newest migration defines it by.
pub async fn is_as_defined(store: &Store, view: &str, since_us: i64) -> Result<bool, StoreError> {
    let Some(definition) = definition(view) else {
        return Ok(false);
    };
    let time = if view == "meters_by_day" { "day" } else { "ts" };
    let sql = |from: &str| {
        format!(
            "SELECT count() AS rows, groupBitXor(sipHash64(tuple(*))) AS hash FROM {from} \
             WHERE toDate({time}) >= toDate(fromUnixTimestamp64Micro({since_us}, 'UTC'))"
        )
    };
    for _ in 0..ROLLUP_COMPARISONS_MAX {
        let of_view: Vec<Sum> = store.fetch(store.query(&sql(view))).await?;
        let defined = sql(&format!("({definition})"));
        let of_rows: Vec<Sum> = store.fetch(store.query(&defined)).await?;
        if of_view == of_rows {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The statement behind a view.
fn definition(view: &str) -> Option<&'static str> {
    let opening = format!("CREATE OR REPLACE VIEW weir.{view}\n(");
    let body = |sql: &'static str| Some(sql.split_once(&opening)?.1);
    let newest = MIGRATIONS.iter().rev().find_map(|it| body(it.sql))?;
    let statement = newest.split_once("\n)\nAS\n")?.1;
    Some(statement.split_once("\nCOMMENT '")?.0)
}

/// Rebuilds all rollups from the rows. Nothing else is changed; queries go on meanwhile.
pub async fn rebuild(store: &Store) -> Result<(), StoreError> {
    for projection in PROJECTIONS {
        for verb in ["CLEAR", "MATERIALIZE"] {
            let sql = format!(
                "ALTER TABLE requests {verb} PROJECTION IF EXISTS {projection} \
                 SETTINGS mutations_sync = 1"
            );
            let mut answer = store.raw_query(&sql, "Null")?;
            while answer.next().await?.is_some() {}
        }
    }
    Ok(())
}
