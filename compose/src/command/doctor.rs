//! `weir doctor`: finds problems and says how to fix them.
//!
//! It changes nothing, apart from a file of its own that it removes again. Each check ends with OK,
//! WARN (it runs, but needs attention) or FAIL (it will not run).

use std::fs::File;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;
use weir_gateway::config::ProviderConfig;
use weir_governance::control::log::{ControlLog, path_in};
use weir_schemas::clickhouse::MIGRATIONS;
use weir_store::{Store, StoreError};

use crate::cli::Cli;
use crate::command::metrics;
use crate::command::sql::message_of;
use crate::config::{Config, EventlogKind, Loaded, StoreKind};
use crate::context::{config_path, configuration, runtime, settings, store_dir, unix_ms};
use crate::net::{CONNECT_MAX, connect, page};

/// Free space below which the journal will soon be full.
const SPACE_LOW_BYTES: u64 = 2 << 30;
const SPACE_NONE_BYTES: u64 = 64 << 20;
/// A disk that takes longer to sync makes durability `group` and `fsync` slow.
const SYNC_SLOW: Duration = Duration::from_millis(50);
/// Clocks further apart than this make reports of "the last minute" misleading.
const CLOCKS_APART_MS: u64 = 2_000;
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
    verdict: CheckResult,
    /// What was found.
    detail: String,
    /// How to fix it.
    #[serde(rename = "mend", skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// A check in progress, by name.
struct Check(String);

fn check(name: impl Into<String>) -> Check {
    Check(name.into())
}

impl Check {
    fn ok(self, detail: impl Into<String>) -> CheckReport {
        self.end(CheckResult::Ok, detail.into(), None)
    }

    fn warn(self, detail: impl Into<String>, fix: impl Into<String>) -> CheckReport {
        self.end(CheckResult::Warn, detail.into(), Some(fix.into()))
    }

    fn fail(self, detail: impl Into<String>, fix: impl Into<String>) -> CheckReport {
        self.end(CheckResult::Fail, detail.into(), Some(fix.into()))
    }

    fn end(self, verdict: CheckResult, detail: String, fix: Option<String>) -> CheckReport {
        CheckReport {
            check: self.0,
            verdict,
            detail,
            fix,
        }
    }
}

pub(crate) fn run(cli: &Cli, json: bool) -> anyhow::Result<ExitCode> {
    let findings = runtime()?.block_on(examine(cli));
    let mut out = crate::output::stdout();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&findings)?)?;
    } else {
        findings
            .iter()
            .try_for_each(|finding| print(&mut out, finding))?;
    }
    let failed = findings
        .iter()
        .any(|finding| finding.verdict == CheckResult::Fail);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn print(out: &mut impl io::Write, finding: &CheckReport) -> io::Result<()> {
    let verdict = match finding.verdict {
        CheckResult::Ok => "OK",
        CheckResult::Warn => "WARN",
        CheckResult::Fail => "FAIL",
    };
    let mut lines = finding.detail.lines();
    writeln!(
        out,
        "{verdict:<5} {:<18} {}",
        finding.check,
        lines.next().unwrap_or_default()
    )?;
    for line in lines.chain(finding.fix.as_deref()) {
        writeln!(out, "{:<24} {line}", "")?;
    }
    Ok(())
}

async fn examine(cli: &Cli) -> Vec<CheckReport> {
    let (loaded, finding) = configuration_file(cli);
    let mut findings = vec![finding];
    // An invalid configuration leaves the other checks the defaults.
    let config = settings(cli).unwrap_or_default();
    findings.push(data_dir(&cli.data_dir));
    findings.push(keys(&cli.data_dir));
    findings.push(journal(&cli.data_dir));
    findings.push(gateway_port(config.gateway.listen).await);
    findings.extend(store(&config, &cli.data_dir).await);
    findings.extend(brokers(&config).await);
    let Some(Loaded {
        config: Config { providers, .. },
        directory,
        ..
    }) = loaded
    else {
        return findings;
    };
    let refused = refused_keys(config.gateway.listen).await;
    for provider in &providers {
        let keys = directory.key_names(&provider.name);
        findings.push(reach(provider, keys).await);
        let refused = refused.iter().filter(|key| keys.contains(key));
        findings.extend(refused.map(|key| refused_key(provider, key)));
    }
    findings
}

