//! The parts of a running Weir, each started from the configuration and stopped in order.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use weir_console::{ConsoleListener, ConsoleStartError};
use weir_eventlog::{
    Journal, JournalSource, KafkaSource, PartHandle, Parts, Shipper, ShipperOptions, Source,
    StopSignal, StoppableThread,
};
use weir_gateway::config::GatewayConfig;
use weir_gateway::{GatewayHandle, GatewayOptions, StartError, connections_within};
use weir_governance::control::ControlHandle;
use weir_ingestor::feedback::{self, Feedback};
use weir_ingestor::{AuditOptions, IngestorHealth, IngestorOptions};
use weir_store::{ServeOptions, StoreState, StoreUser, Supervisor};

use crate::cli::Cli;
use crate::config::{Config, Loaded, StoreKind};
use crate::context::{audit_dir, config_path, control, runtime, store_dir, unix_ms};
use crate::reload::{InForce, Reload};
use crate::{routing_tables, store_passwords};

/// Longest wait for the gateway to know a new key.
const KEY_PATIENCE: Duration = Duration::from_secs(2);
/// How long the log's last line may take before a kill.
const LAST_LINE: Duration = Duration::from_millis(50);
const KEY_POLL: Duration = Duration::from_millis(5);
/// Longest wait for the last events to reach Kafka. The journal keeps the rest.
const SHIPPER_PATIENCE: Duration = Duration::from_secs(10);

/// The signals that a server handles, from the moment this is made.
pub(crate) struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let runtime = runtime()?;
        let guard = runtime.enter();
        let terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
        drop(guard);
        Ok(Self {
            runtime,
            terminate,
            interrupt,
            hangup,
        })
    }

    /// Returns at the first signal to stop; the second one kills the process. SIGHUP reloads. It returns
    /// an error when a part is lost without which the process must not go on.
    pub(crate) fn wait(mut self, parts: &Parts, reload: impl Fn()) -> anyhow::Result<()> {
        let mut loss = parts.loss();
        let ended = self.runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = self.terminate.recv() => return Ok(()),
                    _ = self.interrupt.recv() => return Ok(()),
                    _ = self.hangup.recv() => reload(),
                    Ok(lost) = loss.wait_for(Option::is_some) => {
                        let lost = lost.clone().unwrap_or_default();
                        return Err(anyhow!("{lost}"));
                    }
                }
            }
        });
        self.watch_for_impatience();
        ended
    }

    /// The second signal to stop kills the process.
    fn watch_for_impatience(mut self) {
        let impatient = std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                self.runtime.block_on(async {
                    tokio::select! {
                        _ = self.terminate.recv() => {}
                        _ = self.interrupt.recv() => {}
                    }
                });
                tracing::warn!("killed by a second signal; the journal keeps the events of all answered requests");
                // For the log's last line. The kill is safe: the journal survives it.
                std::thread::park_timeout(LAST_LINE);
                let _ = rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::KILL,
                );
            });
        if let Err(error) = impatient {
            tracing::warn!(%error, "failed to listen for a second signal");
        }
    }
}

/// Forbids core dumps and debuggers, which would show the providers' keys.
pub(crate) fn keep_memory_private() {
    let private = rustix::process::DumpableBehavior::NotDumpable;
    if let Err(error) = rustix::process::set_dumpable_behavior(private) {
        tracing::warn!(%error, "failed to forbid core dumps, which would show the providers' keys");
    }
}

/// Raises the limit of file descriptors as far as this process may, and returns it. The limit that a shell
/// sets is meant for programs that cannot count beyond 1024.
fn raise_descriptors() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        ..limit
    };
    let current = match rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "failed to raise the limit of file descriptors");
            limit.current
        }
    };
    current.unwrap_or(u64::MAX)
}

/// Fits the number of connections to the file descriptors that there are.
fn fit_connections(config: &mut GatewayConfig) {
    let descriptors = raise_descriptors();
    let (wanted, fitting) = (config.connections_max, connections_within(descriptors));
    config.connections_max = wanted.min(fitting);
    if fitting < wanted {
        tracing::warn!(
            descriptors,
            connections_max = fitting,
            "serving fewer connections than [gateway] connections_max = {wanted}: the limit of file \
             descriptors does not reach"
        );
    } else {
        tracing::info!(
            descriptors,
            connections_max = wanted,
            "raised the limit of file descriptors"
        );
    }
}

