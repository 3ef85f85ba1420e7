//! A receiver of webhook posts.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use crate::http::serve;

/// Takes posts to `/hook?x=1`, answers them with these statuses in turn, then with 200, and hands on
/// each status and post.
pub fn receiver(statuses: &'static [u16]) -> (SocketAddr, Receiver<(u16, Value)>) {
    let (posted, posts) = channel();
    let count = AtomicUsize::new(0);
    let address = serve(move |request, stream| {
        let head = request.head.to_ascii_lowercase();
        assert!(head.starts_with("post /hook?x=1 http/1.1"), "{head}");
        assert!(head.contains("content-type: application/json"), "{head}");
        let turn = count.fetch_add(1, Ordering::Relaxed);
        let status = *statuses.get(turn).unwrap_or(&200);
        write!(
            stream,
            "HTTP/1.1 {status} Status\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )?;
        // The test may be over.
        let _ = posted.send((status, serde_json::from_str(&request.body).unwrap()));
        Ok(())
    });
    (address.unwrap(), posts)
}
