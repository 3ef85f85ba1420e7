//! What is controlled, as the control log holds it and as people write it.
//!
//! The latest record of a kind and id counts; a record that is gone stands there without a body.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use weir_limits::{BudgetSpec, BudgetUnit, Class, Window, Zone};
use weir_schemas::RequestId;

use super::key::{KeyHash, KeyId};
use super::network::Network;
use crate::caps::{ID_BYTES_MAX, LABEL_BYTES_MAX};

const PICO_PER_USD: u128 = 1_000_000_000_000;

/// Declares every kind of record once: its name in the log, and its type. A record has an `id`, and a
/// `check` that says what is wrong with it.
macro_rules! kinds {
    ($($kind:ident($record:ident) = $name:literal,)*) => {
        /// What kinds of things there are.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum Kind {
            $($kind,)*
        }

        impl Kind {
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }

        /// One thing that is controlled.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        pub enum Record {
            $($kind($record),)*
        }

        impl Record {
            pub fn parse(kind: Kind, json: &str) -> Result<Self, serde_json::Error> {
                Ok(match kind {
                    $(Kind::$kind => Self::$kind(serde_json::from_str(json)?),)*
                })
            }

            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            #[must_use]
            pub fn id(&self) -> String {
                match self {
                    $(Self::$kind(record) => record.id.to_string(),)*
                }
            }

            fn check_body(&self) -> Result<(), String> {
                match self {
                    $(Self::$kind(record) => record.check(),)*
                }
            }
        }
    };
}

kinds! {
    Key(KeyRecord) = "key",
    Team(TeamRecord) = "team",
    Limit(LimitRecord) = "limit",
    Budget(BudgetRecord) = "budget",
    Access(AccessRecord) = "access",
    Payload(PayloadRecord) = "payload",
    Token(TokenRecord) = "token",
    Setting(SettingRecord) = "setting",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One line of the log: what something is from now on, or that it is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub kind: Kind,
    pub id: String,
    pub record: Option<Record>,
}

impl<'de> Deserialize<'de> for Change {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct ChangeLine {
            kind: Kind,
            id: String,
            record: Option<Box<serde_json::value::RawValue>>,
        }
        let line = ChangeLine::deserialize(deserializer)?;
        let record = line
            .record
            .map(|json| Record::parse(line.kind, json.get()))
            .transpose()
            .map_err(de::Error::custom)?;
        Ok(Self {
            kind: line.kind,
            id: line.id,
            record,
        })
    }
}

impl Change {
    #[must_use]
    pub fn set(record: Record) -> Self {
        Self {
            kind: record.kind(),
            id: record.id(),
            record: Some(record),
        }
    }

    #[must_use]
    pub const fn gone(kind: Kind, id: String) -> Self {
        Self {
            kind,
            id,
            record: None,
        }
    }
}

impl Record {
    /// What it holds for, if it is a rule.
    #[must_use]
    pub const fn scope(&self) -> Option<&Scope> {
        match self {
            Self::Limit(limit) => Some(&limit.scope),
            Self::Budget(budget) => Some(&budget.scope),
            Self::Access(access) => Some(&access.scope),
            Self::Payload(payload) => Some(&payload.scope),
            Self::Key(_) | Self::Team(_) | Self::Token(_) | Self::Setting(_) => None,
        }
    }

    /// The record as it may be shown: without hashes.
    #[must_use]
    pub fn public(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.remove("hash");
            if let Some(previous) = object.get_mut("previous").and_then(|p| p.as_object_mut()) {
                previous.remove("hash");
            }
        }
        value
    }

    /// What is wrong with it, if anything.
    pub fn check(&self) -> Result<(), String> {
        let id = self.id();
        if !is_name(&id) {
            return Err(format!(
                "an id has 1 to {ID_BYTES_MAX} bytes and no control characters"
            ));
        }
        self.check_body()
    }
}

