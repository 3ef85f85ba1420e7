//! Making checkpoints from time to time, beside the ingestor's work.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use weir_store::Store;

use super::AuditOptions;
use super::anchoring::Anchoring;
use super::checkpoint::{AuditError, Checkpointer};
use super::progress::SealProgress;
use crate::caps::LAST_SEAL_MAX;
use crate::clock::now;

#[derive(Debug)]
pub(crate) struct Sealer {
    checkpointer: Checkpointer,
    every: Duration,
    is_in_trouble: bool,
    anchoring: Anchoring,
    anchor_every: Duration,
    anchored_at: Option<Duration>,
}

impl Sealer {
    pub(crate) fn new(
        store: Store,
        options: AuditOptions,
        progress: SealProgress,
    ) -> Result<Self, AuditError> {
        let AuditOptions {
            dir,
            every,
            anchors,
            anchor_every,
        } = options;
        Ok(Self {
            anchoring: Anchoring::open(store.clone(), &dir, anchors)?,
            checkpointer: Checkpointer::following(store, dir, progress)?,
            every,
            is_in_trouble: false,
            anchor_every,
            anchored_at: None,
        })
    }

    /// May be dropped at any moment: a checkpoint that is not whole is made again.
    pub(crate) async fn seal_for_ever(&mut self) -> Infallible {
        loop {
            sleep(self.every).await;
            self.seal().await;
            self.anchor().await;
        }
    }

    /// Before the ingestor ends, if that does not take long.
    pub(crate) async fn seal_the_last(&mut self) {
        self.anchored_at = None;
        let last = async {
            self.seal().await;
            self.anchor().await;
        };
        if timeout(LAST_SEAL_MAX, last).await.is_err() {
            tracing::info!("the last events are sealed or anchored at the next start");
        }
    }

    /// Writes the log's head to the anchors, if that is due. What fails is tried again with the next
    /// checkpoint.
    async fn anchor(&mut self) {
        let now = now();
        let is_recent = |at| now.saturating_sub(at) < self.anchor_every;
        if self.anchored_at.is_some_and(is_recent) && !self.anchoring.is_in_trouble() {
            return;
        }
        self.anchored_at = Some(now);
        if let Err(error) = self.anchoring.write().await {
            tracing::warn!(%error, "failed to anchor the checkpoints; will retry");
        }
    }

    /// A failure is logged once. It loses nothing: the next checkpoint covers everything.
    async fn seal(&mut self) {
        let made = self.checkpointer.make(now()).await;
        match &made {
            Ok(Some(made)) => {
                tracing::debug!(number = made.number, events = made.events, "checkpoint");
            }
            Err(error) if !self.is_in_trouble => {
                tracing::warn!(%error, "no checkpoint was made; will retry");
            }
            Ok(None) | Err(_) => {}
        }
        self.is_in_trouble = made.is_err();
    }
}
