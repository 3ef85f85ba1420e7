//! From a journal to the tables of the real engine, with everything going wrong on the way.

mod any_event;
mod clock;
mod cluster;
pub(crate) mod events;
mod extremes;
mod proxy;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use clickhouse::Row;
use rand::Rng;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use weir_eventlog::{JournalSource, Source, last_seq};
use weir_ingestor::audit::AuditOptions;
use weir_ingestor::{IngestorError, IngestorHealth, IngestorOptions};
use weir_store::{Store, StoreState};
use weir_tests::port::ReservedPort;

use self::any_event::append_any;
use self::events::{open_journal, open_sealed_journal, write};
use self::proxy::Proxy;
use crate::store::{Running, alone, settled, store_at, supervise};

const PATIENCE: Duration = Duration::from_secs(120);

/// The ingestor of a journal.
pub(crate) struct Ingesting {
    health: IngestorHealth,
    stop: watch::Sender<bool>,
    kill: oneshot::Sender<()>,
    task: JoinHandle<Option<Result<(), IngestorError>>>,
}

impl Ingesting {
    pub(crate) fn start(journal: &Path, store: Store) -> Self {
        Self::reading(
            Source::Journal(JournalSource::open(journal).unwrap()),
            store,
        )
    }

    fn reading(source: Source, store: Store) -> Self {
        Self::with(IngestorOptions::new(source, store, 0))
    }

    /// The same, comparing rows with their seals and making checkpoints.
    fn sealing(source: Source, store: Store, audit_dir: &Path) -> Self {
        let mut options = IngestorOptions::new(source, store, 0);
        options.audit = Some(AuditOptions::new(audit_dir));
        Self::with(options)
    }

    fn with(mut options: IngestorOptions) -> Self {
        let health = IngestorHealth::default();
        options.health = health.clone();
        let (stop, stopped) = watch::channel(false);
        let (kill, killed) = oneshot::channel();
        let runtime = Handle::current();
        // A thread of its own, as the program gives it.
        let task = tokio::task::spawn_blocking(move || {
            runtime.block_on(async {
                tokio::select! {
                    ended = weir_ingestor::run(options, stopped) => Some(ended),
                    Ok(()) = killed => None,
                }
            })
        });
        Self {
            health,
            stop,
            kill,
            task,
        }
    }

    /// Stores what is in a journal. Stopped only when it has begun with it: on a busy machine, making the
    /// tables may take longer than a stop leaves time for.
    pub(crate) async fn drain_journal(journal: &Path, store: Store) {
        let ingesting = Self::start(journal, store);
        let health = ingesting.health.clone();
        let has_begun = || health.snapshot().batches > 0;
        ingesting.wait_until("a batch is stored", has_begun).await;
        ingesting.drain().await;
    }

    /// Stores what is in the journal, and ends.
    pub(crate) async fn drain(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap().unwrap().unwrap();
    }

    /// Ends as if killed, wherever it is.
    async fn abort(self) {
        self.kill.send(()).unwrap();
        assert!(self.task.await.unwrap().is_none());
    }

