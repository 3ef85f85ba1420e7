//! Which output formats can be streamed, and how the engine's chunks are joined.
//!
//! The engine hands out each chunk as a document of its own. Rows of some formats can simply be put
//! one after the other; others repeat a header, which is cut from all chunks but the first; the rest
//! (JSON, Pretty, Parquet …) must be made whole by the engine.

use bytes::Bytes;

/// How the chunks of a format become one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joining {
    /// Chunks follow one another.
    Concatenate,
    /// Every chunk starts with this many lines of header.
    HeaderLines(u8),
    /// Every chunk starts with the header of `RowBinaryWithNames` or `…AndTypes`.
    BinaryHeader { types: bool },
    /// Chunks cannot be joined.
    Whole,
}

impl Joining {
    pub(crate) fn of(format: &str) -> Self {
        let lower = format.to_ascii_lowercase();
        let headers = [("withnamesandtypes", 2), ("withnames", 1)];
        let (rows, header_lines) = headers
            .into_iter()
            .find_map(|(suffix, lines)| Some((lower.strip_suffix(suffix)?, lines)))
            .unwrap_or((&lower, 0));
        match rows {
            "tsv"
            | "tabseparated"
            | "tsvraw"
            | "tabseparatedraw"
            | "raw"
            | "csv"
            | "jsoncompacteachrow"
            | "jsoncompactstringseachrow" => match header_lines {
                0 => Self::Concatenate,
                lines => Self::HeaderLines(lines),
            },
            "rowbinary" => match header_lines {
                0 => Self::Concatenate,
                lines => Self::BinaryHeader { types: lines == 2 },
            },
            "tskv" | "jsoneachrow" | "jsonlines" | "ndjson" | "jsonstringseachrow" | "native"
            | "lineasstring" | "rawblob" | "msgpack" | "null"
                if header_lines == 0 =>
            {
                Self::Concatenate
            }
            _ => Self::Whole,
        }
    }
}

/// What a response in this format says of itself in `Content-Type`.
pub(crate) fn content_type(format: &str) -> &'static str {
    let lower = format.to_ascii_lowercase();
    if lower.starts_with("jsoneachrow") || lower.contains("eachrow") || lower == "ndjson" {
        "application/x-ndjson; charset=UTF-8"
    } else if lower.starts_with("json") {
        "application/json; charset=UTF-8"
    } else if lower.starts_with("csv") {
        "text/csv; charset=UTF-8; header=absent"
    } else if lower.starts_with("tsv") || lower.starts_with("tabseparated") {
        "text/tab-separated-values; charset=UTF-8"
    } else if lower == "xml" {
        "application/xml; charset=UTF-8"
    } else if [
        "native",
        "rowbinary",
        "parquet",
        "arrow",
        "avro",
        "orc",
        "msgpack",
        "rawblob",
    ]
    .iter()
    .any(|binary| lower.starts_with(binary))
    {
        "application/octet-stream"
    } else {
        "text/plain; charset=UTF-8"
    }
}

/// Joins chunks: remembers the first one's header and cuts it from the others.
#[derive(Debug)]
pub(crate) struct Joiner {
    joining: Joining,
    header: Option<Bytes>,
}

impl Joiner {
    pub(crate) fn new(joining: Joining) -> Self {
        Self {
            joining,
            header: None,
        }
    }

    /// The part of the chunk that belongs into the document.
    pub(crate) fn join(&mut self, chunk: Bytes) -> Bytes {
        match &self.header {
            None => {
                let len = header_len(self.joining, &chunk).unwrap_or(0);
                self.header = Some(chunk.slice(..len));
                chunk
            }
            // A chunk without the header (totals, for one) is passed on as it is.
            Some(header) if chunk.starts_with(header) => chunk.slice(header.len()..),
            Some(_) => chunk,
        }
    }
}

/// Length of the header; None if the chunk ends within it.
fn header_len(joining: Joining, chunk: &[u8]) -> Option<usize> {
    match joining {
        Joining::Concatenate | Joining::Whole => Some(0),
        Joining::HeaderLines(lines) => lines_len(chunk, lines),
        Joining::BinaryHeader { types } => binary_header_len(chunk, types),
    }
}

/// Length of some lines. A line break within double quotes belongs to a name, in CSV.
fn lines_len(chunk: &[u8], lines: u8) -> Option<usize> {
    let mut quoted = false;
    let mut seen = 0;
    for (at, byte) in chunk.iter().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => seen += 1,
            _ => {}
        }
        if seen == lines {
            return Some(at + 1);
        }
    }
    None
}

/// A count, as many names, and perhaps as many types; all lengths as LEB128.
fn binary_header_len(chunk: &[u8], types: bool) -> Option<usize> {
    let mut at = 0;
    let columns = leb128(chunk, &mut at)?;
    for _ in 0..columns.checked_mul(if types { 2 } else { 1 })? {
        let len = leb128(chunk, &mut at)?;
        at = at.checked_add(usize::try_from(len).ok()?)?;
    }
    (at <= chunk.len()).then_some(at)
}

fn leb128(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: &str, chunks: &[&'static [u8]], document: &[u8]) {
        let mut joiner = Joiner::new(Joining::of(format));
        let joined: Vec<u8> = chunks
            .iter()
            .flat_map(|chunk| joiner.join(Bytes::from_static(chunk)).to_vec())
            .collect();
        assert_eq!(joined, document, "{format}");
    }

    #[test]
    fn a_repeated_header_is_kept_once() {
        check("TSV", &[b"1\n", b"1\n"], b"1\n1\n");
        check("TSVWithNames", &[b"a\n1\n", b"a\n2\n"], b"a\n1\n2\n");
        check(
            "CSVWithNamesAndTypes",
            &[b"\"a\nb\"\n\"t\"\n1\n", b"\"a\nb\"\n\"t\"\n2\n"],
            b"\"a\nb\"\n\"t\"\n1\n2\n",
        );
        check(
            "RowBinaryWithNamesAndTypes",
            &[b"\x01\x011\x05UInt8\x01", b"\x01\x011\x05UInt8\x02"],
            b"\x01\x011\x05UInt8\x01\x02",
        );
        check(
            "RowBinaryWithNames",
            &[b"\x01\x01a\x01", b"\x01\x01a\x02"],
            b"\x01\x01a\x01\x02",
        );
    }

    #[test]
    fn a_chunk_without_the_header_is_passed_on() {
        check("TSVWithNames", &[b"a\n1\n", b"\n9\n"], b"a\n1\n\n9\n");
    }

    #[test]
    fn a_document_that_is_not_rows_is_made_whole() {
        for format in [
            "JSON",
            "Pretty",
            "Parquet",
            "Values",
            "XML",
            "Arrow",
            "unheard of",
        ] {
            assert_eq!(Joining::of(format), Joining::Whole, "{format}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(first: Vec<u8>, second: Vec<u8>, which in 0..4) {
            let format = ["CSVWithNamesAndTypes", "RowBinaryWithNamesAndTypes", "RowBinaryWithNames", "TSV"]
                [usize::try_from(which).unwrap()];
            let mut joiner = Joiner::new(Joining::of(format));
            let _ = joiner.join(first.into());
            let _ = joiner.join(second.into());
        }
    }
}
