#!/usr/bin/env bash
# Builds Weir and starts it with mock providers and a trickle of traffic: nothing else to set up.
#
#   compose/quickstart.sh              install what is missing, build, start the demo
#   compose/quickstart.sh --no-start   the same, without starting
#
# Can be run again at any time; what is there already is kept.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n==> %s\n' "$*" >&2; }

step "Looking for what is needed"
compose/install-missing.sh \
  "cc:gcc:compiles the C parts of the TLS and Kafka libraries" \
  "c++:g++:compiles the Kafka library" \
  "make:make:builds the Kafka library" \
  "pkg-config:pkg-config:finds OpenSSL for the Kafka library" \
  "header=openssl/ssl.h:libssl-dev:TLS to Kafka" \
  "header=zlib.h:zlib1g-dev:compression in Kafka" \
  "node:nodejs:runs npm" \
  "npm:npm:fetches the embedded ClickHouse engine and builds the console" \
  "curl:curl:runs the line that Weir prints"

if ! command -v cargo >/dev/null; then
  echo "Rust is missing: install it with rustup (https://rustup.rs) and run this again." >&2
  exit 1
fi

step "Fetching the embedded ClickHouse engine (180 MB, once)"
compose/fetch-engine.sh

step "Building the console's page"
compose/build-console.sh || echo "It goes on without: the console will say that its page is missing." >&2

step "Building weir (a few minutes the first time)"
cargo build --release --locked -p weir

[ "${1:-}" = --no-start ] && exit 0
step "Starting the demo; Ctrl-C stops it"
exec "${CARGO_TARGET_DIR:-target}/release/weir" up --demo
