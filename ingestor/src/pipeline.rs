//! An event's way, from the log to the tables.
//!
//! [`Ingestor::step`] is the whole of it. What a crash leaves behind between any two arrows is
//! written beside them; in no case is an event lost, and in no case is it stored twice.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::pending;

use tokio::sync::watch;
use tokio::time::Instant;
use weir_eventlog::{Committed, Source, SourceBatch, SourceError};
use weir_schemas::{EventId, StreamId};
use weir_store::{Retention, Store, StoreError};

use crate::audit::{AuditError, AuditOptions, SealProgress, Sealer};
use crate::batch::{EventRows, Ranges, ranges};
use crate::caps::{BATCH, COLLISIONS_AT_ONCE, TABLES_LOOK};
use crate::dead_letter::DeadLetter;
use crate::decode::{Unstored, decode};
use crate::hashes::StoredRow;
use crate::health::IngestorHealth;
use crate::log::Log;
use crate::retry::{Backoff, RetryPolicy, Stopped, drain_timeout};
use crate::stored::{QueryTime, SearchFrom, Stored};
use crate::tables::{Engine, InsertHistory, Tables, refused_letters};

/// What an ingestor is made of.
#[derive(Debug)]
pub struct IngestorOptions {
    pub source: Source,
    pub store: Store,
    pub retention: Retention,
    pub health: IngestorHealth,
    /// Whether and how what is stored is sealed.
    pub audit: Option<AuditOptions>,
}

impl IngestorOptions {
    #[must_use]
    pub fn new(source: Source, store: Store, retention: impl Into<Retention>) -> Self {
        Self {
            source,
            store,
            retention: retention.into(),
            health: IngestorHealth::default(),
            audit: None,
        }
    }
}

/// The ingestor cannot go on. Everything else it waits out.
#[derive(Debug, thiserror::Error)]
pub enum IngestorError {
    #[error("read the event log: {0}")]
    Source(SourceError),
    #[error("seal what is stored: {0}")]
    Audit(#[from] AuditError),
}

/// Runs until stopped, then stores what is in the log if that takes no more than a few seconds. A log or a store that is away is waited for; [`IngestorHealth`] tells which.
pub async fn run(
    options: IngestorOptions,
    stopped: watch::Receiver<bool>,
) -> Result<(), IngestorError> {
    let progress = match options.audit {
        Some(_) => SealProgress::hashing(),
        None => SealProgress::default(),
    };
    let mut sealer = options
        .audit
        .map(|audit| Sealer::new(options.store.clone(), audit, progress.clone()))
        .transpose()?;
    let timeout = drain_timeout(stopped.clone());
    let health = options.health;
    let retry = RetryPolicy::new(stopped, health.clone());
    let mut ingestor = Ingestor::new(options.source, options.store, retry, health, progress);
    let ended = tokio::select! {
        ended = ingestor.follow(options.retention) => ended,
        never = seal(&mut sealer) => match never {},
        // As if killed: the log has what was not stored.
        () = timeout => Err(Interrupted::Stopped),
    };
    match ended {
        Err(Interrupted::Failed(error)) => Err(error),
        Err(Interrupted::Stopped) => Ok(()),
        Ok(()) => {
            if let Some(mut sealer) = sealer {
                sealer.seal_the_last().await;
            }
            Ok(())
        }
    }
}

async fn seal(sealer: &mut Option<Sealer>) -> Infallible {
    match sealer {
        Some(sealer) => sealer.seal_for_ever().await,
        None => pending().await,
    }
}

/// An ingestor ends before it has drained the log.
pub(crate) enum Interrupted {
    /// It was stopped before it had stored everything. The log keeps the rest.
    Stopped,
    Failed(IngestorError),
}

impl From<Stopped> for Interrupted {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// What an attempt to store a batch came to.
enum StoreOutcome {
    Stored,
    /// The store took the rows, and does not have them: it knew their tokens.
    NotKept {
        rows: usize,
    },
    /// A row is not taken; those behind it come next.
    Partial,
}

pub(crate) struct Ingestor<L, E> {
    log: L,
    tables: Tables<E>,
    stored: Stored,
    retry: RetryPolicy,
    health: IngestorHealth,
    progress: SealProgress,
    retention: Retention,
    /// When the tables were last seen.
    seen: Instant,
}

impl<L: Log, E: Engine> Ingestor<L, E> {
    pub(crate) fn new(
        log: L,
        engine: E,
        retry: RetryPolicy,
        health: IngestorHealth,
        progress: SealProgress,
    ) -> Self {
        let stored = Stored::new(log.is_shared());
        Self {
            log,
            tables: Tables { engine },
            stored,
            retry,
            health,
            progress,
            retention: Retention::from(0),
            seen: Instant::now(),
        }
    }

