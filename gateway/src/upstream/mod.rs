//! Calls to providers: one request out, one answer back, over pooled HTTP/1.1 connections.
//!
//! The way through: [`Pool::call`] takes an idle [`connection::Connection`] or opens one, sends the request and
//! waits for the head of the answer; the [`AnswerBody`] it returns is polled by whoever relays it,
//! and gives the connection back when the answer is complete.
//!
//! A connection has no task of its own. Its driver is polled by the request that uses it, so a
//! chunk goes from socket to socket without a hand-over between tasks; an idle connection is not
//! polled at all, and is looked at when it is taken again.

mod connection;
mod content_decoder;
mod pool;
pub(crate) mod rate_limit_headers;
mod reach;
mod tls;

pub(crate) use connection::Connection;
pub(crate) use content_decoder::ContentDecoder;
pub(crate) use pool::{AnswerBody, Pool, UpstreamAnswer};
pub(crate) use reach::Reach;
use tls::{TlsError, client_config};

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::uri::Scheme;
use http::{HeaderValue, Uri};
use rustls::pki_types::ServerName;

/// Where a provider listens.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// Distinguishes endpoints in the pools; two configurations of one address do not share.
    pub(crate) id: u64,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) reach: Reach,
    pub(crate) tls: Option<EndpointTls>,
}

#[derive(Clone, Debug)]
pub(crate) struct EndpointTls {
    pub(crate) config: Arc<rustls::ClientConfig>,
    pub(crate) server_name: ServerName<'static>,
}

impl Endpoint {
    /// The place that a URL names, and the value of the `host` header there.
    pub(crate) fn at(
        uri: &Uri,
        ca_file: Option<&Path>,
        reach: Reach,
    ) -> Result<(Self, HeaderValue), BadEndpoint> {
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(BadEndpoint::Scheme);
        }
        let authority = uri.authority().ok_or(BadEndpoint::NoHost)?;
        if authority.as_str().contains('@') {
            return Err(BadEndpoint::Login);
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let (tls, default_port) = if uri.scheme() == Some(&Scheme::HTTPS) {
            let tls = EndpointTls {
                config: client_config(ca_file)?,
                server_name: ServerName::try_from(host.clone()).map_err(|_| BadEndpoint::Host)?,
            };
            (Some(tls), 443)
        } else {
            (None, 80)
        };
        let header = HeaderValue::from_str(authority.as_str()).map_err(|_| BadEndpoint::Host)?;
        let endpoint = Self {
            id: next_endpoint_id(),
            port: authority.port_u16().unwrap_or(default_port),
            host,
            reach,
            tls,
        };
        Ok((endpoint, header))
    }
}

/// Endpoints of different configurations never share connections.
fn next_endpoint_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A URL that names no place that can be called. Never shows it: it may be a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadEndpoint {
    #[error("it must begin with https:// or http://")]
    Scheme,
    #[error("the host is missing")]
    NoHost,
    #[error("it must not hold a user or password")]
    Login,
    #[error("the host is not valid")]
    Host,
    #[error(transparent)]
    Authorities(#[from] TlsError),
}

impl BadEndpoint {
    /// Which setting is wrong, where the URL is the setting `url`.
    pub(crate) fn setting(&self, url: &'static str) -> &'static str {
        match self {
            Self::Authorities(_) => "ca_file",
            _ => url,
        }
    }
}

/// Why a provider gave no (complete) answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("resolve {host}: {source}")]
    Resolve {
        host: String,
        source: std::io::Error,
    },
    #[error(
        "{host} resolves to {address}, which is not public; if that is meant, set allow_private = true for it"
    )]
    NotPublic { host: String, address: IpAddr },
    #[error("reach {host}:{port} through the proxy {proxy}: {source}")]
    Proxy {
        proxy: String,
        host: String,
        port: u16,
        source: std::io::Error,
    },
    #[error("connect to {host}:{port}: {source}")]
    Connect {
        host: String,
        port: u16,
        source: std::io::Error,
    },
    #[error("connect to {host}:{port}: no answer within {timeout_ms} ms")]
    ConnectTimeout {
        host: String,
        port: u16,
        timeout_ms: u64,
    },
    #[error("TLS handshake with {host}: {source}")]
    Tls {
        host: String,
        source: std::io::Error,
    },
    #[error("no answer within {timeout_ms} ms")]
    FirstByteTimeout { timeout_ms: u64 },
    #[error("the answer stalled for {timeout_ms} ms")]
    IdleTimeout { timeout_ms: u64 },
    #[error("the request took longer than {timeout_ms} ms")]
    TotalTimeout { timeout_ms: u64 },
    #[error("the connection broke: {0}")]
    Broken(#[source] hyper::Error),
    #[error("the connection closed before the answer was complete")]
    Closed,
}
