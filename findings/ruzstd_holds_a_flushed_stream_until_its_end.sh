#!/usr/bin/env bash
# ruzstd 0.9.1: `StreamingDecoder` gives nothing of a stream until its end, however often the sender flushed.
#
# A provider that compresses events with zstd flushes a block after each, so that a client can read it at once, and the
# reference decoder does. ruzstd's reader hands out only what lies more than a window (2 MiB at level 3) behind, or a
# finished frame; till then `read` asks the wire for more. Twenty flushed events of 60 bytes arrive in one piece, when the
# last compressed byte is in. As a proxy's decoder it turns every short event stream into one late answer.
# Seen: first read 1200 bytes after the whole wire; python zstandard 0.25.0 gives 60 after each flush. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check zstandard==0.25.0
mkdir "$dir/src"
cat >"$dir/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
ruzstd = "=0.9.1"
TOML
cat >"$dir/src/main.rs" <<'RUST'
use std::cell::Cell;
use std::io::{Read, Result};

struct Wire<'a>(&'a [u8], &'a Cell<usize>);

impl Read for Wire<'_> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let rest = &self.0[self.1.get()..];
        let taken = rest.len().min(into.len());
        into[..taken].copy_from_slice(&rest[..taken]);
        self.1.set(self.1.get() + taken);
        Ok(taken)
    }
}

fn main() {
    let sent = std::fs::read("stream.zst").unwrap();
    let taken = Cell::new(0);
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(Wire(&sent, &taken)).unwrap();
    let got = decoder.read(&mut [0; 4096]).unwrap();
    println!("ruzstd: first read {got} bytes, whole wire taken: {}", taken.get() == sent.len());
}
RUST
cat >"$dir/finding.py" <<'PY'
import zstandard

packer, unpacker = zstandard.ZstdCompressor(level=3).compressobj(), zstandard.ZstdDecompressor().decompressobj()
sent, given = b"", set()
for at in range(20):
    event = b"data: " + bytes((at * 7 + place * 11) % 26 + 97 for place in range(52)) + b"\n\n"
    block = packer.compress(event) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    given.add(len(unpacker.decompress(block)))
    sent += block
open("stream.zst", "wb").write(sent + packer.flush())
print("zstandard: bytes after each flush", *given)
PY
cd "$dir"
seen="$("$dir/venv/bin/python" finding.py && CARGO_TARGET_DIR="$dir/target" cargo run --quiet)"
echo "$seen"
[ "$seen" = "zstandard: bytes after each flush 60
ruzstd: first read 1200 bytes, whole wire taken: true" ]
