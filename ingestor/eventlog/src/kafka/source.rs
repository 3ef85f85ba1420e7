//! Reads the topic as one member of a consumer group.
//!
//! Offsets are committed only when the ingestor says that a batch is stored. When partitions are
//! taken away, the ingestor gets a few seconds to commit what it has in hand, so that its successor
//! does not read it again; then the epoch rises. A commit for partitions that have been taken away
//! since is refused here: the broker would accept it and turn the successor's offsets back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::client::{self, Reporter};
use super::topic::ensure_topic;
use super::{InvalidKafkaOptions, KafkaOptions, SEQ_HEADER};
use crate::source::{
    BatchLimits, Committed, LossCause, Lost, Position, Progress, Record, Rejected, SourceBatch,
    SourceError,
};
use crate::worker::{Commit, Inbox, Order, Outbox, Worker};

/// How long a rebalance waits for the ingestor to commit what it has in hand.
const REVOKE_PATIENCE: Duration = Duration::from_secs(5);

/// How often an idle source shows the group that it lives.
const IDLE: Duration = Duration::from_millis(200);

/// How long a batch is filled at most.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How long one poll blocks, and so how long a commit may have to wait for it.
const POLL: Duration = Duration::from_millis(20);

/// How long the broker may take to say what has been committed.
const OFFSETS_PATIENCE: Duration = Duration::from_secs(5);

/// Pause before the topic is asked for again.
const RETRY: Duration = Duration::from_secs(1);

/// Kafka can't be read, or a commit failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceFault {
    #[error(transparent)]
    Options(#[from] InvalidKafkaOptions),
    #[error("the consumer group has no name")]
    NoGroup,
    #[error("start thread kafka-source: {0}")]
    Thread(#[source] std::io::Error),
    #[error("read topic {topic}: {source}")]
    Read { topic: Arc<str>, source: KafkaError },
    #[error("commit offsets of topic {topic}: {source}")]
    Commit { topic: Arc<str>, source: KafkaError },
}

/// What a source has counted since it was opened, for metrics. `partitions` is the state now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KafkaSourceStats {
    pub records: u64,
    pub bytes: u64,
    pub rejected: u64,
    pub partitions: u64,
    pub rebalances: u64,
    pub commits: u64,
    pub commits_refused: u64,
}

/// The next offset of each partition that a batch touched, and since when the partition had been
/// ours.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offsets(BTreeMap<i32, Reached>);

#[derive(Clone, Copy, Debug)]
struct Reached {
    next: i64,
    owned_since: u64,
}

impl Offsets {
    pub(crate) fn add_earlier(&mut self, earlier: Self) {
        for (partition, reached) in earlier.0 {
            self.0.entry(partition).or_insert(reached);
        }
    }
}

/// The topic, read as a member of a consumer group. Dropping it leaves the group.
#[derive(Debug)]
pub struct KafkaSource {
    worker: Worker,
    shared: Arc<Shared>,
}

impl KafkaSource {
    /// Joins the group. Brokers and topic need not be there yet; the topic is made if it is absent.
    pub fn open(options: KafkaOptions, group: &str) -> Result<Self, SourceFault> {
        options.check()?;
        if group.is_empty() {
            return Err(SourceFault::NoGroup);
        }
        let shared = Arc::<Shared>::default();
        let config = options.consumer(group);
        // Whether librdkafka takes the properties does not depend on any broker.
        let refused = |error: KafkaError| InvalidKafkaOptions::Refused {
            reason: error.to_string(),
        };
        config.create_native_config().map_err(refused)?;

        let worker = {
            let shared = Arc::clone(&shared);
            let run = move |inbox: Arc<Inbox>, outbox: Outbox| {
                let topic: Arc<str> = options.topic.as_str().into();
                let membership = Membership {
                    inbox: Arc::clone(&inbox),
                    shared: Arc::clone(&shared),
                    topic: Arc::clone(&topic),
                    state: Mutex::default(),
                    reporter: Reporter::default(),
                };
                let consumer = match Consumer::from_config_and_context(&config, membership) {
                    Ok(consumer) => consumer,
                    Err(source) => {
                        let fault = SourceFault::Read { topic, source };
                        let _ = outbox.blocking_send(Err(fault.into()));
                        return;
                    }
                };
                let consuming = Consuming {
                    consumer,
                    topic,
                    options,
                    shared,
                    expected: BTreeMap::new(),
                    carried: None,
                    paused: false,
                    subscribed: false,
                    subscribe_at: None,
                };
                consuming.run(&inbox, &outbox);
            };
            Worker::start("kafka-source", run).map_err(SourceFault::Thread)?
        };
        Ok(Self { worker, shared })
    }

