//! Tokens for the admin API, and the roles of their holders.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::KeyHash;

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
    pub(super) fn check(&self) -> Result<(), String> {
        if (self.role == AdminRole::TeamOwner) == self.team.is_some() {
            return Ok(());
        }
        Err("team goes with the role team_owner, and with no other".into())
    }
}
