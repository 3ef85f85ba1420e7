//! `weir.toml`: its sections and their defaults. [`read`] parses a file and reports every problem.

mod check;
mod console;
mod prices;
mod read;
mod reference;
mod seen;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::Deserialize;
use weir_controller::TablePolicy;
use weir_eventlog::{Durability, JournalOptions, KafkaOptions, WhenFull};
use weir_gateway::config::{
    AliasConfig, BreakerSpec, ControlConfig, GatewayConfig, ModelConfig, PayloadsConfig,
    ProviderConfig,
};
use weir_gateway::{ConfigProblem, Payloads};
use weir_ingestor::audit::{Anchor, AnchorError, SigningKey};
use weir_schemas::prices::Book;
use weir_store::{Retention, Store, StoreConfig, StoreUser};

use crate::context::audit_dir;
use crate::store_passwords;
pub(crate) use console::ConsoleSettings;
use prices::{ExchangeRateConfig, PriceConfig, PricesConfig};
pub(crate) use read::{InvalidConfig, Loaded, load, load_settings, parse};
pub(crate) use seen::FileVersions;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) gateway: GatewayConfig,
    pub(crate) control: ControlConfig,
    pub(crate) eventlog: EventlogConfig,
    pub(crate) store: StoreSettings,
    pub(crate) console: ConsoleSettings,
    pub(crate) audit: AuditConfig,
    pub(crate) payloads: PayloadsConfig,
    pub(crate) routing: RoutingConfig,
    #[serde(rename = "provider")]
    pub(crate) providers: Vec<ProviderConfig>,
    #[serde(rename = "alias")]
    pub(crate) aliases: Vec<AliasConfig>,
    #[serde(rename = "model")]
    pub(crate) models: Vec<ModelConfig>,
    pub(crate) prices: PricesConfig,
    #[serde(rename = "price")]
    pub(crate) own_prices: Vec<PriceConfig>,
    #[serde(rename = "exchange_rate")]
    pub(crate) exchange_rates: Vec<ExchangeRateConfig>,
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
    /// With durability `group`: bytes after which a write to disk starts at once.
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
    /// Days that the topic keeps events, if it does not exist yet; 0 is for good. An ingestor that is away
    /// for longer loses events.
    pub(crate) topic_retention_days: u32,
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
            topic_retention_days: 7,
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

/// `[routing]`: what all aliases' routing has in common.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RoutingConfig {
    /// How often the ingestor makes a routing table from what it has stored.
    pub(crate) refresh_s: u32,
    /// How far back it looks.
    pub(crate) window_s: u32,
    /// With Kafka: the topic that carries the tables.
    pub(crate) topic: String,
    /// When a deployment is taken out of service, and how it comes back.
    pub(crate) breaker: BreakerSpec,
    /// How far and how fast routing tables may move.
    pub(crate) table: TablePolicy,
}

impl Default for RoutingConfig {
    fn default() -> Self {
        Self {
            refresh_s: 15,
            window_s: 300,
            topic: "weir.routing".into(),
            breaker: BreakerSpec::default(),
            table: TablePolicy::default(),
        }
    }
}

/// `[store]`: ClickHouse.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StoreSettings {
    /// The engine that Weir brings along, or a server of yours.
    pub(crate) kind: StoreKind,
    /// Where the embedded engine answers ClickHouse's HTTP protocol.
    pub(crate) listen: SocketAddr,
    /// Host names by which the embedded engine is asked, besides `localhost` and addresses.
    pub(crate) hosts: Vec<String>,
    /// File of the embedded engine's library; looked for in the usual places unless set.
    pub(crate) library: Option<PathBuf>,
    /// With kind `clickhouse`: the server's HTTP address.
    pub(crate) url: Option<String>,
    /// With kind `clickhouse`: who to be there.
    pub(crate) user: String,
    pub(crate) password: String,
    /// Days after which rows are deleted; 0 keeps them for good, and 18 250 is the most else. A shorter
    /// one that deletes rows takes effect with `weir retention --accept-deletion`.
    pub(crate) retention_days: u32,
    /// Days after which the texts of captured payloads are erased; with their rows, if those go
    /// before. 0 keeps them as long as their rows.
    pub(crate) payload_retention_days: u32,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            kind: StoreKind::Embedded,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8123)),
            hosts: Vec::new(),
            library: None,
            url: None,
            user: "default".into(),
            password: String::new(),
            retention_days: 90,
            payload_retention_days: 30,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoreKind {
    Embedded,
    Clickhouse,
}

/// `[audit]`: whose seals are trusted, and where the audit chain's head is written, so that nobody here
/// can take it back.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuditConfig {
    /// How often.
    pub(crate) anchor_every_s: u32,
    /// Public keys of the gateways, as `weir audit key --gateway` prints them. If there are any, seals by
    /// other keys and without a signature are findings. The key of the gateway here is always trusted.
    pub(crate) gateway_keys: Vec<String>,
    #[serde(rename = "anchor")]
    pub(crate) anchors: Vec<AnchorConfig>,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            anchor_every_s: 600,
            gateway_keys: Vec::new(),
            anchors: Vec::new(),
        }
    }
}

