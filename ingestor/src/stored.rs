//! What is known to be stored of each stream.
//!
//! The log gives records again after a crash, a rebalance, or a failed commit. For each stream that
//! is met for the first time since then, the tables are asked which seqs they have; from there on a
//! high-water mark is enough, because a stream's records come in order.
//!
//! To ask all of a table takes seconds, so the tables are asked from a time on. A row carries the time
//! of its event, whatever clock it is by: from the earliest event of a batch on, every row of that batch
//! is found ([`SearchFrom`]). A batch with an earlier one is asked about anew.
//!
//! Where several ingestors read the log, what is known grows old: see [`Stored::deadline_us`].

use std::collections::{BTreeMap, HashMap};

use tokio::time::Instant;
use weir_schemas::{EventId, StreamId};

use crate::batch::{Ranges, StreamRange};
use crate::caps::{KNOWLEDGE_FRESH, KNOWLEDGE_MAX, LOOK_BACK};

/// Seqs from the first to the last.
pub(crate) type SeqRun = (u64, u64);

/// When the tables were asked, by two clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueryTime {
    pub(crate) local: Instant,
    /// The store's, in microseconds since 1970. No later than its answer.
    pub(crate) store_us: u64,
}

/// From where the tables are searched for rows of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SearchFrom {
    pub(crate) seq: u64,
    /// In microseconds since 1970.
    pub(crate) since_us: u64,
}

impl From<StreamRange> for SearchFrom {
    fn from(range: StreamRange) -> Self {
        let back_us = u64::try_from(LOOK_BACK.as_micros()).unwrap_or(u64::MAX);
        Self {
            seq: range.first,
            since_us: range.since_us.saturating_sub(back_us),
        }
    }
}

/// What is known, since the source's epoch last changed.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    epoch: Option<u64>,
    /// Whether others write what is read here.
    is_shared: bool,
    streams: HashMap<StreamId, StreamKnowledge>,
}

#[derive(Debug)]
struct StreamKnowledge {
    asked: QueryTime,
    /// Rows that carry an earlier time were not looked at.
    since_us: u64,
    /// All seqs up to this one are stored, or known to be gone.
    up_to: u64,
    /// Seqs above that are stored all the same, in order.
    beyond: Vec<SeqRun>,
}

impl Stored {
    pub(crate) fn new(is_shared: bool) -> Self {
        Self {
            is_shared,
            ..Self::default()
        }
    }

    /// Forgets everything if the source may give again what it gave before.
    pub(crate) fn enter(&mut self, epoch: u64) {
        if self.epoch != Some(epoch) {
            self.epoch = Some(epoch);
            self.streams.clear();
        }
    }

    /// What the tables must be asked about before a batch is stored: streams, each with what matters
    /// first. Nothing, or all of the batch: one insert holds rows of several streams, so to
    /// know of some of them what was so later than of others is to know of half an insert.
    pub(crate) fn questions(&self, ranges: &Ranges) -> BTreeMap<StreamId, SearchFrom> {
        let mut known = ranges.iter();
        if known.all(|(stream, range)| self.is_known(*stream, *range)) {
            return BTreeMap::new();
        }
        let from = |(stream, range): (&StreamId, &StreamRange)| (*stream, (*range).into());
        ranges.iter().map(from).collect()
    }

    fn is_known(&self, stream: StreamId, range: StreamRange) -> bool {
        self.streams.get(&stream).is_some_and(|known| {
            let is_fresh = !self.is_shared || known.asked.local.elapsed() < KNOWLEDGE_FRESH;
            is_fresh && known.since_us <= range.since_us
        })
    }

