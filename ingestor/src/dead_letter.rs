//! Records that cannot become rows: kept with where they stood and why.

use clickhouse::Row;
use serde::Deserialize;
use weir_eventlog::{LogRecord, Lost, Position, Rejected};
use weir_schemas::StreamId;

use crate::rows::DeadLetterRow;

/// What became of a record. One place in the log can have several: a record that cannot be read, and
/// word of events lost before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum DeadLetterKind {
    /// Events that were in the log and cannot be had any more.
    Lost,
    /// A message that is no record of the log.
    Rejected,
    /// A record that holds no event of its place.
    Unreadable,
    /// A row that the store does not take.
    Refused,
}

impl DeadLetterKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Rejected => "rejected",
            Self::Unreadable => "unreadable",
            Self::Refused => "refused",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct DeadLetter<'a> {
    pub(crate) kind: DeadLetterKind,
    pub(crate) position: Position,
    pub(crate) stream: Option<StreamId>,
    pub(crate) seq: Option<u64>,
    pub(crate) reason: String,
    pub(crate) payload: &'a [u8],
}

impl<'a> DeadLetter<'a> {
    pub(crate) fn of(record: &'a LogRecord, kind: DeadLetterKind, reason: String) -> Self {
        Self {
            kind,
            position: record.position.clone(),
            stream: Some(record.stream),
            seq: Some(record.seq),
            reason,
            payload: &record.payload,
        }
    }

    pub(crate) fn lost(lost: &'a Lost) -> Self {
        Self {
            kind: DeadLetterKind::Lost,
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

    pub(crate) fn rejected(rejected: &'a Rejected) -> Self {
        Self {
            kind: DeadLetterKind::Rejected,
            position: rejected.position.clone(),
            stream: None,
            seq: None,
            reason: rejected.reason.to_owned(),
            payload: &rejected.payload,
        }
    }

    /// Where it was read, and what became of it.
    pub(crate) fn place(&self) -> DeadLetterPlace {
        let (source, location, position) = match &self.position {
            Position::Journal {
                stream,
                segment,
                offset,
            } => ("journal", format!("{stream}/{segment:020}.seg"), *offset),
            Position::Kafka {
                topic,
                partition,
                offset,
            } => {
                let offset = u64::try_from(*offset).unwrap_or(0);
                ("kafka", format!("{topic}/{partition}"), offset)
            }
        };
        DeadLetterPlace {
            source: source.to_owned(),
            location,
            position,
            kind: self.kind.name().to_owned(),
        }
    }

    pub(crate) fn row(&'a self, place: &'a DeadLetterPlace, ts_us: i64) -> DeadLetterRow<'a> {
        DeadLetterRow {
            ts: ts_us,
            source: &place.source,
            location: &place.location,
            position: place.position,
            kind: &place.kind,
            stream: self.stream.map(|stream| stream.as_uuid()),
            seq: self.seq,
            reason: &self.reason,
            payload: self.payload,
        }
    }
}

/// A place in the log, as the table of dead letters names it, and what became of the record there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Row, Deserialize)]
pub(crate) struct DeadLetterPlace {
    pub(crate) source: String,
    pub(crate) location: String,
    pub(crate) position: u64,
    pub(crate) kind: String,
}

#[cfg(test)]
mod tests {
    use weir_eventlog::LossCause;

    use super::*;

    /// A gap in front of a record that cannot be read has the record's position.
    #[test]
    fn a_loss_and_a_bad_record_at_one_offset_are_two_letters() {
        let stream = StreamId::from_bytes([1; 16]);
        let position = Position::Journal {
            stream,
            segment: 1,
            offset: 40,
        };
        let lost = Lost {
            stream: Some(stream),
            first_seq: 1,
            events: 2,
            bytes: 0,
            position: position.clone(),
            cause: LossCause::Missing,
        };
        let record = LogRecord {
            stream,
            seq: 3,
            payload: vec![0].into(),
            position,
        };
        let unreadable = DeadLetter::of(&record, DeadLetterKind::Unreadable, "no event".to_owned());
        assert_ne!(DeadLetter::lost(&lost).place(), unreadable.place());
    }
}
