//! What a query is about: a time range, filters, and, whoever asks, the rows that are theirs to see.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::caps::{BUCKETS_MAX, FILTER_VALUES_MAX, VALUE_BYTES_MAX};
use crate::error::ConsoleError;
use crate::gateway::{TokenHolder, TokenRole};
use crate::session::now_utc;
use crate::sql::literal;

/// Which of the filters a table has columns for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dimensions {
    /// `weir.requests`, and what else has its columns.
    Requests,
    /// `weir.attempts`.
    Attempts,
    /// `weir.usage_by_hour` and `weir.usage_by_day`.
    Usage,
    /// A table that says nothing of callers.
    None,
}

/// The filters, with their columns.
pub(crate) const FILTERS: [(&str, &str); 15] = [
    ("organisation", "organisation"),
    ("team", "team"),
    ("project", "project"),
    ("environment", "environment"),
    ("tier", "tier"),
    ("model", "model"),
    ("provider", "provider"),
    ("deployment", "deployment"),
    ("alias", "alias"),
    ("user", "user"),
    ("key", "key_id"),
    ("feature", "feature"),
    ("customer", "customer"),
    ("status", "status"),
    ("error_kind", "error_kind"),
];

/// The filters that the rollups have columns for.
pub(crate) const USAGE_FILTERS: [&str; 8] = [
    "organisation",
    "team",
    "project",
    "environment",
    "feature",
    "alias",
    "provider",
    "model",
];

impl Dimensions {
    fn column(self, filter: &str) -> Option<&'static str> {
        let known = FILTERS.iter().find(|(name, _)| *name == filter);
        let column = known.map(|(_, column)| *column)?;
        match self {
            Self::Requests | Self::Attempts => Some(column),
            Self::Usage => USAGE_FILTERS.contains(&filter).then_some(column),
            Self::None => None,
        }
    }
}

/// From and to, which is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeRange {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// A range unless one is asked for.
const RANGE_DEFAULT: SignedDuration = SignedDuration::from_hours(24);
const DAY_S: i64 = 86_400;
/// Widths of buckets that fit into a day.
const BUCKETS_S: [i64; 10] = [60, 120, 300, 600, 900, 1_800, 3_600, 10_800, 21_600, 43_200];

impl TimeRange {
    /// Reads a range, cut to what is kept: nothing older is stored.
    pub(crate) fn read(
        from: Option<&str>,
        to: Option<&str>,
        kept_days: u32,
    ) -> Result<Self, ConsoleError> {
        let time = |name: &str, text: Option<&str>, otherwise: Timestamp| match text {
            None => Ok(otherwise),
            Some(text) => text.parse::<Timestamp>().map_err(|_| {
                ConsoleError::invalid(format!(
                    "{name} must be a time such as 2026-01-31T12:00:00Z"
                ))
            }),
        };
        let to = time("to", to, now_utc())?;
        let day_before = to.saturating_sub(RANGE_DEFAULT).unwrap_or_default();
        let from = time("from", from, day_before)?;
        // The tables' times begin in 1900 and end in 2262.
        let (first, last) = (Timestamp::UNIX_EPOCH, "2262-01-01T00:00:00Z".parse());
        let to = to.min(last.unwrap_or(Timestamp::MAX)).max(first);
        let kept = SignedDuration::from_hours(24 * (i64::from(kept_days) + 1));
        let oldest = to.saturating_sub(kept).unwrap_or(first).max(first);
        if from >= to {
            return Err(ConsoleError::invalid("from must be before to"));
        }
        Ok(Self {
            from: from.max(oldest),
            to,
        })
    }

    pub(crate) fn seconds(self) -> i64 {
        self.to.duration_since(self.from).as_secs().max(1)
    }

    /// The width of buckets, so that there are few enough of them.
    pub(crate) fn bucket_s(self) -> i64 {
        // One more touches the range at its ends.
        let fits = |width: &i64| self.seconds() / width < BUCKETS_MAX - 1;
        let within_day = BUCKETS_S.into_iter().find(fits);
        within_day.unwrap_or_else(|| {
            let days = self.seconds() / DAY_S / (BUCKETS_MAX - 1) + 1;
            days * DAY_S
        })
    }

