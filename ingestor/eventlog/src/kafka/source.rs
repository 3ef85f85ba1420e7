//! Reads the topic as one member of a consumer group.
//!
//! Offsets are committed only when the ingestor says that a batch is stored. When partitions are
//! taken away, the ingestor gets a few seconds to commit what it has been given, so that its successor
//! does not read it again; then the epoch rises. A commit for partitions that have been taken away
//! since is refused here: the broker would accept it and turn the successor's offsets back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::RecvTimeoutError;
use parking_lot::Mutex;
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::client::{self, Reporter};
use super::topic::ensure_topic;
use super::{InvalidKafkaOptions, KafkaOptions, SEQ_HEADER};
use crate::batch::{
    BatchLimits, Committed, LogRecord, LossCause, Lost, Position, Rejected, SourceBatch,
};
use crate::caps::{
    BATCH_WAIT_MAX, GROUP_POLL, GROUP_POLL_IDLE, KAFKA_RETRY, OFFSETS_PATIENCE, REREAD_MAX,
    REVOKE_PATIENCE,
};
use crate::parts::Parts;
use crate::progress::{PartitionOffset, PartitionOffsets};
use crate::source_thread::{BatchSender, Commit, SourceCommand, SourceCommands, SourceThread};

/// Kafka can't be read, or a commit failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceFault {
    #[error(transparent)]
    Options(#[from] InvalidKafkaOptions),
    #[error("the consumer group has no name")]
    NoGroup,
    #[error("start the thread kafka-source: {0}")]
    Thread(#[source] std::io::Error),
    #[error("read the topic {topic}: {source}")]
    Read { topic: Arc<str>, source: KafkaError },
    #[error("commit offsets of the topic {topic}: {source}")]
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

/// The topic, read as a member of a consumer group. Dropping it leaves the group.
#[derive(Debug)]
pub struct KafkaSource {
    pub(crate) thread: SourceThread<SourceFault>,
    stats: Arc<Mutex<KafkaSourceStats>>,
}

impl KafkaSource {
    /// Joins the group. Brokers and topic need not be there yet; the topic is made if it is absent.
    pub fn open(options: KafkaOptions, group: &str) -> Result<Self, SourceFault> {
        Self::open_as_part(options, group, &Parts::default())
    }

    /// The same, as the part `kafka-source` of a process.
    pub fn open_as_part(
        options: KafkaOptions,
        group: &str,
        parts: &Parts,
    ) -> Result<Self, SourceFault> {
        options.check()?;
        if group.is_empty() {
            return Err(SourceFault::NoGroup);
        }
        let stats = Arc::<Mutex<KafkaSourceStats>>::default();
        let config = options.consumer(group);
        let name = "kafka-source";
        let topic: Arc<str> = options.topic.as_str().into();
        let shared_stats = Arc::clone(&stats);
        let run = move |commands, batches: BatchSender<SourceFault>| {
            let membership = Membership {
                commands,
                stats: shared_stats,
                topic: Arc::clone(&topic),
                group: Mutex::default(),
                reporter: Reporter::default(),
            };
            match Consumer::from_config_and_context(&config, membership) {
                Ok(consumer) => ConsumeLoop {
                    consumer,
                    options,
                    carried: SourceBatch::default(),
                    subscribed: false,
                    subscribe_at: None,
                }
                .run(&batches),
                Err(source) => {
                    let _ = batches.blocking_send(Err(SourceFault::Read { topic, source }));
                }
            }
        };
        let thread =
            SourceThread::start(name, parts.add(name), run).map_err(SourceFault::Thread)?;
        Ok(Self { thread, stats })
    }

    #[must_use]
    pub fn stats(&self) -> KafkaSourceStats {
        *self.stats.lock()
    }
}

/// This consumer as a member of the group. librdkafka calls it on the source's own thread, within a
/// poll.
#[derive(Debug)]
struct Membership {
    commands: SourceCommands<SourceFault>,
    stats: Arc<Mutex<KafkaSourceStats>>,
    topic: Arc<str>,
    group: Mutex<Assignment>,
    reporter: Reporter,
}

/// What the group has assigned to this consumer.
#[derive(Debug, Default)]
struct Assignment {
    epoch: u64,
    owned: BTreeMap<i32, OwnedPartition>,
    /// Partitions revoked since the last poll.
    revoked: BTreeSet<i32>,
    /// All that are owned bring no messages.
    paused: bool,
    /// What the ingestor has been given and has not committed.
    uncommitted: PartitionOffsets,
}

#[derive(Clone, Copy, Debug)]
struct OwnedPartition {
    /// The epoch in which it was assigned.
    since: u64,
    /// The offset that it should go on with, once a message has come.
    expected: Option<i64>,
}

type Consumer = BaseConsumer<Membership>;

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::contain(|| client::log(level, facility, message));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client::contain(|| self.reporter.error(&error, reason));
    }
}

