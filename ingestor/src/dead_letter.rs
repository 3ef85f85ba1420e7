//! Records that cannot become rows: kept with where they stood and why.

use weir_eventlog::{Lost, Position, Record, Rejected};
use weir_schemas::StreamId;

use crate::rows::DeadLetterRow;

#[derive(Clone, Debug)]
pub(crate) struct DeadLetter<'a> {
    pub(crate) position: Position,
    pub(crate) stream: Option<StreamId>,
    pub(crate) seq: Option<u64>,
    pub(crate) reason: String,
    pub(crate) payload: &'a [u8],
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

    pub(crate) fn lost(lost: &'a Lost) -> Self {
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

    pub(crate) fn rejected(rejected: &'a Rejected) -> Self {
        Self {
            position: rejected.position.clone(),
            stream: None,
            seq: None,
            reason: rejected.reason.to_owned(),
            payload: &rejected.payload,
        }
    }

    /// Where it was read.
    pub(crate) fn place(&self) -> Place {
        match &self.position {
            Position::Journal {
                stream,
                segment,
                offset,
            } => Place {
                source: "journal",
                location: format!("{stream}/{segment:020}.seg"),
                position: *offset,
            },
            Position::Kafka {
                topic,
                partition,
                offset,
            } => Place {
                source: "kafka",
                location: format!("{topic}/{partition}"),
                position: u64::try_from(*offset).unwrap_or(0),
            },
        }
    }

    pub(crate) fn row(&'a self, place: &'a Place, ts_us: i64) -> DeadLetterRow<'a> {
        DeadLetterRow {
            ts: ts_us,
            source: place.source,
            location: &place.location,
            position: place.position,
            stream: self.stream.map(|stream| stream.as_uuid()),
            seq: self.seq,
            reason: &self.reason,
            payload: self.payload,
        }
    }
}

/// A place in the log, as the table of dead letters names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) source: &'static str,
    pub(crate) location: String,
    pub(crate) position: u64,
}