/// A virtual key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    pub id: KeyId,
    /// Keyed hash of the key. The key itself is shown once and kept nowhere.
    pub hash: KeyHash,
    /// The key that this one replaced, while both work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousKey>,
    pub organisation: Option<String>,
    pub team: Option<String>,
    pub project: Option<String>,
    pub user: Option<String>,
    pub environment: Option<String>,
    pub tier: Option<String>,
    /// Aliases that it may use; all if empty. A `*` at the end stands for anything.
    #[serde(default)]
    pub models: Vec<String>,
    /// Aliases that it may not use.
    #[serde(default)]
    pub models_denied: Vec<String>,
    /// Networks that it may be used from; all if empty.
    #[serde(default)]
    pub networks: Vec<Network>,
    #[serde(default)]
    pub class: Priority,
    pub created_ms: u64,
    pub expires_ms: Option<u64>,
    pub revoked_ms: Option<u64>,
}

impl KeyRecord {
    /// A key of nobody in particular that may do everything.
    #[must_use]
    pub const fn new(id: KeyId, hash: KeyHash, created_ms: u64) -> Self {
        Self {
            id,
            hash,
            previous: None,
            organisation: None,
            team: None,
            project: None,
            user: None,
            environment: None,
            tier: None,
            models: Vec::new(),
            models_denied: Vec::new(),
            networks: Vec::new(),
            class: Priority::Interactive,
            created_ms,
            expires_ms: None,
            revoked_ms: None,
        }
    }

    /// Names that a key brings stand in the names of counters, in headers and in messages.
    fn check(&self) -> Result<(), String> {
        // Whatever there is can be revoked.
        if self.revoked_ms.is_some() {
            return Ok(());
        }
        let names = [
            ("organisation", &self.organisation),
            ("team", &self.team),
            ("project", &self.project),
            ("user", &self.user),
            ("environment", &self.environment),
            ("tier", &self.tier),
        ];
        for (field, name) in names {
            if name.as_deref().is_some_and(|name| !is_name(name)) {
                return Err(format!(
                    "{field}: a name has 1 to {ID_BYTES_MAX} bytes and no control characters"
                ));
            }
        }
        Ok(())
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= ID_BYTES_MAX && text.chars().all(|c| !c.is_control())
}

/// A key that was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousKey {
    pub hash: KeyHash,
    /// Until when it works.
    pub until_ms: u64,
}

/// Who goes first when there is not enough for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// A person waits for the answer.
    #[default]
    Interactive,
    /// May use at most 80 % of any limit; the rest is reserved for interactive traffic.
    Batch,
}

impl From<Priority> for Class {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Interactive => Self::Interactive,
            Priority::Batch => Self::Batch,
        }
    }
}

/// A team: what its keys have in common unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TeamRecord {
    /// Name of the team.
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Whom to ask when something is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// Keys that the team brings, by provider: their names in `team_keys` of the provider, never the
    /// keys themselves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub provider_keys: BTreeMap<String, String>,
}

impl TeamRecord {
    fn check(&self) -> Result<(), String> {
        let mut keys = self.provider_keys.iter();
        match keys.find(|(_, key)| !is_label(key)) {
            // It may be a key: it is not repeated.
            Some((provider, _)) => Err(format!(
                "provider_keys: what is written for \"{provider}\" is no name of a key; write what \
                 the key is called in [[provider]] team_keys of the gateway, never the key itself"
            )),
            None => Ok(()),
        }
    }
}

/// What a rule holds for: everything that agrees with all that is written here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Scope {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
}

impl Scope {
    /// Whether it depends on the request and not only on its key.
    #[must_use]
    pub const fn is_dynamic(&self) -> bool {
        self.model.is_some() || self.customer.is_some()
    }
}

/// What a rule counts apart.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    Organisation,
    Team,
    Project,
    User,
    Key,
    Environment,
    Tier,
    Model,
    Customer,
}

