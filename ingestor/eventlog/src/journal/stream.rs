//! One stream, as its writer sees it: the hot path of the journal.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use weir_schemas::StreamId;
use weir_schemas::codec::{EncodeError, Encoder};
use weir_schemas::event::{Event, EventsDropped, StreamClosed, StreamOpened};

use super::durable::{Appended, Safe};
use super::room::is_disk_full;
use super::segment::Segment;
use super::stats::{JournalStats, StreamCounters};
use super::{Alive, Core, JournalError, recover};
use crate::caps::{
    APPEND_BYTES_MAX, DROPS_REPORT, PAYLOAD_BYTES_MAX, SEALS_WAITING_MAX, WRITE_BUFFER_BYTES_KEPT,
};
use crate::clock::unix_us;
use crate::files::{self, Doing as _, FileError, SegmentHeader};
use crate::frame::{self, Mark, Seed, TooLarge};

/// The writing end of one stream. Cheap to clone, and the clones may be used from any thread; they
/// take turns.
///
/// When the last clone is dropped without [`StreamWriter::close`], the stream is left as a crash
/// would leave it: whoever recovers it next closes it as `recovered`.
#[derive(Clone, Debug)]
pub struct StreamWriter {
    stream: Arc<Stream>,
    /// Keeps the journal's threads running.
    _alive: Arc<Alive>,
}

/// Events were not appended. Their sequence numbers are not used up, and the segment is as it was.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error("stream {0} is closed")]
    Closed(StreamId),
    #[error("stream {0} takes no more events: its disk failed to confirm earlier ones")]
    Failed(StreamId),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("an event of {bytes} bytes is larger than the limit of {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error(transparent)]
    File(#[from] FileError),
}

impl StreamWriter {
    pub(super) fn open(alive: &Arc<Alive>, shard: u32) -> Result<Self, JournalError> {
        let stream = Arc::new(Stream::open(&alive.core, shard)?);
        alive.core.streams.lock().push(Arc::downgrade(&stream));
        Ok(Self {
            stream,
            _alive: Arc::clone(alive),
        })
    }

    #[must_use]
    pub fn id(&self) -> StreamId {
        self.stream.id
    }

    /// The number that the next event will get, unless another thread appends first. See
    /// [`StreamWriter::lock`] for a number that is certain.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.lock().first_seq()
    }

    /// Numbers the events, stamps them with the stream's id and writes them, all or none, with one
    /// system call. When this returns they survive the death of the process.
    pub fn append(&self, events: &mut [Event<'_>]) -> Result<Appended, AppendError> {
        self.lock().append(events)
    }

    /// Keeps other threads from appending to the stream, so that the number of the next append is
    /// known before it is made.
    #[must_use]
    pub fn lock(&self) -> LockedStream<'_> {
        LockedStream {
            stream: &self.stream,
            pen: self.stream.pen.lock(),
        }
    }

    /// Writes `StreamClosed`, makes everything durable and lets go of the stream. Waits for the
    /// disk: for shutdown, not for the hot path.
    pub fn close(&self) -> Result<(), AppendError> {
        self.stream.close()
    }
}

/// A stream that only the holder of this appends to. Something that must be written before its
/// events, and must name them, is written while this is held: then every other append of the stream
/// comes before both or after both, and after a crash at most the last such note lacks its events.
#[derive(Debug)]
pub struct LockedStream<'a> {
    stream: &'a Stream,
    pen: MutexGuard<'a, Pen>,
}

impl LockedStream<'_> {
    /// The number that the first event of [`LockedStream::append`] gets. If the append fails, the
    /// next one gets it; if the journal drops the events, no event of theirs has it.
    #[must_use]
    pub fn first_seq(&self) -> u64 {
        // The count of dropped events goes before them.
        self.pen.next_seq + u64::from(self.pen.drops.unrecorded > 0)
    }

    /// As [`StreamWriter::append`].
    pub fn append(mut self, events: &mut [Event<'_>]) -> Result<Appended, AppendError> {
        self.stream.append(&mut self.pen, events)
    }
}

