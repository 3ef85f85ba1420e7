//! The checks of the fuzz targets, over their corpus and over seeded changes of it.
//!
//! `WEIR_FUZZ_ROUNDS` sets how many changes are tried per file; a failure prints the bytes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what it does not expect"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "the corpus is on disk, and its length is set by the environment"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
#[expect(
    unreachable_pub,
    reason = "a crate of its own, of which this is a part here"
)]
mod targets;

/// Changes per file, unless the environment says otherwise.
const ROUNDS: u32 = 40;

fn check(target: &str, run: fn(&[u8])) {
    let rounds = std::env::var("WEIR_FUZZ_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let mut chance = Chance(7);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() > 20, "the corpus of {target} is there");
    for path in &paths {
        let seed = std::fs::read(path).unwrap();
        try_one(target, path, &seed, run);
        for _ in 0..rounds.unwrap_or(ROUNDS) {
            try_one(target, path, &changed(&seed, &mut chance), run);
        }
    }
}

fn try_one(target: &str, path: &Path, data: &[u8], run: fn(&[u8])) {
    if catch_unwind(AssertUnwindSafe(|| run(data))).is_err() {
        panic!(
            "{target} fails on a change of {}: {}",
            path.display(),
            data.escape_ascii()
        );
    }
}

/// SplitMix64: chance that is the same every time.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }
}

/// A few small changes: a byte, a piece that is gone or doubled, a word of the dialects put in.
fn changed(seed: &[u8], chance: &mut Chance) -> Vec<u8> {
    const WORDS: [&[u8]; 12] = [
        b"{", b"}", b"[", b"]", b"\"", b"\\", b"\\u", b"null", b"\n\n", b"\r", b"data: ", b"-1e9",
    ];
    let mut data = seed.to_vec();
    for _ in 0..=chance.below(4) {
        let at = chance.below(data.len() + 1);
        let end = (at + 1 + chance.below(24)).min(data.len());
        match chance.below(5) {
            0 if at < end => data[at] = u8::try_from(chance.below(256)).unwrap(),
            1 => drop(data.drain(at..end)),
            2 => {
                let piece = data[at..end].to_vec();
                drop(data.splice(at..at, piece));
            }
            3 => {
                let word = WORDS[chance.below(WORDS.len())];
                drop(data.splice(at..at, word.iter().copied()));
            }
            _ => data.truncate(at.max(data.len() / 2)),
        }
    }
    data
}

#[test]
fn requests() {
    check("requests", targets::requests);
}

#[test]
fn answers() {
    check("answers", targets::answers);
}

#[test]
fn errors() {
    check("errors", targets::errors);
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes(data: Vec<u8>) {
        targets::requests(&data);
        targets::answers(&data);
        targets::errors(&data);
    }
}