    /// Until when, by the store's clock, it may take an insert of these streams; None is for ever.
    ///
    /// Another ingestor may have stored the same rows since the tables were asked. Then the store
    /// knows the insert's token, as long as that is not long ago; and how long ago it is only the
    /// store can say, because this process may be stopped right before it sends.
    pub(crate) fn deadline_us(&self, ranges: &Ranges) -> Option<u64> {
        let asked_us = |stream| {
            let known = self.streams.get(stream);
            known.map_or(0, |known| known.asked.store_us)
        };
        let oldest_us = ranges.keys().map(asked_us).min().unwrap_or_default();
        let age_max_us = u64::try_from(KNOWLEDGE_MAX.as_micros()).unwrap_or(u64::MAX);
        self.is_shared.then(|| oldest_us.saturating_add(age_max_us))
    }

    /// Takes in what the tables have of a stream; `runs` in order.
    pub(crate) fn refresh(
        &mut self,
        asked: QueryTime,
        stream: StreamId,
        from: SearchFrom,
        runs: Vec<SeqRun>,
    ) {
        let known_up_to = self.streams.get(&stream).map_or(0, |known| known.up_to);
        let known = StreamKnowledge {
            asked,
            since_us: from.since_us,
            up_to: known_up_to.max(from.seq.saturating_sub(1)),
            beyond: runs,
        };
        self.streams.insert(stream, known);
    }

    pub(crate) fn has(&self, EventId { stream, seq }: EventId) -> bool {
        self.streams.get(&stream).is_some_and(|known| {
            let before = known.beyond.partition_point(|run| run.0 <= seq);
            let is_beyond = before > 0 && seq <= known.beyond[before - 1].1;
            seq <= known.up_to || is_beyond
        })
    }

    /// Notes that all of a batch is stored.
    pub(crate) fn note(&mut self, ranges: &Ranges) {
        for (stream, range) in ranges {
            if let Some(known) = self.streams.get_mut(stream) {
                known.up_to = known.up_to.max(range.last);
                known.beyond.retain(|run| run.1 > known.up_to);
            }
        }
    }

    /// Forgets streams: an insert's outcome is unknown, and the tables must be asked.
    pub(crate) fn invalidate(&mut self, ranges: &Ranges) {
        ranges.keys().for_each(|stream| self.forget(*stream));
    }