    async fn wait_until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            let health = self.health.snapshot();
            assert!(Instant::now() < deadline, "in vain: {what}; {health:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until so many events are stored.
    async fn wait_for_events(&self, events: u64) {
        let health = self.health.clone();
        let stored = || {
            let snapshot = health.snapshot();
            snapshot.rows + snapshot.duplicates >= events
        };
        self.wait_until("the events are stored", stored).await;
    }
}

/// What the tables say of all events.
#[derive(Debug, PartialEq, Row, Deserialize)]
struct Sums {
    requests: u64,
    attempts: u64,
    events: u64,
    distinct_events: u64,
    cost_pico_usd: i128,
}

async fn sums(store: &Store) -> Sums {
    let events = ["requests", "attempts", "streams", "control_changes"]
        .map(|table| {
            let cost = if table == "requests" {
                "ifNull(cost_usd, 0)"
            } else {
                "0"
            };
            format!("SELECT '{table}' AS table, stream, seq, {cost} AS cost_usd FROM {table}")
        })
        .join(" UNION ALL ");
    let query = store.query(&format!(
        "SELECT countIf(table = 'requests') AS requests, countIf(table = 'attempts') AS attempts, \
         count() AS events, uniqExact(stream, seq) AS distinct_events, \
         assumeNotNull(toInt128(sum(cost_usd) * 1000000000000)) AS cost_pico_usd \
         FROM ({events})"
    ));
    store.fetch::<Sums>(query).await.unwrap().remove(0)
}

/// Every request of closed streams is there once, to the picodollar.
async fn check(store: &Store, requests: u64, streams: u64, cost_pico_usd: i64) {
    let expect = Sums {
        requests,
        attempts: requests,
        events: 2 * requests + 2 * streams,
        distinct_events: 2 * requests + 2 * streams,
        cost_pico_usd: cost_pico_usd.into(),
    };
    assert_eq!(sums(store).await, expect);
}

/// A closed journal with so many requests in each of three streams; returns what they cost.
pub(crate) fn written_journal(dir: &Path, requests: u64) -> i64 {
    let journal = open_journal(dir);
    let mut cost = 0;
    for shard in 0..3 {
        let writer = journal.open_stream(shard).unwrap();
        cost += write(&writer, u64::from(shard) * requests, requests);
        writer.close().unwrap();
    }
    cost
}

/// A closed journal of events of every kind with anything in their fields, sealed by its writer. Returns how
/// many they are, seals among them.
pub(crate) fn sealed_journal(dir: &Path, random: &mut impl Rng, events: u32) -> u64 {
    let journal = open_sealed_journal(dir);
    let writer = journal.open_stream(0).unwrap();
    for _ in 0..events {
        append_any(&writer, random);
    }
    writer.close().unwrap();
    last_seq(dir, writer.id()).unwrap().unwrap()
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.unwrap().success());
}

#[test]
fn a_journal_that_is_read_twice_is_stored_once() {
    alone(async {
        let running = Running::start().await;
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        let cost = written_journal(&first, 2000);
        copy(&first, &second);
        for journal in [&first, &second] {
            Ingesting::drain_journal(journal, running.store()).await;
            check(&running.store(), 6000, 3, cost).await;
        }
        running.stop().await;
    });
}

#[test]
fn answers_that_are_cut_off_lose_nothing_and_double_nothing() {
    alone(async {
        let running = Running::start().await;
        let proxy = Proxy::start(running.address).await;
        let dir = tempfile::tempdir().unwrap();
        let cost = written_journal(dir.path(), 500);
        let ingesting = Ingesting::start(dir.path(), store_at(proxy.address));
        proxy.cut(3);
        ingesting.wait_for_events(3006).await;
        assert_eq!(proxy.cuts_left(), 0);
        assert!(ingesting.health.snapshot().retries > 0);
        check(&running.store(), 1500, 3, cost).await;
        ingesting.drain().await;
        running.stop().await;
    });
}

/// The store writes down an insert's token before its rows. A kill in between leaves a token that
/// makes the store drop the same insert for ever after. Here the rows are taken away afterwards,
/// which leaves the same: tokens without rows.
#[test]
fn an_insert_whose_token_outlived_its_rows_is_stored() {
    alone(async {
        let running = Running::start().await;
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        let cost = written_journal(&first, 1000);
        copy(&first, &second);
        Ingesting::drain_journal(&first, running.store()).await;
        for table in ["requests", "attempts", "streams"] {
            let delete = format!("ALTER TABLE {table} DELETE WHERE 1 SETTINGS mutations_sync = 1");
            let mut answer = running.store().raw_query(&delete, "Null").unwrap();
            assert_eq!(answer.next().await.unwrap(), None);
        }
        check(&running.store(), 0, 0, 0).await;
        Ingesting::drain_journal(&second, running.store()).await;
        check(&running.store(), 3000, 3, cost).await;
        running.stop().await;
    });
}

