//! Checkpoints as the tables hold them, and what must hold of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use weir_schemas::StreamId;

use super::gateway::{Place, is_dead, seal_of, stream_id, written};
use crate::audit::pieces::{ChainEnd, LeafRow};
use crate::hashes::StoredRow;
use crate::hashes::chain::{fingerprint, origin};

#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    leaves: Vec<LeafRow>,
    /// Signer and number of those that are whole. Leaves of others are not read.
    heads: BTreeSet<(String, u64)>,
}

impl Checkpoints {
    pub(super) fn add_leaves(&mut self, leaves: &[LeafRow]) {
        self.leaves.extend_from_slice(leaves);
    }

    pub(super) fn add_head(&mut self, signer: &str, number: u64) {
        self.heads.insert((signer.to_owned(), number));
    }

    fn of(&self, stream: StreamId) -> Vec<&LeafRow> {
        let is_whole = |leaf: &&LeafRow| self.heads.contains(&(leaf.signer.clone(), leaf.number));
        let of_stream = |leaf: &&LeafRow| leaf.stream == stream.as_uuid() && is_whole(leaf);
        let mut leaves: Vec<_> = self.leaves.iter().filter(of_stream).collect();
        leaves.sort_by_key(|leaf| (leaf.first_seq, leaf.last_seq));
        leaves
    }

    pub(super) fn end(&self, stream: StreamId) -> Option<ChainEnd> {
        let last = self.of(stream).into_iter().max_by_key(|it| it.last_seq)?;
        Some(ChainEnd {
            stream: last.stream,
            last_seq: last.last_seq,
            chain: last.chain_after,
        })
    }

    /// A stream's rows are sealed, each by its own hash, and nothing else is. Returns the events that are
    /// not what their gateway sealed.
    pub(super) fn check(&self, at: usize, rows: &[StoredRow]) -> BTreeSet<Place> {
        let sealed = self.sealed(at);
        let is_row = |(_, fingerprint): &(&u64, &u64)| **fingerprint != 0;
        let of_leaves: Vec<_> = sealed
            .iter()
            .filter(is_row)
            .map(|(a, b)| (*a, *b))
            .collect();
        let of_rows: Vec<_> = rows
            .iter()
            .map(|it| (it.seq, fingerprint(&it.hash)))
            .collect();
        assert_eq!(of_leaves, of_rows, "what is sealed of stream {at}");
        let last = sealed.keys().next_back().copied().unwrap_or_default();
        // A seal that is stored says what was written before it; itself comes under the next.
        let said = |seq: &u64| seal_of((at, *seq)) <= last && !is_dead((at, *seq));
        let is_other = |seq: &u64| sealed.get(seq) != Some(&written((at, *seq)).fingerprint);
        let other = (1..=last).filter(said).filter(is_other);
        other.map(|seq| (at, seq)).collect()
    }

    /// The fingerprints under leaves that follow each other, from a stream's beginning on.
    fn sealed(&self, at: usize) -> BTreeMap<u64, u64> {
        let mut ends = HashMap::from([(0, origin(stream_id(at)))]);
        let mut sealed = BTreeMap::new();
        for leaf in self.of(stream_id(at)) {
            let before = ends.get(&(leaf.first_seq - 1));
            assert_eq!(before, Some(&leaf.chain_before), "{leaf:?}");
            let end = ends.insert(leaf.last_seq, leaf.chain_after);
            assert!(end.is_none_or(|end| end == leaf.chain_after), "{leaf:?}");
            for (seq, fingerprint) in (leaf.first_seq..).zip(&leaf.fingerprints) {
                let other = sealed.insert(seq, *fingerprint);
                assert!(other.is_none_or(|other| other == *fingerprint), "{leaf:?}");
            }
        }
        sealed
    }
}
