//! The event log through real Kafka: shipper, consumer group, brokers that die and come back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use weir_eventlog::{
    BatchLimits, Committed, Journal, JournalOptions, KafkaOptions, KafkaSource, LossCause,
    Position, Shipper, ShipperOptions, Source, SourceBatch, StreamWriter,
};
use weir_schemas::codec::decode;
use weir_schemas::event::{ControlChanged, Envelope, Event};
use weir_schemas::{RequestId, StreamId};
use weir_tests::kafka::Kafka;
use weir_tests::weir::{Installation, wait_within};

/// The node for all tests that leave it in peace.
pub(crate) static KAFKA: LazyLock<Kafka> = LazyLock::new(|| Kafka::start().unwrap());

const PATIENCE: Duration = Duration::from_secs(120);

const BATCH: BatchLimits = BatchLimits {
    records_max: 5000,
    bytes_max: 4 << 20,
    wait_max: Duration::from_millis(100),
};

fn kafka_options(brokers: &str, topic: &str) -> KafkaOptions {
    let mut options = KafkaOptions::new(brokers);
    options.topic = topic.to_owned();
    options.partitions = 3;
    // A group notices a dead member sooner than it would by default.
    options
        .properties
        .insert("session.timeout.ms".into(), "6000".into());
    options
}

/// What `weir doctor` says of the topic.
fn doctor(brokers: &str, topic: &str) -> serde_json::Value {
    let weir = Installation::new(&format!(
        "[eventlog]\nkind = \"kafka\"\nbrokers = \"{brokers}\"\ntopic = \"{topic}\"\n"
    ));
    let output = weir.unwrap().command(&["doctor", "--json"]).output();
    let reports: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let mut reports = reports.as_array().unwrap().iter();
    let report = reports.find(|report| report["check"] == "topic");
    report.unwrap().clone()
}

/// Events wait in Kafka for an ingestor that is away, for as long as the topic keeps them.
#[test]
fn doctor_says_how_long_the_topic_keeps_events_and_how_old_the_unread_ones_are() {
    const HOUR_MS: i64 = 3_600_000;
    let brokers = KAFKA.brokers();
    let topic = "kept";
    let options = kafka_options(&brokers, topic);
    // Nothing is read: it is only asked for, and so the topic is made.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut source = Source::Kafka(KafkaSource::open(options, "weir-ingestor").unwrap());
    let made = async {
        let doctor = || doctor(&KAFKA.brokers(), "kept")["verdict"].clone();
        while tokio::task::spawn_blocking(doctor).await.unwrap() != "OK" {}
    };
    runtime.block_on(async {
        let read = async { while source.next(BATCH).await.unwrap().records.is_empty() {} };
        tokio::select! {
            () = read => panic!("there is nothing to read"),
            () = made => {}
        }
    });
    drop(source);
    let report = doctor(&brokers, topic);
    assert_eq!(
        report["detail"], "kept keeps events for 168.0 h; nothing is unread",
        "{report}"
    );

    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .create()
        .unwrap();
    let now_ms = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    for age_h in [100, 1] {
        let record = BaseRecord::<str, str>::to(topic).payload("x");
        let record = record.key("k").timestamp(now_ms - age_h * HOUR_MS);
        producer.send(record).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    let report = doctor(&brokers, topic);
    assert_eq!(report["verdict"], "WARN", "{report}");
    let detail = report["detail"].as_str().unwrap();
    assert!(detail.contains("unread one is 100.0 h old"), "{report}");

    let foreign =
        NewTopic::new("foreign", 1, TopicReplication::Fixed(1)).set("retention.ms", "7200000");
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .create()
        .unwrap();
    let made = runtime.block_on(admin.create_topics([&foreign], &AdminOptions::new()));
    assert!(made.unwrap()[0].is_ok());
    let report = doctor(&brokers, "foreign");
    assert_eq!(report["verdict"], "WARN", "{report}");
    let detail = report["detail"].as_str().unwrap();
    assert!(
        detail.contains("foreign keeps events for 2.0 h"),
        "{report}"
    );
}

fn open_journal(dir: &Path) -> Journal {
    Journal::open(JournalOptions {
        segment_bytes: 64 << 10,
        total_bytes_max: 1 << 30,
        ..JournalOptions::new(dir)
    })
    .unwrap()
}

fn change(text: &str) -> Event<'_> {
    Event::ControlChanged(ControlChanged {
        ts_us: 1.into(),
        change_id: RequestId::from_bytes([1; 16]),
        actor: "test",
        action: "create",
        object_kind: "key",
        object_id: text,
        before: None,
        after: None,
    })
}

