//! Everything outside the ingestors.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Instant;
use weir_schemas::StreamId;

use super::gateway::{
    EVENTS_MAX, Place, REFUSED, STREAMS_MAX, Tampering, UNREADABLE, Written, index_of, is_dead,
    seal_of, stream_id, ts_us, written,
};
use super::seals::Checkpoints;
use crate::hashes::StoredRow;
use crate::health::IngestorHealth;
use crate::stored::{SearchFrom, SeqRun};

const PARTITIONS: usize = 2;

/// The store keeps tokens for so long; really it keeps 10 000 of them.
pub(super) const TOKENS_KEPT: Duration = Duration::from_secs(120);
/// The longest that an insert runs in the store.
const INSERT_MAX: Duration = Duration::from_secs(60);
/// Time that passes at once, at most.
pub(super) const LEAP_MAX: Duration = Duration::from_secs(40);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// The ingestor reads the journal itself.
    Journal,
    Kafka,
}

pub(super) type Row = (StreamId, u64);

/// A dead letter: location, position, kind.
pub(super) type Letter = (String, u64, String);

/// A stream of a gateway's, in its journal.
#[derive(Debug, Default)]
struct Stream {
    appended: u64,
    closed: bool,
    /// Sent to Kafka, and known to have arrived there.
    sent: u64,
    acknowledged: u64,
}

#[derive(Debug, Default)]
struct Partition {
    records: Vec<(usize, u64)>,
    committed: usize,
    owner: Option<u64>,
    owned_since: u64,
}

/// An insert in the store.
#[derive(Debug)]
struct Insert {
    id: u64,
    rows: Vec<Row>,
    token: String,
    began: Instant,
}

/// What the sender of an insert gets to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    NotYet,
    Stored,
    Refused,
    /// The connection is gone; the insert may run on.
    Cut,
}

#[derive(Debug)]
pub(super) struct World {
    random: SmallRng,
    digest: u64,
    mode: Mode,
    /// Whether the ingestors compare rows with seals and make checkpoints.
    is_sealing: bool,
    is_calm: bool,
    /// Whether to show what happens.
    is_told: bool,
    streams: Vec<Stream>,
    partitions: Vec<Partition>,
    members: Vec<u64>,
    numbers: u64,
    started: Option<Instant>,
    inserts: Vec<Insert>,
    answers: BTreeMap<u64, Answer>,
    tokens: BTreeMap<String, Instant>,
    rows: BTreeSet<Row>,
    letters: BTreeSet<Letter>,
    pub(super) checkpoints: Checkpoints,
    /// What somebody does to an event between its gateway and the ingestors.
    tampering: Option<Tampering>,
    /// Of all ingestors that ever ran.
    ingestors: Vec<IngestorHealth>,
}

impl World {
    pub(super) fn of_seed(seed: u64, is_told: bool) -> Self {
        let mode = if seed.is_multiple_of(4) {
            Mode::Journal
        } else {
            Mode::Kafka
        };
        Self {
            is_sealing: seed % 8 < 4,
            ..Self::new(seed, mode, is_told)
        }
    }

    pub(super) fn new(seed: u64, mode: Mode, is_told: bool) -> Self {
        let partitions = match mode {
            Mode::Journal => 1,
            Mode::Kafka => PARTITIONS,
        };
        Self {
            random: SmallRng::seed_from_u64(seed),
            digest: seed,
            mode,
            is_sealing: true,
            is_calm: false,
            is_told,
            streams: vec![Stream::default()],
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            members: Vec::new(),
            numbers: 0,
            started: None,
            inserts: Vec::new(),
            answers: BTreeMap::new(),
            tokens: BTreeMap::new(),
            rows: BTreeSet::new(),
            letters: BTreeSet::new(),
            checkpoints: Checkpoints::default(),
            tampering: None,
            ingestors: Vec::new(),
        }
    }

    pub(super) fn tampered(self, tampering: Tampering) -> Self {
        Self {
            is_sealing: true,
            tampering: Some(tampering),
            ..self
        }
    }

