//! From measurements and the table in force to the table that follows it.
//!
//! Per alias and target: merge the size classes, compare with the other targets, shrink what rests
//! on few attempts, then move from the value in force by no more than the policy allows, and not at
//! all for small differences. Gateways react to a table within seconds and measurements show it
//! only a refresh later; bounded steps and a dead band keep that loop from swinging.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_schemas::table::{AliasTable, Origin, RoutingTable, TargetEntry, WeightChange, size};

use crate::{Cell, Measurements};

/// How far and how fast tables may move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TablePolicy {
    /// Age up to which a table counts in full.
    pub trusted_s: u32,
    /// Age from which a table counts for nothing.
    pub forgotten_s: u32,
    /// A target that is not measured moves this share of the way to the others per refresh, so that
    /// it gets requests again some day.
    pub unmeasured_step: f64,
    /// Attempts that a target needs in the period before its measurement counts as much as the value
    /// that it replaces; fewer count in proportion.
    pub tries_min: u64,
    /// A weight changes by at most this factor per refresh.
    pub weight_step_max: f64,
    /// A weight stays between the inverse of this and this.
    pub weight_range: f64,
    /// A weight that would change by less than this share stays.
    pub weight_hysteresis: f64,
    /// A measured latency or price changes by at most this factor per refresh.
    pub value_step_max: f64,
    /// An alias that does worse than under the table before by more than this share goes back.
    pub revert_margin: f64,
    /// Requests under each of the two tables before they are compared.
    pub revert_requests_min: u64,
    /// Refreshes for which a reverted alias keeps its weights.
    pub revert_hold_refreshes: u32,
}

impl Default for TablePolicy {
    fn default() -> Self {
        Self {
            trusted_s: 120,
            forgotten_s: 900,
            unmeasured_step: 0.2,
            tries_min: 50,
            weight_step_max: 1.5,
            weight_range: 4.0,
            weight_hysteresis: 0.1,
            value_step_max: 2.0,
            revert_margin: 0.25,
            revert_requests_min: 300,
            revert_hold_refreshes: 10,
        }
    }
}

/// Makes the table that follows `previous`. The same inputs make the same table.
#[must_use]
pub fn next_table(
    previous: &RoutingTable,
    measured: &Measurements,
    policy: &TablePolicy,
    made_at_us: u64,
) -> RoutingTable {
    let mut names: Vec<&str> = previous.aliases.iter().map(|a| a.alias.as_str()).collect();
    names.extend(measured.cells.iter().map(|cell| cell.alias.as_str()));
    names.sort_unstable();
    names.dedup();
    RoutingTable {
        version: previous.version + 1,
        publisher: String::new(),
        made_at_us,
        from_us: measured.from_us,
        to_us: measured.to_us,
        inputs: measured.inputs.clone(),
        origin: Origin::Measured,
        ages: true,
        trusted_us: u64::from(policy.trusted_s) * 1_000_000,
        forgotten_us: u64::from(policy.forgotten_s) * 1_000_000,
        aliases: names
            .into_iter()
            .map(|name| next_alias(name, previous.alias(name), measured, policy))
            .collect(),
    }
}

fn next_alias(
    name: &str,
    previous: Option<&AliasTable>,
    measured: &Measurements,
    policy: &TablePolicy,
) -> AliasTable {
    let mut sums: BTreeMap<&str, Sums> = BTreeMap::new();
    for entry in previous.into_iter().flat_map(|alias| &alias.targets) {
        sums.entry(&entry.deployment).or_default();
    }
    for cell in measured.cells.iter().filter(|cell| cell.alias == name) {
        sums.entry(&cell.deployment).or_default().add(cell);
    }
    let before = |deployment: &str| previous.and_then(|alias| alias.target(deployment));
    let mut targets: Vec<TargetEntry> = sums
        .iter()
        .map(|(deployment, sums)| measured_entry(deployment, sums, before(deployment), policy))
        .collect();
    weigh(&mut targets, &sums, before, policy);
    relax(&mut targets, &sums, policy);
    targets.iter_mut().for_each(round);
    AliasTable {
        alias: name.to_owned(),
        output_tokens_mean: output_mean(&sums)
            .map(significant)
            .or_else(|| previous.and_then(|alias| alias.output_tokens_mean)),
        targets,
    }
}

