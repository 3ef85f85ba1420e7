//! Who can write to the store, or stores what the gateways wrote, cannot seal what is not theirs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_eventlog::{
    BatchLimits, ChainHash, Journal, JournalOptions, JournalReader, SealSigner as _, SourceBatch,
};
use weir_ingestor::CHAINING;
use weir_ingestor::audit::SigningKey;
use weir_loadtest::mock::{MockOptions, MockProvider};
use weir_schemas::codec::{Encoder, decode};
use weir_schemas::{Event, EventId, StreamId};
use weir_store::Store;
use weir_tests::gateway::{self, chat};
use weir_tests::weir::{Installation, wait_for};

use crate::audit::{first, installation, run, verify, verify_with};
use crate::ingest::Ingesting;
use crate::ingest::events::write;
use crate::kafka_log::KAFKA;
use crate::store::{Running, alone};

const REQUESTS: u64 = 40;

/// The events of two streams that one gateway wrote, signed and closed.
struct Written(BTreeMap<StreamId, BTreeMap<u64, Vec<u8>>>);

impl Written {
    /// Two seals at least are in each.
    fn new(dir: &Path, key: SigningKey) -> Self {
        let journal = Journal::open(JournalOptions {
            chaining: Some(CHAINING),
            signer: Some(Arc::new(key)),
            ..JournalOptions::new(dir)
        })
        .unwrap();
        for shard in 0..2 {
            let writer = journal.open_stream(shard).unwrap();
            write(&writer, 0, REQUESTS);
            let noted = dir.join(writer.id().to_string()).join("sealed");
            wait_for("the first seal", || Ok(noted.exists())).unwrap();
            write(&writer, REQUESTS, REQUESTS);
            writer.close().unwrap();
        }
        drop(journal);
        let limits = BatchLimits {
            records_max: usize::MAX,
            bytes_max: usize::MAX,
            wait_max: Duration::ZERO,
        };
        let mut reader = JournalReader::open(dir).unwrap();
        let mut batch = SourceBatch::default();
        reader.fill(&mut batch, &limits, Instant::now()).unwrap();
        let mut streams: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for record in &batch.records {
            let events = streams.entry(record.stream).or_default();
            events.insert(record.seq, record.payload.to_vec());
        }
        assert_eq!(streams.len(), 2);
        Self(streams)
    }

    /// The first stream, the number of a call in it, and the numbers of its seals.
    fn target(&self) -> (StreamId, u64, Vec<u64>) {
        let (stream, events) = self.0.first_key_value().unwrap();
        let numbers = |is: fn(&Event<'_>) -> bool| {
            let events = events.iter();
            let found = events.filter(move |(_, it)| is(&decode(it).unwrap().event));
            found.map(|(seq, _)| *seq).collect::<Vec<_>>()
        };
        let calls = numbers(|it| matches!(it, Event::RequestFinished(_)));
        let seals = numbers(|it| matches!(it, Event::StreamSealed(_)));
        assert!(seals.len() >= 2, "{seals:?}");
        (*stream, calls[3], seals)
    }

