//! Whose keys sign the gateways' seals. Pure.
//!
//! A stream says at its opening which key signs its seals. Who can write the log or the tables can say a
//! key of his own there, or none; so a verification trusts only keys that it is told, once it is told
//! any. A stream without a key is older than signed seals: its word for that is a checkpoint of that time.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Serialize;
use weir_schemas::StreamId;

use crate::caps::{NO_TIME_US, UPGRADE_MAX};

/// A key that gateways have signed seals with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GatewayKey {
    pub key: String,
    pub streams: u64,
    /// Whether it is among the trusted; nothing is where none was named.
    pub is_trusted: bool,
}

/// What is wrong with the key of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SealKeyFault {
    /// It is not among the trusted.
    Unknown(String),
    /// There is none.
    Missing,
}

/// The keys of a period's streams.
#[derive(Debug, Default)]
pub(super) struct StreamKeys {
    /// Empty where a stream has none.
    by_stream: BTreeMap<StreamId, String>,
    trusted: BTreeSet<String>,
}

impl StreamKeys {
    pub(super) fn new(
        by_stream: BTreeMap<StreamId, String>,
        trusted: impl Iterator<Item = String>,
    ) -> Self {
        Self {
            by_stream,
            trusted: trusted.map(|key| key.to_ascii_lowercase()).collect(),
        }
    }

    /// None if the stream's opening is not known: that is a finding of its own.
    pub(super) fn of(&self, stream: StreamId) -> Option<&str> {
        self.by_stream.get(&stream).map(String::as_str)
    }

    pub(super) fn summary(&self) -> Vec<GatewayKey> {
        let mut streams: BTreeMap<&str, u64> = BTreeMap::new();
        for key in self.by_stream.values().filter(|key| !key.is_empty()) {
            *streams.entry(key).or_default() += 1;
        }
        let summary = streams.into_iter().map(|(key, streams)| GatewayKey {
            key: key.to_owned(),
            streams,
            is_trusted: self.trusted.contains(key),
        });
        summary.collect()
    }

    /// When the first stream with a trusted key was opened, in microseconds since 1970. By the streams'
    /// ids, which no signature fits if they are changed.
    pub(super) fn trusted_since_us(&self) -> Option<i64> {
        let trusted = self
            .by_stream
            .iter()
            .filter(|(_, key)| self.trusted.contains(*key));
        let opened_ms = trusted.map(|(stream, _)| stream.opened_ms()).min()?;
        i64::try_from(opened_ms.saturating_mul(1000)).ok()
    }

    /// The latest checkpoint that can still vouch for streams without a key: the other gateways had
    /// some time to be upgraded. None if there were no checkpoints before the first trusted key, and so
    /// nothing to upgrade.
    pub(super) fn vouched_until_us(&self, first_checkpoint_us: Option<i64>) -> Option<i64> {
        let Some(since) = self.trusted_since_us() else {
            return first_checkpoint_us.and_then(|_| i64::try_from(NO_TIME_US).ok());
        };
        let grace = i64::try_from(UPGRADE_MAX.as_micros()).unwrap_or(0);
        first_checkpoint_us
            .is_some_and(|first| first < since)
            .then(|| since.saturating_add(grace))
    }

    /// Streams whose keys are not trusted, or that lack one and that no checkpoint vouches for. None if
    /// nothing is trusted.
    pub(super) fn faults(&self, vouched: &HashSet<StreamId>) -> Vec<(StreamId, SealKeyFault)> {
        let fault = |(stream, key): (&StreamId, &String)| {
            let fault = match &**key {
                "" => (!vouched.contains(stream)).then_some(SealKeyFault::Missing),
                key => (!self.trusted.contains(key)).then(|| SealKeyFault::Unknown(key.to_owned())),
            };
            fault.map(|fault| (*stream, fault))
        };
        if self.trusted.is_empty() {
            return Vec::new();
        }
        self.by_stream.iter().filter_map(fault).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(opened_ms: u64) -> StreamId {
        StreamId::new(opened_ms, [1; 10])
    }

    fn keys(streams: &[(u64, &str)], trusted: &[&str]) -> StreamKeys {
        let of = |(opened_ms, key): &(u64, &str)| (stream(*opened_ms), (*key).to_owned());
        let trusted = trusted.iter().map(|key| (*key).to_owned());
        StreamKeys::new(streams.iter().map(of).collect(), trusted)
    }

    #[test]
    fn where_nothing_is_trusted_every_key_and_none_will_do() {
        let keys = keys(&[(1, "aa"), (2, ""), (3, "bb")], &[]);
        assert_eq!(keys.faults(&HashSet::new()), []);
        let known: Vec<_> = keys
            .summary()
            .into_iter()
            .map(|it| (it.key, it.is_trusted))
            .collect();
        assert_eq!(known, [("aa".to_owned(), false), ("bb".to_owned(), false)]);
    }

    #[test]
    fn a_key_that_is_not_trusted_is_a_fault() {
        let keys = keys(&[(1, "aa"), (2, "bb")], &["AA"]);
        let fault = (stream(2), SealKeyFault::Unknown("bb".to_owned()));
        assert_eq!(keys.faults(&HashSet::new()), [fault]);
    }

    #[test]
    fn a_stream_without_a_key_needs_a_checkpoint_from_the_time_of_the_upgrade() {
        let streams = [(1_000, ""), (5_000, "aa"), (6_000, "")];
        let keys = keys(&streams, &["aa"]);
        let missing = |opened_ms| (stream(opened_ms), SealKeyFault::Missing);
        assert_eq!(
            keys.faults(&HashSet::new()),
            [missing(1_000), missing(6_000)]
        );
        let vouched = HashSet::from([stream(1_000)]);
        assert_eq!(keys.faults(&vouched), [missing(6_000)]);

        let day_us = 24 * 60 * 60 * 1_000_000;
        assert_eq!(
            keys.vouched_until_us(Some(2_000_000)),
            Some(5_000_000 + day_us)
        );
        // Nothing was sealed before: nothing was upgraded.
        assert_eq!(keys.vouched_until_us(Some(5_000_000)), None);
        assert_eq!(keys.vouched_until_us(None), None);
    }
}
