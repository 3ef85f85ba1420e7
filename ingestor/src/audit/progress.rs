//! What this process has stored and no checkpoint covers: how far each stream reaches, and the hashes of
//! its rows as they were before they were stored.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use weir_schemas::StreamId;

use crate::batch::Ranges;
use crate::caps::HASHES_KEPT_MAX;
use crate::hashes::chain::fingerprint;
use crate::hashes::{Hashed, StoredRow, VERSION};
use crate::rows::SealedRange;

/// What is stored of each stream, as far as this process knows. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct SealProgress {
    /// Whether hashes are wanted.
    is_hashing: bool,
    streams: Arc<Mutex<Streams>>,
}

#[derive(Debug, Default)]
struct Streams {
    ranges: HashMap<StreamId, SealableRange>,
    hashes: HashMap<StreamId, VecDeque<StoredRow>>,
    hashes_kept: usize,
}

/// How far a stream's events reach.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SealableRange {
    /// This process has stored everything up to here, or knows that it is stored.
    pub(super) sure: u64,
    /// This was met in the tables; numbers before it may still be on their way.
    pub(super) seen: u64,
    /// The earliest time that a row carries, in microseconds since 1970.
    pub(super) since_us: Option<i64>,
}

impl SealableRange {
    pub(super) fn last(self) -> u64 {
        self.sure.max(self.seen)
    }

    fn reach_back(&mut self, time_us: i64) {
        self.since_us = Some(self.since_us.map_or(time_us, |since| since.min(time_us)));
    }
}

impl SealProgress {
    /// For an ingestor whose rows are sealed.
    pub(crate) fn hashing() -> Self {
        Self {
            is_hashing: true,
            ..Self::default()
        }
    }

    /// Where the hashes of a batch go, if they are wanted.
    pub(crate) fn hashed(&self) -> Option<Hashed> {
        self.is_hashing.then(Hashed::default)
    }

    /// A batch is stored, all of it. Returns rows that are not what their gateway sealed.
    pub(crate) fn note(&self, ranges: &Ranges, hashed: Hashed) -> Vec<(StreamId, StoredRow)> {
        let mut streams = self.streams.lock();
        for (stream, range) in ranges {
            let reach = streams.ranges.entry(*stream).or_default();
            reach.sure = reach.sure.max(range.last);
            reach.reach_back(i64::try_from(range.since_us).unwrap_or(i64::MAX));
        }
        for (stream, row) in hashed.rows {
            streams.keep(stream, row);
        }
        let seals = hashed.seals.iter();
        let altered = seals.flat_map(|(seal, sealed)| streams.altered(seal.stream, sealed));
        altered.collect()
    }

    pub(super) fn saw(&self, stream: StreamId, last: u64, since_us: i64) {
        let mut streams = self.streams.lock();
        let reach = streams.ranges.entry(stream).or_default();
        reach.seen = reach.seen.max(last);
        reach.reach_back(since_us);
    }

    pub(super) fn all(&self) -> Vec<(StreamId, SealableRange)> {
        let streams = self.streams.lock();
        let ranges = streams.ranges.iter();
        ranges.map(|(id, reach)| (*id, *reach)).collect()
    }

    /// Rows of a stream, in order, as far as they are remembered.
    pub(super) fn remembered(&self, stream: StreamId, first: u64, last: u64) -> Vec<StoredRow> {
        let streams = self.streams.lock();
        streams.kept(stream, first, last).cloned().collect()
    }

    /// A stream is sealed up to here.
    pub(super) fn forget(&self, stream: StreamId, done: u64) {
        let mut streams = self.streams.lock();
        streams.forget_hashes(stream, done);
        let ranges = &mut streams.ranges;
        if ranges.get(&stream).is_some_and(|it| it.last() <= done) {
            ranges.remove(&stream);
        }
    }
}

impl Streams {
    fn keep(&mut self, stream: StreamId, row: StoredRow) {
        let kept = self.hashes.entry(stream).or_default();
        let is_next = kept.back().is_none_or(|last| last.seq < row.seq);
        if is_next && self.hashes_kept < HASHES_KEPT_MAX {
            kept.push_back(row);
            self.hashes_kept += 1;
        }
    }

    fn forget_hashes(&mut self, stream: StreamId, done: u64) {
        let Some(kept) = self.hashes.get_mut(&stream) else {
            return;
        };
        let sealed = kept.partition_point(|row| row.seq <= done);
        kept.drain(..sealed);
        self.hashes_kept -= sealed;
        if kept.is_empty() {
            self.hashes.remove(&stream);
        }
    }

    fn kept(&self, stream: StreamId, first: u64, last: u64) -> impl Iterator<Item = &StoredRow> {
        let of_stream = self.hashes.get(&stream).into_iter();
        of_stream.flat_map(move |kept| {
            let begin = kept.partition_point(|row| row.seq < first);
            let rows = kept.range(begin..);
            rows.take_while(move |row| row.seq <= last)
        })
    }

    /// Remembered rows that differ from a seal.
    fn altered(&self, stream: StreamId, sealed: &SealedRange) -> Vec<(StreamId, StoredRow)> {
        if sealed.version != VERSION {
            return Vec::new();
        }
        let said = |seq: u64| {
            let at = usize::try_from(seq.checked_sub(sealed.first_seq)?).ok()?;
            sealed.fingerprints.get(at)
        };
        let last = sealed
            .first_seq
            .saturating_add(sealed.fingerprints.len() as u64);
        let kept = self.kept(stream, sealed.first_seq, last);
        let altered =
            kept.filter(|row| said(row.seq).is_some_and(|said| *said != fingerprint(&row.hash)));
        altered.map(|row| (stream, row.clone())).collect()
    }
}
