//! The explorer's SQL: any measures by any dimensions.
//!
//! Ranges of two days and more are taken in whole hours, and those from midnight to midnight in days:
//! then the store answers from its sums by hour and day, where it has them for the dimensions asked for.

use jiff::SignedDuration;

use crate::error::ConsoleError;
use crate::gateway::TokenHolder;
use crate::selection::{Dimensions, FILTERS, Filters, TimeRange, datetime};
use crate::sql::literal;

/// Dimensions beside the filters: their columns, and whether attempts have them.
const FURTHER_DIMENSIONS: [(&str, &str, bool); 6] = [
    ("finish_reason", "finish_reason", false),
    ("usage_source", "usage_source", true),
    ("price_version", "price_version", true),
    ("dialect", "dialect", true),
    ("client_ip", "client_ip", false),
    ("user_agent", "user_agent", false),
];

/// Where the values of a measure come from when there are no rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoRows {
    Zero,
    Absent,
}

use NoRows::{Absent, Zero};

const QUANTILES: &str = "quantilesTDigest(0.5, 0.9, 0.95, 0.99)";

/// Measures of requests.
const REQUEST_MEASURES: [(&str, &str, NoRows); 19] = [
    ("requests", "count()", Zero),
    ("errors", "countIf(error_kind != '')", Zero),
    (
        "error_percent",
        "round(100 * countIf(error_kind != '') / count(), 2)",
        Absent,
    ),
    ("cost_usd", "sum(r.cost_usd)", Absent),
    ("waste_usd", "sum(r.waste_usd)", Absent),
    (
        "cost_per_request_usd",
        "sum(r.cost_usd) / nullIf(count() - countIf(r.cost_usd IS NULL), 0)",
        Absent,
    ),
    ("unpriced", "countIf(r.cost_usd IS NULL)", Zero),
    ("attempts", "sum(r.attempts)", Zero),
    ("input_tokens", "sum(r.input_tokens)", Absent),
    ("cached_input_tokens", "sum(r.cached_input_tokens)", Absent),
    ("output_tokens", "sum(r.output_tokens)", Absent),
    ("reasoning_tokens", "sum(r.reasoning_tokens)", Absent),
    ("ttft_ms_p50", "{q}(ttft_us)[1] / 1000", Absent),
    ("ttft_ms_p95", "{q}(ttft_us)[3] / 1000", Absent),
    ("ttft_ms_p99", "{q}(ttft_us)[4] / 1000", Absent),
    ("total_ms_p50", "{q}(total_us)[1] / 1000", Absent),
    ("total_ms_p95", "{q}(total_us)[3] / 1000", Absent),
    ("total_ms_p99", "{q}(total_us)[4] / 1000", Absent),
    (
        "tokens_per_s_p50",
        "quantileTDigestIf(0.5)(1000000 * r.output_tokens / (total_us - ttft_us), \
         streamed AND total_us > ttft_us)",
        Absent,
    ),
];

/// Measures of attempts.
const ATTEMPT_MEASURES: [(&str, &str, NoRows); 3] = [
    ("retries", "countIf(kind = 'retry')", Zero),
    ("fallbacks", "countIf(kind = 'fallback')", Zero),
    ("hedges", "countIf(kind = 'hedge')", Zero),
];

/// Groups of a chart: those with most of the first measure.
const SERIES_MAX: usize = 20;
const DIMENSIONS_MAX: usize = 3;
const MEASURES_MAX: usize = 12;
const TAG_CHARS_MAX: usize = 100;
const HOUR_S: i64 = 3_600;

/// The names of all dimensions and measures.
pub(crate) fn dimension_names() -> Vec<&'static str> {
    let filters = FILTERS.iter().map(|(name, _)| *name);
    let further = FURTHER_DIMENSIONS.iter().map(|(name, ..)| *name);
    filters.chain(further).chain(["day", "hour"]).collect()
}

pub(crate) fn measure_names() -> Vec<&'static str> {
    let all = REQUEST_MEASURES.iter().chain(&ATTEMPT_MEASURES);
    all.map(|(name, ..)| *name).collect()
}

/// A table that is explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExploredTable {
    Requests,
    Attempts,
}

/// How fine a range's times are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grain {
    Exact,
    Hour,
    Day,
}

