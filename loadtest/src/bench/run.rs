//! One measurement: threads, each with its runtime, its connections and its share of the schedule.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use super::arrival::{Arrival, Planned, Schedule};
use super::process::{self, ProcessUsage};
use super::record::{BenchRecord, Heard};
use super::report::BenchReport;
use super::workload::Maker;
use super::{BenchError, BenchOptions, StopSwitch};
use crate::client::HttpTarget;
use crate::drive::{self, Drive, FinishedExchange, Work};

/// How often the main thread looks around.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Time for threads and runtimes to start before the first request is due.
const START_AFTER: Duration = Duration::from_millis(20);

/// What one thread sends and records; `done` is shared by all.
#[derive(Debug)]
struct Bench {
    maker: Arc<Maker>,
    late_after: Duration,
    record: Mutex<BenchRecord>,
    done: Arc<AtomicU64>,
}

impl Work for Bench {
    type Heard = Heard;

    fn request(&self, planned: &Planned) -> Request<Full<Bytes>> {
        self.maker.request(planned)
    }

    fn ended(&self, exchange: FinishedExchange<'_, Heard>) {
        self.done.fetch_add(1, Ordering::Relaxed);
        if exchange.planned.counts {
            self.record.lock().enter(&exchange, self.late_after);
        }
    }
}

pub(super) fn run(options: &BenchOptions, stop: &StopSwitch) -> Result<BenchReport, BenchError> {
    let target = HttpTarget::new(&options.url, options.key.as_deref(), &options.headers)?;
    read_processes(options)?;
    let maker = Maker::new(target.clone(), options.workload.clone(), options.seed);
    let run = BenchRun {
        options,
        maker: Arc::new(maker),
        target,
        start: Instant::now() + START_AFTER,
        stop,
        done: Arc::new(AtomicU64::new(0)),
    };
    let threads = run.spawn()?;
    let processes = run.watch(&threads)?;
    let mut record = BenchRecord::new();
    let mut ended = run.start;
    for thread in threads {
        let (part, end) = thread.join().map_err(|_| BenchError::Panicked)??;
        record.add(&part);
        ended = ended.max(end);
    }
    let took = ended.saturating_duration_since(run.start + options.warm_up);
    Ok(BenchReport::new(options, record, took, processes))
}

/// One run as the main thread sees it.
struct BenchRun<'r> {
    options: &'r BenchOptions,
    maker: Arc<Maker>,
    target: HttpTarget,
    start: Instant,
    stop: &'r StopSwitch,
    done: Arc<AtomicU64>,
}

type Thread = JoinHandle<Result<(BenchRecord, Instant), BenchError>>;

impl BenchRun<'_> {
    fn spawn(&self) -> Result<Vec<Thread>, BenchError> {
        let options = self.options;
        let threads = options.threads as u64;
        (0..threads)
            .map(|thread| {
                let part = (thread, threads);
                let (arrival, stop) = (options.arrival.clone(), options.stop);
                let schedule = Schedule::new(arrival, stop, options.warm_up, options.seed, part);
                let bench = Arc::new(Bench {
                    maker: Arc::clone(&self.maker),
                    late_after: options.late_after,
                    record: Mutex::new(BenchRecord::new()),
                    done: Arc::clone(&self.done),
                });
                let drive = Drive {
                    target: self.target.clone(),
                    connections: share(options.connections as u64, thread, threads),
                    timeout: options.timeout,
                    start: self.start,
                    stop: self.stop.clone(),
                };
                std::thread::Builder::new()
                    .name(format!("bench-{thread}"))
                    .spawn(move || work(schedule, bench, &drive))
                    .map_err(|source| BenchError::Thread { source })
            })
            .collect()
    }

    /// Shows progress and reads the watched processes at both ends of the measured time.
    fn watch(
        &self,
        threads: &[Thread],
    ) -> Result<Option<(ProcessUsage, ProcessUsage)>, BenchError> {
        let bar = bar(self.options);
        let warm = self.start + self.options.warm_up;
        let mut before = None;
        while !threads.iter().all(JoinHandle::is_finished) {
            let now = Instant::now();
            if before.is_none() && now >= warm {
                before = Some(read_processes(self.options)?);
            }
            bar.set_position(self.progress(now));
            // Wake up for the end of the warm-up, so that CPU time is counted from there.
            let pause = match before {
                None => warm.saturating_duration_since(now).min(LOOK_EVERY),
                Some(_) => LOOK_EVERY,
            };
            std::thread::park_timeout(pause.max(Duration::from_micros(100)));
        }
        bar.finish_and_clear();
        let after = read_processes(self.options)?;
        Ok(before.flatten().zip(after))
    }

    fn progress(&self, now: Instant) -> u64 {
        if goes_by_time(self.options) {
            milliseconds(now.saturating_duration_since(self.start))
        } else {
            self.done.load(Ordering::Relaxed)
        }
    }
}

/// One thread's part of a run.
fn work(
    schedule: Schedule,
    bench: Arc<Bench>,
    how: &Drive,
) -> Result<(BenchRecord, Instant), BenchError> {
    let failed = |source| BenchError::Runtime { source };
    let runtime = drive::runtime().map_err(failed)?;
    let driven = runtime
        .block_on(drive::drive(schedule, Arc::clone(&bench), how))
        .map_err(failed)?;
    let mut record = bench.record.lock().clone();
    record.counts.unsent = driven.unsent;
    record.counts.connections_opened = driven.connections_opened;
    Ok((record, Instant::now()))
}

/// The part of `all` that thread `thread` gets; at least 1, since there are as many connections as threads.
fn share(all: u64, thread: u64, threads: u64) -> usize {
    let part = all / threads + u64::from(thread < all % threads);
    usize::try_from(part).unwrap_or(1)
}

/// Reads the watched processes, if any, and adds them up.
fn read_processes(options: &BenchOptions) -> Result<Option<ProcessUsage>, BenchError> {
    let mut sum = None;
    for &pid in &options.watch {
        let one = process::read(pid).map_err(|source| BenchError::Watch { pid, source })?;
        let sum: &mut ProcessUsage = sum.get_or_insert_default();
        sum.cpu += one.cpu;
        sum.resident_bytes += one.resident_bytes;
    }
    Ok(sum)
}

/// Whether the end is known as a time; else it is known as a number of requests.
fn goes_by_time(options: &BenchOptions) -> bool {
    options.stop.after.is_some() && !matches!(options.arrival, Arrival::Trace { .. })
}

fn bar(options: &BenchOptions) -> ProgressBar {
    if !options.progress || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (length, shown) = match (&options.arrival, options.stop.after) {
        (Arrival::Trace { trace, .. }, _) => (trace.calls.len() as u64, "{pos}/{len} requests"),
        (_, Some(after)) => (milliseconds(options.warm_up + after), "{elapsed}"),
        (_, None) => (options.stop.requests.unwrap_or(0), "{pos}/{len} requests"),
    };
    let bar = ProgressBar::new(length);
    match ProgressStyle::with_template(&format!("{{bar:40}} {shown}, {{eta}} left")) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
