//! Both ends of Weir's event log: the journal on disk, and Kafka.
//!
//! # The way through
//!
//! A gateway's thread opens a stream in the [`Journal`] and appends its events with
//! [`StreamWriter::append`] before it sends the last byte of a response. On one machine the ingestor
//! reads the journal itself, as [`Source::Journal`]. In a cluster a [`Shipper`] brings the journal to
//! a topic, and the ingestors read that as [`Source::Kafka`]. Either way it gets batches of
//! [`LogRecord`]s, stores them, and commits them.
//!
//! Identity is (stream, seq). A stream is one writer in one life of one process; it begins with
//! `StreamOpened`, ends with `StreamClosed`, and its events are numbered 1, 2, 3 … without gaps. An
//! event may be given more than once, always under the same number; a number never stands for two
//! events.
//!
//! # Constraints
//!
//! * An append is one `pwrite` into the page cache and survives `kill -9`. It waits for no disk and
//!   no other process, and for another thread only while that one holds the same stream's lock: to
//!   append to it, to begin its next segment, to read its counters.
//! * Whatever was acknowledged and can't be read any more shows: as a gap in the numbers, in
//!   [`Lost`], in the counters. Events that a full journal drops are counted in events of their own.
//! * Memory is bounded: by a batch when reading, by the window when shipping. The bounds are in
//!   [`caps`] and in the options.
//! * Payloads are bytes here. Only the log's own events are ever encoded, and none is decoded.
//!
//! # On disk
//!
//! ```text
//! journal/
//!   cursor                              how far the reader has committed
//!   reader.lock                         held by the one reader
//!   hold.lock                           held by a backup: nothing is deleted meanwhile
//!   .new-<stream>/                      a stream in the making; renamed when it is whole
//!   .gone-<stream>/                     a stream read to its end, being removed
//!   <stream>/
//!     lock                              held by the writer for its life; says boot and durability
//!     closed                            hint: StreamClosed is written
//!     00000000000000000001.seg          named by the first number in it
//!     00000000000000048213.seg
//! ```
//!
//! A segment is a header of 40 bytes (magic, version, checksum, stream, first number) and frames of
//! 20 bytes and a payload (`src/frame.rs`): length with two marks, number, checksum of these, checksum of
//! everything. The marks say that the append goes on in the next frame, and that the stream ends.
//!
//! # Write
//!
//! 1. The events are stamped and encoded into a buffer that is reused, all frames of the append one
//!    behind the other.
//! 2. If the segment would grow over its size, the next one is begun. It is given its name only with
//!    its header in it, because a later segment tells readers that the earlier one is sealed. The
//!    sealed one is fsynced by a thread of its own.
//! 3. One `pwrite`. If it fails or falls short, the segment is cut back, and no number is used up.
//! 4. With durability `group` or `fsync`, [`Appended::durable`] waits for the fdatasync that the
//!    same thread does for all streams.
//!
//! # Read
//!
//! A [`JournalReader`] takes turns with all streams. Frames of an append are given together or not at
//! all. Bytes that don't make a whole append at the end of a live stream are waited for. Elsewhere
//! they are damage: reading goes on at the next good frame, and what is missing is reported. Files
//! are fsynced before their events are given, so that what has been stored downstream can't vanish
//! here and its number go to another event.
//!
//! # Recover
//!
//! The writer holds the lock of its stream. A process that gets it, to open the journal or to read
//! it, knows that the writer is dead, cuts off what it left unfinished, and writes
//! `StreamClosed` in its place with the number of bytes cut: reason `recovered`, or `rebooted` where
//! the machine went down under durability `os`, so that acknowledged events may be missing from the
//! end. A frame that is whole but wrong is not cut: it was acknowledged once, so its number stays
//! used and the loss shows. Where several events in a row went bad at the very end, at least one of
//! them shows.
//!
//! # Delete
//!
//! [`JournalReader::commit`] replaces the cursor file, then deletes the segments before it. A stream
//! read to its end goes as a whole: renamed, then removed. While a [`JournalHold`] lives, nothing is
//! deleted; a commit after it does.
//!
//! # Crashes
//!
//! | between | what is left | what is seen after |
//! |---|---|---|
//! | making a stream and naming it | `.new-<stream>` | nothing; removed after an hour |
//! | two appends | a stream without end | its events, then `recovered` |
//! | the bytes of one append | part of an append | nothing of it; counted in `torn_bytes` |
//! | append and acknowledgement | a whole append | events of a request that was not answered |
//! | sealing a segment and naming the next | a file `….seg.new` | nothing; the stream is recovered |
//! | giving a batch and storing it | the old cursor | the batch again |
//! | storing a batch and committing it | the old cursor | the batch again; (stream, seq) tells |
//! | the cursor and deleting | segments too many | nothing; deleted at the next commit |
//! | renaming a finished stream and removing it | `.gone-<stream>` | nothing; removed at the next start |
//! | producing and the broker's acknowledgement | the old cursor | the events again in Kafka |
//! | a power failure, durability `os` | a shorter stream | its end says `rebooted` |
//! | a power failure, `group` or `fsync` | everything that was confirmed | as after a kill |

mod batch;
pub mod caps;
mod clock;
mod files;
mod frame;
mod hold;
mod inspect;
mod journal;
mod kafka;
mod locked_file;
mod parts;
mod progress;
mod reader;
mod records;
mod replace;
mod routing_tables;
mod source;
mod source_thread;
#[cfg(test)]
mod tests;
mod thread;
mod walk;

pub use batch::{
    BatchLimits, Committed, LogRecord, LossCause, Lost, Position, Rejected, SourceBatch,
};
pub use files::FileError;
pub use hold::JournalHold;
pub use inspect::{JournalFault, inspect_journal};
pub use journal::{
    AppendError, Appended, ChainHash, Chaining, Durability, InvalidOptions, Journal, JournalError,
    JournalFull, JournalOptions, JournalStats, Latency, LockedStream, NotDurable, SealSigner,
    StreamWriter, WhenFull, last_seq,
};
pub use kafka::{
    InvalidKafkaOptions, KafkaOptions, KafkaSource, KafkaSourceStats, SEQ_HEADER, Shipper,
    ShipperError, ShipperOptions, ShipperStats, SourceFault, TopicRetention, TopicStanding,
    records_lost, topic_standing,
};
pub use locked_file::LockedFile;
pub use parts::{PartHandle, PartState, PartStatus, Parts};
pub use reader::{JournalReader, JournalSource, ReaderError, ReaderStats};
pub use records::{AppendLock, NewRecords, RecordLog, RecordLogError, RecordReader, RecordSender};
pub use replace::{Fsync, create_file, replace_file};
pub use routing_tables::{TableLog, TableLogError};
pub use source::{Source, SourceError};
pub use thread::{StopSignal, StoppableThread};
