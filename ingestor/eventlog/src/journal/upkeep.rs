//! The periodic work: measure the directory, notice that a full disk has space again, seal old
//! segments, record dropped events.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

use super::Core;
use crate::caps::{ABANDONED, DISK_PROBE_BYTES, UPKEEP};
use crate::clock;
use crate::files::{self, STREAM_LOCK};
use crate::thread::StopSignal;

pub(super) fn run(core: &Core, stop: &StopSignal) {
    let mut pause = UPKEEP;
    while stop.sleep(pause) {
        let begun = Instant::now();
        // Without a descriptor to list with, the last measure stands.
        if let Ok(bytes) = measure(&core.options.dir) {
            core.capacity.set_bytes(bytes);
        }
        if core.capacity.disk_is_full() && has_room(&core.options.dir) {
            core.capacity.set_disk_full(false);
        }
        for stream in core.open_streams() {
            stream.upkeep(begun);
        }
        // A huge backlog of streams takes long to measure; it must not take a core.
        pause = UPKEEP.max(begun.elapsed() * 20);
    }
}

/// Bytes of all segments in the journal. Files that vanish meanwhile count nothing.
pub(super) fn measure(journal: &Path) -> io::Result<u64> {
    let streams = files::list_streams(journal).map_err(|error| error.source)?;
    let mut bytes = 0;
    for stream in streams {
        let listed = fs::read_dir(files::stream_dir(journal, stream));
        let Some(entries) = files::if_exists(listed)? else {
            continue;
        };
        let lengths = entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
        bytes += lengths.sum::<u64>();
    }
    Ok(bytes)
}

/// Whether the disk takes a little again.
fn has_room(journal: &Path) -> bool {
    let probe = journal.join(".probe");
    let written = fs::write(&probe, vec![0; DISK_PROBE_BYTES]);
    let _ = fs::remove_file(&probe);
    written.is_ok()
}

/// Removes what is left of streams whose creation a crash cut short.
pub(super) fn remove_abandoned(journal: &Path) {
    let unfinished = files::list_prefixed(journal, files::UNFINISHED).unwrap_or_default();
    for path in unfinished.iter().filter(|path| is_old(path)) {
        let in_use =
            fs::File::open(path.join(STREAM_LOCK)).is_ok_and(|lock| lock.try_lock().is_err());
        if !in_use {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Creating a stream takes milliseconds; one that is unfinished after an hour is abandoned.
fn is_old(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| clock::is_older(at, ABANDONED))
}