#[derive(Debug)]
pub(crate) struct Stream {
    id: StreamId,
    seed: Seed,
    dir: PathBuf,
    core: Arc<Core>,
    pen: Mutex<Pen>,
    safe: watch::Sender<Safe>,
}

/// What the one who writes holds.
#[derive(Debug)]
struct Pen {
    state: State,
    segment: Segment,
    next_seq: u64,
    draft: Draft,
    drops: Drops,
    unsynced: Unsynced,
    counters: StreamCounters,
}

#[derive(Debug)]
enum State {
    /// Holds the lock file, which tells everyone else that the writer lives.
    Open {
        _lock: File,
    },
    Closed,
    Failed {
        _lock: File,
    },
}

/// Files whose bytes are not known to be on disk.
#[derive(Debug, Default)]
struct Unsynced {
    sealed: Vec<Arc<File>>,
    /// The current segment has been written to.
    current: bool,
    /// A segment was begun, so the directory has a new entry.
    dir: bool,
}

/// Work for the sync thread.
#[derive(Debug)]
struct SyncWork {
    files: Vec<Arc<File>>,
    dir: bool,
    last_seq: u64,
}

/// Events that were dropped.
#[derive(Debug, Default)]
struct Drops {
    /// Those that no `EventsDropped` speaks of yet.
    unrecorded: u64,
    since_us: u64,
    recorded: Option<Instant>,
}

/// An append being put together. Its buffers are kept from one to the next.
#[derive(Debug)]
struct Draft {
    encoder: Encoder,
    bytes: Vec<u8>,
    events: u64,
}

impl Stream {
    fn open(core: &Arc<Core>, shard: u32) -> Result<Self, JournalError> {
        let id = StreamId::new(unix_us() / 1000, rand::random());
        let journal = &core.options.dir;
        let making = files::new_stream_dir(journal, id);
        let stream = Self::make(core, id, shard, &making).inspect_err(|_| {
            // It never came to be; what is left of it is removed later if not now.
            let _ = fs::remove_dir_all(&making);
        })?;
        core.room.add_bytes(stream.pen.lock().segment.bytes);
        if core.options.durability.waits() {
            stream.sync()?;
            files::sync_dir(journal)?;
        }
        Ok(stream)
    }

    /// Makes the stream's directory under a name that readers ignore, and gives it its own once
    /// it is locked and begins with `StreamOpened`: no one meets a stream that looks dead.
    fn make(
        core: &Arc<Core>,
        id: StreamId,
        shard: u32,
        making: &Path,
    ) -> Result<Self, JournalError> {
        files::create_dir(making)?;
        let lock_path = making.join(files::STREAM_LOCK);
        let lock = recover::create_lock(&lock_path, core.options.durability)?;
        let header = SegmentHeader {
            stream: id,
            first_seq: 1,
        };
        let dir = files::stream_dir(&core.options.dir, id);
        let mut segment = Segment::begin(making, header, Instant::now())?;

        let seed = Seed::of(id);
        let mut opened = Event::StreamOpened(StreamOpened {
            stream: id,
            seq: 1,
            ts_us: unix_us(),
            instance: &core.options.instance,
            process: &core.options.process,
            shard,
            version: env!("CARGO_PKG_VERSION"),
        });
        let mut draft = Draft::new();
        draft.put(&mut opened, id, seed, 1, Mark::default())?;
        segment.write(&draft.bytes).map_err(AppendError::File)?;
        segment.events = 1;
        fs::rename(making, &dir).doing("name stream", &dir)?;
        segment.path = files::segment_path(&dir, 1);

        let counters = StreamCounters {
            appended_events: 1,
            appended_bytes: draft.bytes.len() as u64,
            ..StreamCounters::default()
        };
        let pen = Pen {
            state: State::Open { _lock: lock },
            segment,
            next_seq: 2,
            draft,
            drops: Drops::default(),
            unsynced: Unsynced {
                current: true,
                dir: true,
                ..Unsynced::default()
            },
            counters,
        };
        Ok(Self {
            id,
            seed,
            dir,
            core: Arc::clone(core),
            pen: Mutex::new(pen),
            safe: watch::Sender::new(Safe::default()),
        })
    }

