//! One measurement: threads, each with its runtime, its connections and its share of the schedule.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::arrival::{Arrival, Planned, Schedule};
use super::pacer::Pacer;
use super::process::{self, Reading};
use super::record::{Heard, Record};
use super::report::{Measured, Report};
use super::workload::Maker;
use super::{BenchError, BenchOptions, StopSwitch};
use crate::client::{Broken, Slot, Target};

/// How often the main thread looks around.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A connection that could not be opened is not tried again at once: a closed loop would spin.
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Time for threads and runtimes to start before the first request is due.
const START_AFTER: Duration = Duration::from_millis(20);

/// What the threads of one run share.
#[derive(Debug)]
struct Shared {
    maker: Maker,
    timeout: Duration,
    late_after: Duration,
    start: Instant,
    stop: StopSwitch,
    done: AtomicU64,
}

pub(super) fn run(options: &BenchOptions, stop: &StopSwitch) -> Result<Report, BenchError> {
    let target = Target::new(&options.url, options.key.as_deref(), &options.headers)?;
    read_processes(options)?;
    let shared = Arc::new(Shared {
        maker: Maker::new(target, options.workload.clone(), options.seed),
        timeout: options.timeout,
        late_after: options.late_after,
        start: Instant::now() + START_AFTER,
        stop: stop.clone(),
        done: AtomicU64::new(0),
    });
    let threads = spawn(options, &shared)?;
    let processes = watch(options, &shared, &threads)?;
    let mut record = Record::new();
    let mut ended = shared.start;
    for thread in threads {
        let (part, end) = thread.join().map_err(|_| BenchError::Panicked)??;
        record.add(&part);
        ended = ended.max(end);
    }
    let took = ended.saturating_duration_since(shared.start + options.warm_up);
    Ok(Report::new(
        options,
        &Measured {
            record,
            took,
            processes,
        },
    ))
}

type Thread = JoinHandle<Result<(Record, Instant), BenchError>>;

fn spawn(options: &BenchOptions, shared: &Arc<Shared>) -> Result<Vec<Thread>, BenchError> {
    let threads = options.threads as u64;
    (0..threads)
        .map(|thread| {
            let schedule = Schedule::new(
                options.arrival.clone(),
                options.stop,
                options.warm_up,
                options.seed,
                (thread, threads),
            );
            let connections = share(options.connections as u64, thread, threads);
            let shared = Arc::clone(shared);
            std::thread::Builder::new()
                .name(format!("bench-{thread}"))
                .spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .map_err(|source| BenchError::Runtime { source })?;
                    runtime.block_on(send_all(schedule, connections, shared))
                })
                .map_err(|source| BenchError::Thread { source })
        })
        .collect()
}

/// The part of `all` that thread `thread` gets; at least 1, since there are as many connections as threads.
fn share(all: u64, thread: u64, threads: u64) -> usize {
    let part = all / threads + u64::from(thread < all % threads);
    usize::try_from(part).unwrap_or(1)
}

/// Shows progress and reads the watched processes at both ends of the measured time.
fn watch(
    options: &BenchOptions,
    shared: &Shared,
    threads: &[Thread],
) -> Result<Option<(Reading, Reading)>, BenchError> {
    let bar = bar(options);
    let warm = shared.start + options.warm_up;
    let mut before = None;
    while !threads.iter().all(JoinHandle::is_finished) {
        let now = Instant::now();
        if before.is_none() && now >= warm {
            before = Some(read_processes(options)?);
        }
        bar.set_position(progress(options, shared, now));
        // Wake up for the end of the warm-up, so that CPU time is counted from there.
        let until_warm = warm.saturating_duration_since(now);
        let pause = if before.is_none() {
            until_warm.min(LOOK_EVERY)
        } else {
            LOOK_EVERY
        };
        std::thread::park_timeout(pause.max(Duration::from_micros(100)));
    }
    bar.finish_and_clear();
    let after = read_processes(options)?;
    Ok(before.flatten().zip(after))
}

fn read_processes(options: &BenchOptions) -> Result<Option<Reading>, BenchError> {
    if options.watch.is_empty() {
        return Ok(None);
    }
    process::read_all(&options.watch)
        .map(Some)
        .map_err(|(pid, source)| BenchError::Watch { pid, source })
}

