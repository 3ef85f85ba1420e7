//! One batch of the log as rows, grouped into inserts that are stored whole or not at all.

use std::collections::{BTreeMap, HashMap};

use tokio::time::Instant;
use uuid::Uuid;
use weir_eventlog::{Position, SourceBatch};
use weir_schemas::{Event, StreamId};

use crate::caps::KNOWLEDGE_MAX;
use crate::rows::{
    AttemptRow, ControlRow, CorrectionRow, PayloadRow, RequestRow, StateRow, StreamRow, TableRow,
};

/// Seqs of each stream in a batch, from the first to the last.
pub(crate) type Ranges = BTreeMap<StreamId, (u64, u64)>;

pub(crate) fn ranges(batch: &SourceBatch) -> Ranges {
    let mut ranges = Ranges::new();
    for record in &batch.records {
        let range = ranges
            .entry(record.stream)
            .or_insert((record.seq, record.seq));
        *range = (range.0.min(record.seq), range.1.max(record.seq));
    }
    ranges
}

/// What is read in one order by whoever reads it: a partition of Kafka's, or the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lane(i32);

impl Lane {
    pub(crate) fn of(position: &Position) -> Self {
        match position {
            Position::Journal { .. } => Self(0),
            Position::Kafka { partition, .. } => Self(*partition),
        }
    }
}

/// Rows of one table, by the insert that they go into: one for each day, which is a partition of the
/// table and so stored whole or not at all, and each lane, so that an ingestor that has lost a
/// partition without knowing sends the same insert as the one that has it now ([`token`]).
#[derive(Debug)]
pub(crate) struct Inserts<R>(BTreeMap<(i64, Lane), Vec<R>>);