impl Grain {
    fn of(range: TimeRange) -> Self {
        let is_at = |second: i64, every: i64| second % every == 0;
        let (from, to) = (range.from.as_second(), range.to.as_second());
        if range.seconds() < 48 * HOUR_S {
            Self::Exact
        } else if is_at(from, 24 * HOUR_S) && is_at(to, 24 * HOUR_S) {
            Self::Day
        } else {
            Self::Hour
        }
    }

    /// The range, which may become a little longer.
    fn fit(self, range: TimeRange) -> TimeRange {
        if self != Self::Hour {
            return range;
        }
        let down = |time: jiff::Timestamp| {
            let rest = time
                .as_nanosecond()
                .rem_euclid(i128::from(HOUR_S) * 1_000_000_000);
            let rest = SignedDuration::from_nanos(i64::try_from(rest).unwrap_or_default());
            time.saturating_sub(rest).unwrap_or(time)
        };
        let to = down(range.to);
        let hour = SignedDuration::from_hours(1);
        TimeRange {
            from: down(range.from),
            to: match to == range.to {
                true => to,
                false => to.saturating_add(hour).unwrap_or(to),
            },
        }
    }

    /// The rows' time, as fine as the sums of the store have it.
    const fn time(self) -> &'static str {
        match self {
            Self::Exact => "ts",
            Self::Hour => "toStartOfHour(ts)",
            Self::Day => "toDate(ts)",
        }
    }

    fn condition(self, range: TimeRange) -> String {
        let (time, from, to) = (self.time(), datetime(range.from), datetime(range.to));
        match self {
            Self::Day => format!("{time} >= toDate({from}) AND {time} < toDate({to})"),
            Self::Exact | Self::Hour => format!("{time} >= {from} AND {time} < {to}"),
        }
    }
}

#[derive(Clone, Debug)]
struct ExploredColumn {
    title: String,
    of: ColumnOf,
}

#[derive(Clone, Debug)]
enum ColumnOf {
    Column(&'static str, bool),
    Tag(String),
    /// The time of a row, cut to a width.
    Time(i64),
}

/// One part of the statement: one table in one of the two periods.
#[derive(Clone, Copy, Debug)]
struct Branch {
    table: ExploredTable,
    is_before: bool,
}

type Measure = (&'static str, &'static str, NoRows);

/// What is explored.
#[derive(Debug)]
pub(crate) struct Exploration {
    by: Vec<ExploredColumn>,
    measures: Vec<Measure>,
    range: TimeRange,
    grain: Grain,
    series: bool,
    compare: bool,
    scope: String,
    rows_max: u32,
}

impl Exploration {
    pub(crate) fn new(
        by: &str,
        measures: &str,
        range: TimeRange,
        filters: &Filters,
        caller: &TokenHolder,
    ) -> Result<Self, ConsoleError> {
        let by: Vec<ExploredColumn> = names(by).map(dimension).collect::<Result<_, _>>()?;
        if by.len() > DIMENSIONS_MAX {
            let message = format!("at most {DIMENSIONS_MAX} dimensions at once");
            return Err(ConsoleError::invalid(message));
        }
        let measures: Vec<Measure> = names(measures).map(measure).collect::<Result<_, _>>()?;
        if measures.is_empty() || measures.len() > MEASURES_MAX {
            let message = format!("ask for 1 to {MEASURES_MAX} measures");
            return Err(ConsoleError::invalid(message));
        }
        let has_hours = by.iter().any(|it| matches!(it.of, ColumnOf::Time(HOUR_S)));
        let grain = match Grain::of(range) {
            Grain::Day if has_hours => Grain::Hour,
            grain => grain,
        };
        Ok(Self {
            by,
            measures,
            range: grain.fit(range),
            grain,
            series: false,
            compare: false,
            scope: filters.scope(caller, Dimensions::Requests)?,
            rows_max: 1_000,
        })
    }

    pub(crate) fn with(self, series: bool, compare: bool, rows_max: u32) -> Self {
        let bucket_s = self.range.bucket_s();
        let is_fine = bucket_s % (24 * HOUR_S) != 0;
        let grain = match self.grain {
            // Charts have finer buckets than days.
            Grain::Day if series && is_fine => Grain::Hour,
            grain => grain,
        };
        Self {
            series,
            compare,
            rows_max,
            grain: match grain {
                Grain::Hour if series && bucket_s % HOUR_S != 0 => Grain::Exact,
                grain => grain,
            },
            ..self
        }
    }

