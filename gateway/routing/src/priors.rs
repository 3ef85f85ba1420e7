//! What the published routing table says, resolved for this configuration.

/// Measured long-term facts per alias and target. Without a table they are neutral.
#[derive(Debug, Clone, Default)]
pub struct Priors {
    version: u64,
}

impl Priors {
    /// No table: every target is worth its configured weight.
    pub fn neutral() -> Self {
        Self::default()
    }

    /// The table's version; 0 without one.
    pub fn version(&self) -> u64 {
        self.version
    }
}
