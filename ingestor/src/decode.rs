//! From the log's bytes to rows that borrow from them.

use weir_eventlog::{Record, SourceBatch};
use weir_schemas::{Event, codec};

use crate::batch::{Lane, Rows};
use crate::dead_letter::{DeadLetter, Kind};

/// Decodes the records that `is_wanted` lets through. What is no event of its place is a dead letter;
/// so is what the source could not read.
pub(crate) fn decode<'a>(
    batch: &'a SourceBatch,
    mut is_wanted: impl FnMut(&Record) -> bool,
) -> (Rows<'a>, Vec<DeadLetter<'a>>) {
    let mut rows = Rows::default();
    let mut dead: Vec<DeadLetter<'a>> = batch.lost.iter().map(DeadLetter::lost).collect();
    dead.extend(batch.rejected.iter().map(DeadLetter::rejected));
    for record in batch.records.iter().filter(|record| is_wanted(record)) {
        match event(record) {
            Ok(event) => rows.push(Lane::of(&record.position), &event),
            Err(reason) => dead.push(DeadLetter::of(record, Kind::Unreadable, reason)),
        }
    }
    (rows, dead)
}

fn event(record: &Record) -> Result<Event<'_>, String> {
    let event = codec::decode(&record.payload).map_err(|error| error.to_string())?;
    if (event.stream(), event.seq()) == (record.stream, record.seq) {
        Ok(event)
    } else {
        let (stream, seq) = (event.stream(), event.seq());
        Err(format!(
            "the event says that it is {seq} of stream {stream}"
        ))
    }
}
