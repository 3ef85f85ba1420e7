//! An event's way, from the log to the tables.
//!
//! [`Ingestor::step`] is the whole of it. What a crash leaves behind between any two arrows is
//! written beside them; in no case is an event lost, and in no case is it stored twice.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::future::pending;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use weir_eventlog::{Committed, Source, SourceBatch, SourceError};
use weir_schemas::StreamId;
use weir_store::{Retention, Store, StoreError};

use crate::audit::{AuditError, Progress, Sealer};
use crate::batch::{Ranges, Rows, Swallows, ranges};
use crate::caps::{BATCH, SWALLOWS_AT_ONCE};
use crate::dead_letter::DeadLetter;
use crate::decode::decode;
use crate::health::Health;
use crate::log::Log;
use crate::patience::{Patience, Pauses, Stopped, out_of_time};
use crate::stored::{Asked, Stored};
use crate::tables::{Engine, Insertion, Refused, Tables, refused_letters};

/// What an ingestor is made of.
#[derive(Debug)]
pub struct IngestorOptions {
    pub source: Source,
    pub store: Store,
    pub retention: Retention,
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
    pub fn new(source: Source, store: Store, retention: impl Into<Retention>) -> Self {
        Self {
            source,
            store,
            retention: retention.into(),
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
        retention,
        health,
        audit,
    } = options;
    let progress = Progress::default();
    let mut sealer = audit
        .map(|audit| Sealer::new(store.clone(), audit, progress.clone()))
        .transpose()?;
    let time = out_of_time(stopped.clone());
    let patience = Patience::new(stopped, health.clone());
    let mut ingestor = Ingestor::new(source, store, patience, health, progress);
    let ended = tokio::select! {
        ended = ingestor.follow(retention) => ended,
        never = seal(&mut sealer) => match never {},
        // As if killed: whatever is under way, the log has it.
        () = time => Err(End::Stopped),
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

async fn seal(sealer: &mut Option<Sealer>) -> Infallible {
    match sealer {
        Some(sealer) => sealer.seal_for_ever().await,
        None => pending().await,
    }
}

/// Why an ingestor ends before it has drained the log.
pub(crate) enum End {
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
pub(crate) enum Step {
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
    /// A row is not taken; those behind it come next.
    Partial,
}

pub(crate) struct Ingestor<L, E> {
    log: L,
    tables: Tables<E>,
    stored: Stored,
    patience: Patience,
    health: Health,
    progress: Progress,
}

impl<L: Log, E: Engine> Ingestor<L, E> {
    pub(crate) fn new(
        log: L,
        engine: E,
        patience: Patience,
        health: Health,
        progress: Progress,
    ) -> Self {
        let stored = Stored::new(log.is_shared());
        Self {
            log,
            tables: Tables::new(engine),
            stored,
            patience,
            health,
            progress,
        }
    }

    async fn follow(&mut self, retention: Retention) -> Result<(), End> {
        let mut pauses = Pauses::default();
        let mut migrated = None;
        while migrated.is_none() {
            let tried = self.tables.migrate(retention).await;
            migrated = self.patience.outcome(&mut pauses, tried).await?;
        }
        while let Step::Moved = self.step().await? {}
        Ok(())
    }

    pub(crate) async fn step(&mut self) -> Result<Step, End> {
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
            let tried = self.log.next(BATCH).await;
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
        let mut swallows = Swallows::default();
        let mut refused = Refused::new();
        let mut pauses = Pauses::default();
        let mut swallowed_times = 0;
        loop {
            self.learn(&ranges).await?;
            swallows.settle(|(stream, seq)| self.stored.has(stream, seq));
            let mut insertion = Insertion {
                swallows: &mut swallows,
                deadline_us: self.stored.deadline_us(&ranges),
                refused: &mut refused,
                is_partial: false,
            };
            match self.try_to_store(batch, &ranges, &mut insertion).await {
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
                    return Ok(());
                }
                Ok(Tried::Swallowed { rows }) => {
                    tracing::warn!(
                        rows,
                        "the store did not keep what it took; it is sent again"
                    );
                    self.stored.doubt(&ranges);
                    swallowed_times += 1;
                    if swallowed_times > SWALLOWS_AT_ONCE {
                        let trouble = "the store does not keep what it takes".to_owned();
                        self.patience.pause(&mut pauses, trouble).await?;
                    }
                }
                Ok(Tried::Partial) => self.stored.doubt(&ranges),
                // Part of the batch may be stored, or may still be on its way.
                Err(error) => {
                    self.stored.doubt(&ranges);
                    self.patience.pause(&mut pauses, error.to_string()).await?;
                }
            }
        }
    }

    /// Asks the tables what is not known, when nobody is writing any more who began before.
    async fn learn(&mut self, ranges: &Ranges) -> Result<(), Stopped> {
        let questions = self.stored.questions(ranges);
        if questions.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let mut pauses = Pauses::default();
        loop {
            let tried = self.ask_when_quiet(&questions, began).await;
            if let Some(()) = self.patience.outcome(&mut pauses, tried).await? {
                return Ok(());
            }
        }
    }

    async fn ask_when_quiet(
        &mut self,
        questions: &BTreeMap<StreamId, u64>,
        began: Instant,
    ) -> Result<(), String> {
        let running = self.tables.inserts_running(began.elapsed()).await;
        match running.map_err(|error| error.to_string())? {
            0 => self.ask(questions).await.map_err(|error| error.to_string()),
            running => Err(format!("{running} earlier inserts have not ended yet")),
        }
    }

    async fn ask(&mut self, firsts: &BTreeMap<StreamId, u64>) -> Result<(), StoreError> {
        let here = Instant::now();
        let (there_us, found) = self.tables.stored(firsts).await?;
        let asked = Asked { here, there_us };
        for (stream, runs) in found {
            self.stored.learn(asked, stream, firsts[&stream], runs);
        }
        Ok(())
    }

    async fn try_to_store(
        &mut self,
        batch: &SourceBatch,
        ranges: &Ranges,
        insertion: &mut Insertion<'_>,
    ) -> Result<Tried, StoreError> {
        let mut duplicates = 0;
        let mut last_seqs: HashMap<StreamId, u64> = HashMap::new();
        let (rows, mut dead) = decode(batch, |record| {
            // A shipper that was killed sends again what it had no word about: the same events may
            // be in one batch twice.
            let last = last_seqs.entry(record.stream).or_default();
            let is_repeated = record.seq <= *last;
            *last = (*last).max(record.seq);
            let is_stored = is_repeated || self.stored.has(record.stream, record.seq);
            duplicates += usize::from(is_stored);
            let is_refused = insertion.refused.contains_key(&(record.stream, record.seq));
            !is_stored && !is_refused
        });
        self.tables.insert(&rows, insertion).await?;
        if insertion.is_partial {
            return Ok(Tried::Partial);
        }
        dead.extend(refused_letters(batch, insertion.refused));
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
    /// The store may know the insert's token already, and so drop it: from an earlier insert whose
    /// rows a crash took with it (the token is written first), or from another ingestor's, which held
    /// only some of these rows. Which insert will meet such a token cannot be known, so all are
    /// looked at.
    async fn verify(
        &mut self,
        ranges: &Ranges,
        rows: &Rows<'_>,
        dead: &[DeadLetter<'_>],
    ) -> Result<usize, StoreError> {
        if rows.len() == 0 {
            return Ok(0);
        }
        // Of all streams: the insert, and so its token, held the rows of known ones too.
        let firsts = ranges.iter().map(|(stream, (first, _))| (*stream, *first));
        self.ask(&firsts.collect()).await?;
        let is_dead: BTreeMap<_, _> = dead.iter().map(|it| ((it.stream, it.seq), ())).collect();
        let is_missing = |(stream, seq): &(StreamId, u64)| {
            !self.stored.has(*stream, *seq) && !is_dead.contains_key(&(Some(*stream), Some(*seq)))
        };
        Ok(rows.places().filter(is_missing).count())
    }

    async fn commit(&mut self, batch: &SourceBatch) -> Result<(), Stopped> {
        let mut pauses = Pauses::default();
        loop {
            let tried = self.log.commit(batch).await;
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

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
        // From here on time passes only while everybody waits.
        tokio::time::pause();
        let told = Instant::now();
        stop.send_replace(true);
        running.await.unwrap();
        assert!(told.elapsed() >= DRAIN_MAX, "the question was under way");
        assert!(told.elapsed() < DRAIN_MAX * 2);
    }
}
