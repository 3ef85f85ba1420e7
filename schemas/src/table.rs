//! The routing table: what the log says about deployments, as gateways use it.
//!
//! The controller makes it from what the ingestor measured, the log carries it, and gateways adopt it
//! as priors beside what they see themselves. A table never says "send everything there": it is
//! seconds to minutes old when it is used, and many gateways use the same one, so what it says moves
//! slowly and within bounds.

pub mod size;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::StreamId;

/// One numbered table: what gateways hold until the next one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoutingTable {
    /// 1, 2, 3 … in the order of publication. 0 is no table.
    pub version: u64,
    /// Which process published it, as it calls itself: two may come to the same number at the same
    /// time, and then only the first one's counts.
    #[serde(default)]
    pub publisher: String,
    pub made_at_us: u64,
    /// Period that was measured.
    pub from_us: u64,
    pub to_us: u64,
    /// How far into each stream of the log the measurement reached.
    pub inputs: Vec<InputPosition>,
    pub origin: Origin,
    /// A frozen or pinned table stays in force; any other is forgotten as it ages.
    pub ages: bool,
    /// Age up to which it counts in full …
    pub trusted_us: u64,
    /// … and from which it counts for nothing.
    pub forgotten_us: u64,
    pub aliases: Vec<AliasTable>,
}

/// One record of the routing tables' log: a table, or an operator's command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableRecord {
    Published(RoutingTable),
    Commanded(TableCommand),
}

impl TableRecord {
    /// Records of one key replace each other: the latest command, and no table another. If two tables
    /// of one number did, a late reader would hold the second where others hold the first. A table is
    /// removed from the log when no controller holds it any more.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Published(table) => format!("table-{}-{}", table.version, table.publisher),
            Self::Commanded(_) => "command".to_owned(),
        }
    }
}

/// What an operator may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableCommand {
    /// Keep the table in force, whatever is measured.
    Freeze,
    /// Keep an earlier table, whatever is measured.
    Pin { version: u64 },
    /// Pin the table before the one in force.
    RollBack,
    /// End a freeze or pin.
    Resume,
}

/// How far into one stream a measurement reached: everything up to `seq` was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputPosition {
    #[serde(with = "stream_as_text")]
    pub stream: StreamId,
    pub seq: u64,
}

/// How a table came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Made from measurements.
    Measured,
    /// An operator stopped the clock on the table in force.
    Frozen { of: u64 },
    /// An operator chose this earlier table.
    Pinned { of: u64 },
    /// An operator went back to the table before.
    RolledBack { to: u64 },
    /// These aliases did worse under table `of` than under `to`, and went back by themselves.
    Reverted {
        of: u64,
        to: u64,
        aliases: Vec<String>,
    },
}

impl Origin {
    /// The word that events carry.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Frozen { .. } => "frozen",
            Self::Pinned { .. } => "pinned",
            Self::RolledBack { .. } => "rolled_back",
            Self::Reverted { .. } => "reverted",
        }
    }
}

/// One alias's part of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AliasTable {
    pub alias: String,
    /// Mean size of an answer, for estimates of cost.
    pub output_tokens_mean: Option<f64>,
    pub targets: Vec<TargetEntry>,
}

/// What is known about one deployment as a target of one alias.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetEntry {
    pub deployment: String,
    /// Factor on the configured weight; 1 is neutral.
    pub weight: f64,
    /// Median time to first token of a request of reference size ([`size`]).
    pub ttft_us: Option<f64>,
    pub ttft_p95_us: Option<f64>,
    /// Share of attempts that failed through the deployment's fault.
    pub error_ratio: Option<f64>,
    pub output_tokens_per_s: Option<f64>,
    /// What one priced token ([`size::priced_tokens`]) really cost, waste included.
    pub picousd_per_token: Option<f64>,
    /// Attempts that were measured in the period.
    pub tries: u64,
    /// What became of the weight in this refresh.
    pub change: WeightChange,
}

/// Why a weight is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightChange {
    /// As measured.
    Measured,
    /// The measurement asks for more; one refresh moves only so far.
    Capped,
    /// The measurement is so near the weight in force that it stays.
    Held,
    /// Too few attempts to say anything: back towards neutral.
    Unmeasured,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Measured => f.write_str("made from measurements"),
            Self::Frozen { of } => write!(f, "table {of}, frozen by an operator"),
            Self::Pinned { of } => write!(f, "table {of}, pinned by an operator"),
            Self::RolledBack { to } => write!(f, "rolled back to table {to} by an operator"),
            Self::Reverted { of, to, aliases } => write!(
                f,
                "{} did worse under table {of} than under {to}, and was reverted",
                aliases.join(", ")
            ),
        }
    }
}

impl fmt::Display for WeightChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Measured => "as measured",
            Self::Capped => "capped: one refresh moves only so far",
            Self::Held => "held: the difference is too small",
            Self::Unmeasured => "too few attempts to measure",
        })
    }
}

impl RoutingTable {
    /// The table before any: every target is neutral.
    #[must_use]
    pub fn none() -> Self {
        Self {
            version: 0,
            publisher: String::new(),
            made_at_us: 0,
            from_us: 0,
            to_us: 0,
            inputs: Vec::new(),
            origin: Origin::Measured,
            ages: true,
            trusted_us: 0,
            forgotten_us: 0,
            aliases: Vec::new(),
        }
    }

    #[must_use]
    pub fn alias(&self, name: &str) -> Option<&AliasTable> {
        self.aliases.iter().find(|entry| entry.alias == name)
    }
}

impl AliasTable {
    #[must_use]
    pub fn target(&self, deployment: &str) -> Option<&TargetEntry> {
        self.targets
            .iter()
            .find(|entry| entry.deployment == deployment)
    }
}

/// Tables travel as JSON, where a stream's id is its text.
mod stream_as_text {
    use std::borrow::Cow;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::ids::StreamId;

    pub(super) fn serialize<S: Serializer>(id: &StreamId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<StreamId, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        text.parse()
            .map_err(|_| D::Error::custom(format_args!("\"{text}\" is not a stream id")))
    }
}
