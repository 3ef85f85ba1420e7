//! What one thread measured; records add up.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use http::header::CONTENT_TYPE;
use http::response;

use crate::client::{ExchangeError, Listener};
use crate::drive::FinishedExchange;
use crate::sse::SseWatch;

/// Latencies in nanoseconds, three significant digits, up to an hour.
pub(super) const NS_MAX: u64 = 3_600_000_000_000;

/// Counts and histograms.
#[derive(Clone, Debug)]
pub(crate) struct BenchRecord {
    /// From the intended send to the last byte.
    pub(crate) total: Histogram<u64>,
    /// From the actual send to the last byte: what is measured without correction.
    pub(crate) from_send: Histogram<u64>,
    /// From the intended send to the head of the answer.
    pub(crate) first_byte: Histogram<u64>,
    /// Streams: from the intended send to the first text.
    pub(crate) first_token: Histogram<u64>,
    /// Streams: between one chunk and the next.
    pub(crate) between_chunks: Histogram<u64>,
    /// From the intended to the actual send.
    pub(crate) lateness: Histogram<u64>,
    pub(crate) answered: u64,
    pub(crate) late: u64,
    /// Planned within the time, but not sent before it was over.
    pub(crate) unsent: u64,
    pub(crate) connections_opened: u64,
    pub(crate) bytes: u64,
    pub(crate) events: u64,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) errors: BTreeMap<Cow<'static, str>, u64>,
}

impl BenchRecord {
    pub(super) fn new() -> Self {
        let histogram = || {
            // The bounds are constants that the constructor accepts; the default would grow as needed and is as good.
            Histogram::new_with_bounds(1, NS_MAX, 3).unwrap_or_else(|_| auto())
        };
        Self {
            total: histogram(),
            from_send: histogram(),
            first_byte: histogram(),
            first_token: histogram(),
            between_chunks: histogram(),
            lateness: histogram(),
            answered: 0,
            late: 0,
            unsent: 0,
            connections_opened: 0,
            bytes: 0,
            events: 0,
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.total, &other.total),
            (&mut self.from_send, &other.from_send),
            (&mut self.first_byte, &other.first_byte),
            (&mut self.first_token, &other.first_token),
            (&mut self.between_chunks, &other.between_chunks),
            (&mut self.lateness, &other.lateness),
        ] {
            // Equal bounds on both sides: adding cannot fail.
            let _ = mine.add(theirs);
        }
        self.answered += other.answered;
        self.late += other.late;
        self.unsent += other.unsent;
        self.connections_opened += other.connections_opened;
        self.bytes += other.bytes;
        self.events += other.events;
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (error, count) in &other.errors {
            *self.errors.entry(error.clone()).or_default() += count;
        }
    }

    fn error(&mut self, name: Cow<'static, str>) {
        *self.errors.entry(name).or_default() += 1;
    }
}

/// Three digits over all of u64.
fn auto() -> Histogram<u64> {
    let mut histogram = Histogram::new(3).unwrap_or_else(|_| auto());
    histogram.auto(true);
    histogram
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos())
        .unwrap_or(u64::MAX)
        .clamp(1, NS_MAX)
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
        let since = |from: Instant, to: Instant| nanoseconds(to.saturating_duration_since(from));
        self.late += u64::from(sent.saturating_duration_since(intended) > late_after);
        self.lateness.saturating_record(since(intended, sent));
        self.bytes += heard.bytes;
        if let Some(head_at) = heard.head_at {
            *self.statuses.entry(heard.status).or_default() += 1;
            self.first_byte.saturating_record(since(intended, head_at));
        }
        if let Some(token_at) = heard.token_at {
            self.first_token
                .saturating_record(since(intended, token_at));
        }
        for gap in &heard.gaps {
            self.between_chunks.saturating_record(nanoseconds(*gap));
        }
        self.events += heard.stream.as_ref().map_or(0, |stream| stream.events);
        match heard.problem(exchange.result) {
            None => self.answered += 1,
            Some(problem) => self.error(problem),
        }
        // A failed request took its time too: leaving it out would make a failing target look fast.
        self.total
            .saturating_record(since(intended, exchange.ended));
        self.from_send
            .saturating_record(since(sent, exchange.ended));
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