/// A bar over requests where their number is known, over milliseconds where it is not.
fn bar(options: &BenchOptions) -> ProgressBar {
    if !options.progress || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (length, unit) = match (&options.arrival, options.stop) {
        (Arrival::Trace { trace, .. }, _) => (trace.calls.len() as u64, "{pos}/{len} requests"),
        (_, stop) => match (stop.after, stop.requests) {
            (Some(after), _) => (milliseconds(options.warm_up + after), "{elapsed}, {msg}"),
            (None, requests) => (requests.unwrap_or(0), "{pos}/{len} requests"),
        },
    };
    let style = ProgressStyle::with_template(&format!("{{bar:40}} {unit} (ETA {{eta}})"));
    let bar = ProgressBar::new(length);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn progress(options: &BenchOptions, shared: &Shared, now: Instant) -> u64 {
    let by_time = options.stop.after.is_some() && !matches!(options.arrival, Arrival::Trace { .. });
    if by_time {
        milliseconds(now.saturating_duration_since(shared.start))
    } else {
        shared.done.load(Ordering::Relaxed)
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A request for a connection.
struct Job {
    planned: Planned,
    intended: Option<Instant>,
}

/// One thread's work: its connections, and whoever feeds them.
async fn send_all(
    schedule: Schedule,
    connections: usize,
    shared: Arc<Shared>,
) -> Result<(Record, Instant), BenchError> {
    let record = Arc::new(Mutex::new(Record::new()));
    let (free, next_free) = mpsc::channel(connections);
    let mut tasks = JoinSet::new();
    let mut jobs = Vec::with_capacity(connections);
    for index in 0..connections {
        let (sender, receiver) = mpsc::channel(1);
        jobs.push(sender);
        tasks.spawn(connection(
            index,
            receiver,
            free.clone(),
            Arc::clone(&shared),
            Arc::clone(&record),
        ));
    }
    drop(free);
    let feed = feed(schedule, jobs, next_free, &shared);
    tokio::select! {
        () = shared.stop.stopped() => tasks.abort_all(),
        fed = async {
            let unsent = feed.await;
            // The feed is over and its jobs with it: connections finish what they have.
            while tasks.join_next().await.is_some() {}
            unsent
        } => record.lock().unsent = fed?,
    }
    while tasks.join_next().await.is_some() {}
    let record = record.lock().clone();
    Ok((record, Instant::now()))
}

/// Hands the schedule to free connections; returns how many requests were due but not sent.
async fn feed(
    mut schedule: Schedule,
    jobs: Vec<mpsc::Sender<Job>>,
    mut free: mpsc::Receiver<usize>,
    shared: &Shared,
) -> Result<u64, BenchError> {
    let runtime = |source| BenchError::Runtime { source };
    let pacer = Pacer::new().map_err(runtime)?;
    let end = schedule.end().map(|end| shared.start + end);
    pacer.until(shared.start).await.map_err(runtime)?;
    while let Some(index) = free.recv().await {
        // A closed loop is asked only now that there is a connection; an open one would have the same answer at any time.
        let Some(planned) = schedule.next(shared.start.elapsed()) else {
            break;
        };
        let intended = planned.at.map(|at| shared.start + at);
        if let Some(moment) = intended {
            pacer.until(moment).await.map_err(runtime)?;
            if end.is_some_and(|end| Instant::now() >= end) {
                return Ok(1 + rest(&mut schedule));
            }
        }
        let Some(connection) = jobs.get(index) else {
            break;
        };
        if connection.send(Job { planned, intended }).await.is_err() {
            break;
        }
    }
    Ok(0)
}

/// Requests of an open loop that were due before the end and are not sent any more.
fn rest(schedule: &mut Schedule) -> u64 {
    std::iter::from_fn(|| schedule.next(Duration::ZERO)).count() as u64
}

/// One connection's task: a job, its exchange, free again.
async fn connection(
    index: usize,
    mut jobs: mpsc::Receiver<Job>,
    free: mpsc::Sender<usize>,
    shared: Arc<Shared>,
    record: Arc<Mutex<Record>>,
) {
    let mut slot = Slot::new(shared.maker.target());
    let mut heard = Heard::default();
    loop {
        // The channel holds as many as there are connections, so this never waits.
        if free.send(index).await.is_err() {
            break;
        }
        let Some(job) = jobs.recv().await else { break };
        let sent = Instant::now();
        let intended = job.intended.unwrap_or(sent);
        heard.clear();
        let exchange = slot.exchange(shared.maker.request(&job.planned), &mut heard);
        let ended = tokio::time::timeout(shared.timeout, exchange)
            .await
            .unwrap_or(Err(Broken::Timeout));
        shared.done.fetch_add(1, Ordering::Relaxed);
        if job.planned.counts {
            let mut record = record.lock();
            record.late += u64::from(sent.saturating_duration_since(intended) > shared.late_after);
            heard.enter(&mut record, intended, sent, Instant::now(), ended);
        }
        if ended == Err(Broken::Connect) {
            tokio::time::sleep(CONNECT_AGAIN_AFTER).await;
        }
    }
    record.lock().connections_opened += slot.opened;
}
