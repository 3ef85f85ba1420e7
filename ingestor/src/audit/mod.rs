//! The proof that nothing stored was changed, taken away or added to.
//!
//! Each stream's rows make a hash chain, in the order of their seqs, over the rows as they are
//! stored ([`hashes`](crate::hashes)). From time to time the pieces that are new since the last time become
//! leaves of a Merkle tree, whose root is signed with the installation's key and written down in the
//! tables and in a file beside them ([`checkpoint`], [`sign`]). [`verify()`] does all of it again and
//! names the first row that is not what it was.
//!
//! The proof rests on the key, and on a copy of the newest checkpoint that is held elsewhere: the log's
//! head is written to the operator's anchors ([`anchor`], [`note`]). Only a holder of the key and of
//! every copy can write a new history.

use std::path::PathBuf;
use std::time::Duration;

mod anchor;
mod anchoring;
mod book;
mod checkpoint;
mod gateway_keys;
mod note;
pub(crate) mod pieces;
mod progress;
mod seal;
mod sealed;
mod sign;
mod verify;

pub use anchor::{Anchor, AnchorError};
pub use anchoring::{Anchored, Anchoring};
pub use book::{EXPORT_FILE, ExportError, check_export};
pub use checkpoint::{AuditError, Checkpointer, Made};
pub use gateway_keys::GatewayKey;
pub use note::verifier_key;
pub(crate) use progress::SealProgress;
pub(crate) use seal::Sealer;
pub use sign::{GATEWAY_KEY_FILE, KEY_FILE, KeyError, SigningKey};
pub use verify::{
    AnchorSummary, AuditReport, Finding, FindingKind, Period, RowFault, Signer, verify,
};

/// How what is stored is sealed.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// Directory of the signing key and of the exported checkpoints.
    pub dir: PathBuf,
    pub every: Duration,
    /// Where the log's head is written to, and how often.
    pub anchors: Vec<Anchor>,
    pub anchor_every: Duration,
}

impl AuditOptions {
    /// A checkpoint a minute, and no anchor.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            every: Duration::from_secs(60),
            anchors: Vec::new(),
            anchor_every: Duration::from_secs(600),
        }
    }
}
