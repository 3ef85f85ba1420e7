//! What becomes of a panel's SQL on its way to the store: first in the browser (variables, filters), then in
//! the data source's plugin (macros). Written after the rules of grafana-clickhouse-datasource 4.20.0.

use std::collections::BTreeMap;

/// What is chosen in each variable; without an entry, *All*.
pub(super) type Chosen = BTreeMap<&'static str, Vec<String>>;

/// The range of a board, and the interval that Grafana makes of it for a panel.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
    pub(super) interval_s: i64,
}

/// What the browser sends: `$__conditionalAll`, variables, `$__adHocFilters`.
pub(super) fn in_the_browser(sql: &str, chosen: &Chosen, ad_hoc: &[(&str, &str, &str)]) -> String {
    let sql = with_conditions(sql, chosen);
    let sql = with_variables(&sql, chosen);
    with_ad_hoc_filters(&sql, ad_hoc)
}

/// The last macro first; its arguments end where the brackets do, quotes or not.
fn with_conditions(sql: &str, chosen: &Chosen) -> String {
    const MACRO: &str = "$__conditionalAll(";
    let mut sql = sql.to_owned();
    while let Some(at) = sql.rfind(MACRO) {
        let begin = at + MACRO.len();
        let (arguments, end) = arguments(&sql, begin).unwrap();
        let [condition, variable] = arguments.as_slice() else {
            panic!("$__conditionalAll with {arguments:?}");
        };
        let variable = variable.trim().trim_start_matches(['$', '{']);
        let variable = variable.trim_end_matches('}');
        let values = chosen.get(variable).map(|values| values.join(","));
        let phrase = match values.as_deref() {
            None | Some("" | "$__all") => "1=1".to_owned(),
            Some(_) => condition.clone(),
        };
        sql.replace_range(at..end, &phrase);
    }
    sql
}

