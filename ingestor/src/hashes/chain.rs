//! Hashes of streams, and the tree over the leaves of a checkpoint. Pure.

use ring::digest::{Context, SHA256};
use weir_schemas::StreamId;

pub(crate) type Hash = [u8; 32];

pub(crate) fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// A stream's chain before its first event.
pub(crate) fn origin(stream: StreamId) -> Hash {
    hash(&[b"weir stream v1", stream.as_bytes()])
}

/// A stream's chain after one more event.
pub(crate) fn link(before: &Hash, seq: u64, row: &Hash) -> Hash {
    hash(&[before, &seq.to_le_bytes(), row])
}

/// What names a row that was changed. Never 0, which stands for no row.
pub(crate) fn fingerprint(row: &Hash) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&row[..8]);
    u64::from_le_bytes(first).max(1)
}

/// The Merkle root as RFC 6962 makes it: leaves and nodes are told apart by their first byte, and an
/// odd node goes up as it is.
pub(crate) fn merkle_root(leaves: &[Hash]) -> Hash {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        let up = level.chunks(2).map(|pair| match pair {
            [left, right] => hash(&[&[1], left, right]),
            rest => rest[0],
        });
        level = up.collect();
    }
    level.first().copied().unwrap_or_else(|| hash(&[]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaf(number: u8) -> Hash {
        [number; 32]
    }

    #[test]
    fn a_root_depends_on_every_leaf_and_on_their_order() {
        let leaves: Vec<Hash> = (0..7).map(leaf).collect();
        let root = merkle_root(&leaves);
        for changed in 0..7 {
            let mut other = leaves.clone();
            other[changed][5] ^= 1;
            assert_ne!(merkle_root(&other), root, "leaf {changed}");
            other = leaves.clone();
            other.remove(changed);
            assert_ne!(merkle_root(&other), root, "without leaf {changed}");
        }
        let mut swapped = leaves;
        swapped.swap(2, 3);
        assert_ne!(merkle_root(&swapped), root);
    }

    proptest! {
        #[test]
        fn a_chain_knows_its_rows_and_their_places(
            rows in prop::collection::vec(any::<[u8; 32]>(), 1..20),
            at in any::<prop::sample::Index>(),
        ) {
            let stream = StreamId::from_bytes([9; 16]);
            let chain = |rows: &[Hash]| {
                (1..).zip(rows).fold(origin(stream), |before, (seq, row)| link(&before, seq, row))
            };
            let mut edited = rows.clone();
            edited[at.index(rows.len())][0] ^= 1;
            prop_assert_ne!(chain(&edited), chain(&rows));
            let mut shorter = rows.clone();
            shorter.remove(at.index(rows.len()));
            prop_assert_ne!(chain(&shorter), chain(&rows));
        }
    }
}
