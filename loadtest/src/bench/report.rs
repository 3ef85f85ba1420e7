//! What was measured, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::BenchOptions;
use super::process::{ProcessUsage, ProcessUse};
use super::record::{BenchCounts, BenchRecord, LatencySummary, Series};

/// The result of one run.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    pub url: String,
    pub workload: String,
    pub arrival: String,
    pub connections: usize,
    pub threads: usize,
    pub seed: u64,
    pub warm_up_s: f64,
    pub measured_s: f64,
    /// Requests that ended, well or not.
    pub requests: u64,
    pub answered: u64,
    pub failed: u64,
    /// Requests per second that were due; `None` in a closed loop.
    pub offered_per_s: Option<f64>,
    /// Answers per second that came.
    pub achieved_per_s: f64,
    #[serde(flatten)]
    pub counts: BenchCounts,
    pub events_per_s: f64,
    pub latency: BTreeMap<Series, LatencySummary>,
    pub process: Option<ProcessUse>,
}

impl BenchReport {
    /// `took` is from the end of the warm-up to the last answer.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub(super) fn new(
        options: &BenchOptions,
        record: BenchRecord,
        took: Duration,
        processes: Option<(ProcessUsage, ProcessUsage)>,
    ) -> Self {
        let failed: u64 = record.counts.errors.values().sum();
        let requests = record.answered + failed;
        let seconds = took.as_secs_f64();
        Self {
            url: options.url.clone(),
            workload: options.workload.describe(),
            arrival: options.arrival.describe(),
            connections: options.connections,
            threads: options.threads,
            seed: options.seed,
            warm_up_s: options.warm_up.as_secs_f64(),
            measured_s: seconds,
            requests,
            answered: record.answered,
            failed,
            offered_per_s: offered(options, requests + record.counts.unsent, seconds),
            achieved_per_s: per_second(record.answered, seconds),
            events_per_s: per_second(record.counts.events, seconds),
            latency: record.latency(),
            counts: record.counts,
            process: processes.map(|(before, after)| {
                let cpu_s = after.cpu.saturating_sub(before.cpu).as_secs_f64();
                ProcessUse {
                    cpu_s,
                    cpu_us_per_request: cpu_s * 1e6 / requests.max(1) as f64,
                    resident_bytes_before: before.resident_bytes,
                    resident_bytes_after: after.resident_bytes,
                }
            }),
        }
    }

    /// One series; all zero when nothing was recorded.
    #[must_use]
    pub fn latency(&self, series: Series) -> LatencySummary {
        self.latency.get(&series).copied().unwrap_or_default()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

/// What was due per second, where the schedule says.
fn offered(options: &BenchOptions, due: u64, seconds: f64) -> Option<f64> {
    use super::Arrival;
    match &options.arrival {
        Arrival::Closed => None,
        Arrival::Constant { per_second }
        | Arrival::Poisson { per_second }
        | Arrival::Wave { per_second, .. } => Some(*per_second),
        Arrival::Trace { .. } => {
            let planned = options.stop.after.map(|after| after.as_secs_f64());
            Some(per_second(due, planned.unwrap_or(seconds)))
        }
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "target     {}", self.url)?;
        writeln!(out, "workload   {}", self.workload)?;
        writeln!(
            out,
            "arrival    {}, {} connections, {:.1} s after {:.1} s of warm-up, seed {}",
            self.arrival, self.connections, self.measured_s, self.warm_up_s, self.seed
        )?;
        let (answered, failed) = (self.answered, self.failed);
        write!(out, "requests   {answered} answered, {failed} failed; ")?;
        if let Some(offered) = self.offered_per_s {
            write!(out, "offered {offered:.1}/s, ")?;
        }
        writeln!(out, "achieved {:.1}/s", self.achieved_per_s)?;
        self.write_counts(out)?;
        if let Some(process) = &self.process {
            writeln!(
                out,
                "process    {:.1} us CPU per request ({:.2} s), resident {:.1} MB, before {:.1} MB",
                process.cpu_us_per_request,
                process.cpu_s,
                megabytes(process.resident_bytes_after),
                megabytes(process.resident_bytes_before)
            )?;
        }
        writeln!(
            out,
            "\n{:24}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "", "p50", "p90", "p99", "p99.9", "max", "mean", "count"
        )?;
        for (series, l) in &self.latency {
            write!(out, "{:24}", series.name())?;
            for us in [l.p50_us, l.p90_us, l.p99_us, l.p999_us, l.max_us, l.mean_us] {
                write!(out, "{:>10}", Shown(us).to_string())?;
            }
            writeln!(out, "{:>10}", l.count)?;
        }
        Ok(())
    }
}

impl BenchReport {
    fn write_counts(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BenchCounts {
            errors,
            late,
            unsent,
            events,
            ..
        } = &self.counts;
        if *events > 0 {
            let per_s = self.events_per_s;
            writeln!(out, "streams    {events} events, {per_s:.0}/s")?;
        }
        for (error, count) in errors {
            writeln!(out, "failed     {count} x {error}")?;
        }
        if *late > 0 {
            let latest = Shown(self.latency(Series::Lateness).max_us);
            writeln!(
                out,
                "late       {late} sends (latest by {latest}): all connections were busy, or this machine was; the latencies include it"
            )?;
        }
        if *unsent > 0 {
            writeln!(
                out,
                "UNSENT     {unsent} requests were due and never sent: the target is slower than the offered rate, true latencies are higher"
            )?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "for showing")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Microseconds with a unit that suits them, three digits or so.
pub(super) struct Shown(pub(super) f64);

impl fmt::Display for Shown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            us if us < 10.0 => write!(out, "{us:.1} us"),
            us if us < 1_000.0 => write!(out, "{us:.0} us"),
            us if us < 100_000.0 => write!(out, "{:.2} ms", us / 1e3),
            us if us < 1_000_000.0 => write!(out, "{:.0} ms", us / 1e3),
            us => write!(out, "{:.2} s", us / 1e6),
        }
    }
}
