//! `weir.toml`: what the operator writes, checked whole.
//!
//! A file is read in three steps: parsed, so that every value knows its place; `${env:…}` and
//! `${file:…}` put in; turned into settings. Whatever is wrong in any of them is reported with file,
//! line and column, all of it at once.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use weir_eventlog::{Durability, JournalOptions, KafkaOptions, WhenFull};
use weir_gateway::config::{AliasConfig, GatewayConfig, ProviderConfig};
use weir_gateway::{ConfigProblem, Directory};
use weir_store::Store;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) gateway: GatewayConfig,
    pub(crate) eventlog: EventlogConfig,
    pub(crate) store: StoreConfig,
    #[serde(rename = "provider")]
    pub(crate) providers: Vec<ProviderConfig>,
    #[serde(rename = "alias")]
    pub(crate) aliases: Vec<AliasConfig>,
}

/// `[eventlog]`: the journal on disk, and Kafka behind it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EventlogConfig {
    /// Where the ingestor reads: from the journal itself, or from Kafka.
    pub(crate) kind: EventlogKind,
    /// Name of this installation in the events; the host name unless set.
    pub(crate) instance: Option<String>,
    /// What a power failure may take. Killing the process never takes anything.
    pub(crate) durability: DurabilityKind,
    /// With durability `group`: longest wait for others to share a write to disk.
    pub(crate) group_delay_ms: u64,
    /// With durability `group`: bytes after which nobody is waited for.
    pub(crate) group_bytes: u64,
    /// Size at which the journal is full.
    pub(crate) journal_bytes_max: u64,
    /// What happens when it is.
    pub(crate) when_full: WhenFullKind,
    /// Kafka brokers, as `host:port,host:port`. Needed with kind `kafka`.
    pub(crate) brokers: Option<String>,
    /// Topic of the events.
    pub(crate) topic: String,
    /// Partitions of the topic, if it does not exist yet.
    pub(crate) partitions: u16,
    /// Replicas of the topic, if it does not exist yet; the brokers' default unless set.
    pub(crate) replication: Option<u16>,
    /// Further settings of librdkafka, such as `security.protocol` and `sasl.password`.
    pub(crate) properties: BTreeMap<String, String>,
    /// Consumer group of the ingestors.
    pub(crate) group: String,
}