impl Dimension {
    /// Whether it is the same for all requests from one place in the hierarchy.
    #[must_use]
    pub const fn is_of_key(self) -> bool {
        match self {
            Self::Organisation | Self::Team | Self::Project | Self::Environment | Self::Tier => {
                true
            }
            Self::User | Self::Key | Self::Model | Self::Customer => false,
        }
    }
}

/// A limit on rates and on requests at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitRecord {
    /// Name of the limit; refusals carry it.
    pub id: String,
    #[serde(default)]
    pub scope: Scope,
    /// What is counted apart: with `["user"]` every user has the limit for themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub per: Vec<Dimension>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Requests at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
    /// Limits that do not hold where this one does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<String>,
}

impl LimitRecord {
    fn check(&self) -> Result<(), String> {
        let says = [
            self.requests_per_minute,
            self.tokens_per_minute,
            self.concurrency,
        ];
        if says.iter().all(Option::is_none) {
            return Err(
                "it limits nothing; set requests_per_minute, tokens_per_minute or concurrency"
                    .into(),
            );
        }
        check_overrides(&self.overrides, &self.scope)
    }
}

fn check_overrides(overrides: &[String], scope: &Scope) -> Result<(), String> {
    if !overrides.is_empty() && scope.is_dynamic() {
        return Err("overrides: what holds for a model or a customer cannot override".into());
    }
    Ok(())
}

/// A budget in money or in tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetRecord {
    /// Name of the budget; refusals carry it.
    pub id: String,
    #[serde(default)]
    pub scope: Scope,
    /// What is counted apart: with `["customer"]` every customer has the budget for themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub per: Vec<Dimension>,
    /// Dollars, as text: no float ever holds money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd: Option<Usd>,
    /// Tokens in and out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// hour, day, week, month, total, or rolling as 12h or 30d.
    pub window: String,
    /// Time zone in which days, weeks and months begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// A soft budget refuses nobody and only says when its thresholds are reached.
    #[serde(default, skip_serializing_if = "is_false")]
    pub soft: bool,
    /// Parts of the budget, in percent, at which an event is written and the webhook called.
    #[serde(default = "thresholds")]
    pub thresholds_percent: Vec<u8>,
    /// With usd: what happens to calls that nobody knows a price for.
    #[serde(default, skip_serializing_if = "UnpricedCalls::is_refuse")]
    pub unpriced: UnpricedCalls,
    /// Budgets that do not hold where this one does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<String>,
}

/// What a budget in money does about calls that nobody knows a price for. A soft budget allows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Unpriced")]
pub enum UnpricedCalls {
    /// They go to deployments that have a price, and are refused where there is none.
    #[default]
    Refuse,
    /// They are let through, and count nothing.
    Allow,
}

impl UnpricedCalls {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde hands it a reference"
    )]
    fn is_refuse(&self) -> bool {
        *self == Self::Refuse
    }
}

fn thresholds() -> Vec<u8> {
    vec![50, 80, 100]
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands it a reference"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl BudgetRecord {
    fn check(&self) -> Result<(), String> {
        self.spec()?;
        check_overrides(&self.overrides, &self.scope)
    }

    pub fn spec(&self) -> Result<BudgetSpec, String> {
        let (unit, limit) = match (self.usd, self.tokens) {
            (Some(usd), None) => (BudgetUnit::PicoUsd, usd.0),
            (None, Some(tokens)) => (BudgetUnit::Tokens, u128::from(tokens)),
            _ => return Err("set either usd or tokens".into()),
        };
        let zone = self.zone.as_deref().map_or_else(
            || Ok(Zone::utc()),
            |name| Zone::named(name).map_err(|bad| format!("zone: {bad}")),
        )?;
        let window = Window::parse(&self.window, zone).map_err(|bad| format!("window: {bad}"))?;
        let mut thresholds_percent = self.thresholds_percent.clone();
        thresholds_percent.sort_unstable();
        thresholds_percent.dedup();
        if unit == BudgetUnit::Tokens && self.unpriced != UnpricedCalls::default() {
            return Err("unpriced: a budget in tokens does not ask for prices".into());
        }
        if thresholds_percent.first() == Some(&0) {
            return Err("thresholds_percent: 0 is reached before anything is spent".into());
        }
        Ok(BudgetSpec {
            unit,
            limit,
            hard: !self.soft,
            window,
            thresholds_percent,
        })
    }
}

