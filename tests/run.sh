#!/usr/bin/env bash
# Installs what the tests need and runs them all: style, lints, unit tests, and the built programs
# against the real ClickHouse engine, real Apache Kafka and the official SDKs.
#
#   tests/run.sh               everything, after tests/install.sh
#   tests/run.sh --no-install  everything, without installing anything
#
# Can be run again at any time: what is fetched stays in ${WEIR_CACHE:-.weir}, 660 MB, and nothing
# outside of it and cargo's target directory is written, but for Debian packages.
set -euo pipefail
cd "$(dirname "$0")/.."

cache="${WEIR_CACHE:-$PWD/.weir}"
export WEIR_CACHE="$cache"
began=$SECONDS

step() { printf '\n==> [%d:%02d] %s\n' $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60)) "$*"; }

if [ "${1:-}" != --no-install ]; then
  tests/install.sh
fi

step "Style"
cargo fmt --all --check

step "Lints"
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

step "Licences, sources and advisories"
if command -v cargo-deny >/dev/null; then
  cargo deny --locked check
else
  echo "left out: cargo-deny is not installed (cargo install cargo-deny --locked takes some minutes)"
fi

step "Building the program under test"
cargo build --locked --quiet -p weir

step "Tests (Apache Kafka, 43 MB, is fetched by the first one that needs it)"
cargo test --workspace --locked --no-fail-fast

step "All of it passed"