impl Default for EventlogConfig {
    fn default() -> Self {
        Self {
            kind: EventlogKind::Local,
            instance: None,
            durability: DurabilityKind::Os,
            group_delay_ms: 5,
            group_bytes: 1 << 20,
            journal_bytes_max: 8 << 30,
            when_full: WhenFullKind::Shed,
            brokers: None,
            topic: "weir.events".into(),
            partitions: 12,
            replication: None,
            properties: BTreeMap::new(),
            group: "weir-ingestor".into(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EventlogKind {
    Local,
    Kafka,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DurabilityKind {
    /// What the operating system had not written yet; nothing waits for the disk.
    Os,
    /// Nothing that was answered; answers share a write to disk.
    Group,
    /// Nothing that was answered; the write to disk begins at once.
    Fsync,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WhenFullKind {
    /// Requests are answered 503 until there is room.
    Shed,
    /// Requests are served, their events are dropped, and how many is an event of its own.
    Drop,
}

/// `[store]`: ClickHouse.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StoreConfig {
    /// The engine that Weir brings along, or a server of yours.
    pub(crate) kind: StoreKind,
    /// Where the embedded engine answers ClickHouse's HTTP protocol.
    pub(crate) listen: SocketAddr,
    /// File of the embedded engine's library; looked for in the usual places unless set.
    pub(crate) library: Option<PathBuf>,
    /// With kind `clickhouse`: the server's HTTP address.
    pub(crate) url: Option<String>,
    pub(crate) user: String,
    pub(crate) password: String,
    /// Days after which rows are deleted.
    pub(crate) retention_days: u32,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            kind: StoreKind::Embedded,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8123)),
            library: None,
            url: None,
            user: "default".into(),
            password: String::new(),
            retention_days: 90,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoreKind {
    Embedded,
    Clickhouse,
}

impl Config {
    /// Sections that take effect at the next start, and are not the same.
    pub(crate) fn sections_unlike(&self, other: &Self) -> Vec<&'static str> {
        let pairs: [(&str, [&dyn fmt::Debug; 2]); 3] = [
            ("gateway", [&self.gateway, &other.gateway]),
            ("eventlog", [&self.eventlog, &other.eventlog]),
            ("store", [&self.store, &other.store]),
        ];
        let unlike = |sections: &[&dyn fmt::Debug; 2]| {
            format!("{:?}", sections[0]) != format!("{:?}", sections[1])
        };
        pairs
            .iter()
            .filter(|(_, sections)| unlike(sections))
            .map(|(name, _)| *name)
            .collect()
    }
}

impl StoreConfig {
    /// A client for it. Nothing is sent yet.
    pub(crate) fn connect(&self) -> anyhow::Result<Store> {
        let store = Store::connect(&weir_store::StoreConfig {
            url: self.url(),
            user: self.user.clone(),
            password: self.password.clone(),
        });
        store.context("[store] url")
    }

    /// Where ClickHouse answers, whichever it is.
    pub(crate) fn url(&self) -> String {
        match (self.kind, &self.url) {
            (StoreKind::Clickhouse, Some(url)) => url.trim_end_matches('/').to_owned(),
            _ => format!("http://{}", self.listen),
        }
    }
}

impl EventlogConfig {
    /// `None` with kind `local`.
    pub(crate) fn kafka_options(&self) -> Option<KafkaOptions> {
        let brokers = self
            .brokers
            .as_ref()
            .filter(|_| self.kind == EventlogKind::Kafka)?;
        Some(KafkaOptions {
            topic: self.topic.clone(),
            partitions: i32::from(self.partitions),
            replication: self.replication.map(i32::from),
            properties: self.properties.clone(),
            ..KafkaOptions::new(brokers)
        })
    }

    pub(crate) fn journal_options(&self, data_dir: &Path, process: &str) -> JournalOptions {
        JournalOptions {
            instance: self.instance.clone().unwrap_or_else(host_name),
            process: process.to_owned(),
            total_bytes_max: self.journal_bytes_max,
            when_full: match self.when_full {
                WhenFullKind::Shed => WhenFull::Shed,
                WhenFullKind::Drop => WhenFull::Drop,
            },
            durability: match self.durability {
                DurabilityKind::Os => Durability::Os,
                DurabilityKind::Fsync => Durability::Fsync,
                DurabilityKind::Group => Durability::Group {
                    delay: Duration::from_millis(self.group_delay_ms),
                    bytes: self.group_bytes,
                },
            },
            ..JournalOptions::new(data_dir.join("journal"))
        }
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "weir".into())
}

/// A configuration that can run.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) directory: Directory,
}

/// What is wrong with a file, all of it.
#[derive(Debug)]
pub(crate) struct Invalid {
    pub(crate) problems: Vec<Problem>,
}

/// One thing that is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// `weir.toml:12:8`, or the file alone where the place is the whole of it.
    pub(crate) place: String,
    pub(crate) message: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{}: {}", problem.place, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

/// Reads and checks a file. `before` is the directory in force, whose knowledge lives on.
pub(crate) fn load(path: &Path, before: Option<&Directory>) -> Result<Loaded, Invalid> {
    let source = read(path)?;
    parse(&path.display().to_string(), &source, before)
}

/// Reads and checks what whoever serves no requests needs: everything but the providers, whose
/// keys are the gateway's alone.
pub(crate) fn load_settings(path: &Path) -> Result<Config, Invalid> {
    let source = read(path)?;
    let name = path.display().to_string();
    let file = Source {
        name: &name,
        text: &source,
    };
    let mut table = file.table()?;
    table.get_mut().remove("provider");
    let config = file.config(&mut table)?;
    match check(&config) {
        problems if problems.is_empty() => Ok(config),
        problems => Err(file.misconfigured(&table, problems)),
    }
}

fn read(path: &Path) -> Result<String, Invalid> {
    std::fs::read_to_string(path).map_err(|error| Invalid {
        problems: vec![Problem {
            place: path.display().to_string(),
            message: format!("cannot be read: {error}"),
        }],
    })
}

/// Checks the text of a file.
pub(crate) fn parse(
    name: &str,
    source: &str,
    before: Option<&Directory>,
) -> Result<Loaded, Invalid> {
    let file = Source { name, text: source };
    let mut table = file.table()?;
    let config = file.config(&mut table)?;
    let mut problems = check(&config);
    let directory = match Directory::build(&config.providers, &config.aliases, before) {
        Ok(directory) if problems.is_empty() => return Ok(Loaded { config, directory }),
        Ok(_) => Vec::new(),
        Err(found) => found,
    };
    problems.extend(directory);
    Err(file.misconfigured(&table, problems))
}

/// What serde's types cannot say.
fn check(config: &Config) -> Vec<ConfigProblem> {
    let mut problems = Vec::new();
    let mut problem = |path: &str, message: &str| {
        problems.push(ConfigProblem {
            path: path.into(),
            message: message.into(),
        });
    };
    if config.eventlog.kind == EventlogKind::Kafka && config.eventlog.brokers.is_none() {
        problem(
            "eventlog.brokers",
            "is needed with kind = \"kafka\", as \"host:9092\"",
        );
    }
    if config.eventlog.partitions == 0 {
        problem("eventlog.partitions", "must be at least 1");
    }
    if config.store.kind == StoreKind::Clickhouse && config.store.url.is_none() {
        problem(
            "store.url",
            "is needed with kind = \"clickhouse\", as \"http://host:8123\"",
        );
    }
    if config.store.retention_days == 0 {
        problem("store.retention_days", "must be at least 1");
    }
    if config.gateway.body_bytes_max == 0 {
        problem("gateway.body_bytes_max", "must be at least 1");
    }
    if config.gateway.connections_max == 0 {
        problem("gateway.connections_max", "must be at least 1");
    }
    for (index, provider) in config.providers.iter().enumerate() {
        let timeouts = provider.timeouts;
        for (name, value) in [
            ("connect_ms", timeouts.connect_ms),
            ("first_byte_ms", timeouts.first_byte_ms),
            ("idle_ms", timeouts.idle_ms),
            ("total_ms", timeouts.total_ms),
        ] {
            if value == 0 {
                problem(
                    &format!("provider[{index}].timeouts.{name}"),
                    "must be at least 1",
                );
            }
        }
    }
    problems
}

/// The text of a file, for turning offsets into lines.
struct Source<'a> {
    name: &'a str,
    text: &'a str,
}

impl<'a> Source<'a> {
    fn table(&self) -> Result<Spanned<DeTable<'a>>, Invalid> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            return Ok(table);
        }
        Err(self.invalid(errors.iter().map(|e| (e.span(), e.message().to_owned()))))
    }

    /// Puts in what is referred to, then reads the settings.
    fn config(&self, table: &mut Spanned<DeTable<'a>>) -> Result<Config, Invalid> {
        let mut problems = Vec::new();
        interpolate_table(table.get_mut(), &mut problems);
        if !problems.is_empty() {
            return Err(self.invalid(problems));
        }
        Config::deserialize(toml::de::Deserializer::from(table.clone()))
            .map_err(|error| self.invalid([(error.span(), with_suggestion(error.message()))]))
    }

    fn misconfigured(&self, table: &Spanned<DeTable<'a>>, problems: Vec<ConfigProblem>) -> Invalid {
        self.invalid(problems.into_iter().map(|problem| {
            let message = format!("{}: {}", problem.path, problem.message);
            (span_of(table.get_ref(), &problem.path), message)
        }))
    }

    fn invalid(
        &self,
        problems: impl IntoIterator<Item = (Option<Range<usize>>, String)>,
    ) -> Invalid {
        let problem = |(span, message)| Problem {
            place: self.place(span),
            message,
        };
        Invalid {
            problems: problems.into_iter().map(problem).collect(),
        }
    }

    fn place(&self, span: Option<Range<usize>>) -> String {
        let Some(before) = span.and_then(|span| self.text.get(..span.start)) else {
            return self.name.to_owned();
        };
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        format!("{}:{line}:{column}", self.name)
    }
}