    pub(crate) fn sql(&self) -> Result<String, ConsoleError> {
        let attempts = self
            .measures
            .iter()
            .any(|it| table_of(it.0) == ExploredTable::Attempts);
        let requests = self
            .measures
            .iter()
            .any(|it| table_of(it.0) == ExploredTable::Requests);
        let periods: &[bool] = if self.compare {
            &[false, true]
        } else {
            &[false]
        };
        let mut branches = Vec::new();
        for &is_before in periods {
            let tables = [
                (requests, ExploredTable::Requests),
                (attempts, ExploredTable::Attempts),
            ];
            let tables = tables.into_iter().filter(|(is_asked, _)| *is_asked);
            branches.extend(tables.map(|(_, table)| Branch { table, is_before }));
        }
        let parts: Vec<String> = branches
            .iter()
            .map(|branch| self.branch(*branch))
            .collect::<Result<_, _>>()?;
        let body = match parts.as_slice() {
            [only] => only.clone(),
            parts => self.joined(parts),
        };
        Ok(format!(
            "{body}\nORDER BY {}\nLIMIT {}",
            self.order(),
            self.rows_max
        ))
    }

    /// The titles of the columns that rows are told apart by.
    fn keys(&self) -> Vec<String> {
        let time = self.series.then(|| "time".to_owned());
        let titles = self.by.iter().map(|dimension| quoted(&dimension.title));
        time.into_iter().chain(titles).collect()
    }

    fn branch(&self, branch: Branch) -> Result<String, ConsoleError> {
        let mut columns = Vec::new();
        if self.series {
            columns.push(format!(
                "{} AS time",
                self.time(self.range.bucket_s(), branch)
            ));
        }
        for dimension in &self.by {
            let value = self.value(dimension, branch)?;
            columns.push(format!("{value} AS {}", quoted(&dimension.title)));
        }
        for (name, measure, is_before) in self.columns() {
            let is_here = table_of(measure.0) == branch.table && is_before == branch.is_before;
            let value = match is_here {
                true => measure.1.replace("{q}", QUANTILES),
                false => "NULL".to_owned(),
            };
            columns.push(format!("{value} AS {name}"));
        }
        let range = if branch.is_before {
            self.range.before()
        } else {
            self.range
        };
        let table = match branch.table {
            ExploredTable::Requests => "weir.requests",
            ExploredTable::Attempts => "weir.attempts",
        };
        let grain = match branch.table {
            ExploredTable::Requests => self.grain,
            ExploredTable::Attempts => Grain::Exact,
        };
        let mut conditions = format!("{} AND {}", grain.condition(range), self.scope);
        if self.series && !self.by.is_empty() {
            conditions = format!("{conditions}\n    AND {}", self.largest()?);
        }
        let keys = self.keys();
        let grouped = match keys.is_empty() {
            true => String::new(),
            false => format!("\nGROUP BY {}", keys.join(", ")),
        };
        let columns = columns.join(",\n    ");
        Ok(format!(
            "SELECT\n    {columns}\nFROM {table} AS r\nWHERE {conditions}{grouped}"
        ))
    }

    /// The rows of the groups that a chart shows.
    fn largest(&self) -> Result<String, ConsoleError> {
        let measure = self
            .measures
            .iter()
            .find(|it| table_of(it.0) == ExploredTable::Requests);
        let measure = measure
            .map_or("count()", |it| it.1)
            .replace("{q}", QUANTILES);
        let here = Branch {
            table: ExploredTable::Requests,
            is_before: false,
        };
        let values: Vec<String> = self
            .by
            .iter()
            .map(|it| self.value(it, here))
            .collect::<Result<_, _>>()?;
        let values = values.join(", ");
        let conditions = format!("{} AND {}", self.grain.condition(self.range), self.scope);
        Ok(format!(
            "({values}) IN (\n        SELECT {values} FROM weir.requests AS r\n        \
             WHERE {conditions}\n        GROUP BY {values} ORDER BY {measure} DESC LIMIT {SERIES_MAX}\n    )"
        ))
    }

