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
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<u64, Vec<IdleConnection>>>,
}

struct IdleConnection {
    since: Instant,
    connection: Connection,
}

/// The head of an answer, and its body to be polled.
pub(crate) struct UpstreamAnswer {
    pub(crate) head: http::response::Parts,
    pub(crate) body: AnswerBody,
    /// Time to connect; `None` if an idle connection was reused.
    pub(crate) connect_us: Option<u64>,
}

impl Pool {
    /// Sends the request and waits for the head of the answer, for as long as it takes.
    pub(crate) async fn call(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        mut request: Request<Full<Bytes>>,
        connect_timeout_ms: u64,
    ) -> Result<UpstreamAnswer, CallError> {
        let answer = |(head, exchange): (_, HttpExchange), connect_us| UpstreamAnswer {
            head,
            body: AnswerBody {
                exchange: Some(exchange),
                pool: self.clone(),
                endpoint_id: endpoint.id,
            },
            connect_us,
        };
        while let Some(connection) = self.take(endpoint.id) {
            match connection.send(request).await {
                Ok(sent) => return Ok(answer(sent, None)),
                // The provider closed it in the very moment; nothing was sent, so nothing is lost.
                Err(SendError {
                    unsent: Some(unsent),
                    ..
                }) => request = unsent,
                Err(failed) => return Err(failed.error),
            }
        }
        let started = clock::Moment::now();
        let connection = Connection::open(endpoint, connect_timeout_ms).await?;
        let connect_us = started.elapsed_us();
        let sent = connection.send(request).await;
        let sent = sent.map_err(|failed| failed.error)?;
        Ok(answer(sent, Some(connect_us)))
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
        let connections = idle.entry(endpoint_id).or_default();
        if connections.len() < IDLE_CONNECTIONS_MAX {
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
