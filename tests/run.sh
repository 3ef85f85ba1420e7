#!/usr/bin/env bash
# Installs what the tests need and runs them all: style, lints, unit tests, and the built programs
# against the real ClickHouse engine, real Apache Kafka and the official SDKs.
#
#   tests/run.sh               everything
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
  step "Looking for what is needed"
  compose/install-missing.sh \
    "cc:gcc:compiles the C parts of the TLS and Kafka libraries" \
    "c++:g++:compiles the Kafka library" \
    "make:make:builds the Kafka library" \
    "pkg-config:pkg-config:finds OpenSSL for the Kafka library" \
    "header=openssl/ssl.h:libssl-dev:TLS to Kafka" \
    "header=zlib.h:zlib1g-dev:compression in Kafka" \
    "node:nodejs:runs npm" \
    "npm:npm:fetches the ClickHouse engine" \
    "curl:curl:runs the line that weir up prints" \
    "java:default-jre-headless:runs Apache Kafka" \
    "mvn:maven:fetches Apache Kafka" \
    "python3:python3:runs the official SDKs" \
    "module=ensurepip:python3-venv:keeps the SDKs apart from the machine's Python"
  if ! command -v cargo >/dev/null; then
    echo "Rust is missing: install it with rustup (https://rustup.rs) and run this again." >&2
    exit 1
  fi

  step "Fetching the ClickHouse engine (180 MB, once)"
  compose/fetch-engine.sh

  step "Installing the Python clients into $cache/venv"
  stamp="$cache/venv/requirements.txt"
  if cmp -s tests/requirements.txt "$stamp"; then
    echo "they are there"
  else
    python3 -m venv --clear "$cache/venv"
    "$cache/venv/bin/pip" install --quiet --disable-pip-version-check -r tests/requirements.txt
    cp tests/requirements.txt "$stamp"
  fi

  step "Installing the JavaScript clients, and a Node of their age, into $cache/node"
  mkdir -p "$cache/node"
  stamp="$cache/node/package-lock.json.installed"
  cp tests/clients/node/* "$cache/node/"
  if cmp -s tests/clients/node/package-lock.json "$stamp"; then
    echo "they are there"
  else
    (cd "$cache/node" && npm ci --silent --no-audit --no-fund --ignore-scripts)
    cp tests/clients/node/package-lock.json "$stamp"
  fi
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