    /// The parts, put side by side.
    fn joined(&self, parts: &[String]) -> String {
        let keys = self.keys();
        let measures = self
            .columns()
            .into_iter()
            .map(|(name, measure, _)| match measure.2 {
                Zero => format!("ifNull(any(p.{name}), 0) AS {name}"),
                Absent => format!("any(p.{name}) AS {name}"),
            });
        let columns: Vec<String> = keys.iter().cloned().chain(measures).collect();
        let grouped = match keys.is_empty() {
            true => String::new(),
            false => format!("\nGROUP BY {}", keys.join(", ")),
        };
        format!(
            "SELECT\n    {}\nFROM\n(\n{}\n) AS p{grouped}",
            columns.join(",\n    "),
            parts.join("\nUNION ALL\n")
        )
    }

    /// The columns of measures: a second one each for the period before.
    fn columns(&self) -> Vec<(String, Measure, bool)> {
        let periods: &[bool] = if self.compare {
            &[false, true]
        } else {
            &[false]
        };
        let of_measure = |measure: &Measure| {
            let name = measure.0;
            let measure = *measure;
            periods.iter().map(move |&is_before| {
                let name = if is_before {
                    format!("{name}_before")
                } else {
                    name.to_owned()
                };
                (name, measure, is_before)
            })
        };
        self.measures.iter().flat_map(of_measure).collect()
    }

