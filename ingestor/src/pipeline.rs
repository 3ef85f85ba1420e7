//! An event's way, from the log to the tables.
//!
//! [`Ingestor::step`] is the whole of it. What a crash leaves behind between any two arrows is
//! written beside them; in no case is an event lost, and in no case is it stored twice.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use weir_eventlog::{Committed, Source, SourceBatch, SourceError};
use weir_schemas::StreamId;
use weir_store::{Store, StoreError};

use crate::audit::{AuditError, Progress, Sealer};
use crate::batch::{Ranges, Rows, ranges};
use crate::caps::BATCH;
use crate::dead_letter::DeadLetter;
use crate::decode::decode;
use crate::health::Health;
use crate::patience::{Patience, Pauses, Stopped};
use crate::stored::{Run, Stored};
use crate::tables::{Tables, refused_letters};

/// What an ingestor is made of.
#[derive(Debug)]
pub struct IngestorOptions {
    pub source: Source,
    pub store: Store,
    /// Days after which rows are deleted.
    pub retention_days: u32,
    pub health: Health,
    /// Whether and how what is stored is sealed.
    pub audit: Option<AuditOptions>,
}

/// How what is stored is sealed.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// Directory of the signing key and of the exported checkpoints.
    pub dir: PathBuf,
    pub every: Duration,
}

impl AuditOptions {
    /// A checkpoint a minute.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            every: Duration::from_secs(60),
        }
    }
}

