//! Pieces of a body, held until there are enough of them.

use bytes::{Bytes, BytesMut};

/// What was read so far. A single piece is kept as it is.
#[derive(Default)]
pub(crate) struct HeldPieces {
    first: Bytes,
    rest: BytesMut,
}

impl HeldPieces {
    pub(crate) fn add(&mut self, piece: Bytes) {
        if self.first.is_empty() {
            self.first = piece;
        } else {
            self.rest.extend_from_slice(&piece);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() {
            return self.first;
        }
        [&self.first[..], &self.rest[..]].concat().into()
    }
}
