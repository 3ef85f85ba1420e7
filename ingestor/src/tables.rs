//! The tables: what is in them, and how a batch gets there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use clickhouse::{Row, RowWrite};
use serde::Deserialize;
use tokio::time::Instant;
use uuid::Uuid;
use weir_eventlog::{LogRecord, SourceBatch};
use weir_schemas::clickhouse::EVENT_TABLES;
use weir_schemas::{EventId, StreamId, for_each_event};
use weir_store::{ErrorClass, Retention, Store, StoreError};

use crate::batch::{EventRows, Inserts, TokenCollisions, token};
use crate::caps::{LETTERS_AT_ONCE, STREAMS_ASKED_MAX};
use crate::clock::now_us;
use crate::dead_letter::{DeadLetter, DeadLetterKind, DeadLetterPlace};
use crate::hashes::Hashed;
use crate::rows::{DeadLetterRow, EventRow, row_of};
use crate::stored::{SearchFrom, SeqRun};

/// What the tables need of the store. [`Store`] is the real one; the simulation has its own.
pub(crate) trait Engine {
    async fn migrate(&self, retention: Retention) -> Result<(), StoreError>;

    /// Whether the tables of events are all there.
    async fn has_tables(&self) -> Result<bool, StoreError>;

    /// How many inserts still run that began at least this long ago.
    async fn inserts_running(&self, began_before: Duration) -> Result<u64, StoreError>;

    /// What is stored of some streams, each from a seq and a time on.
    async fn stored(&self, questions: &[(StreamId, SearchFrom)]) -> Result<StoredRuns, StoreError>;

