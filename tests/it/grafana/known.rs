//! What each panel must say of the rows: worked out from the calls, one by one, without SQL.

use std::collections::BTreeMap;

use weir_tests::many_calls::{Call, ManyCalls};

/// A figure of a statement's answer, and what it is.
pub(super) struct Known {
    pub(super) figure: &'static str,
    pub(super) is: f64,
    /// How far off it may be, as a share: quantiles are estimates.
    pub(super) within: f64,
}

const HOUR_S: u64 = 3600;
/// Seconds from the last one of the range to the end of its month.
const LEFT_S: f64 = 26.0 * 86_400.0 + 1.0;

/// Figures of calls.
struct Figures {
    calls: ManyCalls,
    all: Vec<Call>,
}

impl Figures {
    fn count(&self, is_it: impl Fn(&Call) -> bool) -> f64 {
        self.all.iter().filter(|call| is_it(call)).count() as f64
    }

    fn sum(&self, of: impl Fn(&Call) -> u64) -> f64 {
        self.all.iter().map(of).sum::<u64>() as f64
    }

    /// The most that a group has, in all days together.
    fn most<K: Ord>(&self, group: impl Fn(&Call) -> K, of: impl Fn(&Call) -> u64) -> f64 {
        let mut sums = BTreeMap::new();
        for call in &self.all {
            *sums.entry(group(call)).or_insert(0) += of(call);
        }
        sums.into_values().max().unwrap_or_default() as f64
    }

    /// Mean over buckets of what a function says of each bucket's calls.
    fn mean_of_buckets<K: Ord>(
        &self,
        bucket_s: u64,
        group: impl Fn(&Call) -> Option<K>,
        of: impl Fn(&[Call]) -> f64,
    ) -> f64 {
        let step_s = 86_400 / self.calls.per_day;
        let mut buckets: BTreeMap<_, Vec<Call>> = BTreeMap::new();
        for (number, call) in (0..).zip(&self.all) {
            let at_s = self.calls.begin_s() + number * step_s;
            if let Some(key) = group(call) {
                buckets
                    .entry((at_s / bucket_s, key))
                    .or_default()
                    .push(*call);
            }
        }
        let each: Vec<f64> = buckets.values().map(|calls| of(calls)).collect();
        each.iter().sum::<f64>() / each.len() as f64
    }

    /// Calls of the last seconds of the range.
    fn last(&self, seconds: u64) -> impl Iterator<Item = &Call> {
        let some = usize::try_from(seconds * self.calls.per_day / 86_400).unwrap();
        self.all[self.all.len() - some..].iter()
    }
}

/// A percentile of some numbers, between the two nearest.
fn percentile(numbers: impl Iterator<Item = u64>, percent: usize) -> f64 {
    let mut sorted: Vec<u64> = numbers.collect();
    sorted.sort_unstable();
    let at = percent * (sorted.len() - 1);
    let (low, high) = (sorted[at / 100] as f64, sorted[at.div_ceil(100)] as f64);
    low + (high - low) * (at % 100) as f64 / 100.0
}

fn share(calls: &[Call], is_it: impl Fn(&Call) -> bool) -> f64 {
    calls.iter().filter(|call| is_it(call)).count() as f64 / calls.len() as f64
}

fn is_error(call: &Call) -> bool {
    !call.is_delivered()
}

/// 0.0001 USD.
fn usd(units: f64) -> f64 {
    units / 10_000.0
}

type Entry = (&'static str, &'static str, f64);

pub(super) fn known(calls: ManyCalls) -> BTreeMap<&'static str, Known> {
    let figures = Figures {
        calls,
        all: calls.calls().collect(),
    };
    let exact = [
        spend(&figures),
        usage(&figures),
        latency(&figures),
        retries(&figures),
        routing(&figures),
        audit(&figures),
        pipeline(&figures),
        rest(&figures),
        alerts(&figures),
    ];
    let exact = exact.into_iter().flatten().map(|(name, figure, is)| {
        (
            name,
            Known {
                figure,
                is,
                within: 1e-9,
            },
        )
    });
    let estimates = quantiles(&figures).into_iter().map(|(name, figure, is)| {
        (
            name,
            Known {
                figure,
                is,
                within: 0.04,
            },
        )
    });
    exact.chain(estimates).collect()
}

