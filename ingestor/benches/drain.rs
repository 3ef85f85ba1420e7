//! What it costs to bring a backlog from the journal into the embedded store, and how much more if it is
//! sealed.
//!
//! `cargo bench -p weir-ingestor` (the engine must be fetched: `compose/fetch-engine.sh`). Not a
//! stopwatch but an account: the processor time of the ingestor, from frames on disk to encoded rows
//! on the wire with everything that is asked on the way, and that of the engine, each by itself. Each
//! round drains the same rows into two new stores, without seals and with: those of the gateway,
//! which the ingestor stores and compares, and its own checkpoints. Merges are left out. At the end, what the engine takes for
//! the same rows when they are sent to it and nothing is asked.
//!
//! `WEIR_REQUESTS=3600000 cargo bench -p weir-ingestor` drains an hour's backlog of 1000 requests/s; the
//! ingestor's peak of memory should be that of 250 000. `WEIR_ROUNDS=1` measures once.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench says what it found, and ends when something is wrong"
)]

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/it/ingest/events.rs"]
mod events;

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;
use weir_eventlog::{Journal, JournalOptions, JournalSource, Source};
use weir_ingestor::audit::AuditOptions;
use weir_ingestor::{CHAINING, IngestorHealth, IngestorOptions};
use weir_store::{ServeOptions, Store, StoreConfig, StorePasswords, StoreState, Supervisor, child};

/// That of a store that nobody else knows of.
const PASSWORD: &str = "password";

/// Each request has an attempt: twice as many events.
fn requests() -> u64 {
    std::env::var("WEIR_REQUESTS").map_or(250_000, |requests| requests.parse().unwrap())
}

fn rounds() -> usize {
    std::env::var("WEIR_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap())
}

/// Requests come this far apart.
const PACE_US: u64 = 1000;

/// Rows that are sent to the engine alone, at once and in all.
const ROWS_AT_ONCE: u64 = 50_000;
const ROWS_MAX: u64 = 250_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, dir, address, flag] = &arguments[..]
        && flag == "--supervised"
    {
        let [reader, operator, weir] = [PASSWORD; 3].map(str::to_owned);
        let passwords = StorePasswords {
            reader,
            operator,
            weir,
        };
        let mut options = ServeOptions::new(dir.into(), address.parse().unwrap(), passwords);
        options.supervised = true;
        child::serve(&options).expect("serve the store");
        return;
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(measure());
}

async fn measure() {
    let (mut plain, mut sealed) = (Vec::new(), Vec::new());
    for round in 0..rounds() {
        // In turn first, in case that the machine gets slower or faster.
        for is_sealed in [round % 2 == 1, round % 2 == 0] {
            let costs = if is_sealed { &mut sealed } else { &mut plain };
            costs.push(write_and_drain(is_sealed).await);
        }
    }
    println!("peak memory of the ingestor: {} MB", peak_kb() / 1024);
    for part in 0..4 {
        let [(what, plain), (_, sealed)] = [&plain, &sealed].map(|costs| median(costs, part));
        let more = 100.0 * (sealed / plain - 1.0);
        println!("median {what}: {plain:.2} s of CPU, sealed {sealed:.2} s, {more:+.1} %");
    }
    engine_alone().await;
}

/// Processor time in seconds.
#[derive(Clone, Copy)]
struct Cost {
    writer: f64,
    ingestor: f64,
    engine: f64,
}

