//! What was measured, for people, for programs, and for plotting.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::BenchOptions;
use super::process::{ProcessUsage, ProcessUse};
use super::record::BenchRecord;

/// What a run hands over.
#[derive(Debug)]
pub(super) struct BenchResults {
    pub(super) record: BenchRecord,
    /// From the end of the warm-up to the last answer.
    pub(super) took: Duration,
    pub(super) processes: Option<(ProcessUsage, ProcessUsage)>,
}

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
    pub errors: BTreeMap<String, u64>,
    pub statuses: BTreeMap<u16, u64>,
    /// Sends later than `late_after` after their intended time.
    pub late: u64,
    /// Requests that were due but could not be sent before the time was over: the latencies leave them out and are too low.
    pub unsent: u64,
    pub connections_opened: u64,
    pub body_bytes: u64,
    pub events: u64,
    pub events_per_s: f64,
    pub latency: BTreeMap<Series, LatencySummary>,
    pub process: Option<ProcessUse>,
    #[serde(skip)]
    histograms: BTreeMap<Series, Histogram<u64>>,
}

/// What a latency is counted from and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Series {
    /// Intended send to last byte.
    Total,
    /// Intended send to the head of the answer.
    FirstByte,
    /// Streams: intended send to the first text.
    FirstToken,
    /// Streams: one chunk to the next.
    BetweenChunks,
    /// Intended send to actual send.
    Lateness,
    /// Actual send to last byte: not corrected for coordinated omission.
    FromSend,
}

impl Series {
    pub const ALL: [Self; 6] = [
        Self::Total,
        Self::FirstByte,
        Self::FirstToken,
        Self::BetweenChunks,
        Self::Lateness,
        Self::FromSend,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::FirstByte => "first byte",
            Self::FirstToken => "first token",
            Self::BetweenChunks => "between chunks",
            Self::Lateness => "send lateness",
            Self::FromSend => "from send (uncorrected)",
        }
    }

    fn of(self, record: &BenchRecord) -> &Histogram<u64> {
        match self {
            Self::Total => &record.total,
            Self::FirstByte => &record.first_byte,
            Self::FirstToken => &record.first_token,
            Self::BetweenChunks => &record.between_chunks,
            Self::Lateness => &record.lateness,
            Self::FromSend => &record.from_send,
        }
    }
}

/// One series in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencySummary {
    pub count: u64,
    pub min_us: f64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

impl LatencySummary {
    #[expect(
        clippy::cast_precision_loss,
        reason = "nanoseconds of at most an hour are exact"
    )]
    fn of(histogram: &Histogram<u64>) -> Self {
        let us = |ns: u64| ns as f64 / 1000.0;
        let at = |quantile| us(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            min_us: us(histogram.min()),
            mean_us: histogram.mean() / 1000.0,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(histogram.max()),
        }
    }
}

