//! Answers whose client has left, read to their end so that the provider says what they cost.
//!
//! Each runs in a task of its own, which polls the relay as the client would have, and throws away
//! what comes. When too many are under way, when one takes too long, or when the gateway stops, the
//! call is given up as with `policy = "abort"`; the events are written in every case.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use crate::config::DisconnectPolicy;
use crate::pipeline::Worker;
use crate::relay::Relay;

/// The answers that one worker reads to their end.
#[derive(Debug, Default)]
pub(crate) struct Drains {
    tasks: Mutex<JoinSet<()>>,
}

impl Drains {
    /// Gives up what is under way. Each request writes its events.
    pub(crate) async fn stop(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
    }
}

/// The client has left. Reads on if that is configured and there is room; gives the call up if not.
pub(crate) fn client_left(mut relay: Box<Relay>) {
    let worker = relay.worker().clone();
    let Some((place, runtime)) = room(&worker) else {
        return;
    };
    let max = Duration::from_millis(worker.shared.config.on_disconnect.max_ms);
    let mut tasks = worker.drains.tasks.lock();
    while tasks.try_join_next().is_some() {}
    let drain = async move {
        relay.client_left();
        let to_its_end = async { while let Some(Ok(_)) = poll_fn(|cx| relay.poll(cx)).await {} };
        // Dropping a relay that is not at its end writes its events.
        let _ = tokio::time::timeout(max, to_its_end).await;
        drop((relay, place));
    };
    tasks.spawn_on(drain, &runtime);
}

fn room(worker: &Arc<Worker>) -> Option<(OwnedSemaphorePermit, Handle)> {
    let shared = &worker.shared;
    let is_wanted = shared.config.on_disconnect.policy == DisconnectPolicy::Drain
        && !*shared.stopped.borrow()
        && !std::thread::panicking();
    if !is_wanted {
        return None;
    }
    let runtime = Handle::try_current().ok()?;
    let Ok(place) = shared.drains.clone().try_acquire_owned() else {
        shared.telemetry.drains_left_out.inc();
        return None;
    };
    Some((place, runtime))
}
