//! One batch of the log as rows, grouped into inserts that are stored whole or not at all.

use std::collections::{BTreeMap, HashMap};

use tokio::time::Instant;
use weir_eventlog::{Position, SourceBatch};
use weir_schemas::{Envelope, Event, EventId, StreamId, codec, for_each_event};

use crate::caps::{KNOWLEDGE_MAX, NO_TIME_US};
use crate::hashes::{Hashed, StoredRow};
use crate::rows::{EventRow, IntoRow as _, row_of};

/// What a batch has of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The earliest time that an event carries, in microseconds since 1970.
    pub(crate) since_us: u64,
}

/// By stream.
pub(crate) type Ranges = BTreeMap<StreamId, StreamRange>;

pub(crate) fn ranges(batch: &SourceBatch) -> Ranges {
    let mut ranges = Ranges::new();
    for record in &batch.records {
        // What is no event becomes no row, and is looked for nowhere.
        let time_us = codec::time_us(&record.payload).unwrap_or(NO_TIME_US);
        let range = ranges.entry(record.stream).or_insert(StreamRange {
            first: record.seq,
            last: record.seq,
            since_us: time_us,
        });
        *range = StreamRange {
            first: range.first.min(record.seq),
            last: range.last.max(record.seq),
            since_us: range.since_us.min(time_us),
        };
    }
    ranges
}

/// The part of the log that has one order for every reader: a partition of Kafka, or the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Partition(i32);

impl Partition {
    pub(crate) fn of(position: &Position) -> Self {
        match position {
            Position::Journal { .. } => Self(0),
            Position::Kafka { partition, .. } => Self(*partition),
        }
    }
}

/// Rows of one table, by the insert that they go into: one for each day, which is a partition of the
/// table and so stored whole or not at all, and each partition of the log, so that an ingestor that
/// has lost one without knowing sends the same insert as the one that has it now ([`token`]).
#[derive(Debug)]
pub(crate) struct Inserts<R>(BTreeMap<(i64, Partition), Vec<R>>);

impl<R> Default for Inserts<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R: EventRow> Inserts<R> {
    fn push(&mut self, partition: Partition, row: R) {
        const US_PER_DAY: i64 = 24 * 60 * 60 * 1_000_000;
        let day = row.ts().div_euclid(US_PER_DAY);
        self.0.entry((day, partition)).or_default().push(row);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[R]> {
        self.0.values().map(Vec::as_slice)
    }

    fn rows(&self) -> impl Iterator<Item = &R> {
        self.0.values().flatten()
    }

    fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

macro_rules! declare_event_rows {
    ($($table:ident { $($name:ident $body:tt $files:tt;)* })*) => {
        /// Rows of one batch, by table. They borrow their text from the batch's payloads.
        #[derive(Debug, Default)]
        pub(crate) struct EventRows<'a> {
            $(pub(crate) $table: Inserts<row_of!('a $($name)*)>,)*
            /// What of them is to be sealed, if anything.
            pub(crate) hashed: Option<Hashed>,
        }

        impl<'a> EventRows<'a> {
            pub(crate) fn push(&mut self, partition: Partition, envelope: &Envelope<'a>) {
                match &envelope.event {
                    $($(Event::$name(event) => {
                        let row = event.row(envelope.id);
                        if let Some(hashed) = &mut self.hashed {
                            let hash = StoredRow::of(stringify!($table), &row);
                            hashed.rows.push((envelope.id.stream, hash));
                        }
                        self.$table.push(partition, row);
                    })*)*
                }
            }

            pub(crate) fn len(&self) -> usize {
                [$(self.$table.len()),*].iter().sum()
            }

            pub(crate) fn ids(&self) -> impl Iterator<Item = EventId> {
                std::iter::empty()$(.chain(self.$table.rows().map(EventRow::id)))*
            }
        }
    };
}

for_each_event!(declare_event_rows);

impl EventRows<'_> {
    /// Streams that end in this batch.
    pub(crate) fn closed_streams(&self) -> impl Iterator<Item = StreamId> {
        let closed = self.streams.rows().filter(|row| row.event == "closed");
        closed.map(|row| row.id().stream)
    }

    /// What there is to seal, with what the gateways have sealed.
    pub(crate) fn take_hashed(&mut self) -> Option<Hashed> {
        let seals = self.seals.rows();
        let seals = seals.map(|row| (row.id(), row.sealed())).collect();
        let hashed = self.hashed.take();
        hashed.map(|hashed| Hashed { seals, ..hashed })
    }
}

/// The deduplication token of an insert: its table, its first row, and how often the store knew such
/// a token without having the rows.
///
/// An ingestor asks what is stored of a partition and begins with the first row that is not. So two
/// ingestors that both believe they own a partition send inserts with the same token; the store takes
/// the first that arrives, and the other finds that out when it verifies. The store may also know a
/// token whose rows were lost in a crash, and drop the insert every time. Then the next token has the
/// next number, and every ingestor that gets there finds the same number, as long as the store
/// remembers the token.
pub(crate) fn token<R: EventRow>(table: &str, first: &R, collisions: &TokenCollisions) -> String {
    let EventId { stream, seq } = first.id();
    let times = collisions.times(first.id());
    format!("{table}:{stream}:{seq}:{times}")
}

/// How often the store knew the token of an insert that begins with a row, and so did not keep it.
#[derive(Debug, Default)]
pub(crate) struct TokenCollisions {
    /// And when the last of them was sent.
    times: HashMap<EventId, (u32, Instant)>,
    /// First rows of inserts that the store took since it was last asked, and when they were sent.
    taken: Vec<(EventId, Instant)>,
}

impl TokenCollisions {
    /// A collision of long ago does not count: the store may have forgotten the token, and another
    /// ingestor that comes to this row starts at 0.
    fn times(&self, first: EventId) -> u32 {
        let times = self.times.get(&first);
        let recent = times.filter(|(_, sent)| sent.elapsed() <= KNOWLEDGE_MAX);
        recent.map_or(0, |(times, _)| *times)
    }

    pub(crate) fn took<R: EventRow>(&mut self, first: &R, sent: Instant) {
        self.taken.push((first.id(), sent));
    }

    /// Takes in what the store has, now that nothing is on its way any more.
    pub(crate) fn settle(&mut self, has: impl Fn(EventId) -> bool) {
        let taken = std::mem::take(&mut self.taken);
        for (first, sent) in taken.into_iter().filter(|(first, _)| !has(*first)) {
            let times = self.times(first) + 1;
            self.times.insert(first, (times, sent));
        }
    }
}
