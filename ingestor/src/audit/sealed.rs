//! What was sealed of a stream, by its writer and by checkpoints. Pure.

use clickhouse::Row;
use data_encoding::HEXLOWER;
use serde::Deserialize;
use weir_schemas::StreamId;
use weir_schemas::event::StreamSealed;

use super::book::LeafRow;
use super::sign::is_signed;
use crate::caps::{REQUEST_MAX, SEALED_WITHIN_MAX};
use crate::hashes::StoredRow;
use crate::hashes::chain::{Hash, origin};

/// The table of what writers say that they wrote, and that of their streams' beginnings and ends.
pub(super) const SEALS: &str = "seals";
pub(super) const STREAMS: &str = "streams";

/// A piece of a stream as it was sealed, by its writer or by a checkpoint.
#[derive(Debug)]
pub(super) struct SealedPiece {
    pub(super) is_of_writer: bool,
    pub(super) version: u8,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    /// No event in it is older, and none is newer.
    pub(super) first_ts: i64,
    pub(super) last_ts: i64,
    /// None if the piece before was deleted by the retention.
    pub(super) chain_before: Option<Hash>,
    pub(super) chain_after: Hash,
    pub(super) fingerprints: Vec<u64>,
}

impl From<LeafRow> for SealedPiece {
    fn from(leaf: LeafRow) -> Self {
        Self {
            is_of_writer: false,
            version: leaf.version,
            first_seq: leaf.first_seq,
            last_seq: leaf.last_seq,
            first_ts: leaf.first_ts,
            last_ts: leaf.last_ts,
            chain_before: Some(leaf.chain_before),
            chain_after: leaf.chain_after,
            fingerprints: leaf.fingerprints,
        }
    }
}

/// One row of `weir.seals`.
#[derive(Debug, Row, Deserialize)]
pub(super) struct StoredSeal {
    pub(super) seq: u64,
    pub(super) ts: i64,
    version: u8,
    first_seq: u64,
    last_seq: u64,
    chain: String,
    pub(super) fingerprints: Vec<u64>,
    signature: String,
}

impl StoredSeal {
    /// Whether it is signed with a key; without one, whether it is not signed.
    pub(super) fn is_signed(&self, stream: StreamId, key: &str) -> bool {
        if key.is_empty() {
            return self.signature.is_empty();
        }
        let fingerprints = self.fingerprints.iter().flat_map(|it| it.to_le_bytes());
        let sealed = StreamSealed {
            ts_us: u64::try_from(self.ts).unwrap_or(0).into(),
            version: self.version.into(),
            first_seq: self.first_seq.into(),
            last_seq: self.last_seq.into(),
            chain: &self.chain,
            fingerprints: &fingerprints.collect::<Vec<_>>(),
            signature: None,
        };
        is_signed(key, &sealed.signed_message(stream), &self.signature)
    }

    /// None if its numbers cannot be what they say.
    pub(super) fn piece(
        &self,
        stream: StreamId,
        before: Option<&SealedPiece>,
    ) -> Option<SealedPiece> {
        let events = self.last_seq.checked_sub(self.first_seq)?.checked_add(1)?;
        let is_sound = self.first_seq > 0
            && self.last_seq < self.seq
            && events == self.fingerprints.len() as u64
            && before.is_none_or(|it| it.last_seq < self.first_seq);
        let written_since = before.map_or(self.ts, |it| it.last_ts.min(self.ts));
        let request_max = i64::try_from(REQUEST_MAX.as_micros()).unwrap_or(0);
        let begin = (self.first_seq == 1).then(|| origin(stream));
        is_sound.then_some(SealedPiece {
            is_of_writer: true,
            version: self.version,
            first_seq: self.first_seq,
            last_seq: self.last_seq,
            first_ts: written_since.saturating_sub(request_max),
            last_ts: self.ts,
            chain_before: before.map(|it| it.chain_after).or(begin),
            chain_after: HEXLOWER
                .decode(self.chain.as_bytes())
                .ok()?
                .try_into()
                .ok()?,
            fingerprints: self.fingerprints.clone(),
        })
    }
}

/// Events that their writer has sealed: ranges in order.
pub(super) struct SealedByWriter(Vec<(u64, u64)>);

impl SealedByWriter {
    pub(super) fn of(pieces: &[SealedPiece]) -> Self {
        let own = pieces.iter().filter(|piece| piece.is_of_writer);
        let mut ranges: Vec<_> = own.map(|it| (it.first_seq, it.last_seq)).collect();
        ranges.sort_unstable();
        Self(ranges)
    }

    pub(super) fn holds(&self, row: &StoredRow) -> bool {
        let before = self.0.partition_point(|(first, _)| *first <= row.seq);
        let is_held = before > 0 && row.seq <= self.0[before - 1].1;
        is_held || row.table == SEALS
    }
}