    /// A call of a stream is made dearer, and all seals of the stream are made anew, by a key or as they
    /// are signed.
    async fn forge(&self, store: &Store, stream: StreamId, call: u64, signing: Signing<'_>) {
        let here = |seq: u64| {
            format!("WHERE stream = '{stream}' AND seq = {seq} SETTINGS mutations_sync = 1")
        };
        let dearer = format!(
            "ALTER TABLE requests UPDATE total_us = total_us + 1 {}",
            here(call)
        );
        run(store, &dearer).await;
        let key = match &signing {
            Signing::Kept => None,
            Signing::By(key) => Some(key.public()),
            Signing::Without => Some(String::new()),
        };
        if let Some(key) = &key {
            let swap = format!("ALTER TABLE streams UPDATE seal_key = '{key}' {}", here(1));
            run(store, &swap).await;
        }
        let mut chain = (CHAINING.origin)(stream);
        let mut chains: BTreeMap<u64, ChainHash> = BTreeMap::new();
        let mut fingerprints = BTreeMap::new();
        let mut encoder = Encoder::default();
        for (seq, payload) in &self.0[&stream] {
            let mut event = decode(payload).unwrap().event;
            let (chain_then, prints, signature): (String, Vec<u64>, String);
            match &mut event {
                Event::StreamOpened(opened) => {
                    opened.seal_key = key.as_deref().map_or(opened.seal_key, text);
                }
                Event::RequestFinished(request) if *seq == call => {
                    request.total_us = (request.total_us.get() + 1).into();
                }
                Event::StreamSealed(seal) => {
                    let (first, last) = (seal.first_seq.get(), seal.last_seq.get());
                    chain_then = hex(&chains[&last]);
                    prints = (first..=last).map(|seq| fingerprints[&seq]).collect();
                    let bytes: Vec<u8> = prints
                        .iter()
                        .flat_map(|it: &u64| it.to_le_bytes())
                        .collect();
                    let bytes = bytes.leak();
                    (seal.chain, seal.fingerprints) = (&chain_then, bytes);
                    signature = match &signing {
                        Signing::Kept => seal.signature.unwrap().to_owned(),
                        Signing::By(key) => key.sign(&seal.signed_message(stream)),
                        Signing::Without => String::new(),
                    };
                    seal.signature = text(&signature);
                    let sql = format!(
                        "ALTER TABLE seals UPDATE chain = '{chain_then}', signature = '{signature}', \
                         fingerprints = {prints:?} {}",
                        here(*seq)
                    );
                    run(store, &sql).await;
                }
                _ => {}
            }
            let mut bytes = Vec::new();
            encoder.encode(EventId { stream, seq: *seq }, &event, &mut bytes);
            fingerprints.insert(*seq, (CHAINING.link)(&mut chain, *seq, &bytes));
            chains.insert(*seq, chain);
        }
    }
}

enum Signing<'a> {
    Kept,
    By(&'a SigningKey),
    Without,
}

fn text(text: &str) -> Option<&str> {
    Some(text).filter(|it| !it.is_empty())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn kinds(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|it| it["kind"].as_str().unwrap()).collect()
}

fn key_of(weir: &Installation) -> String {
    let key = weir.run(&["audit", "key", "--gateway"]).unwrap().stdout;
    String::from_utf8(key).unwrap().trim().to_owned()
}

/// A store with the events of a gateway, and the installation whose key signed them.
async fn stored() -> (Running, Installation, Written) {
    let running = Running::start().await;
    let weir = installation(&running);
    let journal = tempfile::tempdir().unwrap();
    let key = SigningKey::of_gateway(&weir.data_dir().join("audit")).unwrap();
    let written = Written::new(journal.path(), key);
    Ingesting::drain_journal(journal.path(), running.store()).await;
    let (report, proven) = verify(&weir);
    assert!(proven, "{report}");
    let keys = &report["gateway_keys"];
    assert_eq!(
        (&keys[0]["streams"], &keys[0]["is_trusted"]),
        (&2.into(), &true.into())
    );
    assert_eq!(report["unsigned_events"], 0);
    (running, weir, written)
}

/// It makes no difference who did it: somebody with SQL, or the ingestor before it inserted the rows.
#[test]
fn a_row_that_is_changed_with_all_seals_behind_it_is_found_by_their_signatures() {
    alone(async {
        let (running, weir, written) = stored().await;
        let (stream, call, seals) = written.target();
        written
            .forge(&running.store(), stream, call, Signing::Kept)
            .await;
        let (report, _) = verify(&weir);
        let named = ("bad_signature", "seals", &*stream.to_string(), seals[0]);
        assert_eq!(first(&report), named, "{report}");
        assert_eq!(
            kinds(&report),
            vec!["bad_signature"; seals.len()],
            "{report}"
        );
        running.stop().await;
    });
}

#[test]
fn seals_that_are_signed_anew_with_another_key_are_not_trusted() {
    alone(async {
        let (running, weir, written) = stored().await;
        let (stream, call, _) = written.target();
        let own = key_of(&weir);
        let elsewhere = tempfile::tempdir().unwrap();
        let other = SigningKey::of_gateway(elsewhere.path()).unwrap();
        written
            .forge(&running.store(), stream, call, Signing::By(&other))
            .await;
        let named = |kind: &'static str| (kind, "streams", stream.to_string(), 1);
        let (report, _) = verify(&weir);
        let (kind, table, of, seq) = first(&report);
        assert_eq!(
            (kind, table, of.to_owned(), seq),
            named("gateway_key"),
            "{report}"
        );
        assert_eq!(kinds(&report), ["gateway_key"]);

        // Where there is no key, both are taken on trust until one is named.
        let auditor = installation(&running);
        let (report, proven) = verify(&auditor);
        assert!(proven, "{report}");
        assert_eq!(report["gateway_keys"][0]["is_trusted"], false, "{report}");
        let (report, _) = verify_with(&auditor, &["--gateway-key", &own]);
        assert_eq!(kinds(&report), ["gateway_key"], "{report}");
        let both = ["--gateway-key", &own, "--gateway-key", &other.public()];
        assert!(verify_with(&auditor, &both).1, "both are trusted");
        let stranger = "00".repeat(32);
        let (report, _) = verify_with(&auditor, &["--gateway-key", &stranger]);
        assert!(
            kinds(&report).len() >= 3,
            "none of its seals, and two keys: {report}"
        );
        running.stop().await;
    });
}

