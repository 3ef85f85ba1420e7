//! One batch of the log, as rows of each table.

use std::collections::BTreeMap;

use uuid::Uuid;
use weir_eventlog::{Lost, Position, Record, Rejected, SourceBatch};
use weir_schemas::{Event, StreamId, codec};

use crate::rows::{AttemptRow, ControlRow, DeadLetterRow, RequestRow, StreamRow};

/// Rows of one batch, by table. They borrow their text from the batch's payloads.
#[derive(Debug, Default)]
pub(crate) struct Rows<'a> {
    pub(crate) requests: Vec<RequestRow<'a>>,
    pub(crate) attempts: Vec<AttemptRow<'a>>,
    pub(crate) control_changes: Vec<ControlRow<'a>>,
    pub(crate) streams: Vec<StreamRow<'a>>,
}

/// A record that cannot become a row.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetter<'a> {
    pub(crate) position: Position,
    pub(crate) stream: Option<StreamId>,
    pub(crate) seq: Option<u64>,
    pub(crate) reason: String,
    pub(crate) payload: &'a [u8],
}

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

/// Decodes the records that `wanted` lets through.
pub(crate) fn decode<'a>(
    batch: &'a SourceBatch,
    mut wanted: impl FnMut(&Record) -> bool,
) -> (Rows<'a>, Vec<DeadLetter<'a>>) {
    let mut rows = Rows::default();
    let mut dead: Vec<DeadLetter<'a>> = batch.lost.iter().map(DeadLetter::lost).collect();
    dead.extend(batch.rejected.iter().map(DeadLetter::rejected));
    for record in batch.records.iter().filter(|record| wanted(record)) {
        match codec::decode(&record.payload) {
            Ok(event) if event.stream() != record.stream || event.seq() != record.seq => {
                dead.push(DeadLetter::of(
                    record,
                    "the event says that it stands elsewhere".into(),
                ));
            }
            Ok(event) => rows.push(&event),
            Err(error) => dead.push(DeadLetter::of(record, error.to_string())),
        }
    }
    (rows, dead)
}

impl<'a> Rows<'a> {
    fn push(&mut self, event: &Event<'a>) {
        match event {
            Event::RequestFinished(event) => self.requests.push(RequestRow::new(event)),
            Event::AttemptFinished(event) => self.attempts.push(AttemptRow::new(event)),
            Event::ControlChanged(event) => self.control_changes.push(ControlRow::new(event)),
            Event::StreamOpened(event) => self.streams.push(StreamRow::opened(event)),
            Event::StreamClosed(event) => self.streams.push(StreamRow::closed(event)),
            Event::EventsDropped(event) => self.streams.push(StreamRow::dropped(event)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len() + self.attempts.len() + self.control_changes.len() + self.streams.len()
    }
}

impl<'a> DeadLetter<'a> {
    pub(crate) fn of(record: &'a Record, reason: String) -> Self {
        Self {
            position: record.position.clone(),
            stream: Some(record.stream),
            seq: Some(record.seq),
            reason,
            payload: &record.payload,
        }
    }

    fn lost(lost: &'a Lost) -> Self {
        Self {
            position: lost.position.clone(),
            stream: lost.stream,
            seq: Some(lost.first_seq),
            reason: format!(
                "lost: {} events, {} bytes ({})",
                lost.events,
                lost.bytes,
                lost.cause.name()
            ),
            payload: &[],
        }
    }

    fn rejected(rejected: &'a Rejected) -> Self {
        Self {
            position: rejected.position.clone(),
            stream: None,
            seq: None,
            reason: rejected.reason.to_owned(),
            payload: &rejected.payload,
        }
    }

    /// Where it was read: source, location, position.
    pub(crate) fn place(&self) -> (&'static str, String, u64) {
        match &self.position {
            Position::Journal {
                stream,
                segment,
                offset,
            } => ("journal", format!("{stream}/{segment:020}.seg"), *offset),
            Position::Kafka {
                topic,
                partition,
                offset,
            } => (
                "kafka",
                format!("{topic}/{partition}"),
                u64::try_from(*offset).unwrap_or(0),
            ),
        }
    }
}

/// A row that can be told from all others, and belongs to a day.
pub(crate) trait Placed {
    fn stream(&self) -> Uuid;
    fn seq(&self) -> u64;
    /// Microseconds since 1970.
    fn ts(&self) -> i64;
}

macro_rules! placed {
    ($($row:ident)*) => {$(
        impl Placed for $row<'_> {
            fn stream(&self) -> Uuid {
                self.stream
            }

            fn seq(&self) -> u64 {
                self.seq
            }

            fn ts(&self) -> i64 {
                self.ts
            }
        }
    )*};
}

placed!(RequestRow AttemptRow ControlRow StreamRow);

/// Splits rows by day, which is how the tables are partitioned: an insert into one partition is
/// stored whole or not at all.
pub(crate) fn by_day<R: Placed + Clone>(rows: &[R]) -> Vec<Vec<R>> {
    const US_PER_DAY: i64 = 24 * 60 * 60 * 1_000_000;
    let mut days: BTreeMap<i64, Vec<R>> = BTreeMap::new();
    for row in rows {
        days.entry(row.ts().div_euclid(US_PER_DAY))
            .or_default()
            .push(row.clone());
    }
    days.into_values().collect()
}

/// What an insert is known by: its table, and the place of every row in it. The same rows give the
/// same token, in this process and in the next.
pub(crate) fn token<R: Placed>(table: &str, rows: &[R]) -> String {
    use std::fmt::Write as _;
    let mut ranges: BTreeMap<Uuid, (u64, u64, usize)> = BTreeMap::new();
    for row in rows {
        let range = ranges
            .entry(row.stream())
            .or_insert_with(|| (row.seq(), row.seq(), 0));
        *range = (range.0.min(row.seq()), range.1.max(row.seq()), range.2 + 1);
    }
    let mut token = table.to_owned();
    for (stream, (first, last, rows)) in ranges {
        let _ = write!(token, ":{}:{first}-{last}:{rows}", stream.simple());
    }
    token
}

impl<'a> DeadLetterRow<'a> {
    pub(crate) fn new(letter: &'a DeadLetter<'a>, location: &'a str, ts_us: i64) -> Self {
        let (source, _, position) = letter.place();
        Self {
            ts: ts_us,
            source,
            location,
            position,
            stream: letter.stream.map(|stream| stream.as_uuid()),
            seq: letter.seq,
            reason: &letter.reason,
            payload: letter.payload,
        }
    }
}
