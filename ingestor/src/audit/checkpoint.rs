//! Making checkpoints.
//!
//! | killed | what is left | what the next one does |
//! | --- | --- | --- |
//! | before the leaves are stored | nothing | makes the checkpoint |
//! | between leaves and checkpoint | leaves of no checkpoint, which nothing reads | makes it, with leaves of its own |
//! | before the export | a checkpoint that the file lacks | appends it first |
//!
//! Hashes are those of the rows as they were before they were stored; only what this process does not
//! remember, after a start, is hashed by the store.
//!
//! What is sealed must not change any more, and a batch reaches its tables one after the other. So
//! streams are sealed up to what this process has stored itself, whole batches; and what it only
//! finds in the tables is sealed up to the first number that is missing. A number that stays missing
//! is given up after a while ([`GAP_MAX`]): it is a gap, and every verification reports it.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::slice::from_ref;
use std::time::Duration;

use clickhouse::Row;
use serde::Deserialize;
use uuid::Uuid;
use weir_schemas::StreamId;
use weir_store::{Store, StoreError};

use super::book::{CheckpointRow, ExportError, LeafRow, export, last_checkpoint};
use super::progress::{SealProgress, SealableRange};
use super::sign::{KeyError, SigningKey};
use crate::caps::{CHECKPOINT_LEAVES_MAX, GAP_MAX, PIECE_EVENTS_MAX, STREAMS_ASKED_MAX};
use crate::hashes::chain::{Hash, fingerprint, merkle_root, origin};
use crate::hashes::{StoredRow, VERSION, chain_after, stored_rows};
use crate::tables::of_all_tables;

/// No checkpoint was made, or nothing can be verified.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error("checkpoints of version {0} were made by a later weir: verify them with that one")]
    LaterVersion(u8),
    #[error("checkpoint {0} is not in the tables: `weir audit verify` says more")]
    MissingCheckpoint(u64),
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

/// A checkpoint that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub number: u64,
    pub leaves: u64,
    pub events: u64,
}

/// Makes checkpoints of what is stored.
#[derive(Debug)]
pub struct Checkpointer {
    store: Store,
    dir: PathBuf,
    key: SigningKey,
    progress: SealProgress,
    has_looked: bool,
    /// Numbers that are missing, the first of each stream, and since when they are.
    gaps: HashMap<StreamId, (u64, Duration)>,
}

#[derive(Debug, Row, Deserialize)]
struct ChainEnd {
    #[serde(with = "clickhouse::serde::uuid")]
    stream: Uuid,
    last_seq: u64,
    chain: Hash,
}

/// What the tables have of a stream.
#[derive(Debug, Row, Deserialize)]
struct FoundStream {
    #[serde(with = "clickhouse::serde::uuid")]
    stream: Uuid,
    last_seq: u64,
    since_us: i64,
}

impl Checkpointer {
    /// `dir` holds the key, which is made if it is not there, and the export.
    pub fn open(store: Store, dir: impl Into<PathBuf>) -> Result<Self, AuditError> {
        Self::following(store, dir.into(), SealProgress::default())
    }

    pub(crate) fn following(
        store: Store,
        dir: PathBuf,
        progress: SealProgress,
    ) -> Result<Self, AuditError> {
        let key = SigningKey::load_or_create(&dir)?;
        Ok(Self {
            store,
            dir,
            key,
            progress,
            has_looked: false,
            gaps: HashMap::new(),
        })
    }