/// Whether a text can be the label of a provider key: nothing that looks like a key itself.
#[must_use]
pub fn is_label(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=LABEL_BYTES_MAX).contains(&text.len())
        && text.bytes().all(fits)
        && !text.starts_with("sk-")
}

/// Dollars, exactly. Written as text, `"12.50"`, or as a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Usd(
    /// 10⁻¹² dollars.
    pub u128,
);

impl std::str::FromStr for Usd {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let not = || format!("\"{text}\" is not an amount of dollars, such as \"12.50\"");
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty()
            || whole.len() > 15
            || part.len() > 12
            || !digits(whole)
            || !digits(part)
        {
            return Err(not());
        }
        let whole: u128 = whole.parse().map_err(|_| not())?;
        let part: u128 = format!("{part:0<12}").parse().map_err(|_| not())?;
        Ok(Self(whole * PICO_PER_USD + part))
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / PICO_PER_USD, self.0 % PICO_PER_USD);
        let part = format!("{part:012}");
        // Cents are always shown, the rest if there is any.
        let shown = part.trim_end_matches('0').len().max(2);
        write!(f, "{whole}.{}", &part[..shown])
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Usd;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("dollars as text, such as \"12.50\", or as a whole number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Usd, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, whole: u64) -> Result<Usd, E> {
                whole.to_string().parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, whole: i64) -> Result<Usd, E> {
                whole.to_string().parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Which models may be used, and from where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRecord {
    /// Name of the rule; refusals carry it.
    pub id: String,
    #[serde(default)]
    pub scope: Scope,
    /// Aliases that may be used; all if empty. A `*` at the end stands for anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models_allowed: Vec<String>,
    /// Aliases that may not be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models_denied: Vec<String>,
    /// Networks that may call; all if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
    /// Whom to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
}

impl AccessRecord {
    fn check(&self) -> Result<(), String> {
        if self.scope.is_dynamic() {
            return Err(
                "scope: model and customer say nothing about access; use models_allowed and \
                 models_denied"
                    .into(),
            );
        }
        let says_nothing = self.models_allowed.is_empty()
            && self.models_denied.is_empty()
            && self.networks.is_empty();
        if says_nothing {
            return Err(
                "it allows and denies nothing; set models_allowed, models_denied or networks"
                    .into(),
            );
        }
        Ok(())
    }
}

/// What is kept of prompts and answers.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum CaptureMode {
    /// Nothing.
    #[default]
    Off,
    /// The structure of request and answer: roles, sizes, names of models and tools, parameters. No
    /// text.
    Metadata,
    /// The redacted text of a share of the requests, drawn by their id.
    Sampled,
    /// The redacted text of every request.
    Full,
}

impl CaptureMode {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Metadata => "metadata",
            Self::Sampled => "sampled",
            Self::Full => "full",
        }
    }
}

/// A share, 0.000001 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "f64", rename = "Share")]
pub struct SampleShare(
    /// Millionths.
    u32,
);

impl SampleShare {
    pub const ALL: Self = Self(1_000_000);

    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / f64::from(Self::ALL.0)
    }

    /// Whether a request is among the share. All gateways say the same of a request.
    #[must_use]
    pub fn holds(self, request_id: RequestId) -> bool {
        // SplitMix64 (Steele, Lea, Flood 2014): any change of the id changes about half the bits.
        let (high, low) = request_id.as_uuid().as_u64_pair();
        let mut mixed = high.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ low;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        mixed % u64::from(Self::ALL.0) < u64::from(self.0)
    }
}

