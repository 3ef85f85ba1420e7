//! Schedules that once lost or doubled events, step by step.

use std::rc::Rc;
use std::time::Duration;

use super::gateway::stream_id;
use super::world::{Mode, Row, TOKENS_KEPT, World};
use super::{Process, Shared, check_seals, settle};

fn check(mode: Mode, schedule: impl AsyncFnOnce(&Shared)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let world = Rc::new(World::new(1, mode, true).into());
    runtime.block_on(tokio::task::unconstrained(async {
        schedule(&world).await;
        world.borrow().check_all_is_stored();
    }));
    check_seals(&world);
}

fn token(table: &str, (stream, seq): Row) -> String {
    format!("{table}:{stream}:{seq}:0")
}

/// Runs an ingestor until everything is stored.
async fn drain(world: &Shared) {
    world.borrow_mut().calm();
    let mut processes = vec![Process::start(world)];
    world.borrow_mut().rebalance();
    settle(world, &mut processes).await;
    world.borrow_mut().leave(processes[0].member);
}

/// The store knows the token of a new stream's insert, and not its rows. In the same batch are rows
/// of a stream that is known already.
#[test]
fn a_token_without_rows_is_met_beside_a_known_stream() {
    check(Mode::Journal, async |world| {
        world.borrow_mut().extend(0, 2);
        drain(world).await;
        world.borrow_mut().kill_gateway();
        world.borrow_mut().extend(1, 3);
        world
            .borrow_mut()
            .forget_rows_of(&token("streams", (stream_id(1), 1)));
        drain(world).await;
    });
}

/// After a crash the first batch is all there already; the second meets the token without rows.
#[test]
fn a_token_without_rows_is_met_in_the_second_batch() {
    check(Mode::Journal, async |world| {
        world.borrow_mut().extend(0, 2);
        drain(world).await;
        world.borrow_mut().give_again();
        let mut process = Process::start(world);
        world.borrow_mut().rebalance();
        let mut processes = vec![process];
        settle(world, &mut processes).await;
        world.borrow_mut().extend(0, 2);
        world
            .borrow_mut()
            .forget_rows_of(&token("streams", (stream_id(0), 3)));
        settle(world, &mut processes).await;
        process = processes.remove(0);
        world.borrow_mut().leave(process.member);
    });
}

/// Two ingestors believe that they have a partition. The other has read fewer records, so its insert
/// with the same token has fewer rows; it comes first.
#[test]
fn another_ingestors_shorter_insert_has_the_same_token() {
    check(Mode::Kafka, async |world| {
        world.borrow_mut().extend(0, 4);
        world.borrow_mut().calm();
        world.borrow_mut().ship();
        let mut processes = vec![Process::start(world)];
        world.borrow_mut().rebalance();
        let first = (stream_id(0), 2);
        while !world.borrow().is_inserting(first) {
            processes[0].poll();
            world.borrow_mut().finish_inserts_but(first);
        }
        world.borrow_mut().insert_first(first);
        settle(world, &mut processes).await;
    });
}

/// A shipper that was killed sends again what it had no word about, and both are read in one batch.
#[test]
fn a_batch_holds_the_same_events_twice() {
    check(Mode::Kafka, async |world| {
        world.borrow_mut().extend(0, 4);
        world.borrow_mut().calm();
        world.borrow_mut().ship();
        world.borrow_mut().kill_shipper();
        world.borrow_mut().ship();
        drain(world).await;
    });
}

/// An ingestor is stopped, wherever it is, for so long that another one has stored its batch and the
/// store has forgotten with which tokens. Then it goes on as if nothing had happened.
#[test]
fn an_ingestor_is_stopped_for_longer_than_the_store_remembers() {
    for polls in 1..40 {
        check(Mode::Kafka, async |world| {
            println!("stopped after {polls} polls");
            world.borrow_mut().extend(0, 8);
            world.borrow_mut().calm();
            world.borrow_mut().ship();
            let mut stopped = Process::start(world);
            world.borrow_mut().rebalance();
            for _ in 0..polls {
                stopped.poll();
            }
            world.borrow_mut().finish_inserts();
            world.borrow_mut().leave(stopped.member);
            drain(world).await;
            tokio::time::advance(TOKENS_KEPT + Duration::from_secs(1)).await;
            go_on(world, &mut stopped, 100);
        });
    }
}

fn go_on(world: &Shared, process: &mut Process, polls: u32) {
    for _ in 0..polls {
        process.poll();
        world.borrow_mut().finish_inserts();
    }
}

/// An ingestor's insert was swallowed by a token without rows. When it goes on, the store has forgotten
/// that token, and another ingestor's insert stores the rows under it.
#[test]
fn a_token_without_rows_is_forgotten_between_two_ingestors() {
    for polls in (1..16).flat_map(|before| (1..16).map(move |after| (before, after))) {
        check(Mode::Kafka, async |world| {
            println!("stopped after {polls:?} polls");
            world.borrow_mut().extend(0, 3);
            world.borrow_mut().calm();
            world.borrow_mut().ship();
            let without_rows = token("streams", (stream_id(0), 1));
            world.borrow_mut().forget_rows_of(&without_rows);
            let mut stopped = Process::start(world);
            world.borrow_mut().rebalance();
            go_on(world, &mut stopped, polls.0);
            tokio::time::advance(TOKENS_KEPT + Duration::from_secs(1)).await;
            go_on(world, &mut stopped, polls.1);
            world.borrow_mut().leave(stopped.member);
            drain(world).await;
            go_on(world, &mut stopped, 100);
        });
    }
}
