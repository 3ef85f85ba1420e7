//! The feedback loop: what was stored becomes the routing table that gateways use.
//!
//! Every few seconds: [`measure()`] the last minutes in the tables, let the [`TableController`] decide what
//! follows from it, publish. It runs beside the pipeline and never in its way; when the store is
//! away nothing is published, the table in force ages, and gateways forget it.
//!
//! [`TableController`]: weir_controller::TableController

mod measure;

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use weir_controller::Measurements;
use weir_eventlog::{PartHandle, TableLog, TableLogError};
use weir_schemas::table::TableRecord;
use weir_store::{Store, StoreError};

pub use measure::measure;

use crate::clock::now_us;

/// A table younger than this share of the pause is left alone: another ingestor has just made it.
const YOUNG: f64 = 0.7;

/// The loop, and what it needs.
#[derive(Debug)]
pub struct Feedback {
    pub store: Store,
    pub tables: TableLog,
    /// Pause between two tables.
    pub refresh: Duration,
    /// How far back is looked.
    pub window: Duration,
    /// The part of the process that it is.
    pub part: PartHandle,
}

/// Why there was no table this time.
#[derive(Debug, thiserror::Error)]
pub enum FeedbackError {
    #[error("measure the last minutes: {0}")]
    Measure(#[from] StoreError),
    #[error("publish a routing table: {0}")]
    Publish(#[from] TableLogError),
}

/// Publishes tables until stopped. Errors are waited out.
pub async fn run(feedback: &mut Feedback, mut stopped: watch::Receiver<bool>) {
    // The first one after a pause: there is nothing to be measured yet.
    let first = tokio::time::Instant::now() + feedback.refresh;
    let mut ticks = tokio::time::interval_at(first, feedback.refresh);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            // A dropped sender also means stop.
            _ = stopped.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => {}
        }
        let refreshed = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            refreshed = feedback.refresh() => refreshed,
        };
        // Logged once, not at every tick.
        match &refreshed {
            Err(error) => {
                feedback.part.failed(error);
                match failing {
                    false => {
                        tracing::warn!(%error, "there is no new routing table; the old one ages");
                    }
                    true => tracing::debug!(%error, "there is no new routing table"),
                }
            }
            Ok(()) => feedback.part.ok(),
        }
        failing = refreshed.is_err();
    }
}

impl Feedback {
    async fn refresh(&mut self) -> Result<(), FeedbackError> {
        self.tables.catch_up()?;
        let now_us = u64::try_from(now_us()).unwrap_or(0);
        if self.is_young(now_us) {
            return Ok(());
        }
        let versions = versions_to_compare(&self.tables);
        let measured = measure(&self.store, now_us, self.window, &versions).await?;
        self.publish(&measured, now_us)
    }

    fn is_young(&self, now_us: u64) -> bool {
        let in_force = self.tables.controller().in_force();
        let made_at_us = in_force.map_or(0, |table| table.made_at_us);
        let age = Duration::from_micros(now_us.saturating_sub(made_at_us));
        age < self.refresh.mul_f64(YOUNG)
    }

    fn publish(&mut self, measured: &Measurements, now_us: u64) -> Result<(), FeedbackError> {
        self.tables.change::<TableLogError>(|controller, policy| {
            let next = controller.refresh(measured, policy, now_us);
            if let Some(table) = &next {
                tracing::debug!(version = table.version, "publish a routing table");
            }
            Ok(next.map(TableRecord::Published).into_iter().collect())
        })?;
        Ok(())
    }
}

/// The table in force and the one before it: how did requests fare under each?
#[must_use]
pub fn versions_to_compare(tables: &TableLog) -> Vec<u64> {
    let in_force = tables.controller().in_force().map(|table| table.version);
    in_force
        .into_iter()
        .flat_map(|version| [version.saturating_sub(1), version])
        .collect()
}