    fn append(&self, pen: &mut Pen, events: &mut [Event<'_>]) -> Result<Appended, AppendError> {
        pen.check_open(self.id)?;
        if events.is_empty() {
            return Ok(self.appended(pen.next_seq, 0));
        }
        if self.core.room.drops() {
            return Ok(self.drop_events(pen, events.len()));
        }
        match self.write(pen, events) {
            Ok(first_seq) => Ok(self.appended(first_seq, events.len() as u64)),
            Err(error) => {
                self.note_disk_full(&error);
                if self.core.room.drops() {
                    return Ok(self.drop_events(pen, events.len()));
                }
                pen.counters.append_errors += 1;
                Err(error)
            }
        }
    }

    /// Writes the events, and before them the count of those dropped since the last append.
    /// Returns the number of the first.
    fn write(&self, pen: &mut Pen, events: &mut [Event<'_>]) -> Result<u64, AppendError> {
        pen.draft.clear();
        if pen.drops.unrecorded > 0 {
            let mark = Mark {
                more: true,
                last: false,
            };
            self.put_drops(pen, mark)?;
        }
        let first_seq = pen.next_seq + pen.draft.events;
        let last = events.len() - 1;
        for (index, event) in events.iter_mut().enumerate() {
            let mark = Mark {
                more: index < last,
                last: false,
            };
            pen.draft
                .put(event, self.id, self.seed, pen.next_seq, mark)?;
        }
        self.write_draft(pen)?;
        Ok(first_seq)
    }

    fn put_drops(&self, pen: &mut Pen, mark: Mark) -> Result<(), AppendError> {
        let mut dropped = Event::EventsDropped(EventsDropped {
            stream: self.id,
            seq: 0,
            ts_us: unix_us(),
            since_us: pen.drops.since_us,
            events: pen.drops.unrecorded,
            reason: "journal_full",
        });
        pen.draft
            .put(&mut dropped, self.id, self.seed, pen.next_seq, mark)
    }

    /// Writes what is in the draft. Only now are its sequence numbers used up.
    fn write_draft(&self, pen: &mut Pen) -> Result<(), AppendError> {
        let bytes = pen.draft.bytes.len() as u64;
        let full = pen.segment.bytes + bytes > self.core.options.segment_bytes;
        if full && pen.segment.events > 0 {
            self.roll(pen);
        }
        pen.segment.write(&pen.draft.bytes)?;

        pen.next_seq += pen.draft.events;
        pen.segment.events += pen.draft.events;
        pen.counters.appended_events += pen.draft.events;
        pen.counters.appended_bytes += bytes;
        if pen.drops.unrecorded > 0 {
            pen.drops.unrecorded = 0;
            pen.drops.recorded = Some(Instant::now());
        }
        pen.draft.shrink();
        self.core.room.add_bytes(bytes);
        if self.core.options.durability.waits() {
            pen.unsynced.current = true;
            self.core.sync_queue.written(&self.core.options, bytes);
        }
        Ok(())
    }

    /// Seals the segment and begins the next. If that can't be done now, the stream goes on in the
    /// segment it has: it grows beyond its size, and nothing else is the worse for it.
    fn roll(&self, pen: &mut Pen) {
        if pen.unsynced.sealed.len() >= SEALS_WAITING_MAX {
            return;
        }
        let header = SegmentHeader {
            stream: self.id,
            first_seq: pen.next_seq,
        };
        match Segment::begin(&self.dir, header, Instant::now()) {
            Ok(next) => {
                let sealed = std::mem::replace(&mut pen.segment, next);
                pen.unsynced.sealed.push(sealed.file);
                pen.unsynced.dir = true;
                pen.counters.segments_sealed += 1;
                self.core.room.add_bytes(SegmentHeader::BYTES as u64);
                self.core.sync_queue.sealed();
            }
            Err(error) => tracing::warn!(%error, "segment not sealed yet"),
        }
    }

    /// Counts the events as dropped. The first of them are written down at once, so that a crash
    /// leaves a trace; then once a second, when there is room again, and at close.
    fn drop_events(&self, pen: &mut Pen, events: usize) -> Appended {
        if pen.drops.unrecorded == 0 {
            pen.drops.since_us = unix_us();
        }
        pen.drops.unrecorded += events as u64;
        pen.counters.dropped_events += events as u64;
        self.record_drops_if_due(pen, Instant::now());
        Appended {
            dropped: events,
            ..self.appended(pen.next_seq, 0)
        }
    }

    fn record_drops_if_due(&self, pen: &mut Pen, now: Instant) {
        let recently = |recorded| now.saturating_duration_since(recorded) < DROPS_REPORT;
        let due = self.core.room.full().is_none() || !pen.drops.recorded.is_some_and(recently);
        if pen.drops.unrecorded == 0 || !due || self.core.room.disk_is_full() {
            return;
        }
        pen.draft.clear();
        let written = self
            .put_drops(pen, Mark::default())
            .and_then(|()| self.write_draft(pen));
        if let Err(error) = written {
            self.note_disk_full(&error);
            tracing::error!(stream = %self.id, %error, "count of dropped events not recorded yet");
        }
    }

    fn note_disk_full(&self, error: &AppendError) {
        if let AppendError::File(error) = error
            && is_disk_full(&error.source)
        {
            self.core.room.set_disk_full(true);
        }
    }

    fn appended(&self, first_seq: u64, events: u64) -> Appended {
        let waits = events > 0 && self.core.options.durability.waits();
        Appended {
            stream: self.id,
            seqs: first_seq..first_seq + events,
            dropped: 0,
            safe: waits.then(|| self.safe.subscribe()),
        }
    }

    fn close(&self) -> Result<(), AppendError> {
        let mut pen = self.pen.lock();
        if matches!(pen.state, State::Closed) {
            return Ok(());
        }
        pen.check_open(self.id)?;
        pen.draft.clear();
        if pen.drops.unrecorded > 0 {
            let mark = Mark {
                more: true,
                last: false,
            };
            self.put_drops(&mut pen, mark)?;
        }
        let mut closed = Event::StreamClosed(StreamClosed {
            stream: self.id,
            seq: 0,
            ts_us: unix_us(),
            reason: "shutdown",
            torn_bytes: 0,
        });
        let mark = Mark {
            more: false,
            last: true,
        };
        let next_seq = pen.next_seq;
        pen.draft
            .put(&mut closed, self.id, self.seed, next_seq, mark)?;
        self.write_draft(&mut pen)?;

        pen.unsynced.current = true;
        let pen = &mut *pen;
        let work = pen.unsynced.take(&pen.segment, pen.next_seq);
        if let Some(work) = work {
            self.sync_files(&work)?;
        }
        recover::mark_closed(&self.dir);
        pen.state = State::Closed;
        Ok(())
    }

    /// Makes everything durable that was written so far, without keeping the writer from writing.
    pub(super) fn sync(&self) -> Result<(), FileError> {
        let work = {
            let mut pen = self.pen.lock();
            let pen = &mut *pen;
            pen.unsynced.take(&pen.segment, pen.next_seq)
        };
        work.map_or(Ok(()), |work| self.sync_files(&work))
    }

    fn sync_files(&self, work: &SyncWork) -> Result<(), FileError> {
        let synced = self.try_sync_files(work);
        self.safe.send_modify(|safe| {
            if synced.is_err() {
                safe.failed = true;
            } else if !safe.failed {
                safe.seq = safe.seq.max(work.last_seq);
            }
        });
        synced
    }

    fn try_sync_files(&self, work: &SyncWork) -> Result<(), FileError> {
        for file in &work.files {
            let begun = Instant::now();
            file.sync_data().doing("sync a segment in", &self.dir)?;
            self.core.counters.sync_latency.observe(begun.elapsed());
        }
        if work.dir {
            files::sync_dir(&self.dir)?;
        }
        Ok(())
    }

    /// An fsync failed. The kernel may have thrown the bytes away and would confirm them next time,
    /// so where durability was promised the stream takes nothing more.
    pub(super) fn sync_failed(&self, error: &FileError) {
        self.core.counters.count_sync_error();
        tracing::error!(stream = %self.id, %error, "segment not made durable");
        if self.core.options.durability.waits() {
            let mut pen = self.pen.lock();
            pen.state = match std::mem::replace(&mut pen.state, State::Closed) {
                State::Open { _lock } | State::Failed { _lock } => State::Failed { _lock },
                State::Closed => State::Closed,
            };
        }
    }

    /// What has to be done from time to time: seals a segment that has grown old, so that a quiet
    /// stream's events can be freed too, and records dropped events.
    pub(super) fn upkeep(&self, now: Instant) {
        let mut pen = self.pen.lock();
        if !matches!(pen.state, State::Open { .. }) {
            return;
        }
        self.record_drops_if_due(&mut pen, now);
        let age = now.saturating_duration_since(pen.segment.begun);
        if pen.segment.events > 0 && age >= self.core.options.segment_age {
            self.roll(&mut pen);
        }
    }

    pub(super) fn add_to(&self, stats: &mut JournalStats) {
        let pen = self.pen.lock();
        pen.counters.add_to(stats);
        stats.streams_open += u64::from(matches!(pen.state, State::Open { .. }));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.core.counters.keep(&self.pen.get_mut().counters);
    }
}

impl Pen {
    fn check_open(&self, stream: StreamId) -> Result<(), AppendError> {
        match self.state {
            State::Open { .. } => Ok(()),
            State::Closed => Err(AppendError::Closed(stream)),
            State::Failed { .. } => Err(AppendError::Failed(stream)),
        }
    }
}

impl Unsynced {
    fn take(&mut self, segment: &Segment, next_seq: u64) -> Option<SyncWork> {
        let mut files = std::mem::take(&mut self.sealed);
        if std::mem::take(&mut self.current) {
            files.push(Arc::clone(&segment.file));
        }
        let dir = std::mem::take(&mut self.dir);
        let nothing = files.is_empty() && !dir;
        (!nothing).then_some(SyncWork {
            files,
            dir,
            last_seq: next_seq - 1,
        })
    }
}

impl Draft {
    fn new() -> Self {
        Self {
            encoder: Encoder::new(),
            bytes: Vec::new(),
            events: 0,
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.events = 0;
    }

    /// Adds an event; `next_seq` is the number of the draft's first one.
    fn put(
        &mut self,
        event: &mut Event<'_>,
        stream: StreamId,
        seed: Seed,
        next_seq: u64,
        mark: Mark,
    ) -> Result<(), AppendError> {
        let seq = next_seq + self.events;
        event.stamp(stream, seq);
        let start = frame::begin(&mut self.bytes);
        self.encoder.encode(event, &mut self.bytes)?;
        frame::finish(&mut self.bytes, start, seed, seq, mark).map_err(|TooLarge { bytes }| {
            AppendError::TooLarge {
                bytes,
                bytes_max: PAYLOAD_BYTES_MAX,
            }
        })?;
        if self.bytes.len() > APPEND_BYTES_MAX {
            return Err(AppendError::TooLarge {
                bytes: self.bytes.len(),
                bytes_max: APPEND_BYTES_MAX,
            });
        }
        self.events += 1;
        Ok(())
    }

    fn shrink(&mut self) {
        if self.bytes.capacity() > WRITE_BUFFER_BYTES_KEPT {
            self.bytes = Vec::with_capacity(WRITE_BUFFER_BYTES_KEPT);
        }
    }
}
