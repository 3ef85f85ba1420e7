//! Numbers as events carry them.

use serde::{Deserialize, Serialize, Serializer};

/// A number in an event: of what was counted, or of microseconds.
///
/// It is at most what Avro's `long` holds, so that every event can be written. What is larger
/// becomes the largest: no clock and no counter of the gateway gets there, so it is something that
/// somebody made up.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(from = "u64", into = "u64")]
pub struct Count(u64);

impl Count {
    pub const MAX: Self = Self(i64::MAX as u64);

    #[must_use]
    pub const fn new(number: u64) -> Self {
        if number > Self::MAX.0 {
            return Self::MAX;
        }
        Self(number)
    }

    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for Count {
    fn from(number: u64) -> Self {
        Self::new(number)
    }
}

impl From<Count> for u64 {
    fn from(count: Count) -> Self {
        count.0
    }
}

/// Writes a number as a [`Count`].
pub(crate) fn bounded<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    Count::new(*number).serialize(serializer)
}

/// The same, of one that may be absent.
pub(crate) fn bounded_option<S: Serializer>(
    number: &Option<u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    number.map(Count::new).serialize(serializer)
}
