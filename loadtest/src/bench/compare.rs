//! Several targets measured in turns, so that what else happens on the machine meets all of them alike.

use std::fmt;

use serde::Serialize;

use super::report::Shown;
use super::{BenchError, BenchOptions, BenchReport, Series, run_until};
use crate::stop::StopSwitch;

/// One of the targets compared.
#[derive(Clone, Debug)]
pub struct BenchCandidate {
    pub name: String,
    pub url: String,
    pub key: Option<String>,
    pub watch: Vec<u32>,
}

/// All rounds of all targets. The first target is the baseline.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub rounds: usize,
    pub workload: String,
    pub arrival: String,
    pub targets: Vec<ComparedRuns>,
}

/// One target's rounds and their medians.
#[derive(Clone, Debug, Serialize)]
pub struct ComparedRuns {
    pub name: String,
    pub achieved_per_s: f64,
    pub events_per_s: f64,
    pub failed: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub first_token_p50_us: f64,
    pub cpu_us_per_request: Option<f64>,
    /// CPU per request over the baseline's.
    pub cpu_ratio: Option<f64>,
    pub cpu_us_per_event: Option<f64>,
    pub resident_mb: Option<f64>,
    pub reports: Vec<BenchReport>,
}

/// Measures A, B, …, A, B, … and takes medians. `base` gives everything but the target.
pub fn compare(
    base: &BenchOptions,
    candidates: &[BenchCandidate],
    rounds: usize,
    stop: &StopSwitch,
) -> Result<Comparison, BenchError> {
    if candidates.is_empty() || rounds == 0 {
        let problem = "a comparison needs at least one target and one round".to_owned();
        return Err(BenchError::Options { problem });
    }
    let mut reports: Vec<Vec<BenchReport>> = candidates.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (candidate, reports) in candidates.iter().zip(&mut reports) {
            let options = BenchOptions {
                url: candidate.url.clone(),
                key: candidate.key.clone(),
                watch: candidate.watch.clone(),
                ..base.clone()
            };
            // A round that was interrupted would spoil the medians.
            let report = run_until(&options, stop)?;
            if !stop.is_stopped() {
                reports.push(report);
            }
        }
    }
    let mut targets: Vec<ComparedRuns> = candidates
        .iter()
        .zip(reports)
        .map(|(candidate, reports)| ComparedRuns::new(&candidate.name, reports))
        .collect();
    let baseline = targets.first().and_then(|first| first.cpu_us_per_request);
    for target in &mut targets {
        target.cpu_ratio = target
            .cpu_us_per_request
            .zip(baseline.filter(|us| *us > 0.0))
            .map(|(mine, baseline)| mine / baseline);
    }
    Ok(Comparison {
        rounds,
        workload: base.workload.describe(),
        arrival: base.arrival.describe(),
        targets,
    })
}

impl ComparedRuns {
    fn new(name: &str, reports: Vec<BenchReport>) -> Self {
        let over =
            |value: &dyn Fn(&BenchReport) -> f64| median(reports.iter().map(value).collect());
        let process = |value: &dyn Fn(&BenchReport) -> Option<f64>| {
            let values: Vec<f64> = reports.iter().filter_map(value).collect();
            (!values.is_empty()).then(|| median(values))
        };
        #[expect(clippy::cast_precision_loss, reason = "counts and bytes, for showing")]
        Self {
            name: name.to_owned(),
            achieved_per_s: over(&|report| report.achieved_per_s),
            events_per_s: over(&|report| report.events_per_s),
            failed: reports.iter().map(|report| report.failed).sum(),
            p50_us: over(&|report| report.latency(Series::Total).p50_us),
            p99_us: over(&|report| report.latency(Series::Total).p99_us),
            p999_us: over(&|report| report.latency(Series::Total).p999_us),
            first_token_p50_us: over(&|report| report.latency(Series::FirstToken).p50_us),
            cpu_us_per_request: process(&|report| Some(report.process?.cpu_us_per_request)),
            cpu_ratio: None,
            cpu_us_per_event: process(&|report| {
                let events = Some(report.counts.events).filter(|events| *events > 0)?;
                Some(report.process?.cpu_s * 1e6 / events as f64)
            }),
            resident_mb: process(&|report| Some(report.process?.resident_bytes_after as f64 / 1e6)),
            reports,
        }
    }
}

/// The middle value; of an even number, the mean of the middle two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len().is_multiple_of(2)) {
        (None, _) => 0.0,
        (Some(value), false) => *value,
        (Some(value), true) => f64::midpoint(*value, values[middle - 1]),
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{}, {}; medians of {} interleaved rounds\n",
            self.workload, self.arrival, self.rounds
        )?;
        writeln!(
            out,
            "{:16}{:>12}{:>10}{:>10}{:>10}{:>12}{:>12}{:>8}{:>10}{:>8}",
            "",
            "answers/s",
            "p50",
            "p99",
            "p99.9",
            "events/s",
            "CPU us/req",
            "ratio",
            "resident",
            "failed"
        )?;
        let or_dash = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        for target in &self.targets {
            writeln!(
                out,
                "{:16}{:>12.0}{:>10}{:>10}{:>10}{:>12.0}{:>12}{:>8}{:>10}{:>8}",
                target.name,
                target.achieved_per_s,
                Shown(target.p50_us).to_string(),
                Shown(target.p99_us).to_string(),
                Shown(target.p999_us).to_string(),
                target.events_per_s,
                or_dash(target.cpu_us_per_request, 1),
                or_dash(target.cpu_ratio, 2),
                target
                    .resident_mb
                    .map_or_else(|| "-".to_owned(), |mb| format!("{mb:.1} MB")),
                target.failed,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]).to_bits(), 2.0f64.to_bits());
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]).to_bits(), 2.5f64.to_bits());
        assert_eq!(median(Vec::new()).to_bits(), 0.0f64.to_bits());
    }
}
