//! One client's connection: served until it ends, and told why where it cannot be.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use weir_governance::clock::{self, Moment};
use weir_governance::control::network::Network;

use crate::caps::{
    CONNECTION_BUFFER_BYTES_MAX, FAREWELL_MAX, NEWCOMER_WAIT_MAX, REQUEST_HEADERS_MAX,
};
use crate::edge::client_state::{ClientBody, ClientConnections, ClientPhase, ClientState};
use crate::edge::client_stream::ClientStream;
use crate::edge::{dispatch, proxy_protocol};
use crate::request::pipeline;
use crate::request::refusal::Refusal;
use crate::request::worker::Worker;
use crate::setup::config::GatewayConfig;

/// A connection that was accepted.
pub(super) struct AcceptedClient {
    pub(super) socket: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) place: ClientPlace,
}

/// What an accepted connection holds.
pub(super) enum ClientPlace {
    /// One of the places for connections.
    Served(OwnedSemaphorePermit),
    /// There is none: one of the few places for being told so.
    Newcomer(OwnedSemaphorePermit),
}

/// Serves a connection, or tells it that there is no place.
pub(super) async fn attend(
    worker: Arc<Worker>,
    clients: Arc<ClientConnections>,
    client: AcceptedClient,
) {
    let AcceptedClient {
        mut socket,
        peer,
        place,
    } = client;
    let place = match place {
        ClientPlace::Served(place) => place,
        ClientPlace::Newcomer(_newcomer) => match wait_for_place(&worker, &clients).await {
            Some(place) => place,
            None => return turn_away(&worker, &clients, &mut socket).await,
        },
    };
    serve(worker, &clients, socket, peer, place).await;
}

/// Waits for the place of a connection that is idle, if there is one.
async fn wait_for_place(
    worker: &Worker,
    clients: &ClientConnections,
) -> Option<OwnedSemaphorePermit> {
    let places = worker.shared.connections.clone();
    if !clients.close_oldest_idle() {
        // One may have ended meanwhile: then it is no longer there to be idle.
        return places.try_acquire_owned().ok();
    }
    tokio::time::timeout(NEWCOMER_WAIT_MAX, places.acquire_owned())
        .await
        .ok()?
        .ok()
}

async fn turn_away(worker: &Worker, clients: &ClientConnections, socket: &mut TcpStream) {
    worker.shared.telemetry.metrics.connections_refused.inc();
    let connections_max = worker.shared.config.connections_max;
    if clients.may_warn() {
        tracing::warn!(
            connections_max,
            "refused a connection: all places are taken, and none is idle"
        );
    }
    // Its request says which dialect it speaks.
    let state = ClientState::new();
    let mut head = vec![0; 1024];
    let read = tokio::time::timeout(FAREWELL_MAX, socket.read(&mut head)).await;
    state.received(&head[..read.map_or(0, |read| read.unwrap_or(0))]);
    let refusal = Refusal::too_many_connections(connections_max);
    refuse(socket, &state, refusal).await;
}

