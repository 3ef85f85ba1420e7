//! Gateways, shipper, Kafka, ingestors and ClickHouse in one thread, in an order that a seed decides.
//!
//! The ingestors are the real ones: [`Ingestor::step`] with all that hangs from it. What they stand on
//! is a model: journals that are shipped more than once when the shipper dies, a consumer group
//! whose members learn late what they have lost, and a store that runs inserts on after their sender
//! is gone, forgets rows whose tokens it keeps, and loses answers. After a while nothing fails any
//! more, and then every event that was appended must be stored once.
//!
//! The streams carry their gateways' seals. In every other group of schedules the ingestors compare rows
//! with them and make checkpoints: whatever happens, no row may seem altered, and at the end all rows are
//! sealed as they were written.
//!
//! `WEIR_SEED=n` runs one schedule and shows its steps; `WEIR_SCHEDULES=n` runs so many.

mod engine;
mod gateway;
mod log;
mod regressions;
mod seals;
mod world;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

use self::engine::SimEngine;
use self::gateway::{EVENTS_MAX, STREAMS_MAX, Tampering, TamperingKind, is_dead};
use self::log::SimLog;
use self::world::{LEAP_MAX, Mode, World};
use crate::audit::SealProgress;
use crate::audit::pieces::{CheckpointRow, LeafMaker};
use crate::caps::GAP_MAX;
use crate::pipeline::{Ingestor, Interrupted};
use crate::retry::RetryPolicy;

/// Steps in which anything may go wrong, and those in which all must come to its end.
const WILD_STEPS: u32 = 100;
const CALM_STEPS: u32 = 20_000;

/// Polls of an ingestor between two of its checkpoints, at most.
const CHECKPOINT_POLLS_MAX: usize = 60;

type Shared = Rc<RefCell<World>>;

/// An ingestor process.
struct Process {
    member: u64,
    /// A process that is stopped, as by SIGSTOP, goes on as if nothing had happened.
    is_frozen: bool,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

impl Process {
    fn start(world: &Shared) -> Self {
        let member = world.borrow_mut().join();
        let world = Rc::clone(world);
        let future = async move {
            if !world.borrow().is_sealing() {
                return ingest(&world, member, SealProgress::default()).await;
            }
            let progress = SealProgress::hashing();
            tokio::select! {
                biased;
                () = ingest(&world, member, progress.clone()) => {}
                never = seal(&world, member, progress) => match never {},
            }
        };
        Self {
            member,
            is_frozen: false,
            future: Box::pin(future),
        }
    }

