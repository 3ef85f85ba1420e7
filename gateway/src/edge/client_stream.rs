//! A client's socket, as the HTTP library reads and writes it.
//!
//! What the library cannot read it refuses by itself, with a head and no body. Such a head is kept back
//! here, so that the client gets an error in its own dialect.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::edge::client_state::ClientState;

pub(super) struct ClientStream {
    pub(super) socket: TcpStream,
    pub(super) state: Arc<ClientState>,
}

impl ClientStream {
    /// Keeps back what the HTTP library writes by itself.
    fn keeps_back(&self, bytes: &[u8]) -> bool {
        if self.state.refused().is_some() {
            return true;
        }
        let status = match self.state.is_busy() {
            true => None,
            false => bare_refusal(bytes),
        };
        if let Some(status) = status {
            self.state.note_refused(status);
        }
        status.is_some()
    }
}

/// The status of a refusal without a body. The gateway's own all have one.
fn bare_refusal(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?.get(1..)?;
    let (status, code) = match rest.strip_prefix(b" ")?.get(..3)? {
        b"400" => (400, &rest[4..]),
        b"414" => (414, &rest[4..]),
        b"431" => (431, &rest[4..]),
        _ => return None,
    };
    let is_bare = memchr::memmem::find(code, b"\r\ncontent-length: 0\r\n").is_some();
    (is_bare && code.ends_with(b"\r\n\r\n")).then_some(status)
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        let read = &buffer.filled()[before..];
        if !read.is_empty() {
            self.state.received(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.keeps_back(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.first().is_some_and(|first| self.keeps_back(first)) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Leaves the socket open where a refusal is still to be written.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.state.refused().is_some() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_head_without_a_body_is_a_bare_refusal() {
        let bare =
            "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        assert_eq!(bare_refusal(bare.as_bytes()), Some(431));
        assert_eq!(
            bare_refusal(
                b"HTTP/1.0 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            ),
            Some(400)
        );
        for other in [
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 9\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "{\"a\":\"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 4",
            "",
        ] {
            assert_eq!(bare_refusal(other.as_bytes()), None, "{other}");
        }
    }
}