impl ConsumerContext for Membership {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(partitions) = rebalance else {
            return;
        };
        client::contain(|| {
            let partitions = numbers(partitions);
            if !consumer.assignment_lost() {
                self.await_commits(consumer, &partitions);
            }
            self.revoke(partitions);
        });
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        client::contain(|| match rebalance {
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
        });
    }

    fn main_queue_min_poll_interval(&self) -> rdkafka::util::Timeout {
        GROUP_POLL.into()
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
        let mut group = self.group.lock();
        let epoch = next_epoch();
        group.epoch = epoch;
        // What has just been assigned is not paused.
        group.paused &= partitions.is_empty();
        for partition in partitions {
            let owned = OwnedPartition {
                since: epoch,
                expected: None,
            };
            group.owned.insert(partition, owned);
        }
        self.note_rebalance(&group);
    }

    fn revoke(&self, partitions: BTreeSet<i32>) {
        let mut group = self.group.lock();
        group.epoch = next_epoch();
        for partition in partitions {
            group.owned.remove(&partition);
            group.uncommitted.remove(&partition);
            group.revoked.insert(partition);
        }
        self.note_rebalance(&group);
    }

    fn note_rebalance(&self, group: &Assignment) {
        let mut stats = self.stats.lock();
        stats.rebalances += 1;
        stats.partitions = group.owned.len() as u64;
        tracing::info!(topic = %self.topic, partitions = ?group.owned.keys(), epoch = group.epoch,
            "kafka partitions reassigned");
    }

    /// Lets the ingestor commit what it has been given of partitions that are about to be revoked.
    fn await_commits(&self, consumer: &Consumer, partitions: &BTreeSet<i32>) {
        let deadline = Instant::now() + REVOKE_PATIENCE;
        while self.awaits_commit_of(partitions) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.commands.next_commit(left) {
                Ok(commit) => self.commit(consumer, commit),
                Err(_) => return,
            }
        }
    }

    fn awaits_commit_of(&self, partitions: &BTreeSet<i32>) -> bool {
        let uncommitted = &self.group.lock().uncommitted;
        partitions.iter().any(|p| uncommitted.contains_key(p))
    }

    /// Goes to the beginning of every partition that is ours.
    fn reread(&self, consumer: &Consumer) -> KafkaResult<Committed> {
        let owned: Vec<i32> = self.group.lock().owned.keys().copied().collect();
        let mut firsts = TopicPartitionList::with_capacity(owned.len());
        for partition in &owned {
            let (first, _) = consumer.fetch_watermarks(&self.topic, *partition, REREAD_MAX)?;
            let first = Offset::Offset(first);
            consumer.seek(&self.topic, *partition, first, REREAD_MAX)?;
            firsts.add_partition_offset(&self.topic, *partition, first)?;
        }
        if !owned.is_empty() {
            // Should this process be killed, the next one begins there too.
            consumer.commit(&firsts, CommitMode::Sync)?;
        }
        let mut group = self.group.lock();
        group.epoch = next_epoch();
        group.uncommitted.clear();
        group
            .owned
            .values_mut()
            .for_each(|owned| owned.expected = None);
        Ok(Committed::Done)
    }

    fn commit(&self, consumer: &Consumer, commit: Commit<SourceFault>) {
        if commit.rereads {
            // In the middle of a rebalance.
            return commit.reply(Ok(Committed::Refused));
        }
        let committed = self.commit_offsets(consumer, &commit.progress.partitions);
        commit.reply(committed);
    }

    fn commit_offsets(
        &self,
        consumer: &Consumer,
        offsets: &PartitionOffsets,
    ) -> Result<Committed, SourceFault> {
        let failed = |source| SourceFault::Commit {
            topic: Arc::clone(&self.topic),
            source,
        };
        let ours = self.still_ours(offsets).map_err(failed)?;
        let all_ours = ours.count() == offsets.len();
        let outcome = match ours.count() {
            0 => Ok(()),
            _ => consumer.commit(&ours, CommitMode::Sync),
        };
        let committed = match outcome {
            Ok(()) => all_ours,
            Err(error) if is_refusal(&error) => false,
            Err(error) => return Err(failed(error)),
        };
        self.note_committed(offsets);

        let mut stats = self.stats.lock();
        if committed {
            stats.commits += 1;
            Ok(Committed::Done)
        } else {
            stats.commits_refused += 1;
            Ok(Committed::Refused)
        }
    }

    /// The offsets of partitions that have been ours ever since they were read.
    fn still_ours(&self, offsets: &PartitionOffsets) -> KafkaResult<TopicPartitionList> {
        let owned = &self.group.lock().owned;
        let mut ours = TopicPartitionList::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            if owned.get(partition).map(|owned| owned.since) == Some(offset.owned_since) {
                ours.add_partition_offset(&self.topic, *partition, Offset::Offset(offset.next))?;
            }
        }
        Ok(ours)
    }

    fn note_committed(&self, offsets: &PartitionOffsets) {
        let uncommitted = &mut self.group.lock().uncommitted;
        uncommitted.retain(|partition, given| {
            offsets
                .get(partition)
                .is_none_or(|committed| given.next > committed.next)
        });
    }
}