impl<R> Default for Inserts<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R: Placed> Inserts<R> {
    fn push(&mut self, lane: Lane, row: R) {
        const US_PER_DAY: i64 = 24 * 60 * 60 * 1_000_000;
        let day = row.ts().div_euclid(US_PER_DAY);
        self.0.entry((day, lane)).or_default().push(row);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[R]> {
        self.0.values().map(Vec::as_slice)
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &R> {
        self.0.values().flatten()
    }

    fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

/// Rows of one batch, by table. They borrow their text from the batch's payloads.
#[derive(Debug, Default)]
pub(crate) struct Rows<'a> {
    pub(crate) requests: Inserts<RequestRow<'a>>,
    pub(crate) attempts: Inserts<AttemptRow<'a>>,
    pub(crate) control_changes: Inserts<ControlRow<'a>>,
    pub(crate) streams: Inserts<StreamRow<'a>>,
    pub(crate) states: Inserts<StateRow<'a>>,
    pub(crate) routing_tables: Inserts<TableRow<'a>>,
    pub(crate) corrections: Inserts<CorrectionRow<'a>>,
    pub(crate) payloads: Inserts<PayloadRow<'a>>,
}

impl<'a> Rows<'a> {
    pub(crate) fn push(&mut self, lane: Lane, event: &Event<'a>) {
        match event {
            Event::RequestFinished(event) => self.requests.push(lane, RequestRow::new(event)),
            Event::AttemptFinished(event) => self.attempts.push(lane, AttemptRow::new(event)),
            Event::ControlChanged(event) => {
                self.control_changes.push(lane, ControlRow::new(event));
            }
            Event::StreamOpened(event) => self.streams.push(lane, StreamRow::opened(event)),
            Event::StreamClosed(event) => self.streams.push(lane, StreamRow::closed(event)),
            Event::EventsDropped(event) => self.streams.push(lane, StreamRow::dropped(event)),
            Event::DeploymentStateChanged(event) => self.states.push(lane, StateRow::new(event)),
            Event::RoutingTableAdopted(event) => {
                self.routing_tables.push(lane, TableRow::new(event));
            }
            Event::Correction(event) => self.corrections.push(lane, CorrectionRow::new(event)),
            Event::PayloadCaptured(event) => self.payloads.push(lane, PayloadRow::new(event)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len()
            + self.attempts.len()
            + self.control_changes.len()
            + self.streams.len()
            + self.states.len()
            + self.routing_tables.len()
            + self.corrections.len()
            + self.payloads.len()
    }

    /// The place of every row.
    pub(crate) fn places(&self) -> impl Iterator<Item = (StreamId, u64)> {
        let requests = self.requests.rows().map(Placed::place);
        let attempts = self.attempts.rows().map(Placed::place);
        let control_changes = self.control_changes.rows().map(Placed::place);
        let streams = self.streams.rows().map(Placed::place);
        let states = self.states.rows().map(Placed::place);
        let routing_tables = self.routing_tables.rows().map(Placed::place);
        let corrections = self.corrections.rows().map(Placed::place);
        let payloads = self.payloads.rows().map(Placed::place);
        requests
            .chain(attempts)
            .chain(control_changes)
            .chain(streams)
            .chain(states)
            .chain(routing_tables)
            .chain(corrections)
            .chain(payloads)
    }

    /// Streams that end in this batch.
    pub(crate) fn closed_streams(&self) -> impl Iterator<Item = StreamId> {
        let closed = self.streams.rows().filter(|row| row.event == "closed");
        closed.map(|row| row.stream.into())
    }
}

/// A row that can be told from all others, and belongs to a day.
pub(crate) trait Placed {
    fn place(&self) -> (StreamId, u64);
    /// Microseconds since 1970.
    fn ts(&self) -> i64;
}

macro_rules! placed {
    ($($row:ident)*) => {$(
        impl Placed for $row<'_> {
            fn place(&self) -> (StreamId, u64) {
                (Uuid::into(self.stream), self.seq)
            }

            fn ts(&self) -> i64 {
                self.ts
            }
        }
    )*};
}

placed!(RequestRow AttemptRow ControlRow StreamRow StateRow TableRow CorrectionRow PayloadRow);

/// What an insert is known by: its table, its first row, and how often the store has swallowed it.
///
/// Whoever stores a lane looks what is stored and begins with the first row that is not. So two
/// ingestors that both believe that they have a partition send inserts with the same token, the store
/// takes the first that comes, and the other finds that out when it verifies. The store may also know
/// a token whose rows a crash has taken with it, and drop the insert for ever after; then the next
/// has the next number, and again whoever comes to it finds the same number, as long as the store
/// remembers that token.
pub(crate) fn token<R: Placed>(table: &str, rows: &[R], swallows: &Swallows) -> String {
    let first = rows.first().map(Placed::place);
    let (stream, seq) = first.unwrap_or((StreamId::from_bytes([0; 16]), 0));
    let times = swallows.times((stream, seq));
    format!("{table}:{stream}:{seq}:{times}")
}

/// How often the store took an insert that begins with a row, and did not keep it.
#[derive(Debug, Default)]
pub(crate) struct Swallows {
    /// And when the last of them was sent.
    times: HashMap<(StreamId, u64), (u32, Instant)>,
    /// First rows of inserts that the store took since it was last asked, and when they were sent.
    taken: Vec<((StreamId, u64), Instant)>,
}

impl Swallows {
    /// What was swallowed long ago does not count: the store may know the token no more, and whoever
    /// else comes begins anew.
    fn times(&self, first: (StreamId, u64)) -> u32 {
        let times = self.times.get(&first);
        let recent = times.filter(|(_, sent)| sent.elapsed() <= KNOWLEDGE_MAX);
        recent.map_or(0, |(times, _)| *times)
    }

    pub(crate) fn took<R: Placed>(&mut self, rows: &[R], sent: Instant) {
        let first = rows.first().map(|row| (row.place(), sent));
        self.taken.extend(first);
    }

    /// Takes in what the store has, now that nothing is on its way any more.
    pub(crate) fn settle(&mut self, has: impl Fn((StreamId, u64)) -> bool) {
        let taken = std::mem::take(&mut self.taken);
        for (first, sent) in taken.into_iter().filter(|(first, _)| !has(*first)) {
            let times = self.times(first) + 1;
            self.times.insert(first, (times, sent));
        }
    }
}