/// Appends events numbered from `from`, in appends of one to three.
fn write(writer: &StreamWriter, from: usize, count: usize) {
    let mut number = from;
    while number < from + count {
        let end = (number + 1 + number % 3).min(from + count);
        let texts: Vec<_> = (number..end)
            .map(|n| format!("{n}:{}", "x".repeat(n % 300)))
            .collect();
        let events: Vec<_> = texts.iter().map(|text| change(text)).collect();
        assert_eq!(writer.append(&events).unwrap().dropped, 0);
        number = end;
    }
}

/// What came out of the log: for each stream the events' numbers and what they said.
#[derive(Default)]
struct Ledger {
    streams: BTreeMap<StreamId, Vec<String>>,
    doubled: usize,
    closed: usize,
}

impl Ledger {
    /// Takes a batch in. Numbers that were there before are doubles; a number must never be skipped.
    fn note(&mut self, batch: &SourceBatch) {
        assert_eq!(batch.lost, []);
        assert!(batch.rejected.is_empty(), "{:?}", batch.rejected);
        for record in &batch.records {
            let Envelope { id, event } = decode(&record.payload).unwrap();
            assert_eq!(id, record.id());
            let said = match event {
                Event::ControlChanged(change) => change.object_id.to_owned(),
                Event::StreamOpened(_) => "opened".to_owned(),
                Event::StreamClosed(closed) => format!("closed: {}", closed.reason),
                other => panic!("unexpected {other:?}"),
            };
            let stream = self.streams.entry(record.stream).or_default();
            let expected = stream.len() as u64 + 1;
            assert!(
                record.seq <= expected,
                "{} came before {expected}",
                record.seq
            );
            if record.seq < expected {
                let index = usize::try_from(record.seq - 1).unwrap();
                assert_eq!(stream[index], said, "the double says the same");
                self.doubled += 1;
                continue;
            }
            self.closed += usize::from(said.starts_with("closed"));
            stream.push(said);
        }
    }

    fn check(&self, writer: &StreamWriter, events: usize) {
        let stream = &self.streams[&writer.id()];
        assert_eq!(stream.len(), events + 2);
        assert_eq!(stream[0], "opened");
        assert_eq!(stream[events + 1], "closed: shutdown");
        for (number, said) in stream[1..=events].iter().enumerate() {
            assert_eq!(said.split(':').next(), Some(number.to_string().as_str()));
        }
    }

    fn len(&self) -> usize {
        self.streams.values().map(Vec::len).sum()
    }
}

/// Reads and commits until so many streams have come to their end.
async fn read_until_closed(source: &mut Source, ledger: &mut Ledger, streams: usize) {
    let deadline = Instant::now() + PATIENCE;
    while ledger.closed < streams {
        assert!(
            Instant::now() < deadline,
            "only {} events came",
            ledger.len()
        );
        let batch = source.next(BATCH).await.unwrap();
        ledger.note(&batch);
        source.commit(&batch).await.unwrap();
    }
}

fn stream_dirs(journal: &Path) -> usize {
    let entries = std::fs::read_dir(journal).unwrap();
    entries
        .filter(|entry| entry.as_ref().unwrap().path().is_dir())
        .count()
}

#[tokio::test]
async fn events_arrive_complete_and_in_order_although_the_broker_is_killed() {
    let mut kafka = Kafka::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = kafka_options(&kafka.brokers(), "weir.events");
    let journal = open_journal(dir.path());
    let writers: Vec<_> = (0..3)
        .map(|shard| journal.open_stream(shard).unwrap())
        .collect();
    let shipper = Shipper::start(dir.path(), ShipperOptions::new(options.clone())).unwrap();
    let mut source = Source::Kafka(KafkaSource::open(options, "weir-ingestor").unwrap());
    let mut ledger = Ledger::default();

    for writer in &writers {
        write(writer, 0, 3000);
    }
    while ledger.len() < 2000 {
        let batch = source.next(BATCH).await.unwrap();
        ledger.note(&batch);
        source.commit(&batch).await.unwrap();
    }
    // The broker dies with messages on their way to it, and more are written while it is away.
    for writer in &writers {
        write(writer, 3000, 3000);
    }
    kafka.kill();
    for writer in &writers {
        write(writer, 6000, 3000);
    }
    assert!(shipper.stats().shipped_records < 27_000);
    let batch = source.next(BATCH).await.unwrap();
    ledger.note(&batch);
    kafka.start_again().unwrap();
    for writer in &writers {
        write(writer, 9000, 1000);
        writer.close().unwrap();
    }

    let stats = tokio::task::spawn_blocking(move || shipper.stop(PATIENCE))
        .await
        .unwrap();
    assert!(stats.drained, "{stats:?}");
    assert_eq!(stream_dirs(dir.path()), 0, "what is acknowledged is freed");
    read_until_closed(&mut source, &mut ledger, writers.len()).await;
    for writer in &writers {
        ledger.check(writer, 10_000);
    }
}

