//! Making checkpoints.
//!
//! | killed | what is left | what the next one does |
//! | --- | --- | --- |
//! | before the leaves are stored | nothing | makes the checkpoint |
//! | between leaves and checkpoint | leaves of no checkpoint, which nothing reads | makes it, with leaves of its own |
//! | before the export | a checkpoint that the file lacks | appends it first |
//!
//! Which leaves it has say the [`pieces`](super::pieces).

use std::path::PathBuf;
use std::slice::from_ref;
use std::time::Duration;

use weir_store::{Store, StoreError};

use super::book::{CheckpointRow, ExportError, LeafRow, export, last_checkpoint};
use super::pieces::LeafMaker;
use super::progress::SealProgress;
use super::sign::{KeyError, SigningKey};
use crate::hashes::chain::merkle_root;

/// No checkpoint was made, or nothing can be verified.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error("checkpoints of version {0} were made by a later weir: verify them with that one")]
    LaterVersion(u8),
    #[error("checkpoint {0} is not in the tables: `weir audit verify` says more")]
    MissingCheckpoint(u64),
}

/// A checkpoint that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub number: u64,
    pub leaves: u64,
    pub events: u64,
}

/// Makes checkpoints of what is stored.
#[derive(Debug)]
pub struct Checkpointer {
    store: Store,
    dir: PathBuf,
    key: SigningKey,
    pieces: LeafMaker<Store>,
}

impl Checkpointer {
    /// `dir` holds the key, which is made if it is not there, and the export.
    pub fn open(store: Store, dir: impl Into<PathBuf>) -> Result<Self, AuditError> {
        Self::following(store, dir.into(), SealProgress::default())
    }

    pub(crate) fn following(
        store: Store,
        dir: PathBuf,
        progress: SealProgress,
    ) -> Result<Self, AuditError> {
        let key = SigningKey::load_or_create(&dir)?;
        Ok(Self {
            pieces: LeafMaker::new(store.clone(), progress),
            store,
            dir,
            key,
        })
    }

    /// Makes a checkpoint of what is new; None if nothing is.
    pub async fn make(&mut self, now: Duration) -> Result<Option<Made>, AuditError> {
        let signer = self.key.public();
        let last = last_checkpoint(&self.store, &signer).await?;
        if let Some(last) = &last {
            export(&self.dir, last)?;
        }
        let mut checkpoint = CheckpointRow {
            signer,
            number: last.as_ref().map_or(1, |last| last.number + 1),
            ts: i64::try_from(now.as_micros()).unwrap_or(i64::MAX),
            previous: last.map_or([0; 32], |last| last.hash),
            ..CheckpointRow::default()
        };
        let leaves = self.pieces.leaves(&checkpoint, now).await?;
        if leaves.is_empty() {
            return Ok(None);
        }
        checkpoint.leaves = leaves.len() as u64;
        checkpoint.root = merkle_root(&leaves.iter().map(LeafRow::hash).collect::<Vec<_>>());
        checkpoint.hash = checkpoint.hash_of_content();
        checkpoint.signature = self.key.sign(&checkpoint.hash);
        self.write(&checkpoint, &leaves).await?;
        self.pieces.sealed(&leaves);
        let fingerprints = leaves.iter().flat_map(|leaf| &leaf.fingerprints);
        Ok(Some(Made {
            number: checkpoint.number,
            leaves: checkpoint.leaves,
            events: fingerprints.filter(|it| **it != 0).count() as u64,
        }))
    }

    async fn write(
        &self,
        checkpoint: &CheckpointRow,
        leaves: &[LeafRow],
    ) -> Result<(), AuditError> {
        let CheckpointRow {
            signer, number, ts, ..
        } = checkpoint;
        let token = |what: &str| format!("{what}:{signer}:{number}:{ts}");
        self.store
            .insert::<LeafRow>("checkpoint_leaves", leaves, &token("leaves"))
            .await?;
        self.store
            .insert::<CheckpointRow>("checkpoints", from_ref(checkpoint), &token("head"))
            .await?;
        export(&self.dir, checkpoint)?;
        Ok(())
    }
}
