//! A signed statement of all checkpoints so far, as others check it: a C2SP tlog-checkpoint in a signed
//! note. Pure.
//!
//! The log is RFC 6962's tree; its entries are the hashes of a signer's checkpoints, in order. Sources:
//! c2sp.org/tlog-checkpoint and c2sp.org/signed-note, November 2026.

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};

use super::sign::{SigningKey, is_signed_bytes};
use crate::hashes::chain::{Hash, hash};

/// Ed25519, in key ids.
const ALGORITHM: u8 = 1;
const SIGNATURE_MARK: &str = "\u{2014} ";
/// Digits of the public key that name the log.
const NAME_DIGITS: usize = 16;

/// The head of the tree over a signer's checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TreeHead {
    /// Number of the last checkpoint.
    pub(crate) size: u64,
    pub(crate) root: Hash,
}

/// Why a text is not a note of the signer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoteFault {
    #[error("it is no checkpoint note")]
    Malformed,
    #[error("it is not signed by the signer")]
    Unsigned,
}

/// Name of a signer's log, which is its key's name too. The signer is a public key in hex.
pub(crate) fn log_name(signer: &str) -> String {
    format!("weir/{}", signer.get(..NAME_DIGITS).unwrap_or(signer))
}

/// The key as programs for signed notes take it: `name+id+key`.
///
/// `None` if the signer is no key.
#[must_use]
pub fn verifier_key(signer: &str) -> Option<String> {
    let public = HEXLOWER_PERMISSIVE.decode(signer.as_bytes()).ok()?;
    let name = log_name(signer);
    let id = HEXLOWER.encode(&key_id(&name, &public));
    let key = BASE64.encode(&[&[ALGORITHM], public.as_slice()].concat());
    Some(format!("{name}+{id}+{key}"))
}

fn key_id(name: &str, public: &[u8]) -> [u8; 4] {
    let whole = hash(&[name.as_bytes(), b"\n", &[ALGORITHM], public]);
    [whole[0], whole[1], whole[2], whole[3]]
}

impl TreeHead {
    fn text(&self, name: &str) -> String {
        format!("{name}\n{}\n{}\n", self.size, BASE64.encode(&self.root))
    }

    pub(crate) fn sign(&self, key: &SigningKey) -> String {
        let name = log_name(&key.public());
        let text = self.text(&name);
        let id = key_id(&name, key.public_bytes());
        let signature = [&id, key.sign_bytes(text.as_bytes()).as_slice()].concat();
        format!(
            "{text}\n{SIGNATURE_MARK}{name} {}\n",
            BASE64.encode(&signature)
        )
    }

    /// Reads a note that the signer must have signed. Signatures of others are passed over.
    pub(crate) fn open(note: &str, signer: &str) -> Result<Self, NoteFault> {
        let (body, signatures) = note.split_once("\n\n").ok_or(NoteFault::Malformed)?;
        let mut lines = body.lines();
        let (Some(name), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err(NoteFault::Malformed);
        };
        let decoded = BASE64.decode(root.as_bytes()).ok();
        let root = decoded.and_then(|root| Hash::try_from(root).ok());
        let (Ok(size), Some(root)) = (size.parse(), root) else {
            return Err(NoteFault::Malformed);
        };
        let text = format!("{body}\n");
        let is_ours = |line: &str| is_signature(line, &text, name, signer);
        if name != log_name(signer) || !signatures.lines().any(is_ours) {
            return Err(NoteFault::Unsigned);
        }
        Ok(Self { size, root })
    }
}

fn is_signature(line: &str, text: &str, name: &str, signer: &str) -> bool {
    let Some((who, signature)) = line
        .strip_prefix(SIGNATURE_MARK)
        .and_then(|line| line.split_once(' '))
    else {
        return false;
    };
    let public = HEXLOWER_PERMISSIVE.decode(signer.as_bytes());
    let (Ok(public), Ok(signature)) = (public, BASE64.decode(signature.as_bytes())) else {
        return false;
    };
    let signed = signature.strip_prefix(&key_id(name, &public));
    who == name && signed.is_some_and(|signed| is_signed_bytes(&public, text.as_bytes(), signed))
}

/// RFC 6962's tree, as far as it is needed to add entries: the roots of its whole parts, largest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogTree {
    size: u64,
    peaks: Vec<Hash>,
}

impl LogTree {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn push(&mut self, entry: &Hash) {
        let mut node = hash(&[&[0], entry]);
        // As many whole parts end here as the size has ones at its end.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = hash(&[&[1], &left, &node]);
            }
        }
        self.peaks.push(node);
        self.size += 1;
    }

    pub(crate) fn head(&self) -> TreeHead {
        let mut peaks = self.peaks.iter().rev().copied();
        let last = peaks.next().unwrap_or_else(|| hash(&[]));
        TreeHead {
            size: self.size,
            root: peaks.fold(last, |right, left| hash(&[&[1], &left, &right])),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hashes::chain::merkle_root;

    fn key() -> (tempfile::TempDir, SigningKey) {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::load_or_create(dir.path()).unwrap();
        (dir, key)
    }

    #[test]
    fn the_tree_is_that_of_rfc_6962() {
        // The roots of Certificate Transparency's reference tests, whose entries have other lengths,
        // are covered by `an_outsiders_tool_verifies_what_is_anchored`.
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(HEXLOWER.encode(&LogTree::default().head().root), empty);
    }

    #[test]
    fn a_note_opens_for_its_signer_alone() {
        let ((_dir, key), (_other_dir, other)) = (key(), key());
        let head = TreeHead {
            size: 7,
            root: [9; 32],
        };
        let note = head.sign(&key);
        assert_eq!(TreeHead::open(&note, &key.public()).unwrap(), head);
        let fault = TreeHead::open(&note, &other.public()).unwrap_err();
        assert_eq!(fault, NoteFault::Unsigned);
        let larger = note.replacen("\n7\n", "\n8\n", 1);
        let fault = TreeHead::open(&larger, &key.public()).unwrap_err();
        assert_eq!(fault, NoteFault::Unsigned);
        // A witness may add its own signature.
        let witnessed = format!("{note}{SIGNATURE_MARK}witness.example AAAAAAAA\n");
        assert_eq!(TreeHead::open(&witnessed, &key.public()).unwrap(), head);
        assert_eq!(
            TreeHead::open("", &key.public()).unwrap_err(),
            NoteFault::Malformed
        );
    }

    proptest! {
        #[test]
        fn a_tree_that_grows_has_the_root_of_the_whole(
            entries in prop::collection::vec(any::<[u8; 32]>(), 0..70),
        ) {
            let mut tree = LogTree::default();
            entries.iter().for_each(|entry| tree.push(entry));
            let leaves: Vec<Hash> = entries.iter().map(|entry| hash(&[&[0], entry])).collect();
            let head = TreeHead { size: entries.len() as u64, root: merkle_root(&leaves) };
            prop_assert_eq!(tree.head(), head);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}", signer in "[0-9a-f]{0,70}") {
            let _ = TreeHead::open(&text, &signer);
            let _ = verifier_key(&signer);
        }
    }
}