/// Whether the broker refuses the commit because this member lost its place in the group.
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

struct ConsumeLoop {
    consumer: Consumer,
    options: KafkaOptions,
    /// A batch's first message, if it came while none was asked for.
    carried: SourceBatch,
    subscribed: bool,
    subscribe_at: Option<Instant>,
}

impl ConsumeLoop {
    /// Runs until the source is dropped; then the consumer leaves the group.
    fn run(mut self, batches: &BatchSender<SourceFault>) {
        loop {
            match self.membership().commands.next(GROUP_POLL_IDLE) {
                Ok(SourceCommand::Commit(commit)) => self.commit(commit),
                Ok(SourceCommand::Batch(limits)) => {
                    if batches.blocking_send(self.batch(&limits)).is_err() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) if self.subscribed => self.idle(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn membership(&self) -> &Membership {
        self.consumer.context()
    }

    fn commit(&mut self, commit: Commit<SourceFault>) {
        if commit.rereads {
            self.carried = SourceBatch::default();
            let reread = self.membership().reread(&self.consumer);
            commit.reply(reread.map_err(|source| self.read_fault(source)));
        } else {
            self.membership().commit(&self.consumer, commit);
        }
    }

    /// Joins the group, if the topic is there or can be made. Asks for it now and then.
    fn subscribe(&mut self) -> Result<(), SourceFault> {
        let now = Instant::now();
        if self.subscribed || self.subscribe_at.is_some_and(|at| now < at) {
            return Ok(());
        }
        match ensure_topic(&self.options) {
            Ok(()) => {
                let subscribed = self.consumer.subscribe(&[&self.options.topic]);
                subscribed.map_err(|source| self.read_fault(source))?;
                self.subscribed = true;
            }
            Err(error) => {
                let topic = &self.options.topic;
                tracing::warn!(%error, %topic, "failed to find or create the topic, will retry");
                self.subscribe_at = Some(Instant::now() + KAFKA_RETRY);
            }
        }
        Ok(())
    }

    fn read_fault(&self, source: KafkaError) -> SourceFault {
        let topic = Arc::clone(&self.membership().topic);
        SourceFault::Read { topic, source }
    }

    /// Fills a batch until it is full or its time is over.
    fn batch(&mut self, limits: &BatchLimits) -> Result<SourceBatch, SourceFault> {
        self.resume()?;
        let deadline = Instant::now() + limits.wait_max.min(BATCH_WAIT_MAX);
        let mut batch = std::mem::take(&mut self.carried);
        while !batch.is_full(limits) {
            let left = deadline.saturating_duration_since(Instant::now());
            let pause = match self.step(&mut batch, left.min(GROUP_POLL)) {
                Ok(pause) => pause,
                Err(error) if batch.is_empty() => return Err(error),
                // What was read is given first; an error that lasts will come again.
                Err(_) => break,
            };
            match self.membership().commands.next_commit(pause) {
                Ok(commit) => self.commit(commit),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if left.is_zero() {
                break;
            }
        }
        Ok(self.hand_over(batch))
    }

    /// Takes the next message, or joins the group. Returns how long to pause then.
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
        let group = &self.membership().group;
        if !group.lock().paused {
            let assignment = self.consumer.assignment();
            match assignment.and_then(|assignment| self.consumer.pause(&assignment)) {
                Ok(()) => group.lock().paused = true,
                Err(error) => tracing::warn!(%error, "failed to pause kafka partitions"),
            }
        }
        let mut batch = std::mem::take(&mut self.carried);
        if let Err(error) = self.poll(&mut batch, Duration::ZERO) {
            tracing::warn!(%error, "failed to poll kafka");
        }
        self.carried = batch;
    }

    fn resume(&self) -> Result<(), SourceFault> {
        if !std::mem::take(&mut self.membership().group.lock().paused) {
            return Ok(());
        }
        self.consumer
            .assignment()
            .and_then(|assignment| self.consumer.resume(&assignment))
            .map_err(|source| self.read_fault(source))
    }

    /// Takes the next message, if one comes in time.
    fn poll(&self, batch: &mut SourceBatch, wait: Duration) -> Result<(), SourceFault> {
        let polled = self.consumer.poll(wait);
        let revoked = std::mem::take(&mut self.membership().group.lock().revoked);
        if let Some(Err(source @ KafkaError::MessageConsumptionFatal(_))) = polled {
            return Err(self.read_fault(source));
        }
        if !revoked.is_empty() {
            batch.forget_partitions(&revoked);
        }
        // From other errors the client recovers by itself, and it has reported them.
        if let Some(Ok(message)) = polled {
            self.take(&message, batch);
        }
        Ok(())
    }

    /// Notes that the ingestor has the batch now.
    fn hand_over(&self, mut batch: SourceBatch) -> SourceBatch {
        let mut group = self.membership().group.lock();
        batch.epoch = group.epoch;
        group.uncommitted.extend(&batch.progress.partitions);
        batch
    }

    fn take(&self, message: &BorrowedMessage<'_>, batch: &mut SourceBatch) {
        let (partition, offset) = (message.partition(), message.offset());
        let membership = self.membership();
        let owned = membership.group.lock().owned.get(&partition).copied();
        // A message of a partition that is not ours any more is its new owner's.
        let Some(OwnedPartition { since, expected }) = owned else {
            return;
        };

        let expected = expected.or_else(|| self.committed(partition));
        self.note_gap(partition, expected.unwrap_or(offset), offset, batch);
        let next = offset + 1;
        if let Some(owned) = membership.group.lock().owned.get_mut(&partition) {
            owned.expected = Some(next);
        }
        let progress = PartitionOffset {
            next,
            owned_since: since,
        };
        batch.progress.partitions.insert(partition, progress);
        let position = self.position(partition, offset);
        let payload = Bytes::copy_from_slice(message.payload().unwrap_or_default());
        let mut stats = membership.stats.lock();
        match identity(message) {
            Ok((stream, seq)) => {
                stats.records += 1;
                stats.bytes += payload.len() as u64;
                batch.push(LogRecord {
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
            topic: Arc::clone(&self.membership().topic),
            partition,
            offset,
        }
    }

    /// Offsets of the topic have no holes. Where one opens, messages were deleted unread.
    fn note_gap(&self, partition: i32, expected: i64, offset: i64, batch: &mut SourceBatch) {
        let missing = offset.saturating_sub(expected);
        if missing <= 0 {
            return;
        }
        let topic = &self.options.topic;
        tracing::error!(%topic, partition, expected, offset, "failed to read kafka messages: they were deleted before");
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
        let topic = &self.options.topic;
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(topic, partition);
        let committed = self
            .consumer
            .committed_offsets(list, OFFSETS_PATIENCE)
            .ok()?;
        match committed.find_partition(topic, partition)?.offset() {
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
    let stream = parse(key).ok_or("the message's key is no stream id")?;

    let headers = message.headers().into_iter().flat_map(Headers::iter);
    let mut seqs = headers.filter(|header| header.key == SEQ_HEADER);
    let seq = seqs
        .next()
        .and_then(|header| header.value)
        .ok_or("the message has no header seq")?;
    match parse(seq) {
        Some(0) | None => Err("the message's header seq is no sequence number"),
        Some(seq) => Ok((stream, seq)),
    }
}

fn parse<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

impl SourceBatch {
    /// Removes what came from partitions that were revoked.
    fn forget_partitions(&mut self, partitions: &BTreeSet<i32>) {
        let stays = |position: &Position| match position {
            Position::Kafka { partition, .. } => !partitions.contains(partition),
            Position::Journal { .. } => true,
        };
        self.records.retain(|record| stays(&record.position));
        self.rejected.retain(|rejected| stays(&rejected.position));
        self.lost.retain(|lost| stays(&lost.position));
        self.bytes = self.records.iter().map(|record| record.payload.len()).sum();
        let offsets = &mut self.progress.partitions;
        offsets.retain(|partition, _| !partitions.contains(partition));
    }
}