#[test]
fn a_row_that_the_store_refuses_becomes_a_dead_letter_and_all_others_rows() {
    alone(async {
        let running = Running::start().await;
        let store = running.store();
        store.migrate(0).await.unwrap();
        let constraint = "ALTER TABLE requests ADD CONSTRAINT poison CHECK total_us != 900333";
        let mut answer = store.raw_query(constraint, "Null").unwrap();
        assert_eq!(answer.next().await.unwrap(), None);
        let dir = tempfile::tempdir().unwrap();
        written_journal(dir.path(), 400);
        let ingesting = Ingesting::start(dir.path(), running.store());
        ingesting.wait_for_events(2405).await;
        assert_eq!(ingesting.health.snapshot().dead_letters, 1);
        ingesting.drain().await;

        let sums = sums(&store).await;
        assert_eq!((sums.requests, sums.attempts), (1199, 1200));
        let query = store.query(
            "SELECT toString(assumeNotNull(stream)), assumeNotNull(seq), reason, length(payload) \
             FROM dead_letters",
        );
        let letters = store
            .fetch::<(String, u64, String, u64)>(query)
            .await
            .unwrap();
        let (_, seq, reason, bytes) = &letters[0];
        assert_eq!(letters.len(), 1);
        assert_eq!(
            *seq,
            1 + 2 * 334,
            "the record of request 333 of the first stream"
        );
        assert!(reason.contains("poison"), "{reason}");
        assert!(*bytes > 100);
        running.stop().await;
    });
}

#[test]
fn a_store_that_comes_late_and_dies_often_gets_everything_once() {
    alone(async {
        let port = ReservedPort::new().unwrap();
        let address = port.address;
        let dir = tempfile::tempdir().unwrap();
        let journal_dir = dir.path().join("journal");
        let journal = open_journal(&journal_dir);
        let writer = journal.open_stream(0).unwrap();
        let ingesting = Ingesting::start(&journal_dir, store_at(address));
        let mut cost = write(&writer, 0, 500);
        let health = ingesting.health.clone();
        ingesting
            .wait_until("it says what it waits for", || {
                health.snapshot().trouble.is_some()
            })
            .await;

        let store_dir = dir.path().join("store");
        let supervisor = supervise(&store_dir, &address.to_string(), &[]);
        let mut last_pid = 0;
        for round in 1..=4 {
            let is_new = |state: &StoreState| matches!(state, StoreState::Ready { pid, .. } if *pid != last_pid);
            let StoreState::Ready { pid, .. } = settled(&supervisor, is_new).await else {
                unreachable!("a ready store was waited for")
            };
            ingesting
                .wait_until("rows come", || health.snapshot().batches >= round)
                .await;
            cost += write(&writer, 500 * round, 500);
            let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
            assert!(killed.unwrap().success());
            last_pid = pid;
        }
        writer.close().unwrap();
        ingesting.wait_for_events(5002).await;
        check(&store_at(address), 2500, 1, cost).await;
        assert_eq!(health.snapshot().trouble, None);
        ingesting.drain().await;
        supervisor.stop().await;
    });
}

#[test]
fn an_ingestor_that_ends_anywhere_is_followed_by_one_that_stores_the_rest() {
    alone(async {
        let running = Running::start().await;
        let dir = tempfile::tempdir().unwrap();
        let journal = open_journal(dir.path());
        let writer = journal.open_stream(0).unwrap();
        let mut cost = 0;
        for life in 0..40 {
            cost += write(&writer, life * 300, 300);
            let ingesting = Ingesting::start(dir.path(), running.store());
            // Ever a little later in what a start does.
            tokio::time::sleep(Duration::from_millis(life * 17 % 500)).await;
            ingesting.abort().await;
        }
        writer.close().unwrap();
        Ingesting::drain_journal(dir.path(), running.store()).await;
        check(&running.store(), 12_000, 1, cost).await;
        running.stop().await;
    });
}
