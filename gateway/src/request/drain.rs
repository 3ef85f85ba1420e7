//! Answers whose client has left, read to their end so that the provider reports what they cost.
//!
//! Each runs in a task of its own, which reads the answer, or waits for the call whose answer has not
//! begun, as the client would have, and discards what comes. When too many are under way, when one takes
//! too long, or when the gateway stops, the call is given up as with `policy = "abort"`; the events are
//! written in every case.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Response;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use crate::request::worker::{GatewayState, Worker};
use crate::setup::config::DisconnectPolicy;

/// Whether a client still waits for an answer to begin.
#[derive(Debug, Default)]
pub(crate) struct ClientPresence {
    is_called: AtomicBool,
    has_left: AtomicBool,
}

impl ClientPresence {
    /// From here on a provider works for it.
    pub(crate) fn note_call(&self) {
        self.is_called.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Relaxed)
    }
}

/// Whether answers are read to their end without their client.
pub(crate) fn is_wanted(shared: &GatewayState) -> bool {
    shared.config.on_disconnect.policy == DisconnectPolicy::Drain
}

/// A response body that can be read to its end without its client.
pub(crate) trait Drain {
    fn drain(self) -> impl Future<Output = ()> + Send;
}

type BoxedCall<B> = Pin<Box<dyn Future<Output = Response<B>> + Send>>;

/// A call with its client. Dropped before its answer has begun, it goes on alone.
pub(crate) struct DetachOnDisconnect<B: Drain + Send + 'static> {
    call: Option<BoxedCall<B>>,
    client: Arc<ClientPresence>,
    worker: Arc<Worker>,
}

impl<B: Drain + Send + 'static> DetachOnDisconnect<B> {
    pub(crate) fn new(
        worker: Arc<Worker>,
        client: Arc<ClientPresence>,
        call: impl Future<Output = Response<B>> + Send + 'static,
    ) -> Self {
        Self {
            call: Some(Box::pin(call)),
            client,
            worker,
        }
    }
}

impl<B: Drain + Send + 'static> Future for DetachOnDisconnect<B> {
    type Output = Response<B>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<B>> {
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

impl<B: Drain + Send + 'static> Drop for DetachOnDisconnect<B> {
    /// The client has disconnected. A call that no provider was asked for ends with it.
    fn drop(&mut self) {
        let is_called = self.client.is_called.load(Ordering::Relaxed);
        let Some(call) = self.call.take_if(|_| is_called) else {
            return;
        };
        self.client.has_left.store(true, Ordering::Relaxed);
        read_on(&self.worker, async move {
            call.await.into_body().drain().await;
        });
    }
}

/// Reads on if that is configured and there is room. Gives the call up if not: dropping what is not at
/// its end writes its events.
pub(crate) fn read_on(worker: &Arc<Worker>, reading: impl Future<Output = ()> + Send + 'static) {
    let Some(place) = room(worker) else {
        return;
    };
    let max = Duration::from_millis(worker.shared.config.on_disconnect.max_ms);
    worker.drains.spawn(async move {
        let _ = tokio::time::timeout(max, reading).await;
        drop(place);
    });
}

fn room(worker: &Arc<Worker>) -> Option<OwnedSemaphorePermit> {
    let shared = &worker.shared;
    let is_running = Handle::try_current().is_ok() && !std::thread::panicking();
    if !is_wanted(shared) || *shared.stopped.borrow() || !is_running {
        return None;
    }
    let place = shared.drains.clone().try_acquire_owned();
    if place.is_err() {
        shared.telemetry.metrics.drains_left_out.inc();
    }
    place.ok()
}
