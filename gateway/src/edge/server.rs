//! The listener and the worker threads.
//!
//! Every worker is a thread with a runtime, an upstream pool and an event stream of its own, so a
//! request never leaves the core it arrived on. All of them accept from one socket: whoever is
//! idle is first.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use weir_eventlog::{Journal, KafkaOptions, Parts, StoppableThread, TableLog};

use crate::caps::{DESCRIPTORS_RESERVED, LAST_WORDS_MAX};
use crate::edge::client_state::ClientConnections;
use crate::edge::connection::{AcceptedClient, ClientPlace, attend};
use crate::edge::upkeep;
use crate::edge::webhook::{self, WebhookError};
use crate::record::payload::Payloads;
use crate::record::telemetry::Telemetry;
use crate::record::unauthenticated::UnauthenticatedCalls;
use crate::request::worker::{GatewayState, Worker};
use crate::setup::config::GatewayConfig;
use crate::setup::directory::Directory;
use crate::setup::routing_table::{RoutingState, TableAdopter};
use weir_governance::clock::Moment;
use weir_governance::control::ControlHandle;
use weir_governance::ledger::{Ledger, LedgerError};
use weir_governance::peers;
use weir_governance::thresholds::NotificationLog;

/// Pause after the kernel refused a connection, for example because no file descriptor was free.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// How often idle upstream connections are looked through.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// Connections that the kernel holds for us while all workers are busy.
const BACKLOG: i32 = 1024;

/// What a gateway is made of.
#[derive(Debug)]
pub struct GatewayOptions {
    pub config: GatewayConfig,
    pub directory: Directory,
    pub control: ControlHandle,
    /// Where what is spent under budgets is kept.
    pub spend_dir: PathBuf,
    /// Topic over which gateways that share limits and budgets hear of each other.
    pub peers: Option<KafkaOptions>,
    pub journal: Journal,
    /// The routing tables, for the admin API.
    pub tables: TableLog,
    /// The parts of this process, to which it adds its own.
    pub parts: Parts,
    pub payloads: Payloads,
}

/// The gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("listen on {listen} ([gateway] listen): {source}")]
    Listen {
        listen: SocketAddr,
        source: io::Error,
    },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("open an event stream: {0}")]
    Stream(#[source] weir_eventlog::JournalError),
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    #[error("start a worker thread: {0}")]
    Thread(#[source] io::Error),
}

/// A running gateway. Dropping it tells the workers to stop, as [`GatewayHandle::shutdown`] does, without
/// waiting for them.
#[derive(Debug)]
pub struct GatewayHandle {
    addr: SocketAddr,
    shared: Arc<GatewayState>,
    stop: watch::Sender<bool>,
    upkeep: StoppableThread,
    webhook: Option<StoppableThread>,
    peers: Option<StoppableThread>,
    workers: Vec<JoinHandle<()>>,
}

/// Binds the listener and starts the workers.
pub fn start(options: GatewayOptions) -> Result<GatewayHandle, StartError> {
    let listen = options.config.listen;
    let failed = |source| StartError::Listen { listen, source };
    let listener = bind(listen).map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    let threads = options
        .config
        .threads
        .or_else(|| std::thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get);
    let (stop, stopped) = watch::channel(false);
    let ledger = Ledger::open(
        &options.spend_dir,
        options.journal.dir(),
        options.control.load().rules(),
        Moment::now().unix_us,
    )?;
    options.directory.warn_of_unknown_models(None);
    let drains_max = options.config.on_disconnect.max_concurrent;
    let drains_max = drains_max.min(Semaphore::MAX_PERMITS);
    let shared = Arc::new(GatewayState {
        ledger,
        notified: Arc::new(NotificationLog::open(&options.spend_dir)),
        connections: Arc::new(Semaphore::new(options.config.connections_max)),
        drains: Arc::new(Semaphore::new(drains_max)),
        routing: Arc::new(RoutingState::new(options.directory)),
        tables: Mutex::new(options.tables),
        control: options.control,
        telemetry: Telemetry::new(options.journal.clone(), options.payloads.held_bytes()),
        payloads: Arc::new(options.payloads),
        unauthenticated: UnauthenticatedCalls::new(options.config.unauthenticated),
        journal: options.journal,
        parts: options.parts,
        stopped,
        config: options.config,
        workers: threads,
    });
    // Before the first request: what others have spent counts for it, too.
    let peers = options
        .peers
        .map(|topic| {
            let instance = shared.ledger.instance().to_owned();
            peers::start(
                shared.control.clone(),
                shared.notified.clone(),
                topic,
                instance,
                shared.parts.add("peers"),
            )
        })
        .transpose()
        .map_err(StartError::Thread)?;
    let clients = Arc::new(ClientConnections::new());
    let mut workers = Vec::with_capacity(threads);
    for shard in (0..).take(threads) {
        let listener = listener.try_clone().map_err(StartError::Thread)?;
        let clients = clients.clone();
        let worker = Worker::new(shared.clone(), shard).map_err(StartError::Stream)?;
        let name = format!("gateway-{shard}");
        let part = shared.parts.add(&name);
        let stopped = shared.stopped.clone();
        let serve = move || run_worker(worker, clients, listener);
        let run = move || part.run_vital(serve, || *stopped.borrow());
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(run)
            .map_err(StartError::Thread)?;
        workers.push(thread);
    }
    let upkeep = upkeep::start(shared.clone()).map_err(StartError::Thread)?;
    let webhook = webhook::start(shared.clone())?;
    Ok(GatewayHandle {
        addr,
        upkeep,
        webhook,
        peers,
        shared,
        stop,
        workers,
    })
}

impl GatewayHandle {
    /// The address that clients call.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// For putting other providers and aliases in force while the gateway runs.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        Reloader {
            shared: self.shared.clone(),
        }
    }

    /// For following the routing tables.
    pub fn adopter(&self) -> Result<TableAdopter, StartError> {
        // The streams of the workers are 0, 1, 2 …
        let shard = u16::try_from(self.workers.len()).unwrap_or(u16::MAX);
        let stream = self.shared.journal.open_stream(shard);
        let stream = stream.map_err(StartError::Stream)?;
        Ok(TableAdopter::new(self.shared.routing.clone(), stream))
    }

    /// Stops accepting, lets requests in flight finish for `drain_timeout_ms`, closes the event
    /// streams. Blocks until all of it is done.
    pub fn shutdown(self) {
        self.stop.send_replace(true);
        for worker in self.workers {
            if worker.join().is_err() {
                tracing::error!("a gateway worker panicked");
            }
        }
        // What it said last, the other gateways must hear before this one is gone.
        drop(self.webhook);
        drop(self.peers);
        drop(self.upkeep);
    }
}

