//! Edits to a body that leave every other byte as it was.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::caps;

/// A replacement for a range of a body. An empty range inserts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) at: Range<usize>,
    pub(crate) with: String,
}

impl Edit {
    pub(crate) fn new(at: Range<usize>, with: impl Into<String>) -> Self {
        Self {
            at,
            with: with.into(),
        }
    }

    pub(crate) fn insert(at: usize, with: impl Into<String>) -> Self {
        Self::new(at..at, with)
    }
}

/// A body in pieces, to be sent one after the other. Most bodies are one piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces(Vec<Bytes>);

impl Pieces {
    /// Bytes of all pieces together: the `content-length`.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    #[must_use]
    pub fn as_slice(&self) -> &[Bytes] {
        &self.0
    }

    /// All pieces as one buffer; copies unless there is just one.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        if let [only] = self.0.as_slice() {
            return only.clone();
        }
        self.0.concat().into()
    }
}

impl From<Bytes> for Pieces {
    fn from(body: Bytes) -> Self {
        Self(vec![body])
    }
}

impl IntoIterator for Pieces {
    type Item = Bytes;
    type IntoIter = std::vec::IntoIter<Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Applies edits to a body. One may lie inside of another, which then counts; their order does not matter.
pub(crate) fn splice(body: &Bytes, mut edits: Vec<Edit>) -> Pieces {
    if edits.is_empty() {
        return body.clone().into();
    }
    edits.sort_by_key(|edit| (edit.at.start, edit.at.end));
    // What stands in a part that is removed goes with it.
    edits.dedup_by(|next, kept| next.at.start < kept.at.end);
    if body.len() <= caps::COPIED_BODY_BYTES_MAX {
        copied(body, &edits)
    } else {
        shared(body, edits)
    }
}

/// Edits that remove entries of an object, or elements of an array, with their commas. `entries` are
/// all of them, in order.
pub(crate) fn remove(entries: &[Range<usize>], removed: &[bool]) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut from = 0;
    for run in removed.chunk_by(|a, b| a == b) {
        let until = from + run.len();
        if run[0] {
            let at = match (from.checked_sub(1), entries.get(until)) {
                (Some(before), _) => entries[before].end..entries[until - 1].end,
                (None, Some(after)) => entries[0].start..after.start,
                (None, None) => entries[0].start..entries[until - 1].end,
            };
            edits.push(Edit::new(at, ""));
        }
        from = until;
    }
    edits
}

fn copied(body: &Bytes, edits: &[Edit]) -> Pieces {
    let added: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let mut out = BytesMut::with_capacity(body.len() + added);
    let mut from = 0;
    for edit in edits {
        out.extend_from_slice(&body[from..edit.at.start]);
        out.extend_from_slice(edit.with.as_bytes());
        from = edit.at.end;
    }
    out.extend_from_slice(&body[from..]);
    out.freeze().into()
}

fn shared(body: &Bytes, edits: Vec<Edit>) -> Pieces {
    let mut pieces = Vec::with_capacity(2 * edits.len() + 1);
    let mut from = 0;
    for edit in edits {
        pieces.push(body.slice(from..edit.at.start));
        pieces.push(Bytes::from(edit.with));
        from = edit.at.end;
    }
    pieces.push(body.slice(from..));
    pieces.retain(|piece| !piece.is_empty());
    Pieces(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, edits: Vec<Edit>, expect: &str) {
        assert_eq!(
            splice(&Bytes::from(body.to_owned()), edits).to_bytes(),
            expect
        );
    }

    #[test]
    fn edits_replace_insert_and_remove_in_any_order() {
        check("abcdef", vec![], "abcdef");
        check(
            "abcdef",
            vec![
                Edit::new(4..5, "XYZ"),
                Edit::new(1..1, "-"),
                Edit::new(2..3, ""),
            ],
            "a-bdXYZf",
        );
        check(
            "abcdef",
            vec![Edit::new(0..0, "<"), Edit::new(6..6, ">")],
            "<abcdef>",
        );
    }

    #[test]
    fn entries_are_removed_with_their_commas() {
        let body = "{aa, bb ,cc,dd}";
        let entries = [1..3, 5..7, 9..11, 12..14];
        for mask in 0..16_u32 {
            let removed: Vec<bool> = (0..4).map(|bit| mask & (1 << bit) != 0).collect();
            let text = splice(&Bytes::from(body), remove(&entries, &removed)).to_bytes();
            let text = String::from_utf8(text.to_vec()).unwrap();
            let kept = ["aa", "bb", "cc", "dd"].into_iter().zip(&removed);
            let kept: Vec<&str> = kept
                .filter(|(_, gone)| !**gone)
                .map(|(name, _)| name)
                .collect();
            assert_eq!(
                text.replace(' ', ""),
                format!("{{{}}}", kept.join(",")),
                "{removed:?}"
            );
        }
    }

    #[test]
    fn a_large_body_is_shared_and_not_copied() {
        let body = Bytes::from(vec![b'x'; caps::COPIED_BODY_BYTES_MAX + 1]);
        let pieces = splice(&body, vec![Edit::new(10..12, "yyy")]);
        assert_eq!(pieces.len(), body.len() + 1);
        assert_eq!(pieces.as_slice()[2].as_ptr(), body[12..].as_ptr());
        assert_eq!(&pieces.to_bytes()[8..14], b"xxyyyx");
    }
}
