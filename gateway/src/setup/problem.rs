//! What is wrong with a configuration.

/// Something in the configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ConfigProblem {
    /// Setting that is wrong, as `provider[0].base_url`.
    pub path: String,
    pub message: String,
}

impl ConfigProblem {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }

    /// The same, seen from outside of the table that stands at `path`.
    pub(crate) fn within(self, path: &str) -> Self {
        Self::new(format!("{path}.{}", self.path), self.message)
    }
}