/// Adds the nearest known name to serde's `unknown field` and `unknown variant`.
fn with_suggestion(message: &str) -> String {
    const LIKENESS_MIN: f64 = 0.7;
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let [unknown, known @ ..] = quoted.as_slice() else {
        return message.to_owned();
    };
    if !message.starts_with("unknown ") {
        return message.to_owned();
    }
    let likeness = |name: &&&str| strsim::jaro_winkler(unknown, name);
    let nearest = known
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest.filter(|name| likeness(name) >= LIKENESS_MIN) {
        Some(nearest) => format!("{message}; did you mean `{nearest}`?"),
        None => message.to_owned(),
    }
}

type Misplaced = (Option<Range<usize>>, String);

fn interpolate_table(table: &mut DeTable<'_>, problems: &mut Vec<Misplaced>) {
    for (_, value) in table.iter_mut() {
        interpolate(value, problems);
    }
}

/// Puts environment variables and files in the place of `${env:NAME}` and `${file:PATH}`.
fn interpolate(value: &mut Spanned<DeValue<'_>>, problems: &mut Vec<Misplaced>) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains("${") => match resolve(text) {
            Ok(resolved) => *text = resolved.into(),
            Err(message) => problems.push((Some(span), message)),
        },
        DeValue::Array(items) => {
            items
                .iter_mut()
                .for_each(|item| interpolate(item, problems));
        }
        DeValue::Table(table) => interpolate_table(table, problems),
        _ => {}
    }
}