/// Arguments from behind the opening bracket on, and where the text goes on behind the closing one.
fn arguments(sql: &str, begin: usize) -> Option<(Vec<String>, usize)> {
    let (mut depth, mut last, mut found) = (1, begin, Vec::new());
    for (at, sign) in sql[begin..]
        .char_indices()
        .map(|(at, sign)| (begin + at, sign))
    {
        match sign {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (sign == ',' && depth == 1) {
            found.push(sql[last..at].to_owned());
            last = at + 1;
        }
        if depth == 0 {
            return Some((found, at + 1));
        }
    }
    None
}

/// `${name:queryparam}` and `${name:percentencode}`, the formats that the boards use.
fn with_variables(sql: &str, chosen: &Chosen) -> String {
    let mut out = String::new();
    let mut rest = sql;
    while let Some(at) = rest.find("${") {
        let end = at + rest[at..].find('}').unwrap();
        let (name, format) = rest[at + 2..end].split_once(':').unwrap();
        let values = chosen.get(name).map_or(&[][..], Vec::as_slice);
        out.push_str(&rest[..at]);
        out.push_str(&match format {
            "queryparam" => {
                let pairs = values
                    .iter()
                    .map(|value| format!("var-{name}={}", encoded(value)));
                pairs.collect::<Vec<_>>().join("&")
            }
            "percentencode" => encoded(&values.join(",")),
            other => panic!("{other} is a format that the boards do not use"),
        });
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

/// As Grafana writes values into URLs (`urlUtil.toUrlParams` of @grafana/data 13.2.3).
fn encoded(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~@:$,;".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `$__adHocFilters('table', ...)` within SETTINGS.
fn with_ad_hoc_filters(sql: &str, filters: &[(&str, &str, &str)]) -> String {
    const MACRO: &str = "$__adHocFilters(";
    let Some(at) = sql.find(MACRO) else {
        return sql.to_owned();
    };
    let (tables, end) = arguments(sql, at + MACRO.len()).unwrap();
    let last = filters.len().saturating_sub(1);
    let conditions: String = filters
        .iter()
        .enumerate()
        .map(|(number, (key, operator, value))| {
            // The table's name goes; `=~` is the only operator that has another name.
            let key = key.split_once('.').map_or(*key, |(_, column)| column);
            let operator = match *operator {
                "=~" => "REGEXP",
                "!~" => "NOT REGEXP",
                other => other,
            };
            let and = if number == last { "" } else { "AND" };
            format!(" {key} {operator} \\'{value}\\' {and}")
        })
        .collect();
    let tables = tables.iter().map(|table| table.trim().trim_matches('\''));
    let entries = tables
        .filter(|_| !filters.is_empty())
        .map(|table| format!("'{table}': '{conditions}'"));
    let entries = entries.collect::<Vec<_>>().join(", ");
    format!(
        "{}additional_table_filters={{{entries}}}{}",
        &sql[..at],
        &sql[end..]
    )
}

/// What the plugin sends to the store: comments gone, macros expanded, inner ones first, unknown ones left.
pub(super) fn in_the_plugin(sql: &str, range: Range) -> Result<String, String> {
    expanded(&without_comments(sql), range)
}

fn expanded(sql: &str, range: Range) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = sql;
    while let Some(at) = rest.find("$__") {
        let name_end = rest[at + 3..].find(|sign: char| !sign.is_alphanumeric() && sign != '_');
        let name_end = name_end.map_or(rest.len(), |end| at + 3 + end);
        let name = &rest[at + 3..name_end];
        let called = rest[name_end..]
            .starts_with('(')
            .then(|| arguments(rest, name_end + 1))
            .flatten();
        let (given, end) = called.unwrap_or_else(|| (Vec::new(), name_end));
        let mut args = Vec::new();
        for argument in given
            .iter()
            .map(|text| text.trim())
            .filter(|text| !text.is_empty())
        {
            args.push(expanded(argument, range)?);
        }
        out.push_str(&rest[..at]);
        match meaning(name, &args, range)? {
            // What takes no argument leaves the brackets behind it to the statement.
            Some((text, true)) => {
                out.push_str(&text);
                rest = &rest[end..];
            }
            Some((text, false)) => {
                out.push_str(&text);
                rest = &rest[name_end..];
            }
            None => {
                out.push_str("$__");
                rest = &rest[at + 3..];
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// What a macro says, and whether it takes arguments.
fn meaning(name: &str, args: &[String], range: Range) -> Result<Option<(String, bool)>, String> {
    let Range {
        from_ms,
        to_ms,
        interval_s,
    } = range;
    let (from_s, to_s) = (from_ms.div_euclid(1000), to_ms.div_euclid(1000));
    let date = |ms: i64| {
        let time = jiff::Timestamp::from_millisecond(ms).unwrap();
        format!("toDate('{}')", time.strftime("%Y-%m-%d"))
    };
    let between =
        |column: &str, from: &str, to: &str| format!("{column} >= {from} AND {column} <= {to}");
    let (second, milli) = (
        |s: i64| format!("toDateTime({s})"),
        |ms: i64| format!("fromUnixTimestamp64Milli({ms})"),
    );
    let one = || match args {
        [one] => Ok(one.as_str()),
        _ => Err(format!("$__{name} takes 1 argument, not {}", args.len())),
    };
    let seconds = interval_s.max(1);
    let text = match name {
        "fromTime" => return Ok(Some((second(from_s), false))),
        "toTime" => return Ok(Some((second(to_s), false))),
        "fromTime_ms" => return Ok(Some((milli(from_ms), false))),
        "toTime_ms" => return Ok(Some((milli(to_ms), false))),
        "interval_s" => return Ok(Some((seconds.to_string(), false))),
        "timeFilter" => between(one()?, &second(from_s), &second(to_s)),
        "timeFilter_ms" => between(one()?, &milli(from_ms), &milli(to_ms)),
        "dateFilter" => between(one()?, &date(from_ms), &date(to_ms)),
        "dateTimeFilter" | "dt" => {
            let [day, time] = args else {
                return Err(format!("$__{name} takes 2 arguments, not {}", args.len()));
            };
            format!(
                "({}) AND ({})",
                between(day, &date(from_ms), &date(to_ms)),
                between(time, &second(from_s), &second(to_s))
            )
        }
        "timeFrom" => format!("{} >= {}", one()?, second(from_s)),
        "timeTo" => format!("{} <= {}", one()?, second(to_s)),
        "timeInterval" => format!(
            "toStartOfInterval(toDateTime({}), INTERVAL {seconds} second)",
            one()?
        ),
        "timeInterval_ms" => format!(
            "toStartOfInterval(toDateTime64({}, 3), INTERVAL {} millisecond)",
            one()?,
            (interval_s * 1000).max(1)
        ),
        _ => return Ok(None),
    };
    Ok(Some((text, true)))
}

/// Comments go, strings and quoted names stay as they are.
fn without_comments(sql: &str) -> String {
    let mut out = String::new();
    let mut rest = sql;
    while let Some(sign) = rest.chars().next() {
        let length = match sign {
            '\'' | '`' => quoted(rest, sign),
            _ if rest.starts_with("--") => {
                rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
                continue;
            }
            _ if rest.starts_with("/*") => {
                rest = &rest[rest.find("*/").map_or(rest.len(), |end| end + 2)..];
                continue;
            }
            _ => sign.len_utf8(),
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out
}

/// Length of the quoted text at the beginning; a backslash escapes.
fn quoted(text: &str, mark: char) -> usize {
    let mut is_escaped = false;
    for (at, sign) in text.char_indices().skip(1) {
        if is_escaped {
            is_escaped = false;
        } else if sign == '\\' {
            is_escaped = true;
        } else if sign == mark {
            return at + sign.len_utf8();
        }
    }
    text.len()
}

const NOVEMBER: Range = Range {
    from_ms: 1_415_792_726_371,
    to_ms: 1_447_328_726_456,
    interval_s: 20,
};

#[test]
fn macros_are_expanded_as_the_plugin_does() {
    let cases = [
        (
            "a >= $__fromTime AND a <= $__toTime",
            "a >= toDateTime(1415792726) AND a <= toDateTime(1447328726)",
        ),
        (
            "($__fromTime_ms)",
            "(fromUnixTimestamp64Milli(1415792726371))",
        ),
        (
            "WHERE $__timeFilter(x)",
            "WHERE x >= toDateTime(1415792726) AND x <= toDateTime(1447328726)",
        ),
        (
            "$__timeFilter_ms(cast(x AS y) )",
            "cast(x AS y) >= fromUnixTimestamp64Milli(1415792726371) AND cast(x AS y) <= fromUnixTimestamp64Milli(1447328726456)",
        ),
        (
            "$__dateFilter(d)",
            "d >= toDate('2014-11-12') AND d <= toDate('2015-11-12')",
        ),
        (
            "$__dt(d, t)",
            "(d >= toDate('2014-11-12') AND d <= toDate('2015-11-12')) AND (t >= toDateTime(1415792726) AND t <= toDateTime(1447328726))",
        ),
        (
            "$__timeFrom(x), $__timeTo(x)",
            "x >= toDateTime(1415792726), x <= toDateTime(1447328726)",
        ),
        (
            "$__timeInterval(x)",
            "toStartOfInterval(toDateTime(x), INTERVAL 20 second)",
        ),
        (
            "$__timeInterval_ms(x)",
            "toStartOfInterval(toDateTime64(x, 3), INTERVAL 20000 millisecond)",
        ),
        ("count() / $__interval_s", "count() / 20"),
        (
            "$__timeInterval(least(a, $__toTime))",
            "toStartOfInterval(toDateTime(least(a, toDateTime(1447328726))), INTERVAL 20 second)",
        ),
        (
            "'it\\'s -- text', $__fromTime -- $__toTime\n+ 1 /* $__toTime */",
            "'it\\'s -- text', toDateTime(1415792726) \n+ 1 ",
        ),
        (
            "$__conditionalAll(a, $b) $__nothing(c)",
            "$__conditionalAll(a, $b) $__nothing(c)",
        ),
    ];
    for (given, expected) in cases {
        assert_eq!(in_the_plugin(given, NOVEMBER).unwrap(), expected);
    }
    for wrong in ["$__timeFilter()", "$__dt(a)", "$__timeInterval(a, b)"] {
        assert!(in_the_plugin(wrong, NOVEMBER).is_err(), "{wrong}");
    }
}

#[test]
fn variables_and_filters_are_put_in_as_the_browser_does() {
    let chosen = |values: &[&str]| {
        Chosen::from([(
            "team",
            values.iter().map(|&value| value.to_owned()).collect(),
        )])
    };
    let condition =
        "a AND $__conditionalAll(team IN f(splitByChar('&', '${team:queryparam}')), $team) AND b";
    let in_sql = |chosen: &Chosen| in_the_browser(condition, chosen, &[]);
    assert_eq!(in_sql(&Chosen::new()), "a AND 1=1 AND b");
    assert_eq!(in_sql(&chosen(&["$__all"])), "a AND 1=1 AND b");
    assert_eq!(
        in_sql(&chosen(&["x", "y z"])),
        "a AND team IN f(splitByChar('&', 'var-team=x&var-team=y%20z')) AND b"
    );
    assert_eq!(
        in_sql(&chosen(&["\\' (&)"])),
        "a AND team IN f(splitByChar('&', 'var-team=%5C%27%20%28%26%29')) AND b"
    );
    let two = "$__conditionalAll(a IN (1, 2), $team) OR $__conditionalAll(b, ${user})";
    assert_eq!(
        in_the_browser(two, &chosen(&["x"]), &[]),
        "a IN (1, 2) OR 1=1"
    );
    let settings = "SETTINGS $__adHocFilters('weir.requests', 'weir.attempts')";
    let with = |filters: &[(&str, &str, &str)]| in_the_browser(settings, &Chosen::new(), filters);
    assert_eq!(with(&[]), "SETTINGS additional_table_filters={}");
    assert_eq!(
        with(&[("requests.feature", "=", "x"), ("customer", "=~", "y.*")]),
        "SETTINGS additional_table_filters={'weir.requests': ' feature = \\'x\\' AND customer REGEXP \\'y.*\\' ', \
         'weir.attempts': ' feature = \\'x\\' AND customer REGEXP \\'y.*\\' '}"
    );
}
