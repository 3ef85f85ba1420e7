//! Both ends of Weir's event log.
pub mod caps;
mod clock;
mod files;
mod frame;
mod journal;
mod kafka;
mod reader;
mod source;
mod walk;
mod worker;

#[cfg(test)]
mod tests;

pub use files::FileError;
pub use journal::{
    AppendError, Appended, Durability, InvalidOptions, Journal, JournalError, JournalFull,
    JournalOptions, JournalStats, Latency, NotDurable, StreamWriter, WhenFull,
};
pub use kafka::{
    InvalidKafkaOptions, KafkaOptions, KafkaSource, KafkaSourceStats, SEQ_HEADER, Shipper,
    ShipperError, ShipperOptions, ShipperStats, SourceFault,
};
pub use reader::{JournalReader, JournalSource, ReaderError, ReaderStats};
pub use source::{
    BatchLimits, Committed, LossCause, Lost, Position, Record, Rejected, Source, SourceBatch,
    SourceError,
};
