//! Queries of the store: `api/queries/NAME`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::header::CONTENT_DISPOSITION;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::Console;
use crate::caps::{EXPORT_ROWS_MAX, ROWS_MAX, VALUE_BYTES_MAX};
use crate::error::ConsoleError;
use crate::explore::{self, Exploration};
use crate::queries::{NamedQuery, QUERIES};
use crate::respond;
use crate::selection::{Dimensions, FILTERS, Filters, TimeRange, plain};
use crate::session::SignedIn;
use crate::sql;

/// How the answer is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerForm {
    Json,
    Csv,
    /// The statement, instead of an answer.
    Sql,
}

/// What a call asks for, but for what only some calls have.
#[derive(Debug)]
pub(crate) struct QueryCall {
    pub(crate) range: TimeRange,
    pub(crate) filters: Filters,
    pub(crate) form: AnswerForm,
    /// What is neither of these, once each.
    rest: BTreeMap<String, String>,
}

impl QueryCall {
    pub(crate) fn read(query: Option<&str>, kept_days: u32) -> Result<Self, ConsoleError> {
        let mut filters = Filters::default();
        let mut rest = BTreeMap::new();
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        for (name, value) in pairs {
            if filters.take(&name, &value)? {
                continue;
            }
            if value.len() > VALUE_BYTES_MAX {
                return Err(ConsoleError::invalid(format!("{name} is too long")));
            }
            if rest.contains_key(&*name) {
                return Err(ConsoleError::invalid(format!("{name} is there twice")));
            }
            rest.insert(name.into_owned(), value.into_owned());
        }
        let mut one = |name: &str| rest.remove(name);
        let (from, to) = (one("from"), one("to"));
        let range = TimeRange::read(from.as_deref(), to.as_deref(), kept_days)?;
        let form = match (one("show").as_deref(), one("format").as_deref()) {
            (None, None | Some("json")) => AnswerForm::Json,
            (None, Some("csv")) => AnswerForm::Csv,
            (Some("sql"), _) => AnswerForm::Sql,
            _ => {
                return Err(ConsoleError::invalid(
                    "format must be json or csv, and show sql",
                ));
            }
        };
        Ok(Self {
            range,
            filters,
            form,
            rest,
        })
    }

    /// Takes a parameter of the call's own.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        self.rest.remove(name)
    }

    fn flag(&mut self, name: &str) -> Result<bool, ConsoleError> {
        match self.take(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(ConsoleError::invalid(format!(
                "{name} must be true or false"
            ))),
        }
    }

    /// Refuses what nobody took.
    pub(crate) fn refuse_rest(&self) -> Result<(), ConsoleError> {
        match self.rest.keys().next() {
            None => Ok(()),
            Some(name) => Err(ConsoleError::invalid(format!(
                "this query has no parameter {name}"
            ))),
        }
    }

    pub(crate) const fn rows_max(&self) -> u32 {
        match self.form {
            AnswerForm::Csv => EXPORT_ROWS_MAX,
            AnswerForm::Json | AnswerForm::Sql => ROWS_MAX,
        }
    }
}