/// A running gateway, with the threads that ship its events and follow its configuration.
pub(crate) struct Gateway {
    pub(crate) handle: GatewayHandle,
    control: ControlHandle,
    shipper: Option<Shipper>,
    reload: Option<Reload>,
    tables: StoppableThread,
}

impl Gateway {
    /// `path` is the configuration file to watch; `allow_empty` says whether it may take every alias away.
    pub(crate) fn start(
        loaded: Loaded,
        data_dir: &Path,
        path: Option<PathBuf>,
        allow_empty: bool,
        parts: &Parts,
    ) -> anyhow::Result<Self> {
        let Loaded {
            config,
            directory,
            seen,
        } = loaded;
        let mut options = config.eventlog.journal_options(data_dir, "gateway")?;
        options.parts = parts.clone();
        let journal_dir = options.dir.clone();
        let journal = Journal::open(options).context("open the event journal (--data-dir)")?;
        let control = control(&config, data_dir)?
            .follow(parts)
            .context("read the virtual keys")?;
        let peers_topic = format!("{}.usage", config.control.topic);
        let mut gateway = config.gateway.clone();
        fit_connections(&mut gateway);
        let options = GatewayOptions {
            config: gateway,
            directory,
            control: control.clone(),
            spend_dir: data_dir.join("spend"),
            peers: config.eventlog.kafka_topic(&peers_topic),
            journal,
            tables: routing_tables::table_log(&config, data_dir),
            parts: parts.clone(),
            payloads: config.payloads()?,
        };
        let handle = weir_gateway::start(options).map_err(explain_start)?;
        let shipper = config
            .eventlog
            .kafka_options()
            .map(|kafka| {
                let mut options = ShipperOptions::new(kafka);
                options.parts = parts.clone();
                Shipper::start(&journal_dir, options)
            })
            .transpose()
            .context("ship to Kafka ([eventlog])")?;
        let tables = routing_tables::follow(
            &config,
            data_dir,
            handle.adopter()?,
            parts.add("routing-tables"),
        )?;
        let in_force = InForce {
            config,
            seen,
            allow_empty,
        };
        let reload = path
            .map(|path| Reload::follow(path, in_force, handle.reloader(), parts.add("config")))
            .transpose()?;
        Ok(Self {
            handle,
            control,
            shipper,
            reload,
            tables,
        })
    }

    /// Waits until the gateway knows a new key.
    pub(crate) fn await_key(&self, key: Option<&str>) {
        let Some(key) = key else { return };
        let patience = Instant::now() + KEY_PATIENCE;
        while self.control.authenticate(key, unix_ms()).is_err() && Instant::now() < patience {
            std::thread::park_timeout(KEY_POLL);
        }
    }

    /// Reloads the configuration, whether its file changed or not.
    pub(crate) fn reload(&self) {
        match &self.reload {
            Some(reload) => reload.ask(),
            None => tracing::warn!("SIGHUP ignored: there is no configuration file to reload"),
        }
    }

    /// Finishes the requests in flight, closes the event streams, ships the last events.
    pub(crate) fn stop(self) {
        if let Some(reload) = self.reload {
            reload.stop();
        }
        self.tables.stop();
        self.handle.shutdown();
        if let Some(shipper) = self.shipper {
            let stats = shipper.stop(SHIPPER_PATIENCE);
            if stats.in_flight_records > 0 {
                tracing::warn!(
                    records = stats.in_flight_records,
                    "some events are not in Kafka yet; the next start ships them"
                );
            }
        }
    }
}

/// Why the gateway did not start, and what to do about it.
fn explain_start(error: StartError) -> anyhow::Error {
    match &error {
        StartError::Listen { source, .. } if source.kind() == ErrorKind::AddrInUse => {
            anyhow!(
                "{error}; stop the program that listens there, or set [gateway] listen to a free address"
            )
        }
        _ => error.into(),
    }
}

/// A running ingestor, and the feedback that makes routing tables from what it stored.
pub(crate) struct IngestorService {
    ingest: StoppableThread,
    feedback: StoppableThread,
}

impl IngestorService {
    pub(crate) fn start(
        config: &Config,
        data_dir: &Path,
        store: Option<&EmbeddedStore>,
        parts: &Parts,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            ingest: start_ingest(config, data_dir, store, parts)?,
            feedback: start_feedback(config, data_dir, store, parts)?,
        })
    }

    pub(crate) fn stop(self) {
        self.feedback.stop();
        self.ingest.stop();
    }
}

