//! How far a log has been read, in the terms of the journal and of Kafka.

use std::collections::BTreeMap;

use weir_schemas::StreamId;

/// How far a batch reaches. Of the journal it has streams, of Kafka partitions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) streams: StreamPositions,
    pub(crate) partitions: PartitionOffsets,
}

/// Where reading of each stream goes on.
pub(crate) type StreamPositions = BTreeMap<StreamId, StreamPosition>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamPosition {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) next_seq: u64,
    /// The stream has been read to its end.
    pub(crate) finished: bool,
}

/// Where reading of each partition goes on.
pub(crate) type PartitionOffsets = BTreeMap<i32, PartitionOffset>;

#[derive(Clone, Copy, Debug)]
pub(crate) struct PartitionOffset {
    pub(crate) next: i64,
    /// The epoch in which the partition was assigned to this consumer.
    pub(crate) owned_since: u64,
}

impl Progress {
    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.partitions.is_empty()
    }

    /// Takes in what an earlier batch reached.
    pub(crate) fn add_earlier(&mut self, mut earlier: Self) {
        earlier.streams.append(&mut self.streams);
        earlier.partitions.append(&mut self.partitions);
        *self = earlier;
    }
}