    #[must_use]
    pub fn stats(&self) -> KafkaSourceStats {
        *self.shared.stats.lock()
    }

    pub(crate) async fn next(&mut self, limits: BatchLimits) -> Result<SourceBatch, SourceError> {
        self.worker.next(limits).await
    }

    pub(crate) async fn commit(&mut self, batch: &SourceBatch) -> Result<Committed, SourceError> {
        self.worker.commit(batch.progress.clone()).await
    }
}

#[derive(Debug, Default)]
struct Shared {
    stats: Mutex<KafkaSourceStats>,
}

/// What the group has given us. librdkafka calls it on the source's own thread, within a poll.
#[derive(Debug)]
struct Membership {
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    topic: Arc<str>,
    state: Mutex<State>,
    reporter: Reporter,
}

#[derive(Debug, Default)]
struct State {
    epoch: u64,
    /// The partitions that are ours, and the epoch in which each became so.
    owned: BTreeMap<i32, u64>,
    /// Partitions lost since the batch under way was begun.
    revoked: BTreeSet<i32>,
    /// Partitions won since the last look.
    assigned: BTreeSet<i32>,
    /// The batch that the ingestor has and has not committed.
    in_hand: Offsets,
    stopping: bool,
}

type Consumer = BaseConsumer<Membership>;

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reporter.error(&error, reason);
    }
}

impl ConsumerContext for Membership {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            let partitions = numbers(partitions);
            if !consumer.assignment_lost() {
                self.await_commits(consumer, &partitions);
            }
            self.revoke(partitions);
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                // librdkafka keeps a partition paused that was taken away while it was, and given
                // back.
                if let Err(error) = consumer.resume(partitions) {
                    self.reporter.error(&error, "resume partitions");
                }
                self.assign(numbers(partitions));
            }
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => self.reporter.error(error, "rebalance"),
        }
    }

    fn main_queue_min_poll_interval(&self) -> rdkafka::util::Timeout {
        POLL.into()
    }
}

fn numbers(partitions: &TopicPartitionList) -> BTreeSet<i32> {
    partitions
        .elements()
        .iter()
        .map(|element| element.partition())
        .collect()
}

/// A number that rises and that no other source of this process has: a batch of an earlier source
/// must not be taken for one of this.
fn next_epoch() -> u64 {
    static EPOCHS: AtomicU64 = AtomicU64::new(1);
    EPOCHS.fetch_add(1, Relaxed)
}

impl Membership {
    fn assign(&self, partitions: BTreeSet<i32>) {
        let mut state = self.state.lock();
        let epoch = next_epoch();
        state.epoch = epoch;
        for partition in partitions {
            state.owned.insert(partition, epoch);
            state.assigned.insert(partition);
        }
        self.note_rebalance(&state);
    }

    fn revoke(&self, partitions: BTreeSet<i32>) {
        let mut state = self.state.lock();
        state.epoch = next_epoch();
        for partition in partitions {
            state.owned.remove(&partition);
            state.assigned.remove(&partition);
            state.in_hand.0.remove(&partition);
            state.revoked.insert(partition);
        }
        self.note_rebalance(&state);
    }

    fn note_rebalance(&self, state: &State) {
        let mut stats = self.shared.stats.lock();
        stats.rebalances += 1;
        stats.partitions = state.owned.len() as u64;
        tracing::info!(topic = %self.topic, partitions = ?state.owned.keys(), epoch = state.epoch,
            "kafka partitions reassigned");
    }

