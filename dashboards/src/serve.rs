//! Listens, and serves each connection: at most so many, none for free.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_SECURITY_POLICY, LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use weir_store::Store;

use crate::Console;
use crate::api::{self, PeerAddress};
use crate::caps::{ACCEPT_PAUSE, CONNECTIONS_MAX, HEAD_TIME_MAX, STOP_GRACE};
use crate::error::ConsoleError;
use crate::gateway::GatewayClient;

const SECURITY_HEADERS: [(HeaderName, &str); 5] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// How the console is run.
#[derive(Clone, Debug)]
pub struct ConsoleOptions {
    pub listen: SocketAddr,
    /// Where a gateway is: `http://127.0.0.1:8080`.
    pub gateway: String,
    /// What all paths begin with, if a proxy in front leaves it on them: `/weir`.
    pub path: String,
    pub session_hours: u32,
    /// Days that rows are kept; 0 for good.
    pub retention_days: u32,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleStartError {
    #[error("listen on {listen} for the console: {source}")]
    Listen {
        listen: SocketAddr,
        source: io::Error,
    },
    #[error("\"{0}\" is no URL of a gateway such as http://127.0.0.1:8080")]
    Gateway(String),
}

/// A console that has its port, and can be run.
pub struct ConsoleListener {
    listener: TcpListener,
    address: SocketAddr,
    console: Arc<Console>,
    path: Arc<str>,
}

impl std::fmt::Debug for ConsoleListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsoleListener")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl ConsoleListener {
    pub fn bind(options: &ConsoleOptions, store: Store) -> Result<Self, ConsoleStartError> {
        let gateway = GatewayClient::new(&options.gateway);
        let gateway = gateway.ok_or_else(|| ConsoleStartError::Gateway(options.gateway.clone()))?;
        let listen = options.listen;
        let listening = TcpListener::bind(listen).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (address, listener) =
            listening.map_err(|source| ConsoleStartError::Listen { listen, source })?;
        Ok(Self {
            listener,
            address,
            console: Console::new(options, gateway, store, address.port()),
            path: options.path.trim_end_matches('/').into(),
        })
    }

    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is stopped.
    pub async fn run(&self, mut stopped: watch::Receiver<bool>) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener.try_clone()?)?;
        let server = Server {
            router: api::routes().with_state(self.console.clone()),
            path: self.path.clone(),
            stopped: stopped.clone(),
        };
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection to the console");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Without a place, the connection is closed: what a browser sees is an error, not a wait.
            if let Ok(place) = places.clone().try_acquire_owned() {
                let server = server.clone();
                tokio::task::spawn(async move {
                    server.serve(stream, peer.ip()).await;
                    drop(place);
                });
            }
        }
        let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
        // Who is slower than that is cut off.
        _ = timeout(STOP_GRACE, places.acquire_many(all)).await;
        Ok(())
    }
}

/// What each connection needs.
#[derive(Clone)]
struct Server {
    router: Router,
    path: Arc<str>,
    stopped: watch::Receiver<bool>,
}

impl Server {
    async fn serve(mut self, stream: TcpStream, peer: IpAddr) {
        let (router, path) = (TowerToHyperService::new(self.router), self.path);
        let service = service_fn(move |request| {
            let (router, path) = (router.clone(), path.clone());
            async move { Ok::<_, Infallible>(answer(router, &path, peer, request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        // A browser that leaves is no error worth a word.
        let is_stopped = tokio::select! {
            _ = connection.as_mut() => false,
            _ = self.stopped.wait_for(|stop| *stop) => true,
        };
        if is_stopped {
            connection.as_mut().graceful_shutdown();
            _ = connection.await;
        }
    }
}

async fn answer(
    router: TowerToHyperService<Router>,
    path: &str,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Response {
    let mut response = match within(path, request.uri()) {
        Ok(uri) => {
            let mut request = request.map(Body::new);
            *request.uri_mut() = uri;
            request.extensions_mut().insert(PeerAddress(peer));
            let answered = hyper::service::Service::call(&router, request).await;
            answered.unwrap_or_else(|never| match never {})
        }
        Err(response) => *response,
    };
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A call's URI without the path that all calls begin with.
fn within(path: &str, uri: &Uri) -> Result<Uri, Box<Response>> {
    let rest = uri.path().strip_prefix(path).unwrap_or_default();
    if rest.is_empty() && uri.path() == path {
        let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
        let to = HeaderValue::try_from(format!("{path}/"));
        response.headers_mut().extend(to.map(|to| (LOCATION, to)));
        return Err(Box::new(response));
    }
    let query = uri.query().map(|query| format!("?{query}"));
    let rest = rest
        .starts_with('/')
        .then(|| format!("{rest}{}", query.unwrap_or_default()));
    let rest = rest.and_then(|rest| rest.parse::<PathAndQuery>().ok());
    rest.map(Uri::from).ok_or_else(|| {
        let message = format!("the console is at {path}/");
        Box::new(ConsoleError::not_found(message).into_response())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_in_front_is_taken_away() {
        let check = |path: &str, uri: &str, expected: Result<&str, u16>| {
            let found = within(path, &uri.parse().unwrap());
            let found = found.map(|uri| uri.to_string());
            let found = found.map_err(|response| response.status().as_u16());
            assert_eq!(found, expected.map(str::to_owned), "{path} {uri}");
        };
        check("", "/", Ok("/"));
        check("", "/api/session?a=b", Ok("/api/session?a=b"));
        check("/weir", "/weir/", Ok("/"));
        check("/weir", "/weir/api/x?y", Ok("/api/x?y"));
        check("/weir", "/weir", Err(308));
        check("/weir", "/weird/", Err(404));
        check("/weir", "/", Err(404));
    }
}
