//! The tables: what is in them, and how a batch gets there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use clickhouse::{Row, RowWrite};
use serde::Deserialize;
use tokio::time::Instant;
use uuid::Uuid;
use weir_eventlog::SourceBatch;
use weir_schemas::StreamId;
use weir_schemas::clickhouse::EVENT_TABLES;
use weir_store::{Retention, Store, StoreError, Verdict};

use crate::batch::{Inserts, Placed, Rows, Swallows, token};
use crate::caps::{CLOCK_STEP_MAX, LETTERS_AT_ONCE, STREAMS_ASKED_MAX};
use crate::clock::now_us;
use crate::dead_letter::{DeadLetter, Kind, Place};
use crate::rows::{
    AttemptRow, ControlRow, CorrectionRow, DeadLetterRow, PayloadRow, RequestRow, StateRow,
    StreamRow, TableRow,
};
use crate::stored::Run;

/// What the tables need of the store. [`Store`] is the one of every day; the simulation has its own.
pub(crate) trait Engine {
    async fn migrate(&self, retention: Retention) -> Result<(), StoreError>;

    /// How many inserts still run that began so long ago.
    async fn inserts_running(&self, began_before: Duration) -> Result<u64, StoreError>;

    /// What is stored of some streams, each from a seq on.
    async fn stored(&self, firsts: &[(StreamId, u64)]) -> Result<Told, StoreError>;

    /// Stores rows whole or not at all, or takes them and does nothing, if it knows the token. An
    /// error if the deadline is over.
    async fn insert<'a, R>(
        &self,
        table: &str,
        rows: &[R::Value<'a>],
        token: &str,
        deadline_us: Option<u64>,
    ) -> Result<(), StoreError>
    where
        R: Row + RowWrite,
        R::Value<'a>: Placed;

    /// Which of these places have a dead letter.
    async fn buried(&self, places: &[Place]) -> Result<HashSet<Place>, StoreError>;

    async fn bury(&self, letters: &[DeadLetterRow<'_>], token: &str) -> Result<(), StoreError>;
}

/// What the tables have.
#[derive(Debug)]
pub(crate) struct Told {
    /// When they were looked at, by the store's clock, in microseconds since 1970.
    pub(crate) at_us: u64,
    /// In order of stream and seq.
    pub(crate) runs: Vec<(StreamId, Run)>,
}

#[derive(Debug)]
pub(crate) struct Tables<E> {
    engine: E,
}

/// Places of rows that the store does not take, with its reason.
pub(crate) type Refused = HashMap<(StreamId, u64), String>;

/// One try to insert a batch.
#[derive(Debug)]
pub(crate) struct Insertion<'a> {
    pub(crate) swallows: &'a mut Swallows,
    /// Until when the store may take the rows ([`Stored::deadline_us`](crate::stored::Stored)).
    pub(crate) deadline_us: Option<u64>,
    pub(crate) refused: &'a mut Refused,
    /// Not everything was sent: look what is stored, and send the rest.
    pub(crate) is_partial: bool,
}

impl<E: Engine> Tables<E> {
    pub(crate) fn new(engine: E) -> Self {
        Self { engine }
    }

    pub(crate) async fn migrate(&self, retention: Retention) -> Result<(), StoreError> {
        self.engine.migrate(retention).await
    }

    pub(crate) async fn inserts_running(&self, began_before: Duration) -> Result<u64, StoreError> {
        self.engine.inserts_running(began_before).await
    }

    /// What is stored of some streams, each from a seq on, and when the store was asked, by its clock.
    pub(crate) async fn stored(
        &self,
        firsts: &BTreeMap<StreamId, u64>,
    ) -> Result<(u64, BTreeMap<StreamId, Vec<Run>>), StoreError> {
        let mut asked_us = u64::MAX;
        let mut stored: BTreeMap<StreamId, Vec<Run>> =
            firsts.keys().map(|stream| (*stream, Vec::new())).collect();
        let firsts: Vec<_> = firsts.iter().map(|(stream, seq)| (*stream, *seq)).collect();
        for some in firsts.chunks(STREAMS_ASKED_MAX) {
            let told = self.engine.stored(some).await?;
            asked_us = asked_us.min(told.at_us);
            for (stream, run) in told.runs {
                stored.entry(stream).or_default().push(run);
            }
        }
        Ok((asked_us, stored))
    }