    /// The range of equal length before this one.
    pub(crate) fn before(self) -> Self {
        let length = self.to.duration_since(self.from);
        Self {
            from: self.from.saturating_sub(length).unwrap_or(self.from),
            to: self.from,
        }
    }

    /// Rows in it, by their column `ts`.
    pub(crate) fn condition(self) -> String {
        format!(
            "ts >= {} AND ts < {}",
            datetime(self.from),
            datetime(self.to)
        )
    }
}

/// A time as SQL, in microseconds.
pub(crate) fn datetime(time: Timestamp) -> String {
    format!("toDateTime64('{}', 6, 'UTC')", plain(time))
}

/// `2026-01-31 12:00:00.000000`, in UTC: older servers do not take a Z.
pub(crate) fn plain(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S.%6f").to_string()
}

/// The filters of a call, each with the values that it lets through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filters(BTreeMap<&'static str, Vec<String>>);

impl Filters {
    /// Takes a parameter that is a filter; `false` if it is none.
    pub(crate) fn take(&mut self, name: &str, value: &str) -> Result<bool, ConsoleError> {
        let Some((name, _)) = FILTERS.iter().find(|(known, _)| *known == name) else {
            return Ok(false);
        };
        if value.len() > VALUE_BYTES_MAX {
            return Err(ConsoleError::invalid(format!(
                "a value of {name} is too long"
            )));
        }
        if self.0.values().map(Vec::len).sum::<usize>() >= FILTER_VALUES_MAX {
            return Err(ConsoleError::invalid("there are too many filters"));
        }
        if *name == "status" && !matches!(value, "ok" | "error") && value.parse::<u16>().is_err() {
            return Err(ConsoleError::invalid(
                "status must be ok, error or a number",
            ));
        }
        self.0.entry(name).or_default().push(value.to_owned());
        Ok(true)
    }

    /// What rows must be like that the caller may see and the filters let through.
    pub(crate) fn scope(
        &self,
        caller: &TokenHolder,
        dimensions: Dimensions,
    ) -> Result<String, ConsoleError> {
        let mut conditions = Vec::new();
        if dimensions != Dimensions::None {
            conditions.extend(own_rows(caller));
        }
        for (name, values) in &self.0 {
            let column = dimensions
                .column(name)
                .ok_or_else(|| ConsoleError::invalid(format!("this query has no filter {name}")))?;
            conditions.push(match *name {
                "status" => status_condition(values),
                _ => is_any_of(column, values),
            });
        }
        match conditions.is_empty() {
            true => Ok("true".to_owned()),
            false => Ok(conditions.join(" AND ")),
        }
    }
}

/// What rows of `weir.requests` must be like that these filters let through. For whoever may see all rows.
pub fn request_condition<'a>(
    filters: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<String, String> {
    let mut taken = Filters::default();
    for (name, value) in filters {
        if !taken.take(name, value).map_err(|error| error.message)? {
            return Err(format!("there is no filter {name}"));
        }
    }
    let operator = TokenHolder {
        name: "operator".to_owned(),
        role: TokenRole::Admin,
        team: None,
    };
    let condition = taken.scope(&operator, Dimensions::Requests);
    condition.map_err(|error| error.message)
}

/// Team owners see their team's rows. One without a team sees none.
fn own_rows(caller: &TokenHolder) -> Option<String> {
    match (caller.role, caller.team.as_deref()) {
        (TokenRole::TeamOwner, None | Some("")) => Some("false".to_owned()),
        (TokenRole::TeamOwner, Some(team)) => Some(format!("team = {}", literal(team))),
        (TokenRole::Admin | TokenRole::Auditor | TokenRole::Finance, _) => None,
    }
}

fn is_any_of(column: &str, values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| literal(value)).collect();
    match values.as_slice() {
        [value] => format!("{column} = {value}"),
        values => format!("{column} IN ({})", values.join(", ")),
    }
}

