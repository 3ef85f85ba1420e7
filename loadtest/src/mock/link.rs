//! The connection under hyper, with the two faults that only a socket can have: a reset and a head that arrives in two parts.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// What a call may ask of its connection. Held by the connection and by the call being served on it.
#[derive(Debug, Default)]
pub(super) struct LinkFaults {
    reset: AtomicBool,
    slow_head_ms: AtomicU64,
    counted: AtomicBool,
}

impl LinkFaults {
    /// From now on nothing more is written, and closing sends RST.
    pub(super) fn reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    /// The next head is interrupted after its status code for so many milliseconds.
    pub(super) fn slow_head(&self, ms: u64) {
        self.slow_head_ms.store(ms, Ordering::Relaxed);
    }

    /// Whether this is the connection's first request of the provider's API.
    pub(super) fn first(&self) -> bool {
        !self.counted.swap(true, Ordering::Relaxed)
    }
}

/// A TCP stream as hyper wants it.
#[derive(Debug)]
pub(super) struct MockConnection {
    stream: TokioIo<TcpStream>,
    faults: Arc<LinkFaults>,
    pause: Option<Pin<Box<Sleep>>>,
}

/// `HTTP/1.1 200` and no more.
const HEAD_BEGINS_BYTES: usize = 12;

impl MockConnection {
    pub(super) fn new(stream: TcpStream, faults: Arc<LinkFaults>) -> Self {
        Self {
            stream: TokioIo::new(stream),
            faults,
            pause: None,
        }
    }

    /// Waits out a pause, if one is on.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        Poll::Ready(())
    }

    /// How much of the next write may go out now.
    fn allowance(&mut self) -> Option<usize> {
        let ms = self.faults.slow_head_ms.swap(0, Ordering::Relaxed);
        (ms > 0).then(|| {
            self.pause = Some(Box::pin(tokio::time::sleep(Duration::from_millis(ms))));
            HEAD_BEGINS_BYTES
        })
    }

    fn is_reset(&self) -> bool {
        self.faults.reset.load(Ordering::Relaxed)
    }
}

impl Drop for MockConnection {
    fn drop(&mut self) {
        if self.is_reset() {
            // Without it the caller sees an orderly end (FIN), which is another fault. On failure that is what it sees.
            let _ = self.stream.inner().set_zero_linger();
        }
    }
}

impl Read for MockConnection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, cursor)
    }
}

impl Write for MockConnection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_reset() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        ready!(self.poll_pause(cx));
        if let Some(allowance) = self.allowance() {
            let first = slices.first().map_or(&[][..], |slice| slice);
            let part = &first[..first.len().min(allowance)];
            return Pin::new(&mut self.stream).poll_write(cx, part);
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_reset() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