pub(crate) async fn named(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ConsoleError> {
    let asked = QueryCall::read(query.as_deref(), console.kept_days)?;
    let named = QUERIES.iter().find(|known| known.name == name);
    let named =
        named.ok_or_else(|| ConsoleError::not_found(format!("there is no query {name}")))?;
    let form = asked.form;
    let statement = statement(named, asked, &signed_in)?;
    answer(&console, form, named.name, statement).await
}

/// `api/explore`: measures by dimensions.
pub(crate) async fn explore(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    RawQuery(query): RawQuery,
) -> Result<Response, ConsoleError> {
    let mut call = QueryCall::read(query.as_deref(), console.kept_days)?;
    let by = call.take("by").unwrap_or_default();
    let measures = call.take("measure");
    let measures = measures.unwrap_or_else(|| "requests,cost_usd".to_owned());
    let (series, compare) = (call.flag("series")?, call.flag("compare")?);
    call.refuse_rest()?;
    let rows_max = call.rows_max();
    let caller = &signed_in.holder;
    let exploration = Exploration::new(&by, &measures, call.range, &call.filters, caller)?;
    let statement = exploration.with(series, compare, rows_max).sql()?;
    answer(&console, call.form, "explorer", statement).await
}

/// `api/values/DIMENSION`: what a filter can be set to.
pub(crate) async fn values(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    Path(dimension): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ConsoleError> {
    let mut call = QueryCall::read(query.as_deref(), console.kept_days)?;
    let prefix = call.take("prefix").unwrap_or_default();
    call.refuse_rest()?;
    let scope = call
        .filters
        .scope(&signed_in.holder, Dimensions::Requests)?;
    let statement = explore::values(&dimension, &prefix, call.range, &scope)?;
    answer(&console, call.form, "values", statement).await
}

/// A query with all values in it.
fn statement(
    named: &NamedQuery,
    mut asked: QueryCall,
    signed_in: &SignedIn,
) -> Result<String, ConsoleError> {
    let caller = &*signed_in.holder;
    if !named.readers.has(caller.role) {
        let (role, name) = (caller.role.as_str(), named.name);
        return Err(ConsoleError::denied(format!(
            "the role {role} may not ask {name}"
        )));
    }
    let mut given = BTreeMap::new();
    for (name, of_type) in named.parameters {
        let value = asked.take(name);
        let value = value.ok_or_else(|| ConsoleError::invalid(format!("{name} is missing")))?;
        sql::check(name, &value, of_type)?;
        given.insert(*name, value);
    }
    asked.refuse_rest()?;
    let range = asked.range;
    given.insert("from", plain(range.from));
    given.insert("to", plain(range.to));
    given.insert("bucket_s", range.bucket_s().to_string());
    given.insert("rows_max", asked.rows_max().to_string());
    // What the query answers is for who reads the file, and `weir sql` would take it for an option.
    let text = named.sql.lines().filter(|line| !line.starts_with("--"));
    let text: Vec<&str> = text.collect();
    let filled = sql::fill(&text.join("\n"), |name, of_type| {
        let value = given.get(name);
        let value = value.ok_or_else(|| ConsoleError::internal(format!("no value for {name}")))?;
        Ok(sql::value(value, of_type))
    });
    let scope = asked.filters.scope(caller, named.dimensions)?;
    let rows = format!("{} AND {scope}", range.condition());
    // Where values are by now, one may have the look of these: each piece is replaced once.
    let pieces = filled?;
    Ok(put_in(&pieces, &rows, &scope))
}

/// Puts conditions in the place of `$rows` and `$scope`, and not into what was put in.
fn put_in(sql: &str, rows: &str, scope: &str) -> String {
    let mut pieces = sql
        .split("$rows")
        .map(|piece| piece.replace("$scope", scope));
    let first = pieces.next().unwrap_or_default();
    pieces.fold(first, |whole, piece| whole + rows + &piece)
}

/// Runs a statement, or shows it.
pub(crate) async fn answer(
    console: &Console,
    form: AnswerForm,
    name: &str,
    statement: String,
) -> Result<Response, ConsoleError> {
    match form {
        AnswerForm::Sql => Ok(respond::text(statement)),
        AnswerForm::Json => {
            let document = console.asker.json(&statement).await?;
            let is_cut = is_cut(&document);
            let mut response = respond::json(StatusCode::OK, document);
            if is_cut {
                let headers = response.headers_mut();
                headers.insert("x-weir-truncated", HeaderValue::from_static("true"));
            }
            Ok(response)
        }
        AnswerForm::Csv => {
            let body = console.asker.csv(&statement).await?;
            let mut response = respond::of_type(StatusCode::OK, "text/csv; charset=utf-8", body);
            let disposition = format!("attachment; filename=\"weir-{name}.csv\"");
            let disposition = HeaderValue::try_from(disposition).ok();
            let headers = response.headers_mut();
            headers.extend(disposition.map(|value| (CONTENT_DISPOSITION, value)));
            Ok(response)
        }
    }
}

/// How many rows an answer has, and would have without a limit.
#[derive(Deserialize)]
struct RowCounts {
    rows: u64,
    rows_before_limit_at_least: Option<u64>,
}

fn is_cut(document: &[u8]) -> bool {
    let counts = serde_json::from_slice::<RowCounts>(document);
    counts.is_ok_and(|counts| counts.rows_before_limit_at_least > Some(counts.rows))
}

/// What the explorer and the filters know.
pub(crate) async fn filters(State(console): State<Arc<Console>>, _signed_in: SignedIn) -> Response {
    let names: Vec<&str> = FILTERS.iter().map(|(name, _)| *name).collect();
    let known = json!({
        "dimensions": explore::dimension_names(),
        "measures": explore::measure_names(),
        "filters": names,
        "retention_days": console.kept_days,
    });
    respond::json(StatusCode::OK, known.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_put_in_once() {
        let said = put_in("a $rows b $scope c $rows", "R $scope $rows", "S $rows");
        assert_eq!(said, "a R $scope $rows b S $rows c R $scope $rows");
    }

    #[test]
    fn an_answer_that_a_limit_cut_is_known() {
        assert!(is_cut(
            br#"{"data":[[1]],"rows":1,"rows_before_limit_at_least":2}"#
        ));
        assert!(!is_cut(
            br#"{"data":[[1]],"rows":1,"rows_before_limit_at_least":1}"#
        ));
        assert!(!is_cut(br#"{"data":[],"rows":0}"#));
    }
}
