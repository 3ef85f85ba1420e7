//! Answers whose client has left, read to their end so that the provider says what they cost.
//!
//! Each runs in a task of its own, which polls the relay, or the call whose answer has not begun, as the
//! client would have, and throws away what comes. When too many are under way, when one takes too long,
//! or when the gateway stops, the call is given up as with `policy = "abort"`; the events are written
//! in every case.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Response;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use crate::request::relay::{Relay, Reply};
use crate::request::worker::{Shared, Worker};
use crate::setup::config::DisconnectPolicy;

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

/// A client that waits for an answer to begin.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    is_called: AtomicBool,
    has_left: AtomicBool,
}

impl Waiting {
    /// From here on somebody works for it.
    pub(crate) fn note_call(&self) {
        self.is_called.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Relaxed)
    }
}

/// Whether answers are read to their end without their client.
pub(crate) fn is_wanted(shared: &Shared) -> bool {
    shared.config.on_disconnect.policy == DisconnectPolicy::Drain
}

type Call = Pin<Box<dyn Future<Output = Response<Reply>> + Send>>;

/// A call with its client. Dropped before its answer has begun, it goes on alone.
pub(crate) struct Attended {
    call: Option<Call>,
    client: Arc<Waiting>,
    worker: Arc<Worker>,
}

impl Attended {
    pub(crate) fn new(
        worker: Arc<Worker>,
        client: Arc<Waiting>,
        call: impl Future<Output = Response<Reply>> + Send + 'static,
    ) -> Self {
        Self {
            call: Some(Box::pin(call)),
            client,
            worker,
        }
    }
}

impl Future for Attended {
    type Output = Response<Reply>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Reply>> {
        let Some(call) = &mut self.call else {
            return Poll::Pending;
        };
        let polled = call.as_mut().poll(cx);
        if polled.is_ready() {
            self.call = None;
        }
        polled
    }
}

impl Drop for Attended {
    /// This is how a client's leaving shows itself. What no provider was asked for ends with it.
    fn drop(&mut self) {
        let is_called = self.client.is_called.load(Ordering::Relaxed);
        let Some(call) = self.call.take_if(|_| is_called) else {
            return;
        };
        self.client.has_left.store(true, Ordering::Relaxed);
        read_on(&self.worker, async move {
            if let Some(relay) = call.await.into_body().into_relay() {
                to_its_end(relay).await;
            }
        });
    }
}

/// The client of an answer that has begun has left.
pub(crate) fn client_left(relay: Box<Relay>) {
    let worker = relay.worker().clone();
    read_on(&worker, to_its_end(relay));
}

async fn to_its_end(mut relay: Box<Relay>) {
    relay.client_left();
    while let Some(Ok(_)) = poll_fn(|cx| relay.poll(cx)).await {}
}

/// Reads on if that is configured and there is room. Gives the call up if not: dropping what is not at
/// its end writes its events.
fn read_on(worker: &Arc<Worker>, reading: impl Future<Output = ()> + Send + 'static) {
    let Some((place, runtime)) = room(worker) else {
        return;
    };
    let max = Duration::from_millis(worker.shared.config.on_disconnect.max_ms);
    let mut tasks = worker.drains.tasks.lock();
    while tasks.try_join_next().is_some() {}
    let drain = async move {
        let _ = tokio::time::timeout(max, reading).await;
        drop(place);
    };
    tasks.spawn_on(drain, &runtime);
}

fn room(worker: &Arc<Worker>) -> Option<(OwnedSemaphorePermit, Handle)> {
    let shared = &worker.shared;
    if !is_wanted(shared) || *shared.stopped.borrow() || std::thread::panicking() {
        return None;
    }
    let runtime = Handle::try_current().ok()?;
    let Ok(place) = shared.drains.clone().try_acquire_owned() else {
        shared.telemetry.metrics.drains_left_out.inc();
        return None;
    };
    Some((place, runtime))
}
