//! The journal against a model of it: any sequence of appends, rolls, crashes at any byte, flipped
//! bits, restarts of readers and recoveries.
//!
//! The model knows what was acknowledged. In the end each number of each stream must have been read
//! with its own text, or have been reported lost, and only what a flipped bit hit may be lost.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::StreamWriter;
use crate::files::SegmentHeader;
use crate::frame::{self, Parsed, Seed};

#[derive(Clone, Debug)]
enum Op {
    Open,
    /// Appends events with texts of these lengths.
    Append {
        writer: Index,
        lengths: Vec<usize>,
    },
    Close {
        writer: Index,
    },
    /// The process dies; the last append, which no one had an answer to yet, got this far.
    Crash {
        writer: Index,
        lengths: Vec<usize>,
        cut: Index,
    },
    /// The process dies between two appends.
    Vanish {
        writer: Index,
    },
    Flip {
        stream: Index,
        segment: Index,
        bit: Index,
    },
    Read {
        records_max: usize,
    },
    Commit,
    RestartReader,
    /// Another process opens the journal and recovers what is dead.
    Recover,
}

fn op() -> impl Strategy<Value = Op> {
    let lengths = || proptest::collection::vec(0_usize..1500, 1..5);
    prop_oneof![
        2 => Just(Op::Open),
        12 => (any::<Index>(), lengths())
            .prop_map(|(writer, lengths)| Op::Append { writer, lengths }),
        1 => any::<Index>().prop_map(|writer| Op::Close { writer }),
        2 => (any::<Index>(), lengths(), any::<Index>())
            .prop_map(|(writer, lengths, cut)| Op::Crash { writer, lengths, cut }),
        1 => any::<Index>().prop_map(|writer| Op::Vanish { writer }),
        2 => (any::<Index>(), any::<Index>(), any::<Index>())
            .prop_map(|(stream, segment, bit)| Op::Flip { stream, segment, bit }),
        6 => (1_usize..20).prop_map(|records_max| Op::Read { records_max }),
        4 => Just(Op::Commit),
        2 => Just(Op::RestartReader),
        1 => Just(Op::Recover),
    ]
}

/// What is known of a stream.
#[derive(Debug, Default)]
struct Model {
    /// Texts that were acknowledged, by number.
    acknowledged: BTreeMap<u64, String>,
    /// Numbers whose frames were hit by a flipped bit.
    hit: BTreeSet<u64>,
    /// Given by the reader, and committed.
    committed: BTreeMap<u64, Said>,
    /// Given by the reader since the last commit.
    given: BTreeMap<u64, Said>,
    /// Reported lost; since the last commit and before it.
    lost: BTreeSet<u64>,
    lost_given: BTreeSet<u64>,
}

struct World {
    dir: TempDir,
    journal: Journal,
    writers: Vec<StreamWriter>,
    models: BTreeMap<StreamId, Model>,
    reader: Option<JournalReader>,
    batches: Vec<SourceBatch>,
    texts: usize,
}

