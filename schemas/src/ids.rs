//! Identifiers. All are UUIDs of version 7, so that they sort by the time they were made.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use uuid::Uuid;

/// Names one life of one writer of the event log: one process, one boot, one shard.
///
/// Together with a sequence number it makes an [`EventId`]; deduplication, ordering and the proof of
/// completeness all rest on that pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(Uuid);

/// Names one event for good: its stream, and its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct EventId {
    pub stream: StreamId,
    /// 1, 2, 3 … without gaps.
    #[serde(serialize_with = "crate::count::bounded")]
    pub seq: u64,
}

/// Names one request of a client. The client reads it in the `x-request-id` header.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(Uuid);

/// Random bytes that keep what was stored from being guessed from its hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Salt(Uuid);

macro_rules! uuid_v7_newtype {
    ($name:ident) => {
        impl $name {
            /// Makes an id from the time of its making and ten random bytes.
            #[must_use]
            pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
            }

            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            #[must_use]
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.as_hyphenated(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(self.0.as_bytes())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer
                    .deserialize_bytes(SixteenBytes)
                    .map(Self::from_bytes)
            }
        }
    };
}

uuid_v7_newtype!(StreamId);
uuid_v7_newtype!(RequestId);
uuid_v7_newtype!(Salt);

impl StreamId {
    /// When the stream was opened, by the clock of its writer: milliseconds since 1970.
    #[must_use]
    pub fn opened_ms(&self) -> u64 {
        let ms = self.as_bytes()[..6].iter();
        ms.fold(0, |ms, byte| ms << 8 | u64::from(*byte))
    }
}

struct SixteenBytes;

impl Visitor<'_> for SixteenBytes {
    type Value = [u8; 16];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("16 bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        bytes
            .try_into()
            .map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_and_parses_as_a_version_7_uuid() {
        let id = RequestId::new(1_700_000_000_000, [7; 10]);
        assert_eq!(id.as_uuid().get_version_num(), 7);
        assert_eq!(id.to_string().parse::<RequestId>().unwrap(), id);
    }

    #[test]
    fn ids_sort_by_the_time_they_were_made() {
        let earlier = StreamId::new(1_700_000_000_000, [255; 10]);
        let later = StreamId::new(1_700_000_000_001, [0; 10]);
        assert!(earlier < later);
    }
}
