#!/usr/bin/env bash
# apache-avro 0.22.0 (Rust) and fastavro 1.13.1 disagree on the Rabin fingerprint of any schema with a logical type.
#
# Avro's Parsing Canonical Form replaces {"type":"long"} by "long". apache-avro drops `logicalType` from its canonical form
# but keeps the object around it, and keeps `precision` and `scale` too, so text and fingerprint differ from fastavro's,
# which follows the specification. Readers that look a schema up by the fingerprint in a single-object header find it for
# records of plain types and not for those with a timestamp or a decimal.
# Seen: the lines below. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check fastavro==1.13.1
mkdir "$dir/src"
cat >"$dir/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
apache-avro = "=0.22.0"
TOML
cat >"$dir/src/main.rs" <<'RUST'
use apache_avro::{rabin::Rabin, Schema};

fn main() {
    for line in std::io::stdin().lines() {
        let schema = Schema::parse_str(&line.unwrap()).unwrap();
        println!("rust   {} {}", schema.fingerprint::<Rabin>(), schema.canonical_form());
    }
}
RUST
cat >"$dir/schemas" <<'JSON'
{"type":"record","name":"Call","fields":[{"name":"at","type":"long"}]}
{"type":"record","name":"Call","fields":[{"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}}]}
JSON
cat >"$dir/finding.py" <<'PY'
import json, sys
from fastavro.schema import fingerprint, to_parsing_canonical_form

for line in sys.stdin:
    form = to_parsing_canonical_form(json.loads(line))
    print("python", fingerprint(form, "CRC-64-AVRO"), form)
PY
seen="$(
  "$dir/venv/bin/python" "$dir/finding.py" <"$dir/schemas"
  cd "$dir" && CARGO_TARGET_DIR="$dir/target" cargo run --quiet <"$dir/schemas"
)"
echo "$seen"
[ "$seen" = 'python e9bc898cc4a5ad18 {"name":"Call","type":"record","fields":[{"name":"at","type":"long"}]}
python e9bc898cc4a5ad18 {"name":"Call","type":"record","fields":[{"name":"at","type":"long"}]}
rust   e9bc898cc4a5ad18 {"name":"Call","type":"record","fields":[{"name":"at","type":"long"}]}
rust   b58fe6887cf072db {"name":"Call","type":"record","fields":[{"name":"at","type":{"type":"long"}}]}' ]