fn status_condition(values: &[String]) -> String {
    let conditions = values
        .iter()
        .map(|value| match (value.as_str(), value.parse::<u16>()) {
            (_, Ok(number)) => format!("status = {number}"),
            ("ok", _) => "error_kind = ''".to_owned(),
            _ => "error_kind != ''".to_owned(),
        });
    let conditions: Vec<String> = conditions.collect();
    match conditions.as_slice() {
        [condition] => condition.clone(),
        conditions => format!("({})", conditions.join(" OR ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(role: TokenRole, team: Option<&str>) -> TokenHolder {
        TokenHolder {
            name: "somebody".to_owned(),
            role,
            team: team.map(str::to_owned),
        }
    }

    fn scope(filters: &[(&str, &str)], caller: &TokenHolder, of: Dimensions) -> Option<String> {
        let mut taken = Filters::default();
        for (name, value) in filters {
            assert!(taken.take(name, value).unwrap());
        }
        taken.scope(caller, of).ok()
    }

    #[test]
    fn a_team_owner_sees_the_own_teams_rows_whatever_is_asked_for() {
        let owner = holder(TokenRole::TeamOwner, Some("gro'wth"));
        let asked = [("team", "support"), ("user", "ana")];
        let said = scope(&asked, &owner, Dimensions::Requests).unwrap();
        assert_eq!(
            said,
            r"team = 'gro\'wth' AND team = 'support' AND user = 'ana'"
        );
        for teamless in [None, Some("")] {
            let owner = holder(TokenRole::TeamOwner, teamless);
            assert_eq!(scope(&[], &owner, Dimensions::Requests).unwrap(), "false");
        }
    }

    #[test]
    fn filters_become_conditions() {
        let admin = holder(TokenRole::Admin, None);
        let check = |filters: &[(&str, &str)], expected: &str| {
            let said = scope(filters, &admin, Dimensions::Requests);
            assert_eq!(said.as_deref(), Some(expected));
        };
        check(&[], "true");
        check(&[("key", "k")], "key_id = 'k'");
        check(&[("team", "a"), ("team", "")], "team IN ('a', '')");
        check(&[("status", "error")], "error_kind != ''");
        check(
            &[("status", "ok"), ("status", "429")],
            "(error_kind = '' OR status = 429)",
        );
        assert_eq!(scope(&[("user", "a")], &admin, Dimensions::Usage), None);
        assert_eq!(scope(&[("team", "a")], &admin, Dimensions::None), None);
        let mut filters = Filters::default();
        assert!(!filters.take("colour", "red").unwrap());
        assert!(filters.take("status", "1 OR 1").is_err());
        assert!(
            filters
                .take("user", &"a".repeat(VALUE_BYTES_MAX + 1))
                .is_err()
        );
    }

    #[test]
    fn ranges_are_read_and_cut() {
        let read = |from, to| TimeRange::read(Some(from), Some(to), 90);
        let range = read("2026-01-01T00:00:00Z", "2026-01-02T00:00:00+00:00").unwrap();
        assert_eq!(range.seconds(), 86_400);
        assert_eq!(
            range.condition(),
            "ts >= toDateTime64('2026-01-01 00:00:00.000000', 6, 'UTC') \
             AND ts < toDateTime64('2026-01-02 00:00:00.000000', 6, 'UTC')"
        );
        let long = read("1800-01-01T00:00:00Z", "2026-01-01T00:00:00Z").unwrap();
        assert_eq!(long.seconds(), 91 * 86_400);
        for (from, to) in [
            ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("yesterday", "2026-01-01T00:00:00Z"),
            ("2026-01-01", "2026-01-02"),
        ] {
            assert!(read(from, to).is_err(), "{from} {to}");
        }
    }

    #[test]
    fn buckets_are_few() {
        let from: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (seconds, expected) in [
            (1, 60),
            (3_600, 60),
            (86_400, 300),
            (7 * 86_400, 3_600),
            (90 * 86_400, 43_200),
            (298 * 86_400, 86_400),
            (18_250 * 86_400, 62 * 86_400),
        ] {
            let to = from + SignedDuration::from_secs(seconds);
            let bucket_s = TimeRange { from, to }.bucket_s();
            assert_eq!(bucket_s, expected, "{seconds}");
            assert!(seconds / bucket_s + 2 <= BUCKETS_MAX, "{seconds}");
        }
    }
}
