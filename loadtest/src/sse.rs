//! What a load generator must know of a stream: events, the first token, whether it ended as it should.
//!
//! It looks for marks in the bytes and parses nothing; marks that are split between two chunks are found.

use std::sync::LazyLock;

use memchr::memmem::{self, Finder};

/// What is kept of the bytes before: at least the longest mark and the byte after it.
const CARRY_BYTES: usize = 32;

/// Searchers for the marks, built once.
struct SseMarks {
    /// Text begins after one of these, if anything but a quote follows.
    text: [Finder<'static>; 3],
    /// A stream that ended well has one of these near its end.
    end: [Finder<'static>; 3],
    /// A stream that failed says so with one of these.
    error: [Finder<'static>; 2],
}

static MARKS: LazyLock<SseMarks> = LazyLock::new(|| SseMarks {
    text: ["\"content\":\"", "\"text\":\"", "\"delta\":\""].map(Finder::new),
    end: [
        "data: [DONE]",
        "\"type\":\"message_stop\"",
        "\"type\":\"response.completed\"",
    ]
    .map(Finder::new),
    error: ["data: {\"error\"", "event: error"].map(Finder::new),
});

/// Watches one stream.
#[derive(Debug, Default)]
pub(crate) struct SseWatch {
    pub(crate) events: u64,
    pub(crate) token_seen: bool,
    pub(crate) ended: bool,
    pub(crate) error_seen: bool,
    /// The last bytes seen.
    carry: Vec<u8>,
}

impl SseWatch {
    pub(crate) fn data(&mut self, data: &[u8]) {
        // The seam between what came before and this chunk is looked at by itself: it is short, and `data` is not copied.
        if let Some(last) = self.carry.last() {
            self.events += u64::from(*last == b'\n' && data.first() == Some(&b'\n'));
            self.carry
                .extend_from_slice(&data[..data.len().min(CARRY_BYTES)]);
            let seam = std::mem::take(&mut self.carry);
            self.look(&seam);
            self.carry = seam;
        }
        self.look(data);
        self.events += memmem::find_iter(data, b"\n\n").count() as u64;
        self.keep(data);
    }

    fn look(&mut self, data: &[u8]) {
        let marks = &*MARKS;
        if !self.token_seen {
            self.token_seen = marks.text.iter().any(|mark| text_follows(data, mark));
        }
        let has = |marks: &[Finder<'_>]| marks.iter().any(|mark| mark.find(data).is_some());
        self.ended = self.ended || has(&marks.end);
        self.error_seen = self.error_seen || has(&marks.error);
    }

    /// Keeps the last bytes of everything so far.
    fn keep(&mut self, data: &[u8]) {
        if data.len() >= CARRY_BYTES {
            self.carry.clear();
            self.carry
                .extend_from_slice(&data[data.len() - CARRY_BYTES..]);
        } else if self.carry.is_empty() {
            self.carry.extend_from_slice(data);
        } else {
            // The seam already holds all of `data`.
            self.carry
                .drain(..self.carry.len().saturating_sub(CARRY_BYTES));
        }
    }
}

fn text_follows(data: &[u8], mark: &Finder<'_>) -> bool {
    let length = mark.needle().len();
    mark.find_iter(data)
        .any(|at| data.get(at + length).is_some_and(|next| *next != b'"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = concat!(
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\" weir\"}}]}\n\n",
        "data: [DONE]\n\n",
    );

    #[test]
    fn every_split_gives_the_same_facts() {
        for first in 0..=STREAM.len() {
            for second in first..=STREAM.len() {
                let mut watch = SseWatch::default();
                let bytes = STREAM.as_bytes();
                for part in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    if !part.is_empty() {
                        watch.data(part);
                    }
                }
                let facts = (
                    watch.events,
                    watch.token_seen,
                    watch.ended,
                    watch.error_seen,
                );
                assert_eq!(
                    facts,
                    (3, true, true, false),
                    "split at {first} and {second}"
                );
            }
        }
    }

    #[test]
    fn single_bytes_give_the_same_facts() {
        let mut watch = SseWatch::default();
        STREAM
            .as_bytes()
            .chunks(1)
            .for_each(|byte| watch.data(byte));
        assert_eq!(
            (watch.events, watch.token_seen, watch.ended),
            (3, true, true)
        );
    }

    #[test]
    fn the_role_is_no_token_and_an_error_is_an_error() {
        let mut watch = SseWatch::default();
        watch.data(&STREAM.as_bytes()[..60]);
        assert!(!watch.token_seen);
        watch.data(b"\n\ndata: {\"error\":{\"message\":\"no\"}}\n\n");
        assert!(watch.error_seen && !watch.ended);
    }
}
