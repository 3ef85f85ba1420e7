//! `weir tail`: requests as they are stored.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde_json::{Map, Value};
use tokio::signal::ctrl_c;
use weir_console::{LiveTail, StoreReach, TailState, request_condition};
use weir_store::StoreUser;

use crate::cli::{Cli, TailArgs};
use crate::context::{runtime, settings};
use crate::output;
use crate::table::{cell, padded, terminal_width};

/// How often it is said that not all requests are shown.
const SAMPLING_TOLD_EVERY: Duration = Duration::from_secs(10);

/// Watches until the reader or the person has seen enough.
pub(crate) fn run(cli: &Cli, args: &TailArgs) -> anyhow::Result<()> {
    let condition = request_condition(filters(args)).map_err(|error| anyhow!(error))?;
    let store = settings(cli)?
        .store
        .connect(&cli.data_dir, StoreUser::Operator)?;
    let mut tail = LiveTail::new(store, &condition, args.newest);
    let mut teller = Teller::default();
    let mut paper = match (args.json, terminal_width()) {
        (true, _) => Paper::Json,
        (false, Some(width)) => Paper::Terminal(Layout::new(width)),
        (false, None) => Paper::Pipe,
    };
    runtime()?.block_on(async {
        paper.begin()?;
        loop {
            tokio::select! {
                interrupted = ctrl_c() => return interrupted.context("listen for Ctrl-C"),
                news = tail.next() => {
                    for request in &news.requests {
                        paper.print(request)?;
                    }
                    teller.tell(&news.state);
                }
            }
        }
    })
}

fn filters(args: &TailArgs) -> impl Iterator<Item = (&str, &str)> {
    let named = [
        ("organisation", &args.organisation),
        ("team", &args.team),
        ("project", &args.project),
        ("user", &args.user),
        ("key", &args.key),
        ("environment", &args.environment),
        ("tier", &args.tier),
        ("feature", &args.feature),
        ("customer", &args.customer),
        ("alias", &args.alias),
        ("model", &args.model),
        ("provider", &args.provider),
        ("deployment", &args.deployment),
        ("status", &args.status),
        ("error_kind", &args.error_kind),
    ];
    named
        .into_iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name, value.as_str())))
}

/// Says on stderr what the lines do not.
#[derive(Debug, Default)]
struct Teller {
    is_away: bool,
    sampling_told: Option<Instant>,
}

impl Teller {
    fn tell(&mut self, state: &TailState) {
        let is_away = state.store == StoreReach::Away;
        if is_away && !self.is_away {
            let reason = state.reason.as_deref().unwrap_or_default();
            output::note(format_args!("the store is away ({reason}); waiting for it"));
        }
        if self.is_away && !is_away {
            output::note("the store is back");
        }
        self.is_away = is_away;
        let told = self.sampling_told.map(|at| at.elapsed());
        if state.sampled_one_in > 1 && told.is_none_or(|ago| ago >= SAMPLING_TOLD_EVERY) {
            self.sampling_told = Some(Instant::now());
            output::note(format_args!(
                "{} requests in {:.1} s: one in {} is shown",
                state.arrived,
                Duration::from_millis(state.over_ms).as_secs_f64(),
                state.sampled_one_in
            ));
        }
    }
}

/// What is printed on.
#[derive(Debug)]
enum Paper {
    Json,
    /// Cells between tabs.
    Pipe,
    Terminal(Layout),
}

impl Paper {
    fn begin(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Json => Ok(()),
            Self::Pipe => Ok(writeln!(output::stdout(), "{}", HEADER.join("\t"))?),
            Self::Terminal(layout) => {
                let header = HEADER.map(str::to_owned);
                Ok(writeln!(
                    output::stdout(),
                    "{}",
                    layout.line(&header, None)
                )?)
            }
        }
    }

    fn print(&mut self, request: &Map<String, Value>) -> anyhow::Result<()> {
        match self {
            Self::Json => output::print(request),
            Self::Pipe => Ok(writeln!(output::stdout(), "{}", cells(request).join("\t"))?),
            // Cells hold no control characters, so that these are ours.
            Self::Terminal(layout) => {
                let line = layout.line(&cells(request), colour(request));
                Ok(writeln!(io::stdout(), "{line}")?)
            }
        }
    }
}

const HEADER: [&str; 9] = [
    "time",
    "status",
    "team/user",
    "alias → deployment",
    "first",
    "total",
    "tokens",
    "cost",
    "tries",
];

fn text<'a>(request: &'a Map<String, Value>, name: &str) -> &'a str {
    request
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn number(request: &Map<String, Value>, name: &str) -> Option<u64> {
    request.get(name).and_then(Value::as_u64)
}

fn cells(request: &Map<String, Value>) -> [String; 9] {
    let of = |name| text(request, name);
    let ms = |name| {
        request
            .get(name)
            .and_then(Value::as_f64)
            .map(duration)
            .unwrap_or_default()
    };
    let tokens = match (
        number(request, "input_tokens"),
        number(request, "output_tokens"),
    ) {
        (None, None) => String::new(),
        (input, output) => format!("{}+{}", input.unwrap_or(0), output.unwrap_or(0)),
    };
    let status = number(request, "status").unwrap_or(0);
    let who = match (of("team"), of("user")) {
        (team, "") => team.to_owned(),
        (team, user) => format!("{team}/{user}"),
    };
    let route = match of("deployment") {
        "" => of("alias").to_owned(),
        deployment => format!("{} → {deployment}", of("alias")),
    };
    [
        of("ts").get(11..19).unwrap_or_default().to_owned(),
        format!("{status} {}", of("error_kind"))
            .trim_end()
            .to_owned(),
        who,
        route,
        ms("ttft_ms"),
        ms("total_ms"),
        tokens,
        cost(of("cost_usd")),
        number(request, "attempts").unwrap_or(0).to_string(),
    ]
    .map(|text| cell(&text))
}

