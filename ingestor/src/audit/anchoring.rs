//! Writing the log's head to the anchors from time to time.

use std::path::Path;

use clickhouse::Row;
use serde::Deserialize;
use tokio::time::timeout;
use weir_store::Store;

use super::anchor::{Anchor, AnchorError};
use super::checkpoint::AuditError;
use super::note::LogTree;
use super::sign::SigningKey;
use crate::caps::{ANCHOR_WRITE_MAX, CHECKPOINTS_AT_ONCE};
use crate::hashes::chain::Hash;

/// Keeps the anchors' places up with the checkpoints.
#[derive(Debug)]
pub struct Anchoring {
    store: Store,
    key: SigningKey,
    /// Over the signer's checkpoints.
    tree: LogTree,
    places: Vec<AnchorProgress>,
}

#[derive(Debug)]
struct AnchorProgress {
    anchor: Anchor,
    /// Checkpoints under the newest note.
    size: u64,
    is_in_trouble: bool,
}

/// What became of one anchor's note.
#[derive(Debug)]
pub struct Anchored<'a> {
    pub url: &'a str,
    pub checkpoints: u64,
    pub result: Result<(), AnchorError>,
}

#[derive(Debug, Row, Deserialize)]
struct CheckpointHash {
    number: u64,
    hash: Hash,
}

impl Anchoring {
    /// `dir` holds the signing key.
    pub fn open(store: Store, dir: &Path, anchors: Vec<Anchor>) -> Result<Self, AuditError> {
        let progress = |anchor| AnchorProgress {
            anchor,
            size: 0,
            is_in_trouble: false,
        };
        Ok(Self {
            store,
            key: SigningKey::load_or_create(dir)?,
            tree: LogTree::default(),
            places: anchors.into_iter().map(progress).collect(),
        })
    }

    /// Writes a note to each place whose newest is older than the newest checkpoint.
    pub async fn write(&mut self) -> Result<Vec<Anchored<'_>>, AuditError> {
        if self.places.is_empty() {
            return Ok(Vec::new());
        }
        self.grow().await?;
        let head = self.tree.head();
        if head.size == 0 {
            return Ok(Vec::new());
        }
        let note = head.sign(&self.key);
        let name = format!("{}-{:010}", &self.key.public()[..16], head.size);
        let mut results = Vec::new();
        for place in &mut self.places {
            if place.size == head.size {
                continue;
            }
            let put = place.anchor.put(&name, note.clone());
            let result = match timeout(ANCHOR_WRITE_MAX, put).await {
                Ok(result) => result,
                Err(_) => Err(place.anchor.too_slow()),
            };
            place.note(head.size, &result);
            results.push(Anchored {
                url: place.anchor.url(),
                checkpoints: head.size,
                result,
            });
        }
        Ok(results)
    }

    /// Whether a note is still to be written again.
    pub(crate) fn is_in_trouble(&self) -> bool {
        self.places.iter().any(|place| place.is_in_trouble)
    }

    /// Takes checkpoints that were made since into the tree.
    async fn grow(&mut self) -> Result<(), AuditError> {
        loop {
            let sql = format!(
                "SELECT DISTINCT ?fields FROM checkpoints WHERE signer = ? AND number > ? \
                 ORDER BY number LIMIT {CHECKPOINTS_AT_ONCE}"
            );
            let query = self.store.query(&sql);
            let query = query.bind(self.key.public()).bind(self.tree.size());
            let some: Vec<CheckpointHash> = self.store.fetch(query).await?;
            for CheckpointHash { number, hash } in &some {
                if *number != self.tree.size() + 1 {
                    let missing = self.tree.size() + 1;
                    return Err(AuditError::MissingCheckpoint(missing));
                }
                self.tree.push(hash);
            }
            if some.len() < CHECKPOINTS_AT_ONCE {
                return Ok(());
            }
        }
    }
}

impl AnchorProgress {
    /// A failure is logged once. The next note covers what this one would have.
    fn note(&mut self, size: u64, result: &Result<(), AnchorError>) {
        match result {
            Ok(()) => {
                self.size = size;
                tracing::debug!(url = self.anchor.url(), size, "anchored");
            }
            Err(error) if !self.is_in_trouble => {
                tracing::warn!(%error, "failed to anchor the checkpoints; will retry");
            }
            Err(_) => {}
        }
        self.is_in_trouble = result.is_err();
    }
}
