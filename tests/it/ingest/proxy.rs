//! A wire between ingestor and store that breaks when told to: after a request has gone through, and
//! before its answer has.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    cuts: Arc<AtomicU32>,
}

impl Proxy {
    pub(super) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicU32::new(0));
        let shared = cuts.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, to, shared.clone()));
            }
        });
        Self { address, cuts }
    }

    /// Lets the next answers to inserts not through.
    pub(super) fn cut(&self, answers: u32) {
        self.cuts.store(answers, Ordering::SeqCst);
    }

    pub(super) fn cuts_left(&self) -> u32 {
        self.cuts.load(Ordering::SeqCst)
    }
}

/// One connection, until either side ends it or an answer is cut off.
async fn relay(mut client: TcpStream, to: SocketAddr, cuts: Arc<AtomicU32>) {
    let Ok(mut server) = TcpStream::connect(to).await else {
        return;
    };
    let (mut from_client, mut from_server) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut is_insert = false;
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(length @ 1..) = read else { return };
                let bytes = &from_client[..length];
                if bytes.starts_with(b"POST ") || bytes.starts_with(b"GET ") {
                    is_insert = bytes.windows(6).any(|word| word == b"INSERT");
                }
                if server.write_all(bytes).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(length @ 1..) = read else { return };
                let cut = |left: u32| left.checked_sub(1);
                if is_insert && cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, cut).is_ok() {
                    return;
                }
                if client.write_all(&from_server[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
