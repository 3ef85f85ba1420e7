//! The embedded store: the real engine in its child process, over HTTP.
//!
//! Most tests share one store, each in a table of its own; those that kill it or set it up otherwise
//! have one to themselves. The engine's library must be there: without it every test here fails and
//! says which script fetches it.

mod door;
mod event_tables;
mod facade;
mod http;
mod life;
mod request_row;
mod rows;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use weir_store::{Store, StoreConfig, StoreState, Supervisor};
use weir_tests::http::Request;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A store in a directory of its own.
pub(crate) struct Running {
    supervisor: Supervisor,
    pub(crate) address: SocketAddr,
    directory: TempDir,
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), flags).await
    }

    async fn start_in(directory: TempDir, flags: &[&str]) -> Self {
        let supervisor = supervise(directory.path(), "127.0.0.1:0", flags);
        let (address, _) = ready(&supervisor).await;
        Self {
            supervisor,
            address,
            directory,
        }
    }

    /// The section `[store]` of an installation whose tables are here.
    pub(crate) fn settings(&self) -> String {
        format!(
            "kind = \"clickhouse\"\nurl = \"http://{}\"\nuser = \"weir\"\npassword = \"{}\"\n",
            self.address,
            password("weir")
        )
    }

    pub(crate) fn store(&self) -> Store {
        store_at(self.address)
    }

    pub(crate) async fn stop(self) -> TempDir {
        self.supervisor.stop().await;
        self.directory
    }
}

pub(crate) fn store_at(address: SocketAddr) -> Store {
    let config = StoreConfig::new(format!("http://{address}")).user("weir", password("weir"));
    Store::connect(&config).unwrap()
}

/// The password that the test's child gives a user.
pub(crate) fn password(user: &str) -> String {
    format!("secret-of-{user}")
}

/// A request with a user's password.
pub(crate) fn as_user(request: Request, user: &str) -> Request {
    request
        .header("x-clickhouse-user", user)
        .header("x-clickhouse-key", &password(user))
}

/// Starts a child under supervision.
pub(crate) fn supervise(directory: &Path, listen: &str, flags: &[&str]) -> Supervisor {
    let mut arguments: Vec<OsString> = vec![directory.into(), listen.into(), "--supervised".into()];
    arguments.extend(flags.iter().map(OsString::from));
    let program = env!("CARGO_BIN_EXE_weir-store-child").into();
    Supervisor::start(program, arguments)
}

/// Waits until the store answers, and says where, and in which process. A store that cannot start
/// fails the test with its own words.
pub(crate) async fn ready(supervisor: &Supervisor) -> (SocketAddr, u32) {
    let settled = settled(supervisor, |state| !matches!(state, StoreState::Starting)).await;
    match settled {
        StoreState::Ready { address, pid, .. } => (address, pid),
        StoreState::Failed { reason, how_to_fix } => panic!("{reason}; {how_to_fix}"),
        other => panic!("the store is {other:?}"),
    }
}

/// Waits for a state.
pub(crate) async fn settled(
    supervisor: &Supervisor,
    is_it: impl Fn(&StoreState) -> bool,
) -> StoreState {
    let mut state = supervisor.state();
    let state = timeout(PATIENCE, state.wait_for(is_it)).await;
    state
        .expect("the store did not get into the state in time")
        .unwrap()
        .clone()
}

/// The store that most tests share, and the runtime that its supervisor lives on.
struct Shared {
    runtime: Runtime,
    running: Running,
}

/// Runs a test against the shared store. The store ends with this process.
fn with_shared<F: Future<Output = ()>>(test: impl FnOnce(&'static Running) -> F) {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let running = runtime.block_on(Running::start());
        runtime.block_on(running.store().migrate(90)).unwrap();
        Shared { runtime, running }
    });
    shared.runtime.block_on(test(&shared.running));
}

/// Runs a test that has its stores to itself.
pub(crate) fn alone(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}
