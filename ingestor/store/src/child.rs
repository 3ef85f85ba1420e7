//! The process that serves the engine: what the hidden command `weir store` runs.
//!
//! It reports to its parent in one line of JSON on standard output (a [`ChildReport`]), and then
//! serves until it is stopped: by a signal, or by the end of its standard input, by which it notices
//! that its parent is gone.
//!
//! It stops in order: no more connections, running statements end or are stopped, the engine is
//! closed. Parts are written when a statement ends, so that nothing is lost if the child is killed
//! because that takes too long.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::access::Access;
use crate::caps::{INSERTS_MAX, STOP_GRACE};
use crate::config;
use crate::engine::{EmbeddedEngine, Library, LoadError, OpenError};
use crate::library::{self, FETCH_COMMAND, NotFound};
use crate::sandbox;
use crate::serve::{Facade, serve as serve_facade};
use crate::users::{StorePasswords, StoreUser};

/// What the process is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeOptions {
    /// The engine's library, if a setting names it.
    pub library: Option<PathBuf>,
    /// Where the store keeps everything: the engine's data, its configuration, its log.
    pub data_dir: PathBuf,
    /// Where the facade answers.
    pub listen: SocketAddr,
    /// Host names that are served besides this machine's own.
    pub hosts: Vec<String>,
    pub passwords: StorePasswords,
    /// End when standard input ends.
    pub supervised: bool,
}

impl ServeOptions {
    /// The usual settings for a directory and an address.
    #[must_use]
    pub fn new(data_dir: PathBuf, listen: SocketAddr, passwords: StorePasswords) -> Self {
        Self {
            library: None,
            data_dir,
            listen,
            hosts: Vec::new(),
            passwords,
            supervised: false,
        }
    }
}

/// What the process says of itself on standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ChildReport {
    /// The engine runs and is served.
    Ready {
        listen: SocketAddr,
        engine: String,
        pid: u32,
    },
    /// It could not be started.
    Failed { reason: String, how_to_fix: String },
}

/// Why the engine cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    NotFound(#[from] NotFound),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("{} is in use by another process{holder}", .directory.display())]
    Locked { directory: PathBuf, holder: String },
    #[error("listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("{what} {}: {source}", .path.display())]
    Files {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{source}{log}")]
    Open { source: OpenError, log: String },
    #[error("{what}: {source}")]
    Process {
        what: &'static str,
        source: io::Error,
    },
}

impl ServeError {
    fn process(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Process { what, source }
    }

    /// What to do about it.
    #[must_use]
    pub fn how_to_fix(&self) -> String {
        match self {
            Self::NotFound(error) => error.how_to_fix(),
            Self::Load(_) => format!("remove the file and run {FETCH_COMMAND}"),
            Self::Locked { .. } => {
                "stop the other process, or choose another data directory (--data-dir)".to_owned()
            }
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "set [store] listen to a free address, or stop who listens there".to_owned()
            }
            Self::Listen { .. } => "set [store] listen to an address of this machine".to_owned(),
            Self::Files { .. } => "make the data directory writable, or free space".to_owned(),
            Self::Open { .. } => {
                "see the engine's log; if its data is damaged, move the store's directory away and \
                 let the event log fill a new one"
                    .to_owned()
            }
            Self::Process { .. } => "see the reason".to_owned(),
        }
    }
}

/// Serves the engine on this thread until the process is stopped. Reports on standard output.
pub fn serve(options: &ServeOptions) -> Result<(), ServeError> {
    let served = run(options);
    if let Err(error) = &served {
        // A closed standard output is no reason to fail twice.
        let _ = report(&ChildReport::Failed {
            reason: error.to_string(),
            how_to_fix: error.how_to_fix(),
        });
    }
    served
}

