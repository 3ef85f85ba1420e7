#!/usr/bin/env bash
# Every client against every provider: the SDKs of the tests, LiteLLM's SDK, and the coding agents
# Codex CLI, OpenCode and Claude Code, each of which edits a file by a tool call. Providers are mock
# providers in four dialects, LiteLLM's proxy and llama.cpp's server. Prints a table; exits 1 if
# anything failed.
#
#   tests/clients/run-all.sh          everything
#   tests/clients/run-all.sh codex    the clients whose names hold this
#   tests/clients/run-all.sh --without-llamacpp [NAME]
#
# The mock providers are strict: what the real API would refuse fails the client.
#
# Installs what the tests need (tests/install.sh) and 2 GB more, into ${WEIR_CACHE:-.weir}; llama.cpp
# is compiled there, which takes some ten minutes, once. Nothing is asked of a real provider.
set -euo pipefail
cd "$(dirname "$0")/../.."

export WEIR_CACHE="${WEIR_CACHE:-$PWD/.weir}"
clients="$WEIR_CACHE/clients"

step() { printf '\n==> %s\n' "$*"; }

# venv DIRECTORY REQUIREMENTS
venv() {
  local stamp="$clients/$1/requirements.txt"
  step "Installing $2 into $clients/$1"
  if cmp -s "$2" "$stamp"; then
    echo "it is there"
  else
    python3 -m venv --clear "$clients/$1"
    nice -n 19 "$clients/$1/bin/pip" install --quiet --disable-pip-version-check -r "$2"
    cp "$2" "$stamp"
  fi
}

tests/install.sh
mkdir -p "$clients/agents"

step "Installing the coding agents into $clients/agents"
stamp="$clients/agents/package-lock.json.installed"
if cmp -s tests/clients/agents/package-lock.json "$stamp"; then
  echo "they are there"
else
  cp tests/clients/agents/* "$clients/agents/"
  (cd "$clients/agents" && nice -n 19 npm ci --silent --no-audit --no-fund --ignore-scripts)
  cp tests/clients/agents/package-lock.json "$stamp"
fi

venv litellm tests/clients/litellm.txt
if [ "${1:-}" != --without-llamacpp ]; then
  # Only the library: neither its tools nor images, and for any x86-64.
  export CMAKE_ARGS="-DLLAVA_BUILD=OFF -DGGML_NATIVE=OFF -DCMAKE_CXX_FLAGS=-O1 -DCMAKE_C_FLAGS=-O1"
  venv llamacpp tests/clients/llamacpp.txt
fi

step "Building Weir and what runs the clients"
cargo build --locked --quiet -p weir
cargo build --locked --quiet -p weir-tests --bin all-clients

built="${CARGO_TARGET_DIR:-target}/debug"
WEIR_BIN="$(realpath "$built/weir")" "$built/all-clients" "$@"
