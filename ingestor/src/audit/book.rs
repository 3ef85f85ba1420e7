//! Where checkpoints are written down: in the tables, and in a file for others to keep a copy of.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use clickhouse::Row;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use weir_store::{Store, StoreError};

use super::sign::is_signed;
use crate::caps::EXPORT_TAIL_BYTES;
use crate::hashes::chain::{Hash, hash};

/// The file that every checkpoint is appended to, one JSON object a line, in the audit directory.
pub const EXPORT_FILE: &str = "checkpoints.jsonl";

/// One row of `weir.checkpoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Row, Serialize, Deserialize)]
pub(crate) struct CheckpointRow {
    pub(crate) signer: String,
    pub(crate) number: u64,
    pub(crate) ts: i64,
    pub(crate) leaves: u64,
    pub(crate) root: Hash,
    pub(crate) previous: Hash,
    pub(crate) hash: Hash,
    pub(crate) signature: String,
}

impl CheckpointRow {
    /// The hash of everything above it: what is signed.
    pub(crate) fn hash_of_content(&self) -> Hash {
        hash(&[
            b"weir checkpoint v1",
            &hash(&[self.signer.as_bytes()]),
            &self.number.to_le_bytes(),
            &self.ts.to_le_bytes(),
            &self.leaves.to_le_bytes(),
            &self.root,
            &self.previous,
        ])
    }

    /// What is wrong with it by itself, or as the one after `before`.
    pub(crate) fn fault(&self, before: Option<&Self>) -> Option<&'static str> {
        let (number, previous) = before.map_or((1, [0; 32]), |it| (it.number + 1, it.hash));
        if self.hash_of_content() != self.hash {
            return Some("its hash is not that of its content");
        }
        if !is_signed(&self.signer, &self.hash, &self.signature) {
            return Some("its signature is not the signer's");
        }
        if self.number != number {
            return Some("the one before it is missing");
        }
        (self.previous != previous).then_some("it does not follow the one before it")
    }
}

/// One row of `weir.checkpoint_leaves`: a piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Row, Serialize, Deserialize)]
pub(crate) struct LeafRow {
    pub(crate) signer: String,
    pub(crate) number: u64,
    pub(crate) position: u64,
    pub(crate) ts: i64,
    /// Which columns the rows' hashes are over.
    pub(crate) version: u8,
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) stream: Uuid,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    /// Oldest and newest time of a row, in microseconds since 1970.
    pub(crate) first_ts: i64,
    pub(crate) last_ts: i64,
    pub(crate) chain_before: Hash,
    pub(crate) chain_after: Hash,
    pub(crate) fingerprints: Vec<u64>,
}

impl LeafRow {
    /// Whether its numbers can be what they say.
    pub(crate) fn is_sound(&self) -> bool {
        let events = self.last_seq.checked_sub(self.first_seq);
        self.first_seq > 0 && events.is_some_and(|it| it + 1 == self.fingerprints.len() as u64)
    }

    /// Its hash in the Merkle tree.
    pub(crate) fn hash(&self) -> Hash {
        let fingerprints = self.fingerprints.iter().flat_map(|it| it.to_le_bytes());
        hash(&[
            &[0, self.version],
            self.stream.as_bytes(),
            &self.first_seq.to_le_bytes(),
            &self.last_seq.to_le_bytes(),
            &self.first_ts.to_le_bytes(),
            &self.last_ts.to_le_bytes(),
            &self.chain_before,
            &self.chain_after,
            &hash(&[&fingerprints.collect::<Vec<_>>()]),
        ])
    }
}

/// All checkpoints, each signer's in order.
pub(crate) async fn checkpoints(store: &Store) -> Result<Vec<CheckpointRow>, StoreError> {
    let sql = "SELECT DISTINCT ?fields FROM checkpoints ORDER BY signer, number";
    store.fetch(store.query(sql)).await
}

/// The last checkpoint of a signer.
pub(crate) async fn last_checkpoint(
    store: &Store,
    signer: &str,
) -> Result<Option<CheckpointRow>, StoreError> {
    let sql = "SELECT ?fields FROM checkpoints WHERE signer = ? ORDER BY number DESC LIMIT 1";
    let rows = store.fetch(store.query(sql).bind(signer)).await?;
    Ok(rows.into_iter().next())
}