async fn serve(
    worker: Arc<Worker>,
    clients: &Arc<ClientConnections>,
    mut socket: TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
) {
    let address = match peer_address(&worker.shared.config, &mut socket, peer.ip()).await {
        Ok(address) => address,
        Err(error) => return tracing::warn!(%error, %peer, "refused a connection"),
    };
    let state = Arc::new(ClientState::new());
    let _open = clients.add(&state);
    // Given back first: a newcomer finds the connection or its place.
    let _place = place;
    let service = service_fn(|request| {
        let under_way = state.begin();
        let answer = dispatch::answer(worker.clone(), address, request);
        async move {
            let response = answer.await?;
            Ok::<_, Infallible>(response.map(|body| ClientBody::new(body, under_way)))
        }
    });
    let stream = ClientStream {
        socket,
        state: state.clone(),
    };
    let mut connection = http1::Builder::new()
        // The state tells how long a connection may rest.
        .header_read_timeout(None)
        .max_headers(REQUEST_HEADERS_MAX)
        .max_buf_size(CONNECTION_BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut stopped = worker.shared.stopped.clone();
    let mut drain_end = pin!(worker.drain_end.told());
    let (mut is_leaving, mut is_over) = (false, false);
    let mut look = pin!(tokio::time::sleep(Duration::ZERO));
    let refusal = loop {
        let leaves = tokio::select! {
            served = Pin::new(&mut connection) => {
                if let Err(error) = served {
                    tracing::debug!(%error, %peer, "connection ended");
                }
                break state.refused().map(|status| unreadable(status, &state));
            }
            () = look.as_mut() => match next_look(&state, &worker.shared.config) {
                Ok(next) => {
                    look.as_mut().reset(next.into());
                    false
                }
                Err(refusal) if refusal.is_some() || is_leaving => break refusal,
                Err(_) => {
                    look.as_mut().reset((clock::now() + FAREWELL_MAX).into());
                    true
                }
            },
            // The requests look for themselves when they are polled, as they are now.
            () = drain_end.as_mut(), if !is_over => {
                is_over = true;
                false
            }
            _ = stopped.changed(), if !is_leaving => true,
            () = state.told_to_leave() => true,
        };
        if leaves && !is_leaving {
            is_leaving = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
    };
    if let Some(refusal) = refusal {
        let mut socket = connection.into_parts().io.into_inner().socket;
        refuse(&mut socket, &state, refusal).await;
    }
}

/// When to look at a connection again. If it rests for too long, what its client is told: nothing, if it
/// asks for nothing.
fn next_look(state: &ClientState, config: &GatewayConfig) -> Result<Instant, Option<Refusal>> {
    let head_max = Duration::from_millis(config.header_timeout_ms);
    let keep_alive_max = Duration::from_millis(config.keep_alive_timeout_ms);
    let idle_max = match state.has_asked() {
        true => keep_alive_max,
        false => head_max,
    };
    let now = clock::now();
    // Whatever begins in the meantime is not late before that.
    let next = now + head_max.min(keep_alive_max);
    let (phase, since) = state.phase();
    let late_at = match phase {
        ClientPhase::Busy => return Ok(next),
        ClientPhase::Head => since + head_max,
        ClientPhase::Idle => since + idle_max,
    };
    if now < late_at {
        return Ok(late_at.min(next));
    }
    let is_head = phase == ClientPhase::Head;
    Err(is_head.then(|| Refusal::head_timeout(config.header_timeout_ms)))
}

/// The address of whoever is behind the connection, as the proxy says it that is before them.
async fn peer_address(
    config: &GatewayConfig,
    stream: &mut TcpStream,
    peer: IpAddr,
) -> io::Result<IpAddr> {
    if !config.proxy_protocol {
        return Ok(peer);
    }
    let is_trusted = |network: &Network| network.contains(peer);
    if !config.trusted_proxies.iter().any(is_trusted) {
        return Err(io::Error::other(
            "it comes from none of [gateway] trusted_proxies",
        ));
    }
    let timeout = Duration::from_millis(config.header_timeout_ms);
    let read = tokio::time::timeout(timeout, proxy_protocol::read(stream));
    Ok(read.await??.unwrap_or(peer))
}

/// Why the HTTP library could not read a request.
fn unreadable(status: u16, state: &ClientState) -> Refusal {
    match status {
        431 if state.has_line() => Refusal::head_too_large(),
        414 | 431 => Refusal::uri_too_long(),
        _ => Refusal::no_http(),
    }
}

/// Writes a refusal to a connection that the HTTP library does not write to any more, and closes it.
async fn refuse(socket: &mut TcpStream, state: &ClientState, refusal: Refusal) {
    let id = pipeline::new_request_id(Moment::now());
    let answer = written(&refusal.response(state.family(), id));
    let farewell = async {
        socket.write_all(&answer).await?;
        socket.shutdown().await?;
        // Closed while bytes are unread, the kernel would take the answer back.
        let mut unread = vec![0; 16 * 1024];
        while socket.read(&mut unread).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // A client that does not wait for it has left.
    let _ = tokio::time::timeout(FAREWELL_MAX, farewell).await;
}

fn written(response: &Response<Bytes>) -> Vec<u8> {
    let (status, body) = (response.status(), response.body());
    let reason = status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in response.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    let end = format!(
        "content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    bytes.extend_from_slice(end.as_bytes());
    bytes.extend_from_slice(body);
    bytes
}
