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

# program:Debian package:what it is for
NEEDED=(
  "cc:gcc:compiles the C parts of the TLS and Kafka libraries"
  "c++:g++:compiles the Kafka library"
  "make:make:builds the Kafka library"
  "pkg-config:pkg-config:finds OpenSSL for the Kafka library"
  "node:nodejs:runs npm"
  "npm:npm:fetches the embedded ClickHouse engine"
)
# header:Debian package:what it is for
HEADERS=(
  "openssl/ssl.h:libssl-dev:TLS to Kafka"
  "zlib.h:zlib1g-dev:compression in Kafka"
)

has_header() { echo "#include <$1>" | cc -E -x c - >/dev/null 2>&1; }

missing=()
for row in "${NEEDED[@]}"; do
  IFS=: read -r program package why <<<"$row"
  command -v "$program" >/dev/null || missing+=("$package:$why")
done
for row in "${HEADERS[@]}"; do
  IFS=: read -r header package why <<<"$row"
  command -v cc >/dev/null && has_header "$header" || missing+=("$package:$why")
done

if ((${#missing[@]})); then
  step "Missing on this machine:"
  for row in "${missing[@]}"; do printf '    %-14s %s\n' "${row%%:*}" "${row#*:}" >&2; done
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    step "Installing them from Debian"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]%%:*}" >&2
  else
    echo "Install them with your package manager (the names above are Debian's) and run this again." >&2
    exit 1
  fi
fi

if ! command -v cargo >/dev/null; then
  echo "Rust is missing: install it with rustup (https://rustup.rs) and run this again." >&2
  exit 1
fi

step "Fetching the embedded ClickHouse engine (180 MB, once)"
compose/fetch-engine.sh

step "Building weir (a few minutes the first time)"
cargo build --release --locked -p weir

[ "${1:-}" = --no-start ] && exit 0
step "Starting the demo; Ctrl-C stops it"
exec "${CARGO_TARGET_DIR:-target}/release/weir" up --demo
