//! Several ingestors over real Kafka, with everything going wrong between them.
//!
//! `WEIR_ROUNDS=200 cargo test -p weir-tests --test it cluster -- --nocapture` for a long run;
//! `WEIR_SEED=n` repeats the choices of one.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use weir_eventlog::{
    KafkaOptions, KafkaSource, SEQ_HEADER, Shipper, ShipperOptions, Source, StreamWriter,
};
use weir_store::Store;
use weir_tests::kafka::Kafka;
use weir_tests::weir::{Installation, Process};

use super::events::{open_journal, write};
use super::proxy::Proxy;
use super::{Ingesting, PATIENCE, check, copy, sealed_journal, sums, written_journal};
use crate::audit::{installation, verify};
use crate::store::{Running, alone, store_at};

static KAFKA: LazyLock<Kafka> = LazyLock::new(|| Kafka::start().unwrap());

/// A group notices within this time that a member is gone.
const SESSION_MS: &str = "6000";

fn rounds(in_ci: u64) -> u64 {
    std::env::var("WEIR_ROUNDS").map_or(in_ci, |rounds| rounds.parse().unwrap())
}

fn random() -> StdRng {
    let seed = std::env::var("WEIR_SEED").map_or_else(|_| rand::random(), |s| s.parse().unwrap());
    println!("seed {seed} (WEIR_SEED={seed} repeats the choices)");
    StdRng::seed_from_u64(seed)
}

fn options(topic: &str) -> KafkaOptions {
    let mut options = KafkaOptions::new(KAFKA.brokers());
    options.topic = topic.to_owned();
    options.partitions = 4;
    let property = ("session.timeout.ms".to_owned(), SESSION_MS.to_owned());
    options.properties.extend([property]);
    options
}

/// Brings a journal to Kafka, all of it.
async fn ship(journal: &Path, topic: &str) {
    let shipper = Shipper::start(journal, ShipperOptions::new(options(topic))).unwrap();
    let stats = tokio::task::spawn_blocking(move || shipper.stop(PATIENCE));
    assert!(stats.await.unwrap().drained);
}

fn ingesting(topic: &str, group: &str, store: Store) -> Ingesting {
    let source = Source::Kafka(KafkaSource::open(options(topic), group).unwrap());
    Ingesting::reading(source, store)
}

