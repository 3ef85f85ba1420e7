//! What is new in each stream since its last checkpoint, as leaves of the next.
//!
//! Hashes are those of the rows as they were before they were stored; only what this process does not
//! remember, after a start, is hashed by the store.
//!
//! What is sealed must not change any more, and a batch reaches its tables one after the other. So
//! streams are sealed up to what this process has stored itself, whole batches; and what it only
//! finds in the tables is sealed up to the first number that is missing. A number that stays missing
//! is given up after a while ([`GAP_MAX`]): it is a gap, and every verification reports it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use clickhouse::Row;
use serde::Deserialize;
use uuid::Uuid;
use weir_schemas::StreamId;
use weir_store::{Store, StoreError};

pub(crate) use super::book::{CheckpointRow, LeafRow};
use super::progress::{SealProgress, SealableRange};
use crate::caps::{CHECKPOINT_LEAVES_MAX, GAP_MAX, PIECE_EVENTS_MAX, STREAMS_ASKED_MAX};
use crate::hashes::chain::{Hash, fingerprint, origin};
use crate::hashes::{StoredRow, VERSION, chain_after, stored_rows};
use crate::tables::of_all_tables;

/// What the tables say of streams and their leaves. [`Store`] is the real one; the simulation has its own.
pub(crate) trait StreamTables {
    /// All streams, and how far their rows reach.
    async fn reaches(&self) -> Result<Vec<StoredReach>, StoreError>;

    /// How far checkpoints seal some streams.
    async fn chain_ends(&self, streams: &[StreamId]) -> Result<Vec<ChainEnd>, StoreError>;

    /// See [`stored_rows`].
    async fn rows(
        &self,
        stream: StreamId,
        seqs: (u64, u64),
        since_us: i64,
    ) -> Result<Vec<StoredRow>, StoreError>;
}

/// What the tables have of a stream.
#[derive(Debug, Row, Deserialize)]
pub(crate) struct StoredReach {
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) stream: Uuid,
    pub(crate) last_seq: u64,
    pub(crate) since_us: i64,
}

/// A stream is sealed up to an event, with this hash.
#[derive(Clone, Copy, Debug, Row, Deserialize)]
pub(crate) struct ChainEnd {
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) stream: Uuid,
    pub(crate) last_seq: u64,
    pub(crate) chain: Hash,
}

/// A stream with events that are under no checkpoint.
#[derive(Debug)]
struct Pending {
    stream: StreamId,
    /// Sealed up to here, with this hash.
    done: u64,
    chain: Hash,
    reach: SealableRange,
}

/// Makes leaves of what is stored.
#[derive(Debug)]
pub(crate) struct LeafMaker<T> {
    tables: T,
    progress: SealProgress,
    has_looked: bool,
    /// Numbers that are missing, the first of each stream, and since when they are.
    gaps: HashMap<StreamId, (u64, Duration)>,
}

impl<T: StreamTables> LeafMaker<T> {
    pub(crate) fn new(tables: T, progress: SealProgress) -> Self {
        Self {
            tables,
            progress,
            has_looked: false,
            gaps: HashMap::new(),
        }
    }

    /// The leaves of a checkpoint that begins: what is new since the last one.
    pub(crate) async fn leaves(
        &mut self,
        checkpoint: &CheckpointRow,
        now: Duration,
    ) -> Result<Vec<LeafRow>, StoreError> {
        if !self.has_looked {
            self.look_into_tables().await?;
            self.has_looked = true;
        }
        let mut leaves: Vec<LeafRow> = Vec::new();
        for mut open in self.pending().await? {
            while open.done < open.reach.last() && leaves.len() < CHECKPOINT_LEAVES_MAX {
                let (first, end) = (
                    open.done + 1,
                    open.reach.last().min(open.done + PIECE_EVENTS_MAX),
                );
                let mut rows = self.rows(&open, first, end).await?;
                let whole = self.whole_until(&open, end, &rows, now);
                if whole < first {
                    break;
                }
                rows.retain(|row| row.seq <= whole);
                let leaf = leaf(checkpoint, leaves.len() as u64, &open, whole, &rows);
                (open.done, open.chain) = (whole, leaf.chain_after);
                leaves.push(leaf);
                if whole < end {
                    break;
                }
            }
        }
        Ok(leaves)
    }

    /// The checkpoint with these leaves is stored.
    pub(crate) fn sealed(&self, leaves: &[LeafRow]) {
        for leaf in leaves {
            self.progress.forget(leaf.stream.into(), leaf.last_seq);
        }
    }

    /// What an earlier process has stored and made no checkpoint of.
    async fn look_into_tables(&self) -> Result<(), StoreError> {
        for it in self.tables.reaches().await? {
            let stream = it.stream.into();
            self.progress.saw(stream, it.last_seq, it.since_us);
        }
        Ok(())
    }