    /// Lets the ingestor commit what it has in hand of partitions that are about to go.
    fn await_commits(&self, consumer: &Consumer, partitions: &BTreeSet<i32>) {
        let deadline = Instant::now() + REVOKE_PATIENCE;
        while self.holds_some_of(partitions) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.inbox.next_urgent(left) {
                Some(Order::Commit(commit)) => self.commit(consumer, commit),
                Some(Order::Stop) => self.state.lock().stopping = true,
                Some(Order::Batch(_)) => {}
                None => return,
            }
        }
    }

    fn holds_some_of(&self, partitions: &BTreeSet<i32>) -> bool {
        let state = self.state.lock();
        !state.stopping && partitions.iter().any(|p| state.in_hand.0.contains_key(p))
    }

    fn commit(&self, consumer: &Consumer, commit: Commit) {
        let done = match commit.progress {
            Progress::Kafka(offsets) => self.commit_offsets(consumer, &offsets),
            Progress::None | Progress::Journal(_) => Ok(Committed::Done),
        };
        // Who asked may have gone away; the commit stands all the same.
        let _ = commit.reply.send(done.map_err(SourceError::from));
    }

    fn commit_offsets(
        &self,
        consumer: &Consumer,
        offsets: &Offsets,
    ) -> Result<Committed, SourceFault> {
        let failed = |source| SourceFault::Commit {
            topic: Arc::clone(&self.topic),
            source,
        };
        let ours = self.still_ours(offsets);
        let mut list = TopicPartitionList::with_capacity(ours.len());
        for (partition, next) in &ours {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*next))
                .map_err(failed)?;
        }
        let all_ours = ours.len() == offsets.0.len();
        let committed = match ours.is_empty() {
            true => Ok(all_ours),
            false => match consumer.commit(&list, CommitMode::Sync) {
                Ok(()) => Ok(all_ours),
                Err(error) if is_refusal(&error) => Ok(false),
                Err(error) => Err(failed(error)),
            },
        }?;
        self.no_longer_in_hand(offsets);

        let mut stats = self.shared.stats.lock();
        if committed {
            stats.commits += 1;
            Ok(Committed::Done)
        } else {
            stats.commits_refused += 1;
            Ok(Committed::Refused)
        }
    }

    /// The offsets of partitions that have been ours ever since they were read.
    fn still_ours(&self, offsets: &Offsets) -> Vec<(i32, i64)> {
        let state = self.state.lock();
        let ours = offsets.0.iter().filter(|(partition, reached)| {
            state.owned.get(partition) == Some(&reached.owned_since)
        });
        ours.map(|(partition, reached)| (*partition, reached.next))
            .collect()
    }

    fn no_longer_in_hand(&self, offsets: &Offsets) {
        let in_hand = &mut self.state.lock().in_hand.0;
        for (partition, reached) in &offsets.0 {
            if in_hand
                .get(partition)
                .is_some_and(|held| held.next <= reached.next)
            {
                in_hand.remove(partition);
            }
        }
    }
}

/// Whether the broker says that we are not, or not just now, the member who may commit.
fn is_refusal(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::RebalanceInProgress
                | RDKafkaErrorCode::FencedInstanceId
                | RDKafkaErrorCode::AssignmentLost
        )
    )
}

struct Consuming {
    consumer: Consumer,
    topic: Arc<str>,
    options: KafkaOptions,
    shared: Arc<Shared>,
    /// The offset that each partition should go on with.
    expected: BTreeMap<i32, i64>,
    /// A batch's first message, if it came while none was asked for.
    carried: Option<SourceBatch>,
    paused: bool,
    subscribed: bool,
    subscribe_at: Option<Instant>,
}

impl Consuming {
    fn run(mut self, inbox: &Inbox, outbox: &Outbox) {
        while !self.consumer.context().state.lock().stopping {
            match inbox.next(IDLE) {
                Some(Order::Stop) => break,
                Some(Order::Commit(commit)) => self.commit(commit),
                Some(Order::Batch(limits)) => {
                    let batch = self.batch(inbox, &limits).map_err(SourceError::from);
                    if outbox.blocking_send(batch).is_err() {
                        break;
                    }
                }
                None if self.subscribed => self.idle(),
                None => {}
            }
        }
        // Dropping the consumer leaves the group; no one commits any more.
        self.consumer.context().state.lock().stopping = true;
    }

    fn commit(&self, commit: Commit) {
        self.consumer.context().commit(&self.consumer, commit);
    }

    /// Joins the group, if the topic is there or can be made. Asks for it now and then.
    fn subscribe(&mut self) -> Result<(), SourceFault> {
        let now = Instant::now();
        if self.subscribed || self.subscribe_at.is_some_and(|at| now < at) {
            return Ok(());
        }
        match ensure_topic(&self.options) {
            Ok(()) => {
                let subscribed = self.consumer.subscribe(&[&self.topic]);
                subscribed.map_err(|source| self.read_fault(source))?;
                self.subscribed = true;
            }
            Err(error) => {
                tracing::warn!(%error, topic = %self.topic, "topic not there yet");
                self.subscribe_at = Some(Instant::now() + RETRY);
            }
        }
        Ok(())
    }

