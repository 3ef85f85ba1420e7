//! Measures the embedded store: `cargo run --release -p weir-store --example measure -- [DAYS [ROWS]]`.
//!
//! It starts a store in a temporary directory (or in `WEIR_MEASURE_DIR`, which is kept, with what it
//! holds already), fills DAYS days (10) with ROWS requests each (100 000) and their attempts, and
//! prints: start time and memory, bytes per row, how long the usual questions take, and how many
//! rows per second go in over HTTP.
#![expect(clippy::print_stdout, reason = "what is found is the output")]

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use weir_store::child::serve;
use weir_store::{
    ServeOptions, Store, StoreConfig, StorePasswords, StoreState, StoreUser, Supervisor,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, directory] = &arguments[..]
        && command == "store"
    {
        let mut options = ServeOptions::new(directory.into(), "127.0.0.1:0".parse()?, passwords());
        options.supervised = true;
        return Ok(serve(&options)?);
    }
    let number =
        |at: usize, default: u64| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let (days, rows) = (number(0, 10)?, number(1, 100_000)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(days, rows))
}

/// Those of a store that nobody else knows of.
fn passwords() -> StorePasswords {
    StorePasswords {
        reader: "reader".to_owned(),
        operator: "operator".to_owned(),
        weir: "weir".to_owned(),
    }
}

async fn measure(days: u64, rows: u64) -> Result<()> {
    let kept = std::env::var_os("WEIR_MEASURE_DIR").map(PathBuf::from);
    let temporary = tempfile::tempdir()?;
    let directory = kept.as_deref().unwrap_or_else(|| temporary.path());
    let started = Instant::now();
    let (supervisor, store, pid) = start(directory).await?;
    println!(
        "ready in                        {:>9} ms",
        started.elapsed().as_millis()
    );
    println!(
        "resident, idle                  {:>9} MB",
        resident_mb(pid)?
    );
    store.migrate(3650).await?;
    if count(&store, "requests").await? == 0 {
        fill(&store, days, rows).await?;
    }
    sizes(&store).await?;
    ask(&store).await?;
    println!(
        "resident, after the questions   {:>9} MB",
        resident_mb(pid)?
    );
    insert(&store).await?;
    println!(
        "resident, after the inserts     {:>9} MB",
        resident_mb(pid)?
    );
    supervisor.stop().await;
    let again = Instant::now();
    let (supervisor, ..) = start(directory).await?;
    println!(
        "ready again, with all of it, in {:>9} ms",
        again.elapsed().as_millis()
    );
    supervisor.stop().await;
    Ok(())
}

async fn start(directory: &Path) -> Result<(Supervisor, Store, u32)> {
    let arguments: Vec<OsString> = vec!["store".into(), directory.into()];
    let supervisor = Supervisor::start(std::env::current_exe()?, arguments);
    let mut state = supervisor.state();
    let settled = state
        .wait_for(|state| !matches!(state, StoreState::Starting))
        .await?
        .clone();
    match settled {
        StoreState::Ready { address, pid, .. } => {
            let user = StoreUser::Weir;
            let config = StoreConfig::new(format!("http://{address}"))
                .user(user.name(), passwords().of(user));
            let store = Store::connect(&config)?;
            Ok((supervisor, store, pid))
        }
        other => Err(format!("the store is {other:?}").into()),
    }
}

fn resident_mb(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap_or("0 kB");
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? >> 10)
}

async fn count(store: &Store, table: &str) -> Result<u64> {
    let query = store.query(&format!("SELECT count() FROM {table}"));
    Ok(store.fetch::<u64>(query).await?.pop().unwrap_or_default())
}

async fn fill(store: &Store, days: u64, rows: u64) -> Result<()> {
    let today = store
        .fetch::<u32>(store.query("SELECT toUInt32(toDate(now()))"))
        .await?;
    let today = u64::from(today.first().copied().unwrap_or_default());
    let started = Instant::now();
    for number in 0..days {
        let day = today - days + number;
        for sql in [include_str!("requests.sql"), include_str!("attempts.sql")] {
            let query = store.query(sql).with_setting("max_execution_time", "0");
            let query = query
                .param("day", day)
                .param("rows", rows)
                .param("first", number * rows);
            query.execute().await?;
        }
    }
    for table in ["requests", "attempts"] {
        let merge = store.query(&format!("OPTIMIZE TABLE {table} FINAL"));
        merge
            .with_setting("max_execution_time", "0")
            .execute()
            .await?;
    }
    println!(
        "filled in                       {:>9} s",
        started.elapsed().as_secs()
    );
    Ok(())
}

async fn sizes(store: &Store) -> Result<()> {
    let sql = "SELECT table, sum(rows), sum(bytes_on_disk) / sum(rows) FROM system.parts \
               WHERE active AND database = 'weir' AND table IN ('requests', 'attempts') GROUP BY table";
    let mut per_request = 0.;
    let requests = count(store, "requests").await?;
    for (table, rows, bytes) in store.fetch::<(String, u64, f64)>(store.query(sql)).await? {
        println!("{table:<10} {rows:>12} rows     {bytes:>9.1} bytes each");
        #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
        let share = rows as f64 / requests as f64;
        per_request += bytes * share;
    }
    println!("a request with its attempts     {per_request:>9.1} bytes");
    Ok(())
}