#[tokio::test]
async fn a_shipper_that_is_stopped_at_once_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let options = kafka_options(&KAFKA.brokers(), "shipper-restarts");
    let journal = open_journal(dir.path());
    let writer = journal.open_stream(0).unwrap();
    for round in 0..5 {
        write(&writer, round * 2000, 2000);
        let shipper = Shipper::start(dir.path(), ShipperOptions::new(options.clone())).unwrap();
        wait_until("a record is shipped", || {
            shipper.stats().shipped_records > 0
        })
        .await;
        drop(shipper);
    }
    writer.close().unwrap();
    let shipper = Shipper::start(dir.path(), ShipperOptions::new(options.clone())).unwrap();
    let stats = tokio::task::spawn_blocking(move || shipper.stop(PATIENCE))
        .await
        .unwrap();
    assert!(stats.drained, "{stats:?}");

    let mut source = Source::Kafka(KafkaSource::open(options, "weir-ingestor").unwrap());
    let mut ledger = Ledger::default();
    read_until_closed(&mut source, &mut ledger, 1).await;
    ledger.check(&writer, 10_000);
}

/// Ships a stream of so many events and waits until all of it is in Kafka.
async fn ship(options: &KafkaOptions, events: usize) -> StreamId {
    let dir = tempfile::tempdir().unwrap();
    let journal = open_journal(dir.path());
    let writer = journal.open_stream(0).unwrap();
    write(&writer, 0, events);
    writer.close().unwrap();
    let shipper = Shipper::start(dir.path(), ShipperOptions::new(options.clone())).unwrap();
    let stats = tokio::task::spawn_blocking(move || shipper.stop(PATIENCE))
        .await
        .unwrap();
    assert!(stats.drained, "{stats:?}");
    assert_eq!(stats.shipped_records, events as u64 + 2);
    writer.id()
}

/// Reads until so many records have come, without committing anything.
async fn read_records(source: &mut Source, records: usize) -> Vec<SourceBatch> {
    let deadline = Instant::now() + PATIENCE;
    let mut batches: Vec<SourceBatch> = Vec::new();
    let come = |batches: &[SourceBatch]| batches.iter().map(|b| b.records.len()).sum::<usize>();
    while come(&batches) < records {
        assert!(
            Instant::now() < deadline,
            "only {} records came",
            come(&batches)
        );
        let batch = source.next(BATCH).await.unwrap();
        if !batch.is_empty() {
            batches.push(batch);
        }
    }
    assert_eq!(come(&batches), records);
    batches
}

async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the broker has told so many members of a group what is theirs.
async fn wait_for_members(group: &'static str, members: usize) {
    let wait = move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", KAFKA.brokers())
            .create()
            .unwrap();
        wait_within(PATIENCE, "the group has its members", || {
            let groups = consumer.fetch_group_list(Some(group), PATIENCE)?;
            let groups = groups.groups().iter();
            let told: Vec<_> = groups.map(|it| (it.state(), it.members().len())).collect();
            Ok(told == [("Stable", members)])
        })
        .unwrap();
    };
    tokio::task::spawn_blocking(wait).await.unwrap();
}

fn seqs(batches: &[SourceBatch]) -> Vec<u64> {
    batches
        .iter()
        .flat_map(|batch| &batch.records)
        .map(|record| record.seq)
        .collect()
}

