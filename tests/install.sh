#!/usr/bin/env bash
# Installs what the tests need: Debian packages that are missing, the ClickHouse engine, and the
# Python and JavaScript clients that install quickly. What is there already is left as it is.
#
# Everything but Debian packages goes to ${WEIR_CACHE:-.weir}, 660 MB.
set -euo pipefail
cd "$(dirname "$0")/.."

cache="${WEIR_CACHE:-$PWD/.weir}"
export WEIR_CACHE="$cache"

step() { printf '\n==> %s\n' "$*"; }

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
