//! One HTTP/1.1 connection to a provider, driven by the request that uses it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::{CallError, Endpoint};
use crate::caps::COALESCED_BYTES_MAX;

type ConnectionDriver = http1::Connection<TokioIo<Box<dyn ByteStream>>, Full<Bytes>>;

/// An open connection that has no answer under way.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Pin<Box<ConnectionDriver>>,
}

impl Connection {
    pub(crate) async fn open(endpoint: &Endpoint, timeout_ms: u64) -> Result<Self, CallError> {
        let timeout = Duration::from_millis(timeout_ms);
        match tokio::time::timeout(timeout, Self::open_unbounded(endpoint)).await {
            Ok(opened) => opened,
            Err(_) => Err(CallError::ConnectTimeout {
                host: endpoint.host.clone(),
                port: endpoint.port,
                timeout_ms,
            }),
        }
    }

    async fn open_unbounded(endpoint: &Endpoint) -> Result<Self, CallError> {
        let stream = endpoint.reach.open(endpoint).await?;
        let socket: Box<dyn ByteStream> = match &endpoint.tls {
            None => Box::new(stream),
            Some(tls) => {
                let connector = TlsConnector::from(tls.config.clone());
                let handshake = connector.connect(tls.server_name.clone(), stream).await;
                Box::new(handshake.map_err(|source| CallError::Tls {
                    host: endpoint.host.clone(),
                    source,
                })?)
            }
        };
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(COALESCED_BYTES_MAX)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(CallError::Broken)?;
        Ok(Self {
            sender,
            driver: Box::pin(driver),
        })
    }

    /// Whether an idle connection can take another request. Notices that the provider closed it.
    pub(crate) fn is_usable(&mut self) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        self.driver.as_mut().poll(&mut context).is_pending() && self.sender.is_ready()
    }

    /// Sends the request and waits for the head of the answer.
    ///
    /// The request comes back with the error when not a byte of it was sent, so that it can go out
    /// on another connection.
    pub(crate) async fn send(
        mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(http::response::Parts, HttpExchange), SendError> {
        let mut answer = std::pin::pin!(self.sender.try_send_request(request));
        let mut closed = false;
        let answered = std::future::poll_fn(|cx| {
            // The driver's own end matters only through the answer, which it completes.
            closed = closed || self.driver.as_mut().poll(cx).is_ready();
            answer.as_mut().poll(cx)
        })
        .await;
        match answered {
            Ok(response) => {
                let (head, body) = response.into_parts();
                let exchange = HttpExchange {
                    connection: self,
                    body,
                    closed,
                    ended: None,
                };
                Ok((head, exchange))
            }
            Err(mut error) => Err(SendError {
                unsent: error.take_message(),
                error: CallError::Broken(error.into_error()),
            }),
        }
    }
}

pub(crate) struct SendError {
    pub(crate) unsent: Option<Request<Full<Bytes>>>,
    pub(crate) error: CallError,
}

/// A connection with an answer under way.
pub(crate) struct HttpExchange {
    connection: Connection,
    body: Incoming,
    closed: bool,
    /// How the body ended, met while looking for more, and not told yet.
    ended: Option<Option<Result<Bytes, CallError>>>,
}

impl HttpExchange {
    /// The next piece of the body: whatever has arrived by now, as one.
    pub(super) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, CallError>>> {
        if let Some(ended) = self.ended.take() {
            return Poll::Ready(ended);
        }
        let Some(first) = ready!(self.poll_piece(cx)) else {
            return Poll::Ready(None);
        };
        let first = first?;
        let Some(second) = self.poll_more(cx) else {
            return Poll::Ready(Some(Ok(first)));
        };
        let mut joined = BytesMut::with_capacity(4 * (first.len() + second.len()));
        joined.extend_from_slice(&first);
        joined.extend_from_slice(&second);
        while joined.len() < COALESCED_BYTES_MAX {
            let Some(piece) = self.poll_more(cx) else {
                break;
            };
            joined.extend_from_slice(&piece);
        }
        Poll::Ready(Some(Ok(joined.freeze())))
    }

    /// A further piece, if it is here already. An error or the end is kept for the next poll.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Option<Bytes> {
        match self.poll_piece(cx) {
            Poll::Ready(Some(Ok(piece))) => Some(piece),
            Poll::Ready(ended) => {
                self.ended = Some(ended);
                None
            }
            Poll::Pending => None,
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CallError>>> {
        if let Poll::Ready(piece) = self.poll_received() {
            return Poll::Ready(piece);
        }
        self.closed = self.closed || self.connection.driver.as_mut().poll(cx).is_ready();
        match self.poll_received() {
            Poll::Pending if self.closed => Poll::Ready(Some(Err(CallError::Closed))),
            polled => polled,
        }
    }

    /// What the driver has handed over. Nobody needs to be woken for it: the driver runs only when
    /// this exchange polls it.
    fn poll_received(&mut self) -> Poll<Option<Result<Bytes, CallError>>> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(&mut context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(CallError::Broken(error)))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }

    /// Whether all of the body was read, as its length or framing says.
    pub(super) fn is_end(&self) -> bool {
        self.body.is_end_stream()
    }

    /// Lets the driver see the end of the answer, and says whether another request may follow.
    pub(super) fn into_idle(mut self) -> Option<Connection> {
        (!self.closed && self.connection.is_usable()).then_some(self.connection)
    }
}

/// A connection's bytes, plain or encrypted.
trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}
