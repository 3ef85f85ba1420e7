//! Brings the journal to Kafka and frees what has been acknowledged.
//!
//! A thread reads the journal, hands the events to librdkafka's producer, and moves the journal's
//! cursor over those whose delivery is confirmed, without holes. What is on the way is bounded; with
//! no broker in reach it simply stays there, and the journal grows. If the producer fails for good,
//! it is replaced, and everything unconfirmed is read again from the journal.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use super::client::{self, Reporter};
use super::topic::ensure_topic;
use super::{InvalidKafkaOptions, KafkaOptions, SEQ_HEADER};
use crate::batch::{BatchLimits, LogRecord, SourceBatch};
use crate::caps::{KAFKA_RETRY, READ_POLL, SHIP_COMMIT_INTERVAL, STOP_PATIENCE_MAX};
use crate::parts::{PartHandle, Parts};
use crate::progress::Progress;
use crate::reader::{JournalReader, ReaderError, ReaderStats};
use crate::thread::{StopSignal, StoppableThread};

/// What is read from the journal at a time, and confirmed as a whole.
const BATCH: BatchLimits = BatchLimits {
    records_max: 5_000,
    bytes_max: 1 << 20,
    wait_max: Duration::ZERO,
};

/// Its name among the parts of the process.
const PART: &str = "kafka-shipper";

#[derive(Clone, Debug)]
pub struct ShipperOptions {
    pub kafka: KafkaOptions,
    /// Bounds on what has been read from the journal and not been confirmed.
    pub in_flight_records_max: usize,
    pub in_flight_bytes_max: usize,
    /// The parts of the process, to which the shipper adds itself.
    pub parts: Parts,
}

impl ShipperOptions {
    #[must_use]
    pub fn new(kafka: KafkaOptions) -> Self {
        Self {
            kafka,
            in_flight_records_max: 100_000,
            in_flight_bytes_max: 64 << 20,
            parts: Parts::default(),
        }
    }
}

