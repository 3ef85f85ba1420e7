//! The least proxy that hyper makes: the baseline for CPU per request.
//!
//! It accepts, takes a kept connection to its one upstream from a pool, passes head and body on as they come, and knows nothing of
//! what passes through. `weir bench --compare` runs it beside the gateway: what the gateway costs more is what knowing costs.
//!
//! `cargo run --release -p weir-loadtest --example bare_proxy -- 127.0.0.1:8070 127.0.0.1:9001 [WORKERS]`
#![expect(clippy::print_stderr, reason = "it says there what it does")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{CONNECTION, HOST, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};

/// The gateway's allocator, so that the comparison is not one of allocators.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |name: &str| {
        arguments.next().ok_or_else(|| {
            format!("usage: bare_proxy LISTEN UPSTREAM [WORKERS]; {name} is missing")
        })
    };
    let listen: SocketAddr = next("LISTEN")?.parse()?;
    let upstream: SocketAddr = next("UPSTREAM")?.parse()?;
    let workers: usize = next("WORKERS").map_or(Ok(1), |text| text.parse())?;
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    eprintln!(
        "bare proxy on {} to {upstream}, {workers} workers",
        listener.local_addr()?
    );
    let threads: Vec<_> = (0..workers)
        .map(|_| {
            let listener = listener.try_clone()?;
            Ok(std::thread::spawn(move || work(listener, upstream)))
        })
        .collect::<Result<_, Failure>>()?;
    for thread in threads {
        thread.join().map_err(|_| "a worker panicked")??;
    }
    Ok(())
}

/// One worker: a thread, its runtime, its pool.
fn work(listener: std::net::TcpListener, upstream: SocketAddr) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async move {
        let listener = TcpListener::from_std(listener)?;
        let pool = Arc::new(Pool {
            upstream,
            host: HeaderValue::try_from(upstream.to_string())?,
            kept: Mutex::default(),
        });
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let pool = Arc::clone(&pool);
            let service = hyper::service::service_fn(move |request| {
                let pool = Arc::clone(&pool);
                async move { pool.forward(request).await }
            });
            // A connection's error ends that connection only.
            tokio::spawn(async move {
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    })
}

struct Pool {
    upstream: SocketAddr,
    host: HeaderValue,
    kept: Mutex<VecDeque<SendRequest<Incoming>>>,
}

impl Pool {
    async fn forward(&self, mut request: Request<Incoming>) -> Result<Response<Incoming>, String> {
        request.headers_mut().insert(HOST, self.host.clone());
        request.headers_mut().remove(CONNECTION);
        let mut sender = match self.take() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let mut response = sender.send_request(request).await.map_err(text)?;
        response.headers_mut().remove(CONNECTION);
        // Back at once; it is taken again only when its answer has been read to the end.
        self.kept.lock().push_back(sender);
        Ok(response)
    }

    /// A kept connection that is free.
    fn take(&self) -> Option<SendRequest<Incoming>> {
        let mut kept = self.kept.lock();
        for _ in 0..kept.len() {
            let sender = kept.pop_front()?;
            if sender.is_ready() {
                return Some(sender);
            }
            if !sender.is_closed() {
                kept.push_back(sender);
            }
        }
        None
    }

    async fn connect(&self) -> Result<SendRequest<Incoming>, String> {
        let stream = TcpStream::connect(self.upstream).await.map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(text)?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
