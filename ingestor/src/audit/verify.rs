//! Verification: everything is computed again, and each difference is named.
//!
//! [`verify`]: checkpoints by themselves (hash, signature, signer, order, copies of them) → their
//! leaves (Merkle roots) → rows of no stream → whose keys signed the streams → each stream's rows, in order, against the seals of its
//! writer and its leaves, and behind them for gaps → texts of payloads against their hashes → what streams say was dropped → rollups against
//! rows.
//!
//! It may run while rows come in. Rows behind the last leaf may be a batch of which one table is
//! written and the next is not, so a gap there is looked at again before it is called one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;

use clickhouse::Row;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use uuid::Uuid;
use weir_schemas::clickhouse::PAYLOADS;
use weir_schemas::{EventId, StreamId};
use weir_store::Store;

use super::anchor::Anchor;
use super::book::{CheckpointRow, LeafRow, checkpoints, read_export};
use super::checkpoint::AuditError;
use super::gateway_keys::{GatewayKey, SealKeyFault, StreamKeys};
use super::note::{LogTree, NoteFault, TreeHead};
use super::sealed::{SEALS, STREAMS, SealedByWriter, SealedPiece, StoredSeal, UnsealedTail};
use crate::caps::{
    DEAD_LETTERS_KNOWN_MAX, EVENTS_AT_ONCE, FINDINGS_MAX, LEAVES_AT_ONCE, REQUEST_MAX,
    SETTLE_ATTEMPTS, SETTLE_PAUSE,
};
use crate::hashes::chain::{Hash, fingerprint, merkle_root, origin};
use crate::hashes::{StoredRow, VERSION, chain_after, stored_rows};
use crate::rollups;
use crate::tables::{StreamSeq, of_all_tables};

/// The table of calls.
const REQUESTS: &str = "requests";

/// What is verified, and against what.
#[derive(Clone, Debug, Default)]
pub struct Period {
    /// Microseconds since 1970. What is older may have been deleted by the retention.
    pub since_us: i64,
    /// Copies of the export. Every checkpoint in them must be in the tables.
    pub copies: Vec<PathBuf>,
    /// Public keys that may sign; any key if there are none.
    pub signers: Vec<String>,
    /// Places whose notes must agree with the checkpoints.
    pub anchors: Vec<Anchor>,
    /// Public keys of gateways that are trusted to sign seals; any key if there are none, nor one of
    /// this installation.
    pub gateway_keys: Vec<String>,
    /// The key of the gateway of this installation, which is trusted too.
    pub own_gateway_key: Option<String>,
}

/// What kind of thing is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    Gap,
    Dropped,
    Checkpoint,
    Anchor,
    GatewayKey,
    Journal,
    Rollup,
    #[serde(untagged)]
    Row(RowFault),
}

/// The word that reports carry.
impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// What can be wrong with one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowFault {
    Edited,
    Missing,
    Added,
    Doubled,
    DeadLetter,
    Unnumbered,
    UnknownStream,
    BehindEnd,
    BadSignature,
    Unsealed,
}

impl RowFault {
    const fn sentence(self) -> &'static str {
        match self {
            Self::Edited => "is not what it was when it was sealed",
            Self::Missing => "was there when it was sealed, and is gone",
            Self::Added => "was not there when its stream was sealed",
            Self::Doubled => "is stored twice",
            Self::DeadLetter => "could not be stored: it is in dead_letters",
            Self::Unnumbered => "has a number that no event has",
            Self::UnknownStream => "is of a stream that was never opened",
            Self::BehindEnd => "comes behind the end of its stream",
            Self::BadSignature => "is not signed by the key of its stream",
            Self::Unsealed => "is under no seal of its gateway, which seals every second",
        }
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub kind: FindingKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    pub message: String,
}

/// Who has signed checkpoints. The last one's hash is what a copy elsewhere is compared by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Signer {
    pub signer: String,
    pub checkpoints: u64,
    pub last_hash: String,
}

/// The notes of one place. Those that agree say that nothing before the newest was rewritten since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnchorSummary {
    pub url: String,
    pub notes: u64,
    /// The newest note's last checkpoint, and its time in microseconds since 1970.
    pub checkpoint: Option<u64>,
    pub anchored_until_us: Option<i64>,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// Whether the period is proven.
    pub proven: bool,
    pub streams: u64,
    pub events: u64,
    /// Events that are under no seal and no checkpoint yet: complete, but not sealed.
    pub unsealed_events: u64,
    /// Those of them that are the end of a stream, which only a checkpoint seals.
    pub unsealed_ends: u64,
    /// Calls that are sealed.
    pub sealed_calls: u64,
    /// Events that only a checkpoint seals: their gateway was killed before it sealed them, or is of a
    /// version that does not.
    pub checkpoint_only_events: u64,
    /// Events whose gateway has sealed them without a signature: it is of a version that does not sign.
    pub unsigned_events: u64,
    /// What carries an earlier time (microseconds since 1970) is sealed, apart from ends of streams;
    /// `None` if nothing is stored.
    pub proven_until_us: Option<i64>,
    pub signers: Vec<Signer>,
    /// Whose keys have signed the gateways' seals.
    pub gateway_keys: Vec<GatewayKey>,
    /// Empty where no place outside was named.
    pub anchors: Vec<AnchorSummary>,
    pub rollup_rows: u64,
    /// Payloads that were captured, and those of them whose texts were erased since: by their
    /// retention, or on demand. That there was one, and its hash, stays.
    pub payloads: u64,
    pub payloads_erased: u64,
    /// In the order they were met; the first says where to look.
    pub findings: Vec<Finding>,
    /// Findings beyond those listed.
    pub further_findings: u64,
}

