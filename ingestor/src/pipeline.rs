//! An event's way, from the log to the tables.
//!
//! [`Ingestor::step`] is the whole of it. What a crash leaves behind between any two arrows is
//! written beside them; in no case is an event lost, and in no case is it stored twice.

use std::collections::HashMap;
use std::time::Duration;

use clickhouse::{Row, RowWrite};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;
use weir_eventlog::{Committed, Source, SourceBatch, SourceError};
use weir_schemas::StreamId;
use weir_store::{Store, StoreError, Verdict};

use crate::batch::{DeadLetter, Placed, Ranges, Rows, by_day, decode, ranges, token};
use crate::caps::{BATCH, CLOCK_STEP_MAX, DRAIN_MAX, RETRY_MAX, RETRY_MIN};
use crate::health::Health;
use crate::rows::{AttemptRow, ControlRow, DeadLetterRow, RequestRow, StreamRow};
use crate::stored::Stored;

/// What an ingestor is made of.
#[derive(Debug)]
pub struct IngestorOptions {
    pub source: Source,
    pub store: Store,
    /// Days after which rows are deleted.
    pub retention_days: u32,
    pub health: Health,
}

impl IngestorOptions {
    #[must_use]
    pub fn new(source: Source, store: Store, retention_days: u32) -> Self {
        Self {
            source,
            store,
            retention_days,
            health: Health::default(),
        }
    }
}

/// The ingestor cannot go on. Everything else it waits out.
#[derive(Debug, thiserror::Error)]
pub enum IngestorError {
    #[error("read the event log: {0}")]
    Source(#[from] SourceError),
}

/// Why a batch was given up for now.
enum Interrupted {
    /// The ingestor is told to stop, and its time is over. The log gives the batch again.
    Stopped,
}

/// Runs until told to stop, then stores what is in the log, for as long as that takes no more than
/// a few seconds.
pub async fn run(
    options: IngestorOptions,
    stopped: watch::Receiver<bool>,
) -> Result<(), IngestorError> {
    let IngestorOptions {
        source,
        store,
        retention_days,
        health,
    } = options;
    let mut ingestor = Ingestor {
        source,
        store,
        health,
        stored: Stored::default(),
        stopped,
        stop_by: None,
    };
    if ingestor.migrate(retention_days).await.is_err() {
        return Ok(());
    }
    while let Ok(Step::Moved) = ingestor.step().await {}
    Ok(())
}

/// Whether to go on.
enum Step {
    Moved,
    /// Told to stop, and the log was empty or the time over.
    Drained,
}

struct Ingestor {
    source: Source,
    store: Store,
    health: Health,
    stored: Stored,
    stopped: watch::Receiver<bool>,
    /// Set when told to stop.
    stop_by: Option<Instant>,
}

impl Ingestor {
    async fn step(&mut self) -> Result<Step, Interrupted> {
        let time_is_over = self.time_is_over();
        // source → A crash here leaves the batch in the log, where it is read again.
        let batch = self.next().await?;
        if time_is_over || (batch.is_empty() && self.stop_by.is_some()) {
            return Ok(Step::Drained);
        }
        if batch.is_empty() {
            return Ok(Step::Moved);
        }
        self.stored.enter(batch.epoch);
        let ranges = ranges(&batch);
        let mut backoff = Backoff::default();
        loop {
            // → drop what is stored already → The tables are asked, so it does not matter which
            // part of the batch an earlier try, or an earlier process, has stored.
            self.learn(&ranges).await?;
            // → decode → A record that is no event becomes a dead letter, with its position.
            let stored = &self.stored;
            let mut duplicates = 0;
            let (rows, dead) = decode(&batch, |record| {
                let wanted = !stored.has(record.stream, record.seq);
                duplicates += usize::from(!wanted);
                wanted
            });
            // → insert → A crash here leaves any part of the batch in the tables and all of it in
            // the log: it is read again, and the part that is there is dropped above.
            match self.insert(&batch, &rows, dead).await {
                Ok(dead_letters) => {
                    self.health.well();
                    self.health.stored(rows.len(), duplicates, dead_letters);
                    break;
                }
                Err(error) => {
                    self.stored.doubt(&ranges);
                    self.wait(&mut backoff, error.to_string()).await?;
                }
            }
        }
        self.stored.note(&ranges);
        // → commit. A crash before it leaves rows that the log gives again: they are dropped above.
        self.commit(&batch).await?;
        Ok(Step::Moved)
    }

    async fn next(&mut self) -> Result<SourceBatch, Interrupted> {
        let mut backoff = Backoff::default();
        loop {
            match self.source.next(BATCH).await {
                Ok(batch) => return Ok(batch),
                Err(error) => self.wait(&mut backoff, error.to_string()).await?,
            }
        }
    }

    async fn commit(&mut self, batch: &SourceBatch) -> Result<(), Interrupted> {
        let mut backoff = Backoff::default();
        loop {
            match self.source.commit(batch).await {
                Ok(Committed::Done) => return Ok(()),
                Ok(Committed::Refused) => {
                    tracing::info!("a batch went to another ingestor while it was stored here");
                    return Ok(());
                }
                Err(error) => self.wait(&mut backoff, error.to_string()).await?,
            }
        }
    }

