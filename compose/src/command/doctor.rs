//! `weir doctor`: what stands in the way, and what to do about it.
//!
//! It looks and never changes anything but a file of its own that it removes again. Each check says
//! OK, WARN (it runs, but look at it) or FAIL (it will not run).

use std::fs::File;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use http::Uri;
use serde::Serialize;
use weir_gateway::config::ProviderConfig;
use weir_governance::control::log::{ControlLog, path_in};
use weir_schemas::clickhouse::MIGRATIONS;
use weir_store::{Store, StoreError};

use crate::cli::Cli;
use crate::command::page::page;
use crate::command::sql::said;
use crate::command::{config_path, configuration, metrics, settings};
use crate::config::{Config, EventlogKind, Loaded, StoreKind};
use crate::net;
use crate::parts::{runtime, store_dir, unix_ms};

/// Free space below which the journal will soon have nowhere to go.
const SPACE_LOW_BYTES: u64 = 2 << 30;
const SPACE_NONE_BYTES: u64 = 64 << 20;
/// A disk that takes longer to sync makes durability `group` and `fsync` slow.
const SYNC_SLOW: Duration = Duration::from_millis(50);
/// Clocks further apart than this make reports of "the last minute" misleading.
const CLOCKS_APART_MS: u64 = 2_000;
/// 2025-01-01: this program is younger.
const EARLIEST_NOW_MS: u64 = 1_735_689_600_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Finding {
    check: String,
    verdict: Verdict,
    /// What was seen.
    detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

/// A check under way: its name, waiting for what was seen.
struct Check(String);

fn check(name: impl Into<String>) -> Check {
    Check(name.into())
}

impl Check {
    fn ok(self, detail: impl Into<String>) -> Finding {
        self.end(Verdict::Ok, detail.into(), None)
    }

    fn warn(self, detail: impl Into<String>, mend: impl Into<String>) -> Finding {
        self.end(Verdict::Warn, detail.into(), Some(mend.into()))
    }

    fn fail(self, detail: impl Into<String>, mend: impl Into<String>) -> Finding {
        self.end(Verdict::Fail, detail.into(), Some(mend.into()))
    }

    fn end(self, verdict: Verdict, detail: String, mend: Option<String>) -> Finding {
        Finding {
            check: self.0,
            verdict,
            detail,
            mend,
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
        .any(|finding| finding.verdict == Verdict::Fail);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn print(out: &mut impl io::Write, finding: &Finding) -> io::Result<()> {
    let verdict = match finding.verdict {
        Verdict::Ok => "OK",
        Verdict::Warn => "WARN",
        Verdict::Fail => "FAIL",
    };
    let mut lines = finding.detail.lines();
    writeln!(
        out,
        "{verdict:<5} {:<18} {}",
        finding.check,
        lines.next().unwrap_or_default()
    )?;
    for line in lines.chain(finding.mend.as_deref()) {
        writeln!(out, "{:<24} {line}", "")?;
    }
    Ok(())
}

async fn examine(cli: &Cli) -> Vec<Finding> {
    let (loaded, finding) = configuration_file(cli);
    let mut findings = vec![finding];
    // What can still be read is enough for the other checks; else they look at the defaults.
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

fn configuration_file(cli: &Cli) -> (Option<Loaded>, Finding) {
    let check = check("configuration");
    let named = config_path(cli).map(|path| path.display().to_string());
    match (configuration(cli), named) {
        (Err(error), _) => {
            let mend = "correct it; `weir config example` shows every setting";
            (None, check.fail(error.to_string(), mend))
        }
        (Ok(_), None) => {
            let mend = "`weir config example > weir.toml`, then add a provider and an alias";
            (
                None,
                check.warn("there is no weir.toml here: defaults, no providers", mend),
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
                    "add an [[alias]], or nothing can be called",
                )
            } else {
                check.ok(format!("{name}: {counts}"))
            };
            (Some(loaded), finding)
        }
    }
}

fn data_dir(dir: &Path) -> Finding {
    let check = check("data directory");
    let Some(present) = dir.ancestors().map(or_here).find(|path| path.is_dir()) else {
        return check.fail(
            format!("{} cannot be made", dir.display()),
            "choose another (--data-dir)",
        );
    };
    let state = if present == or_here(dir) {
        ""
    } else {
        " (made at the first start)"
    };
    let sync = match sync_time(present) {
        Ok(sync) => sync,
        Err(error) => {
            let mend = "make it writable for this user, or choose another (--data-dir)";
            return check.fail(format!("{}: {error}", present.display()), mend);
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
        check.fail(detail, "free some space: events have nowhere to go")
    } else if free_bytes < SPACE_LOW_BYTES {
        check.warn(
            detail,
            "free some space: journal and store grow with every request",
        )
    } else if sync > SYNC_SLOW {
        check.warn(
            detail,
            "the disk is slow or busy: leave [eventlog] durability at \"os\" here",
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

/// Median time that the disk takes to keep a small write.
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
    // It may not have come into being.
    let _ = std::fs::remove_file(path);
    measured
}

fn keys(data_dir: &Path) -> Finding {
    let check = check("virtual keys");
    let snapshot = match ControlLog::new(path_in(data_dir)).snapshot() {
        Ok(snapshot) => snapshot,
        Err(error) => return check.fail(error.to_string(), "see the message"),
    };
    let now_ms = unix_ms();
    let works = |expires: Option<u64>| expires.is_none_or(|expires_ms| expires_ms > now_ms);
    let records: Vec<_> = snapshot.keys().iter().map(|key| key.record()).collect();
    let active = records
        .iter()
        .filter(|key| key.revoked_ms.is_none() && works(key.expires_ms));
    match active.count() {
        0 => check.warn(
            "there is none that works",
            "`weir keys create --team NAME` makes one",
        ),
        active => check.ok(format!("{active} of {} work", records.len())),
    }
}

fn journal(data_dir: &Path) -> Finding {
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
                    "{detail}; {dead} of a process that died, to be closed by the next start"
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
    /// Streams that nobody writes and nobody closed.
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
        backlog.dead +=
            usize::from(!dir.join("closed").exists() && nobody_holds(&dir.join("lock")));
        for file in std::fs::read_dir(&dir)? {
            // A segment may be freed at this moment.
            backlog.bytes += file?.metadata().map_or(0, |meta| meta.len());
        }
    }
    Ok(backlog)
}

fn nobody_holds(lock: &Path) -> bool {
    File::open(lock).is_ok_and(|file| file.try_lock().is_ok())
}

async fn gateway_port(listen: SocketAddr) -> Finding {
    let check = check("gateway");
    match TcpListener::bind(listen) {
        Ok(_) => check.ok(format!("{listen} is free; `weir up` starts it")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match get(&format!("http://{listen}/livez")).await {
                Ok(200) => check.ok(format!("answers at http://{listen}")),
                _ => check.fail(
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

/// The status of a path, within the time that connecting may take.
async fn get(url: &str) -> anyhow::Result<u16> {
    let uri: Uri = url.parse()?;
    let wire = net::connect(&uri, None).await?;
    let io = hyper_util::rt::TokioIo::new(wire);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    let host = uri.authority().map_or("", http::uri::Authority::as_str);
    let request = http::Request::get(uri.path()).header("host", host);
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new())?;
    let answer = async {
        tokio::select! {
            answer = sender.send_request(request) => answer,
            Err(error) = connection => Err(error),
        }
    };
    Ok(tokio::time::timeout(net::CONNECT_MAX, answer)
        .await??
        .status()
        .as_u16())
}

async fn store(config: &Config, data_dir: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.store.kind == StoreKind::Embedded {
        findings.push(library(config, data_dir));
    }
    let check = check("store");
    let url = config.store.url();
    let store = match config.store.connect() {
        Ok(store) => store,
        Err(error) => {
            findings.push(check.fail(format!("{error:#}"), "see [store] url"));
            return findings;
        }
    };
    match ask(&store, "SELECT version(), toUnixTimestamp64Milli(now64(3))").await {
        Ok(said) => {
            let (version, its_ms) = said.split_once('\t').unwrap_or((&said, ""));
            findings.push(check.ok(format!("ClickHouse {version} answers at {url}")));
            findings.push(tables(&store).await);
            findings.push(clock(its_ms.parse().ok()));
        }
        Err(reason) if config.store.kind == StoreKind::Clickhouse => {
            let mend =
                "see [store] url, user and password; meanwhile the journal keeps what happens";
            findings.push(check.fail(format!("{url}: {reason}"), mend));
        }
        Err(reason) if listens(config) => findings.push(check.fail(
            format!("{url}: {reason}"),
            "stop who listens there, or set [store] listen to a free address",
        )),
        Err(_) => findings.push(check.warn(
            format!("nobody answers at {url}"),
            "`weir up` starts it; the gateway runs without it",
        )),
    }
    findings
}

/// The answer to a small question, as text.
async fn ask(store: &Store, statement: &str) -> Result<String, String> {
    let answered = async {
        let mut answer = store.raw_query(statement, "TSV")?;
        let mut text = Vec::new();
        while let Some(piece) = answer.next().await? {
            text.extend_from_slice(&piece);
        }
        Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
    };
    let answered: Result<String, StoreError> = tokio::time::timeout(2 * net::CONNECT_MAX, answered)
        .await
        .map_err(|_| format!("no answer within {} s", 2 * net::CONNECT_MAX.as_secs()))?;
    answered.map_err(|error| said(&error.message).to_owned())
}

/// Whether anybody listens where the embedded store would.
fn listens(config: &Config) -> bool {
    TcpListener::bind(config.store.listen).is_err()
}

fn library(config: &Config, data_dir: &Path) -> Finding {
    let check = check("engine library");
    match weir_store::library::find(config.store.library.as_deref(), &store_dir(data_dir)) {
        Ok(path) => check.ok(path.display().to_string()),
        Err(error) => check.fail(error.to_string(), error.how_to_fix()),
    }
}

async fn tables(store: &Store) -> Finding {
    let check = check("tables");
    let known = MIGRATIONS.last().map_or(0, |migration| migration.version);
    let statement = "SELECT (SELECT max(version) FROM weir.migrations), count() FROM weir.requests";
    match ask(store, statement).await {
        Ok(said) => {
            let (version, rows) = said.split_once('\t').unwrap_or((&said, "?"));
            let detail = format!("schema version {version} of {known}, {rows} requests");
            match version.parse::<u32>() {
                Ok(version) if version > known => {
                    check.fail(detail, "the tables are of a newer Weir: run that one")
                }
                Ok(version) if version == known => check.ok(detail),
                _ => check.warn(detail, "the ingestor brings it up to date when it starts"),
            }
        }
        Err(reason) => check.warn(
            reason,
            "the ingestor makes the tables when it first reaches the store: is it running?",
        ),
    }
}

fn clock(store_ms: Option<u64>) -> Finding {
    let check = check("clock");
    let now_ms = unix_ms();
    let apart_ms = store_ms.map_or(0, |store_ms| store_ms.abs_diff(now_ms));
    if now_ms < EARLIEST_NOW_MS {
        check.fail(
            "it is set to a time before this program was made",
            "set the clock",
        )
    } else if apart_ms > CLOCKS_APART_MS {
        check.warn(
            format!("it is {apart_ms} ms away from the store's"),
            "let both machines keep time by NTP",
        )
    } else {
        check.ok(format!("within {apart_ms} ms of the store's"))
    }
}

async fn brokers(config: &Config) -> Vec<Finding> {
    if config.eventlog.kind != EventlogKind::Kafka {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let brokers = config.eventlog.brokers.as_deref().unwrap_or_default();
    for broker in brokers.split(',').map(str::trim) {
        let check = check("Kafka");
        let reached = match format!("http://{broker}").parse::<Uri>() {
            Ok(uri) => net::connect(&uri, None).await.map(|_| ()),
            Err(error) => Err(io::Error::other(error)),
        };
        findings.push(match reached {
            Ok(()) => check.ok(format!("{broker} accepts connections")),
            Err(error) => check.fail(
                format!("{broker}: {error}"),
                "see [eventlog] brokers; until it is there, the journal keeps what happens",
            ),
        });
    }
    findings
}

/// The keys that the gateway here has seen refused. None if there is no gateway here.
async fn refused_keys(listen: SocketAddr) -> Vec<String> {
    let page = page(&format!("http://{listen}/metrics"), None).await;
    page.map_or_else(|_| Vec::new(), |page| metrics::refused_keys(&page))
}

fn refused_key(provider: &ProviderConfig, key: &str) -> Finding {
    check(format!("provider {}", provider.name)).fail(
        format!("it refuses the key {key}"),
        "put another in its place; the gateway reads changed files by itself",
    )
}

/// Connects and shakes hands; asks nothing, so that nothing is billed.
async fn reach(provider: &ProviderConfig, keys: &[String]) -> Finding {
    let check = check(format!("provider {}", provider.name));
    let begun = Instant::now();
    let reached = match provider.base_url.parse::<Uri>() {
        Ok(uri) => net::connect(&uri, provider.ca_file.as_deref())
            .await
            .map(|_| ()),
        Err(error) => Err(io::Error::other(error)),
    };
    match reached {
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
            "see its base_url, the firewall, and ca_file behind an intercepting proxy",
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
