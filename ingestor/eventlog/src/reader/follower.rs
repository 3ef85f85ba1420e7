//! Follows one stream from segment to segment, while it is being written or after.
//!
//! What stands at the end of a segment means different things. In the segment that a live writer
//! writes to, an unfinished or even wrong append may only not be whole yet: the follower waits. A
//! later segment tells that this one is sealed: what is bad now stays bad, and reading goes on
//! behind it. And when the writer turns out to be dead, the follower closes the stream in its place
//! and reads the end that it has given it.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use weir_schemas::StreamId;

use super::ReaderStats;

use crate::batch::{BatchLimits, LogRecord, LossCause, Lost, Position, SourceBatch};
use crate::caps::{READ_LIVENESS, READ_STUCK, READ_TURN_BYTES};
use crate::files::{self, FileContext as _, FileError, HeaderState, SegmentHeader, if_exists};
use crate::frame::Seed;
use crate::journal::{Recovery, recover_unmarked};
use crate::progress::StreamPosition;
use crate::walk::{Damage, Rest, TurnLimit, Walk, WalkedEvent};

/// What one turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TurnResult {
    Brought,
    /// There is nothing more for now.
    Waits,
    /// The stream has been read to its end.
    Finished,
}

/// Where a turn puts what it reads.
#[derive(Debug)]
pub(crate) struct BatchIntake<'a> {
    pub(crate) batch: &'a mut SourceBatch,
    pub(crate) limits: &'a BatchLimits,
    pub(crate) stats: &'a mut ReaderStats,
}

#[derive(Debug)]
pub(crate) struct Follower {
    dir: PathBuf,
    /// First number of the segment being read.
    segment: u64,
    file: Option<Arc<File>>,
    walk: Walk,
    /// The segment stays as it is: another one follows, or the writer is dead.
    complete: bool,
    emitted: Emitted,
    /// The writer is dead, and the stream closed.
    dead: bool,
    /// When to look next whether the writer lives.
    look_at: Instant,
    /// Where the walk waits before something that is not good, and since when.
    stuck: Option<(u64, Instant)>,
    pub(crate) rests_until: Option<Instant>,
    /// Something was emitted that is not known to be on disk.
    unsynced: bool,
    /// The newest segment whose name is known to be on disk.
    named: u64,
    noted: Option<StreamPosition>,
    /// Segments before this one have been deleted.
    pub(crate) freed_below: u64,
}

/// What has been emitted.
#[derive(Debug)]
struct Emitted {
    stream: StreamId,
    next_seq: u64,
    finished: bool,
    /// Damage that was passed over, until the next event tells how many events it took.
    damage: Option<(u64, Damage)>,
}

impl Follower {
    pub(crate) fn new(
        stream: StreamId,
        dir: PathBuf,
        position: Option<StreamPosition>,
        now: Instant,
    ) -> Self {
        let start = position.unwrap_or(StreamPosition {
            segment: 1,
            offset: SegmentHeader::BYTES as u64,
            next_seq: 1,
            finished: false,
        });
        Self {
            dir,
            segment: start.segment,
            file: None,
            walk: Walk {
                seed: Seed::of(stream),
                offset: start.offset,
                next_seq: start.next_seq,
            },
            complete: false,
            emitted: Emitted {
                stream,
                next_seq: start.next_seq,
                finished: false,
                damage: None,
            },
            dead: false,
            look_at: now + READ_LIVENESS,
            stuck: None,
            rests_until: None,
            unsynced: false,
            named: 0,
            noted: position,
            freed_below: 0,
        }
    }

    /// Hands on what comes next, about a turn's worth of it.
    pub(crate) fn read_turn(
        &mut self,
        intake: &mut BatchIntake<'_>,
        now: Instant,
    ) -> Result<TurnResult, FileError> {
        if self.rests_until.is_some_and(|until| now < until) {
            return Ok(TurnResult::Waits);
        }
        while !self.emitted.finished {
            let Some(file) = self.open_file(intake)? else {
                if self.without_segment(intake, now)? {
                    continue;
                }
                return Ok(TurnResult::Waits);
            };
            let rest = self.advance(&file, intake)?;
            if rest == Rest::Turn {
                self.stuck = None;
                if self.emitted.finished {
                    break;
                }
                return Ok(TurnResult::Brought);
            }
            let was_complete = self.complete;
            if !was_complete && self.learn_completeness(intake.stats, now)? {
                // Read on, now knowing that what is there is all there will be.
                continue;
            }
            let bad = rest != Rest::End { leftover: 0 };
            let may_skip = bad && (was_complete || self.is_stuck(now));
            if may_skip && self.skip_damage(&file, intake)? {
                continue;
            }
            if !was_complete {
                return Ok(TurnResult::Waits);
            }
            if bad {
                self.skip_rest(&file, intake)?;
            }
            self.leave_segment(intake)?;
        }
        Ok(TurnResult::Finished)
    }