    fn read_fault(&self, source: KafkaError) -> SourceFault {
        let topic = Arc::clone(&self.topic);
        SourceFault::Read { topic, source }
    }

    /// Fills a batch until it is full or its time is over.
    fn batch(&mut self, inbox: &Inbox, limits: &BatchLimits) -> Result<SourceBatch, SourceFault> {
        self.resume()?;
        let deadline = Instant::now() + limits.wait_max.min(WAIT_MAX);
        let mut batch = self.carried.take().unwrap_or_default();
        while !batch.is_full(limits) {
            let left = deadline.saturating_duration_since(Instant::now());
            let pause = match self.step(&mut batch, left.min(POLL)) {
                Ok(pause) => pause,
                Err(error) if batch.is_empty() => return Err(error),
                // What was read is given first; an error that lasts will come again.
                Err(_) => break,
            };
            match inbox.next_urgent(pause) {
                Some(Order::Commit(commit)) => self.commit(commit),
                Some(Order::Stop) => break,
                Some(Order::Batch(_)) | None => {}
            }
            if left.is_zero() {
                break;
            }
        }
        Ok(self.hand_over(batch))
    }

    /// Takes the next message, or tries to join the group. Says how long to pause then.
    fn step(&mut self, batch: &mut SourceBatch, wait: Duration) -> Result<Duration, SourceFault> {
        self.subscribe()?;
        if !self.subscribed {
            return Ok(wait);
        }
        self.poll(batch, wait)?;
        Ok(Duration::ZERO)
    }

    /// Serves the group while the ingestor wants nothing: pauses the partitions, so that polling,
    /// which tells the group that we live, brings no messages.
    fn idle(&mut self) {
        if !self.paused {
            let paused = self
                .consumer
                .assignment()
                .and_then(|assignment| self.consumer.pause(&assignment));
            match paused {
                Ok(()) => self.paused = true,
                Err(error) => tracing::warn!(%error, "kafka partitions not paused"),
            }
        }
        let mut batch = self.carried.take().unwrap_or_default();
        if let Err(error) = self.poll(&mut batch, Duration::ZERO) {
            tracing::warn!(%error, "kafka not polled");
        }
        self.carried = Some(batch);
    }

    fn resume(&mut self) -> Result<(), SourceFault> {
        if !std::mem::take(&mut self.paused) {
            return Ok(());
        }
        self.consumer
            .assignment()
            .and_then(|assignment| self.consumer.resume(&assignment))
            .map_err(|source| self.read_fault(source))
    }

    /// Takes the next message, if one comes in time.
    fn poll(&mut self, batch: &mut SourceBatch, wait: Duration) -> Result<(), SourceFault> {
        let polled = self.consumer.poll(wait);
        let rebalanced = {
            let mut state = self.consumer.context().state.lock();
            let assigned = std::mem::take(&mut state.assigned);
            let revoked = std::mem::take(&mut state.revoked);
            (assigned, revoked)
        };
        let message = match polled {
            Some(Ok(message)) => Some(message),
            Some(Err(source @ KafkaError::MessageConsumptionFatal(_))) => {
                return Err(self.read_fault(source));
            }
            // The client gets over it by itself, and has reported it.
            Some(Err(_)) | None => None,
        };
        let (assigned, revoked) = rebalanced;
        for partition in revoked.iter().chain(&assigned) {
            self.expected.remove(partition);
        }
        // What has just been assigned is not paused.
        self.paused &= assigned.is_empty();
        if !revoked.is_empty() {
            batch.forget_partitions(&revoked);
        }
        if let Some(message) = message {
            Intake {
                consumer: &self.consumer,
                topic: &self.topic,
                expected: &mut self.expected,
                stats: &self.shared.stats,
            }
            .take(&message, batch);
        }
        Ok(())
    }

    /// Notes that the ingestor has the batch now.
    fn hand_over(&self, mut batch: SourceBatch) -> SourceBatch {
        let mut state = self.consumer.context().state.lock();
        batch.epoch = state.epoch;
        if let Progress::Kafka(offsets) = &batch.progress {
            state.in_hand.0.extend(offsets.0.iter());
        }
        batch
    }
}

/// What taking a message needs.
struct Intake<'a> {
    consumer: &'a Consumer,
    topic: &'a Arc<str>,
    expected: &'a mut BTreeMap<i32, i64>,
    stats: &'a Mutex<KafkaSourceStats>,
}