/// `[[audit.anchor]]`: one place outside.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnchorConfig {
    /// `file:///DIR`, `s3://BUCKET/PREFIX` or `kafka://HOST:PORT,HOST:PORT/TOPIC`.
    pub(crate) url: String,
    /// For S3 those of the crate `object_store`, such as `aws_endpoint`, beside `AWS_…` of the
    /// environment; for Kafka those of librdkafka.
    #[serde(default)]
    pub(crate) properties: BTreeMap<String, String>,
}

impl AuditConfig {
    pub(crate) fn anchors(&self) -> impl Iterator<Item = Result<Anchor, AnchorError>> {
        let anchors = self.anchors.iter();
        anchors.map(|AnchorConfig { url, properties }| Anchor::open(url, properties))
    }
}

impl Config {
    /// The price book with the configuration's own prices in it, or all that is wrong with them.
    pub(crate) fn price_book(&self) -> Result<Book, Vec<ConfigProblem>> {
        prices::book(&self.prices, &self.own_prices, &self.exchange_rates)
    }

    /// What keeps prompts and answers.
    pub(crate) fn payloads(&self) -> anyhow::Result<Payloads> {
        Payloads::build(&self.payloads).map_err(|problems| {
            let said = problems
                .iter()
                .map(|it| format!("{}: {}", it.path, it.message));
            anyhow::anyhow!(said.collect::<Vec<_>>().join("; "))
        })
    }

    /// Where the price book is looked into for a provider.
    pub(crate) fn price_providers<'a>(&'a self, provider: &'a str) -> Vec<&'a str> {
        match self.providers.iter().find(|known| known.name == provider) {
            Some(known) => known.price_providers(),
            // One that is configured no more may be one of the book's.
            None => vec![provider],
        }
    }

    /// Sections that take effect at the next start, and are not the same.
    pub(crate) fn sections_unlike(&self, other: &Self) -> Vec<&'static str> {
        let pairs = self.sections().into_iter().zip(other.sections());
        let unlike = pairs.filter(|(ours, theirs)| ours != theirs);
        unlike.map(|((name, _), _)| name).collect()
    }

    /// The same sections, each with its settings as text.
    fn sections(&self) -> [(&'static str, String); 8] {
        // The breaker is the gateway's, which takes it over at once.
        let routing = RoutingConfig {
            breaker: BreakerSpec::default(),
            ..self.routing.clone()
        };
        [
            ("gateway", format!("{:?}", self.gateway)),
            ("control", format!("{:?}", self.control)),
            ("eventlog", format!("{:?}", self.eventlog)),
            ("store", format!("{:?}", self.store)),
            ("console", format!("{:?}", self.console)),
            ("audit", format!("{:?}", self.audit)),
            ("payloads", format!("{:?}", self.payloads)),
            ("routing", format!("{routing:?}")),
        ]
    }
}

impl StoreSettings {
    /// A client for it, as one of the embedded engine's users. Nothing is sent yet.
    pub(crate) fn connect(&self, data_dir: &Path, user: StoreUser) -> anyhow::Result<Store> {
        let config = StoreConfig::new(self.url());
        let config = match self.kind {
            StoreKind::Embedded => config.user(user.name(), store_passwords::read(data_dir, user)?),
            StoreKind::Clickhouse => config.user(&*self.user, &*self.password),
        };
        Store::connect(&config).context("[store] url")
    }

    pub(crate) const fn retention(&self) -> Retention {
        Retention {
            rows_days: self.retention_days,
            payloads_days: self.payload_retention_days,
        }
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
        self.kafka_topic(&self.topic)
    }

    /// The same for another topic than that of the events.
    pub(crate) fn kafka_topic(&self, topic: &str) -> Option<KafkaOptions> {
        let brokers = self
            .brokers
            .as_ref()
            .filter(|_| self.kind == EventlogKind::Kafka)?;
        Some(KafkaOptions {
            topic: topic.to_owned(),
            partitions: i32::from(self.partitions),
            replication: self.replication.map(i32::from),
            retention: match self.topic_retention_days {
                0 => None,
                days => Some(Duration::from_secs(u64::from(days) * 86_400)),
            },
            properties: self.properties.clone(),
            ..KafkaOptions::new(brokers)
        })
    }

    /// Makes the key that seals are signed with, if there is none yet.
    pub(crate) fn journal_options(
        &self,
        data_dir: &Path,
        process: &str,
    ) -> anyhow::Result<JournalOptions> {
        let signer = SigningKey::of_gateway(&audit_dir(data_dir));
        let signer = signer.context("read or make the key that seals are signed with")?;
        Ok(JournalOptions {
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
            chaining: Some(weir_ingestor::CHAINING),
            signer: Some(Arc::new(signer)),
            ..JournalOptions::new(data_dir.join("journal"))
        })
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "weir".into(),
        name => name.to_owned(),
    }
}