fn spend(of: &Figures) -> Vec<Entry> {
    let cost = usd(of.sum(|call| call.cost()));
    let per_day = usd(of.sum(|call| call.cost() + call.waste())) / of.calls.days as f64;
    let team = usd(of.sum(|call| {
        if call.team() == 1 {
            call.cost() + call.waste()
        } else {
            0
        }
    })) / of.calls.days as f64;
    let group = |call: &Call| {
        (
            call.team(),
            call.user() % 120,
            call.n % 30,
            call.is_delivered().then(|| call.model()),
        )
    };
    vec![
        ("spend: Money", "sum(cost_usd)", cost),
        (
            "spend: This month",
            "sum(forecast_usd)",
            4.0 * per_day + per_day * LEFT_S / 86_400.0,
        ),
        ("spend: Spend by team", "sum(cost_usd)", cost),
        (
            "spend: Spend by model",
            "sumIf(cost_usd, model = 'model-3')",
            usd(of.sum(|call| if call.model() == 3 { call.cost() } else { 0 })),
        ),
        (
            "spend: Who spends on what",
            "max(cost_usd)",
            usd(of.most(group, |call| call.cost())),
        ),
        (
            "spend: Budgets: spent, left, forecast",
            "sum(spent_usd) + sum(left_usd) / 10",
            4.0 * team + (1.0 - 4.0 * team) / 10.0,
        ),
        (
            "spend: Budget thresholds reached",
            "sum(reached_percent)",
            80.0,
        ),
        (
            "spend: Money wasted on failed attempts",
            "sum(wasted_usd)",
            usd(of.sum(|call| call.waste())),
        ),
        ("spend: Prompt cache beside cost", "sum(cost_usd)", cost),
        (
            "spend: What the prompt cache saves",
            "sum(requests_cached)",
            of.count(|call| call.is_cached() && !call.is_unpriced()),
        ),
        (
            "spend: Calls without a price",
            "sum(requests)",
            of.count(|call| call.is_unpriced()),
        ),
        (
            "spend: Price versions",
            "sum(requests)",
            of.count(|call| call.is_delivered()),
        ),
        (
            "spend: Customers",
            "sum(requests)",
            of.count(|call| call.n % 3 == 0),
        ),
        ("spend: Most expensive calls", "max(cost_usd)", 0.009),
    ]
}

fn usage(of: &Figures) -> Vec<Entry> {
    vec![
        (
            "usage: In this range",
            "sum(input_tokens)",
            of.sum(|call| call.input_tokens()),
        ),
        (
            "usage: Requests by alias",
            "sumIf(requests, alias = 'alias-3')",
            of.count(|call| call.n % 8 == 3),
        ),
        (
            "usage: Tokens by kind",
            "sum(reasoning)",
            50.0 * of.count(|call| call.is_delivered() && call.n % 2 == 0),
        ),
        (
            "usage: Where token counts come from",
            "sumIf(requests, usage_source = 'estimated')",
            of.count(|call| call.is_delivered() && call.n % 10 >= 8),
        ),
        (
            "usage: Asked for and answered by",
            "sumIf(requests, model = 'model-5')",
            of.count(|call| call.is_delivered() && call.model() == 5),
        ),
        (
            "usage: Users",
            "max(requests)",
            of.most(|call| call.user(), |_| 1),
        ),
        (
            "usage: Teams and features",
            "max(requests)",
            of.most(
                |call| (call.team(), call.n % 30, (call.n % 10).max(7)),
                |_| 1,
            ),
        ),
        (
            "usage: Why models stopped",
            "sum(requests)",
            of.count(|call| call.is_delivered()),
        ),
        (
            "usage: APIs and clients",
            "sumIf(requests, user_agent = 'openai-python/1')",
            of.count(|call| call.n % 6 == 1),
        ),
    ]
}

