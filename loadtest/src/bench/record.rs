//! What one thread measured; records add up.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use http::header::CONTENT_TYPE;
use http::response;
use serde::Serialize;

use crate::client::{ExchangeError, Listener};
use crate::drive::FinishedExchange;
use crate::sse::SseWatch;

/// Latencies in nanoseconds, three significant digits, up to an hour.
pub(super) const NS_MAX: u64 = 3_600_000_000_000;

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

/// Counts and histograms.
#[derive(Clone, Debug)]
pub(super) struct BenchRecord {
    /// In the order of [`Series::ALL`].
    histograms: [Histogram<u64>; 6],
    pub(super) answered: u64,
    pub(super) counts: BenchCounts,
}

/// What is counted beside the answers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BenchCounts {
    pub errors: BTreeMap<Cow<'static, str>, u64>,
    pub statuses: BTreeMap<u16, u64>,
    /// Sends later than `late_after` after their intended time.
    pub late: u64,
    /// Requests that were due but could not be sent before the time was over: the latencies leave them out and are too low.
    pub unsent: u64,
    pub connections_opened: u64,
    pub body_bytes: u64,
    pub events: u64,
}

impl BenchRecord {
    pub(super) fn new() -> Self {
        // The bounds are constants that the constructor accepts; the default would grow as needed and is as good.
        let histogram = |_| Histogram::new_with_bounds(1, NS_MAX, 3).unwrap_or_else(|_| auto());
        Self {
            histograms: Series::ALL.map(histogram),
            answered: 0,
            counts: BenchCounts::default(),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.histograms.iter_mut().zip(&other.histograms) {
            // Equal bounds on both sides: adding cannot fail.
            let _ = mine.add(theirs);
        }
        self.answered += other.answered;
        let (mine, theirs) = (&mut self.counts, &other.counts);
        mine.late += theirs.late;
        mine.unsent += theirs.unsent;
        mine.connections_opened += theirs.connections_opened;
        mine.body_bytes += theirs.body_bytes;
        mine.events += theirs.events;
        for (status, count) in &theirs.statuses {
            *mine.statuses.entry(*status).or_default() += count;
        }
        for (error, count) in &theirs.errors {
            *mine.errors.entry(error.clone()).or_default() += count;
        }
    }

    /// Of the series that have anything in them.
    pub(super) fn latency(&self) -> BTreeMap<Series, LatencySummary> {
        let all = Series::ALL.into_iter().zip(&self.histograms);
        all.filter(|(_, histogram)| !histogram.is_empty())
            .map(|(series, histogram)| (series, LatencySummary::of(histogram)))
            .collect()
    }

    fn took(&mut self, series: Series, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.histograms[series as usize].saturating_record(ns.clamp(1, NS_MAX));
    }
}

/// Three digits over all of u64.
fn auto() -> Histogram<u64> {
    let mut histogram = Histogram::new(3).unwrap_or_else(|_| auto());
    histogram.auto(true);
    histogram
}

/// Listens to one answer.
#[derive(Debug, Default)]
pub(super) struct Heard {
    status: u16,
    head_at: Option<Instant>,
    token_at: Option<Instant>,
    chunk_at: Option<Instant>,
    gaps: Vec<Duration>,
    bytes: u64,
    stream: Option<SseWatch>,
}

impl Listener for Heard {
    fn head(&mut self, head: &response::Parts, now: Instant) {
        self.status = head.status.as_u16();
        self.head_at = Some(now);
        let streams = head
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        self.stream = streams.then(SseWatch::default);
    }

    fn data(&mut self, data: &[u8], now: Instant) {
        self.bytes += data.len() as u64;
        let Some(stream) = &mut self.stream else {
            return;
        };
        stream.data(data);
        if stream.token_seen && self.token_at.is_none() {
            self.token_at = Some(now);
        }
        if let Some(before) = self.chunk_at.replace(now) {
            self.gaps.push(now - before);
        }
    }
}

impl BenchRecord {
    /// Enters an exchange that is over.
    pub(super) fn enter(&mut self, exchange: &FinishedExchange<'_, Heard>, late_after: Duration) {
        let (intended, sent) = (exchange.intended, exchange.sent);
        let heard = &*exchange.heard;
        let lateness = sent.saturating_duration_since(intended);
        self.counts.late += u64::from(lateness > late_after);
        self.took(Series::Lateness, lateness);
        self.counts.body_bytes += heard.bytes;
        if let Some(head_at) = heard.head_at {
            *self.counts.statuses.entry(heard.status).or_default() += 1;
            let took = head_at.saturating_duration_since(intended);
            self.took(Series::FirstByte, took);
        }
        if let Some(token_at) = heard.token_at {
            let took = token_at.saturating_duration_since(intended);
            self.took(Series::FirstToken, took);
        }
        for gap in &heard.gaps {
            self.took(Series::BetweenChunks, *gap);
        }
        self.counts.events += heard.stream.as_ref().map_or(0, |stream| stream.events);
        match heard.problem(exchange.result) {
            None => self.answered += 1,
            Some(problem) => *self.counts.errors.entry(problem).or_default() += 1,
        }
        // A failed request took its time too: leaving it out would make a failing target look fast.
        let ended = exchange.ended;
        self.took(Series::Total, ended.saturating_duration_since(intended));
        self.took(Series::FromSend, ended.saturating_duration_since(sent));
    }
}

impl Heard {
    fn problem(&self, result: Result<(), ExchangeError>) -> Option<Cow<'static, str>> {
        if let Err(error) = result {
            return Some(error.to_string().into());
        }
        if !(200..300).contains(&self.status) {
            return Some(format!("status {}", self.status).into());
        }
        match &self.stream {
            Some(stream) if stream.error_seen => Some("error event".into()),
            Some(stream) if !stream.ended => Some("stream without its end".into()),
            _ => None,
        }
    }
}