impl BenchReport {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub(super) fn new(options: &BenchOptions, measured: &BenchResults) -> Self {
        let record = &measured.record;
        let failed: u64 = record.errors.values().sum();
        let requests = record.answered + failed;
        let seconds = measured.took.as_secs_f64();
        let per_second = |count: u64| {
            if seconds > 0.0 {
                count as f64 / seconds
            } else {
                0.0
            }
        };
        let histograms: BTreeMap<Series, Histogram<u64>> = Series::ALL
            .into_iter()
            .map(|series| (series, series.of(record).clone()))
            .filter(|(_, histogram)| !histogram.is_empty())
            .collect();
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
            offered_per_s: offered(options, requests + record.unsent, seconds),
            achieved_per_s: per_second(record.answered),
            errors: record
                .errors
                .iter()
                .map(|(error, count)| (error.clone().into_owned(), *count))
                .collect(),
            statuses: record.statuses.clone(),
            late: record.late,
            unsent: record.unsent,
            connections_opened: record.connections_opened,
            body_bytes: record.bytes,
            events: record.events,
            events_per_s: per_second(record.events),
            latency: histograms
                .iter()
                .map(|(series, h)| (*series, LatencySummary::of(h)))
                .collect(),
            process: measured.processes.map(|(before, after)| {
                let cpu_s = after.cpu.saturating_sub(before.cpu).as_secs_f64();
                ProcessUse {
                    cpu_s,
                    cpu_us_per_request: cpu_s * 1e6 / requests.max(1) as f64,
                    resident_bytes_before: before.resident_bytes,
                    resident_bytes_after: after.resident_bytes,
                }
            }),
            histograms,
        }
    }

    /// One series; all zero when nothing was recorded.
    #[must_use]
    pub fn latency(&self, series: Series) -> LatencySummary {
        self.latency.get(&series).copied().unwrap_or_default()
    }

    /// A series in HdrHistogram's percentile format (values in milliseconds), as its plotter reads it.
    #[must_use]
    pub fn percentiles(&self, series: Series) -> String {
        let mut out = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n".to_owned();
        let Some(histogram) = self.histograms.get(&series) else {
            return out;
        };
        for step in histogram.iter_quantiles(5) {
            let (value, quantile) = (
                milliseconds(step.value_iterated_to()),
                step.quantile_iterated_to(),
            );
            let count = histogram.count_between(0, step.value_iterated_to());
            let _ = write!(out, "{value:12.3} {quantile:14.12} {count:10}");
            let _ = if quantile < 1.0 {
                writeln!(out, " {:14.2}", 1.0 / (1.0 - quantile))
            } else {
                writeln!(out, "            inf")
            };
        }
        let _ = writeln!(
            out,
            "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n#[Max     = {:12.3}, Total count    = {:12}]",
            histogram.mean() / 1e6,
            histogram.stdev() / 1e6,
            milliseconds(histogram.max()),
            histogram.len(),
        );
        out
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds of at most an hour are exact"
)]
fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// What was due per second, where the schedule says.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn offered(options: &BenchOptions, due: u64, seconds: f64) -> Option<f64> {
    use super::Arrival;
    match &options.arrival {
        Arrival::Closed => None,
        Arrival::Constant { per_second }
        | Arrival::Poisson { per_second }
        | Arrival::Wave { per_second, .. } => Some(*per_second),
        Arrival::Trace { .. } => {
            let seconds = options
                .stop
                .after
                .map_or(seconds, |after| after.as_secs_f64());
            Some(if seconds > 0.0 {
                due as f64 / seconds
            } else {
                0.0
            })
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
        write!(
            out,
            "requests   {} answered, {} failed; ",
            self.answered, self.failed
        )?;
        if let Some(offered) = self.offered_per_s {
            write!(out, "offered {offered:.1}/s, ")?;
        }
        writeln!(out, "achieved {:.1}/s", self.achieved_per_s)?;
        if self.events > 0 {
            writeln!(
                out,
                "streams    {} events, {:.0}/s",
                self.events, self.events_per_s
            )?;
        }
        for (error, count) in &self.errors {
            writeln!(out, "failed     {count} x {error}")?;
        }
        if self.late > 0 {
            let lateness = self.latency(Series::Lateness);
            writeln!(
                out,
                "late       {} sends (latest by {}): all connections were busy, or this machine was; the latencies include it",
                self.late,
                Shown(lateness.max_us)
            )?;
        }
        if self.unsent > 0 {
            writeln!(
                out,
                "UNSENT     {} requests were due and never sent: the target is slower than the offered rate, true latencies are higher",
                self.unsent
            )?;
        }
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
        for (series, latency) in &self.latency {
            let l = latency;
            write!(out, "{:24}", series.name())?;
            for us in [l.p50_us, l.p90_us, l.p99_us, l.p999_us, l.max_us, l.mean_us] {
                write!(out, "{:>10}", Shown(us).to_string())?;
            }
            writeln!(out, "{:>10}", l.count)?;
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
