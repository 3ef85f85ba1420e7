//! Idle connections, kept per endpoint by each worker thread.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use parking_lot::Mutex;

use super::connection::{Connection, HttpExchange, SendError};
use super::{CallError, Endpoint};
use crate::caps::{IDLE_CONNECTIONS_MAX, IDLE_MAX};
use weir_governance::clock;

/// The idle connections of one worker thread. The lock is never contended: only that worker's
/// requests come here.
pub(crate) struct Pool {
    idle: Mutex<HashMap<u64, Vec<IdleConnection>>>,
    /// Idle connections, of all endpoints together.
    idle_max: usize,
}

struct IdleConnection {
    since: Instant,
    connection: Connection,
}

/// A connection that takes one request.
pub(crate) struct PooledConnection {
    connection: Connection,
    pool: Arc<Pool>,
    endpoint_id: u64,
    /// Time to connect; `None` if an idle connection is reused.
    connect_us: Option<u64>,
}

/// The head of an answer, and its body to be polled.
pub(crate) struct UpstreamAnswer {
    pub(crate) head: http::response::Parts,
    pub(crate) body: AnswerBody,
    /// Time to connect; `None` if an idle connection was reused.
    pub(crate) connect_us: Option<u64>,
}

impl Pool {
    pub(crate) fn new(idle_max: usize) -> Self {
        Self {
            idle: Mutex::default(),
            idle_max,
        }
    }

    /// Sends the request and waits for the head of the answer, for as long as it takes.
    pub(crate) async fn call(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        mut request: Request<Full<Bytes>>,
        connect_timeout_ms: u64,
    ) -> Result<UpstreamAnswer, CallError> {
        loop {
            let connection = self.connection(endpoint, connect_timeout_ms).await?;
            match connection.send(request).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => request = failed.unsent.ok_or(failed.error)?,
            }
        }
    }

    /// An idle connection, or a new one.
    pub(crate) async fn connection(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        timeout_ms: u64,
    ) -> Result<PooledConnection, CallError> {
        let (connection, connect_us) = match self.take(endpoint.id) {
            Some(idle) => (idle, None),
            None => {
                let started = clock::Moment::now();
                let opened = Connection::open(endpoint, timeout_ms).await?;
                (opened, Some(started.elapsed_us()))
            }
        };
        Ok(PooledConnection {
            connection,
            pool: self.clone(),
            endpoint_id: endpoint.id,
            connect_us,
        })
    }

    /// The connection that was used last, if it still works. Older ones in between are closed.
    fn take(&self, endpoint_id: u64) -> Option<Connection> {
        let mut idle = self.idle.lock();
        let connections = idle.get_mut(&endpoint_id)?;
        while let Some(mut candidate) = connections.pop() {
            if candidate.since.elapsed() > IDLE_MAX {
                // The ones below it have been idle for longer still.
                connections.clear();
                return None;
            }
            if candidate.connection.is_usable() {
                return Some(candidate.connection);
            }
        }
        None
    }

    fn put_back(&self, endpoint_id: u64, connection: Connection) {
        let mut idle = self.idle.lock();
        let all: usize = idle.values().map(Vec::len).sum();
        let connections = idle.entry(endpoint_id).or_default();
        if connections.len() < IDLE_CONNECTIONS_MAX && all < self.idle_max {
            connections.push(IdleConnection {
                since: clock::now(),
                connection,
            });
        }
    }

    /// Closes connections that were idle for too long, those of endpoints that are gone included.
    pub(crate) fn close_idle(&self) {
        self.idle.lock().retain(|_, connections| {
            connections.retain(|idle| idle.since.elapsed() <= IDLE_MAX);
            !connections.is_empty()
        });
    }
}

impl PooledConnection {
    /// Sends the request and waits for the head of the answer, for as long as it takes. The request comes
    /// back if the provider closed an idle connection in the very moment: it can go out on another one.
    pub(crate) async fn send(
        self,
        request: Request<Full<Bytes>>,
    ) -> Result<UpstreamAnswer, SendError> {
        let is_reused = self.connect_us.is_none();
        let sent = self.connection.send(request).await;
        let (head, exchange) = sent.map_err(|failed| SendError {
            unsent: failed.unsent.filter(|_| is_reused),
            ..failed
        })?;
        let body = AnswerBody {
            exchange: Some(exchange),
            pool: self.pool,
            endpoint_id: self.endpoint_id,
        };
        Ok(UpstreamAnswer {
            head,
            body,
            connect_us: self.connect_us,
        })
    }
}

/// The body of an answer. Dropping it before its end closes the connection, which tells the
/// provider to stop.
pub(crate) struct AnswerBody {
    exchange: Option<HttpExchange>,
    pool: Arc<Pool>,
    endpoint_id: u64,
}

impl AnswerBody {
    pub(crate) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, CallError>>> {
        let Some(exchange) = &mut self.exchange else {
            return Poll::Ready(None);
        };
        let polled = ready!(exchange.poll_data(cx));
        match &polled {
            Some(Ok(_)) => {}
            Some(Err(_)) => self.exchange = None,
            None => self.complete(),
        }
        Poll::Ready(polled)
    }

    /// Whether all of the body was read, as its length or framing says.
    pub(crate) fn is_end(&self) -> bool {
        let exchange = self.exchange.as_ref();
        exchange.is_none_or(HttpExchange::is_end)
    }

    /// Gives the connection back to the pool.
    fn complete(&mut self) {
        if let Some(connection) = self.exchange.take().and_then(HttpExchange::into_idle) {
            self.pool.put_back(self.endpoint_id, connection);
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        if self.is_end() {
            self.complete();
        }
    }
}