impl Cost {
    fn parts(self) -> [(&'static str, f64); 4] {
        let Self {
            writer,
            ingestor,
            engine,
        } = self;
        [
            ("writing", writer),
            ("ingestor", ingestor),
            ("engine", engine),
            ("ingestor and engine", ingestor + engine),
        ]
    }
}

fn median(costs: &[Cost], part: usize) -> (&'static str, f64) {
    let mut costs: Vec<_> = costs.iter().map(|it| it.parts()[part]).collect();
    costs.sort_by(|a, b| a.1.total_cmp(&b.1));
    costs[costs.len() / 2]
}

/// Writes a journal, and drains it into a new store.
async fn write_and_drain(is_sealed: bool) -> Cost {
    let dir = tempfile::tempdir().unwrap();
    let journal_dir = dir.path().join("journal");
    let (own, events) = (std::process::id(), 2 * requests() + 2);
    let account = Account::open(own);
    write(&open_journal(&journal_dir, is_sealed));
    let (writer, _) = account.close("write", events);
    let (supervisor, store, pid) = start_store(&dir.path().join("store")).await;
    store.migrate(0).await.unwrap();
    // How often rows are merged, and when, is not the same twice.
    run(&store, "SYSTEM STOP MERGES").await;
    let audit = is_sealed.then(|| AuditOptions::new(dir.path().join("audit")));
    let account = Account::open(pid);
    let health = drain(&journal_dir, &store, events, audit).await;
    let what = if is_sealed { "drain and seal" } else { "drain" };
    let (ingestor, engine) = account.close(what, health.snapshot().rows);
    assert_eq!(health.snapshot().altered, 0);
    supervisor.stop().await;
    Cost {
        writer,
        ingestor,
        engine,
    }
}

async fn engine_alone() {
    let dir = tempfile::tempdir().unwrap();
    let journal_dir = dir.path().join("journal");
    write(&open_journal(&journal_dir, false));
    let (supervisor, store, pid) = start_store(&dir.path().join("store")).await;
    drain(&journal_dir, &store, 2 * requests() + 2, None).await;
    let batches = encoded_requests(&store).await;
    let client = clickhouse::Client::default()
        .with_url(store.url())
        .with_database("weir")
        .with_user("weir")
        .with_password(PASSWORD)
        .with_compression(clickhouse::Compression::None);
    let copy = "CREATE TABLE copies AS requests SETTINGS non_replicated_deduplication_window = 0";
    run(&store, copy).await;
    let account = Account::open(pid);
    for (number, (_, rows)) in batches.iter().enumerate() {
        let mut insert = client
            .insert_formatted_with("INSERT INTO copies FORMAT RowBinary")
            .with_setting("async_insert", "0")
            .with_setting("insert_deduplication_token", number.to_string());
        insert.send(rows.clone()).await.unwrap();
        insert.end().await.unwrap();
    }
    account.close("engine alone", batches.iter().map(|(rows, _)| rows).sum());
    supervisor.stop().await;
}

async fn start_store(dir: &Path) -> (Supervisor, Store, u32) {
    let arguments: Vec<OsString> = vec![dir.into(), "127.0.0.1:0".into(), "--supervised".into()];
    let program = std::env::current_exe().unwrap();
    let supervisor = Supervisor::start(program, arguments);
    let mut state = supervisor.state();
    let ready = state.wait_for(|state| !matches!(state, StoreState::Starting));
    let StoreState::Ready { address, pid, .. } = ready.await.unwrap().clone() else {
        unreachable!("the store does not start: see compose/fetch-engine.sh")
    };
    let config = StoreConfig::new(format!("http://{address}")).user("weir", PASSWORD);
    (supervisor, Store::connect(&config).unwrap(), pid)
}

fn open_journal(dir: &Path, is_sealed: bool) -> Journal {
    Journal::open(JournalOptions {
        chaining: is_sealed.then_some(CHAINING),
        ..JournalOptions::new(dir)
    })
    .unwrap()
}

fn write(journal: &Journal) {
    let writer = journal.open_stream(0).unwrap();
    let born_us = events::born_us(writer.id());
    events::write_at(&writer, 0, requests(), |number| born_us + number * PACE_US);
    writer.close().unwrap();
}

async fn drain(
    journal: &Path,
    store: &Store,
    events: u64,
    audit: Option<AuditOptions>,
) -> IngestorHealth {
    let source = Source::Journal(JournalSource::open(journal).unwrap());
    let mut options = IngestorOptions::new(source, store.clone(), 0);
    let health = IngestorHealth::default();
    options.health = health.clone();
    options.audit = audit;
    let (stop, stopped) = watch::channel(false);
    let wait = async {
        while health.snapshot().rows < events {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.send_replace(true);
    };
    let (ended, ()) = tokio::join!(weir_ingestor::run(options, stopped), wait);
    ended.unwrap();
    health
}

async fn run(store: &Store, sql: &str) {
    let mut answer = store.raw_query(sql, "Null").unwrap();
    while answer.next().await.unwrap().is_some() {}
}

/// Stored requests as they were sent, by the batch, each with its number of rows.
async fn encoded_requests(store: &Store) -> Vec<(u64, Bytes)> {
    let mut batches = Vec::new();
    let mut first = 0;
    while first < requests().min(ROWS_MAX) {
        let rows = ROWS_AT_ONCE.min(requests() - first);
        let sql = format!("SELECT * FROM requests ORDER BY seq LIMIT {rows} OFFSET {first}");
        let mut answer = store.raw_query(&sql, "RowBinary").unwrap();
        let mut bytes = BytesMut::new();
        while let Some(piece) = answer.next().await.unwrap() {
            bytes.extend_from_slice(&piece);
        }
        batches.push((rows, bytes.freeze()));
        first += rows;
    }
    batches
}

/// The most memory that this process has had resident.
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let words: Vec<&str> = line.unwrap().split_whitespace().collect();
    words[1].parse().unwrap()
}

/// Processor time of this process and of the engine's.
struct Account {
    engine: u32,
    began: Instant,
    own_ticks: u64,
    engine_ticks: u64,
}

impl Account {
    fn open(engine: u32) -> Self {
        Self {
            engine,
            began: Instant::now(),
            own_ticks: ticks("self"),
            engine_ticks: ticks(&engine.to_string()),
        }
    }

    /// What this process and the engine have used, in seconds.
    fn close(self, what: &str, events: u64) -> (f64, f64) {
        let passed = self.began.elapsed().as_secs_f64();
        let seconds = |ticks: u64, before: u64| (ticks - before) as f64 / 100.0;
        let own = seconds(ticks("self"), self.own_ticks);
        let engine = seconds(ticks(&self.engine.to_string()), self.engine_ticks);
        let per = |seconds: f64| events as f64 / seconds.max(0.01);
        println!(
            "{what}: {events} events in {passed:.2} s, {:.0}/s; ingestor {own:.2} s of CPU, \
             {:.0} events/s per core; engine {engine:.2} s of CPU, {:.0} events/s per core",
            per(passed),
            per(own),
            per(engine)
        );
        (own, engine)
    }
}

/// Hundredths of a second of processor time that a process has used.
fn ticks(process: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The second word, the program's name in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let words: Vec<&str> = rest.split(' ').collect();
    let [user, system] = [11, 12].map(|at: usize| words[at].parse::<u64>().unwrap());
    user + system
}
