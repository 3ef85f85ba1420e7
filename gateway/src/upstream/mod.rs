//! Calls to providers: one request out, one answer back, over pooled HTTP/1.1 connections.
//!
//! The way through: [`Pool::call`] takes an idle [`Connection`] or opens one, sends the request and
//! waits for the head of the answer; the [`AnswerBody`] it returns is polled by whoever relays it,
//! and gives the connection back when the answer is complete.
//!
//! A connection has no task of its own. Its driver is polled by the request that uses it, so a
//! chunk goes from socket to socket without a hand-over between tasks; an idle connection is not
//! polled at all, and is looked at when it is taken again.

mod connection;
mod pool;
mod reach;
mod tls;

pub(crate) use connection::AnswerBody;
pub(crate) use pool::{Answer, Call, Pool};
pub(crate) use reach::{Proxy, Reach};
pub(crate) use tls::client_config;

use std::net::IpAddr;
use std::sync::Arc;

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

/// Why a provider gave no (complete) answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("resolve {host}: {source}")]
    Resolve {
        host: String,
        source: std::io::Error,
    },
    #[error(
        "{host} resolves to {address}, which is not public; if that is meant, set allow_private = true for the provider"
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