/// All size classes of one target together.
#[derive(Default)]
struct Sums {
    attempts_counted: u64,
    attempts: f64,
    failures: f64,
    timed: f64,
    ttft_us: f64,
    ttft_p95_us: f64,
    rated: f64,
    tokens_per_s: f64,
    priced_attempts: f64,
    output_tokens: f64,
    priced_tokens: f64,
    picousd: f64,
}

impl Sums {
    fn add(&mut self, cell: &Cell) {
        self.attempts_counted += cell.attempts;
        self.attempts += cell.attempts as f64;
        self.failures += cell.failures.min(cell.attempts) as f64;
        if let (Some(p50), Some(p95), true) = (cell.ttft_us_p50, cell.ttft_us_p95, cell.timed > 0) {
            let timed = cell.timed as f64;
            let at_reference = f64::from(size::factor(cell.prompt_tokens(), 0));
            self.timed += timed;
            self.ttft_us += timed * p50 / at_reference;
            self.ttft_p95_us += timed * p95 / at_reference;
        }
        if let Some(rate) = cell.output_tokens_per_s {
            self.rated += cell.attempts as f64;
            self.tokens_per_s += cell.attempts as f64 * rate;
        }
        self.priced_attempts += cell.priced_attempts as f64;
        self.output_tokens += cell.output_tokens as f64;
        self.priced_tokens += size::priced_tokens(cell.input_tokens, cell.output_tokens);
        self.picousd += cell.cost_picousd as f64 + cell.waste_picousd as f64;
    }
}

fn mean(sum: f64, weight: f64) -> Option<f64> {
    (weight > 0.0).then(|| sum / weight)
}

fn output_mean(sums: &BTreeMap<&str, Sums>) -> Option<f64> {
    let tokens = sums.values().map(|s| s.output_tokens).sum();
    mean(tokens, sums.values().map(|s| s.priced_attempts).sum())
}

fn measured_entry(
    deployment: &str,
    sums: &Sums,
    before: Option<&TargetEntry>,
    policy: &TablePolicy,
) -> TargetEntry {
    let step = |of: fn(&TargetEntry) -> Option<f64>, seen: Option<f64>, samples: f64| {
        let evidence = samples / policy.tries_min.max(1) as f64;
        step_value(before.and_then(of), seen, evidence, policy.value_step_max)
    };
    let timed = sums.timed;
    TargetEntry {
        deployment: deployment.to_owned(),
        weight: before.map_or(1.0, |b| b.weight),
        ttft_us: step(|b| b.ttft_us, mean(sums.ttft_us, timed), timed),
        ttft_p95_us: step(|b| b.ttft_p95_us, mean(sums.ttft_p95_us, timed), timed),
        error_ratio: error_ratio(sums, before.and_then(|b| b.error_ratio), policy),
        output_tokens_per_s: step(
            |b| b.output_tokens_per_s,
            mean(sums.tokens_per_s, sums.rated),
            sums.rated,
        ),
        picousd_per_token: step(
            |b| b.picousd_per_token,
            mean(sums.picousd, sums.priced_tokens),
            sums.priced_attempts,
        ),
        tries: sums.attempts_counted,
        change: WeightChange::Unmeasured,
    }
}

/// From the value in force towards the one seen: by as much of the way as the sample is worth, and
/// by no more than a factor of `step_max`.
fn step_value(before: Option<f64>, seen: Option<f64>, evidence: f64, step_max: f64) -> Option<f64> {
    let Some(seen) = seen.filter(|value| value.is_finite() && *value > 0.0) else {
        return before;
    };
    let Some(before) = before.filter(|value| *value > 0.0) else {
        return Some(seen);
    };
    let wanted = before * (seen / before).powf(evidence.clamp(0.0, 1.0));
    Some(wanted.clamp(before / step_max, before * step_max))
}

