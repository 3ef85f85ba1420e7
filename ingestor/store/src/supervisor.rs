//! Keeps the process that serves the engine running.
//!
//! [`Supervisor::start`] starts the child and watches it: it waits for its report, starts it again
//! when it dies, with a growing pause while that does not help, and publishes a
//! [`StoreState`]. A store that cannot run is a state, never an error of the process that wants it:
//! the gateway serves and the journal grows meanwhile.
//!
//! The child notices the end of its standard input, which this holds open. So it ends with its
//! parent, however that ends; and it is in a process group of its own, so that a Ctrl-C reaches the
//! parent alone, which stops things in order.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use crate::caps::{
    HEALTHY_AFTER, RESTART_PAUSE_MAX, RESTART_PAUSE_MIN, START_TIME_MAX, STOP_TIME_MAX,
};
use crate::child::ChildReport;
use crate::serve::stopped;

/// The state of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// It has not reported yet.
    Starting,
    /// It answers.
    Ready {
        address: SocketAddr,
        engine: String,
        pid: u32,
    },
    /// It could not be started, and is started again after a pause.
    Failed { reason: String, how_to_fix: String },
    /// It was told to stop, and has.
    Stopped,
}

/// A child that is kept running. Dropping this kills it; [`Supervisor::stop`] is kinder.
#[derive(Debug)]
pub struct Supervisor {
    state: watch::Receiver<StoreState>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Supervisor {
    /// Starts the child: a program, usually this very one, with the hidden command that serves the
    /// store and the flag that makes it [`supervised`](crate::ServeOptions::supervised). Must be
    /// called within a tokio runtime with I/O and time.
    #[must_use]
    pub fn start(program: PathBuf, args: Vec<OsString>) -> Self {
        let (state_in, state) = watch::channel(StoreState::Starting);
        let (stop, stopped) = watch::channel(false);
        let mut task = SupervisorTask {
            program,
            args,
            state: state_in,
            stopped,
            pause: RESTART_PAUSE_MIN,
        };
        let task = tokio::spawn(async move { task.keep().await });
        Self { state, stop, task }
    }

    /// The state of the store, now and later.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<StoreState> {
        self.state.clone()
    }

    /// Ends the child in order, and kills it if that takes too long.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.task).await {
            error!(%error, "failed to run the store's supervisor");
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // With the task goes the child, which is killed on drop.
        self.task.abort();
    }
}

/// Watches the child.
struct SupervisorTask {
    program: PathBuf,
    args: Vec<OsString>,
    state: watch::Sender<StoreState>,
    stopped: watch::Receiver<bool>,
    pause: Duration,
}

/// How a child ended.
enum ChildExit {
    /// It was stopped.
    Stopped,
    /// It never served.
    Failed { reason: String, how_to_fix: String },
    /// It served, and died.
    Died { status: String, served: Duration },
}

impl SupervisorTask {
    async fn keep(&mut self) {
        loop {
            let ended = self.run_once().await;
            let pause = match ended {
                ChildExit::Stopped => break,
                ChildExit::Failed { reason, how_to_fix } => self.failed(reason, how_to_fix),
                ChildExit::Died { status, served } => self.died(&status, served),
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = stopped(&mut self.stopped) => break,
            }
        }
        self.state.send_replace(StoreState::Stopped);
    }

    fn failed(&mut self, reason: String, how_to_fix: String) -> Duration {
        let failed = StoreState::Failed {
            reason: reason.clone(),
            how_to_fix: how_to_fix.clone(),
        };
        // The same failure again is not news.
        if *self.state.borrow() != failed {
            error!(reason, how_to_fix, "failed to start the store");
            self.state.send_replace(failed);
        }
        self.next_pause()
    }

    fn died(&mut self, status: &str, served: Duration) -> Duration {
        if served >= HEALTHY_AFTER {
            self.pause = RESTART_PAUSE_MIN;
        }
        let pause = self.next_pause();
        warn!(
            status,
            served_ms = served.as_millis(),
            pause_ms = pause.as_millis(),
            "the store died"
        );
        self.state.send_replace(StoreState::Starting);
        pause
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(RESTART_PAUSE_MAX);
        pause
    }