/// Waits until so many events are stored, whoever stores them.
async fn wait_for_rows(store: &Store, events: u64) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while sums(store).await.distinct_events < events {
        assert!(
            std::time::Instant::now() < deadline,
            "{:?}",
            sums(store).await
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn a_topic_that_is_consumed_twice_is_stored_once() {
    alone(async {
        let running = Running::start().await;
        let dir = tempfile::tempdir().unwrap();
        let (first, again) = (dir.path().join("first"), dir.path().join("again"));
        let cost = written_journal(&first, 1000);
        // Shipped twice as well, as by a shipper whose cursor was lost.
        copy(&first, &again);
        ship(&first, "consumed-twice").await;
        ship(&again, "consumed-twice").await;
        for group in ["one", "two"] {
            let reader = ingesting("consumed-twice", group, running.store());
            reader.wait_for_events(2 * 6006).await;
            check(&running.store(), 3000, 3, cost).await;
            reader.drain().await;
        }
        check(&running.store(), 3000, 3, cost).await;
        running.stop().await;
    });
}

#[test]
fn a_topic_with_seals_that_is_shipped_and_consumed_twice_is_proven() {
    let mut random = random();
    alone(async move {
        let running = Running::start().await;
        let dir = tempfile::tempdir().unwrap();
        let (first, again) = (dir.path().join("first"), dir.path().join("again"));
        let events = sealed_journal(&first, &mut random, 3000);
        copy(&first, &again);
        ship(&first, "sealed-twice").await;
        ship(&again, "sealed-twice").await;
        for group in ["one", "two"] {
            let source = KafkaSource::open(options("sealed-twice"), group).unwrap();
            let audit_dir = dir.path().join(group);
            let reader = Ingesting::sealing(Source::Kafka(source), running.store(), &audit_dir);
            reader.wait_for_events(2 * events).await;
            let health = reader.health.clone();
            reader.drain().await;
            assert_eq!(health.snapshot().altered, 0);
        }
        let (report, proven) = verify(&installation(&running));
        assert!(proven, "{report}");
        assert_eq!(report["unsealed_events"], 0, "{report}");
        assert_eq!(report["events"], events, "{report}");
        assert_eq!(report["checkpoint_only_events"], 1, "the end: {report}");
        running.stop().await;
    });
}

/// An ingestor has asked what is stored, and its insert is held up; another one stores the same rows,
/// and the store forgets the tokens of that. Only by the insert's own deadline can it be told then.
#[test]
fn an_insert_that_was_held_up_for_longer_than_the_store_remembers_doubles_nothing() {
    alone(async {
        let running = Running::start().await;
        let store = running.store();
        store.migrate(0).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("journal");
        let cost = written_journal(&journal, 100);
        ship(&journal, "held-up").await;
        let proxy = Proxy::start(running.address).await;
        let held_up = ingesting("held-up", "one", store_at(proxy.address));
        proxy.hold_an_insert().await;
        let asked_us = clock_us(&store).await;
        let other = ingesting("held-up", "two", running.store());
        other.wait_for_events(606).await;
        other.drain().await;
        for table in ["requests", "attempts", "streams"] {
            let forget = format!(
                "ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = 0"
            );
            let mut answer = store.raw_query(&forget, "Null").unwrap();
            assert_eq!(answer.next().await.unwrap(), None);
        }
        while clock_us(&store).await < asked_us + DEADLINE_US {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        proxy.let_go();
        held_up.wait_for_events(606).await;
        let told = held_up.health.snapshot();
        assert_eq!((told.rows, told.duplicates), (0, 606), "{told:?}");
        held_up.drain().await;
        check(&store, 300, 3, cost).await;
        running.stop().await;
    });
}

/// An insert is taken for so long after the tables were asked, and a little longer.
const DEADLINE_US: u64 = 31_000_000;

async fn clock_us(store: &Store) -> u64 {
    let query = store.query("SELECT toUInt64(toUnixTimestamp64Micro(now64(6)))");
    store.fetch(query).await.unwrap()[0]
}

#[test]
fn a_poison_message_is_one_dead_letter_however_often_it_is_read() {
    alone(async {
        let running = Running::start().await;
        let store = running.store();
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("journal");
        let cost = written_journal(&journal, 100);
        ship(&journal, "poisoned").await;
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", KAFKA.brokers())
            .create()
            .unwrap();
        // A message that is no record, and a record that holds no event.
        let poison = BaseRecord::<str, str>::to("poisoned").partition(1);
        producer.send(poison.payload("hello")).unwrap();
        let seq = Header {
            key: SEQ_HEADER,
            value: Some("9"),
        };
        let key = "018bcfe5-6800-7000-8000-000000000001";
        let poison = BaseRecord::to("poisoned").partition(2).key(key);
        let poison = poison.headers(OwnedHeaders::new().insert(seq));
        producer.send(poison.payload("no event")).unwrap();
        producer.flush(PATIENCE).unwrap();
        for group in ["one", "two"] {
            let reader = ingesting("poisoned", group, running.store());
            let health = reader.health.clone();
            let is_read = || {
                let it = health.snapshot();
                it.dead_letters >= 2 && it.rows + it.duplicates >= 606
            };
            reader.wait_until("all is read", is_read).await;
            reader.drain().await;
        }
        check(&store, 300, 3, cost).await;
        let sql = "SELECT toString(kind), payload FROM dead_letters ORDER BY kind";
        let letters: Vec<(String, String)> = store.fetch(store.query(sql)).await.unwrap();
        let letter = |kind: &str, payload: &str| (kind.to_owned(), payload.to_owned());
        let expected = [
            letter("rejected", "hello"),
            letter("unreadable", "no event"),
        ];
        assert_eq!(letters, expected);
        running.stop().await;
    });
}

#[test]
fn members_that_come_and_go_all_the_time_lose_and_double_nothing() {
    let mut random = random();
    alone(async move {
        let running = Running::start().await;
        let dir = tempfile::tempdir().unwrap();
        let journal = open_journal(dir.path());
        let writers: Vec<StreamWriter> = (0..4)
            .map(|shard| journal.open_stream(shard).unwrap())
            .collect();
        let shipper = ShipperOptions::new(options("storm"));
        let shipper = Shipper::start(dir.path(), shipper).unwrap();
        let mut members: Vec<Ingesting> = Vec::new();
        let (mut cost, mut requests) = (0, 0);
        for round in 0..rounds(12) {
            for writer in &writers {
                cost += write(writer, 100 * round, 100);
                requests += 100;
            }
            if members.len() < 3 {
                members.push(ingesting("storm", "weir", running.store()));
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(0..600))).await;
            if members.len() == 3 || random.random_bool(0.3) {
                let leaves = members.remove(random.random_range(0..members.len()));
                if random.random_bool(0.5) {
                    leaves.abort().await;
                } else {
                    leaves.drain().await;
                }
            }
        }
        for writer in &writers {
            writer.close().unwrap();
        }
        members.push(ingesting("storm", "weir", running.store()));
        let events = 2 * requests + 2 * writers.len() as u64;
        wait_for_rows(&running.store(), events).await;
        for member in members {
            member.drain().await;
        }
        drop(shipper);
        check(&running.store(), requests, writers.len() as u64, cost).await;
        running.stop().await;
    });
}

/// A process is stopped wherever it is, loses its partitions, and goes on as if nothing had happened.
#[test]
fn a_zombie_that_goes_on_after_a_rebalance_doubles_nothing() {
    let mut random = random();
    alone(async move {
        let running = Running::start().await;
        let weir = Installation::new(&format!(
            "{}retention_days = 3650\n\n\
             [eventlog]\nkind = \"kafka\"\nbrokers = \"{}\"\ntopic = \"zombies\"\npartitions = 4\n\
             properties = {{ \"session.timeout.ms\" = \"{SESSION_MS}\" }}\n",
            running.settings(),
            KAFKA.brokers()
        ))
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let journal = open_journal(dir.path());
        let writers: Vec<StreamWriter> = (0..4)
            .map(|shard| journal.open_stream(shard).unwrap())
            .collect();
        let shipper = ShipperOptions::new(options("zombies"));
        let shipper = Shipper::start(dir.path(), shipper).unwrap();
        let members: Vec<Process> = (0..2).map(|_| weir.start(&["ingestor"]).unwrap()).collect();
        let store = running.store();
        store.migrate(3650).await.unwrap();
        let (mut cost, mut requests) = (0, 0);
        for round in 0..rounds(3) {
            let zombie = &members[random.random_range(0..2_usize)];
            for part in 0..20 {
                if part == 10 {
                    tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
                    zombie.signal("STOP").unwrap();
                }
                for writer in &writers {
                    cost += write(writer, 1000 * round + 50 * part, 50);
                    requests += 50;
                }
            }
            // The other one has everything, the zombie's partitions with it.
            wait_for_rows(&store, 2 * requests + 4).await;
            zombie.signal("CONT").unwrap();
        }
        for writer in &writers {
            writer.close().unwrap();
        }
        wait_for_rows(&store, 2 * requests + 8).await;
        for member in members {
            member.stop().unwrap();
        }
        drop(shipper);
        check(&store, requests, 4, cost).await;
        running.stop().await;
    });
}