    async fn pending(&self) -> Result<Vec<Pending>, StoreError> {
        let known = self.progress.all();
        let mut pending = Vec::new();
        for some in known.chunks(STREAMS_ASKED_MAX) {
            let streams: Vec<_> = some.iter().map(|(stream, _)| *stream).collect();
            let ends = self.tables.chain_ends(&streams).await?.into_iter();
            let entry = |it: ChainEnd| (StreamId::from(it.stream), (it.last_seq, it.chain));
            let ends: HashMap<_, _> = ends.map(entry).collect();
            for (stream, reach) in some {
                let end = ends.get(stream).copied();
                let (done, chain) = end.unwrap_or_else(|| (0, origin(*stream)));
                if done < reach.last() {
                    pending.push(Pending {
                        stream: *stream,
                        done,
                        chain,
                        reach: *reach,
                    });
                } else {
                    self.progress.forget(*stream, done);
                }
            }
        }
        pending.sort_by_key(|it| it.stream);
        Ok(pending)
    }

    /// What was stored, by what this process remembers of it; and what is stored, where it does not.
    async fn rows(
        &self,
        open: &Pending,
        first: u64,
        last: u64,
    ) -> Result<Vec<StoredRow>, StoreError> {
        let Pending { stream, reach, .. } = *open;
        let mut rows = self.progress.remembered(stream, first, last);
        if rows.len() as u64 <= last - first {
            let since_us = reach.since_us.unwrap_or_default();
            let found = self.tables.rows(stream, (first, last), since_us).await?;
            let known: HashSet<u64> = rows.iter().map(|row| row.seq).collect();
            rows.extend(found.into_iter().filter(|row| !known.contains(&row.seq)));
            rows.sort_by(|a, b| (a.seq, &a.table, a.hash).cmp(&(b.seq, &b.table, b.hash)));
        }
        Ok(rows)
    }

    /// How far rows behind `open.done` may be sealed: to `end`, or to the first number that may still
    /// come.
    fn whole_until(&mut self, open: &Pending, end: u64, rows: &[StoredRow], now: Duration) -> u64 {
        let mut expected = open.done + 1;
        for row in rows {
            if row.seq > expected && row.seq - 1 > open.reach.sure {
                let missing = expected.max(open.reach.sure + 1);
                let gap = self.gaps.entry(open.stream).or_insert((missing, now));
                if gap.0 < missing {
                    *gap = (missing, now);
                }
                if gap.0 == missing && now.saturating_sub(gap.1) < GAP_MAX {
                    return missing - 1;
                }
            }
            expected = expected.max(row.seq + 1);
        }
        if expected > end || open.reach.sure >= end {
            end
        } else {
            // What was seen at the end is gone again: rows are being deleted.
            expected - 1
        }
    }
}

/// The leaf that these rows make, from the first that is not sealed to `last_seq`.
fn leaf(
    checkpoint: &CheckpointRow,
    position: u64,
    open: &Pending,
    last_seq: u64,
    rows: &[StoredRow],
) -> LeafRow {
    let first_seq = open.done + 1;
    let events = usize::try_from(last_seq - first_seq + 1).unwrap_or(usize::MAX);
    let mut fingerprints = vec![0; events];
    for row in rows {
        let at = usize::try_from(row.seq - first_seq).unwrap_or(usize::MAX);
        if let Some(slot) = fingerprints.get_mut(at) {
            *slot = fingerprint(&row.hash);
        }
    }
    let times = || rows.iter().map(|row| row.ts_us);
    LeafRow {
        signer: checkpoint.signer.clone(),
        number: checkpoint.number,
        position,
        ts: checkpoint.ts,
        version: VERSION,
        stream: open.stream.as_uuid(),
        first_seq,
        last_seq,
        first_ts: times().min().unwrap_or(0),
        last_ts: times().max().unwrap_or(0),
        chain_before: open.chain,
        chain_after: chain_after(open.chain, rows),
        fingerprints,
    }
}

impl StreamTables for Store {
    async fn reaches(&self) -> Result<Vec<StoredReach>, StoreError> {
        let events = of_all_tables(|table| format!("SELECT stream, seq, ts FROM {table}"));
        let sql = format!(
            "SELECT stream, max(seq) AS last_seq, toUnixTimestamp64Micro(min(ts)) AS since_us \
             FROM ({events}) GROUP BY stream"
        );
        self.fetch(self.query(&sql)).await
    }

    async fn chain_ends(&self, streams: &[StreamId]) -> Result<Vec<ChainEnd>, StoreError> {
        let list = streams.iter().map(|stream| format!("'{stream}'"));
        let sql = format!(
            "SELECT stream, max(leaf.last_seq) AS last_seq, argMax(chain_after, leaf.last_seq) AS chain \
             FROM checkpoint_leaves AS leaf WHERE stream IN ({}) \
             AND (signer, number, ts) IN (SELECT signer, number, ts FROM checkpoints) \
             GROUP BY stream",
            list.collect::<Vec<_>>().join(", ")
        );
        self.fetch(self.query(&sql)).await
    }

    async fn rows(
        &self,
        stream: StreamId,
        seqs: (u64, u64),
        since_us: i64,
    ) -> Result<Vec<StoredRow>, StoreError> {
        stored_rows(self, VERSION, stream, seqs, since_us).await
    }
}