impl IngestorOptions {
    #[must_use]
    pub fn new(source: Source, store: Store, retention_days: u32) -> Self {
        Self {
            source,
            store,
            retention_days,
            health: Health::default(),
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

/// Runs until told to stop, then stores what is in the log, for as long as that takes no more than
/// a few seconds. A log or a store that is away is waited for, and [`Health`] says so.
pub async fn run(
    options: IngestorOptions,
    stopped: watch::Receiver<bool>,
) -> Result<(), IngestorError> {
    let IngestorOptions {
        source,
        store,
        retention_days,
        health,
        audit,
    } = options;
    let progress = Progress::default();
    let mut sealer = audit
        .map(|audit| Sealer::new(store.clone(), audit, progress.clone()))
        .transpose()?;
    let mut ingestor = Ingestor {
        source,
        tables: Tables::new(store),
        stored: Stored::default(),
        patience: Patience::new(stopped, health.clone()),
        health,
        progress,
    };
    let ended = match &mut sealer {
        None => ingestor.follow(retention_days).await,
        Some(sealer) => tokio::select! {
            ended = ingestor.follow(retention_days) => ended,
            never = sealer.seal_for_ever() => match never {},
        },
    };
    match ended {
        Err(End::Failed(error)) => Err(error),
        Err(End::Stopped) => Ok(()),
        Ok(()) => {
            if let Some(mut sealer) = sealer {
                sealer.seal_the_last().await;
            }
            Ok(())
        }
    }
}

/// Why an ingestor ends before it has drained the log.
enum End {
    /// It was told to stop while something was not done yet. The log keeps that.
    Stopped,
    Failed(IngestorError),
}

impl From<Stopped> for End {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// Whether to go on.
enum Step {
    Moved,
    /// Told to stop, and the log was empty or the time over.
    Drained,
}

/// What a try to store a batch came to.
enum Tried {
    Stored {
        rows: usize,
        duplicates: usize,
        dead_letters: usize,
        closed: Vec<StreamId>,
    },
    /// The store took the rows, and does not have them.
    Swallowed { rows: usize },
}

struct Ingestor {
    source: Source,
    tables: Tables,
    stored: Stored,
    patience: Patience,
    health: Health,
    progress: Progress,
}

impl Ingestor {
    async fn follow(&mut self, retention_days: u32) -> Result<(), End> {
        let mut pauses = Pauses::default();
        let mut migrated = None;
        while migrated.is_none() {
            let tried = self.tables.migrate(retention_days).await;
            migrated = self.patience.outcome(&mut pauses, tried).await?;
        }
        while let Step::Moved = self.step().await? {}
        Ok(())
    }

    async fn step(&mut self) -> Result<Step, End> {
        let (is_stopping, is_over) = (self.patience.is_stopping(), self.patience.is_over());
        // source → A crash here leaves the batch in the log, where it is read again.
        let batch = self.next().await?;
        match (batch.is_empty(), is_stopping) {
            _ if is_over => return Ok(Step::Drained),
            (true, true) => return Ok(Step::Drained),
            (true, false) => return Ok(Step::Moved),
            (false, _) => {}
        }
        // → drop what is stored → decode → insert → verify → A crash in there leaves any part of the
        // batch in the tables and all of it in the log: it is read again, and that part is dropped.
        self.store(&batch).await?;
        // → commit. A crash before it leaves rows that the log gives again: they are dropped above.
        self.commit(&batch).await?;
        Ok(Step::Moved)
    }

    async fn next(&mut self) -> Result<SourceBatch, End> {
        let mut pauses = Pauses::default();
        loop {
            let tried = self.source.next(BATCH).await;
            // No try will bring its thread back.
            if let Err(ended @ SourceError::Ended) = tried {
                return Err(End::Failed(IngestorError::Source(ended)));
            }
            if let Some(batch) = self.patience.outcome(&mut pauses, tried).await? {
                return Ok(batch);
            }
        }
    }

    /// Stores a batch, however often that must be tried.
    async fn store(&mut self, batch: &SourceBatch) -> Result<(), Stopped> {
        self.stored.enter(batch.epoch);
        let ranges = ranges(batch);
        let mut pauses = Pauses::default();
        for tries in 0.. {
            self.learn(&ranges).await?;
            match self.try_to_store(batch, &ranges, tries).await {
                Ok(Tried::Stored {
                    rows,
                    duplicates,
                    dead_letters,
                    closed,
                }) => {
                    self.health.well();
                    self.health.stored(rows, duplicates, dead_letters);
                    self.stored.note(&ranges);
                    self.progress.note(&ranges);
                    closed.into_iter().for_each(|it| self.stored.forget(it));
                    break;
                }
                Ok(Tried::Swallowed { rows }) => {
                    tracing::warn!(
                        rows,
                        "the store did not keep what it took; it is sent again"
                    );
                }
                // Part of the batch may be stored, or may still be on its way.
                Err(error) => {
                    self.stored.doubt(&ranges);
                    self.patience.pause(&mut pauses, error.to_string()).await?;
                }
            }
        }
        Ok(())
    }

    /// Asks the tables about streams that are not known, when nobody is writing any more who began
    /// before.
    async fn learn(&mut self, ranges: &Ranges) -> Result<(), Stopped> {
        let unknown = self.stored.unknown(ranges);
        if unknown.is_empty() {
            return Ok(());
        }
        let asked = Instant::now();
        let mut pauses = Pauses::default();
        let mut found = loop {
            let tried = self.ask_when_quiet(&unknown, asked).await;
            if let Some(found) = self.patience.outcome(&mut pauses, tried).await? {
                break found;
            }
        };
        for (stream, first) in unknown {
            let runs = found.remove(&stream).unwrap_or_default();
            self.stored.learn(stream, first, runs);
        }
        Ok(())
    }

    async fn ask_when_quiet(
        &self,
        unknown: &BTreeMap<StreamId, u64>,
        asked: Instant,
    ) -> Result<BTreeMap<StreamId, Vec<Run>>, String> {
        let running = self.tables.inserts_running(asked.elapsed()).await;
        match running.map_err(|error| error.to_string())? {
            0 => self
                .tables
                .stored(unknown)
                .await
                .map_err(|error| error.to_string()),
            running => Err(format!("{running} earlier inserts have not ended yet")),
        }
    }

    async fn try_to_store(
        &mut self,
        batch: &SourceBatch,
        ranges: &Ranges,
        tries: u32,
    ) -> Result<Tried, StoreError> {
        let mut duplicates = 0;
        let (rows, mut dead) = decode(batch, |record| {
            let is_stored = self.stored.has(record.stream, record.seq);
            duplicates += usize::from(is_stored);
            !is_stored
        });
        let refused = self.tables.insert(&rows, tries).await?;
        dead.extend(refused_letters(batch, refused));
        self.tables.bury(&dead).await?;
        let swallowed = self.verify(ranges, &rows, &dead).await?;
        if swallowed > 0 {
            return Ok(Tried::Swallowed { rows: swallowed });
        }
        Ok(Tried::Stored {
            rows: rows.len(),
            duplicates,
            dead_letters: dead.len(),
            closed: rows.closed_streams().collect(),
        })
    }

    /// Looks whether what was inserted is there; says how many rows are not.
    ///
    /// Needed for the first insert after a start, a rebalance or an error: the store may know the
    /// insert's token already, and so drop it. From an earlier insert whose rows a crash took with it
    /// (the token is written first), or from another ingestor's, which held only some of these rows.
    async fn verify(
        &mut self,
        ranges: &Ranges,
        rows: &Rows<'_>,
        dead: &[DeadLetter<'_>],
    ) -> Result<usize, StoreError> {
        if self.stored.fresh(ranges).is_empty() || rows.len() == 0 {
            return Ok(0);
        }
        // Of all streams: the insert, and so its token, held the rows of known ones too.
        let asked: BTreeMap<_, _> = ranges
            .iter()
            .map(|(stream, (first, _))| (*stream, *first))
            .collect();
        let found = self.tables.stored(&asked).await?;
        for (stream, runs) in found {
            self.stored.learn(stream, asked[&stream], runs);
        }
        let is_dead: BTreeMap<_, _> = dead.iter().map(|it| ((it.stream, it.seq), ())).collect();
        let is_missing = |(stream, seq): &(StreamId, u64)| {
            !self.stored.has(*stream, *seq) && !is_dead.contains_key(&(Some(*stream), Some(*seq)))
        };
        Ok(rows.places().filter(is_missing).count())
    }

    async fn commit(&mut self, batch: &SourceBatch) -> Result<(), Stopped> {
        let mut pauses = Pauses::default();
        loop {
            let tried = self.source.commit(batch).await;
            match self.patience.outcome(&mut pauses, tried).await? {
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