impl Intake<'_> {
    fn take(&mut self, message: &BorrowedMessage<'_>, batch: &mut SourceBatch) {
        let (partition, offset) = (message.partition(), message.offset());
        let owner = self
            .consumer
            .context()
            .state
            .lock()
            .owned
            .get(&partition)
            .copied();
        // A message of a partition that is not ours any more is its new owner's.
        let Some(owned_since) = owner else { return };

        self.note_gap(partition, offset, batch);
        self.expected.insert(partition, offset + 1);
        batch.progress.note_offset(
            partition,
            Reached {
                next: offset + 1,
                owned_since,
            },
        );
        let position = self.position(partition, offset);
        let payload = Bytes::copy_from_slice(message.payload().unwrap_or_default());
        let mut stats = self.stats.lock();
        match identity(message) {
            Ok((stream, seq)) => {
                stats.records += 1;
                stats.bytes += payload.len() as u64;
                batch.push(Record {
                    stream,
                    seq,
                    payload,
                    position,
                });
            }
            Err(reason) => {
                stats.rejected += 1;
                batch.rejected.push(Rejected {
                    position,
                    payload,
                    reason,
                });
            }
        }
    }

    fn position(&self, partition: i32, offset: i64) -> Position {
        Position::Kafka {
            topic: Arc::clone(self.topic),
            partition,
            offset,
        }
    }

    /// Offsets of the topic have no holes. Where one opens, messages were deleted unread.
    fn note_gap(&mut self, partition: i32, offset: i64, batch: &mut SourceBatch) {
        let expected = match self.expected.get(&partition) {
            Some(expected) => *expected,
            None => self.committed(partition).unwrap_or(offset),
        };
        let missing = offset.saturating_sub(expected);
        if missing <= 0 {
            return;
        }
        tracing::error!(topic = %self.topic, partition, expected, offset, "kafka has deleted messages before they were read");
        batch.lost.push(Lost {
            stream: None,
            first_seq: 0,
            events: missing.unsigned_abs(),
            bytes: 0,
            position: self.position(partition, expected),
            cause: LossCause::Expired,
        });
    }

    /// Where reading of the partition was to go on, if the group has committed anything.
    fn committed(&self, partition: i32) -> Option<i64> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(self.topic, partition);
        let committed = self
            .consumer
            .committed_offsets(list, OFFSETS_PATIENCE)
            .ok()?;
        match committed.find_partition(self.topic, partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }
}

/// Which event a message holds; otherwise what is wrong with it.
fn identity(message: &BorrowedMessage<'_>) -> Result<(weir_schemas::StreamId, u64), &'static str> {
    if message.payload().is_none_or(<[u8]>::is_empty) {
        return Err("the message has no value");
    }
    let key = message.key().ok_or("the message has no key")?;
    let key = std::str::from_utf8(key).ok();
    let stream = key
        .and_then(|key| key.parse().ok())
        .ok_or("the message's key is no stream id")?;

    let headers = message.headers().ok_or("the message has no header seq")?;
    let mut headers = headers.iter().filter(|header| header.key == SEQ_HEADER);
    let seq = headers
        .next()
        .and_then(|header| header.value)
        .ok_or("the message has no header seq")?;
    let seq = std::str::from_utf8(seq)
        .ok()
        .and_then(|seq| seq.parse().ok());
    match seq {
        Some(0) | None => Err("the message's header seq is no sequence number"),
        Some(seq) => Ok((stream, seq)),
    }
}

impl SourceBatch {
    /// Takes out what came from partitions that belong to someone else now.
    fn forget_partitions(&mut self, partitions: &BTreeSet<i32>) {
        let stays = |position: &Position| match position {
            Position::Kafka { partition, .. } => !partitions.contains(partition),
            Position::Journal { .. } => true,
        };
        self.records.retain(|record| stays(&record.position));
        self.rejected.retain(|rejected| stays(&rejected.position));
        self.lost.retain(|lost| stays(&lost.position));
        self.bytes = self.records.iter().map(|record| record.payload.len()).sum();
        if let Progress::Kafka(offsets) = &mut self.progress {
            offsets
                .0
                .retain(|partition, _| !partitions.contains(partition));
        }
    }
}

impl Progress {
    fn note_offset(&mut self, partition: i32, reached: Reached) {
        if let Self::None = self {
            *self = Self::Kafka(Offsets::default());
        }
        if let Self::Kafka(offsets) = self {
            offsets.0.insert(partition, reached);
        }
    }
}