/// The shipper could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ShipperError {
    #[error(transparent)]
    Options(#[from] InvalidKafkaOptions),
    #[error(transparent)]
    Reader(#[from] ReaderError),
    #[error("start the thread kafka-shipper: {0}")]
    Thread(#[source] std::io::Error),
}

/// What a shipper has counted since it was started, for metrics. `in_flight_records` is the state
/// now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShipperStats {
    pub shipped_records: u64,
    pub shipped_bytes: u64,
    pub in_flight_records: u64,
    pub delivery_errors: u64,
    /// How often the producer had to be replaced.
    pub restarts: u64,
    /// Everything that was in the journal has been confirmed.
    pub drained: bool,
    pub journal: ReaderStats,
}

/// Runs until it is stopped. Dropping it stops it at once; what is unconfirmed stays in the journal.
#[derive(Debug)]
pub struct Shipper {
    shared: Arc<ShipperState>,
    thread: Option<StoppableThread>,
}

#[derive(Debug, Default)]
struct ShipperState {
    stop_at: Mutex<Option<Instant>>,
    stats: Mutex<ShipperStats>,
}

impl Shipper {
    /// Begins to ship the journal in `dir`. Brokers need not be there yet.
    pub fn start(dir: impl Into<PathBuf>, options: ShipperOptions) -> Result<Self, ShipperError> {
        options.kafka.check()?;
        // Whether librdkafka takes the properties does not depend on any broker.
        connect(&options).map_err(InvalidKafkaOptions::Refused)?;
        let reader = JournalReader::open(dir)?;
        let shared = Arc::<ShipperState>::default();
        let part = options.parts.add(PART);
        let mut ship_loop = ShipLoop {
            reader,
            options,
            shared: Arc::clone(&shared),
            part: part.clone(),
        };
        let run = move |_: &StopSignal| {
            // It stops at a time of its own.
            ship_loop.run();
            Ok(())
        };
        let thread = part.keep_running(run).map_err(ShipperError::Thread)?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    #[must_use]
    pub fn stats(&self) -> ShipperStats {
        *self.shared.stats.lock()
    }

    /// Ships what is in the journal and stops, after `patience` in any case. Close the journal's
    /// streams before. Blocks the thread; what is unconfirmed then stays in the journal.
    pub fn stop(mut self, patience: Duration) -> ShipperStats {
        self.end(patience);
        self.stats()
    }

    fn end(&mut self, patience: Duration) {
        *self.shared.stop_at.lock() = Some(Instant::now() + patience.min(STOP_PATIENCE_MAX));
        drop(self.thread.take());
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

impl ShipperState {
    fn stop_at(&self) -> Option<Instant> {
        *self.stop_at.lock()
    }

    fn is_over(&self) -> bool {
        self.stop_at().is_some_and(|at| Instant::now() >= at)
    }

    /// Sleeps on the shipper's thread, not beyond the time to stop; `stop` ends it early.
    fn pause(&self, pause: Duration) {
        let left = self
            .stop_at()
            .map(|at| at.saturating_duration_since(Instant::now()));
        std::thread::park_timeout(left.map_or(pause, |left| left.min(pause)));
    }
}

/// What librdkafka calls back: on our own thread, whenever we poll.
#[derive(Debug, Default)]
struct Deliveries {
    /// Numbers of the batches whose messages have been confirmed, one entry a message.
    confirmed: Mutex<Vec<usize>>,
    failed: Mutex<Option<KafkaError>>,
    errors: AtomicU64,
    reporter: Reporter,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::contain(|| client::log(level, facility, message));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client::contain(|| {
            self.reporter.error(&error, reason);
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
                *self.failed.lock() = Some(error);
            }
        });
    }
}

impl ProducerContext for Deliveries {
    /// Number of the batch that the message belongs to. A number needs no allocation.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, batch: usize) {
        client::contain(|| match result {
            Ok(_) => self.confirmed.lock().push(batch),
            Err((error, _)) => {
                self.errors.fetch_add(1, Relaxed);
                self.failed.lock().get_or_insert_with(|| error.clone());
            }
        });
    }
}

type Producer = BaseProducer<Deliveries>;

fn connect(options: &ShipperOptions) -> Result<Producer, KafkaError> {
    let config = options
        .kafka
        .producer(options.in_flight_records_max, options.in_flight_bytes_max);
    Producer::from_config_and_context(&config, Deliveries::default())
}

/// Batches that have been handed to the producer, oldest first.
#[derive(Debug, Default)]
struct InFlightBatches {
    batches: VecDeque<Unconfirmed>,
    /// Number of the oldest.
    first: usize,
    records: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Unconfirmed {
    left: usize,
    records: usize,
    bytes: usize,
    progress: Progress,
}

impl InFlightBatches {
    fn next(&self) -> usize {
        self.first + self.batches.len()
    }

    fn push(&mut self, batch: SourceBatch) {
        let (records, bytes) = (batch.records.len(), batch.bytes());
        self.records += records;
        self.bytes += bytes;
        self.batches.push_back(Unconfirmed {
            left: records,
            records,
            bytes,
            progress: batch.progress,
        });
    }

    fn confirm(&mut self, batch: usize) {
        let index = batch.checked_sub(self.first);
        if let Some(unconfirmed) = index.and_then(|index| self.batches.get_mut(index)) {
            unconfirmed.left -= 1;
        }
    }

    /// Takes off the batches that are confirmed up to the first that is not.
    fn take_confirmed(&mut self) -> Vec<Unconfirmed> {
        let confirmed = self
            .batches
            .iter()
            .take_while(|batch| batch.left == 0)
            .count();
        let taken: Vec<_> = self.batches.drain(..confirmed).collect();
        self.first += confirmed;
        for batch in &taken {
            self.records -= batch.records;
            self.bytes -= batch.bytes;
        }
        taken
    }
}

#[derive(Debug)]
struct ShipLoop {
    reader: JournalReader,
    options: ShipperOptions,
    shared: Arc<ShipperState>,
    part: PartHandle,
}

impl ShipLoop {
    fn run(&mut self) {
        // From what is confirmed on, if this is a new beginning.
        self.reader.rewind();
        while !self.shared.is_over() {
            let Err(error) = self.session() else {
                break;
            };
            tracing::warn!(%error, "failed to ship to kafka, will retry; nothing is lost");
            self.part.failed(&error);
            self.shared.stats.lock().restarts += 1;
            self.reader.rewind();
            self.shared.pause(KAFKA_RETRY);
        }
    }

    /// Ships until it is time to stop, or the producer has failed.
    fn session(&mut self) -> Result<(), KafkaError> {
        self.await_topic();
        let mut session = Session {
            producer: connect(&self.options)?,
            reader: &mut self.reader,
            options: &self.options,
            shared: &self.shared,
            part: &self.part,
            in_flight: InFlightBatches::default(),
            confirmed: Progress::default(),
            committed_at: Instant::now(),
        };
        let done = session.run();
        session.commit();
        self.shared.stats.lock().in_flight_records = 0;
        done
    }

    fn await_topic(&self) {
        while !self.shared.is_over() {
            match ensure_topic(&self.options.kafka) {
                Ok(()) => return,
                Err(error) => {
                    self.part.failed(&error);
                    let topic = &self.options.kafka.topic;
                    tracing::warn!(%error, %topic, "failed to find or create the topic, will retry; events stay in the journal");
                    self.shared.pause(KAFKA_RETRY);
                }
            }
        }
    }
}

/// One producer's life.
struct Session<'a> {
    producer: Producer,
    reader: &'a mut JournalReader,
    options: &'a ShipperOptions,
    shared: &'a ShipperState,
    part: &'a PartHandle,
    in_flight: InFlightBatches,
    /// What has been confirmed and not yet been committed.
    confirmed: Progress,
    committed_at: Instant,
}

impl Session<'_> {
    fn run(&mut self) -> Result<(), KafkaError> {
        let mut was_empty = false;
        loop {
            self.collect()?;
            if self.committed_at.elapsed() >= SHIP_COMMIT_INTERVAL {
                self.commit();
            }
            let has_room = self.in_flight.records + BATCH.records_max
                <= self.options.in_flight_records_max
                && self.in_flight.bytes + BATCH.bytes_max <= self.options.in_flight_bytes_max;
            let shipped = has_room && self.ship()?;

            let empty = has_room && !shipped && self.in_flight.batches.is_empty();
            // Twice, because a stream that has just appeared may be overlooked once.
            let drained = empty && was_empty;
            was_empty = empty;
            self.shared.stats.lock().drained = drained;
            let stop_at = self.shared.stop_at();
            if stop_at.is_some_and(|at| drained || Instant::now() >= at) {
                return Ok(());
            }
            if !shipped {
                self.producer.poll(READ_POLL);
            }
        }
    }

    /// Takes in what has been confirmed.
    fn collect(&mut self) -> Result<(), KafkaError> {
        self.producer.poll(Duration::ZERO);
        let deliveries = self.producer.context();
        for batch in deliveries.confirmed.lock().drain(..) {
            self.in_flight.confirm(batch);
        }
        let mut stats = self.shared.stats.lock();
        for batch in self.in_flight.take_confirmed() {
            stats.shipped_records += batch.records as u64;
            stats.shipped_bytes += batch.bytes as u64;
            let earlier = std::mem::replace(&mut self.confirmed, batch.progress);
            self.confirmed.add_earlier(earlier);
        }
        if stats.in_flight_records > self.in_flight.records as u64 || self.in_flight.records == 0 {
            self.part.ok();
        }
        stats.in_flight_records = self.in_flight.records as u64;
        stats.delivery_errors += deliveries.errors.swap(0, Relaxed);
        deliveries.failed.lock().take().map_or(Ok(()), Err)
    }

    /// Hands the next batch of the journal to the producer. `false` if there was nothing.
    fn ship(&mut self) -> Result<bool, KafkaError> {
        let mut batch = SourceBatch::default();
        if let Err(error) = self.reader.fill(&mut batch, &BATCH, Instant::now()) {
            tracing::error!(%error, "failed to read the journal, will retry");
        }
        self.reader.seal(&batch);
        for lost in &batch.lost {
            tracing::error!(?lost, "failed to read events of the journal: they are lost");
        }
        let number = self.in_flight.next();
        for run in batch.records.chunk_by(|a, b| a.stream == b.stream) {
            let key = run[0].stream.to_string();
            for record in run {
                self.send(record, &key, number)?;
            }
        }
        let shipped = !batch.records.is_empty();
        if !batch.progress.is_empty() {
            self.in_flight.push(batch);
        }
        Ok(shipped)
    }

    fn send(&self, record: &LogRecord, key: &str, batch: usize) -> Result<(), KafkaError> {
        let seq = record.seq.to_string();
        let header = Header {
            key: SEQ_HEADER,
            value: Some(&seq),
        };
        let mut message = BaseRecord::with_opaque_to(&self.options.kafka.topic, batch)
            .key(key)
            .payload(record.payload.as_ref())
            .headers(OwnedHeaders::new().insert(header));
        while let Err((error, back)) = self.producer.send(message) {
            let queue_full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
            if !queue_full || self.shared.is_over() {
                return Err(error);
            }
            message = back;
            self.producer.poll(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Moves the journal's cursor over what has been confirmed.
    fn commit(&mut self) {
        self.committed_at = Instant::now();
        match self.reader.commit_progress(&self.confirmed) {
            Ok(()) => self.confirmed = Progress::default(),
            Err(error) => {
                tracing::error!(%error, "failed to move the journal's cursor, will retry")
            }
        }
        self.shared.stats.lock().journal = self.reader.stats();
    }
}

#[cfg(test)]
mod tests {
    use weir_schemas::StreamId;

    use super::*;

    fn batch(records: usize) -> SourceBatch {
        let record = LogRecord {
            stream: StreamId::from_bytes([1; 16]),
            seq: 1,
            payload: bytes::Bytes::from_static(b"x"),
            position: crate::batch::Position::Journal {
                stream: StreamId::from_bytes([1; 16]),
                segment: 1,
                offset: 0,
            },
        };
        let mut batch = SourceBatch::default();
        for _ in 0..records {
            batch.push(record.clone());
        }
        batch
    }

    #[test]
    fn the_window_gives_up_only_a_prefix_without_holes() {
        let mut in_flight = InFlightBatches::default();
        for records in [2, 1, 1] {
            in_flight.push(batch(records));
        }
        in_flight.confirm(1);
        in_flight.confirm(0);
        assert_eq!(in_flight.take_confirmed().len(), 0);
        in_flight.confirm(0);
        assert_eq!(in_flight.take_confirmed().len(), 2);
        assert_eq!(
            (in_flight.records, in_flight.bytes, in_flight.next()),
            (1, 1, 3)
        );
        in_flight.confirm(2);
        assert_eq!(in_flight.take_confirmed().len(), 1);
        assert_eq!(
            (in_flight.records, in_flight.bytes, in_flight.next()),
            (0, 0, 3)
        );
    }
}
