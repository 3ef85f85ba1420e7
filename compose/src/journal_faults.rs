//! What is wrong with the journal of the gateway here: bytes that are damaged, and events that are gone.

use std::collections::HashMap;
use std::path::Path;

use weir_eventlog::{JournalFault, inspect_journal};
use weir_governance::ledger::{ShortStream, short_streams};
use weir_schemas::StreamId;

/// Each fault in a sentence. `ends`: the last events of streams that are stored whole, as far as that
/// is known.
pub(crate) fn journal_faults(
    data_dir: &Path,
    ends: HashMap<StreamId, u64>,
) -> anyhow::Result<Vec<String>> {
    let journal = data_dir.join("journal");
    let spend = data_dir.join("spend");
    let mut faults = Vec::new();
    if journal.is_dir() {
        for JournalFault { path, offset, what } in inspect_journal(&journal)? {
            faults.push(format!("{}, byte {offset}: {what}", path.display()));
        }
    }
    if spend.is_dir() {
        for ShortStream { stream, requests } in short_streams(&spend, &journal, ends)? {
            let path = journal.join(stream);
            faults.push(format!(
                "{}: it ends before {requests} requests that were charged",
                path.display()
            ));
        }
    }
    Ok(faults)
}