impl World {
    fn new() -> Self {
        let dir = scratch();
        let journal = open(dir.path());
        let reader = Some(JournalReader::open(dir.path()).unwrap());
        Self {
            dir,
            journal,
            writers: Vec::new(),
            models: BTreeMap::new(),
            reader,
            batches: Vec::new(),
            texts: 0,
        }
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::Open => {
                let writer = self.journal.open_stream(0).unwrap();
                self.models.insert(writer.id(), Model::default());
                self.writers.push(writer);
            }
            Op::Append { writer, lengths } => {
                let Some(writer) = pick(&self.writers, writer) else {
                    return;
                };
                let texts = self.new_texts(&lengths);
                let first = append(&self.writers[writer], &refs(&texts)).start;
                let model = self.models.get_mut(&self.writers[writer].id()).unwrap();
                model.acknowledged.extend((first..).zip(texts));
            }
            Op::Close { writer } => {
                let Some(writer) = pick(&self.writers, writer) else {
                    return;
                };
                self.writers.swap_remove(writer).close().unwrap();
            }
            Op::Crash {
                writer,
                lengths,
                cut,
            } => {
                let Some(writer) = pick(&self.writers, writer) else {
                    return;
                };
                let texts = self.new_texts(&lengths);
                crash_within_append(
                    self.dir.path(),
                    self.writers.swap_remove(writer),
                    &texts,
                    cut,
                );
            }
            Op::Vanish { writer } => {
                let Some(writer) = pick(&self.writers, writer) else {
                    return;
                };
                drop(self.writers.swap_remove(writer));
            }
            Op::Flip {
                stream,
                segment,
                bit,
            } => self.flip(stream, segment, bit),
            Op::Read { records_max } => self.read(records_max),
            Op::Commit => self.commit(),
            Op::RestartReader => {
                self.batches.clear();
                for model in self.models.values_mut() {
                    model.given.clear();
                    model.lost_given.clear();
                }
                self.reader = None;
                self.reader = Some(JournalReader::open(self.dir.path()).unwrap());
            }
            Op::Recover => drop(open(self.dir.path())),
        }
    }

    fn new_texts(&mut self, lengths: &[usize]) -> Vec<String> {
        let numbered = lengths.iter().map(|length| {
            self.texts += 1;
            format!("{}:{}", self.texts, "x".repeat(*length))
        });
        numbered.collect()
    }

    /// Flips a bit somewhere in a stream's files, and notes which event it hits.
    fn flip(&mut self, stream: Index, segment: Index, bit: Index) {
        let streams: Vec<_> = self.models.keys().copied().collect();
        let Some(stream) = pick(&streams, stream).map(|index| streams[index]) else {
            return;
        };
        if !crate::files::stream_dir(self.dir.path(), stream).exists() {
            return;
        }
        let paths = segments(self.dir.path(), stream);
        let path = &paths[segment.index(paths.len())];
        let first_seq = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let bytes = std::fs::read(path).unwrap();
        let bit = bit.index(bytes.len() * 8);
        let offset = bit / 8;
        let model = self.models.get_mut(&stream).unwrap();
        match event_at(&bytes, stream, first_seq, offset) {
            EventAt::Header => {}
            EventAt::Number(number) => {
                model.hit.insert(number);
            }
            EventAt::Unknown => return,
        }
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&[bytes[offset] ^ (1 << (bit % 8))], offset as u64)
            .unwrap();
    }

    fn read(&mut self, records_max: usize) {
        let reader = self.reader.as_mut().unwrap();
        let limits = BatchLimits { records_max, ..ALL };
        let mut batch = SourceBatch::default();
        reader.fill(&mut batch, &limits, later()).unwrap();
        reader.seal(&batch);
        for record in &batch.records {
            let model = self.models.get_mut(&record.stream).unwrap();
            let highest = model
                .given
                .last_key_value()
                .or_else(|| model.committed.last_key_value());
            assert!(
                highest.is_none_or(|(seq, _)| *seq < record.seq),
                "given twice or out of order"
            );
            model.given.insert(record.seq, said(&record.payload));
        }
        for lost in &batch.lost {
            let model = self.models.get_mut(&lost.stream.unwrap()).unwrap();
            model
                .lost_given
                .extend(lost.first_seq..lost.first_seq + lost.events);
        }
        self.batches.push(batch);
    }

    fn commit(&mut self) {
        let reader = self.reader.as_mut().unwrap();
        for batch in self.batches.drain(..) {
            reader.commit(&batch).unwrap();
        }
        for model in self.models.values_mut() {
            model.committed.append(&mut model.given);
            model.lost.append(&mut model.lost_given);
        }
    }

    /// Everyone dies, everything is read, and the model is compared.
    fn end(mut self) {
        self.commit();
        self.writers.clear();
        drop(self.journal);
        for _ in 0..4 {
            let reader = self.reader.as_mut().unwrap();
            let mut batch = SourceBatch::default();
            reader.fill(&mut batch, &ALL, later()).unwrap();
            for record in &batch.records {
                let model = self.models.get_mut(&record.stream).unwrap();
                let before = model.given.insert(record.seq, said(&record.payload));
                assert_eq!(before, None);
            }
            for lost in &batch.lost {
                let model = self.models.get_mut(&lost.stream.unwrap()).unwrap();
                model
                    .lost_given
                    .extend(lost.first_seq..lost.first_seq + lost.events);
            }
            reader.commit(&batch).unwrap();
        }
        for model in self.models.values_mut() {
            model.committed.append(&mut model.given);
            model.lost.append(&mut model.lost_given);
        }
        for (stream, model) in &self.models {
            model.check(*stream);
        }
        let left = crate::files::list_streams(self.dir.path()).unwrap();
        assert_eq!(left, [], "streams read to their end are gone");
    }
}

