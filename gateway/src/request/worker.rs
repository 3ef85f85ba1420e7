//! What all workers share, and what each has for itself.

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use weir_eventlog::{Journal, JournalError, Parts, StreamWriter};
use weir_governance::control::ControlHandle;
use weir_governance::ledger::Ledger;
use weir_governance::thresholds::NotificationLog;

use crate::record::payload::Payloads;
use crate::record::telemetry::Telemetry;
use crate::setup::config::GatewayConfig;
use crate::setup::routing_table::RoutingState;
use crate::upstream::Pool;

/// What all workers share.
#[derive(Debug)]
pub(crate) struct GatewayState {
    pub(crate) config: GatewayConfig,
    pub(crate) routing: Arc<RoutingState>,
    pub(crate) control: ControlHandle,
    pub(crate) ledger: Ledger,
    pub(crate) notified: Arc<NotificationLog>,
    pub(crate) journal: Journal,
    /// How the parts of this process fare.
    pub(crate) parts: Parts,
    pub(crate) telemetry: Telemetry,
    pub(crate) payloads: Arc<Payloads>,
    /// Places for connections.
    pub(crate) connections: Arc<Semaphore>,
    /// Places for answers that are read to their end without their client.
    pub(crate) drains: Arc<Semaphore>,
    /// Becomes true when the gateway is told to stop.
    pub(crate) stopped: watch::Receiver<bool>,
}

/// What one worker thread has for itself.
pub(crate) struct Worker {
    pub(crate) shared: Arc<GatewayState>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) stream: StreamWriter,
    pub(crate) shadows: BackgroundTasks,
    pub(crate) drains: BackgroundTasks,
}

impl Worker {
    pub(crate) fn new(shared: Arc<GatewayState>, shard: u16) -> Result<Self, JournalError> {
        let stream = shared.journal.open_stream(shard)?;
        Ok(Self {
            shared,
            pool: Arc::default(),
            stream,
            shadows: BackgroundTasks::default(),
            drains: BackgroundTasks::default(),
        })
    }
}

/// Tasks of a worker that outlive the connection they come from. Each writes its events when it ends
/// or is cut short.
#[derive(Debug, Default)]
pub(crate) struct BackgroundTasks {
    tasks: Mutex<JoinSet<()>>,
}

impl BackgroundTasks {
    pub(crate) fn len(&self) -> usize {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.len()
    }

    /// Must be called on the worker's runtime.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Cuts short what is under way.
    pub(crate) async fn stop(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
    }
}
