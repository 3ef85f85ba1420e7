//! The log in Kafka: a shipper that brings the journal there, and a source that reads it.
//!
//! One topic. Key: the stream's id as text, so a stream stays in one partition, in order. Header
//! `seq`: the event's number as decimal text. Value: the event's payload, as it was in the journal.
//!
//! The producer is idempotent and never gives a message up, so each partition holds every stream
//! without gaps; after a restart of the shipper some events come again, with the same numbers.
//! There are no Kafka transactions: (stream, seq) does what they would do, and can be proven.

mod client;
mod options;
mod shipper;
mod source;
mod standing;
mod topic;

pub(crate) use client::{contain, log};
pub use options::{InvalidKafkaOptions, KafkaOptions};
pub use shipper::{Shipper, ShipperError, ShipperOptions, ShipperStats};
pub use source::{KafkaSource, KafkaSourceStats, SourceFault};
pub use standing::{TopicStanding, topic_standing};
pub(crate) use topic::{RecordsKept, ensure_record_topic};
pub use topic::{TopicRetention, records_lost};

/// Name of the header that holds an event's number.
pub const SEQ_HEADER: &str = "seq";
