//! `weir doctor`: finds problems and says how to fix them.
//!
//! It changes nothing, apart from a file of its own that it removes again. Each check ends with OK,
//! WARN (it runs, but needs attention) or FAIL (it will not run).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::ensure;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use weir_eventlog::{KafkaOptions, TopicStanding, records_lost, topic_standing};
use weir_gateway::config::ProviderConfig;
use weir_gateway::connections_within;
use weir_governance::control::log::ControlLog;
use weir_ingestor::audit::Anchor;
use weir_ingestor::audit::EXPORT_FILE;
use weir_schemas::clickhouse::MIGRATIONS;
use weir_store::{Store, StoreError, StoreUser, message_of};

use crate::cli::Cli;
use crate::command::egress::{broker_place, brokers};
use crate::command::metrics;
use crate::command::retention::in_words;
use crate::config::{Config, EventlogKind, Loaded, StoreKind};
use crate::context::{
    audit_dir, config_path, configuration, runtime, settings, store_dir, unix_ms,
};
use crate::journal_faults::journal_faults;
use crate::net::{PAGE_MAX, page};
use crate::output::{self, Reported};

/// Longest wait for a connection, TLS included.
const CONNECT_MAX_MS: u64 = 5_000;
const CONNECT_MAX: Duration = Duration::from_millis(CONNECT_MAX_MS);
/// Free space below which the journal will soon be full.
const SPACE_LOW_BYTES: u64 = 2 << 30;
const SPACE_NONE_BYTES: u64 = 64 << 20;
/// A disk that takes longer to sync makes durability `group` and `fsync` slow.
const SYNC_SLOW: Duration = Duration::from_millis(50);
/// Clocks further apart than this make reports of "the last minute" misleading.
const CLOCKS_APART_MS: u64 = 2_000;
/// Faults of a journal that are listed.
const FAULTS_SHOWN_MAX: usize = 10;
/// 2025-01-01, before this program existed.
const EARLIEST_NOW_MS: u64 = 1_735_689_600_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum CheckResult {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct CheckReport {
    check: String,
    #[serde(flatten)]
    outcome: CheckOutcome,
}

#[derive(Debug, Serialize)]
struct CheckOutcome {
    verdict: CheckResult,
    /// What was found.
    detail: String,
    /// How to fix it.
    #[serde(rename = "mend", skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

fn ok(detail: impl Into<String>) -> CheckOutcome {
    CheckOutcome {
        verdict: CheckResult::Ok,
        detail: detail.into(),
        fix: None,
    }
}

fn warn(detail: impl Into<String>, fix: impl Into<String>) -> CheckOutcome {
    CheckOutcome {
        verdict: CheckResult::Warn,
        detail: detail.into(),
        fix: Some(fix.into()),
    }
}

fn fail(detail: impl Into<String>, fix: impl Into<String>) -> CheckOutcome {
    CheckOutcome {
        verdict: CheckResult::Fail,
        ..warn(detail, fix)
    }
}

pub(crate) fn run(cli: &Cli, json: bool) -> anyhow::Result<()> {
    let reports = runtime()?.block_on(examine(cli));
    if json {
        output::print_pretty(&reports)?;
    } else {
        let mut out = output::stdout();
        reports
            .iter()
            .try_for_each(|report| print(&mut out, report))?;
    }
    let failed = |report: &CheckReport| report.outcome.verdict == CheckResult::Fail;
    ensure!(!reports.iter().any(failed), Reported);
    Ok(())
}

fn print(out: &mut impl io::Write, report: &CheckReport) -> io::Result<()> {
    let CheckReport { check, outcome } = report;
    let verdict = match outcome.verdict {
        CheckResult::Ok => "OK",
        CheckResult::Warn => "WARN",
        CheckResult::Fail => "FAIL",
    };
    let mut lines = outcome.detail.lines();
    let first = lines.next().unwrap_or_default();
    writeln!(out, "{verdict:<5} {check:<18} {first}")?;
    for line in lines.chain(outcome.fix.as_deref()) {
        writeln!(out, "{:<24} {line}", "")?;
    }
    Ok(())
}

async fn examine(cli: &Cli) -> Vec<CheckReport> {
    let (loaded, configuration) = configuration_file(cli);
    // An invalid configuration leaves the other checks the defaults.
    let config = settings(cli).unwrap_or_default();
    let mut found = vec![
        ("configuration", configuration),
        ("data directory", data_dir(&cli.data_dir)),
        ("virtual keys", keys(&cli.data_dir)),
        ("journal", journal(&cli.data_dir)),
        (
            "file descriptors",
            descriptors(config.gateway.connections_max),
        ),
        ("gateway", gateway_port(config.gateway.listen).await),
    ];
    found.extend(
        config
            .console
            .listen
            .map(|listen| ("console", console(listen))),
    );
    let parts = parts(config.gateway.listen).await;
    found.extend(store(&config, &cli.data_dir).await);
    for broker in brokers(&config.eventlog) {
        found.push(("Kafka", reach_broker(broker).await));
    }
    for anchor in config.audit.anchors().flatten() {
        found.push(("anchor", reach_anchor(&anchor).await));
    }
    if let Some(options) = config.eventlog.kafka_options() {
        let group = config.eventlog.group.clone();
        let standing = tokio::task::spawn_blocking(move || topic(&options, &group)).await;
        found.extend(standing.ok().map(|outcome| ("topic", outcome)));
    }
    if let Some(options) = config.eventlog.kafka_topic(&config.control.topic) {
        let kept = tokio::task::spawn_blocking(move || control_topic(&options)).await;
        found.extend(kept.ok().map(|outcome| ("control topic", outcome)));
    }
    let report = |check: &str, outcome| CheckReport {
        check: check.to_owned(),
        outcome,
    };
    let found = found.into_iter();
    let mut reports: Vec<_> = found
        .map(|(check, outcome)| report(check, outcome))
        .collect();
    reports.extend(
        parts
            .iter()
            .map(|part| report(&format!("part {}", part.name), part_outcome(part))),
    );
    let Some(loaded) = loaded else { return reports };
    for (deployment, meaning) in loaded.directory.unknown_models() {
        let fix = "say what it is like in a [[model]] section of weir.toml, or update Weir";
        reports.push(report(&format!("model {deployment}"), warn(meaning, fix)));
    }
    let refused = refused_keys(config.gateway.listen).await;
    for provider in &loaded.config.providers {
        let check = format!("provider {}", provider.name);
        let keys = loaded.directory.key_names(&provider.name);
        reports.push(report(&check, reach_provider(provider, keys.len()).await));
        let refused = refused.iter().filter(|key| keys.contains(key));
        reports.extend(refused.map(|key| report(&check, refused_key(key))));
    }
    reports
}

/// Whether the pages are in this program.
fn console(listen: SocketAddr) -> CheckOutcome {
    match weir_console::is_built() {
        true => ok(format!("http://{listen}")),
        false => warn(
            "this program was built without the console's pages",
            "`compose/build-console.sh` with Node 18 or newer, then `cargo build --release`",
        ),
    }
}

/// Whether notes can be read where the audit chain's head is written.
async fn reach_anchor(anchor: &Anchor) -> CheckOutcome {
    let url = anchor.url();
    match anchor.newest().await {
        Ok(Some(size)) => ok(format!("{url}: the newest note has {size} checkpoints")),
        Ok(None) => warn(
            format!("{url}: no note yet"),
            "the ingestor writes one with the first checkpoint, or `weir audit checkpoint` now",
        ),
        Err(error) => fail(
            error.to_string(),
            "make the place, and let Weir read and add to it ([[audit.anchor]])",
        ),
    }
}

fn configuration_file(cli: &Cli) -> (Option<Loaded>, CheckOutcome) {
    let loaded = match configuration(cli) {
        Ok(loaded) => loaded,
        Err(error) => {
            let fix = "correct it; `weir config example` shows every setting";
            return (None, fail(error.to_string(), fix));
        }
    };
    let Some(path) = config_path(cli) else {
        let outcome = warn(
            "there is no weir.toml here: using defaults, without providers",
            "`weir config example > weir.toml`, then add a provider and an alias",
        );
        return (None, outcome);
    };
    let (providers, aliases) = (&loaded.config.providers, &loaded.config.aliases);
    let detail = format!(
        "{}: {} providers, {} aliases",
        path.display(),
        providers.len(),
        aliases.len()
    );
    let outcome = if aliases.is_empty() {
        warn(detail, "add an [[alias]]; clients call models by alias")
    } else {
        ok(detail)
    };
    (Some(loaded), outcome)
}

fn data_dir(dir: &Path) -> CheckOutcome {
    let Some(present) = dir.ancestors().map(or_here).find(|path| path.is_dir()) else {
        return fail(
            format!("{} cannot be created", dir.display()),
            "choose another (--data-dir)",
        );
    };
    let state = if present == or_here(dir) {
        ""
    } else {
        " (created at the first start)"
    };
    let sync = match sync_time(present) {
        Ok(sync) => sync,
        Err(error) => {
            let fix = "make it writable for this user, or choose another (--data-dir)";
            return fail(format!("{}: {error}", present.display()), fix);
        }
    };
    let free_bytes = rustix::fs::statvfs(present).map_or(0, |fs| fs.f_bavail * fs.f_frsize);
    let detail = format!(
        "{}{state}: writable, {} free, a sync takes {:.1} ms",
        dir.display(),
        size(free_bytes),
        sync.as_secs_f64() * 1000.0
    );
    if free_bytes < SPACE_NONE_BYTES {
        fail(detail, "free some space: events cannot be written")
    } else if free_bytes < SPACE_LOW_BYTES {
        warn(
            detail,
            "free some space: every request adds to the journal and the store",
        )
    } else if sync > SYNC_SLOW {
        warn(
            detail,
            "the disk is slow or busy: keep [eventlog] durability at \"os\"",
        )
    } else {
        ok(detail)
    }
}

/// Whether the limit up to which the gateway raises its own is enough.
fn descriptors(connections_max: usize) -> CheckOutcome {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let Some(limit) = limit else {
        return ok("no limit");
    };
    let fitting = connections_within(limit);
    if fitting >= connections_max {
        return ok(format!(
            "up to {limit}, enough for {connections_max} connections"
        ));
    }
    let detail = format!(
        "up to {limit}, enough for {fitting} connections of [gateway] connections_max = {connections_max}"
    );
    let fix = "raise the hard limit (`ulimit -Hn`, LimitNOFILE= of systemd, --ulimit of Docker), or lower \
               connections_max";
    warn(detail, fix)
}

fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

/// Median time to sync a small write.
fn sync_time(dir: &Path) -> io::Result<Duration> {
    let path = dir.join(format!(".weir-doctor-{}", std::process::id()));
    let measured = (|| {
        let mut file = File::create_new(&path)?;
        let mut times = [Duration::ZERO; 5];
        for time in &mut times {
            let begun = Instant::now();
            file.write_all(&[0; 4096])?;
            file.sync_data()?;
            *time = begun.elapsed();
        }
        times.sort_unstable();
        Ok(times[times.len() / 2])
    })();
    // The file may not exist.
    let _ = std::fs::remove_file(path);
    measured
}

fn keys(data_dir: &Path) -> CheckOutcome {
    let snapshot = match ControlLog::in_dir(data_dir).snapshot() {
        Ok(snapshot) => snapshot,
        Err(error) => return fail(error.to_string(), "fix the cause named in the message"),
    };
    let now_ms = unix_ms();
    let works = |expires: Option<u64>| expires.is_none_or(|expires_ms| expires_ms > now_ms);
    let records: Vec<_> = snapshot.keys().iter().map(|key| key.record()).collect();
    let active = records
        .iter()
        .filter(|key| key.revoked_ms.is_none() && works(key.expires_ms));
    match active.count() {
        0 => warn(
            "no key is active",
            "`weir keys create --team NAME` creates one",
        ),
        active => ok(format!("{active} of {} active", records.len())),
    }
}

fn journal(data_dir: &Path) -> CheckOutcome {
    let dir = data_dir.join("journal");
    match backlog(&dir) {
        Ok(Backlog { streams: 0, .. }) => ok("empty"),
        Ok(Backlog {
            streams,
            dead,
            bytes,
        }) => {
            let detail = format!("{streams} streams, {} on disk", size(bytes));
            match journal_faults(data_dir, HashMap::new()) {
                Ok(faults) if faults.is_empty() => {}
                Ok(faults) => return damaged(&detail, &faults),
                Err(reason) => return fail(format!("{detail}; {reason}"), "look at the disk"),
            }
            match dead {
                0 => ok(detail),
                dead => ok(format!(
                    "{detail}; {dead} left by a process that died, which the next start closes"
                )),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => ok("empty"),
        Err(error) => fail(
            format!("{}: {error}", dir.display()),
            "make it readable and writable for this user",
        ),
    }
}

fn damaged(detail: &str, faults: &[String]) -> CheckOutcome {
    let shown = faults.iter().take(FAULTS_SHOWN_MAX);
    let shown: Vec<_> = shown.map(String::as_str).collect();
    let more = match faults.len().saturating_sub(FAULTS_SHOWN_MAX) {
        0 => String::new(),
        more => format!("\nand {more} more"),
    };
    fail(
        format!(
            "{detail}; acknowledged events are damaged or gone:\n{}{more}",
            shown.join("\n")
        ),
        "look at the disk; what can be read is stored, and `weir audit verify` names the gaps",
    )
}

#[derive(Default)]
struct Backlog {
    streams: usize,
    /// Streams that no process writes and none has closed.
    dead: usize,
    bytes: u64,
}

fn backlog(journal: &Path) -> io::Result<Backlog> {
    let mut backlog = Backlog::default();
    for entry in std::fs::read_dir(journal)? {
        let dir = entry?.path();
        let hidden = dir
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || !dir.is_dir() {
            continue;
        }
        backlog.streams += 1;
        backlog.dead += usize::from(!dir.join("closed").exists() && is_unlocked(&dir.join("lock")));
        for file in std::fs::read_dir(&dir)? {
            // The segment may have been freed meanwhile.
            backlog.bytes += file?.metadata().map_or(0, |meta| meta.len());
        }
    }
    Ok(backlog)
}

fn is_unlocked(lock: &Path) -> bool {
    File::open(lock).is_ok_and(|file| file.try_lock().is_ok())
}

async fn gateway_port(listen: SocketAddr) -> CheckOutcome {
    match TcpListener::bind(listen) {
        Ok(_) => ok(format!("{listen} is free; `weir up` starts it")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match page(&format!("http://{listen}/livez"), None).await {
                Ok(_) => ok(format!("answers at http://{listen}")),
                Err(_) => fail(
                    format!("another program listens on {listen}"),
                    "stop it, or set [gateway] listen to a free address",
                ),
            }
        }
        Err(error) => fail(
            format!("listen on {listen}: {error}"),
            "set [gateway] listen to an address of this machine",
        ),
    }
}

/// A part of the running gateway, as it says itself.
#[derive(Deserialize)]
struct PartReport {
    name: String,
    state: String,
    reason: Option<String>,
    since: Option<String>,
    restarts: u64,
}

/// The parts of the gateway on this machine; none without one.
async fn parts(listen: SocketAddr) -> Vec<PartReport> {
    #[derive(Deserialize)]
    struct ReadyReport {
        parts: Vec<PartReport>,
    }
    let asked = weir_loadtest::get(&format!("http://{listen}/readyz"), None, PAGE_MAX).await;
    let report = asked.map(|(_, page)| serde_json::from_str::<ReadyReport>(&page));
    report
        .ok()
        .and_then(Result::ok)
        .map_or_else(Vec::new, |report| report.parts)
}

fn part_outcome(part: &PartReport) -> CheckOutcome {
    let since = part.since.as_deref().unwrap_or_default();
    let reason = part.reason.as_deref().unwrap_or_default();
    let detail = format!("since {since}: {reason}");
    match (part.state.as_str(), part.restarts) {
        ("ok", 0) => ok(format!("runs since {since}")),
        ("ok", restarts) => ok(format!("runs; it was started again {restarts} times")),
        ("restarting", _) => warn(
            detail,
            "it ended by itself and is started again; the log says more",
        ),
        _ => fail(
            detail,
            "fix the cause that it names; the part goes on by itself then",
        ),
    }
}

async fn store(config: &Config, data_dir: &Path) -> Vec<(&'static str, CheckOutcome)> {
    let mut found = Vec::new();
    if config.store.kind == StoreKind::Embedded {
        found.push(("engine library", library(config, data_dir)));
    }
    let url = config.store.url();
    let store = match config.store.connect(data_dir, StoreUser::Weir) {
        Ok(store) => store,
        Err(error) => {
            found.push(("store", unconnected(config, &error)));
            return found;
        }
    };
    match ask(&store, "SELECT version(), toUnixTimestamp64Milli(now64(3))").await {
        Ok(answer) => {
            let (version, its_ms) = answer.split_once('\t').unwrap_or((&answer, ""));
            let answers = format!("ClickHouse {version} answers at {url}");
            found.push(("store", ok(answers)));
            found.push(("tables", tables(&store, config, data_dir).await));
            found.push(("retention", retention(&store, config).await));
            found.push(("clock", clock(its_ms.parse().ok())));
        }
        Err(reason) if reason.contains("UNKNOWN_DATABASE") => {
            found.push(("store", ok(format!("ClickHouse answers at {url}"))));
            found.push(("tables", no_tables(config, data_dir, reason)));
        }
        Err(reason) => found.push(("store", no_store(config, &reason))),
    }
    found
}

/// Why the store cannot be asked. Before the first start there is no password.
fn unconnected(config: &Config, error: &anyhow::Error) -> CheckOutcome {
    match config.store.kind {
        StoreKind::Clickhouse => fail(format!("{error:#}"), "check [store] url"),
        StoreKind::Embedded if TcpListener::bind(config.store.listen).is_ok() => {
            no_store(config, "")
        }
        StoreKind::Embedded => fail(
            format!("{error:#}"),
            "give the data directory that the store was started with (--data-dir), as its user; or stop \
             the program that listens there",
        ),
    }
}

/// Why the store does not answer.
fn no_store(config: &Config, reason: &str) -> CheckOutcome {
    let url = config.store.url();
    match config.store.kind {
        StoreKind::Clickhouse => fail(
            format!("{url}: {reason}"),
            "check [store] url, user and password; meanwhile the journal keeps the events",
        ),
        StoreKind::Embedded if TcpListener::bind(config.store.listen).is_err() => fail(
            format!("{url}: {reason}"),
            "stop the program that listens there, or set [store] listen to a free address",
        ),
        StoreKind::Embedded => warn(
            format!("nothing answers at {url}"),
            "`weir up` starts it; the gateway also runs without it",
        ),
    }
}

/// The result of a small query, as text.
async fn ask(store: &Store, statement: &str) -> Result<String, String> {
    let answer = async { store.raw_query(statement, "TSV")?.collect().await };
    let answer = within(2 * CONNECT_MAX, answer).await?;
    let text = answer.map_err(|error: StoreError| message_of(&error.message).to_owned())?;
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

async fn within<T>(limit: Duration, task: impl Future<Output = T>) -> Result<T, String> {
    let ended = tokio::time::timeout(limit, task).await;
    ended.map_err(|_| format!("no answer within {} s", limit.as_secs()))
}

fn library(config: &Config, data_dir: &Path) -> CheckOutcome {
    match weir_store::library::find(config.store.library.as_deref(), &store_dir(data_dir)) {
        Ok(path) => ok(path.display().to_string()),
        Err(error) => fail(error.to_string(), error.how_to_fix()),
    }
}

/// Tables that are not there: not yet, or not any more.
fn no_tables(config: &Config, data_dir: &Path, reason: String) -> CheckOutcome {
    if sealed_since(data_dir).is_none() {
        let fix =
            "the ingestor creates the tables when it first reaches the store; check that it runs";
        return warn(reason, fix);
    }
    fail(
        format!("{reason}: they were there. {}", log_reach(config, data_dir)),
        "a running ingestor makes them again and fills them from the log: check that it runs; what is older \
         can only come from a backup",
    )
}

/// When the first checkpoint was exported: there were tables then.
fn sealed_since(data_dir: &Path) -> Option<SystemTime> {
    let exported = std::fs::metadata(audit_dir(data_dir).join(EXPORT_FILE)).ok()?;
    exported.created().ok()
}

/// How far back the log has what is stored already.
fn log_reach(config: &Config, data_dir: &Path) -> String {
    if config.eventlog.kind == EventlogKind::Kafka {
        let topic = &config.eventlog.topic;
        return format!("The log reaches as far back as Kafka keeps the topic {topic}");
    }
    let streams = std::fs::read_dir(data_dir.join("journal"))
        .into_iter()
        .flatten();
    let files = streams
        .flatten()
        .filter_map(|stream| std::fs::read_dir(stream.path()).ok());
    let segments = files
        .flatten()
        .flatten()
        .filter_map(|file| file.metadata().ok()?.created().ok());
    match segments
        .min()
        .and_then(|oldest| Timestamp::try_from(oldest).ok())
    {
        Some(oldest) => format!("The journal reaches back to {oldest:.0}"),
        None => "The journal has nothing".to_owned(),
    }
}

/// Tables that are younger than the first checkpoint over their rows.
fn made_again(made_ms: &str, data_dir: &Path) -> Option<Timestamp> {
    let made = Timestamp::from_millisecond(made_ms.parse().ok()?).ok()?;
    let sealed = Timestamp::try_from(sealed_since(data_dir)?).ok()?;
    let apart_ms = i64::try_from(CLOCKS_APART_MS).ok()?;
    (made.as_millisecond() > sealed.as_millisecond() + apart_ms).then_some(made)
}

async fn tables(store: &Store, config: &Config, data_dir: &Path) -> CheckOutcome {
    let known = MIGRATIONS.last().map_or(0, |migration| migration.version);
    let statement = "SELECT (SELECT max(version) FROM weir.migrations), count(), \
                     (SELECT min(toUnixTimestamp64Milli(applied_at)) FROM weir.migrations), \
                     toString(min(ts)) FROM weir.requests";
    match ask(store, statement).await {
        Ok(answer) => {
            let mut cells = answer.split('\t');
            let mut next = || cells.next().unwrap_or("?");
            let (version, rows, made_ms, oldest) = (next(), next(), next(), next());
            if let Some(made) = made_again(made_ms, data_dir) {
                return warn(
                    format!(
                        "they were made again at {made:.0}, because they were gone; {rows} requests, the \
                         first of {oldest} UTC, were in the log"
                    ),
                    "older rows can only come from a backup; `weir audit verify` says which are missing",
                );
            }
            let detail = format!("schema version {version} of {known}, {rows} requests");
            match version.parse::<u32>() {
                Ok(version) if version > known => {
                    fail(detail, "a newer Weir made the tables: run that version")
                }
                Ok(version) if version == known => ok(detail),
                _ => warn(detail, "the ingestor migrates it when it starts"),
            }
        }
        Err(reason) => no_tables(config, data_dir, reason),
    }
}

async fn retention(store: &Store, config: &Config) -> CheckOutcome {
    match within(2 * CONNECT_MAX, store.deletions(config.store.retention())).await {
        Ok(Ok(deletions)) if deletions.is_empty() => ok("as configured"),
        Ok(Ok(deletions)) => warn(
            format!(
                "the configured retention would delete {} and is not in force",
                in_words(&deletions)
            ),
            "`weir retention --accept-deletion` accepts that; or set [store] retention_days and \
             payload_retention_days to what they were",
        ),
        Ok(Err(error)) => warn(message_of(&error.message), "look at the store"),
        Err(reason) => warn(reason, "look at the store"),
    }
}

fn clock(store_ms: Option<u64>) -> CheckOutcome {
    let now_ms = unix_ms();
    let apart_ms = store_ms.map_or(0, |store_ms| store_ms.abs_diff(now_ms));
    if now_ms < EARLIEST_NOW_MS {
        fail(
            "it is set to a time before this program existed",
            "set the clock",
        )
    } else if apart_ms > CLOCKS_APART_MS {
        warn(
            format!("it differs from the store's by {apart_ms} ms"),
            "synchronise both machines by NTP",
        )
    } else {
        ok(format!("within {apart_ms} ms of the store's"))
    }
}

async fn reach_broker(broker: &str) -> CheckOutcome {
    let connected = async {
        let place = broker_place(broker).map_err(|error| format!("{error:#}"))?;
        let connected = within(CONNECT_MAX, TcpStream::connect(place)).await?;
        connected.map_err(|error| error.to_string())
    };
    match connected.await {
        Ok(_) => ok(format!("{broker} accepts connections")),
        Err(error) => fail(
            format!("{broker}: {error}"),
            "check [eventlog] brokers; meanwhile the journal keeps the events",
        ),
    }
}

/// The topic of the events, and how far behind the ingestors are.
fn topic(options: &KafkaOptions, group: &str) -> CheckOutcome {
    let topic = &options.topic;
    let TopicStanding {
        retention,
        unread,
        deleted,
    } = match topic_standing(options, group) {
        Ok(standing) => standing,
        Err(error) => {
            let fix =
                "check [eventlog] brokers and topic; the first gateway or ingestor makes the topic";
            return warn(format!("{topic}: {error}"), fix);
        }
    };
    let lag = match unread {
        None => "nothing is unread".to_owned(),
        Some(age) => format!(
            "the oldest unread one is {:.1} h old",
            age.as_secs_f64() / 3600.0
        ),
    };
    let detail = format!("{topic} keeps events for {retention}; {lag}");
    if deleted > 0 {
        return fail(
            format!("{detail}; {deleted} were deleted before they were stored"),
            "start the ingestors, and keep events for longer (the topic's retention.ms)",
        );
    }
    let is_late = |kept: Duration| unread.is_some_and(|age| age > kept / 2);
    if retention.time.is_some_and(is_late) {
        warn(
            detail,
            "start the ingestors, or more of them: what gets older than the topic's retention is lost",
        )
    } else if retention.is_less_than(options.retention) {
        warn(
            detail,
            "set the topic's retention.ms to [eventlog] topic_retention_days or more, and retention.bytes to -1",
        )
    } else {
        ok(detail)
    }
}

/// Whether the topic of keys and rules keeps them for good.
fn control_topic(options: &KafkaOptions) -> CheckOutcome {
    let topic = &options.topic;
    match records_lost(options) {
        Ok(None) => ok(format!("{topic} keeps keys and rules for good")),
        Ok(Some(lost)) => fail(
            format!("{topic} loses keys and rules: {lost}"),
            "set the topic's cleanup.policy to compact; if it lost some already, `weir control repair`",
        ),
        Err(error) => warn(
            format!("{topic}: {error}"),
            "check [eventlog] brokers and [control] topic; the first gateway or command makes the topic",
        ),
    }
}

/// The provider keys that providers refused to the gateway on this machine; empty without a gateway.
async fn refused_keys(listen: SocketAddr) -> Vec<String> {
    let page = page(&format!("http://{listen}/metrics"), None).await;
    page.map_or_else(|_| Vec::new(), |page| metrics::refused_keys(&page))
}

fn refused_key(key: &str) -> CheckOutcome {
    fail(
        format!("it refuses the key {key}"),
        "replace the key; the gateway reloads changed files",
    )
}

/// Connects as the gateway does. Sends no request, so nothing is billed.
async fn reach_provider(provider: &ProviderConfig, keys: usize) -> CheckOutcome {
    let begun = Instant::now();
    match weir_gateway::reach(provider, CONNECT_MAX_MS).await {
        Ok(()) => {
            let keys = match keys {
                0 => "no key".to_owned(),
                1 => "1 key".to_owned(),
                keys => format!("{keys} keys"),
            };
            let ms = begun.elapsed().as_millis();
            ok(format!("{} reached in {ms} ms, {keys}", provider.base_url))
        }
        Err(error) => warn(
            format!("{}: {error}", provider.base_url),
            "check base_url, the firewall, and ca_file behind an intercepting proxy",
        ),
    }
}

fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| bytes >= 10 * unit) {
        Some((name, unit)) => format!("{} {name}", bytes / unit),
        None => format!("{bytes} bytes"),
    }
}