impl AuditReport {
    fn note(
        &mut self,
        kind: FindingKind,
        table: Option<&str>,
        event: Option<(StreamId, u64)>,
        message: String,
    ) {
        if self.findings.len() == FINDINGS_MAX {
            self.further_findings += 1;
            return;
        }
        self.findings.push(Finding {
            kind,
            table: table.map(str::to_owned),
            stream: event.map(|(stream, _)| stream.to_string()),
            seq: event.map(|(_, seq)| seq),
            message,
        });
    }

    /// Rows behind the last seal. The seal itself is proven by what it seals.
    fn unsealed(&mut self, rows: &[StoredRow]) {
        let rows = rows.iter().filter(|row| row.table != SEALS);
        self.unsealed_events += rows.clone().count() as u64;
        // The first of a stream is its opening, the others are its end.
        let is_end = |row: &&StoredRow| row.table == STREAMS && row.seq > 1;
        self.unsealed_ends += rows.clone().filter(is_end).count() as u64;
        let first = rows.filter(|row| !is_end(row)).map(|row| row.ts_us).min();
        self.proven_until_us = self.proven_until_us.into_iter().chain(first).min();
    }

    /// Something is wrong with what the gateway here has not handed on yet.
    pub fn journal(&mut self, message: String) {
        self.note(FindingKind::Journal, None, None, message);
        self.proven = false;
    }

    /// Where nothing is unsealed, all is proven that is stored.
    fn prove_until<'a>(&mut self, streams: impl Iterator<Item = &'a Extent>) {
        let newest = streams.map(|it| it.last_ts).filter(|ts| *ts > 0).max();
        self.proven_until_us = self.proven_until_us.or(newest);
    }

    fn checkpoint(&mut self, row: &CheckpointRow, fault: &str) {
        let message = format!(
            "checkpoint {} of signer {}: {fault}",
            row.number, row.signer
        );
        self.note(FindingKind::Checkpoint, Some("checkpoints"), None, message);
    }

    fn anchor(&mut self, url: &str, note: &str, fault: &str) {
        let message = format!("note {note} in {url}: {fault}");
        self.note(FindingKind::Anchor, None, None, message);
    }

    fn gap(&mut self, stream: StreamId, first: u64, last: u64) {
        let message = if first == last {
            format!("event {first} of stream {stream} is not stored")
        } else {
            format!("events {first} to {last} of stream {stream} are not stored")
        };
        self.note(FindingKind::Gap, None, Some((stream, first)), message);
    }

    fn leaf(&mut self, leaf: &LeafRow, fault: &str) {
        let message = format!(
            "leaf {} of checkpoint {} of signer {} {fault}",
            leaf.position, leaf.number, leaf.signer
        );
        let begin = (leaf.stream.into(), leaf.first_seq);
        let table = Some("checkpoint_leaves");
        self.note(FindingKind::Checkpoint, table, Some(begin), message);
    }

    fn key(&mut self, stream: StreamId, fault: &SealKeyFault) {
        let message = match fault {
            SealKeyFault::Unknown(key) => format!(
                "the seals of stream {stream} are signed with {key}, which is not trusted: is it a gateway of yours?"
            ),
            SealKeyFault::Missing => format!(
                "the seals of stream {stream} are not signed, and no checkpoint from before seals were signed knows it"
            ),
        };
        let opening = Some((stream, 1));
        self.note(FindingKind::GatewayKey, Some(STREAMS), opening, message);
    }

    fn row(&mut self, fault: RowFault, stream: StreamId, seq: u64, table: Option<&str>) {
        let row = table.map_or_else(|| "event".to_owned(), |table| format!("row of {table}"));
        let message = format!("{row} {seq} of stream {stream} {}", fault.sentence());
        self.note(FindingKind::Row(fault), table, Some((stream, seq)), message);
    }
}

/// Verifies what is stored since a time.
pub async fn verify(store: &Store, period: &Period) -> Result<AuditReport, AuditError> {
    let mut verifier = Verifier {
        store,
        period,
        dead: dead_letters(store).await?,
        keys: StreamKeys::default(),
        looks_left: SETTLE_ATTEMPTS,
        report: AuditReport::default(),
    };
    let checkpoints = checkpoints(store).await?;
    verifier.check_checkpoints(&checkpoints)?;
    verifier.check_anchors(&checkpoints).await;
    verifier.check_roots(&checkpoints).await?;
    verifier.check_origins().await?;
    let streams = verifier.streams().await?;
    verifier.check_keys(&streams, &checkpoints).await?;
    for (stream, extent) in &streams {
        verifier.check_stream(*stream, extent).await?;
        verifier.report.streams += 1;
    }
    verifier.report.prove_until(streams.values());
    verifier.check_payloads().await?;
    verifier.check_drops().await?;
    verifier.check_rollups().await?;
    let mut report = verifier.report;
    report.proven = report.findings.is_empty();
    Ok(report)
}

