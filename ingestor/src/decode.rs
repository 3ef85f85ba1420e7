//! From the log's bytes to rows that borrow from them.

use std::collections::HashMap;

use weir_eventlog::{LogRecord, SourceBatch};
use weir_schemas::{Envelope, StreamId, codec};

use crate::batch::{EventRows, Partition};
use crate::dead_letter::{DeadLetter, DeadLetterKind};
use crate::hashes::Hashed;
use crate::stored::Stored;
use crate::tables::Refused;

/// Lets through the records of a batch that are still to be stored.
#[derive(Debug)]
pub(crate) struct Unstored<'a> {
    stored: &'a Stored,
    refused: &'a Refused,
    last_seqs: HashMap<StreamId, u64>,
    /// Records that were held back because they are stored.
    pub(crate) duplicates: usize,
}

impl<'a> Unstored<'a> {
    pub(crate) fn new(stored: &'a Stored, refused: &'a Refused) -> Self {
        Self {
            stored,
            refused,
            last_seqs: HashMap::new(),
            duplicates: 0,
        }
    }

    fn passes(&mut self, record: &LogRecord) -> bool {
        // A shipper that was killed sends again what was not acknowledged: the same events may be in
        // one batch twice.
        let last = self.last_seqs.entry(record.stream).or_default();
        let is_repeated = record.seq <= *last;
        *last = (*last).max(record.seq);
        let is_stored = is_repeated || self.stored.has(record.id());
        self.duplicates += usize::from(is_stored);
        !is_stored && !self.refused.contains_key(&record.id())
    }
}

/// Decodes the records that are still to be stored. A record that holds no event of its place is a
/// dead letter, and so is what the source could not read. Rows are hashed where `hashed` says so.
pub(crate) fn decode<'a>(
    batch: &'a SourceBatch,
    filter: &mut Unstored<'_>,
    hashed: Option<Hashed>,
) -> (EventRows<'a>, Vec<DeadLetter<'a>>) {
    let mut rows = EventRows {
        hashed,
        ..EventRows::default()
    };
    let mut dead: Vec<DeadLetter<'a>> = batch.lost.iter().map(DeadLetter::lost).collect();
    dead.extend(batch.rejected.iter().map(DeadLetter::rejected));
    for record in batch.records.iter().filter(|record| filter.passes(record)) {
        match decode_record(record) {
            Ok(envelope) => rows.push(Partition::of(&record.position), &envelope),
            Err(reason) => {
                dead.push(DeadLetter::of(record, DeadLetterKind::Unreadable, reason));
            }
        }
    }
    (rows, dead)
}

fn decode_record(record: &LogRecord) -> Result<Envelope<'_>, String> {
    let envelope = codec::decode(&record.payload).map_err(|error| error.to_string())?;
    if envelope.id == record.id() {
        return Ok(envelope);
    }
    let weir_schemas::EventId { stream, seq } = envelope.id;
    Err(format!(
        "the event says that it is {seq} of stream {stream}"
    ))
}