    async fn follow(&mut self, retention: Retention) -> Result<(), Interrupted> {
        self.retention = retention;
        self.migrate().await?;
        while self.step().await? {}
        Ok(())
    }

    async fn migrate(&mut self) -> Result<(), Stopped> {
        let mut backoff = Backoff::default();
        let mut migrated = None;
        while migrated.is_none() {
            let result = self.tables.engine.migrate(self.retention).await;
            migrated = self.retry.outcome(&mut backoff, result).await?;
        }
        Ok(())
    }

    /// Whether tables are gone that were there. A store that does not answer has not lost them.
    async fn has_lost_tables(&mut self) -> bool {
        self.seen = Instant::now();
        matches!(self.tables.engine.has_tables().await, Ok(false))
    }

    /// Makes the tables again, and goes back to the beginning of the log; in this order, so that a crash
    /// in between leaves tables to make and the log to read.
    async fn refill(&mut self) -> Result<(), Stopped> {
        tracing::error!(
            "tables are gone from the store: they are made again, and filled from the log as far as it reaches; `weir doctor` says how far"
        );
        let mut backoff = Backoff::default();
        loop {
            let result = self.log.reread().await;
            match self.retry.outcome(&mut backoff, result).await? {
                Some(Committed::Done) => break,
                Some(Committed::Refused) => {
                    let trouble = "the log is being handed over".to_owned();
                    self.retry.pause(&mut backoff, trouble).await?;
                }
                None => {}
            }
        }
        self.migrate().await?;
        self.stored = Stored::new(self.log.is_shared());
        Ok(())
    }

    /// Says whether to go on: not if it is stopped, and the log is empty or the time is over.
    pub(crate) async fn step(&mut self) -> Result<bool, Interrupted> {
        let (is_stopping, is_over) = (self.retry.is_stopping(), self.retry.is_over());
        // source → A crash here leaves the batch in the log, where it is read again.
        let batch = self.next().await?;
        if is_over || (is_stopping && batch.is_empty()) {
            return Ok(false);
        }
        if batch.is_empty() {
            if self.seen.elapsed() > TABLES_LOOK && self.has_lost_tables().await {
                self.refill().await?;
            }
            return Ok(true);
        }
        // → drop what is stored → decode → insert → verify → A crash in there leaves any part of the
        // batch in the tables and all of it in the log: it is read again, and that part is dropped.
        if !self.store(&batch).await? {
            self.refill().await?;
            return Ok(true);
        }
        // → commit. A crash before it leaves rows that the log gives again: they are dropped above.
        self.commit(&batch).await?;
        Ok(true)
    }

    async fn next(&mut self) -> Result<SourceBatch, Interrupted> {
        let mut backoff = Backoff::default();
        loop {
            let result = self.log.next(BATCH).await;
            // Retrying does not bring its thread back.
            if let Err(ended @ SourceError::Ended) = result {
                return Err(Interrupted::Failed(IngestorError::Source(ended)));
            }
            if let Some(batch) = self.retry.outcome(&mut backoff, result).await? {
                return Ok(batch);
            }
        }
    }