fn configuration_file(cli: &Cli) -> (Option<Loaded>, CheckReport) {
    let check = check("configuration");
    let named = config_path(cli).map(|path| path.display().to_string());
    match (configuration(cli), named) {
        (Err(error), _) => {
            let fix = "correct it; `weir config example` shows every setting";
            (None, check.fail(error.to_string(), fix))
        }
        (Ok(_), None) => {
            let fix = "`weir config example > weir.toml`, then add a provider and an alias";
            (
                None,
                check.warn(
                    "there is no weir.toml here: using defaults, without providers",
                    fix,
                ),
            )
        }
        (Ok(loaded), Some(name)) => {
            let Config {
                providers, aliases, ..
            } = &loaded.config;
            let counts = format!("{} providers, {} aliases", providers.len(), aliases.len());
            let finding = if aliases.is_empty() {
                check.warn(
                    format!("{name}: {counts}"),
                    "add an [[alias]]; clients call models by alias",
                )
            } else {
                check.ok(format!("{name}: {counts}"))
            };
            (Some(loaded), finding)
        }
    }
}

fn data_dir(dir: &Path) -> CheckReport {
    let check = check("data directory");
    let Some(present) = dir.ancestors().map(or_here).find(|path| path.is_dir()) else {
        return check.fail(
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
            return check.fail(format!("{}: {error}", present.display()), fix);
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
        check.fail(detail, "free some space: events cannot be written")
    } else if free_bytes < SPACE_LOW_BYTES {
        check.warn(
            detail,
            "free some space: every request adds to the journal and the store",
        )
    } else if sync > SYNC_SLOW {
        check.warn(
            detail,
            "the disk is slow or busy: keep [eventlog] durability at \"os\"",
        )
    } else {
        check.ok(detail)
    }
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

fn keys(data_dir: &Path) -> CheckReport {
    let check = check("virtual keys");
    let snapshot = match ControlLog::new(path_in(data_dir)).snapshot() {
        Ok(snapshot) => snapshot,
        Err(error) => return check.fail(error.to_string(), "fix the cause named in the message"),
    };
    let now_ms = unix_ms();
    let works = |expires: Option<u64>| expires.is_none_or(|expires_ms| expires_ms > now_ms);
    let records: Vec<_> = snapshot.keys().iter().map(|key| key.record()).collect();
    let active = records
        .iter()
        .filter(|key| key.revoked_ms.is_none() && works(key.expires_ms));
    match active.count() {
        0 => check.warn(
            "no key is active",
            "`weir keys create --team NAME` creates one",
        ),
        active => check.ok(format!("{active} of {} active", records.len())),
    }
}

fn journal(data_dir: &Path) -> CheckReport {
    let check = check("journal");
    let dir = data_dir.join("journal");
    match backlog(&dir) {
        Ok(Backlog { streams: 0, .. }) => check.ok("empty"),
        Ok(Backlog {
            streams,
            dead,
            bytes,
        }) => {
            let detail = format!("{streams} streams, {} on disk", size(bytes));
            match dead {
                0 => check.ok(detail),
                dead => check.ok(format!(
                    "{detail}; {dead} left by a process that died, which the next start closes"
                )),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => check.ok("empty"),
        Err(error) => check.fail(
            format!("{}: {error}", dir.display()),
            "make it readable and writable for this user",
        ),
    }
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

async fn gateway_port(listen: SocketAddr) -> CheckReport {
    let check = check("gateway");
    match TcpListener::bind(listen) {
        Ok(_) => check.ok(format!("{listen} is free; `weir up` starts it")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match page(&format!("http://{listen}/livez"), None).await {
                Ok(_) => check.ok(format!("answers at http://{listen}")),
                Err(_) => check.fail(
                    format!("another program listens on {listen}"),
                    "stop it, or set [gateway] listen to a free address",
                ),
            }
        }
        Err(error) => check.fail(
            format!("listen on {listen}: {error}"),
            "set [gateway] listen to an address of this machine",
        ),
    }
}

async fn store(config: &Config, data_dir: &Path) -> Vec<CheckReport> {
    let mut findings = Vec::new();
    if config.store.kind == StoreKind::Embedded {
        findings.push(library(config, data_dir));
    }
    let check = check("store");
    let url = config.store.url();
    let store = match config.store.connect() {
        Ok(store) => store,
        Err(error) => {
            findings.push(check.fail(format!("{error:#}"), "check [store] url"));
            return findings;
        }
    };
    match ask(&store, "SELECT version(), toUnixTimestamp64Milli(now64(3))").await {
        Ok(answer) => {
            let (version, its_ms) = answer.split_once('\t').unwrap_or((&answer, ""));
            findings.push(check.ok(format!("ClickHouse {version} answers at {url}")));
            findings.push(tables(&store).await);
            findings.push(clock(its_ms.parse().ok()));
        }
        Err(reason) if config.store.kind == StoreKind::Clickhouse => {
            let fix =
                "check [store] url, user and password; meanwhile the journal keeps the events";
            findings.push(check.fail(format!("{url}: {reason}"), fix));
        }
        Err(reason) if listens(config) => findings.push(check.fail(
            format!("{url}: {reason}"),
            "stop the program that listens there, or set [store] listen to a free address",
        )),
        Err(_) => findings.push(check.warn(
            format!("nothing answers at {url}"),
            "`weir up` starts it; the gateway also runs without it",
        )),
    }
    findings
}

/// The result of a small query, as text.
async fn ask(store: &Store, statement: &str) -> Result<String, String> {
    let answered = async {
        let mut answer = store.raw_query(statement, "TSV")?;
        let mut text = Vec::new();
        while let Some(piece) = answer.next().await? {
            text.extend_from_slice(&piece);
        }
        Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
    };
    let answered: Result<String, StoreError> = tokio::time::timeout(2 * CONNECT_MAX, answered)
        .await
        .map_err(|_| format!("no answer within {} s", 2 * CONNECT_MAX.as_secs()))?;
    answered.map_err(|error| message_of(&error.message).to_owned())
}

/// Whether the address of the embedded store is in use.
fn listens(config: &Config) -> bool {
    TcpListener::bind(config.store.listen).is_err()
}

fn library(config: &Config, data_dir: &Path) -> CheckReport {
    let check = check("engine library");
    match weir_store::library::find(config.store.library.as_deref(), &store_dir(data_dir)) {
        Ok(path) => check.ok(path.display().to_string()),
        Err(error) => check.fail(error.to_string(), error.how_to_fix()),
    }
}

async fn tables(store: &Store) -> CheckReport {
    let check = check("tables");
    let known = MIGRATIONS.last().map_or(0, |migration| migration.version);
    let statement = "SELECT (SELECT max(version) FROM weir.migrations), count() FROM weir.requests";
    match ask(store, statement).await {
        Ok(answer) => {
            let (version, rows) = answer.split_once('\t').unwrap_or((&answer, "?"));
            let detail = format!("schema version {version} of {known}, {rows} requests");
            match version.parse::<u32>() {
                Ok(version) if version > known => {
                    check.fail(detail, "a newer Weir made the tables: run that version")
                }
                Ok(version) if version == known => check.ok(detail),
                _ => check.warn(detail, "the ingestor migrates it when it starts"),
            }
        }
        Err(reason) => check.warn(
            reason,
            "the ingestor creates the tables when it first reaches the store; check that it runs",
        ),
    }
}

fn clock(store_ms: Option<u64>) -> CheckReport {
    let check = check("clock");
    let now_ms = unix_ms();
    let apart_ms = store_ms.map_or(0, |store_ms| store_ms.abs_diff(now_ms));
    if now_ms < EARLIEST_NOW_MS {
        check.fail(
            "it is set to a time before this program existed",
            "set the clock",
        )
    } else if apart_ms > CLOCKS_APART_MS {
        check.warn(
            format!("it differs from the store's by {apart_ms} ms"),
            "synchronise both machines by NTP",
        )
    } else {
        check.ok(format!("within {apart_ms} ms of the store's"))
    }
}

async fn brokers(config: &Config) -> Vec<CheckReport> {
    if config.eventlog.kind != EventlogKind::Kafka {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let brokers = config.eventlog.brokers.as_deref().unwrap_or_default();
    for broker in brokers.split(',').map(str::trim) {
        let check = check("Kafka");
        findings.push(match connect(&format!("http://{broker}"), None).await {
            Ok(()) => check.ok(format!("{broker} accepts connections")),
            Err(error) => check.fail(
                format!("{broker}: {error}"),
                "check [eventlog] brokers; meanwhile the journal keeps the events",
            ),
        });
    }
    findings
}

/// The provider keys that providers refused to the gateway on this machine; empty without a gateway.
async fn refused_keys(listen: SocketAddr) -> Vec<String> {
    let page = page(&format!("http://{listen}/metrics"), None).await;
    page.map_or_else(|_| Vec::new(), |page| metrics::refused_keys(&page))
}

fn refused_key(provider: &ProviderConfig, key: &str) -> CheckReport {
    check(format!("provider {}", provider.name)).fail(
        format!("it refuses the key {key}"),
        "replace the key; the gateway reloads changed files",
    )
}

/// Connects, with the TLS handshake. Sends no request, so nothing is billed.
async fn reach(provider: &ProviderConfig, keys: &[String]) -> CheckReport {
    let check = check(format!("provider {}", provider.name));
    let begun = Instant::now();
    match connect(&provider.base_url, provider.ca_file.as_deref()).await {
        Ok(()) => {
            let keys = match keys.len() {
                0 => "no key".to_owned(),
                1 => "1 key".to_owned(),
                keys => format!("{keys} keys"),
            };
            let ms = begun.elapsed().as_millis();
            check.ok(format!("{} reached in {ms} ms, {keys}", provider.base_url))
        }
        Err(error) => check.warn(
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