    /// Stores rows. Those that the store will never take are found by halving, and left out.
    pub(crate) async fn insert(
        &self,
        rows: &Rows<'_>,
        insertion: &mut Insertion<'_>,
    ) -> Result<(), StoreError> {
        self.insert_into::<RequestRow<'_>>("requests", &rows.requests, insertion)
            .await?;
        self.insert_into::<AttemptRow<'_>>("attempts", &rows.attempts, insertion)
            .await?;
        self.insert_into::<ControlRow<'_>>("control_changes", &rows.control_changes, insertion)
            .await?;
        self.insert_into::<StreamRow<'_>>("streams", &rows.streams, insertion)
            .await?;
        self.insert_into::<StateRow<'_>>("deployment_states", &rows.states, insertion)
            .await?;
        self.insert_into::<TableRow<'_>>("routing_tables", &rows.routing_tables, insertion)
            .await?;
        self.insert_into::<CorrectionRow<'_>>("corrections", &rows.corrections, insertion)
            .await?;
        self.insert_into::<PayloadRow<'_>>("payloads", &rows.payloads, insertion)
            .await
    }

    async fn insert_into<'a, R>(
        &self,
        table: &str,
        inserts: &Inserts<R::Value<'a>>,
        insertion: &mut Insertion<'_>,
    ) -> Result<(), StoreError>
    where
        R: Row + RowWrite,
        R::Value<'a>: Placed,
    {
        for rows in inserts.iter() {
            self.insert_rows::<R>(table, rows, insertion).await?;
        }
        Ok(())
    }

    /// One insert. If the store will never take a row of it, so many of the rows as it takes; those
    /// behind them must wait until it is known what is stored, because somebody else's insert may
    /// have had them with the first ones.
    async fn insert_rows<'a, R>(
        &self,
        table: &str,
        mut rows: &[R::Value<'a>],
        insertion: &mut Insertion<'_>,
    ) -> Result<(), StoreError>
    where
        R: Row + RowWrite,
        R::Value<'a>: Placed,
    {
        let mut length = rows.len();
        while length > 0 {
            let some = &rows[..length];
            let token = token(table, some, insertion.swallows);
            let deadline_us = insertion.deadline_us;
            let sent = Instant::now();
            let tried = self.engine.insert::<R>(table, some, &token, deadline_us);
            match tried.await {
                Ok(()) => {
                    insertion.swallows.took(some, sent);
                    insertion.is_partial |= length < rows.len();
                    return Ok(());
                }
                Err(error) if error.verdict != Verdict::Poison => return Err(error),
                Err(_) if length > 1 => length /= 2,
                Err(error) => {
                    let place = rows[0].place();
                    insertion.refused.insert(place, error.to_string());
                    rows = &rows[1..];
                    length = rows.len();
                }
            }
        }
        Ok(())
    }