impl Model {
    fn check(&self, stream: StreamId) {
        for (seq, text) in &self.acknowledged {
            match self.committed.get(seq) {
                Some(Said::Change(read)) => assert_eq!(read, text, "{stream} {seq}"),
                Some(Said::Closed { .. }) if self.end_is_vague() => {}
                Some(other) => panic!("{stream} {seq} is {other:?}"),
                None => assert!(
                    self.hit.contains(seq) && self.lost.contains(seq),
                    "{stream} {seq} was acknowledged and is missing"
                ),
            }
        }
        // A flipped bit in an append that a crash had cut makes it look like damage, and then its
        // good events are given although no one had an answer for them: that does no harm.
        let last_acknowledged = self
            .acknowledged
            .last_key_value()
            .map_or(1, |(seq, _)| *seq);
        let torn_was_hit = self.hit.iter().any(|seq| *seq > last_acknowledged);
        let unheard = self.committed.iter().find(|(seq, said)| {
            matches!(said, Said::Change(_)) && !self.acknowledged.contains_key(seq)
        });
        assert!(
            torn_was_hit || unheard.is_none(),
            "{stream} gives {unheard:?}, never acknowledged"
        );
        assert!(
            self.lost.iter().all(|seq| self.hit.contains(seq)),
            "{stream} lost {:?} but only {:?} were hit",
            self.lost,
            self.hit
        );
        // Together they cover every number, and the stream has a beginning and an end.
        let last = *self.committed.last_key_value().unwrap().0;
        let whole: BTreeSet<_> = (1..=last).collect();
        let covered: BTreeSet<_> = self.committed.keys().chain(&self.lost).copied().collect();
        assert_eq!(covered, whole, "{stream}");
        let has_end = matches!(self.committed[&last], Said::Closed { .. });
        assert!(
            has_end || self.end_is_vague(),
            "{stream} has no end: hit {:?}, lost {:?}, last {last}",
            self.hit,
            self.lost
        );
    }

    /// Where several events in a row went bad before a crash, their count can't be known. The gap
    /// shows one of them at least, and the stream's end may get the number of another.
    fn end_is_vague(&self) -> bool {
        self.hit.iter().any(|seq| self.hit.contains(&(seq + 1)))
    }
}

fn pick<T>(from: &[T], index: Index) -> Option<usize> {
    (!from.is_empty()).then(|| index.index(from.len()))
}

fn refs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// Writes an append and cuts it off again at some byte, before its writer lets go of the stream: so
/// no one has read more of it than the crash left.
fn crash_within_append(dir: &Path, writer: StreamWriter, texts: &[String], cut: Index) {
    let stream = writer.id();
    let before = segments(dir, stream).pop().unwrap();
    let before_bytes = std::fs::metadata(&before).unwrap().len();
    append(&writer, &refs(texts));
    let after = segments(dir, stream).pop().unwrap();
    let begin = match after == before {
        true => before_bytes,
        false => SegmentHeader::BYTES as u64,
    };
    let file = OpenOptions::new().write(true).open(&after).unwrap();
    let bytes = usize::try_from(file.metadata().unwrap().len() - begin).unwrap();
    file.set_len(begin + cut.index(bytes) as u64).unwrap();
}

/// What a byte of a segment belongs to.
#[derive(Debug, PartialEq, Eq)]
enum EventAt {
    Header,
    Number(u64),
    /// Beyond a bad frame.
    Unknown,
}

fn event_at(bytes: &[u8], stream: StreamId, first_seq: u64, offset: usize) -> EventAt {
    if offset < SegmentHeader::BYTES {
        return EventAt::Header;
    }
    let mut at = SegmentHeader::BYTES;
    let mut number = first_seq;
    loop {
        match frame::parse(Seed::of(stream), &bytes[at..]) {
            Parsed::Frame(frame) => {
                number = frame.seq;
                at += frame.bytes();
                if offset < at {
                    return EventAt::Number(number);
                }
                number += 1;
            }
            Parsed::Unfinished { .. } => return EventAt::Number(number),
            Parsed::Damaged => return EventAt::Unknown,
        }
    }
}

proptest! {
    #[test]
    fn every_number_is_read_as_acknowledged_or_reported_lost(
        ops in proptest::collection::vec(op(), 1..60)
    ) {
        let mut world = World::new();
        for op in ops {
            world.act(op);
        }
        world.end();
    }
}