    /// Adds how far the stream has been emitted to the batch.
    pub(crate) fn note_progress(&mut self, batch: &mut SourceBatch) {
        let position = StreamPosition {
            segment: self.segment,
            offset: self.walk.offset,
            next_seq: self.emitted.next_seq,
            finished: self.emitted.finished,
        };
        if self.noted != Some(position) {
            self.noted = Some(position);
            let streams = &mut batch.progress.streams;
            streams.insert(self.emitted.stream, position);
        }
    }

    /// Makes sure that what was emitted is on disk. A disk that fails at that still gives what it
    /// has: the failure is reported, and reading goes on.
    pub(crate) fn sync(&mut self) {
        if !std::mem::take(&mut self.unsynced) {
            return;
        }
        let data = self.file.as_ref().map_or(Ok(()), |file| {
            file.sync_data().context("sync", &self.segment_path())
        });
        let named = match self.named < self.segment {
            true => files::sync_dir(&self.dir),
            false => Ok(()),
        };
        self.named = self.segment;
        if let Err(error) = data.and(named) {
            tracing::error!(%error, "failed to sync a segment: a power failure may undo events that were read");
        }
    }

    pub(crate) fn close_file(&mut self) {
        self.sync();
        self.file = None;
    }

    fn segment_path(&self) -> PathBuf {
        files::segment_path(&self.dir, self.segment)
    }

    /// The file of the segment being read; `None` if there is none.
    fn open_file(&mut self, intake: &mut BatchIntake<'_>) -> Result<Option<Arc<File>>, FileError> {
        if let Some(file) = &self.file {
            return Ok(Some(Arc::clone(file)));
        }
        let path = self.segment_path();
        let Some(file) = if_exists(File::open(&path)).context("open", &path)? else {
            return Ok(None);
        };
        self.check_header(&file, intake).context("read", &path)?;
        let file = Arc::new(file);
        self.file = Some(Arc::clone(&file));
        Ok(Some(file))
    }

    fn check_header(&mut self, file: &File, intake: &mut BatchIntake<'_>) -> io::Result<()> {
        let header = SegmentHeader {
            stream: self.emitted.stream,
            first_seq: self.segment,
        };
        // Directory and name say the same as the header; its events are read without it.
        if header.read(file)? == HeaderState::Damaged {
            let damage = Damage {
                offset: 0,
                bytes: SegmentHeader::BYTES as u64,
            };
            self.note_damage(damage, intake);
        }
        // The file was cut after it had been read. Nothing is given twice: numbers tell.
        if self.walk.offset > file.metadata()?.len() {
            self.walk.offset = SegmentHeader::BYTES as u64;
        }
        Ok(())
    }

    /// The segment is missing: goes on with the next one, or finds that there is none.
    /// `true` if something has changed.
    fn without_segment(
        &mut self,
        intake: &mut BatchIntake<'_>,
        now: Instant,
    ) -> Result<bool, FileError> {
        if let Some(next) = self.next_segment()? {
            self.enter_segment(next);
            return Ok(true);
        }
        if self.learn_completeness(intake.stats, now)? {
            self.finish(intake);
            return Ok(true);
        }
        Ok(false)
    }

    fn advance(&mut self, file: &File, intake: &mut BatchIntake<'_>) -> Result<Rest, FileError> {
        let BatchIntake { batch, limits, .. } = intake;
        let limit = TurnLimit {
            bytes: READ_TURN_BYTES.min(limits.bytes_max.saturating_sub(batch.bytes)),
            events: limits.records_max.saturating_sub(batch.records.len()),
        };
        self.walking(intake, |walk, visit| walk.advance(file, limit, visit))
    }

    fn skip_damage(
        &mut self,
        file: &File,
        intake: &mut BatchIntake<'_>,
    ) -> Result<bool, FileError> {
        let damage = self.walking(intake, |walk, visit| walk.skip_damage(file, visit))?;
        let Some(damage) = damage else {
            return Ok(false);
        };
        self.stuck = None;
        self.note_damage(damage, intake);
        Ok(true)
    }

    fn skip_rest(&mut self, file: &File, intake: &mut BatchIntake<'_>) -> Result<(), FileError> {
        let damage = self.walking(intake, |walk, visit| walk.skip_rest(file, visit))?;
        self.note_damage(damage, intake);
        Ok(())
    }

    /// Takes some steps of the walk and emits the events on the way.
    fn walking<T>(
        &mut self,
        intake: &mut BatchIntake<'_>,
        steps: impl FnOnce(&mut Walk, &mut dyn FnMut(WalkedEvent)) -> io::Result<T>,
    ) -> Result<T, FileError> {
        let before = intake.batch.records.len();
        let (emitted, segment) = (&mut self.emitted, self.segment);
        let done = steps(&mut self.walk, &mut |found| {
            emitted.take(found, segment, intake)
        });
        self.unsynced |= intake.batch.records.len() > before;
        done.context("read", &self.segment_path())
    }

    fn note_damage(&mut self, damage: Damage, intake: &mut BatchIntake<'_>) {
        intake.stats.resyncs += 1;
        intake.stats.damaged_bytes += damage.bytes;
        let path = self.segment_path();
        let Damage { offset, bytes } = damage;
        tracing::error!(path = %path.display(), offset, bytes, "failed to read damaged bytes in the journal; skipped them");
        match &mut self.emitted.damage {
            Some((_, earlier)) => earlier.bytes += bytes,
            none => *none = Some((self.segment, damage)),
        }
    }

