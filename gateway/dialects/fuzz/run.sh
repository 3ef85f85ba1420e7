#!/bin/sh
# Fuzzes one target, or each in turn, for some seconds: run.sh [seconds [target]]
# Works with the stable toolchain: coverage comes from LLVM's own pass, without a sanitizer.
set -eu
cd "$(dirname "$0")"
seconds="${1:-60}"
targets="${2:-requests answers errors}"
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
export RUSTFLAGS
cargo build --release --target "$(rustc -vV | sed -n 's/^host: //p')"
for target in $targets; do
    mkdir -p "found/$target"
    "target/$(rustc -vV | sed -n 's/^host: //p')/release/$target" \
        -max_total_time="$seconds" -max_len=16384 -artifact_prefix="found/" \
        "found/$target" "corpus/$target"
done
