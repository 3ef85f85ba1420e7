//! What the operator writes about the gateway, its providers and its aliases.
//!
//! These are the written forms, with their defaults; [`crate::setup::directory`] turns providers and
//! aliases into what a request runs on. Texts such as `${env:NAME}` are already resolved when a
//! value arrives here.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};
pub use weir_dialects::ModelConfig;
use weir_dialects::{Unsupported, vendors};
use weir_limits::OperatorLimits;
use weir_redaction::{CustomPattern, OptionalDetector};
use weir_schemas::prices::providers_of;

pub use weir_routing::BreakerSpec;

pub use crate::setup::alias_config::{
    AliasConfig, ShadowConfig, StickyConfig, StrategyConfig, TargetConfig,
};

use weir_governance::control::network::Network;
use weir_governance::control::record::{CaptureMode, SampleShare};

/// `[gateway]`: the listener and what one request may take.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// Address that clients call.
    pub listen: SocketAddr,
    /// Worker threads; one per core unless set.
    pub threads: Option<NonZeroUsize>,
    /// Largest request body, unpacked if it is compressed. A larger one is answered 413.
    pub body_bytes_max: usize,
    /// Connections served at once, over all threads, as far as the limit of file descriptors reaches. For
    /// a further one, the connection that is idle for longest is closed; if none is, it is answered 503.
    pub connections_max: usize,
    /// Time that a client may take to send a request's headers.
    pub header_timeout_ms: u64,
    /// Time that a connection may stay open between two requests: longer than a load balancer in front
    /// keeps it.
    pub keep_alive_timeout_ms: u64,
    /// Time that a client may take to send a request's body.
    pub body_timeout_ms: u64,
    /// Time that a client may leave what was sent to it unread. Its connection is closed then.
    pub send_timeout_ms: u64,
    /// On shutdown, time that requests in flight get to finish.
    pub drain_timeout_ms: u64,
    /// Token for the admin API that may do everything; `weir tokens` makes further ones.
    pub admin_token: Option<Secret>,
    /// Environment that this gateway serves: keys of another one are refused. All unless set.
    pub environment: Option<String>,
    /// Proxies whose word about a client's address is taken.
    pub trusted_proxies: Vec<Network>,
    /// Whether connections begin with a PROXY protocol header, version 2. It is taken from trusted
    /// proxies only.
    pub proxy_protocol: bool,
    /// Where the client sets no limit on the answer: tokens that limits and soft budgets reserve for it,
    /// and the least that a hard budget near its end grants it without waiting.
    pub output_tokens_assumed: u64,
    /// Status of a refusal by a budget: 402, which no SDK retries, or 429, as OpenAI answers when an
    /// account has no money left. Both carry `x-should-retry: false`, which not every SDK heeds.
    pub budget_status: BudgetStatusCode,
    /// Longest time that a request waits for others to settle where only what they have reserved of a
    /// hard budget is in its way.
    pub budget_wait_ms: u64,
    /// What calls without a valid key may leave behind.
    pub unauthenticated: UnauthenticatedConfig,
    /// What happens to a call whose client leaves before the answer is complete.
    pub on_disconnect: DisconnectConfig,
    /// Who is told when a budget reaches one of its thresholds.
    pub webhook: WebhookConfig,
    /// While every provider's limit is used up: longest time that a request which is no batch work
    /// waits for its turn before it is refused.
    pub provider_limit_wait_ms: u64,
}

/// Status of a refusal by a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "u16")]
#[schemars(with = "u16")]
pub struct BudgetStatusCode(u16);

impl BudgetStatusCode {
    const PAYMENT_REQUIRED: Self = Self(402);

    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for BudgetStatusCode {
    type Error = String;

    fn try_from(status: u16) -> Result<Self, String> {
        match status {
            402 | 429 => Ok(Self(status)),
            _ => Err(format!("{status} is neither 402 nor 429")),
        }
    }
}

/// `webhook`: who is told when a budget reaches one of its thresholds.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where to post, as Slack's incoming webhooks take it: `{"text": …, "budget": {…}}`. Nobody is
    /// told unless set.
    pub url: Option<Secret>,
    /// Time that a post may take.
    pub timeout_ms: u64,
    /// Post though the host's name resolves to a private address.
    pub allow_private: bool,
    /// Proxy on the way there, as for a provider.
    pub proxy: Option<String>,
    /// PEM file with the certificate authorities to trust instead of the built-in ones.
    pub ca_file: Option<PathBuf>,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            url: None,
            timeout_ms: 10_000,
            allow_private: false,
            proxy: None,
            ca_file: None,
        }
    }
}