#[tokio::test]
async fn what_was_not_committed_is_given_again_and_what_was_is_not() {
    let options = kafka_options(&KAFKA.brokers(), "resumes");
    ship(&options, 98).await;
    let open = || Source::Kafka(KafkaSource::open(options.clone(), "weir-ingestor").unwrap());

    let mut source = open();
    let batches = read_records(&mut source, 100).await;
    drop(source);
    let mut source = open();
    assert_eq!(seqs(&read_records(&mut source, 100).await), seqs(&batches));
    for batch in &batches {
        // Of an earlier life of this source: only its own batches can be committed.
        assert_eq!(source.commit(batch).await.unwrap(), Committed::Refused);
    }
    drop(source);

    let mut source = open();
    for batch in read_records(&mut source, 100).await {
        assert_eq!(source.commit(&batch).await.unwrap(), Committed::Done);
    }
    drop(source);
    ship(&options, 3).await;
    assert_eq!(seqs(&read_records(&mut open(), 5).await), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn partitions_that_go_to_another_member_raise_the_epoch_and_refuse_late_commits() {
    let options = kafka_options(&KAFKA.brokers(), "rebalances");
    let streams = 12;
    for _ in 0..streams {
        ship(&options, 10).await;
    }
    let open = || Source::Kafka(KafkaSource::open(options.clone(), "weir-ingestor").unwrap());
    let mut first = open();
    let held = read_records(&mut first, streams * 12).await;
    let epoch = held.last().unwrap().epoch;

    // The second member gets some of the partitions once the first has waited in vain for a commit.
    let mut second = open();
    let deadline = Instant::now() + PATIENCE;
    let mut given_again = 0;
    while given_again == 0 {
        assert!(Instant::now() < deadline, "the second member got nothing");
        let (of_first, of_second) = tokio::join!(first.next(BATCH), second.next(BATCH));
        assert!(of_first.unwrap().is_empty());
        given_again = of_second.unwrap().records.len();
    }
    let after = first.next(BATCH).await.unwrap();
    assert!(after.epoch > epoch, "{} is not after {epoch}", after.epoch);
    let mut outcomes = Vec::new();
    for batch in &held {
        outcomes.push(first.commit(batch).await.unwrap());
    }
    assert!(outcomes.contains(&Committed::Refused), "{outcomes:?}");
}

#[tokio::test]
async fn a_member_that_commits_in_time_leaves_nothing_to_do_twice() {
    let options = kafka_options(&KAFKA.brokers(), "rebalances-in-time");
    let streams = 12;
    for _ in 0..streams {
        ship(&options, 10).await;
    }
    let group = "members-in-time";
    let open = || Source::Kafka(KafkaSource::open(options.clone(), group).unwrap());
    let mut first = open();
    let held = read_records(&mut first, streams * 12).await;
    let mut second = open();
    // The first member stores what it has in hand when it hears that some of it goes to the second.
    let stores = async {
        wait_for_members(group, 2).await;
        for batch in &held {
            first.commit(batch).await.unwrap();
        }
        let mut records = 0;
        for _ in 0..100 {
            records += first.next(BATCH).await.unwrap().records.len();
        }
        records
    };
    let reads = async {
        let mut records = 0;
        for _ in 0..100 {
            records += second.next(BATCH).await.unwrap().records.len();
        }
        records
    };
    let (first_again, second_again) = tokio::join!(stores, reads);
    assert_eq!((first_again, second_again), (0, 0));
    let Source::Kafka(second) = second else {
        unreachable!()
    };
    assert!(
        second.stats().partitions > 0,
        "the second member has its share"
    );
}

#[tokio::test]
async fn partitions_taken_from_an_idle_member_and_given_back_are_read_again() {
    let options = kafka_options(&KAFKA.brokers(), "given-back");
    ship(&options, 1).await;
    let open = || Source::Kafka(KafkaSource::open(options.clone(), "weir-ingestor").unwrap());
    let mut first = open();
    for batch in read_records(&mut first, 3).await {
        assert_eq!(first.commit(&batch).await.unwrap(), Committed::Done);
    }
    // While no one asks it for batches, the first member's partitions are paused.
    let mut second = open();
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(
            Instant::now() < deadline,
            "the second member got no partition"
        );
        second.next(BATCH).await.unwrap();
        let Source::Kafka(member) = &second else {
            unreachable!()
        };
        if member.stats().partitions > 0 {
            break;
        }
    }
    drop(second);
    let streams = 12;
    for _ in 0..streams {
        ship(&options, 1).await;
    }
    read_records(&mut first, streams * 3).await;
}

#[tokio::test]
async fn messages_that_are_no_events_are_rejected_with_their_position() {
    let options = kafka_options(&KAFKA.brokers(), "poison");
    let stream = ship(&options, 1).await;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", KAFKA.brokers())
        .create()
        .unwrap();
    let key = stream.to_string();
    let none = || BaseRecord::<str, str>::to("poison").partition(0);
    producer.send(none().payload("no key")).unwrap();
    producer
        .send(none().key("who am i").payload("bad key"))
        .unwrap();
    producer.send(none().key(&key).payload("no seq")).unwrap();
    producer.send(none().key(&key)).unwrap();
    producer.flush(PATIENCE).unwrap();

    let mut source = Source::Kafka(KafkaSource::open(options, "weir-ingestor").unwrap());
    let deadline = Instant::now() + PATIENCE;
    let (mut records, mut rejected) = (0, Vec::new());
    while records < 3 || rejected.len() < 4 {
        assert!(Instant::now() < deadline, "{records} records, {rejected:?}");
        let batch = source.next(BATCH).await.unwrap();
        records += batch.records.len();
        source.commit(&batch).await.unwrap();
        rejected.extend(batch.rejected);
    }
    let reasons: Vec<_> = rejected.iter().map(|rejected| rejected.reason).collect();
    assert_eq!(
        reasons,
        [
            "the message has no key",
            "the message's key is no stream id",
            "the message has no header seq",
            "the message has no value"
        ]
    );
    assert_eq!(rejected[0].payload, "no key");
    let position = rejected[0].position.to_string();
    assert!(position.starts_with("kafka poison/0@"), "{position}");
}

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", KAFKA.brokers())
        .create()
        .unwrap()
}

