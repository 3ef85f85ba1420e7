//! What is kept of a body, or why nothing is.

use std::collections::BTreeSet;

/// How much of a body is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Roles, kinds, names of models and tools, parameters and sizes. No text.
    Structure,
    /// Everything, redacted.
    Text,
}

/// A body that was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub json: String,
    /// Whether texts or lists were shortened.
    pub is_truncated: bool,
    pub found: Redactions,
}

/// What was taken out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redactions {
    pub count: u64,
    /// Names of the detectors and patterns.
    pub names: BTreeSet<String>,
}

impl Redactions {
    pub(crate) fn note(&mut self, name: &str) {
        self.count += 1;
        if !self.names.contains(name) {
            self.names.insert(name.to_owned());
        }
    }
}

/// Why a body is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Omitted {
    #[error("it is not JSON")]
    Unreadable,
    #[error("it is too large to be searched")]
    TooLarge,
}

impl Omitted {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::TooLarge => "too_large",
        }
    }
}
