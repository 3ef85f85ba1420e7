//! One stream, as its writer sees it: the hot path of the journal.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use weir_schemas::StreamId;
use weir_schemas::event::{Event, EventsDropped, StreamClosed, StreamOpened};

use super::append::{AppendBuffer, AppendError, Appended, DurableUpTo};
use super::capacity::is_disk_full;
use super::seal::{Seal, StreamChain, Unsealed};
use super::segment::Segment;
use super::stats::{JournalStats, StreamCounters};
use super::{Core, JournalError, Threads, recover};
use crate::caps::{DROPS_REPORT, SEALS_WAITING_MAX};
use crate::clock::unix_us;
use crate::files::{self, FileContext as _, FileError, SegmentHeader};
use crate::frame::FrameFlags;
use crate::locked_file::LockedFile;

/// The writing end of one stream. Cheap to clone, and the clones may be used from any thread; they
/// take turns.
///
/// When the last clone is dropped without [`StreamWriter::close`], the stream is left as a crash
/// would leave it: the process that recovers it closes it as `recovered`.
#[derive(Clone, Debug)]
pub struct StreamWriter {
    pub(crate) stream: Arc<OpenStream>,
    /// Keeps the journal's threads running.
    pub(super) _threads: Arc<Threads>,
}

impl StreamWriter {
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.stream.id
    }

    /// Numbers the events and writes them, all or none, with one system call. When this returns they
    /// survive the death of the process.
    pub fn append(&self, events: &[Event<'_>]) -> Result<Appended, AppendError> {
        self.lock().append(events)
    }

    /// Keeps other threads from appending to the stream, so that the number of the next append is
    /// known before it is made.
    #[must_use]
    pub fn lock(&self) -> LockedStream<'_> {
        LockedStream {
            stream: &self.stream,
            writer: self.stream.writer.lock(),
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
    stream: &'a OpenStream,
    writer: MutexGuard<'a, WriterState>,
}

impl LockedStream<'_> {
    /// The number that the first event of [`LockedStream::append`] gets. If the append fails, the
    /// next one gets it; if the journal drops the events, no event of theirs has it.
    #[must_use]
    pub fn first_seq(&self) -> u64 {
        // The count of dropped events goes before them.
        self.writer.next_seq + u64::from(self.writer.drops.unrecorded > 0)
    }

    /// As [`StreamWriter::append`].
    pub fn append(mut self, events: &[Event<'_>]) -> Result<Appended, AppendError> {
        self.stream.append(&mut self.writer, events)
    }
}

#[derive(Debug)]
pub(crate) struct OpenStream {
    id: StreamId,
    dir: PathBuf,
    core: Arc<Core>,
    /// What seals it, if it is sealed. Locked before the writer.
    chain: Option<Mutex<StreamChain>>,
    writer: Mutex<WriterState>,
    durable: watch::Sender<DurableUpTo>,
}

/// What the stream's lock guards.
#[derive(Debug)]
struct WriterState {
    lifecycle: Lifecycle,
    /// Held until the stream is closed. Tells other processes that the writer lives.
    _lock: Option<LockedFile>,
    segment: Segment,
    next_seq: u64,
    buffer: AppendBuffer,
    drops: Drops,
    unsealed: Option<Unsealed>,
    unsynced: Unsynced,
    counters: StreamCounters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lifecycle {
    Open,
    Closed,
    Failed,
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
    /// Those that no `EventsDropped` counts yet.
    unrecorded: u64,
    since_us: u64,
    recorded: Option<Instant>,
}

impl OpenStream {
    pub(super) fn open(core: &Arc<Core>, shard: u16) -> Result<Self, JournalError> {
        let id = StreamId::new(unix_us() / 1000, rand::random());
        let journal = &core.options.dir;
        let making = files::unfinished_stream_dir(journal, id);
        let stream = Self::make(core, id, shard, &making).inspect_err(|_| {
            // What is left of it is removed later if not now.
            let _ = fs::remove_dir_all(&making);
        })?;
        core.capacity.add_bytes(stream.writer.lock().segment.bytes);
        if core.options.durability.waits() {
            stream.sync()?;
            files::sync_dir(journal)?;
        }
        Ok(stream)
    }

    /// Makes the stream's directory under a name that readers ignore, and gives it its own once
    /// it is locked and begins with `StreamOpened`, so that a new stream never looks dead.
    fn make(
        core: &Arc<Core>,
        id: StreamId,
        shard: u16,
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

        let signer = &core.options.signer;
        let seal_key = signer.as_ref().map(|signer| signer.public_key());
        let opened = Event::StreamOpened(StreamOpened {
            ts_us: unix_us().into(),
            instance: &core.options.instance,
            process: &core.options.process,
            shard,
            version: env!("CARGO_PKG_VERSION"),
            seal_key: seal_key.as_deref(),
        });
        let mut buffer = AppendBuffer::new(id);
        buffer.put(&opened, 1, FrameFlags::default())?;
        segment.write(&buffer.bytes).map_err(AppendError::File)?;
        segment.events = 1;
        fs::rename(making, &dir).context("name stream", &dir)?;
        segment.path = files::segment_path(&dir, 1);

        let counters = StreamCounters {
            appended_events: 1,
            appended_bytes: buffer.bytes.len() as u64,
            ..StreamCounters::default()
        };
        let chaining = core.options.chaining;
        let mut unsealed = chaining.map(|_| Unsealed::default());
        if let Some(unsealed) = &mut unsealed {
            unsealed.wrote(&buffer.bytes, true);
        }
        let writer = WriterState {
            lifecycle: Lifecycle::Open,
            _lock: Some(lock),
            segment,
            next_seq: 2,
            buffer,
            drops: Drops::default(),
            unsealed,
            unsynced: Unsynced {
                current: true,
                dir: true,
                ..Unsynced::default()
            },
            counters,
        };
        Ok(Self {
            id,
            dir,
            core: Arc::clone(core),
            chain: chaining.map(|it| Mutex::new(StreamChain::new(id, it, signer.clone()))),
            writer: Mutex::new(writer),
            durable: watch::Sender::new(DurableUpTo::default()),
        })
    }

    fn append(
        &self,
        writer: &mut WriterState,
        events: &[Event<'_>],
    ) -> Result<Appended, AppendError> {
        writer.check_open(self.id)?;
        if events.is_empty() {
            return Ok(self.appended(writer.next_seq, 0));
        }
        if self.core.capacity.drops() {
            return Ok(self.drop_events(writer, events.len()));
        }
        match self.write(writer, events, FrameFlags::default()) {
            Ok(first_seq) => Ok(self.appended(first_seq, events.len() as u64)),
            Err(error) => {
                self.note_disk_full(&error);
                if self.core.capacity.drops() {
                    return Ok(self.drop_events(writer, events.len()));
                }
                writer.counters.append_errors += 1;
                Err(error)
            }
        }
    }

    /// Writes the events, and before them the count of those dropped since the last append. The
    /// last frame gets the flags. Returns the number of the first event.
    fn write(
        &self,
        writer: &mut WriterState,
        events: &[Event<'_>],
        last: FrameFlags,
    ) -> Result<u64, AppendError> {
        writer.buffer.clear();
        let dropped = writer.drops.event();
        let first_seq = writer.next_seq + u64::from(dropped.is_some());
        let mut is_news = false;
        let mut events = dropped.iter().chain(events).peekable();
        while let Some(event) = events.next() {
            let flags = match events.peek() {
                Some(_) => FrameFlags::MORE,
                None => last,
            };
            writer.buffer.put(event, writer.next_seq, flags)?;
            is_news |= !matches!(event, Event::StreamSealed(_));
        }
        self.write_buffer(writer)?;
        if let Some(unsealed) = &mut writer.unsealed {
            unsealed.wrote(&writer.buffer.bytes, is_news);
            if unsealed.are_many()
                && let Some(sealer) = self.core.sealer.get()
            {
                sealer.unpark();
            }
        }
        writer.buffer.shrink();
        Ok(first_seq)
    }

    /// Writes what is in the buffer. Only now are its sequence numbers used up.
    fn write_buffer(&self, writer: &mut WriterState) -> Result<(), AppendError> {
        let bytes = writer.buffer.bytes.len() as u64;
        let full = writer.segment.bytes + bytes > self.core.options.segment_bytes;
        if full && writer.segment.events > 0 {
            self.roll(writer);
        }
        writer.segment.write(&writer.buffer.bytes)?;

        writer.next_seq += writer.buffer.events;
        writer.segment.events += writer.buffer.events;
        writer.counters.appended_events += writer.buffer.events;
        writer.counters.appended_bytes += bytes;
        if writer.drops.unrecorded > 0 {
            writer.drops.unrecorded = 0;
            writer.drops.recorded = Some(Instant::now());
        }
        self.core.capacity.add_bytes(bytes);
        if self.core.options.durability.waits() {
            writer.unsynced.current = true;
            self.core.sync_queue.written(&self.core.options, bytes);
        }
        Ok(())
    }

    /// Seals the segment and begins the next. If that can't be done now, the stream goes on in the
    /// segment it has: it only grows beyond its size.
    fn roll(&self, writer: &mut WriterState) {
        if writer.unsynced.sealed.len() >= SEALS_WAITING_MAX {
            return;
        }
        let header = SegmentHeader {
            stream: self.id,
            first_seq: writer.next_seq,
        };
        match Segment::begin(&self.dir, header, Instant::now()) {
            Ok(next) => {
                let sealed = std::mem::replace(&mut writer.segment, next);
                writer.unsynced.sealed.push(sealed.file);
                writer.unsynced.dir = true;
                writer.counters.segments_sealed += 1;
                self.core.capacity.add_bytes(SegmentHeader::BYTES as u64);
                self.core.sync_queue.sealed();
            }
            Err(error) => tracing::warn!(%error, "failed to begin the next segment, will retry"),
        }
    }

    /// Counts the events as dropped. The first of them are written down at once, so that a crash
    /// leaves a trace; then once a second, when there is space again, and at close.
    fn drop_events(&self, writer: &mut WriterState, events: usize) -> Appended {
        if writer.drops.unrecorded == 0 {
            writer.drops.since_us = unix_us();
        }
        writer.drops.unrecorded += events as u64;
        writer.counters.dropped_events += events as u64;
        self.record_drops_if_due(writer, Instant::now());
        Appended {
            dropped: events,
            ..self.appended(writer.next_seq, 0)
        }
    }

    fn record_drops_if_due(&self, writer: &mut WriterState, now: Instant) {
        let recently = |recorded| now.saturating_duration_since(recorded) < DROPS_REPORT;
        let due =
            self.core.capacity.full().is_none() || !writer.drops.recorded.is_some_and(recently);
        if writer.drops.unrecorded == 0 || !due || self.core.capacity.disk_is_full() {
            return;
        }
        let written = self.write(writer, &[], FrameFlags::default());
        if let Err(error) = written {
            self.note_disk_full(&error);
            tracing::error!(stream = %self.id, %error, "failed to record dropped events, will retry");
        }
    }

    fn note_disk_full(&self, error: &AppendError) {
        if let AppendError::File(error) = error
            && is_disk_full(&error.source)
        {
            self.core.capacity.set_disk_full(true);
        }
    }

    fn appended(&self, first_seq: u64, events: u64) -> Appended {
        let waits = events > 0 && self.core.options.durability.waits();
        Appended {
            stream: self.id,
            seqs: first_seq..first_seq + events,
            dropped: 0,
            durable: waits.then(|| self.durable.subscribe()),
        }
    }

    /// Seals what was written since the last seal.
    pub(crate) fn seal(&self) {
        let Some(chain) = &self.chain else { return };
        let mut chain = chain.lock();
        self.take_unsealed(&mut chain, &mut self.writer.lock());
        loop {
            chain.link();
            let Some(seal) = chain.seal() else { return };
            let written = self.write_seal(&mut chain, &seal, &mut self.writer.lock());
            if let Err(error) = written {
                tracing::warn!(stream = %self.id, %error, "failed to seal events, will retry");
                return;
            }
        }
    }

    fn take_unsealed(&self, chain: &mut StreamChain, writer: &mut WriterState) {
        let is_open = writer.lifecycle == Lifecycle::Open;
        if let Some(unsealed) = &mut writer.unsealed
            && is_open
            && chain.is_at_rest()
        {
            chain.take(unsealed.take().unwrap_or_default());
        }
    }

    fn write_seal(
        &self,
        chain: &mut StreamChain,
        seal: &Seal,
        writer: &mut WriterState,
    ) -> Result<(), AppendError> {
        writer.check_open(self.id)?;
        let event = Event::StreamSealed(chain.event(seal));
        let seq = self.write(writer, &[event], FrameFlags::default())?;
        chain.sealed();
        recover::note_sealed(&self.dir, seq);
        Ok(())
    }

    fn close(&self) -> Result<(), AppendError> {
        let mut chain = self.chain.as_ref().map(Mutex::lock);
        let mut writer = self.writer.lock();
        if writer.lifecycle == Lifecycle::Closed {
            return Ok(());
        }
        writer.check_open(self.id)?;
        if let Some(chain) = &mut chain {
            while !chain.is_at_rest() || writer.has_news() {
                self.take_unsealed(chain, &mut writer);
                chain.link();
                if let Some(seal) = chain.seal() {
                    self.write_seal(chain, &seal, &mut writer)?;
                }
            }
        }
        let closed = Event::StreamClosed(StreamClosed {
            ts_us: unix_us().into(),
            reason: "shutdown",
            torn_bytes: 0.into(),
        });
        self.write(&mut writer, &[closed], FrameFlags::LAST)?;

        writer.unsynced.current = true;
        if let Some(work) = writer.take_unsynced() {
            self.sync_files(&work)?;
        }
        recover::mark_closed(&self.dir);
        writer.lifecycle = Lifecycle::Closed;
        writer._lock = None;
        Ok(())
    }

    /// Makes everything durable that was written so far, without keeping the writer from writing.
    pub(super) fn sync(&self) -> Result<(), FileError> {
        let work = self.writer.lock().take_unsynced();
        work.map_or(Ok(()), |work| self.sync_files(&work))
    }

    fn sync_files(&self, work: &SyncWork) -> Result<(), FileError> {
        let synced = self.try_sync_files(work);
        self.durable.send_modify(|safe| {
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
            file.sync_data().context("sync a segment in", &self.dir)?;
            let took = begun.elapsed();
            self.core.counters.lock().sync_latency.observe(took);
        }
        if work.dir {
            files::sync_dir(&self.dir)?;
        }
        Ok(())
    }

    /// An fsync failed. The kernel may have thrown the bytes away and would confirm them next time,
    /// so where durability was promised the stream takes nothing more.
    pub(super) fn sync_failed(&self, error: &FileError) {
        self.core.counters.lock().sync_errors += 1;
        tracing::error!(stream = %self.id, %error, "failed to sync a segment");
        if self.core.options.durability.waits() {
            let mut writer = self.writer.lock();
            if writer.lifecycle == Lifecycle::Open {
                writer.lifecycle = Lifecycle::Failed;
            }
        }
    }

    /// What has to be done from time to time: seals a segment that has grown old, so that a quiet
    /// stream's events can be freed too, and records dropped events.
    pub(super) fn upkeep(&self, now: Instant) {
        let mut writer = self.writer.lock();
        if writer.lifecycle != Lifecycle::Open {
            return;
        }
        self.record_drops_if_due(&mut writer, now);
        let age = now.saturating_duration_since(writer.segment.begun);
        if writer.segment.events > 0 && age >= self.core.options.segment_age {
            self.roll(&mut writer);
        }
    }

    pub(super) fn add_to(&self, stats: &mut JournalStats) {
        let writer = self.writer.lock();
        writer.counters.add_to(stats);
        stats.streams_open += u64::from(writer.lifecycle == Lifecycle::Open);
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let counters = self.writer.get_mut().counters;
        counters.add_to(&mut self.core.counters.lock());
    }
}

impl WriterState {
    fn check_open(&self, stream: StreamId) -> Result<(), AppendError> {
        match self.lifecycle {
            Lifecycle::Open => Ok(()),
            Lifecycle::Closed => Err(AppendError::Closed(stream)),
            Lifecycle::Failed => Err(AppendError::Failed(stream)),
        }
    }

    /// Whether something other than seals is not sealed.
    fn has_news(&self) -> bool {
        self.unsealed.as_ref().is_some_and(Unsealed::is_news)
    }

    fn take_unsynced(&mut self) -> Option<SyncWork> {
        let Unsynced {
            sealed: mut files,
            current,
            dir,
        } = std::mem::take(&mut self.unsynced);
        if current {
            files.push(Arc::clone(&self.segment.file));
        }
        let nothing = files.is_empty() && !dir;
        (!nothing).then_some(SyncWork {
            files,
            dir,
            last_seq: self.next_seq - 1,
        })
    }
}

impl Drops {
    /// Counts those that no event counts yet.
    fn event(&self) -> Option<Event<'static>> {
        (self.unrecorded > 0).then(|| {
            Event::EventsDropped(EventsDropped {
                ts_us: unix_us().into(),
                since_us: self.since_us.into(),
                events: self.unrecorded.into(),
                reason: "journal_full",
            })
        })
    }
}