    /// Forgets a stream. If it is met again after all, the tables are asked.
    pub(crate) fn forget(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const DAY_US: u64 = 24 * 3600 * 1_000_000;
    const NOON_US: u64 = 20_000 * DAY_US + DAY_US / 2;

    fn range(first: u64, last: u64, since_us: u64) -> StreamRange {
        StreamRange {
            first,
            last,
            since_us,
        }
    }

    fn stream(number: u8) -> StreamId {
        StreamId::from_bytes([number; 16])
    }

    #[test]
    fn a_stream_is_asked_about_once_per_epoch() {
        let mut stored = Stored::default();
        let ranges = Ranges::from([(stream(1), range(5, 9, NOON_US))]);
        let from = SearchFrom {
            seq: 5,
            since_us: NOON_US - DAY_US,
        };
        let question = BTreeMap::from([(stream(1), from)]);
        stored.enter(1);
        assert_eq!(stored.questions(&ranges), question);
        stored.refresh(asked(), stream(1), from, vec![(6, 6)]);
        assert!(stored.questions(&ranges).is_empty());
        stored.note(&ranges);
        stored.enter(1);
        assert!(stored.questions(&ranges).is_empty());
        stored.enter(2);
        assert_eq!(stored.questions(&ranges), question);
        stored.refresh(asked(), stream(1), from, vec![]);
        stored.invalidate(&ranges);
        assert_eq!(stored.questions(&ranges), question);
    }

    #[test]
    fn events_from_before_what_was_looked_at_are_asked_about() {
        let mut stored = Stored::default();
        let batch = |since_us| Ranges::from([(stream(1), range(5, 9, since_us))]);
        stored.enter(1);
        stored.refresh(
            asked(),
            stream(1),
            range(1, 4, NOON_US).into(),
            vec![(1, 4)],
        );
        assert!(stored.questions(&batch(NOON_US - DAY_US)).is_empty());
        let earlier = batch(NOON_US - DAY_US - 1);
        let from = SearchFrom::from(earlier[&stream(1)]);
        assert_eq!(
            stored.questions(&earlier),
            BTreeMap::from([(stream(1), from)])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_may_have_changed_is_asked_again() {
        let all = range(1, 9, NOON_US);
        let ranges = Ranges::from([(stream(1), all), (stream(2), all)]);
        let mut stored = Stored::new(true);
        stored.enter(1);
        stored.refresh(asked(), stream(1), all.into(), vec![]);
        assert_eq!(stored.deadline_us(&ranges), Some(30_000_000));
        tokio::time::advance(KNOWLEDGE_FRESH / 2).await;
        let later = QueryTime {
            store_us: 7_000_000,
            ..asked()
        };
        stored.refresh(later, stream(2), all.into(), vec![]);
        assert!(stored.questions(&ranges).is_empty());
        assert_eq!(
            stored.deadline_us(&ranges),
            Some(31_000_000),
            "the older one's"
        );
        tokio::time::advance(KNOWLEDGE_FRESH / 2).await;
        assert_eq!(stored.questions(&ranges).len(), 2);
    }

    fn asked() -> QueryTime {
        QueryTime {
            local: Instant::now(),
            store_us: 1_000_000,
        }
    }

    fn runs(seqs: &[u64]) -> Vec<SeqRun> {
        let mut runs: Vec<SeqRun> = Vec::new();
        for &seq in seqs {
            match runs.last_mut() {
                Some(run) if run.1 + 1 == seq => run.1 = seq,
                _ => runs.push((seq, seq)),
            }
        }
        runs
    }

    proptest! {
        /// A source that gives anything again at any restart, and inserts of which a crash leaves
        /// any part: in the end the table has every seq exactly once.
        #[test]
        fn every_seq_is_stored_exactly_once(
            steps in prop::collection::vec((0_u64..40, 1_u64..30, any::<u32>(), any::<bool>()), 1..60),
            days in prop::collection::vec(0_u64..500, 1..7),
        ) {
            // A clock that goes where it likes.
            let time_us = |seq: u64| days[usize::try_from(seq).unwrap() % days.len()] * DAY_US;
            let mut table: Vec<u64> = Vec::new();
            let mut stored = Stored::default();
            let mut epoch = 1;
            let mut committed = 0_u64;
            let mut next = 1;
            for (back, length, mask, crashes) in steps {
                stored.enter(epoch);
                let (first, last) = (next, next + length - 1);
                let since_us = (first..=last).map(time_us).min().unwrap();
                let ranges = Ranges::from([(stream(1), range(first, last, since_us))]);
                for (stream, from) in stored.questions(&ranges) {
                    let is_found = |seq: &u64| *seq >= from.seq && time_us(*seq) >= from.since_us;
                    let mut seqs: Vec<u64> = table.iter().copied().filter(is_found).collect();
                    seqs.sort_unstable();
                    stored.refresh(asked(), stream, from, runs(&seqs));
                }
                let wanted: Vec<u64> =
                    (first..=last).filter(|seq| !stored.has(EventId { stream: stream(1), seq: *seq })).collect();
                if crashes {
                    // Any part of the batch is in the table, and it is unknown which.
                    table.extend(wanted.iter().filter(|seq| mask >> (*seq % 32) & 1 == 1));
                    epoch += 1;
                    // At the commit, or anywhere before it.
                    next = (committed + 1).saturating_sub(back).max(1);
                } else {
                    table.extend(wanted);
                    stored.note(&ranges);
                    committed = committed.max(last);
                    next = last + 1;
                }
            }
            let distinct: BTreeSet<u64> = table.iter().copied().collect();
            prop_assert_eq!(distinct.len(), table.len(), "a seq is stored twice");
            prop_assert!((1..=committed).all(|seq| distinct.contains(&seq)), "a seq is missing");
        }
    }
}