    /// Whether the walk has waited at the same place for longer than any write takes.
    fn is_stuck(&mut self, now: Instant) -> bool {
        match self.stuck {
            Some((offset, since)) if offset == self.walk.offset => {
                now.saturating_duration_since(since) >= READ_STUCK
            }
            _ => {
                self.stuck = Some((self.walk.offset, now));
                false
            }
        }
    }

    /// Finds out whether the segment is still being written to. `true` if it is not.
    fn learn_completeness(
        &mut self,
        stats: &mut ReaderStats,
        now: Instant,
    ) -> Result<bool, FileError> {
        let look = now >= self.look_at;
        if look && !self.dead {
            self.look_at = now + READ_LIVENESS;
            self.dead = self.close_if_dead(stats)? != Recovery::Alive;
        }
        self.complete = self.dead
            || match look {
                true => self.next_segment()?.is_some(),
                false => self.expected_segment_exists(),
            };
        Ok(self.complete)
    }

    /// Closes the stream if its writer is dead and did not.
    fn close_if_dead(&self, stats: &mut ReaderStats) -> Result<Recovery, FileError> {
        let outcome = match recover_unmarked(&self.dir, self.emitted.stream) {
            Err(error) if error.source.kind() == ErrorKind::NotFound => Recovery::Closed,
            outcome => outcome?,
        };
        if let Recovery::Recovered { torn_bytes } = outcome {
            stats.streams_recovered += 1;
            stats.torn_bytes += torn_bytes;
        }
        Ok(outcome)
    }

    /// Segments are named by their first number, so the next one's name is known beforehand, and a
    /// look for it costs next to nothing. Behind damage the guess may be wrong; the full look that
    /// comes twice a second finds what it misses.
    fn expected_segment_exists(&self) -> bool {
        let expected = self.emitted.next_seq;
        expected > self.segment && files::segment_path(&self.dir, expected).exists()
    }

    fn next_segment(&self) -> Result<Option<u64>, FileError> {
        let segments = files::list_segments(&self.dir)?;
        Ok(segments.into_iter().find(|segment| *segment > self.segment))
    }

    /// Goes on behind the end of a segment that will not change any more.
    fn leave_segment(&mut self, intake: &mut BatchIntake<'_>) -> Result<(), FileError> {
        self.sync();
        if let Some(next) = self.next_segment()? {
            self.enter_segment(next);
            return Ok(());
        }
        // The end that the stream was given has gone bad before it was read: it gets another one.
        match self.close_if_dead(intake.stats)? {
            Recovery::Recovered { .. } => {}
            Recovery::Alive | Recovery::Closed => self.finish(intake),
        }
        Ok(())
    }

    fn enter_segment(&mut self, segment: u64) {
        self.segment = segment;
        self.file = None;
        self.complete = false;
        self.stuck = None;
        self.walk.offset = SegmentHeader::BYTES as u64;
        self.walk.next_seq = segment;
    }

    /// Ends a stream whose end is not written anywhere.
    fn finish(&mut self, intake: &mut BatchIntake<'_>) {
        let stream = self.emitted.stream;
        tracing::error!(%stream, next_seq = self.emitted.next_seq, "failed to find the end of a stream");
        self.emitted
            .report_loss(0, self.segment, self.walk.offset, intake);
        self.emitted.finished = true;
    }
}

impl Emitted {
    fn take(&mut self, found: WalkedEvent, segment: u64, intake: &mut BatchIntake<'_>) {
        self.finished |= found.last;
        if found.seq < self.next_seq {
            intake.stats.repeated_events += 1;
            return;
        }
        let missing = found.seq - self.next_seq;
        self.report_loss(missing, segment, found.offset, intake);
        self.next_seq = found.seq.saturating_add(1);
        intake.stats.records += 1;
        intake.stats.bytes += found.payload.len() as u64;
        intake.batch.push(LogRecord {
            stream: self.stream,
            seq: found.seq,
            payload: found.payload,
            position: Position::Journal {
                stream: self.stream,
                segment,
                offset: found.offset,
            },
        });
    }

    /// Tells of the events that are missing before the next one, and of damage passed over.
    fn report_loss(
        &mut self,
        events: u64,
        segment: u64,
        offset: u64,
        intake: &mut BatchIntake<'_>,
    ) {
        let damage = self.damage.take();
        if events == 0 && damage.is_none() {
            return;
        }
        intake.stats.lost_events += events;
        let (segment, offset, bytes, cause) = match damage {
            Some((segment, Damage { offset, bytes })) => {
                (segment, offset, bytes, LossCause::Damaged)
            }
            None => (segment, offset, 0, LossCause::Missing),
        };
        intake.batch.lost.push(Lost {
            stream: Some(self.stream),
            first_seq: self.next_seq,
            events,
            bytes,
            position: Position::Journal {
                stream: self.stream,
                segment,
                offset,
            },
            cause,
        });
    }
}