fn duration(ms: f64) -> String {
    match ms {
        ms if ms < 10_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    }
}

/// Six digits behind the point, and fewer for what is not small.
fn cost(usd: &str) -> String {
    let Some((whole, part)) = usd.split_once('.') else {
        return if usd.is_empty() {
            String::new()
        } else {
            format!("${usd}")
        };
    };
    let digits = if whole == "0" { 6 } else { 2 };
    format!("${whole}.{}", part.get(..digits).unwrap_or(part))
}

/// Of the status: red for what failed, yellow for what was refused.
fn colour(request: &Map<String, Value>) -> Option<&'static str> {
    match (number(request, "status"), text(request, "error_kind")) {
        (_, "") => None,
        (Some(400..=499), _) => Some("33"),
        _ => Some("31"),
    }
}

/// Widths of the cells; 0 leaves one out.
#[derive(Debug)]
struct Layout {
    widths: [usize; 9],
    is_coloured: bool,
}

/// What each needs, in the order of the header.
const WIDTHS: [usize; 9] = [8, 18, 12, 16, 7, 7, 12, 10, 5];
/// What a narrow terminal lacks, in this order: tries, tokens, the kind of an error, first token, route, cost,
/// total.
const NARROWER: [(usize, usize); 7] = [(8, 0), (6, 0), (STATUS, 6), (4, 0), (3, 0), (7, 0), (5, 0)];
/// Who, and the route: they share what is left.
const WHO: usize = 2;
const ROUTE: usize = 3;
const STATUS: usize = 1;
const NUMBERS_FROM: usize = 4;

impl Layout {
    fn new(width: usize) -> Self {
        let mut widths = WIDTHS;
        let needed = |widths: &[usize; 9]| -> usize {
            widths
                .iter()
                .filter(|width| **width > 0)
                .map(|width| width + 2)
                .sum::<usize>()
                - 2
        };
        for (at, less) in NARROWER {
            if needed(&widths) > width {
                widths[at] = less;
            }
        }
        let spare = width.saturating_sub(needed(&widths));
        if widths[ROUTE] > 0 {
            widths[WHO] += spare / 3;
            widths[ROUTE] += spare - spare / 3;
        } else {
            widths[WHO] += spare;
        }
        Self {
            widths,
            is_coloured: std::env::var_os("NO_COLOR").is_none(),
        }
    }

    fn line(&self, cells: &[String; 9], colour: Option<&str>) -> String {
        let mut shown = Vec::with_capacity(cells.len());
        for (at, (cell, width)) in cells.iter().zip(self.widths).enumerate() {
            if width == 0 {
                continue;
            }
            let cell = match (at, cell.split_once(' ')) {
                (STATUS, Some((status, _))) if width < WIDTHS[STATUS] => status,
                _ => cell,
            };
            let padded = padded(cell, width, at >= NUMBERS_FROM);
            shown.push(match colour {
                Some(colour) if at == STATUS && self.is_coloured => {
                    format!("\u{1b}[{colour}m{padded}\u{1b}[0m")
                }
                _ => padded,
            });
        }
        shown.join("  ").trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use unicode_width::UnicodeWidthStr as _;

    use super::*;

    fn request() -> Map<String, Value> {
        let request = json!({
            "ts": "2026-12-01T03:34:15.123456Z", "status": 429, "error_kind": "rate_limited",
            "team": "growth", "user": "an\u{1b}a", "alias": "fast-chat", "deployment": "mock/small",
            "ttft_ms": null, "total_ms": 12_345.6, "input_tokens": 120, "output_tokens": null,
            "cost_usd": "0.001234560000", "attempts": 2,
        });
        serde_json::from_value(request).unwrap()
    }

    #[test]
    fn a_request_is_one_line_that_fits() {
        let cells = cells(&request());
        assert_eq!(
            cells,
            [
                "03:34:15",
                "429 rate_limited",
                "growth/an␛a",
                "fast-chat → mock/small",
                "",
                "12.3 s",
                "120+0",
                "$0.001234",
                "2"
            ]
        );
        for width in 20..300 {
            let layout = Layout {
                is_coloured: false,
                ..Layout::new(width)
            };
            for cells in [&cells, &HEADER.map(str::to_owned)] {
                let line = layout.line(cells, None);
                assert!(line.width() <= width.max(30), "{width}: {line}");
            }
        }
    }

    #[test]
    fn what_failed_is_coloured() {
        let layout = Layout {
            is_coloured: true,
            ..Layout::new(100)
        };
        let line = layout.line(&cells(&request()), colour(&request()));
        assert!(line.contains("\u{1b}[33m429 rate_limited"), "{line}");
    }

    #[test]
    fn money_is_short() {
        for (usd, expected) in [
            ("0.001234560000", "$0.001234"),
            ("12.345", "$12.34"),
            ("", ""),
            ("3", "$3"),
        ] {
            assert_eq!(cost(usd), expected);
        }
    }
}
