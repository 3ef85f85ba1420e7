//! Priority among requests when there is not enough for all.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who goes first when there is not enough for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Priority")]
pub enum Class {
    /// A person waits for the answer.
    #[default]
    Interactive,
    /// May use at most 80 % of any limit; the rest is reserved for interactive traffic.
    Batch,
}

impl Class {
    /// Part of a capacity that this class may fill, in percent.
    #[must_use]
    pub const fn percent(self) -> u64 {
        match self {
            Self::Interactive => 100,
            Self::Batch => 80,
        }
    }
}