#[tokio::test]
async fn messages_that_kafka_deleted_before_they_were_read_are_reported() {
    let mut options = kafka_options(&KAFKA.brokers(), "expires");
    options.partitions = 1;
    ship(&options, 8).await;
    let open = || Source::Kafka(KafkaSource::open(options.clone(), "weir-ingestor").unwrap());
    let mut source = open();
    for batch in read_records(&mut source, 10).await {
        source.commit(&batch).await.unwrap();
    }
    drop(source);
    ship(&options, 8).await;
    let mut deleted = TopicPartitionList::new();
    deleted
        .add_partition_offset("expires", 0, Offset::Offset(14))
        .unwrap();
    admin()
        .delete_records(&deleted, &AdminOptions::new())
        .await
        .unwrap();

    let batches = read_records(&mut open(), 6).await;
    let lost: Vec<_> = batches.iter().flat_map(|batch| &batch.lost).collect();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_eq!((lost[0].events, lost[0].cause), (4, LossCause::Expired));
    let position = Position::Kafka {
        topic: "expires".into(),
        partition: 0,
        offset: 10,
    };
    assert_eq!(lost[0].position, position);
}

#[tokio::test]
async fn what_the_broker_refuses_is_shipped_once_the_broker_is_mended() {
    let options = kafka_options(&KAFKA.brokers(), "refuses");
    ship(&options, 1).await;
    limit_messages("refuses", "200").await;
    let dir = tempfile::tempdir().unwrap();
    let journal = open_journal(dir.path());
    let writer = journal.open_stream(0).unwrap();
    write(&writer, 0, 1000);
    writer.close().unwrap();

    let shipper = Shipper::start(dir.path(), ShipperOptions::new(options.clone())).unwrap();
    wait_until("the shipper has restarted", || {
        shipper.stats().restarts >= 2
    })
    .await;
    limit_messages("refuses", "1000000").await;
    let stats = tokio::task::spawn_blocking(move || shipper.stop(PATIENCE))
        .await
        .unwrap();
    assert!(stats.drained && stats.delivery_errors > 0, "{stats:?}");

    let mut source = Source::Kafka(KafkaSource::open(options, "weir-ingestor").unwrap());
    let mut ledger = Ledger::default();
    read_until_closed(&mut source, &mut ledger, 2).await;
    ledger.check(&writer, 1000);
}

async fn limit_messages(topic: &str, bytes: &str) {
    let config = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("max.message.bytes", bytes);
    let results = admin()
        .alter_configs([&config], &AdminOptions::new())
        .await
        .unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[tokio::test]
async fn without_any_broker_a_shipper_starts_and_stops_and_the_journal_keeps_all() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open_journal(dir.path());
    let writer = journal.open_stream(0).unwrap();
    write(&writer, 0, 100);
    let options = kafka_options("127.0.0.1:1", "nowhere");
    let shipper = Shipper::start(dir.path(), ShipperOptions::new(options.clone())).unwrap();
    let mut source = Source::Kafka(KafkaSource::open(options, "weir-ingestor").unwrap());
    assert!(
        source.next(BATCH).await.unwrap().is_empty(),
        "nothing can have come"
    );
    let stats = tokio::task::spawn_blocking(move || {
        let stats = shipper.stop(Duration::from_millis(300));
        drop(source);
        stats
    });
    let stats = tokio::time::timeout(PATIENCE, stats)
        .await
        .unwrap()
        .unwrap();
    assert!(!stats.drained);
    assert_eq!(stats.shipped_records, 0);

    let mut reader = weir_eventlog::JournalReader::open(dir.path()).unwrap();
    let mut batch = SourceBatch::default();
    reader.fill(&mut batch, &BATCH, Instant::now()).unwrap();
    assert_eq!(batch.records.len(), 101);
}