#[test]
fn a_stream_that_lost_its_signatures_is_no_older_stream() {
    alone(async {
        let (running, weir, written) = stored().await;
        let (stream, call, _) = written.target();
        written
            .forge(&running.store(), stream, call, Signing::Without)
            .await;
        let (report, _) = verify(&weir);
        assert_eq!(kinds(&report), ["gateway_key"], "{report}");
        assert!(
            report["unsigned_events"].as_u64() > Some(REQUESTS),
            "{report}"
        );
        assert!(verify(&installation(&running)).1, "no key is known there");
        running.stop().await;
    });
}

#[test]
fn rows_in_the_place_of_seals_that_were_taken_away_are_found() {
    alone(async {
        let (running, weir, written) = stored().await;
        let store = running.store();
        let (stream, _, seals) = written.target();
        let behind = |table: &str, seq: u64| {
            format!(
                "ALTER TABLE {table} DELETE WHERE stream = '{stream}' AND seq > {seq} \
                 SETTINGS mutations_sync = 1"
            )
        };
        run(&store, &behind("seals", seals[0])).await;
        run(&store, &behind("streams", 1)).await;
        for table in ["requests", "attempts"] {
            run(&store, &behind(table, seals[1] - 1)).await;
        }
        let (report, _) = verify(&weir);
        assert_eq!(kinds(&report), ["unsealed"], "{report}");
        running.stop().await;
    });
}

#[test]
fn gateways_and_ingestor_on_machines_of_their_own_are_proven_by_keys_that_are_named() {
    alone(async {
        let running = Running::start().await;
        let mock = MockProvider::start(MockOptions::default()).unwrap();
        let log = format!(
            "\n[eventlog]\nkind = \"kafka\"\nbrokers = \"{}\"\ntopic = \"signed.events\"\npartitions = 1\n\
             group = \"signed\"\n\n[control]\ntopic = \"signed.control\"\n\
             hash_secret = \"a secret of thirty-two bytes or more\"\n\n",
            KAFKA.brokers()
        );
        let machine = |more: &str| {
            let config = format!("{}{log}{more}", running.settings());
            Installation::new(&config).unwrap()
        };
        let gateways = [0, 1].map(|_| machine(&gateway::config(&mock)));
        let keys = gateways.each_ref().map(key_of);
        let ingestor = machine(&format!(
            "[routing]\ntopic = \"signed.routing\"\n\n[audit]\ngateway_keys = {keys:?}\n"
        ));
        let key = gateways[0].create_key("growth").unwrap();
        let processes = gateways
            .each_ref()
            .map(|it| it.start(&["gateway"]).unwrap());
        let _ingestor = ingestor.start(&["ingestor"]).unwrap();
        for gateway in &gateways {
            gateway.wait_until_known(&key).unwrap();
            (0..3).for_each(|_| assert_eq!(chat(gateway.gateway, &key).status, 200));
        }
        let sealed = "SELECT count() FROM weir.requests AS r INNER JOIN weir.seals AS s \
                      ON r.stream = s.stream WHERE r.status = 200 AND r.seq BETWEEN s.first_seq AND s.last_seq";
        ingestor.wait_for_number(sealed, 6).unwrap();
        let (report, proven) = verify(&ingestor);
        assert!(proven, "{report}");
        let trusted = report["gateway_keys"].as_array().unwrap().iter();
        let trusted: Vec<_> = trusted.map(|it| it["is_trusted"] == true).collect();
        assert_eq!(trusted, [true, true], "{report}");
        // At a gateway, its own key alone is known.
        let (report, _) = verify(&gateways[0]);
        assert!(
            kinds(&report).iter().all(|kind| *kind == "gateway_key"),
            "{report}"
        );
        assert!(verify_with(&gateways[0], &["--gateway-key", &keys[1]]).1);
        drop(processes);
        running.stop().await;
    });
}