    fn poll(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        assert!(
            self.future.as_mut().poll(&mut context) == Poll::Pending,
            "an ingestor ended"
        );
    }
}

async fn ingest(world: &Shared, member: u64, progress: SealProgress) {
    let (_stop, stopped) = watch::channel(false);
    let health = world.borrow_mut().new_health();
    let mut ingestor = Ingestor::new(
        SimLog::new(Rc::clone(world), member),
        SimEngine::new(Rc::clone(world)),
        RetryPolicy::new(stopped, health.clone()),
        health,
        progress,
    );
    loop {
        match ingestor.step().await {
            Ok(_) => {}
            Err(Interrupted::Stopped) => return,
            Err(Interrupted::Failed(error)) => panic!("{error}"),
        }
    }
}

/// Makes checkpoints, as an ingestor does beside its work.
async fn seal(world: &Shared, member: u64, progress: SealProgress) -> Infallible {
    let mut pieces = LeafMaker::new(SimEngine::new(Rc::clone(world)), progress);
    let mut number = 0;
    loop {
        let polls = world.borrow_mut().choose(CHECKPOINT_POLLS_MAX);
        for _ in 0..polls {
            pass().await;
        }
        number += 1;
        let now_us = world.borrow_mut().now_us();
        let now = Duration::from_micros(now_us);
        checkpoint(world, (member, number), &mut pieces, now).await;
    }
}

/// What a checkpoint is without its signature.
async fn checkpoint(
    world: &Shared,
    (member, number): (u64, u64),
    pieces: &mut LeafMaker<SimEngine>,
    now: Duration,
) {
    let signer = member.to_string();
    let head = CheckpointRow {
        signer: signer.clone(),
        number,
        ..CheckpointRow::default()
    };
    let leaves = pieces.leaves(&head, now).await.unwrap();
    world.borrow_mut().checkpoints.add_leaves(&leaves);
    pass().await;
    world.borrow_mut().checkpoints.add_head(&signer, number);
    pieces.sealed(&leaves);
}

/// An ingestor that starts when all is over seals what is left, gaps too.
fn seal_the_rest(world: &Shared) {
    let member = world.borrow_mut().next_number();
    let rest = async {
        let engine = SimEngine::new(Rc::clone(world));
        let mut pieces = LeafMaker::new(engine, SealProgress::default());
        for number in 1..=5 {
            let now = GAP_MAX * number;
            checkpoint(world, (member, number.into()), &mut pieces, now).await;
        }
    };
    let mut rest = pin!(rest);
    let mut context = Context::from_waker(Waker::noop());
    while rest.as_mut().poll(&mut context).is_pending() {}
}

/// Lets everybody else go first.
async fn pass() {
    let mut passed = false;
    std::future::poll_fn(|_| {
        if std::mem::replace(&mut passed, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// Runs the schedule of a world.
fn run_in(world: World) -> Shared {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let world = Rc::new(RefCell::new(world));
    runtime.block_on(tokio::task::unconstrained(schedule(&world)));
    world
}

/// Runs the schedule of a seed and gives a digest of all that happened.
fn run(seed: u64, is_told: bool) -> u64 {
    let world = run_in(World::of_seed(seed, is_told));
    if world.borrow().is_sealing() {
        check_seals(&world);
    }
    world.borrow().digest()
}

/// All is as its gateway sealed it, and nobody has said otherwise.
fn check_seals(world: &Shared) {
    seal_the_rest(world);
    let world = world.borrow();
    assert_eq!(world.other_than_sealed(), BTreeSet::new());
    assert_eq!(world.alarms(), 0, "alarms");
}

async fn schedule(world: &Shared) {
    let mut processes: Vec<Process> = Vec::new();
    for _ in 0..WILD_STEPS {
        wild_step(world, &mut processes).await;
    }
    world.borrow_mut().calm();
    processes
        .iter_mut()
        .for_each(|process| process.is_frozen = false);
    if processes.is_empty() {
        processes.push(Process::start(world));
    }
    world.borrow_mut().rebalance();
    settle(world, &mut processes).await;
    world.borrow().check_all_is_stored();
}

/// Everybody does what there is to do, until all is stored.
async fn settle(world: &Shared, processes: &mut [Process]) {
    for step in 0..CALM_STEPS {
        world.borrow_mut().ship();
        world.borrow_mut().finish_inserts();
        processes.iter_mut().for_each(Process::poll);
        if step % 8 == 7 {
            tokio::time::advance(Duration::from_millis(700)).await;
        }
        if world.borrow().is_drained() {
            break;
        }
    }
}

/// One step of a seed's choice.
async fn wild_step(world: &Shared, processes: &mut Vec<Process>) {
    let choice = world.borrow_mut().choose(100);
    let some = |world: &Shared, processes: &[Process]| {
        let count = processes.len();
        (count > 0).then(|| world.borrow_mut().choose(count))
    };
    match choice {
        0..10 => world.borrow_mut().append(),
        10..13 => world.borrow_mut().kill_gateway(),
        13..23 => world.borrow_mut().ship(),
        23..25 => world.borrow_mut().kill_shipper(),
        25..37 => world.borrow_mut().finish_an_insert(),
        37..40 => world.borrow_mut().cut_an_answer(),
        40..42 => world.borrow_mut().kill_store(),
        42..45 => world.borrow_mut().rebalance(),
        45..49 => {
            let alone = world.borrow().mode() == Mode::Journal;
            if processes.len() < if alone { 1 } else { 3 } {
                processes.push(Process::start(world));
                world.borrow_mut().rebalance();
            }
        }
        49..51 => {
            if let Some(at) = some(world, processes) {
                let killed = processes.remove(at);
                world.borrow_mut().leave(killed.member);
            }
        }
        51..54 => {
            if let Some(at) = some(world, processes) {
                processes[at].is_frozen = !processes[at].is_frozen;
            }
        }
        54..57 => {
            let share = world.borrow_mut().choose(100);
            world.borrow_mut().finish_old_inserts();
            tokio::time::advance(LEAP_MAX.mul_f64(share as f64 / 100.0)).await;
        }
        _ => {
            if let Some(at) = some(world, processes) {
                // Mostly several polls: a step of the pipeline has a dozen of them.
                let polls = 1 + world.borrow_mut().choose(6);
                for _ in 0..polls {
                    if !processes[at].is_frozen {
                        processes[at].poll();
                    }
                }
            }
        }
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_event_is_stored_once_in_a_hundred_thousand_schedules() {
    if let Some(seed) = from_environment("WEIR_SEED") {
        run(seed, true);
        return;
    }
    let schedules = from_environment("WEIR_SCHEDULES").unwrap_or(100_000);
    let threads = thread::available_parallelism().map_or(2, |count| count.get());
    let run_share = |share: usize| {
        for seed in (0..schedules).skip(share).step_by(threads) {
            let outcome = std::panic::catch_unwind(|| run(seed, false));
            assert!(outcome.is_ok(), "WEIR_SEED={seed} repeats the schedule");
        }
    };
    thread::scope(|scope| {
        for share in 0..threads {
            scope.spawn(move || run_share(share));
        }
    });
}

#[test]
fn a_seed_always_gives_the_same_schedule() {
    for seed in 0..500 {
        assert_eq!(run(seed, false), run(seed, false), "seed {seed}");
    }
    assert_ne!(run(1, false), run(2, false));
}

/// The checks above can fail: whatever is done to an event on its way, it is named, and nothing else is.
#[test]
fn an_event_that_is_altered_dropped_or_doubled_on_the_way_is_named() {
    let mut alarms = 0;
    for seed in 0..1500 {
        let at = usize::try_from(seed).unwrap() % STREAMS_MAX;
        let place = (at, 2 + seed % (EVENTS_MAX - 1));
        let kinds = [
            TamperingKind::Altered,
            TamperingKind::Dropped,
            TamperingKind::Doubled,
        ];
        let kind = kinds[usize::try_from(seed / 7).unwrap() % kinds.len()];
        if is_dead(place) {
            continue;
        }
        let tampering = Tampering { kind, place };
        let world = run_in(World::of_seed(seed, false).tampered(tampering));
        seal_the_rest(&world);
        let world = world.borrow();
        let named = world.is_sealed(place).then_some(place);
        let named = BTreeSet::from_iter(named);
        assert_eq!(
            world.other_than_sealed(),
            named,
            "{kind:?} {place:?}, seed {seed}"
        );
        alarms += world.alarms();
    }
    assert!(alarms > 100, "ingestors have seen it {alarms} times");
}
