//! Making checkpoints from time to time, beside the ingestor's work.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use weir_store::Store;

use super::AuditOptions;
use super::checkpoint::{AuditError, Checkpointer, SealProgress};
use crate::caps::LAST_SEAL_MAX;
use crate::clock::now;

#[derive(Debug)]
pub(crate) struct Sealer {
    checkpointer: Checkpointer,
    every: Duration,
    is_in_trouble: bool,
}

impl Sealer {
    pub(crate) fn new(
        store: Store,
        options: AuditOptions,
        progress: SealProgress,
    ) -> Result<Self, AuditError> {
        let AuditOptions { dir, every } = options;
        Ok(Self {
            checkpointer: Checkpointer::following(store, dir, progress)?,
            every,
            is_in_trouble: false,
        })
    }

    /// May be dropped at any moment: a checkpoint that is not whole is made again.
    pub(crate) async fn seal_for_ever(&mut self) -> Infallible {
        loop {
            sleep(self.every).await;
            self.seal().await;
        }
    }

    /// Before the ingestor ends, if that does not take long.
    pub(crate) async fn seal_the_last(&mut self) {
        if timeout(LAST_SEAL_MAX, self.seal()).await.is_err() {
            tracing::info!("the last events are sealed at the next start");
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