/// Puts other providers and aliases in force. Requests under way finish with the old ones.
#[derive(Clone, Debug)]
pub struct Reloader {
    shared: Arc<GatewayState>,
}

impl Reloader {
    /// What is in force, for building what comes next.
    #[must_use]
    pub fn directory(&self) -> Arc<Directory> {
        self.shared.routing.directory()
    }

    pub fn reload(&self, directory: Directory) {
        self.shared.routing.put_in_force(directory);
    }
}

/// How many connections a limit of file descriptors allows: each may have one at a provider, and idle ones
/// at providers are as many at most.
#[must_use]
pub fn connections_within(descriptors: u64) -> usize {
    let reserved = DESCRIPTORS_RESERVED.min(descriptors / 4);
    let connections = (descriptors - reserved) / 3;
    usize::try_from(connections).unwrap_or(usize::MAX).max(1)
}

fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(listen);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    // A restart must not wait for the old connections' last packets.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&listen.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn run_worker(worker: Worker, clients: Arc<ClientConnections>, listener: TcpListener) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(accept(Arc::new(worker), clients, listener)),
        Err(error) => tracing::error!(%error, "failed to start the runtime of a worker"),
    }
}

/// Accepts until told to stop, then waits for what is in flight and closes the event stream.
async fn accept(worker: Arc<Worker>, clients: Arc<ClientConnections>, listener: TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "failed to register the listener"),
    };
    let mut stopped = worker.shared.stopped.clone();
    let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
    let mut connections = JoinSet::new();
    while !*stopped.borrow() {
        tokio::select! {
            changed = stopped.changed() => if changed.is_err() {
                break;
            },
            _ = housekeeping.tick() => {
                worker.pool.close_idle();
                let calls = &worker.shared.unauthenticated;
                calls.write_if_due(&worker.stream, weir_governance::clock::now());
            }
            Some(_) = connections.join_next() => {}
            accepted = accept_one(&worker, &clients, &listener) => match accepted {
                Ok(client) => {
                    connections.spawn(attend(worker.clone(), clients.clone(), client));
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
        }
    }
    drop(listener);
    let drain = Duration::from_millis(worker.shared.config.drain_timeout_ms);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, drained).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "cut connections that did not finish"
        );
        // Each request ends with an error in its client's dialect.
        worker.drain_end.reach();
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WORDS_MAX, ended).await.is_err() {
            connections.shutdown().await;
        }
    }
    // Copies that nobody waits for are cut short; each has its event.
    worker.shadows.stop().await;
    worker.drains.stop().await;
    worker.shared.unauthenticated.write_rest(&worker.stream);
    if let Err(error) = worker.stream.close() {
        tracing::error!(%error, "failed to close the event stream");
    }
}

/// A connection, and its place. At the limit, one must be free for telling a newcomer so.
async fn accept_one(
    worker: &Worker,
    clients: &ClientConnections,
    listener: &tokio::net::TcpListener,
) -> io::Result<AcceptedClient> {
    let places = &worker.shared.connections;
    let newcomer = match places.available_permits() {
        0 => {
            let newcomer = clients.newcomers.clone().acquire_owned().await;
            Some(newcomer.map_err(io::Error::other)?)
        }
        _ => None,
    };
    let (socket, peer) = listener.accept().await?;
    let place = match (places.clone().try_acquire_owned(), newcomer) {
        (Ok(place), _) => ClientPlace::Served(place),
        (Err(_), Some(newcomer)) => ClientPlace::Newcomer(newcomer),
        (Err(full), None) => {
            let newcomer = clients.newcomers.clone().try_acquire_owned();
            ClientPlace::Newcomer(newcomer.map_err(|_| io::Error::other(full))?)
        }
    };
    socket.set_nodelay(true)?;
    give_up_on_silence(&socket, worker.shared.config.send_timeout_ms)?;
    Ok(AcceptedClient {
        socket,
        peer,
        place,
    })
}

/// A client that reads nothing holds its answer up, and with it a provider's connection and a place
/// among the calls at once. The kernel closes such a connection, which costs no timer here.
fn give_up_on_silence(stream: &TcpStream, timeout_ms: u64) -> io::Result<()> {
    let timeout = Duration::from_millis(timeout_ms);
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(timeout))
}
