//! Seals: what a writer says that it wrote.

use std::fs::OpenOptions;
use std::thread;

use data_encoding::HEXLOWER;

use super::*;
use crate::{ChainHash, Chaining, SealSigner};

/// Hashes that are good enough to tell events and their order.
const TOY: Chaining = Chaining {
    version: 9,
    origin: |stream| {
        let mut chain = [0; 32];
        chain[8..24].copy_from_slice(stream.as_bytes());
        chain
    },
    link: |chain, seq, payload| {
        let event = u64::from(crc32c::crc32c(payload)) << 32 | seq;
        let (before, _) = chain.split_at(8);
        let before = u64::from_le_bytes(before.try_into().unwrap());
        let after = before.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ event;
        chain[..8].copy_from_slice(&after.to_le_bytes());
        event
    },
};

/// A signature that everybody can make.
#[derive(Debug)]
struct ToySigner;

impl SealSigner for ToySigner {
    fn public_key(&self) -> String {
        "toy".to_owned()
    }

    fn sign(&self, message: &[u8]) -> String {
        format!("{:x}", crc32c::crc32c(message))
    }
}

fn open_sealed(dir: &Path) -> Journal {
    Journal::open(JournalOptions {
        chaining: Some(TOY),
        signer: Some(std::sync::Arc::new(ToySigner)),
        ..options(dir)
    })
    .unwrap()
}

/// The payloads of the one stream, by number.
fn payloads(dir: &Path) -> (StreamId, BTreeMap<u64, Vec<u8>>) {
    let mut reader = JournalReader::open(dir).unwrap();
    let mut batch = SourceBatch::default();
    for _ in 0..4 {
        reader.fill(&mut batch, &ALL, later()).unwrap();
    }
    assert_eq!(batch.lost, []);
    let records = batch.records.iter();
    let payloads = records.map(|it| (it.seq, it.payload.to_vec())).collect();
    (batch.records[0].stream, payloads)
}

#[test]
fn seals_cover_every_event_once_whatever_is_written_meanwhile() {
    let dir = scratch();
    let journal = open_sealed(dir.path());
    let writer = journal.open_stream(0).unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..200 {
                    append(&writer, &["a", "bc"]);
                }
            });
        }
        scope.spawn(|| (0..50).for_each(|_| writer.stream.seal()));
    });
    writer.close().unwrap();

    let (stream, payloads) = payloads(dir.path());
    let Event::StreamOpened(opened) = decode(&payloads[&1]).unwrap().event else {
        panic!("no opening");
    };
    assert_eq!(opened.seal_key, Some("toy"));
    let mut chain: ChainHash = (TOY.origin)(stream);
    let mut sealed = 0;
    for (seq, payload) in &payloads {
        let Event::StreamSealed(seal) = decode(payload).unwrap().event else {
            continue;
        };
        let (first, last) = (seal.first_seq.get(), seal.last_seq.get());
        assert_eq!((seal.version, first), (9, sealed + 1));
        assert!((first..*seq).contains(&last));
        let range = payloads.range(first..=last);
        let fingerprints =
            range.flat_map(|(seq, payload)| (TOY.link)(&mut chain, *seq, payload).to_le_bytes());
        assert_eq!(fingerprints.collect::<Vec<_>>(), seal.fingerprints);
        assert_eq!(seal.chain, HEXLOWER.encode(&chain));
        let signature = ToySigner.sign(&seal.signed_message(stream));
        assert_eq!(seal.signature, Some(&*signature));
        sealed = last;
    }
    // Behind the last seal: itself, and the end of the stream.
    assert_eq!(sealed + 2, payloads.len() as u64);
    assert!(sealed > 1200);
}

#[test]
fn a_quiet_stream_is_sealed_once() {
    let dir = scratch();
    let journal = open_sealed(dir.path());
    let writer = journal.open_stream(0).unwrap();
    append(&writer, &["a"]);
    (0..5).for_each(|_| writer.stream.seal());
    writer.close().unwrap();
    let (seen, _) = read_dir(dir.path());
    let change = Said::Change("a".to_owned());
    let all = [
        Said::Opened,
        change,
        Said::Sealed(1, 2),
        closed("shutdown", 0),
    ];
    assert_eq!(only(&seen), all);
}

/// What was sealed was acknowledged. A journal that ends before it has lost it, and says so.
#[test]
fn a_stream_that_ends_before_its_last_seal_shows_a_gap() {
    let dir = scratch();
    let stream = {
        let journal = open_sealed(dir.path());
        let writer = journal.open_stream(0).unwrap();
        append(&writer, &["a"]);
        let path = segments(dir.path(), writer.id()).remove(0);
        let whole = std::fs::metadata(&path).unwrap().len();
        append(&writer, &["b", "c"]);
        writer.stream.seal();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(whole + 10).unwrap();
        writer.id()
    };
    let (seen, lost) = read_dir(dir.path());
    let stream = &seen[&stream];
    assert_eq!(stream.keys().copied().collect::<Vec<_>>(), [1, 2, 6]);
    assert_eq!(stream[&6], closed("recovered", 10));
    let [lost] = &lost[..] else {
        panic!("{lost:?}")
    };
    assert_eq!((lost.first_seq, lost.events), (3, 3));
}
