//! A keep-alive HTTP/1.1 connection, driven by the request that uses it.
//!
//! hyper's client wants its connection polled beside each request; here that happens inside the request's own future, so no
//! chunk passes from task to task and a thousand connections cost a thousand small structs.
//!
//! It speaks plain HTTP to one address, follows no redirect, and never retries.

use std::future::{Future, poll_fn};
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, response};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Where requests go, resolved once.
#[derive(Clone, Debug)]
pub(crate) struct HttpTarget {
    addr: SocketAddr,
    headers: HeaderMap,
    path: String,
}

/// Why a URL, a key or a header cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("{url:?} is not a URL like http://127.0.0.1:8080/v1")]
    Url { url: String },
    #[error("{url:?} is not supported: only plain http:// is")]
    Scheme { url: String },
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        host: String,
        source: std::io::Error,
    },
    #[error("{host} has no address")]
    NoAddress { host: String },
    #[error("header {name:?} cannot be sent as it stands")]
    Header { name: String },
}

impl HttpTarget {
    /// `url` without a trailing slash is the base that paths are added to.
    pub(crate) fn new(
        url: &str,
        key: Option<&str>,
        headers: &[(String, String)],
    ) -> Result<Self, TargetError> {
        let unreadable = || TargetError::Url {
            url: url.to_owned(),
        };
        let uri: Uri = url.parse().map_err(|_| unreadable())?;
        if uri.scheme_str() != Some("http") {
            return Err(TargetError::Scheme {
                url: url.to_owned(),
            });
        }
        let authority = uri.authority().ok_or_else(unreadable)?;
        let host = authority.to_string();
        let name = authority.host().trim_matches(['[', ']']);
        let addr = match (name, authority.port_u16().unwrap_or(80)).to_socket_addrs() {
            Ok(mut all) => all.next().ok_or(TargetError::NoAddress { host })?,
            Err(source) => return Err(TargetError::Resolve { host, source }),
        };
        let mut map = HeaderMap::new();
        set(&mut map, HOST, authority.as_str())?;
        map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = key {
            set(&mut map, AUTHORIZATION, &format!("Bearer {key}"))?;
        }
        for (name, value) in headers {
            let name: HeaderName = name
                .parse()
                .map_err(|_| TargetError::Header { name: name.clone() })?;
            set(&mut map, name, value)?;
        }
        Ok(Self {
            addr,
            headers: map,
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// The same address with another key.
    pub(crate) fn with_key(&self, key: &str) -> Result<Self, TargetError> {
        let mut other = self.clone();
        set(&mut other.headers, AUTHORIZATION, &format!("Bearer {key}"))?;
        Ok(other)
    }

    /// A POST to the base with `path` added. The path is a constant of this crate, so it always forms a URI.
    pub(crate) fn post(&self, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        self.request(Method::POST, path, body)
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = Uri::try_from(format!("{}{path}", self.path)).unwrap_or_default();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<(), TargetError> {
    let mut value = HeaderValue::from_str(value).map_err(|_| TargetError::Header {
        name: name.to_string(),
    })?;
    value.set_sensitive(name == AUTHORIZATION);
    headers.insert(name, value);
    Ok(())
}

/// Why an exchange did not end as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// No connection.
    #[error("connect")]
    Connect,
    /// The connection ended before an answer began.
    #[error("closed without an answer")]
    Unanswered,
    /// The connection ended within the answer.
    #[error("cut short")]
    CutShort,
    #[error("timeout")]
    Timeout,
}

/// Why there is no answer to a [`get`].
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    #[error(transparent)]
    HttpTarget(#[from] TargetError),
    #[error("no answer ({0})")]
    Exchange(#[from] ExchangeError),
}

/// Asks for the page at a URL with a bearer token, on a connection of its own. Returns status and body.
pub async fn get(
    url: &str,
    token: Option<&str>,
    timeout: Duration,
) -> Result<(StatusCode, String), GetError> {
    let target = HttpTarget::new(url, token, &[])?;
    let mut answer = WholeAnswer::default();
    let mut slot = Slot::new(&target);
    let exchange = slot.exchange(target.request(Method::GET, "", Bytes::new()), &mut answer);
    let ended = tokio::time::timeout(timeout, exchange).await;
    ended.unwrap_or(Err(ExchangeError::Timeout))?;
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    Ok((answer.status, body))
}

/// Collects an answer.
#[derive(Default)]
struct WholeAnswer {
    status: StatusCode,
    body: Vec<u8>,
}

impl Listener for WholeAnswer {
    fn head(&mut self, head: &response::Parts, _now: Instant) {
        self.status = head.status;
    }

    fn data(&mut self, data: &[u8], _now: Instant) {
        self.body.extend_from_slice(data);
    }
}

/// Receives an answer as it arrives.
pub(crate) trait Listener {
    fn head(&mut self, head: &response::Parts, now: Instant);
    fn data(&mut self, data: &[u8], now: Instant);
}

/// An open connection.
#[derive(Debug)]
struct OpenConnection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Driver,
}

/// What moves its bytes.
#[derive(Debug)]
struct Driver {
    connection: Pin<Box<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>>,
    over: bool,
}

/// A place in the pool: a connection that is opened when needed and kept while it can be.
#[derive(Debug)]
pub(crate) struct Slot {
    addr: SocketAddr,
    open: Option<OpenConnection>,
    /// Connections opened so far.
    pub(crate) opened: u64,
}

impl Slot {
    pub(crate) fn new(target: &HttpTarget) -> Self {
        Self {
            addr: target.addr,
            open: None,
            opened: 0,
        }
    }

    /// Sends a request and listens to its answer to the end.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        listener: &mut impl Listener,
    ) -> Result<(), ExchangeError> {
        // Taken out, so that a future dropped half-way (a timeout) leaves no half-read connection behind.
        let mut connection = match self.kept().await {
            Some(open) => open,
            None => self.connect().await.map_err(|_| ExchangeError::Connect)?,
        };
        connection.exchange(request, listener).await?;
        self.open = Some(connection);
        Ok(())
    }

    async fn kept(&mut self) -> Option<OpenConnection> {
        let mut open = self.open.take()?;
        open.usable().await.then_some(open)
    }

    async fn connect(
        &mut self,
    ) -> Result<OpenConnection, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(self.addr).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        self.opened += 1;
        Ok(OpenConnection {
            sender,
            driver: Driver {
                connection: Box::pin(connection),
                over: false,
            },
        })
    }
}

impl OpenConnection {
    /// Whether it can take another request. Notices that the other side has closed it.
    async fn usable(&mut self) -> bool {
        poll_fn(|cx| {
            self.driver.poll(cx);
            Poll::Ready(!self.driver.over && !self.sender.is_closed())
        })
        .await
    }

    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        listener: &mut impl Listener,
    ) -> Result<(), ExchangeError> {
        let unanswered = |_| ExchangeError::Unanswered;
        let ready = self.driver.drive(self.sender.ready()).await;
        ready.map_err(unanswered)?;
        let answer = self.sender.send_request(request);
        let answer = self.driver.drive(answer).await.map_err(unanswered)?;
        let (head, mut body) = answer.into_parts();
        listener.head(&head, Instant::now());
        while let Some(frame) = self.driver.drive(body.frame()).await {
            let frame = frame.map_err(|_| ExchangeError::CutShort)?;
            if let Ok(data) = frame.into_data() {
                listener.data(&data, Instant::now());
            }
        }
        Ok(())
    }
}

impl Driver {
    /// Polls the connection beside `future`, which depends on it.
    async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            self.poll(cx);
            future.as_mut().poll(cx)
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) {
        // Its error reaches the request through the answer.
        if !self.over && self.connection.as_mut().poll(cx).is_ready() {
            self.over = true;
        }
    }
}