/// Events that are in `dead_letters`, and so explain a gap.
async fn dead_letters(store: &Store) -> Result<BTreeSet<(StreamId, u64)>, AuditError> {
    let sql = format!(
        "SELECT DISTINCT toString(assumeNotNull(stream)), assumeNotNull(seq) FROM dead_letters \
         WHERE stream IS NOT NULL AND seq IS NOT NULL LIMIT {DEAD_LETTERS_KNOWN_MAX}"
    );
    let places: Vec<(String, u64)> = store.fetch(store.query(&sql)).await?;
    let parsed = places.into_iter();
    Ok(parsed
        .filter_map(|(stream, seq)| Some((stream.parse().ok()?, seq)))
        .collect())
}

/// How far the rows of a stream reach; all is 0 if it has none.
#[derive(Debug, Default, Row, Deserialize)]
struct Extent {
    #[serde(with = "clickhouse::serde::uuid")]
    stream: Uuid,
    last_seq: u64,
    first_ts: i64,
    last_ts: i64,
    /// Events up to here may be gone, or lie among such that are.
    old_seq: u64,
}

#[derive(Debug, Row, Deserialize)]
struct Dropped {
    #[serde(with = "clickhouse::serde::uuid")]
    stream: Uuid,
    seq: u64,
    events: u64,
    reason: String,
}

/// The head of the log of each signer after each of its checkpoints.
struct Heads<'a>(HashMap<&'a str, Vec<(TreeHead, &'a CheckpointRow)>>);

impl<'a> Heads<'a> {
    fn over(checkpoints: &'a [CheckpointRow]) -> Self {
        let mut trees: HashMap<&str, LogTree> = HashMap::new();
        let mut heads: HashMap<&str, Vec<_>> = HashMap::new();
        for row in checkpoints {
            let tree = trees.entry(&row.signer).or_default();
            tree.push(&row.hash);
            let of_signer = heads.entry(&row.signer).or_default();
            of_signer.push((tree.head(), row));
        }
        Self(heads)
    }

    /// The last checkpoint under a note, or why the note does not agree.
    fn row_under(&self, note: &str) -> Result<&'a CheckpointRow, String> {
        let mut fault = NoteFault::Unsigned;
        for (signer, heads) in &self.0 {
            match TreeHead::open(note, signer) {
                Ok(head) => return agreeing(&head, heads),
                Err(other) => fault = other,
            }
        }
        Err(match fault {
            NoteFault::Unsigned => "no signer of the checkpoints has signed it".to_owned(),
            NoteFault::Malformed => fault.to_string(),
        })
    }
}

fn agreeing<'a>(
    head: &TreeHead,
    heads: &[(TreeHead, &'a CheckpointRow)],
) -> Result<&'a CheckpointRow, String> {
    let TreeHead { size, .. } = head;
    let at = usize::try_from(*size).unwrap_or(usize::MAX);
    match at.checked_sub(1).and_then(|at| heads.get(at)) {
        Some((same, row)) if same == head => Ok(row),
        Some(_) => Err(format!(
            "its first {size} checkpoints are not those in the tables"
        )),
        None => Err(format!(
            "it has {size} checkpoints, and the tables have {}",
            heads.len()
        )),
    }
}

struct Verifier<'a> {
    store: &'a Store,
    period: &'a Period,
    dead: BTreeSet<(StreamId, u64)>,
    keys: StreamKeys,
    /// How often rows that may be on their way are looked for again, over all streams.
    looks_left: u32,
    report: AuditReport,
}

