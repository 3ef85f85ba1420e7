//! The parts of a running Weir, each started from the configuration and stopped in order.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use weir_eventlog::{
    Journal, JournalSource, KafkaOptions, KafkaSource, Shipper, ShipperOptions, Source,
};
use weir_gateway::config::Secret;
use weir_gateway::{GatewayHandle, GatewayOptions, StartError};
use weir_governance::control::{Control, ControlHandle};
use weir_ingestor::{AuditOptions, IngestorOptions};
use weir_store::{ServeOptions, StoreState, Supervisor, SupervisorOptions};

use crate::cli::Cli;
use crate::command::audit::audit_dir;
use crate::command::config_path;
use crate::config::{Config, Loaded, StoreKind};
use crate::reload::Reload;
use crate::tables;

/// A key that is not known after this long is shown all the same.
const KEY_PATIENCE: Duration = Duration::from_secs(2);
const KEY_POLL: Duration = Duration::from_millis(5);
/// Time that the shipper gets to hand the last events to Kafka. What is left is in the journal.
const SHIPPER_PATIENCE: Duration = Duration::from_secs(10);

#[expect(clippy::disallowed_methods, reason = "the clock of the command line")]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The signals that concern a server, heard from the moment this is made.
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

    /// Returns when the process is told to stop. SIGHUP asks for a reload. From then on, being told
    /// once more ends the process at once.
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
                eprintln!("weir: stopped at once; the journal keeps what was answered");
                // As good as any other end: the journal is made for it.
                let _ = rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::KILL,
                );
            });
        if let Err(error) = impatient {
            tracing::warn!(%error, "listen for a second signal");
        }
    }
}

/// Whoever could read this process's memory, or a core dump of it, could read the providers' keys.
pub(crate) fn keep_memory_private() {
    let private = rustix::process::DumpableBehavior::NotDumpable;
    if let Err(error) = rustix::process::set_dumpable_behavior(private) {
        tracing::warn!(%error, "core dumps of this process would show the providers' keys");
    }
}

/// A runtime for whoever needs one thread.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")
}

/// A running gateway, with what ships its events and what follows its configuration.
pub(crate) struct Gateway {
    pub(crate) handle: GatewayHandle,
    control: ControlHandle,
    shipper: Option<Shipper>,
    reload: Option<Reload>,
    tables: Stoppable,
}

impl Gateway {
    /// `path` is the file to follow for changes.
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
        let options = GatewayOptions {
            config: config.gateway.clone(),
            directory,
            control: control.clone(),
            spend_dir: data_dir.join("spend"),
            peers: config.eventlog.kafka_options().map(|kafka| KafkaOptions {
                topic: format!("{}.usage", config.control.topic),
                ..kafka
            }),
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
        let tables = tables::follow(&config, data_dir, handle.adopter()?)?;
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

    /// Returns when the gateway knows a key that was just made.
    pub(crate) fn await_key(&self, key: Option<&str>) {
        let Some(key) = key else { return };
        let patience = Instant::now() + KEY_PATIENCE;
        while self.control.authenticate(key, unix_ms()).is_err() && Instant::now() < patience {
            std::thread::park_timeout(KEY_POLL);
        }
    }

    /// Reads the configuration again, whether its file changed or not.
    pub(crate) fn reload(&self) {
        match &self.reload {
            Some(reload) => reload.ask(),
            None => tracing::warn!("SIGHUP: there is no configuration file to read again"),
        }
    }

    /// Finishes what is in flight, closes the event streams, ships what is left.
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
                    "left for the next start to ship"
                );
            }
        }
    }
}

/// Where keys and rules are kept.
pub(crate) fn control(config: &Config, data_dir: &Path) -> anyhow::Result<Control> {
    let secret = config.control.hash_secret.as_ref().map(Secret::expose);
    let topic = config.eventlog.kafka_options().map(|kafka| KafkaOptions {
        topic: config.control.topic.clone(),
        ..kafka
    });
    Control::open(data_dir, secret, topic).context("take up control ([control])")
}

/// Why the gateway did not start, and what to do about it.
fn explain_start(error: StartError) -> anyhow::Error {
    match &error {
        StartError::Listen { source, .. } if source.kind() == ErrorKind::AddrInUse => {
            anyhow!("{error}; stop who listens there, or set [gateway] listen to a free address")
        }
        _ => error.into(),
    }
}

