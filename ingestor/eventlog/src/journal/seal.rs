//! Seals: what a writer wrote, as hashes in the stream itself.
//!
//! An append leaves a copy of its frames. About once a second a thread of the journal takes the copies,
//! continues the stream's hash chain over them, and appends what it has come to, signed, as `StreamSealed`.
//! So no request waits for a hash or a signature, and what is hashed has been nowhere but in this process.

use std::fmt;
use std::sync::Arc;
use std::thread;

use data_encoding::HEXLOWER;
use weir_schemas::StreamId;
use weir_schemas::event::StreamSealed;

use super::Core;
use crate::caps::{SEAL_EVENTS_MAX, SEAL_EVERY, UNSEALED_BYTES_MANY, UNSEALED_BYTES_MAX};
use crate::clock::unix_us;
use crate::frame::{self, Parsed, Seed};
use crate::thread::StopSignal;

/// A stream's hash chain after some event.
pub type ChainHash = [u8; 32];

/// How events are chained. What is hashed is what is stored of an event, which the program knows and
/// this crate does not.
#[derive(Clone, Copy, Debug)]
pub struct Chaining {
    /// Of the hashes: seals carry it.
    pub version: u8,
    /// The chain before a stream's first event.
    pub origin: fn(StreamId) -> ChainHash,
    /// Continues a chain by the payload of an event with its number. Returns the event's fingerprint.
    pub link: fn(&mut ChainHash, u64, &[u8]) -> u64,
}

/// The key that seals are signed with, which the program has and this crate does not know.
pub trait SealSigner: fmt::Debug + Send + Sync {
    /// What others check signatures with, in hex.
    fn public_key(&self) -> String;

    /// The signature of a message, in hex.
    fn sign(&self, message: &[u8]) -> String;
}

/// Frames that no seal covers.
#[derive(Debug, Default)]
pub(super) struct Unsealed {
    frames: Vec<u8>,
    /// Some of them are other than seals.
    is_news: bool,
}

impl Unsealed {
    /// Frames were written. If they are too many to be kept, no seal will cover them: the thread that
    /// seals has not had a processor.
    pub(super) fn wrote(&mut self, frames: &[u8], is_news: bool) {
        if self.frames.len() + frames.len() <= UNSEALED_BYTES_MAX {
            self.frames.extend_from_slice(frames);
            self.is_news |= is_news;
        }
    }

    /// Whether they should be sealed before the second is over.
    pub(super) fn are_many(&self) -> bool {
        self.frames.len() >= UNSEALED_BYTES_MANY
    }

    pub(super) fn is_news(&self) -> bool {
        self.is_news
    }

    /// What a seal is due for.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        let is_news = std::mem::take(&mut self.is_news);
        is_news.then(|| std::mem::take(&mut self.frames))
    }
}

/// A seal that is to be written. Signing takes its time, so it is made before the stream's writer is
/// held.
#[derive(Debug)]
pub(super) struct Seal {
    ts_us: u64,
    /// The first and the last event under it.
    seqs: (u64, u64),
    /// In hex, as the signature is.
    chain: String,
    signature: Option<String>,
}

/// A stream's chain, and what has been linked to it since the last seal.
#[derive(Debug)]
pub(super) struct StreamChain {
    stream: StreamId,
    chaining: Chaining,
    signer: Option<Arc<dyn SealSigner>>,
    seed: Seed,
    chain: ChainHash,
    /// Frames to be linked.
    backlog: Vec<u8>,
    /// The first and the last event since the last seal.
    seqs: Option<(u64, u64)>,
    fingerprints: Vec<u8>,
}

impl StreamChain {
    pub(super) fn new(
        stream: StreamId,
        chaining: Chaining,
        signer: Option<Arc<dyn SealSigner>>,
    ) -> Self {
        Self {
            stream,
            chaining,
            signer,
            seed: Seed::of(stream),
            chain: (chaining.origin)(stream),
            backlog: Vec::new(),
            seqs: None,
            fingerprints: Vec::new(),
        }
    }

    /// Whether everything that it was given is sealed.
    pub(super) fn is_at_rest(&self) -> bool {
        self.backlog.is_empty() && self.seqs.is_none()
    }

    /// Takes frames to be linked, once those before are.
    pub(super) fn take(&mut self, frames: Vec<u8>) {
        self.backlog = frames;
    }

    /// Links frames to the chain until a seal is full.
    pub(super) fn link(&mut self) {
        let mut linked = 0;
        while let Parsed::Frame(frame) = frame::parse(self.seed, &self.backlog[linked..]) {
            let (first, last) = self.seqs.unwrap_or((frame.seq, frame.seq));
            // Behind frames that were too many to keep, another seal begins.
            if frame.seq > last + 1 || self.fingerprints.len() >= 8 * SEAL_EVENTS_MAX {
                break;
            }
            let payload = linked + frame.payload.start..linked + frame.payload.end;
            let payload = &self.backlog[payload];
            let fingerprint = (self.chaining.link)(&mut self.chain, frame.seq, payload);
            self.fingerprints.extend(fingerprint.to_le_bytes());
            self.seqs = Some((first, frame.seq));
            linked += frame.bytes();
        }
        self.backlog.drain(..linked);
    }

    /// The seal of what was linked, if that is anything. The next one covers the same, unless this one
    /// is said to be written.
    pub(super) fn seal(&self) -> Option<Seal> {
        let mut seal = Seal {
            ts_us: unix_us(),
            seqs: self.seqs?,
            chain: HEXLOWER.encode(&self.chain),
            signature: None,
        };
        if let Some(signer) = &self.signer {
            let message = self.event(&seal).signed_message(self.stream);
            seal.signature = Some(signer.sign(&message));
        }
        Some(seal)
    }

    pub(super) fn event<'a>(&'a self, seal: &'a Seal) -> StreamSealed<'a> {
        let (first_seq, last_seq) = seal.seqs;
        StreamSealed {
            ts_us: seal.ts_us.into(),
            version: u16::from(self.chaining.version),
            first_seq: first_seq.into(),
            last_seq: last_seq.into(),
            chain: &seal.chain,
            fingerprints: &self.fingerprints,
            signature: seal.signature.as_deref(),
        }
    }

    /// The seal of what was linked is written.
    pub(super) fn sealed(&mut self) {
        self.seqs = None;
        self.fingerprints.clear();
    }
}

pub(super) fn run(core: &Core, stop: &StopSignal) {
    let _ = core.sealer.set(thread::current());
    while stop.sleep(SEAL_EVERY) {
        for stream in core.open_streams() {
            stream.seal();
        }
    }
}