/// Failures per attempt, as if the value in force had been seen in `tries_min` attempts more: a handful of
/// attempts that all failed or all succeeded proves little.
fn error_ratio(sums: &Sums, before: Option<f64>, policy: &TablePolicy) -> Option<f64> {
    if sums.attempts <= 0.0 {
        return before.map(|ratio| ratio * (1.0 - policy.unmeasured_step));
    }
    let assumed_attempts = policy.tries_min.max(1) as f64;
    let assumed = before.unwrap_or(0.0) * assumed_attempts;
    Some(((sums.failures + assumed) / (sums.attempts + assumed_attempts)).clamp(0.0, 1.0))
}

/// Weights follow how targets compare: twice as slow is half the weight, and errors count to the
/// fourth power of success, as in a gateway's own score.
fn weigh<'a>(
    targets: &mut [TargetEntry],
    sums: &BTreeMap<&str, Sums>,
    before: impl Fn(&str) -> Option<&'a TargetEntry>,
    policy: &TablePolicy,
) {
    let quality = |entry: &TargetEntry| {
        let success = (1.0 - entry.error_ratio.unwrap_or(0.0)).max(0.05);
        entry
            .ttft_us
            .filter(|us| *us > 0.0)
            .map(|us| success.powi(4) / us)
    };
    let known: Vec<f64> = targets.iter().filter_map(quality).map(f64::ln).collect();
    if known.is_empty() {
        return;
    }
    let mean_ln = known.iter().sum::<f64>() / known.len() as f64;
    for entry in targets {
        let attempts = sums
            .get(entry.deployment.as_str())
            .map_or(0.0, |s| s.attempts);
        let evidence = (attempts / policy.tries_min.max(1) as f64).min(1.0);
        let weight_before = before(&entry.deployment).map_or(1.0, |b| b.weight);
        let relative = quality(entry).map_or(1.0, |q| (q.ln() - mean_ln).exp());
        let wanted = relative
            .powf(evidence)
            .clamp(1.0 / policy.weight_range, policy.weight_range);
        (entry.weight, entry.change) = step_weight(weight_before, wanted, evidence, policy);
    }
}

/// Published numbers are read by people and survive any JSON parser: six significant digits.
fn round(entry: &mut TargetEntry) {
    entry.weight = significant(entry.weight);
    for value in [
        &mut entry.ttft_us,
        &mut entry.ttft_p95_us,
        &mut entry.error_ratio,
        &mut entry.output_tokens_per_s,
        &mut entry.picousd_per_token,
    ] {
        *value = value.map(significant);
    }
}

fn significant(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10_f64.powi(5 - exponent(value));
    let rounded = (value * scale).round() / scale;
    if rounded.is_finite() { rounded } else { value }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "exponents of an f64 lie within 400"
)]
fn exponent(value: f64) -> i32 {
    value.abs().log10().floor() as i32
}

/// Moves the latencies of targets that were hardly used towards those of the others. A gateway
/// avoids what the table calls slow, so nothing else would ever show that it has become fast.
fn relax(targets: &mut [TargetEntry], sums: &BTreeMap<&str, Sums>, policy: &TablePolicy) {
    let lns = |of: fn(&TargetEntry) -> Option<f64>| {
        let known: Vec<f64> = targets.iter().filter_map(of).map(f64::ln).collect();
        known.iter().sum::<f64>() / known.len().max(1) as f64
    };
    let (ttft_ln, p95_ln) = (lns(|e| e.ttft_us), lns(|e| e.ttft_p95_us));
    for entry in targets {
        let timed = sums.get(entry.deployment.as_str()).map_or(0.0, |s| s.timed);
        let unknown = 1.0 - (timed / policy.tries_min.max(1) as f64).min(1.0);
        let towards = |us: f64, mean_ln: f64| {
            (us.ln() + (mean_ln - us.ln()) * unknown * policy.unmeasured_step).exp()
        };
        entry.ttft_us = entry.ttft_us.map(|us| towards(us, ttft_ln));
        entry.ttft_p95_us = entry.ttft_p95_us.map(|us| towards(us, p95_ln));
    }
}