/// A thread that ends when told to.
pub(crate) struct Stoppable {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Stoppable {
    pub(crate) fn start(
        name: &str,
        run: impl FnOnce(watch::Receiver<bool>) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(stopped))
            .with_context(|| format!("start the thread {name}"))?;
        Ok(Self { stop, thread })
    }

    /// Wakes the thread if it is parked.
    pub(crate) fn unpark(&self) {
        self.thread.thread().unpark();
    }

    pub(crate) fn stop(self) {
        self.stop.send_replace(true);
        self.unpark();
        if self.thread.join().is_err() {
            tracing::error!("a thread panicked");
        }
    }
}

/// A running ingestor, with the feedback that it gives to the gateways.
pub(crate) struct Ingestor {
    ingest: Stoppable,
    feedback: Stoppable,
}

impl Ingestor {
    pub(crate) fn stop(self) {
        self.feedback.stop();
        self.ingest.stop();
    }
}

pub(crate) fn start_ingestor(
    config: &Config,
    data_dir: &Path,
    store: Option<&EmbeddedStore>,
) -> anyhow::Result<Ingestor> {
    Ok(Ingestor {
        ingest: start_ingest(config, data_dir, store)?,
        feedback: tables::start_feedback(config, data_dir, store)?,
    })
}

/// Stores events on a thread of its own. It begins when the embedded store, if there is one, is
/// ready or has failed.
fn start_ingest(
    config: &Config,
    data_dir: &Path,
    store: Option<&EmbeddedStore>,
) -> anyhow::Result<Stoppable> {
    let store_state = store.map(EmbeddedStore::state);
    let store = config.store.connect()?;
    let source = match config.eventlog.kafka_options() {
        Some(kafka) => Source::Kafka(
            KafkaSource::open(kafka, &config.eventlog.group).context("read Kafka ([eventlog])")?,
        ),
        None => Source::Journal(
            JournalSource::open(data_dir.join("journal"))
                .context("read the event journal (--data-dir)")?,
        ),
    };
    let mut options = IngestorOptions::new(source, store, config.store.retention());
    options.audit = Some(AuditOptions::new(audit_dir(data_dir)));
    let runtime = runtime()?;
    let ingest = async move |mut stopped: watch::Receiver<bool>| {
        if let Some(mut state) = store_state {
            tokio::select! {
                _ = state.wait_for(|state| *state != StoreState::Starting) => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        }
        weir_ingestor::run(options, stopped).await
    };
    Stoppable::start("ingestor", move |stopped| {
        if let Err(error) = runtime.block_on(ingest(stopped)) {
            tracing::error!(%error, "the ingestor stopped; the log keeps what it has not stored");
        }
    })
}

/// How the embedded store is served.
pub(crate) fn store_options(config: &Config, data_dir: &Path) -> ServeOptions {
    ServeOptions {
        library: config.store.library.clone(),
        ..ServeOptions::new(store_dir(data_dir), config.store.listen)
    }
}

/// Where the embedded store keeps everything.
pub(crate) fn store_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

/// The embedded store, kept running in a process of its own.
pub(crate) struct EmbeddedStore {
    state: watch::Receiver<StoreState>,
    thread: Stoppable,
}

impl EmbeddedStore {
    /// `None` where the store is a server of the operator's.
    pub(crate) fn start(config: &Config, cli: &Cli) -> anyhow::Result<Option<Self>> {
        if config.store.kind == StoreKind::Clickhouse {
            return Ok(None);
        }
        let program = std::env::current_exe().context("find this program's own file")?;
        let mut args = vec!["store".into(), "--supervised".into()];
        args.extend(["--data-dir".into(), cli.data_dir.clone().into_os_string()]);
        if let Some(path) = config_path(cli) {
            args.extend(["--config".into(), path.into_os_string()]);
        }
        let runtime = runtime()?;
        let supervisor = {
            let _entered = runtime.enter();
            Supervisor::start(SupervisorOptions::new(program, args))
        };
        let state = supervisor.state();
        let thread = Stoppable::start("store", move |mut stopped| {
            runtime.block_on(async move {
                // Whoever would say so being gone says so too.
                let _ = stopped.wait_for(|stop| *stop).await;
                supervisor.stop().await;
            });
        })?;
        Ok(Some(Self { state, thread }))
    }

    /// Whether it is ready, and news of it.
    pub(crate) fn state(&self) -> watch::Receiver<StoreState> {
        self.state.clone()
    }

    pub(crate) fn stop(self) {
        self.thread.stop();
    }
}