    /// Makes a checkpoint of what is new; None if nothing is.
    pub async fn make(&mut self, now: Duration) -> Result<Option<Made>, AuditError> {
        if !self.has_looked {
            self.look_into_tables().await?;
            self.has_looked = true;
        }
        let signer = self.key.public();
        let last = last_checkpoint(&self.store, &signer).await?;
        if let Some(last) = &last {
            export(&self.dir, last)?;
        }
        let mut checkpoint = CheckpointRow {
            signer,
            number: last.as_ref().map_or(1, |last| last.number + 1),
            ts: i64::try_from(now.as_micros()).unwrap_or(i64::MAX),
            leaves: 0,
            root: [0; 32],
            previous: last.map_or([0; 32], |last| last.hash),
            hash: [0; 32],
            signature: String::new(),
        };
        let leaves = self.leaves(&checkpoint, now).await?;
        if leaves.is_empty() {
            return Ok(None);
        }
        checkpoint.leaves = leaves.len() as u64;
        checkpoint.root = merkle_root(&leaves.iter().map(LeafRow::hash).collect::<Vec<_>>());
        checkpoint.hash = checkpoint.hash_of_content();
        checkpoint.signature = self.key.sign(&checkpoint.hash);
        self.write(&checkpoint, &leaves).await?;
        for leaf in &leaves {
            self.progress.forget(leaf.stream.into(), leaf.last_seq);
        }
        let fingerprints = leaves.iter().flat_map(|leaf| &leaf.fingerprints);
        Ok(Some(Made {
            number: checkpoint.number,
            leaves: checkpoint.leaves,
            events: fingerprints.filter(|it| **it != 0).count() as u64,
        }))
    }

    /// What an earlier process has stored and made no checkpoint of.
    async fn look_into_tables(&mut self) -> Result<(), AuditError> {
        let events = of_all_tables(|table| format!("SELECT stream, seq, ts FROM {table}"));
        let sql = format!(
            "SELECT stream, max(seq) AS last_seq, toUnixTimestamp64Micro(min(ts)) AS since_us \
             FROM ({events}) GROUP BY stream"
        );
        let found: Vec<FoundStream> = self.store.fetch(self.store.query(&sql)).await?;
        for it in found {
            self.progress
                .saw(it.stream.into(), it.last_seq, it.since_us);
        }
        Ok(())
    }

    async fn pending(&self) -> Result<Vec<Pending>, AuditError> {
        let known = self.progress.all();
        let mut pending = Vec::new();
        for some in known.chunks(STREAMS_ASKED_MAX) {
            let ends = self.chain_ends(some).await?;
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

    async fn chain_ends(
        &self,
        streams: &[(StreamId, SealableRange)],
    ) -> Result<HashMap<StreamId, (u64, Hash)>, AuditError> {
        let list = streams.iter().map(|(stream, _)| format!("'{stream}'"));
        let sql = format!(
            "SELECT stream, max(leaf.last_seq) AS last_seq, argMax(chain_after, leaf.last_seq) AS chain \
             FROM checkpoint_leaves AS leaf WHERE stream IN ({}) \
             AND (signer, number, ts) IN (SELECT signer, number, ts FROM checkpoints) \
             GROUP BY stream",
            list.collect::<Vec<_>>().join(", ")
        );
        let ends: Vec<ChainEnd> = self.store.fetch(self.store.query(&sql)).await?;
        let entry = |end: ChainEnd| (end.stream.into(), (end.last_seq, end.chain));
        Ok(ends.into_iter().map(entry).collect())
    }

    /// The leaves of a checkpoint that begins: what is new since the last one.
    async fn leaves(
        &mut self,
        checkpoint: &CheckpointRow,
        now: Duration,
    ) -> Result<Vec<LeafRow>, AuditError> {
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

    /// What was stored, by what this process remembers of it; and what is stored, where it does not.
    async fn rows(
        &self,
        open: &Pending,
        first: u64,
        last: u64,
    ) -> Result<Vec<StoredRow>, AuditError> {
        let Pending { stream, reach, .. } = *open;
        let mut rows = self.progress.remembered(stream, first, last);
        if rows.len() as u64 <= last - first {
            let since_us = reach.since_us.unwrap_or_default();
            let found = stored_rows(&self.store, VERSION, stream, (first, last), since_us);
            let found = found.await?;
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

    async fn write(
        &self,
        checkpoint: &CheckpointRow,
        leaves: &[LeafRow],
    ) -> Result<(), AuditError> {
        let CheckpointRow {
            signer, number, ts, ..
        } = checkpoint;
        let token = |what: &str| format!("{what}:{signer}:{number}:{ts}");
        self.store
            .insert::<LeafRow>("checkpoint_leaves", leaves, &token("leaves"))
            .await?;
        self.store
            .insert::<CheckpointRow>("checkpoints", from_ref(checkpoint), &token("head"))
            .await?;
        export(&self.dir, checkpoint)?;
        Ok(())
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
