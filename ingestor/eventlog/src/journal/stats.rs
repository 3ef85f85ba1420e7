//! What a journal has counted since it was opened, for metrics.

use std::time::Duration;

/// A snapshot of the journal's counters. They count from the opening of the journal by this
/// process; `bytes_on_disk`, `bytes_max`, `disk_full` and `streams_open` are the state now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalStats {
    pub appended_events: u64,
    pub appended_bytes: u64,
    /// Appends that failed, whatever the reason.
    pub append_errors: u64,
    /// Events that were dropped because the journal was full.
    pub dropped_events: u64,
    pub streams_open: u64,
    pub segments_sealed: u64,
    /// Streams of dead writers that were closed.
    pub streams_recovered: u64,
    /// Bytes of unfinished appends that were cut off from them.
    pub torn_bytes: u64,
    pub bytes_on_disk: u64,
    pub bytes_max: u64,
    pub disk_full: bool,
    pub sync_latency: Latency,
    pub sync_errors: u64,
}

/// How long something took: a histogram with bounds that double.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Observations of at most `Latency::bound_us(index)`; the last bucket takes the rest.
    pub buckets: [u64; Self::BUCKETS],
    pub count: u64,
    pub sum_us: u64,
}

impl Latency {
    pub const BUCKETS: usize = 16;

    /// Upper bound of a bucket: 128 µs, 256 µs … 2.1 s. The last bucket has none.
    #[must_use]
    pub const fn bound_us(bucket: usize) -> Option<u64> {
        if bucket + 1 < Self::BUCKETS {
            Some(128 << bucket)
        } else {
            None
        }
    }

    pub(crate) fn observe(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = (0..Self::BUCKETS)
            .find(|bucket| Self::bound_us(*bucket).is_none_or(|bound| us <= bound))
            .unwrap_or(Self::BUCKETS - 1);
        self.buckets[bucket] += 1;
        self.count += 1;
        self.sum_us += us;
    }
}

/// What one stream counted. Its writer counts under its own lock, so the hot path shares no
/// cache line with other streams.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StreamCounters {
    pub(crate) appended_events: u64,
    pub(crate) appended_bytes: u64,
    pub(crate) append_errors: u64,
    pub(crate) dropped_events: u64,
    pub(crate) segments_sealed: u64,
}

impl StreamCounters {
    pub(crate) fn add_to(&self, stats: &mut JournalStats) {
        stats.appended_events += self.appended_events;
        stats.appended_bytes += self.appended_bytes;
        stats.append_errors += self.append_errors;
        stats.dropped_events += self.dropped_events;
        stats.segments_sealed += self.segments_sealed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_the_bucket_of_their_bound() {
        let mut latency = Latency::default();
        for us in [0, 128, 129, 5_000_000] {
            latency.observe(Duration::from_micros(us));
        }
        assert_eq!((latency.count, latency.sum_us), (4, 5_000_257));
        assert_eq!(latency.buckets[..2], [2, 1]);
        assert_eq!(latency.buckets[Latency::BUCKETS - 1], 1);
        assert_eq!(Latency::bound_us(14), Some(2_097_152));
    }
}
