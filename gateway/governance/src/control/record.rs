//! What is controlled, as the control log holds it and as people write it.
//!
//! The latest record of a kind and id counts; a record that is gone stands there without a body.

mod capture;
mod money;
mod token;

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use weir_limits::{BudgetSpec, BudgetUnit, Window, Zone};

pub use capture::{Capture, CaptureMode, PayloadRecord, SampleShare};
pub use money::Usd;
pub use token::{AdminRole, TokenRecord};
pub use weir_limits::Class;

use super::key::{KeyHash, KeyId};
use super::network::Network;
use crate::caps::{ID_BYTES_MAX, LABEL_BYTES_MAX};

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ChangeLine")]
pub struct Change {
    pub kind: Kind,
    pub id: String,
    pub record: Option<Record>,
    /// Id of the event of the change, by which whoever made it finds that it is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_id: Option<String>,
}

/// A line whose record is read by its kind.
#[derive(Deserialize)]
struct ChangeLine {
    kind: Kind,
    id: String,
    record: Option<Box<RawValue>>,
    #[serde(default)]
    change_id: Option<String>,
}

impl TryFrom<ChangeLine> for Change {
    type Error = serde_json::Error;

    fn try_from(line: ChangeLine) -> Result<Self, Self::Error> {
        let ChangeLine {
            kind,
            id,
            record,
            change_id,
        } = line;
        let record = record.map(|json| Record::parse(kind, json.get()));
        Ok(Self {
            kind,
            id,
            record: record.transpose()?,
            change_id,
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
            change_id: None,
        }
    }

    #[must_use]
    pub const fn gone(kind: Kind, id: String) -> Self {
        Self {
            kind,
            id,
            record: None,
            change_id: None,
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
    pub class: Class,
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
            class: Class::Interactive,
            created_ms,
            expires_ms: None,
            revoked_ms: None,
        }
    }

    /// With another hash, and the one before working on for a time of grace.
    #[must_use]
    pub fn rotated(self, hash: KeyHash, now_ms: u64, grace_ms: u64) -> Self {
        Self {
            previous: (grace_ms > 0).then(|| PreviousKey {
                hash: self.hash,
                until_ms: now_ms.saturating_add(grace_ms),
            }),
            hash,
            ..self
        }
    }

    #[must_use]
    pub fn revoked(self, now_ms: u64) -> Self {
        Self {
            revoked_ms: Some(now_ms),
            ..self
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
        !matches!(self, Self::User | Self::Key | Self::Model | Self::Customer)
    }
}

/// A limit on rates and on requests at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
        let rates = self.requests_per_minute.or(self.tokens_per_minute);
        if rates.or(self.concurrency).is_none() {
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
    #[serde(default, skip_serializing_if = "is_default")]
    pub soft: bool,
    /// Parts of the budget, in percent, at which an event is written and the webhook called.
    #[serde(default = "thresholds")]
    pub thresholds_percent: Vec<u8>,
    /// With usd: what happens to calls that nobody knows a price for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unpriced: UnpricedCalls,
    /// What happens to calls that nothing bounds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unbounded: UnboundedCalls,
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

/// What a hard budget does about calls of which nothing says how much they can be billed at most: those
/// that go on with a conversation that the provider keeps, for example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Unbounded")]
pub enum UnboundedCalls {
    /// They are refused.
    #[default]
    Refuse,
    /// They are let through with what they are likely to cost, and may overspend.
    Allow,
}

fn thresholds() -> Vec<u8> {
    vec![50, 80, 100]
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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

/// Whether patterns keep a name out: those that deny it, or, if there are any, those that allow none
/// like it.
pub(super) fn is_denied(allowed: &[String], denied: &[String], name: &str) -> bool {
    let matches_any = |patterns: &[String]| {
        let mut patterns = patterns.iter();
        patterns.any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => pattern == name,
        })
    };
    matches_any(denied) || !(allowed.is_empty() || matches_any(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_change_reads_back_and_shows_no_hash() {
        let hash = super::super::key::HashKey::new(&[7; 32]).unwrap();
        let mut record = KeyRecord::new(KeyId(7), hash.new_key().unwrap().1, 1);
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