    async fn migrate(&mut self, retention_days: u32) -> Result<(), Interrupted> {
        let mut backoff = Backoff::default();
        loop {
            match self.store.migrate(retention_days).await {
                Ok(_) => {
                    self.health.well();
                    return Ok(());
                }
                Err(error) => self.wait(&mut backoff, error.to_string()).await?,
            }
        }
    }

    /// Asks the tables about streams that are not known.
    async fn learn(&mut self, ranges: &Ranges) -> Result<(), Interrupted> {
        for (stream, first) in self.stored.unknown(ranges) {
            let mut backoff = Backoff::default();
            let seqs = loop {
                match self.store.stored_seqs(stream, first, born_us(stream)).await {
                    Ok(seqs) => break seqs,
                    Err(error) => self.wait(&mut backoff, error.to_string()).await?,
                }
            };
            self.stored.learn(stream, first, seqs);
        }
        Ok(())
    }

    /// Stores rows and dead letters; says how many dead letters there were in the end.
    async fn insert(
        &self,
        batch: &SourceBatch,
        rows: &Rows<'_>,
        mut dead: Vec<DeadLetter<'_>>,
    ) -> Result<usize, StoreError> {
        let mut refused = Refused::new();
        self.insert_rows::<RequestRow<'_>>("requests", &rows.requests, &mut refused)
            .await?;
        self.insert_rows::<AttemptRow<'_>>("attempts", &rows.attempts, &mut refused)
            .await?;
        self.insert_rows::<ControlRow<'_>>("control_changes", &rows.control_changes, &mut refused)
            .await?;
        self.insert_rows::<StreamRow<'_>>("streams", &rows.streams, &mut refused)
            .await?;
        dead.extend(batch.records.iter().filter_map(|record| {
            let reason = refused.remove(&(record.stream.as_uuid(), record.seq))?;
            Some(DeadLetter::of(record, reason))
        }));
        self.insert_dead(&dead).await?;
        Ok(dead.len())
    }

    /// Inserts day by day. Rows that the store will never take are found by halving, and left out.
    async fn insert_rows<'a, R>(
        &self,
        table: &str,
        rows: &[R::Value<'a>],
        refused: &mut Refused,
    ) -> Result<(), StoreError>
    where
        R: Row + RowWrite,
        R::Value<'a>: Placed + Clone,
    {
        let mut open = by_day(rows);
        while let Some(mut part) = open.pop() {
            match self
                .store
                .insert::<R>(table, &part, &token(table, &part))
                .await
            {
                Ok(()) => {}
                Err(error) if error.verdict == Verdict::Poison && part.len() == 1 => {
                    refused.insert((part[0].stream(), part[0].seq()), error.to_string());
                }
                Err(error) if error.verdict == Verdict::Poison => {
                    open.push(part.split_off(part.len() / 2));
                    open.push(part);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn insert_dead(&self, dead: &[DeadLetter<'_>]) -> Result<(), StoreError> {
        for letter in dead {
            let (source, location, position) = letter.place();
            tracing::error!(position = %letter.position, reason = letter.reason, "dead letter");
            let query = self
                .store
                .query(
                    "SELECT count() FROM dead_letters WHERE source = {source:String} \
                     AND location = {location:String} AND position = {position:UInt64}",
                )
                .param("source", source)
                .param("location", &location)
                .param("position", position);
            if self
                .store
                .fetch::<u64>(query)
                .await?
                .first()
                .is_some_and(|count| *count > 0)
            {
                continue;
            }
            let row = DeadLetterRow::new(letter, &location, now_us());
            let token = format!("dead_letters:{source}:{location}:{position}");
            self.store
                .insert::<DeadLetterRow<'_>>("dead_letters", &[row], &token)
                .await?;
        }
        Ok(())
    }

    /// Whether the time that a stop leaves is used up.
    fn time_is_over(&mut self) -> bool {
        if self.stop_by.is_none() && *self.stopped.borrow() {
            self.stop_by = Some(Instant::now() + DRAIN_MAX);
        }
        self.stop_by
            .is_some_and(|stop_by| Instant::now() >= stop_by)
    }

    /// Waits before the next try; gives up when told to stop, since the log keeps everything.
    async fn wait(&mut self, backoff: &mut Backoff, trouble: String) -> Result<(), Interrupted> {
        self.health.in_trouble(trouble);
        if *self.stopped.borrow() {
            return Err(Interrupted::Stopped);
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => Ok(()),
            _ = self.stopped.wait_for(|stopped| *stopped) => Err(Interrupted::Stopped),
        }
    }
}

/// Rows that the store does not take, with its reason.
type Refused = HashMap<(Uuid, u64), String>;

/// When the stream was opened, less what a clock may have been set back since.
fn born_us(stream: StreamId) -> u64 {
    let bytes = stream.as_bytes();
    let unix_ms = bytes[..6]
        .iter()
        .fold(0_u64, |ms, byte| ms << 8 | u64::from(*byte));
    let margin_ms = u64::try_from(CLOCK_STEP_MAX.as_millis()).unwrap_or(u64::MAX);
    unix_ms.saturating_sub(margin_ms) * 1000
}

#[expect(clippy::disallowed_methods, reason = "the clock of this crate")]
fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    })
}

/// Pauses that double.
struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(RETRY_MIN)
    }
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(RETRY_MAX);
        pause
    }
}
