//! The writing end of the journal.
//!
//! A process opens the [`Journal`] once and a stream of its own for each thread that writes. The
//! [`StreamWriter`] is the hot path; everything slow happens on two threads beside it: `sync` calls
//! fsync, `upkeep` measures the directory, seals segments that have grown old and looks for room.

mod durable;
mod options;
mod recover;
mod room;
mod segment;
mod stats;
mod stream;
mod sync;
mod upkeep;

use std::path::Path;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

pub use durable::{Appended, NotDurable};
pub use options::{Durability, InvalidOptions, JournalOptions, WhenFull};
pub use recover::last_seq;
pub(crate) use recover::{Outcome, recover, recover_unmarked};
pub use room::JournalFull;
pub use stats::{JournalStats, Latency};
pub use stream::{AppendError, LockedStream, StreamWriter};

use crate::files::{self, FileError};
use crate::thread::{StopSignal, StoppableThread};
use room::Room;
use stats::Counters;
use stream::Stream;
use sync::SyncQueue;

/// The journal could not be opened, or a stream in it.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(transparent)]
    Options(#[from] InvalidOptions),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("start thread {name}: {source}")]
    Thread {
        name: &'static str,
        source: std::io::Error,
    },
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// An open journal directory. Cheap to clone; the last of its handles stops its threads.
#[derive(Clone, Debug)]
pub struct Journal {
    alive: Arc<Alive>,
}

/// What the writers and the threads share.
#[derive(Debug)]
pub(crate) struct Core {
    options: JournalOptions,
    room: Room,
    counters: Counters,
    streams: Mutex<Vec<Weak<Stream>>>,
    sync_queue: SyncQueue,
}

/// Keeps the threads running while anyone holds the journal or one of its streams.
#[derive(Debug)]
pub(crate) struct Alive {
    core: Arc<Core>,
    _threads: [StoppableThread; 2],
}

impl Journal {
    /// Opens the directory, makes it if need be, and ends the streams of writers that died: their
    /// torn tails are cut and each gets its `StreamClosed`.
    ///
    /// A stream that can't be recovered now is left as it is and tried again by the reader; it
    /// keeps no one from writing.
    pub fn open(options: JournalOptions) -> Result<Self, JournalError> {
        options.check()?;
        files::create_dir(&options.dir)?;
        upkeep::remove_abandoned(&options.dir);

        let core = Arc::new(Core {
            room: Room::new(options.total_bytes_max, options.when_full),
            counters: Counters::default(),
            streams: Mutex::default(),
            sync_queue: SyncQueue::default(),
            options,
        });
        core.recover_dead_streams()?;
        core.room.set_bytes(upkeep::measure(&core.options.dir));

        let threads = [
            core.start("journal-sync", sync::run)?,
            core.start("journal-upkeep", upkeep::run)?,
        ];
        let alive = Alive {
            core,
            _threads: threads,
        };
        Ok(Self {
            alive: Arc::new(alive),
        })
    }

    /// Opens a new stream for one writing thread. Its first event, `StreamOpened`, is written.
    pub fn open_stream(&self, shard: u32) -> Result<StreamWriter, JournalError> {
        StreamWriter::open(&self.alive, shard)
    }

    /// Whether a request may come in that will want to append events. Two atomic loads.
    ///
    /// With [`WhenFull::Drop`] the answer is always yes.
    pub fn admit(&self) -> Result<(), JournalFull> {
        self.alive.core.room.admit()
    }

    #[must_use]
    pub fn stats(&self) -> JournalStats {
        self.alive.core.stats()
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.alive.core.options.dir
    }
}

impl Core {
    fn start(
        self: &Arc<Self>,
        name: &'static str,
        run: fn(&Self, &StopSignal),
    ) -> Result<StoppableThread, JournalError> {
        let core = Arc::clone(self);
        StoppableThread::start(name, move |stop| run(&core, &stop))
            .map_err(|source| JournalError::Thread { name, source })
    }

    fn recover_dead_streams(&self) -> Result<(), FileError> {
        for stream in files::list_streams(&self.options.dir)? {
            match recover(&self.options.dir, stream) {
                Ok(Outcome::Recovered { torn_bytes, .. }) => {
                    self.counters.count_recovered(torn_bytes);
                }
                Ok(Outcome::Alive | Outcome::Closed | Outcome::Empty) => {}
                Err(error) => {
                    tracing::error!(%stream, %error, "stream of a dead writer not recovered yet");
                }
            }
        }
        Ok(())
    }

    /// The open streams. Those that are gone are forgotten.
    fn open_streams(&self) -> Vec<Arc<Stream>> {
        let mut streams = self.streams.lock();
        streams.retain(|stream| stream.strong_count() > 0);
        streams.iter().filter_map(Weak::upgrade).collect()
    }

    fn stats(&self) -> JournalStats {
        let mut stats = self.counters.snapshot();
        stats.bytes_on_disk = self.room.bytes();
        stats.bytes_max = self.options.total_bytes_max;
        stats.disk_full = self.room.disk_is_full();
        for stream in self.open_streams() {
            stream.add_to(&mut stats);
        }
        stats
    }
}
