#!/usr/bin/env bash
# Checks the workspace: style, lints, documentation, unit tests, and the built programs against the
# real ClickHouse engine, real Apache Kafka and the official SDKs.
#
#   tests/run.sh                  installs what the tests need, then runs everything
#   tests/run.sh --no-install     everything, without installing
#   tests/run.sh STEP [ARG...]    one step; the ARGs go to its last command
#
# The steps are the functions below whose comment starts with a name; `just` lists them, too.
# Downloads go to ${WEIR_CACHE:-.weir} (750 MB). Nothing else outside cargo's target directory is
# written, except Debian packages.
set -euo pipefail
cd "$(dirname "$0")/.."

export WEIR_CACHE="${WEIR_CACHE:-$PWD/.weir}"
began=$SECONDS

say() { printf '\n==> [%d:%02d] %s\n' $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60)) "$*"; }

# install: what the tests need
install() { tests/install.sh; }

# fmt: formats the code
fmt() { cargo fmt --all "$@"; }

# lint: style, clippy, licences and advisories
lint() {
  say "Style"
  cargo fmt --all --check
  say "Lints"
  cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
  say "Licences, sources and advisories"
  if command -v cargo-deny >/dev/null; then
    cargo deny --locked check
  else
    echo "skipped: cargo-deny is not installed (cargo install cargo-deny --locked takes some minutes)"
  fi
}

# doc: builds the documentation; a broken link is an error
doc() {
  say "Documentation"
  # Private items are documented here, so links to them work; a link that says too much works, too.
  RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links -A rustdoc::redundant_explicit_links" \
    cargo doc --workspace --no-deps --document-private-items --locked --quiet "$@"
}

# test: unit tests and each crate's own tests; no services needed
test() {
  say "Unit tests"
  cargo test --workspace --exclude weir-tests --locked --no-fail-fast "$@"
}

# it: the built programs with the real engine, Kafka and SDKs
it() {
  say "Building the program under test"
  cargo build --locked --quiet -p weir
  say "Integration tests"
  cargo test --locked --no-fail-fast -p weir-tests "$@"
}

# check: everything above; one build for all tests
check() {
  lint
  doc
  say "Building the program under test"
  cargo build --locked --quiet -p weir
  say "Tests (the first one that needs Apache Kafka downloads it, 43 MB)"
  cargo test --workspace --locked --no-fail-fast
  say "All checks passed"
}

# bench: the benchmarks
bench() { cargo bench --workspace --locked "$@"; }

# fuzz: fuzzes the dialects: [SECONDS [TARGET]]
fuzz() { gateway/dialects/fuzz/run.sh "$@"; }

# s3: anchors of the audit chain at a real S3 server with object lock; not in CI
s3() {
  cargo build --locked --quiet -p weir
  tests/s3.sh "$@"
}

# bless: rewrites the dialects' golden snapshots
bless() { WEIR_BLESS=1 cargo test --locked -p weir-dialects --test golden --test fields "$@"; }

case "${1:-}" in
  "")
    install
    check
    ;;
  --no-install) check ;;
  install | fmt | lint | doc | test | it | check | bench | fuzz | s3 | bless) "$@" ;;
  *)
    echo "tests/run.sh: there is no step \"$1\"; the steps are:" >&2
    grep -E '^# [a-z]+: ' "$0" | sed 's/^# /  /' >&2
    exit 2
    ;;
esac
