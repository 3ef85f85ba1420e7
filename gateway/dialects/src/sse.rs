//! Server-sent events, cut out of bytes that arrive in any pieces.
//!
//! A line ends with CR LF, LF or CR; an empty line ends an event; lines that begin with a colon are
//! comments (WHATWG HTML, section "Server-sent events"). Each byte is scanned once: an unfinished
//! event is held, and the scan resumes where it stopped.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::caps;

/// A part of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SseItem<'a> {
    Event {
        /// The `event` line. Empty if there was none.
        name: &'a [u8],
        /// The `data` lines, joined by line feeds. Empty if there was none.
        data: &'a [u8],
    },
    /// Between events: a comment or an empty line.
    Filler { is_comment: bool },
    /// Part of an event that is larger than [`caps::EVENT_BYTES_MAX`].
    Oversized,
}

/// Whether the bytes of an item are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    Drop,
}

#[derive(Debug, Default)]
pub(crate) struct SseReader {
    /// Bytes of the unfinished event.
    held: BytesMut,
    lines: LineScanner,
    /// Set if the last item ended with a CR: the verdict for a LF that follows.
    trailing_lf: Option<Verdict>,
}

impl SseReader {
    /// Reads the next piece. Calls `judge` with each item that it completes, and returns the kept
    /// bytes, without a copy if they are part of the input.
    pub(crate) fn push(
        &mut self,
        input: &Bytes,
        mut judge: impl FnMut(SseItem<'_>) -> Verdict,
    ) -> Bytes {
        let mut out = KeptBytes::Nothing;
        if input.is_empty() {
            return Bytes::new();
        }
        let mut from = match self.trailing_lf.take() {
            Some(verdict) if input[0] == b'\n' => {
                if verdict == Verdict::Keep {
                    out.add_slice(input, 0..1);
                }
                1
            }
            _ => self.finish_held(input, &mut judge, &mut out),
        };
        while from < input.len() {
            let Some(end) = self.lines.next_end(&input[from..]) else {
                self.held.extend_from_slice(&input[from..]);
                break;
            };
            let at = from..from + end;
            from = at.end;
            if self.judge(&input[at.clone()], &mut judge) == Verdict::Keep {
                out.add_slice(input, at);
            }
        }
        if self.held.len() > caps::EVENT_BYTES_MAX {
            self.flush_oversized(input, &mut judge, &mut out);
        }
        out.into_bytes(input)
    }

    /// Ends the stream. An event that lacks only its empty line counts.
    pub(crate) fn finish(&mut self, mut judge: impl FnMut(SseItem<'_>) -> Verdict) -> Bytes {
        let held = self.held.split().freeze();
        if held.is_empty() {
            return held;
        }
        self.lines.end_last_line(&held);
        match judge(self.lines.take(&held)) {
            Verdict::Keep => held,
            Verdict::Drop => Bytes::new(),
        }
    }

    /// Completes the held event. Returns how much of the input that took.
    fn finish_held(
        &mut self,
        input: &Bytes,
        judge: &mut impl FnMut(SseItem<'_>) -> Verdict,
        out: &mut KeptBytes,
    ) -> usize {
        if self.held.is_empty() {
            return 0;
        }
        let before = self.held.len();
        self.held.extend_from_slice(input);
        let Some(end) = self.lines.next_end(&self.held) else {
            return input.len();
        };
        let event = self.held.split_to(end);
        self.held.clear();
        if self.judge(&event, judge) == Verdict::Keep {
            out.add_copy(input, &event);
        }
        end - before
    }

    fn judge(&mut self, raw: &[u8], judge: &mut impl FnMut(SseItem<'_>) -> Verdict) -> Verdict {
        let lf_may_follow = self.lines.swallow_lf;
        let verdict = judge(self.lines.take(raw));
        self.trailing_lf = lf_may_follow.then_some(verdict);
        verdict
    }

    fn flush_oversized(
        &mut self,
        input: &Bytes,
        judge: &mut impl FnMut(SseItem<'_>) -> Verdict,
        out: &mut KeptBytes,
    ) {
        if judge(SseItem::Oversized) == Verdict::Keep {
            out.add_copy(input, &self.held);
        }
        self.held.clear();
        self.lines.oversize();
    }
}

/// The lines of one event so far. Ranges count from the first byte of the event.
#[derive(Debug, Default)]
struct LineScanner {
    scanned: usize,
    line_start: usize,
    /// The last line ended with a CR at the end of the bytes. A LF that follows belongs to it.
    swallow_lf: bool,
    has_fields: bool,
    name: Option<Range<usize>>,
    data: Option<Range<usize>>,
    /// The `data` lines joined, if there is more than one.
    joined: Vec<u8>,
    has_joined: bool,
    oversized: bool,
    /// In an oversized event: whether the current line has lost its beginning.
    line_is_cut: bool,
}

impl LineScanner {
    /// The end of the item at the start of `bytes`, if it is there. Resumes where the last call
    /// stopped, so `bytes` must begin with the same bytes.
    fn next_end(&mut self, bytes: &[u8]) -> Option<usize> {
        loop {
            if self.swallow_lf && self.scanned < bytes.len() {
                self.swallow_lf = false;
                if bytes[self.scanned] == b'\n' {
                    self.scanned += 1;
                    self.line_start = self.scanned;
                }
            }
            // Most events end with two line feeds, and begin with the only field that counts.
            let rest = &bytes[self.scanned..];
            let found = match rest.first() {
                Some(b'\n' | b'\r') => Some(0),
                _ => memchr::memchr2(b'\n', b'\r', rest),
            };
            let Some(found) = found else {
                self.scanned = bytes.len();
                return None;
            };
            let line_end = self.scanned + found;
            let line = self.line_start..line_end;
            self.scanned = match (bytes[line_end], bytes.get(line_end + 1)) {
                (b'\r', Some(b'\n')) => line_end + 2,
                (b'\r', None) => {
                    self.swallow_lf = true;
                    line_end + 1
                }
                _ => line_end + 1,
            };
            self.line_start = self.scanned;
            if self.end_line(bytes, line) {
                return Some(self.scanned);
            }
        }
    }

    /// Reads a line. Returns whether it ends an event or a filler.
    fn end_line(&mut self, bytes: &[u8], line: Range<usize>) -> bool {
        if self.oversized {
            return !std::mem::take(&mut self.line_is_cut) && line.is_empty();
        }
        let text = &bytes[line.clone()];
        if text.is_empty() || text[0] == b':' {
            return text.is_empty() || !self.has_fields;
        }
        self.has_fields = true;
        let colon = if text.starts_with(b"data:") {
            4
        } else {
            memchr::memchr(b':', text).unwrap_or(text.len())
        };
        let mut value = line.start + (colon + 1).min(text.len())..line.end;
        if bytes[value.clone()].first() == Some(&b' ') {
            value.start += 1;
        }
        match &text[..colon] {
            b"data" => self.add_data(bytes, value),
            b"event" => self.name = Some(value),
            _ => {}
        }
        false
    }

    fn add_data(&mut self, bytes: &[u8], value: Range<usize>) {
        let Some(first) = self.data.clone() else {
            self.data = Some(value);
            return;
        };
        if !std::mem::replace(&mut self.has_joined, true) {
            self.joined.clear();
            self.joined.extend_from_slice(&bytes[first]);
        }
        self.joined.push(b'\n');
        self.joined.extend_from_slice(&bytes[value]);
    }

    /// Reads the last line, which has no line end.
    fn end_last_line(&mut self, bytes: &[u8]) {
        if self.line_start < bytes.len() {
            let line = self.line_start..bytes.len();
            self.end_line(bytes, line);
        }
    }

    /// Returns the item and starts over.
    fn take<'a>(&'a mut self, raw: &'a [u8]) -> SseItem<'a> {
        let data = self.data.take();
        let name = &raw[self.name.take().unwrap_or(0..0)];
        let (has_fields, oversized) = (self.has_fields, self.oversized);
        let is_joined = std::mem::replace(&mut self.has_joined, false);
        self.scanned = 0;
        self.line_start = 0;
        self.swallow_lf = false;
        self.has_fields = false;
        self.oversized = false;
        self.line_is_cut = false;
        match (oversized, has_fields) {
            (true, _) => SseItem::Oversized,
            (false, false) => SseItem::Filler {
                is_comment: raw.first() == Some(&b':'),
            },
            (false, true) if is_joined => SseItem::Event {
                name,
                data: &self.joined,
            },
            (false, true) => SseItem::Event {
                name,
                data: &raw[data.unwrap_or(0..0)],
            },
        }
    }

    /// Forgets the event's bytes so far, and only looks for its end.
    fn oversize(&mut self) {
        self.line_is_cut = self.scanned > self.line_start;
        self.oversized = true;
        self.scanned = 0;
        self.line_start = 0;
        self.name = None;
        self.data = None;
        self.has_joined = false;
    }
}

/// The kept bytes: mostly one range of the input, which need not be copied.
enum KeptBytes {
    Nothing,
    Slice(Range<usize>),
    Copy(BytesMut),
}

impl KeptBytes {
    fn add_slice(&mut self, input: &Bytes, at: Range<usize>) {
        match self {
            Self::Nothing => *self = Self::Slice(at),
            Self::Slice(before) if before.end == at.start => before.end = at.end,
            Self::Slice(_) | Self::Copy(_) => self.add_copy(input, &input[at]),
        }
    }

    fn add_copy(&mut self, input: &Bytes, part: &[u8]) {
        match self {
            Self::Nothing => *self = Self::Copy(part.into()),
            Self::Slice(before) => {
                let mut copy = BytesMut::with_capacity(input.len() + part.len());
                copy.extend_from_slice(&input[before.clone()]);
                copy.extend_from_slice(part);
                *self = Self::Copy(copy);
            }
            Self::Copy(copy) => copy.extend_from_slice(part),
        }
    }

    fn into_bytes(self, input: &Bytes) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::Slice(at) => input.slice(at),
            Self::Copy(copy) => copy.freeze(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the pieces and returns what was found, in words, and what was kept.
    fn read(pieces: &[&[u8]], keep: impl Fn(&str) -> bool) -> (Vec<String>, Vec<u8>) {
        let mut reader = SseReader::default();
        let mut seen = Vec::new();
        let mut kept = Vec::new();
        let mut judge = |found: SseItem<'_>| {
            let word = match found {
                SseItem::Event { name, data } => match String::from_utf8_lossy(name) {
                    name if name.is_empty() => String::from_utf8_lossy(data).into_owned(),
                    name => format!("{name}: {}", String::from_utf8_lossy(data)),
                },
                SseItem::Filler { .. } => return Verdict::Keep,
                SseItem::Oversized => "oversized".to_owned(),
            };
            let verdict = if keep(&word) {
                Verdict::Keep
            } else {
                Verdict::Drop
            };
            seen.push(word);
            verdict
        };
        for piece in pieces {
            kept.extend_from_slice(&reader.push(&Bytes::copy_from_slice(piece), &mut judge));
        }
        kept.extend_from_slice(&reader.finish(&mut judge));
        (seen, kept)
    }

    const STREAM: &str = ": hello\n\ndata: one\n\nevent: two\r\ndata: 2\r\ndata:and\r\n: note\r\n\r\n\
        data: three\r\rid: 4\ndata\n\n\n:bye\ndata: [DONE]\n";
    const EVENTS: [&str; 5] = ["one", "two: 2\nand", "three", "", "[DONE]"];

    #[test]
    fn events_are_found_at_every_split_and_all_bytes_survive() {
        for split in 0..=STREAM.len() {
            let (a, b) = STREAM.as_bytes().split_at(split);
            let (seen, kept) = read(&[a, b], |_| true);
            assert_eq!(seen, EVENTS, "split at {split}");
            assert_eq!(kept, STREAM.as_bytes(), "split at {split}");
        }
        let bytes: Vec<&[u8]> = STREAM.as_bytes().chunks(1).collect();
        let (seen, kept) = read(&bytes, |_| true);
        assert_eq!(
            (seen.as_slice(), kept.as_slice()),
            (&EVENTS.map(str::to_owned)[..], STREAM.as_bytes())
        );
    }

    #[test]
    fn a_dropped_event_leaves_its_neighbours_at_every_split() {
        for end in ["\n", "\r\n", "\r"] {
            let stream = "data: a\n\ndata: x\n\ndata: b\n\n".replace('\n', end);
            let rest = "data: a\n\ndata: b\n\n".replace('\n', end);
            for split in 0..=stream.len() {
                let (a, b) = stream.as_bytes().split_at(split);
                let (_, kept) = read(&[a, b], |word| word != "x");
                assert_eq!(kept, rest.as_bytes(), "{end:?} split at {split}");
            }
        }
    }

    #[test]
    fn whole_events_are_not_copied() {
        let mut reader = SseReader::default();
        let input = Bytes::from_static(b"data: a\n\ndata: b\n\n");
        let output = reader.push(&input, |_| Verdict::Keep);
        assert_eq!(
            (output.as_ptr(), output.len()),
            (input.as_ptr(), input.len())
        );
    }

    #[test]
    fn what_is_returned_ends_where_an_event_ends() {
        let mut reader = SseReader::default();
        let input = Bytes::from_static(b"data: a\n\ndata: [DO");
        assert_eq!(reader.push(&input, |_| Verdict::Keep), "data: a\n\n");
        let input = Bytes::from_static(b"NE]\n\n");
        assert_eq!(reader.push(&input, |_| Verdict::Keep), "data: [DONE]\n\n");
    }

    #[test]
    fn an_oversized_event_passes_unread_and_the_next_is_read() {
        let large = format!(
            "data: {}\ndata: more\n\n",
            "x".repeat(2 * caps::EVENT_BYTES_MAX)
        );
        let stream = format!("{large}data: b\n\n");
        let pieces: Vec<&[u8]> = stream.as_bytes().chunks(64 * 1024).collect();
        let (seen, kept) = read(&pieces, |_| true);
        assert_eq!(seen.last().map(String::as_str), Some("b"));
        assert!(
            seen[..seen.len() - 1]
                .iter()
                .all(|word| word == "oversized")
        );
        assert!(kept == stream.as_bytes(), "all bytes survive");
    }
}