/// `unauthenticated`: what calls without a valid key may leave behind. Anybody can make them.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UnauthenticatedConfig {
    /// Calls of one address in a minute that are answered 401; further ones are answered 429. Calls with
    /// a valid key do not count, and are not held up.
    pub requests_per_minute: u32,
    /// Rows of their own that such calls get in a minute; further ones are counted in `weir.refusals`.
    pub rows_per_minute: u32,
    /// Addresses that are counted apart in a minute; further ones are counted together.
    pub addresses_max: usize,
}

impl Default for UnauthenticatedConfig {
    fn default() -> Self {
        Self {
            requests_per_minute: 60,
            rows_per_minute: 100,
            addresses_max: 1_000,
        }
    }
}

/// `on_disconnect`: what happens to a call whose client leaves before the answer is complete.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DisconnectConfig {
    pub policy: DisconnectPolicy,
    /// With `drain`: longest time to read on.
    pub max_ms: u64,
    /// With `drain`: answers read on at once, over all threads; further ones are given up.
    pub max_concurrent: usize,
}

impl Default for DisconnectConfig {
    fn default() -> Self {
        Self {
            policy: DisconnectPolicy::Abort,
            max_ms: 30_000,
            max_concurrent: 64,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DisconnectPolicy {
    /// Close the connection, so that the provider stops; what was consumed is estimated.
    Abort,
    /// Read the answer to its end, so that the provider says what was consumed.
    Drain,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            threads: None,
            body_bytes_max: 32 * 1024 * 1024,
            connections_max: 20_000,
            header_timeout_ms: 10_000,
            keep_alive_timeout_ms: 75_000,
            body_timeout_ms: 60_000,
            send_timeout_ms: 60_000,
            drain_timeout_ms: 30_000,
            admin_token: None,
            environment: None,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            output_tokens_assumed: 1_024,
            budget_status: BudgetStatusCode::PAYMENT_REQUIRED,
            budget_wait_ms: 1_000,
            unauthenticated: UnauthenticatedConfig::default(),
            on_disconnect: DisconnectConfig::default(),
            webhook: WebhookConfig::default(),
            provider_limit_wait_ms: 0,
        }
    }
}

/// `[control]`: how keys and rules are kept.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ControlConfig {
    /// Secret that keys are hashed with, at least 32 bytes. One is made in the data directory
    /// unless set; gateways on several machines need the same one.
    pub hash_secret: Option<Secret>,
    /// With `[eventlog] kind = "kafka"`: topic that all gateways follow.
    pub topic: String,
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            hash_secret: None,
            topic: "weir.control".into(),
        }
    }
}

/// `[payloads]`: what is kept of prompts and answers where no rule of `weir payloads` says otherwise,
/// and what is taken out of them first.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PayloadsConfig {
    /// What is kept where no rule says otherwise.
    pub capture: CaptureMode,
    /// With `sampled`: share of the requests that are kept.
    pub share: Option<SampleShare>,
    /// Largest request and largest answer that are kept; texts of larger ones are shortened.
    pub bytes_max: usize,
    /// What is held of requests in flight, over all of them; what is beyond is left out.
    pub memory_bytes_max: usize,
    /// What is taken out beside secrets, which always are.
    pub redact: Vec<OptionalDetector>,
    /// What else is taken out.
    pub patterns: Vec<CustomPattern>,
}

impl Default for PayloadsConfig {
    fn default() -> Self {
        Self {
            capture: CaptureMode::Off,
            share: None,
            bytes_max: 65_536,
            memory_bytes_max: 67_108_864,
            redact: Vec::new(),
            patterns: Vec::new(),
        }
    }
}

/// A text that is shown nowhere.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// `[[provider]]`: a place that answers model calls.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// Name that aliases refer to and that events carry.
    pub name: String,
    /// Wire format, or a vendor of the quirks table.
    pub dialect: String,
    /// Where the API begins, for example `https://api.openai.com/v1`.
    pub base_url: String,
    /// Keys that its calls share: each a text, `{ file = … }`, `{ env = … }` or `{ dir = … }`. A
    /// provider without keys is called without one.
    #[serde(default)]
    pub keys: Vec<KeyConfig>,
    /// Keys that teams bring, written alike. One is used for the teams whose record names it
    /// (`weir teams set TEAM --provider-key PROVIDER=NAME`), and for nobody else.
    #[serde(default)]
    pub team_keys: Vec<KeyConfig>,
    /// Region of the deployment, for the events.
    #[serde(default)]
    pub region: Option<String>,
    /// Providers of the price book whose prices hold here, in order; the dialect's own unless set.
    #[serde(default)]
    pub prices: Option<Vec<String>>,
    /// PEM file with the certificate authorities to trust instead of the built-in ones.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Proxy on the way there: `http://host:port` (CONNECT) or `socks5://host:port`, with
    /// `user:password@` before the host if it wants them.
    #[serde(default)]
    pub proxy: Option<String>,
    /// Call the provider though its host's name resolves to a private address. An address written
    /// in `base_url` itself, and `localhost`, need no leave.
    #[serde(default)]
    pub allow_private: bool,
    /// What happens to fields of a request that the provider's dialect cannot express.
    #[serde(default)]
    pub unsupported: Unsupported,
    /// Version of the API, for the dialects that ask for one in the URL (`azure-deployments`).
    #[serde(default)]
    pub api_version: Option<String>,
    #[serde(default)]
    pub timeouts: TimeoutConfig,
}