    /// One life of the child, from its start to its end.
    async fn run_once(&mut self) -> ChildExit {
        let mut running = match self.spawn() {
            Ok(running) => running,
            Err(ended) => return ended,
        };
        let started = Instant::now();
        let report = tokio::select! {
            report = timeout(START_TIME_MAX, running.report()) => report,
            () = stopped(&mut self.stopped) => {
                running.stop(STOP_TIME_MAX).await;
                return ChildExit::Stopped;
            }
        };
        match report {
            Ok(Some(ChildReport::Ready {
                listen,
                engine,
                pid,
            })) => {
                info!(
                    address = %listen, engine, pid, start_ms = started.elapsed().as_millis(),
                    "the store is ready"
                );
                self.state.send_replace(StoreState::Ready {
                    address: listen,
                    engine,
                    pid,
                });
                self.watch(running).await
            }
            Ok(Some(ChildReport::Failed { reason, how_to_fix })) => {
                running.stop(STOP_TIME_MAX).await;
                ChildExit::Failed { reason, how_to_fix }
            }
            Ok(None) => {
                let status = running.ended().await;
                ChildExit::Failed {
                    reason: format!("the store's process ended before it was ready: {status}"),
                    how_to_fix: "see the lines that it logged, and engine.log in the store's \
                                  directory"
                        .to_owned(),
                }
            }
            Err(_) => {
                running.stop(Duration::ZERO).await;
                let waited = START_TIME_MAX.as_secs();
                ChildExit::Failed {
                    reason: format!("the store was not ready within {waited} s"),
                    how_to_fix: "see engine.log in the store's directory".to_owned(),
                }
            }
        }
    }

    async fn watch(&mut self, mut running: RunningChild) -> ChildExit {
        let ready_at = Instant::now();
        tokio::select! {
            status = running.ended() => ChildExit::Died { status, served: ready_at.elapsed() },
            () = stopped(&mut self.stopped) => {
                running.stop(STOP_TIME_MAX).await;
                ChildExit::Stopped
            }
        }
    }

    fn spawn(&self) -> Result<RunningChild, ChildExit> {
        let cannot = |error: &dyn std::fmt::Display| ChildExit::Failed {
            reason: format!("start {}: {error}", self.program.display()),
            how_to_fix: "make the program executable".to_owned(),
        };
        let mut child = Command::new(&self.program)
            .args(&self.args)
            // Days are UTC days, on every machine.
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| cannot(&error))?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(cannot(&"it has no pipes"));
        };
        tokio::spawn(log_lines(stderr));
        Ok(RunningChild {
            child,
            stdin: Some(stdin),
            stdout: BufReader::new(stdout).lines(),
        })
    }
}

/// Passes on what the child says on standard error.
async fn log_lines(stderr: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // The engine announces its log file on every start.
        if !line.starts_with("Logging ") {
            warn!(line, "log line of the store");
        }
    }
}

struct RunningChild {
    child: Child,
    /// Closing it tells the child to end.
    stdin: Option<ChildStdin>,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl RunningChild {
    /// The child's report; None if it ended without one. Other lines are passed over.
    async fn report(&mut self) -> Option<ChildReport> {
        while let Ok(Some(line)) = self.stdout.next_line().await {
            if let Ok(report) = serde_json::from_str(&line) {
                return Some(report);
            }
        }
        None
    }

    /// Waits for the child's end and says how it ended.
    async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => in_words(status),
            Err(error) => format!("wait for it: {error}"),
        }
    }

    /// Ends the child within a time, or kills it.
    async fn stop(mut self, within: Duration) {
        drop(self.stdin.take());
        if timeout(within, self.child.wait()).await.is_err() {
            warn!(
                within_ms = within.as_millis(),
                "the store did not stop in time and is killed"
            );
            let _ = self.child.kill().await;
        }
    }
}

fn in_words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}