/// Stores events.
fn start_ingest(
    config: &Config,
    data_dir: &Path,
    store: Option<&EmbeddedStore>,
    parts: &Parts,
) -> anyhow::Result<StoppableThread> {
    let part = parts.add("ingestor");
    let options = IngestorMaker {
        config: config.clone(),
        data_dir: data_dir.to_owned(),
        health: IngestorHealth::of(part.clone(), parts.add("seals")),
        parts: parts.clone(),
    };
    // What is wrong with them from the beginning is said at once.
    let mut first = Some(options.make()?);
    start_after_store(part, store, async move |stopped| {
        let options = match first.take() {
            Some(first) => first,
            None => options.make().map_err(|error| format!("{error:#}"))?,
        };
        let ended = weir_ingestor::run(options, stopped).await;
        ended.map_err(|error| format!("{error}; the log keeps what is not stored yet"))
    })
}

/// Makes the options of an ingestor, which it consumes.
struct IngestorMaker {
    config: Config,
    data_dir: PathBuf,
    health: IngestorHealth,
    parts: Parts,
}

impl IngestorMaker {
    fn make(&self) -> anyhow::Result<IngestorOptions> {
        let Config {
            eventlog, store, ..
        } = &self.config;
        let source = match eventlog.kafka_options() {
            Some(kafka) => Source::Kafka(
                KafkaSource::open_as_part(kafka, &eventlog.group, &self.parts)
                    .context("read Kafka ([eventlog])")?,
            ),
            None => Source::Journal(
                JournalSource::open_as_part(self.data_dir.join("journal"), &self.parts)
                    .context("read the event journal (--data-dir)")?,
            ),
        };
        let client = store.connect(&self.data_dir, StoreUser::Weir)?;
        let mut options = IngestorOptions::new(source, client, store.retention());
        options.health = self.health.clone();
        let audit = &self.config.audit;
        options.audit = Some(AuditOptions {
            anchors: audit.anchors().collect::<Result<_, _>>()?,
            anchor_every: Duration::from_secs(u64::from(audit.anchor_every_s)),
            ..AuditOptions::new(audit_dir(&self.data_dir))
        });
        Ok(options)
    }
}

/// Makes routing tables.
fn start_feedback(
    config: &Config,
    data_dir: &Path,
    store: Option<&EmbeddedStore>,
    parts: &Parts,
) -> anyhow::Result<StoppableThread> {
    let part = parts.add("feedback");
    let mut feedback = Feedback {
        store: config.store.connect(data_dir, StoreUser::Weir)?,
        tables: routing_tables::table_log(config, data_dir),
        refresh: Duration::from_secs(u64::from(config.routing.refresh_s)),
        window: Duration::from_secs(u64::from(config.routing.window_s)),
        part: part.clone(),
    };
    start_after_store(part, store, async move |stopped| {
        feedback::run(&mut feedback, stopped).await;
        Ok(())
    })
}

/// Keeps a task running on a thread of its own, once the embedded store, if there is one, is ready or
/// has failed.
fn start_after_store(
    part: PartHandle,
    store: Option<&EmbeddedStore>,
    mut task: impl AsyncFnMut(watch::Receiver<bool>) -> Result<(), String> + Send + 'static,
) -> anyhow::Result<StoppableThread> {
    let store_state = store.map(|store| store.state.clone());
    let runtime = runtime()?;
    let run = move |stop: &StopSignal| {
        let mut stopped = stop.receiver();
        let store_state = store_state.clone();
        runtime.block_on(async {
            if let Some(mut state) = store_state {
                tokio::select! {
                    _ = state.wait_for(|state| *state != StoreState::Starting) => {}
                    _ = stopped.wait_for(|stop| *stop) => {}
                }
            }
            task(stopped).await
        })
    };
    part.keep_running(run).context("start a thread")
}

/// Pages that show what the store and the gateway know.
pub(crate) struct ConsoleService {
    pub(crate) url: String,
    thread: StoppableThread,
}