/// What is behind the last seal of a stream's writer.
#[derive(Debug)]
pub(super) struct UnsealedTail {
    sealed_seq: u64,
    /// What its writer wrote later is under another seal.
    sealed_by_us: i64,
    /// The first row that carries a later time.
    pub(super) late: Option<(u64, String)>,
}

impl UnsealedTail {
    pub(super) fn of(stream: StreamId, pieces: &[SealedPiece]) -> Self {
        let last = pieces.iter().filter(|piece| piece.is_of_writer);
        let last = last.max_by_key(|piece| piece.last_seq);
        let opened_us = i64::try_from(stream.opened_ms().saturating_mul(1000)).unwrap_or(0);
        let within = i64::try_from(SEALED_WITHIN_MAX.as_micros()).unwrap_or(0);
        Self {
            sealed_seq: last.map_or(0, |piece| piece.last_seq),
            sealed_by_us: last
                .map_or(opened_us, |it| it.last_ts)
                .saturating_add(within),
            late: None,
        }
    }

    pub(super) fn meet(&mut self, rows: &[StoredRow]) {
        let is_late = |row: &&StoredRow| {
            row.seq > self.sealed_seq
                && row.ts_us > self.sealed_by_us
                && row.table != SEALS
                && row.table != STREAMS
        };
        let late = rows.iter().find(is_late);
        let late = late.map(|row| (row.seq, row.table.clone().into_owned()));
        self.late = self.late.take().or(late);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::audit::SigningKey;

    static KEYS: LazyLock<[SigningKey; 2]> = LazyLock::new(|| {
        [(), ()].map(|()| SigningKey::of_gateway(tempfile::tempdir().unwrap().path()).unwrap())
    });

    fn stored(seal: &StreamSealed<'_>, signature: String) -> StoredSeal {
        let fingerprints = seal.fingerprints.chunks_exact(8);
        StoredSeal {
            seq: seal.last_seq.get() + 1,
            ts: i64::try_from(seal.ts_us.get()).unwrap(),
            version: u8::try_from(seal.version).unwrap(),
            first_seq: seal.first_seq.get(),
            last_seq: seal.last_seq.get(),
            chain: seal.chain.to_owned(),
            fingerprints: fingerprints
                .map(|it| u64::from_le_bytes(it.try_into().unwrap()))
                .collect(),
            signature,
        }
    }

    #[test]
    fn what_a_signature_is_over_stays_as_it_is() {
        let seal = StreamSealed {
            ts_us: 1_700_000_000_000_000.into(),
            version: 6,
            first_seq: 3.into(),
            last_seq: 4.into(),
            chain: "0a",
            fingerprints: b"12345678abcdefgh",
            signature: Some("not in it"),
        };
        let message = seal.signed_message(StreamId::from_bytes([9; 16]));
        let expected = "weir seal v1\n09090909-0909-0909-0909-090909090909\n\
                        1700000000000000\n6\n3\n4\n0a\n12345678abcdefgh";
        assert_eq!(message, expected.as_bytes());
    }

    proptest! {
        #[test]
        fn a_signature_is_of_one_seal_by_one_key(
            ts in 0..i64::MAX,
            version: u8,
            first in 1_u64..1 << 40,
            chain: Hash,
            rows in prop::collection::vec(any::<u64>(), 1..20),
            changed in 0..7,
            at in any::<prop::sample::Index>(),
        ) {
            let [key, other] = &*KEYS;
            let stream = StreamId::from_bytes([9; 16]);
            let fingerprints: Vec<u8> = rows.iter().flat_map(|it| it.to_le_bytes()).collect();
            let chain = HEXLOWER.encode(&chain);
            let seal = StreamSealed {
                ts_us: u64::try_from(ts).unwrap().into(),
                version: version.into(),
                first_seq: first.into(),
                last_seq: (first + rows.len() as u64 - 1).into(),
                chain: &chain,
                fingerprints: &fingerprints,
                signature: None,
            };
            let signature = key.sign(&seal.signed_message(stream));
            let mut row = stored(&seal, signature);
            prop_assert!(row.is_signed(stream, &key.public()));
            prop_assert!(!row.is_signed(StreamId::from_bytes([8; 16]), &key.public()));
            prop_assert!(!row.is_signed(stream, ""), "a stream that says it has no key");
            prop_assert!(!row.is_signed(stream, &other.public()));
            match changed {
                0 => row.ts ^= 1,
                1 => row.version ^= 1,
                2 => row.first_seq += 1,
                3 => row.last_seq += 1,
                4 => row.chain = row.chain.replacen(['0', '1', '2', '3', '4', '5', '6', '7'], "8", 1) + "0",
                5 => row.fingerprints[at.index(rows.len())] ^= 1,
                _ => row.signature.clear(),
            }
            prop_assert!(!row.is_signed(stream, &key.public()));
        }
    }
}