impl std::str::FromStr for SampleShare {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number: f64 = text
            .parse()
            .map_err(|_| format!("\"{text}\" is not a number"))?;
        Self::try_from(number)
    }
}

impl TryFrom<f64> for SampleShare {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        let millionths = (share * f64::from(Self::ALL.0)).round();
        if !(1.0..=f64::from(Self::ALL.0)).contains(&millionths) {
            return Err(format!(
                "{share} is not a share: write a number from 0.000001 to 1"
            ));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between 1 and a million"
        )]
        Ok(Self(millionths as u32))
    }
}

impl Serialize for SampleShare {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

impl<'de> Deserialize<'de> for SampleShare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(f64::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// What is kept of the payloads of some requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capture {
    pub mode: CaptureMode,
    pub share: SampleShare,
}

/// A setting of what is kept that does not go with the others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {message}")]
pub struct CaptureError {
    pub setting: &'static str,
    pub message: String,
}

impl Capture {
    pub fn new(mode: CaptureMode, share: Option<SampleShare>) -> Result<Self, CaptureError> {
        let message = match (mode, share) {
            (CaptureMode::Sampled, Some(share)) => return Ok(Self { mode, share }),
            (CaptureMode::Sampled, None) => {
                "\"sampled\" needs the share of the requests, such as 0.01".into()
            }
            (_, Some(_)) => {
                let mode = mode.as_str();
                format!("has no effect with \"{mode}\"; it belongs to \"sampled\"")
            }
            (_, None) => {
                let share = SampleShare::ALL;
                return Ok(Self { mode, share });
            }
        };
        let setting = "share";
        Err(CaptureError { setting, message })
    }
}

/// What is kept of prompts and answers. Of the rules that hold for a key the one with the narrowest
/// scope decides: key before user, project, team, organisation, environment and tier. Of two with the
/// same scope the one that keeps less.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PayloadRecord {
    /// Name of the rule.
    pub id: String,
    #[serde(default)]
    pub scope: Scope,
    pub capture: CaptureMode,
    /// With `sampled`: share of the requests that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<SampleShare>,
}

impl PayloadRecord {
    fn check(&self) -> Result<(), String> {
        if self.scope.is_dynamic() {
            return Err(
                "scope: model and customer say nothing about what is kept of payloads".into(),
            );
        }
        let capture = Capture::new(self.capture, self.share);
        capture.map(|_| ()).map_err(|bad| bad.to_string())
    }
}

/// What somebody may do with the admin API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Role")]
pub enum AdminRole {
    /// Everything.
    Admin,
    /// Read everything about one team, and make, rotate and revoke its keys.
    TeamOwner,
    /// Read everything.
    Auditor,
    /// Read everything, and set budgets.
    Finance,
}

impl AdminRole {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::TeamOwner => "team_owner",
            Self::Auditor => "auditor",
            Self::Finance => "finance",
        }
    }
}

/// A token for the admin API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    /// Name of whoever holds it.
    pub id: String,
    pub hash: KeyHash,
    pub role: AdminRole,
    /// With the role `team_owner`: which team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    pub created_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}

impl TokenRecord {
    fn check(&self) -> Result<(), String> {
        if (self.role == AdminRole::TeamOwner) == self.team.is_some() {
            return Ok(());
        }
        Err("team goes with the role team_owner, and with no other".into())
    }
}

/// Something that all gateways must agree on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingRecord {
    pub id: String,
    pub value: String,
}

