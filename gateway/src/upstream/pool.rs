//! Idle connections, kept per endpoint by each worker thread.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use parking_lot::Mutex;

use super::connection::{AnswerBody, Connection, HttpExchange};
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

/// One call to a provider.
pub(crate) struct Call<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) request: Request<Full<Bytes>>,
    pub(crate) connect_timeout_ms: u64,
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
        call: Call<'_>,
    ) -> Result<UpstreamAnswer, CallError> {
        let mut request = call.request;
        while let Some(connection) = self.take(call.endpoint.id) {
            match connection.send(request).await {
                Ok((head, exchange)) => {
                    return Ok(self.answer(head, exchange, call.endpoint, None));
                }
                // The provider closed it in the very moment; nothing was sent, so nothing is lost.
                Err(failed) => match failed.unsent {
                    Some(unsent) => request = unsent,
                    None => return Err(failed.error),
                },
            }
        }
        let started = clock::Moment::now();
        let connection = Connection::open(call.endpoint, call.connect_timeout_ms).await?;
        let connect_us = started.elapsed_us();
        match connection.send(request).await {
            Ok((head, exchange)) => {
                Ok(self.answer(head, exchange, call.endpoint, Some(connect_us)))
            }
            Err(failed) => Err(failed.error),
        }
    }

    fn answer(
        self: &Arc<Self>,
        head: http::response::Parts,
        exchange: HttpExchange,
        endpoint: &Endpoint,
        connect_us: Option<u64>,
    ) -> UpstreamAnswer {
        let body = AnswerBody::new(exchange, self.clone(), endpoint.id);
        UpstreamAnswer {
            head,
            body,
            connect_us,
        }
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

    pub(super) fn put_back(&self, endpoint_id: u64, connection: Connection) {
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