fn latency(of: &Figures) -> Vec<Entry> {
    let first_token = |from: u64, to: u64| {
        of.count(|call| call.ttft_us().is_some_and(|us| us > from && us <= to))
    };
    vec![
        (
            "latency: Now",
            "sum(error_percent)",
            100.0 * of.count(is_error) / of.all.len() as f64,
        ),
        (
            "latency: First token, spread",
            "sum(`200 ms`)",
            first_token(100_000, 200_000),
        ),
        (
            "latency: Total time, spread",
            "sum(`2 s`)",
            of.count(|call| call.total_us() > 1_000_000 && call.total_us() <= 2_000_000),
        ),
        (
            "latency: Error budget burn",
            "avg(burn)",
            of.mean_of_buckets(1800, |_| Some(()), |calls| share(calls, is_error) / 0.01),
        ),
        (
            "latency: Errors by kind",
            "sumIf(requests, error_kind = 'server_error')",
            of.count(|call| call.is_failed()),
        ),
        (
            "latency: Providers' errors",
            "sumIf(attempts, error_kind = 'timeout')",
            of.count(|call| call.is_retried()),
        ),
        (
            "latency: Models",
            "sum(requests)",
            of.count(|call| call.is_delivered()),
        ),
        ("latency: Slowest calls", "max(all_ms)", 3990.0),
    ]
}

fn quantiles(of: &Figures) -> Vec<Entry> {
    let first_token =
        |calls: &[Call]| percentile(calls.iter().filter_map(|call| call.ttft_us()), 95) / 1000.0;
    let total = |calls: &[Call]| percentile(calls.iter().map(|call| call.total_us()), 95) / 1000.0;
    let work = |calls: &[Call]| percentile(calls.iter().map(|call| 60 + call.n % 100), 50) / 1000.0;
    vec![
        (
            "latency: First token by provider, 95th percentile",
            "avg(first_token_p95_ms)",
            of.mean_of_buckets(
                1800,
                |call| call.is_delivered().then_some(call.n % 4),
                first_token,
            ),
        ),
        (
            "latency: Total time by alias, 95th percentile",
            "avg(total_p95_ms)",
            of.mean_of_buckets(1800, |call| Some(call.n % 8), total),
        ),
        (
            "latency: The gateway's own time",
            "avg(work_p50)",
            of.mean_of_buckets(1800, |_| Some(()), work),
        ),
    ]
}

fn retries(of: &Figures) -> Vec<Entry> {
    let retried = of.count(|call| call.is_retried());
    vec![
        ("retries: Saved", "sum(answered_after_retry)", retried),
        (
            "retries: Attempts by kind",
            "sumIf(attempts, kind = 'fallback')",
            retried,
        ),
        ("retries: Why it was tried again", "sum(attempts)", retried),
        (
            "retries: Where it went next",
            "sum(delivered_attempts)",
            retried,
        ),
        (
            "retries: Waste by deployment",
            "sum(cost_usd)",
            usd(of.sum(|call| call.waste())),
        ),
        (
            "retries: Requests by number of attempts",
            "sumIf(requests, attempts = 2)",
            retried,
        ),
        ("retries: Deployments out of service", "count()", 2.0),
        (
            "retries: Calls that needed most attempts",
            "max(attempts)",
            2.0,
        ),
    ]
}

fn routing(of: &Figures) -> Vec<Entry> {
    let first_at = |call: &Call| (call.n + u64::from(call.is_retried())) % 12;
    let had_a_choice = |call: &Call| (call.is_delivered() && !call.is_retried()).then_some(());
    vec![
        (
            "routing: Share of first attempts",
            "sum(attempts)",
            of.count(|call| !call.is_refused()),
        ),
        (
            "routing: Share against intention",
            "sumIf(first_attempts, alias = 'alias-1' AND deployment = 'provider-1/model-1')",
            of.count(|call| !call.is_refused() && call.n % 8 == 1 && first_at(call) == 1),
        ),
        (
            "routing: Explored share",
            "avg(explored)",
            of.mean_of_buckets(1800, had_a_choice, |calls| {
                100.0 * share(calls, |call| call.is_explored())
            }),
        ),
        (
            "routing: Table version",
            "max(newest)",
            1000.0 + of.calls.days as f64 - 1.0,
        ),
        ("routing: Newest table", "sum(weight) + max(version)", 4.0),
        ("routing: Tables adopted", "count()", 2.0),
        ("routing: Operators' commands", "count()", 1.0),
        ("routing: Strategies", "sum(requests)", of.all.len() as f64),
    ]
}