fn step_weight(
    before: f64,
    wanted: f64,
    evidence: f64,
    policy: &TablePolicy,
) -> (f64, WeightChange) {
    let factor = wanted / before;
    if factor.ln().abs() < policy.weight_hysteresis.ln_1p() {
        return (before, WeightChange::Held);
    }
    let capped = factor.clamp(1.0 / policy.weight_step_max, policy.weight_step_max);
    let change = match (evidence < 1.0, capped == factor) {
        (true, _) => WeightChange::Unmeasured,
        (false, true) => WeightChange::Measured,
        (false, false) => WeightChange::Capped,
    };
    (before * capped, change)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(deployment: &str, attempts: u64, failures: u64, ttft_ms: f64) -> Cell {
        Cell {
            alias: "chat".into(),
            deployment: deployment.into(),
            size_class: size::class(1_000),
            attempts,
            failures,
            timed: attempts - failures,
            ttft_us_p50: Some(ttft_ms * 1e3),
            ttft_us_p95: Some(ttft_ms * 3e3),
            output_tokens_per_s: Some(50.0),
            priced_attempts: attempts,
            input_tokens: 1_000 * attempts,
            output_tokens: 200 * attempts,
            cost_picousd: 1_800 * i64::try_from(attempts).unwrap(),
            waste_picousd: 0,
        }
    }

    fn refreshes(cells: &[Cell], count: usize) -> Vec<RoutingTable> {
        let measured = Measurements {
            cells: cells.to_vec(),
            ..Measurements::default()
        };
        let mut tables = vec![RoutingTable::none()];
        for _ in 0..count {
            let next = next_table(
                &tables[tables.len() - 1],
                &measured,
                &TablePolicy::default(),
                1,
            );
            tables.push(next);
        }
        tables.split_off(1)
    }

    fn entry<'a>(table: &'a RoutingTable, deployment: &str) -> &'a TargetEntry {
        table.alias("chat").unwrap().target(deployment).unwrap()
    }

    #[test]
    fn a_slow_target_loses_weight_in_bounded_steps_down_to_the_range() {
        let tables = refreshes(
            &[cell("fast", 500, 0, 200.0), cell("slow", 500, 0, 8_000.0)],
            8,
        );
        let weights: Vec<f64> = tables.iter().map(|t| entry(t, "slow").weight).collect();
        assert!((weights[0] - 1.0 / 1.5).abs() < 1e-5);
        assert_eq!(entry(&tables[0], "slow").change, WeightChange::Capped);
        assert!(
            weights
                .windows(2)
                .all(|pair| pair[1] <= pair[0] && pair[1] >= pair[0] / 1.51)
        );
        assert!((weights[7] - 0.25).abs() < 1e-5, "{weights:?}");
        assert!((entry(&tables[7], "fast").weight - 4.0).abs() < 1e-5);
        assert_eq!(tables[7].version, 8);
    }

    #[test]
    fn small_differences_change_nothing() {
        let tables = refreshes(&[cell("a", 500, 0, 200.0), cell("b", 500, 0, 210.0)], 3);
        for table in &tables {
            assert_eq!(entry(table, "a").weight.to_bits(), 1.0_f64.to_bits());
            assert_eq!(entry(table, "b").change, WeightChange::Held);
        }
    }

    #[test]
    fn sizes_are_compared_at_reference_size() {
        let long = Cell {
            size_class: size::class(28_000),
            input_tokens: 28_000 * 500,
            ..cell("long", 500, 0, 2_000.0)
        };
        let table = &refreshes(&[cell("short", 500, 0, 200.0), long], 1)[0];
        let (short, long) = (entry(table, "short"), entry(table, "long"));
        assert!((short.ttft_us.unwrap() - long.ttft_us.unwrap()).abs() < 1.0);
        assert_eq!(long.change, WeightChange::Held);
    }

    #[test]
    fn errors_weigh_and_few_attempts_prove_little() {
        let cells = [cell("good", 500, 0, 200.0), cell("bad", 500, 250, 200.0)];
        let tables = refreshes(&cells, 6);
        let bad = entry(&tables[5], "bad");
        assert!(bad.error_ratio.unwrap() > 0.4);
        assert!(bad.weight < 0.5);

        let cells = [cell("good", 500, 0, 200.0), cell("new", 1, 1, 200.0)];
        let new = entry(&refreshes(&cells, 1)[0], "new").clone();
        assert!(new.error_ratio.unwrap() < 0.02);
        assert!((new.weight - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_price_is_what_was_paid_and_moves_by_at_most_twice() {
        let cells = [cell("a", 500, 0, 200.0)];
        let before = refreshes(&cells, 1).remove(0);
        assert!((entry(&before, "a").picousd_per_token.unwrap() - 1.0).abs() < 1e-9);
        let dearer = Cell {
            waste_picousd: 5 * cells[0].cost_picousd,
            ..cells[0].clone()
        };
        let measured = Measurements {
            cells: vec![dearer],
            ..Measurements::default()
        };
        let policy = TablePolicy::default();
        let one = next_table(&before, &measured, &policy, 2);
        assert!((entry(&one, "a").picousd_per_token.unwrap() - 2.0).abs() < 1e-9);
        let two = next_table(&one, &measured, &policy, 3);
        assert!((entry(&two, "a").picousd_per_token.unwrap() - 4.0).abs() < 1e-9);
    }

    #[test]
    fn a_target_without_attempts_drifts_back_to_neutral() {
        let busy = [cell("fast", 500, 0, 200.0), cell("slow", 500, 0, 2_000.0)];
        let mut table = refreshes(&busy, 8).remove(7);
        let measured = Measurements {
            cells: vec![cell("fast", 500, 0, 200.0)],
            ..Measurements::default()
        };
        for _ in 0..8 {
            table = next_table(&table, &measured, &TablePolicy::default(), 9);
        }
        let slow = entry(&table, "slow");
        assert!((slow.weight - 1.0).abs() < 0.11, "{}", slow.weight);
        assert!(
            (200_000.0..700_000.0).contains(&slow.ttft_us.unwrap()),
            "{slow:?}"
        );
    }

    #[test]
    fn hostile_measurements_make_a_finite_table() {
        let cells = [
            cell("zero", 0, 0, 0.0),
            Cell {
                ttft_us_p50: Some(f64::NAN),
                ..cell("nan", 10, 10, 1.0)
            },
            Cell {
                ttft_us_p50: Some(f64::INFINITY),
                ..cell("inf", 10, 0, 1.0)
            },
            Cell {
                failures: 99,
                timed: 5,
                cost_picousd: -7,
                ..cell("odd", 10, 0, 1.0)
            },
        ];
        for table in refreshes(&cells, 5) {
            for entry in &table.aliases[0].targets {
                assert!((0.25..=4.0).contains(&entry.weight), "{entry:?}");
                assert!(entry.ttft_us.is_none_or(f64::is_finite), "{entry:?}");
                assert!(
                    entry.error_ratio.is_none_or(|e| (0.0..=1.0).contains(&e)),
                    "{entry:?}"
                );
            }
        }
    }

    #[test]
    fn a_table_survives_json() {
        let mut table = refreshes(&[cell("a", 500, 3, 200.0)], 1).remove(0);
        let stream = weir_schemas::StreamId::new(1_700_000_000_000, [7; 10]);
        table.inputs = vec![weir_schemas::table::InputPosition { stream, seq: 42 }];
        let text = serde_json::to_string(&table).unwrap();
        assert!(text.contains(&stream.to_string()));
        assert_eq!(serde_json::from_str::<RoutingTable>(&text).unwrap(), table);
    }
}
