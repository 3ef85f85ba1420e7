//! What all workers share, and what each has for itself.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use weir_eventlog::{Journal, JournalError, Parts, StreamWriter, TableLog};
use weir_governance::clock::Moment;
use weir_governance::control::ControlHandle;
use weir_governance::ledger::Ledger;
use weir_governance::thresholds::NotificationLog;

use crate::record::payload::Payloads;
use crate::record::telemetry::Telemetry;
use crate::record::unauthenticated::{KeyFault, KeyVerdict, UnauthenticatedCalls};
use crate::setup::config::GatewayConfig;
use crate::setup::routing_table::RoutingState;
use crate::upstream::Pool;

/// What all workers share.
#[derive(Debug)]
pub(crate) struct GatewayState {
    pub(crate) config: GatewayConfig,
    pub(crate) workers: usize,
    pub(crate) routing: Arc<RoutingState>,
    /// The routing tables, as the admin API reads and commands them.
    pub(crate) tables: Mutex<TableLog>,
    pub(crate) control: ControlHandle,
    pub(crate) ledger: Ledger,
    pub(crate) notified: Arc<NotificationLog>,
    pub(crate) journal: Journal,
    /// How the parts of this process fare.
    pub(crate) parts: Parts,
    pub(crate) telemetry: Telemetry,
    pub(crate) payloads: Arc<Payloads>,
    pub(crate) unauthenticated: UnauthenticatedCalls,
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
    pub(crate) drain_end: DrainEnd,
}

/// The end of the time that requests get to finish when the gateway stops.
#[derive(Debug, Default)]
pub(crate) struct DrainEnd {
    is_reached: AtomicBool,
    told: Notify,
}

impl DrainEnd {
    /// Makes every request of the worker end, in order.
    pub(crate) fn reach(&self) {
        self.is_reached.store(true, Ordering::Relaxed);
        self.told.notify_waiters();
    }

    /// Whether it is reached. Requests look whenever they are polled.
    pub(crate) fn is_reached(&self) -> bool {
        self.is_reached.load(Ordering::Relaxed)
    }

    /// Returns when it is reached.
    pub(crate) async fn told(&self) {
        self.told.notified().await;
    }
}

impl Worker {
    pub(crate) fn new(shared: Arc<GatewayState>, shard: u16) -> Result<Self, JournalError> {
        let stream = shared.journal.open_stream(shard)?;
        // Those of all workers together are as many as there are clients, at most.
        let idle_max = shared.config.connections_max / shared.workers.max(1);
        Ok(Self {
            pool: Arc::new(Pool::new(idle_max.max(1))),
            shared,
            stream,
            shadows: BackgroundTasks::default(),
            drains: BackgroundTasks::default(),
            drain_end: DrainEnd::default(),
        })
    }

    /// Judges a call without a valid key, and counts it.
    pub(crate) fn judge_unauthenticated(
        &self,
        client: IpAddr,
        fault: KeyFault,
        now: Moment,
        may_have_row: bool,
    ) -> KeyVerdict {
        let GatewayState {
            unauthenticated,
            telemetry,
            ..
        } = &*self.shared;
        unauthenticated.write_if_due(&self.stream, now.instant);
        let verdict = unauthenticated.judge(client, fault, now, may_have_row);
        telemetry.count_unauthenticated(fault, verdict);
        verdict
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