    /// Stores a batch, in as many attempts as it takes. Says whether there were tables to store it in.
    async fn store(&mut self, batch: &SourceBatch) -> Result<bool, Stopped> {
        self.stored.enter(batch.epoch);
        let ranges = ranges(batch);
        let mut history = InsertHistory::default();
        let mut backoff = Backoff::default();
        let mut not_kept_times = 0;
        loop {
            if !self.refresh(&ranges).await? {
                return Ok(false);
            }
            history.collisions.settle(|id| self.stored.has(id));
            match self.attempt_to_store(batch, &ranges, &mut history).await {
                Ok(StoreOutcome::Stored) => return Ok(true),
                Ok(StoreOutcome::NotKept { rows }) => {
                    tracing::warn!(rows, "the store did not keep rows; they are sent again");
                    self.stored.invalidate(&ranges);
                    not_kept_times += 1;
                    if not_kept_times > COLLISIONS_AT_ONCE {
                        let trouble = "the store does not keep what it takes".to_owned();
                        self.retry.pause(&mut backoff, trouble).await?;
                    }
                }
                Ok(StoreOutcome::Partial) => self.stored.invalidate(&ranges),
                // Part of the batch may be stored, or may still be on its way.
                Err(error) => {
                    if self.has_lost_tables().await {
                        return Ok(false);
                    }
                    self.stored.invalidate(&ranges);
                    self.retry.pause(&mut backoff, error.to_string()).await?;
                }
            }
        }
    }

    /// Asks the tables what is not known, once no insert runs that began before. Says whether they are
    /// there.
    async fn refresh(&mut self, ranges: &Ranges) -> Result<bool, Stopped> {
        let questions = self.stored.questions(ranges);
        if questions.is_empty() {
            return Ok(true);
        }
        let began = Instant::now();
        let mut backoff = Backoff::default();
        loop {
            let result = self.ask_when_quiet(&questions, began).await;
            if result.is_err() && self.has_lost_tables().await {
                return Ok(false);
            }
            if let Some(()) = self.retry.outcome(&mut backoff, result).await? {
                return Ok(true);
            }
        }
    }

    async fn ask_when_quiet(
        &mut self,
        questions: &BTreeMap<StreamId, SearchFrom>,
        began: Instant,
    ) -> Result<(), String> {
        let running = self.tables.engine.inserts_running(began.elapsed()).await;
        match running.map_err(|error| error.to_string())? {
            0 => self.ask(questions).await.map_err(|error| error.to_string()),
            running => Err(format!("{running} earlier inserts have not ended yet")),
        }
    }

    async fn ask(&mut self, questions: &BTreeMap<StreamId, SearchFrom>) -> Result<(), StoreError> {
        let local = Instant::now();
        let (store_us, mut found) = self.tables.stored(questions).await?;
        let asked = QueryTime { local, store_us };
        for (stream, from) in questions {
            let runs = found.remove(stream).unwrap_or_default();
            self.stored.refresh(asked, *stream, *from, runs);
        }
        Ok(())
    }

    async fn attempt_to_store(
        &mut self,
        batch: &SourceBatch,
        ranges: &Ranges,
        history: &mut InsertHistory,
    ) -> Result<StoreOutcome, StoreError> {
        let mut filter = Unstored::new(&self.stored, &history.refused);
        let is_first = history.hashed.is_none();
        let hashed = self.progress.hashed().filter(|_| is_first);
        let (mut rows, mut dead) = decode(batch, &mut filter, hashed);
        history.hashed = rows.take_hashed().or_else(|| history.hashed.take());
        let duplicates = filter.duplicates;
        let deadline_us = self.stored.deadline_us(ranges);
        if !self.tables.insert(&rows, deadline_us, history).await? {
            return Ok(StoreOutcome::Partial);
        }
        dead.extend(refused_letters(batch, &history.refused));
        self.tables.write_dead_letters(&dead).await?;
        let missing = self.verify(ranges, &rows, &dead).await?;
        if missing > 0 {
            return Ok(StoreOutcome::NotKept { rows: missing });
        }
        self.health.well();
        self.health.stored(rows.len(), duplicates, dead.len());
        self.stored.note(ranges);
        self.note_sealable(ranges, history);
        let closed = rows.closed_streams();
        closed.for_each(|stream| self.stored.forget(stream));
        Ok(StoreOutcome::Stored)
    }