impl Verifier<'_> {
    /// Each checkpoint by itself and after the one before; and those that copies say were made.
    fn check_checkpoints(&mut self, checkpoints: &[CheckpointRow]) -> Result<(), AuditError> {
        let mut before: Option<&CheckpointRow> = None;
        for row in checkpoints {
            let same_signer = before.filter(|it| it.signer == row.signer);
            if let Some(fault) = row.fault(same_signer) {
                self.report.checkpoint(row, fault);
            }
            match (same_signer, self.report.signers.last_mut()) {
                (Some(_), Some(signer)) => {
                    signer.checkpoints += 1;
                    signer.last_hash = HEXLOWER.encode(&row.hash);
                }
                _ => self.meet_signer(row),
            }
            before = Some(row);
        }
        for copy in &self.period.copies {
            for row in read_export(copy)? {
                if !checkpoints.contains(&row) {
                    let fault = format!("it is in {}, and not in the table", copy.display());
                    self.report.checkpoint(&row, &fault);
                }
            }
        }
        Ok(())
    }

    fn meet_signer(&mut self, row: &CheckpointRow) {
        let trusted = &self.period.signers;
        if !trusted.is_empty() && !trusted.contains(&row.signer) {
            self.report
                .checkpoint(row, "its signer is not among those named");
        }
        self.report.signers.push(Signer {
            signer: row.signer.clone(),
            checkpoints: 1,
            last_hash: HEXLOWER.encode(&row.hash),
        });
    }

    /// What is written outside agrees with the checkpoints.
    async fn check_anchors(&mut self, checkpoints: &[CheckpointRow]) {
        let heads = Heads::over(checkpoints);
        for anchor in &self.period.anchors {
            let url = anchor.url();
            let notes = match anchor.read(self.period.since_us).await {
                Ok(notes) => notes,
                Err(error) => {
                    let message = error.to_string();
                    self.report.note(FindingKind::Anchor, None, None, message);
                    continue;
                }
            };
            let mut newest: Option<&CheckpointRow> = None;
            for note in &notes {
                match heads.row_under(&note.text) {
                    Ok(row) => newest = newest.into_iter().chain([row]).max_by_key(|row| row.ts),
                    Err(fault) => self.report.anchor(url, &note.name, &fault),
                }
            }
            self.report.anchors.push(AnchorSummary {
                url: url.to_owned(),
                notes: notes.len() as u64,
                checkpoint: newest.map(|row| row.number),
                anchored_until_us: newest.map(|row| row.ts),
            });
        }
    }

    /// The leaves of each checkpoint make its root.
    async fn check_roots(&mut self, checkpoints: &[CheckpointRow]) -> Result<(), AuditError> {
        let since = self.period.since_us;
        let mut open: Vec<&CheckpointRow> =
            checkpoints.iter().filter(|it| it.ts >= since).collect();
        while !open.is_empty() {
            let mut leaves = 0;
            let fits = open.iter().take_while(|it| {
                leaves += it.leaves;
                leaves <= LEAVES_AT_ONCE
            });
            let some: Vec<_> = open.drain(..fits.count().max(1)).collect();
            self.check_some_roots(&some).await?;
        }
        Ok(())
    }

    async fn check_some_roots(&mut self, some: &[&CheckpointRow]) -> Result<(), AuditError> {
        let time = |us: i64| format!("fromUnixTimestamp64Micro({us}, 'UTC')");
        let first = some.iter().map(|it| it.ts).min().unwrap_or_default();
        let last = some.iter().map(|it| it.ts).max().unwrap_or_default();
        let list = some
            .iter()
            .map(|it| format!("('{}', {}, {})", it.signer, it.number, time(it.ts)));
        let sql = format!(
            "SELECT DISTINCT ?fields FROM checkpoint_leaves WHERE ts BETWEEN {} AND {} \
             AND (signer, number, ts) IN ({}) ORDER BY signer, number, position",
            time(first),
            time(last),
            list.collect::<Vec<_>>().join(", ")
        );
        let leaves: Vec<LeafRow> = self.store.fetch(self.store.query(&sql)).await?;
        let mut by_checkpoint: HashMap<(&str, u64), Vec<Hash>> = HashMap::new();
        for leaf in &leaves {
            let own = by_checkpoint.entry((&leaf.signer, leaf.number));
            own.or_default().push(leaf.hash());
        }
        for row in some {
            let own = by_checkpoint.remove(&(&*row.signer, row.number));
            let own = own.unwrap_or_default();
            if own.len() as u64 != row.leaves || merkle_root(&own) != row.root {
                let fault = "its leaves are not those that were signed";
                self.report.checkpoint(row, fault);
            }
        }
        Ok(())
    }

    /// Streams with rows or leaves in the period.
    async fn streams(&self) -> Result<BTreeMap<StreamId, Extent>, AuditError> {
        let since = self.period.since_us;
        let safe_us = since.saturating_add(i64::try_from(REQUEST_MAX.as_micros()).unwrap_or(0));
        let events = of_all_tables(|table| format!("SELECT stream, seq, ts FROM {table}"));
        let sql = format!(
            "SELECT stream, max(seq) AS last_seq, toUnixTimestamp64Micro(min(ts)) AS first_ts, \
             toUnixTimestamp64Micro(max(ts)) AS last_ts, if(first_ts >= {since}, 0, \
             maxIf(seq, ts < fromUnixTimestamp64Micro({safe_us}, 'UTC'))) AS old_seq \
             FROM ({events}) GROUP BY stream \
             HAVING max(ts) >= fromUnixTimestamp64Micro({since}, 'UTC')"
        );
        let extents: Vec<Extent> = self.store.fetch(self.store.query(&sql)).await?;
        let entry = |extent: Extent| (extent.stream.into(), extent);
        let mut streams: BTreeMap<StreamId, Extent> = extents.into_iter().map(entry).collect();
        // A stream of which nothing is left is known by its leaves alone.
        let sealed = self.store.query(&format!(
            "SELECT DISTINCT toString(stream) FROM checkpoint_leaves \
             WHERE last_ts >= fromUnixTimestamp64Micro({since}, 'UTC')"
        ));
        for stream in self.store.fetch::<String>(sealed).await? {
            if let Ok(stream) = stream.parse() {
                streams.entry(stream).or_default();
            }
        }
        Ok(streams)
    }

    /// Rows that no writer of the log can have made: the first of each stream is named.
    async fn check_origins(&mut self) -> Result<(), AuditError> {
        let events = of_all_tables(|table| {
            format!("SELECT '{table}' AS of_table, stream, seq, ts FROM {table}")
        });
        let opened = "stream IN (SELECT stream FROM streams WHERE event = 'opened' AND seq = 1)";
        let ends = "(SELECT stream AS ended, max(seq) AS end_seq FROM streams \
                    WHERE event = 'closed' GROUP BY stream)";
        let unnumbered = format!("({events}) WHERE seq = 0");
        let unknown = format!("({events}) WHERE seq > 0 AND NOT {opened}");
        let behind =
            format!("({events}) AS e INNER JOIN {ends} AS z ON stream = ended WHERE seq > end_seq");
        self.name_strays(RowFault::Unnumbered, &unnumbered).await?;
        self.name_strays(RowFault::UnknownStream, &unknown).await?;
        self.name_strays(RowFault::BehindEnd, &behind).await
    }

    /// A batch reaches `streams` behind other tables, so what is found is looked for again.
    async fn name_strays(&mut self, fault: RowFault, from_where: &str) -> Result<(), AuditError> {
        let sql = format!(
            "SELECT toString(stream) AS of_stream, min(seq) AS first_seq, \
             argMin(of_table, (seq, of_table)) AS first_table FROM {from_where} \
             AND ts >= fromUnixTimestamp64Micro({}, 'UTC') GROUP BY stream ORDER BY stream \
             LIMIT {FINDINGS_MAX}",
            self.period.since_us
        );
        loop {
            let query = self.store.query(&sql);
            let strays: Vec<(String, u64, String)> = self.store.fetch(query).await?;
            if strays.is_empty() || self.looks_left == 0 || fault != RowFault::UnknownStream {
                for (stream, seq, table) in strays {
                    if let Ok(stream) = stream.parse() {
                        self.report.row(fault, stream, seq, Some(&table));
                    }
                }
                return Ok(());
            }
            self.looks_left -= 1;
            sleep(SETTLE_PAUSE).await;
        }
    }

    /// One stream's rows, in order: against its leaves, and behind them for gaps.
    async fn check_stream(&mut self, stream: StreamId, extent: &Extent) -> Result<(), AuditError> {
        let leaves = self.leaves(stream).await?.into_iter();
        let (leaves, unsound): (Vec<_>, Vec<_>) = leaves.partition(LeafRow::is_sound);
        for leaf in &unsound {
            self.report.leaf(leaf, "has no meaning");
        }
        self.check_chain(stream, &leaves);
        let seals = self.seals(stream).await?;
        let mut pieces: Vec<SealedPiece> = leaves
            .into_iter()
            .map(SealedPiece::from)
            .chain(seals)
            .collect();
        pieces.sort_by_key(|it| (it.version, it.first_seq, it.last_seq));
        let sealed = pieces.iter().map(|piece| piece.last_seq).max();
        let mut tail = UnsealedTail::of(stream, &pieces);
        pieces.retain(|piece| piece.last_ts >= self.period.since_us);
        self.check_pieces(stream, extent.first_ts, &pieces, &mut tail)
            .await?;
        let mut sealed = sealed.unwrap_or(0).max(extent.old_seq);
        while sealed < extent.last_seq {
            let mut last = extent.last_seq.min(sealed.saturating_add(EVENTS_AT_ONCE));
            let seqs = (sealed + 1, last);
            let rows = self.settled_rows(stream, extent.first_ts, seqs).await?;
            if rows.is_empty() {
                last = self.seq_behind(stream, last).await?.max(last + 1) - 1;
            }
            self.report.events += rows.len() as u64;
            self.report.unsealed(&rows);
            tail.meet(&rows);
            self.check_order(stream, sealed + 1, last, &rows);
            sealed = last;
        }
        self.check_tail(stream, &tail).await
    }

    /// A gateway that signs seals everything within a second, so only its last second can lack a seal:
    /// whoever takes its newest seals away may not put rows of his own in their place.
    async fn check_tail(
        &mut self,
        stream: StreamId,
        tail: &UnsealedTail,
    ) -> Result<(), AuditError> {
        let signs = self.keys.of(stream).is_some_and(|key| !key.is_empty());
        let Some((seq, table)) = tail.late.as_ref().filter(|_| signs) else {
            return Ok(());
        };
        let later =
            format!("SELECT count() FROM {SEALS} WHERE stream = '{stream}' AND seq > {seq}");
        loop {
            let seals: Vec<u64> = self.store.fetch(self.store.query(&later)).await?;
            if seals.iter().any(|seals| *seals > 0) {
                return Ok(());
            }
            if self.looks_left == 0 {
                let fault = RowFault::Unsealed;
                self.report.row(fault, stream, *seq, Some(&**table));
                return Ok(());
            }
            self.looks_left -= 1;
            sleep(SETTLE_PAUSE).await;
        }
    }

    /// Whose keys have signed, and whether they are those that should have.
    async fn check_keys(
        &mut self,
        streams: &BTreeMap<StreamId, Extent>,
        checkpoints: &[CheckpointRow],
    ) -> Result<(), AuditError> {
        let Period {
            since_us,
            gateway_keys: named,
            own_gateway_key: own,
            ..
        } = self.period;
        let sql = format!(
            "SELECT DISTINCT toString(stream), seal_key FROM {STREAMS} WHERE event = 'opened' AND seq = 1"
        );
        let opened: Vec<(String, String)> = self.store.fetch(self.store.query(&sql)).await?;
        let of_period = opened.into_iter().filter_map(|(stream, key)| {
            let stream = stream.parse().ok()?;
            streams.contains_key(&stream).then_some((stream, key))
        });
        self.keys = StreamKeys::new(of_period.collect(), named.iter().chain(own).cloned());
        self.report.gateway_keys = self.keys.summary();
        if !named.is_empty() && !streams.is_empty() && self.keys.trusted_since_us().is_none() {
            let message = "no stream of the period is signed with a trusted key".to_owned();
            self.report
                .note(FindingKind::GatewayKey, None, None, message);
        }
        let first_checkpoint = checkpoints.iter().map(|it| it.ts).min();
        let mut vouched = HashSet::new();
        if let Some(until) = self.keys.vouched_until_us(first_checkpoint) {
            let sql = format!(
                "SELECT DISTINCT toString(stream) FROM checkpoint_leaves \
                 WHERE ts BETWEEN fromUnixTimestamp64Micro({since_us}, 'UTC') \
                 AND fromUnixTimestamp64Micro({until}, 'UTC') \
                 AND (signer, number, ts) IN (SELECT signer, number, ts FROM checkpoints)"
            );
            let found: Vec<String> = self.store.fetch(self.store.query(&sql)).await?;
            vouched = found.iter().filter_map(|it| it.parse().ok()).collect();
        }
        for (stream, fault) in self.keys.faults(&vouched) {
            self.report.key(stream, &fault);
        }
        Ok(())
    }

    async fn leaves(&self, stream: StreamId) -> Result<Vec<LeafRow>, AuditError> {
        let sql = format!(
            "SELECT DISTINCT ?fields FROM checkpoint_leaves WHERE stream = '{stream}' \
             AND (signer, number, ts) IN (SELECT signer, number, ts FROM checkpoints) \
             ORDER BY first_seq, last_seq"
        );
        Ok(self.store.fetch(self.store.query(&sql)).await?)
    }

    /// Each leaf begins where another ended. Two ingestors may have sealed the same piece when one
    /// took over from the other, so leaves may overlap.
    fn check_chain(&mut self, stream: StreamId, leaves: &[LeafRow]) {
        let mut ends = HashMap::from([(0, origin(stream))]);
        let mut sealed = None;
        for leaf in leaves {
            match ends.get(&(leaf.first_seq - 1)) {
                Some(end) if *end == leaf.chain_before => {}
                // What was before has been deleted by the retention.
                None if sealed.is_none() => {}
                _ => self.report.leaf(leaf, "does not follow the one before it"),
            }
            ends.insert(leaf.last_seq, leaf.chain_after);
            sealed = sealed.max(Some(leaf.last_seq));
        }
    }

    /// What the stream's writer says that it wrote.
    async fn seals(&mut self, stream: StreamId) -> Result<Vec<SealedPiece>, AuditError> {
        let sql = format!(
            "SELECT ?fields FROM {SEALS} WHERE stream = '{stream}' ORDER BY first_seq, seq"
        );
        let rows: Vec<StoredSeal> = self.store.fetch(self.store.query(&sql)).await?;
        let key = self.keys.of(stream).map(str::to_owned);
        let mut pieces: Vec<SealedPiece> = Vec::new();
        for row in rows {
            if key.as_ref().is_some_and(|key| !row.is_signed(stream, key)) {
                let table = Some(SEALS);
                self.report
                    .row(RowFault::BadSignature, stream, row.seq, table);
            }
            if key.as_ref().is_none_or(String::is_empty) && row.ts >= self.period.since_us {
                self.report.unsigned_events += row.fingerprints.len() as u64;
            }
            match row.piece(stream, pieces.last()) {
                Some(piece) => pieces.push(piece),
                None => {
                    let table = Some(SEALS);
                    self.report.row(RowFault::Edited, stream, row.seq, table);
                }
            }
        }
        Ok(pieces)
    }

    /// Rows against what was sealed, as many at once as make a question worth asking.
    async fn check_pieces(
        &mut self,
        stream: StreamId,
        since_us: i64,
        pieces: &[SealedPiece],
        tail: &mut UnsealedTail,
    ) -> Result<(), AuditError> {
        let mut open = pieces;
        let by_writer = SealedByWriter::of(pieces);
        let mut counted = 0;
        let mut named = BTreeSet::new();
        while let [first, ..] = open {
            let is_near = |piece: &&SealedPiece| {
                piece.version == first.version && piece.last_seq - first.first_seq < EVENTS_AT_ONCE
            };
            let (some, rest) = open.split_at(open.iter().take_while(is_near).count().max(1));
            open = rest;
            let last = some.iter().map(|piece| piece.last_seq).max();
            let last = last.unwrap_or(first.last_seq);
            if !(1..=VERSION).contains(&first.version) {
                return Err(AuditError::LaterVersion(first.version));
            }
            let rows = self.rows_of(stream, since_us, some, last).await?;
            let new = rows.iter().filter(|row| row.seq > counted);
            self.report.events += new.clone().count() as u64;
            let calls = new.clone().filter(|row| row.table == REQUESTS);
            self.report.sealed_calls += calls.count() as u64;
            let others = new.filter(|row| !by_writer.holds(row));
            self.report.checkpoint_only_events += others.count() as u64;
            counted = counted.max(last);
            tail.meet(&rows);
            for piece in some {
                let begin = rows.partition_point(|row| row.seq < piece.first_seq);
                let end = rows.partition_point(|row| row.seq <= piece.last_seq);
                self.check_piece(stream, piece, &rows[begin..end], &mut named);
            }
        }
        Ok(())
    }

    /// The rows of pieces up to `last`. A batch of which the store has not kept all is stored again, and
    /// the seal may be there before.
    async fn rows_of(
        &mut self,
        stream: StreamId,
        since_us: i64,
        pieces: &[SealedPiece],
        last: u64,
    ) -> Result<Vec<StoredRow>, AuditError> {
        let (version, first) = pieces
            .first()
            .map_or((0, last), |it| (it.version, it.first_seq));
        loop {
            let rows = stored_rows(self.store, version, stream, (first, last), since_us).await?;
            let mut own = pieces.iter().filter(|piece| piece.is_of_writer);
            let since = self.period.since_us;
            let is_whole = own.all(|piece| {
                let may_be_gone =
                    |seq| piece.first_ts < since || self.dead.contains(&(stream, seq));
                let begin = rows.partition_point(|row| row.seq < piece.first_seq);
                has_all(&rows[begin..], piece.first_seq, piece.last_seq, may_be_gone)
            });
            if is_whole || self.looks_left == 0 {
                return Ok(rows);
            }
            self.looks_left -= 1;
            sleep(SETTLE_PAUSE).await;
        }
    }

    /// The rows of a piece against what was sealed. The chain decides; the fingerprints name the row,
    /// each once, whoever sealed it.
    fn check_piece(
        &mut self,
        stream: StreamId,
        piece: &SealedPiece,
        rows: &[StoredRow],
        named: &mut BTreeSet<u64>,
    ) {
        let may_be_gone = piece.first_ts < self.period.since_us;
        let mut is_faulty = false;
        let mut rest = rows;
        for (seq, then) in (piece.first_seq..).zip(&piece.fingerprints) {
            let (here, behind) = rest.split_at(rest.partition_point(|row| row.seq <= seq));
            rest = behind;
            let fault = match (here, *then) {
                ([], 0) => None,
                ([], _) if may_be_gone => continue,
                ([], _) if self.dead.contains(&(stream, seq)) => Some(RowFault::DeadLetter),
                ([], _) => Some(RowFault::Missing),
                ([_], 0) => Some(RowFault::Added),
                ([row], then) if fingerprint(&row.hash) != then => Some(RowFault::Edited),
                ([_], _) => continue,
                _ => Some(RowFault::Doubled),
            };
            is_faulty = true;
            if named.insert(seq) {
                let table = here.first().map(|row| &*row.table);
                match fault {
                    Some(fault) => self.report.row(fault, stream, seq, table),
                    None => self.gap(stream, seq, seq),
                }
            }
        }
        let Some(before) = piece.chain_before else {
            return;
        };
        let is_changed = chain_after(before, rows) != piece.chain_after;
        if is_changed && !may_be_gone && !is_faulty && named.insert(piece.first_seq) {
            let seq = piece.first_seq;
            self.report.row(RowFault::Edited, stream, seq, None);
        }
    }

    /// Rows behind the last leaf. Numbers that are missing there get some time to come.
    async fn settled_rows(
        &mut self,
        stream: StreamId,
        since_us: i64,
        (first, last): (u64, u64),
    ) -> Result<Vec<StoredRow>, AuditError> {
        loop {
            let seqs = (first, last);
            let rows = stored_rows(self.store, VERSION, stream, seqs, since_us).await?;
            let is_whole = has_all(&rows, first, last, |seq| self.dead.contains(&(stream, seq)));
            if is_whole || self.looks_left == 0 {
                return Ok(rows);
            }
            self.looks_left -= 1;
            sleep(SETTLE_PAUSE).await;
        }
    }

    /// Rows that are under no checkpoint: each seq once.
    fn check_order(&mut self, stream: StreamId, first: u64, last: u64, rows: &[StoredRow]) {
        let mut expected = first;
        for row in rows {
            if row.seq < expected {
                let table = Some(&*row.table);
                self.report.row(RowFault::Doubled, stream, row.seq, table);
            }
            if row.seq > expected {
                self.gap(stream, expected, row.seq - 1);
            }
            expected = row.seq.saturating_add(1);
        }
        if expected <= last {
            self.gap(stream, expected, last);
        }
    }

    /// The first number behind one.
    async fn seq_behind(&self, stream: StreamId, seq: u64) -> Result<u64, AuditError> {
        let firsts = of_all_tables(|table| {
            format!(
                "SELECT min(seq) AS first_seq FROM {table} \
                 WHERE stream = '{stream}' AND seq > {seq}"
            )
        });
        // The minimum of nothing is 0.
        let sql = format!("SELECT minIf(first_seq, first_seq > 0) FROM ({firsts})");
        let seqs: Vec<u64> = self.store.fetch(self.store.query(&sql)).await?;
        Ok(seqs.into_iter().sum())
    }

    /// Numbers that are not there: those with a dead letter, and runs of those without.
    fn gap(&mut self, stream: StreamId, first: u64, last: u64) {
        let mut next = first;
        let dead = self.dead.range((stream, first)..=(stream, last));
        for (_, seq) in dead.copied().collect::<Vec<_>>() {
            if next < seq {
                self.report.gap(stream, next, seq - 1);
            }
            self.report.row(RowFault::DeadLetter, stream, seq, None);
            next = seq.saturating_add(1);
        }
        if next <= last {
            self.report.gap(stream, next, last);
        }
    }

    /// The texts of payloads against the hash that their rows are sealed with, where they are not
    /// erased.
    async fn check_payloads(&mut self) -> Result<(), AuditError> {
        const ERASED: &str = "(empty(salt) AND request = '' AND answer = '')";
        let since = self.period.since_us;
        let of_period = format!("ts >= fromUnixTimestamp64Micro({since}, 'UTC')");
        let sql = format!("SELECT count(), countIf({ERASED}) FROM {PAYLOADS} WHERE {of_period}");
        let counts = self.store.fetch::<(u64, u64)>(self.store.query(&sql));
        for (payloads, erased) in counts.await? {
            self.report.payloads = payloads;
            self.report.payloads_erased = erased;
        }
        let sql = format!(
            "SELECT stream, seq FROM {PAYLOADS} WHERE {of_period} AND NOT {ERASED} \
             AND content_hash != lower(hex(SHA256(concat(toString(salt), ':', \
             toString(length(request)), ':', request, answer)))) ORDER BY stream, seq LIMIT {FINDINGS_MAX}"
        );
        let edited: Vec<StreamSeq> = self.store.fetch(self.store.query(&sql)).await?;
        for EventId { stream, seq } in edited.into_iter().map(EventId::from) {
            let table = Some(PAYLOADS);
            self.report.row(RowFault::Edited, stream, seq, table);
        }
        Ok(())
    }

    /// Events that were never written, because the journal was full and its policy is drop.
    async fn check_drops(&mut self) -> Result<(), AuditError> {
        let sql = format!(
            "SELECT DISTINCT stream, seq, ifNull(events, 0) AS events, toString(reason) AS reason \
             FROM streams WHERE event = 'dropped' \
             AND ts >= fromUnixTimestamp64Micro({}, 'UTC') ORDER BY stream, seq",
            self.period.since_us
        );
        for dropped in self.store.fetch::<Dropped>(self.store.query(&sql)).await? {
            let stream = StreamId::from(dropped.stream);
            let message = format!(
                "stream {stream} says that {} events were never written: {}",
                dropped.events, dropped.reason
            );
            let place = Some((stream, dropped.seq));
            let table = Some("streams");
            self.report
                .note(FindingKind::Dropped, table, place, message);
        }
        Ok(())
    }

    async fn check_rollups(&mut self) -> Result<(), AuditError> {
        for view in rollups::VIEWS {
            let compared = rollups::compare(self.store, view, self.period.since_us).await?;
            self.report.rollup_rows += compared.rows;
            if !compared.is_equal {
                let name = view.name;
                let message =
                    format!("{name} is not the sum of requests: run `weir rollups rebuild`");
                self.report
                    .note(FindingKind::Rollup, Some(name), None, message);
            }
        }
        for view in rollups::PLAIN_VIEWS {
            if !rollups::is_as_defined(self.store, view, self.period.since_us).await? {
                let message = format!("{view} does not say what its definition makes of the rows");
                self.report
                    .note(FindingKind::Rollup, Some(view), None, message);
            }
        }
        Ok(())
    }
}

/// Whether each number is present or explained.
fn has_all(rows: &[StoredRow], first: u64, last: u64, is_explained: impl Fn(u64) -> bool) -> bool {
    let mut expected = first;
    for row in rows.iter().take_while(|row| row.seq <= last) {
        if (expected..row.seq).any(|seq| !is_explained(seq)) {
            return false;
        }
        expected = expected.max(row.seq + 1);
    }
    (expected..=last).all(is_explained)
}
