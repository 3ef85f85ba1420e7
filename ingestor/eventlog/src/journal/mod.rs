//! The writing end of the journal.
//!
//! A process opens the [`Journal`] once and a stream of its own for each thread that writes. The
//! [`StreamWriter`] is the hot path; everything slow happens on threads beside it: `sync` calls
//! fsync, `upkeep` measures the directory, seals old segments and notices when a full disk has space again.
//! A third, `seal`, writes hashes of what was written, if [`JournalOptions::chaining`] says how.

mod append;
mod capacity;
mod options;
mod recover;
mod seal;
mod segment;
mod stats;
mod stream;
mod sync;
mod upkeep;

use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Thread;

use parking_lot::Mutex;

pub use append::{AppendError, Appended, NotDurable};
pub use capacity::JournalFull;
pub use options::{Durability, InvalidOptions, JournalOptions, WhenFull};
pub use recover::last_seq;
pub(crate) use recover::{Recovery, recover, recover_unmarked};
pub use seal::{ChainHash, Chaining, SealSigner};
pub use stats::{JournalStats, Latency};
pub use stream::{LockedStream, StreamWriter};

use crate::files::{self, FileError};
use crate::thread::{StopSignal, StoppableThread};
use capacity::Capacity;
use stream::OpenStream;
use sync::SyncQueue;

/// The journal could not be opened, or a stream in it.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(transparent)]
    Options(#[from] InvalidOptions),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("start the thread {name}: {source}")]
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
    core: Arc<Core>,
    threads: Arc<Threads>,
}

/// They run while the journal or one of its streams is held.
type Threads = Vec<StoppableThread>;

/// What the writers and the threads share.
#[derive(Debug)]
pub(crate) struct Core {
    options: JournalOptions,
    capacity: Capacity,
    /// What is counted beside the hot path, and the sums of streams that are gone.
    counters: Mutex<JournalStats>,
    streams: Mutex<Vec<Weak<OpenStream>>>,
    sync_queue: SyncQueue,
    /// The thread that seals, once it runs.
    sealer: OnceLock<Thread>,
}

impl Journal {
    /// Opens the directory, creating it if it is missing, and ends the streams of writers that died:
    /// their torn tails are cut off and each gets its `StreamClosed`.
    ///
    /// A stream that can't be recovered now is left as it is; the reader tries again. It keeps no
    /// writer from opening the journal.
    pub fn open(options: JournalOptions) -> Result<Self, JournalError> {
        options.check()?;
        files::create_dir(&options.dir)?;
        upkeep::remove_abandoned(&options.dir);

        let core = Arc::new(Core {
            capacity: Capacity::new(options.total_bytes_max, options.when_full),
            counters: Mutex::default(),
            streams: Mutex::default(),
            sync_queue: SyncQueue::default(),
            sealer: OnceLock::new(),
            options,
        });
        core.recover_dead_streams()?;
        core.capacity
            .set_bytes(upkeep::measure(&core.options.dir).unwrap_or_default());

        let mut threads = vec![
            core.start("journal-sync", sync::run)?,
            core.start("journal-upkeep", upkeep::run)?,
        ];
        if core.options.chaining.is_some() {
            threads.push(core.start("journal-seal", seal::run)?);
        }
        Ok(Self {
            core,
            threads: Arc::new(threads),
        })
    }

    /// Opens a new stream for one writing thread. Its first event, `StreamOpened`, is written.
    pub fn open_stream(&self, shard: u16) -> Result<StreamWriter, JournalError> {
        let stream = Arc::new(OpenStream::open(&self.core, shard)?);
        self.core.streams.lock().push(Arc::downgrade(&stream));
        Ok(StreamWriter {
            stream,
            _threads: Arc::clone(&self.threads),
        })
    }

    /// Whether a request may come in that will want to append events. Two atomic loads.
    ///
    /// With [`WhenFull::Drop`] the answer is always yes.
    pub fn admit(&self) -> Result<(), JournalFull> {
        self.core.capacity.admit()
    }

    #[must_use]
    pub fn stats(&self) -> JournalStats {
        self.core.stats()
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.core.options.dir
    }
}

impl Core {
    fn start(
        self: &Arc<Self>,
        name: &'static str,
        run: fn(&Self, &StopSignal),
    ) -> Result<StoppableThread, JournalError> {
        let core = Arc::clone(self);
        let run = move |stop: &StopSignal| {
            run(&core, stop);
            Ok(())
        };
        let part = self.options.parts.add(name);
        part.keep_running(run)
            .map_err(|source| JournalError::Thread { name, source })
    }

    fn recover_dead_streams(&self) -> Result<(), FileError> {
        for stream in files::list_streams(&self.options.dir)? {
            match recover(&self.options.dir, stream) {
                Ok(Recovery::Recovered { torn_bytes, .. }) => {
                    let mut counters = self.counters.lock();
                    counters.streams_recovered += 1;
                    counters.torn_bytes += torn_bytes;
                }
                Ok(Recovery::Alive | Recovery::Closed) => {}
                Err(error) => {
                    tracing::error!(%stream, %error, "failed to recover the stream of a dead writer, will retry");
                }
            }
        }
        Ok(())
    }

    /// The open streams. Those that are gone are forgotten.
    fn open_streams(&self) -> Vec<Arc<OpenStream>> {
        let mut streams = self.streams.lock();
        streams.retain(|stream| stream.strong_count() > 0);
        streams.iter().filter_map(Weak::upgrade).collect()
    }

    fn stats(&self) -> JournalStats {
        let mut stats = self.counters.lock().clone();
        stats.bytes_on_disk = self.capacity.bytes();
        stats.bytes_max = self.options.total_bytes_max;
        stats.disk_full = self.capacity.disk_is_full();
        for stream in self.open_streams() {
            stream.add_to(&mut stats);
        }
        stats
    }
}
