//! Sends a schedule over a bounded pool of connections: the one loop under bench, replay and demo.
//!
//! A feeder waits for a free connection and for the next request's moment, and hands it over; each connection is a task that sends,
//! listens to the end, tells its [`Work`], and is free again. The number of connections bounds what is in flight; there is no
//! other queue. A request whose moment has passed while all connections were busy goes out late, with its intended time unchanged.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::bench::arrival::{Planned, Schedule};
use crate::client::{ExchangeError, HttpTarget, Listener, Slot};
use crate::pacer::Pacer;
use crate::stop::StopSwitch;

/// A connection that could not be opened is not tried again at once: a closed loop would spin.
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What is sent, and who hears of it.
pub(crate) trait Work: Send + Sync + 'static {
    type Heard: Listener + Default + Send;

    fn request(&self, planned: &Planned) -> Request<Full<Bytes>>;

    /// An exchange is over, one way or the other.
    fn ended(&self, exchange: FinishedExchange<'_, Self::Heard>);
}

/// A finished exchange.
#[derive(Debug)]
pub(crate) struct FinishedExchange<'e, H> {
    pub(crate) planned: &'e Planned,
    /// When it was meant to be sent; in a closed loop, when it was.
    pub(crate) intended: Instant,
    pub(crate) sent: Instant,
    pub(crate) ended: Instant,
    pub(crate) heard: &'e mut H,
    pub(crate) result: Result<(), ExchangeError>,
}

/// How it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Drive {
    pub(crate) target: HttpTarget,
    pub(crate) connections: usize,
    /// For a whole exchange, from its send.
    pub(crate) timeout: Duration,
    /// Time zero of the schedule.
    pub(crate) start: Instant,
    pub(crate) stop: StopSwitch,
}

/// What is left to say when all is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Driven {
    /// Requests that were due before the end and were not sent.
    pub(crate) unsent: u64,
    pub(crate) connections_opened: u64,
}

/// Runs a schedule to its end, or until stopped; exchanges in flight are then dropped without a word.
pub(crate) async fn drive<W: Work>(
    schedule: Schedule,
    work: Arc<W>,
    drive: &Drive,
) -> io::Result<Driven> {
    let (free, next_free) = mpsc::channel(drive.connections.max(1));
    let mut tasks = JoinSet::new();
    let jobs = (0..drive.connections.max(1))
        .map(|index| {
            let (sender, jobs) = mpsc::channel(1);
            let task = connection(index, jobs, free.clone(), Arc::clone(&work), drive.clone());
            tasks.spawn(task);
            sender
        })
        .collect();
    drop(free);
    let mut driven = Driven::default();
    tokio::select! {
        () = drive.stop.stopped() => tasks.abort_all(),
        unsent = feed(schedule, jobs, next_free, drive) => driven.unsent = unsent?,
    }
    // The feed is over and its jobs with it: connections finish what they have.
    loop {
        tokio::select! {
            () = drive.stop.stopped(), if !drive.stop.is_stopped() => tasks.abort_all(),
            ended = tasks.join_next() => match ended {
                Some(Ok(opened)) => driven.connections_opened += opened,
                Some(Err(_aborted)) => {}
                None => return Ok(driven),
            },
        }
    }
}

/// What every thread here runs on.
pub(crate) fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// Hands the schedule to free connections; returns how many requests were due but not sent.
async fn feed(
    mut schedule: Schedule,
    jobs: Vec<mpsc::Sender<Planned>>,
    mut free: mpsc::Receiver<usize>,
    drive: &Drive,
) -> io::Result<u64> {
    let pacer = Pacer::new()?;
    let end = schedule.end().map(|end| drive.start + end);
    pacer.until(drive.start).await?;
    while let Some(index) = free.recv().await {
        // A closed loop is asked only now that there is a connection; an open one would have the same answer at any time.
        let Some(planned) = schedule.next(drive.start.elapsed()) else {
            break;
        };
        if let Some(at) = planned.at {
            pacer.until(drive.start + at).await?;
            if end.is_some_and(|end| Instant::now() >= end) {
                let rest = std::iter::from_fn(|| schedule.next(Duration::ZERO));
                return Ok(1 + rest.count() as u64);
            }
        }
        let Some(connection) = jobs.get(index) else {
            break;
        };
        if connection.send(planned).await.is_err() {
            break;
        }
    }
    Ok(0)
}

/// One connection's task: a job, its exchange, free again. Returns how often it connected.
async fn connection<W: Work>(
    index: usize,
    mut jobs: mpsc::Receiver<Planned>,
    free: mpsc::Sender<usize>,
    work: Arc<W>,
    drive: Drive,
) -> u64 {
    let mut slot = Slot::new(&drive.target);
    // The channel holds as many as there are connections, so sending never waits.
    while free.send(index).await.is_ok() {
        let Some(planned) = jobs.recv().await else {
            break;
        };
        let sent = Instant::now();
        let mut heard = W::Heard::default();
        let exchange = slot.exchange(work.request(&planned), &mut heard);
        let result = tokio::time::timeout(drive.timeout, exchange)
            .await
            .unwrap_or(Err(ExchangeError::Timeout));
        work.ended(FinishedExchange {
            planned: &planned,
            intended: planned.at.map_or(sent, |at| drive.start + at),
            sent,
            ended: Instant::now(),
            heard: &mut heard,
            result,
        });
        if result == Err(ExchangeError::Connect) {
            tokio::time::sleep(CONNECT_AGAIN_AFTER).await;
        }
    }
    slot.opened
}
