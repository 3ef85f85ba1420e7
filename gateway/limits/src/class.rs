//! Priority among requests when there is not enough for all.

/// How urgent a request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Class {
    /// Somebody waits for the answer.
    #[default]
    Interactive,
    /// May use only a part of every limit; the rest is reserved for interactive requests.
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