    /// Stores rows whole or not at all, or takes them and does nothing, if it knows the token. An
    /// error if the deadline is over.
    async fn insert<'a, R: RowWrite + Row<Value<'a>: EventRow>>(
        &self,
        table: &str,
        rows: &[R::Value<'a>],
        token: &str,
        deadline_us: Option<u64>,
    ) -> Result<(), StoreError>;

    /// Which of these places have a dead letter.
    async fn dead_letters(
        &self,
        places: &[DeadLetterPlace],
    ) -> Result<HashSet<DeadLetterPlace>, StoreError>;

    async fn write_dead_letters(
        &self,
        letters: &[DeadLetterRow<'_>],
        token: &str,
    ) -> Result<(), StoreError>;
}

/// What the tables have of some streams.
#[derive(Debug)]
pub(crate) struct StoredRuns {
    /// When they were queried, by the store's clock, in microseconds since 1970.
    pub(crate) at_us: u64,
    /// In order of stream and seq.
    pub(crate) runs: Vec<(StreamId, SeqRun)>,
}

#[derive(Debug)]
pub(crate) struct Tables<E> {
    pub(crate) engine: E,
}

/// Events whose rows the store does not take, with its reason.
pub(crate) type Refused = HashMap<EventId, String>;

/// What earlier attempts to insert a batch have shown.
#[derive(Debug, Default)]
pub(crate) struct InsertHistory {
    pub(crate) collisions: TokenCollisions,
    pub(crate) refused: Refused,
    /// All rows of the batch that were not stored before the first attempt, if they are sealed.
    pub(crate) hashed: Option<Hashed>,
}

impl<E: Engine> Tables<E> {
    /// What is stored of some streams, and when the store was asked, by its clock.
    pub(crate) async fn stored(
        &self,
        questions: &BTreeMap<StreamId, SearchFrom>,
    ) -> Result<(u64, BTreeMap<StreamId, Vec<SeqRun>>), StoreError> {
        let mut asked_us = u64::MAX;
        let mut stored: BTreeMap<StreamId, Vec<SeqRun>> = BTreeMap::new();
        let questions: Vec<_> = questions.iter().map(|(id, from)| (*id, *from)).collect();
        for some in questions.chunks(STREAMS_ASKED_MAX) {
            let found = self.engine.stored(some).await?;
            asked_us = asked_us.min(found.at_us);
            for (stream, run) in found.runs {
                stored.entry(stream).or_default().push(run);
            }
        }
        Ok((asked_us, stored))
    }

    /// Says whether all rows were sent.
    async fn insert_into<'a, R: RowWrite + Row<Value<'a>: EventRow>>(
        &self,
        table: &str,
        inserts: &Inserts<R::Value<'a>>,
        deadline_us: Option<u64>,
        history: &mut InsertHistory,
    ) -> Result<bool, StoreError> {
        let mut is_all = true;
        for rows in inserts.iter() {
            let insert = self.insert_rows::<R>(table, rows, deadline_us, history);
            is_all &= insert.await?;
        }
        Ok(is_all)
    }

    /// One insert. If the store will never take a row of it, the rows before that one. The rows behind
    /// it wait until it is known what is stored: another ingestor's insert may have held them together
    /// with the first ones.
    async fn insert_rows<'a, R: RowWrite + Row<Value<'a>: EventRow>>(
        &self,
        table: &str,
        mut rows: &[R::Value<'a>],
        deadline_us: Option<u64>,
        history: &mut InsertHistory,
    ) -> Result<bool, StoreError> {
        let mut length = rows.len();
        while let Some(first) = rows[..length].first() {
            let token = token(table, first, &history.collisions);
            let began = Instant::now();
            let insert = self
                .engine
                .insert::<R>(table, &rows[..length], &token, deadline_us);
            match insert.await {
                Ok(()) => {
                    history.collisions.took(first, began);
                    return Ok(length == rows.len());
                }
                Err(error) if error.class != ErrorClass::Poison => return Err(error),
                Err(_) if length > 1 => length /= 2,
                Err(error) => {
                    history.refused.insert(first.id(), error.to_string());
                    rows = &rows[1..];
                    length = rows.len();
                }
            }
        }
        Ok(true)
    }

    /// Writes the dead letters that are not in their table yet.
    pub(crate) async fn write_dead_letters(
        &self,
        dead: &[DeadLetter<'_>],
    ) -> Result<(), StoreError> {
        for letters in dead.chunks(LETTERS_AT_ONCE) {
            self.write_some_dead_letters(letters).await?;
        }
        Ok(())
    }

    async fn write_some_dead_letters(&self, letters: &[DeadLetter<'_>]) -> Result<(), StoreError> {
        let places: Vec<DeadLetterPlace> = letters.iter().map(DeadLetter::place).collect();
        let mut collisions = 0;
        let mut first_before = None;
        loop {
            let kept = self.engine.dead_letters(&places).await?;
            let open: Vec<_> = letters
                .iter()
                .zip(&places)
                .filter(|(_, place)| !kept.contains(place))
                .collect();
            let Some((_, first)) = open.first() else {
                return Ok(());
            };
            // As with rows: the store may know a token without having its rows.
            let is_again = first_before.replace((*first).clone()).as_ref() == Some(first);
            collisions = if is_again { collisions + 1 } else { 0 };
            let DeadLetterPlace {
                source,
                location,
                position,
                kind,
            } = first;
            let token = format!("dead_letters:{source}:{location}:{position}:{kind}:{collisions}");
            let now = now_us();
            let rows: Vec<_> = open
                .iter()
                .map(|(letter, place)| letter.row(place, now))
                .collect();
            for (letter, _) in &open {
                tracing::error!(position = %letter.position, reason = letter.reason, "failed to store a record; it is kept in dead_letters");
            }
            self.engine.write_dead_letters(&rows, &token).await?;
        }
    }
}

macro_rules! declare_insert {
    ($($table:ident { $($name:ident $body:tt $files:tt;)* })*) => {
        impl<E: Engine> Tables<E> {
            /// Stores rows, if the store takes them by a deadline of its clock
            /// ([`Stored::deadline_us`](crate::stored::Stored)). Those that the store will never take
            /// are found by halving, and left out. Says whether all was sent; if not, look what is
            /// stored, and send the rest.
            pub(crate) async fn insert(
                &self,
                rows: &EventRows<'_>,
                deadline_us: Option<u64>,
                history: &mut InsertHistory,
            ) -> Result<bool, StoreError> {
                let sent = [$(
                    self.insert_into::<row_of!('_ $($name)*)>(
                        stringify!($table),
                        &rows.$table,
                        deadline_us,
                        history,
                    )
                    .await?,
                )*];
                Ok(sent.iter().all(|is_all| *is_all))
            }
        }
    };
}

for_each_event!(declare_insert);

#[derive(Debug, Row, Deserialize)]
struct StoredRun {
    #[serde(with = "clickhouse::serde::uuid")]
    stream: Uuid,
    first: u64,
    /// 0 in the row that only tells the time.
    last: u64,
    at_us: u64,
}

/// A number of a stream's, as queries give it.
#[derive(Debug, Row, Deserialize)]
pub(crate) struct StreamSeq {
    #[serde(with = "clickhouse::serde::uuid")]
    stream: Uuid,
    seq: u64,
}

impl From<StreamSeq> for EventId {
    fn from(StreamSeq { stream, seq }: StreamSeq) -> Self {
        let stream = stream.into();
        Self { stream, seq }
    }
}

impl Engine for Store {
    async fn migrate(&self, retention: Retention) -> Result<(), StoreError> {
        Self::migrate(self, retention).await.map(drop)
    }

    async fn has_tables(&self) -> Result<bool, StoreError> {
        self.has_event_tables().await
    }

    async fn inserts_running(&self, began_before: Duration) -> Result<u64, StoreError> {
        Self::inserts_running(self, began_before).await
    }

    async fn stored(&self, questions: &[(StreamId, SearchFrom)]) -> Result<StoredRuns, StoreError> {
        let rows: Vec<StoredRun> = self.fetch(self.query(&stored_sql(questions))).await?;
        let at_us = rows.iter().map(|row| row.at_us).min().unwrap_or_default();
        let runs = rows.into_iter().filter(|row| row.last > 0);
        Ok(StoredRuns {
            at_us,
            runs: runs
                .map(|row| (row.stream.into(), (row.first, row.last)))
                .collect(),
        })
    }

    async fn insert<'a, R: RowWrite + Row<Value<'a>: EventRow>>(
        &self,
        table: &str,
        rows: &[R::Value<'a>],
        token: &str,
        deadline_us: Option<u64>,
    ) -> Result<(), StoreError> {
        Self::insert_until::<R>(self, table, rows, token, deadline_us).await
    }

    async fn dead_letters(
        &self,
        places: &[DeadLetterPlace],
    ) -> Result<HashSet<DeadLetterPlace>, StoreError> {
        let wanted: Vec<_> = places
            .iter()
            .map(|it| (&it.source, &it.location, it.position, &it.kind))
            .collect();
        let sql = "SELECT DISTINCT toString(source) AS source, location, position, \
                   toString(kind) AS kind FROM dead_letters \
                   WHERE (source, location, position, kind) IN ?";
        let found: Vec<DeadLetterPlace> = self.fetch(self.query(sql).bind(wanted)).await?;
        Ok(found.into_iter().collect())
    }

    async fn write_dead_letters(
        &self,
        letters: &[DeadLetterRow<'_>],
        token: &str,
    ) -> Result<(), StoreError> {
        Self::insert::<DeadLetterRow<'_>>(self, "dead_letters", letters, token).await
    }
}

/// Refused rows as dead letters of their records.
pub(crate) fn refused_letters<'a>(
    batch: &'a SourceBatch,
    refused: &Refused,
) -> Vec<DeadLetter<'a>> {
    let mut named = HashSet::new();
    let letter = |record: &'a LogRecord| {
        let reason = refused.get(&record.id())?.clone();
        // The log may have it twice.
        let is_first = named.insert(record.id());
        is_first.then(|| DeadLetter::of(record, DeadLetterKind::Refused, reason))
    };
    batch.records.iter().filter_map(letter).collect()
}

/// Asks for the runs of seqs without a gap, and for the time, in one row more.
fn stored_sql(questions: &[(StreamId, SearchFrom)]) -> String {
    let wanted = questions
        .iter()
        .map(|(stream, SearchFrom { seq, since_us })| {
            format!(
                "(stream = '{stream}' AND seq >= {seq} \
             AND ts >= fromUnixTimestamp64Micro({since_us}, 'UTC'))"
            )
        });
    let wanted = wanted.collect::<Vec<_>>().join(" OR ");
    let events = of_all_tables(|table| format!("SELECT stream, seq FROM {table} WHERE {wanted}"));
    format!(
        "SELECT stream, first, last, toUInt64(toUnixTimestamp64Micro(now64(6))) AS at_us FROM (\
           SELECT stream, min(seq) AS first, max(seq) AS last FROM (\
             SELECT stream, seq, \
                    seq - row_number() OVER (PARTITION BY stream ORDER BY seq) AS run \
             FROM (SELECT DISTINCT stream, seq FROM ({events}))\
           ) GROUP BY stream, run \
           UNION ALL SELECT toUUID('00000000-0000-0000-0000-000000000000'), 0, 0\
         ) ORDER BY stream, first"
    )
}

/// A query of every table of events, one after the other.
pub(crate) fn of_all_tables(select: impl Fn(&str) -> String) -> String {
    EVENT_TABLES.map(select).join(" UNION ALL ")
}