impl SettingRecord {
    /// Only gateways write it.
    const fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Whether a name is among the patterns.
#[must_use]
pub fn matches_any(patterns: &[String], name: &str) -> bool {
    patterns
        .iter()
        .any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => pattern == name,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_read_and_shown_exactly() {
        for (text, pico, shown) in [
            ("50", 50 * PICO_PER_USD, "50.00"),
            ("0.000000000001", 1, "0.000000000001"),
            ("12.5", 12_500_000_000_000, "12.50"),
        ] {
            let usd: Usd = text.parse().unwrap();
            assert_eq!((usd.0, usd.to_string()), (pico, shown.to_owned()));
        }
        for bad in [
            "",
            "-1",
            "1e3",
            "1.0000000000001",
            ".5",
            "1,5",
            "9999999999999999",
            "٣",
        ] {
            assert!(bad.parse::<Usd>().is_err(), "{bad}");
        }
        assert!(
            serde_json::from_str::<Usd>("0.1").is_err(),
            "a float is no amount"
        );
        assert_eq!(
            serde_json::from_str::<Usd>("7").unwrap().0,
            7 * PICO_PER_USD
        );
    }

    #[test]
    fn records_say_what_is_wrong_with_them() {
        for (kind, json, expected) in [
            (Kind::Limit, r#"{"id":"l"}"#, "limits nothing"),
            (Kind::Limit, r#"{"id":"","concurrency":1}"#, "an id has"),
            (
                Kind::Budget,
                r#"{"id":"b","window":"day"}"#,
                "either usd or tokens",
            ),
            (
                Kind::Budget,
                r#"{"id":"b","window":"aeon","tokens":1}"#,
                "not a window",
            ),
            (
                Kind::Budget,
                r#"{"id":"b","window":"day","tokens":1,"zone":"Mars/Base"}"#,
                "time zone",
            ),
            (
                Kind::Budget,
                r#"{"id":"b","window":"day","tokens":1,"scope":{"model":"m"},"overrides":["a"]}"#,
                "cannot override",
            ),
            (
                Kind::Access,
                r#"{"id":"a","scope":{"model":"m"}}"#,
                "say nothing about access",
            ),
            (
                Kind::Payload,
                r#"{"id":"p","capture":"sampled"}"#,
                "needs the share",
            ),
            (
                Kind::Payload,
                r#"{"id":"p","capture":"full","share":0.5}"#,
                "has no effect",
            ),
            (
                Kind::Payload,
                r#"{"id":"p","capture":"full","scope":{"model":"m"}}"#,
                "say nothing about what is kept",
            ),
        ] {
            let said = Record::parse(kind, json).unwrap().check().unwrap_err();
            assert!(said.contains(expected), "{json}: {said}");
        }
        assert!(Record::parse(Kind::Limit, r#"{"id":"l","rpm":5}"#).is_err());
    }

    #[test]
    fn a_share_of_the_requests_is_drawn_by_their_ids() {
        for bad in ["0", "0.0000001", "1.1", "-1", "NaN", "x"] {
            assert!(bad.parse::<SampleShare>().is_err(), "{bad}");
        }
        let drawn = |share: &str| {
            let share: SampleShare = share.parse().unwrap();
            let of = |n: u64| {
                let mut random = [0; 10];
                random[2..].copy_from_slice(&n.to_le_bytes());
                share.holds(RequestId::new(1_700_000_000_000 + n / 7, random))
            };
            (0..100_000).filter(|n| of(*n)).count()
        };
        assert_eq!(drawn("1"), 100_000);
        // Five standard deviations of a fair draw.
        assert!(drawn("0.25").abs_diff(25_000) < 700, "{}", drawn("0.25"));
        assert!(drawn("0.01").abs_diff(1_000) < 160, "{}", drawn("0.01"));
    }

    #[test]
    fn a_change_reads_back_and_shows_no_hash() {
        let hash = super::super::key::HashKey::new(&[7; 32]).unwrap();
        let key = super::super::key::generate().unwrap();
        let mut record = KeyRecord::new(KeyId(7), hash.hash(&key).unwrap(), 1);
        record.previous = Some(PreviousKey {
            hash: record.hash,
            until_ms: 5,
        });
        let change = Change::set(Record::Key(record));
        let json = serde_json::to_string(&change).unwrap();
        assert_eq!(serde_json::from_str::<Change>(&json).unwrap(), change);
        let public = change.record.unwrap().public().to_string();
        assert!(!public.contains("hash"), "{public}");
    }
}