    fn order(&self) -> String {
        let by_time = self.by.iter().find(|it| matches!(it.of, ColumnOf::Time(_)));
        let time = match by_time {
            _ if self.series => Some("time".to_owned()),
            dimension => dimension.map(|it| quoted(&it.title)),
        };
        let most = self
            .measures
            .first()
            .map(|it| format!("{} DESC NULLS LAST", it.0));
        time.into_iter()
            .chain(most)
            .chain(self.keys())
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn value(&self, dimension: &ExploredColumn, branch: Branch) -> Result<String, ConsoleError> {
        let title = &dimension.title;
        match &dimension.of {
            ColumnOf::Column(_, false) if branch.table == ExploredTable::Attempts => {
                Err(ConsoleError::invalid(format!("attempts have no {title}")))
            }
            ColumnOf::Column(column, _) => Ok((*column).to_owned()),
            ColumnOf::Tag(name) => Ok(format!("tags[{}]", literal(name))),
            ColumnOf::Time(width_s) => {
                let time = self.time(*width_s, branch);
                Ok(match width_s % (24 * HOUR_S) {
                    0 => format!("toDate({time})"),
                    _ => time,
                })
            }
        }
    }

    /// The bucket of a row. Those of the period before stand where they are compared.
    fn time(&self, width_s: i64, branch: Branch) -> String {
        let time = match branch.table {
            ExploredTable::Requests => self.grain.time(),
            ExploredTable::Attempts => "ts",
        };
        let time = match branch.is_before {
            true => format!("toDateTime({time}, 'UTC') + {}", self.range.seconds()),
            false => format!("toDateTime({time}, 'UTC')"),
        };
        format!("toStartOfInterval({time}, toIntervalSecond({width_s}))")
    }
}

fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').filter(|name| !name.is_empty())
}

fn dimension(name: &str) -> Result<ExploredColumn, ConsoleError> {
    let column = |(_, column): &(&str, &'static str)| ColumnOf::Column(column, true);
    let filter = FILTERS.iter().find(|(known, _)| *known == name).map(column);
    let further = FURTHER_DIMENSIONS.iter().find(|(known, ..)| *known == name);
    let further = further.map(|(_, column, of_attempts)| ColumnOf::Column(column, *of_attempts));
    let of = match (filter.or(further), name, name.strip_prefix("tag:")) {
        (Some(of), ..) => of,
        (None, "day", _) => ColumnOf::Time(24 * HOUR_S),
        (None, "hour", _) => ColumnOf::Time(HOUR_S),
        (None, _, Some(tag)) if is_tag(tag) => ColumnOf::Tag(tag.to_owned()),
        _ => {
            return Err(ConsoleError::invalid(format!(
                "there is no dimension {name}"
            )));
        }
    };
    Ok(ExploredColumn {
        title: name.to_owned(),
        of,
    })
}

fn is_tag(name: &str) -> bool {
    let is_plain =
        |character: char| !character.is_control() && !matches!(character, '`' | '\\' | '\'' | '"');
    !name.is_empty() && name.chars().count() <= TAG_CHARS_MAX && name.chars().all(is_plain)
}

fn measure(name: &str) -> Result<Measure, ConsoleError> {
    let mut all = REQUEST_MEASURES.iter().chain(&ATTEMPT_MEASURES);
    let found = all.find(|(known, ..)| *known == name).copied();
    found.ok_or_else(|| ConsoleError::invalid(format!("there is no measure {name}")))
}

fn table_of(measure: &str) -> ExploredTable {
    match ATTEMPT_MEASURES.iter().any(|(known, ..)| *known == measure) {
        true => ExploredTable::Attempts,
        false => ExploredTable::Requests,
    }
}

/// A title as an identifier.
fn quoted(title: &str) -> String {
    format!("`{title}`")
}

/// The values of a dimension, by how many requests have them.
pub(crate) fn values(
    name: &str,
    prefix: &str,
    range: TimeRange,
    scope: &str,
) -> Result<String, ConsoleError> {
    let ExploredColumn { of, .. } = dimension(name)?;
    let value = match of {
        ColumnOf::Column(column, _) => format!("toString({column})"),
        ColumnOf::Tag(name) => format!("tags[{}]", literal(&name)),
        ColumnOf::Time(_) => {
            return Err(ConsoleError::invalid(format!(
                "{name} has no values to choose from"
            )));
        }
    };
    let grain = Grain::of(range);
    let rows = format!("{} AND {scope}", grain.condition(grain.fit(range)));
    let begins = match prefix.is_empty() {
        true => String::new(),
        false => format!(
            "\n    AND startsWith(lowerUTF8(value), lowerUTF8({}))",
            literal(prefix)
        ),
    };
    Ok(format!(
        "SELECT {value} AS value, count() AS requests\nFROM weir.requests\nWHERE {rows}{begins}\n\
         GROUP BY value\nORDER BY requests DESC, value\nLIMIT 200"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::TokenRole;

    fn range(from: &str, to: &str) -> TimeRange {
        TimeRange {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
        }
    }

    fn owner() -> TokenHolder {
        TokenHolder {
            name: "somebody".to_owned(),
            role: TokenRole::TeamOwner,
            team: Some("growth".to_owned()),
        }
    }

    fn explored(by: &str, measures: &str) -> Result<Exploration, ConsoleError> {
        let day = range("2026-01-01T00:00:30Z", "2026-01-02T00:00:30Z");
        Exploration::new(by, measures, day, &Filters::default(), &owner())
    }

    #[test]
    fn every_table_is_read_for_the_callers_team_only() {
        for (series, compare) in [(false, false), (true, false), (false, true), (true, true)] {
            let asked = explored("user,tag:app", "cost_usd,retries").unwrap();
            let sql = asked.with(series, compare, 10).sql().unwrap();
            let tables = sql.matches("FROM weir.").count();
            assert_eq!(sql.matches("team = 'growth'").count(), tables, "{sql}");
        }
    }

    #[test]
    fn what_is_no_dimension_or_measure_is_refused() {
        for by in [
            "colour",
            "tag:",
            "tag:a`b",
            "tag:a\\b",
            "team,user,model,alias",
            "team) --",
        ] {
            assert!(explored(by, "requests").is_err(), "{by}");
        }
        for measures in ["", "count()", "requests,money"] {
            assert!(explored("team", measures).is_err(), "{measures}");
        }
        let of_attempts = explored("client_ip", "retries").unwrap();
        assert!(of_attempts.sql().is_err());
        for by in dimension_names() {
            for measure in measure_names() {
                assert!(explored(by, measure).is_ok(), "{by} {measure}");
            }
        }
    }

    #[test]
    fn long_ranges_are_taken_in_whole_hours_or_days() {
        let check = |from: &str, to: &str, grain: Grain, fitted: (&str, &str)| {
            let range = range(from, to);
            assert_eq!(Grain::of(range), grain, "{from} {to}");
            let fit = grain.fit(range);
            assert_eq!(
                (fit.from.to_string(), fit.to.to_string()),
                (fitted.0.into(), fitted.1.into())
            );
        };
        let (first, second) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        check(first, second, Grain::Exact, (first, second));
        let last = "2026-02-01T00:00:00Z";
        check(first, last, Grain::Day, (first, last));
        check(
            "2026-01-01T10:59:59Z",
            "2026-01-08T10:00:00.5Z",
            Grain::Hour,
            ("2026-01-01T10:00:00Z", "2026-01-08T11:00:00Z"),
        );
    }
}
