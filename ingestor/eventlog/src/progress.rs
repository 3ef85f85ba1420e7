//! How far a log has been read, in the terms of the journal and of Kafka.

use std::collections::BTreeMap;

use weir_schemas::StreamId;

/// How far a batch reaches.
#[derive(Clone, Debug, Default)]
pub(crate) enum Progress {
    #[default]
    None,
    Journal(StreamPositions),
    Kafka(PartitionOffsets),
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
    /// Takes in what an earlier batch reached.
    pub(crate) fn add_earlier(&mut self, earlier: Self) {
        match (self, earlier) {
            (Self::Journal(positions), Self::Journal(earlier)) => keep_later(positions, earlier),
            (Self::Kafka(offsets), Self::Kafka(earlier)) => keep_later(offsets, earlier),
            (this @ Self::None, earlier) => *this = earlier,
            (Self::Journal(_) | Self::Kafka(_), _) => {}
        }
    }

    pub(crate) fn note_position(&mut self, stream: StreamId, position: StreamPosition) {
        if let Self::None = self {
            *self = Self::Journal(StreamPositions::new());
        }
        if let Self::Journal(positions) = self {
            positions.insert(stream, position);
        }
    }

    pub(crate) fn note_offset(&mut self, partition: i32, offset: PartitionOffset) {
        if let Self::None = self {
            *self = Self::Kafka(PartitionOffsets::new());
        }
        if let Self::Kafka(offsets) = self {
            offsets.insert(partition, offset);
        }
    }
}

fn keep_later<K: Ord, V>(reached: &mut BTreeMap<K, V>, earlier: BTreeMap<K, V>) {
    for (key, value) in earlier {
        reached.entry(key).or_insert(value);
    }
}