impl ProviderConfig {
    /// Where the price book is looked into, in order.
    #[must_use]
    pub fn price_providers(&self) -> Vec<&str> {
        match &self.prices {
            Some(places) => places.iter().map(String::as_str).collect(),
            None => {
                let vendor = vendors::find(&self.dialect).map_or("", |vendor| vendor.name);
                providers_of(vendor).to_vec()
            }
        }
    }

    /// A provider with the defaults for everything that has one.
    #[must_use]
    pub fn new(name: &str, dialect: &str, base_url: String) -> Self {
        Self {
            name: name.to_owned(),
            dialect: dialect.to_owned(),
            base_url,
            keys: Vec::new(),
            team_keys: Vec::new(),
            region: None,
            prices: None,
            ca_file: None,
            proxy: None,
            allow_private: false,
            unsupported: Unsupported::default(),
            api_version: None,
            timeouts: TimeoutConfig::default(),
        }
    }
}

/// One entry of `keys` or `team_keys`: a key, or where keys are read from.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum KeyConfig {
    /// The key itself, as `"${env:NAME}"`.
    Text(Secret),
    From(KeySource),
}

/// Where a key is read from, or all those of a directory.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeySource {
    /// What events and metrics call the key, behind the provider's name and `#`; its place in the
    /// list unless set. A key in a directory is called as its file.
    #[serde(default)]
    pub name: Option<String>,
    /// Environment variable that holds the key.
    #[serde(default)]
    pub env: Option<String>,
    /// File that holds the key. It is read again when it changes.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Directory with a file for each key. It is read again when it changes.
    #[serde(default)]
    pub dir: Option<PathBuf>,
    /// Share of the provider's calls that the key gets, relative to its other keys.
    #[serde(default = "one")]
    pub weight: u32,
    /// Requests that the key may send in a minute for each model, whatever its provider says.
    #[serde(default)]
    pub requests_per_minute: Option<NonZeroU64>,
    /// Tokens that they may take, the answers' included.
    #[serde(default)]
    pub tokens_per_minute: Option<NonZeroU64>,
}

impl KeySource {
    pub(crate) fn granted(&self) -> OperatorLimits {
        OperatorLimits {
            requests: self.requests_per_minute.map(NonZeroU64::get),
            tokens: self.tokens_per_minute.map(NonZeroU64::get),
        }
    }
}

const fn one() -> u32 {
    1
}

impl<'de> Deserialize<'de> for KeyConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = KeyConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key as a text, or { file = … }, { env = … } or { dir = … }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<KeyConfig, E> {
                Ok(KeyConfig::Text(Secret::new(text)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<KeyConfig, A::Error> {
                KeySource::deserialize(MapAccessDeserializer::new(map)).map(KeyConfig::From)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl KeyConfig {
    /// Forgets a key that stands here.
    pub fn forget(&mut self) {
        if let Self::Text(key) = self {
            *key = Secret::new("");
        }
    }

    /// The file or directory that is read.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Text(_) => None,
            Self::From(source) => source.file.as_deref().or(source.dir.as_deref()),
        }
    }
}

/// `timeouts` of a provider: how long each phase of a try may take.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutConfig {
    /// Resolving, connecting and the TLS handshake together.
    pub connect_ms: u64,
    /// From the moment that the request goes out on its connection to a stream's first token, or to the
    /// first byte of any other answer.
    pub first_byte_ms: u64,
    /// Between two pieces of the answer's body.
    pub idle_ms: u64,
    /// The whole request with all its tries.
    pub total_ms: u64,
}

impl Default for TimeoutConfig {
    fn default() -> Self {
        Self {
            connect_ms: 5_000,
            first_byte_ms: 120_000,
            idle_ms: 60_000,
            total_ms: 600_000,
        }
    }
}