    /// Keeps dead letters, those of them that are not kept already.
    pub(crate) async fn bury(&self, dead: &[DeadLetter<'_>]) -> Result<(), StoreError> {
        for letters in dead.chunks(LETTERS_AT_ONCE) {
            self.bury_some(letters).await?;
        }
        Ok(())
    }

    async fn bury_some(&self, letters: &[DeadLetter<'_>]) -> Result<(), StoreError> {
        let places: Vec<Place> = letters.iter().map(DeadLetter::place).collect();
        let mut swallowed = 0;
        let mut first_before = None;
        loop {
            let buried = self.engine.buried(&places).await?;
            let open: Vec<_> = letters
                .iter()
                .zip(&places)
                .filter(|(_, place)| !buried.contains(place))
                .collect();
            let Some((_, first)) = open.first() else {
                return Ok(());
            };
            // As with rows: the store may know a token and not have what it stands for.
            let is_again = first_before.replace((*first).clone()).as_ref() == Some(first);
            swallowed = if is_again { swallowed + 1 } else { 0 };
            let Place {
                source,
                location,
                position,
                kind,
            } = first;
            let token = format!("dead_letters:{source}:{location}:{position}:{kind}:{swallowed}");
            let now = now_us();
            let rows: Vec<_> = open
                .iter()
                .map(|(letter, place)| letter.row(place, now))
                .collect();
            for (letter, _) in &open {
                tracing::error!(position = %letter.position, reason = letter.reason, "dead letter");
            }
            self.engine.bury(&rows, &token).await?;
        }
    }
}

#[derive(Debug, Row, Deserialize)]
struct StoredRun {
    #[serde(with = "clickhouse::serde::uuid")]
    stream: Uuid,
    first: u64,
    /// 0 in the row that only tells the time.
    last: u64,
    at_us: u64,
}

#[derive(Debug, Row, Deserialize)]
struct Buried {
    source: String,
    location: String,
    position: u64,
    kind: String,
}

impl Engine for Store {
    async fn migrate(&self, retention: Retention) -> Result<(), StoreError> {
        Self::migrate(self, retention).await.map(drop)
    }

    async fn inserts_running(&self, began_before: Duration) -> Result<u64, StoreError> {
        Self::inserts_running(self, began_before).await
    }

    async fn stored(&self, firsts: &[(StreamId, u64)]) -> Result<Told, StoreError> {
        let rows: Vec<StoredRun> = self.fetch(self.query(&stored_sql(firsts))).await?;
        let at_us = rows.iter().map(|row| row.at_us).min().unwrap_or_default();
        let runs = rows.into_iter().filter(|row| row.last > 0);
        Ok(Told {
            at_us,
            runs: runs
                .map(|row| (row.stream.into(), (row.first, row.last)))
                .collect(),
        })
    }

    async fn insert<'a, R>(
        &self,
        table: &str,
        rows: &[R::Value<'a>],
        token: &str,
        deadline_us: Option<u64>,
    ) -> Result<(), StoreError>
    where
        R: Row + RowWrite,
        R::Value<'a>: Placed,
    {
        Self::insert_until::<R>(self, table, rows, token, deadline_us).await
    }

    async fn buried(&self, places: &[Place]) -> Result<HashSet<Place>, StoreError> {
        let wanted: Vec<_> = places
            .iter()
            .map(|it| (it.source, it.location.as_str(), it.position, it.kind))
            .collect();
        let sql = "SELECT DISTINCT toString(source) AS source, location, position, \
                   toString(kind) AS kind FROM dead_letters \
                   WHERE (source, location, position, kind) IN ?";
        let found: Vec<Buried> = self.fetch(self.query(sql).bind(wanted)).await?;
        let is_buried = |place: &&Place| {
            found.iter().any(|it| {
                it.position == place.position
                    && it.source == place.source
                    && it.location == place.location
                    && it.kind == place.kind
            })
        };
        Ok(places.iter().filter(is_buried).cloned().collect())
    }

    async fn bury(&self, letters: &[DeadLetterRow<'_>], token: &str) -> Result<(), StoreError> {
        Self::insert::<DeadLetterRow<'_>>(self, "dead_letters", letters, token).await
    }
}

/// Refused rows as dead letters of their records.
pub(crate) fn refused_letters<'a>(
    batch: &'a SourceBatch,
    refused: &Refused,
) -> Vec<DeadLetter<'a>> {
    let mut named = HashSet::new();
    let letter = |record: &'a weir_eventlog::Record| {
        let place = (record.stream, record.seq);
        let reason = refused.get(&place)?.clone();
        // The log may have it twice.
        let is_first = named.insert(place);
        is_first.then(|| DeadLetter::of(record, Kind::Refused, reason))
    };
    batch.records.iter().filter_map(letter).collect()
}

/// Asks for the runs of seqs without a gap, and for the time, in one row more. A stream's birth bounds the search in time: looking at a
/// few days takes milliseconds, at everything seconds.
fn stored_sql(firsts: &[(StreamId, u64)]) -> String {
    let wanted = firsts.iter().map(|(stream, first)| {
        let since = born_us(*stream);
        format!(
            "(stream = '{stream}' AND seq >= {first} \
             AND ts >= fromUnixTimestamp64Micro({since}, 'UTC'))"
        )
    });
    let wanted = wanted.collect::<Vec<_>>().join(" OR ");
    let seqs = EVENT_TABLES.map(|table| format!("SELECT stream, seq FROM {table} WHERE {wanted}"));
    format!(
        "SELECT stream, first, last, toUInt64(toUnixTimestamp64Micro(now64(6))) AS at_us FROM (\
           SELECT stream, min(seq) AS first, max(seq) AS last FROM (\
             SELECT stream, seq, \
                    seq - row_number() OVER (PARTITION BY stream ORDER BY seq) AS run \
             FROM (SELECT DISTINCT stream, seq FROM ({}))\
           ) GROUP BY stream, run \
           UNION ALL SELECT toUUID('00000000-0000-0000-0000-000000000000'), 0, 0\
         ) ORDER BY stream, first",
        seqs.join(" UNION ALL ")
    )
}

/// When the stream was opened, less what a clock may have been set back since.
pub(crate) fn born_us(stream: StreamId) -> u64 {
    let bytes = stream.as_bytes();
    let unix_ms = bytes[..6]
        .iter()
        .fold(0_u64, |ms, byte| ms << 8 | u64::from(*byte));
    let margin_ms = u64::try_from(CLOCK_STEP_MAX.as_millis()).unwrap_or(u64::MAX);
    unix_ms.saturating_sub(margin_ms).saturating_mul(1000)
}