    pub(super) fn is_sealing(&self) -> bool {
        self.is_sealing
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Takes something that happened into the digest.
    pub(super) fn note(&mut self, what: u64) {
        self.digest = (self.digest ^ what).wrapping_mul(0x0100_0000_01b3);
    }

    /// Shows what happens, if somebody looks.
    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            println!("{}", what());
        }
    }

    pub(super) fn choose(&mut self, below: usize) -> usize {
        let choice = self.random.random_range(0..below);
        self.note(choice as u64);
        choice
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// From now on nothing fails any more.
    pub(super) fn calm(&mut self) {
        self.is_calm = true;
    }

    // The gateways and their journal.

    pub(super) fn append(&mut self) {
        let open: Vec<usize> = (0..self.streams.len())
            .filter(|at| !self.streams[*at].closed && self.streams[*at].appended < EVENTS_MAX)
            .collect();
        if let Some(at) = (!open.is_empty()).then(|| open[self.choose(open.len())]) {
            let events = 1 + self.choose(3) as u64;
            self.extend(at, events);
        }
    }

    /// So many more events in a stream.
    pub(super) fn extend(&mut self, at: usize, events: u64) {
        for _ in 0..events {
            self.streams[at].appended += 1;
            if self.mode == Mode::Journal {
                let seq = self.streams[at].appended;
                self.partitions[0].records.push((at, seq));
            }
        }
    }

    /// Its streams end, and the next boot has new ones.
    pub(super) fn kill_gateway(&mut self) {
        if self.streams.len() == STREAMS_MAX {
            return;
        }
        let open = (0..self.streams.len()).filter(|at| !self.streams[*at].closed);
        for at in open.collect::<Vec<_>>() {
            self.streams[at].closed = true;
            self.extend(at, 1);
        }
        self.streams.push(Stream::default());
    }

    // The shipper. It knows what has arrived a little later than it arrives.

    pub(super) fn ship(&mut self) {
        if self.mode == Mode::Journal {
            return;
        }
        for at in 0..self.streams.len() {
            let is_known = self.is_calm || self.choose(2) == 0;
            let stream = &mut self.streams[at];
            if is_known {
                stream.acknowledged = stream.sent;
            }
            let left = usize::try_from(stream.appended - stream.sent).unwrap();
            let count = if self.is_calm {
                left
            } else {
                self.choose(left + 1)
            };
            for _ in 0..count {
                self.streams[at].sent += 1;
                let seq = self.streams[at].sent;
                self.partitions[at % PARTITIONS].records.push((at, seq));
            }
        }
    }

    pub(super) fn kill_shipper(&mut self) {
        for stream in &mut self.streams {
            stream.sent = stream.acknowledged;
        }
    }

    // The consumer group.

    pub(super) fn join(&mut self) -> u64 {
        let member = self.next_number();
        self.members.push(member);
        member
    }

    pub(super) fn new_health(&mut self) -> IngestorHealth {
        let health = IngestorHealth::default();
        self.ingestors.push(health.clone());
        health
    }

    pub(super) fn leave(&mut self, member: u64) {
        self.members.retain(|it| *it != member);
        for partition in &mut self.partitions {
            partition.owner = partition.owner.filter(|owner| *owner != member);
        }
    }

    /// Gives each partition to some member. Those that had one learn of it when they ask.
    pub(super) fn rebalance(&mut self) {
        if self.members.is_empty() {
            return;
        }
        for at in 0..self.partitions.len() {
            let member = self.choose(self.members.len());
            let member = self.members[member];
            if self.partitions[at].owner != Some(member) {
                let since = self.next_number();
                self.tell(|| format!("partition {at} goes to {member}"));
                let partition = &mut self.partitions[at];
                (partition.owner, partition.owned_since) = (Some(member), since);
            }
        }
    }

    /// The partitions of a member: number, since when, and where the group has committed.
    pub(super) fn owned(&self, member: u64) -> Vec<(usize, u64, usize)> {
        let partitions = self.partitions.iter().enumerate();
        partitions
            .filter(|(_, it)| it.owner == Some(member))
            .map(|(at, it)| (at, it.owned_since, it.committed))
            .collect()
    }

    /// An event as it comes out of the log, if it does.
    pub(super) fn given(&self, place: Place) -> Option<Rc<Written>> {
        let tampering = self.tampering.filter(|it| it.place == place);
        tampering.map_or_else(|| Some(written(place)), Tampering::result)
    }

    /// Some records of a partition from an offset on.
    pub(super) fn read(&mut self, partition: usize, from: usize) -> Vec<(usize, u64)> {
        let left = self.partitions[partition].records.len() - from;
        let count = if self.is_calm {
            left
        } else {
            self.choose(left + 1)
        };
        self.partitions[partition].records[from..from + count].to_vec()
    }

    /// Whether the member still had the partition.
    pub(super) fn commit(
        &mut self,
        member: u64,
        partition: usize,
        since: u64,
        next: usize,
    ) -> bool {
        let it = &mut self.partitions[partition];
        let is_owner = it.owner == Some(member) && it.owned_since == since;
        if is_owner {
            it.committed = next;
        }
        self.tell(|| format!("{member} commits {partition}@{next}: {is_owner}"));
        self.note(u64::from(is_owner));
        is_owner
    }

    // The store.

    /// The store's clock, in microseconds.
    pub(super) fn now_us(&mut self) -> u64 {
        let started = *self.started.get_or_insert_with(Instant::now);
        u64::try_from(started.elapsed().as_micros()).unwrap()
    }

    /// None if it comes too late.
    pub(super) fn begin_insert(
        &mut self,
        rows: Vec<Row>,
        token: String,
        deadline_us: Option<u64>,
    ) -> Option<u64> {
        if deadline_us.is_some_and(|deadline_us| self.now_us() > deadline_us) {
            self.tell(|| format!("too late: {} {:?}", short(&token), seqs(&rows)));
            return None;
        }
        let id = self.next_number();
        let began = Instant::now();
        self.tell(|| format!("insert {id}: {} {:?}", short(&token), seqs(&rows)));
        let is_refused = rows.iter().any(|row| is_place(*row, REFUSED));
        let answer = if is_refused {
            Answer::Refused
        } else {
            self.inserts.push(Insert {
                id,
                rows,
                token,
                began,
            });
            Answer::NotYet
        };
        self.answers.insert(id, answer);
        Some(id)
    }

    pub(super) fn answer(&mut self, insert: u64) -> Answer {
        self.answers[&insert]
    }

    pub(super) fn running(&self, began_before: Duration) -> u64 {
        let running = self.inserts.iter();
        running
            .filter(|it| it.began.elapsed() >= began_before)
            .count() as u64
    }

    /// What is stored of some streams, each from a number and a time on.
    pub(super) fn runs(&self, questions: &[(StreamId, SearchFrom)]) -> Vec<(StreamId, SeqRun)> {
        let stored = |(stream, from): &(StreamId, SearchFrom)| {
            let since_us = from.since_us;
            let rows = self.rows.range((*stream, from.seq)..=(*stream, u64::MAX));
            rows.filter(move |(_, seq)| ts_us(*seq) >= since_us)
                .map(|(stream, seq)| (*stream, (*seq, *seq)))
        };
        let runs: Vec<_> = questions.iter().flat_map(stored).collect();
        self.tell(|| format!("asked for {questions:?}: {runs:?}"));
        runs
    }

    /// Rows of a stream, in order.
    pub(super) fn stored_rows(
        &self,
        stream: StreamId,
        (first, last): (u64, u64),
    ) -> Vec<StoredRow> {
        let rows = self.rows.range((stream, first)..=(stream, last));
        let row = |(stream, seq): &Row| self.given((index_of(*stream), *seq))?.row.clone();
        rows.filter_map(row).collect()
    }

    /// Streams with rows, each with its last number and its earliest time.
    pub(super) fn reaches(&self) -> BTreeMap<StreamId, (u64, u64)> {
        let mut reaches = BTreeMap::new();
        for (stream, seq) in &self.rows {
            let reach = reaches.entry(*stream).or_insert((0, u64::MAX));
            *reach = (*seq, reach.1.min(ts_us(*seq)));
        }
        reaches
    }

    pub(super) fn finish_an_insert(&mut self) {
        if !self.inserts.is_empty() {
            let at = self.choose(self.inserts.len());
            self.finish(at);
        }
    }

    pub(super) fn finish_inserts(&mut self) {
        while !self.inserts.is_empty() {
            self.finish(0);
        }
    }

    pub(super) fn finish_old_inserts(&mut self) {
        let is_old = |it: &Insert| it.began.elapsed() + LEAP_MAX >= INSERT_MAX;
        while let Some(at) = self.inserts.iter().position(is_old) {
            self.finish(at);
        }
    }

    fn finish(&mut self, at: usize) {
        let insert = self.inserts.remove(at);
        self.note(insert.id);
        let is_new = self.is_new(&insert.token);
        self.tell(|| format!("insert {} ends, new: {is_new}", insert.id));
        if is_new {
            self.keep(&insert.rows);
        }
        let answer = self.answers.get_mut(&insert.id).unwrap();
        if *answer == Answer::NotYet {
            *answer = Answer::Stored;
        }
    }

    /// Writes a token down, unless it is there.
    fn is_new(&mut self, token: &str) -> bool {
        let now = Instant::now();
        self.tokens.retain(|_, since| now - *since < TOKENS_KEPT);
        self.tokens.insert(token.to_owned(), now).is_none()
    }

    fn keep(&mut self, rows: &[Row]) {
        for (stream, seq) in rows {
            let is_new = self.rows.insert((*stream, *seq));
            let stream = index_of(*stream);
            assert!(is_new, "event {seq} of stream {stream} is stored twice");
        }
    }

    /// The sender hears nothing more; the insert runs on.
    pub(super) fn cut_an_answer(&mut self) {
        if !self.inserts.is_empty() {
            let at = self.choose(self.inserts.len());
            let id = self.inserts[at].id;
            self.tell(|| format!("the answer to insert {id} is cut"));
            self.answers.insert(id, Answer::Cut);
        }
    }

    /// Of what was running, some is not there, some is, and of some only the token is.
    pub(super) fn kill_store(&mut self) {
        while let Some(insert) = self.inserts.pop() {
            let has_token = self.choose(2) == 0 && self.is_new(&insert.token);
            let has_rows = has_token && self.choose(2) == 0;
            if has_rows {
                self.keep(&insert.rows);
            }
            self.tell(|| {
                let id = insert.id;
                format!("the store dies in insert {id}: token {has_token}, rows {has_rows}")
            });
            self.answers.insert(insert.id, Answer::Cut);
        }
    }

    // What the schedules of bugs need.

    /// The store knows a token, and a crash has taken the rows with it.
    pub(super) fn forget_rows_of(&mut self, token: &str) {
        assert!(self.is_new(token), "{token} is known");
    }

    /// The log gives everything again, as after a commit that was lost.
    pub(super) fn give_again(&mut self) {
        for partition in &mut self.partitions {
            partition.committed = 0;
        }
    }

    pub(super) fn is_inserting(&self, first: Row) -> bool {
        self.inserts.iter().any(|it| it.rows[0] == first)
    }

    pub(super) fn finish_inserts_but(&mut self, first: Row) {
        while let Some(at) = self.inserts.iter().position(|it| it.rows[0] != first) {
            self.finish(at);
        }
    }

    /// Somebody else inserts the first row alone, under the token of the insert that has it.
    pub(super) fn insert_first(&mut self, first: Row) {
        let insert = self.inserts.iter().find(|it| it.rows[0] == first).unwrap();
        let token = insert.token.clone();
        assert!(insert.rows.len() > 1, "there are no rows to lose");
        assert!(self.is_new(&token));
        self.keep(&[first]);
    }

    pub(super) fn is_buried(&self, letter: &Letter) -> bool {
        self.letters.contains(letter)
    }

    pub(super) fn bury(&mut self, letter: Letter) {
        self.letters.insert(letter);
    }

    // What must hold.

    pub(super) fn is_drained(&self) -> bool {
        let is_shipped = |it: &Stream| self.mode == Mode::Journal || it.sent == it.appended;
        self.streams.iter().all(is_shipped)
            && self
                .partitions
                .iter()
                .all(|it| it.committed == it.records.len())
    }

    pub(super) fn check_all_is_stored(&self) {
        assert!(self.is_drained(), "not all of the log was stored in time");
        for (at, stream) in self.streams.iter().enumerate() {
            for seq in 1..=stream.appended {
                let is_lost = is_dead((at, seq)) || self.given((at, seq)).is_none();
                let is_there = self.rows.contains(&(stream_id(at), seq));
                assert_eq!(is_there, !is_lost, "event {seq} of stream {at}");
            }
        }
        for ((at, seq), kind) in [(UNREADABLE, "unreadable"), (REFUSED, "refused")] {
            let was_written = self.streams.get(at).is_some_and(|it| it.appended >= seq);
            let is_buried = self.letters.iter().any(|it| it.2 == kind);
            assert_eq!(was_written, is_buried, "a dead letter of kind {kind}");
        }
    }

    /// What is sealed is what is stored. Returns the events that are not what their gateways sealed.
    pub(super) fn other_than_sealed(&self) -> BTreeSet<Place> {
        let mut other = BTreeSet::new();
        for at in 0..self.streams.len() {
            let rows = self.stored_rows(stream_id(at), (1, u64::MAX));
            other.extend(self.checkpoints.check(at, &rows));
        }
        other
    }

    /// How many rows the ingestors have found to be other than sealed.
    pub(super) fn alarms(&self) -> u64 {
        self.ingestors.iter().map(|it| it.snapshot().altered).sum()
    }

    /// Whether an event was written, and sealed.
    pub(super) fn is_sealed(&self, (at, seq): Place) -> bool {
        let stream = self.streams.get(at);
        stream.is_some_and(|it| seal_of((at, seq)) <= it.appended)
    }
}

fn short(token: &str) -> String {
    let mut parts: Vec<&str> = token.split(':').collect();
    parts[1] = &parts[1][34..];
    parts.join(":")
}

fn seqs(rows: &[Row]) -> Vec<u64> {
    rows.iter().map(|(_, seq)| *seq).collect()
}

fn is_place(row: Row, place: (usize, u64)) -> bool {
    row == (stream_id(place.0), place.1)
}
