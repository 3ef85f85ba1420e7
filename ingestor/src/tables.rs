//! The tables: what is in them, and how a batch gets there.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use clickhouse::{Row, RowWrite};
use serde::Deserialize;
use uuid::Uuid;
use weir_eventlog::SourceBatch;
use weir_schemas::StreamId;
use weir_store::{Store, StoreError, Verdict};

use crate::batch::{Inserts, Placed, Rows, token};
use crate::caps::{CLOCK_STEP_MAX, STREAMS_ASKED_MAX};
use crate::clock::now_us;
use crate::dead_letter::{DeadLetter, Place};
use crate::rows::{
    AttemptRow, ControlRow, DeadLetterRow, RequestRow, StateRow, StreamRow, TableRow,
};
use crate::stored::Run;

/// Tables whose rows carry (stream, seq).
pub(crate) const EVENT_TABLES: [&str; 6] = [
    "requests",
    "attempts",
    "control_changes",
    "streams",
    "deployment_states",
    "routing_tables",
];

#[derive(Debug)]
pub(crate) struct Tables {
    store: Store,
}

/// Places of rows that the store does not take, with its reason.
pub(crate) type Refused = HashMap<(StreamId, u64), String>;

#[derive(Debug, Row, Deserialize)]
struct StoredRun {
    #[serde(with = "clickhouse::serde::uuid")]
    stream: Uuid,
    first: u64,
    last: u64,
}

impl Tables {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    pub(crate) async fn migrate(&self, retention_days: u32) -> Result<(), StoreError> {
        self.store.migrate(retention_days).await.map(drop)
    }

    /// How many inserts still run that began so long ago.
    pub(crate) async fn inserts_running(&self, began_before: Duration) -> Result<u64, StoreError> {
        self.store.inserts_running(began_before).await
    }

    /// What is stored of some streams, each from a seq on.
    pub(crate) async fn stored(
        &self,
        firsts: &BTreeMap<StreamId, u64>,
    ) -> Result<BTreeMap<StreamId, Vec<Run>>, StoreError> {
        let mut stored: BTreeMap<StreamId, Vec<Run>> =
            firsts.keys().map(|stream| (*stream, Vec::new())).collect();
        let firsts: Vec<_> = firsts.iter().map(|(stream, seq)| (*stream, *seq)).collect();
        for some in firsts.chunks(STREAMS_ASKED_MAX) {
            let query = self.store.query(&stored_sql(some));
            for run in self.store.fetch::<StoredRun>(query).await? {
                let runs = stored.entry(run.stream.into()).or_default();
                runs.push((run.first, run.last));
            }
        }
        Ok(stored)
    }

    /// Stores rows. Those that the store will never take are found by halving, and left out.
    pub(crate) async fn insert(&self, rows: &Rows<'_>, tries: u32) -> Result<Refused, StoreError> {
        let mut refused = Refused::new();
        let out = &mut refused;
        self.insert_into::<RequestRow<'_>>("requests", &rows.requests, tries, out)
            .await?;
        self.insert_into::<AttemptRow<'_>>("attempts", &rows.attempts, tries, out)
            .await?;
        self.insert_into::<ControlRow<'_>>("control_changes", &rows.control_changes, tries, out)
            .await?;
        self.insert_into::<StreamRow<'_>>("streams", &rows.streams, tries, out)
            .await?;
        self.insert_into::<StateRow<'_>>("deployment_states", &rows.states, tries, out)
            .await?;
        self.insert_into::<TableRow<'_>>("routing_tables", &rows.routing_tables, tries, out)
            .await?;
        Ok(refused)
    }

    async fn insert_into<'a, R>(
        &self,
        table: &str,
        inserts: &Inserts<R::Value<'a>>,
        tries: u32,
        refused: &mut Refused,
    ) -> Result<(), StoreError>
    where
        R: Row + RowWrite,
        R::Value<'a>: Placed,
    {
        let mut open: Vec<&[R::Value<'a>]> = inserts.iter().collect();
        while let Some(rows) = open.pop() {
            let token = token(table, rows, tries);
            match self.store.insert::<R>(table, rows, &token).await {
                Ok(()) => {}
                Err(error) if error.verdict == Verdict::Poison => match rows {
                    [row] => drop(refused.insert(row.place(), error.to_string())),
                    rows => {
                        let (first, second) = rows.split_at(rows.len() / 2);
                        open.extend([second, first]);
                    }
                },
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Keeps dead letters, those of them that are not kept already.
    pub(crate) async fn bury(&self, dead: &[DeadLetter<'_>]) -> Result<(), StoreError> {
        for letter in dead {
            let place = letter.place();
            if self.is_buried(&place).await? {
                continue;
            }
            tracing::error!(position = %letter.position, reason = letter.reason, "dead letter");
            let Place {
                source,
                location,
                position,
            } = &place;
            let token = format!("dead_letters:{source}:{location}:{position}");
            let row = letter.row(&place, now_us());
            self.store
                .insert::<DeadLetterRow<'_>>("dead_letters", &[row], &token)
                .await?;
        }
        Ok(())
    }

    async fn is_buried(&self, place: &Place) -> Result<bool, StoreError> {
        let query = self
            .store
            .query(
                "SELECT count() FROM dead_letters WHERE source = {source:String} \
                 AND location = {location:String} AND position = {position:UInt64}",
            )
            .param("source", place.source)
            .param("location", &place.location)
            .param("position", place.position);
        Ok(self.store.fetch::<u64>(query).await? != [0])
    }
}

/// Refused rows as dead letters of their records.
pub(crate) fn refused_letters<'a>(
    batch: &'a SourceBatch,
    mut refused: Refused,
) -> Vec<DeadLetter<'a>> {
    let letter = |record: &'a weir_eventlog::Record| {
        let reason = refused.remove(&(record.stream, record.seq))?;
        Some(DeadLetter::of(record, reason))
    };
    batch.records.iter().filter_map(letter).collect()
}

/// Asks for the runs of seqs without a gap. A stream's birth bounds the search in time: looking at a
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
        "SELECT stream, min(seq) AS first, max(seq) AS last FROM (\
           SELECT stream, seq, \
                  seq - row_number() OVER (PARTITION BY stream ORDER BY seq) AS run \
           FROM (SELECT DISTINCT stream, seq FROM ({}))\
         ) GROUP BY stream, run ORDER BY stream, first",
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
