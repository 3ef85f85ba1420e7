#!/usr/bin/env bash
# Installs what the tests need: Debian packages that are missing, the ClickHouse engine, and the
# Python and JavaScript clients that install quickly. What is there already is left as it is.
#
# Everything but Debian packages goes to ${WEIR_CACHE:-.weir}, 750 MB.
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
  "npm:npm:fetches the ClickHouse engine and builds the console" \
  "curl:curl:runs the line that weir up prints" \
  "java:default-jre-headless:runs Apache Kafka" \
  "mvn:maven:fetches Apache Kafka" \
  "chromium:chromium:shows the console to the browser tests" \
  "go:golang-go:checks anchors of the audit chain with Go's own tools" \
  "python3:python3:runs the official SDKs" \
  "module=ensurepip:python3-venv:keeps the SDKs apart from the machine's Python"
if ! command -v cargo >/dev/null; then
  echo "Rust is missing: install it with rustup (https://rustup.rs) and run this again." >&2
  exit 1
fi

step "Fetching the ClickHouse engine (180 MB, once)"
compose/fetch-engine.sh

step "Fetching promtool, which checks the alert rules"
dashboards/prometheus/fetch-promtool.sh

step "Building the console's page"
compose/build-console.sh

# python_clients DIRECTORY REQUIREMENTS
python_clients() {
  step "Installing the Python clients of $2 into $cache/$1"
  local stamp="$cache/$1/requirements.txt"
  if cmp -s "$2" "$stamp"; then
    echo "they are there"
  else
    python3 -m venv --clear "$cache/$1"
    "$cache/$1/bin/pip" install --quiet --disable-pip-version-check -r "$2"
    cp "$2" "$stamp"
  fi
}

# node_clients DIRECTORY: its package.json, and the scripts, which find modules beside themselves
node_clients() {
  step "Installing the JavaScript clients of tests/clients/$1 into $cache/$1"
  mkdir -p "$cache/$1"
  local stamp="$cache/$1/package-lock.json.installed"
  cp tests/clients/node/*.mjs "tests/clients/$1"/*.json "$cache/$1/"
  if cmp -s "tests/clients/$1/package-lock.json" "$stamp"; then
    echo "they are there"
  else
    (cd "$cache/$1" && npm ci --silent --no-audit --no-fund --ignore-scripts)
    cp "tests/clients/$1/package-lock.json" "$stamp"
  fi
}

# The newest SDKs, and those of a year ago. A Node of their age is among the newest.
python_clients venv tests/requirements.txt
python_clients venv-2025 tests/requirements-2025.txt
node_clients node
node_clients node-2025
