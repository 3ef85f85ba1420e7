//! What gateways write, and what may be done to it on its way.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use weir_eventlog::{ChainHash, Position};
use weir_schemas::codec::{self, Encoder};
use weir_schemas::event::{
    ControlChanged, Event, EventsDropped, StreamClosed, StreamOpened, StreamSealed,
};
use weir_schemas::{Count, EventId, RequestId, StreamId};

use crate::batch::{EventRows, Partition};
use crate::hashes::{CHAINING, Hashed, StoredRow};

/// An event's stream and number.
pub(super) type Place = (usize, u64);

pub(super) const STREAMS_MAX: usize = 4;
pub(super) const EVENTS_MAX: u64 = 12;

/// This event's bytes are no event; that one's row is refused.
pub(super) const UNREADABLE: Place = (1, 5);
pub(super) const REFUSED: Place = (2, 4);

/// In each stream, every so many events one is a seal.
const SEAL_EVERY: [u64; STREAMS_MAX] = [5, 4, 3, 7];

pub(super) fn stream_id(index: usize) -> StreamId {
    StreamId::new(1_700_000_000_000, [u8::try_from(index).unwrap(); 10])
}

pub(super) fn index_of(stream: StreamId) -> usize {
    stream.as_bytes()[15].into()
}

/// Whether the event becomes no row.
pub(super) fn is_dead(place: Place) -> bool {
    place == UNREADABLE || place == REFUSED
}

/// The number of the seal that an event comes under.
pub(super) fn seal_of((at, seq): Place) -> u64 {
    (seq / SEAL_EVERY[at] + 1) * SEAL_EVERY[at]
}

/// By a clock that goes on over midnight, is set back by more than a year, and then put right.
pub(super) fn ts_us(seq: u64) -> u64 {
    const DAY_US: u64 = 86_400_000_000;
    let days = [400, 401, 0, 402];
    1_700_000_000_000_000 + days[usize::try_from(seq / 5).unwrap() % days.len()] * DAY_US
}

/// An event as it stands in the log.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) payload: Bytes,
    /// Its stream's chain after it, by its gateway.
    pub(super) chain: ChainHash,
    pub(super) fingerprint: u64,
    /// What is stored of it.
    pub(super) row: Option<StoredRow>,
}

pub(super) fn written(place: Place) -> Rc<Written> {
    thread_local! {
        static WRITTEN: RefCell<HashMap<Place, Rc<Written>>> = RefCell::default();
    }
    if let Some(known) = WRITTEN.with_borrow(|all| all.get(&place).cloned()) {
        return known;
    }
    let made = Rc::new(with_payload(place, payload(place)));
    WRITTEN.with_borrow_mut(|all| all.insert(place, Rc::clone(&made)));
    made
}

fn with_payload((at, seq): Place, payload: Bytes) -> Written {
    let mut chain = match seq {
        1 => (CHAINING.origin)(stream_id(at)),
        _ => written((at, seq - 1)).chain,
    };
    let fingerprint = (CHAINING.link)(&mut chain, seq, &payload);
    let row = row(&payload);
    Written {
        payload,
        chain,
        fingerprint,
        row,
    }
}

fn row(payload: &[u8]) -> Option<StoredRow> {
    let envelope = codec::decode(payload).ok()?;
    let mut rows = EventRows {
        hashed: Some(Hashed::default()),
        ..EventRows::default()
    };
    let position = Position::Kafka {
        topic: Arc::from("events"),
        partition: 0,
        offset: 0,
    };
    rows.push(Partition::of(&position), &envelope);
    rows.hashed?.rows.pop().map(|(_, row)| row)
}

fn payload((at, seq): Place) -> Bytes {
    if (at, seq) == UNREADABLE {
        return Bytes::from_static(b"no event");
    }
    if seq.is_multiple_of(SEAL_EVERY[at]) {
        return seal((at, seq));
    }
    encoded((at, seq), seq, ts_us(seq))
}

/// What a gateway's seal says: see `journal/seal.rs` in the event log.
fn seal((at, seq): Place) -> Bytes {
    let first = seq - SEAL_EVERY[at];
    let sealed = first.max(1)..seq;
    let fingerprints = sealed.clone().map(|seq| written((at, seq)).fingerprint);
    let fingerprints: Vec<u8> = fingerprints.flat_map(u64::to_le_bytes).collect();
    let chain = HEXLOWER.encode(&written((at, seq - 1)).chain);
    let event = Event::StreamSealed(StreamSealed {
        ts_us: ts_us(seq).into(),
        version: CHAINING.version.into(),
        first_seq: sealed.start.into(),
        last_seq: (seq - 1).into(),
        chain: &chain,
        fingerprints: &fingerprints,
        signature: None,
    });
    encode((at, seq), &event)
}

/// The event of one number under another, with a time.
fn encoded((at, seq): Place, number: u64, ts_us: u64) -> Bytes {
    let ts_us = Count::new(ts_us);
    let object_id = number.to_string();
    let event = match number % 4 {
        1 if number == 1 => Event::StreamOpened(StreamOpened {
            ts_us,
            instance: "here",
            process: "gateway",
            shard: 0,
            version: "1",
            seal_key: None,
        }),
        3 => Event::EventsDropped(EventsDropped {
            ts_us,
            since_us: ts_us,
            events: number.into(),
            reason: "journal_full",
        }),
        0 if number > EVENTS_MAX => Event::StreamClosed(StreamClosed {
            ts_us,
            reason: "recovered",
            torn_bytes: 0.into(),
        }),
        _ => Event::ControlChanged(ControlChanged {
            ts_us,
            change_id: RequestId::from_bytes([1; 16]),
            actor: "a",
            action: "create",
            object_kind: "key",
            object_id: &object_id,
            before: None,
            after: None,
        }),
    };
    encode((at, seq), &event)
}

fn encode((at, seq): Place, event: &Event<'_>) -> Bytes {
    let stream = stream_id(at);
    let mut bytes = Vec::new();
    Encoder::default().encode(EventId { stream, seq }, event, &mut bytes);
    Bytes::from(bytes)
}

/// What is done to an event between its gateway and the ingestors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tampering {
    pub(super) kind: TamperingKind,
    pub(super) place: Place,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum TamperingKind {
    Altered,
    Dropped,
    /// The event before it stands in its place.
    Doubled,
}

impl Tampering {
    /// The event as it comes out of the log then.
    pub(super) fn result(self) -> Option<Rc<Written>> {
        let (_, seq) = self.place;
        let payload = match self.kind {
            TamperingKind::Altered => encoded(self.place, seq, ts_us(seq) + 1),
            TamperingKind::Dropped => return None,
            TamperingKind::Doubled => encoded(self.place, seq - 1, ts_us(seq)),
        };
        Some(Rc::new(with_payload(self.place, payload)))
    }
}
