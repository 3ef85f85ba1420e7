//! A wire between ingestor and store that breaks when told to: after a request has gone through, and
//! before its answer has. Or that keeps an insert back, which to the store looks like a sender that was
//! stopped right before it sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    cuts: Arc<AtomicU32>,
    holding: watch::Sender<Holding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holding {
    Nothing,
    NextInsert,
    AnInsert,
}

impl Proxy {
    pub(super) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicU32::new(0));
        let shared = cuts.clone();
        let holding = watch::Sender::new(Holding::Nothing);
        let shared_holding = holding.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, to, shared.clone(), shared_holding.clone()));
            }
        });
        Self {
            address,
            cuts,
            holding,
        }
    }

    /// Lets the next answers to inserts not through.
    pub(super) fn cut(&self, answers: u32) {
        self.cuts.store(answers, Ordering::SeqCst);
    }

    /// Keeps the next insert back, with all that comes after it. Returns when it has come.
    pub(super) async fn hold_an_insert(&self) {
        self.holding.send_replace(Holding::NextInsert);
        let mut holding = self.holding.subscribe();
        let held = holding.wait_for(|holding| *holding == Holding::AnInsert);
        held.await.unwrap();
    }

    pub(super) fn let_go(&self) {
        self.holding.send_replace(Holding::Nothing);
    }

    pub(super) fn cuts_left(&self) -> u32 {
        self.cuts.load(Ordering::SeqCst)
    }
}

/// One connection, until either side ends it or an answer is cut off.
async fn relay(
    mut client: TcpStream,
    to: SocketAddr,
    cuts: Arc<AtomicU32>,
    holding: watch::Sender<Holding>,
) {
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
                if is_insert && *holding.borrow() != Holding::Nothing {
                    holding.send_replace(Holding::AnInsert);
                    let mut holding = holding.subscribe();
                    if holding.wait_for(|it| *it == Holding::Nothing).await.is_err() {
                        return;
                    }
                    // The store has long given up the connection that waited.
                    let Ok(fresh) = TcpStream::connect(to).await else {
                        return;
                    };
                    server = fresh;
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