fn resolve(text: &str) -> Result<String, String> {
    let mut resolved = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        let end = reference.find('}').ok_or("`${` is not closed by `}`")?;
        resolved.push_str(before);
        resolved.push_str(&look_up(&reference[2..end])?);
        rest = &reference[end + 1..];
    }
    resolved.push_str(rest);
    Ok(resolved)
}

fn look_up(reference: &str) -> Result<String, String> {
    match reference.split_once(':') {
        Some(("env", name)) => std::env::var(name).map_err(|_| {
            format!("the environment variable {name} is not set; set it, or write the value here")
        }),
        Some(("file", path)) => std::fs::read_to_string(path)
            .map(|content| content.trim_end().to_owned())
            .map_err(|error| format!("the file {path} cannot be read: {error}")),
        _ => Err(format!(
            "${{{reference}}} is neither ${{env:NAME}} nor ${{file:PATH}}"
        )),
    }
}

/// Where a setting stands: `alias[0].targets[1].model`. If it does not, where it is missing.
fn span_of(table: &DeTable<'_>, path: &str) -> Option<Range<usize>> {
    let mut span = None;
    let mut table = Some(table);
    let mut array = None;
    for step in path.split(['.', '[']) {
        let value = match step.strip_suffix(']') {
            Some(index) => {
                let items: &toml::de::DeArray<'_> = array?;
                items.iter().nth(index.parse().ok()?)
            }
            None => table.and_then(|table| table.get(step)),
        };
        let Some(value) = value else { return span };
        span = Some(value.span());
        table = value.get_ref().as_table();
        array = value.get_ref().as_array();
    }
    span
}