fn audit(of: &Figures) -> Vec<Entry> {
    vec![
        (
            "audit: Who called what",
            "max(requests)",
            of.most(|call| (call.user(), call.n % 8, call.model()), |_| 1),
        ),
        ("audit: Keys from new addresses", "sum(requests)", 1.0),
        (
            "audit: Keys in use",
            "max(requests)",
            of.most(|call| call.user() % 2000, |_| 1),
        ),
        ("audit: Who changed what", "count()", 5.0),
        (
            "audit: Refused",
            "sum(requests)",
            of.count(|call| call.is_refused()),
        ),
        ("audit: Calls without a valid key", "sum(refused)", 12.0),
        ("audit: Prompts and answers kept", "sum(payloads)", 1.0),
        ("audit: Last calls", "count()", 100.0),
    ]
}

fn pipeline(of: &Figures) -> Vec<Entry> {
    let step_s = 86_400.0 / of.calls.per_day as f64;
    vec![
        ("pipeline: Newest row", "sum(before_end_s)", step_s - 1.0),
        (
            "pipeline: Sealed up to",
            "sum(not_under_a_checkpoint)",
            (119.0 / step_s).floor(),
        ),
        (
            "pipeline: Lost and given up",
            "sum(missing + dead_letters + dropped)",
            10.0,
        ),
        (
            "pipeline: Ingest rate",
            "sumIf(rows_per_second, kind = 'requests')",
            of.all.len() as f64 / 1800.0,
        ),
        ("pipeline: Gaps in the log", "sum(missing)", 2.0),
        ("pipeline: Dead letters", "sum(records)", 3.0),
        ("pipeline: Checkpoints", "count()", 1.0),
        ("pipeline: Gateways and their streams", "sum(dropped)", 5.0),
    ]
}

/// One request, variables, annotations.
fn rest(of: &Figures) -> Vec<Entry> {
    let users = of
        .calls
        .calls_of_a_day()
        .map(|call| call.user())
        .collect::<std::collections::BTreeSet<_>>();
    vec![
        ("request: Request", "sum(cost_usd)", 0.004),
        ("request: Attempts", "count()", 2.0),
        ("request: Tokens and money", "sum(input_tokens)", 1003.0),
        ("request: Candidates", "sum(probability_percent)", 100.0),
        ("variable: organisation", "count()", 2.0),
        ("variable: team", "count()", 40.0),
        ("variable: project", "count()", 120.0),
        ("variable: environment", "count()", 3.0),
        ("variable: model", "count()", 13.0),
        (
            "variable: provider",
            "countIf(value = '(none)') + count()",
            6.0,
        ),
        ("variable: alias", "count()", 8.0),
        ("variable: user", "count()", users.len().min(1000) as f64),
        ("annotation: Routing tables", "count()", 2.0),
        ("annotation: Price changes", "count()", 1.0),
        ("annotation: Budgets", "count()", 4.0),
    ]
}

fn alerts(of: &Figures) -> Vec<Entry> {
    let burn = |long_s: u64, short_s: u64| {
        let ratio = |calls: Vec<Call>| share(&calls, is_error);
        let (long, short) = (
            of.last(long_s).copied().collect(),
            of.last(short_s).copied().collect(),
        );
        ratio(long).min(ratio(short)) / 0.01
    };
    let of_provider: Vec<Call> = of
        .last(HOUR_S)
        .filter(|call| call.is_delivered() && call.n % 4 == 3)
        .copied()
        .collect();
    let step_s = 86_400.0 / of.calls.per_day as f64;
    vec![
        ("alert: A budget is nearly spent", "max(percent)", 80.0),
        (
            "alert: Spend will pass twice last month's",
            "max(percent)",
            100.0 * (4.0 + LEFT_S / 86_400.0) / 4.0,
        ),
        (
            "alert: Errors burn the error budget fast",
            "max(burn)",
            burn(HOUR_S, 300),
        ),
        (
            "alert: Errors burn the error budget",
            "max(burn)",
            burn(6 * HOUR_S, 1800),
        ),
        (
            "alert: Nothing new is stored",
            "max(behind_s)",
            step_s - 1.0,
        ),
        (
            "alert: Events are missing from the log",
            "sum(events)",
            10.0,
        ),
        (
            "alert: Calls have no price",
            "maxIf(percent, provider = 'provider-3')",
            100.0 * share(&of_provider, |call| call.is_unpriced()),
        ),
        (
            "alert: What is stored is not sealed",
            "max(unsealed_s)",
            120.0 - step_s,
        ),
    ]
}