impl ConsoleService {
    /// `None` if it is turned off. `gateway` is where the gateway here listens.
    pub(crate) fn start(
        config: &Config,
        data_dir: &Path,
        gateway: SocketAddr,
        parts: &Parts,
    ) -> anyhow::Result<Option<Self>> {
        let Some(options) = config.console(gateway) else {
            return Ok(None);
        };
        if config.store.kind == StoreKind::Embedded {
            // Whoever starts first makes them.
            store_passwords::ensure_all(data_dir)?;
        }
        let store = config.console_store(data_dir)?;
        let listener = ConsoleListener::bind(&options, store).map_err(explain_console)?;
        let url = format!(
            "http://{}{}/",
            listener.address(),
            options.path.trim_end_matches('/')
        );
        let runtime = runtime()?;
        let run = move |stop: &StopSignal| {
            let served = runtime.block_on(listener.run(stop.receiver()));
            served.map_err(|error| error.to_string())
        };
        let thread = parts.add("console").keep_running(run);
        let thread = thread.context("start a thread")?;
        Ok(Some(Self { url, thread }))
    }

    pub(crate) fn stop(self) {
        self.thread.stop();
    }
}

/// Why the console did not start, and what to do about it.
fn explain_console(error: ConsoleStartError) -> anyhow::Error {
    match &error {
        ConsoleStartError::Listen { source, .. } if source.kind() == ErrorKind::AddrInUse => {
            anyhow!(
                "{error}; stop the program that listens there, set [console] listen to a free \
                 address, or to \"\" to do without the console"
            )
        }
        _ => error.into(),
    }
}

/// How the embedded store is served.
pub(crate) fn store_options(config: &Config, data_dir: &Path) -> anyhow::Result<ServeOptions> {
    let passwords = store_passwords::ensure_all(data_dir)?;
    Ok(ServeOptions {
        library: config.store.library.clone(),
        hosts: config.store.hosts.clone(),
        ..ServeOptions::new(store_dir(data_dir), config.store.listen, passwords)
    })
}

/// The embedded store, kept running in a process of its own.
pub(crate) struct EmbeddedStore {
    state: watch::Receiver<StoreState>,
    thread: StoppableThread,
}

impl EmbeddedStore {
    /// `None` if the store is an external ClickHouse server.
    pub(crate) fn start(config: &Config, cli: &Cli, parts: &Parts) -> anyhow::Result<Option<Self>> {
        if config.store.kind == StoreKind::Clickhouse {
            return Ok(None);
        }
        // Before anything asks the store.
        store_passwords::ensure_all(&cli.data_dir)?;
        let program = std::env::current_exe().context("find the path of this program")?;
        let mut args = vec!["store".into(), "--supervised".into()];
        args.extend(["--data-dir".into(), cli.data_dir.clone().into_os_string()]);
        if let Some(path) = config_path(cli) {
            args.extend(["--config".into(), path.into_os_string()]);
        }
        let runtime = runtime()?;
        let (told, state) = watch::channel(StoreState::Starting);
        let part = parts.add("store");
        let keeper = StoreKeeper {
            program,
            args,
            told,
            part: part.clone(),
        };
        let run = move |stop: &StopSignal| runtime.block_on(keeper.keep(stop.receiver()));
        let thread = part.keep_running(run).context("start a thread")?;
        Ok(Some(Self { state, thread }))
    }

    pub(crate) fn stop(self) {
        self.thread.stop();
    }
}

/// Runs the supervisor of the store, and passes on what it says.
struct StoreKeeper {
    program: PathBuf,
    args: Vec<OsString>,
    told: watch::Sender<StoreState>,
    part: PartHandle,
}

impl StoreKeeper {
    async fn keep(&self, mut stopped: watch::Receiver<bool>) -> Result<(), String> {
        let supervisor = Supervisor::start(self.program.clone(), self.args.clone());
        let mut state = supervisor.state();
        loop {
            let now = state.borrow_and_update().clone();
            match &now {
                StoreState::Ready { .. } => self.part.ok(),
                StoreState::Starting => _ = self.part.failed("it is starting"),
                StoreState::Failed { reason, how_to_fix } => {
                    self.part.failed(format!("{reason}; {how_to_fix}"));
                }
                StoreState::Stopped => {}
            }
            self.told.send_replace(now);
            tokio::select! {
                // A dropped sender also means stop.
                _ = stopped.wait_for(|stop| *stop) => break,
                changed = state.changed() => if changed.is_err() {
                    return Err("its supervisor ended".to_owned());
                }
            }
        }
        supervisor.stop().await;
        Ok(())
    }
}