/// The questions that the tables are laid out for. Each is asked three times, the fastest counts.
async fn ask(store: &Store) -> Result<()> {
    let user = one(
        store,
        "SELECT toString(user) FROM requests GROUP BY user ORDER BY count() LIMIT 1 OFFSET 1000",
    )
    .await?;
    let heavy = one(
        store,
        "SELECT toString(user) FROM requests GROUP BY user ORDER BY count() DESC LIMIT 1",
    )
    .await?;
    let id = one(store, "SELECT toString(request_id) FROM requests WHERE toDate(ts) = today() - 5 LIMIT 1 OFFSET 777").await?;
    let audit = "SELECT ts, request_id, team, user, provider, model, status, input_tokens, \
                 output_tokens, cost_usd, total_ms FROM requests WHERE ts >= now() - INTERVAL 90 DAY";
    let questions = [
        ("cost by team and day", "SELECT team, toDate(ts) AS day, sum(cost_usd) FROM requests WHERE toDate(ts) >= today() - 90 GROUP BY team, day".to_owned()),
        ("the same, filtered by ts", "SELECT team, toDate(ts) AS day, sum(cost_usd) FROM requests WHERE ts >= now() - INTERVAL 90 DAY GROUP BY team, day".to_owned()),
        ("one team by model and feature", "SELECT model, feature, sum(cost_usd) FROM requests WHERE team = 'team-3' AND toDate(ts) >= today() - 90 GROUP BY model, feature".to_owned()),
        ("audit of a user", format!("{audit} AND user = '{user}' ORDER BY ts")),
        ("audit of the heaviest user", format!("{audit} AND user = '{heavy}' ORDER BY ts")),
        ("a request by its id", format!("SELECT * FROM requests WHERE request_id = '{id}'")),
        ("its attempts", format!("SELECT * FROM attempts WHERE request_id = '{id}'")),
        ("seqs of a stream since its end", "SELECT seq FROM requests WHERE stream = '01930000-0000-7000-8000-000000000001' AND seq >= (SELECT max(seq) - 2000 FROM requests WHERE ts >= now() - INTERVAL 2 DAY)".to_owned()),
        ("latency by model, last day", "SELECT model, quantile(0.95)(total_ms) FROM requests WHERE ts >= now() - INTERVAL 1 DAY GROUP BY model".to_owned()),
        ("errors by deployment, last day", "SELECT deployment, countIf(error_kind != '') FROM attempts WHERE ts >= now() - INTERVAL 1 DAY GROUP BY deployment".to_owned()),
        ("kinds of attempts, ever", "SELECT kind, count() FROM attempts GROUP BY kind".to_owned()),
    ];
    for (name, sql) in questions {
        let mut fastest = Duration::MAX;
        for _ in 0..3 {
            let started = Instant::now();
            let sql = format!("{sql} SETTINGS use_query_condition_cache = 0");
            let mut answer = store.raw_query(&sql, "RowBinary")?;
            while answer.next().await?.is_some() {}
            fastest = fastest.min(started.elapsed());
        }
        println!("{name:<31} {:>9.1} ms", fastest.as_secs_f64() * 1000.);
    }
    Ok(())
}

async fn one(store: &Store, sql: &str) -> Result<String> {
    Ok(store
        .fetch::<String>(store.query(sql))
        .await?
        .pop()
        .unwrap_or_default())
}

/// Rows as the ingestor sends them: RowBinary, in batches, one insert after the other.
async fn insert(store: &Store) -> Result<()> {
    let client = clickhouse::Client::default()
        .with_url(store.url())
        .with_database("weir")
        .with_compression(clickhouse::Compression::None);
    for table in ["requests", "attempts"] {
        for (rows, batches) in [(1, 20), (10_000, 20), (100_000, 5)] {
            store
                .query("DROP TABLE IF EXISTS copy SYNC")
                .execute()
                .await?;
            store
                .query(&format!("CREATE TABLE copy AS {table}"))
                .execute()
                .await?;
            let mut bodies = Vec::new();
            for batch in 0..batches {
                let offset = batch * rows;
                bodies.push(encoded(store, table, rows, offset).await?);
            }
            let bytes: usize = bodies.iter().map(Bytes::len).sum();
            let started = Instant::now();
            for (batch, body) in bodies.into_iter().enumerate() {
                let mut insert = client
                    .insert_formatted_with("INSERT INTO copy FORMAT RowBinary")
                    .with_setting("async_insert", "0")
                    .with_setting("insert_deduplication_token", format!("batch-{batch}"));
                insert.send(body).await?;
                insert.end().await?;
            }
            let seconds = started.elapsed().as_secs_f64();
            let (rows_in_all, megabytes) = (f64::from(rows * batches), bytes >> 20);
            println!(
                "{table:<10} {batches:>3} batches of {rows:>7} {:>9.0} rows/s ({megabytes} MB)",
                rows_in_all / seconds
            );
        }
        store.query("DROP TABLE copy SYNC").execute().await?;
    }
    Ok(())
}

async fn encoded(store: &Store, table: &str, rows: u32, offset: u32) -> Result<Bytes> {
    let sql = format!(
        "SELECT * FROM {table} WHERE toDate(ts) = (SELECT max(toDate(ts)) FROM {table}) \
         LIMIT {rows} OFFSET {offset} SETTINGS max_threads = 1"
    );
    let mut answer = store.raw_query(&sql, "RowBinary")?;
    let mut body = BytesMut::new();
    while let Some(more) = answer.next().await? {
        body.extend_from_slice(&more);
    }
    Ok(body.freeze())
}