/// A checkpoint as a line of the export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExportLine {
    pub(crate) signer: String,
    pub(crate) number: u64,
    pub(crate) ts_us: i64,
    pub(crate) leaves: u64,
    pub(crate) root: String,
    pub(crate) previous: String,
    pub(crate) hash: String,
    pub(crate) signature: String,
}

impl From<&CheckpointRow> for ExportLine {
    fn from(row: &CheckpointRow) -> Self {
        Self {
            signer: row.signer.clone(),
            number: row.number,
            ts_us: row.ts,
            leaves: row.leaves,
            root: HEXLOWER.encode(&row.root),
            previous: HEXLOWER.encode(&row.previous),
            hash: HEXLOWER.encode(&row.hash),
            signature: row.signature.clone(),
        }
    }
}

impl ExportLine {
    fn row(&self) -> Option<CheckpointRow> {
        let hash =
            |text: &str| Hash::try_from(HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?).ok();
        Some(CheckpointRow {
            signer: self.signer.clone(),
            number: self.number,
            ts: self.ts_us,
            leaves: self.leaves,
            root: hash(&self.root)?,
            previous: hash(&self.previous)?,
            hash: hash(&self.hash)?,
            signature: self.signature.clone(),
        })
    }
}

/// The export cannot be written, read or believed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("{doing} {}: {source}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        path: PathBuf,
        line: usize,
        problem: String,
    },
}

/// Appends a checkpoint to the export, if it is not its last line already.
pub(crate) fn export(dir: &Path, row: &CheckpointRow) -> Result<(), ExportError> {
    let path = dir.join(EXPORT_FILE);
    let line = serde_json::to_string(&ExportLine::from(row)).unwrap_or_default() + "\n";
    append_line(&path, &line).map_err(|source| ExportError::File {
        doing: "append to",
        path,
        source,
    })
}

/// A crash may have left part of a line at the end, which is cut off.
fn append_line(path: &Path, line: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    let mut file = options.open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(EXPORT_TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let whole = tail
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    if tail[..whole].ends_with(line.as_bytes()) {
        return Ok(());
    }
    let end = length - (tail.len() - whole) as u64;
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end))?;
    file.write_all(line.as_bytes())?;
    file.sync_all()
}

/// Checks an exported file by itself, offline: hashes, signatures, order. Gives each signer with its
/// last checkpoint's number and hash, in hex.
pub fn check_export(path: &Path) -> Result<Vec<(String, u64, String)>, ExportError> {
    let rows = read_export(path)?;
    let mut last: Vec<CheckpointRow> = Vec::new();
    for (line, row) in (1..).zip(rows) {
        let known = last.iter().position(|it| it.signer == row.signer);
        if let Some(fault) = row.fault(known.map(|at| &last[at])) {
            let problem = format!("checkpoint {}: {fault}", row.number);
            let path = path.to_owned();
            return Err(ExportError::Line {
                path,
                line,
                problem,
            });
        }
        match known {
            Some(at) => last[at] = row,
            None => last.push(row),
        }
    }
    let told = |row: CheckpointRow| (row.signer, row.number, HEXLOWER.encode(&row.hash));
    Ok(last.into_iter().map(told).collect())
}

pub(crate) fn read_export(path: &Path) -> Result<Vec<CheckpointRow>, ExportError> {
    let text = fs::read_to_string(path).map_err(|source| ExportError::File {
        doing: "read",
        path: path.to_owned(),
        source,
    })?;
    let row = |(line, text): (usize, &str)| {
        let parsed: Result<ExportLine, _> = serde_json::from_str(text);
        let row = parsed.map_err(|error| error.to_string());
        let row = row.and_then(|it| it.row().ok_or_else(|| "a hash is no hash".to_owned()));
        row.map_err(|problem| ExportError::Line {
            path: path.to_owned(),
            line,
            problem,
        })
    };
    (1..).zip(text.lines()).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u64) -> CheckpointRow {
        let hash = [7; 32];
        CheckpointRow {
            signer: "ab".to_owned(),
            number,
            ts: 1,
            leaves: 1,
            root: hash,
            previous: hash,
            hash,
            signature: "cd".to_owned(),
        }
    }

    #[test]
    fn a_torn_line_at_the_end_is_cut_off_and_no_line_is_written_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(EXPORT_FILE);
        export(dir.path(), &row(1)).unwrap();
        export(dir.path(), &row(1)).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, whole.clone() + &whole[..40]).unwrap();
        export(dir.path(), &row(2)).unwrap();
        assert_eq!(read_export(&path).unwrap(), [row(1), row(2)]);
    }
}
