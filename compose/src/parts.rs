//! The parts of a running Weir, each started from the configuration and stopped in order.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use weir_eventlog::{
    Journal, JournalSource, KafkaSource, Shipper, ShipperOptions, Source, StopSignal,
    StoppableThread,
};
use weir_gateway::{GatewayHandle, GatewayOptions, StartError};
use weir_governance::control::ControlHandle;
use weir_ingestor::feedback::{self, Feedback};
use weir_ingestor::{AuditOptions, IngestorOptions};
use weir_store::{ServeOptions, StoreState, Supervisor};

use crate::cli::Cli;
use crate::config::{Config, Loaded, StoreKind};
use crate::context::{audit_dir, config_path, control, runtime, store_dir, unix_ms};
use crate::reload::Reload;
use crate::routing_tables;

/// Longest wait for the gateway to know a new key.
const KEY_PATIENCE: Duration = Duration::from_secs(2);
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

    /// Returns at the first signal to stop; the second one kills the process. SIGHUP reloads.
    pub(crate) fn wait(mut self, reload: impl Fn()) {
        self.runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = self.terminate.recv() => return,
                    _ = self.interrupt.recv() => return,
                    _ = self.hangup.recv() => reload(),
                }
            }
        });
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
                // Safe: the journal survives a kill.
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

/// A running gateway, with the threads that ship its events and follow its configuration.
pub(crate) struct Gateway {
    pub(crate) handle: GatewayHandle,
    control: ControlHandle,
    shipper: Option<Shipper>,
    reload: Option<Reload>,
    tables: StoppableThread,
}

impl Gateway {
    /// `path` is the configuration file to watch.
    pub(crate) fn start(
        loaded: Loaded,
        data_dir: &Path,
        path: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let Loaded {
            config,
            directory,
            seen,
        } = loaded;
        let options = config.eventlog.journal_options(data_dir, "gateway");
        let journal_dir = options.dir.clone();
        let journal = Journal::open(options).context("open the event journal (--data-dir)")?;
        let control = control(&config, data_dir)?
            .follow()
            .context("read the virtual keys")?;
        let peers_topic = format!("{}.usage", config.control.topic);
        let options = GatewayOptions {
            config: config.gateway.clone(),
            directory,
            control: control.clone(),
            spend_dir: data_dir.join("spend"),
            peers: config.eventlog.kafka_topic(&peers_topic),
            journal,
            payloads: config.payloads()?,
        };
        let handle = weir_gateway::start(options).map_err(explain_start)?;
        let shipper = config
            .eventlog
            .kafka_options()
            .map(|kafka| Shipper::start(&journal_dir, ShipperOptions::new(kafka)))
            .transpose()
            .context("ship to Kafka ([eventlog])")?;
        let tables = routing_tables::follow(&config, data_dir, handle.adopter()?)?;
        let reload = path
            .map(|path| Reload::follow(path, config, seen, handle.reloader()))
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
    ) -> anyhow::Result<Self> {
        Ok(Self {
            ingest: start_ingest(config, data_dir, store)?,
            feedback: start_feedback(config, data_dir, store)?,
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
) -> anyhow::Result<StoppableThread> {
    let source = match config.eventlog.kafka_options() {
        Some(kafka) => Source::Kafka(
            KafkaSource::open(kafka, &config.eventlog.group).context("read Kafka ([eventlog])")?,
        ),
        None => Source::Journal(
            JournalSource::open(data_dir.join("journal"))
                .context("read the event journal (--data-dir)")?,
        ),
    };
    let retention = config.store.retention();
    let mut options = IngestorOptions::new(source, config.store.connect()?, retention);
    options.audit = Some(AuditOptions::new(audit_dir(data_dir)));
    start_after_store("ingestor", store, async move |stopped| {
        if let Err(error) = weir_ingestor::run(options, stopped).await {
            tracing::error!(%error, "failed to ingest; the log keeps what is not stored yet");
        }
    })
}

/// Makes routing tables.
fn start_feedback(
    config: &Config,
    data_dir: &Path,
    store: Option<&EmbeddedStore>,
) -> anyhow::Result<StoppableThread> {
    let feedback = Feedback {
        store: config.store.connect()?,
        tables: routing_tables::table_log(config, data_dir),
        refresh: Duration::from_secs(u64::from(config.routing.refresh_s)),
        window: Duration::from_secs(u64::from(config.routing.window_s)),
    };
    start_after_store("feedback", store, async move |stopped| {
        feedback::run(feedback, stopped).await;
    })
}

/// Runs a task on a thread of its own, once the embedded store, if there is one, is ready or has
/// failed.
fn start_after_store(
    name: &str,
    store: Option<&EmbeddedStore>,
    task: impl AsyncFnOnce(watch::Receiver<bool>) + Send + 'static,
) -> anyhow::Result<StoppableThread> {
    let store_state = store.map(|store| store.state.clone());
    let runtime = runtime()?;
    let run = move |stop: StopSignal| {
        let mut stopped = stop.receiver();
        runtime.block_on(async move {
            if let Some(mut state) = store_state {
                tokio::select! {
                    _ = state.wait_for(|state| *state != StoreState::Starting) => {}
                    _ = stopped.wait_for(|stop| *stop) => {}
                }
            }
            task(stopped).await;
        });
    };
    StoppableThread::start(name, run).context("start a thread")
}

/// How the embedded store is served.
pub(crate) fn store_options(config: &Config, data_dir: &Path) -> ServeOptions {
    ServeOptions {
        library: config.store.library.clone(),
        ..ServeOptions::new(store_dir(data_dir), config.store.listen)
    }
}

/// The embedded store, kept running in a process of its own.
pub(crate) struct EmbeddedStore {
    state: watch::Receiver<StoreState>,
    thread: StoppableThread,
}

impl EmbeddedStore {
    /// `None` if the store is an external ClickHouse server.
    pub(crate) fn start(config: &Config, cli: &Cli) -> anyhow::Result<Option<Self>> {
        if config.store.kind == StoreKind::Clickhouse {
            return Ok(None);
        }
        let program = std::env::current_exe().context("find the path of this program")?;
        let mut args = vec!["store".into(), "--supervised".into()];
        args.extend(["--data-dir".into(), cli.data_dir.clone().into_os_string()]);
        if let Some(path) = config_path(cli) {
            args.extend(["--config".into(), path.into_os_string()]);
        }
        let runtime = runtime()?;
        let supervisor = {
            let _entered = runtime.enter();
            Supervisor::start(program, args)
        };
        let state = supervisor.state();
        let run = move |stop: StopSignal| {
            runtime.block_on(async move {
                // A dropped sender also means stop.
                let _ = stop.receiver().wait_for(|stop| *stop).await;
                supervisor.stop().await;
            });
        };
        let thread = StoppableThread::start("store", run).context("start a thread")?;
        Ok(Some(Self { state, thread }))
    }

    pub(crate) fn stop(self) {
        self.thread.stop();
    }
}