fn report(report: &ChildReport) -> io::Result<()> {
    let line = serde_json::to_string(report)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// What can fail early fails before the engine is started.
fn run(options: &ServeOptions) -> Result<(), ServeError> {
    let library = library::find(options.library.as_deref(), &options.data_dir)?;
    // Held for the life of the process.
    let _lock = lock(&options.data_dir)?;
    let runtime = runtime()?;
    let listening = |source| ServeError::Listen {
        address: options.listen,
        source,
    };
    let listener = runtime.block_on(TcpListener::bind(options.listen));
    let listener = listener.map_err(listening)?;
    let listen = listener.local_addr().map_err(listening)?;
    let library = Library::load(&library)?;
    // The port is bound and the library mapped: from here on, the data directory is the world.
    sandbox::enter(&options.data_dir);
    let memory_bytes = config::memory_for_engine();
    let engine = Arc::new(open(library, options, memory_bytes)?);
    let (stop, stopped) = watch::channel(false);
    watch_for_the_end(&runtime, stop, options.supervised)?;
    report(&ChildReport::Ready {
        listen,
        engine: engine.version().to_owned(),
        pid: std::process::id(),
    })
    .map_err(ServeError::process("report on standard output"))?;
    let access = Access::new(&options.passwords, options.hosts.clone());
    let limits = config::reader_limits(memory_bytes);
    let facade = Facade::new(Arc::clone(&engine), access, limits);
    runtime.block_on(serve_facade(listener, facade, stopped));
    runtime.shutdown_timeout(STOP_GRACE);
    close(engine)
}

/// A thread for everything, and one for each statement that runs.
fn runtime() -> Result<Runtime, ServeError> {
    let queries = StoreUser::ALL.map(StoreUser::queries_max);
    let statements_max = queries.iter().sum::<usize>() + INSERTS_MAX;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(statements_max + 2)
        .thread_name("store-statement")
        .build()
        .map_err(ServeError::process("start a runtime"))
}

/// The engine refuses a directory that another process has open, but in its log. This refuses it
/// earlier, and names the other.
fn lock(data_dir: &Path) -> Result<File, ServeError> {
    let path = data_dir.join("lock");
    let failed = |source| ServeError::Files {
        what: "lock",
        path: path.clone(),
        source,
    };
    fs::create_dir_all(data_dir).map_err(failed)?;
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = match holder.trim().parse::<u32>() {
                Ok(pid) => format!(", process {pid}"),
                Err(_) => String::new(),
            };
            return Err(ServeError::Locked {
                directory: data_dir.to_owned(),
                holder,
            });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).map_err(failed)?;
    write!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

fn open(
    library: Library,
    options: &ServeOptions,
    memory_bytes: u64,
) -> Result<EmbeddedEngine, ServeError> {
    let log = options.data_dir.join("engine.log");
    let config_dir = options.data_dir.join("config");
    let config_file =
        config::write(&config_dir, &log, memory_bytes).map_err(|source| ServeError::Files {
            what: "write the engine's configuration to",
            path: config_dir,
            source,
        })?;
    let data_dir = options.data_dir.join("data");
    EmbeddedEngine::open(library, &data_dir, &config_file).map_err(|source| ServeError::Open {
        source,
        log: last_error(&log),
    })
}

/// The last error in the engine's log.
fn last_error(log: &Path) -> String {
    let Ok(text) = fs::read_to_string(log) else {
        return String::new();
    };
    let mut lines = text.lines().rev();
    let last = lines.find(|line| line.contains("DB::Exception"));
    last.map_or_else(String::new, |line| {
        let message = line.find("Code: ").map_or(line, |at| &line[at..]);
        format!(": {}", message.chars().take(500).collect::<String>())
    })
}

/// Exiting with the engine open crashes in its destructors, so it must be closed.
fn close(engine: Arc<EmbeddedEngine>) -> Result<(), ServeError> {
    let engine = Arc::into_inner(engine)
        .ok_or_else(|| io::Error::other("a statement still holds it"))
        .map_err(ServeError::process("close the engine"))?;
    engine.close();
    Ok(())
}

/// Makes signals, and the end of standard input if asked, say that it is time to stop.
fn watch_for_the_end(
    runtime: &Runtime,
    stop: watch::Sender<bool>,
    supervised: bool,
) -> Result<(), ServeError> {
    let _entered = runtime.enter();
    let stop = Arc::new(stop);
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind).map_err(ServeError::process("listen for signals"))?;
        let stop = Arc::clone(&stop);
        runtime.spawn(async move {
            signals.recv().await;
            stop.send_replace(true);
        });
    }
    if supervised {
        std::thread::Builder::new()
            .name("store-parent".to_owned())
            .spawn(move || {
                // Nothing is ever written to it: it ends when the parent lets go of it.
                let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
                stop.send_replace(true);
            })
            .map_err(ServeError::process("start a thread"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_line_of_json() {
        let ready = ChildReport::Ready {
            listen: "127.0.0.1:8123".parse().unwrap(),
            engine: "26.7.3".to_owned(),
            pid: 7,
        };
        let line = serde_json::to_string(&ready).unwrap();
        assert_eq!(
            line,
            r#"{"event":"ready","listen":"127.0.0.1:8123","engine":"26.7.3","pid":7}"#
        );
        assert_eq!(serde_json::from_str::<ChildReport>(&line).unwrap(), ready);
    }

    #[test]
    fn a_directory_is_locked_once_and_the_error_names_the_holder() {
        let directory = tempfile::tempdir().unwrap();
        let held = lock(directory.path()).unwrap();
        let error = lock(directory.path()).unwrap_err();
        let holder = format!("process {}", std::process::id());
        assert!(error.to_string().contains(&holder), "{error}");
        assert!(
            error.how_to_fix().contains("--data-dir"),
            "{}",
            error.how_to_fix()
        );
        drop(held);
        lock(directory.path()).unwrap();
    }

    #[test]
    fn a_taken_port_names_the_setting() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let source = io::Error::from(io::ErrorKind::AddrInUse);
        let error = ServeError::Listen { address, source };
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert!(
            error.how_to_fix().contains("[store] listen"),
            "{}",
            error.how_to_fix()
        );
    }
}