    /// Keeps the hashes of what is stored until it is sealed, and compares them with what the gateways
    /// have sealed.
    fn note_sealable(&self, ranges: &Ranges, history: &mut InsertHistory) {
        let mut hashed = history.hashed.take().unwrap_or_default();
        let refused = &history.refused;
        hashed.rows.retain(|(stream, row)| {
            let (stream, seq) = (*stream, row.seq);
            !refused.contains_key(&EventId { stream, seq })
        });
        let altered = self.progress.note(ranges, hashed);
        self.health.altered(altered.len());
        for (stream, row) in altered {
            let StoredRow { seq, table, .. } = row;
            tracing::error!(%stream, seq, %table, "a row is not what its gateway sealed");
        }
    }

    /// Returns how many of the inserted rows the tables do not have.
    ///
    /// The store may know the insert's token already, and so drop it: from an earlier insert whose
    /// rows a crash took with it (the token is written first), or from another ingestor's, which held
    /// only some of these rows. Which inserts meet such a token cannot be known, so all are
    /// checked.
    async fn verify(
        &mut self,
        ranges: &Ranges,
        rows: &EventRows<'_>,
        dead: &[DeadLetter<'_>],
    ) -> Result<usize, StoreError> {
        if rows.len() == 0 {
            return Ok(0);
        }
        // Of all streams: the insert, and so its token, held the rows of known ones too.
        let all = ranges
            .iter()
            .map(|(stream, range)| (*stream, (*range).into()));
        self.ask(&all.collect()).await?;
        let id = |letter: &DeadLetter<'_>| {
            let (stream, seq) = letter.stream.zip(letter.seq)?;
            Some(EventId { stream, seq })
        };
        let dead: BTreeSet<EventId> = dead.iter().filter_map(id).collect();
        let is_missing = |id: &EventId| !self.stored.has(*id) && !dead.contains(id);
        Ok(rows.ids().filter(is_missing).count())
    }

    async fn commit(&mut self, batch: &SourceBatch) -> Result<(), Stopped> {
        let mut backoff = Backoff::default();
        loop {
            let result = self.log.commit(batch).await;
            match self.retry.outcome(&mut backoff, result).await? {
                None => {}
                Some(Committed::Done) => return Ok(()),
                Some(Committed::Refused) => {
                    tracing::info!("a batch went to another ingestor while it was stored here");
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use weir_eventlog::JournalSource;
    use weir_store::StoreConfig;

    use super::*;
    use crate::caps::DRAIN_MAX;

    /// The store takes the connection and never answers, as one may that is stuck in an insert.
    #[tokio::test]
    async fn a_stop_ends_in_time_whatever_is_under_way() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let source = Source::Journal(JournalSource::open(dir.path()).unwrap());
        let store = Store::connect(&StoreConfig::new(url)).unwrap();
        let (stop, stopped) = watch::channel(false);
        let mut running = Box::pin(run(IngestorOptions::new(source, store, 0), stopped));
        let (mut connection, mut begun) = (None, false);
        while !begun {
            tokio::select! {
                ended = &mut running => panic!("it ended by itself: {ended:?}"),
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
            listener.set_nonblocking(true).unwrap();
            connection = connection.or_else(|| listener.accept().ok());
            begun = connection.is_some();
        }
        // From here on time passes only while all tasks wait.
        tokio::time::pause();
        let told = Instant::now();
        stop.send_replace(true);
        running.await.unwrap();
        assert!(told.elapsed() >= DRAIN_MAX, "the query was pending");
        assert!(told.elapsed() < DRAIN_MAX * 2);
    }
}
