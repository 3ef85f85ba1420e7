//! The load generator: arrival × stop × workload, one loop for all of them.
//!
//! **Latency is counted from the time at which a request was meant to be sent**, not from when it was: a target that stalls for a
//! second is charged for every request that should have gone out in that second. Nothing is corrected afterwards; the schedule
//! ([`arrival`]) fixes the intended times before anything is sent, and how late the sends were is reported beside the latency.
//! `from send` is what other tools measure, kept to show the difference.
//!
//! The way: [`arrival::Schedule`] says when and how large → `drive` waits for that moment (exact to microseconds) and for a free
//! connection (their number bounds what is in flight) → the connection's task sends and listens → `record` → [`report`].
//! Each thread runs this by itself on its share of one seeded schedule; their records are added up at the end.

pub mod arrival;
pub mod compare;
pub mod process;
mod record;
pub mod report;
mod run;
pub mod workload;

use std::time::Duration;

pub use arrival::{Arrival, Stop};
pub use compare::{BenchCandidate, Comparison, compare};
pub use record::{BenchCounts, LatencySummary, Series};
pub use report::BenchReport;
pub use workload::Workload;

use crate::client::TargetError;
use crate::stop::StopSwitch;

/// What is measured, and how.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Base URL, as an SDK takes it: `http://127.0.0.1:8080/v1`.
    pub url: String,
    pub key: Option<String>,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
    pub workload: Workload,
    pub arrival: Arrival,
    pub stop: Stop,
    /// Sent but not recorded.
    pub warm_up: Duration,
    /// Keep-alive connections, and so the most requests in flight.
    pub connections: usize,
    pub threads: usize,
    /// An answer that takes longer, counted from its send, is an error.
    pub timeout: Duration,
    pub seed: u64,
    /// A send later than this after its intended time counts as late.
    pub late_after: Duration,
    /// Processes whose CPU time and memory are taken over the measured time.
    pub watch: Vec<u32>,
    /// A progress bar on stderr, if that is a terminal.
    pub progress: bool,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8080/v1".to_owned(),
            key: None,
            headers: Vec::new(),
            workload: Workload::default(),
            arrival: Arrival::Constant { per_second: 100.0 },
            stop: Stop {
                after: Some(Duration::from_secs(10)),
                requests: None,
            },
            warm_up: Duration::from_secs(2),
            connections: 64,
            threads: 1,
            timeout: Duration::from_secs(60),
            seed: 1,
            late_after: Duration::from_millis(1),
            watch: Vec::new(),
            progress: true,
        }
    }
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("bench target: {0}")]
    HttpTarget(#[from] TargetError),
    #[error("bench options: {problem}")]
    Options { problem: String },
    #[error("cannot watch process {pid}: {source}")]
    Watch { pid: u32, source: std::io::Error },
    #[error("bench cannot start a thread: {source}")]
    Thread { source: std::io::Error },
    #[error("bench runtime failed: {source}")]
    Runtime { source: std::io::Error },
    #[error("a bench thread panicked")]
    Panicked,
}

/// Measures once. Blocks until done; call it from a thread that may.
pub fn run(options: &BenchOptions) -> Result<BenchReport, BenchError> {
    run_until(options, &StopSwitch::default())
}

/// Measures once, or until `stop` is pulled: what was measured by then is reported.
pub fn run_until(options: &BenchOptions, stop: &StopSwitch) -> Result<BenchReport, BenchError> {
    options.check()?;
    run::run(options, stop)
}

impl BenchOptions {
    fn check(&self) -> Result<(), BenchError> {
        let problem = if self.threads == 0 {
            "threads must be at least 1".to_owned()
        } else if self.connections < self.threads {
            format!(
                "connections ({}) must be at least as many as threads ({})",
                self.connections, self.threads
            )
        } else if let Some(problem) = self
            .arrival
            .problem()
            .or_else(|| self.stop.problem(&self.arrival))
        {
            problem
        } else {
            return Ok(());
        };
        Err(BenchError::Options { problem })
    }
}
